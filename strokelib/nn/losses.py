"""Losses that more than one method uses: soft Dice, cross-entropy with a weight map, generalised Dice.

Probabilities and logits are (B, C, *size); targets are class numbers (B, *size). Sums run over the whole batch, so that
a slice without any lesion neither divides by nothing nor scores a full loss for one stray voxel. They are float32.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

VERSION = 1
EPSILON = 1e-7


def one_hot(target: Tensor, classes: int) -> Tensor:
    """Class numbers (B, *size) to float32 indicators (B, classes, *size)."""
    return functional.one_hot(target.long(), classes).movedim(-1, 1).float()


def soft_dice_loss(probability: Tensor, target: Tensor, epsilon: float = EPSILON) -> Tensor:
    """One minus the soft Dice of a foreground probability: 1 - (2 sum(p y) + epsilon) / (sum(p) + sum(y) + epsilon).

    Args:
        probability: Foreground probability, any shape, in [0, 1].
        target: 0 or 1 (or bool), same shape.
        epsilon: Makes "nothing there, nothing found" a perfect score.

    Returns:
        A scalar in [0, 1]; 0 for a perfect prediction, also when both are empty.
    """
    p, y = probability.float(), target.float()
    return 1 - (2 * (p * y).sum() + epsilon) / (p.sum() + y.sum() + epsilon)


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy (natural logarithm), averaged over voxels, by a weight map if one is given: sum(w l) / sum(w).

    Args:
        logits: (B, C, *size).
        target: Class numbers (B, *size).
        weight: Non-negative weight of each voxel (B, *size), or None.

    Returns:
        A scalar >= 0.
    """
    each = functional.cross_entropy(logits.float(), target.long(), reduction="none")
    if weight is None:
        return each.mean()
    return (weight * each).sum() / weight.sum().clamp_min(EPSILON)


def dice_and_cross_entropy(logits: Tensor, target: Tensor, dice_weight: float = 1.0, ce_weight: float = 1.0) -> Tensor:
    """Weighted sum of the soft Dice loss of class 1 and the cross-entropy.

    Args:
        logits: (B, 2, *size).
        target: 0 or 1, (B, *size).
        dice_weight: Weight of the Dice loss.
        ce_weight: Weight of the cross-entropy.

    Returns:
        A scalar >= 0.
    """
    foreground = logits.float().softmax(dim=1)[:, 1]
    return dice_weight * soft_dice_loss(foreground, target) + ce_weight * cross_entropy(logits, target)


def generalised_dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """Dice over all classes, each weighted by one over its squared size.

    The formula is 1 - 2 sum_c m_c sum(target_c probability_c) / sum_c m_c sum(target_c + probability_c).

    Source: Eq. 14, Wang et al. 2020.
    Deviation: the sums run over the batch instead of one slice, and a class absent from the batch gets weight 0; the
    printed weight, m_c = 1 / sum(target_c)^2, is infinite for it.

    Args:
        probability: (B, C, *size), summing to 1 over C.
        target: Class numbers (B, *size).

    Returns:
        A scalar in [0, 1]; 0 for a perfect prediction.
    """
    p = probability.float()
    y = one_hot(target, p.shape[1])
    voxels = [0, *range(2, p.dim())]
    size = y.sum(dim=voxels)
    weight = torch.where(size > 0, 1 / size.clamp_min(1) ** 2, torch.zeros_like(size))
    both, either = (y * p).sum(dim=voxels), (y + p).sum(dim=voxels)
    return 1 - 2 * (weight * both).sum() / (weight * either).sum().clamp_min(EPSILON**2)


def focus_at(focus: float, index: int, steps: int) -> float:
    """Weight of :func:`missed_lesion_loss` at a step: falls in a line from ``focus`` to a tenth of it."""
    return focus * (1 - 0.9 * index / steps)


def missed_lesion_loss(logits: Tensor, lesion: Tensor) -> Tensor:
    """The part of the cross-entropy that voxels of the lesion cause: -mean(lesion log(sigmoid(logits))).

    The paper has no such term. In a run of some hundred steps a network first learns that lesion is rare and finds
    nothing for long; with this term, whose weight falls over the run, it looks for it earlier.

    Args:
        logits: (B, 1, *size).
        lesion: The same shape, 0 or 1.
    """
    return -(lesion * functional.logsigmoid(logits.float())).mean()
