import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restyle import LimitError, Region, ShapeError, gallery, read_image
from restyle.controls.colors import LUMA, WAYS, keep_colors, parse_keep_colors
from restyle.controls.detail import enlarge
from restyle.controls.masks import MaskFile, lay_over, read_mask
from restyle.controls.window import style_window
from restyle.image import resize, write_image


def muted(seed, size=(60, 80)):
    """A picture with every covariance of colours and no value near the ends, so that nothing is cut off."""
    generator = np.random.default_rng(seed)
    colours = generator.normal(size=(*size, 3)) @ (
        12 * np.eye(3) + generator.uniform(-5, 5, (3, 3))
    ) + generator.uniform(90, 160, 3)
    return np.rint(colours).clip(30, 225).astype(np.uint8)


# --- colours ----------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1001, 2000))
def test_covariance_gives_the_photographs_mean_and_covariance(one, other):
    painted, photo = muted(one), muted(other)
    kept, wanted = (
        picture.reshape(-1, 3).astype(float) for picture in (keep_colors(painted, photo, "covariance"), photo)
    )
    assert np.abs(kept.mean(0) - wanted.mean(0)).max() < 0.3
    difference = np.cov(kept.T) - np.cov(wanted.T)
    assert np.abs(difference).max() < 0.02 * np.abs(np.cov(wanted.T)).max() + 2  # whole numbers round


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1001, 2000))
def test_histogram_gives_the_photographs_distribution(one, other):
    painted, photo = muted(one), muted(other)
    kept = keep_colors(painted, photo, "histogram")
    for channel in range(3):
        ranks = [np.sort(picture[:, :, channel].ravel()).astype(float) for picture in (kept, photo)]
        assert np.abs(ranks[0] - ranks[1]).mean() < 1
    # The order of brightness is the painting's.
    ours, theirs = (picture[:, :, 0].ravel().astype(int) for picture in (painted, kept))
    order = np.argsort(ours, kind="stable")
    assert (np.diff(theirs[order])[np.diff(ours[order]) > 0] >= 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1001, 2000))
def test_luminance_is_the_paintings_and_hue_the_photographs(one, other):
    painted, photo = muted(one), muted(other)
    kept = keep_colors(painted, photo, "luminance").astype(float)
    inside = ((kept > 0) & (kept < 255)).all(2)
    assert inside.mean() > 0.5
    assert np.abs(kept @ LUMA - painted @ LUMA)[inside].max() < 1
    chroma = [picture - (picture @ LUMA)[:, :, None] for picture in (kept, photo)]
    assert np.abs(chroma[0] - chroma[1])[inside].max() < 1.1


@pytest.mark.parametrize("way", WAYS)
def test_an_amount_goes_part_of_the_way_and_equal_pictures_stay(way):
    painted, photo = muted(1), muted(2)
    whole, half = (keep_colors(painted, photo, text).astype(float) for text in (way, f"{way}:0.5"))
    assert np.abs(half - (whole + painted) / 2).max() <= 1
    assert (keep_colors(painted, photo, f"{way}:0") == painted).all()
    assert np.abs(keep_colors(photo, photo, way).astype(int) - photo).max() <= 1
    flat = np.full_like(photo, 77)
    assert keep_colors(flat, photo, way).shape == photo.shape  # a painting of one colour divides by nothing


@pytest.mark.parametrize(
    "text", ["hue", "luminance:1.5", "luminance:-1", "luminance:", "luminance:nan", "covariance:x", ""]
)
def test_other_words_for_colours_are_refused(text):
    with pytest.raises(ValueError, match="luminance, histogram, covariance"):
        parse_keep_colors(text)


def test_a_painting_of_one_colour_takes_the_photographs_middle():
    flat, photo = np.full((30, 40, 3), (250, 3, 90), np.uint8), muted(4)[:30, :40] // 2
    assert np.abs(keep_colors(flat, photo, "histogram")[0, 0] - np.median(photo, (0, 1))).max() <= 2
    assert np.abs(keep_colors(flat, photo, "covariance") - photo.mean((0, 1))).max() <= 1


