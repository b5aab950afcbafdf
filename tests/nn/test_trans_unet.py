import math

import pytest
import torch
from torch import nn

from strokelib.errors import ParameterError
from strokelib.nn.baselines.trans_unet import Bottleneck, StandardisedConv, Transformer, TransformerLayer, TransUNet
from strokelib.nn.blocks import count_parameters

SMALL = {"width": 8, "hidden": 32, "layers": 2, "heads": 4, "grid": (3, 2)}
LAPTOP = {"width": 16, "hidden": 128, "layers": 4, "heads": 4, "grid": (6, 7)}
PUBLIC = 105_276_066  # of the public code, 3 channels in, 2 out, 224 x 224 pixels


def parameters(*channels, **settings):
    with torch.device("meta"):
        return count_parameters(TransUNet(*channels, **settings))


def test_the_published_size_has_the_parameters_of_the_public_code_less_the_biases_of_the_keys():
    assert parameters(3, 2, grid=(14, 14)) == PUBLIC - 12 * 768
    assert f"{12 * 768:,} parameters less" in TransUNet.__doc__


@pytest.mark.parametrize("settings", [{}, {"transformer": False}, LAPTOP])
def test_counts_stand_in_the_docstring(settings):
    assert f"{parameters(**settings):,}" in " ".join(TransUNet.__doc__.split())


def test_without_the_transformer_the_count_falls_by_it():
    block = 4 * 768**2 + 3 * 768 + 8 * 768**2 + 5 * 768 + 4 * 768
    transformer = 1024 * 768 + 768 + 256 * 768 + 12 * block + 2 * 768
    assert parameters() - parameters(transformer=False) == transformer - (1024 - 768) * 9 * 512
    assert parameters(**SMALL) - parameters(**SMALL | {"layers": 1}) == 12 * 32**2 + 12 * 32


@pytest.mark.parametrize(
    ("size", "settings", "width", "coarsest"),
    [
        ((256, 256), {}, 64, 768),
        ((96, 112), LAPTOP, 16, 128),
        ((48, 160), SMALL, 8, 32),
        ((32, 32), SMALL, 8, 32),
        ((96, 112), SMALL | {"transformer": False}, 8, 128),
    ],
)
def test_logits_have_the_size_of_the_input_and_features_halve_it(size, settings, width, coarsest):
    with torch.device("meta"):
        model, x = TransUNet(1, 3, **settings), torch.empty(2, 1, *size)
        features = model.encode(x)
        assert model(x).shape == (2, 3, *size)
    assert model.feature_channels == coarsest
    channels = (width, 4 * width, 8 * width, coarsest)
    for level, (feature, wanted) in enumerate(zip(features, channels, strict=True), 1):
        assert feature.shape == (2, wanted, *(side // 2**level for side in size))


def test_decoding_what_was_encoded_is_the_forward_pass():
    torch.manual_seed(0)
    model, x = TransUNet(**SMALL).eval(), torch.randn(1, 1, 48, 32)
    torch.testing.assert_close(model.decode(model.encode(x)), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    "shape", [(1, 1, 16, 32), (1, 1, 32, 40), (1, 1, 33, 32), (1, 2, 32, 32), (1, 1, 32, 32, 32), (1, 32, 32)]
)
def test_an_input_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"input of the TransU-Net.*multiples of 16 from 32 on"):
        TransUNet(**SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"width": 6}, "width of the TransU-Net: found 6"),
        ({"width": 0}, "width of the TransU-Net: found 0"),
        ({"heads": 5}, r"heads of the TransU-Net: found 5; wanted a divisor of hidden \(32\)"),
        ({"heads": 0}, "heads of the TransU-Net: found 0"),
        ({"layers": 0}, "layers of the TransU-Net: found 0"),
        ({"grid": (0, 2)}, "grid of the TransU-Net"),
        ({"grid": (2, 2, 2)}, "grid of the TransU-Net"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_words(settings, words):
    with pytest.raises(ParameterError, match=words):
        TransUNet(**SMALL | settings)


@pytest.mark.parametrize(("settings", "size"), [({}, (48, 32)), ({}, (64, 64)), ({"transformer": False}, (48, 32))])
def test_a_gradient_reaches_every_parameter(settings, size):
    torch.manual_seed(0)
    model = TransUNet(**SMALL | settings)
    model(torch.randn(2, 1, *size)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_it_overfits_one_case():
    torch.manual_seed(0)
    y = torch.zeros(1, 48, 32, dtype=torch.long)
    y[:, 8:30, 10:25] = 1
    x = torch.randn(1, 1, 48, 32) + 2 * y[:, None]
    model = TransUNet(**SMALL)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = model.eval()(x).argmax(1)
    assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.98


def test_without_the_transformer_the_output_is_another_and_finer_features_are_the_same():
    torch.manual_seed(0)
    settings = SMALL | {"hidden": 128, "dropout": 0.0}
    whole, x = TransUNet(**settings), torch.randn(2, 1, 48, 32)
    without = TransUNet(**settings, transformer=False)
    without.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("transformer")})
    assert (without(x) - whole(x)).abs().max() > 1e-3
    kept, changed = without.encode(x), whole.encode(x)
    torch.testing.assert_close(kept[:-1], changed[:-1], rtol=0, atol=0)
    torch.testing.assert_close(whole.transformer(kept[-1]), changed[-1])
    assert (kept[-1] - changed[-1]).abs().max() > 1e-1


