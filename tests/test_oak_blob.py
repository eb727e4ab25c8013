"""What is compiled for the OAK-1's chip, without the camera: the blob, the compiler and its download, the command."""

import json
import os
import platform
import re
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from restyle.errors import ExportError
from restyle.export.oak import compiler as myriad
from restyle.export.oak import export as oak
from restyle.export.oak.blob import STAGES, Port, read_blob
from restyle.export.onnx_graph import export_model
from restyle.weights import read_model
from tiny import CHIP_SIZE, TinyModel

pytestmark = pytest.mark.torch
COMPILER = myriad.compiler_folder()  # where a user's lies; the tests' own cache is empty


@pytest.fixture(scope="module")
def compiler_at_hand():
    if not (COMPILER / "myriad_compile").is_file():
        pytest.skip("the compiler for Myriad X is not in the cache; 'restyle export fast --to oak -o DIR' fetches it")
    return COMPILER / "myriad_compile"


@pytest.fixture
def compiler(compiler_at_hand, private_cache):
    (private_cache / COMPILER.name).symlink_to(COMPILER)
    return compiler_at_hand


@pytest.fixture(scope="module")
def blob(chip_graph, compiler_at_hand, tmp_path_factory):
    path = tmp_path_factory.mktemp("blob") / "one.blob"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTYLE_CACHE", str(COMPILER.parent))
        myriad.compile_blob(chip_graph, path, shaves=6)
    return path


# --- the blob


def test_the_blob_is_what_was_asked_for_and_always_the_same(chip_graph, blob, compiler, tmp_path):
    found = read_blob(blob)
    oak.check_blob(found, CHIP_SIZE, TinyModel().stylizer.style_size, 6)
    assert found.stages[STAGES[38]] >= 8 and STAGES[0] not in found.stages and STAGES[8] not in found.stages
    assert found.stages[STAGES[62]] == 1  # statistics are one stage, which subtracts before it squares
    assert found.working_memory > 3 * 2 * CHIP_SIZE[0] * CHIP_SIZE[1]
    myriad.compile_blob(chip_graph, tmp_path / "two.blob", shaves=6)
    assert (tmp_path / "two.blob").read_bytes() == blob.read_bytes()


def test_fewer_vector_processors(chip_graph, compiler, tmp_path):
    myriad.compile_blob(chip_graph, tmp_path / "four.blob", shaves=4)
    found = read_blob(tmp_path / "four.blob")
    assert (found.shaves, found.cmx_slices) == (4, 4)
    with pytest.raises(ValueError, match="shaves must lie between 1 and 8, got 9"):
        myriad.compile_blob(chip_graph, tmp_path / "nine.blob", shaves=9)


