"""The experiments of Ni et al. 2022: T, the rows of Table 1 and their ablations, trained once and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from strokelib.adn import alignment, sean_fitting, segmentation
from strokelib.adn.batches import with_matrices, with_tissue
from strokelib.adn.poses import classical_matrices, identity_matrices
from strokelib.adn.recipe import AdnRecipe, AlignmentRecipe, HeadRecipe, SeanRecipe, VolumeRecipe
from strokelib.adn.volumes import with_slices
from strokelib.data.cases import Case
from strokelib.data.scans import load_parts
from strokelib.methods.adn_tissue import tissue_labels
from strokelib.methods.method import Method
from strokelib.methods.reference_rows import REFERENCES
from strokelib.methods.scoring import penalised, score, status, versus_references
from strokelib.methods.scoring import scores_of as scores_of
from strokelib.methods.scoring import weakest as weakest
from strokelib.methods.scoring import weakest_of as weakest_of
from strokelib.methods.study import HeadStudy
from strokelib.methods.study import Outcome as RowOutcome
from strokelib.methods.training import Trained, predict, train_method
from strokelib.recipe import Recipe, stated
from strokelib.settings import Profile, Settings

PAPER = "Ni et al. 2022"
_SHARED = tuple(
    f"strokelib.adn.{name}" for name in ("batches", "fitting", "inference", "losses", "transformation", "volumes")
)
_NETWORKS = tuple(f"strokelib.nn.baselines.{name}" for name in ("deepmedic", "resunet3d", "unet3d"))
ALIGNMENT = Method(
    key="adn_alignment",
    title="T",
    paper=PAPER,
    recipe=AlignmentRecipe,
    build=alignment.build,
    fit=alignment.fit,
    predict=alignment.find_matrix,
    modules=(*_SHARED, "strokelib.adn.alignment"),
    validation=alignment.SYMMETRY,
)
VOLUME = Method(
    key="adn_volume",
    title="network on whole heads",
    paper=PAPER,
    recipe=VolumeRecipe,
    build=segmentation.build,
    fit=segmentation.fit,
    predict=segmentation.segment,
    predict_all=segmentation.segment_all,
    modules=(*_SHARED, *_NETWORKS, "strokelib.adn.segmentation"),
)
ADN = Method(
    key="adn",
    title="ADN",
    paper=PAPER,
    recipe=AdnRecipe,
    build=segmentation.build_adn,
    fit=segmentation.fit,
    predict=segmentation.segment,
    predict_all=segmentation.segment_all,
    modules=(
        *_SHARED,
        "strokelib.nn.baselines.resunet3d",
        *(f"strokelib.adn.{name}" for name in ("model", "regulariser", "segmentation", "tissue_mismatch")),
    ),
)
SEAN = Method(
    key="adn_sean",
    title="SEAN",
    paper="Liang et al. 2021, as compared in Ni et al. 2022",
    recipe=SeanRecipe,
    build=sean_fitting.build,
    fit=sean_fitting.fit,
    predict=sean_fitting.segment,
    modules=(
        *(f"strokelib.adn.{name}" for name in ("fitting", "losses", "sean_fitting")),
        *(f"strokelib.nn.{name}" for name in ("unet", "baselines.sean", "baselines.sean_alignment")),
    ),
)

PROPOSED, WITHOUT_TISSUE = "ADN (Ours)", "ADN w/o L_tissue"
# Rows of Table 1 by their names there: the method, and what the row changes of its recipe.
TABLE1: dict[str, tuple[Method, dict[str, Any]]] = {
    "DeepMedic": (VOLUME, {"network": "DeepMedic", "aligned": False}),
    "3D U-Net": (VOLUME, {"network": "3D U-Net", "aligned": False}),
    "3D ResUNet (raw)": (VOLUME, {"aligned": False}),
    "Clèrigues et al.": (VOLUME, {"network": "Clèrigues et al."}),
    "SEAN": (SEAN, {}),
    "3D ResUNet (aligned)": (VOLUME, {}),
    WITHOUT_TISSUE: (ADN, {"tissue": False}),
    PROPOSED: (ADN, {}),
}
WITHOUT_T = "ADN w/o L_tissue and T"
# Beyond the paper: one thing changed at a time, of ADN or, in the first one, of ADN without its tissue term.
VARIANTS: dict[str, tuple[Method, dict[str, Any]]] = {
    WITHOUT_T: (ADN, {"tissue": False, "aligned": False}),
    "printed losses": (ADN, {"form": "printed", "intrinsic": "printed"}),
    "true tissue maps": (ADN, {}),
}
SOURCES = {"true tissue maps": "truth"}


@dataclass(frozen=True)
class StudyRecipe(Recipe):
    """How many heads, and where their tissue maps come from."""

    train_cases: int = stated(345, demo=48, smoke=4, source=f"{PAPER}, Sec. 3, less the held-out ones (A20)")
    val_cases: int = stated(50, demo=10, smoke=2, source="none in the paper (A20)")
    test_cases: int = stated(52, smoke=3, source=f"{PAPER}, Sec. 3")
    tissue_maps: str = stated("atlas", source="SPM12 with a CT atlas; ours registers the same atlas")


@dataclass(frozen=True)
class Outcome(RowOutcome):
    """One row of a table, with what the network found.

    Args:
        probability: Test case -> (D, H, W) float16.
    """

    probability: dict[str, np.ndarray]


@dataclass(frozen=True)
class Study(HeadStudy):
    """Training, validation and test heads, and how to train on them.

    Args:
        parts: Prepared cases with brain masks.
        known: Embedded test heads, whose truth is known; the test cases themselves where these are embedded.
        profile: Which recipes.
        seed: Of all trainings and resamples.
        out: Folder of trained models and scores.
        changes: Recipe values that differ from the profile's, in every training.
        tissue_folder: Holds a folder for each training case, by its name, with the user's own tissue maps (SPM12's c1,
            c2 and c3); these then stand in place of ours.
    """

    parts: tuple[Sequence[Case], Sequence[Case], Sequence[Case]]
    known: Sequence[Case]
    profile: Profile
    seed: int
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    tissue_folder: Path | None = None

    @cached_property
    def plan(self) -> StudyRecipe:
        """What the study takes from the profile."""
        return StudyRecipe.at(self.profile)

    def recipe(self, method: Method, **changes: Any) -> HeadRecipe:
        """The recipe of a method at the study's profile."""
        return method.recipe.at(self.profile, **{**self.changes, **changes})

    def train(self, method: Method, parts: Sequence[Sequence[Case]], **changes: Any) -> Trained:
        """Train a method on training and validation cases."""
        return train_method(method, self.recipe(method, **changes), *parts[:2], seed=self.seed, out=self.out)

    def transformer(self, **changes: Any) -> Trained:
        """T, trained on heads as they lie."""
        return self.train(ALIGNMENT, self.parts, **changes)

    def poses(self, trained: Trained, cases: Sequence[Case]) -> dict[str, np.ndarray]:
        """T's map of each case, (4, 4), output -> input in voxels of the grid that the other networks see."""
        pool = self.recipe(VOLUME).pool
        return {case.id: alignment.find_matrix(trained.model, trained.recipe, case, pool) for case in cases}

    @cached_property
    def posed(self) -> tuple[list[Case], ...]:
        """The three parts with T's maps as a channel."""
        transformer = self.transformer()
        return tuple(with_matrices(part, self.poses(transformer, part)) for part in self.parts)

    @cached_property
    def known_posed(self) -> list[Case]:
        """The heads of known truth with T's maps."""
        return with_matrices(self.known, self.poses(self.transformer(), self.known))

    def alignments(self) -> dict[str, dict[str, np.ndarray]]:
        """Ways to align the heads of known truth: none, the classical search for symmetry, T."""
        pool = self.recipe(VOLUME).pool
        found = {"no alignment": identity_matrices(self.known), "classical": classical_matrices(self.known, pool)}
        return found | {"T": self.poses(self.transformer(), self.known)}

    def with_tissue(self, source: str = "") -> tuple[list[Case], ...]:
        """The parts with T's maps, and tissue labels in the training cases; at test time none is needed."""
        train, val, test = self.posed
        usual = self.plan.tissue_maps if self.tissue_folder is None else "user"
        labels = tissue_labels(self.parts[0], source or usual, out=self.out, folder_of=self.tissue_folder)
        return with_tissue(train, labels), val, test

    def outcome(self, row: str, method: Method, changes: Mapping[str, Any], source: str = "") -> Outcome:
        """Train what a row says and score it on the test scans in their own frame."""
        import pandas as pd

        recipe = self.recipe(method, **changes)
        tissue = isinstance(recipe, AdnRecipe) and recipe.tissue
        moved = recipe.aligned and method is not SEAN
        parts = self.with_tissue(source) if tissue else self.posed if moved else self.parts
        if isinstance(recipe, AdnRecipe) and recipe.prior_steps:
            plain = (self.posed if moved else self.parts)[:2]
            start = self.train(VOLUME, plain, aligned=recipe.aligned, steps=recipe.prior_steps)
            method = replace(method, build=partial(segmentation.build_adn, start=start.model))
        trained = self.train(method, parts, **changes)
        probability = predict(trained, parts[2])
        scores = penalised(score(row, probability, self.test, out=trained.folder), self.test)
        _, margin = versus_references(pd.concat([scores, self.references]), row, REFERENCES, seed=self.seed)
        return Outcome(row, trained, scores, status(trained, margin), probability)

    @property
    def variants(self) -> list[str]:
        """The rows of :data:`VARIANTS` that these heads allow: the true tissues of a real head are not known."""
        rendered = all(case.embedded for case in self.parts[0])
        return [name for name in VARIANTS if rendered or SOURCES.get(name) != "truth"]

    def row(self, name: str) -> Outcome:
        """A row of Table 1 or of :data:`VARIANTS`."""
        return self.outcome(name, *(TABLE1 | VARIANTS)[name], SOURCES.get(name, ""))


