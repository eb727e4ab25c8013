"""How well does a model carry styles and keep contents? Figures on fixed pairs, and a contact sheet to look at.

All figures are better when lower, and are read together: the untouched photograph scores 0 on the content figures, the
style picture itself 0 on the style figures.

===============  =====================================================================================
``style_vgg``    relative distance of channel statistics, VGG-16, mean of relu1_1 to relu4_1
``style_alex``   the same seen by AlexNet, which nothing trains against, so no model can hide from it
``gram_vgg``     relative distance of Gram matrices, VGG-16
``content_vgg``  mean squared difference of instance-normalised relu4_1; about 2 = unrelated
``lpips_alex``   LPIPS v0.1 between painted picture and photograph, at short side 256
``colour``       sliced Wasserstein-1 distance of the colours of painted picture and style, of 255
``noise``        excess of high-frequency energy over photograph and style
===============  =====================================================================================
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restyle.errors import ModelFileError
from restyle.image import fit_short_side, read_image, resize, write_image
from restyle.metrics import colour_distance, noise_excess
from restyle.nn.losses import content_loss, relative_gram_loss, relative_statistics_loss
from restyle.nn.pretrained import AlexNetJudge, VggEncoder, read_weights
from restyle.stylizer import Stylizer

SIDE = 512
"""Short side, in pixels, at which everything is judged."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """A photograph to paint in a style.

    Attributes:
        name: Name of the pair.
        content: (H, W, 3) uint8, short side ``SIDE``.
        style: (h, w, 3) uint8, short side ``SIDE``.
    """

    name: str
    content: Pixels
    style: Pixels


def read_pairs(path: Path, content: Path, style: Path) -> Iterator[Pair]:
    """Read a list of pairs, one after the other.

    Args:
        path: JSON list of objects with ``name``, ``content`` and ``style`` (file names).
        content: Folder of the photographs.
        style: Folder of the style pictures.

    Raises:
        ModelFileError: the list cannot be read.
        ImageError: a picture cannot be read.
    """
    problem = f"{path} must be a JSON list of objects with name, content and style"
    try:
        rows = [(row["name"], row["content"], row["style"]) for row in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{problem}: {error}") from error
    names = [name for name, _, _ in rows]
    if not rows or not all(isinstance(text, str) for row in rows for text in row):
        raise ModelFileError(f"{problem}, at least one, and all three texts")
    if len(set(names)) < len(names) or any(not name or os.path.basename(name) != name for name in names):
        raise ModelFileError(f"{path}: names must differ, and be fit for file names")
    for name, photo, painting in rows:
        yield Pair(name, _read(content / photo), _read(style / painting))


class Judges:
    """The two networks that look at the pictures.

    Args:
        vgg: VGG-16 weights in torchvision's layout, safetensors.
        alexnet: AlexNet weights in torchvision's layout with ``lpips.linN.weight``, safetensors.
        threads: Processor threads; None = torch's choice.

    Raises:
        ModelFileError: weights are missing or do not fit.
    """

    def __init__(self, vgg: Path, alexnet: Path, *, threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._vgg = VggEncoder("vgg16", as_trained=True).load_torchvision(read_weights(vgg))
        self._alexnet = AlexNetJudge().load_torchvision(read_weights(alexnet))

    def figures(self, pair: Pair, painted: Pixels) -> dict[str, float]:
        """All figures of one painted picture, by name."""
        with torch.inference_mode():
            o, c, s = (_tensor(pixels) for pixels in (painted, pair.content, pair.style))
            vgg_o, vgg_c, vgg_s = self._vgg(o), self._vgg(c), self._vgg(s)
            small = [F.interpolate(picture, scale_factor=0.5, mode="area") for picture in (o, c)]
            return {
                "style_vgg": relative_statistics_loss(vgg_o, vgg_s).mean().item(),
                "style_alex": relative_statistics_loss(self._alexnet(o), self._alexnet(s)).mean().item(),
                "gram_vgg": relative_gram_loss(vgg_o, vgg_s).mean().item(),
                "content_vgg": content_loss(vgg_o[-1], vgg_c[-1]).item(),
                "lpips_alex": self._alexnet.perceptual_distance(*small).item(),
                "colour": colour_distance(painted, pair.style),
                "noise": noise_excess(painted, pair.content, pair.style),
            }


def evaluate(
    stylizers: Mapping[str, Stylizer],
    pairs: Sequence[Pair],
    judges: Judges,
    output: Path,
    *,
    strength: float = 1.0,
    step: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Paint and judge all pairs with each model.

    Args:
        stylizers: The models by the names under which they are reported.
        pairs: From ``read_pairs``.
        judges: The networks that look.
        output: Folder for ``evaluation.json``, the contact sheet ``sheet.jpg`` (a row of photograph, style and the
            models' pictures for each pair) and a folder of painted pictures for each model; made if missing.
        strength: Strength to paint with.
        step: Called after every painted picture.

    Returns:
        For each model its identity, the ``mean`` of each figure and the figures of all ``pairs``.

    Raises:
        ValueError: two models' folders have one name.
        ImageError: a picture cannot be written.
    """
    if len({Path(name).name for name in stylizers}) < len(stylizers):
        raise ValueError(f"the models' folders must have different names, got {', '.join(stylizers)}")
    documents = {}
    sheet = {pair.name: [_tile(pair.content), _tile(pair.style)] for pair in pairs}
    for name, stylizer in stylizers.items():
        folder = output / Path(name).name
        folder.mkdir(parents=True, exist_ok=True)
        rows = {}
        for pair in pairs:
            painted = stylizer.apply(pair.content, stylizer.encode_style(pair.style), strength)
            write_image(folder / f"{pair.name}.png", painted, overwrite=True)
            rows[pair.name] = judges.figures(pair, painted)
            sheet[pair.name].append(_tile(painted))
            step()
        mean = {figure: statistics.fmean(row[figure] for row in rows.values()) for figure in next(iter(rows.values()))}
        documents[name] = {"model": stylizer.card.identity, "strength": strength, "mean": mean, "pairs": rows}
    write_image(output / "sheet.jpg", np.vstack([np.hstack(row) for row in sheet.values()]), overwrite=True)
    (output / "evaluation.json.part").write_text(json.dumps(documents, indent=1) + "\n")
    os.replace(output / "evaluation.json.part", output / "evaluation.json")
    return documents


def _tile(pixels: Pixels) -> Pixels:
    """The middle square, 320 pixels wide."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(pixels[top : top + side, left : left + side], (320, 320))


def _read(path: Path) -> Pixels:
    pixels = read_image(path).pixels[:, :, :3]
    return resize(pixels, fit_short_side(pixels.shape[:2], SIDE))


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
