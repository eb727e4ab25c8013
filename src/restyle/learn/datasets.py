"""Picture folders as an endless, repeatable stream of training pairs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from restyle.errors import ImageError, RestyleError
from restyle.image import read_image, resize

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif"})


def find_pictures(folder: Path) -> list[Path]:
    """All picture files below a folder, at any depth, sorted, told by their suffix.

    Raises:
        ImageError: the folder does not exist or holds no picture.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder of pictures")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ImageError(f"{folder} holds no pictures (looked for {', '.join(sorted(SUFFIXES))})")
    return found


class RandomPairs(Dataset[tuple[Tensor, Tensor]]):
    """Endless random content x style pairs of square crops.

    Pair number n depends only on the seed and n, so a run can go on at any pair, any number of workers gives the same
    stream (let the sampler count), and no list of pairs is kept. A picture that cannot be read is reported once and
    another takes its place.

    Args:
        content: Folder of photographs.
        style: Folder of artworks.
        side: Side of the crops in pixels.
        seed: Seed of the whole stream.

    Raises:
        ImageError: a folder is missing or holds no pictures.
    """

    def __init__(self, content: Path, style: Path, *, side: int, seed: int = 0) -> None:
        self.pictures = (find_pictures(content), find_pictures(style))
        self.side, self.seed = side, seed
        self._broken: set[Path] = set()

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Content and style of pair ``number``, (3, side, side) uint8 each.

        Raises:
            ImageError: no picture of a folder can be read.
        """
        random = np.random.default_rng((self.seed, number))
        content, style = (self._crop(paths, random) for paths in self.pictures)
        return content, style

    def _crop(self, paths: list[Path], random: np.random.Generator) -> Tensor:
        while True:
            if self._broken.issuperset(paths):
                raise ImageError(f"none of the {len(paths)} pictures in {paths[0].parent} and below can be read")
            path = paths[random.integers(len(paths))]
            if path in self._broken:
                continue
            try:
                pixels = read_image(path).pixels[:, :, :3]
            except RestyleError as error:
                log.warning("skipped: %s", error)
                self._broken.add(path)
                continue
            return torch.from_numpy(random_crop(pixels, self.side, random)).permute(2, 0, 1)


def random_crop(pixels: NDArray[np.uint8], side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A square window of random place and size (40 to 100 % of the short side), flipped half of the time.

    Args:
        pixels: (H, W, 3) uint8.
        side: Side of the result in pixels.
        random: Where the chance comes from.

    Returns:
        (side, side, 3) uint8.
    """
    height, width = pixels.shape[:2]
    window = max(1, round(min(height, width) * random.uniform(0.4, 1.0)))
    top, left = random.integers(height - window + 1), random.integers(width - window + 1)
    crop = resize(pixels[top : top + window, left : left + window], (side, side))
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop)
