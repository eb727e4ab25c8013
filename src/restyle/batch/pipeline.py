"""Read, paint, write: the three at the same time, so that the network never waits, within bounded memory.

Threads, not processes: Pillow, numpy and the network let go of Python's lock while they work, and handing a picture of
12 megapixels from one process to another was measured to take longer than to decode it.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from restyle.batch.square import paint_square, square_size
from restyle.controls.masks import MaskFile, PersonMask, Region
from restyle.errors import ImageError, RestyleError
from restyle.image import (
    LIMIT_PIXELS,
    Picture,
    check_size,
    encode_image,
    read_image,
    read_size,
    resize,
    write_image,
)
from restyle.image.sizes import wanted_size
from restyle.style import Style
from restyle.stylizer import LARGEST_BATCH_PIXELS, Stylizer

MOST_PIXELS = 64_000_000
"""Pixels of all pictures between the start of their reading and the end of their writing; or one larger picture."""

MOST = 16
"""Batches of these pictures."""

PAINTERS = 2
"""Threads that paint: while the network works for one, the other gets its picture ready or puts it together."""

WINDOW = 64
"""Jobs among which those of one size are brought together, since the network is prepared anew for every size."""

FILE_BYTES = 2
"""Memory for each pixel of a picture that reading and writing its file takes, beside the painting's."""

FAILURES = (RestyleError, ValueError, OSError, MemoryError)
"""What may go wrong with one picture while the others are still wanted; anything else is a fault of ours."""


