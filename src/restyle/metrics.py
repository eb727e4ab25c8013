"""Numbers about pictures that need no network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


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


def _high_frequency(pixels: Pixels) -> float:
    """Root mean square of the second difference across and down of the grey picture."""
    grey = pixels.mean(2) / 255
    for axis in (0, 1):
        grey = np.diff(grey, 2, axis=axis) / 4
    return float(np.sqrt(np.mean(grey**2)))
