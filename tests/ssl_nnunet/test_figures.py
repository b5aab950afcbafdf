import dataclasses

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from strokelib import manifest, plotting, settings
from strokelib.errors import DataError
from strokelib.ssl_nnunet import figures, tables
from strokelib.ssl_nnunet.estimates import ABOVE_3ML, ALL_LESIONS, CRITERIA
from strokelib.ssl_nnunet.examples import MaskExample

mpl.use("Agg")
RUN = settings.resolve("demo", "icoais", 0)
METHODS = (tables.BASELINE, tables.ALL_LABELS, tables.PROPOSED)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def _scores(n=12, methods=METHODS, seed=0):
    rng = np.random.default_rng(seed)
    names = ("dice", "hd95_mm", "absolute_volume_difference_ml", "pred_volume_ml", "truth_volume_ml")
    rows = [(m, f"s{i:02d}", name, v) for m in methods for name in names for i, v in enumerate(rng.random(n))]
    return pd.DataFrame(rows, columns=["method", "case", "metric", "value"])


def _inside(figure):
    """Every text that is drawn lies within the figure and off the other texts of its axis."""
    figure.canvas.draw()
    for ax in figure.axes:
        boxes = [text.get_window_extent() for text in (*ax.texts, *ax.get_xticklabels(), ax.title) if text.get_text()]
        for number, box in enumerate(boxes):
            assert figure.bbox.x0 - 1 <= box.x0 < box.x1 <= figure.bbox.x1 + 1
            assert figure.bbox.y0 - 1 <= box.y0 < box.y1 <= figure.bbox.y1 + 1
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])


@pytest.mark.parametrize(
    ("draw", "criterion"),
    [(figures.fig04_dice_validation, ALL_LESIONS), (figures.fig05_dice_validation_above_3ml, ABOVE_3ML)],
)
def test_figures_4_and_5_draw_the_methods_that_were_tested_under_their_criterion(draw, criterion):
    scores = _scores(methods=(*METHODS, "STKn-STKi"))
    tests = tables.paired_tests({criterion: scores})
    figure = draw(scores, tests)
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [f"{name}\nn = 12" for name in METHODS]
    assert ax.get_title() == criterion
    (first, *_) = (line for line in ax.lines if line.get_marker() == "o")
    own = scores[(scores["method"] == METHODS[0]) & (scores["metric"] == "dice")]
    np.testing.assert_array_equal(first.get_ydata(), own["value"])
    assert len(ax.texts) == 3
    assert f"p = {tests['p'].iloc[0]:.3f}, Holm {tests['p_holm'].iloc[0]:.3f}" in ax.texts[0].get_text()
    assert "***: p ≤ 0.001" in figure.get_supxlabel()
    _inside(figure)


def test_another_best_row_is_drawn_where_it_was_tested():
    scores = _scores(methods=(*METHODS, "STKp-STKi"))
    tests = tables.paired_tests({ALL_LESIONS: scores}, (*METHODS[:2], "STKp-STKi"))
    (ax,) = figures.fig04_dice_validation(scores, tests).axes
    assert ax.get_xticklabels()[2].get_text() == "STKp-STKi\nn = 12"


def test_figure_6_has_a_panel_a_criterion_with_its_own_scans():
    scores = {ABOVE_3ML: _scores(7, seed=1), ALL_LESIONS: _scores(9)}
    figure = figures.fig06_dice_test(scores, tables.paired_tests(scores))
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == CRITERIA
    assert (left.get_xticklabels()[0].get_text(), right.get_xticklabels()[0].get_text()) == (
        "FS-STKi\nn = 9",
        "FS-STKi\nn = 7",
    )
    assert len(left.texts) == len(right.texts) == 3
    _inside(figure)


def test_tests_of_another_criterion_or_of_other_methods_are_refused():
    scores = _scores()
    tests = tables.paired_tests({ALL_LESIONS: scores})
    with pytest.raises(DataError, match="no test"):
        figures.fig05_dice_validation_above_3ml(scores, tests)
    with pytest.raises(DataError, match="no Dice of FS-STKp"):
        figures.fig04_dice_validation(scores[scores["method"] != "FS-STKp"], tests)


@pytest.fixture
def example():
    brain, lesion = np.zeros((40, 32), bool), np.zeros((40, 32), bool)
    brain[3:37, 4:28] = lesion[10:16, 7:12] = True
    found = {name: np.roll(lesion, n, axis=1) for n, name in enumerate(METHODS[:2])} | {METHODS[2]: lesion & False}
    dice = dict(zip(METHODS, (1.0, 0.8, np.nan), strict=True))
    volumes = dict(zip(METHODS, (2.4, 2.4, 0.0), strict=True))
    image, more = np.where(brain, 35.0, -1000.0), {"predicted_ml": volumes, "lesion_ml": 2.4}
    return MaskExample(image, brain, lesion, found, dice, (4.0, 4.0), "A", **more)


