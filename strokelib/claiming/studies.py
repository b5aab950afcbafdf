"""One study a paper and cohort, at the declared size: train a row with a seed and give its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from strokelib.claiming.sizes import SIZE, SIZES, Changes
from strokelib.claiming.trainings import Row
from strokelib.claims import all_claims, records
from strokelib.data.cases import Case
from strokelib.methods import adn, papl, pseudo_dwi, ssl_nnunet
from strokelib.methods.method import Method
from strokelib.methods.training import Trained
from strokelib.papl.rows import RUNS
from strokelib.recipe import Recipe
from strokelib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

OWN_ADN = "ADN"
PREPARED = "claims"
S = TypeVar("S")


@dataclass(frozen=True)
class Scores:
    """The scores of some cases by one criterion.

    Args:
        part: ``val`` or ``test``.
        lesions: ``all`` or ``> 3 mL``.
        table: Columns method, case, metric, value, unit.
    """

    part: str
    lesions: str
    table: pd.DataFrame


class Scoring(Protocol):
    """A study of one paper and cohort."""

    def trained(self, row: Row, seed: int) -> tuple[tuple[Trained, ...], list[Scores]]:
        """The trainings of a row, and what its predictions score."""

    def references(self) -> list[Scores]:
        """Scores of the rows that need no network."""

    def patients(self) -> Mapping[str, str]:
        """Case -> patient, of all cases scored."""


@dataclass(frozen=True)
class SmallAdn(adn.Study):
    """The study of Ni et al. with recipe values by recipe class."""

    sizes: Changes = field(default_factory=dict)

    def recipe(self, method: Method, **changes: Any) -> Any:
        """The recipe of a method at the declared size."""
        return super().recipe(method, **{**self.sizes.get(method.recipe, {}), **changes})


@dataclass(frozen=True)
class SmallDwi(pseudo_dwi.Study):
    """The study of Wang et al. with recipe values by recipe class."""

    sizes: Changes = field(default_factory=dict)

    def recipe(self, method: Method, **changes: Any) -> Recipe:
        """The recipe of a method at the declared size."""
        return super().recipe(method, **{**self.sizes.get(method.recipe, {}), **changes})


def _small(kind: type[S], study: Any, sizes: Changes) -> S:
    return kind(**{name: getattr(study, name) for name in study.__dataclass_fields__}, sizes=sizes)


def _kept(new: S, old: object, *names: str) -> S:
    """A study for another seed with what was computed once for all seeds: heads do not move with the seed."""
    vars(new).update({name: getattr(old, name) for name in names})
    return new


def _patients(*parts: Sequence[Case]) -> dict[str, str]:
    return {case.id: case.patient for part in parts for case in part}


class OfPapl:
    """Sun et al. 2024: heads are aligned once, by the midline network of seed 0."""

    def __init__(self, settings: Settings, sizes: Changes, *, progress: bool = False) -> None:
        study = papl.load_study(settings, progress=progress)
        self.study, self.settings, self.sizes = replace(study, changes=sizes), settings, sizes

    @cached_property
    def _adn(self) -> OfAdn:
        return OfAdn(self.settings, SIZES["adn"])

    def _seeded(self, seed: int) -> papl.Study:
        again = replace(self.study, settings=replace(self.study.settings, seed=seed))
        return _kept(again, self.study, "aligned", "references")

    def trained(self, row: Row, seed: int) -> tuple[tuple[Trained, ...], list[Scores]]:
        """As :meth:`Scoring.trained`; ADN's row is that of its own study on the same heads."""
        if RUNS[int(row.table)][row.row].backbone == OWN_ADN:
            return self._adn.trained(replace(row, table="1", row=adn.PROPOSED), seed)
        found = self._seeded(seed).row(int(row.table), row.row)
        return (found.trained,), [Scores("test", records.ALL_LESIONS, found.scores)]

    def references(self) -> list[Scores]:
        """As :meth:`Scoring.references`."""
        return [Scores("test", records.ALL_LESIONS, self.study.references)]

    def patients(self) -> Mapping[str, str]:
        """As :meth:`Scoring.patients`."""
        return _patients(self.study.test)


