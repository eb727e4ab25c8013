"""Where live pictures go: a page on this machine, standard output, a recording."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.errors import VideoError
from restyle.video.frames import Colour
from restyle.video.reader import Clip, Frame
from restyle.video.writer import VideoWriter

Pixels = NDArray[np.uint8]

HOSTS = ("localhost", "127.0.0.1")
JPEG_QUALITY = 90

PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>restyle camera</title>
<style>body{margin:0;background:#111;color:#eee;font:16px system-ui;text-align:center}
img{max-width:100vw;max-height:90vh}button{font:inherit;margin:.5em;padding:.4em 1em}</style>
<img src="/stream" alt="The camera, painted">
<form method="post" action="/next" target="hidden"><button accesskey="n">Next style</button></form>
<iframe name="hidden" hidden></iframe></html>"""


class MjpegPage:
    """A page with the live picture, and the picture alone at ``/stream``, for this machine only.

    Args:
        port: 0 = any free one.
        next_style: Called when the page's button is pressed.

    Attributes:
        port: The port in use.

    Raises:
        VideoError: the port is taken.
    """

    def __init__(self, port: int, next_style: Callable[[], object]) -> None:
        self._changed = threading.Condition()
        self._jpeg, self._number, self._watchers, self._closed = b"", 0, 0, False
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page._get(self)

            def do_POST(self) -> None:
                if page._is_ours(self) and self.path == "/next":
                    next_style()
                    self.send_response(204)
                    self.end_headers()
                else:
                    self.send_error(404)

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
        # Another site must not reach in under a name of its own that it lets point to this machine.
        return request.headers.get("Host", "").rpartition(":")[0] in HOSTS

    def _get(self, request: BaseHTTPRequestHandler) -> None:
        if not self._is_ours(request) or request.path not in ("/", "/stream"):
            request.send_error(404)
            return
        request.send_response(200)
        if request.path == "/":
            request.send_header("Content-Type", "text/html; charset=utf-8")
            request.end_headers()
            request.wfile.write(PAGE)
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
