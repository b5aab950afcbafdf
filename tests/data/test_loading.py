import dataclasses

import numpy as np
import pytest
import torch

from strokelib.data.augment import NONE, Augmentation, augment
from strokelib.data.cases import Case, Volume
from strokelib.data.loading import Batch, SliceSampler, brain_box, case_images, slices_of
from strokelib.errors import DataError, ParameterError

STRONG = Augmentation(rotation_deg=20, zoom=0.2, shift=0.1, contrast=0.3, brightness=0.1, noise=0.05)


def case(number=0, lesion=True):
    rng = np.random.default_rng(number)
    image = rng.normal(35, 10, (6, 20, 16)).astype(np.float32)
    brain = np.zeros(image.shape, bool)
    brain[1:5, 3:17, 2:14] = True
    image[~brain] = 900
    mask = np.zeros(image.shape, bool)
    if lesion:
        mask[2, 5:9, 4:8] = True
        mask[2, 0, 0] = True
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    return Case(f"made-{number}", f"p{number}", "made", "train", Volume(image, affine), mask, brain)


def test_the_image_is_clipped_to_the_window_and_its_lower_end_fills_what_is_not_brain():
    image = case_images(case(), (0, 80), "unit")
    assert image.dtype == np.float32
    assert image[~case().brain].max() == 0
    inside = case().brain
    np.testing.assert_allclose(image[inside], np.clip(case().image.array[inside], 0, 80) / 80, rtol=1e-6)


def test_zscore_has_mean_0_and_sd_1_over_the_brain_of_the_scan():
    image, brain = case_images(case(), (0, 80), "zscore"), case().brain
    assert image[brain].mean() == pytest.approx(0, abs=1e-4)
    assert image[brain].std() == pytest.approx(1, abs=1e-4)
    assert len(np.unique(image[~brain])) == 1
    assert image[~brain].max() <= image[brain].min()


@pytest.mark.parametrize(("window", "normalise"), [((80, 0), "unit"), ((0, 80), "minmax")])
def test_an_empty_window_or_an_unknown_normalisation_is_refused(window, normalise):
    with pytest.raises(ParameterError, match=r"window|normalise"):
        case_images(case(), window, normalise)


def test_a_case_without_brain_or_with_infinite_values_is_refused():
    good = case()
    with pytest.raises(DataError, match="no brain voxel"):
        case_images(dataclasses.replace(good, brain=np.zeros_like(good.brain)), (0, 80), "unit")
    bad = good.image.array.copy()
    bad[2, 5, 5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        case_images(dataclasses.replace(good, image=good.image.with_array(bad)), (0, 80), "unit")


def test_slices_are_those_with_brain_and_keep_case_and_level():
    slices = slices_of([case(0), case(1, lesion=False)])
    assert slices.images.shape == (8, 1, 20, 16)
    assert slices.lesions.shape == (8, 20, 16)
    assert slices.case.tolist() == [0] * 4 + [1] * 4
    assert slices.z.tolist() == [1, 2, 3, 4] * 2
    assert slices.with_lesion.tolist() == [False, True] + [False] * 6
    assert slices.lesions[1].sum() == 16
    np.testing.assert_array_equal(slices.images[4, 0], case_images(case(1), (0, 80), "unit")[1])


def test_slices_with_little_brain_can_be_left_out():
    # One slice of brain is 14 x 12 voxels of 20 mm^3.
    assert len(slices_of([case()], smallest_brain_ml=3.35)) == 4
    assert len(slices_of([case()], smallest_brain_ml=3.36)) == 0


def test_cases_without_reference_or_on_other_grids_are_refused():
    with pytest.raises(DataError, match="made-1"):
        slices_of([case(0), dataclasses.replace(case(1), lesion=None)])
    with pytest.raises(DataError, match="at least one"):
        slices_of([])
    small = dataclasses.replace(case(1), image=Volume(np.zeros((6, 8, 8), np.float32), np.eye(4)))
    with pytest.raises(DataError, match="in-plane size"):
        slices_of([case(0), small])


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 0.4, 0.6), (1.0, 1, 1), (None, 0.18, 0.32)])
def test_the_share_of_slices_with_lesion_is_the_one_asked_for(share, low, high):
    sampler = SliceSampler(slices_of([case(i) for i in range(4)]), 400, seed=1, lesion_share=share)
    assert low <= float(next(sampler).lesions.flatten(1).any(1).float().mean()) <= high


def test_a_share_that_the_data_cannot_give_is_refused():
    with pytest.raises(DataError, match="0 of 4 with lesion"):
        SliceSampler(slices_of([case(lesion=False)]), 2, seed=0, lesion_share=0.5)


def test_a_batch_has_the_shapes_and_types_that_a_network_takes():
    batch = next(SliceSampler(slices_of([case()]), 3, seed=0, augmentation=STRONG))
    assert isinstance(batch, Batch)
    assert (batch.images.shape, batch.images.dtype) == ((3, 1, 20, 16), torch.float32)
    assert (batch.lesions.shape, batch.lesions.dtype) == ((3, 20, 16), torch.int64)
    assert set(batch.lesions.unique().tolist()) <= {0, 1}


