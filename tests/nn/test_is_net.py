import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from network_checks import in_both_layouts, without_gradient

from strokelib.errors import ParameterError
from strokelib.nn.baselines.is_net import (
    DeformableConv,
    EdgeBranch,
    ISNet,
    ISOutput,
    ParallelDecoder,
    PyramidAggregation,
    edge_of,
    resized,
)
from strokelib.nn.blocks import count_parameters
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.precision import channels_last

REMOVED = [{"parallel": False}, {"edges": False}]


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(ISNet(**settings))


class TestNetwork:
    @pytest.mark.parametrize(
        ("settings", "exact"), [({}, 10_883_126), (REMOVED[0], 10_808_867), (REMOVED[1], 10_835_797)]
    )
    def test_counts_with_and_without_its_blocks_stand_in_the_docstring(self, settings, exact):
        assert parameters(**settings) == exact
        assert f"{exact:,}" in ISNet.__doc__

    def test_the_counts_differ_by_the_blocks_that_are_left_out(self):
        with torch.device("meta"):
            decoder, edges = count_parameters(ParallelDecoder(128)), count_parameters(EdgeBranch([64, 128], 32))
        assert parameters() - parameters(parallel=False) == decoder - (9 * 128 * 128 + 2 * 128)
        assert parameters() - parameters(edges=False) == edges + 32 * 128 + 9 * 32 * 64

    def test_the_docstring_says_what_is_stated_and_what_is_assumed(self):
        assert "no public code" in ISNet.__doc__
        assert ISNet.__doc__.index("Stated there:") < ISNet.__doc__.index("Assumed here:")

    @pytest.mark.parametrize("removed", [{}, *REMOVED])
    @pytest.mark.parametrize("size", [(256, 256), (96, 112), (16, 16)])
    def test_logits_have_the_size_of_the_input(self, size, removed):
        with torch.device("meta"):
            model, x = ISNet(3, 2, width=8, **removed), torch.empty(2, 3, *size)
            output = model(x)
            if "edges" in removed:
                assert output.shape == (2, 2, *size)
            else:
                assert output.logits.shape == (2, 2, *size)
                assert output.edges.shape == (2, 1, *size)
            assert model.eval()(x).shape == (2, 2, *size)

    def test_the_parallel_decoder_works_at_stride_8(self):
        sizes = []
        with torch.device("meta"):
            model = ISNet(width=8)
            model.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
            model(torch.empty(2, 1, 256, 96))
        assert sizes == [(32, 12)]

    @pytest.mark.parametrize("shape", [(1, 1, 24, 16), (1, 1, 16, 0), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
    def test_an_input_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match=r"input of the IS-Net.*wanted \(B, 1, H, W\).*multiples of 16"):
            ISNet(width=8)(torch.zeros(shape))

    def test_no_width_for_edges_is_refused_in_words(self):
        with pytest.raises(ParameterError, match="width of the IS-Net: found 1"):
            ISNet(width=1)

    @pytest.mark.parametrize("removed", [{}, *REMOVED])
    def test_a_gradient_reaches_every_parameter(self, removed):
        torch.manual_seed(0)
        model, y = ISNet(width=8, **removed), torch.zeros(2, 32, 48, dtype=torch.long)
        y[:, 8:20, 10:25] = 1
        output = model(torch.randn(2, 1, 32, 48))
        loss = dice_and_cross_entropy(output, y) if "edges" in removed else model.loss(output, y)
        loss.backward()
        assert without_gradient(model) == []

    def test_without_the_parallel_decoder_the_same_weights_give_other_output(self):
        torch.manual_seed(0)
        whole, without, x = ISNet(width=8), ISNet(width=8, parallel=False), torch.randn(2, 1, 32, 32)
        without.load_state_dict(
            {name: value for name, value in whole.state_dict().items() if not name.startswith("decoder")}, strict=False
        )
        assert (whole(x).logits - without(x).logits).abs().max() > 1e-3

    def test_edge_features_reach_the_aggregation_and_the_last_convolutions(self):
        torch.manual_seed(0)
        model, x = ISNet(width=8), torch.randn(2, 1, 32, 32)
        whole = model(x).logits
        for layer in (model.aggregation.join[0], model.finest[0]):
            kept = layer.weight.detach().clone()
            with torch.no_grad():
                layer.weight[:, -4:] = 0
                assert (model(x).logits - whole).abs().max() > 1e-4
                layer.weight.copy_(kept)

    def test_it_overfits_one_case_and_its_edge(self):
        torch.manual_seed(0)
        y = torch.zeros(1, 32, 32, dtype=torch.long)
        y[:, 8:20, 10:25] = 1
        x = torch.randn(1, 1, 32, 32) + 2 * y[:, None]
        model = ISNet(width=8)
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(40):
            optimizer.zero_grad()
            model.loss(model(x), y).backward()
            optimizer.step()
        output = model(x)
        for found, truth in ((output.logits.argmax(1), y), (output.edges[:, 0] > 0, edge_of(y))):
            assert 2 * (found * truth).sum() / (found.sum() + truth.sum()) > 0.95

    def test_the_layout_changes_nothing_and_bfloat16_gives_finite_gradients(self):
        torch.manual_seed(0)
        model, x = ISNet(width=8).eval(), torch.randn(2, 1, 32, 48)
        nn.init.normal_(model.decoder.deformed[0].moves.bias)
        torch.testing.assert_close(*in_both_layouts(model, x), rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            output = model.train()(channels_last(x))
        model.loss(output, torch.ones(2, 32, 48)).backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())


class TestLoss:
    def test_it_is_the_sum_of_its_parts_in_loops(self):
        torch.manual_seed(0)
        logits, edges, target = torch.randn(2, 2, 4, 5), torch.randn(2, 1, 4, 5), torch.zeros(2, 4, 5, dtype=torch.long)
        target[0, 1:3, 1:4] = 1
        truth = edge_of(target)
        entropy, both, either = 0.0, 0.0, 0.0
        for b in range(2):
            for i in range(4):
                for j in range(5):
                    p, t = torch.sigmoid(edges[b, 0, i, j]), float(truth[b, i, j])
                    entropy = entropy - torch.log(p if t else 1 - p) / 40
                    both, either = both + p * t, either + p + t
        edge = entropy + 1 - 2 * both / either
        for weight in (0.0, 1.0, 0.4):
            found = ISNet(width=8).loss(ISOutput(logits, edges), target, edge_weight=weight)
            torch.testing.assert_close(found, dice_and_cross_entropy(logits, target) + weight * edge)

    def test_a_perfect_prediction_costs_next_to_nothing_also_without_lesion(self):
        for lesion in (True, False):
            target = torch.zeros(1, 8, 8, dtype=torch.long)
            target[:, 2:5, 2:5] = int(lesion)
            logits = 40.0 * torch.stack([1 - 2 * target, 2 * target - 1], dim=1)
            edges = 80.0 * (edge_of(target).float() - 0.5)[:, None]
            assert ISNet(width=8).loss(ISOutput(logits, edges), target).item() == pytest.approx(0, abs=1e-5)

    def test_another_segmentation_loss_takes_the_place_of_the_default(self):
        output = ISOutput(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 4, 4))
        found = ISNet(width=8).loss(output, torch.zeros(1, 4, 4), lambda a, b: torch.tensor(7.0), edge_weight=0)
        assert found.item() == 7


