"""Boxes and dots of one score by method, with brackets that hold the tests of every two methods. One axis at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from strokelib.ssl_nnunet.estimates import p_text

BOX_COLOURS = ("#999999", "#009E73", "#56B4E9", "#CC79A7")
MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
LEGEND = ("bars: median, diamonds: mean", "ns: p > 0.05, *: p ≤ 0.05, **: p ≤ 0.01, ***: p ≤ 0.001, after Holm")
SMALL_PT = 6.5
BOX_WIDTH, JITTER = 0.5, 0.13
FIRST_BRACKET, BRACKET_STEP, TICK = 1.06, 0.13, 0.02


def mark(p: float) -> str:
    """``ns`` above 0.05, then one, two or three stars from 0.05, 0.01 and 0.001 downwards."""
    return next((stars for limit, stars in MARKS if p <= limit), "ns")


def methods_of(tests: pd.DataFrame) -> list[str]:
    """Methods in the order in which the columns ``first`` and ``second`` name them."""
    return list(dict.fromkeys(tests[["first", "second"]].to_numpy().ravel()))


def score_boxes(ax: Axes, values: Mapping[str, Sequence[float]], *, label: str) -> Axes:
    """A box, a dot a scan and the mean, a column a method.

    Args:
        ax: Axis to draw on.
        values: Method -> one value a scan in [0, 1]; NaN is left out of the box and of the number of scans.
        label: Name of the score.
    """
    ticks = []
    for at, (name, of_scans) in enumerate(values.items()):
        there = np.asarray(of_scans, float)
        there = there[~np.isnan(there)]
        ticks.append(f"{name}\nn = {len(there)}")
        if not len(there):
            continue
        line = {"color": "0.25", "linewidth": 0.8}
        look = {"whiskerprops": line, "capprops": line, "medianprops": {"color": "black", "linewidth": 1.4}}
        look["boxprops"] = {"facecolor": BOX_COLOURS[at % len(BOX_COLOURS)], "edgecolor": "0.25", "linewidth": 0.6}
        where = {"positions": [at], "widths": BOX_WIDTH, "manage_ticks": False}
        ax.boxplot(there, showfliers=False, patch_artist=True, **where, **look)
        jitter = JITTER * np.sin(np.arange(len(there)) * 2.4)
        ax.plot(at + jitter, there, "o", color="black", markersize=2.2, alpha=0.6, markeredgewidth=0, zorder=3)
        ax.plot(
            at, there.mean(), "D", color="white", markeredgecolor="black", markersize=4, markeredgewidth=0.7, zorder=4
        )
    ax.set(xticks=range(len(values)), xticklabels=ticks, xlim=(-0.6, len(values) - 0.4), ylim=(-0.02, 1.02))
    ax.set(yticks=np.linspace(0, 1, 6), ylabel=label)
    ax.tick_params(axis="x", length=0)
    ax.spines["left"].set_bounds(0, 1)
    return ax


def brackets(ax: Axes, tests: pd.DataFrame, methods: Sequence[str]) -> Axes:
    """A bracket a test above the boxes, one above the other, with its mark and both p values.

    Args:
        ax: From :func:`score_boxes`.
        tests: Columns ``first``, ``second``, ``p`` and ``p_holm``; the first row lowest.
        methods: Columns of the axis from left to right.
    """
    for level, test in enumerate(tests.itertuples()):
        left, right = sorted(methods.index(name) for name in (test.first, test.second))
        left, right, height = left + 0.04, right - 0.04, FIRST_BRACKET + BRACKET_STEP * level
        ends = [height - TICK, height, height, height - TICK]
        ax.plot([left, left, right, right], ends, color="0.2", linewidth=0.8, clip_on=False)
        said = f"{mark(test.p_holm)}  p {p_text(test.p)}, Holm {p_text(test.p_holm).removeprefix('= ')}"
        ax.text((left + right) / 2, height + 0.01, said, ha="center", va="bottom", fontsize=SMALL_PT)
    ax.set_ylim(top=FIRST_BRACKET + BRACKET_STEP * len(tests))
    return ax


def means_over_dots(
    ax: Axes, values: Mapping[str, Sequence[float]], means: Mapping[str, tuple[float, float, float]]
) -> Axes:
    """A dot a scan and the mean with its interval, a column a setting.

    Args:
        ax: Axis to draw on.
        values: Setting -> one value a scan.
        means: Setting -> mean, low and high; NaN where there is none.
    """
    ticks = []
    for at, (name, of_scans) in enumerate(values.items()):
        there = np.asarray(of_scans, float)
        there = there[~np.isnan(there)]
        ticks.append(f"{name}\nn = {len(there)}")
        jitter = JITTER * np.sin(np.arange(len(there)) * 2.4)
        ax.plot(at + jitter, there, "o", color="0.65", markersize=2.4, markeredgewidth=0, zorder=1)
        mean, low, high = means[name]
        ax.plot([at, at], [low, high], color="black", linewidth=1.6, solid_capstyle="butt", zorder=3)
        ax.plot(at, mean, "o", color=BOX_COLOURS[2], markeredgecolor="black", markersize=5, zorder=4)
    ax.set(xticks=range(len(values)), xticklabels=ticks, xlim=(-0.5, len(values) - 0.5))
    ax.tick_params(axis="x", length=0)
    return ax
