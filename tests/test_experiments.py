"""The programs in experiments/ run, and what they say follows from what they do. Their plots need matplotlib."""

import importlib
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from restyle.image import write_image  # noqa: E402
from restyle.nn.fast import fast_model  # noqa: E402
from restyle.nn.pretrained import AlexNetJudge, VggEncoder, read_weights  # noqa: E402

pytestmark = pytest.mark.torch
FOLDER = Path(__file__).parent.parent / "experiments"
PLOTS = find_spec("matplotlib") is not None


@pytest.fixture
def load(monkeypatch):
    """Import a program of the folder, as it is imported when it is started there."""
    before = {*sys.modules}
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name in {*sys.modules} - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random loss networks: (VGG-16, AlexNet)."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    vgg, alexnet = VggEncoder("vgg16", until="relu5_2").state_dict(), AlexNetJudge()
    for name, value in vgg.items():
        torch.nn.init.kaiming_normal_(value, nonlinearity="relu") if name.endswith("weight") else value.zero_()
    save_file({name.replace("layers.", "features."): value for name, value in vgg.items()}, folder / "vgg.safetensors")
    state = {}
    for number, (layer, linear) in enumerate(zip(alexnet.layers, alexnet.linear, strict=True)):
        own = f"features.{AlexNetJudge.TORCHVISION[number]}"
        state |= {f"{own}.weight": layer.weight, f"{own}.bias": layer.bias}
        state[f"lpips.lin{number}.weight"] = linear.weight.abs()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "alexnet.safetensors")
    return folder / "vgg.safetensors", folder / "alexnet.safetensors"


@pytest.fixture
def start(load, monkeypatch, tmp_path, weights):
    """Run a program with small settings; its result."""

    def start(name, *words, judged=False):
        vgg, alexnet = weights
        words = [*words, "--loss-weights", vgg, *(["--judge-weights", alexnet] if judged else []), "-o", tmp_path / "o"]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        load(name).main()
        path = tmp_path / "o" / "result.json"
        return json.loads(path.read_text()) if path.exists() else None

    return start


