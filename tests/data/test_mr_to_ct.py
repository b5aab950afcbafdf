"""MR on the CT's grid: embedded pairs whose displacement is known, and masks that travel along."""

import numpy as np
import pytest
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.mr_to_ct import mask_to_ct, mr_brain_mask, mr_to_ct
from strokelib.data.phantom import embedded
from strokelib.data.phantom.mr import render_mr
from strokelib.data.registration import Registration
from strokelib.errors import DataError
from strokelib.metrics import dice

DWI, ADC = "aisd-0050", "apis-0001"


@pytest.fixture(scope="module")
def pairs():
    return {name: (embedded.render(name), render_mr(name)) for name in (DWI, ADC)}


def mean_error_mm(ct, mr, matrix):
    points = np.argwhere(ct.brain)[::97, ::-1] @ ct.image.affine[:3, :3].T + ct.image.affine[:3, 3]
    gap = matrix - np.linalg.inv(np.array(mr.facts["mr_to_ct"]))
    return np.linalg.norm(points @ gap[:3, :3].T + gap[:3, 3], axis=1).mean()


@pytest.mark.parametrize("name", [DWI, ADC])
def test_an_embedded_mr_lands_on_its_ct_within_two_millimetres(pairs, name):
    ct, mr = pairs[name]
    found = mr_to_ct(ct.image, mr.image, ct.brain, mask=mr.lesion)
    assert mean_error_mm(ct, mr, np.eye(4)) > 4.0
    assert mean_error_mm(ct, mr, found.registration.matrix) < 2.0
    assert found.image.array.shape == found.brain.shape == found.mask.shape == ct.image.array.shape
    assert found.image.array.dtype == np.float32
    assert found.mask.dtype == found.brain.dtype == bool
    assert dice(found.brain, ct.brain) > 0.93


@pytest.mark.parametrize("name", [DWI, ADC])
def test_the_brain_is_found_in_a_dwi_and_in_an_adc_map(pairs, name):
    mr = pairs[name][1]
    assert dice(mr_brain_mask(mr.image), mr.brain) > 0.94


def test_the_brain_mask_does_not_depend_on_the_units_of_the_signal(pairs):
    image = pairs[DWI][1].image
    assert np.array_equal(mr_brain_mask(image), mr_brain_mask(image.with_array(image.array * 431.0)))


def test_an_mr_without_a_brain_is_refused_by_its_volume():
    noise = np.random.default_rng(0).random((20, 40, 40)).astype(np.float32)
    with pytest.raises(DataError, match="mL"):
        mr_brain_mask(Volume(noise, np.diag([-1.0, -1.0, 1.0, 1.0])))


def test_an_mr_with_values_that_are_not_finite_is_refused(pairs):
    image = pairs[DWI][1].image
    with pytest.raises(DataError, match="finite"):
        mr_brain_mask(image.with_array(np.full_like(image.array, np.nan)))


def test_a_mask_moves_by_nearest_neighbour_and_keeps_its_volume():
    grid = np.diag([-1.0, -1.0, 1.0, 1.0])
    ball = ((np.indices((41, 41, 41)) - 20) ** 2).sum(axis=0) < 8**2
    move = np.eye(4)
    move[:3, 3] = [4.0, -3.0, 2.0]
    ct = Volume(np.zeros((41, 41, 41), np.float32), grid)
    moved = mask_to_ct(ball.astype(np.uint8) * 3, Volume(ball, grid), ct, Registration(move, 0.0, 0))
    assert moved.dtype == bool
    assert moved.sum() == ball.sum()
    shift_mm = np.array(ndimage.center_of_mass(moved)) - ndimage.center_of_mass(ball)
    assert shift_mm == pytest.approx([-2.0, -3.0, 4.0])


def test_without_a_mask_none_comes_back_and_a_known_brain_is_taken(pairs):
    ct, mr = pairs[ADC]
    found = mr_to_ct(ct.image, mr.image, ct.brain, mr.brain, dof="rigid")
    assert found.mask is None
    assert mean_error_mm(ct, mr, found.registration.matrix) < 1.0
    assert np.array_equal(found.brain, mask_to_ct(mr.brain, mr.image, ct.image, found.registration))


def test_a_mask_of_another_shape_is_refused_before_anything_is_computed(pairs):
    ct, mr = pairs[ADC]
    with pytest.raises(DataError, match="MR's own grid"):
        mr_to_ct(ct.image, mr.image, ct.brain, mask=mr.lesion[1:])
