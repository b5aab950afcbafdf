"""Lines of the tables of Seia et al. 2023: what was printed, our value of that statistic, and how far from a baseline.

A table has a line for each ``row``, ``lesion_filter`` (of :data:`CRITERIA`), ``metric`` and ``statistic``; the other
columns are those of :mod:`strokelib.comparing`, ``ours`` being the statistic instead of the mean:

- ``mean`` and ``median``: bootstrap over scans, BCa for the mean, percentile for the median, whose jackknife tells
  nothing; with the paired difference to the baseline's. ``p`` (Wilcoxon signed-rank, exact) and ``p_holm`` stand once a
  metric, on the line of the mean.
- ``iqr``: the width of the interquartile range (erratum S24), and ``sd``; without interval.
- ``Spearman rho``, ``ICC(3,1)`` (consistency) and ``ICC(2,1)`` (agreement, which a bias lowers; not printed): of the
  predicted and the true volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from strokelib import stats
from strokelib.comparing import NO_PUBLISHED, NOT_RUN, Row, finished, row_of, values_of
from strokelib.errors import DataError
from strokelib.settings import Settings

ALL_LESIONS, ABOVE_3ML = CRITERIA = ("all lesions", "lesions > 3 mL")
# Metric as printed -> ours; "Dice" and "HD" are those of the APIS challenge.
METRICS = {"DSC": "dice", "HD95": "hd95_mm", "AVD": "absolute_volume_difference_ml", "Dice": "dice", "HD": "hd_mm"}
VOLUMES = ("pred_volume_ml", "truth_volume_ml")
MEAN, MEDIAN, IQR, SD = "mean", "median", "iqr", "sd"
RHO, CONSISTENCY, AGREEMENT = "Spearman rho", "ICC(3,1)", "ICC(2,1)"
LINE = ("row", "lesion_filter", "metric", "statistic", "unit", "published")
# Scans without which there is no such statistic.
FEWEST = {MEDIAN: 2, IQR: 2, SD: 2, RHO: 3, CONSISTENCY: 2, AGREEMENT: 2}
TITLES = {IQR: "IQR width", SD: "SD"}
PLACES = {"DSC": 3, "Dice": 3}


def compared(
    cells: pd.DataFrame,
    scores: Mapping[str, pd.DataFrame],
    status: Mapping[str, str],
    settings: Settings,
    *,
    baseline: str,
    references: Sequence[str] = (),
) -> pd.DataFrame:
    """Lines with our numbers in them.

    Args:
        cells: Columns :data:`LINE`, in the order of the table.
        scores: Criterion -> columns method (a row of ``cells`` or a reference), case, metric, value; one mask a scan
            and method; NaN where undefined.
        status: Row -> a word of :data:`strokelib.tables.STATUSES`, for each row that has scores.
        settings: Of what the scores show; its seed is that of the resamples.
        baseline: Row that the others are compared with.
        references: Methods without a network; they come last, are compared and not tested.

    Returns:
        As the head of this module says.

    Raises:
        DataError: A criterion has no scores, scores are of another row, a metric of a row is missing, a scan stands
            twice, or a row has no status.
        ParameterError: Unknown word for a status.
    """
    named = list(dict.fromkeys(cells["row"]))
    if lacking := [criterion for criterion in dict.fromkeys(cells["lesion_filter"]) if criterion not in scores]:
        step = "score the masks against the reference without its small lesions too"
        raise DataError("scores of a table", found=f"none of {', '.join(lacking)}", wanted="all", next_step=step)
    present = set().union(*(one["method"] for one in scores.values()))
    if strange := sorted(present - {*named, *references}):
        wanted = f"{', '.join(named)}, or a name among the references"
        raise DataError("scores of a table", found=strange, wanted=wanted, next_step="rename these rows")
    template = cells.drop_duplicates(["lesion_filter", "metric", "statistic"]).assign(published=NO_PUBLISHED)
    rows, values = [], {}
    for cell in pd.concat([cells, *(template.assign(row=name) for name in references)]).to_dict("records"):
        key = cell["row"], cell["lesion_filter"], cell["metric"]
        if key not in values:
            values[key] = _values(scores[cell["lesion_filter"]], cell["row"], cell["metric"])
        rows.append(_line(cell, values[key], settings.seed))
    _compare(rows, values, baseline, set(named), settings.seed)
    said = dict.fromkeys(set(named) - present, NOT_RUN) | dict.fromkeys(references, "done") | dict(status)
    table = finished(rows, said, settings)
    for column, before in (("lesion_filter", "metric"), ("statistic", "unit"), ("p", "p_holm")):
        table.insert(table.columns.get_loc(before), column, [row[column] for row in rows])
    return table


def _values(scores: pd.DataFrame, row: str, metric: str) -> pd.DataFrame:
    """A line a scan: the metric, or the two volumes."""
    names = (METRICS[metric],) if metric in METRICS else VOLUMES
    return pd.concat([values_of(scores, row, name) for name in names], axis=1, keys=names)


def _line(cell: Mapping[str, Any], values: pd.DataFrame, seed: int) -> Row:
    statistic, there = cell["statistic"], values.dropna().to_numpy()
    about = {"lesion_filter": cell["lesion_filter"], "statistic": statistic, "p": np.nan}
    filled = values.iloc[:, 0] if statistic == MEAN else ()
    line = row_of(cell["row"], cell["metric"], cell["unit"], cell["published"], filled, seed)
    line |= about | {"n": len(there), "n_undefined": len(values) - len(there)}
    return line if statistic == MEAN else line | _estimate(statistic, there, seed)


def _estimate(statistic: str, values: np.ndarray, seed: int) -> dict[str, float]:
    """``ours`` and its interval, as far as so many scans give them; ``values`` is (n, 1), or (n, 2) volumes."""
    if len(values) < FEWEST[statistic]:
        return {}
    if statistic == MEDIAN:
        found = stats.bootstrap_ci(values[:, 0], np.median, method="percentile", seed=seed)
    elif statistic == IQR:
        return {"ours": float(np.subtract(*np.percentile(values, (75, 25))))}
    elif statistic == SD:
        return {"ours": float(values.std(ddof=1))}
    elif statistic == RHO:
        found = stats.spearman(*values.T)
    else:
        both = stats.icc(values)
        found = both.consistency if statistic == CONSISTENCY else both.agreement
    return {"ours": found.value, "ci95_low": found.low, "ci95_high": found.high}


def _compare(rows: Sequence[Row], values: Mapping, baseline: str, tested: set[str], seed: int) -> None:
    """Fill in differences to the baseline under the same criterion, and p values adjusted over the rows of a metric."""
    p_values: dict[str, dict[int, float]] = {}
    how = {MEAN: {"statistic": np.mean}, MEDIAN: {"statistic": np.median, "method": "percentile"}}
    for number, row in enumerate(rows):
        if row["row"] == baseline or row["statistic"] not in how:
            continue
        pair = [values.get((name, row["lesion_filter"], row["metric"])) for name in (row["row"], baseline)]
        both = pd.concat(pair, axis=1, join="inner").dropna().to_numpy()
        if len(both) < 2:
            continue
        found = stats.paired_bootstrap_ci(*both.T, seed=seed, **how[row["statistic"]])
        row |= {"difference": found.value, "difference_low": found.low, "difference_high": found.high}
        if row["row"] in tested and row["statistic"] == MEAN:
            row["p"] = stats.wilcoxon_signed_rank(*both.T).p
            p_values.setdefault(row["metric"], {})[number] = row["p"]
    for of_metric in p_values.values():
        for number, p in zip(of_metric, stats.holm(list(of_metric.values())).adjusted, strict=True):
            rows[number]["p_holm"] = p


def page(table: pd.DataFrame, title: str, *, baseline: str = "FS-STKi", published_on: str = "icoAIS") -> str:
    """A table as Markdown for readers: a block a metric, rows by statistics, each cell ``published | ours [95 % CI]``.

    Args:
        table: Columns as the head of this module says.
        title: Its heading.
        baseline: As given to :func:`compared`.
        published_on: The scans that the published numbers are of; empty for a table of ours alone, whose cells then
            hold ours alone.
    """
    blocks = {name: [name] for name in dict.fromkeys(table["metric"]) if name in METRICS}
    if volumes := [name for name in dict.fromkeys(table["metric"]) if name not in METRICS]:
        blocks["predicted and true volume"] = volumes
    lines = [f"# {title}", ""]
    for name, metrics in blocks.items():
        part = table[table["metric"].isin(metrics)]
        unit = f", {part['unit'].iloc[0]}" if name in METRICS else ""
        lines += [f"## {name}{unit}", "", *_block(part, baseline, bool(published_on), name in METRICS), ""]
    first = table.iloc[0]
    cells = "published \\| ours [95 % CI]" if published_on else "ours [95 % CI]"
    note = f"Cells: {cells}, over scans of {first.cohort} ({first.data}), profile {first.profile}."
    if published_on:
        note += f" Published numbers are of {published_on}, not of these scans."
    note += " p: Wilcoxon signed-rank, exact up to 50 scans; in brackets adjusted by Holm."
    return "\n".join([*lines, note, ""])


def _block(part: pd.DataFrame, baseline: str, with_published: bool, tested: bool) -> list[str]:
    statistics, criteria = list(dict.fromkeys(part["statistic"])), part["lesion_filter"].nunique()
    heads = ["row", *(TITLES.get(one, one) for one in statistics)]
    heads += [f"mean - {baseline}", "p (Holm)"] if tested else []
    lines = [f"| {' | '.join([*heads, 'scans', 'status'])} |", "|" + " --- |" * (len(heads) + 2)]
    for (row, criterion), of_row in part.groupby(["row", "lesion_filter"], sort=False):
        first, cells = of_row.iloc[0], {one.statistic: one for one in of_row.itertuples()}
        places = PLACES.get(first.metric, 2)
        shown = [f"`{row}`" + (f", {criterion}" if criteria > 1 else "")]
        shown += [_cell(cells[one], with_published, places) if one in cells else "-" for one in statistics]
        if tested:
            difference = _between(first.difference, first.difference_low, first.difference_high, places, "+")
            shown += [
                difference,
                "-" if np.isnan(first.p) else f"{p_text(first.p)} ({p_text(first.p_holm)})".replace("= ", ""),
            ]
        counted = f"{first.n}" + (f", {first.n_undefined} without" if first.n_undefined else "")
        lines.append(f"| {' | '.join([*shown, counted, first.status])} |")
    return lines


def _cell(cell: Any, with_published: bool, places: int) -> str:
    ours = _between(cell.ours, cell.ci95_low, cell.ci95_high, places)
    return f"{'-' if cell.published == NO_PUBLISHED else cell.published} \\| {ours}" if with_published else ours


def _between(value: float, low: float, high: float, places: int, sign: str = "") -> str:
    if np.isnan(value):
        return "-"
    return f"{value:{sign}.{places}f}" + (
        "" if np.isnan(low) else f" [{low:{sign}.{places}f}, {high:{sign}.{places}f}]"
    )


def p_text(p: float) -> str:
    """``= 0.012``, or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
