"""Between FFmpeg's frames and pixels: colours stay what they are, and rotated video comes out upright."""

import itertools
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from clips import close, copy, frames_of, panned, write_clip
from restyle.video.frames import Colour, Orientation, ToFrame, ToPixels
from restyle.video.reader import Clip, Frame
from restyle.video.writer import Encoding, VideoWriter


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


def test_encoders_of_rgb_are_not_told_a_matrix(tmp_path):
    (pixels,) = panned(1)
    clip = Clip(pixels.shape[:2], Fraction(25), Fraction(1, 12800), Colour())
    with VideoWriter(tmp_path / "rgb.mkv", clip, Encoding("libx264rgb", crf=0, pixel_format="rgb24")) as writer:
        writer.write(Frame(pixels, 0, 512, 0.0))
    assert np.array_equal(frames_of(tmp_path / "rgb.mkv")[0].pixels, pixels)


AT_THE_END_OF_A_PAGE = """
import ctypes, mmap, sys
import numpy as np
from restyle.video.frames import Colour, ToFrame

height, width = map(int, sys.argv[1:])
size = height * width * 3
pages = -(-size // mmap.PAGESIZE)
memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
guard = ctypes.c_void_p(start + pages * mmap.PAGESIZE)
assert ctypes.CDLL(None).mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
pixels = np.frombuffer(memory, np.uint8, size, pages * mmap.PAGESIZE - size).reshape(height, width, 3)
ToFrame(Colour(), (height, width), "yuv420p")(pixels)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect as Linux has it")
def test_nothing_beyond_a_picture_is_read():
    # FFmpeg reads on behind the last row; where the memory ends there, the program would.
    for size in ("854", "480"), ("34", "20"), ("258", "128"):
        subprocess.run([sys.executable, "-c", AT_THE_END_OF_A_PAGE, *size[::-1]], check=True)
