"""Calm: a painting that does not flicker where the video does not move, and moves with it where it does.

Painted frame by frame, small changes of the content (noise, a shift by less than the network's stride) become large
changes of the strokes. Three things are done against it, all in proportion to one number, ``calm``:

* the content's statistics are averaged over time, so that colours do not pump (``Statistics``);
* sensor noise is averaged away where nothing moves, before painting (``MotionFinder``);
* each painted frame is blended with the one before, moved along the optical flow of the *input*, wherever the flow
  explains the input (``Blender``). Averaging blurs, so the strokes' contrast is brought back afterwards.

A new scene starts afresh.

Source: the flow is Kroeger et al. 2016, Fast optical flow using dense inverse search, arXiv 1603.03590. Warping the
last output follows Ruder et al. 2016, Artistic style transfer for videos, arXiv 1604.08610. Differs: occlusion is seen
from colours that do not agree instead of from a second flow, and the averaged strokes are sharpened again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.video import CALM as CALM
from restyle.video.statistics import Statistics as Statistics

Pixels = NDArray[np.uint8]

Planes = tuple[Pixels, ...]
"""Luma, (H, W), and both colour differences at half the size: as most videos store a picture, and half the work."""

Way = tuple[NDArray[np.float32], NDArray[np.float32]]
"""For a plane: columns and rows from each point to where it was, (H, W, 2), and how much of the last one is kept."""

FLOW_SIDE = 180
"""Short side, in pixels, at which motion is looked for: twice this costs three times as much and calms no better."""

FINEST_SCALE = 1
"""The search ends at half of that. Its preset ends at a quarter, and then half as much flicker again remains."""

SMALLEST_FLOW_SIDE = 64
"""Smaller frames are enlarged for it: in narrow ones OpenCV 5.0 crashes."""

TOLERANCE = 16.0
"""Difference of colours, of 255, at which the flow is trusted by a third: noise lies below, another object above."""

STANDING_PIXELS = 0.1
"""If half of the picture moves by less than this, in reduced pixels, the camera stands."""

WOBBLE_PIXELS = 1.0
"""Then motion below this is taken for none, if none explains the picture as well: it is the noise that moves."""

STILL_DIFFERENCE = 2
"""As well: the colours differ by no more than this, of 255, beyond what the flow leaves."""

FAST_PIXELS = 24.0
"""Motion of so many reduced pixels halves the trust: of what runs by, no eye sees flicker, but everyone sees smears."""

CUT_DIFFERENCE = 20
"""If half of the picture is farther than this, of 255, from the last one moved by the flow, a new scene begins."""

FINE_WINDOW, WIDE_WINDOW = 5, 7
"""Sides in pixels of the windows around which strokes are contrast; the wide one at half the size."""

PLACE = 16
"""Side in pixels of the places of which contrast is measured."""

CONTRAST = 1.05
"""So much of a painting's contrast is brought back: a mean of strokes has softer edges than each, and needs more."""

MOST_GAIN = 2.0
"""The lost contrast of strokes is brought back up to 1 + this."""

TRUSTED = 0.2, 0.6
"""Trust, of 1, up to which the last result is not used, and from which it is used in full: half of each is neither."""


def check_calm(calm: float) -> None:
    """Refuse a calm that is none.

    Raises:
        ValueError: it does not lie between 0 and 1.
    """
    if not 0 <= calm <= 1:
        raise ValueError(f"calm must lie between 0 and 1, got {calm}")


@dataclass(frozen=True)
class Motion:
    """How a frame goes on from the one before.

    Attributes:
        flow: (h, w, 2) float32 at reduced size: columns and rows, in reduced pixels, to where a point was before.
        trust: (h, w) uint8, how well that explains the picture; 255 = entirely.
    """

    flow: NDArray[np.float32]
    trust: Pixels


