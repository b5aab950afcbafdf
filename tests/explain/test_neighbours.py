"""Votes of patches of other heads."""

import numpy as np
import pytest

from strokelib.errors import DataError, ParameterError
from strokelib.explain.neighbours import standardised, vote_of_others, voted

HEADS = np.repeat(["a", "b", "c", "d"], 12)
LABELS = np.tile(["infarct", "other side", "elsewhere"], 16)


def test_a_feature_that_is_the_label_is_voted_right_everywhere():
    vectors = (LABELS == "infarct")[:, None] + 2.0 * (LABELS == "elsewhere")[:, None]
    found = vote_of_others(vectors, LABELS, HEADS, permutations=99)
    assert found.accuracy == 1.0
    assert set(found.right) == {"a", "b", "c", "d"}
    assert found.chance.high < 0.7
    assert found.p == pytest.approx(0.01)


def test_noise_is_at_chance_and_a_feature_that_tells_heads_apart_gains_nothing():
    rng = np.random.default_rng(3)
    found = vote_of_others(rng.normal(size=(48, 4)), LABELS, HEADS, permutations=199)
    assert found.chance.low <= found.accuracy <= found.chance.high
    assert found.p > 0.02
    heads = np.searchsorted(["a", "b", "c", "d"], HEADS)[:, None] + 0.01 * rng.normal(size=(48, 1))
    assert vote_of_others(heads, LABELS, HEADS, permutations=199).p > 0.02


def test_a_head_never_votes_on_itself():
    vectors, heads = np.array([[0.0], [0.1], [9.0], [9.1]]), np.array(["a", "a", "b", "b"])
    found = vote_of_others(vectors, np.array(["x", "x", "y", "x"]), heads, k=1, permutations=1)
    assert found.right == {"a": 0.0, "b": 0.5}


def test_of_as_many_votes_the_nearer_one_wins():
    assert voted(np.array([[1, 0, 0, 1], [2, 1, 1, 2]]), 3).tolist() == [1, 2]


def test_features_are_scaled_and_constant_ones_vanish():
    found = standardised(np.array([[1.0, 5.0], [3.0, 5.0]]))
    np.testing.assert_allclose(found, [[-1, 0], [1, 0]])


def test_what_cannot_be_voted_on_is_refused():
    good = np.random.default_rng(0).normal(size=(48, 2))
    with pytest.raises(ParameterError, match="k = 0"):
        vote_of_others(good, LABELS, HEADS, k=0)
    with pytest.raises(DataError, match="1 heads"):
        vote_of_others(good, LABELS, np.full(48, "a"))
    with pytest.raises(DataError, match="1 kinds"):
        vote_of_others(good, np.full(48, "x"), HEADS)
    good[3, 1] = np.nan
    with pytest.raises(DataError, match="finite"):
        vote_of_others(good, LABELS, HEADS)
