"""The engine: a style is a value, encoded once; a picture is stylized with it as often as wanted.

>>> model = Stylizer.load()
>>> style = model.encode_style("painting.jpg")  # doctest: +SKIP
>>> stylized = model.apply(photo, style, strength=0.8)  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
from numpy.typing import NDArray

from restyle import gallery
from restyle.errors import ModelFileError
from restyle.image import fit_short_side, lay_on_white, resize, to_pil, to_pixels
from restyle.runtime import Graph, open_graph
from restyle.tiling import merge_statistics, plan_tiles
from restyle.weights import GRAPHS, ModelCard, find_model, read_model

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike = str | Path | Image | NDArray[np.uint8]

STYLE_SIDE = 512
"""Short side, in pixels, at which a style picture is read: strokes come out as large as they are at this size."""

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
        if not all(math.isfinite(w) and w >= 0 for w in weights) or not sum(weights):
            raise ValueError(f"weights must be finite, not negative and not all zero, got {weights}")
        if len({style.model for style in styles}) > 1:
            raise ValueError(f"styles of different models cannot be mixed: {sorted({s.model for s in styles})}")
        share = np.array(weights, dtype=np.float64) / sum(weights)
        vector = share @ np.stack([style.vector for style in styles]).astype(np.float64)
        return Style(vector.astype(np.float32), styles[0].model)

    def scale(self, factor: float) -> Style:
        """The style with all its numbers times ``factor``: a building block of weighted sums."""
        if not math.isfinite(factor):
            raise ValueError(f"factor must be finite, got {factor}")
        return Style(self.vector * np.float32(factor), self.model)

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


class Stylizer:
    """A loaded model. It holds no state between calls and may be used from several threads.

    Attributes:
        card: What the model says of itself.
        device: The device in use.
        engine: The engine in use.
        precision: The precision that pictures are painted in.
    """

    def __init__(self, card: ModelCard, encoder: Graph, painter: Graph) -> None:
        self.card = card
        self._encoder, self._painter = encoder, painter
        self.device, self.engine, self.precision = painter.device, painter.engine, painter.precision

    @classmethod
    def load(
        cls,
        model: str | Path = "fast",
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
    ) -> Stylizer:
        """Load a model.

        Args:
            model: Name of a bundled model, or a model folder.
            device: ``auto``, ``cpu``, or another of ``restyle.runtime.DEVICES``; one that is missing is an error.
            engine: ``auto``, ``openvino`` or ``onnxruntime``.
            precision: ``f32``; ``mixed``, faster: what needs it in float32, the rest in bf16; ``bf16``, fastest, but
                not exact; ``auto`` takes mixed where the processor has bf16 and the model's card says that
                ``mixed_is_faithful``: a mean difference below 1/255, none above 3/255.
            threads: Processor threads; None = the engine's choice.

        Raises:
            UnknownNameError: no such model.
            ModelFileError: the model's files are missing or damaged.
            DeviceError: the device is not there.
            MissingExtraError: the engine is not installed.
            ValueError: an argument is none of the allowed words.
        """
        folder = find_model(model)
        card = read_model(folder)
        if precision == "auto" and not card.document.get("mixed_is_faithful", False):
            precision = "f32"
        painter = open_graph(folder / GRAPHS[1], device=device, engine=engine, precision=precision, threads=threads)
        # The style encoder runs once a style, and its averages suffer most from few digits: always float32.
        chosen = {"device": painter.device, "engine": painter.engine}
        encoder = open_graph(folder / GRAPHS[0], **chosen, precision="f32", threads=threads)
        return cls(card, encoder, painter)

    def encode_style(self, painting: ImageLike) -> Style:
        """Read the style of a picture. Kept on disk, so the same picture is encoded once for all time.

        Args:
            painting: Path, PIL picture, or (H, W, 3 or 4) uint8 array; transparent parts count as white.

        Raises:
            ImageError: the picture cannot be read.
        """
        pixels = lay_on_white(to_pixels(painting))
        kept = self._cache_path(pixels)
        with contextlib.suppress(ModelFileError):  # not there, or damaged: encode it
            style = Style.load(kept)
            if style.model == self.card.identity and style.vector.shape == (self.card.style_size,):
                return style
        size = fit_short_side(pixels.shape[:2], STYLE_SIDE)
        # Beyond 4:1 a style is squeezed: a banner must not become a picture of a million pixels.
        size = (min(size[0], 4 * STYLE_SIDE), min(size[1], 4 * STYLE_SIDE))
        vector = self._encoder.run({"picture": resize(pixels, size)[None]})["style"][0]
        style = Style(vector, self.card.identity)
        with contextlib.suppress(OSError, ModelFileError):  # a cache that cannot be written only costs time
            kept.parent.mkdir(parents=True, exist_ok=True)
            style.save(kept)
        return style

    def apply(
        self, photo: ImageLike, style: Style, strength: float = 1.0, *, tile: int | None = None
    ) -> NDArray[np.uint8]:
        """Paint a picture in a style.

        Args:
            photo: Path, PIL picture, or (H, W, 3 or 4) uint8 array; alpha is kept as it is.
            style: From ``encode_style`` of the same model.
            strength: 0 gives the photo back, 1 is the style, up to 2 exaggerates it.
            tile: Side in pixels of the tiles in which the picture is painted, which bounds the memory; 0 = the whole
                picture at once, None = tiles only beyond ``WHOLE_PIXELS``. The result is the same but for rounding up
                to ``STATISTICS_TILE`` pixels a side, and nearly the same beyond.

        Returns:
            uint8 array of exactly the photo's height, width and channels.

        Raises:
            ValueError: strength outside 0..2, a style of another model, or tiles smaller than ``SMALLEST_TILE``.
            ImageError: the picture cannot be read.
        """
        return self.apply_many([photo], style, strength, tile=tile)[0]

    def apply_many(
        self,
        photos: Sequence[ImageLike],
        style: Style | Sequence[Style],
        strength: float | Sequence[float] = 1.0,
        *,
        tile: int | None = None,
    ) -> list[NDArray[np.uint8]]:
        """Paint several pictures; those of one size are run together.

        Args:
            photos: As for ``apply``.
            style: One for all pictures, or one for each.
            strength: One for all pictures, or one for each.
            tile: As for ``apply``.

        Returns:
            One array for each picture, in order.

        Raises:
            ValueError: as for ``apply``, or the numbers of pictures, styles and strengths differ.
        """
        styles = [style] * len(photos) if isinstance(style, Style) else list(style)
        strengths = list(strength) if isinstance(strength, Sequence) else [float(strength)] * len(photos)
        for one in styles:
            self._check_style(one)
        if not len(photos) == len(styles) == len(strengths):
            raise ValueError(
                f"got {len(photos)} pictures, {len(styles)} styles and {len(strengths)} strengths; give one or one each"
            )
        for value in strengths:
            check_options(strength=value, tile=tile)
        pictures = [to_pixels(photo) for photo in photos]
        results = [picture.copy() for picture in pictures]
        for batch in _batches(pictures, strengths):
            painted = self._paint(
                np.stack([_extended(pictures[i]) for i in batch]),
                np.stack([styles[i].vector for i in batch]),
                np.array([[strengths[i]] for i in batch], dtype=np.float32),
                tile,
            )
            for index, result in zip(batch, painted, strict=True):
                height, width = pictures[index].shape[:2]
                results[index][:, :, :3] = result[:height, :width]
        return results

    def _paint(
        self,
        content: NDArray[np.uint8],
        style: NDArray[np.float32],
        strength: NDArray[np.float32],
        tile: int | None,
    ) -> NDArray[np.uint8]:
        """(N, H, W, 3), (N, D), (N, 1) to (N, H, W, 3), whole or in tiles."""
        count, height, width = content.shape[:3]
        if tile is None:
            tile = TILE if height * width > WHOLE_PIXELS else 0
        inputs: dict[str, NDArray[Any]] = {
            "content": content,
            "style": style,
            "strength": strength,
            "statistics": np.zeros((count, 2 * self.card.sites), np.float32),
            "given": np.zeros((count, 1), np.float32),
        }
        if not tile or max(height, width) <= tile:
            whole: NDArray[np.uint8] = self._painter.run(inputs)["stylized"]
            return whole
        # First the statistics of the whole picture, then every tile with these.
        # ONNX Runtime computes the whole graph even for them, so there the pieces must be as small as the tiles.
        piece_side = STATISTICS_TILE if self.engine == "openvino" else tile
        parts = plan_tiles((height, width), tile=piece_side, halo=0, grid=8)
        seen = [self._painter.run({**inputs, "content": content[:, *one.outer]}, only="own")["own"] for one in parts]
        inputs["statistics"] = merge_statistics(seen, [content[0, *one.outer].size for one in parts])
        inputs["given"] = np.ones((count, 1), np.float32)
        painted = np.empty_like(content)
        # Tiles of one shape after the other: each shape is compiled once.
        tiles = plan_tiles((height, width), tile=tile, halo=self.card.halo, grid=self.card.grid)
        for one in sorted(tiles, key=lambda one: one.shape):
            piece = self._painter.run({**inputs, "content": content[:, *one.outer]}, only="stylized")["stylized"]
            painted[:, *one.inner] = piece[:, *one.kept]
        return painted

    def _check_style(self, style: object) -> None:
        if not isinstance(style, Style):
            raise TypeError(f"style must be a Style from encode_style, got {type(style).__name__}")
        if style.model != self.card.identity:
            raise ValueError(
                f"the style was encoded by model {style.model!r}, this is {self.card.identity!r}; encode it anew"
            )
        if style.vector.shape != (self.card.style_size,):
            raise ValueError(f"the style has {style.vector.size} numbers, this model needs {self.card.style_size}")

    def _cache_path(self, pixels: NDArray[np.uint8]) -> Path:
        digest = hashlib.sha256(f"{self.card.identity} {STYLE_SIDE} {pixels.shape}".encode())
        digest.update(pixels.data)
        return cache_folder() / "styles" / f"{digest.hexdigest()}.npz"


def stylize(
    photo: ImageLike,
    style: ImageLike,
    *,
    strength: float = 1.0,
    tile: int | None = None,
    model: str | Path = "fast",
    device: str = "auto",
) -> Image:
    """Paint a photo in the style of another picture, in one call.

    Args:
        photo: Path, PIL picture or array.
        style: Path, PIL picture, array, or the name of a gallery style.
        strength: 0..2.
        tile: As for ``Stylizer.apply``.
        model: Name of a bundled model, or a model folder.
        device: As for ``Stylizer.load``.

    Returns:
        A PIL picture of the photo's size.

    Raises:
        RestyleError: a file cannot be used; see ``Stylizer``.
    """
    loaded = Stylizer.load(model, device=device)
    painting = gallery.find(style) if isinstance(style, str) else style
    return to_pil(loaded.apply(photo, loaded.encode_style(painting), strength, tile=tile))


def check_options(*, strength: float = 1.0, tile: int | None = None) -> None:
    """Refuse options that no picture can be painted with.

    Raises:
        ValueError: strength outside 0..2, or a tile below ``SMALLEST_TILE`` that is not 0.
    """
    if not 0 <= strength <= 2:
        raise ValueError(f"strength must lie between 0 and 2, got {strength}")
    if tile is not None and tile != 0 and tile < SMALLEST_TILE:
        raise ValueError(f"tile must be 0 or at least {SMALLEST_TILE}, got {tile}")


def cache_folder() -> Path:
    """Where encoded styles are kept: ``$RESTYLE_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("RESTYLE_CACHE") or platformdirs.user_cache_dir("restyle", appauthor=False))


def _batches(pictures: Sequence[NDArray[Any]], strengths: Sequence[float]) -> list[list[int]]:
    """Group the pictures' numbers by size; those at strength 0 need no painting."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, (picture, strength) in enumerate(zip(pictures, strengths, strict=True)):
        height, width = picture.shape[:2]
        if strength:
            groups.setdefault((height, width), []).append(index)
    batches: list[list[int]] = []
    for (height, width), group in groups.items():
        most = max(1, LARGEST_BATCH_PIXELS // (height * width))
        batches.extend(group[start : start + most] for start in range(0, len(group), most))
    return batches


def _extended(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colours, at least ``MINIMUM_SIDE`` high and wide: the last row and column are repeated."""
    missing = [(0, max(0, MINIMUM_SIDE - side)) for side in pixels.shape[:2]]
    return np.pad(pixels[:, :, :3], [*missing, (0, 0)], mode="edge")
