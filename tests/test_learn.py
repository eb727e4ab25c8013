import json
import logging
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from restyle.errors import ImageError, ModelFileError
from restyle.image import resize, write_image
from restyle.learn import train as training
from restyle.learn.datasets import RandomPairs, find_pictures, random_crop
from restyle.nn.networks import FastModel, FastStyleEncoder, FastStylizer
from restyle.nn.pretrained import VggEncoder

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for kind in ("content", "style"):
        (root / kind / "deep").mkdir(parents=True)
        for number, place in enumerate((".", "deep", "deep")):
            coarse = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            write_image(root / kind / place / f"{number}.png", resize(coarse, (50 + 9 * number, 60)))
    (root / "content" / "notes.txt").write_text("not a picture")
    return root


@pytest.fixture(scope="module")
def loss_weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vgg16.safetensors"
    state = VggEncoder("vgg16").state_dict()
    save_file({name.replace("layers.", "features."): value for name, value in state.items()}, path)
    return path


@pytest.fixture
def tiny(monkeypatch):
    def build(self):
        torch.nn.Module.__init__(self)
        self.stylizer = FastStylizer(channels=8, blocks=1, stem=8, up=(8, 8))
        self.style_encoder = FastStyleEncoder(8, self.stylizer.style_size, widths=(4, 4, 4, 4, 4), hidden=8)

    monkeypatch.setattr(FastModel, "__init__", build)


def settings(folders, loss_weights, output, **changes):
    options = {"steps": 8, "batch": 2, "side": 32, "threads": 1, **changes}
    return training.TrainSettings(folders / "content", folders / "style", loss_weights, output, **options)


def test_pictures_are_found_at_any_depth(folders):
    assert [path.name for path in find_pictures(folders / "content")] == ["0.png", "1.png", "2.png"]
    with pytest.raises(ImageError, match="not a folder"):
        find_pictures(folders / "nowhere")
    (folders / "empty").mkdir()
    with pytest.raises(ImageError, match="holds no pictures"):
        find_pictures(folders / "empty")


def test_pairs_depend_on_seed_and_number_alone(folders):
    pairs, again, other = (RandomPairs(folders / "content", folders / "style", side=32, seed=s) for s in (3, 3, 4))
    expected = [pairs[number] for number in range(6)]
    for number in (5, 2):
        assert all(torch.equal(one, same) for one, same in zip(again[number], expected[number], strict=True))
    assert not all(torch.equal(other[number][0], expected[number][0]) for number in range(6))
    assert expected[0][0].shape == (3, 32, 32)
    assert expected[0][0].dtype == torch.uint8


def test_crops_vary_in_place_size_and_side():
    ramp = np.zeros((100, 150, 3), np.uint8)
    ramp[:, :, 0], ramp[:, :, 1] = np.arange(150), np.arange(100)[:, None]
    random = np.random.default_rng(0)
    corners = []
    for _ in range(60):
        crop = random_crop(ramp, 32, random).astype(int)
        assert crop.shape == (32, 32, 3)
        direction = np.sign(crop[0, -1, 0] - crop[0, 0, 0])
        corners.append((crop[0, :, 0].min(), crop[:, 0, 1].min(), np.ptp(crop[:, 0, 1]), direction))
    left, top, height, direction = map(np.array, zip(*corners, strict=True))
    assert np.ptp(left) > 40
    assert np.ptp(top) > 20
    assert height.min() < 55
    assert height.max() > 85
    assert set(direction) == {-1, 1}


def test_broken_pictures_are_reported_once_and_skipped(folders, tmp_path, caplog):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    write_image(tmp_path / "good.png", np.zeros((40, 40, 3), np.uint8))
    pairs = RandomPairs(tmp_path, folders / "style", side=32)
    with caplog.at_level(logging.WARNING):
        for number in range(12):
            assert pairs[number][0].max() == 0
    assert len(caplog.records) == 1
    assert "broken.jpg" in caplog.text
    (tmp_path / "good.png").unlink()
    (tmp_path / "broken2.jpg").write_bytes(b"no picture")
    pairs = RandomPairs(folders / "style", tmp_path, side=32)
    for _ in range(2):  # also when all are known to be broken already
        with pytest.raises(ImageError, match="none of the 2 pictures"):
            pairs[0]
    with pytest.raises(ImageError, match="none of the 2 pictures"):
        RandomPairs(tmp_path, folders / "style", side=32)[0]


