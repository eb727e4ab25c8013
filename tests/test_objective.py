import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from restyle.learn.objective import LossWeights, Objective
from restyle.metrics import noise_excess
from restyle.nn.losses import content_loss, feature_statistics, gram_loss, gram_matrix, layout_loss, statistics_loss
from restyle.nn.ops import adain, channel_statistics
from restyle.nn.pretrained import VggEncoder, relu_names

pytestmark = pytest.mark.torch
NONE = LossWeights(**{field.name: 0 for field in dataclasses.fields(LossWeights)})


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return VggEncoder("vgg16", as_trained=True)


@pytest.fixture(scope="module")
def pictures():
    torch.manual_seed(1)
    return torch.rand(3, 3, 32, 32), torch.rand(3, 3, 48, 32) ** 3, torch.rand(3, 3, 32, 32)


def losses(judge, pictures, weights, **options):
    content, style, painted = pictures
    objective = Objective(judge, weights, half=False, **options)
    return objective.style_losses(painted, content, style, objective.targets(content, style))


def test_every_loss_is_its_formula_times_its_weight(judge, pictures):
    content, style, painted = (judge(one, every=True) for one in pictures)
    main = [0, 2, 4, 7]
    assert [relu_names("vgg16")[index] for index in main] == ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
    ours, theirs = ([feature_statistics(layer) for layer in seen] for seen in (painted, style))
    each = statistics_loss(ours, theirs).mean(1)
    grams = gram_loss([gram_matrix(painted[i]) for i in main], [gram_matrix(style[i]) for i in main]).mean(1)
    small = [judge(F.avg_pool2d(one, 2), every=True) for one in (pictures[2], pictures[1])]
    coarse = statistics_loss(*([feature_statistics(layer) for layer in seen] for seen in small)).mean(1)
    goal = adain(content[-1], *channel_statistics(style[-1]))
    expected = {
        "content": content_loss(painted[-1], content[-1]).mean(),
        "adain": (painted[-1] - goal).square().mean(),
        "statistics": each[main].sum(),
        "between": each[[1, 3, 5, 6]].sum(),
        "coarse": coarse.sum(),
        "layout": layout_loss(pictures[2], pictures[0]).mean(),
        "gram": grams.sum(),
    }
    for name, value in expected.items():
        weighted, report = losses(judge, pictures, dataclasses.replace(NONE, **{name: 2.5}))
        assert set(weighted) == {name}
        torch.testing.assert_close(weighted[name], 2.5 * value, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(report[name], value, rtol=1e-4, atol=1e-6)


def test_the_noise_loss_is_the_noise_figure(judge, pictures):
    content, style, painted = pictures
    rough = (painted, content * 0.2, style * 0.2)  # of the three only the painting is rough
    weighted, report = losses(judge, (rough[1], rough[2], rough[0]), dataclasses.replace(NONE, noise=2))
    arrays = [[(one * 255).byte().permute(1, 2, 0).numpy() for one in kind] for kind in rough]
    expected = np.mean([noise_excess(*three) for three in zip(*arrays, strict=True)])
    assert expected > 0.5
    assert report["noise"].item() == pytest.approx(expected, rel=0.02)
    assert weighted["noise"] == 2 * report["noise"]
    weighted, _ = losses(judge, (painted, style, content * 0.2), dataclasses.replace(NONE, noise=2))
    assert weighted["noise"] == 0


def test_layers_relation_and_power_reach_the_losses(judge, pictures):
    statistics, gram = dataclasses.replace(NONE, statistics=1), dataclasses.replace(NONE, gram=1)
    for weights, name in ((statistics, "statistics"), (gram, "gram")):
        weighted, report = losses(judge, pictures, weights, layers=(0, 0, 3, 0))
        torch.testing.assert_close(weighted[name], 3 * report[f"{name}/relu3_1"])
    plain, both, root = (
        losses(judge, pictures, statistics, **options)[0]["statistics"].item()
        for options in ({}, {"relative_to": "both"}, {"power": 1.0})
    )
    assert len({round(plain, 5), round(both, 5), round(root, 5)}) == 3


def test_what_is_as_it_should_be_costs_nothing(judge, pictures):
    content, style, _ = pictures
    weights = dataclasses.replace(LossWeights(), content=0)
    weighted, _ = losses(judge, (content, style, style), weights)
    assert max(weighted[name].item() for name in ("statistics", "between", "gram")) < 1e-6
    weighted, _ = losses(judge, (content, style, content), LossWeights())
    assert weighted["content"].item() < 1e-6 < weighted["statistics"].item()


def test_pairing_anew_is_looking_anew(judge, pictures):
    content, style, _ = pictures
    objective = Objective(judge, LossWeights(), half=False)
    order = [2, 0, 1]
    ours, fresh = objective.targets(content, style).paired(order), objective.targets(content, style[order])
    for one, other in ((ours.content, fresh.content), (ours.style, fresh.style)):
        torch.testing.assert_close(one, other)
    for one, other in zip([*ours.statistics, *ours.grams], [*fresh.statistics, *fresh.grams], strict=True):
        torch.testing.assert_close(one, other)


def test_a_photograph_that_comes_back_costs_nothing(judge, pictures):
    content, style, painted = pictures
    objective = Objective(judge, LossWeights(), half=False)
    targets = objective.targets(content, style)
    back = objective.photograph_losses(content, content, targets, 3.0)
    assert set(back) == {"pixels", "features"}
    assert sum(back.values()).item() < 1e-5
    other = objective.photograph_losses(painted, content, targets, 3.0)
    torch.testing.assert_close(other["pixels"], 30 * (painted - content).abs().mean())


def test_weights_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="colour must be finite and not negative, got -1"):
        LossWeights(colour=-1)
    assert not dataclasses.replace(NONE, identity=1).of_style()
    assert dataclasses.replace(NONE, between=1).of_style()
