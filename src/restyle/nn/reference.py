"""The paper's network: VGG to relu4_1, AdaIN, and a decoder that mirrors the encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from restyle.nn.networks import Model, Stylizer
from restyle.nn.ops import channel_statistics
from restyle.nn.pretrained import VGG_WIDTHS, VggEncoder, load_decoder, published_variant, read_weights, relu_names


class MirroredDecoder(nn.Module):
    """The encoder run backwards: relu4_1 features to a picture, nearest upsampling where the encoder pooled.

    Args:
        variant: The encoder's variant, whose table is mirrored.

    Source:
        arXiv 1703.06868, section 6.1: no normalisation in the decoder, reflection padding, nearest upsampling.
    """

    def __init__(self, variant: str = "vgg19") -> None:
        super().__init__()
        names = relu_names(variant)[::-1]
        # A convolution's output is what the one before it (in the encoder) had as output; the last one makes RGB.
        outputs = [*(VGG_WIDTHS[int(name[4]) - 1] for name in names), 3][1:]
        channels, layers = 512, list[nn.Module]()
        for name, width in zip(names, outputs, strict=True):
            convolution = nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect")
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers.append(convolution)
            if width != 3:
                layers.append(nn.ReLU(inplace=False))
            if name.endswith("_1") and width != 3:  # where the encoder halves the size
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Paint relu4_1 features: (N, 512, h, w) to (N, 3, 8h, 8w), not clamped."""
        result: Tensor = self.layers(features)
        return result


class ReferenceStylizer(Stylizer):
    """The paper's network with the AdaIN between encoder and mirrored decoder.

    Args:
        variant: Encoder, see ``VggEncoder``.

    Source:
        arXiv 1703.06868, section 6.
    """

    def __init__(self, variant: str = "vgg19") -> None:
        super().__init__()
        self.encoder = VggEncoder(variant)
        self.decoder = MirroredDecoder(variant)
        self.sites = 512
        self.style_size = 2 * self.sites
        self.grid = 8

    @torch.no_grad()
    def mirror_encoder(self, photographs: Tensor) -> None:
        """Give the decoder the encoder's weights, each convolution turned round, to begin training with.

        Every convolution is scaled so that, on these photographs, its channels have mean 0 and deviation 1, and the
        colours mean 0.5 and deviation 0.1.

        Args:
            photographs: (N, 3, H, W) in 0..1.

        Source:
            Scaling: Mishkin & Matas 2016, All you need is a good init, arXiv 1511.06422. Differs: by channel, with a
            mean. From random weights the decoder learns the style before it can draw, and stays muddy (our LOG).
        """
        forth, back = (
            [layer for layer in part.layers if isinstance(layer, nn.Conv2d)] for part in (self.encoder, self.decoder)
        )
        mirrored = dict(zip(back, reversed(forth), strict=True))
        features = self.encoder(photographs)[-1]
        for layer in self.decoder.layers:
            if isinstance(layer, nn.Conv2d):
                wanted_mean, wanted_std = (0.5, 0.1) if layer is back[-1] else (0.0, 1.0)
                layer.weight.copy_(mirrored[layer].weight.transpose(0, 1).flip(2, 3))
                layer.bias.zero_()  # type: ignore[union-attr]
                std, mean = torch.std_mean(layer(features), (0, 2, 3))
                gain = wanted_std / std.clamp_min(1e-6)
                layer.weight.mul_(gain[:, None, None, None])
                layer.bias.copy_(wanted_mean - gain * mean)  # type: ignore[union-attr]
            features = layer(features)

    def paint(
        self, content: Tensor, style: Tensor, strength: Tensor, statistics: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See ``Stylizer.paint``."""
        features = self.encoder(content)[-1]
        normalised, own = self.normalise(features, style, strength, statistics, given)
        return self.decoder(normalised)[:, :, : content.shape[2], : content.shape[3]], own


class ReferenceStyleEncoder(nn.Module):
    """Style vector of the reference network: the means and deviations of relu4_1, D = 1024."""

    def __init__(self, encoder: VggEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, h, w) in 0..1 to (N, 1024)."""
        return torch.cat(channel_statistics(self.encoder(picture)[-1]), 1).flatten(1)


def reference_model(variant: str = "vgg16") -> Model:
    """The paper's network with fresh weights; its encoder still has to be given a VGG's.

    Args:
        variant: Encoder, see ``VggEncoder``.
    """
    stylizer = ReferenceStylizer(variant)
    return Model(stylizer, ReferenceStyleEncoder(stylizer.encoder))


def load_reference(encoder: Path, decoder: Path) -> Model:
    """The paper's network with weights as ports of it publish them: ``vgg_normalised.pth`` and ``decoder.pth``.

    Args:
        encoder: State dict of the encoder, see ``VggEncoder.load_published``.
        decoder: State dict of the decoder.

    Raises:
        ModelFileError: a file cannot be read or has another layout.
    """
    weights = read_weights(encoder)
    stylizer = ReferenceStylizer(published_variant(weights))
    stylizer.encoder.load_published(weights)
    load_decoder(stylizer.decoder, read_weights(decoder))
    return Model(stylizer, ReferenceStyleEncoder(stylizer.encoder))
