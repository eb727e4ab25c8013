"""A stylizer's graph in eight-bit integers: smaller, less exact, and faster where the engine makes use of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CONVOLUTIONS = ("Conv", "ConvTranspose")


def to_int8(path: Path, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Quantise a graph's convolutions, but for the first two and the last, which see and make the picture itself.

    Weights get one scale for each channel; the others get theirs from what the graph computes for the inputs. The rest
    of the graph stays as it is.

    Args:
        path: An ONNX file in float32; replaced.
        inputs: Real ones, each with all inputs of the graph.
    """
    names = [node.name for node in onnx.load(path).graph.node if node.op_type in CONVOLUTIONS]
    beside = path.with_name(f"{path.name}.part")
    root = logging.getLogger()
    root.addFilter(_advice)
    try:
        quantize_static(
            path, beside, _Inputs(inputs), quant_format=QuantFormat.QDQ, per_channel=True,
            op_types_to_quantize=list(CONVOLUTIONS), nodes_to_exclude=[*names[:2], names[-1]],
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    finally:
        root.removeFilter(_advice)
    os.replace(beside, path)


def _advice(message: logging.LogRecord) -> bool:
    """Keep the quantiser's advice to itself: fixed sizes and other names would come of the preparation it wants."""
    return "pre-processing" not in message.getMessage()


class _Inputs(CalibrationDataReader):  # type: ignore[misc]
    """Inputs as the quantiser asks for them: one after the other, then None."""

    def __init__(self, inputs: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        self._waiting: Iterator[Mapping[str, NDArray[Any]]] = iter(inputs)

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        return next(self._waiting, None)