def test_pictures_are_the_same_in_one_piece_and_in_several():
    painted, photo = muted(5, (1100, 6)), muted(6, (1100, 6))
    halves = [keep_colors(painted[rows], photo[rows], "luminance") for rows in (slice(0, 300), slice(300, None))]
    assert np.array_equal(keep_colors(painted, photo, "luminance"), np.concatenate(halves))
    mask, laid = photo[:, :, 0], photo.copy()
    lay_over(laid, painted, mask)
    lay_over(photo[:300], painted[:300], mask[:300].copy())
    lay_over(photo[300:], painted[300:], mask[300:].copy())
    assert np.array_equal(laid, photo)


@pytest.mark.parametrize("way", ["histogram", "covariance"])
def test_kept_colours_keep_the_mean_through_the_engine(model, mosaic, photo, way):
    plain, kept = model.apply(photo, mosaic), model.apply(photo, mosaic, keep_colors=way)
    mean = photo.mean((0, 1))
    assert np.abs(plain.mean((0, 1)) - mean).max() > 10
    assert np.abs(kept.mean((0, 1)) - mean).max() < 4  # what is cut off at 0 and 255 is missing
    assert np.abs(kept.astype(int) - photo).mean() > 5  # it is still a painting


# --- masks ------------------------------------------------------------------------------------------------------------


def test_white_masks_are_none_and_black_ones_keep_the_photograph(model, wave, photo):
    painted = model.apply(photo, wave)
    white, black = np.full((10, 10), 255, np.uint8), np.zeros((300, 20), np.uint8)
    assert (model.apply(photo, wave, mask=white) == painted).all()
    assert (model.apply(photo, wave, mask=black) == photo).all()
    grey = model.apply(photo, wave, mask=np.full((5, 5), 51, np.uint8)).astype(float)
    assert np.abs(grey - (photo + 0.2 * (painted.astype(float) - photo))).max() <= 1


def test_a_mask_decides_pixel_by_pixel(model, wave, photo):
    mask = np.zeros(photo.shape[:2], np.uint8)
    mask[20:60, 30:100] = 255
    result, painted = model.apply(photo, wave, mask=mask), model.apply(photo, wave)
    assert (result[mask == 255] == painted[mask == 255]).all()
    assert (result[mask == 0] == photo[mask == 0]).all()


def test_regions_lie_over_each_other_in_order(model, wave, mosaic, photo):
    left, top = (np.zeros(photo.shape[:2], np.uint8) for _ in range(2))
    left[:, :70], top[:40] = 255, 255
    result = model.apply(photo, wave, regions=[Region(left, mosaic, 0.5), Region(top, None)])
    assert (result[:40] == photo[:40]).all()
    assert (result[40:, :70] == model.apply(photo, mosaic, 0.5)[40:, :70]).all()
    assert (result[40:, 70:] == model.apply(photo, wave)[40:, 70:]).all()
    assert (model.apply(photo, wave, 0, regions=[Region(left, mosaic)])[:, 70:] == photo[:, 70:]).all()


def test_masks_reach_each_picture_of_many_and_alpha_stays(model, wave, photo):
    clear = np.dstack([photo, np.full(photo.shape[:2], 90, np.uint8)])
    left = np.zeros((4, 4), np.uint8)
    one, other = model.apply_many([photo, clear], wave, masks=[left, None])
    assert (one == photo).all()
    assert (other[:, :, 3] == 90).all()
    assert (other[:, :, :3] == model.apply(photo, wave)).all()
    with pytest.raises(ValueError, match="2 pictures"):
        model.apply_many([photo, clear], wave, masks=[left])


