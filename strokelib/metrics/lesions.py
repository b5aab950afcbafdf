"""Scores of single lesions: which of them were found, by the rules of two challenges, and which are large enough.

A lesion is a connected component of a mask; voxels that share a corner belong together (26 neighbours in 3-D, 8 in
2-D). The two rules score the same masks very differently, so that a lesion-wise score without the name of its rule
says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokelib.errors import ParameterError
from strokelib.metrics.masks import Empty, Status, checked_mask, checked_masks, checked_name, cropped, status_of

Rule = Literal["isles22", "isles24"]
ISLES24_IOU = 0.2
# A lesion of exactly the limit, such as 3 mL made of 0.08 mL voxels, must not be kept for the last bit.
ROUNDING = 1e-9


@dataclass(frozen=True)
class LesionScores:
    """Lesions of one case.

    Args:
        f1: 2 TP / (2 TP + FP + FN); NaN where both masks are empty (1 with ``empty="isles"``).
        true_positives: Lesions found.
        false_positives: Predicted lesions that are none.
        false_negatives: Lesions missed.
        n_pred: Predicted lesions.
        n_truth: Lesions of the reference.
        count_difference: |n_pred - n_truth|.
        status: Which of the four cases of empty masks.
        rule: How they were matched.
    """

    f1: float
    true_positives: int
    false_positives: int
    false_negatives: int
    n_pred: int
    n_truth: int
    count_difference: int
    status: Status
    rule: str


def lesion_scores(
    pred: np.ndarray, truth: np.ndarray, rule: Rule = "isles22", *, iou: float = ISLES24_IOU, empty: Empty = "nan"
) -> LesionScores:
    """Lesion-wise F1 and counts.

    ``isles22``: a lesion of the reference is found where any predicted voxel meets it; a predicted lesion is false
    where no voxel of the reference meets it. One prediction may find many lesions, so that a blob over everything
    scores 1.

    ``isles24``: lesions are matched one to one, the pair with the largest intersection over union first, and only where
    it is ``iou`` or more. This is the recognition quality of the package panoptica with its plain threshold matching;
    0.2 is the threshold of ISLES'24, and that package's own default is 0.5.

    Args:
        pred: Predicted mask, (D, H, W) or (H, W).
        truth: Reference mask of that shape.
        rule: ``isles22`` or ``isles24``.
        iou: Smallest intersection over union of a match, above 0 and at most 1; of ``isles24`` alone.
        empty: F1 of two empty masks: ``nan`` or ``isles`` (1). One empty mask scores 0.

    Raises:
        DataError: The shapes differ or a mask is not binary.
        ParameterError: A word is not known, or ``iou`` is out of range.
    """
    checked_name("rule", rule, ("isles22", "isles24"))
    checked_name("empty", empty, ("nan", "isles"))
    if not 0 < iou <= 1:
        raise ParameterError("iou", found=iou, wanted="above 0 and at most 1", next_step="pass 0.2 for ISLES'24")
    pred, truth = checked_masks(pred, truth)
    flat = pred.ndim == 2
    (pred_labels, n_pred), (truth_labels, n_truth) = (_components(mask, flat) for mask in cropped(pred, truth))
    pairs, overlap = _overlaps(pred_labels, truth_labels)
    if rule == "isles22":
        found, real = len(np.unique(pairs[:, 1])), len(np.unique(pairs[:, 0]))
        hits, false, missed = found, n_pred - real, n_truth - found
    else:
        hits = _matched(pairs, overlap, np.bincount(pred_labels.ravel()), np.bincount(truth_labels.ravel()), iou)
        false, missed = n_pred - hits, n_truth - hits
    status = status_of(n_pred, n_truth)
    agreed = 1.0 if empty == "isles" else float("nan")
    return LesionScores(
        f1=agreed if status == "both_empty" else 2 * hits / (2 * hits + false + missed),
        true_positives=hits,
        false_positives=false,
        false_negatives=missed,
        n_pred=n_pred,
        n_truth=n_truth,
        count_difference=abs(n_pred - n_truth),
        status=status,
        rule=rule,
    )


def truth_above(lesion: np.ndarray, voxel_ml: float, limit_ml: float = 3.0) -> np.ndarray:
    """The lesions of a reference that are larger than a limit; the others become background.

    A prediction is left as it is, so that whatever it finds in a lesion taken away counts as false. A case whose
    reference is then empty has nothing left to be scored.

    Args:
        lesion: Reference mask, (D, H, W) or (H, W).
        voxel_ml: Volume of a voxel in mL.
        limit_ml: A lesion of this volume or less is taken away.

    Returns:
        Bool, of the mask's shape.

    Raises:
        DataError: The mask is not binary.
        ParameterError: A volume is out of range.
    """
    mask = checked_mask("lesion", lesion)
    if not (voxel_ml > 0 and limit_ml >= 0 and math.isfinite(voxel_ml)):
        found, wanted = f"voxels of {voxel_ml} mL, limit {limit_ml} mL", "voxels above 0 mL, a limit of 0 mL or more"
        raise ParameterError("volumes", found=found, wanted=wanted, next_step="pass the voxel_ml of the case's image")
    labels, _ = _components(mask.reshape((1,) * (3 - mask.ndim) + mask.shape), mask.ndim == 2)
    kept = np.bincount(labels.ravel()) * voxel_ml > limit_ml * (1 + ROUNDING)
    kept[0] = False
    return kept[labels].reshape(mask.shape)


def _components(mask: np.ndarray, flat: bool) -> tuple[np.ndarray, int]:
    """Labels 1, 2, ... of a (d, h, w) mask; a slice's neighbours are those of its plane."""
    from scipy.ndimage import label

    neighbours = np.ones((3, 3, 3), bool)
    if flat:
        neighbours[[0, 2]] = False
    labels, count = label(mask, structure=neighbours)
    return labels, int(count)


def _overlaps(pred_labels: np.ndarray, truth_labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) pairs of a predicted and a reference lesion that meet, and in how many voxels."""
    both = (pred_labels > 0) & (truth_labels > 0)
    pairs, counts = np.unique(np.stack((pred_labels[both], truth_labels[both]), axis=1), axis=0, return_counts=True)
    return pairs, counts


def _matched(
    pairs: np.ndarray, overlap: np.ndarray, pred_sizes: np.ndarray, truth_sizes: np.ndarray, iou: float
) -> int:
    """Lesions matched one to one, the best pair first."""
    shares = overlap / (pred_sizes[pairs[:, 0]] + truth_sizes[pairs[:, 1]] - overlap)
    used_pred, used_truth = set(), set()
    for n in np.argsort(-shares, kind="stable"):
        p, t = pairs[n].tolist()
        if shares[n] < iou:
            break
        if p not in used_pred and t not in used_truth:
            used_pred.add(p)
            used_truth.add(t)
    return len(used_pred)
