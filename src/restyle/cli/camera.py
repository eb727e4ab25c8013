"""``restyle camera``: live pictures, painted. Needs the extra ``video``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import restyle
from restyle import gallery
from restyle.cli.chip import is_chip, open_chip
from restyle.cli.keys import listening_for_keys
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
from restyle.errors import DeviceError, MissingExtraError
from restyle.video import CALM

if TYPE_CHECKING:
    from restyle.stylizer import Stylizer
    from restyle.video.camera import Camera, Painted, StyleSwitch
    from restyle.video.remote import Remote
    from restyle.video.window import Window

OUTPUTS = ("window", "page", "virtual", "stdout", "none")

TOLD_S = 2.0
"""How often rate and latency are told."""


def camera(
    style: Annotated[
        list[str],
        typer.Option(
            help="A picture or a gallery name. Of several, the key n shows the next.", metavar="STYLE",
            autocompletion=complete_styles, show_default=False,
        ),
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            show_default="0",
            help="Number of a webcam, an address such as rtsp://..., a file to play endlessly, or - . oak is an OAK-1 "
            "that paints by itself, oak:FOLDER with what restyle export wrote; replay:FILE stands in for it.",
        ),
    ] = None,
    source_option: Annotated[str | None, typer.Option("--source", help="The same.", show_default=False)] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="window; page; virtual, a camera for other programs, or virtual:DEVICE; "
                     "stdout (raw RGB pictures for FFmpeg or OBS); or none.", rich_help_panel=FOLDERS,
                     show_default="window where there is a display, else page"),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page; 0 = any free one.", rich_help_panel=FOLDERS)
    ] = 8010,
    record: Annotated[
        Path | None,
        typer.Option(help="Also write what is shown to this video file.", show_default=False, rich_help_panel=FOLDERS),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where snapshots go, and recordings that have no name.", rich_help_panel=FOLDERS)
    ] = Path("."),
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after this time.", show_default="Ctrl-C", rich_help_panel=FOLDERS)
    ] = None,
    overwrite: Overwrite = False,
    strength: Strength = 1.0,
    calm: Annotated[float, typer.Option(min=0.0, max=1.0, help="Against flicker.", rich_help_panel=LOOK)] = CALM,
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
    precision: Precision = "fastest",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Repaint live pictures in the style of other pictures, until Ctrl-C.

    Keys, in the window, in the terminal and on the page: n next style, + stronger, - weaker, m mirror, s snapshot,
    r record, q quit.
    """
    try:
        from restyle.video.camera import Camera, StyleSwitch
        from restyle.video.remote import KEYS, Remote
    except ImportError as error:
        raise MissingExtraError("camera", extra="video") from error
    from restyle.stylizer import Stylizer, check_options

    if source and source_option:
        raise typer.BadParameter(f"the source is {source!r} already; give one", param_hint="'--source'")
    check_options(strength=strength, style_size=style_size, style_crop=style_crop)
    _check(calm, {"--fps": fps, "--seconds": seconds}, output, folder, record, overwrite=overwrite)
    paintings = [restyle.read_image(gallery.find(name)).pixels for name in style]

    window: Window | None = None

    def say(sentence: str | None) -> None:
        if sentence and not quiet:
            typer.echo(sentence, err=True)
        if sentence and window:
            window.tell(sentence)

    source = source or source_option or "0"
    with stopping_like_ctrl_c(), ExitStack() as stack:
        lens: Any = None
        if not is_chip(source):
            lens = stack.enter_context(Camera(source, size=size, mirror=mirror, tell=say))
        stylizer = Stylizer.load(model, device=device, precision=precision, threads=threads)
        styles = StyleSwitch(
            [stylizer.encode_style(one, size=style_size, crop=style_crop, seed=seed) for one in paintings]
        )
        if lens is None:
            chip = open_chip(
                source, model, stylizer, styles, strength=strength, size=size, fps=fps, mirror=mirror, say=say
            )
            lens = stack.enter_context(chip)
        remote = Remote(lens, styles, strength=strength, recording=record is not None)

        def press(key: str) -> str | None:
            answer = remote.press(key.lower())
            if remote.stopped and isinstance(lens, Camera):
                lens.close()  # or a lost source would be waited for
            return answer

        recorder = _open_recorder(record, folder, lens, remote, stack, say, overwrite=overwrite)
        window = _open_window(output, lens, press, stack, say)
        shown = [window] if window else _open_outlets(output or "page", port, lens, press, stack, say)
        if source != "-" and stack.enter_context(listening_for_keys(lambda key: say(press(key)))):
            say(", ".join(f"{key} {word.lower()}" for key, word in KEYS.items()))
        live = _painted(lens, stylizer, styles, remote, calm, fps, window)
        tell = _rates(window, quiet=quiet)
        with suppress(KeyboardInterrupt, BrokenPipeError):
            _show(live, [recorder, *shown], remote, folder, seconds, say, tell)


