"""From file to file: reading, looking for motion, painting and encoding overlap, in threads.

Two frames are painted at a time, a stream of the network each, which takes a tenth less time than all threads on one: a
stream goes on where the other waits for its core. Measured as well: batches of two and four are no faster.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from restyle.controls.colors import keep_colors
from restyle.controls.detail import at_work_size, enlarge
from restyle.controls.masks import PersonMask, lay_over, mask_of
from restyle.errors import VideoError
from restyle.painter import WHOLE_PIXELS
from restyle.stylizer import Style, Stylizer, check_options
from restyle.video.reader import Frame, VideoReader, check_cut
from restyle.video.temporal import CALM, Blender, Motion, MotionFinder, Statistics, check_calm
from restyle.video.writer import DEFAULT, Encoding, VideoWriter, check_writable

if TYPE_CHECKING:
    import av

    from restyle.controls.masks import MaskLike

    Item = Frame | av.Packet[Any]

T = TypeVar("T")
Stream = Generator[T, None, None]

AHEAD = 3
"""Frames that each stage may be ahead of the next: more would take memory and gain nothing."""

MOST_WAITING = 64
"""Packets of sound and subtitles that may wait for a frame before them, where frames are few."""

STOPPING_S = 60
"""How long a stage may take to end; one that runs on while Python itself ends would crash the program."""

Report = Callable[[int, int | None], None]
"""Called after each frame with the frames done and all frames, if that is known."""


class StyleTrack:
    """A style that may change over time.

    Args:
        keys: Times in seconds from the start of the output, and the styles wanted then; between two times one style
            becomes the other, evenly, and before the first and after the last it stands.

    Raises:
        ValueError: no keys, a time that is negative or there twice, or styles of different models.
    """

    def __init__(self, keys: Sequence[tuple[float, Style]]) -> None:
        self._keys = sorted(keys, key=lambda key: key[0])
        times = [at for at, _ in self._keys]
        if not times or not all(at >= 0 for at in times) or len(set(times)) < len(times):
            raise ValueError(f"styles need times that are not negative and differ, got {times}")
        Style.mix([style for _, style in self._keys])  # refuses styles of different models

    def at(self, time: float) -> Style:
        """The style at a time in seconds."""
        before = [key for key in self._keys if key[0] <= time]
        after = [key for key in self._keys if key[0] > time]
        if not before or not after:
            return before[-1][1] if before else after[0][1]
        (start, old), (end, new) = before[-1], after[0]
        share = (time - start) / (end - start)
        return Style.mix([old, new], [1 - share, share]) if share else old


@dataclass(frozen=True)
class Look:
    """How the frames of a video are painted.

    Attributes:
        style: One style, or a track of them.
        strength: 0 gives the video back, 1 is the style, up to 2 exaggerates it.
        calm: 0 = every frame by itself, up to 1; see ``restyle.video.temporal``.
        keep_colors: As for ``Stylizer.apply``.
        work_size: Same.
        mask: Same, but no ``PersonMask``, since it is the same for all frames.
        tile: Same. In tiles, the content's statistics are those of each frame: they are not averaged over time.

    Raises:
        ValueError: an option outside its range.
    """

    style: Style | StyleTrack
    strength: float = 1.0
    calm: float = CALM
    keep_colors: str | None = None
    work_size: int | None = None
    mask: MaskLike | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if isinstance(self.mask, PersonMask):
            raise ValueError("people are not followed through a video; the mask must be a picture")
        check_options(strength=self.strength, keep_colors=self.keep_colors, work_size=self.work_size, tile=self.tile)
        check_calm(self.calm)

    def at(self, time: float) -> Style:
        """The style at a time in seconds."""
        return self.style.at(time) if isinstance(self.style, StyleTrack) else self.style


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        frames: Frames painted.
        size: Their (height, width) in the file.
        encoder: FFmpeg's name of the encoder.
        seconds: How long it took.
        notes: A sentence for each thing that could not be read or kept.
        damaged: Whether something of the input could not be read; the rest was painted.
    """

    frames: int
    size: tuple[int, int]
    encoder: str
    seconds: float
    notes: tuple[str, ...]
    damaged: bool


