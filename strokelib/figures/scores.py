"""Scores of methods, what scores mean, and the scoreboard of all artefacts."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from strokelib import plotting

WIDTH_IN = 7.2


def score_panels(
    panels: Mapping[str, tuple[pd.DataFrame, Mapping[str, tuple[float, float, float]]]], *, label: str
) -> Figure:
    """Scores by method, a panel a cohort.

    Args:
        panels: Title -> (columns ``method`` and ``value``; method -> (mean, low, high)), methods from top to bottom.
        label: Name of the score.
    """
    size = (WIDTH_IN, 2.6)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, (title, (scores, intervals)) in zip(axes[0], panels.items(), strict=True):
        plotting.scores_by_method(ax, scores, intervals, order=list(intervals), label=label)
        ax.set_title(title)
    return figure


def scoreboard_tiles(board: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """All tables and figures of the papers as tiles, coloured by status.

    Args:
        board: As :func:`strokelib.tables.scoreboard` makes it.
        titles: Paper key -> row label, in order.
    """
    short = board["artefact"].str.replace("Table ", "T ").str.replace("Figure ", "F ")
    tiles = {
        title: list(zip(short[board["paper"] == paper], board["status"][board["paper"] == paper], strict=True))
        for paper, title in titles.items()
    }
    figure, ax = plt.subplots(figsize=(WIDTH_IN, 2.0), layout="constrained")
    plotting.status_tiles(ax, tiles)
    present = [s for s in plotting.STATUS_COLOURS if s in set(board["status"])]
    handles = [Patch(facecolor=plotting.STATUS_COLOURS[s], edgecolor="0.5", label=s) for s in present]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def metrics_by_hand(
    directions: Mapping[str, np.ndarray],
    hd95: Mapping[str, float],
    shifted: pd.DataFrame,
    means: Mapping[str, float],
    resolved: Mapping[str, tuple[np.ndarray, np.ndarray]],
    test_sets: Mapping[str, int],
) -> Figure:
    """What scores depend on: three HD95s (A), Dice and size (B), per case and pooled (C), what n resolves (D).

    Args:
        directions: Name of a direction -> its surface distances in mm.
        hd95: Name of a convention -> its value in mm.
        shifted: Columns ``volume_ml`` and ``dice``: infarcts against themselves moved by one voxel.
        means: Name of a mean -> its value, of the same cases.
        resolved: Name of a spread -> patients and the smallest difference in Dice that they show.
        test_sets: Name of a test set -> its patients.
    """
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH_IN, 5.0), layout="constrained")
    plotting.directed_distances(axes[0, 0], directions, hd95)
    axes[0, 0].set(xlabel="distance to the other surface (mm)", ylabel="surface voxels")
    axes[0, 1].plot(shifted["volume_ml"], shifted["dice"], "o", markersize=3.5, color=plotting.PREDICTION_COLOUR)
    axes[0, 1].set(xscale="log", ylim=(0, 1), xlabel="volume of the infarct (mL)", ylabel="Dice after a shift of 2 mm")
    names = list(means)
    axes[1, 0].barh(names, [means[n] for n in names], color="0.75", height=0.6)
    for row, name in enumerate(names):
        axes[1, 0].text(means[name] + 0.01, row, f"{means[name]:.2f}", va="center", fontsize=7)
    axes[1, 0].set(xlim=(0, 1), xlabel="Dice of the same predictions")
    axes[1, 0].invert_yaxis()
    for (name, line), shade in zip(resolved.items(), ("0.65", "0.4", "0.0"), strict=False):
        axes[1, 1].plot(*line, color=shade, label=name)
    for name, n in test_sets.items():
        axes[1, 1].axvline(n, color=plotting.TRUTH_COLOUR, linewidth=0.8, zorder=0)
        axes[1, 1].text(
            n,
            0.98,
            f" {name}",
            rotation=90,
            ha="right",
            va="top",
            fontsize=6,
            transform=axes[1, 1].get_xaxis_transform(),
        )
    axes[1, 1].set(xscale="log", yscale="log", xlabel="patients in the test set", ylabel="smallest difference in Dice")
    axes[1, 1].legend(frameon=False, loc="upper right", title="SD of differences")
    for axis in (axes[0, 1].xaxis, axes[1, 1].xaxis, axes[1, 1].yaxis):
        plotting.plain_ticks(axis)
    for ax, letter in zip(axes.flat, "ABCD", strict=True):
        plotting.panel_letter(ax, letter)
    return figure
