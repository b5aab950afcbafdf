"""Pictures of ranks, volumes and resolution: what stands where."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from strokelib import stats
from strokelib.claims.resolution import MEDIAN, Resolution
from strokelib.errors import DataError
from strokelib.figures import agreement as figures

mpl.use("Agg")
ROWS, PAPERS = ["best", "middle", "worst", "rule"], ["papl", "adn", "papl", "none"]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def scores(n=40, steps=(0.3, 0.15, 0.14, -0.2)):
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.1, (n, 1)) + np.array(steps) + rng.normal(0, 0.05, (n, len(steps)))


def standing(found):
    order = np.argsort(found.mean_ranks)
    table = pd.DataFrame({"row": ROWS, "paper": PAPERS, "mean_rank": found.mean_ranks})
    table["status"] = ["1 seed", "undertrained", "did not learn", "done"]
    for name, value in (("dice", 0.4), ("bias_ml", -3.0), ("lower_ml", -30.0), ("upper_ml", 24.0)):
        table[name] = value
        table[name + "_low"], table[name + "_high"] = value - 0.1, value + 0.1
    for name in ("icc_agreement", "icc_consistency", "spearman"):
        table[name], table[name + "_low"], table[name + "_high"] = 0.5, 0.2, 0.8
    return table.iloc[order].reset_index(drop=True)


def test_ranks_stand_in_order_with_the_critical_difference_to_scale():
    found = stats.friedman(scores())
    figure = figures.critical_difference(standing(found), found, "aisd, n = 40")
    ranks, cliques, _ = figure.axes
    points = [line.get_xdata()[0] for line in ranks.lines if len(line.get_xdata()) == 1]
    np.testing.assert_allclose(points, sorted(found.mean_ranks))
    (bar,) = [line for line in ranks.lines if len(line.get_xdata()) == 2]
    assert np.ptp(bar.get_xdata()) == pytest.approx(found.critical_difference)
    assert len(cliques.lines) == len(found.cliques)


def test_a_clique_joins_the_lines_of_its_rows():
    found = stats.friedman(scores())
    assert found.cliques == ((1, 2),)
    figure = figures.critical_difference(standing(found), found, "x")
    (bar,) = figure.axes[1].lines
    assert np.round(bar.get_ydata()).tolist() == [1, 2]


def test_ranks_of_other_scores_are_refused():
    found = stats.friedman(scores())
    with pytest.raises(DataError, match="rank the same scores"):
        figures.critical_difference(standing(found).iloc[1:], found, "x")
    with pytest.raises(DataError, match="rank the same scores"):
        figures.critical_difference(standing(found).assign(mean_rank=1.0), found, "x")


def test_rows_are_named_by_their_labels_in_the_colour_of_their_paper():
    found = stats.friedman(scores())
    figure = figures.volume_agreement(standing(found), "x", labels={"best": "F_o"})
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["F_o", "middle", "worst", "rule"]
    assert [label.get_color() for label in labels] == [figures.PAPER_COLOURS[paper] for paper in PAPERS]


def test_bias_and_limits_stand_at_their_values():
    found = stats.friedman(scores())
    figure = figures.volume_agreement(standing(found), "x")
    at = {round(line.get_xdata()[0], 3) for line in figure.axes[0].lines if len(line.get_xdata()) == 1}
    assert at == {-30.0, 24.0, -3.0}


def test_a_panel_shows_every_patient_and_its_limits():
    rng = np.random.default_rng(1)
    true = rng.uniform(1, 60, 20)
    panels = [figures.Volumes(f"cohort {i}", true + rng.normal(2, 5, 20), true) for i in range(3)]
    figure = figures.bland_altman_panels(panels)
    first, *_, last = figure.axes
    dots = first.lines[-1]
    np.testing.assert_allclose(dots.get_ydata(), panels[0].predicted_ml - true)
    lines = [line.get_ydata()[0] for line in first.lines[:3]]
    agreement = panels[0].agreement
    np.testing.assert_allclose(lines, [agreement.lower.value, agreement.bias.value, agreement.upper.value])
    assert not last.get_visible()


def test_a_printed_difference_is_filled_only_where_it_could_have_been_shown():
    one = Resolution.of("aisd", 52, [0.12], "aisd")
    figure = figures.resolution_panels([one])
    ax = figure.axes[0]
    dots = [line for line in ax.lines if len(line.get_xdata()) == 1]
    filled = [line.get_markerfacecolor() != "none" for line in dots]
    assert len(dots) == len(one.published)
    assert sum(filled) == one.resolved.sum()
    np.testing.assert_allclose(ax.lines[0].get_ydata(), one.curve(figures.PATIENTS)[MEDIAN])
    assert f"{one.resolved.sum()} of {len(one.published)}" in ax.get_title()


def test_a_cohort_without_a_measured_spread_says_so():
    figure = figures.resolution_panels([Resolution.of("isles2018", 1, [], "isles2018")])
    assert "spread not measured" in figure.axes[0].get_title()


@pytest.mark.parametrize("draw", [figures.bland_altman_panels, figures.resolution_panels])
def test_no_panel_is_an_error(draw):
    with pytest.raises(DataError, match="score more patients"):
        draw([])
