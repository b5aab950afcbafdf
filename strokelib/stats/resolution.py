"""How few patients a signed-rank test can decide anything with."""

from __future__ import annotations

import math

from strokelib.errors import ParameterError
from strokelib.stats.samples import checked_share


def smallest_signed_rank_p(n: int) -> float:
    """The smallest two-sided p that an exact Wilcoxon signed-rank test of ``n`` patients can give: ``2 / 2**n``.

    It is reached where one method is better in every patient, by however much.

    Args:
        n: Patients whose difference is not 0.

    Returns:
        p in (0, 1]; 0.0625 for 5 patients, 0.03125 for 6.

    Raises:
        ParameterError: There is no patient.
    """
    if n < 1:
        raise ParameterError("n", found=n, wanted="1 or more", next_step="count the differences that are not 0")
    return math.ldexp(1.0, 1 - n)


def fewest_patients(alpha: float = 0.05, m: int = 1) -> int:
    """The fewest patients with which a two-sided signed-rank test can be significant at all.

    With ``m`` tests under Holm's method the smallest p must lie below ``alpha / m``.

    Args:
        alpha: Family-wise error rate.
        m: Tests made together.

    Returns:
        Patients whose difference is not 0; 6 for one test at 0.05, 8 for four to six. It says nothing of power: see
        :func:`strokelib.stats.minimum_detectable_difference`.

    Raises:
        ParameterError: ``alpha`` is out of range, or there is no test.
    """
    if m < 1:
        raise ParameterError("m", found=m, wanted="1 or more", next_step="count the tests made together")
    limit, n = checked_share("alpha", alpha) / m, 1
    while smallest_signed_rank_p(n) >= limit:
        n += 1
    return n
