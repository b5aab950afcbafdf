"""Training and use of the paper's segmenters: the rows of Tables 3, 4 and 5 that segment a given image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.data.cases import Case
from strokelib.data.loading import Batch, brain_box
from strokelib.errors import ParameterError
from strokelib.infer import pooled_dice, predict_slices
from strokelib.nn.baselines.fcn import FCN
from strokelib.nn.baselines.r2unet import R2UNet
from strokelib.nn.baselines.resunet import ResUNet
from strokelib.nn.unet import UNet
from strokelib.pseudo_dwi.fitting import fit_slices
from strokelib.pseudo_dwi.losses import SEGMENTATION_LOSSES
from strokelib.pseudo_dwi.model import CHANNELS, SLNet, xavier
from strokelib.pseudo_dwi.recipe import SegmentationRecipe, TrainingRecipe
from strokelib.pseudo_dwi.slices import WEIGHT, NamedSlices, named_slices, sampler, whole_slices

VERSION = 1
DICE = "pooled_dice"
WIDTHS = CHANNELS | {"dwi": 1, "pseudo_dwi": 1}
# The networks of Table 3 by their printed names: (channels in, classes, width, depth) -> network.
NETWORKS: dict[str, Callable[[int, int, int, int], nn.Module]] = {
    "FCN": lambda channels, classes, width, depth: FCN(channels, classes, width),
    "UNet": UNet,
    "R2UNet": R2UNet,
    "ResUNet": ResUNet,
    "SLNet": SLNet,
    "SLNet (w/o SE)": lambda *size: SLNet(*size, excitation=False),
    "SLNet (w/o SN)": lambda *size: SLNet(*size, switchable=False),
}


def build(recipe: SegmentationRecipe) -> nn.Module:
    """The untrained network of a recipe, started by Xavier's method.

    Raises:
        ParameterError: Unknown network, loss or input.
    """
    known = recipe.network in NETWORKS and recipe.loss in SEGMENTATION_LOSSES
    if not known or not recipe.inputs or not set(recipe.inputs) <= set(WIDTHS):
        found = f"network {recipe.network!r}, loss {recipe.loss!r}, inputs {recipe.inputs}"
        wanted = f"one of {', '.join(NETWORKS)}; of {', '.join(SEGMENTATION_LOSSES)}; of {', '.join(WIDTHS)}"
        raise ParameterError("segmentation", found=found, wanted=wanted, next_step="correct the recipe")
    channels = sum(WIDTHS[name] for name in recipe.inputs)
    return xavier(NETWORKS[recipe.network](channels, 2, recipe.width, recipe.depth))


def published_parameters() -> dict[str, int]:
    """Trainable scalars of the networks of Table 3 at the published size, four channels in and two classes out."""
    with torch.device("meta"):
        return {name: sum(p.numel() for p in make(4, 2, 64, 5).parameters()) for name, make in NETWORKS.items()}


def joined(found: NamedSlices, images: Tensor, names: Sequence[str]) -> Tensor:
    """The channels of some names side by side, (B, C, H, W)."""
    return torch.cat([*found.take(images, names).values()], dim=1)


def fit(
    model: nn.Module,
    recipe: SegmentationRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train a segmenter; the weights with the best pooled validation Dice are kept.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: With the channels of ``recipe.inputs``.
        val_cases: As above, of other patients.
        seed: Of the batches.
        out: Folder of the run.
    """
    loss, names = SEGMENTATION_LOSSES[recipe.loss], recipe.inputs
    shown = named_slices(train_cases, names, recipe)
    held_out = named_slices(val_cases, names, recipe).spread(recipe.val_slices)
    images = joined(held_out, held_out.slices.images, names)

    def step(network: nn.Module, batch: Batch, index: int) -> Tensor:
        weight = shown.take(batch.images, [WEIGHT])[WEIGHT][:, 0]
        return loss(network(joined(shown, batch.images, names)), batch.lesions, weight)

    def validate(network: nn.Module) -> dict[str, float]:
        return {DICE: pooled_dice(network, images, held_out.slices.lesions, recipe.batch)}

    return fit_slices(model, sampler(shown, recipe, seed), step, validate, DICE, recipe, seed=seed, out=out)


def in_window(case: Case, recipe: TrainingRecipe) -> tuple[slice, slice]:
    """Rows and columns that a network looks at: the recipe's window about the brain, or the whole slice."""
    if recipe.crop is None or case.brain is None:
        return slice(None), slice(None)
    return brain_box(case.brain, recipe.crop)


def segment(model: nn.Module, recipe: SegmentationRecipe, case: Case) -> np.ndarray:
    """Foreground probability (D, H, W) of a case; 0 outside the brain."""
    images = torch.cat([*whole_slices(case, recipe.inputs).values()], dim=1)
    rows, columns = in_window(case, recipe)
    probability = np.zeros(case.image.array.shape, np.float32)
    probability[:, rows, columns] = predict_slices(model, images[..., rows, columns], recipe.batch)
    return probability if case.brain is None else np.where(case.brain, probability, np.float32(0))
