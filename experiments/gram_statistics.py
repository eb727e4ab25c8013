"""Gram matrices against means and deviations: is the little that AdaIN moves enough to carry a style?

For each style and each distance: a texture from white noise, without any content, and a photograph painted. Each result
is judged by the distance that made it and by the others, 1 = the photograph (or the noise) as it was.

python experiments/gram_statistics.py --loss-weights vgg16.safetensors
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import record
from restyle.learn.gatys import GatysSettings, PictureLoss, StyleTarget, build_judge, first_picture, optimize
from restyle.nn.style_distances import STYLE_DISTANCES

NO_CONTENT = 1e6  # a style weight beside which the content does not count


def optimised(photo: np.ndarray, target: StyleTarget, settings: GatysSettings, judge: Any) -> tuple[np.ndarray, float]:
    """The last picture, and the processor time of a step."""
    began = record.seconds()
    *_, last = optimize(photo, [target], settings, judge, first_picture(photo, None, settings))
    return last.pixels(), (record.seconds() - began) / settings.steps


def style_left(
    picture: np.ndarray, first: np.ndarray, target: StyleTarget, settings: GatysSettings, judge: Any
) -> float:
    """The style distance of a picture, as a share of what it was before."""
    loss = PictureLoss(first, [target], settings, judge)
    with torch.no_grad():
        return loss(record.as_tensor(picture))[1]["style"] / loss(record.as_tensor(first))[1]["style"]


def main() -> None:
    parser = record.arguments(__doc__, "gram_statistics")
    parser.add_argument("--content", default="astronaut", help="a picture, or a bundled sample")
    parser.add_argument("--style", nargs="+", default=["starry", "mosaic"], help="pictures, or bundled styles")
    parser.add_argument("--distance", nargs="+", default=["gram", "statistics"], choices=STYLE_DISTANCES)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    photo = record.read(given.content, given.size)
    settings = GatysSettings(
        size=None, scales=1, steps=given.steps, variant="vgg16", tolerance=0, threads=given.threads
    )  # fmt: skip
    judge = build_judge(settings, given.loss_weights)
    document: dict[str, Any] = {}
    rows = []
    for name in given.style:
        target = StyleTarget(record.read(name, given.size))
        row = [(name, target.painting)]
        for distance in given.distance:
            painting = replace(settings, distance=distance)
            texture = replace(painting, style_weight=NO_CONTENT, start="noise")
            for kind, way in (("texture", texture), ("painted", painting)):
                picture, seconds = optimised(photo, target, way, judge)
                first = first_picture(photo, None, way)
                left = {
                    one: style_left(picture, first, target, replace(painting, distance=one), judge)
                    for one in given.distance
                }
                document.setdefault(name, {})[f"{kind} by {distance}"] = {"seconds_a_step": seconds, "left": left}
                row.append((f"{kind}, {distance}", picture))
                print(name, kind, distance, record.rounded(left), round(seconds, 2), "s a step", flush=True)
        rows.append(row)
    kept = {name: getattr(given, name) for name in ("content", "size", "steps")}
    record.write(given.output, {**kept, "styles": document})
    record.sheet(given.output / "plot.jpg", rows, width=1.8)


if __name__ == "__main__":
    main()