def _check(
    calm: float,
    numbers: dict[str, float | None],
    output: str | None,
    folder: Path,
    record: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Refuse what cannot be, before the camera is opened."""
    from restyle.video.temporal import check_calm
    from restyle.video.writer import check_writable

    check_calm(calm)
    for name, number in numbers.items():
        if number is not None and not math.isfinite(number):
            raise typer.BadParameter(f"{number} is no number to count with", param_hint=f"'{name}'")
    kind, colon, _ = (output or "page").partition(":")
    if kind not in OUTPUTS or (colon and kind != "virtual"):
        raise typer.BadParameter(f"{output!r} is none of {', '.join(OUTPUTS)}", param_hint="'--output'")
    if not folder.is_dir():
        raise typer.BadParameter(f"there is no folder {str(folder)!r}", param_hint="'--folder'")
    if record:
        check_writable(record, overwrite=overwrite)


def _painted(
    lens: Any, stylizer: Stylizer, styles: StyleSwitch, remote: Remote, calm: float, fps: float | None,
    window: Window | None,
) -> Iterable[Painted]:  # fmt: skip
    """The pictures; an OAK-1 paints by itself."""
    from restyle.video.camera import Camera, paint_live

    if isinstance(lens, Camera):
        idle = window.update if window else lambda: None
        return paint_live(lens, stylizer, styles, strength=lambda: remote.strength, calm=calm, rate=fps, idle=idle)
    painted: Iterable[Painted] = lens.painted(lambda: remote.strength)
    return painted


def _size(lens: Camera) -> tuple[int, int]:
    shot = lens.newest()
    return (0, 0) if shot is None else (shot.pixels.shape[0], shot.pixels.shape[1])


def _stamp() -> str:
    """A file's name of the moment."""
    return time.strftime("restyle-%Y%m%d-%H%M%S")


def _open_recorder(
    record: Path | None, folder: Path, lens: Camera, remote: Remote, stack: ExitStack, say: Callable[[str], None], *,
    overwrite: bool,
) -> Any:  # fmt: skip
    """What records, whenever that is wanted."""
    from restyle.video.outlets import Recorder, free_path

    film = record or free_path(folder / f"{_stamp()}.mp4")
    recorder = Recorder(film, _size(lens), lambda: remote.recording, overwrite=overwrite, tell=say)
    stack.callback(recorder.close)
    return recorder


def _open_window(
    output: str | None, lens: Camera, press: Callable[[str], str | None], stack: ExitStack,
    say: Callable[[str], None],
) -> Window | None:  # fmt: skip
    """A window, if one was asked for, or nothing was and there can be one."""
    from restyle.video.remote import KEYS
    from restyle.video.window import Window

    if output not in (None, "window"):
        return None
    try:
        window = Window(_size(lens), press, KEYS)
    except DeviceError as error:
        if output:
            raise
        say(f"{error}; showing a page instead")
        return None
    stack.callback(window.close)
    height, width = _size(lens)
    say(f"window  {width} x {height}; q or Ctrl-C stops")
    return window


def _open_outlets(
    output: str, port: int, lens: Camera, press: Callable[[str], str | None], stack: ExitStack,
    say: Callable[[str], None],
) -> list[Any]:  # fmt: skip
    """Where the pictures go, besides the recording and a window."""
    from restyle.video.outlets import MjpegPage, RawFrames, VirtualCamera
    from restyle.video.remote import KEYS

    height, width = _size(lens)
    kind, _, device = output.partition(":")
    outlets: list[Any] = []
    if kind == "page":
        outlets.append(MjpegPage(port, press, KEYS))
        say(f"http://127.0.0.1:{outlets[-1].port}/  {width} x {height}; Ctrl-C stops")
    if kind == "virtual":
        outlets.append(VirtualCamera((height, width), device or None))
        say(f"virtual camera {outlets[-1].name}  {width} x {height}; Ctrl-C stops")
    if kind == "stdout":
        outlets.append(RawFrames(sys.stdout.buffer))
        say(f"rawvideo rgb24 {width}x{height} on standard output; Ctrl-C stops")
    for outlet in outlets:
        stack.callback(outlet.close)
    return outlets


def _show(
    live: Iterable[Painted], outlets: list[Any], remote: Remote, folder: Path, seconds: float | None,
    say: Callable[[str], None], tell: Callable[[Painted], None],
) -> None:  # fmt: skip
    """Hand pictures on, until there are no more, the time is up or somebody says stop."""
    from restyle.video.outlets import free_path

    began = 0.0
    for painted in live:
        began = began or time.monotonic()  # the first picture waits for the network to be compiled
        for outlet in outlets:
            outlet.write(painted.pixels)
        if remote.take_snapshot():
            picture = free_path(folder / f"{_stamp()}.png")
            restyle.write_image(picture, painted.pixels)
            say(f"snapshot {picture}")
        tell(painted)
        if remote.stopped or (seconds is not None and time.monotonic() - began >= seconds):
            return


def _rates(window: Window | None, *, quiet: bool) -> Callable[[Painted], None]:
    """What tells of rate and latency every two seconds, in the window and in front of a person."""
    told = time.monotonic()
    latencies: list[float] = []

    def tell(painted: Painted) -> None:
        nonlocal told
        latencies.append(painted.latency)
        now = time.monotonic()
        if now - told < TOLD_S:
            return
        rate, worst = len(latencies) / (now - told), 1000 * max(latencies)
        words = f"{rate:.1f} pictures/s  latency up to {worst:.0f} ms  painted at {painted.side}"
        if window:
            window.tell(words)
        if not quiet and sys.stderr.isatty():
            typer.echo(words, err=True)
        told = now
        latencies.clear()

    return tell
