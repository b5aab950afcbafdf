"""Perception refinement of papl: Eqs 18-23 against literal loops, hand-worked values, slopes and hard batches."""

import math

import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.papl.losses import (
    bilateral_difference,
    bilateral_salience,
    perception_refinement_loss,
    sharpened_prediction,
    soft_false_negatives,
    soft_false_positives,
)

REDUCTIONS = ("means", "sums")
PRINTED = {"gradient": "carried", "base": "printed", "reduction": "sums"}


def row(*values):
    """A slice of one row."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1)


@pytest.fixture
def batch():
    """M, x in [0, 1] and y of three slices, the last without lesion."""
    generator = torch.Generator().manual_seed(4)
    prediction, image, chance = torch.rand(3, 3, 4, 6, generator=generator)
    truth = (chance < torch.tensor([0.3, 0.6, 0.0])[:, None, None]).float()
    return prediction, image, truth


def literal(prediction, image, truth, mu):
    """phi, L1, L2 and L3 of one slice, as sums, from lists of rows; and the number of pixels."""
    l1 = l2 = l3 = mass = 0.0
    for ms, xs, ys in zip(prediction, image, truth, strict=True):
        for place, (m, x, y) in enumerate(zip(ms, xs, ys, strict=True)):
            l1 += abs(m * x - m * xs[len(xs) - 1 - place])
            l2 += abs(y - m * y)
            l3 += abs(m - m * y)
            mass += m
    return (1 - l1 / mass) ** mu, l1, l2, l3, len(prediction) * len(prediction[0])


# Eq. 18


@pytest.mark.parametrize("omega", [0.5, 1.0, 2.0, 5.0])
def test_the_prediction_is_the_literal_softmax_of_the_second_class(omega):
    logits = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    found = sharpened_prediction(logits, omega)
    assert found.shape == (2, 3, 4)
    for place in torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(4)).tolist():
        b, r, c = place
        none, some = (math.exp(omega * float(logits[b, k, r, c])) for k in (0, 1))
        assert float(found[b, r, c]) == pytest.approx(some / (none + some), rel=1e-5)


def test_predictions_by_hand_and_a_large_omega_leaves_nothing_between():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), -0.1]]).view(1, 2, 1, 2)
    assert sharpened_prediction(logits)[0, 0, 0] == pytest.approx(0.75)
    assert sharpened_prediction(logits, 2.0)[0, 0, 0] == pytest.approx(0.9)
    assert sharpened_prediction(logits, 1000.0).flatten().tolist() == pytest.approx([1, 0], abs=1e-6)


def test_wrong_logits_or_omegas_are_refused():
    for omega in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ParameterError, match="omega"):
            sharpened_prediction(torch.zeros(1, 2, 3, 4), omega)
    for shape in ((1, 1, 3, 4), (2, 3, 4)):
        with pytest.raises(ParameterError, match="logits"):
            sharpened_prediction(torch.zeros(shape))


# Eqs 19-23


@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
def test_every_term_and_the_loss_are_the_literal_ones_of_each_slice(batch, mu):
    whole = {"means": [], "sums": []}
    for b, (m, x, y) in enumerate(zip(*(each.tolist() for each in batch), strict=True)):
        phi, *sums, count = literal(m, x, y, mu)
        assert float(bilateral_salience(batch[0], batch[1], mu)[b]) == pytest.approx(phi, rel=1e-5)
        for reduction, factor in (("means", 1 / count), ("sums", 1)):
            l1, l2, l3 = (factor * one for one in sums)
            assert float(bilateral_difference(batch[0], batch[1], reduction)[b]) == pytest.approx(l1, rel=1e-5)
            assert float(soft_false_negatives(batch[0], batch[2], reduction)[b]) == pytest.approx(l2, rel=1e-5)
            assert float(soft_false_positives(batch[0], batch[2], reduction)[b]) == pytest.approx(l3, rel=1e-5)
            whole[reduction].append(-phi * l1 + l2 + l3)
    for reduction, each in whole.items():
        found = perception_refinement_loss(*batch, mu=mu, reduction=reduction, scale=3.0)
        assert float(found) == pytest.approx(3 * sum(each) / 3, rel=1e-5)


def test_the_terms_of_four_pixels_by_hand():
    m, x, y = row(0.5, 1.0, 0.0, 0.5), row(0.2, 0.3, 0.7, 0.6), row(1, 1, 0, 0)
    # |x - mirror(x)| is 0.4 for every pixel; 0.5 + 1 + 0 + 0.5 of them are predicted.
    assert float(bilateral_difference(m, x, "sums")) == pytest.approx(0.8)
    assert float(bilateral_difference(m, x)) == pytest.approx(0.2)
    for mu in (0.5, 1.0, 2.0):
        assert float(bilateral_salience(m, x, mu)) == pytest.approx(0.6**mu, rel=1e-5)
    assert float(soft_false_negatives(m, y, "sums")) == pytest.approx(0.5)
    assert float(soft_false_positives(m, y, "sums")) == pytest.approx(0.5)
    assert float(perception_refinement_loss(m, x, y, **PRINTED)) == pytest.approx(-0.6 * 0.8 + 0.5 + 0.5, rel=1e-5)
    assert float(perception_refinement_loss(m, x, y)) == pytest.approx((-0.6 * 0.8 + 0.5 + 0.5) / 4, rel=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_both_soft_errors_together_are_the_distance_of_prediction_and_lesion(batch, reduction):
    m, _, y = batch
    both = soft_false_negatives(m, y, reduction) + soft_false_positives(m, y, reduction)
    distance = (y - m).abs()
    expected = distance.sum(dim=(1, 2)) if reduction == "sums" else distance.mean(dim=(1, 2))
    torch.testing.assert_close(both, expected)


def test_perfect_empty_and_full_predictions(batch):
    _, x, y = batch
    zero, one = torch.zeros_like(y), torch.ones_like(y)
    share = y.mean(dim=(1, 2))
    assert soft_false_negatives(y, y).tolist() == soft_false_positives(y, y).tolist() == [0, 0, 0]
    assert float(perception_refinement_loss(y, torch.full_like(x, 0.4), y)) == 0
    torch.testing.assert_close(soft_false_negatives(zero, y), share)
    assert soft_false_positives(zero, y).tolist() == [0, 0, 0]
    assert soft_false_negatives(one, y).tolist() == [0, 0, 0]
    torch.testing.assert_close(soft_false_positives(one, y), 1 - share)
    assert bilateral_difference(zero, x).tolist() == [0, 0, 0]
    assert bilateral_salience(zero, x).tolist() == [1, 1, 1]
    assert float(perception_refinement_loss(zero, x, y)) == pytest.approx(float(share.mean()))


def test_salience_is_high_where_the_sides_hardly_differ():
    m = row(1, 1, 0, 0)
    darker = [float(bilateral_salience(m, row(0.5 - d, 0.5 - d, 0.5, 0.5), 2.0)) for d in (0, 0.1, 0.2, 0.4)]
    assert darker == pytest.approx([1, 0.81, 0.64, 0.36], abs=1e-5)
    assert float(bilateral_salience(row(1, 1, 0, 0), row(0, 0, 1, 1))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("mu", [0.5, 2.0])
def test_the_slope_at_a_pixel_is_1_less_2y_less_phi_times_the_difference(batch, reduction, mu):
    m, x, y = batch
    m = m.clone().requires_grad_()
    perception_refinement_loss(m, x, y, mu, reduction=reduction).backward()
    phi = bilateral_salience(m, x, mu)[:, None, None]
    expected = (1 - 2 * y - phi * (x - x.flip(-1)).abs()) / len(m)
    factor = 1 if reduction == "sums" else 1 / (4 * 6)
    torch.testing.assert_close(m.grad, factor * expected)
    assert (m.grad[y == 0] > 0).all()
    assert (m.grad[y == 1] < 0).all()


def test_the_prediction_grows_into_background_only_where_the_weighed_difference_is_above_1():
    # A z-scored slice without lesion: the sides differ by 6 in the outer pixels, by 0.1 in the inner ones.
    m, x, y = row(0.1, 0.9, 0.9, 0.1).requires_grad_(), row(3.0, 0.1, 0.0, -3.0), torch.zeros(1, 1, 4)
    phi = float(bilateral_salience(m, x))
    assert phi == pytest.approx(1 - (0.2 * 6 + 1.8 * 0.1) / 2, rel=1e-5)
    perception_refinement_loss(m, x, y).backward()
    assert [phi * difference > 1 for difference in (6, 0.1, 0.1, 6)] == [True, False, False, True]
    assert [slope < 0 for slope in m.grad.flatten().tolist()] == [True, False, False, True]


def test_salience_is_a_weight_unless_its_gradient_is_carried(batch):
    m, x, y = batch
    slopes = {}
    for gradient in ("stopped", "carried"):
        leaf = m.clone().requires_grad_()
        loss = perception_refinement_loss(leaf, x, y, 2.0, gradient, reduction="sums")
        (slopes[gradient],) = torch.autograd.grad(loss, leaf)
        assert bilateral_salience(leaf, x, gradient=gradient).requires_grad == (gradient == "carried")
    step = 0.01
    for place in ((0, 1, 2), (1, 3, 0), (2, 0, 5)):
        up, down = m.clone(), m.clone()
        up[place] += step
        down[place] -= step
        more, less = (float(perception_refinement_loss(each, x, y, 2.0, reduction="sums")) for each in (up, down))
        assert float(slopes["carried"][place]) == pytest.approx((more - less) / (2 * step), abs=1e-3)
    assert (slopes["carried"] - slopes["stopped"]).abs().max() > 0.05


def test_of_a_z_scored_image_the_printed_salience_is_not_a_number_and_the_clamped_one_is_0():
    generator = torch.Generator().manual_seed(0)
    x, m = torch.randn(1, 256, 256, generator=generator), torch.full((1, 256, 256), 0.5)
    base = float(bilateral_salience(m, x, 1.0, base="printed"))
    # The mean of |a - b| for two normal numbers is 2 / sqrt(pi).
    assert base == pytest.approx(1 - 2 / math.sqrt(math.pi), abs=0.02)
    assert math.isnan(float(bilateral_salience(m, x, 0.5, base="printed")))
    assert float(bilateral_salience(m, x, 0.5)) == 0
    y = torch.zeros_like(m)
    assert perception_refinement_loss(m, x, y, 0.5, base="printed").isnan()
    assert perception_refinement_loss(m, x, y, 0.5).isfinite()


@pytest.mark.parametrize("gradient", ["stopped", "carried"])
@pytest.mark.parametrize("mu", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("image", ["flat", "opposite", "noise"])
def test_gradients_are_finite_without_lesion_and_for_certain_predictions(gradient, mu, image):
    generator = torch.Generator().manual_seed(1)
    x = {
        "flat": torch.full((3, 4, 6), 0.3),
        "opposite": torch.cat([torch.zeros(3, 4, 3), torch.ones(3, 4, 3)], dim=-1),
        "noise": torch.randn(3, 4, 6, generator=generator),
    }[image]
    for scale in (0.0, 1.0, 200.0):
        logits = (scale * torch.randn(3, 2, 4, 6, generator=generator)).requires_grad_()
        for y in (torch.zeros(3, 4, 6), torch.ones(3, 4, 6)):
            loss = perception_refinement_loss(sharpened_prediction(logits), x, y, mu, gradient)
            (slope,) = torch.autograd.grad(loss, logits)
            assert loss.isfinite()
            assert slope.isfinite().all()
    empty = torch.zeros(3, 4, 6, requires_grad=True)
    perception_refinement_loss(empty, x, torch.zeros(3, 4, 6), mu, gradient).backward()
    assert empty.grad.isfinite().all()


def test_lesions_may_be_bool_and_predictions_bfloat16(batch):
    m, x, y = batch
    wanted = perception_refinement_loss(m, x, y)
    torch.testing.assert_close(perception_refinement_loss(m, x, y.bool()), wanted)
    torch.testing.assert_close(perception_refinement_loss(m, x, y.to(torch.uint8)), wanted)
    half = perception_refinement_loss(m.bfloat16(), x.bfloat16(), y)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, wanted, atol=5e-3, rtol=0)


def test_wrong_arguments_are_refused(batch):
    m, x, y = batch
    for mu in (0.0, -1.0, math.inf):
        with pytest.raises(ParameterError, match="mu"):
            bilateral_salience(m, x, mu)
    for word, wrong in (("gradient", "on"), ("base", "open"), ("reduction", "mean")):
        with pytest.raises(ParameterError, match=word):
            perception_refinement_loss(m, x, y, **{word: wrong})
    with pytest.raises(ParameterError, match="prediction and image"):
        bilateral_difference(m, x[:, None])
    with pytest.raises(ParameterError, match="prediction and image"):
        bilateral_difference(m[:, None], x[:, None])
    for function in (soft_false_negatives, soft_false_positives):
        with pytest.raises(ParameterError, match="prediction and truth"):
            function(m, y[:1])
