import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import overfitted_dice, without_gradient

from strokelib.errors import ParameterError
from strokelib.nn.baselines.cenet import CENet, DenseAtrous, MultiKernelPooling, ResidualBlock
from strokelib.nn.blocks import count_parameters

RESNET_34_WITHOUT_CLASSIFIER = 21_284_672


def parameters(*channels, **settings):
    with torch.device("meta"):
        return count_parameters(CENet(*channels, **settings))


def test_the_published_size_has_29_00_m_parameters():
    assert parameters(3, 1) == 29_002_099
    assert f"{parameters(3, 1) / 1e6:.2f}" == f"{parameters() / 1e6:.2f}" == "29.00"


def test_the_encoder_is_a_resnet_34():
    with torch.device("meta"):
        model = CENet(in_channels=3)
    assert count_parameters(model.stem) + count_parameters(model.encoder) == RESNET_34_WITHOUT_CLASSIFIER
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in model.encoder.modules()) == 32


@pytest.mark.parametrize(
    ("settings", "fewer"),
    [
        ({}, 0),
        ({"atrous": False}, 3 * (9 * 512**2 + 512) + 512**2 + 512),
        ({"pooling": False}, 512 + 1 + 516 * 129 + 9 * 129**2 + 129 * 256 + 2 * 129 * 2 - 512 * 128 - 9 * 128**2
         - 128 * 256 - 2 * 128 * 2),
    ],
)  # fmt: skip
def test_without_a_block_the_count_falls_by_it_and_stands_in_the_docstring(settings, fewer):
    assert parameters() - parameters(**settings) == fewer
    assert f"{parameters(**settings):,}" in CENet.__doc__


def test_without_both_blocks_and_in_the_public_form_the_counts_stand_in_the_docstring():
    assert f"{parameters(atrous=False, pooling=False):,}" in CENet.__doc__
    assert f"{parameters(3, 1):,}" in CENet.__doc__
    decoders = [(516, 256), (256, 128), (128, 64), (64, 64)]
    assert f"{sum(2 * (a // 4) + b for a, b in decoders)} more" in CENet.__doc__


