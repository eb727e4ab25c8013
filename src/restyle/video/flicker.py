"""Flicker in figures: how much two frames differ where they show the same, and how still a still picture stands."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.errors import ShapeError
from restyle.stylizer import Stylizer
from restyle.video.pipeline import Look, paint
from restyle.video.reader import Frame
from restyle.video.temporal import Pixels, grid_of, inside, to_grey

NOISE = 2.0
"""Standard deviation, of 255, of the sensor noise that is laid over a still picture."""

STILL_FRAMES = 16
SETTLED = 5
"""Frames of the still picture, and how many of them are not judged, since calm needs some to begin."""


JUDGED_EVERY = 8
"""The eighth frame, the sixteenth and so on are shown to a judge: calm takes some to set in, and judges are slow."""

Judge = Callable[[Pixels], Mapping[str, float]]
"""Figures of one painted frame, (H, W, 3) uint8, by their names."""


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
        back: Any = self._search.calc(to_grey(now), to_grey(before), None)
        forth: Any = self._search.calc(to_grey(before), to_grey(now), None)
        where = grid_of(now.shape[:2]) + back
        returned = cv2.remap(forth, where, None, cv2.INTER_LINEAR)
        apart = np.square(back + returned).sum(2)
        length = np.square(back).sum(2) + np.square(returned).sum(2)
        return where, (apart < 0.01 * length + 0.5) & (inside(where) > 0)


@dataclass(frozen=True)
class Flicker:
    """How calm a painted clip is. All figures are of 255.

    Attributes:
        frames: Frames that were painted.
        input: Warp error of the clip itself, see ``FlickerMeter``.
        output: Warp error of the painted clip.
        still: Mean change from frame to frame of the clip's first picture, painted, if it stands under sensor noise of
            a standard deviation of ``NOISE``.
        style: The mean of each figure that a judge gave; not of 255.
    """

    frames: int
    input: float
    output: float
    still: float
    style: Mapping[str, float] = field(default_factory=dict)

    @property
    def excess(self) -> float:
        """What the painting adds to the warp error of the input: the flicker."""
        return self.output - self.input


def measure_flicker(stylizer: Stylizer, frames: Iterable[Pixels], look: Look, judge: Judge | None = None) -> Flicker:
    """Paint a clip and measure how calm the result is.

    Args:
        stylizer: The model.
        frames: (H, W, 3) uint8 each, two or more.
        look: How to paint.
        judge: Looks at every eighth painted frame; at the last, if there are fewer.

    Raises:
        ValueError: fewer than two frames.
    """
    meter, contents = FlickerMeter(), deque[Pixels]()
    first, last, count = None, None, 0
    judged: list[Mapping[str, float]] = []
    for last in _painted(_noted(frames, contents), stylizer, look):
        content = contents.popleft()
        first = content if first is None else first
        meter.add(content, last)
        count += 1
        if judge and count % JUDGED_EVERY == 0:
            judged.append(judge(last))
    if first is None or last is None or count < 2:
        raise ValueError(f"flicker is measured between frames: at least two are needed, got {count}")
    if judge and not judged:
        judged.append(judge(last))
    style = {name: fmean(one[name] for one in judged) for name in judged[0]} if judged else {}
    return Flicker(count, meter.input, meter.output, _still(stylizer, first, look), style)


def _noted(frames: Iterable[Pixels], contents: deque[Pixels]) -> Iterator[Pixels]:
    """The frames, each put aside for when its painting comes."""
    for pixels in frames:
        contents.append(pixels)
        yield pixels


def _painted(frames: Iterable[Pixels], stylizer: Stylizer, look: Look) -> Iterator[Pixels]:
    stream = (Frame(pixels, i, 1, i / 25) for i, pixels in enumerate(frames))
    with contextlib.closing(paint(stream, stylizer, look)) as items:
        yield from (item.pixels for item in items if isinstance(item, Frame))


def _still(stylizer: Stylizer, picture: Pixels, look: Look) -> float:
    random = np.random.default_rng(0)
    noise = (random.normal(0, NOISE, picture.shape) for _ in range(STILL_FRAMES))
    frames = (np.clip(np.rint(picture + one), 0, 255).astype(np.uint8) for one in noise)
    settled = list(_painted(frames, stylizer, look))[SETTLED:]
    return float(np.mean([cv2.absdiff(one, other).mean() for one, other in pairwise(settled)]))


def _error(before: Pixels, now: Pixels, where: NDArray[np.float32], visible: NDArray[np.bool_]) -> float:
    # Lanczos: a softer filter would take the blur that it makes itself for flicker.
    moved = cv2.remap(before, where, None, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
    return float(np.sqrt(np.square(moved[visible].astype(np.float32) - now[visible]).mean()))
