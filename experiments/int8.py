"""Eight-bit integers for the fast model: how far the pictures change, and whether it is faster.

The model is exported in float32 and in int8 (`restyle export --precision int8`). Both are compared with torch on
photographs, judged on your pairs, and timed in ONNX Runtime and in OpenVINO, by turns, at 512x512. Times are processor
time of one thread.

python experiments/int8.py pairs.json --content photos/ --style artworks/ \
    --loss-weights vgg16.safetensors --judge-weights alexnet.safetensors
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import held_out
import record
from held_out import FIGURES, small_pairs
from restyle import Stylizer, gallery
from restyle.errors import RestyleError
from restyle.export.network import read_network
from restyle.export.onnx_graph import export_model
from restyle.learn.evaluate import Judges, Pair
from restyle.runtime import computes_bf16
from restyle.weights import GRAPHS, find_model

WAYS = [("onnxruntime", "f32"), ("openvino", "f32")]
WAYS_WITH_BF16 = [("openvino", "mixed"), ("openvino", "bf16")]


def time_by_turns(models: dict[str, Path], photo: np.ndarray, rounds: int) -> dict[str, float]:
    """Milliseconds of a picture, in every engine and float precision: the best of the rounds' medians."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for engine, precision in [*WAYS, *(WAYS_WITH_BF16 if computes_bf16("cpu") else [])]:
            for name, folder in models.items():
                stylizer = Stylizer.load(folder, engine=engine, precision=precision, threads=1)
                style = stylizer.encode_style(gallery.find("wave"))
                times = []
                for _ in range(12):
                    began = record.seconds()
                    stylizer.apply(photo, style)
                    times.append(1000 * (record.seconds() - began))
                found.setdefault(f"{engine} {precision}, {name}", []).append(statistics.median(times[3:]))
    return {name: min(times) for name, times in found.items()}


def figures(model: Path, pairs: list[Pair], judges: Judges) -> dict[str, float]:
    """Means of the figures of `restyle evaluate` over the pairs."""
    stylizer = Stylizer.load(model, precision="f32", threads=1)
    seen = []
    for pair in pairs:
        painted = stylizer.apply(pair.content, stylizer.encode_style(pair.style, cache=False))
        seen.append(judges.figures(pair, painted))
    return {name: statistics.fmean(one[name] for one in seen) for name in FIGURES}


def measure(given: Any, folder: Path) -> dict[str, Any]:
    """Both versions: how far they are from torch, their figures, and all times."""
    network, card = read_network(find_model(given.model))
    models = {"float32": folder / "float32", "int8": folder / "int8"}
    versions: dict[str, dict[str, float]] = {}
    for (name, place), precision in zip(models.items(), ("f32", "int8"), strict=True):
        written = export_model(network, place, card={"name": name, "version": "0", "licence": ""}, precision=precision)
        parity = written.document["parity_on_photographs"]
        versions[name] = {
            "stylizer_bytes": (place / GRAPHS[1]).stat().st_size,
            **{f"{key}_of_255": 255 * value for key, value in parity.items()},
        }
    document = {"model": card.identity, "pairs": given.first, "size": given.size, "versions": versions}
    photo = record.read("castle", 512)[:512, :512]
    document["milliseconds"] = time_by_turns(models, photo, given.rounds)
    print(record.rounded(document), flush=True)
    judges = Judges(given.loss_weights, given.judge_weights, threads=given.threads)
    pairs = small_pairs(given.pairs, given.content, given.style, given.first, given.size)
    for name, place in models.items():
        versions[name] |= figures(place, pairs, judges)
    return document


def main() -> None:
    parser = record.arguments(__doc__, "int8")
    held_out.add_arguments(parser)
    parser.add_argument("--model", default="fast", help="a fast model's name or folder")
    parser.add_argument("--first", type=int, default=20, help="how many pairs")
    parser.add_argument("--size", type=int, default=512, help="their short side")
    parser.add_argument("--rounds", type=int, default=3, help="turns that every version gets when it is timed")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            document = measure(given, Path(folder))
    except RestyleError as error:
        parser.exit(1, f"{error}\n")
    record.write(given.output, document)
    record.table(document["versions"])
    record.table({name: {"ms": value} for name, value in document["milliseconds"].items()})


if __name__ == "__main__":
    main()
