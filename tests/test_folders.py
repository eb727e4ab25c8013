"""Folders on the command line: many pictures, many styles, and what can go wrong on the way."""

import errno
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pictures import files
from restyle import Style, gallery
from restyle.batch import pipeline
from restyle.errors import ImageError
from restyle.image import read_image, resize, write_image
from restyle.stylizer import Stylizer

STYLES = ("wave", "ink")
pytestmark = pytest.mark.usefixtures("one_model")


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
        code, _, err = run("image", "photos", "--style", "styles", "-o", "out", "--overwrite")
        assert code == 130
        assert "--skip-existing" not in err  # which would leave out what is not painted anew yet
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


def test_masks_and_styles_are_never_overwritten(run, place):
    for name in ("sky.png", "masks/a.png", "photos/a.png"):
        (place / name).parent.mkdir(exist_ok=True)
        write_image(place / name, read_image("styles/wave.png").pixels, overwrite=True)
    before = {name: (place / name).read_bytes() for name in files(place)}
    for words in (
        ["--style", "wave", "--mask", "sky.png", "-o", "sky.png"],
        ["--style", "wave", "--mask", "masks", "-o", "masks/a.png"],
        ["--style", "wave", "--region", "masks=ink", "-o", "masks/a.png"],
        ["--style", "styles/ink.png", "-o", "styles/ink.png"],
        ["--region", "sky.png=styles/ink.png", "-o", "styles/ink.png"],
    ):
        code, _, err = run("image", "photos/a.png", *words, "--overwrite")
        assert code == 3 and "would be lost" in err
    for words, what in ((["--mask", "masks"], "masks"), (["--style", "styles"], "styles")):
        code, _, err = run("image", "photos/a.png", "--style", "wave", *words, "-o", what, "--overwrite")
        assert code == 3 and f"among the {what}" in err
    assert before == {name: (place / name).read_bytes() for name in files(place)}


def test_paintings_do_not_become_styles(run, place):
    words = ["image", "photos", "--style", "styles", "-o", "styles/out", "--skip-existing"]
    assert [run(*words)[1].splitlines()[-1].split("  ")[0] for _ in range(2)] == ["6 painted", "6 skipped"]


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
    words = ["photos/a.png", "photos/a.png", "--style", "wave", "--style", "ink", "-o", "two", "--name", "{style}"]
    assert run("image", *words, "--pairs")[0] == 0  # but pairs are what was asked for
    assert files("two") == ["ink.png", "wave.png"]


def test_a_link_to_a_photograph_is_painted_under_its_own_name(run, place):
    (place / "photos" / "z.png").symlink_to("a.png")
    assert run("image", "photos", "--style", "wave", "-o", "out")[0] == 0
    assert files("out") == ["2024/söder/a.png", "a.png", "b c.jpg", "z.png"]
    assert read_image("out/z.png").pixels.tolist() == read_image("out/a.png").pixels.tolist()


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
    for words in ([], ["--watch"]):
        code, _, err = run("image", "photos", "--style", "wave", "-o", "locked/new", *words)
        assert code == 3 and "no permission" in err


def test_a_full_disk_ends_the_work(run, place, monkeypatch, ticking):
    for number in range(30):
        write_image(place / "photos" / f"{number}.png", read_image(place / "photos" / "a.png").pixels)
    tried = []

    def full(path, *_, **__):
        tried.append(path)
        raise ImageError(f"cannot write {str(path)!r}: no space") from OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(pipeline, "write_image", full)
    code, out, err = run("image", "photos", "--style", "wave", "-o", "out")
    assert code == 3 and "no space" in err
    assert len(tried) < 30
    assert len(err.splitlines()) == 1
    assert f"1 failed, {33 - 1} not tried" in out
    code, out, _ = run("image", "photos", "--style", "wave", "-o", "out", "--json")
    assert code == 3
    assert ["no space" in row["error"]["message"] for row in json.loads(out)["pictures"]] == [True]
    tried.clear()
    ticking({})
    code, out, err = run("image", "photos", "--style", "wave", "-o", "out", "--watch", "--json")
    assert code == 3 and len(tried) == len(out.splitlines()) == 1
    assert "no space" in err and "no space" in json.loads(out)["error"]["message"]


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
    for words, closed in ((["-o", "x.png"], "<&-"), (["-o", "-"], ">&-")):  # as some services start their programs
        line = shlex.join([str(word) for word in (*command, *words)])
        done = subprocess.run(f"{line} {closed}", shell=True, stdin=subprocess.DEVNULL, capture_output=True)
        assert done.returncode == 3 and b"is closed; send" in done.stderr


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
