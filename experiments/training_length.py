"""What longer training brings: the figures of checkpoints on fixed pairs, and one photograph painted by each.

Either checkpoints of your own run (copy checkpoint.pt now and then while `restyle train` works), or a small run of its
own that is stopped at some steps:

python experiments/training_length.py pairs.json --content photos/ --style artworks/ \
    --loss-weights vgg16.safetensors --judge-weights alexnet.safetensors --checkpoint a.pt b.pt c.pt
python experiments/training_length.py pairs.json ... --train photos/ artworks/ --at 100 200 400 800
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

import held_out
import record
from held_out import FIGURES, small_pairs
from restyle.errors import RestyleError
from restyle.learn.checkpoints import load_averaged
from restyle.learn.evaluate import Judges
from restyle.learn.settings import TrainSettings
from restyle.learn.train import train
from restyle.nn.networks import Model


def own_run(given: Any, folder: Path) -> Iterator[Path]:
    """Checkpoints of a small run; the rate stays, so that it does not matter where the run is stopped."""
    content, style = given.train
    for steps in given.at:
        settings = TrainSettings(
            content=content, style=style, loss_weights=given.loss_weights, output=folder / "run", network=given.network,
            steps=steps, batch=given.batch, pairings=given.batch, side=given.side, schedule="constant", average=0.99,
            reconstruction=0, warmup=20, tensorboard=False, threads=given.threads,
        )  # fmt: skip
        yield Path(shutil.copy(train(settings), folder / f"{steps}.pt"))


def paint(model: Model, photo: np.ndarray, painting: np.ndarray) -> np.ndarray:
    """(H, W, 3) and (h, w, 3) uint8 to (H, W, 3) uint8."""
    with torch.inference_mode():
        painted = model.eval()(record.as_tensor(photo), record.as_tensor(painting), torch.ones(1, 1))[0]
    return (painted.clamp(0, 1).permute(1, 2, 0) * 255).round().byte().numpy()


def draw(figure: Any, rows: list[dict[str, Any]]) -> None:
    """Each figure over the steps, as a multiple of the first checkpoint's."""
    figure.set_size_inches(6, 3.5)
    place = figure.subplots()
    for name in FIGURES:
        place.plot([row["steps"] for row in rows], [row[name] / rows[0][name] for row in rows], "o-", label=name)
    place.set(xlabel="steps", ylabel="multiple of the first", ylim=(0, None))
    place.legend(fontsize=7)


def main() -> None:
    parser = record.arguments(__doc__, "training_length")
    held_out.add_arguments(parser)
    parser.add_argument("--checkpoint", nargs="+", type=Path, default=[])
    parser.add_argument("--start", type=Path, help="the checkpoint that their run began with: step 0")
    parser.add_argument("--train", nargs=2, type=Path, help="folders of photographs and of artworks")
    parser.add_argument("--at", nargs="+", type=int, default=[100, 200, 400, 800], help="steps at which to look")
    parser.add_argument("--network", default="fast")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--first", type=int, default=6, help="how many pairs")
    parser.add_argument("--size", type=int, default=256)
    given = parser.parse_args()
    if bool(given.checkpoint) == bool(given.train):
        parser.error("give either --checkpoint or --train")
    torch.set_num_threads(given.threads)
    rows, sheet = [], []
    try:
        pairs = small_pairs(given.pairs, given.content, given.style, given.first, given.size)
        judges = Judges(given.loss_weights, given.judge_weights, threads=given.threads)
        photo, painting = record.read("astronaut", given.size), record.read("starry", given.size)
        with tempfile.TemporaryDirectory() as folder:
            began = [given.start] if given.start else []
            for path in itertools.chain(began, given.checkpoint or own_run(given, Path(folder))):
                model, settings = load_averaged(path)
                steps = 0 if path == given.start else settings["step"]
                seen = [judges.figures(pair, paint(model, pair.content, pair.style)) for pair in pairs]
                rows.append({"steps": steps, **{name: fmean(one[name] for one in seen) for name in FIGURES}})
                sheet.append((f"{steps} steps", paint(model, photo, painting)))
                print(record.rounded(rows[-1]), flush=True)
    except RestyleError as error:
        parser.exit(1, f"{error}\n")
    rows.sort(key=lambda row: row["steps"])
    settings = {name: getattr(given, name) for name in ("network", "side", "batch")} if given.train else {}
    document = {"pairs": len(pairs), "size": given.size, **settings, "checkpoints": rows}
    record.write(given.output, document, lambda figure: draw(figure, rows))
    record.table({f"{row['steps']} steps": {name: row[name] for name in FIGURES} for row in rows})
    record.sheet(given.output / "pictures.jpg", [[("photograph", photo), ("style", painting), *sheet]], width=1.8)


if __name__ == "__main__":
    main()
