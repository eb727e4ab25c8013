import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restyle.errors import ShapeError
from restyle.metrics import (
    PAN,
    PSNR_LIMIT,
    SENSOR_NOISE,
    colour_distance,
    noise_excess,
    panned_frames,
    psnr,
    warp_error,
)

random = np.random.default_rng(0)
PICTURE = random.integers(0, 255, (40, 50, 3), dtype=np.uint8)
SMOOTH = np.repeat(np.repeat(random.integers(60, 190, (4, 5, 3), dtype=np.uint8), 10, 0), 10, 1)


def test_colour_distance_does_not_see_places():
    shuffled = random.permutation(PICTURE.reshape(-1, 3)).reshape(50, 40, 3)
    assert colour_distance(PICTURE, shuffled) < 1e-9


@given(shift=st.integers(1, 60))
def test_colour_distance_of_shifted_grey_is_the_mean_shift(shift):
    # A grey step projects on a unit vector as shift times the sum of its parts.
    axes = np.random.default_rng(0).normal(size=(3, 64))
    expected = shift * np.abs((axes / np.linalg.norm(axes, axis=0)).sum(0)).mean()
    assert abs(colour_distance(SMOOTH, SMOOTH + np.uint8(shift)) - expected) < 1e-6


def test_noise_is_only_what_neither_picture_has():
    assert noise_excess(SMOOTH, SMOOTH, SMOOTH) == 0
    assert noise_excess(PICTURE, PICTURE, SMOOTH) == noise_excess(PICTURE, SMOOTH, PICTURE) == 0
    checkered = SMOOTH.copy()
    checkered[::2, ::2] += 20
    assert noise_excess(checkered, SMOOTH, SMOOTH) > 0.3
    flat = np.full_like(SMOOTH, 9)
    assert noise_excess(PICTURE, flat, flat) == 0  # nothing to compare with


@given(step=st.integers(1, 60))
def test_psnr_of_a_shifted_picture_is_known(step):
    expected = 10 * np.log10(255**2 / step**2)
    assert psnr(SMOOTH, SMOOTH + np.uint8(step)) == pytest.approx(expected)
    assert psnr(SMOOTH - np.uint8(step), SMOOTH) == pytest.approx(expected)  # bytes do not wrap around


def test_psnr_of_equal_pictures_is_finite():
    assert psnr(PICTURE, PICTURE) == PSNR_LIMIT
    nearly = np.zeros((1000, 1000, 3), np.uint8)
    nearly[0, 0, 0] = 1  # 112.9 dB
    assert psnr(nearly, np.zeros_like(nearly)) == PSNR_LIMIT


@given(down=st.integers(0, 9), right=st.integers(0, 9))
def test_warp_error_follows_the_motion(down, right):
    height, width = PICTURE.shape[:2]
    first, second = PICTURE[: height - down, : width - right], PICTURE[down:, right:]
    assert warp_error(first, second, (down, right)) == 0
    assert warp_error(first, second, (down + 1, right)) > 50  # noise, wrongly followed
    assert warp_error(first // 2, second // 2 + np.uint8(7), (down, right)) == 7


def test_the_panned_frames_differ_by_the_noise_alone():
    photo = np.full((200, 300, 3), 128, np.uint8)
    photo[::7, ::5] = 60
    first, second = panned_frames(photo)
    assert first.shape == second.shape == (197, 295, 3)
    assert warp_error(first, second) == pytest.approx(2**0.5 * SENSOR_NOISE, rel=0.05)
    assert warp_error(first, second, (0, 0)) > 10  # it did move
    assert all(np.array_equal(*frames) for frames in zip(panned_frames(photo), (first, second), strict=True))
    assert all(step % 2 for step in PAN)  # else networks with strides look calmer than they are
    assert min(frame.min() for frame in panned_frames(np.zeros_like(photo))) == 0
    assert max(frame.max() for frame in panned_frames(np.zeros_like(photo))) < 20  # noise does not wrap around


def test_pictures_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"of one size, got \(40, 50, 3\) and \(39, 50, 3\)"):
        psnr(PICTURE, PICTURE[1:])
    with pytest.raises(ShapeError, match="of one size"):
        warp_error(PICTURE[1:], PICTURE)
    with pytest.raises(ShapeError, match="higher than 6 and wider than 10"):
        panned_frames(PICTURE[:6])
    for motion in ((-1, 0), (0, 50)):
        with pytest.raises(ValueError, match="motion must be"):
            warp_error(PICTURE, PICTURE, motion)
