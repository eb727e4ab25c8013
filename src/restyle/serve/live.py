"""Live pictures over a web socket: the newest frame wins, one is painted at a time.

The client sends a JSON message with the settings first, and again whenever they change:

    {"style_id": ["wave", "ink"], "style_weight": [2, 1], "strength": 0.8, "keep_colors": null, "token": "..."}

and gets one back: ``{"type": "settings", "ok": true}``. What cannot be done is told as ``{"type": "problem", "about":
"settings", "status": ..., "detail": ...}``, or about "frame", and the session goes on.
Frames are binary messages: four bytes that number the frame, then a picture file. The painted frame comes back with the
same four bytes, as JPEG. A frame that arrives while another is painted replaces the one that waits.
"""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, WebSocket
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocketDisconnect

from restyle.controls.colors import keep_colors
from restyle.errors import RestyleError
from restyle.image import encode_image, lay_on_white, read_image
from restyle.serve.pictures import MOST_STYLES, plan_styles
from restyle.serve.problems import Problem, as_problem
from restyle.serve.shared import Here, Shared
from restyle.style import Style
from restyle.stylizer import STYLE_SIDE, check_options
from restyle.video import CALM
from restyle.video.statistics import Statistics

router = APIRouter()

NUMBER_BYTES = 4
LONGEST_SETTINGS = 10_000
JPEG_QUALITY = 85

POLICY_VIOLATION, GOING_AWAY, TOO_BIG = 1008, 1001, 1009


class Settings(BaseModel):
    """How live frames are painted."""

    model_config = ConfigDict(extra="forbid")

    style_id: list[str] = Field(min_length=1, max_length=MOST_STYLES)
    style_weight: list[float] = []
    style_size: Annotated[int, Field(ge=64, le=1024)] = STYLE_SIDE
    strength: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 1.0
    keep_colors: Annotated[str, Field(max_length=40)] | None = None
    token: str = ""


@router.websocket("/v1/live")
async def live(socket: WebSocket, here: Here) -> None:
    """Paint frames until the client leaves."""
    if here.meters.live_now >= here.limits.live:
        raise Problem(503, "all live places are taken; try again later", retry_after_s=30)
    with here.meters.live_session():
        await socket.accept()
        session, closed = _Session(socket, here), None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.listen)
                tasks.start_soon(session.paint)
        except* _Closed as group:
            (closed, *_) = group.exceptions
        except* (WebSocketDisconnect, TimeoutError):  # it has left, or has not taken a frame in the guard's time
            closed = None
        if isinstance(closed, _Closed):
            with contextlib.suppress(WebSocketDisconnect):  # a client that takes nothing may leave even now
                await socket.close(closed.code, closed.sentence)


class _Closed(Exception):
    """The session is to be ended by the server."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class _Session:
    """One client's frames and settings."""

    def __init__(self, socket: WebSocket, here: Shared) -> None:
        self._socket, self._here = socket, here
        self._newest: bytes | None = None
        self._came = anyio.Event()
        self._style: Style | None = None
        self._settings: Settings | None = None
        self._known = False  # whether a token has come, where one is wanted
        self._statistics = Statistics(CALM)  # so that colours do not pump

    async def listen(self) -> None:
        """Take messages; a frame replaces the one that waits."""
        while True:
            try:
                with anyio.fail_after(self._here.limits.live_idle_s):
                    message = await self._socket.receive()
            except TimeoutError:
                raise _Closed(GOING_AWAY, "no frame came for long") from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", GOING_AWAY))
            if (frame := message.get("bytes")) is not None:
                self._want_token(None)
                if len(frame) > self._here.limits.live_bytes:
                    raise _Closed(TOO_BIG, f"a frame may have up to {self._here.limits.live_bytes:,} bytes")
                self._newest = frame
                self._came.set()
            else:
                await self._change(message.get("text") or "")

    async def _change(self, text: str) -> None:
        try:
            if len(text) > LONGEST_SETTINGS:
                self._want_token(None)
                raise Problem(413, "settings may have up to 10,000 characters")
            settings = Settings.model_validate_json(text)
            self._want_token(settings)
            check_options(strength=settings.strength, keep_colors=settings.keep_colors)
            wanted = (settings.style_id, settings.style_weight, settings.style_size)
            encode = plan_styles(self._here.store, [], *wanted)
            self._style = await self._here.queue.run(encode)
            self._settings = settings
            await self._say({"type": "settings", "ok": True})
        except ValidationError as error:
            self._want_token(None)
            first_error = error.errors()[0]
            field = ".".join(map(str, first_error["loc"]))
            sentence = f"{field}: {first_error['msg']}" if field else first_error["msg"]
            await self._refuse("settings", Problem(422, sentence))
        except (RestyleError, ValueError, Problem) as error:
            await self._refuse("settings", error)

    def _want_token(self, settings: Settings | None) -> None:
        """End a session whose first message brings no token, or it would hold a place for as long as it likes."""
        accept = self._here.tokens.accept
        self._known = (
            self._known
            or accept(self._socket.headers.get("authorization"))
            or (settings is not None and accept(f"Bearer {settings.token}"))
        )
        if not self._known:
            raise _Closed(POLICY_VIOLATION, "this server wants a token")

    async def paint(self) -> None:
        """Paint the newest frame, again and again."""
        while True:
            await self._came.wait()
            self._came = anyio.Event()
            frame, self._newest = self._newest, None
            if frame is None:
                continue
            if self._settings is None or self._style is None:
                await self._refuse("frame", Problem(422, "send settings before frames"))
                continue
            try:
                style, settings = self._style, self._settings
                painted = await self._here.queue.run(lambda: self._paint(frame, style, settings))  # noqa: B023
            except (RestyleError, ValueError, Problem) as error:
                await self._refuse("frame", error)
                continue
            await self._socket.send_bytes(painted)
            self._here.meters.frames.inc()

    def _paint(self, frame: bytes, style: Style, settings: Settings) -> bytes:
        number, file = frame[:NUMBER_BYTES], frame[NUMBER_BYTES:]
        pixels = lay_on_white(read_image(file, limit_pixels=self._here.limits.live_pixels).pixels)
        painted, own = self._here.stylizer.paint(
            pixels[None], style, settings.strength, statistics=self._statistics.mean
        )
        self._statistics.add(own[0])
        return number + encode_image(keep_colors(painted[0], pixels, settings.keep_colors), "jpg", quality=JPEG_QUALITY)

    async def _refuse(self, about: str, error: Exception) -> None:
        problem = as_problem(error)
        document = {"about": about, "status": problem.status_code, "detail": problem.detail}
        await self._say({"type": "problem", **document})

    async def _say(self, message: dict[str, Any]) -> None:
        await self._socket.send_text(json.dumps(message))
