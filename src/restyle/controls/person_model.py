"""Turn MediaPipe's selfie segmentation (TensorFlow Lite) into the ONNX graph that finds people.

Needs the extra ``people``.

Neither OpenVINO, ONNX Runtime nor LiteRT reads the file as it is, because of one operation of MediaPipe's own. The
network is small and made of ten kinds of operation, so it is written anew, layer for layer, with the same weights.
Compared with LiteRT (up to that operation, which is then done with numpy) the result differs by at most 0.0002.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import tflite
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SAME_SIZE = {"RELU": "Relu", "HARD_SWISH": "HardSwish", "LOGISTIC": "Sigmoid", "ADD": "Add", "MUL": "Mul"}
CONVOLUTIONS = {"CONV_2D": tflite.Conv2DOptions, "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions}
UPWARDS = "Convolution2DTransposeBias"
"""MediaPipe's own operation: 2 x 2 with stride 2, so that every point becomes four and none overlap."""


def convert(network: bytes) -> bytes:
    """Write the network as an ONNX file.

    Args:
        network: A ``.tflite`` file of the operations above, with convolutions that keep the size (but for their
            stride), averages over whole maps, enlargements to twice the size, and all weights in half precision.

    Returns:
        The ONNX file: ``picture`` (1, C, H, W) in 0..1 goes in, ``person`` (1, 1, H, W) in 0..1 comes out.
    """
    source = tflite.Model.GetRootAs(network, 0)
    graph = source.Subgraphs(0)
    writer = _Writer(source)
    ends = [(graph.Inputs(0), "picture"), (graph.Outputs(0), "person")]
    ports = []
    for index, name in ends:
        _, height, width, channels = graph.Tensors(index).ShapeAsNumpy().tolist()
        ports.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, height, width]))
    nodes = [
        helper.make_node("Identity", ["picture"], [f"t{graph.Inputs(0)}"], name="in"),
        *writer.write(),
        helper.make_node("Identity", [f"t{graph.Outputs(0)}"], ["person"], name="out"),
    ]
    built = helper.make_model(
        helper.make_graph(nodes, "selfie_segmentation", ports[:1], ports[1:], writer.weights),
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="restyle",
        doc_string="MediaPipe selfie segmentation, general model, Google, Apache-2.0; converted by restyle",
    )
    built.ir_version = 10
    onnx.checker.check_model(built, full_check=True)
    content: bytes = built.SerializeToString()
    return content


class _Writer:
    """Writes operations as ONNX nodes, and collects their weights."""

    def __init__(self, source: Any) -> None:
        self.weights: list[Any] = []
        self._source, self._graph = source, source.Subgraphs(0)
        self._names: dict[int, str] = {
            number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)
        }
        self._operators = [self._graph.Operators(index) for index in range(self._graph.OperatorsLength())]
        # Weights are unpacked to single precision by operations of their own; a convolution looks through these.
        packed = [operator for operator in self._operators if self._kind(operator) == "DEQUANTIZE"]
        self._half = {operator.Outputs(0): operator.Inputs(0) for operator in packed}

    def write(self) -> list[Any]:
        """The nodes, in order."""
        return [node for operator in self._operators for node in self._write(operator, self._kind(operator))]

    def _kind(self, operator: Any) -> str:
        code = self._source.OperatorCodes(operator.OpcodeIndex())
        if custom := code.CustomCode():
            return str(custom.decode())
        return self._names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]

    def _write(self, operator: Any, kind: str) -> list[Any]:
        if kind == "DEQUANTIZE":
            return []
        given, out = [f"t{index}" for index in operator.InputsAsNumpy()], f"t{operator.Outputs(0)}"
        if kind in CONVOLUTIONS or kind == UPWARDS:
            return self._convolution(operator, kind, given[0], out)
        if kind == "AVERAGE_POOL_2D":
            return [helper.make_node("GlobalAveragePool", given, [out])]
        if kind == "RESIZE_BILINEAR":
            self.weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), f"{out}_scales"))
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            return [helper.make_node("Resize", [given[0], "", f"{out}_scales"], [out], **how)]
        return [helper.make_node(SAME_SIZE[kind], given, [out])]

    def _convolution(self, operator: Any, kind: str, given: str, out: str) -> list[Any]:
        how: dict[str, Any]
        kernel, bias = (self._values(self._half[operator.Inputs(index)]) for index in (1, 2))
        if kind == UPWARDS:
            kernel, how = kernel.transpose(3, 0, 1, 2), {"strides": [2, 2]}
        else:
            depthwise = kind == "DEPTHWISE_CONV_2D"
            kernel = kernel.transpose(3, 0, 1, 2) if depthwise else kernel.transpose(0, 3, 1, 2)
            table, options = operator.BuiltinOptions(), CONVOLUTIONS[kind]()
            options.Init(table.Bytes, table.Pos)
            how = {"strides": [options.StrideH(), options.StrideW()], "auto_pad": "SAME_UPPER"}
            how["group"] = len(kernel) if depthwise else 1
        nodes = [self._unpack(f"{out}_{name}", array) for name, array in (("kernel", kernel), ("bias", bias))]
        operation = "ConvTranspose" if kind == UPWARDS else "Conv"
        return [*nodes, helper.make_node(operation, [given, f"{out}_kernel", f"{out}_bias"], [out], **how)]

    def _values(self, index: int) -> NDArray[np.float16]:
        tensor = self._graph.Tensors(index)
        content = self._source.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
        return np.frombuffer(content, np.float16).reshape(tensor.ShapeAsNumpy())

    def _unpack(self, name: str, array: NDArray[np.float16]) -> Any:
        """Weights are stored as they were, in half precision; computed with in single."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{name}_half"))
        return helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)
