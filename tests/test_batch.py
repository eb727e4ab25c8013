"""Many pictures: found, named, and painted as they would be one by one, whatever happens to some of them."""

import io
import itertools
import os
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from restyle import MaskFile, Region, Style, batch
from restyle.batch import pipeline, square
from restyle.errors import ImageError, LimitError
from restyle.image import encode_image, read_image, resize, write_image


class Inverter:
    """Stands in for a Stylizer: paints by inverting, and keeps in mind what it was asked for."""

    device = "cpu"

    def __init__(self):
        self.asked = []

    def apply(self, photo, style, strength=1.0, *, mask=None, regions=(), **options):
        return self._invert([photo])[0]

    def apply_many(self, photos, styles, strengths, **options):
        return self._invert(photos)

    def _invert(self, photos):
        self.asked.append([photo.shape[:2] for photo in photos])
        if any((photo == 7).all() for photo in photos):
            raise ValueError("a picture of sevens")
        return [255 - photo for photo in photos]


STYLE = Style(np.zeros(3, np.float32), "inverter")


def write(folder, name, height=16, width=20, value=None, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    write_image(folder / name, pixels if value is None else np.full_like(pixels, value))
    return folder / name


def jobs_of(folder, out):
    return [batch.Job(path, out / path.name, STYLE) for path in batch.find_pictures(folder)[0]]


# --- painting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [1, 4])
def test_a_batch_gives_what_one_at_a_time_gives(model, wave, mosaic, photo, tmp_path, together):
    sizes = [(40, 52), (64, 48), (40, 52), (64, 48), (40, 52), (40, 52)]
    styles = [wave, mosaic, mosaic, wave, wave, mosaic]
    jobs, expected = [], {}
    for number, (size, style) in enumerate(zip(sizes, styles, strict=True)):
        pixels = np.roll(resize(photo, size), number, axis=1)
        write_image(tmp_path / f"{number}.png", pixels)
        jobs.append(batch.Job(tmp_path / f"{number}.png", tmp_path / "out" / f"{number}.png", style, 0.8))
        expected[tmp_path / "out" / f"{number}.png"] = model.apply(pixels, style, 0.8, keep_colors="luminance")
    results = list(batch.run(jobs, model, together=together, keep_colors="luminance"))
    assert {id(result.job) for result in results} == {id(job) for job in jobs}
    for result in results:
        assert result.error is None
        painted, wanted = read_image(result.job.output).pixels.astype(int), expected[result.job.output]
        assert result.size == painted.shape[:2]
        assert np.abs(painted - wanted).max() <= (0 if together == 1 else 1)


def test_pictures_of_one_size_follow_each_other_and_go_together_if_wanted(tmp_path):
    for number in range(9):
        write(tmp_path / "in", f"{number}.png", 16, 20 + 4 * (number % 3))
    alone, four = Inverter(), Inverter()
    assert all(r.error is None for r in batch.run(jobs_of(tmp_path / "in", tmp_path / "a"), alone))
    assert sorted(map(len, alone.asked)) == [1] * 9
    widths = [shapes[0][1] for shapes in alone.asked]
    # Two paint at the same time, so neighbours may be recorded in either order.
    assert sum(a != b for a, b in itertools.pairwise(widths)) <= 6
    assert all(r.error is None for r in batch.run(jobs_of(tmp_path / "in", tmp_path / "b"), four, together=4))
    assert sorted(map(tuple, four.asked)) == [((16, 20),) * 3, ((16, 24),) * 3, ((16, 28),) * 3]
    for path in (tmp_path / "in").iterdir():
        inverted = 255 - read_image(path).pixels
        assert np.array_equal(read_image(tmp_path / "a" / path.name).pixels, inverted)
        assert np.array_equal(read_image(tmp_path / "b" / path.name).pixels, inverted)


@pytest.mark.parametrize("together", [1, 8])
def test_what_fails_does_not_stop_the_others(tmp_path, together):
    for number in range(4):
        write(tmp_path / "in", f"{number}.png")
    write(tmp_path / "in", "7.png", value=7)  # fails while it is painted, in a batch with good ones
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    write(tmp_path / "out", "2.png", value=1)  # is there already
    jobs = [*jobs_of(tmp_path / "in", tmp_path / "out"), batch.Job(tmp_path / "gone.png", tmp_path / "g.png", STYLE)]
    results = {r.job.output.name: r.error for r in batch.run(jobs, Inverter(), together=together)}
    assert {name for name, error in results.items() if error is None} == {"0.png", "1.png", "3.png"}
    assert isinstance(results["7.png"], ValueError)
    assert all(isinstance(results[name], ImageError) for name in ("bad.png", "2.png", "g.png"))
    assert (read_image(tmp_path / "out" / "2.png").pixels == 1).all()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"0.png", "1.png", "2.png", "3.png"}


