"""Video files that resist: outputs are whole or not there, and what is no video is said in one sentence."""

import itertools
import os
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

import clips
from clips import close, copy, frame_times, frames_of, move_packet, packets, panned, write_clip
from restyle.errors import LimitError, UnknownNameError, VideoError
from restyle.video import reader as reading
from restyle.video.beside import Beside, clear_away
from restyle.video.reader import Frame, VideoReader
from restyle.video.writer import Encoding, VideoWriter


def test_outputs_are_whole_or_not_there(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(4))
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(VideoError, match="exists already"):
        copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with pytest.raises(RuntimeError), VideoReader(tmp_path / "in.mp4") as reader:  # noqa: SIM117
        with VideoWriter(tmp_path / "out.mp4", reader.clip, overwrite=True):
            raise RuntimeError("struck in the middle")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]
    copy(tmp_path / "in.mp4", tmp_path / "in.mp4", overwrite=True)  # over itself
    assert len(frames_of(tmp_path / "in.mp4")) == 4
    for target, kind in (("no/out.mp4", VideoError), ("out.xyz", UnknownNameError), ("", VideoError)):
        with pytest.raises(kind):
            copy(tmp_path / "in.mp4", tmp_path / target)


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(2))
    with pytest.raises(VideoError, match="exists already"), VideoReader(tmp_path / "in.mp4") as reader:  # noqa: SIM117
        with VideoWriter(tmp_path / "out.mp4", reader.clip) as writer:
            for item in reader:
                writer.write(item)
            (tmp_path / "out.mp4").write_bytes(b"somebody else's")
    assert (tmp_path / "out.mp4").read_bytes() == b"somebody else's"
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]


def test_what_is_not_a_video(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "text.txt").write_text("not a video\n" * 50)
    Image.fromarray(panned(1)[0]).save(tmp_path / "picture.png")
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        stream.codec_context.layout = "mono"
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    for name, sentence in (
        ("empty.mp4", "is not a video that can be read"),
        ("noise.mp4", "is not a video that can be read"),
        ("text.txt", "not a video"),
        ("picture.png", "is a picture or a text, not a video"),
        ("sound.mp4", "has no pictures that move"),
        ("missing.mp4", "there is no file"),
        (".", "is a folder"),
    ):
        with pytest.raises(VideoError, match=sentence):
            VideoReader(tmp_path / name)


def test_an_mp4_without_its_index_is_told_from_rubbish(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(20))  # its index comes last, as in most
    data = (tmp_path / "in.mp4").read_bytes()
    for length in (len(data) // 2, 100, 40):
        (tmp_path / "cut.mp4").write_bytes(data[:length])
        with pytest.raises(VideoError, match=r"is an MP4 file that breaks off before its index: it was not copied"):
            VideoReader(tmp_path / "cut.mp4")


def test_an_mp4_whose_boxes_lie(tmp_path):
    start = b"\0\0\0\x10ftypisom\0\0\0\0"
    for lie in (2**64 - 1, 2**63 - 20, 3, 0):  # lengths beyond every file, and beyond what can be sought
        (tmp_path / "lie.mp4").write_bytes(start + b"\0\0\0\1free" + lie.to_bytes(8) + b"x" * 40)
        with pytest.raises(VideoError, match="breaks off before its index"):
            VideoReader(tmp_path / "lie.mp4")
    (tmp_path / "many.mp4").write_bytes(start + b"\0\0\0\x08free" * 100_000)
    with pytest.raises(VideoError, match="not a video"):
        VideoReader(tmp_path / "many.mp4")


def test_a_cover_is_not_a_video(tmp_path):
    write_clip(tmp_path / "in.mkv", panned(1), codec="mjpeg", pixel_format="yuvj444p", sound=0.2)
    with av.open(str(tmp_path / "in.mkv")) as source, av.open(str(tmp_path / "cover.m4a"), "w", format="mp4") as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in source.streams]
        streams[0].disposition = av.stream.Disposition.attached_pic
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    with av.open(str(tmp_path / "cover.m4a")) as made:
        assert [stream.type for stream in made.streams if stream.type == "video"]
    with pytest.raises(VideoError, match="no pictures that move"):
        VideoReader(tmp_path / "cover.m4a")


def test_addresses_are_not_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http://127.0.0.1:9/x.mp4", "concat:in.mp4", "pipe:0", "lavfi:testsrc"):
        with pytest.raises(VideoError, match="there is no file"):
            VideoReader(name)
    write_clip(tmp_path / "in.mp4", panned(2))
    os.rename("in.mp4", "pipe:0")
    assert len(frames_of("pipe:0")) == 2  # a file's name, whatever it looks like


