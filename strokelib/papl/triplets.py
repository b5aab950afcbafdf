"""Three slices of one scan for stages 2 and 3: front, middle and rear; the middle one is segmented."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from strokelib.data.augment import NONE, Augmentation, augment
from strokelib.data.streams import SeededStream
from strokelib.errors import DataError, ParameterError
from strokelib.options import chosen
from strokelib.papl.slices import HeadSlices, check_keeps_alignment

VERSION = 1
TripletForm = Literal["recommended", "printed"]


class Place(NamedTuple):
    """A triplet: number of the scan's first slice among all, its count of slices, and the places in the scan."""

    start: int
    n: int
    i: int
    j: int
    k: int


class TripletBatch(NamedTuple):
    """Triplets of slices.

    ``front``, ``middle`` and ``rear`` (B, 1, H, W) float32, z-scored; ``unit`` (B, 1, H, W), the middle slice with the
    window in HU rescaled to [0, 1], for RPRS; ``lesions`` (B, H, W) int64, of the middle slice; ``i``, ``j``, ``k``
    (B,) int64, places in the scan from 0, -1 or ``n`` for a repeated end; ``n`` (B,) int64, slices of each scan.
    """

    front: Tensor
    middle: Tensor
    rear: Tensor
    unit: Tensor
    lesions: Tensor
    i: Tensor
    j: Tensor
    k: Tensor
    n: Tensor


class TripletSampler(SeededStream):
    """An endless stream of batches of triplets i < j < k of one scan, drawn without replacement.

    The middle slice is drawn first, each slice of all scans with equal probability or a set share of them with lesion,
    then one below and one above it. What is below the first slice is a copy of it, at -1, and what is above the last a
    copy of that, at n. No gap reaches n, so that every weight of Eq. 17 stays positive.

    Source: Sec. III.D, Sun et al. 2024.
    Deviation: as ``printed`` a scan is drawn and then any three of its slices, so that an end slice is never in the
        middle and never segmented in training (P18). N is the scan's own number of slices (P16), a batch of 32 is 32
        triplets (P20).

    Args:
        slices: Of aligned heads, whole scans of three slices or more.
        batch: Triplets a batch.
        seed: Seed of the stream.
        form: One of the two.
        lesion_share: Expected share of middle slices with lesion, or None for that of the data; None as ``printed``.
        augmentation: Changes to each triplet: one move for its three slices, noise for each; none by default. ``unit``
            follows the middle slice.

    Raises:
        ParameterError: Another form, a share that is none, or an augmentation that breaks the alignment.
        DataError: A scan has fewer than three slices or is cut, or the data cannot give the share.
    """

    def __init__(
        self,
        slices: HeadSlices,
        batch: int,
        seed: int,
        *,
        form: TripletForm = "recommended",
        lesion_share: float | None = None,
        augmentation: Augmentation = NONE,
    ) -> None:
        super().__init__(batch, seed)
        chosen("form of triplets", form, get_args(TripletForm))
        check_keeps_alignment(augmentation)
        if lesion_share is not None and (form == "printed" or not 0 <= lesion_share <= 1):
            found, wanted = f"{lesion_share} in the form {form}", "a share from 0 to 1, None in the printed form"
            raise ParameterError("lesion_share", found=found, wanted=wanted, next_step="correct the recipe")
        self.scans = slices.starts().numpy()
        self.counts, self.index = slices.count.numpy(), slices.index.numpy()
        if self.counts.min() < 3:
            found, step = f"a scan of {self.counts.min()}", "leave it out, or keep more of its slices"
            raise DataError("slices of a scan", found=found, wanted="3 or more", next_step=step)
        holds = slices.with_lesion.numpy()
        self.groups = np.flatnonzero(~holds), np.flatnonzero(holds)
        if lesion_share is not None and any(
            share > 0 and not len(group)
            for share, group in zip((1 - lesion_share, lesion_share), self.groups, strict=True)
        ):
            found, wanted = f"{int(holds.sum())} of {len(holds)} with lesion", f"a share of {lesion_share}"
            raise DataError("slices", found=found, wanted=wanted, next_step="give other cases, or lesion_share=None")
        self.slices, self.form, self.lesion_share, self.augmentation = slices, form, lesion_share, augmentation

    def place(self, generator: np.random.Generator) -> Place:
        """Scan and places of one triplet."""
        if self.form == "printed":
            start = int(generator.choice(self.scans))
            n = int(self.counts[start])
            i, j, k = np.sort(generator.choice(n, 3, replace=False)).tolist()
            return Place(start, n, i, j, k)
        row = self._middle(generator)
        n, j = int(self.counts[row]), int(self.index[row])
        # Beside a copied end the far slice is at most n - 1 away: a gap of n has no weight.
        i = int(generator.integers(1 if j == n - 1 else 0, j)) if j > 0 else -1
        k = int(generator.integers(j + 1, n - 1 if j == 0 else n)) if j < n - 1 else n
        return Place(row - j, n, i, j, k)

    def _middle(self, generator: np.random.Generator) -> int:
        if self.lesion_share is None:
            return int(generator.integers(len(self.slices)))
        return int(generator.choice(self.groups[int(generator.random() < self.lesion_share)]))

    def draw(self, first: int, generators: list[np.random.Generator]) -> TripletBatch:
        """The batch of these generators; ``first`` plays no part."""
        places = np.array([self.place(generator) for generator in generators])
        start, n, i, j, k = places.T
        rows = start[:, None] + np.stack([i, j, k], axis=1).clip(0, n[:, None] - 1)
        middle = self.slices[rows[:, 1]]
        images = self.slices.images[torch.from_numpy(rows)][:, :, 0]
        images, lesions = augment(images, middle.lesions, self.augmentation, generators)
        front, centre, rear = images.unsqueeze(2).unbind(1)
        at = (torch.from_numpy(np.ascontiguousarray(v)) for v in (i, j, k, n))
        return TripletBatch(front, centre, rear, middle.in_unit(centre), lesions, *at)
