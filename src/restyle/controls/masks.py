"""Where to paint: masks, and regions that have styles of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from restyle.controls.people import find_people
from restyle.image import LIMIT_PIXELS, blur, lay_on_white, read_image, resize, to_pixels
from restyle.style import Style

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | Path | Image | NDArray[np.uint8]
    MaskLike: TypeAlias = "ImageLike | MaskFile | PersonMask"

Pixels = NDArray[np.uint8]
Mask = NDArray[np.uint8]

_ROWS = 512
"""Rows that are blended at a time, so that large pictures need little memory."""


@dataclass(frozen=True)
class MaskFile:
    """A mask on disk, and how it is to be read.

    Attributes:
        path: A grey picture of any size: white = here.
        inverse: Swap black and white.
        feather: Radius, in pixels of the photograph, by which its edges are softened.
    """

    path: str | Path
    inverse: bool = False
    feather: float = 0.0

    def read(self, size: tuple[int, int], *, limit_pixels: int = LIMIT_PIXELS) -> Mask:
        """Bring the mask to the (height, width) of a photograph; see ``read_mask``."""
        pixels = read_image(self.path, limit_pixels=limit_pixels).pixels
        return read_mask(pixels, size, inverse=self.inverse, feather=self.feather)

    def of(self, photo: Pixels, *, limit_pixels: int = LIMIT_PIXELS) -> Mask:
        """The mask of a photograph: (H, W) for (H, W, 3 or 4)."""
        return self.read(photo.shape[:2], limit_pixels=limit_pixels)


@dataclass(frozen=True)
class PersonMask:
    """A mask that is found in the photograph itself: white where people are.

    The network that finds them is fetched at first use, for which the extra ``people`` is needed.

    Attributes:
        inverse: White where they are not.
        feather: As for ``MaskFile``.
    """

    inverse: bool = False
    feather: float = 0.0

    def of(self, photo: Pixels, *, limit_pixels: int = LIMIT_PIXELS) -> Mask:
        """The mask of a photograph: (H, W) for (H, W, 3 or 4)."""
        return read_mask(find_people(photo), photo.shape[:2], inverse=self.inverse, feather=self.feather)


@dataclass(frozen=True)
class Region:
    """A part of a picture that has a style of its own.

    Attributes:
        mask: Grey picture of any size, a ``MaskFile`` or a ``PersonMask``: white = here, black = not here, grey = in
            part; None = everywhere.
        style: What is painted there; None keeps the photograph.
        strength: 0..2, as for the whole picture.
    """

    mask: MaskLike | None
    style: Style | None
    strength: float = 1.0


def read_mask(mask: ImageLike, size: tuple[int, int], *, inverse: bool = False, feather: float = 0) -> Mask:
    """Bring a mask to the size of a photograph.

    Args:
        mask: Grey picture of any size; of colours the brightness counts; where it is transparent it is black.
        size: (height, width) of the photograph.
        inverse: Swap black and white.
        feather: Radius in pixels of the photograph by which its edges are softened.

    Returns:
        (height, width) uint8: 255 = paint, 0 = keep.

    Raises:
        ImageError: the picture cannot be read.
        ValueError: see ``check_feather``.
    """
    check_feather(feather)
    pixels = to_pixels(mask)
    if pixels.shape[2] == 4:  # black paper under what is transparent
        pixels = 255 - lay_on_white(np.dstack([255 - pixels[:, :, :3], pixels[:, :, 3]]))
    grey = pixels[:, :, 0] if _is_grey(pixels) else np.rint(pixels @ [0.299, 0.587, 0.114]).astype(np.uint8)
    if grey.shape != size:
        grey = resize(grey, size)
    if inverse:
        grey = 255 - grey
    return blur(grey, feather) if feather else grey


def mask_of(mask: MaskLike, photo: Pixels) -> Mask:
    """The mask of a photograph, whatever tells it: (H, W) for (H, W, 3 or 4)."""
    return mask.of(photo) if isinstance(mask, MaskFile | PersonMask) else read_mask(mask, photo.shape[:2])


def check_feather(feather: float) -> None:
    """Refuse a radius that no edge can be softened by.

    Raises:
        ValueError: it is negative or not finite.
    """
    if not 0 <= feather < math.inf:
        raise ValueError(f"feather must be finite and at least 0, got {feather}")


def lay_over(under: Pixels, over: Pixels, mask: Mask) -> None:
    """Lay one picture over another where a mask is white; changes ``under``.

    Args:
        under: (H, W, 3) uint8.
        over: Same.
        mask: (H, W) uint8.
    """
    for top in range(0, len(under), _ROWS):
        rows = slice(top, top + _ROWS)
        weight = mask[rows, :, None].astype(np.uint32)
        # The sum reaches 65152; adding half of 255 before the division rounds.
        under[rows] = (over[rows] * weight + under[rows] * (255 - weight) + 127) // 255


def put_together(photo: Pixels, layers: Sequence[tuple[MaskLike | None, Pixels | None]]) -> Pixels:
    """The photograph under its paintings.

    Args:
        photo: (H, W, 3 or 4) uint8; alpha is kept.
        layers: One after the other, a mask of any size (None = everywhere) and a painting (H, W, 3) (None = the
            photograph again).

    Returns:
        (H, W, 3 or 4) uint8.
    """
    colours = photo[:, :, :3]
    result = None
    for mask, painted in layers:
        if mask is None:
            result = painted
        else:
            result = colours.copy() if result is None else result
            lay_over(result, colours if painted is None else painted, mask_of(mask, photo))
    if result is None:
        return photo.copy()
    return result if photo.shape[2] == 3 else np.dstack([result, photo[:, :, 3]])


def _is_grey(pixels: Pixels) -> bool:
    return bool((pixels[:, :, 0] == pixels[:, :, 1]).all() and (pixels[:, :, 0] == pixels[:, :, 2]).all())
