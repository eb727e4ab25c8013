"""The fast network as a camera chip wants it (Myriad X, in Luxonis' OAK-1): one size, no padding but reflection, FP16.

``image`` (1, 3, H, W) 0..255, ``style`` (1, D, 1, 1), ``strength`` (1, 1, 1, 1) -> ``stylized`` (1, 3, H, W) 0..255.
It paints what ``FastStylizer`` paints with the picture's own statistics; only the arithmetic is arranged anew.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.nn.fast import FastStylizer, InvertedResidual, UpsampledConv
from restyle.nn.networks import Stylizer
from restyle.nn.ops import EPS

OPSET = 13
"""The newest that the chip's compiler of 2021 understands. Newer graphs it compiles without a word, and wrongly."""

COMPILED = frozenset(
    ("Add", "Clip", "Conv", "DepthToSpace", "InstanceNormalization", "Mul", "Pad", "Relu", "Resize", "Split", "Sub")
)
"""The operators of our graph; each was seen to compile for the chip."""

SMALLEST, STEP = 32, 8
"""Sides that the graph takes: at least 32 pixels, in multiples of 8."""


class OakStylizer(nn.Module):
    """``FastStylizer`` at one size for the chip, which convolves without padding in hardware.

    Args:
        stylizer: Trained weights; not changed.
        size: Height and width, multiples of 8, at least 32.

    Raises:
        ValueError: the size is none of these.
    """

    def __init__(self, stylizer: FastStylizer, size: tuple[int, int]) -> None:
        super().__init__()
        if any(side < SMALLEST or side % STEP for side in size):
            raise ValueError(
                f"size must be multiples of {STEP}, at least {SMALLEST} pixels each, got {size[0]}x{size[1]}"
            )
        self.down1, self.down2 = stylizer.down1, stylizer.down2
        self.blocks = stylizer.blocks
        self.up1, self.up2 = _upsampled(stylizer.up1), _upsampled(stylizer.up2)
        self.out = _painted_to_255(stylizer.out)
        self.parts = [stylizer.sites] * 2 + [width for width in stylizer.modulated for _ in range(2)]
        # A style vector holds scales as differences from 1: one addition makes factors of all of them.
        neutral = [torch.zeros(2 * stylizer.sites)]
        for width in stylizer.modulated:
            neutral += [torch.ones(width), torch.zeros(width)]
        self.neutral: Tensor
        self.register_buffer("neutral", torch.cat(neutral)[None, :, None, None])

    def forward(self, image: Tensor, style: Tensor, strength: Tensor) -> Tensor:
        """See the module."""
        mean, std, *modulation = torch.split(style + self.neutral, self.parts, 1)
        features = self.normalised(image) * F.relu(std) + mean
        pairs = list(zip(modulation[::2], modulation[1::2], strict=True))
        for block, (scale, shift) in zip(self.blocks, pairs[:-2], strict=True):
            features = _residual(block, features, scale, shift)
        features = F.pad(features, (1, 1, 1, 1), mode="reflect")
        for layer, (scale, shift) in zip((self.up1, self.up2), pairs[-2:], strict=True):
            features = F.relu(layer(features) * scale + shift)
        painted: Tensor = self.out(features).clamp(0, 255)
        return image + strength * (painted - image)

    def features(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) in 0..255 to what reaches the AdaIN site, (1, S, H/8, W/8)."""
        reach = FastStylizer.REACH
        content = F.pad(image * (1 / 255), (reach, 0, reach, 0), mode="reflect")
        features: Tensor = self.down2(F.relu(self.down1(content)))
        return features

    def normalised(self, image: Tensor) -> Tensor:
        """The features with mean 0 and deviation 1: one stage on the chip, which subtracts before it squares."""
        normalised: Tensor = F.instance_norm(self.features(image), eps=EPS)
        return normalised


def write_oak_graph(stylizer: Stylizer, path: Path, *, size: tuple[int, int]) -> OakStylizer:
    """Write the network for the chip as ONNX, of fixed size.

    Args:
        stylizer: A ``FastStylizer``.
        path: The file to write.
        size: Height and width.

    Returns:
        The module that was written.

    Raises:
        ValueError: the size does not fit, or the network is not the fast one.
    """
    if not isinstance(stylizer, FastStylizer):
        raise ValueError(f"only the fast network fits a camera chip, got {type(stylizer).__name__}")
    module = OakStylizer(stylizer, size).float().eval()
    example = (torch.zeros(1, 3, *size), torch.zeros(1, stylizer.style_size, 1, 1), torch.ones(1, 1, 1, 1))
    with warnings.catch_warnings():
        # The older exporter is meant: the newer one cannot write an opset that the chip's compiler knows.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, example, path, input_names=["image", "style", "strength"], output_names=["stylized"],
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    _simplify(path)
    check_oak_graph(path)
    return module


def check_oak_graph(path: Path) -> None:
    """Refuse what the compiler would take in silence and get wrong: other opsets, unknown operators, open sizes.

    Raises:
        RuntimeError: naming what was found.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
    onnx.checker.check_model(graph, full_check=True)
    opsets = {one.domain: one.version for one in graph.opset_import}
    if opsets != {"": OPSET}:
        raise RuntimeError(f"the graph must be of opset {OPSET}, it is of {opsets}")
    if unknown := {node.op_type for node in graph.graph.node} - COMPILED:
        raise RuntimeError(f"the chip's compiler was not tried with {', '.join(sorted(unknown))}")
    for port in [*graph.graph.input, *graph.graph.output]:
        if not all(side.dim_value > 0 for side in port.type.tensor_type.shape.dim):
            raise RuntimeError(f"{port.name} has no fixed size")


def multiply_adds(path: Path) -> int:
    """Multiply-adds of all convolutions of a graph of fixed size, as they stand there."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in [*graph.value_info, *graph.output]
    }
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            outputs, inputs, *kernel = weights[node.input[1]]
            height, width = shapes[node.output[0]][2:]
            total += outputs * inputs * kernel[0] * kernel[1] * height * width
    return total


def _simplify(path: Path) -> None:
    """Compute beforehand what does not depend on the inputs: the exporter spells out every padding in ten nodes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(path)
    # It lists all dialects that it speaks; the graph uses one.
    used = [one for one in graph.opset_import if one.domain == ""]
    del graph.opset_import[:]
    graph.opset_import.extend(used)
    onnx.save(graph, path)


def _residual(block: nn.Module, features: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    assert isinstance(block, InvertedResidual)
    inner = block.depthwise(F.relu(block.expand(features)))
    result: Tensor = features + block.project(F.relu(inner * scale + shift))
    return result


def _upsampled(layer: UpsampledConv) -> nn.Sequential:
    """Nearest upsampling and a plain convolution: for the chip, a transposed convolution is 16/9 of this work."""
    return nn.Sequential(nn.UpsamplingNearest2d(scale_factor=2), _convolution(layer.weight, layer.bias))


def _painted_to_255(layer: UpsampledConv) -> nn.Sequential:
    """The last layer folded, and colours of 0..255 around middle grey instead of -0.5..0.5."""
    weight = layer.folded_weight().detach()
    bias = (layer.bias.detach() + 0.5).repeat_interleave(4)
    return nn.Sequential(_convolution(255 * weight, 255 * bias), nn.PixelShuffle(2))


def _convolution(weight: Tensor, bias: Tensor | None, stride: int = 1) -> nn.Conv2d:
    outputs, inputs, *kernel = weight.shape
    layer = nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), stride=stride)
    layer.load_state_dict(
        {"weight": weight.detach(), "bias": bias.detach() if bias is not None else torch.zeros(outputs)}
    )
    return layer
