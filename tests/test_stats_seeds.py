"""Bootstrap over patients and seeds: analytic variances, a literal loop, coverage."""

import dataclasses
import math

import numpy as np
import pytest

from strokelib import stats
from strokelib.errors import DataError, ParameterError


def scores(n_seeds, n, *, patients=1.0, seeds=0.3, noise=0.0, mean=0.0, seed=0):
    rng = np.random.default_rng(seed)
    by_patient, by_seed = rng.normal(0, patients, n), rng.normal(0, seeds, (n_seeds, 1))
    return mean + by_patient + by_seed + rng.normal(0, 1, (n_seeds, n)) * noise


def variance_of_the_mean(values):
    """The bootstrap variance of the mean of scores that are a patient's part plus a seed's part; divisors S and n."""
    return values.mean(axis=1).var() / len(values) + values.mean(axis=0).var() / values.shape[1]


def half_width(found):
    return (found.high - found.low) / 2


def test_the_width_is_that_of_both_variances_for_scores_that_add_up():
    values = scores(12, 60, seeds=0.4)
    found = stats.seeds_bootstrap_ci(values)
    assert found.value == pytest.approx(values.mean())
    assert found.sd_seeds == pytest.approx(values.mean(axis=1).std(ddof=1))
    assert half_width(found) == pytest.approx(1.96 * math.sqrt(variance_of_the_mean(values)), rel=0.04)
    patients_only = stats.bootstrap_ci(values.mean(axis=0), method="percentile")
    assert half_width(found) > 1.2 * half_width(patients_only)


def test_more_seeds_that_all_say_the_same_do_not_make_more_patients():
    patients = np.random.default_rng(1).normal(size=30)
    found = stats.seeds_bootstrap_ci(np.tile(patients, (9, 1)))
    alone = stats.bootstrap_ci(patients, method="percentile")
    assert half_width(found) == pytest.approx(half_width(alone), rel=0.04)
    assert found.sd_seeds == pytest.approx(0, abs=1e-12)


def test_the_interval_is_that_of_a_literal_loop():
    values = scores(4, 15, noise=0.5)
    rng = np.random.default_rng(99)
    drawn = []
    for _ in range(6000):
        patients = rng.integers(0, 15, 15)
        trainings = [np.median(values[s][patients]) for s in rng.integers(0, 4, 4)]
        drawn.append(sum(trainings) / 4)
    found = stats.seeds_bootstrap_ci(values, np.median, level=0.8)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn, [10, 90])), abs=0.03)
    assert found.value == pytest.approx(np.median(values, axis=1).mean())


def test_a_pair_shares_its_patients_and_draws_its_seeds_apart():
    a = scores(1, 40)
    assert half_width(stats.paired_seeds_bootstrap_ci(a + 0.25, a)) == pytest.approx(0, abs=1e-12)
    # With several seeds of each, what is left of the difference is the seeds of both.
    a, b = scores(9, 40, seed=1), scores(7, 40, seeds=0.5, seed=1) + 0.1
    by_seed = a.mean(axis=1).var() / 9 + b.mean(axis=1).var() / 7
    by_patient = (a.mean(axis=0) - b.mean(axis=0)).var() / 40
    found = stats.paired_seeds_bootstrap_ci(a, b)
    assert by_patient < 1e-12
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert half_width(found) == pytest.approx(1.96 * math.sqrt(by_seed), rel=0.05)
    assert found.n_seeds == (9, 7)
    assert found.sd_seeds == pytest.approx((a.mean(axis=1).std(ddof=1), b.mean(axis=1).std(ddof=1)))


def test_the_same_method_twice_still_differs_by_its_seeds():
    a = scores(6, 30)
    found = stats.paired_seeds_bootstrap_ci(a, a)
    assert found.value == 0
    assert found.low < -0.05 < 0.05 < found.high


def test_one_seed_gives_the_patients_interval_and_says_what_it_lacks():
    values = scores(1, 50)
    found = stats.seeds_bootstrap_ci(values)
    alone = stats.bootstrap_ci(values[0], method="percentile")
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert found.note.startswith("1 seed:")
    assert "spread over trainings is not in this interval" in found.note
    assert math.isnan(found.sd_seeds)
    pair = stats.paired_seeds_bootstrap_ci(scores(5, 50), values, n_resamples=50)
    assert pair.note == found.note
    assert math.isnan(pair.sd_seeds[1])


def test_few_seeds_are_named_and_five_are_not():
    assert stats.seeds_bootstrap_ci(scores(3, 9), n_resamples=50).note.startswith("3 seeds:")
    assert stats.seeds_bootstrap_ci(scores(5, 9), n_resamples=50).note == ""


