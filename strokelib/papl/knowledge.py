"""What stage 1 of Sun et al. 2024 minimises: between samples (Eqs 7-9), within a sample (Eqs 10-13), both (Eq. 14).

A sample is a slice of which one window and its mirror window are left. Its label is 1 where infarct makes the two
differ, else 0. Embeddings are (B, d), feature maps (B, C, h, w) with the mid-sagittal line in the middle of the last
axis, labels (B,). Losses are float32, also of bfloat16 and under autocast.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.precision import full_precision
from strokelib.options import chosen

EPSILON = 1e-7
TAU, MARGIN = 0.1, 1.0
LAMBDA1, LAMBDA2 = 0.6, 0.3
Form = Literal["recommended", "printed"]
IntraForm = Literal["recommended", "batch", "printed", "anchors"]
Maps = Literal["normalised", "bernoulli", "printed"]
Direction = Literal["symmetrised", "one_sided", "jensen_shannon"]
Aim = Literal["minimise", "maximise"]


def cosine_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the angle between each row of one set and each of another: S = a . b / (|a|_2 |b|_2).

    Source: Eq. 7, Sun et al. 2024.
    Deviation: none. Embeddings have unit length already, the division changes nothing then (P9). A row of zeros has
        the similarity 0 to all.

    Args:
        a: (A, d).
        b: (B, d).

    Returns:
        (A, B) in [-1, 1], up to rounding.

    Raises:
        ParameterError: Another number of axes, or rows of two lengths.
    """
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        found = f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
        raise ParameterError("embeddings", found=found, wanted="(A, d) and (B, d)", next_step="pass a row a sample")
    with full_precision(a):
        return (
            functional.normalize(a.float(), dim=1, eps=EPSILON) @ functional.normalize(b.float(), dim=1, eps=EPSILON).T
        )


def inter_sample_loss(v: Tensor, y: Tensor, tau: float = TAU, form: Form = "recommended") -> Tensor:
    """Samples of one label are to lie together, those of two labels apart: the supervised contrastive loss.

    The formula is mean_i -1/|P(i)| sum_{j in P(i)} log(exp(S(v_i, v_j) / tau) / sum_{k not i} exp(S(v_i, v_k) / tau)),
    where P(i) are the other samples with the label of i.

    Source: Eqs 8, 9, Sun et al. 2024.
    Deviation: one minus sign, not two: with both (``printed``) minimising drives samples of one label apart (P1). A
        sample that is alone with its label is left out of the mean; as printed it divides by nothing (P10).

    Args:
        v: Embeddings, (B, d).
        y: Labels, (B,); any whole numbers.
        tau: Temperature above 0.
        form: One of the two.

    Returns:
        A scalar; >= 0 as recommended, <= 0 as printed, 0 where no two samples share a label.

    Raises:
        ParameterError: Another form, a temperature that is not positive, shapes that do not fit.
    """
    chosen("form", form, get_args(Form))
    if not (tau > 0 and math.isfinite(tau)):
        raise ParameterError("tau", found=tau, wanted="a positive number", next_step="0.1 is published")
    _label_each(y, v)
    if len(v) < 2:
        return 0 * v.float().sum()
    itself = torch.eye(len(v), dtype=torch.bool, device=v.device)
    logits = (cosine_similarity(v, v) / tau).masked_fill(itself, -math.inf)
    log_share = logits - logits.logsumexp(dim=1, keepdim=True)
    same = (y[:, None] == y) & ~itself
    count = same.sum(dim=1)
    each = -log_share.masked_fill(~same, 0).sum(dim=1) / count.clamp_min(1)
    loss = each.sum() / (count > 0).sum().clamp_min(1)
    return -loss if form == "printed" else loss


