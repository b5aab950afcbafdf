"""Working grids of the search for the mid-sagittal plane, and the mirror difference measured on them.

Thick slices need care: cut at an angle, the steps between them differ from side to side, and the smallest mirror
difference is then found along the slices, whatever the head's roll. Outlines between slices are therefore interpolated
as distances, tissue apart from them, and the finer levels look mostly near the plane, where a roll hardly leaves the
slice but moves falx and ventricles most. That also keeps a lateral infarct from pulling the plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from strokelib.data.cases import Volume
from strokelib.data.grids import AIR_HU, Grid, box_of, crop, resample, sample_on
from strokelib.nn.alignment import mirror, rigid_matrix_3d, warp_3d

WINDOW_HU = (0.0, 80.0)
OUTSIDE = 0.25  # the brain's surroundings in the window's unit interval: near tissue, so that outlines count little
ROBUST_WIDTH = 0.12
LEVELS_MM = (9.0, 5.0, 3.0)
SMOOTHING = 0.7  # voxels of each level; without it interpolation itself makes the cost rough
STRIDE = 1.5  # voxels of each level between two places compared
CENTRAL_STEPS = 5.0  # voxels of each finer level to either side of the plane that count most
LATERAL_WEIGHT = 0.02
_OUTLINE_MM = 1.5
_MARGIN_MM = 8.0
_REACH_MM = 40.0


@dataclass(frozen=True)
class MirrorLevel:
    """The brain on one working grid.

    Args:
        pair: (1, 2, d, h, w): the image, and how much of a voxel the scanner did not measure.
        to_voxel: (4, 4), millimetres from the brain's centroid to the pair's voxels.
        lattice: (4, 4), places compared to millimetres about the plane; symmetric in x.
        shape: Numbers of places (z, y, x).
        step_mm: Size of the working voxels.
    """

    pair: Tensor
    to_voxel: Tensor
    lattice: Tensor
    shape: tuple[int, int, int]
    step_mm: float

    def residuals(self, poses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mirror differences, weights and squared image of each pose: three (B, n), one side only."""
        zero = torch.zeros_like(poses[:, 0])
        angles, shift = torch.stack([zero, poses[:, 1], poses[:, 0]], 1), torch.stack([poses[:, 2], zero, zero], 1)
        matrix = self.to_voxel @ rigid_matrix_3d(angles, shift) @ self.lattice
        seen = warp_3d(self.pair.expand(len(poses), -1, -1, -1, -1), matrix, self.shape)
        image, unmeasured = seen[:, 0], seen[:, 1]
        half = self.shape[2] // 2
        weight = (1 - torch.maximum(unmeasured, mirror(unmeasured)))[..., :half].clamp(0, 1)
        if self.step_mm < LEVELS_MM[0]:
            from_plane = self.lattice[0, 0] * torch.arange(half) + self.lattice[0, 3]
            weight = weight * (LATERAL_WEIGHT + torch.exp(-((from_plane / (CENTRAL_STEPS * self.step_mm)) ** 2)))
        energy = (image**2 + mirror(image) ** 2)[..., :half]
        return (image - mirror(image))[..., :half].flatten(1), weight.flatten(1), energy.flatten(1)

    def cost(self, poses: Tensor) -> Tensor:
        """Robust mirror difference relative to the image's energy, (B,), in 0 to 2."""
        return mirror_cost(*self.residuals(poses))


def mirror_cost(difference: Tensor, weight: Tensor, energy: Tensor) -> Tensor:
    """Robust (Geman-McClure) sum of squared differences over the image's energy, (B,)."""
    robust = difference**2 / (1 + (difference / ROBUST_WIDTH) ** 2)
    return (weight * robust).sum(1) / (weight * energy).sum(1).clamp_min(1e-6)


