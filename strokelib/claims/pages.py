"""The claims as a reader sees them: what is printed, what our trainings found, the verdicts of both, and how many.

Published numbers and ours never share a column, and no verdict of ours is one of the paper's: ours are of embedded
heads and of networks far smaller than the published ones.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from strokelib.claims.ledger import NOT_TESTABLE, Claim, all_claims
from strokelib.claims.verdicts import (
    CANNOT_BE_TOLD,
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_SUPPORTED,
    ONE_SEED,
    SUPPORTED,
    published_verdict,
)
from strokelib.errors import ManifestError
from strokelib.metrics import unit_of
from strokelib.tables import PAPER_TITLES

PRINTED_VERDICTS = (SUPPORTED, CANNOT_BE_TOLD, NOT_SUPPORTED)
OUR_VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, ONE_SEED, NOT_TESTABLE)
COLUMNS = (
    "id", "paper", "group", "claim", "where", "rows", "score", "unit", "published", "published_verdict",
    "published_reason", "effect", "low", "high", "n_patients", "n_seeds", "mde", "resolves", "p_holm", "learnt_a",
    "learnt_b", "verdict", "reason",
)  # fmt: skip
OF_RESULTS = COLUMNS[COLUMNS.index("effect") :]
# A volume over a volume has no unit, and no axis with a share.
RELATIVE = "relative_volume_error"
WEIGHTS = re.compile(r"(?:lambda|beta)\d=([\d.]+);?")


def ledger_table(results: pd.DataFrame) -> pd.DataFrame:
    """Every claim with both verdicts.

    Args:
        results: From :func:`strokelib.claims.results`.

    Returns:
        Columns :data:`COLUMNS`, in the order of ``claims.csv``. ``published`` and ``effect`` are gains, positive where
        they go as claimed, both in ``unit``: 1 for a share, ``relative`` for a volume over a volume, mm, mL; what was
        not scored is NaN.

    Raises:
        ManifestError: The results are not of these claims.
    """
    claims = all_claims()
    if list(results["id"]) != [claim.id for claim in claims]:
        found = sorted(set(results["id"]) ^ {claim.id for claim in claims})[:3] or "another order"
        step = "run strokelib claims again"
        raise ManifestError("claims_results.csv", found=found, wanted="each claim of claims.csv once", next_step=step)
    lines = []
    for claim, ours in zip(claims, results.to_dict("records"), strict=True):
        said = published_verdict(claim)
        line = {"id": claim.id, "paper": claim.paper, "group": claim.group, "claim": claim.claim, "where": claim.where}
        line |= {"rows": rows_of(claim), "score": claim.score, "unit": _unit(claim), "published": said.gain}
        line |= {"published_verdict": said.verdict, "published_reason": said.reason}
        lines.append(line | {name: ours[name] for name in OF_RESULTS})
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _unit(claim: Claim) -> str:
    return "relative" if claim.score == RELATIVE else unit_of(claim.score)


def rows_of(claim: Claim) -> str:
    """Both rows of a claim and what tells it from others, in few words: ``PAPL − U-Net, xwhd``."""
    pair = [claim.ours_a, claim.ours_b] if claim.ours_a else [claim.row_a, claim.row_b]
    names = " − ".join(", ".join(WEIGHTS.findall(name)) or name for name in pair)
    return ", ".join([names, *_apart(claim)])


def _apart(claim: Claim) -> list[str]:
    stratum = re.search(r"[<>]=?\s?\d+ mL", claim.lesion_filter)
    size = [stratum.group().replace("<=", "≤ ").replace(">", "> ").replace("  ", " ")] if stratum else []
    two_channels = ["2 channels"] if "B4" in claim.table else []
    return [claim.cohort, *([claim.part] if claim.part != "test" else []), *size, *two_channels]


def tested_only(table: pd.DataFrame) -> pd.DataFrame:
    """The claims that our trainings say something of: those with an effect."""
    return table[table["effect"].notna()]


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Verdicts by paper.

    Args:
        table: From :func:`ledger_table`.

    Returns:
        Columns source (``published`` numbers alone, or ``ours``), paper, verdict, claims; every combination once, 0
        included.
    """
    kinds = {"published": ("published_verdict", PRINTED_VERDICTS), "ours": ("verdict", OUR_VERDICTS)}
    lines = [
        (source, paper, word, int(((table["paper"] == paper) & (table[column] == word)).sum()))
        for source, (column, words) in kinds.items()
        for paper in PAPER_TITLES
        for word in words
    ]
    return pd.DataFrame(lines, columns=["source", "paper", "verdict", "claims"])


