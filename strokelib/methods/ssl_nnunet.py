"""The experiments of Seia et al. 2023: nine pre-trainings, the rows of its tables, and their majority votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from strokelib.data.cases import Case
from strokelib.data.phantom.cohorts import COUNTS, SPLITS
from strokelib.data.scans import load_parts, names_beside
from strokelib.errors import DataError
from strokelib.infer import majority
from strokelib.methods.method import Method
from strokelib.methods.reference_rows import REFERENCES, reference_metrics
from strokelib.methods.scoring import score, status, versus_references
from strokelib.methods.scoring import scores_of as scores_of
from strokelib.methods.scoring import weakest as weakest
from strokelib.methods.scoring import weakest_of as weakest_of
from strokelib.methods.ssl_sets import HEALTHY, SETS, Cases, Joined, chosen_set, pretraining_sets, stroke_scans
from strokelib.methods.training import Trained, predict, train_method
from strokelib.metrics import truth_above
from strokelib.recipe import Recipe, stated
from strokelib.settings import Profile, Settings
from strokelib.ssl_nnunet import finetuning, pretraining
from strokelib.ssl_nnunet.recipe import Changes, FinetuningRecipe, PlanRecipe, PretrainingRecipe, changes_of
from strokelib.ssl_nnunet.setup import Setup, setup_of
from strokelib.ssl_nnunet.volumes import with_contralateral

if TYPE_CHECKING:
    import pandas as pd

PAPER = "Seia et al. 2023"
TARGET = "icoais"
BESIDE = ("aisd", "apis", "center_tbi")
_SHARED = (
    *(f"strokelib.data.{name}" for name in ("augment3d", "contralateral", "moves", "patches", "volumes")),
    *(f"strokelib.ssl_nnunet.{n}" for n in ("fingerprint", "heads", "network", "planning", "setup", "volumes")),
)
_PRETRAINING = ("collapse", "losses", "model", "pretraining", "representations", "schedules", "views")
_FINETUNING = ("finetuning", "schedules", "supervision")
PRETRAINING = Method(
    key="ssl_pretraining",
    title="deep self-distillation",
    paper=PAPER,
    recipe=PretrainingRecipe,
    build=pretraining.build,
    fit=pretraining.fit,
    predict=pretraining.representation,
    modules=(*_SHARED, *(f"strokelib.ssl_nnunet.{name}" for name in _PRETRAINING)),
    validation=pretraining.RANK,
)
FINETUNING = Method(
    key="ssl_finetuning",
    title="nnU-Net",
    paper=PAPER,
    recipe=FinetuningRecipe,
    build=finetuning.build,
    fit=finetuning.fit,
    predict=finetuning.segment,
    modules=(*_SHARED, *(f"strokelib.ssl_nnunet.{name}" for name in _FINETUNING)),
    validation=finetuning.AVERAGED,
)

WITH_SYMMETRY = "-SA"
SYMMETRY = 0.7
BASELINE, ALL_LABELS, PROPOSED = "FS-STKi", "FS-STKp", "ALL-STKi-SA"
# Rows by their printed names -> labels of the supervised training, and the pre-training that it starts from.
TABLE1: dict[str, tuple[str, str]] = {
    BASELINE: ("STKi", ""),
    ALL_LABELS: ("STKp", ""),
    **{f"{s}-STKi{sa}": ("STKi", s + sa) for s in SETS for sa in ("", WITH_SYMMETRY)},
}
TABLE_B4 = {name: made for name, made in TABLE1.items() if not name.endswith(WITH_SYMMETRY)}
FROZEN: dict[str, float] = {"0 %": 0.0, "33 %": 0.33, "66 %": 0.66, "100 %": 1.0}


@dataclass(frozen=True)
class StudyRecipe(Recipe):
    """How often a row is trained, and how much longer with all labels."""

    seeds: int = stated(3, smoke=1, source=f"{PAPER}, Sec. 3.5: three runs and a majority vote")
    seeds_of_two: int = stated(3, demo=1, source=f"{PAPER}, App. B: as Sec. 3.5; the rows with two channels")
    longer: float = stated(3.0, demo=1.5, source=f"{PAPER}, Sec. 3.7.1: FS-STKp runs for 300 epochs, not 100")
    limit_ml: float = stated(3.0, source=f"{PAPER}, Sec. 3.6: lesions of the second criterion are larger")


@dataclass(frozen=True)
class Outcome:
    """One row of a table.

    Args:
        row: Its printed name.
        trained: A training for each seed.
        scores: Part (``val`` or ``test``) -> scores of the majority vote's masks against all lesions.
        above: The same against lesions above 3 mL; cases without any are left out.
        status: What the row lacks most to ``done``.
        masks: Case -> (D, H, W) bool, of validation and test scans.
    """

    row: str
    trained: tuple[Trained, ...]
    scores: dict[str, pd.DataFrame]
    above: dict[str, pd.DataFrame]
    status: str
    masks: dict[str, np.ndarray]


@dataclass(frozen=True)
class Study:
    """Scans of several data sets, and how to train on them.

    Args:
        parts: Data set -> its splits by name; the first data set is the one that is segmented.
        profile: Which recipes.
        seed: Of the pre-trainings, and the first one of the fine-tunings.
        out: Folder of trained models and scores.
        changes: Recipe values that differ from the profile's, by recipe class: of :class:`PlanRecipe` in every
            training, of :class:`PretrainingRecipe` or :class:`FinetuningRecipe` in that one alone.
    """

    parts: Mapping[str, Mapping[str, Cases]]
    profile: Profile
    seed: int
    out: Path
    changes: Changes = field(default_factory=dict)

    @cached_property
    def plan(self) -> StudyRecipe:
        """What the study takes from the profile."""
        return StudyRecipe.at(self.profile)

    @property
    def target(self) -> str:
        """The data set whose scans are segmented."""
        return next(iter(self.parts))

    def seeds_of(self, channels: int = 1) -> range:
        """Of the fine-tunings of a row."""
        return range(self.seed, self.seed + (self.plan.seeds if channels == 1 else self.plan.seeds_of_two))

    @cached_property
    def positive(self) -> dict[tuple[str, str], Cases]:
        """Data set and split -> its scans with a lesion (S12, S13); none of a data set of healthy heads."""
        return stroke_scans(self.parts)

    def held_out(self, split: str) -> Cases:
        """Validation or test scans of the target that have a lesion.

        Raises:
            DataError: There is none.
        """
        found = self.positive.get((self.target, split), ())
        if not len(found):
            wanted, step = "at least one with a lesion", "give more scans, or another splits.csv"
            raise DataError(f"{self.target}, split {split}", found="none", wanted=wanted, next_step=step)
        return found

    @cached_property
    def sets(self) -> dict[str, tuple[Cases, Cases]]:
        """Training and validation scans of each pre-training set; a set without training scans is left out.

        ALL is every scan but those of APIS without infarct (S12), STKp those with a lesion, STKn those of healthy
        data sets. Where a user's scans are the only ones, ALL is all of them, STKn those without a lesion.
        """
        return pretraining_sets(self.parts, self.positive, leak=self.recipe(PRETRAINING).leak)

    def recipe(self, method: Method, **changes: Any) -> PlanRecipe:
        """The recipe of a method at the study's profile."""
        return method.recipe.at(self.profile, **{**changes_of(method.recipe, self.changes), **changes})

    def mirrored(self, cases: Cases) -> Cases:
        """The cases with their contralateral images, made once."""
        return with_contralateral(cases, self.recipe(PRETRAINING).contralateral, out=self.out)

    @cached_property
    def _made(self) -> dict[tuple, Any]:
        return {}

    def setup(self, channels: int = 1) -> Setup:
        """Plan and normalisation, from the training scans of ALL."""
        if (key := ("setup", channels)) not in self._made:
            scans = chosen_set(self.sets, "ALL")[0]
            seen = self.mirrored(scans) if channels > 1 else scans
            self._made[key] = setup_of(seen, self.recipe(PRETRAINING, channels=channels), seed=self.seed)
        return self._made[key]

    def pretrained(self, name: str, channels: int = 1) -> Trained:
        """A pre-training, such as ``ALL`` or ``STKp-SA``; asked for again, the same object."""
        if (name, channels) not in self._made:
            self._made[name, channels] = self._pretrain(name, channels)
        return self._made[name, channels]

    def _pretrain(self, name: str, channels: int) -> Trained:
        scans, symmetric = name.removesuffix(WITH_SYMMETRY), name.endswith(WITH_SYMMETRY)
        setup, parts = self.setup(channels), chosen_set(self.sets, scans)
        if symmetric or channels > 1:
            parts = tuple(self.mirrored(part) for part in parts)
        changes = {"scans": scans, "symmetry": SYMMETRY if symmetric else 0.0, "channels": channels}
        recipe = self.recipe(PRETRAINING, **changes, setup=setup.key)
        how = {"seed": self.seed, "out": self.out, "leak": recipe.leak}
        return train_method(PRETRAINING.given(setup=setup), recipe, *parts, **how)

    def finetuned(self, row: str, seed: int, channels: int = 1, frozen: float = 0.0) -> Trained:
        """One of the supervised trainings of a row of :data:`TABLE1`."""
        labels, start = TABLE1[row]
        setup = self.setup(channels)
        shared = {"channels": channels, "labels": labels, "frozen_share": frozen, "setup": setup.key}
        first, encoder = "", None
        if start:
            before = self.pretrained(start, channels)
            first, encoder = before.folder.name, before.model.teacher_encoder()
        recipe = self.recipe(FINETUNING, **shared, pretrained=first)
        if labels == "STKp":
            recipe = replace(recipe, steps=round(recipe.steps * self.plan.longer))
        sets = [name for name in self.parts if name not in HEALTHY] if labels == "STKp" else [self.target]
        cases = Joined(tuple(self.positive[name, "train"] for name in sets))
        parts = (cases, self.held_out("val"))
        if channels > 1:
            parts = tuple(self.mirrored(part) for part in parts)
        method = FINETUNING.given(setup=setup)
        method = replace(method, build=partial(method.build, start=encoder))
        return train_method(method, recipe, *parts, seed=seed, out=self.out)

    @property
    def rows(self) -> list[str]:
        """The rows of :data:`TABLE1` that these scans allow."""
        return [
            row for row, (_, start) in TABLE1.items() if not start or start.removesuffix(WITH_SYMMETRY) in self.sets
        ]

    @cached_property
    def references(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Part and ``all`` or ``above`` -> scores of the rows that need no network."""
        parts = (self.positive[self.target, "train"], self.held_out("val"))
        return {
            (split, which): reference_metrics(*parts, cases, out=self.out)
            for split in ("val", "test")
            for which, cases in (("all", list(self.held_out(split))), ("above", self.above(split)))
            if len(cases)
        }

    def above(self, split: str) -> list[Case]:
        """The held-out scans with lesions of the second criterion alone."""
        return [case for case in map(self._above, self.held_out(split)) if case.lesion.any()]

    def _above(self, case: Case) -> Case:
        return replace(case, lesion=truth_above(case.lesion, case.image.voxel_ml, self.plan.limit_ml))

    def outcome(self, row: str, channels: int = 1, frozen: float = 0.0, seeds: Sequence[int] = ()) -> Outcome:
        """Train a row with each seed, let the masks vote, and score them.

        Args:
            row: Of :data:`TABLE1`.
            channels: 2 with the difference image.
            frozen: Share of the training during which the encoder rests.
            seeds: Those of :meth:`seeds_of` by default.
        """
        import pandas as pd

        trained = tuple(self.finetuned(row, seed, channels, frozen) for seed in seeds or self.seeds_of(channels))
        masks, scores, above = {}, {}, {}
        for split in ("val", "test"):
            cases = list(self.held_out(split))
            seen = self.mirrored(cases) if channels > 1 else cases
            found = [predict(one, seen) for one in trained]
            masks |= {case.id: majority([maps[case.id] > 0.5 for maps in found]) for case in cases}
            scores[split] = score(row, masks, cases)
            above[split] = score(row, masks, self.above(split))
        compared = pd.concat([scores["val"], self.references["val", "all"]])
        _, margin = versus_references(compared, row, REFERENCES, seed=self.seed)
        said = weakest(status(one, margin) for one in trained)
        return Outcome(row, trained, scores, above, "done" if said == "1 seed" and len(trained) > 2 else said, masks)


def load_study(settings: Settings, *, progress: bool = False, changes: Changes | None = None) -> Study:
    """The heads of a run: icoAIS and the three other data sets, or the user's own scans alone.

    Args:
        settings: Of the run; the paper profile takes scans of 0.45 mm pixels, others pixels of 2 mm.
        progress: Show a progress bar where heads are rendered or prepared.
        changes: As in :class:`Study`.
    """
    grid = "published" if settings.profile is Profile.PAPER else "prepared"
    parts: dict[str, dict[str, Cases]] = {}
    for name in names_beside(settings, *BESIDE):
        counts = COUNTS.get(name, {}).get(settings.profile, (1, 1, 1))
        wanted = {split: None for split, count in zip(SPLITS, counts, strict=True) if count}
        found = load_parts(replace(settings, cohort=name), grid=grid, progress=progress, **wanted)
        parts[name] = dict(zip(wanted, found, strict=True))
    return Study(parts, settings.profile, settings.seed, settings.runs / "models", changes or {})
