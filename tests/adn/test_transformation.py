import math

import pytest
import torch
from torch.nn import functional

from strokelib.adn.transformation import LIMITS, PreActivationBlock, Transformer3D, align, restore
from strokelib.errors import ParameterError
from strokelib.nn.alignment import invert_rigid, mirror, warp_3d
from strokelib.nn.blocks import count_parameters

SPACING = (5.0, 4.0, 4.0)
SHAPE = (16, 30, 24)
LIVE, STILL = [2, 3, 4], [0, 1, 5]


def pose(angle_deg=0.0, x=0.0, y=0.0):
    return torch.tensor([[0.0, 0.0, math.radians(angle_deg), x, y, 0.0]])


def points_mm(shape, spacing):
    """(D, H, W, 3) as x, y, z in mm from the centre of the field."""
    axes = [(torch.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)


def head(points):
    """A smooth head that is its own mirror image in x: an ellipsoid with a ventricle on either side."""
    x, y, z = points.unbind(-1)
    body = torch.sigmoid((40 - (x.square() * 1.4 + y.square() * 0.8 + z.square()).sqrt()) / 3)
    ventricles = torch.exp(-((x.abs() - 12).square() + (y - 5).square() + z.square()) / 150)
    return (body * (0.5 - 0.3 * ventricles - 0.003 * y))[None, None]


def tilted_head(alpha, shape=SHAPE, spacing=SPACING):
    """The head that this pose brings upright, put there by its formula and not by a warp."""
    turn, shift = alpha[0, 2], alpha[0, 3:]
    half = torch.tensor([n * step / 2 for n, step in zip(shape[::-1], spacing[::-1], strict=True)])
    cos, sin = torch.cos(turn), torch.sin(turn)
    back = torch.tensor([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return head((points_mm(shape, spacing) - shift * half) @ back.T)


def asymmetry(volume):
    return (volume - mirror(volume)).abs().mean().item()


def test_the_size_of_the_public_code_has_its_7_459_142_parameters():
    with torch.device("meta"):
        assert count_parameters(Transformer3D()) == 7_459_142


def test_at_the_published_size_the_mean_goes_over_2_x_16_x_16_positions():
    with torch.device("meta"):
        model = Transformer3D()
        assert model.encoder(torch.empty(1, 1, 40, 256, 256)).shape == (1, 256, 2, 16, 16)


@pytest.mark.parametrize("size", [(16, 16, 16), (30, 56, 48), (17, 33, 29)])
def test_six_numbers_come_out_for_a_volume_of_any_size(size):
    with torch.device("meta"):
        assert Transformer3D(width=6)(torch.empty(3, 1, *size)).shape == (3, 6)


def test_a_block_is_the_same_when_written_out():
    torch.manual_seed(0)
    block, x = PreActivationBlock(8), torch.randn(1, 8, 3, 4, 3)
    first, _, before, second, _, after = block.change
    assert first.num_groups == second.num_groups == 2
    y = functional.conv3d(first(x).clamp_min(0), before.weight, before.bias, padding=1)
    y = functional.conv3d(second(y).clamp_min(0), after.weight, after.bias, padding=1)
    torch.testing.assert_close(block(x), x + y)


@pytest.mark.parametrize("limits", ["paper", "code"])
def test_an_untrained_transformer_moves_nothing(limits):
    torch.manual_seed(0)
    volume = torch.rand(2, 1, *SHAPE)
    alpha = Transformer3D(width=4, limits=limits)(volume)
    matrix = Transformer3D.matrix(alpha, SHAPE, SPACING)
    assert alpha.eq(0).all()
    torch.testing.assert_close(matrix, torch.eye(4).expand(2, 4, 4), rtol=0, atol=0)
    torch.testing.assert_close(align(volume, matrix), volume, rtol=0, atol=1e-5)
    torch.testing.assert_close(restore(volume, matrix), volume, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("limits", "furthest"),
    [("paper", [0, 0, math.pi / 3, 1, 1, 0]), ("code", [0, 0, math.pi * 2 / 9, 0.5, 0, 0])],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_no_pose_goes_beyond_its_limits(limits, furthest, side):
    model = Transformer3D(width=4, limits=limits)
    torch.nn.init.constant_(model.head.bias, 50.0 * side)
    torch.testing.assert_close(model(torch.rand(1, 1, 16, 16, 16)), side * torch.tensor([furthest]))


def test_half_an_image_is_a_shift_of_half_its_voxels_along_that_axis():
    matrix = Transformer3D.matrix(pose(x=1.0, y=0.5), (16, 30, 24), (5.0, 3.0, 2.0))
    expected = torch.eye(4)
    expected[0, 3], expected[1, 3] = 12, 7.5
    torch.testing.assert_close(matrix[0], expected, rtol=0, atol=1e-5)


def test_the_matrix_turns_and_shifts_each_point_in_millimetres_about_the_centre():
    shape, spacing, alpha = (10, 30, 24), (5.0, 3.0, 2.0), pose(20, x=0.1, y=-0.2)
    matrix = Transformer3D.matrix(alpha, shape, spacing)[0]
    cos, sin = math.cos(math.radians(20)), math.sin(math.radians(20))
    for x, y, z in [(0, 0, 0), (23, 29, 9), (4, 17, 3)]:
        right, down = (x - 11.5) * 2.0, (y - 14.5) * 3.0
        right, down = cos * right - sin * down + 0.1 * 24.0, sin * right + cos * down - 0.2 * 45.0
        found = matrix @ torch.tensor([x, y, z, 1.0])
        torch.testing.assert_close(found, torch.tensor([right / 2.0 + 11.5, down / 3.0 + 14.5, z, 1.0]))


@pytest.mark.parametrize("alpha", [pose(35), pose(12, x=0.15, y=-0.1)])
def test_on_a_square_field_the_warp_is_that_of_affine_grid(alpha):
    shape, spacing = (6, 20, 20), (5.0, 6.0, 6.0)
    away = points_mm(shape, spacing) - torch.tensor([8.0, -12.0, 5.0])
    volume = torch.exp(-away.square().sum(-1) / 150)[None, None]
    angle, shift = alpha[0, 2], alpha[0, 3:]
    cos, sin = torch.cos(angle), torch.sin(angle)
    theta = torch.tensor([[cos, -sin, 0, shift[0]], [sin, cos, 0, shift[1]], [0, 0, 1, 0]])[None]
    grid = functional.affine_grid(theta, list(volume.shape), align_corners=False)
    expected = functional.grid_sample(volume, grid, align_corners=False)
    found = align(volume, Transformer3D.matrix(alpha, shape, spacing))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (found - volume).abs().max() > 0.3


@pytest.mark.parametrize(("shape", "spacing"), [((4, 48, 24), (5.0, 2.0, 2.0)), ((4, 32, 36), (5.0, 3.0, 2.0))])
def test_a_ball_stays_a_ball_where_height_and_width_or_their_voxels_differ(shape, spacing):
    ball = torch.exp(-points_mm(shape, spacing)[..., :2].square().sum(-1) / 200)[None, None]
    found = align(ball, Transformer3D.matrix(pose(40), shape, spacing))
    inside = points_mm(shape, spacing)[..., :2].norm(dim=-1) < 20
    assert (found - ball)[0, 0, inside].abs().max() < 0.02
    theta = torch.tensor([[[0.766, -0.643, 0, 0], [0.643, 0.766, 0, 0], [0, 0, 1, 0]]])
    grid = functional.affine_grid(theta, list(ball.shape), align_corners=False)
    in_half_fields = functional.grid_sample(ball, grid, align_corners=False)
    assert (in_half_fields - ball)[0, 0, inside].abs().max() > 0.1


@pytest.mark.parametrize("alpha", [pose(15), pose(-10, x=0.12), pose(8, x=-0.1, y=0.1)])
def test_the_known_pose_of_a_head_brings_it_upright(alpha):
    upright, tilted = head(points_mm(SHAPE, SPACING)), tilted_head(alpha)
    aligned = align(tilted, Transformer3D.matrix(alpha, SHAPE, SPACING))
    assert asymmetry(upright) < 1e-6
    assert asymmetry(aligned) < 0.12 * asymmetry(tilted)
    assert (aligned - upright).abs().mean() < 0.2 * (tilted - upright).abs().mean()
    wrong_way = align(tilted, Transformer3D.matrix(-alpha, SHAPE, SPACING))
    assert asymmetry(wrong_way) > asymmetry(tilted)


def test_there_and_back_loses_little_of_a_smooth_head_and_brings_a_small_one_home():
    alpha, spacing = pose(17, x=0.1, y=-0.05), (5.0, 4.0, 4.5)
    matrix, points = Transformer3D.matrix(alpha, SHAPE, spacing), points_mm(SHAPE, spacing)
    volume = head(points)
    assert (restore(align(volume, matrix), matrix) - volume).abs().max() < 0.06
    assert (align(align(volume, matrix), matrix) - volume).abs().max() > 0.3

    def centre_mm(weight):
        return (weight[0, 0, ..., None] * points).sum((0, 1, 2)) / weight.sum()

    small = torch.exp(-(points - torch.tensor([20.0, -10.0, 5.0])).square().sum(-1) / 60)[None, None]
    moved = align(small, matrix)
    assert (centre_mm(moved) - centre_mm(small)).norm() > 4
    torch.testing.assert_close(centre_mm(restore(moved, matrix)), centre_mm(small), rtol=0, atol=0.1)


def test_the_way_back_is_the_rigid_inverse_where_pixels_are_square():
    matrix = Transformer3D.matrix(pose(17, x=0.1, y=-0.05), SHAPE, SPACING)
    volume = head(points_mm(SHAPE, SPACING))
    torch.testing.assert_close(restore(volume, matrix), warp_3d(volume, invert_rigid(matrix)), rtol=0, atol=1e-4)


def test_a_mask_stays_a_mask_and_a_half_precision_map_is_moved_in_float32():
    matrix = Transformer3D.matrix(pose(17, x=0.1), SHAPE, SPACING)
    mask = torch.zeros(1, 1, *SHAPE, dtype=torch.bool)
    mask[..., 4:10, 8:20, 6:15] = True
    for move in (align, restore):
        found = move(mask, matrix, mode="nearest")
        assert found.dtype == torch.float32
        assert found.unique().tolist() == [0, 1]
        assert found.sum().item() == pytest.approx(mask.sum().item(), rel=0.1)
        half = mask.to(torch.bfloat16)
        torch.testing.assert_close(move(half, matrix), move(mask.float(), matrix), rtol=0, atol=0)


def test_a_pose_is_float32_under_bfloat16():
    torch.manual_seed(0)
    model, volume = Transformer3D(width=4), torch.rand(1, 1, *SHAPE)
    torch.nn.init.normal_(model.head.weight)
    exact = model(volume)
    with torch.autocast("cpu", torch.bfloat16):
        alpha = model(volume)
        matrix = model.matrix(alpha, SHAPE, SPACING)
    assert alpha.dtype == matrix.dtype == torch.float32
    torch.testing.assert_close(matrix, model.matrix(alpha, SHAPE, SPACING), rtol=0, atol=0)
    torch.testing.assert_close(alpha, exact, rtol=0, atol=0.05)


def test_at_the_start_the_last_layer_alone_learns_and_from_the_first_step_on_all_do():
    torch.manual_seed(0)
    model, volume = Transformer3D(width=4), tilted_head(pose(12, x=0.1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def gradients():
        optimizer.zero_grad()
        aligned = align(volume, model.matrix(model(volume), SHAPE, SPACING))
        (aligned - mirror(aligned)).abs().mean().backward()
        return {name: p.grad for name, p in model.named_parameters()}

    first = gradients()
    assert {name for name, g in first.items() if g.abs().sum() > 0} == {"head.weight", "head.bias"}
    optimizer.step()
    second = gradients()
    for name, gradient in second.items():
        assert gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name
    assert second["head.bias"][STILL].eq(0).all()
    assert second["head.bias"][LIVE].ne(0).all()


def test_the_alignment_loss_of_one_tilted_head_teaches_its_pose():
    torch.manual_seed(0)
    truth = pose(12, x=0.1)
    model, volume = Transformer3D(width=4), tilted_head(truth)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        alpha = model(volume)
        aligned = align(volume, model.matrix(alpha, SHAPE, SPACING))
        (aligned - mirror(aligned)).abs().mean().backward()
        optimizer.step()
    assert asymmetry(aligned.detach()) < 0.2 * asymmetry(volume)
    assert alpha[0, 2].item() == pytest.approx(truth[0, 2].item(), abs=math.radians(2))


def test_limits_that_are_not_known_are_refused_in_words():
    assert set(LIMITS) == {"paper", "code"}
    with pytest.raises(ParameterError, match="limits of the transformer: found 'wide'"):
        Transformer3D(width=4, limits="wide")


@pytest.mark.parametrize("shape", [(1, 1, 15, 16, 16), (1, 2, 16, 16, 16), (1, 16, 16, 16)])
def test_a_volume_that_does_not_fit_is_refused_in_words(shape):
    with pytest.raises(
        ParameterError, match=r"input of the transformer: .*\(B, 1, D, H, W\) with sides of at least 16"
    ):
        Transformer3D(width=4)(torch.zeros(shape))
