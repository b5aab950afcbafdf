"""Explanations of several methods on the same heads: maps, features in the plane, and the tests of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.figures.image_grids import PictureRow, image_grid

WIDTH_IN = 7.2
COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#D55E00")
KIND_COLOURS = ("#D55E00", "#0072B2", "0.6")
READ_COLOURS = ("black", "#009E73", "#CC79A7")
MARKS = ("o", "s", "^", "D")
CHANCE = "0.85"


def explanation_grid(rows: Sequence[PictureRow]) -> Figure:
    """One head, a method a row: what it sees, what it finds, and its attributions against each baseline.

    Args:
        rows: Pictures with the reference outlined, all on the grid of one head.
    """
    return image_grid(rows, key=("reference", "prediction"))


def features_in_the_plane(
    panels: Mapping[str, np.ndarray], kinds: np.ndarray, votes: pd.DataFrame, *, what: Sequence[str]
) -> Figure:
    """Patches in the plane of t-SNE, a panel a method (a to d), and how often others' patches vote right (e).

    Args:
        panels: Method -> (n, 2), in the order of ``votes``.
        kinds: (n,) what each patch is.
        votes: Columns method, what, n, ours, ours_low, ours_high, chance_low, chance_high.
        what: What is compared, the features drawn first; one bar each.

    Raises:
        DataError: A panel has another number of patches.
    """
    if not panels or any(len(places) != len(kinds) for places in panels.values()):
        found = {name: len(places) for name, places in panels.items()}
        step = "read the same patches for every method"
        raise DataError("panels", found=found, wanted=f"{len(kinds)} patches each", next_step=step)
    figure = plt.figure(figsize=(WIDTH_IN, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, len(panels), height_ratios=(1, 1.15))
    names = list(dict.fromkeys(kinds.tolist()))
    looks = dict(zip(names, KIND_COLOURS, strict=False))
    order = np.random.default_rng(0).permutation(len(kinds))  # in random order, or one kind would cover the others
    for number, (title, places) in enumerate(panels.items()):
        ax = figure.add_subplot(grid[0, number])
        ax.scatter(*places[order].T, s=6, c=[looks[kind] for kind in kinds[order]], alpha=0.75, linewidths=0)
        ax.set(title=title, xticks=[], yticks=[])
        ax.spines[["top", "right"]].set_visible(True)
        for spine in ax.spines.values():
            spine.set(color="0.6", linewidth=0.6)
        plotting.panel_letter(ax, "abcdefgh"[number])
    ax = figure.add_subplot(grid[1, :])
    handles = _votes(ax, votes, list(panels), what)
    plotting.panel_letter(ax, "abcdefgh"[len(panels)])
    dots = [Line2D([], [], linestyle="", marker="o", markersize=4, color=looks[n], label=n) for n in names]
    figure.legend(handles=[*dots, *handles], loc="outside upper center", ncols=4, frameon=False, handletextpad=0.4)
    return figure


def _votes(ax: Axes, votes: pd.DataFrame, methods: Sequence[str], what: Sequence[str]) -> list[Line2D | Patch]:
    """Share voted right with its interval, and chance as a grey bar; methods from left to right."""
    for place, method in enumerate(methods):
        for number, name in enumerate(what):
            row = votes[(votes["method"] == method) & (votes["what"] == name)].iloc[0]
            x = place + 0.24 * (number - (len(what) - 1) / 2)
            ax.plot([x, x], [row["chance_low"], row["chance_high"]], color=CHANCE, linewidth=9, solid_capstyle="butt")
            _interval(ax, x, row["ours"], row["ours_low"], row["ours_high"], READ_COLOURS[number], MARKS[number])
    said = f"patches voted right\n({votes['n'].max()} heads, 95 % CI)"
    ax.set(xticks=range(len(methods)), xticklabels=methods, ylabel=said, ylim=(0, 1))
    ax.tick_params(axis="x", length=0)
    looks = zip(what, READ_COLOURS, MARKS, strict=False)
    lines = [Line2D([], [], linestyle="", marker=m, color=c, markersize=4, label=n) for n, c, m in looks]
    return [*lines, Patch(color=CHANCE, label="shuffled labels, 95 %")]


def _interval(ax: Axes, x: float, value: float, low: float, high: float, colour: str, mark: str) -> None:
    if np.isfinite([low, high]).all():
        ax.plot([x, x], [low, high], color=colour, linewidth=1.3, zorder=2)
    ax.plot(x, value, mark, color=colour, markersize=4.5, zorder=3)


def randomised_layers(
    scores: pd.DataFrame, table: pd.DataFrame, *, metrics: Sequence[str], controls: Mapping[str, str]
) -> Figure:
    """How alike attributions stay while a network's layers are drawn anew from its output down, a panel a metric.

    Args:
        scores: Columns method, share, what, case, metric, value; of every head.
        table: Columns method, share, what, metric, ours: means of these.
        metrics: A panel each.
        controls: ``what`` of maps that no such network made -> mark.
    """
    figure, axes = plt.subplots(1, len(metrics), figsize=(WIDTH_IN, 2.8), layout="constrained", squeeze=False)
    methods = list(dict.fromkeys(table["method"]))
    for ax, metric, letter in zip(axes[0], metrics, "abcd", strict=False):
        for number, method in enumerate(methods):
            means = table[(table["method"] == method) & (table["metric"] == metric)]
            dots = scores[(scores["method"] == method) & (scores["metric"] == metric) & scores["share"].notna()]
            line = means[means["share"].notna()].sort_values("share")
            colour, shift = COLOURS[number], 0.015 * (number - 1.5)
            ax.plot(dots["share"] + shift, dots["value"], ".", color=colour, markersize=3, alpha=0.45)
            ax.plot([0, *line["share"]], [1, *line["ours"]], "-o", color=colour, markersize=3.5, linewidth=1.1)
            for place, (what, mark) in enumerate(controls.items()):
                values = means[means["what"] == what]["ours"].dropna()
                ax.plot(np.full(len(values), 1.16 + 0.13 * place + shift), values, mark, color=colour, markersize=5)
        ax.axhline(0, color="0.8", linewidth=0.7, zorder=0)
        ax.axvline(1.08, color="0.8", linewidth=0.7, zorder=0)
        ticks = [0, 0.5, 1, *(1.16 + 0.13 * k for k in range(len(controls)))]
        heads = scores.loc[scores["metric"] == metric, "case"].nunique()
        said = f"share of the layers drawn anew ({heads} {'head' if heads == 1 else 'heads'})"
        ax.set(xlabel=said, ylabel=metric, xticks=ticks)
        ax.set_xticklabels(["0", "0.5", "1", *"xyz"[: len(controls)]])
        plotting.panel_letter(ax, letter)
    handles = [Line2D([], [], color=COLOURS[n], marker="o", markersize=3.5, label=m) for n, m in enumerate(methods)]
    for (what, mark), letter in zip(controls.items(), "xyz", strict=False):
        handles.append(Line2D([], [], linestyle="", color="0.4", marker=mark, markersize=5, label=f"{letter}: {what}"))
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False)
    return figure


def pointing_panels(table: pd.DataFrame, *, baselines: Sequence[str], networks: Mapping[str, str]) -> Figure:
    """How much more of the attributions lies in the infarct than of the volume, a panel a baseline.

    Args:
        table: Columns method, network, baseline, n, difference, difference_low, difference_high.
        baselines: A panel each.
        networks: ``network`` -> colour, from above.
    """
    figure, axes = plt.subplots(
        1, len(baselines), figsize=(WIDTH_IN, 2.7), layout="constrained", sharey=True, sharex=True, squeeze=False
    )
    methods = list(dict.fromkeys(table["method"]))
    for ax, baseline, letter in zip(axes[0], baselines, "abcd", strict=False):
        for row, method in enumerate(methods):
            for number, (network, colour) in enumerate(networks.items()):
                found = table[
                    (table["method"] == method) & (table["network"] == network) & (table["baseline"] == baseline)
                ]
                if len(found):
                    one, y = found.iloc[0], row + 0.22 * (number - (len(networks) - 1) / 2)
                    ax.plot([one["difference_low"], one["difference_high"]], [y, y], color=colour, linewidth=1.3)
                    ax.plot(one["difference"], y, MARKS[number], color=colour, markersize=4.5)
        ax.axvline(0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        ax.set(title=f"baseline: {baseline}", yticks=range(len(methods)), ylim=(len(methods) - 0.5, -0.5))
        ax.set_yticklabels(methods)
        ax.tick_params(axis="y", length=0)
        plotting.panel_letter(ax, letter)
    axes[0, len(baselines) // 2].set_xlabel("share of attributions in the infarct minus share of its volume (95 % CI)")
    heads = {network: table.loc[table["network"] == network, "n"].max() for network in networks}
    said = {network: f"{network} (n = {n})" for network, n in heads.items()}
    looks = zip(networks.items(), MARKS, strict=False)
    handles = [Line2D([], [], color=c, marker=mark, markersize=4.5, label=said[name]) for (name, c), mark in looks]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure
