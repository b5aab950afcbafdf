"""Masks grown and shrunk by millimetres, whatever the spacing, and their largest piece."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def within(mask: np.ndarray, radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Voxels within ``radius_mm`` of a mask (D, H, W): a dilation by a ball."""
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask, sampling=spacing) <= radius_mm


def shrunk(mask: np.ndarray, radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Erosion by a ball; beyond the array nothing erodes, so that a cut field is not eaten from its end slices."""
    if mask.all():
        return mask
    return ndimage.distance_transform_edt(mask, sampling=spacing) > radius_mm


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected component of a mask (D, H, W); voxels touch by their faces."""
    labels, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()
