"""From file to file: the stages that overlap, and styles over time."""

import contextlib
import itertools
import os
import threading
import time

import numpy as np
import pytest

from clips import apart, frame_times, packets, panned, pixels_of, write_clip
from restyle.controls.masks import MaskFile, PersonMask
from restyle.image import write_image
from restyle.stylizer import Stylizer
from restyle.video.pipeline import Look, StyleTrack, ahead, paint, stylize_video
from restyle.video.reader import Frame
from restyle.video.writer import Encoding

EXACT = Encoding(crf=1, pixel_format="yuv444p")


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "in.mp4", panned(12), sound=0.48)


def test_every_frame_is_painted_and_the_rest_is_kept(model, wave, clip, tmp_path):
    said = []
    outcome = stylize_video(
        model, clip, tmp_path / "out.mp4", Look(wave, calm=0), encoding=EXACT, report=lambda *how: said.append(how)
    )
    assert (outcome.frames, outcome.size, outcome.notes, outcome.damaged) == (12, (64, 96), (), False)
    assert said == [(i + 1, 12) for i in range(12)]
    assert frame_times(clip) == frame_times(tmp_path / "out.mp4")
    before, after = packets(clip, "audio"), packets(tmp_path / "out.mp4", "audio")
    assert [data for _, data in before] == [data for _, data in after]
    for content, painted in zip(pixels_of(clip), pixels_of(tmp_path / "out.mp4"), strict=True):
        assert apart(painted, model.apply(content, wave)) < 4


def test_strength_zero_gives_the_video_back(model, wave, clip, tmp_path):
    stylize_video(model, clip, tmp_path / "out.mp4", Look(wave, 0), encoding=EXACT)
    for content, painted in zip(pixels_of(clip), pixels_of(tmp_path / "out.mp4"), strict=True):
        assert apart(content, painted) < 2


def test_looks(model, wave, clip, tmp_path):
    content = pixels_of(clip)[5]
    white = np.zeros((64, 96), np.uint8)
    white[:, 48:] = 255
    write_image(white_file := tmp_path / "white.png", np.dstack([white] * 3))
    looks = {
        "plain": Look(wave, calm=0),
        "colors": Look(wave, calm=0, keep_colors="luminance"),
        "mask": Look(wave, calm=0, mask=white),
        "mask file": Look(wave, calm=0, mask=MaskFile(white_file)),
        "large": Look(wave, calm=0, work_size=32),
        "calm": Look(wave),
    }
    found = {}
    for name, look in looks.items():
        stylize_video(model, clip, tmp_path / f"{name}.mp4", look, encoding=EXACT)
        found[name] = pixels_of(tmp_path / f"{name}.mp4")[5]
    assert apart(found["plain"], model.apply(content, wave)) < 4
    assert apart(found["colors"], model.apply(content, wave, keep_colors="luminance")) < 4
    assert apart(found["large"], model.apply(content, wave, work_size=32)) < 4
    assert np.array_equal(found["mask"], found["mask file"])
    assert apart(found["mask"][:, :44], content[:, :44]) < 4
    assert apart(found["mask"][:, 52:], found["plain"][:, 52:]) < 4
    assert apart(found["calm"], found["plain"]) > 1


