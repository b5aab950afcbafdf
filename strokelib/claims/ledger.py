"""The claims as they stand in ``data_manifests/claims.csv``, and the printed cells that each of them names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from strokelib import manifest, settings
from strokelib.errors import ManifestError

if TYPE_CHECKING:
    import pandas as pd

Side = Literal["a", "b"]
HIGHER, LOWER = "higher", "lower"
NO_TEST, SIGNIFICANT, NOT_SIGNIFICANT = "none", "p <= 0.05", "p > 0.05"
PRINTED, FROM_JACCARD, FROM_IQR, FROM_RATIO, UNKNOWN = "printed", "dice and jaccard", "iqr", "hd95 ratio", "none"
WORDS = {
    "paper": manifest.PAPERS,
    "better": (HIGHER, LOWER),
    "printed_test": (NO_TEST, SIGNIFICANT, NOT_SIGNIFICANT),
    "spread": (PRINTED, FROM_JACCARD, FROM_IQR, FROM_RATIO, UNKNOWN),
    "part": ("val", "test", "hidden"),
}
NOT_TESTABLE = "not testable here"
PER_CENT = "%"
# What binary fractions add to a difference of printed numbers lies far below this.
DECIMALS = 10


@dataclass(frozen=True)
class Claim:
    """Of two printed rows the first is said to be better.

    Args:
        id: Its name.
        paper: Key of the paper.
        group: What it is about.
        claim: A sentence of ours.
        where: Section and table.
        metric: As printed.
        better: ``higher`` or ``lower``.
        table: As :func:`strokelib.manifest.published` takes it; ``B4;1`` where the rows stand in two tables.
        row_a: Printed row that is said to be better.
        row_b: Printed row that it is compared with.
        dataset: As printed.
        aligned_a: ``Y`` or ``N`` where ``row_a`` is printed twice, else empty.
        aligned_b: The same of ``row_b``.
        lesion_filter: As in the table, where it has several, else empty.
        n: Scans; None where the paper does not say.
        printed_test: What the paper reports of a paired test: ``none``, ``p <= 0.05`` or ``p > 0.05``.
        spread: What stands in for an SD that is not printed; see :mod:`strokelib.claims.spreads`.
        cohort: On which we test it.
        part: Of the cohort; ``hidden`` where a challenge keeps the labels.
        ours_a: The first row by its name in our study of the paper; empty where it cannot be tested.
        ours_b: The second one.
        score: Our name of the metric.
        note: What has to be known beside it.
    """

    id: str
    paper: str
    group: str
    claim: str
    where: str
    metric: str
    better: str
    table: str
    row_a: str
    row_b: str
    dataset: str
    aligned_a: str
    aligned_b: str
    lesion_filter: str
    n: int | None
    printed_test: str
    spread: str
    cohort: str
    part: str
    ours_a: str
    ours_b: str
    score: str
    note: str

    @property
    def sign(self) -> int:
        """What makes a difference ``a - b`` positive where it goes as claimed: 1 or -1."""
        return 1 if self.better == HIGHER else -1

    @property
    def comparison(self) -> str:
        """How our scans test it; ``not testable here`` where they cannot."""
        if not self.ours_a:
            return NOT_TESTABLE
        number, scans = self.table.replace(";", " and "), (self.cohort, self.part, self.lesion_filter)
        rows = f"{self.ours_a} minus {self.ours_b}, {self.score}"
        return f"{self.paper}, Table {number} ({', '.join(filter(None, scans))}): {rows}"

    def row(self, side: Side) -> str:
        """The printed row of a side."""
        return self.row_a if side == "a" else self.row_b

    def table_of(self, side: Side) -> str:
        """The table that a side's row stands in."""
        return self.table.split(";")[0 if side == "a" else -1]


@dataclass(frozen=True)
class PublishedDifference:
    """Two printed cells, in the unit of our scores.

    Args:
        a: Of the row that is said to be better.
        b: Of the other one.
        gain: How far a is ahead in the direction that is better; negative where it is behind.
        cells: Both as printed.
    """

    a: float
    b: float
    gain: float
    cells: tuple[str, str]


