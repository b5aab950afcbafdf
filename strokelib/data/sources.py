"""Public data sets as they are distributed: which files make a case, found by the layout of the folder.

Nothing is opened here but folders; :mod:`strokelib.data.checking` opens every file and says what is wrong with it.
Layouts: AISD (DICOM with PNG masks, the repack as NIfTI, and PNG alone), APIS, ISLES 2018, CENTER-TBI as icometrix
prepared it, any BIDS-like folder, and a plain folder of head CTs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from strokelib import manifest, settings
from strokelib.errors import DataError, ParameterError

AISD_POLICIES = {"official": (1, 2, 3, 5), "every non-zero": (1, 2, 3, 4, 5)}
BIDS_SUFFIXES = {"ct": "ct", "ncct": "ct", "cta": "cta", "ctp": "ctp", "adc": "adc", "dwi": "dwi"}
BIDS_MASKS = ("mask", "lesion-msk", "lesion", "dseg")
_SMIR = re.compile(r"^SMIR\.Brain\.XX\.O\.(CT|CT_4DPWI|CT_CBF|CT_CBV|CT_MTT|CT_Tmax|MR_DWI|OT)\.\d+$")
_SMIR_NAMES = {"CT": "ct", "CT_4DPWI": "ctp", "MR_DWI": "dwi", "OT": "mask"}
_NIFTI = re.compile(r"\.nii(\.gz)?$")
_PLAIN_MASK = re.compile(r"^(.+?)[_-](mask|lesion|lesion-msk|seg)$", re.IGNORECASE)


@dataclass(frozen=True)
class RawCase:
    """The files of one case; nothing has been read.

    Args:
        id: Name of the case in its data set.
        patient: Cases of one patient share it: splits are made by patient.
        split: ``train``, ``val``, ``test``, ``hidden`` (no labels) or ``""`` where the data set leaves it open.
        layout: Key of :data:`LAYOUTS`.
        images: ``ct``, ``dwi``, ``adc``, ``cta``, ``ctp``, ``ct_cbf`` ... -> a NIfTI file, or a folder or zip archive
            of DICOM files.
        masks: Reader -> a NIfTI file or a folder of PNG files; empty where there is none.
        mask_on: The image whose grid the masks have.
        brain: A brain mask on the CT's grid, where the data set has one.
        healthy: Said by the data set to show no infarct.
        unused: Files that could be meant by the same name and are not used.
    """

    id: str
    patient: str
    split: str
    layout: str
    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    mask_on: str = "ct"
    brain: Path | None = None
    healthy: bool = False
    unused: tuple[Path, ...] = ()


def find_cases(folder: Path, layout: str = "auto") -> list[RawCase]:
    """All cases below a folder, sorted by name.

    Args:
        folder: The unpacked data set.
        layout: A key of :data:`LAYOUTS`, or ``auto``: the first one that finds a case.

    Raises:
        ParameterError: No such layout, or no such folder.
        DataError: No case was found.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ParameterError("folder", found=f"{folder.name} (no such folder)", wanted="a folder", next_step="check it")
    if layout != "auto" and layout not in LAYOUTS:
        wanted = " or ".join(("auto", *LAYOUTS))
        raise ParameterError("layout", found=repr(layout), wanted=wanted, next_step="give one of these")
    for name in LAYOUTS if layout == "auto" else (layout,):
        cases = sorted(LAYOUTS[name](folder), key=lambda case: case.id)
        if cases:
            return cases
    step = "see the layouts in strokelib.data.sources, or arrange the scans as sub-<name>/ct/sub-<name>_ct.nii.gz"
    raise DataError(folder.name, found="no case of any known layout", wanted=", ".join(LAYOUTS), next_step=step)


