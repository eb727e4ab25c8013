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
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.errors import ShapeError

Pixels = NDArray[np.uint8]

CALM = 0.85
"""The calm that is taken unless asked otherwise."""

FLOW_SIDE = 360
"""Short side, in pixels, at which motion is looked for."""

SMALLEST_FLOW_SIDE = 64
"""Smaller frames are enlarged for it: in narrow ones OpenCV 5.0 crashes."""

TOLERANCE = 16.0
"""Difference of colours, of 255, at which the flow is trusted by a third: noise lies below, another object above."""

STANDING_PIXELS = 0.1
"""If half of the picture moves by less than this, in reduced pixels, the camera stands."""

WOBBLE_PIXELS = 2.0
"""Then motion below this is taken for none, if none explains the picture as well: it is the noise that moves."""

STILL_DIFFERENCE = 2
"""As well: the colours differ by no more than this, of 255, beyond what the flow leaves."""

FAST_PIXELS = 24.0
"""Motion of so many reduced pixels halves the trust: of what runs by, no eye sees flicker, but everyone sees smears."""

CUT_DIFFERENCE = 20
"""If half of the picture is farther than this, of 255, from the last one moved by the flow, a new scene begins."""

STROKE_WINDOW = 5
"""Side in pixels of the window around which strokes are contrast."""

MOST_GAIN = 2.0
"""The lost contrast of strokes is brought back up to 1 + this."""


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
        where = _grid(small) + flow
        left = _difference(cv2.remap(before, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), small)
        unmoved = _difference(before, small)
        length = cv2.magnitude(flow[..., 0], flow[..., 1])
        still = (length < WOBBLE_PIXELS) & (unmoved <= cv2.add(left, STILL_DIFFERENCE))
        standing = bool(np.median(length) < STANDING_PIXELS)
        if standing:
            flow[still] = 0  # or standing strokes would tremble
            left = np.where(still, unmoved, left)
        trust = (cv2.LUT(left, _TRUST) / (1 + np.square(length / FAST_PIXELS))).astype(np.uint8)
        trust[~_inside(where)] = 0
        if np.median(left) > CUT_DIFFERENCE:
            self._flow, self._content = None, pixels
            return pixels, None
        self._flow = flow
        if standing:
            share = _enlarged(np.where(still, trust, 0).astype(np.float32) * np.float32(self._calm / 255), pixels)
            pixels = cv2.blendLinear(self._content, pixels, share, 1 - share)
        self._content = pixels
        return pixels, Motion(flow, trust)

    def _search_from(self, guess: NDArray[np.float32] | None, now: Pixels, before: Pixels) -> NDArray[np.float32]:
        """The flow; the one before is a good first guess, though now and then the search runs away from it."""
        longest = max(now.shape)
        for start in (guess, None) if guess is not None else (None,):
            flow: NDArray[np.float32] = self._search.calc(
                _grey(now), _grey(before), None if start is None else start.copy()
            )
            if np.abs(flow).max() <= longest:  # not NaN either, with which the next search would crash
                return flow
        return np.zeros_like(flow)


class Statistics:
    """The content statistics of the frames before, averaged over time.

    Args:
        calm: 0..1; the share of what was before in the average.
    """

    def __init__(self, calm: float) -> None:
        self._share = np.float32(calm)
        self._mean: NDArray[np.float32] | None = None

    @property
    def mean(self) -> NDArray[np.float32] | None:
        """(2S,) float32; None before the first frame of a scene."""
        return self._mean

    def restart(self) -> None:
        """Forget what was: a new scene begins."""
        self._mean = None

    def add(self, own: NDArray[np.float32]) -> None:
        """Take in the (2S,) statistics of a frame."""
        self._mean = own if self._mean is None else self._share * self._mean + (1 - self._share) * own


