"""The two networks behind one contract: a style encoder (picture to vector) and a stylizer (both to a picture).

``reference``: the paper's network, VGG to relu4_1 with a mirrored decoder, AdaIN between them.
``fast``: ours, one AdaIN site at 1/8 of the size and, in every later layer, a scale and shift from the style vector.

Pictures are (N, 3, H, W) float RGB in 0..1. Every stylizer has ``sites`` (S, the channels over all AdaIN sites),
``style_size`` (D) and the forward signature of ``Stylizer``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.nn.ops import channel_statistics, check_shape
from restyle.nn.pretrained import VGG_LAYERS, VggEncoder, load_decoder, published_variant, read_weights


class MirroredDecoder(nn.Module):
    """The encoder run backwards: relu4_1 features to a picture, nearest upsampling where the encoder pooled.

    Args:
        variant: The encoder's variant, whose table is mirrored.

    Source:
        arXiv 1703.06868, section 6.1: no normalisation in the decoder, reflection padding, nearest upsampling.
    """

    def __init__(self, variant: str = "vgg19") -> None:
        super().__init__()
        backwards = VGG_LAYERS[variant.split("_")[0]][::-1]
        # A convolution's output is what the one before it (in the encoder) had as output; the last one makes RGB.
        outputs = [*(step for step in backwards if isinstance(step, int)), 3][1:]
        channels, layers = 512, list[nn.Module]()
        for step in backwards:
            if isinstance(step, str):
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
                continue
            width = outputs.pop(0)
            convolution = nn.Conv2d(channels, width, 3, padding=1, padding_mode="reflect")
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers.append(convolution)
            if outputs:
                layers.append(nn.ReLU(inplace=False))
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Paint relu4_1 features: (N, 512, h, w) to (N, 3, 8h, 8w), not clamped."""
        result: Tensor = self.layers(features)
        return result


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


