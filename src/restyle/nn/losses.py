"""What training minimises: distances between pictures as a frozen loss network sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.nn.ops import channel_statistics

FLAT = 8 / 255
"""Local contrast (deviation of colours, 0..1) at which half of the style's texture is allowed."""


def content_loss(painted: Tensor, content: Tensor) -> Tensor:
    """How far the arrangement of one layer's features moved, whatever the style.

    Args:
        painted: (N, C, H, W) features of the painted picture, usually relu4_1.
        content: Same, of the photograph.

    Returns:
        (N,) mean squared difference of the instance-normalised features; about 2 means unrelated.
    """
    # Differs: the paper compares with the AdaIN target. On a VGG whose activations are not normalised, dead channels
    # make that target explode; normalising both sides, with a share of the mean deviation added, needs no such weights.
    return (_standardise(painted) - _standardise(content)).square().mean((1, 2, 3))


def feature_statistics(features: Tensor) -> Tensor:
    """What the statistics losses compare: (N, C, H, W) to the C means, then the C deviations, (N, 2C)."""
    return torch.cat(channel_statistics(features), 1).flatten(1)


def statistics_loss(
    painted: Sequence[Tensor],
    style: Sequence[Tensor],
    *,
    relative_to: Literal["style", "both", "nothing"] = "style",
    power: float = 2.0,
) -> Tensor:
    """Distance of channel means plus distance of channel deviations, layer by layer.

    Args:
        painted: Per layer (N, 2C) from ``feature_statistics`` of the painted picture's features.
        style: The same of the style picture.
        relative_to: What a layer's squared distances are divided by. ``style``: the size of the style's own statistics,
            so that each value is about 1 for unrelated pictures and no layer drowns another. ``both``: the sum of the
            two sizes, so that hard styles weigh no more than easy ones. ``nothing``: as in the paper.
        power: 2 squares the distances; 1 leaves them Euclidean; smaller values dampen large layers more.

    Returns:
        (layers, N).

    Source:
        arXiv 1703.06868, eq. 13: ``nothing`` with power 1. ``both``: after Cheng et al. 2021, arXiv 2104.10064.
    """
    losses = []
    for ours, theirs in zip(painted, style, strict=True):
        distances = (ours - theirs).square().reshape(len(ours), 2, -1).sum(2)  # (N, 2): of the means, of the deviations
        if relative_to != "nothing":
            size = theirs.square().sum(1, keepdim=True)
            distances = distances / (size + ours.square().sum(1, keepdim=True) if relative_to == "both" else size)
        losses.append((distances if power == 2 else (distances + 1e-12) ** (power / 2)).sum(1))
    return torch.stack(losses)