class Blender:
    """Blends each painted frame with the last result, moved to where things are now. For one thread.

    Args:
        calm: 0..1; the share of the last result where the motion is known.
    """

    def __init__(self, calm: float) -> None:
        self._calm = calm
        self._last: Pixels | None = None

    def __call__(self, painted: Pixels, motion: Motion | None) -> Pixels:
        """(H, W, 3) uint8 painted to the calm result of the same shape."""
        if self._last is None or motion is None or self._last.shape != painted.shape:
            self._last = painted
            return painted
        flow = _enlarged(motion.flow, painted)
        flow *= np.float32(painted.shape[0] / motion.flow.shape[0])
        flow += _grid(painted)
        moved = cv2.remap(self._last, flow, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        share = _enlarged(motion.trust.astype(np.float32) * np.float32(self._calm / 255), painted)
        blended: Any = cv2.blendLinear(moved, painted, share, 1 - share)
        self._last = _with_colours_of(painted, _with_strokes_of(painted, blended))
        return self._last


class FlickerMeter:
    """Measures flicker: how much two frames differ where they show the same thing.

    Motion and occlusion are found in the input with a slower flow than ``MotionFinder``'s and a check forwards and
    backwards. Sharp pictures differ a little even if they only move, because no flow is exact; so the same figure of
    the input is measured as well.

    Source:
        Lai et al. 2018, Learning blind video temporal consistency, arXiv 1808.00449. Differs: the root is taken.
    """

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self._last: tuple[Pixels, Pixels] | None = None
        self._errors: list[tuple[float, float]] = []

    def add(self, content: Pixels, painted: Pixels) -> None:
        """Take in the next frame of the input and of the output, (H, W, 3) uint8 both.

        Raises:
            ShapeError: they differ in size.
        """
        if content.shape != painted.shape:
            raise ShapeError(f"the frames must be of one size, got {content.shape} and {painted.shape}")
        if self._last is not None:
            before, painted_before = self._last
            where, visible = self._follow(before, content)
            if visible.any():
                self._errors.append(
                    (_error(before, content, where, visible), _error(painted_before, painted, where, visible))
                )
        self._last = content, painted

    @property
    def input(self) -> float:
        """Warp error of the input, of 255: root mean square in each pair of frames, mean over the pairs."""
        return float(np.mean([one for one, _ in self._errors])) if self._errors else 0.0

    @property
    def output(self) -> float:
        """The same of the output."""
        return float(np.mean([one for _, one in self._errors])) if self._errors else 0.0

    def _follow(self, before: Pixels, now: Pixels) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        back: Any = self._search.calc(_grey(now), _grey(before), None)
        forth: Any = self._search.calc(_grey(before), _grey(now), None)
        where = _grid(now) + back
        returned = cv2.remap(forth, where, None, cv2.INTER_LINEAR)
        apart = np.square(back + returned).sum(2)
        length = np.square(back).sum(2) + np.square(returned).sum(2)
        return where, (apart < 0.01 * length + 0.5) & _inside(where)


_TRUST = (255 * np.exp(-np.square(np.arange(256) / TOLERANCE))).astype(np.uint8)


def _with_strokes_of(painted: Pixels, blended: Pixels) -> Pixels:
    """Bring back the contrast of strokes that averaging has taken, place by place."""
    height, width = painted.shape[:2]
    smooth = cv2.blur(blended, (STROKE_WINDOW, STROKE_WINDOW))
    wanted, found = (
        cv2.resize(cv2.absdiff(one, around), (max(1, width // 16), max(1, height // 16)), interpolation=cv2.INTER_AREA)
        for one, around in ((painted, cv2.blur(painted, (STROKE_WINDOW, STROKE_WINDOW))), (blended, smooth))
    )
    gain = (wanted.mean(2, dtype=np.float32) + 0.5) / (found.mean(2, dtype=np.float32) + 0.5) - 1
    share = _enlarged(np.clip(gain / MOST_GAIN, 0, 1).astype(np.float32), painted)
    sharp = cv2.addWeighted(blended, 1 + MOST_GAIN, smooth, -MOST_GAIN, 0)
    result: Pixels = cv2.blendLinear(sharp, blended, share, 1 - share)
    return result


def _with_colours_of(painted: Pixels, blended: Pixels) -> Pixels:
    """Bring back the spread of colours over the whole picture, by up to a tenth."""
    (mean, spread), (own_mean, own_spread) = cv2.meanStdDev(painted), cv2.meanStdDev(blended)
    gain = np.clip(spread / np.maximum(own_spread, 1), 0.9, 1.1)
    table = (np.arange(256)[:, None] - own_mean.T) * gain.T + mean.T
    result: Pixels = cv2.LUT(blended, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None])
    return result


def _error(before: Pixels, now: Pixels, where: NDArray[np.float32], visible: NDArray[np.bool_]) -> float:
    # Lanczos: a softer filter would take the blur that it makes itself for flicker.
    moved = cv2.remap(before, where, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return float(np.sqrt(np.square(moved[visible].astype(np.float32) - now[visible]).mean()))


def _reduced(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    short = min(height, width)
    share = max(SMALLEST_FLOW_SIDE / short, min(1.0, FLOW_SIDE / short))
    if short >= SMALLEST_FLOW_SIDE and share == 1:
        return pixels
    how = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    small: Pixels = cv2.resize(pixels, (round(width * share), round(height * share)), interpolation=how)
    return small


def _inside(where: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(H, W): which of the points (column, row) lie in the picture."""
    height, width = where.shape[:2]
    columns, rows = where[..., 0], where[..., 1]  # ten times as fast as all(2)
    found: NDArray[np.bool_] = (columns >= 0) & (rows >= 0) & (columns <= width - 1) & (rows <= height - 1)
    return found


def _grey(pixels: Pixels) -> Pixels:
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey


def _difference(one: Pixels, other: Pixels) -> Pixels:
    """(H, W) uint8: how far the colours are apart, over small places, so that noise counts little."""
    apart: Pixels = cv2.blur(_grey(cv2.absdiff(one, other)), (3, 3))
    return apart


def _enlarged(small: NDArray[np.float32], pixels: Pixels) -> NDArray[np.float32]:
    """A map at the size of a picture; always a new array."""
    if small.shape[:2] == pixels.shape[:2]:
        return small.copy()
    large: NDArray[np.float32] = cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return large


def _grid(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """(H, W, 2) float32: column and row of each pixel; not to be changed."""
    return _grid_of(*pixels.shape[:2])


@lru_cache(maxsize=8)
def _grid_of(height: int, width: int) -> NDArray[np.float32]:
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.dstack([columns, rows])
