"""First preparation of a non-contrast CT: set upright, strip, align, resample, window; and the way back.

Every value is interpolated once: the brain is found and the pose is computed on coarse copies, and the scan itself
moves in one step from its native grid to the prepared one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.grids import AIR_HU, Grid, Transform, box_of, crop, rectify, resample, sample_on
from strokelib.data.midsagittal import Midplane, align_midsagittal, find_midplane, midplane_transform
from strokelib.data.skullstrip import SOFT_HU, skull_strip
from strokelib.errors import DataError, ParameterError

__all__ = [
    "GRIDS",
    "WINDOWS_HU",
    "GridSpec",
    "Prepared",
    "Transform",
    "align_midsagittal",
    "prepare_ncct",
    "resample",
    "skull_strip",
    "window_hu",
    "zscore",
]

VERSION = 1
MARGIN_MM = 6.0
RIM_MM = 5.0
MIN_KEPT = 0.995

WINDOWS_HU: dict[str, tuple[float, float]] = {
    "papl": (30.0, 100.0),  # published; its lower end lies inside white matter
    "adn": (0.0, 100.0),  # assumed: the paper states only that intensities end in [0, 1]
    "ssl": (-100.0, 400.0),  # published
    "sensitivity": (0.0, 80.0),  # ours, beside PAPL's, so that white matter is not clipped
}


@dataclass(frozen=True)
class GridSpec:
    """A prepared grid in words: per axis (z, y, x) a number of voxels, a voxel size in mm, both, or neither.

    Both: exactly that field, centred on the brain. Size alone: as many voxels as cover the brain and a margin. Number
    alone: the native field divided by it; in plane the wider field, so that square pixels stay square. Neither: the
    native voxels. Left-right, the middle of the grid is always the mid-sagittal plane.

    Args:
        shape: (D, H, W), None where open.
        spacing: (dz, dy, dx) in mm, None where open.
        roll: Correct the roll, which mixes slices; False keeps native slices whole.
    """

    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    spacing: tuple[float | None, float | None, float | None] = (None, None, None)
    roll: bool = True


GRIDS: dict[str, GridSpec] = {
    "papl": GridSpec(shape=(None, 256, 256), roll=False),
    "adn": GridSpec(shape=(40, 256, 256), spacing=(5.0, 1.2, 1.2), roll=False),
    "ssl": GridSpec(spacing=(1.0, 1.0, 1.0)),
    "demo": GridSpec(spacing=(2.0, 2.0, 2.0)),
    "native": GridSpec(roll=False),
}


def window_hu(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Clip to a window and bring it to 0..1; a z-score afterwards is the same as one of the clipped HU.

    Args:
        array: Any shape, HU.
        low: Lower end in HU.
        high: Upper end in HU, above ``low``.

    Returns:
        float32 in [0, 1].

    Raises:
        ParameterError: ``high`` is not above ``low``.
    """
    if not low < high:
        raise ParameterError("window", found=(low, high), wanted="low < high in HU", next_step="swap or correct them")
    out = np.asarray(array, np.float32) - np.float32(low)
    np.multiply(out, np.float32(1.0 / (high - low)), out=out)
    return np.clip(out, 0.0, 1.0, out=out)


