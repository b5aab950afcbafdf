import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import finite_in_bfloat16, in_both_layouts, overfitted_dice, without_gradient

from strokelib.errors import ParameterError
from strokelib.nn.baselines.clci_net import CLCINet, ContextUp, ConvLSTM, CrossLevelFusion, CrossLevelPyramid
from strokelib.nn.blocks import count_parameters

REMOVED = [{"fusion": False}, {"context": False}]


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(CLCINet(**settings))


class TestNetwork:
    def test_the_count_is_that_of_the_public_code_in_every_digit_known(self):
        assert f"{parameters(out_channels=1) / 1e6:.1f}" == "36.8"

    @pytest.mark.parametrize(
        ("settings", "exact"), [({}, 36_800_418), (REMOVED[0], 18_977_122), (REMOVED[1], 31_314_978)]
    )
    def test_counts_with_and_without_its_blocks_stand_in_the_docstring(self, settings, exact):
        assert parameters(**settings) == exact
        assert f"{exact:,}" in CLCINet.__doc__

    def test_the_counts_differ_by_the_blocks_that_are_left_out(self):
        widths = [32, 64, 128, 256]
        lstm = sum(2 * 9 * c * 4 * c + 4 * c for c in widths)
        wider = sum(9 * c * c for c in widths)
        assert parameters() - parameters(context=False) == lstm - wider

    @pytest.mark.parametrize("size", [(256, 256), (96, 112), (16, 16), (48, 32)])
    @pytest.mark.parametrize("removed", [{}, *REMOVED])
    def test_logits_have_the_size_of_the_input(self, size, removed):
        with torch.device("meta"):
            assert CLCINet(3, 2, width=8, **removed)(torch.empty(2, 3, *size)).shape == (2, 2, *size)

    @pytest.mark.parametrize("shape", [(1, 1, 24, 16), (1, 1, 16, 0), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
    def test_an_input_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match=r"input of the CLCI-Net.*wanted \(B, 1, H, W\).*multiples of 16"):
            CLCINet(width=8)(torch.zeros(shape))

    @pytest.mark.parametrize("removed", [{}, *REMOVED])
    def test_a_gradient_reaches_every_parameter(self, removed):
        torch.manual_seed(0)
        model = CLCINet(width=8, **removed)
        model(torch.randn(2, 1, 32, 48)).square().sum().backward()
        assert without_gradient(model) == []

    def test_without_the_lstm_the_same_weights_give_other_output(self):
        torch.manual_seed(0)
        whole, without, x = CLCINet(width=8).eval(), CLCINet(width=8, context=False).eval(), torch.randn(1, 1, 32, 32)
        weights = without.state_dict()
        same = {n: v for n, v in whole.state_dict().items() if n in weights and v.shape == weights[n].shape}
        without.load_state_dict(same, strict=False)
        assert (whole(x) - without(x)).abs().max() > 1e-3

    def test_each_finer_level_reaches_the_next_one_by_fusion_alone(self):
        torch.manual_seed(0)
        model, x = CLCINet(width=8).eval(), torch.randn(1, 1, 32, 32)
        before = model(x)
        with torch.no_grad():
            for fusion in model.down:
                fusion.mix[0].weight[:, : -fusion.shrink[-1][-2].num_features] = 0
            model.pyramid.join[0].weight[:, -4 * 64 :] = 0
        cut = model(x)
        assert (cut - before).abs().max() > 1e-3
        with torch.no_grad():
            for layer in [*(s for f in model.down for s in f.shrink), *model.pyramid.levels]:
                layer[-3].weight.normal_()
        torch.testing.assert_close(model(x), cut, rtol=0, atol=0)

    def test_dropout_is_for_training_alone(self):
        torch.manual_seed(0)
        model, x = CLCINet(width=8).eval(), torch.randn(1, 1, 16, 16)
        torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)
        model.dropout.train()
        assert (model(x) - model(x)).abs().max() > 0

    def test_it_overfits_one_case_that_is_a_batch_of_its_own(self):
        assert overfitted_dice(lambda: CLCINet(width=8), steps=60) > 0.98

    def test_the_layout_changes_nothing_and_bfloat16_gives_finite_gradients(self):
        torch.manual_seed(0)
        model, x = CLCINet(width=8).double().eval(), torch.randn(2, 1, 32, 48, dtype=torch.float64)
        torch.testing.assert_close(*in_both_layouts(model, x))
        assert finite_in_bfloat16(model.float().train(), x.float())


