"""The routes for videos: a job, its progress, its result."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, File, Form, Request, Response, UploadFile
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, StreamingResponse

from restyle.errors import ImageError, LimitError, MissingExtraError, VideoError
from restyle.serve.forms import FormRoute, known_fields_only
from restyle.serve.jobs import Cancelled, Job, Report
from restyle.serve.pictures import (
    REFUSALS,
    KeepColors,
    Strength,
    WantedStyles,
    WorkSize,
    stop_if_gone,
)
from restyle.serve.problems import Problem, describe
from restyle.serve.shared import Here, Shared
from restyle.stylizer import check_options
from restyle.video import CALM

if TYPE_CHECKING:
    from restyle.video.reader import VideoReader

router = APIRouter(tags=["videos"], route_class=FormRoute)

SUFFIXES = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (0, b"\x1a\x45\xdf\xa3"), (8, b"AVI "))
"""How the files begin that are taken: MP4, MOV, Matroska, WebM, AVI. FFmpeg knows more, playlists that name other
files and addresses among them, so nothing else gets there."""

CONTAINERS = "mov,matroska,avi"
"""FFmpeg's names of these: a file that begins like one of them may still look more like a playlist to FFmpeg."""

LOOK_S = 0.25
"""Seconds between two looks at a job's progress."""


class JobInfo(BaseModel):
    """A video on its way."""

    id: str
    state: str = Field(description="queued, running, done, failed or cancelled.")
    frames_done: int
    frames: int | None = Field(description="All frames, as far as the file says.")
    notes: list[str] = Field(description="What could not be read or kept.")
    status: int | None = Field(default=None, description="Of a failed job: the HTTP status that fits.")
    detail: str | None = Field(default=None, description="Of a failed job: why, in one sentence.")
    result: str | None = Field(default=None, description="Of a job that is done: address of the video.")

    @classmethod
    def of(cls, job: Job) -> JobInfo:
        """What may be told of a job."""
        status, detail = job.problem or (None, None)
        state = "cancelled" if job.cancel.is_set() and job.ended is None else job.state
        return cls(
            id=job.id, state=state, frames_done=job.frames_done, frames=job.frames, notes=list(job.notes),
            status=status, detail=detail, result=f"/v1/jobs/{job.id}/video" if job.state == "done" else None,
        )  # fmt: skip


@router.post(
    "/v1/videos",
    status_code=202,
    responses={**REFUSALS, **describe(501, 507)},
    dependencies=[Depends(known_fields_only)],
)
async def paint_video(
    request: Request,
    here: Here,
    response: Response,
    content: Annotated[UploadFile, File(description="The video: MP4, MOV, Matroska, WebM or AVI.")],
    styles: Annotated[WantedStyles, Depends()],
    strength: Strength = 1.0,
    keep_colors: KeepColors = None,
    work_size: WorkSize = None,
    calm: Annotated[
        float, Form(ge=0, le=1, allow_inf_nan=False, description="0 = every frame by itself, up to 1 against flicker.")
    ] = CALM,
    size: Annotated[int | None, Form(ge=16, le=2160, description="Shorter side of the painted video.")] = None,
    sound: Annotated[
        Literal["copy", "drop"], Form(description="drop leaves it out; MP4 cannot hold every sound.")
    ] = "copy",
) -> JobInfo:
    """Begin to paint a video. Sound is kept, metadata is not; the result is MP4."""
    check_options(strength=strength, keep_colors=keep_colors or None, work_size=work_size)
    encode = await styles.plan(here.store)
    look = {"strength": strength, "keep_colors": keep_colors or None, "work_size": work_size, "calm": calm}
    job = here.jobs.prepare()
    try:
        await anyio.to_thread.run_sync(_take_over, content, job.source)
        job.frames = await anyio.to_thread.run_sync(_check, here, job, size, sound)
        style = await here.queue.run(encode)
        await stop_if_gone(request)  # nobody else could ever ask for the result
    except BaseException:
        here.jobs.remove(job)
        raise

    def work(source: Path, result: Path, report: Report) -> tuple[str, ...]:
        from restyle.video.pipeline import Look, stylize_video

        wanted = Look(style, **look)  # type: ignore[arg-type]
        found = stylize_video(
            here.stylizer, source, result, wanted, size=size, sound=sound, metadata=False, report=report
        )
        return found.notes

    here.jobs.start(job, work)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobInfo.of(job)


