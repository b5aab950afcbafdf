"""From case to case: places in millimetres stay, blocks are averaged, contralateral images are made once."""

import dataclasses

import numpy as np
import pytest

from strokelib.data.cases import Case, Volume
from strokelib.data.contralateral import FLIP
from strokelib.data.grids import AIR_HU, Grid
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet import volumes
from strokelib.ssl_nnunet.volumes import at_spacing, contralateral_of, on_case_grid, with_contralateral

SPACING = (5.0, 2.0, 2.0)
POOLED = (5.0, 4.0, 4.0)


def case(shape=(4, 12, 16), spacing=SPACING, name="made-0", middle=(3.0, -8.0, 40.0)):
    rng = np.random.default_rng(0)
    grid = Grid.centred(shape, spacing, np.array(middle))
    brain = np.zeros(shape, bool)
    brain[:, 2:-2, 2:-2] = True
    lesion = np.zeros(shape, bool)
    lesion[1, 4:8, 4:6] = True
    image = np.where(brain, rng.uniform(10, 60, shape), -1000).astype(np.float32)
    return Case(name, "p", "made", "train", Volume(image, grid.affine), lesion, brain, truth={"tissue": brain})


def places_mm(volume):
    """(D, H, W, 3) RAS mm of the voxels' centres."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), -1)[..., ::-1]
    return index @ volume.affine[:3, :3].T + volume.affine[:3, 3]


def with_ramp(one):
    """The case with an image that holds -x + 3 y + 2 z in mm."""
    return dataclasses.replace(one, image=one.image.with_array((places_mm(one.image) @ [-1, 3, 2]).astype(np.float32)))


def test_a_case_with_this_voxel_size_is_left_alone():
    one = case()
    assert at_spacing(one, SPACING) is one


def test_a_whole_factor_averages_the_voxels_of_a_block_that_are_brain():
    one = case()
    seen = at_spacing(one, POOLED)
    assert seen.image.array.shape == (4, 6, 8)
    for z, y, x in np.ndindex(seen.image.array.shape):
        block = (z, slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
        inside = one.brain[block]
        assert seen.brain[z, y, x] == (inside.mean() >= 0.5)
        assert seen.lesion[z, y, x] == (one.lesion[block].mean() >= 0.5)
        wanted = one.image.array[block][inside].mean() if seen.brain[z, y, x] else one.image.array[block].mean()
        assert seen.image.array[z, y, x] == pytest.approx(wanted, rel=1e-5)


def test_a_block_that_is_half_brain_counts_its_brain_alone():
    one = case()
    brain = one.brain.copy()
    brain[:, :, 3] = False
    one = dataclasses.replace(one, brain=brain)
    seen = at_spacing(one, POOLED)
    assert seen.brain[0, 2, 1]
    assert seen.image.array[0, 2, 1] == pytest.approx(one.image.array[0, 4:6, 2].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("spacing", "off"),
    [
        ((5.0, 4.0, 4.0), 0.01),
        ((5.0, 6.0, 2.0), 0.01),
        ((10.0, 4.0, 8.0), 0.01),
        ((1.0, 1.0, 1.0), 0.01),
        ((5.0, 3.0, 2.5), 0.7),  # triangles over a fraction of a voxel do not keep a line to the last digit
    ],
)
@pytest.mark.parametrize("shape", [(6, 24, 32), (7, 25, 31)])
def test_every_value_keeps_its_place_in_millimetres(shape, spacing, off):
    seen = at_spacing(dataclasses.replace(with_ramp(case(shape)), brain=None), spacing)
    assert np.allclose(seen.image.spacing, spacing)
    steps = [max(1, round(old / new)) for old, new in zip(SPACING, spacing, strict=True)]
    away = tuple(slice(step, -step) for step in steps)
    wanted = (places_mm(seen.image) @ [-1, 3, 2])[away]
    assert wanted.size
    np.testing.assert_allclose(seen.image.array[away], wanted, atol=off)


def test_the_field_of_a_case_never_loses_a_voxel_to_a_block():
    seen = at_spacing(case((4, 13, 15)), (5.0, 8.0, 8.0))
    assert seen.image.array.shape == (4, 4, 4)


def test_masks_are_moved_by_nearest_neighbour_where_that_is_asked_for():
    one = case()
    near = at_spacing(one, (1.0, 1.0, 1.0), masks="nearest")
    assert near.lesion.shape == near.image.array.shape == (20, 24, 32)
    assert np.array_equal(near.lesion, one.lesion.repeat(5, 0).repeat(2, 1).repeat(2, 2))
    assert np.array_equal(near.brain, one.brain.repeat(5, 0).repeat(2, 1).repeat(2, 2))
    with pytest.raises(ParameterError, match="share or nearest"):
        at_spacing(one, POOLED, masks="linear")


def test_the_contralateral_image_goes_along_and_the_rest_stays_behind():
    one = case()
    other = np.where(one.brain, 100 - one.image.array, AIR_HU).astype(np.float32)
    seen = at_spacing(dataclasses.replace(one, channels={"contralateral": other, "dwi": other}), POOLED)
    assert set(seen.channels) == {"contralateral"}
    assert seen.truth == {}
    found = seen.channels["contralateral"]
    np.testing.assert_allclose(found[seen.brain], 100 - seen.image.array[seen.brain], rtol=1e-5)
    assert (found[~seen.brain] == AIR_HU).all()


def test_a_case_without_reference_or_brain_stays_without():
    seen = at_spacing(dataclasses.replace(case(), lesion=None, brain=None), POOLED)
    assert seen.lesion is None
    assert seen.brain is None


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0), (1.0, np.nan, 1.0)])
def test_an_impossible_voxel_size_is_refused(spacing):
    with pytest.raises(ParameterError, match="three sides above 0"):
        at_spacing(case(), spacing)


def test_a_map_on_the_grid_of_the_case_comes_back_as_it_was():
    one = case()
    values = np.random.default_rng(1).random(one.image.array.shape).astype(np.float32)
    assert np.array_equal(on_case_grid(one.image.with_array(values), one), np.where(one.brain, values, 0))


def test_a_map_of_a_box_comes_back_at_its_place():
    one = case()
    values = np.random.default_rng(1).random((2, 9, 10)).astype(np.float32)
    shift = np.eye(4)
    shift[:3, 3] = (2, 3, 1)
    wanted = np.zeros(one.image.array.shape, np.float32)
    wanted[1:3, 3:, 2:12] = values
    found = on_case_grid(Volume(values, one.image.affine @ shift), one)
    assert np.array_equal(found, np.where(one.brain, wanted, 0))
    shift[:3, 3] = (-2, 100, 0)
    assert not on_case_grid(Volume(values, one.image.affine @ shift), one).any()


@pytest.mark.parametrize("spacing", [(5.0, 4.0, 4.0), (1.0, 1.0, 1.0), (5.0, 3.0, 2.5), (10.0, 8.0, 8.0)])
def test_a_linear_map_comes_back_linear_and_a_constant_one_constant_up_to_the_edges(spacing):
    one = with_ramp(case((6, 24, 32)))
    open_case = dataclasses.replace(one, brain=None)
    seen = at_spacing(open_case, spacing).image
    back = on_case_grid(seen.with_array(places_mm(seen) @ [-1, 3, 2]), open_case)
    np.testing.assert_allclose(back[2:-2, 4:-4, 4:-4], one.image.array[2:-2, 4:-4, 4:-4], atol=2e-2)
    ones = seen.with_array(np.ones(seen.array.shape))
    np.testing.assert_allclose(on_case_grid(ones, open_case), 1, atol=1e-5)
    assert not on_case_grid(ones, one)[~one.brain].any()


@pytest.fixture
def known_mirrors(monkeypatch):
    """Mirrors that are known without a search: x = 0, and 4 mm beside it for the atlas."""
    calls = []
    beside = FLIP.copy()
    beside[0, 3] = 4.0

    def plane(image, brain):
        calls.append("plane")
        return FLIP

    def atlas(image, brain, seed):
        calls.append(f"atlas {seed}")
        return beside

    monkeypatch.setattr(volumes.sides, "mirror_by_plane", plane)
    monkeypatch.setattr(volumes.sides, "mirror_by_atlas", atlas)
    return calls


def test_the_contralateral_image_of_a_brain_about_the_plane_is_its_flipped_array(known_mirrors):
    one = case(middle=(0.0, 0.0, 0.0))
    other = contralateral_of(one, "plane")
    assert (other.shape, other.dtype) == (one.image.array.shape, np.float32)
    np.testing.assert_allclose(other[one.brain], one.image.array[:, :, ::-1][one.brain], rtol=1e-4)
    assert (other[~one.brain] == AIR_HU).all()
    beside = contralateral_of(one, "atlas", seed=3)
    # LPS: x mm falls along the last axis, so the mirror at x = 2 mm is that of the array, two voxels lower.
    np.testing.assert_allclose(beside[:, 2:-2, 2:12], one.image.array[:, 2:-2, ::-1][:, :, 4:14], rtol=1e-4)
    assert known_mirrors == ["plane", "atlas 3"]


def test_contralateral_images_are_made_once_and_read_afterwards(known_mirrors, tmp_path):
    cases = [case(name=f"made-{i}", middle=(0.0, 0.0, 5.0 * i)) for i in range(2)]
    first = with_contralateral(cases, out=tmp_path)
    assert known_mirrors == ["plane"] * 2
    again = with_contralateral(cases, out=tmp_path)
    assert known_mirrors == ["plane"] * 2
    in_memory = with_contralateral(cases)
    for one, kept, read, made in zip(cases, first, again, in_memory, strict=True):
        assert kept.id == one.id
        for found in (kept, read, made):
            assert np.array_equal(found.channels["contralateral"], contralateral_of(one))
    assert len(first[1:]) == 1
    assert first[1:][0].id == "made-1"


def test_another_image_way_or_seed_makes_another_contralateral_image(known_mirrors, tmp_path):
    one = case(middle=(0.0, 0.0, 0.0))
    brighter = dataclasses.replace(one, image=one.image.with_array(one.image.array + 1))
    with_contralateral([one], out=tmp_path)
    with_contralateral([brighter], out=tmp_path)
    with_contralateral([one], "atlas", out=tmp_path)
    with_contralateral([one], "atlas", out=tmp_path, seed=1)
    assert known_mirrors == ["plane", "plane", "atlas 0", "atlas 1"]
    assert len([p for p in (tmp_path / "contralateral").iterdir() if p.is_dir()]) == 4


def test_channels_that_a_case_has_already_are_kept(known_mirrors):
    one = case(middle=(0.0, 0.0, 0.0))
    one = dataclasses.replace(one, channels={"dwi": one.image.array})
    assert set(with_contralateral([one])[0].channels) == {"dwi", "contralateral"}


def test_what_has_no_mirror_is_refused(known_mirrors):
    with pytest.raises(DataError, match="no brain mask"):
        contralateral_of(dataclasses.replace(case(), brain=None))
    with pytest.raises(ParameterError, match="plane or atlas"):
        contralateral_of(case(), "flip")