def zscore(array: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Centre and scale by the mean and standard deviation inside a mask; the outside moves along.

    Args:
        array: Any shape.
        mask: bool, same shape, not empty.

    Returns:
        float32; mean 0 and SD 1 inside the mask (all 0 inside where the mask holds one value only).

    Raises:
        DataError: An empty mask or another shape.
    """
    if mask.shape != array.shape or not mask.any():
        found = f"mask {mask.shape} with {int(mask.sum())} voxels"
        raise DataError(
            "z-score", found=found, wanted=f"a mask of shape {array.shape}", next_step="strip the brain first"
        )
    inside = array[mask].astype(np.float64)
    mean, spread = inside.mean(), inside.std()
    return ((array - mean) / (spread if spread > 0 else 1.0)).astype(np.float32)


@dataclass(frozen=True)
class Prepared:
    """A prepared scan with the way back.

    Args:
        hu: Aligned head in HU on the prepared grid; inside the brain from brain voxels alone.
        brain: (D, H, W) bool on the prepared grid.
        image: Windowed brain in [0, 1], 0 outside the brain.
        transform: From the scanner's grid to the prepared one.
        native_brain: bool on the scanner's grid.
        report: ``seconds`` by step, the skull strip's report, ``turn_deg``, ``roll_deg``, ``shift_mm``, mirror
            difference ``before`` and ``after`` (NaN without alignment), ``brain_kept`` (share of the brain that lies on
            the grid), ``hu_percentiles``.
    """

    hu: Volume
    brain: np.ndarray
    image: Volume
    transform: Transform
    native_brain: np.ndarray
    report: dict[str, Any] = field(default_factory=dict)

    def to_native(self, mask: np.ndarray) -> Volume:
        """A mask drawn on the prepared grid, on the scanner's grid, by nearest neighbour.

        Args:
            mask: (D, H, W), bool or labels.

        Returns:
            Same dtype, on the grid of the scan that was prepared.
        """
        return self.transform.inverse().apply(self.hu.with_array(mask), 0, fill=0.0)

    def from_native(self, mask: np.ndarray) -> np.ndarray:
        """A mask drawn on the scanner's grid, on the prepared grid: linear, cut at one half, so without steps."""
        return _soft_mask(self.transform, Volume(mask, self.transform.source.affine))


def _soft_mask(transform: Transform, mask: Volume) -> np.ndarray:
    return transform.apply(mask.with_array(mask.array.astype(np.float32)), 1, fill=0.0).array > 0.5


def _grid_for(spec: GridSpec, volume: Volume, transform: Transform, brain: np.ndarray) -> tuple[Grid, float]:
    """The grid that a specification means for this head, and the share of the brain that it holds."""
    thin = tuple(max(1, int(2.0 / step)) for step in volume.spacing)
    index = np.argwhere(brain[:: thin[0], :: thin[1], :: thin[2]])[:, ::-1] * np.array(thin[::-1])
    back = np.linalg.inv(transform.matrix) @ volume.affine
    points = index @ back[:3, :3].T + back[:3, 3]
    low, high = points.min(axis=0), points.max(axis=0)
    shape, spacing, centre = [0] * 3, [0.0] * 3, np.zeros(3)
    fields = np.multiply(volume.array.shape, volume.spacing)
    if all(n and not step for n, step in zip(spec.shape[1:], spec.spacing[1:], strict=True)):
        fields[1:] = max(fields[1] / spec.shape[1], fields[2] / spec.shape[2]) * np.array(spec.shape[1:])
    for axis, (n, step) in enumerate(zip(spec.shape, spec.spacing, strict=True)):
        column, n_native, native = 2 - axis, volume.array.shape[axis], volume.spacing[axis]
        reach = 2 * max(-low[0], high[0]) if column == 0 else high[column] - low[column]
        spacing[axis] = step or (fields[axis] / n if n else native)
        shape[axis] = n or (int(np.ceil((reach + 2 * MARGIN_MM) / step)) if step else n_native)
        if column > 0:
            centre[column] = transform.target.centre[column] if not n and not step else (low[column] + high[column]) / 2
    held = np.abs(points - centre) <= np.array(shape[::-1]) * spacing[::-1] / 2
    return Grid.centred(tuple(shape), tuple(spacing), centre), float(held.all(axis=1).mean())


def _resampled(move: Transform, volume: Volume, brain: np.ndarray, antialias: bool) -> tuple[Volume, np.ndarray]:
    """Head and brain mask on the target grid; inside the brain only brain is averaged: no bone bleeds in."""
    head = move.apply(volume, 1, antialias=antialias)
    box = box_of(brain, MARGIN_MM, volume.spacing)
    part, weight = crop(volume, box), brain[box].astype(np.float32)
    weighted = move.apply(part.with_array(part.array * weight), 1, fill=0.0, antialias=antialias).array
    share = move.apply(part.with_array(weight), 1, fill=0.0, antialias=antialias).array
    inside = share > 0.5
    hu = head.with_array(np.where(inside, weighted / np.maximum(share, 0.5), head.array))
    return hu, _without_rim(inside, hu.array, hu.spacing)


def _without_rim(brain: np.ndarray, hu: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """The mask without the bone that thick slices mix into its rim; calcifications further inside stay."""
    bone = brain & (hu > SOFT_HU[1])
    if not bone.any():
        return brain
    deep = ndimage.distance_transform_edt(brain, sampling=spacing) > RIM_MM
    return brain & ~(bone & ~deep)


def prepare_ncct(
    volume: Volume,
    *,
    grid: str | GridSpec = "adn",
    window: str | tuple[float, float] = "adn",
    brain: np.ndarray | None = None,
    align: bool = True,
    antialias: bool = True,
) -> Prepared:
    """Strip, align, resample and window a head CT.

    Args:
        volume: Head CT in HU, LPS order, as :mod:`strokelib.data.reading` returns it.
        grid: A name of ``GRIDS`` or a specification.
        window: A name of ``WINDOWS_HU`` or (low, high) in HU.
        brain: (D, H, W) bool on the volume's grid, where it is already known.
        align: Make the mid-sagittal plane the middle column; False keeps the scanner's pose.
        antialias: Smooth before voxels grow. Published pipelines interpolate without it and keep more noise.

    Returns:
        The prepared scan.

    Raises:
        DataError: No plausible brain, or a grid that cuts it.
        ParameterError: An unknown grid or window.
    """
    spec = _named("grid", grid, GRIDS)
    low, high = _named("window", window, WINDOWS_HU)
    clock, seconds = time.perf_counter(), {}

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = round(time.perf_counter() - clock, 3), time.perf_counter()

    upright = rectify(volume)
    if brain is not None and upright is not volume:
        brain = sample_on(volume.with_array(brain), Grid.of(upright), order=0).array
    lap("upright")
    strip: dict[str, Any] = {"given": True}
    if brain is None:
        brain, strip = skull_strip(upright)
    lap("strip")
    plane = find_midplane(upright, brain, roll=spec.roll) if align else Midplane.of_field(upright)
    move = midplane_transform(upright, plane)
    lap("align")
    target, kept = _grid_for(spec, upright, move, brain)
    if kept < MIN_KEPT:
        found = f"a grid that holds {kept:.1%} of the brain"
        raise DataError(
            "prepared grid", found=found, wanted="the whole brain", next_step="choose a larger shape or spacing"
        )
    move = Transform(move.matrix, Grid.of(volume), target)
    hu, inside = _resampled(move, upright, brain, antialias)
    lap("resample")
    image = hu.with_array(np.where(inside, window_hu(hu.array, low, high), np.float32(0)))
    native = brain if upright is volume else sample_on(upright.with_array(brain), Grid.of(volume), order=0).array
    lap("window")
    report = {
        "seconds": seconds,
        "rectified": upright is not volume,
        "strip": strip,
        "turn_deg": plane.turn_deg,
        "roll_deg": plane.roll_deg,
        "shift_mm": plane.shift_mm,
        "before": plane.before,
        "after": plane.after,
        "brain_kept": kept,
        "hu_percentiles": {
            p: float(v) for p, v in zip(_PERCENTILES, np.percentile(hu.array[inside], _PERCENTILES), strict=True)
        },
        "outside_field": float((hu.array <= AIR_HU).mean()),
    }
    return Prepared(hu, inside, image, move, native, report)


_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)


def _named(kind: str, value: Any, known: dict[str, Any]) -> Any:
    if isinstance(value, str) and value not in known:
        raise ParameterError(kind, found=value, wanted=", ".join(known), next_step="choose one of them")
    return known[value] if isinstance(value, str) else value
