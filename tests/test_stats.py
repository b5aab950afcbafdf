"""Statistics: published worked examples, hand-worked values, pingouin, scipy and statsmodels."""

import dataclasses
import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from strokelib import stats
from strokelib.errors import DataError, ParameterError

# Bland and Altman, Lancet 1986: peak expiratory flow rate in l/min, 17 subjects, first reading of each meter.
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI_WRIGHT = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
# Shrout and Fleiss, Psychological Bulletin 1979: 6 targets rated by 4 judges.
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def volumes(n=40, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.normal(3, 1, n))
    return truth * np.exp(rng.normal(0.05, 0.3, n)) + rng.normal(2, 3, n), truth


def standardised(n):
    """n values with mean 0 and standard deviation 1 (divisor n - 1)."""
    x = np.random.default_rng(n).normal(size=n)
    return (x - x.mean()) / x.std(ddof=1)


def test_bland_altman_gives_the_published_peak_flow_result():
    found = stats.bland_altman(WRIGHT, MINI_WRIGHT)
    assert found.n == 17
    assert round(found.bias.value, 1) == -2.1
    assert round(found.sd, 1) == 38.8
    # Printed from the rounded -2.1 and 38.8: limits -79.7 and 75.5 with 2 SD, interval of the bias -22.1 to 17.8.
    assert found.bias.low == pytest.approx(-22.1, abs=0.06)
    assert found.bias.high == pytest.approx(17.8, abs=0.06)
    two_sd = stats.bland_altman(WRIGHT, MINI_WRIGHT, multiple=2)
    assert (two_sd.lower.value, two_sd.upper.value) == (pytest.approx(-79.7, abs=0.1), pytest.approx(75.5, abs=0.1))


@pytest.mark.parametrize(
    ("n", "low", "high"), [(10, 1.16, 3.80), (20, 1.36, 3.01), (60, 1.58, 2.48), (115, 1.68, 2.31)]
)
def test_the_limits_of_agreement_have_the_exact_intervals_of_carkeet(n, low, high):
    found = stats.bland_altman(standardised(n), np.zeros(n))
    assert found.upper.value == pytest.approx(1.96)
    assert (round(found.upper.low, 2), round(found.upper.high, 2)) == (low, high)
    assert (round(found.lower.low, 2), round(found.lower.high, 2)) == (-high, -low)


@pytest.mark.parametrize("n", [4, 12])
def test_the_exact_interval_of_a_limit_holds_it_as_often_as_it_says(n):
    upper = stats.bland_altman(standardised(n), np.zeros(n)).upper
    samples = np.random.default_rng(0).normal(size=(40000, n))
    mean, sd = samples.mean(axis=1), samples.std(axis=1, ddof=1)
    held = (mean + upper.low * sd <= 1.96) & (mean + upper.high * sd >= 1.96)
    assert held.mean() == pytest.approx(0.95, abs=0.004)


def test_bland_altman_equals_pingouins_and_not_the_divisor_n():
    a, b = volumes()
    found = stats.bland_altman(a, b)
    difference = a - b
    assert found.sd == pytest.approx(difference.std(ddof=1))
    low, high = scipy_stats.t.interval(0.95, len(a) - 1, difference.mean(), scipy_stats.sem(difference))
    assert (found.bias.low, found.bias.high) == (pytest.approx(low), pytest.approx(high))
    pingouin = pytest.importorskip("pingouin")
    import matplotlib.pyplot as plt

    ax = pingouin.plot_blandaltman(a, b)
    drawn = {round(float(line.get_ydata()[0]), 9) for line in ax.lines}
    plt.close(ax.figure)
    assert {round(v, 9) for v in (found.bias.value, found.lower.value, found.upper.value)} <= drawn


def test_a_proportional_bias_shows_in_the_slope_and_a_constant_one_does_not():
    _, truth = volumes(n=60, seed=3)
    noise = np.random.default_rng(4).normal(0, 1, 60)
    half_more = stats.bland_altman(1.5 * truth + noise, truth)
    constant = stats.bland_altman(truth + 20 + noise, truth)
    assert half_more.slope.value == pytest.approx(0.4, abs=0.02)  # (1.5 - 1) / ((1.5 + 1) / 2)
    assert half_more.slope.low > 0.3
    assert constant.slope.low < 0 < constant.slope.high
    assert constant.bias.value == pytest.approx(20, abs=0.5)


