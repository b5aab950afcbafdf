"""Demo weights on anybody's scans: masks and probabilities on the scanner's grid, and what made them in a JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from strokelib import __version__, repro
from strokelib.data import checking
from strokelib.data.cases import Case, Volume, load_case
from strokelib.data.opening import is_dicom, is_pictures
from strokelib.data.preparing import COHORT_LAYOUTS, prepare
from strokelib.data.reading import write_nifti
from strokelib.data.realcase import Choices, prepare_case
from strokelib.data.sources import RawCase, find_cases
from strokelib.data.writing import write_nifti_like
from strokelib.errors import DataError, ParameterError
from strokelib.methods.own_data import on_scanner
from strokelib.methods.weights import Demo
from strokelib.metrics import dice

WARNING = (
    "Weights trained for minutes on embedded (rendered) heads: not for clinical use; the mask is no finding, and the"
    " probability is no probability of disease."
)
ENDINGS = ("_lesion.nii.gz", "_probability.nii.gz", ".json")
PREPARED = ".safetensors"


@dataclass(frozen=True)
class Scan:
    """A scan to predict.

    Args:
        name: What its results are named after.
        load: Gives the prepared case.
        source: The file that it was scanned into, whose axes its masks take; None where that is not at hand.
    """

    name: str
    load: Callable[[], Case]
    source: Path | None = None


@dataclass(frozen=True)
class Prediction:
    """One scan's result.

    Args:
        case: The prepared case.
        probability: (D, H, W) float32 on the prepared grid.
        mask: Bool on the scanner's grid.
        facts: What the JSON file holds.
        files: Mask, probability and JSON.
    """

    case: Case
    probability: np.ndarray
    mask: Volume
    facts: dict[str, Any]
    files: tuple[Path, ...]


def scans_of(source: Path, demo: Demo, *, layout: str = "auto", progress: bool = False) -> Iterator[Scan]:
    """The scans of a file or a folder.

    Args:
        source: A NIfTI file, a zip archive or folder of DICOM files, a prepared case or a folder of these, or a folder
            of scans as `strokelib prepare` takes it (then they are prepared where notebooks look for them).
        demo: What is to predict them; says which cohort an unknown folder stands for.
        layout: As in :func:`strokelib.data.sources.find_cases`.
        progress: Show a progress bar on a terminal.

    Raises:
        ParameterError: No such file or folder.
        DataError: A single file is no head CT in HU, or a folder holds no case.
    """
    if not source.exists():
        raise ParameterError("input", found=f"{source.name} (no such file)", wanted="a scan", next_step="check it")
    if source.suffix == PREPARED or (source.is_dir() and any(source.glob(f"*{PREPARED}"))):
        files = [source] if source.is_file() else sorted(source.glob(f"*{PREPARED}"))
        yield from (Scan(path.stem, lambda path=path: load_case(path)) for path in files)
    elif source.is_file() or (is_dicom(source) and _has_slices(source)):
        yield _single(source, demo)
    else:
        yield from _many(source, demo, layout, progress)


def _has_slices(folder: Path) -> bool:
    return any(path.suffix.lower() in (".dcm", ".ima") for path in folder.iterdir())


def _single(source: Path, demo: Demo) -> Scan:
    name = source.name
    for ending in (".nii.gz", ".nii", ".zip"):
        name = name.removesuffix(ending)
    raw = RawCase(name, name, "hidden", "plain", {"ct": source})
    refuse_unless_ct(raw)
    return Scan(name, lambda: prepare_case(raw, demo.kind.cohort, Choices()), source)


def refuse_unless_ct(raw: RawCase) -> None:
    """Raise for the first thing by which a case's images cannot be those of a head CT in HU.

    Raises:
        DataError: A file is damaged or missing, or its values are no Hounsfield units (another modality, a window that
            was applied, an offset).
    """
    for problem in checking.problems_of(replace(raw, masks={})):
        if problem.kind == "error" or problem.wanted == checking.HOUNSFIELD:
            step = f"{problem.next_step}; for MR there is no method here"
            raise DataError(problem.file, found=problem.found, wanted=problem.wanted, next_step=step)


def _many(folder: Path, demo: Demo, layout: str, progress: bool) -> Iterator[Scan]:
    found = find_cases(folder, layout)
    kind = found[0].layout
    cohort = next((name for name, layouts in COHORT_LAYOUTS.items() if kind in layouts), demo.kind.cohort)
    made = prepare(folder, cohort, layout=kind, progress=progress)
    for raw in made.cases:
        yield Scan(raw.id, _loader(made.problems, made.load, raw), raw.images.get("ct"))


def _loader(problems: Mapping[str, str], load: Callable[[str], Case], raw: RawCase) -> Callable[[], Case]:
    def one() -> Case:
        if raw.id in problems:
            step = "`strokelib check FOLDER` says more"
            raise DataError(f"case {raw.id}", found=problems[raw.id], wanted="a scan to prepare", next_step=step)
        refuse_unless_ct(raw)
        return load(raw.id)

    return one


def refuse_to_overwrite(scans: list[Scan], out: Path, key: str) -> None:
    """Raise where a result of one of the scans is there already.

    Raises:
        ParameterError: One is.
    """
    there = [path.name for scan in scans for path in targets(scan.name, out, key) if path.exists()]
    if there:
        found = f"{', '.join(there[:3])}{' ...' if len(there) > 3 else ''} in {out.name}"
        step = "give another folder, or --force to replace them"
        raise ParameterError("output", found=found, wanted="files that are not there yet", next_step=step)


def targets(name: str, out: Path, key: str) -> tuple[Path, ...]:
    """Mask, probability and JSON of a scan by a method."""
    return tuple(Path(out) / f"{name}_{key}{ending}" for ending in ENDINGS)


def predict_scan(demo: Demo, scan: Scan, out: Path, *, threshold: float = 0.5) -> Prediction:
    """Predict a scan and write its three files, each whole or not at all.

    Args:
        demo: From :func:`strokelib.methods.weights.load`.
        scan: From :func:`scans_of`.
        out: Folder for the files; of a NIfTI scan they have that file's axes and affine.
        threshold: A voxel above it is lesion.

    Raises:
        DataError: The scan cannot be prepared, or lacks what the method needs (a brain, perfusion).
    """
    case = scan.load()
    probability = demo.predict(case)
    placed = on_scanner(case, probability)
    mask = placed.with_array(placed.array > threshold)
    files = targets(scan.name, out, demo.key)
    files[0].parent.mkdir(parents=True, exist_ok=True)
    like = scan.source
    for volume, path in ((mask, files[0]), (placed, files[1])):
        if like is None or is_dicom(like) or is_pictures(like):
            write_nifti(volume, path)
        else:
            write_nifti_like(volume, like, path)
    facts = facts_of(demo, scan, case, probability, mask, threshold, files)
    repro.write_text(files[2], json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return Prediction(case, probability, mask, facts, files)


def facts_of(
    demo: Demo,
    scan: Scan,
    case: Case,
    probability: np.ndarray,
    mask: Volume,
    threshold: float,
    files: tuple[Path, ...],
) -> dict[str, Any]:
    """What stands in the JSON file: volume, model, hash of its weights, grid, and what it must not be used for.

    Args:
        demo: What predicted.
        scan: What was predicted.
        case: The same, prepared.
        probability: (D, H, W) on the prepared grid.
        mask: On the scanner's grid.
        threshold: A voxel above it is lesion.
        files: The files that belong together.
    """
    source = scan.source if scan.source is not None and scan.source.is_file() else None
    strip = case.facts.get("strip", {})
    return {
        "warning": WARNING,
        "case": scan.name,
        "input": None if scan.source is None else scan.source.name,
        "input_sha256": None if source is None else repro.sha256(source),
        "volume_ml": round(float(mask.array.sum()) * mask.voxel_ml, 3),
        "largest_probability": round(float(probability.max()), 4),
        "threshold": threshold,
        "brain_ml": round(float(case.brain.sum()) * case.image.voxel_ml, 1),
        "brain_cut_by_the_field": bool(strip.get("cut_below") or strip.get("cut_above")),
        "dice_with_reference": None if case.lesion is None else _number(dice(probability > threshold, case.lesion)),
        "method": demo.key,
        "row": demo.row,
        "paper": demo.paper,
        "weights": {
            "file": demo.file,
            "sha256": demo.sha256,
            "trained_on": f"embedded {demo.facts['cohort']}, profile {demo.facts['profile']}",
            "seed": demo.facts["seed"],
            "status": demo.status,
        },
        "grid": {"shape": list(mask.array.shape), "spacing_mm": [round(v, 4) for v in mask.spacing]},
        "files": [path.name for path in files[:2]],
        "strokelib": __version__,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
