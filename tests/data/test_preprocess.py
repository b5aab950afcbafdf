"""Preparation: synthetic heads whose pose and tissue are known exactly, and the shipped head CT."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.grids import Grid, Transform, rectify, sample_on
from strokelib.data.midsagittal import align_midsagittal, find_midplane, midplane_transform
from strokelib.data.preprocess import GRIDS, WINDOWS_HU, GridSpec, prepare_ncct, resample, window_hu, zscore
from strokelib.data.reading import read_dicom
from strokelib.data.shipped import head_ct_archive
from strokelib.data.skullstrip import skull_strip
from strokelib.errors import DataError, ParameterError
from strokelib.nn.alignment import rigid_matrix_3d

torch.set_num_threads(1)

BRAIN_MM = (66.0, 82.0, 60.0)


def lps_affine(spacing, shape):
    return Grid.centred(shape, spacing, np.zeros(3)).affine


def pose_matrix(turn_deg=0.0, roll_deg=0.0, shift_mm=(0.0, 0.0, 0.0), pitch_deg=0.0):
    """Head coordinates to scanner coordinates, both (left, posterior, superior) mm about the field's centre."""
    angles = torch.deg2rad(torch.tensor([[pitch_deg, roll_deg, turn_deg]], dtype=torch.float64))
    return rigid_matrix_3d(angles, torch.tensor([shift_mm], dtype=torch.float64))[0].numpy()


