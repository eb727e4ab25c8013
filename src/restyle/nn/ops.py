"""Feature statistics and the four normalisations built on them: BN, IN, CIN and AdaIN.

All four compute ``scale * (x - mean) / std + shift``; they differ in where mean and std are taken (over the batch or
over one picture) and in where scale and shift come from (learned, learned per style, or read off a style picture).
Variances are biased and ``eps`` stands inside the root, as in the papers, so a 1x1 or constant map stays finite.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restyle.errors import ShapeError

EPS = 1e-5


def channel_statistics(features: Tensor, *, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every feature map: what AdaIN calls the style of a picture.

    Args:
        features: (N, C, H, W), floating, finite.
        eps: Added to the variance inside the root, in squared feature units.

    Returns:
        Mean and standard deviation, (N, C, 1, 1) each; the deviation is at least ``sqrt(eps)``.

    Raises:
        ShapeError: ``features`` is not four-dimensional.

    Source:
        Huang & Belongie 2017, arXiv 1703.06868, eq. 5 and 6.
    """
    _check_features(features)
    mean = features.mean((2, 3), keepdim=True)
    # Paper: eq. 6 divides by H*W. The common PyTorch port divides by H*W - 1, which is NaN on a 1x1 map.
    variance = (features - mean).square().mean((2, 3), keepdim=True)
    return mean, (variance + eps).sqrt()


def batch_norm(features: Tensor, scale: Tensor, shift: Tensor, *, eps: float = EPS) -> Tensor:
    """Normalise each channel over the whole batch: every picture is pulled towards one common style.

    Args:
        features: (N, C, H, W).
        scale: (C,), the paper's gamma.
        shift: (C,), the paper's beta.
        eps: Added to the variance inside the root.

    Returns:
        (N, C, H, W).

    Raises:
        ShapeError: the shapes do not fit.

    Source:
        Ioffe & Szegedy 2015; arXiv 1703.06868, eq. 1 to 3, statistics of the batch itself.
    """
    _check_features(features)
    scale, shift = _per_channel(features, scale, "scale"), _per_channel(features, shift, "shift")
    mean = features.mean((0, 2, 3), keepdim=True)
    variance = (features - mean).square().mean((0, 2, 3), keepdim=True)
    return scale * (features - mean) / (variance + eps).sqrt() + shift


def instance_norm(features: Tensor, scale: Tensor, shift: Tensor, *, eps: float = EPS) -> Tensor:
    """Normalise each channel of each picture by itself, then give all pictures one learned style.

    Args:
        features: (N, C, H, W).
        scale: (C,).
        shift: (C,).
        eps: Added to the variance inside the root.

    Returns:
        (N, C, H, W).

    Raises:
        ShapeError: the shapes do not fit.

    Source:
        Ulyanov et al. 2017, arXiv 1607.08022; arXiv 1703.06868, eq. 4 to 6.
    """
    scale, shift = _per_channel(features, scale, "scale"), _per_channel(features, shift, "shift")
    return adain(features, shift, scale, eps=eps)


class ConditionalInstanceNorm(nn.Module):
    """Instance normalisation with one learned (scale, shift) pair per style: 2*F*S parameters.

    Args:
        features: F, the number of channels.
        styles: S, the number of styles that can be chosen.
        eps: Added to the variance inside the root.

    Source:
        Dumoulin et al. 2017, arXiv 1610.07629; arXiv 1703.06868, eq. 7.
    """

    def __init__(self, features: int, styles: int, *, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(styles, features))
        self.shift = nn.Parameter(torch.zeros(styles, features))

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """Apply one style, or a weighted mix of styles, to each picture.

        Args:
            features: (N, F, H, W).
            weights: (N, S); one-hot picks a style, other rows mix styles by their scale and shift.

        Returns:
            (N, F, H, W).

        Raises:
            ShapeError: ``weights`` is not (N, S) or ``features`` has not F channels.
        """
        _check_features(features)
        check_shape(weights, "weights", (features.shape[0], self.scale.shape[0]))
        scale, shift = weights @ self.scale, weights @ self.shift
        return adain(features, shift[:, :, None, None], scale[:, :, None, None], eps=self.eps)


def adain(content: Tensor, style_mean: Tensor, style_std: Tensor, *, eps: float = EPS) -> Tensor:
    """Give content features the channel statistics of a style.

    Where things are stays; how strongly each channel speaks is replaced.

    Args:
        content: (N, C, H, W), finite.
        style_mean: (N, C, 1, 1), or (1, C, 1, 1) to share one style in the batch.
        style_std: Same shape as ``style_mean``.
        eps: Added to the content variance inside the root.

    Returns:
        (N, C, H, W), dtype and device of ``content``.

    Raises:
        ShapeError: ``content`` is not four-dimensional, or the statistics do not fit it.

    Source:
        Huang & Belongie 2017, arXiv 1703.06868, eq. 8.

    Example:
        >>> content = torch.tensor([[[[0.0, 2.0]]]])  # mean 1, deviation 1
        >>> adain(content, torch.full((1, 1, 1, 1), 10.0), torch.full((1, 1, 1, 1), 3.0)).round()
        tensor([[[[ 7., 13.]]]])
    """
    mean, std = channel_statistics(content, eps=eps)
    _check_statistics(content, style_mean, "style_mean")
    _check_statistics(content, style_std, "style_std")
    return style_std * (content - mean) / std + style_mean


def check_shape(tensor: Tensor, name: str, shape: tuple[int | str, ...]) -> None:
    """Compare a tensor's shape with what is expected; words such as ``"N"`` stand for any number.

    Raises:
        ShapeError: the shapes differ.
    """
    if not _checking():
        return
    fits = tensor.dim() == len(shape) and all(
        isinstance(wanted, str) or wanted == found for wanted, found in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ShapeError(f"{name} must be ({', '.join(map(str, shape))}), got shape {tuple(tensor.shape)}")


def _checking() -> bool:
    # While a graph is traced, shapes are symbols: comparing them would freeze them into it, so checks step aside.
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return not (tracing or torch.compiler.is_compiling())


def _check_features(features: Tensor) -> None:
    check_shape(features, "features", ("N", "C", "H", "W"))


def _check_statistics(features: Tensor, statistics: Tensor, name: str) -> None:
    count = 1 if statistics.shape[:1] == (1,) else features.shape[0]
    check_shape(statistics, name, (count, features.shape[1], 1, 1))


def _per_channel(features: Tensor, values: Tensor, name: str) -> Tensor:
    _check_features(features)
    check_shape(values, name, (features.shape[1],))
    return values.reshape(1, -1, 1, 1)