def _colours(ax):
    return [mpl.colors.to_hex(c, keep_alpha=False).upper() for part in ax.collections for c in part.get_edgecolor()]


def test_figure_7_has_a_column_a_method_beside_the_reference_and_prints_each_dice(example):
    figure = figures.fig07_examples([example, dataclasses.replace(example, name="B")])
    assert [ax.get_title() for ax in figure.axes] == ["reference", *METHODS, "", "", "", ""]
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert said == ["2.4 mL", "Dice 1.00, 2.4 mL", "Dice 0.80, 2.4 mL", "no Dice, 0.0 mL"] * 2
    assert [text.get_text() for text in figure.texts] == ["A", "B"]
    _inside(figure)


def test_figure_7_outlines_the_reference_in_red_everywhere_and_fills_what_was_found(example):
    figure = figures.fig07_examples([example])
    assert [len(ax.collections) for ax in figure.axes] == [1, 2, 2, 1]
    red, green, blue = mpl.colors.to_rgb(figures.REFERENCE_COLOUR)
    assert red > 0.8 > 0.3 > max(green, blue)
    assert all(_colours(ax)[-1] == figures.REFERENCE_COLOUR for ax in figure.axes)
    filled = figure.axes[2].collections[0].get_facecolor()[0]
    assert mpl.colors.to_hex(filled).upper() == plotting.PREDICTION_COLOUR
    assert figure.axes[1].get_xlim() == figure.axes[0].get_xlim()
    key = figure.legends[0]
    assert [text.get_text() for text in key.get_texts()] == ["reference", "prediction"]
    assert [line.get_color() for line in key.get_lines()] == [figures.REFERENCE_COLOUR, plotting.PREDICTION_COLOUR]


def test_figure_7_leaves_the_volumes_out_where_pictures_are_small(example):
    eight = [f"method {n}" for n in range(8)]
    facts = {"predicted": dict.fromkeys(eight, example.lesion), "dice": dict.fromkeys(eight, 0.5)}
    many = dataclasses.replace(example, **facts, predicted_ml=dict.fromkeys(eight, 123.4))
    figure = figures.fig07_examples([many])
    assert [ax.texts[0].get_text() for ax in figure.axes] == ["2.4 mL", *["Dice 0.50"] * 8]
    _inside(figure)


def test_figure_7_asks_for_the_same_methods_on_every_scan(example):
    other = dataclasses.replace(example, predicted={"FS-STKi": example.lesion})
    for rows in ([], [example, other]):
        with pytest.raises(DataError, match="same methods"):
            figures.fig07_examples(rows)


def test_the_plot_of_freezing_shows_means_and_intervals_of_its_table_in_order():
    scores = _scores(methods=tables.FROZEN[::-1])
    table = tables.table_freezing(scores, dict.fromkeys(tables.FROZEN, "1 seed"), RUN)
    figure = figures.freezing_plot(scores, table)
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [f"{name}\nn = 12" for name in tables.FROZEN]
    lines = table[(table["metric"] == "DSC") & (table["statistic"] == "mean")].set_index("row")
    means = [float(line.get_ydata()[0]) for line in ax.lines if line.get_markersize() == 5]
    assert means == pytest.approx(list(lines.loc[list(tables.FROZEN), "ours"]))
    assert len(ax.texts) == 3
    assert f"{lines.loc['100 %', 'difference']:+.3f}" in ax.texts[2].get_text()
    figure.canvas.draw()
    with pytest.raises(DataError, match="100 %"):
        figures.freezing_plot(scores, table[table["row"] != "100 %"])


def test_a_share_that_was_not_run_is_left_out_of_the_plot():
    scores = _scores(methods=("0 %", "100 %"))
    table = tables.table_freezing(scores, dict.fromkeys(("0 %", "100 %"), "1 seed"), RUN)
    (ax,) = figures.freezing_plot(scores, table).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0 %\nn = 12", "100 %\nn = 12"]


def test_every_figure_of_the_ledger_for_this_paper_has_its_maker():
    ledger = manifest.artefacts()
    makers = ledger.loc[(ledger["paper"] == "ssl_nnunet") & (ledger["kind"] == "figure"), "maker"]
    assert len(makers) == 9
    assert [m for m in makers if not callable(getattr(figures, m.rsplit(".", 1)[1], None))] == []