def test_the_slope_has_the_robust_interval_worked_from_its_definition():
    a, b = volumes()
    x, y = (a + b) / 2, a - b
    design = np.column_stack((np.ones_like(x), x))
    bread = np.linalg.inv(design.T @ design)
    residual = y - design @ (bread @ design.T @ y)
    leverage = np.einsum("ij,jk,ik->i", design, bread, design)
    meat = (design * (residual / (1 - leverage))[:, None] ** 2).T @ design
    half = scipy_stats.t.ppf(0.975, len(x) - 2) * math.sqrt((bread @ meat @ bread)[1, 1])
    found = stats.bland_altman(a, b).slope
    assert found.high - found.value == pytest.approx(half)
    assert found.value - found.low == pytest.approx(half)


def test_identical_measurements_agree_without_a_width():
    found = stats.bland_altman(WRIGHT, WRIGHT)
    assert {found.bias.value, found.sd, found.lower.low, found.upper.high, found.slope.value} == {0.0}


def test_icc_of_the_shrout_fleiss_table():
    found = stats.icc(RATINGS)
    assert (found.n, found.k) == (6, 4)
    assert round(found.consistency.value, 3) == 0.715
    assert round(found.agreement.value, 3) == 0.290


@pytest.mark.parametrize("data", ["table", "volumes", "unrelated"])
def test_icc_and_its_intervals_equal_pingouins(data):
    pingouin = pytest.importorskip("pingouin")
    unrelated = np.random.default_rng(1).normal(size=(15, 3))
    x = {"table": RATINGS, "volumes": np.stack(volumes(), axis=1), "unrelated": unrelated}[data]
    long = pd.DataFrame([(i, j, v) for (i, j), v in np.ndenumerate(x)], columns=["target", "rater", "score"])
    table = pingouin.intraclass_corr(long, "target", "rater", "score").set_index("Type")
    interval = next(column for column in table.columns if column.startswith("CI"))
    found = stats.icc(x)
    for mine, row in ((found.consistency, "ICC(C,1)"), (found.agreement, "ICC(A,1)")):
        assert mine.value == pytest.approx(table.loc[row, "ICC"], abs=1e-9)
        # pingouin prints its intervals to two decimals
        assert (mine.low, mine.high) == pytest.approx(tuple(table.loc[row, interval]), abs=0.00501)


def test_consistency_is_blind_to_a_bias_and_agreement_is_not():
    _, truth = volumes()
    found = stats.icc(truth + 20, truth)
    assert found.consistency.value == pytest.approx(1)
    assert found.consistency.low == pytest.approx(1)
    assert found.agreement.value < 0.97
    assert found.agreement.low < found.agreement.value < found.agreement.high


def test_icc_takes_two_columns_or_one_table_alike():
    a, b = volumes()
    assert stats.icc(a, b) == stats.icc(np.stack((a, b), axis=1))


def test_perfect_ratings_have_an_icc_of_one_and_constant_ones_have_none():
    perfect = stats.icc([1, 2, 3, 5], [1, 2, 3, 5])
    assert [(e.value, e.low, e.high) for e in (perfect.consistency, perfect.agreement)] == [(1, 1, 1)] * 2
    constant = stats.icc([1, 1, 1], [1, 1, 1])
    assert math.isnan(constant.consistency.value)
    assert math.isnan(constant.agreement.value)


def test_spearman_is_worked_by_hand_and_has_its_fisher_interval():
    found = stats.spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert found.value == pytest.approx(1 - 6 * 4 / (5 * 24))  # 0.8
    half = 1.959964 * math.sqrt((1 + 0.64 / 2) / 2)
    assert found.low == pytest.approx(math.tanh(math.atanh(0.8) - half), abs=1e-6)
    assert found.high == pytest.approx(math.tanh(math.atanh(0.8) + half), abs=1e-6)
    assert found.p == pytest.approx(scipy_stats.spearmanr([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]).pvalue)


def test_spearman_of_a_constant_is_missing_and_makes_no_noise():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(stats.spearman([1, 1, 1, 1], [1, 2, 3, 4]).value)
        monotone = stats.spearman([1, 2, 3, 4, 5, 6], [1, 4, 9, 16, 25, 36])
    assert monotone.value == pytest.approx(1)
    assert monotone.high == pytest.approx(1)


def signed_rank_by_enumeration(difference):
    """Two-sided exact p of a few differences: every choice of signs is tried."""
    ranks = scipy_stats.rankdata(np.abs(difference))
    centre = ranks.sum() / 2
    seen = abs(ranks[difference > 0].sum() - centre)
    all_sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return np.mean([abs(total - centre) >= seen - 1e-9 for total in all_sums])


