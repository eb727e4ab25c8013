"""One run: its networks and optimiser, its batches, a step, and the checkpoint that it goes on from."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from restyle.errors import DeviceError, ModelFileError
from restyle.learn.checkpoints import build, load_checkpoint, same_architecture
from restyle.learn.datasets import RandomPairs, pair_numbers
from restyle.learn.objective import Objective, Targets
from restyle.learn.optimisers import Optimiser
from restyle.learn.record import Record
from restyle.learn.settings import TrainSettings
from restyle.nn.reference import ReferenceStylizer

PARTS = ("stylizer", "style_encoder")
MIRRORED_ON = 4
"""Photographs on which the reference decoder's first weights are scaled."""

LOG_EVERY = 20
"""Steps between two lines of the log."""


@dataclass(frozen=True)
class Batch:
    """Photographs and styles (N, 3, side, side) in 0..1, and what the loss network sees in them."""

    content: Tensor
    style: Tensor
    targets: Targets

    def paired(self, offset: int) -> Batch:
        """The photographs with the styles moved on by ``offset``."""
        count = len(self.content)
        order = [(number + offset) % count for number in range(count)]
        return Batch(self.content, self.style[order], self.targets.paired(order))


class Run:
    """The state of a run: networks, optimiser, step; everything that a checkpoint holds."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("torch finds no device 'cuda' on this machine")
        self.accelerator = Accelerator(cpu=settings.device == "cpu")
        self.first = self.accelerator.is_main_process
        self.device = self.accelerator.device
        if settings.threads:
            torch.set_num_threads(settings.threads)
        set_seed(settings.seed)  # all processes begin with the same weights
        # What a mistake in the folders costs should not be a download.
        self.pairs = RandomPairs(
            settings.content,
            settings.style,
            side=settings.side,
            seed=settings.seed,
            scale=settings.scale,
            exclude_style=settings.exclude_style,
        )
        with self.accelerator.main_process_first():
            self.model, judge = build(settings)
        if isinstance(self.model.stylizer, ReferenceStylizer):
            photographs = torch.stack([self.pairs[number][0] for number in range(MIRRORED_ON)])
            self.model.stylizer.mirror_encoder(photographs.float() / 255)
        self.model, judge = (_channels_last(module.to(self.device)) for module in (self.model, judge))
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.objective = Objective(
            judge,
            settings.losses,
            layers=settings.layers,
            relative_to=settings.relative_to,
            power=settings.power,
            half=settings.half,
        )
        self.optimiser = Optimiser(
            [
                (self.model.stylizer.parameters(), 1.0),
                (self.model.style_encoder.parameters(), settings.style_rate),
            ],
            kind=settings.optimiser,
            clip=settings.clip,
        )
        self.trained = [p for parameters, _ in self.optimiser.groups for p in parameters]
        self._style_losses = torch.compile(self.style_losses) if settings.compile else self.style_losses
        self.step = 0
        self.seconds = 0.0
        self.saved_step = -1
        self.stop_wanted = False
        try:
            settings.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelFileError(f"{settings.output} cannot be the folder of a run: {error.strerror}") from error
        self.path = settings.output / "checkpoint.pt"
        if self.path.exists():
            self._load()
        elif settings.start:
            with same_architecture(settings.start):
                self.model.load_state_dict(load_checkpoint(settings.start)["averaged"])
                self.averaged.load_state_dict(self.model.state_dict())
        self.record = Record(self.pairs, self.step, settings.output, described=_plain(settings), active=self.first)
        if settings.validation_content:
            self.record.hold_out(settings.validation_content, settings.validation_style)

    def rounds(self) -> Iterator[list[Batch]]:
        """For each step its batches, from the step where the run stands on, for ever."""
        settings = self.settings
        begun, offset = divmod(self.step, settings.pairings)
        numbers = pair_numbers(
            begun * settings.accumulate,
            batch=settings.batch,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
        )
        loader = iter(
            DataLoader(
                self.pairs,
                batch_size=settings.batch,
                sampler=numbers,
                num_workers=settings.workers,
                worker_init_fn=_ignore_interruptions,
            )
        )
        while True:
            batches = []
            for content, style in itertools.islice(loader, settings.accumulate):
                photographs, artworks = (
                    _channels_last(kind.to(self.device).float() / 255) for kind in (content, style)
                )
                batches.append(Batch(photographs, artworks, self.objective.targets(photographs, artworks)))
            for number in range(offset, settings.pairings):
                yield [batch.paired(number) for batch in batches]
            offset = 0

    def advance(self, batches: list[Batch], *, stop: bool = False) -> dict[str, float]:
        """One step on the batches of this process; returns its weighted losses by name.

        ``stop`` says that this process would like to end; ``stop_wanted`` then tells all processes alike.
        """
        started = time.monotonic()
        settings = self.settings
        # All chance of a step comes from its number, so that a resumed run is the same run.
        torch.manual_seed((settings.seed * 1_000_003 + self.step) * 1009 + self.accelerator.process_index)
        early = self.step < settings.reconstruction * settings.steps
        every = settings.identity_every if settings.losses.identity else 0
        identity = early or (every > 0 and self.step % every == 0)
        seen: dict[str, Tensor] = {}
        report: dict[str, Tensor] = {}
        self.optimiser.zero_grad()
        for batch in batches:
            losses, details = self._identity_losses(batch, early) if identity else self._style_losses(batch)
            total = torch.stack(list(losses.values())).sum() / len(batches)
            total.backward()  # type: ignore[no-untyped-call]
            for into, values in ((seen, losses), (report, details)):
                for name, value in values.items():
                    into[name] = into.get(name, 0) + value.detach() / len(batches)
        self._share_gradients(stop)
        rate = self.rate()
        norms = self.optimiser.step(rate)
        if not all(map(math.isfinite, norms)):
            raise ValueError(
                f"rate {settings.rate} let the gradients of step {self.step} grow beyond all bounds; take less. "
                f"{self.path}, if there is one, holds weights from before"
            )
        self.step += 1
        self._average()
        self.seconds += time.monotonic() - started
        numbers = {name: value.item() for name, value in seen.items()}
        if self.step % LOG_EVERY == 0 or self.step == settings.steps:
            self.record.losses(
                self.step,
                self.seconds,
                numbers,
                {name: value.item() for name, value in report.items()},
                {"rate": rate, **{f"gradient/{n}": v for n, v in zip(PARTS, norms, strict=False)}},
            )
        return numbers

    def rate(self) -> float:
        """The learning rate of the step that comes."""
        settings, progress = self.settings, min(1.0, self.step / self.settings.steps)
        factor = {"cosine": 0.5 * (1 + math.cos(math.pi * progress)), "linear": 1 - progress, "constant": 1.0}
        return settings.rate * factor[settings.schedule] * min(1.0, (self.step + 1) / max(1, settings.warmup))

    def style_losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of photographs in the styles of others: weighted, and for reports."""
        weight = self.settings.losses.photograph
        content, count = batch.content, len(batch.content)
        ones = content.new_ones(count, 1)
        shown = noisy(content, self.settings.content_noise) if self.settings.content_noise else content
        with self._half():
            if weight:  # half of the pictures at strength 1, the same ones at strength 0
                double = [torch.cat([pictures, pictures]) for pictures in (shown, batch.style)]
                painted = self.model(*double, torch.cat([ones, 0 * ones]))
            else:
                painted = self.model(shown, batch.style, ones)
        losses, report = self.objective.style_losses(painted[:count], content, batch.style, batch.targets)
        if weight:
            back = self.objective.photograph_losses(painted[count:], content, batch.targets, weight)
            losses |= {f"photograph_{name}": value for name, value in back.items()}
        return losses, report

    def _identity_losses(self, batch: Batch, early: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A photograph in its own style is itself, at full strength, with nothing coming through by the side."""
        content = batch.content
        with self._half():
            painted = self.model(content, content, content.new_ones(len(content), 1))
        weight = self.settings.losses.identity or float(early)
        return self.objective.photograph_losses(painted, content, batch.targets, weight), {}

    def _half(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.half)

    def _share_gradients(self, stop: bool) -> None:
        """Give every process the mean of all gradients, and the knowledge whether any wants to stop."""
        self.stop_wanted = stop
        if self.accelerator.num_processes == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.trained]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), gradients[0].new_tensor([float(stop)])])
        flat = self.accelerator.reduce(flat, "mean")
        self.stop_wanted = bool(flat[-1] > 0)
        for parameter, gradient in zip(self.trained, flat[:-1].split([p.numel() for p in self.trained]), strict=True):
            parameter.grad = gradient.reshape(parameter.shape).clone()

    def _average(self) -> None:
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for ours, theirs in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                ours.lerp_(theirs, 1 - decay)

    def save(self) -> Path:
        """Write checkpoint and pictures; the last checkpoint stays whole whatever happens meanwhile."""
        if not self.first:
            return self.path
        beside = self.path.with_suffix(".part")
        torch.save(
            {
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "settings": _plain(self.settings) | {"processes": self.accelerator.num_processes},
            },
            beside,
        )
        os.replace(beside, self.path)
        self.saved_step = self.step
        self.record.look(self.step, self.averaged, self.objective)
        return self.path

    def _load(self) -> None:
        state = load_checkpoint(self.path)
        kinds = ("network", "variant", "optimiser")
        pairs = ("side", "scale", "exclude_style", "seed", "batch", "accumulate", "pairings", "processes")
        now_all = _plain(self.settings) | {"processes": self.accelerator.num_processes}
        for name in (*kinds, *pairs):
            before, now = {"processes": 1, **state["settings"]}.get(name), now_all[name]
            if before != now:
                raise ModelFileError(f"{self.path} was made with {name} {before}, not {now}; choose another folder")
        with same_architecture(self.path):
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.saved_step = self.step


def noisy(content: Tensor, most: float) -> Tensor:
    """Photographs (N, 3, H, W) with noise of a deviation up to ``most``, of single pixels and of cells of 8x8.

    A network that is shown this, and judged as if the noise were not there, learns to leave noise alone.
    """
    fine, coarse = torch.randn_like(content), torch.randn_like(content[:, :, ::8, ::8])
    spots = F.interpolate(coarse, size=content.shape[2:], mode="bilinear")
    deviation = most * torch.rand(len(content), 1, 1, 1, device=content.device)
    return content + deviation * (fine + 0.5 * spots)


def _plain(settings: TrainSettings) -> dict[str, Any]:
    """The settings in words and numbers."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    return document


def _channels_last(module: Any) -> Any:
    """The layout in which processors convolve fastest."""
    return module.to(memory_format=torch.channels_last)


def _ignore_interruptions(_worker: int) -> None:
    # A terminal sends Ctrl-C to every process; the readers must live until the run has stopped in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
