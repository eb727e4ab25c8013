"""Training of the fast network: reconstruction first, then style.

One run is a folder: ``checkpoint.pt`` (everything needed to go on), ``log.jsonl`` (one line of losses every few steps)
and ``preview.png`` (what the averaged weights paint now).
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from restyle.errors import DeviceError, ModelFileError
from restyle.image import write_image
from restyle.learn.datasets import RandomPairs
from restyle.nn.losses import colour_loss, content_loss, relative_gram_loss, relative_statistics_loss
from restyle.nn.networks import FastModel
from restyle.nn.pretrained import VggEncoder, read_weights

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class TrainSettings:
    """What a run is made of; saved with every checkpoint.

    Attributes:
        content: Folder of photographs.
        style: Folder of artworks.
        loss_weights: VGG-16 weights in torchvision's layout, safetensors.
        output: Folder of the run; a checkpoint found there is continued.
        steps: Length of the run and of the learning-rate schedule.
        max_minutes: Stop cleanly after this time, to be continued later; 0 = no limit.
        batch: Pairs per step.
        side: Side of the square crops in pixels.
        rate: Peak learning rate; it falls to zero along a cosine.
        reconstruction: Share of the run, at its beginning, that only learns to give the photograph back.
        content_weight: Weight of the content loss.
        style_weight: Weight of the relative statistics loss.
        gram_weight: Weight of the relative Gram loss.
        colour_weight: Weight of the colour loss.
        average: Decay of the weight average that is exported.
        seed: Seed of data, weights and losses.
        threads: Processor threads; 0 = torch's choice.
        device: ``cpu`` or ``cuda``.
        workers: Processes that read pictures; 0 = read in between.
        compile: Let torch.compile fuse the losses: a quarter faster on a CPU after a minute of compiling.
    """

    content: Path
    style: Path
    loss_weights: Path
    output: Path
    steps: int = 40_000
    max_minutes: float = 0.0
    batch: int = 4
    side: int = 192
    rate: float = 1e-3
    reconstruction: float = 0.06
    content_weight: float = 1.0
    style_weight: float = 12.0
    gram_weight: float = 3.0
    colour_weight: float = 40.0
    average: float = 0.999
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    workers: int = 0
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: naming the setting, its value and what is allowed.
        """
        for name, least in {
            "steps": 1,
            "batch": 1,
            "side": 32,
            "rate": 0,
            "threads": 0,
            "workers": 0,
            "max_minutes": 0,
        }.items():
            if not getattr(self, name) >= least:  # so that not-a-number is refused, too
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be cpu or cuda, got {self.device!r}")
        for name in ("reconstruction", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")


def train(settings: TrainSettings, report: Callable[[int, Mapping[str, float]], None] | None = None) -> Path:
    """Train the fast network, or go on with an interrupted run in the same folder.

    Args:
        settings: See ``TrainSettings``.
        report: Called after every step with the number of steps done and the losses.

    Returns:
        The path of the last checkpoint.

    Raises:
        ImageError: a folder is missing or holds no pictures.
        ModelFileError: the loss weights or the checkpoint cannot be used.
    """
    run = _Run(settings)
    pairs = RandomPairs(settings.content, settings.style, side=settings.side, seed=settings.seed)
    numbers: Any = itertools.count(run.step * settings.batch)
    loader = iter(
        DataLoader(
            pairs,
            batch_size=settings.batch,
            sampler=numbers,
            num_workers=settings.workers,
            worker_init_fn=_ignore_interruptions,
        )
    )
    until = time.monotonic() + 60 * settings.max_minutes if settings.max_minutes else math.inf
    saved = time.monotonic()
    with _stop_signals() as stopped:
        while run.step < settings.steps and time.monotonic() < until and not stopped:
            content, style = (pictures.to(run.device).float() / 255 for pictures in next(loader))
            losses = run.advance(content, style)
            if run.step % 20 == 0 or run.step == settings.steps:
                run.log(losses)
            if report:
                report(run.step, losses)
            if time.monotonic() - saved > 300:
                run.save()
                saved = time.monotonic()
    return run.save()


def _ignore_interruptions(_worker: int) -> None:
    # A terminal sends Ctrl-C to every process; the readers must live until the run has stopped in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and termination while a step runs, so that a stop falls between steps and all is saved.

    The second signal has its ordinary effect, in case a step does not end.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # only the main thread may handle signals
        return

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, kept[signal.Signals(number)])

    kept = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


