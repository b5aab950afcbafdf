"""Volumes and cases: the two types every reader makes and every method takes.

Arrays are (D, H, W) = (z, y, x) in LPS order: the last axis runs to the patient's Left, the middle one to Posterior,
the first one to Superior. ``imshow(volume.array[z])`` is then the radiological picture: nose up, the patient's right
at the image's left. Spacing is (dz, dy, dx) in mm. ``affine`` maps the index (x, y, z, 1) to millimetres in NIfTI's
RAS frame.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from strokelib.errors import DataError
from strokelib.repro import atomic_path

PUT_THE_FILE = "put the file beside the CT as docs/data.md says, on the CT's grid, and prepare the case again"


@dataclass(frozen=True)
class Volume:
    """A 3-D image on a regular grid.

    Args:
        array: (D, H, W), any dtype; HU for CT.
        affine: (4, 4) float64, index (x, y, z, 1) to RAS millimetres.
    """

    array: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(dz, dy, dx) in mm."""
        dx, dy, dz = (float(v) for v in np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)))
        return dz, dy, dx

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def with_array(self, array: np.ndarray) -> Volume:
        """The same grid with another array of the same shape."""
        if array.shape != self.array.shape:
            raise DataError(
                "array", found=f"shape {array.shape}", wanted=f"shape {self.array.shape}", next_step="resample it first"
            )
        return Volume(array, self.affine)


@dataclass(frozen=True)
class Case:
    """One scan of one patient.

    Args:
        id: Name of the case, unique in its cohort, e.g. ``aisd-0001``.
        patient: Name of the patient; splits are by patient.
        cohort: Key of the cohort.
        split: ``train``, ``val`` or ``test``.
        image: CT in HU.
        lesion: (D, H, W) bool on the image's grid, or None where there is no reference.
        brain: (D, H, W) bool, or None.
        truth: Further arrays on the image's grid that only an embedded case knows (``tissue``, ``infarct_hu``, ...).
        channels: Further images on the image's grid, (D, H, W) or with one leading axis: ``cbf`` (mL/100 g/min),
            ``cbv`` (mL/100 g), ``mtt_s``, ``tmax_s``, ``series`` (T, D, H, W) in HU, ``dwi``, ...
        facts: Plain values (age, sex, nihss, onset_hours, anatomy, pose, ...); missing stays None.
        embedded: True where the case was rendered, False where it was scanned.
    """

    id: str
    patient: str
    cohort: str
    split: str
    image: Volume
    lesion: np.ndarray | None = None
    brain: np.ndarray | None = None
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    embedded: bool = False
    channels: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What it is, for titles of pictures."""
        return "embedded head" if self.embedded else "scan"

    @property
    def lesion_ml(self) -> float:
        """Volume of the reference lesion in mL (NaN where there is no reference)."""
        return float("nan") if self.lesion is None else float(self.lesion.sum()) * self.image.voxel_ml


def channel(case: Case, name: str, next_step: str = PUT_THE_FILE) -> np.ndarray:
    """A channel of a case that cannot be done without, as the case holds it.

    Args:
        case: With channels.
        name: Such as ``cbf``, ``dwi`` or ``series``.
        next_step: What to do where there is none.

    Raises:
        DataError: The case has none of that name; says why a file that is there was not used, and for a DWI that the
            public archive of ISLES 2018 has none.
    """
    if name in case.channels:
        return case.channels[name]
    left_out = case.facts.get("channels_left_out", {}).get(name)
    found = left_out or f"channels {', '.join(sorted(case.channels)) or 'none'}"
    if name == "dwi":
        next_step = f"{PUT_THE_FILE}; the public archive of ISLES 2018 has none"
    raise DataError(f"case {case.id}", found=found, wanted=f"the channel {name}", next_step=next_step)


def fullest_slice(lesion: np.ndarray, name: str = "") -> int:
    """The slice of a reference (D, H, W) with most lesion, the first of several.

    Args:
        lesion: Bool.
        name: Of the scan, for the error.

    Raises:
        DataError: There is no lesion.
    """
    if not lesion.any():
        found, step = "a reference without lesion", "show a scan with an infarct"
        raise DataError(f"slice of {name or 'a scan'}", found=found, wanted="some lesion", next_step=step)
    return int(lesion.sum(axis=(1, 2)).argmax())


def shown_slice(case: Case) -> int:
    """The slice of a case to draw with its reference, inside its brain: the one with most lesion.

    Raises:
        DataError: The case has no reference or no brain mask, or none of the reference is lesion.
    """
    if case.lesion is None or case.brain is None:
        found, step = f"no {'reference' if case.lesion is None else 'brain mask'}", "choose another scan"
        raise DataError(f"case {case.id}", found=found, wanted="both", next_step=step)
    return fullest_slice(case.lesion, case.id)


def is_whole(path: Path) -> bool:
    """Whether a case's file is there with all its bytes (the header is read, the arrays are not)."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return "case" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def save_case(case: Case, path: str | os.PathLike) -> Path:
    """Write a case as one safetensors file, atomically (temporary file in the same folder, then rename)."""
    path = Path(path)
    arrays = {"image": case.image.array, "affine": case.image.affine.astype(np.float64)}
    arrays |= {name: value for name, value in (("lesion", case.lesion), ("brain", case.brain)) if value is not None}
    arrays |= {f"truth.{name}": value for name, value in case.truth.items()}
    arrays |= {f"channel.{name}": value for name, value in case.channels.items()}
    plain = {f.name: getattr(case, f.name) for f in dataclasses.fields(case)}
    header = {k: plain[k] for k in ("id", "patient", "cohort", "split", "facts", "embedded")}
    with atomic_path(path) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary, {"case": json.dumps(header)})
    return path


def load_case(path: str | os.PathLike) -> Case:
    """Read a case that :func:`save_case` wrote.

    Raises:
        DataError: The file is missing, cut short or was not written by strokelib.
    """
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = json.loads((file.metadata() or {})["case"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except Exception as error:
        said = str(error).replace(os.fspath(path), Path(path).name)
        found, step = f"{type(error).__name__}: {said}", "delete it and prepare it again"
        raise DataError(Path(path).name, found=found, wanted="a case written by strokelib", next_step=step) from error
    image = Volume(arrays.pop("image"), arrays.pop("affine"))
    lesion, brain = arrays.pop("lesion", None), arrays.pop("brain", None)
    channels = {name.removeprefix("channel."): arrays.pop(name) for name in [*arrays] if name.startswith("channel.")}
    truth = {name.removeprefix("truth."): value for name, value in arrays.items()}
    return Case(image=image, lesion=lesion, brain=brain, truth=truth, channels=channels, **header)
