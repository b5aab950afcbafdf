"""A folder of scans to a folder of prepared cases: several processes, resumable, and one bad case stops no other.

``<out>/<grid>-<key>/<case>.safetensors`` holds a case, ``problems/<case>.json`` why there is none. Both are made again
when the scan's files or the code that prepares change.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from strokelib import settings
from strokelib.data.cases import Case, load_case, save_case
from strokelib.data.realcase import Choices, fingerprint, prepare_case
from strokelib.data.sharing import further_processes, in_turn
from strokelib.data.sources import RawCase, find_cases
from strokelib.data.splitting import assign
from strokelib.errors import DataError, ParameterError
from strokelib.repro import write_text

CASES_A_WORKER = 2
COHORT_LAYOUTS: dict[str, tuple[str, ...]] = {
    "aisd": ("aisd", "aisd_nifti", "aisd_png"),
    "apis": ("apis",),
    "isles2018": ("isles2018",),
    "center_tbi": ("center_tbi",),
    "xwhd": (),
    "icoais": (),
}
ANY_COHORT = ("bids", "plain")


@dataclass(frozen=True)
class PreparedFolder:
    """Prepared cases on disk, and what is missing of them.

    Args:
        folder: Where the files lie.
        cases: The cases wanted, with their splits.
        problems: Case -> why it could not be prepared, in one line.
    """

    folder: Path
    cases: tuple[RawCase, ...]
    problems: dict[str, str]

    def ids(self, *splits: str) -> tuple[str, ...]:
        """Names of the cases that are there, of some splits or of all."""
        chosen = [c.id for c in self.cases if not splits or c.split in splits]
        return tuple(name for name in chosen if name not in self.problems)

    def load(self, name: str) -> Case:
        """Read one case."""
        return load_case(self.folder / f"{name}.safetensors")

    def table(self) -> str:
        """CSV: case, patient, split, what became of it."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(("case", "patient", "split", "state", "problem"))
        for case in self.cases:
            problem = self.problems.get(case.id, "")
            rows.writerow((case.id, case.patient, case.split, "left out" if problem else "prepared", problem))
        return text.getvalue()


def sorted_cases(folder: Path, cohort: str, layout: str = "auto") -> list[RawCase]:
    """The cases of a folder that may stand for a cohort, with their splits.

    Raises:
        ParameterError: Unknown cohort, or a folder that holds another data set.
        DataError: No case was found.
    """
    if cohort not in COHORT_LAYOUTS:
        wanted = " or ".join(COHORT_LAYOUTS)
        raise ParameterError("cohort", found=repr(cohort), wanted=wanted, next_step="give one of these")
    cases = find_cases(folder, layout)
    allowed = (*COHORT_LAYOUTS[cohort], *ANY_COHORT)
    if cases[0].layout not in allowed:
        fitting = [name for name, layouts in COHORT_LAYOUTS.items() if cases[0].layout in layouts]
        step = f"give the cohort {' or '.join(fitting)}, or another folder"
        found = f"{folder.name} with the layout {cases[0].layout}"
        raise ParameterError(f"data of cohort {cohort}", found=found, wanted=" or ".join(allowed), next_step=step)
    return assign(cases, cohort, folder)


def default_out(folder: Path, cohort: str) -> Path:
    """Where prepared cases of a folder lie unless something else is said; notebooks look there too."""
    chosen = settings.resolve(cohort=cohort, data=folder)
    return chosen.runs / "prepared" / chosen.work.name


