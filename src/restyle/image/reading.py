"""Reading picture files, and nothing else: by their content, within limits, upright."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from restyle.errors import ImageError, LimitError
from restyle.image.colours import split_alpha, to_srgb
from restyle.image.exif import UPRIGHT, history_of, read_exif

LIMIT_PIXELS = 200_000_000
"""Largest picture read unless the caller says otherwise, in pixels; 0.6 GB as RGB."""

LIMIT_SIDE = 100_000
"""Longest side of a picture that is read, in pixels."""

Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | IO[bytes]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that has been read, with what is worth keeping beside its pixels.

    Attributes:
        pixels: (H, W, 3) uint8 RGB or (H, W, 4) uint8 RGBA, sRGB, upright, C-contiguous.
        exif: What the camera and the photographer wrote, for ``write_image``; orientation 1, no thumbnail. The place
            where the picture was taken is still in it. None where the file has none or it is broken.
        notes: A short sentence for each thing that was changed or left out on the way.
    """

    pixels: Pixels
    exif: bytes | None = None
    notes: tuple[str, ...] = ()


def read_image(source: Source, *, limit_pixels: int = LIMIT_PIXELS) -> Picture:
    """Read a picture file into the one form that everything else works on.

    Knows JPEG, PNG, WebP, TIFF, GIF, BMP, PPM and AVIF by their content, not by their name, and HEIF where the package
    ``pillow_heif`` is installed. Of several frames or pages the first is taken.

    Args:
        source: A path, the bytes of a file, or a binary file object (read to its end, left open).
        limit_pixels: Largest height x width allowed; checked in the file's header, before anything is decoded.

    Returns:
        The picture, upright and in sRGB; with alpha only if some of it is transparent.

    Raises:
        ImageError: The file is missing, empty, damaged, cut short, or no picture.
        LimitError: The picture has more than ``limit_pixels`` pixels or a side beyond ``LIMIT_SIDE``.
        TypeError: ``source`` is nothing of the kind named above.
    """
    name = _name(source)
    with _open(source, name) as stream:
        image = _read_header(stream, name)
        check_limits(image.size, name, limit_pixels)
        return decode(image, name)


def read_size(source: Source, *, limit_pixels: int = LIMIT_PIXELS) -> tuple[int, int]:
    """The (height, width) of the upright picture, from the file's header alone.

    Nothing is decoded, so damage further inside stays unseen, and a PNG that tells its orientation behind its pixels
    counts as upright. Arguments and errors are those of ``read_image``.
    """
    name = _name(source)
    with _open(source, name) as stream:
        image = _read_header(stream, name)
        check_limits(image.size, name, limit_pixels)
        orientation: object = 1
        with contextlib.suppress(Exception):  # broken EXIF data, as in read_exif
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)  # PNG's own method would decode
        # Pillow gives TIFF's size upright already.
        turned = isinstance(orientation, int) and 5 <= orientation <= 8 and image.format != "TIFF"
        return (image.width, image.height) if turned else (image.height, image.width)


def read_history(source: Source) -> list[str]:
    """What restyle did to a picture, as ``write_image`` noted it: a line for each time, the oldest first.

    Arguments and errors are those of ``read_image``.
    """
    name = _name(source)
    with _open(source, name) as stream:
        image = _read_header(stream, name)
        with contextlib.suppress(Exception):  # broken EXIF data, as in read_exif
            return history_of(image.getexif())
        return []


def _name(source: object) -> str:
    """What to call the source in a message; quoted, so that odd file names cannot spoil a terminal."""
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return repr(os.fspath(path)) if isinstance(path, str | os.PathLike) else "the picture"


def _open(source: Source, name: str) -> IO[bytes]:
    try:
        if isinstance(source, str | os.PathLike):
            stream: IO[bytes] = open(source, "rb")  # noqa: SIM115  (the caller closes it)
            if stream.seekable():
                return stream
            with stream:  # a pipe
                return io.BytesIO(stream.read())
        if isinstance(source, bytes):
            return io.BytesIO(source)
        if hasattr(source, "read"):
            return io.BytesIO(source.read())
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {name}: {reason(error)}") from error
    raise TypeError(f"source must be a path, bytes or a binary file, got {type(source).__name__}")


