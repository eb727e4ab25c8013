"""Training pairs are a stream that depends on seed and number alone; a survey tells what the folders hold."""

import itertools
import logging
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from restyle.errors import ImageError
from restyle.image import encode_image, read_image, resize, write_image
from restyle.learn import datasets
from restyle.learn.datasets import FixedPairs, RandomPairs, find_pictures, pair_numbers, random_crop
from restyle.learn.survey import survey

pytestmark = pytest.mark.torch


def picture(seed: int, height: int = 50, width: int = 60) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return resize(coarse, (height, width))


def fill(folder, *names, seed=0):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, picture(seed + number, 50 + 9 * number))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    fill(root / "content", "0.png", "deep/1.png", "deep/er/2.png")
    (root / "content" / "notes.txt").write_text("not a picture")
    (root / "content" / "._0.png").write_text("what a Mac leaves behind")
    fill(root / "style", "Cubism/a_Picasso.png", "Cubism/b.png", "Ukiyo_e/hokusai.png", "x.png", seed=10)
    return root


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# --- folders ----------------------------------------------------------------------------------------------------------


def test_pictures_are_found_at_any_depth(folders):
    assert [path.name for path in find_pictures(folders / "content")] == ["0.png", "1.png", "2.png"]
    fill(folders / "scans", "a.JPG", "b.gif", "c.ppm")
    (folders / "scans" / "d.jfif").write_bytes((folders / "scans" / "a.JPG").read_bytes())
    assert [path.name for path in find_pictures(folders / "scans")] == ["a.JPG", "b.gif", "c.ppm", "d.jfif"]
    with pytest.raises(ImageError, match="not a folder"):
        find_pictures(folders / "nowhere")
    (folders / "empty").mkdir()
    with pytest.raises(ImageError, match="holds no pictures"):
        find_pictures(folders / "empty")


def test_coco_trains_on_its_training_pictures_only(tmp_path):
    fill(tmp_path, "train2017/1.jpg", "val2017/2.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{}")
    assert [path.name for path in find_pictures(tmp_path)] == ["1.jpg"]
    assert [path.name for path in find_pictures(tmp_path / "val2017")] == ["2.jpg"]
    shutil.rmtree(tmp_path / "train2017")
    assert [path.name for path in find_pictures(tmp_path)] == ["2.jpg"]


def test_a_list_names_pictures_relative_to_itself(folders, tmp_path):
    fill(tmp_path, "here/a.png", "b.png")
    (tmp_path / "list.txt").write_text(f"here/a.png\n\n{folders / 'style' / 'x.png'}\n")
    (tmp_path / "list.csv").write_bytes(b'\xef\xbb\xbfpath,title\r\nb.png,"one, two"\r\n')  # as spreadsheets save it
    assert find_pictures(tmp_path / "list.txt") == [tmp_path / "here" / "a.png", folders / "style" / "x.png"]
    assert find_pictures(tmp_path / "list.csv") == [tmp_path / "b.png"]
    (tmp_path / "other.csv").write_text("file\nb.png\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\xff")
    for name, words in (
        ("other.csv", "no column called path"),
        ("empty.txt", "holds no pictures"),
        ("binary.txt", "list"),
    ):
        with pytest.raises(ImageError, match=rf"{name}.*{words}"):
            find_pictures(tmp_path / name)


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("cubism", "hokusai x"),
        ("Cubism/", "hokusai x"),
        ("Cubism/b*", "a_Picasso hokusai x"),
        ("*picasso*", "b hokusai x"),
        ("x.png", "a_Picasso b hokusai"),
        ("?biso*", None),
        ("*", ""),
    ],
)
def test_patterns_leave_out_files_and_folders(folders, pattern, left):
    if left:
        assert [path.stem for path in find_pictures(folders / "style", exclude=[pattern])] == left.split()
    else:
        with pytest.raises(ValueError if left is None else ImageError, match=r"excludes none|beside the excluded"):
            find_pictures(folders / "style", exclude=[pattern])


def test_patterns_mean_folders_at_any_depth(folders, tmp_path):
    shutil.copytree(folders / "style", tmp_path / "wikiart" / "images")
    assert len(find_pictures(tmp_path / "wikiart", exclude=["Cubism", "x.*"])) == 1


# --- pairs ------------------------------------------------------------------------------------------------------------


def test_pairs_depend_on_seed_and_number_alone(folders):
    pairs, again, other = (RandomPairs(folders / "content", folders / "style", side=32, seed=s) for s in (3, 3, 4))
    expected = [pairs[number] for number in range(6)]
    for number in (5, 2):
        assert same(again[number], expected[number])
    assert not all(torch.equal(other[number][0], expected[number][0]) for number in range(6))
    assert expected[0][0].shape == (3, 32, 32)
    assert expected[0][0].dtype == torch.uint8


def test_without_style_a_photograph_is_its_own_style(folders):
    pairs = RandomPairs(folders / "content", folders / "style", side=32)
    alone = RandomPairs(folders / "content", None, side=32)
    for number in range(4):
        content, style = alone[number]
        assert torch.equal(content, style)
        assert torch.equal(content, pairs[number][0])  # the same photographs as with styles


