"""Losses of ssl_nnunet against literal loops of their equations, hand-worked values and hard batches."""

import math

import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.ssl_nnunet.losses import (
    WEIGHTS,
    self_distillation_loss,
    stage_losses,
    stage_weights,
    tempered_softmax,
    update_centre,
)

ROWS, OUTPUTS, STAGES = 3, 5, 4
FORMS = ("recommended", "printed", "plus_centre")


@pytest.fixture
def batch():
    """Student logits [stage][view], teacher logits [view], centre."""
    generator = torch.Generator().manual_seed(2)
    student = torch.randn(STAGES, 2, ROWS, OUTPUTS, generator=generator)
    teacher = torch.randn(2, ROWS, OUTPUTS, generator=generator)
    return [tuple(stage) for stage in student], tuple(teacher), torch.randn(OUTPUTS, generator=generator)


def literal_softmax(row, temperature, centre, form):
    """Each form as it is written."""
    shifted = [g - c if form == "recommended" else g + c for g, c in zip(row, centre, strict=True)]
    if form == "printed":
        parts = [math.exp(g) / temperature for g in shifted]
    else:
        parts = [math.exp(g / temperature) for g in shifted]
    return [part / sum(parts) for part in parts]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


# Eq. 1


def test_the_centre_is_the_literal_moving_mean_over_the_rows_of_both_views(batch):
    _, teacher, centre = batch
    rows = [row for view in teacher for row in view.tolist()]
    assert len(rows) == 2 * ROWS
    for m in (0.0, 0.7, 0.9, 1.0):
        expected = [m * c + (1 - m) * mean(row[k] for row in rows) for k, c in enumerate(centre.tolist())]
        assert update_centre(centre, teacher, m).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_centre_of_two_outputs_by_hand():
    # The rows' mean is (2.5, 2).
    views = torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([[5.0, 0.0], [1.0, 4.0]])
    assert update_centre(torch.tensor([1.0, -1.0]), views).tolist() == pytest.approx([1.15, -0.7])


def test_the_centre_has_no_gradient_and_leaves_the_old_one_alone(batch):
    _, teacher, centre = batch
    before = centre.clone()
    new = update_centre(centre, [view.requires_grad_() for view in teacher])
    assert not new.requires_grad
    assert torch.equal(centre, before)
    assert not torch.equal(new, before)


def test_a_centre_repeated_on_the_same_logits_reaches_their_mean(batch):
    _, teacher, centre = batch
    for _ in range(200):
        centre = update_centre(centre, teacher)
    assert torch.allclose(centre, torch.cat(teacher).mean(dim=0), atol=1e-5)


def test_the_mean_of_half_precision_logits_is_taken_in_single_precision():
    view = torch.full((4096, 1), 60.0, dtype=torch.float16)
    assert update_centre(torch.zeros(1), (view, view), 0.0).tolist() == [60.0]


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_a_momentum_outside_0_to_1_is_refused(batch, momentum):
    _, teacher, centre = batch
    with pytest.raises(ParameterError, match="momentum"):
        update_centre(centre, teacher, momentum)


def test_a_centre_of_another_length_or_views_of_other_shapes_are_refused(batch):
    _, teacher, centre = batch
    for views, other in ((teacher, centre[:1]), (teacher, centre[None]), ((teacher[0], teacher[1][:2]), centre)):
        with pytest.raises(ParameterError, match="logits"):
            update_centre(other, views)
    with pytest.raises(ParameterError, match="logits"):
        update_centre(torch.zeros(OUTPUTS), torch.zeros(2, 0, OUTPUTS))


# Eq. 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0, 3.0])
def test_the_softmax_is_the_literal_one(batch, form, temperature):
    _, teacher, centre = batch
    found = tempered_softmax(teacher[0], temperature, centre, form)
    for row, one in zip(teacher[0].tolist(), found.tolist(), strict=True):
        assert one == pytest.approx(literal_softmax(row, temperature, centre.tolist(), form), rel=1e-4, abs=1e-7)
    alone = tempered_softmax(teacher[0], temperature, form=form)
    zeros = tempered_softmax(teacher[0], temperature, torch.zeros(OUTPUTS), form)
    assert torch.allclose(alone, zeros)


def test_a_softmax_of_two_outputs_by_hand():
    # A difference of log 3 at T = 1; of 2 log 3 at T = 1/2; with the centre (log 3, 0) taken away, none.
    logits, centre = torch.tensor([[math.log(3), 0.0]]), torch.tensor([math.log(3), 0.0])
    assert tempered_softmax(logits, 1.0).tolist()[0] == pytest.approx([3 / 4, 1 / 4])
    assert tempered_softmax(logits, 0.5).tolist()[0] == pytest.approx([9 / 10, 1 / 10])
    assert tempered_softmax(logits, 0.5, centre).tolist()[0] == pytest.approx([1 / 2, 1 / 2])
    assert tempered_softmax(logits, 0.5, centre, "plus_centre").tolist()[0] == pytest.approx([81 / 82, 1 / 82])
    assert tempered_softmax(logits, 0.5, centre, "printed").tolist()[0] == pytest.approx([9 / 10, 1 / 10])


