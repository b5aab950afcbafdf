"""A training's history: one CSV line a value, written while the training runs."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from strokelib.errors import ParameterError
from strokelib.repro import write_text

if TYPE_CHECKING:
    import pandas as pd

HEADER = "step,split,name,value\n"
FEWEST_VALIDATIONS = 6


class Row(NamedTuple):
    """One value: ``step`` is the number of steps done, ``split`` is ``train`` or ``val``."""

    step: int
    split: str
    name: str
    value: float


@dataclass(frozen=True)
class History:
    """What :func:`strokelib.train.fit` returns.

    Args:
        rows: All values in the order in which they arose.
        steps: Number of steps done.
        best_step: The step whose weights the network carries where ``fit`` was told to keep the best, else ``steps``.
        notes: Number format, resumptions and damaged checkpoints, in words.
    """

    rows: tuple[Row, ...]
    steps: int
    best_step: int
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """The rows as a table with the columns step, split, name, value."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=Row._fields)

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
    """The CSV file behind a history; it is appended to line by line and cut back to the checkpoint on resumption.

    Args:
        path: The file; made where it is missing.
        upto: Rows of later steps are dropped: they will be made again.
    """

    def __init__(self, path: Path, upto: int) -> None:
        self.rows = [r for r in read_rows(path) if r.step <= upto]
        write_text(path, HEADER + "".join(_line(r) for r in self.rows))
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115 (closed by close())

    def add(self, step: int, split: str, values: dict[str, float]) -> None:
        """Append one line a value and hand it to the operating system."""
        new = [Row(step, split, name, float(value)) for name, value in values.items()]
        self.rows += new
        self._file.write("".join(_line(r) for r in new))
        self._file.flush()

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _line(row: Row) -> str:
    return f"{row.step},{row.split},{row.name},{row.value!r}\n"


def read_rows(path: Path) -> list[Row]:
    """Rows of a history file; an unfinished last line, as a kill leaves it, does not count."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").splitlines(keepends=True)
    return [Row(int(s), p, n, float(v)) for s, p, n, v in csv.reader(x for x in lines[1:] if x.endswith("\n"))]
