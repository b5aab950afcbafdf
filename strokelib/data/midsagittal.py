"""The mid-sagittal plane of a head CT, and the upright head that follows from it.

A plane has three numbers: the in-plane turn, the roll and the left-right shift. They are found by making the brain
equal to its mirror image: batched Gauss-Newton on the mirror difference, many starts on a coarse grid, few on finer
ones. No network, nothing to train. The papers use a midline network (PAPL) or a learnt transformer (ADN); both of
those turn in plane only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokelib.data.cases import Volume
from strokelib.data.grids import Grid, Transform, rectify
from strokelib.data.mirrorlevels import ROBUST_WIDTH, MirrorLevel, mirror_cost, mirror_levels
from strokelib.data.skullstrip import skull_strip
from strokelib.errors import DataError
from strokelib.nn.alignment import rigid_matrix_3d

VERSION = 1
ITERATIONS = (6, 6, 6)
KEPT = (2, 1, 1)
START_TURNS_DEG = (-21.0, -7.0, 7.0, 21.0)
START_ROLLS_DEG = (-7.0, 7.0)
MIN_ROLL_HEIGHT_MM = 40.0
_LEVER_MM = 60.0


@dataclass(frozen=True)
class Midplane:
    """A mid-sagittal plane in a volume's own upright frame: x, y, z along the array's axes (left, posterior, superior).

    Args:
        turn_deg: In-plane turn about z; the angle alpha of Eq. 4 of Sun et al. 2024 with the other sign.
        roll_deg: Turn about y.
        shift_mm: Way along x from the brain's centroid to the plane.
        centroid_mm: (x, y, z) of the brain's centroid from the first voxel's centre.
        before: Mirror difference about the field's own middle column, relative to the image's energy.
        after: The same about the plane found.
    """

    turn_deg: float
    roll_deg: float
    shift_mm: float
    centroid_mm: tuple[float, float, float]
    before: float
    after: float

    def matrix(self) -> np.ndarray:
        """(4, 4), upright millimetres about the plane to millimetres of the array's frame (output -> input)."""
        angles = torch.deg2rad(torch.tensor([[0.0, self.roll_deg, self.turn_deg]], dtype=torch.float64))
        move = rigid_matrix_3d(angles, torch.tensor([[self.shift_mm, 0.0, 0.0]], dtype=torch.float64))[0].numpy()
        move[:3, 3] += self.centroid_mm
        return move

    @classmethod
    def of_field(cls, volume: Volume) -> Midplane:
        """The plane through the field's own middle column, neither turned nor rolled; nothing is measured (NaN)."""
        middle = (np.array(volume.array.shape[::-1]) - 1) / 2 * volume.spacing[::-1]
        return cls(0.0, 0.0, 0.0, tuple(float(v) for v in middle), float("nan"), float("nan"))


def _own_middle(volume: Volume) -> float:
    return (volume.array.shape[2] - 1) / 2 * volume.spacing[2]


def _descend(level: MirrorLevel, poses: Tensor, iterations: int, free: Tensor) -> tuple[Tensor, Tensor]:
    """Damped Gauss-Newton from each pose at once; a step that makes things worse is taken back. Poses and costs."""
    steps = free * torch.tensor([0.25 / _LEVER_MM, 0.25 / _LEVER_MM, 0.25]) * level.step_mm
    count, safe = len(poses), steps.clamp_min(1e-6)
    kept, cost = poses.clone(), torch.full((count,), torch.inf)
    gradient, hessian = torch.zeros(count, 3), torch.eye(3).repeat(count, 1, 1)
    damping = torch.full((count,), 1e-2)
    probes = torch.cat([torch.zeros(1, 3), torch.diag(steps), -torch.diag(steps)])
    for _ in range(iterations + 1):
        difference, weight, energy = level.residuals((poses[:, None] + probes).flatten(0, 1))
        costs = mirror_cost(difference, weight, energy).view(count, 7)
        difference, weight, total = (
            difference.view(count, 7, -1),
            weight[::7],
            (weight * energy)[::7].sum(1).clamp_min(1e-6),
        )
        better = costs[:, 0] < cost
        slope = (difference[:, 1:4] - difference[:, 4:]) / (2 * safe[:, None])
        trust = weight / (1 + (difference[:, 0] / ROBUST_WIDTH) ** 2) ** 2
        curve = 2 * (slope * trust[:, None]) @ slope.transpose(1, 2) / total[:, None, None]
        # The slope of the cost itself, not of its residuals: it also knows what leaves the field.
        fall = (costs[:, 1:4] - costs[:, 4:]) / (2 * safe)
        kept[better], cost[better], gradient[better], hessian[better] = (
            poses[better],
            costs[better, 0],
            fall[better],
            curve[better],
        )
        damping = torch.where(better, damping * 0.3, damping * 10)
        scale = torch.diag_embed(hessian.diagonal(dim1=1, dim2=2) * damping[:, None] + 1e-9)
        move = torch.linalg.solve(hessian + scale, gradient * free) * free
        poses = kept - move
        if bool((move.abs() < 0.04 * steps + 1e-9).all()):
            break
    return kept, cost


