import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from restyle import gallery, runtime, stylizer
from restyle.errors import DeviceError, MissingExtraError, ModelFileError
from restyle.stylizer import Stylizer
from restyle.weights import GRAPHS, find_model, read_model

STYLIZER = find_model("fast") / GRAPHS[1]


def inputs(photo, card, *, count=1):
    """A style vector of standard statistics and some random modulation."""
    style = np.random.default_rng(0).normal(0, 0.2, (count, card.style_size)).astype(np.float32)
    style[:, : card.sites], style[:, card.sites : 2 * card.sites] = 0, 1
    return {
        "content": np.stack([photo] * count),
        "style": style,
        "strength": np.ones((count, 1), np.float32),
        "statistics": np.zeros((count, 2 * card.sites), np.float32),
        "given": np.zeros((count, 1), np.float32),
    }


def test_both_engines_paint_the_same_picture(photo, model):
    given = inputs(photo, model.card)
    results = [
        runtime.open_graph(STYLIZER, engine=engine, precision="f32", threads=1).run(given)
        for engine in ("openvino", "onnxruntime")
    ]
    assert results[0]["stylized"].dtype == results[1]["stylized"].dtype == np.uint8
    difference = np.abs(results[0]["stylized"].astype(int) - results[1]["stylized"])
    assert difference.max() <= 1
    assert difference.mean() < 0.05
    np.testing.assert_allclose(results[0]["own"], results[1]["own"], atol=1e-3)
    assert (results[0]["stylized"] != photo).mean() > 0.5


def test_bf16_stays_close_to_f32_in_every_bundled_style(photo):
    if not runtime.computes_bf16("cpu"):
        pytest.skip("this processor does not compute in bf16")
    half, mixed, full = (Stylizer.load(precision=precision, threads=1) for precision in ("bf16", "mixed", "f32"))
    assert (half.precision, mixed.precision, full.precision) == ("bf16", "mixed", "f32")
    for entry in gallery.styles():
        style = full.encode_style(entry.path)
        expected = full.apply(photo, style).astype(int)
        difference = np.abs(half.apply(photo, style) - expected)
        assert 0 < difference.mean() < 1, entry.name
        assert (difference > 3).mean() < 0.01, entry.name
        closer = np.abs(mixed.apply(photo, style) - expected)
        assert 0 < closer.mean() < difference.mean(), entry.name
        assert closer.max() <= 3, entry.name
        assert half.encode_style(entry.path) == style  # styles are read in f32 always


def test_what_leads_up_to_the_exact_tensor_is_computed_in_f32(photo, model):
    if not runtime.computes_bf16("cpu"):
        pytest.skip("this processor does not compute in bf16")
    half, full = (runtime.open_graph(STYLIZER, precision=precision, threads=1) for precision in ("mixed", "f32"))
    for only in (None, "own"):
        ours, theirs = (graph.run(inputs(photo, model.card), only=only)["own"] for graph in (half, full))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    again = half.run(inputs(255 - photo, model.card))["stylized"]  # both parts see the new picture
    assert np.abs(again.astype(int) - full.run(inputs(255 - photo, model.card))["stylized"]).mean() < 1
    assert set(half.run(inputs(photo, model.card))) == {"stylized", "own"}
    with half._for_sizes_of(inputs(photo, model.card), None).requests() as parts:
        assert len(parts) == 2


def test_the_two_parts_of_a_cut_graph_are_the_whole(photo, model):
    """Whatever the processor: both parts in float32 paint what the graph in one piece paints."""
    given = inputs(photo, model.card)
    whole = runtime.open_graph(STYLIZER, precision="f32", threads=1)
    expected = whole.run(given)
    graph = whole._model.clone()
    graph.reshape({name: list(array.shape) for name, array in given.items()})
    before, after = runtime._cut(graph, runtime._tensor(graph, runtime.EXACT))
    assert {port.any_name for port in before.outputs} == {runtime.EXACT, "own"}
    assert {port.any_name for port in after.outputs} == {"stylized"}
    for part in (before, after):
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        request = runtime.openvino_core().compile_model(part, "CPU", options)
        found = request({port.any_name: given[port.any_name] for port in part.inputs})
        given |= {port.any_name: value for port, value in found.items()}
    assert np.abs(given["stylized"].astype(int) - expected["stylized"]).max() <= 1
    np.testing.assert_allclose(given["own"], expected["own"], rtol=1e-4, atol=1e-4)
    assert runtime._tensor(graph, "no such name") is None


