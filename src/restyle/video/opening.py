"""Opening a video file: what it is, when it begins, which of its streams are the pictures."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition

from restyle.errors import VideoError

MOST_BOXES = 1000
"""So many parts of a broken MP4 are looked at: a harmful file could have millions."""


def open_container(path: str | Path, formats: str | None = None) -> InputContainer:
    """Open a file.

    Args:
        path: The file.
        formats: FFmpeg's names of the only containers that are taken; None = all.

    Raises:
        VideoError: there is none, it may not be read, or it is not a video.
    """
    name = str(path)
    if not Path(path).exists():
        raise VideoError(f"there is no file {name!r}")
    if Path(path).is_dir():
        raise VideoError(f"{name!r} is a folder, not a video")
    try:
        # The prefix keeps FFmpeg from taking a file's name for an address.
        options = {"format_whitelist": formats} if formats else {}
        container = av.open(f"file:{name}", metadata_errors="replace", container_options=options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise VideoError(f"{name!r} may not be read") from error
        if _lost_its_index(Path(path)):
            raise VideoError(
                f"{name!r} is an MP4 file that breaks off before its index: it was not copied whole, "
                "or its recording was never finished"
            ) from error
        raise VideoError(f"{name!r} is not a video that can be read") from error
    if container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty"):
        container.close()
        raise VideoError(f"{name!r} is a picture or a text, not a video")
    return container


def find_origin(container: InputContainer) -> Fraction:
    """When a file begins, in seconds by its own clock, exactly: as the container tells it, it is rounded."""
    told = Fraction(max(0, container.start_time or 0), av.time_base)
    starts = (s.start_time * s.time_base for s in container.streams if s.start_time is not None and s.time_base)
    return min((start for start in starts if abs(start - told) <= Fraction(1, av.time_base)), default=told)


def find_pictures(container: InputContainer, name: str) -> Any:
    """The stream of moving pictures; ``name`` is what messages call the file.

    Raises:
        VideoError: there is none, or none that FFmpeg can decode.
    """
    found = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not found:
        raise VideoError(f"{name!r} has no pictures that move: there is no video stream in it")
    if found[0].codec_context is None:
        raise VideoError(f"the pictures of {name!r} are in a format that FFmpeg cannot decode")
    return found[0]


def _lost_its_index(path: Path) -> bool:
    """Whether this is an MP4 or MOV without the box ``moov``, which most programs write last."""
    end, at = path.stat().st_size, 0
    with open(path, "rb") as file:
        for number in range(MOST_BOXES):
            file.seek(at)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4]), head[4:8]
            if kind == b"moov" or (number == 0 and kind != b"ftyp"):
                return False
            if length == 1:  # a long one: the length follows
                length = int.from_bytes(head[8:])
            at += length
            if length < 8 or at >= end:  # 0: up to the file's end
                return True
    return False
