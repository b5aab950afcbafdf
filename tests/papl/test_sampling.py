"""Region mask sampling: windows and mirror windows, sizes, labels, the covering sample, the stream, and purity."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_slices import FILL, head_slices, with_lesion

from strokelib.data.augment import NONE, Augmentation
from strokelib.data.prefetch import Prefetch
from strokelib.errors import DataError, ParameterError
from strokelib.papl.purity import positive_purity
from strokelib.papl.sampling import (
    HEIGHT_MM,
    WIDTH_MM,
    Box,
    RegionSampler,
    covering_box,
    infarct_share,
    label_of,
    paired_mask,
)

INFARCT = (5, 11, 3, 8)


def slices(rows=(1, 2, 8), **how):
    return with_lesion(head_slices(**how), rows, INFARCT)


def sampler(data=None, batch=16, seed=3, **how):
    how = {"width_mm": (8.0, 32.0), "height_mm": (8.0, 40.0)} | how
    return RegionSampler(slices() if data is None else data, batch, seed, **how)


def regions(one, count):
    return [one.region(i, np.random.default_rng((one.seed, i))) for i in range(count)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_published_sizes_are_10_to_70_by_10_to_80_pixels_of_nine_tenths_of_a_millimetre():
    assert pytest.approx((9, 63)) == WIDTH_MM
    assert pytest.approx((9, 72)) == HEIGHT_MM


def test_a_window_and_its_mirror_window_are_kept_and_all_else_is_the_fill():
    data = slices()
    batch = next(sampler(data, batch=40))
    assert batch.images.shape == (40, 1, 24, 20)
    for image, row, box in zip(batch.images[:, 0], batch.rows, batch.boxes, strict=True):
        top, bottom, left, right = box.tolist()
        expected = torch.full((24, 20), FILL)
        expected[top:bottom, left:right] = data.images[row, 0, top:bottom, left:right]
        expected[top:bottom, 20 - right : 20 - left] = data.images[row, 0, top:bottom, 20 - right : 20 - left]
        assert torch.equal(image, expected)


def test_a_batch_has_the_types_that_a_loss_and_a_figure_take():
    batch = next(sampler())
    kinds = [torch.float32, torch.int64, torch.float32, torch.int64, torch.int64, torch.bool]
    assert [v.dtype for v in batch] == kinds
    assert set(batch.labels.tolist()) <= {0, 1}
    assert batch.boxes.shape == (16, 4)


def test_windows_that_cross_the_middle_count_each_pixel_once():
    lesion = np.zeros((10, 8), int)
    lesion[2:4, 1:3] = 1
    # Columns 1-2 and 5-6, rows 2-5: 4 of 16.
    assert infarct_share(lesion, Box(2, 6, 1, 3)) == pytest.approx(0.25)
    assert infarct_share(lesion, Box(2, 6, 5, 7)) == pytest.approx(0.25)
    # Columns 1-4 and 3-6 together are 1-6: 4 of 24.
    assert infarct_share(lesion, Box(2, 6, 1, 5)) == pytest.approx(4 / 24)
    assert paired_mask(Box(2, 6, 1, 5), (10, 8)).sum() == 24
    assert infarct_share(lesion, Box(6, 9, 0, 8)) == 0


@pytest.mark.parametrize(
    ("share", "threshold", "label"),
    [(0.0, 0.05, 0), (0.049, 0.05, -1), (0.05, 0.05, 1), (0.5, 0.05, 1), (0.05, 0.2, -1), (1e-9, 1e-9, 1)],
)
def test_a_label_is_1_from_the_threshold_on_0_without_infarct_and_none_between(share, threshold, label):
    assert label_of(share, threshold) == label


def test_labels_and_shares_are_those_of_the_reference_in_both_windows():
    data = slices()
    for one in regions(sampler(data, positive_share=0.1), 600):
        mask = paired_mask(one.box, (24, 20))
        share = data.lesions[one.row].numpy()[mask].mean()
        assert one.share == pytest.approx(share)
        assert one.label == (1 if one.covering or share >= 0.1 else 0)
        assert one.covering or share == 0 or share >= 0.1
        for box in one.dropped:
            assert 0 < infarct_share(data.lesions[one.row].numpy(), box) < 0.1


def test_some_windows_are_dropped_and_a_higher_threshold_drops_more():
    counts = [sum(len(r.dropped) for r in regions(sampler(positive_share=p), 600)) for p in (1e-6, 0.05, 0.3)]
    assert counts[0] == 0
    assert 0 < counts[1] < counts[2]


def test_windows_lie_in_the_box_of_the_brain_and_their_sides_are_spread_evenly_over_the_range():
    data = head_slices()
    data.brains[:4, :, :] = False
    data.brains[:4, 10:13, 9:12] = True
    found = regions(sampler(data), 4000)
    free = [r.box for r in found if r.row >= 4]
    assert min(b.top for b in free) == 2
    assert max(b.bottom for b in free) == 22
    assert min(b.left for b in free) == 1
    assert max(b.right for b in free) == 18
    heights = np.bincount([b.bottom - b.top for b in free], minlength=11)
    widths = np.bincount([b.right - b.left for b in free], minlength=9)
    assert heights[2:] / len(free) == pytest.approx([1 / 9] * 9, abs=0.03)
    assert widths[2:] / len(free) == pytest.approx([1 / 7] * 7, abs=0.03)
    assert heights[:2].sum() == widths[:2].sum() == 0
    small = [r.box for r in found if r.row < 4]
    assert small
    assert all(10 <= b.top < b.bottom <= 13 and 9 <= b.left < b.right <= 12 for b in small)


def test_sizes_in_millimetres_are_the_same_on_a_finer_grid():
    coarse = regions(sampler(head_slices(size=(24, 20), pixel_mm=4.0)), 800)
    fine = regions(sampler(head_slices(size=(96, 80), pixel_mm=1.0)), 800)
    mean = [np.mean([(r.box.bottom - r.box.top) * mm for r in part]) for part, mm in ((coarse, 4.0), (fine, 1.0))]
    assert mean[0] == pytest.approx(24, abs=1.5)
    assert mean[1] == pytest.approx(24, abs=1.5)


def test_eight_samples_in_a_row_are_of_one_slice_and_the_first_covers_its_whole_infarct():
    data = slices()
    found = regions(sampler(data, lesion_share=0.5), 400)
    for start in range(0, 400, 8):
        eight = found[start : start + 8]
        assert len({r.row for r in eight}) == 1
        assert eight[0].covering == bool(data.lesions[eight[0].row].any())
        assert not any(r.covering for r in eight[1:])
        if eight[0].covering:
            lesion = data.lesions[eight[0].row].numpy()
            assert lesion[paired_mask(eight[0].box, lesion.shape)].sum() == lesion.sum()
            assert eight[0].label == 1
    assert len({r.row for r in found}) > 10


def test_the_covering_window_has_a_margin_and_may_be_larger_than_the_range():
    lesion = np.zeros((24, 20), bool)
    lesion[0, 4] = lesion[17, 15] = True
    assert covering_box(lesion, 0) == (0, 18, 4, 16)
    assert covering_box(lesion, 3) == (0, 21, 1, 19)
    one = sampler(with_lesion(head_slices(), [5], (3, 21, 2, 18)), lesion_share=1.0, margin_mm=4.0)
    found = regions(one, 1)[0]
    assert found.box == (2, 22, 1, 19)
    assert found.box.bottom - found.box.top > 40 / 4


def test_a_small_infarct_is_positive_in_its_covering_sample_below_the_threshold_too():
    one = sampler(with_lesion(head_slices(), [5], (6, 7, 6, 7)), lesion_share=1.0, margin_mm=16.0)
    found = regions(one, 1)[0]
    assert 0 < found.share < 0.05
    assert (found.covering, found.label) == (True, 1)


def test_an_infarct_of_which_no_window_has_a_label_gives_its_covering_sample():
    data = head_slices((3,))
    data.lesions[:, ::4, ::4] = 1
    for found in regions(
        sampler(data, samples=4, positive_share=0.9, width_mm=(24.0, 32.0), height_mm=(24.0, 32.0)), 4
    ):
        assert (found.covering, found.label) == (True, 1)
        assert found.box == covering_box(data.lesions[0].numpy(), 1)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (None, 3 / 19)])
def test_the_share_of_slices_with_infarct_is_the_one_asked_for(share, expected):
    one = sampler(lesion_share=share)
    rows = [one.row_of(8 * i) for i in range(2000)]
    assert np.isin(rows, (1, 2, 8)).mean() == pytest.approx(expected, abs=0.035)


def test_slices_without_brain_are_never_drawn():
    data = head_slices((4,))
    data.brains[1:3] = False
    assert {r.row for r in regions(sampler(data), 200)} == {0, 3}


def test_a_sample_does_not_depend_on_the_batch_it_is_in():
    large, small = next(sampler(batch=24)), sampler(batch=6)
    parts = [next(small) for _ in range(4)]
    for whole, cut in zip(large, zip(*parts, strict=True), strict=True):
        assert torch.equal(whole, torch.cat(cut))


def test_a_restored_position_continues_the_same_stream_also_in_the_middle_of_a_slice():
    whole = sampler(batch=5)
    made = [next(whole) for _ in range(4)]
    first = sampler(batch=5)
    next(first)
    resumed = sampler(batch=5)
    resumed.load_state_dict(first.state_dict())
    assert all(same(next(resumed), batch) for batch in made[1:])
    with pytest.raises(ParameterError, match="seed 3"):
        sampler(seed=4).load_state_dict(first.state_dict())


def test_the_stream_is_another_with_another_seed_and_the_same_when_made_ahead():
    assert not same(next(sampler(seed=0)), next(sampler(seed=1)))
    with Prefetch(sampler(), ahead=2) as ahead:
        assert same(next(ahead), next(sampler()))


def test_augmentation_mirrors_samples_and_leaves_what_was_removed_alone():
    plain, mirrored = next(sampler()), next(sampler(augmentation=replace(NONE, mirror=1.0)))
    torch.testing.assert_close(mirrored.images, plain.images.flip(-1), atol=1e-2, rtol=0)
    noisy = next(sampler(augmentation=replace(NONE, noise=0.1)))
    removed = plain.images == FILL
    assert noisy.images[removed].eq(FILL).all()
    assert (noisy.images != plain.images)[~removed].float().mean() > 0.99
    assert torch.equal(noisy.labels, plain.labels)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"width_mm": (32.0, 8.0)}, "width_mm"),
        ({"height_mm": (0.0, 8.0)}, "height_mm"),
        ({"samples": 0}, "samples"),
        ({"positive_share": 0.0}, "positive_share"),
        ({"margin_mm": -1.0}, "margin_mm"),
        ({"lesion_share": 1.5}, "lesion_share"),
        ({"augmentation": Augmentation()}, "augmentation"),
        ({"batch": 0}, "batch of 1"),
    ],
)
def test_impossible_settings_are_refused(settings, error):
    with pytest.raises(ParameterError, match=error):
        sampler(**settings)


def test_slices_that_cannot_give_the_share_are_refused():
    with pytest.raises(DataError, match="0 of 19 with infarct"):
        sampler(head_slices(), lesion_share=0.5)
    with pytest.raises(DataError, match="19 of 19"):
        sampler(slices(range(19)), lesion_share=0.5)
    empty = head_slices((3,))
    empty.brains[:] = False
    with pytest.raises(DataError, match="0 of 0"):
        sampler(empty)


def painted(**how):
    """Infarct in slices 1, 2 and 8, painted 4 HU darker in 1 and 2, of which the window shows 1 alone."""
    data = slices(**how)
    lowered, seen = torch.zeros(19, 24, 20), torch.zeros(19, 24, 20)
    lowered[1:3, 5:11, 3:8] = 4.0
    seen[1, 5:11, 3:8] = 2.0
    return replace(data, lowered_hu=lowered, seen_hu=seen)


def test_purity_counts_positives_by_whether_their_infarct_was_painted_and_is_seen():
    one = sampler(painted(), lesion_share=0.7)
    found = regions(one, 800)
    purity = positive_purity(one, 800, drop_hu=1.5)
    positive = [r.row for r in found if r.label == 1]
    assert purity.positives == len(positive)
    assert purity.negatives == 800 - len(positive)
    assert purity.positive_share == pytest.approx(len(positive) / 800)
    assert purity.lowered == purity.lowered_part == pytest.approx(np.isin(positive, (1, 2)).mean())
    assert purity.seen == purity.seen_part == pytest.approx(np.isin(positive, 1).mean())
    assert 0 < purity.seen < purity.lowered < 1
    assert purity.negatives_lowered == 0
    dropped = [r.row for r in found for _ in r.dropped]
    assert purity.dropped == len(dropped) > 0
    assert purity.dropped_share == pytest.approx(len(dropped) / (800 + len(dropped)))
    assert purity.dropped_lowered == pytest.approx(np.isin(dropped, (1, 2)).mean())
    assert positive_purity(one, 800, drop_hu=3.0).seen == 0


def test_purity_finds_infarct_that_the_reference_lacks_in_the_negatives():
    data = painted()
    data.lesions[1:3] = 0
    purity = positive_purity(sampler(data), 800)
    assert purity.lowered == 0
    assert purity.negatives_lowered > 0.02


def test_purity_leaves_the_stream_where_it_is_and_is_nan_where_nothing_is_positive():
    one = sampler(painted(), lesion_share=0.0)
    purity = positive_purity(one, 40)
    assert one.state_dict()["drawn"] == 0
    assert purity.positives == 0
    assert np.isnan([purity.lowered, purity.seen, purity.lowered_part, purity.dropped_lowered]).all()


def test_purity_without_truth_or_samples_is_refused():
    with pytest.raises(DataError, match="truth"):
        positive_purity(sampler())
    for wrong in ({"samples": 0}, {"drop_hu": 0.0}):
        with pytest.raises(ParameterError, match="above 0"):
            positive_purity(sampler(painted()), **wrong)
