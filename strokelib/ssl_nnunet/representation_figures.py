"""Figures 8 and B.9 of Seia et al. 2023: representations in the plane, neighbours, and what they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.ssl_nnunet.neighbour_grids import (
    GAP_IN,
    NCCT,
    SMALL_PT,
    STROKE_LOOKS,
    TITLE_IN,
    Channel,
    Neighbour,
    field_of,
    neighbour_grid,
)

WIDTH_IN, SCATTER_IN, LABEL_IN, BAR_IN, EDGE_IN = 7.2, 2.3, 0.2, 0.52, 0.06
SINGLE_TILE_IN = (0.92, 1.0)
SET_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")


@dataclass(frozen=True)
class Representations:
    """All that the figures show.

    Args:
        projection: (n, 2), from :func:`strokelib.ssl_nnunet.representations.project`.
        data_sets: (n,) names.
        stroke: (n,) bool.
        points: (k,) indices of the representative points.
        rows: For each of these the nearest other heads, nearest first.
        silhouettes: ``data set`` and ``stroke`` -> the silhouette among the representations, or none.
        channels: How each channel of the heads is shown.
        encoder: Which encoder, for the title.
        perplexity: As it was used.
    """

    projection: np.ndarray
    data_sets: Sequence[str]
    stroke: np.ndarray
    points: Sequence[int]
    rows: Sequence[Sequence[Neighbour]]
    silhouettes: Mapping[str, float] = field(default_factory=dict)
    channels: Sequence[Channel] = (NCCT,)
    encoder: str = ""
    perplexity: float | None = None

    def checked(self, channels: int) -> Representations:
        """Itself, where everything fits together.

        Raises:
            DataError: Something has another length or number of channels.
        """
        n, shown = len(self.projection), [one for row in self.rows for one in row]
        lengths = {"data_sets": len(self.data_sets), "stroke": len(self.stroke)}
        odd = {name: length for name, length in lengths.items() if length != n}
        shapes = [(one.images.shape, one.attributions.shape, (channels, *one.brain.shape)) for one in shown]
        strange = [three for three in shapes if len(set(three)) > 1]
        strange += [one.data_set for one in shown if one.data_set not in self.data_sets]
        if self.projection.shape != (n, 2) or odd or len(self.rows) != len(self.points) or strange or not shown:
            found = f"projection {self.projection.shape}, {odd}, {len(self.rows)} rows for {len(self.points)} points"
            found += f", {len(shown)} pictures, {len(strange)} of another shape or data set"
            wanted = f"(n, 2), n labels, a row of neighbours for each point, ({channels}, H, W) for each"
            raise DataError("representations", found=found, wanted=wanted, next_step="take all from the same heads")
        if len(self.channels) != channels:
            step = "name each channel once"
            raise DataError("channels", found=len(self.channels), wanted=channels, next_step=step)
        return self


def fig08_representations(data: Representations) -> Figure:
    """Heads in the plane of t-SNE, the neighbours of some of them, and what their representations depend on.

    Source: Fig. 8, Seia et al. 2023.
    Deviation: data set and stroke have a panel each; the points are chosen by rule, see
        :func:`strokelib.ssl_nnunet.representations.representative_points`; each neighbour carries the colour of its
        data set and the mark of stroke or none; all maps have one scale, to the 99.5th percentile of their size.

    Raises:
        DataError: The parts do not fit together, or there is not exactly one channel.
    """
    return _figure(data.checked(1), side_by_side=False)


def figB9_representations_two_channels(data: Representations) -> Figure:
    """The same for an encoder of NCCT and difference image: two pictures and two attribution maps a head.

    Source: Fig. B.9, Seia et al. 2023.
    Deviation: as :func:`fig08_representations`; each channel's maps have a scale of their own.

    Raises:
        DataError: The parts do not fit together, or there are not exactly two channels.
    """
    return _figure(data.checked(2), side_by_side=True)


def _figure(data: Representations, *, side_by_side: bool) -> Figure:
    """Two panels of points over a pair of grids for each channel: pictures, and attributions below."""
    columns, rows = max(len(row) for row in data.rows), len(data.rows)
    field_mm = field_of(data.rows)
    channels = len(data.channels)
    if side_by_side:
        wide = (WIDTH_IN - 2 * EDGE_IN - channels * (LABEL_IN + BAR_IN)) / channels - GAP_IN * (columns - 1)
        tile = np.array([wide / columns, wide / columns * field_mm[0] / field_mm[1]])
    else:
        tile = np.array([SINGLE_TILE_IN[1] * field_mm[1] / field_mm[0], SINGLE_TILE_IN[1]])
        tile *= min(1.0, SINGLE_TILE_IN[0] / tile[0])
    grid_in = rows * tile[1] + (rows - 1) * GAP_IN
    height = SCATTER_IN + 2 * (TITLE_IN + grid_in) + EDGE_IN
    figure = plt.figure(figsize=(WIDTH_IN, height))
    _panels(figure, data, height)
    grid_wide = columns * tile[0] + (columns - 1) * GAP_IN
    whole = grid_wide + LABEL_IN + BAR_IN
    for channel, look in enumerate(data.channels):
        free = WIDTH_IN - 2 * EDGE_IN - whole * (channels if side_by_side else 1)
        left = EDGE_IN + LABEL_IN + (channel * (whole + free / max(channels - 1, 1)) if side_by_side else free / 2)
        top = height - SCATTER_IN
        for kind in ("image", "map"):
            letter = "cedf"[2 * channel + (kind == "map")] if side_by_side else "cd"[kind == "map"]
            _letter(figure, (left - LABEL_IN, top - 0.08), letter)
            neighbour_grid(figure, data.rows, (left, top), tile, field_mm, (channel, kind), look, _set_colours(data))
            top -= TITLE_IN + grid_in
    return figure


def _panels(figure: Figure, data: Representations, height: float) -> None:
    """The points by data set and by stroke, the representative ones in black with their number."""
    size = np.array([WIDTH_IN, height, WIDTH_IN, height])
    n, by_set = len(data.projection), np.asarray(data.data_sets).astype(str)
    looks = _set_colours(data)
    for number, label in enumerate(("data set", "stroke")):
        place = np.array([0.2 + 3.55 * number, height - SCATTER_IN + 0.2, 2.2, SCATTER_IN - 0.5])
        ax = figure.add_axes(place / size)
        if label == "data set":
            kinds = [(name, by_set == name, colour, "o") for name, colour in looks.items()]
        else:
            kinds = [
                (STROKE_LOOKS[yes][0], np.asarray(data.stroke, bool) == yes, *STROKE_LOOKS[yes][1:])
                for yes in STROKE_LOOKS
            ]
        handles = []
        for name, who, colour, mark in kinds:
            how = {"color": colour, "marker": mark, "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.4}
            ax.plot(*data.projection[who].T, linestyle="", **how)
            handles.append(Line2D([], [], linestyle="", label=f"{name} ({int(who.sum())})", **how))
        handles.append(_mark_points(ax, data))
        score = data.silhouettes.get(label)
        title = f"by {label}, n = {n}" + ("" if score is None else f", silhouette {score:.2f}".replace("-", "−"))
        ax.set_title(title, loc="left", pad=4)
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handletextpad=0.2)
        ax.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
        ax.xaxis.labelpad = ax.yaxis.labelpad = 2
        plotting.panel_letter(ax, "ab"[number])
    said = [data.encoder, "" if data.perplexity is None else f"perplexity {data.perplexity:.3g}"]
    text = ", ".join(part for part in said if part)
    figure.text(1 - EDGE_IN / WIDTH_IN, 1 - 0.05 / height, text, ha="right", va="top", fontsize=SMALL_PT, color="0.35")


def _mark_points(ax: Axes, data: Representations) -> Line2D:
    how = {"color": "black", "marker": "X", "markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
    middle = data.projection.mean(axis=0)
    for number, point in enumerate(data.points, 1):
        x, y = data.projection[point]
        ax.plot(x, y, linestyle="", zorder=4, **how)
        side = 1 if x <= middle[0] else -1
        box = {"facecolor": "white", "alpha": 0.75, "pad": 0.6, "linewidth": 0}
        look = {"fontsize": 8, "fontweight": "bold", "bbox": box, "zorder": 3.5, "va": "center", "ha": "center"}
        ax.annotate(str(number), (x, y), xytext=(8 * side, 0), textcoords="offset points", **look)
    return Line2D([], [], linestyle="", label="chosen points", **how)


def _set_colours(data: Representations) -> dict[str, str]:
    names = np.unique(np.asarray(data.data_sets).astype(str)).tolist()
    return {name: SET_COLOURS[number % len(SET_COLOURS)] for number, name in enumerate(names)}


def _letter(figure: Figure, at: tuple[float, float], letter: str) -> None:
    x, y = np.array(at) / figure.get_size_inches()
    figure.text(x, y, letter, fontsize=10, weight="bold", va="center")
