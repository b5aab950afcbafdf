"""Stage 1 of papl: Eqs 7-14 against literal loops, hand-worked values, their signs and hard batches."""

import math

import pytest
import torch
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.papl.losses import (
    bilateral_divergence,
    bilateral_halves,
    cosine_similarity,
    inter_sample_loss,
    intra_sample_loss,
    knowledge_preparation_loss,
)

FORMS = ("recommended", "batch", "printed", "anchors")
MAPS = ("normalised", "bernoulli", "printed")
DIRECTIONS = ("symmetrised", "one_sided", "jensen_shannon")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(*values):
    return torch.tensor(values)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


# Eq. 7


def test_the_cosine_is_the_literal_one_of_every_pair():
    a, b = noise(3, 5), noise(4, 5, seed=1)
    found = cosine_similarity(a, b)
    assert found.shape == (3, 4)
    for i, u in enumerate(a.tolist()):
        for j, w in enumerate(b.tolist()):
            product = sum(x * y for x, y in zip(u, w, strict=True))
            expected = product / math.hypot(*u) / math.hypot(*w)
            assert float(found[i, j]) == pytest.approx(expected, abs=1e-6)


def test_cosines_by_hand_and_none_with_a_row_of_zeros():
    a, b = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[4.0, 3.0], [-3.0, -4.0], [-8.0, 6.0]])
    assert cosine_similarity(a, b).flatten().tolist() == pytest.approx([0.96, -1, 0, 0, 0, 0], abs=1e-6)


def test_the_lengths_of_the_embeddings_do_not_count():
    v, y = noise(6, 4), labels(0, 1, 0, 1, 1, 0)
    scaled = v * torch.tensor([0.1, 1, 2, 5, 9, 30])[:, None]
    assert float(inter_sample_loss(scaled, y)) == pytest.approx(float(inter_sample_loss(v, y)), rel=1e-5)


def test_cosines_are_float32_under_autocast_and_of_bfloat16():
    v = noise(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        found = cosine_similarity(v, v)
    assert torch.equal(found, cosine_similarity(v, v))
    assert cosine_similarity(v.bfloat16(), v.bfloat16()).dtype == torch.float32


def test_rows_of_two_lengths_have_no_cosine():
    with pytest.raises(ParameterError, match="embeddings"):
        cosine_similarity(noise(3, 4), noise(3, 5))
    with pytest.raises(ParameterError, match="embeddings"):
        cosine_similarity(noise(3), noise(3))


# Eqs 8, 9


def literal_inter(v, y, tau):
    """Eqs 8 and 9 with one minus sign, written out; anchors that are alone are skipped."""
    unit = [[x / math.hypot(*row) for x in row] for row in v]

    def weight(i, k):
        return math.exp(sum(a * b for a, b in zip(unit[i], unit[k], strict=True)) / tau)

    anchors = []
    for i in range(len(v)):
        others = [k for k in range(len(v)) if k != i]
        same = [j for j in others if y[j] == y[i]]
        if same:
            anchors.append(-mean(math.log(weight(i, j) / sum(weight(i, k) for k in others)) for j in same))
    return mean(anchors) if anchors else 0.0


@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("y", [(0, 1, 0, 1, 1, 0, 0), (1, 0, 0, 0, 0, 0, 0), (2, 2, 5, 5, 5, 2, 0), (1,) * 7])
def test_the_inter_sample_loss_is_the_literal_one_and_the_printed_form_its_negative(tau, y):
    v = noise(7, 4)
    expected = literal_inter(v.tolist(), y, tau)
    assert float(inter_sample_loss(v, labels(*y), tau)) == pytest.approx(expected, rel=1e-4)
    assert float(inter_sample_loss(v, labels(*y), tau, "printed")) == pytest.approx(-expected, rel=1e-4)
    assert expected > 0


def test_the_inter_sample_loss_of_four_vectors_by_hand():
    # Each anchor meets its like at 0 degrees, the two others at 90: -log(e / (e + 1 + 1)) at tau = 1.
    v = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert float(inter_sample_loss(v, labels(1, 1, 0, 0), 1.0)) == pytest.approx(math.log(1 + 2 / math.e), rel=1e-6)
    # At tau = 0.1 the two others count e^-10 each.
    assert float(inter_sample_loss(v, labels(1, 1, 0, 0), 0.1)) == pytest.approx(2 * math.exp(-10), rel=1e-2)
    # Labels across: the like at 90 degrees, one other at 0 and one at 90.
    assert float(inter_sample_loss(v, labels(1, 0, 1, 0), 1.0)) == pytest.approx(math.log(2 + math.e), rel=1e-6)
    # Three of one label; the fourth is skipped. Anchors 0 and 1 have one like at 0 and one at 90, anchor 2 both at 90.
    near, far = math.log(1 + 2 / math.e), math.log(math.e + 2)
    expected = ((near + far) / 2 + (near + far) / 2 + far) / 3
    assert float(inter_sample_loss(v, labels(0, 0, 0, 1), 1.0)) == pytest.approx(expected, rel=1e-6)


def test_a_perfect_embedding_costs_nothing_but_what_its_likes_share_and_a_collapsed_one_the_logarithm():
    # In a class of n, each anchor has n - 1 likes at 0 degrees, none of which can have more than 1 / (n - 1).
    y = labels(0, 0, 0, 1, 1, 1)
    v = torch.where(y[:, None] == 1, torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0]))
    assert float(inter_sample_loss(v, y)) == pytest.approx(math.log(2), abs=1e-6)
    assert float(inter_sample_loss(torch.ones(6, 2), y)) == pytest.approx(math.log(5), abs=1e-6)