def bilateral_halves(features: Tensor, form: Form = "recommended") -> tuple[Tensor, Tensor]:
    """The two sides of a feature map: z = sigmoid(features); left = z[..., :p], right = mirror(z[..., -p:]).

    Source: Eqs 12, 13, Sun et al. 2024.
    Deviation: the right half is mirrored, so that an element meets its counterpart on the other side (``printed`` does
        not); z is of x_i, where Eq. 12 has x_j; the channels, which Eq. 13 leaves out, are kept (P8). Of an odd number
        of columns the middle one, its own counterpart, is left out.

    Args:
        features: F(x), (B, C, h, w), w of 2 or more.
        form: One of the two.

    Returns:
        Left and right, each (B, C, h, p) in [0, 1] with p = w // 2.

    Raises:
        ParameterError: Another form or shape.
    """
    chosen("form", form, get_args(Form))
    if features.dim() != 4 or features.shape[-1] < 2:
        step = "pass the coarsest map of the encoder, of a slice wide enough to leave two columns"
        raise ParameterError(
            "feature map", found=f"shape {tuple(features.shape)}", wanted="(B, C, h, w), w >= 2", next_step=step
        )
    z, p = features.float().sigmoid(), features.shape[-1] // 2
    right = z[..., -p:]
    return z[..., :p], right if form == "printed" else mirror(right)


def bilateral_divergence(
    left: Tensor, right: Tensor, maps: Maps = "normalised", direction: Direction = "symmetrised"
) -> Tensor:
    """How unlike the two sides of each sample are: KL(left || right) = sum_k left_k log(left_k / right_k).

    ``normalised`` divides each side by its sum, so that both are distributions; ``bernoulli`` takes each element as the
    chance of an event, and the mean over the elements; ``printed`` sums over the maps as they are, which is no
    divergence: z = (.1, .1) and z' = (.9, .9) give -0.44 (P5).

    Behind a ReLU, where U-Net, CE-Net and U-Net++ end, elements are 0.5 to 1: of ``normalised`` sides the divergence is
    then at most log(2) / 3 = 0.231 (0.234 ``one_sided``), far below the margin of :func:`intra_sample_loss`.

    Source: Eq. 11, Sun et al. 2024.
    Deviation: sides are normalised (P5) and the mean of KL(left || right) and KL(right || left) is taken, so that an
        infarct counts the same on both sides; ``one_sided`` is the printed direction (P7), ``jensen_shannon`` the mean
        divergence of both from their average, log(2) at most (P6). N is the number of elements (P15), the channels'
        included (P8). 1e-7 is added to each element.

    Args:
        left: (B, C, h, p) in [0, 1].
        right: The same shape, mirrored.
        maps: One of the three.
        direction: One of the three.

    Returns:
        (B,) in nats, >= 0 unless ``maps`` is ``printed``.

    Raises:
        ParameterError: Another word, or shapes that differ or have no sample axis.
    """
    chosen("maps", maps, get_args(Maps))
    chosen("direction", direction, get_args(Direction))
    if left.shape != right.shape or left.dim() < 2:
        found = f"shapes {tuple(left.shape)} and {tuple(right.shape)}"
        step = "pass what bilateral_halves returns"
        raise ParameterError("halves", found=found, wanted="twice (B, C, h, p)", next_step=step)
    p, q = (side.float().flatten(1) + EPSILON for side in (left, right))
    if maps == "normalised":
        p, q = p / p.sum(dim=1, keepdim=True), q / q.sum(dim=1, keepdim=True)
    if direction == "one_sided":
        return _kl(p, q, maps)
    if direction == "symmetrised":
        return (_kl(p, q, maps) + _kl(q, p, maps)) / 2
    average = (p + q) / 2
    return (_kl(p, average, maps) + _kl(q, average, maps)) / 2


