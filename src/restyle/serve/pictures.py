"""The routes that take pictures: a style to keep, a photograph to paint."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile

from restyle.errors import ImageError, LimitError
from restyle.image import check_size, encode_image, read_image, resize
from restyle.image.sizes import SIZE_PATTERN, parse_size, wanted_size
from restyle.serve.about import StyleInfo
from restyle.serve.forms import FormRoute, known_fields_only
from restyle.serve.problems import Problem, describe
from restyle.serve.shared import Here, Shared
from restyle.serve.styles import StyleStore
from restyle.style import Style
from restyle.stylizer import STYLE_SIDE, check_options

router = APIRouter(route_class=FormRoute)

MEDIA_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp", "avif": "image/avif"}
MOST_STYLES = 8
REFUSALS = describe(400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
PICTURE = {
    "description": "The picture, at the photograph's size.",
    "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()},
}

StyleCrop = Annotated[
    Literal["center"] | None, Form(description="Read only the square in the middle of uploaded style pictures.")
]
StyleSize = Annotated[
    int, Form(ge=64, le=1024, description="Short side in pixels at which style pictures are read: the strokes' size.")
]
Strength = Annotated[
    float, Form(ge=0, le=2, allow_inf_nan=False, description="0 the photograph, 1 the style, 2 exaggerated.")
]
KeepColors = Annotated[
    str | None,
    Form(
        # Only told here: the engine refuses in a sentence.
        json_schema_extra={"pattern": r"^(luminance|histogram|covariance)(:(0?\.\d{1,9}|[01](\.\d{0,9})?))?$"},
        description="Keep the photograph's colours: luminance, histogram or covariance, or with an amount "
        "as in luminance:0.5.",
    ),
]
WorkSize = Annotated[
    int | None, Form(ge=16, le=4096, description="Short side at which to paint; the answer keeps its own size.")
]


@dataclass(frozen=True)
class WantedStyles:
    """The styles of a request; several are mixed."""

    style: Annotated[list[UploadFile] | None, File(description="Style pictures.")] = None
    style_id: Annotated[list[str] | None, Form(description="Gallery names, and ids from POST /v1/styles.")] = None
    style_weight: Annotated[
        list[float] | None, Form(description="One for each: first those of style, then those of style_id.")
    ] = None
    style_size: StyleSize = STYLE_SIDE
    style_crop: StyleCrop = None

    async def plan(self, store: StyleStore) -> Callable[[], Style]:
        """See ``plan_styles``."""
        uploads = [await one.read() for one in self.style or ()]
        names, weights = self.style_id or [], self.style_weight or []
        return plan_styles(store, uploads, names, weights, self.style_size, self.style_crop)


@dataclass(frozen=True)
class PaintOptions:
    """How to paint."""

    strength: Strength = 1.0
    keep_colors: KeepColors = None
    work_size: WorkSize = None
    tile: Annotated[
        int | None, Form(ge=512, le=2048, description="Side of the tiles of large pictures; else automatic.")
    ] = None

    def as_keywords(self) -> dict[str, Any]:
        """For ``Stylizer.apply`` and ``check_options``."""
        return {**vars(self), "keep_colors": self.keep_colors or None}


@dataclass(frozen=True)
class Outcome:
    """What is sent back."""

    size: Annotated[
        str | None,
        Form(
            json_schema_extra={"pattern": SIZE_PATTERN},
            description="Resize first: N makes the shorter side N pixels, HxW sets both.",
        ),
    ] = None
    format: Annotated[
        Literal["jpeg", "png", "webp", "avif"] | None,
        Form(description="Of the answer; else the photograph's where that is JPEG, PNG or WebP, and PNG otherwise."),
    ] = None
    quality: Annotated[int | None, Form(ge=1, le=100, description="Of JPEG, WebP and AVIF.")] = None


@router.post(
    "/v1/styles", tags=["styles"], status_code=201, responses=REFUSALS, dependencies=[Depends(known_fields_only)]
)
async def add_style(
    request: Request,
    here: Here,
    style: Annotated[UploadFile, File(description="Any picture.")],
    style_size: StyleSize = STYLE_SIDE,
    style_crop: StyleCrop = None,
) -> StyleInfo:
    """Read the style of a picture once, to use it often by its id. The picture itself is not kept."""
    picture = await style.read()
    await stop_if_gone(request)
    with file_of("style"):
        encoded = await here.queue.run(partial(here.store.encode, picture, style_size, style_crop))
    return StyleInfo(id=here.store.keep(picture, style_size, style_crop, encoded), expires_s=here.limits.style_s)


@router.post(
    "/v1/images",
    tags=["images"],
    response_class=Response,
    responses={200: PICTURE, **REFUSALS},
    dependencies=[Depends(known_fields_only)],
)
async def paint_image(
    request: Request,
    here: Here,
    content: Annotated[UploadFile, File(description="The photograph.")],
    styles: Annotated[WantedStyles, Depends()],
    options: Annotated[PaintOptions, Depends()],
    outcome: Annotated[Outcome, Depends()],
    mask: Annotated[
        UploadFile | None, File(description="Grey picture: what is white is painted, what is black stays as it was.")
    ] = None,
) -> Response:
    """Paint a photograph in one style, or in a mix of several."""
    check_options(**options.as_keywords())
    size = parse_size(outcome.size) if outcome.size else None
    encode = await styles.plan(here.store)
    photograph = await content.read()
    mask_file = await mask.read() if mask else None
    await stop_if_gone(request)
    work = partial(_paint, here, photograph, mask_file, encode, options, outcome, size)
    picture, kind, spans = await here.queue.run(work)
    timing = ", ".join(f"{name};dur={span:.1f}" for name, span in spans.items())
    return Response(picture, media_type=MEDIA_TYPES[kind], headers={"Server-Timing": timing})


def _paint(
    here: Shared,
    photograph: bytes,
    mask: bytes | None,
    encode: Callable[[], Style],
    options: PaintOptions,
    outcome: Outcome,
    size: int | tuple[int, int] | None,
) -> tuple[bytes, str, dict[str, float]]:
    """The picture's file, its format, and how many milliseconds each step took."""
    limit = here.limits.max_pixels
    times = [time.perf_counter()]
    with file_of("content"):
        pixels = read_image(photograph, limit_pixels=limit).pixels
    if size:
        pixels = resize(pixels, wanted_size(pixels.shape[:2], size, limit))
    kind = outcome.format or _format_of(photograph)
    try:
        check_size(pixels.shape[:2], kind)
    except ImageError as error:  # it is what was asked for that cannot be
        raise Problem(422, str(error)) from error
    with file_of("mask"):
        grey = None if mask is None else read_image(mask, limit_pixels=limit).pixels
    times.append(time.perf_counter())
    style = encode()
    times.append(time.perf_counter())
    painted = here.stylizer.apply(pixels, style, mask=grey, **options.as_keywords())
    times.append(time.perf_counter())
    file = encode_image(painted, kind, quality=outcome.quality)
    times.append(time.perf_counter())
    spans = zip(("read", "style", "paint", "write"), times, times[1:], strict=False)
    return file, kind, {name: 1000 * (end - start) for name, start, end in spans}


