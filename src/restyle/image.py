"""Pictures as arrays: read, write, upright, alpha, colour profile, resize.

A picture is (H, W, 3) uint8 RGB or (H, W, 4) uint8 RGBA with straight alpha, always in sRGB; sizes are (height, width).
Whatever a file holds (rotated, palette, CMYK, 16 bits, floating point, a colour profile) is brought into this one form,
and every change that may matter is told in a note. This is the only module that knows Pillow.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageCms,
    ImageFile,
    ImageFilter,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from restyle.errors import ImageError, LimitError, ShapeError, UnknownNameError

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


# --- reading ----------------------------------------------------------------------------------------------------------


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
        _check_limits(image.size, name, limit_pixels)
        return _decode(image, name)


def read_size(source: Source, *, limit_pixels: int = LIMIT_PIXELS) -> tuple[int, int]:
    """The (height, width) of the upright picture, from the file's header alone.

    Nothing is decoded, so damage further inside stays unseen, and a PNG that tells its orientation behind its pixels
    counts as upright. Arguments and errors are those of ``read_image``.
    """
    name = _name(source)
    with _open(source, name) as stream:
        image = _read_header(stream, name)
        _check_limits(image.size, name, limit_pixels)
        orientation: object = 1
        with contextlib.suppress(Exception):  # broken EXIF data, as in _read_exif
            orientation = Image.Image.getexif(image).get(_TAG.Orientation, 1)  # PNG's own method would decode
        # Pillow gives TIFF's size upright already.
        turned = isinstance(orientation, int) and 5 <= orientation <= 8 and image.format != "TIFF"
        return (image.width, image.height) if turned else (image.height, image.width)


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
        raise ImageError(f"cannot read {name}: {_reason(error)}") from error
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
                raise LimitError(f"cannot read {name}: {_reason(error)}") from error
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


# Format, how its files begin, who reads it. Only these: Pillow knows more formats, some of which start other programs.
_READERS = (
    # Not Pillow's JPEG factory: it may choose MPO, whose further frames are previews and depth maps.
    ("JPEG", rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    ("PNG", rb"\x89PNG", PngImagePlugin.PngImageFile),
    ("WebP", rb"RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    ("TIFF", rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    ("GIF", rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    ("BMP", rb"BM", BmpImagePlugin.BmpImageFile),
    ("PPM", rb"P[1-6]\s", PpmImagePlugin.PpmImageFile),
    ("AVIF", rb"....ftyp.{0,48}?avi[fs]", AvifImagePlugin.AvifImageFile),
    ("HEIF", rb"....ftyp.{0,48}?(hei[cxms]|hev[cxms]|mif1)", _read_heif),
)


def _check_limits(size: tuple[int, int], name: str, limit_pixels: int) -> None:
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


def _decode(image: Image.Image, name: str) -> Picture:
    notes: list[str] = []
    lifted = _pillow_limit_lifted() if image.width * image.height > _PILLOW_LIMIT else contextlib.nullcontext()
    try:
        with lifted:
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                notes.append(f"first of {frames} frames")
            if _has_deep_colours(image):
                notes.append("16 bits a channel reduced to 8")
            image.load()
        orientation, exif = _read_exif(image, notes)
        base, alpha = _split_alpha(image, notes)
        upright = _to_srgb(base, image.info.get("icc_profile"), notes)
        if alpha is not None and alpha.getextrema() != (255, 255):
            upright.putalpha(alpha)
        if orientation in _UPRIGHT:
            upright = upright.transpose(_UPRIGHT[orientation])
        return Picture(np.array(upright), exif, tuple(notes))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds for damaged files
        raise _undecodable(name, image.format or "picture", error) from error


def _undecodable(name: str, kind: str, error: Exception) -> ImageError:
    return ImageError(f"cannot read {name}: damaged, cut short or unusual {kind} data ({_reason(error)})")


def _reason(error: Exception) -> str:
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


# --- colours ----------------------------------------------------------------------------------------------------------


def _split_alpha(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """Any mode of Pillow's to L, RGB, CMYK or LAB, and the alpha channel where there is transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        return _narrow(image, notes)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        return image.convert("L" if image.mode == "LA" else "RGB"), image.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _narrow(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """Grey values of 12, 16 or 32 bits to 8, by their full scale; ``convert`` would cut everything above 255 off."""
    values = np.asarray(image)
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags and tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 1:
        values = values.view(np.uint32)  # Pillow takes these unsigned numbers for signed ones
    if image.mode.startswith("I;16") or (image.format, image.mode) == ("PPM", "I"):
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        low, high = 0.0, 2.0**bits - 1
        notes.append(f"{bits} bits a channel reduced to 8")
    else:
        low, high = _guess_scale(values)
        notes.append(f"32-bit values from {low:g} to {high:g} reduced to 8 bits")
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero, which Pillow heeds up to 8 bits only
        low, high = high, low
    grey = np.nan_to_num(values.astype(np.float32), nan=low).clip(min(low, high), max(low, high))
    grey = (grey - low) * (255 / (high - low))
    alpha = None
    if isinstance(image.info.get("transparency"), int):
        alpha = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
    return Image.fromarray((grey + 0.5).astype(np.uint8)), alpha


