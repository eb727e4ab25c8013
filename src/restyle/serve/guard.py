"""Everything that is checked before a request reaches its route, and what every reply carries."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restyle.serve.engine_queue import EngineQueue
from restyle.serve.forms import VIDEOS
from restyle.serve.limits import Limits, RateLimiter, Tokens
from restyle.serve.meters import Meters
from restyle.serve.problems import Problem, problem_response

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

API = "/v1/"
PRIVATE = (API, "/metrics")

PIECE = 2**18
"""Bytes of a reply that are handed to the server at once."""


class Guard:
    """ASGI middleware: host, origin, rate, token, place in the queue, size and time of the body, headers.

    Args:
        app: What it stands in front of.
        hosts: Names under which the server may be addressed, without port; empty = any. A page of the web that has
            made its own name point to this machine (DNS rebinding) is stopped by this.
        origins: Origins beside the server's own whose pages may use it, such as ``https://example.org``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        tokens: Tokens,
        queue: EngineQueue,
        meters: Meters,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
    ) -> None:
        self._app, self._limits, self._tokens, self._queue, self._meters = app, limits, tokens, queue, meters
        self._hosts, self._origins = frozenset(map(str.lower, hosts)), frozenset(origins)
        self._rate = RateLimiter(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request and hand it on, or answer it with a problem."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reply = _Reply(send, self._limits.reply_s)
        began = time.perf_counter()
        try:
            self._check(scope)
            if scope["type"] == "http":
                await self._admit(scope, receive, reply)
            else:
                await self._app(scope, receive, reply)
        except Problem as problem:
            await problem_response(problem)(scope, receive, reply)
        except TimeoutError:
            if not reply.late:
                raise
            # Nothing to be said to a client that does not listen; the server closes what was not finished.
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._meters.requests.labels(scope.get("method", "live"), route, reply.status or 500).inc()
            if scope["type"] == "http":
                self._meters.seconds.labels(route).observe(time.perf_counter() - began)

    def _check(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if self._hosts and _name(host) not in self._hosts:
            raise Problem(400, "this server does not go by that name; see restyle serve --allow-host")
        origin = headers.get("origin")
        acts = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if acts and origin and origin not in self._origins and _netloc(origin) != host:
            raise Problem(403, "pages of other sites may not use this server; see restyle serve --allow-origin")
        if path.startswith(API):
            client = scope["client"][0] if scope.get("client") else "unknown"
            wait_s = self._rate.ask(client)
            if wait_s:
                raise Problem(429, "too many requests from this address", retry_after_s=wait_s)
        # A browser cannot send this header with a web socket: there the first message may hold the token.
        guarded = scope["type"] == "http" and scope["method"] != "OPTIONS" and path.startswith(PRIVATE)
        if guarded and not self._tokens.accept(headers.get("authorization")):
            raise Problem(
                401, "this server wants a token: Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"}
            )

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            await self._app(scope, receive, send)
            return
        limits, headers = self._limits, Headers(scope=scope)
        # Of a form of another kind nothing could go to the disk.
        if scope["path"] == VIDEOS and headers.get("content-type", "").lower().startswith("multipart/form-data"):
            body = _Body(receive, limits.max_video_bytes, limits.video_body_s)
        else:
            body = _Body(receive, limits.max_bytes, limits.body_s)
        body.expect(headers.get("content-length", ""))
        with self._queue.place():
            await self._app(scope, body, send)


class _Body:
    """A request's body, up to its size and time."""

    def __init__(self, receive: Receive, limit: int, limit_s: float) -> None:
        self._receive, self._limit, self._limit_s = receive, limit, limit_s
        self._came, self._ended = 0, False
        self._deadline = time.monotonic() + limit_s

    def expect(self, announced: str) -> None:
        if announced.isdecimal():
            self._check(int(announced))

    async def __call__(self) -> Message:
        if self._ended:  # now only the client's leaving can come, and that may take as long as it likes
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            sentence = f"the request's body did not arrive within {self._limit_s:g} s"
            raise Problem(408, sentence, headers={"Connection": "close"}) from None
        self._came += len(message.get("body", b""))
        self._check(self._came)
        self._ended = not message.get("more_body", False)
        return message

    def _check(self, size: int) -> None:
        if size > self._limit:
            sentence = f"the request is larger than this server's limit of {self._limit:,} bytes"
            raise Problem(413, sentence, headers={"Connection": "close"})


class _Reply:
    """Sends a reply with the headers that all carry, to a client that takes it in time."""

    def __init__(self, send: Send, limit_s: float) -> None:
        self._send, self._limit_s = send, limit_s
        self.status, self.late = 0, False
        self._plain: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_plain_refusal(message):
            self._plain = message
            return
        if self._plain:
            plain, self._plain = self._plain, None
            for part in _problem_instead(plain, message):
                await self(part)
            return
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        elif message["type"] == "websocket.accept":
            self.status = 101
        try:
            async with asyncio.timeout(self._limit_s):
                for piece in _pieces(message):
                    await self._send(piece)
        except TimeoutError:
            self.late = True
            raise


def _is_plain_refusal(start: Message) -> bool:
    """Whether a reply is starlette's own refusal of a Range header."""
    kind = Headers(raw=start["headers"]).get("content-type", "")
    return start["status"] in (400, 416) and kind.startswith("text/plain")


def _problem_instead(start: Message, body: Message) -> list[Message]:
    """The messages of a problem document in place of a refusal in plain text."""
    extent = Headers(raw=start["headers"]).get("content-range")
    sentence = body["body"].decode() or "the file has no such part as the header Range asks for"
    problem = Problem(start["status"], sentence, headers={"Content-Range": extent} if extent else None)
    reply = problem_response(problem)
    return [
        {"type": "http.response.start", "status": reply.status_code, "headers": reply.raw_headers},
        {"type": "http.response.body", "body": bytes(reply.body)},
    ]


def _pieces(message: Message) -> Iterator[Message]:
    """A long body in parts: a server waits between messages, and would hold one whole for a client that takes none."""
    body = message.get("body", b"")
    if len(body) <= PIECE:
        yield message
        return
    for start in range(0, len(body), PIECE):
        more = start + PIECE < len(body) or message.get("more_body", False)
        yield {**message, "body": body[start : start + PIECE], "more_body": more}


def _netloc(origin: str) -> str:
    """Host and port of an Origin header."""
    with contextlib.suppress(ValueError):
        return urlsplit(origin).netloc
    return ""


def _name(host: str) -> str:
    """A Host header without its port, in lower case."""
    with contextlib.suppress(ValueError):
        return (urlsplit(f"//{host}").hostname or "").lower()
    return ""