@pytest.mark.parametrize(
    ("difference", "mode"),
    [([3.1, -1.2, 2.5, 4.0, -0.7, 5.3, 1.9], "exact"), ([1, 1, -1, 2, 2, 3, -2, 4], "permutation")],
)
def test_the_signed_rank_p_is_that_of_all_sign_choices(difference, mode):
    difference = np.array(difference, float)
    found = stats.wilcoxon_signed_rank(difference, np.zeros(len(difference)))
    assert found.mode == mode
    assert found.p == pytest.approx(signed_rank_by_enumeration(difference), abs=1e-9)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("zero_method", ["wilcox", "pratt", "zsplit"])
def test_with_ties_and_zeros_all_sign_choices_are_counted_as_scipy_draws_them(zero_method, alternative):
    a, b = np.random.default_rng(5).integers(0, 5, (2, 12)) / 4
    found = stats.wilcoxon_signed_rank(a, b, zero_method=zero_method, alternative=alternative)
    every = scipy_stats.PermutationMethod(n_resamples=2**12)
    expected = scipy_stats.wilcoxon(a - b, zero_method=zero_method, alternative=alternative, method=every)
    assert (found.mode, found.n_zero > 0) == ("permutation", True)
    assert (found.p, found.statistic) == (pytest.approx(expected.pvalue), pytest.approx(expected.statistic))


@pytest.mark.parametrize("zero_method", ["wilcox", "pratt", "zsplit"])
def test_the_signed_rank_test_equals_scipys_in_each_zero_method(zero_method):
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 9, (2, 70)) / 8
    found = stats.wilcoxon_signed_rank(a, b, zero_method=zero_method)
    expected = scipy_stats.wilcoxon(a - b, zero_method=zero_method, method="asymptotic")
    assert (found.mode, found.zero_method) == ("asymptotic", zero_method)
    assert found.n_zero == (a == b).sum() > 0
    assert found.p == pytest.approx(expected.pvalue)
    assert found.statistic == pytest.approx(expected.statistic)
    assert zero_method in found.method


def test_the_signed_rank_test_gives_the_values_of_rs_documented_example():
    # R's help page of wilcox.test (Hollander and Wolfe 1973, p. 29f): depression scores before and after, V = 40.
    before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    found = stats.wilcoxon_signed_rank(before, after, alternative="greater")
    assert (found.mode, found.statistic) == ("exact", 40)
    assert round(found.p, 5) == 0.01953
    assert found.rank_biserial == pytest.approx((40 - 5) / 45)


def test_six_clear_wins_are_significant_and_five_cannot_be():
    assert stats.wilcoxon_signed_rank([1, 2, 3, 4, 5], [0] * 5).p == pytest.approx(0.0625)
    assert stats.wilcoxon_signed_rank([1, 2, 3, 4, 5, 6], [0] * 6).p == pytest.approx(0.03125)


def test_rounding_restores_the_ties_that_a_subtraction_breaks():
    a, b = np.array([0.3, 0.8, 1.1, 0.4, 0.9]), np.array([0.2, 0.7, 1.0, 0.1, 1.0])
    assert len(np.unique(np.abs(a - b))) > 2
    found = stats.wilcoxon_signed_rank(a, b)
    assert found.mode == "permutation"
    assert found.p == pytest.approx(signed_rank_by_enumeration(np.array([1, 1, 1, 3, -1.0])))


def test_the_effect_sizes_are_worked_by_hand():
    # Ranks of 1, 2, 4: positive 1 + 3, negative 2; Walsh means: 1, -.5, 2.5, -2, 1, 4.
    found = stats.wilcoxon_signed_rank([1, 0, 4], [0, 2, 0])
    assert found.rank_biserial == pytest.approx((4 - 2) / 6)
    assert found.hodges_lehmann == pytest.approx(1.0)
    assert stats.wilcoxon_signed_rank([0, 2, 0], [1, 0, 4]).rank_biserial == pytest.approx(-1 / 3)


def test_the_rank_biserial_equals_pingouins():
    pingouin = pytest.importorskip("pingouin")
    a, b = volumes(n=25, seed=9)
    table = pingouin.wilcoxon(a, b)
    assert stats.wilcoxon_signed_rank(a, b).rank_biserial == pytest.approx(float(table["RBC"].iloc[0]))


def test_no_difference_at_all_gives_p_one_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stats.wilcoxon_signed_rank([1, 2, 3], [1, 2, 3])
    assert (found.p, found.rank_biserial, found.hodges_lehmann, found.mode, found.n_zero) == (1.0, 0.0, 0.0, "none", 3)


