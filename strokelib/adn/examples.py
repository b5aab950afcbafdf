"""What the figures of Ni et al. 2022 show: a slice in the aligned frame, or one with the contour of each method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import binary_erosion, uniform_filter
from torch import Tensor

from strokelib.adn.model import Disentangled, compensate_pathology
from strokelib.data.cases import Case, fullest_slice
from strokelib.errors import DataError
from strokelib.figures.contours import MaskedSlice

LESION_ABOVE = 0.5
MARK_MM, AWAY_MM = 20.0, 8.0
BRIGHTEST = 99.5
MAPS = ("total", "pathological", "intrinsic")
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class AlignedExample:
    """One slice in the aligned frame and what ADN makes of it; the last axis is left-right, the midline in its middle.

    Args:
        image: X, (H, W) in [0, 1].
        total: A, (H, W).
        pathological: P, (H, W).
        intrinsic: Q, (H, W).
        anatomy_filled: X^ = X + Q, (H, W).
        pathology_filled: X~ = X + P, (H, W).
        lesion: T(G), (H, W) bool.
        probability: Of the infarct, (H, W) in [0, 1].
        brain: (H, W) bool.
        spacing_yx: (dy, dx) in mm.
        name: Of the scan, for the picture.
        sums_ml: ``total``, ``pathological`` and ``intrinsic`` -> sums inside and outside the reference over the whole
            scan, in mL of full scale (1 on 1000 mm3).
        truth: P*, (H, W), signed, or None where nobody knows it.
    """

    image: np.ndarray
    total: np.ndarray
    pathological: np.ndarray
    intrinsic: np.ndarray
    anatomy_filled: np.ndarray
    pathology_filled: np.ndarray
    lesion: np.ndarray
    probability: np.ndarray
    brain: np.ndarray
    spacing_yx: tuple[float, float]
    name: str = ""
    sums_ml: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    truth: np.ndarray | None = None

    @property
    def predicted(self) -> np.ndarray:
        """(H, W) bool: brain where the infarct is likelier than not, which is what is scored."""
        return (self.probability > LESION_ABOVE) & self.brain

    @property
    def mirrored(self) -> np.ndarray:
        """X', (H, W)."""
        return self.image[:, ::-1]

    def limits(self, values: np.ndarray) -> tuple[float, float]:
        """Ends of the colour scale of a map (H, W): 0, and the 99.5th percentile of the brain (1 where that is 0)."""
        top = float(np.percentile(values[self.brain], BRIGHTEST)) if self.brain.any() else 0.0
        return 0.0, top if top > 0 else 1.0

    @classmethod
    def of(
        cls,
        aligned: Tensor,
        found: Disentangled,
        lesion: Tensor | np.ndarray,
        brain: Tensor | np.ndarray,
        spacing: tuple[float, float, float],
        name: str = "",
        truth: np.ndarray | None = None,
        index: int | None = None,
    ) -> AlignedExample:
        """One slice of a scan.

        Args:
            aligned: X, (1, 1, D, H, W).
            found: What ADN returns for it.
            lesion: T(G) with D x H x W voxels, lesion above 0.5.
            brain: In the aligned frame, in the same way.
            spacing: (dz, dy, dx) in mm.
            name: Of the scan, for the picture.
            truth: P*, (D, H, W), or None.
            index: The slice to show; None for the one with most lesion.

        Raises:
            DataError: A volume has another shape, or there is no lesion that could choose the slice.
        """
        volumes = {"image": aligned, **found._asdict(), "lesion": lesion, "brain": brain}
        volumes["pathology_filled"] = compensate_pathology(aligned, found.pathological)
        volumes["probability"] = torch.sigmoid(volumes.pop("logits").float())
        volumes["anatomy_filled"] = volumes.pop("compensated")
        if truth is not None:
            volumes["truth"] = truth
        shape = tuple(aligned.shape[-3:])
        arrays = {key: _array(values, shape, f"{key} of {name or 'a scan'}") for key, values in volumes.items()}
        masks = {key: arrays.pop(key) > LESION_ABOVE for key in ("lesion", "brain")}
        z = fullest_slice(masks["lesion"], name) if index is None else index
        voxel_ml = float(np.prod(spacing)) / 1000
        inside, outside = masks["brain"] & masks["lesion"], masks["brain"] & ~masks["lesion"]
        sums = {key: tuple(float(arrays[key][m].sum()) * voxel_ml for m in (inside, outside)) for key in MAPS}
        slices = {key: values[z] for key, values in (arrays | masks).items()}
        return cls(**slices, spacing_yx=tuple(spacing[1:]), name=name, sums_ml=sums)

    def marks(self) -> dict[str, list[Box]]:
        """Two boxes about the lesion and its mirror image, and two about the strongest asymmetry away from both.

        Returns:
            ``pathological`` and ``natural`` -> boxes (top, bottom, left, right) in pixels, ends excluded; ``natural``
            is left out where there is no brain away from the lesion.

        Raises:
            DataError: The slice shows no lesion.
        """
        fullest_slice(self.lesion[None], self.name)
        half = [max(1, round(MARK_MM / 2 / step)) for step in self.spacing_yx]
        rows, columns = (np.flatnonzero(self.lesion.any(axis=axis)) for axis in (1, 0))
        box = (rows[0] - 1, rows[-1] + 2, columns[0] - 1, columns[-1] + 2)
        marks = {"pathological": self._both(box)}
        margin = [half_side + round(AWAY_MM / step) for half_side, step in zip(half, self.spacing_yx, strict=True)]
        both = self.brain & self.brain[:, ::-1]
        away = binary_erosion(both, np.ones([2 * round(AWAY_MM / step) + 1 for step in self.spacing_yx], bool))
        for top, bottom, left, right in marks["pathological"]:
            away[max(0, top - margin[0]) : bottom + margin[0], max(0, left - margin[1]) : right + margin[1]] = False
        middle = (self.image.shape[1] - 1) / 2
        away &= np.abs(np.arange(self.image.shape[1]) - middle) > half[1]
        if away.any():
            strength = uniform_filter(np.where(both, self.total, 0), [2 * n for n in half])
            y, x = np.unravel_index(np.where(away, strength, -1).argmax(), strength.shape)
            marks["natural"] = self._both((y - half[0], y + half[0] + 1, x - half[1], x + half[1] + 1))
        return marks

    def _both(self, box: Box) -> list[Box]:
        top, bottom, left, right = (int(side) for side in box)
        width = self.image.shape[1]
        return [(top, bottom, left, right), (top, bottom, width - right, width - left)]


def _array(values: Tensor | np.ndarray, shape: tuple[int, ...], thing: str) -> np.ndarray:
    """(D, H, W) float32 of a volume with or without leading axes of length 1."""
    array = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values, np.float32)
    if array.shape[-3:] != shape or array.size != np.prod(shape):
        step = "pass the volumes of one scan"
        raise DataError(thing, found=f"shape {array.shape}", wanted=f"one volume of {shape}", next_step=step)
    return array.reshape(shape)


class ContourExample(MaskedSlice):
    """One slice in the scan's own frame, and what each row of Table 1 finds on it."""

    @classmethod
    def of(cls, case: Case, probability: Mapping[str, np.ndarray], name: str = "") -> ContourExample:
        """The slice of a scan with most lesion.

        Args:
            case: With reference and brain mask.
            probability: Row of Table 1 -> (D, H, W) on the case's grid; lesion is what lies above 0.5.
            name: Of the scan, for the picture.

        Raises:
            DataError: The scan has no lesion, or no brain mask.
        """
        return super().of(case, {row: values > LESION_ABOVE for row, values in probability.items()}, name)
