"""Video files in and out: what is in them comes out again, and what is not a video is said in one sentence."""

import itertools
import os
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from clips import frame_times, packets, panned, write_clip
from restyle.errors import DeviceError, LimitError, UnknownNameError, VideoError
from restyle.video import reader as reading
from restyle.video.frames import Colour, Orientation, ToFrame, ToPixels
from restyle.video.reader import Frame, VideoReader
from restyle.video.writer import Encoding, VideoWriter, find_encoder

LOSSLESS = Encoding(crf=1, pixel_format="yuv444p")


def copy(source, target, encoding=LOSSLESS, *, sound="copy", overwrite=False, **cut):
    """Read and write without painting."""
    with (
        VideoReader(source, **cut) as reader,
        VideoWriter(target, reader.clip, encoding, source=reader, sound=sound, overwrite=overwrite) as writer,
    ):
        for item in reader:
            writer.write(item)
    return reader, writer


def frames_of(path, **cut):
    with VideoReader(path, **cut) as reader:
        return [item for item in reader if isinstance(item, Frame)]


def close(one, other, limit=6.0):
    return np.abs(one.astype(float) - other).mean() < limit


# --- colour and rotation


def yuv(rgb, matrix, full):
    """The textbook: BT.601 and BT.709."""
    red, blue = {6: (0.299, 0.114), 1: (0.2126, 0.0722)}[matrix]
    r, g, b = (value / 255 for value in rgb)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    numbers = (255 * y, 128 + 255 * u, 128 + 255 * v) if full else (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)
    return [min(255, round(number)) for number in numbers]


@pytest.mark.parametrize(("matrix", "full"), [*itertools.product((1, 6), (False, True))])
def test_colours_follow_matrix_and_range_both_ways(matrix, full):
    for rgb in ((200, 30, 60), (20, 200, 90), (30, 60, 220), (255, 255, 255), (0, 0, 0)):
        frame = av.VideoFrame(32, 32, "yuv420p")
        for plane, value in zip(frame.planes, yuv(rgb, matrix, full), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        pixels = ToPixels(frame, (32, 32))(frame)
        assert np.abs(pixels.astype(int) - rgb).max() <= 3
        back = ToFrame(Colour(matrix, 2 if full else 1), (32, 32), "yuv420p")(np.full((32, 32, 3), rgb, np.uint8))
        for plane, value in zip(back.planes, yuv(rgb, matrix, full), strict=True):
            assert abs(bytes(plane)[0] - value) <= 2


def test_untagged_colours_are_guessed_by_size():
    for size, matrix in (((480, 640), 6), ((720, 1280), 1)):
        frame = av.VideoFrame(size[1], size[0], "yuv420p")
        assert Colour.of(frame) == Colour(matrix, 1)
    assert Colour.of(av.VideoFrame(64, 64, "yuvj420p")).range == 2


@pytest.mark.parametrize(("matrix", "range"), [*itertools.product((1, 6), (1, 2))])
def test_files_are_tagged_with_the_colours_they_have(tmp_path, matrix, range):
    pixels = panned(1)[0]
    write_clip(tmp_path / "in.mkv", [pixels] * 3, colour=(matrix, range))
    copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (matrix, range)
    assert close(frames_of(tmp_path / "out.mp4")[1].pixels, pixels)


def test_hdr_becomes_ordinary_colours():
    frame = av.VideoFrame(32, 32, "yuv420p10le")
    for plane, value in zip(frame.planes, (64 + round(876 * 0.508), 512, 512), strict=True):  # 100 candelas in PQ
        plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
    frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 9, 1, 16, 9
    assert 170 < ToPixels(frame, (32, 32))(frame).mean() < 210  # half of white's light, not half of its number
    assert Colour.of(frame).written() == Colour(1, 1, 1, 1)


@pytest.mark.parametrize(("degrees", "mirrored"), [*itertools.product((0, 90, 180, -90), (False, True))])
def test_rotated_video_comes_out_upright(tmp_path, degrees, mirrored):
    upright = panned(1)[0]
    stored = np.rot90(upright, -degrees // 90)  # shown, it is turned by the degrees counter-clockwise
    if mirrored:
        stored = np.rot90(upright[:, ::-1], -degrees // 90)
    write_clip(tmp_path / "in.mp4", [stored] * 3, rotation=degrees, aspect=Fraction(4, 3))
    if mirrored:
        write_clip(tmp_path / "in.mp4", [stored] * 3, rotation=degrees, mirrored=True, aspect=Fraction(4, 3))
    reader, _ = copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    (first, *_), (shown, *_) = frames_of(tmp_path / "in.mp4"), frames_of(tmp_path / "out.mp4")
    expected = _shown(stored, tmp_path / "in.mp4")
    assert close(first.pixels, expected)
    assert close(shown.pixels, expected)
    if not mirrored:
        assert close(shown.pixels, upright)
    assert reader.clip.aspect == (Fraction(3, 4) if degrees % 180 else Fraction(4, 3))
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.rotation == 0
        assert Orientation.of(frame) == Orientation()


def _shown(stored, path):
    """What a player shows: each stored point goes where the display matrix of the file sends it."""
    with av.open(str(path)) as container:
        matrix = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return stored
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5] / 65536
    rows, columns = np.mgrid[: stored.shape[0], : stored.shape[1]]
    x, y = np.rint(a * columns + c * rows).astype(int), np.rint(b * columns + d * rows).astype(int)
    shown = np.zeros((np.ptp(y) + 1, np.ptp(x) + 1, 3), np.uint8)
    shown[y - y.min(), x - x.min()] = stored
    return shown


# --- times, sound, subtitles


def test_variable_frame_rate_keeps_its_times(tmp_path):
    times = [0, 0.04, 0.08, 0.5, 0.51, 1.3, 1.34]
    write_clip(tmp_path / "in.mp4", panned(7), times=times)
    for ending, exact in ((".mp4", True), (".mov", True), (".mkv", False)):
        copy(tmp_path / "in.mp4", tmp_path / f"out{ending}")
        before, after = frame_times(tmp_path / "in.mp4"), frame_times(tmp_path / f"out{ending}")
        assert len(before) == len(after) == 7
        worst = max(abs(one - other) for one, other in zip(before, after, strict=True))
        assert worst == 0 if exact else worst <= Fraction(1, 1000)  # Matroska counts milliseconds


def test_last_frame_keeps_its_length(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(5), rate=10, last=0.7)
    copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "in.mp4")) as one, av.open(str(tmp_path / "out.mp4")) as other:
        assert one.duration == other.duration == 1_100_000


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".mov"])
def test_sound_is_copied_to_the_bit(tmp_path, ending):
    write_clip(tmp_path / "in.mp4", panned(20), sound=0.8)
    copy(tmp_path / "in.mp4", tmp_path / f"out{ending}")
    before, after = packets(tmp_path / "in.mp4", "audio"), packets(tmp_path / f"out{ending}", "audio")
    assert [data for _, data in before] == [data for _, data in after]
    assert len(before) > 10
    # Against the pictures: Matroska knows no times below 0, where AAC begins, and moves everything.
    starts = [float(frame_times(tmp_path / name)[0]) for name in ("in.mp4", f"out{ending}")]
    for (one, _), (other, _) in zip(before, after, strict=True):
        assert abs((one - starts[0]) - (other - starts[1])) < 0.002
    with av.open(str(tmp_path / f"out{ending}")) as container:
        assert container.streams.audio[0].metadata["language"] == "fin"
        assert sum(len(f.to_ndarray()[0]) for f in container.decode(audio=0)) >= 0.8 * 16000


