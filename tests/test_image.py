"""Pictures come in upright, in sRGB and whole, or not at all; and go out whole, or not at all."""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin

from hostile import CYAN_LAB, DAMAGED, TOO_LARGE, icc_profile, make_hostile, png_16bit, png_bomb
from restyle.errors import ImageError, LimitError, ShapeError, UnknownNameError
from restyle.image import (
    Picture,
    encode_image,
    fit_short_side,
    read_history,
    read_image,
    read_size,
    resize,
    to_pil,
    to_pixels,
    write_image,
)
from restyle.image import reading as room

quick = settings(max_examples=25, deadline=None)
sides = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=19)
pictures = st.tuples(sides, st.sampled_from([3, 4])).flatmap(lambda shape: arrays(np.uint8, (*shape[0], shape[1])))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def photo() -> np.ndarray:
    """(30, 50, 3), smooth, and different in every corner."""
    row, column = np.mgrid[0:30, 0:50]
    return np.dstack([row * 8, column * 5, 255 - row * 4 - column * 2]).astype(np.uint8)


@pytest.fixture
def cutout(photo: np.ndarray) -> np.ndarray:
    """The photo with a left half that is transparent and a strip that is half transparent."""
    alpha = np.full((30, 50, 1), 255, np.uint8)
    alpha[:, :25], alpha[:, 25:30] = 0, 128
    return np.dstack([photo, alpha])


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def difference(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def tiff(values: np.ndarray, photometric: int = 1, sample_format: int = 1) -> bytes:
    """An uncompressed grey TIFF by hand: Pillow cannot write all that it reads."""
    height, width = values.shape
    bits, strip = values.dtype.itemsize * 8, values.astype(values.dtype.newbyteorder("<")).tobytes()
    strip += bytes(len(strip) % 2)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(strip)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


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


# --- what files hold --------------------------------------------------------------------------------------------------

# EXIF 2.3, tag Orientation: the side of the upright picture where the stored first row and first column lie.
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WebP", "JPEG", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(cutout: np.ndarray, orientation: int, format: str) -> None:
    upright = cutout[:, 20:] if format in ("PNG", "TIFF") else cutout[:, 20:, :3]
    rows, columns = ORIENTATIONS[orientation]
    stored = upright.transpose(1, 0, 2) if rows in ("left", "right") else upright
    stored = stored[::-1] if rows in ("bottom", "right") else stored
    stored = stored[:, ::-1] if columns in ("bottom", "right") else stored
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Maker"
    picture = read_image(saved(to_pil(stored), format, exif=exif, **({"lossless": True} if format == "WebP" else {})))
    assert difference(picture.pixels, upright) <= {"JPEG": 30, "AVIF": 30}.get(format, 0)
    assert picture.exif is not None
    exif.load(picture.exif)
    assert dict(exif) == {0x0112: 1, 0x010F: "Maker"}


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WebP", "AVIF", "GIF", "BMP", "PPM"])
def test_the_size_is_read_from_the_header_and_is_that_of_the_upright_picture(
    photo: np.ndarray, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for orientation in (None, 0, *ORIENTATIONS, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        known = orientation is not None and format not in ("GIF", "BMP", "PPM")
        file = saved(to_pil(photo), format, **({"exif": exif} if known else {}))
        upright = read_image(file).pixels.shape[:2]
        with monkeypatch.context() as patched:
            patched.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
            assert read_size(file) == upright


def test_the_size_of_what_is_no_picture_is_refused_as_its_pixels_are(hostile: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for path in (tmp_path / "text.jpg", tmp_path / "missing.png"):
        with pytest.raises(ImageError, match=f"cannot read .*{path.name}"):
            read_size(path)
    with pytest.raises(LimitError, match="the limit is 10"):
        read_size(hostile["rotated_exif"], limit_pixels=10)
    assert read_size(hostile["truncated_jpeg"])
    assert read_size(saved(Image.new("RGB", (5, 3)), "PNG", exif=b"Exif\0\0MM\0*nonsense")) == (3, 5)


def test_exif_keeps_what_was_written_and_drops_what_is_stale(tmp_path: Path, photo: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x8298], exif[0x0100] = "Maker", "Nobody 2024", 9999  # camera, copyright, image width
    exif[0x8769] = {0x9003: "2024:05:06 07:08:09", 0xA001: 65535, 0xA002: 9999, 0x927C: b"maker's notes" * 50}
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 15.0)}
    whole = bytearray(exif.tobytes())  # with a thumbnail: a second directory behind the first
    directory = 6 + 8
    following = directory + 2 + 12 * int.from_bytes(whole[directory : directory + 2], "big")
    whole[following : following + 4] = (len(whole) - 6).to_bytes(4, "big")
    whole += struct.pack(">HHHIIHHIII", 2, 0x0201, 4, 1, len(whole) + 30 - 6, 0x0202, 4, 1, 20_000, 0) + b"T" * 20_000
    kept = read_image(saved(to_pil(photo), "JPEG", exif=bytes(whole))).exif
    assert kept is not None
    assert len(kept) < 1000
    for suffix in (".jpg", ".png", ".webp", ".avif", ".tif"):
        assert write_image(tmp_path / f"out{suffix}", photo, exif=kept) == ()
        again = Image.Exif()
        again.load(read_image(tmp_path / f"out{suffix}").exif or b"")
        assert {tag: again[tag] for tag in again if tag < 0x8769 or tag == 0x8298} == {
            0x010F: "Maker", 0x8298: "Nobody 2024", 0x0112: 1
        }, suffix  # fmt: skip
        assert again.get_ifd(0x8769) == {0x9003: "2024:05:06 07:08:09"}, suffix
        assert again.get_ifd(0x8825) == {1: "N", 2: (48.0, 8.0, 15.0)}, suffix
    assert write_image(tmp_path / "out.gif", photo, exif=kept)[0] == "GIF cannot hold EXIF data"


HISTORICAL = (".jpg", ".png", ".webp", ".avif", ".tif")


@pytest.mark.parametrize("suffix", HISTORICAL)
def test_how_a_picture_was_made_is_read_back(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x8769] = "My caption", {0x9286: b"ASCII\0\0\0mine"}
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    assert write_image(first, photo, exif=exif.tobytes(), history="painted once") == ()
    assert read_history(first) == ["painted once"]
    # What was done before is kept, and what the photographer wrote stays; other signs than ASCII are spelt out.
    assert write_image(second, photo, exif=read_image(first).exif, history="then in 'søster'") == ()
    assert read_history(second) == ["painted once", r"then in 's\xf8ster'"]
    with Image.open(second) as picture:
        kept = picture.getexif()
        assert (kept[0x010E], kept[0x0131]) == ("My caption", "restyle")
        assert kept.get_ifd(0x8769)[0x9286] == b"ASCII\0\0\0mine"


def test_a_history_alone_costs_little_and_where_there_is_no_place_nothing(photo: np.ndarray, tmp_path: Path) -> None:
    large = np.repeat(np.repeat(photo, 8, 0), 8, 1)
    assert len(encode_image(large, "tiff", history="painted")) < len(encode_image(large, "tiff")) + 300  # compressed
    for suffix in (".gif", ".bmp", ".ppm"):
        notes = write_image(tmp_path / f"out{suffix}", photo, history="painted")
        assert not any("EXIF" in note for note in notes)
        assert read_history(tmp_path / f"out{suffix}") == []
    assert read_history(saved(to_pil(photo), "PNG", exif=b"Exif\0\0MM\0*nonsense")) == []
    with pytest.raises(ImageError, match="known format"):
        read_history(b"no picture")


def test_broken_exif_does_not_spoil_the_picture(photo: np.ndarray) -> None:
    picture = read_image(saved(to_pil(photo), "PNG", exif=b"Exif\0\0MM\0*nonsense"))
    np.testing.assert_array_equal(picture.pixels, photo)
    assert picture.exif is None
    assert picture.notes == ("broken EXIF data left out",)


def eighths(values: np.ndarray, full: float) -> np.ndarray:
    """The 8-bit values that ``values`` out of ``full`` should become."""
    grey = (values.astype(float) * 255 / full).round()
    return np.repeat(grey[:, :, None], 3, axis=2) if values.ndim == 2 else grey


def test_16_bits_are_scaled_and_not_cut_off(hostile: dict[str, Path]) -> None:
    ramp = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)
    colours = np.dstack([ramp, ramp.T, ramp[::-1]])
    for source, values in [
        (hostile["png_16bit"], ramp),
        (hostile["png_16bit_rgb"], colours),
        (saved(Image.fromarray(ramp), "TIFF"), ramp),
        (saved(Image.fromarray(ramp), "TIFF", compression="tiff_lzw"), ramp),
        (b"P5 64 64 65535 " + ramp.astype(">u2").tobytes(), ramp),
        (b"P6 64 64 65535 " + colours.astype(">u2").tobytes(), colours),
        (tiff(65535 - ramp, photometric=0), ramp),  # white is zero
    ]:
        picture = read_image(source)
        assert difference(picture.pixels, eighths(values, 65535)) <= 1
        assert picture.notes == ("16 bits a channel reduced to 8",)


def test_a_dark_16_bit_picture_stays_dark() -> None:
    dark = np.full((4, 4, 1), 200, np.uint16)
    assert read_image(png_16bit(dark)).pixels.max() == 1
    assert read_image(b"P5 4 4 65535 " + dark.astype(">u2").tobytes()).pixels.max() == 1


@pytest.mark.parametrize(
    ("values", "full", "said"),
    [
        (np.float32([[0, 0.25, 1]]), 1, "0 to 1"),
        (np.float32([[0, 0.01, 0.02]]), 1, "0 to 1"),
        (np.float32([[0, 100, 200]]), 255, "0 to 255"),
        (np.float32([[0, 30000, 60000]]), 65535, "0 to 65535"),
        (np.int32([[0, 300, 65535]]), 65535, "0 to 65535"),
    ],
)
def test_32_bit_values_are_scaled_by_the_usual_full_scale(values: np.ndarray, full: float, said: str) -> None:
    picture = read_image(saved(Image.fromarray(values), "TIFF"))
    assert difference(picture.pixels, eighths(values, full)) <= 1
    assert picture.notes == (f"32-bit values from {said} reduced to 8 bits",)


def test_32_bit_values_of_no_usual_scale_are_stretched() -> None:
    heights = np.float32([[-500, np.nan, 0, 500, 1500, np.inf]])
    assert read_image(tiff(heights, sample_format=3)).pixels[0, :, 0].tolist() == [0, 0, 64, 128, 255, 255]
    assert read_image(tiff(np.float32([[0.51, 1.02]]), sample_format=3)).pixels[0, :, 0].tolist() == [128, 255]
    counts = np.uint32([[0, 2**31, 2**32 - 1]])  # Pillow takes the large ones for negative numbers
    assert read_image(tiff(counts)).pixels[0, :, 0].tolist() == [0, 128, 255]
    for lost in (np.nan, np.inf, -7e9):
        assert read_image(tiff(np.float32([[lost, lost]]), sample_format=3)).pixels.shape == (1, 2, 3)


def test_cmyk_goes_through_its_profile(hostile: dict[str, Path]) -> None:
    picture = read_image(hostile["cmyk_jpeg_with_profile"])
    assert picture.notes == ("converted from CMYK with its colour profile",)
    assert difference(picture.pixels, np.broadcast_to(lab_to_srgb(CYAN_LAB), picture.pixels.shape)) <= 4


def lab_to_srgb(lab: tuple[float, float, float]) -> np.ndarray:
    """CIE 15 and IEC 61966-2-1, with the Bradford-adapted matrix from D50."""
    y = (lab[0] + 16) / 116
    cube = np.array([y + lab[1] / 500, y, y - lab[2] / 200])
    xyz = np.where(cube > 6 / 29, cube**3, (cube - 4 / 29) * 3 * (6 / 29) ** 2) * [0.9642, 1, 0.8249]
    linear = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]] @ xyz
    linear = linear.clip(0, 1)
    return 255 * np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_cmyk_without_a_profile_is_said_to_be_approximate() -> None:
    row = bytes([0, 0, 0, 0] * 16 + [255, 0, 0, 0] * 16 + [0, 0, 0, 255] * 16)
    inks = Image.frombytes("CMYK", (48, 16), row * 16)
    for encoded in (saved(inks, "JPEG", quality=95, subsampling=0), saved(inks, "TIFF")):
        picture = read_image(encoded)
        assert picture.notes == ("converted from CMYK without a colour profile, colours are approximate",)
        assert difference(picture.pixels[0, 8::16], np.array([[255] * 3, [0, 255, 255], [0] * 3])) <= 3


