"""Rows of many tables beside each other: ranks with their cliques, agreement of volumes, what a test set resolves."""

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
from matplotlib.patches import Patch

from strokelib import plotting
from strokelib.claims.resolution import MEDIAN, QUANTILES, Resolution
from strokelib.errors import DataError
from strokelib.stats import BlandAltman, Estimate, Friedman, bland_altman

WIDTH_IN, LINE_IN, SMALL_PT = 7.2, 0.165, 6.5
PAPER_COLOURS = {
    "papl": "#0072B2",
    "adn": "#D55E00",
    "ssl_nnunet": "#009E73",
    "pseudo_dwi": "#CC79A7",
    "baseline": "#A66F00",
    "none": "0.45",
}
PAPER_NAMES = {"baseline": "baseline U-Net", "none": "no network"}
STATUS_MARKS = {"undertrained": "^", "did not learn": "x"}
PATIENTS = np.unique(np.geomspace(5, 400, 60).round().astype(int))
LEAST_SHOWN = 0.001


@dataclass(frozen=True)
class Volumes:
    """Predicted and true volumes of one row.

    Args:
        title: Cohort and row.
        predicted_ml: (n,).
        true_ml: (n,).
    """

    title: str
    predicted_ml: np.ndarray
    true_ml: np.ndarray

    @property
    def agreement(self) -> BlandAltman:
        """Of predicted minus true volume."""
        return bland_altman(self.predicted_ml, self.true_ml)


def critical_difference(
    table: pd.DataFrame, ranks: Friedman, title: str, *, labels: Mapping[str, str] | None = None
) -> Figure:
    """Mean ranks with the groups that the patients cannot tell apart, and mean Dice beside them.

    The picture of Demsar (2006), turned so that names have room: a row a line, best on top; a vertical bar joins rows
    whose mean ranks differ by less than the critical difference.

    Args:
        table: Columns row, paper, status, mean_rank, dice, dice_low, dice_high; best mean rank first.
        ranks: Of the same rows.
        title: Cohort and number of patients.
        labels: Row -> how it is written, where it is not its name.

    Raises:
        DataError: Table and ranks do not hold the same rows.
    """
    if len(table) != ranks.k or not np.allclose(sorted(ranks.mean_ranks), table["mean_rank"]):
        found, wanted = f"{len(table)} rows and {ranks.k} ranks", "the mean ranks of the table's rows, best first"
        raise DataError("ranks of a figure", found=found, wanted=wanted, next_step="rank the same scores")
    figure, axes = _rows_figure(table, title, labels, (3.0, 0.9, 2.6))
    for line, row in enumerate(table.itertuples()):
        _point(axes[0], line, row, row.mean_rank)
        if math.isfinite(row.dice):
            axes[2].plot([row.dice_low, row.dice_high], [line, line], color="0.25", linewidth=1.3)
            _point(axes[2], line, row, row.dice)
    place = {column: line for line, column in enumerate(np.argsort(ranks.mean_ranks, kind="stable"))}
    for number, clique in enumerate(ranks.cliques):
        lines = sorted(place[column] for column in clique)
        axes[1].plot([number] * 2, [lines[0] - 0.25, lines[-1] + 0.25], color="0.2", linewidth=2.4)
    axes[0].plot([ranks.k - ranks.critical_difference, ranks.k], [0, 0], color="black", linewidth=2.4)
    said = f"critical difference {ranks.critical_difference:.1f}"
    axes[0].text(ranks.k, 0.75, said, ha="right", va="center", fontsize=SMALL_PT)
    axes[0].set(xlabel="mean rank of Dice (1 is best)", xlim=(0.5, ranks.k + 0.5))
    axes[1].set(xlim=(-1, max(1, len(ranks.cliques))), xticks=[], xlabel="not told apart")
    axes[1].spines["bottom"].set_visible(False)
    axes[2].set(xlabel="mean Dice, 95 % CI")
    axes[2].set_xlim(left=-0.02 * axes[2].get_xlim()[1])
    return figure


