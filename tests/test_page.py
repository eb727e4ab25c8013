"""The page as a person uses it, in a real browser; photographs. Films and the camera: test_page_moving.py."""

import base64
import re

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright.sync_api")
pytest.importorskip("axe_playwright_python")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from pages import CHROMIUM, difference, eventually, painted, shown
from restyle import gallery
from restyle.image import read_image, resize, write_image
from restyle.serve.limits import Limits

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium was found; set CHROMIUM to its path")
TOKEN = "a-long-and-secret-token"


@pytest.fixture
def photo_file(tmp_path, castle):
    write_image(tmp_path / "holiday.png", castle)
    return tmp_path / "holiday.png"


def test_a_photo_is_painted_at_once_and_follows_the_strength_without_the_server(open_page, photo_file, castle, model):
    page = open_page()
    page.set_input_files("#photo-file", photo_file)
    result = painted(page)
    style = model.encode_style(gallery.find("wave"))
    assert difference(result, model.apply(castle, style)) < 1
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.fill("#strength", "0")
    assert difference(shown(page), castle) < 1
    page.fill("#strength", "0.5")
    assert difference(shown(page), (castle.astype(int) + result) / 2) < 1.5
    expect(page.locator("#strength-shown")).to_have_text("50 %")
    assert asked == []
    with page.expect_response("**/v1/images"):
        page.fill("#strength", "1.6")
    page.wait_for_timeout(200)
    assert difference(painted(page), model.apply(castle, style, 1.6)) < 1
    with page.expect_response("**/v1/images"):
        page.fill("#strength", "1")
    page.wait_for_timeout(200)
    assert difference(painted(page), result) < 1


def test_before_and_after(open_page, photo_file, castle):
    page = open_page()
    page.set_input_files("#photo-file", photo_file)
    result = painted(page)
    slider = page.get_by_label("Before and after")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("PageUp")
    assert slider.input_value() == "50"
    half = shown(page)
    assert difference(half[:, :149], castle[:, :149]) < 1
    assert difference(half[:, 151:], result[:, 151:]) < 1
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 50, steps=4)
    page.mouse.up()
    assert difference(shown(page), castle) < 2


def test_a_style_of_ones_own_and_the_mixing_pad(open_page, photo_file, tmp_path, castle, model):
    page = open_page()
    page.set_input_files("#photo-file", photo_file)
    wave = painted(page)
    own = tmp_path / "my painting.jpg"
    own.write_bytes(gallery.find("stained-glass").read_bytes())
    with page.expect_response("**/v1/images"):
        page.set_input_files("#style-file", own)
    page.wait_for_timeout(200)
    glass = painted(page)
    assert difference(glass, wave) > 10
    expect(page.locator("#caption")).to_contain_text("my painting.jpg")
    page.get_by_label("Mix several").check()
    with page.expect_response("**/v1/images"):
        page.get_by_role("button", name="The Great Wave").click()
    page.wait_for_timeout(200)
    mixed = painted(page)
    assert difference(mixed, wave) > 3
    assert difference(mixed, glass) > 3
    knob = page.get_by_role("slider", name="Mix of the styles")
    assert "50 % my painting.jpg, 50 % The Great Wave" in knob.get_attribute("aria-valuetext")
    knob.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    expect(page.locator("#shares")).to_contain_text("100 % my painting.jpg")
    page.wait_for_timeout(300)
    assert difference(painted(page), glass) < 1
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    expect(page.locator("#shares")).to_contain_text("100 % The Great Wave")
    page.wait_for_timeout(300)
    assert difference(painted(page), wave) < 1
    for name in ("Starry", "Summertime", "Harvesters"):
        page.get_by_role("button", name=name).click()
    assert page.locator("#grid [aria-pressed=true]").count() == 4
    assert page.locator("#corners img").count() == 4


