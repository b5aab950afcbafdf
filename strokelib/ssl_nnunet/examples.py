"""What Figure 7 of Seia et al. 2023 shows: two scans chosen by rule, and what each row of a table finds on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strokelib.comparing import values_of
from strokelib.data.cases import Case
from strokelib.errors import DataError
from strokelib.figures.contours import MaskedSlice


@dataclass(frozen=True, kw_only=True)
class MaskExample(MaskedSlice):
    """One slice, the masks on it, and volumes of the whole scan.

    Args:
        predicted_ml: Row -> volume of the whole mask in mL.
        lesion_ml: Volume of the whole lesion in mL.
    """

    predicted_ml: Mapping[str, float]
    lesion_ml: float

    @classmethod
    def of(cls, case: Case, masks: Mapping[str, np.ndarray], name: str = "") -> MaskExample:
        """The slice of a scan with most lesion.

        Args:
            case: With reference and brain mask.
            masks: Row of a table -> (D, H, W) bool on the case's grid.
            name: Of the scan, for the picture.

        Raises:
            DataError: The scan has no lesion or no brain mask, or a mask has another shape or is not binary.
        """
        volumes = {row: float(np.count_nonzero(mask)) * case.image.voxel_ml for row, mask in masks.items()}
        return super().of(case, masks, name, predicted_ml=volumes, lesion_ml=case.lesion_ml)


def failed_and_good(scores: pd.DataFrame, methods: Sequence[str]) -> tuple[str, str]:
    """A scan on which every method failed and one on which every method did well, without anybody's choice.

    Failed: the best Dice among the methods is the lowest of all scans; of several such scans the one with the largest
    lesion, since that is the failure that weighs most. Good: the worst Dice among the methods is the highest.

    Args:
        scores: Columns method, case, metric, value, with ``dice`` and ``truth_volume_ml``.
        methods: That both scans have to be scored by.

    Returns:
        Names of the two cases.

    Raises:
        DataError: A metric of a method is missing, or fewer than two scans have a Dice of every method.
    """
    of_methods = pd.concat([values_of(scores, name, "dice") for name in methods], axis=1, join="inner").dropna()
    if len(of_methods) < 2:
        found, step = f"{len(of_methods)} scans with a Dice of every method", "score all methods on the same scans"
        raise DataError("scans of a figure", found=found, wanted="two or more", next_step=step)
    volumes = values_of(scores, methods[0], "truth_volume_ml").reindex(of_methods.index)
    order = pd.DataFrame({"best": of_methods.max(axis=1), "worst": of_methods.min(axis=1), "volume": -volumes})
    failed = order.sort_values(["best", "volume"], kind="stable").index[0]
    good = order.drop(index=failed).sort_values(["worst", "volume"], ascending=[False, True], kind="stable").index[0]
    return failed, good
