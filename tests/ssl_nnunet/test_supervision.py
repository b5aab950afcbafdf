"""The supervised losses of ssl_nnunet against literal loops, hand-worked values and hard batches."""

import math

import pytest
import torch

from strokelib.errors import ParameterError
from strokelib.ssl_nnunet.supervision import (
    Counts,
    count_voxels,
    deep_supervision_loss,
    deep_supervision_weights,
    ema_of,
    pseudo_dice,
    segmentation_loss,
    shrunk,
)

SHAPE = (2, 1, 2, 3, 5)
SMOOTH = 1e-5


def row(*values):
    """A patch of one row of voxels."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, 1, -1)


@pytest.fixture
def batch():
    """Two patches of other sizes of lesion."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(SHAPE, generator=generator)
    return logits, (torch.rand(SHAPE, generator=generator) < torch.tensor([0.2, 0.6]).view(2, 1, 1, 1, 1)).float()


# Weights


def test_weights_halve_and_as_printed_they_do_not():
    assert deep_supervision_weights() == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert [round(w, 4) for w in deep_supervision_weights(4)] == [0.5333, 0.2667, 0.1333, 0.0667]
    assert deep_supervision_weights(4, "printed") == pytest.approx([0.4, 0.2, 0.2, 0.2])
    assert deep_supervision_weights(2, "printed") == deep_supervision_weights(2) == pytest.approx([2 / 3, 1 / 3])
    assert deep_supervision_weights(1) == deep_supervision_weights(1, "printed") == (1,)


def test_no_level_or_another_form_of_weights_is_refused():
    with pytest.raises(ParameterError, match="levels"):
        deep_supervision_weights(0)
    with pytest.raises(ParameterError, match="halving or printed"):
        deep_supervision_weights(4, "equal")


# Loss


