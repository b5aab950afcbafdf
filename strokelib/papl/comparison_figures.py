"""Rows of a table side by side: validation curves, Dice of every scan, and paired differences.

Blue and vermilion are the first and the second cohort; markers tell the status of a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.stats import bootstrap_ci

WIDTH_IN, LINE_IN, SMALL_PT = 7.2, 0.19, 6.5
COLUMNS, SMALLEST = 6, 0.01
COHORT_COLOURS = ("#0072B2", "#D55E00")
OTHER_MARKS = {"undertrained": "^", "did not learn": "x"}
MEASURE = "dice"


@dataclass(frozen=True)
class Curve:
    """A validation curve.

    Args:
        share: (n,), how much of the training was done, in (0, 1].
        values: (n,), validation Dice.
        status: Of the row.
    """

    share: np.ndarray
    values: np.ndarray
    status: str


@dataclass(frozen=True)
class Difference:
    """Mean paired difference of two rows with its 95 % interval; NaN where fewer than two scans have both.

    Args:
        name: What was added or changed.
        value: In the unit of the score.
        low: Lower end.
        high: Upper end.
        n: Scans.
        cohort: Their cohort.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    cohort: str = ""

    @property
    def verdict(self) -> str:
        """Where the interval lies: ``above 0``, ``below 0`` or ``inconclusive``."""
        return "above 0" if self.low > 0 else "below 0" if self.high < 0 else "inconclusive"

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"{self.name}: no difference, n = {self.n}"
        return f"{self.name}: {interval_text(self)}, n = {self.n}, {self.verdict}"


def interval_text(one: Difference, places: int = 3) -> str:
    """``+0.012 (-0.003 to +0.027)``, with a minus sign where there is one."""
    found = [f"{round(number, places) + 0.0:+.{places}f}" for number in (one.value, one.low, one.high)]
    return "{} ({} to {})".format(*found).replace("-", "−")


