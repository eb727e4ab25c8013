"""What training_choices.py compares: for each question its variants, and how its curves are drawn.

Variants that the product does not offer (AdaIN at several sites, no bias, other VGGs) are made here, from its networks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from restyle.learn.objective import LossWeights
from restyle.nn.fast import FastStyleEncoder, FastStylizer
from restyle.nn.networks import Model
from restyle.nn.pretrained import VGG_WIDTHS, VggEncoder

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")

Build = Callable[[Model, VggEncoder, Tensor], tuple[Model, VggEncoder]]


def as_it_is(model: Model, judge: VggEncoder, photos: Tensor) -> tuple[Model, VggEncoder]:
    """The product's own network and loss network."""
    return model, judge


@dataclass(frozen=True)
class Variant:
    """One training.

    Attributes:
        settings: What differs in ``TrainSettings``.
        build: What differs in the networks; also given photographs (N, 3, side, side).
        seed: Of weights and pictures.
        equal_pull: Weigh the style loss so that at the beginning it pulls as the relative one does.
        mirrored: The reference decoder begins as the encoder turned round, as ours does, and not from random weights.
        squares: Learn from the middle squares of pictures, never cropped or mirrored.
        tell: What to note of the trained network.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    build: Build = as_it_is
    seed: int = 0
    equal_pull: bool = False
    mirrored: bool = False
    squares: bool = False
    tell: Callable[[Model], dict[str, Any]] = lambda model: {}


@dataclass(frozen=True)
class Question:
    """Variants that differ in one thing.

    Attributes:
        text: The question.
        variants: By their names.
        settings: ``TrainSettings`` of all of them.
        looks: When to judge, as shares of the steps.
        draw: Draws curves of the finished variants.
        balance: Look at the layers of the style loss, too.
        few: Train on so many photographs and artworks only; 0 = on all.
        styles: Train on these bundled styles only, and judge them on photographs that were not trained on; none =
            train on all artworks, and judge on others.
    """

    text: str
    variants: Mapping[str, Variant]
    settings: Mapping[str, Any]
    looks: tuple[float, ...] = (1.0,)
    draw: Callable[[Any, dict[str, Any]], None] | None = None
    balance: bool = False
    few: int = 0
    styles: tuple[str, ...] = ()


def two_losses(content: float = 1.0, style: float = 4.0, *, adain: float = 0.0) -> LossWeights:
    """Content and statistics, as in the paper, and nothing else."""
    return LossWeights(content=content, adain=adain, statistics=style, between=0, gram=0, colour=0, identity=0)


# AdaIN at one site or at several. InvertedResidual and FastStylizer scale and shift features by the style vector where
# an instance normalisation put before makes that an AdaIN, at the same number of multiplications.


def normalised_before(layer: nn.Module, channels: int) -> nn.Module:
    return nn.Sequential(layer, nn.InstanceNorm2d(channels))


def sites(*blocks: int, up: bool = False) -> Build:
    """AdaIN also in these blocks, and in the two layers on the way up."""

    def build(model: Model, judge: VggEncoder, photos: Tensor) -> tuple[Model, VggEncoder]:
        stylizer: Any = model.stylizer
        for number in blocks:
            block = stylizer.blocks[number]
            block.depthwise = normalised_before(block.depthwise, stylizer.modulated[number])
        if up:
            stylizer.up1 = normalised_before(stylizer.up1, stylizer.modulated[-2])
            stylizer.up2 = normalised_before(stylizer.up2, stylizer.modulated[-1])
        return model, judge

    return build


class OneSite(FastStylizer):
    """AdaIN at its one site, and nothing of the style in later layers: the paper's place for it, at our cost."""

    def paint(self, content: Tensor, style: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Stylizer.paint``."""
        known = 2 * self.sites
        return super().paint(content, torch.cat([style[:, :known], 0 * style[:, known:]], 1), *others)


class NoSite(FastStylizer):
    """Scales and shifts in every layer, and no AdaIN."""

    def normalise(self, features: Tensor, style: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Stylizer.normalise``."""
        mean, std = style[:, : 2 * self.sites, None, None].chunk(2, 1)
        return features.float() * std + mean, style[:, : 2 * self.sites]


def fast(kind: type[FastStylizer] = FastStylizer, *, width: float = 1.0) -> Build:
    """The fast network of another class or width."""

    def build(model: Model, judge: VggEncoder, photos: Tensor) -> tuple[Model, VggEncoder]:
        wide, middle, narrow = (round(width * channels) for channels in (128, 64, 32))
        stylizer = kind(channels=wide, stem=middle, up=(middle, narrow))
        return Model(stylizer, FastStyleEncoder(stylizer.sites, stylizer.style_size)), judge

    return build


# Other VGGs, as the reference network's encoder and as its judge alike.


def raw_input(vgg: VggEncoder, photos: Tensor) -> None:
    """Pictures in 0..1 as they are, which this VGG was not trained for."""
    vgg.normalise = nn.Identity()  # type: ignore[assignment]


@torch.no_grad()
def mean_one(vgg: VggEncoder, photos: Tensor) -> None:
    """Scale weights so that every channel's mean activation is 1 (Gatys et al.): the same features in other units."""
    features, before = vgg.normalise(photos), torch.ones(3)
    for layer in vgg.layers:
        if isinstance(layer, nn.Conv2d):
            layer.weight *= before[:, None, None]  # undo the scaling of the channels that come in
            mean = layer(features).relu().mean((0, 2, 3))
            before = mean.clamp_min(0.01 * mean.mean())  # a channel that is nearly dead stays small
            layer.weight /= before[:, None, None, None]
            layer.bias /= before  # type: ignore[operator]
        features = layer(features)


@torch.no_grad()
def batch_normalised(vgg: VggEncoder, photos: Tensor) -> None:
    """Batch normalisation put behind every convolution, its statistics from photographs, nothing trained anew."""
    features = vgg.normalise(photos)
    for layer in vgg.layers:
        if isinstance(layer, nn.Conv2d):
            std, mean = torch.std_mean(layer(features), (0, 2, 3))
            layer.weight /= std[:, None, None, None]
            layer.bias.sub_(mean).div_(std)  # type: ignore[operator, union-attr]
        features = layer(features)


def vgg(change: Callable[[VggEncoder, Tensor], None]) -> Build:
    def build(model: Model, judge: VggEncoder, photos: Tensor) -> tuple[Model, VggEncoder]:
        for one in (judge, model.stylizer.get_submodule("encoder")):
            change(one, photos)  # type: ignore[arg-type]
        return model, judge

    return build


class WithoutBias(nn.Conv2d):
    """A convolution that leaves its bias out."""

    def forward(self, features: Tensor) -> Tensor:
        """See ``nn.Conv2d``."""
        return self._conv_forward(features, self.weight, None)


def no_bias(model: Model, judge: VggEncoder, photos: Tensor) -> tuple[Model, VggEncoder]:
    """The last convolution of the reference decoder without a bias."""
    model.stylizer.get_submodule("decoder.layers")[-1].__class__ = WithoutBias  # type: ignore[index]
    return model, judge


def last_bias(model: Model) -> dict[str, Any]:
    """The bias of the reference decoder's last convolution, red, green and blue."""
    last = model.stylizer.get_submodule("decoder.layers")[-1]  # type: ignore[index]
    return {} if isinstance(last, WithoutBias) else {"last_bias": last.bias.tolist()}


# Curves.


def over(name: str, *figures: str, of: str = "held out") -> Callable[[Any, dict[str, Any]], None]:
    """Figures over the steps or the seconds."""

    def draw(figure: Any, variants: dict[str, Any]) -> None:
        for place, title in zip(figure.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
            figure_name, _, against = title.partition(" over ")
            for variant, entry in variants.items():
                looks = entry["looks"]
                values = [{**look[of], "follow": look["follow"]}[figure_name] for look in looks]
                place.plot([look[against or name] for look in looks], values, ".-", lw=1, label=variant)
            place.set(title=figure_name, xlabel=against or name)
        figure.axes[-1].legend(fontsize=6)

    return draw


def trade_off(figure: Any, variants: dict[str, Any]) -> None:
    """Style against content."""
    for place, (across, up) in zip(
        figure.subplots(1, 2), (("content_vgg", "style_vgg"), ("lpips_alex", "style_alex")), strict=True
    ):
        for title, entry in variants.items():
            last = entry["looks"][-1]["held out"]
            place.plot(last[across], last[up], "x" if entry["seed"] else "o", label=title)
            place.annotate(title, (last[across], last[up]), fontsize=6, xytext=(4, 2), textcoords="offset points")
        highest = max(entry["looks"][-1]["held out"][up] for entry in variants.values())
        place.set(xlabel=across, ylabel=up, ylim=(0, 1.1 * highest))


def balance(figure: Any, variants: dict[str, Any]) -> None:
    """Each layer's share in the pull of the style loss over the steps, a plot for each variant."""
    places = figure.subplots(1, len(variants), sharey=True, squeeze=False)[0]
    for place, (title, entry) in zip(places, variants.items(), strict=True):
        steps = [look["step"] for look in entry["looks"]]
        for kind, line in (("pull", "-"), ("share", ":")):
            for number, layer in enumerate(LAYERS):
                values = [look["balance"][kind][layer] for look in entry["looks"]]
                place.plot(steps, values, line, color=f"C{number}", lw=1, label=layer if kind == "pull" else None)
        place.set_title(title, fontsize=7)
        place.set(xlabel="steps", ylim=(0, 1))
    figure.axes[0].set_ylabel("share: pull (line), loss (dots)")
    figure.axes[-1].legend(fontsize=6)


# The fast network needs thousands of steps to know any style; four it knows after a hundred or two.
FOUR = ("starry", "wave", "mosaic", "ink")
FAST = {"network": "fast", "losses": two_losses(), "style_rate": 1.0}
REFERENCE = {"network": "reference", "rate": 5e-4}
# Article 002: the content loss at the AdaIN target, Euclidean style distances averaged over channels.
ARTICLE = {
    **REFERENCE, "losses": two_losses(0, 4, adain=1), "relative_to": "nothing", "power": 1.0,
    "layers": tuple(width**-0.5 for width in VGG_WIDTHS[:4]),
}  # fmt: skip
OURS = {"losses": two_losses(), "relative_to": "style", "power": 2.0, "layers": (1.0,) * 4}


def style_loss(power: float, *, mean: bool = True) -> Variant:
    """Distances that are not divided by the style's size; the mean or the sum over channels."""
    layers = tuple(width ** (-power / 2) if mean else 1.0 for width in VGG_WIDTHS[:4])
    return Variant({"relative_to": "nothing", "power": power, "layers": layers}, equal_pull=True)


QUESTIONS = {
    "width": Question(
        "Does a wider network pay, at equal steps and at equal time?",
        {
            "half": Variant(build=fast(width=0.5)),
            "as shipped": Variant(build=fast()),
            "as shipped, seed 1": Variant(build=fast(), seed=1),
            "double": Variant(build=fast(width=2)),
        },
        FAST,
        styles=FOUR,
        looks=(0.25, 0.5, 0.75, 1),
        draw=over("step", "style_vgg", "style_vgg over seconds", "content_vgg over seconds"),
    ),
    "trade-off": Question(
        "What does a larger weight of the style buy, and what does it cost?",
        {
            **{f"style x {weight}": Variant({"losses": two_losses(style=weight)}) for weight in (1, 4, 16, 64)},
            "style x 4, seed 1": Variant(seed=1),
        },
        FAST,
        styles=FOUR,
        draw=trade_off,
    ),
    "balance": Question(
        "Which layers does the style loss listen to, over a training?",
        {
            "relative, squared": Variant(),
            "squared, mean": style_loss(2),
            "Euclidean, sum": style_loss(1, mean=False),
            "Euclidean, mean": style_loss(1),
            "root of Euclidean": style_loss(0.5),
        },
        FAST,
        styles=FOUR,
        looks=(0, 0.25, 0.5, 1),
        draw=balance,
        balance=True,
    ),
    "input": Question(
        "What broke in article 002: the input, the scale of features, or the loss?",
        {
            "plain, raw input": Variant(build=vgg(raw_input), tell=last_bias),
            "plain": Variant(tell=last_bias),
            "plain, seed 1": Variant(seed=1, tell=last_bias),
            "mean activation 1": Variant(build=vgg(mean_one), tell=last_bias),
            "batch norm put in": Variant(build=vgg(batch_normalised), tell=last_bias),
            "plain, our losses": Variant(OURS, tell=last_bias),
            "plain, turned round": Variant(mirrored=True, tell=last_bias),
            "turned round, our losses": Variant(OURS, mirrored=True, tell=last_bias),
        },
        ARTICLE,
        looks=(0.5, 1),
    ),
    "sites": Question(
        "AdaIN at one site or at several, at equal cost?",
        {
            "none, scales only": Variant(build=fast(NoSite)),
            "one, nothing later": Variant(build=fast(OneSite)),
            "one, scales later": Variant(),
            "the same, seed 1": Variant(seed=1),
            "three": Variant(build=sites(2, 5)),
            "nine": Variant(build=sites(*range(6), up=True)),
        },
        FAST,
        styles=FOUR,
    ),
    "bias": Question(
        "Does a bias in the last layer hurt?",
        {
            "bias": Variant(tell=last_bias),
            "no bias": Variant(build=no_bias, tell=last_bias),
            "bias, seed 1": Variant(seed=1, tell=last_bias),
            "no bias, seed 1": Variant(build=no_bias, seed=1, tell=last_bias),
        },
        {**REFERENCE, **OURS},
    ),
    "crops": Question(
        "With few pictures, does cropping slow the training down?",
        {
            "no crops": Variant({"scale": (1.0, 1.0)}, squares=True),
            "no crops, seed 1": Variant({"scale": (1.0, 1.0)}, squares=True, seed=1),
            "crops": Variant(),
            "crops, seed 1": Variant(seed=1),
        },
        FAST,
        styles=FOUR,
        looks=(0.25, 0.5, 0.75, 1),
        draw=over("step", "style_vgg", "content_vgg", "style_alex", of="trained on"),
        few=4,
    ),
}
