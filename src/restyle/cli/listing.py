"""Commands that tell what is here: models, styles, info."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated

import typer

import restyle
from restyle import gallery
from restyle.cli.options import Json
from restyle.cli.report import print_json, print_table


def models(as_json: Json = False) -> None:
    """List the bundled models."""
    from restyle.weights import bundled_models, read_model

    cards = {name: read_model(folder) for name, folder in bundled_models().items()}
    if as_json:
        print_json([{"folder": bundled_models()[name], **card.document} for name, card in cards.items()])
        return
    print_table(
        ["name", "version", "licence", "description"],
        [[card.name, card.version, card.licence, card.document.get("description", "")] for card in cards.values()],
    )


def styles(as_json: Json = False) -> None:
    """List the bundled style pictures and sample photographs, with their makers and licences."""
    entries = gallery.entries().values()
    if as_json:
        print_json([vars(entry) for entry in entries])
        return
    print_table(
        ["name", "kind", "work", "licence"],
        [[entry.name, entry.kind, f"{entry.title}, {entry.author}, {entry.year}", entry.licence] for entry in entries],
    )


def info(
    picture: Annotated[
        Path | None, typer.Argument(help="A picture that restyle has painted: tells how.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what is installed and what works on this machine; or how a picture was made."""
    if picture is not None:
        _tell_history(picture, as_json=as_json)
        return
    from importlib.metadata import PackageNotFoundError, version

    from restyle.cache import cache_folder
    from restyle.runtime import computes_bf16, onnxruntime_devices, openvino_devices
    from restyle.weights import bundled_models

    packages = {}
    for name in ("openvino", "onnxruntime", "numpy", "pillow", "torch"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    document = {
        "restyle": restyle.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **packages,
        "devices of openvino": ", ".join(openvino_devices()) or "none",
        "devices of onnxruntime": ", ".join(onnxruntime_devices()) or "none",
        "bf16 on the processor": "yes" if computes_bf16("cpu") else "no",
        "processor threads": os.cpu_count(),
        "models": ", ".join(bundled_models()),
        "cache": str(cache_folder()),
    }
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        typer.echo(f"{name:24}{value}")


def _tell_history(picture: Path, *, as_json: bool) -> None:
    from restyle.image import read_history

    history = read_history(picture)
    if as_json:
        print_json({"picture": picture, "history": history})
    else:
        typer.echo("\n".join(history) or f"{str(picture)!r} does not say how it was made")
