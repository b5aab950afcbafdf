"""Linear interpolation on a grid along the axes: the two nearest voxels of each axis, nothing averaged."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SAME = 1e-6


def resize_linear(array: np.ndarray, shape: tuple[int, int, int], ratios: tuple[float, float, float]) -> np.ndarray:
    """Values at new voxels whose field shares its centre with the old one; beyond the ends the end voxel is repeated.

    Slices come first: where old and new edges coincide in plane, one pass makes them; else columns are moved by rows
    and rows by a matrix. Then slices are blended in pairs.

    Args:
        array: (D, H, W) float32.
        shape: New (D, H, W).
        ratios: New over old voxel size along each axis.

    Returns:
        float32 of that shape.
    """
    values = torch.from_numpy(np.ascontiguousarray(array))
    old = values.shape
    even = [abs(n * ratio - m) < SAME * m for n, ratio, m in zip(shape, ratios, old, strict=True)]
    if even[1] and even[2]:
        if tuple(shape[1:]) != tuple(old[1:]):
            values = F.interpolate(values[None], shape[1:], mode="bilinear")[0]
    else:
        values = _blended(values, 1, shape[1], ratios[1])
        low, weight = _taps(old[2], shape[2], ratios[2])
        matrix = torch.zeros(old[2], shape[2])
        columns = torch.arange(shape[2])
        matrix[low, columns] = 1 - weight
        matrix[(low + 1).clamp_max(old[2] - 1), columns] += weight
        values = values @ matrix
    return _blended(values, 0, shape[0], ratios[0]).numpy()


def _taps(n_old: int, n_new: int, ratio: float) -> tuple[Tensor, Tensor]:
    """For each new voxel the old one below its centre, and the weight of the one above."""
    place = (torch.arange(n_new, dtype=torch.float64) - (n_new - 1) / 2) * ratio + (n_old - 1) / 2
    place = place.clamp(0, n_old - 1)
    low = place.floor().clamp_max(max(n_old - 2, 0))
    return low.long(), (place - low).float()


def _blended(values: Tensor, axis: int, n_new: int, ratio: float) -> Tensor:
    """Whole slices or rows blended in pairs."""
    n_old = values.shape[axis]
    if n_new == n_old and abs(ratio - 1) < SAME:
        return values
    out = values.new_empty([n_new if k == axis else n for k, n in enumerate(values.shape)])
    low, weight = _taps(n_old, n_new, ratio)
    for number, (below, share) in enumerate(zip(low.tolist(), weight.tolist(), strict=True)):
        above = min(below + 1, n_old - 1)
        torch.lerp(values.select(axis, below), values.select(axis, above), share, out=out.select(axis, number))
    return out