def test_an_exact_p_is_refused_where_ties_make_it_wrong():
    with pytest.raises(ParameterError, match="ties"):
        stats.wilcoxon_signed_rank([1, 1, 2], [0, 0, 0], mode="exact")
    with pytest.raises(ParameterError, match="ties"):
        stats.wilcoxon_signed_rank([1, 0, 2], [0, 0, 0], mode="exact", zero_method="pratt")


def test_holm_leaves_a_missing_test_out_of_the_count():
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 and never falling: .04, .06, .06, .06.
    found = stats.holm([0.04, np.nan, 0.01, 0.03, 0.02])
    assert found.adjusted == pytest.approx((0.06, np.nan, 0.04, 0.06, 0.06), nan_ok=True)
    assert found.rejected == (False, False, True, False, False)
    assert (found.n, found.m) == (5, 4)
    assert stats.holm([np.nan]).m == stats.holm([]).m == 0
    assert stats.holm([0.6, 0.9]).adjusted == (1.0, 1.0)
    with pytest.raises(DataError, match="p_values"):
        stats.holm([0.5, 1.2])


@pytest.mark.parametrize("n", [3, 5, 20, 52, 1449])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.01, 0.9)])
def test_the_detectable_difference_has_the_power_asked_for(n, alpha, power):
    found = stats.minimum_detectable_difference(0.2, n, alpha=alpha, power=power)
    limit = scipy_stats.t.ppf(1 - alpha / 2, n - 1)
    assert scipy_stats.nct.sf(limit, n - 1, found.value / 0.2 * math.sqrt(n)) == pytest.approx(power, abs=1e-6)
    assert stats.minimum_detectable_difference(0, n).value == 0


def test_fifty_two_patients_cannot_show_one_point_of_dice():
    assert stats.minimum_detectable_difference(0.2, 52).value == pytest.approx(0.0792, abs=1e-4)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_a_bootstrap_interval_of_a_mean_covers_as_often_as_it_says(method):
    rng = np.random.default_rng(11)
    hits = 0
    for sample in rng.exponential(size=(300, 50)):
        found = stats.bootstrap_ci(sample, n_resamples=400, method=method, seed=1)
        hits += found.low <= 1.0 <= found.high
    assert 0.90 <= hits / 300 <= 0.97


def test_a_bootstrap_interval_is_near_the_t_interval_and_repeats_with_its_seed():
    sample = np.random.default_rng(0).normal(3, 1, 200)
    first, again, other = (stats.bootstrap_ci(sample, seed=seed) for seed in (5, 5, 6))
    low, high = scipy_stats.t.interval(0.95, 199, sample.mean(), scipy_stats.sem(sample))
    assert (first.low, first.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert first == again
    assert first != other
    assert (first.method, first.note, first.n) == ("BCa", "", 200)


def test_a_percentile_interval_is_made_of_the_resamples_percentiles():
    sample = np.random.default_rng(0).exponential(size=30)
    found = stats.bootstrap_ci(sample, n_resamples=2000, method="percentile", seed=3, level=0.8)
    rng = np.random.default_rng(77)
    means = sample[rng.integers(0, 30, (20000, 30))].mean(axis=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [10, 90])), abs=0.02)


@pytest.mark.parametrize(("sample", "statistic"), [([0.7] * 9, np.mean), ([0.0] * 12 + [0.5, 0.9, 0.2], np.median)])
def test_where_bca_does_not_exist_the_percentile_interval_says_so(sample, statistic):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stats.bootstrap_ci(sample, statistic)
    assert found.method == "percentile"
    assert "BCa" in found.note
    assert (found.value, found.low, found.high) == pytest.approx((sample[0],) * 3)


def test_a_statistic_without_an_axis_gives_what_one_with_an_axis_gives():
    sample = np.random.default_rng(0).normal(size=25)
    slow = stats.bootstrap_ci(sample, lambda values: float(np.mean(values)), n_resamples=500)
    quick = stats.bootstrap_ci(sample, np.mean, n_resamples=500)
    assert (slow.value, slow.low, slow.high) == pytest.approx((quick.value, quick.low, quick.high))


def test_pairing_removes_what_the_patients_have_in_common():
    rng = np.random.default_rng(0)
    patient, n = rng.normal(0, 1, 60), 60
    a, b = patient + 0.1 + rng.normal(0, 0.05, n), patient + rng.normal(0, 0.05, n)
    paired = stats.paired_bootstrap_ci(a, b, seed=2)
    assert paired.value == pytest.approx((a - b).mean())
    assert 0 < paired.low < paired.value < paired.high < 0.2
    of_differences = stats.bootstrap_ci(a - b, seed=2)
    assert (paired.low, paired.high) == pytest.approx((of_differences.low, of_differences.high), abs=1e-9)


