"""The web server itself: a socket to listen on, uvicorn behind it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

LONGEST_GOODBYE_S = 30
"""After a signal to stop, work that has begun may go on for so long."""

HEADERS_S = 20.0
"""A client has so long for the head of a request; who sends a byte now and then must not hold a connection for ever."""

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
    """Serve until a signal, then finish what has begun. From the main thread; Ctrl-C is raised again at the end.

    Args:
        app: From ``create_app``.
        listening: From ``listen``.
        proxies: Addresses of reverse proxies whose X-Forwarded-For counts; none = nobody's.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        ws_max_size=LARGEST_MESSAGE,
        timeout_graceful_shutdown=LONGEST_GOODBYE_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_true)
    server = _Server(config, on_signal=app.state.shared.jobs.cancel_all)
    # uvicorn listens to Ctrl-C only once its loop runs; one that comes earlier must not break off what is being built.
    before = signal.signal(signal.SIGINT, server.handle_exit)
    try:
        server.run(sockets=[listening])
    finally:
        signal.signal(signal.SIGINT, before)
    if server.interrupted:
        signal.raise_signal(signal.SIGINT)


def _is_true(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn (0.54) says of every web socket that is refused with an answer of its own, such as 503."""
    return "returned without completing handshake" not in record.getMessage()


class Connection(H11Protocol):
    """uvicorn's connection, closed if the head of a request does not arrive in ``HEADERS_S``.

    uvicorn has no such limit (0.54): its own times begin with the first reply.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """A part of a request has come."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        super().connection_lost(exc)
        if self._deadline:
            self._deadline.cancel()

    def _watch(self) -> None:
        """Have a deadline while a head is awaited: before the first request, and once a part of the next is there."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self._deadline:
                self._deadline.cancel()
            self._deadline = None
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_S, self._give_up)

    def _give_up(self) -> None:
        if self.transport.get_protocol() is self:  # else it has become a web socket
            self.transport.close()


class _Server(uvicorn.Server):
    """Breaks videos off at the signal, not after the goodbye: who follows one would keep the server waiting."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal
        self.interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted |= sig == signal.SIGINT
        self._on_signal()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # by a second Ctrl-C; uvicorn then leaves the app's own end out, and it ends in a traceback
            await self.lifespan.shutdown()
