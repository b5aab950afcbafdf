"""Lesion-wise scores: hand-worked lesions, a literal loop of each rule, and empty masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from strokelib import metrics
from strokelib.errors import DataError, ParameterError

BOX = np.ones((3, 3, 3), bool)


def boxes(*places, shape=(6, 20, 20)):
    mask = np.zeros(shape, bool)
    for z, y, x, side in places:
        mask[z, y : y + side, x : x + side] = True
    return mask


def by_hand(pred, truth, rule, iou=0.2):
    """TP, FP, FN, lesion by lesion."""
    p, n_p = ndimage.label(pred, BOX)
    t, n_t = ndimage.label(truth, BOX)
    if rule == "isles22":
        hits = sum(bool((pred & (t == n)).any()) for n in range(1, n_t + 1))
        return hits, sum(not (truth & (p == n)).any() for n in range(1, n_p + 1)), n_t - hits
    shares = {}
    for i in range(1, n_p + 1):
        for j in range(1, n_t + 1):
            if ((p == i) & (t == j)).any():
                shares[i, j] = ((p == i) & (t == j)).sum() / ((p == i) | (t == j)).sum()
    hits, used = 0, set()
    for i, j in sorted(shares, key=lambda pair: (-shares[pair], pair)):
        if shares[i, j] >= iou and ("p", i) not in used and ("t", j) not in used:
            used |= {("p", i), ("t", j)}
            hits += 1
    return hits, n_p - hits, n_t - hits


def test_two_of_three_lesions_are_found_and_one_prediction_is_false():
    truth = boxes((1, 1, 1, 4), (1, 1, 10, 4), (4, 10, 10, 2))
    pred = boxes((1, 1, 1, 4), (1, 4, 13, 4), (3, 16, 1, 3))  # the first whole, the second at one corner voxel
    found = metrics.lesion_scores(pred, truth, "isles22")
    assert (found.true_positives, found.false_positives, found.false_negatives) == (2, 1, 1)
    assert found.f1 == pytest.approx(4 / 6)
    strict = metrics.lesion_scores(pred, truth, "isles24")
    assert (strict.true_positives, strict.false_positives, strict.false_negatives) == (1, 2, 2)
    assert strict.f1 == pytest.approx(2 / 6)


def test_a_blob_over_everything_has_one_rule_s_best_score_and_the_other_s_worst():
    truth = boxes((1, 1, 1, 2), (1, 1, 10, 2), (4, 12, 12, 2))
    pred = np.ones(truth.shape, bool)
    assert metrics.lesion_scores(pred, truth, "isles22").f1 == 1
    assert metrics.lesion_scores(pred, truth, "isles24").f1 == 0
    assert metrics.dice(pred, truth) < 0.02


def test_the_threshold_counts_from_where_it_is_reached():
    truth, pred = boxes((1, 0, 0, 4)), boxes((1, 0, 2, 4))  # 8 of 24 voxels
    assert metrics.lesion_scores(pred, truth, "isles24", iou=8 / 24).f1 == 1
    assert metrics.lesion_scores(pred, truth, "isles24", iou=0.34).f1 == 0


def test_voxels_that_share_a_corner_are_one_lesion_and_slices_have_eight_neighbours():
    mask = np.zeros((2, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert metrics.lesion_scores(mask, mask).n_truth == 1
    flat = np.eye(4, dtype=bool)
    assert metrics.lesion_scores(flat, flat).n_truth == 1


@pytest.mark.parametrize("rule", ["isles22", "isles24"])
def test_empty_masks_follow_the_written_policy(rule):
    none, some = np.zeros((3, 8, 8), bool), boxes((1, 2, 2, 3), shape=(3, 8, 8))
    both = metrics.lesion_scores(none, none, rule)
    assert np.isnan(both.f1)
    assert both.status == "both_empty"
    assert metrics.lesion_scores(none, none, rule, empty="isles").f1 == 1
    assert metrics.lesion_scores(none, some, rule).f1 == 0
    assert metrics.lesion_scores(some, none, rule).false_positives == 1


@settings(max_examples=60, deadline=None)
@given(arrays(bool, (2, 3, 7, 7), elements=st.booleans()), st.sampled_from(["isles22", "isles24"]))
def test_each_rule_equals_its_literal_loop(pair, rule):
    pair = ndimage.binary_opening(pair, np.ones((1, 1, 1, 2), bool))
    found = metrics.lesion_scores(*pair, rule)
    assert (found.true_positives, found.false_positives, found.false_negatives) == by_hand(*pair, rule)


@settings(max_examples=30, deadline=None)
@given(arrays(bool, (2, 4, 8, 8), elements=st.booleans()))
def test_matching_one_to_one_is_the_same_from_both_sides(pair):
    there, back = metrics.lesion_scores(*pair, "isles24"), metrics.lesion_scores(*pair[::-1], "isles24")
    assert there.true_positives == back.true_positives
    assert there.false_positives == back.false_negatives
    assert there.count_difference == back.count_difference


def test_what_is_no_rule_no_threshold_or_no_pair_is_refused():
    mask = boxes((1, 1, 1, 2))
    with pytest.raises(ParameterError, match="isles22"):
        metrics.lesion_scores(mask, mask, "isles23")
    with pytest.raises(ParameterError, match="iou"):
        metrics.lesion_scores(mask, mask, "isles24", iou=0)
    with pytest.raises(DataError, match="shape"):
        metrics.lesion_scores(mask, mask[1:])


def test_lesions_up_to_the_limit_are_taken_away_and_larger_ones_stay_whole():
    truth = boxes((1, 1, 1, 4), (1, 1, 10, 4), (4, 10, 10, 2))  # 16 + 16 + 4 voxels
    truth[2, 5, 5] = True  # at a corner of the first
    np.testing.assert_array_equal(metrics.truth_above(truth, 0.2, 3.2), truth & (np.arange(20) < 6))
    np.testing.assert_array_equal(metrics.truth_above(truth, 0.2, 3.19), truth & (np.arange(6) < 4)[:, None, None])
    assert not metrics.truth_above(truth, 0.2, 3.4).any()
    np.testing.assert_array_equal(metrics.truth_above(truth, 0.2, 0), truth)


def test_a_lesion_of_exactly_3_ml_is_taken_away_whatever_the_last_bit_says():
    for n, voxel_ml in ((3000, 0.001), (150, 0.02), (10, 0.3), (7, 3 / 7 * (1 + 1e-15))):
        flat = np.zeros((1, 60, 60), bool)
        flat.ravel()[:n] = True
        assert not metrics.truth_above(flat, voxel_ml).any()
        assert metrics.truth_above(flat, voxel_ml * 1.001).sum() == n


@settings(max_examples=40, deadline=None)
@given(arrays(bool, (3, 6, 6), elements=st.booleans()), st.integers(0, 6))
def test_taking_small_lesions_away_equals_its_literal_loop(mask, limit):
    mask &= np.indices(mask.shape).sum(axis=0) % 3 > 0
    labels, count = ndimage.label(mask, BOX)
    wanted = np.zeros_like(mask)
    for n in range(1, count + 1):
        if (labels == n).sum() > limit:
            wanted |= labels == n
    np.testing.assert_array_equal(metrics.truth_above(mask, 1.0, limit), wanted)


def test_a_slice_and_an_empty_reference_can_be_filtered_and_what_is_no_mask_or_volume_is_refused():
    flat = np.zeros((4, 8), np.uint8)
    flat[0, 0] = flat[1, 1] = flat[3, 7] = 1
    assert metrics.truth_above(flat, 1.0, 1.0).tolist()[:2] == [[True] + [False] * 7, [False, True] + [False] * 6]
    assert metrics.truth_above(flat, 1.0, 1.0).sum() == 2
    assert not metrics.truth_above(np.zeros((2, 3, 3), bool), 1.0).any()
    with pytest.raises(DataError, match="other values"):
        metrics.truth_above(0.5 * flat, 1.0)
    for volumes in ((0.0, 3.0), (-1.0, 3.0), (float("nan"), 3.0), (float("inf"), 3.0), (1.0, -1.0)):
        with pytest.raises(ParameterError, match="volumes"):
            metrics.truth_above(flat, *volumes)
