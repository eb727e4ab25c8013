"""The contract of both networks: a style encoder (picture to vector) and a stylizer (both to a picture).

``reference.py``: the paper's network, VGG to relu4_1 with a mirrored decoder, AdaIN between them.
``fast.py``: ours, one AdaIN site at 1/8 of the size and, in every later layer, a scale and shift from the style vector.

Pictures are (N, 3, H, W) float RGB in 0..1. Every stylizer has ``sites`` (S, the channels over all AdaIN sites),
``style_size`` (D) and the forward signature of ``Stylizer``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from restyle.nn.ops import channel_statistics, check_shape


class Stylizer(nn.Module):
    """What both networks promise: the contract of the exported ``stylizer`` graph.

    Attributes:
        sites: S, the number of channels over all AdaIN sites.
        style_size: D, the length of a style vector; its first 2S numbers are the AdaIN means and deviations.
        grid: A picture moved by a multiple of this many pixels, the statistics given, gives the painting moved.
    """

    sites: int
    style_size: int
    grid: int

    def paint(
        self, content: Tensor, style: Tensor, strength: Tensor, statistics: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As ``forward``, but while training the colours may lie outside 0..1."""
        raise NotImplementedError

    def forward(
        self, content: Tensor, style: Tensor, strength: Tensor, statistics: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Stylize pictures.

        Args:
            content: (N, 3, H, W) float RGB in 0..1, any H, W >= 16.
            style: (N, D) from the style encoder of the same model.
            strength: (N, 1); 0 gives the photograph back, 1 is the style, above 1 exaggerates.
            statistics: (N, 2S): S means, then S deviations, of the content at the AdaIN sites.
            given: (N, 1); 1 = normalise with ``statistics``, 0 = with the picture's own.

        Returns:
            ``stylized`` (N, 3, H, W) in 0..1, exactly the input's size, and ``own`` (N, 2S), its own statistics.

        Raises:
            ShapeError: a tensor does not have the shape above.
        """
        check_shape(content, "content", ("N", 3, "H", "W"))
        for name, tensor, width in (
            ("style", style, self.style_size),
            ("strength", strength, 1),
            ("statistics", statistics, 2 * self.sites),
            ("given", given, 1),
        ):
            check_shape(tensor, name, (content.shape[0], width))
        painted, own = self.paint(content, style, strength, statistics, given)
        return painted.clamp(0, 1), own

    def normalise(
        self, features: Tensor, style: Tensor, strength: Tensor, statistics: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """AdaIN at one site: features (N, S, h, w) take on the mix of content's and style's statistics.

        Returns:
            Normalised features (N, S, h, w) and the features' own statistics (N, 2S).
        """
        features = features.float()  # in full precision also while training in half
        mean, std = channel_statistics(features)
        own = torch.cat([mean, std], 1).flatten(1)
        used = own + given * (statistics - own)
        # Paper: section 7.2 mixes features; both share one normalised map, so mixing its statistics is the same.
        target = used + strength * (style[:, : 2 * self.sites] - used)
        used_mean, used_std = used[:, :, None, None].chunk(2, 1)
        target_mean, target_std = target[:, :, None, None].chunk(2, 1)
        # A strength above 1 may ask for less than no deviation.
        return (features - used_mean) / used_std * target_std.relu() + target_mean, own


class Model(nn.Module):
    """A network whole, as it is trained: style encoder and stylizer.

    Args:
        stylizer: Paints.
        style_encoder: Reads a style picture into the stylizer's vector.
    """

    def __init__(self, stylizer: Stylizer, style_encoder: nn.Module) -> None:
        super().__init__()
        self.stylizer, self.style_encoder = stylizer, style_encoder

    def forward(self, content: Tensor, style: Tensor, strength: Tensor) -> Tensor:
        """Content and style (N, 3, H, W) in 0..1, strength (N, 1): the painted picture, its colours not bounded."""
        vector = self.style_encoder(style)
        unused = content.new_zeros(len(content), 2 * self.stylizer.sites)
        return self.stylizer.paint(content, vector, strength, unused, content.new_zeros(len(content), 1))[0]
