"""Every file of a data set read once, and what is kept of it: enough to say what is wrong, and no voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from strokelib.data.aisd_pictures import picture_volume
from strokelib.data.cases import Volume
from strokelib.data.guarded import read_many
from strokelib.data.opening import is_dicom, is_pictures
from strokelib.data.series import Series
from strokelib.data.sources import RawCase
from strokelib.errors import DataError


@dataclass(frozen=True)
class FileFacts:
    """What is kept of a file that was read: no voxels, so that a whole data set fits.

    Args:
        shape: (D, H, W).
        affine: (4, 4).
        low: Smallest value.
        high: Largest value.
        labels: The values of a mask, at most nine of them; empty for an image.
        positive_ml: Volume above 0.
        step_known: Whether a series states the time between its frames.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    low: float
    high: float
    labels: tuple[float, ...]
    positive_ml: float
    step_known: bool = True


Found = dict[Path, FileFacts | DataError]


def _facts(volume: Volume, mask: bool, step_known: bool) -> FileFacts:
    array = volume.array
    labels = tuple(np.unique(array)[:9].tolist()) if mask else ()
    shape = tuple(int(n) for n in array.shape)
    positive = float((array > 0).sum()) * volume.voxel_ml if mask else float("nan")
    return FileFacts(shape, volume.affine, float(array.min()), float(array.max()), labels, positive, step_known)


def _pictures(path: Path) -> FileFacts | DataError:
    try:
        return _facts(picture_volume(path), False, True)
    except DataError as error:
        return error


def read_all(cases: Sequence[RawCase], progress: bool) -> Found:
    """Every image and mask, each kind through one guarded child; what cannot be read is an error in its place.

    Args:
        cases: As :func:`strokelib.data.sources.find_cases` found them.
        progress: Show a progress bar on a terminal.
    """
    wanted: dict[str, list[Path]] = {"nifti": [], "series": [], "dicom": []}
    masks: set[Path] = set()
    for case in cases:
        for name, path in case.images.items():
            if not is_pictures(path):
                wanted["series" if name == "ctp" else "dicom" if is_dicom(path) else "nifti"].append(path)
        drawn = [path for path in (*case.masks.values(), *((case.brain,) if case.brain else ())) if not path.is_dir()]
        wanted["nifti"] += drawn
        masks.update(drawn)
    found: Found = {path: _pictures(path) for case in cases for path in case.images.values() if is_pictures(path)}
    quiet = None if progress else True
    with tqdm(total=sum(map(len, wanted.values())), disable=quiet, desc="checking", unit="file", leave=False) as bar:
        for kind, paths in wanted.items():
            for path, read in read_many(paths, kind=kind):
                bar.update()
                if isinstance(read, DataError):
                    found[path] = read
                elif isinstance(read, Series):
                    found[path] = _facts(read.frame(0), False, read.step_known)
                else:
                    found[path] = _facts(read, path in masks, True)
    return found