def load_study(
    settings: Settings, *, progress: bool = False, tissue_folder: Path | None = None, **changes: Any
) -> Study:
    """The heads of a run.

    Args:
        settings: Of the run; paper takes volumes of 40 x 256 x 256, other profiles pixels of 2 mm.
        progress: Show a progress bar where heads are rendered or prepared.
        tissue_folder: As in :class:`Study`.
        changes: Recipe values that differ from the profile's, in every training.
    """
    plan = StudyRecipe.at(settings.profile)
    grid = "published" if settings.profile is Profile.PAPER else "prepared"
    limits = {"train": plan.train_cases, "val": plan.val_cases, "test": plan.test_cases}
    parts = tuple(list(part) for part in load_parts(settings, grid=grid, progress=progress, **limits))
    known = parts[2]
    tallest = max(len(case.image.array) for part in parts for case in part)
    parts = tuple([with_slices(case, tallest) for case in part] for part in parts)
    if settings.data is not None:
        (known,) = load_parts(replace(settings, data=None), grid=grid, progress=progress, test=plan.test_cases)
    where = (settings.profile, settings.seed, settings.runs / "models")
    return Study(parts, list(known), *where, changes, tissue_folder)


def folders_of(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """Row -> name of its training's folder: what a figure was made from."""
    return {row: outcome.trained.folder.name for row, outcome in outcomes.items()}
