"""The figures of Sun et al. 2024. They draw what they are given; nothing here saves a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.figures.image_grids import Picture, PictureRow, image_grid
from strokelib.papl.agreement_figures import VolumeAgreement as VolumeAgreement
from strokelib.papl.agreement_figures import fig11_bland_altman as fig11_bland_altman
from strokelib.papl.alignment import Step
from strokelib.papl.block_diagrams import StagesExample as StagesExample
from strokelib.papl.block_diagrams import fig02_architecture as fig02_architecture
from strokelib.papl.embedding_figures import EmbeddedSamples as EmbeddedSamples
from strokelib.papl.embedding_figures import fig08_tsne as fig08_tsne
from strokelib.papl.examples import AdjacentExample, ContourExample, neighbour_dice
from strokelib.papl.perception_figures import PerceptionExample as PerceptionExample
from strokelib.papl.perception_figures import fig05_perception as fig05_perception
from strokelib.papl.refinement_figures import RefinementExample as RefinementExample
from strokelib.papl.refinement_figures import RefinementStep as RefinementStep
from strokelib.papl.refinement_figures import fig10_feature_maps as fig10_feature_maps
from strokelib.papl.sample_figures import SampledSlice as SampledSlice
from strokelib.papl.sample_figures import fig01_asymmetries as fig01_asymmetries
from strokelib.papl.sample_figures import fig04_samples as fig04_samples

WIDTH_IN = 7.2
MARGIN_MM = 24.0
WINDOW_HU, DWI_LIMITS = (0.0, 80.0), (0.0, 2.0)
# Rows of Table II -> titles, in the order of the paper's columns.
LABELS = {
    "U-Net (aligned)": "U-Net",
    "U-Net++ (aligned)": "U-Net++",
    "TransU-Net (aligned)": "TransU-Net",
    "ISP-Net": "ISP-Net",
    "X-Net": "X-Net",
    "CLCI-Net": "CLCI-Net",
    "PAPL": "PAPL",
}


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


def fig06_aisd_contours(rows: Sequence[ContourExample]) -> Figure:
    """What seven methods find on scans of AISD, the reference and the DWI, a row a scan.

    Source: Fig. 6, Sun et al. 2024.
    Deviation: the reference is outlined beside each prediction, in the colours of all our figures, with the scan's Dice
        below. Of the U-Nets the aligned ones of Table II are meant, which the paper leaves open. Slices are those with
        most lesion.

    Args:
        rows: Slices with the same rows of Table II, those of :data:`LABELS`; one that was not run is left out.

    Raises:
        DataError: No slice, another set of rows on one of them, or a row that the figure has not.
    """
    return _contours(rows)


def fig07_xwhd_contours(rows: Sequence[ContourExample]) -> Figure:
    """The same on scans of XWHD.

    Source: Fig. 7, Sun et al. 2024.
    Deviation: as :func:`fig06_aisd_contours`; so are arguments and errors. The reference of XWHD is the final infarct,
        that of AISD an early one (P38).
    """
    return _contours(rows)


def _contours(rows: Sequence[ContourExample]) -> Figure:
    names = [name for name in LABELS if rows and name in rows[0].predicted]
    if not names or any(set(one.predicted) != set(names) for one in rows):
        found, wanted = [list(one.predicted) for one in rows], f"the same ones of {', '.join(LABELS)} on each slice"
        raise DataError("slices of a figure", found=found, wanted=wanted, next_step="show the same rows on each slice")
    drawn = []
    for one in rows:
        scan = Picture(_inside(one.image_hu, one.brain), limits=WINDOW_HU, truth=one.lesion)
        notes = ["no Dice" if np.isnan(one.dice[name]) else f"Dice {one.dice[name]:.2f}" for name in names]
        pictures = [
            dataclasses.replace(scan, note=note, predicted=one.predicted[name])
            for name, note in zip(names, notes, strict=True)
        ]
        pictures += [scan, _dwi(one.dwi, one.brain, one.dwi_note)]
        if not drawn:
            titles = [*(LABELS[name] for name in names), "reference", "DWI"]
            pictures = [dataclasses.replace(p, title=title) for p, title in zip(pictures, titles, strict=True)]
        drawn.append(PictureRow(pictures, one.brain, one.spacing_yx, one.name))
    return image_grid(drawn)


def _inside(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    return np.where(brain, values, np.nan)


def _dwi(values: np.ndarray | None, brain: np.ndarray, note: str = "") -> Picture:
    if values is None:
        return Picture(np.full(brain.shape, np.nan), "", note or "no DWI")
    return Picture(_inside(values, brain), "", note, DWI_LIMITS)


def fig09_adjacent_slices(example: AdjacentExample) -> Figure:
    """Segmentations of consecutive slices with and without FCM, a row a training, then reference and DWI.

    Source: Fig. 9, Sun et al. 2024.
    Deviation: slices run from left to right. Below each one stands the Dice of its mask with that of the next slice,
        and below the last one their mean: what "continuity" means in numbers. The reference has it too, as no infarct
        is the same in two slices.

    Args:
        example: Slices of one scan, from below upwards.

    Raises:
        DataError: There is no training, or fewer than two slices.
    """
    if not example.predicted or len(example.brain) < 2:
        found = f"{len(example.predicted)} trainings, {len(example.brain)} slices"
        step = "pass the masks with and without FCM on more slices"
        raise DataError("slices of a figure", found=found, wanted="one or more, two or more", next_step=step)
    brain, drawn = example.brain.any(axis=0), []
    looks = [(name, masks, True) for name, masks in example.predicted.items()]
    for name, masks, predicted in [*looks, ("reference", example.lesion, False)]:
        steady = neighbour_dice(masks)
        notes = ["to the next: none" if np.isnan(one) else f"to the next: Dice {one:.2f}" for one in steady]
        notes.append("" if np.isnan(steady).all() else f"mean: Dice {np.nanmean(steady):.2f}")
        pictures = [
            Picture(_inside(image, own), "", note, WINDOW_HU, truth=lesion, predicted=mask if predicted else None)
            for image, own, note, lesion, mask in zip(
                example.image_hu, example.brain, notes, example.lesion, masks, strict=True
            )
        ]
        drawn.append(PictureRow(pictures, brain, example.spacing[1:], name))
    dwi = [None] * len(example.brain) if example.dwi is None else example.dwi
    pictures = [_dwi(one, own) for one, own in zip(dwi, example.brain, strict=True)]
    label = f"DWI ({example.dwi_note})" if example.dwi_note else "DWI"
    drawn.append(PictureRow(pictures, brain, example.spacing[1:], label))
    heights = [f"{number * example.spacing[0]:+.0f} mm" for number in range(len(example.brain))]
    first = [dataclasses.replace(p, title=text) for p, text in zip(drawn[0].pictures, heights, strict=True)]
    drawn[0] = dataclasses.replace(drawn[0], pictures=first)
    return image_grid(drawn)
