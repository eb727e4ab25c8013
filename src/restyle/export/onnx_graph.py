"""A model as two ONNX graphs and a ``model.json``: the only thing that the engine knows.

``style_encoder.onnx``: ``picture`` (N, 3, h, w) -> ``style`` (N, D).
``stylizer.onnx``: ``content``, ``style``, ``strength``, ``statistics``, ``given`` -> ``stylized``, ``own``; see
``restyle.nn.networks.Stylizer`` for shapes and ranges. All sizes are dynamic.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from restyle import gallery
from restyle.errors import ModelFileError
from restyle.nn.fast import FastStylizer, UpsampledConv
from restyle.nn.networks import Model
from restyle.nn.networks import Stylizer as StylizerNetwork
from restyle.runtime import EXACT, computes_bf16
from restyle.stylizer import Stylizer
from restyle.weights import GRAPHS, ModelCard, file_sha256

OPSET = 17
PARITY_SIZES = ((1, 16, 16), (1, 64, 64), (2, 97, 130), (3, 75, 64), (1, 256, 171))
"""Batch, height and width of the pictures that every exported graph is compared on."""


def export_model(model: Model, folder: Path, *, card: Mapping[str, Any]) -> ModelCard:
    """Write both graphs and ``model.json``; the folder appears whole or not at all.

    The style encoder's weights, most of the whole, are stored in half precision; the graph widens them when it loads
    and computes in float32. The parity with torch that ``model.json`` reports includes this rounding.

    Args:
        model: Trained weights; not changed.
        folder: Where to write; must not exist.
        card: What else the card should say: ``name``, ``version``, ``licence``, ``training`` and more.

    Returns:
        The card as written.

    Raises:
        ModelFileError: the folder exists or its parent does not.
        RuntimeError: a graph does not agree with torch.
    """
    if os.path.lexists(folder):
        raise ModelFileError(f"{folder} exists already; choose a new folder")
    if not os.access(folder.absolute().parent, os.W_OK) or not os.path.isdir(folder.absolute().parent):
        raise ModelFileError(f"{folder.absolute().parent} is not a folder to write to")
    model = copy.deepcopy(model).cpu().float().eval()
    reference = copy.deepcopy(model)
    fold_upsampling(model)
    with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".export-") as temporary:
        beside = Path(temporary) / "model"
        beside.mkdir(mode=0o755)
        _write_style_encoder(model.style_encoder, beside / GRAPHS[0])
        _write_stylizer(model.stylizer, beside / GRAPHS[1])
        parity = measure_parity(reference, beside)
        if parity["max_difference"] >= 1 / 255:
            raise RuntimeError(f"the exported graphs differ from torch by {parity['max_difference'] * 255:.2f} of 255")
        document = {
            **card,
            "sites": model.stylizer.sites,
            "style_size": model.stylizer.style_size,
            "halo": measure_halo(reference.stylizer),
            "grid": model.stylizer.grid,
            "settings": getattr(model.stylizer, "settings", {}),
            "opset": OPSET,
            "parity": parity,
            "sha256": {name: file_sha256(beside / name) for name in GRAPHS},
        }
        written = ModelCard.from_json(document)
        (beside / "model.json").write_text(json.dumps(document, indent=2) + "\n")
        os.replace(beside, folder)
    return written


def fold_upsampling(module: nn.Module) -> None:
    """Replace each ``UpsampledConv`` by the plain layer that it amounts to, so that graphs hold no folding."""
    for name, child in module.named_children():
        if isinstance(child, UpsampledConv):
            setattr(module, name, child.folded())
        else:
            fold_upsampling(child)


def measure_parity(
    model: Model, folder: Path, *, sizes: Sequence[tuple[int, int, int]] = PARITY_SIZES
) -> dict[str, float]:
    """Compare the graphs in a folder with torch on random smooth pictures of several sizes and batch sizes.

    Args:
        model: The weights as trained, in float32.
        folder: Holds both graphs.
        sizes: (N, H, W) to try.

    Returns:
        ``max_difference`` and ``mean_difference`` of the stylized pictures, in units of the 0..1 range.
    """
    encode, stylize = (
        onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"]) for name in GRAPHS
    )
    model = copy.deepcopy(model).eval()
    generator = torch.Generator().manual_seed(0)
    worst, means = 0.0, []
    for count, height, width in sizes:
        content = _smooth_noise((count, 3, height, width), generator)
        picture = _smooth_noise((count, 3, max(height, 32), max(width, 32)), generator)
        strength = torch.rand(count, 1, generator=generator) * 1.5
        statistics = torch.rand(count, 2 * model.stylizer.sites, generator=generator)
        statistics[:, model.stylizer.sites :] += 0.5  # no deviation is next to nothing, which would magnify rounding
        given = (torch.arange(count) % 2)[:, None].float()
        with torch.inference_mode():
            vector = model.style_encoder(picture)
            expected, own = model.stylizer(content, vector, strength, statistics, given)
        (style,) = encode.run(None, {"picture": picture.numpy()})
        inputs = {"content": content, "strength": strength, "statistics": statistics, "given": given}
        stylized, own_seen = stylize.run(None, {"style": style, **{k: v.numpy() for k, v in inputs.items()}})
        difference = np.abs(stylized - expected.numpy())
        if stylized.shape != expected.shape or not np.allclose(own_seen, own.numpy(), rtol=0.02, atol=0.02):
            raise RuntimeError(f"the graph's shape or statistics are wrong at {height}x{width}")
        worst = max(worst, float(difference.max()))
        means.append(float(difference.mean()))
    return {"max_difference": worst, "mean_difference": float(np.mean(means))}


def measure_precisions(folder: Path) -> dict[str, Any]:
    """Compare ``mixed`` and ``bf16`` with float32: the bundled photographs in the bundled styles, on this processor.

    Args:
        folder: A model folder.

    Returns:
        For each precision ``max_difference`` and ``mean_difference``, the worst of all pictures, in units of the 0..1
        range; and ``mixed_is_faithful``, whether its mean stays below 1/255 and its maximum at 3/255. Empty where the
        processor does not compute in bf16.
    """
    if not computes_bf16("cpu"):
        return {}
    full, *others = (Stylizer.load(folder, device="cpu", precision=name) for name in ("f32", "mixed", "bf16"))
    rows: dict[str, list[tuple[float, float]]] = {other.precision: [] for other in others}
    for sample in (entry for entry in gallery.entries().values() if entry.kind == "sample"):
        for style in (full.encode_style(entry.path) for entry in gallery.styles()):
            expected = full.apply(sample.path, style).astype(int)
            for other in others:
                difference = np.abs(other.apply(sample.path, style) - expected)
                rows[other.precision].append((float(difference.max()) / 255, float(difference.mean()) / 255))
    figures: dict[str, Any] = {
        name: dict(zip(("max_difference", "mean_difference"), map(max, zip(*found, strict=True)), strict=True))
        for name, found in rows.items()
    }
    mixed = figures["mixed"]
    faithful = mixed["mean_difference"] < 1 / 255 and mixed["max_difference"] < 3.5 / 255
    return {**figures, "mixed_is_faithful": faithful}


def add_to_card(folder: Path, figures: Mapping[str, Any]) -> None:
    """Add measured figures to a model folder's card."""
    path = folder / "model.json"
    beside = folder / "model.json.part"
    beside.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **figures}, indent=2) + "\n")
    os.replace(beside, path)


