"""Affine registration: known transforms are found again, on any grid, the same each time; nonsense is refused."""

import subprocess
import sys

import numpy as np
import pytest

from strokelib.data.cases import Volume
from strokelib.data.grids import Grid, crop, sample_on
from strokelib.data.phantom import embedded
from strokelib.data.registration import Registration, register_affine
from strokelib.errors import DataError, ParameterError

STEP_MM = 4.0


@pytest.fixture(scope="module")
def head():
    case = embedded.render("aisd-0050")
    return case.image, case.brain


def turned(angle_deg, shift_mm=(0.0, 0.0, 0.0), stretch=(1.0, 1.0, 1.0)):
    turn = np.deg2rad(angle_deg)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    matrix[:3, :3] = matrix[:3, :3] @ np.diag(stretch)
    matrix[:3, 3] = shift_mm
    return matrix


def moved(head, matrix, grid=None):
    """The head as it looks where its point p lies at ``matrix p``, in thin slices, so that its mask is as exact."""
    image, brain = head
    grid, back = grid or Grid.centred((80, 112, 100), (2.0, 2.0, 2.0), Grid.of(image).centre), np.linalg.inv(matrix)
    return sample_on(image, grid, back), sample_on(image.with_array(brain), grid, back, order=0).array


def distance_mm(head, found, true):
    image, brain = head
    points = np.argwhere(brain)[::97, ::-1] @ image.affine[:3, :3].T + image.affine[:3, 3]
    gap = found - true
    return np.linalg.norm(points @ gap[:3, :3].T + gap[:3, 3], axis=1).mean()


def test_a_known_affine_is_found_within_a_millimetre(head):
    true = turned(8.0, (6.0, -4.0, 3.0), (1.06, 0.96, 1.02))
    moving, mask = moved(head, true)
    found = register_affine(head[0], moving, fixed_mask=head[1], moving_mask=mask)
    assert distance_mm(head, found.matrix, true) < 1.0
    assert found.overlap > found.overlap_at_start
    assert found.iterations > 10


def test_a_head_turned_by_25_degrees_and_of_inverted_contrast_is_found(head):
    true = turned(25.0, (5.0, 0.0, 0.0))
    moving, mask = moved(head, true)
    inverted = moving.with_array(80.0 - moving.array)
    found = register_affine(head[0], inverted, fixed_mask=head[1], moving_mask=mask, dof="rigid", step_mm=STEP_MM)
    assert distance_mm(head, found.matrix, true) < 1.5
    assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-9)


def test_a_field_that_cuts_the_brain_does_not_pull_it_along(head):
    true = turned(6.0, (4.0, 3.0, 0.0))
    moving, mask = moved(head, true)
    low = int(np.flatnonzero(mask.any(axis=(1, 2)))[0]) + 15
    part = (slice(low, None), slice(0, None), slice(0, None))
    found = register_affine(head[0], crop(moving, part), fixed_mask=head[1], moving_mask=mask[part], dof="rigid")
    assert found.overlap_at_start < 0.93
    assert distance_mm(head, found.matrix, true) < 1.5


def test_a_similarity_has_one_scale_for_all_directions(head):
    true = turned(0.0, (2.0, 3.0, 0.0), (1.1, 1.1, 1.1))
    moving, mask = moved(head, true)
    found = register_affine(head[0], moving, fixed_mask=head[1], moving_mask=mask, dof="similarity", step_mm=STEP_MM)
    assert found.scales == pytest.approx((1.1, 1.1, 1.1), abs=0.02)
    assert max(found.scales) - min(found.scales) < 1e-6


def test_a_sheared_grid_gives_the_same_place_as_an_upright_one(head):
    image, _ = head
    grid = Grid.centred((80, 150, 100), (2.0, 2.0, 2.0), Grid.of(image).centre)
    shear = np.eye(4)
    shear[1, 2] = np.tan(np.deg2rad(15.0))
    shear[1, 3] = -shear[1, 2] * (grid.shape[0] - 1) / 2
    tilted = Grid(grid.shape, grid.affine @ shear)
    true = turned(5.0, (3.0, 3.0, 2.0))
    moving, mask = moved(head, true, tilted)
    found = register_affine(image, moving, fixed_mask=head[1], moving_mask=mask, step_mm=STEP_MM)
    assert distance_mm(head, found.matrix, true) < 1.5