def entropy(p):
    return float(torch.special.entr(p).sum(dim=1).mean())


def test_the_temperature_sharpens_and_in_the_printed_form_does_nothing(batch):
    _, teacher, _ = batch
    sharp, soft = (tempered_softmax(teacher[0], t) for t in (0.04, 0.07))
    assert entropy(soft) > 1.2 * entropy(sharp)
    sharp, soft = (tempered_softmax(teacher[0], t, form="printed") for t in (0.04, 0.07))
    assert torch.allclose(sharp, soft, atol=1e-6)
    assert torch.allclose(sharp, teacher[0].softmax(dim=-1), atol=1e-6)


def test_logits_equal_to_their_centre_become_uniform_and_with_the_plus_sign_sharper_than_without():
    logits = torch.tensor([0.3, 0.1, -0.2]).expand(4, 3)
    centre = update_centre(torch.zeros(3), (logits, logits), 0.0)
    assert torch.allclose(tempered_softmax(logits, 0.04, centre), torch.full((4, 3), 1 / 3))
    # A one-class collapse in the making: what all rows prefer is preferred more.
    for wrong, temperature in (("plus_centre", 0.1), ("printed", 0.1)):
        without = tempered_softmax(logits, temperature, form=wrong)
        assert entropy(tempered_softmax(logits, temperature, centre, wrong)) < 0.95 * entropy(without)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("form", FORMS)
def test_extreme_logits_of_any_precision_give_finite_probabilities(dtype, form):
    p = tempered_softmax(torch.tensor([[3e4, -3e4, 0.0]], dtype=dtype), 0.04, torch.zeros(3), form)
    assert p.dtype == torch.float32
    assert p.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.inf, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ParameterError, match="temperature"):
        tempered_softmax(torch.zeros(2, 3), temperature)


def test_another_form_or_logits_that_are_no_rows_are_refused():
    with pytest.raises(ParameterError, match="recommended or printed or plus_centre"):
        tempered_softmax(torch.zeros(2, 3), 0.1, form="code")
    for shape in ((3,), (2, 3, 4)):
        with pytest.raises(ParameterError, match="logits"):
            tempered_softmax(torch.zeros(shape), 0.1)


# Eq. 3


def literal_loss(student, teacher, centre, t_s, t_t, weights, form):
    """A loop over stages, pairs of views, rows and outputs."""
    total, zeros = 0.0, [0.0] * OUTPUTS
    for stage, weight in zip(student, weights, strict=True):
        for x, other in ((0, 1), (1, 0)):
            for b in range(ROWS):
                wanted = literal_softmax(teacher[x][b].tolist(), t_t, centre.tolist(), form)
                said = literal_softmax(stage[other][b].tolist(), t_s, zeros, form)
                entropy = -sum(p * math.log(q) for p, q in zip(wanted, said, strict=True))
                total += weight * entropy / 2 / ROWS
    return total


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weights", list(WEIGHTS))
def test_the_loss_is_the_literal_sum_over_stages_pairs_rows_and_outputs(batch, form, weights):
    student, teacher, centre = batch
    found = self_distillation_loss(student, teacher, centre, 0.5, 0.3, weights, form)
    each = stage_weights(STAGES, weights)
    assert float(found) == pytest.approx(literal_loss(student, teacher, centre, 0.5, 0.3, each, form), rel=1e-4)


def test_a_loss_of_two_outputs_by_hand():
    # Teacher, T = 1: (3/4, 1/4) of the first view, (1/2, 1/2) of the second. Student, T = 1/2, of two stages:
    # undecided in both views; and undecided of the first, (9/10, 1/10) of the second.
    three, none = torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2)
    found = stage_losses([(none, none), (none, three)], (three, none), torch.zeros(2), 0.5, 1.0)
    of_first = -(3 / 4 * math.log(9 / 10) + 1 / 4 * math.log(1 / 10))
    expected = [math.log(2), (of_first + math.log(2)) / 2]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    whole = self_distillation_loss([(none, none), (none, three)], (three, none), torch.zeros(2), 0.5, 1.0)
    assert float(whole) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_a_view_is_compared_with_the_other_view_alone():
    one, two = 9.0 * torch.eye(3)[:1], 9.0 * torch.eye(3)[1:2]
    crossed = self_distillation_loss([(two, one)], (one, two), torch.zeros(3))
    straight = self_distillation_loss([(one, two)], (one, two), torch.zeros(3))
    assert float(crossed) == pytest.approx(0, abs=1e-6)
    assert float(straight) > 50


