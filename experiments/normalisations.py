"""Why instance normalisation helps: the three training curves of figure 1 of the AdaIN paper, and a fourth.

A small feed-forward network (after Johnson et al. 2016, arXiv 1603.08155) learns to paint in one style, with batch
normalisation (BN) or instance normalisation (IN), on photographs as they are, on photographs of equal contrast, and on
photographs that were all brought to one other style. If IN only evened out the contrast, its lead would be gone on the
second; if it evens out the style, it should be gone on the third. Fourth: four styles at once, with IN, which cannot
know which style is wanted, and with conditional instance normalisation (CIN), which can.

python experiments/normalisations.py --content photos/ --loss-weights vgg16.safetensors
"""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import record
from restyle import Stylizer, gallery, read_image
from restyle.image import fit_short_side, resize
from restyle.learn.datasets import find_pictures
from restyle.nn.losses import gram_loss, gram_matrix
from restyle.nn.ops import ConditionalInstanceNorm, batch_norm, instance_norm
from restyle.nn.pretrained import VggEncoder, read_weights

EVERY = 10  # steps that a point of a curve is the mean of
STYLE_WEIGHT = 4.0


class Normalisation(nn.Module):
    """BN, IN or CIN with scale and shift to be learned."""

    def __init__(self, kind: str, channels: int, styles: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "CIN":
            self.conditional = ConditionalInstanceNorm(channels, styles)
        else:
            self.scale, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor, wanted: Tensor) -> Tensor:
        if self.kind == "CIN":
            return self.conditional(features, wanted)
        return {"BN": batch_norm, "IN": instance_norm}[self.kind](features, self.scale, self.shift)


class Layer(nn.Module):
    """Upsampling if wanted, convolution with reflection padding, normalisation."""

    def __init__(self, kind: str, styles: int, inputs: int, outputs: int, side: int, *, stride: int = 1, up: int = 1):
        super().__init__()
        self.up = up
        self.convolution = nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, padding_mode="reflect")
        self.normalise = Normalisation(kind, outputs, styles)

    def forward(self, features: Tensor, wanted: Tensor) -> Tensor:
        if self.up > 1:
            features = F.interpolate(features, scale_factor=self.up, mode="nearest")
        return self.normalise(self.convolution(features), wanted)


class Painter(nn.Module):
    """Down to a quarter of the size, three residual blocks, up again: Johnson's network at half the width."""

    def __init__(self, kind: str, styles: int) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, side: int = 3, **options: int) -> Layer:
            return Layer(kind, styles, inputs, outputs, side, **options)

        self.down = nn.ModuleList([layer(3, 16, 9), layer(16, 32, stride=2), layer(32, 64, stride=2)])
        self.blocks = nn.ModuleList(nn.ModuleList([layer(64, 64), layer(64, 64)]) for _ in range(3))
        self.up = nn.ModuleList([layer(64, 32, up=2), layer(32, 16, up=2)])
        self.out = nn.Conv2d(16, 3, 9, padding=4, padding_mode="reflect")

    def forward(self, photos: Tensor, wanted: Tensor) -> Tensor:
        """(N, 3, H, W) in 0..1 and (N, styles), one-hot, to (N, 3, H, W) in 0..1; H and W multiples of 4."""
        features = photos - 0.5
        for layer in self.down:
            features = F.relu(layer(features, wanted))
        for first, second in self.blocks:
            features = features + second(F.relu(first(features, wanted)), wanted)
        for layer in self.up:
            features = F.relu(layer(features, wanted))
        return torch.sigmoid(self.out(features))