def test_masks_are_read_as_brightness(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    assert read_mask(colours, (2, 2)).tolist() == [[76, 150], [29, 255]]
    clear = np.dstack([np.full((2, 2, 3), 200, np.uint8), np.array([[255, 0], [128, 255]], np.uint8)])
    assert np.abs(read_mask(clear, (2, 2)).astype(int) - [[200, 0], [100, 200]]).max() <= 1
    step = np.zeros((40, 40), np.uint8)
    step[:, 20:] = 255
    assert (read_mask(step, (40, 40), inverse=True) == 255 - step).all()
    soft = read_mask(step, (40, 40), feather=3)[20].astype(int)
    assert (np.diff(soft) >= 0).all()
    assert 8 < np.count_nonzero((soft > 5) & (soft < 250)) < 20
    assert read_mask(step, (80, 60)).shape == (80, 60)
    for feather in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="feather must be finite"):
            read_mask(step, (40, 40), feather=feather)


def test_mask_files_beyond_the_limit_are_not_read(tmp_path):
    file = tmp_path / "mask.png"
    write_image(file, np.full((10, 20, 3), 255, np.uint8))
    photo = muted(1, (4, 5))
    for read in (
        lambda limit: MaskFile(file).read((4, 5), limit_pixels=limit),
        lambda limit: MaskFile(file).of(photo, limit_pixels=limit),
    ):
        assert (read(10 * 20) == 255).all()
        with pytest.raises(LimitError, match="199"):
            read(10 * 20 - 1)


def test_laying_over_is_exact_at_both_ends_and_rounds_between():
    under, over = muted(1), muted(2)
    for weight in (0, 1, 100, 254, 255):
        result = under.copy()
        lay_over(result, over, np.full(under.shape[:2], weight, np.uint8))
        assert (result == np.rint(under + (over.astype(float) - under) * weight / 255)).mean() > 0.99


# --- large strokes ----------------------------------------------------------------------------------------------------


def test_enlarging_brings_back_what_is_a_change_of_colours_only(photo):
    large = resize(read_image(gallery.find("castle", kind="sample")).pixels, (384, 512))
    small = resize(large, (96, 128))
    matrix, shift = np.array([[0.6, 0.2, 0.0], [0.1, 0.5, 0.1], [0.0, 0.3, 0.4]]), 20
    painted, wanted = (np.rint(picture @ matrix + shift).astype(np.uint8) for picture in (small, large))
    error, plain = (
        np.abs(picture.astype(float) - wanted).mean()
        for picture in (enlarge(painted, small, large), resize(painted, large.shape[:2]))
    )
    assert error < 0.4 * plain
    rough = painted.copy()
    rough[::2] = 255 - rough[::2]  # a painting that no map of colours explains is smoothed, neither doubled nor lost
    assert abs(enlarge(rough, small, large).mean() - rough.mean()) < 2
    assert np.abs(enlarge(np.full_like(small, 99), small, large).astype(int) - 99).max() <= 1