def head_at(points, blob_hu=-9.0):
    """HU of a head and membership of its brain at head coordinates (..., 3)."""
    x, y, z = np.moveaxis(points, -1, 0)

    def ellipsoid(a, b, c, at=(0.0, 0.0, 0.0)):
        return np.sqrt(((x - at[0]) / a) ** 2 + ((y - at[1]) / b) ** 2 + ((z - at[2]) / c) ** 2)

    a, b, c = BRAIN_MM
    taper = 1.0 + 0.12 * y / b  # the back of the head is wider than the front
    brain = np.sqrt((x / (a * taper)) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    ring = [np.sqrt((x / (a * taper + t)) ** 2 + (y / (b + t)) ** 2 + (z / (c + t)) ** 2) for t in (3.0, 9.0, 15.0)]
    hu = np.full(x.shape, -1000.0)
    hu[ring[2] < 1] = 40.0  # scalp
    hu[ring[1] < 1] = 900.0  # bone
    hu[ring[0] < 1] = 8.0  # fluid
    hu[brain < 1] = 37.0
    hu[brain < 0.86] = 29.0
    hu[(brain < 1) & (np.abs(x) < 1.2) & (np.abs(y) > 30)] = 45.0  # falx
    for side in (-1, 1):
        hu[ellipsoid(6, 30, 12, (14 * side, 5, 5)) < 1] = 8.0
        hu[ellipsoid(9, 20, 10, (26 * side, -8, 0)) < 1] = 38.0
    hu[(ellipsoid(16, 22, 18, (38, 20, 12)) < 1) & (brain < 1)] += blob_hu
    return hu, ring[0] < 1


def head(spacing=(2.5, 2.5, 2.5), shape=(74, 90, 82), pose=None, noise_hu=3.0, seed=0, **options):
    """A head in a pose: volume, brain mask and the matrix from head to scanner coordinates."""
    pose = pose_matrix() if pose is None else pose
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    back = np.linalg.inv(pose)
    points = np.stack([x, y, z], -1) @ back[:3, :3].T + back[:3, 3]
    hu, brain = head_at(points, **options)
    hu = hu + np.random.default_rng(seed).normal(0, noise_hu, hu.shape)
    return Volume(hu.astype(np.float32), lps_affine(spacing, shape)), brain, pose


def plane_errors(volume, plane, pose):
    """Angle in degrees between the planes found and true, and their largest distance within 70 mm of the centre."""
    to_centre = (np.array(volume.array.shape[::-1]) - 1) / 2 * np.array(volume.spacing[::-1])
    found = plane.matrix()
    found[:3, 3] -= to_centre
    cosine = np.clip(abs(found[:3, 0] @ pose[:3, 0]), 0, 1)
    circle = np.linspace(0, 2 * np.pi, 40)
    points = np.stack([0 * circle, 70 * np.cos(circle), 70 * np.sin(circle)], 1) @ pose[:3, :3].T + pose[:3, 3]
    return np.degrees(np.arccos(cosine)), np.abs((points - found[:3, 3]) @ found[:3, 0]).max()


def dice(a, b):
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.fixture(scope="module")
def head_ct():
    return read_dicom(head_ct_archive())


@pytest.fixture(scope="module")
def prepared(head_ct):
    return prepare_ncct(head_ct, grid="ssl", window="sensitivity")


class TestResample:
    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.1, 1.3), (7.0, 0.5, 2.0), (5.0, 0.46875, 0.46875)])
    def test_without_averaging_it_takes_the_two_nearest_voxels_of_each_axis(self, spacing):
        array = np.random.default_rng(0).normal(size=(7, 64, 48)).astype(np.float32)
        volume = Volume(array, np.diag([-0.46875, -0.46875, 5.0, 1.0]))
        fine = resample(volume, spacing, antialias=False)
        index = np.linalg.inv(volume.affine) @ fine.affine
        places = np.stack(np.meshgrid(*[np.arange(n) for n in fine.array.shape], indexing="ij"), -1)[..., ::-1]
        places = (places @ index[:3, :3].T + index[:3, 3])[..., ::-1]
        slow = ndimage.map_coordinates(array, np.moveaxis(places, -1, 0), order=1, mode="nearest")
        np.testing.assert_allclose(fine.array, slow, atol=2e-4)

    def test_outer_edges_coincide_where_the_field_divides_evenly(self):
        volume = Volume(np.zeros((10, 30, 40), np.float32), lps_affine((5.0, 0.5, 0.75), (10, 30, 40)))
        out = resample(volume, (2.5, 1.0, 1.5))
        assert out.array.shape == (20, 15, 20)
        for corner in (0.0, 1.0):
            edges = [v.affine @ np.append(corner * np.array(v.array.shape[::-1]) - 0.5, 1.0) for v in (volume, out)]
            np.testing.assert_allclose(*edges, atol=1e-9)

    def test_a_field_that_does_not_divide_keeps_its_centre_and_the_exact_spacing(self):
        volume = Volume(np.zeros((7, 33, 21), np.float32), lps_affine((5.0, 0.47, 0.47), (7, 33, 21)))
        out = resample(volume, (1.0, 1.0, 1.0))
        assert out.spacing == pytest.approx((1.0, 1.0, 1.0))
        np.testing.assert_allclose(Grid.of(out).centre, Grid.of(volume).centre, atol=1e-9)
        old, new = (np.multiply(v.array.shape, v.spacing) for v in (volume, out))
        assert (np.abs(old - new) <= 0.5 + 1e-9).all()

    def test_constants_and_ramps_are_exact_and_the_mean_is_kept(self):
        rng = np.random.default_rng(1)
        affine = lps_affine((4.0, 0.5, 0.5), (6, 40, 40))
        flat = resample(Volume(np.full((6, 40, 40), 37, np.int16), affine), (2.0, 1.3, 0.8))
        np.testing.assert_allclose(flat.array, 37, atol=1e-4)
        noise = Volume(rng.normal(30, 5, (6, 40, 40)).astype(np.float32), affine)
        assert resample(noise, (4.0, 2.0, 2.0)).array.mean() == pytest.approx(noise.array.mean(), abs=0.15)
        ramp = Volume(np.broadcast_to(np.arange(40, dtype=np.float32), (6, 40, 40)).copy(), affine)
        fine = resample(ramp, (4.0, 0.5, 0.25)).array[0, 0]
        np.testing.assert_allclose(fine[1:-1], np.arange(80)[1:-1] / 2 - 0.25, atol=1e-4)

    def test_growing_voxels_average_instead_of_aliasing(self):
        stripes = np.tile(np.array([0.0, 100.0], np.float32), 32)
        volume = Volume(np.broadcast_to(stripes, (2, 4, 64)).copy(), lps_affine((1.0, 1.0, 1.0), (2, 4, 64)))
        out = resample(volume, (1.0, 1.0, 4.0)).array
        np.testing.assert_allclose(out[..., 1:-1], 50.0, atol=1e-3)

    def test_order_zero_keeps_labels_and_type(self):
        labels = np.random.default_rng(2).integers(0, 5, (5, 12, 12)).astype(np.uint8)
        out = resample(Volume(labels, lps_affine((3.0, 1.0, 1.0), labels.shape)), (1.0, 0.7, 0.7), order=0)
        assert out.array.dtype == np.uint8
        assert set(np.unique(out.array)) <= set(range(5))

    def test_onto_a_grid_agrees_with_the_separable_way_where_no_smoothing_is_due(self):
        rng = np.random.default_rng(3)
        volume = Volume(rng.normal(0, 10, (8, 20, 22)).astype(np.float32), lps_affine((4.0, 2.0, 2.0), (8, 20, 22)))
        fine = resample(volume, (2.0, 1.0, 1.0))
        there = resample(volume, grid=Grid.of(fine))
        np.testing.assert_allclose(there.array, fine.array, atol=1e-2)

    @pytest.mark.parametrize("arguments", [{}, {"spacing": (1, 1, 1), "grid": 1}, {"spacing": (0, 1, 1)}])
    def test_contradictory_wishes_are_refused(self, arguments):
        with pytest.raises(ParameterError):
            resample(Volume(np.zeros((2, 2, 2)), np.eye(4)), **arguments)


