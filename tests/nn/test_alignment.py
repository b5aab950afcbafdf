"""Mirror, midline and rigid warps: Eqs 1-5 of Sun et al. by hand and by a literal loop, and exact ways back."""

import math

import numpy as np
import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.nn.alignment import (
    align_matrix_2d,
    invert_rigid,
    midline_from_points,
    midline_shift,
    mirror,
    rigid_matrix_3d,
    voxel_matrix,
    warp_2d,
    warp_3d,
)

torch.set_num_threads(1)


def pairs(seed=0, n=50):
    """Random line ends (top above bottom) in a 256 x 256 image."""
    rng = np.random.default_rng(seed)
    top = np.stack([rng.uniform(60, 200, n), rng.uniform(10, 80, n)], 1)
    bottom = np.stack([rng.uniform(60, 200, n), rng.uniform(150, 250, n)], 1)
    return torch.from_numpy(top), torch.from_numpy(bottom)


class TestEquations:
    def test_hand_worked_values(self):
        centre, alpha = midline_from_points(torch.tensor([100.0, 20.0]), torch.tensor([160.0, 220.0]))
        assert centre.tolist() == [130.0, 120.0]
        assert alpha.item() == pytest.approx(math.atan(60 / 200))
        assert midline_shift(centre, 256).item() == 127.5 - 130.0
        upright = align_matrix_2d(torch.tensor([130.0, 120.0]), torch.tensor(0.0), 256)
        assert upright.tolist() == [[1, 0, -2.5], [0, 1, 0], [0, 0, 1]]
        quarter = align_matrix_2d(torch.tensor([10.0, 20.0]), torch.tensor(math.pi / 2), 21)
        torch.testing.assert_close(quarter @ torch.tensor([13.0, 20.0, 1.0]), torch.tensor([10.0, 23.0, 1.0]))

    def test_a_literal_loop_agrees(self):
        top, bottom = pairs()
        centre, alpha = midline_from_points(top, bottom)
        matrix = align_matrix_2d(centre, alpha, 256)
        for i, ((xt, yt), (xd, yd)) in enumerate(zip(top.tolist(), bottom.tolist(), strict=True)):
            xc, yc = (xt + xd) / 2, (yt + yd) / 2  # Eq. 1
            dx = xd - xt  # Eq. 2
            dy = yd - yt  # Eq. 3
            a = math.atan(dx / dy)  # Eq. 4
            d = (256 - 1) / 2 - xc  # Eq. 5
            assert centre[i].tolist() == pytest.approx([xc, yc])
            assert alpha[i].item() == pytest.approx(a)
            for px, py in ((0.0, 0.0), (xt, yt), (31.0, 200.0)):
                moved = (matrix[i] @ torch.tensor([px, py, 1.0], dtype=torch.float64)).tolist()
                x = math.cos(a) * (px - xc) - math.sin(a) * (py - yc) + xc + d
                y = math.sin(a) * (px - xc) + math.cos(a) * (py - yc) + yc
                assert moved == pytest.approx([x, y, 1.0])

    def test_both_ends_of_the_line_come_to_lie_on_the_vertical_axis(self):
        top, bottom = pairs(1)
        matrix = align_matrix_2d(*midline_from_points(top, bottom), 256)
        for ends in (top, bottom):
            moved = torch.einsum("bij,bj->bi", matrix[:, :2, :2], ends) + matrix[:, :2, 2]
            torch.testing.assert_close(moved[:, 0], torch.full((50,), 127.5, dtype=torch.float64))

    def test_a_horizontal_line_has_a_right_angle_instead_of_a_division_by_zero(self):
        _, alpha = midline_from_points(torch.tensor([10.0, 50.0]), torch.tensor([90.0, 50.0]))
        assert alpha.item() == pytest.approx(math.pi / 2)

    def test_a_tilted_line_in_an_image_is_upright_after_the_warp(self):
        top, bottom = torch.tensor([[30.0, 8.0]]), torch.tensor([[42.0, 56.0]])
        y, x = torch.meshgrid(torch.arange(65.0), torch.arange(64.0), indexing="ij")
        along = (bottom - top)[0] / torch.linalg.norm(bottom - top)
        away = (x - top[0, 0]) * along[1] - (y - top[0, 1]) * along[0]
        image = torch.exp(-(away**2) / 4)[None, None]
        aligned = warp_2d(image, align_matrix_2d(*midline_from_points(top, bottom), 64))
        rows = aligned[0, 0, 20:45]
        columns = (rows * torch.arange(64.0)).sum(1) / rows.sum(1)
        torch.testing.assert_close(columns, torch.full((25,), 31.5), atol=0.05, rtol=0)
        torch.testing.assert_close(aligned, mirror(aligned), atol=0.02, rtol=0)


