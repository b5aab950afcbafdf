"""The scanner: pose, gantry, grids, noise; what differs between cohorts stands in their protocols."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.protocols import Protocol

NATIVE_PIXELS = 512
NOISE_SLICE_MM = 5.0
NOISE_GRAIN_MM = 0.9


@dataclass(frozen=True)
class Pose:
    """How the head lies in the scanner, and the scanner's geometry for this case.

    Args:
        angle_deg: Angle of the midline in an axial picture, atan2(x_bottom - x_top, y_bottom - y_top) with x to the
            picture's right and y down.
        roll_deg: Rotation about the nose-to-neck axis; positive lowers the patient's right side.
        pitch_deg: Rotation about the ear-to-ear axis; positive lifts the nose.
        shift_mm: Displacement of the head's centre to the patient's right, to the front and upwards.
        gantry_deg: Tilt of the native slices; the prepared grid has none.
        pixel_mm: Native pixel.
        slice_mm: Native slice thickness and distance.
        slices: Number of native slices.
        noise: Factor on the protocol's noise.
    """

    angle_deg: float
    roll_deg: float
    pitch_deg: float
    shift_mm: tuple[float, float, float]
    gantry_deg: float
    pixel_mm: float
    slice_mm: float
    slices: int
    noise: float

    def rotation(self) -> np.ndarray:
        """(3, 3) rotation from the head's axes to the scanner's, both right-anterior-superior."""
        a, b, c = np.deg2rad([-self.angle_deg, self.roll_deg, self.pitch_deg])
        turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        roll = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        pitch = np.array([[1, 0, 0], [0, np.cos(c), -np.sin(c)], [0, np.sin(c), np.cos(c)]])
        return turn @ roll @ pitch

    def midline_plane(self) -> tuple[float, float, float, float]:
        """(nx, ny, nz, d): the head's mirror plane is nx x + ny y + nz z = d in the image's RAS millimetres."""
        normal = self.rotation()[:, 0]
        return (*(float(v) for v in normal), float(normal @ np.array(self.shift_mm)))


@dataclass(frozen=True)
class Grid:
    """Where the image is wanted.

    Args:
        name: A name of :data:`GRIDS`.
        shape: (D, H, W).
        affine: (4, 4), index (x, y, z, 1) to RAS mm.
        slice_mm: Thickness that each slice averages over, along the table's axis.
        samples: Sub-slices per slice.
        stride: Distance in pixels of the nodes where the warp is evaluated exactly.
    """

    name: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    slice_mm: float
    samples: int
    stride: int

    @property
    def pixel_mm(self) -> float:
        """Size of a pixel in mm."""
        return float(np.linalg.norm(self.affine[:3, 0]))


def draw_pose(seed: int, protocol: Protocol, length_factor: float = 1.0) -> Pose:
    """Draw pose and geometry of a case.

    Args:
        seed: Seed of the case.
        protocol: The cohort's.
        length_factor: The head's length against the standard one; the field of view is chosen to hold it.
    """
    k, rng = KNOBS, generator(seed, "pose")
    angle = float(np.clip(rng.normal(0, protocol.angle_sd_deg), -k.angle_max_deg, k.angle_max_deg))
    roll, pitch = (float(v) for v in rng.normal(0, k.tilt_sd_deg, 2))
    shift = np.clip(rng.normal(0, k.shift_sd_mm, 3), -k.shift_max_mm, k.shift_max_mm)
    low, high = protocol.pixel_mm
    needed = (k.head_length_mm * length_factor + 2 * abs(shift[1])) / NATIVE_PIXELS
    thickness = float(rng.choice(protocol.slice_mm))
    return Pose(
        angle_deg=angle,
        roll_deg=roll,
        pitch_deg=pitch,
        shift_mm=tuple(float(v) for v in shift),
        gantry_deg=float(rng.uniform(k.gantry_min_deg, k.gantry_max_deg))
        if rng.random() < protocol.gantry_share
        else 0.0,
        pixel_mm=float(np.clip(rng.uniform(low, high), needed, high)),
        slice_mm=thickness,
        slices=round(rng.uniform(k.coverage_min_mm, k.coverage_max_mm) / thickness),
        noise=float(np.exp(rng.normal(0, k.noise_log_sd))),
    )


def unposed(pose: Pose) -> Pose:
    """The same scanner with the head straight and centred."""
    return replace(pose, angle_deg=0.0, roll_deg=0.0, pitch_deg=0.0, shift_mm=(0.0, 0.0, 0.0), gantry_deg=0.0)


# Name of a grid -> shape (D, H, W), spacing (dz, dy, dx) in mm, sub-slices a slice, pixels between two nodes.
GRIDS = {
    "prepared": ((30, 112, 96), (5.0, 2.0, 2.0), 2, 1),
    "published": ((40, 256, 256), (5.0, 1.2, 1.2), 1, 2),
    "native": (None, None, 2, 5),
}


def grid(name: str, pose: Pose) -> Grid:
    """The grid of a name of :data:`GRIDS`; ``native`` is the scanner's own, tilted by the gantry."""
    shape, spacing, samples, stride = GRIDS[name]
    tilt = 0.0
    if shape is None:
        shape, tilt = (pose.slices, NATIVE_PIXELS, NATIVE_PIXELS), np.deg2rad(pose.gantry_deg)
        spacing = (pose.slice_mm, pose.pixel_mm, pose.pixel_mm)
    (depth, height, width), (dz, dy, dx) = shape, spacing
    linear = np.array([[-dx, 0, 0], [0, -dy * np.cos(tilt), 0], [0, -dy * np.sin(tilt), dz]], float)
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ (np.array([width - 1, height - 1, depth - 1]) / 2)
    return Grid(name, shape, affine, dz, samples, stride)