def test_excluded_styles_never_come(folders):
    pairs = RandomPairs(folders / "content", folders / "style", side=8, exclude_style=["Cubism", "hokusai*"])
    only = RandomPairs(folders / "content", folders / "style", side=8, exclude_style=["[!x]*"])
    assert [path.name for path in pairs.pictures[1]] == ["x.png"]
    assert same(pairs[0], only[0])


def test_crops_vary_in_place_size_and_side():
    corners = crops()
    left, top, height, direction = map(np.array, zip(*corners, strict=True))
    assert np.ptp(left) > 40
    assert np.ptp(top) > 20
    assert height.min() < 55
    assert height.max() > 85
    assert set(direction) == {-1, 1}


def crops(**options) -> list[tuple[int, int, int, int]]:
    """Left, top, height and direction of crops from a picture in which colours tell places."""
    ramp = np.zeros((100, 150, 3), np.uint8)
    ramp[:, :, 0], ramp[:, :, 1] = np.arange(150), np.arange(100)[:, None]
    random = np.random.default_rng(0)
    found = []
    for _ in range(60):
        crop = random_crop(ramp, 32, random, **options).astype(int)
        assert crop.shape == (32, 32, 3)
        direction = np.sign(crop[0, -1, 0] - crop[0, 0, 0])
        found.append((crop[0, :, 0].min(), crop[:, 0, 1].min(), np.ptp(crop[:, 0, 1]), direction))
    return found


def test_scale_and_flip_are_obeyed():
    heights = [height for _, _, height, _ in crops(scale=(0.2, 0.3))]
    assert 16 <= min(heights) < 20 < 26 < max(heights) <= 30
    plain = crops(flip=False)
    assert {direction for *_, direction in plain} == {1}
    assert [crop[:3] for crop in plain] == [crop[:3] for crop in crops()]


def test_pairs_hand_scale_and_flip_on(folders, monkeypatch):
    seen = []
    monkeypatch.setattr(
        datasets, "random_crop", lambda *_, **options: seen.append(options) or np.zeros((8, 8, 3), np.uint8)
    )
    RandomPairs(folders / "content", folders / "style", side=8, scale=(0.5, 0.75), flip=False)[0]
    assert seen == [{"scale": (0.5, 0.75), "flip": False}] * 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"side": 0}, "side must be at least 1, got 0"),
        ({"scale": (0, 1)}, "scale must be"),
        ({"scale": (0.5, 1.1)}, "scale must be"),
        ({"scale": (0.9, 0.5)}, "scale must be"),
        ({"scale": (float("nan"), 1)}, "scale must be"),
        ({"exclude_style": ["Cubsim"]}, "'Cubsim' excludes none"),
    ],
)
def test_impossible_pairs_are_refused(folders, changes, words):
    with pytest.raises(ValueError, match=words):
        RandomPairs(folders / "content", folders / "style", **{"side": 32, **changes})


def test_transparency_is_laid_on_white(folders, tmp_path):
    write_image(tmp_path / "clear.png", np.zeros((20, 20, 4), np.uint8))
    assert RandomPairs(folders / "content", tmp_path, side=8)[0][1].min() == 255


def test_broken_pictures_are_reported_once_and_skipped(folders, tmp_path, caplog):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    write_image(tmp_path / "good.png", np.zeros((40, 40, 3), np.uint8))
    pairs = RandomPairs(tmp_path, folders / "style", side=32)
    with caplog.at_level(logging.WARNING):
        for number in range(12):
            assert pairs[number][0].max() == 0
    assert len(caplog.records) == 1
    assert "broken.jpg" in caplog.text
    late = RandomPairs(tmp_path, folders / "style", side=32)
    assert same(late[11], pairs[11])  # whether or not it is known already what is broken
    (tmp_path / "good.png").unlink()
    (tmp_path / "broken2.jpg").write_bytes(b"no picture")
    pairs = RandomPairs(folders / "style", tmp_path, side=32)
    for _ in range(2):  # also when all are known to be broken already
        with pytest.raises(ImageError, match="none of the 2 pictures"):
            pairs[0]
    with pytest.raises(ImageError, match="none of the 2 pictures"):
        RandomPairs(tmp_path, folders / "style", side=32)[0]


def test_fixed_pairs_are_the_first_ones_for_ever_and_from_memory(folders, tmp_path):
    shutil.copytree(folders, tmp_path / "data")
    ends = tmp_path / "data" / "content", tmp_path / "data" / "style"
    fixed = FixedPairs(*ends, count=3, side=16, seed=5)
    expected = [RandomPairs(*ends, side=16, seed=5)[number] for number in range(3)]
    shutil.rmtree(tmp_path / "data")
    for number in (0, 1, 2, 3, 7, 300):
        assert same(fixed[number], expected[number % 3])
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        FixedPairs(folders / "content", None, count=0, side=16)


