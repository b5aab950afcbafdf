"""What every statistic takes and gives: finite samples, and an estimate between two bounds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError, ParameterError


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval.

    Args:
        value: The point estimate.
        low: Lower bound of the interval.
        high: Upper bound of the interval.
        level: Confidence level of the interval, e.g. 0.95.
    """

    value: float
    low: float
    high: float
    level: float


def finite_rows(*columns: Sequence[float], at_least: int) -> tuple[tuple[np.ndarray, ...], int]:
    """Columns of one value a patient as float64, without the patients that have a NaN in any of them.

    Args:
        columns: Each (n,), in the same order of patients.
        at_least: The fewest patients that may be left.

    Returns:
        The columns, each (m,), and the number of patients left out.

    Raises:
        DataError: The columns differ in length, are not one-dimensional, hold an infinite value, or too few are left.
    """
    arrays = [np.asarray(column, dtype=float) for column in columns]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 1:
        found, wanted = f"shapes {sorted(shapes)}", "one value a patient, in the same order"
        raise DataError("samples", found=found, wanted=wanted, next_step="align the columns by case first")
    if any(np.isinf(array).any() for array in arrays):
        raise DataError(
            "samples", found="an infinite value", wanted="finite values or NaN", next_step="find its source"
        )
    keep = ~np.any([np.isnan(array) for array in arrays], axis=0)
    if keep.sum() < at_least:
        found, wanted = f"{keep.sum()} values that are not NaN", f"{at_least} or more"
        raise DataError("samples", found=found, wanted=wanted, next_step="score more cases, or print the cases singly")
    return tuple(array[keep] for array in arrays), int((~keep).sum())


def checked_table(thing: str, values: np.ndarray, wanted: str, columns: int = 1) -> np.ndarray:
    """A table of one row or more as float64.

    Args:
        thing: Its name.
        values: (rows, columns), NaN allowed.
        wanted: The shape in words, for the error.
        columns: The fewest columns.

    Raises:
        DataError: It has another shape.
    """
    try:
        table = np.asarray(values, dtype=float)
    except ValueError as error:
        found = "rows that differ in length, or words"
        raise DataError(thing, found=found, wanted=wanted, next_step="NaN where a value is missing") from error
    if table.ndim != 2 or len(table) < 1 or table.shape[1] < columns:
        raise DataError(thing, found=f"shape {table.shape}", wanted=wanted, next_step="see the axes in the docstring")
    return table


def along_axis(statistic: Callable) -> Callable:
    """The statistic itself where it takes ``axis``, else made to take it, one row at a time."""
    if "axis" in inspect.signature(statistic).parameters:
        return statistic
    return lambda values, axis=-1: np.apply_along_axis(statistic, axis, values)


def checked_share(thing: str, value: float) -> float:
    """A level, a power or an error rate.

    Raises:
        ParameterError: It does not lie between 0 and 1.
    """
    if not 0 < value < 1:
        raise ParameterError(thing, found=value, wanted="a number between 0 and 1", next_step="pass 0.95, not 95")
    return float(value)
