"""Real masks: cap, course in time, swelling."""

import numpy as np
import pytest
from scipy import ndimage

from strokelib.data import shipped
from strokelib.data.phantom.infarcts import capped, depth_inside, draw_infarct, expected_drop_hu, water_uptake
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.protocols import PROTOCOLS

AISD = PROTOCOLS["aisd"]


def test_a_mask_below_the_cap_is_left_alone():
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    assert capped(mask, 2.0) is mask


def test_a_mask_above_the_cap_keeps_its_deepest_part():
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    kept = capped(mask, 0.5)
    assert kept.sum() == 500
    assert not (kept & ~mask).any()
    assert kept[9:11, 9:11, 9:11].all()
    assert not kept[5, 5, 5]


def test_the_largest_mask_is_capped_at_300_ml():
    infarct = draw_infarct(1, "sub-1373", AISD)
    assert infarct.volume_ml == pytest.approx(300.0)
    assert infarct.maps[0].sum() == 300_000


def test_water_uptake_passes_the_published_threshold_at_four_and_a_half_hours():
    assert water_uptake(4.5) == pytest.approx(0.115, abs=0.005)


def test_the_loss_of_density_grows_with_time_within_its_limits():
    drops = [expected_drop_hu(t) for t in (1, 3, 6, 12, 24)]
    assert drops == sorted(drops)
    assert drops[0] == KNOBS.drop_min_hu
    assert drops[-1] <= KNOBS.drop_max_hu


@pytest.mark.parametrize("patient", ["sub-1000", "sub-1001"])
def test_the_mask_in_its_box_is_the_patients_own(patient):
    infarct, mask = draw_infarct(3, patient, AISD), shipped.infarct(patient).array
    assert infarct.maps[0].sum() == mask.sum()
    assert infarct.side == "left"
    x, y, z = (a.expand(infarct.lattice.shape)[infarct.maps[0] > 0].numpy() for a in infarct.lattice.axes())
    affine = shipped.infarct(patient).affine
    found = np.stack([x.mean(), y.mean(), z.mean()])
    k, j, i = (index.mean() for index in np.nonzero(mask))
    np.testing.assert_allclose(found, (affine @ [i, j, k, 1.0])[:3], atol=0.01)


def test_swelling_is_zero_away_from_the_infarct_and_points_outwards():
    infarct = draw_infarct(3, "sub-1001", AISD)
    assert (infarct.squeeze == 0).float().mean() > 0.5
    assert (infarct.push == 0).all(0).float().mean() > 0.5
    assert 0 < float(infarct.push.abs().max()) <= KNOBS.expansion_mm


def test_a_gold_label_is_the_mask_and_a_silver_one_is_near_it():
    gold = draw_infarct(3, "sub-1001", AISD)
    np.testing.assert_array_equal(gold.maps[0], gold.maps[2])
    dice = []
    for seed in range(6):
        mask, _, label = draw_infarct(seed, "sub-1001", AISD, "silver").maps
        dice.append(float(2 * (mask * label).sum() / (mask.sum() + label.sum())))
    assert max(dice) < 0.999
    assert np.mean(dice) > 0.5


@pytest.mark.parametrize("cohort", ["aisd", "xwhd"])
def test_the_time_to_the_scan_is_the_protocols(cohort):
    protocol = PROTOCOLS[cohort]
    hours = [draw_infarct(seed, "sub-1000", protocol).onset_hours for seed in range(60)]
    assert np.median(hours) == pytest.approx(protocol.onset_h, rel=0.35)


def test_the_depth_inside_a_mask_is_that_of_the_whole_array():
    mask = np.random.default_rng(0).random((24, 30, 28)) < 0.9
    mask[:6], mask[18:], mask[:, :7], mask[:, 25:], mask[..., :4], mask[..., 22:] = (False,) * 6
    assert np.array_equal(depth_inside(mask), ndimage.distance_transform_edt(mask))
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    assert np.array_equal(depth_inside(mask), ndimage.distance_transform_edt(mask))