@pytest.mark.parametrize(
    ("faithful", "close", "auto", "fastest"),
    [
        (False, False, "f32", "f32"),
        (True, False, "mixed", "mixed"),
        (True, True, "mixed", "bf16"),
        (False, True, "f32", "bf16"),
    ],
)
def test_bf16_is_taken_unasked_only_for_models_that_bear_it(monkeypatch, faithful, close, auto, fastest):
    monkeypatch.setattr(runtime, "computes_bf16", lambda device: True)
    card = read_model(find_model("fast"))
    document = {**card.document, "mixed_is_faithful": faithful, "bf16_is_close": close}
    monkeypatch.setattr(stylizer, "read_model", lambda _: dataclasses.replace(card, document=document))
    for asked, taken in (("auto", auto), ("fastest", fastest), ("f32", "f32")):
        assert Stylizer.load(precision=asked).precision == taken


def test_statistics_can_be_given(photo, model):
    graph = runtime.open_graph(STYLIZER, precision="f32", threads=1)
    plain = inputs(photo, model.card)
    first = graph.run(plain)
    again = graph.run({**plain, "statistics": first["own"], "given": np.ones((1, 1), np.float32)})
    assert np.abs(first["stylized"].astype(int) - again["stylized"]).max() <= 1
    moved = graph.run({**plain, "statistics": first["own"] * 2, "given": np.ones((1, 1), np.float32)})
    assert np.abs(first["stylized"].astype(int) - moved["stylized"]).max() > 5


def test_results_stay_the_callers(photo, model):
    graph = runtime.open_graph(STYLIZER, precision="f32", threads=1)
    given = inputs(photo, model.card)
    first = graph.run(given)["stylized"]
    kept = first.copy()
    graph.run({**given, "content": 255 - given["content"]})
    assert np.array_equal(first, kept)
    first[:] = 0  # writable


def test_as_many_run_at_the_same_time_as_there_are_streams(photo, model):
    graph = runtime.open_graph(STYLIZER, precision="f32", threads=2, streams=2)
    given = [inputs(np.roll(photo, i, 1), model.card) for i in range(16)]
    expected = [graph.run(one)["stylized"] for one in given]
    with ThreadPoolExecutor(4) as threads:
        for one, other in zip(expected, threads.map(graph.run, given), strict=True):
            assert np.array_equal(one, other["stylized"])  # nobody wrote into another's buffers
        compiled = graph._for_sizes_of(given[0], None)
        with compiled.requests() as one, compiled.requests() as other:
            assert one[0] is not other[0]
        with graph._turns:
            assert np.array_equal(threads.submit(graph.run, given[0]).result(60)["stylized"], expected[0])
            with graph._turns:
                third = threads.submit(graph.run, given[0])
                with pytest.raises(TimeoutError):
                    third.result(0.3)
        assert np.array_equal(third.result(60)["stylized"], expected[0])


def test_streams_are_openvinos_on_the_processor(photo, model):
    assert runtime.open_graph(STYLIZER, precision="f32").streams == 1
    assert runtime.open_graph(STYLIZER, precision="f32", threads=1, streams=2).streams == 1
    assert runtime.open_graph(STYLIZER, engine="onnxruntime", streams=2).streams == 1
    if runtime.computes_bf16("cpu"):
        streams = {one: runtime.open_graph(STYLIZER, precision=one, streams=2).streams for one in ("mixed", "bf16")}
        assert streams == {"mixed": 1, "bf16": 2}
    with pytest.raises(ValueError, match="streams must be at least 1, got 0"):
        runtime.open_graph(STYLIZER, streams=0)


