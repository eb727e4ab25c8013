"""A look at every picture before a long run depends on them: how many, how large, what is broken or there twice."""

from __future__ import annotations

import hashlib
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restyle.errors import RestyleError
from restyle.image import lay_on_white, read_image, resize
from restyle.learn.datasets import list_pictures, short_name

# Reduced to 8x9 grey cells, two pictures count as one where at most NEAR_BITS of the 64 comparisons of neighbours come
# out differently (the difference hash) and the cells differ by at most NEAR_GREY of 255 on average. Of 8.5 million
# pairs of different pictures none came so close, with the hash alone 135 did; of copies scaled or compressed anew all
# do, of copies trimmed to 95 % of each side 97 in 100.
NEAR_BITS = 10
NEAR_GREY = 15


@dataclass(frozen=True)
class FolderSurvey:
    """What one folder or list of pictures holds; names of files are relative to it.

    Attributes:
        folder: Where.
        pictures: Number of files, broken ones included.
        groups: Pictures in each folder directly below, such as WikiArt's art styles.
        smallest: Smallest short side in pixels; 0 where nothing can be read.
        median: Median short side.
        largest: Largest short side.
        broken: For each file that cannot be read the reason, one sentence.
        small: Files whose short side is below the side of the crops: they will be enlarged.
        duplicates: Files of the same pixels, group by group.
    """

    folder: str
    pictures: int
    groups: dict[str, int]
    smallest: int
    median: int
    largest: int
    broken: dict[str, str]
    small: tuple[str, ...]
    duplicates: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class SharedPicture:
    """A picture that training and validation have in common.

    Attributes:
        training: Its file for training.
        validation: Its file for validation.
        exact: Whether all pixels are the same; otherwise it was scaled or compressed anew.
    """

    training: str
    validation: str
    exact: bool


@dataclass(frozen=True)
class Survey:
    """What ``survey`` found.

    Attributes:
        side: Side of the crops in pixels that the pictures are meant for.
        content: The photographs.
        style: The artworks, if any.
        validation: The folders that are not trained on.
        shared: Pictures both in training and in validation.
    """

    side: int
    content: FolderSurvey
    style: FolderSurvey | None
    validation: tuple[FolderSurvey, ...]
    shared: tuple[SharedPicture, ...]

    def lines(self, most: int = 5) -> list[str]:
        """The survey in words for people; of each long list of files the first ``most`` are named."""
        said: list[str] = []
        parts = [("content", self.content), ("style", self.style), *(("validation", one) for one in self.validation)]
        for name, part in parts:
            if part is None:
                continue
            sides = f"short sides {part.smallest} to {part.largest}, median {part.median}"
            said.append(f"{name}: {part.pictures} pictures in {part.folder}, {sides}")
            if part.groups:
                said.append("  groups: " + ", ".join(f"{group} {count}" for group, count in part.groups.items()))
            said += _some(f"{len(part.broken)} cannot be read and will be skipped", part.broken.values(), most)
            said += _some(f"{len(part.small)} smaller than {self.side} pixels will be enlarged", part.small, most)
            same = [" = ".join(files) for files in part.duplicates]
            said += _some(f"{len(same)} there more than once", same, most)
        pairs = [f"{one.training} {'=' if one.exact else 'resembles'} {one.validation}" for one in self.shared]
        if self.validation:
            said += _some(f"{len(pairs)} in training and in validation", pairs, most) or [
                "no picture is both in training and in validation"
            ]
        return said


def _some(what: str, names: Iterable[str], most: int) -> list[str]:
    named = list(names)
    more = [f"    and {len(named) - most} more"] if len(named) > most else []
    return [f"  {what}:", *(f"    {name}" for name in named[:most]), *more] if named else []


@dataclass(frozen=True)
class _Seen:
    """One picture: its short side, a hash of its pixels, and its 8x9 grey cells."""

    short: int
    digest: bytes
    cells: NDArray[np.float32]


