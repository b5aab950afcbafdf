"""Tissue labels of many cases, found once and kept; case by case, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tqdm import tqdm

from strokelib import repro
from strokelib.data import tissue, tissue_fields, tissue_mixture, tissue_priors
from strokelib.data.cases import Case
from strokelib.data.tissue import tissue_maps_from
from strokelib.methods.rolls import roll_of

VERSION = 1


def tissue_labels(
    cases: Sequence[Case], source: str, *, out: Path, folder_of: Path | None = None
) -> dict[str, np.ndarray]:
    """The likeliest tissue of every voxel.

    Args:
        cases: With brain masks.
        source: ``atlas``, ``truth`` or ``user``.
        out: Folder in which the labels' own folder is made.
        folder_of: For ``user``: holds a folder for each case, by its name, with SPM12's c1, c2 and c3.

    Returns:
        Case id -> (D, H, W) uint8: 0 outside the brain, 1 grey, 2 white, 3 fluid.

    Raises:
        ParameterError: Unknown source, or ``user`` without a folder.
        DataError: As :func:`strokelib.data.tissue.tissue_maps_from`.
    """
    return {case.id: _labels(case, source, Path(out), folder_of) for case in tqdm(cases, "tissue maps", disable=None)}


def _labels(case: Case, source: str, out: Path, folder_of: Path | None) -> np.ndarray:
    files = None if folder_of is None else Path(folder_of) / case.id
    if source != "atlas":
        return tissue_maps_from(source, case, files=files).labels()
    versions = [m.VERSION for m in (tissue, tissue_fields, tissue_mixture, tissue_priors)]
    facts = json.dumps([roll_of([case]).fingerprint, VERSION, versions])
    name = f"{case.id}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"

    def run(folder: Path) -> None:
        with repro.atomic_path(folder / "labels.safetensors") as temporary:
            save_file({"labels": tissue_maps_from(source, case).labels()}, temporary)

    return load_file(repro.once(out / "tissue" / name, run) / "labels.safetensors")["labels"]
