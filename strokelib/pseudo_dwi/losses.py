"""Losses of Wang et al. 2020: weight map, synthesis (Eqs 6-9), segmentation (Eqs 11-13), both together (Eq. 15).

Images are (B, 1, H, W) in [0, 1], logits (B, 2, H, W), class numbers (B, H, W). Losses are float32, also of bfloat16.
The generalised Dice loss itself (Eq. 14) is in :mod:`strokelib.nn.losses`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from strokelib.errors import DataError, ParameterError
from strokelib.nn.losses import cross_entropy, generalised_dice_loss, soft_dice_loss
from strokelib.options import chosen

VERSION = 1
W, DECAY_PX, FAR, GAMMA = 1.5, 50.0, 0.5, 1.2
LEAST_OVERLAP = 1e-6
Form = Literal["mean square", "weight outside", "norm", "absolute"]


def lesion_weight_map(lesion: np.ndarray, w: float = W, decay_px: float = DECAY_PX, empty: float = FAR) -> np.ndarray:
    """Weight of each pixel: high in the lesion, falling with the distance from it.

    A = w in the lesion, else 0.5 + e / (e + 1) with e = exp(-d / decay_px) and d the distance to the lesion.

    Source: Eq. 9, Wang et al. 2020.
    Deviation: d is infinite in a slice without lesion; its weight is ``empty``, by default the formula's limit. The
        unit and the dimension of d are not stated; pixels within the slice here. The jump from 1 beside the lesion to
        ``w`` in it is kept as printed.

    Args:
        lesion: (..., H, W) bool.
        w: Weight in the lesion, 1 or more.
        decay_px: Length in pixels over which the weight falls.
        empty: Weight of all pixels of a slice without lesion.

    Returns:
        (..., H, W) float32: ``w`` in the lesion, (0.5, 1) around it.

    Raises:
        DataError, ParameterError: Fewer than two axes; ``w`` below 1, or ``decay_px`` or ``empty`` not positive.
    """
    lesion = np.asarray(lesion, bool)
    if lesion.ndim < 2:
        raise DataError("lesion", found=f"shape {lesion.shape}", wanted="(..., H, W)", next_step="pass whole slices")
    if not (w >= 1 and decay_px > 0 and empty > 0):
        found, wanted = f"w {w}, decay {decay_px} px, empty {empty}", "w of 1 or more, the others above 0"
        raise ParameterError("weight map", found=found, wanted=wanted, next_step="take the published 1.5, 50 and 0.5")
    out = np.full(lesion.shape, empty, np.float32)
    for place in np.ndindex(lesion.shape[:-2]):
        if lesion[place].any():
            e = np.exp(-ndimage.distance_transform_edt(~lesion[place]) / decay_px)
            out[place] = np.where(lesion[place], w, 0.5 + e / (e + 1))
    return out


def weighted_pixel_loss(
    image: Tensor, target: Tensor, weight: Tensor | None = None, form: Form = "mean square"
) -> Tensor:
    """How far two images are apart, pixel by pixel: mean((weight (image - target))^2).

    Other forms: ``weight outside`` is mean(weight (image - target)^2); ``norm`` is sqrt(sum((weight (image -
    target))^2)) of each image, averaged over the batch; ``absolute`` is mean(|weight (image - target)|), without a
    weight the row L1 of Table 1.

    Source: Eq. 7, Wang et al. 2020.
    Deviation: ``norm`` is as printed; it grows with the image, and the text speaks of squares: their mean is default.

    Args:
        image: (B, 1, H, W).
        target: That shape.
        weight: That shape, or None for 1 everywhere.
        form: One of the four.

    Returns:
        A scalar >= 0.

    Raises:
        ParameterError: The shapes differ, or another form.
    """
    _same("image and target", image, target)
    error = image.float() - target.float()
    weight = torch.ones_like(error) if weight is None else weight.float()
    _same("image and weight", image, weight)
    chosen("form", form, get_args(Form))
    weighted = weight * error
    if form == "mean square":
        return weighted.square().mean()
    if form == "weight outside":
        return (weighted * error).mean()
    if form == "norm":
        return torch.linalg.vector_norm(weighted.flatten(1), dim=1).mean()
    return weighted.abs().mean()


def contextual_loss(ours: Tensor, theirs: Tensor, norm: int = 1, reduction: str = "sum") -> Tensor:
    """How far the codes of two images are apart: sum(|ours - theirs|), averaged over the batch.

    With ``norm`` 2 it is sum((ours - theirs)^2), the row w-L2 + l_h2 of Table 1.

    Source: Eq. 8, Wang et al. 2020.
    Deviation: the square of the L2 norm, as in :func:`weighted_pixel_loss`. An encoder that is trained to lower this
        loss, as printed, can do so by a constant code; who holds the encoder decides whether it is frozen.

    Args:
        ours: (B, 16) code of the pseudo-DWI.
        theirs: That shape, of the real one.
        norm: 1 or 2.
        reduction: Over the code: ``sum`` or ``mean``.

    Returns:
        A scalar >= 0.

    Raises:
        ParameterError: The shapes differ, or another norm or reduction.
    """
    _same("codes", ours, theirs)
    if norm not in (1, 2) or reduction not in ("sum", "mean"):
        found, wanted = f"norm {norm!r}, reduction {reduction!r}", "norm 1 or 2, reduction sum or mean"
        raise ParameterError("contextual loss", found=found, wanted=wanted, next_step="choose one of these")
    each = (ours.float() - theirs.float()).flatten(1).abs() ** norm
    return each.sum() / (len(each) if reduction == "sum" else each.numel())


def synthesis_terms(
    image: Tensor,
    target: Tensor,
    weight: Tensor | None,
    encoder: Callable[[Tensor], Tensor] | None,
    *,
    gamma: float = GAMMA,
    norm: int = 1,
    form: Form = "mean square",
) -> dict[str, Tensor]:
    """The parts of :func:`synthesis_loss`, not yet weighted: ``pixel``, ``context`` (with an encoder), and ``loss``."""
    pixel = weighted_pixel_loss(image, target, weight, form)
    if encoder is None:
        return {"loss": pixel, "pixel": pixel}
    context = contextual_loss(encoder(image), encoder(target), norm)
    return {"loss": pixel + gamma * context, "pixel": pixel, "context": context}


def synthesis_loss(
    image: Tensor,
    target: Tensor,
    weight: Tensor | None,
    encoder: Callable[[Tensor], Tensor] | None,
    *,
    gamma: float = GAMMA,
    norm: int = 1,
    form: Form = "mean square",
) -> Tensor:
    """Pixel loss and contextual loss: weighted_pixel_loss + gamma contextual_loss.

    Source: Eq. 6, Wang et al. 2020.
    Deviation: those of its two parts, :func:`weighted_pixel_loss` and :func:`contextual_loss`.

    Args:
        image: Pseudo-DWI (B, 1, H, W).
        target: Real DWI of that shape.
        weight: Map of Eq. 9 of that shape, or None for 1 everywhere.
        encoder: (B, 1, H, W) -> (B, 16), or None for the pixel loss alone.
        gamma: Weight of the contextual loss.
        norm: Of the contextual loss.
        form: Of the pixel loss.

    Returns:
        A scalar >= 0.
    """
    return synthesis_terms(image, target, weight, encoder, gamma=gamma, norm=norm, form=form)["loss"]


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy averaged by a weight map: sum(weight (-log P_target)) / sum(weight), P = softmax(logits).

    Source: Eq. 12, Wang et al. 2020.
    Deviation: the sums run over the batch instead of one slice, so that a slice without lesion, whose weights are low,
        counts less than one with lesion.

    Args:
        logits: (B, C, H, W).
        target: Class numbers (B, H, W).
        weight: Map of Eq. 9 (B, H, W); another shape is a ParameterError.

    Returns:
        A scalar >= 0.
    """
    _same("target and weight", target, weight)
    return cross_entropy(logits, target, weight.float())