class OfAdn:
    """Ni et al. 2022: T is trained once, with seed 0, and its maps serve every row and seed."""

    def __init__(self, settings: Settings, sizes: Changes, *, progress: bool = False) -> None:
        self.study = _small(SmallAdn, adn.load_study(settings, progress=progress), sizes)

    def trained(self, row: Row, seed: int) -> tuple[tuple[Trained, ...], list[Scores]]:
        """As :meth:`Scoring.trained`."""
        found = _kept(replace(self.study, seed=seed), self.study, "posed", "references").row(row.row)
        return (found.trained,), [Scores("test", records.ALL_LESIONS, found.scores)]

    def references(self) -> list[Scores]:
        """As :meth:`Scoring.references`."""
        return [Scores("test", records.ALL_LESIONS, self.study.references)]

    def patients(self) -> Mapping[str, str]:
        """As :meth:`Scoring.patients`."""
        return _patients(self.study.test)


class OfSsl:
    """Seia et al. 2023: the plan is made once; pre-training and fine-tuning both take the seed."""

    def __init__(self, settings: Settings, sizes: Changes, *, progress: bool = False) -> None:
        self.study = ssl_nnunet.load_study(settings, progress=progress, changes=sizes)
        self._again: dict[int, ssl_nnunet.Study] = {}

    def _seeded(self, seed: int, channels: int) -> ssl_nnunet.Study:
        self.study.setup(channels)
        if seed not in self._again:
            again = replace(self.study, seed=seed)
            self._again[seed] = _kept(again, self.study, "positive", "sets", "references")
        plans = {key: made for key, made in self.study._made.items() if key[0] == "setup"}
        self._again[seed]._made.update(plans)
        return self._again[seed]

    def trained(self, row: Row, seed: int) -> tuple[tuple[Trained, ...], list[Scores]]:
        """As :meth:`Scoring.trained`; Table B4 shows the networks with two channels."""
        channels = 2 if row.table == "B4" else 1
        found = self._seeded(seed, channels).outcome(row.row, channels, seeds=(seed,))
        tables = [Scores(part, records.ALL_LESIONS, one) for part, one in found.scores.items()]
        return found.trained, tables + [Scores(part, records.ABOVE, one) for part, one in found.above.items()]

    def references(self) -> list[Scores]:
        """As :meth:`Scoring.references`."""
        words = {"all": records.ALL_LESIONS, "above": records.ABOVE}
        return [Scores(part, words[which], one) for (part, which), one in self.study.references.items()]

    def patients(self) -> Mapping[str, str]:
        """As :meth:`Scoring.patients`."""
        return _patients(self.study.held_out("val"), self.study.held_out("test"))


class OfDwi:
    """Wang et al. 2020."""

    def __init__(self, settings: Settings, sizes: Changes, *, progress: bool = False) -> None:
        self.study = _small(SmallDwi, pseudo_dwi.load_study(settings, progress=progress), sizes)

    def trained(self, row: Row, seed: int) -> tuple[tuple[Trained, ...], list[Scores]]:
        """As :meth:`Scoring.trained`."""
        found = _dwi_row(replace(self.study, seed=seed), row.table, row.row)
        return found.trained, [Scores("test", records.ALL_LESIONS, found.scores)]

    def references(self) -> list[Scores]:
        """As :meth:`Scoring.references`."""
        return [Scores("test", records.ALL_LESIONS, self.study.references())]

    def patients(self) -> Mapping[str, str]:
        """As :meth:`Scoring.patients`."""
        return _patients(self.study.parts[2])


