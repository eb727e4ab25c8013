"""The folder that an export goes to, its card, and ONNX files after they are written."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from restyle.errors import ModelFileError

INSIDE = ("name", "version", "licence", "description", "data")
"""Fields of a card that a graph carries, too."""

IN_FULL = ("ReduceMean", "Sqrt", "Div")
"""Operations that a graph of half precision takes in float32: the statistics of whole pictures."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, to be filled; it takes the name when the block ends well, else it is gone.

    Raises:
        ModelFileError: the folder exists or its parent does not.
    """
    parent = folder.absolute().parent
    if os.path.lexists(folder):
        raise ModelFileError(f"{folder} exists already; choose a new folder")
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise ModelFileError(f"{parent} is not a folder to write to")
    with tempfile.TemporaryDirectory(dir=parent, prefix=".export-") as temporary:
        beside = Path(temporary) / "model"
        beside.mkdir()
        yield beside
        os.replace(beside, folder)


def write_card(path: Path, document: Mapping[str, Any]) -> None:
    """Write a card as JSON, beside and then renamed."""
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(beside, path)


def add_to_card(folder: Path, figures: Mapping[str, Any]) -> None:
    """Add measured figures to a model folder's card."""
    path = folder / "model.json"
    write_card(path, {**json.loads(path.read_text("utf-8")), **figures})


def describe_inside(path: Path, card: Mapping[str, Any]) -> None:
    """Write what the card says into the ONNX file itself, as its properties."""
    graph = onnx.load(path)
    helper.set_model_props(graph, {name: str(card[name]) for name in INSIDE if card.get(name)})
    graph.producer_name = "restyle"
    onnx.save(graph, path)


def to_half(path: Path) -> None:
    """Bring a graph to FP16, but for its inputs, its outputs and the statistics of whole pictures."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    blocked = [*DEFAULT_OP_BLOCK_LIST, *IN_FULL]
    onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True, op_block_list=blocked), path)
