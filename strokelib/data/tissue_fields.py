"""Fields over the voxels of a brain: smoothing that stays inside, polynomials, sums over neighbours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

VERSION = 1


def smoother(
    brain: np.ndarray, sd_mm: float, spacing: tuple[float, float, float]
) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussian smoothing of brain voxels that takes nothing from outside the brain.

    Args:
        brain: (D, H, W) bool.
        sd_mm: SD along each axis; 0 changes nothing. An axis with voxels of three SDs or more stays as it is.
        spacing: (dz, dy, dx) in mm.

    Returns:
        A function from the brain's voxels (N,) to the smoothed ones, float64.
    """
    sd = [sd_mm / step if step < 3 * sd_mm else 0.0 for step in spacing]

    def blurred(full: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(full, sd, mode="constant", truncate=2.0)[brain].astype(np.float64)

    weight = blurred(brain.astype(np.float32)) if sd_mm > 0 else None

    def smooth(values: np.ndarray) -> np.ndarray:
        if weight is None:
            return np.asarray(values, np.float64)
        full = np.zeros(brain.shape, np.float32)
        full[brain] = values
        return blurred(full) / weight

    return smooth


def monomials(brain: np.ndarray, order: int) -> np.ndarray:
    """Monomials up to an order over the brain's voxels, without the constant, each of mean 0: (N, terms)."""
    index = np.argwhere(brain).astype(np.float64)
    low, high = index.min(axis=0), index.max(axis=0)
    place = 2 * (index - low) / np.maximum(high - low, 1) - 1
    powers = [p for p in np.ndindex(order + 1, order + 1, order + 1) if 0 < sum(p) <= order]
    terms = np.stack([np.prod(place ** np.array(p), axis=1) for p in powers], axis=1)
    return terms - terms.mean(axis=0)


def neighbour_sums(tissues: np.ndarray, brain: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Sum of the six neighbours' values, each weighted by the squared ratio of the smallest voxel side to its distance.

    Args:
        tissues: (K, N): values of the brain's voxels.
        brain: (D, H, W) bool with N voxels.
        spacing: (dz, dy, dx) in mm.

    Returns:
        (K, N); what lies outside the brain counts as 0.
    """
    near = min(spacing)
    sums = np.zeros_like(tissues)
    for number, part in enumerate(tissues):
        full = np.zeros(brain.shape, np.float32)
        full[brain] = part
        total = np.zeros_like(full)
        for axis, step in enumerate(spacing):
            kernel = np.array([1.0, 0.0, 1.0], np.float32) * (near / step) ** 2
            total += ndimage.correlate1d(full, kernel, axis=axis, mode="constant")
        sums[number] = total[brain]
    return sums
