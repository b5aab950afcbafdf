"""The experiments of Sun et al. 2024: every training of Tables II to VIII once, scored in the scanner's frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from strokelib import repro
from strokelib.adn.volumes import with_slices
from strokelib.data.cases import Case
from strokelib.data.inplane import Aligned
from strokelib.data.scans import load_parts
from strokelib.methods import adn
from strokelib.methods.aligned_heads import grid_of, midlines
from strokelib.methods.method import Method
from strokelib.methods.reference_rows import REFERENCES
from strokelib.methods.rolls import roll_of
from strokelib.methods.scoring import penalised, read_scores, score, status, versus_references
from strokelib.methods.scoring import scores_of as scores_of
from strokelib.methods.scoring import weakest_of as weakest_of
from strokelib.methods.study import HeadStudy
from strokelib.methods.study import Outcome as Outcome
from strokelib.methods.training import Trained, predict, train_method
from strokelib.papl import knowledge_fitting, segmentation_fitting
from strokelib.papl.inputs import segment
from strokelib.papl.recipe import KnowledgeRecipe, SegmentationRecipe
from strokelib.papl.rows import ASYMMETRY, NO_TASK, RUNS, Run
from strokelib.papl.slices import align_with_truth
from strokelib.recipe import Recipe, stated
from strokelib.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
PAPER = "Sun et al. 2024"
_BASELINES = (
    "attention_unet",
    "cenet",
    "clci_net",
    "is_net",
    "isp_net",
    "san_net",
    "sean",
    "trans_unet",
    "unet_plus_plus",
    "x_net",
)
_SHARED = (
    *(f"strokelib.papl.{name}" for name in ("inputs", "losses", "model", "networks", "slices")),
    *(f"strokelib.nn.baselines.{name}" for name in _BASELINES),
    "strokelib.nn.unet",
)
KNOWLEDGE = Method(
    key="papl_knowledge",
    title="PAPL, stage 1",
    paper=PAPER,
    recipe=KnowledgeRecipe,
    build=knowledge_fitting.build,
    fit=knowledge_fitting.fit,
    predict=knowledge_fitting.sample_embeddings,
    modules=(*_SHARED, *(f"strokelib.papl.{name}" for name in ("contrastive", "knowledge_fitting", "sampling"))),
    validation=knowledge_fitting.NEIGHBOUR,
)
SEGMENTATION = Method(
    key="papl",
    title="network on slices",
    paper=PAPER,
    recipe=SegmentationRecipe,
    build=segmentation_fitting.build,
    fit=segmentation_fitting.fit,
    predict=segment,
    modules=(*_SHARED, "strokelib.papl.segmentation_fitting", "strokelib.papl.triplets"),
    validation=segmentation_fitting.DICE,
)
ADN = "ADN"
# Shown over the epochs: stage 1 with one loss and with both (Fig. 8), training without and with RPRS (Fig. 10).
KNOWLEDGE_SHOWN = (RUNS[4]["Inter"], RUNS[4]["Inter+Intra"])
SEGMENTATION_SHOWN = (RUNS[4]["Inter+Intra+FCM"], RUNS[4]["Inter+Intra+FCM+RPRS"])


@dataclass(frozen=True)
class StudyRecipe(Recipe):
    """How many heads, which epochs are shown, and how long a sweep's trainings are."""

    train_cases: int = stated(295, demo=96, smoke=6, source="345 scans in the paper, parts not stated")
    val_cases: int = stated(50, demo=16, smoke=3, source="345 scans in the paper, parts not stated")
    test_cases: int | None = stated(None, smoke=3, source=f"{PAPER}, Sec. IV.A: all of them")
    knowledge_shown: tuple[float, ...] = stated((0.0, 0.25, 0.9), source=f"{PAPER}, Fig. 8: epochs 0, 50, 180 of 200")
    segmentation_shown: tuple[float, ...] = stated((0.1, 0.25, 0.5, 1.0), source=f"{PAPER}, Fig. 10: some epochs")
    sweep_share: float = stated(1.0, demo=0.5, source="ours: sweeps (Tables VII, VIII and our own) are shorter")


