"""Seven questions of source article 002 about training, each answered by small trainings that differ in one thing.

sites: AdaIN once or many times?        input: what broke with a plain VGG?      balance: which style loss?
bias: a bias in the last layer?         width: does a wider network pay?         trade-off: how much style?
crops: cropping with few pictures?

Every training is judged on pairs that it has not seen, by the figures of `restyle evaluate`, and by `follow`: how much
of the difference between styles' mean colours arrives in the paintings (1 = all of it, 0 = all styles look the same).
The answers hold for the small scale they were found at; one variant is trained from a second seed to show what chance
does. Larger: --side, --steps, --batch.

python experiments/training_choices.py width pairs.json --content photos/ --style artworks/ --train photos/ artworks/ \
    --loss-weights vgg16.safetensors --judge-weights alexnet.safetensors
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import held_out
import record
from held_out import FIGURES, small_pairs
from restyle import gallery
from restyle.errors import RestyleError
from restyle.image import resize, write_image
from restyle.learn import run as room
from restyle.learn.datasets import FixedPairs, RandomPairs, find_pictures
from restyle.learn.evaluate import Judges, Pair
from restyle.learn.settings import TrainSettings
from restyle.nn.losses import feature_statistics, statistics_loss
from restyle.nn.networks import Model
from restyle.nn.reference import ReferenceStylizer
from training_length import paint
from training_variants import LAYERS, QUESTIONS, Question, Variant

SHOWN = (("astronaut", "starry"), ("castle", "wave"), ("coffee", "mosaic"))  # bundled: nothing trains on them


class Trial:
    """The training of one variant.

    Args:
        variant: What is different.
        question: What all its variants share.
        given: The program's arguments.
        photos: Photographs (N, 3, side, side) from which a variant may take statistics.
        folder: Where a run may write.
    """

    def __init__(self, variant: Variant, question: Question, given: Any, photos: Tensor, folder: Path) -> None:
        content, style = sources = sources_of(question, given, folder)
        if question.few:
            square = given.side if variant.squares else 0
            content, style = few_pictures(sources, question.few, folder, square=square)
        settings = TrainSettings(**{
            "content": content, "style": style, "loss_weights": given.loss_weights, "output": folder / "run",
            "steps": given.steps, "batch": given.batch, "pairings": given.batch, "side": given.side, "warmup": 20,
            "optimiser": "adamw", "rate": 1e-3, "schedule": "constant", "average": 0.97, "clip": 5.0, "workers": 0,
            "reconstruction": 0, "tensorboard": False, "threads": given.threads, "seed": variant.seed,
            **question.settings, **variant.settings,
        })  # fmt: skip
        product = room.build

        def build(settings: TrainSettings) -> tuple[Any, Any]:
            return variant.build(*product(settings), photos)

        with contextlib.ExitStack() as stack:  # variants that the product does not offer
            stack.enter_context(patch.object(room, "build", build))
            if not variant.mirrored:
                stack.enter_context(patch.object(ReferenceStylizer, "mirror_encoder", lambda *_: None))
            self.run = room.Run(settings)
        self.run.pairs.flip = not variant.squares
        self.losses: list[dict[str, float]] = []
        self.seconds = 0.0
        self.fixed = batch(FixedPairs(content, style, count=6, side=given.side, seed=99), range(6))
        if variant.equal_pull:
            self._pull_alike()

    def looks(self, at: Iterable[int]) -> Iterator[Model]:
        """Train, and stop at these steps for a look at the averaged weights."""
        rounds = self.run.rounds()
        with contextlib.closing(self.run.record):
            for until in at:
                began = record.seconds()
                while self.run.step < until:
                    self.losses.append(self.run.advance(next(rounds)))
                self.seconds += record.seconds() - began
                yield self.run.averaged

    def balance(self) -> dict[str, dict[str, float]]:
        """Each layer's share in the style loss and in its pull on the painting, and its distance to the style."""
        content, style = self.fixed
        with torch.no_grad():
            painted = self.run.averaged(content, style, content.new_ones(len(content), 1))
        losses, pulls, left = layer_losses(self.run.objective, painted, content, style)
        shares = {"share": losses / losses.sum(), "pull": pulls / pulls.sum(), "left": left}
        return {kind: dict(zip(LAYERS, values.tolist(), strict=True)) for kind, values in shares.items()}

    def _pull_alike(self) -> None:
        """Weigh the style loss so that it pulls as strongly on photographs as the relative one with its weight does."""
        content, style = self.fixed
        objective = self.run.objective
        own = total_pull(objective, content, style)
        objective.relative_to, kept = "style", (objective.relative_to, objective.power, objective.layers)
        objective.power, objective.layers = 2.0, (1.0,) * 4
        weight = objective.weights.statistics * total_pull(objective, content, style) / own
        objective.relative_to, objective.power, objective.layers = kept
        objective.weights = replace(objective.weights, statistics=weight)