def mirror_levels(volume: Volume, brain: np.ndarray) -> tuple[list[MirrorLevel], np.ndarray]:
    """Working grids from coarse to fine, and the brain's centroid in mm from the first voxel's centre, (x, y, z).

    Args:
        volume: Head CT in HU, axes at right angles.
        brain: (D, H, W) bool, not empty.
    """
    spacing = np.array(volume.spacing)
    # The margin along z is wide so that the crop ends where the field ends, if that is near.
    wide = np.maximum(_MARGIN_MM, [_REACH_MM, 0, 0])
    box = tuple(
        slice(max(0, part.start - int(more / s)), min(n, part.stop + int(more / s)))
        for part, more, s, n in zip(box_of(brain, 0.0, volume.spacing), wide, spacing, brain.shape, strict=True)
    )
    low, high = WINDOW_HU
    part, inside = crop(volume, box), brain[box].astype(np.float32)
    tissue = np.clip((part.array.astype(np.float32) - low) / (high - low), 0, 1)
    # A row without any signal is fill beside a tilted field, not air: a row through the head always holds some.
    fill = (volume.array[box[0], box[1]] <= AIR_HU).all(axis=2, keepdims=True)
    first = np.array([b.start for b in box[::-1]]) * spacing[::-1]
    sums = [inside.sum(axis=tuple(a for a in range(3) if a != axis), dtype=float) for axis in (2, 1, 0)]
    middle = [np.average(np.arange(len(w)), weights=w) * s for w, s in zip(sums, spacing[::-1], strict=True)]
    centroid = first + middle
    image, unmeasured = _brain_image(
        part.with_array(tissue * inside),
        part.with_array(inside),
        part.with_array(np.broadcast_to(fill, inside.shape).astype(np.float32)),
    )
    levels = []
    for mm in LEVELS_MM[::-1]:
        step = tuple(float(max(mm, s)) for s in image.spacing)
        image, unmeasured = resample(image, step), resample(unmeasured, step)
        levels.append(_level(image, unmeasured, volume, centroid, mm))
    return levels[::-1], centroid


def _brain_image(weighted: Volume, inside: Volume, unmeasured: Volume) -> tuple[Volume, Volume]:
    """Brain over its surroundings, and what was not measured, in slices hardly thicker than the finest level."""
    dz, dy, dx = weighted.spacing
    finest = LEVELS_MM[-1]
    if dz <= 1.25 * finest:
        return weighted.with_array(weighted.array - OUTSIDE * inside.array), unmeasured
    step = (dz, max(dy, _OUTLINE_MM), max(dx, _OUTLINE_MM))
    weighted, inside, unmeasured = (resample(v, step) for v in (weighted, inside, unmeasured))
    flat = (1e6, *inside.spacing[1:])
    core = inside.array > 0.5
    away = [
        ndimage.distance_transform_edt(m, sampling=flat) if m.any() and not m.all() else m * 99.0 for m in (core, ~core)
    ]
    distance = np.clip(away[0] - away[1], -3 * dz, 3 * dz).astype(np.float32)
    thin = Grid.of(resample(inside, (dz / np.ceil(dz / finest), *step[1:])))
    values, share, outline, lost = (
        sample_on(inside.with_array(a), thin, order=1, fill=0.0)
        for a in (weighted.array, inside.array, distance, unmeasured.array)
    )
    cover = np.clip(outline.array / _OUTLINE_MM + 0.5, 0, 1) * (share.array > 0.02)
    image = cover * (values.array / np.maximum(share.array, 0.02) - OUTSIDE)
    return outline.with_array(image.astype(np.float32)), lost


def _level(image: Volume, unmeasured: Volume, volume: Volume, centroid: np.ndarray, mm: float) -> MirrorLevel:
    pad = int(np.ceil(_REACH_MM / image.spacing[0]))
    pair = torch.stack(
        [
            functional.pad(
                torch.from_numpy(ndimage.gaussian_filter(v.array, SMOOTHING))[None], (0, 0, 0, 0, pad, pad), value=fill
            )[0]
            for v, fill in ((image, 0.0), (unmeasured, 1.0))
        ]
    )
    to_mm = np.diag([*volume.spacing[::-1], 1.0]) @ np.linalg.inv(volume.affine) @ image.affine
    to_mm[:3, 3] -= to_mm[:3, 2] * pad + centroid
    # The lattice is symmetric in x about the plane and covers the brain, not the padding.
    used = np.stack(
        [np.flatnonzero((pair[0] != 0).any(dim=a[0]).any(dim=a[1]))[[0, -1]] for a in ((1, 1), (0, 1), (0, 0))][::-1]
    )
    low, high = (
        to_mm[:3, :3] @ used[:, 0] + to_mm[:3, 3] - _MARGIN_MM,
        to_mm[:3, :3] @ used[:, 1] + to_mm[:3, 3] + _MARGIN_MM,
    )
    high[0] = max(high[0], -low[0])
    low[0] = -high[0]
    step = STRIDE * np.array(image.spacing[::-1])
    counts = np.ceil((high - low) / step).astype(int) + 1
    counts[0] += counts[0] % 2
    lattice = np.diag([*step, 1.0])
    lattice[:3, 3] = (low + high - step * (counts - 1)) / 2
    as_tensor = (torch.from_numpy(m).float() for m in (np.linalg.inv(to_mm), lattice))
    return MirrorLevel(pair[None].float(), *as_tensor, tuple(int(n) for n in counts[::-1]), mm)