def plan_styles(
    store: StyleStore,
    uploads: list[bytes],
    names: list[str],
    weights: list[float],
    size: int = STYLE_SIDE,
    crop: str | None = None,
) -> Callable[[], Style]:
    """Check at once what was asked for; the slow reading is left to a call of the result, in a thread.

    Raises:
        Problem: 422, the styles, weights and size do not fit each other.
        UnknownNameError: there is no such style, or no longer.
    """
    count = len(uploads) + len(names)
    if not 1 <= count <= MOST_STYLES:
        raise Problem(422, f"give 1 to {MOST_STYLES} styles as style or style_id, got {count}")
    if weights and len(weights) != count:
        raise Problem(422, f"style_weight must be given once for each style, got {len(weights)} for {count} styles")
    found = [(name, store.find(name)) for name in names]
    if size != STYLE_SIDE and any(style for _, style in found):
        raise Problem(422, "style_size of an uploaded style is chosen where it is uploaded, at POST /v1/styles")

    def encode() -> Style:
        encoded = []
        for number, picture in enumerate(uploads, 1):
            with file_of("style" if len(uploads) == 1 else f"style {number}"):
                encoded.append(store.encode(picture, size, crop))
        encoded += [style or store.encode_gallery(name, size) for name, style in found]
        return Style.mix(encoded, weights or None)

    return encode


@contextlib.contextmanager
def file_of(field: str) -> Iterator[None]:
    """Name the field whose file cannot be read: a request may bring several."""
    try:
        yield
    except (ImageError, LimitError) as error:
        raise type(error)(f"{field}: {error}") from error


def _format_of(file: bytes) -> str:
    """The format to answer in: the photograph's own where browsers show it and every program reads it."""
    if file.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "webp" if file[:4] == b"RIFF" and file[8:12] == b"WEBP" else "png"


async def stop_if_gone(request: Request) -> None:
    """Refuse to work for a client that has left."""
    if await request.is_disconnected():
        raise Problem(400, "the client has gone")
