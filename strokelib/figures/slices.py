"""Axial slices with what is drawn on them, and the first result of notebook 00."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
