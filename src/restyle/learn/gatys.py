"""Painting by optimisation: the pixels themselves are trained until a loss network sees content and style in them.

Slow, and the best that is known; the networks of the other rooms are judged by how near they come.

Source:
    Gatys, Ecker, Bethge 2015, A Neural Algorithm of Artistic Style, arXiv 1508.06576.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from restyle.cache import cache_folder
from restyle.controls.colors import keep_colors, parse_keep_colors
from restyle.controls.masks import read_mask
from restyle.image import Pixels, fit_short_side, resize
from restyle.nn.losses import total_variation
from restyle.nn.pretrained import VGG_BLOCKS, VggEncoder, fetch_weights, read_weights, relu_names
from restyle.nn.style_distances import STYLE_DISTANCES

STARTS = ("content", "fast", "noise", "black", "mean")
OPTIMISERS = ("lbfgs", "adam")
VARIANTS = ("vgg16", "vgg19", "vgg19_bn")

PLATEAU = 20
"""Steps over which the loss must still fall by the tolerance."""

EVALUATIONS = 25
"""Looks at the picture that one step of L-BFGS may take to find how far to go; most take one."""


@dataclass(frozen=True)
class GatysSettings:
    """How a picture is optimised.

    Attributes:
        size: Short side in pixels at which the picture is made; None = the photograph's own.
        steps: Steps of the optimiser at each scale, at most.
        scales: Sizes from coarse to fine, each twice the one before; strokes found at a coarse one are refined.
        start: The first picture: the photograph (``content``), its painting by the bundled fast model (``fast``),
            white ``noise``, ``black``, or the photograph's ``mean`` colour.
        optimiser: ``lbfgs`` or ``adam``.
        distance: One of ``restyle.nn.style_distances.STYLE_DISTANCES``.
        style_layers: ReLUs whose features make the style.
        content_layer: ReLU whose features make the content.
        style_weight: Weight of the style beside the content, the paper's beta / alpha.
        smoothness: Weight of the total variation.
        average_pooling: Pool by the average instead of the maximum.
        keep_colors: See ``restyle.controls.colors``.
        tolerance: Stop a scale when the loss fell by less than this share in ``PLATEAU`` steps; 0 = never.
        variant: The loss network: ``vgg16``, ``vgg19`` or ``vgg19_bn``.
        seed: Of the noise.
        threads: Processor threads; 0 = torch's choice.
        half: Compute features in bfloat16.
    """

    size: int | None = 512
    steps: int = 200
    scales: int = 2
    start: str = "content"
    optimiser: str = "lbfgs"
    distance: str = "gram"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content_layer: str = "relu4_2"
    style_weight: float = 20.0
    smoothness: float = 0.0
    average_pooling: bool = False
    keep_colors: str | None = None
    tolerance: float = 0.002
    variant: str = "vgg19"
    seed: int = 0
    threads: int = 0
    half: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: naming the setting, its value and what is allowed.
        """
        words = {"variant": VARIANTS, "start": STARTS, "optimiser": OPTIMISERS, "distance": tuple(STYLE_DISTANCES)}
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        least = {"threads": 0, "size": 64, "steps": 1, "scales": 1, "style_weight": 0, "smoothness": 0, "tolerance": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not value <= given < float("inf"):
                raise ValueError(f"{name} must be finite and at least {value}, got {given}")
        unknown = {*self.style_layers, self.content_layer} - {*self.layers()}
        if unknown or not self.style_layers:
            raise ValueError(
                f"style_layers and content_layer must be layers of {self.variant} ({', '.join(self.layers())}), "
                f"got {', '.join(sorted(unknown)) or 'none'}"
            )
        parse_keep_colors(self.keep_colors)

    def layers(self) -> list[str]:
        """Names of all the variant's layers."""
        return relu_names(self.variant, f"relu5_{VGG_BLOCKS[self.variant.split('_')[0]][4]}")


@dataclass(frozen=True, eq=False)
class StyleTarget:
    """A style picture, (h, w, 3) uint8, with its weight, and where it goes: a mask of the photograph or None."""

    painting: Pixels
    weight: float = 1.0
    mask: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the optimiser.

    Attributes:
        number: Steps done, over all scales.
        size: (height, width) of the picture at this scale.
        loss: What is minimised.
        content: The content's share of it.
        style: The style's.
        picture: (3, height, width) float; ``pixels`` makes it a picture.
    """

    number: int
    size: tuple[int, int]
    loss: float
    content: float
    style: float
    picture: Tensor

    def pixels(self) -> Pixels:
        """(height, width, 3) uint8."""
        return _to_pixels(self.picture)


def optimize(
    photo: Pixels, styles: Sequence[StyleTarget], settings: GatysSettings, judge: VggEncoder, first: Pixels
) -> Iterator[Step]:
    """Optimise a picture step by step; whoever consumes the steps may stop at any.

    Args:
        photo: (H, W, 3) uint8.
        styles: At least one.
        settings: See ``GatysSettings``.
        judge: From ``build_judge`` for these settings.
        first: From ``first_picture``: (H, W, 3) uint8, at any size.

    Yields:
        Each step; the last one's picture is the result.

    Raises:
        ValueError: no style, weights that are negative, not finite or all zero, or a loss beyond all numbers.
    """
    total = sum(style.weight for style in styles)
    if not 0 < total < math.inf or any(style.weight < 0 for style in styles):
        raise ValueError(
            f"style weights must be finite, not negative and not all zero, got {[s.weight for s in styles]}"
        )
    full = photo.shape[:2] if settings.size is None else fit_short_side(photo.shape[:2], settings.size)
    picture = _to_tensor(first)
    count = itertools.count(1)
    for level in reversed(range(settings.scales)):
        size = (max(32, full[0] >> level), max(32, full[1] >> level))
        picture = F.interpolate(picture, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        loss = PictureLoss(resize(photo, size), styles, settings, judge)
        history: list[float] = []
        for values in _steps(picture, loss, settings):
            if not math.isfinite(values["loss"]):
                raise ValueError(
                    f"the loss is no longer a finite number; style_weight {settings.style_weight} or smoothness "
                    f"{settings.smoothness} is too large for this picture"
                )
            history.append(values["loss"])
            yield Step(next(count), size, picture=picture.detach()[0], **values)
            if _is_flat(history, settings.tolerance):
                break
        picture = picture.detach()


def build_judge(settings: GatysSettings, weights: Path | None = None, *, progress: bool = False) -> VggEncoder:
    """The loss network that the settings need, as deep as they need it.

    Args:
        settings: See ``GatysSettings``.
        weights: VGG weights of the settings' variant; None = the official file, downloaded once.
        progress: Draw a progress bar of the download.

    Raises:
        ModelFileError: the weights cannot be used, or are of another network.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    names = settings.layers()
    until = max((*settings.style_layers, settings.content_layer), key=names.index)
    path = weights or fetch_weights(settings.variant, cache_folder() / "weights", progress=progress)
    judge = VggEncoder(settings.variant, as_trained=True, until=until, average=settings.average_pooling)
    return judge.load_torchvision(read_weights(path))


def first_picture(photo: Pixels, painted: Pixels | None, settings: GatysSettings) -> Pixels:
    """The picture that the optimisation begins with.

    Args:
        photo: (H, W, 3) uint8.
        painted: Its painting by a fast model, which ``start`` ``fast`` needs.
        settings: See ``GatysSettings.start``.

    Raises:
        ValueError: ``start`` is ``fast`` and there is no painting.
    """
    if settings.start == "content":
        return photo
    if settings.start == "fast":
        if painted is None:
            raise ValueError("start 'fast' needs the painting of a fast model")
        return painted
    if settings.start == "noise":
        return np.random.default_rng(settings.seed).integers(0, 256, photo.shape, dtype=np.uint8)
    return np.full_like(photo, 0 if settings.start == "black" else np.rint(photo.mean((0, 1))).astype(np.uint8))


def finish(picture: Pixels, photo: Pixels, settings: GatysSettings) -> Pixels:
    """The result in the colours that the settings ask for; both (H, W, 3) uint8, of any two sizes."""
    return keep_colors(picture, resize(photo, picture.shape[:2]), settings.keep_colors)


class PictureLoss:
    """What is minimised, for pictures of one size.

    Args:
        photo: (H, W, 3) uint8.
        styles: At least one.
        settings: See ``GatysSettings``.
        judge: From ``build_judge`` for these settings.

    Pictures that were made otherwise are judged by it like optimised ones.
    """

    def __init__(
        self, photo: Pixels, styles: Sequence[StyleTarget], settings: GatysSettings, judge: VggEncoder
    ) -> None:
        self.settings, self.judge = settings, judge
        self.way = STYLE_DISTANCES[settings.distance]()
        self.size = photo.shape[:2]
        with torch.no_grad():
            seen = self._see(_to_tensor(photo))
            self.content = seen[settings.content_layer]
            self.content_size = self.content.square().mean() + 1e-8
            self.parts = [part for style in styles for part in self._parts(style, styles, seen)]

    def _parts(
        self, style: StyleTarget, styles: Sequence[StyleTarget], seen: dict[str, Tensor]
    ) -> list[tuple[str, Any, Tensor | None, float]]:
        """For each layer: its name, the style described, where it goes, and its weight."""
        settings = self.settings
        total = sum(each.weight for each in styles) * len(settings.style_layers)
        painting = resize(style.painting, fit_short_side(style.painting.shape[:2], min(self.size)))
        theirs = self._see(_to_tensor(painting))
        mask = None if style.mask is None else torch.from_numpy(read_mask(style.mask, self.size))[None, None].float()
        parts = []
        for name in settings.style_layers:
            where = None
            if mask is not None:
                where = F.interpolate(mask, size=seen[name].shape[2:], mode="area")[0, 0] > 127
                if where.sum() < 9:  # too small a region to be seen at this layer
                    continue
            described = self.way.describe(theirs[name])
            # Differs: the paper adds up distances as they are. Divided by the photograph's own, each begins at 1, so
            # that layers, kinds of distance and the weight mean the same for every pair of pictures.
            beginning = self.way.distance(seen[name], described, where).item()
            # A photograph in its own style, or in one almost its own, would begin at 0.
            empty = self.way.distance(torch.zeros_like(seen[name]), described, where).item()
            beginning = max(beginning, 0.01 * empty) + 1e-8
            parts.append((name, described, where, style.weight / total / beginning))
        return parts

    def __call__(self, picture: Tensor) -> tuple[Tensor, dict[str, float]]:
        """(1, 3, H, W) in 0..1 to the loss with a slope, and ``loss``, ``content`` and ``style`` as numbers."""
        seen = self._see(picture)
        content = (seen[self.settings.content_layer] - self.content).square().mean() / self.content_size
        style = picture.new_zeros(())
        for name, described, where, weight in self.parts:
            style = style + weight * self.way.distance(seen[name], described, where)
        style = self.settings.style_weight * style
        outside = 10 * (F.relu(picture - 1) + F.relu(-picture)).square().mean()  # colours that no screen shows
        total = content + style + outside + self.settings.smoothness * total_variation(picture).mean()
        return total, {"loss": total.item(), "content": content.item(), "style": style.item()}

    def _see(self, picture: Tensor) -> dict[str, Tensor]:
        with torch.autocast(picture.device.type, torch.bfloat16, enabled=self.settings.half):
            seen = self.judge(picture, every=True)
        wanted = {*self.settings.style_layers, self.settings.content_layer}
        return {name: tap.float() for name, tap in zip(self.judge.names, seen, strict=True) if name in wanted}


def _steps(picture: Tensor, loss: PictureLoss, settings: GatysSettings) -> Iterator[dict[str, float]]:
    """Change a picture step by step; the losses after each step of L-BFGS, before each step of Adam."""
    picture.requires_grad_()
    optimiser: torch.optim.Optimizer
    if settings.optimiser == "lbfgs":
        # Left to itself, torch grants a step of one iteration a single evaluation: where that one is no better, the
        # line search ends at once, and every later step fails in the same place.
        optimiser = torch.optim.LBFGS(
            [picture], max_iter=1, max_eval=EVALUATIONS, history_size=20, line_search_fn="strong_wolfe"
        )
    else:
        optimiser = torch.optim.Adam([picture], lr=0.02)
    seen: list[dict[str, float]] = []
    latest: tuple[Tensor, dict[str, float]] | None = None

    def closure() -> float:
        nonlocal latest
        # A step of L-BFGS begins by asking once more for what was found where the step before it ended.
        if latest is None or not torch.equal(latest[0], picture):
            optimiser.zero_grad()
            total, values = loss(picture)
            total.backward()  # type: ignore[no-untyped-call]
            latest = picture.detach().clone(), values
        seen.append(latest[1])
        return latest[1]["loss"]

    for _ in range(settings.steps):
        seen.clear()
        optimiser.step(closure)  # type: ignore[no-untyped-call]
        yield min(seen, key=lambda values: values["loss"])


def _is_flat(history: Sequence[float], tolerance: float) -> bool:
    if not tolerance or len(history) <= PLATEAU:
        return False
    before, now = history[-PLATEAU - 1], history[-1]
    return before - now < tolerance * before


def _to_tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def _to_pixels(picture: Tensor) -> Pixels:
    pixels: Pixels = (picture.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
    return np.ascontiguousarray(pixels)
