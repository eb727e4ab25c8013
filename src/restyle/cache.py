"""The user's cache folder, and what is fetched into it at first use: checked by its hash, kept whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import os
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

LARGEST_BYTES = 100_000_000
"""Of what is read of an answer."""

SILENCE_S = 60
"""How long a server may say nothing."""


def cache_folder() -> Path:
    """Where encoded styles and downloads are kept: ``$RESTYLE_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("RESTYLE_CACHE") or platformdirs.user_cache_dir("restyle", appauthor=False))


def fetch_npm(address: str, integrity: str, names: Iterable[str]) -> dict[str, bytes]:
    """Fetch a package of the npm registry and take files out of it.

    Args:
        address: Of the package, a ``.tgz``.
        integrity: Its SHA-512 as the registry states it: ``sha512-`` and base64.
        names: Files in it, as paths below its folder ``package``.

    Returns:
        The content of each file, by name.

    Raises:
        OSError: it cannot be fetched, or is not what it was; the message is a sentence.
    """
    try:
        with urllib.request.urlopen(address, timeout=SILENCE_S) as reply:
            package = reply.read(LARGEST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise OSError(f"{address} cannot be fetched ({error})") from error
    if "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode() != integrity:
        raise OSError(f"what came from {address} is not the file that was tried: its SHA-512 is another one")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for name in names:
            file = archive.extractfile(f"package/{name}")
            assert file is not None  # the hash says that it is one
            found[name] = file.read()
    return found


def keep_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder, which is made if need be; each is there whole or not at all.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        for name, content in files.items():
            beside = Path(temporary) / name
            beside.write_bytes(content)
            if not (folder / name).is_file():  # another process may have been faster
                os.replace(beside, folder / name)
