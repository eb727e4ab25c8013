"""Writing picture files, whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restyle.errors import ImageError, RestyleError, UnknownNameError
from restyle.image.arrays import lay_on_white, to_pil, to_pixels
from restyle.image.exif import add_history, has_directories, load_exif
from restyle.image.reading import Pixels, reason


class _Writer(NamedTuple):
    name: str
    alpha: bool = False
    exif: bool = False
    quality: int | None = None  # the default, where the format has a quality
    longest: int | None = None  # side in pixels that the format can hold
    options: Mapping[str, Any] = {}


# Full colour resolution (4:4:4): the edges between strong colours are what a stylized picture lives on.
_JPEG = _Writer("JPEG", exif=True, quality=92, longest=65_500, options={"subsampling": "4:4:4"})
_MOST_JPEG_EXIF = 65_533  # bytes
_TIFF = _Writer("TIFF", alpha=True, exif=True, options={"compression": "tiff_adobe_deflate"})
_WRITERS = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    # Level 3 of 9 takes a third of the time of the usual 6, for files 2 to 10 % larger.
    ".png": _Writer("PNG", alpha=True, exif=True, options={"compress_level": 3}),
    ".webp": _Writer("WebP", alpha=True, exif=True, quality=90, longest=16_383),
    # Speed 9: 0.16 s, 542 KB, PSNR 38.6 dB (1.5 megapixels, painted). 8: 1.2 s, 518 KB, 39.2. The usual 6: 4.6 s, 39.3.
    ".avif": _Writer(
        "AVIF", alpha=True, exif=True, quality=90, longest=65_536, options={"subsampling": "4:4:4", "speed": 9}
    ),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".gif": _Writer("GIF", alpha=True, longest=65_535),
    ".bmp": _Writer("BMP"),
    ".ppm": _Writer("PPM"),
}


WRITABLE = frozenset(_WRITERS)
"""The endings that can be written, in lower case with their dot."""

ANIMATED = (".gif", ".webp")
"""Those of them that can move."""

READABLE = WRITABLE | {".jfif", ".jpe", ".heic", ".heif", ".hif", ".pbm", ".pgm", ".pnm"}
"""Those by which pictures are found in folders; once found, a file is what its content says."""


def write_image(
    path: str | os.PathLike[str],
    pixels: NDArray[Any],
    *,
    quality: int | None = None,
    exif: bytes | None = None,
    history: str = "",
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
        history: A line on how the picture was made, for the same formats: goes into EXIF's ImageHistory, behind what is
            there, and ``read_history`` gives it back.
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
    encoded, notes = _encode(pixels, path.suffix, quality, exif, history)
    _write_whole(path, encoded, overwrite=overwrite)
    return notes


def write_animation(
    path: str | os.PathLike[str], frames: Sequence[NDArray[Any]], *, frame_s: float, overwrite: bool = False
) -> None:
    """Write pictures as one that moves, for ever, whole or not at all.

    Args:
        path: Where to; ends in gif or webp.
        frames: At least one (H, W, 3) uint8, all of one size.
        frame_s: How long each is shown, in seconds.
        overwrite: Replace a file that exists already.

    Raises:
        UnknownNameError: The ending is neither.
        ValueError: There is no frame.
        ImageError: As for ``write_image``.
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    if path.suffix.lower() not in ANIMATED:
        raise UnknownNameError("format of moving pictures", path.suffix, ANIMATED)
    if not frames:
        raise ValueError("an animation needs at least one frame")
    first, *others = map(to_pil, frames)
    stream = io.BytesIO()
    format = _WRITERS[path.suffix.lower()].name
    first.save(stream, format, save_all=True, append_images=others, duration=round(1000 * frame_s), loop=0)
    _write_whole(path, stream.getvalue(), overwrite=overwrite)