class TestFusion:
    def test_pixel_i_of_a_coarse_map_sees_finer_pixels_of_its_own_block(self):
        torch.manual_seed(0)
        block = CrossLevelFusion([2, 3, 4, 5]).eval()
        features = [torch.randn(1, 2, 16, 16), torch.randn(1, 3, 8, 8), torch.randn(1, 4, 4, 4)]
        before = block(features)
        assert before.shape == (1, 20, 2, 2)
        moved = [f.clone() for f in features]
        for finer in moved:
            finer[..., finer.shape[2] // 2 :, :] += 1
        assert torch.equal(block([moved[0], moved[1], features[2]])[..., 0, :], before[..., 0, :])
        for number in range(3):
            one = [m if i == number else f for i, (f, m) in enumerate(zip(features, moved, strict=True))]
            assert (block(one)[..., 1, :] - before[..., 1, :]).abs().max() > 1e-4

    def test_of_a_stride_of_four_it_is_the_same_when_written_out(self):
        torch.manual_seed(0)
        shrink = CrossLevelFusion([2, 3, 4]).eval().shrink[0]
        x = torch.randn(1, 2, 8, 12)
        found = shrink(x)
        assert found.shape == (1, 3, 2, 3)
        weight = shrink[0].weight
        for i in range(2):
            for j in range(3):
                seen = x[0, :, 4 * i : 4 * i + 3, 4 * j : 4 * j + 3]
                expected = (weight * seen).sum((1, 2, 3)).clamp_min(0) / (1 + 1e-5) ** 0.5
                torch.testing.assert_close(found[0, :, i, j], expected)

    @pytest.mark.parametrize(("fusion", "branches"), [(True, 9), (False, 5)])
    def test_the_pyramid_has_a_branch_more_for_each_finer_level(self, fusion, branches):
        torch.manual_seed(0)
        pyramid = CrossLevelPyramid([2, 4, 8, 16, 32], 3, fusion).eval()
        assert pyramid.join[0].in_channels == branches * 3
        features = [torch.randn(1, 2 * 2**k, 32 // 2**k, 48 // 2**k) for k in range(5)]
        before = pyramid(features)
        assert before.shape == (1, 12, 2, 3)
        changed = [features[0] + 1, *features[1:]]
        assert torch.equal(pyramid(changed), before) is not fusion

    def test_the_pyramid_has_the_published_dilations(self):
        convolutions = [m for m in CrossLevelPyramid([1, 2], 2).atrous.modules() if isinstance(m, nn.Conv2d)]
        assert [m.dilation for m in convolutions] == [(2, 2), (4, 4), (6, 6)]


class TestContext:
    def test_the_cell_is_its_equations_in_loops(self):
        torch.manual_seed(0)
        cell, steps = ConvLSTM(2).requires_grad_(False), [torch.randn(1, 2, 3, 4) for _ in range(3)]
        h = c = torch.zeros(1, 2, 3, 4)
        parts = [slice(2 * k, 2 * k + 2) for k in range(4)]
        for x in steps:
            i, f, g, o = (
                functional.conv2d(x, cell.of_input.weight[p], cell.of_input.bias[p], padding=1)
                + functional.conv2d(h, cell.of_state.weight[p], padding=1)
                for p in parts
            )
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        torch.testing.assert_close(cell(*steps), h)

    def test_it_starts_by_remembering(self):
        cell = ConvLSTM(3)
        assert cell.of_input.bias.tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
        rows = cell.of_state.weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(12), rtol=0, atol=1e-5)

    def test_the_order_of_the_two_steps_counts(self):
        torch.manual_seed(0)
        cell, a, b = ConvLSTM(2), torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
        assert (cell(a, b) - cell(b, a)).abs().max() > 1e-3

    def test_the_upsampled_map_comes_first_and_the_skip_connection_last(self):
        torch.manual_seed(0)
        up, coarse, skip = ContextUp(4, 2).eval(), torch.randn(1, 4, 3, 3), torch.randn(1, 2, 6, 6)
        expected = up.conv(up.lstm(up.up(coarse), up.skip(skip)))
        torch.testing.assert_close(up(coarse, skip), expected, rtol=0, atol=0)
