"""Shares of attributions, hand-worked."""

import numpy as np
import pytest

from strokelib.errors import DataError
from strokelib.explain.pointing import pointing


def a_head():
    brain, lesion = np.ones((1, 2, 4), bool), np.zeros((1, 2, 4), bool)
    brain[0, 1, 3] = False
    lesion[0, 0, :2] = True
    return brain, lesion


def test_the_shares_are_those_worked_by_hand():
    brain, lesion = a_head()
    size = np.array([[[4.0, 1.0, 2.0, 1.0], [0.0, 1.0, 1.0, 90.0]]])
    found = pointing(size, lesion, lesion[..., ::-1], brain)
    assert found.lesion == pytest.approx(0.5)  # 5 of 10; the 90 lies outside the brain
    assert found.other_side == pytest.approx(0.3)
    assert found.volume == pytest.approx(2 / 7)
    assert found.gain == pytest.approx(1.75)
    assert found.hit == 1


def test_a_voxel_that_is_both_counts_for_the_lesion_alone():
    brain, lesion = np.ones((1, 1, 3), bool), np.array([[[True, True, False]]])
    found = pointing(np.ones((1, 1, 3)), lesion, lesion[..., ::-1], brain)
    assert (found.lesion, found.other_side) == pytest.approx((2 / 3, 1 / 3))


def test_an_even_map_has_the_share_of_the_volume_and_a_peak_elsewhere_misses():
    brain, lesion = a_head()
    even = pointing(np.ones(brain.shape), lesion, lesion[..., ::-1], brain)
    assert even.lesion == pytest.approx(even.volume)
    peak = np.zeros(brain.shape)
    peak[0, 1, 0] = 1.0
    assert pointing(peak, lesion, lesion[..., ::-1], brain).hit == 0


def test_a_map_of_zeros_points_nowhere_and_a_head_without_lesion_is_refused():
    brain, lesion = a_head()
    nothing = pointing(np.zeros(brain.shape), lesion, lesion[..., ::-1], brain)
    assert np.isnan([nothing.lesion, nothing.other_side, nothing.hit]).all()
    with pytest.raises(DataError, match="0 voxels of lesion"):
        pointing(np.ones(brain.shape), np.zeros_like(lesion), lesion, brain)
    with pytest.raises(DataError, match="one shape"):
        pointing(np.ones((1, 2, 3)), lesion, lesion, brain)
