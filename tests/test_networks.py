import pytest
import torch
import torch.nn.functional as F

from restyle.errors import ModelFileError, ShapeError
from restyle.nn.fast import FastStyleEncoder, FastStylizer, UpsampledConv, fast_model
from restyle.nn.ops import channel_statistics
from restyle.nn.pretrained import VggEncoder
from restyle.nn.reference import MirroredDecoder, ReferenceStyleEncoder, ReferenceStylizer

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def small_fast():
    torch.manual_seed(0)
    stylizer = FastStylizer(channels=16, blocks=2, stem=8, up=(8, 8)).eval()
    encoder = FastStyleEncoder(stylizer.sites, stylizer.style_size, widths=(4,) * 6, mixtures=4, hidden=8)
    torch.nn.init.normal_(encoder.head.weight, std=0.5)
    return stylizer, encoder


NEAR = {"rtol": 0.01, "atol": 0.01}


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    stylizer = ReferenceStylizer("vgg16")
    return stylizer, ReferenceStyleEncoder(stylizer.encoder)


@pytest.mark.parametrize("variant", VggEncoder.VARIANTS)
def test_encoder_taps_and_freezes(variant):
    encoder = VggEncoder(variant)
    torch.nn.Sequential(encoder).train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    taps = encoder(torch.rand(1, 3, 33, 48))
    assert [tuple(tap.shape[1:]) for tap in taps] == [(64, 33, 48), (128, 17, 24), (256, 9, 12), (512, 5, 6)]
    assert all((tap >= 0).all() for tap in taps)
    if variant != "vgg19_normalised":  # which begins with a layer of its own
        grey = torch.tensor((0.485, 0.456, 0.406)).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
        assert encoder.normalise(grey).abs().max() < 1e-6
    assert not any(module.training for module in encoder.modules())
    assert not any(p.requires_grad for p in encoder.parameters())
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} moved"


def test_encoder_is_not_moved_by_an_optimiser(reference):
    stylizer, encode = reference
    before = {name: value.clone() for name, value in stylizer.encoder.state_dict().items()}
    optimiser = torch.optim.Adam(stylizer.parameters(), lr=0.1)
    stylizer.train()
    content = torch.rand(1, 3, 32, 32)
    painted, _ = stylizer.paint(content, encode(content), torch.ones(1, 1), torch.zeros(1, 1024), torch.zeros(1, 1))
    painted.square().sum().backward()
    optimiser.step()
    assert all(torch.equal(value, before[name]) for name, value in stylizer.encoder.state_dict().items())


def test_encoder_loads_torchvision_and_says_what_is_missing():
    source = VggEncoder("vgg16")
    state = {name.replace("layers.", "features."): value.half() for name, value in source.state_dict().items()}
    loaded = VggEncoder("vgg16").load_torchvision({**state, "features.28.weight": torch.zeros(1)})
    picture = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(loaded(picture)[-1], source(picture)[-1], rtol=0.05, atol=0.01)
    del state["features.5.weight"]
    with pytest.raises(ModelFileError, match=r"features\.5\.weight must have shape \(128, 64, 3, 3\), found nothing"):
        VggEncoder("vgg16").load_torchvision(state)
    with pytest.raises(ModelFileError, match="vgg19_normalised"):
        VggEncoder("vgg19_normalised").load_torchvision(state)


def test_encoder_refuses_unknown_variants():
    with pytest.raises(ValueError, match="vgg11"):
        VggEncoder("vgg11")


def test_a_judge_pads_and_pools_as_vgg_was_trained():
    encoder, judge = VggEncoder("vgg16"), VggEncoder("vgg16", as_trained=True)
    judge.load_state_dict(encoder.state_dict())
    picture = torch.rand(1, 3, 35, 32)
    theirs, ours = encoder(picture), judge(picture)
    assert [tap.shape[2] for tap in theirs] == [35, 18, 9, 5]
    assert [tap.shape[2] for tap in ours] == [35, 17, 8, 4]
    torch.testing.assert_close(ours[0][:, :, 1:-1, 1:-1], theirs[0][:, :, 1:-1, 1:-1])
    assert not torch.allclose(ours[0], theirs[0])


