"""Bolus window on synthetic curves, scales, and the network inputs of a synthetic scan."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from strokelib.data.cases import Case, Volume
from strokelib.data.perfusion import temporal_mip
from strokelib.errors import DataError, ParameterError
from strokelib.pseudo_dwi.losses import lesion_weight_map
from strokelib.pseudo_dwi.sampling import (
    BolusWindow,
    bolus_window,
    intensity_curve,
    network_inputs,
    sampled_frames,
    slope,
    temporal_maximum,
)
from strokelib.pseudo_dwi.scaling import scaled, scaled_dwi

MAPS = ("cbf", "cbv", "mtt_s", "tmax_s")


def knots(*points):
    """A curve of straight lines between (frame, value)."""
    frames, values = zip(*points, strict=True)
    return np.interp(np.arange(frames[-1] + 1), frames, values)


def literal_window(curve, k, at_zero_rising=0, at_zero_falling=1):
    """Eqs 2 and 3 as printed, H(0) given, with the derivative of central differences."""
    last = len(curve) - 1
    change = [curve[min(t + 1, last)] - curve[max(t - 1, 0)] for t in range(len(curve))]

    def step(value, at_zero):
        return at_zero if value == 0 else int(value > 0)

    starts = {t for t in range(len(curve) - k) if sum(step(change[t + i], at_zero_rising) for i in range(k)) == k}
    ends = {t for t in range(k, len(curve)) if sum(step(change[t - i], at_zero_falling) for i in range(k)) == 0}
    return (min(starts) if starts else None), (max(ends) if ends else None)


PLATEAUX = knots((0, 40.0), (5, 40.0), (14, 58.0), (24, 40.0), (44, 40.0))


# Eq. 1


def test_the_temporal_maximum_is_taken_voxel_by_voxel():
    series = np.random.default_rng(0).integers(-1000, 1000, (7, 2, 3, 4)).astype(np.int16)
    found = temporal_maximum(series)
    assert found.dtype == np.float32
    for place in np.ndindex(2, 3, 4):
        assert found[place] == max(series[(t, *place)] for t in range(7))
    assert np.array_equal(found, temporal_mip(series))


@pytest.mark.parametrize("series", [np.zeros((2, 3, 4)), np.zeros((0, 2, 3, 4))])
def test_a_series_without_frames_or_axes_is_refused(series):
    for use in (temporal_maximum, intensity_curve):
        with pytest.raises(DataError, match="series"):
            use(series)


def test_the_intensity_curve_is_the_sum_over_the_mask_in_double_precision():
    series = np.full((3, 2, 4, 4), 30_000, np.int16)
    series[1] = -5
    mask = np.zeros((2, 4, 4), bool)
    mask[0, :2] = True
    assert intensity_curve(series).tolist() == [960_000.0, -160.0, 960_000.0]
    assert intensity_curve(series, mask).tolist() == [240_000.0, -40.0, 240_000.0]
    assert intensity_curve(series).dtype == np.float64
    with pytest.raises(DataError, match="mask"):
        intensity_curve(series, mask[0])


# Eqs 2 and 3


def test_the_slope_is_central_and_one_sided_at_the_ends():
    assert slope(np.array([0.0, 1.0, 4.0, 9.0])).tolist() == [1.0, 2.0, 4.0, 5.0]
    assert slope(np.array([3.0])).tolist() == [0.0]


def test_smoothing_averages_three_points_before_the_slope():
    # Averages 0, 1, 1, 1, 0.
    assert slope(np.array([0.0, 0.0, 3.0, 0.0, 0.0]), smooth=True) == pytest.approx([1.0, 0.5, 0.0, -0.5, -1.0])
    assert slope(np.arange(6.0), smooth=True)[2:4] == pytest.approx([1.0, 1.0])


def test_flat_ends_give_frames_5_and_24_where_either_heaviside_fails():
    assert bolus_window(PLATEAUX) == BolusWindow(5, 24, "")
    assert literal_window(PLATEAUX, 5) == (5, 24)
    assert literal_window(PLATEAUX, 5, at_zero_falling=0)[1] == 44
    assert literal_window(PLATEAUX, 5, at_zero_rising=1)[0] == 0


@pytest.mark.parametrize("k", [1, 3, 5, 8])
@pytest.mark.parametrize("seed", range(5))
def test_the_window_of_random_bumps_is_the_literal_reading(k, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(50)
    curve = np.round(100 * np.exp(-((t - rng.integers(15, 30)) ** 2) / 60) + rng.normal(0, 2, 50))
    start, end = literal_window(curve, k)
    found = bolus_window(curve, k)
    if start is None or end is None or end - start < 5:
        assert (found.start, found.end) == (0, 49)
        assert found.fallback
    else:
        assert found == BolusWindow(start, end, "")


def test_a_plateau_at_the_peak_lies_within_the_window():
    curve = knots((0, 0.0), (8, 0.0), (15, 70.0), (22, 70.0), (30, 10.0), (40, 10.0))
    assert bolus_window(curve) == BolusWindow(8, 30, "")


def test_recirculation_moves_the_end_to_the_second_fall_as_printed():
    once = knots((0, 0.0), (6, 0.0), (14, 80.0), (24, 20.0), (44, 20.0))
    twice = knots((0, 0.0), (6, 0.0), (14, 80.0), (24, 20.0), (30, 35.0), (37, 22.0), (44, 22.0))
    assert bolus_window(once) == BolusWindow(6, 24, "")
    assert bolus_window(twice) == BolusWindow(6, 37, "")


def test_a_late_fall_moves_the_end_to_the_last_frame_and_a_late_rise_does_not():
    falling = knots((0, 0.0), (6, 0.0), (14, 80.0), (24, 20.0), (30, 20.0), (44, 19.0))
    rising = knots((0, 0.0), (6, 0.0), (14, 80.0), (24, 20.0), (30, 20.0), (44, 21.0))
    assert bolus_window(falling) == BolusWindow(6, 44, "")
    assert bolus_window(rising) == BolusWindow(6, 24, "")


def test_a_rise_that_reaches_the_last_frame_starts_before_frame_t_minus_k():
    # Eq. 2 stops at T - K - 1: the five rising frames 6 to 10 of eleven begin too late.
    assert bolus_window(knots((0, 9.0), (6, 3.0), (10, 8.0))).fallback.startswith("no 5 rising frames")


def test_noise_of_one_frame_breaks_a_run_and_smoothing_mends_it():
    curve = knots((0, 0.0), (6, 0.0), (14, 80.0), (24, 20.0), (44, 20.0))
    curve[9] += 25.0
    assert bolus_window(curve).fallback.startswith("no 5 rising frames")
    smoothed = bolus_window(curve, smooth=True)
    assert smoothed.fallback == ""
    assert smoothed.start <= 6


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        (np.full(45, 7.0), "no 5 rising frames in a row and no 5 falling frames in a row: all 45 frames"),
        (np.arange(45.0), "no 5 falling frames in a row: all 45 frames"),
        (-np.arange(45.0), "no 5 rising frames in a row: all 45 frames"),
        (knots((0, 9.0), (15, 0.0), (16, 0.0), (30, 9.0)), "T_e = 15 is less than 5 after T_s = 16: all 31 frames"),
        # Frames 0 to 4 fall, but Eq. 3 begins at t = K.
        (knots((0, 5.0), (5, 0.0), (30, 25.0)), "no 5 falling frames in a row: all 31 frames"),
        (np.array([1.0, 2.0, 3.0, 2.0, 1.0]), "no 5 rising frames in a row and no 5 falling frames in a row: all 5"),
        (np.array([1.0]), "no 5 rising frames in a row and no 5 falling frames in a row: all 1 frames"),
    ],
)
def test_where_the_rule_finds_nothing_all_frames_are_taken_and_it_is_said(curve, why, caplog):
    with caplog.at_level(logging.WARNING, "strokelib.pseudo_dwi.sampling"):
        found = bolus_window(curve)
    assert (found.start, found.end) == (0, len(curve) - 1)
    assert found.fallback.startswith(why)
    assert found.fallback in caplog.text


def test_a_window_of_fewer_than_five_frames_is_not_taken():
    assert bolus_window(knots((0, 0.0), (10, 0.0), (13, 30.0), (15, 0.0), (30, 0.0)), k=2) == BolusWindow(10, 15, "")
    found = bolus_window(knots((0, 0.0), (10, 0.0), (12, 30.0), (14, 0.0), (30, 0.0)), k=2)
    assert (found.start, found.end) == (0, 30)
    assert found.fallback == "T_e = 14 is less than 5 after T_s = 10: all 31 frames"


def test_a_found_window_is_not_logged(caplog):
    with caplog.at_level(logging.DEBUG, "strokelib.pseudo_dwi.sampling"):
        bolus_window(PLATEAUX)
    assert caplog.text == ""


@pytest.mark.parametrize("curve", [[1.0, float("nan"), 2.0], [1.0, float("inf")], [], [[1.0, 2.0]]])
def test_a_curve_that_is_not_finite_or_no_curve_is_refused(curve):
    with pytest.raises(DataError, match="intensity curve"):
        bolus_window(np.array(curve))


def test_a_run_of_no_frames_is_refused():
    with pytest.raises(ParameterError, match="k: found 0"):
        bolus_window(PLATEAUX, k=0)


# Frames


@pytest.mark.parametrize(
    ("start", "end", "frames"),
    [
        (5, 24, [5, 9, 13, 16, 20, 24]),
        (0, 5, [0, 1, 2, 3, 4, 5]),
        (3, 7, [3, 4, 5, 5, 6, 7]),
        (0, 1, [0, 0, 0, 1, 1, 1]),
        (4, 4, [4, 4, 4, 4, 4, 4]),
    ],
)
def test_six_frames_with_both_ends_by_hand(start, end, frames):
    assert sampled_frames(BolusWindow(start, end)).tolist() == frames


@pytest.mark.parametrize("count", [2, 6, 11])
def test_the_frames_are_as_even_as_whole_numbers_can_be(count):
    found = sampled_frames(BolusWindow(3, 47), count)
    assert len(found) == count
    assert (found[0], found[-1]) == (3, 47)
    assert np.ptp(np.diff(found)) <= 1


def test_one_frame_has_no_two_ends():
    with pytest.raises(ParameterError, match="count"):
        sampled_frames(BolusWindow(0, 9), 1)


# Scales


# A whole scan


@pytest.fixture
def scan():
    rng = np.random.default_rng(4)
    shape = (2, 10, 12)
    brain = np.zeros(shape, bool)
    brain[:, 2:8, 3:10] = True
    lesion = np.zeros(shape, bool)
    lesion[1, 4:6, 4:7] = True
    uptake = rng.integers(1, 4, shape)
    series = 30 + uptake * np.round(PLATEAUX - 40).astype(int)[:, None, None, None]
    series[:, ~brain] = -1000 + 50 * np.arange(45)[:, None]  # outside, the intensity only rises
    channels = {name: rng.gamma(2.0, 4.0, shape).astype(np.float32) for name in MAPS}
    channels |= {"series": series.astype(np.int16), "dwi": rng.random(shape).astype(np.float32)}
    image = Volume(rng.random(shape).astype(np.float32), np.eye(4))
    return Case(
        "scan-1",
        "p",
        "isles2018",
        "train",
        image,
        lesion,
        brain,
        {"core": lesion},
        facts={"age": 70},
        channels=channels,
    )


def test_the_inputs_of_a_scan_have_their_names_shapes_and_range(scan):
    found = network_inputs(scan).channels
    shapes = {"maps": 4, "mip": 1, "frames": 6, "weight": 1, "dwi": 1}
    assert {name: len(array) for name, array in found.items()} == shapes
    for name, array in found.items():
        assert array.shape[1:] == (2, 10, 12)
        assert array.dtype == np.float32
        if name != "weight":
            assert (array.min(), array.max()) == (0, 1)
        if name in ("maps", "mip", "frames"):
            assert (array[:, ~scan.brain] == 0).all()


def test_the_maps_keep_their_order_and_each_has_its_own_scale(scan):
    found = network_inputs(scan).channels["maps"]
    for k, name in enumerate(MAPS):
        assert np.array_equal(found[k], scaled(scan.channels[name], scan.brain))


def test_the_window_is_that_of_the_brain_and_its_six_frames_are_taken(scan):
    out = network_inputs(scan)
    assert out.facts == {"age": 70, "bolus": [5, 24], "bolus_fallback": ""}
    assert json.loads(json.dumps(out.facts)) == out.facts
    chosen = scan.channels["series"][[5, 9, 13, 16, 20, 24]]
    assert np.array_equal(out.channels["frames"], scaled(chosen, scan.brain))
    peaks = out.channels["frames"][:, scan.brain].mean(axis=1)
    assert peaks.argmax() == 2
    assert np.array_equal(out.channels["mip"][0], scaled(scan.channels["series"].max(axis=0), scan.brain))


def test_a_series_that_never_fills_is_taken_whole_and_the_facts_say_so(scan):
    still = dataclasses.replace(scan, channels=scan.channels | {"series": np.full((20, 2, 10, 12), 40, np.int16)})
    out = network_inputs(still)
    assert out.facts["bolus"] == [0, 19]
    assert "no 5 rising frames" in out.facts["bolus_fallback"]
    assert (out.channels["frames"] == 0).all()


def test_the_weight_is_that_of_the_lesion_in_the_brain_and_the_dwi_is_whole(scan):
    found = network_inputs(scan).channels
    assert np.array_equal(found["weight"][0], lesion_weight_map(scan.lesion))
    assert np.array_equal(found["dwi"][0], scaled_dwi(scan.channels["dwi"]))
    assert (found["dwi"][0][~scan.brain] > 0).any()
    stray = scan.lesion.copy()
    stray[0, 0, 0] = True
    strayed = network_inputs(dataclasses.replace(scan, lesion=stray)).channels["weight"]
    assert np.array_equal(strayed, found["weight"])


def test_the_rest_of_the_case_is_kept_and_the_given_case_is_left_alone(scan):
    before = {name: array.copy() for name, array in scan.channels.items()}
    out = network_inputs(scan)
    assert out.truth is scan.truth
    assert (out.id, out.lesion is scan.lesion, out.brain is scan.brain) == ("scan-1", True, True)
    assert scan.facts == {"age": 70}
    assert all(np.array_equal(scan.channels[name], array) for name, array in before.items())


def test_tmax_on_the_fixed_scale_means_the_same_in_each_scan(scan):
    robust, fixed = (network_inputs(scan, tmax=way).channels["maps"] for way in ("robust", "fixed"))
    assert np.array_equal(robust[:3], fixed[:3])
    assert fixed[3][scan.brain] == pytest.approx(np.clip(scan.channels["tmax_s"][scan.brain] / 20, 0, 1), abs=1e-6)


def test_k_frames_and_smoothing_reach_the_window(scan):
    out = network_inputs(scan, k=20, frames=3)
    assert out.facts["bolus"] == [0, 44]
    assert len(out.channels["frames"]) == 3
    assert network_inputs(scan, smooth=True).facts["bolus"] == [4, 25]


def test_without_series_dwi_reference_or_brain_there_is_less(scan):
    maps = {name: scan.channels[name] for name in MAPS}
    bare = network_inputs(dataclasses.replace(scan, channels=maps, lesion=None, brain=None))
    assert [*bare.channels] == ["maps"]
    assert bare.facts == {"age": 70}
    assert np.array_equal(bare.channels["maps"][0], scaled(maps["cbf"], np.ones((2, 10, 12), bool)))


@pytest.mark.parametrize("name", MAPS)
def test_a_scan_without_a_map_is_refused_by_name(scan, name):
    lacking = dataclasses.replace(scan, channels={k: v for k, v in scan.channels.items() if k != name})
    with pytest.raises(DataError, match=f"case scan-1: found no {name}"):
        network_inputs(lacking)


@pytest.mark.parametrize("name", [*MAPS, "series", "dwi"])
def test_a_channel_of_another_grid_is_refused_by_name(scan, name):
    cut = dataclasses.replace(scan, channels=scan.channels | {name: scan.channels[name][..., 1:]})
    with pytest.raises(DataError, match=f"case scan-1: found {name} of"):
        network_inputs(cut)


@pytest.mark.parametrize("name", [*MAPS, "series", "dwi"])
def test_a_channel_that_is_not_finite_in_the_brain_is_refused_and_outside_it_is_not(scan, name):
    damaged, harmless = (scan.channels[name].astype(np.float32) for _ in range(2))
    damaged[..., 1, 5, 5] = np.nan
    harmless[..., 0, 0, 0] = np.nan
    with pytest.raises(DataError, match=f"case scan-1: found {name} that is not finite"):
        network_inputs(dataclasses.replace(scan, channels=scan.channels | {name: damaged}))
    if name != "dwi":
        out = network_inputs(dataclasses.replace(scan, channels=scan.channels | {name: harmless}))
        assert all(np.isfinite(array).all() for array in out.channels.values())


@pytest.mark.parametrize("brain", [np.zeros((2, 10, 12), bool), np.ones((10, 12), bool)])
def test_a_scan_without_brain_is_refused(scan, brain):
    with pytest.raises(DataError, match="case scan-1: found brain"):
        network_inputs(dataclasses.replace(scan, brain=brain))


def test_another_scale_of_tmax_is_refused(scan):
    with pytest.raises(ParameterError, match="robust or fixed"):
        network_inputs(scan, tmax="both")