def likes_less_others(v, y):
    """Mean cosine with the other samples of the own label, minus that with those of the other label."""
    s, like = cosine_similarity(v, v), y[:, None] == y
    return float(s[like & ~torch.eye(len(v), dtype=torch.bool)].mean() - s[~like].mean())


def test_minimising_the_printed_form_drives_samples_of_one_label_apart():
    y, ends = labels(0, 1, 0, 1, 0, 1), {}
    for form in ("recommended", "printed"):
        v = noise(6, 3)
        for _ in range(60):
            v.requires_grad_()
            (slope,) = torch.autograd.grad(inter_sample_loss(v, y, 1.0, form), v)
            v = functional.normalize(v.detach() - 0.5 * slope, dim=1)
        ends[form] = likes_less_others(v, y)
    assert ends["printed"] < -0.3 < 1.8 < ends["recommended"]


@pytest.mark.parametrize("y", [(1, 1, 1, 1), (0, 0, 0, 0), (0, 1, 2, 3), (0, 0, 0, 1)])
@pytest.mark.parametrize("v", [noise(4, 3), torch.zeros(4, 3), torch.ones(4, 3), 1e4 * noise(4, 3)])
def test_batches_of_one_label_alone_or_without_likes_have_finite_gradients(y, v):
    v = v.clone().requires_grad_()
    loss = inter_sample_loss(v, labels(*y))
    loss.backward()
    assert loss.isfinite()
    assert v.grad.isfinite().all()
    if len(set(y)) == 4:
        assert loss == 0
        assert v.grad.abs().sum() == 0


def test_a_batch_of_one_sample_costs_nothing():
    v = noise(1, 3).requires_grad_()
    loss = inter_sample_loss(v, labels(1))
    loss.backward()
    assert loss == 0
    assert v.grad.abs().sum() == 0


def test_wrong_arguments_of_the_inter_sample_loss_are_refused():
    v, y = noise(4, 3), labels(0, 1, 0, 1)
    for tau in (0.0, -0.1, math.nan, math.inf):
        with pytest.raises(ParameterError, match="tau"):
            inter_sample_loss(v, y, tau)
    with pytest.raises(ParameterError, match="recommended or printed"):
        inter_sample_loss(v, y, form="supcon")
    for bad in (y[:3], y[:, None]):
        with pytest.raises(ParameterError, match="labels"):
            inter_sample_loss(v, bad)


