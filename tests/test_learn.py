import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from restyle.errors import ModelFileError
from restyle.image import read_image, resize, write_image
from restyle.learn import record
from restyle.learn import train as training
from restyle.learn.objective import LossWeights
from restyle.nn.fast import FastStyleEncoder, FastStylizer
from restyle.nn.networks import Model
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
    def build():
        stylizer = FastStylizer(channels=8, blocks=1, stem=8, up=(8, 8))
        return Model(stylizer, FastStyleEncoder(8, stylizer.style_size, widths=(4,) * 6, mixtures=4, hidden=16))

    monkeypatch.setattr(training, "fast_model", build)


def settings(folders, loss_weights, output, **changes):
    options = {"steps": 8, "batch": 2, "pairings": 2, "side": 32, "threads": 1, "tensorboard": False, **changes}
    return training.TrainSettings(folders / "content", folders / "style", loss_weights, output, **options)


@pytest.mark.parametrize(("workers", "number"), [(0, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_stopped_and_resumed_run_is_the_same_run(folders, loss_weights, tmp_path, tiny, workers, number):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    options = {"steps": 20, "workers": workers, "accumulate": 2, "batch": 3, "pairings": 3}
    training.train(settings(folders, loss_weights, whole, **options))

    def stop(step, losses):
        if step == 10:
            for child in multiprocessing.active_children():
                os.kill(child.pid, number)  # as a terminal does, which signals the readers as well
            os.kill(os.getpid(), number)

    handler = signal.getsignal(signal.SIGINT)
    training.train(settings(folders, loss_weights, halves, **options), stop)
    assert signal.getsignal(signal.SIGINT) == handler
    stopped = training.load_checkpoint(halves / "checkpoint.pt")
    assert stopped["step"] == 10
    training.train(settings(folders, loss_weights, halves, **options))
    one, other = (training.load_checkpoint(folder / "checkpoint.pt") for folder in (whole, halves))
    assert one["step"] == other["step"] == 20
    assert other["seconds"] > stopped["seconds"] > 0
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
        assert torch.equal(one["averaged"][name], other["averaged"][name]), name
    assert (whole / "montage.png").exists()
    assert not list(whole.glob("*.part"))


def test_training_lowers_the_losses(folders, loss_weights, tmp_path, tiny):
    seen = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=60, reconstruction=1.0, rate=3e-3, warmup=10)
    training.train(run, lambda step, losses: seen.append(losses["pixels"]))
    assert np.mean(seen[-10:]) < 0.8 * np.mean(seen[:10])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert {"pixels", "features", "seconds"} <= lines[0].keys()


def test_style_steps_report_every_loss_and_move_both_networks(folders, loss_weights, tmp_path, tiny):
    seen = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=3, reconstruction=0.0)
    training.train(run, lambda step, losses: seen.append(losses))
    assert set(seen[1]) == {"content", "statistics", "between", "gram", "colour"}
    torch.manual_seed(run.seed)
    fresh = training.fast_model().state_dict()
    trained = training.load_checkpoint(tmp_path / "run" / "checkpoint.pt")["model"]
    still = [name for name in fresh if torch.equal(fresh[name], trained[name])]
    assert not still


def test_the_average_follows_the_weights_slowly_and_is_what_is_exported(folders, loss_weights, tmp_path, tiny):
    path = training.train(settings(folders, loss_weights, tmp_path / "run", reconstruction=1.0))
    state = training.load_checkpoint(path)
    torch.manual_seed(0)
    start = training.fast_model().state_dict()["stylizer.down1.weight"]
    trained, averaged = (state[kind]["stylizer.down1.weight"] for kind in ("model", "averaged"))
    assert 0 < (averaged - start).norm() < (trained - start).norm()
    exported, info = training.load_averaged(path)
    assert torch.equal(exported.stylizer.down1.weight, averaged)
    assert info["step"] == 8


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("cosine", 5e-4, 0), ("linear", 5e-4, 1e-6), ("constant", 1e-3, 1e-3)]
)
def test_the_rate_warms_up_and_follows_its_schedule(folders, loss_weights, tmp_path, tiny, schedule, middle, end):
    run = training.Run(settings(folders, loss_weights, tmp_path, steps=1000, rate=1e-3, schedule=schedule))
    rates = {}
    for step in (0, 99, 500, 999):
        run.step = step
        rates[step] = run.rate()
    assert rates[0] == pytest.approx(1e-5)
    assert rates[99] == pytest.approx(1e-3, rel=0.11)
    assert rates[500] == pytest.approx(middle)
    assert rates[999] == pytest.approx(end, abs=1e-7)


