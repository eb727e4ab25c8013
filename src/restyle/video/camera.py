"""Live pictures: the newest picture of a camera or stream wins, and none waits in a queue.

Sources are a webcam by its number, the address of a stream, a file that is played over and over, or standard input.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.errors import VideoError
from restyle.image import fit_short_side
from restyle.stylizer import Style, Stylizer
from restyle.video.frames import Orientation, ToPixels
from restyle.video.reader import SMALLEST_SIDE
from restyle.video.temporal import CALM, Blender, MotionFinder, Statistics

Pixels = NDArray[np.uint8]

PATIENCE_S = 10.0
"""How long a source may take to deliver, before it counts as lost."""

RETRY_S = (0.5, 5.0)
"""First and longest wait before a lost stream is asked for again."""

IDLE_S = 0.05
"""How often who waits for a picture may do something else."""

LAST_S = 0.04
"""How long a file's last picture lasts; a photograph is a film of one."""

WIDEST = 4
"""No real pixel is wider than this by its height, or higher by its width: such a source is painted as it is."""

MOST_WEBCAMS = 10_000
"""Larger numbers are no camera's; to very large ones OpenCV answers with half a page."""

SWITCH_S = 0.5
"""How long one style takes to become the next."""

SIDES = (128, 1080)
"""Smallest and largest short side that ``Pace`` takes."""


@dataclass(frozen=True)
class Shot:
    """A picture of a camera.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        number: Counts the pictures that the camera gave; those in between were never seen.
        taken: When it arrived, by ``time.monotonic``.
    """

    pixels: Pixels
    number: int
    taken: float


