"""The camera's window, on a display that nobody sees; run by test_video_window.py."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import ImageGrab, features

from clips import panned, write_clip
from restyle.errors import DeviceError
from restyle.video.camera import Camera
from restyle.video.remote import KEYS

pytest.importorskip("tkinter", reason="this Python has no tkinter; on Debian: apt install python3-tk")
if not shutil.which("Xvfb") or not features.check("xcb"):
    pytest.skip("needs Xvfb (on Debian: apt install xvfb) and a Pillow that looks at it", allow_module_level=True)

from restyle.video.window import Window

SCREEN = 480, 640
RED, BLUE = (200, 30, 20), (20, 40, 220)


@pytest.fixture(scope="module")
def xvfb():
    """The name of a display of its own: nothing pops up on the screen of whoever runs the tests."""
    ours, theirs = os.pipe()
    command = [
        "Xvfb",
        "-displayfd",
        str(theirs),
        "-screen",
        "0",
        f"{SCREEN[1]}x{SCREEN[0]}x24",
        "-nolisten",
        "tcp",
        "-noreset",
    ]
    with subprocess.Popen(command, pass_fds=[theirs], stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        with open(ours) as told:
            name = f":{told.readline().strip()}"
        yield name
        process.terminate()


@pytest.fixture
def display(xvfb, monkeypatch):
    monkeypatch.setenv("DISPLAY", xvfb)
    return xvfb


@contextlib.contextmanager
def open_window(*arguments):
    window = Window(*arguments)
    try:
        yield window
    finally:
        window.close()


def seen(display):
    """(H, W, 3) int: what is on the screen."""
    return np.asarray(ImageGrab.grab(xdisplay=display))[:, :, :3].astype(int)


def two_colours(size):
    """Red on the left, blue on the right."""
    picture = np.zeros((*size, 3), np.uint8)
    picture[:, : size[1] // 2], picture[:, size[1] // 2 :] = RED, BLUE
    return picture


def type_key(window, keysym):
    """As a person does: the pointer into the window, which so gets the focus, then the key."""
    window._root.event_generate("<Motion>", warp=True, x=5, y=5)
    for _ in range(500):  # until the display has told of it
        window._root.update()
        if window._root.focus_displayof() is not None:
            break
        time.sleep(0.01)
    window._root.event_generate("<Key>", keysym=keysym)


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "in.mp4", panned(10), rate=50)


def test_a_picture_is_seen_as_it_is(display):
    with open_window((120, 200)) as window:
        assert not np.any(np.all(seen(display) == RED, axis=2))
        picture = two_colours((120, 200))
        picture[:20] = 255  # not upside down
        window.write(picture)
        assert np.array_equal(seen(display)[:120, :200], picture)
    assert not seen(display).any()  # the window is gone


def test_pictures_fit_the_window_and_keep_their_shape(display):
    with open_window((900, 1200)) as window:  # larger than the screen
        window.write(two_colours((900, 1200)))
        large = np.all(seen(display) == RED, axis=2)
        assert 0.7 * SCREEN[0] < large.sum(0).max() < 0.9 * SCREEN[0]
        assert large.sum(0).max() / large.sum(1).max() == pytest.approx(900 / 600, rel=0.05)
        window._root.geometry("400x120")
        window.update()
        window.write(two_colours((900, 1200)))
        small = np.all(seen(display)[:120, :400] == RED, axis=2)
        assert 60 < small.sum(0).max() < 120
        assert small.sum(0).max() / small.sum(1).max() == pytest.approx(900 / 600, rel=0.05)
        window._root.geometry("4x4")
        window.update()
        window.write(two_colours((900, 1200)))


def test_keys_are_heard_and_answered(display):
    pressed = []

    def press(key):
        pressed.append(key)
        return f"heard {key}"

    with open_window((120, 600), press, KEYS) as window:
        for keysym in ("n", "plus", "minus", "Shift_L", "m"):
            type_key(window, keysym)
            window.update()
        assert pressed == ["n", "+", "-", "m"]  # Shift alone is no key
        assert window._status.cget("text") == "heard m"
        type_key(window, "Escape")
        window.write(two_colours((120, 600)))
        window._root.tk.call(window._root.protocol("WM_DELETE_WINDOW"))  # as if the cross were clicked
        window.update()
        assert pressed[4:] == ["q", "q"]
        assert any(
            all(f"{key} {word.lower()}" in child.cget("text") for key, word in KEYS.items())
            for child in window._status.master.winfo_children()
        )
        window.tell("24 pictures/s")
        window.update()
        assert window._root.title() == "restyle: 24 pictures/s"


def test_ctrl_c_is_not_swallowed(display):
    with open_window((64, 96)) as window:

        def interrupt():
            signal.raise_signal(signal.SIGINT)

        window._root.after_idle(interrupt)
        with pytest.raises(KeyboardInterrupt):
            window.update()


def test_without_a_display_or_tk(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(DeviceError, match="no window can be opened: no display"):
        Window((64, 96))
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(DeviceError, match="this Python has no tkinter"):
        Window((64, 96))


def test_the_camera_shows_a_window_where_there_is_a_display(run, clip, tmp_path, display, monkeypatch):
    write, shown = Window.write, []

    def watched(window, pixels):
        write(window, pixels)
        if not shown:
            type_key(window, "s")
        shown.append((pixels, seen(display)[:64, :96]))
        if len(shown) == 3:
            type_key(window, "q")

    monkeypatch.setattr(Window, "write", watched)
    words = ["camera", clip, "--style", "wave", "--folder", tmp_path, "--threads", 1, "--seconds", 60]
    code, out, err = run(*words)
    assert (code, out) == (0, "")
    assert err.startswith("window  96 x 64; q or Ctrl-C stops\nsnapshot ")
    assert 3 <= len(shown) <= 5
    for pixels, screen in shown:
        assert np.array_equal(pixels, screen)
    assert len(list(tmp_path.glob("*.png"))) == 1


def test_the_camera_shows_a_page_where_there_is_none(run, clip, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    words = ["camera", clip, "--style", "wave", "--seconds", 0, "--port", 0, "--threads", 1]
    code, _, err = run(*words)
    assert code == 0
    assert "no window can be opened: no display" in err
    assert "showing a page instead\nhttp://127.0.0.1:" in err
    code, _, err = run(*words, "--output", "window")
    assert code == 5
    assert "no window can be opened: no display" in err


def test_a_window_lives_on_while_the_source_is_lost(run, tmp_path, display, monkeypatch):
    data, asked = write_clip(tmp_path / "in.mkv", panned(6)).read_bytes(), []

    class Stream(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            if len(asked) > 1:
                self.send_error(503)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    update, typed = Window.update, []

    def quit_when_lost(window):
        if "is lost" in window._told:
            typed.append(type_key(window, "q"))
        update(window)

    monkeypatch.setattr(Window, "update", quit_when_lost)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/x.mkv"
        code, _, err = run("camera", address, "--style", "wave", "--threads", 1, "--seconds", 60)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert code == 0
    assert "trying again" in err
    assert typed  # the window was alive, and it was the key that ended it


def test_who_waits_for_a_picture_may_do_something_else(clip):
    with Camera(str(clip)) as camera:
        assert camera.newest(10**9, idle=camera.close) is None