def test_faults_of_ours_are_not_taken_for_bad_pictures(tmp_path):
    write(tmp_path, "a.png")
    broken = Inverter()
    broken.apply = lambda *_, **__: [][1]
    with pytest.raises(IndexError):
        list(batch.run([batch.Job(tmp_path / "a.png", tmp_path / "b.png", STYLE)], broken))


def test_a_photograph_in_many_styles_is_read_once(tmp_path, monkeypatch):
    write(tmp_path, "a.png")
    write(tmp_path, "b.png")
    read = []
    monkeypatch.setattr(pipeline, "read_image", lambda path, **_: read.append(path) or read_image(path))
    jobs = [batch.Job(tmp_path / f"{n}.png", tmp_path / f"{n}_{s}.png", STYLE) for n in "ab" for s in range(5)]
    assert len(list(batch.run(jobs, Inverter()))) == 10
    assert read == [tmp_path / "a.png", tmp_path / "b.png"]


def test_memory_is_bounded_even_if_the_disk_is_slow(tmp_path, monkeypatch):
    for number in range(12):
        write(tmp_path / "in", f"{number}.png", 16, 20 + number)
    inside, most = set(), 0

    def reading(path, **_):
        nonlocal most
        inside.add(path.name)
        most = max(most, len(inside))
        return read_image(path)

    def writing(path, *words, **options):
        time.sleep(0.02)
        notes = write_image(path, *words, **options)
        inside.remove(path.name)
        return notes

    monkeypatch.setattr(pipeline, "read_image", reading)
    monkeypatch.setattr(pipeline, "write_image", writing)
    monkeypatch.setattr(pipeline, "MOST_PIXELS", 3 * 16 * 31)
    assert len(list(batch.run(jobs_of(tmp_path / "in", tmp_path / "out"), Inverter()))) == 12
    assert 2 <= most <= 4
    monkeypatch.setattr(pipeline, "MOST_PIXELS", 1)  # smaller than any: one at a time
    most = 0
    assert len(list(batch.run(jobs_of(tmp_path / "in", tmp_path / "out2"), Inverter()))) == 12
    assert most == 1


def test_a_large_photograph_is_let_go_before_its_painting_is_written(tmp_path, monkeypatch):
    write(tmp_path / "in", "a.png")
    photos, there = [], []

    class Watched(Inverter):
        def apply(self, photo, *_, **__):
            photos.append(weakref.ref(photo))
            return 255 - photo

    def writes(*words, **options):
        there.append(photos[-1]() is not None)
        return write_image(*words, **options)

    monkeypatch.setattr(pipeline, "write_image", writes)
    for limit in (10**9, 1):
        monkeypatch.setattr(pipeline, "MOST_PIXELS", limit)
        (result,) = batch.run(jobs_of(tmp_path / "in", tmp_path / str(limit)), Watched())
        assert result.error is None
    assert there == [True, False]  # others may still want a small one


def test_closing_stops_and_leaves_whole_files_only(tmp_path):
    for number in range(200):
        write(tmp_path / "in", f"{number:03}.png")
    slow = Inverter()
    slow.apply = lambda photo, *_, **__: time.sleep(0.1) or 255 - photo
    results = batch.run(jobs_of(tmp_path / "in", tmp_path / "out"), slow)
    assert next(results).error is None
    results.close()
    written = list((tmp_path / "out").iterdir())
    assert 1 <= len(written) <= 8  # those in work are finished, those that wait are not begun
    assert all(read_image(path).pixels.shape == (16, 20, 3) for path in written)
    # What is left can be done later.
    left = [job for job in jobs_of(tmp_path / "in", tmp_path / "out") if not job.output.exists()]
    assert all(result.error is None for result in batch.run(left, Inverter()))
    assert len(list((tmp_path / "out").iterdir())) == 200


