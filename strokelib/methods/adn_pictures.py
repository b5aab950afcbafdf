"""Which heads the figures of Ni et al. 2022 show, by rule, and what a trained ADN makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from strokelib.adn.batches import ALIGNMENT, head_volumes, matrices_of, with_matrices, with_tissue
from strokelib.adn.block_diagrams import PipelineExample
from strokelib.adn.disentangling import true_asymmetries
from strokelib.adn.examples import AlignedExample, ContourExample
from strokelib.adn.model import Disentangled
from strokelib.adn.recipe import AdnRecipe
from strokelib.adn.segmentation import disentangle
from strokelib.adn.tissue_mismatch import tissue_mismatch, without_lesion
from strokelib.adn.transformation import align, restore
from strokelib.adn.volumes import Heads, heads_of
from strokelib.data import shipped
from strokelib.data.cases import Case, shown_slice
from strokelib.data.realcase import Choices, prepare_case
from strokelib.data.sources import RawCase
from strokelib.errors import DataError
from strokelib.methods.adn import SOURCES, Outcome, Study
from strokelib.methods.adn_tissue import tissue_labels
from strokelib.methods.adn_truth import known_dice, twins
from strokelib.methods.typical import median_cases
from strokelib.settings import Profile

# Lesions above, between and below these volumes; each group shows one head.
LARGE_ML, SMALL_ML = 70.0, 10.0
REAL_HEAD = "real head CT"


def typical_cases(study: Study, outcome: Outcome, count: int = 3) -> list[Case]:
    """The test scans with the median Dice among lesions above 70 mL, of 10 to 70 mL, and below 10 mL.

    See :func:`strokelib.methods.typical.median_cases`. A group without a scan shows none.

    Args:
        study: Its test scans, with T's maps.
        outcome: By its Dice, e.g. of the proposed row.
        count: How many groups to show, from large to small.

    Raises:
        DataError: No test scan has a lesion.
    """
    wide = outcome.scores.pivot(index="case", columns="metric", values="value")
    return _typical(study.posed[2], dict(wide["truth_volume_ml"]), dict(wide["dice"]), count)


def typical_known(study: Study, outcome: Outcome, count: int = 3) -> list[Case]:
    """As :func:`typical_cases`, of the heads of known truth; the same ones where the test scans are embedded.

    Args:
        study: Its heads of known truth, with T's maps.
        outcome: By its Dice.
        count: How many groups to show, from large to small.

    Raises:
        DataError: No head has a lesion.
    """
    scores = known_dice(study, {outcome.row: outcome}).set_index("case")["value"]
    return _typical(study.known_posed, {case.id: case.lesion_ml for case in study.known}, dict(scores), count)


def _typical(
    cases: Sequence[Case], volume_ml: Mapping[str, float], dice: Mapping[str, float], count: int
) -> list[Case]:
    shown = median_cases(volume_ml, dice, (LARGE_ML, SMALL_ML), count)
    by_name = {case.id: case for case in cases}
    return [by_name[name] for name in shown]


class _Seen(NamedTuple):
    """A head in the network's frame and in its own, and what ADN makes of it.

    Args:
        heads: One, as scanned.
        matrix: (1, 4, 4); the identity for a network that sees heads as scanned.
        layers: (1, 3, D, h, w): image, lesion and brain in the network's frame.
        found: By ADN.
    """

    heads: Heads
    matrix: Tensor
    layers: Tensor
    found: Disentangled

    def example(self, name: str, index: int, truth: np.ndarray | None = None) -> AlignedExample:
        image, lesion, brain = self.layers.split(1, dim=1)
        return AlignedExample.of(image, self.found, lesion, brain, self.heads.spacing, name, truth, index)


def _seen(study: Study, outcome: Outcome, case: Case, *, unlabelled: bool = False) -> _Seen:
    model, recipe = outcome.trained.model, outcome.trained.recipe
    if recipe.aligned and ALIGNMENT not in case.channels:
        (case,) = with_matrices([case], study.poses(study.transformer(), [case]))
    heads = heads_of([case], window_hu=recipe.window_hu, pool=recipe.pool, unlabelled=unlabelled)
    matrix = matrices_of([case]) if recipe.aligned else torch.eye(4)[None]
    layers = align(torch.cat([heads.images, heads.lesions, heads.brains.float()], dim=1), matrix)
    return _Seen(heads, matrix, layers, disentangle(model, recipe, case))


def _size(case: Case) -> str:
    return f"{case.lesion_ml:.{0 if case.lesion_ml >= SMALL_ML else 1}f} mL"


def aligned_example(study: Study, outcome: Outcome, case: Case, truth: np.ndarray | None = None) -> AlignedExample:
    """What a training of ADN makes of the slice with most lesion.

    T moves nothing along z, so that it is the same slice as in :func:`contour_example`, also where a small infarct is
    lost on the network's coarser grid.

    Args:
        study: Its T poses a case that has no map yet.
        outcome: A training of ADN.
        case: With a reference.
        truth: P*, (D, h, w) in the frame and on the grid of the network.

    Raises:
        DataError: The case has no reference, or none of it is lesion.
    """
    return _seen(study, outcome, case).example(_size(case), shown_slice(case), truth)


def true_example(study: Study, outcome: Outcome, case: Case) -> AlignedExample:
    """As :func:`aligned_example`, with P*.

    Args:
        study: Holds the heads of known truth.
        outcome: A training of ADN.
        case: One of ``study.known_posed``.

    Raises:
        DataError: As :func:`aligned_example`, or the case is none of those.
    """
    healthy = twins(study.known, study.out)
    if case.id not in healthy:
        wanted, step = "one of study.known_posed", "choose one of these"
        raise DataError(f"case {case.id}", found="a case of unknown truth", wanted=wanted, next_step=step)
    seen = _seen(study, outcome, case)
    recipe = outcome.trained.recipe
    how = {"window_hu": recipe.window_hu, "pool": recipe.pool, "twin_hu": healthy[case.id]}
    truth = true_asymmetries(case, seen.matrix[0], **how).pathological
    name = f"{_size(case)}, anatomy {case.facts['anatomy']}" if "anatomy" in case.facts else _size(case)
    return seen.example(name, shown_slice(case), truth)


def contour_example(outcomes: Mapping[str, Outcome], case: Case) -> ContourExample:
    """What some rows of Table 1 find on the slice with most lesion.

    Args:
        outcomes: Row -> a training, with a prediction for the case.
        case: A test scan.

    Raises:
        DataError: The scan has no lesion, or no brain mask.
    """
    found = {row: outcome.probability[case.id].astype(np.float32) for row, outcome in outcomes.items()}
    return ContourExample.of(case, found, _size(case))


def pipeline_example(study: Study, outcome: Outcome) -> PipelineExample:
    """A training scan on its way through a trained ADN, with the tissue maps it was trained with, if any.

    The scan is the one of median volume among the training scans with more than 70 mL of lesion, or of the next smaller
    group that has one. The networks have seen it: it shows how they work and not how well.

    Args:
        study: Its training scans.
        outcome: A training of ADN.

    Raises:
        DataError: No training scan has a lesion.
    """
    volume_ml = {case.id: case.lesion_ml for case in study.posed[0]}
    (case,) = _typical(study.posed[0], volume_ml, volume_ml, 3)[:1]
    seen, z = _seen(study, outcome, case), shown_slice(case)
    restored = restore(seen.found.logits.sigmoid(), seen.matrix)
    pictures = (seen.heads.images, restored, seen.heads.brains)
    masks: dict[str, np.ndarray] = {}
    if outcome.trained.recipe.tissue:
        (raw,) = (one for one in study.parts[0] if one.id == case.id)
        labels = tissue_labels([raw], SOURCES.get(outcome.row) or study.plan.tissue_maps, out=study.out)
        mismatch, csf = _forbidden(with_tissue([case], labels), outcome.trained.recipe)
        masks = {"mismatch": mismatch[z], "csf": csf[z]}
    return PipelineExample(seen.example(_size(case), z), *(one[0, 0, z].numpy() for one in pictures), **masks)


def _forbidden(cases: Sequence[Case], recipe: AdnRecipe) -> tuple[np.ndarray, np.ndarray]:
    """R_GW and R_CSF of one case, (D, h, w), over the whole field, as its training had them."""
    volumes = head_volumes(cases, recipe, aligned=recipe.aligned, tissue=True)
    grey, white, csf = volumes.tissues.split(1, dim=1)
    masks = (tissue_mismatch(grey, white, recipe.sides), csf)
    mismatch, fluid = (without_lesion(mask, volumes.lesions)[0, 0].numpy() for mask in masks)
    return mismatch, fluid


def real_head_example(study: Study, outcome: Outcome) -> AlignedExample:
    """The shipped head CT, prepared as a user's scan would be, through T and ADN.

    Nobody outlined anything on it. The slice shown is the one with the largest sum of P inside the brain.

    Args:
        study: Its profile says on which grid.
        outcome: A training of ADN.
    """
    raw = RawCase("real-head", "real-head", "test", "plain", images={"ct": shipped.head_ct_archive()})
    grid = "published" if study.profile is Profile.PAPER else "prepared"
    seen = _seen(study, outcome, prepare_case(raw, "none", Choices(grid)), unlabelled=True)
    inside = seen.found.pathological * (seen.layers[:, 2:] > 0.5)
    return seen.example(REAL_HEAD, int(inside.sum(dim=(0, 1, 3, 4)).argmax()))
