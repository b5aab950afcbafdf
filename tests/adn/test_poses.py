"""Angles and shifts: their signs, what a matrix leaves of them, and the classical search as a reference."""

import dataclasses

import numpy as np
import pytest
import torch

from strokelib.adn.poses import (
    classical_matrices,
    classical_matrix,
    classical_pose,
    identity_matrices,
    pose_errors,
    pose_of_matrix,
    residual_pose,
    true_pose,
)
from strokelib.adn.volumes import pooled_grid
from strokelib.data.cases import Case, Volume
from strokelib.data.inplane import known_line
from strokelib.data.phantom import embedded
from strokelib.data.phantom.scanner import Pose
from strokelib.data.phantom.scanner import grid as scanner_grid
from strokelib.errors import DataError, ParameterError
from strokelib.methods.preparation_errors import by_symmetry, plane_errors
from strokelib.nn.alignment import rigid_matrix_3d, voxel_matrix

LEVEL = Pose(12.0, 0.0, 4.0, (9.0, -5.0, 3.0), 0.0, 0.45, 5.0, 30, 1.0)


def lying(pose=LEVEL, name="made"):
    """A ball of brain whose centre is the head's, on the prepared grid; only its plane is known."""
    field = scanner_grid("prepared", pose)
    z, y, x = np.meshgrid(*map(np.arange, field.shape), indexing="ij")
    world = np.stack([x, y, z, np.ones_like(x)], -1) @ field.affine.T
    brain = ((world[..., :3] - pose.shift_mm) ** 2).sum(-1) < 50**2
    facts = {"midline_plane": list(pose.midline_plane()), "anatomy": "A"}
    image = Volume(np.where(brain, 30, -1000).astype(np.int16), field.affine)
    return Case(name, name, "made", "test", image, np.zeros(brain.shape, bool), brain, facts=facts)


def turned(case, angle_deg, x_mm, y_mm=0.0, pool=1):
    """Output -> input in voxels of the pooled grid: a turn about z and a way, as T writes them."""
    grid = pooled_grid(case, pool)
    angles = torch.tensor([[0.0, 0.0, np.deg2rad(angle_deg)]], dtype=torch.float64)
    mm = rigid_matrix_3d(angles, torch.tensor([[x_mm, y_mm, 0.0]], dtype=torch.float64))
    return voxel_matrix(mm, grid.spacing, grid.shape)[0]


def perfect(case, pool=1):
    """The matrix whose output has the known line upright and in the middle."""
    pose = true_pose(case, pool)
    return turned(case, -pose.angle_deg, pose.shift_mm, pool=pool)


def test_the_angle_is_the_scanners_and_the_shift_is_to_the_pictures_right():
    # 9 mm to the patient's right are 9 mm to the picture's left; the line then leans over the 5 mm backwards.
    pose = true_pose(lying())
    assert pose.angle_deg == pytest.approx(12.0)
    assert pose.shift_mm == pytest.approx(-9.0 - 5.0 * np.tan(np.deg2rad(12.0)))


def test_the_true_pose_agrees_with_the_known_line_of_the_middle_slice():
    case = lying()
    ends = (known_line(case)[14] + known_line(case)[15]) / 2
    (x0, y0), (x1, y1) = ends
    assert true_pose(case).angle_deg == pytest.approx(np.rad2deg(np.arctan2(x1 - x0, y1 - y0)))
    crossing = x0 + (111 / 2 - y0) * (x1 - x0) / (y1 - y0)
    assert true_pose(case).shift_mm == pytest.approx((crossing - 95 / 2) * 2.0)


@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("y_mm", [0.0, 7.0])
def test_the_pose_of_a_matrix_has_the_signs_of_the_true_pose(pool, y_mm):
    case = lying()
    grid, matrix = pooled_grid(case, pool), turned(case, -8.0, 6.0, y_mm, pool)
    pose = pose_of_matrix(matrix, grid.spacing, grid.shape)
    assert pose.angle_deg == pytest.approx(8.0)
    # A shift by y_mm down the turned line moves the line itself as well.
    assert pose.shift_mm == pytest.approx(6.0 - y_mm * np.tan(np.deg2rad(8.0)))
    grid = pooled_grid(case, pool)
    assert pose_of_matrix(perfect(case, pool), grid.spacing, grid.shape) == pytest.approx(true_pose(case, pool))


@pytest.mark.parametrize("pool", [1, 2])
def test_a_perfect_alignment_leaves_nothing_and_none_leaves_the_pose(pool):
    case = lying()
    assert residual_pose(case, perfect(case, pool), pool) == pytest.approx((0, 0, 0), abs=1e-9)
    left = residual_pose(case, np.eye(4), pool)
    assert left.angle_deg == pytest.approx(12.0)
    assert left.shift_mm == pytest.approx(-9.0, abs=0.1)


@pytest.mark.parametrize("angle", [-7.0, 0.0, 5.0])
@pytest.mark.parametrize("way", [-4.0, 3.0])
def test_what_a_matrix_lacks_is_left_with_its_sign(angle, way):
    straight = dataclasses.replace(LEVEL, angle_deg=0.0, shift_mm=(0.0, 0.0, 0.0))
    case = lying(straight)
    # Reading at R(a) p + t turns the picture by -a: the line, upright before, leans by +a in the output.
    left = residual_pose(case, turned(case, angle, way))
    assert left.angle_deg == pytest.approx(angle)
    assert left.shift_mm == pytest.approx(-way * np.cos(np.deg2rad(angle)), abs=0.01)


