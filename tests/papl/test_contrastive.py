"""PCL and GCL: which pairs are positive, both losses against loops of their formulas, and the views they are fed."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_slices import head_slices, scan_and_slice

from strokelib.data.augment import NONE
from strokelib.errors import DataError, ParameterError
from strokelib.papl.contrastive import (
    ViewSampler,
    position_pairs,
    positional_contrastive_loss,
    quarter_contrastive_loss,
    quarter_of,
    quarter_pairs,
)
from strokelib.papl.losses import inter_sample_loss

COUNTS = (6, 9, 4)


def embeddings(count=10, size=5, seed=0):
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def views(count=5, scans=3, seed=1):
    """Quarters, scans and slices of ``count`` slices, each twice."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(12)[:count]
    quarters, owner = rows % 4, rows // 4 % scans
    return tuple(torch.from_numpy(np.repeat(v, 2)) for v in (quarters, owner, rows))


def loop_over_anchors(v, positive, tau):
    v, total, anchors = v.detach().double().tolist(), 0.0, 0
    for i in range(len(v)):
        partners = [j for j in range(len(v)) if positive(i, j) and j != i]
        if not partners:
            continue
        below = sum(math.exp(cosine(v[i], v[k]) / tau) for k in range(len(v)) if k != i)
        total -= sum(math.log(math.exp(cosine(v[i], v[j]) / tau) / below) for j in partners) / len(partners)
        anchors += 1
    return total / max(anchors, 1)


def test_slices_nearer_than_the_threshold_are_pairs_whatever_their_scan():
    pairs = position_pairs(torch.tensor([0.0, 0.05, 0.125, 0.25, 0.0]), 0.125)
    expected = {(0, 1), (0, 4), (1, 2), (1, 4)}
    assert {tuple(p) for p in pairs.nonzero().tolist()} == expected | {(b, a) for a, b in expected}


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.35])
def test_pcl_is_the_loop_of_its_formula(threshold):
    v, positions = embeddings(), torch.rand(10, generator=torch.Generator().manual_seed(3))
    at = positions.tolist()
    expected = loop_over_anchors(v, lambda i, j: abs(at[i] - at[j]) < threshold, 0.1)
    assert float(positional_contrastive_loss(v, positions, threshold).detach()) == pytest.approx(expected, rel=1e-4)


def test_pcl_of_two_heights_far_apart_is_the_loss_of_two_labels():
    v = embeddings()
    positions = torch.tensor([0.1, 0.9] * 5)
    expected = inter_sample_loss(v, torch.tensor([0, 1] * 5), tau=0.2)
    torch.testing.assert_close(positional_contrastive_loss(v, positions, 0.1, tau=0.2), expected)


@pytest.mark.parametrize(
    ("index", "count", "expected"),
    [
        (range(8), 8, [0, 0, 1, 1, 2, 2, 3, 3]),
        (range(6), 6, [0, 0, 1, 2, 2, 3]),
        (range(5), 5, [0, 0, 1, 2, 3]),
        (range(4), 4, [0, 1, 2, 3]),
        (range(1), 1, [0]),
    ],
)
def test_a_scan_is_cut_into_quarters_of_equal_height(index, count, expected):
    assert quarter_of(torch.tensor([*index]), torch.full((len(index),), count)).tolist() == expected


def test_positives_of_gcl_are_of_the_same_quarter_in_two_scans_or_two_views_of_one_slice():
    #                     scan 0: a    a    b    c   scan 1: d   e
    quarters = torch.tensor([0, 0, 0, 1, 0, 1])
    scans, rows = torch.tensor([0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 2, 3, 4])
    positive, negative = quarter_pairs(quarters, scans, rows)
    expected = {(0, 1), (0, 4), (1, 4), (2, 4), (3, 5)}
    assert {tuple(p) for p in positive.nonzero().tolist()} == expected | {(b, a) for a, b in expected}
    different = {(a, b) for a in range(6) for b in range(6) if quarters[a] != quarters[b]}
    assert {tuple(p) for p in negative.nonzero().tolist()} == different
    # Slices 0 and 2, of one quarter of one scan, are neither.
    assert not positive[0, 2]
    assert not negative[0, 2]


