"""Shapiro-Wilk and QQ: a published example, pingouin, scipy, and the band against simulated order statistics."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from strokelib import stats
from strokelib.errors import DataError, ParameterError

# Shapiro and Wilk, Biometrika 1965: weights of 11 men in pounds.
WEIGHTS = [148, 154, 158, 160, 161, 162, 166, 170, 182, 195, 236]


def test_shapiro_wilk_gives_the_published_w_of_eleven_weights():
    found = stats.shapiro_wilk([*WEIGHTS, np.nan])
    assert round(found.w, 2) == 0.79
    assert found.p < 0.01
    assert (found.n, found.n_dropped) == (11, 1)


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_shapiro_wilk_equals_pingouins_and_tells_a_skewed_sample(draw):
    pingouin = pytest.importorskip("pingouin")
    sample = getattr(np.random.default_rng(3), draw)(size=60)
    found, table = stats.shapiro_wilk(sample), pingouin.normality(sample)
    assert found.w == pytest.approx(float(table["W"].iloc[0]))
    assert found.p == pytest.approx(float(table["pval"].iloc[0]))
    assert (found.p < 0.05) == (draw == "exponential")


def test_a_normal_sample_is_rejected_as_often_as_it_should_be():
    samples = np.random.default_rng(0).normal(size=(1000, 20))
    assert np.mean([stats.shapiro_wilk(s).p < 0.1 for s in samples]) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("sample", [[5.0] * 6, [0.0] * 3, [0.1 + 0.2, 0.3, 0.3, 0.3]])
def test_constant_data_have_no_w_and_make_no_noise(sample):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stats.shapiro_wilk(sample)
    assert math.isnan(found.w)
    assert math.isnan(found.p)
    assert found.n == len(sample)


def test_shapiro_wilk_refuses_what_its_p_is_not_known_for():
    assert 0 < stats.shapiro_wilk(np.arange(5000.0)).w < 1
    with pytest.raises(DataError, match="5001 values"):
        stats.shapiro_wilk(np.arange(5001.0))
    with pytest.raises(DataError, match="3 or more"):
        stats.shapiro_wilk([1.0, 2.0, np.nan])


def test_the_qq_points_and_line_are_scipys_probability_plot():
    sample = np.random.default_rng(1).exponential(2, 40)
    found = stats.qq(sample)
    (theoretical, ordered), (slope, intercept, _) = scipy_stats.probplot(sample)
    assert found.ordered == tuple(ordered)
    # scipy approximates the medians (Filliben) but for the first and the last.
    assert found.theoretical == pytest.approx(tuple(theoretical), abs=2e-3)
    assert (found.theoretical[0], found.theoretical[-1]) == pytest.approx((theoretical[0], theoretical[-1]))
    assert (found.slope, found.intercept) == (pytest.approx(slope, rel=1e-3), pytest.approx(intercept))


def test_normal_quantiles_lie_on_the_line_of_their_mean_and_deviation():
    sample = 7 + 3 * np.array(stats.qq(np.arange(30.0)).theoretical)
    found = stats.qq(np.random.default_rng(0).permutation(sample))
    assert (found.slope, found.intercept) == (pytest.approx(3), pytest.approx(7))
    assert found.ordered == pytest.approx(tuple(sample))
    assert all(low < value < high for low, value, high in zip(found.low, found.ordered, found.high, strict=True))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_each_ordered_value_of_a_normal_sample_lies_in_its_band_as_often_as_it_says(level):
    found = stats.qq(np.random.default_rng(0).normal(50, 9, 25), level=level)
    low, high = ((np.array(bound) - found.intercept) / found.slope for bound in (found.low, found.high))
    ordered = np.sort(np.random.default_rng(1).normal(size=(20000, 25)), axis=1)
    held = ((low <= ordered) & (ordered <= high)).mean(axis=0)
    assert held == pytest.approx(np.full(25, level), abs=0.015)


def test_the_middle_of_three_is_worked_by_hand():
    # The smallest of three uniforms has the distribution 1 - (1 - u)^3.
    found = stats.qq([4.0, 2.0, 6.0], level=0.9)
    smallest = scipy_stats.norm.ppf(1 - 0.5 ** (1 / 3))
    assert found.theoretical == pytest.approx((smallest, 0, -smallest), abs=1e-12)
    assert (found.slope, found.intercept) == (pytest.approx(-2 / smallest), pytest.approx(4))
    expected = 4 + found.slope * scipy_stats.norm.ppf(1 - 0.95 ** (1 / 3))
    assert found.low[0] == pytest.approx(expected)


def test_qq_leaves_out_the_missing_and_refuses_too_few_and_a_level_in_percent():
    assert (stats.qq([1, 2, np.nan, 4]).n, stats.qq([1, 2, np.nan, 4]).n_dropped) == (3, 1)
    assert stats.qq([2.0, 2.0, 2.0, 2.0]).slope == 0
    with pytest.raises(DataError):
        stats.qq([1.0, 2.0])
    with pytest.raises(ParameterError, match="level"):
        stats.qq([1.0, 2.0, 3.0], level=95)


@settings(max_examples=40, deadline=None)
@given(arrays(float, st.integers(3, 30), elements=st.integers(-99, 99).map(float)), st.sampled_from([0.5, 8.0]))
def test_a_change_of_unit_moves_the_plot_with_it_and_leaves_w(sample, factor):
    plain, moved = stats.qq(sample), stats.qq(sample * factor + 16)
    assert moved.theoretical == plain.theoretical
    for name in ("ordered", "low", "high"):
        assert getattr(moved, name) == pytest.approx(tuple(np.array(getattr(plain, name)) * factor + 16), abs=1e-9)
    one, two = stats.shapiro_wilk(sample), stats.shapiro_wilk(sample * factor + 16)
    assert (one.w, one.p) == pytest.approx((two.w, two.p), nan_ok=True, abs=1e-9)