def _dwi_row(study: pseudo_dwi.Study, table: str, row: str) -> pseudo_dwi.Outcome:
    """A row of Tables 1 to 5, trained as :meth:`strokelib.methods.pseudo_dwi.Study.table1` and the others do it."""
    if table == "1":
        return study.generated(row, inputs=("maps",), loss=row)
    if table == "2":
        return study.generated(row, loss=pseudo_dwi.PROPOSED_LOSS, **pseudo_dwi.GENERATED_FROM[row])
    if table == "3":
        return study.segmented(row, network=row, loss="L_CE")
    if table == "4":
        return study.segmented(row, loss=row)
    if row in pseudo_dwi.CHAINS:
        return study.chained(row, **pseudo_dwi.CHAINS[row])
    if row == pseudo_dwi.SEQUENTIAL:
        return study.sequential()
    inputs = {"CTA (I*)": {"inputs": ("frames",)}, pseudo_dwi.REAL: {"inputs": ("dwi",)}, "F_o": {}}
    return study.segmented(row, **inputs[row])


STUDIES = {"papl": OfPapl, "adn": OfAdn, "ssl_nnunet": OfSsl, "pseudo_dwi": OfDwi}


def study_of(paper: str, settings: Settings, sizes: Changes | None = None, *, progress: bool = False) -> Scoring:
    """The heads of a paper and cohort, with all that is computed once for all rows and seeds.

    Args:
        paper: Its key.
        settings: Of the cohort.
        sizes: By default :data:`strokelib.claiming.sizes.SIZES` of the paper.
        progress: Show a progress bar where heads are rendered.
    """
    return STUDIES[paper](settings, SIZES[paper] if sizes is None else sizes, progress=progress)


def kept_scores(paper: str) -> set[str]:
    """The scores that the paper's claims compare, and Dice, which says whether a row learnt."""
    return {"dice"} | {claim.score for claim in all_claims() if claim.paper == paper}


def lines_of(row: Row, seed: int, found: Sequence[Scores], patients: Mapping[str, str]) -> pd.DataFrame:
    """The lines of one training, as the committed file has them.

    Args:
        row: What was trained.
        seed: Of the training.
        found: Its scores.
        patients: Case -> patient.
    """
    kept = kept_scores(row.paper)
    return _joined([_lines(row, seed, one, one.table[one.table["metric"].isin(kept)], patients) for one in found])


def reference_lines(paper: str, cohort: str, study: Scoring) -> pd.DataFrame:
    """Dice of the rows that need no network, and the volume of each reference.

    Args:
        paper: Its key.
        cohort: Its key.
        study: Of both.
    """
    parts, patients = [], study.patients()
    for one in study.references():
        for name, own in one.table.groupby("method", sort=False):
            row = Row(paper, cohort, records.REFERENCE, str(name))
            parts.append(_lines(row, records.NOT_TRAINED, one, own[own["metric"] == "dice"], patients))
        first = one.table[one.table["method"] == one.table["method"].iloc[0]]
        row = Row(paper, cohort, records.REFERENCE, records.TRUTH)
        volumes = first[first["metric"] == records.VOLUME]
        parts.append(_lines(row, records.NOT_TRAINED, one, volumes, patients))
    return _joined(parts)


def _lines(row: Row, seed: int, of: Scores, table: pd.DataFrame, patients: Mapping[str, str]) -> pd.DataFrame:
    fixed = {"paper": row.paper, "table": row.table, "row": row.row, "size": SIZE, "cohort": row.cohort}
    fixed |= {"part": of.part, "lesions": of.lesions, "seed": seed}
    own = {"patient": table["case"].map(patients), "score": table["metric"]}
    return table.assign(**fixed, **own)[list(records.SCORE_COLUMNS)]


def flag_line(row: Row, seed: int, trained: Sequence[Trained], part: str) -> pd.DataFrame:
    """The line of a training that says whether it, or one before it, still improved when it stopped.

    Args:
        row: What was trained.
        seed: Of the training.
        trained: In order.
        part: A part that was scored.
    """
    import pandas as pd

    still = float(any(one.undertrained for one in trained))
    values = (row.paper, row.table, row.row, SIZE, row.cohort, part, records.ALL_LESIONS, seed, "", "")
    return pd.DataFrame([(*values, records.UNDERTRAINED, still)], columns=list(records.SCORE_COLUMNS))


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(parts, ignore_index=True)
