import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.alignment import invert_rigid, mirror, warp_2d
from strokelib.nn.baselines.sean import SEAN, CrossAttention, SymmetryAttention
from strokelib.nn.baselines.sean_alignment import SliceAlignment, slice_alignment_loss, slice_matrix
from strokelib.nn.blocks import count_parameters
from strokelib.nn.unet import UNet


def parameters(**settings):
    with torch.device("meta"):
        return count_parameters(SEAN(**settings))


class TestNetwork:
    def test_counts_are_those_of_the_u_net_and_its_attentions_and_stand_in_the_docstring(self):
        with torch.device("meta"):
            base = count_parameters(UNet(1, 2, 32, 6))
        attentions = sum(2 * c * (c // 8) + c * c + 1 for c in (512, 1024))
        assert parameters() == base + 2 * attentions == 34_376_774
        assert parameters(symmetric=False) == base + attentions == 32_738_372
        assert "34,376,774" in SEAN.__doc__
        assert "32,738,372" in SEAN.__doc__

    @pytest.mark.parametrize(("depth", "size"), [(4, (8, 8)), (4, (56, 48)), (4, (37, 53)), (6, (32, 32)), (1, (3, 5))])
    def test_logits_have_the_size_of_the_input(self, depth, size):
        with torch.device("meta"):
            assert SEAN(3, 2, width=8, depth=depth)(torch.empty(2, 3, *size)).shape == (2, 2, *size)

    def test_at_the_published_size_attention_runs_at_strides_of_sixteen_and_more(self):
        sizes = []
        with torch.device("meta"):
            model = SEAN()
            for module in model.modules():
                if isinstance(module, CrossAttention):
                    module.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:])))
            model(torch.empty(1, 1, 256, 256))
        assert sizes == [(16, 8), (16, 8), (8, 4), (8, 4)]

    @pytest.mark.parametrize("shape", [(1, 1, 7, 8), (1, 2, 8, 8), (1, 1, 8, 8, 8), (1, 8, 8)])
    def test_an_input_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match="sides of at least 8"):
            SEAN(width=4, depth=4)(torch.zeros(shape))

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_a_gradient_reaches_every_parameter(self, symmetric):
        torch.manual_seed(0)
        model = SEAN(width=4, depth=4, symmetric=symmetric)
        model(torch.randn(2, 1, 24, 26)).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_without_the_weights_of_its_attentions_it_is_the_u_net(self):
        torch.manual_seed(0)
        model, plain, x = SEAN(width=4, depth=3), UNet(1, 2, 4, 3), torch.randn(1, 1, 12, 14)
        for (_, kept), (_, wanted) in zip(
            ((n, p) for n, p in model.state_dict().items() if ".1.context" not in n and ".1.symmetry" not in n),
            plain.state_dict().items(),
            strict=True,
        ):
            wanted.copy_(kept)
        assert (model(x) - plain(x)).abs().max() > 1e-3
        for module in model.modules():
            if isinstance(module, CrossAttention):
                nn.init.zeros_(module.weight)
        torch.testing.assert_close(model(x), plain(x), rtol=0, atol=0)

    def test_it_overfits_one_case(self):
        torch.manual_seed(0)
        y = torch.zeros(1, 24, 24, dtype=torch.long)
        y[:, 6:15, 3:10] = 1
        x = torch.randn(1, 1, 24, 24) + y[:, None]
        model = SEAN(width=6, depth=3)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        found = model(x).argmax(1)
        assert 2 * (found * y).sum() / (found.sum() + y.sum()) > 0.98


class TestAttention:
    def test_it_is_the_same_when_written_out(self):
        torch.manual_seed(0)
        layer, x, other = CrossAttention(16), torch.randn(1, 16, 2, 3), torch.randn(1, 16, 3, 2)
        matrices = [m.weight[..., 0, 0] for m in (layer.query, layer.key, layer.value)]
        found = layer(x, other)
        for i, j in itertools.product(range(2), range(3)):
            query = matrices[0] @ x[0, :, i, j]
            places = list(itertools.product(range(3), range(2)))
            scores = torch.stack([query @ (matrices[1] @ other[0, :, a, b]) / math.sqrt(2) for a, b in places])
            values = torch.stack([matrices[2] @ other[0, :, a, b] for a, b in places])
            torch.testing.assert_close(found[0, :, i, j], 0.1 * (scores.softmax(0)[:, None] * values).sum(0))

    @pytest.mark.parametrize("columns", [1, 2, 5, 6])
    def test_of_a_mirrored_map_it_is_the_mirror_image(self, columns):
        torch.manual_seed(0)
        layer, x = SymmetryAttention(8), torch.randn(2, 8, 3, columns)
        torch.testing.assert_close(layer(mirror(x)), mirror(layer(x)))

    @pytest.mark.parametrize("columns", [4, 5])
    def test_with_weights_of_zero_it_changes_nothing(self, columns):
        layer, x = SymmetryAttention(4), torch.randn(1, 4, 3, columns)
        nn.init.zeros_(layer.context.weight)
        nn.init.zeros_(layer.symmetry.weight)
        torch.testing.assert_close(layer(x), x, rtol=0, atol=0)

    def test_a_position_sees_both_halves_and_without_symmetry_its_own_alone(self):
        torch.manual_seed(0)
        both, own, x = SymmetryAttention(8), SymmetryAttention(8, symmetric=False), torch.randn(1, 8, 4, 6)
        changed = x.clone()
        changed[..., 3:] = torch.randn(1, 8, 4, 3)
        assert torch.equal(own(changed)[..., :3], own(x)[..., :3])
        assert (both(changed)[..., :3] - both(x)[..., :3]).abs().amin((0, 1)).min() > 0
        changed = x.clone()
        changed[..., 0, 0] += 1
        moved = (own(changed) - own(x)).abs().amax((0, 1)) > 0
        assert moved[:, :3].all()
        assert not moved[:, 3:].any()

    def test_each_part_asks_with_weights_of_its_own(self):
        torch.manual_seed(0)
        layer, x = SymmetryAttention(8), torch.randn(1, 8, 4, 6)
        left, right = x[..., :3], mirror(x)[..., :3]
        expected = left + layer.context(left, left) + layer.symmetry(left, right)
        torch.testing.assert_close(layer(x)[..., :3], expected)
        expected = right + layer.context(right, right) + layer.symmetry(right, left)
        torch.testing.assert_close(mirror(layer(x))[..., :3], expected)


