"""The command that measures models: evaluate. It needs the extra ``train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from restyle.cli.report import print_json, print_table
from restyle.errors import MissingExtraError


def evaluate(
    pairs: Annotated[Path, typer.Argument(help="JSON list of objects with name, content, style.", show_default=False)],
    content: Annotated[Path, typer.Option(help="Folder of the photographs.", show_default=False)],
    style: Annotated[Path, typer.Option(help="Folder of the style pictures.", show_default=False)],
    loss_weights: Annotated[Path, typer.Option(help="VGG-16, torchvision's layout, safetensors.", show_default=False)],
    judge_weights: Annotated[
        Path, typer.Option(help="AlexNet with LPIPS' linear layers, safetensors.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for pictures, figures and report.", show_default=False)
    ],
    model: Annotated[list[str] | None, typer.Option(help="Models to compare; names or folders.")] = None,
    strength: Annotated[float, typer.Option(min=0.0, max=2.0, help="Strength to paint with.")] = 1.0,
    strengths: Annotated[
        str, typer.Option(help="Measure style and content at these strengths, too, like 0,0.5,1.", show_default=False)
    ] = "",
    versus: Annotated[
        Path | None, typer.Option(help="JSON of a peer's figures; print ratios to them.", show_default=False)
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure models on fixed pairs of pictures, and lay the results out to be looked at."""
    from restyle.stylizer import Stylizer, check_options

    try:
        from restyle.learn import evaluate as room
        from restyle.learn.report import figure_table, strength_table
    except ImportError as error:
        raise MissingExtraError("evaluate", extra="train") from error
    from rich.console import Console
    from rich.progress import Progress

    check_options(strength=strength)
    rising = _read_strengths(strengths)
    found = list(room.read_pairs(pairs, content, style))
    peer = room.read_peer(versus, found) if versus else None
    stylizers = {name: Stylizer.load(name, threads=threads) for name in model or ["fast"]}
    judges = room.Judges(loss_weights, judge_weights, threads=threads)
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("evaluating", total=len(found) * len(stylizers))
        documents = room.evaluate(
            stylizers, found, judges, output,
            strength=strength, strengths=rising, versus=peer, step=lambda: progress.advance(task),
        )  # fmt: skip
    if as_json:
        print_json(documents)
        return
    for head, *rows in filter(None, (figure_table(documents), strength_table(documents))):
        print_table(head, rows)
        typer.echo()
    typer.echo(output / "report.html")


def _read_strengths(text: str) -> list[float]:
    """``0,0.5,1`` to rising numbers; nothing to none."""
    if not text:
        return []
    from restyle.stylizer import check_options

    try:
        strengths = sorted({float(word) for word in text.split(",")})
        for one in strengths:
            check_options(strength=one)
    except ValueError:
        strengths = []
    if len(strengths) < 2:
        raise ValueError(
            f"strengths must be two or more different numbers between 0 and 2, separated by commas, got {text!r}"
        )
    return strengths
