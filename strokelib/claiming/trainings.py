"""Which row of which study a claim needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from strokelib.claims import Claim, all_claims
from strokelib.errors import ParameterError
from strokelib.manifest import PAPERS


@dataclass(frozen=True, order=True)
class Row:
    """One row of one table, but for its seed.

    Args:
        paper: Key of the paper.
        cohort: On which it is trained and scored.
        table: As the claims name it, of one side: ``3`` or ``B4``.
        row: By its name in our study of the paper.
    """

    paper: str
    cohort: str
    table: str
    row: str

    @property
    def folder(self) -> str:
        """Its name in a path: digits and letters of the row, whose other signs count by their code."""
        plain = "".join(sign if sign.isalnum() and sign.isascii() else f"-{ord(sign):x}-" for sign in self.row)
        return f"{self.paper}-{self.cohort}-{self.table}-{re.sub('-+', '-', plain).strip('-')}"

    @property
    def shown(self) -> str:
        """For a progress bar."""
        return f"{self.paper} {self.cohort}: {self.row}"


def why_not(claim: Claim) -> str:
    """Why a claim cannot be tested here; empty where it can."""
    return "" if claim.ours_a else claim.note


def rows_of(claim: Claim) -> tuple[Row, Row]:
    """Both rows of a claim that can be tested.

    Raises:
        ParameterError: It cannot.
    """
    if said := why_not(claim):
        step = "leave it out of --only"
        raise ParameterError(f"claim {claim.id}", found=said, wanted="a claim that can be tested here", next_step=step)
    a, b = (
        Row(claim.paper, claim.cohort, claim.table_of(side), row)
        for side, row in (("a", claim.ours_a), ("b", claim.ours_b))
    )
    return a, b


def needed(claims: Iterable[Claim]) -> tuple[Row, ...]:
    """Every row that some claims need, once, by paper and cohort."""
    return tuple(sorted({row for claim in claims for row in rows_of(claim)}, key=lambda row: _order(row)))


def _order(row: Row) -> tuple[int, str, str, str]:
    return PAPERS.index(row.paper), row.cohort, row.table, row.row


def chosen(only: Sequence[str] = (), papers: Sequence[str] = ()) -> tuple[Claim, ...]:
    """The claims to train.

    Args:
        only: Their ids; by default all that can be tested here.
        papers: Those of these papers alone; by default all.

    Raises:
        ParameterError: An id or a paper is not known, or a claim named in ``only`` cannot be tested.
    """
    known = {claim.id: claim for claim in all_claims()}
    if strange := sorted(set(only) - set(known)):
        step = "data_manifests/claims.csv lists them"
        raise ParameterError("claim", found=strange[0], wanted="the id of a claim", next_step=step)
    if strange := sorted(set(papers) - set(PAPERS)):
        wanted = " or ".join(PAPERS)
        raise ParameterError("paper", found=strange[0], wanted=wanted, next_step="give one of these keys")
    names = only or [name for name, claim in known.items() if not why_not(claim)]
    found = tuple(known[name] for name in names if not papers or known[name].paper in papers)
    for claim in found:
        rows_of(claim)
    return found
