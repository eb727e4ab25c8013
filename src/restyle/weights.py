"""Model folders: where they are, what they say of themselves, and whether they are whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restyle.errors import ModelFileError, UnknownNameError

GRAPHS = ("style_encoder.onnx", "stylizer.onnx")
"""The files that a model folder holds beside ``model.json``."""

BUNDLED = Path(__file__).parent / "models"


@dataclass(frozen=True)
class ModelCard:
    """What ``model.json`` says.

    Attributes:
        name: Short name, such as ``fast``.
        version: Version of the weights.
        licence: Licence of the weights.
        sites: S, channels over all AdaIN sites.
        style_size: D, length of a style vector.
        halo: How far around a pixel the stylizer looks, in pixels, once the statistics are given.
        grid: Tiles must begin at multiples of this many pixels.
        sha256: Hash of each graph file, by file name.
        document: The whole of ``model.json``: training data, measured quality, parity.
    """

    name: str
    version: str
    licence: str
    sites: int
    style_size: int
    halo: int
    grid: int
    sha256: Mapping[str, str]
    document: Mapping[str, Any]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ModelCard:
        """Check and take over a parsed ``model.json``.

        Raises:
            ModelFileError: a field is missing or of another type.
        """
        numbers = dict.fromkeys(("sites", "style_size", "halo", "grid"), int)
        fields: dict[str, type] = {**dict.fromkeys(("name", "version", "licence"), str), **numbers, "sha256": dict}
        for field, kind in fields.items():
            if not isinstance(document.get(field), kind):
                raise ModelFileError(f"model.json: {field} must be {kind.__name__}, found {document.get(field)!r}")
        sites, style_size, halo, grid = (document[name] for name in numbers)
        if sites < 1 or halo < 0 or grid < 1 or style_size < 2 * sites:
            found = ", ".join(f"{name} {document[name]}" for name in numbers)
            raise ModelFileError(f"model.json: {found} cannot be")
        missing = [name for name in GRAPHS if name not in document["sha256"]]
        if missing:
            raise ModelFileError(f"model.json: sha256 lacks {', '.join(missing)}")
        return cls(**{field: document[field] for field in fields}, document=document)

    @property
    def identity(self) -> str:
        """Tells these very weights from all others; style vectors carry it."""
        digest = hashlib.sha256("".join(self.sha256[name] for name in GRAPHS).encode()).hexdigest()
        return f"{self.name}-{digest[:12]}"


def bundled_models() -> dict[str, Path]:
    """Names and folders of the models that came with the package."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED.glob("*/model.json"))}


def find_model(name: str | Path) -> Path:
    """The folder of a bundled model's name, or a folder given as a path.

    Raises:
        UnknownNameError: neither a bundled name nor a folder.
    """
    known = bundled_models()
    if str(name) in known:
        return known[str(name)]
    if os.path.isdir(name):
        return Path(name)
    raise UnknownNameError("model or model folder", str(name), known)


def read_model(folder: Path) -> ModelCard:
    """Read a model folder's card and check its files against it.

    Raises:
        ModelFileError: a file is missing, damaged, or not what the card says.
    """
    card_path = folder / "model.json"
    if (folder / "export.json").exists():
        raise ModelFileError(f"{str(folder)!r} is an export for other programs, not a model folder: see docs/export.md")
    try:
        document = json.loads(card_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{card_path} cannot be read as a model's card: {error}") from error
    if not isinstance(document, dict):
        raise ModelFileError(f"{card_path} is not a model's card")
    card = ModelCard.from_json(document)
    for name in GRAPHS:
        if not os.path.isfile(folder / name):
            raise ModelFileError(f"{folder / name} is missing")
        if file_sha256(folder / name) != card.sha256[name]:
            raise ModelFileError(f"{folder / name} is damaged: its SHA-256 is not the one in model.json")
    return card


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
