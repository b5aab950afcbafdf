"""Prepared cases as the volumes that ADN sees, and maps back onto the cases' own grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from strokelib.data.cases import Case, Volume
from strokelib.data.grids import Grid
from strokelib.data.loading import case_images
from strokelib.errors import DataError, ParameterError

VERSION = 1
SPACING_TOLERANCE_MM = 1e-3
AIR_HU = -1000


@dataclass(frozen=True)
class Heads:
    """Whole brains of many cases on grids of one shape.

    Args:
        images: (N, 1, D, H, W) float32 in [0, 1], 0 outside the brain.
        lesions: (N, 1, D, H, W) float32, 0 or 1; inside the brain only.
        brains: (N, 1, D, H, W) bool.
        spacing: (dz, dy, dx) in mm, after pooling.
        ids: Names of the cases.
    """

    images: Tensor
    lesions: Tensor
    brains: Tensor
    spacing: tuple[float, float, float]
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Self:
        """The heads at some places: an index array, a mask, a range or one number (a batch of one)."""
        places = np.atleast_1d(np.arange(len(self))[np.asarray(index) if not isinstance(index, slice) else index])
        chosen = torch.from_numpy(places)
        ids = tuple(self.ids[place] for place in places)
        return type(self)(self.images[chosen], self.lesions[chosen], self.brains[chosen], self.spacing, ids)


def padding(length: int, pool: int) -> tuple[int, int]:
    """Pixels of background before and after a row of pixels, so that ``pool`` divides it.

    Both ends get the same, also where that is more than the least possible, so that the mirror axis stays in the
    middle. An odd row and an even ``pool`` leave no such way: the end then gets one pixel more than the start, and the
    middle of the field moves by half a pixel, which the alignment has to make good.

    Args:
        length: Pixels of the row.
        pool: Pixels that become one.
    """
    total = -length % pool
    if total % 2 and pool % 2:
        total += pool
    return total // 2, total - total // 2


def with_slices(case: Case, slices: int) -> Case:
    """The case with slices of air above and below it, so that cases of several heights fit into one batch.

    Args:
        case: A prepared case; its truth and channels are left behind where slices are added.
        slices: How many it shall have.

    Raises:
        ParameterError: It has more.
    """
    missing = slices - len(case.image.array)
    if missing < 0:
        found, wanted = f"{len(case.image.array)} in case {case.id}", f"at most {slices}"
        raise ParameterError("slices", found=found, wanted=wanted, next_step="ask for as many as the tallest case has")
    if missing == 0:
        return case
    around = ((missing // 2, missing - missing // 2), (0, 0), (0, 0))
    down = np.eye(4)
    down[2, 3] = -around[0][0]
    image = Volume(np.pad(case.image.array, around, constant_values=AIR_HU), case.image.affine @ down)
    lesion, brain = (None if mask is None else np.pad(mask, around) for mask in (case.lesion, case.brain))
    return replace(case, image=image, lesion=lesion, brain=brain, truth={}, channels={})


def _checked_pool(pool: int) -> int:
    if isinstance(pool, bool) or not isinstance(pool, int | np.integer) or pool < 1:
        raise ParameterError("pool", found=repr(pool), wanted="a whole number, 1 or more", next_step="correct it")
    return int(pool)


def pooled_grid(case: Case, pool: int = 1) -> Grid:
    """The grid of a case's volume in :class:`Heads`.

    Args:
        case: A prepared case of D x H x W voxels.
        pool: As in :func:`heads_of`.

    Returns:
        Shape (D, h, w) and affine; every place keeps its millimetres.

    Raises:
        ParameterError: ``pool`` is no whole number of 1 or more.
    """
    depth, height, width = case.image.array.shape
    pool, coarser, sizes = _checked_pool(pool), np.eye(4), []
    for axis, length in ((1, height), (0, width)):
        before, after = padding(length, pool)
        sizes.append((before + length + after) // pool)
        coarser[axis, axis], coarser[axis, 3] = pool, (pool - 1) / 2 - before
    return Grid((depth, *sizes), case.image.affine @ coarser)


def block_means(array: np.ndarray, pool: int) -> np.ndarray:
    """(D, H, W) to (D, h, w) float32: means of blocks of ``pool`` x ``pool`` pixels, background around."""
    around = [padding(length, pool) for length in array.shape[1:]]
    padded = np.pad(array.astype(np.float32), [(0, 0), *around])
    depth, height, width = padded.shape
    return padded.reshape(depth, height // pool, pool, width // pool, pool).mean(axis=(2, 4))


def _head(case: Case, window_hu: tuple[float, float], pool: int, unlabelled: bool) -> tuple[np.ndarray, ...]:
    """Image, lesion and brain of one case, (D, h, w) each."""
    if case.lesion is None and not unlabelled:
        step = "leave the case out, or give unlabelled=True where no reference is needed"
        raise DataError(f"case {case.id}", found="no reference", wanted="a reference", next_step=step)
    image = case_images(case, window_hu, "unit")
    whole = np.ones(image.shape, bool) if case.brain is None else case.brain.astype(bool)
    share = block_means(whole, pool)
    brain = share >= 0.5
    image = np.where(brain, block_means(image, pool) / share.clip(0.5), 0).astype(np.float32)
    inside = np.zeros(whole.shape, bool) if case.lesion is None else case.lesion.astype(bool) & whole
    return image, (block_means(inside, pool) >= 0.5).astype(np.float32), brain


def heads_of(
    cases: Sequence[Case],
    *,
    window_hu: tuple[float, float] = (0.0, 100.0),
    pool: int = 1,
    unlabelled: bool = False,
) -> Heads:
    """The volumes that ADN trains and is tested on.

    Args:
        cases: Prepared cases of one shape and voxel size; without a brain mask the whole image counts as brain.
        window_hu: Lower and upper end in HU, mapped to 0 and 1.
        pool: In plane, ``pool`` x ``pool`` pixels become one: the mean of those that are brain. The new pixel is brain,
            or lesion, where half of it or more is. Sizes that ``pool`` does not divide are padded (:func:`padding`).
        unlabelled: Take cases without a reference, as if they had no lesion.

    Returns:
        The heads in the order of the cases; a lesion outside the brain mask does not count.

    Raises:
        DataError: There is no case, one has no reference, no brain or values that are not finite, or shapes or voxel
            sizes differ.
        ParameterError: ``pool`` is no whole number of 1 or more, or the window is empty.
    """
    pool = _checked_pool(pool)
    if not cases:
        raise DataError("cases", found="none", wanted="at least one", next_step="choose another split or cohort")
    shape, spacing = cases[0].image.array.shape, cases[0].image.spacing
    parts = []
    for case in cases:
        own, steps = case.image.array.shape, case.image.spacing
        if own != shape or not np.allclose(steps, spacing, rtol=0, atol=SPACING_TOLERANCE_MM):
            raise DataError(
                f"case {case.id}",
                found=f"shape {own}, voxels of {_mm(steps)}",
                wanted=f"shape {shape} and voxels of {_mm(spacing)}, as the first case",
                next_step="prepare the cases on one grid",
            )
        parts.append(_head(case, window_hu, pool, unlabelled))
    images, lesions, brains = (torch.from_numpy(np.stack(part)[:, None]) for part in zip(*parts, strict=True))
    pooled = (spacing[0], spacing[1] * pool, spacing[2] * pool)
    return Heads(images, lesions, brains, pooled, tuple(case.id for case in cases))


def _mm(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{step:.3f}" for step in spacing) + " mm"


def to_case_grid(maps: Tensor | np.ndarray, case: Case, pool: int) -> np.ndarray:
    """A map on the pooled grid, back on the case's own.

    Linear in plane between the centres of the pooled pixels. A pooled pixel with less than half brain holds nothing, so
    that values fall off towards it in the outermost pixels of the brain.

    Args:
        maps: (D, h, w), e.g. the probability of one case after T's inverse.
        case: The case, as :func:`heads_of` got it.
        pool: As it was given to :func:`heads_of`.

    Returns:
        (D, H, W) float32, 0 outside the brain.

    Raises:
        DataError: The map does not lie on the case's pooled grid.
        ParameterError: ``pool`` is no whole number of 1 or more.
    """
    wanted, (_, height, width) = pooled_grid(case, pool).shape, case.image.array.shape
    values = torch.as_tensor(maps).detach().cpu().float()
    if tuple(values.shape) != wanted:
        step = "give the map of this case and the pool it was made with"
        raise DataError(f"map of case {case.id}", found=f"shape {tuple(values.shape)}", wanted=wanted, next_step=step)
    fine = values if pool == 1 else _finer(values, pool)
    top, left = padding(height, pool)[0], padding(width, pool)[0]
    out = fine[:, top : top + height, left : left + width].numpy()
    return np.array(out if case.brain is None else np.where(case.brain, out, np.float32(0)), np.float32)


def _finer(values: Tensor, pool: int) -> Tensor:
    """(D, h, w) to (D, pool h, pool w), outer edges kept."""
    return functional.interpolate(values[:, None], scale_factor=pool, mode="bilinear", align_corners=False)[:, 0]
