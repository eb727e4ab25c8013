"""Which layer does the style loss listen to? The questions of source article 002, answered before any training.

For random pairs of photograph and artwork: the statistics loss of each layer, the photograph taken for the painting,
as a share of all four layers. Squared, Euclidean, a larger root, and relative to the style's own size; averaged over
channels as torch does by default or summed as in the paper; with and without ImageNet's normalisation of the input.

python experiments/layer_balance.py --content photos/ --style artworks/ --loss-weights vgg16.safetensors
"""

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from restyle.learn.datasets import RandomPairs
from restyle.nn.losses import feature_statistics, statistics_loss
from restyle.nn.pretrained import VggEncoder, read_weights, relu_names

KINDS = {
    "squared": {"relative_to": "nothing", "power": 2.0},
    "Euclidean": {"relative_to": "nothing", "power": 1.0},
    "square root of Euclidean": {"relative_to": "nothing", "power": 0.5},
    "squared, relative": {"relative_to": "style", "power": 2.0},
    "squared, balanced": {"relative_to": "both", "power": 2.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("content", "style", "loss-weights"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "layer_balance")
    given = parser.parse_args()
    judge = VggEncoder("vgg16", as_trained=True).load_torchvision(read_weights(given.loss_weights))
    layers = [index for index, name in enumerate(relu_names("vgg16")) if name.endswith("_1")]
    names = [relu_names("vgg16")[index] for index in layers]
    pairs = RandomPairs(given.content, given.style, side=192, seed=0)
    result = {}
    for normalised in (True, False):
        if not normalised:
            judge.normalise = nn.Identity()  # what source 002 did: pictures in 0..1 as they are
        seen = []
        for number in range(given.pairs):
            with torch.inference_mode():
                both = judge(torch.stack(pairs[number]).float() / 255)
            seen.append([feature_statistics(layer) for layer in both])
        stacked = [torch.stack([one[layer] for one in seen]) for layer in range(4)]  # (pairs, 2, 2C) for each layer
        for averaged in (False, True):
            scaled = [layer / (layer.shape[2] ** 0.5 if averaged else 1) for layer in stacked]
            for kind, options in KINDS.items():
                losses = statistics_loss(
                    [layer[:, 0] for layer in scaled], [layer[:, 1] for layer in scaled], **options
                )
                share = (losses / losses.sum(0)).mean(1)
                title = f"{kind}; {'mean' if averaged else 'sum'} of channels; {'' if normalised else 'not '}normalised"
                result[title] = {name: round(value, 3) for name, value in zip(names, share.tolist(), strict=True)}
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "result.json").write_text(json.dumps({"pairs": given.pairs, "share": result}, indent=1) + "\n")
    for title, shares in result.items():
        print(f"{title:60}", *(f"{name} {share:.3f}" for name, share in shares.items()))


if __name__ == "__main__":
    main()