def test_a_forgotten_style_is_sent_again(open_page, photo_file, tmp_path):
    page = open_page(allow=["404"])
    page.set_input_files("#photo-file", photo_file)
    wave = painted(page)
    with page.expect_response("**/v1/images"):
        page.set_input_files("#style-file", gallery.find("ink"))
    page.wait_for_timeout(200)
    painted(page)
    page.app.state.shared.store._uploaded.clear()
    with page.expect_response(lambda reply: reply.url.endswith("/v1/styles") and reply.status == 201):
        page.get_by_text("Broad").click()
    page.wait_for_timeout(500)
    assert difference(painted(page), wave) > 5
    expect(page.locator("#message")).to_be_hidden()


def test_a_photo_may_come_before_the_gallery_and_asks_for_it_again(open_page, photo_file):
    page = open_page(allow=["ERR_FAILED"])
    held = []
    page.route("**/v1/styles", lambda route: held.append(route))
    page.reload()
    page.set_input_files("#photo-file", photo_file)
    expect(page.locator("#busy")).to_be_visible()
    assert eventually(page, lambda: held)
    held[0].abort()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.locator("#busy")).to_be_hidden()
    page.set_input_files("#photo-file-again", photo_file)
    assert eventually(page, lambda: held[1:])
    held[1].continue_()
    painted(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_colours_strokes_and_the_download(open_page, castle, tmp_path, model):
    page = open_page()
    write_image(tmp_path / "large.jpg", resize(castle, (1000, 1500)))
    page.set_input_files("#photo-file", tmp_path / "large.jpg")
    plain = painted(page)
    assert plain.shape == (720, 1080, 3)
    for change in (lambda: page.get_by_label("Keep the photo").check(), lambda: page.get_by_text("Broad").click()):
        with page.expect_response("**/v1/images"):
            change()
        page.wait_for_timeout(300)
        assert difference(painted(page), plain) > 3
    on_page = painted(page)
    page.select_option("#format", "png")
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("Download 1500 . 1000")).click()
    assert download.value.suggested_filename == "large-the-great-wave-off-kanagawa.png"
    saved = read_image(download.value.path()).pixels
    assert saved.shape == (1000, 1500, 3)
    assert difference(resize(saved, (720, 1080)), on_page) < 6  # what was seen is what was saved


def test_dropping_pasting_samples_and_the_keyboard(open_page, photo_file, castle):
    page = open_page()
    drop = """([selector, text]) => {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        const event = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
        document.querySelector(selector).dispatchEvent(event);
    }"""
    text = base64.b64encode(photo_file.read_bytes()).decode()
    page.evaluate(drop, ["#stage", text])
    assert painted(page).shape == castle.shape
    page.evaluate(drop, ["#style-drop", text])
    expect(page.locator("#caption")).to_contain_text("dropped.png — yours")
    page = open_page()
    page.get_by_alt_text("Paint the example: coffee").click()
    assert painted(page).shape[2] == 3
    tab = page.get_by_role("tab", name="Photo")
    tab.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()
    expect(page.get_by_role("tab", name="Camera")).to_be_focused()


def test_what_goes_wrong_is_said_in_a_sentence(open_page, tmp_path, photo_file, castle):
    page = open_page(limits=Limits(max_pixels=900_000), allow=["415", "413", "ERR_"])
    (tmp_path / "notes.jpg").write_bytes(b"these are no pixels")
    page.set_input_files("#photo-file", tmp_path / "notes.jpg")
    expect(page.get_by_role("alert")).to_contain_text("it is not a picture in a known format")
    page.get_by_role("button", name="Close this message").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.set_input_files("#style-file", tmp_path / "notes.jpg")
    expect(page.get_by_role("alert")).to_contain_text("not a picture")
    write_image(tmp_path / "large.jpg", resize(castle, (1000, 1000)))
    page.set_input_files("#photo-file", tmp_path / "large.jpg")
    painted(page)  # the small copy can be painted
    page.get_by_role("button", name="Download").click()
    expect(page.get_by_role("alert")).to_contain_text("the limit is 900,000")
    expect(page.get_by_role("button", name="Download")).to_be_enabled()
    page.route("**/v1/images", lambda route: route.abort())
    page.get_by_text("Broad").click()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")