def test_a_file_cut_off_gives_what_there_is(tmp_path):
    frames = panned(50)
    write_clip(tmp_path / "in.mkv", frames, sound=2)
    data = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    reader, _ = copy(tmp_path / "cut.mkv", tmp_path / "out.mp4")
    assert reader.damaged
    assert any("breaks off after" in note or "cannot be read beyond" in note for note in reader.notes)
    assert 10 < len(frames_of(tmp_path / "out.mp4")) < 40
    reader, _ = copy(tmp_path / "in.mkv", tmp_path / "whole.mp4")
    assert (reader.damaged, reader.notes) == (False, [])


def test_pictures_that_cannot_be_decoded_are_left_out(tmp_path):
    # PNG's checksums notice every wrong byte.
    write_clip(tmp_path / "in.mov", panned(20), codec="png", pixel_format="rgb24")
    data = bytearray((tmp_path / "in.mov").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "hurt.mov").write_bytes(data)
    reader, _ = copy(tmp_path / "hurt.mov", tmp_path / "out.mp4")
    assert reader.damaged
    assert len(reader.notes) == 1
    assert 17 <= len(frames_of(tmp_path / "out.mp4")) <= 20


def test_damage_in_the_middle_costs_only_the_middle(tmp_path):
    frames = panned(50, (96, 128))
    write_clip(tmp_path / "in.mkv", frames)
    data = bytearray((tmp_path / "in.mkv").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    (tmp_path / "hurt.mkv").write_bytes(data)
    reader, _ = copy(tmp_path / "hurt.mkv", tmp_path / "out.mp4")
    assert reader.damaged
    assert any("picture" in note for note in reader.notes)
    after = frames_of(tmp_path / "out.mp4")
    assert len(after) > 35
    assert close(after[-1].pixels, frames[-1])


@pytest.mark.parametrize("by", [88, 9000, -300])
@pytest.mark.parametrize("ending", [".mkv", ".mp4", ".mov"])
def test_a_packet_of_sound_at_a_wrong_time_is_left_out_alone(tmp_path, ending, by):
    write_clip(tmp_path / "in.mkv", panned(25), sound=1)
    sound = [data for _, data in packets(tmp_path / "in.mkv", "audio")]
    move_packet(tmp_path / "in.mkv", sound[6], by)
    _, writer = copy(tmp_path / "in.mkv", tmp_path / f"out{ending}")
    assert writer.damaged
    assert writer.notes == ["packets of sound or subtitles that are damaged and left out: 1"]
    assert [data for _, data in packets(tmp_path / f"out{ending}", "audio")] == sound[:6] + sound[7:]
    assert len(frames_of(tmp_path / f"out{ending}")) == 25


def test_subtitles_whose_times_go_back_are_left_out(tmp_path):
    words = [(0.1, "one"), (0.4, "two"), (0.6, "three")]
    write_clip(tmp_path / "in.mkv", panned(25), sound=1, subtitles=words)
    move_packet(tmp_path / "in.mkv", b"two", -350)
    _, writer = copy(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert writer.damaged
    assert [data for _, data in packets(tmp_path / "out.mkv", "subtitle")] == [b"one", b"three"]


@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
def test_sound_that_the_output_cannot_make_out_is_left_out(tmp_path, ending):
    write_clip(tmp_path / "in.ts", panned(25), sound=1)
    sound = [data for _, data in packets(tmp_path / "in.ts", "audio")]
    file = bytearray((tmp_path / "in.ts").read_bytes())
    at = file.index(sound[1][:40])  # the rest lies in other parts of the stream
    file[at : at + 2] = b"\0\0"  # where a packet's header must begin
    (tmp_path / "in.ts").write_bytes(file)
    _, writer = copy(tmp_path / "in.ts", tmp_path / f"out{ending}")
    assert writer.damaged
    assert len(frames_of(tmp_path / f"out{ending}")) == 25
    assert len(sound) - 3 <= len(packets(tmp_path / f"out{ending}", "audio")) < len(sound)


@pytest.mark.parametrize("number", [5, -1])  # the last one waits in FFmpeg until the end
def test_broken_headers_of_sound_cost_only_their_packets(tmp_path, monkeypatch, number):
    monkeypatch.setattr(clips, "RATE", 48000)  # AC-3 knows no lower rate
    write_clip(tmp_path / "in.mkv", panned(5), sound=1, sound_codec="ac3")
    data = packets(tmp_path / "in.mkv", "audio")[number][1]
    file = bytearray((tmp_path / "in.mkv").read_bytes())
    at = file.index(data)
    file[at : at + 8] = bytes(8)
    (tmp_path / "in.mkv").write_bytes(file)
    _, writer = copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert writer.damaged
    assert writer.notes == ["packets of sound or subtitles that are damaged and left out: 1"]
    assert len(frames_of(tmp_path / "out.mp4")) == 5
    assert len(packets(tmp_path / "out.mp4", "audio")) == len(packets(tmp_path / "in.mkv", "audio")) - 1


def test_pictures_that_are_refused_are_no_damage_of_the_source(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(3), sound=0.1)
    with pytest.raises(VideoError, match="cannot write"), VideoReader(tmp_path / "in.mp4") as reader:
        encoding = Encoding("png", pixel_format="rgb24")
        with VideoWriter(tmp_path / "out.mov", reader.clip, encoding, source=reader) as writer:
            for item in [*reader] + 20 * [Frame(panned(1)[0], 0, 1, 0.0)]:
                writer.write(item)
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_limits(tmp_path, monkeypatch):
    write_clip(tmp_path / "in.mp4", panned(2))
    with pytest.raises(LimitError):
        VideoReader(tmp_path / "in.mp4", size=(9000, 9000))
    with pytest.raises(VideoError, match="8 x 64 pixels are too small"):
        VideoReader(tmp_path / "in.mp4", size=(8, 64))
    with pytest.raises(VideoError, match="not a video that can be read"):
        VideoReader(tmp_path / "in.mp4", formats="matroska,avi")
    monkeypatch.setattr(reading, "LIMIT_PIXELS", 1000)
    monkeypatch.setattr(VideoReader, "_find_first", lambda _: pytest.fail("decoded what is too large"))
    with pytest.raises(LimitError, match="beyond the limit of 1,000 pixels"):
        VideoReader(tmp_path / "in.mp4")


def test_times_that_are_missing_are_counted(tmp_path):
    with av.open(str(tmp_path / "raw.h264"), "w", format="h264") as out:
        stream = out.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.codec_context.height, stream.codec_context.width = 64, 96
        for pixels in panned(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    copy(tmp_path / "raw.h264", tmp_path / "out.mp4")
    times = frame_times(tmp_path / "out.mp4")
    assert len(times) == 10
    assert all(Fraction(3, 100) < later - earlier < Fraction(5, 100) for earlier, later in itertools.pairwise(times))


def test_times_that_go_back_are_counted_on(tmp_path):
    write_clip(tmp_path / "in.ts", panned(30))
    (tmp_path / "twice.ts").write_bytes(2 * (tmp_path / "in.ts").read_bytes())
    with VideoReader(tmp_path / "twice.ts") as reader:
        times = [item.time for item in reader if isinstance(item, Frame)]
    assert times == pytest.approx([i / 25 for i in range(60)], abs=0.001)
    assert reader.notes == [
        "times go back in the middle of the file; the pictures there follow each other at the usual rate"
    ]
    assert not reader.damaged


# --- what a program that is killed leaves behind


def wait_for(found):
    """What a function finds, as soon as it finds something."""
    for _ in range(1200):
        if what := found():
            return what
        time.sleep(0.05)
    return found()


def grow_old(path):
    """Let nobody have written to a file since long ago."""
    os.utime(path, (0, 0))


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9")
def test_after_kill_9_the_next_job_starts_clean(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(2) * 1000)
    write_clip(tmp_path / "short.mp4", panned(2))
    (tmp_path / "out.mp4").write_bytes(b"precious")
    command = [sys.executable, "-m", "restyle", "video", "in.mp4", "--style", "wave", "-o", "out.mp4", "--overwrite"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert wait_for(lambda: [path for path in tmp_path.glob(".restyle-*") if path.stat().st_size])
            copy(tmp_path / "short.mp4", tmp_path / "other.mp4")  # another job in the folder leaves the first one alone
            assert process.poll() is None
            (half,) = tmp_path.glob(".restyle-*")
        finally:
            process.kill()
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    copy(tmp_path / "short.mp4", tmp_path / "other.mp4", overwrite=True)
    assert half.exists()  # it might be another computer's, which is at work on it
    grow_old(half)
    copy(tmp_path / "short.mp4", tmp_path / "out.mp4", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "other.mp4", "out.mp4", "short.mp4"]
    assert len(frames_of(tmp_path / "out.mp4")) == 2


def test_only_what_nobody_writes_is_cleared_away(tmp_path):
    for name in (".restyle-video-0.tmp", ".restyle-video-1.tmp", ".restyle-0.tmp", "film.tmp"):
        (tmp_path / name).write_bytes(b"left over, new, a picture's, somebody else's")
        if "1" not in name:
            grow_old(tmp_path / name)
    ours = Beside(tmp_path / "film.mp4")
    try:
        grow_old(ours.path)  # it waits for a camera that is lost
        clear_away(tmp_path)
        kept = [".restyle-0.tmp", ".restyle-video-1.tmp", "film.tmp"]
        assert sorted(os.listdir(tmp_path)) == sorted([*kept, ours.path.name])
    finally:
        ours.discard()
    ours.discard()
    assert sorted(os.listdir(tmp_path)) == kept
