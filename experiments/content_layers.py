"""What a content loss keeps, from early to deep layers of the loss network.

For each layer: the photograph rebuilt from white noise by that layer's features alone, and painted with them as
content. Early layers hold the pixels; deep ones hold what is there, and give away colours and exact places.

python experiments/content_layers.py --loss-weights vgg16.safetensors
"""

from typing import Any

import numpy as np

import record
from restyle.learn.gatys import GatysSettings, StyleTarget, build_judge, first_picture, optimize
from restyle.metrics import psnr

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_2", "relu5_2")


def run(
    photo: np.ndarray, painting: np.ndarray, settings: GatysSettings, given: Any
) -> tuple[np.ndarray, dict[str, Any]]:
    """A picture and what came of its losses."""
    judge = build_judge(settings, given.loss_weights)
    began = record.seconds()
    *_, last = optimize(photo, [StyleTarget(painting)], settings, judge, first_picture(photo, None, settings))
    figures = {
        "content": last.content,
        "style": last.style / settings.style_weight if settings.style_weight else None,
        "psnr_dB": psnr(last.pixels(), photo),
        "seconds": record.seconds() - began,
    }
    return last.pixels(), figures


def main() -> None:
    parser = record.arguments(__doc__, "content_layers")
    parser.add_argument("--content", default="astronaut", help="a picture, or a bundled sample")
    parser.add_argument("--style", default="starry", help="a picture, or a bundled style")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=50)
    given = parser.parse_args()
    photo, painting = record.read(given.content, given.size), record.read(given.style, given.size)
    same: dict[str, Any] = {
        "size": None, "scales": 1, "steps": given.steps, "variant": "vgg16", "tolerance": 0, "threads": given.threads
    }  # fmt: skip
    rows = [[("photograph", photo)], [("style", painting)]]
    document: dict[str, Any] = {}
    for layer in LAYERS:
        alone = GatysSettings(**same, start="noise", content_layer=layer, style_layers=("relu1_1",), style_weight=0)
        rebuilt, figures = run(photo, painting, alone, given)
        painted, more = run(photo, painting, GatysSettings(**same, content_layer=layer), given)
        document[layer] = {"rebuilt": figures, "painted": more}
        rows[0].append((f"{layer} alone, {figures['psnr_dB']:.1f} dB", rebuilt))
        rows[1].append((f"with style, {more['psnr_dB']:.1f} dB", painted))
        print(layer, record.rounded(document[layer]), flush=True)
    settings = {name: getattr(given, name) for name in ("content", "style", "size", "steps")}
    record.write(given.output, {**settings, "layers": document})
    record.sheet(given.output / "plot.jpg", rows, width=1.7)


if __name__ == "__main__":
    main()
