"""The web server itself: a socket to listen on, uvicorn behind it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

LONGEST_GOODBYE_S = 30
"""After a signal to stop, work that has begun may go on for so long."""

LARGEST_MESSAGE = 4_000_000
"""Of a web socket, in bytes; the live session's own limit is smaller and says so."""


def listen(host: str, port: int) -> socket.socket:
    """Open the socket before anything slow is done.

    Raises:
        OSError: the address is not ours, or the port is taken.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror or error}") from error


def run(app: FastAPI, listening: socket.socket, *, proxies: list[str]) -> None:
    """Serve until a signal, then finish what has begun.

    Args:
        app: From ``create_app``.
        listening: From ``listen``.
        proxies: Addresses of reverse proxies whose X-Forwarded-For counts; none = nobody's.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        ws_max_size=LARGEST_MESSAGE,
        timeout_graceful_shutdown=LONGEST_GOODBYE_S,
    )
    _Server(config, on_signal=app.state.shared.jobs.cancel_all).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Breaks videos off at the signal, not after the goodbye: who follows one would keep the server waiting."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_signal()
        super().handle_exit(sig, frame)
