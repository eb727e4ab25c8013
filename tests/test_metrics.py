import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from restyle.metrics import colour_distance, noise_excess

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
