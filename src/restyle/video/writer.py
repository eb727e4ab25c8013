"""Video files out: painted frames are encoded, everything else is copied; the file appears only when it is whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.codec
import av.error
from av.codec.context import Flags
from av.container import OutputContainer

from restyle.errors import DeviceError, UnknownNameError, VideoError
from restyle.image import check_writable as check_place
from restyle.image import publish
from restyle.video.beside import Beside
from restyle.video.frames import RGB, ToFrame
from restyle.video.reader import Clip, Frame, VideoReader

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""The endings that can be written, and what FFmpeg calls them: those that keep the time of every single picture."""

ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
"""Short names of encoders; every other name is FFmpeg's own."""

_SETTINGS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "bf": "0"},  # with B-frames MP4 forgets how long the last one lasts
    "libx265": {"crf": "20", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "6", "row-mt": "1"},
    "libsvtav1": {"crf": "30"},
}

_PRESETS: dict[str, dict[str, str]] = {
    # Measured on painted frames: half the time of veryfast, the same distance from them, files an eighth larger.
    "libx264": {"preset": "superfast", "coder": "vlc", "weightp": "none"},
    "libx265": {"preset": "veryfast"},
    "libsvtav1": {"preset": "9"},
}
"""Unless a preset is given: as fast as pays, since the network wants the processor."""

SMALLEST_HEVC_SIDE = 64
"""With less, libx265 writes beyond its memory: seen with 32 x 48 and PyAV 18."""

SOUNDS = ("copy", "drop")

_STALE_METADATA = ("major_brand", "minor_version", "compatible_brands", "encoder", "rotate", "duration", "bps",
                   "number_of_frames", "number_of_bytes", "_statistics")  # fmt: skip
"""What a container says of itself or of its streams' sizes is no longer true in another file."""

_NAMES = ("language", "title", "filename", "mimetype")
"""What streams and chapters are told apart by: kept even where no metadata is wanted."""

_DAMAGE = (av.error.InvalidDataError, av.error.PatchWelcomeError)
"""How FFmpeg refuses a packet that is damaged; a time that goes back is an ``ArgumentError``."""


