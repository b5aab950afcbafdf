"""Published beside ours, and the scoreboard: read from ledgers and from what a run left, never typed.

One row a table or figure: ``status``; what it ``shows`` (of a table its headline, which
``data_manifests/headlines.csv`` names; of a figure what it is a picture of); ``published``, the printed cell; ``ours``,
our mean with ``ci95`` over ``n`` scans, on the cohort and with the profile that ``made_with`` says. Published and ours
are never one column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from strokelib import manifest
from strokelib.errors import ManifestError
from strokelib.repro import sha256

STATUSES = ("done", "1 seed", "undertrained", "did not learn", "not testable here", "hidden test set", "not yet")
PICTURE, HIDDEN = "picture", "hidden test set"
ROW_NAMES = ("row", "variable")  # how the column of row names is called in our tables
DIGITS = {"%": 1, "fraction": 3}
PAPER_TITLES = {
    "papl": "Sun et al. 2024 (papl)",
    "adn": "Ni et al. 2022 (adn)",
    "ssl_nnunet": "Seia et al. 2023 (ssl_nnunet)",
    "pseudo_dwi": "Wang et al. 2020 (pseudo_dwi)",
}


def artefact_status(output: str, figures: Path) -> tuple[str, str]:
    """Status of one artefact of the ledger and the cohort and profile it was made with, read from its sidecar.

    Args:
        output: The ledger's ``output``, e.g. ``figures/papl/fig05_salience.png``.
        figures: Folder of committed figures and tables.

    Returns:
        (status, made with); ("not yet", "") where there is no such file.

    Raises:
        ManifestError: The file does not match its sidecar, or its sidecar gives no known status.
    """
    path = figures / output.removeprefix("figures/")
    sidecar = path.with_suffix(path.suffix + ".json")
    if not path.is_file():
        return "not yet", ""
    record = json.loads(sidecar.read_text("utf-8")) if sidecar.is_file() else {}
    step = "run make reproduce"
    if record.get("sha256", {}).get(path.name) != sha256(path):
        raise ManifestError(
            output,
            found="a file that its sidecar does not describe",
            wanted="file and sidecar of one run",
            next_step=step,
        )
    if record.get("status") not in STATUSES:
        raise ManifestError(
            output, found=f"status {record.get('status')!r}", wanted=" or ".join(STATUSES), next_step=step
        )
    return record["status"], f"{record['cohort']} ({record['data']}), {record['profile']}"


def _one(table: pd.DataFrame, wanted: Mapping[str, str], name: str) -> Mapping[str, Any]:
    """The one row that has the wanted words in those columns that the table has.

    Raises:
        ManifestError: There is none, or there are several.
    """
    table = manifest.cells(table, wanted)
    if len(table) != 1:
        step, asked = "correct data_manifests/headlines.csv", {k: v for k, v in wanted.items() if v}
        raise ManifestError(f"headline of {name}", found=f"{len(table)} rows {asked}", wanted="one", next_step=step)
    return table.iloc[0].to_dict()


def _published(line: Mapping[str, str], file: str) -> str:
    """The printed cell of a headline in its ledger, with its unit where that is per cent."""
    wanted = {column: line[column] for column in ("method", "metric", "statistic", "dataset", "lesion_filter")}
    cell = _one(manifest.read(f"reported/{Path(file).stem}"), wanted, line["id"])
    return cell["published_cell"] + (" %" if cell["unit"] == "%" and "%" not in cell["published_cell"] else "")


def _ours(line: Mapping[str, str], path: Path) -> dict[str, str]:
    """Our number of a headline: ``ours``, ``ci95`` and ``n``, empty where there is none; the row's own cohort."""
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    names = next(column for column in ROW_NAMES if column in table)
    wanted = {names: line["row"], "lesion_filter": line["our_filter"]}
    row = _one(table, wanted | {c: line[c] for c in ("metric", "statistic", "dataset")}, line["id"])
    unit, own = row.get("unit", ""), row["cohort"] + (f" ({row['data']})" if "data" in row else "")
    if row.get("status") == HIDDEN:
        return {"ours": "", "ci95": "", "n": "", "cohort": own}

    def said(value: str) -> str:
        return f"{float(value):.{DIGITS[unit]}f}" if value and unit in DIGITS else value

    interval = [said(row.get(name, "")) for name in ("ci95_low", "ci95_high")]
    ours = said(row["ours"]) + (" %" if unit == "%" and row["ours"] else "")
    return {"ours": ours, "ci95": " to ".join(interval) if all(interval) else "", "n": row["n"], "cohort": own}