@pytest.mark.parametrize(("workers", "number"), [(0, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_stopped_and_resumed_run_is_the_same_run(folders, loss_weights, tmp_path, tiny, workers, number):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    training.train(settings(folders, loss_weights, whole, workers=workers))

    def stop(step, losses):
        if step == 3:
            for child in multiprocessing.active_children():
                os.kill(child.pid, number)  # as a terminal does, which signals the readers as well
            os.kill(os.getpid(), number)

    handler = signal.getsignal(signal.SIGINT)
    training.train(settings(folders, loss_weights, halves, workers=workers), stop)
    assert signal.getsignal(signal.SIGINT) == handler
    stopped = training.load_checkpoint(halves / "checkpoint.pt")
    assert stopped["step"] == 3
    training.train(settings(folders, loss_weights, halves, workers=workers))
    one, other = (training.load_checkpoint(folder / "checkpoint.pt") for folder in (whole, halves))
    assert one["step"] == other["step"] == 8
    assert other["seconds"] > stopped["seconds"] > 0
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
        assert torch.equal(one["averaged"][name], other["averaged"][name]), name
    assert (whole / "preview.png").exists()
    assert not list(whole.glob("*.part"))


def test_training_lowers_the_losses(folders, loss_weights, tmp_path, tiny):
    seen = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=60, reconstruction=1.0, rate=3e-3)
    training.train(run, lambda step, losses: seen.append(losses["pixels"]))
    assert np.mean(seen[-10:]) < 0.8 * np.mean(seen[:10])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert {"pixels", "features", "seconds"} <= lines[0].keys()


def test_style_steps_report_every_loss_and_move_both_networks(folders, loss_weights, tmp_path, tiny):
    seen = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=3, reconstruction=0.0)
    training.train(run, lambda step, losses: seen.append(losses))
    assert set(seen[1]) == {"content", "style", "gram", "colour"}
    torch.manual_seed(run.seed)
    fresh, trained = FastModel().state_dict(), training.load_checkpoint(tmp_path / "run" / "checkpoint.pt")["model"]
    still = [name for name in fresh if torch.equal(fresh[name], trained[name])]
    assert not still


def test_the_average_follows_the_weights_slowly_and_is_what_is_exported(folders, loss_weights, tmp_path, tiny):
    path = training.train(settings(folders, loss_weights, tmp_path / "run", reconstruction=1.0))
    state = training.load_checkpoint(path)
    torch.manual_seed(0)
    start = FastModel().state_dict()["stylizer.down1.weight"]
    trained, averaged = (state[kind]["stylizer.down1.weight"] for kind in ("model", "averaged"))
    assert 0 < (averaged - start).norm() < (trained - start).norm()
    exported, info = training.load_averaged(path)
    assert torch.equal(exported.stylizer.down1.weight, averaged)
    assert info["step"] == 8


def test_the_rate_warms_up_and_falls_to_nothing(folders, loss_weights, tmp_path, tiny):
    run = training._Run(settings(folders, loss_weights, tmp_path, steps=1000, rate=1e-3))
    pictures = torch.rand(2, 3, 32, 32)
    rates = {}
    for step in (0, 99, 500, 999):
        run.step = step
        run.advance(pictures, pictures)
        rates[step] = run.optimiser.param_groups[0]["lr"]
    assert rates[0] == pytest.approx(1e-5)
    assert rates[99] == pytest.approx(1e-3, rel=0.05)
    assert rates[500] == pytest.approx(5e-4)
    assert rates[999] < 1e-7


def test_steps_alternate_between_style_and_reconstruction(folders, loss_weights, tmp_path, tiny):
    kinds = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=14, reconstruction=0.2)
    training.train(run, lambda step, losses: kinds.append("pixels" in losses))
    assert kinds == [True] * 3 + [False] * 3 + [True] + [False] * 5 + [True] + [False]


def test_one_step_cannot_throw_the_weights_far(folders, loss_weights, tmp_path, tiny):
    run = training._Run(settings(folders, loss_weights, tmp_path, reconstruction=1.0))
    run.advance(torch.rand(2, 3, 32, 32) * 1e4, torch.rand(2, 3, 32, 32))
    gradients = torch.stack([p.grad.norm() for p in run.model.parameters() if p.grad is not None])
    assert gradients.norm() <= 5.01


def test_a_failed_save_leaves_the_last_checkpoint_whole(folders, loss_weights, tmp_path, tiny, monkeypatch):
    run = training._Run(settings(folders, loss_weights, tmp_path))
    path = run.save()
    before = path.read_bytes()

    def half(state, target):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        run.save()
    assert path.read_bytes() == before


def test_a_run_is_not_continued_with_other_pairs(folders, loss_weights, tmp_path, tiny):
    training.train(settings(folders, loss_weights, tmp_path / "run", steps=1))
    with pytest.raises(ModelFileError, match="was made with seed 0, not 1"):
        training.train(settings(folders, loss_weights, tmp_path / "run", steps=2, seed=1))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match="cannot be the folder of a run"):
        training.train(settings(folders, loss_weights, tmp_path / "file"))


def test_long_runs_save_themselves_on_the_way(folders, loss_weights, tmp_path, tiny, monkeypatch):
    clock = iter(range(0, 10_000_000, 100))  # every look at the clock is 100 s later
    monkeypatch.setattr(training.time, "monotonic", lambda: next(clock))
    saved = []
    real = training._Run.save
    monkeypatch.setattr(training._Run, "save", lambda run: saved.append(run.step) or real(run))
    training.train(settings(folders, loss_weights, tmp_path / "run", steps=6))
    assert len(saved) > 2
    assert saved[0] < 6


def test_max_minutes_stops_cleanly(folders, loss_weights, tmp_path, tiny):
    path = training.train(settings(folders, loss_weights, tmp_path / "run", steps=10_000, max_minutes=0.02))
    assert 0 < training.load_checkpoint(path)["step"] < 10_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"average": 1.5}, "average"),
        ({"side": 8}, "side"),
        ({"max_minutes": float("nan")}, "max_minutes"),
        ({"device": "tpu"}, "device must be cpu or cuda"),
    ],
)
def test_impossible_settings_are_refused(folders, loss_weights, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        settings(folders, loss_weights, tmp_path, **changes)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"junk")
    torch.save({"model": 1}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt", "missing.pt"):
        with pytest.raises(ModelFileError, match=name):
            training.load_checkpoint(tmp_path / name)


def test_checkpoints_of_another_architecture_are_refused(folders, loss_weights, tmp_path, tiny, monkeypatch):
    path = training.train(settings(folders, loss_weights, tmp_path / "run", steps=1))
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="another architecture"):
        training.load_averaged(path)
    with pytest.raises(ModelFileError, match="another architecture"):
        training.train(settings(folders, loss_weights, tmp_path / "run", steps=2))
