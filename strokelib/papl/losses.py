"""Losses of Sun et al. 2024. Eq. 24 stands here; the others' names can be had from here, too.

Eqs 7-14 are in :mod:`strokelib.papl.knowledge`, Eqs 15-17 in :mod:`strokelib.papl.compensation`, Eqs 18-23 in
:mod:`strokelib.papl.refinement`; the segmentation loss, soft Dice and cross-entropy 1:1, is
:func:`strokelib.nn.losses.dice_and_cross_entropy`. ``VERSION`` is that of them all.
"""

from __future__ import annotations

from torch import Tensor

from strokelib.errors import ParameterError
from strokelib.papl.compensation import feature_compensation_loss, feature_distance, slice_weights
from strokelib.papl.knowledge import (
    bilateral_divergence,
    bilateral_halves,
    cosine_similarity,
    inter_sample_loss,
    intra_sample_loss,
    knowledge_preparation_loss,
)
from strokelib.papl.refinement import (
    bilateral_difference,
    bilateral_salience,
    perception_refinement_loss,
    sharpened_prediction,
    soft_false_negatives,
    soft_false_positives,
)

__all__ = [
    "beta3_at",
    "bilateral_difference",
    "bilateral_divergence",
    "bilateral_halves",
    "bilateral_salience",
    "cosine_similarity",
    "feature_compensation_loss",
    "feature_distance",
    "inter_sample_loss",
    "intra_sample_loss",
    "knowledge_preparation_loss",
    "perception_refinement_loss",
    "sharpened_prediction",
    "slice_weights",
    "soft_false_negatives",
    "soft_false_positives",
    "total_loss",
]

VERSION = 1
BETA1, BETA2, BETA3 = 0.8, 0.8, 0.2
GROWTH, PHASES = 1.2, 9


def total_loss(
    segmentation: Tensor,
    compensation: Tensor | float = 0.0,
    refinement: Tensor | float = 0.0,
    beta1: float = BETA1,
    beta2: float = BETA2,
    beta3: float = BETA3,
) -> Tensor:
    """What stages 2 and 3 minimise: beta1 segmentation + beta2 compensation + beta3 refinement.

    Source: Eq. 24, Sun et al. 2024.
    Deviation: none; what the terms add up to depends on means in place of sums (P17, P23), and beta3 is that of
        :func:`beta3_at` (P24).

    Args:
        segmentation: Soft Dice and cross-entropy of the middle slice.
        compensation: :func:`feature_compensation_loss`; 0 without the module.
        refinement: :func:`perception_refinement_loss`; 0 without the strategy.
        beta1: Weight of the first.
        beta2: Weight of the second.
        beta3: Weight of the third.

    Returns:
        A scalar.
    """
    return beta1 * segmentation + beta2 * compensation + beta3 * refinement


def beta3_at(
    epoch: float, epochs: float = 180, start: float = BETA3, growth: float = GROWTH, phases: int = PHASES
) -> float:
    """Weight of the refinement at an epoch: start growth^phase, where phase = floor(epoch phases / epochs).

    Published: 0.2, times 1.2 every 20 of 180 epochs, thus 0.2, 0.24, 0.288, ... 0.860. A shorter run has the same
    phases: count ``epoch`` and ``epochs`` in steps, or give the share of the run and ``epochs=1``.

    It ends above beta1, and above the 0.4 that Table VIII found worse; beta3 of that table is ``start`` (P24).

    Args:
        epoch: From 0 to ``epochs``; at the very end the last phase still holds, there is no ninth step.
        epochs: Length of the run in the same unit.
        start: Weight in the first phase, 0 or above.
        growth: Factor from phase to phase.
        phases: Number of phases.

    Raises:
        ParameterError: An epoch outside the run, or numbers that make no run.
    """
    if not (0 <= epoch <= epochs and epochs > 0 and phases >= 1 and start >= 0 and growth > 0):
        found = f"epoch {epoch} of {epochs}, start {start}, growth {growth}, phases {phases}"
        wanted = "an epoch of the run, phases of 1 or more, growth above 0"
        step = "count epoch and epochs in one unit"
        raise ParameterError("beta3", found=found, wanted=wanted, next_step=step)
    return start * growth ** min(int(epoch * phases // epochs), phases - 1)
