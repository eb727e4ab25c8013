"""The OAK-1 as the source of ``restyle camera``: ``oak``, ``oak:FOLDER`` and ``replay:FILE``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from restyle.errors import MissingExtraError
from restyle.weights import find_model

if TYPE_CHECKING:
    from restyle.stylizer import Stylizer
    from restyle.video.camera import StyleSwitch
    from restyle.video.oak import OakCamera


def is_chip(source: str) -> bool:
    """Whether a source is an OAK camera, or a file in its place; a file of that very name wins."""
    return source.partition(":")[0] in ("oak", "replay") and not os.path.isfile(source)


def open_chip(
    source: str, model: str, stylizer: Stylizer, styles: StyleSwitch, *, strength: float, size: int | None,
    fps: float | None, mirror: bool, say: Callable[[str], None],
) -> OakCamera:  # fmt: skip
    """Open the camera; for plain ``oak`` the model is exported first, once, if a camera is there at all."""
    from restyle.video.oak import SIZE, OakCamera

    kind, _, place = source.partition(":")
    if kind == "oak" and size is not None:
        raise typer.BadParameter("the camera's size is fixed by restyle export --to oak --size", param_hint="'--size'")
    if kind == "oak" and not place:
        source = f"oak:{_exported(model, stylizer, SIZE, say)}"
    sides = SIZE if size is None else (size, size)
    return OakCamera(source, stylizer, styles, strength=strength, size=sides, fps=fps, mirror=mirror)


def _exported(model: str, stylizer: Stylizer, size: tuple[int, int], say: Callable[[str], None]) -> Path:
    from restyle.cache import cache_folder
    from restyle.video.oak import require_camera

    folder = cache_folder() / "oak" / f"{stylizer.card.identity}-{size[0]}x{size[1]}"
    if not folder.is_dir():
        require_camera("oak")
        try:
            from restyle.export.network import read_network
            from restyle.export.oak.export import export_oak
        except ImportError as error:
            raise MissingExtraError("exporting to the OAK-1", extra="train,oak") from error
        say(f"exporting {model} for the camera's chip, once; the compiler is downloaded (28 MB) if it is not there")
        folder.parent.mkdir(parents=True, exist_ok=True)
        network, card = read_network(find_model(model))
        export_oak(network, folder, card=card, size=size)
    return folder