def all_claims() -> tuple[Claim, ...]:
    """Every claim, in the order of the file.

    Raises:
        ManifestError: The file or a column is missing, a word is not known, an id stands twice, n is no number of
            scans, or only one of our rows is named.
    """
    table, names = manifest.read("claims"), [field.name for field in fields(Claim)]
    if list(table) != names:
        raise refused(f"columns {list(table)}", names)
    for column, words in WORDS.items():
        if strange := sorted(set(table[column]) - set(words)):
            raise refused(f"{column} {strange[0]!r}", " or ".join(words))
    if len(twice := table["id"][table["id"].duplicated()]):
        raise refused(f"{twice.iloc[0]} twice", "each claim once")
    return tuple(_claim(row) for row in table.to_dict("records"))


def _claim(row: Mapping[str, Any]) -> Claim:
    if bool(row["ours_a"]) != bool(row["ours_b"]):
        raise refused(f"our rows {row['ours_a']!r} and {row['ours_b']!r}", "both or none", row["id"])
    texts = {name: str(value) for name, value in row.items() if name != "n"}
    return Claim(**texts, n=_scans(row["n"], row["id"]))


def _scans(cell: object, claim: str) -> int | None:
    wanted = "a whole number of 2 or more, or an empty cell"
    try:
        n = float("nan" if cell == "" else str(cell))
    except ValueError as error:
        raise refused(f"n {cell!r}", wanted, claim) from error
    if math.isnan(n):
        return None
    if n < 2 or n % 1:
        raise refused(f"n {cell!r}", wanted, claim)
    return int(n)


def refused(found: object, wanted: object, claim: str = "") -> ManifestError:
    """The error of a ledger that does not hold."""
    thing = f"ledger claims, {claim}" if claim else "ledger claims"
    return ManifestError(thing, found=found, wanted=wanted, next_step="correct data_manifests/claims.csv")


def published_difference(claim: Claim) -> PublishedDifference:
    """The two printed means of a claim.

    Raises:
        ManifestError: A cell is not printed, or does not stand once in its table.
    """
    (a, cell_a), (b, cell_b) = (printed(claim, side, "mean") for side in ("a", "b"))
    return PublishedDifference(a, b, round(claim.sign * (a - b), DECIMALS), (cell_a, cell_b))


def printed(claim: Claim, side: Side, statistic: str) -> tuple[float, str]:
    """A statistic of a row, in the unit of our scores, and its cell.

    Raises:
        ManifestError: It is not printed, or does not stand once in its table.
    """
    found = cells(claim, side, claim.table_of(side), statistic)
    if len(found) != 1 or math.isnan(found["value"].iloc[0]):
        said = f"{len(found)} cells, {found['value'].notna().sum()} of them with a number"
        raise refused(f"{said}, as {statistic} of {claim.row(side)}", "one printed number", claim.id)
    return number_of(found), found["published_cell"].iloc[0]


def cells(claim: Claim, side: Side, number: str, statistic: str) -> pd.DataFrame:
    """The cells of a table that belong to a row of a claim.

    Args:
        claim: What is claimed.
        side: Which of its rows.
        number: Of the table.
        statistic: ``mean``, ``sd``, ``iqr``.
    """
    wanted = {
        "method": claim.row(side),
        "aligned": claim.aligned_a if side == "a" else claim.aligned_b,
        "dataset": claim.dataset,
        "lesion_filter": claim.lesion_filter,
        "metric": claim.metric,
        "statistic": statistic,
    }
    table = table_of(claim.paper, number)
    return table[np.all([table[column].to_numpy() == value for column, value in wanted.items() if value], axis=0)]


def number_of(found: pd.DataFrame) -> float:
    """The number of one cell, per cent as a fraction."""
    return float(found["value"].iloc[0]) * (0.01 if found["unit"].iloc[0] == PER_CENT else 1.0)


def table_of(paper: str, number: str) -> pd.DataFrame:
    """A printed table, read once; it must not be changed."""
    return _read_once(settings.manifests_dir(), paper, number)


@cache
def _read_once(_: Path, paper: str, number: str) -> pd.DataFrame:
    return manifest.published(paper, number)
