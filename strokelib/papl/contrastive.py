"""Contrastive pre-training by a slice's height in the scan: PCL and GCL, which Table VI compares with stage 1.

Neither looks at the reference. Stage 1 of the paper does: it labels its samples by the infarct that lies in them. What
the comparison shows is thus the difference of two proxy tasks and that between self-supervised and supervised
pre-training together (erratum P35).
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from strokelib.data.augment import Augmentation, augment
from strokelib.data.streams import SeededStream
from strokelib.errors import DataError, ParameterError
from strokelib.options import chosen
from strokelib.papl.losses import cosine_similarity
from strokelib.papl.slices import HeadSlices

VERSION = 1
THRESHOLD, TAU, QUARTERS = 0.1, 0.1, 4
# Both papers crop, turn and mirror their views; how far on a head: assumed. Units of the z-scored image.
VIEW_AUGMENTATION = Augmentation(rotation_deg=15.0, zoom=0.2, shift=0.05, contrast=0.3, brightness=0.3, noise=0.1)
QuarterForm = Literal["original", "supcon"]
DrawnBy = Literal["slice", "quarter"]


class ViewBatch(NamedTuple):
    """Two views of each of B slices, one after the other.

    ``images`` (2 B, 1, H, W) float32; ``positions`` (2 B,) float32, height in the scan in (0, 1); ``quarters`` (2 B,)
    int64, 0 to 3 from below; ``scans`` and ``rows`` (2 B,) int64, number of the scan and of the slice among all.
    """

    images: Tensor
    positions: Tensor
    quarters: Tensor
    scans: Tensor
    rows: Tensor


def quarter_of(index: Tensor, count: Tensor, quarters: int = QUARTERS) -> Tensor:
    """Which part of a scan a slice lies in: floor(quarters index / count).

    Args:
        index: (N,) int64, number of the slice, from 0.
        count: (N,) int64, slices of the scan.
        quarters: Parts of equal height.

    Returns:
        (N,) int64, 0 to ``quarters - 1``.
    """
    return torch.div(quarters * index, count, rounding_mode="floor")


def position_pairs(positions: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Pairs of slices at nearly the same height, of one scan or two: |positions_a - positions_b| < threshold.

    Args:
        positions: (B,) in [0, 1].
        threshold: Above 0.

    Returns:
        (B, B) bool, symmetric; no sample is a pair with itself.

    Raises:
        ParameterError: A threshold that is not positive, or no list of positions.
    """
    if not threshold > 0 or positions.dim() != 1:
        found = f"threshold {threshold:g}, positions {tuple(positions.shape)}"
        raise ParameterError("pairs by position", found=found, wanted="above 0, (B,)", next_step="correct them")
    return _others((positions[:, None] - positions).abs() < threshold)


def quarter_pairs(
    quarters: Tensor, scans: Tensor, rows: Tensor, form: QuarterForm = "original"
) -> tuple[Tensor, Tensor]:
    """Pairs of slices in the same part of their scans, and pairs in other parts.

    Positive: the same part in two scans, or two views of one slice. Negative: another part, in any scan. Two slices of
    one part of one scan are neither. In the form ``supcon`` every pair in the same part is positive.

    Args:
        quarters: (B,) number of the part.
        scans: (B,) number of the scan.
        rows: (B,) number of the slice among all.
        form: One of the two.

    Returns:
        Positives and negatives, (B, B) bool each, symmetric, with no pair in common.

    Raises:
        ParameterError: Another form, or lists of several lengths.
    """
    chosen("form of the pairs", form, get_args(QuarterForm))
    if quarters.dim() != 1 or not quarters.shape == scans.shape == rows.shape:
        found = ", ".join(str(tuple(v.shape)) for v in (quarters, scans, rows))
        raise ParameterError("quarters, scans and rows", found=found, wanted="(B,) each", next_step="pass one a view")
    same = quarters[:, None] == quarters
    positive = same
    if form == "original":
        positive = same & ((scans[:, None] != scans) | (rows[:, None] == rows))
    return _others(positive), ~same


def positional_contrastive_loss(v: Tensor, positions: Tensor, threshold: float = THRESHOLD, tau: float = TAU) -> Tensor:
    """PCL: slices at nearly the same height are to lie together, and all others apart.

    mean_i -1/|P(i)| sum_{j in P(i)} log(exp(S(v_i, v_j) / tau) / sum_{k not i} exp(S(v_i, v_k) / tau)), P(i) from
    :func:`position_pairs`.

    Source: Zeng et al. 2021 (positional contrastive learning), public code.
    Deviation: the code scales the loss by tau / 0.07, which only scales the learning rate; a view without a partner is
        left out of the mean. The threshold was chosen by data set (0.1 on CT of the heart, 0.35 on MRI); 0.1 here.

    Args:
        v: Embeddings, (B, d).
        positions: (B,) in [0, 1].
        threshold: Of :func:`position_pairs`.
        tau: Temperature above 0.

    Returns:
        A scalar >= 0; 0 where there is no pair.

    Raises:
        ParameterError: A temperature or threshold that is not positive, or shapes that do not fit.
    """
    _fits(v, positions, tau)
    return _mean_over_anchors(v, position_pairs(positions, threshold), tau)


