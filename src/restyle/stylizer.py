"""The engine: a style is a value, encoded once; a picture is stylized with it as often as wanted.

>>> model = Stylizer.load()
>>> style = model.encode_style("painting.jpg")  # doctest: +SKIP
>>> stylized = model.apply(photo, style, strength=0.8)  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from restyle import gallery
from restyle.cache import cache_folder
from restyle.controls.colors import keep_colors as keep_colors_of
from restyle.controls.colors import parse_keep_colors
from restyle.controls.detail import at_work_size, enlarge
from restyle.controls.masks import Region as Region
from restyle.controls.masks import put_together
from restyle.controls.window import style_window
from restyle.errors import ModelFileError, ShapeError
from restyle.image import fit_short_side, lay_on_white, to_pil, to_pixels
from restyle.painter import LARGEST_BATCH_PIXELS as LARGEST_BATCH_PIXELS
from restyle.painter import MINIMUM_SIDE, PICTURE_BYTES, SMALLEST_TILE, Job, Painter, estimate_memory
from restyle.runtime import Graph, open_graph
from restyle.style import Style as Style
from restyle.weights import GRAPHS, ModelCard, find_model, read_model

if TYPE_CHECKING:
    from PIL.Image import Image

    from restyle.controls.masks import MaskLike

    ImageLike = str | Path | Image | NDArray[np.uint8]

STYLE_SIDE = 512
"""Short side, in pixels, at which a style picture is read: strokes come out as large as they are at this size."""

STYLE_SIDES = (64, 2048)
"""Smallest and largest of these that may be asked for."""


class Stylizer:
    """A loaded model. It holds no state between calls and may be used from several threads.

    Attributes:
        card: What the model says of itself.
        device: The device in use.
        engine: The engine in use.
        precision: The precision that pictures are painted in.
        streams: Pictures that it paints at the same time; what more threads ask for waits.
    """

    def __init__(self, card: ModelCard, encoder: Graph, painter: Graph) -> None:
        self.card = card
        self._encoder, self._painter = encoder, Painter(painter, card)
        self.device, self.engine, self.precision = painter.device, painter.engine, painter.precision
        self.streams = painter.streams

    @classmethod
    def load(
        cls,
        model: str | Path = "fast",
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        streams: int = 1,
    ) -> Stylizer:
        """Load a model.

        Args:
            model: Name of a bundled model, or a model folder.
            device: ``auto``, ``cpu``, or another of ``restyle.runtime.DEVICES``; one that is missing is an error.
            engine: ``auto``, ``openvino`` or ``onnxruntime``.
            precision: ``f32``; ``mixed``, faster: what needs it in float32, the rest in bf16; ``bf16``, fastest, but
                not exact; ``auto`` takes mixed where the processor has bf16 and the model's card says that
                ``mixed_is_faithful``: a mean difference below 1/255, none above 3/255; ``fastest`` takes bf16 there if
                the card says ``bf16_is_close`` (a mean difference below 1/255), else what ``auto`` takes.
            threads: Processor threads; None = the engine's choice.
            streams: Pictures to be painted at the same time, each by its share of the threads: for videos, of which two
                make a tenth more, while each takes twice as long. Only OpenVINO on the processor paints more than one,
                and not in ``mixed``.

        Raises:
            UnknownNameError: no such model.
            ModelFileError: the model's files are missing or damaged.
            DeviceError: the device is not there.
            MissingExtraError: the engine is not installed.
            ValueError: an argument is none of the allowed words.
        """
        folder = find_model(model)
        card = read_model(folder)
        if precision == "fastest" and not card.document.get("bf16_is_close", False):
            precision = "auto"
        if precision == "auto" and not card.document.get("mixed_is_faithful", False):
            precision = "f32"
        painter = open_graph(
            folder / GRAPHS[1], device=device, engine=engine, precision=precision, threads=threads, streams=streams
        )
        # The style encoder runs once a style, and its averages suffer most from few digits: always float32.
        chosen: dict[str, Any] = {"device": painter.device, "engine": painter.engine}
        encoder = open_graph(folder / GRAPHS[0], **chosen, precision="f32", threads=threads)
        return cls(card, encoder, painter)

    def encode_style(
        self,
        painting: ImageLike,
        *,
        size: int = STYLE_SIDE,
        crop: str | None = None,
        seed: int = 0,
        cache: bool = True,
    ) -> Style:
        """Read the style of a picture.

        Args:
            painting: Path, PIL picture, or (H, W, 3 or 4) uint8 array; transparent parts count as white.
            size: Short side in pixels at which the picture is read: strokes come out as large as they are at this size.
                A picture that is smaller than half of this is repeated, mirrored, rather than blown up further.
            crop: Read a square only, as large as the short side: ``center``, or ``random`` by the seed; None = all.
            seed: See ``crop``.
            cache: Keep it on disk, so that the same picture is encoded once for all time.

        Raises:
            ImageError: the picture cannot be read.
            ValueError: a size outside ``STYLE_SIDES``, or another word for crop.
        """
        check_options(style_size=size, style_crop=crop, seed=seed)
        pixels = style_window(lay_on_white(to_pixels(painting)), size, crop, seed)
        return self._cached(pixels) if cache else self._encode(pixels)

    def _encode(self, pixels: NDArray[np.uint8]) -> Style:
        return Style(self._encoder.run({"picture": pixels[None]})["style"][0], self.card.identity)

    def _cached(self, pixels: NDArray[np.uint8]) -> Style:
        digest = hashlib.sha256(f"{self.card.identity} {pixels.shape}".encode())
        digest.update(pixels.data)
        kept = cache_folder() / "styles" / f"{digest.hexdigest()}.npz"
        with contextlib.suppress(ModelFileError):  # not there, or damaged: encode it
            style = Style.load(kept)
            if style.model == self.card.identity and style.vector.shape == (self.card.style_size,):
                return style
        style = self._encode(pixels)
        with contextlib.suppress(OSError, ModelFileError):  # a cache that cannot be written only costs time
            kept.parent.mkdir(parents=True, exist_ok=True)
            style.save(kept)
        return style

    def apply(
        self,
        photo: ImageLike,
        style: Style,
        strength: float = 1.0,
        *,
        mask: MaskLike | None = None,
        regions: Sequence[Region] = (),
        keep_colors: str | None = None,
        work_size: int | None = None,
        tile: int | None = None,
    ) -> NDArray[np.uint8]:
        """Paint a picture in a style.

        Args:
            photo: Path, PIL picture, or (H, W, 3 or 4) uint8 array; alpha is kept as it is.
            style: From ``encode_style`` of the same model.
            strength: 0 gives the photo back, 1 is the style, up to 2 exaggerates it.
            mask: Grey picture of any size, a ``MaskFile`` or a ``PersonMask``, that says how much of the painting is
                seen where: white all, black none.
            regions: Parts with styles of their own, laid over one after the other; see ``Region``.
            keep_colors: ``luminance``, ``histogram`` or ``covariance``, also in part such as ``luminance:0.5``; see
                ``restyle.controls.colors``.
            work_size: Short side in pixels at which the picture is painted, for larger strokes; the photo's detail is
                brought back at full size. None, or a size beyond the photo's = the photo's own.
            tile: Side in pixels of the tiles in which the picture is painted, which bounds the memory; 0 = the whole
                picture at once, None = tiles only beyond 6 megapixels. The result is the same but for rounding up to
                4096 pixels a side, and nearly the same beyond.

        Returns:
            uint8 array of exactly the photo's height, width and channels.

        Raises:
            ValueError: an option outside its range, or a style of another model.
            ImageError: a picture cannot be read.
            LimitError: painting it takes more memory than the machine has; see ``estimate_memory``.
        """
        masks = None if mask is None else [mask]
        options = {"regions": regions, "keep_colors": keep_colors, "work_size": work_size, "tile": tile}
        return self.apply_many([photo], style, strength, masks=masks, **options)[0]  # type: ignore[arg-type]

    def apply_many(
        self,
        photos: Sequence[ImageLike],
        style: Style | Sequence[Style],
        strength: float | Sequence[float] = 1.0,
        *,
        masks: Sequence[MaskLike | None] | None = None,
        regions: Sequence[Region] = (),
        keep_colors: str | None = None,
        work_size: int | None = None,
        tile: int | None = None,
    ) -> list[NDArray[np.uint8]]:
        """Paint several pictures; those of one size are run together.

        Args:
            photos: As for ``apply``.
            style: One for all pictures, or one for each.
            strength: One for all pictures, or one for each.
            masks: One or None for each picture; None = no masks.
            regions: As for ``apply``, the same for all pictures.
            keep_colors: As for ``apply``.
            work_size: As for ``apply``.
            tile: As for ``apply``.

        Returns:
            One array for each picture, in order.

        Raises:
            ValueError: as for ``apply``, or the numbers of pictures, styles, strengths and masks differ.
        """
        styles = [style] * len(photos) if isinstance(style, Style) else list(style)
        strengths = [float(strength)] * len(photos) if np.ndim(strength) == 0 else list(strength)  # type: ignore[arg-type]
        wanted_masks = [None] * len(photos) if masks is None else list(masks)
        for one in [*styles, *(region.style for region in regions if region.style is not None)]:
            self._check_style(one)
        if not len(photos) == len(styles) == len(strengths) == len(wanted_masks):
            raise ValueError(
                f"got {len(photos)} pictures, {len(styles)} styles, {len(strengths)} strengths and {len(wanted_masks)} "
                "masks; give one or one each"
            )
        for value in [*strengths, *(region.strength for region in regions)]:
            check_options(strength=value, keep_colors=keep_colors, work_size=work_size, tile=tile)
        pictures = [to_pixels(photo) for photo in photos]
        seen = [_without_hidden_colors(picture) for picture in pictures]
        small = [at_work_size(colors, work_size) for colors in seen]
        # A picture is a pile of regions, the lowest everywhere. First the network paints them all, then each is laid.
        piles = [
            [Region(mask, one, value), *regions]
            for mask, one, value in zip(wanted_masks, styles, strengths, strict=True)
        ]
        jobs = {
            (i, number): Job(small[i], region.style.vector, region.strength)
            for i, pile in enumerate(piles)
            for number, region in enumerate(pile)
            if region.style is not None and region.strength
        }
        paintings = dict(zip(jobs, self._painter.paint(list(jobs.values()), tile), strict=True))
        results = []
        for i, picture in enumerate(pictures):
            layers = []
            for number, region in enumerate(piles[i]):
                painted = paintings.pop((i, number), None)
                if painted is not None and small[i] is not seen[i]:
                    painted = enlarge(painted, small[i][:, :, :3], seen[i][:, :, :3])
                if painted is not None:
                    painted = keep_colors_of(painted, seen[i][:, :, :3], keep_colors)
                layers.append((region.mask, painted))
            results.append(put_together(picture, layers))
        return results

    def paint(
        self,
        frames: NDArray[np.uint8],
        style: Style,
        strength: float = 1.0,
        *,
        statistics: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Run the network on frames of a video, with content statistics from elsewhere if wanted.

        Args:
            frames: (N, H, W, 3) uint8, at least ``MINIMUM_SIDE`` high and wide.
            style: From ``encode_style`` of the same model.
            strength: 0..2.
            statistics: (2S,) or (N, 2S) that replace the frames' own, such as a mean over time; None = their own.

        Returns:
            (N, H, W, 3) uint8, the painted frames; and (N, 2S) float32, the frames' own statistics.

        Raises:
            TypeError: frames that are not uint8, or a style that is none.
            ValueError: strength outside 0..2, or a style of another model.
            ShapeError: frames or statistics of another shape, or no frame.
        """
        check_options(strength=strength)
        self._check_style(style)
        if frames.dtype != np.uint8:
            raise TypeError(f"frames must be uint8, got {frames.dtype}")
        if frames.ndim != 4 or frames.shape[3] != 3 or not len(frames) or min(frames.shape[1:3]) < MINIMUM_SIDE:
            raise ShapeError(
                f"frames must be (N, H, W, 3), one or more of at least {MINIMUM_SIDE} pixels a side, got {frames.shape}"
            )
        count, numbers = len(frames), 2 * self.card.sites
        if statistics is not None and statistics.shape not in ((numbers,), (count, numbers)):
            raise ShapeError(f"statistics must be ({numbers},) or ({count}, {numbers}), got {statistics.shape}")
        return self._painter.run(frames, np.repeat(style.vector[None], count, 0), [strength] * count, statistics)

    @staticmethod
    def estimate_memory(size: tuple[int, int], *, tile: int | None = None, work_size: int | None = None) -> int:
        """Bytes of memory that painting a picture takes in all, before it is painted.

        Args:
            size: (height, width) of the picture.
            tile: As for ``apply``.
            work_size: As for ``apply``.

        Returns:
            An estimate for the bundled model, within a fifteenth of what was measured, in tiles up to half as much
            again; ``apply`` refuses what would take more than the machine has.
        """
        small = size if work_size is None or work_size >= min(size) else fit_short_side(size, work_size)
        spared = size[0] * size[1] - small[0] * small[1]
        return estimate_memory(small, tile) + PICTURE_BYTES * spared

    def _check_style(self, style: object) -> None:
        if not isinstance(style, Style):
            raise TypeError(f"style must be a Style from encode_style, got {type(style).__name__}")
        if style.model != self.card.identity:
            raise ValueError(
                f"the style was encoded by model {style.model!r}, this is {self.card.identity!r}; encode it anew"
            )
        if style.vector.shape != (self.card.style_size,):
            raise ValueError(f"the style has {style.vector.size} numbers, this model needs {self.card.style_size}")


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


