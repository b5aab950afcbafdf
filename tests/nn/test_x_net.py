import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import finite_in_bfloat16, in_both_layouts, overfitted_dice, without_gradient

from strokelib.errors import ParameterError
from strokelib.nn.baselines.x_net import FeatureSimilarity, XBlock, XNet
from strokelib.nn.blocks import count_parameters


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(XNet(**settings))


class TestNetwork:
    def test_with_one_channel_out_the_count_is_that_of_the_public_code(self):
        assert parameters(out_channels=1) == 15_072_332
        assert f"{parameters(out_channels=1) / 1e6:.2f}" == "15.07"

    def test_counts_with_and_without_the_similarity_stand_in_the_docstring(self):
        with torch.device("meta"):
            module = count_parameters(FeatureSimilarity(1024))
        assert parameters() == 15_072_397
        assert parameters(similarity=False) == parameters() - module == 12_676_877
        for number in (15_072_332, parameters(), parameters(similarity=False), module):
            assert f"{number:,}" in XNet.__doc__

    @pytest.mark.parametrize("size", [(256, 256), (96, 112), (16, 16), (37, 53)])
    def test_logits_have_the_size_of_the_input(self, size):
        with torch.device("meta"):
            assert XNet(3, 2, width=8)(torch.empty(2, 3, *size)).shape == (2, 2, *size)
            assert [f.shape[1] for f in XNet(3, 2, width=8).encode(torch.empty(2, 3, *size))] == [8, 16, 32, 64, 128]

    @pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
    def test_an_input_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match=r"wanted \(B, 1, H, W\) with sides of at least 16"):
            XNet(width=8)(torch.zeros(shape))

    @pytest.mark.parametrize("similarity", [True, False])
    def test_a_gradient_reaches_every_parameter(self, similarity):
        torch.manual_seed(0)
        model = XNet(width=8, similarity=similarity).eval()
        model(torch.randn(2, 1, 32, 48)).square().sum().backward()
        assert without_gradient(model) == []

    def test_without_the_similarity_the_same_weights_give_other_output(self):
        torch.manual_seed(0)
        whole, without, x = XNet(width=8).eval(), XNet(width=8, similarity=False).eval(), torch.randn(1, 1, 32, 32)
        weights = {name.replace("encoder.4.0.", "encoder.4."): value for name, value in whole.state_dict().items()}
        without.load_state_dict({name: weights[name] for name in without.state_dict()})
        assert (whole(x) - without(x)).abs().max() > 1e-3
        features = without.encode(x)
        features[-1] = whole.encoder[-1][1](features[-1])
        torch.testing.assert_close(without.decode(features), whole(x))

    def test_it_overfits_one_case(self):
        assert overfitted_dice(lambda: XNet(width=8), steps=30) > 0.98

    def test_the_layout_changes_nothing_and_bfloat16_gives_finite_gradients(self):
        torch.manual_seed(0)
        model, x = XNet(width=8).double().eval(), torch.randn(2, 1, 32, 48, dtype=torch.float64)
        torch.testing.assert_close(*in_both_layouts(model, x))
        assert finite_in_bfloat16(model.float().train(), x.float())


class TestBlock:
    def test_it_is_the_same_when_written_out(self):
        torch.manual_seed(0)
        block, x = XBlock(2, 3).eval(), torch.randn(1, 2, 6, 5)
        scale = (1 + 1e-5) ** -0.5
        y = x
        for part in block.separable:
            depthwise, pointwise = part[0], part[3]
            each = [
                functional.conv2d(y[:, c : c + 1], depthwise.weight[c : c + 1], padding=1) for c in range(y.shape[1])
            ]
            y = (torch.cat(each, dim=1) * scale).clamp_min(0)
            y = (functional.conv2d(y, pointwise.weight, pointwise.bias) * scale).clamp_min(0)
        projection = block.projection[0]
        y = y + (functional.conv2d(x, projection.weight, projection.bias) * scale).clamp_min(0)
        torch.testing.assert_close(block(x), y)

    def test_its_filters_are_separable(self):
        convolutions = [m for m in XBlock(4, 8).separable.modules() if isinstance(m, nn.Conv2d)]
        assert [(m.kernel_size[0], m.groups, m.out_channels) for m in convolutions] == [
            (3, 4, 4),
            (1, 1, 8),
            (3, 8, 8),
            (1, 1, 8),
            (3, 8, 8),
            (1, 1, 8),
        ]


class TestSimilarity:
    def test_it_is_the_formula_in_loops(self):
        torch.manual_seed(0)
        module, x = FeatureSimilarity(16).eval().requires_grad_(False), torch.randn(2, 16, 3, 4)
        c = module.narrow(x)
        assert c.shape == (2, 2, 3, 4)
        theta, phi, g = (layer.weight[:, :, 0, 0] for layer in (module.theta, module.phi, module.g))
        y = torch.zeros(2, 1, 3, 4)
        for b in range(2):
            places = [c[b, :, i, j] for i in range(3) for j in range(4)]
            for n, here in enumerate(places):
                found = sum(((theta @ here) @ (phi @ there)) * (g @ there) for there in places) / 12
                y[b, :, n // 4, n % 4] = found
        expected = x + module.widen(c + functional.conv2d(y, module.back.weight))
        torch.testing.assert_close(module(x), expected)

    def test_a_change_at_one_corner_reaches_the_other(self):
        torch.manual_seed(0)
        module, x = FeatureSimilarity(16).eval(), torch.randn(1, 16, 12, 12)
        changed = x.clone()
        changed[..., 0, 0] += 3
        assert (module(changed) - module(x))[..., -1, -1].abs().max() > 1e-6

    @pytest.mark.parametrize("channels", [1, 8])
    def test_few_channels_are_enough(self, channels):
        assert FeatureSimilarity(channels).eval()(torch.zeros(1, channels, 4, 4)).shape == (1, channels, 4, 4)
