"""What training minimises: distances between pictures as a frozen loss network sees them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.nn.ops import channel_statistics


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


def relative_statistics_loss(painted: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
    """Distance of channel means and deviations, each layer relative to its style's own size.

    Args:
        painted: Per layer (N, C, H, W) features of the painted picture.
        style: Per layer features of the style picture; sizes may differ from ``painted``.

    Returns:
        (layers, N), each value about 1 for unrelated styles, so that no layer drowns another.

    Source:
        arXiv 1703.06868, eq. 13. Differs: squared, and divided by the style's squared statistics, layer by layer.
    """
    losses = []
    for ours, theirs in zip(painted, style, strict=True):
        mean, std = channel_statistics(ours)
        style_mean, style_std = channel_statistics(theirs)
        distance = (mean - style_mean).square().sum(1) + (std - style_std).square().sum(1)
        size = style_mean.square().sum(1) + style_std.square().sum(1)
        losses.append((distance / size).flatten())
    return torch.stack(losses)


def relative_gram_loss(painted: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
    """Distance of Gram matrices (which channels speak together), relative to the style's own.

    Args:
        painted: Per layer (N, C, H, W).
        style: Per layer (N, C, h, w).

    Returns:
        (layers, N).

    Source:
        Gatys et al. 2015, arXiv 1508.06576, eq. 4. Differs: per position and divided by the style's squared norm.
    """
    losses = []
    for ours, theirs in zip(painted, style, strict=True):
        gram, style_gram = gram_matrix(ours), gram_matrix(theirs)
        losses.append((gram - style_gram).square().sum((1, 2)) / style_gram.square().sum((1, 2)))
    return torch.stack(losses)


def gram_matrix(features: Tensor) -> Tensor:
    """Correlations of the channels: (N, C, H, W) to (N, C, C), averaged over positions."""
    flat = features.flatten(2)
    return (flat @ flat.transpose(1, 2)).to(features.dtype) / flat.shape[2]  # autocast may have multiplied in half


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


def _standardise(features: Tensor) -> Tensor:
    mean, std = channel_statistics(features)
    return (features - mean) / (std + 0.05 * std.mean(1, keepdim=True))
