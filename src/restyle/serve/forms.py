"""Forms as they come in: what of them may lie in memory, and which fields a route takes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from restyle.serve.problems import Problem

VIDEOS = "/v1/videos"
"""The one address whose requests may be larger than what is held in memory."""

REPEATED = frozenset({"style", "style_id", "style_weight"})
"""Fields that may be given several times."""


class FormRoute(APIRoute):
    """A route whose form takes no more memory than ``Limits.max_bytes``, however many parts it has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What FastAPI calls: the form is read before it would do so itself."""
        handle = super().get_route_handler()

        async def read_and_handle(request: Request) -> Response:
            if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                request._form = await _read_form(request)
            return await handle(request)

        return read_and_handle


async def _read_form(request: Request) -> FormData:
    try:
        return await _Parser(request, request.app.state.shared.limits.max_bytes).parse()
    except MultiPartException as error:
        raise Problem(400, error.message) from error
    except ClientDisconnect as error:
        raise Problem(400, "the client has gone") from error


class _Parser(MultiPartParser):
    """A picture's file stays in memory, a video's goes to the disk."""

    def __init__(self, request: Request, limit: int) -> None:
        super().__init__(request.headers, request.stream())
        self.spool_max_size = self._limit = self._left = limit  # starlette's own bound is one for each part
        self._with_video = request.url.path == VIDEOS

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._is_video():
            self._current_part.file.file.rollover()  # type: ignore[union-attr]

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_video():
            self._left -= end - start
        if self._left < 0:
            sentence = f"all fields but the video's file may have up to {self._limit:,} bytes together"
            raise Problem(413, sentence, headers={"Connection": "close"})
        super().on_part_data(data, start, end)

    def _is_video(self) -> bool:
        part = self._current_part
        return self._with_video and part.field_name == "content" and part.file is not None


async def known_fields_only(request: Request) -> None:
    """Refuse what would be left aside unseen: a name with a slip of the pen, a field given twice, one in the address.

    Raises:
        Problem: 422, there is a field that the route does not take, or does not take there or twice.
    """
    if request.query_params:
        raise Problem(422, "fields are taken from the form, not from the address behind a question mark")
    known = _fields(request.scope["route"].dependant)
    seen = set()
    for name, _ in (await request.form()).multi_items():
        if name not in known:
            raise Problem(422, f"there is no field {name[:80]!r}; the fields are: {', '.join(known)}")
        if name in seen and name not in REPEATED:
            raise Problem(422, f"{name} is given more than once")
        seen.add(name)


def _fields(dependant: Dependant) -> list[str]:
    below = [name for one in dependant.dependencies for name in _fields(one)]
    return [field.alias for field in dependant.body_params] + below
