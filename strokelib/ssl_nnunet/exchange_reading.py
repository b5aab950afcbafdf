"""nnU-Net v2's folder of raw data to cases; every disagreement in it is refused with the file and the key."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from strokelib.data.cases import Case, Volume
from strokelib.data.reading import read_nifti
from strokelib.errors import DataError
from strokelib.ssl_nnunet.exchange_data import Layout
from strokelib.ssl_nnunet.exchange_json import Document, is_a

ENDINGS = (".nii.gz", ".nii")
SAME_MM = 1e-3


@dataclass(frozen=True)
class Facts:
    """What ``dataset.json`` says.

    Args:
        channels: Their names, by number.
        labels: Name -> number.
        training: Number of training cases.
        ending: Of all images' names.
        patients: Case -> patient, where :func:`strokelib.ssl_nnunet.exchange_data.export_dataset` wrote it.
    """

    channels: tuple[str, ...]
    labels: dict[str, int]
    training: int
    ending: str
    patients: dict[str, str]


def read_facts(folder: Path) -> Facts:
    """Read and check ``dataset.json``.

    Raises:
        DataError: The file or a key is missing; channels are not numbered 0, 1, ...; labels are not whole numbers from
            0 for the background on (regions and an ignore label are not read); or the images are of another format.
    """
    document = Document.read(folder / "dataset.json")
    named = document.entry("channel_names", kind=dict)
    if not named or list(named) != [str(number) for number in range(len(named))]:
        raise document.refusal(("channel_names",), f"keys {', '.join(named) or 'none'}", 'keys "0", "1", ... in order')
    labels = document.entry("labels", kind=dict)
    plain = all(is_a(value, int) for value in labels.values())
    if not plain or sorted(labels.values()) != list(range(len(labels))) or labels.get("background") != 0:
        raise document.refusal(("labels",), labels, "background 0, and one whole number a label: 1, 2, ...")
    ending = document.entry("file_ending", kind=str)
    if ending not in ENDINGS:
        raise document.refusal(("file_ending",), ending, " or ".join(ENDINGS), "convert the images to NIfTI")
    patients = document.entry("patients", kind=dict) if document.has("patients") else {}
    training = document.entry("numTraining", kind=int)
    return Facts(tuple(map(str, named.values())), labels, training, ending, {k: str(v) for k, v in patients.items()})


def read_dataset(folder: str | os.PathLike, *, lesion: str | None = None) -> list[Case]:
    """Read a raw data set of nnU-Net v2.

    Args:
        folder: ``Dataset<id>_<name>``.
        lesion: Name of the label that is the lesion; by default all but the background together.

    Returns:
        Training cases, then those of ``imagesTs``, each sorted by name. ``split`` is that of the first fold of
        ``splits_final.json``, where there is one, ``train`` without and ``test`` for ``imagesTs``; the first channel is
        the image, further ones are ``difference``, ``channel2``, ...; the label ``brain`` of a data set that has no
        other becomes the brain mask; ``patient`` is the case unless ``dataset.json`` names patients.

    Raises:
        DataError: An image or a label is missing, unknown, on another grid, of another type or has another ending than
            the data set; a label is not in ``dataset.json``; or the number of cases or the splits do not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder.name, found="no such folder", wanted="a data set of nnU-Net", next_step="check the path")
    facts = read_facts(folder)
    if lesion is not None and lesion not in facts.labels:
        wanted = " or ".join(facts.labels)
        raise DataError(f"{folder.name}: labels", found=f"no {lesion}", wanted=wanted, next_step="name one of these")
    training = _names(Layout(folder, "Tr", facts.ending), facts)
    if len(training) != facts.training:
        found, step = f"{len(training)} cases in imagesTr", "copy the missing files, or correct the number"
        raise DataError("dataset.json: numTraining", found=found, wanted=facts.training, next_step=step)
    splits = _splits(folder, training)
    cases = []
    for part, names in (("Tr", training), ("Ts", _names(Layout(folder, "Ts", facts.ending), facts))):
        for name in names:
            case = _read_case(Layout(folder, part, facts.ending), name, facts, lesion)
            split = "test" if part == "Ts" else splits.get(name, "train")
            patient = facts.patients.get(name, name)
            cases.append(replace(case, split=split, cohort=folder.name, patient=patient))
    return cases


