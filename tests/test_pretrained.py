"""Published weights come in by the layout of their keys, checked, and without running anything in the file."""

import hashlib
import pickle
from http.client import IncompleteRead
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from restyle.errors import ModelFileError, UnknownNameError
from restyle.nn import pretrained
from restyle.nn.pretrained import VggEncoder, fetch_weights, load_decoder, published_variant, read_weights
from restyle.nn.reference import MirroredDecoder, load_reference

pytestmark = pytest.mark.torch


def convolution(inputs, outputs):
    return [nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3), nn.ReLU()]


def sequence(*layers):
    """A plain sequence of layers as the published files hold it, with random weights that keep the size of signals."""
    whole = nn.Sequential(*layers).requires_grad_(False)
    for layer in whole:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    return whole


@pytest.fixture(scope="module")
def port():
    """Encoder up to relu4_1 and decoder, layer by layer as github.com/naoto0804/pytorch-AdaIN spells them."""
    torch.manual_seed(0)

    def pool():
        return nn.MaxPool2d(2, 2, 0, ceil_mode=True)

    def up():
        return nn.Upsample(scale_factor=2, mode="nearest")

    encoder = sequence(
        nn.Conv2d(3, 3, 1),
        *convolution(3, 64), *convolution(64, 64), pool(),
        *convolution(64, 128), *convolution(128, 128), pool(),
        *convolution(128, 256), *convolution(256, 256), *convolution(256, 256), *convolution(256, 256), pool(),
        *convolution(256, 512),
    )  # fmt: skip
    decoder = sequence(
        *convolution(512, 256), up(),
        *convolution(256, 256), *convolution(256, 256), *convolution(256, 256), *convolution(256, 128), up(),
        *convolution(128, 128), *convolution(128, 64), up(),
        *convolution(64, 64), *convolution(64, 3)[:-1],
    )  # fmt: skip
    return encoder, decoder


@pytest.fixture(scope="module")
def files(port, tmp_path_factory):
    """``vgg_normalised.pth`` with something of what follows relu4_1, and ``decoder.pth`` in torch's older format."""
    encoder, decoder = port
    folder = tmp_path_factory.mktemp("published")
    torch.save({**encoder.state_dict(), "32.weight": torch.zeros(2)}, folder / "vgg_normalised.pth")
    torch.save(decoder.state_dict(), folder / "decoder.pth", _use_new_zipfile_serialization=False)
    return folder / "vgg_normalised.pth", folder / "decoder.pth"


def numbers(module):
    return [int(name.split(".")[0]) for name in module.state_dict() if name.endswith("weight")]