def check_options(
    *,
    strength: float = 1.0,
    keep_colors: str | None = None,
    work_size: int | None = None,
    tile: int | None = None,
    style_size: int = STYLE_SIDE,
    style_crop: str | None = None,
    seed: int = 0,
) -> None:
    """Refuse options that no picture can be painted with.

    Raises:
        ValueError: naming the option, its value and what is allowed.
    """
    if not 0 <= strength <= 2:
        raise ValueError(f"strength must lie between 0 and 2, got {strength}")
    parse_keep_colors(keep_colors)
    if work_size is not None and work_size < MINIMUM_SIDE:
        raise ValueError(f"work_size must be at least {MINIMUM_SIDE}, got {work_size}")
    if tile is not None and tile != 0 and tile < SMALLEST_TILE:
        raise ValueError(f"tile must be 0 or at least {SMALLEST_TILE}, got {tile}")
    if not STYLE_SIDES[0] <= style_size <= STYLE_SIDES[1]:
        raise ValueError(f"style_size must lie between {STYLE_SIDES[0]} and {STYLE_SIDES[1]}, got {style_size}")
    if style_crop not in (None, "center", "random"):
        raise ValueError(f"style_crop must be center or random, got {style_crop!r}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")


def _without_hidden_colors(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture, of its mean colour where it is wholly transparent: what nobody sees must not matter."""
    if pixels.shape[2] == 3 or pixels[:, :, 3].all() or not pixels[:, :, 3].any():
        return pixels
    hidden = pixels[:, :, 3] == 0
    filled = pixels.copy()
    filled[hidden, :3] = np.rint(pixels[~hidden, :3].mean(axis=0))
    return filled
