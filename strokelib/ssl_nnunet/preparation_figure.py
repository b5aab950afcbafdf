"""Fig. 1 of Seia et al. 2023: the preparation of an NCCT, each step with the picture it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from strokelib import plotting
from strokelib.data.cases import Volume
from strokelib.errors import DataError

WIDTH_IN, HEIGHT_IN = 7.2, 5.26
TILE_IN, GAP_IN, LEFT_IN, TOP_IN, CAPTION_IN, ROW_GAP_IN, PAD_IN = 1.17, 0.3, 0.08, 0.38, 0.3, 0.16, 0.045
ROWS = 3
FIELD_MM = 208.0
STEPS = ("as scanned", "a. resampled", "b. brain only", "c, d. registered", "e. result")
BRAIN_HU, CLIPPED_HU = (0.0, 80.0), (-100.0, 400.0)
BOX_COLOUR, ARROW_COLOUR, FIXED_COLOUR = "#EEF3F7", "#34495E", "#0072B2"


@dataclass(frozen=True)
class Shot:
    """One picture of a pipeline: a volume and where to cut it.

    Args:
        volume: Any grid.
        at_mm: (x, y, z) in RAS mm: the cut goes through it, the picture is centred on it.
        outline: (D, H, W) bool, drawn in orange, or None.
    """

    volume: Volume
    at_mm: np.ndarray
    outline: np.ndarray | None = None


@dataclass(frozen=True)
class Place:
    """Where a picture stands and how it is drawn.

    Args:
        column: From the left.
        row: From the top.
        caption: Stands below; ``{voxel}``, ``{mr}``, ``{low}`` and ``{high}`` are filled in.
        limits: Ends of the grey scale, or None for the picture's own 0.5 and 99.5 percentiles.
        plane: ``axial`` or ``coronal``.
    """

    column: int
    row: int
    caption: str
    limits: tuple[float, float] | None = BRAIN_HU
    plane: str = "axial"


PLACES = {
    "mr_raw": Place(0, 0, "{mr}\n{voxel}", None),
    "mr_1mm": Place(1, 0, "{mr}\n{voxel}", None),
    "mr_brain": Place(2, 0, "{mr}, stripped", None),
    "mr_on_ct": Place(3, 0, "c. {mr} and its mask\non the NCCT's grid", None),
    "mask_on_ct": Place(4, 0, "reference mask\non the NCCT"),
    "ct_raw": Place(0, 1, "NCCT\n{voxel}"),
    "ct_1mm": Place(1, 1, "NCCT\n{voxel}"),
    "ct_brain": Place(2, 1, "NCCT, stripped"),
    "ct_clipped": Place(4, 1, "e. NCCT, clipped\n{low} to {high} HU", CLIPPED_HU),
    "ct_raw_coronal": Place(0, 2, "NCCT, coronal", plane="coronal"),
    "ct_1mm_coronal": Place(1, 2, "NCCT, coronal", plane="coronal"),
    "atlas": Place(2, 2, "CT atlas\n(Rorden et al. 2012)"),
    "contralateral": Place(3, 2, "d. contralateral image\nflipped in the atlas"),
    "contralateral_clipped": Place(4, 2, "e. contralateral, clipped\n{low} to {high} HU", CLIPPED_HU),
}
ARROWS = (
    ("mr_raw", "mr_1mm"),
    ("mr_1mm", "mr_brain"),
    ("mr_brain", "mr_on_ct"),
    ("mr_on_ct", "mask_on_ct"),
    ("ct_raw", "ct_1mm"),
    ("ct_1mm", "ct_brain"),
    ("ct_brain", "ct_clipped"),
    ("ct_raw_coronal", "ct_1mm_coronal"),
    ("ct_brain", "atlas"),
    ("atlas", "contralateral"),
    ("contralateral", "contralateral_clipped"),
)


def _cut(shot: Shot, place: Place) -> tuple[np.ndarray, np.ndarray | None, list[float]]:
    """Picture, outline and extent in mm (left, right, bottom, top) about the point."""
    volume = shot.volume
    x, y, z = (np.linalg.inv(volume.affine) @ np.append(shot.at_mm, 1.0))[:3]
    dz, dy, dx = volume.spacing
    depth, height, width = volume.array.shape
    axial = place.plane == "axial"
    number, count = (round(float(z)), depth) if axial else (round(float(y)), height)
    if not 0 <= number < count:
        step = "give a point inside the volume"
        raise DataError("picture", found=f"slice {number}", wanted=f"0 to {count - 1}", next_step=step)
    part = (number,) if axial else (slice(None, None, -1), number)
    side = [-(x + 0.5) * dx, (width - x - 0.5) * dx]
    upright = [(height - y - 0.5) * dy, -(y + 0.5) * dy] if axial else [-(z + 0.5) * dz, (depth - z - 0.5) * dz]
    return volume.array[part], None if shot.outline is None else shot.outline[part], side + upright


def _draw(ax: Axes, shot: Shot, place: Place) -> None:
    picture, outline, extent = _cut(shot, place)
    limits = place.limits or tuple(np.percentile(picture, (0.5, 99.5)))
    ax.imshow(picture, cmap="gray", vmin=limits[0], vmax=limits[1], extent=extent, interpolation="nearest")
    if outline is not None and outline.any():
        ax.contour(
            outline.astype(float),
            levels=[0.5],
            colors=[plotting.TRUTH_COLOUR],
            linewidths=[0.9],
            extent=extent,
            origin="upper",
        )
    half = FIELD_MM / 2
    ax.set(xlim=(-half, half), ylim=(half, -half) if place.plane == "axial" else (-half, half), facecolor="black")
    ax.set_aspect("auto")
    plotting.bare(ax)


def _box(place: Place) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a picture, in inches from the figure's lower left corner."""
    left = LEFT_IN + place.column * (TILE_IN + GAP_IN)
    top = HEIGHT_IN - TOP_IN - place.row * (TILE_IN + CAPTION_IN + ROW_GAP_IN)
    return left, top - TILE_IN, left + TILE_IN, top


