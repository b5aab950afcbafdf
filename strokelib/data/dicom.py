"""One DICOM series to one NIfTI file, by dcm2niix as a child process in a temporary folder.

dcm2niix writes several files for one series: as scanned, with the gantry tilt undone (``_Tilt``), with the slices
made even (``_Eq``). Which of them is the scan is decided here, and said.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

from strokelib.data.archives import unpack
from strokelib.errors import DataError

_OUTPUT = re.compile(r"^s(?P<series>\d+)(?P<letter>[a-z]*)(?P<changes>(?:_[A-Za-z0-9]+)*)\.nii$")
_TILT = re.compile(r"Gantry Tilt based on 0018,1120 (-?[\d.]+)")
_UNEVEN = "Interslice distance varies"
_MISSING = re.compile(r"Expected (\d+) images, but instance number \(0020,0013\) ranges from (-?\d+) to (-?\d+)")
_NEVER = {"ROI", "real", "imaginary", "ph", "Crop"}


def _executable() -> str:
    try:
        import dcm2niix
    except ImportError as error:
        raise DataError(
            "dcm2niix", found="not installed", wanted="the package", next_step="pip install dcm2niix"
        ) from error
    return dcm2niix.bin


def _run(source: Path, named: Path, target: Path, timeout_s: float) -> str:
    """Run the converter; its output may name the patient's files and is never shown whole."""
    command = [_executable(), "-b", "y", "-ba", "y", "-z", "n", "-f", "s%s", "-o", str(target), str(source)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(
            named.absolute().name,
            found=f"no result after {timeout_s:g} s",
            wanted="a series of one scan",
            next_step="raise timeout_s",
        ) from error
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise DataError("dcm2niix", found=found, wanted="a program that runs", next_step="install it again") from error
    if not any(target.glob("*.nii")):
        last = ((done.stdout + done.stderr).strip().splitlines() or ["no output"])[-1]
        last = last.replace(str(source), named.name).replace(str(target), "the output folder")
        raise DataError(
            named.absolute().name,
            found=f"exit status {done.returncode}: {last}",
            wanted="DICOM slices of one CT series",
            next_step="check that the folder holds the images and that they are complete",
        )
    return done.stdout


def _sidecar(file: Path) -> dict[str, object]:
    match = _OUTPUT.match(file.name)
    plain = file.with_name(f"s{match['series']}{match['letter']}.json") if match else file.with_suffix(".json")
    try:
        return json.loads(plain.read_text("utf-8", errors="replace"))
    except (OSError, ValueError):
        return {}


def choose(files: list[Path], series: int | None = None) -> tuple[Path, str]:
    """The file that holds the scan, and why.

    Of one series, the file with the most corrections is taken: the tilt undone before the spacing made even.
    Localizers and series that are not CT never qualify.

    Args:
        files: dcm2niix's outputs, named ``s<series>[letter][_changes].nii``, with their sidecars beside them.
        series: Series number, or None where one alone qualifies.

    Returns:
        The file and the reason in words.

    Raises:
        DataError: None or several qualify.
    """
    groups: dict[tuple[int, str], dict[frozenset[str], Path]] = {}
    for file in sorted(files):
        match = _OUTPUT.match(file.name)
        if match is None:
            continue
        changes = frozenset(match["changes"].split("_")) - {""}
        info = _sidecar(file)
        is_ct = info.get("Modality", "CT") == "CT"
        is_scout = "LOCALIZER" in info.get("ImageType", ())
        wanted = series is None or int(match["series"]) == series
        if is_ct and not is_scout and wanted and not changes & _NEVER:
            key = frozenset(c for c in changes if c in ("Tilt", "Eq"))
            groups.setdefault((int(match["series"]), match["letter"]), {})[key] = file
    if len(groups) != 1:
        found = ", ".join(f"{number}{letter}" for number, letter in groups) or "none"
        raise DataError(
            "DICOM series of CT",
            found=found,
            wanted="one" if series is None else f"series {series} as one volume",
            next_step="name one with series=..., or leave one series in the folder",
        )
    ((number, letter), outputs) = next(iter(groups.items()))
    best = max(outputs, key=lambda key: (len(key), "Tilt" in key))
    reasons = [
        text for name, text in (("Tilt", "the gantry tilt undone"), ("Eq", "the slices made even")) if name in best
    ]
    others = len(outputs) - 1
    why = f"series {number}{letter}: " + (" and ".join(reasons) or "neither tilted nor uneven, taken as scanned")
    return outputs[best], why + (f"; {others} less corrected file{'s' * (others > 1)} left aside" if others else "")


def mend_origin(tilted: Path, scanned: Path) -> float:
    """Put a tilt-corrected file where the file as scanned lies; only its header is changed.

    Undoing the tilt pads the slices; where slices rise towards their lower rows, the first one is padded below, and
    its origin moves by that much along its rows. dcm2niix (1.0.20260724) gets this wrong for such (negative) tilts, by
    77 mm at 20 degrees; its axes, its voxels and the origin of the file as scanned are right.

    Args:
        tilted: The corrected file, rewritten in place.
        scanned: The file of the same series as scanned.

    Returns:
        By how many mm the origin was wrong.
    """
    was, new = nib.load(scanned), nib.load(tilted)
    step, along = was.affine[:3, 1], was.affine[:3, 2]
    padded = new.shape[1] - was.shape[1] if step @ along < 0 else 0
    origin = was.affine[:3, 3] - padded * step
    with open(tilted, "r+b") as file:
        header = nib.Nifti1Header.from_fileobj(file, check=False)
        for n, axis in enumerate("xyz"):
            header[f"srow_{axis}"][3] = header[f"qoffset_{axis}"] = origin[n]
        file.seek(0)
        file.write(header.binaryblock)
    return float(np.linalg.norm(new.affine[:3, 3] - origin))


@contextmanager
def convert_series(
    path: str | os.PathLike, *, series: int | None, timeout_s: float
) -> Iterator[tuple[Path, dict[str, object]]]:
    """Convert a folder or zip archive of DICOM; yields the NIfTI file and a report, and removes everything at the end.

    Args:
        path: Folder or .zip file.
        series: Series number, or None where one alone qualifies.
        timeout_s: Limit for the conversion, in seconds.

    Yields:
        The file, and a report with ``chosen``, ``why``, ``tilt_deg``, ``origin_mended_mm`` (see :func:`mend_origin`),
        ``uneven_slices`` and ``candidates``.

    Raises:
        DataError: As :func:`strokelib.data.reading.read_dicom`.
    """
    path = Path(path)
    if not path.exists():
        wanted = "a DICOM folder or a .zip of one"
        raise DataError(path.absolute().name, found="nothing there", wanted=wanted, next_step="check the path")
    with tempfile.TemporaryDirectory(prefix="strokelib-dicom-") as scratch:
        source, target = path, Path(scratch, "nifti")
        target.mkdir()
        if path.is_file():
            source = Path(scratch, "dicom")
            source.mkdir()
            unpack(path, source)
        text = _run(source, path, target, timeout_s)
        files = sorted(target.glob("*.nii"))
        try:
            file, why = choose(files, series)
        except DataError as error:
            name = path.absolute().name
            raise DataError(name, found=error.found, wanted=error.wanted, next_step=error.next_step) from error
        tilt, scanned = _TILT.search(text), target / f"{file.name.partition('_')[0].removesuffix('.nii')}.nii"
        for count, first, last in _MISSING.findall(text) if _UNEVEN in text else ():
            if scanned.is_file() and nib.load(scanned).shape[2] == int(count):
                raise DataError(
                    path.absolute().name,
                    found=f"{count} slices, numbered {first} to {last}, with a hole between them",
                    wanted="every slice of the series",
                    next_step="copy the series again: a file is missing or damaged",
                )
        mended_mm = mend_origin(file, scanned) if "_Tilt" in file.name and scanned.is_file() else 0.0
        yield (
            file,
            {
                "chosen": file.name,
                "why": why,
                "tilt_deg": float(tilt[1]) if tilt else 0.0,
                "origin_mended_mm": mended_mm,
                "uneven_slices": _UNEVEN in text,
                "candidates": [f.name for f in files],
            },
        )