def test_an_undecided_student_costs_log_k_whatever_the_teacher_says(batch):
    _, teacher, centre = batch
    student = [(torch.zeros(ROWS, OUTPUTS),) * 2] * STAGES
    for weights in WEIGHTS:
        found = self_distillation_loss(student, teacher, centre, weights=weights)
        assert float(found) == pytest.approx(math.log(OUTPUTS), rel=1e-5)


def test_no_student_costs_less_than_the_teacher_s_own_entropy(batch):
    student, teacher, centre = batch
    least = mean(entropy(tempered_softmax(view, 0.5, centre)) for view in teacher)
    right = [(teacher[1] - centre, teacher[0] - centre)]
    assert float(self_distillation_loss(right, teacher, centre, 0.5, 0.5)) == pytest.approx(least, rel=1e-5)
    assert float(self_distillation_loss(student, teacher, centre, 0.5, 0.5)) > least


def test_the_gradient_reaches_every_stage_and_view_of_the_student_and_not_the_teacher(batch):
    student, teacher, centre = batch
    leaves = [view.clone().requires_grad_() for stage in student for view in stage]
    pairs = [tuple(leaves[i : i + 2]) for i in range(0, len(leaves), 2)]
    teacher = [view.requires_grad_() for view in teacher]
    self_distillation_loss(pairs, teacher, centre.requires_grad_()).backward()
    for leaf in leaves:
        assert torch.isfinite(leaf.grad).all()
        assert (leaf.grad != 0).any(dim=1).all()
    assert all(view.grad is None for view in [*teacher, centre])


def test_the_gradient_is_the_difference_of_the_two_distributions(batch):
    student, teacher, centre = batch
    leaf = student[0][0].clone().requires_grad_()
    self_distillation_loss([(leaf, student[0][1])], teacher, centre, 0.1, 0.07).backward()
    wanted = tempered_softmax(leaf.detach(), 0.1) - tempered_softmax(teacher[1], 0.07, centre)
    assert torch.allclose(leaf.grad, wanted / 0.1 / (2 * ROWS), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [0.0, 1.0, 500.0])
def test_the_loss_of_any_precision_and_size_is_float32_with_finite_gradients(batch, dtype, size):
    student, teacher, centre = batch
    leaf = (size * student[0][0]).to(dtype).requires_grad_()
    views = [(size * view).to(dtype) for view in teacher]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = self_distillation_loss([(leaf, leaf)], views, centre)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(leaf.grad).all()


def test_under_autocast_the_loss_is_the_same_number(batch):
    student, teacher, centre = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = self_distillation_loss(student, teacher, centre)
    assert float(inside) == float(self_distillation_loss(student, teacher, centre))


def test_other_than_two_views_or_no_stage_is_refused(batch):
    student, teacher, centre = batch
    for of_student, of_teacher in (
        ([], teacher),
        (student, teacher[:1]),
        ([stage[:1] for stage in student], teacher),
        (student, [*teacher, teacher[0]]),
    ):
        with pytest.raises(ParameterError, match=r"student_logits\[stage\]\[view\]"):
            self_distillation_loss(of_student, of_teacher, centre)


def test_logits_that_would_have_to_be_broadcast_are_refused(batch):
    student, teacher, centre = batch
    for of_student, c in (
        ([(student[0][0][:1], student[0][1])], centre),
        ([(student[0][0][:, :1], student[0][1])], centre),
        (student, centre[:1]),
    ):
        with pytest.raises(ParameterError, match="logits"):
            self_distillation_loss(of_student, teacher, c)


# Weights of the stages


def test_stage_weights_by_hand():
    assert stage_weights(6) == pytest.approx([1 / 6] * 6)
    assert stage_weights(3, "last") == (0, 0, 1)
    # 1 - d / 4 for d = 2, 1, 0, over their sum.
    assert stage_weights(3, "linear") == pytest.approx([0.5 / 2.25, 0.75 / 2.25, 1 / 2.25])
    # 1 / 2.25, 1 / 1.25, 1 / 0.25 over their sum.
    assert stage_weights(3, "fraction") == pytest.approx([20 / 236, 36 / 236, 180 / 236])
    e = math.exp(-0.5)
    assert stage_weights(2, "exp") == pytest.approx([e / (1 + e), 1 / (1 + e)])


@pytest.mark.parametrize("weights", list(WEIGHTS))
@pytest.mark.parametrize("stages", [1, 4, 6])
def test_stage_weights_sum_to_one_and_never_fall_towards_the_deepest(stages, weights):
    found = stage_weights(stages, weights)
    assert len(found) == stages
    assert sum(found) == pytest.approx(1)
    assert list(found) == sorted(found)


def test_other_weights_and_no_stage_are_refused(batch):
    with pytest.raises(ParameterError, match="constant or linear or exp or fraction or last"):
        self_distillation_loss(*batch, weights="equal")
    with pytest.raises(ParameterError, match="stages"):
        stage_weights(0)
