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
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from restyle.image import encode_image
from restyle.serve.engine_queue import EngineQueue
from restyle.serve.limits import Limits
from restyle.serve.meters import Meters
from restyle.serve.problems import Problem
from served import serving, wait_until

TOKEN = "a-long-and-secret-token"
SETTINGS = {"style_id": ["wave"], "strength": 1.0}


def post(client, content, headers=None, **fields):
    return client.post("/v1/images", files={"content": content}, data={"style_id": "wave", **fields}, headers=headers)


def refused(reply, status, sentence=""):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert sentence in reply.json()["detail"]
    return reply


def test_no_page_takes_a_file_from_the_client(start):
    client = start()
    hidden = [route for route in client.app.routes if not getattr(route, "include_in_schema", True)]
    assert {"/", "/docs"} <= {route.path for route in hidden}
    for route in hidden:  # the OpenAPI document does not show them: nobody would see that they take something
        assert not getattr(route, "dependant", None) or not route.dependant.query_params
    for page in ("/", "/docs"):
        for field in ("name", "file", "path"):
            assert client.get(page, params={field: __file__}).content == client.get(page).content


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
    client = start(hosts=("LocalHost", "::1"))
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
    address = served(Limits(body_s=1.5, queue=1))
    began = time.monotonic()
    answer = say(address, HEAD + b"Content-Length: 10000\r\n\r\n", b"--b\r\n")
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive" in answer
    assert time.monotonic() - began < 20
    reply = httpx.post(
        f"http://{address[0]}:{address[1]}/v1/images", files={"content": content}, data={"style_id": "wave"}, timeout=60
    )
    assert reply.status_code == 200  # the place is free again


def test_a_slow_head_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr("restyle.serve.server.HEADERS_S", 1.0)
    address = served(Limits())
    for before in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):  # the first request, and a later one
        with socket.create_connection(address, timeout=60) as client:
            client.sendall(before)
            assert not before or client.recv(10_000).startswith(b"HTTP/1.1 200")
            with contextlib.suppress(ConnectionError):  # a byte now and then, until the server has had enough
                for letter in b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 100:
                    client.sendall(bytes([letter]))
                    time.sleep(0.1)
                    with contextlib.suppress(TimeoutError):
                        client.settimeout(0.01)
                        if client.recv(100) == b"":
                            break
                else:
                    raise AssertionError("the server waits for ever")


def test_a_slow_answer_and_a_web_socket_are_not_cut_off(served, monkeypatch, content, model):
    from websockets.sync.client import connect

    def slow(*words, **options):
        time.sleep(2)
        return apply(*words, **options)

    apply = type(model).apply
    monkeypatch.setattr(type(model), "apply", slow)
    monkeypatch.setattr("restyle.serve.server.HEADERS_S", 1.0)
    host, port = served(Limits())
    with connect(f"ws://{host}:{port}/v1/live") as live:
        form = {"files": {"content": content}, "data": {"style_id": "wave"}}
        assert httpx.post(f"http://{host}:{port}/v1/images", **form, timeout=60).status_code == 200
        live.send(json.dumps(SETTINGS))
        assert json.loads(live.recv(60)) == {"type": "settings", "ok": True}


def test_a_client_that_does_not_take_its_answer_is_given_up(served, content, monkeypatch):
    answer = np.random.default_rng(0).bytes(20_000_000)  # more than the system's own buffers hold
    monkeypatch.setattr("restyle.serve.pictures.encode_image", lambda *_, **__: answer)
    host, port = served(Limits(queue=1, reply_s=3.0))
    url, form = f"http://{host}:{port}", {"files": {"content": content}, "data": {"style_id": "wave"}}
    request = httpx.Request("POST", f"{url}/v1/images", **form)
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection((host, port), timeout=60) as client:
        client.sendall(f"POST /v1/images HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        assert client.recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: "restyle_places_taken 0.0" in httpx.get(f"{url}/metrics").text)
        assert len(b"".join(iter(lambda: client.recv(2**20), b""))) < len(answer)  # the rest is not held for it
    assert httpx.post(f"{url}/v1/images", **form, timeout=60).content == answer  # who takes it gets it whole


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
        reply = httpx.post(url, files={"content": content}, data={"style_id": "wave"}, timeout=60)
        if reply.status_code != 503:
            break
        time.sleep(0.05)
    assert reply.status_code == 200


@contextlib.contextmanager
def command(tmp_path, *options):
    """The command itself in a process: (process, address)."""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "RESTYLE_CACHE": str(tmp_path / "cache")}
    (tmp_path / "tmp").mkdir()
    words = [sys.executable, "-m", "restyle", "serve", "--port", "0", "--threads", "1", *options]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline()
            yield process, re.search(r"http://\S+", line)[0]
        finally:
            process.kill()


@pytest.fixture
def process(tmp_path):
    with command(tmp_path) as running:
        yield running


def test_a_live_session_that_finds_no_place_is_no_fault(tmp_path):
    with command(tmp_path, "--live", "0") as (process, address):
        with pytest.raises(InvalidStatus) as refused, connect(f"{address.replace('http', 'ws')}/v1/live"):
            pass
        assert (refused.value.response.status_code, b"live places" in refused.value.response.body) == (503, True)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        assert process.stderr.read() == ""


@pytest.mark.parametrize("begun", [False, True])
def test_many_ctrl_c_end_it_as_one_does(process, begun):
    process, address = process
    if begun:
        httpx.get(f"{address}/healthz", timeout=60)
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert process.wait(60) == 130
    assert "Traceback" not in process.stderr.read()


def test_a_signal_lets_running_work_finish_and_nothing_stays_on_the_disk(process, photo, tmp_path):
    process, address = process
    large = own = encode_image(np.tile(photo, (8, 8, 1)), "bmp")  # over a megabyte: more than starlette keeps in memory
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
