"""Clips that the video tests make for themselves with PyAV, small and short, and how they look at them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags

from restyle import gallery
from restyle.image import read_image, resize
from restyle.video.reader import Frame, VideoReader
from restyle.video.writer import Encoding, VideoWriter

RATE = 16000
"""Samples of sound a second."""


def panned(count: int, size: tuple[int, int] = (64, 96), step: int = 1, name: str = "castle") -> list[np.ndarray]:
    """A camera that pans over a bundled photograph by ``step`` pixels a frame."""
    height, width = size
    wide = resize(read_image(gallery.find(name, kind="sample")).pixels, (height, 2 * width + count * step))
    return [np.ascontiguousarray(wide[:, i * step : i * step + width]) for i in range(count)]


def write_clip(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv444p",
    time_base: Fraction = Fraction(1, 12800),
    times: Sequence[float] | None = None,
    rate: int = 25,
    sound: float = 0,
    sound_codec: str = "aac",
    subtitles: Sequence[tuple[float, str]] = (),
    rotation: int | None = None,
    mirrored: bool = False,
    colour: tuple[int, int] = (6, 1),
    metadata: dict[str, str] | None = None,
    chapters: Sequence[tuple[float, float, str]] = (),
    aspect: Fraction = Fraction(1),
    last: float = 0,
    options: dict[str, str] | None = None,
    sound_first: bool = False,
) -> Path:
    """Write frames at given times (seconds), with a tone of ``sound`` seconds; nearly without loss.

    The last frame lasts ``last`` seconds, if that is given. ``options`` are the encoder's. With ``sound_first`` all of
    it lies ahead of the pictures, as if an encoder had thought about them for long.
    """
    times = [i / rate for i in range(len(frames))] if times is None else times
    hurry = {"max_interleave_delta": "1"} if sound_first else {}
    with av.open(str(path), "w", container_options=hurry) as out:
        out.metadata.update(metadata or {})
        stream: Any = out.add_stream(
            codec, rate=rate, options={"crf": "1", "preset": "ultrafast", "g": "5", **(options or {})}
        )
        context = stream.codec_context
        context.height, context.width = frames[0].shape[:2]
        context.pix_fmt, context.time_base = pixel_format, time_base
        context.colorspace, context.color_range = colour
        context.sample_aspect_ratio = aspect
        context.flags |= Flags.frame_duration
        if rotation is not None:
            stream.set_display_rotation(rotation, hflip=mirrored)
        tone: Any = out.add_stream(sound_codec, rate=RATE) if sound else None
        if tone:
            tone.codec_context.layout = "mono"
            tone.metadata.update({"language": "fin", "comment": "hummed"})
        words: Any = out.add_mux_stream("subrip") if subtitles else None
        if chapters:
            out.set_chapters(
                [
                    {"id": i, "start": round(a * 1000), "end": round(b * 1000), "time_base": Fraction(1, 1000),
                     "metadata": {"title": title}}
                    for i, (a, b, title) in enumerate(chapters)
                ]
            )  # fmt: skip
        out.start_encoding()
        if tone:
            _write_tone(out, tone, sound)
        for at, text in subtitles:
            packet: Any = av.Packet(text.encode())
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = round(at * 1000)
            packet.duration = 500
            out.mux(packet)
        for pixels, at in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
                format=pixel_format, dst_colorspace={1: 1, 6: 5}[colour[0]], dst_color_range=colour[1]
            )
            frame.pts, frame.time_base = round(at / time_base), time_base
            frame.duration = round((last if last and at == times[-1] else 1 / rate) / time_base)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def _write_tone(out: Any, stream: Any, seconds: float) -> None:
    size = stream.codec_context.frame_size or 1024
    samples = np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)
    for start in range(0, len(samples), size):
        part = np.ascontiguousarray(samples[None, start : start + size])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.pts, frame.sample_rate, frame.time_base = start, RATE, Fraction(1, RATE)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def moved(source: Path, target: Path, by: float, *, backwards: bool = False) -> Path:
    """Copy a file with all its times moved by some seconds; with its last stream first, if that is asked."""
    with (
        av.open(str(source)) as read,
        av.open(str(target), "w", container_options={"avoid_negative_ts": "disabled"}) as out,
    ):
        order = sorted(read.streams, key=lambda stream: stream.index, reverse=backwards)
        streams = {stream.index: out.add_stream_from_template(stream, opaque=True) for stream in order}
        out.set_chapters(
            [
                {
                    **one,
                    "start": one["start"] + round(by / one["time_base"]),
                    "end": one["end"] + round(by / one["time_base"]),
                }
                for one in read.chapters()
            ]
        )
        for packet in read.demux():
            if packet.dts is not None:
                packet.pts += round(by / packet.time_base)
                packet.dts += round(by / packet.time_base)
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return target


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Time in seconds and bytes of each packet of a stream, as they lie in a file."""
    with av.open(str(path)) as container:
        stream = next(one for one in container.streams if one.type == kind)
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.pts is not None]


def move_packet(path: Path, data: bytes, by: int) -> None:
    """Move the time of a packet in a Matroska file, by milliseconds."""
    file = bytearray(path.read_bytes())
    at = file.index(data) - 3  # after the time there is one more byte
    file[at : at + 2] = (int.from_bytes(file[at : at + 2], signed=True) + by).to_bytes(2, signed=True)
    path.write_bytes(file)


def frame_times(path: Path) -> list[Fraction]:
    """When each frame of a file is shown, in seconds."""
    with av.open(str(path)) as container:
        return [Fraction(frame.pts) * frame.time_base for frame in container.decode(video=0)]


LOSSLESS = Encoding(crf=1, pixel_format="yuv444p")


def copy(
    source: Path, target: Path, encoding: Encoding = LOSSLESS, *, sound: str = "copy", metadata: bool = True,
    overwrite: bool = False, **cut: Any,
) -> tuple[VideoReader, VideoWriter]:  # fmt: skip
    """Read and write without painting."""
    with (
        VideoReader(source, **cut) as reader,
        VideoWriter(
            target, reader.clip, encoding, source=reader, sound=sound, metadata=metadata, overwrite=overwrite
        ) as writer,
    ):
        for item in reader:
            writer.write(item)
    return reader, writer


def frames_of(path: Path | str, **cut: Any) -> list[Frame]:
    """All frames of a file, as ``VideoReader`` gives them."""
    with VideoReader(path, **cut) as reader:
        return [item for item in reader if isinstance(item, Frame)]


def pixels_of(path: Path) -> list[np.ndarray]:
    """The pixels of a clip's frames."""
    return [frame.pixels for frame in frames_of(path)]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference of two pictures, of 255."""
    return float(np.abs(one.astype(int) - other).mean())


def close(one: np.ndarray, other: np.ndarray, limit: float = 6.0) -> bool:
    """Whether two pictures differ by less than a limit, of 255, on average."""
    return bool(np.abs(one.astype(float) - other).mean() < limit)
