"""Our network: one AdaIN site at 1/8 of the size, then scales and shifts from the style vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.nn.networks import Model, Stylizer
from restyle.nn.ops import channel_statistics


class FastStylizer(Stylizer):
    """Our network: everything expensive happens at 1/8 of the size, and the style enters every layer.

    One AdaIN site, after the encoder. Each later layer has a scale and a shift per channel from the style vector but
    does not normalise: networks that normalise again and again steer their statistics with spikes that show as blobs.
    Strength mixes the photograph with its painting at full strength.
    Nothing is padded with zeros: the picture, and later the features, are reflected as far as the convolutions reach.

    Args:
        channels: S, width at 1/8 of the size.
        blocks: Inverted-residual blocks at 1/8 of the size.
        expansion: Their inner width, in multiples of ``channels``.
        stem: Width at 1/4 on the way down.
        up: Widths at 1/4 and 1/2 on the way up.
    """

    REACH = 6  # pixels above and to the left of a cell of 8x8 that the way down sees with it

    def __init__(
        self,
        *,
        channels: int = 128,
        blocks: int = 6,
        expansion: int = 2,
        stem: int = 64,
        up: Sequence[int] = (64, 32),
    ) -> None:
        super().__init__()
        self.settings = {
            "channels": channels,
            "blocks": blocks,
            "expansion": expansion,
            "stem": stem,
            "up": list(up),
        }
        self.sites, self.grid = channels, 8
        self.down1 = nn.Conv2d(3, stem, 6, stride=4)
        self.down2 = nn.Conv2d(stem, channels, 3, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(channels, expansion * channels) for _ in range(blocks))
        self.up1 = UpsampledConv(channels, up[0], 3)
        self.up2 = UpsampledConv(up[0], up[1], 3)
        self.out = UpsampledConv(up[1], 3, 5)
        self.modulated = [*[expansion * channels] * blocks, *up]  # channels of the layers that the style scales
        self.style_size = 2 * channels + 2 * sum(self.modulated)

    def paint(
        self, content: Tensor, style: Tensor, strength: Tensor, statistics: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See ``Stylizer.paint``."""
        features = self.down2(F.relu(self.down1(self._pad(content))))
        features, own = self.normalise(features, style, torch.ones_like(strength), statistics, given)

        rest = style[:, 2 * self.sites :, None, None]
        modulation = torch.split(rest, [2 * width for width in self.modulated], 1)
        for block, pair in zip(self.blocks, modulation[:-2], strict=True):
            features = block(features, pair)
        features = F.pad(features, (1, 1, 1, 1), mode="reflect")
        features = F.relu(modulate(self.up1(features), modulation[-2]))
        features = F.relu(modulate(self.up2(features), modulation[-1]))
        painted = 0.5 + self.out(features)
        painted = painted[:, :, : content.shape[2], : content.shape[3]]
        if not self.training:  # while training, the losses shall see how far outside 0..1 a colour lies
            painted = painted.clamp(0, 1)
        # Differs: the paper mixes features. Here pictures are mixed, which lie exactly upon each other: strength 0 is
        # the photograph itself, and every step from there to 1 and beyond is equally large.
        return content + strength[:, :, None, None] * (painted - content), own

    def _pad(self, content: Tensor) -> Tensor:
        """Reflect what the way down reaches, and fill up to a multiple of 8."""
        bottom, right = ((-side) % 8 for side in content.shape[2:])
        return F.pad(content, (self.REACH, right, self.REACH, bottom), mode="reflect")


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


def fast_model() -> Model:
    """The fast network with fresh weights."""
    stylizer = FastStylizer()
    return Model(stylizer, FastStyleEncoder(stylizer.sites, stylizer.style_size))


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
    """Nearest upsampling by 2 and then a convolution without padding, computed without ever making the upsampled map.

    The pixels of a 2x2 group see the same few input pixels through different sums of the kernel's taps. With the taps
    summed beforehand, the same numbers come from a 4x4 transposed convolution of stride 2 for a 3x3 kernel (4/9 of the
    arithmetic), and from a 3x3 convolution with a pixel shuffle for a 5x5 kernel (faster where the outputs are few).
    The taps stay tied, so there is no checkerboard.

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
            convolution: nn.Module = nn.ConvTranspose2d(weight.shape[0], weight.shape[1], 4, stride=2, padding=2)
            layer, bias = convolution, self.bias.detach()
        else:
            convolution = nn.Conv2d(weight.shape[1], weight.shape[0], 3)
            layer = nn.Sequential(convolution, nn.PixelShuffle(2))
            bias = self.bias.detach().repeat_interleave(4)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, h, w) to (N, outputs, 2h - kernel + 1, 2w - kernel + 1)."""
        weight = self.folded_weight()
        if self.fold.dim() == 2:
            return F.conv_transpose2d(features, weight, self.bias, stride=2, padding=2)
        return F.pixel_shuffle(F.conv2d(features, weight, self.bias.repeat_interleave(4)), 2)


def modulate(features: Tensor, modulation: Tensor) -> Tensor:
    """Scale and shift each channel: (N, C, h, w) and (N, 2C, 1, 1), the scales as differences from 1."""
    scale, shift = modulation.chunk(2, 1)
    return features + features * scale + shift


def _reflecting(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, padding_mode="reflect")