class Camera:
    """A source that is read all the time in a thread of its own. Close it, or use it as a context.

    Args:
        source: Number of a webcam, an address (``rtsp://...``), a file, or ``-`` for standard input.
        size: Resize: the shorter side; None = as it is.
        mirror: Swap left and right.
        tell: Called with a sentence when the source is lost and when it is back.

    Attributes:
        mirror: May be changed at any time.

    Raises:
        VideoError: the source gives no picture.
    """

    def __init__(
        self,
        source: str,
        *,
        size: int | None = None,
        mirror: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._source, self._size, self.mirror, self._tell = source, size, mirror, tell
        self._name = re.sub("//[^/]*@", "//", source)  # a password is nobody's business who looks on
        self._arrived = threading.Condition()
        self._newest: Shot | None = None
        self._failure: VideoError | None = None
        self._ended = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        try:
            self.newest()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Camera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the source."""
        self._stop.set()
        self._thread.join(timeout=2)

    def newest(self, after: int = 0, idle: Callable[[], None] = lambda: None) -> Shot | None:
        """The newest picture, as soon as there is one with a number beyond ``after``.

        Args:
            after: Number of the last picture that is known.
            idle: Called again and again while none comes, so that a window goes on living.

        Returns:
            None = the source has ended, or was closed.

        Raises:
            VideoError: the source never gave a picture.
        """
        while True:
            with self._arrived:
                if self._newest is not None and self._newest.number > after:
                    return self._newest
                if self._failure:
                    raise self._failure
                if self._ended or self._stop.is_set():
                    return None
                self._arrived.wait(IDLE_S)  # with a limit, so that Ctrl-C is heard on all systems
            idle()

    # --- in the thread

    def _read(self) -> None:
        wait = RETRY_S[0]
        while not self._stop.is_set():
            before = self._newest
            reason = "it has ended"
            try:
                for pixels in self._pictures():
                    if self._stop.is_set():
                        return
                    if before is self._newest and before is not None and not self._is_file:
                        self._tell(f"{self._name} is back")
                    self._publish(pixels)
                    wait = RETRY_S[0]
            except Exception as error:  # whatever it is: if this thread just ended, who waits would wait for ever
                reason = str(getattr(error, "strerror", None) or error)
            if self._newest is None:
                self._end(VideoError(f"the camera {self._name!r} gives no picture: {reason}"))
                return
            if self._source == "-":
                self._end()
                return
            if self._is_file:
                self._stop.wait(LAST_S)
            else:
                self._tell(f"{self._name} is lost: {reason}; trying again")
                self._stop.wait(wait)
                wait = min(2 * wait, RETRY_S[1])

    @property
    def _is_file(self) -> bool:
        return os.path.isfile(self._source)

    def _end(self, failure: VideoError | None = None) -> None:
        with self._arrived:
            self._failure, self._ended = failure, True
            self._arrived.notify_all()

    def _publish(self, pixels: Pixels) -> None:
        if self.mirror:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        with self._arrived:
            number = 1 if self._newest is None else self._newest.number + 1
            self._newest = Shot(pixels, number, time.monotonic())
            self._arrived.notify_all()

    def _pictures(self) -> Generator[Pixels, None, None]:
        return self._webcam(int(self._source)) if self._source.isdecimal() else self._stream()

    def _webcam(self, number: int) -> Generator[Pixels, None, None]:
        if number >= MOST_WEBCAMS:
            raise OSError("no camera has such a number")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong is said by us
        capture = cv2.VideoCapture(number)
        try:
            if not capture.isOpened():
                raise OSError("it cannot be opened")
            while True:
                found, picture = capture.read()
                if not found:
                    return
                rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                height, width = self._wanted(rgb.shape[:2])
                yield rgb if rgb.shape[:2] == (height, width) else cv2.resize(rgb, (width, height))
        finally:
            capture.release()

    def _stream(self) -> Generator[Pixels, None, None]:
        if self._source == "-":
            place: Any = sys.stdin.buffer
        elif self._is_file:
            place = f"file:{self._source}"
        elif re.match(r"(https?|rtsps?|rtmps?|udp|tcp|srt)://", self._source):
            place = self._source
        else:
            raise ValueError("neither a number, a file nor an address")
        options = {"rtsp_transport": "tcp", "fflags": "nobuffer"} if self._source.startswith("rtsp") else {}
        with av.open(place, options=options, timeout=PATIENCE_S) as container:
            if not container.streams.video:
                raise ValueError("it has no moving pictures")
            aspect = container.streams.video[0].sample_aspect_ratio or 1
            wide = aspect if 1 / WIDEST <= aspect <= WIDEST else 1
            began, to_pixels = 0.0, None
            for frame in container.decode(video=0):
                if to_pixels is None:
                    size = Orientation.of(frame).upright((frame.height, round(frame.width * wide)))
                    to_pixels = ToPixels(frame, self._wanted(size))
                    began = time.monotonic() - (frame.time or 0)  # a file's clock need not begin at 0
                if self._is_file and frame.time is not None:  # at its own pace, like a camera
                    self._stop.wait(max(0.0, began + frame.time - time.monotonic()))
                yield to_pixels(frame)

    def _wanted(self, size: tuple[int, int]) -> tuple[int, int]:
        """Even sides, for the recording; a source that comes back with another size keeps to its first."""
        if self._newest is not None:
            return self._newest.pixels.shape[0], self._newest.pixels.shape[1]
        height, width = size if self._size is None else fit_short_side(size, self._size)
        if min(height, width) < SMALLEST_SIDE:
            raise ValueError(f"{height} x {width} pixels are too small; give a size of {SMALLEST_SIDE} or more")
        return height - height % 2, width - width % 2


class StyleSwitch:
    """Several styles of which one is shown; the next comes at once and is there after ``SWITCH_S``. For any threads."""

    def __init__(self, styles: Sequence[Style]) -> None:
        if not styles:
            raise ValueError("a camera needs at least one style")
        self._styles = list(styles)
        self._lock = threading.Lock()
        self._shown, self._from, self._since = 0, styles[0], -SWITCH_S

    def next(self, now: float) -> int:
        """Go on to the next style, at a time in seconds; its number."""
        with self._lock:
            self._from = self._at(now)
            self._shown = (self._shown + 1) % len(self._styles)
            self._since = now
            return self._shown

    def at(self, now: float) -> Style:
        """The style at a time in seconds."""
        with self._lock:
            return self._at(now)

    def _at(self, now: float) -> Style:
        share = (now - self._since) / SWITCH_S
        if share >= 1:
            return self._styles[self._shown]
        return Style.mix([self._from, self._styles[self._shown]], [1 - max(0.0, share), max(0.0, share)])


class Pace:
    """Finds the size at which a machine holds a rate.

    Args:
        rate: Pictures a second that are wanted; None = leave the size alone.
        side: Short side to begin with.
    """

    def __init__(self, rate: float | None, side: int) -> None:
        self._rate, self._largest, self.side = rate, min(side, SIDES[1]), side

    def took(self, seconds: float) -> None:
        """Learn how long a picture took: a slow one makes the next smaller, a fast one larger."""
        if self._rate is None:
            return
        spare = 1 / (self._rate * max(seconds, 1e-6))
        if spare < 0.95 or spare > 1.4:  # in between nothing changes, since each size is compiled anew
            # The work grows with the square of the side; steps of 16 keep the sizes few.
            fitting = round(self.side * min(1.25, max(0.6, spare**0.5 * 0.97)) / 16) * 16
            self.side = max(min(SIDES[0], self._largest), min(self._largest, fitting))


@dataclass(frozen=True)
class Painted:
    """A painted picture of a camera.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        latency: Seconds from the picture's arrival to now.
        skipped: Pictures of the camera that were passed over since the last one.
        side: Short side at which it was painted.
    """

    pixels: Pixels
    latency: float
    skipped: int
    side: int


def paint_live(
    camera: Camera,
    stylizer: Stylizer,
    styles: StyleSwitch,
    *,
    strength: float | Callable[[], float] = 1.0,
    calm: float = CALM,
    rate: float | None = None,
    idle: Callable[[], None] = lambda: None,
) -> Generator[Painted, None, None]:
    """Paint the newest picture of a camera, again and again, until the camera ends.

    Args:
        camera: The camera.
        stylizer: The model.
        styles: The styles.
        strength: 0..2, or what tells it for each picture anew.
        calm: 0..1, see ``restyle.video.temporal``.
        rate: Pictures a second to hold by painting smaller; None = paint at the camera's size.
        idle: Called again and again while the camera gives no picture.
    """
    find, blend, statistics = MotionFinder(calm), Blender(calm), Statistics(calm)
    number, pace = 0, None
    while (shot := camera.newest(number, idle)) is not None:
        began = time.monotonic()
        size = shot.pixels.shape[:2]
        pace = pace or Pace(rate, min(size))
        side = pace.side
        small = shot.pixels
        if side < min(size):
            small = cv2.resize(small, fit_short_side(size, side)[::-1], interpolation=cv2.INTER_AREA)
        content, motion = find(small) if calm else (small, None)
        if motion is None:
            statistics.restart()
        now_strength = strength() if callable(strength) else strength
        found, own = stylizer.paint(content[None], styles.at(began), now_strength, statistics=statistics.mean)
        statistics.add(own[0])
        result = blend(found[0], motion)
        if result.shape[:2] != size:
            result = cv2.resize(result, size[::-1], interpolation=cv2.INTER_CUBIC)
        now = time.monotonic()
        pace.took(now - began)
        yield Painted(result, now - shot.taken, shot.number - number - 1, side)
        number = shot.number