class _Run:
    """The state of a run: networks, optimiser, step; everything that a checkpoint holds."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("torch finds no device 'cuda' on this machine")
        self.device = torch.device(settings.device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self.model = _channels_last(FastModel().to(self.device))
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.judge = VggEncoder("vgg16", as_trained=True).load_torchvision(read_weights(settings.loss_weights))
        _channels_last(self.judge.to(self.device))
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=settings.rate, weight_decay=1e-4)
        self._compiled_style_losses = torch.compile(self._style_losses) if settings.compile else self._style_losses
        self.step = 0
        self.seconds = 0.0
        try:
            settings.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelFileError(f"{settings.output} cannot be the folder of a run: {error.strerror}") from error
        self.fixed = RandomPairs(settings.content, settings.style, side=256, seed=settings.seed + 1)
        self.path = settings.output / "checkpoint.pt"
        if self.path.exists():
            self._load()

    def advance(self, content: Tensor, style: Tensor) -> dict[str, float]:
        """One step on a batch of pictures (N, 3, side, side) in 0..1; returns the losses by name."""
        started = time.monotonic()
        settings, progress = self.settings, self.step / self.settings.steps
        # All chance of a step comes from its number, so that a resumed run is the same run.
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        for group in self.optimiser.param_groups:
            warm = min(1.0, (self.step + 1) / 100)
            group["lr"] = settings.rate * warm * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        reconstruct = progress < settings.reconstruction or self.step % 6 == 0
        losses = self._reconstruction_losses(content) if reconstruct else self._compiled_style_losses(content, style)
        total = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        self._average()
        self.seconds += time.monotonic() - started
        return {name: value.item() for name, value in losses.items()}

    def _style_losses(self, content: Tensor, style: Tensor) -> dict[str, Tensor]:
        settings = self.settings
        with self._half():
            painted = self.model.paint(content, style, content.new_ones(len(content), 1))
            seen = _wide(self.judge(painted))
            with torch.no_grad():
                seen_content, seen_style = _wide(self.judge(content)), _wide(self.judge(style))
            gram = relative_gram_loss(seen, seen_style)
        return {
            "content": settings.content_weight * content_loss(seen[-1], seen_content[-1]).mean(),
            "style": settings.style_weight * relative_statistics_loss(seen, seen_style).sum(0).mean(),
            "gram": settings.gram_weight * gram.sum(0).mean(),
            "colour": settings.colour_weight * colour_loss(painted, style).mean(),
        }

    def _reconstruction_losses(self, content: Tensor) -> dict[str, Tensor]:
        """A photograph in its own style is itself, at full strength, with nothing coming through by the side."""
        with self._half():
            painted = self.model.paint(content, content, content.new_ones(len(content), 1))
            seen = _wide(self.judge(painted))
            with torch.no_grad():
                target = _wide(self.judge(content))
        return {
            "pixels": 10 * F.l1_loss(painted.float(), content),
            "features": self.settings.content_weight * content_loss(seen[-1], target[-1]).mean(),
        }

    def _half(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _average(self) -> None:
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for ours, theirs in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                ours.lerp_(theirs, 1 - decay)

    def log(self, losses: Mapping[str, float]) -> None:
        """Add a line of losses to the run's log."""
        line = {"step": self.step, "seconds": round(self.seconds, 1), **{k: round(v, 5) for k, v in losses.items()}}
        with (self.settings.output / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def save(self) -> Path:
        """Write checkpoint and preview; the last checkpoint stays whole whatever happens meanwhile."""
        beside = self.path.with_suffix(".part")
        settings = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(self.settings).items()}
        torch.save(
            {
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "settings": settings,
            },
            beside,
        )
        os.replace(beside, self.path)
        write_image(self.settings.output / "preview.png", self._preview(), overwrite=True)
        return self.path

    def _load(self) -> None:
        state = load_checkpoint(self.path)
        for name in ("side", "seed", "batch"):  # what decides which pairs come next
            before, now = state["settings"].get(name), getattr(self.settings, name)
            if before != now:
                raise ModelFileError(f"{self.path} was made with {name} {before}, not {now}; choose another folder")
        with _explained(self.path):
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _preview(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Rows of content, style and painted picture for four fixed pairs."""
        content, style = (
            torch.stack(pictures).to(self.device).float() / 255
            for pictures in zip(*(self.fixed[n] for n in range(4)), strict=True)
        )
        with torch.no_grad():
            painted = self.averaged.paint(content, style, content.new_ones(4, 1)).clamp(0, 1)
        rows = torch.cat([content, style, painted], 3).permute(0, 2, 3, 1).flatten(0, 1)
        return (rows * 255).round().byte().cpu().numpy()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        ModelFileError: the file is missing, damaged or not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelFileError(f"{path} is not a checkpoint of restyle train: {error}") from error
    parts = {"model", "averaged", "optimiser", "step", "seconds", "settings"}
    if not isinstance(state, dict) or not parts <= state.keys():
        raise ModelFileError(f"{path} is not a checkpoint of restyle train")
    return state


def _channels_last(module: Module) -> Module:
    """The layout in which processors convolve fastest."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _wide(features: list[Tensor]) -> list[Tensor]:
    return [layer.float() for layer in features]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelFileError(f"{path} holds a network of another architecture") from error


def load_averaged(path: Path) -> tuple[FastModel, dict[str, Any]]:
    """The averaged weights of a checkpoint, ready to export, and its settings with ``step`` and ``seconds``.

    Raises:
        ModelFileError: the file is missing, damaged or not a checkpoint.
    """
    state = load_checkpoint(path)
    model = FastModel()
    with _explained(path):
        model.load_state_dict(state["averaged"])
    return model, {**state["settings"], "step": state["step"], "seconds": state["seconds"]}
