"""``restyle video``: video files, painted. Needs the extra ``video``."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import restyle
from restyle import gallery
from restyle.cli.options import (
    FOLDERS,
    LOOK,
    Device,
    Json,
    KeepColors,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Seed,
    Size,
    Strength,
    StyleCrop,
    StyleSize,
    Threads,
    Tile,
    WorkSize,
    complete_styles,
    parse_mask,
    parse_size,
    parse_style,
)
from restyle.cli.report import print_json
from restyle.cli.signals import only_one_ctrl_c, stopping_like_ctrl_c
from restyle.errors import MissingExtraError, VideoError
from restyle.video import CALM, STREAMS

if TYPE_CHECKING:
    from restyle.stylizer import Stylizer
    from restyle.video.pipeline import Look, Outcome, Report, StyleTrack

ENCODING = "Encoding"


@only_one_ctrl_c()
def video(
    content: Annotated[str, typer.Argument(help="The video, a file.", show_default=False)],
    style: Annotated[
        list[str],
        typer.Option(
            help="A picture, a gallery name (see: restyle styles), or a video. Several are mixed, STYLE:WEIGHT weighs "
            "them; with @TIME, such as wave@4s, one becomes the other over time.",
            metavar="STYLE[:WEIGHT][@TIME]",
            autocompletion=complete_styles,
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write: .mp4, .m4v, .mov, .mkv or .webm.", show_default=False),
    ],
    strength: Strength = 1.0,
    calm: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, rich_help_panel=LOOK,
            help="Against flicker: 0 paints every frame by itself, 1 keeps strokes for as long as possible.",
        ),
    ] = CALM,
    mask: Annotated[
        str | None,
        typer.Option(
            help="Grey picture: paint where it is white; not:FILE for where it is black.", metavar="[not:]FILE",
            rich_help_panel=LOOK,
        ),
    ] = None,
    keep_colors: KeepColors = None,
    style_size: StyleSize = 512,
    style_crop: StyleCrop = None,
    seed: Seed = 0,
    work_size: WorkSize = None,
    size: Size = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Start here: seconds, or 1:30.", metavar="TIME", rich_help_panel=FOLDERS,
                     show_default="the beginning"),
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option("--to", help="End before this: seconds, or 1:30.", metavar="TIME", rich_help_panel=FOLDERS,
                     show_default="the end"),
    ] = None,
    sound: Annotated[
        str, typer.Option(help="copy, without encoding anew, or drop.", rich_help_panel=FOLDERS)
    ] = "copy",
    no_metadata: Annotated[
        bool,
        typer.Option(
            "--no-metadata", rich_help_panel=FOLDERS,
            help="Leave out what the video says of itself, such as where and when it was taken.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    preview: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", rich_help_panel=FOLDERS, show_default="off",
            help="Show the pictures while they are made, on a page at this port of this machine; 0 = any free one.",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="h264, hevc, vp9, av1, or FFmpeg's name of an encoder, such as h264_nvenc.",
            show_default="h264; vp9 for .webm", rich_help_panel=ENCODING,
        ),
    ] = None,
    crf: Annotated[
        float | None,
        typer.Option(
            min=0, max=63, help="Quality, 0 is best.", show_default="18 for h264, 20 hevc, 30 vp9 and av1",
            rich_help_panel=ENCODING,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Speed of the encoder, such as slow.", show_default="a fast one", rich_help_panel=ENCODING),
    ] = None,
    pixel_format: Annotated[
        str,
        typer.Option(help="yuv420p plays everywhere, yuv444p keeps odd sides and, without calm, all colour.",
                     rich_help_panel=ENCODING),
    ] = "yuv420p",
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(
            help="An option of the encoder's own; may be repeated.", metavar="NAME=VALUE", show_default=False,
            rich_help_panel=ENCODING,
        ),
    ] = None,
    model: Model = "fast",
    device: Device = "auto",
    precision: Precision = "fastest",
    threads: Threads = None,
    tile: Tile = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Repaint a video in the style of other pictures; sound and subtitles are copied."""
    try:
        from restyle.video.pipeline import Look, stylize_video
        from restyle.video.reader import check_cut
        from restyle.video.style_video import style_pictures
        from restyle.video.writer import Encoding, check_sound, check_writable
    except ImportError as error:
        raise MissingExtraError("video", extra="video") from error
    from restyle.stylizer import Stylizer, check_options

    # Everything that can be refused at once is refused before the model is loaded.
    check_options(strength=strength, keep_colors=keep_colors, work_size=work_size, tile=tile, style_size=style_size,
                  style_crop=style_crop)  # fmt: skip
    check_sound(sound)
    if crf is not None and not math.isfinite(crf):
        raise typer.BadParameter(f"{crf} is no quality", param_hint="'--crf'")
    first, last = _parse_time(start, "--from"), _parse_time(stop, "--to")
    if last is not None and last <= (first or 0):
        raise typer.BadParameter(f"{stop} does not lie after --from, which is {start or 0}", param_hint="'--to'")
    check_cut(first, last)
    check_writable(output, overwrite=overwrite)
    encoding = Encoding(codec, crf, preset, pixel_format, _parse_options(encoder_option or []))
    encoding.chosen_for(output)
    if not os.path.exists(content):
        if "://" in content:
            raise VideoError(
                f"{content!r} is an address, not a file: fetch it first; live pictures are for: restyle camera"
            )
        raise VideoError(f"there is no file {content!r}")
    words = [_parse_key(text) for text in style]
    wanted_size = parse_size(size)
    paintings = [_read_style(name, at, words) for at, name, _ in words]
    grey = None if mask is None else _read_mask(mask)
    stylizer = Stylizer.load(model, device=device, precision=precision, threads=threads, streams=STREAMS)
    encode = partial(stylizer.encode_style, size=style_size, crop=style_crop, seed=seed)
    styles = []
    for (at, name, weight), pixels in zip(words, paintings, strict=True):
        if pixels is not None:
            styles.append((at or 0.0, weight, encode(pixels)))
            continue
        with _progress(Path(name).name, quiet=quiet or as_json) as report:
            for seconds, picture in style_pictures(name, at or 0.0, _length(content, first, last)):
                styles.append((seconds, weight, encode(picture, cache=False)))  # nobody asks for these again
                if report:
                    report(len(styles), None)
    track = _track(styles)
    look = Look(track, strength, calm, keep_colors, work_size, grey, tile)
    with (
        stopping_like_ctrl_c(),
        _page(preview, quiet=quiet) as show,
        _progress(Path(content).name, quiet=quiet or as_json) as report,
    ):
        outcome = stylize_video(
            stylizer, content, output, look, start=first, stop=last, size=wanted_size, encoding=encoding,
            sound=sound, metadata=not no_metadata, overwrite=overwrite, report=report, show=show,
        )  # fmt: skip
    _tell(outcome, content, output, look, stylizer, as_json=as_json, quiet=quiet)
    if outcome.damaged:
        if not as_json:
            typer.echo(f"restyle: {content!r} is damaged: {'; '.join(outcome.notes)}", err=True)
        raise typer.Exit(3)


