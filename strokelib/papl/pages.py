"""Tables II to VIII as Markdown: a block a data set or stratum, printed and own numbers side by side in each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from strokelib import manifest
from strokelib.comparing import ALPHA, BLANK, NO_PUBLISHED
from strokelib.papl import strata
from strokelib.papl.rows import proposed_of

NUMERALS = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII")
SPLIT_BY = ("dataset", "lesion_filter")
PLACES = {"mm": 1}
MEASURE, OVERLAP = "DSC", ("DSC", "JC")
TWO_COHORTS = "The two data sets have references of different kinds and are never pooled (P38)."
TICKS = "Which parts a row has is inferred from the order of the rows (P34)."
DATASET = "The data set is not printed; that of AISD in Table IV repeats here."
NOTES = {
    2: (
        "SEAN and ADN are quoted there, with DSC on AISD alone; ours were trained like the others (P30).",
        "The sensitivity of PAPL on AISD is 0.5154 here and 0.5159 in Table III (P31).",
        "TransU-Net (aligned) is another run than the one in Table V (P33).",
        "PAPL is not the best printed in sensitivity on XWHD: 0.4923, CENet (unaligned) 0.5297 (P30).",
        TWO_COHORTS,
    ),
    3: ("The sensitivity of PAPL on AISD is 0.5159 here and 0.5154 in Table II (P31).", TWO_COHORTS),
    4: (TICKS,),
    5: (
        "Strata by the volume of the reference, 70 mL being small.",
        "The average DSC of U-Net is 0.4886 here and 0.4866 in all other tables (P32).",
        "TransU-Net is another run than either row of Table II (P33).",
    ),
    6: ("PCL and GCL see no infarct masks, the proposed task does (P35).", TICKS),
    7: (DATASET,),
    8: (DATASET, "beta3 is the initial value; training raises it (P24)."),
}


def page(table: pd.DataFrame, number: int) -> str:
    """A table as Markdown for readers.

    A block of several metrics comes in two parts, overlap with its difference to the proposed row, then the rest; a
    block of DSC alone has columns for the spread, the difference and the test.

    Args:
        table: From the function of that number in :mod:`strokelib.papl.tables`.
        number: 2 to 8.
    """
    lines, split = [f"# Table {NUMERALS[number]}", ""], [name for name in SPLIT_BY if name in table]
    for value, part in table.groupby(split[0], sort=False) if split else [("", table)]:
        if split:
            lines += [f"## {_heading(split[0], value, part)}", ""]
        if part["metric"].nunique() == 1:
            lines += [*_single(part, number), ""]
            continue
        overlap = part["metric"].isin(OVERLAP)
        lines += [*_several(part[overlap], number), "", *_several(part[~overlap], number), ""]
    lines += [_about(table, number), "", *(f"- {note}" for note in _notes(number))]
    return "\n".join(lines).rstrip("\n") + "\n"


def _heading(column: str, value: str, part: pd.DataFrame) -> str:
    if column == "dataset":
        first = part.iloc[0]
        return f"{value}; ours on {first['cohort']} ({first['data']})"
    own = int((part["n"] + part["n_undefined"]).max())
    printed = strata.PRINTED_SCANS.get(value, sum(strata.PRINTED_SCANS.values()))
    said = f"{own} of ours" if own else "no scan of ours lies in this stratum"
    return f"{value[0].upper()}{value[1:]}: {printed} scans published, {said}"


def _several(part: pd.DataFrame, number: int) -> list[str]:
    """Rows by metrics; with :data:`MEASURE` among them also the alignment, the difference and the status."""
    metrics = part.drop_duplicates("metric")
    heads = [m.metric if m.unit == "fraction" else f"{m.metric} ({m.unit})" for m in metrics.itertuples()]
    first = MEASURE in set(metrics["metric"])
    aligned = first and "aligned" in part
    more = [f"{MEASURE} - proposed", "scans", "status"] if first else ["scans"]
    lines = _head(["row", *(["aligned"] if aligned else []), *heads, *more])
    for row, own in part.groupby("row", sort=False):
        cells = {cell.metric: cell for cell in own.itertuples()}
        there = own.loc[own["ours"].notna(), "n"] if own["ours"].notna().any() else own["n"]
        shown = [f"`{row}`", *(own["aligned"].iloc[:1] if aligned else ())]
        shown += [_number(cells[name]) for name in metrics["metric"]]
        shown += [_difference(cells[MEASURE], part, number)] if first else []
        shown += [" to ".join(dict.fromkeys((str(there.min()), str(there.max()))))]
        lines.append(_line([*shown, own["status"].iloc[0]] if first else shown))
    return lines


def _single(part: pd.DataFrame, number: int) -> list[str]:
    lines = _head(["row", MEASURE, "SD", f"{MEASURE} - proposed", "p (Holm)", "scans", "status"])
    for cell in part.itertuples():
        spread = "-" if math.isnan(cell.sd) else f"{cell.sd:.3f}"
        tested = "-" if math.isnan(cell.p_holm) else "< 0.001" if cell.p_holm < 0.001 else f"{cell.p_holm:.3f}"
        gap = _difference(cell, part, number)
        lines.append(_line([f"`{cell.row}`", _number(cell), spread, gap, tested, str(cell.n), cell.status]))
    return lines


def _number(cell: Any) -> str:
    """Published and ours; the former as printed."""
    published = "-" if cell.published in (NO_PUBLISHED, BLANK) else cell.published
    ours = _between(cell.ours, cell.ci95_low, cell.ci95_high, PLACES.get(cell.unit, 3))
    return f"{published} \\| {ours}" + ("*" if cell.p_holm < ALPHA else "")


def _difference(cell: Any, part: pd.DataFrame, number: int) -> str:
    """How far the row lies from the proposed one, published and ours."""
    proposed = proposed_of(number, cell.row)
    if cell.row == proposed:
        return "(proposed)"
    of_metric = part[part["metric"] == cell.metric].set_index("row")["published"]
    printed = pd.to_numeric(of_metric[[cell.row, proposed]], errors="coerce").to_numpy()
    ours = _between(cell.difference, cell.difference_low, cell.difference_high, 3, "+")
    return f"{_between(printed[0] - printed[1], math.nan, math.nan, 4, '+')} \\| {ours}"


def _between(value: float, low: float, high: float, places: int, sign: str = "") -> str:
    if math.isnan(value):
        return "-"
    return f"{value:{sign}.{places}f}" + (
        "" if math.isnan(low) else f" [{low:{sign}.{places}f}, {high:{sign}.{places}f}]"
    )


def _head(names: Sequence[str]) -> list[str]:
    return [_line(names), "|" + " --- |" * len(names)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _about(table: pd.DataFrame, number: int) -> str:
    first, ours = table.iloc[0], "means over scans"
    if "dataset" not in table:
        ours += f" of {first['cohort']} ({first['data']})"
    said = f"Cells: published \\| ours [95 % CI], {ours}, profile {first['profile']}."
    said += " Published numbers are of other scans."
    proposed = "that with PAPL on the same backbone" if number == 3 else f"`{proposed_of(number, '')}`"
    said += f" The proposed row is {proposed}."
    if (table["p_holm"] < ALPHA).any():
        said += f" *: other than the proposed row, Wilcoxon signed-rank, Holm-adjusted p < {ALPHA}."
    return said


def _notes(number: int) -> list[str]:
    notes = list(NOTES.get(number, ()))
    if number == 5:
        gaps = strata.printed_averages(manifest.published("papl", 5))
        worst = gaps.loc[gaps.groupby("metric", sort=False)["difference"].apply(lambda gap: gap.abs().idxmax())]
        said = ", ".join(f"{gap.difference:+.4f} in {gap.metric} ({gap.row})" for gap in worst.itertuples())
        notes.append(f"Largest gaps from the printed strata, weighted 44 to 8, to the printed averages: {said} (P32).")
    return notes
