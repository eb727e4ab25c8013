import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from restyle.errors import ModelFileError
from restyle.export import onnx_graph, openvino_ir
from restyle.export.network import read_network
from restyle.export.parity import Sample, compare, measure_parity, sample_paintings
from restyle.runtime import openvino_core
from restyle.stylizer import Stylizer
from restyle.weights import BUNDLED, GRAPHS, read_model
from tiny import TinyModel

pytestmark = pytest.mark.torch
CARD = {"name": "tiny", "version": "0.0.1", "licence": "MIT"}


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
    found = measure_parity(TinyModel(), folder, sizes=[(1, 17, 16), (3, 45, 99), (2, 128, 31)])
    assert found["max_difference"] < 1 / 255


def test_parity_sees_other_weights(folder):
    other = TinyModel()
    with torch.no_grad():
        other.stylizer.out.bias += 0.05
    assert measure_parity(other, folder)["max_difference"] > 1 / 255


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
    monkeypatch.setattr(onnx_graph, "measure_parity", lambda *_, **__: {"max_difference": 0.1, "mean_difference": 0.1})
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


def test_a_model_folder_gives_its_network_back(folder):
    model, card = read_network(folder)
    trained = TinyModel()
    assert card.name == "tiny"
    assert model.state_dict().keys() == trained.state_dict().keys()
    for name, value in trained.state_dict().items():
        # The style encoder is stored in half precision, so half of its last digit may be lost.
        rounding = 2**-11 if name.startswith("style_encoder") else 1e-6
        torch.testing.assert_close(model.state_dict()[name], value, rtol=rounding, atol=1e-6)


def test_the_bundled_model_gives_its_network_back(photo):
    network, _ = read_network(BUNDLED / "fast")
    engine = Stylizer.load(precision="f32", threads=1)
    style = engine.encode_style(photo)
    expected, own = engine.paint(photo[None], style)
    content = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        vector = torch.from_numpy(style.vector.copy())[None]
        painted, seen = network.stylizer(
            content, vector, torch.ones(1, 1), torch.zeros(1, own.shape[1]), torch.zeros(1, 1)
        )
    assert np.abs(255 * painted[0].permute(1, 2, 0).numpy() - expected[0]).max() < 0.51
    np.testing.assert_allclose(own, seen.numpy(), atol=1e-3)


def test_a_folder_of_another_network_is_refused(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    card = json.loads((other / "model.json").read_text())
    for settings in ({**card["settings"], "channels": 32}, {"layers": 5}, {}):
        (other / "model.json").write_text(json.dumps({**card, "settings": settings}))
        with pytest.raises(ModelFileError, match="does not hold a fast network"):
            read_network(other)


def test_graphs_carry_their_card(folder):
    for name in GRAPHS:
        inside = {one.key: one.value for one in onnx.load(folder / name).metadata_props}
        assert inside["name"] == "tiny" and inside["licence"] == "MIT"


def test_a_fixed_size_is_fixed_and_no_model_folder(tmp_path):
    onnx_graph.export_model(TinyModel(), tmp_path / "fixed", card=CARD, size=(40, 56))
    session = onnxruntime.InferenceSession(tmp_path / "fixed" / GRAPHS[1], providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == session.get_outputs()[0].shape == [1, 3, 40, 56]
    document = json.loads((tmp_path / "fixed" / "export.json").read_text())
    assert document["size"] == [40, 56]
    assert document["parity_on_photographs"]["max_difference"] < 1 / 255
    with pytest.raises(ModelFileError, match=r"is an export for other programs"):
        Stylizer.load(tmp_path / "fixed")


def test_half_precision_halves_the_stylizer(tmp_path):
    onnx_graph.export_model(TinyModel(), tmp_path / "half", card=CARD, precision="f16")
    kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "half" / GRAPHS[1]).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds
    written = json.loads((tmp_path / "half" / "export.json").read_text())
    assert written["precision"] == "f16" and 0 < written["parity_on_photographs"]["max_difference"] < 5 / 255


def test_half_precision_leaves_the_statistics_of_whole_pictures_in_float32(tmp_path):
    onnx_graph.export_model(TinyModel(), tmp_path / "half", card=CARD, precision="f16", size=(32, 40))
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "half" / GRAPHS[1])).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*graph.value_info, *graph.output]}
    computed = {(node.op_type, kinds[node.output[0]]) for node in graph.node}
    statistics = ("ReduceMean", "Sqrt", "Div")  # means, deviations, and what is divided by them
    for kind in statistics:
        assert (kind, onnx.TensorProto.FLOAT) in computed and (kind, onnx.TensorProto.FLOAT16) not in computed
    assert ("Conv", onnx.TensorProto.FLOAT16) in computed and ("Conv", onnx.TensorProto.FLOAT) not in computed


