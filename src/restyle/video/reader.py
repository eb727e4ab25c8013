"""Video files in: upright RGB frames with their exact times, and the packets of sound and subtitles as they are.

Everything streams: a file of any length takes the memory of a few frames.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from restyle.errors import LimitError, VideoError
from restyle.image import fit_short_side
from restyle.video.frames import Colour, Orientation, ToPixels
from restyle.video.opening import find_origin, find_pictures, open_container

LIMIT_PIXELS = 40_000_000
"""Frames beyond this are refused: a small harmful file could fill the memory."""

SMALLEST_SIDE = 16
"""The network's smallest height and width."""

LATE_S = 10
"""Behind the end of a cut, so much is read on for sound that the file stores later than its pictures."""

LEADS_S = (10, 100)
"""So long before a cut reading begins; if that turns out to be too late, at the beginning of the file."""

PRIMING_S = Fraction(1, 10)
"""Sound begins less than this before the pictures, for its decoder to settle; more was cut away, and is hidden."""

JUMP_S = Fraction(1, 2)
"""Times that go back by so much begin anew."""

TIMES_GO_BACK = "times go back in the middle of the file; the pictures there follow each other at the usual rate"

ENDED_EARLY_S = 0.5
"""A file that ends so much before its header says has been cut off."""


@dataclass(frozen=True)
class Frame:
    """A picture of a video.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright.
        pts: When it is shown, in units of the video's ``time_base``, from the start of the file or of the cut.
        duration: How long, in the same units; 0 = the file does not say.
        time: ``pts`` in seconds.
    """

    pixels: NDArray[np.uint8]
    pts: int
    duration: int
    time: float


@dataclass(frozen=True)
class Clip:
    """What a video looks like.

    Attributes:
        size: (height, width), upright.
        rate: Frames a second, on average.
        time_base: The unit of ``Frame.pts`` in seconds.
        colour: What its file's numbers mean.
        aspect: Width of a pixel by its height.
    """

    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    colour: Colour
    aspect: Fraction = Fraction(1)


