"""One small face for OpenVINO and ONNX Runtime: open a graph, run it.

Pictures go in and come out as (N, H, W, 3) uint8; everything else is float32. The conversion to the graph's
(N, 3, H, W) floats in 0..1 happens here: inside the compiled graph where the engine allows it, else with numpy.

=============  ======================  =======================================
device         engine                  checked on real hardware by us
=============  ======================  =======================================
``cpu``        OpenVINO, ONNX Runtime  yes
``gpu``        OpenVINO (Intel)        no
``npu``        OpenVINO (Intel)        no
``cuda``       ONNX Runtime            no
``tensorrt``   ONNX Runtime            no
``directml``   ONNX Runtime            no
``coreml``     ONNX Runtime            no
=============  ======================  =======================================
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import math
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from restyle.errors import DeviceError, MissingExtraError, ModelFileError

OPENVINO_DEVICES = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}
ONNXRUNTIME_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
BUILDS = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "directml": "onnxruntime-directml"}
"""Packages of ONNX Runtime that bring a device; the plain one has the processor and Apple's."""

DEVICES = ("auto", *dict.fromkeys((*OPENVINO_DEVICES, *ONNXRUNTIME_PROVIDERS)))
ENGINES = ("auto", "openvino", "onnxruntime")
PRECISIONS = ("auto", "fastest", "f32", "mixed", "bf16")
UNASKED = {"auto": "mixed", "fastest": "bf16"}
"""What is taken where the processor computes in bf16 natively; elsewhere f32."""
EXACT = "exact"
"""A graph may name one tensor so: in the precision ``mixed``, what leads up to it is computed in float32."""

KEPT_SIZES = 12
"""Compiled sizes that are kept per graph; the one unused for longest goes first."""

KEPT_PIXELS = 6_000_000
"""Pixels of all kept sizes together, since each keeps its buffers; the newest is kept in any case."""

Arrays = Mapping[str, NDArray[Any]]


class Graph(Protocol):
    """An opened graph; safe to run from several threads."""

    device: str
    engine: str
    precision: str
    streams: int

    def run(self, inputs: Arrays, *, only: str | None = None) -> dict[str, NDArray[Any]]:
        """Run the graph; pictures are (N, H, W, 3) uint8, the rest float32. The outputs belong to the caller.

        With ``only``, the one output of that name is computed, and OpenVINO leaves out what it does not need.
        """
        ...


