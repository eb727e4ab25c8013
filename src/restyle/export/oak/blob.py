"""What a compiled network for Myriad X (a ``.blob``) says of itself, read without any camera library."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from restyle.errors import ExportError

MAGIC = struct.pack("<I", 9709)
HEADER = struct.Struct("<20I")
NUMBER_TYPES = {0: "FP16", 1: "U8", 2: "S32", 3: "FP32", 4: "I8"}
STAGES = {
    0: "convolution in software", 6: "ReLU", 8: "depthwise convolution in software", 12: "sum", 13: "product",
    19: "copy", 26: "power", 34: "permute", 38: "convolution or pooling in hardware", 47: "scale and shift",
    57: "clamp", 62: "mean and variance", 67: "interpolate", 71: "pad", 72: "nearest upsampling", 75: "divide",
    111: "convert", 114: "mean",
}  # fmt: skip
"""Names for the kinds of stages that are known; others are called by their number."""

IN_SOFTWARE = (STAGES[0], STAGES[8])


@dataclass(frozen=True)
class Port:
    """An input or output: its numbers' type (``U8``, ``FP16``, ...) and its shape, (N, C, H, W)."""

    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Blob:
    """The header of a blob.

    Attributes:
        inputs: By name.
        outputs: By name.
        stages: How many there are of each kind.
        shaves: Vector processors that it was compiled for.
        cmx_slices: Slices of fast memory that it was compiled for.
        working_memory: Bytes for what lies between the stages.
    """

    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    stages: Mapping[str, int]
    shaves: int
    cmx_slices: int
    working_memory: int


def read_blob(path: Path) -> Blob:
    """Read a blob's header, ports and stages.

    Raises:
        ExportError: the file is no blob, or not whole.
    """
    data = path.read_bytes()
    try:
        return _read(data)
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise ExportError(f"{path} is not a whole blob for Myriad X: {error}") from error


def _read(data: bytes) -> Blob:
    start = data.find(MAGIC)
    if start < 0:
        raise ValueError("its mark is missing")
    header = HEADER.unpack_from(data, start)
    size, version = header[1:3]
    inputs, outputs, stages = header[4:7]
    memory, slices, shaves = header[10:13]
    at_inputs, at_outputs, at_stages, at_constants = header[16:]
    if size != len(data):
        raise ValueError(f"it says {size} bytes and has {len(data)}")
    if version != 6:
        raise ValueError(f"version {version} of the format is not known")
    kinds: Counter[str] = Counter()
    place = at_stages
    for _ in range(stages):
        length, kind = struct.unpack_from("<2I", data, place)
        if not length:
            raise ValueError("a stage has no length")
        kinds[STAGES.get(kind, f"stage {kind}")] += 1
        place += length
    return Blob(
        inputs=_ports(data, at_inputs, inputs, at_constants),
        outputs=_ports(data, at_outputs, outputs, at_constants),
        stages=dict(kinds),
        shaves=shaves,
        cmx_slices=slices,
        working_memory=memory,
    )


def _ports(data: bytes, place: int, count: int, constants: int) -> dict[str, Port]:
    ports = {}
    for _ in range(count):
        length = struct.unpack_from("<3I", data, place)[2]
        name = data[place + 12 : place + 12 + length].rstrip(b"\0").decode()
        place += 12 + length
        kind, _, dimensions, _, at, _, _ = struct.unpack_from("<7I", data, place)
        place += 28
        # Where the sizes lie counts from where the constants begin; the innermost comes first.
        sizes = struct.unpack_from(f"<{dimensions}I", data, constants + at)
        ports[name] = Port(NUMBER_TYPES.get(kind, str(kind)), sizes[::-1])
    return ports
