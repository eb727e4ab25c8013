"""The command line as a person uses it: real files, real exit codes."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restyle import gallery
from restyle.cli import app
from restyle.image import read_image, write_image

PROJECT = Path(__file__).parent.parent


@pytest.fixture
def photo_file(tmp_path, photo):
    write_image(tmp_path / "photo.jpg", photo)
    return tmp_path / "photo.jpg"


def test_image_paints_a_file(run, photo_file, tmp_path):
    code, out, err = run("image", photo_file, "--style", "wave", "-o", tmp_path / "out.png")
    assert (code, err) == (0, "")
    assert "128 x 96" in out
    painted, photo = read_image(tmp_path / "out.png").pixels, read_image(photo_file).pixels
    assert painted.shape == photo.shape
    assert np.abs(painted.astype(int) - photo).mean() > 10


def test_the_installed_command_and_the_module_are_the_same(tmp_path):
    for command in ([str(Path(sys.executable).parent / "restyle")], [sys.executable, "-m", "restyle"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert re.fullmatch(r"restyle \d+\.\d+\.\d+\n", done.stdout)


def test_output_is_never_overwritten_unless_asked(run, photo_file, tmp_path):
    out = tmp_path / "out.png"
    out.write_bytes(b"precious")
    code, _, err = run("image", photo_file, "--style", "wave", "-o", out)
    assert code == 3
    assert "exists already" in err
    assert out.read_bytes() == b"precious"
    before = photo_file.read_bytes()
    assert run("image", photo_file, "--style", "wave", "-o", photo_file)[0] == 3
    assert photo_file.read_bytes() == before
    assert run("image", photo_file, "--style", "wave", "-o", out, "--overwrite")[0] == 0
    assert read_image(out).pixels.shape == (96, 128, 3)


@pytest.mark.parametrize(("size", "expected"), [("48", (48, 64)), ("50x70", (50, 70)), ("200", (200, 267))])
def test_size(run, photo_file, tmp_path, size, expected):
    assert run("image", photo_file, "--style", "wave", "--size", size, "-o", tmp_path / "out.png")[0] == 0
    assert read_image(tmp_path / "out.png").pixels.shape[:2] == expected


def test_strength_and_mixed_styles(run, photo_file, tmp_path):
    for name, words in {
        "none": ["--style", "wave", "--strength", "0"],
        "wave": ["--style", "wave"],
        "same": ["--style", "wave:3", "--style", "wave:0.5"],
        "mixed": ["--style", "wave:0.5", "--style", "mosaic:.5"],
    }.items():
        assert run("image", photo_file, *words, "-o", tmp_path / f"{name}.png")[0] == 0
    pixels = {
        name: read_image(tmp_path / f"{name}.png").pixels.astype(int) for name in ("none", "wave", "same", "mixed")
    }
    assert np.array_equal(pixels["none"], read_image(photo_file).pixels)
    assert np.abs(pixels["wave"] - pixels["same"]).max() <= 1
    assert np.abs(pixels["wave"] - pixels["mixed"]).mean() > 2


def test_several_pictures_go_to_a_folder_and_failures_do_not_stop_the_rest(run, photo_file, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    code, _, err = run("image", photo_file, "coffee", "--style", "wave", "-o", tmp_path / "out.png")
    assert code == 3
    assert "several pictures need a folder" in err
    folder = tmp_path / "out"
    code, _, err = run("image", tmp_path / "bad.jpg", photo_file, "--style", "wave", "--size", "64", "-o", folder)
    assert code == 3
    assert "bad.jpg" in err
    assert [path.name for path in folder.iterdir()] == ["photo.jpg"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.jpg").write_bytes(photo_file.read_bytes())
    words = ["image", photo_file, tmp_path / "other" / "photo.jpg", "--style", "wave", "-o", folder, "--overwrite"]
    code, _, err = run(*words)
    assert code == 3
    assert "would both be written to" in err


def test_json_tells_everything(run, photo_file, tmp_path):
    code, out, err = run("image", photo_file, "--style", "wave", "-o", tmp_path / "o.gif", "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert document["device"] == "cpu"
    (row,) = document["pictures"]
    assert row["seconds"] > 0
    assert row["notes"] == ["GIF holds 256 colours and no half transparency"]
    assert {key: row[key] for key in ("content", "output", "height", "width")} == {
        "content": str(photo_file),
        "output": str(tmp_path / "o.gif"),
        "height": 96,
        "width": 128,
    }


def test_json_reports_failures_beside_successes(run, photo_file, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    words = ["image", tmp_path / "bad.jpg", photo_file, "--style", "wave", "--size", "32", "-o", tmp_path / "out"]
    code, out, _ = run(*words, "--json")
    bad, good = json.loads(out)["pictures"]
    assert code == bad["error"]["exit_code"] == 3
    assert bad["error"]["kind"] == "ImageError"
    assert "error" not in good
    # The exit code is that of the first failure, whatever comes later.
    words[1:3] = [photo_file, tmp_path / "bad.jpg"]
    assert run(*words, "--limit-megapixels", "0.01", "--overwrite")[0] == 6


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--size", "abc"], 2),
        (["--strength", "nan"], 2),
        (["--device", "tpu"], 2),
        (["--precision", "int8"], 2),
        (["--unknown"], 2),
        (["--style", "nothing"], 2),
        (["--limit-megapixels", "inf"], 2),
        (["--model", "."], 4),
        (["--device", "npu"], 5),
    ],
)
def test_json_is_one_document_in_every_failure(run, photo_file, tmp_path, words, code):
    got, out, err = run("image", photo_file, "--style", "wave", "-o", tmp_path / "o.png", "--json", *words)
    error = json.loads(out)["error"]
    assert got == error["exit_code"] == code
    assert error["message"] in err
    assert len(err.splitlines()) == 1


def test_outputs_are_checked_before_anything_is_painted(run, photo_file, tmp_path, monkeypatch):
    from restyle.stylizer import Stylizer

    monkeypatch.setattr(Stylizer, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    for output in ("o.xyz", tmp_path / "no" / "o.png", photo_file, photo_file / "new", tmp_path / "new"):
        assert run("image", photo_file, "--style", "wave", "-o", output)[0] in (2, 3)


def test_pictures_that_cannot_be_written_as_they_were_read_become_jpeg(run, photo_file, tmp_path):
    (tmp_path / "photo.jfif").write_bytes(photo_file.read_bytes())
    (tmp_path / "out").mkdir()
    assert run("image", tmp_path / "photo.jfif", "--style", "wave", "-o", tmp_path / "out")[0] == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.jpg"]


def test_quality_and_precision_reach_their_place(run, photo_file, tmp_path):
    for quality in (20, 95):
        words = ["image", photo_file, "--style", "wave", "--quality", quality, "-o", tmp_path / f"{quality}.jpg"]
        assert run(*words)[0] == 0
    assert 2 * (tmp_path / "20.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size
    words = ["image", photo_file, "--style", "wave", "-o", tmp_path / "o.png", "--json", "--precision", "f32"]
    assert json.loads(run(*words)[1])["precision"] == "f32"


def test_a_cache_that_is_in_the_way_is_no_error(run, photo_file, tmp_path, monkeypatch):
    for number, cache in enumerate((photo_file, tmp_path / ("x" * 300))):
        monkeypatch.setenv("RESTYLE_CACHE", str(cache))
        assert run("image", photo_file, "--style", "wave", "-o", tmp_path / f"{number}.png")[0] == 0


def test_a_fault_of_ours_is_told_in_json_too(monkeypatch, capsys, photo_file, tmp_path):
    from restyle.cli import main
    from restyle.stylizer import Stylizer

    def fault(*_, **__):
        raise ZeroDivisionError("who wrote this")

    monkeypatch.setattr(Stylizer, "load", fault)
    words = ["image", str(photo_file), "--style", "wave", "-o", str(tmp_path / "o.png"), "--json"]
    monkeypatch.setattr(sys, "argv", ["restyle", *words])
    with pytest.raises(ZeroDivisionError):  # with its traceback, to be reported
        main()
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 1


def test_without_a_command_the_help_is_shown(run):
    code, out, err = run()
    assert code == 2
    assert "image" in out + err
    assert "See:" not in out + err


def test_the_bundled_card_names_no_folders_and_says_what_matters():
    from restyle.weights import find_model, read_model

    document = read_model(find_model("fast")).document
    assert "/" not in json.dumps(document["training"])
    assert all(document[field] for field in ("description", "data", "quality"))


def test_quiet_says_nothing(run, photo_file, tmp_path):
    assert run("image", photo_file, "--style", "wave", "-o", tmp_path / "o.png", "-q") == (0, "", "")


def test_metadata_of_the_photograph_is_kept(run, tmp_path, photo):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Our camera", 6
    Image.fromarray(photo).save(tmp_path / "turned.jpg", exif=exif)
    assert run("image", tmp_path / "turned.jpg", "--style", "wave", "-o", tmp_path / "out.jpg")[0] == 0
    with Image.open(tmp_path / "out.jpg") as painted:
        assert painted.size == (96, 128)  # upright now
        assert painted.getexif()[0x010F] == "Our camera"
        assert painted.getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["image"], 2, "Missing"),
        (["image", "PHOTO", "--style", "wave"], 2, "--output"),
        (["image", "PHOTO", "--style", "wav", "-o", "o.png"], 2, "did you mean 'wave'"),
        (["image", "cofee", "--style", "wave", "-o", "o.png"], 2, "did you mean 'coffee'"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--strength", "3"], 2, "strength"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--strength", "nan"], 2, "strength"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--size", "big"], 2, "neither N nor HxW"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--size", "0"], 2, "neither N nor HxW"),
        (["image", "PHOTO", "--style", "wave:0", "-o", "o.png"], 2, "not all zero"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--model", "fst"], 2, "did you mean 'fast'"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--device", "tpu"], 2, "device must be one of"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.xyz"], 2, "xyz"),
        (["imagine"], 2, "imagine"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--limit-megapixels", "nan"], 2, "nan is not within"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--threads", "99999999999"], 2, "--threads"),
        (["image", "PHOTO", "--style", "wave", "-o", ""], 3, "empty"),
        (["image", "PHOTO", "--style", "wave", "-o", "new"], 3, "no folder of that name"),
        (["image", "PHOTO", "--style", "x" * 300, "-o", "o.png"], 2, "known: "),
        (["image", "PHOTO", "--style", "x" * 300 + ".jpg", "-o", "o.png"], 3, "too long"),
        (["image", "x" * 300 + ".jpg", "--style", "wave", "-o", "o.png"], 3, "too long"),
        (["image", "PHOTO", "--style", "wave", "-o", "x" * 300 + ".png"], 3, "too long"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--model", "x" * 300], 2, "model"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--size", "999999x999999"], 6, "beyond the limit"),
        (["image", "missing.jpg", "--style", "wave", "-o", "o.png"], 3, "missing.jpg"),
        (["image", "https://example.org/a.jpg", "--style", "wave", "-o", "o.png"], 3, "is an address"),
        (["image", "PHOTO", "--style", "wave", "-o", "s3://bucket/o.png"], 3, "is an address"),
        (["info", "missing.png"], 3, "missing.png"),
        (["image", "PHOTO", "--style", "missing.jpg", "-o", "o.png"], 3, "missing.jpg"),
        (["image", "PHOTO", "--style", "wave", "-o", "no/where/o.png"], 3, "no/where"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--model", "."], 4, "model.json"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--device", "npu"], 5, "npu"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--limit-megapixels", "0.01"], 6, "limit"),
        (["image", "PHOTO", "--style", "wave", "-o", "o.png", "--tile", "100"], 2, "tile must be 0 or at least 128"),
    ],
)
def test_bad_input_gets_one_sentence_and_its_exit_code(run, photo_file, tmp_path, monkeypatch, words, code, sentence):
    monkeypatch.chdir(tmp_path)
    got, out, err = run(*[str(photo_file) if word == "PHOTO" else word for word in words])
    assert got == code, err
    assert sentence in re.sub(r"[\s│]+", " ", err)
    assert "Traceback" not in out + err
    assert not (tmp_path / "o.png").exists()


def test_lists_for_people_and_programs(run):
    code, out, _ = run("styles")
    assert code == 0
    assert all(name in out for name in gallery.entries())
    assert {entry["name"] for entry in json.loads(run("styles", "--json")[1])} == set(gallery.entries())
    assert "fast" in run("models")[1]
    assert json.loads(run("models", "--json")[1])[0]["parity"]["max_difference"] < 1 / 255
    assert json.loads(run("info", "--json")[1])["devices of openvino"].split(", ")[0] == "cpu"
    assert "openvino" in run("info")[1]


def test_completion_offers_gallery_names():
    done = subprocess.run(
        [Path(sys.executable).parent / "restyle"],
        env={
            "_RESTYLE_COMPLETE": "complete_bash",
            "COMP_WORDS": "restyle image --style wa",
            "COMP_CWORD": "3",
            "PATH": "",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["wave"]


def test_every_command_and_option_is_documented():
    import typer

    docs = (PROJECT / "docs" / "cli.md").read_text()
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## restyle {name}" in docs
        assert command.help
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else []:
                assert f"`{option}" in docs or f"`{option}`" in docs, f"{name} {option} is not in docs/cli.md"
                assert parameter.help, f"{name} {option} has no help"


def test_every_loss_is_documented_with_its_weight():
    from restyle.learn.objective import LossWeights

    (row,) = re.findall(r"^\| `--loss` \|.*$", (PROJECT / "docs" / "cli.md").read_text(), re.M)
    row = row.replace("`, and", "`").split("; 0 leaves it out. ")[1]
    told = {name: float(weight) for name, weight in re.findall(r"`(\w+)` (\d+)", row)}
    assert told == {field.name: field.default for field in fields(LossWeights)}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk to write to")
def test_a_full_disk_under_standard_output_is_one_sentence(photo_file, tmp_path):
    command = [sys.executable, "-m", "restyle"]
    for words in (["styles"], ["image", photo_file, "--style", "wave", "-o", tmp_path / "o.png"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*command, *words, "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
        assert "No space left" in done.stderr


def test_an_interruption_ends_with_130_and_leaves_nothing(run, photo_file, tmp_path, monkeypatch):
    from restyle.batch import pipeline

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_image", interrupted)
    assert run("image", photo_file, "--style", "wave", "-o", tmp_path / "o.png")[0] == 130
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize("library", ["typer", "openvino"])
def test_an_interruption_while_libraries_are_loaded_ends_with_130(photo_file, library):
    program = f"""
import importlib.abc, sys
from restyle.__main__ import main
class Interrupted(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "openvino":  # as pybind11 tells it
            raise ImportError("initialization failed") from KeyboardInterrupt()
        if name == {library!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
main()"""
    command = [sys.executable, "-c", program, "image", str(photo_file), "--style", "wave", "-o", "o.png"]
    done = subprocess.run(command, cwd=photo_file.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")
    assert not (photo_file.parent / "o.png").exists()


def test_names_that_the_terminal_cannot_show_stop_nothing(photo, tmp_path):
    write_image(tmp_path / "雪.png", photo)
    command = [sys.executable, "-m", "restyle", "image", "雪.png", "--style", "wave", "-o", "ü.png"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert b"\\xfc.png" in done.stdout
    assert (tmp_path / "ü.png").exists()
