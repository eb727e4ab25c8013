"""The command ``restyle video``."""

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

from clips import apart, move_packet, packets, panned, pixels_of, write_clip
from restyle import gallery
from restyle.errors import VideoError
from restyle.image import read_image, resize, write_image
from restyle.runtime import computes_bf16
from restyle.stylizer import Stylizer
from restyle.video.writer import Encoding

EXACT = Encoding(crf=1, pixel_format="yuv444p")


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "in.mp4", panned(12), sound=0.48)


def test_video_paints_a_file(run, clip, tmp_path):
    code, out, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--threads", 1)
    assert (code, err) == (0, "")
    assert "96 x 64  12 frames" in out
    assert len(pixels_of(tmp_path / "out.mp4")) == 12
    code, _, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4")
    assert code == 3
    assert "exists already" in err
    code, out, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--overwrite", "-q")
    assert (code, out, err) == (0, "", "")


def test_video_is_painted_in_the_fastest_way(run, clip, tmp_path, monkeypatch):
    loaded, load = [], Stylizer.load
    monkeypatch.setattr(Stylizer, "load", lambda *words, **options: loaded.append(load(*words, **options)) or loaded[0])
    code, out, _ = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--json")
    assert code == 0
    assert json.loads(out)["precision"] == ("bf16" if computes_bf16("cpu") else "f32")
    assert loaded[0].streams == 2


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
        (["-o", "out"], 2, "no video format is called ''; known: .m4v"),
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


def test_preview_shows_what_is_made(run, clip, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("restyle.video.outlets.MjpegPage.write", lambda _, pixels: shown.append(pixels.copy()))
    code, _, err = run("video", clip, "--style", "wave", "-o", tmp_path / "out.mp4", "--preview", 0)
    assert code == 0
    assert re.search(r"preview: http://127\.0\.0\.1:\d+/", err)
    assert len(shown) == 12
    assert apart(shown[5], pixels_of(tmp_path / "out.mp4")[5]) < 8
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
    assert len(pixels_of(tmp_path / "out.mkv")) == document["frames"] > 5
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


def test_a_style_video_is_at_each_time_the_style_that_it_shows(run, tmp_path):
    wave, mosaic = (resize(read_image(gallery.find(name)).pixels, (256, 256)) for name in ("wave", "mosaic"))
    for name, pixels in (("wave.png", wave), ("mosaic.png", mosaic)):
        write_image(tmp_path / name, pixels)
    write_clip(tmp_path / "in.mp4", panned(1) * 6, rate=2)
    write_clip(tmp_path / "style.mp4", [wave, wave, mosaic, mosaic], rate=2)
    words = ["video", tmp_path / "in.mp4", "--calm", 0, "--crf", 1, "--pixel-format", "yuv444p", "--overwrite", "-q"]

    def painted(*styles):
        named = [word for style in styles for word in ("--style", style)]
        assert run(*words, "-o", tmp_path / "out.mp4", *named)[0] == 0
        return pixels_of(tmp_path / "out.mp4")

    first, last = painted(tmp_path / "wave.png")[0], painted(tmp_path / "mosaic.png")[0]
    moving = painted(tmp_path / "style.mp4")
    assert [apart(one, first) < apart(first, last) / 3 for one in moving] == [True, True, False, False, False, False]
    assert [apart(one, last) < apart(first, last) / 3 for one in moving] == [False, False, True, True, True, True]
    later = painted(tmp_path / "mosaic.png", f"{tmp_path / 'style.mp4'}@1s")
    assert [apart(one, last) < apart(first, last) / 3 for one in later] == [True, False, False, False, True, True]
    assert all(apart(one, first) < apart(first, last) / 3 for one in later[2:4])
    beyond = painted(f"{tmp_path / 'style.mp4'}@9s")  # before the first style it stands
    assert all(apart(one, first) < apart(first, last) / 3 for one in beyond)


def test_style_videos_that_cannot_be(run, clip, tmp_path):
    words = ["video", clip, "-o", tmp_path / "out.mp4", "--style"]
    code, _, err = run(*words, clip, "--style", "wave@0.2s")
    assert code == 2
    assert "is a video, so no other style may begin at its time, 0 s, or later" in err
    (tmp_path / "broken.mkv").write_bytes(b"nothing")
    whole = write_clip(tmp_path / "whole.mkv", panned(40), rate=10).read_bytes()
    (tmp_path / "short.mkv").write_bytes(whole[: len(whole) // 8])
    for name in ("broken.mkv", "nowhere.mp4", "short.mkv"):
        code, _, err = run(*words, tmp_path / name)
        assert (code, name in err, "Traceback" in err) == (3, True, False)
    assert not (tmp_path / "out.mp4").exists()
