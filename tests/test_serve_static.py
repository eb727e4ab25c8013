"""The page as static files: what is written, and that it paints in a real browser as the engine does."""

import contextlib
import errno
import functools
import http.server
import json
import re
import threading

import numpy as np
import pytest

pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

from pages import CHROMIUM, Pages, camera_paints, chromium, difference, painted, served_pages, small_castle
from registry import publish
from restyle import gallery
from restyle.cache import cache_folder
from restyle.errors import ExportError
from restyle.image import read_image, resize, write_image
from restyle.serve import onnxruntime_web
from restyle.serve.onnxruntime_web import FILES, VERSION, find_runtime
from restyle.serve.static_site import write_site
from restyle.video import CALM
from restyle.video.statistics import NEW_SCENE

REAL_RUNTIME = cache_folder() / f"onnxruntime-web-{VERSION}"  # of whoever runs the tests; inside them it is another


@pytest.fixture
def runtime(tmp_path):
    """A package as it looks from outside, unpacked."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.fixture(scope="module", autouse=True)
def two_styles():
    """To read all styles of the gallery takes some seconds."""
    found = [entry for entry in gallery.styles() if entry.name in ("wave", "ink")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "styles", lambda: found)
        yield


@pytest.fixture
def registry(tmp_path, runtime, monkeypatch):
    """A registry that has this package."""
    file, integrity = publish(tmp_path, {f"dist/{path.name}": path.read_bytes() for path in runtime.iterdir()})
    monkeypatch.setattr(onnxruntime_web, "ADDRESS", file.as_uri())
    monkeypatch.setattr(onnxruntime_web, "INTEGRITY", integrity)
    return file


def test_everything_the_page_asks_for_is_written(tmp_path, runtime, model):
    site = tmp_path / "site"
    files = write_site(site, runtime=runtime)
    assert sorted(files) == sorted(path for path in site.rglob("*") if path.is_file())
    page = (site / "index.html").read_text(encoding="utf-8")
    assert 'http-equiv="Content-Security-Policy"' in page
    assert "'unsafe-inline'" not in page and "<script>" not in page and "style=" not in page
    wanted = {site / name for name in re.findall(r'(?:src|href)="(static/[^"]+)"', page)}
    assert len(wanted) >= 3
    scripts = {site / "static" / "browser_worker.js"} | {path for path in wanted if path.suffix == ".js"}
    while scripts:
        text = scripts.pop().read_text(encoding="utf-8")
        found = {site / "static" / name for name in re.findall(r'from "\./([^"]+)"', text)}
        scripts |= found - wanted
        wanted |= found
    assert [path for path in wanted if not path.is_file()] == []
    assert not re.search(r"/v1/|WebSocket", "".join(path.read_text("utf-8") for path in (site / "static").glob("*.js")))
    card = json.loads((site / "model" / "card.json").read_text(encoding="utf-8"))
    assert (card["calm"], card["new_scene"]) == (CALM, NEW_SCENE)
    styles = np.fromfile(site / "model" / "styles.bin", "<f4").reshape(len(card["styles"]), card["style_size"])
    for entry, vector in zip(card["styles"], styles, strict=True):
        assert (site / entry["thumbnail"]).is_file()
        if entry["id"] == "wave":
            assert np.array_equal(vector, model.encode_style(gallery.find("wave")).vector)
    assert all(entry.title in (site / "CREDITS.txt").read_text("utf-8") for entry in gallery.styles())


def test_nothing_of_the_users_is_replaced_unasked(tmp_path, runtime, run):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("mine")
    (site / "notes.txt").write_text("mine, too")
    words = ["serve", "--static", site, "--onnxruntime-web", runtime]
    code, _, err = run(*words)
    assert (code, "--overwrite" in err) == (3, True)
    assert (site / "index.html").read_text() == "mine"
    code, out, _ = run(*words, "--overwrite")
    assert (code, "http.server" in out) == (0, True)
    assert (site / "notes.txt").read_text() == "mine, too"
    assert "restyle" in (site / "index.html").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_the_disk_refuses_is_one_sentence(tmp_path, runtime, run, one_model, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / ".restyle-x"))

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    code, _, err = run("serve", "--static", tmp_path / "site", "--onnxruntime-web", runtime)
    assert (code, err) == (3, f"restyle: cannot write into '{tmp_path / 'site'}': Read-only file system\n")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--static", "FOLDER/file"], 3, "not a folder"),
        (["--static", "FOLDER/none/site"], 3, "there is no folder"),
        (["--static", "FOLDER/site", "--onnxruntime-web", "FOLDER/none"], 8, "has no file ort.wasm.min.mjs"),
        (["--static", "FOLDER/site", "--model", "nothing", "--onnxruntime-web", "RUNTIME"], 2, "nothing"),
        (["--overwrite"], 2, "--static"),
    ],
)
def test_the_command_refuses_what_cannot_be(run, tmp_path, runtime, words, code, sentence):
    (tmp_path / "file").write_text("")
    words = [word.replace("FOLDER", str(tmp_path)).replace("RUNTIME", str(runtime)) for word in words]
    found, _, err = run("serve", *words)
    assert (found, sentence in err) == (code, True), err
    assert not (tmp_path / "site").exists()


def test_the_runtime_is_fetched_once_and_checked(registry, runtime, monkeypatch):
    folder = find_runtime()
    assert {name: (folder / name).read_bytes() for name in FILES} == {name: name.encode() for name in FILES}
    registry.unlink()
    assert find_runtime() == folder
    assert find_runtime(runtime.parent) == find_runtime(runtime.parent.parent) == runtime
    monkeypatch.setenv("RESTYLE_CACHE", str(runtime.parent / "another"))
    with pytest.raises(ExportError, match=r"cannot be fetched .* --onnxruntime-web"):
        find_runtime()


def test_another_package_than_the_right_one_is_not_kept(registry, private_cache):
    registry.write_bytes(registry.read_bytes() + b"\0")
    with pytest.raises(ExportError, match="SHA-512"):
        find_runtime()
    assert list(private_cache.iterdir()) == []


# --- in a browser ---


@pytest.fixture(scope="module")
def castle():
    return small_castle()


@pytest.fixture(scope="module")
def browser(tmp_path_factory, castle):
    if CHROMIUM is None:
        pytest.skip("no chromium was found; set CHROMIUM to its path")
    with chromium(tmp_path_factory.mktemp("camera"), resize(castle, (128, 192))) as browser:
        yield browser


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The files, with the real onnxruntime-web."""
    if not all((REAL_RUNTIME / name).is_file() for name in FILES):
        pytest.skip("onnxruntime-web was not fetched yet: restyle serve --static FOLDER does it")
    folder = tmp_path_factory.mktemp("static") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTYLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        write_site(folder, runtime=REAL_RUNTIME)
    return folder


