"""Curves of trainings, and pairs of views."""

from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from strokelib.data.augment3d import Augmentation3d, Chance
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.heads import Head
from strokelib.ssl_nnunet.toy import OUTPUTS, ToyHistory
from strokelib.ssl_nnunet.training_figures import (
    ViewsExample,
    Watch,
    collapse_curves,
    finetuning_curves,
    pretraining_views,
)
from strokelib.ssl_nnunet.views import Box, Pair, view_of
from strokelib.train import History
from strokelib.train.history import Row

mpl.use("Agg")
NAMES = ("val_loss", "rank_me", "teacher_entropy", "teacher_spread")
SIZE = (4, 8, 6)
PAIR = Pair(0, Box((2, 0, 0), (6, 14, 12)), Box((2, 1, 2), (6, 12, 9)),
            (Box((3, 2, 3), SIZE), Box((4, 3, 2), (4, 10, 7))), (False, False))  # fmt: skip


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def pretraining():
    rows = [Row(step, "val", name, step * 0.01 + number) for step in (10, 20, 30) for number, name in enumerate(NAMES)]
    return History(tuple(rows), 30, 30)


def finetuning(values):
    rows = [Row(10 * i, "val", name, v + off) for i, v in enumerate(values, 1)
            for name, off in (("pseudo_dice", 0.0), ("pseudo_dice_ema", -0.1))]  # fmt: skip
    return History(tuple(rows), 10 * len(values), 10)


def head():
    images = torch.arange(10.0 * 14 * 12).reshape(1, 10, 14, 12)
    brain = torch.zeros(10, 14, 12, dtype=torch.bool)
    brain[:, 2:12, 2:10] = True
    labels = torch.zeros(10, 14, 12, dtype=torch.uint8)
    how = {
        "spacing": (5.0, 4.0, 2.0),
        "fill": torch.tensor([-3.0]),
        "affine": np.eye(4),
        "id": "made-1",
        "cohort": "made",
    }
    return Head(images=images, lesions=labels, brain=brain, contralateral=images.flip(3) + 5000, **how)


def test_curves_are_shares_of_log_k_and_ranks_are_not():
    watch = Watch.of(pretraining(), 16)
    figure = collapse_curves({"ALL": watch})
    for ax, name in zip(figure.axes, ("loss", "rank", "entropy", "spread"), strict=True):
        steps, values = ax.lines[0].get_data()
        share = 1.0 if name == "rank" else np.log(16)
        np.testing.assert_array_equal(steps, [10, 20, 30])
        np.testing.assert_allclose(values, getattr(watch, name)[1] / share)


def test_the_collapse_to_uniform_outputs_is_marked_for_loss_and_entropy():
    figure = collapse_curves({"ALL": Watch.of(pretraining(), 16)})
    marked = [any(set(line.get_ydata()) == {1.0} for line in ax.lines) for ax in figure.axes]
    assert marked == [True, False, True, False]


def test_a_toy_run_stands_below_with_its_own_number_of_outputs():
    toy = ToyHistory(loss=(2.0, 1.0), entropy=(1.0, 0.5), spread=(0.1, 0.2), rank=(4.0, 3.0))
    figure = collapse_curves({"ALL": Watch.of(pretraining(), 512)}, {"no centring": Watch.of_toy(toy)})
    assert len(figure.axes) == 8
    np.testing.assert_allclose(figure.axes[4].lines[0].get_ydata(), np.array(toy.loss) / np.log(OUTPUTS))
    np.testing.assert_allclose(figure.axes[5].lines[0].get_ydata(), toy.rank)
    names = [text.get_text() for ax in (figure.axes[3], figure.axes[7]) for text in ax.get_legend().get_texts()]
    assert names == ["ALL", "log K", "no centring", "log K"]


def test_no_pre_training_or_another_history_is_refused():
    with pytest.raises(DataError, match="histories"):
        collapse_curves({})
    with pytest.raises(ParameterError):
        Watch.of(finetuning([0.1, 0.2]), 16)


def test_an_example_shows_what_the_boxes_hold():
    one, made = head(), ViewsExample.of(head(), PAIR, SIZE)
    np.testing.assert_array_equal(made.slab, one.images[0, 5])
    np.testing.assert_array_equal(made.first, one.images[0, 5, 2:10, 3:9])
    np.testing.assert_array_equal(made.second, view_of(one.images, PAIR.views[1], SIZE, one.fill)[0, 2])
    np.testing.assert_array_equal(made.symmetric, one.contralateral[0, 5, 2:10, 3:9])
    assert (made.background, made.spacing_yx, made.name) == (-3.0, (4.0, 2.0), "made-1")


