"""Cases as ADN's volumes: pooled without what is not brain, padded about the mirror axis, and back."""

import dataclasses

import numpy as np
import pytest
import torch

from strokelib.adn.volumes import heads_of, padding, pooled_grid, to_case_grid, with_slices
from strokelib.data.cases import Case, Volume
from strokelib.data.loading import case_images
from strokelib.errors import DataError, ParameterError
from strokelib.metrics import dice

AFFINE = np.array([[-2.0, 0, 0, 31], [0, -2.0, 0, 39], [0, 0, 5.0, -10], [0, 0, 0, 1]])


def made(number=0, shape=(4, 24, 20), lesion=True):
    """A case with noise in its brain and bone around it."""
    rng = np.random.default_rng(number)
    brain = np.zeros(shape, bool)
    brain[:, 3:-3, 3:-3] = True
    image = np.where(brain, rng.normal(35, 10, shape), 900).astype(np.float32)
    mask = np.zeros(shape, bool)
    mask[1:3, 6:12, 4:9] = lesion
    mask[1, 0, 0] = lesion
    return Case(f"made-{number}", f"p{number}", "made", "train", Volume(image, AFFINE), mask, brain)


def test_without_pooling_the_heads_are_the_cases_images_lesions_and_brains():
    cases = [made(0), made(1)]
    heads = heads_of(cases)
    assert heads.images.shape == heads.lesions.shape == heads.brains.shape == (2, 1, 4, 24, 20)
    assert (heads.images.dtype, heads.lesions.dtype, heads.brains.dtype) == (torch.float32, torch.float32, torch.bool)
    assert heads.spacing == (5.0, 2.0, 2.0)
    assert heads.ids == ("made-0", "made-1")
    for number, case in enumerate(cases):
        np.testing.assert_array_equal(heads.images[number, 0], case_images(case, (0.0, 100.0), "unit"))
        np.testing.assert_array_equal(heads.lesions[number, 0], case.lesion & case.brain)
        np.testing.assert_array_equal(heads.brains[number, 0], case.brain)


def test_pooling_is_the_literal_mean_over_the_brain_of_each_block():
    case, pool = made(shape=(2, 12, 14)), 2
    heads = heads_of([case], pool=pool, window_hu=(10.0, 60.0))
    fine = case_images(case, (10.0, 60.0), "unit")
    for z, y, x in np.ndindex(2, 6, 7):
        block = (z, slice(pool * y, pool * y + pool), slice(pool * x, pool * x + pool))
        inside = case.brain[block]
        assert bool(heads.brains[0, 0, z, y, x]) == (inside.mean() >= 0.5)
        assert float(heads.lesions[0, 0, z, y, x]) == float((case.lesion[block] & inside).mean() >= 0.5)
        wanted = fine[block][inside].mean() if inside.mean() >= 0.5 else 0.0
        assert float(heads.images[0, 0, z, y, x]) == pytest.approx(wanted, abs=1e-6)
    assert heads.spacing == (5.0, 4.0, 4.0)


def test_no_bone_or_air_is_mixed_into_a_pixel_at_the_brains_edge():
    case = made()
    flat = dataclasses.replace(case, image=case.image.with_array(np.where(case.brain, 40, 900).astype(np.float32)))
    heads = heads_of([flat], pool=2)
    assert heads.images[heads.brains].tolist() == pytest.approx([0.4] * int(heads.brains.sum()))
    assert heads.images[~heads.brains].abs().max() == 0
    # Brain from the fourth pixel on: the block of pixels 2 and 3 is half brain and counts.
    assert bool(heads.brains[0, 0, 0, 5, 1])
    assert not bool(heads.brains[0, 0, 0, 5, 0])


@pytest.mark.parametrize(
    ("length", "pool", "wanted"),
    [
        (96, 1, (0, 0)),
        (96, 2, (0, 0)),
        (94, 4, (1, 1)),
        (97, 3, (1, 1)),
        (98, 3, (2, 2)),
        (97, 2, (0, 1)),
        (97, 4, (1, 2)),
    ],
)
def test_padding_is_even_wherever_that_can_be(length, pool, wanted):
    before, after = padding(length, pool)
    assert (before, after) == wanted
    assert (before + length + after) % pool == 0


@pytest.mark.parametrize("pool", [1, 2, 3])
@pytest.mark.parametrize("width", [20, 22])
def test_mirrored_cases_give_mirrored_heads(pool, width):
    case = made(shape=(3, 17, width))
    flipped = dataclasses.replace(
        case,
        image=case.image.with_array(case.image.array[..., ::-1].copy()),
        lesion=case.lesion[..., ::-1].copy(),
        brain=case.brain[..., ::-1].copy(),
    )
    one, other = heads_of([case], pool=pool), heads_of([flipped], pool=pool)
    torch.testing.assert_close(other.images, one.images.flip(-1))
    assert torch.equal(other.lesions, one.lesions.flip(-1))


