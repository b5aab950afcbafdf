"""The figures of Ni et al. 2022, and four of ours. They draw what they are given; nothing here saves a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from strokelib.adn.block_diagrams import fig01_disentangling as fig01_disentangling
from strokelib.adn.block_diagrams import fig02_pipeline as fig02_pipeline
from strokelib.adn.examples import AlignedExample, ContourExample
from strokelib.adn.tables import POSE_ERRORS, ROWS
from strokelib.errors import DataError
from strokelib.figures.image_grids import BAR_IN, KEY_IN, SMALL_PT, Picture, PictureRow, image_grid
from strokelib.figures.perfusion import WIDTH_IN
from strokelib.plotting import ANATOMY_COLOURS

# The rows of Table 1 -> titles.
LABELS = {
    "DeepMedic": "DeepMedic",
    "3D U-Net": "3D U-Net",
    "3D ResUNet (raw)": "3D ResUNet\n(raw)",
    "Clèrigues et al.": "Clèrigues\net al.",
    "SEAN": "SEAN",
    "3D ResUNet (aligned)": "3D ResUNet\n(aligned)",
    "ADN w/o L_tissue": "ADN w/o\n" + r"$L_{tissue}$",
    "ADN (Ours)": "ADN",
}
VARIANT_LABELS = {"ADN w/o L_tissue and T": r"ADN w/o $L_{tissue}$ and T"}
# Asymmetries are of a few HU: what stands in the aligned frame is shown in a narrower window than whole scans.
WINDOW_HU, ALIGNED_HU, FULL_SCALE_HU = (0.0, 80.0), (10.0, 60.0), 100.0
SIGNED = LinearSegmentedColormap.from_list("signed", ["#7FD0FF", "#0072B2", "black", "#D55E00", "#FFD27F"])
MAP_COLOURS, TRUE_HU = "magma", 15.0
POSE_LABELS = {"angle_deg": "remaining angle (degrees)", "shift_mm": "remaining shift (mm)"}
SCORE_LABELS = {
    "correlation": "correlation with P*",
    "correlation_asymmetric": "correlation where A > 0",
    "mae_hu": "mean absolute error (HU)",
    "auc": "AUC for the infarct",
    "leakage": "share of P outside",
    "recall": "share of P* found",
}
REFERENCES = ("P = A", "P = 0")
REFERENCE_STYLES = ("--", ":")


def fig03_contours(rows: Sequence[ContourExample]) -> Figure:
    """The scan with its reference, then what each method finds, a row a test slice.

    Source: Fig. 3, Ni et al. 2022.
    Deviation: the reference is outlined beside each prediction, in the colours of all our figures instead of red, with
        the scan's Dice below; slices are those with most lesion.

    Args:
        rows: Slices with the same rows of Table 1.

    Raises:
        DataError: No slice, another set of rows on one of them, or a row that Table 1 has not.
    """
    names = [name for name in ROWS if rows and name in rows[0].predicted]
    if not names or any(set(one.predicted) != set(names) for one in rows):
        found, step = [list(one.predicted) for one in rows], "show the same rows of Table 1 on each slice"
        raise DataError("slices of a figure", found=found, wanted="one or more, same rows", next_step=step)
    drawn = []
    for number, one in enumerate(rows):
        under = np.where(one.brain, one.image_hu, np.nan)
        pictures = [Picture(under, "" if number else "scan", " ", WINDOW_HU, truth=one.lesion)]
        for name in names:
            title, note = "" if number else LABELS[name], _dice(one.dice[name])
            pictures.append(Picture(under, title, note, WINDOW_HU, truth=one.lesion, predicted=one.predicted[name]))
        drawn.append(PictureRow(pictures, one.brain, one.spacing_yx, one.name))
    return image_grid(drawn)


def _dice(value: float) -> str:
    return "no Dice" if np.isnan(value) else f"Dice {value:.2f}"


def fig04_asymmetry_maps(rows: Sequence[AlignedExample]) -> Figure:
    """X, the reference, the prediction, both compensated scans and the three maps, a row a scan.

    Source: Fig. 4, Ni et al. 2022.
    Deviation: below each map stand its sums inside and outside the reference over the whole scan, in mL of full scale.
        Each map goes from 0 to the 99.5th percentile of its brain in the slice; the paper says "normalized".

    Args:
        rows: From top to bottom.
    """
    titles = ["X", "reference", "prediction", r"$\hat{X} = X + Q$", r"$\tilde{X} = X + P$", "A", "P", "Q"]
    drawn = []
    for number, one in enumerate(rows):
        scans = [(one.image, None, None), (one.image, one.lesion, None), (one.image, None, one.predicted)]
        scans += [(one.anatomy_filled, None, None), (one.pathology_filled, None, None)]
        pictures = [
            Picture(_inside(FULL_SCALE_HU * values, one), limits=ALIGNED_HU, truth=truth, predicted=predicted)
            for values, truth, predicted in scans
        ]
        pictures += [_map(getattr(one, name), one, name) for name in ("total", "pathological", "intrinsic")]
        if number == 0:
            pictures = [dataclasses.replace(p, title=title) for p, title in zip(pictures, titles, strict=True)]
        drawn.append(PictureRow(pictures, one.brain, one.spacing_yx, one.name))
    figure = image_grid(drawn)
    if any(one.sums_ml for one in rows):
        middle = 0.5 * KEY_IN / figure.get_size_inches()[1]
        said = "below maps: sums inside, outside the reference (mL)"
        figure.text(0.995, middle, said, ha="right", va="center", fontsize=SMALL_PT)
    return figure


def _inside(values: np.ndarray, one: AlignedExample) -> np.ndarray:
    return np.where(one.brain, values, np.nan)


def _map(values: np.ndarray, one: AlignedExample, name: str) -> Picture:
    note = "in {:.1f}, out {:.1f}".format(*one.sums_ml[name]) if name in one.sums_ml else ""
    return Picture(_inside(values, one), "", note, one.limits(values), MAP_COLOURS)


def fig_true_maps(rows: Sequence[AlignedExample]) -> Figure:
    """The true pathological asymmetry, the total one and the learnt one, a row a scan.

    P*, A and Q have one scale in HU, blue below 0. P, which comes from a sigmoid and need not be in HU, has its own.

    Args:
        rows: From top to bottom, each with its truth.

    Raises:
        DataError: A scan has no truth.
    """
    titles = ["X (HU)", "P*, the truth (HU)", "A (HU)", "P, learnt", "Q (HU)"]
    learnt = max((one.limits(one.pathological)[1] for one in rows), default=1.0)
    signed = (SIGNED, (-TRUE_HU, TRUE_HU))
    looks = [("gray", ALIGNED_HU), signed, signed, (MAP_COLOURS, (0.0, learnt)), signed]
    drawn = []
    for number, one in enumerate(rows):
        if one.truth is None:
            step = "show embedded heads, which know it"
            raise DataError(f"slice of {one.name or 'a scan'}", found="no truth", wanted="P*", next_step=step)
        in_hu = [FULL_SCALE_HU * values for values in (one.image, one.truth, one.total)]
        values = [*in_hu, one.pathological, FULL_SCALE_HU * one.intrinsic]
        pictures = [
            Picture(_inside(v, one), "" if number else title, limits=limits, colours=colours, truth=one.lesion)
            for v, title, (colours, limits) in zip(values, titles, looks, strict=True)
        ]
        drawn.append(PictureRow(pictures, one.brain, one.spacing_yx, one.name))
    return image_grid(drawn, bars=[(column, *look) for column, look in enumerate(looks[:-1])], key=["reference"])


def fig_real_head(example: AlignedExample) -> Figure:
    """A scan of which nobody knows whether it shows an infarct: X, the maps, both compensated scans, the prediction.

    X, A and Q are in HU, A and Q on one scale; P has its own.

    Args:
        example: Without reference; its name says what it is.
    """
    one, hu, scan = example, FULL_SCALE_HU, ("gray", ALIGNED_HU)
    asymmetry = (MAP_COLOURS, tuple(hu * end for end in one.limits(one.total)))
    drawn = [("X (HU)", hu * one.image, scan), ("A (HU)", hu * one.total, asymmetry)]
    drawn += [("P, learnt", one.pathological, (MAP_COLOURS, one.limits(one.pathological)))]
    drawn += [("Q (HU)", hu * one.intrinsic, asymmetry), (r"$\hat{X} = X + Q$", hu * one.anatomy_filled, scan)]
    drawn += [(r"$\tilde{X} = X + P$", hu * one.pathology_filled, scan)]
    pictures = [Picture(_inside(v, one), title, "", limits, colours) for title, v, (colours, limits) in drawn]
    note = "" if one.predicted.any() else "none on this slice"
    last = dataclasses.replace(pictures[0], title="prediction", note=note, predicted=one.predicted)
    row = PictureRow([*pictures, last], one.brain, one.spacing_yx)
    figure = image_grid([row], bars=[(column, *look) for column, (_, _, look) in enumerate(drawn[:4])], key=())
    middle = 0.5 * BAR_IN / figure.get_size_inches()[1]
    said = f"a {one.name} without known infarct;\nthe network was trained on embedded heads"
    figure.text(0.995, middle, said, ha="right", va="center", fontsize=SMALL_PT, linespacing=1.1)
    return figure


def fig_poses(errors: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """What turn and shift each alignment leaves: a dot a scan, a box, and the mean with its 95 % interval.

    Args:
        errors: Columns alignment, case, anatomy, ``angle_deg``, ``shift_mm``; absolute.
        table: Of the same errors, from :func:`strokelib.adn.tables.table_poses`.

    Raises:
        DataError: An alignment of ``errors`` is not in ``table``.
    """
    ways = list(dict.fromkeys(errors["alignment"]))
    if lacking := sorted(set(ways) - set(table["row"])):
        step = "make the table from the same errors"
        raise DataError("table of poses", found=f"no {lacking}", wanted="each alignment", next_step=step)
    size = (WIDTH_IN, 0.52 * len(ways) + 1.15)
    figure, axes = plt.subplots(1, len(POSE_ERRORS), figsize=size, layout="constrained", sharey=True)
    for ax, metric in zip(axes, POSE_ERRORS, strict=True):
        for row, way in enumerate(ways):
            for at, anatomy in _places(row, ANATOMY_COLOURS):
                own = errors[(errors["alignment"] == way) & (errors["anatomy"] == anatomy)][metric].dropna()
                _cloud(ax, own.to_numpy(), at, ANATOMY_COLOURS[anatomy])
                _interval(ax, _one(table, way, anatomy, metric), at)
        _rows_of(ax, ways, POSE_LABELS[metric])
        ax.set_xlim(left=0)
    _anatomy_key(figure, set(errors["anatomy"]))
    return figure


def fig_disentangling_scores(
    table: pd.DataFrame, metrics: Sequence[str] = tuple(SCORE_LABELS), references: Sequence[str] = REFERENCES
) -> Figure:
    """Mean and 95 % interval of each method, a panel a metric, anatomies apart; lines are what needs no network.

    Args:
        table: From :func:`strokelib.adn.tables.table_disentangling`.
        metrics: Panels, of those in ``table``.
        references: Rows drawn as lines instead of points, where they have a value.

    Raises:
        DataError: A metric is not in ``table``, or it has no row besides the references.
    """
    methods = [name for name in dict.fromkeys(table["row"]) if name not in references]
    if not methods or not set(metrics) <= set(table["metric"]):
        found = f"rows {methods}, metrics {sorted(set(table['metric']))}"
        wanted, step = f"a method with {', '.join(metrics)}", "score one, or choose other metrics"
        raise DataError("table of disentangling", found=found, wanted=wanted, next_step=step)
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    size = (WIDTH_IN, lines * (0.34 * len(methods) + 0.75) + 0.35)
    figure, axes = plt.subplots(lines, columns, figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, metric in zip(axes.flat, metrics, strict=False):
        for anatomy, colour in ANATOMY_COLOURS.items():
            for name, style in zip(references, REFERENCE_STYLES, strict=False):
                for one in _one(table, name, anatomy, metric).dropna(subset="ours").itertuples():
                    ax.axvline(one.ours, color=colour, linestyle=style, linewidth=1.0, zorder=0)
        for row, method in enumerate(methods):
            for at, anatomy in _places(row, ANATOMY_COLOURS):
                _interval(ax, _one(table, method, anatomy, metric), at, ANATOMY_COLOURS[anatomy])
        names = [(LABELS | VARIANT_LABELS).get(name, name).replace("\n", " ") for name in methods]
        _rows_of(ax, names, SCORE_LABELS.get(metric, metric))
        ax.margins(x=0.08)
    for ax in axes.flat[len(metrics) :]:
        ax.set_visible(False)
    marks = [
        Line2D([], [], color="0.3", linestyle=style, linewidth=1.0, label=name)
        for name, style in zip(references, REFERENCE_STYLES, strict=False)
    ]
    _anatomy_key(figure, set(table["anatomy"]), marks)
    return figure


def _places(row: int, anatomies: Sequence[str]) -> list[tuple[float, str]]:
    return [(row - 0.19 + 0.38 * place, anatomy) for place, anatomy in enumerate(anatomies)]


def _one(table: pd.DataFrame, row: str, anatomy: str, metric: str) -> pd.DataFrame:
    return table[(table["row"] == row) & (table["anatomy"] == anatomy) & (table["metric"] == metric)]


def _cloud(ax: Axes, values: np.ndarray, at: float, colour: str) -> None:
    if not len(values):
        return
    line = {"color": "0.45", "linewidth": 0.7}
    look = {"whiskerprops": line, "capprops": line, "medianprops": {"color": "0.2", "linewidth": 1.0}}
    look["boxprops"] = {"facecolor": "none", "edgecolor": "0.45", "linewidth": 0.7}
    ax.boxplot(
        values,
        positions=[at],
        widths=0.28,
        orientation="horizontal",
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        **look,
    )
    jitter = 0.08 * np.sin(np.arange(len(values)) * 2.4)
    ax.plot(values, at + jitter, "o", color=colour, markersize=2.4, alpha=0.8, markeredgewidth=0, zorder=1)


def _interval(ax: Axes, cell: pd.DataFrame, at: float, colour: str = "black") -> None:
    """Mean and interval of a table's cell, if there is one."""
    for one in cell.dropna(subset="ours").itertuples():
        if not np.isnan(one.ci95_low):
            ax.plot([one.ci95_low, one.ci95_high], [at, at], color="black", linewidth=1.5, zorder=5)
        ax.plot(one.ours, at, "D", color=colour, markeredgecolor="black", markersize=3.8, markeredgewidth=0.6, zorder=6)


def _rows_of(ax: Axes, names: Sequence[str], label: str) -> None:
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.45, -0.55), xlabel=label)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _anatomy_key(figure: Figure, present: set[str], marks: Sequence[Line2D] = ()) -> None:
    handles = [Patch(color=colour, label=f"anatomy {a}") for a, colour in ANATOMY_COLOURS.items() if a in present]
    mean = {"marker": "D", "markersize": 3.8, "linewidth": 1.5}
    handles += [Line2D([], [], color="black", label="mean, 95 % CI", **mean), *marks]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, handlelength=1.4)