class TestEdge:
    def test_it_is_the_pixels_with_both_kinds_about_them(self):
        torch.manual_seed(0)
        target = (torch.rand(2, 7, 9) > 0.8).long() * 2
        found = edge_of(target)
        for b in range(2):
            for i in range(7):
                for j in range(9):
                    about = target[b, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2] > 0
                    assert found[b, i, j] == (about.any() and not about.all())

    def test_of_a_square_it_is_a_ring_of_two_pixels_and_a_full_field_has_none(self):
        target = torch.zeros(1, 9, 9)
        target[:, 2:7, 2:7] = 1
        assert edge_of(target).sum() == 49 - 9
        assert not edge_of(torch.ones(1, 5, 5)).any()
        assert not edge_of(torch.zeros(1, 5, 5)).any()


class TestDeformable:
    def test_it_starts_as_a_plain_convolution(self):
        torch.manual_seed(0)
        layer, x = DeformableConv(3, 2), torch.randn(2, 3, 5, 7)
        weight = layer.mix.weight.view(2, 3, 3, 3)
        torch.testing.assert_close(layer(x), functional.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-4)

    def test_it_is_the_formula_in_loops(self):
        torch.manual_seed(0)
        layer, x = DeformableConv(2, 3).requires_grad_(False), torch.randn(1, 2, 4, 5)
        layer.moves.weight.normal_(0, 0.3)
        layer.moves.bias.normal_()
        moves = layer.moves(x)[0]
        found = layer(x)[0]
        weight = layer.mix.weight.view(3, 2, 9)
        for i in range(4):
            for j in range(5):
                total = torch.zeros(3)
                for k in range(9):
                    right, down = moves[2 * k, i, j], moves[2 * k + 1, i, j]
                    total += weight[..., k] @ _at(x[0], i + k // 3 - 1 + down, j + k % 3 - 1 + right)
                torch.testing.assert_close(found[:, i, j], total, rtol=1e-4, atol=1e-4)

    def test_a_move_of_one_pixel_shifts_what_is_seen(self):
        torch.manual_seed(0)
        layer, x = DeformableConv(2, 2).requires_grad_(False), torch.randn(1, 2, 6, 8)
        plain = layer(x)
        layer.moves.bias[::2] = 1
        torch.testing.assert_close(layer(x)[..., :-1], plain[..., 1:], rtol=1e-4, atol=1e-4)

    def test_the_moves_learn_from_the_first_step(self):
        torch.manual_seed(0)
        layer = DeformableConv(2, 2)
        layer(torch.randn(1, 2, 6, 8)).square().sum().backward()
        assert layer.moves.weight.grad.abs().sum() > 0
        assert layer.moves.bias.grad.abs().min() > 0


def _at(x, row, column):
    """Bilinear value of (C, H, W) at a place, 0 beyond the border."""
    top, left = int(torch.floor(row)), int(torch.floor(column))
    value = torch.zeros(x.shape[0])
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < x.shape[1] and 0 <= j < x.shape[2]:
                value += (1 - abs(row - i)) * (1 - abs(column - j)) * x[:, i, j]
    return value


class TestParts:
    def test_the_decoder_joins_both_parts(self):
        torch.manual_seed(0)
        decoder, x = ParallelDecoder(8).eval(), torch.randn(2, 8, 4, 6)
        both = torch.cat([decoder.deformed(x), x + decoder.attention(x, x)], dim=1)
        torch.testing.assert_close(decoder(x), decoder.join(both), rtol=0, atol=0)

    def test_by_its_attention_a_place_sees_its_mirror_place(self):
        torch.manual_seed(0)
        decoder, x = ParallelDecoder(8).eval(), torch.randn(1, 8, 6, 24)
        changed = x.clone()
        changed[..., 3, 0] += 3
        moved = (decoder(changed) - decoder(x)).abs().amax((0, 1))
        assert moved[3, -1] > 1e-6
        nn.init.zeros_(decoder.attention.weight)
        moved = (decoder(changed) - decoder(x)).abs().amax((0, 1))
        assert moved[3, -1] == 0

    def test_the_aggregation_is_the_same_when_written_out(self):
        torch.manual_seed(0)
        module = PyramidAggregation([2, 3, 4], 5, 2).eval()
        f = [torch.randn(1, 2 + k, 16 // 2**k, 8 // 2**k) for k in range(3)]
        edge, size = torch.randn(1, 2, 32, 16), torch.Size((8, 4))
        p = [module.lateral[2](f[2])]
        for smooth, k in ((module.smooth[0], 1), (module.smooth[1], 0)):
            up = functional.interpolate(p[-1], scale_factor=2, mode="bilinear")
            p.append(smooth(module.lateral[k](f[k]) + up))
        parts = [
            functional.interpolate(p[0], scale_factor=2, mode="bilinear"),
            p[1],
            functional.avg_pool2d(p[2], 2),
            functional.avg_pool2d(edge, 4),
        ]
        torch.testing.assert_close(module(f, [edge], size), module.join(torch.cat(parts, dim=1)))

    def test_resizing_to_its_own_size_changes_nothing(self):
        x = torch.randn(1, 2, 4, 6)
        assert resized(x, torch.Size((4, 6))) is x
        assert resized(x, torch.Size((2, 3)))[0, 0, 0, 0] == pytest.approx(x[0, 0, :2, :2].mean().item(), abs=1e-6)
