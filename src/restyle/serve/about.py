"""The routes that tell something: health, numbers, the model, the gallery."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version as installed_version
from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from restyle import gallery
from restyle.errors import UnknownNameError
from restyle.serve.problems import Problem, describe
from restyle.serve.shared import Here

router = APIRouter()

JPEG: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    **describe(404, 422),
}
CACHED = {"Cache-Control": "public, max-age=3600"}


def version() -> str:
    """The version of restyle."""
    return installed_version("restyle")


class StyleInfo(BaseModel):
    """A style that can be painted with."""

    id: str = Field(description="For style_id of POST /v1/images.")
    title: str = ""
    author: str = ""
    year: str = ""
    licence: str = ""
    thumbnail: str | None = Field(default=None, description="Address of a small JPEG picture.")
    expires_s: float | None = Field(default=None, description="Seconds without use after which the style is forgotten.")


class ModelInfo(BaseModel):
    """The model that paints, and on what."""

    name: str
    version: str
    licence: str
    description: str
    device: str
    engine: str
    precision: str


class Health(BaseModel):
    """All is well."""

    status: str = "ok"


@router.get("/healthz", tags=["about"])
async def healthz() -> Health:
    """Whether the process answers."""
    return Health()


@router.get("/readyz", tags=["about"], responses=describe(503))
async def readyz(here: Here) -> Health:
    """Whether there is a place for the next request; a load balancer asks this."""
    if here.queue.full:
        raise Problem(503, "all places are taken", retry_after_s=1)
    return Health()


@router.get("/metrics", tags=["about"], response_class=Response, responses=describe(401))
async def metrics(here: Here) -> Response:
    """Numbers for Prometheus."""
    here.meters.styles.set(len(here.store))
    return Response(here.meters.expose(), media_type=here.meters.content_type)


@router.get("/v1/models", tags=["about"], responses=describe(401, 429))
async def list_models(here: Here) -> list[ModelInfo]:
    """The model that paints, and on what."""
    stylizer, card = here.stylizer, here.stylizer.card
    return [
        ModelInfo(
            name=card.name, version=card.version, licence=card.licence,
            description=str(card.document.get("description", "")),
            device=stylizer.device, engine=stylizer.engine, precision=stylizer.precision,
        )
    ]  # fmt: skip


@router.get("/v1/styles", tags=["styles"], responses=describe(401, 429))
async def list_styles() -> list[StyleInfo]:
    """The gallery. Uploaded styles are not listed: only who knows an id can use it."""
    return [
        StyleInfo(
            id=entry.name, title=entry.title, author=entry.author, year=entry.year, licence=entry.licence,
            thumbnail=f"/gallery/{entry.name}.jpg",
        )
        for entry in gallery.styles()
    ]  # fmt: skip


@router.get("/gallery/{name}.jpg", tags=["styles"], response_class=Response, responses=JPEG)
async def show_thumbnail(name: str, here: Here) -> Response:
    """A gallery style's picture, small."""
    thumbnail = await here.queue.run(partial(here.store.thumbnail, name))
    return Response(thumbnail, media_type="image/jpeg", headers=CACHED)


@router.get("/samples/{name}.jpg", tags=["styles"], response_class=Response, responses=JPEG)
async def show_sample(name: str) -> Response:
    """A bundled photograph to try things with."""
    samples = {entry.name: entry.path for entry in gallery.entries().values() if entry.kind == "sample"}
    if name not in samples:
        raise UnknownNameError("sample", name[:80], samples)
    return Response(samples[name].read_bytes(), media_type="image/jpeg", headers=CACHED)
