"""A printed table beside ours: mean and interval of our scans, and how far each row lies from the proposed one.

A table has one row a printed row and metric: ``row``, ``metric`` and ``unit`` as printed; ``published``, the printed
cell; ``ours``, the mean over scans, with ``sd`` (divisor n - 1), ``n`` scans with a value, ``n_undefined`` without, and
``ci95_low`` and ``ci95_high`` (bootstrap over scans); ``difference`` to the proposed row on the same scans with
``difference_low`` and ``difference_high`` (95 %, paired), and ``p_holm`` (Wilcoxon signed-rank, adjusted by Holm over
the printed rows of a metric); ``status``, ``cohort``, ``profile``, ``data``. What is not there is NaN: a row that was
not run, an interval of fewer than two scans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from strokelib.errors import DataError, ManifestError, ParameterError
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
GROUPS = ("lesion_filter", "anatomy")
NO_PUBLISHED, BLANK = "none", "blank"
NOT_RUN = "not yet"
UNITLESS = ("1", "scans")
ALPHA = 0.05
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
        found, step = f"no {metric}", "score the row with this metric too"
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


def compared(
    cells: pd.DataFrame,
    metrics: Mapping[str, tuple[str, float]],
    scores: pd.DataFrame,
    status: Mapping[str, str],
    settings: Settings,
    *,
    proposed: str,
    references: Sequence[str] = (),
    counts: Mapping[str, Mapping[str, float]] | None = None,
) -> pd.DataFrame:
    """A printed table with our numbers beside it.

    Args:
        cells: The printed cells, columns method, metric, unit, published_cell; a blank cell needs no score.
        metrics: Metric as printed -> ours, and the factor that brings it to the printed unit.
        scores: Columns method (a printed row or a reference), case, metric, value, one seed; NaN where undefined.
        status: Row -> a word of :data:`strokelib.tables.STATUSES`, for each row that has scores.
        settings: Of what the scores show (``run.shown``); its seed is that of the resamples.
        proposed: Name of the row that the others are compared with.
        references: Methods without a network; they come last, are compared and not tested.
        counts: Metric as printed -> row -> number, for what is no mean over scans; a row that is left out stays NaN.

    Returns:
        As the head of this module says.

    Raises:
        DataError: Scores of another row, a metric of a row is missing, a scan stands twice, or a row has no status.
        ParameterError: Unknown word for a status.
        ManifestError: The proposed row is not among the printed ones.
    """
    printed, counts = list(dict.fromkeys(cells["method"])), counts or {}
    if proposed not in printed:
        step = "restore data_manifests/reported from the repository"
        raise ManifestError("published table", found=printed, wanted=f"the row {proposed}", next_step=step)
    if strange := sorted(set(scores["method"]) - {*printed, *references}):
        wanted = f"{', '.join(printed)}, or a name among the references"
        raise DataError("scores of a table", found=strange, wanted=wanted, next_step="rename these rows")
    scored = cells[~cells["metric"].isin(list(counts))].drop_duplicates("metric").assign(published_cell=NO_PUBLISHED)
    rows, values = [], {}
    for cell in pd.concat([cells, *(scored.assign(method=name) for name in references)]).itertuples():
        key, found, ours = (cell.method, cell.metric), pd.Series(dtype=float), np.nan
        if cell.metric in counts:
            ours = counts[cell.metric].get(cell.method, np.nan)
        else:
            name, factor = metrics[cell.metric]
            needed = cell.method in printed and bool(cell.published_cell)
            found = values_of(scores, cell.method, name, needed=needed) * factor
        values[key] = found
        row = row_of(*key, cell.unit, cell.published_cell or BLANK, found, settings.seed)
        rows.append(row if np.isnan(ours) else row | {"ours": ours})
    compare(rows, values, proposed, printed, settings.seed)
    ran = set(scores["method"])
    said = {name: NOT_RUN for name in printed if name not in ran}
    said |= {name: "done" if name in ran else NOT_RUN for name in references}
    table = finished(rows, said | dict(status), settings)
    words = table["ours"].notna().map({True: "done", False: NOT_RUN})
    return table.assign(status=table["status"].mask(table["metric"].isin(list(counts)), words))


def page(
    table: pd.DataFrame,
    title: str,
    *,
    published_on: str = "",
    decimals: Mapping[str, int] | None = None,
    counts: Sequence[str] = (),
) -> str:
    """A table as Markdown for readers: rows by metrics, each cell ``published | ours [95 % CI]``.

    Args:
        table: Columns as the head of this module says; each of :data:`GROUPS` that is a column splits the rows, and
            what only a comparison gives (``p_holm``, ``status``) may be missing.
        title: Its heading.
        published_on: The scans that the published numbers are of; empty for a table of ours alone, whose cells then
            hold ours alone.
        decimals: Metric -> places after the point, where it is not 2.
        counts: Metrics that are no means over scans.
    """
    keys = ["row", *(name for name in GROUPS if name in table)]
    metrics, decimals = table.drop_duplicates("metric"), decimals or {}
    heads = [m.metric if m.unit in UNITLESS else f"{m.metric} ({m.unit})" for m in metrics.itertuples()]
    last = ["scans", *(["status"] if "status" in table else [])]
    lines = [
        f"# {title}",
        "",
        f"| {' | '.join(['row', *heads, *last])} |",
        "|" + " --- |" * (len(heads) + 1 + len(last)),
    ]
    for (name, *group), part in table.groupby(keys, sort=False):
        cells = {c.metric: _cell(c, bool(published_on), decimals.get(c.metric, 2)) for c in part.itertuples()}
        scored = part[~part["metric"].isin(counts)]
        n = scored["n"] if scored["ours"].isna().all() else scored.loc[scored["ours"].notna(), "n"]
        counted = " to ".join(dict.fromkeys((str(n.min()), str(n.max()))))
        shown = [f"`{name}`" + "".join(f", {g}" for g in group), *(cells.get(m, "-") for m in metrics["metric"])]
        said = [counted, *scored["status"].iloc[:1]] if "status" in table else [counted]
        lines.append(f"| {' | '.join([*shown, *said])} |")
    first = table.iloc[0]
    note = "Cells: published \\| ours [95 % CI]" if published_on else "Cells: ours [95 % CI]"
    note += f", means over scans, {first.cohort} ({first.data}), profile {first.profile}."
    if published_on:
        note += f" Published numbers are of {published_on}, not of these scans."
    if "p_holm" in table and (table["p_holm"] < ALPHA).any():
        note += f" *: other than the proposed row, Wilcoxon signed-rank, Holm-adjusted p < {ALPHA}."
    return "\n".join([*lines, "", note, ""])


def _cell(cell: Any, with_published: bool, places: int) -> str:
    ours = "-" if np.isnan(cell.ours) else f"{cell.ours:.{places}f}"
    if not np.isnan(cell.ci95_low):
        ours += f" [{cell.ci95_low:.{places}f}, {cell.ci95_high:.{places}f}]"
    if not with_published:
        return ours
    published = "-" if cell.published in (NO_PUBLISHED, BLANK) else cell.published
    return f"{published} \\| {ours}" + ("*" if cell.p_holm < ALPHA else "")