def quarter_contrastive_loss(
    v: Tensor, quarters: Tensor, scans: Tensor, rows: Tensor, tau: float = TAU, form: QuarterForm = "original"
) -> Tensor:
    """GCL: slices in the same quarter of their scans are to lie together, and those of other quarters apart.

    mean over positive pairs (i, j) of -log(e_ij / (e_ij + sum_{k negative of i} e_ik)), e_ij = exp(S(v_i, v_j) / tau),
    pairs from :func:`quarter_pairs`. In the form ``supcon`` the mean is that of :func:`positional_contrastive_loss`.

    Source: Chaitanya et al. 2020 (the global loss with G^D pairs); ``supcon``: its re-run in the code of Zeng et al.
        2021, from which Sun et al. 2024 may have theirs.
    Deviation: pairs are counted in both orders and those with the slice itself are those of its two views; the original
        has the unchanged slice as a third.

    Args:
        v: Embeddings, (B, d).
        quarters: (B,) number of the part.
        scans: (B,) number of the scan.
        rows: (B,) number of the slice among all.
        tau: Temperature above 0.
        form: One of the two.

    Returns:
        A scalar >= 0; 0 where there is no positive pair.

    Raises:
        ParameterError: Another form, a temperature that is not positive, or shapes that do not fit.
    """
    _fits(v, quarters, tau)
    positive, negative = quarter_pairs(quarters, scans, rows, form)
    if form == "supcon":
        return _mean_over_anchors(v, positive, tau)
    logits = cosine_similarity(v, v) / tau
    # The least finite number, not -inf: the gradient of a logsumexp over nothing is NaN.
    against = logits.masked_fill(~negative, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    each = functional.softplus(against - logits)
    return each.masked_fill(~positive, 0).sum() / positive.sum().clamp_min(1)


class ViewSampler(SeededStream):
    """An endless stream of batches of slices, each in two views.

    Args:
        slices: Of heads.
        batch: Slices a batch; it holds twice as many views.
        seed: Seed of the stream.
        drawn_by: ``slice``: each of all with equal probability, for PCL. ``quarter``: sample number i of the stream is
            of quarter i modulo 4, of any scan and any slice of it with equal probability, for GCL.
        augmentation: Changes to each view; turns and shifts are allowed, no side is compared with the other.

    Raises:
        ParameterError: Another word.
        DataError: No slices, or none in a quarter.
    """

    def __init__(
        self,
        slices: HeadSlices,
        batch: int,
        seed: int,
        *,
        drawn_by: DrawnBy = "slice",
        augmentation: Augmentation = VIEW_AUGMENTATION,
    ) -> None:
        super().__init__(batch, seed)
        chosen("drawn_by", drawn_by, get_args(DrawnBy))
        self.slices, self.drawn_by, self.augmentation = slices, drawn_by, augmentation
        self.quarters = quarter_of(slices.index, slices.count)
        self.groups = [
            [np.flatnonzero((slices.case == scan) & (self.quarters == q)) for scan in slices.case.unique()]
            for q in range(QUARTERS)
        ]
        self.groups = [[rows for rows in group if len(rows)] for group in self.groups]
        if not len(slices) or (drawn_by == "quarter" and not all(self.groups)):
            found, wanted = f"{len(slices)}, quarters of {[len(g) for g in self.groups]} scans", "some in each quarter"
            raise DataError("slices", found=found, wanted=wanted, next_step="give whole scans of 4 slices or more")

    def row_of(self, number: int, generator: np.random.Generator) -> int:
        """The slice of sample ``number`` of the stream, drawn from its generator."""
        if self.drawn_by == "slice":
            return int(generator.integers(len(self.slices)))
        scans = self.groups[number % QUARTERS]
        return int(generator.choice(scans[int(generator.integers(len(scans)))]))

    def draw(self, first: int, generators: list[np.random.Generator]) -> ViewBatch:
        """The batch of these generators, the first of which is that of sample ``first``."""
        rows = torch.tensor([self.row_of(number, generator) for number, generator in enumerate(generators, first)])
        part = self.slices[rows]
        views = [augment(part.images, part.lesions, self.augmentation, generators)[0] for _ in range(2)]
        twice = rows.repeat_interleave(2)
        return ViewBatch(
            torch.stack(views, dim=1).flatten(0, 1),
            self.slices.position[twice],
            self.quarters[twice],
            self.slices.case[twice],
            twice,
        )


def _others(pairs: Tensor) -> Tensor:
    """The same pairs without those of a sample with itself."""
    return pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)


def _fits(v: Tensor, each: Tensor, tau: float) -> None:
    if not (tau > 0 and math.isfinite(tau)):
        raise ParameterError("tau", found=tau, wanted="a positive number", next_step="0.1 is published")
    if v.dim() != 2 or each.shape != v.shape[:1]:
        found = f"embeddings {tuple(v.shape)} and {tuple(each.shape)}"
        raise ParameterError("views", found=found, wanted="(B, d) and (B,)", next_step="pass one a view")


def _mean_over_anchors(v: Tensor, positive: Tensor, tau: float) -> Tensor:
    """Mean, over the samples with a partner, of the mean of -log of the partners' shares among all others."""
    logits = cosine_similarity(v, v) / tau
    others = _others(torch.ones_like(positive))
    against = logits.masked_fill(~others, torch.finfo(logits.dtype).min).logsumexp(dim=1, keepdim=True)
    count = positive.sum(dim=1)
    each = (against - logits).masked_fill(~positive, 0).sum(dim=1) / count.clamp_min(1)
    return each.sum() / (count > 0).sum().clamp_min(1)
