"""Between FFmpeg's frames and our pixels: colour matrix and range, rotation, resizing. BGR and YUV never leave here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

# Numbers of the standard H.273, which FFmpeg uses.
RGB, BT709, UNSPECIFIED, FCC, BT470BG, SMPTE170M, SMPTE240M, BT2020 = 0, 1, 2, 4, 5, 6, 7, 9
LIMITED, FULL = int(ColorRange.MPEG), int(ColorRange.JPEG)
BEYOND = 64
"""Bytes that must lie behind a picture's last row: swscale reads on, by up to 48 as measured, and would crash."""

HDR_TRANSFERS = (16, 18)
"""PQ and HLG."""

HD_LINES = 720
"""From this height on, untagged video is taken for BT.709, below for BT.601, as players do."""

_MATRICES = {BT709: BT709, FCC: FCC, BT470BG: 5, SMPTE170M: 5, SMPTE240M: 7, BT2020: 9}
"""What swscale calls the matrices that it knows."""


@dataclass(frozen=True)
class Colour:
    """What the numbers of a video frame mean, in the numbers of the standard H.273.

    Attributes:
        matrix: From YUV to RGB: 1 BT.709, 5 and 6 BT.601, 9 BT.2020, and so on.
        range: 1 = limited (16 to 235), 2 = full (0 to 255).
        primaries: Kept as found; 2 = the file does not say.
        transfer: Same.
    """

    matrix: int = SMPTE170M
    range: int = LIMITED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @classmethod
    def of(cls, frame: VideoFrame) -> Colour:
        """The colours of a decoded frame; what its file does not say is guessed as players do."""
        guess = BT709 if min(frame.height, frame.width) >= HD_LINES else SMPTE170M
        matrix = int(frame.colorspace)
        full = int(frame.color_range) == FULL or frame.format.name.startswith("yuvj")
        return cls(
            matrix if matrix in _MATRICES else guess,
            FULL if full and not frame.format.is_rgb else LIMITED,
            int(frame.color_primaries),
            int(frame.color_trc),
        )

    @property
    def hdr(self) -> bool:
        """Whether these are colours for a brighter screen than ours, which are brought to BT.709."""
        return self.transfer in HDR_TRANSFERS

    def written(self) -> Colour:
        """What a painted frame is tagged with."""
        return Colour(BT709, self.range, BT709, BT709) if self.hdr else self


@dataclass(frozen=True)
class Orientation:
    """How stored rows and columns become upright ones: transposed first, then mirrored."""

    transposed: bool = False
    rows_mirrored: bool = False
    columns_mirrored: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """The orientation that a frame's display matrix asks for, to the nearest quarter turn."""
        found: Any = frame.side_data.get("DISPLAYMATRIX")
        if found is None:
            return cls()
        a, b, _, c, d = np.frombuffer(bytes(found), np.int32)[:5]
        # A stored point (x, y) is shown at (a x + c y, b x + d y).
        if abs(b) > abs(a):
            return cls(True, rows_mirrored=bool(b < 0), columns_mirrored=bool(c < 0))
        return cls(False, rows_mirrored=bool(d < 0), columns_mirrored=bool(a < 0))

    def upright(self, size: tuple[int, int]) -> tuple[int, int]:
        """The upright (height, width) of a stored one, and the other way round."""
        return (size[1], size[0]) if self.transposed else size

    def turn(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) as stored to upright."""
        if self.transposed:
            pixels = pixels.transpose(1, 0, 2)
        if self.rows_mirrored:
            pixels = pixels[::-1]
        if self.columns_mirrored:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)


class ToPixels:
    """Turns decoded frames into upright (H, W, 3) uint8 RGB of one size. For one thread.

    Args:
        first: The first frame; its orientation holds for all.
        size: The upright (height, width) wanted.
    """

    def __init__(self, first: VideoFrame, size: tuple[int, int]) -> None:
        self.orientation = Orientation.of(first)
        self._height, self._width = self.orientation.upright(size)
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The pixels of a frame, which belong to the caller."""
        now = Colour.of(frame)
        resized = (frame.height, frame.width) != (self._height, self._width)
        shrunk = frame.height > self._height
        how = (Interpolation.AREA if shrunk else Interpolation.BICUBIC) if resized else Interpolation.BILINEAR
        rgb = self._scaler.reformat(
            frame,
            width=self._width,
            height=self._height,
            format="rgb24",
            src_colorspace=_MATRICES[now.matrix],
            src_color_range=FULL if frame.format.is_rgb else now.range,
            dst_color_range=FULL,
            dst_color_trc=BT709 if now.hdr else None,  # given, swscale converts; else it leaves them alone
            dst_color_primaries=BT709 if now.hdr else None,
            interpolation=how,
            threads=1,  # the stages of the pipeline are the threads
        )
        pixels: Any = rgb.to_ndarray()
        return self.orientation.turn(pixels)


class ToFrame:
    """Turns (H, W, 3) uint8 RGB into frames for an encoder. For one thread.

    Args:
        colour: The matrix and the range that the encoder's file is tagged with.
        size: (height, width) of the frames; rows and columns beyond the pixels' repeat the last.
        format: FFmpeg's name of the pixel format, such as ``yuv420p``.
    """

    def __init__(self, colour: Colour, size: tuple[int, int], format: str) -> None:
        self._colour, self._size, self._format = colour, size, format
        self._scaler = VideoReformatter()

    def __call__(self, pixels: NDArray[np.uint8]) -> VideoFrame:
        """A frame without a timestamp."""
        missing = [(0, wanted - given) for wanted, given in zip(self._size, pixels.shape, strict=False)]
        if any(map(any, missing)):
            pixels = np.pad(pixels, [*missing, (0, 0)], mode="edge")
        padded = np.empty(pixels.size + BEYOND, np.uint8)
        rows = padded[: pixels.size].reshape(pixels.shape)
        rows[:] = pixels
        frame = VideoFrame.from_numpy_buffer(rows, format="rgb24")  # from_ndarray copies, too, and much slower
        if self._format == "rgb24":
            return frame
        return self._scaler.reformat(
            frame,
            format=self._format,
            dst_colorspace=_MATRICES[self._colour.matrix],
            src_color_range=FULL,
            dst_color_range=self._colour.range,
            interpolation=Interpolation.BILINEAR,
            threads=1,
        )
