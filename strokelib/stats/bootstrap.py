"""Bootstrap confidence intervals over patients, for one method and for the difference of two."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokelib.errors import ParameterError
from strokelib.stats.samples import Estimate, along_axis, checked_share, finite_rows

Method = Literal["bca", "percentile"]


@dataclass(frozen=True)
class Bootstrap(Estimate):
    """A bootstrap interval.

    Args:
        n: Patients used.
        n_dropped: Patients left out for a NaN.
        n_resamples: Resamples drawn.
        seed: Seed of the resamples.
        method: ``BCa`` or ``percentile``, as it was done.
        note: Why it is not the method asked for; empty where it is.
    """

    n: int
    n_dropped: int
    n_resamples: int
    seed: int
    method: str
    note: str = ""


def bootstrap_ci(
    values: Sequence[float],
    statistic: Callable = np.mean,
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    method: Method = "bca",
    seed: int = 0,
) -> Bootstrap:
    """Confidence interval of a statistic of one value a patient.

    Args:
        values: (n,), NaN for a patient without a value.
        statistic: From an array to a number, e.g. ``np.mean``; quick where it takes ``axis``.
        level: Confidence level.
        n_resamples: Resamples of the patients.
        method: ``bca`` (bias-corrected, accelerated) or ``percentile``. BCa does not exist for constant data and some
            medians: the interval is then the percentile one of the same resamples, and ``note`` says so.
        seed: Seed of the resamples.

    Returns:
        The statistic and its interval, in the unit of ``values``.

    Raises:
        DataError: Fewer than two patients have a value.
        ParameterError: The method, the level or the number of resamples is out of range.
    """
    sample, n_dropped = finite_rows(values, at_least=2)
    return _interval(sample, along_axis(statistic), n_dropped, level, n_resamples, method, seed)


def paired_bootstrap_ci(
    a: Sequence[float],
    b: Sequence[float],
    statistic: Callable = np.mean,
    *,
    level: float = 0.95,
    n_resamples: int = 9999,
    method: Method = "bca",
    seed: int = 0,
) -> Bootstrap:
    """Confidence interval of ``statistic(a) - statistic(b)``, the same patients drawn for both in each resample.

    Args:
        a: (n,), one method's value for each patient.
        b: (n,), the other method's value for the same patients.
        statistic: From an array to a number, e.g. ``np.mean``; quick where it takes ``axis``.
        level: Confidence level.
        n_resamples: Resamples of the patients.
        method: As in :func:`bootstrap_ci`.
        seed: Seed of the resamples.

    Returns:
        The difference and its interval, in the unit of the values.

    Raises:
        DataError: The columns do not match, or fewer than two patients have both values.
        ParameterError: The method, the level or the number of resamples is out of range.
    """
    samples, n_dropped = finite_rows(a, b, at_least=2)
    along = along_axis(statistic)

    def difference(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
        return along(first, axis=axis) - along(second, axis=axis)

    return _interval(samples, difference, n_dropped, level, n_resamples, method, seed)


def _interval(
    samples: tuple[np.ndarray, ...],
    statistic: Callable,
    n_dropped: int,
    level: float,
    n_resamples: int,
    method: Method,
    seed: int,
) -> Bootstrap:
    from scipy.stats import bootstrap

    if method not in ("bca", "percentile"):
        raise ParameterError("method", found=repr(method), wanted="bca or percentile", next_step="choose one of them")
    if n_resamples < 1:
        raise ParameterError("n_resamples", found=n_resamples, wanted="1 or more", next_step="pass some thousands")
    common = {
        "paired": True,
        "vectorized": True,
        "axis": -1,
        "batch": 500,
        "confidence_level": checked_share("level", level),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a degenerate BCa is reported in the note
        drawn = bootstrap(
            samples, statistic, n_resamples=n_resamples, method=method, rng=np.random.default_rng(seed), **common
        )
        done, note = {"bca": "BCa", "percentile": "percentile"}[method], ""
        if method == "bca" and not np.isfinite(drawn.confidence_interval).all():
            drawn = bootstrap(samples, statistic, n_resamples=0, method="percentile", bootstrap_result=drawn, **common)
            done, note = "percentile", "BCa is not defined for these data: percentile interval of the same resamples"
    low, high = (float(bound) for bound in drawn.confidence_interval)
    value = float(statistic(*samples, axis=-1))
    return Bootstrap(value, low, high, level, len(samples[0]), n_dropped, n_resamples, seed, done, note)