def head(angle=0.0, shift=0.0, size=(44, 40)):
    """A symmetric head, turned by ``angle`` (radians, from x to y) about the field's centre and moved by ``shift``."""
    y, x = torch.meshgrid(*(torch.arange(float(n)) - (n - 1) / 2 for n in size), indexing="ij")
    x = x - shift
    u, v = math.cos(angle) * x + math.sin(angle) * y, -math.sin(angle) * x + math.cos(angle) * y
    inside = torch.sigmoid(2 * (14 - torch.sqrt((u * 1.3) ** 2 + v**2)))
    blobs = torch.exp(-((u.abs() - 5) ** 2 + (v + 4) ** 2) / 6)
    return (inside * (0.5 - 0.3 * blobs))[None, None]


class TestAlignment:
    def test_the_matrix_moves_points_as_the_formula_says(self):
        pose = torch.tensor([[0.3, 2.5], [-0.7, -4.0]], dtype=torch.float64)
        matrix = slice_matrix(pose, (11, 8))
        for b, (angle, shift) in enumerate(pose.tolist()):
            for x, y in ((0.0, 0.0), (3.5, 5.0), (7.0, 2.0)):
                u, v = x - 3.5, y - 5
                expected = [
                    math.cos(angle) * u - math.sin(angle) * v + 3.5 + shift,
                    math.sin(angle) * u + math.cos(angle) * v + 5,
                    1.0,
                ]
                assert (matrix[b] @ torch.tensor([x, y, 1.0], dtype=torch.float64)).tolist() == pytest.approx(expected)

    def test_the_opposite_of_a_known_pose_makes_the_head_symmetric_and_its_inverse_leads_back(self):
        tilted = head(0.3)
        matrix = slice_matrix(torch.tensor([[-0.3, 0.0]]), (44, 40))
        upright = warp_2d(tilted, matrix)
        assert (tilted - mirror(tilted)).abs().max() > 0.1
        torch.testing.assert_close(upright, head(), atol=0.04, rtol=0)
        torch.testing.assert_close(warp_2d(upright, invert_rigid(matrix)), tilted, atol=0.05, rtol=0)
        moved = warp_2d(head(0, 3), slice_matrix(torch.tensor([[0.0, -3.0]]), (44, 40)))
        torch.testing.assert_close(moved, head(), atol=1e-5, rtol=0)

    def test_an_untrained_network_leaves_every_slice_as_it_is(self):
        network, x = SliceAlignment(width=8), torch.rand(3, 1, 33, 40)
        assert torch.equal(network(x), torch.zeros(3, 2))
        torch.testing.assert_close(network.matrix(x), torch.eye(3).expand(3, 3, 3))
        torch.testing.assert_close(warp_2d(x, network.matrix(x)), x, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_no_pose_passes_the_limits(self, sign):
        network = SliceAlignment(width=8, max_angle_deg=30, max_shift=0.2)
        nn.init.constant_(network.pose.bias, sign * 50.0)
        wanted = torch.tensor([[sign * math.pi / 6, sign * 8.0]])
        torch.testing.assert_close(network(torch.rand(1, 1, 30, 40)), wanted)

    @pytest.mark.parametrize("size", [(16, 16), (37, 53), (256, 256)])
    def test_any_size_from_sixteen_gives_a_pose_a_slice(self, size):
        with torch.device("meta"):
            assert SliceAlignment(3)(torch.empty(2, 3, *size)).shape == (2, 2)

    @pytest.mark.parametrize("shape", [(1, 1, 15, 16), (1, 2, 16, 16), (1, 1, 16, 16, 16), (1, 16, 16)])
    def test_an_input_that_does_not_fit_is_refused_in_words(self, shape):
        with pytest.raises(ParameterError, match="input of the slice alignment"):
            SliceAlignment(width=4)(torch.zeros(shape))

    @pytest.mark.parametrize("width", [0, 2, 6])
    def test_a_width_that_is_no_multiple_of_four_is_refused(self, width):
        with pytest.raises(ParameterError, match="multiple of 4"):
            SliceAlignment(width=width)

    def test_at_the_start_the_last_layer_has_a_gradient_and_after_one_step_all_have(self):
        torch.manual_seed(0)
        network, x = SliceAlignment(width=4), torch.cat([head(0.3, 2), head(-0.2, -1)])
        optimizer = torch.optim.Adam(network.parameters(), 1e-2)
        for wanted in ({"pose.weight", "pose.bias"}, {name for name, _ in network.named_parameters()}):
            optimizer.zero_grad()
            slice_alignment_loss(network, x).backward()
            found = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
            assert found == wanted
            optimizer.step()

    def test_the_count_is_that_of_its_layers(self):
        sizes = (1, 16, 32, 64, 64)
        convolutions = sum(9 * a * b for a, b in itertools.pairwise(sizes))
        assert count_parameters(SliceAlignment()) == convolutions + 2 * sum(sizes[1:]) + 2 * (16 * 64 + 1)

    def test_it_learns_to_align_one_slice_from_the_slice_alone(self):
        torch.manual_seed(0)
        network, x = SliceAlignment(width=4), head(0.25, 3)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        start = slice_alignment_loss(network, x).item()
        for _ in range(80):
            optimizer.zero_grad()
            loss = slice_alignment_loss(network, x)
            loss.backward()
            optimizer.step()
        angle, _ = network(x)[0].tolist()
        assert loss.item() < 0.25 * start
        assert abs(angle + 0.25) < 0.05


class TestAlignmentLoss:
    def fixed(self, angle=0.0, shift=0.0):
        """A network with one pose for all slices; ``angle`` and ``shift`` as shares of the limits."""
        network = SliceAlignment(width=4, max_shift=1.5)
        with torch.no_grad():
            network.pose.bias.copy_(torch.atanh(torch.tensor([angle, shift])))
        return network

    def test_hand_worked_values(self):
        x = torch.zeros(1, 1, 16, 16)
        x[..., :8] = 0.4
        x[..., 8:] = 0.2
        # |X - X'| is 0.2 everywhere, the mean brightness 0.3.
        assert slice_alignment_loss(self.fixed(), x, "none").item() == pytest.approx(0.2, abs=1e-6)
        assert slice_alignment_loss(self.fixed(), x).item() == pytest.approx(0.2 / 0.3, abs=1e-5)
        assert slice_alignment_loss(self.fixed(), torch.full_like(x, 0.7)).item() == pytest.approx(0, abs=1e-5)

    def test_a_literal_loop_gives_the_same(self):
        x = torch.cat([head(0.2, 1), head(-0.1, 4)])
        network = self.fixed(0.1, -0.15)
        moved = warp_2d(x, network.matrix(x)).detach()
        plain, guarded = [], []
        for b in range(2):
            pixels = [abs(moved[b, 0, i, j] - moved[b, 0, i, 39 - j]) for i in range(44) for j in range(40)]
            plain.append(sum(pixels) / len(pixels))
            lost = max(0.0, 1 - float(moved[b].sum() / x[b].sum()))
            guarded.append(sum(pixels) / moved[b].sum() + lost)
        assert slice_alignment_loss(network, x, "none").item() == pytest.approx(float(sum(plain) / 2), rel=1e-4)
        assert slice_alignment_loss(network, x).item() == pytest.approx(float(sum(guarded) / 2), rel=1e-4)

    def test_pushing_the_head_out_of_view_pays_without_the_guard_alone(self):
        x = head(0.3)
        here, half, gone = self.fixed(), self.fixed(shift=0.35), self.fixed(shift=0.99)
        assert slice_alignment_loss(gone, x, "none").item() == pytest.approx(0, abs=1e-6)
        assert slice_alignment_loss(here, x, "none").item() > 0.01
        guarded = [slice_alignment_loss(network, x).item() for network in (here, half, gone)]
        assert guarded[0] < 1 < guarded[1] < guarded[2] == pytest.approx(3)

    def test_an_empty_slice_costs_nothing_and_leaves_the_gradient_finite(self):
        network, x = SliceAlignment(width=4), torch.cat([torch.zeros(1, 1, 44, 40), head(0.3)])
        loss = slice_alignment_loss(network, x)
        loss.backward()
        assert loss.item() == pytest.approx(slice_alignment_loss(network, x[1:]).item() / 2, rel=1e-5)
        assert all(torch.isfinite(p.grad).all() for p in network.parameters())

    def test_another_guard_is_refused_in_words(self):
        with pytest.raises(ParameterError, match="guard: found mean; wanted mass or none"):
            slice_alignment_loss(SliceAlignment(width=4), torch.zeros(1, 1, 16, 16), "mean")
