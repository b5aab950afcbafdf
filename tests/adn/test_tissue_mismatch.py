"""R_GW against a loop over voxel pairs, by hand, and what cutting out the lesion does to it."""

import numpy as np
import pytest
import torch

from strokelib.adn.tissue_mismatch import tissue_mismatch, without_lesion
from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror

SHAPE = (2, 1, 2, 3, 6)


def row(*values):
    """A volume of one row of voxels, right to left."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 1, -1)


@pytest.fixture
def tissue():
    """Binary maps of grey and white that do not overlap; some voxels are neither."""
    labels = torch.randint(3, SHAPE, generator=torch.Generator().manual_seed(1))
    return (labels == 1).float(), (labels == 2).float()


@pytest.mark.parametrize("form", ["two-sided", "one-sided"])
def test_binary_maps_give_the_logical_relation_of_each_pair_of_voxels(tissue, form):
    grey, white = tissue
    found = tissue_mismatch(grey, white, form)
    assert found.dtype == torch.float32
    for place in np.ndindex(*SHAPE):
        other = (*place[:-1], SHAPE[-1] - 1 - place[-1])
        expected = grey[other] and white[place]
        if form == "two-sided":
            expected = expected or (grey[place] and white[other])
        assert bool(found[place]) == bool(expected)
    assert set(found.unique().tolist()) == {0.0, 1.0}


def test_the_mismatch_of_six_voxels_by_hand():
    grey, white = row(1, 1, 0, 0, 0, 0), row(0, 0, 1, 0, 1, 1)
    # Pairs: voxels 0 and 5, 1 and 4: grey and white; 2 and 3: white and neither.
    assert tissue_mismatch(grey, white).flatten().tolist() == [1, 1, 0, 0, 1, 1]
    assert tissue_mismatch(grey, white, "one-sided").flatten().tolist() == [0, 0, 0, 0, 1, 1]


def test_the_two_sided_mask_is_its_own_mirror_image_and_the_one_sided_mask_with_its_mirror_image(tissue):
    grey, white = tissue
    two, one = tissue_mismatch(grey, white), tissue_mismatch(grey, white, "one-sided")
    assert torch.equal(two, mirror(two))
    assert torch.equal(two, torch.maximum(one, mirror(one)))
    assert not torch.equal(one, mirror(one))
    assert (one * mirror(one)).sum() == 0


def test_where_white_is_darker_than_grey_the_one_sided_mask_is_the_asymmetric_half(tissue):
    grey, white = tissue
    x = 0.36 * grey + 0.28 * white
    total = (mirror(x) - x).relu()
    one, two = tissue_mismatch(grey, white, "one-sided"), tissue_mismatch(grey, white)
    assert (total[one > 0] > 0).all()
    assert (total[(two > 0) & (one == 0)] == 0).all()


def test_soft_maps_multiply_and_partial_volume_counts_on_both_sides():
    half = row(0.5, 0.5)
    assert tissue_mismatch(half, half).flatten().tolist() == [0.5, 0.5]
    grey, white = row(0.8, 0.3), row(0.2, 0.6)
    # 0.3 0.2 + 0.8 0.6 at both voxels; one-sided 0.3 0.2 at the first and 0.8 0.6 at the second.
    assert tissue_mismatch(grey, white).flatten().tolist() == pytest.approx([0.54, 0.54])
    assert tissue_mismatch(grey, white, "one-sided").flatten().tolist() == pytest.approx([0.06, 0.48])


def test_maps_that_overlap_still_give_no_more_than_one():
    assert tissue_mismatch(row(1, 1), row(1, 1)).flatten().tolist() == [1, 1]


def test_a_head_of_one_tissue_has_no_mismatch(tissue):
    grey, _ = tissue
    assert tissue_mismatch(grey, torch.zeros_like(grey)).sum() == 0


def test_the_lesion_is_cut_out_and_its_mirror_image_by_name():
    mask, lesion = row(1, 1, 0.5, 0.5, 1, 1), row(1, 0, 1, 0, 0, 0)
    assert without_lesion(mask, lesion).flatten().tolist() == [0, 1, 0, 0.5, 1, 1]
    assert without_lesion(mask, lesion, also_mirror=True).flatten().tolist() == [0, 1, 0, 0, 1, 0]
    assert torch.equal(without_lesion(mask, lesion.bool()), without_lesion(mask, lesion))
    assert torch.equal(without_lesion(mask, 0 * lesion), mask)


def test_cutting_the_lesion_from_both_tissues_first_is_cutting_its_mirror_image_too(tissue):
    grey, white = tissue
    lesion = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(2)) < 0.3).float()
    first = tissue_mismatch(grey * (1 - lesion), white * (1 - lesion))
    assert torch.equal(first, without_lesion(tissue_mismatch(grey, white), lesion, also_mirror=True))
    assert not torch.equal(first, without_lesion(tissue_mismatch(grey, white), lesion))


def test_another_form_or_shape_is_refused(tissue):
    grey, white = tissue
    with pytest.raises(ParameterError, match="two-sided or one-sided"):
        tissue_mismatch(grey, white, "both")
    with pytest.raises(ParameterError, match="grey and white"):
        tissue_mismatch(grey, white[:1])
    with pytest.raises(ParameterError, match="mask and lesion"):
        without_lesion(grey, grey[:, 0])
