"""The HTTP API as a program uses it: the same pictures as from Python, and a problem document for everything else."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="starlette's test client needs it")
from starlette.testclient import TestClient

from hostile import DAMAGED, TOO_LARGE, make_hostile
from restyle import gallery
from restyle.errors import DeviceError, UnknownNameError
from restyle.image import encode_image, read_image, resize
from restyle.serve.app import create_app
from restyle.serve.limits import Limits, RateLimiter, read_tokens
from restyle.serve.problems import STATUS
from restyle.serve.styles import StyleStore
from restyle.style import Style
from served import problem, serving

PROJECT = Path(__file__).parent.parent


@pytest.fixture
def client(model):
    with TestClient(create_app(model)) as client:
        yield client


def paint(client, content, **fields):
    files = {name: fields.pop(name) for name in ("style", "mask") if name in fields}
    return client.post("/v1/images", files={"content": content, **files}, data=fields)


def test_health_models_styles(client, model):
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}
    (about,) = client.get("/v1/models").json()
    assert (about["name"], about["device"]) == (model.card.name, "cpu")
    styles = client.get("/v1/styles").json()
    assert [style["id"] for style in styles] == [entry.name for entry in gallery.styles()]
    for style in styles:
        reply = client.get(style["thumbnail"])
        assert reply.headers["content-type"] == "image/jpeg"
        assert min(read_image(reply.content).pixels.shape[:2]) == 192
    assert client.get("/samples/castle.jpg").status_code == 200


def test_a_gallery_style_gives_the_picture_that_python_gives(client, content, photo, model, wave):
    reply = paint(client, content, style_id="wave")
    assert reply.headers["content-type"] == "image/png"
    assert np.array_equal(read_image(reply.content).pixels, model.apply(photo, wave))
    assert re.fullmatch(r"(\w+;dur=[\d.]+(, )?)+", reply.headers["server-timing"])


@pytest.mark.parametrize(
    "options",
    [{"strength": 0.4}, {"strength": 1.7}, {"keep_colors": "luminance:0.5"}, {"work_size": 48}, {"strength": 0}],
)
def test_options_mean_what_they_mean_in_python(client, content, photo, model, wave, options):
    painted = read_image(paint(client, content, style_id="wave", **options).content).pixels
    assert np.array_equal(painted, model.apply(photo, wave, **options))


def test_mask_size_and_style_size(client, content, photo, model):
    mask = np.zeros((50, 60), np.uint8)
    mask[:, 30:] = 255
    reply = paint(client, content, style_id="wave", mask=encode_image(mask, "png"), size="64x80", style_size=128)
    style = model.encode_style(gallery.find("wave"), size=128)
    expected = model.apply(resize(photo, (64, 80)), style, mask=mask)
    assert np.array_equal(read_image(reply.content).pixels, expected)
    assert read_image(paint(client, content, style_id="wave", size="48").content).pixels.shape == (48, 64, 3)


def test_styles_are_mixed_by_their_weights(client, content, photo, model, wave, mosaic):
    own = gallery.find("mosaic").read_bytes()
    reply = paint(client, content, style=own, style_id="wave", style_weight=[1, 3])
    mix = Style.mix([mosaic, wave], [1, 3])
    assert np.array_equal(read_image(reply.content).pixels, model.apply(photo, mix))


def test_an_uploaded_style_is_kept_under_the_hash_of_its_content(client, content):
    own = gallery.find("ink").read_bytes()
    reply = client.post("/v1/styles", files={"style": own})
    assert reply.status_code == 201
    name = reply.json()["id"]
    assert client.post("/v1/styles", files={"style": own}).json()["id"] == name
    assert client.post("/v1/styles", files={"style": own}, data={"style_size": 256}).json()["id"] != name
    assert client.post("/v1/styles", files={"style": own}, data={"style_crop": "center"}).json()["id"] != name
    by_name = paint(client, content, style_id=name)
    assert (
        by_name.content == paint(client, content, style_id="ink").content == paint(client, content, style=own).content
    )
    assert name not in client.get("/v1/styles").text  # whoever does not know it cannot use it


@pytest.mark.parametrize(
    ("format", "media_type"),
    [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp"), ("bmp", "image/png")],
)
def test_the_answer_has_the_photographs_format(client, photo, format, media_type):
    reply = paint(client, encode_image(photo, format), style_id="wave")
    assert reply.headers["content-type"] == media_type
    assert read_image(reply.content).pixels.shape == photo.shape


def test_the_format_can_be_chosen(client, content):
    large, small = (paint(client, content, style_id="wave", format="webp", quality=q) for q in (90, 10))
    assert large.headers["content-type"] == "image/webp"
    assert len(small.content) < len(large.content) / 2


def test_alpha_comes_back_and_metadata_does_not(client, photo):
    alpha = np.dstack([photo, np.full(photo.shape[:2], 90, np.uint8)])
    assert (read_image(paint(client, encode_image(alpha, "png"), style_id="wave").content).pixels[:, :, 3] == 90).all()
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Our camera", 6
    exif.get_ifd(0x8825)[1] = "N"  # where it was taken
    stream = io.BytesIO()
    Image.fromarray(photo).save(stream, "JPEG", exif=exif)
    reply = paint(client, stream.getvalue(), style_id="wave")
    with Image.open(io.BytesIO(reply.content)) as painted:
        assert painted.size == (96, 128)  # upright
        assert not painted.getexif()


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({}, 422, "1 to 8 styles"),
        ({"style_id": ["wave"] * 9}, 422, "1 to 8 styles"),
        ({"style_id": "wav"}, 404, "did you mean 'wave'"),
        ({"style_id": "../../etc/passwd"}, 404, "no style"),
        ({"style_id": "style-0123456789"}, 404, "expire"),
        ({"style_id": "wave", "strength": "3"}, 422, "strength"),
        ({"style_id": "wave", "strength": "nan"}, 422, "strength: Input should be a finite number"),
        ({"style_id": "wave", "strength": "much"}, 422, "strength"),
        ({"style_id": "wave", "style_weight": "0"}, 422, "not all zero"),
        ({"style_id": "wave", "style_weight": "inf"}, 422, "finite"),
        ({"style_id": "wave", "style_weight": ["1", "2"]}, 422, "once for each"),
        ({"style_id": "wave", "keep_colors": "hue"}, 422, "keep_colors must be luminance, histogram, covariance"),
        ({"style_id": "wave", "size": "big"}, 422, "size 'big' is neither N nor HxW"),
        ({"style_id": "wave", "size": "0"}, 422, "size '0' is neither N nor HxW"),
        ({"style_id": "wave", "size": "99999x99999"}, 413, "limit"),
        ({"style_id": "wave", "size": "16x66000", "format": "jpeg"}, 422, "JPEG holds at most 65,500 pixels a side"),
        ({"style_id": "wave", "tile": "0"}, 422, "tile"),
        ({"style_id": "wave", "work_size": "1"}, 422, "work_size"),
        ({"style_id": "wave", "format": "exe"}, 422, "format"),
        ({"style_id": "wave", "quality": "0"}, 422, "quality"),
        ({"style": b"not a picture"}, 415, "style: cannot read the picture"),
        ({"style_id": "wave", "mask": b""}, 415, "mask: cannot read the picture: the file is empty"),
        ({"style_id": "wave", "strenght": "0.2"}, 422, "no field 'strenght'; the fields are: content, mask, style,"),
    ],
)
def test_bad_requests_get_one_sentence(client, content, fields, status, sentence):
    assert sentence in problem(paint(client, content, **fields), status)["detail"]


def test_other_refusals_are_problems_too(client):
    assert "/docs" in problem(client.get("/nowhere"), 404)["detail"]
    problem(client.get("/gallery/../../secret.jpg"), 404)
    problem(client.get("/gallery/nothing.jpg"), 404)
    assert "POST" in client.get("/v1/images").headers["allow"]
    assert "takes POST only" in problem(client.get("/v1/images"), 405)["detail"]
    problem(client.post("/v1/images", content=b"{}", headers={"content-type": "application/json"}), 422)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    problem(client.post("/v1/images", content=b"--y\r\nnonsense", headers=broken), 400)
    problem(client.post("/v1/images", content=b"", headers={"content-type": "multipart/form-data"}), 400)
    found = problem(client.post("/v1/images", data={"style_id": "wave"}), 422)
    assert found["errors"][0]["field"] == "content"


def test_a_fault_of_ours_is_a_problem_without_its_secrets(model, content, monkeypatch):
    monkeypatch.setattr(type(model), "apply", lambda *_, **__: 1 / 0)
    with TestClient(create_app(model), raise_server_exceptions=False) as client:
        document = problem(paint(client, content, style_id="wave"), 500)
        assert "division" not in json.dumps(document)
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_every_reply_carries_the_security_headers(client, content):
    for reply in (
        client.get("/"),
        client.get("/nowhere"),
        paint(client, content, style_id="wave"),
        client.get("/static/page.css"),
    ):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in reply.headers
        assert "server" not in reply.headers
    assert paint(client, content, style_id="wave").headers["cache-control"] == "no-store"


def test_metrics_count(client, content):
    paint(client, content, style_id="wave")
    paint(client, content)
    client.get("/nowhere")
    text = client.get("/metrics").text
    assert 'restyle_requests_total{method="POST",route="/v1/images",status="200"} 1.0' in text
    assert 'restyle_requests_total{method="POST",route="/v1/images",status="422"} 1.0' in text
    assert 'route="none",status="404"' in text
    assert "nowhere" not in text  # else everyone could fill the memory with names
    assert "restyle_places_taken 0.0" in text
    assert "process_resident_memory_bytes" in text


def test_pages_load_nothing_from_elsewhere(client):
    for address in ("/", "/docs"):
        page = client.get(address)
        assert page.headers["content-type"].startswith("text/html")
        assert "<script>" not in page.text
        assert not re.search(r'(src|href)="(https?:)?//', page.text)
        names = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
        assert len(names) >= 3
        assert [client.get(f"/{name}").status_code for name in names] == [200] * len(names)
    problem(client.get("/static/../app.py"), 404)
    problem(client.get("/static/%2e%2e/app.py"), 404)


def test_kept_styles_are_bounded_and_expire(model, wave):
    now = [0.0]
    store = StyleStore(model, Limits(styles=3, style_s=10), clock=lambda: now[0])
    names = [store.keep(bytes([number]), 512, None, wave) for number in range(3)]
    store.find(names[0])  # used last, so it stays
    store.keep(b"new", 512, None, wave)
    assert store.find(names[0]) is wave
    with pytest.raises(UnknownNameError, match="expire"):
        store.find(names[1])
    now[0] = 9
    store.find(names[0])
    now[0] = 18
    assert store.find(names[0]) is wave
    assert len(store) == 1
    now[0] = 30
    assert len(store) == 0


def test_ten_thousand_uploads_leave_as_many_styles_as_allowed(model, wave):
    store = StyleStore(model, Limits())
    for number in range(10_000):
        store.keep(b"%d" % number, 512, None, wave)
    assert len(store) == Limits().styles


def test_the_rate_limit_counts_each_client():
    now = [0.0]
    limiter = RateLimiter(60, clock=lambda: now[0])
    assert [limiter.ask("a") for _ in range(60)] == [0] * 60
    assert 0 < limiter.ask("a") <= 1
    assert limiter.ask("b") == 0
    now[0] = 1.1
    assert limiter.ask("a") == 0
    assert limiter.ask("a") > 0
    assert RateLimiter(0).ask("a") == 0
    for number in range(60):
        assert limiter.ask(f"2001:db8::{number:x}") == 0
    assert limiter.ask("2001:db8::ffff") > 0  # one household, one client
    for number in range(20_000):
        limiter.ask(f"10.0.{number // 256}.{number % 256}")
    assert len(limiter._clients) <= 10_000


def test_limits_and_token_files_are_checked():
    for field in ("max_bytes", "queue", "wait_s"):
        with pytest.raises(ValueError, match=field):
            Limits(**{field: 0})
    with pytest.raises(ValueError, match="rate"):
        Limits(rate=-1)
    assert read_tokens("# ours\n\n 0123456789abcdef \n") == ["0123456789abcdef"]
    for text in ("", "# nothing\n", "short", "0123456789 abcdef"):
        with pytest.raises(ValueError, match="token"):
            read_tokens(text)


def test_the_command_refuses_what_cannot_work(run, tmp_path, monkeypatch):
    import socket
    import sys

    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("serve", "--port", taken.getsockname()[1])
    assert (code, "cannot listen" in err) == (3, True)
    code, _, err = run("serve", "--token-file", tmp_path / "none")
    assert (code, f"cannot read the token file '{tmp_path / 'none'}': No such file" in err) == (3, True)
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff")
    code, _, err = run("serve", "--token-file", tmp_path / "picture")
    assert (code, "not text in UTF-8" in err) == (3, True)
    (tmp_path / "tokens").write_text("short")
    code, _, err = run("serve", "--token-file", tmp_path / "tokens")
    assert (code, "16 or more" in err) == (2, True)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "restyle.serve.server", raising=False)
    code, _, err = run("serve")
    assert (code, "pip install 'restyle[serve]'" in err) == (7, True)


@pytest.mark.parametrize(
    ("option", "wrong", "right"),
    [
        (
            "--allow-origin",
            [
                "foo",
                "*",
                "null",
                "example.org",
                "https://example.org/",
                "https://Example.org",
                "https://example.org:443",
            ],
            ["https://example.org", "http://localhost:3000", "http://[::1]:3000", "chrome-extension://abcdef"],
        ),
        (
            "--allow-host",
            ["http://x/", "x:8000", "*.example.org", "[::1]", "::1/64", "a b", ""],
            ["pictures.example.org", "Pictures.Example.org", "192.168.0.2", "fe80::1"],
        ),
        ("--proxy", ["foo", "localhost", "10.0.0.1/8", "127.0.0.1:80", "*"], ["127.0.0.1", "10.0.0.0/8", "::1"]),
        ("--max-bytes", ["10"], ["10000"]),
        ("--max-video-bytes", ["200"], ["200000"]),
    ],
)
def test_the_command_refuses_what_could_never_match(run, monkeypatch, option, wrong, right):
    def so_far(*_):
        raise DeviceError("so far comes what is right")

    monkeypatch.setattr("restyle.serve.server.listen", so_far)
    for value in wrong:
        code, _, err = run("serve", option, value)
        assert (code, option in err, len(err.splitlines())) == (2, True, 1), err
    for value in right:
        assert run("serve", option, value)[0] == 5, value


def test_awkward_and_damaged_files(client, content, tmp_path):
    for name, path in make_hostile(tmp_path).items():
        if path.is_dir():
            continue
        status = 415 if name in DAMAGED else 413 if name in TOO_LARGE else 200
        for reply in (
            paint(client, path.read_bytes(), style_id="wave"),
            paint(client, content, style=path.read_bytes(), style_size=64),
        ):
            assert reply.status_code == status, f"{name}: {reply.text[:200]}"


def test_the_example_of_the_docs_runs(model, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (PROJECT / "docs" / "server.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for name, picture in (("photo.jpg", "samples/coffee.jpg"), ("painting.jpg", "ink.jpg")):
        (tmp_path / name).write_bytes((gallery.FOLDER / picture).read_bytes())
    with serving(model) as ((_, port), _):
        exec(code.replace(":8000", f":{port}"), {})
    size = read_image(tmp_path / "photo.jpg").pixels.shape
    assert read_image(tmp_path / "painted.jpg").pixels.shape == size


def test_every_route_field_and_status_is_documented(client):
    docs = (PROJECT / "docs" / "server.md").read_text()
    statuses = {405, 500, *STATUS.values()}
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        assert path in docs, path
        for route in methods.values():
            assert route["description"]
            statuses |= {int(status) for status in route["responses"]}
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    for name, schema in schemas.items():
        if name.startswith("Body_"):
            for field in schema["properties"]:
                assert f"`{field}`" in docs, field
    told = re.findall(r"^\| (\d{3}) \|", docs, re.MULTILINE)
    assert told == sorted(str(status) for status in statuses if status >= 400)
