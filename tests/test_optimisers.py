import pytest
import torch

from restyle.learn.optimisers import Optimiser

pytestmark = pytest.mark.torch


def convolution(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Conv2d(24, 20, 3).to(memory_format=torch.channels_last)


def moved(layer, gradient, *, kind="muon", rate=0.01, steps=1):
    optimiser = Optimiser([(layer.parameters(), 1.0)], kind=kind, clip=1e9)
    for _ in range(steps):
        layer.weight.grad, layer.bias.grad = gradient.clone(memory_format=torch.preserve_format), torch.ones(20)
        optimiser.step(rate)
    return layer.weight.detach()


def test_muon_sees_a_convolution_as_the_matrix_that_it_is():
    """In whatever order weights and gradients lie in memory, the step is that of torch's Muon on outputs x the rest."""
    gradient = torch.randn(20, 24, 3, 3)
    start = convolution().weight.detach().permute(0, 2, 3, 1).reshape(20, -1).clone()
    matrix = torch.nn.Parameter(start)
    muon = torch.optim.Muon([matrix], lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    matrix.grad = gradient.permute(0, 2, 3, 1).reshape(20, -1)
    muon.step()
    expected = matrix.detach().reshape(20, 3, 3, 24).permute(0, 3, 1, 2)
    for given in (gradient.contiguous(), gradient.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(moved(convolution(), given), expected, atol=1e-4, rtol=1e-3)
    plain = torch.nn.Conv2d(24, 20, 3)
    plain.load_state_dict(convolution().state_dict())
    rows = torch.randperm(20)  # the update of a matrix does not know of any order
    assert (moved(plain, gradient) - expected).abs().max() < 2e-3
    assert not torch.equal(moved(convolution(), gradient[rows]), expected)


def test_what_is_no_matrix_goes_to_adamw():
    depthwise, colours = torch.nn.Conv2d(32, 32, 3, groups=32), torch.nn.Conv2d(32, 3, 5)
    parameters = [*depthwise.parameters(), *colours.parameters()]
    assert not Optimiser([(parameters, 1.0)], kind="muon", clip=1).views
    assert not Optimiser([(convolution().parameters(), 1.0)], kind="adamw", clip=1).views


def test_every_group_is_clipped_by_itself_and_moves_by_its_share():
    one, other = torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(4))
    frozen = torch.nn.Parameter(torch.zeros(4), requires_grad=False)
    optimiser = Optimiser([([one], 1.0), ([other], 0.5), ([frozen], 1.0)], kind="adamw", clip=1.0)
    one.grad, other.grad = torch.full((4,), 50.0), torch.full((4,), 0.1)
    assert optimiser.step(0.1) == pytest.approx([100.0, 0.2])
    assert one.grad.norm() == pytest.approx(1, rel=1e-4)
    assert other.grad.norm() == pytest.approx(0.2, rel=1e-4)
    torch.testing.assert_close(one.detach(), torch.full((4,), -0.1))
    torch.testing.assert_close(other.detach(), torch.full((4,), -0.05), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_the_state_goes_on_where_it_was(kind):
    gradient = torch.randn(20, 24, 3, 3)
    whole = moved(convolution(), gradient, kind=kind, steps=2)
    layer = convolution()
    first = Optimiser([(layer.parameters(), 1.0)], kind=kind, clip=1e9)
    layer.weight.grad, layer.bias.grad = gradient.clone(), torch.ones(20)
    first.step(0.01)
    second = Optimiser([(layer.parameters(), 1.0)], kind=kind, clip=1e9)
    second.load_state_dict(first.state_dict())
    layer.weight.grad, layer.bias.grad = gradient.clone(), torch.ones(20)
    second.step(0.01)
    assert torch.equal(layer.weight.detach(), whole)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="optimiser must be one of muon, adamw, got 'sgd'"):
        Optimiser([], kind="sgd", clip=1)
