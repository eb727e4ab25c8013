import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from restyle import gallery
from restyle.errors import ModelFileError
from restyle.image import read_image
from restyle.learn import evaluate as room
from restyle.nn.pretrained import AlexNetJudge, VggEncoder, read_weights
from restyle.weights import find_model

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights: the figures' laws hold for any network."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    network = VggEncoder("vgg16")
    for parameter in network.parameters():
        if parameter.dim() == 4:  # signals of the size that trained weights give
            torch.nn.init.kaiming_normal_(parameter)
    vgg = {n.replace("layers.", "features."): v for n, v in network.state_dict().items()}
    save_file(vgg, folder / "vgg.safetensors")
    alex = {}
    for name, value in AlexNetJudge().state_dict().items():
        kind, number, leaf = name.split(".")
        theirs = f"features.{AlexNetJudge.TORCHVISION[int(number)]}" if kind == "layers" else f"lpips.lin{number}"
        alex[f"{theirs}.{leaf}"] = value.abs() if kind == "linear" else value
    save_file(alex, folder / "alex.safetensors")
    return folder / "vgg.safetensors", folder / "alex.safetensors"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(room, "SIDE", 128)  # what holds at 512 holds at 128, sixteen times faster


@pytest.fixture
def pairs_file(tmp_path):
    rows = [{"name": "one", "content": "samples/coffee.jpg", "style": "wave.jpg"}]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    return tmp_path / "pairs.json"


@pytest.fixture
def pair(pairs_file):
    (pair,) = room.read_pairs(pairs_file, gallery.FOLDER, gallery.FOLDER)
    return pair


def test_pairs_are_read_at_the_judging_size(pair):
    assert min(pair.content.shape[:2]) == min(pair.style.shape[:2]) == room.SIDE


def test_photograph_and_style_score_zero_on_their_own_side(weights, pair):
    judges = room.Judges(*weights)
    photo, same = judges.figures(pair, pair.content), room.Pair("same", pair.content, pair.content)
    assert photo["content_vgg"] == photo["lpips_alex"] == photo["noise"] == 0
    assert min(photo["style_vgg"], photo["style_alex"], photo["gram_vgg"], photo["colour"]) > 0.01
    painted = judges.figures(same, pair.content)
    assert max(painted.values()) == 0
    assert set(painted) == set(photo)


def test_the_command_measures_paints_and_lays_out(run, weights, pairs_file, tmp_path):
    out = tmp_path / "out"
    vgg, alex = weights
    words = ["evaluate", pairs_file, "--content", gallery.FOLDER, "--style", gallery.FOLDER]
    words += ["--loss-weights", vgg, "--judge-weights", alex, "--threads", 1, "-o", out]
    code, printed, _ = run(*words, "--json")
    assert code == 0
    document = json.loads(printed)["fast"]
    assert document["mean"] == document["pairs"]["one"]
    assert json.loads((out / "evaluation.json").read_text())["fast"] == document
    assert read_image(out / "fast" / "one.png").pixels.shape == (128, 192, 3)
    assert read_image(out / "sheet.jpg").pixels.shape == (320, 3 * 320, 3)
    assert "style_vgg" in run(*words)[1]
    assert json.loads(run(*words, "--json", "--strength", 0)[1])["fast"]["mean"]["content_vgg"] == 0
    assert run(*words, "--strength", "nan")[0] == 2
    assert run(*words, "--model", "fast", "--model", find_model("fast"))[0] == 2


def test_wrong_files_are_named(weights, tmp_path, pairs_file):
    vgg, alex = weights
    with pytest.raises(ModelFileError, match="VGG weights"):
        room.Judges(alex, alex)
    with pytest.raises(ModelFileError, match="AlexNet weights"):
        room.Judges(vgg, vgg)
    with pytest.raises(ModelFileError, match=r"pairs\.json cannot be read as safetensors"):
        read_weights(pairs_file)
    row = {"name": "x", "content": "samples/coffee.jpg", "style": "wave.jpg"}
    for rows in ([{"name": "x"}], [], {}, [{**row, "content": 5}]):
        (tmp_path / "bad.json").write_text(json.dumps(rows))
        with pytest.raises(ModelFileError, match="name, content and style"):
            list(room.read_pairs(tmp_path / "bad.json", gallery.FOLDER, gallery.FOLDER))
    for rows in ([row, row], [{**row, "name": "../x"}], [{**row, "name": ""}]):
        (tmp_path / "bad.json").write_text(json.dumps(rows))
        with pytest.raises(ModelFileError, match="names must differ"):
            list(room.read_pairs(tmp_path / "bad.json", gallery.FOLDER, gallery.FOLDER))


def test_figures_are_what_the_table_says(weights, pair):
    painted = 255 - pair.content
    figures = room.Judges(*weights).figures(pair, painted)
    o, c = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255 for p in (painted, pair.content))
    alexnet = AlexNetJudge().load_torchvision(read_weights(weights[1]))
    vgg = VggEncoder("vgg16", as_trained=True).load_torchvision(read_weights(weights[0]))
    with torch.no_grad():
        half = [torch.nn.functional.avg_pool2d(picture, 2) for picture in (o, c)]
        assert figures["lpips_alex"] == pytest.approx(alexnet.perceptual_distance(*half).item(), rel=1e-4)
        standard = []
        for picture in (o, c):
            deepest = vgg(picture)[3].double()
            mean, std = deepest.mean((2, 3), keepdim=True), deepest.std((2, 3), correction=0, keepdim=True)
            standard.append((deepest - mean) / (std + 0.05 * std.mean()))
    assert figures["content_vgg"] == pytest.approx((standard[0] - standard[1]).square().mean().item(), rel=0.01)
    # AlexNet strides by 4 and pools 3x3 by 2, twice.
    assert [tap.shape[3] for tap in alexnet(c)] == [47, 23, 11, 11, 11]


def test_perceptual_distance_grows_with_the_change(weights):
    alexnet = AlexNetJudge().load_torchvision(read_weights(weights[1]))
    picture = torch.rand(1, 3, 64, 64)
    near, far = (alexnet.perceptual_distance(picture, (picture + change).clamp(0, 1)) for change in (0.05, 0.5))
    assert 0 < near.item() < far.item()
    assert np.isfinite(far.item())
