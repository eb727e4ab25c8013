"""Huge pictures: where to cut, and how the statistics of the pieces become those of the whole.

A tile is painted from an outer window that reaches a halo beyond what is kept of it. With the whole picture's
statistics given, a halo as wide as the network sees, and windows that begin on the network's grid, each kept pixel is
what painting the whole picture would give: there is no seam to hide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tile:
    """One piece of a picture.

    Attributes:
        outer: (rows, columns) that are painted.
        inner: (rows, columns) that are kept; the inner windows of all tiles cover each pixel once.
    """

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of ``outer``."""
        rows, columns = (window.stop - window.start for window in self.outer)
        return rows, columns

    @property
    def kept(self) -> tuple[slice, slice]:
        """``inner`` counted from the corner of ``outer``."""
        rows, columns = (
            slice(inner.start - outer.start, inner.stop - outer.start)
            for outer, inner in zip(self.outer, self.inner, strict=True)
        )
        return rows, columns


def plan_tiles(size: tuple[int, int], *, tile: int, halo: int, grid: int) -> list[Tile]:
    """Cut a picture into tiles, row by row.

    Args:
        size: (height, width) of the picture.
        tile: Largest side of the inner windows, rounded up to a multiple of ``grid``.
        halo: How far the outer windows reach beyond, at least; less only where the picture ends.
        grid: The outer windows begin at multiples of this.

    Returns:
        The tiles. Their outer windows have at most two different heights and widths, so that few sizes are compiled.

    Raises:
        ValueError: a number that is too small.
    """
    if tile < 1 or halo < 0 or grid < 1 or min(size) < 1:
        raise ValueError(
            f"tile and grid must be at least 1, halo at least 0, got tile {tile}, halo {halo}, grid {grid} for {size}"
        )
    rows, columns = (_cut(length, tile, halo, grid) for length in size)
    return [Tile((top, left), (inner_top, inner_left)) for top, inner_top in rows for left, inner_left in columns]


def merge_statistics(statistics: Sequence[NDArray[np.float32]], weights: Sequence[float]) -> NDArray[np.float32]:
    """Statistics of a whole from those of its parts.

    Args:
        statistics: For each part (N, 2S): S means, then S deviations.
        weights: For each part its number of pixels.

    Returns:
        (N, 2S) float32.
    """
    share = np.array(weights, np.float64)[:, None, None] / np.sum(weights)
    means, deviations = np.split(np.stack(statistics).astype(np.float64), 2, axis=2)
    mean = (share * means).sum(0)
    # The mean of squares adds up; the square of the mean does not.
    variance = (share * (deviations**2 + means**2)).sum(0) - mean**2
    return np.concatenate([mean, np.sqrt(variance.clip(0))], 1).astype(np.float32)


def _cut(length: int, tile: int, halo: int, grid: int) -> list[tuple[slice, slice]]:
    """(outer, inner) windows along one side."""
    # Equal shares, so that no thin strip is left at the end.
    share = -(-length // -(-length // _up(tile, grid)))
    step, before = _up(share, grid), _up(halo, grid)
    window = before + step + halo
    last = max(0, _up(length - window, grid))
    spans = []
    for begin in range(0, length, step):
        start = min(max(begin - before, 0), last)
        stop = min(start + window, length)
        spans.append((slice(start, stop), slice(begin, min(begin + step, length))))
    return spans


def _up(number: int, grid: int) -> int:
    """The next multiple."""
    return -(-number // grid) * grid
