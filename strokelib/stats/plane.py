"""Vectors in the plane: t-SNE."""

from __future__ import annotations

import numpy as np

from strokelib.errors import ParameterError

PERPLEXITY = 30.0


def bounded(perplexity: float, n: int) -> float:
    """The perplexity that t-SNE of n vectors is made with: the one asked for, or (n - 1) / 3 where that is smaller.

    Raises:
        ParameterError: A perplexity below 1.
    """
    if not perplexity >= 1:
        raise ParameterError("perplexity", found=perplexity, wanted="1 or more", next_step="pass 30, the usual one")
    return float(min(perplexity, (n - 1) / 3))


def t_sne(vectors: np.ndarray, *, seed: int = 0, perplexity: float = PERPLEXITY) -> np.ndarray:
    """t-SNE of vectors in the plane, started from their first two principal components.

    Args:
        vectors: (n, F), n of 4 or more, finite and not all the same.
        seed: Of the method's random numbers.
        perplexity: About how many neighbours each vector has; made smaller where n asks for it, see :func:`bounded`.

    Returns:
        (n, 2) float64; only who lies beside whom has a meaning.

    Raises:
        ParameterError: A perplexity below 1.
    """
    from sklearn.manifold import TSNE

    used = bounded(perplexity, len(vectors))
    placed = TSNE(2, perplexity=used, init="pca", learning_rate="auto", random_state=seed, n_jobs=1)
    return placed.fit_transform(vectors).astype(np.float64)