def _files(folder: Path) -> list[Path]:
    """Files and folders, sorted; what an operating system leaves behind does not count."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []


@cache
def _aisd_splits(manifests: Path) -> dict[str, str]:
    table = manifest.read("datasets/aisd_cases")
    return dict(zip(table["case_id"].astype(str).str.zfill(7), table["official_split"], strict=True))


def _aisd_split(case: str) -> str:
    return _aisd_splits(settings.manifests_dir()).get(case, "")


def _aisd(folder: Path) -> Iterable[RawCase]:
    """``dicom-<k>/<id>/CT/*.dcm``, ``.../DWI`` or ``MRI``, and ``mask/<id>/000.png``; a later archive replaces."""
    found: dict[str, dict[str, Path]] = {}
    roots = [p for p in _files(folder) if p.is_dir() and p.name.startswith("dicom")] or [folder]
    for root in roots:
        for case in _files(root):
            series = {"ct": case / "CT", "dwi": next((case / n for n in ("DWI", "MRI") if (case / n).is_dir()), None)}
            kept = {k: p for k, p in series.items() if p is not None and p.is_dir() and any(p.glob("*.dcm"))}
            if re.fullmatch(r"\d{7}", case.name) and "ct" in kept:
                found[case.name] = kept
    for case, images in found.items():
        mask = folder / "mask" / case
        masks = {"reader": mask} if mask.is_dir() and any(mask.glob("*.png")) else {}
        yield RawCase(case, case, _aisd_split(case), "aisd", images, masks)


def _aisd_png(folder: Path) -> Iterable[RawCase]:
    """``image/<id>/000.png`` and ``mask/<id>/000.png``: the form with a window applied, where DICOM is not at hand."""
    for case in _files(folder / "image"):
        if re.fullmatch(r"\d{7}", case.name) and any(case.glob("*.png")):
            mask = folder / "mask" / case.name
            masks = {"reader": mask} if mask.is_dir() and any(mask.glob("*.png")) else {}
            yield RawCase(case.name, case.name, _aisd_split(case.name), "aisd_png", {"ct": case}, masks)


def _aisd_nifti(folder: Path) -> Iterable[RawCase]:
    """``<id>/CT.nii`` and ``<id>/mask.nii``, as ADN's authors repacked it."""
    for case in _files(folder):
        files = {_NIFTI.sub("", p.name).lower(): p for p in _files(case) if _NIFTI.search(p.name)}
        if re.fullmatch(r"\d{7}", case.name) and "ct" in files:
            masks = {"reader": files["mask"]} if "mask" in files else {}
            yield RawCase(case.name, case.name, _aisd_split(case.name), "aisd_nifti", {"ct": files["ct"]}, masks)


@cache
def _apis_controls(manifests: Path) -> frozenset[str]:
    table = manifest.read("datasets/apis_cases")
    return frozenset(table["case_id"][table["has_lesion"] == "n"])


def _apis(folder: Path) -> Iterable[RawCase]:
    """``train_000/train_000_ncct.nii.gz``, ``..._adc.nii.gz`` and ``masks/train_000_r1_mask.nii.gz``, on the ADC."""
    for case in _files(folder):
        images = {
            kind: path
            for kind, ending in (("ct", "ncct"), ("adc", "adc"))
            for path in _files(case)
            if re.fullmatch(rf"{re.escape(case.name)}_{ending}\.nii(\.gz)?", path.name)
        }
        if not re.fullmatch(r"(train|test)_?\d{3}", case.name) or "ct" not in images:
            continue
        masks = {}
        for path in _files(case / "masks"):
            reader = re.fullmatch(rf"{re.escape(case.name)}_(r\d)_mask\.nii(\.gz)?", path.name)
            if reader:
                masks[reader[1]] = path
        split = "" if case.name.startswith("train") else "hidden"
        healthy = case.name.replace("_", "") in _apis_controls(settings.manifests_dir())
        yield RawCase(case.name, case.name, split, "apis", images, masks, mask_on="adc", healthy=healthy)


@cache
def _isles_patients(manifests: Path) -> dict[str, dict[str, int]]:
    return json.loads((manifests / "datasets" / "isles2018_case_to_patient.json").read_text("utf-8"))


def _isles2018(folder: Path) -> Iterable[RawCase]:
    """``TRAINING/case_1/SMIR.Brain.XX.O.CT.<n>/SMIR.Brain.XX.O.CT.<n>.nii`` and so on; with and without DWI."""
    patients = _isles_patients(settings.manifests_dir())
    for part, split, key in (("TRAINING", "", "train"), ("TESTING", "hidden", "test")):
        for case in _files(folder / part):
            if not re.fullmatch(r"case_\d+", case.name):
                continue
            images = {}
            for inner in _files(case):
                kind = _SMIR.match(inner.name)
                files = [p for p in _files(inner) if _NIFTI.search(p.name)] if kind else []
                if files:
                    images[_SMIR_NAMES.get(kind[1], kind[1].lower())] = files[0]
            mask = images.pop("mask", None)
            number = patients.get(key, {}).get(case.name)
            patient = f"{key}-{number}" if number is not None else f"{key}-{case.name}"
            masks = {} if mask is None else {"reader": mask}
            yield RawCase(f"{key}_{case.name}", patient, split, "isles2018", images, masks)


def _bids(folder: Path) -> Iterable[RawCase]:
    """``sub-X[/ses-Y]/{ct,anat,perf}/..._{ct,ncct,cta,ctp}.nii.gz``; masks beside them or below ``derivatives``."""
    places = [p for p in _files(folder) if p.is_dir() and p.name.startswith("sub-")]
    for subject in places:
        images: dict[str, Path] = {}
        masks: dict[str, Path] = {}
        unused: list[Path] = []
        for root in (subject, folder / "derivatives" / subject.name):
            for path in sorted(root.rglob("*.nii*")) if root.is_dir() else []:
                name = _NIFTI.sub("", path.name)
                suffix = name.rpartition("_")[2].lower()
                if not _NIFTI.search(path.name):
                    continue
                if suffix in BIDS_MASKS:
                    masks.setdefault(f"reader{len(masks) + 1}" if masks else "reader", path)
                elif root == subject and suffix in BIDS_SUFFIXES:
                    first = images.setdefault(BIDS_SUFFIXES[suffix], path)
                    unused += [path] if first != path else []
        if images:
            yield RawCase(subject.name, subject.name, "", "bids", images, masks, unused=tuple(unused))


def _center_tbi(folder: Path) -> Iterable[RawCase]:
    """``{train,valid,test}/<subject>/ct_in_mni_inter_1.nii.gz`` with ``brain_mask_MNI.nii.gz``; no infarct in any."""
    inner = folder / "anomaly_detection_healthy_CT"
    root = inner if inner.is_dir() else folder
    places = [(part, split) for part, split in (("train", "train"), ("valid", "val"), ("test", "test"))]
    for part, split in [*places, ("", "")]:
        for subject in _files(root / part):
            ct, brain = subject / "ct_in_mni_inter_1.nii.gz", subject / "brain_mask_MNI.nii.gz"
            if ct.is_file():
                mask = brain if brain.is_file() else None
                yield RawCase(subject.name, subject.name, split, "center_tbi", {"ct": ct}, brain=mask, healthy=True)


def _plain(folder: Path) -> Iterable[RawCase]:
    """``<name>.nii.gz``, a folder or a zip archive of DICOM files a case; ``<name>_mask.nii.gz`` beside it."""
    images: dict[str, list[Path]] = {}
    masks: dict[str, list[Path]] = {}
    for path in _files(folder):
        name = _NIFTI.sub("", path.name)
        if path.is_file() and _NIFTI.search(path.name):
            found = _PLAIN_MASK.match(name)
            (masks if found else images).setdefault(found[1] if found else name, []).append(path)
        elif path.is_file() and path.suffix.lower() == ".zip":
            images.setdefault(path.stem, []).append(path)
        elif path.is_dir() and any(p.suffix.lower() in (".dcm", ".ima") for p in _files(path)):
            images.setdefault(path.name, []).append(path)
    for name, (path, *others) in images.items():
        drawn = masks.get(name, [])
        unused = (*others, *drawn[1:])
        yield RawCase(name, name, "", "plain", {"ct": path}, {"reader": drawn[0]} if drawn else {}, unused=unused)


LAYOUTS: dict[str, Callable[[Path], Iterable[RawCase]]] = {
    "isles2018": _isles2018,
    "apis": _apis,
    "aisd": _aisd,
    "aisd_nifti": _aisd_nifti,
    "aisd_png": _aisd_png,
    "center_tbi": _center_tbi,
    "bids": _bids,
    "plain": _plain,
}