def volume_agreement(table: pd.DataFrame, title: str, *, labels: Mapping[str, str] | None = None) -> Figure:
    """Bias and limits of agreement of volumes, intraclass and rank correlation, a row a line.

    Args:
        table: Columns row, paper, status and, each with ``_low`` and ``_high``, bias_ml, lower_ml, upper_ml,
            icc_agreement, icc_consistency and spearman.
        title: Cohort and number of patients.
        labels: Row -> how it is written, where it is not its name.
    """
    figure, axes = _rows_figure(table, title, labels, (3.0, 2.0, 2.0))
    for line, row in enumerate(table.itertuples()):
        for name in ("lower_ml", "upper_ml"):
            ends = [getattr(row, name + end) for end in ("_low", "_high")]
            axes[0].plot(ends, [line, line], color=plotting.LIMIT_COLOUR, alpha=0.35, linewidth=3.2)
            axes[0].plot(getattr(row, name), line, "|", color=plotting.LIMIT_COLOUR, markersize=6)
        for ax, name in ((axes[0], "bias_ml"), (axes[1], "icc_agreement"), (axes[2], "spearman")):
            ends = [getattr(row, name + end) for end in ("_low", "_high")]
            ax.plot(ends, [line, line], color="0.25", linewidth=1.3)
            _point(ax, line, row, getattr(row, name))
        axes[1].plot(row.icc_consistency, line, "o", color="0.25", markersize=3.6, markerfacecolor="none")
    axes[0].set(xlabel="predicted − true (mL): bias, limits")
    axes[1].set(xlabel="ICC(2,1); circle: ICC(3,1)", xlim=(-1, 1))
    axes[2].set(xlabel="Spearman's rho", xlim=(-1, 1))
    for ax in axes:
        ax.axvline(0, color="0.75", linewidth=0.7, zorder=0)
    return figure


