"""Tissue maps: the mixture on brains whose tissues are known, the atlas' way, files of a user, and the truth."""

import dataclasses
import itertools

import nibabel as nib
import numpy as np
import pytest

from strokelib.data.cases import Case, Volume
from strokelib.data.grids import Grid, box_of, crop, sample_on
from strokelib.data.phantom import embedded
from strokelib.data.reading import write_nifti
from strokelib.data.registration import Registration
from strokelib.data.tissue import NAMES, maps_of, tissue_maps, tissue_maps_from, true_maps
from strokelib.data.tissue_fields import monomials, neighbour_sums, smoother
from strokelib.data.tissue_files import read_tissue_maps
from strokelib.data.tissue_mixture import MixtureSettings, fit_mixture
from strokelib.data.tissue_priors import PriorSettings, atlas_brain, priors_on, warp_field
from strokelib.errors import DataError, ParameterError
from strokelib.metrics import dice

SPACING = (5.0, 2.0, 2.0)
AFFINE = np.array([[-2.0, 0, 0, 40], [0, -2.0, 0, 40], [0, 0, 5.0, 0], [0, 0, 0, 1]])


def ball(noise_hu=2.5, infarct=False, drift_hu=0.0):
    """Fluid in the middle, white matter around it, grey matter outside; priors are the truth, smoothed and levelled."""
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (10, 40, 40)), indexing="ij")
    radius = np.sqrt((z * 2.5) ** 2 + y**2 + x**2)
    brain = radius < 18
    true = np.where(radius < 6, 3, np.where(radius < 12, 2, 1)) * brain
    hu = np.choose(true, [0.0, 37.0, 29.0, 8.0]) + np.random.default_rng(0).normal(0, noise_hu, true.shape)
    lesion = brain & (x > 4) & (y > 0) & (radius >= 7)
    hu = hu - 9.0 * lesion * infarct + drift_hu * (x / 18)
    priors = np.stack([smooth(true == k) for k in (1, 2, 3)]) + 0.05
    return hu.astype(np.float32), priors, brain, true, lesion


def smooth(mask):
    return smoother(np.ones(mask.shape, bool), 4.0, SPACING)(mask.ravel().astype(float)).reshape(mask.shape)


def dices(maps, true):
    return [dice((maps.argmax(axis=0) + 1 == k) & (true > 0), true == k) for k in (1, 2, 3)]


@pytest.fixture(scope="module")
def case():
    return embedded.render("aisd-0050")


@pytest.fixture(scope="module")
def found(case):
    return tissue_maps(case.image, case.brain)


@pytest.fixture(scope="module")
def registration(found):
    return Registration(np.array(found.report["matrix"]), float("nan"), 0)


def test_the_mixture_finds_the_tissues_and_their_densities_of_a_ball():
    hu, priors, brain, true, _ = ball()
    fit = fit_mixture(hu, priors, brain, SPACING)
    assert min(dices(fit.tissues, true)) > 0.95
    assert fit.means_hu["grey"] == pytest.approx(37.0, abs=0.7)
    assert fit.means_hu["white"] == pytest.approx(29.0, abs=0.7)
    assert fit.means_hu["csf"] == pytest.approx(8.0, abs=1.0)
    assert fit.sds_hu["grey"] == pytest.approx(2.5, abs=0.5)


def test_tissues_sum_to_one_in_the_brain_and_to_nothing_outside():
    hu, priors, brain, _, _ = ball()
    tissues = fit_mixture(hu, priors, brain, SPACING).tissues
    np.testing.assert_allclose(tissues.sum(axis=0), brain, atol=1e-6)
    assert tissues.min() >= 0


def test_the_mixture_beats_its_own_priors():
    hu, priors, brain, true, _ = ball()
    fitted = dices(fit_mixture(hu, priors, brain, SPACING).tissues, true)
    assert all(a > b for a, b in zip(fitted, dices(priors, true), strict=True))


