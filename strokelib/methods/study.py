"""What studies of whole heads have in common: three parts, the rows that need no network, and a row's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from strokelib.data.cases import Case
from strokelib.methods.reference_rows import reference_metrics
from strokelib.methods.training import Trained

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Outcome:
    """One row of a table.

    Args:
        row: Its name.
        trained: The network.
        scores: Columns method (the row), case, metric, value, unit, of the test scans, in their own frame.
        status: ``1 seed``, ``undertrained`` or ``did not learn``.
    """

    row: str
    trained: Trained
    scores: pd.DataFrame
    status: str


class HeadStudy:
    """Base of a study that trains and scores on whole heads; it has ``parts`` (training, validation, test) and ``out``
    (folder of trained models and scores)."""

    parts: tuple[Sequence[Case], Sequence[Case], Sequence[Case]]
    out: Path

    @property
    def test(self) -> Sequence[Case]:
        """The test cases, as they lie."""
        return self.parts[2]

    @cached_property
    def references(self) -> pd.DataFrame:
        """Scores of the rows that need no network, once computed."""
        return reference_metrics(*self.parts, out=self.out)
