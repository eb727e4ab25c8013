"""Numbers about pictures that need no network."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from restyle.errors import ShapeError

Pixels = NDArray[np.uint8]

PSNR_LIMIT = 100.0
"""What ``psnr`` says of equal pictures, in dB, so that averages and JSON stay finite."""

PAN = (3, 5)
"""Rows and columns by which the camera of ``panned_frames`` moves: no multiples of a network's strides."""

SENSOR_NOISE = 2.0
"""Standard deviation of its noise, of 255."""


def colour_distance(painted: Pixels, style: Pixels, *, directions: int = 64) -> float:
    """How far apart the colours of two pictures are, as clouds of points: sliced Wasserstein-1 distance.

    Args:
        painted: (H, W, 3) uint8.
        style: (h, w, 3) uint8; sizes may differ.
        directions: Fixed directions on which the colours are projected.

    Returns:
        Distance in units of 0..255; 0 = the same palette in the same amounts.
    """
    axes = np.random.default_rng(0).normal(size=(3, directions))
    axes /= np.linalg.norm(axes, axis=0)
    at = np.linspace(0.002, 0.998, 400)
    ours, theirs = (np.quantile(one.reshape(-1, 3) / 255 @ axes, at, axis=0) for one in (painted, style))
    return float(np.abs(ours - theirs).mean() * 255)


def noise_excess(painted: Pixels, content: Pixels, style: Pixels) -> float:
    """High-frequency energy beyond what content and style have: a checkerboard or a moire shows here.

    Args:
        painted: (H, W, 3) uint8.
        content: (H, W, 3) uint8.
        style: (h, w, 3) uint8.

    Returns:
        0 = no more than the noisier of the two, 0.5 = half as much again.
    """
    ours, *theirs = (_high_frequency(one) for one in (painted, content, style))
    return max(0.0, ours / max(theirs) - 1) if max(theirs) else 0.0


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal-to-noise ratio of two pictures; higher is more alike.

    Args:
        one: (H, W, 3) uint8.
        other: Same.

    Returns:
        In dB, at most ``PSNR_LIMIT``: that is an equal picture, or one whose values differ by 1 of 255 in less than
        seven places of a million.

    Raises:
        ShapeError: the pictures differ in size.
    """
    error = _root_mean_square(one, other)
    return min(PSNR_LIMIT, 20 * math.log10(255 / error)) if error else PSNR_LIMIT


def panned_frames(photo: Pixels) -> tuple[Pixels, Pixels]:
    """Two frames of a clip whose motion is known: a noisy camera pans over a photograph by ``PAN`` pixels.

    The pan is no multiple of 2, 4 or 8, because a network with such strides moves with the picture by construction:
    a pan by 8 would hide most of the flicker.

    Args:
        photo: (H, W, 3) uint8, higher and wider than twice ``PAN``.

    Returns:
        Two frames (H - 3, W - 5, 3) uint8, each with its own Gaussian noise, the same in every call. What the first
        shows at (y + 3, x + 5), the second shows at (y, x).

    Raises:
        ShapeError: the photograph is too small.
    """
    down, right = PAN
    height, width = photo.shape[:2]
    if height <= 2 * down or width <= 2 * right:
        raise ShapeError(f"the photograph must be higher than {2 * down} and wider than {2 * right}, got {photo.shape}")
    random = np.random.default_rng(0)
    clean = photo[: height - down, : width - right], photo[down:, right:]
    noisy = [np.rint(frame + random.normal(0, SENSOR_NOISE, frame.shape)) for frame in clean]
    first, second = (np.clip(frame, 0, 255).astype(np.uint8) for frame in noisy)
    return first, second


def warp_error(first: Pixels, second: Pixels, motion: tuple[int, int] = PAN) -> float:
    """Flicker between two frames: how much they differ where they show the same thing, the motion being known.

    Args:
        first: (H, W, 3) uint8.
        second: Same; shows at (y, x) what ``first`` shows at (y + rows, x + columns).
        motion: Rows and columns, none negative, less than H and W.

    Returns:
        Root mean square difference in units of 0..255, over the part that both frames see.

    Raises:
        ShapeError: the frames differ in size.
        ValueError: the motion is negative or leaves nothing that both frames see.

    Source:
        Lai et al. 2018, Learning blind video temporal consistency, arXiv 1808.00449. Differs: one whole motion for the
        frame instead of optical flow, so nothing is occluded but the border; the root is taken.
    """
    down, right = motion
    height, width = second.shape[:2]
    if not (0 <= down < height and 0 <= right < width):
        raise ValueError(f"motion must be rows and columns from 0 to below {height} and {width}, got {motion}")
    return _root_mean_square(first[down:, right:], second[: height - down, : width - right])


def _root_mean_square(one: Pixels, other: Pixels) -> float:
    if one.shape != other.shape:
        raise ShapeError(f"the pictures must be of one size, got {one.shape} and {other.shape}")
    return float(np.sqrt(np.mean(np.square(one.astype(np.float32) - other.astype(np.float32)), dtype=np.float64)))


def _high_frequency(pixels: Pixels) -> float:
    """Root mean square of the second difference across and down of the grey picture."""
    grey = pixels.mean(2) / 255
    for axis in (0, 1):
        grey = np.diff(grey, 2, axis=axis) / 4
    return float(np.sqrt(np.mean(grey**2)))