# Eqs 12, 13


@pytest.mark.parametrize("width", [2, 5, 6])
def test_each_element_of_a_half_meets_its_counterpart(width):
    features, p = noise(2, 3, 4, width), width // 2
    left, right = bilateral_halves(features)
    _, unmirrored = bilateral_halves(features, "printed")
    assert left.shape == right.shape == unmirrored.shape == (2, 3, 4, p)
    for column in range(p):
        own, other = features[..., column], features[..., width - 1 - column]
        torch.testing.assert_close(left[..., column], 1 / (1 + (-own).exp()))
        torch.testing.assert_close(right[..., column], 1 / (1 + (-other).exp()))
        torch.testing.assert_close(unmirrored[..., column], 1 / (1 + (-features[..., width - p + column]).exp()))


def test_halves_of_a_symmetric_map_are_equal_and_the_printed_ones_are_not():
    side = noise(1, 2, 3, 4)
    features = torch.cat([side, side.flip(-1)], dim=-1)
    left, right = bilateral_halves(features)
    assert torch.equal(left, right)
    assert float(bilateral_divergence(left, right)) == pytest.approx(0, abs=1e-7)
    assert float(bilateral_divergence(*bilateral_halves(features, "printed"))) > 1e-3


def test_a_map_of_one_column_has_no_halves():
    for shape in ((2, 3, 4, 1), (3, 4, 6)):
        with pytest.raises(ParameterError, match="feature map"):
            bilateral_halves(noise(*shape))
    with pytest.raises(ParameterError, match="form"):
        bilateral_halves(noise(2, 3, 4, 6), "batch")


# Eq. 11


def literal_divergence(p, q, maps, direction):
    """Lists of one sample; the small constant is left out."""
    if maps == "normalised":
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]

    def kl(a, b):
        if maps != "bernoulli":
            return sum(x * math.log(x / y) for x, y in zip(a, b, strict=True))
        return mean(x * math.log(x / y) + (1 - x) * math.log((1 - x) / (1 - y)) for x, y in zip(a, b, strict=True))

    if direction == "one_sided":
        return kl(p, q)
    if direction == "symmetrised":
        return (kl(p, q) + kl(q, p)) / 2
    average = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
    return (kl(p, average) + kl(q, average)) / 2


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_divergence_is_the_literal_one_of_each_sample(maps, direction):
    left, right = noise(3, 2, 3, 4).sigmoid(), noise(3, 2, 3, 4, seed=1).sigmoid()
    found = bilateral_divergence(left, right, maps, direction)
    for p, q, one in zip(left.flatten(1).tolist(), right.flatten(1).tolist(), found.tolist(), strict=True):
        assert one == pytest.approx(literal_divergence(p, q, maps, direction), rel=1e-4, abs=1e-6)


def two(a, b):
    return torch.tensor([a, b]).view(1, 1, 1, 2)


def test_divergences_of_two_elements_by_hand():
    left, right = two(0.75, 0.25), two(0.25, 0.75)
    # Sides of sum 1: 3/4 log 3 - 1/4 log 3, the same in both directions.
    for direction in ("one_sided", "symmetrised"):
        assert float(bilateral_divergence(left, right, direction=direction)) == pytest.approx(math.log(3) / 2, abs=1e-5)
    # Both against (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2).
    expected = 0.75 * math.log(1.5) - 0.25 * math.log(2)
    assert float(bilateral_divergence(left, right, direction="jensen_shannon")) == pytest.approx(expected, abs=1e-5)
    # As chances: each element costs 3/4 log 3 + 1/4 log(1/3).
    assert float(bilateral_divergence(left, right, "bernoulli")) == pytest.approx(math.log(3) / 2, abs=1e-5)


