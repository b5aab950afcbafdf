import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.baselines.resunet3d import ResidualBlock, ResidualUp, ResUNet3D, groups_of
from strokelib.nn.blocks import count_parameters
from strokelib.nn.precision import channels_last


def volume(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def norm_conv(x, layer):
    norm, convolution = layer
    x = x.unflatten(1, (norm.num_groups, -1))
    x = (x - x.mean((2, 3, 4, 5), keepdim=True)) / (x.var((2, 3, 4, 5), unbiased=False, keepdim=True) + norm.eps).sqrt()
    x = x.flatten(1, 2) * norm.weight[:, None, None, None] + norm.bias[:, None, None, None]
    return functional.conv3d(x, convolution.weight, padding=1)


@pytest.mark.parametrize(("out_channels", "exact"), [(1, 8_769_251), (5, 8_769_383)])
@pytest.mark.parametrize("residual", [True, False])
def test_the_size_of_the_public_code_has_its_number_of_parameters_with_and_without_shortcuts(
    out_channels, exact, residual
):
    with torch.device("meta"):
        assert count_parameters(ResUNet3D(1, out_channels, residual=residual)) == exact


@pytest.mark.parametrize("size", [(8, 8, 8), (40, 256, 256), (30, 56, 48), (9, 17, 31)])
def test_logits_have_the_size_of_the_volume_and_features_halve_it(size):
    with torch.device("meta"):
        model, x = ResUNet3D(2, 3, width=4), torch.empty(2, 2, *size)
        features = model.encode(x)
        assert model(x).shape == (2, 3, *size)
    for level, feature in enumerate(features):
        assert feature.shape == (2, 4 * 2**level, *(side // 2**level for side in size))


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (12, 2), (16, 4), (20, 4), (32, 8), (256, 8)]
)
def test_there_are_eight_groups_from_32_channels_on_and_one_for_an_image(channels, groups):
    assert groups_of(channels) == groups


@pytest.mark.parametrize("residual", [True, False])
def test_a_residual_block_is_the_same_when_written_out(residual):
    torch.manual_seed(0)
    block, x = ResidualBlock(3, 8, residual=residual), volume(2, 3, 4, 5, 6)
    for norm in (part for part in block.modules() if isinstance(part, nn.GroupNorm)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    entry = norm_conv(x, block.entry[0]).clamp_min(0)
    change = norm_conv(norm_conv(entry, block.middle[0]).clamp_min(0), block.last)
    expected = (change + (entry if residual else 0)).clamp_min(0)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_the_way_up_repeats_voxels_convolves_with_bias_and_adds_the_skip():
    torch.manual_seed(0)
    up, coarse, skip = ResidualUp(4, 2), volume(1, 4, 2, 3, 2), volume(1, 2, 4, 7, 5, seed=1)
    rows = [[0, 0, 1, 1], [0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1]]
    repeated = coarse[:, :, rows[0]][:, :, :, rows[1]][:, :, :, :, rows[2]]
    convolved = functional.conv3d(repeated, up.up.weight, up.up.bias, padding=1)
    torch.testing.assert_close(up(coarse, skip), up.block(convolved + skip))
    assert up.up.bias.abs().min() > 0


def test_without_shortcuts_the_same_weights_give_another_output():
    torch.manual_seed(0)
    whole, x = ResUNet3D(width=4, depth=3).eval(), volume(1, 1, 8, 8, 8)
    bare = ResUNet3D(width=4, depth=3, residual=False).eval()
    bare.load_state_dict(whole.state_dict())
    assert (whole(x) - bare(x)).abs().max() > 1e-2


def test_the_output_depends_on_each_skip_connection():
    torch.manual_seed(0)
    model = ResUNet3D(width=4, depth=4).eval()
    features = model.encode(volume(1, 1, 16, 16, 16))
    whole = model.decode(features)
    for level in range(len(features) - 1):
        without = [torch.zeros_like(f) if i == level else f for i, f in enumerate(features)]
        assert (model.decode(without) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(16, 16, 16), (8, 8, 8), (9, 11, 13)])
def test_a_gradient_reaches_every_parameter_down_to_the_smallest_volume(size):
    torch.manual_seed(0)
    model = ResUNet3D(width=4)
    model(volume(1, 1, *size)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    model, x = ResUNet3D(width=4, depth=2, dropout=0.5), volume(1, 1, 8, 8, 8)
    assert (model(x) - model(x)).abs().max() > 1e-2
    torch.testing.assert_close(model.eval()(x), model(x), rtol=0, atol=0)
    still = ResUNet3D(width=4, depth=2, dropout=0.0)
    torch.testing.assert_close(still(x), still(x), rtol=0, atol=0)


def test_dropout_sets_its_share_of_single_values_to_zero():
    torch.manual_seed(0)
    block = ResidualBlock(1, 4, dropout=0.5)
    x = volume(1, 1, 8, 8, 8)
    alive = block.eval()(x) > 0
    kept = (block.train()(x) > 0)[alive].float()
    assert 0.4 < kept.mean() < 0.6
    assert all(0.3 < kept_of_channel < 0.7 for kept_of_channel in map(torch.mean, kept.chunk(4)))


def test_brightness_and_contrast_of_the_volume_have_no_influence():
    torch.manual_seed(0)
    model, x = ResUNet3D(width=4, depth=3).eval(), volume(1, 1, 8, 12, 9)
    torch.testing.assert_close(model(3 * x + 2), model(x), rtol=1e-3, atol=1e-4)


def test_the_memory_layout_does_not_change_the_output():
    torch.manual_seed(0)
    model, x = ResUNet3D(2, 1, width=8, depth=3).eval(), volume(2, 2, 8, 12, 9)
    expected = model(x)
    found = channels_last(model)(channels_last(x))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 7, 8, 8), (1, 2, 8, 8, 8), (1, 8, 8, 8), (1, 1, 8, 8)])
def test_a_volume_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(
        ParameterError, match=r"input of the residual U-Net: .*\(B, 1, D, H, W\) with sides of at least 8"
    ):
        ResUNet3D(width=2)(torch.zeros(shape))


def test_it_overfits_one_case():
    torch.manual_seed(0)
    x, y = volume(1, 1, 8, 12, 12), torch.zeros(1, 1, 8, 12, 12)
    y[..., 2:6, 3:8, 4:10] = 1
    x = x + 2 * y
    model = ResUNet3D(width=8, depth=3, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(50):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    found = (model(x) > 0).float()
    assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.99
