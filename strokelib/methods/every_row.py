"""Every row that segments, of all four papers and the baseline, with its scores on the same test scans of one cohort.

Cohorts are never mixed: they hold other patients. A training that two tables show stands once, under its first name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from strokelib.data.cases import Case
from strokelib.errors import DataError
from strokelib.methods import adn, papl_tables, pseudo_dwi, ssl_nnunet
from strokelib.methods.baseline import NAMES
from strokelib.methods.reference_rows import SHORT
from strokelib.methods.scoring import read_scores, weakest
from strokelib.pseudo_dwi.figures import LABELS
from strokelib.settings import Settings

BASELINE, NO_NETWORK = "baseline", "none"
PAPERS = ("papl", "adn", "ssl_nnunet", "pseudo_dwi", BASELINE, NO_NETWORK)
BASELINE_STEP, BASELINE_TABLE = "05_baseline", "baseline/table.csv"
# Tables of Wang et al. 2020 whose rows segment; those of Tables 1 and 2 draw images.
SEGMENTING = (3, 4, 5)


@dataclass(frozen=True)
class Row:
    """A trained row, or one that needs no network.

    Args:
        name: As in its table, with the table where names would not tell.
        paper: Of :data:`PAPERS`.
        status: Of the row; ``done`` without a network.
        folders: Names of its trainings' folders.
        scores: Columns case, metric, value.
    """

    name: str
    paper: str
    status: str
    folders: tuple[str, ...]
    scores: pd.DataFrame


@dataclass(frozen=True)
class Comparison:
    """Rows scored on the same scans of one cohort.

    Args:
        settings: Of the scans.
        rows: By name.
        patients: Scan -> patient.
    """

    settings: Settings
    rows: Mapping[str, Row]
    patients: Mapping[str, str]

    @property
    def cohort(self) -> str:
        """Its key."""
        return self.settings.cohort

    @property
    def title(self) -> str:
        """The cohort, where its scans are from, and how many there are."""
        scans, people = len(self.scans), len(self.values("dice"))
        counted = f"n = {people}" if scans == people else f"{scans} scans of {people} patients"
        return f"{self.cohort} ({self.settings.source}), {counted}"

    @cached_property
    def scans(self) -> list[str]:
        """The scans that every row was scored on."""
        return list(self._wide("dice").index)

    @property
    def folders(self) -> dict[str, str]:
        """Row -> names of its trainings' folders: what a table or figure was made from."""
        return {name: " ".join(row.folders) for name, row in self.rows.items() if row.folders}

    @property
    def networks(self) -> list[str]:
        """The rows that were trained."""
        return [name for name, row in self.rows.items() if row.paper != NO_NETWORK]

    @property
    def labels(self) -> dict[str, str]:
        """Row -> how it is written in a figure, where it is not its name."""
        named = {name: name.split(" ", 1) for name, row in self.rows.items() if row.paper == "pseudo_dwi"}
        return {name: f"{table} {LABELS[row]}" for name, (table, row) in named.items()}

    @property
    def weakest(self) -> str:
        """The status that says least."""
        return weakest(row.status for row in self.rows.values())

    def values(self, metric: str) -> pd.DataFrame:
        """One value a patient and row: the mean where a patient has several scans, NaN where a scan has none.

        Args:
            metric: As the scores name it.

        Returns:
            Index patient, a column a row.
        """
        wide = self._wide(metric)
        people = pd.Index([self.patients[scan] for scan in wide.index], name="patient")
        return wide.groupby(people, sort=False).agg(lambda values: values.mean(skipna=False))

    def _wide(self, metric: str) -> pd.DataFrame:
        columns = {
            name: row.scores[row.scores["metric"] == metric].set_index("case")["value"].astype(float)
            for name, row in self.rows.items()
        }
        return pd.concat(columns, axis=1, join="inner").sort_index()


def comparisons(settings: Settings) -> dict[str, Comparison]:
    """Every cohort's rows, read from what a run trained; what was not trained yet is trained.

    Args:
        settings: Of the run. A user's scans stand in place of their embedded cohort, as in the papers' own notebooks.

    Returns:
        Cohort -> its rows: ``aisd`` and ``xwhd`` (papl, adn, baseline), ``icoais`` (ssl_nnunet), ``isles2018``
        (pseudo_dwi).
    """
    found = [*_slices(settings), _ssl(settings.beside("icoais")), _perfusion(settings.beside("isles2018"))]
    return {one.cohort: one for one in found}


def comparison(settings: Settings, rows: Iterable[Row], cases: Sequence[Case]) -> Comparison:
    """Rows of one cohort, a training once, on the scans that all of them were scored on.

    Args:
        settings: Of the scans.
        rows: Of one name each; the first row of a training stays.
        cases: The test scans.

    Raises:
        DataError: Two rows have one name, or no scan is common to all.
    """
    kept: dict[str, Row] = {}
    seen: set[tuple[str, ...]] = set()
    for row in rows:
        if row.folders and row.folders in seen:
            continue
        if row.name in kept:
            step = "name the table in the row's name"
            raise DataError("rows beside each other", found=f"{row.name} twice", wanted="one name each", next_step=step)
        seen.add(row.folders)
        kept[row.name] = row
    made = Comparison(settings, kept, {case.id: case.patient for case in cases})
    if not made.scans:
        wanted, step = "scans that every row was scored on", "run the notebooks of the rows on the same scans"
        raise DataError(f"rows beside each other, {settings.cohort}", found="none", wanted=wanted, next_step=step)
    return made


def without_network(scores: pd.DataFrame) -> list[Row]:
    """The reference rows.

    Args:
        scores: Columns method, case, metric, value.
    """
    return [Row(SHORT[key], NO_NETWORK, "done", (), part) for key, part in scores.groupby("method", sort=False)]


def baseline_rows(settings: Settings, figures: Path) -> list[Row]:
    """The two U-Nets that notebook 05 trained on a cohort, as it left them; none where it had no such cohort.

    Args:
        settings: Of the cohort.
        figures: Folder of the run's figures and tables.

    Raises:
        DataError: The notebook left no table.
    """
    path = figures / BASELINE_TABLE
    if not path.is_file():
        step = f"run {BASELINE_STEP} first"
        raise DataError("the baseline's table", found="none", wanted=BASELINE_TABLE, next_step=step)
    inputs = json.loads(path.with_suffix(".csv.json").read_text("utf-8"))["inputs"]
    table = pd.read_csv(path).query("cohort == @settings.cohort").set_index("method")
    rows = []
    for key in ("unet", "unet_aligned"):
        if folder := inputs.get(f"{settings.cohort}-{key}"):
            scores = read_scores(settings.runs / "models" / folder / "metrics.csv")
            name = f"baseline {NAMES[key]}"
            status = str(table.loc[NAMES[key], "status"])
            rows.append(Row(name, BASELINE, status, (folder,), scores[scores["method"] == key]))
    return rows


def _slices(settings: Settings) -> list[Comparison]:
    studies = papl_tables.load_studies(settings.beside("aisd"))
    second = papl_tables.rows_of(2, studies)
    found = []
    for cohort, outcomes in second.outcomes.items():
        study = studies[cohort]
        rows = [Row(name, "papl", one.status, (one.trained.folder.name,), one.scores) for name, one in outcomes.items()]
        if cohort == "aisd":
            rows += _adn(study.settings, {row.name for row in rows})
        names = {case.id for case in study.test}
        own = baseline_rows(study.settings, settings.work / "figures")
        rows += [row for row in own if names <= set(row.scores["case"])]
        found.append(comparison(study.settings, [*rows, *without_network(second.references[cohort])], study.test))
    return found


def _adn(settings: Settings, taken: set[str]) -> list[Row]:
    study = adn.load_study(settings)
    outcomes = {name: study.row(name) for name in adn.TABLE1}
    return [
        Row(f"{name} (adn)" if name in taken else name, "adn", one.status, (one.trained.folder.name,), one.scores)
        for name, one in outcomes.items()
    ]


def _ssl(settings: Settings) -> Comparison:
    study = ssl_nnunet.load_study(settings)
    rows = []
    for name in study.rows:
        one = study.outcome(name)
        folders = tuple(trained.folder.name for trained in one.trained)
        rows.append(Row(name, "ssl_nnunet", one.status, folders, one.scores["test"]))
    return comparison(settings, [*rows, *without_network(study.references["test", "all"])], study.held_out("test"))


def _perfusion(settings: Settings) -> Comparison:
    study = pseudo_dwi.load_study(settings)
    rows = [
        Row(f"T{number} {name}", "pseudo_dwi", one.status, (one.trained[-1].folder.name,), one.scores)
        for number in SEGMENTING
        for name, one in getattr(study, f"table{number}")().items()
    ]
    return comparison(settings, [*rows, *without_network(study.references())], study.parts[2])