@dataclass(frozen=True)
class Encoding:
    """How pictures are compressed.

    Attributes:
        codec: ``h264``, ``hevc``, ``vp9``, ``av1``, or FFmpeg's name of an encoder, hardware's such as ``h264_nvenc``
            too; None = what suits the file's ending.
        crf: Quality for encoders that know it, 0 = best; None = 18 for H.264, 20 for HEVC, 30 for VP9 and AV1.
        preset: Speed for encoders that know it, such as ``slow``; None = a fast one.
        pixel_format: FFmpeg's name; ``yuv420p`` plays everywhere, ``yuv444p`` keeps odd sides and, without calm, all
            colour.
        options: The encoder's own options, such as ``{"tune": "animation"}``.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pixel_format: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)

    def chosen_for(self, path: str | Path) -> tuple[str, dict[str, str]]:
        """FFmpeg's name of the encoder, and its options, for a file of this ending.

        Raises:
            UnknownNameError: no such ending or encoder.
            ValueError: the encoder has no crf or preset, no option of a name given, or no such pixel format.
        """
        ending = Path(path).suffix
        if ending.lower() not in CONTAINERS:
            raise UnknownNameError("video format", ending, CONTAINERS)
        encoder = find_encoder(self.codec or ("vp9" if ending.lower() == ".webm" else "h264"))
        if self.pixel_format != type(self).pixel_format:  # what nobody asked for is no mistake of theirs
            _pixel_format(encoder, self.pixel_format)
        asked = dict(self.options)
        if self.crf is not None:
            asked["crf"] = f"{self.crf:g}"
        if self.preset is not None:
            asked["preset"] = self.preset
        known = _options_of(encoder)
        for name in asked:
            if name not in known:
                raise ValueError(f"the encoder {encoder} has no option {name!r}; give it one of its own")
        fast = {} if self.preset else _PRESETS.get(encoder, {})
        return encoder, {**_SETTINGS.get(encoder, {}), **fast, **asked}


DEFAULT = Encoding()


class VideoWriter:
    """A video file being written. Used as a context: when it ends well the file appears, otherwise nothing is left.

    Args:
        path: Where to; the ending chooses the container, see ``CONTAINERS``.
        clip: What the frames look like.
        encoding: How they are compressed.
        source: A video whose sound, subtitles, chapters and metadata are copied.
        sound: ``copy`` or ``drop``.
        metadata: False = of the metadata, copy only the languages and titles of streams and chapters.
        overwrite: Replace a file that exists already.

    Attributes:
        notes: A sentence for each thing that could not be kept.
        damaged: Whether packets of the source were left out since they are damaged; known when the file is finished.
        encoder: FFmpeg's name of the encoder in use.
        size: (height, width) of the frames in the file.

    Raises:
        VideoError: the file cannot be written, or its container cannot hold the sound.
        UnknownNameError: no such ending or encoder.
        DeviceError: the encoder is there, but its hardware is not.
        ValueError: another word for ``sound``, or an encoder or a pixel format that does not fit.
    """

    def __init__(
        self,
        path: str | Path,
        clip: Clip,
        encoding: Encoding = DEFAULT,
        *,
        source: VideoReader | None = None,
        sound: str = "copy",
        metadata: bool = True,
        overwrite: bool = False,
    ) -> None:
        check_sound(sound)
        check_writable(path, overwrite=overwrite)
        self._path = Path(os.path.realpath(path)) if overwrite else Path(path)  # a link stays a link
        self._ending = Path(path).suffix  # and tells the container by its own name
        self._overwrite = overwrite
        self._clip = clip
        self.notes: list[str] = []
        self.damaged = False
        self._copied = self._refused = 0
        self._waiting: dict[int, av.Packet[Any]] = {}  # the last packet of each stream of sound
        self._times: dict[int, int] = {}  # and the time of the one before
        self.encoder, settings = encoding.chosen_for(path)
        format = CONTAINERS[self._ending.lower()]
        fast_start = {"movflags": "faststart"} if format in ("mp4", "mov") else {}
        self._container: OutputContainer
        try:
            # Opened here first, so that what the disk refuses is said in its own words.
            self._beside = Beside(self._path)
        except OSError as error:
            raise VideoError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        try:
            place = f"file:{self._beside.path}"
            self._container = av.open(place, "w", format=format, container_options=fast_start)
        except OSError as error:
            self._beside.discard()
            raise VideoError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        try:
            self._stream = self._add_pictures(encoding, settings)
            self._copies = self._add_copies(source, sound, metadata=metadata) if source else {}
            self._open(encoding)
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._discard()

    def write(self, item: Frame | av.Packet[Any]) -> None:
        """Encode a frame, or copy a packet of the source.

        Raises:
            VideoError: the encoder or the disk refuses.
        """
        try:
            if isinstance(item, Frame):
                frame = self._to_frame(item.pixels)
                frame.pts, frame.time_base, frame.duration = item.pts, self._clip.time_base, item.duration
                self._mux(self._stream.encode(frame))
            elif item.stream_index in self._copies:
                self._copied += 1
                self._mux(self._settled(item))
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"cannot write {str(self._path)!r}: {_reason(error)}") from error

    def finish(self) -> None:
        """Close the file and put it in its place.

        Raises:
            VideoError: the disk refuses, or a file of that name has appeared meanwhile.
        """
        try:
            self._mux(self._waiting.values())
            self._mux(self._stream.encode(None))
            try:
                self._container.close()
            except _DAMAGE:  # in what had waited until now: the file is complete but for the rest of that
                self._refused += 1
            if self._refused:
                self.damaged = True
                self.notes.append(f"packets of sound or subtitles that are damaged and left out: {self._refused}")
            if self._overwrite and self._path.exists():
                shutil.copymode(self._path, self._beside.path)
            publish(self._beside.path, self._path, overwrite=self._overwrite)
        except FileExistsError as error:
            raise VideoError(f"cannot write {str(self._path)!r}: the file exists already") from error
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"cannot write {str(self._path)!r}: {_reason(error)}") from error
        finally:
            self._discard()

    # --- setting up

    def _add_pictures(self, encoding: Encoding, settings: dict[str, str]) -> Any:
        clip = self._clip
        try:
            stream: Any = self._container.add_stream(self.encoder, rate=clip.rate, options=settings)
        except ValueError as error:
            raise ValueError(f"a file ending in {self._ending} cannot hold what {self.encoder} makes") from error
        context = stream.codec_context
        context.pix_fmt = _pixel_format(self.encoder, encoding.pixel_format)
        halved = _halved_sides(context.pix_fmt)
        height, width = (side + (side % 2 if half else 0) for side, half in zip(clip.size, halved, strict=True))
        if (height, width) != clip.size:
            self.notes.append(
                f"{clip.size[1]} x {clip.size[0]} became {width} x {height}: {context.pix_fmt} has even sides"
            )
        if self.encoder == "libx265" and min(height, width) < SMALLEST_HEVC_SIDE:
            raise VideoError(
                f"libx265 needs frames of at least {SMALLEST_HEVC_SIDE} pixels a side, got {width} x {height}"
            )
        context.height, context.width = self.size = height, width
        # libx264 and others take the time base for what a frame lasts unless they are told the rate as well.
        context.time_base, context.framerate = clip.time_base, clip.rate
        context.sample_aspect_ratio = clip.aspect
        colour = clip.colour.written()
        context.colorspace = RGB if av.VideoFormat(context.pix_fmt).is_rgb else colour.matrix
        context.color_range = colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.flags |= Flags.frame_duration
        self._to_frame = ToFrame(colour, (height, width), context.pix_fmt)
        return stream

    def _add_copies(self, source: VideoReader, sound: str, *, metadata: bool) -> dict[int, Any]:
        """Streams for what is copied, by their numbers in the source."""
        copies = {}
        if metadata:
            copy_metadata(source.container.metadata, self._container.metadata)
        copy_metadata(source.stream.metadata, self._stream.metadata, names_only=not metadata)
        for stream in source.container.streams:
            if stream is source.stream or (stream.type == "audio" and sound == "drop"):
                continue
            try:
                if stream.type not in ("audio", "subtitle", "attachment"):
                    raise ValueError(stream.type)
                copy: Any = self._container.add_stream_from_template(stream, opaque=True)
            except ValueError:
                self._leave_out(stream)
                continue
            copy_metadata(stream.metadata, copy.metadata, names_only=not metadata)
            copy.disposition = stream.disposition
            copies[stream.index] = copy
        chapters = source.chapters()
        for chapter in chapters:
            told, chapter["metadata"] = chapter["metadata"], {}
            copy_metadata(told, chapter["metadata"], names_only=not metadata)
        self._container.set_chapters(chapters)
        return copies

    def _leave_out(self, stream: Any) -> None:
        what = {"audio": "sound", "subtitle": "subtitles", "video": "a second picture"}.get(stream.type, stream.type)
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
        said = f"{what} ({codec})" if codec else what
        if stream.type == "audio":
            raise VideoError(
                f"a file ending in {self._ending} cannot hold this {said}; "
                "write .mkv, which holds any, or choose to drop the sound"
            )
        self.notes.append(f"left out: {said}, stream {stream.index}")

    def _open(self, encoding: Encoding) -> None:
        if self.encoder == "libsvtav1":
            os.environ.setdefault("SVT_LOG", "1")  # errors only; it has no option for that
        try:
            self._stream.codec_context.open()
        except (av.error.FFmpegError, ValueError) as error:
            if self.encoder.startswith("lib"):
                asked = encoding.preset or encoding.options or encoding.crf is not None
                kind = ValueError if asked else VideoError
                raise kind(f"the encoder {self.encoder} refuses these settings: {_reason(error)}") from error
            raise DeviceError(f"the encoder {self.encoder} does not start on this machine: {_reason(error)}") from error
        try:
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(
                f"a file ending in {self._ending} cannot hold these pictures, sound and subtitles together; "
                f"write .mkv, which holds any: {_reason(error)}"
            ) from error

    # --- packets

    def _settled(self, packet: av.Packet[Any]) -> list[av.Packet[Any]]:
        """The packets that can be copied now.

        Sound waits for its next packet: where the time goes back, the first of the two is wrong if the second fits
        behind the one before. Otherwise a single wrong time far ahead would cost all sound until then.
        """
        index = packet.stream_index
        packet.stream = self._copies[index]
        if packet.stream.type != "audio" or packet.dts is None:
            return [packet]
        first = self._waiting.get(index)
        self._waiting[index] = packet
        if first is None or first.dts is None:
            return []
        before = self._times.get(index)
        if packet.dts < first.dts and (before is None or packet.dts > before):
            self._refused += 1
            return []
        self._times[index] = first.dts
        return [first]

    def _mux(self, packets: Iterable[av.Packet[Any]]) -> None:
        for packet in packets:
            try:
                self._container.mux_one(packet)
            except (av.error.ArgumentError, *_DAMAGE):
                # This packet, or one that has waited in FFmpeg for its turn. What we encode is not damaged.
                if self._refused == self._copied:
                    raise
                self._refused += 1

    def _discard(self) -> None:
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()
        self._beside.discard()


def check_sound(sound: str) -> None:
    """Refuse a word that is none of ``SOUNDS``.

    Raises:
        ValueError: naming the word and what is allowed.
    """
    if sound not in SOUNDS:
        raise ValueError(f"sound must be one of {', '.join(SOUNDS)}, got {sound!r}")


def check_writable(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse what cannot be written, before long work.

    Raises:
        UnknownNameError: the ending is none of ``CONTAINERS``.
        VideoError: the file exists and ``overwrite`` is not set, it is a folder, or its folder does not exist.
    """
    check_place(path, overwrite=overwrite, endings=CONTAINERS, kind="video format", failure=VideoError)