def intra_sample_loss(
    features: Tensor,
    y: Tensor,
    form: IntraForm = "recommended",
    margin: float = MARGIN,
    halves: Form = "recommended",
    maps: Maps = "normalised",
    direction: Direction = "symmetrised",
) -> Tensor:
    """Without infarct the two sides are to be alike, with one unlike: mean_{y=0} KL - mean_{y=1} min(KL, margin).

    ``batch`` is (sum_{y=0} KL - sum_{y=1} min(KL, margin)) / B. ``printed`` has the printed sign and factor and no
    margin: (sum_{y=1} KL - sum_{y=0} KL) / (B - 1). ``anchors`` is Eq. 10 to the letter, its sets being those of an
    anchor, P(i) and N(i), averaged over all anchors: a positive's KL then has the weight (n1 - 1 - n0) / (B (B - 1)), a
    negative's (n0 - 1 - n1) / (B (B - 1)), so that the sign depends on the balance of the labels, and where they are
    balanced all sides are driven apart (P3).

    Source: Eq. 10, Sun et al. 2024.
    Deviation: the sign is turned, since minimising ``printed`` makes the sides of positives alike, against the text
        (P2); sets by label (P3); means of each class in place of 1 / (B - 1), and a class that is not there adds
        nothing (P4); a margin, since KL has no bound (P6).

    Args:
        features: F(x), (B, C, h, w).
        y: (B,), 0 or 1.
        form: One of the four.
        margin: A positive's KL counts up to here; ``math.inf`` for no margin. Not for ``printed`` and ``anchors``.
        halves: ``form`` of :func:`bilateral_halves`.
        maps: Of :func:`bilateral_divergence`.
        direction: Of :func:`bilateral_divergence`.

    Returns:
        A scalar; -margin at least as recommended.

    Raises:
        ParameterError: Another word, a margin that is not positive, labels that are not 0 or 1, shapes that do not fit.
    """
    chosen("form", form, get_args(IntraForm))
    if not margin > 0:
        raise ParameterError("margin", found=margin, wanted="above 0", next_step="give 1, or math.inf for none")
    kl = bilateral_divergence(*bilateral_halves(features, halves), maps, direction)
    _label_each(y, features)
    if not ((y == 0) | (y == 1)).all():
        step = "label samples 1 with infarct and 0 without; drop those between"
        raise ParameterError("labels", found="other values", wanted="0 and 1 alone", next_step=step)
    n, n1 = len(y), y.sum()
    negatives, positives = kl * (y == 0), kl * (y == 1)
    if form == "printed":
        return (positives.sum() - negatives.sum()) / max(n - 1, 1)
    if form == "anchors":
        n0 = n - n1
        weighted = positives.sum() * (n1 - 1 - n0) + negatives.sum() * (n0 - 1 - n1)
        return weighted / max(n * (n - 1), 1)
    positives = positives.clamp_max(margin)
    if form == "batch":
        return (negatives.sum() - positives.sum()) / n
    return negatives.sum() / (n - n1).clamp_min(1) - positives.sum() / n1.clamp_min(1)


def knowledge_preparation_loss(
    inter: Tensor, intra: Tensor, lambda1: float = LAMBDA1, lambda2: float = LAMBDA2, aim: Aim = "minimise"
) -> Tensor:
    """What stage 1 minimises: lambda1 inter + lambda2 intra.

    Source: Eq. 14, Sun et al. 2024.
    Deviation: none in the sum; its parts have other signs than printed. The text says only that it is optimised: with
        both parts ``printed`` it has to be maximised, and ``aim="maximise"`` returns its negative (P1, P2).

    Args:
        inter: :func:`inter_sample_loss`.
        intra: :func:`intra_sample_loss`.
        lambda1: Weight of the first.
        lambda2: Weight of the second.
        aim: What is to be done with the sum; the result is always to be minimised.

    Returns:
        A scalar.

    Raises:
        ParameterError: Another aim.
    """
    chosen("aim", aim, get_args(Aim))
    loss = lambda1 * inter + lambda2 * intra
    return -loss if aim == "maximise" else loss


def _kl(p: Tensor, q: Tensor, maps: str) -> Tensor:
    """(B,) of (B, K): sum_k p_k log(p_k / q_k), or the mean over k of the divergence of two chances."""
    if maps != "bernoulli":
        return (p * (p.log() - q.log())).sum(dim=1)
    p, q = p.clamp_max(1 - EPSILON), q.clamp_max(1 - EPSILON)
    yes, no = p * (p.log() - q.log()), (1 - p) * ((-p).log1p() - (-q).log1p())
    return (yes + no).mean(dim=1)


def _label_each(y: Tensor, samples: Tensor) -> None:
    if tuple(y.shape) != (len(samples),):
        found, wanted = f"labels {tuple(y.shape)} of samples {tuple(samples.shape)}", "a label a sample, (B,)"
        raise ParameterError("labels", found=found, wanted=wanted, next_step="pass one whole number a sample")
