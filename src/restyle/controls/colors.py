"""A painting in the colours of its photograph.

Source:
    Gatys et al. 2016, arXiv 1606.05897, sections 5.1 and 5.2. Differs: there histogram and covariance change the style
    picture before painting; here they change the painting, so that the colours come out as asked for whatever the
    network does with them, and a style needs no photograph to be encoded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Change = Callable[[Pixels, Pixels], Floats]

WAYS = ("luminance", "histogram", "covariance")

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the luminance of ITU-R BT.601."""

_ROWS = 512
"""Rows that are converted at a time, so that large pictures need little memory."""


class KeepColors(NamedTuple):
    """A way of keeping colours, and how much: 0 leaves the painting's, 1 takes the photograph's."""

    way: str
    amount: float = 1.0


def parse_keep_colors(text: str | None) -> KeepColors | None:
    """``luminance`` or ``luminance:0.5`` as a value; None stays None.

    Raises:
        ValueError: no such way, or an amount outside 0..1.
    """
    if text is None:
        return None
    way, colon, amount = text.partition(":")
    try:
        share = float(amount) if colon else 1.0
    except ValueError:
        share = -1.0
    if way not in WAYS or not 0 <= share <= 1:
        raise ValueError(
            f"keep_colors must be {', '.join(WAYS)}, each with an amount from 0 to 1 if wanted, such as "
            f"luminance:0.5; got {text!r}"
        )
    return KeepColors(way, share)


def keep_colors(painted: Pixels, photo: Pixels, how: str | None) -> Pixels:
    """Give a painting the colours of its photograph.

    Args:
        painted: (H, W, 3) uint8.
        photo: (H, W, 3) uint8.
        how: ``luminance`` takes brightness from the painting and hue from the photograph, point by point; ``histogram``
            gives each of red, green and blue the photograph's distribution; ``covariance`` the photograph's mean colour
            and spread, by one linear map. With an amount, such as ``histogram:0.5``, part of the way.

    Returns:
        (H, W, 3) uint8, a new array; ``painted`` itself where ``how`` is None.

    Raises:
        ValueError: see ``parse_keep_colors``.
    """
    wanted = parse_keep_colors(how)
    if wanted is None:
        return painted
    recolor = {"luminance": _by_luminance, "histogram": _by_histogram, "covariance": _by_covariance}[wanted.way]
    change = recolor(painted, photo)
    result = np.empty_like(painted)
    for top in range(0, len(painted), _ROWS):
        ours, theirs = painted[top : top + _ROWS], photo[top : top + _ROWS]
        changed = change(ours, theirs)
        changed += np.float32(1 - wanted.amount) * (ours - changed)
        result[top : top + _ROWS] = np.rint(changed).clip(0, 255).astype(np.uint8)
    return result


def _by_luminance(_painted: Pixels, _photo: Pixels) -> Change:
    def change(ours: Pixels, theirs: Pixels) -> Floats:
        # With luminance changed and both colour differences kept, all three colours move by the same step.
        kept = theirs.astype(np.float32)
        kept += ((ours.astype(np.float32) - kept) @ LUMA)[:, :, None]
        return kept

    return change


def _by_histogram(painted: Pixels, photo: Pixels) -> Change:
    tables = [
        _matching_table(*(np.bincount(picture[:, :, channel].ravel(), minlength=256) for picture in (painted, photo)))
        for channel in range(3)
    ]
    return lambda ours, _: np.stack([table[ours[:, :, channel]] for channel, table in enumerate(tables)], axis=2)


def _by_covariance(painted: Pixels, photo: Pixels) -> Change:
    matrix, shift = _matching_map(*_mean_and_covariance(painted), *_mean_and_covariance(photo))
    return lambda ours, _: ours.astype(np.float32) @ matrix + shift


def _matching_table(ours: NDArray[np.int64], theirs: NDArray[np.int64]) -> NDArray[np.float32]:
    """For each of 256 values the value of the same rank in the other histogram."""
    # The middle of each step of the cumulative histogram: a painting of one value takes the photograph's median.
    ranks = [(np.cumsum(counts) - counts / 2) / counts.sum() for counts in (ours, theirs)]
    present = theirs > 0
    table: NDArray[np.float32] = np.interp(ranks[0], ranks[1][present], np.flatnonzero(present)).astype(np.float32)
    return table


def _mean_and_covariance(picture: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    total: NDArray[np.float64] = np.zeros(3)
    products: NDArray[np.float64] = np.zeros((3, 3))
    for top in range(0, len(picture), _ROWS):
        rows = picture[top : top + _ROWS].reshape(-1, 3).astype(np.float32)
        total = total + rows.sum(0, dtype=np.float64)
        products = products + rows.T @ rows
    count = picture.shape[0] * picture.shape[1]
    mean: NDArray[np.float64] = total / count
    return mean, products / count - np.outer(mean, mean)


def _matching_map(
    mean: NDArray[np.float64],
    covariance: NDArray[np.float64],
    wanted_mean: NDArray[np.float64],
    wanted_covariance: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The matrix and shift that give colours another mean and covariance: whiten, then colour, without turning axes."""
    small = 0.1 * np.eye(3)  # of 255 squared: a painting of one colour has no spread to be stretched
    matrix = _power(covariance + small, -0.5) @ _power(wanted_covariance + small, 0.5)
    return matrix.astype(np.float32), (wanted_mean - mean @ matrix).astype(np.float32)


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Power of a symmetric, positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    powered: NDArray[np.float64] = (vectors * values.clip(1e-9) ** exponent) @ vectors.T
    return powered
