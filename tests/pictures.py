"""What the tests of pictures share: a small picture, files, and how far two pictures differ."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photograph() -> np.ndarray:
    """(30, 50, 3), smooth, and different in every corner."""
    row, column = np.mgrid[0:30, 0:50]
    return np.dstack([row * 8, column * 5, 255 - row * 4 - column * 2]).astype(np.uint8)


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def difference(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def files(folder: str | Path) -> list[str]:
    """The paths of all files in a folder and below."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
