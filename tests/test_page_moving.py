"""The page's films and its camera, in a real browser; the camera is the browser's fake one, fed with a film."""

import re

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright.sync_api")
from playwright.sync_api import expect

from pages import CHROMIUM, camera_paints, difference, eventually, launch, served_pages, shown
from restyle import gallery
from restyle.image import read_image, resize

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium was found; set CHROMIUM to its path")


def test_the_camera_is_painted_and_recorded(open_page, model, castle):
    page = open_page()
    unpainted = camera_paints(page, castle, model)
    page.fill("#strength", "0")
    assert eventually(
        page, lambda: difference(shown(page, "#camera-canvas"), unpainted) < 12
    )  # its colours have been through a film
    page.get_by_role("button", name="Record").click()
    expect(page.locator("#camera-recording")).to_be_visible()
    page.wait_for_timeout(1000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Stop and save").click()
    film = download.value.path().read_bytes()
    assert film[:4] == b"\x1a\x45\xdf\xa3" or film[4:8] == b"ftyp"  # WebM or MP4
    assert len(film) > 2000
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()


def test_a_camera_that_moves_is_followed(browser, tmp_path, model):
    """The fake camera pans over a photograph: what is shown changes, and is painted all the time."""
    wide = resize(read_image(gallery.find("castle", kind="sample")).pixels, (160, 280))
    frames = [np.ascontiguousarray(wide[:, x : x + 192]) for x in [*range(0, 88, 4), *range(88, 0, -4)]]
    wave = model.encode_style(gallery.find("wave"))
    with launch(browser.browser_type, tmp_path, *frames) as another, served_pages(another, model) as open_page:
        page = open_page()
        page.get_by_role("tab", name="Camera").click()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#camera-rate")).to_contain_text("fps")
        seen = [shown(page, "#camera-canvas")]
        unpainted = [np.ascontiguousarray(resize(frame, seen[0].shape[:2])[:, ::-1]) for frame in frames]  # mirrored
        paintings = model.apply_many(unpainted, wave)

        def moved():
            seen.append(shown(page, "#camera-canvas"))
            return difference(seen[-1], seen[0]) > 10

        assert eventually(page, moved)
        nearest, photograph = (
            min(difference(seen[-1], one) for one in pictures) for pictures in (paintings, unpainted)
        )
        assert nearest < photograph / 2


def test_a_camera_that_opens_after_the_user_has_gone_on_is_closed(open_page):
    page = open_page()
    page.evaluate("""() => {
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => {
            window.stream = await open(wanted);
            document.title = "asking";
            await new Promise((resolve) => { window.allow = resolve; });
            return window.stream;
        };
    }""")
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page).to_have_title("asking")
    page.get_by_role("tab", name="Photo").click()
    page.evaluate("window.allow()")
    page.wait_for_timeout(500)
    assert page.evaluate("window.stream.getTracks().map((track) => track.readyState)") == ["ended"]


def test_a_camera_that_is_unplugged_is_told_of_and_its_recording_saved(open_page):
    page = open_page()
    page.evaluate("""() => {
        const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (wanted) => (window.stream = await open(wanted));
    }""")
    page.get_by_role("tab", name="Camera").click()
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#camera-rate")).to_contain_text("fps")
    page.get_by_role("button", name="Record").click()
    page.wait_for_timeout(500)
    with page.expect_download():
        page.evaluate("window.stream.getTracks()[0].dispatchEvent(new Event('ended'))")
    expect(page.get_by_role("alert")).to_contain_text("The camera is gone.")
    expect(page.get_by_role("button", name="Start the camera")).to_be_visible()