def test_edges_that_the_small_picture_blurs_come_out_sharp():
    edge = np.zeros((64, 64, 3), np.uint8)
    edge[:, 31:] = 200
    small = resize(edge, (16, 16))
    steps = [
        np.abs(np.diff(picture[32, :, 0].astype(int))).max()
        for picture in (enlarge(255 - small, small, edge), resize(255 - small, (64, 64)))
    ]
    assert steps[0] > 150 > 100 > steps[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_strokes_of_four_small_pixels_do_not_vanish_from_a_plain_photograph(axis):
    sky = np.full((64, 64, 3), 150, np.uint8)
    strokes = np.where(np.arange(64) // 4 % 2, 180, 80).astype(np.uint8)
    painted = np.broadcast_to(strokes[None, :, None], sky.shape).swapaxes(0, axis ^ 1)
    large = enlarge(painted, sky, np.full((256, 256, 3), 150, np.uint8))
    assert resize(large, (64, 64)).std() > 0.5 * painted.std()


def test_work_size_paints_small_and_keeps_the_size(model, wave, photo):
    large = resize(photo, (288, 384))
    result = model.apply(large, wave, work_size=96)
    assert result.shape == large.shape
    small = model.apply(resize(large, (96, 128)), wave)
    assert np.abs(resize(result, (96, 128)).astype(int) - small).mean() < 12
    assert (model.apply(photo, wave, work_size=96) == model.apply(photo, wave)).all()
    assert (model.apply(photo, wave, work_size=5000) == model.apply(photo, wave)).all()
    with pytest.raises(ValueError, match="work_size must be at least 16, got 8"):
        model.apply(photo, wave, work_size=8)


# --- how a style is read ----------------------------------------------------------------------------------------------


def test_style_pictures_are_cropped_scaled_and_repeated():
    painting = muted(3, (100, 160))
    assert style_window(painting, 200, None, 0).shape == (200, 320, 3)
    assert (style_window(painting, 100, "center", 0) == painting[:, 30:130]).all()
    windows = [style_window(painting, 100, "random", seed) for seed in (1, 1, 2)]
    assert (windows[0] == windows[1]).all()
    assert (windows[0] != windows[2]).any()
    tiled = style_window(painting, 400, None, 0)  # 100 would have to be blown up four times: three of it instead
    assert min(tiled.shape[:2]) == 400
    once = resize(painting, (134, 214))
    assert np.abs(resize(tiled, (402, 642))[:134, :214].astype(int) - once).mean() < 4


def test_repeated_style_pictures_are_mirrored_so_that_no_seam_shows():
    down, across = np.mgrid[:100, :160]
    painting = np.dstack([2 * down, across, 255 - down]).astype(np.uint8)
    twice, thrice = (style_window(painting, size, None, 0).astype(int) for size in (200, 400))
    assert np.abs(twice - twice[::-1, ::-1]).max() <= 2
    assert max(np.abs(np.diff(thrice, axis=axis)).max() for axis in (0, 1)) < 10
    for corner in ((0, 0), (-1, -1)):  # the third one stands upright again
        assert np.abs(thrice[corner] - painting[corner].astype(int)).max() < 10


@pytest.mark.parametrize("size", [(1, 3000), (3000, 2), (40, 5000)])
def test_thin_style_pictures_take_no_memory(size):
    painting = muted(3, size)
    tracemalloc.start()
    window = style_window(painting, 512, None, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (min(window.shape[:2]), max(window.shape[:2])) == (512, 2048)
    assert peak < 50e6


def test_style_sizes_and_crops_are_checked_and_matter(model):
    painting = gallery.find("wave")
    whole, small, crop = (
        model.encode_style(painting, **options) for options in ({}, {"size": 128}, {"crop": "random", "seed": 3})
    )
    assert whole != small and whole != crop
    for options, words in (({"size": 10}, "style_size must lie"), ({"crop": "left"}, "style_crop must be")):
        with pytest.raises(ValueError, match=words):
            model.encode_style(painting, **options)


# --- frames -----------------------------------------------------------------------------------------------------------


def test_frames_are_painted_with_statistics_from_elsewhere(model, wave, photo):
    frames = np.stack([photo, photo[::-1], 255 - photo])
    painted, own = model.paint(frames, wave, 0.8)
    assert (painted[1] == model.apply(photo[::-1], wave, 0.8)).all()
    again, same = model.paint(frames, wave, 0.8, statistics=own)
    assert np.abs(again.astype(int) - painted).max() <= 1
    np.testing.assert_allclose(same, own, rtol=1e-4, atol=1e-4)
    shared, _ = model.paint(frames, wave, 0.8, statistics=own[0])
    assert np.abs(shared[0].astype(int) - painted[0]).max() <= 1
    assert np.abs(shared[2].astype(int) - painted[2]).mean() > 1
    for wrong in (frames[0], frames[:, :8]):
        with pytest.raises(ShapeError, match="frames must be"):
            model.paint(wrong, wave)
    with pytest.raises(ShapeError, match="statistics must be"):
        model.paint(frames, wave, statistics=own[:2])