def test_profile_of_another_rgb_space_is_applied(photo: np.ndarray, cutout: np.ndarray) -> None:
    # sRGB with red and green exchanged: no profile could be easier to check.
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = [swapped.index(name, 128) for name in (b"rXYZ", b"gXYZ")]
    swapped[at[0] : at[0] + 4], swapped[at[1] : at[1] + 4] = b"gXYZ", b"rXYZ"
    few = np.asarray(to_pil(photo).quantize(50).convert("RGB"))
    palette = read_image(saved(to_pil(photo).quantize(50), "PNG", icc_profile=bytes(swapped)))
    assert difference(palette.pixels, few[:, :, [1, 0, 2]]) <= 2
    for pixels, format in ((photo, "PNG"), (cutout, "PNG"), (photo, "TIFF")):
        picture = read_image(saved(to_pil(pixels), format, icc_profile=bytes(swapped)))
        assert picture.notes == ("converted from another RGB space with its colour profile",)
        assert difference(picture.pixels[:, :, :3], pixels[:, :, [1, 0, 2]]) <= 2
        np.testing.assert_array_equal(picture.pixels[:, :, 3:], pixels[:, :, 3:])


def test_profile_of_a_grey_space_is_applied() -> None:
    linear = icc_profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": b"curv\0\0\0\0" + bytes(4)})
    for mode, values in (("L", 128), ("LA", (128, 7))):
        picture = read_image(saved(Image.new(mode, (2, 2), values), "PNG", icc_profile=linear))
        assert picture.notes == ("converted from grey with its colour profile",)
        assert abs(int(picture.pixels[0, 0, 0]) - 188) <= 1  # half the light is 188 of 255 in sRGB
        assert picture.pixels[0, 0, 3:].tolist() == [7] * (mode == "LA")


