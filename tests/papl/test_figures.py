import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from strokelib import manifest, plotting
from strokelib.errors import DataError
from strokelib.papl import figures, tables
from strokelib.papl.examples import AdjacentExample, ContourExample
from strokelib.papl.rows import RUNS

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


SHAPE = (24, 20)


@pytest.fixture
def masks():
    brain, lesion = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    brain[2:22, 3:17] = True
    lesion[8:13, 5:9] = True
    return brain, lesion


@pytest.fixture
def contours(masks):
    brain, lesion = masks
    predicted = {name: np.roll(lesion, number, axis=1) for number, name in enumerate(figures.LABELS)}
    scores = {name: 1 - 0.1 * number for number, name in enumerate(figures.LABELS)}
    image = np.full(SHAPE, 35.0)
    return ContourExample(image, brain, lesion, predicted, scores, (1.0, 1.0), "head 1", np.ones(SHAPE))


@pytest.fixture
def adjacent(masks):
    brain, lesion = (np.stack([mask] * 3) for mask in masks)
    lesion[2] = False
    moved = np.stack([lesion[0], np.roll(lesion[1], 2, axis=1), lesion[2]])
    image = np.full(lesion.shape, 35.0)
    return AdjacentExample(image, brain, lesion, {"without FCM": moved, "with FCM": lesion}, (5.0, 2.0, 2.0))


def _notes(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def _titles(figure):
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def _outlined(ax):
    return [mpl.colors.to_hex(one.get_edgecolor()[0]).upper() for one in ax.collections]


def test_every_maker_of_the_ledger_that_draws_or_tabulates_for_this_paper_exists():
    ledger = manifest.artefacts()
    makers = ledger.loc[ledger["paper"] == "papl", "maker"]
    found = [maker.rsplit(".", 2)[1:] for maker in makers]
    assert len(found) == 19
    drawn = [name for module, name in found if module == "figures"]
    assert len(drawn) == 11
    assert [name for name in drawn if not callable(getattr(figures, name, None))] == []
    assert {module for module, _ in found} == {"figures", tables.__name__.rsplit(".", 1)[1]}


def test_the_seven_methods_are_rows_of_table_2():
    assert len(figures.LABELS) == 7
    assert set(figures.LABELS) <= set(RUNS[2])


@pytest.mark.parametrize("draw", [figures.fig06_aisd_contours, figures.fig07_xwhd_contours])
def test_a_row_shows_the_methods_the_reference_and_the_dwi(draw, contours):
    figure = draw([contours, dataclasses.replace(contours, name="head 2", dwi=None)])
    assert len(figure.axes) == 2 * 9
    assert _titles(figure) == [*figures.LABELS.values(), "reference", "DWI"]
    assert _notes(figure)[:3] == ["Dice 1.00", "Dice 0.90", "Dice 0.80"]
    assert _notes(figure)[-1] == "no DWI"
    both, alone = _outlined(figure.axes[0]), _outlined(figure.axes[7])
    assert both == [plotting.TRUTH_COLOUR, plotting.PREDICTION_COLOUR]
    assert alone == [plotting.TRUTH_COLOUR]
    assert _outlined(figure.axes[8]) == []
    assert not np.isfinite(np.ma.filled(figure.axes[-1].images[0].get_array(), np.nan)).any()


def test_a_method_that_was_not_run_is_left_out_and_a_missing_dice_is_said(contours):
    few = {name: contours.predicted[name] for name in ("PAPL", "X-Net")}
    one = dataclasses.replace(contours, predicted=few, dice={"PAPL": float("nan"), "X-Net": 0.5})
    figure = figures.fig06_aisd_contours([one])
    assert _titles(figure) == ["X-Net", "PAPL", "reference", "DWI"]
    assert _notes(figure) == ["Dice 0.50", "no Dice"]


def test_contours_of_other_methods_or_of_differing_ones_are_refused(contours):
    other = dataclasses.replace(contours, predicted={"SEAN": contours.lesion})
    for rows in ([], [other], [contours, other]):
        with pytest.raises(DataError, match="slices of a figure"):
            figures.fig07_xwhd_contours(rows)


def test_neighbouring_slices_carry_the_dice_between_them_and_their_mean(adjacent):
    figure = figures.fig09_adjacent_slices(adjacent)
    assert len(figure.axes) == 4 * 3
    moved, same, gone = (f"to the next: Dice {value}" for value in ("0.50", "1.00", "0.00"))
    means = [f"mean: Dice {value}" for value in ("0.25", "0.50", "0.50")]
    assert _notes(figure) == [moved, gone, means[0], same, gone, means[1], same, gone, means[2], *["no DWI"] * 3]
    assert [text.get_text() for text in figure.texts] == ["without FCM", "with FCM", "reference", "DWI"]
    assert _titles(figure) == ["+0 mm", "+5 mm", "+10 mm"]


def test_slices_without_any_mask_have_no_mean(adjacent):
    empty = {name: np.zeros_like(mask) for name, mask in adjacent.predicted.items()}
    figure = figures.fig09_adjacent_slices(dataclasses.replace(adjacent, predicted=empty))
    assert _notes(figure)[:4] == ["to the next: none"] * 4


def test_one_slice_or_no_training_cannot_be_compared(adjacent):
    with pytest.raises(DataError, match="0 trainings"):
        figures.fig09_adjacent_slices(dataclasses.replace(adjacent, predicted={}))
    one = {name: getattr(adjacent, name)[:1] for name in ("image_hu", "brain", "lesion")}
    with pytest.raises(DataError, match="1 slices"):
        figures.fig09_adjacent_slices(dataclasses.replace(adjacent, **one))
