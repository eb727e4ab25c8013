"""The square between four styles, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restyle.style import Style
from restyle.stylizer import Stylizer

SIDE = 5
"""Pictures in a row and in a column."""

GAP = 4
"""White pixels between them."""


def square_size(size: tuple[int, int], side: int = SIDE) -> tuple[int, int]:
    """The (height, width) of the square whose pictures have this (height, width)."""
    height, width = size
    return side * (height + GAP) - GAP, side * (width + GAP) - GAP


def paint_square(
    stylizer: Stylizer,
    photo: NDArray[np.uint8],
    styles: Sequence[Style],
    strength: float = 1.0,
    *,
    side: int = SIDE,
    **options: Any,
) -> NDArray[np.uint8]:
    """Paint a photograph in four styles and all that lies between them.

    Args:
        stylizer: Paints.
        photo: (H, W, 3 or 4) uint8.
        styles: Four, for the corners: top left, top right, bottom left, bottom right.
        strength: As for ``Stylizer.apply``.
        side: Pictures in a row and in a column, at least 2.
        options: What else ``Stylizer.apply`` takes.

    Returns:
        (side * (H + GAP) - GAP, side * (W + GAP) - GAP, 3 or 4) uint8.

    Raises:
        ValueError: not four styles, a side below 2, or as for ``Stylizer.apply``.

    Source:
        Huang & Belongie 2017, arXiv 1703.06868, eq. 15 and the figure of style interpolation.
    """
    if len(styles) != 4 or side < 2:
        raise ValueError(f"a square needs four styles and a side of at least 2, got {len(styles)} and {side}")
    height, width, channels = photo.shape
    square = np.full((*square_size((height, width), side), channels), 255, np.uint8)
    for row in range(side):
        for column in range(side):
            down, right = row / (side - 1), column / (side - 1)
            weights = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
            top, left = row * (height + GAP), column * (width + GAP)
            painted = stylizer.apply(photo, Style.mix(styles, weights), strength, **options)
            square[top : top + height, left : left + width] = painted
    return square
