"""Live pictures: the newest wins, lost sources come back, and what was recorded can be played."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from clips import panned, write_clip
from restyle.errors import VideoError
from restyle.video import camera as room
from restyle.video.camera import Camera, Pace, Shot, StyleSwitch, paint_live
from restyle.video.reader import Frame, VideoReader
from restyle.video.remote import KEYS, Remote


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "in.mp4", panned(10), rate=50)


class Stills:
    """A camera that is as fast as its script says."""

    def __init__(self, count, given_while_painting):
        self.number, self.count, self.step = 1, count, given_while_painting
        self.seen = []

    def newest(self, after, idle=None):
        if after >= self.count:
            return None
        shot = Shot(np.full((32, 48, 3), self.number % 256, np.uint8), self.number, time.monotonic())
        self.seen.append(self.number)
        self.number = min(self.count, self.number + self.step)
        return shot


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_the_newest_picture_wins(model, wave):
    camera = Stills(20, given_while_painting=3)
    painted = list(paint_live(camera, model, StyleSwitch([wave]), calm=0))
    assert camera.seen == [1, 4, 7, 10, 13, 16, 19, 20]
    assert [one.skipped for one in painted] == [0, 2, 2, 2, 2, 2, 2, 0]


FRAME_S = 0.04


class Steady:
    """A camera of 25 pictures a second, a network that is as slow as it is told to be, and the clock of both."""

    def __init__(self, network_s):
        self.now, self.network_s, self.taken = 0.0, network_s, []

    def monotonic(self):
        return self.now

    def newest(self, after, idle=None):
        if len(self.taken) == 20:
            return None
        self.now = max(self.now, after * FRAME_S)  # wait for the next picture, which has the number after + 1
        number = int(self.now / FRAME_S + 1e-9) + 1
        self.taken.append((number - 1) * FRAME_S)
        return Shot(np.zeros((32, 48, 3), np.uint8), number, self.taken[-1])

    def paint(self, content, style, strength, statistics):
        self.now += self.network_s
        return content, np.zeros((1, 4), np.float32)


@pytest.mark.parametrize("network_s", [0.005, 0.03, 0.05, 0.13, 0.7])
def test_however_slow_the_network_no_picture_is_shown_late(monkeypatch, wave, network_s):
    steady = Steady(network_s)
    monkeypatch.setattr(room, "time", steady)
    latencies = []
    for painted in paint_live(steady, steady, StyleSwitch([wave]), calm=0):
        assert painted.latency == pytest.approx(steady.now - steady.taken[-1])  # told as it is
        latencies.append(painted.latency)
        steady.now += 0.002  # showing it
    assert len(latencies) == 20
    assert max(latencies) < 2 * FRAME_S + network_s
    assert max(latencies) > network_s - 1e-9


def test_a_slow_reader_sees_no_old_pictures(clip):
    began = time.monotonic()
    with Camera(str(clip)) as camera:
        first = camera.newest()
        seen = time.monotonic()
        while (latest := camera._newest).number < first.number + 5:
            time.sleep(0.02)
        then = camera.newest(first.number)
        assert then.number >= latest.number
        assert began < first.taken < seen < then.taken < time.monotonic()


def test_a_file_is_played_over_and_over(clip):
    with Camera(str(clip), size=32, mirror=True) as camera:
        number, shots = 0, []
        for _ in range(25):
            shots.append(camera.newest(number))
            number = shots[-1].number
    assert number > 20  # the file has ten pictures
    assert shots[0].pixels.shape == (32, 48, 3)
    with VideoReader(clip, size=32) as reader:
        frames = [item.pixels[:, ::-1].astype(int) for item in reader if isinstance(item, Frame)]
    assert min(np.abs(shots[0].pixels - one).mean() for one in frames) < 2


def test_a_file_whose_clock_begins_late_is_played_at_once(tmp_path):
    late = write_clip(tmp_path / "late.ts", panned(10), times=[3600 + i / 50 for i in range(10)], rate=50)
    ends = time.monotonic() + 20
    with Camera(str(late)) as camera:
        while camera.newest().number < 5 and time.monotonic() < ends:
            time.sleep(0.02)
        assert camera.newest().number >= 5


def test_pixels_that_are_not_square_become_so(tmp_path):
    for aspect, size in ((Fraction(3, 2), (64, 144)), (Fraction(1, 2), (64, 48)), (Fraction(1000), (64, 96))):
        source = write_clip(tmp_path / "in.mkv", panned(5), aspect=aspect)
        with Camera(str(source)) as camera:
            assert camera.newest().pixels.shape == (*size, 3)


def test_cameras_that_are_not_there(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for source in (str(tmp_path / "text.mp4"), "97", "gopher://x/y", "nothing.mp4", f"tcp://127.0.0.1:{free_port()}"):
        with pytest.raises(VideoError, match="gives no picture"):
            Camera(source)
    with pytest.raises(VideoError, match="no camera has such a number"):
        Camera("9" * 14)


def test_a_password_is_not_told():
    with pytest.raises(VideoError) as told:
        Camera(f"rtsp://me:my@secret@127.0.0.1:{free_port()}/camera")
    assert "'rtsp://127.0.0.1:" in str(told.value)
    assert "secret" not in str(told.value)


def test_a_webcam_that_is_not_there_gets_one_sentence(capfd):
    with pytest.raises(VideoError, match="'97' gives no picture: it cannot be opened"):
        Camera("97")
    assert capfd.readouterr().err == ""


def test_who_waits_for_a_closed_camera_is_told(clip):
    with Camera(str(clip)) as camera:
        waiting = threading.Thread(target=camera.newest, args=(10**9,))
        waiting.start()
        camera.close()
        waiting.join(timeout=20)
        assert not waiting.is_alive()


def test_pictures_that_are_too_small(clip):
    with pytest.raises(VideoError, match="pixels are too small"):
        Camera(str(clip), size=8)


def test_whatever_goes_wrong_nobody_waits_for_ever(clip, monkeypatch):
    def fail(self):
        raise RuntimeError("out of order")

    monkeypatch.setattr(Camera, "_pictures", fail)
    with pytest.raises(VideoError, match="out of order"):
        Camera(str(clip))


def test_a_stream_that_dies_is_asked_again_and_keeps_its_size(tmp_path):
    first = write_clip(tmp_path / "in.mkv", panned(6)).read_bytes()
    other = write_clip(tmp_path / "other.mkv", panned(6, (80, 128))).read_bytes()
    asked, said = [], []

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if len(asked) == 2:
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(first if len(asked) == 1 else other)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with Camera(f"http://127.0.0.1:{server.server_address[1]}/x.mkv", tell=said.append) as camera:
            number = 0
            while number < 12:
                shot = camera.newest(number)
                number = shot.number
                assert shot.pixels.shape == (64, 96, 3)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert len(asked) >= 3
    assert "trying again" in said[0]
    assert "trying again" in said[1]
    assert "is back" in said[2]


def test_the_next_style_is_there_after_half_a_second(wave, mosaic):
    switch = StyleSwitch([wave, mosaic])
    assert switch.at(10) == wave
    assert switch.next(10) == 1
    assert switch.at(10.25).vector == pytest.approx((wave.vector + mosaic.vector) / 2, abs=1e-5)
    assert switch.at(10.5) == mosaic
    assert switch.next(10.75) == 0
    assert switch.next(10.9) == 1  # in the middle: from what is seen now
    assert switch.at(10.9) != mosaic
    assert switch.at(11.4) == mosaic
    with pytest.raises(ValueError, match="at least one style"):
        StyleSwitch([])


def test_pace_finds_a_size_and_stays():
    for speed in (8e-7, 2e-8):  # seconds a pixel
        pace, sides = Pace(25, 720), []
        for _ in range(40):
            pace.took(speed * pace.side * pace.side * 16 / 9)
            sides.append(pace.side)
        assert len(set(sides[-10:])) == 1
        seconds = speed * pace.side**2 * 16 / 9
        assert seconds < 1 / 25
        assert pace.side == 720 or seconds > 0.6 / 25
    unasked = Pace(None, 720)
    unasked.took(9)
    assert unasked.side == 720


def test_pictures_are_painted_smaller_but_shown_as_large(model, wave):
    painted = list(paint_live(Stills(4, 1), model, StyleSwitch([wave]), calm=0.5, rate=1e6))
    assert {one.pixels.shape for one in painted} == {(32, 48, 3)}
    frames = [np.zeros((256, 256, 3), np.uint8)] * 3

    class Large(Stills):
        def newest(self, after, idle=None):
            return None if after >= len(frames) else Shot(frames[after], after + 1, time.monotonic())

    sides = [one.side for one in paint_live(Large(3, 1), model, StyleSwitch([wave]), rate=1e6)]
    assert sides[0] == 256 > sides[1] >= sides[2] >= 128


def test_camera_command(run, clip, tmp_path):
    words = ["camera", clip, "--style", "wave", "--output", "none", "--record", tmp_path / "film.mp4", "--calm", 0]
    code, out, err = run(*words, "--seconds", 0.5, "--size", 48, "--mirror", "--fps", 10, "--threads", 1)
    assert (code, out, err) == (0, "", f"recorded {tmp_path / 'film.mp4'}\n")
    with VideoReader(tmp_path / "film.mp4") as reader:
        shown = [item.pixels for item in reader if isinstance(item, Frame)]
    assert len(shown) > 1
    assert shown[0].shape == (48, 72, 3)
    for wrong, code, sentence in (
        (["--output", "wall"], 2, "'wall' is none of window, page, virtual, stdout, none"),
        (["--output", "none:/dev/video2"], 2, "is none of window, page, virtual, stdout, none"),
        (["--source", "97"], 2, f"the source is '{clip}' already; give one"),
        (["--fps", "nan"], 2, "nan is no number to count with"),
        (["--seconds", "nan"], 2, "nan is no number to count with"),
        (["--folder", tmp_path / "nowhere"], 2, "there is no folder"),
        (["--record", tmp_path / "film.mp4"], 3, "exists already"),
        (["--style", "wavy"], 2, "is called 'wavy'"),
        (["--calm", "nan"], 2, "calm must lie between 0 and 1"),
    ):
        got, _, err = run("camera", clip, "--style", "wave", *wrong)
        assert got == code
        assert sentence in " ".join(err.replace("│", " ").split())
    code, _, err = run("camera", "97", "--style", "wave")
    assert code == 3
    assert "the camera '97' gives no picture" in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals differ")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_finishes_the_recording(clip, tmp_path, name):
    command = [sys.executable, "-m", "restyle", "camera", str(clip), "--style", "wave", "-o", "stdout"]
    command += ["--record", "film.mkv", "-q"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(3):
            assert len(process.stdout.read(64 * 96 * 3)) == 64 * 96 * 3
        process.send_signal(signal.Signals[name])
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert sorted(os.listdir(tmp_path)) == ["film.mkv", "in.mp4"]
    with VideoReader(tmp_path / "film.mkv") as reader:
        assert sum(isinstance(item, Frame) for item in reader) >= 3


# --- keys, buttons, and what they ask for


@pytest.fixture
def remote(clip, wave, mosaic):
    with Camera(str(clip)) as camera:
        yield Remote(camera, StyleSwitch([wave, mosaic]), strength=0.95)


def test_each_key_does_what_it_says(remote):
    assert set(KEYS) == set("n+-msrq")
    assert remote.press("n") == "style 2"
    assert [remote.press("+"), remote.press("-")] == ["strength 1.05", "strength 0.95"]
    for _ in range(20):
        remote.press("+")
    assert remote.strength == 2
    for _ in range(30):
        remote.press("-")
    assert remote.strength == 0
    assert [remote.press("m"), remote.press("m")] == ["mirrored", "not mirrored"]
    assert not remote.take_snapshot()
    assert remote.press("s") == "snapshot"
    assert [remote.take_snapshot(), remote.take_snapshot()] == [True, False]
    assert [remote.press("r"), remote.press("r")] == ["recording", "recording ended"]
    assert remote.press("x") is None
    assert not remote.stopped
    remote.press("q")
    assert remote.stopped


def test_a_press_is_seen_in_the_next_pictures(clip, model, wave):
    with Camera(str(clip)) as camera:
        remote = Remote(camera, StyleSwitch([wave]), strength=0)
        live = paint_live(camera, model, remote._styles, strength=lambda: remote.strength, calm=0)
        before = next(live).pixels.astype(int)
        remote.press("m")
        time.sleep(0.1)
        next(live)
        mirrored = [next(live).pixels[:, ::-1].astype(int) for _ in range(10)]
        assert min(np.abs(one - before).mean() for one in mirrored) < 6  # the clip comes round again
        remote.press("+")
        assert min(np.abs(next(live).pixels[:, ::-1].astype(int) - one).mean() for one in mirrored) > 2


@pytest.mark.skipif(sys.platform == "win32", reason="terminals differ")
def test_keys_of_the_terminal(clip, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "restyle", "camera", str(clip), "--style", "wave", "-o", "none"]
    # A session of its own whose terminal it is, as for a program that a person has started.
    start = "import os, sys, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    start += "os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", start, *command], cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        guard = threading.Timer(90, process.kill)  # if an answer never comes, reading for it ends
        guard.start()
        said = iter(process.stderr.readline, "")
        assert any("n next style" in line for line in said)
        for key, answer in ((b"s", "snapshot restyle-"), (b"r", "recording"), (b"r", "recorded restyle-")):
            os.write(ours, key)
            assert any(answer in line for line in said)
            while key == b"r" and not os.listdir(tmp_path)[2:] and process.poll() is None:  # until the film has begun
                time.sleep(0.02)
        os.write(ours, b"q")
        assert process.wait(timeout=30) == 0
        guard.cancel()
    os.close(ours)
    os.close(theirs)
    names = {Path(name).suffix for name in os.listdir(tmp_path)}
    assert names == {".mp4", ".png"}
    assert len(os.listdir(tmp_path)) == 3