def stylize_video(
    stylizer: Stylizer,
    source: str | Path,
    output: str | Path,
    look: Look,
    *,
    start: float | None = None,
    stop: float | None = None,
    size: int | tuple[int, int] | None = None,
    encoding: Encoding = DEFAULT,
    sound: str = "copy",
    metadata: bool = True,
    overwrite: bool = False,
    report: Report | None = None,
    show: Callable[[NDArray[np.uint8]], None] | None = None,
) -> Outcome:
    """Paint a video file; sound, subtitles, chapters and metadata are copied.

    Args:
        stylizer: The model.
        source: The video, see ``VideoReader``.
        output: Where to, see ``VideoWriter``.
        look: How to paint.
        start: See ``VideoReader``.
        stop: Same.
        size: Same.
        encoding: How to compress.
        sound: ``copy`` or ``drop``.
        metadata: False = leave out what the source says of itself, such as where it was taken; see ``VideoWriter``.
        overwrite: Replace a file that exists already.
        report: Called after each frame.
        show: Called with each painted frame, (H, W, 3) uint8, which must not be changed.

    Returns:
        What became of it. If anything fails or is interrupted, no file is left.

    Raises:
        VideoError: the source cannot be read, or the output cannot be written.
        RestyleError: see ``VideoReader`` and ``VideoWriter``.
        ValueError: an option outside its range.
    """
    check_cut(start, stop)
    check_writable(output, overwrite=overwrite)
    began = time.perf_counter()
    count = 0
    with (
        VideoReader(source, start=start, stop=stop, size=size) as reader,
        VideoWriter(
            output, reader.clip, encoding, source=reader, sound=sound, metadata=metadata, overwrite=overwrite
        ) as writer,
        contextlib.closing(paint(reader, stylizer, look)) as painted,
    ):
        for item in painted:
            writer.write(item)
            if isinstance(item, Frame):
                count += 1
                if show:
                    show(item.pixels)
                if report:
                    report(count, reader.frames)
        if not count:
            raise VideoError(f"no picture of {str(source)!r} can be decoded")
    seconds = time.perf_counter() - began
    notes = (*reader.notes, *writer.notes)
    return Outcome(count, writer.size, writer.encoder, seconds, notes, reader.damaged or writer.damaged)


def paint(items: Iterable[Item], stylizer: Stylizer, look: Look) -> Stream[Item]:
    """Paint the frames of a stream, in threads; everything else is handed through in order.

    Args:
        items: Frames, and packets that are not looked at.
        stylizer: The model.
        look: How to paint.

    Returns:
        An iterator that must be closed or used up, or its threads go on waiting.
    """
    if not look.strength:
        return ahead(items, AHEAD)
    looked_at = ahead(_with_motion(ahead(items, AHEAD), look), AHEAD)
    return ahead(_blended(ahead(_painted(looked_at, stylizer, look), AHEAD), look), AHEAD)


def ahead(source: Iterable[T], capacity: int) -> Stream[T]:
    """Iterate in a thread of its own, up to ``capacity`` items ahead of who takes them.

    An error in the source is raised where its items are taken. Closing this iterator ends the thread and closes the
    source, so a chain of these ends as a whole, whichever part of it fails.
    """
    items: queue.Queue[Any] = queue.Queue(capacity)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                items.put(item, timeout=0.1)
                return True
        return False

    def fill() -> None:
        failure: BaseException | None = None
        iterator = iter(source)
        try:
            # If Ctrl-C comes while this thread starts, nobody can wait for it: then it must not begin.
            for item in () if stopped.is_set() else iterator:
                if not put((item, None)):
                    break
        except BaseException as error:
            failure = error
        if isinstance(iterator, Generator):
            iterator.close()
        put((_END, failure))

    def take() -> Stream[T]:
        # Nothing runs before the first item is wanted.
        thread = threading.Thread(target=fill, daemon=True)
        try:
            thread.start()
            while True:
                with contextlib.suppress(queue.Empty):
                    item, failure = items.get(timeout=0.5)  # with a limit, so that Ctrl-C is heard on all systems
                    if failure is not None:
                        raise failure
                    if item is _END:
                        return
                    yield item
        finally:
            stopped.set()
            _wait_for(thread)

    return take()


