"""Masks that find people: how the network comes, that it is converted rightly, and what it finds."""

import sys

import numpy as np
import pytest

from registry import publish
from restyle import PersonMask, Region, gallery, read_image
from restyle.controls import people
from restyle.controls.people import fetch_person_model, find_people, person_model
from restyle.errors import MissingExtraError, ModelFileError
from restyle.image import resize, write_image

# --- a network of few operations, as MediaPipe would write it ---

LAYERS = [
    ("CONV_2D", [3, 3, 3], 2),  # half the size
    ("HARD_SWISH", None, 0),
    ("DEPTHWISE_CONV_2D", [3, 3, 3], 1),
    ("RELU", None, 0),
    ("RESIZE_BILINEAR", None, 0),  # twice the size
    ("CONV_2D", [4, 1, 1], 2),
    ("Convolution2DTransposeBias", [1, 2, 2], 0),
    ("LOGISTIC", None, 0),
]
"""Operation; kernel: channels that come out, height, width; stride. The next layer takes what comes out."""

SIDE = 8


def weights():
    """By layer: kernel (out, height, width, in), of the depthwise one (1, height, width, channels), and bias."""
    generator, channels, made = np.random.default_rng(1), 3, {}
    for number, (kind, kernel, _) in enumerate(LAYERS):
        if kernel:
            out, height, width = kernel
            shape = (1, height, width, out) if kind.startswith("DEPTHWISE") else (out, height, width, channels)
            made[number] = [generator.normal(0, 0.8, size).astype(np.float16) for size in (shape, out)]
            channels = out
    return made


