"""Three rows that need no network: how often a place is infarcted, its mirror difference, how dark it is.

Each gives every voxel a score and has one free threshold, chosen on training and validation cases. A network that does
not do better than the best of them did not learn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from strokelib import repro
from strokelib.data import midsagittal
from strokelib.data.cases import Case, Volume
from strokelib.data.grids import Grid, box_of, sample_on
from strokelib.data.midsagittal import find_midplane, midplane_transform
from strokelib.errors import DataError
from strokelib.methods.rolls import roll_of
from strokelib.methods.scoring import read_scores, score

if TYPE_CHECKING:
    import pandas as pd

VERSION = 2
TITLES = {
    "lesion_frequency": "Lesion-frequency map of the training set",
    "mirror_difference": "Mirror difference, thresholded",
    "hu_threshold": "HU threshold",
    "cbf_threshold": "CBF threshold",
    "tmax_threshold": "Tmax threshold",
}
# The same in a line of a figure or table.
SHORT = TITLES | {"lesion_frequency": "lesion frequency", "mirror_difference": "mirror difference"}
REFERENCES = ("lesion_frequency", "mirror_difference", "hu_threshold")
MAP_SHAPE = (24, 56, 48)
SMOOTH_MM = 6.0
FLUID_HU = 15.0
WINDOW_HU = (0.0, 80.0)
CANDIDATES = 60
CASES_FOR_THRESHOLD = 40

Scores = Callable[[Case], np.ndarray]


@dataclass(frozen=True)
class Reference:
    """One reference row.

    Args:
        key: ``lesion_frequency``, ``mirror_difference`` or ``hu_threshold``.
        scores: From a case to (D, H, W) float32, minus infinity where there can be no lesion.
        threshold: A voxel above it is called lesion.
        unit: Unit of the scores.
    """

    key: str
    scores: Scores
    threshold: float
    unit: str

    @property
    def title(self) -> str:
        """Name in figures and tables."""
        return TITLES[self.key]

    def predict(self, cases: Sequence[Case]) -> dict[str, np.ndarray]:
        """Case id to (D, H, W) bool."""
        return {c.id: self.scores(c) > self.threshold for c in cases}


def _brain(case: Case) -> np.ndarray:
    if case.brain is None:
        raise DataError(f"case {case.id}", found="no brain mask", wanted="one", next_step="prepare the case")
    return case.brain.astype(bool)


def smooth_within(
    values: np.ndarray, inside: np.ndarray, spacing: Sequence[float], mm: float = SMOOTH_MM
) -> np.ndarray:
    """Gaussian mean over the voxels inside a mask.

    Args:
        values: (D, H, W).
        inside: (D, H, W) bool.
        spacing: (dz, dy, dx) in mm.
        mm: Full width at half maximum of the Gaussian.

    Returns:
        (D, H, W) float32; what is outside the mask has no weight.
    """
    sigma = [mm / 2.3548 / s for s in spacing]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, mode="constant")
    total = ndimage.gaussian_filter(np.where(inside, values, 0).astype(np.float32), sigma, mode="constant")
    return total / np.maximum(weight, 1e-6)


def frequency_map(cases: Iterable[Case]) -> np.ndarray:
    """How often each place of the brain's bounding box holds lesion, the two sides taken together.

    Args:
        cases: Training cases with a reference and a brain mask.

    Returns:
        ``MAP_SHAPE`` float32 in [0, 1], symmetric about the middle of its last axis.
    """
    maps = (_resized(c.lesion[box_of(_brain(c), 0.0, c.image.spacing)].astype(np.float32), MAP_SHAPE) for c in cases)
    total, count = np.zeros(MAP_SHAPE, np.float32), 0
    for one in maps:
        total, count = total + one, count + 1
    mean = ndimage.gaussian_filter(total / count, 1.0)
    return (mean + mean[..., ::-1]) / 2


def _resized(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    zooms = [n / m for n, m in zip(shape, values.shape, strict=True)]
    return ndimage.zoom(values, zooms, order=1, grid_mode=True, mode="nearest").astype(np.float32)


def frequency_scores(case: Case, frequency: np.ndarray) -> np.ndarray:
    """The frequency map laid into a case's brain: share of training cases, (D, H, W)."""
    brain, scores = _brain(case), np.full(case.image.array.shape, -np.inf, np.float32)
    box = box_of(brain, 0.0, case.image.spacing)
    scores[box] = _resized(frequency, scores[box].shape)
    return np.where(brain, scores, -np.inf)


