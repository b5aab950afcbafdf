"""Triplets of slices: order, which are drawn how often, repeated ends, shares, one move for three, the stream."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_slices import FILL, head_slices, scan_and_slice, with_lesion

from strokelib.data.augment import NONE, Augmentation
from strokelib.errors import DataError, ParameterError
from strokelib.papl.compensation import slice_weights
from strokelib.papl.triplets import TripletSampler

COUNTS = (6, 9, 4, 3)


def sampler(data=None, batch=12, seed=5, **how):
    return TripletSampler(head_slices(COUNTS) if data is None else data, batch, seed, **how)


def places(one, count=4000):
    rng = np.random.default_rng(0)
    return [one.place(rng) for _ in range(count)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("form", ["recommended", "printed"])
def test_slices_are_those_of_the_places_in_one_scan(form):
    batch = next(sampler(batch=200, form=form))
    front, middle, rear = (scan_and_slice(v) for v in (batch.front, batch.middle, batch.rear))
    for number, (i, j, k, n) in enumerate(torch.stack([batch.i, batch.j, batch.k, batch.n], 1).tolist()):
        scan = middle[number][0]
        assert n == COUNTS[scan]
        assert middle[number] == (scan, j)
        assert front[number] == (scan, max(i, 0))
        assert rear[number] == (scan, min(k, n - 1))


@pytest.mark.parametrize("form", ["recommended", "printed"])
def test_places_rise_and_every_weight_of_every_pair_is_positive(form):
    start, n, i, j, k = torch.tensor(places(sampler(form=form))).T
    assert set(start.tolist()) == {0, 6, 15, 19}
    assert ((i < j) & (j < k) & (j >= 0) & (j < n) & (k - i <= n - 1)).all()
    assert ((i >= 0) | ((j == 0) & (i == -1))).all()
    assert ((k < n) | ((j == n - 1) & (k == n))).all()
    assert all(weight.gt(0).all() for weight in slice_weights(i, j, k, n))


def test_every_slice_is_the_middle_one_equally_often_ends_included():
    found = Counter(p.start + p.j for p in places(sampler(), 11000))
    assert [found[row] / 11000 for row in range(22)] == pytest.approx([1 / 22] * 22, abs=0.01)


def test_beside_a_middle_slice_all_slices_on_either_side_are_drawn_equally_often():
    found = [p for p in places(sampler(head_slices((9,))), 9000) if p.j == 3]
    assert np.bincount([p.i for p in found]) / len(found) == pytest.approx([1 / 3] * 3, abs=0.05)
    assert np.bincount([p.k for p in found])[4:] / len(found) == pytest.approx([1 / 5] * 5, abs=0.05)


def test_as_printed_any_three_slices_of_a_scan_are_drawn_and_ends_are_never_in_the_middle():
    found = places(sampler(form="printed"), 8000)
    assert np.bincount([p.start for p in found])[[0, 6, 15, 19]] / 8000 == pytest.approx([0.25] * 4, abs=0.03)
    four = Counter((p.i, p.j, p.k) for p in found if p.n == 4)
    assert set(four) == {(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)}
    assert [v / four.total() for v in four.values()] == pytest.approx([0.25] * 4, abs=0.05)
    assert all(0 < p.j < p.n - 1 for p in found)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (None, 3 / 22)])
def test_the_share_of_middle_slices_with_lesion_is_the_one_asked_for(share, expected):
    data = with_lesion(head_slices(COUNTS), (0, 7, 14), (5, 9, 3, 8))
    batch = next(sampler(data, batch=1500, lesion_share=share))
    assert float(batch.lesions.flatten(1).any(1).float().mean()) == pytest.approx(expected, abs=0.04)


def test_the_lesion_is_that_of_the_middle_slice():
    data = with_lesion(head_slices(COUNTS), (7,), (5, 9, 3, 8))
    batch = next(sampler(data, batch=20, lesion_share=1.0))
    assert scan_and_slice(batch.middle) == [(1, 1)] * 20
    assert torch.equal(batch.lesions, data.lesions[7].long().expand(20, -1, -1))


def test_a_batch_has_the_shapes_and_types_that_the_losses_take():
    batch = next(sampler())
    for images in (batch.front, batch.middle, batch.rear, batch.unit):
        assert (images.shape, images.dtype) == ((12, 1, 24, 20), torch.float32)
    assert (batch.lesions.shape, batch.lesions.dtype) == ((12, 24, 20), torch.int64)
    assert all((v.shape, v.dtype) == ((12,), torch.int64) for v in (batch.i, batch.j, batch.k, batch.n))


def test_the_unit_copy_is_that_of_the_middle_slice_also_after_a_change_of_contrast():
    batch = next(sampler(batch=40))
    outside = batch.middle == FILL
    torch.testing.assert_close(batch.unit, ((batch.middle - FILL) * 0.001).clamp(0, 1))
    assert batch.unit[outside].eq(0).all()
    assert batch.unit[~outside].gt(0).all()
    changed = next(sampler(batch=40, augmentation=replace(NONE, contrast=0.2, brightness=0.5, noise=0.1)))
    torch.testing.assert_close(changed.unit, ((changed.middle - FILL) * 0.001).clamp(0, 1))
    assert not torch.equal(changed.unit, batch.unit)
    assert changed.unit[outside].eq(0).all()


def test_one_move_for_the_three_slices_and_the_lesion():
    data = with_lesion(head_slices(COUNTS), range(22), (5, 9, 3, 8))
    plain = next(sampler(data, batch=30))
    moved = next(sampler(data, batch=30, augmentation=replace(NONE, mirror=0.5, zoom=0.2)))
    for name in ("front", "middle", "rear"):
        before, after = getattr(plain, name) > FILL, getattr(moved, name) > FILL + 1e-3
        assert not torch.equal(before, after)
    assert torch.equal(moved.front > FILL + 1e-2, moved.rear > FILL + 1e-2)
    mirrored = next(sampler(data, batch=30, augmentation=replace(NONE, mirror=1.0)))
    for name in ("front", "middle", "rear", "lesions"):
        before, after = getattr(plain, name), getattr(mirrored, name)
        torch.testing.assert_close(after, before.flip(-1), atol=1e-2, rtol=0)


def test_a_sample_does_not_depend_on_the_batch_it_is_in():
    how = {"augmentation": Augmentation(rotation_deg=0.0, shift=0.0)}
    large, small = next(sampler(**how)), sampler(batch=4, **how)
    parts = [next(small) for _ in range(3)]
    for whole, cut in zip(large, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(cut))


def test_a_restored_position_continues_the_same_stream():
    whole = sampler(batch=3)
    made = [next(whole) for _ in range(4)]
    first = sampler(batch=3)
    next(first)
    resumed = sampler(batch=3)
    resumed.load_state_dict(first.state_dict())
    assert all(same(next(resumed), batch) for batch in made[1:])
    assert not same(next(sampler(seed=0)), next(sampler(seed=1)))
    with pytest.raises(ParameterError, match="seed 5"):
        sampler(seed=6).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"form": "adjacent"}, "recommended or printed"),
        ({"form": "printed", "lesion_share": 0.5}, "lesion_share"),
        ({"lesion_share": -0.1}, "lesion_share"),
        ({"augmentation": Augmentation()}, "0 for both"),
        ({"batch": 0}, "batch of 1"),
    ],
)
def test_impossible_settings_are_refused(settings, error):
    with pytest.raises(ParameterError, match=error):
        sampler(**settings)


def test_scans_of_two_slices_and_cut_scans_are_refused():
    with pytest.raises(DataError, match="a scan of 2"):
        sampler(head_slices((6, 2)))
    with pytest.raises(DataError, match="whole scans"):
        sampler(head_slices()[1:])
    with pytest.raises(DataError, match="0 of 19 with lesion"):
        sampler(head_slices(), lesion_share=0.5)
    with pytest.raises(DataError, match="4 of 4 with lesion"):
        sampler(with_lesion(head_slices((4,)), range(4), (5, 9, 3, 8)), lesion_share=0.5)