def computed(picture):
    """What the network makes of a picture (height, width, 3) in 0..1, in numpy."""
    made = weights()
    for number, (kind, _, stride) in enumerate(LAYERS):
        kernel, bias = (array.astype(np.float32) for array in made.get(number, [np.zeros(0), np.zeros(0)]))
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            height, width = kernel.shape[1:3]
            # The same size, or its half: what is missing for the last window is added at the end before the beginning.
            missing = max(height - stride, 0)
            sides = (missing // 2, missing - missing // 2)
            padded, rows = np.pad(picture, (sides, sides, (0, 0))), len(picture)
            picture = bias + sum(
                padded[y : y + rows : stride, x : x + rows : stride] * kernel[0, y, x]
                if kind.startswith("DEPTHWISE")
                else padded[y : y + rows : stride, x : x + rows : stride] @ kernel[:, y, x].T
                for y in range(height)
                for x in range(width)
            )
        elif kind == "HARD_SWISH":
            picture = picture * np.clip(picture + 3, 0, 6) / 6
        elif kind == "RELU":
            picture = np.maximum(picture, 0)
        elif kind == "RESIZE_BILINEAR":
            places = (np.arange(2 * len(picture)) + 0.5) / 2 - 0.5
            near = np.maximum(0, 1 - np.abs(places.clip(0, len(picture) - 1)[:, None] - np.arange(len(picture))))
            picture = np.einsum("ij,kl,jlc->ikc", near, near, picture)
        elif kind == "LOGISTIC":
            picture = 1 / (1 + np.exp(-picture))
        else:
            picture = bias + sum(
                np.kron((picture @ kernel[:, y, x].T)[:, :, 0], np.eye(2)[y][:, None] * np.eye(2)[x])[:, :, None]
                for y in range(2)
                for x in range(2)
            )
    return picture


def tiny_network():
    """The same as a ``.tflite`` file."""
    flatbuffers, tflite = pytest.importorskip("flatbuffers"), pytest.importorskip("tflite")
    builder = flatbuffers.Builder(4096)

    def table(name, **fields):
        getattr(tflite, f"{name}Start")(builder)
        for field, value in fields.items():
            getattr(tflite, f"{name}Add{field}")(builder, value)
        return getattr(tflite, f"{name}End")(builder)

    def vector(offsets):
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    tensors, buffers, codes, operators = [], [table("Buffer")], [], []

    def tensor(shape, content=None):
        if content is not None:
            data = builder.CreateByteVector(content.tobytes())
            buffers.append(table("Buffer", Data=data))
        shape = builder.CreateNumpyVector(np.array(shape, np.int32))
        tensors.append(table("Tensor", Shape=shape, Buffer=len(buffers) - 1 if content is not None else 0))
        return len(tensors) - 1

    def operator(kind, inputs, output, stride=0):
        custom = builder.CreateString(kind) if not hasattr(tflite.BuiltinOperator, kind) else None
        number = getattr(tflite.BuiltinOperator, kind, tflite.BuiltinOperator.CUSTOM)
        fields = {"BuiltinCode": number, "DeprecatedBuiltinCode": min(number, 127)}
        codes.append(table("OperatorCode", **fields, **({"CustomCode": custom} if custom else {})))
        more = {}
        if stride:
            name = "Conv2DOptions" if kind == "CONV_2D" else "DepthwiseConv2DOptions"
            more = {"BuiltinOptions": table(name, StrideH=stride, StrideW=stride)}
            more["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, name)
        inputs, outputs = (builder.CreateNumpyVector(np.array(one, np.int32)) for one in (inputs, [output]))
        operators.append(table("Operator", OpcodeIndex=len(codes) - 1, Inputs=inputs, Outputs=outputs, **more))

    first = last = tensor([1, SIDE, SIDE, 3])
    made = weights()
    for number, (kind, _, stride) in enumerate(LAYERS):
        given = [last]
        for array in made.get(number, []):
            given.append(tensor(array.shape))
            operator("DEQUANTIZE", [tensor(array.shape, array)], given[-1])
        last = tensor([1, SIDE, SIDE, 1])
        operator(kind, given, last, stride)
    ends = [builder.CreateNumpyVector(np.array([one], np.int32)) for one in (first, last)]
    lists = [vector(one) for one in (tensors, operators)]
    graph = table("SubGraph", Tensors=lists[0], Inputs=ends[0], Outputs=ends[1], Operators=lists[1])
    lists = [vector(one) for one in ([graph], codes, buffers)]
    builder.Finish(table("Model", Version=3, Subgraphs=lists[0], OperatorCodes=lists[1], Buffers=lists[2]), b"TFL3")
    return bytes(builder.Output())


def test_the_converted_network_computes_the_same(tmp_path):
    pytest.importorskip("onnx")
    network = tiny_network()
    from onnx.reference import ReferenceEvaluator

    from restyle.controls.person_model import convert

    file = tmp_path / "tiny.onnx"
    file.write_bytes(convert(network))
    picture = np.random.default_rng(2).random((SIDE, SIDE, 3), np.float32)
    (found,) = ReferenceEvaluator(str(file)).run(None, {"picture": picture.transpose(2, 0, 1)[None]})
    expected = computed(picture)
    assert expected.std() > 0.05
    np.testing.assert_allclose(found[0, 0], expected[:, :, 0], atol=1e-5)


# --- how it is fetched ---


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry whose package holds the tiny network."""
    file, integrity = publish(tmp_path, {people.NETWORK: tiny_network()})
    monkeypatch.setattr(people, "ADDRESS", file.as_uri())
    monkeypatch.setattr(people, "INTEGRITY", integrity)
    return file


def test_the_network_is_fetched_once_and_kept(registry, private_cache, monkeypatch):
    path = fetch_person_model()
    assert path == person_model() and path.is_relative_to(private_cache)
    kept = path.read_bytes()
    registry.unlink()
    monkeypatch.setitem(sys.modules, "tflite", None)  # the extra is needed once only
    monkeypatch.delitem(sys.modules, "restyle.controls.person_model", raising=False)
    assert fetch_person_model().read_bytes() == kept
    assert [one.name for one in private_cache.iterdir()] == [path.parent.name]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_had_is_one_sentence(registry, run, private_cache, tmp_path, photo, monkeypatch):
    write_image(tmp_path / "photo.png", photo)

    def refused(*words):
        code, out, err = run("image", tmp_path / "photo.png", "--style", "wave", *words, "-o", tmp_path / "out.png")
        assert (out, len(err.splitlines())) == ("", 1), err
        assert list(private_cache.iterdir()) == [] and not (tmp_path / "out.png").exists()
        return code, err

    registry.write_bytes(registry.read_bytes() + b"\0")
    with pytest.raises(ModelFileError, match="SHA-512"):
        find_people(photo)
    assert refused("--mask", "person")[0] == 4
    registry.unlink()
    code, err = refused("--mask", "not:person")
    assert code == 4 and "cannot be fetched" in err and str(person_model()) in err
    assert refused("--region", "person=ink", "--dry-run")[0] == 4
    monkeypatch.setitem(sys.modules, "tflite", None)
    monkeypatch.delitem(sys.modules, "restyle.controls.person_model", raising=False)
    with pytest.raises(MissingExtraError, match=r"restyle\[people\]"):
        PersonMask().of(photo)
    assert refused("--mask", "person")[0] == 7


# --- what it finds ---


@pytest.fixture(scope="module")
def astronaut():
    """(256, 256, 3): one person; the face, the wall behind it at both sides, and the chest lie where the tests look."""
    return resize(read_image(gallery.find("astronaut", kind="sample")).pixels, (256, 256))


FACE, CHEST = (slice(40, 80), slice(100, 135)), (slice(150, 200), slice(90, 140))
WALLS = (slice(10, 60), slice(40, 70)), (slice(10, 100), slice(225, 250))


def test_people_are_told_from_what_is_behind_them(finds_people, astronaut):
    found = find_people(astronaut)
    assert (found.shape, found.dtype) == ((256, 256), np.uint8)
    assert min(found[FACE].mean(), found[CHEST].mean()) > 240
    assert max(found[wall].mean() for wall in WALLS) < 15
    # The same of a picture of any size and form, and of its mirror image.
    wide = find_people(np.dstack([resize(astronaut, (150, 600)), np.full((150, 600), 255, np.uint8)]))
    assert np.abs(resize(wide, (256, 256)).astype(int) - found).mean() < 12
    mirrored = find_people(np.ascontiguousarray(astronaut[:, ::-1]))[:, ::-1]
    assert np.abs(mirrored.astype(int) - found).mean() < 12
    assert find_people(astronaut[:1, :1]).shape == (1, 1)


def test_a_person_mask_turns_round_and_softens_as_a_file_does(finds_people, astronaut):
    people, others = PersonMask().of(astronaut), PersonMask(inverse=True).of(astronaut)
    assert np.array_equal(people, 255 - others)
    soft = PersonMask(feather=8).of(astronaut)
    steps = [np.abs(np.diff(mask.astype(int), axis=1)).max() for mask in (people, soft)]
    assert steps[1] < steps[0] / 3


def test_people_can_be_left_as_they_are_or_painted_in_a_style_of_their_own(
    finds_people, model, wave, mosaic, astronaut
):
    whole = {style: model.apply(astronaut, style) for style in (wave, mosaic)}
    alone = model.apply(astronaut, wave, mask=PersonMask(inverse=True))
    assert np.abs(alone[FACE].astype(int) - astronaut[FACE]).mean() < 1
    assert np.abs(alone[WALLS[0]].astype(int) - whole[wave][WALLS[0]]).mean() < 1
    both = model.apply(astronaut, wave, regions=[Region(PersonMask(), mosaic)])
    assert np.abs(both[FACE].astype(int) - whole[mosaic][FACE]).mean() < 1
    assert np.abs(both[WALLS[1]].astype(int) - whole[wave][WALLS[1]]).mean() < 1
