"""What is wrong with a folder of scans: every problem of every case, in one go, with what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from strokelib.data.aisd_pictures import NOTE
from strokelib.data.filefacts import FileFacts, Found, read_all
from strokelib.data.sources import AISD_POLICIES, RawCase, find_cases
from strokelib.errors import DataError
from strokelib.repro import sha256

GRID_TOLERANCE_MM = 0.01
LARGEST_LESION_ML = 600.0
AIR_BELOW_HU = -200.0
HOUNSFIELD = "Hounsfield units, air near -1000"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, or worth knowing.

    Args:
        case: Name of the case.
        file: Path below the folder.
        found: What is there.
        wanted: What should be.
        next_step: What to do.
        kind: ``error`` (the case cannot be used) or ``note``.
    """

    case: str
    file: str
    found: str
    wanted: str
    next_step: str
    kind: str = "error"


@dataclass(frozen=True)
class Report:
    """The result of :func:`check`.

    Args:
        folder: The folder's name, without the way there.
        layout: Layout that was found.
        cases: Number of cases.
        patients: Number of patients.
        images: Image -> number of cases that have it.
        with_mask: Cases with a mask.
        problems: All problems, case by case.
    """

    folder: str
    layout: str
    cases: int
    patients: int
    images: dict[str, int]
    with_mask: int
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that make a case unusable."""
        return tuple(p for p in self.problems if p.kind == "error")

    def as_json(self) -> str:
        """Everything, for programs."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def as_text(self) -> str:
        """A table for people."""
        have = ", ".join(f"{name} {count}" for name, count in sorted(self.images.items()))
        lines = [
            f"{self.folder}: layout {self.layout}, {self.cases} cases of {self.patients} patients; {have}; "
            f"with mask {self.with_mask}"
        ]
        for p in self.problems:
            lines += [f"{p.kind:<5} {p.case}  {p.file}", f"      found {p.found}; wanted {p.wanted}"]
            lines.append(f"      next step: {p.next_step}")
        notes = len(self.problems) - len(self.errors)
        unusable = len({p.case for p in self.errors})
        counts = [_counted(len(self.errors), "error"), _counted(unusable, "case"), _counted(notes, "note")]
        lines.append("{} in {}, {}".format(*counts))
        return "\n".join(lines)


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def check(folder: str | Path, layout: str = "auto", *, progress: bool = False) -> Report:
    """Open every file of every case and collect what is wrong; nothing is written and no problem stops the rest.

    Args:
        folder: The unpacked data set.
        layout: As in :func:`strokelib.data.sources.find_cases`.
        progress: Show a progress bar on a terminal.

    Raises:
        ParameterError: No such folder or layout.
        DataError: No case was found.
    """
    folder = Path(folder)
    cases = find_cases(folder, layout)
    found = read_all(cases, progress)
    problems = [problem for case in cases for problem in _case_problems(case, folder, found)]
    problems += _same_scans(cases, folder)
    images = sorted({name for case in cases for name in case.images})
    return Report(
        folder=folder.name,
        layout=cases[0].layout,
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        images={name: sum(name in case.images for case in cases) for name in images},
        with_mask=sum(bool(case.masks) for case in cases),
        problems=tuple(problems),
    )


def problems_of(case: RawCase) -> list[Problem]:
    """What is wrong with one case, every file of which is opened.

    Args:
        case: Its files; paths in the answer are the files' names alone.
    """
    folder = Path("no such folder")
    return list(_case_problems(case, folder, read_all([case], progress=False)))