def _read_header(stream: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Find the reader that fits the file's first bytes; the pixels are not decoded yet."""
    start = stream.read(64)
    if not start:
        raise ImageError(f"cannot read {name}: the file is empty")
    # Image.open would do, but it warns or fails at a global limit of Pillow's own before ours can be applied.
    for kind, signature, reader in _READERS:
        if re.match(signature, start, re.DOTALL):
            try:
                stream.seek(0)
                return reader(stream)
            except Image.DecompressionBombError as error:  # a few readers apply that limit themselves
                raise LimitError(f"cannot read {name}: {reason(error)}") from error
            except ImportError as error:
                raise ImageError(f"cannot read {name}: {kind} needs: pip install pillow-heif") from error
            except Exception as error:  # Pillow's readers raise a dozen kinds for damaged files
                raise _undecodable(name, kind, error) from error
    known = ", ".join(kind for kind, _, _ in _READERS)
    raise ImageError(f"cannot read {name}: it is not a picture in a known format ({known})")


def _read_heif(stream: IO[bytes]) -> ImageFile.ImageFile:
    # The class itself, because registering it would change Pillow for the whole process.
    image: ImageFile.ImageFile = importlib.import_module("pillow_heif").HeifImageFile(stream)
    return image


class _PngChunks(PngImagePlugin.PngStream):
    """The parts of a PNG; text beyond Pillow's limits, as some programs write it, is left out and no reason to fail."""

    def chunk_tEXt(self, pos: int, length: int) -> bytes:
        return self._text(super().chunk_tEXt, pos, length)

    def chunk_zTXt(self, pos: int, length: int) -> bytes:
        return self._text(super().chunk_zTXt, pos, length)

    def chunk_iTXt(self, pos: int, length: int) -> bytes:
        return self._text(super().chunk_iTXt, pos, length)

    def _text(self, keep: Callable[[int, int], bytes], pos: int, length: int) -> bytes:
        assert self.fp is not None
        if self.text_memory <= PngImagePlugin.MAX_TEXT_MEMORY:
            with contextlib.suppress(ValueError):
                return keep(pos, length)
            self.fp.seek(pos)
        return self.fp.read(length)


class _PngFile(PngImagePlugin.PngImageFile):
    """Pillow's reader with our chunks, since it cannot be told which to take."""

    @property
    def png(self) -> PngImagePlugin.PngStream | None:
        return self._chunks

    @png.setter
    def png(self, chunks: PngImagePlugin.PngStream | None) -> None:
        self._chunks = _PngChunks(chunks.fp) if chunks and chunks.fp else None


# Format, how its files begin, who reads it. Only these: Pillow knows more formats, some of which start other programs.
_READERS = (
    # Not Pillow's JPEG factory: it may choose MPO, whose further frames are previews and depth maps.
    ("JPEG", rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    ("PNG", rb"\x89PNG", _PngFile),
    ("WebP", rb"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    ("TIFF", rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    ("GIF", rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    ("BMP", rb"BM", BmpImagePlugin.BmpImageFile),
    ("PPM", rb"P[1-6]\s", PpmImagePlugin.PpmImageFile),
    ("AVIF", rb"....ftyp.{0,48}?avi[fs]", AvifImagePlugin.AvifImageFile),
    ("HEIF", rb"....ftyp.{0,48}?(hei[cxms]|hev[cxms]|mif1)", _read_heif),
)


def check_limits(size: tuple[int, int], name: str, limit_pixels: int) -> None:
    """Refuse a (width, height) beyond the limits, or without pixels.

    Raises:
        ImageError: it has no pixels.
        LimitError: it is too large.
    """
    width, height = size
    if min(size) < 1:
        raise ImageError(f"cannot read {name}: it has no pixels ({height} high, {width} wide)")
    if max(size) > LIMIT_SIDE:
        raise LimitError(f"{name} is {height} high and {width} wide; no side may be longer than {LIMIT_SIDE:,} pixels")
    if width * height > limit_pixels:
        raise LimitError(
            f"{name} is {height} high and {width} wide, {width * height:,} pixels; "
            f"the limit is {limit_pixels:,}, raise the limit if you trust the file"
        )


_pillow_limit_lock = threading.Lock()


@contextlib.contextmanager
def _pillow_limit_lifted() -> Iterator[None]:
    """Suspend Pillow's own limit, a global, for a picture that ours has let through; one such picture at a time."""
    with _pillow_limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


_PILLOW_LIMIT = Image.MAX_IMAGE_PIXELS or LIMIT_SIDE**2


def decode(image: Image.Image, name: str) -> Picture:
    """The pixels of an opened picture, upright and in sRGB; ``name`` is what messages call it.

    Raises:
        ImageError: its data are damaged.
    """
    notes: list[str] = []
    lifted = _pillow_limit_lifted() if image.width * image.height > _PILLOW_LIMIT else contextlib.nullcontext()
    try:
        with lifted:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                notes.append(f"first of {frames} frames")
            if _has_deep_colours(image):
                notes.append("16 bits a channel reduced to 8")
                key = image.info.get("transparency")
                if isinstance(key, tuple) and max(key) > 255:  # Pillow compares it with 8 bits
                    notes.append("its transparent colour is one of 16 bits a channel and stays visible")
            image.load()
        orientation, exif = read_exif(image, notes)
        base, alpha = split_alpha(image, notes)
        upright = to_srgb(base, image.info.get("icc_profile"), notes)
        if alpha is not None and alpha.getextrema() != (255, 255):
            upright.putalpha(alpha)
        if orientation in UPRIGHT:
            upright = upright.transpose(UPRIGHT[orientation])
        return Picture(np.array(upright), exif, tuple(notes))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files
        raise _undecodable(name, image.format or "picture", error) from error


def _undecodable(name: str, kind: str, error: Exception) -> ImageError:
    return ImageError(f"cannot read {name}: damaged, cut short or unusual {kind} data ({reason(error)})")


def reason(error: Exception) -> str:
    """What an error of Pillow or the system says, in one line."""
    text = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether Pillow will decode 16-bit colours to 8 bits by itself; afterwards this cannot be seen any more."""
    for tile in getattr(image, "tile", ()):
        if ";16" in str(tile[3]) and not image.mode.startswith("I"):
            return True
        if image.mode == "RGB" and tile[0].startswith("ppm") and tile[3][1] > 255:
            return True
    return False
