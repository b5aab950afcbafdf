"""How far an alignment leaves the head from upright: against the known planes of embedded heads.

A plane meets the slice through the middle of the field in a line. Its angle is that of Eq. 4 of Sun et al. 2024,
atan2(x_bottom - x_top, y_bottom - y_top) with x to the picture's right and y down; its shift says where it crosses the
middle row, in mm to the right of the middle column. An upright, centred head has 0 and 0. Matrices are those of T,
output -> input in voxels of the (pooled) grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from strokelib.adn.volumes import pooled_grid
from strokelib.data.cases import Case
from strokelib.data.grids import Grid
from strokelib.data.midsagittal import find_midplane, midplane_transform
from strokelib.errors import DataError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
Matrix = np.ndarray | Tensor
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


class LinePose(NamedTuple):
    """Where the mid-sagittal line lies: angle in degrees and shift in mm from the field's middle."""

    angle_deg: float
    shift_mm: float


class PoseError(NamedTuple):
    """What an alignment leaves, signed; 0 is upright.

    Args:
        angle_deg: Angle between the head's line and the picture's vertical axis.
        shift_mm: Way from the picture's axis to the head's plane, to the right, at the brain's centre.
        roll_deg: Lean of the head's plane in depth; no alignment in plane can undo it. Positive as in
            :class:`strokelib.data.phantom.scanner.Pose`.
    """

    angle_deg: float
    shift_mm: float
    roll_deg: float


def _to_mm(spacing: Spacing, shape: Shape) -> np.ndarray:
    """(4, 4): voxels (x, y, z, 1) to mm from the middle of the field, along the array's axes."""
    steps = np.array(spacing[::-1], float)
    return np.vstack([np.c_[np.diag(steps), -steps * (np.array(shape[::-1]) - 1) / 2], [0, 0, 0, 1]])


def _checked_matrix(matrix: Matrix) -> np.ndarray:
    values = torch.as_tensor(matrix).detach().cpu().double().numpy()
    if values.shape != (4, 4) or not np.isfinite(values).all() or abs(np.linalg.det(values)) < 1e-9:
        raise ParameterError(
            "matrix",
            found=f"shape {values.shape}",
            wanted="an invertible (4, 4), output -> input in voxels",
            next_step="give the matrix of one case",
        )
    return values


def _known_plane(case: Case, grid: Grid) -> np.ndarray:
    """(4,) (n, -d) with n . x = d the head's mirror plane in mm from the grid's middle, n to the picture's right."""
    plane = case.facts.get("midline_plane")
    if plane is None:
        step = "measure poses on embedded heads"
        raise DataError(f"case {case.id}", found="no known plane", wanted="an embedded case", next_step=step)
    in_world = np.array([*plane[:3], -plane[3]], float)
    return _unit(in_world @ grid.affine @ np.linalg.inv(_to_mm(grid.spacing, grid.shape)))


def _unit(plane: np.ndarray) -> np.ndarray:
    return plane / (np.linalg.norm(plane[:3]) * (1 if plane[0] > 0 else -1))


def _line(plane: np.ndarray, y: float = 0.0, z: float = 0.0) -> LinePose:
    """The line of a plane: its angle, and its x in the row y of the level z, in mm."""
    angle = np.rad2deg(np.arctan2(-plane[1], plane[0]))
    return LinePose(float(angle), float(-(plane[1] * y + plane[2] * z + plane[3]) / plane[0]))


def true_pose(case: Case, pool: int = 1) -> LinePose:
    """How the head lies in its field.

    Args:
        case: An embedded case.
        pool: As in :func:`strokelib.adn.volumes.heads_of`; matters only where its padding moves the field's middle.

    Raises:
        DataError: The case knows no plane.
    """
    return _line(_known_plane(case, pooled_grid(case, pool)))


def pose_of_matrix(matrix: Matrix, spacing: Spacing, shape: Shape) -> LinePose:
    """Where an alignment takes the head to lie: the line that it makes the middle column.

    A perfect alignment of a head without roll gives :func:`true_pose`.

    Args:
        matrix: (4, 4), output -> input in voxels.
        spacing: (dz, dy, dx) in mm.
        shape: (D, H, W).

    Raises:
        ParameterError: The matrix is not (4, 4), or has no inverse.
    """
    to_mm = _to_mm(spacing, shape)
    back = to_mm @ np.linalg.inv(_checked_matrix(matrix)) @ np.linalg.inv(to_mm)
    return _line(_unit(back[0]))


