"""Supervised training of nnU-Net, from scratch or from a pre-trained encoder, and prediction with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib import train
from strokelib.data.augment3d import Augmentation3d
from strokelib.data.cases import Case
from strokelib.data.loading import Batch
from strokelib.data.patches import PatchSampler
from strokelib.errors import ParameterError
from strokelib.infer import foreground, model_device, sliding_window
from strokelib.nn.losses import focus_at, missed_lesion_loss
from strokelib.ssl_nnunet.network import NNUNet
from strokelib.ssl_nnunet.planning import window_stride
from strokelib.ssl_nnunet.recipe import FinetuningRecipe
from strokelib.ssl_nnunet.schedules import is_frozen
from strokelib.ssl_nnunet.setup import Setup
from strokelib.ssl_nnunet.supervision import (
    EMA,
    Counts,
    count_voxels,
    deep_supervision_loss,
    deep_supervision_weights,
    ema_of,
)
from strokelib.ssl_nnunet.volumes import on_case_grid
from strokelib.train.batches import to_device

VERSION = 2
PSEUDO_DICE, AVERAGED = "pseudo_dice", "pseudo_dice_ema"
VAL_SEED = 1_000_003
VAL_LESION_SHARE = 1 / 3
AUGMENTATION = Augmentation3d(mirror=(0.5, 0.5, 0.5))


class FinetunedNetwork(nn.Module):
    """nnU-Net with the moving average of its pseudo-Dice, so that a resumed run knows it.

    Args:
        network: Logits (B, 1, D, H, W).
    """

    average: Tensor

    def __init__(self, network: NNUNet) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("average", torch.tensor(float("nan")))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """As :class:`strokelib.ssl_nnunet.network.NNUNet`."""
        return self.network(x)


def build(recipe: FinetuningRecipe, setup: Setup, start: Mapping[str, Tensor] | None = None) -> FinetunedNetwork:
    """The planned network, its encoder pre-trained where a start is given.

    Args:
        recipe: Channels.
        setup: Plan.
        start: Of :meth:`strokelib.ssl_nnunet.model.DeepSelfDistillation.teacher_encoder`.

    Raises:
        DataError: The start is another plan's.
    """
    network = NNUNet(recipe.channels, 1, **setup.network)
    if start is not None:
        network.load_encoder(start)
    return FinetunedNetwork(network)


def fit(
    model: FinetunedNetwork,
    recipe: FinetuningRecipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
    setup: Setup,
) -> train.History:
    """Train with deep supervision; the weights with the highest average of the pseudo-Dice are kept.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: the rate falls with each step, in nnU-Net with each epoch. As in the paper the validation scans choose
        the weights that they are then scored with.

    Args:
        model: From :func:`build`.
        recipe: Hyper-parameters.
        train_cases: With references.
        val_cases: Of other patients.
        seed: Of the batches.
        out: Folder of the run.
        setup: Plan and normalisation.
    """
    patch, heads = setup.plan.patch, setup.heads(recipe, train_cases)
    stream = PatchSampler(heads, patch, recipe.batch, seed, recipe.lesion_share, AUGMENTATION, inside=True)
    drawn = PatchSampler(setup.heads(recipe, val_cases), patch, recipe.batch, VAL_SEED, VAL_LESION_SHARE, inside=True)
    held_out = list(islice(drawn, max(1, recipe.val_patches // recipe.batch)))
    levels = min(recipe.levels, model.network.supervised)
    weights = deep_supervision_weights(levels, recipe.weights)

    def step(network: FinetunedNetwork, batch: Batch, index: int) -> Tensor:
        network.network.freeze_encoder(is_frozen(index, recipe.steps, recipe.frozen_share))
        logits, truth = network(batch.images), batch.lesions[:, None].float()
        logits = logits if isinstance(logits, list) else [logits]
        loss = deep_supervision_loss(logits, truth, weights, recipe.loss)
        return loss + focus_at(recipe.focus, index, recipe.steps) * missed_lesion_loss(logits[0], truth)

    def validate(network: FinetunedNetwork) -> dict[str, float]:
        dice = patches_dice(network, held_out)
        before = float(network.average)
        network.average.fill_(ema_of([before, dice], EMA)[-1])
        return {PSEUDO_DICE: dice, AVERAGED: float(network.average)}

    return train.fit(
        model,
        stream,
        step,
        optimizer=_optimizer(model, recipe),
        schedule=train.poly(recipe.steps, recipe.power),
        validate=validate,
        best=AVERAGED,
        clip_norm=recipe.clip_norm,
        **train.paced(recipe),
        out=out,
        seed=seed,
    )


def _optimizer(model: nn.Module, recipe: FinetuningRecipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        momentum = {"momentum": recipe.momentum, "nesterov": True}
        return torch.optim.SGD(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay, **momentum)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    wanted, step = "'sgd' or 'adamw'", "give one of these"
    raise ParameterError("optimizer", found=repr(recipe.optimizer), wanted=wanted, next_step=step)


def patches_dice(network: nn.Module, batches: Sequence[Batch]) -> float:
    """Pseudo-Dice of some batches of patches, counted together; 0 where nothing is there and nothing found."""
    device, total = model_device(network), Counts()
    for batch in batches:
        seen = to_device(batch, device)
        total = total + count_voxels(network(seen.images), seen.lesions[:, None])
    return 0.0 if np.isnan(total.dice) else total.dice


def segment(model: FinetunedNetwork, recipe: FinetuningRecipe, case: Case, *, setup: Setup) -> np.ndarray:
    """Foreground probability (D, H, W) of a case on its own grid, by sliding windows; 0 outside its brain mask.

    The brain is cut out there and not on the voxels that the network sees, where its rim would fall towards 0.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: a head smaller than the window is filled up with background; logits are averaged, not probabilities.
    """
    (head,) = setup.heads(recipe, [case], unlabelled=True)
    window = setup.plan.patch
    missing = [max(0, side - n) for side, n in zip(window, head.images.shape[1:], strict=True)]
    before = [m // 2 for m in missing]
    pads = [p for m, b in reversed(list(zip(missing, before, strict=True))) for p in (b, m - b)]
    full = torch.stack(
        [functional.pad(image, pads, value=float(fill)) for image, fill in zip(head.images, head.fill, strict=True)]
    )
    stride = window_stride(window, recipe.window_step)
    logits = sliding_window(model, full, window, stride, mirror_axes=recipe.mirror_axes)
    inside = (slice(None), *(slice(b, b + n) for b, n in zip(before, head.images.shape[1:], strict=True)))
    return on_case_grid(head.placed(foreground(logits[inside][None])[0]), case)
