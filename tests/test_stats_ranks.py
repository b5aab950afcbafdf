"""Friedman and the critical difference: R's documented example, scipy, pingouin, Demsar's constants."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from strokelib import stats
from strokelib.errors import DataError, ParameterError

# R's help page of friedman.test (Hollander and Wolfe 1973, p. 140ff): seconds of 22 players, rounding out, narrow
# angle, wide angle.
ROUNDING_TIMES = np.array(
    [
        *[(5.40, 5.50, 5.55), (5.85, 5.70, 5.75), (5.20, 5.60, 5.50), (5.55, 5.50, 5.40), (5.90, 5.85, 5.70)],
        *[(5.45, 5.55, 5.60), (5.40, 5.40, 5.35), (5.45, 5.50, 5.35), (5.25, 5.15, 5.00), (5.85, 5.80, 5.70)],
        *[(5.25, 5.20, 5.10), (5.65, 5.55, 5.45), (5.60, 5.35, 5.45), (5.05, 5.00, 4.95), (5.50, 5.50, 5.40)],
        *[(5.45, 5.55, 5.50), (5.55, 5.55, 5.35), (5.45, 5.50, 5.55), (5.50, 5.45, 5.25), (5.65, 5.60, 5.40)],
        *[(5.70, 5.65, 5.55), (6.30, 6.30, 6.25)],
    ]
)


def with_mean_ranks_apart(*steps, n=40, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n, 1)) + np.array(steps) + rng.normal(0, noise, (n, len(steps)))


def test_friedman_gives_the_values_of_rs_documented_example():
    found = stats.friedman(ROUNDING_TIMES, better="lower")
    assert (found.n, found.k) == (22, 3)
    assert round(found.chi2, 3) == 11.143
    assert round(found.p, 6) == 0.003805
    assert found.mean_ranks.index(min(found.mean_ranks)) == 2  # the wide angle is the quickest


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_equals_scipys_and_pingouins(ties):
    pingouin = pytest.importorskip("pingouin")
    table = with_mean_ranks_apart(0, 0.2, 0.3, 0.1, n=25)
    table = np.round(table) if ties else table
    found, expected = stats.friedman(table), scipy_stats.friedmanchisquare(*table.T)
    assert (found.chi2, found.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
    wide = pd.DataFrame(table)
    by_chi2, by_f = (pingouin.friedman(wide, method=method) for method in ("chisq", "f"))
    assert found.kendall_w == pytest.approx(float(by_chi2["W"].iloc[0]))
    assert found.chi2 == pytest.approx(float(by_chi2["Q"].iloc[0]))
    assert found.f == pytest.approx(float(by_f["F"].iloc[0]))


@pytest.mark.parametrize("ties", [False, True])
def test_the_f_of_iman_and_davenport_is_that_of_an_analysis_of_variance_of_the_ranks(ties):
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    table = with_mean_ranks_apart(0, 0.3, 0.5, n=18)
    table = np.round(table) if ties else table
    rows = [(i, j, v) for (i, j), v in np.ndenumerate(scipy_stats.rankdata(table, axis=1))]
    long = pd.DataFrame(rows, columns=["patient", "method", "rank"])
    anova = anova_lm(ols("rank ~ C(patient) + C(method)", long).fit())
    found = stats.friedman(table)
    assert found.f == pytest.approx(anova.loc["C(method)", "F"])
    assert found.p_f == pytest.approx(anova.loc["C(method)", "PR(>F)"])


@pytest.mark.parametrize(
    ("k", "q"), zip(range(2, 11), [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164], strict=True)
)
def test_the_critical_difference_has_demsars_constants(k, q):
    n = 30
    found = stats.friedman(np.random.default_rng(k).normal(size=(n, k)))
    assert found.critical_difference / math.sqrt(k * (k + 1) / (6 * n)) == pytest.approx(q, abs=1.1e-3)


def test_four_methods_on_fourteen_sets_have_demsars_critical_difference():
    table = np.random.default_rng(0).normal(size=(14, 4))
    assert round(stats.friedman(table).critical_difference, 2) == 1.25
    assert round(stats.friedman(table, alpha=0.1).critical_difference, 2) == 1.12  # q of 0.10 is 2.291


def test_three_patients_are_worked_by_hand():
    # Ranks, highest best: (1, 2, 3), (1, 3, 2), (1, 2, 3); column sums 3, 7, 8 about 6: 9 + 1 + 4 = 14.
    found = stats.friedman([[9, 5, 1], [9, 1, 5], [8, 7, 6]])
    assert found.mean_ranks == pytest.approx((1, 7 / 3, 8 / 3))
    assert found.chi2 == pytest.approx(12 * 14 / (3 * 3 * 4))
    assert found.kendall_w == pytest.approx(12 * 14 / (9 * 24))
    assert found.f == pytest.approx(2 * found.chi2 / (6 - found.chi2))


def test_better_lower_turns_the_ranks_round_and_leaves_the_test():
    table = with_mean_ranks_apart(0, 1, 3)
    up, down = stats.friedman(table), stats.friedman(table, better="lower")
    assert up.mean_ranks[2] < up.mean_ranks[1] < up.mean_ranks[0]
    assert down.mean_ranks == pytest.approx(tuple(4 - r for r in up.mean_ranks))
    assert (up.chi2, up.p, up.critical_difference) == pytest.approx((down.chi2, down.p, down.critical_difference))


def test_cliques_are_the_longest_runs_within_the_critical_difference():
    found = stats.friedman(with_mean_ranks_apart(5, 0, 5.05, 0.05, 9), better="lower")
    assert {frozenset(group) for group in found.cliques} == {frozenset({1, 3}), frozenset({0, 2})}
    ranks = found.mean_ranks
    assert [min(ranks[i] for i in group) for group in found.cliques] == sorted(ranks[g[0]] for g in found.cliques)
    assert stats.friedman(with_mean_ranks_apart(0, 5, 10)).cliques == ()
    assert len(stats.friedman(np.random.default_rng(0).normal(size=(6, 3))).cliques[0]) == 3


def test_cliques_overlap_where_neighbours_do_not_differ_and_the_ends_do():
    found = stats.friedman([[3, 2, 1]] * 9 + [[1, 2, 3]] * 3)
    assert found.mean_ranks == (1.5, 2.0, 2.5)
    assert found.critical_difference == pytest.approx(2.343 * math.sqrt(12 / 72), abs=1e-3)  # 0.957
    assert found.cliques == ((0, 1), (1, 2))


def test_methods_that_always_tie_do_not_differ_and_those_that_never_cross_differ_at_once():
    tied = stats.friedman(np.tile(np.arange(5.0)[:, None], (1, 3)))
    assert (tied.chi2, tied.p, tied.f, tied.p_f, tied.kendall_w) == (0, 1, 0, 1, 0)
    assert (tied.mean_ranks, tied.cliques) == ((2.0, 2.0, 2.0), ((0, 1, 2),))
    agreed = stats.friedman(np.tile([1.0, 2.0, 3.0], (8, 1)))
    assert agreed.chi2 == pytest.approx(16)
    assert (agreed.kendall_w, agreed.f, agreed.p_f) == (1, math.inf, 0)


def test_values_are_rounded_before_they_are_ranked():
    table = np.array([[0.1 + 0.2, 0.3, 0.4], [0.5, 0.5, 0.1], [0.7, 0.7, 0.9]])
    assert stats.friedman(table).mean_ranks == pytest.approx((6.5 / 3, 6.5 / 3, 5 / 3))
    assert stats.friedman(table, decimals=17).mean_ranks[0] == pytest.approx(6 / 3)


def test_a_patient_without_a_value_is_left_out_of_all_methods_and_counted():
    table = with_mean_ranks_apart(0, 1, 2, n=9)
    gap = np.insert(table, 4, [1.0, np.nan, 2.0], axis=0)
    found, expected = stats.friedman(gap), stats.friedman(table)
    assert (found.n, found.n_dropped) == (9, 1)
    assert (found.chi2, found.mean_ranks, found.cliques) == (expected.chi2, expected.mean_ranks, expected.cliques)


def test_tables_and_words_that_do_not_fit_are_refused():
    for table in (
        [1.0, 2.0],
        np.ones((5, 1)),
        np.ones((1, 3)),
        [[1, 2], [1]],
        [[1, np.inf], [1, 2]],
        np.ones((2, 2, 2)),
    ):
        with pytest.raises(DataError):
            stats.friedman(table)
    for wrong in ({"better": "best"}, {"alpha": 5}):
        with pytest.raises(ParameterError):
            stats.friedman(ROUNDING_TIMES, **wrong)


tables = st.tuples(st.integers(2, 9), st.integers(2, 6)).flatmap(
    lambda shape: arrays(float, shape, elements=st.integers(0, 6).map(float))
)


@settings(max_examples=60, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_patients_and_methods_changes_nothing_but_the_order(table, random):
    columns = list(range(table.shape[1]))
    random.shuffle(columns)
    found, moved = stats.friedman(table), stats.friedman(table[::-1, columns])
    assert sum(found.mean_ranks) == pytest.approx(found.k * (found.k + 1) / 2)
    assert moved.mean_ranks == pytest.approx(tuple(found.mean_ranks[j] for j in columns))
    assert (moved.chi2, moved.p) == (pytest.approx(found.chi2), pytest.approx(found.p))
    assert 0 <= found.kendall_w <= 1
    for i in range(found.k):
        for j in range(i):
            near = abs(found.mean_ranks[i] - found.mean_ranks[j]) < found.critical_difference
            assert near == any({i, j} <= set(group) for group in found.cliques)
