"""The commands of those who make models: train, reconstruct, export."""

import dataclasses
import inspect
import json
import sys

import pytest

from restyle import gallery
from restyle.image import read_image, write_image
from restyle.runtime import computes_bf16


def test_a_missing_extra_says_how_to_install_it(run, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith(("restyle.learn", "restyle.nn", "restyle.export"))]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run("export", tmp_path / "c.pt", "-o", tmp_path / "m")
    assert code == 7
    assert "pip install 'restyle[train]'" in err


def test_train_and_export_make_a_model_that_paints(run, photo, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(gallery, "styles", lambda: [gallery.entries()["wave"]])  # bf16 is compared in one style only
    from safetensors.torch import save_file

    from restyle.nn.pretrained import VggEncoder

    for kind in ("content", "style"):
        (tmp_path / kind).mkdir()
        write_image(tmp_path / kind / "one.png", photo)
    torch.manual_seed(0)
    weights = {n.replace("layers.", "features."): v for n, v in VggEncoder("vgg16").state_dict().items()}
    save_file(weights, tmp_path / "vgg.safetensors")
    words = ["--content", tmp_path / "content", "--style", tmp_path / "style", "-o", tmp_path / "run", "--threads", 1]
    words += ["--steps", 2, "--batch", 1, "--side", 32, "--loss", "gram=0"]
    code, out, err = run("train", *words, "--loss-weights", tmp_path / "vgg.safetensors")
    assert (code, out.strip()) == (0, str(tmp_path / "run" / "checkpoint.pt")), err
    words = ["export", tmp_path / "run" / "checkpoint.pt", "-o", tmp_path / "mine", "--licence", "CC0-1.0"]
    code, out, _ = run(*words, "--data", "one picture of coffee")
    assert code == 0
    assert "differs from torch by at most 0." in out
    card = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert (card["name"], card["licence"], card["data"]) == ("mine", "CC0-1.0", "one picture of coffee")
    assert card["training"]["step"] == 2
    assert (card["training"]["losses"]["gram"], card["training"]["losses"]["colour"]) == (0, 150)
    assert {"mixed_is_faithful", "bf16_is_close"} <= card.keys() or not computes_bf16("cpu")
    assert str(tmp_path) not in json.dumps(card)  # nobody's folders
    assert run("export", tmp_path / "run" / "checkpoint.pt", "-o", tmp_path / "mine")[0] == 4
    words = ["image", "coffee", "--style", "wave", "--size", "64", "-o", tmp_path / "out.png"]
    assert run(*words, "--model", tmp_path / "mine")[0] == 0
    # What cannot work is said in one sentence.
    bad = ["train", "--content", tmp_path / "content", "--style", tmp_path / "style", "-o", tmp_path / "run2"]
    assert run(*bad, "--loss-weights", tmp_path / "none.safetensors")[0] == 4
    bad += ["--loss-weights", tmp_path / "vgg.safetensors"]
    assert run(*bad, "--device", "cuda")[0] == 5
    for wrong, sentence in (
        ("gramm=3", "did you mean 'gram'"),
        ("gram=much", "--loss gram=much: 'much' is not a number"),
        ("gram=-1", "the weight of the loss gram must be finite and not negative, got -1.0"),
    ):
        code, _, err = run(*bad, "--loss", wrong)
        assert (code, sentence in err) == (2, True), err
    assert not (tmp_path / "run2").exists()


@pytest.fixture
def words(folders, loss_weights, tmp_path):
    """A training of one small step."""
    words = ["train", "--content", folders / "content", "--style", folders / "style", "--loss-weights", loss_weights]
    return [*words, "-o", tmp_path / "run", "--steps", 1, "--batch", 1, "--side", 32, "--threads", 1]


@pytest.mark.torch
def test_clip_warmup_and_scale_arrive(run, words, tiny, tmp_path):
    from restyle.learn.checkpoints import load_checkpoint

    code, _, err = run(*words, "--clip", "2.5", "--warmup", 7, "--scale", "0.5,0.75", "--reconstruction", 0.5)
    assert code == 0, err
    settings = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["settings"]
    assert (settings["clip"], settings["warmup"], settings["scale"]) == (2.5, 7, [0.5, 0.75])
    assert settings["reconstruction"] == 0.5


@pytest.mark.torch
@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--clip", "0", "clip must be above 0, got 0.0"),
        ("--clip", "nan", "clip must be above 0, got nan"),
        ("--clip", "much", "Invalid value for '--clip': 'much' is not a valid float"),
        ("--reconstruction", "1.5", "reconstruction must lie in 0..1, got 1.5"),
        ("--warmup", "-1", "Invalid value for '--warmup': -1 is not in the range x>=0"),
        ("--warmup", "2.5", "Invalid value for '--warmup': '2.5' is not a valid int"),
        ("--scale", "0.4", "--scale 0.4: must be two numbers, smallest and largest, such as 0.4,1.0"),
        ("--scale", "0.2,0.4,1", "--scale 0.2,0.4,1: must be two numbers"),
        ("--scale", "0.4,all", "--scale 0.4,all: 'all' is not a number"),
        ("--scale", "0.9,0.4", "with 0 < smallest <= largest <= 1, got (0.9, 0.4)"),
        ("--scale", "0,1", "with 0 < smallest <= largest <= 1, got (0.0, 1.0)"),
        ("--scale", "0.4,nan", "with 0 < smallest <= largest <= 1, got (0.4, nan)"),
    ],
)
def test_settings_that_cannot_be_get_one_sentence(run, words, tiny, tmp_path, option, value, sentence):
    code, out, err = run(*words, option, value)
    assert (code, out, len(err.splitlines())) == (2, "", 1), err
    assert sentence in err
    assert not (tmp_path / "run").exists()


