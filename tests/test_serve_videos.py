"""Videos over HTTP: a job, its progress, its result, and nothing left behind."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx2", reason="starlette's test client needs it")
pytest.importorskip("av")
pytest.importorskip("cv2")
import av

from clips import panned, write_clip
from restyle.errors import VideoError
from restyle.serve.jobs import JobRunner
from restyle.serve.limits import Limits
from served import asking, problem, serving, wait_until


def make_film(photo, frames=6, format="mp4", metadata=None, **options):
    """A film of a photograph that moves a little, as a file's bytes."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=format, options=options) as film:
        film.metadata.update(metadata or {})
        track = film.add_stream("mpeg4", rate=10)
        track.height, track.width, track.pix_fmt = *photo.shape[:2], "yuv420p"
        for number in range(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(photo, number, 1)), format="rgb24")
            film.mux(track.encode(picture))
        film.mux(track.encode(None))
    return stream.getvalue()


@pytest.fixture(scope="module")
def film(photo):
    return make_film(photo)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where the server's files go in this test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def start(model, temporary):
    with asking(model) as start:
        yield start
    assert list(temporary.iterdir()) == []


def post(client, film, **fields):
    return client.post("/v1/videos", files={"content": film}, data={"style_id": "wave", **fields})


def wait_for(client, reply, *states):
    """The job, once it is in one of these states."""
    assert reply.status_code == 202, reply.text
    for _ in range(1200):
        job = client.get(reply.headers["location"]).json()
        if job["state"] in states:
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def test_a_video_becomes_a_job_and_then_a_video(start, film, photo, temporary):
    client = start()
    job = wait_for(client, post(client, film), "done", "failed")
    assert (job["state"], job["frames_done"], job["detail"]) == ("done", 6, None)
    reply = client.get(job["result"])
    assert reply.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(reply.content)) as painted:
        frames = [frame.to_ndarray(format="rgb24") for frame in painted.decode(video=0)]
    assert len(frames) == 6
    assert frames[0].shape == photo.shape
    assert np.abs(frames[0].astype(int) - photo).mean() > 10
    assert client.get(job["result"], headers={"Range": "bytes=0-9"}).content == reply.content[:10]
    for wrong, status in (("bytes=999999999-", 416), ("lines=1-2", 400), ("bytes=9-2", 400)):
        refusal = client.get(job["result"], headers={"Range": wrong})
        assert problem(refusal, status)["detail"]
        assert refusal.headers.get("content-range") == (f"bytes */{len(reply.content)}" if status == 416 else None)
    assert [path.name for path in files_in(temporary)] == ["painted.mp4"]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert files_in(temporary) == []


def test_options_reach_the_video(start, film):
    client = start()
    job = wait_for(client, post(client, film, strength=0, size=48), "done", "failed")
    with av.open(io.BytesIO(client.get(job["result"]).content)) as painted:
        assert (painted.streams.video[0].height, painted.streams.video[0].width) == (48, 64)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_mulaw", "adpcm_ms"])
def test_sound_that_mp4_cannot_hold_is_refused_at_once_and_can_be_left_out(start, tmp_path_factory, temporary, codec):
    path = tmp_path_factory.mktemp("camera") / "cam.avi"
    looks = {"codec": "mjpeg", "pixel_format": "yuvj420p", "colour": (6, 2)}
    film = write_clip(path, panned(4), **looks, sound=0.5, sound_codec=codec).read_bytes()
    client = start()
    reply = post(client, film)
    assert reply.status_code == 422
    sentence = f"sound: MP4 cannot hold the sound of this video ({codec}); leave it out (sound=drop)"
    assert reply.json()["detail"] == sentence
    assert files_in(temporary) == []
    job = wait_for(client, post(client, film, sound="drop"), "done", "failed")
    with av.open(io.BytesIO(client.get(job["result"]).content)) as painted:
        assert [stream.type for stream in painted.streams] == ["video"]


def test_sound_is_kept_unless_it_is_to_be_dropped(start, tmp_path_factory):
    film = write_clip(tmp_path_factory.mktemp("camera") / "cam.mp4", panned(4), sound=0.5).read_bytes()
    client = start()
    for sound, streams in (({}, ["video", "audio"]), ({"sound": "drop"}, ["video"])):
        job = wait_for(client, post(client, film, **sound), "done", "failed")
        with av.open(io.BytesIO(client.get(job["result"]).content)) as painted:
            assert [stream.type for stream in painted.streams] == streams


def test_metadata_does_not_come_back(start, photo):
    place = {"location": "+48.0000-122.0000/", "title": "At home"}
    film = make_film(photo, 2, metadata=place)
    with av.open(io.BytesIO(film)) as sent:
        assert place.items() <= sent.metadata.items()
    client = start()
    reply = client.get(wait_for(client, post(client, film), "done", "failed")["result"])
    with av.open(io.BytesIO(reply.content)) as painted:
        assert painted.metadata.keys() <= {"major_brand", "minor_version", "compatible_brands", "encoder"}


