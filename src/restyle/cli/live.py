"""``restyle camera``: live pictures, painted. Needs the extra ``video``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import restyle
from restyle import gallery
from restyle.cli.options import (
    FOLDERS,
    LOOK,
    Device,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Seed,
    Strength,
    StyleCrop,
    StyleSize,
    Threads,
    complete_styles,
)
from restyle.cli.signals import stopping_like_ctrl_c
from restyle.errors import MissingExtraError

if TYPE_CHECKING:
    from restyle.video.camera import Camera, Painted, StyleSwitch

OUTPUTS = ("page", "stdout", "none")


def camera(
    style: Annotated[
        list[str],
        typer.Option(
            help="A picture or a gallery name. Of several, the page's button shows the next.", metavar="STYLE",
            autocompletion=complete_styles, show_default=False,
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(help="Number of a webcam, an address such as rtsp://..., a file to play endlessly, or - ."),
    ] = "0",
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="page, stdout (raw RGB pictures for FFmpeg or OBS) or none.",
                     rich_help_panel=FOLDERS),
    ] = "page",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page; 0 = any free one.", rich_help_panel=FOLDERS)
    ] = 8010,
    record: Annotated[
        Path | None,
        typer.Option(help="Also write what is shown to this video file.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after this time.", show_default="Ctrl-C", rich_help_panel=FOLDERS)
    ] = None,
    overwrite: Overwrite = False,
    strength: Strength = 1.0,
    calm: Annotated[float, typer.Option(min=0.0, max=1.0, help="Against flicker.", rich_help_panel=LOOK)] = 0.85,
    style_size: StyleSize = 512,
    style_crop: StyleCrop = None,
    seed: Seed = 0,
    size: Annotated[
        int | None,
        typer.Option(min=16, help="Shorter side of the pictures in pixels.", show_default="the camera's",
                     rich_help_panel=LOOK),
    ] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="Swap left and right.", rich_help_panel=LOOK)] = False,
    fps: Annotated[
        float | None,
        typer.Option(min=1, help="Hold so many pictures a second by painting smaller.", show_default="off",
                     rich_help_panel=LOOK),
    ] = None,
    model: Model = "fast",
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Repaint live pictures in the style of other pictures, until Ctrl-C."""
    try:
        from restyle.video.camera import Camera, StyleSwitch, paint_live
        from restyle.video.temporal import check_calm
        from restyle.video.writer import check_writable
    except ImportError as error:
        raise MissingExtraError("camera", extra="video") from error
    from restyle.stylizer import Stylizer, check_options

    check_options(strength=strength, style_size=style_size, style_crop=style_crop)
    check_calm(calm)
    if output not in OUTPUTS:
        raise typer.BadParameter(f"{output!r} is none of {', '.join(OUTPUTS)}", param_hint="'--output'")
    if record:
        check_writable(record, overwrite=overwrite)
    paintings = [restyle.read_image(gallery.find(name)).pixels for name in style]

    def say(sentence: str) -> None:
        if not quiet:
            typer.echo(sentence, err=True)

    with stopping_like_ctrl_c(), Camera(source, size=size, mirror=mirror, tell=say) as lens, ExitStack() as stack:
        stylizer = Stylizer.load(model, device=device, precision=precision, threads=threads)
        styles = StyleSwitch(
            [stylizer.encode_style(one, size=style_size, crop=style_crop, seed=seed) for one in paintings]
        )
        outlets = _open_outlets(output, port, record, lens, styles, stack, overwrite=overwrite, say=say)
        live = paint_live(lens, stylizer, styles, strength=strength, calm=calm, rate=fps)
        with suppress(KeyboardInterrupt, BrokenPipeError):
            _show(live, outlets, seconds, quiet=quiet)


def _open_outlets(
    output: str, port: int, record: Path | None, lens: Camera, styles: StyleSwitch, stack: ExitStack, *,
    overwrite: bool, say: Callable[[str], None],
) -> list[Any]:  # fmt: skip
    from restyle.video.outlets import MjpegPage, RawFrames, Recording

    shot = lens.newest()
    height, width = shot.pixels.shape[:2] if shot else (0, 0)
    outlets: list[Any] = []
    if record:
        outlets.append(Recording(record, (height, width), overwrite=overwrite))
    if output == "page":
        outlets.append(MjpegPage(port, lambda: styles.next(time.monotonic())))
        say(f"http://127.0.0.1:{outlets[-1].port}/  {width} x {height}; Ctrl-C stops")
    if output == "stdout":
        outlets.append(RawFrames(sys.stdout.buffer))
        say(f"rawvideo rgb24 {width}x{height} on standard output; Ctrl-C stops")
    for outlet in outlets:
        stack.callback(outlet.close)
    return outlets


def _show(live: Iterable[Painted], outlets: list[Any], seconds: float | None, *, quiet: bool) -> None:
    """Hand pictures on, and tell of rate and latency every two seconds in front of a person."""
    began = told = 0.0
    latencies: list[float] = []
    for painted in live:
        began = began or time.monotonic()  # the first picture waits for the network to be compiled
        for outlet in outlets:
            outlet.write(painted.pixels)
        latencies.append(painted.latency)
        now = time.monotonic()
        if now - told >= 2 and not quiet and sys.stderr.isatty():
            rate, worst = len(latencies) / (now - told), 1000 * max(latencies)
            typer.echo(f"{rate:.1f} pictures/s  latency up to {worst:.0f} ms  painted at {painted.side}", err=True)
            told, latencies = now, []
        if seconds is not None and now - began >= seconds:
            return