@pytest.mark.parametrize(
    ("size", "width"), [((256, 256), 64), ((96, 112), 8), ((32, 36), 8), ((100, 64), 12), ((32, 32), 4)]
)
def test_logits_have_the_size_of_the_input_and_features_halve_it_rounding_up(size, width):
    with torch.device("meta"):
        model, x = CENet(1, 3, width=width), torch.empty(2, 1, *size)
        features = model.encode(x)
        assert model(x).shape == (2, 3, *size)
    assert model.feature_channels == features[-1].shape[1] == 8 * width
    for level, feature in enumerate(features):
        assert feature.shape == (2, width * 2**level, *(-(-side // (4 * 2**level)) for side in size))


def test_decoding_what_was_encoded_is_the_forward_pass():
    torch.manual_seed(0)
    model, x = CENet(width=4).eval(), torch.randn(1, 1, 64, 36)
    torch.testing.assert_close(model.decode(model.encode(x)), model(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    "shape", [(1, 1, 28, 32), (1, 1, 32, 34), (1, 1, 33, 32), (1, 2, 32, 32), (1, 1, 32, 32, 32), (1, 32, 32)]
)
def test_an_input_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"input of the CE-Net.*multiples of 4 from 32 on"):
        CENet(width=4)(torch.zeros(shape))


@pytest.mark.parametrize("width", [0, -4, 6])
def test_a_width_that_is_no_multiple_of_four_is_refused(width):
    with pytest.raises(ParameterError, match=r"width of the CE-Net.*a multiple of 4"):
        CENet(width=width)


@pytest.mark.parametrize("settings", [{}, {"atrous": False}, {"pooling": False}, {"atrous": False, "pooling": False}])
def test_a_gradient_reaches_every_parameter(settings):
    torch.manual_seed(0)
    model = CENet(width=8, **settings)
    model(torch.randn(2, 1, 64, 96)).square().sum().backward()
    assert without_gradient(model) == []


def test_it_overfits_one_case():
    case = {"steps": 70, "rate": 1e-2, "size": (64, 64), "lesion": (slice(16, 40), slice(20, 50))}
    assert overfitted_dice(lambda: CENet(width=8), **case) > 0.97


def test_without_its_blocks_the_output_is_another_and_the_encoder_the_same():
    torch.manual_seed(0)
    whole, x = CENet(width=8), torch.randn(2, 1, 96, 112)
    without = CENet(width=8, atrous=False)
    without.load_state_dict({k: v for k, v in whole.state_dict().items() if not k.startswith("atrous")})
    torch.testing.assert_close(without.encode(x), whole.encode(x), rtol=0, atol=0)
    assert (without(x) - whole(x)).abs().max() > 1e-3


def test_without_pooling_the_output_is_that_of_a_decoder_that_reads_none_of_the_pooled_maps():
    torch.manual_seed(0)
    whole, without, x = CENet(width=8), CENet(width=8, pooling=False), torch.randn(2, 1, 96, 112)
    assert (without.decoder[0][0].out_channels, whole.decoder[0][0].out_channels) == (16, 17)
    # 64 and 68 channels have quarters of other widths: a unit of the wider one is silenced.
    kept = {k: v for k, v in whole.state_dict().items() if not k.startswith("pooling")}
    for name, value in without.state_dict().items():
        kept[name] = kept[name][tuple(slice(n) for n in value.shape)] if value.dim() else kept[name]
    kept["decoder.0.0.weight"] = whole.decoder[0][0].weight[:16, 4:].detach()
    without.load_state_dict(kept)
    before = whole(x)
    assert (without(x) - before).abs().max() > 1e-3
    with torch.no_grad():
        whole.decoder[0][0].weight[:, :4] = 0
        whole.decoder[0][3].weight[16] = 0
        whole.decoder[0][6].weight[:, 16] = 0
    assert (whole(x) - before).abs().max() > 1e-3
    torch.testing.assert_close(without(x), whole(x), rtol=1e-4, atol=1e-5)


def test_the_atrous_block_is_the_same_when_written_out_and_sees_as_far_as_its_docstring_says():
    torch.manual_seed(0)
    block, x = DenseAtrous(2), torch.randn(1, 2, 21, 21)
    a = [
        lambda y, c=c, r=r: nn.functional.conv2d(y, c.weight, c.bias, padding=r, dilation=r)
        for c, r in zip(block.dilated, (1, 3, 5), strict=True)
    ]
    branches = [a[0](x), block.point(a[1](x)), block.point(a[1](a[0](x))), block.point(a[2](a[1](a[0](x))))]
    torch.testing.assert_close(block(x), x + sum(b.clamp_min(0) for b in branches))
    spot = torch.zeros(1, 2, 21, 21)
    spot[..., 10, 10] = 1
    for convolution in [*block.dilated, block.point]:
        nn.init.ones_(convolution.weight)
    reached = block(spot)[0, 0].ne(0).any(0)
    assert reached.nonzero().flatten().tolist() == list(range(1, 20))


def test_pooling_is_the_same_when_written_out_and_its_windows_never_leave_the_map():
    torch.manual_seed(0)
    block, x = MultiKernelPooling(3), torch.randn(1, 3, 8, 7)
    found = block(x)
    for channel, window in enumerate((2, 3, 5, 6)):
        rows, columns = 8 // window, 7 // window
        pooled = torch.zeros(1, 1, rows, columns)
        for i in range(rows):
            for j in range(columns):
                patch = x[0, :, i * window : (i + 1) * window, j * window : (j + 1) * window].amax((1, 2))
                pooled[0, 0, i, j] = block.point.weight[0, :, 0, 0] @ patch + block.point.bias[0]
        expected = nn.functional.interpolate(pooled, (8, 7), mode="bilinear")
        torch.testing.assert_close(found[:, channel : channel + 1], expected)
    small = torch.randn(1, 3, 3, 4)
    expected = block.point(small.amax((2, 3), keepdim=True)).expand(1, 1, 3, 4)
    torch.testing.assert_close(block(small)[:, 3:4], expected)


def test_a_residual_block_adds_its_shortcut_before_the_last_relu():
    torch.manual_seed(0)
    plain, projecting, x = ResidualBlock(3, 3).eval(), ResidualBlock(3, 4, stride=2).eval(), torch.randn(1, 3, 7, 8)
    torch.testing.assert_close(plain(x), (plain.pair(x) + x).clamp_min(0))
    projected = nn.functional.conv2d(x, projecting.shortcut[0].weight, stride=2)
    projected = projected / (1 + projecting.shortcut[1].eps) ** 0.5
    torch.testing.assert_close(projecting(x), (projecting.pair(x) + projected).clamp_min(0))
    assert projecting(x).shape == (1, 4, 4, 4)


def test_the_skips_are_added_on_the_way_up():
    torch.manual_seed(0)
    model, x = CENet(width=8).eval(), torch.randn(1, 1, 96, 112)
    features = model.encode(x)
    one, two, three, four = model.decoder
    y = one(model.pooling(model.atrous(features[3])))[..., :6, :7] + features[2]
    expected = model.head(four(three(two(y) + features[1]) + features[0]))
    torch.testing.assert_close(model.decode(features), expected)


def test_channels_last_gives_the_same():
    torch.manual_seed(0)
    model, x = CENet(width=8).eval(), torch.randn(2, 1, 96, 112)
    expected = model(x)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), expected)
