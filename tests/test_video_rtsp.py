"""A camera by RTSP, as network cameras speak it, against a real server on this machine."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clips import panned, write_clip
from restyle.errors import VideoError
from restyle.video import camera as room
from restyle.video.camera import Camera
from restyle.video.outlets import Recording
from restyle.video.reader import Frame, VideoReader

SERVER = Path(__file__).with_name("rtsp_server.py")
NEEDED = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"


def python_with_gstreamer():
    """PyGObject belongs to the system's Python more often than to this one."""
    for python in filter(None, (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin"))):
        if subprocess.run([python, "-c", NEEDED], capture_output=True, check=False).returncode == 0:
            return python
    pytest.skip("needs an RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good")


@pytest.fixture(scope="module")
def python():
    return python_with_gstreamer()


@pytest.fixture
def port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def frames():
    return panned(50, (96, 128), name="coffee")


@pytest.fixture
def clip(tmp_path, frames):
    return write_clip(tmp_path / "in.mp4", frames, pixel_format="yuv420p")


@contextlib.contextmanager
def serving(python, clip, port):
    with subprocess.Popen([python, SERVER, clip, str(port)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_a_network_camera_is_seen_and_asked_again_at_its_end(python, clip, port, frames):
    said = []
    with serving(python, clip, port), Camera(f"rtsp://127.0.0.1:{port}/camera", tell=said.append) as camera:
        number, shots = 0, []
        while number < 60:  # the file has fifty
            shots.append(camera.newest(number))
            number = shots[-1].number
    for shot in shots[::10]:
        assert shot.pixels.shape == (96, 128, 3)
        assert min(np.abs(shot.pixels.astype(int) - one).mean() for one in frames) < 4
    assert any("is lost" in one for one in said)
    assert any("is back" in one for one in said)


def test_a_server_that_dies_and_comes_back(python, clip, port, run, tmp_path, monkeypatch):
    """The recording goes on in one file, and can be played."""
    address = f"rtsp://127.0.0.1:{port}/camera"
    servers = contextlib.ExitStack()
    servers.enter_context(serving(python, clip, port))
    write, happened = Recording.write, []

    class Watched(Camera):
        def __init__(self, *arguments, tell, **options):
            def watch(sentence):
                tell(sentence)
                if "is lost" in sentence and "killed" in happened and "opened" not in happened:
                    servers.enter_context(serving(python, clip, port))
                    happened.append("opened")
                if "is back" in sentence and "opened" in happened:
                    happened.append("back")

            super().__init__(*arguments, tell=watch, **options)

    def watched(recording, pixels):
        write(recording, pixels)
        happened.append("picture")
        if happened.count("picture") == 10:
            servers.close()  # in the middle of the film
            happened.append("killed")
        if "back" in happened and happened[happened.index("back") :].count("picture") == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(room, "Camera", Watched)
    monkeypatch.setattr(Recording, "write", watched)
    film = tmp_path / "film.mp4"
    with servers:
        code, _, err = run("camera", address, "--style", "wave", "-o", "none", "--record", film, "--seconds", 120,
                           "--calm", 0, "--threads", 1)  # fmt: skip
    assert code == 0
    assert f"{address} is lost: " in err
    assert f"{address} is back" in err
    assert "back" in happened
    with VideoReader(film) as reader:
        shown = [item for item in reader if isinstance(item, Frame)]
    assert len(shown) == happened.count("picture") >= 20
    assert not reader.damaged


def test_a_server_that_falls_silent_counts_as_lost(python, clip, port, monkeypatch):
    monkeypatch.setattr(room, "PATIENCE_S", 1.0)
    said = []
    with serving(python, clip, port) as server:
        with Camera(f"rtsp://127.0.0.1:{port}/camera", tell=said.append) as camera:
            server.send_signal(signal.SIGSTOP)
            number = 0
            while not said:
                shot = camera.newest(number, idle=lambda: camera.close() if said else None)
                number = shot.number if shot else number
        server.send_signal(signal.SIGCONT)
    assert "is lost" in said[0]


def test_servers_that_have_no_such_camera(python, clip, port):
    with pytest.raises(VideoError, match=r"gives no picture: .*refused"):
        Camera(f"rtsp://127.0.0.1:{port}/camera")
    with serving(python, clip, port), pytest.raises(VideoError, match=r"gives no picture: .*404 Not Found"):
        Camera(f"rtsp://127.0.0.1:{port}/nothing")