def test_the_paired_interval_of_the_median_is_of_the_medians_difference():
    a, b = [1.0, 5.0, 9.0, 2.0, 4.0], [0.0, 1.0, 8.0, 3.0, 1.0]
    assert stats.paired_bootstrap_ci(a, b, np.median).value == 4.0 - 1.0


PAIRED = [
    stats.paired_bootstrap_ci,
    stats.bland_altman,
    stats.icc,
    stats.spearman,
    stats.wilcoxon_signed_rank,
]


@pytest.mark.parametrize("function", PAIRED, ids=lambda f: f.__name__)
def test_a_patient_without_a_value_is_left_out_of_both_columns_and_counted(function):
    a, b = volumes(n=12)
    gaps_a, gaps_b = np.insert(a, 3, np.nan), np.insert(b, 3, 5.0)
    found, expected = function(gaps_a, gaps_b), function(a, b)
    assert (found.n, found.n_dropped) == (12, 1)
    assert dataclasses.replace(found, n_dropped=0) == expected


@pytest.mark.parametrize("function", PAIRED, ids=lambda f: f.__name__)
def test_columns_that_do_not_match_are_refused(function):
    for a, b in (([1, 2, 3], [1, 2]), ([1, 2, np.inf, 4], [1, 2, 3, 4]), ([np.nan] * 4, [1, 2, 3, 4])):
        with pytest.raises(DataError):
            function(a, b)


@pytest.mark.parametrize("function", [*PAIRED[:4], stats.bootstrap_ci], ids=lambda f: f.__name__)
def test_a_level_in_percent_is_refused(function):
    columns = volumes(n=8)[: 1 if function is stats.bootstrap_ci else 2]
    with pytest.raises(ParameterError, match="level"):
        function(*columns, level=95)


def test_words_and_numbers_out_of_range_are_refused():
    a, b = volumes(n=8)
    for call in (
        lambda: stats.bootstrap_ci(a, method="basic"),
        lambda: stats.bootstrap_ci(a, n_resamples=0),
        lambda: stats.wilcoxon_signed_rank(a, b, zero_method="drop"),
        lambda: stats.wilcoxon_signed_rank(a, b, mode="fast"),
        lambda: stats.wilcoxon_signed_rank(a, b, alternative="both"),
        lambda: stats.holm([0.1], alpha=5),
        lambda: stats.minimum_detectable_difference(-1, 10),
        lambda: stats.minimum_detectable_difference(1, 1),
        lambda: stats.minimum_detectable_difference(1, 10, power=80),
    ):
        with pytest.raises(ParameterError):
            call()
    with pytest.raises(DataError):
        stats.bootstrap_ci([1.0, np.nan])
    with pytest.raises(DataError):
        stats.icc([1.0, 2.0, 3.0])


def test_every_result_is_frozen_and_names_its_method_and_n():
    a, b = volumes(n=8)
    results = [function(a, b) for function in PAIRED]
    results += [stats.bootstrap_ci(a), stats.holm([0.1, 0.2]), stats.minimum_detectable_difference(1, 8)]
    for result in results:
        assert result.method
        assert result.n in (2, 8)
        with pytest.raises(dataclasses.FrozenInstanceError):
            result.n = 3


columns = st.integers(4, 15).flatmap(
    lambda n: st.tuples(*[arrays(float, n, elements=st.integers(-50, 50).map(float))] * 2)
)


@settings(max_examples=40, deadline=None)
@given(columns)
def test_exchanging_the_two_columns_turns_the_sign_and_nothing_else(pair):
    a, b = pair
    forth, back = stats.bland_altman(a, b), stats.bland_altman(b, a)
    assert forth.bias.value == pytest.approx(-back.bias.value)
    assert (forth.lower.low, forth.lower.high) == pytest.approx((-back.upper.high, -back.upper.low))
    assert stats.icc(a, b).agreement.value == pytest.approx(stats.icc(b, a).agreement.value, nan_ok=True)
    one, two = (stats.wilcoxon_signed_rank(*p, mode="asymptotic") for p in ((a, b), (b, a)))
    assert one.p == pytest.approx(two.p)
    assert (one.rank_biserial, one.hodges_lehmann) == pytest.approx((-two.rank_biserial, -two.hodges_lehmann))
