import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import overfitted_dice, without_gradient

from strokelib import manifest
from strokelib.errors import ParameterError
from strokelib.nn.baselines.fcn import FCN
from strokelib.nn.baselines.r2unet import R2UNet, RecurrentConv, RecurrentResidualConv
from strokelib.nn.baselines.resunet import ResidualConv, ResUNet
from strokelib.nn.blocks import DoubleConv, count_parameters, pad_to
from strokelib.nn.unet import UNet

NETWORKS = [FCN, R2UNet, ResUNet]
NAMES = {"FCN": FCN, "UNet": UNet, "R2UNet": R2UNet, "ResUNet": ResUNet}


def parameters(network, **settings):
    with torch.device("meta"):
        return count_parameters(network(4, 2, **settings))


def published(name):
    table = manifest.published("pseudo_dwi", 3)
    row = table[(table["method"] == name) & (table["metric"] == "Parameters")]
    return row["published_cell"].item()


@pytest.mark.parametrize(
    ("network", "exact"), [(FCN, 18_644_322), (UNet, 31_038_274), (R2UNet, 39_091_522), (ResUNet, 32_437_058)]
)
def test_the_published_sizes_have_exactly_so_many_parameters(network, exact):
    assert parameters(network) == exact


@pytest.mark.parametrize("name", ["FCN", "UNet", "R2UNet"])
def test_three_counts_are_those_of_table_3_in_every_printed_digit(name):
    assert f"{parameters(NAMES[name]) / 1e6:.2f}" == published(name)


def test_the_printed_count_of_the_residual_u_net_is_not_ours_and_its_docstring_says_so():
    assert published("ResUNet") == "81.91"
    assert f"{parameters(ResUNet):,}" in ResUNet.__doc__
    assert "81.91 M" in ResUNet.__doc__


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("size", [(16, 16), (37, 53), (48, 40), (96, 112)])
def test_logits_have_the_size_of_the_input(network, size):
    with torch.device("meta"):
        assert network(4, 3, width=4)(torch.empty(2, 4, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
def test_an_input_that_does_not_fit_is_refused_in_words(network, shape):
    with pytest.raises(ParameterError, match=r"input of the .*wanted \(B, 1, H, W\) with sides of at least 16"):
        network(1, 2, width=2)(torch.zeros(shape))


@pytest.mark.parametrize("network", NETWORKS)
def test_a_gradient_reaches_every_parameter(network):
    torch.manual_seed(0)
    model = network(1, 2, width=4)
    model(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize(("network", "width"), [(FCN, 12), (R2UNet, 4), (ResUNet, 4)])
def test_it_overfits_one_case(network, width):
    assert overfitted_dice(lambda: network(1, 2, width=width), steps=60) > 0.98


@pytest.mark.parametrize(
    ("network", "removed", "exact"),
    [
        (FCN, {"fusion": False}, 18_644_322),
        (R2UNet, {"steps": 0}, 39_091_522),
        (ResUNet, {"residual": False}, 31_038_274),
    ],
)
def test_without_its_own_block_count_and_output_are_as_the_docstring_says(network, removed, exact):
    assert parameters(network, **removed) == exact
    torch.manual_seed(0)
    whole, x = network(1, 2, width=4).eval(), torch.randn(2, 1, 32, 32)
    without = network(1, 2, width=4, **removed).eval()
    weights = {name: value for name, value in whole.state_dict().items() if name in without.state_dict()}
    without.load_state_dict(weights, strict=network is not ResUNet)
    assert (without(x) - whole(x)).abs().max() > 1e-3


def test_the_fcn_pads_at_the_end_and_cuts_back():
    torch.manual_seed(0)
    model, x = FCN(1, 2, width=4).eval(), torch.randn(1, 1, 37, 70)
    torch.testing.assert_close(model(x), model(pad_to(x, (64, 96)))[..., :37, :70], rtol=0, atol=0)


def test_the_fcn_adds_the_fourth_and_the_third_stage_on_the_way_up():
    torch.manual_seed(0)
    model, x = FCN(1, 2, width=4).eval(), torch.randn(1, 1, 64, 32)
    third = model.encoder[2](model.encoder[1](model.encoder[0](x)))
    fourth = model.encoder[3](third)
    fifth = model.encoder[4](fourth)
    up = model.decoder
    expected = model.head(up[4](up[3](up[2](up[1](up[0](fifth) + fourth) + third))))
    torch.testing.assert_close(model(x), expected)
    alone = FCN(1, 2, width=4, fusion=False).eval()
    alone.load_state_dict(model.state_dict())
    torch.testing.assert_close(alone(x), model.head(up[4](up[3](up[2](up[1](up[0](fifth)))))))


def test_the_fcn_has_the_thirteen_convolutions_of_vgg16():
    convolutions = [m for m in FCN(3, 2, width=8).encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [8, 8, 16, 16, *[32] * 3, *[64] * 6]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_recurrent_convolution_is_the_same_when_written_out(steps):
    torch.manual_seed(0)
    block, x = RecurrentConv(3, steps).eval(), torch.randn(1, 3, 8, 8)
    convolution, norm, _ = block.f

    def f(x):
        y = nn.functional.conv2d(x, convolution.weight, convolution.bias, padding=1)
        return (y / (1 + norm.eps) ** 0.5).clamp_min(0)

    y = f(x)
    for _ in range(steps):
        y = f(x + y)
    torch.testing.assert_close(block(x), y)


def test_a_recurrent_residual_block_adds_to_its_projection():
    torch.manual_seed(0)
    block, x = RecurrentResidualConv(2, 3, steps=1).eval(), torch.randn(1, 2, 8, 8)
    p = block.projection(x)
    first, second = block.recurrent
    torch.testing.assert_close(block(x), p + second(first(p)))


def test_the_number_of_steps_changes_the_output_but_not_the_parameters():
    counts, outputs = set(), []
    for steps in (0, 1, 2):
        torch.manual_seed(0)
        model = R2UNet(1, 2, width=4, depth=3, steps=steps).eval()
        counts.add(count_parameters(model))
        outputs.append(model(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))))
    assert len(counts) == 1
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
    assert (outputs[1] - outputs[2]).abs().max() > 1e-3


def test_a_negative_number_of_steps_is_refused_in_words():
    with pytest.raises(ParameterError, match="steps of the R2U-Net: found -1"):
        R2UNet(1, 2, width=2, steps=-1)


def test_a_residual_block_adds_its_shortcut_before_the_last_relu():
    torch.manual_seed(0)
    pair = DoubleConv(2, 3)
    block, x = ResidualConv(pair, 2, 3).eval(), torch.randn(1, 2, 8, 8)
    projected = nn.functional.conv2d(x, block.shortcut[0].weight) / (1 + block.shortcut[1].eps) ** 0.5
    before = pair.eval()[4](pair[3](pair[2](pair[1](pair[0](x)))))
    torch.testing.assert_close(block(x), (before + projected).clamp_min(0))


def test_without_shortcuts_the_residual_u_net_is_the_u_net_number_for_number():
    x = torch.randn(1, 1, 32, 32)
    outputs = []
    for build in (lambda: ResUNet(1, 2, width=4, residual=False), lambda: UNet(1, 2, width=4)):
        torch.manual_seed(0)
        outputs.append(build().eval()(x))
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