def gram_loss(painted: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
    """Distance of Gram matrices (which channels speak together), relative to the style's own.

    Args:
        painted: Per layer (N, C, C) from ``gram_matrix``.
        style: The same of the style picture.

    Returns:
        (layers, N).

    Source:
        Gatys et al. 2015, arXiv 1508.06576, eq. 4. Differs: per position and divided by the style's squared norm.
    """
    losses = []
    for ours, theirs in zip(painted, style, strict=True):
        losses.append((ours - theirs).square().sum((1, 2)) / theirs.square().sum((1, 2)))
    return torch.stack(losses)


def gram_matrix(features: Tensor) -> Tensor:
    """Correlations of the channels: (N, C, H, W) to (N, C, C), averaged over positions."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def colour_loss(painted: Tensor, style: Tensor, *, directions: int = 12, samples: int = 4096) -> Tensor:
    """Distance of the two pictures' colours as clouds of points: sliced Wasserstein.

    Both clouds are projected on random directions; along each, the sorted values are compared.

    Args:
        painted: (N, 3, H, W).
        style: (N, 3, h, w).
        directions: Random directions, drawn anew for every call.
        samples: Pixels drawn from each picture.

    Returns:
        (N,) mean absolute distance of the projections, in units of the 0..1 range.

    Source:
        Rabin et al. 2012, Wasserstein barycenter and its application to texture mixing.
    """
    axes = F.normalize(torch.randn(directions, 3, device=painted.device), dim=1)
    clouds = []
    for picture in (painted, style):
        pixels = picture.float().flatten(2)
        chosen = pixels[:, :, torch.randint(pixels.shape[2], (samples,), device=pixels.device)]
        clouds.append((axes @ chosen).sort(2).values)
    return (clouds[0] - clouds[1]).abs().mean((1, 2))


def total_variation(painted: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels, across plus down: (N, 3, H, W) to (N,)."""
    across, down = (painted.diff(dim=axis).abs().mean((1, 2, 3)) for axis in (3, 2))
    return across + down


def layout_loss(painted: Tensor, content: Tensor, *, cell: int = 16) -> Tensor:
    """How much of a painting's broad light and shade has nothing to do with the photograph's.

    Both are averaged over cells. What the best change of colours for the whole picture (an affine map) makes of the
    photograph's cells is explained; the rest are patches that a painter would not put into a clear sky.

    Args:
        painted: (N, 3, H, W).
        content: (N, 3, H, W).
        cell: Side of a cell in pixels: strokes below this size cost nothing.

    Returns:
        (N,) the unexplained share of the painting's variance, 0..1.
    """
    ours, theirs = (F.avg_pool2d(picture.float(), cell).flatten(2) for picture in (painted, content))  # (N, 3, cells)
    known = torch.cat([theirs, torch.ones_like(theirs[:, :1])], 1)
    square = known @ known.transpose(1, 2) / known.shape[2] + 1e-4 * torch.eye(4, device=known.device)
    explained = torch.linalg.solve(square, known @ ours.transpose(1, 2) / known.shape[2]).transpose(1, 2) @ known
    variance = (ours - ours.mean(2, keepdim=True)).square().mean((1, 2))
    share: Tensor = (ours - explained).square().mean((1, 2)) / (variance + 1e-3)
    return share


def contrast_loss(painted: Tensor, content: Tensor, style: Tensor, *, cells: Sequence[int] = (12, 32)) -> Tensor:
    """Texture that lies where the photograph has none: strokes in a clear sky, a pattern on a wall.

    The local contrasts of the style are dealt out to the photograph's cells in the order of theirs: the cell with the
    least contrast may have the style's least. Cells of the photograph that look alike get the mean of their shares, and
    flat ones next to nothing, since what a network without memory paints there can only be a pattern that repeats.

    Args:
        painted: (N, 3, H, W).
        content: (N, 3, H, W) in 0..1.
        style: (N, 3, h, w).
        cells: Sides of the square cells in pixels; each gives a loss, and these are averaged.

    Returns:
        (N,) mean contrast beyond what is allowed, as a share of the style's mean contrast.
    """
    losses = []
    for side in cells:
        ours, known, wanted = (_local_contrast(picture, side) for picture in (painted, content, style))
        known, order = known.sort(1)
        rank = torch.linspace(0, wanted.shape[1] - 1, known.shape[1], device=known.device).round().long()
        wanted = wanted.sort(1).values[:, rank]
        # A third more contrast still looks alike, as does all that is below 2 of 255.
        scale = (known + 2 / 255).log() / 0.3
        alike = torch.exp(-0.5 * (scale[:, :, None] - scale[:, None]).square())
        shares = (alike @ wanted[:, :, None] / alike.sum(2, keepdim=True))[:, :, 0]
        allowed = shares * known**2 / (known**2 + FLAT**2)
        losses.append(F.relu(ours.gather(1, order) - allowed).mean(1) / (wanted.mean(1) + 1 / 255))
    return torch.stack(losses).mean(0)


def noise_loss(painted: Tensor, content: Tensor, style: Tensor) -> Tensor:
    """High-frequency energy beyond what content and style have: ``restyle.metrics.noise_excess``, with a slope.

    Args:
        painted: (N, 3, H, W).
        content: (N, 3, H, W).
        style: (N, 3, h, w).

    Returns:
        (N,); 0 = no more than the noisier of the two, 0.5 = half as much again.
    """
    theirs = torch.maximum(_high_frequency(content), _high_frequency(style))
    return F.relu(_high_frequency(painted) / theirs - 1)


def _high_frequency(pictures: Tensor) -> Tensor:
    grey = pictures.float().mean(1)
    for axis in (1, 2):
        grey = grey.diff(n=2, dim=axis) / 4
    return (grey.square().mean((1, 2)) + 1e-8).sqrt()


def _local_contrast(pictures: Tensor, side: int) -> Tensor:
    """(N, cells): the deviation of the colours in overlapping square cells."""
    pictures = pictures.float()
    mean, square = (F.avg_pool2d(power, side, side // 2) for power in (pictures, pictures.square()))
    variance = (square - mean.square()).mean(1).flatten(1)
    return (variance.clamp_min(0) + 1e-6).sqrt()


def _standardise(features: Tensor) -> Tensor:
    mean, std = channel_statistics(features)
    return (features - mean) / (std + 0.05 * std.mean(1, keepdim=True))