def hardness_aware_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Generalised Dice loss that is steeper where it is high: -log(1 - L_GD), by 1 / (1 - L_GD).

    Source: Eq. 13, Wang et al. 2020.
    Deviation: 1 - L_GD is held at 1e-6 or more, since the logarithm of no overlap is infinite; L_GD as in
        :func:`strokelib.nn.losses.generalised_dice_loss`, over the batch.

    Returns:
        A scalar in [0, 13.9] of logits (B, C, H, W) and class numbers (B, H, W).
    """
    overlap = 1 - generalised_dice_loss(logits.float().softmax(dim=1), target)
    return -overlap.clamp_min(LEAST_OVERLAP).log()


def segmentation_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The proposed loss of SLNet: weighted_cross_entropy + hardness_aware_dice_loss.

    Source: Eq. 11, Wang et al. 2020.
    Deviation: those of its two parts; arguments, range and errors are theirs, too.
    """
    return weighted_cross_entropy(logits, target, weight) + hardness_aware_dice_loss(logits, target)


def total_loss(
    segmentation: Tensor, synthesis: Tensor, extraction: Tensor | None, alpha: float = 1.0, beta: float = 1.0
) -> Tensor:
    """Loss of the whole chain: segmentation + alpha synthesis + beta extraction.

    Source: Eq. 15, Wang et al. 2020.
    Deviation: none.

    Args:
        segmentation: :func:`segmentation_loss`.
        synthesis: :func:`synthesis_loss` of the pseudo-DWI.
        extraction: The same of the high-level feature; None in a chain without extractor.
        alpha: Weight of the synthesis.
        beta: Weight of the extraction.
    """
    loss = segmentation + alpha * synthesis
    return loss if extraction is None else loss + beta * extraction


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of a discriminator: 1/2 mean((real - 1)^2) + 1/2 mean(fake^2), averaged over scales.

    Both are score maps, of real images and of made ones, one tensor a scale; an empty list is a ParameterError.
    """
    return _off(real, 1.0) + _off(fake, 0.0)


def adversarial_loss(fake: Sequence[Tensor]) -> Tensor:
    """Least-squares loss of a generator that wants to pass as real: 1/2 mean((fake - 1)^2), averaged over scales."""
    return _off(fake, 1.0)


@dataclass(frozen=True)
class SynthesisLoss:
    """One row of Table 1, Wang et al. 2020.

    Args:
        pixel: Form of the pixel loss, or None.
        weighted: Whether the pixel loss has the weight map of Eq. 9.
        context: Norm of the contextual loss, or None.
        adversarial: Whether there is a discriminator.
    """

    pixel: Form | None
    weighted: bool = False
    context: int | None = None
    adversarial: bool = False


SYNTHESIS_LOSSES = {
    "L1": SynthesisLoss("absolute"),
    "L2": SynthesisLoss("mean square"),
    "GAN": SynthesisLoss(None, adversarial=True),
    "L2 + GAN": SynthesisLoss("mean square", adversarial=True),
    "w-L2": SynthesisLoss("mean square", weighted=True),
    "w-L2 + l_h1": SynthesisLoss("mean square", weighted=True, context=1),
    "w-L2 + l_h2": SynthesisLoss("mean square", weighted=True, context=2),
}
# The rows of Table 4: (logits, target, weight) -> loss.
SEGMENTATION_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "L_CE": lambda x, y, a: cross_entropy(x, y),
    "L_DICE": lambda x, y, a: soft_dice_loss(x.float().softmax(dim=1)[:, 1], y),
    "L_GD": lambda x, y, a: generalised_dice_loss(x.float().softmax(dim=1), y),
    "L_HGD": lambda x, y, a: hardness_aware_dice_loss(x, y),
    "L_CE + L_HGD": lambda x, y, a: cross_entropy(x, y) + hardness_aware_dice_loss(x, y),
    "L_WCE + L_HGD": segmentation_loss,
}


def _off(scores: Sequence[Tensor], wanted: float) -> Tensor:
    if not scores:
        raise ParameterError("scores", found="no scale", wanted="one or more", next_step="pass the list of score maps")
    return torch.stack([(score.float() - wanted).square().mean() / 2 for score in scores]).mean()


def _same(thing: str, one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        found, step = f"{tuple(one.shape)} and {tuple(other.shape)}", "bring both to one shape; nothing is broadcast"
        raise ParameterError(thing, found=found, wanted="one shape", next_step=step)
