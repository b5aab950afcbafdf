"""What every score starts from: two masks checked, cut to the box that holds them, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from strokelib.errors import DataError, ParameterError

Status = Literal["ok", "both_empty", "missed", "false_alarm"]
Empty = Literal["nan", "isles"]
STATUSES: tuple[Status, ...] = ("ok", "both_empty", "missed", "false_alarm")


def status_of(n_pred: int, n_truth: int) -> Status:
    """Which of the four cases two masks of so many voxels make."""
    if n_pred:
        return "ok" if n_truth else "false_alarm"
    return "missed" if n_truth else "both_empty"


def checked_mask(thing: str, mask: np.ndarray) -> np.ndarray:
    """The mask as a contiguous bool array, without a copy where it can be had.

    Raises:
        DataError: It is not (D, H, W) or (H, W), has no voxels, or holds other values than 0 and 1.
    """
    mask = np.asarray(mask)
    if mask.ndim not in (2, 3) or not mask.size:
        found, wanted = f"shape {mask.shape}", "(D, H, W) or (H, W) with at least one voxel"
        raise DataError(thing, found=found, wanted=wanted, next_step="pass one case, without batch and channel axes")
    mask = np.ascontiguousarray(mask)
    if mask.dtype == np.uint8 and mask.max() <= 1:
        return mask.view(bool)
    if mask.dtype != bool and not ((mask == 0) | (mask == 1)).all():
        found = f"{mask.dtype} with other values than 0 and 1"
        raise DataError(
            thing, found=found, wanted="bool, or only 0 and 1", next_step="threshold it or choose its labels"
        )
    return mask.astype(bool, copy=False)


def checked_masks(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference as bool arrays of one shape.

    Raises:
        DataError: The shapes differ or a mask is not binary.
    """
    pred, truth = checked_mask("pred", pred), checked_mask("truth", truth)
    if pred.shape != truth.shape:
        found, wanted = f"shape {pred.shape}", f"shape {truth.shape}, that of truth"
        raise DataError("pred", found=found, wanted=wanted, next_step="bring both masks onto one grid first")
    return pred, truth


def checked_spacing(spacing: Sequence[float], ndim: int) -> np.ndarray:
    """The spacing as (ndim,) float64, in mm.

    Raises:
        ParameterError: It is not one positive number for each axis.
    """
    mm = np.asarray(spacing, dtype=float)
    if mm.shape != (ndim,) or not (np.isfinite(mm) & (mm > 0)).all():
        wanted = f"{ndim} positive numbers in mm, in the order of the array's axes"
        raise ParameterError("spacing", found=spacing, wanted=wanted, next_step="pass the spacing of the image")
    return mm


def checked_name(thing: str, found: str, wanted: Sequence[str]) -> str:
    """The name of a convention.

    Raises:
        ParameterError: There is no convention of that name.
    """
    if found not in wanted:
        next_step = "see the conventions in strokelib.metrics"
        raise ParameterError(thing, found=repr(found), wanted=f"one of {tuple(wanted)}", next_step=next_step)
    return found


def cropped(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both bool masks cut to the box that holds them, as (d, h, w) with one empty voxel on every side."""
    pair = [mask.reshape((1,) * (3 - mask.ndim) + mask.shape) for mask in (pred, truth)]
    z = np.flatnonzero(np.logical_or(*(mask.reshape(len(mask), -1).any(axis=1) for mask in pair)))
    if not z.size:
        return np.zeros((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    pair = [mask[z[0] : z[-1] + 1] for mask in pair]
    plane = np.logical_or(*(np.logical_or.reduce(mask, axis=0) for mask in pair))
    y, x = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    boxed_pred, boxed_truth = (np.pad(mask[:, y[0] : y[-1] + 1, x[0] : x[-1] + 1], 1) for mask in pair)
    return boxed_pred, boxed_truth


def counted(pred: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Voxels in both masks, in the prediction and in the reference."""
    return int(np.count_nonzero(pred & truth)), int(np.count_nonzero(pred)), int(np.count_nonzero(truth))
