"""What the figures of Sun et al. 2024 show of a scan: an aligned slice, contours of methods, neighbouring slices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, uniform_filter

from strokelib.data.cases import Case, fullest_slice, shown_slice
from strokelib.errors import DataError
from strokelib.figures.contours import MaskedSlice
from strokelib.metrics import dice

WINDOW_MM, AWAY_MM, SMOOTH_MM, RIM_MM = 18.0, 4.0, 3.0, 4.0
HOLDS = 0.8
RELATIONS = ("pathological", "intrinsic", "symmetric")
DWI, DWI_NOTE = "dwi", "dwi_note"
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Relation:
    """A window of a slice and its mirror image.

    Args:
        kind: One of :data:`RELATIONS`.
        box: (top, bottom, left, right) in pixels, ends excluded.
        own_hu: Mean of the window.
        mirror_hu: Mean of its mirror image.
    """

    kind: str
    box: Box
    own_hu: float
    mirror_hu: float

    @property
    def difference_hu(self) -> float:
        """Window minus mirror image."""
        return self.own_hu - self.mirror_hu


def mirrored_box(box: Box, width: int) -> Box:
    """The box on the other side of a slice ``width`` pixels wide."""
    top, bottom, left, right = box
    return top, bottom, width - right, width - left


@dataclass(frozen=True)
class AlignedSlice:
    """One aligned slice: the midline is the middle column, the last axis is left-right.

    Args:
        image_hu: (H, W) in HU.
        brain: (H, W) bool.
        lesion: (H, W) bool.
        spacing_yx: (dy, dx) in mm.
        name: Of the scan, for the picture.
    """

    image_hu: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    spacing_yx: tuple[float, float]
    name: str = ""

    @classmethod
    def of(cls, case: Case, name: str = "", index: int | None = None) -> AlignedSlice:
        """One slice of an aligned case.

        Args:
            case: As :func:`strokelib.data.inplane.align_case` makes it, with reference and brain mask.
            name: Of the scan, for the picture.
            index: The slice; None for the one with most lesion.

        Raises:
            DataError: There is no brain mask, no reference, or no lesion that could choose the slice.
        """
        z = shown_slice(case) if index is None else index
        lesion, brain = case.lesion[z].astype(bool), case.brain[z].astype(bool)
        return cls(case.image.array[z].astype(np.float32), brain, lesion, case.image.spacing[1:], name)

    def relations(self) -> tuple[Relation, ...]:
        """One window of each relation, chosen by rule and not by eye; all have sides of about :data:`WINDOW_MM`.

        Pathological: of the windows that hold most lesion (at least 0.8 of the highest share) the one darkest against
        its mirror image. Intrinsic: away from the lesion and its mirror image, the strongest mean difference; the
        darker side is the window. Symmetric: away from both, the least difference, of the means and of pixels after
        smoothing. Rims of the brain and of the midline are left out.

        Raises:
            DataError: There is no lesion, or no room for a window.
        """
        fullest_slice(self.lesion[None], self.name)
        half = [max(1, round(WINDOW_MM / 2 / step)) for step in self.spacing_yx]
        sides = [2 * n + 1 for n in half]
        both = inner(self.brain & self.brain[:, ::-1], self.spacing_yx)
        image = np.where(both, self.image_hu, 0.0).astype(float)
        difference = image - image[:, ::-1]
        columns = np.arange(both.shape[1])
        one_side = np.abs(columns - (both.shape[1] - 1) / 2) > half[1] + RIM_MM / self.spacing_yx[1]
        fits = binary_erosion(both, np.ones(sides, bool)) & one_side
        near = [2 * round(AWAY_MM / step) + side for step, side in zip(self.spacing_yx, sides, strict=True)]
        free = fits & ~binary_dilation(self.lesion | self.lesion[:, ::-1], np.ones(near, bool))
        darker = -uniform_filter(difference, sides)
        share = uniform_filter(self.lesion.astype(float), sides)
        held = fits & (share > 1e-6)
        places = {"pathological": _best(held & (share >= HOLDS * share[held].max(initial=0)), darker, self.name)}
        places["intrinsic"] = _best(free, darker, self.name)
        taken = np.zeros_like(free)
        taken[places["intrinsic"]] = True
        free &= ~binary_dilation(taken | taken[:, ::-1], np.ones([2 * side - 1 for side in sides], bool))
        smooth = np.abs(gaussian_filter(difference, [SMOOTH_MM / step for step in self.spacing_yx]))
        places["symmetric"] = _best(free, -uniform_filter(smooth, sides) - np.abs(darker), self.name)
        return tuple(self._relation(kind, *places[kind], half) for kind in RELATIONS)

    def _relation(self, kind: str, y: int, x: int, half: list[int]) -> Relation:
        box = (y - half[0], y + half[0] + 1, x - half[1], x + half[1] + 1)
        means = [
            float(self.image_hu[top:bottom, left:right].mean())
            for top, bottom, left, right in (box, mirrored_box(box, self.brain.shape[1]))
        ]
        return Relation(kind, box, *means)


def inner(brain: np.ndarray, spacing_yx: tuple[float, float]) -> np.ndarray:
    """The brain (H, W) without its rim of :data:`RIM_MM`, where pixels mix with bone."""
    return binary_erosion(brain, np.ones([2 * round(RIM_MM / step) + 1 for step in spacing_yx], bool))


def _best(allowed: np.ndarray, values: np.ndarray, name: str) -> tuple[int, int]:
    """The allowed pixel with the highest value."""
    if not allowed.any():
        wanted, step = f"room for windows of {WINDOW_MM:g} mm", "show a slice with more brain away from the lesion"
        raise DataError(f"slice of {name or 'a scan'}", found="no room", wanted=wanted, next_step=step)
    y, x = np.unravel_index(np.where(allowed, values, -np.inf).argmax(), values.shape)
    return int(y), int(x)


@dataclass(frozen=True)
class ContourExample(MaskedSlice):
    """One slice in the scan's own frame, and what each method of Table II finds on it.

    Args:
        dwi: (H, W), normal brain near 1, or None.
        dwi_note: Where the DWI comes from, in a few words.
    """

    dwi: np.ndarray | None = None
    dwi_note: str = ""

    @classmethod
    def of(cls, case: Case, masks: Mapping[str, np.ndarray], name: str = "") -> ContourExample:
        """The slice of a scan with most lesion.

        Args:
            case: With reference and brain mask; its channel ``dwi`` is shown where there is one.
            masks: Method -> (D, H, W) bool on the case's grid.
            name: Of the scan, for the picture.

        Raises:
            DataError: The scan has no lesion or no brain mask, or a mask has another shape or is not binary.
        """
        z = shown_slice(case)
        dwi = _dwi(case, slice(z, z + 1))
        more = {"dwi": None if dwi is None else dwi[0], "dwi_note": case.facts.get(DWI_NOTE, "")}
        return super().of(case, masks, name, **more)


def _dwi(case: Case, slices: slice) -> np.ndarray | None:
    """The slices (n, H, W) of a case's DWI, or None."""
    if DWI not in case.channels:
        return None
    return np.asarray(case.channels[DWI], np.float32).reshape(case.image.array.shape)[slices]