def test_the_rate_moves_the_weights_and_the_style_encoder_gets_its_share(folders, loss_weights, tmp_path, tiny):
    moved = {}
    for rate, share in ((0.0, 1.0), (1e-3, 0.0), (1e-3, 1.0)):
        run = training.Run(
            settings(folders, loss_weights, tmp_path / f"{rate}{share}", rate=rate, style_rate=share, warmup=0)
        )
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        run.advance(next(run.rounds()))
        changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
        moved[rate, share] = {name.split(".")[0] for name in changed}
    assert moved == {(0.0, 1.0): set(), (1e-3, 0.0): {"stylizer"}, (1e-3, 1.0): {"stylizer", "style_encoder"}}


def test_identity_steps_come_first_and_then_between(folders, loss_weights, tmp_path, tiny):
    kinds = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=14, reconstruction=0.2, identity_every=6)
    training.train(run, lambda step, losses: kinds.append("pixels" in losses))
    assert kinds == [True] * 3 + [False] * 3 + [True] + [False] * 5 + [True] + [False]


def test_one_step_cannot_throw_the_weights_far(folders, loss_weights, tmp_path, tiny):
    run = training.Run(settings(folders, loss_weights, tmp_path, reconstruction=1.0, clip=0.5))
    run.advance(next(run.rounds()))
    for network in (run.model.stylizer, run.model.style_encoder):
        gradients = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None])
        assert gradients.norm() <= 0.501


def test_a_batch_is_paired_in_several_ways_before_the_next_is_read(folders, loss_weights, tmp_path, tiny):
    run = training.Run(settings(folders, loss_weights, tmp_path, batch=3, pairings=2))
    rounds = run.rounds()
    (first,), (second,), (third,) = (next(rounds) for _ in range(3))
    assert torch.equal(first.content, second.content)
    assert torch.equal(first.style.roll(-1, 0), second.style)
    assert not torch.equal(first.content, third.content)
    # What the loss network saw moves along with the styles.
    again = run.objective.targets(second.content, second.style)
    for ours, theirs in zip(second.targets.grams, again.grams, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=1e-3)


def test_strength_nothing_is_learned_where_a_network_does_not_know_it(folders, loss_weights, tmp_path):
    losses = LossWeights(identity=0, photograph=2)
    run = training.Run(settings(folders, loss_weights, tmp_path, losses=losses, network="reference", half=False))
    (batch,) = next(run.rounds())
    weighted, _ = run.style_losses(batch)
    content = batch.content
    with torch.no_grad():
        back = run.model(content, content, torch.zeros(2, 1))
    torch.testing.assert_close(weighted["photograph_pixels"], 20 * (back - content).abs().mean(), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="photograph is for the reference network"):
        settings(folders, loss_weights, tmp_path, losses=losses)


def test_a_loss_of_no_weight_is_left_out(folders, loss_weights, tmp_path, tiny):
    kinds = []
    run = settings(folders, loss_weights, tmp_path, steps=8, reconstruction=0, losses=LossWeights(identity=0))
    training.train(run, lambda step, losses: kinds.append("pixels" in losses))
    assert not any(kinds)
    with pytest.raises(ValueError, match="at least one loss other than identity"):
        settings(
            folders,
            loss_weights,
            tmp_path,
            losses=LossWeights(**dict.fromkeys(vars(LossWeights()), 0) | {"identity": 1}),
        )


