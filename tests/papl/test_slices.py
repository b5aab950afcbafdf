"""Slices of aligned heads: values, the way back to [0, 1], places in the scan, what was painted, the crop."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from strokelib.data.augment import NONE, Augmentation
from strokelib.data.cases import Case, Volume
from strokelib.data.loading import SliceSampler
from strokelib.errors import DataError, ParameterError
from strokelib.papl.slices import (
    ALIGNED_AUGMENTATION,
    align_with_truth,
    check_keeps_alignment,
    head_slices,
    midline_box,
)

SHAPE = (8, 30, 24)


def case(number=0, lesion=True, painted=True):
    rng = np.random.default_rng(number)
    image = rng.normal(40, 12, SHAPE).astype(np.float32)
    brain = np.zeros(SHAPE, bool)
    brain[1:7, 4:27, 3:21] = True
    image[~brain] = 900
    mask, drop = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.float32)
    if lesion:
        mask[3, 8:14, 5:10] = True
        drop[3, 8:14, 5:10] = -6.0
        mask[3, 0, 0] = True
    truth = {"infarct_hu": drop} if painted else {}
    image += drop
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    return Case(f"made-{number}", f"p{number}", "made", "train", Volume(image, affine), mask, brain, truth)


def test_slices_are_z_scored_over_the_brain_of_the_scan_and_the_rest_has_the_value_of_the_lower_clip():
    slices = head_slices([case()])
    brain, image = case().brain, np.clip(case().image.array, 30, 100)
    inside = image[brain]
    expected = (image - inside.mean()) / inside.std()
    z = slices.images[:, 0].numpy()
    np.testing.assert_allclose(z[slices.brains], expected[1:7][brain[1:7]], atol=1e-4)
    outside = z[~slices.brains.numpy()]
    np.testing.assert_array_equal(outside, slices.fill[0].numpy())
    assert outside[0] == pytest.approx((30 - inside.mean()) / inside.std(), abs=1e-4)


@pytest.mark.parametrize("window", [(30.0, 100.0), (0.0, 80.0)])
def test_the_unit_copy_is_the_window_rescaled_to_0_and_1(window):
    slices = head_slices([case()], window_hu=window)
    low, high = window
    expected = (np.clip(case().image.array, low, high) - low) / (high - low) * case().brain
    np.testing.assert_allclose(slices.unit[:, 0], expected[1:7], atol=1e-5)
    assert slices.unit[:, 0][~slices.brains].eq(0).all()


def test_a_scan_runs_from_its_first_to_its_last_slice_with_brain_and_numbers_them_from_0():
    hole = case(1)
    hole.brain[4] = False
    slices = head_slices([case(0), hole])
    assert slices.index.tolist() == [*range(6)] * 2
    assert slices.z.tolist() == [*range(1, 7)] * 2
    assert slices.count.tolist() == [6] * 12
    assert slices.case.tolist() == [0] * 6 + [1] * 6
    assert slices.starts().tolist() == [0, 6]
    assert slices.position[:6].tolist() == pytest.approx([1 / 12, 3 / 12, 5 / 12, 7 / 12, 9 / 12, 11 / 12])
    assert slices.with_lesion.tolist() == [i in (2, 8) for i in range(12)]
    assert int(slices.lesions[2].sum()) == 30


def test_slices_with_little_brain_at_the_ends_can_be_left_out():
    thin = case()
    thin.brain[1, 5:] = False
    assert head_slices([thin]).count[0] == 6
    # One row of brain is 18 voxels of 0.02 mL.
    assert head_slices([thin], smallest_brain_ml=0.36).count[0] == 5
    with pytest.raises(DataError, match="enough brain"):
        head_slices([thin], smallest_brain_ml=1000)


def test_a_cut_scan_is_told_from_a_whole_one():
    slices = head_slices([case(0), case(1)])
    assert slices[6:].starts().tolist() == [0]
    assert len(slices[[2, 3]].images) == 2
    for part in (slices[1:], slices[:-1], slices[torch.tensor([0, 1, 2, 4, 3, 5])], slices[:0]):
        with pytest.raises(DataError, match="whole scans"):
            part.starts()


def test_what_was_painted_is_kept_and_how_much_of_it_the_window_leaves():
    slices = head_slices([case()], truth=True)
    assert slices.lowered_hu[2, 8:14, 5:10].eq(6).all()
    assert int((slices.lowered_hu > 0).sum()) == 30
    now = case().image.array[3, 8:14, 5:10]
    expected = np.clip(now + 6, 30, 100) - np.clip(now, 30, 100)
    np.testing.assert_allclose(slices.seen_hu[2, 8:14, 5:10], expected, atol=1e-4)
    assert float(slices.seen_hu.sum()) < float(slices.lowered_hu.sum())
    wide = head_slices([case()], truth=True, window_hu=(-100.0, 200.0))
    np.testing.assert_allclose(wide.seen_hu, wide.lowered_hu, atol=1e-3)
    assert head_slices([case()]).lowered_hu is None


def test_cases_that_cannot_be_used_are_refused_by_name():
    with pytest.raises(DataError, match=r"made-1.*no lesion"):
        head_slices([case(), dataclasses.replace(case(1), lesion=None)])
    with pytest.raises(DataError, match=r"made-0.*no brain"):
        head_slices([dataclasses.replace(case(), brain=None)])
    with pytest.raises(DataError, match=r"made-2.*infarct_hu"):
        head_slices([case(2, painted=False)], truth=True)
    with pytest.raises(DataError, match="at least one"):
        head_slices([])
    other = dataclasses.replace(
        case(1), image=Volume(np.zeros((8, 8, 8), np.float32), np.eye(4)), brain=np.ones((8, 8, 8), bool)
    )
    other = dataclasses.replace(other, lesion=np.zeros((8, 8, 8), bool))
    with pytest.raises(DataError, match="sizes"):
        head_slices([case(), other])


def test_a_crop_keeps_the_middle_column_in_the_middle_and_the_brain_inside():
    rows, columns = midline_box(case().brain, (24, 20))
    assert (rows, columns) == (slice(3, 27), slice(2, 22))
    cropped, whole = head_slices([case()], crop=(24, 20)), head_slices([case()])
    assert torch.equal(cropped.images, whole.images[:, :, rows, columns])
    assert torch.equal(cropped.images.flip(-1), whole.images.flip(-1)[:, :, rows, columns])
    assert torch.equal(cropped.brains, whole.brains[:, rows, columns])
    for size in ((24, 19), (31, 20), (24, 26), (0, 20)):
        with pytest.raises(ParameterError, match="crop"):
            midline_box(case().brain, size)


def test_alignment_takes_the_painted_change_along_with_the_reference():
    ends = np.tile(np.array([[10.5, 4.0], [10.5, 26.0]]), (8, 1, 1))
    moved = align_with_truth(case(), ends).case
    np.testing.assert_allclose(moved.truth["infarct_hu"][3, 8:14, 6:11], -6, atol=1e-4)
    assert moved.lesion[3, 8:14, 6:11].all()
    np.testing.assert_allclose(moved.truth["infarct_hu"].sum(), -180, rtol=1e-4)
    assert align_with_truth(case(painted=False), ends).case.truth == {}


def test_the_sampler_of_plain_slices_takes_these_too():
    batch = next(SliceSampler(head_slices([case(0), case(1)]), 5, seed=0, lesion_share=1.0))
    assert batch.images.shape == (5, 1, 30, 24)
    assert batch.lesions.flatten(1).any(1).all()


def test_augmentations_that_turn_or_shift_are_refused_where_sides_are_compared():
    for good in (NONE, ALIGNED_AUGMENTATION):
        check_keeps_alignment(good)
    for bad in (Augmentation(), dataclasses.replace(NONE, shift=0.01), dataclasses.replace(NONE, rotation_deg=1.0)):
        with pytest.raises(ParameterError, match="0 for both"):
            check_keeps_alignment(bad)
