import math

import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.nn.blocks import count_parameters
from strokelib.nn.excitation import SqueezeExcitation


@pytest.mark.parametrize(("dims", "reduction"), [(2, 1), (2, 2), (3, 1)])
def test_it_is_the_formula_in_loops(dims, reduction):
    torch.manual_seed(0)
    block = SqueezeExcitation(4, reduction, dims).requires_grad_(False)
    x = torch.randn(2, 4, *[3, 5, 2][:dims])
    first, second = block.squeeze, block.excite
    expected = torch.empty_like(x)
    for n in range(2):
        means = [float(x[n, c].mean()) for c in range(4)]
        hidden = []
        for h in range(4 // reduction):
            hidden.append(max(0.0, float(first.bias[h]) + sum(float(first.weight[h, c]) * means[c] for c in range(4))))
        for c in range(4):
            z = float(second.bias[c]) + sum(float(second.weight[c, h]) * v for h, v in enumerate(hidden))
            expected[n, c] = x[n, c] / (1 + math.exp(-z))
    torch.testing.assert_close(block(x), expected)


def test_without_weights_every_channel_is_halved():
    block = SqueezeExcitation(3)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(block(x), x / 2)


@pytest.mark.parametrize(("reduction", "expected"), [(1, 2 * 64 * 64 + 128), (2, 2 * 64 * 32 + 96), (1000, 64 * 3 + 1)])
def test_its_parameters_are_two_matrices_and_their_biases(reduction, expected):
    assert count_parameters(SqueezeExcitation(64, reduction)) == expected


def test_scales_lie_between_0_and_1_and_differ_between_images():
    torch.manual_seed(0)
    scales = SqueezeExcitation(4).scales(torch.randn(2, 4, 8, 8) * 5)
    assert scales.shape == (2, 4)
    assert 0 < scales.min() < scales.max() < 1
    assert (scales[0] - scales[1]).abs().max() > 1e-3


def test_a_gradient_reaches_every_parameter():
    torch.manual_seed(0)
    block = SqueezeExcitation(4)
    block(torch.randn(8, 4, 5, 5) + 1).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_a_wrong_reduction_or_input_is_refused_in_words():
    with pytest.raises(ParameterError, match="reduction: found 0"):
        SqueezeExcitation(4, reduction=0)
    for shape in [(1, 3, 4, 4), (1, 4, 4), (1, 4, 2, 2, 2)]:
        with pytest.raises(ParameterError, match=r"squeeze and excitation.*wanted \(B, 4, H, W\)"):
            SqueezeExcitation(4)(torch.zeros(shape))
