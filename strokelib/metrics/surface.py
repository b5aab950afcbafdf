"""Distances between two surfaces, measured once. Definitions and the policy for empties: :mod:`strokelib.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from strokelib.errors import ParameterError
from strokelib.metrics.masks import Empty, Status, checked_masks, checked_name, checked_spacing, cropped, status_of

Undefined = Literal["nan", "penalised"]
Convention = Literal["pooled", "max_directed"]

# A distance transform costs about 100 ns a voxel of the box, a k-d tree about 600 ns a surface voxel of either mask.
VOXELS_PER_POINT = 6
# A distance of exactly the tolerance, such as 2 mm made of 1.2 and 1.6 mm, must not be lost to the last bit.
ROUNDING_MM = 1e-6


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distance of each surface voxel of one mask to the nearest surface voxel of the other.

    Args:
        pred_to_truth_mm: (n,), a value for each surface voxel of the prediction; all NaN where the reference is empty.
        truth_to_pred_mm: (m,), a value for each surface voxel of the reference; all NaN where the prediction is empty.
        diagonal_mm: Length of the image's diagonal, from edge to edge.
    """

    pred_to_truth_mm: np.ndarray
    truth_to_pred_mm: np.ndarray
    diagonal_mm: float

    @property
    def status(self) -> Status:
        """Which of the four cases the two masks make."""
        return status_of(len(self.pred_to_truth_mm), len(self.truth_to_pred_mm))

    @property
    def both_mm(self) -> np.ndarray:
        """(n + m,), the two directions together."""
        return np.concatenate((self.pred_to_truth_mm, self.truth_to_pred_mm))

    def undefined_mm(self, undefined: Undefined) -> float:
        """What stands for a distance that does not exist: NaN, or the penalty.

        Raises:
            ParameterError: ``undefined`` is another word than ``nan`` or ``penalised``.
        """
        if checked_name("undefined", undefined, ("nan", "penalised")) == "nan":
            return float("nan")
        return 0.0 if self.status == "both_empty" else self.diagonal_mm


