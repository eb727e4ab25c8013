"""What picture files hold comes in upright, in sRGB and whole."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from hostile import CYAN_LAB, icc_profile, png_16bit
from pictures import difference, photograph, saved
from restyle.errors import ImageError, LimitError
from restyle.image import encode_image, read_history, read_image, read_size, to_pil, to_pixels, write_image


@pytest.fixture
def photo() -> np.ndarray:
    return photograph()


def tiff(values: np.ndarray, photometric: int = 1, sample_format: int = 1) -> bytes:
    """An uncompressed grey TIFF by hand: Pillow cannot write all that it reads."""
    height, width = values.shape
    bits, strip = values.dtype.itemsize * 8, values.astype(values.dtype.newbyteorder("<")).tobytes()
    strip += bytes(len(strip) % 2)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(strip)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


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


@pytest.mark.parametrize("format", ["jpg", "png", "webp", "avif", "tif"])
def test_text_that_is_not_ascii_stays_as_it_is(photo: np.ndarray, format: str) -> None:
    name, exif = "Jörg Åå 写真".encode(), Image.Exif()
    exif[0x013B], exif[0x8298] = name, b"\xa9 Latin-1"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + name
    kept = read_image(saved(Image.fromarray(photo), "JPEG", exif=exif)).exif
    for history in ("", "painted"):
        written = read_image(encode_image(photo, format, exif=kept, history=history)).exif or b""
        assert written.count(name) == 2 and written.count(b"\xa9 Latin-1") == 1


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


def test_a_16_bit_key_colour_that_cannot_be_heeded_is_told() -> None:
    file = png_16bit(np.full((2, 2, 3), 0x1234))
    key = b"tRNS" + struct.pack(">3H", 0x1234, 0x1234, 0x1234)
    place = file.index(b"IDAT") - 4
    file = file[:place] + struct.pack(">I", 6) + key + struct.pack(">I", zlib.crc32(key)) + file[place:]
    assert "its transparent colour is one of 16 bits a channel and stays visible" in read_image(file).notes


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("behind", [True, False])
def test_long_text_in_a_png_does_not_matter(photo: np.ndarray, compressed: bool, behind: bool) -> None:
    text = PngImagePlugin.PngInfo()
    if compressed:
        text.add_text("prompt", "x" * 2_000_000, zip=True)
        text.add_itxt("workflow", "y" * 2_000_000, zip=True)
    else:
        for _ in range(7):
            text.add_text("note", "z" * 10_000_000)
    file = saved(Image.fromarray(photo), "PNG", pnginfo=text, exif=b"Exif\0\0MM\0*" + bytes(8))
    if behind:
        pixels, end = file.index(b"IDAT") - 4, file.index(b"IEND") - 4
        first = 33  # signature and IHDR
        file = file[:first] + file[pixels:end] + file[first:pixels] + file[end:]
    np.testing.assert_array_equal(read_image(file).pixels, photo)
    assert read_size(file) == photo.shape[:2]


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