class TestTransform:
    @pytest.mark.parametrize("order", [0, 1, 3])
    def test_the_identity_changes_nothing(self, order):
        array = np.random.default_rng(0).normal(30, 9, (7, 9, 11)).astype(np.float32)
        volume = Volume(array, lps_affine((3.0, 1.0, 0.8), array.shape))
        out = Transform(np.eye(4), Grid.of(volume), Grid.of(volume)).apply(volume, order)
        np.testing.assert_allclose(out.array, array, atol=2e-3)

    def test_there_and_back_is_the_identity_matrix(self):
        volume, brain, _ = head(pose=pose_matrix(11, 5, (6, 3, 0)))
        move = midplane_transform(volume, find_midplane(volume, brain))
        np.testing.assert_allclose(move.matrix @ move.inverse().matrix, np.eye(4), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(move.matrix[:3, :3]), 1.0, atol=1e-12)

    def test_what_lies_outside_is_air_for_scans_and_nothing_for_masks(self):
        far = Grid.centred((2, 2, 2), (1.0, 1.0, 1.0), np.array([500.0, 0, 0]))
        affine = lps_affine((1.0, 1.0, 1.0), (4, 4, 4))
        assert (sample_on(Volume(np.zeros((4, 4, 4), np.int16), affine), far).array == -1024).all()
        assert not sample_on(Volume(np.ones((4, 4, 4), bool), affine), far, order=0).array.any()

    def test_a_sheared_grid_is_set_upright_and_keeps_its_marker(self):
        shape, affine = (12, 40, 30), lps_affine((5.0, 1.0, 1.0), (12, 40, 30))
        affine[1, 2] = 5.0 * np.tan(np.radians(18.5))
        array = np.zeros(shape, np.float32)
        array[5:8, 18:23, 10:15] = 100.0
        upright = rectify(Volume(array, affine))
        axes = upright.affine[:3, :3] / np.linalg.norm(upright.affine[:3, :3], axis=0)
        np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
        before = affine @ [12, 20, 6, 1]
        weights = np.clip(upright.array, 0, None)
        centre = [
            np.average(np.arange(n), weights=weights.sum(axis=a))
            for n, a in zip(weights.shape[::-1], ((0, 1), (0, 2), (1, 2)), strict=True)
        ]
        np.testing.assert_allclose((upright.affine @ [*centre, 1])[:3], before[:3], atol=0.3)


class TestSkullStrip:
    @pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (5.0, 0.9, 0.9), (7.0, 1.2, 1.2)])
    def test_the_brain_of_a_synthetic_head_is_found_also_in_thick_slices(self, spacing):
        shape = tuple(int(np.ceil(f / s)) for f, s in zip((180, 220, 200), spacing, strict=True))
        volume, brain, _ = head(spacing, shape, pose_matrix(8, 3, (4, -3, 0)), noise_hu=4)
        mask, report = skull_strip(volume)
        assert dice(mask, brain) > 0.96
        assert report["volume_ml"] == pytest.approx(brain.sum() * volume.voxel_ml, rel=0.07)
        assert not report["problems"]
        assert not report["cut_below"]

    def test_a_hole_in_the_skull_does_not_let_the_scalp_in(self):
        volume, brain, _ = head()
        array = volume.array.copy()
        hole = (slice(34, 37), slice(42, 47), slice(0, 16))
        assert (array[hole] > 500).any()
        array[hole] = np.where(array[hole] > 500, 30.0, array[hole])
        assert dice(skull_strip(volume.with_array(array))[0], brain) > 0.96

    def test_a_field_that_cuts_the_brain_is_reported_and_accepted(self):
        volume, _, _ = head()
        cut = Volume(volume.array[37:], volume.affine)
        _, report = skull_strip(cut)
        assert report["cut_below"]
        assert not report["cut_above"]

    def test_a_phantom_without_a_brain_is_refused(self):
        volume, _, _ = head()
        for array in (np.full_like(volume.array, -1000), np.full_like(volume.array, 35)):
            with pytest.raises(DataError, match="brain mask"):
                skull_strip(volume.with_array(array))
        _, report = skull_strip(volume.with_array(np.full_like(volume.array, -1000)), strict=False)
        assert report["problems"]

    def test_a_head_too_small_is_refused(self):
        volume, _, _ = head()
        small = Volume(volume.array, volume.affine @ np.diag([0.6, 0.6, 0.6, 1.0]))
        with pytest.raises(DataError, match="mL instead of"):
            skull_strip(small)


