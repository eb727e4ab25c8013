"""Where live pictures go: a page on this machine, standard output, a virtual camera, a recording."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.errors import DeviceError, MissingExtraError, VideoError
from restyle.video.frames import Colour
from restyle.video.reader import Clip, Frame
from restyle.video.writer import VideoWriter

Pixels = NDArray[np.uint8]

HOSTS = ("localhost", "127.0.0.1")
JPEG_QUALITY = 90

VIRTUAL_RATE = 30
"""Pictures a second that a virtual camera says it has; what it shows changes when a picture is painted."""

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>restyle</title>
<style>body{margin:0;background:#111;color:#eee;font:16px system-ui;text-align:center}
img{max-width:100vw;max-height:85vh}button{font:inherit;margin:.5em;padding:.4em 1em}</style>
<img src="/stream" alt="The pictures, painted">
<p id="buttons">BUTTONS</p><p role="status"></p>
<script>
const keys = [...document.querySelectorAll("button")].map(button => button.value);
async function press(key) {
  const answer = await fetch("/key/" + encodeURIComponent(key), {method: "POST"});
  document.querySelector("[role=status]").textContent = answer.ok ? await answer.text() : "";
}
document.querySelector("#buttons").onclick = event => { if (event.target.value) press(event.target.value); };
document.onkeydown = event => {
  if (keys.includes(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) press(event.key);
};
</script></html>"""


class MjpegPage:
    """A page with the live picture, and the picture alone at ``/stream``, for this machine only.

    Args:
        port: 0 = any free one.
        press: Called with the key of a button that is pressed; what it answers is shown.
        keys: The keys, and what their buttons say.

    Attributes:
        port: The port in use.

    Raises:
        VideoError: the port is taken.
    """

    def __init__(
        self, port: int, press: Callable[[str], str | None] = lambda _: None, keys: Mapping[str, str] = {}
    ) -> None:
        self._changed = threading.Condition()
        self._jpeg, self._number, self._watchers, self._closed = b"", 0, 0, False
        self._press, self._keys = press, keys
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page._get(self)

            def do_POST(self) -> None:
                page._post(self)

            def log_message(self, *_: object) -> None:
                """Be quiet."""

        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            raise VideoError(f"the page cannot be shown at port {port}: {error.strerror}") from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def write(self, pixels: Pixels) -> None:
        """Show a picture; it is compressed only while somebody watches."""
        if not self._watchers:
            return
        _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        with self._changed:
            self._jpeg, self._number = encoded.tobytes(), self._number + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Stop serving."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def _is_ours(self, request: BaseHTTPRequestHandler) -> bool:
        # Another site must not reach in: under a name of its own that it lets point to this machine, or with a form.
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        return host.rpartition(":")[0] in HOSTS and origin in (None, f"http://{host}")

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        key = unquote(request.path.removeprefix("/key/"))
        if not self._is_ours(request) or key not in self._keys:
            request.send_error(404)
            return
        answer = (self._press(key) or "").encode()
        request.send_response(200)
        request.send_header("Content-Type", "text/plain; charset=utf-8")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        if not self._is_ours(request) or request.path not in ("/", "/stream"):
            request.send_error(404)
            return
        request.send_response(200)
        if request.path == "/":
            request.send_header("Content-Type", "text/html; charset=utf-8")
            request.end_headers()
            buttons = (f'<button value="{key}">{word} ({key})</button>' for key, word in self._keys.items())
            request.wfile.write(_PAGE.replace("BUTTONS", "".join(buttons)).encode())
            return
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        request.end_headers()
        self._send_pictures(request)

    def _send_pictures(self, request: BaseHTTPRequestHandler) -> None:
        with self._changed:
            self._watchers += 1
        seen = 0
        try:
            while True:
                with self._changed:
                    while self._number <= seen and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    jpeg, seen = self._jpeg, self._number  # the newest: a slow watcher misses some
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                request.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:  # the watcher has left
            pass
        finally:
            with self._changed:
                self._watchers -= 1


class RawFrames:
    """Pictures as bytes, three for each pixel, row by row: what FFmpeg calls ``-f rawvideo -pix_fmt rgb24``."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, pixels: Pixels) -> None:
        """Send a picture.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        self._stream.write(np.ascontiguousarray(pixels).data)
        self._stream.flush()

    def close(self) -> None:
        """Nothing is left to do."""


class VirtualCamera:
    """A camera that other programs see, by pyvirtualcam.

    Args:
        size: (height, width) of the pictures.
        device: Its name, such as ``/dev/video2``; None = the first one that there is.

    Raises:
        MissingExtraError: pyvirtualcam is not installed.
        DeviceError: the machine has no virtual camera.
    """

    def __init__(self, size: tuple[int, int], device: str | None = None) -> None:
        try:
            import pyvirtualcam
        except ImportError as error:
            raise MissingExtraError("a virtual camera", extra="virtualcam") from error
        height, width = size
        try:
            self._camera = pyvirtualcam.Camera(
                width=width, height=height, fps=VIRTUAL_RATE, fmt=pyvirtualcam.PixelFormat.RGB, device=device
            )
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise DeviceError(f"there is no virtual camera to write to: {reason}") from error
        self.name: str = self._camera.device

    def write(self, pixels: Pixels) -> None:
        """Show a picture."""
        self._camera.send(np.ascontiguousarray(pixels))

    def close(self) -> None:
        """Give the camera back."""
        self._camera.close()


class Recording:
    """A video file of what was shown, each picture at the time when it was shown. It appears when it is closed."""

    def __init__(self, path: str | Path, size: tuple[int, int], *, overwrite: bool = False) -> None:
        clip = Clip(size, Fraction(25), Fraction(1, 1000), Colour())
        self._writer = VideoWriter(path, clip, overwrite=overwrite)
        self._began: float | None = None
        self._last = -1

    def write(self, pixels: Pixels) -> None:
        """Record a picture."""
        now = time.monotonic()
        self._began = now if self._began is None else self._began
        self._last = max(self._last + 1, round(1000 * (now - self._began)))
        self._writer.write(Frame(pixels, self._last, 0, self._last / 1000))

    def close(self) -> None:
        """Finish the file."""
        self._writer.finish()


class Recorder:
    """Recordings that begin and end on demand: the first under the name given, the next as ``film-2.mp4`` and so on.

    Args:
        path: The first file.
        size: (height, width) of the pictures.
        wanted: Whether to record now; asked at every picture.
        overwrite: Replace the first file if it exists.
        tell: Called with a sentence when a file is finished.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        wanted: Callable[[], bool],
        *,
        overwrite: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._first = self._path = path
        self._size, self._wanted, self._overwrite, self._tell = size, wanted, overwrite, tell
        self._film: Recording | None = None

    def write(self, pixels: Pixels) -> None:
        """Record a picture, if recording is wanted."""
        if not self._wanted():
            self.close()
            return
        if self._film is None:
            self._film = Recording(self._path, self._size, overwrite=self._overwrite)
        self._film.write(pixels)

    def close(self) -> None:
        """Finish the file that is being written."""
        if self._film is not None:
            film, self._film = self._film, None
            film.close()
            self._tell(f"recorded {self._path}")
            self._path, self._overwrite = free_path(self._first), False


def free_path(path: Path) -> Path:
    """The path, or the first of ``name-2``, ``name-3`` ... where nothing lies yet."""
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(one for one in chain([path], names) if not os.path.lexists(one))
