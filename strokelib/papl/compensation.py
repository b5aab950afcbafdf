"""The feature compensation module of Sun et al. 2024: features of near slices are to be alike (Eqs 15-17).

It fuses nothing: it is a penalty on the distance of the encoder's coarsest maps (P18). Slices i < j < k of one scan
succeed each other along the through-plane axis, where the text has "sagittal" (P19). Losses are float32.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from strokelib.errors import ParameterError
from strokelib.options import chosen

DistanceForm = Literal["means", "sums"]


def slice_weights(i: Tensor | int, j: Tensor | int, k: Tensor | int, n: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of the three pairs of slices, the larger the nearer they are.

    gamma1 = 1 / (j - i) - 1 / n, gamma2 = 1 / (k - j) - 1 / n, gamma3 = 1 / (k - i) - 1 / n. Within a scan no gap is
    above n - 1, so that each is at least 1 / (n (n - 1)) > 0: far slices count little, not nothing (P16).

    Source: Eq. 17, Sun et al. 2024.
    Deviation: n is the scan's own number of slices (P15, P16). An end slice can be the middle one where the scan is
        continued by a copy of it at -1 or n (P18); a pair that is then n or more apart weighs 0, not less.

    Args:
        i: Place of the front slice, (B,) or a number, -1 or above.
        j: Of the middle slice, above i.
        k: Of the rear slice, above j, n at most.
        n: Slices of the scan, 3 or more.

    Returns:
        gamma1, gamma2, gamma3, each of the arguments' common shape, float32, in [0, 1).

    Raises:
        ParameterError: Slices out of order or out of the scan, or a scan of fewer than three.
    """
    i, j, k, n = torch.broadcast_tensors(*(torch.as_tensor(each) for each in (i, j, k, n)))
    fits = (n >= 3) & (i >= -1) & (i < j) & (j < k) & (k <= n) & (j >= 0) & (j < n)
    if not fits.all():
        bad = tuple(each[~fits].flatten()[0].item() for each in (i, j, k, n))
        step = "draw three slices without replacement, and pass the scan's own number of slices"
        wanted = "-1 <= i < j < k <= n with j in the scan and n >= 3"
        raise ParameterError("slices i, j, k of n", found=bad, wanted=wanted, next_step=step)
    gaps = (j - i, k - j, k - i)
    first, second, third = ((1 / gap.double() - 1 / n.double()).clamp_min(0).float() for gap in gaps)
    return first, second, third


def feature_distance(a: Tensor, b: Tensor, form: DistanceForm = "means") -> Tensor:
    """How far the features of two slices are apart: l = |a - b|_1 + |a - b|_2.

    Source: Eq. 16, Sun et al. 2024.
    Deviation: mean of the absolute and root of the mean squared difference, since the norms (``sums``) grow with the
        size of the map and drown the segmentation loss (P17): at 1024 x 16 x 16 and a difference of 1 everywhere they
        make 262,144 + 512, where ``means`` makes 2.

    Args:
        a: F(x_i), (B, ...).
        b: F(x_j), the same shape.
        form: One of the two.

    Returns:
        (B,), >= 0; 0, with a gradient of 0, for equal features.

    Raises:
        ParameterError: Another form, or shapes that differ or have no sample axis.
    """
    chosen("form", form, get_args(DistanceForm))
    if a.shape != b.shape or a.dim() < 2:
        found = f"shapes {tuple(a.shape)} and {tuple(b.shape)}"
        raise ParameterError("features", found=found, wanted="twice (B, ...)", next_step="pass maps of one level")
    difference = (a.float() - b.float()).flatten(1)
    # Not the root of a sum of squares: its gradient at 0 is NaN, and a copied end slice has the difference 0.
    absolute, euclidean = difference.abs().sum(dim=1), torch.linalg.vector_norm(difference, dim=1)
    if form == "sums":
        return absolute + euclidean
    return absolute / difference.shape[1] + euclidean / difference.shape[1] ** 0.5


def feature_compensation_loss(
    front: Tensor,
    middle: Tensor,
    rear: Tensor,
    i: Tensor,
    j: Tensor,
    k: Tensor,
    n: Tensor | int,
    form: DistanceForm = "means",
) -> Tensor:
    """mean(gamma1 l(front, middle) + gamma2 l(middle, rear) + gamma3 l(front, rear)) over the triplets of a batch.

    Source: Eq. 15, Sun et al. 2024.
    Deviation: the mean runs over triplets; the printed sum has an index i that is also a slice, and an upper limit N
        that is also the scan's number of slices (P15). A batch of 32 is 32 triplets (P20).

    Args:
        front: F(x_i), (B, C, h, w).
        middle: F(x_j), the same shape.
        rear: F(x_k), the same shape.
        i: Places of the front slices, (B,).
        j: Of the middle slices.
        k: Of the rear slices.
        n: Slices of each triplet's scan, (B,) or one number.
        form: Of :func:`feature_distance`.

    Returns:
        A scalar >= 0.

    Raises:
        ParameterError: As :func:`slice_weights` and :func:`feature_distance`, or places that are not (B,).
    """
    gammas = slice_weights(i, j, k, n)
    if tuple(gammas[0].shape) != (len(middle),):
        found, wanted = f"shape {tuple(gammas[0].shape)} for {len(middle)} triplets", "(B,)"
        raise ParameterError("places of the slices", found=found, wanted=wanted, next_step="pass one a triplet")
    pairs = ((front, middle), (middle, rear), (front, rear))
    parts = [g.to(a.device) * feature_distance(a, b, form) for g, (a, b) in zip(gammas, pairs, strict=True)]
    return torch.stack(parts).sum(dim=0).mean()
