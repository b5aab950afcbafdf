"""Slices of aligned heads for all three stages: z-scored, with the way back to [0, 1] and their place in the scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from strokelib.data import preprocess
from strokelib.data.augment import Augmentation
from strokelib.data.cases import Case
from strokelib.data.inplane import Aligned, LineOf, align_case
from strokelib.data.loading import Slices, brain_box, case_images
from strokelib.errors import DataError, ParameterError
from strokelib.nn.alignment import warp_2d

VERSION = 1
PAINTED = "infarct_hu"
# The paper names no augmentation: assumed. Nothing here moves the mid-sagittal line off the middle column.
ALIGNED_AUGMENTATION = Augmentation(rotation_deg=0.0, zoom=0.1, shift=0.0, contrast=0.1, brightness=0.1, noise=0.05)


@dataclass(frozen=True)
class HeadSlices(Slices):
    """Slices of aligned heads, z-scored; those of one scan stand one after the other, from below upwards.

    ``images`` and ``lesions``, ``case`` and ``z`` are those of :class:`strokelib.data.loading.Slices`, so that whatever
    takes these takes them too. In formulas ``index`` is i, j or k and ``count`` is N.

    Args:
        index: (N,) int64, number of the slice among those of its scan that are kept, from 0.
        count: (N,) int64, how many of its scan are kept.
        fill: (N,) float32, z-value of the window's lower end: what stands outside the brain.
        deviation: (N,) float32, SD over the scan's brain of the image in [0, 1].
        brains: (N, H, W) bool.
        pixel_mm: (N,) float32, side of a pixel.
        lowered_hu: (N, H, W) float32, by how many HU the infarct was painted darker, 0 or more; None where unknown.
        seen_hu: (N, H, W) float32, how many of these are left inside the window; None where unknown.
    """

    index: Tensor
    count: Tensor
    fill: Tensor
    deviation: Tensor
    brains: Tensor
    pixel_mm: Tensor
    lowered_hu: Tensor | None = None
    seen_hu: Tensor | None = None

    def __getitem__(self, index: Any) -> Self:
        """The slices at some places (an index array, a mask or a range)."""
        whole = {f.name: getattr(self, f.name) for f in fields(self)}
        return type(self)(**{name: None if value is None else value[index] for name, value in whole.items()})

    def in_unit(self, images: Tensor) -> Tensor:
        """These slices' z-scored images, changed or not, on the scale on which the window is [0, 1].

        Args:
            images: (N, C, H, W), one a slice.

        Returns:
            (N, C, H, W) in [0, 1]; 0 outside the brain.
        """
        fill, deviation = (v.to(images)[:, None, None, None] for v in (self.fill, self.deviation))
        return ((images - fill) * deviation).clamp(0, 1)

    @property
    def unit(self) -> Tensor:
        """(N, 1, H, W): the slices as RPRS takes them, the window rescaled to [0, 1]."""
        return self.in_unit(self.images)

    @property
    def position(self) -> Tensor:
        """(N,) float32: height in the scan, (index + 1/2) / count, in (0, 1)."""
        return (self.index + 0.5) / self.count

    def starts(self) -> Tensor:
        """(scans,) int64: where each scan's slices begin.

        Raises:
            DataError: A scan is not there from its first slice to its last.
        """
        first = torch.nonzero(self.index == 0).flatten()
        counts = self.count[first]
        whole = torch.cat([torch.arange(int(n)) for n in counts]) if len(first) else torch.arange(0)
        owner = torch.repeat_interleave(self.case[first], counts)
        if not len(self) or len(whole) != len(self) or bool((whole != self.index).any() | (owner != self.case).any()):
            found, step = f"{len(self)} slices of which some scans are cut", "give all slices of each scan"
            raise DataError("slices", found=found, wanted="whole scans", next_step=step)
        return first


def midline_box(brain: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """The part of an aligned head that is kept: rows about its brain, columns about the middle of the grid.

    Args:
        brain: (D, H, W) bool, not empty.
        size: Height and width; the width odd or even as that of the grid is.

    Returns:
        Rows and columns.

    Raises:
        ParameterError: The size is larger than the grid, or the middle column would be lost.
    """
    height, width = brain.shape[1:]
    if not 0 < size[0] <= height or not 0 < size[1] <= width or (width - size[1]) % 2:
        wanted = f"at most {height} x {width}, and a width that differs from {width} by an even number"
        raise ParameterError("crop", found=size, wanted=wanted, next_step="choose another size")
    start = (width - size[1]) // 2
    return brain_box(brain, size)[0], slice(start, start + size[1])


def align_with_truth(case: Case, ends: np.ndarray, line_of: LineOf = "scan") -> Aligned:
    """Align a case as :func:`strokelib.data.inplane.align_case` does, and take the painted change in HU along.

    Args:
        case: With a brain mask and square pixels; without ``infarct_hu`` in its truth nothing is taken along.
        ends: (D, 2, 2), ends of the mid-sagittal line in each slice.
        line_of: ``scan`` or ``slice``.
    """
    aligned = align_case(case, ends, line_of)
    if PAINTED not in case.truth:
        return aligned
    painted = torch.from_numpy(np.ascontiguousarray(case.truth[PAINTED], np.float32))[:, None]
    truth = {PAINTED: warp_2d(painted, aligned.forward)[:, 0].numpy()}
    return replace(aligned, case=replace(aligned.case, truth=truth))


def head_slices(
    cases: Sequence[Case],
    *,
    window_hu: tuple[float, float] = preprocess.WINDOWS_HU["papl"],
    crop: tuple[int, int] | None = None,
    smallest_brain_ml: float = 0.0,
    truth: bool = False,
) -> HeadSlices:
    """Slices of aligned cases: HU clipped to a window, z-scored over the brain of the scan.

    Source: Sec. IV.B, Sun et al. 2024.
    Deviation: mean and SD are those of the scan's brain (their scope is not stated), what is not brain has the value of
        the lower clip, and a scan's slices are those from its first to its last with brain; N is their number.

    Args:
        cases: Aligned cases with a reference and a brain mask, of one in-plane size (or cropped to one).
        window_hu: [30, 100] as published, which clips most white matter to its lower end; [0, 80] does not.
        crop: Height and width that are kept, as :func:`midline_box` has it; None for the whole slice.
        smallest_brain_ml: A scan begins and ends with a slice that holds more brain than this.
        truth: Keep by how many HU an embedded infarct is darker.

    Returns:
        The slices; a lesion outside the brain mask does not count.

    Raises:
        DataError: No case; a case without reference, brain mask, enough brain or, where asked for, truth; sizes that
            differ.
        ParameterError: The crop does not fit, or the window is empty.
    """
    parts = [_parts(number, case, window_hu, crop, smallest_brain_ml, truth) for number, case in enumerate(cases)]
    sizes = {part["images"].shape[2:] for part in parts}
    if len(sizes) != 1:
        found, wanted = f"{len(parts)} of in-plane sizes {sorted(sizes)}", "at least one, all of one size"
        raise DataError("cases", found=found, wanted=wanted, next_step="prepare the cases on one grid, or crop them")
    names = parts[0].keys()
    return HeadSlices(**{name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in names})


def _parts(
    number: int,
    case: Case,
    window_hu: tuple[float, float],
    crop: tuple[int, int] | None,
    smallest_brain_ml: float,
    truth: bool,
) -> dict[str, np.ndarray]:
    missing = [name for name in ("lesion", "brain") if getattr(case, name) is None]
    missing += [PAINTED] if truth and PAINTED not in case.truth else []
    if missing:
        step = "give an aligned case with its reference" if PAINTED not in missing else "use align_with_truth"
        raise DataError(f"case {case.id}", found=f"no {', '.join(missing)}", wanted="all of them", next_step=step)
    brain = case.brain.astype(bool)
    levels = np.flatnonzero(brain.sum(axis=(1, 2)) * case.image.voxel_ml > smallest_brain_ml)
    if not len(levels):
        found, wanted = "no slice with enough brain", f"more than {smallest_brain_ml:g} mL of brain in one"
        raise DataError(f"case {case.id}", found=found, wanted=wanted, next_step="leave the case out")
    rows, columns = midline_box(brain, crop) if crop else (slice(None), slice(None))
    kept = (slice(levels[0], levels[-1] + 1), rows, columns)
    unit = case_images(case, window_hu, "unit")
    inside = unit[brain].astype(np.float64)
    deviation = inside.std() if inside.std() > 0 else 1.0
    count = int(levels[-1] - levels[0]) + 1
    part = {
        "images": preprocess.zscore(unit, brain)[kept][:, None],
        "lesions": (case.lesion & brain)[kept].astype(np.uint8),
        "case": np.full(count, number),
        "z": np.arange(levels[0], levels[-1] + 1),
        "index": np.arange(count),
        "count": np.full(count, count),
        "fill": np.full(count, -inside.mean() / deviation, np.float32),
        "deviation": np.full(count, deviation, np.float32),
        "brains": brain[kept],
        "pixel_mm": np.full(count, case.image.spacing[2], np.float32),
    }
    if truth:
        painted = np.minimum(case.truth[PAINTED], 0).astype(np.float32) * brain
        before = preprocess.window_hu(case.image.array - painted, *window_hu)
        part["lowered_hu"] = -painted[kept]
        part["seen_hu"] = ((before - unit) * brain * (window_hu[1] - window_hu[0]))[kept].astype(np.float32)
    return part


def check_keeps_alignment(augmentation: Augmentation) -> None:
    """Refuse an augmentation after which the middle column is no longer the mid-sagittal line.

    Raises:
        ParameterError: It turns or shifts.
    """
    if augmentation.rotation_deg or augmentation.shift:
        found = f"rotation_deg {augmentation.rotation_deg:g}, shift {augmentation.shift:g}"
        raise ParameterError("augmentation", found=found, wanted="0 for both", next_step="keep the slices aligned")
