"""The OAK-1 as a camera: a file and this computer in place of lens and chip; every call to the chip written down."""

import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from clips import panned, write_clip
from restyle.cli.chip import is_chip
from restyle.errors import MissingExtraError, ModelFileError, VideoError
from restyle.image import write_image
from restyle.stylizer import Style
from restyle.video import oak
from restyle.video.camera import StyleSwitch
from restyle.video.reader import Frame, VideoReader

dai = pytest.importorskip("depthai", reason="pip install 'restyle[oak]'", exc_type=ImportError)

SIZE = (64, 80)


@pytest.fixture
def clip(tmp_path):
    """Ten times the same picture, 96 wide and 64 high."""
    return write_clip(tmp_path / "in.mp4", [panned(1)[0]] * 10, rate=25)


def after_a_change(camera, number):
    """The first picture for which a frame was taken after now."""
    now = time.monotonic()
    while (shot := camera.newest(number)).taken < now:
        number = shot.number
    return shot.pixels.astype(int), camera.newest(shot.number).number


def test_replayed_frames_are_painted_and_steered_while_they_run(clip, model, wave, mosaic):
    strength = [0.0]
    with oak.OakCamera(f"replay:{clip}", model, StyleSwitch([wave]), strength=0.0, size=SIZE) as camera:
        first = camera.newest()
        assert first.pixels.shape == (*SIZE, 3) and first.pixels.dtype == np.uint8
        live = camera.painted(lambda: strength[0])
        numbers = [next(live) for _ in range(3)]
        assert all(one.skipped >= 0 and 0 <= one.latency < 10 and one.side == 64 for one in numbers)
        plain, number = after_a_change(camera, first.number)
        strength[0] = 1.0
        waved, number = after_a_change(camera, number)
        camera._styles = StyleSwitch([mosaic])
        tiled, number = after_a_change(camera, number)
        camera.mirror = True
        mirrored, _ = after_a_change(camera, number)
    with VideoReader(clip) as reader:
        frame = next(one.pixels for one in reader if isinstance(one, Frame))
    middle = frame[:, 8:88].astype(int)  # of 64x96, what fits 64x80
    assert np.abs(plain - middle).mean() < 3
    # The chip's style has half precision, and so it has here. Decoded pictures of a film differ a little.
    for style, painted in ((wave, waved), (mosaic, tiled)):
        rounded = Style(style.vector.astype(np.float16).astype(np.float32), style.model)
        wanted = model.paint(plain.astype(np.uint8)[None], rounded)[0][0].astype(int)
        assert np.abs(painted - wanted).mean() < 1.5
    assert np.abs(waved - tiled).mean() > 5 < np.abs(waved - plain).mean()
    assert np.abs(mirrored - tiled[:, ::-1]).mean() < 1.5 < np.abs(mirrored - tiled).mean()


def test_the_time_that_painting_takes_is_told(clip, model, wave, monkeypatch):
    paint = model.paint

    def slow(*given):
        time.sleep(0.3)
        return paint(*given)

    monkeypatch.setattr(model, "paint", slow)
    with oak.OakCamera(f"replay:{clip}", model, StyleSwitch([wave]), size=SIZE) as camera:
        began = time.monotonic()
        live = camera.painted()
        for one in (next(live), next(live)):
            # From when the frame was taken to when it is shown.
            assert 0.3 <= one.latency <= time.monotonic() - began + 0.1


