"""Grids of heads' middle slices and of what their representations depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from strokelib import plotting

TITLE_IN, GAP_IN, SMALL_PT = 0.24, 0.04, 6.5
STROKE_LOOKS = {True: ("stroke", "#D55E00", "o"), False: ("no stroke", "#0072B2", "^")}
SIGNED, ROBUST_PERCENT = "RdBu_r", 99.5
Kind = Literal["image", "map"]


@dataclass(frozen=True)
class Neighbour:
    """One head as it is shown: its middle slice.

    Args:
        images: (C, H, W), a channel a picture.
        attributions: (C, H, W), of the same slice.
        brain: (H, W) bool, outlined on the attributions.
        spacing_yx: (dy, dx) in mm.
        data_set: Where it comes from.
        stroke: Whether it shows one.
    """

    images: np.ndarray
    attributions: np.ndarray
    brain: np.ndarray
    spacing_yx: tuple[float, float]
    data_set: str
    stroke: bool


@dataclass(frozen=True)
class Channel:
    """How a channel of the input is shown.

    Args:
        name: E.g. ``NCCT``.
        limits: Ends of the grey scale.
        unit: Of the grey scale.
    """

    name: str
    limits: tuple[float, float]
    unit: str = "HU"


NCCT, DIFFERENCE = Channel("NCCT", (0.0, 80.0)), Channel("difference image", (-30.0, 30.0))


def field_of(rows: Sequence[Sequence[Neighbour]]) -> tuple[float, float]:
    """Height and width in mm that hold every picture, with a pixel around."""
    sides = [(np.array(one.brain.shape) + 2) * one.spacing_yx for row in rows for one in row]
    return tuple(float(side) for side in np.max(sides, axis=0))


def neighbour_grid(
    figure: Figure,
    rows: Sequence[Sequence[Neighbour]],
    corner: tuple[float, float],
    tile: np.ndarray,
    field_mm: tuple[float, float],
    what: tuple[int, Kind],
    look: Channel,
    colours: Mapping[str, str],
) -> None:
    """A numbered row of pictures for each point, under a title, with a colour bar at the right.

    Args:
        figure: Gets an axis a picture.
        rows: For each point its neighbours.
        corner: Left edge of the pictures and upper edge of the title, in inches.
        tile: Width and height of a picture in inches.
        field_mm: Height and width that a picture shows, in mm.
        what: Which channel, and whether its ``image`` or the ``map`` of its attributions.
        look: Of the channel.
        colours: Of each data set.
    """
    (channel, kind), (left, top) = what, corner
    size = np.array(figure.get_size_inches())
    if kind == "map":
        limit = robust_limit([one.attributions[channel] for row in rows for one in row])
        limits, cmap, title = (-limit, limit), SIGNED, f"integrated gradients, {look.name}"
    else:
        limits, cmap, title = look.limits, "gray", f"nearest neighbours, {look.name} (marks as in a, b)"
    figure.text(left / size[0], (top - 0.08) / size[1], title, fontsize=8, va="center")
    top -= TITLE_IN - 0.05
    for number, row in enumerate(rows):
        bottom = top - (number + 1) * tile[1] - number * GAP_IN
        at = ((left - 0.06) / size[0], (bottom + tile[1] / 2) / size[1])
        figure.text(*at, str(number + 1), fontsize=8, weight="bold", ha="right", va="center")
        for column, one in enumerate(row):
            place = np.array([left + column * (tile[0] + GAP_IN), bottom, *tile])
            ax = figure.add_axes(place / np.tile(size, 2))
            values = (one.attributions if kind == "map" else one.images)[channel]
            _tile(ax, values, one, field_mm, limits, cmap)
            if kind == "map":
                _outline(ax, one)
            else:
                _corner(ax, one, colours[one.data_set])
    count = len(rows)
    tall = count * tile[1] + (count - 1) * GAP_IN
    right = left + max(len(row) for row in rows) * (tile[0] + GAP_IN) + 0.03
    place = np.array([right, top - tall / 2 - min(tall, 1.6) / 2, 0.07, min(tall, 1.6)])
    _bar(figure.add_axes(place / np.tile(size, 2)), cmap, limits, "" if kind == "map" else look.unit)


def robust_limit(maps: Sequence[np.ndarray]) -> float:
    """End of a symmetric colour scale: the 99.5th percentile of the size of all values; 1 if all are zero."""
    limit = float(np.percentile(np.abs(np.concatenate([one.ravel() for one in maps])), ROBUST_PERCENT))
    return limit or 1.0


def _extent(one: Neighbour) -> tuple[float, float, float, float]:
    height, width = np.array(one.brain.shape) * one.spacing_yx
    return -width / 2, width / 2, height / 2, -height / 2


def _tile(
    ax: Axes, values: np.ndarray, one: Neighbour, field_mm: tuple[float, float], limits: tuple, cmap: str
) -> None:
    shown = {"vmin": limits[0], "vmax": limits[1], "extent": _extent(one), "interpolation": "nearest"}
    ax.imshow(values, cmap=cmap, aspect="auto", **shown)
    plotting.bare(ax)
    height, width = field_mm
    ax.set(xlim=(-width / 2, width / 2), ylim=(height / 2, -height / 2))
    ax.set_facecolor("white" if cmap == SIGNED else plt.get_cmap(cmap)(Normalize(*limits)(float(values.flat[0]))))


def _outline(ax: Axes, one: Neighbour) -> None:
    if one.brain.any() and not one.brain.all():
        edge = np.pad(one.brain.astype(float), 1)
        dy, dx = one.spacing_yx
        left, right, bottom, top = _extent(one)
        extent = (left - dx, right + dx, bottom + dy, top - dy)
        ax.contour(edge, levels=[0.5], colors=["0.45"], linewidths=[0.5], extent=extent, origin="upper")


def _corner(ax: Axes, one: Neighbour, colour: str) -> None:
    """The head's mark of the panels above: colour by data set, shape by stroke."""
    look = {"marker": STROKE_LOOKS[bool(one.stroke)][2], "markersize": 4.5, "markeredgewidth": 0.5}
    size = ax.get_position().size * ax.figure.get_size_inches()
    ax.plot(*(np.array([0.06, size[1] - 0.06]) / size), transform=ax.transAxes, color=colour, mec="white", **look)


def _bar(ax: Axes, cmap: str, limits: tuple[float, float], unit: str) -> None:
    bar = ax.figure.colorbar(ScalarMappable(Normalize(*limits), cmap), cax=ax)
    bar.outline.set_visible(False)
    low, high = limits
    at, texts = [low, 0.0, high], ["−" + _power(high), "0", _power(high)]
    if unit:
        at, texts = [low, high], [f"{low:g}", f"{high:g} {unit}"]
    bar.set_ticks(at, labels=[text.replace("-", "−", 1) if unit else text for text in texts])
    ax.tick_params(labelsize=SMALL_PT, length=2, pad=1.5)


def _power(value: float) -> str:
    """A number as text with a power of ten, one digit before it."""
    digit, exponent = f"{value:.0e}".split("e")
    return rf"{digit}$\cdot$10$^{{{int(exponent)}}}$"