class TestMirror:
    def test_it_is_the_exchange_matrix_from_the_right_and_its_own_inverse(self):
        x = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(0))
        exchange = torch.fliplr(torch.eye(6))
        torch.testing.assert_close(mirror(x), x @ exchange)
        assert torch.equal(mirror(mirror(x)), x)


class TestRigid:
    def test_the_inverse_is_exact_in_two_and_three_dimensions(self):
        generator = torch.Generator().manual_seed(3)
        angles = torch.rand(20, 3, generator=generator, dtype=torch.float64) * 2 - 1
        shift = torch.randn(20, 3, generator=generator, dtype=torch.float64) * 20
        matrix = rigid_matrix_3d(angles, shift)
        torch.testing.assert_close(invert_rigid(matrix) @ matrix, torch.eye(4, dtype=torch.float64).expand(20, 4, 4))
        torch.testing.assert_close(invert_rigid(matrix), torch.linalg.inv(matrix))
        flat = align_matrix_2d(*midline_from_points(*pairs(2, 20)), 100)
        torch.testing.assert_close(invert_rigid(flat), torch.linalg.inv(flat))

    @pytest.mark.parametrize(
        ("axis", "point", "image"), [(0, (0, 1, 0), (0, 0, 1)), (1, (0, 0, 1), (1, 0, 0)), (2, (1, 0, 0), (0, 1, 0))]
    )
    def test_quarter_turns_go_from_x_to_y_to_z_to_x(self, axis, point, image):
        angles = torch.zeros(1, 3)
        angles[0, axis] = math.pi / 2
        moved = rigid_matrix_3d(angles, torch.zeros(1, 3)) @ torch.tensor([*point, 1.0])
        torch.testing.assert_close(moved[0, :3], torch.tensor(image, dtype=torch.float32), atol=1e-6, rtol=0)

    def test_gradients_reach_angles_and_shift(self):
        angles, shift = torch.zeros(1, 3, requires_grad=True), torch.zeros(1, 3, requires_grad=True)
        image = torch.randn(1, 1, 6, 7, 8, generator=torch.Generator().manual_seed(1))
        warp_3d(image, voxel_matrix(rigid_matrix_3d(angles + 0.1, shift), (2.0, 1.0, 1.0), (6, 7, 8))).sum().backward()
        assert torch.isfinite(angles.grad).all()
        assert (angles.grad != 0).all()
        assert (shift.grad != 0).all()


