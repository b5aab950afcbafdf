"""Whether representations group by the origin of a head or by stroke, against shuffled labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError, ParameterError
from strokelib.explain.neighbours import voted
from strokelib.ssl_nnunet.representations import NEIGHBOURS, Scaling, distances, neighbours, scale
from strokelib.stats.bootstrap import Bootstrap, bootstrap_ci
from strokelib.stats.samples import Estimate

VERSION = 1


@dataclass(frozen=True)
class Clustering:
    """How far the vectors group by one label. Chance is what shuffled labels give: its mean and central interval.

    Args:
        label: What the classes are, e.g. ``data set``.
        counts: Heads of each class.
        silhouette: Mean over the heads, -1 to 1; 0 for classes that lie through each other.
        silhouette_chance: Of shuffled labels.
        silhouette_p: Share of shuffles with as large a silhouette or a larger one, the real one counted in.
        accuracy: Share of heads whose nearest others are mostly of its own class; bootstrap interval over the heads.
        accuracy_chance: Of shuffled labels.
        accuracy_p: As ``silhouette_p``.
        k: Nearest others asked.
        permutations: Shuffles.
    """

    label: str
    counts: Mapping[str, int]
    silhouette: float
    silhouette_chance: Estimate
    silhouette_p: float
    accuracy: Bootstrap
    accuracy_chance: Estimate
    accuracy_p: float
    k: int
    permutations: int


def clustering_scores(
    vectors: np.ndarray,
    labels: Mapping[str, Sequence[object]],
    *,
    k: int = NEIGHBOURS,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
    scaling: Scaling = "standard",
) -> list[Clustering]:
    """Whether the representations tell where a head comes from, or whether it has a stroke.

    Source: Sec. 4.3, Seia et al. 2023.
    Deviation: the paper looks at the picture and finds no relation; here it is tested, among the representations.

    Args:
        vectors: (n, F), one a patient.
        labels: Name of a label -> its class for each head, e.g. ``data set`` and ``stroke``.
        k: Nearest others that vote; of as many votes the class of the nearest one wins.
        permutations: Shuffles of the labels.
        level: Of the intervals.
        seed: Of the shuffles and resamples.
        scaling: As in :func:`strokelib.ssl_nnunet.representations.project`.

    Returns:
        A :class:`Clustering` for each label, in order.

    Raises:
        ParameterError: As :func:`neighbours`, or no permutation.
        DataError: A label has another number of heads, only one class, or a class for each head.
    """
    from sklearn.metrics import silhouette_score

    if permutations < 1:
        raise ParameterError("permutations", found=permutations, wanted="1 or more", next_step="pass some hundreds")
    nearest = neighbours(vectors, k, scaling=scaling)
    away, found = distances(scale(vectors, scaling)), []
    for label, classes in labels.items():
        names, codes = np.unique(np.asarray(classes).astype(str), return_inverse=True)
        if len(codes) != len(away) or not 2 <= len(names) < len(away):
            found_text = f"{len(names)} classes of {len(codes)} heads"
            wanted, step = f"2 to {len(away) - 1} classes of {len(away)} heads", "leave this label out"
            raise DataError(label, found=found_text, wanted=wanted, next_step=step)
        rng = np.random.default_rng(seed)
        tried = [codes, *(rng.permutation(codes) for _ in range(permutations))]
        silhouettes = np.array([silhouette_score(away, one, metric="precomputed") for one in tried])
        right = np.array([voted(one[nearest], len(names)) == one for one in tried])
        shares = right.mean(axis=1)
        accuracy = bootstrap_ci(right[0].astype(float), level=level, seed=seed)
        counts = dict(zip(names.tolist(), np.bincount(codes).tolist(), strict=True))
        first = (float(silhouettes[0]), _chance(silhouettes[1:], level), _p(silhouettes))
        found.append(
            Clustering(label, counts, *first, accuracy, _chance(shares[1:], level), _p(shares), k, permutations)
        )
    return found


def _chance(values: np.ndarray, level: float) -> Estimate:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(values.mean()), float(low), float(high), level)


def _p(values: np.ndarray) -> float:
    return float((values >= values[0] - 1e-12).mean())
