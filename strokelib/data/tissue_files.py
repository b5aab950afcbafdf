"""A user's own tissue maps, as SPM12 writes them: c1 grey matter, c2 white matter, c3 fluid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from strokelib.data.cases import Volume
from strokelib.data.grids import Grid, sample_on
from strokelib.data.reading import read_nifti
from strokelib.data.tissue import TissueMaps, maps_of
from strokelib.errors import DataError

VERSION = 1
PREFIXES = {"c1": "grey", "c2": "white", "c3": "csf"}
SUFFIXES = (".nii", ".nii.gz")
SLACK = 1e-3
LEAST_SUM = 0.1
LEAST_COVERED = 0.7


def find_files(files: str | os.PathLike | Sequence[str | os.PathLike]) -> dict[str, Path]:
    """The file of each tissue.

    Args:
        files: A folder that holds one ``c1*.nii``, ``c2*.nii`` and ``c3*.nii`` each (or ``.nii.gz``), or three files of
            such names in any order.

    Returns:
        ``grey``, ``white`` and ``csf`` to paths.

    Raises:
        DataError: A tissue is missing or there are several files of one.
    """
    single = isinstance(files, str | os.PathLike)
    if single and not Path(files).is_dir():
        step = "give the folder that SPM12 wrote into, or three files"
        raise DataError(Path(files).name, found="no such folder", wanted="a folder", next_step=step)
    listed = sorted(Path(files).iterdir()) if single else [Path(f) for f in files]
    found = {}
    for prefix, name in PREFIXES.items():
        fitting = [p for p in listed if p.name.lower().startswith(prefix) and p.name.lower().endswith(SUFFIXES)]
        if len(fitting) != 1:
            names = ", ".join(p.name for p in fitting) or f"none among {len(listed)} files"
            step = "give one file of each tissue; SPM12 names them c1, c2, c3 and then the scan's name"
            raise DataError(f"{prefix} ({name})", found=names, wanted=f"one {prefix}*.nii", next_step=step)
        found[name] = fitting[0]
    return found


def read_probability(path: Path) -> Volume:
    """One map in 0 to 1: such numbers as they are, or integers 0 to 255.

    Raises:
        DataError: The file cannot be read, or its values are neither.
    """
    volume = read_nifti(path)
    low, high = float(volume.array.min()), float(volume.array.max())
    whole = volume.array.dtype.kind in "iu"
    if low < -SLACK or high <= 0 or high > (255 if whole else 1 + SLACK):
        found, wanted = f"{low:g} to {high:g}", "probabilities 0 to 1, or integers 0 to 255"
        raise DataError(path.name, found=found, wanted=wanted, next_step="export the tissue map itself")
    scale = 255.0 if whole and high > 1 else 1.0
    return volume.with_array(np.clip(volume.array.astype(np.float32) / np.float32(scale), 0, 1))


def read_tissue_maps(
    files: str | os.PathLike | Sequence[str | os.PathLike], ct: Volume, brain: np.ndarray
) -> TissueMaps:
    """A user's own tissue maps on the grid of a CT.

    They may lie on another grid in the same millimetres; they are resampled linearly and scaled to sum to 1 inside the
    brain. Brain voxels in which they sum to less than 0.1 take their nearest neighbour's.

    Source: section 2, Ni et al. 2022: tissue maps by SPM12.
    Deviation: none in the maps; the scaling inside the brain is ours.

    Args:
        files: As :func:`find_files` takes them.
        ct: In HU.
        brain: (D, H, W) bool on its grid.

    Returns:
        The maps. The report adds ``files`` (names), ``covered_share`` (of the brain, where the maps sum to one half or
        more) and ``filled_share`` (of the brain, taken from neighbours).

    Raises:
        DataError: A tissue is missing, values are no probabilities, or the maps lie elsewhere: they cover less than
            0.7 of the brain.
    """
    paths = find_files(files)
    grid = Grid.of(ct)
    maps = np.stack([sample_on(read_probability(path), grid, fill=0.0).array for path in paths.values()])
    total = maps.sum(axis=0)
    covered = float((total[brain] >= 0.5).mean()) if brain.any() else 0.0
    names = [path.name for path in paths.values()]
    if covered < LEAST_COVERED:
        found, wanted = f"maps that cover {covered:.0%} of the brain", f"{LEAST_COVERED:.0%} at least"
        step = "give the maps of this very scan, in its own space (not the warped wc1, wc2, wc3)"
        raise DataError(", ".join(names), found=found, wanted=wanted, next_step=step)
    known = brain & (total >= LEAST_SUM)
    nearest = ndimage.distance_transform_edt(~known, sampling=ct.spacing, return_distances=False, return_indices=True)
    maps = (maps / np.maximum(total, LEAST_SUM))[:, *nearest]
    report = {
        "source": "user",
        "files": names,
        "covered_share": covered,
        "filled_share": float((brain & ~known).sum() / brain.sum()),
    }
    return maps_of(maps, ct, brain, report)
