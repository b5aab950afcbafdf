"""From cases to volumes and batches: what moves together, what changes alone, and where parts of heads lie."""

import os
import sys

import numpy as np
import pytest
import torch

from strokelib.adn.batches import HeadSampler, Volumes, head_volumes, matrices_of, middle, with_matrices, with_tissue
from strokelib.adn.recipe import HeadRecipe
from strokelib.adn.volumes import heads_of
from strokelib.errors import DataError, ParameterError

sys.path.insert(0, os.path.dirname(__file__))
import made_heads
from made_heads import identities, turned

CASES = made_heads.heads(range(3), tilt_deg=8.0)
LABELS = {case.id: case.truth["tissue"] for case in CASES}
RECIPE = HeadRecipe.at("smoke", pool=1)
D, H, W = made_heads.SHAPE


def moved_by(cases, matrix):
    return with_matrices(cases, {case.id: matrix for case in cases})


# Channels of a case


def test_matrices_and_tissue_become_channels_of_copies():
    (case,) = with_tissue(moved_by(CASES[:1], np.eye(4)), LABELS)
    assert not CASES[0].channels
    assert case.channels["alignment"].dtype == np.float32
    assert case.channels["tissue"].dtype == np.uint8
    np.testing.assert_array_equal(case.channels["tissue"], LABELS[case.id])
    assert case.image is CASES[0].image


def test_the_matrices_of_cases_come_back_in_their_order():
    given = {case.id: turned(5.0 * number, made_heads.SHAPE) for number, case in enumerate(CASES)}
    found = matrices_of(with_matrices(CASES, given)[::-1])
    assert (found.shape, found.dtype) == ((3, 4, 4), torch.float32)
    for matrix, case in zip(found, CASES[::-1], strict=True):
        np.testing.assert_allclose(matrix, given[case.id], rtol=1e-6)


def test_a_case_without_pose_or_tissue_is_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"head-0(.|\n)*alignment(.|\n)*train T"):
        matrices_of(CASES)
    with pytest.raises(DataError, match=r"head-0(.|\n)*train T"):
        head_volumes(CASES, RECIPE, aligned=True)
    with pytest.raises(DataError, match=r"head-0(.|\n)*tissue(.|\n)*without L_tissue"):
        head_volumes(CASES, RECIPE, aligned=False, tissue=True)


# Whole volumes


def test_volumes_as_scanned_are_the_pooled_heads_and_have_no_tissue_unless_it_is_asked_for():
    recipe = HeadRecipe.at("smoke", pool=2, window_hu=(10.0, 60.0))
    heads, found = heads_of(CASES, window_hu=(10.0, 60.0), pool=2), head_volumes(CASES, recipe, aligned=False)
    assert torch.equal(found.images, heads.images)
    assert torch.equal(found.lesions, heads.lesions)
    assert found.tissues is None
    assert found.spacing == (5.0, 8.0, 8.0)