def surface_distances(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure both directions once; every surface score is made from the result.

    Args:
        pred: Predicted mask, (D, H, W).
        truth: Reference mask, (D, H, W).
        spacing: (dz, dy, dx) in mm.

    Returns:
        Distances in mm, 0 or more.

    Raises:
        DataError: The shapes differ or a mask is not binary.
        ParameterError: The spacing is not one positive number for each axis.
    """
    pred, truth = checked_masks(pred, truth)
    return measured(*cropped(pred, truth), checked_spacing(spacing, pred.ndim), pred.shape)


def hd_mm(distances: SurfaceDistances, *, undefined: Undefined = "nan") -> float:
    """Hausdorff distance in mm: the largest distance of either direction.

    Source: Eq. 17, Wang et al. 2020.
    Deviation: the paper leaves empty masks open; here NaN, or the image's diagonal with ``undefined="penalised"``.

    Args:
        distances: What :func:`surface_distances` returned.
        undefined: ``nan`` or ``penalised``, for empty masks.

    Returns:
        0 or more, in mm; NaN where undefined.

    Raises:
        ParameterError: ``undefined`` is another word.
    """
    missing_mm = distances.undefined_mm(undefined)
    return float(distances.both_mm.max()) if distances.status == "ok" else missing_mm


def hd95_mm(
    distances: SurfaceDistances,
    convention: Convention = "pooled",
    *,
    undefined: Undefined = "nan",
    percentile: float = 95.0,
) -> float:
    """The 95th percentile Hausdorff distance in mm, in the named convention, linear between ranks.

    Args:
        distances: What :func:`surface_distances` returned.
        convention: ``pooled`` (that of MedPy) or ``max_directed`` (that of MONAI).
        undefined: ``nan`` or ``penalised``, for empty masks.
        percentile: In [0, 100].

    Returns:
        0 or more and at most the Hausdorff distance, in mm; NaN where undefined.

    Raises:
        ParameterError: A convention is not known or the percentile is out of range.
    """
    missing_mm = distances.undefined_mm(undefined)
    pooled = checked_name("convention", convention, ("pooled", "max_directed")) == "pooled"
    if not 0 <= percentile <= 100:
        raise ParameterError("percentile", found=percentile, wanted="0 to 100", next_step="pass 95 for HD95")
    if distances.status != "ok":
        return missing_mm
    sets = [distances.both_mm] if pooled else [distances.pred_to_truth_mm, distances.truth_to_pred_mm]
    return max(float(np.percentile(values, percentile)) for values in sets)


def assd_mm(distances: SurfaceDistances, *, undefined: Undefined = "nan") -> float:
    """Average symmetric surface distance in mm: the mean over both directions' distances together.

    Source: Eq. 18, Wang et al. 2020.
    Deviation: the paper leaves empty masks open; here NaN, or the image's diagonal with ``undefined="penalised"``.

    Args:
        distances: What :func:`surface_distances` returned.
        undefined: ``nan`` or ``penalised``, for empty masks.

    Returns:
        0 or more and at most the Hausdorff distance, in mm; NaN where undefined.

    Raises:
        ParameterError: ``undefined`` is another word.
    """
    missing_mm = distances.undefined_mm(undefined)
    return float(distances.both_mm.mean()) if distances.status == "ok" else missing_mm


def surface_dice(distances: SurfaceDistances, tolerance_mm: float, *, empty: Empty = "nan") -> float:
    """Surface Dice: the share of both surfaces' voxels that lie within a tolerance of the other surface.

    ``(|{p: d(p, T) <= tolerance}| + |{t: d(t, P) <= tolerance}|) / (n + m)``, counted in surface voxels as MONAI does
    it; the package surface-distance weights each by the area it stands for, which gives another number.

    Args:
        distances: What :func:`surface_distances` returned.
        tolerance_mm: 0 or more, in mm; what lies exactly at it is within.
        empty: What two empty masks score: ``nan`` or ``isles`` (1). One empty mask scores 0.

    Returns:
        A score in [0, 1], or NaN.

    Raises:
        ParameterError: The tolerance is negative or ``empty`` is another word.
    """
    checked_name("empty", empty, ("nan", "isles"))
    if not tolerance_mm >= 0:
        raise ParameterError("tolerance_mm", found=tolerance_mm, wanted="0 or more", next_step="pass 2 for 2 mm")
    if distances.status == "both_empty":
        return 1.0 if empty == "isles" else float("nan")
    both = distances.both_mm
    return float(np.count_nonzero(both <= tolerance_mm + ROUNDING_MM) / len(both))


def measured(pred: np.ndarray, truth: np.ndarray, spacing_mm: np.ndarray, shape: tuple[int, ...]) -> SurfaceDistances:
    """The distances of two boxes of :func:`strokelib.metrics.masks.cropped`, cut from an image of ``shape``."""
    diagonal_mm = float(np.linalg.norm(spacing_mm * shape))
    steps_mm = np.concatenate((np.ones(3 - len(spacing_mm)), spacing_mm))
    surfaces = [_surface(mask, len(shape)) for mask in (pred, truth)]
    voxels = [np.flatnonzero(surface) for surface in surfaces]
    n_voxels = [len(v) for v in voxels]
    if not all(n_voxels):
        return SurfaceDistances(np.full(n_voxels[0], np.nan), np.full(n_voxels[1], np.nan), diagonal_mm)
    nearest_mm = _by_tree if surfaces[0].size > VOXELS_PER_POINT * sum(n_voxels) else _by_transform
    forth_mm, back_mm = (nearest_mm(surfaces[b], voxels[b], voxels[a], steps_mm) for a, b in ((0, 1), (1, 0)))
    return SurfaceDistances(forth_mm, back_mm, diagonal_mm)


def _surface(mask: np.ndarray, ndim: int) -> np.ndarray:
    """Voxels with a face neighbour, along the image's ``ndim`` axes, outside; the empty voxel around is left away."""
    core = mask[1:-1, 1:-1, 1:-1]
    inside = core.copy()
    neighbours = (
        (mask[:-2, 1:-1, 1:-1], mask[2:, 1:-1, 1:-1]),
        (mask[1:-1, :-2, 1:-1], mask[1:-1, 2:, 1:-1]),
        (mask[1:-1, 1:-1, :-2], mask[1:-1, 1:-1, 2:]),
    )
    for before, after in neighbours[3 - ndim :]:
        inside &= before
        inside &= after
    return core & ~inside


def _by_transform(surface: np.ndarray, voxels: np.ndarray, asked: np.ndarray, steps_mm: np.ndarray) -> np.ndarray:
    """Distance of the voxels asked for to the surface, from a distance transform of the whole box."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~surface, sampling=steps_mm).ravel()[asked]


def _by_tree(surface: np.ndarray, voxels: np.ndarray, asked: np.ndarray, steps_mm: np.ndarray) -> np.ndarray:
    """Distance of the voxels asked for to the surface, from a k-d tree; those that lie on it are not searched."""
    from scipy.spatial import cKDTree

    apart = ~surface.ravel()[asked]
    points, queries = (np.stack(np.unravel_index(v, surface.shape), axis=1) * steps_mm for v in (voxels, asked[apart]))
    nearest_mm = np.zeros(len(asked))
    nearest_mm[apart] = cKDTree(points, leafsize=32, balanced_tree=False, compact_nodes=False).query(queries)[0]
    return nearest_mm
