"""Whole volumes of many cases, of any sizes; what does not fit into memory is read again when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokelib.data.cases import Case
from strokelib.data.grids import box_of
from strokelib.data.loading import Normalise, case_images
from strokelib.errors import DataError

VERSION = 1
MIB = 2**20


@dataclass(frozen=True)
class Scan:
    """What a network sees of one case.

    Args:
        images: (C, D, H, W) float32, brain only, normalised.
        lesions: (D, H, W) uint8, 0 or 1.
        spacing: (dz, dy, dx) in mm.
        fill: (C,) float32, the value that stands for what lies outside the volume: each channel's smallest one.
    """

    images: Tensor
    lesions: Tensor
    spacing: tuple[float, float, float]
    fill: Tensor

    @property
    def mib(self) -> float:
        """Memory that the arrays take, in MiB."""
        return (self.images.nbytes + self.lesions.nbytes) / MIB


@dataclass(frozen=True)
class Reader:
    """How a case becomes a :class:`Scan`; the arguments are those of :func:`volumes_of`."""

    window_hu: tuple[float, float]
    normalise: Normalise
    channels: Callable[[Case], np.ndarray] | None
    crop: bool
    unlabelled: bool

    def __call__(self, case: Case) -> Scan:
        """The scan of a case.

        Raises:
            DataError: No reference, no brain, values that are not finite, or further channels of another shape.
        """
        shape = case.image.array.shape
        if case.lesion is None and not self.unlabelled:
            step = "leave the case out, or give unlabelled=True where no reference is needed"
            raise DataError(f"case {case.id}", found="no reference", wanted="a reference", next_step=step)
        brain = np.ones(shape, bool) if case.brain is None else case.brain.astype(bool)
        images = case_images(case, self.window_hu, self.normalise)[None]
        if self.channels is not None:
            more = np.asarray(self.channels(case), np.float32)
            if more.ndim != 4 or more.shape[1:] != shape or not np.isfinite(more).all():
                raise DataError(
                    f"further channels of case {case.id}",
                    found=f"shape {more.shape}, {'all' if np.isfinite(more).all() else 'not all'} finite",
                    wanted=f"finite values of shape (C, {', '.join(map(str, shape))})",
                    next_step="correct the function given as channels",
                )
            images = np.concatenate([images, more])
        lesions = np.zeros(shape, np.uint8) if case.lesion is None else (case.lesion & brain).astype(np.uint8)
        if self.crop:
            box = box_of(brain, 0.0, case.image.spacing)
            images, lesions = images[:, *box], lesions[box]
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        spacing = case.image.spacing
        return Scan(tensor, torch.from_numpy(np.ascontiguousarray(lesions)), spacing, tensor.amin(dim=(1, 2, 3)))


class Volumes(Sequence[Scan]):
    """Scans of many cases. Each case is read once at the start; the first ones that fit stay in memory.

    Draws at random find a scan in memory equally often whatever is kept, so nothing that is kept is ever thrown out
    for another; several threads may read at the same time.

    Args:
        cases: Prepared cases; they may be read from disk whenever one is asked for.
        reader: How a case becomes a scan: a :class:`Reader` or a function of one's own.
        cache_mib: Memory that the kept scans may take, in MiB.

    Raises:
        DataError: There is no case, or one cannot be used.
    """

    def __init__(self, cases: Sequence[Case], reader: Callable[[Case], Scan], cache_mib: float) -> None:
        self.cases, self.reader = cases, reader
        self.kept: dict[int, Scan] = {}
        self.kept_mib = 0.0
        shapes, lesion_voxels = [], []
        for number, case in enumerate(cases):
            scan = reader(case)
            shapes.append(tuple(scan.lesions.shape))
            lesion_voxels.append(np.flatnonzero(scan.lesions.numpy()).astype(np.int32))
            if self.kept_mib + scan.mib <= cache_mib:
                self.kept[number], self.kept_mib = scan, self.kept_mib + scan.mib
        if not shapes:
            raise DataError("cases", found="none", wanted="at least one", next_step="choose another split or cohort")
        self.shapes: tuple[tuple[int, int, int], ...] = tuple(shapes)
        self.lesion_voxels: tuple[np.ndarray, ...] = tuple(lesion_voxels)

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> Scan:
        """A scan, from memory or read again."""
        number = range(len(self))[index]
        return self.kept[number] if number in self.kept else self.reader(self.cases[number])

    @property
    def with_lesion(self) -> np.ndarray:
        """(N,) bool: whether a scan holds any lesion."""
        return np.array([len(voxels) > 0 for voxels in self.lesion_voxels])


def volumes_of(
    cases: Sequence[Case],
    *,
    window_hu: tuple[float, float] = (0.0, 80.0),
    normalise: Normalise = "unit",
    channels: Callable[[Case], np.ndarray] | None = None,
    crop: bool = False,
    unlabelled: bool = False,
    cache_mib: float = 2048.0,
) -> Volumes:
    """Whole volumes of cases of any shapes and voxel sizes.

    Args:
        cases: Prepared cases.
        window_hu: As in :func:`strokelib.data.loading.case_images`.
        normalise: As in :func:`strokelib.data.loading.case_images`.
        channels: Maps a case to further channels (C, D, H, W) that follow the image, e.g. its mirror image.
        crop: Keep the smallest box around the brain only.
        unlabelled: Take cases without a reference, as if they had no lesion.
        cache_mib: Memory for scans that stay in memory, in MiB.

    Returns:
        The scans, in the order of the cases; a lesion outside the brain mask does not count.

    Raises:
        DataError: There is no case, or one cannot be used.
    """
    return Volumes(cases, Reader(window_hu, normalise, channels, crop, unlabelled), cache_mib)
