"""How a wanted size is written: ``512`` or ``480x640``, height before width."""

from __future__ import annotations

import re

from restyle.errors import LimitError
from restyle.image.arrays import fit_short_side
from restyle.image.reading import LIMIT_PIXELS

SIZE_PATTERN = r"^([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?$"


def parse_size(text: str) -> int | tuple[int, int]:
    """``512`` to 512, the shorter side; ``480x640`` to (480, 640).

    Raises:
        ValueError: it is neither.
    """
    match = re.fullmatch(SIZE_PATTERN, text)
    if not match:
        raise ValueError(f"size {text!r} is neither N nor HxW, such as 512 or 480x640")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


def wanted_size(
    size: tuple[int, int], wanted: int | tuple[int, int] | None, limit_pixels: int = LIMIT_PIXELS
) -> tuple[int, int]:
    """The (height, width) that a picture of ``size`` gets: ``wanted`` as from ``parse_size``; None leaves it.

    Raises:
        LimitError: more than ``limit_pixels`` pixels are wanted.
    """
    if wanted is None:
        return size
    height, width = fit_short_side(size, wanted) if isinstance(wanted, int) else wanted
    if height * width > limit_pixels:
        raise LimitError(f"size asks for {height} x {width} pixels, which is beyond the limit of {limit_pixels:,}")
    return height, width
