"""What people with bad intentions send, or with bad luck: each gets one answer, and the server goes on."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="starlette's test client needs it")
import httpx
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from restyle.image import encode_image, read_image
from restyle.serve.app import create_app
from restyle.serve.engine_queue import EngineQueue
from restyle.serve.limits import Limits
from restyle.serve.meters import Meters
from restyle.serve.problems import Problem
from served import serving

TOKEN = "a-long-and-secret-token"
SETTINGS = {"style_id": ["wave"], "strength": 1.0}


@pytest.fixture
def start(model):
    """A test client of a server with such limits and options."""
    clients = []

    def start(limits=None, **options):
        client = TestClient(create_app(model, limits, **options))
        clients.append(client)
        return client.__enter__()

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def content(photo):
    return encode_image(photo, "png")


def post(client, content, headers=None, **fields):
    return client.post("/v1/images", files={"content": content}, data={"style_id": "wave", **fields}, headers=headers)


def refused(reply, status, sentence=""):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert sentence in reply.json()["detail"]
    return reply


def wait_until(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


# --- sizes ------------------------------------------------------------------------------------------------------------


def png_header(height, width):
    """The beginning of a PNG file that claims to be so large."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_huge_dimensions_and_bombs_are_refused_by_their_header(start, content):
    client = start(Limits(max_pixels=1_000_000))
    for height, width in ((100_000, 100_000), (1, 2**31 - 1), (2000, 2000)):
        refused(post(client, png_header(height, width)), 413, "pixels")
    bomb = png_header(1000, 1001) + chunk(b"IDAT", zlib.compress(bytes(3_004_000), 9)) + chunk(b"IEND", b"")
    assert len(bomb) < 5000
    refused(post(client, bomb), 413, "limit")
    refused(client.post("/v1/styles", files={"style": bomb}), 413, "limit")
    assert post(client, content).status_code == 200


def test_too_many_bytes_are_refused(start, content):
    client = start(Limits(max_bytes=100_000))
    refused(post(client, bytes(200_000)), 413, "100,000 bytes")
    assert post(client, content).status_code == 200


def test_wrong_types_are_found_out(start, content):
    client = start()
    for file in (
        b"MZ\x90\0" + bytes(500),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"%!PS-Adobe",
        content[:200],
    ):
        refused(
            client.post("/v1/images", files={"content": ("photo.png", file, "image/png")}, data={"style_id": "wave"}),
            415,
        )
    # And a picture is one, whatever it is called.
    odd = {"content": ("../../../etc/passwd\0.exe", content, "text/html")}
    assert client.post("/v1/images", files=odd, data={"style_id": "wave"}).status_code == 200


# --- who may --------------------------------------------------------------------------------------------------------