@dataclass(frozen=True)
class Job:
    """One picture to be painted.

    Attributes:
        content: The photograph's file, or the bytes of one.
        output: The file to write, whose folder is made if need be; or an open file, which gets a PNG.
        style: What to paint it with; or four styles, for the square between them.
        strength: 0..2.
        mask: Where to paint; None = everywhere.
        regions: Parts that have styles of their own, each by a ``MaskFile`` or ``PersonMask``; a later one lies over an
            earlier.
        format: For an open file: the ending that stands for its format.
        history: A line on how the picture is made, for the output's metadata; see ``write_image``.
    """

    content: Path | bytes = field(repr=False)
    output: Path | IO[bytes]
    style: Style | tuple[Style, Style, Style, Style]
    strength: float = 1.0
    mask: MaskFile | PersonMask | None = None
    regions: tuple[Region, ...] = ()
    format: str = ".png"
    history: str = ""

    @property
    def ending(self) -> str:
        """The ending that stands for the output's format."""
        return self.output.suffix if isinstance(self.output, Path) else self.format


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        job: The job.
        error: Why there is no output; None if there is one.
        size: (height, width) of the output.
        seconds: Time spent on it: reading, painting and writing.
        notes: A short sentence for each thing that was changed or could not be kept.
    """

    job: Job
    error: Exception | None = None
    size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def run(
    jobs: Iterable[Job],
    stylizer: Stylizer,
    *,
    size: int | tuple[int, int] | None = None,
    limit_pixels: int = LIMIT_PIXELS,
    quality: int | None = None,
    overwrite: bool = False,
    metadata: bool = True,
    together: int | None = None,
    workers: int | None = None,
    **options: Any,
) -> Generator[Result, None, None]:
    """Paint many pictures. A picture that fails does not stop the others.

    Closing the iterator stops cleanly: pictures that are being painted are finished and written, no others begun.

    Args:
        jobs: Taken as needed, ``WINDOW`` at a time, and brought into an order in which equal sizes follow each other.
            Neighbours with the same content share one reading.
        stylizer: Paints.
        size: Resize first: the shorter side, or (height, width).
        limit_pixels: Refuse to read, or to resize to, more than this.
        quality: As for ``write_image``.
        overwrite: As for ``write_image``.
        metadata: Write the photograph's EXIF data and the job's history; False = neither.
        together: Pictures of one size that the network paints in one go. None: one on a processor, where more gains
            nothing and may change single values by 1 of 255; eight on other devices.
        workers: Threads that read and write; None = two, or as many as a quarter of the processor's threads.
        options: What else ``Stylizer.apply_many`` takes, the same for all: ``tile``, ``work_size``, ``keep_colors``.

    Yields:
        One result for each job, in the order in which they are painted.

    Raises:
        ValueError: ``together`` or ``workers`` is below 1.
    """
    together = together if together is not None else 1 if stylizer.device == "cpu" else 8
    workers = workers if workers is not None else max(2, (os.cpu_count() or 1) // 4)
    if together < 1 or workers < 1:
        raise ValueError(f"together and workers must be at least 1, got {together} and {workers}")
    files, painters = ThreadPoolExecutor(workers, "restyle-files"), ThreadPoolExecutor(PAINTERS, "restyle-painter")
    work = _Work(stylizer, files, _Reader(files, size, limit_pixels), quality, overwrite, metadata, options)
    batches = _batches(jobs, work.reader, together)
    flow: deque[_Batch] = deque()
    try:
        coming = next(batches, None)
        while coming or flow:
            while coming and _has_room(flow, coming):
                work.reader.start(coming)
                coming.writings = painters.submit(work.paint, coming)
                flow.append(coming)
                coming = next(batches, None)
            for writing in flow.popleft().writings.result():
                yield writing.result()
    finally:
        for batch in flow:
            if batch.writings.cancel():
                for reading in batch.readings:
                    reading.cancel()
        painters.shutdown()  # first: they still hand pictures to the others
        files.shutdown()


def _has_room(flow: Sequence[_Batch], coming: _Batch) -> bool:
    return not flow or (len(flow) < MOST and sum(batch.pixels for batch in flow) + coming.pixels <= MOST_PIXELS)


@dataclass(frozen=True)
class _Read:
    """What a job needs, as arrays of the size at which the photograph is painted."""

    picture: Picture
    mask: NDArray[np.uint8] | None
    regions: tuple[Region, ...]
    seconds: float


@dataclass
class _Batch:
    """Jobs that are painted together, their pixels in all, and what is under way for them."""

    jobs: list[Job]
    pixels: int
    readings: list[Future[_Read]] = field(default_factory=list)
    writings: Future[list[Future[Result]]] = field(default_factory=Future)


@dataclass(frozen=True)
class _Painted:
    result: Result
    pixels: NDArray[np.uint8] | None = None
    exif: bytes | None = None


class _Reader:
    """Starts the reading of photographs; one that follows itself is read once."""

    def __init__(self, pool: ThreadPoolExecutor, size: int | tuple[int, int] | None, limit_pixels: int) -> None:
        self._pool, self._size, self._limit = pool, size, limit_pixels
        self._last: tuple[object, Future[_Read]] | None = None

    def size(self, job: Job) -> tuple[int, int]:
        """The (height, width) at which a photograph will be painted; (1, 1) where it cannot be read."""
        if isinstance(job.content, Path) and not os.path.isfile(job.content):
            return 1, 1  # a pipe gives its picture only once
        with suppress(*FAILURES):
            return wanted_size(read_size(job.content, limit_pixels=self._limit), self._size, self._limit)
        return 1, 1

    def start(self, batch: _Batch) -> None:
        for job in batch.jobs:
            needed = (job.content, job.mask, job.regions)
            if self._last is None or self._last[0] != needed:
                self._last = (needed, self._pool.submit(self._read, job))
            batch.readings.append(self._last[1])

    def forget(self) -> None:
        """Let go of the last photograph."""
        self._last = None

    def _read(self, job: Job) -> _Read:
        started = time.perf_counter()
        picture = read_image(job.content, limit_pixels=self._limit)
        size = wanted_size(picture.pixels.shape[:2], self._size, self._limit)
        if size != picture.pixels.shape[:2]:
            picture = replace(picture, pixels=resize(picture.pixels, size))
        wanted = [job.mask, *(region.mask for region in job.regions)]
        mask, *others = masks = [_read_mask(one, picture, self._limit) for one in wanted]
        regions = tuple(replace(region, mask=own) for region, own in zip(job.regions, others, strict=True))
        if any(map(_finds_nobody, wanted, masks)):
            picture = replace(picture, notes=(*picture.notes, "nobody was found in it"))
        return _Read(picture, mask, regions, time.perf_counter() - started)


def estimate_memory(size: tuple[int, int], *, tile: int | None = None, work_size: int | None = None) -> int:
    """Bytes of memory that painting one picture from file to file takes; see ``Stylizer.estimate_memory``."""
    return Stylizer.estimate_memory(size, tile=tile, work_size=work_size) + FILE_BYTES * size[0] * size[1]


def _read_mask(mask: Any, picture: Picture, limit_pixels: int) -> Any:
    """A mask as an array of the photograph's size; what is one already stays as it is."""
    return mask.of(picture.pixels, limit_pixels=limit_pixels) if isinstance(mask, MaskFile | PersonMask) else mask