class MotionFinder:
    """Looks at the frames of a video one after the other, for one thread.

    Args:
        calm: 0..1, how much of the noise is averaged away where nothing moves.
    """

    def __init__(self, calm: float) -> None:
        self._calm = calm
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._search.setFinestScale(FINEST_SCALE)
        self._small: Pixels | None = None
        self._flow: NDArray[np.float32] | None = None
        self._content: Pixels | None = None

    def __call__(self, pixels: Pixels) -> tuple[Pixels, Motion | None]:
        """The frame with less noise, and how it goes on from the last one; None = a new scene, or the first frame."""
        before, small = self._small, _reduced(pixels)
        self._small = small
        if before is None or before.shape != small.shape:
            self._flow, self._content = None, pixels
            return pixels, None
        flow = self._search_from(self._flow, small, before)
        where = grid_of(small.shape[:2]) + flow
        left = _difference(cv2.remap(before, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), small)
        unmoved = _difference(before, small)
        length = cv2.magnitude(flow[..., 0], flow[..., 1])
        still = (length < WOBBLE_PIXELS) & (unmoved <= cv2.add(left, STILL_DIFFERENCE))
        standing = _in_half(length < STANDING_PIXELS)
        if standing:
            flow[still] = 0  # or standing strokes would tremble
            left = np.where(still, unmoved, left)
        trust = (cv2.LUT(left, _TRUST) / (1 + np.square(length / FAST_PIXELS))).astype(np.uint8)
        trust &= inside(grid_of(small.shape[:2]) + flow)
        if _in_half(left > CUT_DIFFERENCE):
            self._flow, self._content = None, pixels
            return pixels, None
        self._flow = flow
        if standing:
            small_share = np.where(still, trust, 0).astype(np.float32) * np.float32(self._calm / 255)
            share = _enlarged(small_share, pixels.shape[:2])
            pixels = cv2.blendLinear(self._content, pixels, share, 1 - share)
        self._content = pixels
        return pixels, Motion(flow, trust)

    def _search_from(self, guess: NDArray[np.float32] | None, now: Pixels, before: Pixels) -> NDArray[np.float32]:
        """The flow; the one before is a good first guess, though now and then the search runs away from it."""
        longest = max(now.shape)
        for start in (guess, None) if guess is not None else (None,):
            flow: NDArray[np.float32] = self._search.calc(
                to_grey(now), to_grey(before), None if start is None else start.copy()
            )
            if np.abs(flow).max() <= longest:  # not NaN either, with which the next search would crash
                return flow
        return np.zeros_like(flow)


class Blender:
    """Blends each painted frame with the last result, moved to where things are now. For one thread.

    Args:
        calm: 0..1; the share of the last result where the motion is known.
    """

    def __init__(self, calm: float) -> None:
        self._calm = calm
        self._last: Planes | None = None
        self._averaged = 0

    def __call__(self, painted: Pixels, motion: Motion | None) -> Pixels:
        """(H, W, 3) uint8 painted to the calm result of the same shape."""
        if not self._calm:
            return painted
        last, now = self._last, _planes(painted)
        if last is None or motion is None or last[0].shape != now[0].shape:
            self._last, self._averaged = now, 1
            return painted
        # Of the second frame one half, of the third one third: a scene does not turn soft all at once.
        calm = min(self._calm, self._averaged / (self._averaged + 1))
        self._averaged += 1
        full, half = (_way(motion, calm, plane.shape[:2]) for plane in now[:2])
        self._last = tuple(map(_calmed, last, now, (full, half, half)))
        return _joined(self._last)


_TRUST = (255 * np.exp(-np.square(np.arange(256) / TOLERANCE))).astype(np.uint8)


def _smooth_step(numbers: NDArray[np.float32], start: float, end: float) -> NDArray[np.float32]:
    """0 up to the start, 1 from the end, a smooth way between."""
    share: NDArray[np.float32] = np.clip((numbers - start) / (end - start), 0, 1)
    return share * share * (3 - 2 * share)


_SHARE = _smooth_step(np.linspace(0, 1, 256, dtype=np.float32), *TRUSTED)


def _planes(pixels: Pixels) -> Planes:
    _, *chroma = cv2.split(cv2.cvtColor(_halved(pixels), cv2.COLOR_RGB2YCrCb))
    return to_grey(pixels), *chroma


