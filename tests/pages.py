"""A real browser for the tests of pages, and what they look at."""

import base64
import contextlib
import os
import shutil

import numpy as np
from playwright.sync_api import expect, sync_playwright

from restyle import gallery
from restyle.image import encode_image, read_image, resize
from served import serving

expect.set_options(timeout=60_000)  # machines are shared and slow at times
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def launch(kind, folder, *pictures):
    """A browser whose camera sees pictures (H, W, 3), with even sides, again and again; the folder gets their film."""
    film = folder / "camera.mjpeg"
    film.write_bytes(b"".join(encode_image(picture, "jpg") for picture in pictures) * 5)
    words = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    words += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]  # graphics cards are rare among testers
    words.append(f"--use-file-for-fake-video-capture={film}")
    return kind.launch(executable_path=CHROMIUM, args=words)


@contextlib.contextmanager
def chromium(folder, picture):
    """A browser whose camera sees a picture; see ``launch``."""
    with sync_playwright() as driver, launch(driver.chromium, folder, picture) as browser:
        yield browser


class Pages:
    """Pages of one browser, each in a context of its own, and what their consoles said."""

    def __init__(self, browser):
        self._browser, self._contexts, self._said, self._allowed = browser, [], [], []

    def open(self, address, allow=(), **options):
        """Open a page; ``allow`` are words of messages that may be in its console."""
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self._contexts.append(context)
        self._allowed.extend(allow)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: self._said.append(message.text) if message.type in NOT_QUIET else None)
        page.on("pageerror", lambda error: self._said.append(str(error)))
        page.goto(address)
        return page

    def close(self):
        for context in self._contexts:
            context.close()

    @property
    def complaints(self):
        return [text for text in self._said if not any(word in text for word in self._allowed)]


@contextlib.contextmanager
def served_pages(browser, model):
    """What opens the page of a new server; at the end the browser's console must be empty but for what was expected."""
    pages, servers = Pages(browser), contextlib.ExitStack()

    def open_page(path="/", *, limits=None, allow=(), tokens=(), site=None, **options):
        (_, port), app = servers.enter_context(serving(model, limits, tokens=tokens, site=site))
        page = pages.open(f"http://localhost:{port}{path}", allow, **options)
        page.app = app
        return page

    yield open_page
    pages.close()
    servers.close()
    assert pages.complaints == []


def small_castle():
    """(200, 300, 3): a photograph that is quickly painted."""
    return resize(read_image(gallery.find("castle", kind="sample")).pixels, (200, 300))


NOT_QUIET = ("error", "warning")


def shown(page, canvas="#canvas"):
    """What a canvas shows, as an array."""
    address = page.evaluate(f"() => document.querySelector('{canvas}').toDataURL('image/png')")
    return read_image(base64.b64decode(address.split(",")[1])).pixels[:, :, :3].astype(int)


def painted(page):
    """The painting, once it is there."""
    expect(page.locator("#photo-status")).to_contain_text("Painted in")
    expect(page.locator("#busy")).to_be_hidden()
    return shown(page)


def difference(one, other):
    """Mean difference of two pictures, of 255."""
    return np.abs(one.astype(int) - other).mean()


def camera_paints(page, castle, model):
    """Start the camera, which sees the castle, and wait for its painting; returns the unpainted picture."""
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#camera-rate")).to_contain_text("fps")
    page.get_by_label("Mirror").uncheck()
    unpainted = resize(castle, shown(page, "#camera-canvas").shape[:2])
    painting = model.apply(unpainted, model.encode_style(gallery.find("wave")))

    def from_camera(wanted):
        return difference(shown(page, "#camera-canvas"), wanted)

    assert eventually(page, lambda: from_camera(painting) < from_camera(unpainted) / 2)
    return unpainted


def eventually(page, holds):
    """Whether a condition comes true, given time."""
    for _ in range(300):
        if holds():
            return True
        page.wait_for_timeout(200)
    return False
