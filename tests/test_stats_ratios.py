"""Bland-Altman on logarithms: hand-worked values, Carkeet's intervals and what the logarithm promises."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strokelib import stats
from strokelib.errors import DataError, ParameterError


def pairs_with_log_differences(n, mean, sd, seed=0):
    """Two positive columns whose log differences have exactly this mean and standard deviation."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    b = np.exp(rng.normal(3, 1, n))
    return b * np.exp(mean + sd * (z - z.mean()) / z.std(ddof=1)), b


def test_ratios_of_a_half_and_two_are_worked_by_hand():
    # Logs of the ratios: ln 2, 0, -ln 2, 0; their mean is 0 and their sd ln 2 * sqrt(2 / 3).
    found = stats.bland_altman_log([20, 5, 4, 7], [10, 5, 8, 7])
    sd = math.log(2) * math.sqrt(2 / 3)
    assert found.ratio.value == pytest.approx(1)
    assert found.log_sd == pytest.approx(sd)
    assert found.upper.value == pytest.approx(math.exp(1.96 * sd))
    assert found.lower.value == pytest.approx(1 / found.upper.value)
    assert found.ratio.high == pytest.approx(math.exp(3.182446 * sd / 2), rel=1e-6)  # t of 3 degrees of freedom


def test_the_ratio_limits_have_carkeets_exact_intervals_taken_back_by_exp():
    found = stats.bland_altman_log(*pairs_with_log_differences(20, 0.1, 0.05))
    assert found.ratio.value == pytest.approx(math.exp(0.1))
    # Carkeet 2015, n = 20: the upper limit of a standard normal lies in 1.36 to 3.01.
    for limit, sign in ((found.upper, 1), (found.lower, -1)):
        assert limit.value == pytest.approx(math.exp(0.1 + sign * 1.96 * 0.05))
        bounds = sorted(sign * round(sign * (math.log(v) - 0.1) / 0.05, 2) for v in (limit.low, limit.high))
        assert bounds == sorted((sign * 1.36, sign * 3.01))
        assert limit.low < limit.value < limit.high


def test_an_error_that_grows_with_the_size_is_one_ratio_and_no_slope():
    rng = np.random.default_rng(1)
    truth = np.exp(rng.normal(3, 1, 80))
    predicted = truth * 1.2 * np.exp(rng.normal(0, 0.1, 80))
    logs, plain = stats.bland_altman_log(predicted, truth), stats.bland_altman(predicted, truth)
    assert logs.ratio.low < 1.2 < logs.ratio.high
    assert logs.slope.low < 0 < logs.slope.high
    assert plain.slope.low > 0


def test_zeros_are_refused_and_counted_until_an_offset_is_given():
    a, b = [0.0, 3.0, 8.0, 5.0, np.nan], [1.0, 0.0, 7.0, 5.0, 0.0]
    with pytest.raises(DataError, match="2 of 4 patients"):
        stats.bland_altman_log(a, b)
    with pytest.raises(DataError, match="1 of 4 patients"):
        stats.bland_altman_log([-1.0, 3.0, 8.0, 5.0], [1.0, 0.0, 7.0, 5.0], offset=1)
    found = stats.bland_altman_log(a, b, offset=1)
    assert found.ratio.value == pytest.approx((1 / 2 * 4 / 1 * 9 / 8 * 6 / 6) ** (1 / 4))
    assert (found.n, found.n_dropped, found.offset) == (4, 1, 1.0)
    assert "(a + 1) / (b + 1)" in found.method
    assert "+" not in stats.bland_altman_log([1, 2], [2, 1]).method


@pytest.mark.parametrize("offset", [-1.0, np.nan, np.inf])
def test_an_offset_that_is_negative_or_not_finite_is_refused(offset):
    with pytest.raises(ParameterError, match="offset"):
        stats.bland_altman_log([1, 2, 3], [1, 2, 3], offset=offset)


def test_two_patients_make_infinite_limits_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = stats.bland_altman_log([1e300, 1e-300], [1, 1])
    assert found.upper.high == math.inf
    assert found.lower.low == 0.0


positive = st.integers(4, 12).flatmap(
    lambda n: st.tuples(*[arrays(float, n, elements=st.integers(1, 60).map(float))] * 2)
)


@settings(max_examples=40, deadline=None)
@given(positive, st.sampled_from([0.001, 3.0, 1000.0]))
def test_a_change_of_unit_changes_no_ratio_and_an_exchange_inverts_them(pair, factor):
    a, b = pair
    found, scaled, back = (stats.bland_altman_log(*p) for p in ((a, b), (a * factor, b * factor), (b, a)))
    for name in ("ratio", "lower", "upper"):
        assert getattr(scaled, name).value == pytest.approx(getattr(found, name).value)
    assert back.ratio.value == pytest.approx(1 / found.ratio.value)
    assert (back.lower.low, back.lower.high) == pytest.approx((1 / found.upper.high, 1 / found.upper.low))
