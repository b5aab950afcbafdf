"""Maps, frames and DWI brought to [0, 1]."""

import numpy as np
import pytest

from strokelib.errors import DataError, ParameterError
from strokelib.pseudo_dwi.scaling import scaled, scaled_dwi, scaled_tmax


def test_the_robust_scale_by_hand():
    values = np.arange(-1.0, 101.0)[None, None]
    mask = np.ones(values.shape, bool)
    mask[..., 0] = False
    found = scaled(values, mask)
    assert found.dtype == np.float32
    # The values in the mask are 0 to 100: 1 becomes 0 and 99 becomes 1.
    assert found[0, 0, [0, 1, 2, 51, 100, 101]] == pytest.approx([0, 0, 0, 0.5, 1, 1], abs=1e-6)


def test_what_is_outside_the_mask_neither_counts_nor_stays():
    mask = np.zeros((2, 3, 4), bool)
    mask[0] = True
    values = np.where(mask, np.random.default_rng(0).random((2, 3, 4)), np.nan)
    found = scaled(values, mask)
    assert (found[~mask] == 0).all()
    assert np.array_equal(found, scaled(np.where(mask, values, 1e6), mask))


def test_leading_axes_share_one_scale():
    mask = np.ones((2, 3, 4), bool)
    frame = np.random.default_rng(1).random((2, 3, 4))
    found = scaled(np.stack([frame, frame + 1]), mask, (0, 100))
    assert found[0].max() < 1 == found[1].max()
    assert (found[1] - found[0]) == pytest.approx(np.full(frame.shape, 1 / (1 + np.ptp(frame))), abs=1e-6)


@pytest.mark.parametrize("mask", [np.ones((1, 2, 2), bool), np.zeros((1, 2, 2), bool)])
def test_a_constant_map_and_an_empty_mask_give_zero(mask):
    assert (scaled(np.full((1, 2, 2), 7.0), mask) == 0).all()
    assert (scaled_dwi(np.full((1, 2, 2), 7.0)) == 0).all()


def test_tmax_on_a_fixed_scale_by_hand():
    values = np.array([-1.0, 0.0, 5.0, 20.0, 31.0, 8.0])[None, None]
    mask = np.array([1, 1, 1, 1, 1, 0], bool)[None, None]
    assert scaled_tmax(values, mask)[0, 0] == pytest.approx([0, 0, 0.25, 1, 1, 0])
    assert scaled_tmax(values, mask, 10.0)[0, 0] == pytest.approx([0, 0, 0.5, 1, 1, 0])
    with pytest.raises(ParameterError, match="top_s"):
        scaled_tmax(values, mask, 0.0)


def test_the_dwi_is_scaled_by_its_minimum_and_99th_percentile_and_clipped():
    dwi = np.random.default_rng(2).permutation(np.arange(10.0, 111.0)).reshape(1, 1, 101)
    # From 10 to 110: the 99th percentile is 109.
    assert scaled_dwi(dwi) == pytest.approx(np.minimum((dwi - 10) / 99, 1), abs=1e-6)
    assert scaled_dwi(dwi).max() == 1


@pytest.mark.parametrize("percentiles", [(99, 1), (50, 50), (-1, 99), (1, 101)])
def test_percentiles_out_of_order_are_refused(percentiles):
    with pytest.raises(ParameterError, match="percentiles"):
        scaled(np.zeros((1, 2, 2)), np.ones((1, 2, 2), bool), percentiles)


def test_values_that_are_not_finite_or_of_another_grid_are_refused():
    mask = np.ones((1, 2, 2), bool)
    with pytest.raises(DataError, match="not finite"):
        scaled(np.full((1, 2, 2), np.nan), mask)
    with pytest.raises(DataError, match="not finite"):
        scaled_dwi(np.full((1, 2, 2), np.inf))
    with pytest.raises(DataError, match="grid"):
        scaled(np.zeros((1, 2, 3)), mask)


def test_a_higher_top_leaves_a_small_lesion_its_contrast():
    dwi = np.full((2, 50, 50), 1.0)
    dwi[:, 0, 0], dwi[0, 10, 10:20] = 0.0, 2.0
    usual, higher = scaled_dwi(dwi), scaled_dwi(dwi, 99.9)
    assert usual[0, 10, 12] == usual[0, 30, 30] == 1
    assert higher[0, 10, 12] == 1
    assert higher[0, 30, 30] == pytest.approx(0.5)
