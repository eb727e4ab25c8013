"""What all tests share: a private cache, small pictures, the bundled model."""

import contextlib
import shutil
import signal
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from restyle import gallery
from restyle.cli import main
from restyle.controls.people import person_model
from restyle.image import encode_image, read_image, resize, write_image
from restyle.stylizer import Style, Stylizer

# Machines are shared and slow at times: a law is not broken by taking long. Nothing is left behind on the disk.
hypothesis.settings.register_profile("restyle", deadline=None, database=None)
hypothesis.settings.load_profile("restyle")

PERSON_MODEL = person_model()  # of whoever runs the tests; inside them the cache is another

# A shell's background jobs ignore Ctrl-C, and so would the programs that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """torch's threads wait by spinning: with two of them, any other busy process makes the tests ten times slower."""
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_handler_for_ended_children():
    """torch's readers leave a handler for SIGCHLD behind; the end of a later test's program then crashed all tests."""
    yield
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("RESTYLE_CACHE", str(folder))
    return folder


@pytest.fixture
def finds_people(private_cache):
    """The network that finds people is in the private cache."""
    if not PERSON_MODEL.is_file():
        pytest.skip("the network that finds people was not fetched yet: 'restyle image ... --mask person' does it")
    person_model().parent.mkdir()
    shutil.copyfile(PERSON_MODEL, person_model())


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """(96, 128, 3): a real photograph, small."""
    return resize(read_image(gallery.find("coffee", kind="sample")).pixels, (96, 128))


@pytest.fixture(scope="session")
def model() -> Stylizer:
    """The bundled model in float32."""
    return Stylizer.load(precision="f32", threads=1)


@pytest.fixture(scope="session")
def wave(model, tmp_path_factory) -> Style:
    return _encode(model, "wave", tmp_path_factory)


@pytest.fixture(scope="session")
def mosaic(model, tmp_path_factory) -> Style:
    return _encode(model, "mosaic", tmp_path_factory)


@pytest.fixture
def cutout(photo) -> np.ndarray:
    """The photo with a left half that is transparent and a strip that is half transparent."""
    height, width = photo.shape[:2]
    alpha = np.full((height, width, 1), 255, np.uint8)
    alpha[:, : width // 2], alpha[:, width // 2 : width // 2 + 5] = 0, 128
    return np.dstack([photo, alpha])


@pytest.fixture(scope="session")
def hostile(tmp_path_factory):
    """Files that people really hand over, by name."""
    from hostile import make_hostile

    return make_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture
def run(monkeypatch, capsys):
    """Run restyle in this process: exit code, standard output, standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["restyle", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return code or 0, out, err

    return run


def _encode(model: Stylizer, name: str, tmp_path_factory) -> Style:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTYLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return model.encode_style(Path(gallery.find(name)))


@pytest.fixture
def one_model(monkeypatch, model):
    """Commands get the bundled model without loading it: that takes longer than painting small pictures."""
    monkeypatch.setattr(Stylizer, "load", lambda *_, **__: model)


@pytest.fixture
def place(tmp_path, photo, monkeypatch):
    """A working folder: photos/ with three pictures, one of them deeper; styles/ with two."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "b c.jpg", "2024/söder/a.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "photos" / name, np.roll(resize(photo, (32, 40)), number, axis=0))
    (tmp_path / "styles").mkdir()
    for name in ("wave", "ink"):
        write_image(tmp_path / "styles" / f"{name}.png", resize(read_image(gallery.find(name)).pixels, (64, 64)))
    return tmp_path


@pytest.fixture
def content(photo):
    """A photograph's file."""
    return encode_image(photo, "png")


@pytest.fixture
def start(model):
    """A test client of a server with such limits and options; for tests that need the extra ``serve`` anyway."""
    from served import asking

    with asking(model) as start:
        yield start


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with content/ and style/ to train on."""
    from runs import make_folders

    return make_folders(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def loss_weights(tmp_path_factory):
    from runs import make_loss_weights

    return make_loss_weights(tmp_path_factory.mktemp("weights") / "vgg16.safetensors")


@pytest.fixture
def tiny(monkeypatch):
    """Runs train a tiny network in place of the fast one."""
    from restyle.learn import checkpoints
    from runs import build_tiny

    monkeypatch.setattr(checkpoints, "fast_model", build_tiny)


@pytest.fixture(scope="module")
def tiny_model():
    from tiny import TinyModel

    return TinyModel().eval()


@pytest.fixture(scope="module")
def chip_graph(tiny_model, tmp_path_factory):
    """The tiny model's ONNX file for the OAK-1."""
    from restyle.export.oak.graph import write_oak_graph
    from tiny import CHIP_SIZE

    path = tmp_path_factory.mktemp("oak") / "stylizer.onnx"
    write_oak_graph(tiny_model.stylizer, path, size=CHIP_SIZE)
    return path


@pytest.fixture(scope="module")
def castle():
    from pages import small_castle

    return small_castle()


@pytest.fixture(scope="module")
def browser(tmp_path_factory, castle):
    """Chromium, a film of the castle as its camera."""
    from pages import chromium

    with chromium(tmp_path_factory.mktemp("camera"), resize(castle, (256, 384))) as browser:
        yield browser


@pytest.fixture
def open_page(browser, model):
    """Opens the page of a server with such limits and options."""
    from pages import served_pages

    with served_pages(browser, model) as open_page:
        yield open_page