def _joined(planes: Planes) -> Pixels:
    luma, *chroma = planes
    large = (cv2.resize(plane, luma.shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in chroma)
    pixels: Pixels = cv2.cvtColor(cv2.merge([luma, *large]), cv2.COLOR_YCrCb2RGB)
    return pixels


def _way(motion: Motion, calm: float, size: tuple[int, int]) -> Way:
    flow = _enlarged(motion.flow * np.float32(size[0] / motion.flow.shape[0]), size)
    return flow, _enlarged(cv2.LUT(motion.trust, _SHARE) * np.float32(calm), size)


def _calmed(last: Pixels, painted: Pixels, way: Way) -> Pixels:
    """A plane blended with that of the last result, and its strokes as crisp as those painted."""
    flow, share = way
    moved = cv2.remap(last, flow, None, cv2.INTER_CUBIC | cv2.WARP_RELATIVE_MAP, borderMode=cv2.BORDER_REPLICATE)
    blended = cv2.blendLinear(moved, painted, share, 1 - share)
    return _with_strokes_of(painted, blended)


def _with_strokes_of(painted: Pixels, blended: Pixels) -> Pixels:
    """Bring back the contrast of strokes that averaging has taken, place by place: first of wide ones, then of fine."""
    wide, wide_blended = _halved(painted), _halved(blended)
    change = cv2.subtract(_with_contrast_of(wide, wide_blended, WIDE_WINDOW), wide_blended, dtype=cv2.CV_16S)
    change = cv2.resize(change, painted.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return _with_contrast_of(painted, cv2.add(blended, change, dtype=cv2.CV_8U), FINE_WINDOW)


def _with_contrast_of(painted: Pixels, blended: Pixels, window: int) -> Pixels:
    """Strengthen what is smaller than a window, to ``CONTRAST`` times what it has in ``painted``."""
    wanted, found = (_contrast(one, window) for one in (painted, blended))
    gain = _enlarged(np.clip((CONTRAST * wanted + 0.5) / (found + 0.5) - 1, 0, MOST_GAIN), painted.shape)
    result: Pixels = cv2.blendLinear(blended, cv2.blur(blended, (window, window)), 1 + gain, -gain)
    return result


def _contrast(plane: Pixels, window: int) -> NDArray[np.float32]:
    """About (H / 16, W / 16): how much the points of a place differ from their surroundings."""
    apart = _halved(_halved(cv2.absdiff(plane, cv2.blur(plane, (window, window)))))
    places = max(1, plane.shape[1] // PLACE), max(1, plane.shape[0] // PLACE)
    few: NDArray[np.float32] = cv2.resize(apart, places, interpolation=cv2.INTER_AREA).astype(np.float32)
    return few


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    short = min(height, width)
    share = max(SMALLEST_FLOW_SIDE / short, min(1.0, FLOW_SIDE / short))
    if short >= SMALLEST_FLOW_SIDE and share == 1:
        return pixels
    how = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    size = round(width * share), round(height * share)
    while share <= 0.5:  # a quarter of the time: halving is by far the fastest
        pixels, share = _halved(pixels), 2 * share
    small: Pixels = cv2.resize(pixels, size, interpolation=how)
    return small


def _halved(pixels: Pixels) -> Pixels:
    half = max(1, pixels.shape[1] // 2), max(1, pixels.shape[0] // 2)
    small: Pixels = cv2.resize(pixels, half, interpolation=cv2.INTER_AREA)
    return small


def inside(where: NDArray[np.float32]) -> Pixels:
    """(H, W) uint8: 255 for those of the points (column, row) that lie in the picture, 0 for the others."""
    height, width = where.shape[:2]
    found: Pixels = cv2.inRange(where, (0, 0), (width - 1, height - 1))
    return found


def to_grey(pixels: Pixels) -> Pixels:
    """(H, W, 3) RGB to (H, W)."""
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey


def _difference(one: Pixels, other: Pixels) -> Pixels:
    """(H, W) uint8: how far the colours are apart, over small places, so that noise counts little."""
    apart: Pixels = cv2.blur(to_grey(cv2.absdiff(one, other)), (3, 3))
    return apart


def _enlarged(small: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map at the (height, width) of a picture; always a new array."""
    if small.shape[:2] == size:
        return small.copy()
    large: NDArray[np.float32] = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    return large


def _in_half(places: NDArray[np.bool_]) -> bool:
    """Whether something is so in at least half of the picture."""
    return bool(2 * np.count_nonzero(places) >= places.size)


@lru_cache(maxsize=8)
def grid_of(size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W, 2) float32: column and row of each pixel; not to be changed."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    return np.dstack([columns, rows])
