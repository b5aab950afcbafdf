"""End-to-end training of extractor, generator and SLNet: the pseudo-DWI rows of Table 5 of Wang et al. 2020."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.data.cases import Case
from strokelib.data.loading import Batch
from strokelib.errors import ParameterError
from strokelib.infer import evaluating, foreground, model_device, pooled_dice
from strokelib.nn.precision import autocast, channels_last
from strokelib.pseudo_dwi.fitting import fit_slices
from strokelib.pseudo_dwi.losses import segmentation_loss, synthesis_loss, total_loss
from strokelib.pseudo_dwi.model import Chain, ContextEncoder, PseudoDwi, xavier
from strokelib.pseudo_dwi.recipe import ChainRecipe
from strokelib.pseudo_dwi.segmentation import DICE, in_window
from strokelib.pseudo_dwi.slices import WEIGHT, NamedSlices, named_slices, sampler, whole_slices

VERSION = 1


class ChainInTraining(nn.Module):
    """The chain with the context encoder of its loss.

    Args:
        recipe: Inputs, sizes, and whether the context encoder is frozen or trained along.

    Raises:
        ParameterError: Another word for the context encoder.
    """

    def __init__(self, recipe: ChainRecipe) -> None:
        super().__init__()
        if recipe.context not in ("frozen", "joint"):
            found, wanted = repr(recipe.context), "frozen or joint"
            raise ParameterError("context", found=found, wanted=wanted, next_step="correct the recipe")
        self.chain = PseudoDwi(recipe.inputs, recipe.segment_maps, recipe.width, recipe.depth)
        self.context = ContextEncoder(frozen=recipe.context == "frozen")
        xavier(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the channels it is fed with."""
        return tuple(dict.fromkeys((*self.chain.inputs, *(("maps",) if self.chain.segment_maps else ()))))

    def forward(self, channels: dict[str, Tensor]) -> Chain:
        """Run the chain on channels (B, C, H, W) by name."""
        return self.chain(**{name: channels[name] for name in self.needs})


def build(recipe: ChainRecipe) -> ChainInTraining:
    """The untrained chain, started by Xavier's method."""
    return ChainInTraining(recipe)


def step_loss(
    model: ChainInTraining, recipe: ChainRecipe, channels: dict[str, Tensor], lesions: Tensor
) -> dict[str, Tensor]:
    """Eq. 15 of a batch, and its three parts.

    Args:
        model: The chain.
        recipe: Its weights.
        channels: Name -> (B, C, H, W), with ``dwi`` and ``weight``.
        lesions: (B, H, W) class numbers.
    """
    found, target, weight = model(channels), channels["dwi"], channels[WEIGHT]
    segmentation = segmentation_loss(found.logits, lesions, weight[:, 0])
    synthesis = synthesis_loss(found.image, target, weight, model.context, gamma=recipe.gamma)
    extraction = None
    if found.high_level is not None:
        extraction = synthesis_loss(found.high_level, target, weight, model.context, gamma=recipe.gamma)
    loss = total_loss(segmentation, synthesis, extraction, recipe.alpha, recipe.beta)
    parts = {"segmentation": segmentation, "synthesis": synthesis}
    parts |= {} if extraction is None else {"extraction": extraction}
    return {"loss": loss, **{name: value.detach() for name, value in parts.items()}}


class _OnStack(nn.Module):
    """The chain on channels that lie one after the other, as slices hold them; gives the segmenter's logits."""

    def __init__(self, model: ChainInTraining, stack: NamedSlices) -> None:
        super().__init__()
        self.model, self.stack = model, stack

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2, H, W)."""
        return self.model(self.stack.take(images, self.model.needs)).logits


def fit(
    model: ChainInTraining,
    recipe: ChainRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Train the chain; the weights with the best pooled validation Dice are kept.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: With the channels of ``model.needs`` and ``dwi``.
        val_cases: As above, of other patients.
        seed: Of the batches.
        out: Folder of the run.
    """
    names = (*model.needs, "dwi")
    shown = named_slices(train_cases, names, recipe)
    held_out = named_slices(val_cases, names, recipe).spread(recipe.val_slices)

    def step(network: nn.Module, batch: Batch, index: int) -> dict[str, Tensor]:
        return step_loss(network, recipe, shown.take(batch.images, (*names, WEIGHT)), batch.lesions)

    def validate(network: nn.Module) -> dict[str, float]:
        images, lesions = held_out.slices.images, held_out.slices.lesions
        return {DICE: pooled_dice(_OnStack(network, held_out), images, lesions, recipe.batch)}

    return fit_slices(model, sampler(shown, recipe, seed), step, validate, DICE, recipe, seed=seed, out=out)


class ChainImages(NamedTuple):
    """What the chain makes of a case.

    Args:
        probability: Of lesion, (D, H, W); 0 outside the brain.
        image: Pseudo-DWI (D, H, W); 0 outside the window about the brain.
        high_level: The extractor's output, as ``image``; None without an extractor.
    """

    probability: np.ndarray
    image: np.ndarray
    high_level: np.ndarray | None


def run_chain(model: ChainInTraining, recipe: ChainRecipe, case: Case) -> ChainImages:
    """All that the chain makes of a case, slice by slice, in [0, 1]."""
    channels, device = whole_slices(case, model.needs), model_device(model)
    rows, columns = in_window(case, recipe)
    (probability, image), high_level = np.zeros((2, *case.image.array.shape), np.float32), None
    with evaluating(model), torch.inference_mode(), autocast("auto", device):
        for start in range(0, len(image), recipe.batch):
            z = slice(start, start + recipe.batch)
            part = {n: channels_last(c[z][..., rows, columns].to(device)) for n, c in channels.items()}
            found = model(part)
            image[z, rows, columns] = found.image[:, 0].float().cpu().numpy()
            probability[z, rows, columns] = foreground(found.logits).cpu().numpy()
            if found.high_level is not None:
                high_level = np.zeros_like(image) if high_level is None else high_level
                high_level[z, rows, columns] = found.high_level[:, 0].float().cpu().numpy()
    inside = True if case.brain is None else case.brain
    return ChainImages(np.where(inside, probability, np.float32(0)), image, high_level)


def segment(model: ChainInTraining, recipe: ChainRecipe, case: Case) -> np.ndarray:
    """Foreground probability (D, H, W) of a case; 0 outside the brain."""
    return run_chain(model, recipe, case).probability
