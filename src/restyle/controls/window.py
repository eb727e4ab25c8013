"""How a style picture is shown to the style encoder: which part, how large."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from restyle.image import fit_short_side, resize


def style_window(pixels: NDArray[np.uint8], size: int, crop: str | None, seed: int) -> NDArray[np.uint8]:
    """What the style encoder is shown of a style picture.

    Args:
        pixels: (H, W, 3) uint8.
        size: Short side of the result.
        crop: ``center`` or ``random`` take a square as large as the short side; None takes all.
        seed: Of the random square.

    Returns:
        (h, w, 3) uint8; pictures smaller than half the size are repeated, those beyond 4:1 squeezed.
    """
    height, width = pixels.shape[:2]
    if crop:
        side = min(height, width)
        generator = np.random.default_rng(seed)
        top, left = (
            (length - side) // 2 if crop == "center" else generator.integers(length - side + 1)
            for length in (height, width)
        )
        pixels = pixels[top : top + side, left : left + side]
    # Beyond 4:1 a style is squeezed: a banner must not become a picture of a million pixels.
    height, width = pixels.shape[:2]
    longest = 4 * min(height, width)
    pixels = resize(pixels, (min(height, longest), min(width, longest)))
    repeats = size // (2 * min(pixels.shape[:2]))
    if repeats:  # blown up twice at most, then repeated
        shown = fit_short_side(pixels.shape[:2], -(-size // (repeats + 1)))
        pixels = resize(pixels, shown)
        pixels = np.pad(pixels, [(0, repeats * shown[0]), (0, repeats * shown[1]), (0, 0)], mode="symmetric")
    return resize(pixels, fit_short_side(pixels.shape[:2], size))
