"""Picture folders as an endless, repeatable stream of training pairs."""

from __future__ import annotations

import csv
import fnmatch
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from restyle.errors import ImageError, RestyleError
from restyle.image import READABLE, lay_on_white, read_image, resize

log = logging.getLogger(__name__)

SCALE = (0.4, 1.0)


def find_pictures(source: Path, *, exclude: Sequence[str] = ()) -> list[Path]:
    """All picture files below a folder, at any depth, sorted, told by their suffix; or the files that a list names.

    WikiArt's folders per art style need nothing special, nor does COCO with or without its annotations, which are not
    read: give ``coco/train2017`` or ``coco/val2017``. COCO's root, with both in it, stands for its training pictures.
    A list is a ``.txt`` with one path a line or a ``.csv`` with a column ``path``, relative to the list's own folder.

    Args:
        source: A folder or a list.
        exclude: Patterns of what to leave out, with ``*`` and ``?`` as in a shell: the name of a file or folder, or a
            path relative to ``source``. Capitals make no difference.

    Raises:
        ImageError: the folder does not exist or holds no picture, or the list cannot be read.
        ValueError: a pattern fits no picture.
    """
    return list_pictures(source, exclude)[1]


def list_pictures(source: Path, exclude: Sequence[str]) -> tuple[Path, list[Path]]:
    """The folder that short names are relative to, and the pictures."""
    root, found = source, []
    if source.suffix.lower() in (".txt", ".csv") and source.is_file():
        root = source.parent
        found = [root / line for line in _read_list(source)]
    elif source.is_dir():
        root = next((part for year in (2017, 2014) if (part := source / f"train{year}").is_dir()), source)
        found = sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in READABLE and not path.name.startswith(".") and path.is_file()
        )
    else:
        raise ImageError(f"{source} is not a folder of pictures, nor a .txt or .csv list of them")
    if not found:
        looked = f" (looked for {', '.join(sorted(READABLE))})" if source.is_dir() else ""
        raise ImageError(f"{source} holds no pictures{looked}")
    for pattern in exclude:
        kept = [path for path in found if not _fits(short_name(path, root), pattern)]
        if len(kept) == len(found):
            raise ValueError(f"the pattern {pattern!r} excludes none of the pictures in {source}")
        found = kept
    if not found:
        raise ImageError(f"{source} holds no pictures beside the excluded ones")
    return root, found


