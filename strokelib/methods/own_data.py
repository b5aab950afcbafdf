"""A trained network on anybody's folder of head CTs: predictions on the scanner's own grid, one mask file a scan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from strokelib.data.cases import Case, Volume
from strokelib.data.opening import is_dicom
from strokelib.data.preparing import PreparedFolder
from strokelib.data.reading import write_nifti
from strokelib.data.realcase import native_transform
from strokelib.data.sources import RawCase
from strokelib.data.writing import write_nifti_like
from strokelib.methods.training import Trained
from strokelib.metrics import dice
from strokelib.recipe import Recipe, stated

if TYPE_CHECKING:
    import pandas as pd

OURS = "ours: no paper has this step"


@dataclass(frozen=True)
class OwnDataRecipe(Recipe):
    """How many scans of a folder are looked at, and what counts as lesion."""

    scans: int = stated(100_000, demo=8, smoke=5, source=OURS)
    threshold: float = stated(0.5, source=OURS)


@dataclass(frozen=True)
class OwnPrediction:
    """One scan's result.

    Args:
        case: The prepared case.
        probability: (D, H, W) on the prepared grid.
        mask: bool on the scanner's grid.
        file: Where the mask was written.
    """

    case: Case
    probability: np.ndarray
    mask: Volume
    file: Path


def back_to_scanner(case: Case, probability: np.ndarray, threshold: float = 0.5) -> Volume:
    """A prediction on the prepared grid as a mask on the grid of the file it came from.

    Args:
        case: A case that :func:`strokelib.data.realcase.prepare_case` made.
        probability: (D, H, W) in [0, 1].
        threshold: A voxel above it is lesion; the probability is moved first and cut then.

    Returns:
        bool, on the scanner's grid.
    """
    moved = on_scanner(case, probability)
    return moved.with_array(moved.array > threshold)


def on_scanner(case: Case, probability: np.ndarray) -> Volume:
    """A probability on the prepared grid, on the grid of the file that it came from.

    Args:
        case: A prepared case; one that was rendered has no other grid than its own.
        probability: (D, H, W) in [0, 1].

    Returns:
        float32 in [0, 1]; 0 outside the brain mask and beyond the prepared grid.
    """
    placed = case.image.with_array(np.where(case.brain, probability, 0).astype(np.float32))
    if case.embedded and "moved" not in case.facts:
        return placed
    moved = native_transform(case).inverse().apply(placed, 1, fill=0.0)
    return moved.with_array(moved.array.clip(0, 1))


def predict_folder(
    trained: Trained, made: PreparedFolder, out: Path, *, threshold: float = 0.5
) -> dict[str, OwnPrediction]:
    """Predict every prepared scan of a folder and write its mask as ``<case>_lesion.nii.gz``.

    Args:
        trained: A network of :func:`strokelib.methods.train_method`.
        made: What :func:`strokelib.data.preparing.prepare` returned.
        out: Folder for the masks. One of a NIfTI scan has that file's axes and affine, one of DICOM the series'.
        threshold: A voxel above it is lesion.

    Returns:
        Case id to prediction.
    """
    files: dict[str, RawCase] = {raw.id: raw for raw in made.cases}
    results = {}
    for name in made.ids():
        case = made.load(name)
        probability = trained.method.predict(trained.model, trained.recipe, case).astype(np.float32)
        mask = back_to_scanner(case, probability, threshold)
        source, target = files[name].images["ct"], Path(out) / f"{name}_lesion.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        file = write_nifti(mask, target) if is_dicom(source) else write_nifti_like(mask, source, target)
        results[name] = OwnPrediction(case, probability, mask, file)
    return results


def volumes(results: dict[str, OwnPrediction], threshold: float = 0.5) -> pd.DataFrame:
    """One row a scan: volumes in mL, and Dice where there is a reference.

    Args:
        results: Of :func:`predict_folder`.
        threshold: A voxel above it is lesion.

    Returns:
        Columns case, slices, brain_ml, predicted_ml (scanner's grid), reference_ml, dice (prepared grid).
    """
    import pandas as pd

    rows = []
    for name, found in results.items():
        case, lesion = found.case, found.case.lesion
        rows.append(
            {
                "case": name,
                "slices": found.mask.array.shape[0],
                "brain_ml": float(case.brain.sum()) * case.image.voxel_ml,
                "predicted_ml": float(found.mask.array.sum()) * found.mask.voxel_ml,
                "reference_ml": case.lesion_ml,
                "dice": float("nan") if lesion is None else dice(found.probability > threshold, lesion),
            }
        )
    return pd.DataFrame(rows)


def slice_to_show(found: OwnPrediction) -> int:
    """Number of the prepared slice that says most: most lesion, else most predicted, else most brain."""
    masks: Sequence[np.ndarray | None] = (found.case.lesion, found.probability > 0.5, found.case.brain)
    for mask in masks:
        if mask is not None and mask.any():
            return int(mask.sum(axis=(1, 2)).argmax())
    return len(found.probability) // 2
