"""Networks that others trained, frozen: VGG as encoder and judge, AlexNet as a judge that nothing trains against."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.hub
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from restyle.errors import ModelFileError, UnknownNameError

# Convolutions of one size; between these blocks the size is halved.
VGG_BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
VGG_WIDTHS = (64, 128, 256, 512, 512)

# The official files. The eight digits before the ending are the first of the file's SHA-256.
TORCHVISION = {
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "vgg19": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "vgg19_bn": "https://download.pytorch.org/models/vgg19_bn-c79401a0.pth",
}


def relu_names(variant: str, until: str = "relu4_1") -> list[str]:
    """Names of the ReLUs of a VGG in order, from relu1_1 on.

    Raises:
        ValueError: unknown variant, or it has no ReLU called ``until``.
    """
    blocks = VGG_BLOCKS.get(variant.split("_")[0], ())
    names = [f"relu{block}_{number}" for block, count in enumerate(blocks, 1) for number in range(1, count + 1)]
    if until not in names:
        raise ValueError(f"layers of {variant} must be among {', '.join(names) or 'none'}, got {until!r}")
    return names[: names.index(until) + 1]


class ImageNetNormalisation(nn.Module):
    """Colours as networks trained on ImageNet expect them: mean 0 and deviation 1 over ImageNet."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in 0..1 to the same shape."""
        return (pictures - self.mean) / self.std


class VggEncoder(nn.Module):
    """VGG up to a layer, frozen: it is what the system knows about pictures, so nothing may change it.

    ``train()`` is ignored, so that batch-norm statistics never move; parameters need no gradient.

    Args:
        variant: ``vgg16``, ``vgg19``, ``vgg19_bn`` (a batch norm after each convolution) or ``vgg19_normalised``
            (weights scaled to mean activation 1; begins with a 1x1 convolution that normalises the colours itself).
        as_trained: Zero padding, and pooling that drops an odd last row, as VGG was trained: for a judge. Otherwise
            reflection padding and pooling that keeps it, as the paper's decoder needs.
        until: The last ReLU that is computed.
        average: Pool by the average, as Gatys et al. advise for optimised pictures, instead of the maximum.

    Raises:
        ValueError: unknown variant or layer.

    Source:
        Simonyan & Zisserman 2015, configurations D and E; arXiv 1703.06868, section 6.
    """

    VARIANTS = ("vgg16", "vgg19", "vgg19_bn", "vgg19_normalised")

    def __init__(
        self, variant: str = "vgg19", *, as_trained: bool = False, until: str = "relu4_1", average: bool = False
    ) -> None:
        super().__init__()
        if variant not in self.VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(self.VARIANTS)}, got {variant!r}")
        self.variant = variant
        self.normalise = nn.Conv2d(3, 3, 1) if variant == "vgg19_normalised" else ImageNetNormalisation()
        self.names = relu_names(variant, until)
        layers: list[nn.Module] = []
        channels = 3
        for name in self.names:
            if name.endswith("_1") and layers:
                pooling = nn.AvgPool2d if average else nn.MaxPool2d
                layers.append(pooling(2, ceil_mode=not as_trained))
            width = VGG_WIDTHS[int(name[4]) - 1]
            layers.append(nn.Conv2d(channels, width, 3, padding=1, padding_mode="zeros" if as_trained else "reflect"))
            if variant.endswith("_bn"):
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=False))
            channels = width
        self.layers = nn.Sequential(*layers)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> VggEncoder:
        """Stay in evaluation mode whatever is asked."""
        return super().train(False)

    def load_torchvision(self, weights: Mapping[str, Tensor]) -> VggEncoder:
        """Take weights in torchvision's layout (``features.N.weight``); entries of further layers are ignored.

        Args:
            weights: The state dict; any floating dtype.

        Returns:
            Itself.

        Raises:
            ModelFileError: an entry is missing or has another shape.
        """
        if isinstance(self.normalise, nn.Conv2d):
            raise ModelFileError("vgg19_normalised is not published in torchvision's layout; use vgg19 or vgg19_bn")
        # torchvision numbers its layers exactly as this Sequential does.
        names = {f"layers.{index}": f"features.{index}" for index in range(len(self.layers))}
        load_renamed(self, weights, names, what="VGG")
        return self

    def load_published(self, weights: Mapping[str, Tensor]) -> VggEncoder:
        """Take weights as the variant is published: ``vgg_normalised.pth``, or else torchvision's layout.

        Args:
            weights: The state dict; any floating dtype. Entries of further layers are ignored.

        Returns:
            Itself.

        Raises:
            ModelFileError: an entry is missing or has another shape.

        Source:
            github.com/naoto0804/pytorch-AdaIN, from the weights of github.com/xunhuang1995/AdaIN-style.
        """
        if not isinstance(self.normalise, nn.Conv2d):
            return self.load_torchvision(weights)
        load_renamed(self, weights, {"normalise": "0", **_numbered(self.layers, 1)}, what="VGG")
        return self

    def forward(self, pictures: Tensor, *, every: bool = False) -> list[Tensor]:
        """Features after the first ReLU of each size: relu1_1, relu2_1, relu3_1 and so on.

        Args:
            pictures: (N, 3, H, W), 0..1 RGB, H and W at least 16.
            every: Give the features after every ReLU, in the order of ``names``.

        Returns:
            Tensors with 64, 128, 256, 512 and 512 channels at 1, 1/2, 1/4, 1/8 and 1/16 of the size (rounded up).
        """
        features = self.normalise(pictures)
        names = iter(self.names)
        taps: list[Tensor] = []
        for layer in self.layers:
            features = layer(features)
            if isinstance(layer, nn.ReLU) and (next(names).endswith("_1") or every):
                taps.append(features)
        return taps


