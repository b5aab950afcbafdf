"""Normalised heads: what a network of this paper reads of a case, one channel or two, and its mirrored twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from strokelib.data.cases import Case, Volume, channel
from strokelib.data.contralateral import difference_image
from strokelib.data.grids import AIR_HU, box_of, crop
from strokelib.data.volumes import MIB, Scan, Volumes
from strokelib.errors import DataError
from strokelib.ssl_nnunet.volumes import OTHER_SIDE, Spacing, at_spacing

VERSION = 1
OUTSIDE_HU = (AIR_HU, 0.0)
MAKE_IT = "make it with strokelib.ssl_nnunet.volumes.with_contralateral"


class Normaliser(Protocol):
    """What turns HU into what a network sees; :class:`strokelib.ssl_nnunet.fingerprint.Normalisation` is one."""

    def apply(self, values: np.ndarray, channel: int) -> np.ndarray:
        """Values of a channel (0 CT, 1 difference image) in HU, of any shape, clipped and normalised."""


@dataclass(frozen=True)
class Head(Scan):
    """What the networks see of one case: the box of its brain, normalised.

    Channel 0 is the CT, channel 1, where there is one, contralateral image - CT. Outside the brain stands ``fill``:
    the lower clip, and a difference of 0 HU.

    Args:
        brain: (D, H, W) bool.
        contralateral: (C, D, H, W) float32, the contralateral image seen as if it were the scan, or None.
        affine: (4, 4), index (x, y, z, 1) of the box to RAS millimetres.
        id: Name of the case.
        cohort: Key of its cohort.
    """

    brain: Tensor
    contralateral: Tensor | None
    affine: np.ndarray
    id: str
    cohort: str

    @property
    def mib(self) -> float:
        """Memory that the arrays take, in MiB."""
        more = self.brain.nbytes + (0 if self.contralateral is None else self.contralateral.nbytes)
        return super().mib + more / MIB

    @cached_property
    def areas(self) -> np.ndarray:
        """(D,) voxels of brain in each slice."""
        return np.array([np.count_nonzero(level) for level in self.brain.numpy()])

    def placed(self, values: Tensor | np.ndarray) -> Volume:
        """A map (D, H, W) of the box with its millimetres, for :func:`strokelib.ssl_nnunet.volumes.on_case_grid`.

        Raises:
            DataError: The map has another shape.
        """
        return Volume(self.lesions.numpy(), self.affine).with_array(torch.as_tensor(values).detach().cpu().numpy())


@dataclass(frozen=True)
class HeadReader:
    """How a case becomes a :class:`Head`; the arguments are those of :func:`heads_of`."""

    normaliser: Normaliser
    spacing_mm: Spacing | None = None
    difference: bool = False
    contralateral: bool = False
    unlabelled: bool = False

    def __call__(self, case: Case) -> Head:
        """The head of a case.

        Raises:
            DataError: No reference, no contralateral image, no brain, or values that are not finite.
        """
        if case.lesion is None and not self.unlabelled:
            step = "leave the case out, or give unlabelled=True where no reference is needed"
            raise DataError(f"case {case.id}", found="no reference", wanted="a reference", next_step=step)
        mirrored = self.difference or self.contralateral
        if mirrored:
            channel(case, OTHER_SIDE, MAKE_IT)
        if self.spacing_mm is not None:
            case = at_spacing(case, self.spacing_mm)
        shape, spacing = case.image.array.shape, case.image.spacing
        whole = np.ones(shape, bool) if case.brain is None else case.brain.astype(bool)
        if not whole.any() or not np.isfinite(case.image.array[whole]).all():
            found = "values that are not finite" if whole.any() else "no brain voxel"
            step = "prepare the case again"
            raise DataError(f"case {case.id}", found=found, wanted="finite HU and a brain", next_step=step)
        box = box_of(whole, 0.0, spacing)
        ct, brain = crop(case.image, box), whole[box]
        images, others = [np.where(brain, ct.array, AIR_HU)], []
        if mirrored:
            other = ct.with_array(np.where(brain, case.channels[OTHER_SIDE][box], AIR_HU))
            others = [other.array]
        if self.difference:
            difference = difference_image(ct, other, brain).array
            # The contralateral image of the contralateral image is the scan: seen from there the sign changes.
            images, others = [*images, difference], [*others, -difference]
        fill = self._seen([np.full((1, 1, 1), value) for value in OUTSIDE_HU[: len(images)]]).flatten()
        lesion = np.zeros(shape, bool) if case.lesion is None else case.lesion.astype(bool) & whole
        return Head(
            images=self._seen(images),
            lesions=torch.from_numpy(np.ascontiguousarray(lesion[box], np.uint8)),
            spacing=spacing,
            fill=fill,
            brain=torch.from_numpy(np.ascontiguousarray(brain)),
            contralateral=self._seen(others) if self.contralateral else None,
            affine=ct.affine,
            id=case.id,
            cohort=case.cohort,
        )

    def _seen(self, channels: Sequence[np.ndarray]) -> Tensor:
        """(C, D, H, W) float32."""
        seen = [self.normaliser.apply(values.astype(np.float32), number) for number, values in enumerate(channels)]
        return torch.from_numpy(np.stack(seen).astype(np.float32))


def heads_of(
    cases: Sequence[Case],
    normaliser: Normaliser,
    *,
    spacing_mm: Spacing | None = None,
    difference: bool = False,
    contralateral: bool = False,
    unlabelled: bool = False,
    cache_mib: float = 2048.0,
) -> Volumes:
    """Heads of many cases, for :class:`strokelib.data.patches.PatchSampler` and for pairs of views.

    Source: section 3.5, Seia et al. 2023.
    Deviation: none; what lies outside the brain has the value of the lower clip.

    Args:
        cases: Prepared cases; they may be read from disk whenever one is asked for. Without a brain mask the whole
            image counts as brain.
        normaliser: Clips and scales each channel.
        spacing_mm: (dz, dy, dx) of the voxels to see, as in :func:`strokelib.ssl_nnunet.volumes.at_spacing`; None for
            those of the cases.
        difference: Add the difference image as channel 1.
        contralateral: Keep the contralateral image, for the symmetry augmentation.
        unlabelled: Take cases without a reference, as if they had no lesion.
        cache_mib: Memory for heads that stay in memory, in MiB.

    Returns:
        The heads, in the order of the cases; a lesion outside the brain mask does not count.

    Raises:
        DataError: There is no case, or one cannot be used.
    """
    return Volumes(cases, HeadReader(normaliser, spacing_mm, difference, contralateral, unlabelled), cache_mib)
