"""The interval over patients and seeds: hand-worked values, a literal loop, coverage and power."""

import math

import numpy as np
import pytest
from scipy import stats as peer

from strokelib import stats
from strokelib.errors import DataError, ParameterError


def scores(rng, n_seeds, by_patient, *, seeds=0.0, rest=0.0, gain=0.0):
    n = len(by_patient)
    return gain + by_patient + rng.normal(0, seeds, (n_seeds, 1)) + rng.normal(0, rest, (n_seeds, n))


def literal(a, b):
    """Variance of the mean difference by loops over patients and seeds."""
    n = a.shape[1]
    gains = [sum(a[:, i]) / len(a) - sum(b[:, i]) / len(b) for i in range(n)]
    mean = sum(gains) / n
    total = sum((gain - mean) ** 2 for gain in gains) / (n - 1) / n
    for m in (a, b):
        grand, means = m.sum() / m.size, [sum(row) / n for row in m]
        between = sum((one - grand) ** 2 for one in means) / (len(m) - 1) / len(m)
        rest = 0.0
        for s in range(len(m)):
            for i in range(n):
                rest += (m[s, i] - means[s] - sum(m[:, i]) / len(m) + grand) ** 2
        rest /= (n - 1) * (len(m) - 1)
        total += max(0.0, between - rest / (n * len(m)))
    return total


def test_a_hand_worked_pair():
    # Gains of the three patients: 1, 2, 3 (variance 1). Seeds of a lie 1 above and below: variance 2; no rest at all.
    a = np.array([[2.0, 3.0, 4.0], [0.0, 1.0, 2.0]])
    b = np.zeros((2, 3))
    found = stats.crossed_difference(a, b)
    assert found.value == 2
    assert found.se**2 == pytest.approx(1 / 3 + 2 / 2)
    assert found.df == pytest.approx((4 / 3) ** 2 / ((1 / 3) ** 2 / 2 + 1**2 / 1))
    assert found.sd_seeds == pytest.approx((math.sqrt(2), 0))
    half = peer.t.ppf(0.975, found.df) * found.se
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))


def test_the_variance_is_that_of_a_literal_loop():
    rng = np.random.default_rng(3)
    patients = rng.normal(size=9)
    a, b = (scores(rng, count, patients, seeds=1.0, rest=0.5) for count in (4, 3))
    assert stats.crossed_difference(a, b).se ** 2 == pytest.approx(literal(a, b))


def test_with_one_seed_it_is_the_paired_t_interval_and_says_so():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1, 20))
    found = stats.crossed_difference(a, b)
    wanted = peer.ttest_rel(a[0], b[0]).confidence_interval()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.df == 19
    assert "1 seed" in found.note
    known = stats.minimum_detectable_difference(float((a - b).std(ddof=1)), 20).value
    assert found.detectable() == pytest.approx(known)


def test_patients_that_no_training_moves_leave_their_own_share():
    patients = np.random.default_rng(1).normal(size=15)
    same = np.tile(patients, (4, 1))
    found = stats.crossed_difference(same, np.zeros((4, 15)))
    assert found.se == pytest.approx(patients.std(ddof=1) / math.sqrt(15))
    assert found.df == pytest.approx(14)


@pytest.mark.parametrize("seeds", [0.0, 0.3, 1.0])
def test_three_seeds_cover_the_truth_as_often_as_promised(seeds):
    rng, hit, count = np.random.default_rng(7), 0, 400
    for _ in range(count):
        patients = rng.normal(size=20)
        a = scores(rng, 3, patients + rng.normal(0, 0.4, 20), seeds=seeds, rest=0.3, gain=0.5)
        b = scores(rng, 3, patients, seeds=seeds, rest=0.3)
        found = stats.crossed_difference(a, b)
        hit += found.low <= 0.5 <= found.high
    assert hit / count > 0.925


def test_a_detectable_effect_is_found_in_four_of_five():
    rng, hit, count = np.random.default_rng(11), 0, 400
    se = math.sqrt((0.4**2 + 2 * 0.3**2 / 5) / 20 + 2 * 0.25**2 / 5)
    gain = 2.8 * se * 1.12  # with so few seeds t needs more than the normal's 2.80
    for _ in range(count):
        patients = rng.normal(size=20)
        a = scores(rng, 5, patients + rng.normal(0, 0.4, 20), seeds=0.25, rest=0.3, gain=gain)
        hit += stats.crossed_difference(a, scores(rng, 5, patients, seeds=0.25, rest=0.3)).low > 0
    assert 0.7 < hit / count < 0.92


def test_more_seeds_make_a_smaller_effect_detectable():
    rng = np.random.default_rng(5)
    patients = rng.normal(size=30)
    a, b = (scores(rng, 12, patients, seeds=0.5, rest=0.1) for _ in "ab")
    few, many = (stats.crossed_difference(a[:k], b[:k]).detectable() for k in (2, 12))
    assert few > 2 * many


def test_a_patient_without_a_score_is_left_out_and_degrees_of_freedom_never_fall_below_one():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(2, 2, 6))
    a[1, 4] = np.nan
    found = stats.crossed_difference(a, b)
    assert (found.n, found.n_dropped) == (5, 1)
    frees = [stats.crossed_difference(*rng.normal(size=(2, 2, 3))).df for _ in range(50)]
    assert min(frees) >= 1


def test_the_interval_over_seeds_is_that_of_welch():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(4, 10)), rng.normal(size=(3, 10))
    found = stats.seeds_difference(a, b)
    peers = peer.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False)
    wanted = peers.confidence_interval()
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))
    assert found.df == pytest.approx(peers.df)
    assert math.isnan(stats.seeds_difference(a[:1], b).low)
    still = stats.seeds_difference(np.ones((3, 4)), np.zeros((2, 4)))
    assert (still.value, still.low, still.high) == (1, 1, 1)


def test_errors_say_what_is_wrong():
    with pytest.raises(DataError, match="samples"):
        stats.crossed_difference(np.ones((2, 5)), np.ones((2, 4)))
    with pytest.raises(DataError, match="NaN"):
        stats.crossed_difference(np.ones((2, 1)), np.ones((2, 1)))
    found = stats.crossed_difference(np.eye(3), np.zeros((3, 3)))
    with pytest.raises(ParameterError, match="alpha"):
        found.detectable(alpha=0.9, power=0.8)