def test_attention_is_the_same_when_written_out():
    torch.manual_seed(0)
    layer, x = TransformerLayer(6, 2, 0.0), torch.randn(1, 4, 6)
    q, k, v = layer.query(x)[0], x[0] @ layer.key.weight.T, layer.value(x)[0]
    found = layer.attention(x)
    for head in range(2):
        own = slice(3 * head, 3 * head + 3)
        for i in range(4):
            scores = torch.stack([q[i, own] @ k[j, own] / math.sqrt(3) for j in range(4)]).exp()
            expected = sum(scores[j] * v[j, own] for j in range(4)) / scores.sum()
            torch.testing.assert_close(found[0, i, own], expected)


def test_a_layer_normalises_before_each_part_and_adds_it():
    torch.manual_seed(0)
    layer, x = TransformerLayer(6, 2, 0.0), torch.randn(2, 4, 6)
    between = x + layer.out(layer.attention(nn.functional.layer_norm(x, (6,), eps=1e-6)))
    first, second = layer.mlp[0], layer.mlp[3]
    hidden = nn.functional.gelu(first(nn.functional.layer_norm(between, (6,), eps=1e-6)))
    torch.testing.assert_close(layer(x), between + second(hidden))
    assert first.out_features == 24


def test_one_position_of_the_map_changes_every_position_of_the_transformers_map():
    torch.manual_seed(0)
    transformer, x = Transformer(4, 8, 1, 2, (3, 5), 0.0), torch.randn(1, 4, 3, 5)
    changed = x.clone()
    changed[..., 2, 4] += 1
    assert (transformer(changed) - transformer(x)).abs().amax((0, 1)).min() > 0


def test_positions_are_taken_as_they_are_on_their_grid_and_interpolated_elsewhere():
    torch.manual_seed(0)
    transformer = Transformer(4, 8, 1, 2, (3, 5), 0.0)
    assert transformer.positions_at(3, 5) is transformer.positions
    other = transformer.positions_at(6, 10)
    assert other.shape == (1, 8, 6, 10)
    torch.testing.assert_close(other[..., 0, 0], transformer.positions[..., 0, 0])
    torch.testing.assert_close(other[..., 5, 9], transformer.positions[..., 2, 4])
    x = torch.randn(1, 4, 3, 5)
    assert (transformer(x.flip(-1)).flip(-1) - transformer(x)).abs().max() > 1e-3
    nn.init.zeros_(transformer.positions)
    torch.testing.assert_close(transformer(x.flip(-1)).flip(-1), transformer(x))


def test_a_standardised_convolution_does_not_see_the_scale_and_offset_of_its_weights():
    torch.manual_seed(0)
    layer, x = StandardisedConv(3, 4, kernel_size=3, stride=2, padding=1, bias=False), torch.randn(1, 3, 9, 8)
    weight = layer.weight.detach()
    expected = torch.stack([(w - w.mean()) / (w.var(correction=0) + 1e-5).sqrt() for w in weight])
    torch.testing.assert_close(layer(x), nn.functional.conv2d(x, expected, stride=2, padding=1))
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(3).add_(0.7)
    torch.testing.assert_close(layer(x), before, rtol=1e-3, atol=2e-3)


def test_a_bottleneck_adds_its_shortcut_before_the_last_relu():
    torch.manual_seed(0)
    plain, projecting, x = Bottleneck(16, 16), Bottleneck(16, 32, stride=2), torch.randn(1, 16, 6, 8)
    torch.testing.assert_close(plain(x), (plain.path(x) + x).clamp_min(0))
    torch.testing.assert_close(projecting(x), (projecting.path(x) + projecting.shortcut(x)).clamp_min(0))
    assert projecting(x).shape == (1, 32, 3, 4)


def test_a_batch_gives_what_each_image_gives_alone():
    torch.manual_seed(0)
    model, x = TransUNet(**SMALL).eval(), torch.randn(2, 1, 48, 32)
    torch.testing.assert_close(model(x)[1:], model(x[1:]), rtol=1e-4, atol=1e-5)


def test_channels_last_gives_the_same():
    torch.manual_seed(0)
    model, x = TransUNet(**SMALL).eval(), torch.randn(2, 1, 96, 112)
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-5)
