"""Embedded heads beside published measurements of living people (``data_manifests/literature.csv``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from strokelib import manifest
from strokelib.data.cases import Case
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.painting import TISSUES
from strokelib.data.phantom.realism import central_fluid_ml
from strokelib.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

FLUID = TISSUES.index("fluid")


def measured(cases: Sequence[Case], readings: Sequence[Case], contrast_hu: Sequence[float]) -> dict[str, np.ndarray]:
    """The quantities of ``literature.csv``, measured on embedded heads.

    Args:
        cases: Heads with truth, of grown-ups of all ages and of both sexes.
        readings: Cases whose label a simulated reader drew (``silver``).
        contrast_hu: Grey minus white matter of several heads, in HU.

    Returns:
        Quantity -> one value a head (one value in all for the growth with age and the ADC, which is set by two knobs).

    Raises:
        DataError: Too few heads to measure a growth with age on.
    """
    if len({case.facts["head"]["age"] for case in cases}) < 2:
        raise DataError("cases", found=f"{len(cases)} heads", wanted="heads of two ages or more", next_step="give more")
    heads = [case.facts["head"] for case in cases]
    inside = np.array([case.brain.sum() * case.image.voxel_ml for case in cases])
    fluid = [100.0 * float((case.truth["tissue"][case.brain] == FLUID).mean()) for case in cases]
    sex = np.array([case.facts["sex"] for case in cases], object)
    decades = [head["age"] / 10 for head in heads]
    central = [central_fluid_ml(case.image, case.brain) for case in cases]
    calcium = np.array([head["calcium_mm"] for head in heads])
    return {
        "inside of the skull of men": inside[sex == "M"],
        "inside of the skull of women": inside[sex == "F"],
        "fluid inside of the skull": np.array(fluid),
        "ventricular fluid a decade of age": np.polyfit(decades, central, 1)[:1],
        "grey minus white matter": np.asarray(contrast_hu, float),
        "thickness of the parietal vault": np.array([head["skull_mm"] * np.mean(head["size"]) for head in heads]),
        "calcified pineal body": 100.0 * (calcium[:, 0] > 0),
        "calcified choroid plexus": 100.0 * (calcium[:, 1:3] > 0).any(axis=1),
        "Dice between a reader and the reference": np.array([_reader_dice(case) for case in readings]),
        "ADC of the infarct over healthy tissue": np.array(
            [KNOBS.adc_acute / (0.5 * (KNOBS.adc_grey + KNOBS.adc_white))]
        ),
    }


def _reader_dice(case: Case) -> float:
    """Dice of the label and the truth, both inside the brain and without fluid."""
    truth, label = case.truth["lesion"], case.lesion
    return float(2 * (truth & label).sum() / (truth.sum() + label.sum()))


def beside(ours: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Published values and ours, a quantity a row.

    Args:
        ours: What :func:`measured` gave; a quantity without values is left empty.

    Returns:
        Columns ``quantity``, ``unit``, ``published``, ``published_sd``, ``published_n``, ``ours``, ``ours_sd``,
        ``ours_n``, ``source``; ours are of embedded heads.
    """
    table = manifest.read("literature")
    values = [np.asarray(ours.get(name, ()), float) for name in table["quantity"]]
    return table.rename(columns={"mean": "published", "sd": "published_sd", "n": "published_n"}).assign(
        ours=[v.mean() if len(v) else np.nan for v in values],
        ours_sd=[v.std(ddof=1) if len(v) > 1 else np.nan for v in values],
        ours_n=[len(v) for v in values],
    )[["quantity", "unit", "published", "published_sd", "published_n", "ours", "ours_sd", "ours_n", "source"]]