def test_preflight_looks_and_writes_nothing(run, photo, tmp_path):
    pytest.importorskip("torch")
    for kind in ("content", "style", "held"):
        (tmp_path / kind).mkdir()
        write_image(tmp_path / kind / "one.png", photo if kind != "style" else 255 - photo)
    (tmp_path / "content" / "torn.jpg").write_bytes(b"not a picture")
    words = ["--content", tmp_path / "content", "--style", tmp_path / "style", "-o", tmp_path / "run", "--preflight"]
    held = ["--validation-content", tmp_path / "held"]
    code, out, err = run("train", *words, *held)
    assert code == 0, err
    for words in ("content: 2 pictures", "1 cannot be read and will be skipped", "torn.jpg", "1 in training and in"):
        assert words in out
    assert not (tmp_path / "run").exists()


def test_reconstruct_leaves_a_montage(run, photo, tmp_path):
    torch = pytest.importorskip("torch")
    from restyle.nn.pretrained import VggEncoder

    (tmp_path / "content").mkdir()
    write_image(tmp_path / "content" / "one.png", photo)
    torch.save(
        {n.replace("layers.", "features."): v for n, v in VggEncoder("vgg16").state_dict().items()}, tmp_path / "v.pth"
    )
    words = ["--content", tmp_path / "content", "-o", tmp_path / "run", "--loss-weights", tmp_path / "v.pth"]
    code, out, err = run("reconstruct", *words, "--steps", 1, "--batch", 1, "--side", 32, "--threads", 1)
    assert (code, out.strip()) == (0, str(tmp_path / "run" / "checkpoint.pt")), err
    assert read_image(tmp_path / "run" / "montage.png").pixels.shape == (3 * 32, 4 * 32, 3)


def test_commands_and_settings_have_the_same_defaults():
    pytest.importorskip("torch")
    from restyle.cli.train import train
    from restyle.learn.settings import TrainSettings

    settings = {field.name: field.default for field in dataclasses.fields(TrainSettings)}
    options = inspect.signature(train).parameters
    shared = (settings.keys() & options.keys()) - {"content", "style", "output", "layers", "scale", "exclude_style"}
    assert len(shared) > 15
    for name in shared - {"loss_weights"}:
        assert options[name].default == settings[name], name
    assert options["loss_weights"].default is None
    for name in ("layers", "scale"):
        assert tuple(map(float, options[name].default.split(","))) == settings[name], name