def _names(place: Layout, facts: Facts) -> list[str]:
    """The cases of a part; every file of its folders must belong to one, and every case must have all its files."""
    channels: dict[str, set[int]] = {}
    pattern = re.compile(rf"(.+)_(\d{{4}}){re.escape(place.ending)}")
    for file in _files(place.image("", 0).parent):
        match = pattern.fullmatch(file)
        if match is None:
            wanted, step = f"<case>_0000{place.ending}, ...", "rename it, or move it away"
            raise DataError(f"images{place.part}", found=file, wanted=wanted, next_step=step)
        channels.setdefault(match[1], set()).add(int(match[2]))
    for name, there in sorted(channels.items()):
        if there != set(range(len(facts.channels))):
            found, wanted = f"channels {sorted(there)}", f"0 to {len(facts.channels) - 1}, as dataset.json names them"
            thing = f"images{place.part} of case {name}"
            raise DataError(thing, found=found, wanted=wanted, next_step="add the missing image, or remove the case")
    labelled = {name: place.label(name).name for name in channels}
    there = set(_files(place.label("").parent))
    strange = sorted(there - set(labelled.values()))
    missing = sorted(name for name, file in labelled.items() if file not in there) if place.part == "Tr" else []
    if strange or missing:
        found = f"{strange[0]} without an image" if strange else f"no label of case {missing[0]}"
        step = "add the file, rename it, or remove the case"
        raise DataError(f"labels{place.part}", found=found, wanted="one label a case", next_step=step)
    return sorted(channels)


def _files(folder: Path) -> list[str]:
    """Names in a folder, those that start with a dot left out; none where there is no folder."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []


def _splits(folder: Path, training: list[str]) -> dict[str, str]:
    """Case -> train or val, by the first fold; empty where there is no file."""
    if not (folder / "splits_final.json").is_file():
        return {}
    document = Document.read(folder / "splits_final.json")
    if not isinstance(document.content, list) or not document.content:
        raise document.refusal((), "no list of folds", "a list of objects with train and val")
    fold = Document(f"{document.name}: fold 0", document.content[0])
    found = {name: split for split in ("train", "val") for name in map(str, fold.entry(split, kind=list))}
    both = sorted(set(map(str, fold.entry("train"))) & set(map(str, fold.entry("val"))))
    if both or set(found) != set(training):
        odd = sorted(set(found) ^ set(training))
        said = f"{both[0]} in both" if both else f"{odd[0]} {'without an image' if odd[0] in found else 'left out'}"
        raise fold.refusal((), said, "each case of imagesTr in train or in val", "correct the splits")
    return found


def _read_case(place: Layout, name: str, facts: Facts, lesion: str | None) -> Case:
    images = [read_nifti(place.image(name, number)) for number in range(len(facts.channels))]
    for number, image in enumerate(images[1:], 1):
        _same_grid(images[0], image, place.image(name, number), place.image(name, 0))
    extra = {"difference" if number == 1 else f"channel{number}": v.array for number, v in enumerate(images[1:], 1)}
    case = Case(name, name, "", "", images[0], channels=extra)
    if place.brain(name).is_file():
        brain = _labels(place.brain(name), images[0], place.image(name, 0), (0, 1))
        case = replace(case, brain=brain > 0)
    if not place.label(name).is_file():
        return case
    found = _labels(place.label(name), images[0], place.image(name, 0), tuple(facts.labels.values()))
    if set(facts.labels) == {"background", "brain"}:
        return replace(case, brain=found > 0)
    return replace(case, lesion=found > 0 if lesion is None else found == facts.labels[lesion])


def _labels(path: Path, image: Volume, image_path: Path, allowed: tuple[int, ...]) -> np.ndarray:
    """The numbers of a label file, checked."""
    mask = read_nifti(path)
    _same_grid(image, mask, path, image_path)
    strange = np.setdiff1d(np.unique(mask.array), allowed)
    if strange.size:
        found, wanted = (
            f"labels {strange[:5].tolist()}",
            f"{', '.join(map(str, allowed))} alone, as dataset.json has it",
        )
        raise DataError(path.name, found=found, wanted=wanted, next_step="correct the file or dataset.json")
    return mask.array


def _same_grid(one: Volume, other: Volume, path: Path, like: Path) -> None:
    fits = one.array.shape == other.array.shape
    apart = float(np.abs(one.affine - other.affine).max()) if fits else float("inf")
    if apart > SAME_MM:
        found = f"an affine that differs by {apart:.3g}" if fits else f"shape {other.array.shape}"
        wanted, step = f"the grid of {like.name}, {one.array.shape}", "resample it there"
        raise DataError(path.name, found=found, wanted=wanted, next_step=step)