def _guess_scale(values: NDArray[Any]) -> tuple[float, float]:
    """The usual full scale that these 32-bit values seem to have been made for, else their own range."""
    finite = values[np.isfinite(values)]
    low, high = (min(0.0, float(finite.min())), float(finite.max())) if finite.size else (0.0, 1.0)
    for darkest, scale in ((0.0, 1.0), (16.0, 255.0), (4096.0, 65535.0)):
        if low == 0 and darkest <= high <= scale:
            return 0.0, scale
    return low, max(high, low + 1)


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """L, RGB, CMYK or LAB to RGB in sRGB, by the colour profile where there is a usable one."""
    if image.mode == "LAB":
        notes.append("converted from Lab")
        return _transform(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            if image.mode == "CMYK" or not _is_srgb(source, image.mode):
                converted = _transform(image, source)
                notes.append(f"converted from {_SPACES[image.mode]} with its colour profile")
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("unusable colour profile ignored")
    if image.mode == "CMYK":
        notes.append("converted from CMYK without a colour profile, colours are approximate")
    return image if image.mode == "RGB" else image.convert("RGB")


_SPACES = {"L": "grey", "RGB": "another RGB space", "CMYK": "CMYK"}


def _transform(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        image.mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,  # as browsers do: the darkest ink becomes black, not grey
    )
    return transform.apply(image)


def _is_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """Whether a profile moves no colour by more than 2 of 255; names do not tell, there are dozens of sRGBs."""
    lattice = (np.indices((16, 16, 16), dtype=np.uint8) * 17).reshape(3, 64, 64).transpose(1, 2, 0)
    probe = Image.fromarray(np.ascontiguousarray(lattice)).convert(mode)
    before, after = np.asarray(probe.convert("RGB"), np.int16), np.asarray(_transform(probe, profile), np.int16)
    return bool(np.abs(after - before).max() <= 2)


# --- EXIF -------------------------------------------------------------------------------------------------------------

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TAG = ExifTags.Base
# What people wrote about the picture. The rest of the first directory describes the old file: strips, profile, size.
_KEPT_TAGS = (_TAG.ImageDescription, _TAG.Make, _TAG.Model, _TAG.Software, _TAG.DateTime, _TAG.Artist, _TAG.Copyright)
# No longer true of a new picture; a maker's notes hold offsets into the old file.
_STALE_TAGS = (
    _TAG.MakerNote, _TAG.ExifInteroperabilityOffset, _TAG.ColorSpace, _TAG.ExifImageWidth, _TAG.ExifImageHeight
)  # fmt: skip


def _read_exif(image: Image.Image, notes: list[str]) -> tuple[object, bytes | None]:
    """The orientation still to be applied (1 to 8), and the EXIF data fit for a new file."""
    orientation: object = 1
    try:
        exif, kept = image.getexif(), Image.Exif()
        orientation = exif.get(_TAG.Orientation, 1)
        for tag in _KEPT_TAGS:
            if tag in exif:
                kept[tag] = exif[tag]
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            entries = {tag: value for tag, value in exif.get_ifd(directory).items() if tag not in _STALE_TAGS}
            if entries:
                kept[directory] = entries
        if not kept and _TAG.Orientation not in exif:
            return orientation, None
        kept[_TAG.Orientation] = 1
        return orientation, kept.tobytes()
    except Exception:  # whatever is wrong with it, the picture itself is fine
        notes.append("broken EXIF data left out")
        return orientation, None


# --- arrays -----------------------------------------------------------------------------------------------------------


def to_pixels(image: str | os.PathLike[str] | Image.Image | NDArray[Any]) -> Pixels:
    """Take a picture in any form that a caller may hold and return it as an array.

    Args:
        image: A path, a PIL picture of any mode, or a uint8 array (H, W, 3), (H, W, 4) or grey (H, W).

    Returns:
        (H, W, 3) or (H, W, 4) uint8, C-contiguous; the array given, not a copy, where it is that already.

    Raises:
        TypeError: ``image`` is of another type, or an array of another dtype.
        ShapeError: An array of another shape, or without pixels.
        ImageError: The file or the PIL picture cannot be decoded.
        LimitError: It is larger than ``LIMIT_PIXELS`` or ``LIMIT_SIDE``.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image).pixels
    if isinstance(image, Image.Image):
        _check_limits(image.size, "the PIL picture", LIMIT_PIXELS)
        return _decode(image, "the PIL picture").pixels
    if not isinstance(image, np.ndarray):
        raise TypeError(f"a picture must be a path, a PIL picture or a uint8 array, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"a picture array must be uint8 (0 to 255), got {image.dtype}")
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4) or 0 in image.shape:
        raise ShapeError(f"a picture array must be (height, width, 3 or 4) or (height, width), got {image.shape}")
    return np.ascontiguousarray(image)


def to_pil(pixels: NDArray[Any]) -> Image.Image:
    """Turn (H, W, 3 or 4) or (H, W) uint8 pixels into a PIL picture of its own memory, mode RGB or RGBA.

    Raises:
        TypeError: ``pixels`` is no uint8 array.
        ShapeError: It has another shape.
    """
    pixels = to_pixels(pixels)
    height, width, channels = pixels.shape
    return Image.frombytes("RGB" if channels == 3 else "RGBA", (width, height), pixels.tobytes())


def resize(pixels: NDArray[Any], size: tuple[int, int]) -> Pixels:
    """Scale a picture with Lanczos filtering; what is transparent lends no colour to its neighbours.

    Args:
        pixels: (H, W, 3 or 4) or grey (H, W), uint8.
        size: The new (height, width), each at least 1.

    Returns:
        A new array of exactly that size, with the channels of ``pixels``.

    Raises:
        ValueError: A side of ``size`` is below 1.
        TypeError: ``pixels`` is no uint8 array.
        ShapeError: It has another shape.
    """
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be (height, width) of at least 1, got {size}")
    # Pillow multiplies RGBA by its alpha before filtering and divides afterwards.
    return np.array(_any_to_pil(pixels).resize((width, height), Image.Resampling.LANCZOS))


def blur(pixels: NDArray[Any], radius: float) -> Pixels:
    """Soften with a Gaussian whose standard deviation is ``radius`` pixels; arguments as for ``resize``."""
    return np.array(_any_to_pil(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _any_to_pil(pixels: NDArray[Any]) -> Image.Image:
    grey = isinstance(pixels, np.ndarray) and pixels.ndim == 2 and pixels.dtype == np.uint8 and pixels.size
    return Image.fromarray(np.ascontiguousarray(pixels)) if grey else to_pil(pixels)


def lay_on_white(pixels: Pixels) -> Pixels:
    """The colours as they look on white paper: (H, W, 3 or 4) to (H, W, 3)."""
    if pixels.shape[2] == 3:
        return pixels
    weight = pixels[:, :, 3:].astype(np.uint16)  # the sum below reaches 65152
    return ((pixels[:, :, :3] * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)


def fit_short_side(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """The (height, width) of the same proportions whose shorter side is ``short_side``; no side falls below 1.

    Raises:
        ValueError: ``short_side`` or a side of ``size`` is below 1.
    """
    return _scaled(size, short_side, min(size))


def _scaled(size: tuple[int, int], wanted: int, side: int) -> tuple[int, int]:
    if wanted < 1 or min(size) < 1:
        raise ValueError(f"sides must be at least 1, got size {size} and side {wanted}")
    height, width = ((2 * length * wanted + side) // (2 * side) for length in size)  # rounded, in whole numbers
    return max(1, height), max(1, width)


# --- writing ----------------------------------------------------------------------------------------------------------


class _Writer(NamedTuple):
    name: str
    alpha: bool = False
    exif: bool = False
    quality: int | None = None  # the default, where the format has a quality
    options: Mapping[str, Any] = {}


# Full colour resolution (4:4:4): the edges between strong colours are what a stylized picture lives on.
_JPEG = _Writer("JPEG", exif=True, quality=92, options={"subsampling": "4:4:4"})
_TIFF = _Writer("TIFF", alpha=True, exif=True, options={"compression": "tiff_adobe_deflate"})
_WRITERS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    # Level 3 of 9 takes a third of the time of the usual 6, for files 2 to 10 % larger.
    ".png": _Writer("PNG", alpha=True, exif=True, options={"compress_level": 3}),
    ".webp": _Writer("WebP", alpha=True, exif=True, quality=90),
    ".avif": _Writer("AVIF", alpha=True, exif=True, quality=90, options={"subsampling": "4:4:4"}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".gif": _Writer("GIF", alpha=True),
    ".bmp": _Writer("BMP"),
    ".ppm": _Writer("PPM"),
}


WRITABLE = frozenset(_WRITERS)
"""The endings that can be written, in lower case with their dot."""


def write_image(
    path: str | os.PathLike[str],
    pixels: NDArray[Any],
    *,
    quality: int | None = None,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write a picture file, whole or not at all.

    The file is written beside its place under another name and then renamed. Transparency is laid on white where the
    format cannot hold it.

    Args:
        path: Where to; the ending chooses the format: jpg, jpeg, png, webp, avif, tif, tiff, gif, bmp, ppm.
        pixels: (H, W, 3 or 4) uint8, sRGB.
        quality: 1 to 100, for JPEG (92 if not given), WebP and AVIF (90).
        exif: As in ``Picture.exif``; for JPEG, PNG, WebP, AVIF and TIFF.
        overwrite: Replace a file that exists already.

    Returns:
        A short sentence for each thing that the format could not keep.

    Raises:
        UnknownNameError: The ending is none of those above.
        ValueError: ``quality`` is not within 1 to 100.
        TypeError: ``pixels`` is no uint8 array.
        ShapeError: It has another shape.
        ImageError: The file exists, its folder does not, the format cannot hold the picture, or the disk refuses.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    encoded, notes = _encode(pixels, path.suffix, quality, exif)
    if overwrite:
        path = Path(os.path.realpath(path))  # a link stays a link
    temporary = path.with_name(f".restyle-{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(encoded)  # not tempfile: its files stay closed to everyone else
        if overwrite and os.path.exists(path):
            shutil.copymode(path, temporary)
        _publish(temporary, path, overwrite=overwrite)
    except FileExistsError as error:
        raise ImageError(f"cannot write {str(path)!r}: the file exists already") from error
    except OSError as error:
        raise ImageError(f"cannot write {str(path)!r}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return notes


def check_writable(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Refuse what ``write_image`` would refuse, before long work.

    Raises:
        UnknownNameError: The ending is none that can be written.
        ImageError: The file exists and ``overwrite`` is not set, it is a folder, or its folder does not exist.
    """
    path = Path(path)
    # The functions of os.path, unlike Path's, never fail.
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        what = "it is a folder" if os.path.isdir(path) else f"there is no folder {str(path.parent)!r}"
        raise ImageError(f"cannot write {str(path)!r}: {what}")
    if not path.suffix:
        raise ImageError(f"cannot write {str(path)!r}: there is no folder of that name, and no ending names a format")
    if path.suffix.lower() not in _WRITERS:
        raise UnknownNameError("picture format", path.suffix, _WRITERS)
    if os.path.lexists(path) and not overwrite:
        raise ImageError(f"cannot write {str(path)!r}: the file exists already")


def _publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(temporary, path)  # unlike a rename, this fails where the name is taken already
            return
        except (OSError, NotImplementedError, AttributeError):  # taken, or no hard links here: then a small gap remains
            if os.path.lexists(path):
                raise FileExistsError(path) from None
    os.replace(temporary, path)


def encode_image(
    pixels: NDArray[Any],
    format: str,
    *,
    quality: int | None = None,
    exif: bytes | None = None,
) -> bytes:
    """Encode a picture as ``write_image`` would, for a reply or a pipe.

    ``format`` is a file ending, with or without its dot; everything else, the errors too, is as for ``write_image``.
    """
    return _encode(pixels, "." + format.removeprefix("."), quality, exif)[0]


def _encode(
    pixels: NDArray[Any], suffix: str, quality: int | None, exif: bytes | None
) -> tuple[bytes, tuple[str, ...]]:
    writer = _WRITERS.get(suffix.lower())
    if writer is None:
        raise UnknownNameError("picture format", suffix, _WRITERS)
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    notes: list[str] = []
    options: dict[str, Any] = dict(writer.options)
    if writer.quality is not None:
        options["quality"] = quality or writer.quality
    elif quality is not None:
        notes.append(f"{writer.name} has no quality setting")
    if exif and writer.exif:
        options["exif"] = exif
        options.pop("compression", None)  # Pillow fails at the camera's part of EXIF in a compressed TIFF
    elif exif:
        notes.append(f"{writer.name} cannot hold EXIF data")
    image = to_pil(_fit_alpha(to_pixels(pixels), writer, notes))
    # No colour profile is embedded: without one every program assumes sRGB, which the pixels are.
    stream = io.BytesIO()
    try:
        image.save(stream, writer.name, **options)
    except Exception as error:  # Pillow's encoders raise several kinds
        size = f"{image.height} high and {image.width} wide"
        raise ImageError(f"cannot write a picture {size} as {writer.name} ({_reason(error)})") from error
    return stream.getvalue(), tuple(notes)


def _fit_alpha(pixels: Pixels, writer: _Writer, notes: list[str]) -> Pixels:
    if writer.name == "GIF":
        notes.append("GIF holds 256 colours and no half transparency")
    if pixels.shape[2] == 3:
        return pixels
    colours, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    if writer.name == "GIF":
        return np.dstack([colours, np.where(alpha < 128, 0, 255).astype(np.uint8)])
    if writer.alpha:
        return pixels
    if alpha.min() < 255:
        notes.append(f"{writer.name} cannot hold transparency, laid on white")
    return lay_on_white(pixels)