def test_srgb_and_unusable_profiles_change_nothing(photo: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    rounded = bytearray(srgb)  # sRGB of another maker, whose red is a little off
    red = int.from_bytes(srgb[srgb.index(b"rXYZ", 128) + 4 :][:4], "big") + 8
    rounded[red : red + 4] = (int.from_bytes(srgb[red : red + 4], "big") + 20).to_bytes(4, "big")
    grey = icc_profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": b"curv\0\0\0\0" + bytes(4)})
    unusable = ("unusable colour profile ignored",)
    for profile, notes in ((srgb, ()), (bytes(rounded), ()), (b"garbage", unusable), (grey, unusable)):
        picture = read_image(saved(to_pil(photo), "PNG", icc_profile=profile))
        np.testing.assert_array_equal(picture.pixels, photo)
        assert picture.notes == notes
    picture = read_image(saved(to_pil(photo).convert("L"), "PNG", icc_profile=srgb))
    np.testing.assert_array_equal(picture.pixels[:, :, 0], np.asarray(to_pil(photo).convert("L")))
    assert picture.notes == ()


def test_lab_tiff_is_converted(photo: np.ndarray) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    pastel = (photo // 4 + 120).astype(np.uint8)
    picture = read_image(saved(ImageCms.profileToProfile(to_pil(pastel), srgb, lab, outputMode="LAB"), "TIFF"))
    assert difference(picture.pixels, pastel) <= 4
    assert picture.notes == ("converted from Lab",)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "HSV", "CMYK"]
)
def test_black_and_white_survive_every_mode(mode: str) -> None:
    grey = Image.fromarray(np.uint8([[0, 255]]))
    between = {"La": "LA", "RGBa": "RGBA", "HSV": "RGB", "YCbCr": "RGB", "PA": "P"}.get(mode, mode)
    pixels = to_pixels(grey.convert(between).convert(mode))
    assert pixels.tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_transparency_of_palette_grey_and_key_colour(hostile: dict[str, Path]) -> None:
    pixels = read_image(hostile["palette_with_transparency"]).pixels
    assert pixels[:10, :, 3].max() == 0
    assert set(np.unique(pixels[10:, :, 3])) == {0, 128, 255}
    pixels = read_image(hostile["grey_alpha"]).pixels
    np.testing.assert_array_equal(pixels[:, :, 0], pixels[:, :, 2])
    assert pixels[0, 0, 3] < 5 < 250 < pixels[-1, 0, 3]
    for mode, colour, key in (("1", 1, 255), ("L", 9, 9), ("RGB", (1, 2, 3), (1, 2, 3)), ("I;16", 999, 999)):
        picture = Image.new(mode, (2, 1), 0)
        picture.putpixel((1, 0), colour)
        alpha = read_image(saved(picture, "PNG", transparency=key)).pixels[0, :, 3]
        assert alpha.tolist() == [255, 0], mode


