"""How well does a model carry styles and keep contents? Figures on fixed pairs, and a report to look at.

What each figure means is said in ``restyle.learn.report.FIGURES``. They are read together: the untouched photograph
scores 0 on the content figures, the style picture itself 0 on the style figures.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restyle.errors import ModelFileError
from restyle.image import fit_short_side, read_image, resize, write_image
from restyle.learn.report import INPUTS, RATIO_FIGURES, folder_name, write_report, write_whole
from restyle.metrics import colour_distance, noise_excess, panned_frames, psnr, warp_error
from restyle.nn.losses import content_loss, feature_statistics, gram_loss, gram_matrix, statistics_loss
from restyle.nn.pretrained import AlexNetJudge, VggEncoder, read_weights
from restyle.stylizer import Style, Stylizer

SIDE = 512
"""Short side, in pixels, at which everything is judged."""

FAINT = 1e-6
"""A strength that no picture shows, but at which the network is asked; at exactly 0 it is not."""

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


@dataclass(frozen=True)
class Peer:
    """Figures of another maker of pictures on the same pairs, to be compared with.

    Attributes:
        name: What to call it.
        mean: The mean of each figure.
    """

    name: str
    mean: Mapping[str, float]


def read_peer(path: Path, pairs: Sequence[Pair]) -> Peer:
    """Read a peer's figures; of a file with more pairs, those of ``pairs`` count.

    Args:
        path: JSON object with ``pairs``: an object of figures for each pair's name.
        pairs: From ``read_pairs``.

    Raises:
        ModelFileError: the file cannot be read, or does not know all pairs.
    """
    problem = f"{path} must be a JSON object with 'pairs': for each pair's name its figures as finite numbers"
    try:
        known = json.loads(path.read_text("utf-8"))["pairs"]
        missing = [pair.name for pair in pairs if pair.name not in known]
        rows = [known[pair.name] for pair in pairs if pair.name in known]
        mean = _mean(rows) if rows else {}
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise ModelFileError(f"{problem}: {error}") from error
    if missing:
        raise ModelFileError(f"{path} has no figures for {', '.join(missing[:3])}{', ...' * (len(missing) > 3)}")
    if not all(map(math.isfinite, mean.values())):
        raise ModelFileError(problem)
    return Peer(path.stem, mean)


class Judges:
    """The two networks that look at the pictures.

    Args:
        vgg: VGG-16 weights in torchvision's layout, safetensors.
        alexnet: AlexNet weights in torchvision's layout with ``lpips.linN.weight``, safetensors.
        threads: Processor threads; None = torch's choice.

    Raises:
        ModelFileError: weights are missing or do not fit.
    """

    def __init__(self, vgg: str | Path, alexnet: str | Path, *, threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._vgg = VggEncoder("vgg16", as_trained=True).load_torchvision(read_weights(vgg))
        self._alexnet = AlexNetJudge().load_torchvision(read_weights(alexnet))

    def figures(self, pair: Pair, painted: Pixels) -> dict[str, float]:
        """What one painted picture shows of style and content, by name."""
        with torch.inference_mode():
            o, c, s = (_tensor(pixels) for pixels in (painted, pair.content, pair.style))
            vgg_o, vgg_c = self._vgg(o), self._vgg(c)
            return {
                **self._style_figures(o, s, vgg_o),
                "content_vgg": content_loss(vgg_o[-1], vgg_c[-1]).item(),
                "lpips_alex": self.lpips(painted, pair.content),
                "colour": colour_distance(painted, pair.style),
                "noise": noise_excess(painted, pair.content, pair.style),
            }

    def style_figures(self, painted: Pixels, style: Pixels) -> dict[str, float]:
        """Those of the figures that tell how near a painted picture is to a style picture, (H, W, 3) uint8 both."""
        with torch.inference_mode():
            o, s = _tensor(painted), _tensor(style)
            return {**self._style_figures(o, s, self._vgg(o)), "colour": colour_distance(painted, style)}

    def _style_figures(self, painted: Tensor, style: Tensor, features: list[Tensor]) -> dict[str, float]:
        """``features`` are VGG's of the painted picture."""
        wanted = self._vgg(style)
        return {
            "style_vgg": _style_distance(features, wanted),
            "style_alex": _style_distance(self._alexnet(painted), self._alexnet(style)),
            "gram_vgg": _gram_distance(features, wanted),
        }

    def lpips(self, one: Pixels, other: Pixels) -> float:
        """LPIPS of two pictures at half their size."""
        with torch.inference_mode():
            small = [F.interpolate(_tensor(pixels), scale_factor=0.5, mode="area") for pixels in (one, other)]
            return self._alexnet.perceptual_distance(*small).item()

    def curve(self, pair: Pair, paintings: Sequence[Pixels]) -> list[dict[str, float]]:
        """``style_vgg`` and ``content_vgg`` alone, of several paintings of one pair."""
        with torch.inference_mode():
            content, style = self._vgg(_tensor(pair.content))[-1], self._vgg(_tensor(pair.style))
            seen = (self._vgg(_tensor(painted)) for painted in paintings)
            return [
                {
                    "style_vgg": _style_distance(features, style),
                    "content_vgg": content_loss(features[-1], content).item(),
                }
                for features in seen
            ]