def test_the_compilers_silent_trap_is_seen(chip_graph, compiler, tmp_path):
    """Its -ip U8 overrules -iop: the styles become bytes, and it exits with 0."""
    command = [compiler, "-m", chip_graph, "-o", tmp_path / "bytes.blob", "-ip", "U8", "-op", "FP16",
               "-iop", "style:FP16,strength:FP16", "-VPU_NUMBER_OF_SHAVES", "6",
               "-VPU_NUMBER_OF_CMX_SLICES", "6"]  # fmt: skip
    environment = {**os.environ, "LD_LIBRARY_PATH": str(compiler.parent)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    found = read_blob(tmp_path / "bytes.blob")
    assert found.inputs["style"].type == "U8"
    with pytest.raises(ExportError, match="the compiled inputs are"):
        oak.check_blob(found, CHIP_SIZE, TinyModel().stylizer.style_size, 6)


def test_a_blob_that_is_something_else_is_refused(blob):
    found = read_blob(blob)
    numbers = TinyModel().stylizer.style_size
    wrong = [
        (replace(found, inputs={**found.inputs, "image": Port("FP16", (1, 3, *CHIP_SIZE))}), "inputs"),
        (replace(found, outputs={}), "outputs"),
        (replace(found, shaves=5), "5 vector processors"),
        (replace(found, stages={**found.stages, STAGES[0]: 2}), "2 stages are a convolution in software"),
    ]
    for changed, sentence in wrong:
        with pytest.raises(ExportError, match=sentence):
            oak.check_blob(changed, CHIP_SIZE, numbers, 6)


def test_a_blob_that_is_not_whole_is_refused(blob, tmp_path):
    data = blob.read_bytes()
    for number, broken in enumerate((b"", b"PK" * 100, data[:70], data[:-100], data + b"\0")):
        (tmp_path / f"{number}.blob").write_bytes(broken)
        with pytest.raises(ExportError, match="not a whole blob"):
            read_blob(tmp_path / f"{number}.blob")


def empty_blob(version):
    """A header and nothing else: no ports, no stages."""
    header = [0] * 20
    header[:3] = 9709, 80, version
    return struct.pack("<20I", *header)


def test_only_the_known_version_of_the_format_is_read(tmp_path):
    (tmp_path / "six.blob").write_bytes(empty_blob(6))
    assert read_blob(tmp_path / "six.blob").stages == {}
    for version in (5, 7):
        (tmp_path / "other.blob").write_bytes(empty_blob(version))
        with pytest.raises(ExportError, match=f"version {version} of the format is not known"):
            read_blob(tmp_path / "other.blob")


def test_a_graph_that_the_compiler_refuses(compiler, tmp_path):
    (tmp_path / "no.onnx").write_bytes(b"nothing")
    with pytest.raises(ExportError, match=r"the compiler for Myriad X refuses the graph: ."):
        myriad.compile_blob(tmp_path / "no.onnx", tmp_path / "no.blob", shaves=6)


def test_a_compiler_that_writes_nothing_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(myriad, "fetch_compiler", lambda: tmp_path / "myriad_compile")
    monkeypatch.setattr(myriad, "_run", lambda *_: subprocess.CompletedProcess([], 0, "", ""))
    (tmp_path / "old.blob").write_bytes(b"of an earlier graph")
    with pytest.raises(ExportError, match="refuses the graph: exit code 0"):
        myriad.compile_blob(tmp_path / "graph.onnx", tmp_path / "old.blob", shaves=6)


def test_depthai_2_takes_the_blob_into_a_camera_pipeline(blob, tmp_path):
    python = os.environ.get("RESTYLE_DEPTHAI2_PYTHON")
    if not python:
        pytest.skip("set RESTYLE_DEPTHAI2_PYTHON to the python of an environment with depthai 2")
    program = """
import json, sys
import depthai as dai
def build(version):
    pipeline = dai.Pipeline()
    pipeline.setOpenVINOVersion(version)
    kinds = (dai.node.ColorCamera, dai.node.NeuralNetwork, dai.node.XLinkOut)
    camera, network, out = map(pipeline.create, kinds)
    camera.setPreviewSize(96, 64); camera.setInterleaved(False)
    camera.setColorOrder(dai.ColorCameraProperties.ColorOrder.RGB)
    network.setBlobPath(sys.argv[1]); network.setNumInferenceThreads(2)
    camera.preview.link(network.inputs["image"])
    for name in ("style", "strength"):
        given = pipeline.create(dai.node.XLinkIn); given.setStreamName(name)
        given.out.link(network.inputs[name]); network.inputs[name].setReusePreviousMessage(True)
    out.setStreamName("stylized"); network.out.link(out.input)
    pipeline.getRequiredOpenVINOVersion()  # refuses a network that does not fit
    document = pipeline.serializeToJson()
    del document["assetStorage"]
    return document
versions = dai.OpenVINO.Version
refused = False
try:
    build(versions.VERSION_2020_3)
except RuntimeError as error:
    refused = "isn't compatible" in str(error)
print(json.dumps([build(versions.VERSION_2021_3), refused]))
"""
    done = subprocess.run([python, "-c", program, blob], capture_output=True, text=True, check=True)
    document, refused = json.loads(done.stdout.splitlines()[-1])
    assert refused  # a runtime that does not know the format: the check is a real one
    nodes = {node["name"]: node for _, node in document["pipeline"]["nodes"]}
    waits = {one[0][1]: one[1]["waitForMessage"] for one in nodes["NeuralNetwork"]["ioInfo"]}
    assert waits["style"] is False and waits["strength"] is False
    sizes = [one[1]["size"] for one in document["assets"]["map"].items() if "blob" in one[0]]
    assert sizes == [blob.stat().st_size]


# --- the compiler's download


@pytest.fixture
def on_linux(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def test_no_compiler_can_be_had(on_linux, monkeypatch, private_cache):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: slow\nERROR: no route to the index\n")
    monkeypatch.setattr(myriad, "_run", lambda *_: failed)
    with pytest.raises(
        ExportError, match=r"pip cannot download openvino==2021\.3\.0.*no route to the index.*docs/oak\.md"
    ):
        myriad.fetch_compiler()
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    with pytest.raises(ExportError, match="on Linux on x86-64 only"):
        myriad.fetch_compiler()
    assert not list(private_cache.iterdir())


def test_what_was_downloaded_is_checked_and_put_in_place(on_linux, monkeypatch, private_cache):
    asked = []

    def download(command, environment=None):
        target = command[command.index("--dest") + 1]
        target.mkdir()
        asked.append(command)
        with zipfile.ZipFile(target / "one.whl", "w") as wheel:
            for name in ("openvino/libs/myriad_compile", "openvino/libs/libMKLDNNPlugin.so", "openvino/other.py",
                         "libusb_package/libusb-1.0.so"):  # fmt: skip
                wheel.writestr(name, name)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(myriad, "_run", download)
    with pytest.raises(ExportError, match=r"one\.whl is not the file that was tried"):
        myriad.fetch_compiler()
    assert not list(private_cache.iterdir())
    monkeypatch.setattr(myriad, "file_sha256", lambda path: myriad.WHEELS[asked[-1][-1]])
    program = myriad.fetch_compiler()
    assert program.parent == myriad.compiler_folder() and os.access(program, os.X_OK)
    assert {path.name for path in program.parent.iterdir()} == {"myriad_compile", "libusb-1.0.so.0"}
    before = len(asked)
    assert myriad.fetch_compiler() == program and len(asked) == before
    program.unlink()  # caches are tidied file by file
    assert myriad.fetch_compiler() == program and program.is_file()
    assert [path.name for path in private_cache.iterdir()] == [program.parent.name]


# --- the whole


@pytest.fixture
def card(tiny_model, tmp_path):
    export_model(tiny_model, tmp_path / "model", card={"name": "tiny", "version": "0.0.1", "licence": "MIT"})
    return read_model(tmp_path / "model")


def test_the_command_writes_a_folder_that_depthai_reads(card, compiler, tmp_path, run):
    dai = pytest.importorskip("depthai", reason="pip install 'restyle[oak]'")
    pytest.importorskip("luxonis_ml.nn_archive", reason="pip install 'restyle[oak]'")
    target = tmp_path / "chip"
    words = ("--to", "oak", "--size", "64x96", "--shaves", "5", "--licence", "CC0", "-o", target)
    code, out, err = run("export", tmp_path / "model", *words)
    assert code == 0, err
    assert re.search(r"by at most 0\.0\d of 255 on photographs", out) and "5 vector processors" in out
    assert {path.name for path in target.iterdir()} == {oak.GRAPH, oak.BLOB, oak.ARCHIVE, oak.REPORT}
    report = json.loads((target / oak.REPORT).read_text())
    assert (report["model"], report["size"], report["blob"]["shaves"]) == (card.identity, [64, 96], 5)
    assert (report["name"], report["licence"]) == ("tiny", "CC0")
    assert report["parity"]["max_difference"] < 1 / 255

    numbers = card.style_size
    compiled = dai.OpenVINO.Blob(str(target / oak.BLOB))
    kinds = {name: (port.dataType.name, list(port.dims)) for name, port in compiled.networkInputs.items()}
    assert kinds["image"] == ("U8F", [96, 64, 3, 1])
    assert kinds["strength"][0] == kinds["style"][0] == "FP16" and np.prod(kinds["style"][1]) == numbers
    assert compiled.numShaves == 5 and compiled.stageCount == sum(report["blob"]["stages"].values())
    archive = dai.NNArchive(str(target / oak.ARCHIVE))
    model = archive.getConfig().model
    assert (archive.getModelType().name, tuple(archive.getInputSize())) == ("BLOB", (96, 64))
    assert {one.name: (one.dtype.name, list(one.shape)) for one in model.inputs} == {
        "image": ("UINT8", [1, 3, 64, 96]),
        "style": ("FLOAT16", [1, numbers, 1, 1]),
        "strength": ("FLOAT16", [1, 1, 1, 1]),
    }
    assert model.inputs[0].preprocessing.daiType == "RGB888p"
    assert set(kinds) == {one.name for one in model.inputs} and model.metadata.name == card.identity


def test_a_failed_export_leaves_nothing(card, tmp_path, monkeypatch, tiny_model):
    monkeypatch.setattr(oak, "compile_blob", lambda *_, **__: (_ for _ in ()).throw(ExportError("no compiler")))
    with pytest.raises(ExportError):
        oak.export_oak(tiny_model, tmp_path / "chip", card=card)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_the_compiler_made_is_looked_at(card, tmp_path, monkeypatch, tiny_model):
    monkeypatch.setattr(oak, "compile_blob", lambda _, blob, **__: blob.write_bytes(empty_blob(6)))
    with pytest.raises(ExportError, match="the compiled inputs are"):
        oak.export_oak(tiny_model, tmp_path / "chip", card=card, size=CHIP_SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("levels", "accepted"), [(0.5, True), (1.5, False)])
def test_a_graph_a_whole_level_away_from_the_network_is_not_written(
    card, tmp_path, monkeypatch, tiny_model, levels, accepted
):
    other = TinyModel().eval()
    with torch.no_grad():
        other.stylizer.out.bias += levels / 255
    write = oak.write_oak_graph
    monkeypatch.setattr(oak, "write_oak_graph", lambda _, path, **given: write(other.stylizer, path, **given))
    if accepted:
        report = oak.export_oak(tiny_model, tmp_path / "chip", card=card, size=CHIP_SIZE, graph_only=True)
        assert 255 * report["parity"]["max_difference"] == pytest.approx(levels, abs=0.05)
        return
    with pytest.raises(RuntimeError, match=r"differs from torch by 1\.50 of 255"):
        oak.export_oak(tiny_model, tmp_path / "chip", card=card, size=CHIP_SIZE, graph_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_checkpoint_is_first_made_a_model(tmp_path, run, monkeypatch):
    from restyle.cli import export

    monkeypatch.setattr(export, "_read", lambda *_: (TinyModel(), {}, None))
    code, _, err = run("export", "some.pt", "--to", "oak", "-o", tmp_path / "chip")
    assert code == 2 and "export the checkpoint to onnx first" in err


def test_extras_and_shaves_are_looked_at_before_the_compiler_is_fetched(card, tmp_path, run, monkeypatch):
    monkeypatch.setattr(myriad, "fetch_compiler", lambda: pytest.fail("too early"))
    words = ("export", tmp_path / "model", "--to", "oak", "--size", "64x96", "-o", tmp_path / "chip")
    code, _, err = run(*words, "--shaves", "0")
    assert code == 2 and "shaves must lie between 1 and 8, got 0" in err
    monkeypatch.delitem(sys.modules, "restyle.export.oak.export")
    monkeypatch.setitem(sys.modules, "luxonis_ml.nn_archive", None)
    code, _, err = run(*words)
    assert code == 7 and err.count("\n") == 1 and "restyle[train,oak]" in err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_a_compiler_the_command_says_what_to_do(card, tmp_path, run, monkeypatch, on_linux):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no route\n")
    monkeypatch.setattr(myriad, "_run", lambda *_: failed)
    code, _, err = run("export", tmp_path / "model", "--to", "oak", "--size", "64x96", "-o", tmp_path / "chip")
    assert code == 8 and err.count("\n") == 1 and "--graph-only" in err and "docs/oak.md" in err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    words = ("export", tmp_path / "model", "--to", "oak", "--size", "64x96", "--graph-only", "-o", tmp_path / "chip")
    code, out, err = run(*words)
    assert (code, err) == (0, "") and "multiply-adds" in out and "stages" not in out
    assert {path.name for path in (tmp_path / "chip").iterdir()} == {oak.GRAPH, oak.REPORT}