def test_what_grows_beyond_bounds_stops_the_run_and_is_not_saved(folders, loss_weights, tmp_path, tiny):
    with pytest.raises(ValueError, match=r"rate 1e\+30 let the gradients of step \d+ grow"):
        training.train(settings(folders, loss_weights, tmp_path / "run", rate=1e30, warmup=0, clip=1e30, half=False))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_settings_reach_the_pairs_and_the_losses(folders, loss_weights, tmp_path, tiny):
    options = {"scale": (0.5, 0.6), "exclude_style": ("0.png",), "relative_to": "both", "power": 1.0}
    run = training.Run(settings(folders, loss_weights, tmp_path, layers=(1, 2, 3, 4), **options))
    assert (run.pairs.scale, len(run.pairs.pictures[1])) == ((0.5, 0.6), 2)
    assert (run.objective.relative_to, run.objective.power, run.objective.layers) == ("both", 1.0, (1, 2, 3, 4))
    assert run.objective.judge.layers[0].padding_mode == "zeros"  # as VGG was trained, and as everybody judges


def test_accumulated_batches_are_one_larger_batch(folders, loss_weights, tmp_path, tiny):
    gradients = []
    for batch, accumulate in ((4, 1), (2, 2)):
        options = {"batch": batch, "accumulate": accumulate, "pairings": 1, "half": False, "clip": 1e9}
        run = training.Run(
            settings(folders, loss_weights, tmp_path / str(batch), reconstruction=0.0, identity_every=0, **options)
        )
        run.objective.weights = LossWeights(colour=0)  # whose random pixels differ
        run.advance(next(run.rounds()))
        gradients.append(torch.cat([p.grad.flatten() for p in run.trained]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3 * gradients[0].abs().max().item())


def test_a_stop_that_one_process_wants_is_a_stop_for_all(folders, loss_weights, tmp_path, tiny, monkeypatch):
    """The flag travels with the gradients; here the other process is played by a reduction that wants to stop."""
    run = training.Run(settings(folders, loss_weights, tmp_path))

    class Two:
        num_processes, process_index = 2, 0

        @staticmethod
        def reduce(flat, reduction):
            assert reduction == "mean"
            return (flat + torch.cat([flat[:-1], torch.ones(1)])) / 2

    monkeypatch.setattr(run, "accelerator", Two)
    monkeypatch.setattr(type(run), "rounds", lambda self: None)
    assert not run.stop_wanted
    for parameter in run.trained:
        parameter.grad = torch.ones_like(parameter)
    run._share_gradients(stop=False)
    assert run.stop_wanted
    assert all((parameter.grad == 1).all() for parameter in run.trained)


def test_a_run_can_begin_from_the_weights_of_another(folders, loss_weights, tmp_path, tiny):
    path = training.train(settings(folders, loss_weights, tmp_path / "one", reconstruction=1.0))
    run = training.Run(settings(folders, loss_weights, tmp_path / "two", start=path))
    averaged = training.load_checkpoint(path)["averaged"]
    assert run.step == 0
    for state in (run.model.state_dict(), run.averaged.state_dict()):
        assert all(torch.equal(value, averaged[name]) for name, value in state.items())


def test_the_reference_network_trains_its_decoder_only(folders, loss_weights, tmp_path):
    run = training.Run(settings(folders, loss_weights, tmp_path, network="reference", warmup=0))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    rounds = run.rounds()
    assert "pixels" in run.advance(next(rounds))
    run.step = 1
    assert "statistics" in run.advance(next(rounds))
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("stylizer.decoder")}
    path = run.save()
    model, info = training.load_averaged(path)
    assert info["network"] == "reference"
    content = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert model(content, content, torch.ones(1, 1)).shape == content.shape