@pytest.fixture
def pairs(tmp_path, photo):
    """A list of two pairs with its folder of pictures, as words of a command."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        write_image(folder / f"{number}.png", np.roll(photo, 20 * number, (0, 2)))
    rows = [{"name": name, "content": "0.png", "style": f"{name}.png"} for name in "12"]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    return [tmp_path / "pairs.json", "--content", folder, "--style", folder]


def drawn(folder, *names):
    return not PLOTS or all((folder / name).stat().st_size > 1000 for name in names)


def test_quality_time(start, pairs, tmp_path):
    result = start("quality_time", *pairs, "--size", 64, "--steps", 12, "--first", 1, judged=True)
    (row,) = result["pairs"]
    assert "fast" in row["feed_forward"]
    slow, warm = row["optimised"]["from content"], row["optimised"]["from fast"]
    curve = [step["loss"] for step in slow["curve"]]
    assert len(curve) == 12
    assert curve[-1] < 0.7 * curve[0]
    assert [look["step"] for look in slow["looks"]] == [10, 12]
    reached = [step["from_fast"] for step in row["same_loss"]]
    if reached[-1] is not None:  # it ends where the other run's loss is reached
        assert reached[-1] == len(warm["curve"])
        assert warm["curve"][-1]["loss"] <= min(curve) < warm["curve"][0]["loss"] or len(warm["curve"]) == 1
    seconds = [step["seconds"] for step in slow["curve"]]
    assert seconds == sorted(seconds)
    assert drawn(tmp_path / "o", "plot.jpg")


def test_quality_time_goes_on_where_it_was_stopped(start, pairs):
    words = [*pairs, "--size", 64, "--steps", 2]
    first = start("quality_time", *words, "--first", 1, judged=True)
    both = start("quality_time", *words, "--first", 2, "--resume", judged=True)
    assert [row["pair"] for row in both["pairs"]] == ["1", "2"]
    again, once = both["pairs"][0], first["pairs"][0]
    assert again["optimised"] == once["optimised"]  # seconds and all: it was not run again
    assert again["feed_forward"]["fast"]["seconds"] != once["feed_forward"]["fast"]["seconds"]  # painted anew
    assert set(both["mean"]) == {"the photograph", *first["pairs"][0]["feed_forward"]} | {
        f"L-BFGS {run}" for run in first["pairs"][0]["optimised"]
    }
    with pytest.raises(SystemExit, match="other settings"):
        start("quality_time", *pairs, "--size", 64, "--steps", 3, "--resume", judged=True)


def test_int8(start, pairs, tmp_path):
    from restyle.export.onnx_graph import export_model
    from tiny import TinyModel

    export_model(TinyModel(), tmp_path / "tiny", card={"name": "tiny", "version": "0", "licence": "MIT"})
    words = ["--model", tmp_path / "tiny", "--size", 64, "--first", 1, "--rounds", 1]
    result = start("int8", *pairs, *words, judged=True)
    exact, small = result["versions"]["float32"], result["versions"]["int8"]
    assert exact["mean_difference_of_255"] < 0.01 < small["mean_difference_of_255"]
    assert 0 < abs(small["content_vgg"] - exact["content_vgg"]) < 0.5
    assert {"openvino f32, int8", "onnxruntime f32, float32"} <= set(result["milliseconds"])


def test_steps_to_the_same_loss_are_counted(load):
    quality_time = load("quality_time")
    content = [{"step": n, "loss": 100 / n} for n in range(1, 31)]
    fast = [{"step": n, "loss": 50 / n} for n in range(1, 21)]
    assert quality_time.saved_steps(content, fast) == [
        {"from_content": 10, "from_fast": 5},
        {"from_content": 25, "from_fast": 13},
        {"from_content": 30, "from_fast": 15},
    ]
    assert quality_time.reached(fast, 0.1) is None


def test_normalisations(start, pairs, tmp_path):
    words = ["--side", 32, "--steps", 20, "--batch", 2, "--photos", 3, "--style", "wave", "ink"]
    result = start("normalisations", "--content", pairs[2], *words)
    assert {title: [*runs] for title, runs in result["curves"].items()} == {
        **{title: ["BN", "IN"] for title in ("photographs", "of equal contrast", "of one style")},
        "2 styles at once": ["IN", "CIN"],
    }
    assert all(run["steps"] == [10, 20] for runs in result["curves"].values() for run in runs.values())
    assert drawn(tmp_path / "o", "plot.jpg", "pictures.jpg")


def test_what_each_normalisation_sees(load):
    normalisations = load("normalisations")
    torch.manual_seed(0)
    photos, wanted = torch.rand(2, 3, 16, 16), torch.eye(2)
    for kind, depends_on_others, knows_styles in (("BN", True, False), ("IN", False, False), ("CIN", False, True)):
        painter = normalisations.Painter(kind, 2)
        for parameter in painter.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        with torch.no_grad():
            both, alone = painter(photos, wanted), painter(photos[:1], wanted[:1])
            other = painter(photos[:1], wanted[1:])
        assert torch.allclose(both[:1], alone, atol=1e-5) != depends_on_others
        assert torch.equal(alone, other) != knows_styles


def test_equal_contrast_uses_all_levels_and_keeps_the_order(load, photo):
    equal = load("normalisations").equal_contrast(np.full_like(photo, 100) + photo // 8)  # a flat picture
    grey = equal @ [0.299, 0.587, 0.114]
    levels = np.histogram(grey, bins=8, range=(0, 256))[0] / grey.size
    assert abs(levels - 1 / 8).max() < 0.05
    before = photo @ [0.299, 0.587, 0.114]
    assert np.corrcoef(before.reshape(-1), grey.reshape(-1))[0, 1] > 0.9


def test_content_layers(start, tmp_path):
    result = start("content_layers", "--size", 64, "--steps", 12)
    rebuilt = [layer["rebuilt"] for layer in result["layers"].values()]
    assert [*result["layers"]] == ["relu1_2", "relu2_2", "relu3_3", "relu4_2", "relu5_2"]
    assert rebuilt[0]["psnr_dB"] > rebuilt[-1]["psnr_dB"] + 2  # an early layer knows the pixels
    assert all(one["style"] is None for one in rebuilt)
    assert drawn(tmp_path / "o", "plot.jpg")


def test_gram_statistics(start, tmp_path):
    result = start("gram_statistics", "--size", 64, "--steps", 8, "--style", "wave")
    for made, figures in result["styles"]["wave"].items():
        assert figures["left"][made.rpartition(" ")[2]] < 0.5  # each falls where it is minimised
    assert drawn(tmp_path / "o", "plot.jpg")


def test_identity(start, tmp_path):
    result = start("identity", "--size", 64, "--steps", 25, "--content", "coffee", judged=True)
    figures = result["pictures"]["coffee"]
    early, late = figures["L-BFGS from noise, 5 steps"], figures["L-BFGS from noise, 25 steps"]
    assert late["psnr_dB"] > early["psnr_dB"]
    assert figures["fast"]["psnr_dB"] > 10
    assert drawn(tmp_path / "o", "plot.jpg")


def test_training_length(start, pairs, tmp_path):
    small = ["--side", 32, "--batch", 1, "--size", 64, "--train", pairs[2], pairs[2], "--at", 1, 3]
    result = start("training_length", *pairs, *small, judged=True)
    assert [row["steps"] for row in result["checkpoints"]] == [1, 3]
    assert result["pairs"] == 2
    assert result["checkpoints"][0]["style_vgg"] != result["checkpoints"][1]["style_vgg"]
    assert drawn(tmp_path / "o", "plot.jpg", "pictures.jpg")


def test_training_length_of_checkpoints_counts_from_where_they_began(start, load, pairs, tmp_path, weights):
    from types import SimpleNamespace

    given = SimpleNamespace(train=(pairs[2], pairs[2]), at=[1, 2], loss_weights=weights[0], network="fast", batch=1,
                            side=32, threads=1)  # fmt: skip
    first, second = load("training_length").own_run(given, tmp_path)
    result = start("training_length", *pairs, "--size", 64, "--first", 1, "--start", first, "--checkpoint", second,
                   judged=True)  # fmt: skip
    assert [row["steps"] for row in result["checkpoints"]] == [0, 2]


def test_training_length_needs_checkpoints_or_pictures_to_train_on(start, pairs, capsys):
    with pytest.raises(SystemExit):
        start("training_length", *pairs, judged=True)
    assert "give either --checkpoint or --train" in capsys.readouterr().err


def test_how_it_works(start, tmp_path):
    start("how_it_works", "--size", 48, "--steps", 3)
    names = [f"how_{name}.jpg" for name in ("features", "adain", "depth", "fast")]
    assert drawn(tmp_path / "o", "how_statistics.png", *names)


def test_a_decoder_by_patience_finds_the_picture(load, weights, photo):
    from restyle.image import resize
    from restyle.metrics import psnr

    experiments = load("how_it_works")
    small = resize(photo, (48, 64))
    judge = VggEncoder("vgg16").load_torchvision(read_weights(weights[0]))
    with torch.no_grad():
        target = judge(torch.from_numpy(small.copy()).permute(2, 0, 1)[None] / 255)[0]
    grey = np.full_like(small, 128)
    found = experiments.rebuilt(target, judge, 0, grey, 40)
    assert psnr(found, small) > psnr(grey, small) + 10


def test_figures_are_written_without_matplotlib(load, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    record = load("record")
    record.write(tmp_path / "new", {"a": 1 / 3, "rows": [{"b": 1e-9 / 3}]}, lambda figure: figure.fail())
    assert json.loads((tmp_path / "new" / "result.json").read_text()) == {"a": 0.3333, "rows": [{"b": 3.333e-10}]}
    assert "pip install 'restyle[experiments]'" in capsys.readouterr().out
    assert not (tmp_path / "new" / "plot.jpg").exists()


@pytest.mark.parametrize(
    ("question", "only"),
    [
        ("width", ["half"]),
        ("balance", ["relative, squared", "root of Euclidean"]),
        ("input", ["mean activation 1"]),
        ("bias", ["bias", "no bias"]),
        ("crops", ["no crops", "crops"]),
    ],
)
def test_training_choices(start, pairs, tmp_path, question, only):
    small = ["--steps", 2, "--batch", 2, "--side", 32, "--first", 1, "--size", 64, "--show", 48, "--only", *only]
    result = start("training_choices", question, *pairs, "--train", pairs[2], pairs[2], *small, judged=True)
    assert [*result["variants"]] == only
    ends = [variant["looks"][-1] for variant in result["variants"].values()]
    assert all(end["step"] == 2 and np.isfinite(end["follow"]) for end in ends)
    assert len({str(end["held out"]) for end in ends}) == len(ends)
    assert all(abs(sum(end["balance"]["pull"].values()) - 1) < 0.01 for end in ends if question == "balance")
    assert all(("trained on" in end) == (question == "crops") for end in ends)
    if question == "width":
        assert result["variants"]["half"]["gmac"] < 0.5  # as shipped: 0.9
    if question == "bias":
        assert ["last_bias" in variant for variant in result["variants"].values()] == [True, False]
    if question == "balance":  # its own weight, so that it pulls as the other does
        assert result["variants"]["root of Euclidean"]["style_weight"] != 4
    assert drawn(tmp_path / "o", "plot.jpg")


def test_variants_of_the_network_cost_the_same_and_normalise_where_they_say(load, photo):
    variants, choices = load("training_variants"), load("training_choices")
    picture = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255
    seen, costs = [], []
    for title, variant in variants.QUESTIONS["sites"].variants.items():
        model, _ = variant.build(fast_model(), None, picture)
        costs.append(choices.cost(model))
        seen.clear()
        for block in model.stylizer.blocks:
            block.depthwise.register_forward_hook(lambda *given: seen.append(given[-1]))
        with torch.no_grad():
            model(picture, picture, torch.ones(1, 1))
        flat = [number for number, features in enumerate(seen) if features.mean((2, 3)).abs().max() < 1e-4]
        assert flat == {"three": [2, 5], "nine": [*range(6)]}.get(title, [])
    assert all(cost == costs[0] for cost in costs)


def test_other_vggs_have_the_statistics_that_they_promise(load, weights, photo):
    variants = load("training_variants")
    photos = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255
    plain, scaled, normalised = (VggEncoder("vgg16").load_torchvision(read_weights(weights[0])) for _ in range(3))
    variants.mean_one(scaled, photos)
    variants.batch_normalised(normalised, photos)
    for before, after in zip(plain(photos), scaled(photos), strict=True):
        mean = before.mean((2, 3), keepdim=True)
        alive = (mean > 0.02 * mean.mean())[0, :, 0, 0]
        assert torch.allclose(after.mean((2, 3))[:, alive], torch.tensor(1.0), rtol=1e-3)
        assert torch.allclose(after[:, alive], (before / mean)[:, alive], rtol=1e-2, atol=1e-3)
    features = normalised.normalise(photos)
    for layer in normalised.layers:
        features = layer(features)
        if isinstance(layer, torch.nn.Conv2d):
            assert features.mean((0, 2, 3)).abs().max() < 1e-3
            assert torch.allclose(features.std((0, 2, 3)), torch.tensor(1.0), rtol=1e-3)


def test_follow_measures_how_much_of_the_styles_colours_arrives(load, monkeypatch):
    choices = load("training_choices")
    for share in (0.0, 0.4, 1.0):
        mixed = lambda _, photo, style, share=share: photo * (1 - share) + style.mean((0, 1)) * share  # noqa: E731
        monkeypatch.setattr(choices, "paint", mixed)
        assert abs(choices.follow(None, 32, ("wave", "ink")) - share) < 1e-6