def test_progress_is_told_as_events(start, film):
    client = start()
    location = post(client, film).headers["location"]
    with client.stream("GET", f"{location}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        told = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]
    assert told[-1]["state"] == "done"
    assert told[-1]["frames_done"] == 6
    assert [one["frames_done"] for one in told] == sorted(one["frames_done"] for one in told)


def test_whoever_follows_a_job_is_told_that_it_was_deleted(model, film, monkeypatch, temporary):
    go_on, paint = threading.Event(), type(model).paint
    monkeypatch.setattr(type(model), "paint", lambda *args, **options: go_on.wait(60) and paint(*args, **options))
    with serving(model) as ((host, port), _), httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
        location = post(client, film).headers["location"]
        with client.stream("GET", f"{location}/events") as reply:
            lines = (line for line in reply.iter_lines() if line.startswith("data: "))
            next(lines)
            client.delete(location)
            last = [json.loads(line[6:])["state"] for line in lines][-1:]
        go_on.set()
    assert last == ["cancelled"]


@pytest.mark.parametrize(
    ("file", "status"),
    [
        (b"", 415),
        (b"not a video", 415),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 415),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", 415),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n", 415),
        (b"\0\0\0\x20ftypisom" + bytes(400), 415),
        (b"\x1a\x45\xdf\xa3" + bytes(400), 415),
    ],
)
def test_what_is_no_video_is_refused_at_once(start, file, status, temporary):
    reply = post(start(), file)
    assert reply.status_code == status, reply.text
    assert str(temporary) not in reply.text
    assert files_in(temporary) == []


def test_a_playlist_cannot_make_the_server_read_its_own_files(start, film, tmp_path_factory):
    secret = tmp_path_factory.mktemp("secret") / "film.ts"
    with av.open(io.BytesIO(film)) as source, av.open(str(secret), "w", format="mpegts") as target:
        track = target.add_stream("mpeg4", rate=10)
        track.height, track.width, track.pix_fmt = 96, 128, "yuv420p"
        for picture in source.decode(video=0):
            target.mux(track.encode(picture))
        target.mux(track.encode(None))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"
    reply = post(start(), playlist.encode())
    assert (reply.status_code, "known format" in reply.json()["detail"]) == (415, True)  # FFmpeg has not seen it


def test_a_client_that_leaves_before_it_is_told_the_job_leaves_nothing(start, film, temporary, monkeypatch):
    async def gone(request):
        return True

    client = start()
    monkeypatch.setattr("starlette.requests.Request.is_disconnected", gone)
    assert post(client, film).status_code == 400
    assert [path.name for path in temporary.glob("*/*")] == ["lock"]


def test_calm_is_what_the_command_line_takes(start):
    from restyle.video.temporal import CALM

    schemas = start().get("/openapi.json").json()["components"]["schemas"]
    assert [one["properties"]["calm"]["default"] for one in schemas.values() if "calm" in one["properties"]] == [CALM]


def test_videos_are_bounded(start, film, photo, temporary):
    client = start(Limits(video_frames=3))
    assert "3" in post(client, film).json()["detail"]
    client = start(Limits(video_pixels=1000))
    assert post(client, film).status_code == 413
    client = start(Limits(video_pixels=96 * 128))
    asked = post(client, film, size=98)  # what was sent is small enough, what is asked for is not
    assert (asked.status_code, "size asks for 98 x 132 pixels" in asked.json()["detail"]) == (413, True)
    client = start(Limits(max_video_bytes=1000))
    assert post(client, film).status_code == 413
    assert files_in(temporary) == []
    # A file that does not say how long it is: it is stopped when it has gone on for too long.
    endless = make_film(photo, 8, "matroska", live="1")
    client = start(Limits(video_frames=5))
    job = wait_for(client, post(client, endless), "failed", "done")
    assert (job["state"], job["status"], job["frames_done"]) == ("failed", 413, 6)
    assert files_in(temporary) == []
    client = start(Limits(video_s=0.001))
    assert wait_for(client, post(client, film), "failed", "done")["status"] == 413


def test_only_some_videos_wait_and_one_can_be_stopped(start, film, model, monkeypatch, temporary):
    go_on, paint = threading.Event(), type(model).paint

    def slow(*args, **options):
        assert go_on.wait(60)
        return paint(*args, **options)

    monkeypatch.setattr(type(model), "paint", slow)
    client = start(Limits(videos=2))
    first, second = post(client, film), post(client, film)
    wait_for(client, first, "running")
    assert wait_for(client, second, "queued")["frames_done"] == 0
    assert client.get(f"{second.headers['location']}/video").status_code == 409
    third = post(client, film)
    assert (third.status_code, int(third.headers["retry-after"]) > 0) == (503, True)
    for job in (second, first):
        assert client.delete(job.headers["location"]).status_code == 204
    go_on.set()
    for _ in range(600):
        if not files_in(temporary):
            break
        time.sleep(0.05)
    assert files_in(temporary) == []
    assert wait_for(client, post(client, film), "done", "failed")["state"] == "done"


