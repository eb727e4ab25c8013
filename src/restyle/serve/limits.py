"""What the server allows: sizes, times, numbers, and how often one client may ask."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields

KNOWN_CLIENTS = 10_000
"""Clients whose requests are counted; the one unseen for longest is forgotten first."""


@dataclass(frozen=True)
class Limits:
    """Everything that bounds a request. Times are in seconds.

    Attributes:
        max_bytes: Size of a request's body.
        max_pixels: Height x width of a picture that is read or painted.
        queue: Requests at once that are received, wait, are painted or are sent; the next one gets 503.
        wait_s: Longest wait for the engine.
        body_s: Time in which a request's body must have arrived.
        reply_s: Time in which a client must have taken its reply.
        rate: Requests a minute of one client; 0 = as many as it likes.
        styles: Uploaded styles that are kept; the one unused for longest goes first.
        style_s: Time after its last use when an uploaded style is forgotten.
        max_video_bytes: Size of the body of a request with a video.
        video_body_s: Time in which that must have arrived.
        video_pixels: Height x width of a video's frames.
        video_frames: Frames of a video.
        video_s: Time in which a video must be painted.
        videos: Videos that wait or are painted.
        result_s: Time for which a painted video is kept.
        live: Live sessions at once.
        live_pixels: Height x width of a live frame.
        live_bytes: Size of a live frame's file.
        live_idle_s: Time without a frame after which a live session is closed.
    """

    max_bytes: int = 32_000_000
    max_pixels: int = 50_000_000
    queue: int = 32
    wait_s: float = 30.0
    body_s: float = 60.0
    reply_s: float = 120.0
    rate: int = 600
    styles: int = 1000
    style_s: float = 3600.0
    max_video_bytes: int = 200_000_000
    video_body_s: float = 900.0
    video_pixels: int = 2_500_000
    video_frames: int = 20_000
    video_s: float = 7200.0
    videos: int = 4
    result_s: float = 3600.0
    live: int = 4
    live_pixels: int = 1_000_000
    live_bytes: int = 2_000_000
    live_idle_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: a limit is not above zero (``rate`` and ``live``: below zero).
        """
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("rate", "live") else 1e-3
            if not (math.isfinite(value) and value >= least):
                raise ValueError(f"{field.name} must be {'at least 0' if not least else 'above 0'}, got {value}")


class RateLimiter:
    """Counts each client's requests: ``rate`` of them at once, and as many again every minute."""

    def __init__(self, rate: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()  # requests left, when that was

    def ask(self, address: str) -> float:
        """Count a request.

        Returns:
            0 if it is allowed, else the seconds until the client's next one will be.
        """
        if not self._rate:
            return 0.0
        client, now, per_second = _client(address), self._clock(), self._rate / 60
        left, then = self._clients.pop(client, (float(self._rate), now))
        left = min(float(self._rate), left + (now - then) * per_second)
        allowed = left >= 1
        self._clients[client] = (left - allowed, now)
        if len(self._clients) > KNOWN_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) / per_second


def _client(address: str) -> str:
    """One client's name; in IPv6 everyone has a whole network of addresses."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if number.version == 6 else address


class Tokens:
    """The secrets of those who may use the API; without any, everyone may."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._digests = [_digest(token) for token in tokens]

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header holds one of the tokens; takes equally long whatever it holds."""
        if not self:
            return True
        scheme, _, token = (authorization or "").partition(" ")
        given = _digest(token.strip())
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(found) and scheme.lower() == "bearer"


def read_tokens(text: str) -> list[str]:
    """The tokens of a file: one a line; blank lines and those that begin with # do not count.

    Raises:
        ValueError: there is none, or one has fewer than 16 characters or a blank inside.
    """
    tokens = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if not tokens:
        raise ValueError("the token file holds no token; write one a line")
    for number, token in enumerate(tokens, 1):
        if len(token) < 16 or not token.isascii() or any(letter.isspace() for letter in token):
            raise ValueError(f"token {number} of the token file must be 16 or more ASCII characters without blanks")
    return tokens


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
