"""P and Q against the truth: what only heads that were rendered with and without their infarct can tell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from strokelib import repro
from strokelib.adn.batches import matrices_of
from strokelib.adn.disentangling import (
    TrueAsymmetries,
    disentangling_scores,
    reference_scores,
    true_asymmetries,
    twin_images,
)
from strokelib.adn.recipe import AdnRecipe
from strokelib.adn.segmentation import disentangle_all
from strokelib.data.cases import Case
from strokelib.data.phantom import embedded
from strokelib.methods.adn import Outcome, Study
from strokelib.methods.rolls import roll_of
from strokelib.metrics import dice

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
COLUMNS = ("method", "case", "anatomy", "metric", "value")


def twins(cases: Sequence[Case], out: Path) -> dict[str, np.ndarray]:
    """Each head without its infarct in HU, rendered once and kept.

    Args:
        cases: Embedded cases.
        out: Folder in which the twins' own folder is made; a killed run goes on where it stopped.
    """
    key = hashlib.sha256(f"{roll_of(cases).fingerprint} {embedded.VERSION}".encode()).hexdigest()[:8]

    def run(folder: Path) -> None:
        for case in cases:
            path = folder / f"{case.id}.safetensors"
            if not path.is_file():
                with repro.atomic_path(path) as temporary:
                    save_file({"hu": np.ascontiguousarray(twin_images(case))}, temporary)

    folder = repro.once(Path(out) / f"twins-{key}", run)
    return {case.id: load_file(folder / f"{case.id}.safetensors")["hu"] for case in cases}


def truths(study: Study, recipe: AdnRecipe, *, aligned: bool = True) -> dict[str, TrueAsymmetries]:
    """P* and Q* of the heads of known truth, in T's frame or, without ``aligned``, as scanned."""
    healthy = twins(study.known, study.out)
    how = {"window_hu": recipe.window_hu, "pool": recipe.pool}
    found = {}
    for case in study.known_posed:
        matrix = matrices_of([case])[0] if aligned else torch.eye(4)
        found[case.id] = true_asymmetries(case, matrix, twin_hu=healthy[case.id], **how)
    return found


def disentangling_table(study: Study, outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """Scores of P for some trainings of ADN, and for P = A and P = 0.

    Args:
        study: Its heads of known truth are scored.
        outcomes: Row -> a training of ADN.

    Returns:
        Columns method, case, anatomy, metric, value; the metrics are those of
        :func:`strokelib.adn.disentangling.disentangling_scores`. Each row is scored in the frame it was trained in; the
        references in T's.
    """
    import pandas as pd

    first = next(iter(outcomes.values())).trained.recipe
    known = {True: truths(study, first)}
    if any(not out.trained.recipe.aligned for out in outcomes.values()):
        known[False] = truths(study, first, aligned=False)
    width = first.window_hu[1] - first.window_hu[0]
    found = {
        row: disentangle_all(outcome.trained.model, outcome.trained.recipe, study.known_posed)
        for row, outcome in outcomes.items()
    }
    rows = []
    for case in study.known_posed:
        ml, anatomy = case.image.voxel_ml * first.pool**2, case.facts.get("anatomy")
        how = {"window_width_hu": width, "voxel_ml": ml}
        scored = {}
        for row, outcome in outcomes.items():
            truth = known[outcome.trained.recipe.aligned][case.id]
            given = (truth.total, next(found[row]).pathological[0, 0], truth.pathological, truth.lesion, truth.brain)
            scored[row] = disentangling_scores(*given, **how)
        truth = known[True][case.id]
        scored |= reference_scores(truth.total, truth.pathological, truth.lesion, truth.brain, **how)
        rows += [(row, case.id, anatomy, name, v) for row, values in scored.items() for name, v in values.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def known_dice(study: Study, outcomes: Mapping[str, Outcome]) -> pd.DataFrame:
    """Dice of some trainings on the heads of known truth, as rows that :func:`disentangling_table` can stand beside."""
    import pandas as pd

    anatomy = {case.id: case.facts.get("anatomy") for case in study.known}
    rows = []
    for row, outcome in outcomes.items():
        method, recipe, model = outcome.trained.method, outcome.trained.recipe, outcome.trained.model
        for case in study.known_posed:
            found = outcome.probability.get(case.id)
            found = method.predict(model, recipe, case) if found is None else found
            rows.append((row, case.id, anatomy[case.id], "dice", dice(np.asarray(found) > 0.5, case.lesion)))
    return pd.DataFrame(rows, columns=COLUMNS)