def _mirrored(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """What lies at each place's mirror image: windowed HU, and whether that is brain (D, H, W).

    The mid-sagittal plane is the known one of an embedded case, else the one found in the scan. The known plane favours
    the reference row.
    """
    brain, volume = _brain(case), case.image
    windowed = volume.with_array(np.clip(volume.array, *WINDOW_HU).astype(np.float32))
    plane = case.facts.get("midline_plane")
    if plane is None:
        turn = midplane_transform(volume, find_midplane(volume, brain))
        upright = turn.apply(windowed, fill=0.0)
        inside = turn.apply(volume.with_array(brain.astype(np.uint8)), order=0, fill=0)
        back = turn.inverse()
        other = back.apply(upright.with_array(upright.array[..., ::-1]), fill=0.0).array
        return other, back.apply(inside.with_array(inside.array[..., ::-1]), order=0, fill=0).array > 0
    normal, distance = np.array(plane[:3]), plane[3]
    reflect = np.eye(4)
    reflect[:3, :3] -= 2 * np.outer(normal, normal) / (normal @ normal)
    reflect[:3, 3] = 2 * distance * normal / (normal @ normal)
    grid = Grid.of(volume)
    other = sample_on(Volume(windowed.array, reflect @ volume.affine), grid, order=1, fill=0.0)
    inside = sample_on(Volume(brain.astype(np.uint8), reflect @ volume.affine), grid, order=0, fill=0.0)
    return other.array, inside.array > 0


def mirror_scores(case: Case) -> np.ndarray:
    """How many HU each place is darker than its mirror image about the mid-sagittal plane, smoothed, (D, H, W)."""
    brain = _brain(case)
    other, inside = _mirrored(case)
    both = brain & inside
    here = np.clip(case.image.array, *WINDOW_HU).astype(np.float32)
    smooth = smooth_within(np.where(both, other - here, 0), both, case.image.spacing)
    return np.where(brain, smooth, -np.inf).astype(np.float32)


def dark_scores(case: Case) -> np.ndarray:
    """Minus the smoothed HU of brain tissue, (D, H, W); voxels below 15 HU are fluid and no candidates."""
    values = case.image.array.astype(np.float32)
    tissue = _brain(case) & (values > FLUID_HU) & (values < WINDOW_HU[1])
    return np.where(tissue, -smooth_within(values, tissue, case.image.spacing), -np.inf).astype(np.float32)


def best_threshold(scores: Mapping[str, np.ndarray], cases: Sequence[Case]) -> float:
    """The threshold with the highest mean Dice over cases, among quantiles of the scores.

    Args:
        scores: Case id to (D, H, W).
        cases: Cases with a lesion.
    """
    finite = np.concatenate([s[np.isfinite(s)][:: max(1, s.size // 20_000)] for s in scores.values()])
    candidates = np.unique(np.quantile(finite, 1 - np.geomspace(1e-4, 0.7, CANDIDATES)))
    total = np.zeros(len(candidates))
    for case in cases:
        every, hit = np.sort(scores[case.id], axis=None), np.sort(scores[case.id][case.lesion])
        called = every.size - np.searchsorted(every, candidates, side="right")
        tp = hit.size - np.searchsorted(hit, candidates, side="right")
        total += 2 * tp / (called + hit.size)
    return float(candidates[total.argmax()])


def fit_references(
    train_cases: Sequence[Case], val_cases: Sequence[Case], further: Mapping[str, tuple[Scores, str]] | None = None
) -> dict[str, Reference]:
    """The three reference rows with their thresholds, and further ones of the same kind.

    Args:
        train_cases: Prepared training cases; the frequency map is theirs.
        val_cases: Prepared validation cases; the thresholds are chosen on them and on further training cases, evenly
            spread, until there are 40.
        further: Key to (scores, unit) of rows beside the three.

    Returns:
        Key to reference row.

    Raises:
        DataError: No case has a lesion, or a case is one of the test set.
    """
    pool, leaked = list(val_cases), [c.id for c in val_cases if c.split == "test"]
    every = max(1, -(-len(train_cases) // max(1, CASES_FOR_THRESHOLD - len(pool))))

    def noted() -> Iterator[Case]:
        for number, case in enumerate(train_cases):
            if case.split == "test":
                leaked.append(case.id)
            if number % every == 0:
                pool.append(case)
            yield case

    frequency = frequency_map(noted())
    chosen = [c for c in pool if c.lesion is not None and c.lesion.any()]
    if not chosen or leaked:
        raise DataError(
            "cases for the reference rows",
            found=f"{len(chosen)} cases with lesion, test cases: {leaked[:3]}",
            wanted="some, none of them of the test set",
            next_step="take the committed splits",
        )
    kinds: dict[str, tuple[Scores, str]] = {
        "lesion_frequency": (lambda case: frequency_scores(case, frequency), "share of training cases"),
        "mirror_difference": (mirror_scores, "HU"),
        "hu_threshold": (dark_scores, "minus HU"),
        **(further or {}),
    }
    references = {}
    for key, (scores, unit) in kinds.items():
        threshold = best_threshold({c.id: scores(c) for c in chosen}, chosen)
        references[key] = Reference(key, scores, threshold, unit)
    return references


def reference_metrics(
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    cases: Sequence[Case],
    *,
    out: Path,
    further: Mapping[str, tuple[Scores, str]] | None = None,
    further_version: int = 0,
) -> pd.DataFrame:
    """Scores of the reference rows, computed once and kept.

    Args:
        train_cases: As in :func:`fit_references`.
        val_cases: As in :func:`fit_references`.
        cases: The cases to score.
        out: Folder in which the rows' own folder is made.
        further: As in :func:`fit_references`.
        further_version: Raised where the scores of the further rows change.

    Returns:
        Columns method, case, metric, value, unit, as :func:`strokelib.methods.score` makes them.
    """
    rolls = [roll_of(part).fingerprint for part in (train_cases, val_cases, cases)]
    beside = [*further, further_version] if further else []
    key = hashlib.sha256(json.dumps([*rolls, VERSION, midsagittal.VERSION, *beside]).encode()).hexdigest()[:8]

    def run(folder: Path) -> None:
        references = fit_references(train_cases, val_cases, further)
        for name, reference in references.items():
            score(name, reference.predict(cases), cases, out=folder)
        facts = {name: {"threshold": r.threshold, "unit": r.unit} for name, r in references.items()}
        repro.write_text(folder / "thresholds.json", json.dumps(facts, indent=1) + "\n")

    return read_scores(repro.once(Path(out) / f"references-{key}", run) / "metrics.csv")
