"""A whole training: how it stops, goes on and is recorded, and its checkpoints."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from restyle.errors import ModelFileError
from restyle.image import read_image
from restyle.learn import checkpoints, record
from restyle.learn.checkpoints import load_averaged, load_checkpoint
from restyle.learn.run import Run
from restyle.learn.train import train
from runs import settings

pytestmark = pytest.mark.torch


@pytest.mark.parametrize(("workers", "number"), [(0, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_stopped_and_resumed_run_is_the_same_run(folders, loss_weights, tmp_path, tiny, workers, number):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    options = {"steps": 20, "workers": workers, "accumulate": 2, "batch": 3, "pairings": 3}
    train(settings(folders, loss_weights, whole, **options))

    def stop(step, losses):
        if step == 10:
            for child in multiprocessing.active_children():
                os.kill(child.pid, number)  # as a terminal does, which signals the readers as well
            os.kill(os.getpid(), number)

    handler = signal.getsignal(signal.SIGINT)
    train(settings(folders, loss_weights, halves, **options), stop)
    assert signal.getsignal(signal.SIGINT) == handler
    stopped = load_checkpoint(halves / "checkpoint.pt")
    assert stopped["step"] == 10
    train(settings(folders, loss_weights, halves, **options))
    one, other = (load_checkpoint(folder / "checkpoint.pt") for folder in (whole, halves))
    assert one["step"] == other["step"] == 20
    assert other["seconds"] > stopped["seconds"] > 0
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
        assert torch.equal(one["averaged"][name], other["averaged"][name]), name
    assert (whole / "montage.png").exists()
    assert not list(whole.glob("*.part"))


def test_the_average_follows_the_weights_slowly_and_is_what_is_exported(folders, loss_weights, tmp_path, tiny):
    path = train(settings(folders, loss_weights, tmp_path / "run", reconstruction=1.0))
    state = load_checkpoint(path)
    torch.manual_seed(0)
    start = checkpoints.fast_model().state_dict()["stylizer.down1.weight"]
    trained, averaged = (state[kind]["stylizer.down1.weight"] for kind in ("model", "averaged"))
    assert 0 < (averaged - start).norm() < (trained - start).norm()
    exported, info = load_averaged(path)
    assert torch.equal(exported.stylizer.down1.weight, averaged)
    assert info["step"] == 8


def test_a_run_can_begin_from_the_weights_of_another(folders, loss_weights, tmp_path, tiny):
    path = train(settings(folders, loss_weights, tmp_path / "one", reconstruction=1.0))
    run = Run(settings(folders, loss_weights, tmp_path / "two", start=path))
    averaged = load_checkpoint(path)["averaged"]
    assert run.step == 0
    for state in (run.model.state_dict(), run.averaged.state_dict()):
        assert all(torch.equal(value, averaged[name]) for name, value in state.items())


def test_the_record_shows_the_way(folders, loss_weights, tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(record, "HELD_OUT_SIDE", 32)
    pictures = {"validation_content": folders / "content", "validation_style": folders / "style"}
    run = settings(folders, loss_weights, tmp_path / "run", tensorboard=True, **pictures)
    train(run)
    train(settings(folders, loss_weights, tmp_path / "run", tensorboard=True, steps=40, **pictures))
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


def test_two_processes_do_what_one_does_with_the_batches_of_both(folders, loss_weights, tmp_path):
    """Runs the real launcher. The gradients of both are averaged: but for rounding, both ways lead to one result."""
    program = [Path(__file__).parent / "train_tiny.py", *map(str, (folders, loss_weights, tmp_path))]
    # With --cpu the launcher would start one process only, unless there is MPI; --multi_gpu is torch's own launcher.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--num_processes=2"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no"]
    for name, batch, launcher in (("one", "4", []), ("two", "2", launch), ("half", "2", [])):
        command = [sys.executable, *launcher, *program, name, batch]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    states = {name: load_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("one", "two", "half")}
    assert {state["step"] for state in states.values()} == {6}
    one, two, half = (torch.cat([v.flatten() for v in state["model"].values()]) for state in states.values())
    assert (one - two).norm() < 0.2 * (one - half).norm()


def test_a_failed_save_leaves_the_last_checkpoint_whole(folders, loss_weights, tmp_path, tiny, monkeypatch):
    run = Run(settings(folders, loss_weights, tmp_path))
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
    train(settings(folders, loss_weights, tmp_path / "run", steps=1))
    for name, value in {"seed": 1, "optimiser": "adamw", "scale": (0.5, 1.0), "accumulate": 2}.items():
        with pytest.raises(ModelFileError, match=f"was made with {name} .*; choose another folder"):
            train(settings(folders, loss_weights, tmp_path / "run", steps=2, **{name: value}))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match="cannot be the folder of a run"):
        train(settings(folders, loss_weights, tmp_path / "file"))


def test_long_runs_save_themselves_on_the_way(folders, loss_weights, tmp_path, tiny, monkeypatch):
    clock = iter(range(0, 10_000_000, 100))  # every look at the clock is 100 s later
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    saved = []
    real = Run.save
    monkeypatch.setattr(Run, "save", lambda run: saved.append(run.step) or real(run))
    train(settings(folders, loss_weights, tmp_path / "run", steps=6))
    assert len(saved) > 2
    assert saved[0] < 6


def test_max_minutes_stops_cleanly(folders, loss_weights, tmp_path, tiny):
    path = train(settings(folders, loss_weights, tmp_path / "run", steps=10_000, max_minutes=0.02))
    assert 0 < load_checkpoint(path)["step"] < 10_000


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"junk")
    torch.save({"model": 1}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt", "missing.pt"):
        with pytest.raises(ModelFileError, match=name):
            load_checkpoint(tmp_path / name)


def test_checkpoints_of_another_architecture_are_refused(folders, loss_weights, tmp_path, tiny, monkeypatch):
    path = train(settings(folders, loss_weights, tmp_path / "run", steps=1))
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="another architecture"):
        load_averaged(path)
    with pytest.raises(ModelFileError, match="another architecture"):
        train(settings(folders, loss_weights, tmp_path / "run", steps=2))


def test_a_run_that_starts_anew_forgets_what_its_folder_told(folders, loss_weights, tmp_path, tiny):
    run = settings(folders, loss_weights, tmp_path / "run")
    train(run)
    (tmp_path / "run" / "checkpoint.pt").unlink()
    (tmp_path / "run" / "progress" / "best.png").write_bytes(b"somebody's own")
    train(dataclasses.replace(run, side=48, steps=4))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4]
    assert sorted(path.name for path in (tmp_path / "run" / "progress").iterdir()) == ["0000004.png", "best.png"]
    before = (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns
    train(dataclasses.replace(run, side=48, steps=4))  # nothing is left to do
    assert (tmp_path / "run" / "checkpoint.pt").stat().st_mtime_ns == before
