"""Commands of those who make models: train and reconstruct. They need the extra ``train``."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restyle.errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from rich.progress import Progress


Content = Annotated[Path, typer.Option(help="Folder of photographs, or a list of them.", show_default=False)]
LossNetwork = Annotated[
    Path | None,
    typer.Option(help="VGG weights in torchvision's layout, safetensors or pth.", show_default="downloaded once"),
]
RunFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the run; a run found there goes on.", show_default=False)
]
Network = Annotated[str, typer.Option(help="fast or reference.")]
Variant = Annotated[str, typer.Option(help="Which VGG the weights are of: vgg16, vgg19 or vgg19_bn.")]
Steps = Annotated[int, typer.Option(min=1, help="Length of the run.")]
MaxMinutes = Annotated[float, typer.Option(min=0, help="Stop cleanly after this time; 0 = no limit.")]
Batch = Annotated[int, typer.Option(min=1, help="Pairs that each process paints at once.")]
Side = Annotated[int, typer.Option(min=32, help="Side of the square crops in pixels.")]
Seed = Annotated[int, typer.Option(help="Seed of data, weights and losses.")]
Threads = Annotated[int, typer.Option(min=0, help="Processor threads; 0 = torch's choice.")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read pictures.")]
Compile = Annotated[bool, typer.Option("--compile", help="Let torch.compile fuse the losses.")]


def train(
    content: Content,
    style: Annotated[Path, typer.Option(help="Folder of artworks, or a list of them.", show_default=False)],
    output: RunFolder,
    loss_weights: LossNetwork = None,
    network: Network = "fast",
    variant: Variant = "vgg16",
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint of another run to begin from.", show_default=False)
    ] = None,
    steps: Steps = 40_000,
    max_minutes: MaxMinutes = 0,
    batch: Batch = 4,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches added up for one step.")] = 1,
    side: Side = 192,
    scale: Annotated[
        str, typer.Option(help="Smallest and largest window that is cropped, as shares of a picture's short side.")
    ] = "0.4,1.0",
    content_noise: Annotated[
        float, typer.Option(help="Noise, up to this deviation of 0..1, that the network sees and the losses do not.")
    ] = 0.0,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="Weight of a loss, such as gram=3; again for each.", metavar="NAME=WEIGHT", show_default=False
        ),
    ] = None,
    layers: Annotated[str, typer.Option(help="Weights of relu1_1 to relu4_1 in the style losses.")] = "1,1,1,1",
    relative_to: Annotated[
        str, typer.Option(help="What a layer's style distance is divided by: style, both or nothing.")
    ] = "style",
    power: Annotated[float, typer.Option(help="Power of a layer's style distance: 2 squared, 1 Euclidean.")] = 2.0,
    optimiser: Annotated[str, typer.Option(help="muon or adamw.")] = "muon",
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 6e-4,
    schedule: Annotated[str, typer.Option(help="cosine, linear or constant.")] = "cosine",
    reconstruction: Annotated[
        float, typer.Option(help="Share of the steps, at the beginning, that learn to give the photograph back.")
    ] = 0.06,
    warmup: Annotated[int, typer.Option(min=0, help="Steps in which the learning rate rises to its peak.")] = 100,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; a longer one is shortened.")] = 30.0,
    exclude_style: Annotated[
        list[str] | None,
        typer.Option(help="Artworks to leave out; again for each pattern.", metavar="PATTERN", show_default=False),
    ] = None,
    validation_content: Annotated[
        Path | None, typer.Option(help="Photographs that are only looked at.", show_default=False)
    ] = None,
    validation_style: Annotated[
        Path | None, typer.Option(help="Artworks that are only looked at.", show_default=False)
    ] = None,
    seed: Seed = 0,
    threads: Threads = 0,
    device: Device = "cpu",
    workers: Workers = 0,
    compile_losses: Compile = False,
    preflight: Annotated[
        bool, typer.Option("--preflight", help="Look at all pictures, say what was found, and leave.")
    ] = False,
    price: Annotated[float, typer.Option(min=0, help="Price of an hour of this machine, for the estimate.")] = 0,
) -> None:
    """Train a network on folders of pictures. Stop with Ctrl-C; the same command goes on."""
    if preflight:
        _survey(content, style, [one for one in (validation_content, validation_style) if one], side, exclude_style)
        return
    _run(
        price,
        content=content, style=style, loss_weights=loss_weights, output=output, network=network, variant=variant,
        start=start, steps=steps, max_minutes=max_minutes, batch=batch, accumulate=accumulate, side=side,
        pairings=min(3, batch), scale=_window(scale), content_noise=content_noise, losses=loss or [], layers=layers,
        relative_to=relative_to, power=power, optimiser=optimiser, rate=rate, schedule=schedule, warmup=warmup,
        reconstruction=reconstruction, clip=clip, exclude_style=tuple(exclude_style or ()),
        validation_content=validation_content, validation_style=validation_style, seed=seed, threads=threads,
        device=device, workers=workers, compile=compile_losses,
    )  # fmt: skip


def reconstruct(
    content: Content,
    output: RunFolder,
    loss_weights: LossNetwork = None,
    network: Network = "reference",
    variant: Variant = "vgg16",
    steps: Steps = 2_000,
    max_minutes: MaxMinutes = 0,
    batch: Batch = 4,
    side: Side = 192,
    seed: Seed = 0,
    threads: Threads = 0,
    device: Device = "cpu",
    workers: Workers = 0,
) -> None:
    """Train a network only to give photographs back: the first half of the way, and a test of the whole pipeline.

    montage.png in the run's folder shows, row by row, what came back at which step.
    """
    _run(
        0.0,
        content=content, style=None, loss_weights=loss_weights, output=output, network=network, variant=variant,
        steps=steps, max_minutes=max_minutes, batch=batch, side=side, pairings=1, reconstruction=1.0, losses=[],
        layers="1,1,1,1", seed=seed, threads=threads, device=device, workers=workers,
    )  # fmt: skip


def _survey(content: Path, style: Path, validation: list[Path], side: int, exclude: list[str] | None) -> None:
    try:
        from restyle.learn.survey import survey
    except ImportError as error:
        raise MissingExtraError("training", extra="train") from error
    with _progress() as progress:
        task = progress.add_task("looking at the pictures", total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        found = survey(content, style, validation, side=side, exclude_style=exclude or (), report=report)
    for line in found.lines():
        typer.echo(line)


def _run(price: float, *, losses: list[str], layers: str, steps: int, **options: Any) -> None:
    try:
        from restyle.learn.objective import LossWeights
        from restyle.learn.settings import TrainSettings
        from restyle.learn.train import train as run
    except ImportError as error:
        raise MissingExtraError("training", extra="train") from error
    weights: dict[str, Any] = {field.name: field.default for field in fields(LossWeights)}
    for text in losses:
        name, _, value = text.partition("=")
        if name not in weights:
            raise UnknownNameError("loss", name, weights)
        weights[name] = _number(value, f"--loss {text}")
    settings = TrainSettings(
        losses=LossWeights(**weights),
        layers=_numbers(layers, "--layers"),  # type: ignore[arg-type]
        steps=steps,
        **options,
    )
    with _progress() as progress:
        task = progress.add_task("", total=steps)
        seen: dict[bool, list[tuple[int, float]]] = {True: [], False: []}  # reconstruction, style

        def report(step: int, losses: Mapping[str, float]) -> None:
            words = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
            progress.update(task, completed=step, description=words)
            times = seen["pixels" in losses]
            if len(times) <= 20:
                times.append((step, time.monotonic()))
                if len(times) == 21:
                    (first, then), (last, now) = times[1], times[-1]  # the first one may have compiled
                    hours = (steps - last) * (now - then) / (last - first) / 3600
                    length = f"{hours:.1f} hours" if hours > 1.5 else f"{60 * hours:.0f} minutes"
                    cost = f" and cost {hours * price:.2f}" if price else ""
                    typer.echo(f"at this pace the other {steps - last} steps take {length}{cost}", err=True)

        path = run(settings, report)
    if _speaks():
        typer.echo(path)


def _speaks() -> bool:
    """Of several processes one speaks."""
    return os.environ.get("RANK", "0") == "0"


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(
        *columns,
        console=Console(stderr=True),
        disable=not sys.stderr.isatty() or not _speaks(),
    )


def _window(text: str) -> tuple[float, float]:
    """Two numbers; whether they can be shares is for who crops to say."""
    ends = _numbers(text, "--scale")
    if len(ends) != 2:
        raise ValueError(f"--scale {text}: must be two numbers, smallest and largest, such as 0.4,1.0")
    return ends[0], ends[1]


def _numbers(text: str, option: str) -> tuple[float, ...]:
    return tuple(_number(word, f"{option} {text}") for word in text.split(","))


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a number") from error
