"""Running the network on pictures of any size: small ones of one size together, large ones in tiles."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from restyle.errors import LimitError
from restyle.runtime import KEPT_PIXELS, Graph
from restyle.tiling import merge_statistics, plan_tiles
from restyle.weights import ModelCard

MINIMUM_SIDE = 16
"""The graphs' smallest height and width; smaller pictures are extended inside and cropped back."""

WHOLE_PIXELS = 6_000_000
"""Pictures of up to this many pixels are painted whole if nothing else is asked; larger ones in tiles."""

TILE = 1536
"""Side of those tiles, in pixels."""

STATISTICS_TILE = 4096
"""Side of the pieces, in pixels, from which the statistics of a larger picture are put together."""

SMALLEST_TILE = 128

LARGEST_BATCH_PIXELS = 2_000_000
"""Pictures of one size are run together up to this many pixels."""

BASE_BYTES, NETWORK_BYTES, PICTURE_BYTES = 180_000_000, 100, 6
"""Memory of the program with its model; for each pixel that is in the network at once; for each pixel of a photograph
and its painting. Measured with the bundled model by benchmarks/memory.py, in the precision that needs most."""


class Job(NamedTuple):
    """One painting to be made: (H, W, 3 or 4) pixels, a style vector (D,), and the strength."""

    content: NDArray[np.uint8]
    style: NDArray[np.float32]
    strength: float


class Painter:
    """A model's stylizer graph. It holds no state between calls."""

    def __init__(self, graph: Graph, card: ModelCard) -> None:
        self.graph, self._card = graph, card

    def paint(self, jobs: Sequence[Job], tile: int | None = None) -> list[NDArray[np.uint8]]:
        """The painting of each job, (H, W, 3), in their order.

        Args:
            jobs: Any number, of any sizes.
            tile: As for ``Stylizer.apply``.

        Raises:
            LimitError: a picture needs clearly more memory than there is.
        """
        paintings: dict[int, NDArray[np.uint8]] = {}
        together: dict[tuple[int, int], list[int]] = {}
        for number, job in enumerate(jobs):
            height, width = job.content.shape[:2]
            check_memory((height, width), estimate_memory((height, width), tile))
            if side := tile_side((height, width), tile):
                paintings[number] = self._paint_in_tiles(job, side)
            else:
                together.setdefault((height, width), []).append(number)
        for (height, width), numbers in together.items():
            most = max(1, LARGEST_BATCH_PIXELS // (height * width))
            for start in range(0, len(numbers), most):
                batch = numbers[start : start + most]
                contents, styles, strengths = zip(*(jobs[number] for number in batch), strict=True)
                painted, _ = self.run(np.stack([_extended(one) for one in contents]), np.stack(styles), strengths)
                paintings |= {
                    number: np.ascontiguousarray(one[:height, :width])
                    for number, one in zip(batch, painted, strict=True)
                }
        return [paintings[number] for number in range(len(jobs))]

    def run(
        self,
        frames: NDArray[np.uint8],
        styles: NDArray[np.float32],
        strengths: Sequence[float],
        statistics: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Run the network once.

        Args:
            frames: (N, H, W, 3) uint8, at least ``MINIMUM_SIDE`` high and wide.
            styles: (N, D).
            strengths: N numbers.
            statistics: (2S,) or (N, 2S) in place of the frames' own; None = their own.

        Returns:
            (N, H, W, 3) uint8, painted; and (N, 2S) float32, the frames' own statistics.
        """
        found = self.graph.run(self._inputs(frames, styles, strengths, statistics))
        return found["stylized"], found["own"]

    def _inputs(
        self,
        frames: NDArray[np.uint8],
        styles: NDArray[np.float32],
        strengths: Sequence[float],
        statistics: NDArray[np.float32] | None = None,
    ) -> dict[str, NDArray[Any]]:
        inputs: dict[str, NDArray[Any]] = {
            "content": frames,
            "style": styles,
            "strength": np.array(strengths, np.float32)[:, None],
            "statistics": np.zeros((len(frames), 2 * self._card.sites), np.float32),
            "given": np.full((len(frames), 1), statistics is not None, np.float32),
        }
        if statistics is not None:
            inputs["statistics"][:] = statistics
        return inputs

    def _paint_in_tiles(self, job: Job, side: int) -> NDArray[np.uint8]:
        """One large picture: first the statistics of the whole, then every tile with these."""
        content = _extended(job.content)[None]
        height, width = content.shape[1:3]
        vector, strength = job.style[None], [job.strength]
        # ONNX Runtime computes the whole graph even for them, so there the pieces must be as small as the tiles.
        piece_side = STATISTICS_TILE if self.graph.engine == "openvino" else side
        pieces = [content[:, *one.outer] for one in plan_tiles((height, width), tile=piece_side, halo=0, grid=8)]
        seen = [self.graph.run(self._inputs(piece, vector, strength), only="own")["own"] for piece in pieces]
        statistics = merge_statistics(seen, [piece.size for piece in pieces])
        painted = np.empty((height, width, 3), np.uint8)
        # Tiles of one shape after the other: each shape is compiled once.
        tiles = plan_tiles((height, width), tile=side, halo=self._card.halo, grid=self._card.grid)
        for one in sorted(tiles, key=lambda one: one.shape):
            inputs = self._inputs(content[:, *one.outer], vector, strength, statistics)
            painted[one.inner] = self.graph.run(inputs, only="stylized")["stylized"][0, *one.kept]
        return painted[: job.content.shape[0], : job.content.shape[1]]


def tile_side(size: tuple[int, int], tile: int | None) -> int:
    """Side of the tiles in which a picture of (height, width) is painted; 0 = whole."""
    side = tile if tile is not None else TILE if size[0] * size[1] > WHOLE_PIXELS else 0
    return side if max(size) > side else 0


def estimate_memory(size: tuple[int, int], tile: int | None = None) -> int:
    """Bytes of memory that painting a picture of (height, width) takes, the program and the picture included.

    Within a fifteenth of what was measured with the bundled model, in tiles up to half as much again; other models may
    need more. ``tile`` is as for ``Stylizer.apply``.
    """
    pixels = size[0] * size[1]
    # In tiles, several shapes are kept compiled, each with its buffers.
    at_once = max(KEPT_PIXELS, side * side) if (side := tile_side(size, tile)) else pixels
    return BASE_BYTES + NETWORK_BYTES * min(at_once, pixels) + PICTURE_BYTES * pixels


def machine_memory() -> int | None:
    """Bytes of memory that this machine has, or that its container may use; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def check_memory(size: tuple[int, int], needed_bytes: int) -> None:
    """Refuse a picture of (height, width) that takes more memory than there is.

    Raises:
        LimitError: saying so, and what helps.
    """
    there = machine_memory()
    if there is not None and needed_bytes > there:
        raise LimitError(
            f"painting {size[0]} x {size[1]} pixels takes about {needed_bytes / 1e9:.1f} GB of memory, this machine "
            f"has {there / 1e9:.1f} GB; make the picture smaller, or paint it in tiles"
        )


def _extended(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours, at least ``MINIMUM_SIDE`` high and wide: the last row and column are repeated."""
    missing = [(0, max(0, MINIMUM_SIDE - side)) for side in pixels.shape[:2]]
    if not any(after for _, after in missing):
        return pixels[:, :, :3]
    return np.pad(pixels[:, :, :3], [*missing, (0, 0)], mode="edge")