class VideoReader:
    """A video file opened for reading; iterate it once, in one thread.

    Args:
        path: The file, of any container and codec that FFmpeg reads.
        start: Seconds from the beginning at which to start; None = the beginning.
        stop: Seconds from the beginning before which to end; None = the end.
        size: Resize: the shorter side, or (height, width); None = as it is.
        formats: FFmpeg's names of the only containers that are taken, such as ``mov,matroska``; None = all.

    Attributes:
        clip: What its frames look like.
        frames: About how many there will be; None = the file does not say.
        notes: A sentence for each thing that could not be read or kept. Grows while reading.
        damaged: Whether something could not be read.
        container: PyAV's, for what is copied.
        stream: Its video stream.

    Raises:
        VideoError: no such file, not a video, no pictures in it, or none between start and stop.
        LimitError: frames larger than ``LIMIT_PIXELS``.
        ValueError: start or stop are negative or the wrong way round.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: float | None = None,
        stop: float | None = None,
        size: int | tuple[int, int] | None = None,
        formats: str | None = None,
    ) -> None:
        check_cut(start, stop)
        self._path, self._formats = str(path), formats
        # As it was meant: 1.04 is not the float's 1.04000000000000003.
        self._start = Fraction(start or 0).limit_denominator(1_000_000)
        self._stop = None if stop is None else Fraction(stop).limit_denominator(1_000_000)
        self._busy, self._closed = threading.Lock(), False
        self.container = open_container(path, formats)
        try:
            self._take_streams()
            self._first = self._find_first()
            self._describe(size)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a thread that still reads it finds its end."""
        with self._busy:  # FFmpeg must not be reading
            self._closed = True
            self.container.close()

    @property
    def seconds(self) -> float | None:
        """How long the video or the cut is; None = the file does not say."""
        ends = [end for end in (self._length, self._stop) if end is not None]
        return max(0.0, float(min(ends) - self._start)) if ends else None

    def __iter__(self) -> Iterator[Frame | av.Packet[Any]]:
        """Frames, and the packets of the other streams, in the order of the file; times count from the cut."""
        yield from self._early
        to_pixels = ToPixels(self._first, self.clip.size)
        yield self._framed(self._first, to_pixels)
        for item in self._items:
            yield self._framed(item, to_pixels) if isinstance(item, av.VideoFrame) else item
        self._sum_up()

    def chapters(self) -> list[Any]:
        """The chapters of the file, as PyAV gives them, cut and counted from the cut."""
        kept: list[Any] = []
        for chapter in self.container.chapters():
            base = chapter["time_base"] or Fraction(1)
            offset = math.floor((self._origin + self._start) / base)
            last = chapter["end"] if self._stop is None else math.floor((self._origin + self._stop) / base)
            end = min(chapter["end"], last)
            if end > offset:
                kept.append({**chapter, "start": max(0, chapter["start"] - offset), "end": end - offset})
        return kept if kept and kept[0]["start"] < kept[0]["end"] else []

    # --- opening

    def _take_streams(self) -> None:
        self.stream = find_pictures(self.container, self._path)
        self.stream.thread_type = "AUTO"
        self._refuse_beyond_limit(self.stream.codec_context.height, self.stream.codec_context.width)
        # Frames may grow in the middle of a file; the decoder refuses those.
        self.stream.codec_context.options = {"max_pixels": str(LIMIT_PIXELS)}
        self._origin = find_origin(self.container)

    def _find_first(self) -> av.VideoFrame:
        # Only these two say where in the file each time lies; in others FFmpeg guesses.
        indexed = self.container.format.name.startswith(("mov,", "matroska,")) and Path(self._path).is_file()
        leads = [lead for lead in LEADS_S if indexed and self._start > lead]
        for lead in leads:
            first = self._read_from(self._start - lead)
            # Files may store sound long before or after its pictures.
            needed = [self.stream, *self.container.streams.audio]
            if all(self._begun.get(stream.index, math.inf) <= self._start for stream in needed):
                break
        else:
            if leads:  # by now it stands somewhere in the middle
                self.container.close()
                self.container = open_container(self._path, self._formats)
                self._take_streams()
            first = self._read_from(None)
        if first is not None:
            return first
        if self._start or self._stop is not None:
            raise VideoError(f"{self._path!r} has no picture in the part that was asked for")
        raise VideoError(f"no picture of {self._path!r} can be decoded")

    def _read_from(self, place: Fraction | None) -> av.VideoFrame | None:
        """Begin to read, at a time or where the container stands; the first picture of the cut."""
        self.notes: list[str] = []
        self.damaged = False
        self._broken_frames = self._broken_packets = 0
        self._last_pts: int | None = None
        self._read_until = Fraction(0)
        self._begun: dict[int, Fraction] = {}  # the first time of each stream
        self._early: list[av.Packet[Any]] = []  # packets that come before the first picture
        if place is not None:
            with contextlib.suppress(av.error.FFmpegError):  # whether it was wound is seen by what comes
                self.container.seek(math.floor((self._origin + place) / self._time_base), stream=self.stream)
        self._items: Iterator[Any] = self._decode()
        for item in self._items:
            if isinstance(item, av.VideoFrame):
                return item
            self._early.append(item)
        return None

    def _describe(self, size: int | tuple[int, int] | None) -> None:
        first, stream = self._first, self.stream
        height, width = Orientation.of(first).upright((first.height, first.width))
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        if Orientation.of(first).transposed:
            aspect = 1 / aspect
        if isinstance(size, tuple):
            height, width, aspect = *size, Fraction(1)
        elif size is not None:
            # Even sides, since most encoders want them.
            height, width = (side + side % 2 for side in fit_short_side((height, width), size))
        self._refuse_beyond_limit(height, width)
        if min(height, width) < SMALLEST_SIDE:
            raise VideoError(
                f"frames of {self._path!r} of {height} x {width} pixels are too small; "
                f"give a size of {SMALLEST_SIDE} or more"
            )
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        colour = Colour.of(first)
        self.clip = Clip((height, width), Fraction(rate), self._time_base, colour, aspect)
        known = stream.frames if not self._start and self._stop is None else 0
        self.frames = known or (round(self.seconds * rate) if self.seconds else None)
        if colour.hdr:
            self.notes.append("HDR brought to ordinary colours; what is brighter than paper is clipped")
        if first.interlaced_frame:
            self.notes.append("interlaced pictures are painted as they are stored")
        if any(component.is_alpha for component in first.format.components):
            self.notes.append("transparency is not kept")

    def _refuse_beyond_limit(self, height: int, width: int) -> None:
        if height * width > LIMIT_PIXELS:
            raise LimitError(
                f"frames of {self._path!r} of {height} x {width} pixels are beyond the limit of {LIMIT_PIXELS:,} pixels"
            )

    # --- reading

    @property
    def _length(self) -> Fraction | None:
        """How long the file is, in seconds; None = it does not say."""
        if self.container.duration is None:
            return None
        told = Fraction(self.container.duration, av.time_base)
        return told - self._origin if self.container.format.name.startswith("matroska") else told  # there: its end

    @property
    def _time_base(self) -> Fraction:
        return self.stream.time_base or 1 / Fraction(self.stream.guessed_rate or 25)

    def _decode(self) -> Iterator[av.VideoFrame | av.Packet[Any]]:
        """Frames as they are decoded, and other packets with their times shifted, all within the cut."""
        waiting = {stream.index for stream in self.container.streams if stream.type in ("video", "audio")}
        for packet in self._demux():
            if packet.stream is self.stream:  # the empty packets at the end have no other right mark
                if self.stream.index in waiting:
                    for frame in self._decoded(packet):
                        when = self._time_of(frame)
                        self._begun.setdefault(self.stream.index, when)
                        if self._stop is not None and when >= self._stop:
                            waiting.discard(self.stream.index)
                            break
                        if when >= self._start:
                            yield frame
                continue
            due = self._note_time(packet)
            if due is None:
                continue
            self._begun.setdefault(packet.stream_index, due)
            if self._stop is not None and due >= self._stop:
                waiting.discard(packet.stream_index)
                if not waiting or due >= self._stop + LATE_S:
                    return
            elif self._cut_out(packet, due):
                yield packet
            if not waiting:
                return

    def _cut_out(self, packet: av.Packet[Any], due: Fraction) -> bool:
        """Let a packet's times count from the cut; whether it belongs there at all."""
        base, zero = packet.time_base, self._origin + self._start
        end = due + (packet.duration or 0) * base
        words = packet.stream.type == "subtitle"
        if words and due < self._start < end:  # still to be read
            due, packet.pts, packet.dts = self._start, round(zero / base), round(zero / base)
        if due < self._start and (self._start or end <= -PRIMING_S):
            return False
        if words and packet.duration:
            packet.duration = round((end if self._stop is None else min(end, self._stop)) / base) - round(due / base)
        packet.pts = None if packet.pts is None else packet.pts - round(zero / base)
        packet.dts = None if packet.dts is None else packet.dts - round(zero / base)
        return True

    def _demux(self) -> Iterator[av.Packet[Any]]:
        packets = self.container.demux()
        while True:
            try:
                with self._busy:
                    if self._closed:
                        return
                    packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except av.error.FFmpegError as error:
                self._damage(f"the file cannot be read beyond {float(self._read_until):.1f} s ({error.strerror})")
                return
            self._note_time(packet)
            yield packet

    def _decoded(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            with self._busy:
                frames = [] if self._closed else packet.decode()
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            due = self._note_time(packet)
            self._broken_packets += due is None or due >= self._start
            return []
        return [frame for frame in frames if isinstance(frame, av.VideoFrame)]

    def _note_time(self, packet: av.Packet[Any]) -> Fraction | None:
        """When a packet is due, in seconds from the beginning; None for the empty packet at the end."""
        at = packet.pts if packet.pts is not None else packet.dts
        if at is None or packet.time_base is None:
            return None
        when = at * packet.time_base - self._origin
        self._read_until = max(self._read_until, when + (packet.duration or 0) * packet.time_base)
        return when

    def _time_of(self, frame: av.VideoFrame) -> Fraction:
        """When a frame is shown, in seconds from the beginning; times that are missing or go back are mended."""
        base, pts, last = self._time_base, frame.pts, self._last_pts
        step = frame.duration or max(1, round(1 / (base * (self.stream.guessed_rate or 25))))
        if pts is None:
            pts = round(self._origin / base) if last is None else last + step
        elif last is not None and pts <= last - JUMP_S / base:
            if TIMES_GO_BACK not in self.notes:
                self.notes.append(TIMES_GO_BACK)
            pts = last + step
        elif last is not None and pts <= last:  # out of order, as AVI counts them: the next one may be right again
            pts = last + 1
        frame.pts = self._last_pts = pts
        return pts * base - self._origin

    def _framed(self, frame: av.VideoFrame, to_pixels: ToPixels) -> Frame:
        self._broken_frames += frame.is_corrupt
        pts = (frame.pts or 0) - round((self._origin + self._start) / self._time_base)
        duration = frame.duration or 0
        if self._stop is not None:
            duration = min(duration, max(1, round((self._stop - self._start) / self._time_base) - pts))
        return Frame(to_pixels(frame), pts, duration, float(pts * self._time_base))

    # --- damage

    def _damage(self, note: str) -> None:
        self.damaged = True
        self.notes.append(note)

    def _sum_up(self) -> None:
        if self._broken_packets:
            self._damage(f"{self._broken_packets} pictures could not be decoded and are left out")
        if self._broken_frames:
            self._damage(f"{self._broken_frames} pictures are damaged")
        expected = None if self._closed else self._length
        if self.damaged or expected is None or self._stop is not None:
            return
        if self._read_until < expected - Fraction(ENDED_EARLY_S):
            self._damage(f"the file breaks off after {float(self._read_until):.1f} of {float(expected):.1f} s")


def check_cut(start: float | None, stop: float | None) -> None:
    """Refuse a cut that no video can have.

    Raises:
        ValueError: start or stop are negative, not finite, or the wrong way round.
    """
    for name, value in (("start", start), ("stop", stop)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    if stop is not None and stop <= (start or 0):
        raise ValueError(f"stop must lie after start, got {stop:g} and {start or 0:g}")