def measure_halo(stylizer: StylizerNetwork) -> int:
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


def _write_style_encoder(encoder: nn.Module, path: Path) -> None:
    _write(
        encoder,
        (torch.rand(1, 3, 96, 64),),
        path,
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

    def __init__(self, stylizer: StylizerNetwork) -> None:
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


def _write_stylizer(stylizer: StylizerNetwork, path: Path) -> None:
    example = (
        torch.rand(1, 3, 64, 96),
        torch.zeros(1, stylizer.style_size),
        torch.ones(1, 1),
        torch.zeros(1, 2 * stylizer.sites),
        torch.zeros(1, 1),
    )
    inputs = ["content", "style", "strength", "statistics", "given"]
    outputs = ["stylized", "own", *[EXACT] * isinstance(stylizer, FastStylizer)]
    _write(_Named(stylizer), example, path, inputs=inputs, outputs=outputs, pictures=["content", *outputs[::2]])


def _write(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    *,
    inputs: list[str],
    outputs: list[str],
    pictures: list[str],
    halve: bool = False,
) -> None:
    axes = {name: {0: "N", 2: "H", 3: "W"} if name in pictures else {0: "N"} for name in inputs + outputs}
    with warnings.catch_warnings():
        # The older exporter is meant: the newer one needs another package, and cannot write the opset of small cameras.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, path, input_names=inputs, output_names=outputs, dynamic_axes=axes, opset_version=OPSET,
            dynamo=False,
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


def _smooth_noise(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    coarse = torch.rand(shape[0], 3, 8, 8, generator=generator)
    fine = torch.rand(shape, generator=generator)
    smooth = nn.functional.interpolate(coarse, shape[2:], mode="bilinear", align_corners=False)
    return (0.8 * smooth + 0.2 * fine).clamp(0, 1)
