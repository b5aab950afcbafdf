"""The figures of Seia et al. 2023, and one of ours. They draw what they are given; nothing here saves a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.figures.image_grids import Picture, PictureRow, image_grid
from strokelib.figures.perfusion import WIDTH_IN
from strokelib.ssl_nnunet.block_diagrams import fig02_self_distillation as fig02_self_distillation
from strokelib.ssl_nnunet.block_diagrams import fig03_architecture as fig03_architecture
from strokelib.ssl_nnunet.box_plots import LEGEND, SMALL_PT, brackets, means_over_dots, methods_of, score_boxes
from strokelib.ssl_nnunet.estimates import ABOVE_3ML, ALL_LESIONS, CRITERIA, MEAN, p_text
from strokelib.ssl_nnunet.examples import MaskExample
from strokelib.ssl_nnunet.preparation_figure import CLIPPED_HU as CLIPPED_HU
from strokelib.ssl_nnunet.preparation_figure import FIELD_MM as FIELD_MM
from strokelib.ssl_nnunet.preparation_figure import PLACES as PLACES
from strokelib.ssl_nnunet.preparation_figure import Shot as Shot
from strokelib.ssl_nnunet.preparation_figure import fig01_preprocessing as fig01_preprocessing
from strokelib.ssl_nnunet.representation_figures import fig08_representations as fig08_representations
from strokelib.ssl_nnunet.representation_figures import (
    figB9_representations_two_channels as figB9_representations_two_channels,
)

PANEL_IN, HEIGHT_IN = 4.0, 3.3
WINDOW_HU = (0.0, 80.0)
# Methods whose pictures leave room for two numbers below each.
WIDE_ENOUGH_FOR = 5
# The paper's colour of the reference in Fig. 7; all other figures outline it in orange.
REFERENCE_COLOUR = "#E8112D"


def fig04_dice_validation(scores: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """Dice of both trainings from scratch and of the best pre-trained one on the validation part, all lesions.

    Source: Fig. 4, Seia et al. 2023.
    Deviation: single scans, means, exact p values and those adjusted by Holm are added; stars are the usual ones
        (erratum S21).

    Args:
        scores: Columns method, case, metric, value, with ``dice``.
        tests: From :func:`strokelib.ssl_nnunet.tables.paired_tests` of the same scores; its methods are drawn.

    Raises:
        DataError: There is no test under this criterion, or a method of the tests has no Dice.
    """
    return _boxes({ALL_LESIONS: scores}, tests)


def fig05_dice_validation_above_3ml(scores: pd.DataFrame, tests: pd.DataFrame) -> Figure:
    """The same of lesions above 3 mL.

    Source: Fig. 5, Seia et al. 2023.
    Deviation: as :func:`fig04_dice_validation`; so are arguments and errors. The printed caption says "AIS" for icoAIS
        (erratum S22).
    """
    return _boxes({ABOVE_3ML: scores}, tests)


def fig06_dice_test(scores: Mapping[str, pd.DataFrame], tests: pd.DataFrame) -> Figure:
    """The same on the test part, a panel a criterion.

    Source: Fig. 6, Seia et al. 2023.
    Deviation: as :func:`fig04_dice_validation`; so are errors. p values are adjusted over both criteria.

    Args:
        scores: Criterion (of :data:`strokelib.ssl_nnunet.estimates.CRITERIA`) -> scores.
        tests: Of both criteria together.
    """
    return _boxes({name: scores[name] for name in CRITERIA if name in scores}, tests)


def _boxes(scores: Mapping[str, pd.DataFrame], tests: pd.DataFrame) -> Figure:
    size = (min(WIDTH_IN, PANEL_IN * len(scores)), HEIGHT_IN)
    figure, axes = plt.subplots(1, len(scores), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, (criterion, part) in zip(axes[0], scores.items(), strict=True):
        own = tests[tests["lesion_filter"] == criterion]
        dice = part[part["metric"] == "dice"]
        methods = methods_of(own)
        if not methods or (lacking := sorted(set(methods) - set(dice["method"]))):
            found = f"no Dice of {', '.join(lacking)}" if methods else "no test"
            step = "make the tests from the same scores"
            raise DataError(f"figure of {criterion}", found=found, wanted="both", next_step=step)
        values = {name: dice.loc[dice["method"] == name, "value"].to_numpy() for name in methods}
        score_boxes(ax, values, label="Dice" if ax is axes[0, 0] else "")
        brackets(ax, own, methods)
        ax.set_title(criterion, pad=8)
    figure.supxlabel(("\n" if len(scores) == 1 else ";  ").join(LEGEND), fontsize=SMALL_PT, color="0.3")
    return figure


def fig07_examples(rows: Sequence[MaskExample]) -> Figure:
    """The scan with its reference, then the mask of each method on it, a row a scan.

    Source: Fig. 7, Seia et al. 2023.
    Deviation: scans are chosen by :func:`strokelib.ssl_nnunet.examples.failed_and_good`; the slice is the one with most
        lesion; Dice and volume of the whole scan stand below each mask. The reference is red, as in the paper, and
        outlined.

    Args:
        rows: Slices with masks of the same rows of a table, from top to bottom.

    Raises:
        DataError: No slice, or another set of rows on one of them.
    """
    names = list(rows[0].predicted) if rows else []
    if not names or any(set(one.predicted) != set(names) for one in rows):
        found, step = [list(one.predicted) for one in rows], "show the same methods on each slice"
        raise DataError("slices of a figure", found=found, wanted="one or more, same methods", next_step=step)
    drawn = []
    for one in rows:
        scan = Picture(np.where(one.brain, one.image_hu, np.nan), "", f"{one.lesion_ml:.1f} mL", WINDOW_HU)
        notes = [_note(one, name, len(names) <= WIDE_ENOUGH_FOR) for name in names]
        found = [dataclasses.replace(scan, note=note) for note in notes]
        pictures = [scan, *found]
        if not drawn:
            titles = ["reference", *names]
            pictures = [dataclasses.replace(p, title=title) for p, title in zip(pictures, titles, strict=True)]
        drawn.append(PictureRow(pictures, one.brain, one.spacing_yx, one.name))
    figure = image_grid(drawn)
    masks = [mask for one in rows for mask in (None, *(one.predicted[name] for name in names))]
    lesions = [one.lesion for one in rows for _ in range(len(names) + 1)]
    for ax, mask, lesion in zip(figure.axes, masks, lesions, strict=True):
        if mask is not None and mask.any():
            ax.contourf(mask.astype(float), levels=[0.5, 1.5], colors=[plotting.PREDICTION_COLOUR], alpha=0.55)
        plotting.outline(ax, lesion, REFERENCE_COLOUR, width=1.0)
    figure.legends[0].get_lines()[0].set_color(REFERENCE_COLOUR)
    return figure


def _note(one: MaskExample, name: str, with_volume: bool) -> str:
    said = "no Dice" if np.isnan(one.dice[name]) else f"Dice {one.dice[name]:.2f}"
    return f"{said}, {one.predicted_ml[name]:.1f} mL" if with_volume else said


def freezing_plot(scores: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Dice against the share of the fine-tuning during which the encoder is frozen, with the mean and its interval.

    Source: Sec. 3.5.1, Seia et al. 2023, in words.
    Deviation: none.

    Args:
        scores: Columns method (of :data:`strokelib.ssl_nnunet.tables.FROZEN`), case, metric, value, with ``dice``.
        table: From :func:`strokelib.ssl_nnunet.tables.table_freezing` of the same scores.

    Raises:
        DataError: A share of ``scores`` is not in ``table``.
    """
    dice = scores[scores["metric"] == "dice"]
    lines = table[(table["metric"] == "DSC") & (table["statistic"] == MEAN)].set_index("row")
    if lacking := sorted(set(dice["method"]) - set(lines.index)):
        step = "make the table from the same scores"
        raise DataError("table of freezing", found=f"no {lacking}", wanted="each share", next_step=step)
    shares = [name for name in lines.index if name in set(dice["method"])]
    figure, ax = plt.subplots(figsize=(PANEL_IN, 2.7), layout="constrained")
    values = {name: dice.loc[dice["method"] == name, "value"].to_numpy() for name in shares}
    means_over_dots(ax, values, {name: tuple(lines.loc[name, ["ours", "ci95_low", "ci95_high"]]) for name in shares})
    for at, name in enumerate(shares):
        line = lines.loc[name]
        if not np.isnan(line["p"]):
            adjusted = p_text(line["p_holm"]).removeprefix("= ")
            said = f"Δ Dice {line['difference']:+.3f}\np {p_text(line['p'])}\nHolm {adjusted}"
            ax.text(at, 1.02, said, ha="center", va="bottom", fontsize=SMALL_PT, transform=ax.get_xaxis_transform())
    ax.axhline(lines["ours"].iloc[0], color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    ax.set(ylim=(-0.02, 1.0), ylabel="Dice", xlabel="share of the training with a frozen encoder")
    return figure
