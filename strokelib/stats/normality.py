"""Whether one value a patient is normally distributed: the Shapiro-Wilk test and the points of a QQ plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError
from strokelib.stats.samples import checked_share, finite_rows

SHAPIRO_UP_TO = 5000


@dataclass(frozen=True)
class ShapiroWilk:
    """A Shapiro-Wilk test of normality.

    Args:
        w: At most 1, where the ordered values lie on a line with the normal ones; NaN for constant data.
        p: p value of normality; NaN for constant data.
        n: Patients used.
        n_dropped: Patients left out for a NaN.
        method: What was done.
    """

    w: float
    p: float
    n: int
    n_dropped: int
    method: str = "Shapiro-Wilk, algorithm AS R94 (Royston 1995)"


@dataclass(frozen=True)
class QQ:
    """The points, the line and the band of a normal QQ plot.

    Args:
        theoretical: (n,) standard normal quantiles, rising.
        ordered: (n,) the values in order, in their unit.
        low: (n,) lower bound of the band at each theoretical quantile, in the unit of the values.
        high: (n,) upper bound of the band.
        slope: Slope of the line, in the unit of the values: their standard deviation if they are normal.
        intercept: Height of the line at 0, in the unit of the values: their mean if they are normal.
        level: Level of the band at each point alone, not of all points together.
        n: Patients used.
        n_dropped: Patients left out for a NaN.
        method: What was done.
    """

    theoretical: tuple[float, ...]
    ordered: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    slope: float
    intercept: float
    level: float
    n: int
    n_dropped: int
    method: str = "normal QQ at the medians of the order statistics; line: least squares; band: beta, pointwise"


def shapiro_wilk(values: Sequence[float]) -> ShapiroWilk:
    """Shapiro-Wilk test that the values come from a normal distribution.

    A large p does not show normality: few patients cannot show much. Look at :func:`qq` as well.

    Args:
        values: (n,), e.g. paired differences; NaN for a patient without a value.

    Returns:
        W and p; both NaN where all values are equal up to the rounding of floats.

    Raises:
        DataError: Fewer than 3 or more than 5000 patients have a value: there the p value is not known.
    """
    from scipy.stats import shapiro

    (x,), n_dropped = finite_rows(values, at_least=3)
    if len(x) > SHAPIRO_UP_TO:
        step = "look at qq: with so many values any small departure is significant"
        raise DataError("samples", found=f"{len(x)} values", wanted=f"{SHAPIRO_UP_TO} or fewer", next_step=step)
    if np.ptp(x) <= 16 * np.finfo(float).eps * np.abs(x).max():
        return ShapiroWilk(np.nan, np.nan, len(x), n_dropped)
    w, p = shapiro(x)
    return ShapiroWilk(float(w), float(p), len(x), n_dropped)


def qq(values: Sequence[float], *, level: float = 0.95) -> QQ:
    """What a normal QQ plot shows; it is drawn elsewhere.

    The i-th of n ordered uniform values is Beta(i, n + 1 - i). The theoretical quantiles are the normal quantiles of
    its medians, the band those of its tails, both carried to the unit of the values by the line.

    Args:
        values: (n,), NaN for a patient without a value.
        level: Level of the band at each point.

    Returns:
        The points in rising order with the line and the band.

    Raises:
        DataError: Fewer than 3 patients have a value.
        ParameterError: The level is out of range.
    """
    from scipy.stats import beta, norm

    tail = (1 - checked_share("level", level)) / 2
    (x,), n_dropped = finite_rows(values, at_least=3)
    ordered, rank = np.sort(x), np.arange(1, len(x) + 1)
    below, middle, above = (norm.ppf(beta.ppf(q, rank, len(x) + 1 - rank)) for q in (tail, 0.5, 1 - tail))
    intercept = ordered.mean()  # the theoretical quantiles are symmetric about 0
    slope = (middle * (ordered - intercept)).sum() / (middle**2).sum()
    lines = (middle, ordered, intercept + slope * below, intercept + slope * above)
    return QQ(*(tuple(line.tolist()) for line in lines), float(slope), float(intercept), level, len(x), n_dropped)
