"""A model as OpenVINO's own files, for programs that read these and nothing else; restyle itself reads the ONNX."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from restyle.export.graph_files import INSIDE, new_folder, write_card
from restyle.export.onnx_graph import export_model
from restyle.export.parity import Paint, compare, graph_inputs, sample_paintings
from restyle.nn.networks import Model
from restyle.runtime import import_openvino, openvino_core
from restyle.weights import GRAPHS, file_sha256

openvino = import_openvino()


def export_openvino(
    model: Model, folder: Path, *, card: Mapping[str, Any], size: tuple[int, int] | None = None, half: bool = False
) -> Mapping[str, Any]:
    """Write both graphs as ``.xml`` and ``.bin``, and ``export.json``; the folder appears whole or not at all.

    Args:
        model: Trained weights; not changed.
        folder: Where to write; must not exist.
        card: As for ``export_model``.
        size: Height and width that the stylizer shall take, one picture at a time; None = any.
        half: Store weights in FP16, half as large; the precision of the arithmetic is chosen when they are loaded.

    Returns:
        What ``export.json`` says.

    Raises:
        ModelFileError: the folder exists or its parent does not.
        ValueError: the size is not possible.
        RuntimeError: the files in float32 do not agree with torch.
    """
    with new_folder(folder) as beside, tempfile.TemporaryDirectory() as temporary:
        graphs = Path(temporary) / "onnx"
        export_model(model, graphs, card=card, size=size)
        document: dict[str, Any] = json.loads((graphs / ("export.json" if size else "model.json")).read_text("utf-8"))
        for name in GRAPHS:
            converted = openvino_core().read_model(graphs / name)
            for field in INSIDE:
                if card.get(field):
                    converted.set_rt_info(str(card[field]), ["restyle", field])
            openvino.save_model(converted, beside / f"{Path(name).stem}.xml", compress_to_fp16=half)
        del document["opset"], document["parity"]
        document |= {
            "half": half,
            "parity_on_photographs": compare(sample_paintings(model.eval(), size), _by_files(beside / "stylizer.xml")),
            "sha256": {path.name: file_sha256(path) for path in sorted(beside.iterdir())},
        }
        if not half and (worst := document["parity_on_photographs"]["max_difference"]) >= 1 / 255:
            raise RuntimeError(f"OpenVINO's files differ from torch by {worst * 255:.2f} of 255")
        write_card(beside / "export.json", document)
    return document


def _by_files(path: Path) -> Paint:
    # Without the hint, recent processors compute in bf16, and the difference would be theirs.
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    numbers = compiled.input("statistics").partial_shape[1].get_length()

    def paint(content: Tensor, style: Tensor) -> NDArray[np.float32]:
        painted: NDArray[np.float32] = compiled(graph_inputs(content, style, numbers))["stylized"]
        return painted

    return paint
