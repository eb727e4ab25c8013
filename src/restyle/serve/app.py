"""The web application: routes, page and guard around one engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path

from fastapi import FastAPI
from starlette.formparsers import MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from restyle.serve import about, live, pictures, problems, videos
from restyle.serve.engine_queue import EngineQueue
from restyle.serve.guard import Guard
from restyle.serve.jobs import JobRunner
from restyle.serve.limits import Limits, Tokens
from restyle.serve.meters import Meters
from restyle.serve.shared import Shared
from restyle.serve.styles import StyleStore
from restyle.stylizer import Stylizer

STATIC = Path(__file__).parent / "static"


def create_app(
    stylizer: Stylizer,
    limits: Limits | None = None,
    *,
    tokens: Iterable[str] = (),
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
) -> FastAPI:
    """Make the server's application, for uvicorn or any other ASGI server.

    Args:
        stylizer: The engine, shared by all requests.
        limits: What is allowed.
        tokens: Secrets, one of which every request to ``/v1`` and ``/metrics`` must carry; none = open to all.
        hosts: Names under which the server may be addressed; none = any.
        origins: Origins beside its own whose pages may use the server (CORS), such as ``https://example.org``.

    Returns:
        The application. It holds its state in memory: run it in one process.
    """
    limits = limits or Limits()
    meters, secrets = Meters(), Tokens(tokens)
    queue = EngineQueue(limits, meters)
    jobs = JobRunner(limits)
    store = StyleStore(stylizer, limits)
    # A picture's file stays in memory, which the number of places bounds; a larger one, a video, goes to the disk.
    MultiPartParser.spool_max_size = max(MultiPartParser.spool_max_size, limits.max_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.open()
        jobs.open()
        yield
        jobs.close()
        queue.close()

    guards = [
        Middleware(
            Guard, limits=limits, tokens=secrets, queue=queue, meters=meters, hosts=hosts, origins=origins,
        )
    ]  # fmt: skip
    if origins:
        cors = {"allow_methods": ["GET", "POST", "DELETE"], "allow_headers": ["Authorization"]}
        guards.insert(0, Middleware(CORSMiddleware, allow_origins=list(origins), **cors))  # type: ignore[arg-type]
    app = FastAPI(
        title="restyle",
        version=about.version(),
        description="Repaint any picture in the style of any other picture.",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere, which our security headers forbid
        redoc_url=None,
        lifespan=lifespan,
        middleware=guards,
    )
    app.state.shared = Shared(stylizer, store, queue, jobs, limits, meters, secrets)
    problems.install(app)
    for room in (about, pictures, videos, live):
        app.include_router(room.router)
    _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    for address, name in (("/", "index.html"), ("/docs", "docs.html")):

        def page(name: str = name) -> Response:
            return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})

        app.add_api_route(address, page, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC))


class _Static(StaticFiles):
    """The page's files; a browser asks each time whether they have changed."""

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response
