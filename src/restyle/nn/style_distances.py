"""Six ways to say how far one layer's features are from a style's, behind one small interface.

A distance first describes the style's features, once; then it compares any features with that description. Features are
(1, C, H, W); of a region only the positions where ``where`` (H, W) is true take part.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

_POSITIONS = 1024
"""Positions that are compared with each other at most in ``Mmd``; more are thinned out evenly."""

_PATCHES = 4096
"""Patches of either picture at most in ``Patches``; more are thinned out evenly."""


class StyleDistance(Protocol):
    """One way to compare styles."""

    def describe(self, features: Tensor, where: Tensor | None = None) -> Any:
        """What there is to know about a style's features."""
        ...

    def distance(self, features: Tensor, described: Any, where: Tensor | None = None) -> Tensor:
        """How far other features are from it: a scalar with a slope, 0 for the style itself."""
        ...


class Gram:
    """Gram matrices, with the normalisation of the paper.

    Source:
        Gatys et al. 2015, arXiv 1508.06576, eq. 4: the sum over (G - A)^2 / (4 N^2 M^2). Here each Gram matrix is
        divided by its own number of positions M first: the same for pictures of one size, and sensible for others.
    """

    def describe(self, features: Tensor, where: Tensor | None = None) -> Tensor:
        """(C, C) correlations of the channels."""
        points = cloud(features, where)
        return points @ points.T / points.shape[1]

    def distance(self, features: Tensor, described: Tensor, where: Tensor | None = None) -> Tensor:
        """See ``StyleDistance``."""
        ours = self.describe(features, where)
        return (ours - described).square().sum() / (4 * len(ours) ** 2)


class Statistics:
    """Means and deviations of the channels.

    Source:
        arXiv 1703.06868, eq. 13, squared and divided by the number of channels.
    """

    def describe(self, features: Tensor, where: Tensor | None = None) -> Tensor:
        """(2, C) means and deviations."""
        points = cloud(features, where)
        mean = points.mean(1)
        return torch.stack([mean, ((points - mean[:, None]).square().mean(1) + 1e-8).sqrt()])

    def distance(self, features: Tensor, described: Tensor, where: Tensor | None = None) -> Tensor:
        """See ``StyleDistance``."""
        difference = self.describe(features, where) - described
        return difference.square().sum(0).mean()