def test_an_infarct_does_not_become_fluid_and_without_the_outlier_classes_more_of_it_does():
    hu, priors, brain, _, lesion = ball(noise_hu=3.5, infarct=True)
    shares = [
        (fit_mixture(hu, priors, brain, SPACING, MixtureSettings(outlier_share=share)).tissues.argmax(0)[lesion] == 2)
        for share in (0.03, 0.0)
    ]
    assert shares[0].mean() < 0.05
    assert shares[0].mean() < shares[1].mean()


def test_calcium_goes_to_the_tissue_that_the_priors_expect_and_leaves_the_means_alone():
    hu, priors, brain, _, _ = ball()
    spot = np.zeros_like(brain)
    spot[4:6, 18:22, 18:22] = True
    spotted = fit_mixture(np.where(spot, 110, hu), priors, brain, SPACING)
    assert (spotted.tissues.argmax(axis=0)[spot] == 2).all()
    assert spotted.means_hu["csf"] == pytest.approx(8.0, abs=1.0)


def test_a_slow_drift_is_taken_off():
    hu, priors, brain, _, _ = ball(drift_hu=4.0)
    drift = fit_mixture(hu, priors, brain, SPACING).bias_hu
    x = np.broadcast_to((np.arange(40) - 19.5) / 18, brain.shape)
    slope = np.polyfit(x[brain], drift[brain], 1)[0]
    assert slope == pytest.approx(4.0, abs=1.0)
    assert not fit_mixture(hu, priors, brain, SPACING, MixtureSettings(bias_order=0)).bias_hu.any()


def test_the_mixture_refuses_what_is_no_brain_in_hu():
    hu, priors, brain, _, _ = ball()
    with pytest.raises(DataError, match="median"):
        fit_mixture(hu / 80, priors, brain, SPACING)
    with pytest.raises(DataError, match="brain voxels"):
        fit_mixture(hu, priors, brain & (hu > 1e6), SPACING)
    with pytest.raises(DataError, match="one grid"):
        fit_mixture(hu[1:], priors, brain, SPACING)


def test_smoothing_takes_nothing_from_outside():
    brain = np.zeros((4, 12, 12), bool)
    brain[:, 3:9, 3:9] = True
    np.testing.assert_allclose(smoother(brain, 3.0, SPACING)(np.full(brain.sum(), 7.0)), 7.0, rtol=1e-5)
    values = np.random.default_rng(0).normal(size=brain.sum())
    np.testing.assert_array_equal(smoother(brain, 0.0, SPACING)(values), values)


def test_neighbours_are_summed_as_a_loop_does_it():
    rng = np.random.default_rng(0)
    brain = rng.random((3, 4, 5)) > 0.3
    values = rng.random((2, brain.sum())).astype(np.float32).astype(float)
    full = np.zeros((2, *brain.shape))
    full[:, brain] = values
    wanted = np.zeros_like(full)
    for place in np.argwhere(brain):
        for axis, side in itertools.product(range(3), (-1, 1)):
            other = place.copy()
            other[axis] += side
            if 0 <= other[axis] < brain.shape[axis]:
                wanted[:, *place] += full[:, *other] * (2.0 / SPACING[axis]) ** 2
    np.testing.assert_allclose(neighbour_sums(values, brain, SPACING), wanted[:, brain], rtol=1e-5)


def test_the_drift_has_nine_terms_of_mean_zero_up_to_order_two():
    terms = monomials(np.ones((3, 4, 5), bool), 2)
    assert terms.shape == (60, 9)
    np.testing.assert_allclose(terms.mean(axis=0), 0, atol=1e-12)


def test_the_tissues_of_an_embedded_head_are_found(case, found):
    true = true_maps(case)
    assert [dice(found.labels() == k, true.labels() == k) > 0.8 for k in (1, 2, 3)] == [True] * 3
    np.testing.assert_allclose(found.maps.sum(axis=0), case.brain, atol=1e-5)
    assert found.grey.dtype == np.float32
    for name in NAMES:
        assert found.report["volumes_ml"][name] == pytest.approx(true.report["volumes_ml"][name], rel=0.25)
    hu = found.report["mean_hu"]
    assert hu["grey"] > hu["white"] + 2 > hu["csf"] + 10