def test_tissues_are_the_shares_of_grey_white_and_fluid_in_each_block_of_pixels():
    found = head_volumes(with_tissue(CASES, LABELS), HeadRecipe.at("smoke", pool=2), aligned=False, tissue=True)
    assert found.tissues.shape == (3, 3, D, H // 2, W // 2)
    partial = 0
    for n, case in enumerate(CASES):
        for z, y, x in np.ndindex(2, H // 2, W // 2):
            block = LABELS[case.id][z + 6, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            shares = [np.mean(block == number) for number in (1, 2, 3)]
            assert found.tissues[n, :, z + 6, y, x].tolist() == shares
            partial += 0 < shares[0] < 1
    assert partial > 10


def test_an_alignment_that_moves_nothing_changes_nothing():
    cases = with_tissue(with_matrices(CASES, identities(CASES)), LABELS)
    still, aligned = (head_volumes(cases, RECIPE, aligned=a, tissue=True) for a in (False, True))
    for one, other in zip(vars(still).values(), vars(aligned).values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_image_lesion_and_tissue_go_through_the_same_matrix():
    shift = turned(0.0, made_heads.SHAPE, x=3.0, y=-2.0)  # output -> input: what lay at x + 3 comes to x
    cases = with_tissue(moved_by(CASES, shift), LABELS)
    still, aligned = (head_volumes(cases, RECIPE, aligned=a, tissue=True) for a in (False, True))
    for name in ("images", "lesions", "tissues"):
        before, after = getattr(still, name), getattr(aligned, name)
        torch.testing.assert_close(after[..., 2:, :-3], before[..., :-2, 3:], atol=1e-4, rtol=0)
    assert still.lesions.sum() > 0


def test_a_moved_lesion_stays_a_mask_and_keeps_its_volume():
    half = turned(13.0, made_heads.SHAPE, x=0.5)
    still, aligned = (head_volumes(moved_by(CASES, half), RECIPE, aligned=a) for a in (False, True))
    assert set(aligned.lesions.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(still.lesions, aligned.lesions)
    torch.testing.assert_close(aligned.lesions.sum((1, 2, 3, 4)), still.lesions.sum((1, 2, 3, 4)), rtol=0.1, atol=0)


# The window


def test_the_window_lies_in_the_middle_after_the_alignment_and_keeps_the_mirror_axis():
    cases = with_tissue(moved_by(CASES, turned(8.0, made_heads.SHAPE)), LABELS)
    whole = head_volumes(cases, RECIPE, aligned=True, tissue=True)
    cut = head_volumes(cases, RECIPE, aligned=True, tissue=True, crop=(26, 20))
    for name in ("images", "lesions", "tissues"):
        assert torch.equal(getattr(cut, name), getattr(whole, name)[..., 3:-3, 4:-4])
    assert cut.spacing == whole.spacing


def test_no_window_is_everything_and_an_odd_side_keeps_its_middle():
    values = np.arange(5 * 7 * 9).reshape(5, 7, 9)
    np.testing.assert_array_equal(values[middle(values.shape, None)], values)
    np.testing.assert_array_equal(values[middle(values.shape, (7, 9))], values)
    np.testing.assert_array_equal(values[middle((2, 1, 5, 7, 9), (3, 5))], values[:, 2:5, 2:7])


@pytest.mark.parametrize("crop", [(8, 9), (7, 11), (6, 9), (7, 4)])
def test_a_window_that_is_too_large_or_leaves_an_odd_rest_is_refused(crop):
    with pytest.raises(ParameterError, match=r"crop(.|\n)*at most \(7, 9\), by an even number"):
        middle((5, 7, 9), crop)


# The stream


def volumes(count=4, shape=(6, 12, 10), spacing=(5.0, 4.0, 4.0), seed=0):
    """Heads of noise with a lesion and tissues that can be told from it."""
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.random((count, 1, *shape), np.float32))
    tissues = torch.from_numpy(rng.random((count, 3, *shape), np.float32))
    return Volumes(images, (images > 0.7).float(), tissues, spacing)


def several(sampler, batches=1):
    found = [next(sampler) for _ in range(batches)]
    return torch.cat([b.images for b in found]), torch.cat([b.lesions for b in found])


def test_without_any_change_a_batch_is_whole_heads_with_their_tissues_as_channels():
    data = volumes()
    images, lesions = several(HeadSampler(data, 5, 0), 4)
    assert (images.shape, lesions.shape, lesions.dtype) == ((20, 4, 6, 12, 10), (20, 6, 12, 10), torch.int64)
    chosen = set()
    for image, lesion in zip(images, lesions, strict=True):
        (number,) = [n for n in range(4) if torch.equal(image[:1], data.images[n])]
        assert torch.equal(image[1:], data.tissues[number])
        assert torch.equal(lesion, data.lesions[number, 0].long())
        chosen.add(number)
    assert chosen == {0, 1, 2, 3}


def test_without_tissues_the_image_stands_alone():
    data = volumes()
    bare = Volumes(data.images, data.lesions, None, data.spacing)
    assert next(HeadSampler(bare, 2, 0)).images.shape == (2, 1, 6, 12, 10)


CHANGES = {"mirror": 0.5, "gamma": 0.2, "rotation_deg": 20.0, "segment": (3, 5), "lesion_share": 0.5}


def test_the_stream_depends_on_its_seed_and_not_on_how_it_is_cut_into_batches():
    data = volumes()
    images, lesions = several(HeadSampler(data, 4, 7, **CHANGES), 2)
    again, same = several(HeadSampler(data, 2, 7, **CHANGES), 4)
    torch.testing.assert_close(again, images, atol=1e-6, rtol=0)
    assert torch.equal(same, lesions)
    other, _ = several(HeadSampler(data, 4, 8, **CHANGES), 2)
    assert not torch.allclose(other, images)


def test_a_stream_that_was_stopped_goes_on_with_the_same_bytes():
    data = volumes()
    whole, again = (HeadSampler(data, 3, 1, **CHANGES) for _ in range(2))
    several(whole, 2)
    again.load_state_dict(whole.state_dict())
    for one, other in zip(next(whole), next(again), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ParameterError, match="seed 1"):
        HeadSampler(data, 3, 2).load_state_dict(whole.state_dict())


def test_drawing_leaves_the_volumes_as_they_were():
    data, kept = volumes(), volumes()
    several(HeadSampler(data, 4, 0, **CHANGES), 3)
    for name in ("images", "lesions", "tissues"):
        assert torch.equal(getattr(data, name), getattr(kept, name))


def test_a_mirror_image_mirrors_image_lesion_and_tissues_together():
    data = volumes(count=1)
    images, lesions = several(HeadSampler(data, 60, 0, mirror=0.5))
    whole = torch.cat([data.images, data.tissues], dim=1)[0]
    flipped = [torch.equal(image, whole.flip(-1)) for image in images]
    for image, lesion, is_flipped in zip(images, lesions, flipped, strict=True):
        assert is_flipped or torch.equal(image, whole)
        assert torch.equal(lesion, (data.lesions[0, 0].flip(-1) if is_flipped else data.lesions[0, 0]).long())
    assert 18 < sum(flipped) < 42
    always, _ = several(HeadSampler(data, 4, 0, mirror=1.0))
    assert torch.equal(always, whole.flip(-1).expand(4, -1, -1, -1, -1))


def test_gamma_changes_the_image_alone_and_within_its_bounds():
    data = volumes(count=1)
    data.images[:, :, :2] = 0.0
    data.images[:, :, 2:] = 0.5
    images, lesions = several(HeadSampler(data, 200, 0, gamma=0.25))
    assert (images[:, 0, :2] == 0).all()
    assert torch.equal(images[:, 1:], data.tissues.expand(200, -1, -1, -1, -1))
    assert torch.equal(lesions, data.lesions[:, 0].long().expand(200, -1, -1, -1))
    exponents = images[:, 0, 2:].log2().neg()
    torch.testing.assert_close(exponents.amin((1, 2, 3)), exponents.amax((1, 2, 3)))
    found = exponents[:, 0, 0, 0]
    assert 0.75 <= found.min() < 0.77
    assert 1.23 < found.max() <= 1.25
    assert found.mean() == pytest.approx(1, abs=0.03)


def test_a_turn_moves_image_lesion_and_tissues_together_and_within_its_bounds():
    # A bar along y in pixels of 3 x 2 mm, the same in every channel.
    bar = torch.zeros(1, 1, 3, 31, 33)
    bar[..., 3:28, 14:19] = 1
    data = Volumes(bar, bar, bar.repeat(1, 3, 1, 1, 1), (5.0, 3.0, 2.0))
    images, lesions = several(HeadSampler(data, 40, 0, rotation_deg=12.0))
    torch.testing.assert_close(images[:, 1:], images[:, :1].expand(-1, 3, -1, -1, -1))
    assert torch.equal(lesions, (images[:, 0] >= 0.5).long())
    y, x = torch.meshgrid(3.0 * (torch.arange(31) - 15), 2.0 * (torch.arange(33) - 16), indexing="ij")
    mass = images[:, 0, 1]
    xy, difference = (mass * x * y).sum((1, 2)), (mass * (y * y - x * x)).sum((1, 2))
    angles = torch.rad2deg(torch.atan2(2 * xy, difference)) / 2
    assert angles.abs().max() < 12.3
    assert angles.max() > 6
    assert angles.min() < -6
    assert mass.sum((1, 2)).tolist() == pytest.approx([125.0] * 40, rel=0.02)


def spot(shape=(8, 12, 6), at=(2, 3, 1)):
    """One voxel of lesion; the image says where in the head a voxel lies."""
    places = torch.arange(np.prod(shape), dtype=torch.float32).view(1, 1, *shape) / float(np.prod(shape))
    lesion = torch.zeros(1, 1, *shape)
    lesion[0, 0, *at] = 1
    return Volumes(places, lesion, None, (5.0, 4.0, 4.0))


def starts(images, data):
    """First slice and row of each part, by the places that its voxels name."""
    _, height, width = data.images.shape[2:]
    first = (images[:, 0, 0, 0, 0] * data.images[0].numel()).round().long()
    return torch.stack([first // (height * width), first % (height * width) // width], dim=1)


def test_a_part_keeps_the_full_width_and_is_cut_from_image_and_lesion_at_the_same_place():
    data = spot()
    images, lesions = several(HeadSampler(data, 50, 0, segment=(3, 5), lesion_share=0.5))
    assert images.shape == (50, 1, 3, 5, 6)
    for image, lesion, (z, y) in zip(images, lesions, starts(images, data).tolist(), strict=True):
        assert torch.equal(image, data.images[0, :, z : z + 3, y : y + 5])
        assert torch.equal(lesion, data.lesions[0, 0, z : z + 3, y : y + 5].long())


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_parts_lie_about_the_lesion_as_often_as_asked_and_elsewhere_by_chance(share):
    data = spot()
    images, lesions = several(HeadSampler(data, 600, 3, segment=(3, 5), lesion_share=share))
    shown = lesions.flatten(1).any(1).float().mean()
    # Of 6 x 8 places the voxel (2, 3) is seen from 3 x 4.
    by_chance = 12 / 48
    assert shown == pytest.approx(share + (1 - share) * by_chance, abs=0.06)
    if share == 1.0:
        assert len(starts(images, data).unique(dim=0)) == 12
    if share == 0.0:
        assert len(starts(images, data).unique(dim=0)) == 48


def test_parts_of_a_head_without_lesion_lie_anywhere():
    data = spot()
    healthy = Volumes(data.images, 0 * data.lesions, None, data.spacing)
    images, lesions = several(HeadSampler(healthy, 600, 0, segment=(3, 5), lesion_share=1.0))
    assert not lesions.any()
    assert len(starts(images, healthy).unique(dim=0)) == 48


def test_a_part_larger_than_the_head_is_the_head():
    data = spot()
    images, _ = several(HeadSampler(data, 4, 0, segment=(99, 5), lesion_share=1.0))
    assert images.shape == (4, 1, 8, 5, 6)
    assert torch.equal(next(HeadSampler(data, 1, 0, segment=(99, 99))).images, data.images)
