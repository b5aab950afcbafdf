"""Do features know a lesion in a head that they were not compared within? Nearest patches of other heads vote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from strokelib.errors import DataError, ParameterError
from strokelib.stats.samples import Estimate

K = 5


@dataclass(frozen=True)
class Vote:
    """How often the nearest patches of other heads have a patch's own label.

    Args:
        right: Head -> share of its patches that are voted right.
        accuracy: Mean of these.
        chance: Labels shuffled within each head: mean and central 95 %.
        p: Share of shuffles as good or better, the real labels counted in.
        k: Voters.
    """

    right: dict[str, float]
    accuracy: float
    chance: Estimate
    p: float
    k: int


def standardised(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, F) as float64, each feature with mean 0 and SD 1; 0 where it is constant."""
    values = np.asarray(vectors, np.float64)
    spread = values.std(axis=0)
    alive = spread > 1e-7 * np.abs(values).max(axis=0)
    return np.where(alive, (values - values.mean(axis=0)) / np.where(alive, spread, 1.0), 0.0)


def vote_of_others(
    vectors: np.ndarray, labels: np.ndarray, heads: np.ndarray, *, k: int = K, permutations: int = 999, seed: int = 0
) -> Vote:
    """Let the k nearest patches of other heads vote on each patch's label.

    Patches of one head are alike in noise and anatomy, so that they neither vote on each other nor exchange labels with
    other heads' patches. Of labels with as many votes the one with the nearer voter wins.

    Args:
        vectors: (n, F).
        labels: (n,) of any kind.
        heads: (n,) names of the heads.
        k: Voters.
        permutations: Shuffles of the labels within each head.
        seed: Of the shuffles.

    Raises:
        ParameterError: No voter or no shuffle.
        DataError: Lengths differ, values are not finite, fewer than two heads or labels, or too few patches to vote.
    """
    if k < 1 or permutations < 1:
        found = f"k = {k}, {permutations} shuffles"
        raise ParameterError("vote", found=found, wanted="1 or more of both", next_step="pass 5 and 999")
    vectors, heads = np.asarray(vectors), np.asarray(heads).astype(str)
    names, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    known = np.unique(heads)
    fits = vectors.ndim == 2 and len(vectors) == len(codes) == len(heads) and np.isfinite(vectors).all()
    if not fits or len(known) < 2 or len(names) < 2 or min(int((heads != one).sum()) for one in known) < k:
        found = f"{vectors.shape} for {len(codes)} labels of {len(names)} kinds in {len(known)} heads"
        wanted = f"finite (n, F), two labels, two heads, {k} patches outside each head"
        raise DataError("patches", found=found, wanted=wanted, next_step="draw more patches")
    scaled = standardised(vectors)
    away = cdist(scaled, scaled)
    away[heads[:, None] == heads] = np.inf
    nearest = np.argsort(away, axis=1, kind="stable")[:, :k]
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(heads == one) for one in known]
    shares = []
    for number in range(permutations + 1):
        tried = codes if number == 0 else _shuffled(codes, groups, rng)
        right = voted(tried[nearest], len(names)) == tried
        shares.append([float(right[group].mean()) for group in groups])
    means = np.mean(shares, axis=1)
    low, high = np.quantile(means[1:], (0.025, 0.975))
    chance = Estimate(float(means[1:].mean()), float(low), float(high), 0.95)
    p = float((means >= means[0] - 1e-12).mean())
    return Vote(dict(zip(known.tolist(), shares[0], strict=True)), float(means[0]), chance, p, k)


def _shuffled(codes: np.ndarray, groups: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    out = codes.copy()
    for group in groups:
        out[group] = rng.permutation(codes[group])
    return out


def voted(votes: np.ndarray, kinds: int) -> np.ndarray:
    """The kind with most votes of each row (n, k), nearest first; among equals the kind met first.

    Args:
        votes: (n, k) int, numbers of kinds from 0.
        kinds: How many there are.
    """
    counts = (votes[:, :, None] == np.arange(kinds)).sum(axis=1)
    own = np.take_along_axis(counts, votes, axis=1)
    return votes[np.arange(len(votes)), own.argmax(axis=1)]
