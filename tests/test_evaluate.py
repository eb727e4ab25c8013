import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clips import frames_of, panned, write_clip
from restyle import gallery
from restyle.errors import ModelFileError
from restyle.image import read_image, resize
from restyle.learn import evaluate as room
from restyle.learn import report
from restyle.nn.pretrained import AlexNetJudge, VggEncoder, read_weights
from restyle.stylizer import Stylizer
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


@pytest.fixture
def words(weights, pairs_file):
    words = ["evaluate", pairs_file, "--content", gallery.FOLDER, "--style", gallery.FOLDER, "--threads", 1]
    return [*words, "--loss-weights", weights[0], "--judge-weights", weights[1]]


def test_the_command_measures_paints_and_lays_out(run, words, tmp_path):
    out = tmp_path / "out"
    words += ["-o", out]
    code, printed, _ = run(*words, "--json")
    assert code == 0
    document = json.loads(printed)["fast"]
    assert document["mean"] == document["pairs"]["one"]
    assert [*document["mean"]] == [*report.FIGURES]
    assert document["mean"]["psnr_0"] == 100
    assert not {"strengths", "versus"} & {*document}
    assert json.loads((out / "evaluation.json").read_text())["fast"] == document
    assert read_image(out / "fast" / "one.png").pixels.shape == (128, 192, 3)
    assert read_image(out / "sheet.jpg").pixels.shape == (320, 3 * 320, 3)
    again = run(*words, "--strength", 0)[1]
    assert "style_vgg" in again
    assert str(out / "report.html") in again
    still = json.loads((out / "evaluation.json").read_text())["fast"]["mean"]
    assert still["content_vgg"] == still["identity"] == 0
    assert still["stability"] == 1
    assert not [*out.rglob("*.part")]
    assert run(*words, "--strength", "nan")[0] == 2
    assert run(*words, "--model", "fast", "--model", find_model("fast"))[0] == 2


def test_the_command_compares_with_a_peer_at_several_strengths(run, words, pairs_file, pair, weights, tmp_path):
    photo = room.Judges(*weights).figures(pair, pair.content)
    peer = {figure: value or 4 for figure, value in photo.items()} | {"noise": 0.0, "style_vgg_1": 1.0, "psnr_0": 50.0}
    other = dict.fromkeys(peer, 99.0)  # of a pair that is not asked for
    (tmp_path / "peer.json").write_text(json.dumps({"mean": other, "pairs": {"one": peer, "more": other}}))
    words += ["-o", tmp_path / "out", "--versus", tmp_path / "peer.json", "--strengths", "1,0,.5"]
    code, printed, _ = run(*words)
    assert code == 0
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text())["fast"]
    assert document["versus"]["mean"] == peer
    for figure, ratio in document["versus"]["ratio"].items():
        assert ratio == pytest.approx(document["mean"][figure] / peer[figure])
    assert {*document["versus"]["ratio"]} == {*photo} - {"noise"}  # nothing is divided by 0, nor made up
    assert f"x{document['versus']['ratio']['colour']:.2f}" in printed
    assert re.search(r"figure +fast +peer\n", printed)
    assert [row["strength"] for row in document["strengths"]] == [0, 0.5, 1]
    first, *_, last = document["strengths"]
    assert first == {"strength": 0, "style_vgg": pytest.approx(photo["style_vgg"]), "content_vgg": 0}
    assert last["content_vgg"] == pytest.approx(document["mean"]["content_vgg"])
    assert f"{last['content_vgg']:.4f}" in printed
    assert {*links(tmp_path / "out" / "report.html")} == {
        "pairs/one.content.jpg", "pairs/one.style.jpg", "fast/one.png",
    }  # fmt: skip


@pytest.mark.parametrize("strengths", ["0,x", "0,3", "1", "0.5,0.5", "nan,1", ","])
def test_strengths_that_cannot_be_are_refused(run, words, tmp_path, strengths):
    code, _, said = run(*words, "-o", tmp_path / "out", "--strengths", strengths)
    assert code == 2
    assert said.count("\n") == 1
    assert (
        f"strengths must be two or more different numbers between 0 and 2, separated by commas, got {strengths!r}"
        in said
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "must be a JSON object with 'pairs'"),
        ("[]", "must be a JSON object"),
        ('{"mean": {}}', "must be a JSON object"),
        ('{"pairs": {}}', "has no figures for one"),
        ('{"pairs": {"one": [0, 7]}}', "must be a JSON object"),
        ('{"pairs": {"one": {"style_vgg": "low"}}}', "must be a JSON object"),
        ('{"pairs": {"one": {"style_vgg": NaN}}}', "finite numbers"),
        (f'{{"pairs": {{"one": {{"style_vgg": 1{"0" * 400}}}}}}}', "must be a JSON object"),
    ],
)
def test_a_peer_that_cannot_be_compared_with_is_refused(run, words, tmp_path, text, said):
    (tmp_path / "peer.json").write_text(text)
    code, _, message = run(*words, "-o", tmp_path / "out", "--versus", tmp_path / "peer.json")
    assert (code, message.count("\n")) == (4, 1)
    assert "peer.json" in message
    assert said in message