def test_a_video_is_painted_with_progress_and_saved(open_page, tmp_path, castle):
    av = pytest.importorskip("av")
    pytest.importorskip("cv2")
    with av.open(str(tmp_path / "film.webm"), "w") as film:
        track = film.add_stream("libvpx-vp9", rate=10, options={"cpu-used": "8", "deadline": "realtime"})
        track.height, track.width, track.pix_fmt = 100, 150, "yuv420p"
        picture = np.ascontiguousarray(resize(castle, (100, 150)))
        for number in range(12):
            film.mux(track.encode(av.VideoFrame.from_ndarray(np.roll(picture, number, 1), format="rgb24")))
        film.mux(track.encode(None))
    page = open_page(allow=["415", "ERR_FAILED"])
    # A phone between two networks: the first three looks at the job fail.
    page.route(re.compile(r"/v1/jobs/[^/]+$"), lambda route: route.abort(), times=3)
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video-file", tmp_path / "film.webm")
    expect(page.locator("#video-status")).to_contain_text("not painted yet")
    page.get_by_role("button", name="Paint the video").click()
    expect(page.locator("#video-status")).to_contain_text("12 frames painted")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "film-the-great-wave-off-kanagawa.mp4"
    with av.open(download.value.path()) as painted:
        frames = [frame.to_ndarray(format="rgb24") for frame in painted.decode(video=0)]
    assert len(frames) == 12
    assert difference(frames[0], picture) > 10
    (tmp_path / "notes.mp4").write_bytes(b"no film")
    page.set_input_files("#video-file-again", tmp_path / "notes.mp4")
    page.get_by_role("button", name="Paint the video").click()
    expect(page.get_by_role("alert")).to_contain_text("not a video")


def test_sound_that_the_result_cannot_hold_can_be_left_out(open_page, tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("cv2")
    from clips import panned, write_clip

    looks = {"codec": "mjpeg", "pixel_format": "yuvj420p", "colour": (6, 2)}
    film = write_clip(tmp_path / "cam.avi", panned(6), **looks, sound=0.5, sound_codec="pcm_u8")
    page = open_page(allow=["422", "ERR_FAILED"])
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video-file", film)
    page.get_by_role("button", name="Paint the video").click()
    expect(page.get_by_role("alert")).to_contain_text("MP4 cannot hold the sound of this video")
    page.get_by_label("Leave out the sound").check()
    page.get_by_role("button", name="Paint the video").click()
    expect(page.locator("#video-status")).to_contain_text("6 frames painted")


@pytest.fixture
def film(tmp_path, castle):
    """A film that takes a while to paint."""
    av = pytest.importorskip("av")
    pytest.importorskip("cv2")
    with av.open(str(tmp_path / "long.webm"), "w") as film:
        track = film.add_stream("libvpx-vp9", rate=25, options={"cpu-used": "8", "deadline": "realtime"})
        track.height, track.width, track.pix_fmt = 200, 300, "yuv420p"
        for number in range(250):
            film.mux(track.encode(av.VideoFrame.from_ndarray(np.roll(castle, number, 1), format="rgb24")))
        film.mux(track.encode(None))
    return tmp_path / "long.webm"


def test_a_page_that_is_left_takes_its_job_with_it(open_page, film):
    page = open_page()
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video-file", film)
    page.get_by_role("button", name="Paint the video").click()
    expect(page.locator("#video-status")).to_contain_text("of 250 frames painted")
    jobs = page.app.state.shared.jobs
    (job,) = jobs._jobs.values()
    page.goto("about:blank")
    assert job.cancel.wait(20)
    assert not jobs._jobs


def test_stop_breaks_an_upload_off(open_page, film):
    page = open_page(allow=["ERR_"])
    held = []
    page.route("**/v1/videos", lambda route: held.append(route))
    page.get_by_role("tab", name="Video").click()
    page.set_input_files("#video-file", film)
    page.get_by_role("button", name="Paint the video").click()
    expect(page.locator("#video-status")).to_contain_text("Sending")
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Stop").click()
    expect(page.locator("#video-status")).to_contain_text("Stopped")
    expect(page.get_by_role("button", name="Paint the video")).to_be_visible()
    expect(page.locator("#message")).to_be_hidden()
    assert len(held) == 1
