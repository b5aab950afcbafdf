"""Two methods on the same patients: the signed-rank test, several tests at once, and what a sample can show at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokelib.errors import DataError, ParameterError
from strokelib.stats.samples import checked_share, finite_rows

ZeroMethod = Literal["wilcox", "pratt", "zsplit"]
Mode = Literal["auto", "exact", "permutation", "asymptotic"]
Alternative = Literal["two-sided", "greater", "less"]
EXACT_UP_TO = 50


@dataclass(frozen=True)
class SignedRank:
    """A Wilcoxon signed-rank test of ``a - b``.

    Args:
        p: p value.
        statistic: The smaller rank sum (two-sided) or that of the positive differences (one-sided).
        rank_biserial: (positive - negative rank sum) / (all ranks), in [-1, 1].
        hodges_lehmann: Median of the means of all pairs of differences, in the unit of the values.
        n: Patients used.
        n_dropped: Patients left out for a NaN.
        n_zero: Patients whose rounded difference is 0.
        zero_method: What became of them.
        mode: How p was found: ``exact``, ``permutation``, ``asymptotic``, or ``none`` where every difference is 0.
        decimals: Decimals the differences were rounded to.
        method: What was done.
    """

    p: float
    statistic: float
    rank_biserial: float
    hodges_lehmann: float
    n: int
    n_dropped: int
    n_zero: int
    zero_method: str
    mode: str
    decimals: int
    method: str


@dataclass(frozen=True)
class Holm:
    """p values adjusted for several tests.

    Args:
        adjusted: In the order given; NaN where there was no p value.
        rejected: Whether each is significant at ``alpha``.
        alpha: Family-wise error rate.
        n: p values given.
        m: Tests corrected for: the p values that are not NaN.
        method: What was done.
    """

    adjusted: tuple[float, ...]
    rejected: tuple[bool, ...]
    alpha: float
    n: int
    m: int
    method: str = "Holm, NaN left out"


@dataclass(frozen=True)
class DetectableDifference:
    """The smallest true difference that a paired comparison would find.

    Args:
        value: In the unit of ``sd``.
        sd: Standard deviation of the paired differences.
        n: Patients.
        alpha: Two-sided error rate.
        power: Probability of finding it.
        method: What was done.
    """

    value: float
    sd: float
    n: int
    alpha: float
    power: float
    method: str = "two-sided paired t test (non-central F)"


def wilcoxon_signed_rank(
    a: Sequence[float],
    b: Sequence[float],
    *,
    zero_method: ZeroMethod = "wilcox",
    decimals: int = 9,
    mode: Mode = "auto",
    alternative: Alternative = "two-sided",
) -> SignedRank:
    """Wilcoxon signed-rank test of ``a - b`` over patients.

    Differences are rounded first: without it, the last bits of a subtraction break ties and change p.

    Args:
        a: (n,), one method's value for each patient.
        b: (n,), the other method's value for the same patients.
        zero_method: ``wilcox`` leaves zero differences out, ``pratt`` ranks them and then leaves them out, ``zsplit``
            gives half of their ranks to each sign.
        decimals: Decimals of the differences.
        mode: ``auto`` is exact for up to 50 differences without ties and zeros, by ``permutation`` of the signs (all of
            them, counted rank by rank) for up to 50 with them, and asymptotic above.
        alternative: ``two-sided``, ``greater`` (a above b) or ``less``.

    Returns:
        p with the effect sizes beside it. Where every difference is 0, p is 1 and the effects are 0.

    Raises:
        DataError: The columns do not match, or no patient has both values.
        ParameterError: A word is not known, or ``exact`` is asked for with ties or zeros.
    """
    from scipy.stats import rankdata, wilcoxon

    for thing, found, wanted in (
        ("zero_method", zero_method, ("wilcox", "pratt", "zsplit")),
        ("mode", mode, ("auto", "exact", "permutation", "asymptotic")),
        ("alternative", alternative, ("two-sided", "greater", "less")),
    ):
        if found not in wanted:
            raise ParameterError(thing, found=repr(found), wanted=f"one of {wanted}", next_step="choose one of them")
    (a, b), n_dropped = finite_rows(a, b, at_least=1)
    difference = np.round(a - b, decimals) + 0.0
    n_zero = int((difference == 0).sum())
    used = difference[difference != 0] if zero_method == "wilcox" else difference
    p, statistic, rank_biserial, done = 1.0, 0.0, 0.0, "none"
    if n_zero < len(difference):
        done = _mode(used, mode)
        ranks = rankdata(np.abs(used))
        method = "asymptotic" if done == "permutation" else done
        result = wilcoxon(used, zero_method=zero_method, alternative=alternative, method=method)
        p, statistic = float(result.pvalue), float(result.statistic)
        if done == "permutation":
            p = _over_all_signs(ranks[used != 0], used[used != 0] > 0, alternative)
        whole = ranks.sum() if zero_method == "zsplit" else ranks[used != 0].sum()
        rank_biserial = float((ranks * np.sign(used)).sum() / whole)
    return SignedRank(
        p=p,
        statistic=statistic,
        rank_biserial=rank_biserial,
        hodges_lehmann=_hodges_lehmann(difference),
        n=len(difference),
        n_dropped=n_dropped,
        n_zero=n_zero,
        zero_method=zero_method,
        mode=done,
        decimals=decimals,
        method=f"Wilcoxon signed-rank, {alternative}, zeros: {zero_method}, {done}, differences to {decimals} decimals",
    )


def holm(p_values: Sequence[float], *, alpha: float = 0.05) -> Holm:
    """Adjust p values for several tests by Holm's step-down method; a NaN is no test.

    Args:
        p_values: (n,), NaN where a test could not be made.
        alpha: Family-wise error rate.

    Returns:
        Adjusted p values in the order given.

    Raises:
        DataError: A p value lies outside [0, 1].
        ParameterError: ``alpha`` is out of range.
    """
    from statsmodels.stats.multitest import multipletests

    checked_share("alpha", alpha)
    p = np.asarray(p_values, dtype=float).reshape(-1)
    tested = ~np.isnan(p)
    if ((p[tested] < 0) | (p[tested] > 1)).any():
        raise DataError("p_values", found=p[tested].tolist(), wanted="numbers in [0, 1]", next_step="pass p values")
    adjusted, rejected = np.full(len(p), np.nan), np.zeros(len(p), bool)
    if tested.any():
        rejected[tested], adjusted[tested], *_ = multipletests(p[tested], alpha, "holm")
    return Holm(tuple(adjusted.tolist()), tuple(rejected.tolist()), alpha, len(p), int(tested.sum()))


def minimum_detectable_difference(
    sd: float, n: int, *, alpha: float = 0.05, power: float = 0.8
) -> DetectableDifference:
    """The smallest true mean difference that ``n`` paired patients show with the given power.

    Args:
        sd: Standard deviation of the paired differences, in any unit.
        n: Patients.
        alpha: Two-sided error rate.
        power: Probability of finding it.

    Returns:
        The difference, 0 or more, in the unit of ``sd``.

    Raises:
        ParameterError: A number is out of range.
    """
    checked_share("power", power)
    if n < 2 or not (np.isfinite(sd) and sd >= 0) or not checked_share("alpha", alpha) < power:
        found, wanted = f"sd {sd}, n {n}, alpha {alpha}", "sd of 0 or more, n of 2 or more, alpha below power"
        raise ParameterError("sample", found=found, wanted=wanted, next_step="describe the paired differences")
    return DetectableDifference(detectable_ratio(n - 1, alpha, power) * sd / n**0.5, sd, n, alpha, power)


def detectable_ratio(df: float, alpha: float, power: float) -> float:
    """The true difference that a two-sided t test finds with a given power, in standard errors.

    Args:
        df: Degrees of freedom of the standard error, not necessarily a whole number.
        alpha: Two-sided error rate, below ``power``.
        power: Probability of finding it.
    """
    from scipy.optimize import brentq
    from scipy.stats import f, ncf

    limit = f.ppf(1 - alpha, 1, df)

    def missing_power(ratio: float) -> float:
        return float(ncf.sf(limit, 1, df, ratio**2)) - power

    high = 1.0
    while missing_power(high) < 0:
        high *= 2
    return float(brentq(missing_power, 0.0, high))


def _mode(used: np.ndarray, mode: Mode) -> str:
    plain = bool((used != 0).all()) and len(np.unique(np.abs(used))) == len(used)
    if mode == "exact" and not plain:
        wanted = "differences without ties and zeros"
        raise ParameterError("mode", found="exact with ties or zeros", wanted=wanted, next_step="use permutation")
    if mode != "auto":
        return mode
    if len(used) > EXACT_UP_TO:
        return "asymptotic"
    return "exact" if plain else "permutation"


def _over_all_signs(ranks: np.ndarray, positive: np.ndarray, alternative: Alternative) -> float:
    """Share of all choices of signs whose positive rank sum is at least as extreme as the observed one.

    Twice a rank is a whole number, also with ties: the distribution of the sum is built up rank by rank.
    """
    doubled = np.rint(2 * ranks).astype(int)
    share = np.zeros(doubled.sum() + 1)
    share[0] = 1.0
    for rank in doubled:
        share[rank:], share[:rank] = (share[rank:] + share[: len(share) - rank]) / 2, share[:rank] / 2
    observed = int(doubled[positive].sum())
    above, below = float(share[observed:].sum()), float(share[: observed + 1].sum())
    p = {"greater": above, "less": below, "two-sided": 2 * min(above, below)}[alternative]
    return min(1.0, p)


def _hodges_lehmann(difference: np.ndarray) -> float:
    first, second = np.triu_indices(len(difference))
    return float(np.median((difference[first] + difference[second]) / 2))
