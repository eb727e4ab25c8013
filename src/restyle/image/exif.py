"""EXIF: how a picture is turned, and what is worth keeping of the rest."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TAG = ExifTags.Base
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# What people wrote about the picture. The rest of the first directory describes the old file: strips, profile, size.
_KEPT_TAGS = (
    _TAG.ImageDescription, _TAG.Make, _TAG.Model, _TAG.Software, _TAG.DateTime, _TAG.Artist, _TAG.Copyright,
    _TAG.ImageHistory,
)  # fmt: skip
# No longer true of a new picture; a maker's notes hold offsets into the old file.
_STALE_TAGS = (
    _TAG.MakerNote, _TAG.ExifInteroperabilityOffset, _TAG.ColorSpace, _TAG.ExifImageWidth, _TAG.ExifImageHeight
)  # fmt: skip


def read_exif(image: Image.Image, notes: list[str]) -> tuple[object, bytes | None]:
    """The orientation still to be applied (1 to 8), and the EXIF data fit for a new file."""
    orientation: object = 1
    try:
        exif, kept = image.getexif(), Image.Exif()
        orientation = exif.get(_TAG.Orientation, 1)
        for tag in _KEPT_TAGS:
            if tag in exif:
                kept[tag] = _as_read(exif[tag])
        for directory in _DIRECTORIES:
            entries = {tag: _as_read(value) for tag, value in exif.get_ifd(directory).items() if tag not in _STALE_TAGS}
            if entries:
                kept[directory] = entries
        if not kept and _TAG.Orientation not in exif:
            return orientation, None
        kept[_TAG.Orientation] = 1
        return orientation, kept.tobytes()
    except Exception:  # whatever is wrong with it, the picture itself is fine
        notes.append("broken EXIF data left out")
        return orientation, None


def add_history(exif: bytes | None, line: str) -> bytes:
    """EXIF data with one more line of what was done to the picture, and with restyle as its software."""
    changed = load_exif(exif) if exif else Image.Exif()
    plain = line.replace("\n", "\\n").encode("ascii", "backslashreplace").decode()  # EXIF text is ASCII
    lines = [*history_of(changed), plain]
    changed[_TAG.Software], changed[_TAG.ImageHistory] = "restyle", _as_read("\n".join(lines))
    return changed.tobytes()


def history_of(exif: Image.Exif) -> list[str]:
    """What was done to a picture, a line for each time."""
    return str(exif.get(_TAG.ImageHistory, "")).splitlines()


def has_directories(exif: bytes) -> bool:
    """Whether EXIF data hold more than the first directory: the camera's, or the place."""
    loaded = load_exif(exif)
    return any(directory in loaded for directory in _DIRECTORIES)


def load_exif(exif: bytes) -> Image.Exif:
    """EXIF data for Pillow to write, with its text as it is."""
    loaded = Image.Exif()
    loaded.load(exif)
    for entries in (loaded, *(loaded.get_ifd(directory) for directory in _DIRECTORIES if directory in loaded)):
        for tag, value in list(entries.items()):
            entries[tag] = _as_read(value)
    return loaded


class _Text(str):
    """Text with a character for each byte, as Pillow reads it, and written as these bytes.

    EXIF text is ASCII by its standard, but UTF-8 in most files. Pillow writes a ? for each byte that is not ASCII.
    """

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        return super().encode("latin-1", errors)


def _as_read(value: Any) -> Any:
    return _Text(value) if isinstance(value, str) else value
