"""Figure 11 of Sun et al. 2024: how far estimated volumes of small infarcts agree with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.stats import BlandAltman, Estimate, bland_altman

WIDTH_IN, HEIGHT_IN, SMALL_PT = 7.2, 3.25, 6.5
SMALL_ML, FEWEST = 70.0, 3


@dataclass(frozen=True)
class VolumeAgreement:
    """Estimated and true volumes of the scans with a small infarct.

    Args:
        name: Of the method.
        estimated_ml: (n,).
        reference_ml: (n,), at most ``up_to_ml``.
        agreement: Of ``estimated_ml - reference_ml``; None with fewer than :data:`FEWEST` scans.
        scans: All scans, large infarcts too.
        up_to_ml: The stratum's end.
    """

    name: str
    estimated_ml: np.ndarray
    reference_ml: np.ndarray
    agreement: BlandAltman | None
    scans: int
    up_to_ml: float = SMALL_ML

    @classmethod
    def of(
        cls, name: str, estimated_ml: Sequence[float], reference_ml: Sequence[float], up_to_ml: float = SMALL_ML
    ) -> VolumeAgreement:
        """Keep the scans whose reference is small.

        Args:
            name: Of the method.
            estimated_ml: (n,).
            reference_ml: (n,), of the same scans.
            up_to_ml: Largest reference volume.

        Raises:
            DataError: The lengths differ, or a value is not finite.
        """
        estimated, reference = np.asarray(estimated_ml, float), np.asarray(reference_ml, float)
        known = estimated.shape == reference.shape and estimated.ndim == 1
        known = known and bool(np.isfinite(estimated).all() and np.isfinite(reference).all())
        if not known:
            found = f"{estimated.shape} and {reference.shape}"
            wanted, step = "two finite columns of one length", "score all test scans"
            raise DataError(f"volumes of {name}", found=found, wanted=wanted, next_step=step)
        small = reference <= up_to_ml
        kept = estimated[small], reference[small]
        return cls(name, *kept, bland_altman(*kept) if small.sum() >= FEWEST else None, len(small), up_to_ml)


def fig11_bland_altman(panels: Sequence[VolumeAgreement]) -> Figure:
    """Difference of estimated and true volume over their mean, a panel a method, on one scale.

    Source: Fig. 11, Sun et al. 2024.
    Deviation: the paper's "95 % CI" are limits of agreement, bias plus and minus 1.96 SD (P36); here bias and limits
        have confidence intervals of their own, the limits' exact ones. A line shows whether the difference grows with
        the volume.

    Args:
        panels: The backbone and PAPL.

    Raises:
        DataError: There is no panel.
    """
    if not panels:
        raise DataError("panels of a figure", found="none", wanted="one or more", next_step="score the scans first")
    size = (WIDTH_IN, HEIGHT_IN)
    figure, axes = plt.subplots(
        1, len(panels), figsize=size, layout="constrained", sharex=True, sharey=True, squeeze=False
    )
    for letter, ax, one in zip("abcdefgh", axes[0], panels, strict=False):
        _panel(ax, one)
        plotting.panel_letter(ax, letter)
    furthest = max((one.estimated_ml + one.reference_ml).max(initial=0) / 2 for one in panels) or 1.0
    axes[0, 0].set(ylabel="estimated − reference (mL)", xlim=(0, 1.04 * furthest))
    handles = [
        Line2D([], [], color=plotting.BIAS_COLOUR, linewidth=1.3, label="bias"),
        Line2D(
            [],
            [],
            color=plotting.LIMIT_COLOUR,
            linewidth=1.1,
            linestyle="--",
            label="limits of agreement, bias ± 1.96 SD",
        ),
        Patch(color="0.6", alpha=0.35, label="95 % CI of each"),
        Line2D([], [], color="0.35", linewidth=0.9, linestyle=":", label="least squares"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _panel(ax: Axes, one: VolumeAgreement) -> None:
    mean, difference = (one.estimated_ml + one.reference_ml) / 2, one.estimated_ml - one.reference_ml
    lines = [f"{one.name}: n = {len(mean)} of {one.scans} scans, up to {one.up_to_ml:g} mL"]
    if one.agreement is None:
        lines += [f"too few for limits, which need {FEWEST}"]
    else:
        found = one.agreement
        slope = f", slope {_text(found.slope, 2)}" if np.isfinite(found.slope.value) else ""
        lines += [f"bias {_text(found.bias)} mL{slope}"]
        lines += [f"limits {_text(found.lower)} and {_text(found.upper)} mL"]
        plotting.limits_of_agreement(ax, found, mean)
    ax.axhline(0, color="0.75", linewidth=0.7, zorder=0)
    ax.plot(mean, difference, "o", color="0.25", markersize=3.2, alpha=0.85, markeredgewidth=0, zorder=3)
    ax.set_title("\n".join(lines), loc="left", fontsize=SMALL_PT + 0.5, pad=4, linespacing=1.2)
    ax.set_xlabel("mean of both (mL)")


def _text(estimate: Estimate, digits: int = 1) -> str:
    value, low, high = (
        f"{round(number, digits) + 0.0:.{digits}f}".replace("-", "−")
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"