def _write_whole(path: Path, encoded: bytes, *, overwrite: bool) -> None:
    if overwrite:
        path = Path(os.path.realpath(path))  # a link stays a link
    temporary = path.with_name(f".restyle-{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(encoded)  # not tempfile: its files stay closed to everyone else
        if overwrite and os.path.exists(path):
            shutil.copymode(path, temporary)
        publish(temporary, path, overwrite=overwrite)
    except FileExistsError as error:
        raise ImageError(f"cannot write {str(path)!r}: the file exists already") from error
    except OSError as error:
        raise ImageError(f"cannot write {str(path)!r}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_writable(
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    endings: Collection[str] = WRITABLE,
    kind: str = "picture format",
    failure: type[RestyleError] = ImageError,
) -> None:
    """Refuse what cannot be written, before long work.

    Args:
        path: Where a file shall be.
        overwrite: Whether it may replace one.
        endings: Those that can be written: of pictures, unless another kind of file is meant.
        kind: What an ending stands for, as an error says it.
        failure: The error for everything but the ending.

    Raises:
        UnknownNameError: The ending is none of ``endings``.
        ImageError: Or ``failure``: the file exists and ``overwrite`` is not set, it is a folder, or its folder does not
            exist.
    """
    path = Path(path)
    # The functions of os.path, unlike Path's, never fail.
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        what = "it is a folder" if os.path.isdir(path) else f"there is no folder {str(path.parent)!r}"
        raise failure(f"cannot write {str(path)!r}: {what}")
    if not path.suffix and endings is WRITABLE:  # a place for pictures may be a folder
        raise failure(f"cannot write {str(path)!r}: there is no folder of that name, and no ending names a format")
    if path.suffix.lower() not in endings:
        raise UnknownNameError(kind, path.suffix, endings)
    if os.path.lexists(path) and not overwrite:
        raise failure(f"cannot write {str(path)!r}: the file exists already")


def check_size(size: tuple[int, int], format: str) -> None:
    """Refuse a picture that a format cannot hold, before it is painted.

    Args:
        size: (height, width).
        format: A file ending, with or without its dot.

    Raises:
        UnknownNameError: The ending is none that can be written.
        ImageError: A side is longer than the format allows.
    """
    writer = _writer(format)
    if writer.longest and max(size) > writer.longest:
        raise ImageError(
            f"{writer.name} holds at most {writer.longest:,} pixels a side, got {size[0]} x {size[1]}; "
            "PNG and TIFF hold more"
        )


def _writer(format: str) -> _Writer:
    suffix = "." + format.lower().removeprefix(".")
    if suffix not in _WRITERS:
        raise UnknownNameError("picture format", suffix, _WRITERS)
    return _WRITERS[suffix]


def publish(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give a finished file its name.

    Raises:
        FileExistsError: the name is taken and ``overwrite`` is not set.
        OSError: the disk refuses.
    """
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
    history: str = "",
) -> bytes:
    """Encode a picture as ``write_image`` would, for a reply or a pipe.

    ``format`` is a file ending, with or without its dot; everything else, the errors too, is as for ``write_image``.
    """
    return _encode(pixels, format, quality, exif, history)[0]


def _encode(
    pixels: NDArray[Any], format: str, quality: int | None, exif: bytes | None, history: str
) -> tuple[bytes, tuple[str, ...]]:
    writer = _writer(format)
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    notes: list[str] = []
    options: dict[str, Any] = dict(writer.options)
    if writer.quality is not None:
        options["quality"] = quality or writer.quality
    elif quality is not None:
        notes.append(f"{writer.name} has no quality setting")
    if writer.exif:
        given, exif = exif, add_history(exif, history) if history else exif
        if exif and writer.name == "JPEG" and len(exif) > _MOST_JPEG_EXIF:
            notes.append("EXIF data left out, JPEG can hold 64 KB of it")
            exif = add_history(None, history) if given and history else None
        if exif:
            options["exif"] = load_exif(exif) if writer.name in ("AVIF", "TIFF") else exif
            if has_directories(exif):
                options.pop("compression", None)  # Pillow fails at these in a compressed TIFF
    elif exif:
        notes.append(f"{writer.name} cannot hold EXIF data")
    pixels = to_pixels(pixels)
    check_size(pixels.shape[:2], format)
    image = to_pil(_fit_alpha(pixels, writer, notes))
    # No colour profile is embedded: without one every program assumes sRGB, which the pixels are.
    stream = io.BytesIO()
    try:
        image.save(stream, writer.name, **options)
    except Exception as error:  # Pillow's encoders raise several kinds
        size = f"{image.height} high and {image.width} wide"
        raise ImageError(f"cannot write a picture {size} as {writer.name} ({reason(error)})") from error
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
