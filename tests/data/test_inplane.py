"""Alignment in plane by a line, and the way back."""

import numpy as np
import pytest

from strokelib.data.inplane import align_case, known_line, one_line, weighted_median
from strokelib.data.phantom import embedded
from strokelib.errors import DataError


@pytest.fixture(scope="module")
def case():
    return embedded.render_turned("aisd-0003", 12.0)


def test_the_known_line_has_the_angle_of_the_pose(case):
    ends = known_line(case)
    good = np.isfinite(ends).all(axis=(1, 2))
    way = ends[good, 1] - ends[good, 0]
    long = way[:, 1] > 60
    angle = np.rad2deg(np.arctan2(way[long, 0], way[long, 1]))
    assert angle == pytest.approx(np.full(len(angle), 12.0), abs=1.5)


def test_an_aligned_brain_is_more_like_its_mirror_image(case):
    aligned = align_case(case, known_line(case)).case

    def overlap(brain):
        return (brain & brain[..., ::-1]).sum() / brain.sum()

    assert overlap(aligned.brain) > overlap(case.brain) + 0.02
    assert overlap(aligned.brain) > 0.93


def test_a_mask_comes_back(case):
    aligned = align_case(case, known_line(case))
    back = aligned.restore(aligned.case.brain)
    assert back.dtype == bool
    assert 2 * (back & case.brain).sum() / (back.sum() + case.brain.sum()) > 0.98


def test_each_voxel_keeps_its_place_in_the_scanner(case):
    aligned = align_case(case, known_line(case)).case
    before, after = (
        np.mean(np.argwhere(c.brain)[:, ::-1] @ c.image.affine[:3, :3].T + c.image.affine[:3, 3], axis=0)
        for c in (case, aligned)
    )
    np.testing.assert_allclose(before, after, atol=0.3)


def test_slice_by_slice_leaves_each_slices_own_line_upright(case):
    ends = known_line(case)
    aligned = align_case(case, ends, line_of="slice")
    good = np.flatnonzero(np.isfinite(ends).all(axis=(1, 2)))
    for z in good[::5]:
        points = aligned.forward[z].numpy() @ np.vstack([ends[z].T, [1, 1]])
        assert points[0] == pytest.approx([(case.image.array.shape[2] - 1) / 2] * 2, abs=1e-6)


def test_one_line_of_many_ignores_a_slice_that_went_wrong():
    ends = np.tile(np.array([[40.0, 10.0], [40.0, 90.0]]), (9, 1, 1))
    ends[4] = [[0.0, 10.0], [90.0, 90.0]]
    np.testing.assert_allclose(one_line(ends, np.ones(9)), [[40.0, 10.0], [40.0, 90.0]], atol=1e-9)


def test_a_weighted_median_follows_the_weight():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 10.0])) == 2.0


def test_what_cannot_be_aligned_is_refused(case):
    from dataclasses import replace

    with pytest.raises(DataError, match="no brain mask"):
        align_case(replace(case, brain=None), known_line(case))
    with pytest.raises(DataError, match="no known plane"):
        known_line(replace(case, facts={}))
    with pytest.raises(DataError, match="none"):
        one_line(np.full((3, 2, 2), np.nan), np.ones(3))