def evaluate(
    stylizers: Mapping[str, Stylizer],
    pairs: Sequence[Pair],
    judges: Judges,
    output: Path,
    *,
    strength: float = 1.0,
    strengths: Sequence[float] = (),
    versus: Peer | None = None,
    step: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, Any]]:
    """Paint and judge all pairs with each model.

    Args:
        stylizers: The models by the names under which they are reported.
        pairs: From ``read_pairs``.
        judges: The networks that look.
        output: Folder for ``evaluation.json``, ``report.html``, the contact sheet ``sheet.jpg`` (a row of photograph,
            style and the models' pictures for each pair), a folder of painted pictures for each model and one of
            photographs and styles; made if missing.
        strength: Strength to paint with.
        strengths: Rising strengths at which style and content are measured as well; each costs a look by VGG-16 at
            every pair.
        versus: Whose figures to divide by.
        step: Called after every pair and model.

    Returns:
        For each model its identity, ``strength``, the ``mean`` of each figure and the figures of all ``pairs``. With
        ``strengths``, the mean ``style_vgg`` and ``content_vgg`` at each, and as ``not_monotone`` the pairs in which
        from one strength to the next the first rises or the second falls. With ``versus``, the peer's ``name``,
        ``mean`` and the ``ratio`` of each figure to it (below 1 = better than the peer).

    Raises:
        ValueError: two models' folders have one name, or a name that is taken; a strength is outside 0..2.
        ImageError: a picture cannot be written.
        OSError: a folder or the report cannot be written.
    """
    folders = [folder_name(name) for name in stylizers]
    if len(set(folders)) < len(folders) or INPUTS in folders:
        raise ValueError(f"the models' folders must have different names, and not {INPUTS!r}, got {', '.join(folders)}")
    documents: dict[str, dict[str, Any]] = {}
    sheet = {pair.name: [_tile(pair.content), _tile(pair.style)] for pair in pairs}
    for folder in (INPUTS, *folders):
        (output / folder).mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        write_image(output / INPUTS / f"{pair.name}.content.jpg", pair.content, overwrite=True)
        write_image(output / INPUTS / f"{pair.name}.style.jpg", pair.style, overwrite=True)
    for name, stylizer in stylizers.items():
        rows: dict[str, dict[str, float]] = {}
        curves: dict[str, list[dict[str, float]]] = {}
        identities: dict[bytes, float] = {}
        for pair in pairs:
            style = stylizer.encode_style(pair.style)
            painted = stylizer.apply(pair.content, style, strength)
            write_image(output / folder_name(name) / f"{pair.name}.png", painted, overwrite=True)
            sheet[pair.name].append(_tile(painted))
            photo = pair.content.tobytes()  # several pairs may share a photograph
            if photo not in identities:
                own = stylizer.apply(pair.content, stylizer.encode_style(pair.content), strength)
                identities[photo] = judges.lpips(own, pair.content)
            kept = {"identity": identities[photo], **_constancy(stylizer, pair.content, style, strength)}
            rows[pair.name] = {**judges.figures(pair, painted), **kept}
            if strengths:
                paintings = [stylizer.apply(pair.content, style, one) for one in strengths]
                curves[pair.name] = judges.curve(pair, paintings)
            step()
        mean = _mean(list(rows.values()))
        documents[name] = {"model": stylizer.card.identity, "strength": strength, "mean": mean, "pairs": rows}
        if strengths:
            means = [_mean(at) for at in zip(*curves.values(), strict=True)]
            documents[name]["strengths"] = [{"strength": s, **m} for s, m in zip(strengths, means, strict=True)]
            documents[name]["not_monotone"] = [pair for pair, curve in curves.items() if not _is_monotone(curve)]
        if versus:
            ratio = {figure: mean[figure] / versus.mean[figure] for figure in RATIO_FIGURES if versus.mean.get(figure)}
            documents[name]["versus"] = {"name": versus.name, "mean": dict(versus.mean), "ratio": ratio}
    write_image(output / "sheet.jpg", np.vstack([np.hstack(row) for row in sheet.values()]), overwrite=True)
    write_whole(output / "evaluation.json", json.dumps(documents, indent=1) + "\n")
    write_report(output / "report.html", documents)
    return documents


def _constancy(stylizer: Stylizer, photo: Pixels, style: Style, strength: float) -> dict[str, float]:
    """What should stay as it is: the photograph at strength 0, and the painting while the camera moves."""
    faintest = min(psnr(stylizer.apply(photo, style, faint), photo) for faint in (0.0, FAINT))
    frames = panned_frames(photo)
    first, second = stylizer.apply_many(frames, style, strength)
    return {"psnr_0": faintest, "stability": warp_error(first, second) / warp_error(*frames)}


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {figure: fmean(row[figure] for row in rows) for figure in rows[0]}


def _is_monotone(curve: Sequence[Mapping[str, float]]) -> bool:
    return all(b["style_vgg"] <= a["style_vgg"] and b["content_vgg"] >= a["content_vgg"] for a, b in pairwise(curve))


def _tile(pixels: Pixels) -> Pixels:
    """The middle square, 320 pixels wide."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(pixels[top : top + side, left : left + side], (320, 320))


def _read(path: Path) -> Pixels:
    return to_judged_size(read_image(path).pixels[:, :, :3])


def to_judged_size(pixels: Pixels) -> Pixels:
    """A picture, (H, W, 3) uint8, with the short side ``SIDE``."""
    return resize(pixels, fit_short_side(pixels.shape[:2], SIDE))


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255


def _style_distance(painted: Sequence[Tensor], style: Sequence[Tensor]) -> float:
    """Mean over layers, each relative to the style's own size."""
    return statistics_loss([*map(feature_statistics, painted)], [*map(feature_statistics, style)]).mean().item()


def _gram_distance(painted: Sequence[Tensor], style: Sequence[Tensor]) -> float:
    return gram_loss([*map(gram_matrix, painted)], [*map(gram_matrix, style)]).mean().item()
