"""Training and use of SEAN, the one comparator of Table 1 that sees single slices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.adn.fitting import DICE, fit_heads
from strokelib.adn.losses import segmentation_loss
from strokelib.adn.recipe import SeanRecipe
from strokelib.data.augment import Augmentation
from strokelib.data.cases import Case
from strokelib.data.loading import Batch, Slices, SliceSampler, brain_box, case_images, slices_of
from strokelib.infer import pooled_dice, predict_slices
from strokelib.nn.alignment import invert_rigid, warp_2d
from strokelib.nn.baselines.sean import SEAN
from strokelib.nn.baselines.sean_alignment import SliceAlignment, slice_alignment_loss
from strokelib.nn.losses import focus_at, missed_lesion_loss

VERSION = 1
SURELY_NOT = -10.0  # the logit of what lies outside the aligned slice


class AlignedSEAN(nn.Module):
    """Both parts of SEAN: a slice is aligned, segmented, and its logits are brought back.

    Args:
        width: As in :class:`strokelib.nn.baselines.sean.SEAN`.
        depth: As above.
    """

    def __init__(self, width: int = 32, depth: int = 5) -> None:
        super().__init__()
        self.alignment = SliceAlignment(1, width)
        self.segmenter = SEAN(1, 1, width, depth)

    def forward(self, images: Tensor) -> Tensor:
        """Slices (B, 1, H, W) in [0, 1] to logits (B, 1, H, W) in the slices' own frame; no gradient to the pose."""
        with torch.no_grad():
            matrix = self.alignment.matrix(images).float()
        found = self.segmenter(warp_2d(images, matrix))
        return warp_2d(found.float(), invert_rigid(matrix), fill=SURELY_NOT)


def build(recipe: SeanRecipe) -> AlignedSEAN:
    """The untrained network."""
    return AlignedSEAN(recipe.width, recipe.depth)


def _slices(cases: Sequence[Case], recipe: SeanRecipe) -> Slices:
    return slices_of(cases, window_hu=recipe.window_hu, normalise="unit", smallest_brain_ml=5.0, crop=recipe.crop)


def fit(
    model: nn.Module,
    recipe: SeanRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train the alignment, then the segmenter on what it aligns; the weights of the best validation Dice are kept.

    Source: Table 1, Ni et al. 2022, where SEAN was trained again.
    Deviation: nothing is said of its training; the loss is that of Eq. 4, over a batch's slices as one volume.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: Prepared cases with a reference.
        val_cases: As above, of other patients.
        seed: Of the batches.
        out: Folder of the run.
    """
    change = Augmentation(
        mirror=recipe.mirror, rotation_deg=recipe.rotation_deg, zoom=0, shift=0, contrast=0, brightness=0, noise=0
    )
    stream = SliceSampler(_slices(train_cases, recipe), recipe.batch, seed, recipe.lesion_share, change)
    held_out = _slices(val_cases, recipe).spread(recipe.val_slices)

    def step(network: nn.Module, batch: Batch, index: int) -> Tensor:
        if index < recipe.alignment_steps:
            return slice_alignment_loss(network.alignment, batch.images)
        logits, lesion = network(batch.images).transpose(0, 1)[None], batch.lesions[None, None].float()
        more = focus_at(recipe.focus, index, recipe.steps)
        return segmentation_loss(logits, lesion) + more * missed_lesion_loss(logits, lesion)

    def validate(network: nn.Module) -> dict[str, float]:
        return {DICE: pooled_dice(network, held_out.images, held_out.lesions, recipe.batch)}

    return fit_heads(model, stream, step, validate, DICE, recipe, seed=seed, out=out)


def segment(model: nn.Module, recipe: SeanRecipe, case: Case) -> np.ndarray:
    """Foreground probability (D, H, W) of a case in its own frame; 0 outside the brain."""
    images = torch.from_numpy(case_images(case, recipe.window_hu, "unit"))[:, None]
    place = (slice(None), slice(None))
    if recipe.crop is not None and case.brain is not None:
        place = brain_box(case.brain, recipe.crop)
    probability = np.zeros(case.image.array.shape, np.float32)
    probability[:, *place] = predict_slices(model, images[..., place[0], place[1]], recipe.batch)
    return probability if case.brain is None else np.where(case.brain, probability, np.float32(0))