@dataclass(frozen=True)
class Study(HeadStudy):
    """Training, validation and test heads of one cohort, and how to train on them.

    Args:
        settings: Of the run, for this cohort.
        parts: Prepared cases with brain masks, as they lie.
        out: Folder of trained models and scores.
        changes: Recipe values that differ from the profile's, by recipe class: of :class:`KnowledgeRecipe` or
            :class:`SegmentationRecipe`, in every training.
    """

    settings: Settings
    parts: tuple[Sequence[Case], Sequence[Case], Sequence[Case]]
    out: Path
    changes: Mapping[type[Recipe], Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def plan(self) -> StudyRecipe:
        """What the study takes from the profile."""
        return StudyRecipe.at(self.settings.profile)

    def recipe(self, method: Method, **changes: Any) -> Any:
        """The recipe of a method at the study's profile."""
        return method.recipe.at(self.settings.profile, **{**self.changes.get(method.recipe, {}), **changes})

    @cached_property
    def aligned(self) -> tuple[list[Aligned], ...]:
        """The three parts with the mid-sagittal line in the middle column, by the midline network of notebook 02."""
        lines = midlines(self.settings, self.parts, self.out)
        return tuple([align_with_truth(case, lines[case.id]) for case in part] for part in self.parts)

    def cases(self, aligned: bool) -> tuple[list[Case], ...]:
        """The three parts, as they lie or aligned."""
        return tuple([one.case for one in part] for part in self.aligned) if aligned else tuple(map(list, self.parts))

    def knowledge(self, run: Run, **changes: Any) -> Trained:
        """Stage 1 of a training.

        Args:
            run: With a task.
            changes: Recipe values that differ.
        """
        shown = {"snapshots": self.plan.knowledge_shown} if not changes and same_stage1(run) else {}
        weights = {"lambda1": run.lambdas[0], "lambda2": run.lambdas[1]} if run.task == ASYMMETRY else {}
        row = {"network": run.backbone, "aligned": run.aligned, "task": run.task, **weights, **shown}
        return self._train(KNOWLEDGE, self.recipe(KNOWLEDGE, **{**row, **changes}), self.cases(run.aligned))

    def train(self, run: Run, *, stage1: Mapping[str, Any] | None = None, **changes: Any) -> Trained:
        """Stages 2 and 3 of a training, its stage 1 before them if it has one.

        Args:
            run: Any but that of ADN.
            stage1: Recipe values of stage 1 that differ.
            changes: Recipe values of stages 2 and 3 that differ.
        """
        shown = {"snapshots": self.plan.segmentation_shown} if not changes and run in SEGMENTATION_SHOWN else {}
        betas = dict(zip(("beta1", "beta2", "beta3"), run.betas, strict=True))
        method, start = SEGMENTATION, {}
        if run.task != NO_TASK:
            knowledge = self.knowledge(run, **(stage1 or {}))
            method = replace(method, build=partial(method.build, start=knowledge.model.encoder_state()))
            start = {"start": knowledge.folder.name}
        row = {"network": run.backbone, "aligned": run.aligned, **betas, **shown, **start}
        return self._train(method, self.recipe(method, **{**row, **changes}), self.cases(run.aligned))

    def _train(self, method: Method, recipe: Recipe, parts: Sequence[Sequence[Case]]) -> Trained:
        return train_method(method, recipe, *parts[:2], seed=self.settings.seed, out=self.out)

    def outcome(self, row: str, run: Run, *, stage1: Mapping[str, Any] | None = None, **changes: Any) -> Outcome:
        """Train what a row says and score it on the test scans in their own frame.

        Args:
            row: Its name.
            run: Its training.
            stage1: As in :meth:`train`.
            changes: As in :meth:`train`.
        """
        import pandas as pd

        trained = self.adn.trained if run.backbone == ADN else self.train(run, stage1=stage1, **changes)
        scores = self._scores(trained).assign(method=row)
        _, margin = versus_references(pd.concat([scores, self.references]), row, REFERENCES, seed=self.settings.seed)
        return Outcome(row, trained, scores, status(trained, margin))

    def row(self, number: int, row: str) -> Outcome:
        """A row of Tables II to VIII; those of the sweeps, VII and VIII, have the shorter schedule."""
        run = RUNS[number][row]
        return self.swept(row, run) if number in (7, 8) else self.outcome(row, run)

    def swept(self, row: str, run: Run, *, stage1: Mapping[str, Any] | None = None, **changes: Any) -> Outcome:
        """As :meth:`outcome`, with fewer steps of stages 2 and 3, as far as the profile says so."""
        share = self.plan.sweep_share
        fewer = {} if share == 1 else {"steps": max(1, round(share * self.recipe(SEGMENTATION).steps))}
        return self.outcome(row, run, stage1=stage1, **{**fewer, **changes})

    @cached_property
    def adn(self) -> adn.Outcome:
        """ADN of Ni et al. 2022 on this cohort: whole heads, its own alignment, its own recipe."""
        study = adn.load_study(self.settings)
        tallest = max(len(case.image.array) for part in (*study.parts, self.test) for case in part)
        parts = (*study.parts[:2], [with_slices(case, tallest) for case in self.test])
        return replace(study, parts=parts).row(adn.PROPOSED)

    def probability(self, outcome: Outcome) -> dict[str, np.ndarray]:
        """Test case -> foreground probability (D, H, W) in the scanner's frame."""
        return self._probability(outcome.trained)

    def _probability(self, trained: Trained) -> dict[str, np.ndarray]:
        if trained.method.key == adn.ADN.key:
            return {case.id: _without_added(self.adn.probability[case.id], case) for case in self.test}
        if not trained.recipe.aligned:
            return predict(trained, self.test)
        found = predict(trained, self.cases(True)[2])
        return {one.case.id: one.restore(found[one.case.id]) for one in self.aligned[2]}

    def _scores(self, trained: Trained) -> pd.DataFrame:
        """Scores of a training, computed once; read back even then, so that every row shows the same digits."""

        def run(folder: Path) -> None:
            found = score(trained.method.key, self._probability(trained), self.test)
            text = penalised(found, self.test, "assd_mm").to_csv(index=False, lineterminator="\n")
            repro.write_text(folder / "metrics.csv", text)

        return read_scores(repro.once(trained.folder / f"papl-{roll_of(self.test).fingerprint}", run) / "metrics.csv")


def _without_added(volume: np.ndarray, case: Case) -> np.ndarray:
    """A volume without the slices that :func:`strokelib.adn.volumes.with_slices` put above and below a case."""
    first = (len(volume) - len(case.image.array)) // 2
    return volume[first : first + len(case.image.array)]


def same_stage1(run: Run) -> bool:
    """Whether a training's stage 1 is one of those that are shown over the epochs."""
    key = run.backbone, run.aligned, run.task, run.lambdas
    return key in [(shown.backbone, shown.aligned, shown.task, shown.lambdas) for shown in KNOWLEDGE_SHOWN]


def load_study(settings: Settings, *, progress: bool = False, **changes: Mapping[str, Any]) -> Study:
    """The heads of a run.

    Args:
        settings: Of the run; paper takes slices of 256 x 256, other profiles pixels of 2 mm.
        progress: Show a progress bar where heads are rendered or prepared.
        changes: As in :class:`Study`: ``knowledge`` and ``segmentation``.
    """
    plan = StudyRecipe.at(settings.profile)
    limits = {"train": plan.train_cases, "val": plan.val_cases, "test": plan.test_cases}
    parts = tuple(list(part) for part in load_parts(settings, grid=grid_of(settings), progress=progress, **limits))
    recipes = {"knowledge": KnowledgeRecipe, "segmentation": SegmentationRecipe}
    return Study(settings, parts, settings.runs / "models", {recipes[name]: of for name, of in changes.items()})
