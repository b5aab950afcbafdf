"""Measures of collapse by hand and by loop, and a toy run that collapses where centring or sharpening is missing."""

import math

import pytest
import torch

from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.collapse import rank_me, teacher_entropy, teacher_spread, uniform_loss
from strokelib.ssl_nnunet.toy import OUTPUTS, ToyNetwork, toy_run

COLUMNS = ("loss", "entropy", "spread", "rank")


# RankMe


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_orthogonal_rows_of_one_length_have_their_number_as_rank(rank):
    latent = torch.zeros(12, 8)
    latent[:rank, :rank] = 3 * torch.eye(rank)
    assert rank_me(latent) == pytest.approx(rank, rel=1e-4)


def test_the_rank_of_two_directions_of_three_to_one_by_hand():
    # p = (3/4, 1/4): exp(-(3/4 log 3/4 + 1/4 log 1/4)) = 4 / 27^(1/4).
    assert rank_me(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(4 / 27**0.25, rel=1e-5)


@pytest.mark.parametrize("eps", [1e-7, 1e-2])
def test_the_rank_is_the_literal_sum_over_singular_values(eps):
    latent = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    # Singular values as roots of the eigenvalues of Z^T Z.
    sigma = [math.sqrt(v) for v in torch.linalg.eigvalsh(latent.double().T @ latent.double()).tolist()]
    total = 0.0
    for value in sigma:
        p = value / sum(sigma) + eps
        total -= p * math.log(p)
    assert rank_me(latent, eps) == pytest.approx(math.exp(total), rel=1e-6)
    assert 1 < rank_me(latent, 1e-7) < 4


def test_the_rank_does_not_change_with_scale_rotation_or_order():
    generator = torch.Generator().manual_seed(4)
    latent = torch.randn(10, 6, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    for other in (1e3 * latent, latent @ turn, latent[torch.randperm(10, generator=generator)]):
        assert rank_me(other) == pytest.approx(rank_me(latent), rel=1e-4)


def test_rows_all_alike_have_rank_one_and_zeros_rank_zero():
    assert rank_me(torch.randn(256, generator=torch.Generator().manual_seed(0)).expand(20, 256)) == pytest.approx(
        1, abs=1e-3
    )
    assert rank_me(torch.zeros(4, 3)) == 0


def test_the_rank_of_half_precision_vectors_that_need_a_gradient_is_a_plain_number():
    found = rank_me(torch.eye(3, dtype=torch.float16, requires_grad=True))
    assert isinstance(found, float)
    assert found == pytest.approx(3, rel=1e-4)


@pytest.mark.parametrize("latent", [torch.ones(3), torch.ones(0, 3), torch.full((2, 2), math.nan)])
def test_vectors_that_are_missing_or_not_finite_are_refused(latent):
    with pytest.raises(DataError, match="latent vectors"):
        rank_me(latent)


# Entropy and spread


def literal_entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


@pytest.fixture
def probabilities():
    return (2 * torch.randn(7, 5, generator=torch.Generator().manual_seed(6))).softmax(dim=1)


def test_the_entropy_is_the_literal_mean(probabilities):
    rows = probabilities.tolist()
    assert teacher_entropy(probabilities) == pytest.approx(sum(map(literal_entropy, rows)) / len(rows), rel=1e-5)


def test_the_spread_is_the_literal_mean_divergence_from_the_mean(probabilities):
    rows = probabilities.tolist()
    middle = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    each = [sum(p * math.log(p / m) for p, m in zip(row, middle, strict=True)) for row in rows]
    assert teacher_spread(probabilities) == pytest.approx(sum(each) / len(rows), rel=1e-5)


def test_entropy_and_spread_of_two_rows_by_hand():
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    # The mean is (3/4, 1/4).
    middle = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4))
    assert teacher_entropy(p) == pytest.approx(math.log(2) / 2)
    assert teacher_spread(p) == pytest.approx(middle - math.log(2) / 2)


def test_both_collapses_have_no_spread_and_opposite_entropies():
    one, uniform = torch.eye(4)[:1].expand(9, 4), torch.full((9, 4), 0.25)
    assert teacher_spread(one) == pytest.approx(0, abs=1e-9)
    assert teacher_spread(uniform) == pytest.approx(0, abs=1e-9)
    assert teacher_entropy(one) == 0
    assert teacher_entropy(uniform) == pytest.approx(uniform_loss(4))


def test_a_teacher_that_tells_all_patches_apart_has_the_largest_spread():
    assert teacher_spread(torch.eye(6)) == pytest.approx(math.log(6))
    assert teacher_spread(torch.eye(6)[:3]) == pytest.approx(math.log(3))
    assert teacher_spread(torch.eye(6).repeat(4, 1)) == pytest.approx(math.log(6))


def test_a_published_head_s_uniform_loss_is_16_log_2():
    assert uniform_loss(65536) == pytest.approx(16 * math.log(2))
    with pytest.raises(ParameterError, match="k"):
        uniform_loss(0)


@pytest.mark.parametrize(
    "p",
    [torch.ones(3), torch.ones(0, 3), torch.ones(2, 3), torch.tensor([[1.5, -0.5]]), torch.full((2, 2), math.nan)],
)
def test_rows_that_are_no_distributions_are_refused(p):
    for measure in (teacher_entropy, teacher_spread):
        with pytest.raises(DataError, match="probabilities"):
            measure(p)


# The toy run


@pytest.fixture(scope="module")
def whole():
    return toy_run()


def last(history):
    return {name: getattr(history, name)[-1] for name in COLUMNS}


def test_with_centring_and_sharpening_the_toy_keeps_its_spread_and_learns(whole):
    end = last(whole)
    assert end["spread"] > 0.7
    assert 0 < end["loss"] < 0.7 * uniform_loss(OUTPUTS)
    assert end["loss"] < 0.5 * whole.loss[0]


def test_without_centring_all_fall_into_one_class(whole):
    end = last(toy_run(centring=False))
    assert end["spread"] < 0.05
    assert end["entropy"] < 0.05
    assert end["loss"] < 0.05
    assert end["rank"] < 0.7 * last(whole)["rank"]


def test_without_sharpening_all_outputs_become_alike():
    end = last(toy_run(sharpening=False))
    assert end["spread"] < 0.05
    assert end["entropy"] == pytest.approx(uniform_loss(OUTPUTS), abs=0.05)
    assert end["loss"] == pytest.approx(uniform_loss(OUTPUTS), abs=0.05)


def test_the_printed_plus_sign_collapses_like_no_centring():
    end = last(toy_run(form="plus_centre"))
    assert end["spread"] < 0.05
    assert end["entropy"] < 0.05
    assert end["loss"] < 0.05


def test_the_printed_form_loses_its_spread_too():
    assert last(toy_run(form="printed"))["spread"] < 0.05


def test_the_toy_is_reproducible_whole_and_leaves_the_global_generator_alone(whole):
    before = torch.get_rng_state()
    first, again, other = toy_run(steps=5), toy_run(steps=5), toy_run(steps=5, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert first == again != other
    assert first.loss == pytest.approx(whole.loss[:5])
    assert {len(getattr(first, name)) for name in COLUMNS} == {5}


def test_the_toy_s_loss_reaches_every_parameter():
    logits, _ = (network := ToyNetwork())(torch.randn(3, 16))
    sum(stage.square().sum() for stage in logits).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_toy_without_steps_is_refused():
    with pytest.raises(ParameterError, match="steps"):
        toy_run(steps=0)
