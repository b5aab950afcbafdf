"""One image of a case, whatever form its files have: NIfTI, a folder or a zip archive of DICOM files, a series."""

from __future__ import annotations

from pathlib import Path

from strokelib.data.aisd_pictures import picture_volume
from strokelib.data.cases import Volume
from strokelib.data.guarded import read_guarded
from strokelib.data.series import Series


def is_pictures(path: Path) -> bool:
    """Whether the path is a folder of PNG files."""
    return path.is_dir() and any(path.glob("*.png"))


def is_dicom(path: Path) -> bool:
    """Whether the path is taken for DICOM files: a zip archive, or a folder without PNG files."""
    return path.suffix.lower() == ".zip" or (path.is_dir() and not is_pictures(path))


def open_image(path: Path, kind: str = "ct") -> Volume:
    """Read an image of a case in a child process of limited memory and time.

    Args:
        path: As :class:`strokelib.data.sources.RawCase` names it.
        kind: Key of the image; ``ctp`` gives the first frame of the series.

    Returns:
        In LPS order.

    Raises:
        DataError: The file is missing, damaged, not what is wanted, or more than the child's limits allow.
    """
    if is_pictures(path):
        return picture_volume(path)
    read = read_guarded(path, kind="series" if kind == "ctp" else "dicom" if is_dicom(path) else "nifti")
    return read.frame(0) if isinstance(read, Series) else read