@pytest.mark.parametrize(("pool", "width"), [(2, 20), (3, 20), (2, 21), (4, 22)])
def test_a_pooled_pixel_lies_where_the_mean_of_its_pixels_lies(pool, width):
    case = made(shape=(3, 25, width))
    grid = pooled_grid(case, pool)
    assert grid.shape == tuple(heads_of([case], pool=pool).images.shape[2:])
    top, left = padding(25, pool)[0], padding(width, pool)[0]
    fine = [np.arange(pool) + pool * 2 - left, np.arange(pool) + pool * 3 - top]
    place = case.image.affine @ [fine[0].mean(), fine[1].mean(), 1, 1]
    np.testing.assert_allclose(grid.affine @ [2, 3, 1, 1], place)


def test_heads_are_chosen_by_numbers_masks_and_ranges_with_their_names():
    heads = heads_of([made(i) for i in range(4)])
    chosen = heads[np.array([3, 1])]
    assert chosen.ids == ("made-3", "made-1")
    assert torch.equal(chosen.images[0], heads.images[3])
    assert heads[torch.tensor([False, True, False, True])].ids == ("made-1", "made-3")
    assert heads[1:3].ids == ("made-1", "made-2")
    assert heads[-1].images.shape == (1, 1, 4, 24, 20)
    assert (len(heads), len(chosen), chosen.spacing) == (4, 2, heads.spacing)


def test_cases_without_reference_are_taken_only_where_that_is_said():
    bare = dataclasses.replace(made(), lesion=None)
    with pytest.raises(DataError, match=r"made-0.*no reference"):
        heads_of([bare])
    assert float(heads_of([bare], unlabelled=True).lesions.sum()) == 0


def test_cases_of_other_shape_or_voxel_size_and_empty_lists_are_refused():
    with pytest.raises(DataError, match="case made-1: found shape"):
        heads_of([made(0), made(1, shape=(4, 24, 22))])
    wide = dataclasses.replace(made(1), image=Volume(made(1).image.array, AFFINE @ np.diag([1.1, 1, 1, 1])))
    with pytest.raises(DataError, match=r"made-1.*2\.200 mm"):
        heads_of([made(0), wide])
    with pytest.raises(DataError, match="at least one"):
        heads_of([])


@pytest.mark.parametrize("pool", [0, 1.5, True, "2"])
def test_a_pool_that_is_no_whole_number_above_0_is_refused(pool):
    with pytest.raises(ParameterError, match="pool"):
        heads_of([made()], pool=pool)
    with pytest.raises(ParameterError, match="pool"):
        to_case_grid(np.zeros((4, 12, 10)), made(), pool)


@pytest.mark.parametrize(("pool", "shape"), [(1, (4, 24, 20)), (2, (4, 24, 20)), (2, (4, 25, 21)), (3, (4, 25, 22))])
def test_a_ramp_comes_back_as_it_was_away_from_the_edges(pool, shape):
    case = made(shape=shape)
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ramp = (20 + z + 0.5 * y + 1.5 * x).astype(np.float32)
    whole = dataclasses.replace(case, image=case.image.with_array(ramp), brain=None)
    back = to_case_grid(heads_of([whole], pool=pool).images[0, 0], whole, pool)
    assert (back.shape, back.dtype) == (shape, np.float32)
    middle = (slice(None), slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(back[middle] * 100, ramp[middle], atol=1e-3)


@pytest.mark.parametrize("shape", [(6, 60, 48), (6, 61, 49)])
def test_a_large_lesion_survives_the_way_there_and_back(shape):
    case = made(shape=shape)
    z, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ball = ((z - 3) / 2.5) ** 2 + ((y - 28) / 14) ** 2 + ((x - 16) / 11) ** 2 < 1
    case = dataclasses.replace(case, lesion=ball)
    lesion = heads_of([case], pool=2).lesions[0, 0]
    assert dice(to_case_grid(lesion, case, 2) >= 0.5, ball & case.brain) > 0.9


def test_outside_the_brain_nothing_comes_back():
    case = made()
    back = to_case_grid(torch.ones(4, 12, 10, requires_grad=True), case, 2)
    assert set(np.unique(back[case.brain])) == {1.0}
    assert set(np.unique(back[~case.brain])) == {0.0}


def test_a_map_of_another_grid_is_refused():
    with pytest.raises(DataError, match=r"map of case made-0.*\(4, 12, 11\).*\(4, 12, 10\)"):
        to_case_grid(np.zeros((4, 12, 11)), made(), 2)


def test_slices_of_air_are_added_evenly_and_every_place_keeps_its_millimetres():
    case = made()
    depth = len(case.image.array)
    taller = with_slices(case, depth + 3)
    assert len(taller.image.array) == depth + 3
    np.testing.assert_array_equal(taller.image.array[1 : 1 + depth], case.image.array)
    assert (taller.image.array[0] == -1000).all()
    assert not taller.brain[0].any()
    assert not taller.brain[1 + depth :].any()
    assert taller.lesion.sum() == case.lesion.sum()
    there = case.image.affine @ [2, 3, 4, 1]
    np.testing.assert_allclose(taller.image.affine @ [2, 3, 5, 1], there)
    assert with_slices(case, depth) is case
    with pytest.raises(ParameterError, match="slices"):
        with_slices(case, depth - 1)