def scoreboard(figures: Path) -> pd.DataFrame:
    """All 54 tables and figures of the four papers, each with its status, its published number and ours.

    Args:
        figures: Folder of committed figures and tables.

    Returns:
        Columns paper, artefact, what, status, made_with, shows, published, ours, ci95, n, printed_in, file, notebook,
        limit, all of them text; the ledger's order.

    Raises:
        ManifestError: A file does not match its sidecar, or a headline does not name one row of its table.
    """
    ledger, lines = manifest.artefacts(), manifest.read("headlines").set_index("id", drop=False)
    ledger = ledger[ledger["kind"] != "in-text"].fillna("")
    if strange := sorted(set(ledger["id"][ledger["kind"] == "table"]) ^ set(lines.index)):
        step = "name one number of each table in data_manifests/headlines.csv"
        raise ManifestError("headlines", found=f"{strange} in one ledger", wanted="each table once", next_step=step)
    rows = []
    for row in ledger.itertuples():
        status, made_with = artefact_status(row.output, figures)
        numbers = {"published": PICTURE, "ours": PICTURE if made_with else "", "ci95": "", "n": ""}
        if row.kind == "table":
            line = lines.loc[row.id].to_dict()
            numbers |= {"published": _published(line, row.published), "ours": ""}
            numbers |= _ours(line, figures / row.output.removeprefix("figures/")) if made_with else {}
            if own := numbers.pop("cohort", ""):
                made_with = f"{own}, {made_with.rsplit(', ', 1)[1]}"
        rows.append(
            {
                "paper": row.paper,
                "artefact": f"{row.kind.capitalize()} {row.number}",
                "what": row.caption,
                "status": status,
                "made_with": made_with,
                "shows": lines.loc[row.id, "says"] if row.kind == "table" else row.caption,
                **numbers,
                "printed_in": f"data_manifests/reported/{row.published}" if row.published else "",
                "file": _readable(row.output, figures) if made_with else "",
                "notebook": row.notebook,
                "limit": "" if row.limit == "none" else row.limit,
            }
        )
    return pd.DataFrame(rows)


def _readable(output: str, figures: Path) -> str:
    """The page of a table where there is one beside its CSV file."""
    page = Path(output).with_suffix(".md").as_posix()
    return page if (figures / page.removeprefix("figures/")).is_file() else output


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _our_cell(row: Any, above: str) -> str:
    """What stands in the column of ours: a number with its interval and scans, or a picture, as a link to its file."""
    if not row.file:
        return "none"
    if not row.ours:
        return f"[none]({above}{row.file}): {row.status}"
    interval = f" ({row.ci95})" if row.ci95 else ""
    return f"[{row.ours}]({above}{row.file}){interval}"


def scoreboard_rows(board: pd.DataFrame, above: str) -> list[str]:
    """Lines of a Markdown table, one row an artefact.

    Args:
        board: Of :func:`scoreboard`, or a part of it.
        above: From the page's folder to the checkout's root, e.g. ``../``; empty in the root.
    """
    lines = ["| artefact | shows | status | published | ours (95 % CI) | n | ours made with | notebook |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in board.itertuples():
        published = f"[{_cell(row.published)}]({above}{row.printed_in})" if row.printed_in else row.published
        notebook = f"[{row.notebook[:2]}]({above}notebooks/{row.notebook}.ipynb)"
        cells = [row.artefact, _cell(row.shows), row.status, published, _our_cell(row, above)]
        lines.append(f"| {' | '.join([*cells, row.n, row.made_with, notebook])} |")
    return lines


def scoreboard_page(board: pd.DataFrame) -> str:
    """The scoreboard as Markdown: counts, then one table a paper. Links are relative to ``figures/``."""
    lines = ["# Scoreboard", "", *scoreboard_summary(board), ""]
    for paper, part in board.groupby("paper", sort=False):
        lines += [f"## {PAPER_TITLES[paper]}", "", *scoreboard_rows(part, "../"), ""]
        limited = part[part["limit"] != ""].groupby("limit", sort=False)["artefact"]
        lines += [f"- {limit}: {', '.join(names)}." for limit, names in limited]
        lines += [""] if len(limited) else []
    return "\n".join(lines)


def scoreboard_summary(board: pd.DataFrame) -> list[str]:
    """Lines that say how many artefacts of each paper have each status, and how a row is to be read."""
    counts = counts_by_paper(board)
    words = list(counts.columns)
    lines = [f"{len(board)} tables and figures of four papers, by status:", ""]
    lines += [f"| paper | {' | '.join(words)} |", f"| --- |{' --- |' * len(words)}"]
    lines += [f"| {PAPER_TITLES[paper]} | {' | '.join(map(str, row))} |" for paper, row in counts.iterrows()]
    return [
        *lines,
        "",
        "Of each table one number stands here, named in `data_manifests/headlines.csv`. **Ours are of embedded cohorts",
        "and short trainings where the row says so: they replace nothing that is printed**, and no difference between",
        "the two columns tests a paper. A table's status is that of its weakest row. Written by notebook 90 from the",
        "ledgers and the files in `figures/`; nothing is typed by hand.",
    ]


def counts_by_paper(board: pd.DataFrame) -> pd.DataFrame:
    """How many artefacts of each paper have each status; statuses that nothing has are left out."""
    table = pd.crosstab(board["paper"], board["status"]).reindex(list(PAPER_TITLES))
    return table[[s for s in STATUSES if s in table.columns]]