class TestAlignment:
    def test_known_poses_are_recovered_within_one_degree_and_one_millimetre(self):
        rng = np.random.default_rng(7)
        errors = []
        for seed in range(8):
            pose = pose_matrix(
                rng.uniform(-20, 20), rng.uniform(-10, 10), (*rng.uniform(-15, 15, 2), 0.0), rng.uniform(-8, 8)
            )
            volume, brain, _ = head(pose=pose, seed=seed)
            errors.append(plane_errors(volume, find_midplane(volume, brain), pose))
        angles, distances = np.array(errors).T
        assert np.median(angles) < 0.3
        assert angles.max() < 0.9
        assert distances.max() < 1.0

    @pytest.mark.parametrize("slice_mm", [3.0, 5.0, 6.0])
    def test_thick_slices_and_a_cut_field_cost_half_a_slice_at_most(self, slice_mm):
        pose = pose_matrix(-12, 4, (7, 0, 0))
        slices = int(180 / slice_mm)
        volume, brain, _ = head((slice_mm, 1.5, 1.5), (slices, 150, 136), pose)
        low = slices // 3
        cut = Volume(volume.array[low:], volume.affine)
        plane = find_midplane(cut, brain[low:])
        pose[2, 3] -= low / 2 * slice_mm  # the cut field's centre lies higher
        _, distance = plane_errors(cut, plane, pose)
        assert abs(plane.turn_deg + 12) < 0.3
        assert distance < slice_mm / 2

    def test_without_roll_every_slice_stays_a_slice(self):
        volume, brain, _ = head(pose=pose_matrix(9, 5, (3, 0, 0)))
        plane = find_midplane(volume, brain, roll=False)
        assert plane.roll_deg == 0.0
        move = midplane_transform(volume, plane)
        np.testing.assert_allclose(move.matrix[2, :2], 0.0, atol=1e-9)

    def test_the_mirror_difference_falls_and_the_middle_column_is_the_midline(self):
        volume, brain, _ = head(pose=pose_matrix(14, -6, (9, 4, 0)))
        aligned, move = align_midsagittal(volume, brain)
        inside = move.apply(volume.with_array(brain), 0).array

        def asymmetry(array):
            tissue = np.clip(array, 0, 80)
            return np.abs(tissue - tissue[..., ::-1]).mean()

        assert asymmetry(aligned.array) < 0.4 * asymmetry(volume.array)
        assert dice(inside, inside[..., ::-1]) > 0.97

    def test_an_upright_head_stays_where_it_is(self):
        volume, brain, pose = head()
        angle, distance = plane_errors(volume, find_midplane(volume, brain), pose)
        assert angle < 0.3
        assert distance < 0.4

    def test_an_empty_mask_is_refused(self):
        volume, brain, _ = head()
        with pytest.raises(DataError, match="brain mask"):
            find_midplane(volume, np.zeros_like(brain))


class TestIntensity:
    def test_windows_have_the_published_ends(self):
        assert WINDOWS_HU["papl"] == (30.0, 100.0)
        assert WINDOWS_HU["ssl"] == (-100.0, 400.0)

    def test_a_window_maps_its_ends_to_zero_and_one_and_clips(self):
        out = window_hu(np.array([-50, 0, 40, 80, 300], np.int16), 0, 80)
        np.testing.assert_allclose(out, [0, 0, 0.5, 1, 1])
        assert out.dtype == np.float32
        with pytest.raises(ParameterError):
            window_hu(out, 80, 0)

    def test_a_z_score_counts_inside_only_and_ignores_the_windows_scale(self):
        rng = np.random.default_rng(0)
        hu, mask = rng.normal(35, 9, (4, 5, 6)), rng.random((4, 5, 6)) > 0.4
        z = zscore(hu, mask)
        assert z[mask].mean() == pytest.approx(0, abs=1e-6)
        assert z[mask].std() == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(zscore(window_hu(hu, -100, 400), mask), z, atol=1e-4)
        with pytest.raises(DataError):
            zscore(hu, np.zeros_like(mask))


