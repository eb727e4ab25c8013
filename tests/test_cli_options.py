"""The options of `restyle image`: masks, regions, controls, what a picture tells of them, wishes that cannot be met."""

import inspect
import json
import shlex
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import restyle
from pictures import files
from restyle import PersonMask, Region, Style, gallery, painter
from restyle.batch import estimate_memory
from restyle.cli import options
from restyle.image import read_image, resize, write_image
from restyle.stylizer import STYLE_SIDE, Stylizer

pytestmark = pytest.mark.usefixtures("one_model")


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


@pytest.mark.parametrize(("words", "code"), [(["-o", "o.webp"], 3), (["-o", "o.png"], 0), (["-o", "-"], 0)])
def test_a_dry_run_foretells_what_a_format_cannot_hold(run, place, words, code):
    got, out, err = run("image", "photos/a.png", "--style", "wave", "--size", "16x16400", "--dry-run", *words)
    assert got == code, out + err
    assert ("WebP holds at most 16,383 pixels a side, got 16 x 16400" in err) == (code == 3)


def test_a_dry_run_tells_the_size_of_a_square_and_leaves_standard_output_alone(run, place):
    four = [word for name in ("wave", "ink", "mosaic", "starry") for word in ("--style", name)]
    words = ["image", "photos/a.png", *four, "--grid", "--size", "16", "-o", "square.png", "--json"]
    told, painted = (json.loads(run(*words, *dry)[1])["pictures"][0] for dry in (["--dry-run"], []))
    assert (told["height"], told["width"]) == (painted["height"], painted["width"]) == (96, 116)
    code, out, err = run("image", "photos/a.png", "--style", "wave", "-o", "-", "--dry-run")
    assert (code, out) == (0, "") and "40 x 32" in err


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
        (["--style", "wave", "--mask", ""], "the mask is an empty word"),
        (["--style", "wave", "--mask", "not:"], "the mask is an empty word"),
        (["--style", "wave", "--region", "not:=ink"], "the mask is an empty word"),
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
        (["--style", "wave", "--name", "{frame}"], "only the pictures of --morph have a {frame}"),
        (["--style", "wave:-1"], "must be a plain number, such as wave:0.5, got '-1'"),
        (["--style", "wave:inf"], "must be a plain number, such as wave:0.5, got 'inf'"),
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
    from restyle.cli.image import image

    command, encode = inspect.signature(image).parameters, inspect.signature(Stylizer.encode_style).parameters
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
