import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restyle.tiling import merge_statistics, plan_tiles

lengths = st.integers(1, 700)


@given(
    size=st.tuples(lengths, lengths),
    tile=st.integers(1, 300),
    halo=st.integers(0, 100),
    grid=st.sampled_from([1, 8, 128]),
)
def test_tiles_cover_every_pixel_once_with_their_halo(size, tile, halo, grid):
    covered = np.zeros(size, int)
    tiles = plan_tiles(size, tile=max(tile, max(size) // 20), halo=halo, grid=grid)
    for one in tiles:
        covered[one.inner] += 1
        for axis, (outer, inner, kept) in enumerate(zip(one.outer, one.inner, one.kept, strict=True)):
            assert outer.start % grid == 0
            assert outer.start == 0 or outer.start <= inner.start - halo
            assert outer.stop == size[axis] or outer.stop >= inner.stop + halo
            assert 0 <= outer.start <= inner.start < inner.stop <= outer.stop <= size[axis]
            assert np.array_equal(np.arange(size[axis])[outer][kept], np.arange(size[axis])[inner])
    assert (covered == 1).all()
    for axis in range(2):
        assert len({one.outer[axis].stop - one.outer[axis].start for one in tiles}) <= 2


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match="tile 0"):
        plan_tiles((10, 10), tile=0, halo=0, grid=8)


@given(seed=st.integers(0, 99), cut=st.integers(1, 39))
def test_merged_statistics_are_those_of_the_whole(seed, cut):
    whole = np.random.default_rng(seed).normal(3, 2, (5, 40, 6))

    def statistics(part):
        return np.concatenate([part.mean((1, 2)), part.std((1, 2))]).astype(np.float32)[None]

    parts = [whole[:, :cut], whole[:, cut:]]
    merged = merge_statistics([statistics(part) for part in parts], [part[0].size for part in parts])
    np.testing.assert_allclose(merged, statistics(whole), rtol=1e-4)