def open_graph(
    path: Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    streams: int = 1,
) -> Graph:
    """Open an ONNX file on a device.

    Args:
        path: The ONNX file.
        device: One of ``DEVICES``. ``auto`` takes CUDA where ONNX Runtime offers it, else the processor.
        engine: One of ``ENGINES``; ``auto`` takes OpenVINO for the processor and for Intel's devices where installed.
        precision: ``f32``; ``bf16``, 1.7 times as fast on a processor with AVX512-BF16; ``mixed``, float32 up to the
            tensor ``EXACT`` and bf16 from there; ``auto`` takes mixed, and ``fastest`` bf16, where the processor
            computes in bf16 natively, else f32.
        threads: Processor threads; None leaves it to the engine.
        streams: Runs at the same time, each with its share of the threads: more in all, but each takes longer. Only
            OpenVINO on the processor has more than one, and not in ``mixed``, whose two parts would compete.

    Returns:
        The opened graph.

    Raises:
        ValueError: an argument is none of the allowed words, or threads or streams is below 1.
        DeviceError: the device is not there, the engine cannot use it, or it cannot compute in the precision.
        MissingExtraError: the engine is not installed.
    """
    for name, value, allowed in (
        ("device", device, DEVICES), ("engine", engine, ENGINES), ("precision", precision, PRECISIONS)
    ):  # fmt: skip
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    for name, number in (("threads", threads), ("streams", streams)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if device == "auto":
        if engine != "openvino" and precision in (*UNASKED, "f32") and _cuda_is_installed():
            with contextlib.suppress(DeviceError):  # installed for CUDA, but no card or driver here
                return OnnxRuntimeGraph(path, device="cuda", precision=precision, threads=threads)
        device = "cpu"
    if choose_engine(device, engine) == "onnxruntime":
        return OnnxRuntimeGraph(path, device=device, precision=precision, threads=threads)
    return OpenVinoGraph(path, device=device, precision=precision, threads=threads, streams=streams)


def choose_engine(device: str, engine: str = "auto") -> str:
    """The engine that will run a device.

    Raises:
        DeviceError: the engine finds no such device here.
        MissingExtraError: the engine is not installed.
    """
    if engine == "auto":
        engine = "openvino" if device in OPENVINO_DEVICES and _installed("openvino") else "onnxruntime"
    if not _installed(engine):
        if engine == "onnxruntime" and device in BUILDS:
            raise DeviceError(f"the device {device!r} needs ONNX Runtime built for it: pip install {BUILDS[device]}")
        if engine == "onnxruntime":
            raise MissingExtraError(f"the device {device}", extra="onnx")
        raise DeviceError("openvino is not installed: pip install openvino")
    found = openvino_devices() if engine == "openvino" else onnxruntime_devices()
    if device not in found:
        raise DeviceError(f"{engine} finds no device {device!r} on this machine; it finds: {', '.join(found)}")
    return engine


def openvino_devices() -> list[str]:
    """Our names of the devices that OpenVINO finds here; empty where it is not installed."""
    if not _installed("openvino"):
        return []
    present = {name.split(".")[0] for name in openvino_core().available_devices}
    return [ours for ours, theirs in OPENVINO_DEVICES.items() if theirs in present]


def computes_bf16(device: str) -> bool:
    """Whether OpenVINO finds that a device computes in bf16 natively."""
    if device not in openvino_devices():
        return False
    return "BF16" in openvino_core().get_property(OPENVINO_DEVICES[device], "OPTIMIZATION_CAPABILITIES")


def onnxruntime_devices() -> list[str]:
    """Our names of the devices that ONNX Runtime was built for; empty where it is not installed."""
    if not _installed("onnxruntime"):
        return []
    present = importlib.import_module("onnxruntime").get_available_providers()
    return [ours for ours, theirs in ONNXRUNTIME_PROVIDERS.items() if theirs in present]


class OpenVinoGraph:
    """A graph in OpenVINO, compiled anew for every size of picture: 0.1 s that make each run up to twice as fast."""

    engine = "openvino"

    def __init__(self, path: Path, *, device: str, precision: str, threads: int | None, streams: int) -> None:
        self.device = device
        self._core = openvino_core()
        self._target = OPENVINO_DEVICES[device]
        native = computes_bf16(device)
        if precision in ("mixed", "bf16") and not native:
            raise DeviceError(f"the {device} of this machine does not compute in bf16; use precision f32")
        self.precision = precision if precision not in UNASKED else UNASKED[precision] if native else "f32"
        self.streams = min(streams, threads or streams) if device == "cpu" and self.precision != "mixed" else 1
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if self.streams > 1:
            self._settings["NUM_STREAMS"] = self.streams
        if threads is not None and device == "cpu":
            self._settings["INFERENCE_NUM_THREADS"] = threads
        try:
            self._model = _with_byte_pictures(self._core.read_model(path))
        except RuntimeError as error:
            raise ModelFileError(f"openvino cannot read {path}: {error}") from error
        self._compiled: OrderedDict[tuple[Any, ...], _Compiled] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(self.streams)

    def run(self, inputs: Arrays, *, only: str | None = None) -> dict[str, NDArray[Any]]:
        """See ``Graph.run``."""
        # No more at a time than there are streams, which share all threads between them.
        with self._turns:
            with self._lock:
                compiled = self._for_sizes_of(inputs, only)
            with compiled.requests() as requests:
                found: dict[str, NDArray[Any]] = {}
                for request in requests:
                    # A port has several names where OpenVINO has removed an operation that does nothing.
                    known = [port.get_names() & inputs.keys() for port in request.model_inputs]
                    given = {place: inputs[name] for place, names in enumerate(known) for name in names}
                    results = request.infer(given, share_inputs=True)
                    found |= {name: value for port, value in results.items() for name in port.get_names() - {EXACT}}
                return found

    def _for_sizes_of(self, inputs: Arrays, only: str | None) -> _Compiled:
        key = (only, *(array.shape for array in inputs.values()))
        if key not in self._compiled:
            self._compiled[key] = self._compile({name: list(array.shape) for name, array in inputs.items()}, only)
            while len(self._compiled) > 1 and (
                len(self._compiled) > KEPT_SIZES or self.streams * sum(map(_pixels, self._compiled)) > KEPT_PIXELS
            ):
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(key)
        return self._compiled[key]

    def _compile(self, shapes: dict[str, list[int]], only: str | None) -> _Compiled:
        model = self._model.clone()
        model.reshape(shapes)
        for output in model.outputs if only else []:
            if only not in output.get_names():
                model.remove_result(output.node)
        if self.precision != "mixed" or not _tensor(self._model, EXACT):
            parts = [(model, "f32" if self.precision == "f32" else "bf16")]
        elif exact := _tensor(model, EXACT):
            before, after = _cut(model, exact)
            parts = [(before, "f32"), (after, "bf16")]
        else:  # what is asked for lies before it
            parts = [(model, "f32")]
        return _Compiled(
            self._core.compile_model(part, self._target, {**self._settings, "INFERENCE_PRECISION_HINT": precision})
            for part, precision in parts
        )


class _Compiled:
    """The parts of a graph that is compiled for some sizes, in the order in which they run."""

    def __init__(self, parts: Iterable[Any]) -> None:
        self._parts = tuple(parts)
        self._free: list[list[Any]] = []

    @contextlib.contextmanager
    def requests(self) -> Iterator[list[Any]]:
        """A request for each part, with buffers that nobody else uses meanwhile."""
        try:
            requests = self._free.pop()
        except IndexError:
            requests = self._new()
        try:
            yield requests
        finally:
            self._free.append(requests)

    def _new(self) -> list[Any]:
        requests = [part.create_infer_request() for part in self._parts]
        if len(requests) == 2:  # the second reads where the first has written
            requests[1].set_tensor(EXACT, requests[0].get_tensor(EXACT))
        return requests


class OnnxRuntimeGraph:
    """A graph in ONNX Runtime, with dynamic sizes."""

    engine = "onnxruntime"
    precision = "f32"
    streams = 1

    def __init__(self, path: Path, *, device: str, precision: str, threads: int | None) -> None:
        if precision in ("mixed", "bf16"):
            raise DeviceError("onnxruntime computes our graphs in f32 only; use precision f32, or the engine openvino")
        runtime = importlib.import_module("onnxruntime")
        self.device = device
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        provider = ONNXRUNTIME_PROVIDERS[device]
        try:
            self._session = runtime.InferenceSession(path, options, providers=[provider])
        except Exception as error:
            kind = ModelFileError if device == "cpu" else DeviceError
            raise kind(f"onnxruntime cannot open {path} on the device {device!r}: {error}") from error
        # ONNX Runtime falls back to the processor without a word where a provider's libraries are missing.
        if self._session.get_providers()[0] != provider:
            raise DeviceError(
                f"onnxruntime has {provider} but cannot start it; are its libraries and driver installed?"
            )

    def run(self, inputs: Arrays, *, only: str | None = None) -> dict[str, NDArray[Any]]:
        """See ``Graph.run``."""
        given = {name: _to_floats(array) if array.dtype == np.uint8 else array for name, array in inputs.items()}
        names = [only] if only else [output.name for output in self._session.get_outputs()]
        results = dict(zip(names, self._session.run(names, given), strict=True))
        return {name: _to_bytes(array) if array.ndim == 4 else array for name, array in results.items()}


def _with_byte_pictures(model: Any) -> Any:
    """Put the conversions from and to bytes into the graph: four-dimensional inputs and outputs become NHWC uint8."""
    import openvino as ov
    from openvino import opset13 as ops

    white, to_nchw, to_nhwc = (ops.constant(value) for value in (np.float32(255), [0, 3, 1, 2], [0, 2, 3, 1]))
    parameters, results, as_nhwc = [], [], {}

    def as_floats(pixels: Any) -> Any:
        values = ops.divide(ops.convert(pixels, ov.Type.f32), white)
        picture = ops.transpose(values, to_nchw)
        as_nhwc[picture.get_name()] = values
        return picture

    for port in model.inputs:
        parameter = port.node
        if port.partial_shape.rank.get_length() == 4:
            count, channels, height, width = port.partial_shape
            parameter = ops.parameter(ov.PartialShape([count, height, width, channels]), ov.Type.u8)
            parameter.output(0).get_tensor().set_names(port.get_names())
            picture = as_floats(parameter)
            _replace(port, picture)
            for target in picture.output(0).get_target_inputs():
                node = target.get_node()
                if node.get_type_name() == "Pad" and (mode := node.get_attributes()["pad_mode"]) != "constant":
                    # Bytes are padded instead: less to move, and NHWC is what a convolution wants.
                    margins = (ops.gather(node.input_value(side), to_nhwc, ops.constant(0)) for side in (1, 2))
                    _replace(node.output(0), as_floats(ops.pad(parameter, *margins, mode)))
        parameters.append(parameter)

    def turned(value: Any) -> Any:
        """An NCHW value as NHWC; sums, products and bounds are worked out in NHWC, so that little is moved."""
        node = value.get_node()
        if _rank(value) == 0:
            return value
        if node.get_name() in as_nhwc:
            return as_nhwc[node.get_name()].output(0)
        pointwise = node.get_type_name() in _POINTWISE and all(_rank(one) in (0, 4) for one in node.input_values())
        if not pointwise or len(value.get_target_inputs()) > 1:
            return ops.transpose(value, to_nhwc).output(0)
        for place in node.inputs():
            place.replace_source_output(turned(place.get_source_output()))
        node.constructor_validate_and_infer_types()
        return value

    for port in model.outputs:
        value, names = port.node.input_value(0), port.get_names()
        if port.partial_shape.rank.get_length() == 4:
            value = ops.multiply(turned(value), white)
            value = ops.convert(ops.round(value, "half_to_even"), ov.Type.u8)
        result = ops.result(value)
        result.output(0).get_tensor().set_names(names)
        results.append(result)
    return ov.Model(results, parameters)


def _replace(port: Any, node: Any) -> None:
    """Let all who take a value from a port take it from a node."""
    for target in port.get_target_inputs():
        target.replace_source_output(node.output(0))


_POINTWISE = ("Add", "Clamp", "Divide", "Maximum", "Minimum", "Multiply", "Subtract")


def _rank(port: Any) -> int | None:
    rank = port.get_partial_shape().rank
    return rank.get_length() if rank.is_static else None


def _tensor(model: Any, name: str) -> Any:
    """The output port that carries a name, or None."""
    ports = (port for node in model.get_ops() for port in node.outputs())
    return next((port for port in ports if name in port.get_names()), None)


def _cut(model: Any, port: Any) -> tuple[Any, Any]:
    """Two models: what leads up to a port and all that does not need it, and what comes after it. Uses the model up."""
    import openvino as ov
    from openvino import opset13 as ops

    entry = ops.parameter(port.get_partial_shape(), port.get_element_type(), name=EXACT)
    _replace(port, entry)
    exit_ = ops.result(port)
    entry.output(0).get_tensor().set_names({EXACT})
    sides: tuple[list[Any], list[Any]] = ([exit_], [])
    for result in model.get_results():
        sides[EXACT in _parameters([result])].append(result)
    before, after = (ov.Model(results, list(_parameters(results).values())) for results in sides)
    return before, after


def _parameters(results: list[Any]) -> dict[str, Any]:
    """The inputs that some results depend on, by the name of their node."""
    found, seen, waiting = {}, set[str](), list(results)
    while waiting:
        node = waiting.pop()
        if node.get_name() in seen:
            continue
        seen.add(node.get_name())
        if node.get_type_name() == "Parameter":
            found[node.get_friendly_name()] = node
        waiting += [value.get_node() for value in node.input_values()]
    return found


def _pixels(key: tuple[Any, ...]) -> int:
    """Pixels of the pictures in a key of compiled sizes: N * H * W."""
    return sum(math.prod(shape[:3]) for shape in key[1:] if len(shape) == 4)


def _to_floats(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    floats = pictures.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    floats /= 255
    return floats


def _to_bytes(pictures: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rint(pictures * 255).astype(np.uint8).transpose(0, 2, 3, 1))


def _installed(engine: str) -> bool:
    return importlib.util.find_spec(engine) is not None


def _cuda_is_installed() -> bool:
    # Read off the package's name: importing onnxruntime only to find no CUDA in it would cost every start 70 ms.
    try:
        importlib.metadata.distribution("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return "cuda" in onnxruntime_devices()


_core_lock = threading.Lock()
_core: list[Any] = []


def openvino_core() -> Any:
    """The process's one Core. Its processor plugin has signals handled on a stack of its own, which it frees when the
    Core goes: with a second Core, the next Ctrl-C would crash (OpenVINO 2026.4).
    """
    with _core_lock:
        if not _core:
            _core.append(import_openvino().Core())
    return _core[0]


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which tells Google Analytics of every start and asks nobody."""
    reporter = "openvino_telemetry"
    if reporter in sys.modules:  # somebody else's program wants it
        return importlib.import_module("openvino")
    sys.modules[reporter] = None  # type: ignore[assignment]  # what OpenVINO takes for not installed
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[reporter]