def test_the_command_replays_to_standard_output_and_to_a_file(clip, tmp_path):
    command = [
        sys.executable,
        "-m",
        "restyle",
        "camera",
        "--source",
        f"replay:{clip}",
        "--style",
        "wave",
        "--size",
        "64",
    ]
    command += ["-o", "stdout", "--record", tmp_path / "out.mp4", "--seconds", "1", "--precision", "f32"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    pictures, rest = divmod(len(done.stdout), 64 * 64 * 3)
    assert pictures > 1 and rest == 0  # DepthAI's log goes to standard output unless told otherwise
    with VideoReader(tmp_path / "out.mp4") as reader:
        frames = [one.pixels for one in reader if isinstance(one, Frame)]
    first = np.frombuffer(done.stdout[: 64 * 64 * 3], np.uint8).reshape(64, 64, 3)
    assert np.abs(frames[0].astype(int) - first).mean() < 8


def test_what_goes_to_the_chip_is_half_precision_and_finite():
    message = oak.to_message(dai, "style", np.linspace(-2, 2, 7, dtype=np.float32))
    assert message.getTensorInfo("style").dataType == dai.TensorInfo.DataType.FP16
    assert list(message.getTensorInfo("style").dims) == [1, 7, 1, 1]
    np.testing.assert_allclose(np.ravel(message.getTensor("style")), np.linspace(-2, 2, 7), atol=1e-3)
    for wrong in (np.inf, np.nan, 70000.0):
        with pytest.raises(ValueError, match="style holds"):
            oak.to_message(dai, "style", np.array([wrong], np.float32))


def test_what_comes_from_the_chip_is_not_stretched():
    planes = np.stack([np.full((2, 4), value, np.float16) for value in (-3.0, 99.6, 300.0)])[None]
    pixels = oak.to_pixels(planes, (2, 4))
    assert pixels.shape == (2, 4, 3) and pixels.dtype == np.uint8
    assert (pixels == [0, 100, 255]).all()
    assert (oak.to_pixels(planes.ravel(), (2, 4)) == pixels).all()  # as a flat list, which some versions give


class Written:
    """An object of DepthAI that only writes down what is called; a name that the real class lacks is an error."""

    def __init__(self, real, log, **parts):
        self.real, self.log, self.parts = real, log, parts

    def __getattr__(self, name):
        assert hasattr(self.real, name), f"{self.real.__name__} has no {name}"
        if name in self.parts:
            return self.parts[name]

        def call(*given, **named):
            known = getattr(self.real, name).__doc__ or ""
            assert all(f"{word}:" in known for word in named), f"{self.real.__name__}.{name} has no {named}"
            self.log.append((self, name, given, named))
            return self if name == "build" else SimpleNamespace(of=self, made_by=name)

        return call


def test_the_chips_pipeline_uses_what_depthai_has(tmp_path):
    log, made = [], {}
    inputs = {name: Written(dai.Node.Input, log) for name in ("image", "style", "strength")}
    frames, painted = Written(dai.Node.Output, log), Written(dai.Node.Output, log)

    class Pipeline:
        def create(self, kind):
            parts = {"inputs": inputs, "out": painted} if kind is dai.node.NeuralNetwork else {}
            made[kind] = Written(kind, log, **parts)
            if kind is dai.node.Camera:
                made[kind].parts["requestOutput"] = lambda *given, **named: (
                    log.append(("frames", given, named)) or frames
                )
            return made[kind]

    assert all(hasattr(dai.Pipeline, name) for name in ("create", "start", "stop", "wait"))
    module = SimpleNamespace(
        node=dai.node, ImgFrame=dai.ImgFrame, CameraBoardSocket=dai.CameraBoardSocket, NNArchive=lambda path: path
    )
    chip = oak.ChipModel(tmp_path / "stylizer.rvc2.tar.xz", (64, 96), "any")
    ports = oak.build_on_chip(module, Pipeline(), chip, fps=20)
    assert ("frames", ((96, 64),), {"type": dai.ImgFrame.Type.RGB888p, "fps": 20}) in log  # width before height
    assert all(f"{word}:" in dai.node.Camera.requestOutput.__doc__ for word in ("type", "fps"))
    calls = {(id(one[0]), one[1], *one[2]) for one in log if len(one) == 4}
    network = made[dai.node.NeuralNetwork]
    assert (id(made[dai.node.Camera]), "build", dai.CameraBoardSocket.CAM_A) in calls
    assert (id(network), "setNNArchive", str(chip.archive)) in calls
    assert (id(network), "setNumInferenceThreads", oak.INFERENCES) in calls
    assert (painted, "createOutputQueue", (), {"maxSize": 1, "blocking": False}) in log  # no old picture waits
    assert (id(frames), "link", inputs["image"]) in calls
    assert {(id(inputs["image"]), "setBlocking", False), (id(inputs["image"]), "setMaxSize", 1)} <= calls
    for name in ("style", "strength"):
        assert (id(inputs[name]), "setReusePreviousMessage", True) in calls
        assert getattr(ports, name).of is inputs[name] and getattr(ports, name).made_by == "createInputQueue"
    assert ports.painted.of is painted and ports.painted.made_by == "createOutputQueue"


def test_the_device_is_asked_for_with_the_compilers_runtime(monkeypatch):
    asked = []
    settings = SimpleNamespace()
    module = SimpleNamespace(
        OpenVINO=dai.OpenVINO,
        Device=SimpleNamespace(Config=lambda: settings),
        Pipeline=lambda device: asked.append(device) or "pipeline",
    )
    module.Device = type("Device", (), {"Config": staticmethod(lambda: settings), "__new__": lambda cls, one: one})
    assert oak.open_device(module) == "pipeline"
    assert asked == [settings] and settings.version == dai.OpenVINO.Version.VERSION_2021_3
    assert hasattr(dai.Device.Config(), "version")


@pytest.fixture
def chip(tmp_path, model):
    folder = tmp_path / "chip"
    folder.mkdir()
    (folder / "stylizer.rvc2.tar.xz").write_bytes(b"never read")
    (folder / "export.json").write_text(json.dumps({"size": [64, 96], "model": model.card.identity}))
    return folder


def test_folders_that_are_none_or_of_another_model(chip, tmp_path, model, wave):
    assert oak.ChipModel.read(chip).size == (64, 96)
    for damage in ("{}", "no", '{"size": 3, "model": "x"}', json.dumps({"size": [64, 96], "model": "other-123"})):
        (chip / "export.json").write_text(damage)
        with pytest.raises(ModelFileError):
            oak.OakCamera(f"oak:{chip}", model, StyleSwitch([wave]))
    with pytest.raises(ModelFileError, match="was not written by"):
        oak.ChipModel.read(tmp_path / "nowhere")
    (chip / "stylizer.rvc2.tar.xz").unlink()
    (chip / "export.json").write_text(json.dumps({"size": [64, 96], "model": model.card.identity}))
    with pytest.raises(ModelFileError, match="is missing"):
        oak.ChipModel.read(chip)


@pytest.fixture
def no_camera(monkeypatch):
    monkeypatch.setenv("DEPTHAI_SEARCH_TIMEOUT", "10")
    if dai.Device.getAllAvailableDevices():
        pytest.skip("a camera is connected")


def test_no_camera_is_one_sentence(chip, model, wave, no_camera):
    with pytest.raises(VideoError, match="cannot be used: No available devices"):
        oak.OakCamera(f"oak:{chip}", model, StyleSwitch([wave]))


def test_files_that_cannot_be_replayed(tmp_path, model, wave):
    (tmp_path / "text.mp4").write_text("no video")
    write_image(tmp_path / "photo.png", np.zeros((64, 64, 3), np.uint8))
    for name in ("no.mp4", "text.mp4", "photo.png", ""):
        with pytest.raises(VideoError, match=str(tmp_path / name)):
            oak.OakCamera(f"replay:{tmp_path / name}", model, StyleSwitch([wave]))


def test_without_depthai_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "depthai", None)
    with pytest.raises(MissingExtraError, match=r"restyle\[oak\]"):
        oak.import_depthai()
    monkeypatch.setitem(sys.modules, "depthai", SimpleNamespace())
    with pytest.raises(MissingExtraError, match="version 3"):
        oak.import_depthai()


