"""What Figures 6, 7 and 11 of Sun et al. 2024 show: scans chosen by rule, their masks and their volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from strokelib.comparing import values_of
from strokelib.data.cases import Case
from strokelib.data.inplane import Aligned
from strokelib.errors import DataError
from strokelib.methods.papl import Outcome, Study
from strokelib.methods.papl_dwi import with_dwi
from strokelib.methods.typical import median_cases
from strokelib.papl.agreement_figures import SMALL_ML, VolumeAgreement
from strokelib.papl.comparison_figures import Difference
from strokelib.papl.examples import ContourExample
from strokelib.papl.figures import LABELS, WINDOW_HU
from strokelib.papl.rows import PROPOSED
from strokelib.papl.strata import VOLUME
from strokelib.stats import paired_bootstrap_ci

# Infarcts above, between and below these volumes; each group shows one scan, and the faintest infarct is a fourth.
TINY_ML, FAINTEST_ML = 10.0, 1.0
BACKBONE = "U-Net (aligned)"


def contour_examples(study: Study, outcomes: Mapping[str, Outcome], count: int = 4) -> list[ContourExample]:
    """The scans of Figures 6 and 7 with what each method finds on them, and their DWI.

    Of the test scans with infarcts above 70 mL, of 10 to 70 mL and below 10 mL, each time the one with the median Dice
    of PAPL; then the one whose infarct is faintest, see :func:`asymmetry_hu`. A group without a scan shows none.

    Args:
        study: Of a cohort.
        outcomes: Row of Table II -> its training; those that the figures show are used.
        count: How many scans, at most.

    Raises:
        DataError: PAPL has not been run, or no test scan has an infarct.
    """
    proposed = PROPOSED[2]
    if proposed not in outcomes:
        found = ", ".join(outcomes) or "none"
        raise DataError("rows of a figure", found=found, wanted=proposed, next_step="train the row first")
    contrast = {one.case.id: asymmetry_hu(one) for one in study.aligned[2] if one.case.lesion.any()}
    dice = values_of(outcomes[proposed].scores, proposed, "dice")
    shown = chosen_scans({case.id: case.lesion_ml for case in study.test}, dict(dice), contrast)[:count]
    by_name = {case.id: case for case in study.test if case.id in shown}
    maps = {row: study.probability(outcomes[row]) for row in LABELS if row in outcomes}
    examples = []
    for name in shown:
        case = with_dwi(by_name[name], study.settings)
        masks = {row: found[name] > 0.5 for row, found in maps.items()}
        examples.append(ContourExample.of(case, masks, _label(case, contrast[name])))
    return examples


def chosen_scans(
    volume_ml: Mapping[str, float], dice: Mapping[str, float], contrast_hu: Mapping[str, float]
) -> list[str]:
    """The scans that are shown, from large to small infarcts, then the faintest.

    Args:
        volume_ml: Scan -> volume of its reference.
        dice: Scan -> Dice, see :func:`strokelib.methods.typical.median_cases`.
        contrast_hu: Scan -> how many HU its infarct is darker than its mirror image; NaN where unknown.

    Raises:
        DataError: No scan has an infarct.
    """
    shown = median_cases(volume_ml, dice, (SMALL_ML, TINY_ML))
    seen = [n for n, hu in contrast_hu.items() if not np.isnan(hu) and volume_ml[n] >= FAINTEST_ML and n not in shown]
    return [*shown, *sorted(seen, key=lambda name: (contrast_hu[name], name))[:1]]


def asymmetry_hu(one: Aligned) -> float:
    """How many HU an infarct is darker than its mirror image, on average over its voxels; NaN where none is seen.

    Args:
        one: An aligned case with reference and brain mask. Voxels whose mirror image is infarct too, or no brain, do
            not count.
    """
    case: Case = one.case
    lesion, brain = case.lesion.astype(bool), case.brain.astype(bool)
    image = np.clip(case.image.array, *WINDOW_HU).astype(np.float32)
    counted = lesion & brain & brain[..., ::-1] & ~lesion[..., ::-1]
    return float((image[..., ::-1] - image)[counted].mean()) if counted.any() else float("nan")


def _label(case: Case, contrast_hu: float) -> str:
    volume = f"{case.lesion_ml:.{0 if case.lesion_ml >= TINY_ML else 1}f} mL"
    return volume if np.isnan(contrast_hu) else f"{volume}, {-contrast_hu:+.1f} HU".replace("-", "−")


def volume_agreements(outcomes: Mapping[str, Outcome]) -> list[VolumeAgreement]:
    """Estimated against true volumes of the backbone and of PAPL, the panels of Figure 11.

    Args:
        outcomes: Row of Table II -> its training, with the aligned U-Net and PAPL.
    """
    panels = []
    for row, name in ((BACKBONE, "U-Net"), (PROPOSED[2], "PAPL")):
        both = [values_of(outcomes[row].scores, row, metric) for metric in ("pred_volume_ml", VOLUME)]
        panels.append(VolumeAgreement.of(name, *both))
    return panels


def width_difference(panels: Sequence[VolumeAgreement], *, seed: int = 0) -> Difference:
    """How much further apart the limits of agreement of the last panel are than those of the first one.

    Args:
        panels: From :func:`volume_agreements`, of the same scans.
        seed: Of the resamples.

    Returns:
        In mL, with a 95 % interval (paired bootstrap over scans); NaN where a panel has no limits.
    """
    first, last = panels[0], panels[-1]
    name = f"limits of {last.name} wider than those of {first.name}, mL"
    if first.agreement is None or last.agreement is None:
        return Difference(name, *[float("nan")] * 3, len(first.reference_ml))
    gaps = [2 * one.agreement.multiple * (one.estimated_ml - one.reference_ml) for one in (last, first)]
    found = paired_bootstrap_ci(*gaps, partial(np.std, ddof=1), seed=seed)
    return Difference(name, found.value, found.low, found.high, found.n)
