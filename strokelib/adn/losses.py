"""Losses of Ni et al. 2022: alignment (Eq. 1), segmentation (Eq. 4), tissue-aware regulariser (Eq. 5), total (Eq. 6).

All arguments are volumes (B, 1, D, H, W), the last axis left-right: heads in [0, 1] and 0 outside the brain, maps in
[0, 1], lesions 0 or 1. The paper calls its norms "L1 loss": here they are means, since sums over 2.6 million voxels,
times a weight of ten, would drown the cross-entropy (erratum A10). Losses are float32, also of bfloat16. The terms of
Eq. 5 are in :mod:`strokelib.adn.regulariser`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional

from strokelib.adn.regulariser import (
    VOXELS,
    Form,
    asymmetry_loss,
    intrinsic_loss,
    same_volumes,
    size_loss,
    tissue_loss,
)
from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.losses import generalised_dice_loss
from strokelib.options import chosen

VERSION = 1
LAMBDA = 10.0
DARK = 1e-8  # a volume of this mean or less shows no head
LEAST_PROBABILITY = 1e-6
CODE_EPSILON = 1e-6
AlignmentForm = Literal["relative", "printed", "code"]
SegmentationForm = Literal["recommended", "printed", "code"]
Warm = Literal["replace", "add"]


def alignment_loss(
    aligned: Tensor,
    image: Tensor | None = None,
    restored_mirror: Tensor | None = None,
    form: AlignmentForm = "relative",
) -> Tensor:
    """How far an aligned head is from its own mirror image: mean(|aligned - mirror(aligned)|) / mean(aligned).

    ``printed`` does not divide. ``code``, as the public code, adds :func:`reconstruction_loss` to ``printed``.

    Source: Eq. 1, Ni et al. 2022.
    Deviation: divided by the mean, since ``printed`` is lowest where the head is pushed out of the field (A12); an
        empty field costs 2, the most a head can. Add :func:`mass_loss`: what is left in the field may be symmetric.

    Args:
        aligned: X = T(I).
        image: I; for ``code`` alone.
        restored_mirror: T^-1(mirror(X)); for ``code`` alone.
        form: One of the three.

    Returns:
        A scalar: in [0, 2] (``relative``), [0, 1] (``printed``) or [0, 2] (``code``).

    Raises:
        ParameterError: Another form, a shape other than (B, 1, D, H, W), or ``code`` without its two volumes.
    """
    chosen("form", form, get_args(AlignmentForm))
    same_volumes(aligned=aligned)
    x = aligned.float()
    difference, brightness = (x - mirror(x)).abs().mean(VOXELS), x.mean(VOXELS)
    if form == "relative":
        relative = difference / brightness.clamp_min(DARK)
        return torch.where(brightness > DARK, relative, torch.full_like(relative, 2.0)).mean()
    if form == "printed":
        return difference.mean()
    if image is None or restored_mirror is None:
        step = "pass image and restored_mirror"
        raise ParameterError("alignment loss", found="no image to restore", wanted="both for code", next_step=step)
    return difference.mean() + reconstruction_loss(image, restored_mirror)


def mass_loss(image: Tensor, aligned: Tensor) -> Tensor:
    """Share of a head that alignment pushed out of the field: relu(mean(image) - mean(aligned)) / mean(image).

    The paper has no such term (A12). It goes on top of :func:`alignment_loss`; an empty image costs 0.

    Args:
        image: I.
        aligned: X = T(I).

    Returns:
        A scalar in [0, 1].

    Raises:
        ParameterError: The shapes differ or are not (B, 1, D, H, W).
    """
    same_volumes(image=image, aligned=aligned)
    before, after = image.float().mean(VOXELS), aligned.float().mean(VOXELS)
    return ((before - after).relu() / before.clamp_min(DARK)).mean()


def reconstruction_loss(image: Tensor, restored_mirror: Tensor) -> Tensor:
    """How far a head is from its aligned mirror image brought back: mean(|image - restored_mirror|).

    The public code's guard against pushing the head out of the field; the paper has no such term (A12).

    Args:
        image: I.
        restored_mirror: T^-1(mirror(T(I))).

    Returns:
        A scalar in [0, 1].

    Raises:
        ParameterError: The shapes differ or are not (B, 1, D, H, W).
    """
    same_volumes(image=image, restored_mirror=restored_mirror)
    return (image.float() - restored_mirror.float()).abs().mean()


def segmentation_loss(logits: Tensor, truth: Tensor, form: SegmentationForm = "recommended") -> Tensor:
    """Cross-entropy and generalised Dice loss, 1:1: mean(BCE(sigmoid(logits), truth)) + GDL(sigmoid(logits), truth).

    ``printed`` is the cross-entropy alone. ``code`` takes the generalised Dice over the batch as if it were one volume,
    with a weight of 1e6 for a lesion that is nowhere in it: it is then 1, almost without gradient.

    Source: Eq. 4, Ni et al. 2022.
    Deviation: in the aligned frame, where the public code trains, too; :func:`original_frame_loss` has the printed
        frame (A11). The text adds the generalised Dice and gives no weight (A17). It is taken volume by volume, from
        the background alone where there is no lesion.

    Args:
        logits: Of Y, the prediction in the aligned frame.
        truth: T(G), 0 or 1: warped by the nearest voxel, or linearly and cut at one half.
        form: One of the three.

    Returns:
        A scalar >= 0; 0 for a perfect and certain prediction.

    Raises:
        ParameterError: Another form, shapes that differ or are not (B, 1, D, H, W), a truth with other values.
    """
    chosen("form", form, get_args(SegmentationForm))
    same_volumes(logits=logits, truth=truth)
    _binary("truth", truth)
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), truth.float())
    return entropy if form == "printed" else entropy + _generalised_dice(logits.float().sigmoid(), truth, form)


def original_frame_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of probabilities: -mean(truth log(probability) + (1 - truth) log(1 - probability)).

    Source: Eq. 4, Ni et al. 2022, in its printed frame.
    Deviation: the probability is held within 1e-6 of 0 and 1, since the inverse warp fills with 0 (A11); voxels out
        there have no gradient.

    Args:
        probability: O = T^-1(Y), in [0, 1].
        truth: G, 0 or 1.

    Returns:
        A scalar in [0, 13.9].

    Raises:
        ParameterError: Shapes that differ or are not (B, 1, D, H, W), a truth with other values.
    """
    same_volumes(probability=probability, truth=truth)
    _binary("truth", truth)
    p, y = probability.float().clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY), truth.float()
    return -(y * p.log() + (1 - y) * (-p).log1p()).mean()


