"""Feature compensation of papl: Eqs 15-17 against literal loops, hand-worked values and hard batches."""

import math
from fractions import Fraction

import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.papl.losses import feature_compensation_loss, feature_distance, slice_weights


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def places(*values):
    return torch.tensor(values)


# Eq. 17


def test_the_weights_of_every_triplet_of_a_scan_are_the_literal_ones_and_above_0():
    for n in (3, 4, 9):
        all_of = [(i, j, k) for i in range(n) for j in range(i + 1, n) for k in range(j + 1, n)]
        found = torch.stack(slice_weights(*torch.tensor(all_of).T, n), dim=1).tolist()
        least = Fraction(1, n - 1) - Fraction(1, n)
        assert least == Fraction(1, n * (n - 1))
        for (i, j, k), gammas in zip(all_of, found, strict=True):
            exact = [Fraction(1, gap) - Fraction(1, n) for gap in (j - i, k - j, k - i)]
            assert gammas == pytest.approx([float(g) for g in exact], rel=1e-6)
            assert min(exact) >= least
            assert min(gammas) > 0.999 * float(least)
        assert min(min(gammas) for gammas in found) == pytest.approx(float(least))


def test_weights_by_hand():
    # Neighbours in a scan of ten slices; then a rear slice five further up.
    assert [float(g) for g in slice_weights(3, 4, 5, 10)] == pytest.approx([0.9, 0.9, 0.4])
    assert [float(g) for g in slice_weights(3, 4, 9, 10)] == pytest.approx([0.9, 0.1, 1 / 6 - 0.1])
    first, second, third = slice_weights(places(0, 0), places(1, 2), places(3, 3), places(4, 30))
    assert first.tolist() == pytest.approx([0.75, 1 / 2 - 1 / 30])
    assert second.tolist() == pytest.approx([0.25, 1 - 1 / 30])
    assert third.tolist() == pytest.approx([1 / 3 - 1 / 4, 1 / 3 - 1 / 30])
    assert first.dtype == torch.float32


def test_the_nearer_of_two_slices_weighs_more():
    gammas = slice_weights(torch.zeros(7, dtype=torch.long), places(1, 2, 3, 4, 5, 6, 7), 8, 9)[0]
    assert (gammas.diff() < 0).all()


def test_end_slices_continued_by_a_copy_can_be_the_middle_and_pairs_beyond_the_scan_weigh_0():
    assert [float(g) for g in slice_weights(-1, 0, 1, 10)] == pytest.approx([0.9, 0.9, 0.4])
    assert [float(g) for g in slice_weights(8, 9, 10, 10)] == pytest.approx([0.9, 0.9, 0.4])
    # From the copy to the other end of the scan: 1 / n - 1 / n, and to the copy there: 1 / (n + 1) - 1 / n.
    assert float(slice_weights(-1, 0, 9, 10)[2]) == 0
    assert float(slice_weights(-1, 0, 10, 10)[2]) == 0
    assert float(slice_weights(-1, 0, 8, 10)[2]) == pytest.approx(1 / 9 - 1 / 10)


@pytest.mark.parametrize(
    ("i", "j", "k", "n"),
    [(0, 0, 1, 9), (0, 1, 1, 9), (2, 1, 3, 9), (0, 1, 2, 2), (-2, 1, 3, 9), (0, 1, 10, 9), (-1, 9, 10, 9)],
)
def test_triplets_out_of_order_or_out_of_the_scan_are_refused(i, j, k, n):
    with pytest.raises(ParameterError, match="slices i, j, k of n"):
        slice_weights(i, j, k, n)


def test_the_triplet_that_does_not_fit_is_named():
    with pytest.raises(ParameterError, match=r"\(4, 4, 6, 9\)"):
        slice_weights(places(0, 4), places(1, 4), places(2, 6), 9)


# Eq. 16


@pytest.mark.parametrize("form", ["means", "sums"])
def test_the_distance_is_the_literal_one_of_each_sample(form):
    a, b = noise(3, 2, 4, 5), noise(3, 2, 4, 5, seed=1)
    for x, y, found in zip(a.flatten(1).tolist(), b.flatten(1).tolist(), feature_distance(a, b, form), strict=True):
        differences = [u - w for u, w in zip(x, y, strict=True)]
        absolute, squared = sum(map(abs, differences)), sum(d * d for d in differences)
        if form == "means":
            absolute, squared = absolute / 40, squared / 40
        assert float(found) == pytest.approx(absolute + math.sqrt(squared), rel=1e-5)


