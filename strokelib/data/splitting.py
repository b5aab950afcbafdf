"""Splits of a data set that comes without them, or with a part of them: by patient, and the same on every machine.

What a data set fixes itself stays: AISD's 52 test scans, CENTER-TBI's parts, hidden test cases. The rest is drawn by
the order of a hash of each patient's name, so that no random state and no order of files decides.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from strokelib.data.sources import RawCase
from strokelib.errors import DataError

VERSION = 1
OWN_FILE = "splits.csv"
SPLITS = ("train", "val", "test", "hidden")
# Share of val among the cases left after test, and of test among the open ones, as in the papers or embedded cohorts.
SHARES: dict[str, tuple[float, float]] = {
    "aisd": (50 / 345, 52 / 397),
    "isles2018": (6 / 71, 23 / 94),
    "apis": (10 / 46, 6 / 52),
    "icoais": (29 / 148, 19 / 167),
    "center_tbi": (127 / 573, 64 / 637),
    "xwhd": (18 / 130, 41 / 171),
}


def assign(cases: Sequence[RawCase], cohort: str, folder: Path | None = None) -> list[RawCase]:
    """The cases with a split each.

    A file ``splits.csv`` (columns case, split) in the data folder wins. Otherwise cases whose split the data set leaves
    open are drawn into test, val and train, and where a data set fixes train and test alone, val is drawn from train.
    Cases without any reference, unless known to be healthy, become ``hidden``.

    Args:
        cases: As :func:`strokelib.data.sources.find_cases` found them.
        cohort: Key of the cohort, for the shares.
        folder: Where ``splits.csv`` may lie.

    Raises:
        DataError: ``splits.csv`` is malformed, or puts one patient into two splits.
    """
    cases = [c if c.masks or c.healthy else replace(c, split="hidden") for c in cases]
    given = _own(folder / OWN_FILE) if folder is not None and (folder / OWN_FILE).is_file() else {}
    unknown = sorted(set(given) - {case.id for case in cases})
    if unknown:
        step = "write the names as `strokelib check` prints them"
        raise DataError(OWN_FILE, found=f"unknown cases {unknown[:3]}", wanted="names of cases", next_step=step)
    share_val, share_test = SHARES[cohort]
    placed = {case.id: given[case.id] for case in cases if case.id in given}
    kept = {"val", "test", "hidden"}
    placed |= {case.id: case.split for case in cases if case.id not in given and case.split in kept}
    rest = [case for case in cases if case.id not in placed]
    taken = {case.patient: placed[case.id] for case in cases if placed.get(case.id, "hidden") != "hidden"}
    placed |= {case.id: taken[case.patient] for case in rest if case.patient in taken}
    rest = [case for case in rest if case.patient not in taken]
    test = set() if _has(placed, "test") else _drawn([c for c in rest if not c.split], cohort, "test", share_test)
    rest_patients = [c for c in rest if c.patient not in test]
    val = set() if _has(placed, "val") else _drawn(rest_patients, cohort, "val", share_val)
    for case in rest:
        placed[case.id] = "test" if case.patient in test else "val" if case.patient in val else "train"
    _check_patients(cases, placed)
    return [replace(case, split=placed[case.id]) for case in cases]


def _has(placed: dict[str, str], split: str) -> bool:
    return split in placed.values()


def _drawn(cases: Sequence[RawCase], cohort: str, part: str, share: float) -> set[str]:
    """Patients first in the order of a hash, until they hold the share of cases; at least one, two of six or more."""
    held: dict[str, int] = {}
    for case in cases:
        held[case.patient] = held.get(case.patient, 0) + 1
    order = sorted(held, key=lambda name: hashlib.sha256(f"{cohort}/{part}/{name}".encode()).hexdigest())
    chosen: set[str] = set()
    fewest = 2 if len(order) >= 6 else 1
    for name in order[:-1]:
        if len(chosen) >= fewest and sum(held[p] for p in chosen) + held[name] / 2 > share * len(cases):
            break
        chosen.add(name)
    return chosen


def _own(path: Path) -> dict[str, str]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"case", "split"} <= set(rows[0]):
        found = sorted(rows[0]) if rows else "no row"
        raise DataError(path.name, found=found, wanted="columns case, split", next_step="write one row a case")
    bad = [row for row in rows if row["split"] not in SPLITS]
    names = [row["case"] for row in rows]
    if bad or len(set(names)) < len(names):
        found = f"split {bad[0]['split']!r}" if bad else "a case twice"
        raise DataError(path.name, found=found, wanted=f"each case once, {', '.join(SPLITS)}", next_step="correct it")
    return {row["case"]: row["split"] for row in rows}


def _check_patients(cases: Sequence[RawCase], placed: dict[str, str]) -> None:
    seen: dict[str, str] = {}
    for case in cases:
        split = placed[case.id]
        if split == "hidden":
            continue
        if seen.setdefault(case.patient, split) != split:
            found = f"patient {case.patient} in {seen[case.patient]} and {split}"
            step = "put all scans of a patient into one split"
            raise DataError("splits", found=found, wanted="each patient in one split", next_step=step)
