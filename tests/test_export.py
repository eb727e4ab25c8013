import json

import onnx
import onnxruntime
import pytest
import torch

from restyle.errors import ModelFileError
from restyle.export import onnx_graph
from restyle.nn.fast import FastStyleEncoder, FastStylizer
from restyle.nn.networks import Model
from restyle.weights import GRAPHS, read_model

pytestmark = pytest.mark.torch
CARD = {"name": "tiny", "version": "0.0.1", "licence": "MIT"}


class TinyModel(Model):
    def __init__(self):
        torch.manual_seed(0)
        stylizer = FastStylizer(channels=16, blocks=1, stem=8, up=(8, 8))
        encoder = FastStyleEncoder(16, stylizer.style_size, widths=(4,) * 6, mixtures=4, hidden=8)
        torch.nn.init.normal_(encoder.head.weight, std=0.3)
        super().__init__(stylizer, encoder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "tiny"
    onnx_graph.export_model(TinyModel(), folder, card=CARD)
    return folder


def test_graphs_have_the_signature_of_the_contract(folder):
    for name, inputs, outputs in (
        (GRAPHS[0], ["picture"], ["style"]),
        (GRAPHS[1], ["content", "style", "strength", "statistics", "given"], ["stylized", "own"]),
    ):
        session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        assert [port.name for port in session.get_inputs()] == inputs
        assert [port.name for port in session.get_outputs()] == outputs
        assert all(port.type == "tensor(float)" for port in session.get_inputs() + session.get_outputs())
        assert not {"Einsum", "Resize"} & {node.op_type for node in onnx.load(folder / name).graph.node}


def test_graphs_agree_with_torch_on_sizes_not_tried_at_export(folder):
    parity = onnx_graph.measure_parity(TinyModel(), folder, sizes=[(1, 17, 16), (3, 45, 99), (2, 128, 31)])
    assert parity["max_difference"] < 1 / 255


def test_parity_sees_other_weights(folder):
    other = TinyModel()
    with torch.no_grad():
        other.stylizer.out.bias += 0.05
    assert onnx_graph.measure_parity(other, folder)["max_difference"] > 1 / 255


def test_the_card_is_true(folder):
    card = read_model(folder)
    assert (card.name, card.sites, card.licence) == ("tiny", 16, "MIT")
    assert card.document["settings"]["channels"] == 16
    assert card.halo == onnx_graph.measure_halo(TinyModel().stylizer)
    assert card.document["parity"]["max_difference"] < 1 / 255
    assert set(json.loads((folder / "model.json").read_text())["sha256"]) == set(GRAPHS)


def test_export_leaves_the_model_as_it_was_and_refuses_an_existing_folder(folder, tmp_path):
    model = TinyModel()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    onnx_graph.export_model(model, tmp_path / "new", card=CARD)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ModelFileError, match="exists already"):
        onnx_graph.export_model(model, tmp_path / "new", card=CARD)
    with pytest.raises(ModelFileError, match="not a folder"):
        onnx_graph.export_model(model, tmp_path / "no" / "where", card=CARD)


def test_a_graph_that_disagrees_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_graph, "measure_parity", lambda *_: {"max_difference": 0.1, "mean_difference": 0.1})
    with pytest.raises(RuntimeError, match="differ from torch"):
        onnx_graph.export_model(TinyModel(), tmp_path / "bad", card=CARD)
    assert not list(tmp_path.iterdir())


def test_the_halo_is_what_the_network_sees():
    stylizer = TinyModel().stylizer
    halo = onnx_graph.measure_halo(stylizer)
    assert halo % 8 == 0
    torch.manual_seed(1)
    content, style = torch.rand(1, 3, 256, 256), torch.randn(1, stylizer.style_size)
    given = torch.cat([torch.zeros(1, 16), torch.ones(1, 16)], 1)

    def middle(picture):
        with torch.no_grad():
            return stylizer.paint(picture, style, torch.ones(1, 1), given, torch.ones(1, 1))[0][:, :, 128:136, 128:136]

    outside = torch.rand(1, 3, 256, 256)
    for reach, seen in ((halo, False), (halo - 16, True)):
        window = (slice(None), slice(None), slice(128 - reach, 136 + reach), slice(128 - reach, 136 + reach))
        changed = outside.clone()
        changed[window] = content[window]
        assert bool((middle(changed) - middle(content)).abs().max() > 1e-6) == seen


@pytest.mark.parametrize("axis", [2, 3])
def test_the_halo_counts_both_directions(axis):
    stylizer = TinyModel().stylizer
    plain = onnx_graph.measure_halo(stylizer)
    paint = stylizer.paint
    stylizer.paint = lambda content, *rest: paint(content.roll(40, axis), *rest)
    assert onnx_graph.measure_halo(stylizer) == plain + 40
