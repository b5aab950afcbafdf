import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import finite_in_bfloat16, in_both_layouts, overfitted_dice, without_gradient

from strokelib.errors import ParameterError
from strokelib.nn.baselines.isp_net import RATES, AtrousBlock, ISPNet, Paths
from strokelib.nn.blocks import count_parameters
from strokelib.nn.unet import UNet


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(ISPNet(**settings))


class TestNetwork:
    @pytest.mark.parametrize(
        ("settings", "exact"), [({}, 41_526_402), ({"in_channels": 5}, 41_697_794), ({"atrous": False}, 31_036_546)]
    )
    def test_counts_with_and_without_the_atrous_block_stand_in_the_docstring(self, settings, exact):
        assert parameters(**settings) == exact
        assert f"{exact:,}" in ISPNet.__doc__

    def test_the_docstring_says_what_is_stated_and_what_is_assumed(self):
        assert "no public code" in ISPNet.__doc__
        assert ISPNet.__doc__.index("Stated there:") < ISPNet.__doc__.index("Assumed here:")

    @pytest.mark.parametrize("channels", [1, 5])
    @pytest.mark.parametrize("size", [(256, 256), (96, 112), (16, 16), (37, 53)])
    def test_logits_have_the_size_of_the_input(self, size, channels):
        with torch.device("meta"):
            assert ISPNet(channels, 2, width=8)(torch.empty(2, channels, *size)).shape == (2, 2, *size)

    @pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
    def test_an_input_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match=r"wanted \(B, 1, H, W\) with sides of at least 16"):
            ISPNet(width=8)(torch.zeros(shape))

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("atrous", [True, False])
    def test_a_gradient_reaches_every_parameter(self, channels, atrous):
        torch.manual_seed(0)
        model = ISPNet(channels, width=8, atrous=atrous)
        model(torch.randn(2, channels, 32, 48)).square().sum().backward()
        assert without_gradient(model) == []

    def test_without_the_atrous_block_it_is_the_u_net_number_for_number(self):
        outputs, x = [], torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
        for build in (lambda: ISPNet(width=8, atrous=False), lambda: UNet(1, 2, 8), lambda: ISPNet(width=8)):
            torch.manual_seed(0)
            outputs.append(build()(x))
        torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=0)
        assert (outputs[2] - outputs[1]).abs().max() > 1e-3

    def test_it_overfits_one_case(self):
        assert overfitted_dice(lambda: ISPNet(width=8), steps=30) > 0.98

    def test_the_layout_changes_nothing_and_bfloat16_gives_finite_gradients(self):
        torch.manual_seed(0)
        model, x = ISPNet(2, width=8).double().eval(), torch.randn(2, 2, 32, 48, dtype=torch.float64)
        torch.testing.assert_close(*in_both_layouts(model, x))
        assert finite_in_bfloat16(model.float().train(), x.float())


class TestPaths:
    def test_each_map_has_a_path_of_its_own_before_they_are_fused(self):
        torch.manual_seed(0)
        paths, x = Paths(3, 4).eval(), torch.randn(2, 3, 6, 5)
        changed = x.clone()
        changed[:, 1] += 1
        each = [path(x[:, c : c + 1]) for c, path in enumerate(paths.paths)]
        torch.testing.assert_close(paths(x), paths.fuse(torch.cat(each, dim=1)), rtol=0, atol=0)
        with torch.no_grad():
            paths.fuse[0].weight[:, 4:8] = 0
        torch.testing.assert_close(paths(changed), paths(x), rtol=0, atol=0)

    def test_one_channel_has_one_path_and_nothing_to_fuse(self):
        assert not any(isinstance(m, Paths) for m in ISPNet(1, width=8).modules())
        assert [len(m.paths) for m in ISPNet(5, width=8).modules() if isinstance(m, Paths)] == [5]


class TestAtrousBlock:
    def test_it_is_the_same_when_written_out(self):
        torch.manual_seed(0)
        block, x = AtrousBlock(8, rates=(1, 3)).eval(), torch.randn(1, 8, 5, 6)
        scale = (1 + 1e-5) ** -0.5
        parts = []
        for branch, rate in zip(block.branches, (1, 3), strict=True):
            weight, padded = branch[0].weight, functional.pad(x, [rate] * 4)
            y = torch.zeros(1, 2, 5, 6)
            for i in range(3):
                for j in range(3):
                    seen = padded[..., i * rate : i * rate + 5, j * rate : j * rate + 6]
                    y = y + torch.einsum("oc,bchw->bohw", weight[:, :, i, j], seen)
            parts.append((y * scale).clamp_min(0))
        joined = (functional.conv2d(torch.cat(parts, dim=1), block.join[0].weight) * scale).clamp_min(0)
        torch.testing.assert_close(block(x), x + joined)

    def test_it_sees_as_far_as_its_largest_rate(self):
        torch.manual_seed(0)
        block, x = AtrousBlock(8), torch.zeros(1, 8, 17, 17)
        block.eval()
        changed = x.clone()
        changed[..., 8, 8] = 1
        moved = (block(changed) - block(x)).abs().amax((0, 1)) > 0
        places = {abs(i - 8) for i in range(17) if moved[i].any()}
        assert places == {0, *RATES}

    @pytest.mark.parametrize("rates", [(), (0, 1)])
    def test_impossible_rates_are_refused_in_words(self, rates):
        with pytest.raises(ParameterError, match="rates of the atrous block"):
            AtrousBlock(8, rates)