def test_in_the_form_supcon_two_slices_of_one_quarter_of_one_scan_are_a_pair_too():
    quarters, scans, rows = torch.tensor([0, 0, 1]), torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])
    assert quarter_pairs(quarters, scans, rows, "supcon")[0].nonzero().tolist() == [[0, 1], [1, 0]]
    assert not quarter_pairs(quarters, scans, rows)[0].any()


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_gcl_is_the_loop_of_its_formula(tau):
    v, (quarters, scans, rows) = embeddings(), views()
    values, total, count = v.detach().double().tolist(), 0.0, 0
    for i in range(10):
        for j in range(10):
            same = quarters[i] == quarters[j] and (scans[i] != scans[j] or rows[i] == rows[j])
            if i == j or not same:
                continue
            pair = math.exp(cosine(values[i], values[j]) / tau)
            others = [math.exp(cosine(values[i], values[k]) / tau) for k in range(10) if quarters[k] != quarters[i]]
            total -= math.log(pair / (pair + sum(others)))
            count += 1
    assert count > 10
    found = quarter_contrastive_loss(v, quarters, scans, rows, tau).detach()
    assert float(found) == pytest.approx(total / count, rel=1e-4)


def test_gcl_in_the_form_supcon_is_the_loop_of_its_formula_and_the_loss_of_four_labels():
    v, (quarters, scans, rows) = embeddings(), views()
    found = quarter_contrastive_loss(v, quarters, scans, rows, form="supcon").detach()
    expected = loop_over_anchors(v, lambda i, j: quarters[i] == quarters[j], 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(found, inter_sample_loss(v, quarters).detach())


def test_a_hand_worked_value():
    # Two slices of two quarters, two views each; views of one slice point the same way, slices at right angles.
    v = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    quarters, scans, rows = torch.tensor([0, 0, 1, 1]), torch.zeros(4), torch.tensor([0, 0, 1, 1])
    # e^(1/1) against two of e^0.
    expected = math.log((math.e + 2) / math.e)
    assert float(quarter_contrastive_loss(v, quarters, scans, rows, 1.0)) == pytest.approx(expected)
    assert float(positional_contrastive_loss(v, torch.tensor([0.1, 0.1, 0.9, 0.9]), 0.1, 1.0)) == pytest.approx(
        expected
    )


@pytest.mark.parametrize("form", ["original", "supcon"])
def test_views_that_lie_together_cost_less_than_scattered_ones(form):
    quarters, scans, rows = views()
    together = torch.eye(4)[quarters].requires_grad_()
    assert quarter_contrastive_loss(together, quarters, scans, rows, form=form) < quarter_contrastive_loss(
        embeddings(), quarters, scans, rows, form=form
    )


def losses():
    alone = torch.arange(10)
    return {
        "pcl": lambda v: positional_contrastive_loss(v, torch.linspace(0, 1, 10), 0.3),
        "pcl, no pairs": lambda v: positional_contrastive_loss(v, torch.linspace(0, 1, 10), 0.01),
        "pcl, all pairs": lambda v: positional_contrastive_loss(v, torch.full((10,), 0.5)),
        "gcl": lambda v: quarter_contrastive_loss(v, *views()),
        "gcl, sharp": lambda v: quarter_contrastive_loss(v, *views(), tau=1e-3),
        "gcl, no pairs": lambda v: quarter_contrastive_loss(v, alone, torch.zeros(10), alone),
        "gcl, one quarter": lambda v: quarter_contrastive_loss(v, torch.zeros(10), alone, alone),
        "gcl, supcon": lambda v: quarter_contrastive_loss(v, *views(), form="supcon"),
    }


@pytest.mark.parametrize("name", losses())
def test_losses_are_finite_and_so_are_their_gradients(name):
    v = embeddings()
    loss = losses()[name](v)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(v.grad).all()
    if "no pairs" in name or name == "gcl, one quarter":
        assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    else:
        assert float(loss.detach()) > 0
        assert float(v.grad.abs().sum()) > 0


def test_arguments_that_do_not_fit_are_refused():
    v, (quarters, scans, rows) = embeddings(), views()
    for call in (
        lambda: positional_contrastive_loss(v, torch.zeros(9)),
        lambda: positional_contrastive_loss(v, torch.zeros(10), 0.0),
        lambda: positional_contrastive_loss(v, torch.zeros(10), tau=0.0),
        lambda: position_pairs(torch.zeros(2, 2)),
        lambda: quarter_contrastive_loss(v, quarters, scans, rows, tau=-1.0),
        lambda: quarter_contrastive_loss(v, quarters, scans, rows, form="printed"),
        lambda: quarter_contrastive_loss(v[:9], quarters, scans, rows),
        lambda: quarter_pairs(quarters, scans[:9], rows),
    ):
        with pytest.raises(ParameterError):
            call()


def sampler(batch=8, seed=2, data=None, **how):
    return ViewSampler(head_slices(COUNTS) if data is None else data, batch, seed, **how)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("drawn_by", ["slice", "quarter"])
def test_two_views_of_one_slice_follow_each_other_with_its_height_and_quarter(drawn_by):
    batch = next(sampler(batch=40, drawn_by=drawn_by, augmentation=NONE))
    assert batch.images.shape == (80, 1, 24, 20)
    assert torch.equal(batch.images[::2], batch.images[1::2])
    for (scan, z), position, quarter, owner in zip(
        scan_and_slice(batch.images), batch.positions, batch.quarters, batch.scans, strict=True
    ):
        assert owner == scan
        assert float(position) == pytest.approx((z + 0.5) / COUNTS[scan])
        assert quarter == 4 * z // COUNTS[scan]
    assert torch.equal(batch.rows, torch.tensor([0, 6, 15])[batch.scans] + batch.images[:, 0, 12, 10].long() % 100 // 5)


def test_the_two_views_differ_and_each_sample_has_its_own():
    batch = next(sampler(batch=20))
    first, second = batch.images[::2], batch.images[1::2]
    assert (first != second).flatten(1).any(1).all()
    positive = position_pairs(batch.positions)
    assert positive[torch.arange(0, 40, 2), torch.arange(1, 40, 2)].all()


def test_by_quarter_four_samples_in_a_row_are_of_the_four_quarters_and_scans_are_drawn_alike():
    batch = next(sampler(batch=1200, drawn_by="quarter", augmentation=NONE))
    assert batch.quarters[::2].tolist() == [0, 1, 2, 3] * 300
    assert np.bincount(batch.scans[::2]) / 1200 == pytest.approx([1 / 3] * 3, abs=0.05)
    by_slice = next(sampler(batch=1200, augmentation=NONE))
    assert np.bincount(by_slice.scans[::2]) / 1200 == pytest.approx([6 / 19, 9 / 19, 4 / 19], abs=0.05)


@pytest.mark.parametrize("drawn_by", ["slice", "quarter"])
def test_views_do_not_depend_on_the_batch_and_a_restored_position_continues_the_stream(drawn_by):
    large, small = next(sampler(batch=6, drawn_by=drawn_by)), sampler(batch=3, drawn_by=drawn_by)
    parts = [next(small) for _ in range(2)]
    for whole, cut in zip(large, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(cut))
    resumed = sampler(batch=3, drawn_by=drawn_by)
    resumed.load_state_dict({"seed": 2, "drawn": 3})
    assert same(next(resumed), parts[1])
    assert not same(next(sampler(seed=1)), next(sampler(seed=2)))
    with pytest.raises(ParameterError, match="seed 2"):
        sampler(seed=1).load_state_dict(resumed.state_dict())


def test_slices_that_cannot_be_drawn_are_refused():
    with pytest.raises(ParameterError, match="slice or quarter"):
        sampler(drawn_by="scan")
    with pytest.raises(DataError, match="quarter"):
        sampler(data=head_slices((3,)), drawn_by="quarter")
    with pytest.raises(DataError, match="some in each"):
        sampler(data=head_slices()[:0])
    assert len(next(sampler(data=head_slices((3,)), augmentation=replace(NONE, mirror=0.5))).images) == 16
