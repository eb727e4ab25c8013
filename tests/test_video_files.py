"""Video files in and out: times, sound, subtitles, sizes and encoders."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from clips import close, copy, frame_times, frames_of, moved, packets, panned, write_clip
from restyle.errors import DeviceError, UnknownNameError, VideoError
from restyle.video import reader as reading
from restyle.video.reader import Frame, VideoReader
from restyle.video.writer import Encoding, find_encoder

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
    write_clip(tmp_path / "in.mkv", panned(3), sound=0.2, sound_codec="flac")  # FFmpeg notices only at the header
    with pytest.raises(VideoError, match=r"\.mov cannot hold these pictures, sound and subtitles together; write"):
        copy(tmp_path / "in.mkv", tmp_path / "out.mov")


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
    assert [(round(at, 2), data) for at, data in packets(tmp_path / "cut.mkv", "subtitle")] == [
        (0, b"one"),  # it began before the cut and is still to be read
        (0.2, b"two"),
    ]
    with av.open(str(tmp_path / "cut.mkv")) as container:
        lasting = [
            packet.duration * packet.time_base for packet in container.demux(subtitles=0) if packet.pts is not None
        ]
    assert lasting == [Fraction(1, 5), Fraction(1, 5)]
    with av.open(str(tmp_path / "cut.mkv")) as container:
        cut = [(float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in container.chapters()]
    assert cut == [(0, 0.1), (0.1, 0.4)]


@pytest.mark.parametrize("ending", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("metadata", [True, False])
def test_the_place_is_left_out_where_no_metadata_is_wanted(tmp_path, ending, metadata):
    places = ("location", "location-eng", "com.apple.quicktime.location.ISO6709")
    write_clip(
        tmp_path / "in.mkv", panned(5), sound=0.2, chapters=[(0, 0.1, "first"), (0.1, 0.2, "second")],
        metadata={"title": "A film", "creation_time": "2024-05-06T07:08:09Z", **dict.fromkeys(places, "+48.1+011.5/")},
    )  # fmt: skip
    copy(tmp_path / "in.mkv", tmp_path / f"out{ending}", metadata=metadata)
    with av.open(str(tmp_path / f"out{ending}")) as container:
        told = {key.lower(): value for key, value in container.metadata.items()}
        kept = {key.lower(): value for key, value in container.streams.audio[0].metadata.items()}
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["first", "second"]
    assert {key in told for key in ("title", "location", "creation_time")} == {metadata}
    assert kept["language"] == "fin"
    assert ("comment" in kept) == (metadata and ending == ".mkv")  # MP4 has no comments on streams
    assert metadata or b"+48.1" not in (tmp_path / f"out{ending}").read_bytes()


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


@pytest.mark.parametrize("leads", [(10, 100), (0.3, 0.5), (0.01, 0.1)])  # the first: read from the beginning
@pytest.mark.parametrize(
    ("name", "options"),
    [("in.ts", {}), ("in.mkv", {}), ("in.mp4", {}), ("in.h264", {}), ("in.flv", {}),
     ("open.ts", {"bf": "2", "x264-params": "open-gop=1"}), ("open.mp4", {"bf": "2", "x264-params": "open-gop=1"})],
)  # fmt: skip
def test_a_cut_begins_with_the_first_frame_of_its_time(tmp_path, monkeypatch, name, options, leads):
    monkeypatch.setattr(reading, "LEADS_S", leads, raising=False)
    sound = 0 if name == "in.h264" else 2
    write_clip(tmp_path / name, panned(50), sound=sound, pixel_format="yuv420p", options={"g": "10", **options})
    whole = frames_of(tmp_path / name)
    assert len(whole) == 50
    for start in (0.5, 1, 1.07):
        expected = [frame for frame in whole if frame.time >= start]
        found = frames_of(tmp_path / name, start=start)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.time == pytest.approx(other.time - start, abs=0.001)
            assert np.array_equal(one.pixels, other.pixels)
    assert len(frames_of(tmp_path / name, start=1, stop=1.4)) == 10


@pytest.mark.parametrize("leads", [(10, 100), (0.3, 0.5)])
@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
def test_a_cut_has_the_sound_that_lies_ahead_of_its_pictures(tmp_path, monkeypatch, ending, leads):
    monkeypatch.setattr(reading, "LEADS_S", leads, raising=False)
    write_clip(tmp_path / f"in{ending}", panned(50), sound=2, sound_first=True)
    copy(tmp_path / f"in{ending}", tmp_path / "out.mkv", start=1, stop=1.8)
    before, after = (packets(tmp_path / name, "audio") for name in (f"in{ending}", "out.mkv"))
    assert [data for _, data in after] == [data for at, data in before if 1 <= at < 1.8]
    assert len(after) > 10


def test_a_cut_means_what_it_says_in_decimals(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(60))
    cut = frames_of(tmp_path / "in.mp4", start=1.04, stop=2.04)  # as binary numbers both lie a hair above frames
    assert [frame.pts for frame in cut] == [512 * i for i in range(25)]


def test_the_last_frame_of_a_cut_ends_with_it(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(3), times=[0, 2, 6], rate=1)
    copy(tmp_path / "in.mp4", tmp_path / "out.mp4", start=2, stop=4)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.duration == 2_000_000


def test_a_file_may_begin_later_than_its_clock(tmp_path):
    write_clip(tmp_path / "in.mkv", panned(50), sound=2, chapters=[(0, 1, "first"), (1, 2, "second")])
    for by, ending in ((5, ".mkv"), (5, ".mp4"), (3600, ".ts")):
        late = moved(tmp_path / "in.mkv", tmp_path / f"late{ending}", by)
        with VideoReader(late) as reader:
            assert len([item for item in reader if isinstance(item, Frame)]) == 50
            assert (reader.notes, reader.damaged) == ([], False)
            assert reader.seconds == pytest.approx(2.1, abs=0.1)
        if ending == ".mkv":
            with VideoReader(late, start=0.5, stop=1.5) as reader:
                kept = [
                    (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in reader.chapters()
                ]
            assert kept == [pytest.approx((0, 0.5), abs=0.1), pytest.approx((0.5, 1), abs=0.1)]


def test_the_first_frame_is_kept_whatever_its_clock_says(tmp_path):
    # The container says when it begins, in millionths rounded up.
    times = [(132008 + 3600 * i) / 90000 for i in range(10)]
    write_clip(tmp_path / "in.ts", panned(10), times=times, time_base=Fraction(1, 90000))
    assert [frame.pts for frame in frames_of(tmp_path / "in.ts")] == [3600 * i for i in range(10)]


def test_streams_in_another_order_cost_no_frames(tmp_path):
    # The decoder keeps the last ones back until the file's end.
    write_clip(tmp_path / "in.mp4", panned(20), sound=0.8, pixel_format="yuv420p", options={"bf": "2"})
    moved(tmp_path / "in.mp4", tmp_path / "order.mkv", 0, backwards=True)
    with av.open(str(tmp_path / "order.mkv")) as container:
        assert container.streams[0].type == "audio"
    assert len(frames_of(tmp_path / "order.mkv")) == 20


def test_sound_that_was_cut_away_stays_away(tmp_path):
    write_clip(tmp_path / "in.mp4", panned(50), sound=2, options={"g": "100"})
    moved(tmp_path / "in.mp4", tmp_path / "trimmed.mp4", -1)  # hides the first second, as ffmpeg -ss 1 -c copy does
    assert packets(tmp_path / "trimmed.mp4", "audio")[0][0] < -0.9
    copy(tmp_path / "trimmed.mp4", tmp_path / "out.mkv")
    assert len(frame_times(tmp_path / "out.mkv")) == 25
    assert frame_times(tmp_path / "out.mkv")[0] < 0.2
    with VideoReader(tmp_path / "trimmed.mp4") as reader:
        sound = [item for item in reader if not isinstance(item, Frame)]
    assert -0.2 < sound[0].pts * sound[0].time_base <= 0


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


def test_encoders_say_nothing(tmp_path, capfd):
    write_clip(tmp_path / "in.mp4", panned(6))
    for codec in ("av1", "hevc", "vp9"):
        copy(tmp_path / "in.mp4", tmp_path / f"{codec}.mp4", Encoding(codec))
    assert capfd.readouterr() == ("", "")


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
