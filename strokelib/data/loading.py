"""From prepared cases to batches of slices.

Volumes and 3-D patches are in :mod:`strokelib.data.volumes` and :mod:`strokelib.data.patches`; batches are prepared
ahead of the training by :mod:`strokelib.data.prefetch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from strokelib.data import preprocess
from strokelib.data.augment import NONE, Augmentation, augment
from strokelib.data.cases import Case
from strokelib.data.streams import SeededStream
from strokelib.errors import DataError, ParameterError

VERSION = 1
Normalise = Literal["unit", "zscore"]


class Batch(NamedTuple):
    """Images (B, C, H, W) or (B, C, D, H, W) float32 and class numbers (B, H, W) or (B, D, H, W) int64."""

    images: Tensor
    lesions: Tensor


@dataclass(frozen=True)
class Slices:
    """Slices of many cases on one grid.

    Args:
        images: (N, C, H, W) float32, brain only, normalised; C is 1, or 2 k + 1 with k neighbours on either side.
        lesions: (N, H, W) uint8, 0 or 1.
        case: (N,) int64, number of the case in the list given.
        z: (N,) int64, number of the slice in its case.
    """

    images: Tensor
    lesions: Tensor
    case: Tensor
    z: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Self:
        """The slices at some places (an index array, a mask or a range)."""
        return type(self)(self.images[index], self.lesions[index], self.case[index], self.z[index])

    def spread(self, count: int) -> Self:
        """At most ``count`` slices, evenly spread over all."""
        return self[np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))]

    @property
    def with_lesion(self) -> Tensor:
        """(N,) bool: whether a slice holds any lesion."""
        return (self.lesions > 0).flatten(1).any(dim=1)


def brain_box(brain: np.ndarray, size: tuple[int, int] | None = None, multiple: int = 16) -> tuple[slice, slice]:
    """A window about the middle of the brain, inside the grid: what lies outside it need not be computed.

    Args:
        brain: (D, H, W) bool, not empty.
        size: Height and width; None for the smallest one that holds the brain.
        multiple: Without a size, height and width are rounded up to a multiple of this, as far as the grid goes.

    Returns:
        Rows and columns.
    """
    box = []
    for axis, length in ((1, brain.shape[1]), (2, brain.shape[2])):
        used = np.flatnonzero(brain.any(axis=(0, 3 - axis)))
        side = size[axis - 1] if size else -(-(int(used[-1] - used[0]) + 1) // multiple) * multiple
        start = max(0, min((int(used[0] + used[-1]) + 1 - side) // 2, length - side))
        box.append(slice(start, min(start + side, length)))
    return box[0], box[1]


def case_images(case: Case, window_hu: tuple[float, float], normalise: Normalise) -> np.ndarray:
    """The brain of one case, clipped to a window and normalised; outside the brain stands the window's lower end.

    Args:
        case: A prepared case; without a brain mask the whole image counts as brain.
        window_hu: Lower and upper end in HU.
        normalise: ``unit`` maps the window to [0, 1]; ``zscore`` gives mean 0 and SD 1 over the brain of this scan.

    Returns:
        (D, H, W) float32.

    Raises:
        DataError: The image holds values that are not finite, or there is no brain.
        ParameterError: The window is empty or the normalisation unknown.
    """
    if normalise not in ("unit", "zscore"):
        raise ParameterError(
            "normalise", found=repr(normalise), wanted="unit or zscore", next_step="correct the recipe"
        )
    image = preprocess.window_hu(case.image.array, *window_hu)
    brain = np.ones(image.shape, bool) if case.brain is None else case.brain.astype(bool)
    if not brain.any() or not np.isfinite(image).all():
        found = "no brain voxel" if not brain.any() else "values that are not finite"
        raise DataError(
            f"case {case.id}", found=found, wanted="finite HU and a brain", next_step="prepare the case again"
        )
    image[~brain] = 0
    return image if normalise == "unit" else preprocess.zscore(image, brain)


def with_neighbours(images: np.ndarray, neighbours: int) -> np.ndarray:
    """Each slice of a scan with the slices below and above it as channels; beyond the ends the end slice is repeated.

    Args:
        images: (D, H, W).
        neighbours: Slices on either side, k.

    Returns:
        (D, 2 k + 1, H, W), from below upwards, the slice itself in the middle.

    Raises:
        ParameterError: A negative number of neighbours.
    """
    if neighbours < 0:
        raise ParameterError("neighbours", found=neighbours, wanted="0 or more", next_step="correct the recipe")
    levels = np.arange(len(images))[:, None] + np.arange(-neighbours, neighbours + 1)
    return images[levels.clip(0, len(images) - 1)]


def slices_of(
    cases: Sequence[Case],
    *,
    window_hu: tuple[float, float] = (0.0, 80.0),
    normalise: Normalise = "unit",
    smallest_brain_ml: float = 0.0,
    crop: tuple[int, int] | None = None,
    neighbours: int = 0,
) -> Slices:
    """All slices that show brain, of cases that lie on one grid.

    Args:
        cases: Prepared cases with a reference.
        window_hu: As in :func:`case_images`.
        normalise: As in :func:`case_images`.
        smallest_brain_ml: Slices with no more brain than this are left out.
        crop: Height and width of the window about the brain that is kept, or None for the whole slice.
        neighbours: As in :func:`with_neighbours`; memory grows with the number of channels.

    Returns:
        The slices, in the order of the cases and from below upwards; a lesion outside the brain mask does not count.

    Raises:
        DataError: A case has no reference, or the in-plane sizes differ.
    """
    size: tuple[int, ...] = ()
    images, lesions, numbers, levels = [], [], [], []
    for number, case in enumerate(cases):
        size = size or case.image.array.shape[1:]
        if case.lesion is None or case.image.array.shape[1:] != size:
            raise DataError(
                f"case {case.id}",
                found="no reference" if case.lesion is None else f"in-plane size {case.image.array.shape[1:]}",
                wanted=f"a reference, and the in-plane size {size} of the first case",
                next_step="prepare the cases on one grid",
            )
        brain = np.ones(case.image.array.shape, bool) if case.brain is None else case.brain.astype(bool)
        (kept,) = np.nonzero(brain.sum(axis=(1, 2)) * case.image.voxel_ml > smallest_brain_ml)
        rows, columns = brain_box(brain, crop) if crop else (slice(None), slice(None))
        image = case_images(case, window_hu, normalise)[:, rows, columns]
        images.append(with_neighbours(image, neighbours)[kept])
        lesions.append((case.lesion & brain)[kept, rows, columns].astype(np.uint8))
        numbers.append(np.full(len(kept), number))
        levels.append(kept)
    if not images:
        raise DataError("cases", found="none", wanted="at least one", next_step="choose another split or cohort")
    joined = (torch.from_numpy(np.concatenate(part)) for part in (images, lesions, numbers, levels))
    image, lesion, number, level = joined
    return Slices(image, lesion, number.long(), level.long())


class SliceSampler(SeededStream):
    """An endless stream of batches in which a set share of the slices holds lesion.

    Args:
        slices: What to draw from, with replacement.
        batch: Slices a batch.
        seed: Seed of the stream.
        lesion_share: Expected share of slices with lesion, or None for that of the data.
        augmentation: Changes to each sample; none by default.

    Raises:
        DataError: A share above 0 is asked for and no slice holds lesion (or below 1 and all do).
    """

    def __init__(
        self,
        slices: Slices,
        batch: int,
        seed: int,
        lesion_share: float | None = None,
        augmentation: Augmentation = NONE,
    ) -> None:
        super().__init__(batch, seed)
        self.slices, self.augmentation, self.lesion_share = slices, augmentation, lesion_share
        holds = slices.with_lesion.numpy()
        self.groups = (np.flatnonzero(~holds), np.flatnonzero(holds))
        share = 0.0 if lesion_share is None else lesion_share
        if (
            not len(slices)
            or (share > 0 and not holds.any())
            or (lesion_share is not None and share < 1 and holds.all())
        ):
            raise DataError(
                "slices",
                found=f"{int(holds.sum())} of {len(slices)} with lesion",
                wanted=f"a share of {lesion_share}",
                next_step="give other cases, or lesion_share=None",
            )

    def _pick(self, generator: np.random.Generator) -> int:
        if self.lesion_share is None:
            return int(generator.integers(len(self.slices)))
        return int(generator.choice(self.groups[int(generator.random() < self.lesion_share)]))

    def draw(self, first: int, generators: list[np.random.Generator]) -> Batch:
        """The batch of these generators; ``first`` plays no part."""
        chosen = self.slices[[self._pick(g) for g in generators]]
        return Batch(*augment(chosen.images, chosen.lesions, self.augmentation, generators))