def curve_panels(curves: Mapping[str, Mapping[str, Curve]]) -> Figure:
    """Validation Dice over the training, a panel a row, a line a cohort; the last marker tells the row's status.

    Args:
        curves: Cohort -> row -> its curve; one or two cohorts.

    Raises:
        DataError: There is no curve.
    """
    names = list(dict.fromkeys(name for rows in curves.values() for name in rows))
    if not names:
        raise DataError("curves of a figure", found="none", wanted="one or more", next_step="train a row first")
    across = min(COLUMNS, len(names))
    down = math.ceil(len(names) / across)
    size = (WIDTH_IN, 1.02 * down + 0.55)
    figure, axes = plt.subplots(
        down, across, figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    said: set[str] = set()
    for ax, name in zip(axes.flat, names, strict=False):
        for colour, rows in zip(COHORT_COLOURS, curves.values(), strict=False):
            if name in rows:
                one = rows[name]
                ax.plot(one.share, one.values, color=colour, linewidth=1.1)
                ax.plot(one.share[-1:], one.values[-1:], _mark(one.status), color=colour, markersize=4.5)
                said.add(one.status)
        ax.set_title(name.replace(" (", "\n("), fontsize=SMALL_PT, pad=2, linespacing=1.05)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    axes[0, 0].set(xlim=(0, 1.06), xticks=(0, 0.5, 1), xticklabels=("0", "½", "1"))
    top = max(one.values.max() for of_cohort in curves.values() for one in of_cohort.values())
    axes[0, 0].set_ylim(-0.02, max(0.1, 1.15 * top))
    figure.supylabel("validation Dice", fontsize=8)
    figure.supxlabel("share of the training", fontsize=8)
    _legend(figure, list(curves), said)
    return figure


def dice_panels(
    scores: Mapping[str, pd.DataFrame],
    status: Mapping[str, Mapping[str, str]],
    references: Mapping[str, str],
    *,
    seed: int = 0,
) -> Figure:
    """Dice of every scan as a dot and the mean with its 95 % interval, a line a row, a panel a cohort.

    A vertical line stands at the mean of the best row that needs no network; rows of the table come first, in its
    order, then those.

    Args:
        scores: Cohort -> columns method, case, metric, value; an empty one has no panel.
        status: Cohort -> row -> its status.
        references: Methods without a network -> their names in the figure.
        seed: Of the resamples.

    Raises:
        DataError: No cohort has scores.
    """
    given = {cohort: of[of["metric"] == MEASURE] for cohort, of in scores.items() if len(of)}
    if not given:
        raise DataError("scores of a figure", found="none", wanted="one cohort or more", next_step="score a row first")
    order = sorted(dict.fromkeys(pd.concat(list(given.values()))["method"]), key=lambda row: row in references)
    size = (WIDTH_IN, LINE_IN * len(order) + 0.9)
    figure, axes = plt.subplots(1, len(given), figsize=size, layout="constrained", sharey=True, squeeze=False)
    said: set[str] = set()
    for number, (ax, (cohort, found)) in enumerate(zip(axes[0], given.items(), strict=True)):
        of_row = {row: found.loc[found["method"] == row, "value"].dropna().to_numpy() for row in order}
        for line, (row, values) in enumerate(of_row.items()):
            own = status[cohort].get(row, "")
            _dots(ax, line, values, COHORT_COLOURS[number % 2] if own else "0.35", _mark(own), seed)
            said |= {own} - {""}
        none = [values.mean() for row, values in of_row.items() if row in references and len(values)]
        if none:
            ax.axvline(max(none), color="0.35", linewidth=0.8, linestyle="--", zorder=0)
            ax.axhline(len(order) - len(none) - 0.5, color="0.8", linewidth=0.7)
        names = [references.get(row, row) for row in order]
        ax.set(yticks=range(len(order)), yticklabels=names, ylim=(len(order) - 0.4, -0.6), xlim=(-0.02, 1.0))
        ax.set(xlabel="Dice per scan", title=f"{cohort}, n = {found['case'].nunique()}")
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    _legend(figure, [], said, Line2D([], [], color="0.35", linewidth=0.8, linestyle="--", label="best without network"))
    return figure


def forest(groups: Mapping[str, Sequence[Difference]], *, label: str) -> Figure:
    """Mean paired differences with their 95 % intervals, a line each, under the headings of their groups.

    Args:
        groups: Heading -> differences, from top to bottom; of two cohorts, each has a colour.
        label: Name of the score.

    Raises:
        DataError: There is no difference.
    """
    lines = [one for of_group in groups.values() for one in of_group]
    if not lines:
        raise DataError("differences of a figure", found="none", wanted="one or more", next_step="compare two rows")
    cohorts = list(dict.fromkeys(one.cohort for one in lines if one.cohort))
    colours = dict(zip(cohorts, COHORT_COLOURS, strict=False))
    high = len(lines) + len(groups)
    figure, ax = plt.subplots(figsize=(WIDTH_IN, LINE_IN * high + 0.8), layout="constrained")
    ticks, place = {}, 0
    side = ax.get_yaxis_transform()
    for heading, of_group in groups.items():
        ticks[place] = heading
        for offset, one in enumerate(of_group, 1):
            line, colour = place + offset, colours.get(one.cohort, COHORT_COLOURS[0])
            ticks[line] = one.name
            text = "no difference" if math.isnan(one.value) else interval_text(one)
            ax.plot([one.low, one.high], [line, line], color=colour, linewidth=1.5, solid_capstyle="butt")
            ax.plot(one.value, line, "o", color=colour, markersize=4.2)
            ax.text(1.02, line, f"{text}, n = {one.n}", transform=side, fontsize=SMALL_PT, va="center")
        place += len(of_group) + 1
    ends = [abs(end) for one in lines for end in (one.low, one.high) if not math.isnan(end)]
    reach = 1.12 * max([SMALLEST, *ends])
    ax.axvline(0, color="0.4", linewidth=0.8, zorder=0)
    ax.set(xlim=(-reach, reach), ylim=(high - 0.4, -0.6), xlabel=label)
    ax.locator_params(axis="x", nbins=5)
    ax.set(yticks=list(ticks), yticklabels=list(ticks.values()))
    for tick, name in zip(ax.get_yticklabels(), ticks.values(), strict=True):
        tick.set_fontweight("bold" if name in groups else "normal")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if len(cohorts) > 1:
        _legend(figure, cohorts, set())
    return figure


def _mark(status: str) -> str:
    return OTHER_MARKS.get(status, "o")


def _dots(ax: Axes, line: int, values: np.ndarray, colour: str, mark: str, seed: int) -> None:
    """Scans scattered about a line by a fixed pattern, and their mean with its interval where there are two or more."""
    spread = 0.26 * np.sin(2.4 * np.arange(len(values)))
    ax.plot(values, line + spread, "o", color="0.6", markersize=1.8, markeredgewidth=0, zorder=1)
    if len(values) > 1:
        found = bootstrap_ci(values, seed=seed)
        ax.plot([found.low, found.high], [line, line], color="black", linewidth=1.5, solid_capstyle="butt", zorder=3)
        ax.plot(found.value, line, mark, color=colour, markersize=4.5, markeredgewidth=1.3, zorder=4)


def _legend(figure: Figure, cohorts: Sequence[str], said: set[str], *more: Line2D) -> None:
    lines = [Line2D([], [], color=c, label=name) for c, name in zip(COHORT_COLOURS, cohorts, strict=False)]
    words = [word for word in plotting.STATUS_COLOURS if word in said]
    lines += [Line2D([], [], color="0.2", linestyle="", marker=_mark(word), markersize=4, label=word) for word in words]
    handles = [*lines, *more]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
