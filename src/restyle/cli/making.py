"""Commands of those who make models: train, export, evaluate. They need the extra ``train``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from restyle.cli.report import print_json, print_table
from restyle.errors import MissingExtraError


def train(
    content: Annotated[Path, typer.Option(help="Folder of photographs.", show_default=False)],
    style: Annotated[Path, typer.Option(help="Folder of artworks.", show_default=False)],
    loss_weights: Annotated[
        Path, typer.Option(help="VGG-16 weights, torchvision's layout, safetensors.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; a run found there goes on.", show_default=False)
    ],
    steps: Annotated[int, typer.Option(min=1, help="Length of the run.")] = 40_000,
    max_minutes: Annotated[float, typer.Option(min=0, help="Stop cleanly after this time; 0 = no limit.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Pairs per step.")] = 4,
    side: Annotated[int, typer.Option(min=32, help="Side of the square crops in pixels.")] = 192,
    seed: Annotated[int, typer.Option(help="Seed of data, weights and losses.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0 = torch's choice.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(min=0, help="Processes that read pictures.")] = 0,
    compile_losses: Annotated[bool, typer.Option("--compile", help="Let torch.compile fuse the losses.")] = False,
) -> None:
    """Train the fast network on folders of pictures. Stop with Ctrl-C; the same command goes on."""
    try:
        from restyle.learn.train import TrainSettings
        from restyle.learn.train import train as run
    except ImportError as error:
        raise MissingExtraError("training", extra="train") from error
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    settings = TrainSettings(
        content, style, loss_weights, output, steps=steps, max_minutes=max_minutes, batch=batch, side=side, seed=seed,
        threads=threads, device=device, workers=workers, compile=compile_losses,
    )  # fmt: skip
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=steps)

        def report(step: int, losses: Mapping[str, float]) -> None:
            words = "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
            progress.update(task, completed=step, description=words)

        typer.echo(run(settings, report))


def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a training run.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to make.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name of the model.", show_default="the folder's")] = "",
    version: Annotated[str, typer.Option(help="Version of the weights.")] = "0.1.0",
    licence: Annotated[str, typer.Option(help="Licence of the weights.", show_default=False)] = "unknown",
    description: Annotated[str, typer.Option(help="One line for restyle models.", show_default=False)] = "",
    data: Annotated[str, typer.Option(help="What it was trained on, in words.", show_default=False)] = "",
) -> None:
    """Write a trained model as ONNX graphs with a card, and compare them with torch."""
    try:
        from restyle.export.onnx_graph import export_model
        from restyle.learn.train import load_averaged
    except ImportError as error:
        raise MissingExtraError("export", extra="train") from error
    model, training = load_averaged(checkpoint)
    card = {
        "name": name or output.name,
        "version": version,
        "licence": licence,
        "description": description,
        "data": data,
        # Folders of the machine that trained are nobody's business.
        "training": {k: v for k, v in training.items() if k not in ("content", "style", "loss_weights", "output")},
    }
    parity = export_model(model, output, card=card).document["parity"]
    typer.echo(f"{output}  differs from torch by at most {parity['max_difference'] * 255:.2f} of 255")


def evaluate(
    pairs: Annotated[Path, typer.Argument(help="JSON list of objects with name, content, style.", show_default=False)],
    content: Annotated[Path, typer.Option(help="Folder of the photographs.", show_default=False)],
    style: Annotated[Path, typer.Option(help="Folder of the style pictures.", show_default=False)],
    loss_weights: Annotated[Path, typer.Option(help="VGG-16, torchvision's layout, safetensors.", show_default=False)],
    judge_weights: Annotated[
        Path, typer.Option(help="AlexNet with LPIPS' linear layers, safetensors.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for pictures and figures.", show_default=False)
    ],
    model: Annotated[list[str] | None, typer.Option(help="Models to compare; names or folders.")] = None,
    strength: Annotated[float, typer.Option(min=0.0, max=2.0, help="Strength to paint with.")] = 1.0,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure models on fixed pairs of pictures, and lay the results out to be looked at."""
    from restyle.stylizer import Stylizer, check_options

    try:
        from restyle.learn import evaluate as room
    except ImportError as error:
        raise MissingExtraError("evaluate", extra="train") from error
    from rich.console import Console
    from rich.progress import Progress

    check_options(strength=strength)
    stylizers = {name: Stylizer.load(name, threads=threads) for name in model or ["fast"]}
    found = list(room.read_pairs(pairs, content, style))
    judges = room.Judges(loss_weights, judge_weights, threads=threads)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("evaluating", total=len(found) * len(stylizers))
        documents = room.evaluate(
            stylizers, found, judges, output, strength=strength, step=lambda: progress.advance(task)
        )
    if as_json:
        print_json(documents)
        return
    figures = next(iter(documents.values()))["mean"]
    print_table(
        ["figure", *documents],
        [[figure, *(f"{document['mean'][figure]:.4f}" for document in documents.values())] for figure in figures],
    )
