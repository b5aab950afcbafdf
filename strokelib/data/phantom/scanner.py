"""The scanner of the cohort ``aisd``: pose, gantry, grids, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS

PREPARED_SHAPE = (30, 112, 96)
PREPARED_SPACING = (5.0, 2.0, 2.0)
NATIVE_PIXELS = 512


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
        slices: Number of native slices.
    """

    angle_deg: float
    roll_deg: float
    pitch_deg: float
    shift_mm: tuple[float, float, float]
    gantry_deg: float
    pixel_mm: float
    slices: int

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
        name: ``prepared`` or ``native``.
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


def draw_pose(seed: int, length_factor: float = 1.0) -> Pose:
    """Draw pose and geometry of a case.

    Args:
        seed: Seed of the case.
        length_factor: The head's length against the standard one; the field of view is chosen to hold it.
    """
    k, rng = KNOBS, generator(seed, "pose")
    angle = float(np.clip(rng.normal(0, k.angle_sd_deg), -k.angle_max_deg, k.angle_max_deg))
    roll, pitch = (float(v) for v in rng.normal(0, k.tilt_sd_deg, 2))
    shift = np.clip(rng.normal(0, k.shift_sd_mm, 3), -k.shift_max_mm, k.shift_max_mm)
    needed = (k.head_length_mm * length_factor + 2 * abs(shift[1])) / NATIVE_PIXELS
    return Pose(
        angle_deg=angle,
        roll_deg=roll,
        pitch_deg=pitch,
        shift_mm=tuple(float(v) for v in shift),
        gantry_deg=float(rng.uniform(k.gantry_min_deg, k.gantry_max_deg)) if rng.random() < k.gantry_share else 0.0,
        pixel_mm=float(np.clip(rng.uniform(k.pixel_min_mm, k.pixel_max_mm), needed, k.pixel_max_mm)),
        slices=int(rng.integers(k.slices_min, k.slices_max + 1)),
    )


def unposed(pose: Pose) -> Pose:
    """The same scanner with the head straight and centred."""
    return Pose(0.0, 0.0, 0.0, (0.0, 0.0, 0.0), 0.0, pose.pixel_mm, pose.slices)


def grid(name: str, pose: Pose) -> Grid:
    """The prepared grid (2 x 2 x 5 mm, 30 x 112 x 96) or the native one (512 x 512, tilted by the gantry)."""
    if name == "prepared":
        (depth, height, width), (dz, dy, dx), tilt, samples, stride = PREPARED_SHAPE, PREPARED_SPACING, 0.0, 2, 3
    else:
        depth, height, width = pose.slices, NATIVE_PIXELS, NATIVE_PIXELS
        dz, dy, dx, tilt, samples, stride = (
            KNOBS.slice_mm,
            pose.pixel_mm,
            pose.pixel_mm,
            np.deg2rad(pose.gantry_deg),
            2,
            8,
        )
    linear = np.array([[-dx, 0, 0], [0, -dy * np.cos(tilt), 0], [0, -dy * np.sin(tilt), dz]], float)
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -linear @ (np.array([width - 1, height - 1, depth - 1]) / 2)
    return Grid(name, (depth, height, width), affine, dz, samples, stride)


def block_factor(pixel_mm: float, native_mm: float, blur_mm: float) -> float:
    """Standard deviation of the mean of a square block of native pixels of noise, over that of one pixel; 0 to 1."""
    count = max(1.0, pixel_mm / native_mm)
    lags = np.arange(1, int(np.ceil(count)))
    correlation = np.exp(-((lags * native_mm) ** 2) / (4 * blur_mm**2))
    return float((1 + 2 * ((1 - lags / count) * correlation).sum()) / count)


def noise(seed: int, target: Grid, native_mm: float) -> torch.Tensor:
    """Correlated noise in HU, independent between slices; its size is that of the native scan seen on ``target``.

    Args:
        seed: Seed of the case.
        target: The image's grid.
        native_mm: Pixel of the native scan.

    Returns:
        (D, H, W) float32.
    """
    k, rng = KNOBS, generator(seed, f"noise-{target.name}")
    level = k.noise_sd_hu * float(np.exp(rng.normal(0, k.noise_log_sd)))
    white = torch.from_numpy(rng.standard_normal(target.shape, dtype=np.float32))
    sigma = k.noise_blur_mm / native_mm if target.name == "native" else 0.45
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    padded = F.pad(white, (3, 3))
    out = sum(float(w) * padded[..., n : n + target.shape[2]] for n, w in enumerate(kernel))
    padded = F.pad(out, (0, 0, 3, 3))
    out = sum(float(w) * padded[:, n : n + target.shape[1]] for n, w in enumerate(kernel))
    factor = 1.0 if target.name == "native" else block_factor(target.pixel_mm, native_mm, k.noise_blur_mm)
    return out * (level * factor)
