"""From file to file: the pipeline, styles over time, and the command."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from clips import frame_times, move_packet, packets, panned, write_clip
from restyle.controls.masks import MaskFile, PersonMask
from restyle.errors import VideoError
from restyle.image import write_image
from restyle.runtime import computes_bf16
from restyle.video.pipeline import Look, StyleTrack, ahead, paint, stylize_video
from restyle.video.reader import Frame, VideoReader
from restyle.video.writer import Encoding

EXACT = Encoding(crf=1, pixel_format="yuv444p")


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "in.mp4", panned(12), sound=0.48)


def frames_of(path):
    with VideoReader(path) as reader:
        return [item.pixels for item in reader if isinstance(item, Frame)]


def apart(one, other):
    return np.abs(one.astype(int) - other).mean()


# --- the pipeline


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
    for content, painted in zip(frames_of(clip), frames_of(tmp_path / "out.mp4"), strict=True):
        assert apart(painted, model.apply(content, wave)) < 4


def test_strength_zero_gives_the_video_back(model, wave, clip, tmp_path):
    stylize_video(model, clip, tmp_path / "out.mp4", Look(wave, 0), encoding=EXACT)
    for content, painted in zip(frames_of(clip), frames_of(tmp_path / "out.mp4"), strict=True):
        assert apart(content, painted) < 2


def test_looks(model, wave, clip, tmp_path):
    content = frames_of(clip)[5]
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
        found[name] = frames_of(tmp_path / f"{name}.mp4")[5]
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


# --- the command


def test_video_paints_a_file(run, clip, tmp_path):
    code, out, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--threads", 1)
    assert (code, err) == (0, "")
    assert "96 x 64  12 frames" in out
    assert len(frames_of(tmp_path / "out.mp4")) == 12
    code, _, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4")
    assert code == 3
    assert "exists already" in err
    code, out, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--overwrite", "-q")
    assert (code, out, err) == (0, "", "")


def test_video_is_painted_in_the_fastest_precision(run, clip, tmp_path):
    code, out, _ = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--json")
    assert code == 0
    assert json.loads(out)["precision"] == ("bf16" if computes_bf16("cpu") else "f32")


def test_video_options_arrive(run, clip, tmp_path):
    write_image(tmp_path / "mask.png", np.zeros((64, 96, 3), np.uint8))
    words = ["video", clip, "--style", "wave@0.1s", "--style", "mosaic:2@0:00:00.2", "--style", "ink@.2"]
    words += ["-o", tmp_path / "out.mkv", "--from", "0.08", "--to", "0:00.4s", "--size", "80", "--strength", 0.5]
    words += ["--mask", f"not:{tmp_path / 'mask.png'}", "--keep-colors", "histogram:0.5", "--work-size", 24]
    words += ["--codec", "hevc", "--crf", 12, "--preset", "ultrafast", "--encoder-option", "g=3", "--sound", "drop"]
    words += ["--style-size", 256, "--style-crop", "center", "--pixel-format", "yuv444p", "--calm", 0.3, "--json"]
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    document = json.loads(out)
    expected = {"frames": 8, "height": 80, "width": 120, "encoder": "libx265", "calm": 0.3, "damaged": False}
    assert {key: document[key] for key in expected} == expected
    with av.open(str(tmp_path / "out.mkv")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("hevc", "yuv444p")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--from", "soon"], 2, "'soon' is no time"),
        (["--from", "2", "--to", "1"], 2, "'--to': 1 does not lie after --from, which is 2"),
        (["--to", "0"], 2, "'--to': 0 does not lie after --from, which is 0"),
        (["--from", "99"], 3, "no picture in the part"),
        (["--calm", "2"], 2, "--calm"),
        (["--codec", "h265x"], 2, "no video encoder is called 'h265x'"),
        (["--encoder-option", "fast"], 2, "'fast' is not NAME=VALUE"),
        (["--crf", "20", "--codec", "mpeg4"], 2, "the encoder mpeg4 has no option 'crf'"),
        (["--crf", "nan"], 2, "nan is no quality"),
        (["--tile", "5"], 2, "tile must be"),
        (["--style", "wavy"], 2, "is called 'wavy'"),
        (["--size", "8"], 3, "8 x 12 pixels are too small"),
        (["-o", "out.xyz"], 2, "no video format is called '.xyz'"),
        (["--device", "npu"], 5, "npu"),
    ],
)
def test_video_usage(run, clip, tmp_path, words, code, sentence):
    got, out, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", *words)
    assert got == code, err
    assert sentence in " ".join(err.replace("│", " ").split())
    assert "Traceback" not in out + err
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--sound", "loud"], 2, "sound must be one of copy, drop"),
        (["--mask", "none.png"], 3, "none.png"),
        (["--pixel-format", "yuv9"], 2, "the encoder libx264 has no pixel format 'yuv9'"),
    ],
)
def test_what_can_be_refused_at_once_is_refused_before_the_model_is_loaded(
    run, clip, tmp_path, monkeypatch, words, code, sentence
):
    monkeypatch.setattr("restyle.stylizer.Stylizer.load", lambda *_, **__: pytest.fail("loaded the model"))
    got, _, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", *words)
    assert (got, sentence in err) == (code, True), err


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


def test_preview_shows_what_is_made(run, clip, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("restyle.video.outlets.MjpegPage.write", lambda _, pixels: shown.append(pixels.copy()))
    code, _, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--preview", 0)
    assert code == 0
    assert re.search(r"preview: http://127\.0\.0\.1:\d+/", err)
    assert len(shown) == 12
    assert apart(shown[5], frames_of(tmp_path / "out.mp4")[5]) < 8
    assert threading.active_count() < 9  # the page is gone


def test_evaluate_measures_flicker_on_a_video(run, clip):
    words = ["evaluate", "--video", clip, "--style", "wave", "--style", "ink", "--frames", 8, "--threads", 1]
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)["rows"]
    assert [row["style"] for row in rows] == ["wave", "ink"]
    for row in rows:
        errors = row["warp_error"]
        assert row["frames"] == 8
        assert errors["input"] < errors["calm"] < errors["frame_by_frame"]
        expected = (errors["calm"] - errors["input"]) / (errors["frame_by_frame"] - errors["input"])
        assert row["flicker_left"] == pytest.approx(expected)
        assert row["still"]["calm"] < row["still"]["frame_by_frame"]
        assert row["style_figures"] == {"frame_by_frame": {}, "calm": {}}  # nobody judges
    for more, sentence in (
        (["--content", "x"], "--content cannot go with --video"),
        (["--frames", "1"], "--frames"),
        (["--calm", "nan"], "calm must lie between 0 and 1"),
    ):
        code, _, err = run(*words, *more)
        assert code == 2
        assert sentence in " ".join(err.replace("│", " ").split())
    assert run("evaluate", "--video", clip)[0] == run("evaluate", "--style", "wave")[0] == 2


def test_video_tells_of_damage_and_keeps_the_rest(run, tmp_path):
    write_clip(tmp_path / "in.mkv", panned(30), sound=1.2)
    data = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    code, out, err = run("video", tmp_path / "cut.mkv", "--style", "wave", "-o", tmp_path / "out.mkv", "--json")
    assert (code, err) == (3, "")
    document = json.loads(out)
    assert document["damaged"]
    assert document["notes"]
    assert len(frames_of(tmp_path / "out.mkv")) == document["frames"] > 5
    code, out, err = run("video", tmp_path / "cut.mkv", "--style", "wave", "-o", tmp_path / "quiet.mkv", "-q")
    assert (code, out) == (3, "")
    assert "is damaged: the file breaks off" in err
    move_packet(tmp_path / "in.mkv", packets(tmp_path / "in.mkv", "audio")[9][1], 500)
    code, out, err = run("video", tmp_path / "in.mkv", "--style", "wave", "-o", tmp_path / "sound.mkv", "--json")
    assert (code, json.loads(out)["damaged"], json.loads(out)["frames"]) == (3, True, 30)


def test_video_leaves_the_place_out_if_asked(run, tmp_path):
    write_clip(tmp_path / "in.mov", panned(2), metadata={"location": "+48.1+011.5/"})
    for words, there in (([], True), (["--no-metadata"], False)):
        assert run("video", tmp_path / "in.mov", "--style", "wave", *words, "-o", tmp_path / "out.mp4")[0] == 0
        with av.open(str(tmp_path / "out.mp4")) as container:
            assert ("location" in container.metadata) == there
        (tmp_path / "out.mp4").unlink()


def test_files_that_are_no_videos(run, tmp_path):
    (tmp_path / "empty.mp4").touch()
    for name, sentence in (("empty.mp4", "is not a video that can be read"), ("none.mp4", "there is no file")):
        code, out, err = run("video", tmp_path / name, "--style", "wave", "-o", tmp_path / "out.mp4", "--json")
        assert code == 3
        assert sentence in err
        assert json.loads(out)["error"]["kind"] == VideoError.__name__


def test_an_address_is_no_file(run, tmp_path):
    code, _, err = run("video", "http://somewhere/in.mp4", "--style", "wave", "-o", tmp_path / "out.mp4")
    assert (code, len(err.splitlines())) == (3, 1)
    assert "'http://somewhere/in.mp4' is an address, not a file: fetch it first" in err


def test_a_missing_extra_says_how_to_install_it(run, clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for name in [name for name in sys.modules if name.startswith("restyle.video.")]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4")
    assert code == 7
    assert "pip install 'restyle[video]'" in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_it_at_once_and_leaves_nothing(tmp_path, name):
    # Under nohup, or in the background of a shell, one would be ignored, and stay so.
    before = signal.signal(signal.Signals[name], signal.SIG_DFL)
    write_clip(tmp_path / "in.mp4", panned(2) * 300)
    command = [sys.executable, "-m", "restyle", "video", "in.mp4", "--style", "wave", "-o", "out.mp4"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.Signals[name], before)
        until = time.monotonic() + 60
        while not list(Path(tmp_path).glob(".restyle-*")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.Signals[name])
        _, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == ["in.mp4"]