def _read_list(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() == ".txt":
                return [line.strip() for line in file if line.strip()]
            return [row["path"] for row in csv.DictReader(file) if row["path"]]
    except KeyError as error:
        raise ImageError(f"{path} has no column called path") from error
    except (OSError, ValueError, csv.Error) as error:
        raise ImageError(f"{path} cannot be read as a list of pictures: {error}") from error


def short_name(path: Path, root: Path) -> str:
    """A file's path as seen from a folder, with ``/`` on every system."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern means this file, or one of the folders on the way to it, by name or by path."""
    parts = name.lower().split("/")
    ways = ("/".join(parts[: end + 1]) for end in range(len(parts)))
    return any(fnmatch.fnmatchcase(way, pattern.lower().rstrip("/")) for way in (*parts, *ways))


class RandomPairs(Dataset[tuple[Tensor, Tensor]]):
    """Endless random content x style pairs of square crops.

    Pair number n depends only on the seed and n, so a run can go on at any pair, any number of workers gives the same
    stream (let the sampler count, see ``pair_numbers``), and no list of pairs is kept. A picture that cannot be read is
    reported once by every process that meets it, and another takes its place.

    Args:
        content: Folder or list of photographs, see ``find_pictures``.
        style: Folder or list of artworks. None = each photograph is its own style, for learning to reconstruct.
        side: Side of the crops in pixels.
        seed: Seed of the whole stream.
        scale: Smallest and largest side of the window that a crop shows, as shares of the picture's short side.
        flip: Mirror half of the crops. The windows are the same without.
        exclude_style: Patterns of artworks to leave out, see ``find_pictures``.

    Raises:
        ImageError: a folder is missing or holds no pictures.
        ValueError: ``side`` or ``scale`` cannot be, or a pattern fits nothing.
    """

    def __init__(
        self,
        content: Path,
        style: Path | None,
        *,
        side: int,
        seed: int = 0,
        scale: tuple[float, float] = SCALE,
        flip: bool = True,
        exclude_style: Sequence[str] = (),
    ) -> None:
        if side < 1:
            raise ValueError(f"side must be at least 1, got {side}")
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be (smallest, largest) with 0 < smallest <= largest <= 1, got {scale}")
        self.pictures = [find_pictures(content)]
        if style is not None:
            self.pictures.append(find_pictures(style, exclude=exclude_style))
        self.side, self.seed, self.scale, self.flip = side, seed, scale, flip
        self._broken: set[Path] = set()

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Content and style of pair ``number``, (3, side, side) uint8 each.

        Raises:
            ImageError: no picture of a folder can be read.
        """
        random = np.random.default_rng((self.seed, number))
        crops = [self._crop(paths, random) for paths in self.pictures]
        return crops[0], crops[-1]

    def _crop(self, paths: list[Path], random: np.random.Generator) -> Tensor:
        while True:
            if self._broken.issuperset(paths):
                raise ImageError(f"none of the {len(paths)} pictures in {paths[0].parent} and below can be read")
            path = paths[random.integers(len(paths))]
            if path in self._broken:
                continue
            try:
                pixels = lay_on_white(read_image(path).pixels)
            except RestyleError as error:
                log.warning("skipped: %s", error)
                self._broken.add(path)
                continue
            crop = random_crop(pixels, self.side, random, scale=self.scale, flip=self.flip)
            return torch.from_numpy(crop).permute(2, 0, 1)


class FixedPairs(RandomPairs):
    """The first pairs of the stream, kept in memory and repeated for ever: a network must be able to learn them.

    Args:
        content: As for ``RandomPairs``.
        style: As for ``RandomPairs``.
        count: Pairs to keep, at least 1; each takes 6 * side * side bytes.
        options: Everything else as for ``RandomPairs``.
    """

    def __init__(self, content: Path, style: Path | None, *, count: int, **options: Any) -> None:
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        super().__init__(content, style, **options)
        draw = super().__getitem__
        self._kept = [draw(number) for number in range(count)]

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Pair ``number`` modulo the count, shapes as in ``RandomPairs``."""
        return self._kept[number % len(self._kept)]


def pair_numbers(step: int = 0, *, batch: int, rank: int = 0, world: int = 1) -> Iterator[int]:
    """Numbers of the pairs that one of several training processes sees, for ever: a sampler for ``DataLoader``.

    All processes together see in each step exactly what a single one with the whole batch would.

    Args:
        step: The step to begin with.
        batch: Pairs per step and process.
        rank: Which process this is, from 0.
        world: How many there are.

    Raises:
        ValueError: a number is out of range.
    """
    if step < 0 or batch < 1 or not 0 <= rank < world:
        raise ValueError(
            f"step must be at least 0, batch at least 1, rank below world, got {step}, {batch}, {rank} of {world}"
        )
    firsts = itertools.count((step * world + rank) * batch, world * batch)
    return (first + offset for first in firsts for offset in range(batch))


def random_crop(
    pixels: NDArray[np.uint8],
    side: int,
    random: np.random.Generator,
    *,
    scale: tuple[float, float] = SCALE,
    flip: bool = True,
) -> NDArray[np.uint8]:
    """A square window of random place and size, flipped half of the time.

    Args:
        pixels: (H, W, 3) uint8.
        side: Side of the result in pixels.
        random: Where the chance comes from.
        scale: Smallest and largest side of the window, as shares of the short side.
        flip: Whether to flip at all.

    Returns:
        (side, side, 3) uint8.
    """
    height, width = pixels.shape[:2]
    window = max(1, round(min(height, width) * random.uniform(*scale)))
    top, left = random.integers(height - window + 1), random.integers(width - window + 1)
    crop = resize(pixels[top : top + window, left : left + window], (side, side))
    if random.random() < 0.5 and flip:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop)