def bland_altman_panels(panels: Sequence[Volumes]) -> Figure:
    """Difference of predicted and true volume over their mean, a panel a cohort.

    Args:
        panels: Of two patients or more each.

    Raises:
        DataError: There is no panel.
    """
    if not panels:
        raise DataError("panels of a figure", found="none", wanted="one or more", next_step="score more patients")
    down = math.ceil(len(panels) / 2)
    size = (WIDTH_IN, 2.5 * down + 0.3)
    figure, axes = plt.subplots(down, 2, figsize=size, layout="constrained", squeeze=False)
    for ax, one, letter in zip(axes.flat, panels, "ABCDEFGH", strict=False):
        found, mean = one.agreement, (one.predicted_ml + one.true_ml) / 2
        plotting.limits_of_agreement(ax, found, mean)
        ax.plot(mean, one.predicted_ml - one.true_ml, "o", color="0.25", markersize=3, markeredgewidth=0, zorder=3)
        limits = f"{found.lower.value:.0f} to {found.upper.value:.0f}".replace("-", "−")
        said = f"bias {_interval(found.bias)} mL, limits {limits} mL"
        ax.set_title(f"{one.title}\n{said}", fontsize=SMALL_PT)
        ax.set(xlabel="mean of both (mL)", ylabel="predicted − true (mL)")
        plotting.panel_letter(ax, letter)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    handles = [
        Line2D([], [], color=plotting.BIAS_COLOUR, linewidth=1.2, label="bias"),
        Line2D([], [], color=plotting.LIMIT_COLOUR, linewidth=1.2, linestyle="--", label="limits, bias ± 1.96 SD"),
        Patch(color="0.6", alpha=0.35, label="95 % CI of each"),
        Line2D([], [], color="0.35", linewidth=0.9, linestyle=":", label="least squares"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def resolution_panels(panels: Sequence[Resolution]) -> Figure:
    """The smallest difference of Dice that n patients show, and the differences that were printed on as many.

    Args:
        panels: One a cohort.

    Raises:
        DataError: There is no panel.
    """
    if not panels:
        raise DataError("panels of a figure", found="none", wanted="one or more", next_step="score more patients")
    down = math.ceil(len(panels) / 2)
    size = (WIDTH_IN, 2.35 * down + 0.4)
    how = {"layout": "constrained", "sharex": True, "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(down, 2, figsize=size, **how)
    shown: set[str] = set()
    for ax, one, letter in zip(axes.flat, panels, "ABCDEFGH", strict=False):
        low, middle, high = one.curve(PATIENTS)
        ax.fill_between(PATIENTS, low, high, color="0.6", alpha=0.3, linewidth=0)
        ax.plot(PATIENTS, middle, color="0.2", linewidth=1.2)
        for paper, part in one.published.assign(resolved=one.resolved).groupby("paper", sort=False):
            shown.add(paper)
            _printed(ax, part, PAPER_COLOURS[paper])
        counted = f"{one.resolved.sum()} of {len(one.published)} printed differences above the line"
        spread = f"SD {one.sd[MEDIAN]:.3f} over {one.pairs} pairs; {counted}" if one.pairs else "spread not measured"
        ax.set_title(f"{one.title}\n{spread}", fontsize=SMALL_PT)
        plotting.panel_letter(ax, letter)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    axes[0, 0].set(xscale="log", yscale="log", ylim=(LEAST_SHOWN, 1), xlim=(PATIENTS[0], PATIENTS[-1]))
    for axis in (axes[0, 0].xaxis, axes[0, 0].yaxis):
        plotting.plain_ticks(axis)
    figure.supxlabel("patients (printed differences: scans)", fontsize=8)
    figure.supylabel("difference of mean Dice", fontsize=8)
    ends = f"{QUANTILES[0]:.0%} to {QUANTILES[-1]:.0%}"
    handles = [
        Line2D([], [], color="0.2", linewidth=1.2, label="detectable, median pair"),
        Patch(color="0.6", alpha=0.3, label=f"{ends} of pairs"),
        *(Line2D([], [], color=c, marker="o", linestyle="", label=p) for p, c in PAPER_COLOURS.items() if p in shown),
        Line2D([], [], color="0.2", marker="o", linestyle="", markerfacecolor="none", label="printed, below the line"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _printed(ax: Axes, part: pd.DataFrame, colour: str) -> None:
    spread = 1 + 0.05 * np.sin(2.4 * np.arange(len(part)))
    heights = part["difference"].abs().clip(lower=1.15 * LEAST_SHOWN)
    for x, y, filled in zip(part["n"] * spread, heights, part["resolved"], strict=True):
        ax.plot(x, y, "o", color=colour, markersize=3.4, markerfacecolor=colour if filled else "none")


def _rows_figure(
    table: pd.DataFrame, title: str, labels: Mapping[str, str] | None, widths: Sequence[float]
) -> tuple[Figure, Sequence[Axes]]:
    """Axes side by side with the table's rows as lines, named at the left, and a legend of papers and statuses."""
    if table.empty:
        raise DataError("rows of a figure", found="none", wanted="one or more", next_step="score a row first")
    size = (WIDTH_IN, LINE_IN * len(table) + 1.05)
    how = {"layout": "constrained", "sharey": True, "width_ratios": widths}
    figure, axes = plt.subplots(1, len(widths), figsize=size, **how)
    names = [(labels or {}).get(name, name) for name in table["row"]]
    axes[0].set(yticks=range(len(table)), yticklabels=names, ylim=(len(table) - 0.4, -0.6))
    for label, paper in zip(axes[0].get_yticklabels(), table["paper"], strict=True):
        label.set(color=PAPER_COLOURS[paper], fontsize=SMALL_PT)
    for ax in axes:
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.grid(axis="y", color="0.93", linewidth=0.5)
        ax.set_axisbelow(True)
    axes[0].set_title(title, loc="left")
    papers = [paper for paper in PAPER_COLOURS if paper in set(table["paper"])]
    said = [word for word in plotting.STATUS_COLOURS if word in set(table["status"][table["paper"] != "none"])]
    handles = [
        Line2D([], [], color=PAPER_COLOURS[p], marker="o", linestyle="", label=PAPER_NAMES.get(p, p)) for p in papers
    ]
    handles += [
        Line2D([], [], color="0.2", marker=STATUS_MARKS.get(word, "o"), linestyle="", markersize=4, label=word)
        for word in said
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(8, len(handles)), frameon=False)
    return figure, axes


def _point(ax: Axes, line: int, row: tuple, value: float) -> None:
    colour = PAPER_COLOURS[row.paper]
    ax.plot(value, line, STATUS_MARKS.get(row.status, "o"), color=colour, markersize=4.2, markeredgewidth=1.2, zorder=4)


def _interval(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ({estimate.low:.1f} to {estimate.high:.1f})".replace("-", "−")