class StandIn:
    """A model that is told what to paint: a function of photograph, style picture and strength."""

    card = SimpleNamespace(identity="stand-in")

    def __init__(self, paint):
        self.paint, self.read = paint, []

    def encode_style(self, picture):
        self.read.append(picture)
        return picture

    def apply(self, photo, style, strength=1.0):
        return self.paint(photo.astype(np.float32), style, strength).clip(0, 255).round().astype(np.uint8)

    def apply_many(self, photos, style, strength=1.0):
        return [self.apply(photo, style, strength) for photo in photos]


def towards(photo, style, strength):
    return (1 - strength) * photo + strength * resize(style, photo.shape[:2])


def measure(paint, pairs, weights, tmp_path, **options):
    model = StandIn(paint)
    document = room.evaluate({"it": model}, pairs, room.Judges(*weights), tmp_path / "out", **options)["it"]
    return model, document


def test_what_should_stay_is_measured(weights, pair, tmp_path):
    def mean(paint):
        return measure(paint, [pair], weights, tmp_path)[1]["mean"]

    untouched = mean(lambda photo, style, strength: photo)
    assert (untouched["identity"], untouched["psnr_0"], untouched["stability"]) == (0, 100, 1)
    # Each pixel for itself cannot flicker; its own style changes nothing; strength 0 does nothing.
    calm = mean(lambda photo, style, strength: photo + strength * (255 - 2 * photo) * (style.shape != photo.shape))
    assert (calm["identity"], calm["psnr_0"], calm["stability"]) == (0, 100, 1)
    assert calm["lpips_alex"] > 0
    # Half as bright, in its own style too; strength 0 forgotten at 0, or just above, where the network is asked.
    half = 10 * math.log10(255**2 / np.square(pair.content - (pair.content // 2).astype(float)).mean())
    for paint in (
        lambda photo, style, strength: photo // 2,
        lambda photo, style, strength: photo // 2 if strength else photo,
        lambda photo, style, strength: photo if 0 < strength < 0.1 else photo // 2,
    ):
        dark = mean(paint)
        assert dark["psnr_0"] == pytest.approx(half, rel=1e-4)
        assert dark["identity"] == dark["lpips_alex"] > 0
    # A pattern that sticks to the screen while the picture moves below.
    pattern = np.indices(pair.content.shape[:2]).sum(0)[:, :, None] % 16 * 2

    def stuck(photo, style, strength):
        return photo / 2 + 60 + strength * pattern[: photo.shape[0], : photo.shape[1]]

    assert mean(stuck)["stability"] > 3


def test_a_photograph_of_several_pairs_is_painted_in_its_own_style_once(weights, pair, tmp_path):
    twin = room.Pair("two", pair.content.copy(), pair.style[::-1].copy())
    model, document = measure(towards, [pair, twin], weights, tmp_path)
    assert sum(np.array_equal(picture, pair.content) for picture in model.read) == 1
    assert document["pairs"]["one"]["identity"] == document["pairs"]["two"]["identity"]
    figures = [document["pairs"][name]["colour"] for name in ("one", "two")]
    assert document["mean"]["colour"] == pytest.approx(sum(figures) / 2)


def test_a_strength_that_turns_back_is_found(weights, pair, tmp_path):
    def back(photo, style, strength):
        return towards(photo, style, min(strength, 1 - strength))

    judged = [measure(paint, [pair], weights, tmp_path, strengths=(0, 0.5, 1)) for paint in (towards, back)]
    assert [document["not_monotone"] for _, document in judged] == [[], ["one"]]
    rows = judged[0][1]["strengths"]
    assert rows[0]["style_vgg"] > rows[1]["style_vgg"] > rows[2]["style_vgg"] >= 0
    tables = [report.strength_table({"it": document}) for _, document in judged]
    assert [table[-1] for table in tables] == [["monotone", "1 of 1 pairs", ""], ["monotone", "0 of 1 pairs", ""]]


@pytest.mark.parametrize(
    ("style", "content", "turns"),
    [((3, 2, 2), (0, 1, 1), []), ((3, 1, 2), (0, 1, 2), ["one"]), ((3, 2, 1), (0, 2, 1), ["one"])],
)
def test_neither_style_nor_content_may_turn_back(weights, pair, tmp_path, monkeypatch, style, content, turns):
    curve = [{"style_vgg": s, "content_vgg": c} for s, c in zip(style, content, strict=True)]
    monkeypatch.setattr(room.Judges, "curve", lambda self, pair, paintings: curve)
    _, document = measure(towards, [pair], weights, tmp_path, strengths=(0, 0.5, 1))
    assert document["not_monotone"] == turns


class Page(HTMLParser):
    """What a page shows, links to, and is made of."""

    def __init__(self, path):
        super().__init__()
        self.links, self.tags, self.text, self.pictures = [], [], "", []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append(tag)
        self.links += [values[name] for name in ("href", "src") if name in values]
        self.pictures += [values["alt"] for _ in range(tag == "img")]

    def handle_data(self, text):
        self.text += text


def links(path):
    """Where the page leads, every place being there."""
    places = [unquote(link) for link in Page(path).links]
    assert all((path.parent / place).is_file() for place in places)
    return places


def test_the_report_stands_alone_and_escapes_names(weights, pair, tmp_path):
    odd = room.Pair("<b>&#1? %41", pair.content, pair.style)
    models = {name: StandIn(paint) for name, paint in (("one", towards), (str(tmp_path / "<i>:&"), towards))}
    peer = room.Peer("<u>", {"colour": 1.0})
    room.evaluate(models, [odd], room.Judges(*weights), tmp_path / "out", versus=peer, strengths=(0, 1))
    page = Page(tmp_path / "out" / "report.html")
    assert not {"b", "i", "u", "script", "link", "iframe"} & {*page.tags}
    places = [f"pairs/{odd.name}.content.jpg", f"pairs/{odd.name}.style.jpg"]
    places += [f"{model}/{odd.name}.png" for model in ("one", "<i>:&")]
    assert links(tmp_path / "out" / "report.html") == [place for place in places for _ in ("link", "picture")]
    assert "http" not in (tmp_path / "out" / "report.html").read_text()
    assert "prefers-color-scheme: dark" in (tmp_path / "out" / "report.html").read_text()
    for word in ("<i>:&", "<u>", odd.name, "stand-in", "of 1 pairs", *report.FIGURES.values()):
        assert word in page.text
    assert len(page.pictures) == 4


def test_a_model_must_not_lie_where_the_photographs_go(weights, pair, tmp_path):
    for names in (["pairs"], ["a/one", "b/one"]):
        with pytest.raises(ValueError, match="different names, and not 'pairs'"):
            room.evaluate(dict.fromkeys(names, StandIn(towards)), [pair], room.Judges(*weights), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_figure_is_explained_in_the_documentation():
    section = (Path(__file__).parents[1] / "docs" / "cli.md").read_text().partition("## restyle evaluate")[2]
    assert all(f"`{figure}`" in section for figure in report.FIGURES)


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


def test_style_figures_of_a_video(run, weights, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", panned(9))
    words = ["evaluate", "--video", clip, "--style", "wave", "--frames", 9, "--threads", 1]
    judges = ["--loss-weights", weights[0], "--judge-weights", weights[1]]
    code, out, err = run(*words, *judges, "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)["rows"]
    figures = row["style_figures"]
    assert set(figures) == {"frame_by_frame", "calm"}
    painting = room.to_judged_size(read_image(gallery.find("wave")).pixels)
    model = Stylizer.load(precision="fastest", threads=1)
    eighth = frames_of(clip)[7].pixels
    painted = model.apply(eighth, model.encode_style(gallery.find("wave")))
    expected = room.Judges(*weights).figures(room.Pair("", eighth, painting), painted)
    assert set(figures["calm"]) == {"style_vgg", "gram_vgg", "style_alex", "colour"}
    assert figures["frame_by_frame"] == pytest.approx({key: expected[key] for key in figures["calm"]}, rel=1e-3)
    assert figures["calm"]["style_vgg"] != figures["frame_by_frame"]["style_vgg"]
    code, out, _ = run(*words, *judges)
    assert code == 0
    assert "style_vgg, calm/frame by frame" in out
    assert f"{figures['calm']['style_vgg'] / figures['frame_by_frame']['style_vgg']:.2f}" in out.splitlines()[1]
    code, _, err = run(*words, *judges[:2])
    assert code == 2
    assert "both needed" in " ".join(err.replace("│", " ").split())
