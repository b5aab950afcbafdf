"""Distances between the voxels of a mask, exact up to a reach and no further: all that moving its border asks for.

The squared distance is a sum of one term an axis, so that its least is found axis by axis; it is a whole number, so
that nothing is rounded.
"""

from __future__ import annotations

import numpy as np


def squared_depth(mask: np.ndarray, reach: int) -> np.ndarray:
    """Squared distance of each voxel of a mask to the nearest voxel that is not in it, in voxels.

    Args:
        mask: (D, H, W) bool.
        reach: Largest distance in voxels, at most 181.

    Returns:
        (D, H, W) uint8 or uint16: 0 where the mask is not, at most ``reach`` squared in it.
    """
    kind = np.uint8 if 2 * reach**2 < 256 else np.uint16
    costs = np.arange(1 - reach, reach) ** 2
    squared = np.where(mask, kind(reach**2), kind(0))
    for axis in range(3):
        squared = _swept(squared, axis, costs.astype(kind))
    return squared


def signed_distance(mask: np.ndarray, reach: int, kind: type = np.float32) -> np.ndarray:
    """Distance of each voxel to the border of a mask in voxels, positive inside, at most ``reach`` either way.

    Args:
        mask: (D, H, W) bool.
        reach: Largest distance in voxels.
        kind: Type of the result.

    Returns:
        (D, H, W) of that type; in a mask to the nearest voxel outside, elsewhere to the nearest inside.
    """
    inside, outside = squared_depth(mask, reach), squared_depth(~mask, reach)
    root = np.sqrt(np.arange(reach**2 + 1, dtype=kind))
    ways = np.concatenate((root, -root[1:][::-1]))  # those outside from the end on, as negative indices
    return ways.take(inside.astype(np.int16) - outside, mode="wrap")


def nearest_is(chosen: np.ndarray, mask: np.ndarray, reach: int) -> np.ndarray:
    """Voxels whose nearest voxel of a mask is one of the chosen, and nearer than ``reach``.

    Of equally near voxels the one of lowest index along the last axis counts, then along the one before, as in
    ``scipy.ndimage.distance_transform_edt``.

    Args:
        chosen: (D, H, W) bool, part of ``mask``.
        mask: (D, H, W) bool.
        reach: Distance in voxels, at most 16.

    Returns:
        (D, H, W) bool.
    """
    step = np.arange(1 - reach, reach)
    bits = len(step).bit_length() + 1  # below the square: which step it took, and lowest whether the voxel is chosen
    costs = ((step**2 << bits) + (step + reach - 1 << 1)).astype(np.uint16)
    far = reach**2 << bits
    keys = np.where(mask, chosen.astype(np.uint16), np.uint16(far))
    for axis in range(3):
        keys = _swept(keys, axis, costs)
        keys &= np.uint16(0xFFFF << bits & 0xFFFF | 1)
    return (keys < far) & (keys & 1 == 1)


def _swept(values: np.ndarray, axis: int, costs: np.ndarray) -> np.ndarray:
    """At each voxel the least of what stands along an axis, each with the cost of its step (from lowest to highest)."""
    reach, length = len(costs) // 2, values.shape[axis]
    whole = [slice(None)] * values.ndim
    least, spare = values + costs[reach], np.empty_like(values)  # fresh memory costs as much as the sums
    for step in range(1, min(reach + 1, length)):
        low, high = whole.copy(), whole.copy()
        low[axis], high[axis] = slice(0, length - step), slice(step, length)
        for at, other, cost in ((low, high, costs[reach + step]), (high, low, costs[reach - step])):
            view = least[tuple(at)]
            np.minimum(view, np.add(values[tuple(other)], cost, out=spare[tuple(at)]), out=view)
    return least
