"""onnxruntime-web, which runs networks in browsers: fetched once from the npm registry, checked, and kept.

It has 41 MB, more than all of restyle, and only a page without a server needs it. So it is not part of the package.
"""

from __future__ import annotations

import os
from pathlib import Path

from restyle.cache import cache_folder, fetch_npm, keep_files
from restyle.errors import ExportError

VERSION = "1.30.0"
ADDRESS = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the package, as the registry states it."""

FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
"""What a page needs of the package's folder ``dist``: first for processors, then for graphics cards."""


def find_runtime(folder: Path | None = None) -> Path:
    """The folder with ``FILES``.

    Args:
        folder: A package that was fetched elsewhere, or its folder ``dist``; None = our own copy, fetched (33 MB)
            unless it is there already.

    Raises:
        ExportError: the folder lacks a file; or the package cannot be fetched, or is not what it was.
    """
    if folder is None:
        kept = cache_folder() / f"onnxruntime-web-{VERSION}"
        return kept if _missing(kept) is None else _fetch(kept)
    for place in (folder, folder / "dist", folder / "package" / "dist"):
        if _missing(place) is None:
            return place
    raise ExportError(f"{str(folder)!r} is no onnxruntime-web {VERSION}: it has no file {_missing(folder)}")


def _missing(folder: Path) -> str | None:
    return next((name for name in FILES if not os.path.isfile(folder / name)), None)


def _fetch(folder: Path) -> Path:
    try:
        files = fetch_npm(ADDRESS, INTEGRITY, [f"dist/{name}" for name in FILES])
        keep_files(folder, {Path(name).name: content for name, content in files.items()})
    except OSError as error:
        raise ExportError(
            f"onnxruntime-web {VERSION} cannot be kept in {folder}: {error}; fetch it elsewhere, unpack it, and name "
            "its folder with --onnxruntime-web"
        ) from error
    return folder
