"""Live frames over a web socket: painted, the newest first, and closed to whoever may not."""

import json
import struct
import threading
import time

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="starlette's test client needs it")
from starlette.websockets import WebSocketDisconnect

from restyle.image import encode_image, read_image
from restyle.serve.limits import Limits
from restyle.video import CALM

TOKEN = "a-long-and-secret-token"
SETTINGS = {"style_id": ["wave"], "strength": 1.0}


def frame(number, file):
    return struct.pack(">I", number) + file


def test_live_frames_are_painted(start, photo, model, wave):
    with start().websocket_connect("/v1/live") as socket:
        socket.send_json(SETTINGS)
        assert socket.receive_json() == {"type": "settings", "ok": True}
        for number in (1, 2**32 - 1):
            socket.send_bytes(frame(number, encode_image(photo, "png")))
            reply = socket.receive_bytes()
            assert struct.unpack(">I", reply[:4]) == (number,)
            painted = read_image(reply[4:]).pixels.astype(int)
            assert np.abs(painted - model.apply(photo, wave)).mean() < 6  # it came as JPEG
        socket.send_json({**SETTINGS, "strength": 0})
        socket.receive_json()
        socket.send_bytes(frame(3, encode_image(photo, "png")))
        assert np.abs(read_image(socket.receive_bytes()[4:]).pixels.astype(int) - photo).mean() < 6


def test_live_colours_do_not_jump_with_the_light(start, photo, model, wave):
    darker = (photo * 0.85).astype(np.uint8)
    first, last = (model.paint(picture[None], wave)[1][0] for picture in (photo, darker))
    expected = model.paint(darker[None], wave, statistics=np.float32(CALM) * first + np.float32(1 - CALM) * last)[0][0]
    paintings = []
    with start().websocket_connect("/v1/live") as socket:
        socket.send_json(SETTINGS)
        socket.receive_json()
        for picture in (photo, darker, *[darker] * 30):
            socket.send_bytes(frame(1, encode_image(picture, "png")))
            paintings.append(read_image(socket.receive_bytes()[4:]).pixels.astype(int))
    by_itself = model.apply(darker, wave)
    assert np.abs(paintings[2] - expected).mean() < 6  # it came as JPEG
    assert np.abs(paintings[2] - by_itself).mean() > 2 * np.abs(paintings[2] - expected).mean()
    assert np.abs(paintings[-1] - by_itself).mean() < 6  # in the end it has followed


def test_a_new_scene_is_not_painted_like_the_old_one(start, photo, model, wave):
    scene = 255 - photo
    with start().websocket_connect("/v1/live") as socket:
        socket.send_json(SETTINGS)
        socket.receive_json()
        for picture in (*[photo] * 3, scene, scene):
            socket.send_bytes(frame(1, encode_image(picture, "png")))
            painted = read_image(socket.receive_bytes()[4:]).pixels.astype(int)
    assert np.abs(painted - model.apply(scene, wave)).mean() < 6  # it came as JPEG


@pytest.mark.parametrize(("method", "error"), [("close", WebSocketDisconnect(1006)), ("send_text", TimeoutError())])
def test_a_client_that_takes_nothing_and_leaves_is_no_fault(start, monkeypatch, method, error):
    async def fail(*_):
        raise error

    client = start(Limits(live_idle_s=0.1))
    monkeypatch.setattr(f"starlette.websockets.WebSocket.{method}", fail)
    with client.websocket_connect("/v1/live") as socket:
        if method == "send_text":
            socket.send_json(SETTINGS)
        time.sleep(0.5)  # what goes wrong in the server is raised at the end


def test_the_newest_frame_wins(start, photo, model, monkeypatch):
    paint, began, go_on = type(model).paint, threading.Event(), threading.Event()

    def slow(*args, **options):
        began.set()
        assert go_on.wait(30)
        return paint(*args, **options)

    client = start()
    with client.websocket_connect("/v1/live") as socket:
        socket.send_json(SETTINGS)
        socket.receive_json()
        monkeypatch.setattr(type(model), "paint", slow)
        file = encode_image(photo, "png")
        socket.send_bytes(frame(1, file))
        assert began.wait(30)
        for number in range(2, 9):
            socket.send_bytes(frame(number, file))
        socket.send_json(SETTINGS)  # answered after the frames before it have been taken
        assert socket.receive_json()["ok"]
        go_on.set()
        assert [struct.unpack(">I", socket.receive_bytes()[:4])[0] for _ in range(2)] == [1, 8]


def test_a_bad_message_gets_a_sentence_and_the_session_goes_on(start, content):
    with start().websocket_connect("/v1/live") as socket:
        socket.send_bytes(frame(1, content))
        refusal = socket.receive_json()
        assert ("settings before frames" in refusal["detail"], refusal["about"]) == (True, "frame")
        for text, status in (
            ("nonsense", 422),
            ("[" * 20_000, 413),
            (json.dumps({"style_id": []}), 422),
            (json.dumps({"style_id": ["wav"]}), 404),
            (json.dumps({**SETTINGS, "strength": 3}), 422),
            (json.dumps({**SETTINGS, "unknown": 3}), 422),
            (json.dumps({**SETTINGS, "keep_colors": "hue"}), 422),
        ):
            socket.send_text(text)
            assert socket.receive_json()["status"] == status
        socket.send_text('{"style_id": ["wave"], "strength": NaN}')
        assert "finite" in socket.receive_json()["detail"]
        socket.send_json(SETTINGS)
        assert socket.receive_json()["ok"]
        large = encode_image(np.zeros((2000, 2000, 3), np.uint8), "png")
        for file, status in ((b"", 415), (b"abc", 415), (large, 413), (content[:100], 415)):
            socket.send_bytes(frame(2, file))
            assert socket.receive_json()["status"] == status
        socket.send_bytes(frame(3, content))
        assert socket.receive_bytes()[:4] == struct.pack(">I", 3)


def test_live_is_closed_to_other_sites_and_without_a_token(start, content):
    client = start(tokens=[TOKEN])
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/v1/live", headers={"Origin": "https://evil.example"}),
    ):
        pass
    for settings in (SETTINGS, {**SETTINGS, "token": "wrong"}):
        with client.websocket_connect("/v1/live") as socket:
            socket.send_json(settings)
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1008
    for message in ({"text": "{}"}, {"text": "x" * 20_000}, {"bytes": frame(1, content)}):  # nor may it hold a place
        with client.websocket_connect("/v1/live") as socket:
            socket.send({"type": "websocket.receive", **message})
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1008
    with client.websocket_connect("/v1/live") as socket:
        socket.send_json({**SETTINGS, "token": TOKEN})
        assert socket.receive_json()["ok"]


def test_live_places_sizes_and_silence_are_bounded(start):
    client = start(Limits(live=1, live_bytes=1000, live_idle_s=0.3))
    with client.websocket_connect("/v1/live") as socket:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/live"):
            pass
        socket.send_bytes(bytes(1001))
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1009
    with client.websocket_connect("/v1/live") as socket:
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 1001
    assert "restyle_live_sessions 0.0" in client.get("/metrics").text