def test_a_restored_position_continues_the_same_stream():
    slices = slices_of([case(i) for i in range(3)])
    sampler = SliceSampler(slices, 4, seed=7, augmentation=STRONG)
    next(sampler)
    state = sampler.state_dict()
    expected = [next(sampler) for _ in range(2)]
    again = SliceSampler(slices, 4, seed=7, augmentation=STRONG)
    again.load_state_dict(state)
    for batch in expected:
        other = next(again)
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.lesions, other.lesions)
    with pytest.raises(ParameterError, match="seed 7"):
        SliceSampler(slices, 4, seed=8).load_state_dict(state)


def test_a_sample_does_not_depend_on_the_batch_it_is_in():
    slices = slices_of([case(i) for i in range(3)])
    large = next(SliceSampler(slices, 6, seed=2, augmentation=STRONG))
    small = SliceSampler(slices, 2, seed=2, augmentation=STRONG)
    parts = [next(small) for _ in range(3)]
    assert torch.equal(large.lesions, torch.cat([p.lesions for p in parts]))
    torch.testing.assert_close(large.images, torch.cat([p.images for p in parts]))


def test_the_order_of_draws_is_another_with_another_seed():
    slices = slices_of([case(i) for i in range(3)])
    assert not torch.equal(next(SliceSampler(slices, 8, seed=0)).images, next(SliceSampler(slices, 8, seed=1)).images)


def blob(size=48):
    y, x = np.mgrid[:size, :size]
    inside = torch.from_numpy(((y - 20) / 6) ** 2 + ((x - 30) / 9) ** 2 < 1)
    return inside.float()[None, None], inside.long()[None]


def rngs(n=1, seed=0):
    return [np.random.default_rng((seed, i)) for i in range(n)]


def test_no_augmentation_changes_nothing():
    image, lesion = blob()
    same, mask = augment(image, lesion, NONE, rngs())
    assert torch.equal(same, image)
    assert torch.equal(mask, lesion)


def test_a_certain_mirror_is_the_reversal_of_the_last_axis():
    image, lesion = blob()
    flipped, mask = augment(image, lesion, dataclasses.replace(NONE, mirror=1.0), rngs())
    torch.testing.assert_close(flipped, image.flip(-1), atol=1e-4, rtol=0)
    assert torch.equal(mask, lesion.flip(-1))


@pytest.mark.parametrize("seed", range(5))
def test_image_and_lesion_move_together(seed):
    image, lesion = blob()
    settings = Augmentation(rotation_deg=20, zoom=0.2, shift=0.1, contrast=0, brightness=0, noise=0)
    moved, mask = augment(image, lesion, settings, rngs(seed=seed))
    assert not torch.equal(mask, lesion)
    assert torch.equal(mask[0], (moved[0, 0] >= 0.5).long())


@pytest.mark.parametrize("size", [(48, 48), (48, 32)])
def test_a_rotation_keeps_area_and_centre_on_any_grid(size):
    y, x = np.mgrid[: size[0], : size[1]]
    disc = torch.from_numpy((y - (size[0] - 1) / 2) ** 2 + (x - (size[1] - 1) / 2) ** 2 < 10**2)
    _, mask = augment(disc.float()[None, None], disc.long()[None], dataclasses.replace(NONE, rotation_deg=90), rngs())
    assert (mask[0] != disc).float().mean() < 0.01


def test_intensity_changes_leave_the_background_alone():
    image = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0)) + 0.1
    image[:, :, :4] = 0
    settings = dataclasses.replace(NONE, contrast=0.3, brightness=0.1, noise=0.05)
    changed, _ = augment(image, torch.zeros(2, 12, 12), settings, rngs(2))
    assert changed[:, :, :4].eq(0).all()
    assert (changed[:, :, 4:] - image[:, :, 4:]).abs().mean() > 0.01


def test_a_window_about_the_brain_holds_it_and_stays_inside_the_grid():
    brain = np.zeros((3, 40, 50), bool)
    brain[1, 10:31, 30:49] = True
    rows, columns = brain_box(brain)
    assert (rows, columns) == (slice(4, 36), slice(18, 50))
    assert brain_box(brain, (20, 10)) == (slice(10, 30), slice(34, 44))
    assert brain_box(brain, (40, 64)) == (slice(0, 40), slice(0, 50))


def test_cropped_slices_are_the_window_of_the_whole_ones():
    whole, cropped = slices_of([case(0)]), slices_of([case(0)], crop=(16, 12))
    rows, columns = brain_box(case(0).brain, (16, 12))
    assert torch.equal(cropped.images, whole.images[:, :, rows, columns])
    assert torch.equal(cropped.lesions, whole.lesions[:, rows, columns])
