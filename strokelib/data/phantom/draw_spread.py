"""Take some of many patients so that the taken look like the many, or like a table of wanted covariates."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

import numpy as np

from strokelib.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

NIHSS_BANDS = (3, 6, 15)
TIE = 1e-4


def number(patient: str) -> int:
    """The number in a patient's name: 1000 of ``sub-1000``."""
    return int(patient.rpartition("-")[2])


def _snake(pool: pd.DataFrame) -> list[str]:
    """Patients by band of NIHSS (unknown last), within the bands by volume, rising and falling in turn."""
    band = np.where(pool["nihss"].isna(), len(NIHSS_BANDS) + 1, np.searchsorted(NIHSS_BANDS, pool["nihss"], "right"))
    along = np.where(band % 2 == 0, pool["ml"], -pool["ml"])
    return [pool.index[n] for n in np.lexsort(([number(name) for name in pool.index], along, band))]


def every_nth(rng: np.random.Generator, pool: pd.DataFrame, count: int, what: str) -> list[str]:
    """Every n-th patient along NIHSS and volume, from a random start.

    Args:
        rng: Where the start comes from.
        pool: Indexed by patient, with ``nihss`` and ``ml``.
        count: How many to take.
        what: What they are for, for the error.

    Returns:
        ``count`` different patients.

    Raises:
        DataError: The pool holds fewer.
    """
    if len(pool) < count:
        step = "make the cohort smaller, or draw it before the others"
        raise DataError(what, found=f"{len(pool)} patients", wanted=f"{count}", next_step=step)
    ordered = _snake(pool)
    positions = np.floor((np.arange(count) + rng.random()) * (len(ordered) / max(count, 1))).astype(int)
    return [ordered[p] for p in positions]


def spread(
    rng: np.random.Generator,
    pool: pd.DataFrame,
    sizes: Mapping[str, int],
    what: str,
    guarded: Container[str] = (),
    guard_ml: tuple[float, float] = (0.0, 0.0),
) -> dict[str, list[str]]:
    """Several disjoint parts of one stratum, each alike in NIHSS and volume.

    Args:
        rng: Where the starts come from.
        pool: Indexed by patient, with ``nihss`` and ``ml``.
        sizes: Part to the number of its patients.
        what: The stratum's name, for the error.
        guarded: Parts that take nobody whose volume lies within ``guard_ml``.
        guard_ml: Ends of the band in mL, both included.

    Returns:
        Part to patients, in the order of ``sizes``.

    Raises:
        DataError: Too few patients.
    """
    left = pool.loc[every_nth(rng, pool, sum(sizes.values()), what)]
    parts: dict[str, list[str]] = {}
    for part in sorted(sizes, key=lambda name: (name not in guarded, sizes[name])):
        clear = left[~left["ml"].between(*guard_ml)] if part in guarded else left
        parts[part] = every_nth(rng, clear, sizes[part], f"{what}, {part}")
        left = left.drop(index=parts[part])
    return {part: parts[part] for part in sizes}


def matched(
    rng: np.random.Generator, pool: pd.DataFrame, wanted: pd.DataFrame, weights: Mapping[str, float], what: str
) -> list[str]:
    """One patient for each wanted row, so that the sum of weighted squared differences is smallest.

    Args:
        rng: Breaks ties, so that there is one best choice.
        pool: Indexed by patient, with the columns of ``weights`` as numbers and none missing.
        wanted: The rows to be matched, with the same columns.
        weights: Column to its weight.
        what: What they are for, for the error.

    Returns:
        As many different patients as ``wanted`` has rows, in its order.

    Raises:
        DataError: The pool holds fewer.
    """
    from scipy.optimize import linear_sum_assignment

    if len(pool) < len(wanted):
        step = "widen the criteria, or draw this cohort first"
        raise DataError(what, found=f"{len(pool)} patients", wanted=f"{len(wanted)}", next_step=step)
    pool = pool.loc[sorted(pool.index, key=number)]
    cost = TIE * rng.random((len(wanted), len(pool)))
    for column, weight in weights.items():
        difference = wanted[column].to_numpy(float)[:, None] - pool[column].to_numpy(float)[None]
        cost += weight * difference**2
    return [pool.index[n] for n in linear_sum_assignment(cost)[1]]
