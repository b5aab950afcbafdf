"""Real masks: cap, course in time, swelling."""

import numpy as np
import pytest
from scipy import ndimage

from strokelib.data import shipped
from strokelib.data.phantom.fields import generator, smooth_field
from strokelib.data.phantom.infarcts import (
    PAD_MM,
    capped,
    draw_infarct,
    expected_drop_hu,
    read_with_error,
    water_uptake,
)
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


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9, 0.999])
def test_the_cap_keeps_the_deepest_voxels_and_of_equally_deep_ones_the_first(share):
    rng = np.random.default_rng(0)
    mask = np.pad(ndimage.gaussian_filter(rng.standard_normal((40, 44, 42)), 6.0) > 0, 2)
    cap_ml = round(share * mask.sum()) / 1000
    depth = ndimage.distance_transform_edt(mask)
    order = np.argsort(-depth[mask], kind="stable")[: round(cap_ml * 1000)]
    kept = np.zeros(int(mask.sum()), bool)
    kept[order] = True
    np.testing.assert_array_equal(capped(mask, cap_ml)[mask], kept)
    assert depth.max() > 8  # deeper than it looks at first


def plain_reading(seed, lattice, full):
    """The reader's outline by whole distance transforms, a voxel's part by the coordinates of the nearest one."""
    k, rng = KNOBS, generator(seed, "reader")
    outside, nearest = ndimage.distance_transform_edt(~full, return_indices=True)
    distance = ndimage.distance_transform_edt(full) - outside
    shift = rng.normal(k.reader_bias_mm, k.reader_bias_sd_mm)
    wander = k.reader_sd_mm * smooth_field(rng, lattice, k.reader_spacing_mm).numpy()
    drawn = distance + np.clip(shift + wander, 1.0 - PAD_MM, PAD_MM - 1.0) > 0
    parts, count = ndimage.label(full)
    sizes = ndimage.sum_labels(full, parts, range(1, count + 1)) / 1000.0
    missed = rng.random(count) < np.exp(-sizes / k.reader_misses_ml)
    if missed.all():
        missed[sizes.argmax()] = False
    return drawn & ~np.concatenate(([True], missed))[parts[tuple(nearest)]], missed


def test_a_readers_outline_is_that_of_the_whole_distance_transforms():
    lost = 0
    for seed, patient in enumerate(("sub-1001", "sub-634", "sub-362", "sub-1000", "sub-634")):
        infarct = draw_infarct(seed, patient, AISD)
        full = infarct.maps[0].numpy() > 0.5
        expected, missed = plain_reading(seed, infarct.lattice, full)
        lost += int(missed.sum())
        np.testing.assert_array_equal(read_with_error(seed, infarct.lattice, full).numpy() > 0.5, expected)
    assert lost > 2
