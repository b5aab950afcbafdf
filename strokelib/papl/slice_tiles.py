"""One aligned slice on one axis: cut to a field in mm, the midline in its middle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from strokelib import plotting
from strokelib.figures.image_grids import MARGIN_MM
from strokelib.papl.examples import mirrored_box

LESION_ABOVE, BRIGHTEST, PROBABILITY = 0.5, 99.5, "magma"


def inch_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """An axis whose place is given in inches from the figure's lower left corner."""
    wide, tall = figure.get_size_inches()
    return figure.add_axes((left / wide, bottom / tall, width / wide, height / tall))


def field_mm(brain: np.ndarray, spacing_yx: tuple[float, float]) -> tuple[float, float]:
    """Height and width of the picture of an aligned brain and its mirror image, with a margin."""
    both = brain | brain[:, ::-1]
    spans = [np.ptp(np.flatnonzero(both.any(axis=axis))) + 1 for axis in (1, 0)]
    return tuple(float(n * step + 2 * MARGIN_MM) for n, step in zip(spans, spacing_yx, strict=True))


def top_of(values: Sequence[np.ndarray], percentile: float = BRIGHTEST) -> float:
    """Upper end of one colour scale for several pictures: the largest of their percentiles, 1 where there is none."""
    return max((float(np.percentile(one, percentile)) for one in values if one.size), default=0.0) or 1.0


def aligned_slice(
    ax: Axes,
    values: np.ndarray,
    brain: np.ndarray,
    spacing_yx: tuple[float, float],
    limits: tuple[float, float],
    size_mm: tuple[float, float] | None = None,
    *,
    colours: str | Colormap = "gray",
    midline: bool = True,
) -> Axes:
    """An aligned slice, black outside the brain.

    Args:
        ax: Its sides should be as those of the field.
        values: (H, W).
        brain: (H, W) bool.
        spacing_yx: (dy, dx) in mm.
        limits: Ends of the colour scale.
        size_mm: Height and width of the field; None for that of this brain.
        colours: Colour map.
        midline: Draw the mid-sagittal line.
    """
    (height, width), (dy, dx) = size_mm or field_mm(brain, spacing_yx), spacing_yx
    shown = np.where(brain, values, np.nan)
    ax.imshow(shown, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto", interpolation="nearest")
    plotting.bare(ax)
    rows = np.flatnonzero(brain.any(axis=1))
    x, y = (brain.shape[1] - 1) / 2, (rows[0] + rows[-1]) / 2
    if midline:
        plotting.midline(ax, (x, rows[0] - 2), (x, rows[-1] + 2))
    ax.set(xlim=(x - width / 2 / dx, x + width / 2 / dx), facecolor="black")
    ax.set(ylim=(y + height / 2 / dy, y - height / 2 / dy))
    return ax


def paired_windows(ax: Axes, box: Sequence[int], columns: int, colour: str, line: float) -> Axes:
    """A window (top, bottom, left, right) of a slice and, dashed, its mirror image."""
    window(ax, box, colour, line)
    return window(ax, mirrored_box(box, columns), colour, 0.8 * line, (0, (3, 2)))


def window(ax: Axes, box: Sequence[int], colour: str, line: float, style: str | tuple = "-") -> Axes:
    """The frame of a window (top, bottom, left, right) in pixels, ends excluded; their middles have whole numbers."""
    top, bottom, left, right = box
    look = {"fill": False, "edgecolor": colour, "linewidth": line, "linestyle": style}
    ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **look))
    return ax