class AlexNetJudge(nn.Module):
    """AlexNet's five convolutional layers with the linear weights of LPIPS v0.1, frozen.

    Source:
        Krizhevsky et al. 2012; Zhang et al. 2018, arXiv 1801.03924.
    """

    # Inputs, outputs, kernel, stride, padding, and whether a 3x3 pooling of stride 2 comes before.
    LAYERS = (
        (3, 64, 11, 4, 2, False),
        (64, 192, 5, 1, 2, True),
        (192, 384, 3, 1, 1, True),
        (384, 256, 3, 1, 1, False),
        (256, 256, 3, 1, 1, False),
    )
    TORCHVISION = (0, 3, 6, 8, 10)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride, padding)
            for inputs, outputs, kernel, stride, padding, _ in self.LAYERS
        )
        self.linear = nn.ModuleList(nn.Conv2d(layer[1], 1, 1, bias=False) for layer in self.LAYERS)
        self.normalise = ImageNetNormalisation()
        self.requires_grad_(False)

    def load_torchvision(self, weights: Mapping[str, Tensor]) -> AlexNetJudge:
        """Take ``features.N.weight`` in torchvision's layout and ``lpips.linN.weight``.

        Raises:
            ModelFileError: an entry is missing or has another shape.
        """
        names = {f"layers.{own}": f"features.{theirs}" for own, theirs in enumerate(self.TORCHVISION)}
        names |= {f"linear.{own}": f"lpips.lin{own}" for own in range(len(self.LAYERS))}
        load_renamed(self, weights, names, what="AlexNet")
        return self

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Features after each of the five ReLUs, for (N, 3, H, W) in 0..1."""
        features = self.normalise(pictures)
        taps: list[Tensor] = []
        for layer, (*_, pooled) in zip(self.layers, self.LAYERS, strict=True):
            features = F.relu(layer(F.max_pool2d(features, 3, 2) if pooled else features))
            taps.append(features)
        return taps

    def perceptual_distance(self, one: Tensor, other: Tensor) -> Tensor:
        """LPIPS of two batches of pictures (N, 3, H, W) in 0..1: (N,), 0 = the same."""
        total = torch.zeros(len(one), device=one.device)
        for linear, a, b in zip(self.linear, self(one), self(other), strict=True):
            a, b = (features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10) for features in (a, b))
            total = total + linear((a - b).square()).mean((1, 2, 3))
        return total


def published_variant(weights: Mapping[str, Tensor]) -> str:
    """Which variant of ``VggEncoder`` published weights are of, told by the names of their entries.

    Raises:
        ModelFileError: they are in none of the layouts that ``VggEncoder.load_published`` knows.
    """
    # The entry that the other variants lack.
    for variant, entry in (
        ("vgg19_normalised", "0.weight"),
        ("vgg19_bn", "features.1.running_mean"),
        ("vgg19", "features.16.weight"),
        ("vgg16", "features.17.weight"),
    ):
        if entry in weights:
            return variant
    raise ModelFileError("VGG weights must be in the layout of torchvision or of vgg_normalised.pth")


def load_decoder(decoder: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a mirrored decoder with weights as they are published: ``decoder.pth``, ``decoder_iter_160000.pth.tar``.

    Args:
        decoder: A ``MirroredDecoder``; filled in place.
        weights: The state dict of a plain sequence of layers: ``1.weight``, ``5.weight`` and so on.

    Raises:
        ModelFileError: an entry is missing or has another shape.

    Source:
        github.com/naoto0804/pytorch-AdaIN.
    """
    load_renamed(decoder, weights, _numbered(decoder.get_submodule("layers"), 0), what="decoder")


