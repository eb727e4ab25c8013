import dataclasses
import inspect
import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import restyle  # noqa: E402
from restyle import gallery, read_image  # noqa: E402
from restyle.cli import optimize as command  # noqa: E402
from restyle.controls.masks import read_mask  # noqa: E402
from restyle.image import read_history, resize, write_image  # noqa: E402
from restyle.learn.gatys import (  # noqa: E402
    PLATEAU,
    STARTS,
    GatysSettings,
    PictureLoss,
    Step,
    StyleTarget,
    build_judge,
    finish,
    first_picture,
    optimize,
)
from restyle.nn.pretrained import VggEncoder  # noqa: E402

pytestmark = pytest.mark.torch
SMALL = {
    "variant": "vgg16", "size": 64, "scales": 1, "style_layers": ("relu1_1", "relu2_1"), "content_layer": "relu2_2",
    "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    state = VggEncoder("vgg16", until="relu5_1").state_dict()
    for name, value in state.items():  # as strong at the end as at the beginning
        if name.endswith("weight"):
            torch.nn.init.kaiming_normal_(value, nonlinearity="relu")
        else:
            value.zero_()
    save_file({name.replace("layers.", "features."): value for name, value in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def painting():
    return resize(read_image(gallery.find("wave")).pixels, (70, 100))


def run_through(photo, styles, weights, **changes):
    settings = GatysSettings(**{**SMALL, **changes})
    first = first_picture(photo, photo[:, ::-1], settings)
    return list(optimize(photo, styles, settings, build_judge(settings, weights), first))


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_the_loss_falls_and_the_picture_takes_the_style_on(photo, painting, weights, optimiser):
    steps = run_through(photo, [StyleTarget(painting)], weights, steps=12, optimiser=optimiser)
    assert [step.number for step in steps] == list(range(1, 13))
    if optimiser == "adam":  # whose first losses are those of the photograph: each layer's distance begins at 1
        assert steps[0].style == pytest.approx(20, rel=0.05)
    assert steps[-1].loss < min(10, steps[0].loss)
    assert steps[-1].pixels().shape == (64, 85, 3)
    small = resize(photo, (64, 85))
    colours = [np.abs(one.mean((0, 1)) - painting.mean((0, 1))).sum() for one in (steps[-1].pixels(), small)]
    assert colours[0] < 0.6 * colours[1]


def test_more_style_weight_is_less_style_loss_and_more_content_loss(photo, painting, weights):
    ends = [run_through(photo, [StyleTarget(painting)], weights, steps=15, style_weight=w)[-1] for w in (1, 100)]
    assert ends[1].style / 100 < ends[0].style / 1
    assert ends[1].content > ends[0].content


@pytest.mark.parametrize("start", STARTS)
def test_each_start_is_what_it_says(photo, start):
    settings = GatysSettings(start=start)
    first = first_picture(photo, photo[::-1], settings)
    assert first.shape == photo.shape
    expected = {"content": photo, "fast": photo[::-1], "black": 0, "mean": np.rint(photo.mean((0, 1)))}
    if start in expected:
        assert (first == expected[start]).all()
    else:
        assert first.std() > 60
        assert (first == first_picture(photo, None, settings)).all()
        assert (first != first_picture(photo, None, dataclasses.replace(settings, seed=1))).any()
    if start == "fast":
        with pytest.raises(ValueError, match="needs the painting"):
            first_picture(photo, None, settings)


def test_scales_go_from_coarse_to_fine(photo, painting, weights):
    steps = run_through(photo, [StyleTarget(painting)], weights, steps=2, scales=2, size=96)
    assert [step.size for step in steps] == [(48, 64), (48, 64), (96, 128), (96, 128)]


def test_it_stops_where_nothing_is_gained_any_more(photo, weights):
    # A photograph in its own style is done before it begins.
    steps = run_through(photo, [StyleTarget(photo)], weights, steps=PLATEAU + 40, optimiser="adam", tolerance=0.9)
    assert len(steps) <= PLATEAU + 2
    steps = run_through(photo, [StyleTarget(photo)], weights, steps=PLATEAU + 5, optimiser="adam", tolerance=0)
    assert len(steps) == PLATEAU + 5


def test_a_mask_says_where_a_style_goes(photo, painting, weights):
    left = np.zeros(photo.shape[:2], np.uint8)
    left[:, : photo.shape[1] // 2] = 255
    last = run_through(photo, [StyleTarget(painting, mask=left)], weights, steps=10)[-1].pixels().astype(int)
    change = np.abs(last - resize(photo, last.shape[:2])).mean((0, 2))
    middle = len(change) // 2
    assert change[: middle - 8].mean() > 4 * change[middle + 8 :].mean()


def test_a_photograph_in_its_own_style_is_where_it_shall_be(photo, weights):
    small = resize(photo, (64, 85))
    (step,) = run_through(small, [StyleTarget(small)], weights, steps=1)
    assert step.loss < 1e-3
    # From noise it is found again, and no loss is beyond measure on the way.
    steps = run_through(small, [StyleTarget(small)], weights, steps=30, start="noise")
    assert steps[-1].loss < 0.1 * steps[0].loss < 1e5


def test_the_content_loss_is_the_mean_square_relative_to_the_photographs(photo, painting, weights):
    settings = GatysSettings(**SMALL)
    judge = build_judge(settings, weights)
    small, other = resize(photo, (64, 85)), resize(photo[::-1], (64, 85))
    seen = []
    for pixels in (small, other):
        with torch.no_grad():
            taps = judge(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255, every=True)
        seen.append(taps[judge.names.index("relu2_2")].numpy().astype(np.float64))
    loss = PictureLoss(small, [StyleTarget(painting)], settings, judge)
    values = loss(torch.from_numpy(other.copy()).permute(2, 0, 1)[None] / 255)[1]
    assert values["content"] == pytest.approx(((seen[1] - seen[0]) ** 2).mean() / (seen[0] ** 2).mean(), rel=1e-4)


def test_the_slope_of_the_whole_loss_is_that_of_finite_differences(photo, painting, weights):
    settings = GatysSettings(**SMALL, smoothness=3)
    loss = PictureLoss(resize(photo, (64, 85)), [StyleTarget(painting)], settings, build_judge(settings, weights))
    random = torch.Generator().manual_seed(0)
    picture = (1.2 * torch.rand(1, 3, 64, 85, generator=random) - 0.1).requires_grad_()  # also beyond 0..1
    total, _ = loss(picture)
    (slope,) = torch.autograd.grad(total, picture)
    way = slope / slope.norm()
    with torch.no_grad():
        ends = [loss(picture + step * way)[0].item() for step in (0.05, -0.05)]
    assert (ends[0] - ends[1]) / 0.1 == pytest.approx(slope.norm().item(), rel=0.01)


def test_the_content_loss_falls_alone(photo, painting, weights):
    steps = run_through(photo, [StyleTarget(painting)], weights, steps=15, style_weight=0, start="noise")
    assert steps[0].style == steps[-1].style == 0
    assert steps[-1].content < 0.1 * steps[0].content


def test_a_region_too_small_for_a_layer_has_no_style_there(photo, painting, weights):
    black = np.zeros(photo.shape[:2], np.uint8)
    (step,) = run_through(photo, [StyleTarget(painting, mask=black)], weights, steps=1)
    assert step.style == 0
    black[:8, :8] = 255  # of 64 points: 5 or 6 a side at relu1_1, one at relu4_1
    deep = {"style_layers": ("relu1_1", "relu4_1"), "steps": 1}
    assert 0 < run_through(photo, [StyleTarget(painting, mask=black)], weights, **deep)[0].style < 20


def test_half_is_nearly_the_same(photo, painting, weights):
    how = {"steps": 3, "optimiser": "adam"}
    half, whole = (run_through(photo, [StyleTarget(painting)], weights, half=h, **how)[-1] for h in (True, False))
    assert half.style != whole.style
    assert half.style == pytest.approx(whole.style, rel=0.05)


def test_styles_are_weighted(photo, painting, weights):
    dark, light = np.full_like(painting, 20), np.full_like(painting, 235)
    means = []
    for share in (0.0, 0.5, 1.0):
        styles = [StyleTarget(dark, 1 - share), StyleTarget(light, share)]
        means.append(run_through(photo, styles, weights, steps=10, distance="statistics")[-1].pixels().mean())
    assert means[0] + 10 < means[1] < means[2] - 10
    with pytest.raises(ValueError, match="not all zero"):
        run_through(photo, [StyleTarget(painting, 0)], weights)


def test_smoothness_and_kept_colours_do_what_they_say(photo, painting, weights):
    rough, smooth = (
        run_through(photo, [StyleTarget(painting)], weights, steps=10, smoothness=s)[-1].pixels() for s in (0, 50)
    )
    assert np.abs(np.diff(smooth.astype(int), axis=1)).mean() < np.abs(np.diff(rough.astype(int), axis=1)).mean()
    kept = finish(rough, photo, GatysSettings(keep_colors="covariance"))
    assert np.abs(kept.mean((0, 1)) - resize(photo, kept.shape[:2]).mean((0, 1))).max() < 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": "left"}, "start must be one of content, fast"),
        ({"distance": "far"}, "distance must be one of gram"),
        ({"content_layer": "relu9_1"}, "got relu9_1"),
        ({"variant": "vgg16", "style_layers": ("relu3_4",)}, "got relu3_4"),
        ({"style_layers": ()}, "got none"),
        ({"steps": 0}, "steps must be finite and at least 1, got 0"),
        ({"style_weight": float("nan")}, "style_weight"),
        ({"keep_colors": "hue"}, "keep_colors"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        GatysSettings(**changes)


def test_the_command_writes_picture_evolution_and_preview(run, photo, weights, tmp_path):
    write_image(tmp_path / "photo.png", photo)
    words = ["--loss-weights", weights, "--variant", "vgg16", "--size", 64, "--steps", 11, "--scales", 1]
    words += ["--style-layers", "relu1_1,relu2_1", "--content-layer", "relu2_2", "--style", "wave:2", "--style", "ink"]
    words += ["--threads", 1, "--start", "fast", "--evolution", tmp_path / "e.gif", "--preview", tmp_path / "p.png"]
    code, out, err = run("optimize", tmp_path / "photo.png", *words, "-o", tmp_path / "o.png", "--json")
    assert (code, err) == (0, "")
    row = json.loads(out)
    assert (row["steps"], row["height"], row["width"]) == (11, 64, 85)
    assert row["loss"] >= row["content_loss"] + row["style_loss"]
    assert read_image(tmp_path / "o.png").pixels.shape == (64, 85, 3)
    assert read_image(tmp_path / "p.png").pixels.shape == (64, 85, 3)
    (line,) = read_history(tmp_path / "o.png")
    assert line.startswith(
        "restyle optimize CONTENT --style wave:2 --style ink --variant vgg16 --size 64 --style-layers"
    )
    assert line.endswith(f"--start fast --steps 11 --scales 1 -o OUTPUT  # restyle {restyle.__version__}, 11 steps")
    with Image.open(tmp_path / "e.gif") as moving:
        assert moving.n_frames > 5
    code, _, err = run("optimize", tmp_path / "photo.png", *words, "-o", tmp_path / "new.png")
    assert (code, "exists already" in err) == (3, True)  # the evolution is there; said before the work
    assert not (tmp_path / "new.png").exists()


def test_ctrl_c_writes_the_picture_as_it_is(run, photo, weights, tmp_path, monkeypatch):
    from restyle.learn import gatys

    def interrupted(*words):
        yield next(steps(*words))
        raise KeyboardInterrupt

    steps = gatys.optimize
    monkeypatch.setattr(gatys, "optimize", interrupted)
    write_image(tmp_path / "photo.png", photo)
    words = ["--loss-weights", weights, "--variant", "vgg16", "--size", 64, "--threads", 1, "--style", "wave"]
    code, _, err = run("optimize", tmp_path / "photo.png", *words, "-o", tmp_path / "o.png")
    assert code == 0
    assert "interrupted after 1 steps; the picture is written as it is" in err
    assert read_history(tmp_path / "o.png")[0].endswith(", 1 steps")


def test_mistakes_get_one_sentence(run, photo, weights, tmp_path):
    write_image(tmp_path / "photo.png", photo)
    words = [
        "optimize",
        tmp_path / "photo.png",
        "--loss-weights",
        weights,
        "--variant",
        "vgg16",
        "-o",
        tmp_path / "o.png",
    ]
    for more, sentence in (
        (["--style", "wave", "--start", "void"], "start must be one of"),
        (["--style", "wave", "--mask", "a.png", "--mask", "b.png"], "once for each style"),
        (["--style", "wave", "--evolution", tmp_path / "e.jpg"], "moving pictures"),
        (["--style", "wave", "--evolution", tmp_path / "e.xyz"], "known: .gif, .m4v"),
        (["--style", "wave:0"], "not all zero"),
        (["--style", "wave:" + 400 * "9"], "must be finite"),
        (["--style", "wave", "--style-weight", "1e300", "--steps", "2"], "the loss is no longer a finite number"),
        (["--style", "wave", "--preview", tmp_path / "o.png"], "three different files"),
        (["--style", "wave", "--preview", tmp_path / "e.gif", "--evolution", tmp_path / "e.gif"], "three different"),
        (["--style", "wave", "--seed", "-1", "--start", "noise"], "--seed"),
        ([], "--style"),
    ):
        code, _, err = run(*words, *more)
        assert code == 2, err
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "o.png").exists()


def test_sizes_beyond_the_limit_are_refused_before_the_long_work(run, weights, tmp_path, monkeypatch):
    from restyle.learn import gatys

    monkeypatch.setattr(gatys, "build_judge", None)
    write_image(tmp_path / "banner.png", np.zeros((2, 400, 3), np.uint8))
    words = ["--style", "wave", "--loss-weights", weights, "--variant", "vgg16", "-o", tmp_path / "o.png"]
    code, _, err = run("optimize", tmp_path / "banner.png", *words, "--limit-megapixels", "20")
    assert code == 6
    assert "512 x 102400 pixels" in err
    code, _, err = run("optimize", tmp_path / "banner.png", *words[:-1], tmp_path / "o.webp", "--size", 100)
    assert code == 3
    assert "WebP holds at most 16,383 pixels a side, got 100 x 20000" in err


def test_masks_are_read_as_those_of_restyle_image(tmp_path):
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[:2, :, 1:] = 255  # a bright colour without red
    mask[2:, :, :3] = 255  # white, but transparent
    write_image(tmp_path / "mask.png", mask)
    path = str(tmp_path / "mask.png")
    white, black = command._targets(["wave", "ink"], [path, f"not:{path}"], (8, 6), 10**6)
    assert np.array_equal(white.mask, read_mask(tmp_path / "mask.png", (8, 6)))
    assert white.mask[0, 0] > 127 > white.mask[7, 5]
    assert np.array_equal(black.mask, 255 - white.mask)


def test_an_evolution_as_a_video_lasts_as_long(tmp_path):
    av = pytest.importorskip("av")
    frames = [np.full((34, 47, 3), shade, np.uint8) for shade in range(0, 250, 25)]
    command._write_evolution(str(tmp_path / "e.mp4"), frames, overwrite=False)
    with av.open(str(tmp_path / "e.mp4")) as video:
        times = [frame.time for frame in video.decode(video=0)]
    assert times == pytest.approx([number / 10 for number in range(len(frames))])


def test_an_evolution_without_the_extra_says_what_is_missing(run, photo, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "restyle.video", None)
    write_image(tmp_path / "photo.png", photo)
    words = ["--style", "wave", "--loss-weights", weights, "-o", tmp_path / "o.png", "--evolution", tmp_path / "e.mp4"]
    code, _, err = run("optimize", tmp_path / "photo.png", *words)
    assert "pip install 'restyle[video]'" in err
    assert code


@pytest.mark.parametrize("steps", [1, 59, 60, 61, 119, 120, 300])
def test_an_evolution_has_a_bounded_number_of_frames(steps, monkeypatch):
    monkeypatch.setattr(Step, "pixels", lambda _: np.zeros((2, 2, 3), np.uint8))
    watched = command._Watcher(GatysSettings(), "e.gif", None, quiet=True)
    for number in range(1, steps + 1):
        watched.see(Step(number, (2, 2), 1.0, 1.0, 1.0, torch.zeros(())))
    moving = len(watched.frames()) - command.LAST_FRAMES
    assert min(steps, 30) <= moving <= command.EVOLUTION_FRAMES


def test_command_and_settings_have_the_same_defaults():
    options = inspect.signature(command.optimize).parameters
    for field in dataclasses.fields(GatysSettings):
        default = options[field.name].default
        if field.name == "style_layers":
            default = tuple(default.split(","))
        assert default == field.default, field.name
