"""Two methods, each trained with several seeds and scored on the same patients: how sure their difference is.

A score is a patient's part, a training's part and a rest, all drawn at random (the crossed design without replication
of analysis of variance). The mean difference of methods a and b then varies by

    Var = var_i(a_i - b_i) / n  +  sum over m in {a, b} of max(0, var_s(m_s) / S_m - rest_m / (n S_m))

where a_i is the mean of a patient over trainings, m_s that of a training over patients, and rest_m the mean square of
what the two leave over. The first term holds the rest already, hence its subtraction from the others. Degrees of
freedom are Satterthwaite's (1946), one at least. Unlike a bootstrap of seeds, the interval is wide enough with three of
them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from strokelib.errors import ParameterError
from strokelib.stats.differences import detectable_ratio
from strokelib.stats.samples import Estimate, checked_share, checked_table, finite_rows

_WANTED = "(n_seeds, n_patients): a row a training, a column a patient"


@dataclass(frozen=True)
class CrossedDifference(Estimate):
    """A t interval of one method less another over patients and seeds.

    Args:
        se: Standard error of the difference.
        df: Its degrees of freedom.
        n: Patients used, the same for both.
        n_seeds: Trainings of the first and of the second method.
        sd_seeds: Standard deviation of the mean score between the trainings of each; NaN for one.
        n_dropped: Patients left out for a NaN in any training of either.
        note: What the interval lacks; empty where both were trained twice or more.
        method: What was done.
    """

    se: float
    df: float
    n: int
    n_seeds: tuple[int, int]
    sd_seeds: tuple[float, float]
    n_dropped: int
    note: str = ""
    method: str = "t interval, patients and seeds crossed, Satterthwaite's degrees of freedom"

    def detectable(self, *, alpha: float = 0.05, power: float = 0.8) -> float:
        """The smallest true difference that as many patients and seeds show with the given power.

        Args:
            alpha: Two-sided error rate.
            power: Probability of finding it.

        Returns:
            0 or more, in the unit of the values.

        Raises:
            ParameterError: A share is out of range, or ``alpha`` is not below ``power``.
        """
        if not checked_share("alpha", alpha) < checked_share("power", power):
            wanted, step = "alpha below power", "pass 0.05 and 0.8"
            raise ParameterError("alpha and power", found=f"{alpha} and {power}", wanted=wanted, next_step=step)
        return detectable_ratio(self.df, alpha, power) * self.se


def crossed_difference(a: np.ndarray, b: np.ndarray, *, level: float = 0.95) -> CrossedDifference:
    """Mean of method a less that of b, with an interval over patients and seeds.

    Args:
        a: (n_seeds, n_patients), one method.
        b: (n_seeds, n_patients), the other, the same patients in the same order; it may have another number of seeds.
        level: Confidence level.

    Returns:
        In the unit of the values. With one seed of a method its share is unknown and left out, as ``note`` says.

    Raises:
        DataError: The shapes do not match, or fewer than two patients have all values.
        ParameterError: The level is out of range.
    """
    tables, n_dropped = _tables(a, b)
    n = tables[0].shape[1]
    by_patient = tables[0].mean(axis=0) - tables[1].mean(axis=0)
    between = float(by_patient.var(ddof=1)) / n
    variance, spread = between, [(between, n - 1)]
    for table in tables:
        seeds, rest, count = _seeds_and_rest(table)
        if seeds > rest:
            variance += seeds - rest
            spread += [(seeds, count - 1), (rest, (n - 1) * (count - 1))]
    value, se = float(by_patient.mean()), math.sqrt(variance)
    df = max(1.0, variance**2 / sum(part**2 / free for part, free in spread)) if variance else float(n - 1)
    low, high = _interval(value, se, df, level)
    alone = min(len(table) for table in tables) == 1
    note = "1 seed: the spread over trainings is not in this interval" if alone else ""
    counts, sds = _counts_and_sds(tables)
    return CrossedDifference(
        value, low, high, level, se=se, df=df, n=n, n_seeds=counts, sd_seeds=sds, n_dropped=n_dropped, note=note
    )


@dataclass(frozen=True)
class SeedsDifference(Estimate):
    """A t interval of one method less another over seeds, on these patients and no others.

    Args:
        df: Welch's degrees of freedom; NaN where no training differs from another.
        n_seeds: Trainings of the first and of the second method.
        n: Patients used.
        method: What was done.
    """

    df: float
    n_seeds: tuple[int, int]
    n: int
    method: str = "Welch's t interval over trainings, patients fixed"


def seeds_difference(a: np.ndarray, b: np.ndarray, *, level: float = 0.95) -> SeedsDifference:
    """Mean of method a less that of b, with an interval over seeds alone.

    Args:
        a: As in :func:`crossed_difference`.
        b: As in :func:`crossed_difference`.
        level: Confidence level.

    Returns:
        In the unit of the values; without bounds (NaN) where a method has one seed.

    Raises:
        DataError: The shapes do not match, or fewer than two patients have all values.
        ParameterError: The level is out of range.
    """
    tables, _ = _tables(a, b)
    means = [table.mean(axis=1) for table in tables]
    value, counts = float(means[0].mean() - means[1].mean()), (len(means[0]), len(means[1]))
    n = tables[0].shape[1]
    if min(counts) < 2:
        return SeedsDifference(value, math.nan, math.nan, checked_share("level", level), math.nan, counts, n)
    parts = [(float(one.var(ddof=1)) / len(one), len(one) - 1) for one in means]
    variance = sum(part for part, _ in parts)
    df = variance**2 / sum(part**2 / free for part, free in parts) if variance else math.nan
    low, high = _interval(value, math.sqrt(variance), df, level)
    return SeedsDifference(value, low, high, level, df, counts, n)


def _tables(a: np.ndarray, b: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    first, second = checked_table("a", a, _WANTED), checked_table("b", b, _WANTED)
    rows, n_dropped = finite_rows(*first, *second, at_least=2)
    return (np.stack(rows[: len(first)]), np.stack(rows[len(first) :])), n_dropped


def _seeds_and_rest(table: np.ndarray) -> tuple[float, float, int]:
    """Between-seeds variance and the rest's, both of the mean over all; (0, 0) with one seed."""
    count, n = table.shape
    if count == 1:
        return 0.0, 0.0, 1
    left = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    rest = float((left**2).sum()) / ((n - 1) * (count - 1))
    return float(table.mean(axis=1).var(ddof=1)) / count, rest / (n * count), count


def _counts_and_sds(tables: tuple[np.ndarray, np.ndarray]) -> tuple[tuple[int, int], tuple[float, float]]:
    sds = [float(one.mean(axis=1).std(ddof=1)) if len(one) > 1 else math.nan for one in tables]
    return (len(tables[0]), len(tables[1])), (sds[0], sds[1])


def _interval(value: float, se: float, df: float, level: float) -> tuple[float, float]:
    from scipy.stats import t

    half = float(t.ppf((1 + checked_share("level", level)) / 2, df)) * se if se else 0.0
    return value - half, value + half
