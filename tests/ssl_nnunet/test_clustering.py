"""Whether vectors group by a label, against shuffled labels."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.clustering import clustering_scores

FAST = {"permutations": 99, "k": 3}


def grouped(n=30, seed=0):
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 3
    return rng.normal(size=(n, 5)) + 8 * np.eye(3, 5)[group], group


def test_a_label_that_makes_the_groups_is_found_and_a_shuffled_one_is_not():
    vectors, group = grouped()
    labels = {"data set": group, "stroke": np.random.default_rng(1).permutation(group) == 0}
    by_set, by_stroke = clustering_scores(vectors, labels, **FAST)
    assert by_set.label == "data set"
    assert by_set.accuracy.value == 1
    assert by_set.silhouette > by_set.silhouette_chance.high + 0.2
    assert by_set.accuracy_p == by_set.silhouette_p == 1 / 100
    assert by_set.accuracy_chance.high < 0.7
    assert by_stroke.accuracy_chance.low <= by_stroke.accuracy.value <= by_stroke.accuracy_chance.high
    assert by_stroke.accuracy_p > 0.05
    assert by_stroke.silhouette_p > 0.05


def test_the_accuracy_is_that_of_a_literal_vote_of_the_nearest_others():
    rng = np.random.default_rng(3)
    vectors, classes = rng.normal(size=(25, 3)), rng.choice(["a", "b", "c"], 25)
    (found,) = clustering_scores(vectors, {"made": classes}, k=4, permutations=9, scaling="none")
    right = []
    for i, vector in enumerate(vectors):
        order = sorted((np.linalg.norm(vector - other), j) for j, other in enumerate(vectors) if j != i)
        votes = [classes[j] for _, j in order[:4]]
        most = max(votes.count(name) for name in votes)
        said = next(name for name in votes if votes.count(name) == most)
        right.append(said == classes[i])
    assert found.accuracy.value == pytest.approx(np.mean(right))
    assert found.silhouette == pytest.approx(silhouette_score(vectors, classes))


def test_four_points_on_a_line_by_hand():
    # 0 and 1 are one class, 10 and 11 the other: a = 1, b = 9.5 to 10.5, every nearest other is of the own class.
    line, classes = np.array([[0.0], [1.0], [10.0], [11.0]]), {"made": list("aabb")}
    (found,) = clustering_scores(line, classes, k=1, permutations=9, scaling="none")
    assert found.accuracy.value == 1
    assert found.silhouette == pytest.approx(np.mean([1 - 1 / 10.5, 1 - 1 / 9.5]))
    assert found.counts == {"a": 2, "b": 2}


def test_chance_of_an_unequal_label_is_its_larger_share_and_not_one_half():
    rng = np.random.default_rng(0)
    (found,) = clustering_scores(rng.normal(size=(60, 4)), {"stroke": np.arange(60) < 51}, k=5, permutations=99)
    assert found.accuracy_chance.value == pytest.approx(0.85, abs=0.05)
    assert found.accuracy_p > 0.05


def test_the_same_seed_gives_the_same_scores():
    vectors, group = grouped()
    assert clustering_scores(vectors, {"a": group}, **FAST) == clustering_scores(vectors, {"a": group}, **FAST)


@pytest.mark.parametrize("label", [np.zeros(30), np.arange(30), np.arange(29) % 2])
def test_a_label_with_one_class_or_one_a_head_or_of_other_heads_is_refused(label):
    with pytest.raises(DataError, match="classes"):
        clustering_scores(grouped()[0], {"made": label}, **FAST)


def test_no_shuffle_is_refused():
    vectors, group = grouped()
    with pytest.raises(ParameterError, match="permutations"):
        clustering_scores(vectors, {"made": group}, permutations=0)
