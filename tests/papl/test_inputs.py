"""Slices as a recipe has them: larger pixels, the midline in their middle; and the way back to the case's grid."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from made_slices import head_slices as made_slices
from made_trainings import HOW, Scaled, made_heads, segmentation, steady

from strokelib.data.cases import Volume
from strokelib.data.loading import case_images
from strokelib.errors import DataError, ParameterError
from strokelib.papl.inputs import pooled, recipe_slices, segment
from strokelib.papl.slices import head_slices

CASE = made_heads.head(1, **HOW)


@pytest.fixture(autouse=True)
def _steady(monkeypatch):
    steady(monkeypatch)


def moved(case, columns):
    """The same head farther to the right; what leaves the grid comes in on the other side."""

    def roll(values):
        return np.roll(values, columns, axis=2)

    image = Volume(roll(case.image.array), case.image.affine)
    return dataclasses.replace(case, image=image, brain=roll(case.brain), lesion=roll(case.lesion))


def cut(case, rows, columns):
    """The same head on a smaller grid."""
    kept = (slice(None), slice(0, rows), slice(0, columns))
    image = Volume(case.image.array[kept], case.image.affine)
    return dataclasses.replace(case, image=image, brain=case.brain[kept], lesion=case.lesion[kept], truth={})


def z_scored(case, window=(0.0, 80.0)):
    unit = case_images(case, window, "unit")
    inside = unit[case.brain].astype(np.float64)
    return (unit - inside.mean()) / inside.std()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def block_means(values, factor=2):
    *rest, height, width = values.shape
    return values.reshape(*rest, height // factor, factor, width // factor, factor).mean(axis=(-3, -1))


def twice_as_fine(values):
    """Doubling by hand: a fine pixel lies a quarter of a coarse one from the centre, beyond the border nothing new."""
    for axis in (1, 2):
        padded = np.concatenate([values.take([0], axis), values, values.take([-1], axis)], axis)
        n = values.shape[axis]
        before, here, after = (padded.take(range(start, start + n), axis) for start in (0, 1, 2))
        pair = np.stack([0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after], axis + 1)
        values = pair.reshape([2 * n if a == axis else s for a, s in enumerate(values.shape)])
    return values


# Larger pixels


def test_a_large_pixel_is_the_mean_of_the_small_ones_and_what_at_least_half_of_them_are():
    slices = made_slices((3,), (4, 6))
    slices.lesions[0, :2, :2] = torch.tensor([[1, 1], [0, 0]])
    slices.lesions[0, 2:, :2] = torch.tensor([[1, 0], [0, 0]])
    slices.brains[:] = False
    slices.brains[1, :2, 2:4] = torch.tensor([[True, False], [True, False]])
    slices.brains[1, :2, 4:] = torch.tensor([[False, False], [True, False]])
    slices = dataclasses.replace(slices, lowered_hu=torch.arange(72.0).reshape(3, 4, 6))
    found = pooled(slices, 2)
    np.testing.assert_allclose(found.images, block_means(slices.images.numpy()), rtol=1e-5)
    np.testing.assert_allclose(found.lowered_hu, block_means(slices.lowered_hu.numpy()))
    assert found.seen_hu is None
    assert found.lesions.dtype == torch.uint8
    assert torch.nonzero(found.lesions).tolist() == [[0, 0, 0]]
    assert torch.nonzero(found.brains).tolist() == [[1, 0, 1]]
    assert found.pixel_mm.tolist() == [8.0] * 3
    for name in ("case", "z", "index", "count", "fill", "deviation"):
        assert torch.equal(getattr(found, name), getattr(slices, name))


def test_pixels_of_the_old_size_are_left_as_they_are():
    slices = made_slices()
    assert pooled(slices, 1) is slices


def test_the_middle_column_stays_the_middle():
    symmetric = made_slices((3,), (12, 20))
    images = symmetric.images + symmetric.images.flip(-1)
    found = pooled(dataclasses.replace(symmetric, images=images), 2).images
    torch.testing.assert_close(found, found.flip(-1))
    recipe = segmentation(crop=(24, 24), pool=2)
    found = recipe_slices([CASE], recipe)
    assert found.images.shape[2:] == recipe.shape == (12, 12)
    # The outline of the made head is symmetric about the middle column.
    assert torch.equal(found.brains, found.brains.flip(-1))
    assert not torch.equal(found.brains, found.brains.roll(1, -1))


@pytest.mark.parametrize("factor", [0, -1, 3, 16])
def test_pixels_that_do_not_fill_the_slice_are_refused(factor):
    with pytest.raises(ParameterError, match="pool"):
        pooled(made_slices((3,), (8, 20)), factor)


def test_a_pooled_image_is_still_the_window_rescaled():
    recipe = segmentation(crop=(24, 24), pool=2)
    fine, coarse = recipe_slices([CASE], segmentation(crop=(24, 24))), recipe_slices([CASE], recipe)
    torch.testing.assert_close(coarse.unit[:, 0], torch.from_numpy(block_means(fine.unit[:, 0].numpy())))


# Slices of a recipe


def test_slices_have_the_window_the_crop_the_ends_and_the_pixels_of_the_recipe():
    recipe = segmentation(window_hu=(30.0, 100.0), crop=(28, 24), pool=2, smallest_brain_ml=2.0)
    expected = head_slices([CASE], window_hu=(30.0, 100.0), crop=(28, 24), smallest_brain_ml=2.0)
    found = recipe_slices([CASE], recipe)
    assert torch.equal(found.images, pooled(expected, 2).images)
    assert found.lowered_hu is None
    assert found.z.tolist() == list(range(1, 9))
    thin = dataclasses.replace(CASE, brain=CASE.brain.copy())
    thin.brain[1, 6:] = False
    voxels = int(thin.brain[1].sum())
    for limit_ml, first in ((0.08 * voxels - 0.01, 1), (0.08 * voxels + 0.01, 2)):
        assert recipe_slices([thin], segmentation(smallest_brain_ml=limit_ml)).z[0] == first


def test_what_was_painted_comes_along_where_it_is_asked_for():
    painted = np.where(CASE.lesion, -12.0, 0.0).astype(np.float32)
    case = dataclasses.replace(CASE, truth={"infarct_hu": painted})
    found = recipe_slices([case], segmentation(pool=2), truth=True)
    np.testing.assert_allclose(found.lowered_hu, block_means(-painted[1:-1]), atol=1e-5)


def test_a_recipe_without_a_crop_says_no_shape():
    assert segmentation().shape is None
    assert segmentation(crop=(96, 64), pool=2).shape == (48, 32)


# Back to the case's grid


@pytest.mark.parametrize("crop", [None, (28, 24)])
def test_a_map_is_on_the_cases_grid_and_is_the_networks_pixel_by_pixel(crop):
    found = segment(Scaled(), segmentation(crop=crop), CASE)
    assert (found.shape, found.dtype) == (CASE.image.array.shape, np.float32)
    np.testing.assert_allclose(found, np.where(CASE.brain, sigmoid(z_scored(CASE)), 0), atol=1e-5)
    assert (found[~CASE.brain] == 0).all()
    assert (found[CASE.brain] > 0).all()


@pytest.mark.parametrize("crop", [None, (28, 24)])
def test_with_larger_pixels_the_probabilities_are_doubled_and_not_the_logits(crop):
    rows, columns = (slice(0, 32), slice(0, 32)) if crop is None else (slice(2, 30), slice(4, 28))
    assert not CASE.brain[:, : rows.start].any()
    assert not CASE.brain[:, rows.stop :].any()
    found = segment(Scaled(3.0), segmentation(crop=crop, pool=2), CASE)
    expected = np.zeros(CASE.brain.shape)
    small = block_means(z_scored(CASE)[:, rows, columns])
    expected[:, rows, columns] = twice_as_fine(sigmoid(3 * small))
    np.testing.assert_allclose(found, np.where(CASE.brain, expected, 0), atol=1e-5)
    other = np.zeros(CASE.brain.shape)
    other[:, rows, columns] = sigmoid(twice_as_fine(3 * small))
    assert np.abs(found - np.where(CASE.brain, other, 0)).max() > 0.01


def test_the_network_sees_in_a_scan_what_it_saw_in_training():
    for recipe in (segmentation(), segmentation(crop=(28, 24), pool=2, window_hu=(30.0, 100.0))):
        model = Scaled()
        segment(model, recipe, CASE, batch=3)
        assert [len(x) for x in model.seen] == [3, 3, 2]
        torch.testing.assert_close(torch.cat(model.seen), recipe_slices([CASE], recipe).images, rtol=0, atol=1e-5)


class Holder(nn.Module):
    """Stands for PAPL: it takes triplets, its backbone takes slices."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, front, middle, rear):
        raise AssertionError("one slice is not a triplet")