def test_decoder_mirrors_the_encoder():
    for variant in ("vgg16", "vgg19"):
        down = [tuple(w.shape[:2]) for n, w in VggEncoder(variant).named_parameters() if n.endswith("weight")]
        up = [tuple(w.shape[:2]) for n, w in MirroredDecoder(variant).named_parameters() if n.endswith("weight")]
        assert up == [(inputs, outputs) for outputs, inputs in reversed(down)]
    decoder = MirroredDecoder()
    first = decoder.layers[0].weight  # Kaiming: the deviation that keeps the size of signals behind a ReLU
    assert first.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.02)
    assert not any(m.inplace for m in MirroredDecoder().modules() if isinstance(m, torch.nn.ReLU))


@pytest.mark.parametrize("variant", VggEncoder.VARIANTS)
def test_decoder_begins_as_the_encoder_turned_round(variant):
    torch.manual_seed(0)
    stylizer, photographs = ReferenceStylizer(variant), torch.rand(2, 3, 32, 48)
    stylizer.mirror_encoder(photographs)
    features, seen = stylizer.encoder(photographs)[-1], []
    for layer in stylizer.decoder.layers:
        features = layer(features)
        if isinstance(layer, torch.nn.Conv2d):
            seen.append(features)
    for features, mean, std in [*((features, 0, 1) for features in seen[:-1]), (seen[-1], 0.5, 0.1)]:
        torch.testing.assert_close(features.mean((0, 2, 3)), torch.full(features.shape[1:2], float(mean)), **NEAR)
        alive = features.std((0, 2, 3)) > 1e-3  # random weights leave channels that never speak
        assert alive.float().mean() > 0.5
        torch.testing.assert_close(features.std((0, 2, 3))[alive], torch.full((int(alive.sum()),), float(std)), **NEAR)
    # Turned round: what the encoder's convolution takes from a channel, the decoder's gives to it.
    forth = [layer for layer in stylizer.encoder.layers if isinstance(layer, torch.nn.Conv2d)][-1]
    back = stylizer.decoder.layers[0]
    given = torch.rand(1, 512, 9, 9)
    expected = torch.nn.functional.conv_transpose2d(given, forth.weight, padding=1)
    ours = torch.nn.functional.conv2d(given, back.weight, padding=1)
    gain = (ours * expected).sum((2, 3), keepdim=True) / expected.square().sum((2, 3), keepdim=True)
    torch.testing.assert_close(ours, gain * expected, rtol=1e-3, atol=1e-3 * ours.abs().max().item())


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (40, 23)])
def test_reference_gives_back_the_input_size(reference, size):
    stylizer, encode = reference
    content = torch.rand(2, 3, *size)
    style = encode(torch.rand(2, 3, 32, 32))
    stylized, own = stylizer(content, style, torch.ones(2, 1), torch.zeros(2, 1024), torch.zeros(2, 1))
    assert stylized.shape == content.shape
    torch.testing.assert_close(own, encode(content))


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (64, 23), (33, 100)])
def test_fast_gives_back_the_input_size(small_fast, size):
    stylizer, encode = small_fast
    content = torch.rand(2, 3, *size)
    style = encode(torch.rand(2, 3, 32, 32))
    stylized, own = stylizer(content, style, torch.ones(2, 1), torch.zeros(2, 32), torch.zeros(2, 1))
    assert stylized.shape == content.shape
    assert own.shape == (2, 32)
    assert 0 <= stylized.min() <= stylized.max() <= 1


