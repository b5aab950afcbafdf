"""Published beside ours, and the scoreboard: read from ledgers and from what a run left, never typed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from strokelib import manifest
from strokelib.errors import ManifestError
from strokelib.repro import sha256

STATUSES = ("done", "1 seed", "undertrained", "did not learn", "not testable here", "hidden test set", "not yet")
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


def scoreboard(figures: Path) -> pd.DataFrame:
    """All 54 tables and figures of the four papers, each with its status here.

    Args:
        figures: Folder of committed figures and tables.

    Returns:
        Columns paper, artefact, what, status, made_with, published, ours, notebook, limit; the ledger's order.
    """
    ledger = manifest.artefacts()
    ledger = ledger[ledger["kind"] != "in-text"].fillna("")
    rows = []
    for row in ledger.itertuples():
        status, made_with = artefact_status(row.output, figures)
        rows.append(
            {
                "paper": row.paper,
                "artefact": f"{row.kind.capitalize()} {row.number}",
                "what": row.caption,
                "status": status,
                "made_with": made_with,
                "published": f"data_manifests/reported/{row.published}" if row.published else "",
                "ours": row.output if made_with else "",
                "notebook": row.notebook,
                "limit": "" if row.limit == "none" else row.limit,
            }
        )
    return pd.DataFrame(rows)


def scoreboard_page(board: pd.DataFrame) -> str:
    """The scoreboard as Markdown: counts, then one table a paper. Links are relative to ``figures/``."""
    counts = board["status"].value_counts()
    said = ", ".join(f"{counts[s]} {s}" for s in STATUSES if s in counts)
    lines = ["# Scoreboard", "", f"{len(board)} tables and figures of four papers: {said}.", ""]
    lines += [
        "Written by notebook 90 from the ledgers and the sidecars of `figures/`; nothing here is typed by hand.",
        "",
    ]
    for paper, part in board.groupby("paper", sort=False):
        lines += [
            f"## {PAPER_TITLES[paper]}",
            "",
            "| artefact | what it shows | status | published / ours | notebook | limit |",
        ]
        lines += ["| --- | --- | --- | --- | --- | --- |"]
        for row in part.itertuples():
            published = f"[published](../{row.published})" if row.published else "published as a picture"
            ours = f"[ours](../{row.ours}) ({row.made_with})" if row.ours else "ours: none"
            what = row.what.replace("|", "\\|")
            lines.append(
                f"| {row.artefact} | {what} | {row.status} | {published} / {ours} | `{row.notebook}` | {row.limit} |"
            )
        lines.append("")
    return "\n".join(lines)


def counts_by_paper(board: pd.DataFrame) -> pd.DataFrame:
    """How many artefacts of each paper have each status; statuses that nothing has are left out."""
    table = pd.crosstab(board["paper"], board["status"]).reindex(list(PAPER_TITLES))
    return table[[s for s in STATUSES if s in table.columns]]
