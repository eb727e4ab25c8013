"""A style as a value: what the style encoder read off a picture, ready to be kept, mixed and used."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restyle.errors import ModelFileError


@dataclass(frozen=True, eq=False)
class Style:
    """A style as a value: can be kept, mixed, scaled, saved, and used from any thread.

    Attributes:
        vector: (D,) float32, read-only; what the numbers mean is the model's business.
        model: Identity of the model that encoded it; no other model can use it.
    """

    vector: NDArray[np.float32]
    model: str

    def __post_init__(self) -> None:
        """Take a private, read-only copy of the vector.

        Raises:
            ValueError: the vector is not one-dimensional or not finite.
        """
        vector = np.array(self.vector, dtype=np.float32)
        if vector.ndim != 1 or not np.isfinite(vector).all():
            raise ValueError(f"vector must be one-dimensional and finite, got shape {vector.shape}")
        vector.setflags(write=False)
        object.__setattr__(self, "vector", vector)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Style) and self.model == other.model and np.array_equal(self.vector, other.vector)

    def __hash__(self) -> int:
        return hash((self.model, self.vector.tobytes()))

    @staticmethod
    def mix(styles: Sequence[Style], weights: Sequence[float] | None = None) -> Style:
        """Blend styles: the weighted mean of their vectors.

        Args:
            styles: At least one, all of one model.
            weights: One for each style, none negative, not all zero; None = equal. Only their ratios count.

        Raises:
            ValueError: the weights do not fit, or the styles are of different models.
        """
        weights = [1.0] * len(styles) if weights is None else list(weights)
        if not styles or len(weights) != len(styles):
            raise ValueError(
                f"mix needs one weight for each style, got {len(styles)} styles and {len(weights)} weights"
            )
        if not all(math.isfinite(w) and w >= 0 for w in [*weights, sum(weights)]) or not sum(weights):
            raise ValueError(f"weights must be finite, not negative and not all zero, got {weights}")
        if len({style.model for style in styles}) > 1:
            raise ValueError(f"styles of different models cannot be mixed: {sorted({s.model for s in styles})}")
        share = np.array(weights, dtype=np.float64) / sum(weights)
        vector = share @ np.stack([style.vector for style in styles]).astype(np.float64)
        return Style(vector.astype(np.float32), styles[0].model)

    def save(self, path: str | Path) -> None:
        """Write the style to a file, beside and then renamed; numpy's ``.npz`` format whatever the suffix.

        Raises:
            ModelFileError: the disk refuses.
        """
        beside = f"{path}.{secrets.token_hex(8)}.part"
        try:
            with open(beside, "wb") as file:
                np.savez(file, vector=self.vector, model=np.array(self.model))
            os.replace(beside, os.path.realpath(path))  # a link stays a link
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError, ValueError):
                os.unlink(beside)
            raise ModelFileError(f"{str(path)!r} cannot be written: {error}") from error

    def __reduce__(self) -> tuple[type[Style], tuple[NDArray[np.float32], str]]:
        return Style, (self.vector, self.model)  # copies and pickles go through __post_init__, and stay read-only

    @classmethod
    def load(cls, path: str | Path) -> Style:
        """Read a style file.

        Raises:
            ModelFileError: the file is missing or is not a style.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(stored["vector"], str(stored["model"]))
        except Exception as error:
            raise ModelFileError(f"{path} cannot be read as a style file: {error}") from error