def paint(pair, content, style, strength=1.0, statistics=None):
    stylizer, encode = pair
    count = len(content)
    given = torch.zeros(count, 1) if statistics is None else torch.ones(count, 1)
    statistics = torch.zeros(count, 2 * stylizer.sites) if statistics is None else statistics
    with torch.no_grad():
        return stylizer(content, encode(style), torch.full((count, 1), strength), statistics, given)


def test_fast_at_strength_zero_is_exactly_the_photograph(small_fast):
    content = torch.rand(1, 3, 40, 50)
    stylized, _ = paint(small_fast, content, torch.rand(1, 3, 40, 40), 0.0)
    assert torch.equal(stylized, content)
    assert not torch.equal(paint(small_fast, content, torch.rand(1, 3, 40, 40), 0.5)[0], content)


def test_strength_mixes_the_photograph_with_its_painting(small_fast):
    content, style = torch.rand(1, 3, 40, 48), torch.rand(1, 3, 40, 40)
    full, _ = paint(small_fast, content, style, 1.0)
    for strength in (0.0, 0.02, 0.5, 1.0, 1.5, 2.0):
        expected = (content + strength * (full - content)).clamp(0, 1)
        torch.testing.assert_close(paint(small_fast, content, style, strength)[0], expected)


def test_the_style_scales_every_later_layer(small_fast):
    stylizer, encode = small_fast
    content, style = torch.rand(1, 3, 40, 48), torch.rand(1, 3, 40, 40)
    neutral = encode(style)
    neutral[:, 32:] = 0
    inputs = torch.ones(1, 1), torch.zeros(1, 32), torch.zeros(1, 1)
    plain, _ = stylizer.paint(content, neutral, *inputs)
    for layer in (slice(32, 96), slice(96, 160), slice(160, 176), slice(176, 192)):
        moved = neutral.clone()
        moved[:, layer] = 0.5
        assert (stylizer.paint(content, moved, *inputs)[0] - plain).abs().max() > 1e-4


def test_the_style_mixes_with_the_given_statistics_not_the_own(small_fast):
    stylizer, encode = small_fast
    features, style = torch.randn(1, 16, 9, 9), encode(torch.rand(1, 3, 40, 40))
    given = torch.cat([torch.full((1, 16), 3.0), torch.full((1, 16), 2.0)], 1)
    out, _ = stylizer.normalise(features, style, torch.full((1, 1), 0.5), given, torch.ones(1, 1))
    target = 0.5 * given + 0.5 * style[:, :32]
    expected = (features - 3) / 2 * target[:, 16:, None, None].relu() + target[:, :16, None, None]
    torch.testing.assert_close(out, expected)


def test_deviations_below_zero_are_none(small_fast):
    stylizer, _ = small_fast
    style = torch.zeros(1, stylizer.style_size)
    style[:, 16:32] = -1
    out, _ = stylizer.normalise(
        torch.randn(1, 16, 9, 9), style, torch.ones(1, 1), torch.zeros(1, 32), torch.zeros(1, 1)
    )
    assert out.abs().max() == 0


def test_own_statistics_do_not_see_the_padding(small_fast):
    stylizer, _ = small_fast
    content = torch.rand(1, 3, 32, 48)
    wide = F.pad(content, (16, 16, 16, 16), mode="reflect")  # two more cells on each side; these see the zeros
    features = stylizer.down2(F.relu(stylizer.down1(F.pad(wide, (6, 0, 6, 0)))))
    own = torch.cat(channel_statistics(features[:, :, 2:6, 2:8]), 1).flatten(1)
    torch.testing.assert_close(paint(small_fast, content, torch.rand(1, 3, 40, 40))[1], own)