@router.get("/v1/jobs/{id}", responses=describe(401, 404, 422, 429))
async def show_job(id: str, here: Here) -> JobInfo:
    """How far a job is."""
    return JobInfo.of(here.jobs.find(id))


@router.get(
    "/v1/jobs/{id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events, each the job as GET /v1/jobs/{id} shows it, until it has ended.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **describe(401, 404, 422, 429),
    },
)
async def follow_job(id: str, here: Here) -> Response:
    """Be told how far a job is, whenever that changes."""
    job = here.jobs.find(id)

    async def events() -> AsyncIterator[str]:
        said = ""
        while True:
            ended = job.ended is not None or job.cancel.is_set()
            text = JobInfo.of(job).model_dump_json()
            if text != said:
                yield f"data: {text}\n\n"
                said = text
            if ended:
                return
            await asyncio.sleep(LOOK_S)

    return StreamingResponse(events(), media_type="text/event-stream")


@router.get(
    "/v1/jobs/{id}/video",
    response_class=Response,
    responses={
        200: {
            "description": "The video.",
            "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}},
        },
        **describe(400, 401, 404, 409, 416, 422, 429),
    },
)
async def show_video(id: str, here: Here) -> Response:
    """The painted video, whole or in parts (Range)."""
    job = here.jobs.find(id)
    if job.state != "done":
        raise Problem(409, f"the job is not done; it is {job.state}")
    return FileResponse(job.result, media_type="video/mp4")


@router.delete("/v1/jobs/{id}", status_code=204, responses=describe(401, 403, 404, 422, 429))
async def delete_job(id: str, here: Here) -> None:
    """Stop a job, or forget its result."""
    here.jobs.remove(here.jobs.find(id))


def _take_over(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)


def _check(here: Shared, job: Job, size: int | None, sound: str) -> int | None:
    """Refuse at once what can be seen to be no video, or one that cannot be painted; returns its frames if it tells."""
    with job.source.open("rb") as file:
        start = file.read(12)
    if not any(start[at:].startswith(mark) for at, mark in SUFFIXES):
        raise ImageError("the file is not a video in a known format (MP4, MOV, Matroska, WebM, AVI)")
    try:
        from restyle.video.reader import VideoReader
    except ImportError as error:
        raise MissingExtraError("painting videos", extra="video") from error
    try:
        with VideoReader(job.source, formats=CONTAINERS, size=size) as reader:
            stored = reader.stream.codec_context
            _check_pixels(here, "the video has", stored.height, stored.width)
            _check_pixels(here, "size asks for", *reader.clip.size)
            frames = reader.frames
            if frames and frames > here.limits.video_frames:
                raise LimitError(f"the video has {frames:,} frames; the limit is {here.limits.video_frames:,}")
            if sound == "copy" and reader.container.streams.audio:
                _check_sound(reader, job)
    except (VideoError, LimitError) as error:
        raise type(error)(job.without_paths(str(error))) from error
    return frames


def _check_pixels(here: Shared, said: str, height: int, width: int) -> None:
    if height * width > here.limits.video_pixels:
        raise LimitError(f"{said} {height} x {width} pixels; the limit is {here.limits.video_pixels:,}")


def _check_sound(reader: VideoReader, job: Job) -> None:
    """Begin to write the result, to see whether MP4 can hold the sound."""
    from restyle.video.writer import VideoWriter

    def begin(sound: str) -> None:
        writer = VideoWriter(job.result, reader.clip, source=reader, sound=sound, metadata=False)
        with contextlib.suppress(Cancelled), writer:
            raise Cancelled

    try:
        begin("copy")
    except VideoError as error:
        begin("drop")  # if that cannot be either, it is not the sound
        names = ", ".join({stream.codec_context.name for stream in reader.container.streams.audio})
        sentence = f"sound: MP4 cannot hold the sound of this video ({names}); leave it out (sound=drop)"
        raise Problem(422, sentence) from error