def _arrow(figure: Figure, start: tuple[float, float], end: tuple[float, float], *, dashed: bool = False) -> None:
    """An arrow between two points given in inches."""
    size = np.array([WIDTH_IN, HEIGHT_IN])
    figure.add_artist(
        FancyArrowPatch(
            tuple(np.array(start) / size),
            tuple(np.array(end) / size),
            transform=figure.transFigure,
            arrowstyle="-|>",
            mutation_scale=9,
            linewidth=1.1,
            linestyle=(0, (3, 1.6)) if dashed else "-",
            color=FIXED_COLOUR if dashed else ARROW_COLOUR,
            shrinkA=0,
            shrinkB=0,
        )
    )


def _between(figure: Figure, start: Place, end: Place) -> None:
    """The arrow from one picture to the next: to the right in a row, downwards in a column."""
    left, bottom, right, top = _box(start)
    to_left, _, _, to_top = _box(end)
    if start.row == end.row:
        middle = (bottom + top) / 2
        _arrow(figure, (right + PAD_IN, middle), (to_left - PAD_IN, middle))
    else:
        middle = (left + right) / 2
        _arrow(figure, (middle, bottom - CAPTION_IN / 2 - 0.02), (middle, to_top + PAD_IN))


def fig01_preprocessing(shots: Mapping[str, Shot], *, mr_name: str = "DWI") -> Figure:
    """The preprocessing pipeline, each step with the picture it made.

    Source: Fig. 1, Seia et al. 2023.
    Deviation: the pictures are of one embedded head, with our own skull strip and registration; coronal cuts are added,
        in which the resampling can be seen.

    Args:
        shots: One picture for each name in :data:`PLACES`.
        mr_name: ``DWI`` or ``ADC``.

    Raises:
        DataError: A picture is missing, or a point lies outside its volume.
    """
    missing = sorted(set(PLACES) - set(shots))
    if missing:
        step = "give a Shot for each of them"
        raise DataError("pictures", found=f"none for {', '.join(missing)}", wanted="all", next_step=step)
    figure = plt.figure(figsize=(WIDTH_IN, HEIGHT_IN))
    size = np.array([WIDTH_IN, HEIGHT_IN, WIDTH_IN, HEIGHT_IN])
    for column, step in enumerate(STEPS):
        left, _, right, top = _box(Place(column, 0, ""))
        _, bottom, _, _ = _box(Place(column, ROWS - 1, ""))
        low = bottom - CAPTION_IN - 0.04
        corner, extent = np.array([left - PAD_IN, low]), np.array([TILE_IN + 2 * PAD_IN, top + 0.3 - low])
        band = FancyBboxPatch(
            corner / size[:2],
            *(extent / size[:2]),
            boxstyle="round,pad=0,rounding_size=0.008",
            transform=figure.transFigure,
            facecolor=BOX_COLOUR,
            edgecolor="none",
            zorder=-1,
        )
        figure.add_artist(band)
        figure.text(
            (left + right) / 2 / WIDTH_IN, (top + 0.15) / HEIGHT_IN, step, ha="center", va="center", weight="bold"
        )
    for name, place in PLACES.items():
        left, bottom, right, top = _box(place)
        ax = figure.add_axes(np.array([left, bottom, TILE_IN, TILE_IN]) / size)
        _draw(ax, shots[name], place)
        dz, dy, dx = shots[name].volume.spacing
        voxel = "1 mm³" if np.allclose((dz, dy, dx), 1.0) else f"{dx:.2g} x {dy:.2g} x {dz:.2g} mm"
        low, high = CLIPPED_HU
        text = place.caption.format(mr=mr_name, voxel=voxel, low=f"{low:.0f}", high=f"{high:.0f}")
        at = ((left + right) / 2 / WIDTH_IN, (bottom - 0.04) / HEIGHT_IN)
        figure.text(*at, text, ha="center", va="top", fontsize=6.5, linespacing=1.15)
    for start, end in ARROWS:
        _between(figure, PLACES[start], PLACES[end])
    left, bottom, right, top = _box(Place(3, 1, ""))
    middle, line = (left + right) / 2, (bottom + top) / 2
    _arrow(figure, (middle, line), (middle, _box(PLACES["mr_on_ct"])[1] - CAPTION_IN), dashed=True)
    _arrow(figure, (middle, line), (middle, _box(PLACES["contralateral"])[3] + PAD_IN), dashed=True)
    at = ((middle + 0.07) / WIDTH_IN, (line - 0.17) / HEIGHT_IN)
    figure.text(*at, "fixed\nimage", fontsize=6.5, va="center", color=FIXED_COLOUR)
    return figure