def _numbered(layers: nn.Module, number: int) -> dict[str, str]:
    """Names of our layers to their numbers in a sequence where the reflection padding is a layer of its own."""
    names = {}
    for index, layer in enumerate(layers.children()):
        number += isinstance(layer, nn.Conv2d)  # the padding before it
        names[f"layers.{index}"] = str(number)
        number += 1
    return names


def fetch_weights(name: str, folder: Path, *, progress: bool = False) -> Path:
    """The official torchvision file of a network, fetched once and checked by its SHA-256.

    Args:
        name: ``vgg16``, ``vgg19`` or ``vgg19_bn``.
        folder: Where the file is kept; made if need be. A whole file found there is used without any network.
        progress: Draw a progress bar on the standard error output; the files have about 550 MB.

    Returns:
        The file, for ``read_weights``.

    Raises:
        UnknownNameError: a name of no such file.
        ModelFileError: it cannot be fetched or kept, or is not the official one.
    """
    if name not in TORCHVISION:
        raise UnknownNameError("published network", name, TORCHVISION)
    url = TORCHVISION[name]
    path = folder / url.rpartition("/")[2]
    digits = path.stem.rpartition("-")[2]
    try:
        if path.is_file():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest().startswith(digits):
                    return path
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=progress)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ModelFileError(
            f"{url} cannot be fetched into {folder} ({error}); fetch it elsewhere and give the path of your copy, "
            "on the command line by --loss-weights"
        ) from error
    return path


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict as float32 from a safetensors file or from what ``torch.save`` wrote (``.pth``).

    The format is told by the content. Nothing in the file is executed: only tensors are accepted.

    Raises:
        ModelFileError: the file is missing or damaged, or holds something else than tensors by name.
    """
    try:
        with open(path, "rb") as file:
            safe = file.read(9)[8:] == b"{"  # behind eight bytes of length
        weights = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.float() for name, value in weights.items()}
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path} cannot be read as safetensors or .pth: {error}") from error
    except Exception as error:  # torch.load raises a dozen kinds for damaged files
        raise ModelFileError(
            f"{path} cannot be read as safetensors or .pth: it is damaged or holds something else than tensors by name"
        ) from error


def load_renamed(module: nn.Module, weights: Mapping[str, Tensor], names: Mapping[str, str], *, what: str) -> None:
    """Fill a module from weights that bear other names.

    Args:
        module: Filled in place; its parameters keep their dtype.
        weights: Tensors by their own names.
        names: For each layer of the module, its name in ``weights``.
        what: How to call the weights in an error.

    Raises:
        ModelFileError: an entry is missing or has another shape.
    """
    state = {}
    for name, own in module.state_dict().items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":  # counts training steps, and is missing from old files
            state[name] = own
            continue
        theirs = f"{names[layer]}.{leaf}"
        value = weights.get(theirs)
        if value is None or value.shape != own.shape:
            found = "nothing" if value is None else f"shape {tuple(value.shape)}"
            raise ModelFileError(f"{what} weights: {theirs} must have shape {tuple(own.shape)}, found {found}")
        state[name] = value.to(own.dtype)
    module.load_state_dict(state)
