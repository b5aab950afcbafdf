"""Figures that belong to no single paper: the first result of notebook 00 and the scoreboard's tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from strokelib import plotting
from strokelib.data.cases import Volume

WIDTH_IN = 7.2
AIR_HU = -1000


@dataclass(frozen=True)
class SlicePicture:
    """One axial slice and what is drawn on it.

    Args:
        image_hu: (H, W) in HU, LPS order.
        spacing_yx: (dy, dx) in mm.
        title: Stands above it.
        truth: (H, W) bool, outlined in orange.
        predicted: (H, W) bool, outlined in blue.
        probability: (H, W) in [0, 1]; drawn instead of the image.
        midline: Draw the middle column, which is the mid-sagittal plane of an aligned head.
    """

    image_hu: np.ndarray
    spacing_yx: tuple[float, float]
    title: str
    truth: np.ndarray | None = None
    predicted: np.ndarray | None = None
    probability: np.ndarray | None = None
    midline: bool = False

    @classmethod
    def of(cls, volume: Volume, z: int, title: str, *, midline: bool = False, **maps: np.ndarray) -> SlicePicture:
        """Slice ``z`` of a volume; ``maps`` (truth, predicted, probability) are (D, H, W) and cut at the same slice."""
        cut = {name: np.asarray(values[z]) for name, values in maps.items()}
        return cls(np.asarray(volume.array[z]), volume.spacing[1:], title, midline=midline, **cut)

    def around(self, mask: np.ndarray, half_mm: float = 100.0) -> SlicePicture:
        """The square of ``2 * half_mm`` about the middle of a mask (H, W), filled with air where the slice ends.

        With ``midline`` the square is centred on the middle column instead, left to right.
        """
        height, width = self.image_hu.shape
        rows, columns = np.nonzero(mask)
        middle = [
            (rows.min() + rows.max()) / 2,
            (width - 1) / 2 if self.midline else (columns.min() + columns.max()) / 2,
        ]
        half = [half_mm / step for step in self.spacing_yx]
        index = [np.arange(round(m - h), round(m - h) + round(2 * h)) for m, h in zip(middle, half, strict=True)]
        inside = np.ix_(*((i >= 0) & (i < n) for i, n in zip(index, (height, width), strict=True)))
        taken = np.ix_(*(i[(i >= 0) & (i < n)] for i, n in zip(index, (height, width), strict=True)))

        def cut(values: np.ndarray | None, fill: float) -> np.ndarray | None:
            if values is None:
                return None
            square = np.full([len(i) for i in index], fill, values.dtype)
            square[inside] = values[taken]
            return square

        maps = {name: cut(getattr(self, name), 0) for name in ("truth", "predicted", "probability")}
        return dataclasses.replace(self, image_hu=cut(self.image_hu, AIR_HU), **maps)


def _draw(ax: plt.Axes, picture: SlicePicture) -> None:
    if picture.probability is None:
        plotting.ct_slice(ax, picture.image_hu, spacing_yx=picture.spacing_yx)
    else:
        plotting.value_map(ax, picture.probability, spacing_yx=picture.spacing_yx, limits=(0, 1), cmap="magma")
    if picture.truth is not None:
        plotting.outline(ax, picture.truth, plotting.TRUTH_COLOUR)
    if picture.predicted is not None:
        plotting.outline(ax, picture.predicted, plotting.PREDICTION_COLOUR, style="-")
    if picture.midline:
        height, width = picture.image_hu.shape
        plotting.midline(ax, ((width - 1) / 2, 0), ((width - 1) / 2, height - 1))
    ax.set_title(picture.title)


def slice_row(pictures: Sequence[SlicePicture], *, height_in: float = 2.2) -> Figure:
    """Slices side by side, as wide as a page."""
    figure, axes = plt.subplots(1, len(pictures), figsize=(WIDTH_IN, height_in), layout="constrained", squeeze=False)
    for ax, picture in zip(axes[0], pictures, strict=True):
        _draw(ax, picture)
    return figure


def slice_grid(rows: Sequence[Sequence[SlicePicture]], *, height_in: float = 1.9) -> Figure:
    """Rows of slices, as wide as a page; titles stand above each picture."""
    columns = max(map(len, rows))
    size = (WIDTH_IN, height_in * len(rows))
    figure, axes = plt.subplots(len(rows), columns, figsize=size, layout="constrained", squeeze=False)
    for row, pictures in zip(axes, rows, strict=True):
        for ax, picture in zip(row, pictures, strict=False):
            _draw(ax, picture)
        for ax in row[len(pictures) :]:
            ax.set_visible(False)
    return figure


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


def realism(
    percentiles: Mapping[str, np.ndarray],
    spectra: Mapping[str, tuple[np.ndarray, np.ndarray]],
    contrast: pd.DataFrame,
    fluid: pd.DataFrame,
    infarcts: pd.DataFrame,
) -> Figure:
    """Embedded heads beside the real scans: densities (A), noise (B), contrast (C), ventricles (D), infarcts (E, F).

    Args:
        percentiles: Name -> HU at nine percentiles; names that begin with ``real`` are drawn strongly.
        spectra: Name -> frequency in cycles/mm and power in HU^2 mm^2.
        contrast: Columns ``kind``, ``white``, ``grey`` in HU.
        fluid: Columns ``age``, ``ml``, ``anatomy``.
        infarcts: Columns ``mask_ml``, ``lesion_ml``, ``mask_artery``, ``lesion_artery``.
    """
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH_IN, 4.6), layout="constrained")
    plotting.curves(axes[0, 0], {n: (np.arange(len(v)), v) for n, v in percentiles.items()})
    axes[0, 0].set(
        xticks=[0, 2, 4, 6, 8], xticklabels=["1", "10", "50", "90", "99"], xlabel="percentile", ylabel="HU in the brain"
    )
    plotting.curves(axes[0, 1], spectra)
    axes[0, 1].set(yscale="log", xlabel="frequency (cycles/mm)", ylabel="noise power (HU² mm²)")
    axes[0, 1].legend(
        handles=[
            Line2D([], [], color="0.7", label="embedded"),
            Line2D([], [], color=plotting.TRUTH_COLOUR, label="real"),
        ],
        frameon=False,
    )
    plotting.points_by_kind(axes[0, 2], contrast, "white", "grey")
    axes[0, 2].set(xlabel="white matter (HU)", ylabel="grey matter (HU)")
    axes[0, 2].legend(frameon=False)
    plotting.points_by_kind(axes[1, 0], fluid, "age", "ml", kind="anatomy")
    axes[1, 0].set(xlabel="age (years)", ylabel="central fluid (mL)")
    axes[1, 0].legend(title="anatomy", frameon=False)
    plotting.volumes(axes[1, 1], infarcts["mask_ml"].to_numpy(), infarcts["lesion_ml"].to_numpy())
    axes[1, 1].set(xlabel="mask, scaled (mL)", ylabel="rendered (mL)")
    plotting.shares(axes[1, 2], {"mask": infarcts["mask_artery"], "rendered": infarcts["lesion_artery"]})
    axes[1, 2].set(ylabel="share of infarcts")
    for ax, letter in zip(axes.flat, "ABCDEF", strict=True):
        plotting.panel_letter(ax, letter)
    return figure


ERROR_LABELS = {
    "turn_deg": "turn in plane (degrees)",
    "angle_deg": "angle between planes (degrees)",
    "offset_mm": "offset at the centre (mm)",
    "largest_mm": "largest distance in the brain (mm)",
}


def alignment_errors(errors: pd.DataFrame, ways: Sequence[str], values: Sequence[str]) -> Figure:
    """Errors of several ways of alignment, a panel an error, anatomies apart; logarithmic.

    Args:
        errors: Columns ``way``, ``anatomy`` and those of ``values``, one row a measurement.
        ways: From top to bottom.
        values: Errors, keys of :data:`ERROR_LABELS`.
    """
    size = (WIDTH_IN, 0.45 * len(ways) + 1.1)
    figure, axes = plt.subplots(1, len(values), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, value in zip(axes[0], values, strict=True):
        plotting.errors_by_way(ax, errors, value, ways, label=ERROR_LABELS[value])
    axes[0, 0].legend(title="anatomy", frameon=False, loc="lower right")
    return figure


def first_result(
    real: Sequence[SlicePicture],
    embedded: Sequence[SlicePicture],
    scores: pd.DataFrame,
    intervals: Mapping[str, tuple[float, float, float]],
    order: Sequence[str],
    volumes_ml: tuple[np.ndarray, np.ndarray],
) -> Figure:
    """A real head CT from scanner to network (A), an embedded head segmented (B), scores (C), volumes (D).

    Args:
        real: Four slices.
        embedded: Four slices.
        scores: Columns ``method`` and ``value`` (Dice), one row a case and method.
        intervals: Method -> (mean, low, high).
        order: Methods from top to bottom.
        volumes_ml: Reference and predicted volumes in mL.
    """
    figure = plt.figure(figsize=(WIDTH_IN, 7.0), layout="constrained")
    rows = figure.subfigures(3, 1, height_ratios=(1, 1, 1.02))
    for row, letter, pictures in ((rows[0], "A", real), (rows[1], "B", embedded)):
        axes = row.subplots(1, len(pictures))
        for ax, picture in zip(axes, pictures, strict=True):
            _draw(ax, picture)
        plotting.panel_letter(axes[0], letter)
    rows[1].legend(
        handles=[
            Line2D([], [], color=plotting.TRUTH_COLOUR, label="reference"),
            Line2D([], [], color=plotting.PREDICTION_COLOUR, label="prediction"),
        ],
        loc="lower center",
        ncols=2,
        frameon=False,
        bbox_to_anchor=(0.5, -0.06),
    )
    left, right = rows[2].subplots(1, 2, width_ratios=(1.75, 1))
    plotting.scores_by_method(left, scores, intervals, order=order, label="Dice per scan (dot: mean, bar: 95 % CI)")
    plotting.volumes(right, *volumes_ml)
    plotting.panel_letter(left, "C")
    plotting.panel_letter(right, "D")
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
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure
