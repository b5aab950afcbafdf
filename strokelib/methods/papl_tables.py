"""The rows of Tables II to VIII of Sun et al. 2024 as its tables, figures and statements take them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from strokelib.comparing import values_of
from strokelib.data.scans import names_beside
from strokelib.methods.papl import Outcome, Study, StudyRecipe, load_study, scores_of, weakest_of
from strokelib.methods.reference_rows import REFERENCES
from strokelib.methods.scoring import COLUMNS, penalised
from strokelib.papl import tables
from strokelib.papl.comparison_figures import Curve, Difference
from strokelib.papl.rows import ALIGNED_TOO, BACKBONES, COHORTS, ON_BOTH, RUNS, WITH, WITHOUT
from strokelib.settings import Settings
from strokelib.stats import bootstrap_ci

MAKERS = {
    2: tables.table2_comparison,
    3: tables.table3_backbones,
    4: tables.table4_components,
    5: tables.table5_volume_strata,
    6: tables.table6_contrastive_tasks,
    7: tables.table7_lambda_sweep,
    8: tables.table8_beta_sweep,
}
SWEEPS = (7, 8)
# Table IV without its row "Inter" is a full factorial of three parts, each there or not: row -> the parts that it has.
PARTS = {"stage 1": ("inter", "intra"), "FCM": ("fcm",), "RPRS": ("rprs",)}
FACTORIAL = {
    row: frozenset(part for part, switches in PARTS.items() if all(run.switches[name] for name in switches))
    for row, run in RUNS[4].items()
    if run.switches["inter"] == run.switches["intra"]
}
# (row, row that it is compared with) of Table II: what alignment gives; of Table III: what PAPL gives.
ALIGNMENT = {name: (f"{name} (aligned)", f"{name} (unaligned)") for name in ALIGNED_TOO}
ADDED = {name: (WITH.format(name), WITHOUT.format(name)) for name in BACKBONES}


@dataclass(frozen=True)
class TableRows:
    """The rows of one table, trained and scored.

    Args:
        number: Of the table, 2 to 8.
        settings: Of the run (``run.shown``).
        outcomes: Cohort -> row -> what was trained for it.
        references: Cohort -> scores of the rows that need no network.
    """

    number: int
    settings: Settings
    outcomes: Mapping[str, Mapping[str, Outcome]]
    references: Mapping[str, pd.DataFrame]

    @cached_property
    def scores(self) -> dict[str, pd.DataFrame]:
        """Cohort -> columns method, case, metric, value, unit; references come last. Empty where nothing was run."""
        found = {cohort: pd.DataFrame(columns=COLUMNS) for cohort in self._cohorts}
        for cohort, outcomes in self.outcomes.items():
            found[cohort] = pd.concat([scores_of(outcomes), self.references[cohort]], ignore_index=True)
        return found

    @property
    def status(self) -> dict[str, dict[str, str]]:
        """Cohort -> row -> its status."""
        ran = {cohort: {row: one.status for row, one in rows.items()} for cohort, rows in self.outcomes.items()}
        return {cohort: ran.get(cohort, {}) for cohort in self._cohorts}

    @property
    def weakest(self) -> str:
        """The status that says least, of all rows and cohorts."""
        return weakest_of(self._named)

    @property
    def folders(self) -> dict[str, str]:
        """Cohort and row -> name of its training's folder: what a table or figure was made from."""
        return {name: one.trained.folder.name for name, one in self._named.items()}

    def table(self) -> pd.DataFrame:
        """The printed table with our numbers beside it, as :mod:`strokelib.papl.tables` makes it."""
        scores, status = self.scores, self.status
        if self.number not in ON_BOTH:
            scores, status = scores[self.settings.cohort], status[self.settings.cohort]
        return MAKERS[self.number](scores, status, self.settings, REFERENCES)

    def page(self, table: pd.DataFrame) -> str:
        """The table as Markdown; that of a shortened sweep says how short.

        Args:
            table: From :meth:`table`.
        """
        share = StudyRecipe.at(self.settings.profile).sweep_share if self.number in SWEEPS else 1.0
        note = f"- Ours are trained for {share:g} of the steps of the other tables.\n" if share != 1 else ""
        return tables.page(table, self.number) + note

    def difference(self, cohort: str, row: str, baseline: str, metric: str = "dice", name: str = "") -> Difference:
        """A row minus another one, over the scans on which both have a value.

        Args:
            cohort: Of both.
            row: Of the table.
            baseline: Of the table.
            metric: As the scores name it.
            name: Of the difference; empty for that of the row.
        """
        pair = [self.outcomes[cohort][one] for one in (row, baseline)]
        return difference(*pair, metric, name=name, cohort=cohort, seed=self.settings.seed)

    def against(self, baseline: str) -> list[Difference]:
        """Every other row minus one, in Dice, on the first cohort.

        Args:
            baseline: Of the table.
        """
        cohort = next(iter(self.outcomes))
        others = [row for row in self.outcomes[cohort] if row != baseline]
        return [self.difference(cohort, row, baseline, name=row.replace(";", ", ")) for row in others]

    def curves(self, cohort: str) -> dict[str, Curve]:
        """Row -> its validation curve over the share of its training."""
        return {row: _curve(one) for row, one in self.outcomes[cohort].items()}

    @property
    def _cohorts(self) -> tuple[str, ...]:
        return tuple(COHORTS.values()) if self.number in ON_BOTH else (self.settings.cohort,)

    @property
    def _named(self) -> dict[str, Outcome]:
        return {f"{cohort} {row}": one for cohort, rows in self.outcomes.items() for row, one in rows.items()}


def load_studies(settings: Settings, both: bool = True) -> dict[str, Study]:
    """The heads of both cohorts, or of one.

    Args:
        settings: Of the run (``run.shown``).
        both: Also the other cohort; a user's own scans stand alone.
    """
    names = names_beside(settings, *COHORTS.values()) if both else (settings.cohort,)
    return {name: load_study(settings.beside(name)) for name in names}


def rows_of(number: int, studies: Mapping[str, Study]) -> TableRows:
    """Train and score the rows of a table, each training once in all notebooks.

    Args:
        number: Of the table, 2 to 8.
        studies: From :func:`load_studies`, the run's own cohort first; Tables IV to VIII take that one alone.
    """
    used = dict(studies) if number in ON_BOTH else dict(list(studies.items())[:1])
    first = next(iter(used.values()))
    outcomes = {name: {row: study.row(number, row) for row in RUNS[number]} for name, study in used.items()}
    references = {name: penalised(study.references, study.test, "assd_mm") for name, study in used.items()}
    return TableRows(number, first.settings, outcomes, references)


def factorial_effects(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What each part of Table IV adds on average over all choices of the other parts, and how far parts interact.

    The effect of a part is the mean of the four rows with it minus the mean of the four without: four pairs speak for
    it, not one. The interaction of several parts has as its sign the product of theirs; it is 0 where effects add up.

    Args:
        values: Row of :data:`FACTORIAL` -> scores, one a scan or a single number, the same scans in all rows.

    Returns:
        ``stage 1``, ``FCM``, ``RPRS``, then ``stage 1 x FCM`` and so on -> the effect, one a scan.
    """
    found = {}
    for count in range(1, len(PARTS) + 1):
        for parts in itertools.combinations(PARTS, count):
            signed = [
                np.asarray(values[row], float) * math.prod(1 if part in has else -1 for part in parts)
                for row, has in FACTORIAL.items()
            ]
            found[" x ".join(parts)] = np.sum(signed, axis=0) / (len(FACTORIAL) / 2)
    return found


def effects_of(fourth: TableRows) -> list[Difference]:
    """The effects of :func:`factorial_effects` on Dice, with 95 % intervals over the scans that all eight rows have.

    Args:
        fourth: The rows of Table IV.
    """
    (cohort,) = fourth.outcomes
    columns = {row: values_of(fourth.outcomes[cohort][row].scores, row, "dice") for row in FACTORIAL}
    scans = pd.DataFrame(columns).dropna()
    effects = factorial_effects({row: scans[row].to_numpy() for row in FACTORIAL})
    seed = fourth.settings.seed
    return [_interval(name, values, cohort, seed) for name, values in effects.items()]


def one_schedule(numbers: Iterable[int], study: Study) -> tuple[int, ...]:
    """The tables among some whose trainings are equally long, so that one training has to show one number in them.

    Args:
        numbers: Of the tables.
        study: Its plan says whether sweeps, Tables VII and VIII, are shorter.
    """
    return tuple(number for number in numbers if study.plan.sweep_share == 1 or number not in SWEEPS)


def difference(
    outcome: Outcome, baseline: Outcome, metric: str = "dice", *, name: str = "", cohort: str = "", seed: int = 0
) -> Difference:
    """The mean of one training's scores minus another one's, over the scans on which both have a value.

    Args:
        outcome: Of a row.
        baseline: Of the row that it is compared with, on the same scans.
        metric: As the scores name it.
        name: Empty for the row's own.
        cohort: Shown beside it.
        seed: Of the resamples.

    Returns:
        With a 95 % interval (bootstrap over scans), NaN with fewer than two scans.
    """
    first, second = (values_of(one.scores, one.row, metric) for one in (outcome, baseline))
    both = pd.concat([first, second], axis=1, join="inner").dropna().to_numpy()
    return _interval(name or outcome.row, both[:, 0] - both[:, 1], cohort, seed)


def _interval(name: str, differences: np.ndarray, cohort: str, seed: int) -> Difference:
    value, low, high = float("nan"), float("nan"), float("nan")
    if len(differences) > 1:
        found = bootstrap_ci(differences, seed=seed)
        value, low, high = found.value, found.low, found.high
    return Difference(name, value, low, high, len(differences), cohort)


def _curve(outcome: Outcome) -> Curve:
    trained = outcome.trained
    steps, values = trained.history.curve(trained.method.validation)
    return Curve(steps / trained.history.steps, values, outcome.status)