def test_of_many_frames_the_first_is_taken(hostile: dict[str, Path], photo: np.ndarray) -> None:
    picture = read_image(hostile["animated_gif"])
    assert picture.notes == ("first of 12 frames",)
    assert picture.pixels[0, 0].tolist() == [0, 0, 255]
    pages = saved(to_pil(photo), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert read_image(pages).notes == ("first of 2 frames",)
    np.testing.assert_array_equal(read_image(pages).pixels, photo)
    preview = saved(to_pil(photo), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    assert read_image(preview).notes == ()  # the further frames of a camera's JPEG are no frames to anyone


@pytest.mark.parametrize(
    ("name", "shape"),
    [("one_pixel", (1, 1, 3)), ("very_wide", (10, 20_000, 3)), ("rotated_exif", (64, 48, 3))],
)
def test_odd_but_valid_files(hostile: dict[str, Path], name: str, shape: tuple[int, ...]) -> None:
    assert read_image(hostile[name]).pixels.shape == shape


def test_heif(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        read_image(b"\0\0\0\x1cftypheic" + bytes(99))
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(to_pil(photo)).save(stream, quality=95)
    assert difference(read_image(stream.getvalue()).pixels, photo) <= 16
    assert "HEIF" not in Image.OPEN


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


def test_nothing_is_left_behind_when_writing_fails(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ImageError, match="1 high and 70000 wide as JPEG"):
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
