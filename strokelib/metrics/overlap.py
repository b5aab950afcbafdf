"""Overlap and volume of two masks. The policy for empty masks stands in :mod:`strokelib.metrics`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strokelib.metrics.masks import Empty, checked_mask, checked_masks, checked_name, checked_spacing, counted


def dice(pred: np.ndarray, truth: np.ndarray, *, empty: Empty = "nan") -> float:
    """Dice score, 2 TP / (2 TP + FP + FN).

    Source: Eq. 16, Wang et al. 2020.
    Deviation: the paper leaves two empty masks open; here they score NaN, or 1 with ``empty="isles"``.

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).
        empty: What two empty masks score: ``nan`` or ``isles`` (1).

    Returns:
        A score in [0, 1], or NaN.

    Raises:
        DataError: The shapes differ or a mask is not binary.
        ParameterError: ``empty`` is another word.
    """
    return overlap_scores(*counted(*checked_masks(pred, truth)), empty)["dice"]


def jaccard(pred: np.ndarray, truth: np.ndarray, *, empty: Empty = "nan") -> float:
    """Jaccard index, TP / (TP + FP + FN).

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).
        empty: What two empty masks score: ``nan`` or ``isles`` (1).

    Returns:
        A score in [0, 1], or NaN.

    Raises:
        DataError: The shapes differ or a mask is not binary.
        ParameterError: ``empty`` is another word.
    """
    return overlap_scores(*counted(*checked_masks(pred, truth)), empty)["jaccard"]


def precision(pred: np.ndarray, truth: np.ndarray) -> float:
    """Share of the prediction that is right, TP / (TP + FP), in [0, 1]; NaN where the prediction is empty.

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).

    Raises:
        DataError: The shapes differ or a mask is not binary.
    """
    return overlap_scores(*counted(*checked_masks(pred, truth)))["precision"]


def sensitivity(pred: np.ndarray, truth: np.ndarray) -> float:
    """Share of the reference that was found, TP / (TP + FN), in [0, 1]; NaN where the reference is empty.

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).

    Raises:
        DataError: The shapes differ or a mask is not binary.
    """
    return overlap_scores(*counted(*checked_masks(pred, truth)))["sensitivity"]


def volume_ml(mask: np.ndarray, spacing: Sequence[float]) -> float:
    """Volume of a mask in mL, 0 or more.

    Args:
        mask: (D, H, W).
        spacing: (dz, dy, dx) in mm.

    Raises:
        DataError: The mask is not binary.
        ParameterError: The spacing is not one positive number for each axis.
    """
    mask = checked_mask("mask", mask)
    return int(np.count_nonzero(mask)) * voxel_ml(checked_spacing(spacing, mask.ndim))


def volume_difference_ml(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """Predicted minus reference volume in mL: above 0 where the prediction is too large.

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).
        spacing: (dz, dy, dx) in mm.

    Raises:
        DataError: The shapes differ or a mask is not binary.
        ParameterError: The spacing is not one positive number for each axis.
    """
    _, n_pred, n_truth = counted(*checked_masks(pred, truth))
    return (n_pred - n_truth) * voxel_ml(checked_spacing(spacing, np.ndim(pred)))


def absolute_volume_difference_ml(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> float:
    """Size of the volume difference in mL (AVD), 0 or more; arguments and errors of :func:`volume_difference_ml`."""
    return abs(volume_difference_ml(pred, truth, spacing))


def relative_volume_error(pred: np.ndarray, truth: np.ndarray) -> float:
    """Size of the volume difference over the reference volume (RVE), 0 or more; NaN where the reference is empty.

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).

    Raises:
        DataError: The shapes differ or a mask is not binary.
    """
    _, n_pred, n_truth = counted(*checked_masks(pred, truth))
    return ratio(abs(n_pred - n_truth), n_truth)


def overlap_scores(n_both: int, n_pred: int, n_truth: int, empty: Empty = "nan") -> dict[str, float]:
    """The four overlap scores from the voxel counts of :func:`strokelib.metrics.masks.counted`."""
    agreed = checked_name("empty", empty, ("nan", "isles")) == "isles" and n_pred + n_truth == 0
    return {
        "dice": 1.0 if agreed else ratio(2 * n_both, n_pred + n_truth),
        "jaccard": 1.0 if agreed else ratio(n_both, n_pred + n_truth - n_both),
        "precision": ratio(n_both, n_pred),
        "sensitivity": ratio(n_both, n_truth),
    }


def voxel_ml(spacing: np.ndarray) -> float:
    """Volume of one voxel in mL."""
    return float(np.prod(spacing)) / 1000.0


def ratio(part: float, whole: float) -> float:
    """``part / whole``, NaN where the whole is 0."""
    return part / whole if whole else float("nan")
