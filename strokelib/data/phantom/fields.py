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


@contextmanager
def flushed(really: bool = True) -> Iterator[None]:
    """Numbers too small for float32's full precision (below 1e-38) are taken as 0: with them a product takes up to ten
    times as long. What was set before is restored afterwards; nothing is done where not ``really``."""
    if not really:
        yield
        return
    before = float(torch.tensor(torch.finfo(torch.float32).tiny) * 0.5) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


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
        return torch.stack((x, y, z)).t()  # strided: as quick to read, and quicker to make than side by side

    def holds(self, points: torch.Tensor, low: Sequence[float], high: Sequence[float]) -> torch.Tensor:
        """Which of the points lie on the lattice, as an index.

        Args:
            points: (3, N) RAS mm.
            low: Their smallest x, y, z.
            high: Their largest.
        """
        if any(high[axis] < start or low[axis] > end for axis, (start, end) in enumerate(self.ends)):
            return torch.empty(0, dtype=torch.long)
        return chosen(self.near(points, 0.0).numpy())

    def near(self, points: torch.Tensor, margin_mm: float) -> torch.Tensor:
        """Which points (3, ...) in RAS mm lie on the lattice or at most ``margin_mm`` beyond an end, as a mask."""
        within = np.ones(points.shape[1:], bool)
        for at, (start, end) in zip(points.numpy(), self.ends, strict=True):
            within &= (at >= np.float32(start - margin_mm)) & (at <= np.float32(end + margin_mm))
        return torch.from_numpy(within)

    @property
    def ends(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest coordinate of voxel centres along x, y and z, in mm."""
        (right, back, bottom), (depth, height, width) = self.corner, self.shape
        return (
            (right - (width - 1) * self.step, right),
            (back - (height - 1) * self.step, back),
            (bottom, bottom + (depth - 1) * self.step),
        )

    def sample(self, volume: torch.Tensor, points: torch.Tensor, *, outside: str = "border") -> torch.Tensor:
        """Read ``volume`` (C, D, H, W) at ``points`` (3, N) in mm by trilinear interpolation.

        Args:
            volume: Values on this lattice.
            points: RAS millimetres.
            outside: ``border`` repeats the outermost voxels, ``zeros`` reads 0.

        Returns:
            (C, N) values.
        """
        return read(volume, self.normalised(points), outside)


def chosen(mask: np.ndarray) -> torch.Tensor:
    """Where a mask is true in its flat order, as an index; numpy compares and finds in a third of torch's time."""
    return torch.from_numpy(np.flatnonzero(mask))


def side_by_side(maps: torch.Tensor) -> torch.Tensor:
    """The same maps (C, D, H, W) with a voxel's values beside each other in memory, which are read together."""
    out = maps.new_empty(*maps.shape[1:], len(maps))
    for at, one in zip(out.unbind(-1), maps, strict=True):
        at.copy_(one)
    return out.permute(3, 0, 1, 2)


def read(volume: torch.Tensor, at: torch.Tensor, outside: str = "border") -> torch.Tensor:
    """As :meth:`Lattice.sample`, at what :meth:`Lattice.normalised` gave."""
    at = at[None, None, None]
    return F.grid_sample(volume[None], at, mode="bilinear", padding_mode=outside, align_corners=True)[0, :, 0, 0]


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
    shared = (field + mirrored).mul_((0.5 * (1 - asymmetric)) ** 0.5)
    return shared.add_(field.sub_(mirrored).mul_((0.5 * asymmetric) ** 0.5))


def blur(volume: torch.Tensor, source: Lattice, target: Lattice, sigma_mm: float, *, tiny: bool = True) -> torch.Tensor:
    """Gaussian blur of a volume on ``source``, read off on ``target``; zero outside ``source``.

    Args:
        volume: (D, H, W) on ``source``.
        source: Its lattice.
        target: Where the result is wanted.
        sigma_mm: Width of the Gaussian in mm; at least half of the source's step.
        tiny: Whether values below 1e-38 are kept; without them it takes a fifth of the time.

    Returns:
        (D, H, W) on ``target``.
    """
    out = volume
    with flushed(not tiny):
        for at, to, equation in zip(
            source.axes(), target.axes(), ("zyx,tx->zyt", "zyx,ty->ztx", "zyx,tz->tyx"), strict=True
        ):
            distance = to.reshape(-1, 1) - at.reshape(1, -1)
            kernel = torch.exp(-0.5 * (distance / sigma_mm) ** 2) * (source.step / (sigma_mm * (2 * torch.pi) ** 0.5))
            out = torch.einsum(equation, out, kernel)
    return out