def test_sizes_and_limits(tmp_path):
    write(tmp_path, "a.png", 20, 40)
    job = batch.Job(tmp_path / "a.png", tmp_path / "b.png", STYLE)
    (result,) = batch.run([job], Inverter(), size=10, overwrite=True)
    assert result.size == read_image(tmp_path / "b.png").pixels.shape[:2] == (10, 20)
    (result,) = batch.run([job], Inverter(), size=(33, 17), overwrite=True)
    assert result.size == read_image(tmp_path / "b.png").pixels.shape[:2] == (33, 17)
    for options in ({"limit_pixels": 100}, {"limit_pixels": 1000, "size": 100}):
        (result,) = batch.run([job], Inverter(), overwrite=True, **options)
        assert isinstance(result.error, LimitError)
    for options in ({"together": 0}, {"workers": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            next(batch.run([job], Inverter(), **options))


def test_what_a_format_cannot_hold_is_refused_before_it_is_painted(tmp_path):
    long = write(tmp_path, "long.png", 4, 16_384)
    square = (STYLE,) * 4
    jobs = [
        batch.Job(long, tmp_path / "long.webp", STYLE),
        batch.Job(long, tmp_path / "long.png", STYLE),
        batch.Job(long, io.BytesIO(), STYLE, format="webp"),
        batch.Job(long, tmp_path / "square.jpg", square),
    ]
    painter = Inverter()
    errors = [str(result.error) for result in batch.run(jobs, painter, overwrite=True)]
    assert ["at most" in error for error in errors] == [True, False, True, True]
    assert [sizes for sizes in painter.asked if sizes] == [[(4, 16_384)]]


def test_bytes_in_and_a_stream_out(photo):
    stream = io.BytesIO()
    (result,) = batch.run([batch.Job(encode_image(photo, "png"), stream, STYLE, format=".bmp")], Inverter())
    assert result.error is None
    assert stream.getvalue()[:2] == b"BM"
    assert np.array_equal(read_image(stream.getvalue()).pixels, 255 - photo)


def test_masks_and_regions_come_from_files_of_any_size(model, wave, mosaic, photo, tmp_path):
    write_image(tmp_path / "photo.png", photo)
    left = np.zeros((10, 20, 3), np.uint8)
    left[:, :10] = 255
    write_image(tmp_path / "left.png", left)

    def paint(**places):
        (result,) = batch.run([batch.Job(tmp_path / "photo.png", stream := io.BytesIO(), wave, **places)], model)
        assert result.error is None
        return read_image(stream.getvalue()).pixels

    here, there = (slice(None), slice(0, 40)), (slice(None), slice(88, None))
    mask = MaskFile(tmp_path / "left.png")
    whole, half, other = paint(), paint(mask=mask), paint(mask=MaskFile(mask.path, inverse=True))
    assert np.array_equal(half[here], whole[here]) and np.array_equal(half[there], photo[there])
    assert np.array_equal(other[there], whole[there]) and np.array_equal(other[here], photo[here])
    kept = paint(regions=(Region(mask, None),))
    assert np.array_equal(kept[here], photo[here]) and np.array_equal(kept[there], whole[there])
    both = paint(regions=(Region(mask, mosaic, 0.5),))
    assert np.array_equal(both[here], model.apply(photo, mosaic, 0.5)[here])
    soft = paint(mask=MaskFile(mask.path, feather=15))
    edge = (slice(None), slice(48, 80))
    step = [np.abs(np.diff(p[edge].astype(int), axis=1)).mean(axis=(0, 2)).max() for p in (half, soft)]
    assert step[1] < step[0]
    (result,) = batch.run(
        [batch.Job(tmp_path / "photo.png", io.BytesIO(), wave, mask=MaskFile(tmp_path / "none.png"))], model
    )
    assert isinstance(result.error, ImageError)


def test_the_square_has_the_four_styles_in_its_corners(model, wave, mosaic, photo):
    small = resize(photo, (24, 32))
    weak, mixed = Style.mix([wave, mosaic], [3, 1]), Style.mix([wave, mosaic])
    painted = square.paint_square(model, small, (wave, mosaic, weak, mixed), side=3)
    step = 24 + square.GAP, 32 + square.GAP
    assert painted.shape == (3 * step[0] - square.GAP, 3 * step[1] - square.GAP, 3)

    def cell(row, column):
        return painted[row * step[0] : row * step[0] + 24, column * step[1] : column * step[1] + 32]

    for (row, column), style in {(0, 0): wave, (0, 2): mosaic, (2, 0): weak, (2, 2): mixed, (0, 1): mixed}.items():
        assert np.array_equal(cell(row, column), model.apply(small, style)), (row, column)
    middle = Style.mix([wave, mosaic], [1 + 0.75 + 0.5, 1 + 0.25 + 0.5])
    assert np.abs(cell(1, 1).astype(int) - model.apply(small, middle)).max() <= 1
    with pytest.raises(ValueError, match="four styles"):
        square.paint_square(model, small, (wave, mosaic))


# --- folders ----------------------------------------------------------------------------------------------------------


def test_pictures_are_found_at_any_depth(tmp_path):
    names = ["b.JPG", "a.png", "sub/c.webp", "sub/deep er/ü d.heic", "x.jpg/inside.tif", "e.jfif"]
    others = ["notes.txt", ".hidden.jpg", ".trash/x.jpg", "._a.png", "film.mp4", "out/a.png", "sub/out/a.png"]
    for name in names + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "missing.jpg")
    found, problems = batch.find_pictures(
        tmp_path, leave_out=[tmp_path / "out", tmp_path / "sub" / "loop" / "sub" / "out"]
    )
    assert [path.relative_to(tmp_path).as_posix() for path in found] == sorted([*names, "nowhere.jpg"])
    assert problems == []
    assert len(batch.find_pictures(tmp_path)[0]) == len(names) + 3


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match="missing"):
        batch.find_pictures(tmp_path / "missing")
    for name in ("a.png", "secret/b.png"):
        write(tmp_path, name)
    scandir = os.scandir  # permissions do not bind the superuser, so the refusal is made up

    def refusing(path):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found, (problem,) = batch.find_pictures(tmp_path)
    assert [path.name for path in found] == ["a.png"]
    assert "secret" in str(problem) and "Permission denied" in str(problem)


