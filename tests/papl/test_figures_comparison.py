"""Curves, dots and differences are drawn where they are, and a missing one leaves a gap."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from strokelib.errors import DataError
from strokelib.papl.comparison_figures import (
    COHORT_COLOURS,
    Curve,
    Difference,
    curve_panels,
    dice_panels,
    forest,
)
from strokelib.stats import bootstrap_ci

mpl.use("Agg")
AISD, XWHD = COHORT_COLOURS
RULE = {"hu_threshold": "HU threshold"}


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def _curve(last, status="1 seed"):
    return Curve(np.array([0.5, 1.0]), np.array([0.1, last]), status)


def _scores(rows):
    made = [(row, f"scan-{i}", "dice", v) for row, values in rows.items() for i, v in enumerate(values)]
    made += [(row, "scan-0", "jaccard", 0.9) for row in rows]
    return pd.DataFrame(made, columns=["method", "case", "metric", "value"])


def _legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_row_has_a_panel_and_a_cohort_a_colour_and_the_last_mark_tells_the_status():
    rows = {name: _curve(0.4) for name in ("U-Net (aligned)", *"bcdef")}
    other = {"U-Net (aligned)": _curve(0.3, "did not learn"), "PAPL": _curve(0.5, "undertrained")}
    figure = curve_panels({"aisd": rows, "xwhd": other})
    seen = [ax for ax in figure.axes if ax.get_visible()]
    assert len(seen) == 7
    assert seen[0].get_title() == "U-Net\n(aligned)"
    drawn = [(line.get_color(), line.get_marker(), list(line.get_ydata())) for line in seen[0].lines]
    assert drawn == [(AISD, "None", [0.1, 0.4]), (AISD, "o", [0.4]), (XWHD, "None", [0.1, 0.3]), (XWHD, "x", [0.3])]
    assert [line.get_marker() for line in seen[-1].lines] == ["None", "^"]
    assert _legend(figure) == ["aisd", "xwhd", "1 seed", "undertrained", "did not learn"]


def test_every_scan_is_a_dot_and_the_mean_stands_in_its_interval():
    values = np.array([0.1, 0.5, 0.6, 0.8])
    scores = _scores({"U-Net": values, "hu_threshold": [0.2, 0.2, 0.3, 0.1], "PAPL": values / 2})
    status = {"U-Net": "1 seed", "PAPL": "did not learn"}
    figure = dice_panels({"aisd": scores, "xwhd": scores.iloc[:0]}, {"aisd": status, "xwhd": {}}, RULE, seed=4)
    (ax,) = figure.axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["U-Net", "PAPL", "HU threshold"]
    dots, bar, mean = ax.lines[:3]
    np.testing.assert_allclose(dots.get_xdata(), values)
    assert np.abs(dots.get_ydata()).max() < 0.3
    found = bootstrap_ci(values, seed=4)
    np.testing.assert_allclose(bar.get_xdata(), [found.low, found.high])
    assert (mean.get_xdata()[0], mean.get_marker()) == (pytest.approx(0.5), "o")
    assert ax.lines[5].get_marker() == "x"
    best = next(line for line in ax.lines if line.get_linestyle() == "--")
    assert best.get_xdata()[0] == pytest.approx(0.2)
    assert ax.get_title() == "aisd, n = 4"
    assert _legend(figure) == ["1 seed", "did not learn", "best without network"]


def test_a_row_without_any_dice_keeps_its_line_so_that_both_panels_agree():
    first = _scores({"a": [0.1, 0.2], "b": [0.3, 0.4]})
    second = _scores({"a": [np.nan, np.nan], "b": [0.5, 0.7]})
    done = dict.fromkeys("ab", "1 seed")
    left, right = dice_panels({"aisd": first, "xwhd": second}, {"aisd": done, "xwhd": done}, {}).axes
    for ax, mean in ((left, 0.35), (right, 0.6)):
        marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if line.get_markersize() == 4.5}
        assert marks[1] == pytest.approx(mean)


def test_differences_stand_below_their_headings_with_their_intervals_in_words():
    groups = {
        "Table III": [
            Difference("U-Net", 0.02, -0.01, 0.05, 52, "aisd"),
            Difference("U-Net", -0.2, -0.3, -0.1, 41, "xwhd"),
        ],
        "Table IV": [Difference("FCM", np.nan, np.nan, np.nan, 1, "aisd")],
    }
    figure = forest(groups, label="difference")
    (ax,) = figure.axes
    labels = [(tick.get_text(), tick.get_fontweight()) for tick in ax.get_yticklabels()]
    bold, plain = "bold", "normal"
    assert labels == [("Table III", bold), ("U-Net", plain), ("U-Net", plain), ("Table IV", bold), ("FCM", plain)]
    bar, mean = ax.lines[:2]
    assert (list(bar.get_xdata()), list(bar.get_ydata()), bar.get_color()) == ([-0.01, 0.05], [1, 1], AISD)
    assert (list(mean.get_xdata()), ax.lines[3].get_color()) == ([0.02], XWHD)
    assert [text.get_text() for text in ax.texts] == [
        "+0.020 (−0.010 to +0.050), n = 52",
        "−0.200 (−0.300 to −0.100), n = 41",
        "no difference, n = 1",
    ]
    assert ax.get_xlim() == pytest.approx((-0.336, 0.336))
    assert _legend(figure) == ["aisd", "xwhd"]


def test_one_cohort_needs_no_legend():
    assert not forest({"a": [Difference("b", 0.1, 0.0, 0.2, 5, "aisd")]}, label="difference").legends


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.03, "above 0"), (-0.03, -0.01, "below 0"), (0.0, 0.1, "inconclusive"), (np.nan, np.nan, "inconclusive")],
)
def test_the_verdict_is_where_the_interval_lies(low, high, said):
    assert Difference("a", (low + high) / 2, low, high, 9).verdict == said


def test_a_difference_in_words_has_its_sign_its_interval_and_its_scans():
    assert str(Difference("FCM", -0.0123, -0.03, 0.00001, 52)) == "FCM: −0.012 (−0.030 to +0.000), n = 52, inconclusive"
    assert str(Difference("FCM", np.nan, np.nan, np.nan, 1)) == "FCM: no difference, n = 1"


@pytest.mark.parametrize(
    "draw",
    [lambda: curve_panels({"aisd": {}}), lambda: dice_panels({}, {}, {}), lambda: forest({"a": []}, label="d")],
    ids=["curves", "dots", "forest"],
)
def test_a_figure_of_nothing_is_refused(draw):
    with pytest.raises(DataError, match="none"):
        draw()