def test_a_move_along_the_midline_costs_nothing():
    case = lying()
    pose = true_pose(case)
    lean = np.tan(np.deg2rad(pose.angle_deg))
    moved = turned(case, -pose.angle_deg, pose.shift_mm + 15 * lean, 15.0)
    assert residual_pose(case, moved) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("roll", [-6.0, 4.0])
def test_the_roll_has_the_scanners_sign_and_no_turn_in_plane_changes_it(roll):
    case = lying(dataclasses.replace(LEVEL, roll_deg=roll))
    for matrix in (np.eye(4), perfect(case), turned(case, 20.0, -8.0)):
        assert residual_pose(case, matrix).roll_deg == pytest.approx(roll, abs=1e-9)


def test_odd_fields_that_pooling_pads_on_one_side_are_measured_from_their_own_middle():
    case = lying()
    image = Volume(case.image.array[..., :-1], case.image.affine)
    odd = dataclasses.replace(case, image=image, brain=case.brain[..., :-1], lesion=case.lesion[..., :-1])
    # 95 columns: the middle moves left by one pixel's half, and back by the same where pooling pads the end.
    assert true_pose(odd).shift_mm == pytest.approx(true_pose(case).shift_mm + 1.0)
    assert true_pose(odd, 2).shift_mm == pytest.approx(true_pose(case).shift_mm)
    assert residual_pose(odd, perfect(odd, 2), 2) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("matrix", [np.eye(3), np.zeros((4, 4)), torch.eye(4)[None], np.full((4, 4), np.nan)])
def test_a_matrix_of_another_shape_or_without_inverse_is_refused(matrix):
    with pytest.raises(ParameterError, match=r"\(4, 4\)"):
        residual_pose(lying(), matrix)
    with pytest.raises(ParameterError, match=r"\(4, 4\)"):
        pose_of_matrix(matrix, (5.0, 2.0, 2.0), (30, 112, 96))


def test_cases_without_known_plane_or_brain_are_refused():
    with pytest.raises(DataError, match="no known plane"):
        true_pose(dataclasses.replace(lying(), facts={}))
    bare = dataclasses.replace(lying(), brain=None)
    with pytest.raises(DataError, match="no brain"):
        residual_pose(bare, np.eye(4))
    with pytest.raises(DataError, match="no brain"):
        classical_matrix(bare)


def test_the_table_has_a_row_for_each_alignment_and_case_and_no_signs():
    cases = [lying(name="one"), lying(dataclasses.replace(LEVEL, angle_deg=-3.0), name="two")]
    matrices = {"none": identity_matrices(cases), "perfect": {case.id: perfect(case) for case in cases}}
    table = pose_errors(cases, matrices)
    assert list(table.columns) == ["alignment", "case", "anatomy", "angle_deg", "shift_mm", "roll_deg"]
    assert list(zip(table["alignment"], table["case"], strict=True)) == [
        (alignment, name) for alignment in ("none", "perfect") for name in ("one", "two")
    ]
    assert table["angle_deg"].tolist() == pytest.approx([12.0, 3.0, 0, 0], abs=1e-9)
    assert (table[["angle_deg", "shift_mm", "roll_deg"]] >= 0).all(axis=None)
    assert list(pose_errors([], {}).columns) == list(table.columns)
    with pytest.raises(DataError, match="alignment T: found no two"):
        pose_errors(cases, {"T": {"one": np.eye(4)}})


@pytest.fixture(scope="module")
def head():
    return embedded.render_turned("aisd-0003", 14.0)


def test_the_classical_search_leaves_what_the_preparation_measures_of_it(head):
    left, before = classical_pose(head), residual_pose(head, np.eye(4))
    wanted = plane_errors(head, by_symmetry(roll=False)(head))
    assert abs(left.angle_deg) == pytest.approx(wanted["turn_deg"], abs=0.05)
    assert abs(left.shift_mm) == pytest.approx(wanted["offset_mm"], abs=0.1)
    assert before.angle_deg == pytest.approx(14.0, abs=0.2)
    assert abs(left.angle_deg) < 1.5
    assert before.roll_deg == pytest.approx(head.facts["pose"]["roll_deg"])
    assert left.roll_deg == pytest.approx(before.roll_deg, abs=1e-6)


def test_the_classical_matrix_of_the_pooled_grid_turns_in_plane_and_keeps_the_head_in_its_field(head):
    matrix, grid = classical_matrices([head], 2)[head.id], pooled_grid(head, 2)
    np.testing.assert_allclose(matrix[:2, :2] @ matrix[:2, :2].T, np.eye(2), atol=1e-6)
    np.testing.assert_allclose(matrix[2], [0, 0, 1, 0], atol=1e-6)
    assert abs(residual_pose(head, matrix, 2).angle_deg) < 1.5
    assert abs(residual_pose(head, matrix, 2).shift_mm) < 2.0
    middle = (np.array(grid.shape[::-1]) - 1) / 2
    assert abs((matrix @ [*middle, 1])[1] - middle[1]) < 4
