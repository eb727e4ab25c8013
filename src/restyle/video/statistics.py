"""The first step against flicker: content statistics averaged over time. Needs no OpenCV, so the server can use it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
