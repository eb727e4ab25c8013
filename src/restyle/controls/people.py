"""Where people are in a photograph, found by a small network that is fetched at first use.

Source:
    MediaPipe's selfie segmentation, general model (Google, Apache-2.0). It was made for a few people near the camera;
    where there is nobody, it may take something else for a person.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restyle.cache import cache_folder, fetch_npm, keep_files
from restyle.controls.detail import enlarge
from restyle.errors import MissingExtraError, ModelFileError
from restyle.image import resize
from restyle.runtime import Graph, open_graph

VERSION = "0.1.1675465747"
ADDRESS = f"https://registry.npmjs.org/@mediapipe/selfie_segmentation/-/selfie_segmentation-{VERSION}.tgz"
INTEGRITY = "sha512-IxYxNhwE5VwOm52L1yoFWYLP7q9Pd+NJjzOC5tlepfvEGaY3o9hslhUrx9BgseqdfZtKSDtd/4NfCSMjNzQalA=="
"""Of the package, as the registry states it."""

NETWORK = "selfie_segmentation.tflite"
FILE = "person.onnx"

SIDE = 256
"""Height and width, in pixels, of the picture that the network looks at."""


def find_people(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tell people from what is around them.

    Args:
        photo: (H, W, 3 or 4) uint8.

    Returns:
        (H, W) uint8: 255 = a person, 0 = none; edges follow the photograph's.

    Raises:
        MissingExtraError, ModelFileError: see ``fetch_person_model``.
    """
    colours = np.ascontiguousarray(photo[:, :, :3])
    small = resize(colours, (SIDE, SIDE))
    seen = _open(fetch_person_model()).run({"picture": small[None]})["person"][0]  # (SIDE, SIDE, 1)
    return enlarge(np.repeat(seen, 3, axis=2), small, colours)[:, :, 0]


def person_model() -> Path:
    """Where the network lies or will lie, as an ONNX file."""
    return cache_folder() / f"selfie_segmentation-{VERSION}" / FILE


def fetch_person_model() -> Path:
    """The network as an ONNX file, fetched (4 MB) and converted unless it is there.

    Raises:
        MissingExtraError: it is not there, and the extra ``people``, which converts it, is not installed.
        ModelFileError: it cannot be fetched or kept, or is not what it was.
    """
    path = person_model()
    if path.is_file():
        return path
    try:
        from restyle.controls.person_model import convert
    except ImportError as error:
        raise MissingExtraError("finding people in photographs", extra="people") from error
    try:
        keep_files(path.parent, {FILE: convert(fetch_npm(ADDRESS, INTEGRITY, [NETWORK])[NETWORK])})
    except OSError as error:
        raise ModelFileError(
            f"the network that finds people cannot be kept as {path}: {error}; copy that file from a computer that has "
            "it, or paint with a mask from a file"
        ) from error
    return path


@cache
def _open(path: Path) -> Graph:
    return open_graph(path, device="cpu", precision="f32")
