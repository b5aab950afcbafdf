"""Figure 5 of Sun et al. 2024: what the regional perception refinement sees of slices early and late after onset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.papl.examples import inner
from strokelib.papl.losses import bilateral_difference, bilateral_salience
from strokelib.papl.slice_tiles import LESION_ABOVE, PROBABILITY, aligned_slice, field_mm, inch_axes, top_of
from strokelib.stats import spearman

WIDTH_IN, LEFT_IN, RIGHT_IN, GAP_IN, WIDEST_IN = 7.2, 0.2, 0.4, 0.05, 1.7
TITLE_IN, NOTE_IN, KEY_IN, TREND_IN, SMALL_PT = 0.2, 0.18, 0.24, 1.75, 6.5
DIFFERENCE = "viridis"


@dataclass(frozen=True)
class PerceptionExample:
    """One aligned slice as RPRS sees it.

    Args:
        image: x, (H, W) in [0, 1], the HU window rescaled.
        prediction: M, (H, W) in [0, 1].
        brain: (H, W) bool.
        lesion: (H, W) bool.
        hours: From onset to the scan; NaN where unknown.
        salience: phi of the slice.
        difference: L1 of the slice, the sum over its pixels.
        spacing_yx: (dy, dx) in mm.
        window_hu: The window that became [0, 1].
    """

    image: np.ndarray
    prediction: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    hours: float
    salience: float
    difference: float
    spacing_yx: tuple[float, float]
    window_hu: tuple[float, float] = (30.0, 100.0)

    @classmethod
    def of(
        cls,
        image: np.ndarray,
        prediction: np.ndarray,
        brain: np.ndarray,
        lesion: np.ndarray,
        hours: float,
        spacing_yx: tuple[float, float],
        *,
        mu: float = 1.0,
        window_hu: tuple[float, float] = (30.0, 100.0),
    ) -> PerceptionExample:
        """A slice with its phi and L1, Eqs 20 and 21.

        Raises:
            ParameterError: As :func:`strokelib.papl.losses.bilateral_salience`.
        """
        x, m = (torch.from_numpy(np.ascontiguousarray(v, np.float32))[None] for v in (image, prediction))
        phi, l1 = float(bilateral_salience(m, x, mu)), float(bilateral_difference(m, x, "sums"))
        masks = (np.asarray(brain, bool), np.asarray(lesion, bool))
        return cls(np.asarray(image), np.asarray(prediction), *masks, hours, phi, l1, spacing_yx, window_hu)

    @property
    def predicted(self) -> np.ndarray:
        """(H, W) bool: where infarct is likelier than not."""
        return (self.prediction > LESION_ABOVE) & self.brain

    @property
    def weighed_hu(self) -> np.ndarray:
        """(H, W): M |x - mirror(x)| in HU."""
        low, high = self.window_hu
        return (high - low) * self.prediction * np.abs(self.image - self.image[:, ::-1])


def fig05_perception(
    examples: Sequence[PerceptionExample], scans: tuple[Sequence[float], Sequence[float]] | None = None
) -> Figure:
    """Slices by time since onset: the prediction, the difference of the sides inside it, and how salient that is.

    Source: Fig. 5, Sun et al. 2024.
    Deviation: M and the weighed difference are shown below the slice, with phi and L1 (a sum over pixels) in numbers.
        The paper orders some slices; here all scans show whether the order holds.

    Args:
        examples: Drawn by hours, from left to right; as they come where some are unknown.
        scans: Hours and phi of all scans, or None.

    Raises:
        DataError: There is no slice.
    """
    if not examples:
        step = "give a slice of each of some scans"
        raise DataError("slices of a figure", found="none", wanted="one or more", next_step=step)
    if all(math.isfinite(one.hours) for one in examples):
        examples = sorted(examples, key=lambda one: one.hours)
    sizes = [field_mm(one.brain, one.spacing_yx) for one in examples]
    size_mm = tuple(max(sides) for sides in zip(*sizes, strict=True))
    wide = min((WIDTH_IN - LEFT_IN - RIGHT_IN) / len(examples) - GAP_IN, WIDEST_IN)
    tall = wide * size_mm[0] / size_mm[1]
    below = KEY_IN + (0.0 if scans is None else TREND_IN)
    total = TITLE_IN + 3 * (tall + GAP_IN) + NOTE_IN + below
    figure = plt.figure(figsize=(WIDTH_IN, total))
    weighed = top_of([one.weighed_hu[inner(one.brain, one.spacing_yx)] for one in examples])
    grey = top_of([one.image[inner(one.brain, one.spacing_yx)] for one in examples])
    looks = (("gray", grey), (PROBABILITY, 1.0), (DIFFERENCE, weighed))
    for column, one in enumerate(examples):
        left, pictures = LEFT_IN + column * (wide + GAP_IN), (one.image, one.prediction, one.weighed_hu)
        for row, (values, (colours, top)) in enumerate(zip(pictures, looks, strict=True)):
            ax = inch_axes(figure, left, total - TITLE_IN - tall - row * (tall + GAP_IN), wide, tall)
            aligned_slice(ax, values, one.brain, one.spacing_yx, (0.0, top), size_mm, colours=colours, midline=not row)
            plotting.outline(ax, one.lesion, plotting.TRUTH_COLOUR, width=0.9)
            if row == 0:
                plotting.outline(ax, one.predicted, plotting.PREDICTION_COLOUR, width=0.9)
                ax.set_title(f"{one.hours:.1f} h" if math.isfinite(one.hours) else "onset unknown", pad=2.5)
        said = rf"$\varphi$ {one.salience:.3f}, $L_1$ {one.difference:.1f}"
        ax.text(0.5, -0.02, said, transform=ax.transAxes, ha="center", va="top", fontsize=SMALL_PT + 0.5)
    names = ("x, slice", "M, prediction", r"$M\,|x - x\times T|$ (HU)")
    for row, (name, (colours, top)) in enumerate(zip(names, looks, strict=True)):
        bottom = total - TITLE_IN - tall - row * (tall + GAP_IN)
        middle = (bottom + tall / 2) / total
        figure.text(0.5 * LEFT_IN / WIDTH_IN, middle, name, rotation=90, ha="center", va="center")
        if row:
            at = LEFT_IN + len(examples) * (wide + GAP_IN) + 0.02
            bar = ScalarMappable(Normalize(0.0, top), colours)
            _bar(figure, inch_axes(figure, at, bottom + 0.1 * tall, 0.07, 0.8 * tall), bar)
    _contour_key(figure, below - 0.5 * KEY_IN)
    if scans is not None:
        _trend(inch_axes(figure, 0.62, 0.42, WIDTH_IN - 0.8, TREND_IN - 0.62), examples, *scans)
    return figure


def _bar(figure: Figure, ax: Axes, of: ScalarMappable) -> None:
    figure.colorbar(of, cax=ax).outline.set_visible(False)
    ax.tick_params(labelsize=SMALL_PT, length=2, pad=1.5)
    ax.locator_params(axis="y", nbins=4)


def _contour_key(figure: Figure, y_in: float) -> None:
    looks = {"reference": plotting.TRUTH_COLOUR, f"prediction, M > {LESION_ABOVE:g}": plotting.PREDICTION_COLOUR}
    handles = [Line2D([], [], color=colour, linewidth=1.4, label=name) for name, colour in looks.items()]
    place = {"loc": "center", "bbox_to_anchor": (0.5, y_in / figure.get_size_inches()[1])}
    figure.legend(handles=handles, ncols=2, frameon=False, handlelength=1.4, borderpad=0, borderaxespad=0, **place)


def _trend(ax: Axes, examples: Sequence[PerceptionExample], hours: Sequence[float], salience: Sequence[float]) -> None:
    """phi of every scan over its hours, the slices above marked."""
    ax.plot(hours, salience, "o", color="0.6", markersize=3.2, markeredgewidth=0)
    marks = {"color": plotting.PREDICTION_COLOUR, "markeredgecolor": "black", "markersize": 5, "markeredgewidth": 0.6}
    ax.plot([one.hours for one in examples], [one.salience for one in examples], "D", **marks)
    ax.set(xlabel="time since onset (h)", ylabel=r"$\varphi$ (1: sides alike)", xlim=(0, None))
    ax.margins(y=0.12)
    if len(hours) > 3:
        found = spearman(hours, salience)
        said = rf"n = {found.n}, Spearman's $\rho$ = {found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
        ax.set_title(said.replace("-", "−"), fontsize=SMALL_PT + 0.5, pad=3)