def test_the_published_pair_paints_as_in_its_own_project(port, files):
    encoder, decoder = port
    # The numbers that the files on the internet bear.
    assert numbers(encoder) == [0, 2, 5, 9, 12, 16, 19, 22, 25, 29]
    assert numbers(decoder) == [1, 5, 8, 11, 14, 18, 21, 25, 28]

    model = load_reference(*files)

    content, style = torch.rand(2, 3, 40, 48), torch.rand(2, 3, 56, 33)
    with torch.no_grad():
        features, target = encoder(content), encoder(style)
        mean, std = (
            features.mean((2, 3), keepdim=True),
            (features.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt(),
        )
        # Their deviations are divided by H*W - 1, not by H*W as the paper says; that alone is put right here.
        target_std = (target.var((2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        expected = decoder((features - mean) / std * target_std + target.mean((2, 3), keepdim=True))
        painted = model(content, style, torch.ones(2, 1))
    assert expected.std() > 0.1
    torch.testing.assert_close(painted, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


def test_the_variant_is_told_by_the_layout(port):
    assert published_variant(port[0].state_dict()) == "vgg19_normalised"
    for variant in ("vgg16", "vgg19", "vgg19_bn"):
        source = VggEncoder(variant)
        state = {name.replace("layers.", "features."): value for name, value in source.state_dict().items()}
        assert published_variant(state) == variant
        loaded = VggEncoder(variant).load_published(state)
        assert all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.state_dict().items())
    for strange in ({}, {"classifier.0.weight": torch.zeros(1)}, port[1].state_dict()):
        with pytest.raises(ModelFileError, match=r"torchvision or of vgg_normalised\.pth"):
            published_variant(strange)


def test_files_in_each_others_place_are_told(port):
    encoder, decoder = (module.state_dict() for module in port)
    with pytest.raises(ModelFileError, match=r"VGG weights: 0\.weight must have shape \(3, 3, 1, 1\), found nothing"):
        VggEncoder("vgg19_normalised").load_published(decoder)
    with pytest.raises(ModelFileError, match=r"decoder weights: 1\.weight must have shape \(256, 512, 3, 3\)"):
        load_decoder(MirroredDecoder(), encoder)
    with pytest.raises(ModelFileError, match="decoder weights"):  # of a decoder for another encoder
        load_decoder(MirroredDecoder("vgg16"), decoder)


# --- files ------------------------------------------------------------------------------------------------------------


def test_weights_are_read_from_either_format_whatever_the_name(tmp_path):
    weights = {"a.weight": torch.arange(4.0).half(), "a.count": torch.tensor(3)}
    save_file(weights, tmp_path / "safe.safetensors")
    torch.save(weights, tmp_path / "zip.pth")
    torch.save(weights, tmp_path / "old.pth.tar", _use_new_zipfile_serialization=False)
    (tmp_path / "safe.safetensors").rename(tmp_path / "safe.bin")
    for name in ("safe.bin", "zip.pth", "old.pth.tar"):
        read = read_weights(str(tmp_path / name))
        assert read["a.weight"].tolist() == [0, 1, 2, 3]
        assert {value.dtype for value in read.values()} == {torch.float32}


class Harmful:
    def __reduce__(self):
        return pytest.fail, ("the file was executed",)


def test_what_holds_no_plain_tensors_is_refused_and_never_executed(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "whole.pth")
    save_file({"a": torch.ones(2)}, tmp_path / "whole.safetensors")
    for name in ("whole.pth", "whole.safetensors"):
        (tmp_path / f"cut {name}").write_bytes((tmp_path / name).read_bytes()[:-40])
        (tmp_path / name).unlink()
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save({"state_dict": {"a": torch.ones(2)}}, tmp_path / "nested.pth")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    torch.save({"a": Harmful()}, tmp_path / "harmful.pth")
    (tmp_path / "harmful.pickle").write_bytes(pickle.dumps(Harmful(), protocol=2))
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "page.pth").write_text("<!doctype html> the page that a download link led to")
    (tmp_path / "folder").mkdir()
    for path in [*tmp_path.iterdir(), tmp_path / "missing.pth"]:
        with pytest.raises(ModelFileError, match=f"{path.name} cannot be read as safetensors or .pth") as caught:
            read_weights(path)
        assert "\n" not in str(caught.value)


# --- torchvision ------------------------------------------------------------------------------------------------------


@pytest.fixture
def official(tmp_path, monkeypatch):
    """Stands in for download.pytorch.org: a file whose name holds the beginning of its hash."""
    content = b"weights"
    path = tmp_path / "server" / f"vgg16-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.parent.mkdir()
    path.write_bytes(content)
    monkeypatch.setitem(pretrained.TORCHVISION, "vgg16", path.as_uri())
    return path


def test_official_weights_are_fetched_once_and_kept(official, tmp_path, capsys):
    kept = fetch_weights("vgg16", tmp_path / "cache" / "weights")
    assert kept == tmp_path / "cache" / "weights" / official.name
    assert kept.read_bytes() == b"weights"
    kept.write_bytes(b"damaged")
    assert fetch_weights("vgg16", kept.parent).read_bytes() == b"weights"
    official.unlink()
    assert fetch_weights("vgg16", kept.parent) == kept  # needs no network any more
    assert [path.name for path in kept.parent.iterdir()] == [official.name]
    assert capsys.readouterr() == ("", "")


def test_other_files_than_the_official_ones_are_refused_and_not_kept(official, tmp_path):
    official.write_bytes(b"something else")
    with pytest.raises(ModelFileError, match=rf"{official.name} cannot be fetched .*invalid hash"):
        fetch_weights("vgg16", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_an_offline_machine_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(pretrained.TORCHVISION, "vgg19", "https://nowhere.invalid/vgg19-dcbb9e9d.pth")
    with pytest.raises(ModelFileError) as caught:
        fetch_weights("vgg19", tmp_path)
    for words in ("https://nowhere.invalid/vgg19-dcbb9e9d.pth", str(tmp_path), "give the path of your copy"):
        assert words in str(caught.value)
    for fault in (IncompleteRead(b"half"), TimeoutError("timed out"), ConnectionResetError()):
        monkeypatch.setattr(torch.hub, "download_url_to_file", Mock(side_effect=fault))
        with pytest.raises(ModelFileError, match="cannot be fetched into"):
            fetch_weights("vgg19", tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelFileError, match="cannot be fetched into"):
        fetch_weights("vgg19", tmp_path / "file")


def test_only_what_is_published_can_be_fetched(tmp_path):
    with pytest.raises(UnknownNameError, match=r"vgg19_bm.*did you mean 'vgg19_bn'"):
        fetch_weights("vgg19_bm", tmp_path)
    assert set(pretrained.TORCHVISION) == set(VggEncoder.VARIANTS) - {"vgg19_normalised"}
    for name, url in pretrained.TORCHVISION.items():
        stem, _, digits = url.removeprefix("https://download.pytorch.org/models/").removesuffix(".pth").rpartition("-")
        assert stem == name
        assert len(digits) == 8
        assert int(digits, 16)