def test_the_record_shows_the_way(folders, loss_weights, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(record, "HELD_OUT_SIDE", 32)
    pictures = {"validation_content": folders / "content", "validation_style": folders / "style"}
    run = settings(folders, loss_weights, tmp_path / "run", tensorboard=True, **pictures)
    training.train(run)
    training.train(settings(folders, loss_weights, tmp_path / "run", tensorboard=True, steps=40, **pictures))
    assert sorted(path.name for path in (tmp_path / "run" / "progress").glob("*")) == ["0000008.png", "0000040.png"]
    assert read_image(tmp_path / "run" / "montage.png").pixels.shape == (4 * 32, 4 * 32, 3)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    validation = [line["validation"] for line in lines if "validation" in line]
    assert len(validation) == 2
    assert {"content", "gram", "colour", "statistics/relu4_1"} <= set(validation[0])
    events = EventAccumulator(str(tmp_path / "run" / "events"))
    events.Reload()
    tags = events.Tags()
    assert [event.step for event in events.Scalars("loss/gram")] == sorted(
        {event.step for event in events.Scalars("loss/gram")}
    )
    assert {"loss/gram", "unweighted/statistics/relu1_1", "run/rate", "run/gradient/stylizer", "pull/colour"} <= set(
        tags["scalars"]
    )
    assert tags["images"] == ["painted"]
    assert tags["tensors"] == ["settings/text_summary"]


def test_only_reconstruction_needs_no_artworks(folders, loss_weights, tmp_path, tiny):
    run = settings(folders, loss_weights, tmp_path / "run", reconstruction=1.0)
    training.train(dataclasses.replace(run, style=None, tensorboard=True))
    assert (tmp_path / "run" / "montage.png").exists()
    with pytest.raises(ValueError, match="reconstruction is 1"):
        dataclasses.replace(run, style=None, reconstruction=0.5)


def test_two_processes_do_what_one_does_with_the_batches_of_both(folders, loss_weights, tmp_path):
    """Runs the real launcher. The gradients of both are averaged: but for rounding, both ways lead to one result."""
    program = [Path(__file__).parent / "train_tiny.py", *map(str, (folders, loss_weights, tmp_path))]
    # With --cpu the launcher would start one process only, unless there is MPI; --multi_gpu is torch's own launcher.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--num_processes=2"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no"]
    for name, batch, launcher in (("one", "4", []), ("two", "2", launch), ("half", "2", [])):
        command = [sys.executable, *launcher, *program, name, batch]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    states = {name: training.load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("one", "two", "half")}
    assert {state["step"] for state in states.values()} == {6}
    one, two, half = (torch.cat([v.flatten() for v in state["model"].values()]) for state in states.values())
    assert (one - two).norm() < 0.2 * (one - half).norm()


def test_a_failed_save_leaves_the_last_checkpoint_whole(folders, loss_weights, tmp_path, tiny, monkeypatch):
    run = training.Run(settings(folders, loss_weights, tmp_path))
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
    for name, value in {"seed": 1, "optimiser": "adamw", "scale": (0.5, 1.0), "accumulate": 2}.items():
        with pytest.raises(ModelFileError, match=f"was made with {name} .*; choose another folder"):
            training.train(settings(folders, loss_weights, tmp_path / "run", steps=2, **{name: value}))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match="cannot be the folder of a run"):
        training.train(settings(folders, loss_weights, tmp_path / "file"))


def test_long_runs_save_themselves_on_the_way(folders, loss_weights, tmp_path, tiny, monkeypatch):
    clock = iter(range(0, 10_000_000, 100))  # every look at the clock is 100 s later
    monkeypatch.setattr(training.time, "monotonic", lambda: next(clock))
    saved = []
    real = training.Run.save
    monkeypatch.setattr(training.Run, "save", lambda run: saved.append(run.step) or real(run))
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
        ({"device": "tpu"}, "device must be one of cpu, cuda, got 'tpu'"),
        ({"optimiser": "sgd"}, "optimiser must be one of muon, adamw"),
        ({"layers": (1, 1)}, "layers must be four weights"),
        ({"pairings": 3}, "got 3 pairings of a batch of 2"),
        ({"validation_content": Path("x")}, "given together"),
        ({"seed": -1}, "seed must lie in"),
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


def test_a_run_that_starts_anew_forgets_what_its_folder_told(folders, loss_weights, tmp_path, tiny):
    run = settings(folders, loss_weights, tmp_path / "run")
    training.train(run)
    (tmp_path / "run" / "checkpoint.pt").unlink()
    (tmp_path / "run" / "progress" / "best.png").write_bytes(b"somebody's own")
    training.train(dataclasses.replace(run, side=48, steps=4))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4]
    assert sorted(path.name for path in (tmp_path / "run" / "progress").iterdir()) == ["0000004.png", "best.png"]
    before = (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns
    training.train(dataclasses.replace(run, side=48, steps=4))  # nothing is left to do
    assert (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns == before