def test_tokens(start, content):
    client = start(tokens=[TOKEN, "another-long-secret-token"])
    for header in (None, "Bearer wrong-token-of-some-length", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"):
        reply = refused(post(client, content, headers={"Authorization": header} if header else None), 401)
        assert reply.headers["www-authenticate"] == "Bearer"
    refused(client.get("/metrics"), 401)
    refused(client.get("/v1/styles"), 401)
    for token in (TOKEN, "another-long-secret-token"):
        assert post(client, content, headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert client.get("/").status_code == client.get("/healthz").status_code == 200  # they hold nothing secret


def test_one_client_cannot_ask_too_often(start, content):
    client = start(Limits(rate=3))
    assert [client.get("/v1/models").status_code for _ in range(3)] == [200] * 3
    reply = refused(client.get("/v1/models"), 429)
    assert 1 <= int(reply.headers["retry-after"]) <= 20
    assert client.get("/healthz").status_code == 200


def test_a_name_that_is_not_ours_is_refused(start):
    client = start(hosts=("localhost", "::1"))
    refused(client.get("/", headers={"Host": "evil.example"}), 400, "--allow-host")
    refused(client.get("/", headers={"Host": "localhost.evil.example:8000"}), 400)
    for host in ("localhost", "localhost:8000", "LOCALHOST", "[::1]:8000"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_may_not_use_it_unless_allowed(start, content):
    client = start()
    for origin in (
        "https://evil.example",
        "null",
        "http://testserver.evil.example",
        "http://testserver:81",
        "http://[",
    ):
        refused(post(client, content, headers={"Origin": origin}), 403, "--allow-origin")
    assert post(client, content, headers={"Origin": "http://testserver"}).status_code == 200
    friend = {"Origin": "https://friend.example"}
    client = start(origins=["https://friend.example"])
    reply = post(client, content, headers=friend)
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, friend["Origin"])
    asked = client.options("/v1/images", headers={**friend, "Access-Control-Request-Method": "POST"})
    assert asked.status_code == 200
    refused(post(client, content, headers={"Origin": "https://evil.example"}), 403)


# --- too much at once -------------------------------------------------------------------------------------------------


def test_when_all_places_are_taken_the_next_is_told_to_come_back(start, content, monkeypatch, model):
    began, go_on = threading.Event(), threading.Event()
    apply = type(model).apply

    def slow(*args, **options):
        began.set()
        assert go_on.wait(30)
        return apply(*args, **options)

    client = start(Limits(queue=2))
    monkeypatch.setattr(type(model), "apply", slow)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(post(client, content))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert began.wait(30)
    wait_until(lambda: "restyle_places_taken 2.0" in client.get("/metrics").text)
    reply = refused(post(client, content), 503, "busy")
    assert int(reply.headers["retry-after"]) >= 1
    refused(client.get("/readyz"), 503)
    assert client.get("/healthz").status_code == 200
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert [reply.status_code for reply in replies] == [200, 200]
    assert client.get("/readyz").status_code == 200
    assert post(client, content).status_code == 200


def test_whoever_waits_too_long_for_the_engine_is_told_so():
    async def scene():
        queue = EngineQueue(Limits(wait_s=0.05), Meters())
        queue.open()
        go_on = threading.Event()
        busy = [asyncio.create_task(queue.run(go_on.wait)) for _ in range(2)]
        await asyncio.sleep(0.01)
        try:
            with pytest.raises(Problem) as refusal:
                await asyncio.wait_for(queue.run(lambda: None), 20)
        finally:
            go_on.set()
        assert (refusal.value.status_code, "Retry-After" in refusal.value.headers) == (503, True)
        assert await asyncio.gather(*busy) == [True, True]
        assert await queue.run(lambda: "painted") == "painted"
        queue.close()

    asyncio.run(scene())


# --- the real server --------------------------------------------------------------------------------------------------


@pytest.fixture
def served(model):
    """Start a real server: its address and port."""
    with contextlib.ExitStack() as servers:
        yield lambda limits=None: servers.enter_context(serving(model, limits))[0]


def say(address, *parts, pause=0.0):
    """Send bytes over a bare connection, and return everything that comes back."""
    with socket.create_connection(address, timeout=30) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
        return b"".join(iter(lambda: connection.recv(65536), b""))


HEAD = b"POST /v1/images HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"


def test_a_slow_body_is_not_waited_for(served, content):
    address = served(Limits(body_s=0.3, queue=1))
    began = time.monotonic()
    answer = say(address, HEAD + b"Content-Length: 10000\r\n\r\n", b"--b\r\n")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive" in answer
    assert time.monotonic() - began < 20
    reply = httpx.post(
        f"http://{address[0]}:{address[1]}/v1/images", files={"content": content}, data={"style_id": "wave"}
    )
    assert reply.status_code == 200  # the place is free again


def test_200_megabytes_are_refused_before_they_are_sent(served):
    address = served()
    answer = say(address, HEAD + b"Content-Length: 200000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_never_ends_is_cut_off(served):
    part = b"--b\r\nContent-Disposition: form-data; name=content; filename=a\r\n\r\n" + bytes(30_000)
    chunk = b"%x\r\n%s\r\n" % (len(part), part)
    answer = say(served(Limits(max_bytes=100_000)), HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 4)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"100,000 bytes" in answer


def test_a_client_that_leaves_frees_its_place(served, content):
    address = served(Limits(queue=1))
    for _ in range(3):
        with socket.create_connection(address) as connection:
            connection.sendall(HEAD + b"Content-Length: 10000\r\n\r\n--b\r\n")
    url = f"http://{address[0]}:{address[1]}/v1/images"
    for _ in range(100):  # the leaving is noticed a little later
        reply = httpx.post(url, files={"content": content}, data={"style_id": "wave"})
        if reply.status_code != 503:
            break
        time.sleep(0.05)
    assert reply.status_code == 200


@pytest.fixture
def process(tmp_path):
    """The command itself in a process: (process, address)."""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "RESTYLE_CACHE": str(tmp_path / "cache")}
    (tmp_path / "tmp").mkdir()
    words = [sys.executable, "-m", "restyle", "serve", "--port", "0", "--threads", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline()
            yield process, re.search(r"http://\S+", line)[0]
        finally:
            process.kill()


def test_a_signal_lets_running_work_finish_and_nothing_stays_on_the_disk(process, photo, tmp_path):
    process, address = process
    large = encode_image(np.tile(photo, (12, 12, 1)), "png")  # 1.8 million pixels, and 2 MB of request
    own = encode_image(np.tile(photo, (8, 8, 1)), "bmp")
    replies = []

    def ask():
        files = {"content": large, "style": own}
        replies.append(httpx.post(f"{address}/v1/images", files=files, timeout=120))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: "restyle_places_taken 1.0" in httpx.get(f"{address}/metrics").text)
    process.send_signal(signal.SIGTERM)
    asking.join(120)
    assert [reply.status_code for reply in replies] == [200]
    assert process.wait(60) in (0, -signal.SIGTERM)
    assert process.stderr.read() == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# --- live -------------------------------------------------------------------------------------------------------------


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
    darker = (photo * 0.6).astype(np.uint8)
    first, last = (model.paint(picture[None], wave)[1][0] for picture in (photo, darker))
    expected = model.paint(darker[None], wave, statistics=np.float32(0.8) * first + np.float32(0.2) * last)[0][0]
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
        socket.send_json(SETTINGS)
        assert socket.receive_json()["ok"]
        for file, status in ((b"", 415), (b"abc", 415), (png_header(2000, 2000), 413), (content[:100], 415)):
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