def block_factor(pixel_mm: float, native_mm: float, blur_mm: float) -> float:
    """Standard deviation of the mean of a square block of native pixels of noise, over that of one pixel; 0 to 1."""
    count = max(1.0, pixel_mm / native_mm)
    lags = np.arange(1, int(np.ceil(count)))
    correlation = np.exp(-((lags * native_mm) ** 2) / (4 * blur_mm**2))
    return float((1 + 2 * ((1 - lags / count) * correlation).sum()) / count)


def _weighted(parts: list[torch.Tensor], weights: np.ndarray) -> torch.Tensor:
    """Sum of the parts, each times its weight, from the first to the last."""
    total = parts[0] * float(weights[0])
    product = torch.empty_like(total)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total += torch.mul(part, float(weight), out=product)
    return total


def noise_of_slices(
    seed: int, target: Grid, pose: Pose, protocol: Protocol
) -> Callable[[tuple[int, slice, slice]], torch.Tensor]:
    """Correlated noise in HU, independent between slices; its size is that of the native scan seen on ``target``.

    Args:
        seed: Seed of the case.
        target: The image's grid.
        pose: The native scan's geometry.
        protocol: The cohort's.

    Returns:
        From slice, rows and columns to (h, w) float32; the same noise whichever part is asked for.
    """
    rng = generator(seed, f"noise-{target.name}")
    white: list[torch.Tensor] = []  # drawn slice by slice: those above the head's last one are never wanted
    native = target.name == "native"
    sigma = protocol.noise_blur_mm / pose.pixel_mm if native else NOISE_GRAIN_MM / target.pixel_mm
    reach = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    level = protocol.noise_sd_hu * pose.noise * (NOISE_SLICE_MM / target.slice_mm) ** 0.5
    level *= 1.0 if native else block_factor(target.pixel_mm, pose.pixel_mm, protocol.noise_blur_mm)

    def of(place: tuple[int, slice, slice]) -> torch.Tensor:
        k, rows, columns = place
        (top, bottom), (left, right) = (
            (max(0, s.start - reach), min(n, s.stop + reach)) for s, n in zip(place[1:], target.shape[1:], strict=True)
        )
        while len(white) <= k:
            white.append(torch.from_numpy(rng.standard_normal(target.shape[1:], dtype=np.float32)))
        part = white[k][top:bottom, left:right]
        padding = (reach - columns.start + left, reach - right + columns.stop)
        padding = (*padding, reach - rows.start + top, reach - bottom + rows.stop)
        part = F.pad(part, padding) if any(padding) else part
        height, width = rows.stop - rows.start, columns.stop - columns.start
        across = _weighted([part[:, n : n + width] for n in range(len(kernel))], kernel)
        return _weighted([across[n : n + height] for n in range(len(kernel))], kernel * level)

    return of