def test_without_the_extra_it_says_what_to_install(start, film, monkeypatch):
    client = start()
    for name in [name for name in sys.modules if name.startswith("restyle.video.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    reply = post(client, film)
    assert (reply.status_code, "pip install 'restyle[video]'" in reply.json()["detail"]) == (501, True)


def test_results_expire(temporary):
    now = [0.0]
    jobs = JobRunner(Limits(result_s=10), clock=lambda: now[0])
    jobs.open()
    job = jobs.prepare()
    jobs.start(job, lambda source, result, report: result.write_bytes(b"painted") and ())
    for _ in range(1000):
        if job.ended is not None:
            break
        time.sleep(0.01)
    now[0] = 9
    assert jobs.find(job.id).result.read_bytes() == b"painted"
    now[0] = 11
    with pytest.raises(Exception, match="no longer"):
        jobs.find(job.id)
    assert not job.folder.exists()
    jobs.close()
    assert list(temporary.iterdir()) == []


def test_results_are_removed_though_nobody_asks(start, film, temporary, monkeypatch):
    monkeypatch.setattr("restyle.serve.jobs.FORGET_EVERY_S", 0.05)
    assert post(start(Limits(result_s=1)), film).status_code == 202
    wait_until(lambda: [path.name for path in files_in(temporary)] == ["painted.mp4"])
    wait_until(lambda: not files_in(temporary))


def problem_of(work):
    """What a job says of why it failed."""
    jobs = JobRunner(Limits())
    jobs.open()
    try:
        job = jobs.prepare()
        jobs.start(job, work)
        wait_until(lambda: job.ended is not None)
        return job.problem
    finally:
        jobs.close()


def test_why_a_job_failed_is_told_without_the_servers_folders(temporary):
    from restyle.video.writer import check_writable

    def work(source, result, report):
        result.touch()
        check_writable(result)

    assert problem_of(work) == (415, "cannot write the file: the file exists already")


def test_a_full_disk_is_the_servers_fault_not_the_videos(temporary):
    def work(source, result, report):
        raise VideoError("cannot write the file") from OSError(errno.ENOSPC, "No space left on device")

    assert problem_of(work) == (507, "the server's disk is full just now")


def test_a_field_of_pictures_alone_is_not_left_aside(start, film, content):
    reply = start().post("/v1/videos", files={"content": film, "mask": content}, data={"style_id": "wave"})
    assert (reply.status_code, "no field 'mask'; the fields are: content, " in reply.json()["detail"]) == (422, True)


def test_an_unknown_job_is_told_clearly(start):
    for path in ("/v1/jobs/nothing", "/v1/jobs/nothing/events", "/v1/jobs/..%2F..%2Fetc/video"):
        reply = start().get(path)
        assert reply.status_code == 404
        assert reply.headers["content-type"] == "application/problem+json"


def run_server(folder):
    """The command in a process, and its address."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    words = [sys.executable, "-m", "restyle", "serve", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    return process, re.search(r"http://\S+", process.stdout.readline())[0]


def test_kill_9_in_the_middle_leaves_nothing_after_the_next_start(tmp_path, photo):
    long = make_film(np.tile(photo, (4, 4, 1)), 400)
    process, address = run_server(tmp_path)
    neighbour, _ = run_server(tmp_path)
    with process, neighbour:
        try:
            with httpx.Client(base_url=address, timeout=60) as client:
                reply = post(client, long)
                assert 0 < wait_for(client, reply, "running", "done")["frames_done"] + 1 < 400
            process.send_signal(signal.SIGKILL)
            process.wait(30)
            assert files_in(tmp_path) != []
            again, address = run_server(tmp_path)
            with again:
                try:
                    lost = httpx.get(address + reply.headers["location"], timeout=60)
                    assert files_in(tmp_path) == []
                    assert len(list(tmp_path.iterdir())) == 2  # the new one's and the neighbour's, which lives
                    assert (lost.status_code, "no job outlives" in lost.json()["detail"]) == (404, True)
                    form = {"files": {"content": long}, "data": {"style_id": "wave"}}
                    reply = httpx.post(f"{address}/v1/videos", **form, timeout=60)
                    assert reply.status_code == 202
                    with httpx.stream("GET", f"{address}{reply.headers['location']}/events", timeout=60) as events:
                        lines = events.iter_lines()
                        assert "data" in next(lines)
                        again.send_signal(signal.SIGTERM)
                        assert '"done"' not in "".join(lines)  # it is broken off, whoever follows it
                    again.wait(60)
                finally:
                    again.kill()
        finally:
            process.kill()
            neighbour.terminate()
            neighbour.wait(30)
    assert list(tmp_path.iterdir()) == []
