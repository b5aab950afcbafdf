import pytest
import torch
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.baselines.unet3d import UNet3D
from strokelib.nn.blocks import count_parameters


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(UNet3D(**settings))


@pytest.mark.parametrize(("width", "exact", "printed"), [(64, 16_318_691, "16.32"), (32, 4_081_267, "4.08")])
def test_both_widths_have_the_count_of_the_public_implementation(width, exact, printed):
    assert parameters(width=width) == exact
    assert f"{exact / 1e6:.2f}" == printed
    assert f"{exact:,}" in UNet3D.__doc__


def test_with_transposed_convolutions_it_would_have_the_count_of_the_source():
    transposed = sum(2**3 * channels**2 for channels in (512, 256, 128))
    assert f"{(parameters() + transposed) / 1e6:.2f}" == "19.07"


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 15, 23), (30, 56, 48), (40, 256, 256)])
@pytest.mark.parametrize("skips", [True, False])
def test_logits_have_the_size_of_the_input(size, skips):
    with torch.device("meta"):
        assert UNet3D(2, 3, width=8, skips=skips)(torch.empty(2, 2, *size)).shape == (2, 3, *size)


@pytest.mark.parametrize("shape", [(1, 1, 7, 8, 8), (1, 1, 8, 8, 7), (1, 2, 8, 8, 8), (1, 1, 8, 8), (1, 8, 8, 8)])
def test_an_input_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(ParameterError, match=r"input of the 3-D U-Net.*sides of at least 8"):
        UNet3D(width=2)(torch.zeros(shape))


@pytest.mark.parametrize("width", [1, 2, 3, 6, 8, 16])
def test_any_width_takes_the_smallest_volume(width):
    logits = UNet3D(width=width, depth=3)(torch.randn(1, 1, 4, 4, 4))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("skips", [True, False])
def test_a_gradient_reaches_every_parameter(skips):
    torch.manual_seed(0)
    model = UNet3D(width=4, depth=3, skips=skips)
    model(torch.randn(2, 1, 8, 9, 11)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_two_levels_are_the_same_when_written_out():
    torch.manual_seed(0)
    model, x = UNet3D(width=4, depth=2), torch.randn(1, 1, 5, 6, 7)

    def pair(block, y):
        for place in (0, 3):
            norm = block[place]
            y = functional.group_norm(y, norm.num_groups, norm.weight, norm.bias)
            y = functional.conv3d(y, block[place + 1].weight, padding=1).clamp_min(0)
        return y

    fine = pair(model.encoder[0], x)
    coarse = pair(model.encoder[1], functional.max_pool3d(fine, 2))
    assert coarse.shape == (1, 8, 2, 3, 3)
    up = torch.zeros(1, 8, 5, 6, 7)
    for i in range(4):
        for j in range(6):
            for k in range(6):
                up[..., i, j, k] = coarse[..., i // 2, j // 2, k // 2]
    y = pair(model.decoder[0], torch.cat([fine, up], 1))
    expected = torch.einsum("oc,bcdhw->bodhw", model.head.weight[..., 0, 0, 0], y) + model.head.bias
    torch.testing.assert_close(model(x), expected)


def test_groups_are_eight_at_the_published_width_and_one_for_the_image():
    with torch.device("meta"):
        groups = [m.num_groups for m in UNet3D(width=32).modules() if isinstance(m, torch.nn.GroupNorm)]
    assert groups == [1] + [8] * 13


def test_without_skips_count_and_output_are_as_the_docstring_says():
    assert parameters(skips=False) == 13_995_363
    assert "13,995,363" in UNet3D.__doc__
    torch.manual_seed(0)
    whole, without = UNet3D(width=4, depth=2), UNet3D(width=4, depth=2, skips=False)
    without.encoder.load_state_dict(whole.encoder.state_dict())
    seen = {}
    without.decoder[0].register_forward_pre_hook(lambda _, inputs: seen.update(shape=inputs[0].shape))
    x = torch.randn(1, 1, 8, 8, 8)
    assert (whole(x) - without(x)).abs().max() > 1e-3
    assert seen["shape"] == (1, 8, 8, 8, 8)


def test_channels_last_changes_nothing():
    torch.manual_seed(0)
    model, x = UNet3D(width=4, depth=3), torch.randn(1, 1, 6, 8, 9)
    expected = model(x)
    last = torch.channels_last_3d
    torch.testing.assert_close(model.to(memory_format=last)(x.to(memory_format=last)), expected, atol=1e-5, rtol=1e-4)


def test_it_overfits_one_case():
    torch.manual_seed(0)
    y = torch.zeros(1, 1, 6, 12, 12)
    y[..., 2:4, 3:8, 2:7] = 1
    x = torch.randn(1, 1, 6, 12, 12) + y
    model = UNet3D(width=8, depth=2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        functional.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    found = (model(x) > 0).float()
    assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.98
