"""What stands in a row of a table: mean and interval of our scans, and how they differ from the proposed row's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from strokelib.errors import DataError, ParameterError
from strokelib.settings import Settings
from strokelib.stats import bootstrap_ci, holm, paired_bootstrap_ci, wilcoxon_signed_rank
from strokelib.tables import STATUSES

NOTHING = (
    "ours", "sd", "ci95_low", "ci95_high", "difference", "difference_low", "difference_high", "p_holm",
)  # fmt: skip
COLUMNS = (
    "row", "metric", "unit", "published", "ours", "sd", "n", "n_undefined", "ci95_low", "ci95_high", "difference",
    "difference_low", "difference_high", "p_holm",
)  # fmt: skip
Row = dict[str, Any]


def values_of(scores: pd.DataFrame, method: str, metric: str, *, needed: bool = True) -> pd.Series:
    """Values of one method by scan, in order of the scans' names; empty where the method has no scores at all.

    Args:
        scores: Columns method, case, metric, value.
        method: As in ``scores``.
        metric: As in ``scores``.
        needed: A method with scores has to have this metric.

    Raises:
        DataError: The metric is needed and missing, or a scan stands twice.
    """
    own = scores[scores["method"] == method]
    part = own[own["metric"] == metric]
    twice = part["case"][part["case"].duplicated()]
    if len(twice) or (needed and len(own) and part.empty):
        found, step = f"no {metric}", "score the row with strokelib.methods.pseudo_dwi"
        if len(twice):
            found, step = f"{metric} of {twice.iloc[0]} twice", "choose one seed"
        raise DataError(f"scores of {method}", found=found, wanted="one value a scan", next_step=step)
    return part.set_index("case")["value"].astype(float).sort_index()


def row_of(row: str, metric: str, unit: str, published: str, values: pd.Series | Sequence[float], seed: int) -> Row:
    """One row of a table, not compared yet.

    Args:
        row: Its name.
        metric: As printed.
        unit: As printed.
        published: The printed cell.
        values: One a scan in that unit, NaN where undefined; none where the row was not run.
        seed: Of the resamples.
    """
    values = np.asarray(values, float)
    there = values[~np.isnan(values)]
    found = dict.fromkeys(NOTHING, np.nan) | {"n": len(there), "n_undefined": len(values) - len(there)}
    if len(there):
        found["ours"] = float(there.mean())
    if len(there) > 1:
        interval = bootstrap_ci(there, seed=seed)
        found |= {"sd": float(there.std(ddof=1)), "ci95_low": interval.low, "ci95_high": interval.high}
    return {"row": row, "metric": metric, "unit": unit, "published": published, **found}


def compare(
    rows: Sequence[Row],
    values: Mapping[tuple[str, str], pd.Series],
    proposed: str,
    tested: Iterable[str],
    seed: int,
) -> None:
    """Fill in the differences to the proposed row and, over the tested rows of a metric, the adjusted p values.

    Args:
        rows: From :func:`row_of`; changed.
        values: (row, metric) -> values by scan in the printed unit.
        proposed: Name of the row that the others are compared with.
        tested: Names of the rows that are one family of tests a metric.
        seed: Of the resamples.
    """
    family, p_values = set(tested), {}
    for number, row in enumerate(rows):
        pair = [values[name, row["metric"]] for name in (row["row"], proposed)]
        both = pd.concat(pair, axis=1, join="inner", keys=("row", "proposed")).dropna()
        if row["row"] == proposed or len(both) < 2:
            continue
        found = paired_bootstrap_ci(both["row"], both["proposed"], seed=seed)
        row |= {"difference": found.value, "difference_low": found.low, "difference_high": found.high}
        if row["row"] in family:
            test = wilcoxon_signed_rank(both["row"], both["proposed"])
            p_values.setdefault(row["metric"], {})[number] = test.p
    for of_metric in p_values.values():
        for number, p in zip(of_metric, holm(list(of_metric.values())).adjusted, strict=True):
            rows[number]["p_holm"] = p


def finished(rows: Sequence[Row], status: Mapping[str, str], settings: Settings) -> pd.DataFrame:
    """The rows as a table that says how far each got and what it was made with.

    Args:
        rows: From :func:`row_of`.
        status: Row -> status.
        settings: Cohort, profile and source of the scans.

    Raises:
        DataError: A row has no status.
        ParameterError: A status is none of :data:`strokelib.tables.STATUSES`.
    """
    table = pd.DataFrame(rows)[list(COLUMNS)]
    if lacking := sorted(set(table["row"]) - set(status)):
        step = "pass the status of each row that was run"
        raise DataError("status", found=f"none for {', '.join(lacking)}", wanted="one a row", next_step=step)
    if strange := sorted(set(status.values()) - set(STATUSES)):
        raise ParameterError("status", found=strange, wanted=" or ".join(STATUSES), next_step="use one of these words")
    words = table["row"].map(status)
    return table.assign(status=words, cohort=settings.cohort, profile=settings.profile.value, data=settings.source)