def residual_pose(case: Case, matrix: Matrix, pool: int = 1) -> PoseError:
    """What an alignment leaves of the head's angle and shift, and the roll that it cannot touch.

    The known plane is brought through the matrix; angle and shift are those of the moved plane against the picture's
    vertical axis, the shift at the centroid of the brain. A shift along the midline costs nothing.

    Args:
        case: An embedded case with a brain mask.
        matrix: (4, 4), output -> input in voxels of the pooled grid.
        pool: As in :func:`strokelib.adn.volumes.heads_of`.

    Raises:
        DataError: The case knows no plane, or has no brain.
        ParameterError: The matrix is not (4, 4), or has no inverse.
    """
    if case.brain is None or not case.brain.any():
        raise DataError(f"case {case.id}", found="no brain", wanted="a brain mask", next_step="strip the skull first")
    grid = pooled_grid(case, pool)
    to_mm = _to_mm(grid.spacing, grid.shape)
    move = to_mm @ _checked_matrix(matrix) @ np.linalg.inv(to_mm)
    plane = _unit(_known_plane(case, grid) @ move)
    centroid = case.image.affine @ np.append(np.argwhere(case.brain).mean(axis=0)[::-1], 1.0)
    centre = np.linalg.inv(move) @ to_mm @ np.linalg.inv(grid.affine) @ centroid
    roll = float(np.rad2deg(np.arcsin(np.clip(plane[2], -1, 1))))
    return PoseError(*_line(plane, float(centre[1]), float(centre[2])), roll)


def classical_matrix(case: Case, pool: int = 1) -> np.ndarray:
    """The alignment of the classical symmetry search, in plane alone: it can stand in T's place.

    Args:
        case: A case with a brain mask, real or embedded.
        pool: As in :func:`strokelib.adn.volumes.heads_of`.

    Returns:
        (4, 4) float64, output -> input in voxels of the pooled grid; up and down the field stays where it was.

    Raises:
        DataError: No brain mask.
    """
    if case.brain is None:
        raise DataError(f"case {case.id}", found="no brain", wanted="a brain mask", next_step="strip the skull first")
    transform = midplane_transform(case.image, find_midplane(case.image, case.brain.astype(bool), roll=False))
    grid = pooled_grid(case, pool)
    upright = Grid.centred(grid.shape, grid.spacing, transform.target.centre)
    return np.linalg.inv(grid.affine) @ transform.matrix @ upright.affine


def classical_pose(case: Case, pool: int = 1) -> PoseError:
    """What the classical search in plane leaves: :func:`residual_pose` of :func:`classical_matrix`."""
    return residual_pose(case, classical_matrix(case, pool), pool)


def classical_matrices(cases: Sequence[Case], pool: int = 1) -> dict[str, np.ndarray]:
    """:func:`classical_matrix` of each case, by its name."""
    return {case.id: classical_matrix(case, pool) for case in cases}


def identity_matrices(cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """No alignment: the identity for each case, by its name."""
    return {case.id: np.eye(4) for case in cases}


def pose_errors(cases: Sequence[Case], matrices: Mapping[str, Mapping[str, Matrix]], *, pool: int = 1) -> pd.DataFrame:
    """Errors of several alignments on the same heads.

    Args:
        cases: Embedded cases with brain masks.
        matrices: Name of an alignment -> name of a case -> (4, 4), output -> input in voxels of the pooled grid.
        pool: As in :func:`strokelib.adn.volumes.heads_of`.

    Returns:
        One row an alignment and case: ``alignment``, ``case``, ``anatomy`` and, all without sign, ``angle_deg``,
        ``shift_mm`` and ``roll_deg``.

    Raises:
        DataError: An alignment lacks a case, or a case knows no plane or has no brain.
    """
    import pandas as pd

    rows = []
    for alignment, found in matrices.items():
        for case in cases:
            if case.id not in found:
                step = "align every case, or give fewer cases"
                raise DataError(f"alignment {alignment}", found=f"no {case.id}", wanted="a matrix", next_step=step)
            error = residual_pose(case, found[case.id], pool)._asdict()
            row = {"alignment": alignment, "case": case.id, "anatomy": case.facts.get("anatomy")}
            rows.append(row | {name: abs(value) for name, value in error.items()})
    return pd.DataFrame(rows, columns=["alignment", "case", "anatomy", *PoseError._fields])
