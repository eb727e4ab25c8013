"""The command that measures models: evaluate. It needs the extra ``train``; for the flicker of a video, ``video``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import restyle
from restyle import gallery
from restyle.cli.report import print_json, print_table
from restyle.errors import MissingExtraError
from restyle.video import CALM, STREAMS

if TYPE_CHECKING:
    from restyle.learn.evaluate import Judges

VIDEO = "Flicker of a video"


def evaluate(
    pairs: Annotated[
        Path | None, typer.Argument(help="JSON list of objects with name, content, style.", show_default=False)
    ] = None,
    content: Annotated[Path | None, typer.Option(help="Folder of the photographs.", show_default=False)] = None,
    style: Annotated[
        list[str] | None,
        typer.Option(help="Folder of the style pictures; with --video, pictures or gallery names.", show_default=False),
    ] = None,
    loss_weights: Annotated[
        Path | None, typer.Option(help="VGG-16, torchvision's layout, safetensors.", show_default=False)
    ] = None,
    judge_weights: Annotated[
        Path | None, typer.Option(help="AlexNet with LPIPS' linear layers, safetensors.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for pictures, figures and report.", show_default=False),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Models to compare; names or folders.")] = None,
    strength: Annotated[float, typer.Option(min=0.0, max=2.0, help="Strength to paint with.")] = 1.0,
    strengths: Annotated[
        str, typer.Option(help="Measure style and content at these strengths, too, like 0,0.5,1.", show_default=False)
    ] = "",
    versus: Annotated[
        Path | None, typer.Option(help="JSON of a peer's figures; print ratios to them.", show_default=False)
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Measure flicker on this video instead; with --loss-weights and --judge-weights also what "
                     "calm does to the style.", show_default=False, rich_help_panel=VIDEO),
    ] = None,
    frames: Annotated[
        int, typer.Option(min=2, help="Frames of it, from the beginning.", rich_help_panel=VIDEO)
    ] = 60,
    size: Annotated[
        int | None,
        typer.Option(min=16, help="Its shorter side in pixels.", show_default="keep", rich_help_panel=VIDEO),
    ] = None,
    calm: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Against flicker, as for restyle video.", rich_help_panel=VIDEO)
    ] = CALM,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.", show_default="all")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:  # fmt: skip
    """Measure models on fixed pairs of pictures, and lay the results out to be looked at; or flicker on a video."""
    from restyle.stylizer import Stylizer, check_options

    check_options(strength=strength)
    if video is not None:
        given = {"PAIRS": pairs, "--content": content, "--output": output, "--strengths": strengths or None,
                 "--versus": versus}  # fmt: skip
        if unwanted := [name for name, value in given.items() if value is not None]:
            raise typer.BadParameter(f"{', '.join(unwanted)} cannot go with --video")
        if not style:
            raise typer.BadParameter("--video needs at least one --style")
        if (loss_weights is None) != (judge_weights is None):
            raise typer.BadParameter("with --video, --loss-weights and --judge-weights are both needed, or neither")
        judges = _load_judges(loss_weights, judge_weights, threads) if loss_weights and judge_weights else None
        _evaluate_video(video, style, model or ["fast"], strength, frames, size, calm, threads, judges, as_json=as_json)
        return
    if not (pairs and content and style and loss_weights and judge_weights and output):
        raise typer.BadParameter(
            "PAIRS, --content, --style, --loss-weights, --judge-weights and --output are all needed, or else --video"
        )
    if len(style) > 1:
        raise typer.BadParameter("without --video, --style is one folder")
    try:
        from restyle.learn import evaluate as room
        from restyle.learn.report import figure_table, strength_table
    except ImportError as error:
        raise MissingExtraError("evaluate", extra="train") from error
    from rich.console import Console
    from rich.progress import Progress

    rising = _read_strengths(strengths)
    found = list(room.read_pairs(pairs, content, Path(style[0])))
    peer = room.read_peer(versus, found) if versus else None
    stylizers = {name: Stylizer.load(name, threads=threads) for name in model or ["fast"]}
    judges = _load_judges(loss_weights, judge_weights, threads)
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


def _evaluate_video(
    video: Path, styles: list[str], models: list[str], strength: float, frames: int, size: int | None, calm: float,
    threads: int | None, judges: Judges | None, *, as_json: bool,
) -> None:  # fmt: skip
    """Flicker of each model and style, frame by frame and calm; with judges, how near to the style both are."""
    try:
        from restyle.video.flicker import measure_flicker
        from restyle.video.pipeline import Look
        from restyle.video.reader import Frame, VideoReader
    except ImportError as error:
        raise MissingExtraError("evaluate --video", extra="video") from error
    from restyle.stylizer import Stylizer

    paintings = {name: restyle.read_image(gallery.find(name)).pixels for name in styles}
    with VideoReader(video, size=size) as reader:
        clip = [item.pixels for item in islice((item for item in reader if isinstance(item, Frame)), frames)]
    rows: list[dict[str, Any]] = []
    for name in models:
        stylizer = Stylizer.load(name, precision="fastest", threads=threads, streams=STREAMS)  # as restyle video does
        for painting, pixels in paintings.items():
            style, judge = stylizer.encode_style(pixels), _judge(judges, pixels) if judges else None
            plain, calmed = (measure_flicker(stylizer, clip, Look(style, strength, one), judge) for one in (0.0, calm))
            ratio = calmed.excess / plain.excess if plain.excess > 0 else None
            rows.append({"model": stylizer.card.identity, "style": painting, "frames": plain.frames, "calm": calm,
                         "warp_error": {"input": plain.input, "frame_by_frame": plain.output, "calm": calmed.output},
                         "flicker_left": ratio,
                         "still": {"frame_by_frame": plain.still, "calm": calmed.still},
                         "style_figures": {"frame_by_frame": plain.style, "calm": calmed.style}})  # fmt: skip
    if as_json:
        print_json({"video": str(video), "strength": strength, "rows": rows})
        return
    figures = list(rows[0]["style_figures"]["calm"])
    print_table(
        ["model", "style", "warp error: input", "frame by frame", "calm", "flicker left", "still", "still, calm",
         *(f"{figure}, calm/frame by frame" for figure in figures)],
        [
            [Path(row["model"]).name, row["style"], *(f"{value:.2f}" for value in row["warp_error"].values()),
             "-" if row["flicker_left"] is None else f"{row['flicker_left']:.2f}",
             *(f"{value:.2f}" for value in row["still"].values()),
             *(_ratio(row["style_figures"], figure) for figure in figures)]
            for row in rows
        ],
    )  # fmt: skip


def _judge(judges: Judges, painting: Any) -> Callable[[Any], Mapping[str, float]]:
    """What tells how near a frame is to a painting."""
    from restyle.learn.evaluate import to_judged_size

    wanted = to_judged_size(painting[:, :, :3])
    return lambda painted: judges.style_figures(painted, wanted)


def _ratio(found: Mapping[str, Mapping[str, float]], figure: str) -> str:
    plain, calm = found["frame_by_frame"][figure], found["calm"][figure]
    return f"{calm / plain:.2f}" if plain else "-"


def _load_judges(loss_weights: Path, judge_weights: Path, threads: int | None) -> Judges:
    try:
        from restyle.learn.evaluate import Judges
    except ImportError as error:
        raise MissingExtraError("evaluate", extra="train") from error
    return Judges(loss_weights, judge_weights, threads=threads)


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
