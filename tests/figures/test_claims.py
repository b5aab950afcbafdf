"""The forest plot and the bars of verdicts."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from strokelib.claims.pages import OUR_VERDICTS, PRINTED_VERDICTS
from strokelib.errors import DataError
from strokelib.figures import claims as figures
from strokelib.tables import PAPER_TITLES

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def table():
    columns = ["group", "rows", "score", "unit", "published", "effect", "low", "high", "mde", "resolves", "verdict"]
    lines = [
        ("alignment", "A − B", "dice", "1", 0.03, 0.02, 0.01, 0.03, 0.015, "yes", "supported"),
        ("alignment", "C − B", "dice", "1", 0.01, -0.02, -0.03, -0.01, 0.015, "no", "contradicted"),
        ("tissue", "D − E", "hd95_mm", "mm", 3.0, 1.0, -2.0, 4.0, 5.0, "no", "inconclusive"),
    ]
    return pd.DataFrame(lines, columns=columns).assign(n_patients=52, n_seeds=3)


def of_kind(ax, kind):
    return [line for line in ax.lines if line.get_marker() == kind]


def test_effects_printed_gains_and_detectable_effects_stand_at_their_values(table):
    ax = figures.forest(table, "papl").axes[0]
    assert [line.get_xdata()[0] for line in of_kind(ax, "o")] == [0.02, -0.02]
    assert [line.get_xdata()[0] for line in of_kind(ax, "D")] == [0.03, 0.01]
    assert [line.get_markerfacecolor() for line in of_kind(ax, "D")] == ["black", "none"]
    bands = [line.get_xdata() for line in ax.lines if line.get_color() == "0.88"]
    np.testing.assert_allclose(bands, [[-0.015, 0.015]] * 2)


def test_a_verdict_has_its_colour(table):
    ax = figures.forest(table, "papl").axes[0]
    assert [line.get_color() for line in of_kind(ax, "o")] == [
        figures.VERDICT_COLOURS["supported"],
        figures.VERDICT_COLOURS["contradicted"],
    ]


def test_units_do_not_share_an_axis(table):
    figure = figures.forest(table, "papl")
    assert [ax.get_xlabel() for ax in figure.axes] == ["gain (fraction)", "gain (mm)"]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["tissue", "D − E, hd95_mm"]
    (said,) = [text.get_text() for text in figure.axes[1].texts]
    assert said == "+1.0 (−2.0 to +4.0), n = 52, 3 seeds"


def test_everything_drawn_lies_within_the_axis(table):
    ax = figures.forest(table, "papl").axes[0]
    low, high = ax.get_xlim()
    assert low < -0.03
    assert high > 0.03


def test_one_wide_interval_is_cut_with_arrows_and_does_not_squeeze_the_others(table):
    many = pd.concat([table.iloc[:2]] * 4, ignore_index=True)
    wide = table.iloc[:1].assign(low=-0.9, high=0.8, group="wide")
    figure = figures.forest(pd.concat([many, wide], ignore_index=True), "papl")
    ax = figure.axes[0]
    assert ax.get_xlim()[1] == pytest.approx(1.12 * 0.03)
    (left,), (right,) = of_kind(ax, "<"), of_kind(ax, ">")
    assert -left.get_xdata()[0] == right.get_xdata()[0] == pytest.approx(0.985 * 1.12 * 0.03)
    assert left.get_ydata()[0] == 10  # two headings, eight lines, and it
    assert "ends beyond the axis" in [text.get_text() for text in figure.legends[0].texts]
    figure = figures.forest(many, "papl")
    assert not of_kind(figure.axes[0], "<")
    assert "ends beyond the axis" not in [text.get_text() for text in figure.legends[0].texts]


@pytest.mark.parametrize("spoil", [lambda t: t.iloc[:0], lambda t: t.assign(effect=np.nan)])
def test_a_claim_without_an_effect_is_refused(table, spoil):
    with pytest.raises(DataError, match="leave out what was not scored"):
        figures.forest(spoil(table), "papl")


def test_bars_are_as_long_as_the_counts():
    kinds = {"published": PRINTED_VERDICTS, "ours": OUR_VERDICTS}
    lines = [(s, p, w, 2 * i) for s, words in kinds.items() for p in PAPER_TITLES for i, w in enumerate(words)]
    figure = figures.verdict_bars(pd.DataFrame(lines, columns=["source", "paper", "verdict", "claims"]))
    for ax, words in zip(figure.axes, kinds.values(), strict=True):
        ends = max(bar.get_x() + bar.get_width() for bar in ax.patches)
        assert ends == sum(2 * i for i in range(len(words)))
        assert len(ax.patches) == len(words) * len(PAPER_TITLES)
