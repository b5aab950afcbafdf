"""All scores of one case in one pass, and their summary over cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from strokelib.errors import DataError
from strokelib.metrics.masks import STATUSES, Empty, checked_masks, checked_spacing, counted, cropped, status_of
from strokelib.metrics.overlap import overlap_scores, ratio, voxel_ml
from strokelib.metrics.surface import Undefined, assd_mm, hd95_mm, hd_mm, measured, surface_dice

if TYPE_CHECKING:
    import pandas as pd


ONE_WHERE_BOTH_EMPTY = ("dice", "jaccard", "surface_dice", "lesion_f1")


def segmentation_metrics(
    pred: np.ndarray,
    truth: np.ndarray,
    spacing: Sequence[float],
    *,
    empty: Empty = "nan",
    undefined: Undefined = "nan",
    tolerance_mm: float = 2.0,
) -> dict[str, float | str]:
    """Every score of this package, from one look at the two masks.

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).
        spacing: (dz, dy, dx) in mm.
        empty: Dice and Jaccard of two empty masks: ``nan`` or ``isles`` (1).
        undefined: Distances of empty masks: ``nan`` or ``penalised`` (the image's diagonal).
        tolerance_mm: Of the surface Dice.

    Returns:
        ``status``; ``dice``, ``jaccard``, ``precision`` and ``sensitivity`` in [0, 1]; the volumes and their difference
        in mL; ``relative_volume_error``; HD, HD95 (pooled, and max_directed by name) and ASSD in mm; ``surface_dice``
        in [0, 1]. Scores of single lesions are those of :func:`strokelib.metrics.lesion_scores`.

    Raises:
        DataError: The shapes differ or a mask is not binary.
        ParameterError: The spacing or the name of a policy is not one of those wanted.
    """
    pred, truth = checked_masks(pred, truth)
    spacing_mm = checked_spacing(spacing, pred.ndim)
    boxes = cropped(pred, truth)
    n_both, n_pred, n_truth = counted(*boxes)
    distances = measured(*boxes, spacing_mm, pred.shape)
    one_ml = voxel_ml(spacing_mm)
    return {
        "status": status_of(n_pred, n_truth),
        **overlap_scores(n_both, n_pred, n_truth, empty),
        "pred_volume_ml": n_pred * one_ml,
        "truth_volume_ml": n_truth * one_ml,
        "volume_difference_ml": (n_pred - n_truth) * one_ml,
        "absolute_volume_difference_ml": abs(n_pred - n_truth) * one_ml,
        "relative_volume_error": ratio(abs(n_pred - n_truth), n_truth),
        "hd_mm": hd_mm(distances, undefined=undefined),
        "hd95_mm": hd95_mm(distances, "pooled", undefined=undefined),
        "hd95_max_directed_mm": hd95_mm(distances, "max_directed", undefined=undefined),
        "assd_mm": assd_mm(distances, undefined=undefined),
        "surface_dice": surface_dice(distances, tolerance_mm, empty=empty),
    }


def summarise(per_case_frame: pd.DataFrame) -> pd.DataFrame:
    """Scores over the cases of one method, with the empty cases counted beside the means.

    Args:
        per_case_frame: One row a case: a ``status`` column and numeric columns, as :func:`segmentation_metrics` makes.

    Returns:
        One row a numeric column. ``mean``, ``sd`` (divisor n - 1) and ``median`` are over the ``n`` cases with a value,
        out of ``n_cases``; ``n_both_empty``, ``n_missed`` and ``n_false_alarm`` count the empty ones.
        ``lesion_positive_mean`` is over all cases whose reference holds a lesion. ``all_case_mean`` is over all cases,
        two empty masks counting 1 for Dice, Jaccard, surface Dice and lesion-wise F1. These two are NaN where one of
        their cases has no value, as the distances of a missed lesion do unless they were scored with
        ``undefined="penalised"``.

    Raises:
        DataError: There is no ``status`` column, or it holds another word.
    """
    import pandas as pd

    words = set(per_case_frame["status"]) if "status" in per_case_frame else {"no column of that name"}
    if not words <= set(STATUSES):
        next_step = "make the rows with segmentation_metrics"
        raise DataError("status", found=words - set(STATUSES), wanted=f"one of {STATUSES}", next_step=next_step)
    status = per_case_frame["status"]
    with_lesion = status.isin(("ok", "missed"))
    counts = {f"n_{word}": int((status == word).sum()) for word in STATUSES[1:]}
    rows = {}
    for name, values in per_case_frame.select_dtypes("number").items():
        every = values.mask(status == "both_empty", 1.0) if name in ONE_WHERE_BOTH_EMPTY else values
        rows[name] = {
            "mean": values.mean(),
            "sd": values.std(ddof=1),
            "median": values.median(),
            "n": int(values.count()),
            "n_cases": len(values),
            **counts,
            "lesion_positive_mean": values[with_lesion].mean(skipna=False),
            "all_case_mean": every.mean(skipna=False),
        }
    return pd.DataFrame(list(rows.values()), index=pd.Index(rows, name="metric"))
