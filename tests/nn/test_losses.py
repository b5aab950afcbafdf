import math

import numpy as np
import pytest
import torch

from strokelib.nn.losses import (
    cross_entropy,
    dice_and_cross_entropy,
    focus_at,
    generalised_dice_loss,
    missed_lesion_loss,
    one_hot,
    soft_dice_loss,
)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 2, 4, 5, generator=generator)
    target = (torch.rand(2, 4, 5, generator=generator) < 0.3).long()
    return logits, target


def voxels(target):
    return [(b, i, j) for b in range(target.shape[0]) for i in range(target.shape[1]) for j in range(target.shape[2])]


def test_soft_dice_is_the_literal_sum(batch):
    logits, target = batch
    p = logits.softmax(1)[:, 1]
    both = sum(float(p[v]) * float(target[v]) for v in voxels(target))
    either = sum(float(p[v]) + float(target[v]) for v in voxels(target))
    expected = 1 - (2 * both + 1e-7) / (either + 1e-7)
    assert float(soft_dice_loss(p, target)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("probability", "target", "loss"),
    [
        ([1.0, 0.0], [1, 0], 0.0),
        ([0.5, 0.5], [1, 0], 0.5),
        ([0.0, 1.0], [1, 0], 1.0),
        ([0.0, 0.0], [0, 0], 0.0),
        ([1.0, 1.0], [0, 0], 1.0),
    ],
)
def test_soft_dice_of_two_voxels_by_hand(probability, target, loss):
    assert float(soft_dice_loss(torch.tensor(probability), torch.tensor(target))) == pytest.approx(loss, abs=1e-6)


def test_cross_entropy_is_the_literal_mean(batch):
    logits, target = batch
    p = logits.softmax(1)
    expected = sum(-math.log(float(p[b, target[b, i, j], i, j])) for b, i, j in voxels(target)) / target.numel()
    assert float(cross_entropy(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_weighted_cross_entropy_is_the_literal_weighted_mean(batch):
    logits, target = batch
    weight = torch.rand(target.shape, generator=torch.Generator().manual_seed(5))
    p = logits.softmax(1)
    terms = [-float(weight[b, i, j]) * math.log(float(p[b, target[b, i, j], i, j])) for b, i, j in voxels(target)]
    assert float(cross_entropy(logits, target, weight)) == pytest.approx(sum(terms) / float(weight.sum()), rel=1e-5)
    assert float(cross_entropy(logits, target, torch.ones_like(weight))) == pytest.approx(
        float(cross_entropy(logits, target))
    )
    assert float(cross_entropy(logits, target, torch.zeros_like(weight))) == 0


def test_even_logits_cost_the_logarithm_of_two():
    assert float(cross_entropy(torch.zeros(1, 2, 3, 3), torch.ones(1, 3, 3))) == pytest.approx(math.log(2))


def test_the_joint_loss_is_the_weighted_sum(batch):
    logits, target = batch
    dice = soft_dice_loss(logits.softmax(1)[:, 1], target)
    assert float(dice_and_cross_entropy(logits, target, 0.3, 2.0)) == pytest.approx(
        float(0.3 * dice + 2 * cross_entropy(logits, target)), rel=1e-6
    )


def literal_generalised_dice(p, y):
    above = below = 0.0
    for c in range(p.shape[1]):
        size = sum(float(y[b, c, i, j]) for b, i, j in voxels(y[:, c]))
        weight = 1 / size**2 if size else 0.0
        above += weight * sum(float(y[b, c, i, j] * p[b, c, i, j]) for b, i, j in voxels(y[:, c]))
        below += weight * sum(float(y[b, c, i, j] + p[b, c, i, j]) for b, i, j in voxels(y[:, c]))
    return 1 - 2 * above / below


@pytest.mark.parametrize("classes", [2, 3])
def test_generalised_dice_is_the_literal_sum(classes):
    generator = torch.Generator().manual_seed(classes)
    p = torch.randn(2, classes, 4, 5, generator=generator).softmax(1)
    target = torch.randint(classes, (2, 4, 5), generator=generator)
    expected = literal_generalised_dice(p, one_hot(target, classes))
    assert float(generalised_dice_loss(p, target)) == pytest.approx(expected, rel=1e-5)


def test_generalised_dice_of_four_voxels_by_hand():
    # One lesion voxel found with 0.5, three background voxels with 1: weights 1 and 1/9.
    p = torch.tensor([[[0.5, 1.0, 1.0, 1.0]], [[0.5, 0.0, 0.0, 0.0]]])[None]
    target = torch.tensor([[[1, 0, 0, 0]]])
    # 1 - 2 (3/9 + 0.5) / (6.5/9 + 1.5)
    assert float(generalised_dice_loss(p, target)) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("lesion", [0, 1, 20])
def test_generalised_dice_of_a_perfect_prediction_is_zero_also_without_lesion(lesion):
    target = torch.zeros(1, 4, 5, dtype=torch.long)
    target.view(-1)[:lesion] = 1
    assert float(generalised_dice_loss(one_hot(target, 2), target)) == pytest.approx(0, abs=1e-6)


def test_generalised_dice_without_lesion_uses_the_background_alone():
    target, p = torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2, 2), 0.5)
    # 1 - 2 * 2 / (4 + 2)
    assert float(generalised_dice_loss(p, target)) == pytest.approx(1 / 3, rel=1e-6)


@pytest.mark.parametrize("extreme", [-40.0, 0.0, 40.0])
@pytest.mark.parametrize("lesion", [0.0, 1.0])
def test_gradients_are_finite_for_confident_and_empty_batches(extreme, lesion):
    target = torch.full((2, 4, 4), lesion).long()
    for loss in (dice_and_cross_entropy, lambda x, y: generalised_dice_loss(x.softmax(1), y)):
        logits = torch.zeros(2, 2, 4, 4)
        logits[:, 1] = extreme
        logits.requires_grad_()
        value = loss(logits, target)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()


def test_losses_are_float32_under_bfloat16_logits(batch):
    logits, target = batch
    assert dice_and_cross_entropy(logits.bfloat16(), target).dtype == torch.float32


def test_the_missed_lesion_is_the_cross_entropy_of_its_voxels_over_all_voxels():
    rng = np.random.default_rng(0)
    logits, lesion = rng.normal(0, 3, (2, 1, 2, 3, 4)), (rng.random((2, 1, 2, 3, 4)) > 0.7).astype(float)
    expected = 0.0
    for place in np.ndindex(*logits.shape):
        if lesion[place]:
            expected -= np.log(1 / (1 + np.exp(-logits[place]))) / logits.size
    found = missed_lesion_loss(torch.from_numpy(logits), torch.from_numpy(lesion).float())
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert found.dtype == torch.float32


def test_without_lesion_nothing_is_missed_and_a_sure_miss_has_a_finite_gradient():
    logits = torch.full((1, 1, 1, 2, 2), -200.0, requires_grad=True)
    assert missed_lesion_loss(logits, torch.zeros(1, 1, 1, 2, 2)).item() == 0
    loss = missed_lesion_loss(logits, torch.ones(1, 1, 1, 2, 2))
    loss.backward()
    assert loss.item() == pytest.approx(200)
    assert logits.grad.flatten().tolist() == pytest.approx([-0.25] * 4)


def test_the_extra_weight_of_lesion_starts_whole_and_ends_near_a_tenth():
    assert focus_at(20.0, 0, 100) == 20
    assert focus_at(20.0, 50, 100) == pytest.approx(11)
    assert focus_at(20.0, 100, 100) == pytest.approx(2)
    assert focus_at(0.0, 7, 100) == 0