def warm_start_loss(pathological: Tensor, lesion: Tensor, form: SegmentationForm = "recommended") -> Tensor:
    """Extra supervision of D in the first epochs: the loss of Eq. 4 with P as the prediction.

    The paper says cross-entropy with G (``printed``); the public code adds the generalised Dice. Compared with T(G),
    since P is in the aligned frame (A19); :func:`total_loss` says how it joins the others.

    Args:
        pathological: P, in [0, 1].
        lesion: T(G), 0 or 1.
        form: As of :func:`segmentation_loss`.

    Returns:
        A scalar >= 0.

    Raises:
        ParameterError: As :func:`segmentation_loss`.
    """
    chosen("form", form, get_args(SegmentationForm))
    entropy = original_frame_loss(pathological, lesion)
    return entropy if form == "printed" else entropy + _generalised_dice(pathological.float(), lesion, form)


class TissueAware(NamedTuple):
    """The four terms of :func:`tissue_aware_loss` and ``loss``, their sum; scalars."""

    tissue: Tensor
    size: Tensor
    asymmetry: Tensor
    intrinsic: Tensor
    loss: Tensor


def tissue_aware_loss(
    total: Tensor,
    pathological: Tensor,
    lesion: Tensor,
    mismatch: Tensor | None = None,
    csf: Tensor | None = None,
    form: Form = "recommended",
    *,
    tissue: bool = True,
) -> TissueAware:
    """What is asked of P: tissue_loss + size_loss + asymmetry_loss + intrinsic_loss.

    Source: Eq. 5, Ni et al. 2022.
    Deviation: by default size, asymmetry and intrinsic term are the public code's (A7, A8, A9), ``printed`` has the
        paper's. Means in place of sums (A10), within each volume.

    Args:
        total: A.
        pathological: P.
        lesion: T(G), 0 or 1.
        mismatch: R_GW without the lesion.
        csf: R_CSF without the lesion.
        form: Of the three terms that have one.
        tissue: False is the row "ADN w/o L_tissue" of Table 1: that term is 0 and needs no maps.

    Returns:
        The terms and their sum.

    Raises:
        ParameterError: A map of tissue is missing; otherwise as the terms.
    """
    if tissue and (mismatch is None or csf is None):
        step = "pass mismatch and csf, or tissue=False"
        raise ParameterError("tissue maps", found="one or both missing", wanted="mismatch and csf", next_step=step)
    terms = (
        tissue_loss(pathological, mismatch, csf) if tissue else pathological.new_zeros((), dtype=torch.float32),
        size_loss(pathological, lesion, total, form),
        asymmetry_loss(pathological, total, form),
        intrinsic_loss(total, pathological, form),
    )
    return TissueAware(*terms, loss=torch.stack(terms).sum())