def find_encoder(name: str) -> str:
    """FFmpeg's name of an encoder for moving pictures.

    Raises:
        UnknownNameError: FFmpeg has none of that name.
    """
    encoder = ENCODERS.get(name, name)
    with contextlib.suppress(av.codec.codec.UnknownCodecError):
        if av.codec.Codec(encoder, "w").type == "video":
            return av.codec.Codec(encoder, "w").name
    raise UnknownNameError("video encoder", name, [*ENCODERS, *_hardware_encoders()])


def copy_metadata(source: Mapping[str, str], target: dict[str, str], *, names_only: bool = False) -> None:
    """Copy what is still true in another file; or of that, only what streams are told apart by."""
    for key, value in source.items():
        if key.lower() in _NAMES or not (names_only or key.lower().startswith(_STALE_METADATA)):
            target[key] = value


def _hardware_encoders() -> list[str]:
    ends = ("_nvenc", "_qsv", "_amf", "_videotoolbox", "_v4l2m2m", "_mf")
    return sorted(
        name for name in av.codec.codecs_available if name.endswith(ends) and name.startswith(("h264", "hevc"))
    )


def _options_of(encoder: str) -> set[str]:
    known = av.CodecContext.create(encoder, "w").supported_options
    return {option.name for option in (*known.generic, *known.private)}


def _pixel_format(encoder: str, wanted: str) -> str:
    offered = [format.name for format in av.codec.Codec(encoder, "w").video_formats or ()]
    if not offered or wanted in offered:
        return wanted
    if wanted == "yuv420p" and "nv12" in offered:  # the same picture, stored otherwise; what hardware likes
        return "nv12"
    raise ValueError(f"the encoder {encoder} has no pixel format {wanted!r}; it has: {', '.join(offered)}")


def _halved_sides(pixel_format: str) -> tuple[bool, bool]:
    """Whether colours are stored at half the height and at half the width."""
    colour = av.VideoFormat(pixel_format, 16, 16).components[-1]
    return colour.height < 16, colour.width < 16


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
