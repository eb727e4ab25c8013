"""What a run leaves to look at: lines of losses, pictures of its progress, figures on pictures it never saw."""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from restyle.image import read_image, write_image
from restyle.learn.datasets import FixedPairs, RandomPairs
from restyle.learn.objective import Objective
from restyle.nn.networks import Model

HELD_OUT_SIDE = 256
"""Side of the held-out pictures, in pixels."""

Pixels = NDArray[np.uint8]


class Record:
    """Writes into the folder of a run; does nothing in processes that are not the first.

    Args:
        pairs: The stream that is trained on; four pairs that it will not give are painted at every look.
        step: The step that the run begins with; what the folder tells of later ones is forgotten.
        output: Folder of the run.
        described: The settings of the run.
        active: Whether this process is the one that writes.
    """

    def __init__(
        self, pairs: RandomPairs, step: int, output: Path, *, described: Mapping[str, Any], active: bool
    ) -> None:
        self.output, self.active = output, active
        self._pairs = copy.copy(pairs)
        self._pairs.seed += 1
        self._held_out: Dataset[tuple[Tensor, Tensor]] | None = None
        self._events: Any = None
        if active:
            self._forget_after(step)
        if active and described["tensorboard"]:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(output / "events"), purge_step=step)
            self._events.add_text("settings", "```\n" + json.dumps(described, indent=2) + "\n```")

    def hold_out(self, content: Path, style: Path | None) -> None:
        """Judge eight fixed pairs of these folders at every look."""
        if self.active:
            self._held_out = FixedPairs(
                content, style, count=8, side=HELD_OUT_SIDE, seed=0, scale=(1.0, 1.0), flip=False
            )

    def losses(
        self,
        step: int,
        seconds: float,
        weighted: Mapping[str, float],
        unweighted: Mapping[str, float],
        others: Mapping[str, float],
    ) -> None:
        """Note the losses of a step: weighted as they are minimised, unweighted and by layer, and other numbers."""
        if not self.active:
            return
        rounded = {name: round(value, 5) for name, value in weighted.items()}
        self._line({"step": step, "seconds": round(seconds, 1), **rounded})
        for group, values in (("loss", weighted), ("unweighted", unweighted), ("run", others)):
            self._scalars({f"{group}/{name}": value for name, value in values.items()}, step)

    def look(self, step: int, model: Model, objective: Objective) -> None:
        """Paint the fixed pairs, judge the held-out ones, and see how hard each loss pulls."""
        if not self.active:
            return
        folder = self.output / "progress"
        folder.mkdir(exist_ok=True)
        device = next(model.parameters()).device
        content, style = _batch(self._pairs, range(4), device)
        with torch.no_grad():
            painted = model(content, style, content.new_ones(4, 1)).clamp(0, 1)
        # Not a picture of every five minutes: each shows at least a fifth more steps than the one before.
        earlier = [number for number in self._stages() if number < step]
        if len(earlier) > 1 and earlier[-1] < 1.2 * earlier[-2]:
            (folder / f"{earlier[-1]:07}.png").unlink()
        write_image(folder / f"{step:07}.png", _row(painted), overwrite=True)
        stages = [read_image(folder / f"{number:07}.png").pixels for number in self._stages()]
        write_image(self.output / "montage.png", np.vstack([_row(content), _row(style), *stages]), overwrite=True)
        if self._events:
            self._events.add_image("painted", np.vstack([_row(content), _row(style), _row(painted)]), step, None, "HWC")
        self._scalars({f"pull/{name}": pull for name, pull in _pulls(model, objective, content, style).items()}, step)
        if self._held_out is not None:
            figures = _figures(model, objective, self._held_out, device)
            self._line({"step": step, "validation": figures})
            self._scalars({f"validation/{name}": value for name, value in figures.items()}, step)

    def close(self) -> None:
        """Write out what TensorBoard has not been given yet."""
        if self._events:
            self._events.close()

    def _stages(self) -> list[int]:
        """The steps of which the folder holds a picture."""
        found = (self.output / "progress").glob("[0-9]*.png")
        return sorted(int(path.stem) for path in found if path.stem.isdecimal())

    def _forget_after(self, step: int) -> None:
        """Drop what a run that was interrupted after its last save has left, or an older run in the same folder."""
        for number in self._stages():
            if number > step or not step:
                (self.output / "progress" / f"{number:07}.png").unlink(missing_ok=True)
        log = self.output / "log.jsonl"
        if log.exists():
            kept = [line for line in log.read_text("utf-8").splitlines(True) if json.loads(line)["step"] <= step]
            beside = log.with_suffix(".part")
            beside.write_text("".join(kept) if step else "", "utf-8")
            beside.replace(log)

    def _line(self, document: Mapping[str, Any]) -> None:
        with (self.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(document) + "\n")

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)


def _pulls(model: Model, objective: Objective, content: Tensor, style: Tensor) -> dict[str, float]:
    """The norm of each weighted loss's gradient at the painted pictures: which loss speaks loudest."""
    with torch.no_grad():
        painted = model(content, style, content.new_ones(len(content), 1))
    painted.requires_grad_()
    losses, _ = objective.style_losses(painted, content, style, objective.targets(content, style))
    return {
        name: torch.autograd.grad(loss, painted, retain_graph=True)[0].norm().item() for name, loss in losses.items()
    }


def _figures(
    model: Model, objective: Objective, pairs: Dataset[tuple[Tensor, Tensor]], device: torch.device
) -> dict[str, float]:
    """Mean unweighted losses of the held-out pairs."""
    rows: list[dict[str, float]] = []
    for number in range(8):
        content, style = _batch(pairs, [number], device)
        with torch.no_grad():
            painted = model(content, style, content.new_ones(1, 1)).clamp(0, 1)
            _, report = objective.style_losses(painted, content, style, objective.targets(content, style))
        rows.append({name: value.item() for name, value in report.items()})
    return {name: round(statistics.fmean(row[name] for row in rows), 5) for name in rows[0]}


def _batch(pairs: Dataset[tuple[Tensor, Tensor]], numbers: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    chosen = [pairs[number] for number in numbers]
    content, style = (torch.stack(kind).to(device).float() / 255 for kind in zip(*chosen, strict=True))
    return content, style


def _row(pictures: Tensor) -> Pixels:
    """(N, 3, H, W) in 0..1 to (H, N * W, 3) uint8."""
    rows: Pixels = (pictures.permute(2, 0, 3, 1).flatten(1, 2) * 255).round().byte().cpu().numpy()
    return rows
