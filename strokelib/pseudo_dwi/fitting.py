"""The paper's optimiser and schedule, for all of its trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from strokelib import train
from strokelib.data.loading import SliceSampler
from strokelib.pseudo_dwi.recipe import TrainingRecipe
from strokelib.train.updates import Step

VERSION = 1


def fit_slices(
    model: nn.Module,
    batches: SliceSampler,
    step: Step,
    validate: Callable[[nn.Module], dict[str, float]],
    best: str,
    recipe: TrainingRecipe,
    *,
    seed: int,
    out: Path,
) -> train.History:
    """RMSprop with one drop of the learning rate, and the weights of the best validation.

    Source: Sec. 4.1, Wang et al. 2020.
    Deviation: the paper counts epochs, this counts steps; what it validates on is not stated, and ``best`` says it.

    Args:
        model: In training mode; frozen parts stay frozen.
        batches: Stream of batches.
        step: As :func:`strokelib.train.fit` takes it.
        validate: As above.
        best: Name of the validation scalar whose best weights are kept.
        recipe: Hyper-parameters.
        seed: Of the global generators.
        out: Folder of the run.
    """
    moving = [p for p in model.parameters() if p.requires_grad]
    return train.fit(
        model,
        batches,
        step,
        optimizer=torch.optim.RMSprop(moving, recipe.lr, alpha=recipe.smoothing),
        schedule=train.step_decay((round(recipe.steps * recipe.drop_after),), recipe.drop),
        validate=validate,
        best=best,
        ema_decay=recipe.ema_decay,
        clip_norm=recipe.clip_norm,
        **train.paced(recipe),
        out=out,
        seed=seed,
    )