def test_no_zero_border_meets_the_picture(small_fast):
    # A flat picture stays flat up to its edges, although normalising magnifies the slightest difference.
    for size in ((64, 64), (61, 45)):
        painted, _ = paint(small_fast, torch.full((1, 3, *size), 0.6), torch.rand(1, 3, 40, 40))
        assert painted.std((2, 3)).max() < 1e-3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"content": torch.zeros(3, 40, 40)}, r"content must be \(N, 3, H, W\)"),
        ({"style": torch.zeros(1, 5)}, r"style must be \(1, "),
        ({"strength": torch.ones(2, 1)}, r"strength must be \(1, 1\), got shape \(2, 1\)"),
        ({"statistics": torch.zeros(1, 31)}, "statistics must be"),
        ({"given": torch.zeros(1)}, "given must be"),
    ],
)
def test_wrong_shapes_are_named(small_fast, changes, words):
    stylizer, _ = small_fast
    inputs = {
        "content": torch.zeros(1, 3, 40, 40),
        "style": torch.zeros(1, stylizer.style_size),
        "strength": torch.ones(1, 1),
        "statistics": torch.zeros(1, 32),
        "given": torch.zeros(1, 1),
    }
    with pytest.raises(ShapeError, match=words):
        stylizer(**{**inputs, **changes})


def test_given_statistics_replace_the_own(small_fast):
    content, other, style = torch.rand(1, 3, 40, 48), torch.rand(1, 3, 64, 64) ** 3, torch.rand(1, 3, 40, 40)
    plain, own = paint(small_fast, content, style)
    again, own_again = paint(small_fast, content, style, statistics=own)
    torch.testing.assert_close(again, plain)
    torch.testing.assert_close(own_again, own)
    foreign, _ = paint(small_fast, content, style, statistics=paint(small_fast, other, style)[1])
    assert (foreign - plain).abs().max() > 1e-3


def test_normalised_features_have_the_mixed_statistics(small_fast):
    stylizer, encode = small_fast
    features, style = torch.randn(2, 16, 9, 9).double(), encode(torch.rand(2, 3, 40, 40)).double()
    strength = torch.tensor([[1.0], [0.3]]).double()
    out, own = stylizer.normalise(features, style, strength, torch.zeros(2, 32).double(), torch.zeros(2, 1).double())
    mean, std = (s.flatten(1) for s in channel_statistics(out, eps=1e-10))
    target = (1 - strength) * own + strength * style[:, :32]
    torch.testing.assert_close(mean, target[:, :16], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(std, target[:, 16:].relu(), atol=1e-3, rtol=1e-3)


def test_pictures_of_a_batch_do_not_touch_each_other(small_fast):
    content, style = torch.rand(3, 3, 32, 40), torch.rand(3, 3, 48, 48)
    together, _ = paint(small_fast, content, style)
    alone, _ = paint(small_fast, content[1:2], style[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", [3, 5])
def test_folded_upsampling_equals_upsampling_then_convolving(kernel):
    layer = UpsampledConv(5, 4, kernel).double()
    torch.nn.init.normal_(layer.bias)
    features = torch.randn(2, 5, 7, 9).double()
    upsampled = F.interpolate(features, scale_factor=2, mode="nearest")
    expected = F.conv2d(upsampled, layer.weight, layer.bias)
    torch.testing.assert_close(layer(features), expected)
    torch.testing.assert_close(layer.folded().double()(features), expected, atol=1e-6, rtol=1e-5)


def test_fast_costs_what_the_design_allows():
    stylizer, count = fast_model().stylizer, 0

    def add(layer, inputs, output):
        nonlocal count
        places = output if isinstance(layer, torch.nn.Conv2d) else inputs[0]
        count += places.shape[2] * places.shape[3] * layer.weight.numel()

    from restyle.export.onnx_graph import fold_upsampling

    fold_upsampling(stylizer)
    for layer in stylizer.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.register_forward_hook(add)
    vector = torch.zeros(1, stylizer.style_size)
    with torch.no_grad():
        stylizer(torch.rand(1, 3, 256, 256), vector, torch.ones(1, 1), torch.zeros(1, 256), torch.zeros(1, 1))
    assert count / 1e9 <= 1.0
    assert sum(p.numel() for p in stylizer.parameters()) <= 1_000_000
