"""Rendered cases: reproducible, and true to what they say of themselves."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from strokelib import settings
from strokelib.data import shipped
from strokelib.data.phantom import embedded
from strokelib.data.phantom.anatomy import draw_head
from strokelib.data.phantom.painting import TISSUES
from strokelib.data.phantom.render import painted_slices, render_scene
from strokelib.data.phantom.scanner import grid, unposed
from strokelib.data.phantom.warp import world_to_standard
from strokelib.errors import ParameterError

NAMES = ("aisd-0003", "xwhd-0003", "aisd-0347")


@pytest.fixture(scope="module")
def pairs():
    return {name: embedded.render_pair(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def pair(request, pairs):
    return pairs[request.param]


def test_the_same_name_gives_the_same_bytes(pairs):
    again = embedded.render(NAMES[0])
    first = pairs[NAMES[0]][0]
    assert again.image.array.tobytes() == first.image.array.tobytes()
    assert again.facts == first.facts
    for name, array in first.truth.items():
        assert again.truth[name].tobytes() == array.tobytes()


def test_two_cases_differ(pairs):
    first, second = (pairs[name][0] for name in NAMES[:2])
    assert first.facts["seed"] != second.facts["seed"]
    assert (first.image.array != second.image.array).mean() > 0.3


def test_a_case_says_what_it_is(pair):
    case = pair[0]
    row = shipped.participants().loc[case.patient]
    assert case.embedded
    assert case.image.array.dtype == np.int16
    assert case.image.array.shape == case.lesion.shape == case.brain.shape == (30, 112, 96)
    assert case.image.spacing == pytest.approx((5.0, 2.0, 2.0))
    assert case.facts["nihss"] == (None if np.isnan(row["nihss"]) else row["nihss"])
    assert case.facts["anatomy"] == ("B" if case.id == "aisd-0347" else "A")


def test_the_lesion_lies_in_the_brain_and_not_in_fluid(pair):
    case = pair[0]
    assert case.lesion.any()
    assert case.brain[case.lesion].all()
    assert set(np.unique(case.truth["tissue"][case.lesion])) <= {
        TISSUES.index("grey matter"),
        TISSUES.index("white matter"),
    }


def test_the_lesion_has_roughly_the_volume_of_the_patients_mask(pair):
    assert 0.4 < pair[0].lesion_ml / pair[0].facts["mask_ml"] < 1.1


def test_the_lesion_is_darker_by_what_was_painted_less_the_fluid_that_swelling_squeezed_out(pair):
    with_infarct, without = pair
    core = with_infarct.lesion & (without.truth["tissue"] == with_infarct.truth["tissue"])
    difference = (with_infarct.image.array.astype(float) - without.image.array)[core].mean()
    painted = with_infarct.truth["infarct_hu"].astype(float)[core].mean()
    assert difference == pytest.approx(painted, abs=1.5)
    assert difference < -0.5
    assert -12.0 < painted < -0.5
    assert (with_infarct.truth["infarct_hu"] <= 0).all()


def test_the_pair_is_the_same_image_away_from_the_infarct(pair):
    with_infarct, without = pair
    far = ~ndimage.binary_dilation(with_infarct.lesion, iterations=20)
    assert far.sum() > 1000
    np.testing.assert_array_equal(with_infarct.image.array[far], without.image.array[far])
    assert not without.lesion.any()
    assert not without.truth["infarct_hu"].any()


def test_the_skull_surrounds_the_brain(pair):
    case = pair[0]
    middle = case.truth["tissue"][15]
    ring = ndimage.binary_dilation(case.brain[15], iterations=3) & ~ndimage.binary_dilation(case.brain[15])
    assert (middle[ring] == TISSUES.index("bone")).mean() > 0.8
    assert np.median(case.image.array[15][ring]) > 300


def test_grey_matter_is_denser_than_white_and_fluid_is_darkest(pair):
    case = pair[1]
    grey, white, fluid = (case.image.array[(case.truth["tissue"] == n) & case.brain].mean() for n in (1, 2, 3))
    assert 2.5 < grey - white < 9.0
    assert fluid < white - 8


def test_stripping_leaves_the_brain_alone(pair):
    case = pair[0]
    bare = embedded.stripped(case)
    np.testing.assert_array_equal(bare.image.array[case.brain], case.image.array[case.brain])
    assert (bare.image.array[~case.brain] == embedded.AIR_HU).all()


def test_the_pose_in_the_facts_is_the_pose_in_the_image():
    planned = embedded.plan(NAMES[0])
    pose = dataclasses.replace(planned.pose, angle_deg=11.0, shift_mm=(6.0, -4.0, 3.0))
    target = grid("prepared", pose)
    posed = render_scene(target, planned.head, pose, None, planned.protocol, noisy=False)
    straight = render_scene(target, planned.head, unposed(pose), None, planned.protocol, noisy=False)
    to_posed = np.linalg.inv(world_to_standard(planned.head, pose) @ target.affine)
    chain = to_posed @ world_to_standard(planned.head, unposed(pose)) @ target.affine
    k, j, i = np.indices(target.shape).reshape(3, -1)
    x, y, z, _ = chain @ np.stack([i, j, k, np.ones(i.size)])
    moved = ndimage.map_coordinates(posed.hu.astype(float), [z, y, x], order=1, mode="nearest").reshape(target.shape)
    inner = ndimage.binary_erosion(straight.brain, iterations=3)
    inner[:4], inner[-6:] = False, False
    error = np.abs(moved - straight.hu)[inner].mean()
    assert error < 1.5
    assert error < 0.4 * np.abs(posed.hu.astype(float) - straight.hu)[inner].mean()


def test_the_midline_plane_runs_through_the_falx():
    planned = embedded.plan(NAMES[1])
    head = dataclasses.replace(planned.head, calcium_mm=(0.0, 0.0, 0.0, 0.0, 3.0))
    target = grid("prepared", planned.pose)
    scene = render_scene(target, head, planned.pose, None, planned.protocol, noisy=False)
    k, j, i = np.indices(target.shape).reshape(3, -1)
    points = target.affine @ np.stack([i, j, k, np.ones(i.size)])
    *normal, offset = planned.pose.midline_plane()
    distance = (np.array(normal) @ points[:3] - offset).reshape(target.shape)
    inner = np.stack([ndimage.binary_erosion(part, iterations=4) for part in scene.brain]) & (np.abs(distance) < 30)
    brightest = np.where(inner, scene.hu, -1000)[18:22].argmax(axis=-1)
    found = np.take_along_axis(distance[18:22], brightest[..., None], axis=-1)[inner[18:22].any(axis=-1)]
    assert found.size > 200
    assert abs(np.median(found)) < 2.0
    assert np.percentile(np.abs(found), 75) < 4.0


def test_a_native_slice_shows_the_tables_of_the_skull_and_int16_hu():
    planned = embedded.plan(NAMES[0])
    target = dataclasses.replace(grid("native", planned.pose), shape=(2, 512, 512))
    affine = target.affine.copy()
    affine[2, 3] = 20.0 - affine[2, 1] * 255.5
    target = dataclasses.replace(target, affine=affine)
    scene = render_scene(target, planned.head, planned.pose, planned.infarct, planned.protocol)
    assert scene.hu.dtype == np.int16
    assert scene.hu.max() > 900
    assert -1024 <= scene.hu.min() < -950
    assert 0.2 < scene.brain.mean() < 0.6


def test_older_heads_have_more_fluid():
    ages = [np.mean([draw_head(seed, age).ventricle_mm for seed in range(40)]) for age in (30, 60, 90)]
    assert ages == sorted(ages)
    widths = [np.mean([draw_head(seed, age).sulcus_mm for seed in range(40)]) for age in (30, 60, 90)]
    assert widths == sorted(widths)


def test_missing_age_stays_missing_and_the_head_still_has_one():
    planned = next(p for p in (embedded.plan(f"aisd-{n:04d}") for n in range(1, 40)) if p.covariates["age"] is None)
    assert 18 <= planned.head.age <= 95


@pytest.mark.parametrize("name", ["aisd-9999", "isles2018-0001-9", "nonsense"])
def test_an_unknown_case_is_refused(name):
    with pytest.raises(ParameterError):
        embedded.render(name)


def test_a_head_without_a_patient_has_no_infarct():
    case = embedded.render("center_tbi-0001")
    assert not case.lesion.any()
    assert not case.truth["lesion"].any()
    assert case.facts["label"] == "none"
    assert case.facts["onset_hours"] is None
    assert case.patient == case.id


def test_a_silver_label_differs_from_the_infarct_and_a_gold_one_does_not(pairs):
    gold = pairs[NAMES[0]][0]
    np.testing.assert_array_equal(gold.lesion, gold.truth["lesion"])
    listed = embedded.rows("icoais", settings.manifests_dir())
    name = next(
        name for name, row in listed.items() if row.label == "silver" and embedded.plan(name).infarct.volume_ml > 10
    )
    silver = embedded.render(name)
    both = 2 * (silver.lesion & silver.truth["lesion"]).sum() / (silver.lesion.sum() + silver.truth["lesion"].sum())
    assert 0.3 < both < 0.999


def test_territories_are_on_their_sides(pairs):
    case = pairs[NAMES[1]][0]
    names = shipped.territories()[1]
    k, j, i = np.nonzero(case.truth["territory"])
    left = np.array([names["side"][n] == "left" for n in case.truth["territory"][k, j, i]])
    *normal, offset = case.facts["midline_plane"]
    points = case.image.affine @ np.stack([i, j, k, np.ones(i.size)])
    away = np.array(normal) @ points[:3] - offset
    far = np.abs(away) > 8
    assert (left[far] == (away[far] < 0)).mean() > 0.97


def test_xwhd_has_no_chronic_change():
    heads = [embedded.plan(f"xwhd-{n:04d}").head for n in range(1, 12)]
    assert all(not h.chronic and h.white_change == 0 and not any(h.calcium_mm) for h in heads)


def test_brains_have_a_living_size():
    volumes = [c.brain.sum() * c.image.voxel_ml for c in map(embedded.render, ("aisd-0001", "xwhd-0002", "aisd-0347"))]
    assert all(1100 < v < 1900 for v in volumes)


def test_the_shares_of_a_painted_voxel_add_up_to_at_most_one():
    planned = embedded.plan(NAMES[1])
    slabs = list(painted_slices(grid("prepared", planned.pose), planned.head, planned.pose, planned.infarct))
    total = np.concatenate([s.shares.sum(0).numpy().ravel() for s in slabs])
    assert total.min() > -1e-4
    assert total.max() < 1 + 1e-3


def test_the_published_grid_shows_the_same_head(pairs):
    coarse, fine = pairs[NAMES[0]][0], embedded.render(NAMES[0], "published")
    assert fine.image.array.shape == (40, 256, 256)
    assert fine.lesion_ml == pytest.approx(coarse.lesion_ml, rel=0.15)
    assert fine.brain.sum() * fine.image.voxel_ml == pytest.approx(coarse.brain.sum() * coarse.image.voxel_ml, rel=0.05)
