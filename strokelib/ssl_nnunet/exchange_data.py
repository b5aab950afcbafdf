"""Cases to nnU-Net v2's folder of raw data."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strokelib.data.cases import Case, Volume
from strokelib.data.contralateral import CLIP_HU
from strokelib.data.grids import box_of, crop
from strokelib.data.reading import write_nifti
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.fingerprint import images_hu

VERSION = 1
ENDING = ".nii.gz"
LABELS = ("lesion", "brain")
OUTSIDE_HU = (CLIP_HU[0], 0.0)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Layout:
    """Where files of a part of a data set lie: ``Tr`` for training and validation, ``Ts`` for test.

    Args:
        folder: The data set's.
        part: ``Tr`` or ``Ts``.
        ending: Of all images' names, with its dots.
    """

    folder: Path
    part: str
    ending: str = ENDING

    def image(self, case: str, channel: int) -> Path:
        """The image of a channel."""
        return self.folder / f"images{self.part}" / f"{case}_{channel:04d}{self.ending}"

    def label(self, case: str) -> Path:
        """What a network shall learn."""
        return self.folder / f"labels{self.part}" / f"{case}{self.ending}"

    def brain(self, case: str) -> Path:
        """The brain mask, which nnU-Net does not look for."""
        return self.folder / f"brains{self.part}" / f"{case}{self.ending}"


def export_dataset(
    cases: Iterable[Case],
    folder: str | os.PathLike,
    dataset_id: int,
    name: str,
    *,
    channels: int = 1,
    label: str = "lesion",
    margin_mm: float | None = None,
) -> Path:
    """Write cases as a raw data set of nnU-Net v2.

    Cases of the splits ``train`` and ``val`` go to ``imagesTr`` and ``labelsTr``, and which is which to
    ``splits_final.json`` as its only fold; those of ``test`` to ``imagesTs``, and their references, which nnU-Net does
    not look for, to ``labelsTs``. Brain masks go to ``brainsTr`` and ``brainsTs``, likewise for us alone.

    Images show the brain only: outside it the CT is -100 HU, which CT normalisation makes the lower clip, and the
    difference image 0. Both channels are named CT, so that nnU-Net normalises both by the data set's intensities.

    Source: Sec. 3.2 and 3.3, Seia et al. 2023.
    Deviation: images stay on the cases' own grid; the paper's are 1 mm cubes.

    Args:
        cases: Read one by one.
        folder: ``nnUNet_raw``; the data set's own folder in it must not exist.
        dataset_id: 1 to 999.
        name: Letters, digits, dots, hyphens and underscores.
        channels: 1 (CT) or 2 (CT and difference image), as :func:`strokelib.ssl_nnunet.fingerprint.images_hu`.
        label: ``lesion``, or ``brain`` for the pre-training set, in which healthy heads have no lesion to learn from.
        margin_mm: Cut images to the brain's box with such a margin; None keeps the whole field.

    Returns:
        ``<folder>/Dataset<id>_<name>``, made by one rename when all is written. Where anything fails nothing stays; a
        killed process leaves a folder whose name starts with a dot, which no reader takes for a data set.

    Raises:
        ParameterError: An id, a name or a label that nnU-Net does not allow, or a negative margin.
        DataError: The data set is there already, there is no training case, a case's name cannot be a file's or comes
            twice, or a case lacks its label, its brain or its contralateral image.
    """
    if not (isinstance(dataset_id, int) and 1 <= dataset_id <= 999 and _NAME.fullmatch(name)):
        wanted = "an id of 1 to 999, and letters, digits, dots, hyphens and underscores"
        raise ParameterError("data set", found=f"id {dataset_id}, name {name!r}", wanted=wanted, next_step="rename it")
    if label not in LABELS or (margin_mm is not None and not margin_mm >= 0):
        found, wanted = f"label {label!r}, margin_mm {margin_mm}", f"{' or '.join(LABELS)}, and 0 mm or more"
        raise ParameterError("export", found=found, wanted=wanted, next_step="correct it")
    target = Path(folder) / f"Dataset{dataset_id:03d}_{name}"
    if target.exists():
        step = "delete it, or take another id"
        raise DataError(target.name, found="a folder of that name", wanted="none", next_step=step)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _fill(partial, cases, name, channels, label, margin_mm)
        partial.chmod(0o755)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _fill(folder: Path, cases: Iterable[Case], name: str, channels: int, label: str, margin_mm: float | None) -> None:
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    patients: dict[str, str] = {}
    for case in cases:
        if case.split not in splits or not _NAME.fullmatch(case.id) or case.id in patients:
            found = f"the split {case.split!r}{', and the name before' if case.id in patients else ''}"
            wanted = "train, val or test, and a name of letters, digits, dots, hyphens and underscores, once"
            raise DataError(f"case {case.id!r}", found=found, wanted=wanted, next_step="rename it or leave it out")
        _write_case(case, Layout(folder, "Ts" if case.split == "test" else "Tr"), channels, label, margin_mm)
        splits[case.split].append(case.id)
        patients[case.id] = case.patient
    test = splits.pop("test")
    if not splits["train"]:
        found, step = f"{len(splits['val'])} for validation, {len(test)} for test", "add cases of the split train"
        raise DataError(f"cases of {name}", found=found, wanted="one for training at least", next_step=step)
    content = {
        "channel_names": {str(number): "CT" for number in range(channels)},
        "labels": {"background": 0, label: 1},
        "numTraining": sum(map(len, splits.values())),
        "file_ending": ENDING,
        "name": name,
        "channel_meanings": ["NCCT in HU", "contralateral - NCCT in HU"][:channels],
        "patients": patients,
    }
    for file, held in (("dataset.json", content), ("splits_final.json", [splits])):
        (folder / file).write_text(json.dumps(held, indent=1) + "\n", "utf-8")


def _write_case(case: Case, place: Layout, channels: int, label: str, margin_mm: float | None) -> None:
    brain = np.ones(case.image.array.shape, bool) if case.brain is None else np.asarray(case.brain, bool)
    truth = case.lesion if label == "lesion" else case.brain
    if (truth is None and place.part == "Tr") or not brain.any():
        found = "no brain voxel" if not brain.any() else f"no {label} mask"
        step = "leave it out" + (", or export brains as labels" if label == "lesion" else "")
        raise DataError(f"case {case.id}", found=found, wanted=f"a brain and a {label} mask", next_step=step)
    whole = (slice(None),) * 3
    box = whole if margin_mm is None else box_of(brain, margin_mm, case.image.spacing)

    def write(array: np.ndarray, path: Path) -> None:
        write_nifti(crop(Volume(array, case.image.affine), box), path)

    images = images_hu(case, channels)
    if not np.isfinite(images[:, brain]).all():
        step = "prepare the case again"
        raise DataError(f"case {case.id}", found="values that are not finite", wanted="finite HU", next_step=step)
    for number, image in enumerate(images):
        write(np.where(brain, image, np.float32(OUTSIDE_HU[number])), place.image(case.id, number))
    if truth is not None:
        write(np.asarray(truth, bool), place.label(case.id))
    if case.brain is not None:
        write(brain, place.brain(case.id))
