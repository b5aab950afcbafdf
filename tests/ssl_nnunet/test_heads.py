"""Heads: the brain's box, normalised, on one channel or two, and the same seen from the other side."""

import dataclasses

import numpy as np
import pytest
import torch

from strokelib.data.augment3d import NONE_3D
from strokelib.data.cases import Case, Volume
from strokelib.data.contralateral import CLIP_HU
from strokelib.data.grids import AIR_HU, Grid
from strokelib.data.patches import PatchSampler
from strokelib.errors import DataError
from strokelib.ssl_nnunet.heads import Head, heads_of
from strokelib.ssl_nnunet.volumes import on_case_grid

SHAPE = (5, 12, 16)
BOX = (slice(1, 4), slice(2, 10), slice(3, 15))


class Made:
    """A normaliser by hand: limits, mean and SD of each channel."""

    def apply(self, values, channel=0):
        low, high, mean, sd = ((5.0, 60.0, 30.0, 10.0), (-20.0, 30.0, 1.0, 5.0))[channel]
        return ((np.clip(values, low, high) - mean) / sd).astype(np.float32)


def case(number=0):
    rng = np.random.default_rng(number)
    brain = np.zeros(SHAPE, bool)
    brain[BOX] = True
    brain[1, 2, 3] = False
    lesion = np.zeros(SHAPE, bool)
    lesion[2, 4:6, 4:6] = True
    lesion[0, 0, 0] = True
    image = rng.uniform(-50, 500, SHAPE).astype(np.float32)
    other = np.where(brain, rng.uniform(0, 70, SHAPE), AIR_HU).astype(np.float32)
    other[2, 5, 5] = AIR_HU
    grid = Grid.centred(SHAPE, (5.0, 4.0, 4.0), np.zeros(3))
    volume = Volume(image, grid.affine)
    return Case(f"made-{number}", "p", "icoais", "train", volume, lesion, brain, channels={"contralateral": other})


def test_a_head_is_the_box_of_its_brain_clipped_and_normalised():
    one = case()
    (head,) = heads_of([one], Made())
    assert isinstance(head, Head)
    assert (head.images.shape, head.images.dtype) == ((1, 3, 8, 12), torch.float32)
    wanted = (np.clip(one.image.array[BOX], 5, 60) - 30) / 10
    inside = head.brain.numpy()
    np.testing.assert_allclose(head.images[0].numpy()[inside], wanted[inside], rtol=1e-5)
    assert head.images[0][~head.brain].eq(-2.5).all()
    assert head.fill.tolist() == [-2.5]
    assert (head.id, head.cohort, head.spacing) == ("made-0", "icoais", (5.0, 4.0, 4.0))
    assert head.contralateral is None
    assert head.lesions.sum() == 4
    assert np.array_equal(inside, one.brain[BOX])


def test_the_difference_is_contralateral_minus_ct_and_0_hu_where_a_side_is_missing():
    one = case()
    (head,) = heads_of([one], Made(), difference=True)
    assert head.images.shape[0] == 2
    both = one.brain[BOX].copy()
    both[1, 3, 2] = False
    hu = np.clip(one.channels["contralateral"][BOX], *CLIP_HU) - np.clip(one.image.array[BOX], *CLIP_HU)
    wanted = (np.clip(np.where(both, hu, 0), -20, 30) - 1) / 5
    np.testing.assert_allclose(head.images[1].numpy(), wanted, atol=1e-5)
    assert head.fill.tolist() == pytest.approx([-2.5, -0.2])
    assert head.images[1][~head.brain].eq(head.fill[1]).all()


def test_the_other_side_is_normalised_as_the_scan_and_sees_the_difference_with_the_other_sign():
    one = case()
    (head,) = heads_of([one], Made(), difference=True, contralateral=True)
    other = np.where(one.brain, one.channels["contralateral"], AIR_HU)[BOX]
    np.testing.assert_allclose(head.contralateral[0].numpy(), (np.clip(other, 5, 60) - 30) / 10, rtol=1e-5)
    both = one.brain[BOX].copy()
    both[1, 3, 2] = False
    hu = np.clip(one.image.array[BOX], *CLIP_HU) - np.clip(other, *CLIP_HU)
    wanted = (np.clip(np.where(both, hu, 0), -20, 30) - 1) / 5
    np.testing.assert_allclose(head.contralateral[1].numpy(), wanted, atol=1e-5)
    (alone,) = heads_of([one], Made(), contralateral=True)
    assert torch.equal(alone.contralateral, head.contralateral[:1])
    assert head.mib > alone.mib > heads_of([one], Made())[0].mib


def test_heads_can_be_seen_at_another_voxel_size_and_predictions_come_back_to_the_case():
    one = case()
    (head,) = heads_of([one], Made(), spacing_mm=(5.0, 8.0, 8.0), difference=True, contralateral=True)
    assert head.spacing == pytest.approx((5.0, 8.0, 8.0))
    assert head.images.shape == (2, 3, 4, 7)
    found = on_case_grid(head.placed(torch.ones(head.brain.shape)), one)
    assert found.shape == SHAPE
    np.testing.assert_allclose(found[one.brain], 1, atol=1e-5)
    with pytest.raises(DataError, match="shape"):
        head.placed(torch.ones(1, 2, 3))


def test_a_prediction_on_the_own_grid_is_put_back_exactly():
    one = case()
    (head,) = heads_of([one], Made())
    found = on_case_grid(head.placed(head.images[0]), one)
    wanted = np.where(one.brain, (np.clip(one.image.array, 5, 60) - 30) / 10, 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_the_patch_sampler_of_the_library_reads_heads():
    heads = heads_of([case(i) for i in range(2)], Made(), difference=True)
    batch = next(PatchSampler(heads, (4, 10, 10), 4, 0, 0.5, NONE_3D))
    assert batch.images.shape == (4, 2, 4, 10, 10)
    assert [bool(one.any()) for one in batch.lesions][1::2] == [True, True]
    for number in range(2):  # four slices of a box of three: one of them is background
        levels = batch.images[:, number].eq(heads[0].fill[number]).flatten(2).all(dim=2)
        assert levels.any(dim=1).all()


def test_what_cannot_be_read_is_refused():
    one = case()
    with pytest.raises(DataError, match="no reference"):
        heads_of([dataclasses.replace(one, lesion=None)], Made())
    assert heads_of([dataclasses.replace(one, lesion=None)], Made(), unlabelled=True)[0].lesions.sum() == 0
    with pytest.raises(DataError, match="with_contralateral"):
        heads_of([dataclasses.replace(one, channels={})], Made(), contralateral=True)
    with pytest.raises(DataError, match="no brain voxel"):
        heads_of([dataclasses.replace(one, brain=np.zeros(SHAPE, bool))], Made())
    broken = one.image.array.copy()
    broken[2, 5, 6] = np.nan
    with pytest.raises(DataError, match="not finite"):
        heads_of([dataclasses.replace(one, image=one.image.with_array(broken))], Made())
    with pytest.raises(DataError, match="none"):
        heads_of([], Made())