def test_augmentation_changes_the_views_and_not_the_slab():
    noisy = Augmentation3d(mirror=(0, 0, 0), moved=0.0, noise=Chance(1.0, 0.3))
    plain, made = ViewsExample.of(head(), PAIR, SIZE), ViewsExample.of(head(), PAIR, SIZE, augmentation=noisy, seed=1)
    np.testing.assert_array_equal(plain.slab, made.slab)
    for name in ("first", "second", "symmetric"):
        assert not np.array_equal(getattr(plain, name), getattr(made, name))
    np.testing.assert_array_equal(made.first, ViewsExample.of(head(), PAIR, SIZE, augmentation=noisy, seed=1).first)


def test_a_head_without_its_other_side_or_a_symmetric_pair_is_refused():
    with pytest.raises(DataError, match="no contralateral"):
        ViewsExample.of(replace(head(), contralateral=None), PAIR, SIZE)
    with pytest.raises(DataError, match="symmetric pair"):
        ViewsExample.of(head(), replace(PAIR, contralateral=(True, False)), SIZE)


def test_a_row_of_views_shows_slab_base_both_views_and_the_symmetric_one():
    made = ViewsExample.of(head(), PAIR, SIZE)
    figure = pretraining_views([made, made])
    assert len(figure.axes) == 10
    shown = [ax.images[0].get_array() for ax in figure.axes[:5]]
    for found, wanted in zip(shown, (made.slab, made.slab, made.first, made.second, made.symmetric), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_frames_of_boxes_surround_their_voxels_to_the_half():
    figure = pretraining_views([ViewsExample.of(head(), PAIR, SIZE)])
    (base,), views = figure.axes[0].patches, figure.axes[1].patches
    assert (*base.get_xy(), base.get_width(), base.get_height()) == (1.5, 0.5, 9, 12)
    assert [(*one.get_xy(), one.get_width(), one.get_height()) for one in views] == [
        (2.5, 1.5, 6, 8),
        (1.5, 2.5, 7, 10),
    ]


def test_the_cut_to_the_base_shows_the_base_alone():
    ax = pretraining_views([ViewsExample.of(head(), PAIR, SIZE)]).axes[1]
    assert ax.get_xlim() == (1, 11)
    assert ax.get_ylim() == (13, 0)


def test_each_view_says_its_slices():
    figure = pretraining_views([ViewsExample.of(head(), PAIR, SIZE)])
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts == ["slices 4 to 7", "slices 5 to 8", "slices 4 to 7"]


def test_no_view_is_refused():
    with pytest.raises(DataError, match="examples"):
        pretraining_views([])


def test_fine_tuning_shows_every_run_its_average_and_the_best_step():
    runs = {
        "FS-STKi": [finetuning([0.2, 0.4, 0.3])],
        "ALL-STKi": [finetuning([0.3, 0.1, 0.5]), finetuning([0.6, 0.1, 0.2])],
    }
    figure = finetuning_curves(runs)
    first, second = figure.axes[:2]
    assert [line.get_marker() for line in first.lines] == [".", "None", "D"]
    assert first.lines[2].get_xydata().tolist() == [[20.0, pytest.approx(0.3)]]
    best = [line.get_xdata()[0] for line in second.lines if line.get_marker() == "D"]
    assert best == [30, 10]
    np.testing.assert_allclose(second.lines[0].get_ydata(), [0.1, 0.3, 0.2])
    assert second.get_title() == "ALL-STKi (2 runs)"
    assert first.get_ylim()[1] > 0.6


def test_a_validation_without_a_value_leaves_a_gap_and_is_never_the_best():
    figure = finetuning_curves({"FS-STKi": [finetuning([0.2, np.nan, 0.3])], "none": [finetuning([np.nan, np.nan])]})
    assert figure.axes[0].lines[2].get_xdata()[0] == 30
    assert not [line for line in figure.axes[1].lines if line.get_marker() == "D"]


def test_many_experiments_fill_rows_and_an_empty_one_is_refused():
    figure = finetuning_curves({f"row {i}": [finetuning([0.1, 0.2])] for i in range(5)})
    assert sum(ax.get_visible() for ax in figure.axes) == 5
    with pytest.raises(DataError):
        finetuning_curves({"FS-STKi": []})
