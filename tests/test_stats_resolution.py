"""What a signed-rank test of n patients can show: against the test itself, by scipy and by all sign choices."""

import numpy as np
import pytest

from strokelib import stats
from strokelib.errors import ParameterError


@pytest.mark.parametrize("n", [1, 2, 5, 6, 10, 20])
@pytest.mark.parametrize("ties", [False, True])
def test_the_smallest_p_is_that_of_a_method_better_in_every_patient(n, ties):
    difference = np.ones(n) if ties else np.arange(1.0, n + 1)
    # All 2^n sign choices up to n = 10; above, only the exact distribution is quick.
    if not (ties and n > 10):
        found = stats.wilcoxon_signed_rank(difference, np.zeros(n))
        assert stats.smallest_signed_rank_p(n) == pytest.approx(found.p)
    assert stats.smallest_signed_rank_p(n) == pytest.approx(2 / 2**n)


@pytest.mark.parametrize(
    ("alpha", "m", "n"),
    [(0.05, 1, 6), (0.05, 2, 7), (0.05, 3, 7), (0.05, 4, 8), (0.05, 6, 8), (0.05, 7, 9), (0.01, 1, 8)],
)
def test_the_fewest_patients_are_the_first_that_holm_can_reject_with(alpha, m, n):
    assert stats.fewest_patients(alpha, m) == n
    others = [1.0] * (m - 1)
    assert stats.holm([stats.smallest_signed_rank_p(n), *others], alpha=alpha).rejected[0]
    assert not stats.holm([stats.smallest_signed_rank_p(n - 1), *others], alpha=alpha).rejected[0]


def test_a_p_that_only_equals_alpha_is_not_below_it():
    assert stats.smallest_signed_rank_p(5) == 0.0625
    assert stats.fewest_patients(0.0625) == 6


def test_numbers_out_of_range_are_refused():
    for call in (
        lambda: stats.smallest_signed_rank_p(0),
        lambda: stats.fewest_patients(5),
        lambda: stats.fewest_patients(0.05, 0),
    ):
        with pytest.raises(ParameterError):
            call()
