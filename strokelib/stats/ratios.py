"""Agreement of two positive measurements as a ratio: Bland-Altman on logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError, ParameterError
from strokelib.stats.agreement import bland_altman
from strokelib.stats.samples import Estimate, finite_rows


@dataclass(frozen=True)
class BlandAltmanLog:
    """Limits of agreement of the ratio ``(a + offset) / (b + offset)``.

    Args:
        ratio: Geometric mean of the ratios; 1.1 is ``a`` above ``b`` by a tenth.
        lower: Lower limit of the ratio, with its interval.
        upper: Upper limit of the ratio, with its interval.
        log_sd: Standard deviation of the natural logarithms of the ratios, divisor n - 1.
        slope: Slope of the log ratios over the means of both logarithms: a ratio that changes with the size.
        multiple: Standard deviations from the mean log ratio to a limit.
        offset: What was added to every value, in their unit.
        n: Patients used.
        n_dropped: Patients left out for a NaN.
        method: What was done, the offset included.
    """

    ratio: Estimate
    lower: Estimate
    upper: Estimate
    log_sd: float
    slope: Estimate
    multiple: float
    offset: float
    n: int
    n_dropped: int
    method: str


def bland_altman_log(
    a: Sequence[float], b: Sequence[float], *, offset: float = 0.0, multiple: float = 1.96, level: float = 0.95
) -> BlandAltmanLog:
    """Mean ratio and limits of agreement of ``a / b``, for errors that grow with the size (Bland and Altman 1999).

    The differences of the natural logarithms go through :func:`bland_altman`, and its bias, limits and their intervals
    are taken back by the exponential.

    Args:
        a: (n,), e.g. predicted volumes in mL.
        b: (n,), e.g. reference volumes in mL of the same patients.
        offset: Added to every value, in the unit of the values, where some are 0. The ratios depend on it: those of
            small values are drawn to 1.
        multiple: Standard deviations from the mean log ratio to a limit.
        level: Confidence level of every interval.

    Returns:
        Ratios, without a unit.

    Raises:
        DataError: The columns do not match, fewer than two patients have both values, or a value is not above 0 with
            the offset added.
        ParameterError: The level is out of range, or the offset is negative or not finite.
    """
    if not (math.isfinite(offset) and offset >= 0):
        wanted = "a finite number of 0 or more, in the unit of the values"
        raise ParameterError("offset", found=offset, wanted=wanted, next_step="pass 0, or a small volume such as 1 mL")
    (a, b), n_dropped = finite_rows(a, b, at_least=2)
    bad = (a + offset <= 0) | (b + offset <= 0)
    if bad.any():
        found = f"{bad.sum()} of {len(a)} patients with a value of 0 or less after adding {offset:g}"
        step = "pass an offset, or leave these patients out and say so"
        raise DataError("samples", found=found, wanted="positive values", next_step=step)
    logs = bland_altman(np.log(a + offset), np.log(b + offset), multiple=multiple, level=level)
    ratio = "a / b" if offset == 0 else f"(a + {offset:g}) / (b + {offset:g})"
    return BlandAltmanLog(
        ratio=_antilog(logs.bias),
        lower=_antilog(logs.lower),
        upper=_antilog(logs.upper),
        log_sd=logs.sd,
        slope=logs.slope,
        multiple=multiple,
        offset=float(offset),
        n=logs.n,
        n_dropped=n_dropped,
        method=f"of log {ratio}, taken back by exp (Bland and Altman 1999); {logs.method}",
    )


def _antilog(estimate: Estimate) -> Estimate:
    with np.errstate(over="ignore"):  # the limits of two patients can be infinitely far
        value, low, high = (float(v) for v in np.exp([estimate.value, estimate.low, estimate.high]))
    return Estimate(value, low, high, estimate.level)
