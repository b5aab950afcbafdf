"""A training's history: one CSV line a value, and one a case where cases are told apart, written while it runs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from strokelib.errors import ParameterError
from strokelib.repro import write_text

if TYPE_CHECKING:
    import pandas as pd

HEADER = "step,split,name,value\n"
CASE_HEADER = "step,name,case,value\n"
MISSING = "_missing"
FEWEST_VALIDATIONS = 6


class Row(NamedTuple):
    """One value: ``step`` is the number of steps done, ``split`` is ``train`` or ``val``."""

    step: int
    split: str
    name: str
    value: float


class CaseRow(NamedTuple):
    """One validation value of one case."""

    step: int
    name: str
    case: str
    value: float


@dataclass(frozen=True)
class History:
    """What :func:`strokelib.train.fit` returns.

    Args:
        rows: All values in the order in which they arose.
        steps: Number of steps done: fewer than asked for where the training stopped early.
        best_step: The step whose weights the network carries where ``fit`` was told to keep the best, else ``steps``.
        notes: Number format, resumptions, damaged checkpoints and an early stop, in words.
        case_rows: Validation values of single cases, where the validation gave them.
    """

    rows: tuple[Row, ...]
    steps: int
    best_step: int
    notes: tuple[str, ...] = ()
    case_rows: tuple[CaseRow, ...] = ()

    def frame(self) -> pd.DataFrame:
        """The rows as a table with the columns step, split, name, value."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=Row._fields)

    def cases(self) -> pd.DataFrame:
        """Validation values of single cases as a table with the columns step, name, case, value."""
        import pandas as pd

        return pd.DataFrame(self.case_rows, columns=CaseRow._fields)

    def curve(self, name: str, split: str = "val") -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of one quantity.

        Raises:
            ParameterError: The history holds no such quantity.
        """
        points = [(r.step, r.value) for r in self.rows if r.split == split and r.name == name]
        if not points:
            known = sorted({f"{r.split}/{r.name}" for r in self.rows})
            raise ParameterError(
                "curve", found=f"{split}/{name}", wanted=" or ".join(known), next_step="name one of these"
            )
        steps, values = zip(*points, strict=True)
        return np.array(steps), np.array(values)

    def flattened(self, name: str, tolerance: float = 0.02) -> bool:
        """Whether a validation curve has stopped rising; if not, the training is ``undertrained``.

        A line is fitted to the last half of the points by least squares: the curve is flat where that line rises by no
        more than ``tolerance`` from the half's first point to its last. Fewer than 6 points never count as flat.

        Args:
            name: A validation quantity of which more is better, e.g. ``dice``.
            tolerance: Largest rise, in the quantity's unit.
        """
        steps, values = self.curve(name)
        if len(steps) < FEWEST_VALIDATIONS:
            return False
        steps, values = steps[len(steps) // 2 :], values[len(steps) // 2 :]
        slope = np.polyfit(steps - steps[0], values, 1)[0]
        return bool(slope * (steps[-1] - steps[0]) <= tolerance)


class HistoryFile:
    """The CSV files behind a history, ``history.csv`` and ``cases.csv``; the latter only where there are such values.

    They are appended to line by line and cut back to the checkpoint on resumption.

    Args:
        folder: The run's folder.
        upto: Rows of later steps are dropped: they will be made again.
    """

    def __init__(self, folder: Path, upto: int) -> None:
        path, self._cases_path = folder / "history.csv", folder / "cases.csv"
        self.rows = [r for r in read_rows(path) if r.step <= upto]
        self.case_rows = [r for r in read_cases(self._cases_path) if r.step <= upto]
        write_text(path, HEADER + "".join(_line(r) for r in self.rows))
        if self._cases_path.exists():
            write_text(self._cases_path, CASE_HEADER + _case_lines(self.case_rows))
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115 (closed by close())
        self._cases: io.TextIOBase | None = None

    def add(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Append one line a value and hand it to the operating system."""
        new = [Row(step, split, name, float(value)) for name, value in values.items()]
        self.rows += new
        self._file.write("".join(_line(r) for r in new))
        self._file.flush()

    def add_cases(self, new: list[CaseRow]) -> None:
        """Append one line a case, as :meth:`add` does."""
        if not new:
            return
        if self._cases is None:
            if not self._cases_path.exists():
                write_text(self._cases_path, CASE_HEADER)
            self._cases = open(self._cases_path, "a", encoding="utf-8", newline="")  # noqa: SIM115
        self.case_rows += new
        self._cases.write(_case_lines(new))
        self._cases.flush()

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        for file in (self._file, self._cases):
            if file is not None:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files; lines that a full disk would not take are made again on resumption."""
        for file in (self._file, self._cases):
            if file is not None:
                with suppress(OSError):
                    file.close()


def summarise(scores: Mapping[str, float | Mapping[str, float]], step: int) -> tuple[dict[str, float], list[CaseRow]]:
    """Cut what a validation returned into scalars and rows of cases.

    Args:
        scores: Name to a number, or to a mapping of case ids to numbers. The latter becomes the mean over the cases
            that are not NaN (NaN where none is left) and, as ``<name>_missing``, the number of those that are.
        step: Number of steps done.

    Raises:
        ParameterError: A case id would break a line, or there is no case.
    """
    scalars: dict[str, float] = {}
    rows: list[CaseRow] = []
    for name, value in scores.items():
        if not isinstance(value, Mapping):
            scalars[name] = value
            continue
        odd = [case for case in map(str, value) if not case.isprintable()]
        if odd or not value:
            raise ParameterError(
                f"validation {name}",
                found=f"the case {odd[0]!r}" if odd else "no case",
                wanted="case ids of printable characters, one at least",
                next_step="correct what validate returns",
            )
        rows += [CaseRow(step, name, str(case), float(number)) for case, number in value.items()]
        numbers = np.array([float(number) for number in value.values()])
        there = numbers[~np.isnan(numbers)]
        scalars[name] = float(there.mean()) if len(there) else float("nan")
        scalars[name + MISSING] = float(len(numbers) - len(there))
    return scalars, rows


def _line(row: Row) -> str:
    return f"{row.step},{row.split},{row.name},{row.value!r}\n"


def _case_lines(rows: list[CaseRow]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((*row[:3], repr(row.value)) for row in rows)
    return text.getvalue()


def _fields(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return list(csv.reader(x for x in lines[1:] if x.endswith("\n")))


def read_rows(path: Path) -> list[Row]:
    """Rows of a history file; an unfinished last line, as a kill leaves it, does not count."""
    return [Row(int(s), p, n, float(v)) for s, p, n, v in _fields(path)]


def read_cases(path: Path) -> list[CaseRow]:
    """Rows of a ``cases.csv``, as :func:`read_rows` reads a history; none where there is no such file."""
    return [CaseRow(int(s), n, c, float(v)) for s, n, c, v in _fields(path)]
