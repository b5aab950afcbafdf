"""The paper's optimiser and schedule, for all of its trainings, and the weights that are kept on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strokelib import train
from strokelib.papl.snapshots import Keeper, snapshot_steps
from strokelib.train.updates import Step


def fit_slices(
    model: nn.Module,
    parameters: Iterable[nn.Parameter],
    batches: train.Sampler,
    step: Step,
    validate: Callable[[nn.Module], dict[str, float]],
    recipe: Any,
    *,
    seed: int,
    out: Path,
) -> train.History:
    """Adam, a learning rate that stays or falls as a power of what is left of the run; the last weights are kept.

    Source: Sec. IV.B, Sun et al. 2024.
    Deviation: a short run's rate falls and its weights decay; gradients are clipped.

    Args:
        model: In training mode.
        parameters: Those that are trained.
        batches: Stream of batches.
        step: As :func:`strokelib.train.fit` takes it.
        validate: As above; for the curves alone.
        recipe: A recipe of slices with ``steps``, ``lr``, ``validations`` and ``snapshots``.
        seed: Of the global generators.
        out: Folder of the run.
    """
    keeper = Keeper(out, snapshot_steps(recipe.snapshots, recipe.steps))
    keeper.begin(model)
    return train.fit(
        model,
        batches,
        step,
        optimizer=torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay),
        schedule=train.poly(recipe.steps, recipe.schedule_power),
        validate=validate,
        after_step=keeper.after_step,
        clip_norm=recipe.clip_norm,
        **train.paced(recipe),
        out=out,
        seed=seed,
    )
