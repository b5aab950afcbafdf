"""Maps, frames and DWI brought to [0, 1]."""

from __future__ import annotations

import numpy as np

from strokelib.errors import DataError, ParameterError

VERSION = 1
ROBUST, DWI_TOP, TMAX_TOP_S = (1.0, 99.0), 99.0, 20.0


def scaled(values: np.ndarray, mask: np.ndarray, percentiles: tuple[float, float] = ROBUST) -> np.ndarray:
    """Values brought to [0, 1] by two of their percentiles in a mask, clipped; 0 outside.

    Args:
        values: (..., D, H, W); all leading axes share one scale.
        mask: (D, H, W) bool.
        percentiles: Become 0 and 1.

    Returns:
        The shape of ``values``, float32. Zero where the percentiles are equal, as in a constant map or empty mask.

    Raises:
        DataError: Mask and values do not fit, or a value in the mask is not finite.
        ParameterError: Not 0 <= lower < upper <= 100.
    """
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        wanted = "0 <= lower < upper <= 100"
        raise ParameterError("percentiles", found=percentiles, wanted=wanted, next_step="take 1 and 99")
    inside = _inside(values, mask)
    low, high = np.percentile(inside, percentiles) if inside.size else (0.0, 0.0)
    return _between(values, mask, inside, low, high)


def scaled_tmax(values: np.ndarray, mask: np.ndarray, top_s: float = TMAX_TOP_S) -> np.ndarray:
    """Tmax over a fixed top, clipped to [0, 1], so that a value means the same in each scan; 0 outside the mask.

    Args:
        values: (..., D, H, W) in s.
        mask: (D, H, W) bool.
        top_s: Becomes 1.

    Raises:
        DataError, ParameterError: As :func:`scaled`; ``top_s`` is not positive.
    """
    if not top_s > 0:
        raise ParameterError("top_s", found=top_s, wanted="above 0", next_step="take 20")
    return _between(values, mask, _inside(values, mask), 0.0, top_s)


def scaled_dwi(dwi: np.ndarray, top: float = DWI_TOP) -> np.ndarray:
    """DWI brought to [0, 1] by its minimum and its 99th percentile (``top``) over the whole volume, clipped.

    Source: Sec. 4.1, Wang et al. 2020.
    Deviation: the paper does not say what becomes of the brightest hundredth, which exceeds 1; clipped here.

    Args:
        dwi: (D, H, W), any unit.
        top: Percentile that becomes 1. A lesion that fills less than 1 % of a volume is cut to it at 99.

    Returns:
        (D, H, W) float32; zero where minimum and percentile are equal. A value that is not finite is a DataError.
    """
    return scaled(dwi, np.ones(np.shape(dwi), bool), (0.0, top))


def _inside(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values in the mask, (..., N) float64."""
    values, mask = np.asarray(values), np.asarray(mask, bool)
    if values.ndim < mask.ndim or values.shape[values.ndim - mask.ndim :] != mask.shape:
        found, wanted = f"values {values.shape}, mask {mask.shape}", "values that end in the mask's shape"
        raise DataError("mask", found=found, wanted=wanted, next_step="bring both onto one grid")
    inside = values[..., mask].astype(np.float64)
    if not np.isfinite(inside).all():
        step = "mask such voxels out, or fill them"
        raise DataError("values", found="a value that is not finite", wanted="finite numbers", next_step=step)
    return inside


def _between(values: np.ndarray, mask: np.ndarray, inside: np.ndarray, low: float, high: float) -> np.ndarray:
    out = np.zeros(np.shape(values), np.float32)
    if high > low:
        out[..., np.asarray(mask, bool)] = np.clip((inside - low) / (high - low), 0, 1)
    return out
