"""The identity test: the same picture as content and as style should come back.

Optimised from white noise (from the photograph there is nothing to do), and by feed-forward models, side by side.

python experiments/identity.py --loss-weights vgg16.safetensors [--judge-weights alexnet.safetensors]
"""

from pathlib import Path
from typing import Any

import numpy as np

import record
from quality_time import painters
from restyle.learn.gatys import GatysSettings, StyleTarget, build_judge, first_picture, optimize
from restyle.metrics import psnr
from restyle.nn.pretrained import AlexNetJudge, read_weights


def main() -> None:
    parser = record.arguments(__doc__, "identity")
    parser.add_argument("--judge-weights", type=Path, help="AlexNet with LPIPS' linear layers, for LPIPS")
    parser.add_argument("--content", nargs="+", default=["astronaut", "castle"], help="pictures, or bundled samples")
    parser.add_argument("--model", nargs="+", default=["fast"])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--steps", type=int, default=150)
    given = parser.parse_args()
    settings = GatysSettings(
        size=None, scales=1, steps=given.steps, start="noise", variant="vgg16", tolerance=0, threads=given.threads
    )  # fmt: skip
    judge = build_judge(settings, given.loss_weights)
    alexnet = AlexNetJudge().load_torchvision(read_weights(given.judge_weights)) if given.judge_weights else None
    models = painters(given.model, given.threads)

    def figures(picture: np.ndarray, photo: np.ndarray) -> dict[str, float]:
        found = {"psnr_dB": psnr(picture, photo)}
        if alexnet:
            found["lpips"] = alexnet.perceptual_distance(record.as_tensor(picture), record.as_tensor(photo)).item()
        return found

    document: dict[str, Any] = {}
    rows = []
    for name in given.content:
        photo = record.read(name, given.size)
        made = {}
        for step in optimize(photo, [StyleTarget(photo)], settings, judge, first_picture(photo, None, settings)):
            if step.number in (given.steps // 5, given.steps):
                made[f"L-BFGS from noise, {step.number} steps"] = step.pixels()
        made |= {model: paint(photo, photo) for model, paint in models.items()}
        document[name] = {title: figures(picture, photo) for title, picture in made.items()}
        rows.append([(name, photo), *((f"{t}, {document[name][t]['psnr_dB']:.1f} dB", p) for t, p in made.items())])
        print(name, record.rounded(document[name]), flush=True)
    record.write(given.output, {"size": given.size, "steps": given.steps, "pictures": document})
    record.sheet(given.output / "plot.jpg", rows, width=2.4)


if __name__ == "__main__":
    main()
