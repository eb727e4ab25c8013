"""``restyle optimize``: one picture, made slowly. Needs the extra ``train``."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

import restyle
from restyle import gallery
from restyle.cli.options import (
    FOLDERS,
    LOOK,
    Json,
    KeepColors,
    LimitMegapixels,
    Overwrite,
    Quiet,
    Seed,
    Styles,
    parse_limit,
    parse_mask,
    parse_style,
    unusual_options,
)
from restyle.cli.report import print_json
from restyle.errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from restyle.image import Pixels
    from restyle.learn.gatys import GatysSettings, Step, StyleTarget

METHOD = "Method"
EVOLUTION_FRAMES = 60
"""Frames of an animation at most, before the last."""

FRAME_S = Fraction(1, 10)
"""How long each is shown, in seconds."""

LAST_FRAMES = 10
"""How many frames long the result is shown at its end."""

HISTORY = (
    "variant", "size", "style_weight", "distance", "style_layers", "content_layer", "start", "optimiser", "steps",
    "scales", "tolerance", "smoothness", "average_pooling", "half", "keep_colors", "seed",
)  # fmt: skip
"""Options that the picture's metadata tell of where they are not as usual, beside styles and masks."""


def optimize(
    context: typer.Context,
    content: Annotated[str, typer.Argument(help="A photograph, or the name of a bundled sample.", show_default=False)],
    style: Styles,
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write.", show_default=False)],
    loss_weights: Annotated[
        Path | None,
        typer.Option(
            help="VGG weights in torchvision's layout, safetensors or pth.",
            show_default="downloaded once",
            rich_help_panel=METHOD,
        ),
    ] = None,
    variant: Annotated[
        str, typer.Option(help="Which VGG they are of: vgg16, vgg19 or vgg19_bn.", rich_help_panel=METHOD)
    ] = "vgg19",
    size: Annotated[int, typer.Option(min=64, help="Short side of the result in pixels.")] = 512,
    style_weight: Annotated[float, typer.Option(min=0, help="Weight of the style beside the content.")] = 20.0,
    distance: Annotated[
        str,
        typer.Option(
            help="How styles are compared: gram, statistics, wasserstein, mmd, histogram or patches.",
            rich_help_panel=METHOD,
        ),
    ] = "gram",
    style_layers: Annotated[
        str, typer.Option(help="ReLUs that make the style.", rich_help_panel=METHOD)
    ] = "relu1_1,relu2_1,relu3_1,relu4_1,relu5_1",
    content_layer: Annotated[
        str, typer.Option(help="ReLU that makes the content.", rich_help_panel=METHOD)
    ] = "relu4_2",
    start: Annotated[
        str, typer.Option(help="First picture: content, fast, noise, black or mean.", rich_help_panel=METHOD)
    ] = "content",
    optimiser: Annotated[str, typer.Option(help="lbfgs or adam.", rich_help_panel=METHOD)] = "lbfgs",
    steps: Annotated[int, typer.Option(min=1, help="Steps at each scale, at most.", rich_help_panel=METHOD)] = 200,
    scales: Annotated[int, typer.Option(min=1, max=6, help="Sizes from coarse to fine.", rich_help_panel=METHOD)] = 2,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, help="Stop a scale when 20 steps gain less than this share; 0 = never.", rich_help_panel=METHOD
        ),
    ] = 0.002,
    smoothness: Annotated[
        float, typer.Option(min=0, help="Weight of the total variation.", rich_help_panel=METHOD)
    ] = 0,
    average_pooling: Annotated[
        bool, typer.Option("--average-pooling", help="Pool by the average.", rich_help_panel=METHOD)
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Compute in bfloat16.", rich_help_panel=METHOD)] = False,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            help="Where a style goes: where it is white; not:FILE for where it is black. One for each style, in "
            "their order.",
            metavar="[not:]FILE",
            rich_help_panel=LOOK,
            show_default=False,
        ),
    ] = None,
    keep_colors: KeepColors = None,
    evolution: Annotated[
        str | None,
        typer.Option(
            help="Also write how it came about: .gif or .webp; .mp4 and other videos with the extra video.",
            rich_help_panel=FOLDERS,
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        str | None,
        typer.Option(
            help="A picture that is written anew every 10 steps, to look at meanwhile.",
            rich_help_panel=FOLDERS,
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(min=0, help="Processor threads; 0 = torch's choice.")] = 0,
    limit_megapixels: LimitMegapixels = 200.0,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Paint one photograph by optimising its pixels (Gatys et al.): slow, and the best that is known.

    Ctrl-C ends it with the picture as it is then.
    """
    from restyle.image import WRITABLE, check_size, write_image
    from restyle.image.sizes import wanted_size

    _check_outputs(output, evolution, preview, overwrite=overwrite)
    try:
        from restyle.learn import gatys
    except ImportError as error:
        raise MissingExtraError("optimising", extra="train") from error
    settings = gatys.GatysSettings(
        size=size, steps=steps, scales=scales, start=start, optimiser=optimiser, distance=distance,
        style_layers=tuple(style_layers.split(",")), content_layer=content_layer, style_weight=style_weight,
        smoothness=smoothness, average_pooling=average_pooling, keep_colors=keep_colors, tolerance=tolerance,
        variant=variant, seed=seed, threads=threads, half=half,
    )  # fmt: skip
    limit = parse_limit(limit_megapixels)
    photo = _read(gallery.find(content, kind="sample"), limit)
    wanted = wanted_size(photo.shape[:2], size, limit)
    for path in (output, preview, evolution):
        if path and Path(path).suffix.lower() in WRITABLE:
            check_size(wanted, Path(path).suffix)  # refused before the long work
    targets = _targets(style or [], mask or [], photo.shape[:2], limit)
    judge = gatys.build_judge(settings, loss_weights, progress=sys.stderr.isatty() and not quiet)
    first = gatys.first_picture(photo, _paint_fast(photo, targets) if start == "fast" else None, settings)
    watched = _Watcher(settings, evolution, preview, quiet=quiet or as_json)
    try:
        with watched:
            for step in gatys.optimize(photo, targets, settings, judge, first):
                watched.see(step)
    except KeyboardInterrupt:
        if watched.last is None:
            raise
        typer.echo(f"restyle: interrupted after {watched.last.number} steps; the picture is written as it is", err=True)
    last = watched.last
    if last is None:
        raise RuntimeError("the optimiser made no step")
    picture = gatys.finish(last.pixels(), photo, settings)
    history = _history(style or [], mask or [], unusual_options(context, HISTORY), last.number)
    write_image(output, picture, history=history, overwrite=overwrite)
    if evolution:
        _write_evolution(evolution, watched.frames(), overwrite=overwrite)
    row = {
        "content": content, "output": output, "height": picture.shape[0], "width": picture.shape[1],
        "steps": last.number, "loss": last.loss, "content_loss": last.content, "style_loss": last.style,
    }  # fmt: skip
    if as_json:
        print_json(row)
    elif not quiet:
        typer.echo(
            f"{output}  {picture.shape[1]} x {picture.shape[0]}  {last.number} steps, "
            f"content {last.content:.3f}, style {last.style:.3f}"
        )


def _history(styles: Sequence[str], masks: Sequence[str], options: Sequence[str], steps: int) -> str:
    """The command that made the picture, without folders, for its metadata."""
    words = []
    for name, weight in map(parse_style, styles):
        words += ["--style", Path(name).name + (f":{weight:g}" if weight != 1 else "")]
    for path, inverse in map(parse_mask, masks):
        words += ["--mask", ("not:" if inverse else "") + path.name]
    command = shlex.join(["restyle", "optimize", "CONTENT", *words, *options, "-o", "OUTPUT"])
    return f"{command}  # restyle {restyle.__version__}, {steps} steps"


def _check_outputs(output: str, evolution: str | None, preview: str | None, *, overwrite: bool) -> None:
    """Refuse what cannot be written, before the long work."""
    from restyle.image import ANIMATED, WRITABLE, check_writable

    outputs = [one for one in (output, evolution, preview) if one]
    if len({os.path.realpath(path) for path in outputs}) < len(outputs):
        raise ValueError("--output, --evolution and --preview must be three different files")
    for path in (output, preview):
        if path:
            check_writable(path, overwrite=overwrite)
    if not evolution:
        return
    ending = Path(evolution).suffix.lower()
    if ending in ANIMATED:
        check_writable(evolution, overwrite=overwrite)
        return
    if ending in WRITABLE:
        raise UnknownNameError("format of moving pictures", ending, (*ANIMATED, ".mp4"))
    video = _video_writer()
    if ending not in video.CONTAINERS:
        raise UnknownNameError("format of moving pictures", ending, (*ANIMATED, *video.CONTAINERS))
    video.check_writable(evolution, overwrite=overwrite)


def _write_evolution(path: str, frames: Sequence[Pixels], *, overwrite: bool) -> None:
    """Frames of one size as a moving picture, or as a video."""
    from restyle.image import ANIMATED, write_animation

    if Path(path).suffix.lower() in ANIMATED:
        write_animation(path, frames, frame_s=float(FRAME_S), overwrite=overwrite)
        return
    video = _video_writer()
    from restyle.video.frames import Colour
    from restyle.video.reader import Clip, Frame

    clip = Clip(frames[0].shape[:2], 1 / FRAME_S, FRAME_S, Colour())
    with video.VideoWriter(path, clip, overwrite=overwrite) as writer:
        for number, pixels in enumerate(frames):
            writer.write(Frame(pixels, number, 1, float(number * FRAME_S)))


def _video_writer() -> ModuleType:
    try:
        from restyle.video import writer
    except ImportError as error:
        raise MissingExtraError("an evolution as a video", extra="video") from error
    return writer


def _read(path: Path, limit: int) -> Pixels:
    from restyle.image import lay_on_white

    return lay_on_white(restyle.read_image(path, limit_pixels=limit).pixels)


def _targets(styles: Sequence[str], masks: Sequence[str], size: tuple[int, int], limit: int) -> list[StyleTarget]:
    from restyle.controls.masks import MaskFile
    from restyle.learn.gatys import StyleTarget

    if not styles:
        raise ValueError("--style must be given at least once")
    if masks and len(masks) != len(styles):
        raise ValueError(f"--mask must be given once for each style or not at all, got {len(masks)} for {len(styles)}")
    named = [parse_style(text) for text in styles]
    wanted = [MaskFile(*parse_mask(mask)).read(size, limit_pixels=limit) for mask in masks]
    return [
        StyleTarget(_read(gallery.find(name), limit), weight, mask)
        for (name, weight), mask in zip(named, wanted or itertools.repeat(None, len(named)), strict=True)
    ]


def _paint_fast(photo: Pixels, targets: Sequence[StyleTarget]) -> Pixels:
    stylizer = restyle.Stylizer.load()
    styles = [stylizer.encode_style(target.painting) for target in targets]
    return stylizer.apply(photo, restyle.Style.mix(styles, [target.weight for target in targets]))


class _Watcher:
    """Shows the progress, and keeps what is wanted of it."""

    def __init__(self, settings: GatysSettings, evolution: str | None, preview: str | None, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.last: Step | None = None
        self._evolution, self._preview = evolution, preview
        self._kept: list[Pixels] = []
        self._every = 1
        self._bar = Progress(
            BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
            console=Console(stderr=True), disable=quiet or not sys.stderr.isatty(),
        )  # fmt: skip
        self._task = self._bar.add_task("", total=settings.steps * settings.scales)

    def __enter__(self) -> _Watcher:
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def see(self, step: Step) -> None:
        """Take note of a step."""
        self.last = step
        words = f"{step.size[1]} x {step.size[0]}  content {step.content:.3f}  style {step.style:.3f}"
        self._bar.update(self._task, completed=step.number, description=words)
        if self._preview and step.number % 10 == 0:
            restyle.write_image(self._preview, step.pixels(), overwrite=True)
        if self._evolution and step.number % self._every == 0:
            self._kept.append(step.pixels())
            if len(self._kept) == 2 * EVOLUTION_FRAMES:  # every other one, so that any length fits
                self._kept, self._every = self._kept[1::2], 2 * self._every

    def frames(self) -> list[Pixels]:
        """What was kept, at the size of the last, and the last for longer."""
        from restyle.image import resize

        if self.last is None:
            return []
        last = self.last.pixels()
        step = max(1, -(-len(self._kept) // EVOLUTION_FRAMES))
        return [resize(frame, last.shape[:2]) for frame in self._kept[::step]] + [last] * LAST_FRAMES
