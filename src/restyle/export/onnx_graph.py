"""A model as two ONNX graphs and a ``model.json``: the only thing that the engine knows.

``style_encoder.onnx``: ``picture`` (N, 3, h, w) -> ``style`` (N, D).
``stylizer.onnx``: ``content``, ``style``, ``strength``, ``statistics``, ``given`` -> ``stylized``, ``own``; see
``restyle.nn.networks.Stylizer`` for shapes and ranges. All sizes are dynamic.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from restyle.export.eight_bit import to_int8
from restyle.export.graph_files import describe_inside, new_folder, to_half, write_card
from restyle.export.parity import PARITY_SIZES, compare, graph_inputs, measure_parity, paint_with, sample_paintings
from restyle.nn.fast import FastStylizer, UpsampledConv
from restyle.nn.networks import Model, Stylizer
from restyle.runtime import EXACT
from restyle.weights import GRAPHS, ModelCard, file_sha256

MINIMUM_SIDE = 16
"""Smallest height and width that the network takes."""

OPSET, OPSETS = 17, range(17, 21)
"""The opset that graphs are written in, and those that may be asked for."""

PRECISIONS = ("f32", "f16", "int8")
"""What a stylizer's graph may compute in."""


def export_model(
    model: Model,
    folder: Path,
    *,
    card: Mapping[str, Any],
    size: tuple[int, int] | None = None,
    precision: str = "f32",
    opset: int = OPSET,
) -> ModelCard:
    """Write both graphs and ``model.json``; the folder appears whole or not at all.

    The style encoder's weights, most of the whole, are stored in half precision; the graph widens them when it loads
    and computes in float32. The parity with torch that ``model.json`` reports includes this rounding.

    Args:
        model: Trained weights; not changed.
        folder: Where to write; must not exist.
        card: What else the card should say: ``name``, ``version``, ``licence``, ``training`` and more.
        size: Height and width that the stylizer shall take, one picture at a time, for programs that want fixed sizes;
            None = any, which restyle itself needs. The card of a fixed size is ``export.json``, not ``model.json``.
        precision: One of ``PRECISIONS``, of the stylizer; inputs and outputs stay float32. ``f16`` computes in FP16,
            but for the statistics of whole pictures, and is for other programs: restyle chooses floats by itself, so
            this card, too, is ``export.json``. ``int8`` see ``eight_bit``; calibrated on the bundled photographs.
        opset: Of the ONNX operators, one of ``OPSETS``.

    Returns:
        The card as written.

    Raises:
        ModelFileError: the folder exists or its parent does not.
        ValueError: the size, the precision or the opset is not possible.
        RuntimeError: a graph does not agree with torch.
    """
    _check_options(size, precision, opset)
    model = copy.deepcopy(model).cpu().float().eval()
    reference = copy.deepcopy(model)
    fold_upsampling(model)
    with new_folder(folder) as beside:
        _write_style_encoder(model.style_encoder, beside / GRAPHS[0], opset)
        _write_stylizer(model.stylizer, beside / GRAPHS[1], opset, size)
        parity = measure_parity(reference, beside, sizes=[(1, *size)] if size else PARITY_SIZES)
        if parity["max_difference"] >= 1 / 255:
            raise RuntimeError(f"the exported graphs differ from torch by {parity['max_difference'] * 255:.2f} of 255")
        samples = sample_paintings(reference, size)
        if precision == "f16":
            to_half(beside / GRAPHS[1])
        elif precision == "int8":
            numbers = 2 * model.stylizer.sites
            to_int8(beside / GRAPHS[1], (graph_inputs(one.content, one.style, numbers) for one in samples))
        for name in GRAPHS:
            describe_inside(beside / name, card)
        document = {
            **card,
            "sites": model.stylizer.sites,
            "style_size": model.stylizer.style_size,
            "halo": measure_halo(reference.stylizer),
            "grid": model.stylizer.grid,
            "settings": getattr(model.stylizer, "settings", {}),
            "opset": opset,
            **({"size": list(size)} if size else {}),
            **({"parity": parity} if precision == "f32" else {"precision": precision}),
            "parity_on_photographs": compare(samples, paint_with(beside / GRAPHS[1])),
            "sha256": {name: file_sha256(beside / name) for name in GRAPHS},
        }
        written = ModelCard.from_json(document)
        write_card(beside / ("export.json" if size or precision == "f16" else "model.json"), document)
    return written