def survey(
    content: Path,
    style: Path | None = None,
    validation: Sequence[Path] = (),
    *,
    side: int,
    exclude_style: Sequence[str] = (),
    report: Callable[[int, int], None] | None = None,
) -> Survey:
    """Look at every picture before a long run depends on them. Broken files are part of the answer, not an error.

    Args:
        content: Folder or list of photographs, see ``find_pictures``.
        style: Folder or list of artworks, if any.
        validation: Folders or lists that training must not have seen.
        side: Side of the crops in pixels.
        exclude_style: As for ``RandomPairs``.
        report: Called after each picture with the number done and the number of all.

    Raises:
        ImageError: a folder is missing or holds no pictures.
        ValueError: a pattern fits nothing.
    """
    places = [(content, list_pictures(content, ()))]
    if style is not None:
        places.append((style, list_pictures(style, exclude_style)))
    training = len(places)
    places += [(one, list_pictures(one, ())) for one in validation]
    every = [path for _, (_, paths) in places for path in paths]
    seen: dict[Path, _Seen | str] = {}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # pictures may be large, so not too many at once
        for done, (path, one) in enumerate(zip(every, pool.map(_look, every), strict=True), 1):
            seen[path] = one
            if report:
                report(done, len(every))
    folders = [_describe(source, root, paths, seen, side) for source, (root, paths) in places]
    trained, held = (
        [path for _, (_, paths) in some for path in paths] for some in (places[:training], places[training:])
    )
    return Survey(
        side=side,
        content=folders[0],
        style=folders[1] if style is not None else None,
        validation=tuple(folders[training:]),
        shared=_shared(trained, held, seen),
    )


def _look(path: Path) -> _Seen | str:
    """What there is to know of a picture, or why it cannot be read."""
    try:
        pixels = lay_on_white(read_image(path).pixels)
    except RestyleError as error:
        return str(error)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
    return _Seen(min(pixels.shape[:2]), digest, resize(pixels, (8, 9)).mean(2, dtype=np.float32))


def _describe(source: Path, root: Path, paths: list[Path], seen: dict[Path, _Seen | str], side: int) -> FolderSurvey:
    names = {path: short_name(path, root) for path in paths}
    read = {names[path]: one for path in paths if isinstance(one := seen[path], _Seen)}
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    for name, one in read.items():
        same[one.digest].append(name)
    shorts = [one.short for one in read.values()] or [0]
    groups = Counter(name.split("/")[0] for name in names.values() if "/" in name and not Path(name).is_absolute())
    return FolderSurvey(
        folder=str(root if source.is_dir() else source),
        pictures=len(paths),
        groups=dict(groups.most_common()),
        smallest=min(shorts),
        median=statistics.median_low(shorts),
        largest=max(shorts),
        broken={names[path]: one for path in paths if isinstance(one := seen[path], str)},
        small=tuple(name for name, one in read.items() if one.short < side),
        duplicates=tuple(tuple(group) for group in same.values() if len(group) > 1),
    )


def _shared(trained: list[Path], held: list[Path], seen: dict[Path, _Seen | str]) -> tuple[SharedPicture, ...]:
    known, asked = (
        [(path, one) for path in paths if isinstance(one := seen[path], _Seen)] for paths in (trained, held)
    )
    cells = np.array([one.cells for _, one in known], np.float32).reshape(-1, 8, 9)
    bits = _difference_hash(cells)
    found: list[SharedPicture] = []
    for path, one in asked:
        near = np.bitwise_count(bits ^ _difference_hash(one.cells[None])) <= NEAR_BITS
        near[near] = np.abs(cells[near] - one.cells).mean((1, 2)) <= NEAR_GREY
        for index in np.flatnonzero(near):
            other, same = known[index]
            found.append(SharedPicture(str(other), str(path), same.digest == one.digest))
    return tuple(found)


def _difference_hash(cells: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Whether each cell is brighter than its left neighbour: (N, 8, 9) to (N,), 64 bits each."""
    return np.packbits((cells[:, :, 1:] > cells[:, :, :-1]).reshape(-1, 64), axis=1).view(np.uint64)[:, 0]
