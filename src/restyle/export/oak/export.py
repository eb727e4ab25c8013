"""A model for the OAK-1's camera chip: a graph, the blob compiled from it, and the archive that DepthAI reads.

The folder holds ``stylizer.onnx``, ``stylizer.blob``, ``stylizer.rvc2.tar.xz`` and ``export.json`` with what was
measured. The style encoder stays on the computer: a style is one of the network's inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from luxonis_ml.nn_archive import ArchiveGenerator
from numpy.typing import NDArray
from torch import Tensor

from restyle.errors import ExportError
from restyle.export.graph_files import INSIDE, describe_inside, new_folder, write_card
from restyle.export.oak.blob import IN_SOFTWARE, Blob, Port, read_blob
from restyle.export.oak.compiler import compile_blob
from restyle.export.oak.graph import OakStylizer, multiply_adds, write_oak_graph
from restyle.export.oak.half import LARGEST, half_weights, measure_budget, run_in_half
from restyle.export.parity import Paint, compare, sample_paintings, sample_pictures
from restyle.nn.networks import Model
from restyle.weights import ModelCard

GRAPH, BLOB, ARCHIVE, REPORT = "stylizer.onnx", "stylizer.blob", "stylizer.rvc2.tar.xz", "export.json"


def export_oak(
    model: Model,
    folder: Path,
    *,
    card: ModelCard,
    size: tuple[int, int] = (256, 256),
    shaves: int = 6,
    graph_only: bool = False,
) -> Mapping[str, Any]:
    """Write a model for the OAK-1; the folder appears whole or not at all.

    Args:
        model: The fast network.
        folder: Where to write; must not exist.
        card: The model folder's card: styles that it encodes are what the chip takes.
        size: Height and width, multiples of 8, at least 32.
        shaves: Vector processors to use, 1 to 8.
        graph_only: Leave out blob and archive, which another compiler shall make.

    Returns:
        What ``export.json`` says.

    Raises:
        ModelFileError: the folder exists or its parent does not.
        ValueError: the size, the number of vector processors or the network does not fit.
        ExportError: the compiler cannot be had, refuses the graph, or made something else of it.
    """
    with new_folder(folder) as beside:
        module = write_oak_graph(model.stylizer, beside / GRAPH, size=size)
        describe_inside(beside / GRAPH, card.document)
        blob = {} if graph_only else {"blob": _compile(beside, card, size, shaves)}
        report = {
            **{name: card.document.get(name, "") for name in INSIDE},
            "model": card.identity,
            "size": list(size),
            "style_size": card.style_size,
            **blob,
            "multiply_adds": multiply_adds(beside / GRAPH),
            **_measure(model, module, beside / GRAPH, size),
        }
        write_card(beside / REPORT, report)
    return report


def check_blob(blob: Blob, size: tuple[int, int], style_size: int, shaves: int) -> None:
    """Refuse a blob that is not what was asked for; the compiler says nothing when it misunderstands.

    Raises:
        ExportError: naming what differs.
    """
    picture = (1, 3, *size)
    inputs = {
        "image": Port("U8", picture),
        "style": Port("FP16", (1, style_size, 1, 1)),
        "strength": Port("FP16", (1, 1, 1, 1)),
    }
    outputs = {"stylized": Port("FP16", picture)}
    for what, found, wanted in (("inputs", blob.inputs, inputs), ("outputs", blob.outputs, outputs)):
        if dict(found) != wanted:
            raise ExportError(f"the compiled {what} are {dict(found)}, not {wanted}")
    if (blob.shaves, blob.cmx_slices) != (shaves, shaves):
        raise ExportError(f"the blob is compiled for {blob.shaves} vector processors, not {shaves}")
    for stage in IN_SOFTWARE:
        if blob.stages.get(stage):
            raise ExportError(f"{blob.stages[stage]} stages are a {stage}, which is too slow for a camera")


def write_archive(blob: Path, archive: Path, card: ModelCard, size: tuple[int, int]) -> None:
    """Write a blob as the archive (NNArchive) that DepthAI v3 and HubAI read."""
    picture = [1, 3, *size]
    plain = {"dtype": "float16", "input_type": "raw", "layout": "NCHW", "preprocessing": {}}
    colours = {"mean": [0, 0, 0], "scale": [1, 1, 1], "dai_type": "RGB888p"}
    config = {
        "config_version": "1.0",
        "model": {
            "metadata": {"name": card.identity, "path": blob.name, "precision": "float16"},
            "inputs": [
                {"name": "image", "dtype": "uint8", "input_type": "image", "shape": picture, "layout": "NCHW",
                 "preprocessing": colours},
                {"name": "style", "shape": [1, card.style_size, 1, 1], **plain},
                {"name": "strength", "shape": [1, 1, 1, 1], **plain},
            ],
            "outputs": [{"name": "stylized", "dtype": "float16", "shape": picture, "layout": "NCHW"}],
            "heads": [],
        },
    }  # fmt: skip
    ArchiveGenerator(
        archive_name=archive.name.removesuffix(".tar.xz"),
        save_path=str(archive.parent),
        cfg_dict=config,
        executables_paths=[str(blob)],
        compression="xz",
    ).make_archive()


def _compile(folder: Path, card: ModelCard, size: tuple[int, int], shaves: int) -> dict[str, Any]:
    """Write blob and archive into the folder, and tell what the blob is."""
    path = folder / BLOB
    compile_blob(folder / GRAPH, path, shaves=shaves)
    blob = read_blob(path)
    check_blob(blob, size, card.style_size, shaves)
    write_archive(path, folder / ARCHIVE, card, size)
    return {
        "shaves": blob.shaves,
        "stages": blob.stages,
        "working_memory": blob.working_memory,
        "bytes": path.stat().st_size,
    }


def _measure(model: Model, module: OakStylizer, graph: Path, size: tuple[int, int]) -> dict[str, Any]:
    """How far graph and chip are from the trained network, on real pictures."""
    samples = sample_paintings(model, size)
    parity = compare(samples, _by_graph(graph))
    if parity["max_difference"] >= 1 / 255:
        raise RuntimeError(f"the graph for the chip differs from torch by {parity['max_difference'] * 255:.2f} of 255")
    images = [255 * picture for picture in sample_pictures(size)]
    return {
        "parity": parity,
        "half_precision": compare(samples, _in_half(module)),
        "half_precision_budget": {"largest_allowed": LARGEST, **measure_budget(module, images)},
    }


def _by_graph(graph: Path) -> Paint:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def paint(content: Tensor, style: Tensor) -> NDArray[np.float32]:
        inputs = {"image": 255 * content.numpy(), "style": style.numpy()[:, :, None, None]}
        inputs["strength"] = np.ones((1, 1, 1, 1), np.float32)
        painted: NDArray[np.float32] = session.run(None, inputs)[0] / np.float32(255)
        return painted

    return paint


def _in_half(module: OakStylizer) -> Paint:
    rounded = half_weights(module)

    def paint(content: Tensor, style: Tensor) -> NDArray[np.float32]:
        painted = run_in_half(rounded, 255 * content, style[:, :, None, None], torch.ones(1, 1, 1, 1))
        return np.asarray(painted.numpy() / 255, np.float32)

    return paint