class Wasserstein:
    """Squared Wasserstein-2 distance between the Gaussians that fit the two clouds of features, per channel.

    Source:
        Dowson & Landau 1982: |m1 - m2|^2 + tr(S1 + S2 - 2 (S2^1/2 S1 S2^1/2)^1/2).
    """

    EPS = 1e-5  # added to the variances: where there are fewer positions than channels, some directions have none

    def describe(self, features: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (C,), covariance (C, C) and its root."""
        mean, covariance = self._fit(features, where)
        values, vectors = torch.linalg.eigh(covariance)
        return mean, covariance, (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def distance(
        self, features: Tensor, described: tuple[Tensor, Tensor, Tensor], where: Tensor | None = None
    ) -> Tensor:
        """See ``StyleDistance``."""
        mean, covariance = self._fit(features, where)
        their_mean, their_covariance, root = described
        both: Tensor = torch.linalg.eigvalsh(root @ covariance @ root).clamp(min=1e-12).sqrt().sum()
        spread = covariance.trace() + their_covariance.trace() - 2 * both
        total: Tensor = (mean - their_mean).square().sum() + spread
        return total / len(mean)

    def _fit(self, features: Tensor, where: Tensor | None) -> tuple[Tensor, Tensor]:
        points = cloud(features, where)
        mean = points.mean(1)
        centred = points - mean[:, None]
        eye = torch.eye(len(mean), dtype=points.dtype, device=points.device)
        return mean, centred @ centred.T / points.shape[1] + self.EPS * eye


class Mmd:
    """Squared maximum mean discrepancy with a Gaussian kernel as wide as the style's features lie apart.

    Source:
        Li et al. 2017, Demystifying Neural Style Transfer, arXiv 1701.01036, eq. 8, biased estimate.
    """

    def describe(self, features: Tensor, where: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Points (K, C), the kernel's width, and the mean of the kernel among them."""
        points = self._points(features, where)
        squared = torch.cdist(points, points).square()
        width = squared.mean() + 1e-8
        return points, width, torch.exp(-squared / width).mean()

    def distance(
        self, features: Tensor, described: tuple[Tensor, Tensor, Tensor], where: Tensor | None = None
    ) -> Tensor:
        """See ``StyleDistance``."""
        theirs, width, among = described
        ours = self._points(features, where)
        return self._mean(ours, ours, width) + among - 2 * self._mean(ours, theirs, width)

    @staticmethod
    def _mean(one: Tensor, other: Tensor, width: Tensor) -> Tensor:
        # Not cdist: its slope is infinite between a point and itself.
        squared = one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T
        return torch.exp(-squared.clamp(min=0) / width).mean()

    @staticmethod
    def _points(features: Tensor, where: Tensor | None) -> Tensor:
        points = cloud(features, where).T
        return points[:: -(-len(points) // _POSITIONS)]


class Histogram:
    """Distributions of the channels, each by itself: mean squared difference of values of the same rank.

    Source:
        After Risser et al. 2017, arXiv 1701.08893, section 4.2, which matches histograms with bins.
    """

    def describe(self, features: Tensor, where: Tensor | None = None) -> Tensor:
        """(C, K) the values of each channel in order."""
        return cloud(features, where).sort(1).values

    def distance(self, features: Tensor, described: Tensor, where: Tensor | None = None) -> Tensor:
        """See ``StyleDistance``."""
        ours = self.describe(features, where)
        if ours.shape[1] != described.shape[1]:  # as many values at the same ranks
            described = F.interpolate(described[None], size=ours.shape[1], mode="linear", align_corners=True)[0]
        return (ours - described).square().mean()


class Patches:
    """Each patch of 3x3 positions against the style's patch that is most like it: a Markov random field.

    Source:
        Li & Wand 2016, arXiv 1601.04589, eq. 2 and 3.
    """

    def describe(self, features: Tensor, where: Tensor | None = None) -> Tensor:
        """(K, 9C) patches."""
        return self._patches(features, where)

    def distance(self, features: Tensor, described: Tensor, where: Tensor | None = None) -> Tensor:
        """See ``StyleDistance``."""
        ours = self._patches(features, where)
        directions = F.normalize(described, dim=1)
        with torch.no_grad():  # which patch is nearest has no slope
            nearest = torch.cat([(part @ directions.T).argmax(1) for part in torch.split(ours, _POSITIONS)])
        return (ours - described[nearest]).square().mean()

    @staticmethod
    def _patches(features: Tensor, where: Tensor | None) -> Tensor:
        if min(features.shape[2:]) < 3:
            features = F.pad(features, (1, 1, 1, 1), mode="replicate")
            where = None
        patches = F.unfold(features, 3)[0].T
        if where is not None and where[1:-1, 1:-1].any():
            patches = patches[where[1:-1, 1:-1].reshape(-1)]
        return patches[:: -(-len(patches) // _PATCHES)]


STYLE_DISTANCES: dict[str, type[StyleDistance]] = {
    "gram": Gram,
    "statistics": Statistics,
    "wasserstein": Wasserstein,
    "mmd": Mmd,
    "histogram": Histogram,
    "patches": Patches,
}


def cloud(features: Tensor, where: Tensor | None = None) -> Tensor:
    """Features (1, C, H, W) as points: (C, positions); all, or those where ``where`` (H, W) is true."""
    flat = features[0].flatten(1)
    return flat if where is None else flat[:, where.reshape(-1)]