def layer_losses(objective: Any, painted: Tensor, content: Tensor, style: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For relu1_1 to relu4_1: the style loss, the norm of its gradient at the painting, the relative distance."""
    painted = painted.detach().requires_grad_()
    seen = [feature_statistics(objective.see(painted)[index]) for index in objective.main]
    theirs = [objective.targets(content, style).statistics[index] for index in objective.main]
    options = {"relative_to": objective.relative_to, "power": objective.power}
    losses = statistics_loss(seen, theirs, **options).mean(1) * painted.new_tensor(objective.layers)
    gradients = [torch.autograd.grad(loss, painted, retain_graph=True)[0].norm() for loss in losses]
    return losses.detach(), torch.stack(gradients), statistics_loss(seen, theirs).mean(1).detach()


def total_pull(objective: Any, content: Tensor, style: Tensor) -> float:
    """The norm of the whole style loss's gradient at the photographs."""
    painted = content.clone().requires_grad_()
    seen = [feature_statistics(objective.see(painted)[index]) for index in objective.main]
    theirs = [objective.targets(content, style).statistics[index] for index in objective.main]
    losses = statistics_loss(seen, theirs, relative_to=objective.relative_to, power=objective.power).mean(1)
    return torch.autograd.grad((losses * losses.new_tensor(objective.layers)).sum(), painted)[0].norm().item()


def batch(pairs: Any, numbers: Any) -> tuple[Tensor, Tensor]:
    """Content and style (N, 3, side, side) in 0..1."""
    content, style = zip(*(pairs[number] for number in numbers), strict=True)
    return torch.stack(content).float() / 255, torch.stack(style).float() / 255


def sources_of(question: Question, given: Any, folder: Path) -> tuple[Path, Path]:
    """Where photographs and artworks for training are found; the artworks may be a list of bundled styles."""
    content, style = given.train
    if question.styles:
        style = folder / "styles.txt"
        style.write_text("\n".join(str(gallery.find(name, kind="style").resolve()) for name in question.styles))
    return content, style


def few_pictures(sources: tuple[Path, Path], count: int, folder: Path, *, square: int = 0) -> list[Path]:
    """Folders of the first pictures for training: whole, or their middle squares with this side."""
    folders = []
    for kind, source in zip(("content", "style"), sources, strict=True):
        target = folder / f"{kind}_{square}"
        target.mkdir()
        for number, path in enumerate(find_pictures(source)[:count]):
            pixels = record.read(path, 320)
            write_image(target / f"{number}.png", middle(pixels, square) if square else pixels)
        folders.append(target)
    return folders


def pairs_to_judge(question: Question, given: Any) -> dict[str, list[Pair]]:
    """Photographs that were not trained on, with artworks that were not either or with the question's styles."""
    pairs = small_pairs(given.pairs, given.content, given.style, given.first, given.size)
    styles = [record.read(name, given.size) for name in question.styles]
    if styles:
        pairs = [replace(pair, style=styles[number % len(styles)]) for number, pair in enumerate(pairs)]
    sets = {"held out": pairs}
    if question.few:
        with tempfile.TemporaryDirectory() as folder:
            sources = sources_of(question, given, Path(folder))
            squares = few_pictures(sources, question.few, Path(folder), square=given.size)
            both = ([record.read(path, given.size) for path in find_pictures(one)] for one in squares)
            sets["trained on"] = [Pair("", *two) for two in zip(*both, strict=False)]
    return sets


def middle(pixels: np.ndarray, side: int) -> np.ndarray:
    """The middle square, made this large."""
    short = min(pixels.shape[:2])
    top, left = ((length - short) // 2 for length in pixels.shape[:2])
    return resize(pixels[top : top + short, left : left + short], (side, side))


@cache
def bundled(size: int, names: tuple[str, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A bundled photograph, cut to a square, and bundled styles; none named = all."""
    names = names or tuple(entry.name for entry in gallery.entries().values() if entry.kind == "style")
    return middle(record.read("castle", size), size), [record.read(name, size) for name in names]


def follow(model: Model, size: int, names: tuple[str, ...] = ()) -> float:
    """How much of the difference between the styles' mean colours their paintings of one photograph show."""
    photo, styles = bundled(size, names)
    painted = [paint(model, photo, style) for style in styles]
    wanted, got = (np.array([one.mean((0, 1)) for one in pictures]) for pictures in (styles, painted))
    wanted, got = wanted - wanted.mean(0), got - got.mean(0)
    return float((wanted * got).sum() / (wanted**2).sum())


def cost(model: Model) -> dict[str, float]:
    """Billions of multiplications per 256x256 picture, the style known, and millions of parameters that learn."""
    photo = torch.rand(1, 3, 256, 256)
    vector, none = torch.zeros(1, model.stylizer.style_size), torch.zeros(1, 2 * model.stylizer.sites)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.stylizer.paint(photo, vector, torch.ones(1, 1), none, torch.zeros(1, 1))
    learned = sum(p.numel() for p in model.stylizer.parameters() if p.requires_grad)
    return {"gmac": counter.get_total_flops() / 2e9, "million_parameters": learned / 1e6}


def judged(model: Model, sets: dict[str, list[Pair]], judges: Judges) -> dict[str, Any]:
    """Means of the figures of `restyle evaluate`, of every set of pairs."""
    figures = {}
    for name, pairs in sets.items():
        rows = [judges.figures(pair, paint(model, pair.content, pair.style)) for pair in pairs]
        figures[name] = {figure: fmean(row[figure] for row in rows) for figure in FIGURES}
    return figures


def trained(trial: Trial, question: Question, given: Any, judge: Callable[[Model], dict[str, Any]]) -> dict[str, Any]:
    """Train one variant, judge it on the way, and note what came of it."""
    entry = {**cost(trial.run.model), "style_weight": trial.run.objective.weights.statistics, "looks": []}
    for model in trial.looks(sorted({max(1, round(share * given.steps)) for share in question.looks})):
        look = {"step": trial.run.step, "seconds": trial.seconds, **judge(model)}
        look["follow"] = follow(model, given.side, question.styles)
        entry["looks"].append(look | ({"balance": trial.balance()} if question.balance else {}))
    return {**entry, "first_losses": trial.losses[0], "last_losses": trial.losses[-1]}


def answer(name: str, given: Any) -> None:
    """Train and judge all variants of a question; figures and pictures are written after each."""
    question = QUESTIONS[name]
    sets = pairs_to_judge(question, given)
    judges = Judges(given.loss_weights, given.judge_weights, threads=given.threads)
    photos = batch(RandomPairs(given.train[0], None, side=given.side, seed=7), range(24))[0]
    shown = [(record.read(photo, given.show), record.read(style, given.show)) for photo, style in SHOWN]
    scale = {name: getattr(given, name) for name in ("steps", "batch", "side", "size")}
    document: dict[str, Any] = {"question": question.text, **scale, "pairs": len(sets["held out"]), "variants": {}}
    columns = [("photograph", [photo for photo, _ in shown]), ("style", [style for _, style in shown])]
    for title, variant in question.variants.items():
        if given.only and title not in given.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(variant, question, given, photos, Path(folder))
            entry = trained(trial, question, given, lambda model: judged(model, sets, judges))
        model = trial.run.averaged
        document["variants"][title] = {"seed": variant.seed, **entry, **variant.tell(model)}
        columns.append((title, [paint(model, photo, style) for photo, style in shown]))
        record.write(given.output, document)
        record.plot(given.output / "plot.jpg", lambda figure: draw(figure, question, document, columns))
        print(title, record.rounded(entry["looks"][-1], 3), flush=True)
    record.table({title: row(one) for title, one in document["variants"].items()})


def row(entry: dict[str, Any]) -> dict[str, float]:
    """A line of the table: the figures at the end."""
    last = entry["looks"][-1]
    return {**last["held out"], "follow": last["follow"], "seconds": last["seconds"]}


def draw(figure: Any, question: Question, document: dict[str, Any], columns: list[Any]) -> None:
    """The pictures; below them the curves, where the question has any."""
    rows = len(columns[0][1])
    height = 1.35 * rows
    figure.set_size_inches(1.5 * len(columns), height + (3 if question.draw else 0))
    heights = [height, 3] if question.draw else [height]
    above, *below = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    places = above.subplots(rows, len(columns), squeeze=False)
    for column, (title, pictures) in enumerate(columns):
        places[0, column].set_title(title, fontsize=7, pad=2)
        for place, picture in zip(places[:, column], pictures, strict=True):
            place.set_axis_off()
            place.imshow(picture)
    if question.draw:
        question.draw(below[0], document["variants"])


def main() -> None:
    parser = record.arguments(__doc__, "training_choices")
    parser.add_argument("question", choices=QUESTIONS)
    held_out.add_arguments(parser)
    parser.add_argument("--train", nargs=2, type=Path, required=True, help="folders of photographs and of artworks")
    parser.add_argument("--only", nargs="+", help="these variants alone")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=64, help="of the crops that are trained on")
    parser.add_argument("--first", type=int, default=4, help="how many pairs to judge")
    parser.add_argument("--size", type=int, default=128, help="their short side")
    parser.add_argument("--show", type=int, default=160, help="short side of the pictures in the plot")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.output == record.RESULTS / "training_choices":
        given.output = given.output / given.question
    try:
        answer(given.question, given)
    except RestyleError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