@pytest.mark.parametrize(
    "options", [{"calm": -0.1}, {"calm": 1.1}, {"calm": float("nan")}, {"strength": 3}, {"mask": PersonMask()}]
)
def test_looks_that_cannot_be(wave, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Look(wave, **options)


def test_a_style_becomes_another(model, wave, mosaic):
    track = StyleTrack([(4, mosaic), (2, wave)])
    assert track.at(0) == track.at(2) == wave
    assert track.at(4) == track.at(9) == mosaic
    assert track.at(2.5).vector == pytest.approx(0.75 * wave.vector + 0.25 * mosaic.vector, abs=1e-5)
    for keys in ([], [(1, wave), (1, mosaic)], [(-1, wave)], [(float("nan"), wave)]):
        with pytest.raises(ValueError, match="styles need times"):
            StyleTrack(keys)


class Mirror:
    """Stands in for a Stylizer of two streams: gives frames back."""

    streams = 2

    def paint(self, frames, style, strength, *, statistics):
        return frames, np.full((1, 1), frames.mean(), np.float32)


class Watched(Mirror):
    """Paints two frames at the same time, and keeps what statistics it was given."""

    def __init__(self):
        self.given = {}
        self._both = threading.Barrier(2, timeout=20)

    def paint(self, frames, style, strength, *, statistics):
        self._both.wait()  # for ever alone, it breaks
        self.given[int(frames.mean())] = None if statistics is None else float(statistics[0])
        return super().paint(frames, style, strength, statistics=statistics)


def test_frames_are_painted_at_the_same_time_and_a_scene_knows_nothing_of_the_last(wave):
    watched, values = Watched(), [*range(100, 106), *range(30, 36)]
    frames = (Frame(np.full((32, 48, 3), value, np.uint8), i, 1, i / 25) for i, value in enumerate(values))
    sound = [object()] * 20
    found = list(paint(itertools.chain(sound, frames), watched, Look(wave, calm=0.5)))
    assert found[:20] == sound
    painted = found[20:]
    assert [item.pts for item in painted] == list(range(12))
    given = [watched.given[value] for value in values]
    assert given[:3] == given[6:9] == [None] * 3
    assert given[3:6] == [100, 100.5, 101.25]  # the mean of the frames up to three before
    assert given[9:] == [30, 30.5, 31.25]


def test_several_streams_paint_what_one_paints(model, wave):
    frames = [Frame(pixels, i, 1, i / 25) for i, pixels in enumerate(panned(6))]
    packets = [object() for _ in range(200)]
    items = [*packets[:9], *frames[:3], packets[9], *frames[3:5], *packets[10:150], frames[5], *packets[150:]]
    streamed = Stylizer.load(precision="f32", threads=2, streams=2)
    assert (streamed.streams, model.streams) == (2, 1)
    found = list(paint(iter(items), streamed, Look(wave, calm=0)))
    assert [getattr(item, "pts", item) for item in found] == [getattr(item, "pts", item) for item in items]
    painted = [item for item in found if isinstance(item, Frame)]
    assert [item.pts for item in painted] == [0, 1, 2, 3, 4, 5]
    for one, other in zip(painted, paint(iter(frames), model, Look(wave, calm=0)), strict=True):
        assert np.abs(one.pixels.astype(int) - other.pixels).max() <= 1


@pytest.mark.parametrize("stage", ["read", "paint", "write"])
def test_an_error_in_any_stage_ends_all(model, wave, clip, tmp_path, monkeypatch, stage):
    class Broken(Exception):
        pass

    def fail(*_, **__):
        raise Broken

    where = {
        "read": "restyle.video.reader.VideoReader._framed",
        "paint": "restyle.stylizer.Stylizer.paint",
        "write": "restyle.video.writer.ToFrame.__call__",
    }
    monkeypatch.setattr(where[stage], fail)
    before = threading.active_count()
    with pytest.raises(Broken):
        stylize_video(model, clip, tmp_path / "out.mp4", Look(wave))
    assert threading.active_count() == before
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_a_frame_does_not_wait_for_one_that_is_far_away(wave):
    """Between the pictures of a slide show lies much sound, which is not kept in memory until the next one."""
    taken = []

    def items():
        for i in range(3):
            yield Frame(np.zeros((32, 48, 3), np.uint8), i, 1, float(i))
            for _ in range(500):
                taken.append(i)
                yield object()

    painted = paint(items(), Mirror(), Look(wave, calm=0))
    next(painted)
    assert len(taken) < 120
    painted.close()


def test_stages_stop_when_nobody_listens_any_more(model, wave):
    produced = []

    def endless():
        for i in range(10_000):
            produced.append(i)
            yield Frame(np.full((16, 16, 3), i % 256, np.uint8), i, 1, i / 25)

    before = threading.active_count()
    painted = paint(endless(), model, Look(wave))
    next(painted)
    painted.close()
    assert threading.active_count() == before
    made = len(produced)
    assert made < 40  # queues are short, so memory is bounded
    time.sleep(0.2)
    assert len(produced) == made


def test_ahead_keeps_the_order_and_hands_errors_on():
    def numbers():
        yield from range(50)
        raise ValueError("the source is dry")

    taken = []
    with pytest.raises(ValueError, match="the source is dry"):
        for number in ahead(numbers(), 2):
            taken.append(number)
    assert taken == list(range(50))


def test_a_stage_that_ctrl_c_meets_at_its_start_never_begins(monkeypatch):
    """Nobody waits for it, and a network that paints while Python ends aborts the program."""
    threads, begun = [], []

    def interrupted(thread):
        threads.append(thread)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(ahead((begun.append(i) for i in range(3)), 1))
    threads[0].start()  # as the system does it, a little later
    threads[0].join()
    assert begun == []


def test_a_second_ctrl_c_does_not_leave_a_stage_running(monkeypatch):
    running, join, presses = threading.Event(), threading.Thread.join, iter([1, 2])

    def numbers():
        running.set()
        yield 1
        time.sleep(0.2)  # a picture that is being painted
        running.clear()
        yield 2

    def interrupted(thread, timeout=None):
        if next(presses, None):
            raise KeyboardInterrupt
        join(thread, timeout)

    items = ahead(numbers(), 1)
    assert next(items) == 1
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            items.close()
    assert not running.is_set()


def test_large_frames_are_painted_in_tiles(model, wave, tmp_path, monkeypatch):
    frames = panned(2, (144, 160))
    stream = [Frame(pixels, i, 1, i / 25) for i, pixels in enumerate(frames)]
    (whole, _), (tiled, _) = (
        [item.pixels for item in paint(stream, model, Look(wave, calm=0, tile=tile))] for tile in (0, 128)
    )
    assert np.array_equal(tiled, model.apply(frames[0], wave, tile=128))
    assert apart(tiled, whole) < 1
    monkeypatch.setattr("restyle.video.pipeline.WHOLE_PIXELS", 144 * 160 - 1)
    monkeypatch.setattr(type(model), "paint", lambda *_, **__: pytest.fail("painted whole what is large"))
    assert len(list(paint(stream, model, Look(wave)))) == 2
