"""Several methods on the same patients: Friedman's test and the critical difference of mean ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokelib.errors import ParameterError
from strokelib.stats.samples import checked_share, checked_table, finite_rows

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Friedman:
    """A Friedman test of k methods with what a critical difference diagram shows.

    Args:
        chi2: Friedman's statistic, corrected for ties; k - 1 degrees of freedom.
        p: Its p value.
        f: F of Iman and Davenport; k - 1 and (k - 1)(n - 1) degrees of freedom. Infinite where all patients agree.
        p_f: Its p value; less conservative than ``p``.
        kendall_w: Kendall's coefficient of concordance in [0, 1]: 1 where all patients rank the methods alike.
        mean_ranks: (k,) in the order of the columns; 1 is best.
        critical_difference: Mean ranks that differ by at least this much differ significantly (Nemenyi).
        cliques: Groups of two or more columns not significantly different, each as long as it can be and in the order
            of the mean ranks, best first. A method in none of them differs from all others.
        alpha: Family-wise error rate of the critical difference.
        better: Whether a ``higher`` or a ``lower`` value is the better one.
        n: Patients used.
        k: Methods.
        n_dropped: Patients left out for a NaN.
        decimals: Decimals the values were rounded to.
        method: What was done.
    """

    chi2: float
    p: float
    f: float
    p_f: float
    kendall_w: float
    mean_ranks: tuple[float, ...]
    critical_difference: float
    cliques: tuple[tuple[int, ...], ...]
    alpha: float
    better: str
    n: int
    k: int
    n_dropped: int
    decimals: int
    method: str


def friedman(table: np.ndarray, *, better: Better = "higher", alpha: float = 0.05, decimals: int = 9) -> Friedman:
    """Friedman test of k methods on the same patients, and Nemenyi's critical difference (Demsar 2006).

    The critical difference is ``q sqrt(k (k + 1) / (6 n))``, q the studentised range of k with infinite degrees of
    freedom, divided by sqrt(2). It is meant to be read where ``p_f`` is below ``alpha``, and takes no notice of ties.

    Args:
        table: (n, k), a row a patient, a column a method; a patient with a NaN is left out.
        better: ``higher`` (Dice) or ``lower`` (a distance).
        alpha: Family-wise error rate of the critical difference.
        decimals: Decimals of the values: their last bits would break ties.

    Returns:
        The test and the ranks. Where all methods tie in every patient, chi2, F and W are 0 and p is 1.

    Raises:
        DataError: It is not a table of two or more methods, or fewer than two patients have all values.
        ParameterError: ``better`` is not known, or ``alpha`` is out of range.
    """
    from scipy.stats import chi2 as chi2_distribution
    from scipy.stats import f as f_distribution
    from scipy.stats import rankdata, studentized_range

    if better not in ("higher", "lower"):
        raise ParameterError("better", found=repr(better), wanted="higher or lower", next_step="choose one of them")
    checked_share("alpha", alpha)
    values = checked_table("table", table, "(n, k): a row a patient, a column for each of two or more methods", 2)
    columns, n_dropped = finite_rows(*values.T, at_least=2)
    x = np.round(np.stack(columns, axis=1), decimals)
    n, k = x.shape
    ranks = rankdata(x if better == "lower" else -x, axis=1)
    mean_ranks = ranks.mean(axis=0)
    # Sums of squares of the ranks about (k + 1) / 2; ties make the whole smaller, which is the correction for them.
    between = n * ((mean_ranks - (k + 1) / 2) ** 2).sum()
    whole = ((ranks - (k + 1) / 2) ** 2).sum()
    w = min(float(between / whole), 1.0) if whole > 0 else 0.0
    chi2 = n * (k - 1) * w
    f = (n - 1) * w / (1 - w) if w < 1 - 1e-12 else math.inf
    q = float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)
    critical = q * math.sqrt(k * (k + 1) / (6 * n))
    return Friedman(
        chi2=chi2,
        p=float(chi2_distribution.sf(chi2, k - 1)),
        f=f,
        p_f=float(f_distribution.sf(f, k - 1, (k - 1) * (n - 1))),
        kendall_w=w,
        mean_ranks=tuple(mean_ranks.tolist()),
        critical_difference=critical,
        cliques=_cliques(mean_ranks, critical),
        alpha=alpha,
        better=better,
        n=n,
        k=k,
        n_dropped=n_dropped,
        decimals=decimals,
        method=f"Friedman, ties corrected, {better} is better, values to {decimals} decimals; F: Iman and Davenport "
        "1980; critical difference: Nemenyi 1963 after Demsar 2006",
    )


def _cliques(mean_ranks: np.ndarray, critical: float) -> tuple[tuple[int, ...], ...]:
    order = np.argsort(mean_ranks, kind="stable")
    ordered, groups, reached = mean_ranks[order], [], 0
    for first in range(len(order)):
        last = int((ordered - ordered[first] < critical).sum())
        if last > reached and last - first > 1:
            groups.append(tuple(order[first:last].tolist()))
        reached = max(reached, last)
    return tuple(groups)
