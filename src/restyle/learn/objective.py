"""What a training step minimises: every loss of the articles by name, weighted, and reported layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.nn.losses import (
    colour_loss,
    content_loss,
    contrast_loss,
    feature_statistics,
    gram_loss,
    gram_matrix,
    layout_loss,
    noise_loss,
    statistics_loss,
    total_variation,
)
from restyle.nn.ops import adain, channel_statistics
from restyle.nn.pretrained import VggEncoder

RelativeTo = Literal["style", "both", "nothing"]


@dataclass(frozen=True)
class LossWeights:
    """Weight of each loss; 0 leaves it out.

    Attributes:
        content: Arrangement of relu4_1, compared with the photograph's.
        adain: relu4_1 compared with the AdaIN of photograph and style, the paper's content loss (eq. 12).
        layout: Broad light and shade that the photograph does not explain: patches in a clear sky.
        contrast: Texture where the photograph has texture, and calm areas as calm as the style's.
        statistics: Means and deviations of relu1_1, relu2_1, relu3_1 and relu4_1 (eq. 13).
        between: The same of the layers between these.
        coarse: The statistics of all these layers where pictures are seen at half their size: larger patterns.
        gram: Gram matrices of the four layers (Gatys et al.).
        colour: The colours as a cloud of points.
        identity: A photograph in its own style is itself, in steps of their own.
        photograph: At strength 0 the photograph comes back; a network that mixes pictures does so by itself.
        noise: High frequencies beyond what photograph and style have.
        total_variation: Roughness of the painted picture.
    """

    content: float = 6.0
    adain: float = 0.0
    layout: float = 0.0
    contrast: float = 0.0
    statistics: float = 12.0
    between: float = 3.0
    coarse: float = 0.0
    gram: float = 3.0
    colour: float = 150.0
    identity: float = 3.0
    photograph: float = 0.0
    noise: float = 0.0
    total_variation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse weights that are negative or not finite.

        Raises:
            ValueError: naming the loss and its weight.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if not 0 <= value < float("inf"):
                raise ValueError(f"the weight of the loss {name} must be finite and not negative, got {value}")

    def of_style(self) -> bool:
        """Whether there is anything to learn from photographs in the styles of others."""
        return any(getattr(self, field.name) for field in fields(self) if field.name != "identity")


@dataclass(frozen=True)
class Targets:
    """What the loss network sees in photographs and styles, kept while these are paired in several ways.

    Attributes:
        content: (N, C, h, w) relu4_1 of the photographs.
        style: (N, C, h, w) relu4_1 of the styles, for the AdaIN target.
        statistics: Per tapped layer (N, 2C) of the styles.
        coarse: The same of the styles at half size; empty where no loss needs them.
        grams: Per main layer (N, C, C) of the styles.
    """

    content: Tensor
    style: Tensor
    statistics: list[Tensor]
    coarse: list[Tensor]
    grams: list[Tensor]

    def paired(self, order: Sequence[int]) -> Targets:
        """The same photographs with the styles in another order."""
        chosen = list(order)
        return Targets(
            self.content,
            self.style[chosen],
            *([layer[chosen] for layer in layers] for layers in (self.statistics, self.coarse, self.grams)),
        )


class Objective:
    """The losses of a run.

    Args:
        judge: The loss network.
        weights: Weight of each loss.
        layers: Weights of relu1_1, relu2_1, relu3_1 and relu4_1 in the losses ``statistics`` and ``gram``.
        relative_to: See ``statistics_loss``.
        power: See ``statistics_loss``.
        half: Run the loss network in bfloat16.
    """

    def __init__(
        self,
        judge: VggEncoder,
        weights: LossWeights,
        *,
        layers: Sequence[float] = (1, 1, 1, 1),
        relative_to: RelativeTo = "style",
        power: float = 2.0,
        half: bool = True,
    ) -> None:
        self.judge, self.weights, self.layers = judge, weights, tuple(layers)
        self.relative_to, self.power, self.half = relative_to, power, half
        names = judge.names
        self.main = [index for index, name in enumerate(names) if name.endswith("_1")]
        self.other = [index for index, name in enumerate(names) if not name.endswith("_1")]
        self.names = names

    def see(self, pictures: Tensor) -> list[Tensor]:
        """Features after every ReLU, in float32."""
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.half):
            seen = self.judge(pictures, every=True)
        return [layer.float() for layer in seen]

    @torch.no_grad()
    def targets(self, content: Tensor, style: Tensor) -> Targets:
        """Look at photographs and styles, (N, 3, H, W) each in 0..1."""
        seen = self.see(style)
        return Targets(
            self.see(content)[-1],
            seen[-1],
            [feature_statistics(layer) for layer in seen],
            self._coarse(style) if self.weights.coarse else [],
            [gram_matrix(seen[index]) for index in self.main],
        )

    def style_losses(
        self, painted: Tensor, content: Tensor, style: Tensor, targets: Targets
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of paintings.

        Args:
            painted: (N, 3, H, W), its colours not bounded.
            content: (N, 3, H, W) in 0..1, the photographs.
            style: (N, 3, h, w) in 0..1, the styles that they should have.
            targets: Of the same pairs.

        Returns:
            The weighted losses by name, scalars that add up to what is minimised; and for reports the unweighted
            ones, those of layers as ``loss/layer``, detached.
        """
        weights, seen = self.weights, self.see(painted)
        losses: dict[str, Tensor] = {}
        report: dict[str, Tensor] = {}
        if weights.content:
            losses["content"] = content_loss(seen[-1], targets.content).mean()
        if weights.adain:
            goal = adain(targets.content, *channel_statistics(targets.style))
            losses["adain"] = (seen[-1] - goal).square().mean()
        chosen = (self.main if weights.statistics else []) + (self.other if weights.between else [])
        if chosen:
            each = self._distances(
                [feature_statistics(seen[index]) for index in chosen], [targets.statistics[index] for index in chosen]
            )
            report |= {f"statistics/{self.names[index]}": value for index, value in zip(chosen, each, strict=True)}
            if weights.statistics:
                losses["statistics"] = each[:4] @ each.new_tensor(self.layers)
            if weights.between:
                losses["between"] = each[-len(self.other) :].sum()
        if weights.coarse:
            losses["coarse"] = self._distances(self._coarse(painted), targets.coarse).sum()
        if weights.gram:
            grams = gram_loss([gram_matrix(seen[index]) for index in self.main], targets.grams).mean(1)
            report |= {f"gram/{self.names[index]}": value for index, value in zip(self.main, grams, strict=True)}
            losses["gram"] = grams @ grams.new_tensor(self.layers)
        if weights.colour:
            losses["colour"] = colour_loss(painted, style).mean()
        if weights.layout:
            losses["layout"] = layout_loss(painted, content).mean()
        if weights.contrast:
            losses["contrast"] = contrast_loss(painted, content, style).mean()
        if weights.noise:
            losses["noise"] = noise_loss(painted, content, style).mean()
        if weights.total_variation:
            losses["total_variation"] = total_variation(painted.float()).mean()
        report |= losses
        weighted = {name: getattr(weights, name) * value for name, value in losses.items()}
        return weighted, {name: value.detach() for name, value in report.items()}

    def _coarse(self, pictures: Tensor) -> list[Tensor]:
        """Statistics of all layers for pictures at half their size."""
        return [feature_statistics(layer) for layer in self.see(F.avg_pool2d(pictures, 2))]

    def _distances(self, painted: list[Tensor], style: list[Tensor]) -> Tensor:
        """(layers,) means over the batch of the statistics loss."""
        return statistics_loss(painted, style, relative_to=self.relative_to, power=self.power).mean(1)

    def photograph_losses(self, painted: Tensor, content: Tensor, targets: Targets, weight: float) -> dict[str, Tensor]:
        """Weighted losses of paintings that should be the photographs (N, 3, H, W) themselves."""
        features = content_loss(self.see(painted)[-1], targets.content).mean()
        return {"pixels": weight * 10 * F.l1_loss(painted.float(), content), "features": weight * features}
