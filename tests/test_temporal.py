"""Calm: standing pictures stand, moving ones flicker less, and nothing of one scene is seen in the next."""

import itertools

import numpy as np
import pytest

from clips import panned
from restyle.errors import ShapeError
from restyle.video.flicker import FlickerMeter, measure_flicker
from restyle.video.pipeline import Look
from restyle.video.temporal import CALM, Blender, Motion, MotionFinder, Statistics

SIZE = (96, 144)


def noisy(frames, seed=0, deviation=2.0):
    random = np.random.default_rng(seed)
    return [np.clip(np.rint(f + random.normal(0, deviation, f.shape)), 0, 255).astype(np.uint8) for f in frames]


def stylized(frames, model, style, calm):
    find, blend, statistics = MotionFinder(calm), Blender(calm), Statistics(calm)
    results = []
    for pixels in frames:
        content, motion = find(pixels) if calm else (pixels, None)
        if motion is None:
            statistics.restart()
        painted, own = model.paint(content[None], style, statistics=statistics.mean)
        statistics.add(own[0])
        results.append(blend(painted[0], motion))
    return results


def change(frames):
    return np.mean([np.abs(b.astype(int) - a).mean() for a, b in itertools.pairwise(frames)])


def flicker(contents, frames):
    meter = FlickerMeter()
    for content, painted in zip(contents, frames, strict=True):
        meter.add(content, painted)
    return meter


def test_a_standing_picture_stands(model, mosaic):
    frames = noisy(panned(1, SIZE) * 14)
    plain, calm = (stylized(frames, model, mosaic, one)[4:] for one in (0, CALM))
    assert change(plain) > 1.5
    assert change(calm) < 0.75
    edges = [np.concatenate([one[0], one[-1], one[:, 0], one[:, -1]]) for one in calm]
    assert change(edges) < 2.2 * change(calm)  # 1.0 to 1.7; 3.3 where noise moves strokes out of the picture


def test_a_moving_picture_flickers_less_and_keeps_its_strokes(model, wave):
    frames = noisy(panned(12, SIZE, step=2))
    plain, calm = (stylized(frames, model, wave, one) for one in (0, CALM))
    before, after = flicker(frames, plain), flicker(frames, calm)
    assert before.input == after.input < before.output
    assert after.output - after.input < 0.4 * (before.output - before.input)

    for distance in (1, 4):  # fine strokes and wide ones
        assert contrast(calm, distance) > 0.98 * contrast(plain, distance)


def contrast(pictures, distance=1):
    """How much points of one row differ, some frames into the clip."""
    return np.mean([np.abs(one[:, distance:].astype(int) - one[:, :-distance]).mean() for one in pictures[4:]])


def test_a_scene_does_not_turn_soft_all_at_once(model, wave):
    frames = noisy(panned(8, SIZE, step=2))
    plain, calm = (stylized(frames, model, wave, one) for one in (0, CALM))
    apart = [np.abs(one.astype(int) - other).mean() for one, other in zip(plain, calm, strict=True)]
    assert apart[0] == 0
    assert 0 < apart[1] < 0.85 * max(apart)


def test_calm_zero_changes_nothing(model, wave):
    frames = noisy(panned(3, SIZE))
    for pixels, result in zip(frames, stylized(frames, model, wave, 0), strict=True):
        assert np.array_equal(result, model.paint(pixels[None], wave)[0][0])


def test_a_new_scene_begins_afresh(model, wave):
    frames = panned(4, SIZE) + panned(4, SIZE, name="astronaut")
    find = MotionFinder(CALM)
    assert [find(pixels)[1] is None for pixels in frames] == [True, False, False, False, True, False, False, False]
    results = stylized(frames, model, wave, CALM)
    assert np.array_equal(results[4], model.paint(frames[4][None], wave)[0][0])  # nothing of the last scene in it


def test_flashes_and_sizes_begin_a_scene():
    find = MotionFinder(CALM)
    (picture,) = panned(1, SIZE)
    assert find(picture)[1] is None
    assert find(255 - picture)[1] is None
    assert find(picture[:64])[1] is None
    assert find(picture[:64])[1] is not None


def test_motion_is_found_where_it_is():
    # A bright square wanders over a standing photograph.
    (ground,) = panned(1, (128, 192))
    frames = []
    for step in range(6):
        frame = ground.copy()
        frame[40:80, 20 + 6 * step : 60 + 6 * step] = (250, 240, 60)
        frame[50:70, 30 + 6 * step : 50 + 6 * step] = (180, 20, 20)
        frames.append(frame)
    find = MotionFinder(CALM)
    motions = [find(frame)[1] for frame in frames]
    last = motions[-1]
    left = 20 + 6 * 5
    assert np.abs(last.flow[90:, 100:]).max() < 0.5
    assert last.flow[55:65, left + 15 : left + 25, 0].mean() == pytest.approx(-6, abs=1.5)
    assert last.trust[100:, 100:].mean() > 200


