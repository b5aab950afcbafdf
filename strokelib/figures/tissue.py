"""Tissue maps over axial slices: grey matter, white matter and fluid as tints, with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from strokelib import plotting

WIDTH_IN = 7.2
TISSUE_COLOURS = {"grey matter": "#CC79A7", "white matter": "#F0E442", "fluid": "#0072B2"}


@dataclass(frozen=True)
class TissuePicture:
    """One axial slice and the tissues on it.

    Args:
        image_hu: (H, W) in HU, LPS order.
        spacing_yx: (dy, dx) in mm.
        title: Stands above it.
        labels: (H, W), 0 outside, 1 grey, 2 white, 3 fluid; or (3, H, W), probabilities in that order, which mix the
            tints. None draws the CT alone.
        lesion: (H, W) bool, outlined in orange.
    """

    image_hu: np.ndarray
    spacing_yx: tuple[float, float]
    title: str = ""
    labels: np.ndarray | None = None
    lesion: np.ndarray | None = None


def tint(labels: np.ndarray, strength: float) -> np.ndarray:
    """Tints (H, W, 4), red, green, blue and opacity in 0 to 1, of labels (H, W) or probabilities (3, H, W)."""
    if labels.ndim == 2:
        labels = np.stack([labels == number for number in (1, 2, 3)])
    shares = np.clip(labels.astype(float), 0.0, 1.0)
    total = shares.sum(axis=0)
    colours = np.array([to_rgb(colour) for colour in TISSUE_COLOURS.values()])
    mixed = np.tensordot(shares, colours, (0, 0)) / np.maximum(total, 1e-6)[..., None]
    return np.concatenate([np.clip(mixed, 0, 1), strength * np.clip(total, 0, 1)[..., None]], axis=-1)


def _draw(ax: plt.Axes, picture: TissuePicture, window_hu: tuple[float, float], strength: float) -> None:
    plotting.ct_slice(ax, picture.image_hu, spacing_yx=picture.spacing_yx, window_hu=window_hu)
    if picture.labels is not None:
        aspect = picture.spacing_yx[0] / picture.spacing_yx[1]
        ax.imshow(tint(picture.labels, strength), aspect=aspect, interpolation="nearest")
    if picture.lesion is not None:
        plotting.outline(ax, picture.lesion, plotting.TRUTH_COLOUR)
    ax.set_title(picture.title)


def tissue_grid(
    rows: Sequence[Sequence[TissuePicture]],
    *,
    height_in: float = 1.9,
    window_hu: tuple[float, float] = (0, 60),
    strength: float = 0.5,
) -> Figure:
    """Rows of slices, as wide as a page, with the tissues' legend above.

    Args:
        rows: Pictures by row; rows may differ in length.
        height_in: Height of a row.
        window_hu: Lower and upper end of the grey scale; narrow, since grey and white matter are 5 to 8 HU apart.
        strength: Opacity of the tints, 0 to 1.
    """
    columns = max(map(len, rows))
    size = (WIDTH_IN, height_in * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), columns, figsize=size, layout="constrained", squeeze=False)
    for row, pictures in zip(axes, rows, strict=True):
        for ax, picture in zip(row, pictures, strict=False):
            _draw(ax, picture, window_hu, strength)
        for ax in row[len(pictures) :]:
            ax.set_visible(False)
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour, alpha=0.8, label=name) for name, colour in TISSUE_COLOURS.items()
    ]
    if any(p.lesion is not None for pictures in rows for p in pictures):
        handles.append(Line2D([], [], color=plotting.TRUTH_COLOUR, label="infarct"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def tissue_row(pictures: Sequence[TissuePicture], **options: float | tuple[float, float]) -> Figure:
    """Slices side by side; ``options`` as :func:`tissue_grid`."""
    return tissue_grid([pictures], **options)
