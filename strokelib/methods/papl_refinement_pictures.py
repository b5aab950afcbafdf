"""What Figures 2, 5, 9 and 10 of Sun et al. 2024 show: test scans chosen by rule, and what the networks see there.

Figures 2, 5 and 10 show slices as the network sees them, aligned and on the recipe's pixels; Figure 9 shows the scan's
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from strokelib.data.cases import Case
from strokelib.errors import DataError
from strokelib.infer import model_device
from strokelib.methods.papl import KNOWLEDGE, Outcome, Study
from strokelib.methods.papl_dwi import with_dwi
from strokelib.methods.papl_refinement_scores import fullest, hours_of, network_of, predicted
from strokelib.methods.typical import median_case
from strokelib.papl import knowledge_fitting
from strokelib.papl.block_diagrams import StagesExample
from strokelib.papl.examples import AdjacentExample
from strokelib.papl.inputs import recipe_slices
from strokelib.papl.perception_figures import PerceptionExample
from strokelib.papl.refinement_figures import RefinementExample, RefinementStep
from strokelib.papl.rows import PROPOSED
from strokelib.papl.sample_figures import SampledSlice
from strokelib.papl.slices import HeadSlices
from strokelib.papl.snapshots import read_snapshot, snapshot_steps

if TYPE_CHECKING:
    import pandas as pd

WITHOUT_FCM, WITH_FCM, WITH_RPRS = "Inter+Intra", "Inter+Intra+FCM", PROPOSED[4]
SHOWN_ABOVE_ML, ONE_SIDED = 10.0, 0.9
APART = 2
WINDOWS, SEED = 64, 0


def shown_scans(study: Study) -> list[Case]:
    """Aligned test scans that figures choose from: infarcts above 10 mL of which nine tenths lie on one side.

    All infarcts where there is no such one.

    Raises:
        DataError: No test scan has a lesion.
    """
    ill = [case for case in study.cases(True)[2] if case.lesion.any()]
    if not ill:
        found, step = f"{len(study.test)} scans without lesion", "choose a split with infarcts"
        raise DataError("scans to show", found=found, wanted="a lesion", next_step=step)
    large = [case for case in ill if case.lesion_ml > SHOWN_ABOVE_ML]
    return [case for case in large if _share_of_a_side(case.lesion) >= ONE_SIDED] or ill


def _share_of_a_side(lesion: np.ndarray) -> float:
    """How much of a lesion lies on the side that has more of it; the middle column counts for neither."""
    half = lesion.shape[2] // 2
    sides = lesion[..., :half].sum(), lesion[..., -half:].sum()
    return float(max(sides) / lesion.sum())


def middle_case(study: Study, outcome: Outcome) -> Case:
    """Of the scans that may be shown the one with the median Dice, aligned.

    See :func:`strokelib.methods.typical.median_case`.

    Args:
        study: Its aligned test scans.
        outcome: By its Dice.

    Raises:
        DataError: As :func:`shown_scans`.
    """
    dice = outcome.scores.query("metric == 'dice'").set_index("case")["value"]
    cases = {case.id: case for case in shown_scans(study)}
    return cases[median_case(cases, dice)]


def _masks(slices: HeadSlices, row: int) -> tuple[np.ndarray, np.ndarray]:
    return slices.brains[row].numpy().astype(bool), slices.lesions[row].numpy() > 0


def _spacing(slices: HeadSlices) -> tuple[float, float]:
    return (float(slices.pixel_mm[0]),) * 2


def stages_example(study: Study, outcome: Outcome, case: Case) -> StagesExample:
    """What Figure 2 shows of a scan: samples of stage 1, three slices, and the prediction of the middle one.

    Args:
        study: Whose stage 1 draws the samples.
        outcome: A row that was trained on aligned slices.
        case: Aligned. The middle slice is that with most lesion, the others are two away or at the scan's end.

    Raises:
        DataError: None of 64 windows of that slice is a negative sample.
    """
    slices = recipe_slices([case], outcome.trained.recipe)
    row = fullest(slices)
    stream = knowledge_fitting.region_stream(study.recipe(KNOWLEDGE), slices[[row]], WINDOWS, SEED, plain=True)
    sampled = [SampledSlice.of(stream, number) for number in range(WINDOWS // stream.samples)]
    found = [(region.label, one.sample(region)) for one in sampled for region in one.regions]
    first = dict(reversed(found))
    if set(first) != {0, 1}:
        seen, step = f"labels {sorted(first)} of {len(found)} windows", "show a scan with a smaller infarct"
        raise DataError(f"samples of {case.id}", found=seen, wanted="a positive and a negative one", next_step=step)
    brain, lesion = _masks(slices, row)
    around = [min(max(row + step, 0), len(slices) - 1) for step in (-APART, 0, APART)]
    images = tuple(slices.images[at, 0].numpy() for at in around)
    probability = predicted(outcome.trained, slices[[row]])[0].numpy()
    return StagesExample(first[1], first[0], images, probability, lesion, brain, _spacing(slices))


def perception_examples(study: Study, outcome: Outcome, seen: pd.DataFrame, count: int = 5) -> list[PerceptionExample]:
    """What Figure 5 shows: slices of scans at even steps from the earliest to the latest after onset.

    Where hours are unknown the order is that of phi, from alike sides to different ones.

    Args:
        study: Its aligned test scans; see :func:`shown_scans`.
        outcome: A row that was trained on aligned slices.
        seen: From :func:`strokelib.methods.papl_refinement_scores.perceived`, of the same row.
        count: Scans, at most.
    """
    cases = {case.id: case for case in shown_scans(study)}
    large = seen[seen["case"].isin(list(cases))]
    known = bool(large["hours"].notna().all())
    names = large.sort_values(["hours", "case"] if known else ["predicted", "case"], ascending=known)["case"]
    places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    examples, recipe = [], outcome.trained.recipe
    for case in (cases[name] for name in names.iloc[places]):
        slices = recipe_slices([case], recipe)
        row = fullest(slices)
        one = slices[[row]]
        pictures = (one.unit[0, 0].numpy(), predicted(outcome.trained, one)[0].numpy(), *_masks(slices, row))
        how = {"mu": recipe.mu, "window_hu": recipe.window_hu}
        examples.append(PerceptionExample.of(*pictures, hours_of(case), _spacing(slices), **how))
    return examples


def adjacent_example(study: Study, outcomes: Mapping[str, Outcome], name: str, count: int = 6) -> AdjacentExample:
    """What Figure 9 shows of a test scan, in its own frame: the slices with most lesion, and its DWI where it has one.

    Args:
        study: Its test scans.
        outcomes: Title of a training -> its row.
        name: Of the scan.
        count: Slices, at most.
    """
    case = with_dwi(next(case for case in study.test if case.id == name), study.settings)
    masks = {title: study.probability(outcome)[name] > 0.5 for title, outcome in outcomes.items()}
    return AdjacentExample.of(case, masks, count, name)


def refinement_example(outcomes: Mapping[str, Outcome], case: Case) -> RefinementExample:
    """What Figure 10 shows of a scan: its slice with most lesion by the weights that two trainings kept.

    Args:
        outcomes: Title of a training -> its row, of those that kept weights over the steps.
        case: Aligned.
    """
    trainings = {}
    for title, outcome in outcomes.items():
        trained = outcome.trained
        slices = recipe_slices([case], trained.recipe)
        row = fullest(slices)
        model = trained.method.build(trained.recipe).to(model_device(trained.model))
        steps = snapshot_steps(trained.recipe.snapshots, trained.recipe.steps)
        read = ((step, network_of(read_snapshot(model, trained.folder, step))) for step in steps)
        trainings[title] = [RefinementStep.of(network, slices.images[[row]], step) for step, network in read]
    brain, lesion = _masks(slices, row)
    image = slices.images[row, 0].numpy()
    return RefinementExample(brain, lesion, image, trainings, _spacing(slices), case.id, unit="step")