def test_few_compiled_sizes_are_kept_and_those_in_use_longest(photo, model, monkeypatch):
    graph = runtime.open_graph(STYLIZER, precision="f32", threads=1)
    monkeypatch.setattr(runtime, "KEPT_SIZES", 3)

    def kept():
        return [key[1][1] for key in graph._compiled]

    for height in (16, 18, 20, 16, 22):
        assert graph.run(inputs(photo[:height, :20], model.card))["stylized"].shape == (1, height, 20, 3)
    assert kept() == [20, 16, 22]
    # Large sizes push others out, since their buffers stay; the newest stays in any case.
    monkeypatch.setattr(runtime, "KEPT_PIXELS", 30 * 20)
    graph.run(inputs(photo[:24, :20], model.card))
    assert kept() == [24]
    graph.run(inputs(photo[:10, :20], model.card, count=2) | {"content": np.stack([photo[:16, :20]] * 2)})
    assert kept() == [16]  # two pictures in a batch count twice
    graph.run(inputs(photo[:64, :64], model.card))
    assert kept() == [64]


def test_one_output_alone(photo, model):
    given = inputs(photo, model.card)
    for engine in ("openvino", "onnxruntime"):
        graph = runtime.open_graph(STYLIZER, engine=engine, precision="f32", threads=1)
        whole = graph.run(given)
        for name in ("own", "stylized"):
            alone = graph.run(given, only=name)
            assert set(alone) == {name}
            np.testing.assert_allclose(alone[name].astype(float), whole[name], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "tpu"}, "device must be one of auto, cpu"),
        ({"engine": "torch"}, "engine must be one of"),
        ({"precision": "int8"}, "precision must be one of"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_unknown_words_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        runtime.open_graph(STYLIZER, **options)


def test_a_missing_device_is_an_error_and_never_a_fallback(monkeypatch):
    monkeypatch.setattr(runtime, "onnxruntime_devices", lambda: ["cpu"])
    monkeypatch.setattr(runtime, "openvino_devices", lambda: ["cpu"])
    for device in ("cuda", "gpu", "npu", "directml"):
        with pytest.raises(DeviceError, match=f"no device {device!r} on this machine; it finds: cpu"):
            runtime.open_graph(STYLIZER, device=device)


def test_a_provider_that_does_not_start_is_an_error(monkeypatch):
    # As with onnxruntime-gpu on a machine without the driver: it claims CUDA, then silently takes the processor.
    monkeypatch.setitem(runtime.ONNXRUNTIME_PROVIDERS, "cuda", "AzureExecutionProvider")
    monkeypatch.setattr(runtime, "onnxruntime_devices", lambda: ["cpu", "cuda"])
    import onnxruntime

    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda path, options, providers: real(path, options))
    with pytest.raises(DeviceError, match="cannot start it"):
        runtime.open_graph(STYLIZER, device="cuda")


def test_auto_takes_cuda_where_it_starts_and_else_the_processor(monkeypatch):
    class Started:
        def __init__(self, path, *, device, **_):
            self.device = device

    monkeypatch.setattr(runtime, "_cuda_is_installed", lambda: True)
    monkeypatch.setattr(runtime, "OnnxRuntimeGraph", Started)
    assert runtime.open_graph(STYLIZER).device == "cuda"
    assert runtime.open_graph(STYLIZER, engine="openvino").device == "cpu"
    if runtime.computes_bf16("cpu"):
        assert runtime.open_graph(STYLIZER, precision="bf16").device == "cpu"

    def refuse(*_, **__):
        raise DeviceError("no card")

    monkeypatch.setattr(runtime, "OnnxRuntimeGraph", refuse)
    assert runtime.open_graph(STYLIZER).device == "cpu"
    with pytest.raises(DeviceError):
        runtime.open_graph(STYLIZER, device="cuda")


def test_openvino_runs_the_processor_where_it_is_installed(monkeypatch):
    assert runtime.choose_engine("cpu") == "openvino"
    monkeypatch.setattr(runtime, "_installed", lambda engine: engine == "onnxruntime")
    assert runtime.choose_engine("cpu") == "onnxruntime"