def test_most_of_a_large_infarct_is_not_called_fluid(case, found):
    lesion = case.truth["lesion"]
    assert case.image.array[lesion].mean() < 24
    assert (found.labels()[lesion] == 3).mean() < 0.12


def test_the_same_scan_gives_the_same_bytes(case, found):
    again = tissue_maps(case.image, case.brain)
    assert again.maps.tobytes() == found.maps.tobytes()
    assert again.report["matrix"] == found.report["matrix"]


def test_a_finer_grid_gets_the_same_tissues(case, registration, found):
    grid = Grid.of(case.image)
    fine = np.diag([0.5, 0.5, 1.0, 1.0])
    fine[:2, 3] = -0.25
    finer = Grid((30, 224, 192), grid.affine @ fine)
    image = sample_on(case.image, finer, order=0)
    brain = sample_on(case.image.with_array(case.brain), finer, order=0).array
    maps = tissue_maps(image, brain, registration=registration)
    np.testing.assert_allclose(maps.maps.sum(axis=0), brain, atol=1e-5)
    assert dice(maps.labels()[:, ::2, ::2] == 2, found.labels() == 2) > 0.9


def test_the_warp_brings_the_atlas_closer_to_the_head(case, registration):
    field, grid = warp_field(case.image, case.brain, registration)
    assert field.shape == (3, *grid.shape)
    assert 0.5 < np.abs(field).max() < 25.0
    true = true_maps(case).maps
    misfit = [
        np.abs(priors_on(case.image, case.brain, registration, PriorSettings(warp=warp)) - true)[:, case.brain].mean()
        for warp in (True, False)
    ]
    assert misfit[0] < misfit[1]


def test_a_displacement_points_where_the_atlas_lies():
    atlas, inside = atlas_brain()
    atlas, inside = atlas.with_array(atlas.array.copy()), inside.copy()
    shift = np.eye(4)
    shift[:3, 3] = (4.0, 0.0, 0.0)
    moved = sample_on(atlas, Grid.of(atlas), shift, fill=0.0)
    brain = sample_on(atlas.with_array(inside), Grid.of(atlas), shift, order=0).array
    field, _ = warp_field(moved, brain, Registration(np.eye(4), float("nan"), 0))
    strong = np.abs(field[0]) > 1.5
    assert strong.sum() > 500
    assert (field[0][strong] > 0).mean() > 0.9


def test_the_truth_is_one_tissue_a_voxel_with_chronic_infarcts_as_fluid(case):
    maps = true_maps(case)
    assert set(np.unique(maps.maps)) == {0.0, 1.0}
    np.testing.assert_array_equal(maps.labels() > 0, case.brain)
    lesion = case.truth["lesion"]
    assert not (maps.labels()[lesion] == 3).any()
    chronic = case.truth["tissue"].copy()
    chronic[lesion] = 6
    changed = dataclasses.replace(case, truth=case.truth | {"tissue": chronic})
    assert (true_maps(changed).labels()[lesion] == 3).all()


def test_a_mask_is_taken_out_of_the_maps(case):
    lesion = case.truth["lesion"]
    maps = true_maps(case).without(lesion)
    assert not maps.maps[:, lesion].any()
    np.testing.assert_array_equal(maps.labels() > 0, case.brain & ~lesion)


def test_the_source_is_chosen_by_name(case, tmp_path):
    assert tissue_maps_from("truth", case).report["source"] == "truth"
    write_spm(case, tmp_path)
    assert tissue_maps_from("user", case, files=tmp_path).report["source"] == "user"
    with pytest.raises(ParameterError, match="atlas or truth or user"):
        tissue_maps_from("spm", case)
    with pytest.raises(ParameterError, match="c1, c2 and c3"):
        tissue_maps_from("user", case)
    scan = Case("x", "x", "x", "test", case.image, brain=case.brain)
    with pytest.raises(DataError, match="no true tissues"):
        tissue_maps_from("truth", scan)
    with pytest.raises(DataError, match="no brain mask"):
        tissue_maps_from("atlas", dataclasses.replace(scan, brain=None))


