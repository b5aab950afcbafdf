"""Rows of pictures of one slice each, cut to the brain, with contours and a line of text below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.figures.perfusion import WIDTH_IN, crop_to

GAP_IN, ROW_GAP_IN, TITLE_IN, NOTE_IN, LABEL_IN, BAR_IN, KEY_IN = 0.05, 0.07, 0.17, 0.14, 0.2, 0.26, 0.2
BAR_HEIGHT_IN, SMALL_PT = 0.06, 6.5
MARGIN_MM = 5.0


@dataclass(frozen=True)
class Picture:
    """One picture of a grid.

    Args:
        image: (H, W).
        title: Stands above it.
        note: Stands below it, small.
        limits: Ends of the colour scale.
        colours: Colour map.
        truth: (H, W) bool, outlined as the reference, or None.
        predicted: (H, W) bool, outlined as a prediction, or None.
    """

    image: np.ndarray
    title: str = ""
    note: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    colours: str | Colormap = "gray"
    truth: np.ndarray | None = None
    predicted: np.ndarray | None = None


@dataclass(frozen=True)
class PictureRow:
    """Pictures of one slice.

    Args:
        pictures: From left to right.
        brain: (H, W) bool; the pictures are cut to the box around it.
        spacing_yx: (dy, dx) in mm.
        label: Stands at the left, upright.
    """

    pictures: Sequence[Picture]
    brain: np.ndarray
    spacing_yx: tuple[float, float]
    label: str = ""

    def box_mm(self) -> tuple[float, float, float, float]:
        """Middle (y, x) and size (height, width) of the brain in mm, margin included.

        Raises:
            DataError: There is no brain, or a picture has another shape.
        """
        shapes = {picture.image.shape for picture in self.pictures} - {self.brain.shape}
        if shapes or not self.brain.any():
            found = f"pictures {sorted(shapes)}, {int(self.brain.sum())} pixels of brain on {self.brain.shape}"
            wanted, step = "some brain, on the pictures' grid", "choose a slice that shows brain"
            raise DataError("row of pictures", found=found, wanted=wanted, next_step=step)
        sides = [(s.start * d, s.stop * d) for s, d in zip(crop_to(self.brain, 0), self.spacing_yx, strict=True)]
        (top, bottom), (left, right) = sides
        return (top + bottom) / 2, (left + right) / 2, bottom - top + 2 * MARGIN_MM, right - left + 2 * MARGIN_MM


def image_grid(
    rows: Sequence[PictureRow],
    *,
    bars: Sequence[tuple[int, str | Colormap, tuple[float, float]]] = (),
    key: Sequence[str] = ("reference", "prediction"),
) -> Figure:
    """Pictures in rows on one scale of mm, as wide as a page; a row with fewer than the others ends early.

    Args:
        rows: From top to bottom. A row whose pictures have titles gets room for them, and so for notes.
        bars: Colour bars below the last row: column, colour map and limits; not for the last column, where the key
            stands then.
        key: Which contours to explain below: ``reference``, ``prediction``; none for no key.

    Raises:
        DataError: As :meth:`PictureRow.box_mm`.
    """
    boxes = [row.box_mm() for row in rows]
    height_mm, width_mm = (max(box[axis] for box in boxes) for axis in (2, 3))
    columns = max(len(row.pictures) for row in rows)
    left_in = LABEL_IN if any(row.label for row in rows) else 0.02
    tile_width = (WIDTH_IN - left_in - 0.02 - GAP_IN * (columns - 1)) / columns
    tile_height = tile_width * height_mm / width_mm
    above = [TITLE_IN * max(1 + p.title.count("\n") if p.title else 0 for p in row.pictures) for row in rows]
    below = [NOTE_IN if any(p.note for p in row.pictures) else 0.0 for row in rows]
    foot = max(BAR_IN if bars else 0.0, KEY_IN if key else 0.0)
    total = sum(above) + sum(below) + len(rows) * tile_height + (len(rows) - 1) * ROW_GAP_IN + foot
    figure, top = plt.figure(figsize=(WIDTH_IN, total)), total
    size = np.array([WIDTH_IN, total, WIDTH_IN, total])
    for row, box, title_in, note_in in zip(rows, boxes, above, below, strict=True):
        bottom = top - title_in - tile_height
        for column, picture in enumerate(row.pictures):
            place = np.array([left_in + column * (tile_width + GAP_IN), bottom, tile_width, tile_height])
            _draw(figure.add_axes(place / size), picture, row, box[:2], (height_mm, width_mm))
        if row.label:
            middle = (bottom + tile_height / 2) / total
            figure.text(0.5 * left_in / WIDTH_IN, middle, row.label, rotation=90, ha="center", va="center", fontsize=8)
        top = bottom - note_in - ROW_GAP_IN
    for column, colours, limits in bars:
        x = left_in + column * (tile_width + GAP_IN) + 0.1 * tile_width
        place = np.array([x, top + ROW_GAP_IN - 0.05 - BAR_HEIGHT_IN, 0.8 * tile_width, BAR_HEIGHT_IN])
        _bar(figure.add_axes(place / size), colours, limits)
    if key:
        across = left_in + (columns - 1) * (tile_width + GAP_IN) + tile_width / 2 if bars else WIDTH_IN / 2
        _key(figure, key, (across / WIDTH_IN, 0.5 * foot / total))
    return figure


def _draw(
    ax: Axes, picture: Picture, row: PictureRow, middle_mm: tuple[float, float], size_mm: tuple[float, float]
) -> None:
    (dy, dx), (y, x), (height, width) = row.spacing_yx, middle_mm, size_mm
    low, high = picture.limits
    ax.imshow(picture.image, cmap=picture.colours, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    for mask, colour in ((picture.truth, plotting.TRUTH_COLOUR), (picture.predicted, plotting.PREDICTION_COLOUR)):
        if mask is not None:
            plotting.outline(ax, mask, colour, width=0.9)
    plotting.bare(ax)
    # A pixel's middle has whole numbers, its upper left corner is half a pixel before.
    ax.set(xlim=((x - width / 2) / dx - 0.5, (x + width / 2) / dx - 0.5), facecolor="black")
    ax.set(ylim=((y + height / 2) / dy - 0.5, (y - height / 2) / dy - 0.5))
    if picture.title:
        ax.set_title(picture.title, fontsize=7.5, pad=2.5, linespacing=1.05)
    if picture.note:
        ax.text(0.5, -0.025, picture.note, transform=ax.transAxes, ha="center", va="top", fontsize=SMALL_PT)


def _bar(ax: Axes, colours: str | Colormap, limits: tuple[float, float]) -> None:
    bar = ax.figure.colorbar(ScalarMappable(Normalize(*limits), colours), cax=ax, orientation="horizontal")
    bar.outline.set_visible(False)
    ax.tick_params(labelsize=SMALL_PT, length=2, pad=1.5)
    ax.locator_params(axis="x", nbins=3)


def _key(figure: Figure, names: Sequence[str], at: tuple[float, float]) -> None:
    colours = {"reference": plotting.TRUTH_COLOUR, "prediction": plotting.PREDICTION_COLOUR}
    lines = [Line2D([], [], color=colours[name], linewidth=1.4, label=name) for name in names]
    figure.legend(
        handles=lines,
        loc="center",
        bbox_to_anchor=at,
        ncols=len(lines),
        frameon=False,
        handlelength=1.4,
        borderpad=0,
        borderaxespad=0,
    )
