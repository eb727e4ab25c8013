"""How far an exported model is from the trained one: on random pictures of many sizes, and on bundled photographs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from restyle import gallery
from restyle.image import fit_short_side, read_image, resize
from restyle.nn.networks import Model
from restyle.runtime import computes_bf16
from restyle.stylizer import STYLE_SIDE, Stylizer
from restyle.weights import GRAPHS

Paint = Callable[[Tensor, Tensor], NDArray[np.float32]]
"""(1, 3, H, W) in 0..1 and a style vector (1, D) to the picture painted, (1, 3, H, W) in 0..1."""

SAMPLE_SIDE = 320
"""Short side of the photographs, in pixels, where no size is wanted: enough to see all, and quick."""

PARITY_SIZES = ((1, 16, 16), (1, 64, 64), (2, 97, 130), (3, 75, 64), (1, 256, 171))
"""Batch, height and width of the pictures that every exported graph is compared on."""


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


def sample_pictures(size: tuple[int, int] | None = None) -> list[Tensor]:
    """The bundled photographs, (1, 3, H, W) in 0..1; of a fixed height and width their middles."""
    return [
        _tensor(_middle(read_image(entry.path).pixels[..., :3], size))
        for entry in gallery.entries().values()
        if entry.kind == "sample"
    ]


@dataclass(frozen=True)
class Sample:
    """A photograph (1, 3, H, W), a style (1, D), and what the trained network paints of them in float32."""

    content: Tensor
    style: Tensor
    painted: Tensor


def sample_paintings(model: Model, size: tuple[int, int] | None = None) -> list[Sample]:
    """The bundled photographs in every fifth bundled style: 9 pictures in all."""
    samples = []
    zero, one = torch.zeros(1, 1), torch.ones(1, 1)
    unused = torch.zeros(1, 2 * model.stylizer.sites)
    with torch.no_grad():
        for entry in gallery.styles()[::5]:
            pixels = read_image(entry.path).pixels[..., :3]
            style = model.style_encoder(_tensor(resize(pixels, fit_short_side(pixels.shape[:2], STYLE_SIDE))))
            for content in sample_pictures(size):
                samples.append(Sample(content, style, model.stylizer(content, style, one, unused, zero)[0]))
    return samples


def compare(samples: Sequence[Sample], paint: Paint) -> dict[str, float]:
    """``max_difference`` and ``mean_difference`` over all samples, in units of the 0..1 range.

    Raises:
        RuntimeError: a picture is not finite or of another size.
    """
    worst, means = 0.0, []
    for sample in samples:
        painted = paint(sample.content, sample.style)
        if painted.shape != tuple(sample.painted.shape) or not np.isfinite(painted).all():
            raise RuntimeError(
                f"the exported model paints {painted.shape} for {tuple(sample.painted.shape)}, or no numbers"
            )
        difference = np.abs(painted - sample.painted.numpy())
        worst = max(worst, float(difference.max()))
        means.append(float(difference.mean()))
    return {"max_difference": worst, "mean_difference": float(np.mean(means))}


def paint_with(path: Path) -> Paint:
    """A stylizer's ONNX file as it paints in ONNX Runtime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    numbers = session.get_inputs()[3].shape[1]

    def paint(content: Tensor, style: Tensor) -> NDArray[np.float32]:
        painted: NDArray[np.float32] = session.run(["stylized"], graph_inputs(content, style, numbers))[0]
        return painted

    return paint


def graph_inputs(content: Tensor, style: Tensor, numbers: int) -> dict[str, NDArray[np.float32]]:
    """What a stylizer's graph takes, at full strength, for a picture with its own statistics (``numbers`` of them)."""
    return {
        "content": content.numpy(),
        "style": style.numpy(),
        "strength": np.ones((1, 1), np.float32),
        "statistics": np.zeros((1, numbers), np.float32),
        "given": np.zeros((1, 1), np.float32),
    }


def measure_precisions(folder: Path) -> dict[str, Any]:
    """Compare ``mixed`` and ``bf16`` with float32: the bundled photographs in the bundled styles, on this processor.

    Args:
        folder: A model folder.

    Returns:
        For each precision ``max_difference`` and ``mean_difference``, the worst of all pictures, in units of the 0..1
        range; ``mixed_is_faithful``, whether its mean stays below 1/255 and its maximum at 3/255; and
        ``bf16_is_close``, whether its mean stays below 1/255. Empty where the processor does not compute in bf16.
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
    close = figures["bf16"]["mean_difference"] < 1 / 255
    return {**figures, "mixed_is_faithful": faithful, "bf16_is_close": close}


def _middle(pixels: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    if size is None:
        return resize(pixels, fit_short_side(pixels.shape[:2], SAMPLE_SIDE))
    height, width = pixels.shape[:2]
    scale = min(height / size[0], width / size[1])
    rows, columns = round(size[0] * scale), round(size[1] * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    return resize(np.ascontiguousarray(pixels[top : top + rows, left : left + columns]), size)


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def _smooth_noise(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    coarse = torch.rand(shape[0], 3, 8, 8, generator=generator)
    fine = torch.rand(shape, generator=generator)
    smooth = nn.functional.interpolate(coarse, shape[2:], mode="bilinear", align_corners=False)
    return (0.8 * smooth + 0.2 * fine).clamp(0, 1)