def _tell(
    outcome: Outcome, content: str, output: Path, look: Look, stylizer: Stylizer, *, as_json: bool, quiet: bool
) -> None:
    height, width = outcome.size
    rate = outcome.frames / outcome.seconds
    if as_json:
        print_json(
            {
                "model": stylizer.card.identity, "device": stylizer.device, "engine": stylizer.engine,
                "precision": stylizer.precision, "content": content, "output": str(output),
                "height": height, "width": width, "frames": outcome.frames, "encoder": outcome.encoder,
                "strength": look.strength, "calm": look.calm, "seconds": round(outcome.seconds, 3),
                "frames_per_second": round(rate, 2), "damaged": outcome.damaged, "notes": outcome.notes,
            }
        )  # fmt: skip
    elif not quiet:
        figures = f"{width} x {height}  {outcome.frames} frames  {outcome.seconds:.1f} s  {rate:.1f} frames/s"
        typer.echo("\n  ".join([f"{output}  {figures}", *outcome.notes]))


def _parse_key(text: str) -> tuple[float | None, str, float]:
    """``wave:2@4s`` to (4.0, ``wave``, 2.0); an @ that no time follows belongs to the name."""
    name, sign, at = text.rpartition("@")
    if not sign or os.path.exists(text) or not re.fullmatch(_TIME, at):
        return (None, *parse_style(text))
    return (_parse_time(at, "--style"), *parse_style(name))


_TIME = r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)s?"


def _parse_time(text: str | None, option: str) -> float | None:
    """``90``, ``90s``, ``1:30`` and ``0:01:30.0`` to 90.0."""
    if text is None:
        return None
    match = re.fullmatch(_TIME, text)
    if not match:
        raise typer.BadParameter(f"{text!r} is no time, such as 90, 4.5s or 1:30", param_hint=f"'{option}'")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _parse_options(words: list[str]) -> dict[str, str]:
    options = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise typer.BadParameter(f"{word!r} is not NAME=VALUE", param_hint="'--encoder-option'")
        options[name] = value
    return options


def _read_style(name: str, at: float | None, words: list[tuple[float | None, str, float]]) -> Any:
    """The pixels of a style picture; None for a style video, which must be readable and the last of all styles."""
    from restyle.video.reader import VideoReader
    from restyle.video.style_video import is_style_video

    if not is_style_video(name):
        return restyle.read_image(gallery.find(name)).pixels
    if sum((time or 0.0) >= (at or 0.0) for time, _, _ in words) > 1:
        raise ValueError(
            f"the style {name!r} is a video, so no other style may begin at its time, {at or 0:g} s, or later"
        )
    VideoReader(name).close()
    return None


def _length(content: str, start: float | None, stop: float | None) -> float | None:
    """Seconds of what is painted of a video, if its file says them."""
    from restyle.video.reader import VideoReader

    with VideoReader(content, start=start, stop=stop) as reader:
        return reader.seconds


def _track(styles: list[tuple[float, float, Any]]) -> StyleTrack:
    """Styles of one time are mixed."""
    from restyle.stylizer import Style
    from restyle.video.pipeline import StyleTrack

    timed = sorted(styles, key=lambda key: key[0])
    keys = []
    for at, group in groupby(timed, key=lambda key: key[0]):
        members = list(group)
        keys.append((at, Style.mix([style for _, _, style in members], [weight for _, weight, _ in members])))
    return StyleTrack(keys)


def _read_mask(text: str) -> Any:
    from restyle.controls.masks import read_mask

    path, inverse = parse_mask(text)
    picture = restyle.read_image(path).pixels
    return read_mask(picture, picture.shape[:2], inverse=inverse)


@contextmanager
def _page(port: int | None, *, quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    """The page of ``--preview``, and what shows a picture there."""
    if port is None:
        yield None
        return
    from restyle.video.outlets import MjpegPage

    page = MjpegPage(port)
    if not quiet:
        typer.echo(f"preview: http://127.0.0.1:{page.port}/", err=True)
    try:
        yield page.write
    finally:
        page.close()


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Report | None]:
    """A bar with the rate and the time that remains, in front of a person."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None, rate="")
        began = time.monotonic()

        def report(done: int, total: int | None) -> None:
            rate = done / max(1e-6, time.monotonic() - began)
            # A file's own count can be wrong.
            progress.update(task, completed=done, total=total and max(total, done), rate=f"{rate:.1f} frames/s")

        yield report
