"""CT perfusion: maps beside the truth, curves, and errors over noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

from strokelib import plotting

WIDTH_IN = 7.2
# Map -> title with unit, upper end of the colour scale. Lower ends are 0.
SCALES: dict[str, tuple[str, float]] = {
    "cbf": ("CBF (mL/100 g/min)", 80.0),
    "cbv": ("CBV (mL/100 g)", 6.0),
    "mtt_s": ("MTT (s)", 14.0),
    "tmax_s": ("Tmax (s)", 14.0),
}
CURVE_COLOURS = {
    "artery": "#D55E00",
    "vein": "#0072B2",
    "grey matter": "0.15",
    "white matter": "0.6",
    "penumbra": "#E69F00",
    "core": "#CC79A7",
}
METHOD_STYLES = {"csvd": ("#0072B2", "o-", "cSVD"), "osvd": ("#D55E00", "s--", "oSVD")}
ERRORS = {"cbf": "CBF", "cbv": "CBV", "mtt_s": "MTT", "tmax_s": "Tmax"}


def perfusion_colours(name: str) -> Colormap:
    """The rainbow of perfusion programs on black; reversed for times, in which red is late and so bad news.

    Args:
        name: Key of :data:`SCALES`.
    """
    base = mpl.colormaps["nipy_spectral"](np.linspace(0.05, 0.93, 255))
    if name in ("mtt_s", "tmax_s"):
        base = mpl.colormaps["jet"](np.linspace(0.05, 0.97, 255))
    colours = ListedColormap(np.vstack(([0, 0, 0, 1], base)), name=f"perfusion-{name}")
    colours.set_bad("black")
    return colours


def crop_to(mask: np.ndarray, margin: int = 6) -> tuple[slice, slice]:
    """Rows and columns of the box around a mask (H, W), with a margin in pixels."""
    box = []
    for axis, size in enumerate(mask.shape):
        used = np.flatnonzero(mask.any(axis=1 - axis))
        box.append(slice(max(0, int(used[0]) - margin), min(size, int(used[-1]) + 1 + margin)))
    return box[0], box[1]


def _picture(ax: Axes, values: np.ndarray, spacing_yx: tuple[float, float], cmap: str | Colormap, top: float):
    aspect = spacing_yx[0] / spacing_yx[1]
    shown = ax.imshow(values, cmap=cmap, vmin=0, vmax=top, aspect=aspect, interpolation="nearest")
    plotting.bare(ax)
    return shown


def perfusion_maps(
    baseline_hu: np.ndarray,
    mip_hu: np.ndarray,
    dwi: np.ndarray,
    lesion: np.ndarray,
    core: np.ndarray,
    penumbra: np.ndarray,
    brain: np.ndarray,
    truth: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    *,
    spacing_yx: tuple[float, float],
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    """One slice: CT, temporal MIP and DWI at the sides of the maps, truth above estimate (A), and the curves (B, C).

    Args:
        baseline_hu: (H, W) CT before contrast.
        mip_hu: (H, W) largest enhancement over time, 0 outside the brain.
        dwi: (H, W), normal white matter near 1.
        lesion: (H, W) bool, what the reader drew on the DWI.
        core: (H, W) bool, true core.
        penumbra: (H, W) bool, true late tissue.
        brain: (H, W) bool.
        truth: Key of :data:`SCALES` -> (H, W).
        found: The same, estimated.
        spacing_yx: (dy, dx) in mm.
        curves: Key of :data:`CURVE_COLOURS` -> times in s and enhancement in HU.
    """
    figure = plt.figure(figsize=(WIDTH_IN, 4.7), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.9, 1))
    axes = upper.subplots(2, 6)
    box = crop_to(brain)
    _picture(axes[0, 0], baseline_hu[box], spacing_yx, "gray", 80)
    axes[0, 0].set_title("CT, 0 to 80 HU")
    _picture(axes[1, 0], mip_hu[box], spacing_yx, "gray", 120)
    axes[1, 0].set_title("temporal MIP")
    for column, (name, (title, top)) in enumerate(SCALES.items(), start=1):
        for row, maps in enumerate((truth, found)):
            values = np.where(brain, maps[name], np.nan)[box]
            shown = _picture(axes[row, column], values, spacing_yx, perfusion_colours(name), top)
        axes[0, column].set_title(title)
        bar = upper.colorbar(shown, ax=axes[:, column], location="bottom", aspect=14, shrink=0.9, pad=0.02)
        bar.outline.set_visible(False)
    _picture(axes[0, 5], dwi[box], spacing_yx, "gray", 2.0)
    plotting.outline(axes[0, 5], lesion[box], plotting.TRUTH_COLOUR)
    axes[0, 5].set_title("DWI, as drawn")
    _picture(axes[1, 5], baseline_hu[box], spacing_yx, "gray", 80)
    plotting.outline(axes[1, 5], penumbra[box], CURVE_COLOURS["penumbra"])
    plotting.outline(axes[1, 5], core[box], CURVE_COLOURS["core"])
    axes[1, 5].set_title("core, penumbra")
    for ax, label in ((axes[0, 1], "truth"), (axes[1, 1], "estimate")):
        ax.set_ylabel(label, labelpad=2)
    plotting.panel_letter(axes[0, 0], "A")
    left, right = lower.subplots(1, 2)
    for ax, names, letter in ((left, ("artery", "vein"), "B"), (right, tuple(CURVE_COLOURS)[2:], "C")):
        for name in names:
            if name in curves:
                ax.plot(*curves[name], color=CURVE_COLOURS[name], linewidth=1.3, label=name)
        ax.axhline(0, color="0.85", linewidth=0.7, zorder=0)
        ax.set(xlabel="time (s)", ylabel="enhancement (HU)")
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(0.98, 0.55), handlelength=1.2)
        plotting.panel_letter(ax, letter)
    return figure


def perfusion_errors(errors: pd.DataFrame, tissues: Sequence[str], value: str = "bias") -> Figure:
    """An error over noise, a column a map, a row a tissue, both methods; mean over scans and every scan as a dot.

    Args:
        errors: Columns ``map``, ``tissue``, ``method``, ``noise_hu``, ``truth`` and ``value``'s, one row a scan.
        tissues: From top to bottom.
        value: ``bias`` or ``rmse``, drawn in per cent of the true mean.
    """
    size = (WIDTH_IN, 1.15 * len(tissues) + 0.7)
    figure, axes = plt.subplots(
        len(tissues), len(ERRORS), figsize=size, layout="constrained", sharex=True, sharey="row", squeeze=False
    )
    for row, tissue in zip(axes, tissues, strict=True):
        for ax, (name, title) in zip(row, ERRORS.items(), strict=True):
            for method, (colour, style, label) in METHOD_STYLES.items():
                part = errors[(errors["map"] == name) & (errors["tissue"] == tissue) & (errors["method"] == method)]
                part = part.assign(share=100 * part[value] / part["truth"]).dropna(subset=["share"])
                means = part.groupby("noise_hu")["share"].mean()
                ax.plot(part["noise_hu"], part["share"], ".", color=colour, markersize=2.5, alpha=0.45)
                ax.plot(means.index, means, style, color=colour, markersize=3.2, linewidth=1.0, label=label)
            ax.axhline(0, color="0.8", linewidth=0.7, zorder=0)
            if tissue == tissues[0]:
                ax.set_title(title)
        row[0].set_ylabel(f"{tissue}\n{value} (%)")
    for ax in axes[-1]:
        ax.set_xlabel("noise (HU)")
    axes[0, -1].legend(frameon=False, loc="best")
    return figure
