"""How the server says no: one table from errors to HTTP status, every answer a problem document (RFC 9457)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from restyle.errors import (
    DeviceError,
    ImageError,
    LimitError,
    MissingExtraError,
    RestyleError,
    UnknownNameError,
    VideoError,
    disk_is_full,
)

STATUS: dict[type[Exception], int] = {
    UnknownNameError: 404,
    LimitError: 413,
    ImageError: 415,
    VideoError: 415,
    ValueError: 422,
    DeviceError: 503,
    MissingExtraError: 501,
    MemoryError: 503,
}
"""The first class that an error belongs to decides; everything else is 500, a fault of restyle."""

log = logging.getLogger("restyle.serve")


class Problem(HTTPException):
    """A refusal. ``detail`` is one sentence for people."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        waiting = {} if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
        super().__init__(status, detail, {**(headers or {}), **waiting})


class ProblemResponse(JSONResponse):
    """A problem document."""

    media_type = "application/problem+json"


def as_problem(error: Exception) -> Problem:
    """The refusal that an error amounts to."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return Problem(error.status_code, _sentence(_explained(error)), headers=error.headers)
    if disk_is_full(error):
        log.error("the disk is full", exc_info=error)
        return Problem(507, "the server's disk is full just now", retry_after_s=60)
    status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        log.error("a request failed", exc_info=error)
        return Problem(500, "a fault of restyle; it is in the server's log")
    if isinstance(error, MemoryError):
        return Problem(503, "not enough memory for this picture just now", retry_after_s=10)
    return Problem(status, _sentence(str(error)), retry_after_s=60 if status == 503 else None)


def problem_response(error: Exception, **more: Any) -> Response:
    """An error as the answer to a request."""
    problem = as_problem(error)
    document = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
        **more,
    }
    return ProblemResponse(document, problem.status_code, dict(problem.headers or {}))


def install(app: FastAPI) -> None:
    """Let an app answer every error with a problem document."""

    async def refuse(_: Request, error: Exception) -> Response:
        return problem_response(error)

    async def refuse_form(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        found = [
            {"field": ".".join(str(part) for part in one["loc"][1:]), "message": _message(one)}
            for one in error.errors()
        ]
        sentence = "; ".join(f"{one['field']}: {one['message']}" if one["field"] else one["message"] for one in found)
        return problem_response(Problem(422, sentence), errors=found)

    for kind in (HTTPException, RestyleError, ValueError, MemoryError, Exception):
        app.add_exception_handler(kind, refuse)
    app.add_exception_handler(RequestValidationError, refuse_form)


def describe(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What an OpenAPI document says of the refusals of a route."""
    schema = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "One sentence for people."},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                },
            },
        },
    }
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {ProblemResponse.media_type: {"schema": schema}},
        }
        for status in statuses
    }


def _explained(error: HTTPException) -> str:
    """A sentence for the refusals of the framework, which only repeats the status."""
    if error.status_code == 404:
        return "there is no such page; GET /docs shows the addresses that there are"
    if error.status_code == 405:
        return f"this address takes {(error.headers or {}).get('Allow', 'other methods')} only"
    return error.detail


def _message(error: Mapping[str, Any]) -> str:
    """What is wrong with a field: pydantic's words, but for a text in a file's place, where they name a class."""
    if "UploadFile" in error["msg"]:
        return "a file is wanted, not text; with curl put an @ before the file's name, as in -F content=@photo.jpg"
    return str(error["msg"])


def _sentence(text: str) -> str:
    return " ".join(str(text).split())[:500]
