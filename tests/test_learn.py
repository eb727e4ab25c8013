"""What is done in the steps of a training, and by which settings."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from restyle.learn import checkpoints
from restyle.learn.checkpoints import load_averaged, load_checkpoint
from restyle.learn.objective import LossWeights
from restyle.learn.run import Run
from restyle.learn.train import train
from runs import settings

pytestmark = pytest.mark.torch


def test_training_lowers_the_losses(folders, loss_weights, tmp_path, tiny):
    seen = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=60, reconstruction=1.0, rate=3e-3, warmup=10)
    train(run, lambda step, losses: seen.append(losses["pixels"]))
    assert np.mean(seen[-10:]) < 0.8 * np.mean(seen[:10])
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert {"pixels", "features", "seconds"} <= lines[0].keys()


def test_style_steps_report_every_loss_and_move_both_networks(folders, loss_weights, tmp_path, tiny):
    seen = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=3, reconstruction=0.0)
    train(run, lambda step, losses: seen.append(losses))
    assert set(seen[1]) == {"content", "statistics", "between", "gram", "colour"}
    torch.manual_seed(run.seed)
    fresh = checkpoints.fast_model().state_dict()
    trained = load_checkpoint(tmp_path / "run" / "checkpoint.pt")["model"]
    still = [name for name in fresh if torch.equal(fresh[name], trained[name])]
    assert not still


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("cosine", 5e-4, 0), ("linear", 5e-4, 1e-6), ("constant", 1e-3, 1e-3)]
)
def test_the_rate_warms_up_and_follows_its_schedule(folders, loss_weights, tmp_path, tiny, schedule, middle, end):
    run = Run(settings(folders, loss_weights, tmp_path, steps=1000, rate=1e-3, schedule=schedule))
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
        run = Run(settings(folders, loss_weights, tmp_path / f"{rate}{share}", rate=rate, style_rate=share, warmup=0))
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        run.advance(next(run.rounds()))
        changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
        moved[rate, share] = {name.split(".")[0] for name in changed}
    assert moved == {(0.0, 1.0): set(), (1e-3, 0.0): {"stylizer"}, (1e-3, 1.0): {"stylizer", "style_encoder"}}


def test_identity_steps_come_first_and_then_between(folders, loss_weights, tmp_path, tiny):
    kinds = []
    run = settings(folders, loss_weights, tmp_path / "run", steps=14, reconstruction=0.2, identity_every=6)
    train(run, lambda step, losses: kinds.append("pixels" in losses))
    assert kinds == [True] * 3 + [False] * 3 + [True] + [False] * 5 + [True] + [False]


def test_one_step_cannot_throw_the_weights_far(folders, loss_weights, tmp_path, tiny):
    run = Run(settings(folders, loss_weights, tmp_path, reconstruction=1.0, clip=0.5))
    run.advance(next(run.rounds()))
    for network in (run.model.stylizer, run.model.style_encoder):
        gradients = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None])
        assert gradients.norm() <= 0.501


def test_a_batch_is_paired_in_several_ways_before_the_next_is_read(folders, loss_weights, tmp_path, tiny):
    run = Run(settings(folders, loss_weights, tmp_path, batch=3, pairings=2))
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
    run = Run(settings(folders, loss_weights, tmp_path, losses=losses, network="reference", half=False))
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
    train(run, lambda step, losses: kinds.append("pixels" in losses))
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
        train(settings(folders, loss_weights, tmp_path / "run", rate=1e30, warmup=0, clip=1e30, half=False))
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_settings_reach_the_pairs_and_the_losses(folders, loss_weights, tmp_path, tiny):
    options = {"scale": (0.5, 0.6), "exclude_style": ("0.png",), "relative_to": "both", "power": 1.0}
    run = Run(settings(folders, loss_weights, tmp_path, layers=(1, 2, 3, 4), **options))
    assert (run.pairs.scale, len(run.pairs.pictures[1])) == ((0.5, 0.6), 2)
    assert (run.objective.relative_to, run.objective.power, run.objective.layers) == ("both", 1.0, (1, 2, 3, 4))
    assert run.objective.judge.layers[0].padding_mode == "zeros"  # as VGG was trained, and as everybody judges


def test_accumulated_batches_are_one_larger_batch(folders, loss_weights, tmp_path, tiny):
    gradients = []
    for batch, accumulate in ((4, 1), (2, 2)):
        options = {"batch": batch, "accumulate": accumulate, "pairings": 1, "half": False, "clip": 1e9}
        run = Run(
            settings(folders, loss_weights, tmp_path / str(batch), reconstruction=0.0, identity_every=0, **options)
        )
        run.objective.weights = LossWeights(colour=0)  # whose random pixels differ
        run.advance(next(run.rounds()))
        gradients.append(torch.cat([p.grad.flatten() for p in run.trained]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3 * gradients[0].abs().max().item())


def test_a_stop_that_one_process_wants_is_a_stop_for_all(folders, loss_weights, tmp_path, tiny, monkeypatch):
    """The flag travels with the gradients; here the other process is played by a reduction that wants to stop."""
    run = Run(settings(folders, loss_weights, tmp_path))

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


def test_the_reference_network_trains_its_decoder_only(folders, loss_weights, tmp_path):
    run = Run(settings(folders, loss_weights, tmp_path, network="reference", warmup=0))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    rounds = run.rounds()
    assert "pixels" in run.advance(next(rounds))
    run.step = 1
    assert "statistics" in run.advance(next(rounds))
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("stylizer.decoder")}
    path = run.save()
    model, info = load_averaged(path)
    assert info["network"] == "reference"
    content = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert model(content, content, torch.ones(1, 1)).shape == content.shape


def test_only_reconstruction_needs_no_artworks(folders, loss_weights, tmp_path, tiny):
    run = settings(folders, loss_weights, tmp_path / "run", reconstruction=1.0)
    train(dataclasses.replace(run, style=None, tensorboard=True))
    assert (tmp_path / "run" / "montage.png").exists()
    with pytest.raises(ValueError, match="reconstruction is 1"):
        dataclasses.replace(run, style=None, reconstruction=0.5)


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