def write_spm(case, folder, dtype=np.float32, scale=1.0, only=("c1", "c2", "c3"), move_mm=0.0):
    """The true maps as SPM12 would name them, on a smaller grid of the same space."""
    box = box_of(case.brain, 12.0, case.image.spacing)
    affine = crop(case.image, box).affine.copy()
    affine[0, 3] += move_mm
    for prefix, part in zip(("c1", "c2", "c3"), true_maps(case).maps, strict=True):
        if prefix in only:
            write_nifti(Volume((part[box] * scale).astype(dtype), affine), folder / f"{prefix}scan.nii")


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1.0), (np.uint8, 255.0)])
def test_maps_of_a_user_come_back_on_the_grid_of_the_scan(case, tmp_path, dtype, scale):
    write_spm(case, tmp_path, dtype, scale)
    maps = read_tissue_maps(tmp_path, case.image, case.brain)
    np.testing.assert_allclose(maps.maps, true_maps(case).maps, atol=1e-4)
    assert maps.report["covered_share"] > 0.999
    listed = read_tissue_maps(sorted(tmp_path.iterdir(), reverse=True), case.image, case.brain)
    np.testing.assert_array_equal(listed.maps, maps.maps)


def test_maps_of_a_user_are_scaled_to_one_inside_the_brain(case, tmp_path):
    write_spm(case, tmp_path, scale=0.6)
    maps = read_tissue_maps(tmp_path, case.image, case.brain)
    np.testing.assert_allclose(maps.maps.sum(axis=0), case.brain, atol=1e-5)


def test_a_scaled_nifti_as_spm_writes_it_is_read_in_probabilities(case, tmp_path):
    write_spm(case, tmp_path)
    for file in sorted(tmp_path.iterdir()):
        image = nib.load(file)
        data = np.round(np.asarray(image.dataobj) * 255).astype(np.uint8)
        scaled = nib.Nifti1Image(data, image.affine)
        scaled.header.set_slope_inter(1 / 255, 0)
        file.write_bytes(scaled.to_bytes())
    maps = read_tissue_maps(tmp_path, case.image, case.brain)
    np.testing.assert_allclose(maps.maps, true_maps(case).maps, atol=1e-3)


def test_what_a_user_got_wrong_is_named(case, tmp_path):
    def refused(match, **options):
        folder = tmp_path / match.replace(" ", "")
        folder.mkdir()
        write_spm(case, folder, **options)
        with pytest.raises(DataError, match=match) as caught:
            read_tissue_maps(folder, case.image, case.brain)
        assert str(tmp_path) not in str(caught.value)

    refused("c2", only=("c1", "c3"))
    refused("0 to 30", scale=30.0)
    refused("of the brain", move_mm=90.0)
    with pytest.raises(DataError, match="no such folder"):
        read_tissue_maps(tmp_path / "nowhere", case.image, case.brain)
    write_spm(case, tmp_path)
    (tmp_path / "c1other.nii").write_bytes((tmp_path / "c1scan.nii").read_bytes())
    with pytest.raises(DataError, match=r"c1other\.nii, c1scan\.nii"):
        read_tissue_maps(tmp_path, case.image, case.brain)


def test_the_report_weighs_densities_by_the_maps():
    hu = np.array([10.0, 20.0, 30.0, 40.0]).reshape(1, 1, 4)
    maps = np.array([[0, 0, 0.5, 1], [0, 1, 0.5, 0], [1, 0, 0, 0]], float).reshape(3, 1, 1, 4)
    report = maps_of(maps, Volume(hu, AFFINE), np.ones(hu.shape, bool), {}).report
    assert report["mean_hu"] == pytest.approx({"grey": 110 / 3, "white": 70 / 3, "csf": 10.0})
    assert report["volumes_ml"] == pytest.approx({"grey": 0.03, "white": 0.03, "csf": 0.02})
    assert report["sd_hu"]["csf"] == 0.0


def test_a_scan_without_a_brain_is_refused(case):
    with pytest.raises(DataError, match="strip the skull"):
        tissue_maps(case.image, np.zeros(case.brain.shape, bool))
