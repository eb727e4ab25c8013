"""What Prometheus is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Meters:
    """The numbers of one server, apart from those of any other in the same process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "restyle_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self.seconds = Histogram(
            "restyle_request_seconds", "From a request's first byte to its reply's last.", ["route"],
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.places = Gauge("restyle_places_taken", "Requests being received, waiting or painted.", registry=registry)
        self.waited = Histogram("restyle_wait_seconds", "Waiting for the engine.", buckets=_SECONDS, registry=registry)
        self.worked = Histogram(
            "restyle_work_seconds", "Reading, painting and writing a picture.", buckets=_SECONDS, registry=registry
        )
        self.styles = Gauge("restyle_styles_kept", "Uploaded styles kept.", registry=registry)
        self._live = Gauge("restyle_live_sessions", "Live sessions.", registry=registry)
        self.live_now = 0
        self.frames = Counter("restyle_live_frames", "Live frames painted.", registry=registry)

    @contextlib.contextmanager
    def live_session(self) -> Iterator[None]:
        """Count a live session for as long as the context lasts."""
        self.live_now += 1
        self._live.set(self.live_now)
        try:
            yield
        finally:
            self.live_now -= 1
            self._live.set(self.live_now)

    def expose(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)
