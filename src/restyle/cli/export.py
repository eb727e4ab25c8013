"""``restyle export``: a model for other programs and for a camera. Needs the extra ``train``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restyle.cli.options import parse_size
from restyle.errors import MissingExtraError
from restyle.weights import find_model

if TYPE_CHECKING:
    from restyle.nn.networks import Model
    from restyle.weights import ModelCard

PRECISIONS = {"onnx": ("f32", "f16", "int8"), "openvino": ("f32", "f16"), "oak": ("f16",)}
TARGETS = tuple(PRECISIONS)
OAK_SIZE = (256, 256)
OAK_SHAVES = 6

LOCAL_SETTINGS = ("content", "style", "loss_weights", "output", "start", "validation_content", "validation_style")
"""Settings of a run that name places on the machine that trained; they do not belong on a model's card."""

KEPT = ("name", "version", "licence", "description", "data", "training", "quality")
"""Of a model's card, what is true of the weights and so stays when they are exported again in float32."""

CARD, WHERE = "The card", "The target"


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="checkpoint.pt of a training run, a bundled model's name, or a model folder; with --encoder, a "
            "decoder.pth.",
            metavar="CHECKPOINT|MODEL", show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.", show_default=False)],
    to: Annotated[
        str, typer.Option(help="onnx (what restyle reads), openvino, or oak (camera).", rich_help_panel=WHERE)
    ] = "onnx",
    size: Annotated[
        str | None,
        typer.Option(help="Paint pictures of this size only.", metavar="HxW",
                     show_default="any; for oak 256x256", rich_help_panel=WHERE),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="f32, f16, or int8 (onnx only); oak is always f16.", show_default="f32", rich_help_panel=WHERE
        ),
    ] = None,
    opset: Annotated[
        int | None, typer.Option(help="Of ONNX, 17 to 20.", show_default="17", rich_help_panel=WHERE)
    ] = None,
    shaves: Annotated[
        int | None,
        typer.Option(help="Vector processors of the camera's chip, 1 to 8.", show_default=str(OAK_SHAVES),
                     rich_help_panel=WHERE),
    ] = None,
    graph_only: Annotated[
        bool,
        typer.Option("--graph-only", help="For oak: do not compile, another compiler shall.", rich_help_panel=WHERE),
    ] = False,
    encoder: Annotated[
        Path | None, typer.Option(help="The vgg_normalised.pth that belongs to a decoder.pth.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the model.", show_default="the folder's", rich_help_panel=CARD)
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version of the weights.", show_default="0.1.0", rich_help_panel=CARD)
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights.", show_default="unknown", rich_help_panel=CARD)
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="One line for restyle models.", show_default=False, rich_help_panel=CARD)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="What it was trained on, in words.", show_default=False, rich_help_panel=CARD)
    ] = None,
) -> None:  # fmt: skip
    """Write a model for other programs or for a camera, and say how far it is from the original on real pictures."""
    sides = _checked(to, size, precision, opset, shaves, graph_only)
    precision = precision or "f32"
    model, found, card = _read(source, encoder)
    given = {"name": name, "version": version, "licence": licence, "description": description, "data": data}
    basics = {"name": output.name, "version": "0.1.0", "licence": "unknown", "description": "", "data": ""}
    if precision == "int8":
        found.pop("quality", None)  # that of the weights before they were rounded
    document = {**basics, **found, **{key: value for key, value in given.items() if value is not None}}
    if to == "oak":
        if card is None:
            raise ValueError(
                "oak needs a model folder, since styles are encoded by it: export the checkpoint to onnx first"
            )
        _export_oak(
            model,
            output,
            card=replace(card, document=document),
            size=sides or OAK_SIZE,
            shaves=OAK_SHAVES if shaves is None else shaves,
            graph_only=graph_only,
        )
    elif to == "openvino":
        from restyle.export.openvino_ir import export_openvino

        written = export_openvino(model, output, card=document, size=sides, half=precision == "f16")
        _say(output, written["parity_on_photographs"])
    else:
        _export_onnx(model, output, document, size=sides, precision=precision, opset=opset)