@dataclass(frozen=True)
class AdjacentExample:
    """Consecutive slices of one scan, from below upwards.

    Args:
        image_hu: (n, H, W) in HU.
        brain: (n, H, W) bool.
        lesion: (n, H, W) bool.
        predicted: Name of a training -> (n, H, W) bool.
        spacing: (dz, dy, dx) in mm.
        dwi: (n, H, W), normal brain near 1, or None.
        name: Of the scan.
        dwi_note: Where the DWI comes from, in a few words.
    """

    image_hu: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    predicted: Mapping[str, np.ndarray]
    spacing: tuple[float, float, float]
    dwi: np.ndarray | None = None
    name: str = ""
    dwi_note: str = ""

    @classmethod
    def of(cls, case: Case, masks: Mapping[str, np.ndarray], count: int = 6, name: str = "") -> AdjacentExample:
        """The consecutive slices of a scan that hold most lesion together.

        Args:
            case: With reference and brain mask; its channel ``dwi`` is shown where there is one.
            masks: Name of a training -> (D, H, W) bool on the case's grid.
            count: Slices, at most.
            name: Of the scan.

        Raises:
            DataError: The scan has no lesion or no brain mask.
        """
        shown_slice(case)
        area = case.lesion.sum(axis=(1, 2)).astype(float)
        count = min(count, len(area))
        held = np.convolve(area, np.ones(count), mode="valid")
        start = int(np.flatnonzero(held == held.max()).mean())
        slices = slice(start, start + count)
        predicted = {training: np.asarray(mask[slices], bool) for training, mask in masks.items()}
        image = np.asarray(case.image.array[slices], np.float32)
        brain, lesion = case.brain[slices].astype(bool), case.lesion[slices].astype(bool)
        note = case.facts.get(DWI_NOTE, "")
        return cls(image, brain, lesion, predicted, case.image.spacing, _dwi(case, slices), name, note)


def neighbour_dice(masks: np.ndarray) -> np.ndarray:
    """Dice of each slice's mask with that of the next one: how steady a segmentation is from slice to slice.

    Args:
        masks: (n, H, W) bool.

    Returns:
        (n - 1,) in [0, 1], NaN where both are empty.
    """
    return np.array([dice(one[None], other[None]) for one, other in pairwise(masks)])