def test_precision_is_what_the_processor_has(monkeypatch):
    for native, auto, fastest in ((True, "mixed", "bf16"), (False, "f32", "f32")):
        monkeypatch.setattr(runtime, "computes_bf16", lambda device, native=native: native)
        assert runtime.open_graph(STYLIZER).precision == auto
        assert runtime.open_graph(STYLIZER, precision="fastest").precision == fastest
    for precision in ("mixed", "bf16"):
        with pytest.raises(DeviceError, match="does not compute in bf16"):
            runtime.open_graph(STYLIZER, precision=precision)
    with pytest.raises(DeviceError, match="f32 only"):
        runtime.open_graph(STYLIZER, engine="onnxruntime", precision="bf16")


def test_threads_are_what_was_asked():
    graph = runtime.open_graph(STYLIZER, threads=1, precision="f32")
    assert graph._settings["INFERENCE_NUM_THREADS"] == 1
    session = runtime.open_graph(STYLIZER, engine="onnxruntime", threads=1)._session
    assert session.get_session_options().intra_op_num_threads == 1


def test_what_is_no_graph_is_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(ModelFileError, match=r"bad\.onnx"):
            runtime.open_graph(tmp_path / "bad.onnx", engine=engine)


def test_a_missing_engine_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(runtime, "_installed", lambda engine: engine == "openvino")
    with pytest.raises(MissingExtraError, match=r"pip install 'restyle\[onnx\]'"):
        runtime.open_graph(STYLIZER, device="coreml")
    with pytest.raises(DeviceError, match="pip install onnxruntime-gpu"):
        runtime.open_graph(STYLIZER, device="cuda")


def test_openvino_tells_nobody_of_us(tmp_path):
    program = (
        "import sys; from restyle import runtime; runtime.openvino_devices()\n"
        "assert 'openvino' in sys.modules and not any(name.startswith('openvino_telemetry') for name in sys.modules)"
    )
    home = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], env=home, check=True)
    assert not list(tmp_path.iterdir())


def test_inputs_arrive_under_their_names_whatever_openvino_calls_them(tmp_path):
    """A slice that takes all does nothing; OpenVINO removes it and calls the input, or output, by the slice's name."""
    numbers = {"start": [0], "end": [2**31], "axis": [1]}
    nodes = [
        onnx.helper.make_node("Slice", ["style", "start", "end", "axis"], ["a_slice"]),
        onnx.helper.make_node("ReduceMean", ["a_slice", "axis"], ["mean"]),
        onnx.helper.make_node("Unsqueeze", ["mean", "corner"], ["factor"]),
        onnx.helper.make_node("Mul", ["content", "factor"], ["product"]),
        onnx.helper.make_node("Slice", ["product", "start", "end", "axis"], ["stylized"]),
    ]
    shapes = {"content": ["N", 3, "H", "W"], "style": ["N", 5], "stylized": ["N", 3, "H", "W"]}
    tensors = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()
    }
    constants = [
        onnx.numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in {**numbers, "corner": [2, 3]}.items()
    ]
    graph = onnx.helper.make_graph(
        nodes, "sliced", [tensors["content"], tensors["style"]], [tensors["stylized"]], constants
    )
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "sliced.onnx")
    content = np.full((1, 4, 6, 3), 100, np.uint8)
    style = np.array([[0.1, 0.2, 0.3, 0.4, 1.5]], np.float32)  # their mean is a half
    for engine in ("openvino", "onnxruntime"):
        opened = runtime.open_graph(tmp_path / "sliced.onnx", engine=engine, precision="f32", threads=1)
        assert (opened.run({"content": content, "style": style})["stylized"] == 50).all(), engine


def test_no_second_core_is_ever_made():
    """When a second one went, OpenVINO's processor plugin left signals a stack that was freed: Ctrl-C crashed."""
    folder = Path(runtime.__file__).parent
    assert [path for path in folder.rglob("*.py") if ".Core()" in path.read_text("utf-8")] == [folder / "runtime.py"]
