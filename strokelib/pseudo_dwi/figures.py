"""The figures of Wang et al. 2020. They draw what they are given; nothing here computes a result or saves a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from strokelib import plotting
from strokelib.errors import DataError, ParameterError
from strokelib.figures.image_grids import Picture, PictureRow, image_grid
from strokelib.figures.perfusion import SCALES, WIDTH_IN, perfusion_colours
from strokelib.pseudo_dwi.block_diagrams import fig02_pipeline as fig02_pipeline
from strokelib.pseudo_dwi.block_diagrams import fig04_context_encoder as fig04_context_encoder
from strokelib.pseudo_dwi.block_diagrams import fig05_slnet as fig05_slnet
from strokelib.pseudo_dwi.examples import BolusExample, PerfusionExample, SliceExample
from strokelib.pseudo_dwi.tables import GROUPS, group_of

# The rows of Tables 1 to 5 by their printed names -> labels for legends and titles.
LABELS = {
    "L1": "L1",
    "L2": "L2",
    "GAN": "GAN",
    "L2 + GAN": "L2 + GAN",
    "w-L2": "w-L2",
    "w-L2 + l_h1": r"w-L2 + $\ell_{h1}$",
    "w-L2 + l_h2": r"w-L2 + $\ell_{h2}$",
    "F_o": r"$F_o$",
    "F_o,F_l": r"$F_o, F_l$",
    "F_o,F_l,F_h*": r"$F_o, F_l, F_h^*$",
    "F_o,F_l,F_h": r"$F_o, F_l, F_h$",
    "Real DWI": "real DWI",
    "FCN": "FCN",
    "UNet": "UNet",
    "R2UNet": "R2UNet",
    "ResUNet": "ResUNet",
    "SLNet": "SLNet",
    "SLNet (w/o SE)": "SLNet w/o SE",
    "SLNet (w/o SN)": "SLNet w/o SN",
    "L_CE": r"$L_{CE}$",
    "L_DICE": r"$L_{DICE}$",
    "L_GD": r"$L_{GD}$",
    "L_HGD": r"$L_{HGD}$",
    "L_CE + L_HGD": r"$L_{CE} + L_{HGD}$",
    "L_WCE + L_HGD": r"$L_{WCE} + L_{HGD}$",
    "CTA (I*)": r"$I^*$",
    "DWI^o": r"DWI$^{o}$",
    "DWI^{o,l}": r"DWI$^{o,l}$",
    "DWI^{o,l,h}": r"DWI$^{o,l,h}$",
    "DWI^{o,l,h}(s)": r"DWI$^{o,l,h}$(s)",
    "F_o + DWI^{o,l,h}": r"$F_o$ + DWI$^{o,l,h}$",
}

MAP_TITLES = {"cbf": "CBF", "cbv": "CBV", "mtt_s": "MTT", "tmax_s": "Tmax"}
FRAME_HU = (0.0, 100.0)
# The inputs of Fig. 10 by their printed names.
VOLUME_COLOURS = {
    "F_o": "#999999",
    "DWI^o": "#E69F00",
    "DWI^{o,l}": "#56B4E9",
    "DWI^{o,l,h}": "#0072B2",
    "Real DWI": "#009E73",
}
WINDOW_COLOUR, CURVE_COLOUR = "#D55E00", "#0072B2"
REAL = "Real DWI"


def _labels(names: Sequence[str]) -> list[str]:
    if not names or (strange := [name for name in names if name not in LABELS]):
        found, wanted = strange if names else "none", f"one or more of {', '.join(LABELS)}"
        raise ParameterError("rows of a figure", found=found, wanted=wanted, next_step="give rows as they are printed")
    return [LABELS[name] for name in names]


def fig01_perfusion_examples(patients: Sequence[PerfusionExample]) -> Figure:
    """Two frames, four maps and the DWI with its lesion, a row a patient.

    Source: Fig. 1, Wang et al. 2020.
    Deviation: units and colour bars are added, and all but the DWI is shown in the brain alone. The frames are the
        first of the bolus window and the brightest one.

    Args:
        patients: From top to bottom; the paper shows two.
    """
    titles = [
        "frame at $T_s$\n(HU)",
        "brightest frame\n(HU)",
        *(SCALES[n][0].replace(" (", "\n(") for n in MAP_TITLES),
        "DWI",
    ]
    rows = []
    for number, one in enumerate(patients):
        shown = (*one.frames_hu, *(one.maps[name] for name in MAP_TITLES))
        notes = [*(f"{time:.0f} s" for time in one.times_s), *[""] * len(MAP_TITLES)]
        looks = [*[("gray", FRAME_HU)] * 2, *((perfusion_colours(n), (0, SCALES[n][1])) for n in MAP_TITLES)]
        pictures = [
            Picture(np.where(one.brain, values, np.nan), note=note, colours=colours, limits=limits)
            for values, note, (colours, limits) in zip(shown, notes, looks, strict=True)
        ]
        pictures.append(Picture(one.dwi, truth=one.lesion))
        if number == 0:
            pictures = [dataclasses.replace(p, title=title) for p, title in zip(pictures, titles, strict=True)]
        rows.append(PictureRow(pictures, one.brain, one.spacing_yx, one.name))
    return image_grid(rows, bars=[(column, *look) for column, look in enumerate(looks)], key=["reference"])


def fig03_bolus_window(cases: Sequence[BolusExample]) -> Figure:
    """Intensity curve and its slope, with the start and the end of the bolus, a column a scan.

    Source: Fig. 3, Wang et al. 2020.
    Deviation: the curve is the brain's mean above its first frames, not a sum over all voxels; the slope and the frames
        taken are added.

    Args:
        cases: From left to right; the paper shows two.
    """
    size = (WIDTH_IN, 3.1)
    figure, axes = plt.subplots(
        2, len(cases), figsize=size, layout="constrained", sharex="col", squeeze=False, height_ratios=(1.7, 1)
    )
    for column, case in zip(axes.T, cases, strict=True):
        upper, lower = column
        upper.plot(case.times_s, case.curve_hu, color=CURVE_COLOUR, linewidth=1.3)
        lower.plot(case.times_s, case.slope_hu, color="0.3", linewidth=1.1)
        low, high = case.times_s[[case.window.start, case.window.end]]
        for ax in column:
            ax.axvspan(low, high, color=WINDOW_COLOUR, alpha=0.08, linewidth=0, zorder=0)
            ax.axhline(0, color="0.85", linewidth=0.7, zorder=0)
            for time in (low, high):
                ax.axvline(time, color=WINDOW_COLOUR, linewidth=0.9, linestyle="--")
        for time, name, side, shift in ((low, "$T_s$", "right", -2), (high, "$T_e$", "left", 2)):
            above = {"xycoords": upper.get_xaxis_transform(), "textcoords": "offset points"}
            upper.annotate(name, (time, 1), (shift, -2), ha=side, va="top", color=WINDOW_COLOUR, **above)
        times = case.times_s[case.frames]
        upper.plot(times, case.curve_hu[case.frames], "o", color=CURVE_COLOUR, markersize=3.5)
        below = {"transform": upper.get_xaxis_transform(), "clip_on": False, "markeredgewidth": 1.2}
        upper.plot(times, np.zeros(len(times)), "|", color=CURVE_COLOUR, markersize=8, **below)
        upper.tick_params(axis="x", length=0)
        upper.set_title(case.name + (", all frames" if case.window.fallback else ""))
        lower.set(xlabel="time (s)")
    axes[0, 0].set_ylabel("$q(t)$: enhancement\nof the brain (HU)")
    axes[1, 0].set_ylabel("$q'(t)$\n(HU per frame)")
    for ax, letter in zip(axes[0], "ABCDEFGH", strict=False):
        plotting.panel_letter(ax, letter)
    return figure


def _segmented(example: SliceExample, row: str, title: str = "") -> Picture:
    note = f"Dice {example.dice[row]:.2f}"
    return Picture(example.image, title, note, truth=example.lesion, predicted=example.predicted[row])


def _row(example: SliceExample, pictures: Sequence[Picture], label: str) -> PictureRow:
    return PictureRow(pictures, example.brain, example.spacing_yx, label)


def _made(example: SliceExample, row: str, title: str) -> Picture:
    if row == REAL:
        return Picture(example.image, title)
    if row not in example.synthetic:
        found, step = f"pseudo-DWI of {', '.join(example.synthetic) or 'no row'}", "pass the image of each row"
        raise DataError(f"slice {example.name}", found=found, wanted=row, next_step=step)
    return Picture(example.synthetic[row], title)


def fig06_synthesis_losses(example: SliceExample) -> Figure:
    """Maps and real DWI, the pseudo-DWI of each loss, and what is found on each.

    Source: Fig. 6, Wang et al. 2020.
    Deviation: contours in the colours of all our figures (erratum W26), on the real DWI, with the scan's Dice; no
        arrows, which would point at what one wants to see.

    Args:
        example: A slice with rows of Table 1.
    """
    rows = list(example.predicted)
    inputs = [
        Picture(np.where(example.brain, values, np.nan), title, colours=perfusion_colours(name))
        for values, (name, title) in zip(example.maps, MAP_TITLES.items(), strict=True)
    ]
    return image_grid(
        [
            _row(example, [*inputs, Picture(example.image, LABELS[REAL])], "input, target"),
            _row(example, [_made(example, r, t) for r, t in zip(rows, _labels(rows), strict=True)], "pseudo-DWI"),
            _row(example, [_segmented(example, row) for row in rows], "segmentation"),
        ]
    )


def fig07_synthesis_inputs(example: SliceExample) -> Figure:
    """The pseudo-DWI from each input beside the real one, and what is found on each.

    Source: Fig. 7, Wang et al. 2020.
    Deviation: as :func:`fig06_synthesis_losses`.

    Args:
        example: A slice with rows of Table 2.
    """
    rows = list(example.predicted)
    made = [_made(example, row, title) for row, title in zip(rows, _labels(rows), strict=True)]
    found = [_segmented(example, row) for row in rows]
    return image_grid([_row(example, made, "pseudo-DWI"), _row(example, found, "segmentation")])


def fig08_segmenters(examples: Sequence[SliceExample]) -> Figure:
    """What each network finds, drawn on the real DWI, a row a test slice.

    Source: Fig. 8, Wang et al. 2020.
    Deviation: as :func:`fig06_synthesis_losses`.

    Args:
        examples: Slices with the same rows of Table 3.
    """
    return _contours(examples)


def fig09_segmentation_inputs(examples: Sequence[SliceExample]) -> Figure:
    """What SLNet finds from each input, drawn on the real DWI, a row a test slice.

    Source: Fig. 9, Wang et al. 2020.
    Deviation: as :func:`fig06_synthesis_losses`; all rows of Table 5 are shown, the caption leaves one out (W27).

    Args:
        examples: Slices with the same rows of Table 5.
    """
    return _contours(examples)


def _contours(examples: Sequence[SliceExample]) -> Figure:
    names = list(examples[0].predicted) if examples else []
    if not names or any(set(example.predicted) != set(names) for example in examples):
        found, step = [list(example.predicted) for example in examples], "show the same rows on each slice"
        raise DataError("slices of a figure", found=found, wanted="one or more, same rows", next_step=step)
    titles = [_labels(names), *([""] * len(names) for _ in examples[1:])]
    rows = [
        _row(example, [_segmented(example, n, t) for n, t in zip(names, of_row, strict=True)], example.name)
        for example, of_row in zip(examples, titles, strict=True)
    ]
    return image_grid(rows)


def fig10_volume_groups(scores: pd.DataFrame) -> Figure:
    """Dice and relative volume error by volume of the lesion, a box an input, a dot a scan.

    Source: Fig. 10, Wang et al. 2020.
    Deviation: single scans are drawn, without which a box of four scans says little.

    Args:
        scores: Columns method, case, metric, value of rows of Table 5, with ``dice``, ``relative_volume_error`` and
            ``truth_volume_ml``; of the five inputs shown those that were not run are left out.
    """
    inputs = [name for name in VOLUME_COLOURS if name in set(scores["method"])]
    labels = _labels(inputs)
    wide = scores[scores["method"].isin(inputs)].pivot(index=["method", "case"], columns="metric", values="value")
    group = wide["truth_volume_ml"].map(group_of)
    scans = group.groupby(level="case").first().value_counts()
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH_IN, 2.7), layout="constrained")
    for ax, values in zip(axes, (100 * wide["dice"], wide["relative_volume_error"]), strict=True):
        for number, name in enumerate(inputs):
            for place, wanted in enumerate(GROUPS):
                at = place + 0.16 * (number - (len(inputs) - 1) / 2)
                _box(ax, values.loc[name][group.loc[name] == wanted].dropna().to_numpy(), at, VOLUME_COLOURS[name])
        ticks = [f"{name.removeprefix('lesion ')}\nn = {scans.get(name, 0)}" for name in GROUPS]
        ax.set(xticks=range(len(GROUPS)), xticklabels=ticks, xlim=(-0.5, len(GROUPS) - 0.5))
        ax.tick_params(axis="x", length=0)
    axes[0].set(ylim=(0, 100), ylabel="Dice (%)")
    top = 1.2 * max(1.0, wide["relative_volume_error"].max())
    axes[1].set_yscale("symlog", linthresh=1, linscale=0.8)
    ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= top]
    axes[1].set(ylim=(0, top), yticks=ticks, ylabel="relative volume error")
    plotting.plain_ticks(axes[1].yaxis)
    handles = [Patch(color=VOLUME_COLOURS[name], label=label) for name, label in zip(inputs, labels, strict=True)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, handlelength=1.0)
    for ax, letter in zip(axes, "AB", strict=True):
        plotting.panel_letter(ax, letter)
    return figure


def _box(ax: Axes, values: np.ndarray, at: float, colour: str) -> None:
    if not len(values):
        return
    line = {"color": "0.25", "linewidth": 0.8}
    look = {"whiskerprops": line, "capprops": line, "medianprops": {"color": "black", "linewidth": 1.2}}
    look["boxprops"] = {"facecolor": colour, "edgecolor": "0.25", "linewidth": 0.6}
    ax.boxplot(values, positions=[at], widths=0.12, showfliers=False, patch_artist=True, manage_ticks=False, **look)
    jitter = 0.035 * np.sin(np.arange(len(values)) * 2.4)
    ax.plot(at + jitter, values, "o", color="black", markersize=1.8, alpha=0.7, markeredgewidth=0, zorder=4)
