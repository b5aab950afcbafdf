import numpy as np
import pytest

from strokelib.errors import ParameterError
from strokelib.stats.plane import bounded, t_sne


def test_perplexity_is_at_most_a_third_of_the_others():
    assert bounded(30, 200) == 30
    assert bounded(30, 31) == 10
    with pytest.raises(ParameterError, match="perplexity"):
        bounded(0.5, 100)


def test_two_groups_far_apart_stay_apart_and_the_seed_alone_decides():
    vectors = np.random.default_rng(0).normal(size=(24, 5)) + np.repeat([[0.0], [40.0]], 12, axis=0)
    found = t_sne(vectors, seed=1)
    assert (found.shape, found.dtype) == ((24, 2), np.float64)
    away = np.linalg.norm(found[:, None] - found, axis=2) + np.diag(np.full(24, np.inf))
    assert ((away.argmin(axis=1) < 12) == (np.arange(24) < 12)).all()
    np.testing.assert_array_equal(t_sne(vectors, seed=1), found)
