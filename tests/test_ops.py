import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restyle.errors import ShapeError
from restyle.nn.ops import ConditionalInstanceNorm, adain, batch_norm, channel_statistics, instance_norm

pytestmark = pytest.mark.torch

shapes = st.tuples(*[st.integers(1, 4)] * 2, *[st.integers(2, 9)] * 2)


def noise(shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(1, 3, shape))


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=30)
def test_statistics_are_mean_and_biased_deviation(shape, seed):
    features = noise(shape, seed)
    mean, std = channel_statistics(features, eps=0)
    np.testing.assert_allclose(mean[:, :, 0, 0], features.numpy().mean((2, 3)), rtol=1e-9)
    np.testing.assert_allclose(std[:, :, 0, 0], features.numpy().std((2, 3)), rtol=1e-9)


@given(shape=shapes, seed=st.integers(0, 99))
@settings(max_examples=30)
def test_adain_gives_the_style_statistics(shape, seed):
    content = noise(shape, seed)
    mean, std = channel_statistics(noise((shape[0], shape[1], 7, 5), seed + 1))
    out_mean, out_std = channel_statistics(adain(content, mean, std, eps=1e-12), eps=0)
    torch.testing.assert_close(out_mean, mean)
    torch.testing.assert_close(out_std, std, rtol=1e-4, atol=1e-4)


def test_adain_by_own_statistics_is_the_identity():
    content = noise((2, 3, 5, 6))
    torch.testing.assert_close(adain(content, *channel_statistics(content)), content)


def test_adain_shares_one_style_in_the_batch():
    content = noise((3, 2, 4, 4))
    mean, std = noise((1, 2, 1, 1), 1), noise((1, 2, 1, 1), 2).abs()
    torch.testing.assert_close(adain(content, mean, std)[2:], adain(content[2:], mean, std))


@pytest.mark.parametrize("size", [(1, 1), (8, 8)])
def test_constant_maps_stay_finite_with_finite_gradients(size):
    content = torch.full((1, 2, *size), 3.0, requires_grad=True)
    out = adain(content, torch.ones(1, 2, 1, 1), torch.ones(1, 2, 1, 1))
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert torch.isfinite(content.grad).all()
    torch.testing.assert_close(out, torch.ones_like(out))


def test_instance_norm_forgets_contrast_and_brightness():
    features, one, zero = noise((2, 3, 9, 9)), torch.ones(3).double(), torch.zeros(3).double()
    torch.testing.assert_close(
        instance_norm(features, one, zero), instance_norm(5 * features + 7, one, zero), atol=1e-4, rtol=1e-4
    )


def test_batch_norm_agrees_with_torch_and_not_with_instance_norm():
    features, scale, shift = noise((4, 3, 5, 5)), noise((3,), 1), noise((3,), 2)
    expected = torch.nn.functional.batch_norm(features, None, None, scale, shift, training=True)
    torch.testing.assert_close(batch_norm(features, scale, shift), expected)
    assert not torch.allclose(instance_norm(features, scale, shift), expected)


def test_instance_norm_agrees_with_torch():
    features, scale, shift = noise((4, 3, 5, 5)), noise((3,), 1), noise((3,), 2)
    expected = torch.nn.functional.instance_norm(features, weight=scale, bias=shift)
    torch.testing.assert_close(instance_norm(features, scale, shift), expected)


def test_cin_has_2fs_parameters_and_one_hot_picks_a_style():
    layer = ConditionalInstanceNorm(5, 3).double()
    assert sum(p.numel() for p in layer.parameters()) == 2 * 5 * 3
    torch.nn.init.normal_(layer.scale)
    torch.nn.init.normal_(layer.shift)
    features = noise((2, 5, 6, 6))
    out = layer(features, torch.tensor([[0.0, 1, 0], [0, 0, 1]]).double())
    torch.testing.assert_close(out[:1], instance_norm(features[:1], layer.scale[1], layer.shift[1]))
    torch.testing.assert_close(out[1:], instance_norm(features[1:], layer.scale[2], layer.shift[2]))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: channel_statistics(torch.zeros(3, 4, 5)), r"\(N, C, H, W\), got shape \(3, 4, 5\)"),
        (lambda: adain(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1)), "style_mean"),
        (lambda: adain(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 1, 1), torch.ones(1, 3)), "style_std"),
        (lambda: adain(torch.zeros(3, 2, 4, 4), torch.zeros(2, 2, 1, 1), torch.ones(3, 2, 1, 1)), "style_mean"),
        (lambda: instance_norm(torch.zeros(1, 3, 4, 4), torch.ones(2), torch.zeros(3)), "scale"),
        (lambda: batch_norm(torch.zeros(1, 3, 4, 4), torch.ones(3), torch.zeros(4)), "shift"),
        (lambda: ConditionalInstanceNorm(3, 2)(torch.zeros(1, 3, 4, 4), torch.ones(1, 3)), "weights"),
    ],
)
def test_wrong_shapes_are_named(call, words):
    with pytest.raises(ShapeError, match=words):
        call()


def test_checks_step_aside_when_a_graph_is_traced(recwarn):
    # A check that compared traced shapes would warn (and freeze the shape); warnings are errors here.
    traced = torch.jit.trace(
        lambda x, m, s: adain(x, m, s), (torch.rand(1, 2, 4, 4), torch.rand(1, 2, 1, 1), torch.rand(1, 2, 1, 1))
    )
    big = torch.rand(2, 2, 9, 7)
    mean, std = torch.rand(2, 2, 1, 1), torch.rand(2, 2, 1, 1)
    torch.testing.assert_close(traced(big, mean, std), adain(big, mean, std))
