"""The supervised side of Seia et al. 2023, nnU-Net's: loss, deep supervision, pseudo-Dice and its moving average.

Logits and truths are (B, 1, *size); a truth is 0 or 1 (or bool). Losses are float32, also of float16 and bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.losses import soft_dice_loss
from strokelib.options import chosen

VERSION = 1
SMOOTH = 1e-5
LEVELS = 4
EMA = 0.9
WeightForm = Literal["halving", "printed"]
LossForm = Literal["sum", "average"]


def deep_supervision_weights(levels: int = LEVELS, form: WeightForm = "halving") -> tuple[float, ...]:
    """Weights of the losses at the decoder's resolutions, finest first; they sum to one.

    ``halving``: each is half of the one before, (8, 4, 2, 1) / 15 for four. ``printed``: each is half of the first,
    (.4, .2, .2, .2) for four.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: halving, as nnU-Net has it; the printed formula refers to the first weight throughout (S18).

    Args:
        levels: Resolutions with a loss: all of the decoder's but the lowest.
        form: One of the two.

    Raises:
        ParameterError: Another form, or no level.
    """
    chosen("form", form, get_args(WeightForm))
    if levels < 1:
        raise ParameterError("levels", found=levels, wanted="1 or more", next_step="count the resolutions with a loss")
    raw = [0.5**i if form == "halving" else 0.5 ** min(i, 1) for i in range(levels)]
    return tuple(weight / sum(raw) for weight in raw)


def segmentation_loss(logits: Tensor, truth: Tensor, form: LossForm = "sum", *, batch_dice: bool = False) -> Tensor:
    """Cross-entropy and soft Dice loss: mean(BCE(p, truth)) + 1 - (2 sum(p truth) + s) / (sum(p) + sum(truth) + s).

    p = sigmoid(logits), s = 1e-5, natural logarithm. ``average`` is half of ``sum``.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: nnU-Net's sum; the text's ``average`` halves the gradient, which SGD undoes with twice the rate (S20).

    Args:
        logits: (B, 1, *size).
        truth: The same shape.
        form: One of the two.
        batch_dice: One Dice over the batch's patches, in place of the mean over patches. nnU-Net has the latter for
            a full-resolution network without a cascade; there a patch without lesion costs 1 for any false voxel.

    Returns:
        A scalar >= 0; 0 for a perfect and certain prediction, also when both are empty.

    Raises:
        ParameterError: Another form, or shapes that differ or are not (B, 1, *size).
    """
    chosen("form", form, get_args(LossForm))
    _same_shapes(logits, truth)
    x, y = logits.float(), truth.float()
    entropy = functional.binary_cross_entropy_with_logits(x, y)
    p = x.sigmoid()
    if batch_dice:
        dice = soft_dice_loss(p, y, SMOOTH)
    else:
        dice = torch.stack([soft_dice_loss(*pair, SMOOTH) for pair in zip(p, y, strict=True)]).mean()
    return (entropy + dice) / (1 if form == "sum" else 2)


def deep_supervision_loss(
    logits: Sequence[Tensor],
    truth: Tensor,
    weights: Sequence[float],
    form: LossForm = "sum",
    *,
    batch_dice: bool = False,
) -> Tensor:
    """The weighted sum of the losses at several resolutions: sum_i weights_i segmentation_loss(logits_i, truth_i).

    truth_i is the truth at the size of logits_i, each voxel the nearest one to its centre.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: none.

    Args:
        logits: Finest first, each (B, 1, *size of its own). Those beyond the last weight have no loss.
        truth: (B, 1, *size) of the finest.
        weights: As :func:`deep_supervision_weights` gives them; no more than there are logits.
        form: As of :func:`segmentation_loss`.
        batch_dice: As of :func:`segmentation_loss`.

    Returns:
        A scalar >= 0.

    Raises:
        ParameterError: No weights, more weights than logits, or as :func:`segmentation_loss`.
    """
    if not 0 < len(weights) <= len(logits):
        step = "call deep_supervision_weights with the number of resolutions that have a loss"
        found = f"{len(weights)} weights for {len(logits)} resolutions"
        raise ParameterError("weights", found=found, wanted="one to one a resolution", next_step=step)
    _same_shapes(logits[0], truth)
    losses = [
        weight * segmentation_loss(level, shrunk(truth, level.shape[2:]), form, batch_dice=batch_dice)
        for level, weight in zip(logits[: len(weights)], weights, strict=True)
    ]
    return torch.stack(losses).sum()


def shrunk(truth: Tensor, size: Sequence[int]) -> Tensor:
    """A truth at another size, float32: each voxel takes the value at its centre, or of the next voxel above.

    Args:
        truth: (B, 1, *size).
        size: The new size.
    """
    return functional.interpolate(truth.float(), size=tuple(size), mode="nearest-exact")


@dataclass(frozen=True)
class Counts:
    """Voxels found and right, found and wrong, and missed; counts of several batches can be added.

    Args:
        true_positive: In prediction and truth.
        false_positive: In the prediction alone.
        false_negative: In the truth alone.
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
        )

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN); NaN where nothing is there and nothing found."""
        size = 2 * self.true_positive + self.false_positive + self.false_negative
        return 2 * self.true_positive / size if size else math.nan


@torch.no_grad()
def count_voxels(logits: Tensor, truth: Tensor) -> Counts:
    """Counts over all patches of a batch; a voxel is found where its logit is above 0.

    Raises:
        ParameterError: Shapes that differ or are not (B, 1, *size).
    """
    _same_shapes(logits, truth)
    found, there = logits > 0, truth > 0
    both, either = int((found & there).sum()), (int(found.sum()), int(there.sum()))
    return Counts(both, either[0] - both, either[1] - both)


def pseudo_dice(logits: Tensor, truth: Tensor) -> float:
    """Dice of a batch of patches as if it were one case: 2 TP / (2 TP + FP + FN), counts over all its patches.

    nnU-Net adds the counts of an epoch's batches first: ``sum(map(count_voxels, ...), Counts()).dice``.

    Source: Sec. 3.5, Seia et al. 2023.
    Deviation: none.

    Args:
        logits: (B, 1, *size).
        truth: The same shape.

    Returns:
        In [0, 1]; NaN where nothing is there and nothing found.

    Raises:
        ParameterError: Shapes that differ or are not (B, 1, *size).
    """
    return count_voxels(logits, truth).dice


def ema_of(values: Iterable[float], alpha: float = EMA) -> list[float]:
    """nnU-Net's moving average, by whose maximum the best network is chosen: e_i = alpha e_(i-1) + (1 - alpha) v_i.

    The first value starts it. A missing value (NaN) leaves it as it is.

    Args:
        values: Pseudo-Dice of each validation, in order.
        alpha: In [0, 1).

    Returns:
        The average after each value; NaN until the first that is not missing.

    Raises:
        ParameterError: Another alpha.
    """
    if not 0 <= alpha < 1:
        raise ParameterError("alpha", found=alpha, wanted="0 to below 1", next_step="nnU-Net has 0.9")
    averages, now = [], math.nan
    for value in values:
        if math.isnan(now):
            now = float(value)
        elif not math.isnan(value):
            now = alpha * now + (1 - alpha) * value
        averages.append(now)
    return averages


def _same_shapes(logits: Tensor, truth: Tensor) -> None:
    """Refuse what is not of one shape (B, 1, *size): nothing is broadcast."""
    if logits.shape != truth.shape or logits.ndim < 3 or logits.shape[1] != 1:
        found = f"logits {tuple(logits.shape)}, truth {tuple(truth.shape)}"
        step = "give the truth its channel, and logits of one channel"
        raise ParameterError("logits and truth", found=found, wanted="one shape (B, 1, *size)", next_step=step)