def total_loss(
    segmentation: Tensor,
    regulariser: Tensor,
    lambda_: float = LAMBDA,
    *,
    warm_start: Tensor | None = None,
    warm: Warm = "replace",
) -> Tensor:
    """Loss that trains D and F together: segmentation + lambda_ regulariser.

    With a ``warm_start`` it is segmentation + lambda_ warm_start (``replace``, the public code's) or segmentation +
    lambda_ (regulariser + warm_start) (``add``, the paper's "extra").

    Source: Eq. 6, Ni et al. 2022.
    Deviation: none. The paper gives the warm start no weight; lambda_ is the public code's (A19).

    Args:
        segmentation: :func:`segmentation_loss`.
        regulariser: ``loss`` of :func:`tissue_aware_loss`.
        lambda_: Weight of the regulariser.
        warm_start: :func:`warm_start_loss` in the first epochs, None after them.
        warm: One of the two.

    Returns:
        A scalar; it can be below 0, as the intrinsic term is.

    Raises:
        ParameterError: Another word for ``warm``.
    """
    chosen("warm", warm, get_args(Warm))
    if warm_start is None:
        return segmentation + lambda_ * regulariser
    return segmentation + lambda_ * (warm_start if warm == "replace" else regulariser + warm_start)


def _binary(thing: str, mask: Tensor) -> None:
    if not ((mask == 0) | (mask == 1)).all():
        step = "warp masks by the nearest voxel, or cut them at one half"
        raise ParameterError(thing, found="other values", wanted="0 and 1 alone", next_step=step)


def _generalised_dice(probability: Tensor, truth: Tensor, form: SegmentationForm) -> Tensor:
    if form != "code":
        both = torch.cat([1 - probability, probability], 1)
        each = [generalised_dice_loss(both[b : b + 1], truth[b : b + 1, 0]) for b in range(len(both))]
        return torch.stack(each).mean()
    p, y = (torch.stack([x.flatten(), 1 - x.flatten()]) for x in (probability, truth.float()))
    weight = 1 / y.sum(1).square().clamp_min(CODE_EPSILON)
    both, either = weight * (p * y).sum(1), weight * (p + y).sum(1)
    return 1 - 2 * both.sum() / either.clamp_min(CODE_EPSILON).sum()
