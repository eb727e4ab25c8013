"""Where live pictures go: the page, bytes, recordings and virtual cameras."""

import http.client
import itertools
import os
import re
import sys
import threading
import types
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image

from clips import panned, write_clip
from restyle.errors import DeviceError, VideoError
from restyle.video.camera import StyleSwitch
from restyle.video.outlets import MjpegPage, RawFrames, Recorder, Recording, VirtualCamera, free_path
from restyle.video.reader import Frame, VideoReader
from restyle.video.remote import KEYS, Remote


def test_the_page_shows_the_newest_picture():
    page = MjpegPage(0)
    try:
        ask = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
        ask.request("GET", "/")
        assert b"/stream" in ask.getresponse().read()
        for path, headers in (("/etc/passwd", {}), ("/", {"Host": "evil.example"})):
            stranger = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
            stranger.request("GET", path, headers=headers)
            assert stranger.getresponse().status == 404
        watch = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
        watch.request("GET", "/stream")
        response = watch.getresponse()
        red = np.zeros((32, 48, 3), np.uint8)
        red[:, :, 0] = 200
        stop = threading.Event()

        def show():
            while not stop.wait(0.02):
                page.write(red)

        shower = threading.Thread(target=show)
        shower.start()
        try:
            head = b"".join(itertools.takewhile(lambda line: line != b"\r\n", iter(response.readline, b"")))
            picture = response.read(int(re.search(rb"Content-Length: (\d+)", head)[1]))
        finally:
            stop.set()
            shower.join()
        pixels = np.asarray(Image.open(BytesIO(picture)))
        assert np.abs(pixels.astype(int) - red).max() < 12  # red, not blue
        watch.close()
        with pytest.raises(VideoError, match=f"port {page.port}"):
            MjpegPage(page.port, print)
    finally:
        page.close()


def test_the_page_has_a_button_for_each_key(wave, mosaic):
    remote = Remote(types.SimpleNamespace(mirror=False), StyleSwitch([wave, mosaic]), strength=0.95)
    page = MjpegPage(0, remote.press, KEYS)
    try:
        ask = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
        ask.request("GET", "/")
        text = ask.getresponse().read().decode()
        assert re.findall(r'<button value="(.)">', text) == [*KEYS]
        ask.request("POST", "/key/%2B", headers={"Origin": f"http://127.0.0.1:{page.port}"})
        assert ask.getresponse().read() == b"strength 1.05"
        for path, headers in (
            ("/key/q", {"Origin": "http://evil.example"}),  # a form on another site
            ("/key/q", {"Host": "evil.example"}),
            ("/key/x", {}),
        ):
            stranger = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
            stranger.request("POST", path, headers=headers)
            assert stranger.getresponse().status == 404
        assert not remote.stopped
    finally:
        page.close()


def test_raw_pictures_and_recordings(tmp_path):
    frames = panned(5)
    stream = BytesIO()
    raw, film = RawFrames(stream), Recording(tmp_path / "film.mp4", (64, 96))
    for pixels in frames:
        raw.write(pixels[:, ::-1])
        film.write(pixels)
    film.close()
    assert stream.getvalue() == b"".join(one[:, ::-1].tobytes() for one in frames)
    with VideoReader(tmp_path / "film.mp4") as reader:
        shown = [item.pixels for item in reader if isinstance(item, Frame)]
    assert len(shown) == 5
    assert np.abs(shown[0].astype(int) - frames[0]).mean() < 12


def test_recordings_begin_and_end_on_demand(tmp_path):
    wanted, said = [True], []
    recorder = Recorder(tmp_path / "film.mkv", (64, 96), lambda: wanted[0], tell=said.append)
    for i, pixels in enumerate(panned(13)):
        wanted[0] = i not in (3, 4, 5, 9)
        recorder.write(pixels)
    assert os.listdir(tmp_path).count("film.mkv") == 1  # finished, though the camera goes on
    recorder.close()
    recorder.close()
    assert said == [f"recorded {tmp_path / name}" for name in ("film.mkv", "film-2.mkv", "film-3.mkv")]
    for name in ("film.mkv", "film-2.mkv", "film-3.mkv"):
        with VideoReader(tmp_path / name) as reader:
            assert sum(isinstance(item, Frame) for item in reader) == 3
    assert free_path(tmp_path / "film.mkv").name == "film-4.mkv"
    assert free_path(tmp_path / "other.mkv").name == "other.mkv"


def test_a_link_tells_the_container_by_its_own_name(tmp_path):
    (tmp_path / "film.mp4").symlink_to(tmp_path / "store.bin")
    film = Recording(tmp_path / "film.mp4", (64, 96), overwrite=True)
    for pixels in panned(3):
        film.write(pixels)
    film.close()
    with av.open(str(tmp_path / "store.bin")) as file:
        assert "mp4" in file.format.name


class FakeCamera:
    """What pyvirtualcam.Camera looks like from outside."""

    device = "/dev/video9"

    def __init__(self, **options):
        if options["device"] == "/dev/none":
            raise RuntimeError("no backend:\n  v4l2loopback is not there")
        self.options, self.sent = options, []
        FakeCamera.last = self

    def send(self, pixels):
        self.sent.append(pixels)

    def close(self):
        self.sent.append(None)


def test_a_virtual_camera_gets_the_pictures(monkeypatch):
    fake = types.SimpleNamespace(Camera=FakeCamera, PixelFormat=types.SimpleNamespace(RGB="rgb"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", fake)
    outlet = VirtualCamera((64, 96))
    assert outlet.name == "/dev/video9"
    assert FakeCamera.last.options == {"width": 96, "height": 64, "fps": 30, "fmt": "rgb", "device": None}
    (pixels,) = panned(1)
    outlet.write(pixels[:, ::-1])
    assert np.array_equal(FakeCamera.last.sent[0], pixels[:, ::-1])
    assert FakeCamera.last.sent[0].flags.c_contiguous
    outlet.close()
    assert FakeCamera.last.sent[1:] == [None]
    with pytest.raises(DeviceError, match="no virtual camera to write to: no backend: v4l2loopback is not there"):
        VirtualCamera((64, 96), "/dev/none")


def test_a_virtual_camera_needs_its_package(run, tmp_path, monkeypatch):
    clip = write_clip(tmp_path / "in.mp4", panned(10))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    code, _, err = run("camera", clip, "--style", "wave", "--output", "virtual", "-q")
    assert code == 7
    assert "pip install 'restyle[virtualcam]'" in err