def test_the_same_input_gives_the_same_matrix_to_the_last_bit(head):
    moving, mask = moved(head, turned(4.0))
    options = {"fixed_mask": head[1], "moving_mask": mask, "dof": "rigid", "step_mm": STEP_MM}
    first, again = (register_affine(head[0], moving, **options) for _ in range(2))
    assert np.array_equal(first.matrix, again.matrix)
    assert first.metric == again.metric


def test_a_start_is_gone_on_from(head):
    true = turned(8.0, (6.0, -4.0, 3.0))
    moving, mask = moved(head, true)
    options = {"fixed_mask": head[1], "moving_mask": mask, "dof": "rigid", "step_mm": STEP_MM}
    free, led = (register_affine(head[0], moving, start=start, **options) for start in (None, true))
    assert led.overlap_at_start > 0.95
    assert led.iterations < free.iterations
    assert distance_mm(head, led.matrix, true) < 1.5


def test_applying_it_is_one_interpolation_and_masks_stay_masks(head):
    image, brain = head
    way = Registration(turned(3.0, (1.0, 2.0, 0.0)), 0.0, 0)
    coarse = Grid.centred((20, 40, 40), (5.0, 4.0, 4.0), Grid.of(image).centre)
    assert np.array_equal(way.apply(image, coarse).array, sample_on(image, coarse, way.matrix).array)
    mask = way.apply(image.with_array(brain), coarse, order=0)
    assert mask.array.dtype == bool
    assert mask.array.shape == coarse.shape
    assert way.apply(image, Volume(brain, image.affine)).array.shape == image.array.shape


def test_the_inverse_leads_back():
    way = Registration(turned(20.0, (1.0, 2.0, 3.0), (1.1, 0.9, 1.0)), 0.5, 7)
    assert np.allclose(way.inverse().matrix @ way.matrix, np.eye(4))


def test_a_brain_that_would_have_to_be_stretched_by_a_half_is_refused(head):
    grid = Grid.centred((50, 120, 120), (5.0, 3.0, 3.0), Grid.of(head[0]).centre)
    moving, mask = moved(head, turned(0.0, stretch=(1.55, 1.55, 1.55)), grid)
    with pytest.raises(DataError, match=r"scales from 0\.7 to 1\.4"):
        register_affine(head[0], moving, fixed_mask=head[1], moving_mask=mask, step_mm=STEP_MM)


def test_empty_and_unfitting_masks_are_refused(head):
    image, brain = head
    with pytest.raises(DataError, match="moving mask"):
        register_affine(image, image, fixed_mask=brain, moving_mask=np.zeros_like(brain))
    with pytest.raises(DataError, match="fixed mask"):
        register_affine(image, image, fixed_mask=brain[1:], moving_mask=brain)


def test_brains_that_a_start_lays_apart_are_refused(head):
    image, brain = head
    with pytest.raises(DataError, match="start"):
        register_affine(image, image, fixed_mask=brain, moving_mask=brain, start=turned(0.0, (300.0, 0.0, 0.0)))


@pytest.mark.parametrize("start", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan)])
def test_a_start_that_is_no_transform_is_refused(head, start):
    with pytest.raises(ParameterError, match="start"):
        register_affine(head[0], head[0], start=start)


def test_other_degrees_of_freedom_are_refused(head):
    with pytest.raises(ParameterError, match="rigid or similarity or affine"):
        register_affine(head[0], head[0], dof="warp")


def test_values_that_are_not_finite_are_refused(head):
    image, brain = head
    broken = image.with_array(np.where(brain, np.nan, image.array))
    with pytest.raises(DataError, match="finite"):
        register_affine(image, broken, fixed_mask=brain, moving_mask=brain)


def test_importing_it_does_not_import_simpleitk():
    code = "import sys, strokelib.data.contralateral, strokelib.data.mr_to_ct; print('SimpleITK' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
