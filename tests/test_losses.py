import pytest
import torch

from restyle.nn.losses import (
    colour_loss,
    content_loss,
    contrast_loss,
    feature_statistics,
    gram_loss,
    gram_matrix,
    layout_loss,
    statistics_loss,
    total_variation,
)

pytestmark = pytest.mark.torch


def chequers(contrast, size=(192, 192)):
    """A picture whose colours deviate by ``contrast`` in every cell of an even side."""
    rows, columns = (torch.arange(length) % 2 * 2.0 - 1 for length in size)
    return (0.5 + contrast * rows[:, None] * columns).expand(1, 3, *size)


def relative_statistics_loss(painted, style, **options):
    return statistics_loss([*map(feature_statistics, painted)], [*map(feature_statistics, style)], **options)


def relative_gram_loss(painted, style):
    return gram_loss([*map(gram_matrix, painted)], [*map(gram_matrix, style)])


@pytest.fixture
def layers():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, 12, 10, generator=generator).relu() for channels in (4, 6)]


def test_equal_features_cost_nothing(layers):
    assert content_loss(layers[0], layers[0]).abs().max() == 0
    assert relative_statistics_loss(layers, layers).abs().max() == 0
    assert relative_gram_loss(layers, layers).abs().max() == 0


def test_statistics_and_gram_do_not_see_places(layers):
    shuffled = [layer.flatten(2)[:, :, torch.randperm(120)].reshape(layer.shape) for layer in layers]
    assert relative_statistics_loss(shuffled, layers).max() < 1e-6
    assert relative_gram_loss(shuffled, layers).max() < 1e-6
    assert content_loss(shuffled[0], layers[0]).min() > 0.5


def test_content_does_not_see_contrast_and_brightness(layers):
    assert content_loss(3 * layers[0] + 2, layers[0]).max() < 1e-3


def test_ordinary_channels_come_out_with_deviation_one_and_dead_ones_stay_dead():
    features = 10 * torch.randn(1, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = torch.zeros_like(features)  # standardised it stays 0, which leaves the squares of the other side
    assert 0.85 < content_loss(features, plain).item() < 1.01
    dead = features.clone()
    dead[:, 0] *= 0.002
    other = dead.clone()
    other[:, 0] = 0
    assert content_loss(dead, other).item() < 0.01 / 8


def test_statistics_loss_by_hand():
    ours = [torch.tensor([[[[0.0, 2.0]]]])]  # mean 1, deviation 1
    theirs = [torch.tensor([[[[1.0, 5.0]]]])]  # mean 3, deviation 2
    expected = ((1 - 3) ** 2 + (1 - 2) ** 2) / (3**2 + 2**2)
    torch.testing.assert_close(relative_statistics_loss(ours, theirs), torch.tensor([[expected]]), atol=1e-4, rtol=1e-4)


def test_gram_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    torch.testing.assert_close(gram_matrix(features), torch.tensor([[[2.5, 5.5], [5.5, 12.5]]]))


def test_gram_loss_is_relative_to_the_styles_norm():
    small, large = [torch.eye(2)[None]], [2 * torch.eye(2)[None]]  # squared norms 2 and 8, squared distance 2
    torch.testing.assert_close(gram_loss(small, large), torch.tensor([[2 / 8]]))
    torch.testing.assert_close(gram_loss(large, small), torch.tensor([[2 / 2]]))


def test_relative_losses_do_not_see_the_scale_of_a_layer(layers):
    others = [layer.flip(0) ** 2 for layer in layers]
    for loss in (relative_statistics_loss, relative_gram_loss):
        small, large = loss(layers, others), loss([100 * x for x in layers], [100 * x for x in others])
        torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-5)
        assert small.shape == (2, 2)


def test_colour_loss_measures_the_distance_of_palettes():
    grey, brighter = torch.full((1, 3, 20, 20), 0.2), torch.full((1, 3, 30, 10), 0.6)
    assert colour_loss(grey, grey).item() == 0
    torch.manual_seed(0)
    near, far = colour_loss(grey, grey + 0.1), colour_loss(grey, brighter)
    assert 0 < near < far
    picture = torch.rand(1, 3, 64, 64)
    shuffled = picture.flatten(2)[:, :, torch.randperm(64 * 64)].reshape(picture.shape)
    assert colour_loss(picture, shuffled) < 0.02


