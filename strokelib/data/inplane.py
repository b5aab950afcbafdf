"""Alignment in plane, as PAPL has it: turn the mid-sagittal line upright and move it to the middle column.

The paper moves each slice by its own line. Lines of neighbouring slices differ by the network's errors, so that moving
slices one by one shears the head; one line a scan, taken over all slices, is the default here, and slice by slice is
there by name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError
from strokelib.nn.alignment import align_matrix_2d, midline_from_points, warp_2d

VERSION = 1
AIR_HU = -1000.0
LineOf = Literal["scan", "slice"]


def known_line(case: Case) -> np.ndarray:
    """Ends of the mid-sagittal line in each slice, from the known plane of an embedded case.

    Args:
        case: An embedded case with a brain mask.

    Returns:
        (D, 2, 2): upper and lower end, (x, y) in voxels, at the first and last row of the brain; NaN where a slice
        shows no brain.

    Raises:
        DataError: The case knows no plane, or has no brain mask.
    """
    plane = case.facts.get("midline_plane")
    if plane is None or case.brain is None:
        found = "no known plane" if plane is None else "no brain mask"
        raise DataError(f"case {case.id}", found=found, wanted="an embedded case", next_step="find the line instead")
    normal, distance = np.array(plane[:3]), plane[3]
    # nx, ny, nz and d of the same plane on (x, y, z) in voxels.
    in_voxels = normal @ case.image.affine[:3, :3]
    rest = distance - normal @ case.image.affine[:3, 3]
    ends = np.full((len(case.brain), 2, 2), np.nan)
    for z, part in enumerate(case.brain):
        rows = np.flatnonzero(part.any(axis=1))
        for end, y in enumerate((rows[0], rows[-1]) if len(rows) else ()):
            ends[z, end] = (rest - in_voxels[1] * y - in_voxels[2] * z) / in_voxels[0], y
    return ends


def one_line(ends: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """One line for a whole scan from those of its slices: weighted medians of angle and place.

    Args:
        ends: (D, 2, 2), NaN where there is no line.
        weights: (D,), e.g. the area of the brain; 0 leaves a slice out.

    Returns:
        (2, 2): upper and lower end.

    Raises:
        DataError: No slice has a line.
    """
    used = np.isfinite(ends).all(axis=(1, 2)) & (weights > 0)
    if not used.any():
        raise DataError("mid-sagittal line", found="none", wanted="one slice with brain", next_step="check the mask")
    ends, weights = ends[used], weights[used]
    centre, angle = midline_from_points(torch.from_numpy(ends[:, 0]), torch.from_numpy(ends[:, 1]))
    middle, slope = weighted_median(centre[:, 1].numpy(), weights), weighted_median(angle.numpy(), weights)
    # Where each slice's own line crosses the common row.
    crossing = centre[:, 0].numpy() + (middle - centre[:, 1].numpy()) * np.tan(angle.numpy())
    x, half = weighted_median(crossing, weights), float(np.median(ends[:, 1, 1] - ends[:, 0, 1])) / 2
    return np.array([[x - half * np.tan(slope), middle - half], [x + half * np.tan(slope), middle + half]])


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


@dataclass(frozen=True)
class Aligned:
    """A case whose mid-sagittal line is the middle column, with the way back.

    Args:
        case: The aligned case, on an array of the same shape. With one line a scan its affine moved along, so that each
            voxel keeps its place in the scanner; slice by slice there is no such affine and the old one stands.
        forward: (D, 3, 3) float64, where a point (x, y, 1) of each slice went.
    """

    case: Case
    forward: Tensor

    def restore(self, volume: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Bring an array on the aligned grid back to the case's own.

        Args:
            volume: (D, H, W); bool comes back as bool.
            fill: What lies outside.
        """
        return _moved(volume, torch.linalg.inv(self.forward), fill)


def _moved(volume: np.ndarray, forward: Tensor, fill: float) -> np.ndarray:
    values = torch.from_numpy(np.ascontiguousarray(volume, np.float32))[:, None]
    out = warp_2d(values, forward, fill=fill)[:, 0].numpy()
    if volume.dtype == bool:
        return out > 0.5
    if np.issubdtype(volume.dtype, np.integer):
        return np.rint(out).astype(volume.dtype)
    return out.astype(volume.dtype)


def align_case(case: Case, ends: np.ndarray, line_of: LineOf = "scan") -> Aligned:
    """Align a case in plane by the mid-sagittal line of its slices.

    Source: Eqs 1-5, Sun et al. 2024.
    Deviation: one line a scan by default; ``slice`` is the paper's way.

    Args:
        case: A case with a brain mask and square pixels.
        ends: (D, 2, 2), as :func:`known_line` or a midline network gives them.
        line_of: ``scan`` or ``slice``.

    Raises:
        DataError: No brain mask, or pixels that are not square.
    """
    _, dy, dx = case.image.spacing
    if case.brain is None or abs(dy - dx) > 1e-3 * dx:
        found = "no brain mask" if case.brain is None else f"pixels of {dy:.3f} x {dx:.3f} mm"
        raise DataError(f"case {case.id}", found=found, wanted="a mask and square pixels", next_step="prepare the case")
    common = one_line(ends, case.brain.sum(axis=(1, 2)).astype(float))
    lines = np.broadcast_to(common, ends.shape).copy()
    if line_of == "slice":
        own = np.isfinite(ends).all(axis=(1, 2))
        lines[own] = ends[own]
    top, bottom = torch.from_numpy(lines[:, 0]), torch.from_numpy(lines[:, 1])
    forward = align_matrix_2d(*midline_from_points(top, bottom), case.image.array.shape[2])
    affine = case.image.affine
    if line_of == "scan":
        back = np.eye(4)
        inverse = np.linalg.inv(forward[0].numpy())
        back[:2, :2], back[:2, 3] = inverse[:2, :2], inverse[:2, 2]
        affine = affine @ back
    moved = replace(
        case,
        image=Volume(_moved(case.image.array, forward, AIR_HU), affine),
        brain=_moved(case.brain, forward, 0.0),
        lesion=None if case.lesion is None else _moved(case.lesion, forward, 0.0),
        truth={},
    )
    return Aligned(moved, forward)