class Losses:
    """Content (relu3_1) and style (Gram matrices of relu1_1 to relu4_1), both relative to the target's size."""

    def __init__(self, judge: VggEncoder, paintings: list[np.ndarray]) -> None:
        self.judge = judge
        with torch.no_grad():
            seen = [judge(record.as_tensor(painting)) for painting in paintings]
        self.grams = [torch.cat([gram_matrix(one[layer]) for one in seen]) for layer in range(4)]

    def __call__(self, painted: Tensor, photos: Tensor, styles: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            ours = [layer.float() for layer in self.judge(painted)]
            with torch.no_grad():
                theirs = self.judge(photos)[2].float()
        content = (ours[2] - theirs).square().mean() / theirs.square().mean()
        style = gram_loss([gram_matrix(layer.float()) for layer in ours], [gram[styles] for gram in self.grams])
        return content, style.mean()


def train(kind: str, photos: Tensor, losses: Losses, given: Any) -> dict[str, Any]:
    """The training curve of one network, means over ``EVERY`` steps, and its picture of the last photograph.

    That one is the bundled sample, which is not trained on.
    """
    torch.manual_seed(given.seed)
    random = np.random.default_rng(given.seed)  # the same photographs in the same order for every network
    styles = len(losses.grams[0])
    painter = Painter(kind, styles)
    optimiser = torch.optim.Adam(painter.parameters(), lr=1e-3)
    seen: dict[str, list[float]] = {"content": [], "style": []}
    for _ in range(given.steps):
        batch = photos[random.integers(len(photos) - 1, size=given.batch)].float() / 255
        which = torch.from_numpy(random.integers(styles, size=given.batch))
        content, style = losses(painter(batch, F.one_hot(which, styles).float()), batch, which)
        optimiser.zero_grad()
        (content + STYLE_WEIGHT * style).backward()
        optimiser.step()
        seen["content"].append(content.item())
        seen["style"].append(style.item())
    with torch.no_grad():
        # BN takes its statistics from the batch, here too.
        last = painter(photos[-given.batch :].float() / 255, torch.eye(styles)[[0] * given.batch])[-1]
    points = range(0, given.steps - EVERY + 1, EVERY)
    curves = {name: [statistics.fmean(values[at : at + EVERY]) for at in points] for name, values in seen.items()}
    picture = (last.permute(1, 2, 0) * 255).round().byte().numpy()
    return {"steps": [at + EVERY for at in points], **curves, "picture": picture}


def equal_contrast(photo: np.ndarray) -> np.ndarray:
    """Histogram equalisation of the luminance; the colours keep their distance from it."""
    luminance = photo @ np.array([0.299, 0.587, 0.114])
    levels = np.bincount(luminance.astype(np.uint8).reshape(-1), minlength=256)
    equal = 255 * np.cumsum(levels) / luminance.size
    return np.clip(photo + (equal[luminance.astype(np.uint8)] - luminance)[:, :, None], 0, 255).astype(np.uint8)


def read_photos(folder: Path, count: int, side: int) -> np.ndarray:
    """Middle squares of the first photographs of a folder, and of a bundled one, (count + 1, side, side, 3)."""
    squares = []
    for path in [*find_pictures(folder)[:count], gallery.find("astronaut", kind="sample")]:
        pixels = read_image(path).pixels[:, :, :3]
        pixels = resize(pixels, fit_short_side(pixels.shape[:2], side))
        top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
        squares.append(pixels[top : top + side, left : left + side])
    return np.stack(squares)


def as_batch(photos: np.ndarray) -> Tensor:
    return torch.from_numpy(photos).permute(0, 3, 1, 2).contiguous()


def draw(figure: Any, curves: dict[str, dict[str, dict[str, Any]]]) -> None:
    figure.set_size_inches(11, 3)
    for place, (title, runs) in zip(figure.subplots(1, len(curves), sharey=True), curves.items(), strict=True):
        for name, run in runs.items():
            total = [c + STYLE_WEIGHT * s for c, s in zip(run["content"], run["style"], strict=True)]
            colour = {"BN": "tab:red", "IN": "tab:blue", "CIN": "tab:green"}[name]
            place.plot(run["steps"], total, label=name, color=colour)
        place.set(title=title, xlabel="steps")
        place.legend()
    figure.axes[0].set(ylabel="content + 4 style", yscale="log")


def main() -> None:
    parser = record.arguments(__doc__, "normalisations")
    parser.add_argument("--content", type=Path, required=True)
    parser.add_argument(
        "--style", nargs="+", default=["starry", "mosaic", "ink", "poppies"], help="the first is learned"
    )
    parser.add_argument("--other-style", default="map", help="the style that photographs are brought to")
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    judge = VggEncoder("vgg16", as_trained=True).load_torchvision(read_weights(given.loss_weights))
    paintings = [record.read(name, given.side * 2) for name in given.style]
    photos = read_photos(given.content, given.photos, given.side)
    model = Stylizer.load(threads=given.threads)
    other = model.encode_style(record.read(given.other_style, 512))
    kinds = {
        "photographs": as_batch(photos),
        "of equal contrast": as_batch(np.stack([equal_contrast(photo) for photo in photos])),
        "of one style": as_batch(np.stack(model.apply_many(list(photos), other))),
    }
    one, four = Losses(judge, paintings[:1]), Losses(judge, paintings)
    plans = [(title, pool, one, ("BN", "IN")) for title, pool in kinds.items()]
    plans.append((f"{len(paintings)} styles at once", kinds["photographs"], four, ("IN", "CIN")))
    curves: dict[str, dict[str, Any]] = {}
    rows = []
    for title, pool, losses, names in plans:
        row = [(title, pool[-1].permute(1, 2, 0).numpy())]
        for name in names:
            began = time.monotonic(), record.seconds()
            run = train(name, pool, losses, given)
            row.append((name, run.pop("picture")))
            curves.setdefault(title, {})[name] = {**run, "seconds": record.seconds() - began[1]}
            print(f"{title}, {name}: content {run['content'][-1]:.3f}, style {run['style'][-1]:.3f}, "
                  f"{time.monotonic() - began[0]:.0f} s", flush=True)  # fmt: skip
        rows.append(row)
    settings = {name: getattr(given, name) for name in ("style", "other_style", "photos", "side", "batch", "steps")}
    record.write(given.output, {**settings, "curves": curves}, lambda figure: draw(figure, curves))
    record.sheet(given.output / "pictures.jpg", rows, width=1.5)


if __name__ == "__main__":
    main()