def test_distances_by_hand():
    a, b = torch.tensor([[1.0, 2.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), torch.tensor([[4.0, -2.0, 0.0, 0.0], [0.0] * 4])
    assert feature_distance(a, b, "sums").tolist() == pytest.approx([7 + 5, 4 + 2])
    assert feature_distance(a, b).tolist() == pytest.approx([7 / 4 + 5 / 2, 1 + 1])


def test_a_difference_of_1_everywhere_makes_2_and_as_sums_what_the_docstring_says():
    ones = torch.ones(1, 1024, 16, 16)
    assert float(feature_distance(ones, 0 * ones)) == pytest.approx(2)
    assert float(feature_distance(ones, 0 * ones, "sums")) == pytest.approx(262_144 + 512)


@pytest.mark.parametrize("form", ["means", "sums"])
def test_equal_features_are_at_0_with_a_gradient_of_0(form):
    a = noise(2, 3, 4, 5).requires_grad_()
    found = feature_distance(a, a.detach().clone(), form)
    found.sum().backward()
    assert found.tolist() == [0, 0]
    assert a.grad.abs().sum() == 0


def test_features_of_bfloat16_are_compared_in_float32():
    a, b = noise(2, 3, 4, 5).bfloat16(), noise(2, 3, 4, 5, seed=1).bfloat16()
    torch.testing.assert_close(feature_distance(a, b), feature_distance(a.float(), b.float()))


def test_features_of_two_sizes_or_another_form_are_refused():
    with pytest.raises(ParameterError, match="features"):
        feature_distance(noise(2, 3, 4, 5), noise(2, 3, 4, 4))
    with pytest.raises(ParameterError, match="means or sums"):
        feature_distance(noise(2, 3), noise(2, 3), "mean")


# Eq. 15


@pytest.mark.parametrize("form", ["means", "sums"])
def test_the_compensation_loss_is_the_literal_mean_over_triplets(form):
    front, middle, rear = noise(3, 4, 2, 3, 5)
    i, j, k, n = places(0, 2, 5, -1), places(1, 7, 6, 0), places(4, 8, 7, 3), places(12, 30, 9, 4)
    expected = []
    for b in range(4):
        x, y, z = (each[b : b + 1] for each in (front, middle, rear))
        gap1, gap2, gap3 = int(j[b] - i[b]), int(k[b] - j[b]), int(k[b] - i[b])
        parts = ((gap1, x, y), (gap2, y, z), (gap3, x, z))
        expected.append(sum((1 / gap - 1 / int(n[b])) * float(feature_distance(p, q, form)) for gap, p, q in parts))
    assert expected[-1] > 0
    found = feature_compensation_loss(front, middle, rear, i, j, k, n, form)
    assert float(found) == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_equal_slices_cost_nothing_and_near_slices_that_differ_more_than_far_ones():
    x, y = torch.zeros(1, 2, 3, 4), torch.ones(1, 2, 3, 4)
    at = (places(3), places(4), places(9), 10)
    assert float(feature_compensation_loss(x, x, x, *at)) == 0
    # gamma1, gamma2, gamma3 = 0.9, 0.1, 1/15; a difference of 1 everywhere makes 2.
    assert float(feature_compensation_loss(y, x, x, *at)) == pytest.approx(2 * (0.9 + 1 / 15))
    assert float(feature_compensation_loss(x, x, y, *at)) == pytest.approx(2 * (0.1 + 1 / 15))


def test_its_gradient_is_finite_and_pulls_all_three_together_also_where_slices_are_copies():
    front, rear = noise(2, 3, 4, 5).requires_grad_(), noise(2, 3, 4, 5, seed=1).requires_grad_()
    middle = front.detach().clone().requires_grad_()
    feature_compensation_loss(front, middle, rear, places(-1, 0), places(0, 1), places(2, 2), 6).backward()
    for each in (front, middle, rear):
        assert each.grad.isfinite().all()
        assert each.grad.abs().sum() > 0
    closer = (front - 0.1 * front.grad) - (rear - 0.1 * rear.grad)
    assert closer.square().sum() < (front - rear).square().sum()


def test_places_that_are_not_one_a_triplet_are_refused():
    x = noise(2, 3, 4, 5)
    for i in (places(0), places(0, 0, 0), places([0, 0])):
        with pytest.raises(ParameterError, match="places of the slices"):
            feature_compensation_loss(x, x, x, i, i + 1, i + 2, 9)
