"""Brain mask of a non-contrast CT by classical means: soft tissue that the skull encloses.

The papers strip the skull with tools that are not named or that need a network (SynthSR and SynthStrip, Seia et al.
2023); this one needs neither, and says so where it fails instead of handing on a bad mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.grids import Grid, box_of, crop, resample, sample_on
from strokelib.data.morphology import largest, shrunk, within
from strokelib.errors import DataError

VERSION = 1
SOFT_HU = (0.0, 100.0)
BONE_HU = 160.0
VOLUME_ML = (700.0, 2000.0)
WHOLE_BRAIN_MM = 120.0
WORK_MM = 1.2
_EROSIONS_MM = (8.0, 5.5, 3.5)
_BONE_CLOSING_MM = 4.0
_SMOOTHING_MM = 6.0
_MAX_OFFSET = 0.25


def _filled(mask: np.ndarray) -> np.ndarray:
    """Each axial slice without holes: ventricles, calcifications, clots and noise."""
    return np.stack([ndimage.binary_fill_holes(part) if part.any() else part for part in mask])


def _enclosed(bone: np.ndarray) -> np.ndarray:
    """What has bone on at least three of five sides: left, right, front, back and above."""
    sides = np.zeros(bone.shape, np.int8)
    for axis, backwards in ((1, False), (1, True), (2, False), (2, True), (0, True)):
        seen = np.flip(bone, axis) if backwards else bone
        passed = np.maximum.accumulate(seen, axis)
        sides += np.flip(passed, axis) if backwards else passed
    return (sides >= 3) & ~bone


def _brain(hu: np.ndarray, spacing: tuple[float, float, float], erosion_mm: float) -> np.ndarray:
    """Brain on the working grid, for one erosion radius."""
    low, high = SOFT_HU
    smooth = ndimage.gaussian_filter(hu, [0, 1.0 / spacing[1], 1.0 / spacing[2]])
    bone = hu > BONE_HU
    flat = (1e6, *spacing[1:])
    closed = bone | shrunk(within(bone, _BONE_CLOSING_MM, flat), _BONE_CLOSING_MM, flat)
    soft = (smooth > low) & (smooth < high) & ~bone & _enclosed(closed)
    core = largest(shrunk(soft & ~closed, erosion_mm, spacing))
    if not core.any():
        return core
    grown = within(core, erosion_mm + 1.0, spacing) & soft
    whole = shrunk(within(grown, _SMOOTHING_MM, flat), _SMOOTHING_MM, flat) & ~bone
    return largest(_filled(whole | grown))


def _report(mask: np.ndarray, volume: Volume) -> dict[str, Any]:
    """Measures of a mask and, under ``problems``, everything that speaks against it."""
    spacing, shape = volume.spacing, volume.array.shape
    volume_ml = float(mask.sum()) * volume.voxel_ml
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(slices):
        return {"volume_ml": 0.0, "problems": ["no soft tissue inside a skull"]}
    height = float(len(slices) * spacing[0])
    at_bottom, at_top = bool(mask[0].any()), bool(mask[-1].any())
    share = min(1.0, height / WHOLE_BRAIN_MM) if at_bottom or at_top else 1.0
    low, high = VOLUME_ML[0] * share, VOLUME_ML[1]
    rows, columns = mask.any(axis=(0, 2)), mask.any(axis=(0, 1))
    offsets = [
        float(np.average(np.arange(n), weights=mask.sum(axis=others)) - (n - 1) / 2) / n
        for n, others in ((shape[1], (0, 2)), (shape[2], (0, 1)))
    ]
    checks = (
        (not low <= volume_ml <= high, f"{volume_ml:.0f} mL instead of {low:.0f} to {high:.0f}"),
        (bool(rows[0] | rows[-1] | columns[0] | columns[-1]), "touches the side of the field"),
        (max(map(abs, offsets)) > _MAX_OFFSET, f"off centre by {max(map(abs, offsets)):.0%} of the field"),
    )
    return {
        "volume_ml": volume_ml,
        "height_mm": height,
        "cut_below": at_bottom,
        "cut_above": at_top,
        "offset_share": tuple(round(v, 3) for v in offsets),
        "hu_percentiles": {
            p: float(v) for p, v in zip((5, 50, 95), np.percentile(volume.array[mask], (5, 50, 95)), strict=True)
        },
        "problems": [text for failed, text in checks if failed],
    }


def _refined(mask: Volume, volume: Volume) -> np.ndarray:
    """A working mask on the scan's own grid, with smooth borders; only the part around the mask is sampled."""
    fine = np.zeros(volume.array.shape, bool)
    if not mask.array.any():
        return fine
    box = []
    for part, n_small, n, ratio in zip(
        box_of(mask.array, 0.0, mask.spacing),
        mask.array.shape,
        volume.array.shape,
        np.divide(mask.spacing, volume.spacing),
        strict=True,
    ):
        ends = (np.array([part.start - 1, part.stop + 1]) - n_small / 2) * ratio + n / 2
        box.append(slice(max(0, int(np.floor(ends[0]))), min(n, int(np.ceil(ends[1])))))
    grid = Grid.of(crop(volume, tuple(box)))
    fine[tuple(box)] = sample_on(mask.with_array(mask.array.astype(np.float32)), grid, order=1, fill=0.0).array > 0.5
    return fine


