"""One slice of a scan with what each method finds on it, for figures of contours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from strokelib.data.cases import Case, shown_slice
from strokelib.metrics import dice


@dataclass(frozen=True)
class MaskedSlice:
    """One slice in the scan's own frame, and the masks on it.

    Args:
        image_hu: (H, W) in HU.
        brain: (H, W) bool.
        lesion: (H, W) bool.
        predicted: Row of a table, as printed -> (H, W) bool.
        dice: Row -> Dice of the whole scan in [0, 1], NaN where undefined.
        spacing_yx: (dy, dx) in mm.
        name: Of the scan, for the picture.
    """

    image_hu: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray
    predicted: Mapping[str, np.ndarray]
    dice: Mapping[str, float]
    spacing_yx: tuple[float, float]
    name: str = ""

    @classmethod
    def of(cls, case: Case, masks: Mapping[str, np.ndarray], name: str = "", **more: Any) -> Self:
        """The slice of a scan with most lesion.

        Args:
            case: With reference and brain mask.
            masks: Row of a table -> (D, H, W) bool on the case's grid.
            name: Of the scan, for the picture.
            more: What a subclass holds besides.

        Raises:
            DataError: The scan has no lesion or no brain mask, or a mask has another shape or is not binary.
        """
        z = shown_slice(case)
        return cls(
            case.image.array[z].astype(np.float32),
            case.brain[z].astype(bool),
            case.lesion[z].astype(bool),
            {row: np.asarray(mask[z], bool) for row, mask in masks.items()},
            {row: dice(mask, case.lesion) for row, mask in masks.items()},
            case.image.spacing[1:],
            name,
            **more,
        )
