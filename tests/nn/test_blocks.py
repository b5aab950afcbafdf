import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib.nn.blocks import conv_norm_relu


@pytest.mark.parametrize("settings", [{}, {"side": 1}, {"rate": 2}, {"side": 5, "bias": True}])
def test_a_convolution_with_normalisation_keeps_the_size_and_is_the_same_when_written_out(settings):
    torch.manual_seed(0)
    layers, x = conv_norm_relu(2, 3, **settings).eval(), torch.randn(1, 2, 7, 8)
    convolution, rate = layers[0], settings.get("rate", 1)
    assert (convolution.bias is not None) == settings.get("bias", False)
    reach = rate * (settings.get("side", 3) // 2)
    padded = functional.pad(x, [reach] * 4)
    expected = functional.conv2d(padded, convolution.weight, convolution.bias, dilation=rate) / (1 + 1e-5) ** 0.5
    assert expected.shape == (1, 3, 7, 8)
    torch.testing.assert_close(layers(x), expected.clamp_min(0))


def test_in_three_dimensions_with_another_normalisation():
    layers = conv_norm_relu(2, 4, dims=3, norm=lambda channels: nn.GroupNorm(2, channels))
    assert [type(layer) for layer in layers] == [nn.Conv3d, nn.GroupNorm, nn.ReLU]
    assert layers(torch.randn(1, 2, 3, 4, 5)).shape == (1, 4, 3, 4, 5)
