"""From tissue to frames: mixing of curves in a voxel, residual motion, noise, and the curves that one measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.perfusion_input import Bolus
from strokelib.data.phantom.scanner import block_factor

NOISE_PIXEL_MM = 1.0
ARTERY_VOXELS, VEIN_VOXELS = 4, 6
LARGEST_MM = 1.0


@dataclass(frozen=True)
class Measured:
    """Curves that a reader or a program takes from the noisy series.

    Args:
        aif: (T,) HU above baseline of the chosen arterial voxels, scaled to the vein's area.
        vof: (T,) of the chosen venous voxels.
        factor: What the artery was multiplied by for partial volume.
        artery: (n, 3) chosen voxels (z, y, x).
        vein: The same of the vein.
    """

    aif: np.ndarray
    vof: np.ndarray
    factor: float
    artery: np.ndarray
    vein: np.ndarray


def mixed(weights: np.ndarray, index: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Sums of curves, one sum a voxel.

    Args:
        weights: (N, K) how much of each of K parts a voxel holds.
        index: (N, K) row of ``curves`` that the part follows.
        curves: (M, T).

    Returns:
        (N, T) float32.
    """
    count, parts = weights.shape
    starts = np.arange(count + 1, dtype=np.int64) * parts
    matrix = sparse.csr_matrix((weights.ravel(), index.ravel(), starts), shape=(count, len(curves)))
    matrix.eliminate_zeros()
    return np.asarray(matrix @ curves, np.float32)


def draw_motion(seed: int, slab: int, bolus: Bolus) -> np.ndarray:
    """(T, 3) what is left of the head's motion in plane: to the picture's bottom and right in mm, turn in degrees."""
    k, rng = KNOBS, generator(seed, f"ctp-motion-{slab}")
    kept = float(np.exp(-bolus.step_s / k.ctp_motion_s))
    sizes = np.array([k.ctp_motion_mm, k.ctp_motion_mm, k.ctp_motion_deg])
    steps = rng.standard_normal((bolus.frames, 3)) * sizes
    path = np.zeros((bolus.frames, 3))
    for n in range(1, bolus.frames):
        path[n] = kept * path[n - 1] + (1 - kept**2) ** 0.5 * steps[n]
    return path


def moved(slope: np.ndarray, motion: np.ndarray, spacing_yx: tuple[float, float]) -> np.ndarray:
    """What a small motion adds to an image, to first order: minus way times slope.

    Args:
        slope: (2, D, H, W) HU per mm to the picture's bottom and right.
        motion: (3,) of :func:`draw_motion`.
        spacing_yx: (dy, dx) in mm.
    """
    _, _, height, width = slope.shape
    y = ((np.arange(height) - (height - 1) / 2) * spacing_yx[0])[:, None]
    x = (np.arange(width) - (width - 1) / 2) * spacing_yx[1]
    down, right, turn = motion[0], motion[1], np.deg2rad(motion[2])
    ways = np.clip(np.stack(np.broadcast_arrays(down + turn * x, right - turn * y)), -LARGEST_MM, LARGEST_MM)
    return -(slope * ways[:, None].astype(np.float32)).sum(0)


def noise_sd_hu(seed: int, pixel_mm: float) -> float:
    """SD in HU of a scan's noise on pixels of ``pixel_mm``."""
    k = KNOBS
    factor = float(np.exp(k.ctp_noise_log_sd * np.clip(generator(seed, "ctp-dose").normal(), -2, 2)))
    return k.ctp_noise_hu * factor * block_factor(pixel_mm, NOISE_PIXEL_MM, k.ctp_noise_blur_mm)


def noise(seed: int, slab: int, shape: tuple[int, ...], pixel_mm: float) -> np.ndarray:
    """(T, D, H, W) float32 noise of SD 1, correlated in plane, independent between slices and frames."""
    rng = generator(seed, f"ctp-noise-{slab}")
    sigma = KNOBS.ctp_noise_blur_mm / pixel_mm
    reach = max(1, int(np.ceil(2 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    kernel = (kernel / np.sqrt(kernel[0] ** 2 + 2 * (kernel[1:] ** 2).sum())).astype(np.float32)
    white = rng.standard_normal(shape, dtype=np.float32)
    for frame in white:  # one frame fits a cache
        for axis in (1, 2):
            source = frame.copy()
            frame *= kernel[0]
            for step, weight in enumerate(kernel[1:], start=1):
                part = source * weight
                low, high = (slice(None),) * axis + (slice(step, None),), (slice(None),) * axis + (slice(-step),)
                frame[low] += part[high]
                frame[high] += part[low]
    return white


def measure(
    series: np.ndarray, baseline: np.ndarray, arterial: np.ndarray, venous: np.ndarray, allowed: np.ndarray
) -> Measured:
    """The arterial input and the venous outflow as they are taken in practice: from a few bright voxels of the series.

    Args:
        series: (T, D, H, W) noisy, in HU.
        baseline: (D, H, W) before the contrast.
        arterial: (D, H, W) share of arterial blood.
        venous: Share of venous blood.
        allowed: (D, H, W) bool, where an artery may be chosen (the side without infarct).
    """
    flat, before = series.reshape(len(series), -1), baseline.ravel()
    chosen, curves = [], []
    for share, count in ((np.where(allowed, arterial, 0), ARTERY_VOXELS), (venous, VEIN_VOXELS)):
        best = np.argsort(-share.ravel(), kind="stable")[: 3 * count]
        rise = flat[:, best] - before[best]
        peaks = np.sort(rise, axis=0)[-3:].mean(0)
        kept = np.argsort(-peaks, kind="stable")[:count]
        chosen.append(best[kept])
        curves.append(rise[:, kept].mean(1))
    aif, vof = curves
    factor = float(np.clip(vof.sum() / max(float(aif.sum()), 1e-6), 0.8, 6.0))
    places = [np.stack(np.unravel_index(index, arterial.shape), 1) for index in chosen]
    return Measured((aif * factor).astype(np.float32), vof.astype(np.float32), factor, *places)