def literal_entropy(logits, truth):
    total = 0.0
    for x, y in zip(logits.flatten().tolist(), truth.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total -= y * math.log(p) + (1 - y) * math.log(1 - p)
    return total / logits.numel()


def literal_dice_loss(logits, truth):
    both = of_p = of_y = 0.0
    for x, y in zip(logits.flatten().tolist(), truth.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        both, of_p, of_y = both + p * y, of_p + p, of_y + y
    return 1 - (2 * both + SMOOTH) / (of_p + of_y + SMOOTH)


def test_the_loss_is_the_literal_sum_and_the_average_half_of_it(batch):
    entropy = literal_entropy(*batch)
    by_patch = sum(literal_dice_loss(x, y) for x, y in zip(*batch, strict=True)) / 2
    as_one = literal_dice_loss(*batch)
    assert abs(by_patch - as_one) > 1e-3
    assert float(segmentation_loss(*batch)) == pytest.approx(entropy + by_patch, rel=1e-5)
    assert float(segmentation_loss(*batch, batch_dice=True)) == pytest.approx(entropy + as_one, rel=1e-5)
    assert float(segmentation_loss(*batch, "average")) == pytest.approx((entropy + by_patch) / 2, rel=1e-5)
    assert float(segmentation_loss(*batch, "average", batch_dice=True)) == pytest.approx((entropy + as_one) / 2)


def test_the_loss_of_four_undecided_voxels_by_hand():
    # Dice 2 x 1/2 / (2 + 1).
    assert float(segmentation_loss(row(0, 0, 0, 0), row(1, 0, 0, 0))) == pytest.approx(math.log(2) + 2 / 3, rel=1e-5)


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("lesion", [0, 1, 29])
def test_a_perfect_prediction_costs_nothing_also_without_lesion(lesion, batch_dice):
    truth = torch.zeros(SHAPE)
    truth.flatten(1)[:, :lesion] = 1
    assert float(segmentation_loss(80 * truth - 40, truth, batch_dice=batch_dice)) == pytest.approx(0, abs=1e-5)


def test_an_empty_prediction_by_hand():
    # Cross-entropy 40 / 4, no overlap; smoothing has 1e-5 of 1 voxel.
    assert float(segmentation_loss(row(-40, -40, -40, -40), row(1, 0, 0, 0))) == pytest.approx(11, rel=1e-4)


def test_false_voxels_of_a_patch_without_lesion_weigh_less_in_one_dice_over_the_batch():
    truth = torch.cat([row(1, 1, 0, 0), row(0, 0, 0, 0)])
    logits = torch.cat([row(40, 40, -40, -40), row(40, -40, -40, -40)])
    # By patch: Dice 1 and 0. Over the batch: 4 / (3 + 2).
    apart = segmentation_loss(logits, truth) - segmentation_loss(logits, truth, batch_dice=True)
    assert float(apart) == pytest.approx(1 / 2 - 1 / 5, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("extreme", [-60.0, 0.0, 60.0])
@pytest.mark.parametrize("lesion", [0.0, 1.0])
def test_the_loss_of_hard_batches_is_float32_with_finite_gradients(dtype, extreme, lesion):
    logits, truth = torch.full(SHAPE, extreme, dtype=dtype, requires_grad=True), torch.full(SHAPE, lesion)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = segmentation_loss(logits, truth) + segmentation_loss(logits, truth.bool(), batch_dice=True)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    if extreme == 0:
        assert (logits.grad != 0).all()


@pytest.mark.parametrize("form", ["sum", "average"])
def test_gradient_descent_finds_the_truth(batch, form):
    truth = batch[1]
    logits = torch.zeros(SHAPE, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(40):
        optimizer.zero_grad()
        segmentation_loss(logits, truth, form).backward()
        optimizer.step()
    assert pseudo_dice(logits, truth) == 1


def test_other_forms_and_shapes_that_would_be_broadcast_are_refused(batch):
    logits, truth = batch
    with pytest.raises(ParameterError, match="sum or average"):
        segmentation_loss(logits, truth, "mean")
    for x, y in (
        (logits, truth[:, 0]),
        (logits, truth[:1]),
        (logits.expand(2, 2, 2, 3, 5),) * 2,
        (logits[:, 0, 0, 0],) * 2,
    ):
        for function in (segmentation_loss, pseudo_dice):
            with pytest.raises(ParameterError, match="logits and truth"):
                function(x, y)


# Deep supervision


def literal_shrunk(line, size):
    """The voxel that holds the centre of each new one; of a centre between two, the upper."""
    return [line[math.floor((i + 0.5) * len(line) / size)] for i in range(size)]


@pytest.mark.parametrize(("length", "size"), [(8, 4), (7, 4), (9, 5), (6, 2), (5, 5)])
def test_a_truth_is_shrunk_to_the_nearest_voxel_along_every_axis(length, size):
    line = [float(i) for i in range(length)]
    for axis in range(3):
        shape, new = [1, 1, 1, 1, 1], [1, 1, 1]
        shape[axis + 2], new[axis] = length, size
        assert shrunk(torch.tensor(line).view(shape), new).flatten().tolist() == literal_shrunk(line, size)


def test_a_shrunk_truth_stays_zero_or_one(batch):
    found = shrunk(batch[1].bool(), (1, 2, 3))
    assert found.dtype == torch.float32
    assert set(found.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("form", ["sum", "average"])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_the_deep_loss_is_the_literal_weighted_sum(form, batch_dice):
    generator = torch.Generator().manual_seed(8)
    levels = [torch.randn(2, 1, *size, generator=generator) for size in ((4, 8, 7), (4, 4, 4), (2, 2, 2), (1, 1, 1))]
    truth = (torch.rand(levels[0].shape, generator=generator) < 0.4).float()
    weights = deep_supervision_weights(3)
    expected = 0.0
    for level, weight in zip(levels, weights, strict=False):
        small = torch.empty_like(level)
        for b in range(2):
            for index in torch.ones(level.shape[2:]).nonzero().tolist():
                at = [
                    literal_shrunk(range(n), m)[i]
                    for n, m, i in zip(truth.shape[2:], level.shape[2:], index, strict=True)
                ]
                small[(b, 0, *index)] = truth[(b, 0, *at)]
        dice = [literal_dice_loss(x, y) for x, y in zip(level, small, strict=True)]
        loss = literal_entropy(level, small) + (literal_dice_loss(level, small) if batch_dice else sum(dice) / 2)
        expected += weight * loss / (2 if form == "average" else 1)
    found = deep_supervision_loss(levels, truth, weights, form, batch_dice=batch_dice)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_one_level_is_the_plain_loss_and_levels_beyond_the_weights_get_no_gradient(batch):
    logits, truth = batch
    coarse = torch.zeros(2, 1, 1, 2, 3, requires_grad=True)
    fine = logits.clone().requires_grad_()
    loss = deep_supervision_loss([fine, coarse], truth, (1.0,))
    assert float(loss.detach()) == float(segmentation_loss(logits, truth))
    loss.backward()
    assert coarse.grad is None
    assert (fine.grad != 0).all()
    deep_supervision_loss([fine, coarse], truth, deep_supervision_weights(2)).backward()
    assert (coarse.grad != 0).all()


def test_a_perfect_prediction_at_all_levels_costs_nothing(batch):
    truth = batch[1]
    levels = [80 * shrunk(truth, size) - 40 for size in ((2, 3, 5), (1, 2, 3))]
    assert float(deep_supervision_loss(levels, truth, (0.6, 0.4))) == pytest.approx(0, abs=1e-5)


def test_a_number_of_weights_that_does_not_fit_and_a_truth_of_another_size_are_refused(batch):
    logits, truth = batch
    for weights in ((), (0.5, 0.5)):
        with pytest.raises(ParameterError, match="weights"):
            deep_supervision_loss([logits], truth, weights)
    with pytest.raises(ParameterError, match="logits and truth"):
        deep_supervision_loss([logits], truth[..., :4], (1.0,))


# Pseudo-Dice and its average


def test_the_pseudo_dice_counts_all_patches_as_one_case(batch):
    logits, truth = batch
    tp = fp = fn = 0
    for x, y in zip(logits.flatten().tolist(), truth.flatten().tolist(), strict=True):
        tp, fp, fn = tp + (x > 0 and y == 1), fp + (x > 0 and y == 0), fn + (x <= 0 and y == 1)
    assert count_voxels(logits, truth) == Counts(tp, fp, fn)
    assert pseudo_dice(logits, truth) == pytest.approx(2 * tp / (2 * tp + fp + fn))
    apart = [pseudo_dice(x[None], y[None]) for x, y in zip(logits, truth, strict=True)]
    assert pseudo_dice(logits, truth) != pytest.approx(sum(apart) / 2)


def test_the_pseudo_dice_of_two_patches_by_hand():
    # TP 1, FP 2, FN 1: 2 / 5, where the patches by themselves score 2/3 and 0.
    logits = torch.cat([row(1, 2, -1, -1), row(1, -1, -1, -1)])
    truth = torch.cat([row(1, 0, 0, 0), row(0, 1, 0, 0)])
    assert pseudo_dice(logits, truth) == pytest.approx(2 / 5)
    assert pseudo_dice(logits, truth.bool()) == pytest.approx(2 / 5)


def test_counts_of_batches_can_be_added_to_those_of_all_their_patches(batch):
    logits, truth = batch
    each = map(count_voxels, logits.split(1), truth.split(1))
    assert sum(each, Counts()) == count_voxels(logits, truth)
    assert sum(map(count_voxels, logits.split(1), truth.split(1)), Counts()).dice == pseudo_dice(logits, truth)


def test_the_pseudo_dice_of_perfect_missing_and_absent_lesions():
    truth = row(1, 0, 1, 0)
    assert pseudo_dice(2 * truth - 1, truth) == 1
    assert pseudo_dice(row(-1, -1, -1, -1), truth) == 0
    assert pseudo_dice(row(-1, 1, -1, -1), 0 * truth) == 0
    assert math.isnan(pseudo_dice(row(-1, -1, -1, 0), 0 * truth))


def test_the_moving_average_by_hand_starts_with_the_first_value():
    assert ema_of([0.5, 1.0, 0.0]) == pytest.approx([0.5, 0.55, 0.495])
    assert ema_of([0.2, 0.4], alpha=0) == [0.2, 0.4]
    assert ema_of([]) == []
    assert ema_of([0.3] * 4) == pytest.approx([0.3] * 4)


def test_the_moving_average_is_the_literal_sum_of_weighted_values():
    values = [0.1, 0.7, 0.4, 0.9]
    # 0.9^3 v0 + 0.1 (0.9^2 v1 + 0.9 v2 + v3).
    assert ema_of(values)[-1] == pytest.approx(0.9**3 * 0.1 + 0.1 * (0.9**2 * 0.7 + 0.9 * 0.4 + 0.9))


def test_missing_values_leave_the_moving_average_as_it_is():
    found = ema_of([math.nan, 0.4, math.nan, 0.5])
    assert math.isnan(found[0])
    assert found[1:] == pytest.approx([0.4, 0.4, 0.41])


@pytest.mark.parametrize("alpha", [-0.1, 1.0, math.nan])
def test_another_alpha_is_refused(alpha):
    with pytest.raises(ParameterError, match="alpha"):
        ema_of([0.5], alpha)