def _export_oak(model: Model, output: Path, **options: Any) -> None:
    try:
        from restyle.export.oak.export import export_oak
    except ImportError as error:
        raise MissingExtraError("exporting to the OAK-1", extra="train,oak") from error

    report = export_oak(model, output, **options)
    _say(output, report["parity"])
    half = report["half_precision"]
    typer.echo(
        f"in the chip's half precision, emulated, by at most {half['max_difference'] * 255:.2f}, by "
        f"{half['mean_difference'] * 255:.2f} on average"
    )
    typer.echo(f"{report['multiply_adds'] / 1e9:.2f} G multiply-adds")
    if blob := report.get("blob"):
        typer.echo(
            f"{sum(blob['stages'].values())} stages, {blob['working_memory'] / 1e6:.1f} MB working memory, "
            f"{blob['shaves']} vector processors"
        )


def _export_onnx(model: Model, output: Path, card: Mapping[str, Any], *, opset: int | None, **options: Any) -> None:
    from restyle.export.graph_files import add_to_card
    from restyle.export.onnx_graph import OPSET, export_model
    from restyle.export.parity import measure_precisions

    written = export_model(model, output, card=card, opset=OPSET if opset is None else opset, **options).document
    _say(output, written["parity_on_photographs"])
    if options["size"] or options["precision"] == "f16":
        return
    if figures := measure_precisions(output):
        add_to_card(output, figures)
        for precision in ("mixed", "bf16"):
            worst, mean = (figures[precision][name] * 255 for name in ("max_difference", "mean_difference"))
            typer.echo(f"{precision} differs from float32 by {mean:.2f} of 255 on average, by at most {worst:.0f}")


def _checked(
    to: str, size: str | None, precision: str | None, opset: int | None, shaves: int | None, graph_only: bool
) -> tuple[int, int] | None:
    """Refuse options that a target does not have; the size as two numbers."""
    if to not in TARGETS:
        raise ValueError(f"--to must be one of {', '.join(TARGETS)}, got {to!r}; for others see docs/export.md")
    if precision is not None and precision not in PRECISIONS[to]:
        raise ValueError(f"--precision must be {' or '.join(PRECISIONS[to])} for {to}, got {precision!r}")
    if opset is not None and to != "onnx":
        raise ValueError(f"--opset is for onnx only, got {opset} for {to}")
    if shaves is not None and to != "oak":
        raise ValueError(f"--shaves is for oak only, got {shaves} for {to}")
    if graph_only and to != "oak":
        raise ValueError(f"--graph-only is for oak only, other targets are not compiled, got {to}")
    sides = parse_size(size)
    return (sides, sides) if isinstance(sides, int) else sides


def _read(source: str, encoder: Path | None) -> tuple[Model, dict[str, Any], ModelCard | None]:
    """A trained network, what is known of it, and the card if it comes from a model folder."""
    try:
        from restyle.export.network import read_network
        from restyle.learn.checkpoints import load_averaged
        from restyle.nn.reference import load_reference
    except ImportError as error:
        raise MissingExtraError("export", extra="train") from error
    if encoder:
        return load_reference(encoder, Path(source)), {}, None
    # A path that is no folder is a checkpoint, also one that is missing; a bare word is a model's name.
    if os.path.isfile(source) or os.path.splitext(source)[1]:
        model, training = load_averaged(Path(source))
        return model, {"training": {k: v for k, v in training.items() if k not in LOCAL_SETTINGS}}, None
    model, card = read_network(find_model(source))
    return model, {key: card.document[key] for key in KEPT if key in card.document}, card


def _say(output: Path, parity: Mapping[str, float]) -> None:
    worst, mean = (parity[name] * 255 for name in ("max_difference", "mean_difference"))
    typer.echo(f"{output}  differs from torch by at most {worst:.2f} of 255 on photographs, by {mean:.2f} on average")