@pytest.fixture(scope="module")
def eight_bit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight") / "bit"
    onnx_graph.export_model(TinyModel(), folder, card=CARD, precision="int8")
    return folder


def test_eight_bits_for_all_convolutions_but_those_at_the_ends(eight_bit):
    graph = onnx.load(eight_bit / GRAPHS[1]).graph
    maker = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor.data_type for tensor in graph.initializer}
    kinds = []
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            sources = [maker.get(name) for name in node.input[:2]]
            whole = [one and one.op_type == "DequantizeLinear" for one in sources]
            assert len({*map(bool, whole)}) == 1  # picture and weights, or neither
            kinds.append(weights[sources[1].input[0]] if whole[1] else weights[node.input[1]])
    eight, full = onnx.TensorProto.INT8, onnx.TensorProto.FLOAT
    assert kinds == [full, full, *[eight] * (len(kinds) - 3), full] and len(kinds) > 5


def test_eight_bits_paint_nearly_the_same_and_restyle_reads_them(eight_bit, folder, photo):
    card = json.loads((eight_bit / "model.json").read_text())
    assert card["precision"] == "int8" and "parity" not in card
    found = card["parity_on_photographs"]
    assert 0.05 / 255 < found["mean_difference"] < 4 / 255  # on photographs that set the scales
    for engine in ("openvino", "onnxruntime"):
        full, eight = (Stylizer.load(one, engine=engine, precision="f32") for one in (folder, eight_bit))
        style = full.encode_style(photo)
        wanted = full.paint(photo[None], style)[0].astype(int)
        painted = eight.paint(photo[None], eight.encode_style(photo))[0]
        assert 0 < np.abs(painted - wanted).mean() < 6
        assert (painted == eight.paint(photo[None], eight.encode_style(photo), 1.0)[0]).all()
    with pytest.raises(ModelFileError, match="does not hold a fast network"):
        read_network(eight_bit)  # its weights are rounded


def test_opsets_that_may_be_asked_for(tmp_path):
    for opset in (onnx_graph.OPSETS[0], onnx_graph.OPSETS[-1]):
        onnx_graph.export_model(TinyModel(), tmp_path / f"of{opset}", card=CARD, opset=opset)
        assert onnx.load(tmp_path / f"of{opset}" / GRAPHS[1]).opset_import[0].version == opset
    for wrong in (13, 21):
        with pytest.raises(ValueError, match=f"opset must lie between 17 and 20, got {wrong}"):
            onnx_graph.export_model(TinyModel(), tmp_path / "wrong", card=CARD, opset=wrong)
    with pytest.raises(ValueError, match="size must be at least 16 pixels each, got 8x40"):
        onnx_graph.export_model(TinyModel(), tmp_path / "wrong", card=CARD, size=(8, 40))


@pytest.mark.parametrize(("half", "worst"), [(False, 0.1), (True, 5.0)])
def test_openvino_files_paint_the_same(tmp_path, half, worst):
    written = openvino_ir.export_openvino(TinyModel(), tmp_path / "ir", card=CARD, half=half)
    assert written["parity_on_photographs"]["max_difference"] * 255 < worst
    assert json.loads((tmp_path / "ir" / "export.json").read_text()) == written
    assert {path.name for path in (tmp_path / "ir").iterdir()} == {"export.json", *written["sha256"]}
    inside = openvino_core().read_model(tmp_path / "ir" / "stylizer.xml")
    assert {name: str(inside.get_rt_info(["restyle", name]).value) for name in CARD} == CARD
    assert [path.name for path in tmp_path.iterdir()] == ["ir"]


