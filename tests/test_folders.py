"""Folders on the command line: many pictures, many styles, masks and regions, and what can go wrong on the way."""

import errno
import inspect
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import restyle
from restyle import PersonMask, Region, Style, gallery, painter
from restyle.batch import estimate_memory, pipeline
from restyle.cli import options
from restyle.errors import ImageError
from restyle.image import read_image, resize, write_image
from restyle.stylizer import STYLE_SIDE, Stylizer

STYLES = ("wave", "ink")


@pytest.fixture(autouse=True)
def one_model(monkeypatch, model):
    """Loading takes longer than painting pictures this small."""
    monkeypatch.setattr(Stylizer, "load", lambda *_, **__: model)


@pytest.fixture
def place(tmp_path, photo, monkeypatch):
    """A working folder: photos/ with three pictures, one of them deeper; styles/ with two."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.png", "b c.jpg", "2024/söder/a.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / "photos" / name, np.roll(resize(photo, (32, 40)), number, axis=0))
    (tmp_path / "styles").mkdir()
    for name in STYLES:
        write_image(tmp_path / "styles" / f"{name}.png", resize(read_image(gallery.find(name)).pixels, (64, 64)))
    return tmp_path


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_every_picture_in_every_style_with_the_folders_kept(run, place, model):
    code, out, err = run("image", "photos", "--style", "styles", "-o", "out")
    assert (code, err) == (0, "")
    assert "6 painted" in out and "pictures a second" in out
    names = ("2024/söder/a_{}.png", "a_{}.png", "b c_{}.jpg")
    assert files("out") == sorted(name.format(style) for name in names for style in STYLES)
    for style in STYLES:
        encoded = model.encode_style(place / "styles" / f"{style}.png")
        expected = model.apply(place / "photos" / "2024/söder/a.png", encoded)
        assert np.array_equal(read_image(f"out/2024/söder/a_{style}.png").pixels, expected)


def test_failures_are_told_at_the_end_and_give_the_exit_code(run, place):
    (place / "photos" / "bad.jpg").write_bytes(b"no picture")
    (place / "styles" / "torn.jpg").write_bytes(b"no painting")
    code, out, err = run("image", "photos", "--style", "styles", "-o", "out")
    assert code == 3
    assert "6 painted, 3 failed" in out
    assert [("bad.jpg" in line, "torn.jpg" in line) for line in err.splitlines()] == [(False, True), (True, False)]
    code, out, _ = run("image", "photos", "--style", "styles", "-o", "out", "--overwrite", "--json")
    rows = json.loads(out)["pictures"]
    assert code == 3
    assert sum("error" in row for row in rows) == 3
    assert {row["output"] for row in rows if "error" not in row} == {f"out/{name}" for name in files("out")}


def test_a_style_that_is_mixed_must_be_readable(run, place):
    (place / "torn.jpg").write_bytes(b"no painting")
    for words in (["--style", "wave", "--style", "torn.jpg"], ["--style", "torn.jpg", "--each-style"]):
        code, out, err = run("image", "photos", *words, "-o", "out")
        assert (code, out, len(err.splitlines())) == (3, "", 1)


def test_styles_of_one_name_in_different_subfolders(run, place):
    for name in ("monet/1.png", "morisot/late/1.png"):
        (place / "styles" / name).parent.mkdir(parents=True)
        (place / "styles" / "wave.png").rename(place / "styles" / name)
        write_image(place / "styles" / "wave.png", read_image("styles/ink.png").pixels)
    assert run("image", "photos/a.png", "--style", "styles", "-o", "out")[0] == 0
    assert files("out") == [f"a_{name}.png" for name in ("ink", "monet-1", "morisot-late-1", "wave")]


def test_a_failure_names_its_file_once(run, place):
    (place / "photos" / "it's \\ broken.png").touch()
    code, _, err = run("image", "photos", "--style", "wave", "-o", "out")
    assert code == 3
    assert err.count("broken.png") == 1


def test_skip_existing_goes_on_where_a_job_was_stopped(run, place, monkeypatch):
    written = []

    def interrupted(path, *words, **options):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write_image(path, *words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_image", interrupted)
        code, _, err = run("image", "photos", "--style", "styles", "-o", "out")
    assert code == 130
    assert "--skip-existing" in err
    before = {name: (place / "out" / name).stat().st_mtime_ns for name in files("out")}
    assert len(before) == 2
    code, out, err = run("image", "photos", "--style", "styles", "-o", "out")
    assert code == 3 and "and 1 more exist already" in err and len(files("out")) == 2
    code, out, err = run("image", "photos", "--style", "styles", "-o", "out", "--skip-existing", "--json")
    assert code == 0
    assert json.loads(out)["skipped"] == 2 and len(json.loads(out)["pictures"]) == 4
    assert len(files("out")) == 6
    assert all((place / "out" / name).stat().st_mtime_ns == when for name, when in before.items())
    # All there: nothing to do, nothing loaded, no error.
    monkeypatch.setattr(Stylizer, "load", lambda *_, **__: pytest.fail("loaded for nothing"))
    assert run("image", "photos", "--style", "styles", "-o", "out", "--skip-existing")[:2] == (0, "6 skipped\n")


def test_ctrl_c_ends_the_command_with_130_and_whole_files(place):
    big = resize(read_image(gallery.find("castle", kind="sample")).pixels, (600, 900))
    for number in range(40):
        write_image(place / "photos" / f"{number}.jpg", big)
    command = [Path(sys.executable).parent / "restyle", "image", "photos", "--style", "wave", "-o", "out"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while process.poll() is None and not (place / "out").exists():
        time.sleep(0.02)
    process.send_signal(2)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in err
    assert 1 <= len(files("out")) < 43
    assert all(read_image(place / "out" / name).pixels.size for name in files("out"))


def test_outputs_are_never_painted_again(run, place):
    for _ in range(2):
        words = ["image", "photos", "--style", "wave", "-o", "photos/painted", "--overwrite"]
        assert run(*words)[0] == 0
        assert files("photos/painted") == ["2024/söder/a.png", "a.png", "b c.jpg"]
    code, _, err = run("image", "photos", "--style", "wave", "-o", "photos/", "--overwrite")
    assert code == 3 and "among the photographs" in err
    before = (place / "photos" / "a.png").read_bytes()
    code, _, err = run("image", "photos/b c.jpg", "photos/a.png", "--style", "wave", "-o", "photos", "--name", "a.png")
    assert code == 3
    (place / "photos" / "xa.png").write_bytes(before)  # the output of a, and a photograph itself
    words = ["photos/a.png", "photos/xa.png", "--style", "wave", "-o", "photos", "--name", "x{content}", "--overwrite"]
    code, _, err = run("image", *words)
    assert code == 3 and "would be lost" in err
    assert (place / "photos" / "xa.png").read_bytes() == before


def test_one_sentence_on_collisions_before_work_begins(run, place, monkeypatch):
    monkeypatch.setattr(Stylizer, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    write_image(place / "photos" / "a.jpg", read_image(place / "photos" / "a.png").pixels)
    code, out, err = run("image", "photos", "--style", "wave", "-o", "out", "--format", "webp")
    assert (code, out, len(err.splitlines())) == (3, "", 1)
    assert "a.jpg" in err and "a.png" in err and "would both be written to 'out/a.webp'" in err
    assert not (place / "out").exists()


def test_a_photograph_given_twice_is_painted_once(run, place):
    code, out, _ = run("image", "photos", "photos/a.png", "./photos/a.png", "--style", "wave", "-o", "out")
    assert code == 0 and "3 painted" in out


def test_pairs(run, place, model):
    words = ["photos/a.png", "photos/b c.jpg", "--pairs", "-o", "out", "--name", "{content}_{style}.bmp"]
    code, _, err = run("image", *words, "--style", "styles")
    assert (code, err) == (0, "")
    assert files("out") == ["a_ink.bmp", "b c_wave.bmp"]  # a folder's styles are sorted by name
    painted = read_image("out/a_ink.bmp").pixels
    assert np.array_equal(painted, model.apply("photos/a.png", model.encode_style("styles/ink.png")))
    code, _, err = run("image", *words, "--style", "wave")
    assert code == 2 and "as many styles as photographs, got 1 and 2" in err


def test_grid_and_morph(run, place, model):
    four = [word for name in ("wave", "ink", "mosaic", "starry") for word in ("--style", name)]
    code, _, err = run("image", "photos/a.png", *four, "--grid", "--size", "16", "-o", "square.png")
    assert (code, err) == (0, "")
    square = read_image("square.png").pixels
    assert square.shape == (5 * 20 - 4, 5 * 24 - 4, 3)
    small = resize(read_image("photos/a.png").pixels, (16, 20))
    corner = model.apply(small, model.encode_style(gallery.find("starry")))
    assert np.array_equal(square[-16:, -20:], corner)
    assert run("image", "photos/a.png", *four[:6], "--grid", "-o", "other.png")[0] == 2
    code, _, err = run("image", "photos/a.png", *four[:6], "--morph", "5", "-o", "frames")
    assert (code, err) == (0, "")
    assert files("frames") == [f"a_000{number}.png" for number in range(1, 6)]
    wave, ink, mosaic = (model.encode_style(gallery.find(name)) for name in ("wave", "ink", "mosaic"))
    for number, style in ((1, wave), (2, Style.mix([wave, ink])), (3, ink), (4, Style.mix([ink, mosaic])), (5, mosaic)):
        frame = read_image(f"frames/a_000{number}.png").pixels.astype(int)
        assert np.abs(frame - model.apply("photos/a.png", style)).max() <= 1
    for words in (["--morph", "1"], ["--morph", "5", "--grid"]):
        assert run("image", "photos/a.png", *four[:6], *words, "-o", "other")[0] == 2
    assert run("image", "photos/a.png", "--style", "wave", "--morph", "5", "-o", "other")[0] == 2


def half(place, name="left.png", shape=(8, 10)):
    pixels = np.zeros((*shape, 3), np.uint8)
    pixels[:, : shape[1] // 2] = 255
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    write_image(place / name, pixels)


def test_masks_one_for_all_or_one_for_each(run, place, model):
    half(place)
    photo, wave = read_image("photos/a.png").pixels, model.encode_style(gallery.find("wave"))
    whole = model.apply(photo, wave)
    for mask, here in (("left.png", slice(0, 8)), ("not:left.png", slice(32, 40))):
        assert run("image", "photos/a.png", "--style", "wave", "--mask", mask, "-o", "m.png", "--overwrite")[0] == 0
        painted = read_image("m.png").pixels
        there = slice(32, 40) if here.start == 0 else slice(0, 8)
        assert np.array_equal(painted[:, here], whole[:, here])
        assert np.array_equal(painted[:, there], photo[:, there])
    # A folder: the same names below it, whatever their format; a photograph without a mask fails alone.
    half(place, "masks/a.bmp")
    half(place, "masks/2024/söder/a.jpg")
    code, _, err = run("image", "photos", "--style", "wave", "--mask", "masks", "-o", "out")
    assert code == 3
    assert files("out") == ["2024/söder/a.png", "a.png"]
    assert "'photos/b c.jpg' has no mask" in err
    assert np.array_equal(read_image("out/a.png").pixels[:, 32:], photo[:, 32:])


def test_regions_and_soft_edges(run, place, model):
    half(place)
    wave, ink, mosaic = (model.encode_style(gallery.find(name)) for name in ("wave", "ink", "mosaic"))
    photo, here, there = read_image("photos/a.png").pixels, slice(0, 8), slice(32, 40)

    def paint(*words):
        code, _, err = run("image", "photos/a.png", *words, "-o", "r.png", "--overwrite")
        assert (code, err) == (0, "")
        return read_image("r.png").pixels

    painted = paint("--style", "mosaic", "--region", "left.png=wave:3,ink:1@0.5", "--region", "not:left.png=keep")
    mixed = model.apply(photo, Style.mix([wave, ink], [3, 1]), 0.5)
    assert np.abs(painted.astype(int) - mixed)[:, here].max() <= 1
    assert np.array_equal(painted[:, there], photo[:, there])
    alone = paint("--region", "left.png=styles/ink.png")  # without --style the rest stays as it is
    assert np.array_equal(alone[:, there], photo[:, there])
    assert np.array_equal(alone[:, here], model.apply(photo, model.encode_style("styles/ink.png"))[:, here])
    hard, soft = (paint("--style", "mosaic", "--mask", "left.png", "--feather", str(n)).astype(int) for n in (0, 6))
    assert np.array_equal(hard[:, :4], model.apply(photo, mosaic)[:, :4])
    assert not np.array_equal(soft[:, there], photo[:, there])


def test_people_on_the_command_line(run, place, model, finds_people):
    write_image(place / "she.png", resize(read_image(gallery.find("astronaut", kind="sample")).pixels, (128, 128)))
    photo, wave = read_image("she.png").pixels, model.encode_style(gallery.find("wave"))
    for words, mask in ((["--mask", "not:person"], PersonMask(inverse=True)), (["--mask", "person"], PersonMask())):
        assert run("image", "she.png", "--style", "wave", *words, "-o", "out.png", "--overwrite")[0] == 0
        assert np.array_equal(read_image("out.png").pixels, model.apply(photo, wave, mask=mask))
        assert f"{words[0]} {words[1]} -o" in run("info", "out.png")[1]
    kept = model.apply(photo, wave, regions=[Region(PersonMask(feather=4), None)])
    words = ["--region", "person=keep", "--feather", "4"]
    assert run("image", "she.png", "--style", "wave", *words, "-o", "out.png", "--overwrite")[0] == 0
    assert np.array_equal(read_image("out.png").pixels, kept)
    # Where there is nobody, the notes say so.
    write_image(place / "wall.png", np.full((64, 64, 3), 130, np.uint8))
    for words in (["--mask", "person"], ["--mask", "not:person"], ["--region", "person=ink"]):
        code, out, _ = run("image", "wall.png", "--style", "wave", *words, "-o", "out.png", "--overwrite")
        assert code == 0 and "nobody was found in it" in out
    # A file or a folder of that very name wins.
    half(place, "person/she.png")
    assert run("image", "she.png", "--style", "wave", "--mask", "person", "-o", "out.png", "--overwrite")[0] == 0
    assert np.array_equal(read_image("out.png").pixels[:, :32], model.apply(photo, wave)[:, :32])


def test_pictures_tell_the_command_that_made_them_and_no_folder(run, place, model):
    half(place, "secret place/left half.png")
    words = ["--style", "styles/ink.png:2", "--style", "wave", "--strength", "0.8", "--size", "24"]
    words += ["--mask", "not:secret place/left half.png", "--feather", "2", "--keep-colors", "luminance"]
    words += ["--region", "secret place/left half.png=mosaic,ink:0.5@0.3", "--region", "masks=keep"]
    half(place, "masks/a.png")
    assert run("image", place / "photos" / "a.png", *words, "-o", "one.png")[0] == 0
    (line,) = json.loads(run("info", "one.png", "--json")[1])["history"]
    assert run("info", "one.png")[1] == line + "\n"
    command, _, made_by = line.partition("  # ")
    assert made_by == f"restyle {restyle.__version__}, model {model.card.name} {model.card.version}"
    assert "secret" not in line and str(place) not in line
    # The same words, with the folders in their places again, make the same picture.
    for name in ("secret place/left half.png", "styles/ink.png", "masks/a.png"):
        command = command.replace(Path(name).name, name)
    again = shlex.split(command)
    again = [{"CONTENT": "photos/a.png", "OUTPUT": "two.png"}.get(word, word) for word in again]
    assert run(*again[1:])[0] == 0
    assert np.array_equal(read_image("one.png").pixels, read_image("two.png").pixels)
    # Painted once more, it tells of both.
    assert run("image", "one.png", "--style", "ink", "-o", "three.jpg")[0] == 0
    assert run("info", "three.jpg")[1].splitlines()[0] == line
    assert "--style ink -o OUTPUT" in run("info", "three.jpg")[1].splitlines()[1]


def test_each_picture_tells_of_its_own_style(run, place):
    assert run("image", "photos/a.png", "--style", "styles", "-o", "out")[0] == 0
    assert run("image", "photos/a.png", "--style", "wave", "--style", "ink", "--morph", "3", "-o", "frames")[0] == 0
    told = {name: run("info", name)[1] for name in ("out/a_wave.png", "out/a_ink.png", "frames/a_0002.png")}
    for name, words in zip(
        told, ("--style wave.png", "--style ink.png", "--style wave:0.5 --style ink:0.5"), strict=True
    ):
        assert f"image CONTENT {words} -o" in told[name]


def test_no_metadata_where_none_is_wanted(run, place):
    exif = PIL.Image.Exif()
    exif[0x010F] = "Maker"
    write_image(place / "own.jpg", read_image("photos/a.png").pixels, exif=exif.tobytes())
    for words, there in (([], True), (["--no-metadata"], False)):
        assert run("image", "own.jpg", "--style", "wave", *words, "-o", "out.jpg", "--overwrite")[0] == 0
        assert (b"Maker" in Path("out.jpg").read_bytes(), b"wave" in Path("out.jpg").read_bytes()) == (there, there)
    assert "does not say how it was made" in run("info", "out.jpg")[1]
    assert run("info", "missing.jpg")[0] == 3


def test_a_dry_run_tells_what_would_be_done_and_does_nothing(run, place, monkeypatch):
    monkeypatch.setattr(Stylizer, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    (place / "photos" / "bad.jpg").write_bytes(b"no picture")
    (place / "out").mkdir()
    write_image(place / "out" / "b c.jpg", read_image("photos/a.png").pixels)
    words = ["image", "photos", "--style", "wave", "-o", "out", "--skip-existing", "--size", "400x500", "--dry-run"]
    code, out, err = run(*words)
    assert code == 3
    assert "500 x 400  0.2 GB" in out and "2 to paint, 1 failed, 1 skipped" in out
    assert "bad.jpg" in err
    assert files("out") == ["b c.jpg"]
    rows = json.loads(run(*words, "--json")[1])["pictures"]
    assert [row.get("output") for row in rows if "error" not in row] == ["out/2024/söder/a.png", "out/a.png"]
    needed = estimate_memory((400, 500))
    assert all(row["memory_bytes"] == needed for row in rows if "error" not in row)
    half(place, "masks/other.png")
    monkeypatch.setattr(painter, "machine_memory", lambda: 8_000_000_000)
    # Styles and masks that are not there, and pictures that would not fit, are told beforehand, too.
    for wrong, expected in (
        (["--style", "none.jpg"], 3),
        (["--mask", "masks"], 3),
        (["--size", "9000x20000", "--tile", "0"], 6),
    ):
        code, _, err = run("image", "photos/a.png", "--style", "wave", *wrong, "-o", "new.png", "--dry-run")
        assert (code, len(err.splitlines())) == (expected, 1), err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "at least one style"),
        (["--region", "left.png=keep"], "at least one style"),
        (["--style", "wave", "--region", "left.png"], "region must be MASK=STYLE"),
        (["--style", "wave", "--region", "left.png=wav"], "did you mean 'wave'"),
        (["--style", "wave", "--region", "left.png=wave@3"], "region 'left.png=wave@3': strength must lie between 0"),
        (["--style", "wave", "--region", "none.png=wave"], "no mask 'none.png'"),
        (["--style", "wave", "--mask", "none.png"], "no mask 'none.png'"),
        (["--style", "wave", "--mask", "photos/2024"], "has no mask"),
        (["--style", "wave", "--feather", "-1"], "feather"),
        (["--style", "wave", "--feather", "nan", "--mask", "left.png"], "restyle: feather must be finite"),
        (["--style", "wave", "--feather", "inf", "--mask", "left.png"], "restyle: feather must be finite"),
        (["--style", "wave", "--feather", "5"], "--feather needs --mask or --region"),
        (["--style", "wave", "--workers", "2"], "--workers needs --cluster"),
        (["--region", "left.png=wave", "--morph", "3"], "--morph needs --style"),
        (["--style", "wave", "--region", "left.png=keep@0.5"], "keep takes no strength"),
        (["--style", "wave", "--dry-run", "--watch"], "cannot go together"),
        (["--style", "s3://bucket/wave.jpg"], "'s3://bucket/wave.jpg' is an address"),
        (["--region", "left.png=wave", "--grid"], "--grid needs --style"),
        (["--style", "wave", "--style-crop", "random", "--seed", "-1"], "--seed"),
        (["--style", "wave", "--style", "ink", "--morph", "999999999"], "--morph"),
        (["--style", "wave", "--name", ""], "inside the output folder"),
        (["--style", "wave", "--size", "00x5"], "neither N nor HxW"),
        (["--style", "wave", "--keep-colors", "hue"], "luminance, histogram, covariance"),
        (["--style", "wave", "--keep-colors", "luminance:2"], "amount from 0 to 1"),
        (["--style", "wave", "--style-size", "10"], "style_size must lie between"),
        (["--style", "wave", "--style-crop", "left"], "center or random"),
        (["--style", "wave", "--work-size", "1"], "work_size must be at least"),
        (["--style", "wave:2", "--style", "ink", "--each-style"], "weights are for styles that are mixed"),
        (["--style", "wave", "--each-style", "--pairs"], "--each-style and --pairs cannot go together"),
        (["--style", "wave", "--overwrite", "--skip-existing"], "cannot go together"),
        (["--style", "wave", "--name", "../{content}"], "inside the output folder"),
        (["--style", "wave", "--name", "{photo}"], "unknown field {photo}"),
        (["--style", "wave", "--name", "{content}.png", "--format", "jpg"], "given twice"),
        (["--style", "wave", "--format", "heic"], "no picture format is called '.heic'"),
        (["--style", "nothing/"], "nothing"),
        (["--style", "empty"], "there is no picture in 'empty'"),
        (["--style", "wave", "--watch"], "--watch needs one folder"),
    ],
)
def test_wishes_that_cannot_be_fulfilled_get_one_sentence(run, place, words, sentence):
    half(place)
    (place / "empty").mkdir()
    code, out, err = run("image", "photos/a.png", *words, "-o", "out/")
    assert code in (2, 3)
    assert sentence in " ".join(err.split())
    assert len(err.splitlines()) == 1 and out == ""
    assert not files("out")


def test_folders_that_hold_nothing_or_cannot_be_read(run, place, monkeypatch):
    (place / "empty").mkdir()
    (place / "empty" / "notes.txt").touch()
    code, _, err = run("image", "empty", "--style", "wave", "-o", "out")
    assert code == 3 and "there is no picture in 'empty'" in err
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("2024"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    code, _, err = run("image", "photos", "--style", "wave", "-o", "out")
    assert code == 3
    assert files("out") == ["a.png", "b c.jpg"]
    assert "2024" in err and "Permission denied" in err
    rows = json.loads(run("image", "photos", "--style", "wave", "-o", "out", "--overwrite", "--json")[1])["pictures"]
    assert [row["content"] for row in rows if "error" in row] == ["photos/2024"]


def test_outputs_that_cannot_be_written(run, place, monkeypatch):
    (place / "file").touch()
    for output, sentence in (
        ("file", "several pictures need a folder"),
        ("all.png", "several pictures need a folder"),
        ("-", "several pictures need a folder"),
        ("file/deep/", "is not a folder"),
    ):
        code, out, err = run("image", "photos", "--style", "wave", "-o", output)
        assert (code, out, len(err.splitlines())) == (3, "", 1)
        assert sentence in err
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("locked") and access(path, mode))
    (place / "locked").mkdir()
    code, _, err = run("image", "photos", "--style", "wave", "-o", "locked/new")
    assert code == 3 and "no permission" in err


def test_a_full_disk_ends_the_work(run, place, monkeypatch):
    for number in range(30):
        write_image(place / "photos" / f"{number}.png", read_image(place / "photos" / "a.png").pixels)
    tried = []

    def full(path, *_, **__):
        tried.append(path)
        raise ImageError(f"cannot write {str(path)!r}: no space") from OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(pipeline, "write_image", full)
    code, _, err = run("image", "photos", "--style", "wave", "-o", "out")
    assert code == 3 and "no space" in err
    assert len(tried) < 30
    assert len(err.splitlines()) == 1


def test_pictures_through_pipes(place, model):
    command = [Path(sys.executable).parent / "restyle", "image", "-", "--style", "wave", "--precision", "f32"]

    def pipe(*words, given):
        return subprocess.run([*command, *words], input=given, capture_output=True)

    done = pipe("-o", "-", given=(place / "photos" / "a.png").read_bytes())
    assert done.returncode == 0 and done.stdout.startswith(b"\x89PNG")
    expected = model.apply("photos/a.png", model.encode_style(gallery.find("wave"))).astype(int)
    assert np.abs(read_image(done.stdout).pixels - expected).max() <= 1
    done = pipe("-o", "-", "--format", "jpg", "-q", given=(place / "photos" / "a.png").read_bytes())
    assert done.stdout.startswith(b"\xff\xd8") and done.stderr == b""
    done = pipe("-o", "-", given=b"")
    assert (done.returncode, done.stdout) == (3, b"") and b"the file is empty" in done.stderr
    done = pipe("-o", "-", "--json", given=b"")
    assert done.returncode == 2 and b"cannot go together" in done.stderr


@pytest.fixture
def ticking(monkeypatch):
    """Instead of sleeping, do what is wanted at each tick; Ctrl-C after the tenth."""

    def start(happens):
        ticks = iter(range(1, 11))

        def sleep(_):
            tick = next(ticks, None)
            if tick is None:
                raise KeyboardInterrupt
            happens.get(tick, lambda: None)()

        monkeypatch.setattr(time, "sleep", sleep)

    return start


def test_watching_paints_what_comes_until_ctrl_c(run, place, ticking):
    (place / "in" / "deep").mkdir(parents=True)
    ticking(
        {
            1: lambda: (place / "photos" / "a.png").rename(place / "in" / "a.png"),
            3: lambda: (place / "in" / "bad.jpg").write_bytes(b"no picture"),
            5: lambda: (place / "photos" / "b c.jpg").rename(place / "in" / "deep" / "b c.jpg"),
        }
    )
    code, out, err = run("image", "in", "--style", "wave", "--watch", "-o", "in/out", "--json")
    assert code == 130
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row.get("output") for row in rows] == ["in/out/a.png", None, "in/out/deep/b c.jpg"]
    assert rows[1]["error"]["exit_code"] == 3
    assert "bad.jpg" in err
    assert files("in/out") == ["a.png", "deep/b c.jpg"]


@pytest.mark.parametrize(("words", "painted"), [([], 1), (["--overwrite"], 2)])
def test_a_watched_picture_that_changes_is_painted_anew_only_if_it_may(run, place, ticking, words, painted):
    ticking({4: lambda: os.utime(place / "photos" / "a.png", (1, 1))})
    out = run("image", "photos", "--style", "wave", "--watch", "-o", "out", *words)[1]
    assert out.count("out/a.png") == painted


def test_the_limit_is_for_photographs_too(run, place):
    write_image(place / "dot.png", np.full((20, 20, 3), 90, np.uint8))
    words = ["photos", "--style", "dot.png", "-o", "out", "--limit-megapixels", "0.001"]
    code, _, err = run("image", *words)
    assert code == 6 and "the limit is 1,000" in err
    assert not files("out")


def test_the_controls_reach_the_engine(run, place, model):
    photo, artwork = place / "photos" / "a.png", gallery.find("harvest")
    for words, reading, how in (
        (["--keep-colors", "histogram:0.5"], {}, {"keep_colors": "histogram:0.5"}),
        (["--work-size", "16"], {}, {"work_size": 16}),
        (["--style-size", "128"], {"size": 128}, {}),
        (
            ["--style-size", "128", "--style-crop", "random", "--seed", "5"],
            {"size": 128, "crop": "random", "seed": 5},
            {},
        ),
        (["--tile", "128"], {}, {"tile": 128}),
        (["--strength", "1.7"], {}, {"strength": 1.7}),
    ):
        assert run("image", photo, "--style", "harvest", *words, "-o", "o.png", "--overwrite")[0] == 0
        expected = model.apply(photo, model.encode_style(artwork, **reading), **how)
        assert np.array_equal(read_image("o.png").pixels, expected), words


def test_defaults_are_those_of_the_engine():
    from restyle.cli import pictures

    command, encode = inspect.signature(pictures.image).parameters, inspect.signature(Stylizer.encode_style).parameters
    assert command["style_size"].default == encode["size"].default == STYLE_SIDE
    assert command["style_crop"].default == encode["crop"].default
    assert command["seed"].default == encode["seed"].default
    apply = inspect.signature(Stylizer.apply).parameters
    for name in ("strength", "keep_colors", "work_size", "tile"):
        assert command[name].default == apply[name].default
    assert options.parse_style("C:\\art\\wave.jpg") == ("C:\\art\\wave.jpg", 1.0)


def test_the_commands_in_the_documentation_run(run, place):
    run_documented(run, place, [words for words in documented() if not names_people(words)], at_least=8)


def test_the_commands_about_people_in_the_documentation_run(run, place, finds_people):
    run_documented(run, place, list(filter(names_people, documented())), at_least=2)


def names_people(words):
    return any(word == "person" or word.endswith(":person") or word.startswith("person=") for word in words)


def documented():
    document = (Path(__file__).parent.parent / "docs" / "cli.md").read_text()
    chapter = document.split("## restyle image\n")[1].split("\n## ")[0]
    lines = [line for line in chapter.splitlines() if line.startswith("    restyle image ") and "--cluster" not in line]
    commands = [line.split() for line in lines]
    return [[word.strip('"') for word in words] for words in commands if "CONTENT..." not in words]


def run_documented(run, place, commands, *, at_least):
    assert len(commands) >= at_least
    for name in ("photo.jpg", "a.jpg", "b.png", "painting.jpg", "person.png", "sky.png", "inbox/a.jpg"):
        (place / name).parent.mkdir(exist_ok=True)
        write_image(place / name, read_image("photos/a.png").pixels)
    for words in commands:
        # Small and few, so that it is quick.
        for long, short in (("512", "16"), ("48", "2")):
            words = [short if word == long else word for word in words]
        if "--watch" in words:
            words.remove("--watch")
        assert run(*words[1:], *(() if "--skip-existing" in words else ("--overwrite",)))[0] == 0, words
