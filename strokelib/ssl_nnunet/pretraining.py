"""Training of an encoder by deep self-distillation, and what tells whether it collapses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from strokelib import train
from strokelib.data.cases import Case
from strokelib.infer import evaluating, model_device
from strokelib.ssl_nnunet.collapse import rank_me, teacher_entropy, teacher_spread
from strokelib.ssl_nnunet.losses import self_distillation_loss, stage_losses, tempered_softmax, update_centre
from strokelib.ssl_nnunet.model import DeepSelfDistillation, Distilled
from strokelib.ssl_nnunet.recipe import PretrainingRecipe
from strokelib.ssl_nnunet.representations import represent
from strokelib.ssl_nnunet.schedules import teacher_momentum, teacher_temperature, weight_decay
from strokelib.ssl_nnunet.setup import Setup
from strokelib.ssl_nnunet.views import Views, ViewSampler
from strokelib.train.batches import to_device

VERSION = 1
RANK = "rank_me"
VAL_SEED = 1_000_003


def build(recipe: PretrainingRecipe, setup: Setup) -> DeepSelfDistillation:
    """Student and teacher of the planned encoder."""
    sizes = {"hidden": recipe.hidden, "bottleneck": recipe.bottleneck, "out": recipe.prototypes}
    return DeepSelfDistillation(recipe.channels, **setup.network, **sizes)


def view_stream(recipe: PretrainingRecipe, setup: Setup, cases: Sequence[Case], seed: int) -> ViewSampler:
    """Pairs of views of some scans.

    Args:
        recipe: Sizes, batch and symmetry.
        setup: Normalisation.
        cases: With contralateral images where the recipe has symmetric pairs or two channels.
        seed: Of the stream.
    """
    heads = setup.heads(recipe, cases, contralateral=recipe.symmetry > 0, unlabelled=True)
    how = {"slab": recipe.slab, "base": recipe.base_of_views, "symmetry": recipe.symmetry}
    return ViewSampler(heads, recipe.view, recipe.batch, seed, **how)


def fit(
    model: DeepSelfDistillation,
    recipe: PretrainingRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
    setup: Setup,
) -> train.History:
    """Pre-train; the last weights are kept.

    Source: Sec. 3.4 and 3.4.2, Seia et al. 2023.
    Deviation: the base learning rate is not the printed 0.1 (S5); an epoch is 150 batches (S6).

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: Scans; their references are not looked at.
        val_cases: Of other patients, for the curves alone.
        seed: Of the batches.
        out: Folder of the run.
        setup: Plan and normalisation.
    """
    stream = view_stream(recipe, setup, train_cases, seed)
    held_out = list(islice(view_stream(recipe, setup, val_cases, VAL_SEED), recipe.val_batches))
    first_decay, last_decay = recipe.weight_decay
    optimizer = torch.optim.AdamW(model.student.parameters(), recipe.lr, weight_decay=first_decay)

    def temperature(index: int) -> float:
        return teacher_temperature(index, recipe.steps, *recipe.teacher_temperature, recipe.warm_share)

    def step(network: DeepSelfDistillation, batch: Views, index: int) -> dict[str, Tensor]:
        for group in optimizer.param_groups:
            group["weight_decay"] = weight_decay(index, recipe.steps, first_decay, last_decay)
        network.freeze_last_layer(index < recipe.frozen_steps)
        found = network(batch.first, batch.second)
        both = (recipe.student_temperature, temperature(index))
        loss = self_distillation_loss(found.student, found.teacher, network.centre, *both)
        with torch.no_grad():
            network.centre.copy_(update_centre(network.centre, found.teacher, recipe.centre_momentum))
        return {"loss": loss}

    def after_step(network: DeepSelfDistillation, index: int) -> None:
        network.update_teacher(teacher_momentum(index, recipe.steps, recipe.momentum))

    def validate(network: DeepSelfDistillation) -> dict[str, float]:
        return watch(network, held_out, recipe.student_temperature, recipe.teacher_temperature[1])

    return train.fit(
        model,
        stream,
        step,
        optimizer=optimizer,
        schedule=train.cosine(recipe.steps, round(recipe.warm_share * recipe.steps)),
        validate=validate,
        after_step=after_step,
        **train.paced(recipe),
        out=out,
        seed=seed,
    )


@torch.no_grad()
def watch(
    network: DeepSelfDistillation, batches: Sequence[Views], student_temperature: float, teacher_temperature: float
) -> dict[str, float]:
    """What tells collapse from learning, on held-out views.

    Args:
        network: In eval mode: running statistics stand in for those of a batch.
        batches: Pairs of views.
        student_temperature: T_s.
        teacher_temperature: T_t.

    Returns:
        ``val_loss``: Eq. 3; log K where everything is said to be alike.
        ``val_loss_first`` and ``val_loss_last``: the part of the finest and of the deepest stage.
        ``rank_me``: of the teacher's latent vectors.
        ``teacher_entropy`` and ``teacher_spread``: in nats, of the teacher's centred and sharpened outputs.
    """
    device = model_device(network)
    found: list[Distilled] = [network(batch.first, batch.second) for batch in to_device(list(batches), device)]
    losses = [
        stage_losses(one.student, one.teacher, network.centre, student_temperature, teacher_temperature)
        for one in found
    ]
    stages = torch.stack(losses).mean(dim=0).cpu()
    logits = torch.cat([view for one in found for view in one.teacher])
    said = tempered_softmax(logits, teacher_temperature, network.centre)
    return {
        "val_loss": float(stages.mean()),
        "val_loss_first": float(stages[0]),
        "val_loss_last": float(stages[-1]),
        RANK: rank_me(torch.cat([one.latent for one in found])),
        "teacher_entropy": teacher_entropy(said),
        "teacher_spread": teacher_spread(said),
    }


def representation(model: DeepSelfDistillation, recipe: PretrainingRecipe, case: Case, *, setup: Setup) -> np.ndarray:
    """The teacher's pooled last stage for a case, (channels of the last stage,) float32.

    Source: Sec. 3.4.3, Seia et al. 2023.
    Deviation: as in :func:`strokelib.ssl_nnunet.representations.represent` (S35); the slab has a view's slices.
    """
    heads = setup.heads(recipe, [case], unlabelled=True)
    with evaluating(model):
        return represent(encoder_of(model), list(heads), slices=recipe.view[0])[0]


def encoder_of(model: DeepSelfDistillation) -> nn.Module:
    """The part that is kept: the teacher's encoder."""
    return model.teacher.encoder