def skull_strip(volume: Volume, *, strict: bool = True) -> tuple[np.ndarray, dict[str, Any]]:
    """Brain mask of a head CT.

    On a grid of about 1.2 mm in plane: soft tissue (0-100 HU) that the bone, closed by 4 mm, encloses; eroded so
    that what hangs on it through the skull's holes falls off; the largest component; grown back; closed over the
    sulci; holes filled. Three radii of erosion are tried, and the first mask without problems is taken.

    Args:
        volume: Head CT in HU, LPS order, axes at right angles; slices may be thick, and the field may cut the brain
            above or below.
        strict: Raise where the mask has problems; otherwise list them in the report.

    Returns:
        Mask (D, H, W) bool, and a report: ``volume_ml``, ``height_mm``, ``cut_below`` and ``cut_above`` (the field
        ends inside the brain), ``offset_share`` (centroid off the field's centre, in fields), ``hu_percentiles``,
        ``erosion_mm``, ``problems``.

    Raises:
        DataError: With ``strict``: the brain is not 700-2000 mL (less where the field cuts it, in proportion to the
            height seen of 120 mm), touches the side of the field, or is more than a quarter of the field off its
            centre.
    """
    dz, dy, dx = volume.spacing
    small = resample(volume, (max(dz, WORK_MM), max(dy, WORK_MM), max(dx, WORK_MM)))
    bone = small.array > BONE_HU
    head = box_of(bone, 2 * _SMOOTHING_MM, small.spacing) if bone.any() else (slice(None),) * 3
    best: tuple[np.ndarray, dict[str, Any]] | None = None
    for erosion in _EROSIONS_MM:
        mask = np.zeros(small.array.shape, bool)
        mask[head] = _brain(small.array[head], small.spacing, erosion)
        report = _report(mask, small) | {"erosion_mm": erosion}
        if best is None or len(report["problems"]) < len(best[1]["problems"]):
            best = mask, report
        if not report["problems"]:
            break
    mask, report = best
    if strict and report["problems"]:
        raise DataError(
            "brain mask",
            found="; ".join(report["problems"]),
            wanted="one brain inside a skull",
            next_step="check that the scan is a non-contrast head CT in HU, or give a brain mask of your own",
        )
    fine = _refined(small.with_array(mask), volume)
    return fine, report | (
        {} if not fine.any() else {k: v for k, v in _report(fine, volume).items() if k != "problems"}
    )