def test_of_papl_the_backbone_segments():
    found = segment(Holder(Scaled(2.0)), segmentation(), CASE)
    np.testing.assert_array_equal(found, segment(Scaled(2.0), segmentation(), CASE))


def test_the_size_of_the_batch_the_mode_and_the_reference_change_nothing():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    bare = dataclasses.replace(CASE, lesion=None)
    first = segment(model, segmentation(), CASE, batch=16)
    np.testing.assert_allclose(segment(model.train(), segmentation(), bare, batch=1), first, atol=1e-6)
    assert model.training
    assert first.std() > 0


def test_slices_without_brain_are_not_looked_at():
    hole = dataclasses.replace(CASE, brain=CASE.brain.copy())
    hole.brain[4] = False
    model = Scaled()
    found = segment(model, segmentation(), hole)
    assert sum(len(x) for x in model.seen) == 7
    assert (found[4] == 0).all()
    np.testing.assert_allclose(found, np.where(hole.brain, sigmoid(z_scored(hole)), 0), atol=1e-5)


@pytest.mark.parametrize("columns", [-9, 3, 9])
def test_a_brain_that_is_not_in_the_middle_is_segmented_where_it_lies_and_not_outside_the_crop(columns):
    case = moved(CASE, columns)
    whole = np.where(case.brain, sigmoid(z_scored(case)), 0)
    np.testing.assert_allclose(segment(Scaled(), segmentation(), case), whole, atol=1e-5)
    inside = np.zeros(32, bool)
    inside[4:28] = True
    found = segment(Scaled(), segmentation(crop=(28, 24)), case)
    np.testing.assert_allclose(found, np.where(inside, whole, 0), atol=1e-5)
    assert case.brain[..., ~inside].any()