@pytest.mark.parametrize("seeds", [0.0, 0.2])
def test_an_interval_over_patients_and_seeds_covers_as_often_as_it_says(seeds):
    hits = paired = 0
    for i in range(300):
        a = scores(10, 40, seeds=seeds, noise=0.3, mean=2, seed=i)
        shared = np.random.default_rng(i).normal(0, 1.0, 40)  # the patients' part of a
        b = shared + scores(10, 40, patients=0.5, seeds=seeds, noise=0.3, mean=1, seed=1000 + i)
        one = stats.seeds_bootstrap_ci(a, n_resamples=400, seed=i)
        two = stats.paired_seeds_bootstrap_ci(a, b, n_resamples=400, seed=i)
        hits += one.low <= 2 <= one.high
        paired += two.low <= 2 - 1 <= two.high
    assert 0.90 <= hits / 300 <= 0.98
    assert 0.90 <= paired / 300 <= 0.98


def test_patients_alone_cover_too_seldom_where_seeds_differ():
    hits = 0
    for i in range(200):
        values = scores(10, 100, seeds=0.5, seed=i)
        found = stats.bootstrap_ci(values.mean(axis=0), n_resamples=300, method="percentile", seed=i)
        hits += found.low <= 0 <= found.high
    assert hits / 200 < 0.85


def test_it_repeats_with_its_seed_and_not_with_another():
    values = scores(5, 20)
    first, again, other = (stats.seeds_bootstrap_ci(values, n_resamples=1001, seed=s) for s in (5, 5, 6))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    pair = [stats.paired_seeds_bootstrap_ci(values, values + 1, n_resamples=501, seed=s) for s in (5, 5)]
    assert pair[0] == pair[1]


def test_a_statistic_without_an_axis_gives_what_one_with_an_axis_gives():
    values = scores(3, 12)
    slow = stats.seeds_bootstrap_ci(values, lambda x: float(np.mean(x)), n_resamples=200)
    quick = stats.seeds_bootstrap_ci(values, np.mean, n_resamples=200)
    assert (slow.value, slow.low, slow.high, slow.sd_seeds) == pytest.approx(
        (quick.value, quick.low, quick.high, quick.sd_seeds)
    )


def test_a_patient_missing_in_one_training_is_left_out_of_all_and_counted():
    a, b = scores(5, 12), scores(6, 12, seed=3)
    gap_a, gap_b = np.insert(a, 4, 9.0, axis=1), np.insert(b, 4, 9.0, axis=1)
    gap_b[5, 4] = np.nan
    found, expected = stats.seeds_bootstrap_ci(gap_b), stats.seeds_bootstrap_ci(b)
    assert (found.n, found.n_dropped, found.n_seeds) == (12, 1, 6)
    assert dataclasses.replace(found, n_dropped=0) == expected
    found, expected = stats.paired_seeds_bootstrap_ci(gap_a, gap_b), stats.paired_seeds_bootstrap_ci(a, b)
    assert dataclasses.replace(found, n_dropped=0) == expected
    assert (found.n_dropped, expected.n_dropped) == (1, 0)


def test_shapes_and_numbers_that_do_not_fit_are_refused():
    good = scores(3, 8)
    for wrong in (good[0], good[None], [], [[1, 2, 3], [1, 2]], np.full((2, 4), np.nan), np.full((2, 4), np.inf)):
        with pytest.raises(DataError):
            stats.seeds_bootstrap_ci(wrong)
        with pytest.raises(DataError):
            stats.paired_seeds_bootstrap_ci(good, wrong)
    with pytest.raises(DataError):
        stats.paired_seeds_bootstrap_ci(good, scores(3, 9))
    for wrong in ({"level": 95}, {"n_resamples": 0}):
        with pytest.raises(ParameterError):
            stats.seeds_bootstrap_ci(good, **wrong)
        with pytest.raises(ParameterError):
            stats.paired_seeds_bootstrap_ci(good, good, **wrong)


def test_every_new_result_is_frozen_and_names_its_method_and_n():
    a, b = scores(5, 12), scores(5, 12, seed=2)
    results = [stats.seeds_bootstrap_ci(a, n_resamples=50), stats.paired_seeds_bootstrap_ci(a, b, n_resamples=50)]
    results += [
        stats.friedman(a.T),
        stats.shapiro_wilk(a[0]),
        stats.qq(a[0]),
        stats.bland_altman_log(*np.exp((a[0], b[0]))),
    ]
    for result in results:
        assert result.method
        assert result.n == 12
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.n = 3
