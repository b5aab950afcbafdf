"""How good the data and their preparation are: realism of the embedded heads, errors of alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from strokelib import plotting

WIDTH_IN = 7.2

ERROR_LABELS = {
    "turn_deg": "turn in plane (degrees)",
    "angle_deg": "angle between planes (degrees)",
    "offset_mm": "offset at the centre (mm)",
    "largest_mm": "largest distance in the brain (mm)",
}


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