def fold_upsampling(module: nn.Module) -> None:
    """Replace each ``UpsampledConv`` by the plain layer that it amounts to, so that graphs hold no folding."""
    for name, child in module.named_children():
        if isinstance(child, UpsampledConv):
            setattr(module, name, child.folded())
        else:
            fold_upsampling(child)


def measure_halo(stylizer: Stylizer) -> int:
    """How far around a pixel the stylizer looks once the statistics are given, in pixels, a multiple of 8.

    Measured by asking which pixels of a picture have any influence on an 8x8 block in its middle.
    """
    stylizer = copy.deepcopy(stylizer).train()  # unclamped: a saturated colour would hide its influences
    side, block = 512, slice(256, 264)
    reach = 0
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        content = torch.rand(1, 3, side, side, generator=generator).requires_grad_()
        style = torch.randn(1, stylizer.style_size, generator=generator)
        statistics = torch.cat([torch.zeros(1, stylizer.sites), torch.ones(1, stylizer.sites)], 1)
        painted, _ = stylizer.paint(content, style, torch.ones(1, 1), statistics, torch.ones(1, 1))
        (influence,) = torch.autograd.grad(painted[:, :, block, block].square().sum(), content)
        for axis in (2, 3):
            seen = influence.abs().amax(tuple(a for a in range(4) if a != axis)).nonzero()
            reach = max(reach, block.start - int(seen.min()), int(seen.max()) + 1 - block.stop)
    return -(-reach // 8) * 8


def _check_options(size: tuple[int, int] | None, precision: str, opset: int) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if size and min(size) < MINIMUM_SIDE:
        raise ValueError(f"size must be at least {MINIMUM_SIDE} pixels each, got {size[0]}x{size[1]}")
    if opset not in OPSETS:
        raise ValueError(f"opset must lie between {OPSETS[0]} and {OPSETS[-1]}, got {opset}")


def _write_style_encoder(encoder: nn.Module, path: Path, opset: int) -> None:
    _write(
        encoder,
        (torch.rand(1, 3, 96, 64),),
        path,
        opset=opset,
        inputs=["picture"],
        outputs=["style"],
        pictures=["picture"],
        halve=True,
    )


class _Named(nn.Module):
    """A stylizer that also gives out what its blocks made, so that the graph gets a name for it.

    bf16 before that point costs up to 15/255 (most of it in the first two convolutions, the rest in the sums that the
    blocks carry along), after it at most 3/255.
    """

    def __init__(self, stylizer: Stylizer) -> None:
        super().__init__()
        self.stylizer = stylizer

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        seen: list[Tensor] = []
        with contextlib.ExitStack() as hooks:
            if isinstance(self.stylizer, FastStylizer):
                way_up = self.stylizer.up1
                hook = way_up.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
                hooks.callback(hook.remove)
            stylized, own = self.stylizer(*inputs)
        return stylized, own, *seen


def _write_stylizer(stylizer: Stylizer, path: Path, opset: int, size: tuple[int, int] | None) -> None:
    example = (
        torch.rand(1, 3, *(size or (64, 96))),
        torch.zeros(1, stylizer.style_size),
        torch.ones(1, 1),
        torch.zeros(1, 2 * stylizer.sites),
        torch.zeros(1, 1),
    )
    inputs = ["content", "style", "strength", "statistics", "given"]
    outputs = ["stylized", "own", *[EXACT] * isinstance(stylizer, FastStylizer)]
    pictures = ["content", *outputs[::2]]
    _write(
        _Named(stylizer),
        example,
        path,
        opset=opset,
        inputs=inputs,
        outputs=outputs,
        pictures=pictures,
        fixed=bool(size),
    )


def _write(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    opset: int,
    inputs: list[str],
    outputs: list[str],
    pictures: list[str],
    halve: bool = False,
    fixed: bool = False,
) -> None:
    axes = {name: {0: "N", 2: "H", 3: "W"} if name in pictures else {0: "N"} for name in inputs + outputs}
    with warnings.catch_warnings():
        # The older exporter is meant: the newer one needs another package, and cannot write the opset of small cameras.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, path, input_names=inputs, output_names=outputs, dynamic_axes=None if fixed else axes,
            opset_version=opset, dynamo=False,
        )  # fmt: skip
    graph = onnx.load(path)
    # The engine needs that tensor's name, but nobody needs its numbers.
    kept = [output for output in graph.graph.output if output.name != EXACT]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    if halve:
        _halve_weights(graph)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store large float32 weights as float16 behind a Cast; every engine folds the Cast away when it loads."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values: NDArray[Any] = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < 1024:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = casts + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
