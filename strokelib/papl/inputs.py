"""From cases to the slices that a recipe asks for, and from a network's output back to the case's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.data.cases import Case
from strokelib.data.loading import case_images
from strokelib.data.preprocess import zscore
from strokelib.errors import DataError, ParameterError
from strokelib.infer import predict_slices
from strokelib.papl.recipe import SliceRecipe
from strokelib.papl.slices import HeadSlices, head_slices, midline_box

VERSION = 1


def pooled(slices: HeadSlices, factor: int) -> HeadSlices:
    """The same slices with larger pixels.

    A pixel takes the mean of the old ones, and is brain, or infarct, where at least half of them are.

    Args:
        slices: Height and width multiples of ``factor``.
        factor: Old pixels along a side of a new one.

    Raises:
        ParameterError: The sides are no multiples.
    """
    _check_pool(factor, slices.images.shape[2:])
    if factor == 1:
        return slices

    def means(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values.float()[:, None], factor)[:, 0]

    changes = {
        "images": functional.avg_pool2d(slices.images, factor),
        "lesions": (means(slices.lesions > 0) >= 0.5).to(slices.lesions.dtype),
        "brains": means(slices.brains) >= 0.5,
        "pixel_mm": slices.pixel_mm * factor,
    }
    known = {"lowered_hu": slices.lowered_hu, "seen_hu": slices.seen_hu}
    return replace(slices, **changes, **{name: None if v is None else means(v) for name, v in known.items()})


def _check_pool(factor: int, sides: Sequence[int]) -> None:
    if factor < 1 or any(side % factor for side in sides):
        found, wanted = f"{factor} for {tuple(sides)}", "a divisor of both sides"
        raise ParameterError("pool", found=found, wanted=wanted, next_step="choose another crop or pool")


def recipe_slices(cases: Sequence[Case], recipe: SliceRecipe, *, truth: bool = False) -> HeadSlices:
    """Slices of cases as a recipe has them; of raw heads, if the recipe is not for aligned ones.

    Args:
        cases: With a reference and a brain mask; aligned already where the recipe is for aligned ones.
        recipe: Window, crop and size of a pixel.
        truth: As in :func:`strokelib.papl.slices.head_slices`.
    """
    how = {"window_hu": recipe.window_hu, "crop": recipe.crop, "smallest_brain_ml": recipe.smallest_brain_ml}
    return pooled(head_slices(cases, **how, truth=truth), recipe.pool)


def segment(model: nn.Module, recipe: SliceRecipe, case: Case, batch: int = 16) -> np.ndarray:
    """Foreground probability (D, H, W) of a case, slice by slice; 0 outside the brain, and outside the recipe's crop.

    Args:
        model: Maps slices (B, 1, h, w) to logits, or holds such a network as ``backbone``.
        recipe: As it was trained with.
        case: Aligned, if the recipe is for aligned heads; with a brain mask. Its reference is not looked at.
        batch: Slices at a time.

    Raises:
        DataError: No brain mask, or an empty one.
        ParameterError: The crop is larger than the grid or loses the middle column, or pixels cannot be pooled.
    """
    if case.brain is None:
        raise DataError(f"case {case.id}", found="no brain mask", wanted="one", next_step="prepare the case")
    brain = case.brain.astype(bool)
    unit = case_images(case, recipe.window_hu, "unit")
    levels = np.flatnonzero(brain.any(axis=(1, 2)))
    place = (slice(None), slice(None)) if recipe.crop is None else midline_box(brain, recipe.crop)
    images = zscore(unit, brain)[levels][:, None, *place]
    _check_pool(recipe.pool, images.shape[2:])
    small = functional.avg_pool2d(torch.from_numpy(np.ascontiguousarray(images)), recipe.pool)
    found = torch.from_numpy(predict_slices(getattr(model, "backbone", model), small, batch))[:, None]
    if recipe.pool > 1:
        found = functional.interpolate(found, scale_factor=recipe.pool, mode="bilinear", align_corners=False)
    probability = np.zeros(brain.shape, np.float32)
    part = np.zeros((len(levels), *brain.shape[1:]), np.float32)
    part[:, *place] = found[:, 0]
    probability[levels] = part
    return np.where(brain, probability, np.float32(0))
