"""What a test set can show, beside the printed differences."""

import math

import numpy as np
import pytest

from strokelib.claims import all_claims, published_difference
from strokelib.claims.resolution import MEDIAN, Resolution, detectable, published_dice
from strokelib.stats import minimum_detectable_difference


def test_printed_differences_are_those_of_the_dice_claims_of_a_cohort_with_a_number_of_scans():
    found = published_dice("xwhd").set_index("claim")
    assert set(found["paper"]) == {"papl"}
    assert set(found["n"]) == {41}
    for claim in all_claims():
        wanted = claim.cohort == "xwhd" and claim.score == "dice" and claim.n is not None
        assert (claim.id in found.index) == wanted
        if wanted:
            assert found.loc[claim.id, "difference"] == published_difference(claim).gain


def test_no_printed_difference_of_another_cohort_is_taken():
    assert published_dice("center_tbi").empty
    assert set(published_dice("aisd")["paper"]) == {"papl", "adn"}


def test_the_spread_is_taken_at_the_tenth_the_half_and_the_ninth_tenth_of_pairs():
    one = Resolution.of("x", 52, np.linspace(0.0, 0.2, 11), "aisd")
    assert one.sd == pytest.approx((0.02, 0.1, 0.18))
    assert one.pairs == 11


def test_a_curve_falls_with_patients_and_rises_with_the_spread():
    one = Resolution.of("x", 52, [0.05, 0.1, 0.2], "aisd")
    curve = one.curve([10, 40, 160])
    assert (np.diff(curve, axis=1) < 0).all()
    assert (np.diff(curve, axis=0) > 0).all()
    assert curve[MEDIAN, 1] == minimum_detectable_difference(one.sd[MEDIAN], 40).value


def test_a_printed_difference_is_resolved_where_it_reaches_what_as_many_scans_show():
    one = Resolution.of("x", 52, [0.12], "aisd")
    for row, resolved in zip(one.published.itertuples(), one.resolved, strict=True):
        assert resolved == (abs(row.difference) >= minimum_detectable_difference(0.12, row.n).value)
    assert one.resolved.any()
    assert not one.resolved.all()


def test_without_a_pair_nothing_is_known_and_nothing_resolved():
    one = Resolution.of("x", 2, [], "aisd")
    assert all(math.isnan(sd) for sd in one.sd)
    assert np.isnan(one.curve([10])).all()
    assert not one.resolved.any()
    assert math.isnan(detectable(math.nan, 52))
