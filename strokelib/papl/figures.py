"""The figures of Sun et al. 2024."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from strokelib import plotting
from strokelib.papl.alignment import Step

WIDTH_IN = 7.2
MARGIN_MM = 24.0


def fig03_alignment(rows: Sequence[tuple[str, Sequence[Step], tuple[float, float]]]) -> Figure:
    """The symmetry transform: a slice as scanned, turned, shifted, and how it then differs from its mirror image.

    Source: Fig. 3, Sun et al. 2024.
    Deviation: the paper shows one slice without numbers; here each step carries what is left of angle and offset, and a
        last picture shows the difference to the mirror image.

    Args:
        rows: Label, steps and (dy, dx) in mm of each slice shown.
    """
    size = (WIDTH_IN, 2.15 * len(rows))
    figure, axes = plt.subplots(len(rows), 4, figsize=size, layout="constrained", squeeze=False)
    for line, (label, steps, spacing_yx) in zip(axes, rows, strict=True):
        for ax, step in zip(line, steps, strict=False):
            plotting.ct_slice(ax, step.image_hu, spacing_yx=spacing_yx)
            plotting.midline(ax, step.top, step.bottom)
            middle = (step.image_hu.shape[1] - 1) / 2
            ax.axvline(middle, color="white", linewidth=0.6, linestyle=":")
            ax.set_title(f"{step.name}\n{step.angle_deg:+.1f} deg, {step.offset_voxels * spacing_yx[1]:+.1f} mm")
        last = steps[-1]
        difference = np.clip(last.image_hu, 0, 80) - np.clip(last.image_hu, 0, 80)[:, ::-1]
        both = last.brain & last.brain[:, ::-1]
        plotting.value_map(
            line[3], np.where(both, difference, 0.0), spacing_yx=spacing_yx, limits=(-20, 20), cmap="RdBu_r"
        )
        before, after = steps[0].mirror_difference_hu, last.mirror_difference_hu
        line[3].set_title(f"minus its mirror image\nmean {before:.1f}, now {after:.1f} HU")
        rows_used, columns_used = np.nonzero(steps[0].brain | last.brain)
        half = max(np.ptp(rows_used) * spacing_yx[0], np.ptp(columns_used) * spacing_yx[1]) / 2 + MARGIN_MM
        y, x = (rows_used.min() + rows_used.max()) / 2, (columns_used.min() + columns_used.max()) / 2
        for ax, around in zip(line, ("black", "black", "black", "#f7f7f7"), strict=True):
            ax.set(xlim=(x - half / spacing_yx[1], x + half / spacing_yx[1]))
            ax.set(ylim=(y + half / spacing_yx[0], y - half / spacing_yx[0]), facecolor=around)
        line[0].text(-0.06, 0.5, label, transform=line[0].transAxes, rotation=90, ha="right", va="center")
    return figure
