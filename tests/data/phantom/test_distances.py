"""Distances up to a reach: against the whole transform of scipy, on masks of every kind and on real infarcts."""

import numpy as np
import pytest
from scipy import ndimage

from strokelib.data import shipped
from strokelib.data.phantom.distances import nearest_is, signed_distance, squared_depth


def masks(count: int) -> list[np.ndarray]:
    """Masks of many parts and one, thin and thick, some of which touch the array's ends."""
    rng, made = np.random.default_rng(0), []
    while len(made) < count:
        noise = ndimage.gaussian_filter(rng.standard_normal(rng.integers(5, 30, 3)), rng.uniform(0.4, 2.0))
        made.append(noise > np.quantile(noise, rng.uniform(0.3, 0.98)))
    return made


@pytest.mark.parametrize("reach", [1, 4, 8, 11, 12])
def test_squared_depth_is_the_whole_transforms_up_to_the_reach(reach):
    for mask in masks(12):
        exact = np.rint(ndimage.distance_transform_edt(mask) ** 2)
        np.testing.assert_array_equal(squared_depth(mask, reach), np.minimum(exact, reach**2))


def test_the_depth_of_a_bar_is_counted_by_hand():
    bar = np.zeros((1, 1, 9), bool)
    bar[..., 1:8] = True
    assert squared_depth(bar, 3).ravel().tolist() == [0, 1, 4, 9, 9, 9, 4, 1, 0]
    assert squared_depth(bar, 9).ravel().tolist() == [0, 1, 4, 9, 16, 9, 4, 1, 0]
    assert signed_distance(bar, 2).ravel().tolist() == [-1, 1, 2, 2, 2, 2, 2, 1, -1]


def test_a_mask_without_an_end_is_as_deep_as_looked_for():
    assert (squared_depth(np.ones((4, 5, 6), bool), 5) == 25).all()
    assert (squared_depth(np.zeros((4, 5, 6), bool), 5) == 0).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_signed_distance_has_the_bits_of_the_whole_transforms_root(kind):
    for mask in masks(8):
        exact = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        found = signed_distance(mask, 8, kind)
        assert found.dtype == kind
        np.testing.assert_array_equal(found, np.clip(exact, -8, 8).astype(kind))


def nearest_by_scipy(chosen: np.ndarray, mask: np.ndarray, reach: int) -> np.ndarray:
    """What :func:`nearest_is` finds, from the coordinates that scipy gives."""
    distance, nearest = ndimage.distance_transform_edt(~mask, return_indices=True)
    return chosen[tuple(nearest)] & (np.rint(distance**2) < reach**2)


@pytest.mark.parametrize("reach", [2, 8, 16])
def test_of_equally_near_voxels_the_one_that_scipy_takes_counts(reach):
    rng, ties = np.random.default_rng(1), 0
    for mask in masks(24):
        parts, count = ndimage.label(mask)
        chosen = np.concatenate(([False], rng.random(count) < 0.5))[parts]
        np.testing.assert_array_equal(nearest_is(chosen, mask, reach), nearest_by_scipy(chosen, mask, reach))
        ours, theirs = (ndimage.distance_transform_edt(~part) for part in (chosen, mask & ~chosen))
        ties += int(((ours == theirs) & (ours < reach)).sum())
    assert ties > 100


@pytest.mark.parametrize("patient", ["sub-1000", "sub-634"])
def test_on_a_real_infarct_too(patient):
    mask = shipped.infarct(patient).array
    where = tuple(slice(int(axis.min()) - 8, int(axis.max()) + 9) for axis in np.nonzero(mask))
    mask = mask[where]
    parts, count = ndimage.label(mask)
    chosen = np.concatenate(([False], np.arange(count) % 2 == 0))[parts]
    np.testing.assert_array_equal(nearest_is(chosen, mask, 8), nearest_by_scipy(chosen, mask, 8))
    exact = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    np.testing.assert_array_equal(signed_distance(mask, 8, np.float64), np.clip(exact, -8, 8))
