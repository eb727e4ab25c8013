"""Pictures as arrays: any form to pixels, resize, blur, white paper under what is transparent."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from restyle.errors import ShapeError
from restyle.image.reading import LIMIT_PIXELS, Pixels, check_limits, decode, read_image


def to_pixels(image: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> Pixels:
    """Take a picture in any form that a caller may hold and return it as an array.

    Args:
        image: A path, a PIL picture of any mode, or a uint8 array (H, W, 3), (H, W, 4) or grey (H, W).

    Returns:
        (H, W, 3) or (H, W, 4) uint8, C-contiguous; the array given, not a copy, where it is that already.

    Raises:
        TypeError: ``image`` is of another type, or an array of another dtype.
        ShapeError: An array of another shape, or without pixels.
        ImageError: The file or the PIL picture cannot be decoded.
        LimitError: It is larger than ``LIMIT_PIXELS`` or ``LIMIT_SIDE``.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image).pixels
    if isinstance(image, Image.Image):
        check_limits(image.size, "the PIL picture", LIMIT_PIXELS)
        return decode(image, "the PIL picture").pixels
    if not isinstance(image, np.ndarray):
        raise TypeError(f"a picture must be a path, a PIL picture or a uint8 array, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"a picture array must be uint8 (0 to 255), got {image.dtype}")
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or 0 in image.shape:
        raise ShapeError(f"a picture array must be (height, width, 3 or 4) or (height, width), got {image.shape}")
    return np.ascontiguousarray(image)


def to_pil(pixels: NDArray[Any]) -> Image.Image:
    """Turn (H, W, 3 or 4) or (H, W) uint8 pixels into a PIL picture of its own memory, mode RGB or RGBA.

    Raises:
        TypeError: ``pixels`` is no uint8 array.
        ShapeError: It has another shape.
    """
    pixels = to_pixels(pixels)
    height, width, channels = pixels.shape
    return Image.frombytes("RGB" if channels == 3 else "RGBA", (width, height), pixels)


def resize(pixels: NDArray[Any], size: tuple[int, int]) -> Pixels:
    """Scale a picture with Lanczos filtering; what is transparent lends no colour to its neighbours.

    Args:
        pixels: (H, W, 3 or 4) or grey (H, W), uint8.
        size: The new (height, width), each at least 1.

    Returns:
        A new array of exactly that size, with the channels of ``pixels``.

    Raises:
        ValueError: A side of ``size`` is below 1.
        TypeError: ``pixels`` is no uint8 array.
        ShapeError: It has another shape.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be (height, width) of at least 1, got {size}")
    # Pillow multiplies RGBA by its alpha before filtering and divides afterwards.
    return np.array(_any_to_pil(pixels).resize((width, height), Image.Resampling.LANCZOS))


def blur(pixels: NDArray[Any], radius: float) -> Pixels:
    """Soften with a Gaussian whose standard deviation is ``radius`` pixels; arguments as for ``resize``."""
    return np.array(_any_to_pil(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _any_to_pil(pixels: NDArray[Any]) -> Image.Image:
    grey = isinstance(pixels, np.ndarray) and pixels.ndim == 2 and pixels.dtype == np.uint8 and pixels.size
    return Image.fromarray(np.ascontiguousarray(pixels)) if grey else to_pil(pixels)


def lay_on_white(pixels: Pixels) -> Pixels:
    """The colours as they look on white paper: (H, W, 3 or 4) to (H, W, 3)."""
    if pixels.shape[2] == 3:
        return pixels
    weight = pixels[:, :, 3:].astype(np.uint16)  # the sum below reaches 65152
    return ((pixels[:, :, :3] * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)


def fit_short_side(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """The (height, width) of the same proportions whose shorter side is ``short_side``; no side falls below 1.

    Raises:
        ValueError: ``short_side`` or a side of ``size`` is below 1.
    """
    return _scaled(size, short_side, min(size))


def _scaled(size: tuple[int, int], wanted: int, side: int) -> tuple[int, int]:
    if wanted < 1 or min(size) < 1:
        raise ValueError(f"sides must be at least 1, got size {size} and side {wanted}")
    height, width = ((2 * length * wanted + side) // (2 * side) for length in size)  # rounded, in whole numbers
    return max(1, height), max(1, width)
