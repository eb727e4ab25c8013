"""The pictures of docs/how-it-works.md, made from bundled pictures only.

python experiments/how_it_works.py --loss-weights vgg16.safetensors -o docs/pictures
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import record
from restyle import Stylizer, gallery
from restyle.nn.losses import feature_statistics, statistics_loss
from restyle.nn.ops import adain, channel_statistics
from restyle.nn.pretrained import VggEncoder, read_weights
from restyle.style import Style

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
PHOTO, PAINTING = "astronaut", "starry"


def liveliest(features: Tensor, count: int) -> list[int]:
    """The channels (of (1, C, H, W)) that differ most from place to place, for their mean."""
    mean, deviation = channel_statistics(features)
    return (deviation - 0.2 * mean).flatten().argsort(descending=True)[:count].tolist()


def features_picture(path: Path, judge: VggEncoder, pictures: dict[str, np.ndarray]) -> None:
    """A photograph and a painting, and two feature maps of each layer."""
    seen = {name: judge(record.as_tensor(picture)) for name, picture in pictures.items()}
    chosen = [liveliest(layer, 2) for layer in seen[PHOTO]]
    rows = []
    for name, picture in pictures.items():
        row: list[tuple[str, np.ndarray | None]] = [(name, picture)]
        for layer, features, channels in zip(LAYERS, seen[name], chosen, strict=True):
            row += [(f"{layer}, map {channel}", features[0, channel].numpy()) for channel in channels]
        rows.append(row)
    record.sheet(path, rows, width=1.35)


def halves(judge: VggEncoder, size: int) -> tuple[list[str], np.ndarray]:
    """Distance of statistics between the left half of every bundled painting and the right half of every other."""
    names = [entry.name for entry in gallery.styles()]
    sides: list[list[list[Tensor]]] = [[], []]
    for name in names:
        picture = record.read(name, size)
        middle = picture.shape[1] // 2
        for side, half in zip(sides, (picture[:, :middle], picture[:, -middle:]), strict=True):
            side.append([feature_statistics(layer) for layer in judge(record.as_tensor(half))])
    left, right = sides
    return names, np.array([[statistics_loss(a, b).mean().item() for b in right] for a in left])


def statistics_picture(path: Path, judge: VggEncoder, pictures: dict[str, np.ndarray]) -> dict[str, Any]:
    """The values of one map in photograph and painting; and which halves of paintings have like statistics."""
    seen = {name: judge(record.as_tensor(picture))[1] for name, picture in pictures.items()}
    channel = liveliest(seen[PAINTING], 1)[0]
    names, distances = halves(judge, len(pictures[PAINTING]))

    def draw(figure: Any) -> None:
        figure.set_size_inches(8.5, 3.6)
        left, right = figure.subplots(1, 2)
        for (name, features), colour in zip(seen.items(), ("tab:blue", "tab:orange"), strict=True):
            values = features[0, channel].numpy().reshape(-1)
            label = f"{name}: mean {values.mean():.2f}, deviation {values.std():.2f}"
            left.hist(values, bins=40, density=True, alpha=0.5, color=colour, label=label)
            left.axvline(values.mean(), color=colour)
        left.set(title=f"values of map {channel} of relu2_1", yscale="log")
        left.legend(fontsize=7)
        right.imshow(np.log(distances), cmap="gray")
        right.grid(visible=False)
        right.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        right.set_yticks(range(len(names)), names, fontsize=7)
        right.set(title="left half against right half (dark = like)")

    record.plot(path, draw)
    own = int((distances.argmin(1) == np.arange(len(names))).sum())
    return {"paintings": len(names), "own_half_is_nearest": own,
            "own": float(np.diag(distances).mean()),
            "others": float(distances[~np.eye(len(names), dtype=bool)].mean())}  # fmt: skip


def rebuilt(target: Tensor, judge: VggEncoder, layer: int, first: np.ndarray, steps: int) -> np.ndarray:
    """The picture whose features come nearest to a target: a decoder by patience."""
    picture = record.as_tensor(first).requires_grad_()
    optimiser = torch.optim.LBFGS([picture], max_iter=steps, max_eval=2 * steps, line_search_fn="strong_wolfe")
    shallow = VggEncoder("vgg16", until=LAYERS[layer])
    shallow.load_state_dict(judge.state_dict(), strict=False)  # without the deeper layers

    def closure() -> Tensor:
        optimiser.zero_grad()
        beyond = (picture - picture.clamp(0, 1)).square().mean()
        loss = (shallow(picture)[layer] - target).square().mean() / target.square().mean() + 10 * beyond
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return (picture.detach()[0].clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()


def adain_picture(path: Path, judge: VggEncoder, pictures: dict[str, np.ndarray]) -> None:
    """One map on its way through AdaIN, all in one scale of grey."""
    content, style = (judge(record.as_tensor(picture))[1] for picture in pictures.values())
    channel = liveliest(style, 1)[0]
    mean, deviation = channel_statistics(content)
    stages = {
        "photograph": content,
        "normalised": (content - mean) / deviation,
        "AdaIN": adain(content, *channel_statistics(style)),
        "painting": style,
    }
    maps = {name: features[0, channel].numpy() for name, features in stages.items()}
    low, high = min(one.min() for one in maps.values()), np.quantile(maps["painting"], 0.99)
    row: list[tuple[str, np.ndarray | None]] = []
    for name, values in maps.items():
        grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        row.append((f"{name}: {values.mean():.2f} ± {values.std():.2f}", np.dstack([grey] * 3)))
    record.sheet(path, [row], width=2.1)


def depth_picture(path: Path, judge: VggEncoder, pictures: dict[str, np.ndarray], steps: int) -> None:
    """For each layer, the picture whose features are those that AdaIN makes there."""
    content, style = (judge(record.as_tensor(picture)) for picture in pictures.values())
    row: list[tuple[str, np.ndarray | None]] = []
    for number, layer in enumerate(LAYERS):
        target = adain(content[number], *channel_statistics(style[number]))
        row.append((f"AdaIN at {layer}", rebuilt(target, judge, number, pictures[PHOTO], steps)))
    record.sheet(path, [row], width=2.1)


def fast_picture(path: Path, photo: np.ndarray, threads: int) -> None:
    """What is done with a style vector: strengths, a mixture, and its two parts from two styles."""
    model = Stylizer.load(threads=threads)
    one, other = (model.encode_style(gallery.find(name)) for name in (PAINTING, "ink"))
    sites = 2 * model.card.sites
    parts = [
        Style(np.concatenate([a.vector[:sites], b.vector[sites:]]), one.model) for a, b in ((one, other), (other, one))
    ]
    rows = [
        [("photograph", photo), *((f"{PAINTING}, strength {s:g}", model.apply(photo, one, s)) for s in (0.5, 1, 1.5))],
        [
            ("ink", model.apply(photo, other)),
            (f"half {PAINTING}, half ink", model.apply(photo, Style.mix([one, other], [1, 1]))),
            (f"statistics of {PAINTING}, scales of ink", model.apply(photo, parts[0])),
            (f"statistics of ink, scales of {PAINTING}", model.apply(photo, parts[1])),
        ],
    ]
    record.sheet(path, rows, width=2.4)


def main() -> None:
    parser = record.arguments(__doc__, "how_it_works")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=40, help="of the optimisation that stands for a decoder")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    judge = VggEncoder("vgg16").load_torchvision(read_weights(given.loss_weights))
    pictures = {name: record.read(name, given.size)[:, : given.size] for name in (PHOTO, PAINTING)}  # squares
    with torch.no_grad():
        features_picture(given.output / "how_features.jpg", judge, pictures)
        print(record.rounded(statistics_picture(given.output / "how_statistics.png", judge, pictures)))
        adain_picture(given.output / "how_adain.jpg", judge, pictures)
        depth_picture(given.output / "how_depth.jpg", judge, pictures, given.steps)
    fast_picture(given.output / "how_fast.jpg", record.read(PHOTO, 384), given.threads)


if __name__ == "__main__":
    main()
