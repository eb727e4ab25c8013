"""The styles a server knows: the gallery's by name, uploaded ones by the hash of what was uploaded."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from restyle import gallery
from restyle.errors import UnknownNameError
from restyle.image import encode_image, fit_short_side, read_image, resize
from restyle.serve.limits import Limits
from restyle.style import Style
from restyle.stylizer import STYLE_SIDE, Stylizer

THUMBNAIL_SIDE = 192
KEPT_GALLERY_STYLES = 100


class StyleStore:
    """Keeps styles as vectors of a few thousand numbers; the pictures themselves are not kept."""

    def __init__(self, stylizer: Stylizer, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stylizer, self._limits, self._clock = stylizer, limits, clock
        self._uploaded: OrderedDict[str, tuple[Style, float]] = OrderedDict()  # the style, when it was last used
        self._gallery: OrderedDict[tuple[str, int], Style] = OrderedDict()
        self._thumbnails: dict[str, bytes] = {}

    def __len__(self) -> int:
        self._forget()
        return len(self._uploaded)

    def encode(self, picture: bytes, size: int = STYLE_SIDE, crop: str | None = None) -> Style:
        """Read the style of an uploaded picture. Slow: for a thread.

        Raises:
            ImageError: it is no picture.
            LimitError: it is too large.
        """
        pixels = read_image(picture, limit_pixels=self._limits.max_pixels).pixels
        return self._stylizer.encode_style(pixels, size=size, crop=crop, cache=False)

    def keep(self, picture: bytes, size: int, crop: str | None, style: Style) -> str:
        """Keep the style of an uploaded picture and return its id."""
        digest = hashlib.sha256(f"{self._stylizer.card.identity} {size} {crop} ".encode() + picture).hexdigest()
        name = f"style-{digest[:32]}"
        self._uploaded[name] = (style, self._clock())
        self._uploaded.move_to_end(name)
        while len(self._uploaded) > self._limits.styles:
            self._uploaded.popitem(last=False)
        return name

    def find(self, name: str) -> Style | None:
        """The uploaded style of an id, or None where the id is a gallery style's name.

        Raises:
            UnknownNameError: there is no such style, or no longer.
        """
        self._forget()
        if name in self._uploaded:
            style, _ = self._uploaded.pop(name)
            self._uploaded[name] = (style, self._clock())
            return style
        known = [entry.name for entry in gallery.styles()]
        if name not in known:
            raise UnknownNameError("style (or no longer: uploaded ones expire)", name[:80], known)
        return None

    def encode_gallery(self, name: str, size: int = STYLE_SIDE) -> Style:
        """A gallery style. Slow at the first time: for a thread."""
        style = self._gallery.get((name, size))
        if style is None:
            style = self._stylizer.encode_style(gallery.entries()[name].path, size=size, cache=False)
            self._gallery[name, size] = style
            while len(self._gallery) > KEPT_GALLERY_STYLES:
                self._gallery.popitem(last=False)
        return style

    def thumbnail(self, name: str) -> bytes:
        """A gallery style's picture as a small JPEG file.

        Raises:
            UnknownNameError: there is no such style.
        """
        if name not in self._thumbnails:
            known = {entry.name: entry.path for entry in gallery.styles()}
            if name not in known:
                raise UnknownNameError("style", name[:80], known)
            self._thumbnails[name] = small_picture(known[name])
        return self._thumbnails[name]

    def _forget(self) -> None:
        """Drop what has not been used for long; the order of last use is the order of the store."""
        oldest = self._clock() - self._limits.style_s
        while self._uploaded and next(iter(self._uploaded.values()))[1] < oldest:
            self._uploaded.popitem(last=False)


def small_picture(path: Path) -> bytes:
    """A picture as a small JPEG file, for the page."""
    pixels = read_image(path).pixels
    return encode_image(resize(pixels, fit_short_side(pixels.shape[:2], THUMBNAIL_SIDE)), "jpg", quality=85)