def _place(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _case_problems(case: RawCase, folder: Path, found: Found) -> Iterator[Problem]:
    if case.layout == "aisd_png":
        place, step = _place(case.images["ct"], folder), "take the DICOM files where you can"
        yield Problem(case.id, place, NOTE, "Hounsfield units and millimetres", step, "note")
    for name, path in case.images.items():
        facts = found[path]
        if isinstance(facts, DataError):
            yield Problem(case.id, _place(path, folder), facts.found, facts.wanted, facts.next_step)
        elif name == "ctp" and not facts.step_known:
            wanted, step = "the time between frames in pixdim[4]", "1 s is taken; give the real one"
            yield Problem(case.id, _place(path, folder), "no time step", wanted, step, "note")
    for path in case.unused:
        step = "keep one of them, or give each a name of its own"
        yield Problem(case.id, _place(path, folder), f"a further file for {case.id}", "one", step)
    if "ct" not in case.images:
        step = "add the non-contrast CT, or leave the case out"
        yield Problem(case.id, case.id, f"images {sorted(case.images)}", "a non-contrast CT", step)
    elif isinstance(ct := found[case.images["ct"]], FileFacts) and case.layout != "isles2018":
        yield from _unit_problems(case, ct, _place(case.images["ct"], folder))
    for path in case.masks.values():
        if path.is_dir():
            yield from _png_problems(case, path, folder)
        else:
            yield from _mask_problems(case, path, found, folder)


def _unit_problems(case: RawCase, ct: FileFacts, place: str) -> Iterator[Problem]:
    """CT numbers are Hounsfield units: the air around a head is near -1000."""
    if ct.low >= 0 and ct.high <= 255:
        step = "use the DICOM files: a window has been applied, and what it cut off is lost"
        said = f"grey values of {ct.low:g} to {ct.high:g}"
        yield Problem(case.id, place, said, HOUNSFIELD, step)
    elif ct.low > AIR_BELOW_HU:
        step = "is the head stripped already, or an offset of 1024 missing? Look at it before preparing it"
        yield Problem(case.id, place, f"no value below {ct.low:g}", HOUNSFIELD, step, "note")


def _mask_problems(case: RawCase, path: Path, found: Found, folder: Path) -> Iterator[Problem]:
    place, mask = _place(path, folder), found[path]
    if isinstance(mask, DataError):
        yield Problem(case.id, place, mask.found, mask.wanted, mask.next_step)
        return
    image = found.get(case.images.get(case.mask_on, path))
    if isinstance(image, FileFacts):
        same = mask.shape == image.shape
        apart = float(np.abs(mask.affine - image.affine).max()) if same else np.inf
        if apart > GRID_TOLERANCE_MM:
            said = f"shape {mask.shape}" if not same else f"an affine that differs by {apart:.3g}"
            step = f"resample the mask to {case.mask_on} by nearest neighbour"
            yield Problem(case.id, place, said, f"the grid of {case.mask_on}, {image.shape}", step)
    allowed = set(range(6)) if case.layout == "aisd_nifti" else {0, 1}
    if not set(mask.labels) <= allowed:
        step = "choose which labels are lesion and write a mask of 0 and 1"
        yield Problem(case.id, place, f"labels {list(mask.labels[:8])}", f"labels of {sorted(allowed)}", step)
    if mask.positive_ml == 0 and not case.healthy:
        yield Problem(case.id, place, "an empty mask", "a lesion, or a control", "check that it is a control", "note")
    elif mask.positive_ml > LARGEST_LESION_ML:
        step = "look at it: is the mask inverted?"
        said = f"{mask.positive_ml:.0f} mL"
        yield Problem(case.id, place, said, f"up to {LARGEST_LESION_ML:.0f} mL", step, "note")


def _png_problems(case: RawCase, mask: Path, folder: Path) -> Iterator[Problem]:
    """AISD's masks: one grey PNG a slice with labels 0 to 5, which a viewer shows as black."""
    from PIL import Image, UnidentifiedImageError

    pictures, slices = (
        sorted(mask.glob("*.png")),
        len([p for p in case.images["ct"].iterdir() if p.suffix in (".dcm", ".png")]),
    )
    if len(pictures) != slices:
        step = "unpack both archives again; a mask belongs to the series of the same name"
        yield Problem(case.id, _place(mask, folder), f"{len(pictures)} pictures", f"{slices}, one a CT slice", step)
    labels: set[int] = set()
    for picture in pictures:
        try:
            with Image.open(picture) as opened:
                if opened.mode not in ("L", "P", "1"):
                    step = "take the mask archive, not the image archive"
                    yield Problem(case.id, _place(picture, folder), f"mode {opened.mode}", "8-bit grey labels", step)
                    continue
                labels |= set(np.unique(np.asarray(opened)).tolist())
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
            found = type(error).__name__
            yield Problem(case.id, _place(picture, folder), found, "an intact PNG file", "unpack the archive again")
    wanted, place = set(range(6)), _place(mask, folder)
    if not labels <= wanted:
        step = "take the mask archive; labels 0 to 5 look black in a viewer"
        yield Problem(case.id, place, f"labels {sorted(labels)[:8]}", f"labels of {sorted(wanted)}", step)
    elif not labels & set(AISD_POLICIES["official"]):
        step = "label 4 alone is invisible on CT: such a case has no lesion under the official policy"
        yield Problem(case.id, place, f"labels {sorted(labels)}", "one of 1, 2, 3, 5", step, "note")


def _same_scans(cases: Sequence[RawCase], folder: Path) -> Iterator[Problem]:
    """Two cases of different patients with the same CT: one of them would leak into another split."""
    seen: dict[str, RawCase] = {}
    for case in cases:
        path = case.images.get("ct")
        if path is None:
            continue
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        first = seen.setdefault(" ".join(sorted(sha256(file) for file in files)), case)
        if first is not case and first.patient != case.patient:
            step = "keep one of them"
            yield Problem(case.id, _place(path, folder), f"the CT of {first.id}", "a scan of its own", step)