def test_a_head_narrower_than_the_crop_is_no_matter_and_a_grid_narrower_than_it_is_refused():
    narrow = dataclasses.replace(CASE, brain=CASE.brain & (np.abs(np.arange(32) - 15.5) < 4))
    found = segment(Scaled(), segmentation(crop=(28, 24), pool=2), narrow)
    assert (found > 0).any(axis=(0, 1)).nonzero()[0].tolist() == list(range(12, 20))
    np.testing.assert_allclose(found, np.where(narrow.brain, segment(Scaled(), segmentation(pool=2), narrow), 0))
    for recipe in (segmentation(crop=(28, 34)), segmentation(crop=(34, 24))):
        with pytest.raises(ParameterError, match="crop"):
            segment(Scaled(), recipe, CASE)
        with pytest.raises(ParameterError, match="crop"):
            recipe_slices([CASE], recipe)


def test_odd_sides_are_segmented_as_they_are_and_not_pooled():
    odd = cut(CASE, 31, 29)
    found = segment(Scaled(), segmentation(), odd)
    np.testing.assert_allclose(found, np.where(odd.brain, sigmoid(z_scored(odd)), 0), atol=1e-5)
    for recipe in (segmentation(pool=2), segmentation(pool=0)):
        with pytest.raises(ParameterError, match="pool"):
            segment(Scaled(), recipe, odd)
    # The middle of 29 columns is a column, that of 24 is not.
    with pytest.raises(ParameterError, match="crop"):
        segment(Scaled(), segmentation(crop=(28, 24)), odd)
    found = segment(Scaled(), segmentation(crop=(28, 25)), odd)
    assert (found[:, :, 2:27] > 0).any()


def test_a_case_without_a_brain_is_refused_by_name():
    with pytest.raises(DataError, match=r"head-1(.|\n)*no brain mask"):
        segment(Scaled(), segmentation(), dataclasses.replace(CASE, brain=None))
    for crop in (None, (28, 24)):
        with pytest.raises(DataError, match=r"head-1(.|\n)*no brain voxel"):
            segment(Scaled(), segmentation(crop=crop), dataclasses.replace(CASE, brain=np.zeros_like(CASE.brain)))
