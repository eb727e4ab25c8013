"""A painting made small, brought to full size: large strokes, and the photograph's edges sharp.

Around every point of the small pictures the painting is written as a linear map of the photograph's colours. The maps
are stretched to full size and applied to the large photograph, whose detail thereby appears in the painting's colours.

Source:
    He & Sun 2015, Fast Guided Filter, arXiv 1505.00996, with the photograph's three colours as guide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restyle.image import fit_short_side, resize

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

RADIUS = 1
"""Of the windows, in small pixels. Larger ones follow the photograph so well that strokes vanish (tried: 1, 2, 4)."""

EPS = 1e-3
"""Spread of colours, squared and in units of the 0..1 range, below which a window counts as flat."""

_ROWS = 64
"""Rows of the large picture that are made at a time."""


def at_work_size(photo: Pixels, work_size: int | None) -> Pixels:
    """The photograph, its short side made ``work_size`` pixels long; itself where None is wanted or it is no longer."""
    if work_size is None or work_size >= min(photo.shape[:2]):
        return photo
    return resize(photo, fit_short_side(photo.shape[:2], work_size))


def enlarge(painted: Pixels, small: Pixels, photo: Pixels) -> Pixels:
    """Bring a small painting to the photograph's size.

    Args:
        painted: (h, w, 3) uint8.
        small: (h, w, 3) uint8, the photograph at that size.
        photo: (H, W, 3) uint8.

    Returns:
        (H, W, 3) uint8.
    """
    maps = _linear_maps(_floats(small), _floats(painted))
    height, width = photo.shape[:2]
    result = np.empty_like(photo)
    upper, lower, down = _between(maps.shape[1], height)
    left, right, across = _between(maps.shape[2], width)
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height))
        line = maps[:, upper[rows]]
        line += down[rows, None] * (maps[:, lower[rows]] - line)
        here, further = np.take(line, left, 2), np.take(line, right, 2)
        here += across * (further - here)
        colours, changed = _floats(photo[rows]).transpose(2, 0, 1), here[9:]
        for channel in range(3):
            changed += colours[channel] * here[3 * channel : 3 * channel + 3]
        result[rows] = np.rint(changed * 255).clip(0, 255).transpose(1, 2, 0)
    return result


def _linear_maps(guide: Floats, painted: Floats) -> Floats:
    """(12, h, w): at each point a 3x3 matrix and a shift that make the painting's colours out of the guide's."""
    height, width = guide.shape[:2]

    def covariance(other: Floats) -> Floats:
        products = (guide[..., :, None] * other[..., None, :]).reshape(height, width, 9)
        means = _mean_around(guide)[..., :, None] * _mean_around(other)[..., None, :]
        return _mean_around(products).reshape(height, width, 3, 3) - means

    matrix = np.linalg.solve(covariance(guide) + EPS * np.eye(3, dtype=np.float32), covariance(painted))
    shift = _mean_around(painted) - np.einsum("hwi,hwij->hwj", _mean_around(guide), matrix)
    maps = _mean_around(np.concatenate([matrix.reshape(height, width, 9), shift], axis=2))
    return np.ascontiguousarray(maps.transpose(2, 0, 1))


def _mean_around(maps: Floats) -> Floats:
    """Mean over the window around each point; the border is repeated."""
    for axis in (0, 1):
        padding = [(RADIUS, RADIUS) if one == axis else (0, 0) for one in range(3)]
        padded = np.pad(maps, padding, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * RADIUS + 1, axis)
        maps = windows.mean(-1, dtype=np.float32)
    return maps


def _between(small: int, large: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each of many points, which two of few it lies between, and how near the second."""
    place = ((np.arange(large) + 0.5) * small / large - 0.5).clip(0, small - 1)
    first = np.floor(place).astype(np.int64)
    return first, np.minimum(first + 1, small - 1), (place - first).astype(np.float32)


def _floats(pixels: Pixels) -> Floats:
    return pixels.astype(np.float32) / np.float32(255)
