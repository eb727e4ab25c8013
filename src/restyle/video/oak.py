"""The OAK-1: a camera with a chip (Myriad X) that paints. Frames go from lens to network without passing the computer.

``oak:FOLDER`` takes the folder that ``restyle export --to oak`` wrote. ``replay:FILE`` runs the same program without a
camera: the file in place of the lens, and a node on this computer in place of the chip. Needs the extra ``oak``.

Style and strength are inputs of the network, sent when they change; the chip uses the last ones for every frame.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from restyle.errors import MissingExtraError, ModelFileError, VideoError
from restyle.stylizer import Style, Stylizer
from restyle.video.camera import PATIENCE_S, Painted, Pixels, Shot, StyleSwitch
from restyle.video.reader import VideoReader

SIZE = (256, 256)
"""Height and width of what ``replay:`` paints unless told otherwise; the chip's size is fixed in its network."""

LARGEST = 65504.0
"""FP16's largest number."""

SEARCH_S = 3.0
"""How long a camera may take to be found, before anything is made ready for it."""

INFERENCES = 2
"""How many frames the chip has in work at a time."""

Host = Callable[[Pixels, NDArray[np.float32], float], Pixels]
"""Paints on this computer: (H, W, 3), a style vector (D,) and a strength to (H, W, 3)."""


