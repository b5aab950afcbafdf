"""What names a set of cases in a cache, and who is in it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from strokelib.data.cases import Case


@dataclass(frozen=True)
class Roll:
    """What one look at some cases tells.

    Args:
        fingerprint: Eight hexadecimal digits that change with the cases, their order, their images and references,
            and their channels where they have some.
        cohorts: Keys of their cohorts.
        patients: Their patients.
        test: Names of those that belong to a test set.
        n: How many they are.
    """

    fingerprint: str
    cohorts: frozenset[str]
    patients: frozenset[str]
    test: tuple[str, ...]
    n: int


def roll_of(cases: Iterable[Case]) -> Roll:
    """Look at each case once (they may be read from disk one by one)."""
    digest, who, test = hashlib.sha256(), [], []
    for case in cases:
        array = np.ascontiguousarray(case.image.array)
        lesion = b"" if case.lesion is None else np.packbits(case.lesion).tobytes()
        facts = (case.id, case.cohort, case.split, array.shape, array.dtype.str, zlib.crc32(array), zlib.crc32(lesion))
        digest.update(repr(facts).encode())
        for name, channel in sorted(case.channels.items()):
            values = np.ascontiguousarray(channel)
            digest.update(repr((name, values.shape, values.dtype.str, zlib.crc32(values))).encode())
        who.append((case.cohort, case.patient))
        if case.split == "test":
            test.append(case.id)
    cohorts, patients = (frozenset(part) for part in zip(*who, strict=True)) if who else (frozenset(), frozenset())
    return Roll(digest.hexdigest()[:8], cohorts, patients, tuple(test), len(who))
