"""Awkward and harmful files, made anew for each run so that nothing binary is kept in the repository.

``make_hostile(folder)`` writes them all. Those in ``DAMAGED`` and ``TOO_LARGE`` must be refused in one clear sentence;
all others are valid pictures that careless programs get wrong.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

DAMAGED = ("empty", "truncated_jpeg", "text_as_jpg", "directory_as_jpg")
"""No picture at all, or only part of one (``ImageError``)."""

TOO_LARGE = ("png_bomb",)
"""Refused for its size before it is decoded (``LimitError``)."""

CYAN_LAB = (55.0, -37.0, -50.0)
"""What full cyan ink looks like according to the profile in ``cmyk_jpeg_with_profile``; about (0, 151, 218) in sRGB."""


def make_hostile(folder: Path) -> dict[str, Path]:
    """Write all hostile files into an existing folder and return their paths by name."""
    photo = _photo()
    paths = {
        "empty": _file(folder / "empty.jpg", b""),
        "text_as_jpg": _file(folder / "text_as.jpg", b"This is a shopping list: milk, bread, ultramarine.\n"),
        "png_bomb": _file(folder / "bomb.png", png_bomb(30_000, 30_000)),
        "png_16bit": _file(folder / "grey_16bit.png", png_16bit(_ramp_16bit()[:, :, :1])),
        "png_16bit_rgb": _file(folder / "rgb_16bit.png", png_16bit(_ramp_16bit())),
        "truncated_jpeg": folder / "truncated.jpg",
        "directory_as_jpg": folder / "directory_as.jpg",
        "one_pixel": folder / "one_pixel.png",
        "very_wide": folder / "very_wide.png",
        "constant_colour": folder / "constant.png",
        "animated_gif": folder / "animated.gif",
        "cmyk_jpeg_with_profile": folder / "cmyk.jpg",
        "palette_with_transparency": folder / "palette.png",
        "rotated_exif": folder / "rotated.jpg",
        "grey_alpha": folder / "grey_alpha.png",
    }
    photo.resize((256, 192)).effect_spread(8).save(paths["truncated_jpeg"], quality=90)
    whole = paths["truncated_jpeg"].read_bytes()
    paths["truncated_jpeg"].write_bytes(whole[: len(whole) // 2])  # careless readers return a lower half of grey
    paths["directory_as_jpg"].mkdir()
    Image.new("RGB", (1, 1), (200, 100, 50)).save(paths["one_pixel"])
    photo.resize((20_000, 10)).save(paths["very_wide"], compress_level=1)
    Image.new("RGB", (64, 48), (90, 90, 90)).save(paths["constant_colour"])  # no deviation: nothing to divide by
    frames = [Image.new("RGB", (32, 24), (20 * number, 0, 255 - 20 * number)) for number in range(12)]
    frames[0].save(paths["animated_gif"], save_all=True, append_images=frames[1:], duration=40)
    Image.new("CMYK", (64, 48), (255, 0, 0, 0)).save(paths["cmyk_jpeg_with_profile"], icc_profile=cmyk_profile())
    palette = photo.quantize(16)
    palette.paste(3, (0, 0, 64, 10))
    palette.save(paths["palette_with_transparency"], transparency=bytes([255, 255, 255, 0, 128]))
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: stored lying on its left side, so that the upright picture is 64 high and 48 wide
    photo.save(paths["rotated_exif"], exif=exif)
    alpha = Image.linear_gradient("L").resize(photo.size)
    Image.merge("LA", (photo.convert("L"), alpha)).save(paths["grey_alpha"])
    return paths


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _photo() -> Image.Image:
    """48 high and 64 wide, smooth, and with a different colour in each corner."""
    row, column = np.mgrid[0:48, 0:64]
    return Image.fromarray(np.dstack([row * 5, column * 4, 255 - row * 2 - column * 2]).astype(np.uint8))


def _ramp_16bit() -> np.ndarray:
    """(64, 64, 3) uint16: 4096 values from 0 to 65535, the channels in three different orders."""
    ramp = np.linspace(0, 65535, 4096).round().astype(np.uint16).reshape(64, 64)
    return np.dstack([ramp, ramp.T, ramp[::-1]])


def png_16bit(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, (H, W, 1) grey or (H, W, 3) RGB; Pillow cannot write the latter."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return _png(width, height, 16, {1: 0, 3: 2}[channels], zlib.compress(rows))


def png_bomb(height: int, width: int) -> bytes:
    """A valid black PNG of 1 bit a pixel: 30000 x 30000 take 0.1 MB on disk, 2.7 GB as RGB."""
    rows = bytes(1 + (width + 7) // 8) * 100
    packer = zlib.compressobj()
    return _png(width, height, 1, 0, b"".join(packer.compress(rows) for _ in range(height // 100)) + packer.flush())


def _png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def cmyk_profile() -> bytes:
    """A small valid ICC profile for CMYK printing (ICC.1:2001-04): one table from 2 x 2 x 2 x 2 ink mixtures to Lab.

    Its inks are duller than a screen's colours, so a picture converted with it differs clearly from plain arithmetic.
    """
    inks = {"cyan": CYAN_LAB, "magenta": (48.0, 74.0, -3.0), "yellow": (89.0, -5.0, 93.0), "black": (16.0, 0.0, 0.0)}
    mixtures = bytearray()
    for mixture in np.ndindex(2, 2, 2, 2):  # the last ink changes fastest
        used = [lab for lab, on in zip(inks.values(), mixture, strict=True) if on]
        lightness = 100 * np.prod([lab[0] / 100 for lab in used])
        a, b = (sum(lab[axis] for lab in used) / max(1, len(used)) for axis in (1, 2))
        mixtures += bytes([round(lightness * 2.55), round(a) + 128, round(b) + 128])
    straight = bytes(range(256))
    identity = b"".join(struct.pack(">i", 65536 if row == column else 0) for row in range(3) for column in range(3))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + straight * 4 + bytes(mixtures) + straight * 3
    return icc_profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})


def icc_profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """An ICC profile (version 2.4) of these tags and the three that every profile needs."""
    tags = tags | {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + _D50,
    }
    directory, body = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        body += bytes(-len(body) % 4)
        directory += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(content))
        body += content
    size = 128 + len(directory) + len(body)
    header = struct.pack(">I4xI4s4s4s12x4s", size, 0x02400000, kind, space, connection, b"acsp")
    return (header + bytes(28) + _D50).ljust(128, b"\0") + directory + body


_D50 = struct.pack(">iii", 63190, 65536, 54061)  # the white point of all profiles, in 65536ths