def test_without_a_camera_nothing_is_exported(private_cache, run, no_camera):
    code, _, err = run("camera", "--source", "oak", "--style", "wave", "-o", "none", "--precision", "f32")
    assert (code, err.count("\n")) == (3, 1) and "the camera 'oak' cannot be used: no OAK camera is connected" in err
    assert not (private_cache / "oak").exists()


def test_plain_oak_exports_the_model_once(private_cache, model, run, monkeypatch, no_camera):
    pytest.importorskip("torch")
    from restyle.export import network
    from restyle.export.oak import export as exporting

    exported = []

    def export_oak(_network, folder, *, card, size):
        exported.append((folder.name, size))
        folder.mkdir()
        (folder / "stylizer.rvc2.tar.xz").touch()
        (folder / "export.json").write_text(json.dumps({"size": size, "model": card.identity}))

    monkeypatch.setattr(network, "read_network", lambda folder: ("network", model.card))
    monkeypatch.setattr(exporting, "export_oak", export_oak)
    monkeypatch.setattr(oak, "require_camera", lambda _source: None)  # one was there, and has gone
    for _ in range(2):
        code, _, err = run("camera", "--source", "oak", "--style", "wave", "-o", "none", "--precision", "f32")
        assert code == 3 and "No available devices" in err
    assert exported == [(f"{model.card.identity}-256x256", (256, 256))]
    assert (private_cache / "oak" / exported[0][0] / "export.json").is_file()


def test_a_file_named_like_the_chip_wins_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oak").mkdir()
    assert is_chip("oak") and is_chip("oak:painter") and is_chip("replay:oak.mp4")
    (tmp_path / "oak:1.mp4").touch()
    assert not is_chip("oak:1.mp4") and not is_chip("0") and not is_chip("rtsp://oak/stream")


def test_the_cameras_size_is_the_exports(run):
    code, _, err = run("camera", "oak:painter", "--style", "wave", "-o", "none", "--size", "64", "--precision", "f32")
    assert code == 2 and "fixed by restyle export" in err
