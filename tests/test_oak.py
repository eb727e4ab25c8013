"""The network for the OAK-1, as far as it can be checked without the camera: its graph, and half precision."""

import os
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from restyle.export.network import read_network
from restyle.export.oak import graph as oak_graph
from restyle.export.oak.half import LARGEST, half_weights, measure_budget, run_in_half
from restyle.export.parity import compare, sample_paintings, sample_pictures
from restyle.weights import BUNDLED
from tiny import CHIP_SIZE, TinyModel

pytestmark = pytest.mark.torch


def inputs_for(stylizer, size, strength=1.0):
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (1, 3, *size), generator=generator).float()
    style = 0.5 * torch.randn(1, stylizer.style_size, generator=generator)
    return image, style, torch.tensor([[strength]])


def expected_from(stylizer, image, style, strength):
    unused = torch.zeros(1, 2 * stylizer.sites)
    with torch.no_grad():
        return 255 * stylizer(image / 255, style, strength, unused, torch.zeros(1, 1))[0]


# --- the graph


def test_the_graph_is_what_the_compiler_understands(chip_graph):
    model = onnx.load(chip_graph)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 13)]
    assert {node.op_type for node in model.graph.node} <= oak_graph.COMPILED
    ports = {port.name: [side.dim_value for side in port.type.tensor_type.shape.dim]
             for port in [*model.graph.input, *model.graph.output]}  # fmt: skip
    sites = TinyModel().stylizer.style_size
    assert ports == {"image": [1, 3, *CHIP_SIZE], "style": [1, sites, 1, 1], "strength": [1, 1, 1, 1],
                     "stylized": [1, 3, *CHIP_SIZE]}  # fmt: skip


@pytest.mark.parametrize("size", [(32, 32), (48, 136), (256, 256)])
@pytest.mark.parametrize("strength", [0.0, 0.7, 1.0])
def test_the_graph_paints_what_the_network_paints(tiny_model, tmp_path, size, strength):
    oak_graph.write_oak_graph(tiny_model.stylizer, tmp_path / "graph.onnx", size=size)
    image, style, amount = inputs_for(tiny_model.stylizer, size, strength)
    session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
    given = {
        "image": image.numpy(),
        "style": style.numpy()[:, :, None, None],
        "strength": amount[:, :, None, None].numpy(),
    }
    (painted,) = session.run(None, given)
    wanted = expected_from(tiny_model.stylizer, image, style, amount).numpy()
    assert wanted.std() > 5
    np.testing.assert_allclose(painted, wanted, atol=2e-3)


def test_opsets_operators_and_sizes_that_would_be_misunderstood_are_refused(chip_graph, tmp_path):
    def refused(change, sentence):
        model = onnx.load(chip_graph)
        change(model)
        onnx.save(model, tmp_path / "changed.onnx")
        with pytest.raises(RuntimeError, match=sentence):
            oak_graph.check_oak_graph(tmp_path / "changed.onnx")

    def other_opset(model):
        model.opset_import[0].version = 14

    def other_operator(model):
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(onnx.helper.make_node("Abs", ["before"], ["stylized"]))

    refused(other_opset, "must be of opset 13")
    refused(other_operator, "not tried with Abs")

    def open_size(model):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"

    refused(open_size, "image has no fixed size")


@pytest.mark.parametrize("size", [(24, 64), (64, 100)])
def test_sizes_that_do_not_fit_are_refused(tiny_model, tmp_path, size):
    with pytest.raises(ValueError, match=f"multiples of 8, at least 32 pixels each, got {size[0]}x{size[1]}"):
        oak_graph.write_oak_graph(tiny_model.stylizer, tmp_path / "graph.onnx", size=size)


def test_multiply_adds_are_counted(chip_graph):
    # By hand for 64x96, in cells of 1/8: 8x12. Both ways up have a margin of one pixel at the end.
    down = 17 * 25 * 8 * 108 + 8 * 12 * 16 * 72
    block = 8 * 12 * (2 * 16 * 32 + 32 * 9)
    up = 18 * 26 * 8 * 16 * 9 + 34 * 50 * 8 * 8 * 9 + 32 * 48 * 12 * 8 * 9
    assert oak_graph.multiply_adds(chip_graph) == down + block + up


def test_the_compilers_own_reader_understands_the_graph(tiny_model, chip_graph, tmp_path):
    """A graph of a newer opset compiles as well, and averages over the wrong axes: only running it shows that."""
    python = os.environ.get("RESTYLE_OPENVINO2021_PYTHON")
    if not python:
        pytest.skip("set RESTYLE_OPENVINO2021_PYTHON to the python 3.8 of an environment with openvino 2021.3.0")
    image, style, amount = inputs_for(tiny_model.stylizer, CHIP_SIZE)
    given = {"image": image, "style": style[:, :, None, None], "strength": amount[:, :, None, None]}
    np.savez(tmp_path / "given.npz", **{name: value.numpy() for name, value in given.items()})
    program = """
import sys
import numpy as np
from openvino.inference_engine import IECore
core = IECore()
network = core.load_network(core.read_network(sys.argv[1]), "CPU", {"ENFORCE_BF16": "NO"})
with np.load(sys.argv[2]) as given:
    np.save(sys.argv[3], network.infer(dict(given))["stylized"])
"""
    subprocess.run([python, "-c", program, chip_graph, tmp_path / "given.npz", tmp_path / "painted.npy"], check=True)
    wanted = expected_from(tiny_model.stylizer, image, style, amount).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "painted.npy"), wanted, atol=0.02)


# --- half precision


def test_every_operation_is_rounded_and_overflow_is_seen():
    assert run_in_half(lambda x: x * 300, torch.tensor([300.0])).item() == float("inf")
    assert run_in_half(lambda x: (x + 2.0**-12) - x, torch.tensor([1.0])).item() == 0
    assert run_in_half(lambda x: x / 3, torch.tensor([1.0])).item() == float(np.float16(1 / 3))


def test_half_precision_is_enough_for_the_bundled_model():
    model, _ = read_network(BUNDLED / "fast")
    size = (128, 128)
    module = oak_graph.OakStylizer(model.stylizer, size).eval()
    rounded = half_weights(module)

    def paint(content, style):
        return run_in_half(rounded, 255 * content, style[:, :, None, None], torch.ones(1, 1, 1, 1)).numpy() / 255

    found = compare(sample_paintings(model, size)[::2], paint)
    assert found["max_difference"] * 255 < 6
    assert 0 < found["mean_difference"] * 255 < 0.25
    # Sums over a channel grow with its area; at 256x256 they are four times as large as here.
    budget = measure_budget(module, [255 * picture for picture in sample_pictures(size)])
    assert 4 * max(budget["largest_sum"], budget["largest_sum_of_squares"]) < LARGEST / 2
    assert budget["smallest_deviation"] > 6e-5  # FP16's smallest normal number


def test_the_budget_is_measured(tiny_model):
    module = oak_graph.OakStylizer(tiny_model.stylizer, (32, 32))
    image = torch.rand(1, 3, 32, 32) * 255
    with torch.no_grad():
        cells = module.features(image)[0].flatten(1).numpy().astype(float)
    found = measure_budget(module, [image])
    assert found["largest_sum"] == pytest.approx(np.abs(cells).sum(1).max(), rel=1e-4)
    assert found["largest_sum_of_squares"] == pytest.approx((16 * cells.var(1)).max(), rel=1e-4)
