import itertools

import numpy as np
import pytest
import torch

from restyle.nn.style_distances import STYLE_DISTANCES, cloud

pytestmark = pytest.mark.torch
EACH = pytest.mark.parametrize("name", STYLE_DISTANCES)


def features(seed, size=(6, 7), channels=4):
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@EACH
def test_a_style_is_no_distance_from_itself_and_some_from_others(name):
    way, one, other = STYLE_DISTANCES[name](), features(1), features(2) ** 3
    described = way.describe(one)
    assert way.distance(one, described).item() == pytest.approx(0, abs=1e-4)
    assert way.distance(other, described).item() > 1e-3


@EACH
def test_the_slope_is_that_of_finite_differences(name):
    way = STYLE_DISTANCES[name]()
    described = way.describe(features(1))
    wanted = features(2, (5, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: way.distance(given, described), wanted, eps=1e-6, atol=1e-5)


@EACH
def test_each_falls_when_minimised_alone(name):
    way, moving = STYLE_DISTANCES[name](), features(2).requires_grad_()
    described = way.describe(features(1) ** 2)
    optimiser = torch.optim.Adam([moving], lr=0.02)
    seen = []
    for _ in range(80):
        optimiser.zero_grad()
        distance = way.distance(moving, described)
        distance.backward()
        optimiser.step()
        seen.append(distance.item())
    assert seen[-1] < 0.5 * seen[0]


@EACH
def test_a_region_is_compared_as_if_it_were_alone(name):
    way, whole = STYLE_DISTANCES[name](), features(2, (9, 10))
    described = way.describe(features(1))
    where = torch.zeros(9, 10, dtype=torch.bool)
    where[2:7, 3:9] = True
    alone = whole[:, :, 1:8, 2:10] if name == "patches" else whole[:, :, 2:7, 3:9]  # a patch reaches one further
    assert way.distance(whole, described, where).item() == pytest.approx(way.distance(alone, described).item())


def test_gram_is_the_papers_formula():
    one, other = features(1), features(2)
    channels, positions = 4, 42
    total = 0.0
    for i, j in itertools.product(range(channels), repeat=2):
        grams = [
            sum(float(f[0, i].reshape(-1)[k] * f[0, j].reshape(-1)[k]) for k in range(positions)) for f in (one, other)
        ]
        total += (grams[0] - grams[1]) ** 2
    expected = total / (4 * channels**2 * positions**2)
    way = STYLE_DISTANCES["gram"]()
    assert way.distance(one, way.describe(other)).item() == pytest.approx(expected)


def test_statistics_are_means_and_deviations():
    one, other = (cloud(features(seed)).numpy() for seed in (1, 2))
    expected = ((one.mean(1) - other.mean(1)) ** 2 + (one.std(1) - other.std(1)) ** 2).mean()
    way = STYLE_DISTANCES["statistics"]()
    assert way.distance(features(1), way.describe(features(2))).item() == pytest.approx(expected, rel=1e-4)


def test_wasserstein_is_that_of_the_gaussians():
    one, other = (cloud(features(seed)).numpy() for seed in (1, 2))
    first, second = (np.cov(points, bias=True) + 1e-5 * np.eye(4) for points in (one, other))
    root = np.sqrt(np.linalg.eigvals(first @ second).real).sum()  # the trace of the root of the product
    expected = ((one.mean(1) - other.mean(1)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * root
    way = STYLE_DISTANCES["wasserstein"]()
    assert way.distance(features(1), way.describe(features(2))).item() == pytest.approx(expected / 4)


def test_mmd_is_the_mean_over_all_pairs():
    one, other = (cloud(features(seed)).numpy().T for seed in (1, 2))
    width = np.mean([((a - b) ** 2).sum() for a in other for b in other])

    def kernel(these, those):
        return np.mean([np.exp(-((a - b) ** 2).sum() / width) for a in these for b in those])

    expected = kernel(one, one) + kernel(other, other) - 2 * kernel(one, other)
    way = STYLE_DISTANCES["mmd"]()
    assert way.distance(features(1), way.describe(features(2))).item() == pytest.approx(expected, rel=1e-5)


def test_histogram_compares_values_of_one_rank():
    one, other = (np.sort(cloud(features(seed)).numpy(), axis=1) for seed in (1, 2))
    way = STYLE_DISTANCES["histogram"]()
    found = way.distance(features(1), way.describe(features(2))).item()
    assert found == pytest.approx(((one - other) ** 2).mean())
    double = torch.cat([features(2), features(2)], 2)  # the same distribution, twice as many
    assert way.distance(double, way.describe(features(2))).item() < 0.02 * found


def test_patches_find_the_patch_that_is_most_like():
    one, other = features(1, (5, 5)), features(2, (6, 4))
    patches = [
        [
            f[0, :, y : y + 3, x : x + 3].reshape(-1).numpy()
            for y in range(f.shape[2] - 2)
            for x in range(f.shape[3] - 2)
        ]
        for f in (one, other)
    ]
    total = 0.0
    for patch in patches[0]:
        near = max(patches[1], key=lambda theirs: patch @ theirs / np.linalg.norm(theirs))
        total += ((patch - near) ** 2).mean()
    way = STYLE_DISTANCES["patches"]()
    assert way.distance(one, way.describe(other)).item() == pytest.approx(total / len(patches[0]))


def test_many_positions_are_thinned_out():
    many = features(0, (70, 70))
    assert 512 <= len(STYLE_DISTANCES["mmd"]().describe(many)[0]) <= 1024
    assert 2048 <= len(STYLE_DISTANCES["patches"]().describe(many)) <= 4096


def test_histograms_of_different_sizes_are_compared_from_end_to_end():
    few, many = (torch.linspace(0, 8, count).reshape(1, 1, 1, count) for count in (5, 9))
    way = STYLE_DISTANCES["histogram"]()
    assert way.distance(few, way.describe(many)).item() == pytest.approx(0, abs=1e-10)
