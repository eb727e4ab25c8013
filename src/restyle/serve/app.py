"""The web application: routes, page and guard around one engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from restyle.serve import about, live, pictures, problems, videos
from restyle.serve.engine_queue import EngineQueue
from restyle.serve.guard import Guard
from restyle.serve.jobs import JobRunner
from restyle.serve.limits import Limits, Tokens
from restyle.serve.meters import Meters
from restyle.serve.shared import Shared
from restyle.serve.static_site import POLICY
from restyle.serve.styles import StyleStore
from restyle.stylizer import Stylizer

STATIC = Path(__file__).parent / "static"

FRESH = {"Cache-Control": "no-cache"}
"""A browser asks each time whether a file has changed."""

SITE_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    **FRESH,
}
"""Of the page that paints by itself: WebAssembly is allowed, and may use several threads."""


def create_app(
    stylizer: Stylizer,
    limits: Limits | None = None,
    *,
    tokens: Iterable[str] = (),
    hosts: Collection[str] = (),
    origins: Collection[str] = (),
    site: Path | None = None,
) -> FastAPI:
    """Make the server's application, for uvicorn or any other ASGI server.

    Args:
        stylizer: The engine, shared by all requests.
        limits: What is allowed.
        tokens: Secrets, one of which every request to ``/v1`` and ``/metrics`` must carry; none = open to all.
        hosts: Names under which the server may be addressed; none = any.
        origins: Origins beside its own whose pages may use the server (CORS), such as ``https://example.org``.
        site: Folder from ``write_site``; with it, the page offers to paint in the browser, too.

    Returns:
        The application. It holds its state in memory: run it in one process.
    """
    limits = limits or Limits()
    meters, secrets = Meters(), Tokens(tokens)
    queue = EngineQueue(limits, meters)
    jobs = JobRunner(limits)
    store = StyleStore(stylizer, limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.open()
        jobs.open()
        forgetting = asyncio.create_task(jobs.forget_in_time())
        yield
        forgetting.cancel()
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
    _add_page(app, site)
    for name, schema in app.openapi()["components"]["schemas"].items():
        if name.startswith("Body_"):  # FastAPI cannot say of a form that it takes no other fields, which they refuse
            schema["additionalProperties"] = False
    return app


def _add_page(app: FastAPI, site: Path | None) -> None:
    pages = [("/", STATIC / "index.html", FRESH), ("/docs", STATIC / "docs.html", FRESH)]
    if site is not None:
        pages.append(("/browser/", site / "index.html", SITE_HEADERS))
    for address, file, headers in pages:
        route = _page(file, headers, choice=site is not None)
        app.add_api_route(address, route, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount("/static", _Static(FRESH, directory=STATIC))
    if site is not None:
        app.mount("/browser", _Static(SITE_HEADERS, directory=site))


def _page(file: Path, headers: Mapping[str, str], *, choice: bool) -> Callable[[], Response]:
    """A route without arguments: of any that it had, FastAPI would make a field of the query, for clients to fill."""

    def page() -> Response:
        text = file.read_text(encoding="utf-8")
        # Marked so, a page shows its link to the other way of painting.
        return HTMLResponse(text.replace("<html ", "<html data-choice ", 1) if choice else text, headers=dict(headers))

    return page


class _Static(StaticFiles):
    """The page's files, with headers."""

    def __init__(self, headers: Mapping[str, str], *, directory: Path) -> None:
        super().__init__(directory=directory)
        self._headers = headers

    def file_response(self, *args: object, **options: object) -> Response:
        response = super().file_response(*args, **options)  # type: ignore[arg-type]
        response.headers.update(self._headers)
        return response