def prepare(
    folder: str | Path,
    cohort: str,
    *,
    out: str | Path | None = None,
    layout: str = "auto",
    choices: Choices | None = None,
    only: Sequence[str] | None = None,
    workers: int = 0,
    progress: bool = False,
) -> PreparedFolder:
    """Prepare the cases of a folder that are not prepared yet.

    Args:
        folder: The unpacked data set; never written to.
        cohort: Key of the cohort it stands for.
        out: Folder for the prepared cases; :func:`default_out` by default.
        layout: As in :func:`strokelib.data.sources.find_cases`.
        choices: Grid, labels, readers.
        only: Names of cases; all by default.
        workers: Processes side by side; 0 for one a core where there is enough to do, at most eight.
        progress: Show a progress bar on a terminal.

    Returns:
        The cases that are there, and why others are not.

    Raises:
        ParameterError: As :func:`sorted_cases`, or unknown names in ``only``.
        DataError: No case was found.
    """
    folder, choices = Path(folder).absolute(), choices or Choices()
    cases = sorted_cases(folder, cohort, layout)
    strange = sorted(set(only or ()) - {case.id for case in cases})
    if strange:
        step = "`strokelib check` prints the names"
        raise ParameterError("only", found=strange[:3], wanted="names of cases in the folder", next_step=step)
    found_layout = cases[0].layout
    if only is not None:
        chosen = set(only)
        cases = [case for case in cases if case.id in chosen]
    target = Path(out or default_out(folder, cohort)) / choices.key()
    target.mkdir(parents=True, exist_ok=True)
    pending = [case for case in cases if not _settled(case, target)]
    workers = workers or min(8, os.cpu_count() or 1, 1 + len(pending) // CASES_A_WORKER)
    job = {"folder": str(folder), "cohort": cohort, "layout": found_layout, "target": str(target)}
    job["choices"] = asdict(choices)
    quiet = None if progress else True
    with (
        further_processes(workers - 1, "strokelib.data.preparing", job, [case.id for case in pending]),
        tqdm(total=len(pending), desc="preparing", disable=quiet) as bar,
    ):
        in_turn(pending, lambda c, patience: _prepare_once(c, folder, cohort, choices, target, patience), bar.update)
    problems = {case.id: said for case in cases if (said := _problem(case, target))}
    found = PreparedFolder(target, tuple(cases), problems)
    if only is None:
        write_text(target / "cases.csv", found.table())
    return found


def _settled(case: RawCase, target: Path) -> bool:
    return _is_whole(case, target) or bool(_problem(case, target))


def _is_whole(case: RawCase, target: Path) -> bool:
    """Whether the case's file is there, whole, and made from the files as they are now."""
    path = target / f"{case.id}.safetensors"
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("case", "{}"))
    except (SafetensorError, OSError, ValueError):
        return False
    return header.get("facts", {}).get("files") == fingerprint(case)


def _problem(case: RawCase, target: Path) -> str:
    """Why the case could not be prepared from the files as they are now; empty where it could or was not tried."""
    path = target / "problems" / f"{case.id}.json"
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    return record["said"] if record.get("files") == fingerprint(case) else ""


def _prepare_once(case: RawCase, folder: Path, cohort: str, choices: Choices, target: Path, patience: int) -> None:
    """Prepare a case unless it is there; where another process is at work raise Timeout (patience 0) or wait (-1)."""
    locks = target / ".locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{case.id}.lock", timeout=patience):
        if _settled(case, target):
            return
        for left_by_a_kill in target.glob(f".{case.id}.*.tmp.safetensors"):
            left_by_a_kill.unlink()
        files, failed = fingerprint(case), target / "problems" / f"{case.id}.json"
        try:
            done = prepare_case(case, cohort, choices)
        except DataError as error:
            (target / f"{case.id}.safetensors").unlink(missing_ok=True)
            said = str(error).replace(f"{folder}{os.sep}", "")
            write_text(failed, json.dumps({"files": files, "said": said}, indent=1) + "\n")
            return
        done.facts["files"] = files
        save_case(done, target / f"{case.id}.safetensors")
        failed.unlink(missing_ok=True)


def _worker() -> None:
    import torch

    torch.set_num_threads(1)
    job = json.load(sys.stdin)
    found = {case.id: case for case in sorted_cases(Path(job["folder"]), job["cohort"], job["layout"])}
    for name in job["names"]:
        with suppress(Timeout):
            choices, target = Choices(**job["choices"]), Path(job["target"])
            _prepare_once(found[name], Path(job["folder"]), job["cohort"], choices, target, 0)


if __name__ == "__main__":
    _worker()
