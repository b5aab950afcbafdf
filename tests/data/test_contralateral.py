"""Contralateral and difference images: exact on symmetric objects, of the right sign on one-sided ones."""

import numpy as np
import pytest

from strokelib.data import contralateral as sides
from strokelib.data.cases import Volume
from strokelib.data.grids import AIR_HU, Grid
from strokelib.data.phantom import embedded
from strokelib.errors import DataError, ParameterError

NAME = "aisd-0011"
PIVOT = sides.FLIP


@pytest.fixture(scope="module")
def case():
    return embedded.render(NAME)


@pytest.fixture(scope="module")
def mirrors(case):
    atlas = sides.mirror_by_atlas(case.image, case.brain, refine=False)
    return {
        "plane": sides.mirror_by_plane(case.image, case.brain),
        "atlas": atlas,
        "refined": sides.refined_mirror(case.image, case.brain, atlas),
    }


@pytest.fixture
def block():
    """A brain of 30 HU that is symmetric about x = 0, with 20 HU in one voxel at the patient's left."""
    grid = Grid.centred((6, 10, 12), (2.0, 2.0, 2.0), np.zeros(3))
    brain = np.zeros(grid.shape, bool)
    brain[1:-1, 2:-2, 2:-2] = True
    values = np.where(brain, 30.0, 300.0)
    values[3, 5, 8] = 20.0
    return Volume(values.astype(np.float32), grid.affine), brain


def test_the_mirror_of_a_symmetric_block_is_its_flipped_array(block):
    image, brain = block
    other = sides.contralateral_image(image, brain, PIVOT)
    assert np.allclose(other.array[brain], image.array[:, :, ::-1][brain], atol=1e-3)
    assert (other.array[~brain] == AIR_HU).all()


def test_the_difference_is_positive_where_the_ct_is_darker(block):
    image, brain = block
    other = sides.contralateral_image(image, brain, PIVOT)
    difference = sides.difference_image(image, other, brain).array
    assert difference[3, 5, 8] == pytest.approx(10.0, abs=1e-3)
    assert difference[3, 5, 3] == pytest.approx(-10.0, abs=1e-3)
    assert np.count_nonzero(np.abs(difference) > 1e-3) == 2
    assert (difference[~brain] == 0).all()


def test_the_other_sign_is_the_negative(block):
    image, brain = block
    other = sides.contralateral_image(image, brain, PIVOT)
    plain, other_way = (sides.difference_image(image, other, brain, sign=sign).array for sign in sides.SIGNS)
    assert np.array_equal(plain, -other_way)
    with pytest.raises(ParameterError, match="contralateral_minus_ct"):
        sides.difference_image(image, other, brain, sign="minus")


def test_values_are_cut_to_the_published_range_before_they_are_subtracted(block):
    image, brain = block
    bright = image.with_array(np.where(image.array == 20.0, 1000.0, image.array).astype(np.float32))
    other = sides.contralateral_image(bright, brain, PIVOT)
    assert sides.difference_image(bright, other, brain).array[3, 5, 3] == pytest.approx(370.0, abs=1e-2)
    assert sides.clipped(bright).array.max() == 400.0
    assert sides.clipped(other).array.min() == -100.0


def test_residual_asymmetry_is_the_mean_absolute_difference(block):
    image, brain = block
    other = sides.contralateral_image(image, brain, PIVOT)
    assert sides.residual_asymmetry(image, other, brain) == pytest.approx(20.0 / brain.sum(), abs=1e-4)


def test_voxels_without_a_mirror_image_do_not_count(block):
    image, brain = block
    half = brain.copy()
    half[:, :, :4] = False
    other = sides.contralateral_image(image, half, PIVOT)
    counted = sides.both_sides(half, other)
    assert counted.sum() == 2 * 4 * 6 * 2
    assert (other.array[half & ~counted] == AIR_HU).all()
    one_side = np.zeros_like(brain)
    one_side[:, :, 9:] = brain[:, :, 9:]
    with pytest.raises(DataError, match="no voxel with a mirror image"):
        sides.residual_asymmetry(image, sides.contralateral_image(image, one_side, PIVOT), one_side)


def test_the_plane_mirror_is_its_own_inverse(mirrors):
    assert np.allclose(mirrors["plane"] @ mirrors["plane"], np.eye(4), atol=1e-6)
    assert np.linalg.det(mirrors["plane"][:3, :3]) == pytest.approx(-1.0)


def test_the_way_through_the_atlas_and_back_is_its_own_inverse(mirrors):
    assert np.allclose(mirrors["atlas"] @ mirrors["atlas"], np.eye(4), atol=1e-6)
    assert np.linalg.det(mirrors["atlas"][:3, :3]) == pytest.approx(-1.0)


def test_plane_and_atlas_agree_within_some_millimetres(case, mirrors):
    points = np.argwhere(case.brain)[::97, ::-1] @ case.image.affine[:3, :3].T + case.image.affine[:3, 3]
    for name in ("atlas", "refined"):
        gap = mirrors[name] - mirrors["plane"]
        apart_mm = np.linalg.norm(points @ gap[:3, :3].T + gap[:3, 3], axis=1)
        assert 0.0 < apart_mm.mean() < 4.0


def test_every_mirror_leaves_less_asymmetry_than_the_middle_column(case, mirrors):
    middle = np.eye(4)
    centre = Grid.of(case.image).centre
    middle[0] = [-1.0, 0.0, 0.0, 2 * centre[0]]
    images = {name: sides.contralateral_image(case.image, case.brain, m) for name, m in mirrors.items()}
    unaligned = sides.contralateral_image(case.image, case.brain, middle)
    for image in images.values():
        both = sides.both_sides(case.brain, image) & sides.both_sides(case.brain, unaligned)
        found, before = (sides.residual_asymmetry(case.image, other, both) for other in (image, unaligned))
        assert found < before
        assert sides.both_sides(case.brain, image).sum() > 0.93 * case.brain.sum()


def test_the_atlas_brain_has_the_volume_of_a_brain():
    atlas, brain = sides.atlas_brain()
    assert 1400 < brain.sum() * atlas.voxel_ml < 1900
    assert 20 < np.median(atlas.array[brain]) < 35


def test_a_mask_that_does_not_fit_is_refused(block):
    image, brain = block
    with pytest.raises(DataError, match="brain mask"):
        sides.contralateral_image(image, brain[1:], PIVOT)
    with pytest.raises(DataError, match="brain mask"):
        sides.mirror_by_atlas(image, np.zeros_like(brain))


def test_a_sheared_scan_is_sent_to_rectify(block):
    image, brain = block
    shear = np.eye(4)
    shear[1, 2] = 0.3
    with pytest.raises(DataError, match="rectify"):
        sides.mirror_by_plane(Volume(image.array, image.affine @ shear), brain)
