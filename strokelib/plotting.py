"""Draw one axis at a time: ``plotting.something(ax, data) -> ax``. Nothing here computes a result or saves a file.

Colours stand for the same thing in every figure: orange outlines the reference, blue the prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from strokelib.stats import BlandAltman

ERROR_FLOOR = 0.01
TRUTH_COLOUR = "#E69F00"
PREDICTION_COLOUR = "#56B4E9"
BIAS_COLOUR, LIMIT_COLOUR = "#0072B2", "#D55E00"
STATUS_COLOURS = {
    "done": "#009E73",
    "1 seed": "#56B4E9",
    "undertrained": "#F0E442",
    "did not learn": "#D55E00",
    "not testable here": "#CC79A7",
    "hidden test set": "#999999",
    "not yet": "#ECECEC",
}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 100,
    "savefig.facecolor": "white",
}
mpl.rcParams.update(STYLE)


def ct_slice(
    ax: Axes, image_hu: np.ndarray, *, spacing_yx: tuple[float, float], window_hu: tuple[float, float] = (0, 80)
) -> Axes:
    """One axial CT slice, radiological display (the patient's right at the image's left).

    Args:
        ax: Axis to draw on.
        image_hu: (H, W) in HU, LPS order.
        spacing_yx: (dy, dx) in mm, for the aspect.
        window_hu: Lower and upper end of the grey scale.
    """
    aspect = spacing_yx[0] / spacing_yx[1]
    ax.imshow(image_hu, cmap="gray", vmin=window_hu[0], vmax=window_hu[1], aspect=aspect, interpolation="nearest")
    return bare(ax)


def value_map(
    ax: Axes, values: np.ndarray, *, spacing_yx: tuple[float, float], limits: tuple[float, float], cmap: str
) -> Axes:
    """A map of values on a slice (H, W), for example a probability in [0, 1]."""
    aspect = spacing_yx[0] / spacing_yx[1]
    ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect=aspect, interpolation="nearest")
    return bare(ax)


def outline(ax: Axes, mask: np.ndarray, colour: str, *, width: float = 1.1, style: str = "-") -> Axes:
    """The outline of a binary mask (H, W); an empty mask draws nothing."""
    if mask.any():
        ax.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=[width], linestyles=[style])
    return ax


def midline(ax: Axes, top_xy: tuple[float, float], bottom_xy: tuple[float, float], *, colour: str = "#CC79A7") -> Axes:
    """A line between two points given in pixels (x, y)."""
    ax.plot([top_xy[0], bottom_xy[0]], [top_xy[1], bottom_xy[1]], color=colour, linewidth=0.9, linestyle="--")
    return ax


def bare(ax: Axes) -> Axes:
    """No ticks and no frame, for pictures."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def panel_letter(ax: Axes, letter: str) -> Axes:
    """A bold letter at the upper left, outside the axis."""
    ax.annotate(
        letter,
        (0, 1),
        xytext=(-3, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        fontweight="bold",
        fontsize=10,
        ha="right",
    )
    return ax


def scores_by_method(
    ax: Axes,
    scores: pd.DataFrame,
    intervals: Mapping[str, tuple[float, float, float]],
    *,
    order: Sequence[str],
    label: str,
) -> Axes:
    """Every case as a dot, a method a row, with its mean and confidence interval.

    Args:
        ax: Axis to draw on.
        scores: Columns ``method`` and ``value``, one row a case and method.
        intervals: Method -> (mean, low, high).
        order: Methods from top to bottom.
        label: Name of the score, with its unit.
    """
    sns.stripplot(
        scores, x="value", y="method", order=list(order), ax=ax, color="0.65", size=2.6, jitter=0.22, zorder=1
    )
    for row, method in enumerate(order):
        mean, low, high = intervals[method]
        ax.plot([low, high], [row, row], color="black", linewidth=1.6, zorder=3, solid_capstyle="butt")
        ax.plot(mean, row, "o", color=PREDICTION_COLOUR, markeredgecolor="black", markersize=5, zorder=4)
    ax.set(xlabel=label, ylabel="")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return ax


def curves(ax: Axes, lines: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Axes:
    """Curves of embedded heads in grey and, on top, those of real scans (names that begin with ``real``)."""
    for name, (x, y) in sorted(lines.items(), key=lambda item: item[0].startswith("real")):
        real = name.startswith("real")
        ax.plot(x, y, color=TRUTH_COLOUR if real else "0.7", linewidth=1.6 if real else 0.8)
    return ax


def directed_distances(ax: Axes, directions: Mapping[str, np.ndarray], marks: Mapping[str, float]) -> Axes:
    """Histograms of surface distances, logarithmic in number, with named marks.

    Args:
        ax: Axis to draw on.
        directions: Name -> distances in mm, one a surface voxel.
        marks: Name -> a distance in mm.
    """
    colours = (PREDICTION_COLOUR, TRUTH_COLOUR)
    top = max(float(v.max()) for v in directions.values())
    for (name, values), colour in zip(directions.items(), colours, strict=False):
        ax.hist(values, bins=np.linspace(0, top, 41), histtype="step", color=colour, label=name)
    for (name, value), style in zip(marks.items(), ("-", "--", ":"), strict=False):
        ax.axvline(value, color="0.2", linestyle=style, linewidth=1.0, label=f"{name}: {value:.1f} mm")
    ax.set(yscale="log")
    ax.legend(framealpha=0.9, edgecolor="none", facecolor="white")
    return ax


def plain_ticks(axis: mpl.axis.Axis) -> None:
    """Numbers such as 0.1, 1 and 100 instead of powers of ten on a logarithmic axis."""
    axis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def points_by_kind(ax: Axes, points: pd.DataFrame, x: str, y: str, *, kind: str = "kind") -> Axes:
    """One dot a row, a colour a kind; kinds that begin with ``real`` are larger diamonds."""
    colours = (PREDICTION_COLOUR, TRUTH_COLOUR, "0.5", "#009E73")
    for colour, (name, part) in zip(colours, points.groupby(kind), strict=False):
        real = str(name).startswith("real")
        ax.plot(part[x], part[y], "D" if real else "o", color=colour, markersize=6 if real else 3, label=str(name))
    return ax


def shares(ax: Axes, labels: Mapping[str, pd.Series]) -> Axes:
    """How often each label occurs in each series, as bars side by side."""
    kinds = sorted(set().union(*(set(values) for values in labels.values())))
    for number, (name, values) in enumerate(labels.items()):
        found = [(values == kind).mean() for kind in kinds]
        colour = "0.6" if number == 0 else PREDICTION_COLOUR
        ax.bar(np.arange(len(kinds)) + 0.4 * number, found, 0.38, color=colour, label=f"{name}, n = {len(values)}")
    ax.set(xticks=np.arange(len(kinds)) + 0.2, xticklabels=kinds)
    ax.legend(frameon=False, loc="upper right", handlelength=1.0)
    return ax


ANATOMY_COLOURS = {"A": "#56B4E9", "B": "#E69F00"}


def errors_by_way(ax: Axes, errors: pd.DataFrame, value: str, ways: Sequence[str], *, label: str) -> Axes:
    """Every measurement as a dot, a way a row, anatomies apart, the median as a bar; logarithmic axis.

    Args:
        ax: Axis to draw on.
        errors: Columns ``way``, ``anatomy`` and ``value``'s.
        value: Column drawn.
        ways: From top to bottom.
        label: Name of the error, with its unit.
    """
    for row, way in enumerate(ways):
        for place, (anatomy, colour) in enumerate(ANATOMY_COLOURS.items()):
            found = errors[(errors["way"] == way) & (errors["anatomy"] == anatomy)][value].dropna().to_numpy()
            found = np.maximum(found, ERROR_FLOOR)
            height = row - 0.18 + 0.36 * place
            jitter = height + 0.09 * np.sin(np.arange(len(found)) * 2.4)
            name = anatomy if row == 0 else None
            ax.plot(found, jitter, "o", color=colour, markersize=2.2, alpha=0.7, label=name)
            if len(found):
                ax.plot([np.median(found)] * 2, [height - 0.15, height + 0.15], color="black", linewidth=1.4)
    ax.set(xscale="log", xlabel=label, yticks=range(len(ways)), yticklabels=list(ways), ylim=(len(ways) - 0.5, -0.5))
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return ax


def training_history(
    ax: Axes, history: pd.DataFrame, *, loss: str, score: str | None = None, score_label: str = ""
) -> Axes:
    """Training loss over steps and, at the right, the validation score (columns of ``history``, index ``step``)."""
    smooth = history[loss].dropna().rolling(10, min_periods=1).mean()
    ax.plot(smooth.index, smooth, color="0.4", linewidth=1.0, label="training loss (mean of 10 steps)")
    ax.set(xlabel="step", ylabel="training loss")
    if score is not None:
        right = ax.twinx()
        values = history[score].dropna()
        right.plot(values.index, values, "o-", color=PREDICTION_COLOUR, markersize=3, linewidth=1.0)
        right.set_ylabel(score_label, color=PREDICTION_COLOUR)
        right.tick_params(axis="y", colors=PREDICTION_COLOUR)
        right.spines["right"].set(visible=True, color=PREDICTION_COLOUR)
    return ax


def volumes(ax: Axes, truth_ml: np.ndarray, predicted_ml: np.ndarray) -> Axes:
    """Predicted against reference volume in mL, one dot a case, and the line of identity; cube-root axes."""
    top = max(float(np.nanmax(truth_ml)), float(np.nanmax(predicted_ml)), 1.0) * 1.1
    ax.plot([0, top], [0, top], color="0.6", linewidth=0.8, linestyle="--")
    ax.plot(
        truth_ml, predicted_ml, "o", color=PREDICTION_COLOUR, markeredgecolor="black", markeredgewidth=0.4, markersize=4
    )
    ticks = [t for t in (0, 1, 10, 50, 200, 500) if t <= top]
    for setter in (ax.set_xscale, ax.set_yscale):
        setter("function", functions=(np.cbrt, lambda v: np.power(v, 3)))
    ax.set(
        xlim=(0, top),
        ylim=(0, top),
        xticks=ticks,
        yticks=ticks,
        xlabel="reference volume (mL)",
        ylabel="predicted volume (mL)",
    )
    ax.set_box_aspect(1)
    return ax


def limits_of_agreement(ax: Axes, found: BlandAltman, mean: np.ndarray) -> Axes:
    """Bias and limits of agreement with their intervals, and the least-squares line of the differences.

    Args:
        ax: Axis to draw on.
        found: Of the differences.
        mean: (n,), mean of both measurements of each patient, in mL.
    """
    for estimate in (found.lower, found.bias, found.upper):
        colour, style = (BIAS_COLOUR, "-") if estimate is found.bias else (LIMIT_COLOUR, "--")
        ax.axhspan(estimate.low, estimate.high, color=colour, alpha=0.14, linewidth=0, zorder=0)
        ax.axhline(estimate.value, color=colour, linewidth=1.2, linestyle=style, zorder=1)
    if np.isfinite(found.slope.value):
        ends = np.array([mean.min(), mean.max()])
        line = found.bias.value + found.slope.value * (ends - mean.mean())
        ax.plot(ends, line, color="0.35", linewidth=0.9, linestyle=":", zorder=2)
    return ax


def status_tiles(ax: Axes, rows: Mapping[str, Sequence[tuple[str, str]]]) -> Axes:
    """One tile an artefact, one row a paper.

    Args:
        ax: Axis to draw on.
        rows: Row label -> list of (short label, status).
    """
    for number, tiles in enumerate(rows.values()):
        for column, (label, status) in enumerate(tiles):
            ax.add_patch(
                mpl.patches.Rectangle(
                    (column, number), 0.92, 0.86, facecolor=STATUS_COLOURS[status], edgecolor="0.5", linewidth=0.4
                )
            )
            ax.text(column + 0.46, number + 0.43, label, ha="center", va="center", fontsize=6)
    width = max(map(len, rows.values()))
    ax.set(xlim=(0, width), ylim=(len(rows), 0), yticks=np.arange(len(rows)) + 0.43, yticklabels=list(rows), xticks=[])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
