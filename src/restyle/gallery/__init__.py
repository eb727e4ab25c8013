"""The bundled style pictures and sample photographs, with where they come from (``gallery.json``)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from restyle.errors import UnknownNameError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Entry:
    """A bundled picture.

    Attributes:
        name: What a user types.
        path: The file.
        kind: ``style`` or ``sample``.
        title: Title of the work.
        author: Who made it.
        year: When, in words.
        medium: A few words on what it is.
        source: Where the file was taken from.
        licence: Under which terms it may be used.
    """

    name: str
    path: Path
    kind: str
    title: str
    author: str
    year: str
    medium: str
    source: str
    licence: str


@cache
def entries() -> dict[str, Entry]:
    """All bundled pictures by name."""
    found = {}
    for item in json.loads((FOLDER / "gallery.json").read_text(encoding="utf-8")):
        texts = {
            key: str(item[key]) for key in ("name", "kind", "title", "author", "year", "medium", "source", "licence")
        }
        found[item["name"]] = Entry(path=FOLDER / item["file"], **texts)
    return found


def styles() -> list[Entry]:
    """The bundled styles."""
    return [entry for entry in entries().values() if entry.kind == "style"]


def find(name: str | Path, *, kind: str = "style") -> Path:
    """The file that a user means: a bundled picture's name, or else a path.

    Args:
        name: A name such as ``wave``, or a path; ``./wave`` is a file of that name.
        kind: ``style`` or ``sample``.

    Raises:
        UnknownNameError: a bare word that is neither a bundled name nor a file; suggests the nearest name.
    """
    known = {entry.name: entry.path for entry in entries().values() if entry.kind == kind}
    if str(name) in known:
        return known[str(name)]
    # A word with a suffix or a slash is meant as a path; reading it will say what is wrong with it.
    if isinstance(name, Path) or os.path.basename(name) != name or os.path.splitext(name)[1] or os.path.exists(name):
        return Path(name)
    raise UnknownNameError(f"{kind} picture or file", name, known)