def status_of(results: pd.DataFrame) -> str:
    """The status that says least of the rows that were trained, as artefacts carry it.

    Args:
        results: From :func:`strokelib.claims.results`.
    """
    scored = results[results["effect"].notna()]
    if scored.empty:
        return NOT_TESTABLE
    if scored[["learnt_a", "learnt_b"]].eq("no").any(axis=None):
        return "did not learn"
    if (scored["undertrained"].ne("") & ~scored["undertrained"].str.startswith("0 of")).any():
        return "undertrained"
    return "1 seed" if (scored["n_seeds"] < 2).any() else "done"


def made_of(scores: pd.DataFrame, status: str) -> dict[str, str]:
    """Which cohorts and seeds stand behind a picture, as its footer and sidecar say it.

    Args:
        scores: From :func:`strokelib.claims.scores`, of what is shown, trained rows alone.
        status: Of the rows shown.
    """
    cohorts = ", ".join(sorted(set(scores["cohort"])))
    return {"cohort": cohorts, "seed": f"0 to {scores['seed'].max()}", "status": status}


def page(table: pd.DataFrame) -> str:
    """All claims as Markdown, a block a paper.

    Args:
        table: From :func:`ledger_table`.
    """
    heads = ["claim", "printed gain", "printed numbers alone", "ours [95 % CI]", "MDE", "verdict", "why"]
    lines = ["# The claims of the four papers", ""]
    for paper, title in PAPER_TITLES.items():
        lines += [f"## {title}", "", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
        lines += [_shown(line) for line in table[table["paper"] == paper].itertuples()] + [""]
    note = [
        "Gains are positive where they go as claimed. *Printed numbers alone*: whether the printed difference exceeds",
        "what as many scans give by chance. *Ours*: trainings of a declared small size on embedded data; interval over",
        "patients and seeds; MDE: the smallest true gain that they show with 80 % power, in bold where it lies below",
        "the printed one. A row *learnt* if it beats the best row without a network; p is adjusted by Holm within a",
        "group. `claims.csv` holds every reason in full. A verdict of ours is about these trainings and not about the",
        "published networks.",
    ]
    return "\n".join([*lines, *note]) + "\n"


def _shown(line: tuple) -> str:
    places = 1 if line.unit in ("mm", "mL") else 3
    unit = "" if line.unit in ("1", "relative") else f" {line.unit}"
    ours, least = "-", "-"
    if not np.isnan(line.effect):
        low, high = (signed(value, places) for value in (line.low, line.high))
        seeds = f"{line.n_seeds:.0f} seed" + ("s" if line.n_seeds > 1 else "")
        ours = f"{signed(line.effect, places)}{unit} [{low}, {high}], n = {line.n_patients:.0f}, {seeds}"
        found = "-" if line.low == line.high == 0 else f"{line.mde:.{places}f}"
        least = f"**{found}**" if line.resolves == "yes" else found
    score = line.score.removesuffix(f"_{line.unit.lower()}").replace("_", " ")
    cells = [f"{line.claim} (`{line.id}`)", f"{score} {signed(line.published, places)}{unit}", line.published_verdict]
    cells += [ours, least, line.verdict, why(line)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def why(line: tuple) -> str:
    """What a verdict of ours rests on, in few words.

    Args:
        line: Of :func:`ledger_table`, as a named tuple.
    """
    if np.isnan(line.effect):
        return line.reason
    said = {("no", "no"): ["neither row learnt"], ("no", "yes"): ["the first row did not learn"]}
    said |= {("yes", "no"): ["the second row did not learn"]}
    parts = list(said.get((line.learnt_a, line.learnt_b), []))
    if line.low == line.high == 0:
        parts.append("no scan differs")
    elif line.low <= 0 <= line.high:
        parts.append("the interval holds 0")
    else:
        parts.append("the interval excludes 0")
        parts += [] if np.isnan(line.p_holm) else [f"p = {line.p_holm:.2g}"]
    return "; ".join(parts)


def signed(value: float, places: int = 3) -> str:
    """A number with its sign, and a minus sign where there is one."""
    return f"{round(value, places) + 0.0:+.{places}f}".replace("-", "−")