def test_colour_loss_is_half_the_distance_of_two_colours_in_every_direction():
    torch.manual_seed(0)
    for change in ([0.5, -0.5, 0], [0, 0.5, -0.5], [-0.5, 0, 0.5], [0.4, 0.4, 0.4]):  # all but the last of one grey
        one = torch.full((1, 3, 8, 8), 0.5)
        other = one + torch.tensor(change)[:, None, None]
        mean = torch.stack([colour_loss(one, other) for _ in range(50)]).mean().item()
        # The cosine between a random direction and a fixed one is evenly distributed: half, on average.
        assert mean == pytest.approx(torch.tensor(change).norm().item() / 2, rel=0.1)


@pytest.mark.parametrize("loss", [relative_statistics_loss, relative_gram_loss])
def test_each_style_loss_falls_when_optimised_alone(layers, loss):
    theirs = [layer + 1 for layer in layers]
    ours = [layer.clone().requires_grad_() for layer in layers]
    optimiser = torch.optim.Adam(ours, lr=0.05)
    first = loss(ours, theirs).sum().item()
    for _ in range(60):
        optimiser.zero_grad()
        total = loss(ours, theirs).sum()
        total.backward()
        optimiser.step()
    assert total.item() < 0.2 * first


def test_what_the_statistics_loss_is_relative_to(layers):
    theirs = [layer.flip(0) ** 2 for layer in layers]
    ours, seen = ([feature_statistics(layer) for layer in kind] for kind in (layers, theirs))
    squared = statistics_loss(ours, seen, relative_to="nothing")
    torch.testing.assert_close(squared, torch.stack([(a - b).square().sum(1) for a, b in zip(ours, seen, strict=True)]))
    halves = [[one.chunk(2, 1) for one in kind] for kind in (ours, seen)]  # means and deviations, as in the paper
    paper = [sum((a - b).norm(dim=1) for a, b in zip(one, two, strict=True)) for one, two in zip(*halves, strict=True)]
    torch.testing.assert_close(statistics_loss(ours, seen, relative_to="nothing", power=1), torch.stack(paper))
    both = statistics_loss(ours, seen, relative_to="both")
    torch.testing.assert_close(both, statistics_loss(seen, ours, relative_to="both"))
    assert (both <= 1).all()
    assert (both < statistics_loss(ours, seen)).all()


def test_the_root_of_no_distance_has_a_gradient(layers):
    ours = feature_statistics(layers[0]).requires_grad_()
    statistics_loss([ours], [ours.detach()], power=0.5).sum().backward()
    assert ours.grad.isfinite().all()


def test_total_variation_counts_steps():
    flat = torch.full((1, 3, 8, 8), 0.3)
    assert total_variation(flat).item() == 0
    stripes = flat.clone()
    stripes[..., ::2] += 0.5
    torch.testing.assert_close(total_variation(stripes), torch.tensor([0.5]))


def test_total_variation_is_that_across_plus_that_down():
    across, down = torch.zeros(2, 1, 3, 8, 6)
    across[..., ::2] = 0.5
    down[..., ::2, :] = 0.25
    for picture, expected in ((across, 0.5), (down, 0.25), (across + down, 0.75)):
        torch.testing.assert_close(total_variation(picture), torch.tensor([expected]))


def test_layout_is_what_no_change_of_colours_explains():
    photo = torch.rand(2, 3, 12, 10).repeat_interleave(16, 2).repeat_interleave(16, 3)
    recoloured = torch.einsum("ij,njhw->nihw", torch.rand(3, 3) - 0.5, photo) + 0.3
    torch.testing.assert_close(layout_loss(recoloured, photo), torch.zeros(2), atol=2e-3, rtol=0)
    assert (layout_loss(photo.flip(3), photo) > 0.8).all()
    strokes = recoloured + 0.3 * (torch.arange(160) % 2 - 0.5)  # finer than a cell
    assert (layout_loss(strokes, photo) < 0.01).all()
    patched = recoloured.clone()
    patched[:, :, :64, :64] += 0.5
    assert (layout_loss(patched, photo) > 0.05).all()


