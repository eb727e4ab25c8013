"""Whatever colours a file holds (palette, CMYK, Lab, 16 bits, floating point, a profile), as 8 bits of sRGB."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin


def split_alpha(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """Any mode of Pillow's to L, RGB, CMYK or LAB, and the alpha channel where there is transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        return _narrow(image, notes)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        return image.convert("L" if image.mode == "LA" else "RGB"), image.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _narrow(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None]:
    """Grey values of 12, 16 or 32 bits to 8, by their full scale; ``convert`` would cut everything above 255 off."""
    values = np.asarray(image)
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags and tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 1:
        values = values.view(np.uint32)  # Pillow takes these unsigned numbers for signed ones
    if image.mode.startswith("I;16") or (image.format, image.mode) == ("PPM", "I"):
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        low, high = 0.0, 2.0**bits - 1
        notes.append(f"{bits} bits a channel reduced to 8")
    else:
        low, high = _guess_scale(values)
        notes.append(f"32-bit values from {low:g} to {high:g} reduced to 8 bits")
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:  # white is zero, which Pillow heeds up to 8 bits only
        low, high = high, low
    grey = np.nan_to_num(values.astype(np.float32), nan=low).clip(min(low, high), max(low, high))
    grey = (grey - low) * (255 / (high - low))
    alpha = None
    if isinstance(image.info.get("transparency"), int):
        alpha = Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
    return Image.fromarray((grey + 0.5).astype(np.uint8)), alpha


def _guess_scale(values: NDArray[Any]) -> tuple[float, float]:
    """The usual full scale that these 32-bit values seem to have been made for, else their own range."""
    finite = values[np.isfinite(values)]
    low, high = (min(0.0, float(finite.min())), float(finite.max())) if finite.size else (0.0, 1.0)
    for darkest, scale in ((0.0, 1.0), (16.0, 255.0), (4096.0, 65535.0)):
        if low == 0 and darkest <= high <= scale:
            return 0.0, scale
    return low, max(high, low + 1)


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """L, RGB, CMYK or LAB to RGB in sRGB, by the colour profile where there is a usable one."""
    if image.mode == "LAB":
        notes.append("converted from Lab")
        return _transform(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
                image = image.convert("RGB")
            if image.mode == "CMYK" or not _is_srgb(source, image.mode):
                converted = _transform(image, source)
                notes.append(f"converted from {_SPACES[image.mode]} with its colour profile")
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notes.append("unusable colour profile ignored")
    if image.mode == "CMYK":
        notes.append("converted from CMYK without a colour profile, colours are approximate")
    return image if image.mode == "RGB" else image.convert("RGB")


_SPACES = {"L": "grey", "RGB": "another RGB space", "CMYK": "CMYK"}


def _transform(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        image.mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,  # as browsers do: the darkest ink becomes black, not grey
    )
    return transform.apply(image)


def _is_srgb(profile: ImageCms.ImageCmsProfile, mode: str) -> bool:
    """Whether a profile moves no colour by more than 2 of 255; names do not tell, there are dozens of sRGBs."""
    lattice = (np.indices((16, 16, 16), dtype=np.uint8) * 17).reshape(3, 64, 64).transpose(1, 2, 0)
    probe = Image.fromarray(np.ascontiguousarray(lattice)).convert(mode)
    before, after = np.asarray(probe.convert("RGB"), np.int16), np.asarray(_transform(probe, profile), np.int16)
    return bool(np.abs(after - before).max() <= 2)