class FastStylizer(Stylizer):
    """Our network: everything expensive happens at 1/8 of the size, and the style enters every layer.

    One AdaIN site, after the encoder. Each later layer has a scale and a shift per channel from the style vector but
    does not normalise: networks that normalise again and again steer their statistics with spikes that show as blobs.
    Strength mixes the photograph with its painting at full strength.
    Where a photograph is flat, a network can paint nothing but a pattern that repeats from cell to cell. So each cell
    has its own fixed random numbers, the grain, soft like strokes, which come in after the AdaIN site as strongly as
    the style wants.
    The picture is padded by reflection inside and cropped back, so the network's zero padding never meets the picture.

    Args:
        channels: S, width at 1/8 of the size.
        blocks: Inverted-residual blocks at 1/8 of the size.
        expansion: Their inner width, in multiples of ``channels``.
        stem: Width at 1/4 on the way down.
        grain: Random numbers in each cell.
        up: Widths at 1/4 and 1/2 on the way up.
    """

    MARGIN = 8  # pixels, one cell at 1/8 of the size: as far as the zero padding of either way reaches
    PERIOD = 32  # cells after which the grain repeats
    SOFTNESS = (
        0.7,
        1.0,
        1.4,
        2.0,
    )  # of the grain, in cells: strokes of several sizes; unsoftened, they came out as blocks

    def __init__(
        self,
        *,
        channels: int = 128,
        blocks: int = 6,
        expansion: int = 2,
        stem: int = 64,
        grain: int = 8,
        up: Sequence[int] = (64, 32),
    ) -> None:
        super().__init__()
        self.settings = {
            "channels": channels,
            "blocks": blocks,
            "expansion": expansion,
            "stem": stem,
            "grain": grain,
            "up": list(up),
        }
        self.sites, self.grid = channels, 8 * self.PERIOD
        self.down1 = nn.Conv2d(12, stem, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(stem, channels, 3, stride=2, padding=1)
        self.grain: Tensor
        self.register_buffer("grain", _smooth_noise(grain, self.PERIOD, self.SOFTNESS))
        self.mix_grain = nn.Conv2d(grain, channels, 1, bias=False)
        self.blocks = nn.ModuleList(InvertedResidual(channels, expansion * channels) for _ in range(blocks))
        self.up1 = UpsampledConv(channels, up[0], 3)
        self.up2 = UpsampledConv(up[0], up[1], 3)
        self.out = UpsampledConv(up[1], 3, 5)
        self.modulated = [*[expansion * channels] * blocks, *up]  # channels of the layers that the style scales
        self.style_size = 2 * channels + 2 * sum(self.modulated) + grain

    def paint(
        self, content: Tensor, style: Tensor, strength: Tensor, statistics: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See ``Stylizer.paint``."""
        features = F.pixel_unshuffle(self._pad(content), 2)
        features = self.down2(F.relu(self.down1(features)))
        # The cells of the margin have seen the zero padding; only those of the picture itself go on.
        features = features[:, :, 1:-1, 1:-1]
        features, own = self.normalise(features, style, torch.ones_like(strength), statistics, given)

        rest = style[:, 2 * self.sites :, None, None]
        *modulation, coarseness = torch.split(rest, [*(2 * width for width in self.modulated), self.grain.shape[1]], 1)
        height, width = features.shape[2:]
        grain = self.grain.repeat(1, 1, height // self.PERIOD + 1, width // self.PERIOD + 1)[:, :, :height, :width]
        features = features + self.mix_grain(coarseness * grain)
        for block, pair in zip(self.blocks, modulation[:-2], strict=True):
            features = block(features, pair)
        features = F.pad(features, (1, 1, 1, 1), mode="reflect")  # a margin again, for the zero padding on the way up
        features = F.relu(modulate(self.up1(features), modulation[-2]))
        features = F.relu(modulate(self.up2(features), modulation[-1]))
        painted = 0.5 + self.out(features)

        margin = self.MARGIN
        painted = painted[:, :, margin : margin + content.shape[2], margin : margin + content.shape[3]]
        if not self.training:  # while training, the losses shall see how far outside 0..1 a colour lies
            painted = painted.clamp(0, 1)
        # Differs: the paper mixes features. Here pictures are mixed, which lie exactly upon each other: strength 0 is
        # the photograph itself, and every step from there to 1 and beyond is equally large.
        return content + strength[:, :, None, None] * (painted - content), own

    def _pad(self, content: Tensor) -> Tensor:
        """Reflect a margin around the picture and fill up to a multiple of 8."""
        margin = self.MARGIN
        bottom, right = (margin + (-side) % 8 for side in content.shape[2:])
        return F.pad(content, (margin, right, margin, bottom), mode="reflect")


class FastStyleEncoder(nn.Module):
    """Reads a style picture into the vector that steers ``FastStylizer``. It runs once per style, so it may be large.

    What it reads are statistics: of the colours alone and of the features at five resolutions the means and deviations,
    and the covariances of a few mixtures of each. A perceptron turns them into the vector.

    Args:
        sites: S of the stylizer.
        style_size: D of the stylizer.
        widths: Channels of the colours, then at 1, 1/2, 1/4, 1/8 and 1/16 of the size.
        mixtures: Mixtures of channels, at each resolution, of which covariances are taken.
        hidden: Width of the perceptron.
    """

    def __init__(
        self,
        sites: int,
        style_size: int,
        *,
        widths: Sequence[int] = (64, 32, 48, 96, 160, 192),
        mixtures: int = 16,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        colours, full, *smaller = widths
        self.stages = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3, colours, 1), nn.ReLU()), nn.Sequential(_reflecting(3, full), nn.ReLU())]
        )
        for inputs, outputs in zip((full, *smaller), smaller, strict=False):
            self.stages.append(
                nn.Sequential(
                    _reflecting(inputs, outputs, stride=2), nn.ReLU(), _reflecting(outputs, outputs), nn.ReLU()
                )
            )
        self.mixtures = nn.ModuleList(nn.Conv2d(width, mixtures, 1, bias=False) for width in widths)
        read = 2 * sum(widths) + len(widths) * mixtures * mixtures
        self.perceptron = nn.Sequential(
            nn.LayerNorm(read), nn.Linear(read, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, style_size)
        for module in self.modules():
            # PyTorch's own initialisation would let every layer shrink the signal to a third.
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # At first every style asks for standard statistics and neutral modulation, and training departs from there.
        nn.init.normal_(self.head.weight, std=0.01)
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.bias[sites : 2 * sites] = 1

    def forward(self, picture: Tensor) -> Tensor:
        """(N, 3, h, w) in 0..1, h and w at least 32, to (N, D)."""
        read: list[Tensor] = []
        features = picture = 4 * (picture - 0.5)  # deviation about 1
        for index, (stage, mixture) in enumerate(zip(self.stages, self.mixtures, strict=True)):
            # Stage 0 looks at single pixels; the others build on each other from the picture.
            features = stage(picture if index < 2 else features)
            mean, std = channel_statistics(features.float())  # in full precision also while training in half
            mixed = mixture(features - mean).flatten(2)
            covariance = mixed @ mixed.transpose(1, 2) / mixed.shape[2]
            read += [mean.flatten(1), std.flatten(1), covariance.flatten(1)]
        style: Tensor = self.head(self.perceptron(torch.cat(read, 1)))
        return style


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


def fast_model() -> Model:
    """The fast network with fresh weights."""
    stylizer = FastStylizer()
    return Model(stylizer, FastStyleEncoder(stylizer.sites, stylizer.style_size))


def reference_model(variant: str = "vgg16") -> Model:
    """The paper's network with fresh weights; its encoder still has to be given a VGG's.

    Args:
        variant: Encoder, see ``VggEncoder``.
    """
    stylizer = ReferenceStylizer(variant)
    return Model(stylizer, ReferenceStyleEncoder(stylizer.encoder))


class InvertedResidual(nn.Module):
    """1x1 to a wider space, 3x3 per channel, modulation by the style, 1x1 back, added to the input."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, inner, 1)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, padding_mode="reflect")
        self.project = nn.Conv2d(inner, channels, 1)

    def forward(self, features: Tensor, modulation: Tensor) -> Tensor:
        """(N, C, h, w) and (N, 2*inner, 1, 1) to (N, C, h, w)."""
        inner = self.depthwise(F.relu(self.expand(features)))
        result: Tensor = features + self.project(F.relu(modulate(inner, modulation)))
        return result


class UpsampledConv(nn.Module):
    """Nearest upsampling by 2 and then a convolution, computed without ever making the upsampled map.

    The pixels of a 2x2 group see the same few input pixels through different sums of the kernel's taps. With the taps
    summed beforehand, the same numbers (also at the zero-padded border) come from a 4x4 transposed convolution of
    stride 2 for a 3x3 kernel (4/9 of the arithmetic), and from a 3x3 convolution with a pixel shuffle for a 5x5 kernel
    (faster where the outputs are few). The taps stay tied, so there is no checkerboard.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the kernel at the high resolution, 3 or 5.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.fold: Tensor
        convolution = nn.Conv2d(inputs, outputs, kernel)
        self.weight, self.bias = convolution.weight, nn.Parameter(torch.zeros(outputs))
        if kernel == 3:
            fold = torch.zeros(4, 3)  # [row of the transposed kernel, row of the kernel]
            for row, tap in ((0, 2), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)):
                fold[row, tap] = 1
        else:
            fold = torch.zeros(
                2, 3, 5
            )  # [parity of the output row, row of the low-resolution kernel, row of the kernel]
            for parity in range(2):
                for tap in range(5):
                    fold[parity, (parity + tap) // 2, tap] = 1
        self.register_buffer("fold", fold, persistent=False)

    def folded_weight(self) -> Tensor:
        """The summed taps: (inputs, outputs, 4, 4) transposed, or (4 * outputs, inputs, 3, 3) before a shuffle."""
        if self.fold.dim() == 2:
            return torch.einsum("ky,lx,oiyx->iokl", self.fold, self.fold, self.weight)
        return torch.einsum("aky,blx,oiyx->oabikl", self.fold, self.fold, self.weight).flatten(0, 2)

    def folded(self) -> nn.Module:
        """The plain layer with the same output, for export."""
        weight = self.folded_weight().detach()
        layer: nn.Module
        if self.fold.dim() == 2:
            convolution: nn.Module = nn.ConvTranspose2d(weight.shape[0], weight.shape[1], 4, stride=2, padding=1)
            layer, bias = convolution, self.bias.detach()
        else:
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            layer = nn.Sequential(convolution, nn.PixelShuffle(2))
            bias = self.bias.detach().repeat_interleave(4)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, 2h, 2w)."""
        weight = self.folded_weight()
        if self.fold.dim() == 2:
            return F.conv_transpose2d(features, weight, self.bias, stride=2, padding=1)
        return F.pixel_shuffle(F.conv2d(features, weight, self.bias.repeat_interleave(4), padding=1), 2)


def _reflecting(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, padding_mode="reflect")


def modulate(features: Tensor, modulation: Tensor) -> Tensor:
    """Scale and shift each channel: (N, C, h, w) and (N, 2C, 1, 1), the scales as differences from 1."""
    scale, shift = modulation.chunk(2, 1)
    return features + features * scale + shift


def _smooth_noise(maps: int, side: int, softness: Sequence[float]) -> Tensor:
    """(1, maps, side, side) random numbers of mean 0 and deviation 1, softened in turns; their edges fit together."""
    noise = torch.randn(maps, side, side, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([softness[number % len(softness)] for number in range(maps)])[:, None, None]
    frequency = torch.fft.fftfreq(side)
    squared = frequency[:, None] ** 2 + frequency**2
    # A Gaussian is one in frequencies, too; there it wraps around the edges by itself.
    soft = torch.fft.ifft2(torch.fft.fft2(noise) * torch.exp(-2 * (torch.pi * sigma) ** 2 * squared)).real
    soft = soft - soft.mean((1, 2), keepdim=True)
    return (soft / soft.square().mean((1, 2), keepdim=True).sqrt())[None]
