"""Which test scan the figures of Wang et al. 2020 show, and what the rows of a table made of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from strokelib.methods.pseudo_dwi import Outcome, Study
from strokelib.methods.typical import median_case
from strokelib.pseudo_dwi import chain
from strokelib.pseudo_dwi.block_diagrams import PipelineExample
from strokelib.pseudo_dwi.examples import SliceExample

SHOWN_ABOVE_ML = 10.0


def middle_case(outcome: Outcome, *, large: bool = True) -> str:
    """The test scan with the median Dice among those with more than 10 mL of lesion, or among the others.

    Among all scans where there is none of that size. Scans without lesion do not count; see
    :func:`strokelib.methods.typical.median_case`.
    """
    wide = outcome.scores.pivot(index="case", columns="metric", values="value")
    wide = wide[wide["truth_volume_ml"] > 0]
    part = wide[(wide["truth_volume_ml"] > SHOWN_ABOVE_ML) == large]
    dice = (part if len(part) else wide)["dice"].dropna()
    return median_case(dice.index, dice)


def slice_of(study: Study, outcomes: Mapping[str, Outcome], row: str, *, large: bool = True) -> SliceExample:
    """What all rows of a table made of one test slice: of the scan that :func:`middle_case` takes by one row."""
    name = middle_case(outcomes[row], large=large)
    case = next(case for case in study.parts[2] if case.id == name)
    probability = {row: outcome.probability[name].astype(np.float32) for row, outcome in outcomes.items()}
    images = {row: outcome.image[name] for row, outcome in outcomes.items() if outcome.image}
    return SliceExample.of(case, probability, images, f"{case.lesion_ml:.0f} mL")


def pipeline_example(study: Study, outcome: Outcome) -> PipelineExample:
    """What a trained chain makes of the test scan that :func:`middle_case` takes."""
    case = next(case for case in study.parts[2] if case.id == middle_case(outcome))
    one = outcome.trained[-1]
    made = chain.run_chain(one.model, one.recipe, case)
    return PipelineExample.of(case, made.image, made.probability, made.high_level)