class TestWarps:
    def test_the_identity_changes_nothing(self):
        x = torch.randn(2, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))
        for mode in ("bilinear", "nearest"):
            torch.testing.assert_close(warp_3d(x, torch.eye(4), mode=mode), x, atol=1e-5, rtol=0)
            torch.testing.assert_close(warp_2d(x[:, :, 0], torch.eye(3), mode), x[:, :, 0], atol=1e-5, rtol=0)

    def test_output_reads_input_where_the_matrix_points(self):
        x = torch.zeros(1, 1, 5, 6, 7)
        x[0, 0, 2, 3, 5] = 1
        matrix = torch.eye(4)
        matrix[:3, 3] = torch.tensor([2.0, -1.0, 1.0])  # x, y, z
        assert torch.nonzero(warp_3d(x, matrix, mode="nearest"))[0].tolist() == [0, 0, 1, 4, 3]

    def test_the_forward_map_of_two_dimensions_carries_a_pixel_there(self):
        x = torch.zeros(1, 1, 8, 9)
        x[0, 0, 2, 3] = 1
        matrix = torch.eye(3)
        matrix[:2, 2] = torch.tensor([4.0, 1.0])
        assert torch.nonzero(warp_2d(x, matrix, "nearest"))[0].tolist() == [0, 0, 3, 7]

    def test_a_flip_about_the_middle_of_the_voxel_centres_is_the_mirror(self):
        x = torch.randn(1, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
        matrix = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
        matrix[0, 3] = 5.0
        torch.testing.assert_close(warp_3d(x, matrix), mirror(x), atol=1e-5, rtol=0)

    def test_a_field_ends_at_its_edges_and_not_at_its_centres(self):
        x = torch.full((1, 1, 1, 1, 4), 7.0)
        for shift, values in ((0.4, [7, 7, 7, 7]), (0.6, [7, 7, 7, -1]), (-1.6, [-1, -1, 7, 7])):
            matrix = torch.eye(4)
            matrix[0, 3] = shift
            assert warp_3d(x, matrix, fill=-1.0)[0, 0, 0, 0].tolist() == pytest.approx(values)

    def test_turning_a_ball_in_millimetres_keeps_its_volume_on_stretched_voxels(self):
        shape, spacing = (20, 60, 64), (5.0, 1.5, 1.5)
        axes = [(torch.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        soft = torch.sigmoid((25 - torch.sqrt((x - 6) ** 2 + y**2 + z**2)) / 2)[None, None]
        angles = torch.tensor([[0.1, 0.2, 0.5]])
        turned = warp_3d(soft, voxel_matrix(rigid_matrix_3d(angles, torch.zeros(1, 3)), spacing, shape))
        assert turned.sum().item() == pytest.approx(soft.sum().item(), rel=0.01)
        where = rigid_matrix_3d(angles, torch.zeros(1, 3))[0, :3, :3].T @ torch.tensor([6.0, 0, 0])
        centre = torch.stack([(turned[0, 0] * c).sum() / turned.sum() for c in (x, y, z)])
        torch.testing.assert_close(centre, where, atol=0.1, rtol=0)

    def test_there_and_back_returns_a_smooth_image(self):
        shape, spacing = (24, 48, 48), (3.0, 1.5, 1.5)
        axes = [torch.linspace(-1, 1, n) for n in shape]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        image = torch.exp(-6 * ((x - 0.2) ** 2 + y**2 + z**2))[None, None]
        mm = rigid_matrix_3d(torch.tensor([[0.0, 0.1, 0.3]]), torch.tensor([[4.0, -2.0, 0.0]]))
        there = warp_3d(image, voxel_matrix(mm, spacing, shape))
        back = warp_3d(there, voxel_matrix(invert_rigid(mm), spacing, shape))
        assert (there - image).abs().max() > 0.2
        assert (back - image).abs().max() < 0.03

    def test_another_shape_and_batches_of_poses_are_allowed(self):
        x = torch.randn(1, 2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
        matrices = rigid_matrix_3d(torch.zeros(3, 3), torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0]]))
        out = warp_3d(x.expand(3, -1, -1, -1, -1), matrices, (4, 5, 6))
        assert out.shape == (3, 2, 4, 5, 6)
        torch.testing.assert_close(out[1], x[0, :, :4, :5, 1:7], atol=1e-5, rtol=0)
        torch.testing.assert_close(out[2, :, :, :5], x[0, :, :4, 2:7, :6], atol=1e-5, rtol=0)

    def test_a_misspelt_mode_is_refused(self):
        with pytest.raises(ParameterError, match="cubic"):
            warp_3d(torch.zeros(1, 1, 2, 2, 2), torch.eye(4), mode="cubic")