@dataclass(frozen=True)
class ChipModel:
    """What ``restyle export --to oak`` wrote.

    Attributes:
        archive: The network for the chip.
        size: Height and width.
        model: Identity of the model whose styles it takes.
    """

    archive: Path
    size: tuple[int, int]
    model: str

    @classmethod
    def read(cls, folder: Path) -> ChipModel:
        """Read the folder's ``export.json``.

        Raises:
            ModelFileError: it is missing or is not of an export to oak.
        """
        try:
            document = json.loads((folder / "export.json").read_text("utf-8"))
            height, width = document["size"]
            found = cls(folder / "stylizer.rvc2.tar.xz", (int(height), int(width)), str(document["model"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelFileError(f"{folder} was not written by 'restyle export --to oak': {error}") from error
        if not found.archive.is_file():
            raise ModelFileError(f"{found.archive} is missing: the network is not compiled")
        return found


@dataclass(frozen=True)
class Ports:
    """Where a running pipeline takes styles and strengths, and where painted frames come out: DepthAI's queues."""

    style: Any
    strength: Any
    painted: Any


class OakCamera:
    """Painted pictures of an OAK-1, or of a file as if it were one. Close it, or use it as a context.

    Args:
        source: ``oak:FOLDER`` or ``replay:FILE``.
        stylizer: The model that the styles are of; it paints what is replayed.
        styles: The styles.
        strength: 0..2 to begin with; ``painted`` may be told another.
        size: Height and width of what is replayed.
        fps: Frames a second that the camera shall give; None = as many as it likes.
        mirror: Swap left and right.

    Attributes:
        size: Height and width of the pictures.
        mirror: May be changed at any time.

    Raises:
        MissingExtraError: ``depthai`` is not installed.
        ModelFileError: the folder is none, or of another model.
        VideoError: no camera is there, or the file cannot be played.
    """

    def __init__(
        self,
        source: str,
        stylizer: Stylizer,
        styles: StyleSwitch,
        *,
        strength: float = 1.0,
        size: tuple[int, int] = SIZE,
        fps: float | None = None,
        mirror: bool = False,
    ) -> None:
        self._dai = import_depthai()
        self._source, self._styles, self.mirror = source, styles, mirror
        self._strength: Callable[[], float] = lambda: strength
        self._sent: tuple[Style | None, float | None] = (None, None)
        self._shot: Shot | None = None
        kind, _, place = source.partition(":")
        try:
            if kind == "replay":
                self.size = size
                self._pipeline, self._ports = self._replay(place, stylizer, size)
            else:
                chip = ChipModel.read(Path(place))
                if chip.model != stylizer.card.identity:
                    raise ModelFileError(
                        f"{place} is of model {chip.model!r}, the styles are of {stylizer.card.identity!r}"
                    )
                self.size = chip.size
                self._pipeline = open_device(self._dai)
                self._ports = build_on_chip(self._dai, self._pipeline, chip, fps=fps)
            self._pipeline.start()
        except RuntimeError as error:
            raise VideoError(f"the camera {source!r} cannot be used: {error}") from error

    def __enter__(self) -> OakCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the camera."""
        self._pipeline.stop()
        self._pipeline.wait()

    def newest(self, after: int = 0) -> Shot | None:
        """The newest painted picture with a number beyond ``after``; None = the camera has gone.

        Raises:
            VideoError: none comes.
        """
        patience = time.monotonic() + PATIENCE_S
        while self._shot is None or self._shot.number <= after:
            try:
                self._steer()
                message = self._ports.painted.get(timedelta(seconds=0.5))
            except self._dai.MessageQueue.QueueException as error:
                if self._shot is None:
                    raise VideoError(f"the camera {self._source!r} gives no picture: {error}") from error
                return None
            if message is not None:
                age = (self._dai.Clock.now() - message.getTimestamp()).total_seconds()
                pixels = to_pixels(message.getTensor("stylized"), self.size)
                pixels = np.ascontiguousarray(pixels[:, ::-1]) if self.mirror else pixels
                self._shot = Shot(pixels, message.getSequenceNum() + 1, time.monotonic() - max(0.0, age))
            elif time.monotonic() > patience:
                raise VideoError(f"the camera {self._source!r} gives no picture")
        return self._shot

    def painted(self, strength: Callable[[], float] | None = None) -> Generator[Painted, None, None]:
        """Every picture as soon as it is there, until the camera is gone.

        Args:
            strength: Asked before each picture; None = as it was.
        """
        self._strength = strength or self._strength
        number = 0
        while (shot := self.newest(number)) is not None:
            yield Painted(shot.pixels, time.monotonic() - shot.taken, shot.number - number - 1, min(self.size))
            number = shot.number

    def _steer(self) -> None:
        style, strength = self._styles.at(time.monotonic()), self._strength()
        if strength != self._sent[1]:
            self._ports.strength.send(to_message(self._dai, "strength", np.array([strength], np.float32)))
        if style is not self._sent[0]:
            self._ports.style.send(to_message(self._dai, "style", style.vector))
        self._sent = style, strength

    def _replay(self, file: str, stylizer: Stylizer, size: tuple[int, int]) -> tuple[Any, Ports]:
        with VideoReader(file):
            pass  # what cannot be played is said here in words; DepthAI would just close

        def paint(content: Pixels, vector: NDArray[np.float32], strength: float) -> Pixels:
            painted: Pixels = stylizer.paint(content[None], Style(vector, stylizer.card.identity), strength)[0][0]
            return painted

        pipeline = self._dai.Pipeline(createImplicitDevice=False)
        return pipeline, build_replay(self._dai, pipeline, file, paint, size)


def import_depthai() -> Any:
    """DepthAI's module.

    Raises:
        MissingExtraError: it is not installed, or is of version 2.
    """
    # It writes its log to standard output, where painted pictures may go; what is wrong comes as errors as well.
    os.environ.setdefault("DEPTHAI_LEVEL", "off")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # it brings an OpenCV of its own, which reads files
    try:
        import depthai
    except ImportError as error:
        raise MissingExtraError("an OAK camera", extra="oak") from error
    if not hasattr(depthai, "NNArchive"):
        raise MissingExtraError("an OAK camera (depthai of version 3)", extra="oak")
    return depthai


def require_camera(source: str) -> None:
    """See whether a camera is connected; for what takes long before it is opened.

    Raises:
        MissingExtraError: ``depthai`` is not installed.
        VideoError: none is.
    """
    found, _ = import_depthai().Device.getAnyAvailableDevice(timedelta(seconds=SEARCH_S))
    if not found:
        raise VideoError(f"the camera {source!r} cannot be used: no OAK camera is connected")


def open_device(dai: Any) -> Any:
    """A pipeline on the first camera that is found, with the firmware of the compiler's time.

    Raises:
        RuntimeError: no camera is connected.
    """
    settings = dai.Device.Config()
    settings.version = dai.OpenVINO.Version.VERSION_2021_3
    return dai.Pipeline(dai.Device(settings))


def build_on_chip(dai: Any, pipeline: Any, chip: ChipModel, *, fps: float | None = None) -> Ports:
    """The lens, and the network on the chip.

    Args:
        dai: DepthAI's module.
        pipeline: Of a device.
        chip: The network.
        fps: Frames a second that the lens shall give; None = its own choice.
    """
    height, width = chip.size
    camera = pipeline.create(dai.node.Camera).build(dai.CameraBoardSocket.CAM_A)
    frames = camera.requestOutput((width, height), type=dai.ImgFrame.Type.RGB888p, fps=fps)
    network = pipeline.create(dai.node.NeuralNetwork)
    network.setNNArchive(dai.NNArchive(str(chip.archive)))
    network.setNumInferenceThreads(INFERENCES)
    image = network.inputs["image"]
    image.setBlocking(False)
    image.setMaxSize(1)  # the newest frame wins, none waits
    frames.link(image)
    queues = {}
    for name in ("style", "strength"):
        queues[name] = network.inputs[name].createInputQueue()
        network.inputs[name].setReusePreviousMessage(True)
    return Ports(**queues, painted=network.out.createOutputQueue(maxSize=1, blocking=False))


def build_replay(dai: Any, pipeline: Any, file: str, paint: Host, size: tuple[int, int]) -> Ports:
    """A file in place of the lens, and a node on this computer in place of the chip.

    Args:
        dai: DepthAI's module.
        pipeline: Without a device.
        file: A moving picture, played over and over.
        paint: What the node does with a frame.
        size: Height and width that frames are cut and brought to, as the lens does.
    """
    replay = pipeline.create(dai.node.ReplayVideo)
    replay.setReplayVideoFile(file)
    replay.setOutFrameType(dai.ImgFrame.Type.RGB888p)
    replay.setLoop(True)
    node = pipeline.create(_host_node(dai, paint, size))
    replay.out.link(node.image)
    queues = {name: getattr(node, name).createInputQueue() for name in ("style", "strength")}
    return Ports(**queues, painted=node.out.createOutputQueue(maxSize=1, blocking=False))


def to_message(dai: Any, name: str, numbers: NDArray[np.float32]) -> Any:
    """Numbers as the network's input of that name, (1, D, 1, 1) in FP16.

    Raises:
        ValueError: a number is not finite in FP16.
    """
    largest = float(np.abs(numbers).max())
    if not math.isfinite(largest) or largest > LARGEST:
        raise ValueError(f"{name} holds {largest}, the chip's numbers end at {LARGEST:.0f}")
    message = dai.NNData()
    tensor = numbers.astype(np.float16).reshape(1, -1, 1, 1)
    message.addTensor(name, tensor, dataType=dai.TensorInfo.DataType.FP16)
    return message


def to_pixels(tensor: NDArray[Any], size: tuple[int, int]) -> Pixels:
    """The network's output, 3 * H * W numbers around 0..255, to (H, W, 3) uint8.

    Nothing is stretched to fit: ready-made parsers do so frame by frame, and the brightness pumps.
    """
    planes = np.asarray(tensor, np.float32).reshape(3, *size)
    return np.ascontiguousarray(np.rint(np.clip(planes, 0, 255)).astype(np.uint8).transpose(1, 2, 0))


def _host_node(dai: Any, paint: Host, size: tuple[int, int]) -> Any:
    """The class of the node that stands in for the chip: the same inputs, the same output, the same messages."""

    class HostStylizer(dai.node.ThreadedHostNode):  # type: ignore[misc]
        def __init__(self) -> None:
            dai.node.ThreadedHostNode.__init__(self)
            self.image, self.style, self.strength = (self.createInput() for _ in range(3))
            self.out = self.createOutput()
            self.image.setBlocking(False)
            self.image.setMaxSize(1)

        def run(self) -> None:
            try:
                style, strength = self.style.get(), self.strength.get()
                while self.isRunning():
                    frame = self.image.get()
                    style, strength = self.style.tryGet() or style, self.strength.tryGet() or strength
                    self.out.send(self._painted(frame, style, strength))
            except dai.MessageQueue.QueueException:
                return  # the pipeline stops

        def _painted(self, frame: Any, style: Any, strength: Any) -> Any:
            vector = np.asarray(style.getTensor("style"), np.float32).ravel()
            amount = float(np.asarray(strength.getTensor("strength")).ravel()[0])
            painted = paint(_middle(frame, size), vector, amount)
            message = dai.NNData()
            tensor = painted.transpose(2, 0, 1)[None].astype(np.float16)
            message.addTensor("stylized", tensor, dataType=dai.TensorInfo.DataType.FP16)
            message.setSequenceNum(frame.getSequenceNum())
            message.setTimestamp(frame.getTimestamp())
            return message

    return HostStylizer


def _middle(frame: Any, size: tuple[int, int]) -> Pixels:
    """The middle of a planar frame at another size, (H, W, 3) uint8."""
    pixels = frame.getFrame().reshape(3, frame.getHeight(), frame.getWidth()).transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    scale = min(height / size[0], width / size[1])
    rows, columns = round(size[0] * scale), round(size[1] * scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    cut = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    return cut if cut.shape[:2] == size else np.asarray(cv2.resize(cut, size[::-1], interpolation=cv2.INTER_AREA))
