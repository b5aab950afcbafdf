import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from strokelib.ssl_nnunet import box_plots

mpl.use("Agg")
VALUES = {"a": [0.0, 0.2, 0.4, 0.6, 0.8], "b": [0.1, 0.3, np.nan, 0.5, 0.9]}
TESTS = pd.DataFrame(
    [("a", "b", 0.2, 0.2), ("b", "c", 0.0004, 0.0012), ("a", "c", 0.02, 0.04)],
    columns=["first", "second", "p", "p_holm"],
)


@pytest.fixture
def ax():
    figure, axis = plt.subplots(figsize=(4, 3.3))
    yield axis
    plt.close(figure)


def _dots(ax):
    return [line for line in ax.lines if line.get_marker() == "o"]


@pytest.mark.parametrize(
    ("p", "said"),
    [(1.0, "ns"), (0.0501, "ns"), (0.05, "*"), (0.0101, "*"), (0.01, "**"), (0.0011, "**"), (0.001, "***"), (0, "***")],
)
def test_stars_are_the_usual_ones(p, said):
    assert box_plots.mark(p) == said


def test_a_box_holds_the_quartiles_a_dot_stands_for_each_scan_and_the_mean_is_a_diamond(ax):
    box_plots.score_boxes(ax, VALUES, label="Dice")
    box = ax.patches[0].get_path().vertices[:, 1]
    assert (box.min(), box.max()) == (pytest.approx(0.2), pytest.approx(0.6))
    assert [list(line.get_ydata()) for line in _dots(ax)] == [VALUES["a"], [0.1, 0.3, 0.5, 0.9]]
    means = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "D"]
    assert means == [pytest.approx(0.4), pytest.approx(0.45)]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a\nn = 5", "b\nn = 4"]
    assert ax.get_ylabel() == "Dice"


def test_dots_stay_over_their_box(ax):
    box_plots.score_boxes(ax, {"a": np.linspace(0, 1, 60), "b": [0.5]}, label="Dice")
    across = _dots(ax)[0].get_xdata()
    assert np.abs(across).max() < box_plots.BOX_WIDTH / 2


def test_a_method_without_any_value_keeps_its_place(ax):
    box_plots.score_boxes(ax, {"a": [np.nan], "b": [0.5, 0.6]}, label="Dice")
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a\nn = 0", "b\nn = 2"]
    assert len(ax.patches) == 1


def test_each_bracket_spans_its_two_boxes_above_the_last_one_with_both_p_values(ax):
    box_plots.score_boxes(ax, {name: [0.1, 1.0] for name in "abc"}, label="Dice")
    before = len(ax.lines)
    box_plots.brackets(ax, TESTS, ["a", "b", "c"])
    drawn = ax.lines[before:]
    spans = [(round(line.get_xdata()[0]), round(line.get_xdata()[-1])) for line in drawn]
    assert spans == [(0, 1), (1, 2), (0, 2)]
    heights = [max(line.get_ydata()) for line in drawn]
    assert heights == sorted(heights)
    assert min(min(line.get_ydata()) for line in drawn) > 1
    assert ax.get_ylim()[1] > heights[-1]
    said = [text.get_text() for text in ax.texts]
    assert said == ["ns  p = 0.200, Holm 0.200", "**  p < 0.001, Holm 0.001", "*  p = 0.020, Holm 0.040"]


def test_no_text_of_a_bracket_touches_another_or_its_neighbour_s_line(ax):
    box_plots.score_boxes(ax, {name: [0.1, 1.0] for name in "abc"}, label="Dice")
    before = len(ax.lines)
    box_plots.brackets(ax, TESTS, ["a", "b", "c"])
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    lines = [line.get_window_extent() for line in ax.lines[before:]]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
        assert not any(box.overlaps(line) for line in lines)


def test_methods_come_in_the_order_of_the_tests():
    assert box_plots.methods_of(TESTS) == ["a", "b", "c"]


def test_means_stand_over_their_dots_with_their_interval(ax):
    box_plots.means_over_dots(ax, VALUES, {"a": (0.4, 0.1, 0.7), "b": (0.45, np.nan, np.nan)})
    intervals = [list(line.get_ydata()) for line in ax.lines if line.get_linewidth() == 1.6]
    assert intervals[0] == [0.1, 0.7]
    means = [float(line.get_ydata()[0]) for line in ax.lines if line.get_markersize() == 5]
    assert means == [0.4, 0.45]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a\nn = 5", "b\nn = 4"]