@pytest.mark.parametrize(("step", "least", "most"), [(2, 240, 255), (20, 120, 180)])
def test_what_runs_by_is_trusted_less(step, least, most):
    find = MotionFinder(CALM)
    motions = [find(frame)[1] for frame in panned(4, SIZE, step=step)]
    assert least < np.median(motions[-1].trust) <= most


def test_no_ghost_stays_behind():
    (ground,) = panned(1, (128, 192))
    find, blend = MotionFinder(CALM), Blender(CALM)
    for step in range(8):
        frame = ground.copy()
        frame[40:80, 10 + 12 * step : 50 + 12 * step] = (250, 240, 60)
        result = blend(frame, find(frame)[1])  # what is painted is the frame itself
    behind = slice(40, 80), slice(10, 10 + 12 * 7 - 6)
    assert np.abs(result[behind].astype(int) - ground[behind]).mean() < 6


def test_what_enters_from_outside_is_not_smeared():
    frames = panned(6, SIZE, step=9)
    find, blend = MotionFinder(CALM), Blender(CALM)
    for frame in frames:
        motion = find(frame)[1]
        result = blend(frame, motion)
    assert motion.trust[:, -6:].mean() < 40
    assert np.abs(result[:, -6:].astype(int) - frames[-1][:, -6:]).mean() < 8


def test_statistics_follow_slowly_and_forget_at_once():
    statistics = Statistics(0.8)
    assert statistics.mean is None
    for value in (1.0, 1.0, 1.1):
        statistics.add(np.full(4, value, np.float32))
    assert statistics.mean == pytest.approx(1.02)
    statistics.add(np.full(4, 2, np.float32))  # nobody has said so, but that is another scene
    assert statistics.mean == pytest.approx(2)
    statistics.restart()
    assert statistics.mean is None


def test_the_meter_knows_flicker_from_motion():
    frames = panned(6, SIZE, step=2)
    still = flicker(frames, frames)
    assert still.output == still.input
    flashing = [np.clip(f.astype(int) + (20 if i % 2 else 0), 0, 255).astype(np.uint8) for i, f in enumerate(frames)]
    assert 15 < flicker(frames, flashing).output < 25
    stuck = flicker(frames, [frames[0]] * len(frames))
    assert stuck.output > 2 * still.output  # paint on the lens is not calm
    with pytest.raises(ShapeError):
        FlickerMeter().add(frames[0], frames[0][1:])
    assert FlickerMeter().output == 0


def test_flicker_is_measured_in_one_call(model, wave):
    frames = noisy(panned(8, SIZE, step=2))
    plain, calm = (measure_flicker(model, frames, Look(wave, calm=one)) for one in (0, CALM))
    assert plain.frames == calm.frames == 8
    by_hand = flicker(frames, stylized(frames, model, wave, 0))
    assert (plain.input, plain.output) == pytest.approx((by_hand.input, by_hand.output))
    assert 0 < calm.excess < 0.6 * plain.excess
    assert calm.still < 0.5 < 1 < plain.still
    with pytest.raises(ValueError, match="at least two are needed, got 1"):
        measure_flicker(model, frames[:1], Look(wave))


@pytest.mark.parametrize("size", [(16, 16), (17, 33), (24, 200), (200, 24), (16, 1000), (65, 64)])
def test_frames_of_any_shape(size):
    random = np.random.default_rng(0)
    still = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    find, blend = MotionFinder(CALM), Blender(CALM)
    for step in range(8):
        frame = still if step % 3 else random.integers(0, 256, (*size, 3), dtype=np.uint8)
        content, motion = find(frame)
        assert motion is None or np.isfinite(motion.flow).all()
        assert content.shape == blend(frame, motion).shape == frame.shape


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e9])
def test_a_search_that_runs_away_begins_anew(wrong):
    class Search:
        """A search that answers nonsense where it was given a first guess."""

        def __init__(self, search):
            self.search = search

        def calc(self, now, before, guess):
            flow = self.search.calc(now, before, None)
            return flow if guess is None else np.full_like(flow, wrong)

    frames = panned(4, SIZE, step=2)
    find = MotionFinder(CALM)
    find._search = Search(find._search)
    for frame in frames:
        motion = find(frame)[1]
    assert np.median(motion.flow[..., 0]) == pytest.approx(2, abs=0.3)


def test_half_trusted_motion_is_used_in_full_or_not_at_all():
    """A mean of two paintings that do not agree is neither."""
    ramp = np.repeat(np.linspace(60, 200, 128).astype(np.uint8)[None, :, None], 96, 0).repeat(3, 2)
    last, painted = ramp, ramp[:, ::-1].copy()
    results = {}
    for trust in (0, 45, 100, 160, 255):
        blend = Blender(CALM)
        blend(last, None)
        results[trust] = blend(painted, Motion(np.zeros((48, 64, 2), np.float32), np.full((48, 64), trust, np.uint8)))
    assert np.array_equal(results[0], results[45])
    assert np.abs(results[0].astype(int) - painted).mean() < 3
    assert np.array_equal(results[160], results[255])
    assert np.abs(results[0].astype(int) - results[100]).mean() > 5
    assert np.abs(results[100].astype(int) - results[255]).mean() > 5