@pytest.mark.parametrize(
    ("pattern", "folder", "expected"),
    [
        ("{content}", "", "tree.jpg"),
        ("{content}", "2024/may", "2024/may/tree.jpg"),
        ("{content}_{style}", "2024", "2024/tree_wave.jpg"),
        ("{style}_{content}.PNG", "2024", "2024/wave_tree.PNG"),
        ("{style}/{content}.webp", "2024", "wave/2024/tree.webp"),
        ("{content}/{style}", "2024", "2024/tree/wave.jpg"),
        ("all/{style}", "2024", "all/2024/wave.jpg"),
        ("{content}_{frame}", "", "tree_0007.jpg"),
        ("{content}.v1.5", "", "tree.v1.5.jpg"),
    ],
)
def test_names_of_outputs(pattern, folder, expected):
    batch.check_pattern(pattern)
    words = {"content": "tree", "style": "wave", "frame": "0007", "ending": ".jpg", "folder": folder}
    assert batch.name_output(pattern, **words).as_posix() == expected


def test_what_cannot_be_written_becomes_jpeg_and_names_are_not_read_twice():
    assert batch.name_output("{content}", content="a", ending=".heic") == Path("a.jpg")
    assert batch.name_output("{content}", content="{style}", ending=".png", style="x") == Path("{style}.png")


TRICKS = """
..|../{content}|/etc/{content}|a//b|{content}/|./{content}|C:{content}|..\\{content}|{x}|{}|{content|content}
{{content}}|{content.__class__}|{content!r}|{content:>99}
""".replace("\n", "|").strip("|")


@pytest.mark.parametrize("pattern", ["", "a\0b", *TRICKS.split("|")])
def test_patterns_that_are_refused(pattern):
    with pytest.raises(ValueError, match="name"):
        batch.check_pattern(pattern)


@given(some.text(alphabet="{}./\\ab:_-", max_size=20) | some.sampled_from(["{content}", "{style}/x"]))
def test_no_pattern_leads_out_of_the_folder(pattern):
    try:
        batch.check_pattern(pattern)
    except ValueError:
        return
    path = batch.name_output(pattern, content="c", style="s", frame="1", ending=".png", folder="f")
    assert not path.is_absolute() and ".." not in path.parts and path.name not in ("", ".")


def test_watching_tells_of_complete_pictures_only(tmp_path, monkeypatch):
    write(tmp_path, "old.png")
    (tmp_path / "empty.png").touch()
    growing = tmp_path / "growing.png"
    happens = {
        1: lambda: growing.write_bytes(b"1"),
        2: lambda: growing.write_bytes(b"12"),
        3: lambda: growing.write_bytes(b"123"),
        7: lambda: growing.write_bytes(b"other"),
        9: lambda: growing.unlink(),
        10: lambda: growing.write_bytes(b"again, longer"),
    }
    told, tick = [], 0

    def sleep(_):
        nonlocal tick
        tick += 1
        happens.get(tick, lambda: None)()
        if tick > 14:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        for paths in batch.watch_folder(tmp_path):
            told += [(path.name, tick) for path in paths]
    # Seen twice alike: it is complete.
    assert told == [("old.png", 1), ("growing.png", 4), ("growing.png", 8), ("growing.png", 11)]


def test_watching_a_folder_that_goes_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.setattr(time, "sleep", lambda _: (tmp_path / "in").rmdir())
    with pytest.raises(ImageError, match="cannot read the folder"):
        next(batch.watch_folder(tmp_path / "in"))


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="pipes have no path")
def test_a_pipe_is_read_once(tmp_path):
    path = write(tmp_path, "a.png")
    pipe, end = os.pipe()
    os.write(end, path.read_bytes())
    os.close(end)
    (result,) = batch.run([batch.Job(Path(f"/dev/fd/{pipe}"), tmp_path / "o.png", STYLE)], Inverter())
    os.close(pipe)
    assert result.error is None and result.size == (16, 20)
