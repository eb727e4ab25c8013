"""Pictures as arrays, what comes back of written ones, and files that go out whole, or not at all."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, JpegImagePlugin

from pictures import difference, photograph
from restyle.errors import ImageError, ShapeError, UnknownNameError
from restyle.image import (
    check_size,
    encode_image,
    fit_short_side,
    read_history,
    read_image,
    resize,
    to_pil,
    to_pixels,
    write_image,
)

quick = settings(max_examples=25, deadline=None)
sides = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=19)
pictures = st.tuples(sides, st.sampled_from([3, 4])).flatmap(lambda shape: arrays(np.uint8, (*shape[0], shape[1])))


@pytest.fixture
def photo() -> np.ndarray:
    return photograph()


# --- the round trip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "tiff", "bmp", "ppm"])
@quick
@given(pixels=pictures)
def test_written_then_read_is_the_same(format: str, pixels: np.ndarray) -> None:
    opaque = pixels.shape[2] == 3 or pixels[:, :, 3].min() == 255
    if format in ("bmp", "ppm") or opaque:
        pixels = np.ascontiguousarray(pixels[:, :, :3])
    picture = read_image(encode_image(pixels, format))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert picture.pixels.flags.c_contiguous
    assert (picture.exif, picture.notes) == (None, ())


@pytest.mark.parametrize(("format", "tolerance"), [("jpg", 8), ("webp", 12), ("avif", 12)])
def test_lossy_formats_stay_close(photo: np.ndarray, format: str, tolerance: int) -> None:
    assert difference(read_image(encode_image(photo, format)).pixels, photo) <= tolerance


@pytest.mark.parametrize("format", ["png", "tiff", "webp", "avif", "gif"])
def test_alpha_is_kept(cutout: np.ndarray, format: str) -> None:
    pixels = read_image(encode_image(cutout, format)).pixels
    assert pixels.shape == cutout.shape
    assert pixels[:, :25, 3].max() == 0
    assert pixels[:, 30:, 3].min() == 255
    assert difference(pixels[:, 30:, :3], cutout[:, 30:, :3]) <= (40 if format == "gif" else 12)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_transparency_is_laid_on_white_where_there_is_no_alpha(tmp_path: Path, cutout: np.ndarray, suffix: str) -> None:
    notes = write_image(tmp_path / f"out{suffix}", cutout)
    assert len(notes) == 1
    assert "laid on white" in notes[0]
    pixels = read_image(tmp_path / f"out{suffix}").pixels
    expected = (cutout[:, :, :3] * (cutout[:, :, 3:] / 255) + 255 - cutout[:, :, 3:]).round().astype(np.uint8)
    assert difference(pixels[:, :16], expected[:, :16]) <= 3  # JPEG rings near the edges
    assert difference(pixels[:, 40:], expected[:, 40:]) <= 6
    if suffix != ".jpg":
        np.testing.assert_array_equal(pixels, expected)


def test_opaque_alpha_is_dropped_in_silence(tmp_path: Path, photo: np.ndarray) -> None:
    opaque = np.dstack([photo, np.full(photo.shape[:2], 255, np.uint8)])
    assert write_image(tmp_path / "out.bmp", opaque) == ()
    np.testing.assert_array_equal(read_image(tmp_path / "out.bmp").pixels, photo)
    np.testing.assert_array_equal(read_image(encode_image(opaque, "png")).pixels, photo)


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_to_pixels_takes_paths_pictures_and_arrays(tmp_path: Path, photo: np.ndarray, cutout: np.ndarray) -> None:
    write_image(tmp_path / "in.png", photo)
    for given_form in (tmp_path / "in.png", str(tmp_path / "in.png"), Image.open(tmp_path / "in.png"), photo):
        np.testing.assert_array_equal(to_pixels(given_form), photo)
    assert to_pixels(photo) is photo
    np.testing.assert_array_equal(to_pixels(to_pil(cutout)), cutout)
    np.testing.assert_array_equal(to_pixels(photo[:, :, 0]), photo[:, :, [0, 0, 0]])
    view = cutout[::2, ::-1]
    assert not view.flags.c_contiguous
    assert to_pixels(view).flags.c_contiguous
    np.testing.assert_array_equal(to_pixels(view), view)


def test_to_pixels_turns_a_pil_picture_upright_and_leaves_it_alone(hostile: dict[str, Path]) -> None:
    with Image.open(hostile["rotated_exif"]) as picture:
        assert to_pixels(picture).shape == (64, 48, 3)
        assert picture.size == (64, 48)
        assert picture.getexif()[0x0112] == 6
    with Image.open(hostile["truncated_jpeg"]) as picture, pytest.raises(ImageError, match="the PIL picture"):
        to_pixels(picture)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), TypeError, "uint8.*float32"),
        (np.zeros((4, 4, 3), np.int64), TypeError, "uint8.*int64"),
        (np.zeros((3, 480, 640), np.uint8), ShapeError, r"\(3, 480, 640\)"),
        (np.zeros((4, 4, 2), np.uint8), ShapeError, r"height, width, 3 or 4.*\(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), ShapeError, r"\(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), ShapeError, r"\(0, 4, 3\)"),
        (np.zeros(4, np.uint8), ShapeError, r"\(4,\)"),
        ([[1, 2], [3, 4]], TypeError, "list"),
        (None, TypeError, "NoneType"),
    ],
)
def test_to_pixels_says_what_it_got(wrong: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        to_pixels(wrong)


def test_to_pil_has_its_own_memory(photo: np.ndarray, cutout: np.ndarray) -> None:
    for pixels, mode in ((photo, "RGB"), (cutout, "RGBA")):
        picture = to_pil(pixels)
        before = pixels.copy()
        pixels[:] = 0
        assert (picture.mode, picture.size) == (mode, (50, 30))
        np.testing.assert_array_equal(np.asarray(picture), before)


@quick
@given(pixels=pictures, size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_resize_gives_exactly_the_size(pixels: np.ndarray, size: tuple[int, int]) -> None:
    resized = resize(pixels, size)
    assert resized.shape == (*size, pixels.shape[2])
    assert resized.dtype == np.uint8
    flat = np.broadcast_to(pixels[0, 0, :3], (*pixels.shape[:2], 3))
    assert (resize(flat, size) == pixels[0, 0, :3]).all()


def test_transparent_colours_do_not_bleed(photo: np.ndarray) -> None:
    pixels = np.zeros((32, 32, 4), np.uint8)
    pixels[:, :16] = (255, 0, 0, 0)  # invisible red
    pixels[:, 16:] = (0, 0, 255, 255)
    for size in ((8, 8), (7, 9), (50, 77)):
        visible = resize(pixels, size)
        visible = visible[visible[:, :, 3] > 0]
        assert visible[:, 0].max() == 0
        assert visible[:, 2].min() >= 250


@given(size=st.tuples(st.integers(1, 10_000), st.integers(1, 10_000)), side=st.integers(1, 10_000))
def test_fitting_keeps_the_proportions(size: tuple[int, int], side: int) -> None:
    fitted = fit_short_side(size, side)
    assert min(fitted) == side
    for new, old in zip(fitted, size, strict=True):
        assert abs(new - old * side / min(size)) <= (0.5 if new > 1 else 1)


def test_impossible_sizes_are_refused(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(0, 5\)"):
        resize(photo, (0, 5))
    with pytest.raises(ValueError, match="at least 1"):
        fit_short_side((10, 10), 0)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_an_existing_file_is_never_overwritten_unasked(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.png"

    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    for _ in range(2):  # with hard links, then on a file system without them
        write_image(path, photo)
        with pytest.raises(ImageError, match=r"out\.png.*exists"):
            write_image(path, photo[:9])
        np.testing.assert_array_equal(read_image(path).pixels, photo)
        write_image(path, photo[:9], overwrite=True)
        np.testing.assert_array_equal(read_image(path).pixels, photo[:9])
        assert [entry.name for entry in tmp_path.iterdir()] == ["out.png"]
        path.unlink()
        monkeypatch.setattr(os, "link", no_links)


def test_a_file_that_appears_while_writing_is_not_overwritten(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.png"
    link = os.link

    def late(source: Path, target: Path) -> None:
        path.write_text("somebody else's")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(ImageError, match="exists"):
        write_image(path, photo)
    assert path.read_text() == "somebody else's"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("format", "longest"), [("jpg", 65_500), ("webp", 16_383), ("avif", 65_536), ("gif", 65_535)])
def test_formats_hold_what_they_are_said_to_hold(format: str, longest: int) -> None:
    assert encode_image(np.zeros((1, longest, 3), np.uint8), format)
    with pytest.raises(ImageError, match=f"holds at most {longest:,} pixels a side, got {longest + 1} x 1"):
        check_size((longest + 1, 1), format)


def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageError, match="JPEG holds at most 65,500 pixels a side, got 1 x 70000"):
        write_image(tmp_path / "wide.jpg", np.zeros((1, 70_000, 3), np.uint8))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=r"folder\.png"):
        write_image(tmp_path / "folder.png", photo, overwrite=True)
    (tmp_path / "folder.png").rmdir()

    def full(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ImageError, match="No space left"):
        write_image(tmp_path / "out.png", photo)
    assert list(tmp_path.iterdir()) == []


def test_the_target_is_never_seen_half_written(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.png"
    write_image(path, photo)
    replace, seen = os.replace, []

    def watched(source: Path, target: Path) -> None:
        seen.append((source.parent == tmp_path, source.stat().st_size, read_image(path).pixels.shape))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_image(path, photo[:9], overwrite=True)
    assert seen == [(True, path.stat().st_size, photo.shape)]


@pytest.mark.skipif(os.name != "posix", reason="file permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, photo: np.ndarray, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_image(tmp_path / "out.png", photo)
    finally:
        os.umask(before)
    assert (tmp_path / "out.png").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_missing_folder_and_an_unknown_ending_are_refused(tmp_path: Path, photo: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"there is no folder '.*nowhere'"):
        write_image(tmp_path / "nowhere" / "out.png", photo)
    with pytest.raises(UnknownNameError, match=r"known: \.avif, \.bmp.*\.webp"):
        write_image(tmp_path / "out.xyzzy", photo)
    with pytest.raises(ValueError, match=r"did you mean '.png'"):
        write_image(tmp_path / "out.pngg", photo)
    assert list(tmp_path.iterdir()) == []


def test_exif_that_jpeg_cannot_hold_is_left_out_and_told(tmp_path: Path, photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010E] = "x" * 70_000
    for history in ("", "painted"):
        notes = write_image(tmp_path / "o.jpg", photo, exif=exif.tobytes(), history=history, overwrite=True)
        assert notes == ("EXIF data left out, JPEG can hold 64 KB of it",)
        assert read_history(tmp_path / "o.jpg") == ([history] if history else [])
    assert write_image(tmp_path / "o.png", photo, exif=exif.tobytes()) == ()


def test_avif_is_written_faster_than_pillow_would() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    started = time.process_time()
    encode_image(pixels, "avif")
    ours = time.process_time() - started
    to_pil(pixels).save(io.BytesIO(), "AVIF", quality=90, subsampling="4:4:4")
    assert 2 * ours < time.process_time() - started - ours


def test_quality(tmp_path: Path, photo: np.ndarray) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    for format, standard in (("jpg", 92), ("webp", 90), ("avif", 90)):
        sizes = [len(encode_image(noise, format, quality=quality)) for quality in (20, 60, standard)]
        assert sizes == sorted(set(sizes))
        assert encode_image(noise, format) == encode_image(noise, format, quality=standard)
    with Image.open(io.BytesIO(encode_image(noise, "JPEG"))) as jpeg:
        assert JpegImagePlugin.get_sampling(jpeg) == 0  # 4:4:4
    assert write_image(tmp_path / "out.png", photo, quality=50) == ("PNG has no quality setting",)
    for wrong in (0, 101, -5):
        with pytest.raises(ValueError, match=f"1 to 100, got {wrong}"):
            encode_image(photo, "jpg", quality=wrong)


def test_overwriting_keeps_links_and_permissions(tmp_path: Path, photo: np.ndarray) -> None:
    target, link = tmp_path / "private.png", tmp_path / "link.png"
    write_image(target, photo)
    target.chmod(0o600)
    link.symlink_to(target)
    write_image(link, 255 - photo, overwrite=True)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(read_image(target).pixels, 255 - photo)


def test_no_colour_profile_is_written_and_none_is_needed(photo: np.ndarray) -> None:
    for format in ("jpg", "png", "webp", "avif", "tiff"):
        with Image.open(io.BytesIO(encode_image(photo, format))) as picture:
            assert "icc_profile" not in picture.info
