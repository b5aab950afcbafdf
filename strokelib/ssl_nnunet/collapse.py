"""Measures that tell a self-distillation that learns from one that has collapsed.

A teacher can fall into saying the same of every patch in two ways: all K outputs alike (entropy log K), or one output
alone (entropy 0). In both its spread is 0, and the student's loss goes to that entropy without anything being learnt.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from strokelib.errors import DataError, ParameterError

VERSION = 1
EPSILON = 1e-7


@torch.no_grad()
def rank_me(latent: Tensor, eps: float = EPSILON) -> float:
    """RankMe, a smooth rank of vectors: exp(-sum_k p_k log(p_k)), p_k = sigma_k / sum(sigma) + eps.

    sigma_k are the singular values of ``latent``; it is not centred, so that vectors that are all alike have rank 1.
    Only numbers of the same count n of vectors can be compared.

    Source: Garrido et al. 2023, as Seia et al. 2023 use it in Sec. 3.4.2.
    Deviation: none; zeros alone have rank 0.

    Args:
        latent: (n, d): n vectors, here the teacher's before the last layer, d = 256 published.
        eps: Keeps the logarithm finite.

    Returns:
        1 (all vectors along one line) to min(n, d) (all directions used alike), up to ``eps``; 0 for zeros alone.

    Raises:
        DataError: Not (n, d), empty, or not finite.
    """
    if latent.ndim != 2 or not latent.numel() or not torch.isfinite(latent).all():
        found = f"shape {tuple(latent.shape)}, finite: {bool(torch.isfinite(latent).all())}"
        step = "pass one vector a row; where values are not finite the training has diverged"
        raise DataError("latent vectors", found=found, wanted="(n, d), finite", next_step=step)
    sigma = torch.linalg.svdvals(latent.double())
    total = sigma.sum()
    if total == 0:
        return 0.0
    p = sigma / total + eps
    return float((-(p * p.log()).sum()).exp())


def uniform_loss(k: int) -> float:
    """The loss, and the entropy, of a collapse to outputs all alike: log(k).

    Args:
        k: K, the number of outputs.

    Raises:
        ParameterError: Fewer than 1.
    """
    if k < 1:
        raise ParameterError("k", found=k, wanted="1 or more", next_step="pass the width of the last layer")
    return math.log(k)


@torch.no_grad()
def teacher_entropy(probabilities: Tensor) -> float:
    """How undecided the teacher is about a single patch: mean_b -sum_k p_bk log(p_bk).

    Args:
        probabilities: (n, K), centred and sharpened as in the loss.

    Returns:
        0 (one output has it all) to log(K) (all outputs alike).

    Raises:
        DataError: Not (n, K), or rows that do not sum to 1.
    """
    p = _distributions(probabilities)
    return float(torch.special.entr(p).sum(dim=1).mean())


@torch.no_grad()
def teacher_spread(probabilities: Tensor) -> float:
    """How much what the teacher says depends on the patch: mean_b sum_k p_bk log(p_bk / mean_b(p_bk)).

    The mean Kullback-Leibler divergence of single outputs from their mean over the batch.

    Args:
        probabilities: (n, K), centred and sharpened as in the loss.

    Returns:
        0 (the same for every patch, in either collapse) to log(min(n, K)).

    Raises:
        DataError: Not (n, K), or rows that do not sum to 1.
    """
    p = _distributions(probabilities)
    spread = torch.special.entr(p.mean(dim=0)).sum() - torch.special.entr(p).sum(dim=1).mean()
    return max(0.0, float(spread))


def _distributions(probabilities: Tensor) -> Tensor:
    """The rows in float64, or a DataError where they are no distributions."""
    p = probabilities.double()
    if p.ndim != 2 or not p.numel() or not ((p >= 0).all() and ((p.sum(dim=1) - 1).abs() < 1e-3).all()):
        step = "pass what tempered_softmax gives, one row a patch"
        raise DataError(
            "probabilities", found=f"shape {tuple(p.shape)}", wanted="(n, K), rows that sum to 1", next_step=step
        )
    return p
