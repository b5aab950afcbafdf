"""What Sun et al. 2024 say of their method, each statement as a pair of rows, tested on our scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from strokelib.comparing import values_of
from strokelib.errors import DataError
from strokelib.methods.papl import Outcome
from strokelib.methods.papl_tables import ADDED, ALIGNMENT, TableRows, difference
from strokelib.methods.scoring import weakest
from strokelib.papl.comparison_figures import Difference, interval_text
from strokelib.papl.rows import COHORTS, ON_BOTH
from strokelib.papl.strata import AVERAGE, BIG, SMALL, scans_of
from strokelib.papl.tables import NOT_TESTABLE
from strokelib.stats import holm, minimum_detectable_difference, wilcoxon_signed_rank

MEASURE, SCORE = "DSC", "dice"
COLUMNS = (
    "statement", "group", "table", "row", "baseline", "scans", "metric", "unit", "published", "ours", "ci95_low",
    "ci95_high", "n", "p_holm", "detectable", "verdict", "status", "cohort", "profile", "data",
)  # fmt: skip


@dataclass(frozen=True)
class Statement:
    """A row of a table is said to score higher than another one.

    Args:
        group: What it is about.
        words: What is said, in few words of ours.
        table: Number of the table.
        row: Of the table.
        baseline: Of the table.
        scans: All, or a stratum of Table V.
    """

    group: str
    words: str
    table: int
    row: str
    baseline: str
    scans: str = AVERAGE


def _of_rows(group: str, table: int, pairs: Mapping[str, tuple[str, str]], scans: str = AVERAGE) -> list[Statement]:
    return [Statement(group, words, table, row, baseline, scans) for words, (row, baseline) in pairs.items()]


ALONE, ON_TOP = "A part of PAPL alone helps (Table IV)", "A part helps beside the others (Table IV)"
STATEMENTS = (
    *_of_rows("Alignment helps each network (Table II)", 2, ALIGNMENT),
    *_of_rows(
        "PAPL scores highest (Table II)",
        2,
        {f"over {row}": ("PAPL", row) for row in ("ADN", "SAN-Net", "IS-Net", "CLCI-Net")},
    ),
    *_of_rows("PAPL helps each backbone (Table III)", 3, ADDED),
    *_of_rows(ALONE, 4, {row: (row, "baseline") for row in ("Inter", "Inter+Intra", "FCM", "RPRS")}),
    *_of_rows(
        ON_TOP,
        4,
        {
            "Intra, beside Inter": ("Inter+Intra", "Inter"),
            "FCM, beside stage 1": ("Inter+Intra+FCM", "Inter+Intra"),
            "RPRS, beside stage 1": ("Inter+Intra+RPRS", "Inter+Intra"),
            "FCM, beside the rest": ("Inter+Intra+FCM+RPRS", "Inter+Intra+RPRS"),
            "RPRS, beside the rest": ("Inter+Intra+FCM+RPRS", "Inter+Intra+FCM"),
        },
    ),
    *_of_rows(
        "PAPL's task teaches more than others (Table VI)",
        6,
        {f"over {row[:3]}": ("Ours (inter+intra)", row) for row in ("PCL [28]", "GCL [29]")},
    ),
    *_of_rows("PAPL scores highest up to 70 mL (Table V)", 5, {"over U-Net": ("PAPL", "U-Net")}, SMALL),
    *_of_rows("PAPL scores below the best above 70 mL (Table V)", 5, {"over TransU-Net": ("PAPL", "TransU-Net")}, BIG),
)


def statement_table(
    rows: Mapping[int, TableRows], tables: Mapping[int, pd.DataFrame], statements: Sequence[Statement] = STATEMENTS
) -> pd.DataFrame:
    """Each statement on each cohort of its table: what was printed, and what our scans give.

    Args:
        rows: Number of a table -> its rows; statements on other tables are left out.
        tables: Number -> the table that was made from them, for what is printed there.
        statements: Which ones.

    Returns:
        Columns :data:`COLUMNS`. ``published`` is a difference of two printed means; ``ours`` that of our means over the
        scans with both, with its 95 % interval (paired bootstrap over scans); ``p_holm`` of the signed-rank test,
        adjusted over all lines; ``detectable`` the smallest true difference that as many scans show with 80 % power if
        single differences spread as ours do; ``verdict`` where the interval lies, or that fewer than two scans have
        both; ``status`` the weaker of both rows.

    Raises:
        DataError: A row of a statement was not run on a cohort whose other rows were.
    """
    lines, p_values = [], []
    for one in statements:
        if one.table not in rows:
            continue
        of_table = rows[one.table]
        for cohort, outcomes in of_table.outcomes.items():
            if lacking := [row for row in (one.row, one.baseline) if row not in outcomes]:
                step = "train the rows of the table first"
                raise DataError(f"statement on {cohort}", found=f"no {lacking[0]}", wanted="both rows", next_step=step)
            pair = [_on(outcomes[row], one.scans) for row in (one.row, one.baseline)]
            found = difference(*pair, SCORE, name=one.words, cohort=cohort, seed=of_table.settings.seed)
            line, p = _line(one, pair, found, tables[one.table])
            settings = of_table.settings.beside(cohort)
            lines.append(line | {"profile": settings.profile.value, "data": settings.source})
            p_values.append(p)
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    return table.assign(p_holm=holm(p_values).adjusted)


def _on(outcome: Outcome, scans: str) -> Outcome:
    return replace(outcome, scores=scans_of(outcome.scores, scans))


def _line(one: Statement, pair: Sequence[Outcome], found: Difference, table: pd.DataFrame) -> tuple[dict, float]:
    values = [values_of(outcome.scores, outcome.row, SCORE) for outcome in pair]
    gap = (values[0] - values[1].reindex(values[0].index)).dropna().to_numpy()
    tested = len(gap) > 1
    line = {
        "statement": one.words,
        "group": one.group,
        "table": one.table,
        "row": one.row,
        "baseline": one.baseline,
        "scans": one.scans,
        "metric": MEASURE,
        "unit": "fraction",
        "published": _printed(one, found.cohort, table),
        "ours": found.value,
        "ci95_low": found.low,
        "ci95_high": found.high,
        "n": found.n,
        "detectable": minimum_detectable_difference(gap.std(ddof=1), len(gap)).value if tested else np.nan,
        "verdict": found.verdict if tested else NOT_TESTABLE,
        "status": weakest(outcome.status for outcome in pair),
        "cohort": found.cohort,
    }
    return line, wilcoxon_signed_rank(gap, np.zeros_like(gap)).p if tested else np.nan


def _printed(one: Statement, cohort: str, table: pd.DataFrame) -> float:
    """Difference of the two printed means; NaN where one is not printed."""
    cells = table[table["metric"] == MEASURE]
    if one.table in ON_BOTH:
        cells = cells[cells["dataset"].map(COHORTS) == cohort]
    if "lesion_filter" in cells:
        cells = cells[cells["lesion_filter"] == one.scans]
    first, second = pd.to_numeric(cells.set_index("row")["published"], errors="coerce")[[one.row, one.baseline]]
    return float(first - second)


def groups_of(table: pd.DataFrame) -> dict[str, list[Difference]]:
    """The lines of :func:`statement_table` by group, as :func:`strokelib.papl.comparison_figures.forest` draws them."""
    found: dict[str, list[Difference]] = {}
    for line in table.itertuples():
        one = Difference(line.statement, line.ours, line.ci95_low, line.ci95_high, line.n, line.cohort)
        found.setdefault(line.group, []).append(one)
    return found


def page(table: pd.DataFrame) -> str:
    """The statements as Markdown, a block a group.

    Args:
        table: From :func:`statement_table`.
    """
    lines = ["# What the paper says, and what our scans say", ""]
    for group, part in table.groupby("group", sort=False):
        heads = ["statement", "cohort", "published", "ours [95 % CI]", "scans", "detectable", "p (Holm)", "verdict"]
        lines += [f"## {group}", "", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
        lines += [_shown(line) for line in part.itertuples()] + [""]
    first = table.iloc[0]
    seeds = "1 seed a row" if (table["status"] != "done").any() else "several seeds a row"
    said = f"Differences of Dice, row minus baseline, {seeds}, profile {first['profile']}, {first['data']} data."
    said += " Detectable: the smallest true difference that as many scans show with 80 % power."
    return "\n".join([*lines, f"{said} Published numbers are of other scans."]) + "\n"


def _shown(line) -> str:
    one = Difference(line.statement, line.ours, line.ci95_low, line.ci95_high, line.n)
    ours = "-" if np.isnan(one.value) else interval_text(one)
    published = "-" if np.isnan(line.published) else f"{line.published:+.4f}".replace("-", "−")
    numbers = ["-" if np.isnan(value) else f"{value:.3f}" for value in (line.detectable, line.p_holm)]
    verdict = line.verdict if line.status == "done" else f"{line.verdict} ({line.status})"
    return f"| {' | '.join([line.statement, line.cohort, published, ours, str(line.n), *numbers, verdict])} |"