# --- several readers, several processes -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_workers_and_processes_gives_one_stream(folders, workers):
    pairs = RandomPairs(folders / "content", folders / "style", side=16, seed=1)

    def batches(**place):
        return iter(DataLoader(pairs, batch_size=place["batch"], sampler=pair_numbers(**place), num_workers=workers))

    ranks = [batches(batch=2, rank=rank, world=2) for rank in (0, 1)]
    for step in range(3):
        together = [torch.cat(sides) for sides in zip(*(next(rank) for rank in ranks), strict=True)]
        expected = [torch.stack(sides) for sides in zip(*(pairs[4 * step + n] for n in range(4)), strict=True)]
        assert same(together, expected)


@pytest.mark.parametrize(("batch", "world"), [(1, 1), (4, 1), (3, 2), (2, 5)])
def test_every_step_of_all_processes_is_that_of_a_single_one(batch, world):
    ranks = [pair_numbers(2, batch=batch, rank=rank, world=world) for rank in range(world)]
    single = pair_numbers(2, batch=batch * world)
    assert next(pair_numbers(2, batch=batch * world)) == 2 * batch * world
    for _ in range(4):
        assert [next(rank) for rank in ranks for _ in range(batch)] == list(itertools.islice(single, batch * world))


@pytest.mark.parametrize("wrong", [{"step": -1}, {"batch": 0}, {"rank": 2}, {"rank": -1}, {"rank": 0, "world": 0}])
def test_impossible_places_are_refused(wrong):
    with pytest.raises(ValueError, match="step must be at least 0, batch at least 1, rank below world"):
        pair_numbers(**{"batch": 1, "rank": 1, "world": 2, **wrong})


# --- preflight --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    root = fill(tmp_path_factory.mktemp("survey") / "content", "0.png", "deep/1.png", "deep/2.png").parent
    content, style, held = root / "content", root / "style", root / "held"
    fill(style, "Cubism/a.png", "Cubism/b.png", "Fauvism/c.png", seed=20)
    shutil.copy(content / "0.png", content / "deep" / "0 again.bmp")  # a PNG by its content
    (content / "broken.jpg").write_bytes(b"no picture")
    whole = encode_image(picture(3), "jpg")
    (content / "short.jpg").write_bytes(whole[: len(whole) // 2])
    fill(held, "new.png", "new2.png", seed=40)
    write_image(held / "exact.tif", read_image(style / "Fauvism" / "c.png").pixels)
    scaled = resize(read_image(content / "deep" / "1.png").pixels, (100, 101))
    (held / "near.jpg").write_bytes(encode_image(scaled, "jpg", quality=50))
    return content, style, held


def test_a_survey_tells_everything(surveyed):
    content, style, held = surveyed
    seen = []
    result = survey(content, style, [held], side=59, report=lambda *progress: seen.append(progress))
    assert result.content.folder == str(content)
    assert result.content.pictures == 6
    assert result.content.groups == {"deep": 3}
    assert (result.content.smallest, result.content.median, result.content.largest) == (50, 50, 60)
    assert set(result.content.broken) == {"broken.jpg", "short.jpg"}
    assert "not a picture" in result.content.broken["broken.jpg"]
    assert set(result.content.small) == {"0.png", "deep/0 again.bmp"}
    assert [set(group) for group in result.content.duplicates] == [{"0.png", "deep/0 again.bmp"}]
    assert result.style is not None
    assert result.style.groups == {"Cubism": 2, "Fauvism": 1}
    assert not result.style.duplicates
    assert not result.style.broken
    shared = {(one.training, one.validation, one.exact) for one in result.shared}
    assert shared == {
        (str(content / "deep" / "1.png"), str(held / "near.jpg"), False),
        (str(style / "Fauvism" / "c.png"), str(held / "exact.tif"), True),
    }
    assert seen == [(done, 13) for done in range(1, 14)]


def test_a_survey_speaks_to_people(surveyed):
    content, style, held = surveyed
    result = survey(content, style, [held], side=51)
    text = "\n".join(result.lines())
    for words in (
        f"content: 6 pictures in {content}, short sides 50 to 60, median 50",
        "groups: Cubism 2, Fauvism 1",
        "2 cannot be read and will be skipped",
        "short.jpg",
        "2 smaller than 51 pixels will be enlarged",
        "0.png = deep/0 again.bmp",
        "2 in training and in validation",
        f"1.png resembles {held / 'near.jpg'}",
        f"c.png = {held / 'exact.tif'}",
    ):
        assert words in text
    assert "and 1 more" in "\n".join(result.lines(most=1))
    assert survey(content, None, [style], side=9).lines()[-1] == "no picture is both in training and in validation"


def test_a_survey_leaves_out_what_training_leaves_out(surveyed):
    content, style, held = surveyed
    result = survey(content, style, [held], side=9, exclude_style=["Fauvism"])
    assert result.style is not None
    assert result.style.pictures == 2
    assert not any(one.exact for one in result.shared)


def test_a_survey_of_nothing_readable_still_answers(tmp_path):
    (tmp_path / "list.txt").write_text("gone.png\n")
    result = survey(tmp_path / "list.txt", validation=[tmp_path / "list.txt"], side=9)
    assert result.content.largest == 0
    assert list(result.content.broken) == ["gone.png"]
    with pytest.raises(ImageError, match="not a folder"):
        survey(tmp_path / "nowhere", side=9)
