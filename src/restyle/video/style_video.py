"""A video as the style of another: what it shows at a time is the style at that time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restyle.errors import VideoError
from restyle.video.reader import Frame, VideoReader
from restyle.video.writer import CONTAINERS

STEP_S = 0.5
"""Seconds from one look at a style video to the next; between them one style becomes the other, as in a track."""


def is_style_video(name: str) -> bool:
    """Whether a style is a video, told by its ending: one of those that we write."""
    return Path(name).suffix.lower() in CONTAINERS


def style_pictures(path: str | Path, at: float, end: float | None) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The pictures of a style video, ``STEP_S`` apart.

    Args:
        path: See ``VideoReader``.
        at: When it begins, in seconds from the start of the output.
        end: How long the output is, in seconds, if that is known: what comes later is not read.

    Yields:
        Seconds from the start of the output, and (H, W, 3) uint8; one picture at least.

    Raises:
        VideoError: it cannot be read, no picture of it can be decoded, or, once all are read, it is damaged.
        LimitError: see ``VideoReader``.
    """
    due = 0.0
    with VideoReader(path) as reader:
        for item in reader:
            if not isinstance(item, Frame) or item.time < due:
                continue
            yield at + item.time, item.pixels
            due = item.time + STEP_S
            if end is not None and at + item.time >= end:
                break
    if not due:
        raise VideoError(f"no picture of {str(path)!r} can be decoded")
    if reader.damaged:
        raise VideoError(f"the style {str(path)!r} is damaged: {'; '.join(reader.notes)}")