def test_what_only_the_server_can_read_is_painted_too(open_page, tmp_path, castle):
    page = open_page()
    write_image(tmp_path / "scan.tif", castle)
    page.set_input_files("#photo-file", tmp_path / "scan.tif")
    assert painted(page).shape[2] == 3


def test_a_sentence_outlives_a_painting_that_ends_meanwhile(open_page, tmp_path, photo_file):
    page = open_page(allow=["415"])
    page.set_input_files("#photo-file", photo_file)
    painted(page)
    held = []
    page.route("**/v1/images", lambda route: route.continue_() if held else held.append(route))
    page.get_by_text("Broad").click()
    (tmp_path / "notes.jpg").write_bytes(b"these are no pixels")
    page.set_input_files("#photo-file-again", tmp_path / "notes.jpg")
    expect(page.get_by_role("alert")).to_contain_text("it is not a picture")
    expect(page.locator("#full-size")).to_contain_text("300")
    with page.expect_response("**/v1/images"):
        held[0].continue_()
    expect(page.locator("#busy")).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_visible()


def test_a_token_is_asked_for(open_page, photo_file):
    page = open_page(tokens=[TOKEN], allow=["401"])
    page.get_by_label("Token", exact=True).fill(TOKEN)
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="The Great Wave").wait_for()
    page.set_input_files("#photo-file", photo_file)
    painted(page)
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#camera-rate")).to_contain_text("fps")


def test_a_token_may_be_wrong_or_refused(open_page):
    page = open_page(tokens=[TOKEN], allow=["401"])
    page.get_by_label("Token", exact=True).fill("guessed-but-not-the-token")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="The server does not know this token")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#message")).to_contain_text("This server wants a token.")
    expect(page.locator("#token-dialog")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_accessibility_checker_finds_nothing(open_page, photo_file, scheme):
    def check(page):
        found = Axe().run(page).response["violations"]
        assert [f"{one['id']}: {one['nodes'][0]['html']}" for one in found] == []

    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    page.get_by_role("button", name="The Great Wave").wait_for()
    check(page)
    page.set_input_files("#photo-file", photo_file)
    painted(page)
    page.get_by_label("Mix several").check()
    page.get_by_role("button", name="Starry").click()
    check(page)
    page.get_by_role("tab", name="Video").click()
    check(page)
    page.get_by_role("tab", name="Camera").click()
    check(page)
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#camera-rate")).to_contain_text("fps")
    check(page)
    page = open_page("/docs", color_scheme=scheme)
    page.get_by_text("POST /v1/images").wait_for()
    check(page)


def test_a_phone_shows_everything_without_scrolling_sideways(open_page, photo_file):
    page = open_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True, device_scale_factor=2)
    page.set_input_files("#photo-file", photo_file)
    painted(page)
    page.get_by_label("Mix several").check()
    page.get_by_role("button", name="Starry").tap()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    name, tabs = (page.locator(selector).bounding_box() for selector in ("h1", ".tabs"))
    assert name["x"] + name["width"] <= tabs["x"]
    assert tabs["y"] < name["y"] + name["height"]  # beside each other, in one row
    for selector in ("#download", "#photo-bar label.button"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    box = page.locator("#picture").bounding_box()
    assert box["height"] <= 740 / 2


def test_the_api_page_lists_every_route(open_page):
    page = open_page("/docs")
    expect(page.locator("h2", has_text="POST /v1/images")).to_be_visible()
    assert page.locator("h2").count() >= 9
    expect(page.get_by_text("luminance, histogram or covariance").first).to_be_visible()
