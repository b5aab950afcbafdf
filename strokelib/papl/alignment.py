"""The symmetry transform of one slice in its steps, as Fig. 3 of the paper shows it, and how symmetric each step is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokelib.nn.alignment import align_matrix_2d, midline_from_points, midline_shift, mirror, warp_2d

VERSION = 1
AIR_HU = -1000.0


@dataclass(frozen=True)
class Step:
    """One state of a slice on its way.

    Args:
        name: What was done.
        image_hu: (H, W) in HU.
        brain: (H, W) bool.
        top: (x, y) of the line's upper end in voxels.
        bottom: (x, y) of its lower end.
        angle_deg: What is left of the line's angle.
        offset_voxels: What is left of the way from the line's middle to the middle column.
        mirror_difference_hu: Mean absolute difference to the mirror image where both sides are brain.
    """

    name: str
    image_hu: np.ndarray
    brain: np.ndarray
    top: tuple[float, float]
    bottom: tuple[float, float]
    angle_deg: float
    offset_voxels: float
    mirror_difference_hu: float


def _step(name: str, image: Tensor, brain: Tensor, matrix: Tensor, ends: Tensor) -> Step:
    moved = warp_2d(image, matrix[None], fill=AIR_HU)[0, 0]
    inside = warp_2d(brain, matrix[None], fill=0.0)[0, 0] > 0.5
    points = (matrix @ torch.cat((ends, torch.ones(2, 1, dtype=ends.dtype)), 1).T).T[:, :2]
    centre, angle = midline_from_points(points[0], points[1])
    both = inside & mirror(inside)
    difference = (moved.clamp(0, 80) - mirror(moved.clamp(0, 80))).abs()
    return Step(
        name=name,
        image_hu=moved.numpy(),
        brain=inside.numpy(),
        top=(float(points[0, 0]), float(points[0, 1])),
        bottom=(float(points[1, 0]), float(points[1, 1])),
        angle_deg=float(torch.rad2deg(angle)),
        offset_voxels=float(midline_shift(centre, moved.shape[1])),
        mirror_difference_hu=float(difference[both].mean()) if bool(both.any()) else float("nan"),
    )


def alignment_steps(image_hu: np.ndarray, brain: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> tuple[Step, ...]:
    """A slice as scanned, turned, and turned and shifted.

    Source: Eqs 1-5 and Fig. 3, Sun et al. 2024.
    Deviation: none beyond those of :mod:`strokelib.nn.alignment`.

    Args:
        image_hu: (H, W) in HU, LPS order.
        brain: (H, W) bool.
        top: (x, y) of the mid-sagittal line's upper end in voxels.
        bottom: (x, y) of its lower end.

    Returns:
        Three steps; the last is the aligned slice.
    """
    image = torch.from_numpy(np.asarray(image_hu, np.float32))[None, None]
    inside = torch.from_numpy(np.asarray(brain, np.float32))[None, None]
    ends = torch.from_numpy(np.stack([top, bottom]).astype(np.float64))
    centre, angle = midline_from_points(ends[0], ends[1])
    whole = align_matrix_2d(centre, angle, image_hu.shape[1])
    turn = whole.clone()
    turn[0, 2] -= midline_shift(centre, image_hu.shape[1])
    identity = torch.eye(3, dtype=torch.float64)
    return tuple(
        _step(name, image, inside, matrix, ends)
        for name, matrix in (("as scanned", identity), ("turned by alpha", turn), ("shifted by d", whole))
    )
