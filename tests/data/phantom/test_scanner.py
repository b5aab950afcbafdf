"""Pose, grids and noise."""

from dataclasses import replace

import numpy as np
import pytest

from strokelib import settings
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.protocols import PROTOCOLS, protocols_csv
from strokelib.data.phantom.scanner import GRIDS, Pose, block_factor, draw_pose, grid, noise_of_slices

POSE = Pose(9.0, 2.0, -3.0, (4.0, -2.0, 1.0), 12.0, 0.45, 5.0, 28, 1.0)
AISD = PROTOCOLS["aisd"]


def test_the_midline_plane_holds_the_heads_mirror_points():
    *normal, offset = POSE.midline_plane()
    points = POSE.rotation() @ np.array([[0, 0, 0], [0, 50, -80], [0, 30, 60]], float)
    np.testing.assert_allclose(np.array(normal) @ (points + np.array(POSE.shift_mm)[:, None]), offset, atol=1e-9)


def test_the_angle_is_that_of_the_midline_in_the_picture():
    nx, ny, _, _ = POSE.midline_plane()
    down = np.array([-ny, nx])
    dx, dy = -down
    assert np.rad2deg(np.arctan2(dx * np.sign(dy), abs(dy))) == pytest.approx(POSE.angle_deg)


def test_poses_stay_within_their_limits():
    poses = [draw_pose(seed, AISD) for seed in range(300)]
    assert max(abs(p.angle_deg) for p in poses) <= KNOBS.angle_max_deg
    assert all(AISD.pixel_mm[0] <= p.pixel_mm <= AISD.pixel_mm[1] for p in poses)
    assert {p.slices for p in poses} == set(range(28, 32))


@pytest.mark.parametrize("cohort", PROTOCOLS)
def test_each_cohort_has_the_slices_of_its_protocol(cohort):
    poses = [draw_pose(seed, PROTOCOLS[cohort]) for seed in range(60)]
    assert {p.slice_mm for p in poses} == set(PROTOCOLS[cohort].slice_mm)
    assert all(KNOBS.coverage_min_mm - 5 <= p.slices * p.slice_mm <= KNOBS.coverage_max_mm + 5 for p in poses)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_centred_on_the_scanner(name):
    target = grid(name, POSE)
    depth, height, width = target.shape
    centre = target.affine @ [(width - 1) / 2, (height - 1) / 2, (depth - 1) / 2, 1.0]
    np.testing.assert_allclose(centre[:3], 0.0, atol=1e-9)


def test_the_native_grid_is_sheared_by_the_gantry_and_the_prepared_one_is_not():
    native, prepared = grid("native", POSE).affine, grid("prepared", POSE).affine
    shear = native[:3, 1] @ native[:3, 2] / np.linalg.norm(native[:3, 1]) / np.linalg.norm(native[:3, 2])
    assert np.rad2deg(np.arcsin(-shear)) == pytest.approx(12.0)
    assert prepared[:3, 1] @ prepared[:3, 2] == 0


def test_one_pixel_is_its_own_block():
    assert block_factor(0.45, 0.45, 0.445) == pytest.approx(1.0)


def _noise(target, pose, seed=3):
    depth, height, width = target.shape
    of = noise_of_slices(seed, target, pose, AISD)
    return np.stack([of((k, slice(0, height), slice(0, width))).numpy() for k in range(depth)])


def _native(pixel_mm):
    pose = replace(POSE, pixel_mm=pixel_mm)
    return _noise(replace(grid("native", pose), shape=(4, 512, 512)), pose)


def test_the_block_factor_is_that_of_simulated_noise():
    native = _native(0.45)
    blocks = native[:, :508, :508].reshape(4, 127, 4, 127, 4).mean(axis=(2, 4))
    assert blocks.std() / native.std() == pytest.approx(block_factor(1.8, 0.45, AISD.noise_blur_mm), rel=0.05)


def test_prepared_noise_lies_between_2_and_3_hu():
    assert 2.0 < np.mean([_noise(grid("prepared", POSE), POSE, seed).std() for seed in range(3)]) < 3.0


def test_native_noise_has_the_correlation_measured_on_the_real_scan():
    sample = _native(0.488)
    found = [(sample[..., lag:] * sample[..., :-lag]).mean() / sample.var() for lag in (1, 2)]
    np.testing.assert_allclose(found, [0.74, 0.30], atol=0.03)


def test_noise_is_the_same_whichever_part_is_asked_for():
    of = noise_of_slices(3, grid("prepared", POSE), POSE, AISD)
    whole, part = of((4, slice(0, 112), slice(0, 96))), of((4, slice(0, 60), slice(40, 96)))
    np.testing.assert_allclose(part, whole[:60, 40:], atol=1e-6)


def test_thin_slices_are_noisier():
    thin, thick = (replace(grid("native", POSE), shape=(2, 512, 512), slice_mm=mm) for mm in (2.5, 5.0))
    assert _noise(thin, POSE).std() == pytest.approx(_noise(thick, POSE).std() * 2**0.5, rel=1e-3)


def test_the_table_of_protocols_is_the_committed_one():
    assert (settings.manifests_dir() / "protocols.csv").read_text("utf-8") == protocols_csv()
