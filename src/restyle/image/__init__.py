"""Pictures as arrays: read, write, upright, alpha, colour profile, resize.

A picture is (H, W, 3) uint8 RGB or (H, W, 4) uint8 RGBA with straight alpha, always in sRGB; sizes are (height, width).
Whatever a file holds (rotated, palette, CMYK, 16 bits, floating point, a colour profile) is brought into this one form,
and every change that may matter is told in a note. This is the only room that knows Pillow.
"""

from restyle.image.arrays import blur, fit_short_side, lay_on_white, resize, to_pil, to_pixels
from restyle.image.reading import LIMIT_PIXELS, LIMIT_SIDE, Picture, Pixels, read_history, read_image, read_size
from restyle.image.writing import (
    ANIMATED,
    READABLE,
    WRITABLE,
    check_size,
    check_writable,
    encode_image,
    publish,
    write_animation,
    write_image,
)

__all__ = [
    "ANIMATED",
    "LIMIT_PIXELS",
    "LIMIT_SIDE",
    "READABLE",
    "WRITABLE",
    "Picture",
    "Pixels",
    "blur",
    "check_size",
    "check_writable",
    "encode_image",
    "fit_short_side",
    "lay_on_white",
    "publish",
    "read_history",
    "read_image",
    "read_size",
    "resize",
    "to_pil",
    "to_pixels",
    "write_animation",
    "write_image",
]