def test_half_openvino_files_are_half_as_large(tmp_path):
    for half in (False, True):
        openvino_ir.export_openvino(TinyModel(), tmp_path / str(half), card=CARD, half=half, size=(32, 32))
    full, half = ((tmp_path / name / "stylizer.bin").stat().st_size for name in ("False", "True"))
    assert half < 0.7 * full


def test_comparing_sees_what_differs():
    samples = sample_paintings(TinyModel().eval(), (32, 40))
    assert {tuple(one.painted.shape) for one in samples} == {(1, 3, 32, 40)}
    painted = {id(one.content): one.painted.numpy() for one in samples}
    assert compare(samples[:1], lambda content, _: painted[id(content)]) == {"max_difference": 0, "mean_difference": 0}
    shifted = compare(samples[:1], lambda content, _: painted[id(content)] + np.float32(0.25))
    assert shifted["max_difference"] == pytest.approx(0.25) and shifted["mean_difference"] == pytest.approx(0.25)
    with pytest.raises(RuntimeError, match="no numbers"):
        compare([Sample(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2), torch.zeros(1, 3, 4, 4))],
                lambda *_: np.full((1, 3, 4, 4), np.nan, np.float32))  # fmt: skip


def test_the_command_exports_a_model_folder_again(folder, tmp_path, run):
    code, out, _ = run(
        "export", folder, "-o", tmp_path / "ir", "--to", "openvino", "--size", "32x40", "--version", "2.0"
    )
    assert code == 0 and "differs from torch by at most 0.00 of 255 on photographs" in out
    document = json.loads((tmp_path / "ir" / "export.json").read_text())
    assert (document["name"], document["version"], document["size"]) == ("tiny", "2.0", [32, 40])


def test_figures_of_the_weights_do_not_stay_with_rounded_ones(folder, tmp_path, run):
    shutil.copytree(folder, tmp_path / "tiny")
    card = json.loads((folder / "model.json").read_text())
    (tmp_path / "tiny" / "model.json").write_text(json.dumps({**card, "quality": {"style_vgg": 0.1}}))
    for precision in ("f32", "int8"):
        assert run("export", tmp_path / "tiny", "-o", tmp_path / precision, "--precision", precision)[0] == 0
        assert ("quality" in json.loads((tmp_path / precision / "model.json").read_text())) == (precision == "f32")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--to", "coreml"], 2, "--to must be one of onnx, openvino, oak, got 'coreml'"),
        (["--precision", "bf16"], 2, "--precision must be f32 or f16 or int8 for onnx, got 'bf16'"),
        (["--to", "openvino", "--precision", "int8"], 2, "--precision must be f32 or f16 for openvino, got 'int8'"),
        (["--to", "oak", "--precision", "f32"], 2, "--precision must be f16 for oak"),
        (["--to", "openvino", "--opset", "17"], 2, "--opset is for onnx only"),
        (["--shaves", "6"], 2, "--shaves is for oak only"),
        (["--graph-only"], 2, "--graph-only is for oak only"),
        (["--size", "4x"], 2, "neither N nor HxW"),
    ],
)
def test_wrong_usage_is_one_sentence(folder, tmp_path, run, words, code, sentence):
    found, _, err = run("export", folder, "-o", tmp_path / "out", *words)
    assert (found, err.count("\n")) == (code, 1) and sentence in err
    assert not list(tmp_path.iterdir())


def test_sources_that_are_not_there(tmp_path, run):
    assert run("export", tmp_path / "no.pt", "-o", tmp_path / "out")[0] == 4
    assert run("export", "fats", "-o", tmp_path / "out")[0] == 2