def test_the_printed_sum_over_sigmoid_maps_is_below_0_for_maps_that_differ():
    left, right = two(0.1, 0.1), two(0.9, 0.9)
    printed = float(bilateral_divergence(left, right, "printed", "one_sided"))
    assert printed == pytest.approx(0.2 * math.log(1 / 9), abs=1e-5)
    assert printed == pytest.approx(-0.44, abs=5e-3)
    # Of the same shape, they are one distribution, but not one set of chances.
    assert float(bilateral_divergence(left, right)) == pytest.approx(0, abs=1e-6)
    assert float(bilateral_divergence(left, right, "bernoulli")) == pytest.approx(0.8 * math.log(9), abs=1e-5)


@pytest.mark.parametrize("maps", ["normalised", "bernoulli"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_divergences_are_0_for_equal_sides_above_for_others_and_finite_at_the_ends(maps, direction):
    ends = (noise(5, 2, 3, 4) > 0).float()
    other = (noise(5, 2, 3, 4, seed=1) > 0).float()
    for left, right in ((ends, other), (1 - ends, other), (torch.zeros_like(ends), torch.ones_like(ends))):
        found = bilateral_divergence(left, right, maps, direction)
        assert found.isfinite().all()
        assert (found > -1e-6).all()
        assert bilateral_divergence(left, left, maps, direction).abs().max() < 1e-6
    assert (bilateral_divergence(ends, other, maps, direction) > 0.05).all()
    if direction == "jensen_shannon":
        assert bilateral_divergence(ends, 1 - ends, maps, direction).tolist() == pytest.approx([math.log(2)] * 5, 1e-3)


def test_an_infarct_counts_the_same_on_both_sides_unless_the_divergence_is_one_sided():
    features = noise(4, 3, 5, 6)
    for direction, least in (("symmetrised", 0), ("jensen_shannon", 0), ("one_sided", 1e-3)):
        found, mirrored = (
            bilateral_divergence(*bilateral_halves(f), direction=direction) for f in (features, features.flip(-1))
        )
        gap = float((found - mirrored).abs().max())
        assert gap > least if least else gap < 1e-6


def test_behind_a_relu_the_normalised_divergence_stays_below_a_quarter():
    # The largest there is: elements of 1/2 and 1 alone, a share s of them high on the left and low on the right.
    found = {}
    for direction in ("symmetrised", "one_sided"):
        values = []
        for high in range(1, 200):
            left = torch.cat([torch.ones(high), torch.full((200 - high,), 0.5)]).view(1, 1, 1, 200)
            values.append(float(bilateral_divergence(left, 1.5 - left, direction=direction)))
        found[direction] = max(values)
    assert found["symmetrised"] == pytest.approx(math.log(2) / 3, abs=1e-4)
    assert found["one_sided"] == pytest.approx(0.234, abs=5e-4)
    behind = 10 * noise(50, 4, 3, 6).relu()
    assert bilateral_divergence(*bilateral_halves(behind), direction="one_sided").max() < found["one_sided"]


def test_wrong_arguments_of_the_divergence_are_refused():
    left = noise(2, 3).sigmoid()
    with pytest.raises(ParameterError, match="maps"):
        bilateral_divergence(left, left, "softmax")
    with pytest.raises(ParameterError, match="direction"):
        bilateral_divergence(left, left, direction="both")
    with pytest.raises(ParameterError, match="halves"):
        bilateral_divergence(left, left[:1])


# Eq. 10


def literal_intra(kl, y, form, margin):
    n = len(y)
    positives, negatives = ([d for d, label in zip(kl, y, strict=True) if label == which] for which in (1, 0))
    if form == "printed":
        return (sum(positives) - sum(negatives)) / (n - 1)
    if form == "anchors":
        anchors = []
        for a in range(n):
            like = [i for i in range(n) if y[i] == y[a] and i != a]
            unlike = [j for j in range(n) if y[j] != y[a]]
            anchors.append((sum(kl[i] for i in like) - sum(kl[j] for j in unlike)) / (n - 1))
        return mean(anchors)
    positives = [min(d, margin) for d in positives]
    if form == "batch":
        return (sum(negatives) - sum(positives)) / n
    return (mean(negatives) if negatives else 0) - (mean(positives) if positives else 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("y", [(1, 0, 0, 1, 0), (1, 0, 0, 0, 0), (1, 1, 1, 1, 1), (0, 0, 0, 0, 0)])
@pytest.mark.parametrize("margin", [0.6, 1.0, math.inf])
def test_the_intra_sample_loss_is_the_literal_one(form, y, margin):
    features = 2 * noise(5, 2, 3, 6)
    kl = bilateral_divergence(*bilateral_halves(features)).tolist()
    assert min(kl) < 0.6 < max(kl) < 1
    found = float(intra_sample_loss(features, labels(*y), form, margin))
    assert found == pytest.approx(literal_intra(kl, y, form, margin), abs=1e-6)


def test_every_way_to_measure_the_sides_reaches_the_intra_sample_loss():
    features, y = noise(4, 2, 3, 6), labels(0, 1, 1, 0)
    found = set()
    for halves in ("recommended", "printed"):
        for maps in MAPS:
            for direction in DIRECTIONS:
                kl = bilateral_divergence(*bilateral_halves(features, halves), maps, direction).tolist()
                loss = intra_sample_loss(features, y, margin=math.inf, halves=halves, maps=maps, direction=direction)
                assert float(loss) == pytest.approx(literal_intra(kl, y, "recommended", math.inf), abs=1e-6)
                found.add(round(float(loss), 6))
    assert len(found) == 18


def test_alike_sides_cost_nothing_and_unlike_sides_of_a_positive_pay_the_margin_at_most():
    side = noise(2, 2, 3, 4)
    alike = torch.cat([side, side.flip(-1)], dim=-1)
    unlike = torch.cat([20 * side, -20 * side.flip(-1)], dim=-1)
    for y in (labels(1, 1), labels(0, 0), labels(1, 0)):
        assert float(intra_sample_loss(alike, y)) == pytest.approx(0, abs=1e-6)
    assert float(intra_sample_loss(unlike, labels(1, 1))) == pytest.approx(-1, abs=1e-6)
    assert float(intra_sample_loss(unlike, labels(1, 1), margin=math.inf)) < -3
    assert float(intra_sample_loss(unlike, labels(0, 0))) > 3
    assert float(intra_sample_loss(unlike, labels(1, 1), direction="jensen_shannon")) > -math.log(2) - 1e-5


def sides_after_a_step(y, **how):
    """Change of each sample's divergence by one small step down the loss."""
    features = noise(len(y), 2, 3, 6).requires_grad_()
    (slope,) = torch.autograd.grad(intra_sample_loss(features, labels(*y), **how), features)
    before, after = (
        bilateral_divergence(*bilateral_halves(f)) for f in (features.detach(), features.detach() - 0.1 * slope)
    )
    return (after - before).tolist()


def test_minimising_the_printed_form_makes_the_sides_of_positives_alike_and_the_recommended_one_unlike():
    y = (1, 0, 0, 1, 0, 1)
    for form, sign in (("recommended", 1), ("batch", 1), ("printed", -1)):
        for label, change in zip(y, sides_after_a_step(y, form=form), strict=True):
            assert sign * change * (1 if label else -1) > 0, form


@pytest.mark.parametrize(
    ("y", "positives", "negatives"),
    # More positives than negatives: positives alike, negatives apart. Fewer: the reverse. Balanced: all apart.
    [((1, 1, 1, 1, 0, 0), -1, 1), ((1, 1, 0, 0, 0, 0), 1, -1), ((1, 1, 1, 0, 0, 0), 1, 1)],
)
def test_with_sets_of_an_anchor_the_sign_depends_on_the_balance_of_the_labels(y, positives, negatives):
    for label, change in zip(y, sides_after_a_step(y, form="anchors"), strict=True):
        assert change * (positives if label else negatives) > 0


def test_the_margin_takes_the_gradient_from_positives_that_are_unlike_enough():
    features = (5 * noise(2, 2, 3, 6)).requires_grad_()
    kl = bilateral_divergence(*bilateral_halves(features)).tolist()
    between = sum(kl) / 2
    (slope,) = torch.autograd.grad(intra_sample_loss(features, labels(1, 1), margin=between), features)
    moved = [float(one.abs().sum()) > 0 for one in slope]
    assert moved == [one < between for one in kl]
    assert sorted(moved) == [False, True]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_gradients_are_finite_for_one_class_for_one_sample_and_for_saturated_maps(form, maps, direction):
    for y in ((1, 1, 1), (0, 0, 0), (0, 1, 0), (1,)):
        for scale in (0.0, 1.0, 1e3):
            features = (scale * noise(len(y), 2, 3, 5)).requires_grad_()
            loss = intra_sample_loss(features, labels(*y), form, maps=maps, direction=direction)
            loss.backward()
            assert loss.isfinite()
            assert features.grad.isfinite().all()


def test_labels_may_be_of_any_type_and_features_of_bfloat16():
    features, y = noise(4, 2, 3, 6), labels(0, 1, 1, 0)
    wanted = float(intra_sample_loss(features, y))
    for other in (y.bool(), y.float(), y.to(torch.uint8)):
        assert float(intra_sample_loss(features, other)) == pytest.approx(wanted)
        assert float(intra_sample_loss(features, other, "anchors")) == pytest.approx(
            float(intra_sample_loss(features, y, "anchors"))
        )
    half = intra_sample_loss(features.bfloat16(), y)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(wanted, abs=5e-3)


def test_wrong_arguments_of_the_intra_sample_loss_are_refused():
    features, y = noise(4, 2, 3, 6), labels(0, 1, 1, 0)
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(ParameterError, match="margin"):
            intra_sample_loss(features, y, margin=margin)
    with pytest.raises(ParameterError, match="form"):
        intra_sample_loss(features, y, "classes")
    for bad, words in ((y[:2], "a label a sample"), (y + 1, "0 and 1 alone"), (y * 0.5, "0 and 1 alone")):
        with pytest.raises(ParameterError, match=words):
            intra_sample_loss(features, bad)


# Eq. 14


def test_both_losses_are_added_with_the_published_weights():
    inter, intra = torch.tensor(2.0), torch.tensor(-0.5)
    assert float(knowledge_preparation_loss(inter, intra)) == pytest.approx(0.6 * 2 - 0.3 * 0.5)
    assert float(knowledge_preparation_loss(inter, intra, 0.1, 1.0)) == pytest.approx(-0.3)
    with pytest.raises(ParameterError, match="minimise or maximise"):
        knowledge_preparation_loss(inter, intra, aim="optimise")


def test_maximising_both_printed_losses_is_minimising_both_recommended_ones_but_for_a_factor():
    v, features, y = noise(6, 4), noise(6, 2, 3, 6).requires_grad_(), labels(1, 0, 0, 1, 0, 1)
    printed = knowledge_preparation_loss(
        inter_sample_loss(v, y, form="printed"), intra_sample_loss(features, y, "printed"), aim="maximise"
    )
    recommended = knowledge_preparation_loss(
        inter_sample_loss(v, y), 6 / 5 * intra_sample_loss(features, y, "batch", math.inf)
    )
    torch.testing.assert_close(printed, recommended)
    slopes = [torch.autograd.grad(loss, features)[0] for loss in (printed, recommended)]
    torch.testing.assert_close(*slopes)