def test_contrast_loss_forbids_texture_where_the_photograph_has_none():
    noise = torch.rand(2, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    busy_left, busy_right = noise.clone(), noise.clone()
    busy_left[:, :, :, 96:] = busy_right[:, :, :, :96] = 0.5
    assert (contrast_loss(busy_left, busy_left, busy_right) < 0.1).all()  # whatever the place of the style's texture
    assert (contrast_loss(busy_right, busy_left, busy_right) > 0.7).all()
    assert (contrast_loss(noise, busy_left, noise) > 0.3).all()  # even if the style is busy everywhere
    assert (contrast_loss(torch.full_like(noise, 0.5), busy_left, noise) < 0.01).all()  # anything may be calm


def test_contrast_loss_allows_no_more_texture_than_the_style_has():
    noise = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    quiet = 0.5 + 0.2 * (noise - 0.5)
    assert contrast_loss(quiet, noise, quiet) < 0.05 < 1 < contrast_loss(noise, noise, quiet)


def test_contrast_loss_ignores_noise_that_nobody_sees():
    generator = torch.Generator().manual_seed(0)
    photo, painted = (torch.rand(1, 3, 192, 192, generator=generator) for _ in range(2))
    photo[:, :, :, 96:] = 0.5
    grainy = photo + torch.randn(photo.shape, generator=generator) / 2550
    torch.testing.assert_close(
        contrast_loss(painted, grainy, painted), contrast_loss(painted, photo, painted), atol=0.02, rtol=0
    )


@pytest.mark.parametrize(("contrast", "share"), [(1, 0.02), (8, 0.5), (64, 0.98)])
def test_a_contrast_of_8_of_255_allows_half_of_the_styles_texture(contrast, share):
    photo, style = chequers(contrast / 255), chequers(0.4)
    assert contrast_loss(style, photo, style).item() == pytest.approx(1 - share, abs=0.02)
    assert contrast_loss(chequers(0.4 * 0.9 * share), photo, style) < 0.01


def test_cells_that_look_alike_share_the_styles_texture_evenly():
    photo, style = chequers(0.4), chequers(0.4).clone()
    style[:, :, :, 96:] = 0.5
    assert contrast_loss(chequers(0.18), photo, style) < 0.01  # a little less than the style's mean
    assert contrast_loss(style, photo, style) > 0.4


def test_large_cells_forbid_waves_that_small_ones_take_for_flat():
    contrast = 0.02
    slope = contrast / torch.arange(12.0).std(correction=0)  # no cell of 12 pixels has more than that contrast
    waves = ((torch.arange(192) % 96 - 48).abs() * slope).expand(1, 3, 192, 192)
    assert contrast_loss(waves, chequers(0.4), chequers(contrast)) > 0.3
    assert contrast_loss(waves, chequers(0.4), chequers(3 * contrast)) < 0.01  # what cells of 32 may have


def test_small_cells_see_gaps_that_large_ones_take_for_texture():
    photo = chequers(0.4).clone()
    photo[:, :, :, torch.arange(192) % 32 < 16] = 0.5
    assert contrast_loss(photo, photo, photo) < 0.1
    assert contrast_loss(photo.roll(16, 3), photo, photo) > 0.2


@pytest.mark.parametrize("width", [12, 32])
def test_stripes_as_wide_as_a_cell_cost_the_same_wherever_they_begin(width):
    stripes = (torch.arange(960) // width % 2 * 0.4).expand(1, 3, 64, 960)
    photo, style = torch.full_like(stripes, 0.5), chequers(0.2)
    inside, across = (contrast_loss(stripes.roll(moved, 3), photo, style).item() for moved in (0, width // 2))
    assert inside == pytest.approx(across, rel=0.1)
