"""The paper's optimiser and schedule, for all of its trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from strokelib import train
from strokelib.adn.recipe import HeadRecipe
from strokelib.train.updates import Step

VERSION = 1
DICE = "pooled_dice"


def fit_heads(
    model: nn.Module,
    batches: train.Sampler,
    step: Step,
    validate: Callable[[nn.Module], dict[str, float]],
    best: str,
    recipe: HeadRecipe,
    *,
    seed: int,
    out: Path,
) -> train.History:
    """AdamW with a learning rate that falls as a power of what is left of the run; the best validation is kept.

    Source: Sec. 3, Ni et al. 2022.
    Deviation: the paper stops where the training Dice is flat for two epochs and keeps the last weights, with no
        validation (A18, A20); here the number of steps is fixed, held-out heads choose the weights, and the last
        validation stands in the history beside the best.

    Args:
        model: In training mode.
        batches: Stream of batches.
        step: As :func:`strokelib.train.fit` takes it.
        validate: As above.
        best: Name of the validation scalar whose best weights are kept.
        recipe: With ``steps``, ``lr`` and ``ema_decay``.
        seed: Of the global generators.
        out: Folder of the run.
    """
    betas = (recipe.beta1, recipe.beta2)
    return train.fit(
        model,
        batches,
        step,
        optimizer=torch.optim.AdamW(model.parameters(), recipe.lr, betas=betas, weight_decay=recipe.weight_decay),
        schedule=train.poly(recipe.steps, recipe.power),
        validate=validate,
        best=best,
        ema_decay=recipe.ema_decay,
        clip_norm=recipe.clip_norm,
        **train.paced(recipe),
        out=out,
        seed=seed,
    )