class TestPrepare:
    @pytest.mark.parametrize("grid", sorted(GRIDS))
    def test_a_lesion_comes_back_to_the_scanners_grid(self, grid):
        pose = pose_matrix(-13, 5, (8, 5, 0))
        volume, brain, _ = head((3.0, 2.0, 2.0), (60, 112, 104), pose)
        done = prepare_ncct(volume, grid=grid, brain=brain)
        assert dice(done.to_native(done.brain).array, brain) > 0.93
        axes = np.meshgrid(
            *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(done.hu.array.shape, done.hu.spacing, strict=True)],
            indexing="ij",
        )
        lesion = (axes[0] ** 2 + axes[1] ** 2 + (axes[2] - 30) ** 2 < 20**2) & done.brain
        native = done.to_native(lesion)
        assert native.array.shape == volume.array.shape
        assert dice(done.from_native(native.array), lesion) > 0.9
        assert native.array.sum() * native.voxel_ml == pytest.approx(lesion.sum() * done.hu.voxel_ml, rel=0.05)

    def test_a_mask_drawn_natively_survives_there_and_back(self):
        volume, brain, _ = head((2.5, 1.75, 1.75), (72, 128, 118), pose_matrix(11, 4, (5, 0, 0)))
        done = prepare_ncct(volume, grid="demo", brain=brain)
        z, y, x = np.indices(volume.array.shape)
        lesion = (((z - 38) * 2.5) ** 2 + ((y - 68) * 1.75) ** 2 + ((x - 80) * 1.75) ** 2 < 18**2) & brain
        assert dice(done.to_native(done.from_native(lesion)).array, lesion) > 0.9

    def test_the_published_grid_has_the_published_numbers(self):
        volume, brain, _ = head((5.0, 1.5, 1.5), (36, 150, 136))
        done = prepare_ncct(volume, grid="adn", brain=brain)
        assert done.hu.array.shape == (40, 256, 256)
        assert done.hu.spacing == pytest.approx((5.0, 1.2, 1.2))
        papl = prepare_ncct(volume, grid="papl", window="papl", brain=brain)
        assert papl.hu.array.shape == (36, 256, 256)
        assert papl.hu.spacing[1] == pytest.approx(papl.hu.spacing[2])
        assert papl.image.array.min() == 0
        assert papl.image.array.max() <= 1
        assert not papl.image.array[~papl.brain].any()

    def test_bone_does_not_bleed_into_the_brain(self):
        volume, brain, _ = head((5.0, 1.5, 1.5), (36, 150, 136), pose_matrix(10, 6), noise_hu=2)
        inside = skull_strip(volume)[0] & brain
        done = prepare_ncct(volume, grid="demo", brain=inside)
        assert np.percentile(done.hu.array[done.brain], 99.5) < 60

    def test_without_alignment_the_scanners_pose_stays(self):
        volume, brain, _ = head(pose=pose_matrix(15, 0, (6, 0, 0)))
        done = prepare_ncct(volume, grid="native", brain=brain, align=False)
        np.testing.assert_allclose(done.hu.array[~brain], volume.array[~brain], atol=0.1)

    def test_a_grid_that_cuts_the_brain_is_refused(self):
        volume, brain, _ = head()
        with pytest.raises(DataError, match="prepared grid"):
            prepare_ncct(volume, grid=GridSpec((20, 40, 40), (2.0, 2.0, 2.0)), brain=brain)

    def test_a_misspelt_grid_is_refused(self):
        volume, brain, _ = head()
        with pytest.raises(ParameterError, match="adnn"):
            prepare_ncct(volume, grid="adnn", brain=brain)


class TestHeadCt:
    def test_its_brain_is_plausible(self, head_ct):
        _, report = skull_strip(head_ct)
        assert 900 < report["volume_ml"] < 1700
        assert report["cut_below"]
        assert 28 < report["hu_percentiles"][50] < 36

    def test_alignment_lowers_its_mirror_difference(self, prepared):
        assert prepared.report["after"] < 0.65 * prepared.report["before"]
        assert 7 < abs(prepared.report["turn_deg"]) < 12

    def test_its_prepared_brain_is_centred_and_holds_tissue(self, prepared):
        assert prepared.report["brain_kept"] > 0.999
        percentiles = prepared.report["hu_percentiles"]
        assert percentiles[1] > 0
        assert percentiles[99] < 80
        columns = np.flatnonzero(prepared.brain.any(axis=(0, 1)))
        assert abs((columns[0] + columns[-1]) / 2 - (prepared.brain.shape[2] - 1) / 2) < 3

    def test_its_brain_comes_back_to_the_scanners_grid(self, prepared, head_ct):
        back = prepared.to_native(prepared.brain)
        assert back.array.shape == head_ct.array.shape
        assert dice(back.array, prepared.native_brain) > 0.98
