"""A head of a cohort without perfusion, with perfusion of its own infarct."""

from dataclasses import replace

import numpy as np
import pytest

from strokelib import settings
from strokelib.data import perfused
from strokelib.data.phantom.cohorts import case_ids
from strokelib.errors import DataError, ParameterError


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    return replace(settings.resolve("smoke", "aisd", 0), data=None, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def head(chosen):
    (found,) = perfused.perfused_heads(chosen, 1, slices=3)
    return found


def test_the_slab_is_the_same_ct_brain_and_reference_as_the_head(head):
    for of in (lambda c: c.image.array, lambda c: c.lesion, lambda c: c.brain):
        np.testing.assert_array_equal(of(head.slab), of(head.whole)[head.levels])
    level = head.levels.start
    down = head.whole.image.affine @ [0, 0, level, 1]
    np.testing.assert_allclose(head.slab.image.affine @ [0, 0, 0, 1], down)
    assert head.slab.facts["first_slice"] == level
    assert head.whole.split == "test"


def test_the_head_lies_straight(head):
    nx, ny, nz, offset = head.whole.facts["midline_plane"]
    assert (abs(nx), ny, nz, offset) == pytest.approx((1, 0, 0, 0), abs=1e-12)
    brain = head.whole.brain
    both = brain & brain[..., ::-1]
    assert 2 * both.sum() / (2 * brain.sum()) > 0.97


def test_the_perfusion_is_that_of_the_infarct(head):
    slab, inside = head.slab, head.slab.lesion & head.slab.brain
    other = slab.brain & inside[..., ::-1] & ~inside
    flow, late = slab.channels["cbf"], slab.channels["tmax_s"]
    assert inside.any()
    assert flow[inside].mean() < 0.7 * flow[other].mean()
    assert late[inside].mean() > 1.0 + late[other].mean()
    assert slab.channels["series"].shape[1:] == slab.image.array.shape


def test_a_head_is_made_once_and_read_back_the_same(chosen, head):
    (again,) = perfused.perfused_heads(chosen, 1, slices=3)
    np.testing.assert_array_equal(again.slab.channels["cbf"], head.slab.channels["cbf"])
    assert again.levels == head.levels


def test_heads_are_the_first_of_the_test_list_that_are_large_enough(chosen):
    listed = case_ids("aisd", "test", "smoke")
    large = perfused.large_infarcts(chosen, 5.0)
    assert large == [name for name in listed if name in large]
    assert 0 < len(large) < len(listed)
    assert perfused.large_infarcts(chosen, 0.0) == list(listed)


def test_slices_lie_about_the_lesion_and_within_the_brain():
    brain, lesion = np.zeros((10, 2, 2), bool), np.zeros((10, 2, 2), bool)
    brain[2:9], lesion[4:6] = True, True
    assert perfused.first_slice(lesion, brain, 4) == 3
    assert perfused.first_slice(lesion, brain, 2) == 4
    lesion[:], lesion[8] = False, True
    assert perfused.first_slice(lesion, brain, 4) == 5
    assert perfused.first_slice(np.zeros_like(lesion), brain, 3) == 4


def test_impossible_requests_are_refused(chosen):
    with pytest.raises(ParameterError, match="0 heads"):
        perfused.perfused_heads(chosen, 0)
    with pytest.raises(ParameterError, match="grid 'native'"):
        perfused.perfused_heads(chosen, 1, grid="native")
    with pytest.raises(DataError, match="smaller infarcts"):
        perfused.perfused_heads(chosen, 60)