def _finds_nobody(wanted: Any, mask: Any) -> bool:
    return isinstance(wanted, PersonMask) and bool((mask.min() if wanted.inverse else 255 - mask.max()) > 127)


def _batches(jobs: Iterable[Job], reader: _Reader, together: int) -> Iterator[_Batch]:
    """Bring jobs of one size together. Only the jobs decide, not what is ready first: results are repeatable."""
    jobs = iter(jobs)
    while window := list(islice(jobs, WINDOW)):
        groups: dict[tuple[int, int], list[Job]] = {}
        for job in window:
            groups.setdefault(reader.size(job), []).append(job)
        for (height, width), group in groups.items():
            most = max(1, min(together, LARGEST_BATCH_PIXELS // (height * width)))
            if any(job.mask or job.regions or isinstance(job.style, tuple) for job in group):
                most = 1  # masks and squares are one picture's own
            for start in range(0, len(group), most):
                batch = group[start : start + most]
                yield _Batch(batch, len(batch) * height * width)


@dataclass(frozen=True)
class _Work:
    """The steps after reading."""

    stylizer: Stylizer
    files: ThreadPoolExecutor
    reader: _Reader
    quality: int | None
    overwrite: bool
    metadata: bool
    options: dict[str, Any]

    def paint(self, batch: _Batch) -> list[Future[Result]]:
        """Wait for a batch's readings, paint it and have it written; failures become results."""
        paintings = self._painted(batch.jobs, batch.readings)
        if batch.pixels > MOST_PIXELS:  # alone under way: the photograph makes room for its painting's file
            batch.readings.clear()
            self.reader.forget()
        return [self.files.submit(self._write, painted) for painted in paintings]

    def _painted(self, jobs: list[Job], readings: list[Future[_Read]]) -> list[_Painted]:
        ready: list[tuple[Job, _Read]] = []
        done: list[_Painted] = []
        for job, reading in zip(jobs, readings, strict=True):
            try:
                read = reading.result()
                size = read.picture.pixels.shape[:2]
                check_size(square_size(size) if isinstance(job.style, tuple) else size, job.ending)
                ready.append((job, read))
            except FAILURES as error:
                done.append(_Painted(Result(job, error)))
        started = time.perf_counter()
        try:
            paintings = self._paint_together(ready)
        except FAILURES as error:
            if len(jobs) == 1:
                return [_Painted(Result(jobs[0], error))]
            # Whose fault it was shows when each goes alone.
            return [one for job, reading in zip(jobs, readings, strict=True) for one in self._painted([job], [reading])]
        for (job, read), pixels in zip(ready, paintings, strict=True):
            seconds = read.seconds + (time.perf_counter() - started) / len(ready)
            height, width = pixels.shape[:2]
            result = Result(job, size=(height, width), seconds=seconds, notes=read.picture.notes)
            done.append(_Painted(result, pixels, read.picture.exif))
        return done

    def _paint_together(self, ready: list[tuple[Job, _Read]]) -> list[NDArray[np.uint8]]:
        if len(ready) == 1:
            ((job, read),) = ready
            options = {**self.options, "mask": read.mask, "regions": read.regions}
            if isinstance(job.style, tuple):
                return [paint_square(self.stylizer, read.picture.pixels, job.style, job.strength, **options)]
            return [self.stylizer.apply(read.picture.pixels, job.style, job.strength, **options)]
        styles = [job.style for job, _ in ready if isinstance(job.style, Style)]
        photos, strengths = [read.picture.pixels for _, read in ready], [job.strength for job, _ in ready]
        return self.stylizer.apply_many(photos, styles, strengths, **self.options)

    def _write(self, painted: _Painted) -> Result:
        result, pixels = painted.result, painted.pixels
        if pixels is None:
            return result
        started = time.perf_counter()
        output = result.job.output
        notes: tuple[str, ...] = ()
        told: dict[str, Any] = {"exif": painted.exif, "history": result.job.history} if self.metadata else {}
        try:
            if isinstance(output, Path):
                _make_folder(output.parent)
                notes = write_image(output, pixels, quality=self.quality, overwrite=self.overwrite, **told)
            else:
                output.write(encode_image(pixels, result.job.ending, quality=self.quality, **told))
                output.flush()
        except FAILURES as error:
            return Result(result.job, error)
        seconds = result.seconds + time.perf_counter() - started
        return replace(result, seconds=seconds, notes=result.notes + notes)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from error
