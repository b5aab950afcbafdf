"""Pose, grids and noise."""

import numpy as np
import pytest

from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.scanner import Pose, block_factor, draw_pose, grid, noise

POSE = Pose(9.0, 2.0, -3.0, (4.0, -2.0, 1.0), 12.0, 0.45, 28)


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
    poses = [draw_pose(seed) for seed in range(300)]
    assert max(abs(p.angle_deg) for p in poses) <= KNOBS.angle_max_deg
    assert all(KNOBS.pixel_min_mm <= p.pixel_mm <= KNOBS.pixel_max_mm for p in poses)
    assert {p.slices for p in poses} == set(range(27, 32))


@pytest.mark.parametrize("name", ["prepared", "native"])
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


def test_the_block_factor_is_that_of_simulated_noise():
    target = grid("native", POSE)
    native = noise(3, type(target)("native", (4, 512, 512), target.affine, 5.0, 2, 8), 0.45).numpy()
    blocks = native[:, :508, :508].reshape(4, 127, 4, 127, 4).mean(axis=(2, 4))
    assert blocks.std() / native.std() == pytest.approx(block_factor(1.8, 0.45, KNOBS.noise_blur_mm), rel=0.05)


def test_prepared_noise_lies_between_2_and_3_hu():
    levels = [float(noise(seed, grid("prepared", POSE), 0.45).std()) for seed in range(6)]
    assert 2.0 < np.mean(levels) < 3.0


def test_native_noise_has_the_correlation_measured_on_the_real_scan():
    target = grid("native", POSE)
    sample = noise(3, type(target)("native", (4, 512, 512), target.affine, 5.0, 2, 8), 0.488).numpy()
    found = [(sample[..., lag:] * sample[..., :-lag]).mean() / sample.var() for lag in (1, 2)]
    np.testing.assert_allclose(found, [0.74, 0.30], atol=0.03)