class FileServer(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; ``headers`` go with every file."""

    headers_too = {}

    def end_headers(self):
        for name, value in self.headers_too.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


class IsolatingServer(FileServer):
    headers_too = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


@contextlib.contextmanager
def served_files(folder, kind=FileServer):
    """The address of a server of files."""
    handler = functools.partial(kind, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def open_page(browser, site):
    """Open the page from a server of files; the browser's console must stay empty, and nobody else be asked."""
    pages, servers, asked = Pages(browser), contextlib.ExitStack(), []

    def open_page(kind=FileServer, path="", **options):
        address = servers.enter_context(served_files(site, kind))
        page = pages.open(f"{address}/{path}", **options)
        page.on("request", lambda request: asked.append(request.url.startswith((address, "blob:", "data:"))))
        return page

    yield open_page
    pages.close()
    servers.close()
    assert all(asked)
    assert pages.complaints == []


def paint_anew(page, change):
    """What is painted after a change."""
    page.evaluate("() => { document.getElementById('photo-status').textContent = '' }")
    change()
    return painted(page)


def test_the_browser_paints_what_the_engine_paints(open_page, tmp_path, castle, model):
    page = open_page()
    expect(page.locator("#engine")).to_contain_text(re.compile(r"WASM, 1 thread\): [\d.]+ pictures a second"))
    expect(page.get_by_role("tab", name="Video")).to_be_hidden()
    expect(page.locator("footer")).to_contain_text("stay on this device")
    write_image(tmp_path / "photo.png", castle)
    page.set_input_files("#photo-file", tmp_path / "photo.png")
    wave = model.encode_style(gallery.find("wave"))
    plain = painted(page)
    assert difference(plain, model.apply(castle, wave)) < 0.1
    strong = paint_anew(page, lambda: page.fill("#strength", "1.6"))
    assert difference(strong, model.apply(castle, wave, 1.6)) < 0.1
    paint_anew(page, lambda: page.fill("#strength", "1"))
    kept = paint_anew(page, lambda: page.get_by_label("Keep the photo").check())
    assert difference(kept, model.apply(castle, wave, keep_colors="luminance")) < 0.5
    paint_anew(page, lambda: page.get_by_label("Keep the photo").uncheck())
    # A style that has to be made smaller, and one that is repeated.
    glass = read_image(gallery.find("stained-glass")).pixels
    for side in (700, 150):
        own = resize(glass, (side, side + 50))
        write_image(tmp_path / f"own-{side}.png", own)
        found = paint_anew(page, lambda side=side: page.set_input_files("#style-file", tmp_path / f"own-{side}.png"))
        assert difference(found, model.apply(castle, model.encode_style(own))) < 0.5
    page.get_by_label("Mix several").check()
    mixed = paint_anew(page, lambda: page.get_by_role("button", name="The Great Wave").click())
    both = type(wave).mix([model.encode_style(own), wave])
    assert difference(mixed, model.apply(castle, both)) < 0.5


def test_broad_strokes_and_the_download_at_full_size(open_page, tmp_path, castle, model):
    page = open_page()
    photo = np.dstack([resize(castle, (840, 1260)), np.full((840, 1260), 255, np.uint8)])
    photo[:300, :300, 3] = 0
    write_image(tmp_path / "large.png", photo)
    page.set_input_files("#photo-file", tmp_path / "large.png")
    painted(page)
    paint_anew(page, lambda: page.get_by_text("Broad").click())
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Download 1260 . 840")).click()
    assert download.value.suggested_filename == "large-the-great-wave-off-kanagawa.png"
    saved = read_image(download.value.path()).pixels
    expected = model.apply(photo, model.encode_style(gallery.find("wave")), work_size=320)
    assert np.array_equal(saved[:, :, 3], photo[:, :, 3])
    assert difference(saved[320:, :, :3], expected[320:, :, :3]) < 2
    page.select_option("#format", "jpeg")
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Download")).click()
    paper = read_image(download.value.path()).pixels[:280, :280]
    assert paper.shape == (280, 280, 3) and paper.min() > 250


def test_with_isolation_there_are_threads_and_the_camera_is_painted(open_page, castle, model):
    page = open_page(IsolatingServer)
    expect(page.locator("#engine")).to_contain_text(re.compile(r"WASM, \d threads"))
    camera_paints(page, castle, model)
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()


def test_a_new_scene_before_the_camera_begins_anew(open_page):
    averages = open_page().evaluate("""async () => {
        const { BrowserEngine } = await import("./static/browser_engine.js");
        const scenes = [[1, 0], [0.9, 0], [0, 1], [0, 1]].map((own) => new Float32Array(own));
        const given = [];
        const paint = async (photo, mix, options, mean) => (given.push(mean && [...mean]), { own: scenes.shift() });
        const card = { calm: 0.5, new_scene: 0.15 };
        const camera = await BrowserEngine.prototype.openCamera.call({ card, paint, keep: () => null });
        for (let count = 0; count < 4; count++) await camera.paint();
        return given;
    }""")
    assert averages[0] is None
    assert np.allclose(averages[1:], [[1, 0], [0.95, 0], [0, 1]])


def test_webgpu_paints_the_same(open_page, tmp_path, castle, model):
    page = open_page(path="?engine=webgpu")
    expect(page.locator("#engine")).to_contain_text("pictures a second", timeout=180_000)  # in software it is slow
    if "WebGPU" not in page.locator("#engine").inner_text():
        pytest.skip("this browser has no WebGPU, not even in software")
    small = resize(castle, (64, 96))
    write_image(tmp_path / "photo.png", small)
    page.set_input_files("#photo-file", tmp_path / "photo.png")
    assert difference(painted(page), model.apply(small, model.encode_style(gallery.find("wave")))) < 0.1


def test_a_server_offers_to_paint_in_the_browser_too(browser, site, tmp_path, castle, model):
    pytest.importorskip("fastapi")
    write_image(tmp_path / "photo.png", castle)
    expected = model.apply(castle, model.encode_style(gallery.find("wave")))
    with served_pages(browser, model) as open_page:
        expect(open_page().locator(".choice")).to_be_hidden()  # there is none without the files
        page = open_page(site=site)
        expect(page.locator("#engine")).to_contain_text("on this server")
        page.get_by_role("link", name="Paint in this browser instead").click()
        # The server's own policy holds, and allows what WebAssembly and its threads need.
        expect(page.locator("#engine")).to_contain_text(re.compile(r"WASM, \d threads\): [\d.]+ pictures a second"))
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.set_input_files("#photo-file", tmp_path / "photo.png")
        assert difference(painted(page), expected) < 0.1
        assert [address for address in asked if "/v1/" in address] == []
        page.get_by_role("link", name="Paint on the server instead").click()
        expect(page.locator("#engine")).to_contain_text("on this server")


def test_the_server_takes_only_what_static_has_written(run, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    code, _, err = run("serve", "--site", tmp_path)
    assert (code, "--static" in err) == (2, True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_accessibility_checker_finds_nothing(open_page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(color_scheme=scheme, reduced_motion="reduce", viewport={"width": 360, "height": 740})
    page.get_by_alt_text("Paint the example: castle").click()
    painted(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    found = axe.Axe().run(page).response["violations"]
    assert [f"{one['id']}: {one['nodes'][0]['html']}" for one in found] == []


def test_what_the_browser_cannot_read_gets_a_sentence(open_page, tmp_path):
    page = open_page()
    (tmp_path / "notes.jpg").write_bytes(b"these are no pixels")
    for field in ("#photo-file", "#style-file"):
        page.set_input_files(field, tmp_path / "notes.jpg")
        expect(page.get_by_role("alert")).to_contain_text("cannot read this file as a picture")
        page.get_by_role("button", name="Close this message").click()


def test_a_site_that_lacks_a_file_says_so(open_page, site):
    graph = site / "model" / "stylizer.onnx"
    graph.rename(site / "hidden")
    try:
        page = open_page(allow=["404"])
        expect(page.get_by_role("alert")).to_contain_text("The painter could not be loaded")
    finally:
        (site / "hidden").rename(graph)