def _wait_for(thread: threading.Thread) -> None:
    """Wait until a stage has ended, however often Ctrl-C is pressed meanwhile."""
    until = time.monotonic() + STOPPING_S
    while thread.is_alive() and (left := until - time.monotonic()) > 0:
        with contextlib.suppress(KeyboardInterrupt):
            thread.join(left)


_END = object()


@dataclass(frozen=True)
class _Seen:
    """A frame on its way: as it was, as it is painted, and how it goes on from the last one."""

    frame: Frame
    pixels: NDArray[np.uint8]
    motion: Motion | None


def _with_motion(items: Stream[Item], look: Look) -> Stream[_Seen | Item]:
    find = MotionFinder(look.calm)
    with contextlib.closing(items):  # a stage that fails ends those before it
        for item in items:
            if not isinstance(item, Frame):
                yield item
            elif look.calm:
                yield _Seen(item, *find(item.pixels))
            else:
                yield _Seen(item, item.pixels, None)


def _painted(items: Stream[_Seen | Item], stylizer: Stylizer, look: Look) -> Stream[_Seen | Item]:
    """As many frames at a time as the network has streams, and one more that waits for the next of them.

    What comes between frames waits for its turn. So the order stays, and the mean of statistics with which a frame is
    painted depends on nothing but it.
    """
    statistics = Statistics(look.calm)
    under_way: deque[tuple[_Seen | Item, Future[_Painting] | None, Statistics]] = deque()

    def first() -> _Seen | Item:
        item, painting, scene = under_way.popleft()
        if painting is None or not isinstance(item, _Seen):
            return item
        pixels, own = painting.result()
        if own is not None:
            scene.add(own)
        return replace(item, pixels=pixels)

    def enough() -> bool:
        frames = sum(painting is not None for _, painting, _ in under_way)
        return frames > stylizer.streams or len(under_way) > MOST_WAITING

    with contextlib.closing(items), ThreadPoolExecutor(stylizer.streams, "restyle-painter") as painters:
        for item in items:
            painting = None
            if isinstance(item, _Seen):
                if item.motion is None:
                    statistics = Statistics(look.calm)
                painting = painters.submit(_paint_frame, item, stylizer, look, statistics.mean)
            under_way.append((item, painting, statistics))
            while enough():
                yield first()
        while under_way:
            yield first()


_Painting = tuple[NDArray[np.uint8], NDArray[np.float32] | None]
"""A painted frame, and its own statistics where they are averaged over time."""


def _paint_frame(item: _Seen, stylizer: Stylizer, look: Look, mean: NDArray[np.float32] | None) -> _Painting:
    small = at_work_size(item.pixels, look.work_size)
    style, own = look.at(item.frame.time), None
    if look.tile or (look.tile is None and small.size > 3 * WHOLE_PIXELS):
        painted = stylizer.apply(small, style, look.strength, tile=look.tile)
    else:
        found, statistics = stylizer.paint(small[None], style, look.strength, statistics=mean)
        painted, own = found[0], statistics[0]
    pixels = painted if small is item.pixels else enlarge(painted, small, item.pixels)
    return keep_colors(pixels, item.pixels, look.keep_colors), own


def _blended(items: Stream[_Seen | Item], look: Look) -> Stream[Item]:
    blend, mask = Blender(look.calm), None
    with contextlib.closing(items):
        for item in items:
            if not isinstance(item, _Seen):
                yield item
                continue
            pixels = blend(item.pixels, item.motion)
            if look.mask is not None:
                mask = mask_of(look.mask, item.frame.pixels) if mask is None else mask
                under = item.frame.pixels.copy()
                lay_over(under, pixels, mask)
                pixels = under
            yield replace(item.frame, pixels=pixels)