def find_midplane(volume: Volume, brain: np.ndarray, *, roll: bool = True) -> Midplane:
    """The mid-sagittal plane of a brain.

    Args:
        volume: Head CT in HU, LPS order, axes at right angles.
        brain: (D, H, W) bool.
        roll: Look for a roll as well; never done where less than 40 mm of the brain were scanned. In slices of 5 mm and
            more it is uncertain by some degrees, at worst about half a slice at the brain's edge.

    Returns:
        Turn within about 30 degrees, roll within about 20, shift in mm, and the mirror difference before and after.

    Raises:
        DataError: An empty mask, or a mask of another shape.
    """
    if brain.shape != volume.array.shape or not brain.any():
        found = f"shape {brain.shape}, {int(brain.sum())} voxels"
        raise DataError(
            "brain mask", found=found, wanted=f"a mask of shape {volume.array.shape}", next_step="strip it first"
        )
    height = float(brain.any(axis=(1, 2)).sum() * volume.spacing[0])
    roll = roll and height >= MIN_ROLL_HEIGHT_MM
    levels, centroid = mirror_levels(volume, brain)
    free = torch.tensor([1.0, float(roll), 1.0])
    rolls = START_ROLLS_DEG if roll else (0.0,)
    poses = torch.tensor(
        [[np.deg2rad(t), np.deg2rad(r), 0.0] for t in START_TURNS_DEG for r in rolls], dtype=torch.float32
    )
    for level, iterations, keep in zip(levels, ITERATIONS, KEPT, strict=True):
        poses, costs = _descend(level, poses, iterations, free)
        poses = poses[costs.argsort()[:keep]]
    scanner = torch.tensor([0.0, 0.0, _own_middle(volume) - centroid[0]], dtype=torch.float32)
    before, after = levels[-1].cost(torch.stack([scanner, poses[0]]))
    turn, lean, shift = (float(v) for v in poses[0])
    centre = tuple(float(v) for v in centroid)
    return Midplane(float(np.rad2deg(turn)), float(np.rad2deg(lean)), shift, centre, float(before), float(after))


def midplane_transform(volume: Volume, plane: Midplane) -> Transform:
    """The rigid move that makes a plane the middle column; aligned millimetres have x = 0 in the plane.

    Args:
        volume: The volume in which the plane was found.
        plane: Its plane.

    Returns:
        Onto a grid of the volume's own shape and spacing; y and z stay centred on the volume's field.
    """
    spacing = np.array(volume.spacing[::-1])
    u, _, vt = np.linalg.svd(volume.affine[:3, :3] / spacing)
    frame = np.eye(4)
    frame[:3, :3] = u @ vt
    pivot = np.array(plane.centroid_mm)
    frame[:3, 3] = volume.affine[:3, :3] @ (pivot / spacing) + volume.affine[:3, 3] - frame[:3, :3] @ pivot
    matrix = frame @ plane.matrix() @ np.diag([-1.0, -1.0, 1.0, 1.0])
    middle = (np.array(volume.array.shape[::-1]) - 1) / 2 * spacing - pivot
    target = Grid.centred(volume.array.shape, volume.spacing, np.array([0.0, -middle[1], middle[2]]))
    return Transform(matrix, Grid.of(volume), target)


def align_midsagittal(
    volume: Volume, brain: np.ndarray | None = None, *, roll: bool = True, order: int = 1
) -> tuple[Volume, Transform]:
    """Turn, roll and shift a head so that its mid-sagittal plane is the middle column of the array.

    Source: aim of Eqs 1-5, Sun et al. 2024, and of T in Eq. 1, Ni et al. 2022.
    Deviation: one rigid 3-D move a scan, found without a network and with roll; the papers move each slice, or turn
        in plane only.

    Args:
        volume: Head CT in HU, LPS order; a sheared grid is set upright first.
        brain: (D, H, W) bool on the volume's grid; stripped here where None.
        roll: Correct the roll too, which mixes neighbouring slices; False keeps every slice a slice.
        order: 1 linear or 3 cubic.

    Returns:
        The aligned volume, and the transform with its exact inverse.

    Raises:
        DataError: The brain cannot be found, or the mask does not fit.
    """
    upright = rectify(volume)
    if brain is None or upright is not volume:
        brain = skull_strip(upright)[0]
    transform = midplane_transform(upright, find_midplane(upright, brain, roll=roll))
    return transform.apply(upright, order), transform
