"""Seeded random numbers, smooth random fields and sampling of volumes at points in millimetres."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F


def case_seed(case_id: str) -> int:
    """The seed of a case: 48 bits of a hash of its name, so that no list order enters.

    Args:
        case_id: Name of the case, e.g. ``aisd-0001``.
    """
    return int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:6], "big")


def generator(seed: int, stream: str) -> np.random.Generator:
    """An independent generator for each purpose (``stream``) of one seed."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *stream.encode()])))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one torch thread, so that the bytes do not depend on how many there are; restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Lattice:
    """A regular grid in a right-anterior-superior frame, stored as (z, y, x) in LPS order.

    Args:
        corner: RAS millimetres of voxel (0, 0, 0).
        step: Distance of neighbours in mm; x and y fall with their index, z grows.
        shape: (D, H, W).
    """

    corner: tuple[float, float, float]
    step: float
    shape: tuple[int, int, int]

    def axes(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """RAS coordinates in mm, shaped to broadcast: x (1, 1, W), y (1, H, 1), z (D, 1, 1)."""
        depth, height, width = self.shape
        x = self.corner[0] - self.step * torch.arange(width, dtype=torch.float32)
        y = self.corner[1] - self.step * torch.arange(height, dtype=torch.float32)
        z = self.corner[2] + self.step * torch.arange(depth, dtype=torch.float32)
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def normalised(self, points: torch.Tensor) -> torch.Tensor:
        """Points (3, N) in RAS mm as ``grid_sample`` coordinates (N, 3); -1 and 1 are the outermost voxel centres."""
        depth, height, width = self.shape
        x = (self.corner[0] - points[0]) * (2.0 / (self.step * (width - 1))) - 1.0
        y = (self.corner[1] - points[1]) * (2.0 / (self.step * (height - 1))) - 1.0
        z = (points[2] - self.corner[2]) * (2.0 / (self.step * (depth - 1))) - 1.0
        return torch.stack((x, y, z), dim=-1)

    def holds(self, points: torch.Tensor, low: Sequence[float], high: Sequence[float]) -> torch.Tensor:
        """Which of the points lie on the lattice, as an index.

        Args:
            points: (3, N) RAS mm.
            low: Their smallest x, y, z.
            high: Their largest.
        """
        first = [c - (n - 1) * self.step for c, n in zip(self.corner[:2], self.shape[:0:-1], strict=True)]
        ends = ((first[0], self.corner[0]), (first[1], self.corner[1]), (self.corner[2], self._top))
        if any(high[axis] < start or low[axis] > end for axis, (start, end) in enumerate(ends)):
            return torch.empty(0, dtype=torch.long)
        within = torch.ones(points.shape[1], dtype=torch.bool)
        for axis, (start, end) in enumerate(ends):
            within &= (points[axis] >= start) & (points[axis] <= end)
        return within.nonzero()[:, 0]

    @property
    def _top(self) -> float:
        return self.corner[2] + (self.shape[0] - 1) * self.step

    def sample(self, volume: torch.Tensor, points: torch.Tensor, *, outside: str = "border") -> torch.Tensor:
        """Read ``volume`` (C, D, H, W) at ``points`` (3, N) in mm by trilinear interpolation.

        Args:
            volume: Values on this lattice.
            points: RAS millimetres.
            outside: ``border`` repeats the outermost voxels, ``zeros`` reads 0.

        Returns:
            (C, N) values.
        """
        grid = self.normalised(points)[None, None, None]
        return F.grid_sample(volume[None], grid, mode="bilinear", padding_mode=outside, align_corners=True)[0, :, 0, 0]


@lru_cache(maxsize=64)
def _spline_matrix(count: int, step: float, spacing: float) -> torch.Tensor:
    """Cubic B-spline basis (count, controls) at ``step * k``, scaled so that white noise gets unit variance."""
    position = np.arange(count) * (step / spacing)
    controls = int(np.ceil(position[-1])) + 4
    t = np.abs(position[:, None] - (np.arange(controls)[None] - 1.0))
    basis = np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    return torch.from_numpy((basis / np.sqrt((basis**2).sum(axis=1, keepdims=True))).astype(np.float32))


def smooth_field(
    rng: np.random.Generator, lattice: Lattice, spacing_mm: float, *, asymmetric: float = 1.0, band: bool = False
) -> torch.Tensor:
    """A Gaussian random field of mean 0 and variance 1: coarse white noise upsampled by cubic B-splines.

    Args:
        rng: Source of the noise.
        lattice: Where the field is wanted; its x axis must be centred on 0 for a mirrored share.
        spacing_mm: Distance of the control points; the correlation length is about 0.8 of it.
        asymmetric: Share of the variance, 0 to 1, that is drawn for each side alone.
        band: Remove the slow part, so that the sheets where the field is zero lie at regular distances.

    Returns:
        (D, H, W) float32.
    """
    bases = [_spline_matrix(n, lattice.step, spacing_mm) for n in lattice.shape]
    noise = torch.from_numpy(rng.standard_normal([b.shape[1] for b in bases], dtype=np.float32))
    if band:
        noise = noise - F.avg_pool3d(F.pad(noise[None, None], (1,) * 6, mode="replicate"), 3, stride=1)[0, 0]
    field = torch.einsum("dhw,xw->dhx", noise, bases[2])
    field = torch.einsum("dhx,yh->dyx", field, bases[1])
    field = torch.einsum("dyx,zd->zyx", field, bases[0])
    if asymmetric >= 1.0:
        return field
    mirrored = field.flip(-1)
    return (0.5 * (1 - asymmetric)) ** 0.5 * (field + mirrored) + (0.5 * asymmetric) ** 0.5 * (field - mirrored)


def blur(volume: torch.Tensor, source: Lattice, target: Lattice, sigma_mm: float) -> torch.Tensor:
    """Gaussian blur of a volume on ``source``, read off on ``target``; zero outside ``source``.

    Args:
        volume: (D, H, W) on ``source``.
        source: Its lattice.
        target: Where the result is wanted.
        sigma_mm: Width of the Gaussian in mm; at least half of the source's step.

    Returns:
        (D, H, W) on ``target``.
    """
    out = volume
    for at, to, equation in zip(
        source.axes(), target.axes(), ("zyx,tx->zyt", "zyx,ty->ztx", "zyx,tz->tyx"), strict=True
    ):
        distance = to.reshape(-1, 1) - at.reshape(1, -1)
        kernel = torch.exp(-0.5 * (distance / sigma_mm) ** 2) * (source.step / (sigma_mm * (2 * torch.pi) ** 0.5))
        out = torch.einsum(equation, out, kernel)
    return out
