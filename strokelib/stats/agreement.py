"""Agreement of two measurements of the same patients: Bland-Altman, intraclass correlation, Spearman."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError
from strokelib.stats.samples import Estimate, checked_share, finite_rows


@dataclass(frozen=True)
class BlandAltman:
    """Limits of agreement of ``a - b``.

    Args:
        bias: Mean difference; interval by Student's t.
        sd: Standard deviation of the differences, divisor n - 1.
        lower: ``bias - multiple * sd``; exact interval by the non-central t.
        upper: ``bias + multiple * sd``; exact interval by the non-central t.
        slope: Slope of the differences over the means of both: a proportional bias. It also leaves 0 where the two
            measurements only differ in variance.
        multiple: Standard deviations from the bias to a limit.
        n: Patients used.
        n_dropped: Patients left out for a NaN.
        method: What was done.
    """

    bias: Estimate
    sd: float
    lower: Estimate
    upper: Estimate
    slope: Estimate
    multiple: float
    n: int
    n_dropped: int
    method: str = "Bland-Altman; limits: exact, non-central t (Carkeet 2015); slope: least squares, HC3"


@dataclass(frozen=True)
class Agreement:
    """Intraclass correlations of single ratings.

    Args:
        consistency: ICC(3,1) = ICC(C,1). Blind to a constant bias.
        agreement: ICC(2,1) = ICC(A,1). A bias lowers it.
        n: Patients used.
        k: Ratings a patient.
        n_dropped: Patients left out for a NaN.
        method: What was done.
    """

    consistency: Estimate
    agreement: Estimate
    n: int
    k: int
    n_dropped: int
    method: str = "two-way ICC of single ratings, ICC(3,1) and ICC(2,1); F intervals (McGraw and Wong 1996)"


@dataclass(frozen=True)
class Correlation(Estimate):
    """A rank correlation.

    Args:
        p: Two-sided p value.
        n: Patients used.
        n_dropped: Patients left out for a NaN.
        method: What was done.
    """

    p: float
    n: int
    n_dropped: int
    method: str = "Spearman; interval: Fisher z, variance of Bonett and Wright 2000"


def bland_altman(a: Sequence[float], b: Sequence[float], *, multiple: float = 1.96, level: float = 0.95) -> BlandAltman:
    """Bias and limits of agreement of ``a - b``, with the uncertainty of each.

    Args:
        a: (n,), e.g. predicted volumes in mL.
        b: (n,), e.g. reference volumes in mL of the same patients.
        multiple: Standard deviations from the bias to a limit.
        level: Confidence level of every interval.

    Returns:
        Everything in the unit of the values; the slope has none.

    Raises:
        DataError: The columns do not match, or fewer than two patients have both values.
        ParameterError: The level is out of range.
    """
    from scipy.stats import nct, t

    (a, b), n_dropped = finite_rows(a, b, at_least=2)
    tails = (1 - checked_share("level", level)) / 2
    difference, n = a - b, len(a)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    unit = sd / np.sqrt(n)
    half = t.ppf(1 - tails, n - 1) * unit
    near, far = (float(nct.ppf(q, n - 1, multiple * np.sqrt(n)) * unit) for q in (tails, 1 - tails))
    return BlandAltman(
        bias=Estimate(bias, float(bias - half), float(bias + half), level),
        sd=sd,
        lower=Estimate(bias - multiple * sd, bias - far, bias - near, level),
        upper=Estimate(bias + multiple * sd, bias + near, bias + far, level),
        slope=_slope((a + b) / 2, difference, level),
        multiple=multiple,
        n=n,
        n_dropped=n_dropped,
    )


def icc(a: Sequence[float] | np.ndarray, b: Sequence[float] | None = None, *, level: float = 0.95) -> Agreement:
    """Intraclass correlation of single ratings, for consistency and for agreement, side by side.

    With the mean squares of a two-way layout (rows are patients, columns are raters):
    ``consistency = (MSR - MSE) / (MSR + (k - 1) MSE)`` and
    ``agreement = (MSR - MSE) / (MSR + (k - 1) MSE + k (MSC - MSE) / n)``.

    Args:
        a: (n,) first rating, or (n, k) all ratings with ``b`` left out.
        b: (n,) second rating of the same patients.
        level: Confidence level.

    Returns:
        Both coefficients, at most 1; NaN where all ratings are equal.

    Raises:
        DataError: The ratings do not match, or fewer than two patients or ratings are left.
        ParameterError: The level is out of range.
    """
    ratings = np.asarray(a, dtype=float) if b is None else None
    if ratings is not None and (ratings.ndim != 2 or ratings.shape[1] < 2):
        wanted = "(n, k) with two or more ratings a patient"
        raise DataError("a", found=f"shape {ratings.shape}", wanted=wanted, next_step="pass the second rating as b")
    columns, n_dropped = finite_rows(*((a, b) if ratings is None else ratings.T), at_least=2)
    x = np.stack(columns, axis=1)
    n, k = x.shape
    rows, raters, grand = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True), x.mean()
    msr = float(k * ((rows - grand) ** 2).sum() / (n - 1))
    msc = float(n * ((raters - grand) ** 2).sum() / (k - 1))
    mse = float(((x - rows - raters + grand) ** 2).sum() / ((n - 1) * (k - 1)))
    tail = 1 - (1 - checked_share("level", level)) / 2
    return Agreement(
        _consistency(msr, mse, n, k, tail, level), _agreement(msr, msc, mse, n, k, tail, level), n, k, n_dropped
    )


def spearman(a: Sequence[float], b: Sequence[float], *, level: float = 0.95) -> Correlation:
    """Spearman's rank correlation with a confidence interval.

    Args:
        a: (n,).
        b: (n,), of the same patients.
        level: Confidence level.

    Returns:
        rho in [-1, 1]; NaN where a column is constant. The interval needs four patients.

    Raises:
        DataError: The columns do not match, or fewer than three patients have both values.
        ParameterError: The level is out of range.
    """
    from scipy.stats import norm, spearmanr

    (a, b), n_dropped = finite_rows(a, b, at_least=3)
    tail = 1 - (1 - checked_share("level", level)) / 2
    n = len(a)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(np.nan, np.nan, np.nan, level, np.nan, n, n_dropped)
    rho, p = (float(v) for v in spearmanr(a, b))
    rho = min(max(rho, -1.0), 1.0)
    half = norm.ppf(tail) * np.sqrt((1 + rho**2 / 2) / (n - 3)) if n > 3 else np.nan
    with np.errstate(divide="ignore"):
        low, high = np.tanh(np.arctanh(rho) - half), np.tanh(np.arctanh(rho) + half)
    return Correlation(rho, float(low), float(high), level, p, n, n_dropped)


def _slope(x: np.ndarray, y: np.ndarray, level: float) -> Estimate:
    if len(x) < 4 or np.ptp(x) == 0:
        return Estimate(np.nan, np.nan, np.nan, level)
    from statsmodels.regression.linear_model import OLS

    fit = OLS(y, np.column_stack((np.ones_like(x), x))).fit(cov_type="HC3", use_t=True)
    low, high = fit.conf_int(alpha=1 - level)[1]
    return Estimate(float(fit.params[1]), float(low), float(high), level)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")


def _consistency(msr: float, mse: float, n: int, k: int, tail: float, level: float) -> Estimate:
    from scipy.stats import f

    def coefficient(weight: float) -> float:
        return _share(msr - weight * mse, msr + (k - 1) * weight * mse)

    df = (n - 1, (n - 1) * (k - 1))
    return Estimate(coefficient(1.0), coefficient(f.ppf(tail, *df)), coefficient(1 / f.ppf(tail, *df[::-1])), level)


def _agreement(msr: float, msc: float, mse: float, n: int, k: int, tail: float, level: float) -> Estimate:
    from scipy.stats import f

    value = _share(msr - mse, msr + (k - 1) * mse + k * (msc - mse) / n)
    # Satterthwaite's degrees of freedom of the compound error a * MSC + b * MSE, free of divisions by 1 - value.
    a, b = k * value, n * (1 + (k - 1) * value) - k * value
    parts = (a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1))
    if not parts > 0:
        return Estimate(value, value, value, level)
    df = (a * msc + b * mse) ** 2 / parts
    error = k * msc + (k * n - k - n) * mse
    low, high = f.ppf(tail, n - 1, df), f.ppf(tail, df, n - 1)
    return Estimate(
        value,
        _share(n * (msr - low * mse), low * error + n * msr),
        _share(n * (high * msr - mse), error + n * high * msr),
        level,
    )
