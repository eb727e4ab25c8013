"""What all routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from restyle.serve.engine_queue import EngineQueue
from restyle.serve.jobs import JobRunner
from restyle.serve.limits import Limits, Tokens
from restyle.serve.meters import Meters
from restyle.serve.styles import StyleStore
from restyle.stylizer import Stylizer


@dataclass(frozen=True)
class Shared:
    """One engine, its queue, the video jobs, the styles, the limits."""

    stylizer: Stylizer
    store: StyleStore
    queue: EngineQueue
    jobs: JobRunner
    limits: Limits
    meters: Meters
    tokens: Tokens


def _shared(connection: HTTPConnection) -> Shared:
    shared = connection.app.state.shared
    assert isinstance(shared, Shared)
    return shared


Here = Annotated[Shared, Depends(_shared)]
"""How a route asks for it."""
