"""Pictures that are damaged, missing or too large do not come in at all."""

from __future__ import annotations

import io
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, JpegImagePlugin

from hostile import DAMAGED, TOO_LARGE, png_bomb
from pictures import photograph, saved
from restyle.errors import ImageError, LimitError
from restyle.image import Picture, encode_image, read_image, to_pil, to_pixels, write_image
from restyle.image import reading as room


@pytest.fixture
def photo() -> np.ndarray:
    return photograph()


# --- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_give_one_sentence_with_their_name(hostile: dict[str, Path], name: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_image(hostile[name])
    message = str(caught.value)
    assert hostile[name].name in message
    assert "\n" not in message
    assert {"empty": "file is empty", "text_as_jpg": "known format (JPEG, PNG"}.get(name, "") in message
    assert (caught.value.__cause__ is not None) == (name in ("truncated_jpeg", "directory_as_jpg"))


def test_missing_and_forbidden_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"no-such\.jpg.*No such file") as caught:
        read_image(tmp_path / "no-such.jpg")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(ImageError, match="null byte"):
        read_image("a\0b.jpg")

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    with pytest.raises(ImageError, match=r"secret\.jpg.*Permission denied"):
        read_image("secret.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow warns of a TIFF's torn directory, then fails
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WebP", {}),
        ("AVIF", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_a_file_cut_short_is_never_a_picture(format: str, options: dict[str, object]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
    whole = saved(to_pil(noise), format, **options)
    assert read_image(whole).pixels.shape == (32, 32, 3)
    for length in range(1, len(whole) - 24, len(whole) // 60):
        with pytest.raises(ImageError):
            read_image(whole[:length])


def test_sources_of_every_kind(tmp_path: Path, photo: np.ndarray) -> None:
    encoded = encode_image(photo, "png")
    path = tmp_path / "named.wrong.jpg"  # the content counts, not the name
    path.write_bytes(encoded)
    reading, writing = os.pipe()
    os.write(writing, encoded)
    os.close(writing)
    with path.open("rb") as file, os.fdopen(reading, "rb") as pipe:
        for source in (path, str(path), encoded, io.BytesIO(encoded), file, pipe):
            np.testing.assert_array_equal(read_image(source).pixels, photo)
        assert not file.closed
    for wrong in (None, 3, [1, 2]):
        with pytest.raises(TypeError, match="path, bytes or a binary file"):
            read_image(wrong)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_named_pipe_is_read(tmp_path: Path, photo: np.ndarray) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(encode_image(photo, "png"),))
    writer.start()
    np.testing.assert_array_equal(read_image(tmp_path / "pipe").pixels, photo)
    writer.join(10)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_bomb_is_refused_with_its_size_and_the_limit(hostile: dict[str, Path], name: str) -> None:
    assert hostile[name].stat().st_size < 1_000_000
    with pytest.raises(LimitError, match=r"30000 high and 30000 wide.*200,000,000.*raise the limit"):
        read_image(hostile[name])
    with pytest.raises(LimitError):
        to_pixels(hostile[name])


def test_limits_are_checked_before_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch, photo: np.ndarray) -> None:
    def decoded(_: object) -> None:
        raise MemoryError("the pixels were decoded")

    for pillow_class in (ImageFile.ImageFile, JpegImagePlugin.JpegImageFile):
        monkeypatch.setattr(pillow_class, "load", decoded)
    for format in ("png", "jpg", "tiff", "gif", "bmp", "ppm"):
        encoded = encode_image(photo, format)
        with pytest.raises(LimitError):
            read_image(encoded, limit_pixels=30 * 50 - 1)
        with pytest.raises(MemoryError):  # the exact size is allowed, and lack of memory is not called damage
            read_image(encoded, limit_pixels=30 * 50)
    with pytest.raises(LimitError, match="no side may be longer than 100,000"):
        read_image(b"P6 100001 1 255 ")


@pytest.mark.parametrize("format", ["tiff", "png", "gif"])
def test_pillows_own_limit_neither_leaks_nor_changes(
    format: str, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = encode_image(photo, format)
    expected = read_image(encoded).pixels
    for limit in (1000, 10):  # Pillow would warn from the limit on, and fail from its double on
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        monkeypatch.setattr(room, "_PILLOW_LIMIT", limit)
        np.testing.assert_array_equal(read_image(encoded).pixels, expected)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_pillows_own_limit_becomes_ours_where_it_cannot_be_lifted(photo: np.ndarray) -> None:
    large = bytearray(encode_image(photo[:1, :1], "gif"))
    frame = large.index(b",\0\0\0\0\1\0\1\0")
    large[frame + 1 : frame + 5] = struct.pack("<HH", 50_000, 50_000)  # far outside of the declared 1 x 1
    with pytest.raises(LimitError, match="the picture: Image size"):
        read_image(bytes(large))


def test_a_raised_limit_is_obeyed() -> None:
    large = png_bomb(100, 40_000)
    with pytest.raises(LimitError):
        read_image(large, limit_pixels=3_999_999)
    assert read_image(large, limit_pixels=4_000_000).pixels.shape == (100, 40_000, 3)


def test_many_threads_read_and_write(hostile: dict[str, Path], tmp_path: Path) -> None:
    names = sorted(set(hostile) - {*DAMAGED, *TOO_LARGE, "very_wide"})
    expected = {name: read_image(hostile[name]) for name in names}
    before = Image.MAX_IMAGE_PIXELS
    barrier = threading.Barrier(8)

    def work(number: int) -> list[Picture]:
        barrier.wait(10)
        read = [read_image(hostile[name]) for name in names]
        for name, picture in zip(names, read, strict=True):
            write_image(tmp_path / f"{name}.png", picture.pixels, overwrite=True)  # all of them to the same place
        return read

    with ThreadPoolExecutor(8) as pool:
        for pictures in pool.map(work, range(8)):
            for name, picture in zip(names, pictures, strict=True):
                np.testing.assert_array_equal(picture.pixels, expected[name].pixels)
                assert (picture.exif, picture.notes) == (expected[name].exif, expected[name].notes)
    assert before == Image.MAX_IMAGE_PIXELS
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.png" for name in names)
    for name in names:
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png").pixels, expected[name].pixels)