def test_sound_is_dropped_if_asked(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(3), sound=0.2)
    copy(tmp_path / "in.mp4", tmp_path / "out.mp4", sound="drop")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video"]
    with pytest.raises(ValueError, match="sound must be one of copy, drop, got 'loud'"):
        copy(tmp_path / "in.mp4", tmp_path / "out2.mp4", sound="loud")


def test_sound_that_does_not_fit_is_an_error_before_work(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(3), sound=0.2)
    with pytest.raises(VideoError, match=r"\.webm cannot hold this sound \(aac\); write \.mkv"):
        copy(tmp_path / "in.mp4", tmp_path / "out.webm", Encoding())
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_subtitles_chapters_and_metadata(tmp_path):
    write_clip(
        tmp_path / "in.mkv", panned(25), sound=1, subtitles=[(0.1, "one"), (0.6, "two")],
        chapters=[(0, 0.5, "first"), (0.5, 1, "second")], metadata={"title": "A film", "comment": "kept"},
    )  # fmt: skip
    _, writer = copy(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert writer.notes == []
    assert [data for _, data in packets(tmp_path / "out.mkv", "subtitle")] == [b"one", b"two"]
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert {key.lower(): value for key, value in container.metadata.items()}["title"] == "A film"
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["first", "second"]
    _, writer = copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert writer.notes == ["left out: subtitles (subrip), stream 2"]
    copy(tmp_path / "in.mkv", tmp_path / "cut.mkv", start=0.4, stop=0.8)
    assert [(round(at, 2), data) for at, data in packets(tmp_path / "cut.mkv", "subtitle")] == [(0.2, b"two")]
    with av.open(str(tmp_path / "cut.mkv")) as container:
        cut = [(float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in container.chapters()]
    assert cut == [(0, 0.1), (0.1, 0.4)]


def test_cut_keeps_sound_in_step(tmp_path):
    frames = panned(50, step=2)
    write_clip(tmp_path / "in.mp4", frames, sound=2)
    reader, _ = copy(tmp_path / "in.mp4", tmp_path / "out.mp4", start=0.5, stop=1.5)
    assert reader.frames == 25
    cut = frames_of(tmp_path / "out.mp4")
    # 0.5 s lies between two frames: the first is the one shown next.
    assert len(cut) == 25
    assert close(cut[0].pixels, frames[13])
    assert not close(cut[0].pixels, frames[15])
    assert close(cut[-1].pixels, frames[37])
    before, after = (packets(tmp_path / name, "audio") for name in ("in.mp4", "out.mp4"))
    kept = [(at - 0.5, data) for at, data in before if 0.5 <= at < 1.5]
    assert [data for _, data in kept] == [data for _, data in after]
    assert max(abs(one - other) for (one, _), (other, _) in zip(kept, after, strict=True)) < 0.001
    assert frame_times(tmp_path / "out.mp4")[0] == Fraction(13, 25) - Fraction(1, 2)


def test_cuts_that_hold_nothing(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(5))
    with pytest.raises(VideoError, match="no picture in the part"):
        VideoReader(tmp_path / "in.mp4", start=10)
    for start, stop in ((-1, None), (2, 1), (1, 1), (float("nan"), None), (0, float("inf"))):
        with pytest.raises(ValueError, match=r"start|stop"):
            VideoReader(tmp_path / "in.mp4", start=start, stop=stop)


# --- sizes and encoders


@pytest.mark.parametrize(
    ("size", "expected"), [(None, (64, 96)), (32, (32, 48)), (33, (34, 50)), ((40, 70), (40, 70)), (128, (128, 192))]
)
def test_size(tmp_path, size, expected):
    pixels = panned(1)[0]
    write_clip(tmp_path / "in.mp4", [pixels] * 2)
    (first, *_) = frames_of(tmp_path / "in.mp4", size=size)
    assert first.pixels.shape == (*expected, 3)
    small = np.asarray(Image.fromarray(pixels).resize(expected[::-1]))
    assert close(first.pixels, small, 8)


def test_odd_sides(tmp_path):
    odd = panned(2, (33, 47))
    write_clip(tmp_path / "in.mkv", odd)
    _, writer = copy(tmp_path / "in.mkv", tmp_path / "even.mp4", Encoding(crf=1))
    assert writer.notes == ["47 x 33 became 48 x 34: yuv420p has even sides"]
    assert close(frames_of(tmp_path / "even.mp4")[0].pixels[:33, :47], odd[0])
    _, writer = copy(tmp_path / "in.mkv", tmp_path / "odd.mp4")
    assert writer.notes == []
    assert frames_of(tmp_path / "odd.mp4")[0].pixels.shape == (33, 47, 3)


@pytest.mark.parametrize(
    ("codec", "ending", "name"),
    [("h264", ".mov", "h264"), ("hevc", ".mp4", "hevc"), ("vp9", ".webm", "vp9"), (None, ".webm", "vp9"),
     ("ffv1", ".mkv", "ffv1")],
)  # fmt: skip
def test_encoders(tmp_path, codec, ending, name):
    frames = panned(4)
    write_clip(tmp_path / "in.mp4", frames)
    copy(tmp_path / "in.mp4", tmp_path / f"out{ending}", Encoding(codec))
    with av.open(str(tmp_path / f"out{ending}")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == name
    assert close(frames_of(tmp_path / f"out{ending}")[-1].pixels, frames[-1], 12)


def test_encoder_options_are_used(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(6))
    sizes = {}
    for crf in (5, 40):
        copy(tmp_path / "in.mp4", tmp_path / f"{crf}.mp4", Encoding(crf=crf, preset="slow", options={"g": "1"}))
        sizes[crf] = os.path.getsize(tmp_path / f"{crf}.mp4")
    assert sizes[5] > 1.5 * sizes[40]
    with av.open(str(tmp_path / "5.mp4")) as container:
        assert all(packet.is_keyframe for packet in container.demux(video=0) if packet.pts is not None)


def test_encoders_that_do_not_fit(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(2, (48, 96)))
    for encoding, kind, sentence in (
        (Encoding("h265x"), UnknownNameError, "no video encoder is called 'h265x'"),
        (Encoding("aac"), UnknownNameError, "no video encoder is called 'aac'"),
        (Encoding("ffv1", crf=20), ValueError, "the encoder ffv1 has no option 'crf'"),
        (Encoding("gif"), ValueError, r"ending in \.mp4 cannot hold what gif makes"),
        (Encoding(options={"wings": "2"}), ValueError, "libx264 has no option 'wings'"),
        (Encoding("hevc", pixel_format="yuv444p"), VideoError, "libx265 needs frames of at least 64 pixels a side"),
        (Encoding(preset="plaid"), ValueError, "libx264 refuses these settings"),
        (Encoding(pixel_format="bgr8"), ValueError, "libx264 has no pixel format 'bgr8'; it has: yuv420p"),
    ):
        with pytest.raises(kind, match=sentence):
            copy(tmp_path / "in.mp4", tmp_path / "out.mp4", encoding)
        assert os.listdir(tmp_path) == ["in.mp4"]
    if "h264_nvenc" in av.codec.codecs_available and not os.path.exists("/dev/nvidia0"):
        with pytest.raises(DeviceError, match="h264_nvenc does not start on this machine"):
            copy(tmp_path / "in.mp4", tmp_path / "out.mp4", Encoding("h264_nvenc"))
    assert find_encoder("h264") == "libx264"


# --- files that resist


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
