import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from strokelib.data.cases import Case, Volume
from strokelib.data.loading import case_images
from strokelib.data.volumes import volumes_of
from strokelib.errors import DataError

SHAPES = ((6, 20, 16), (9, 14, 18), (4, 12, 12))


def case(number=0, lesion=True):
    rng = np.random.default_rng(number)
    shape = SHAPES[number % 3]
    image = rng.normal(35, 10, shape).astype(np.float32)
    brain = np.zeros(shape, bool)
    brain[1:-1, 3:-3, 2:-2] = True
    mask = np.zeros(shape, bool)
    if lesion:
        mask[2, 5:8, 4:7] = True
        mask[2, 0, 0] = True
    affine = np.diag([2.0, 2.0, 4.0 + number, 1.0])
    return Case(f"made-{number}", f"p{number}", "made", "train", Volume(image, affine), mask, brain)


class OnDisk(Sequence):
    """Cases that count how often they are read."""

    def __init__(self, cases):
        self.cases, self.reads = cases, 0

    def __len__(self):
        return len(self.cases)

    def __getitem__(self, index):
        found = self.cases[index]
        self.reads += isinstance(found, Case)
        return found


def test_cases_of_different_shapes_and_voxels_stand_side_by_side():
    volumes = volumes_of([case(i) for i in range(3)])
    assert len(volumes) == 3
    assert volumes.shapes == SHAPES
    for i, scan in enumerate(volumes):
        assert (scan.images.shape, scan.images.dtype) == ((1, *SHAPES[i]), torch.float32)
        assert (scan.lesions.shape, scan.lesions.dtype) == (SHAPES[i], torch.uint8)
        assert scan.spacing == (4.0 + i, 2.0, 2.0)
        np.testing.assert_array_equal(scan.images[0].numpy(), case_images(case(i), (0, 80), "unit"))


def test_the_places_of_lesion_are_known_without_the_scans():
    volumes = volumes_of([case(0), case(1, lesion=False), case(2)])
    assert volumes.with_lesion.tolist() == [True, False, True]
    for scan, places in zip(volumes, volumes.lesion_voxels, strict=True):
        np.testing.assert_array_equal(places, np.flatnonzero(scan.lesions.numpy()))
    assert len(volumes.lesion_voxels[0]) == 9  # the voxel outside the brain does not count


@pytest.mark.parametrize("normalise", ["unit", "zscore"])
def test_the_fill_is_what_stands_outside_the_brain(normalise):
    scan = volumes_of([case(0)], normalise=normalise)[0]
    outside = scan.images[:, torch.from_numpy(~case(0).brain)]
    assert outside.eq(scan.fill[:, None]).all()


def test_what_fits_stays_in_memory_and_the_rest_is_read_again():
    cases = OnDisk([case(3 * i) for i in range(6)])
    one_mib = volumes_of(cases[:1])[0].mib
    cases.reads = 0
    volumes = volumes_of(cases, cache_mib=2.5 * one_mib)
    assert cases.reads == 6
    assert volumes.kept_mib == pytest.approx(2 * one_mib)
    for _ in range(3):
        assert len([scan for scan in volumes]) == 6
    assert cases.reads == 6 + 3 * 4
    everything = volumes_of(cases)
    for kept, read in zip(everything, volumes, strict=True):
        assert torch.equal(kept.images, read.images)
        assert torch.equal(kept.lesions, read.lesions)


def test_further_channels_follow_the_image():
    def mirrored(one):
        return case_images(one, (0, 80), "unit")[None, :, :, ::-1] - 3

    scan = volumes_of([case(0)], channels=mirrored, crop=True)[0]
    assert scan.images.shape == (2, 4, 14, 12)
    assert torch.equal(scan.images[1], scan.images[0].flip(-1) - 3)
    assert scan.fill.tolist() == [float(part.min()) for part in scan.images]


@pytest.mark.parametrize("bad", [np.zeros((6, 20, 16)), np.zeros((1, 6, 20, 15)), np.full((1, 6, 20, 16), np.nan)])
def test_further_channels_of_another_shape_or_with_holes_are_refused(bad):
    with pytest.raises(DataError, match="further channels of case made-0"):
        volumes_of([case(0)], channels=lambda one: bad)


def test_a_crop_is_the_box_of_the_brain():
    whole, cropped = volumes_of([case(0)])[0], volumes_of([case(0)], crop=True)[0]
    assert torch.equal(cropped.images, whole.images[:, 1:5, 3:17, 2:14])
    assert torch.equal(cropped.lesions, whole.lesions[1:5, 3:17, 2:14])


def test_a_case_without_reference_is_refused_unless_none_is_needed():
    bare = dataclasses.replace(case(1), lesion=None)
    with pytest.raises(DataError, match="made-1"):
        volumes_of([case(0), bare])
    volumes = volumes_of([case(0), bare], unlabelled=True)
    assert volumes.with_lesion.tolist() == [True, False]
    with pytest.raises(DataError, match="at least one"):
        volumes_of([])


def test_scans_are_counted_from_the_end_too_and_no_further_than_they_reach():
    volumes = volumes_of([case(0), case(1)])
    assert torch.equal(volumes[-1].images, volumes[1].images)
    with pytest.raises(IndexError):
        volumes[2]
