"""Which scans of which data sets are pre-trained on, and which have a lesion to segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strokelib.data.cases import Case
from strokelib.data.phantom.cohorts import SPLITS
from strokelib.errors import DataError

SETS = ("ALL", "STKp", "STKn")
HEALTHY = ("center_tbi",)
WITHOUT_ITS_HEALTHY = ("apis",)  # erratum S12
Cases = Sequence[Case]


@dataclass(frozen=True)
class Some(Sequence[Case]):
    """Some cases of others, read when they are asked for.

    Args:
        cases: The others.
        numbers: Which ones.
    """

    cases: Cases
    numbers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int | slice) -> Case | Some:
        """A case, or some of them."""
        chosen = self.numbers[index]
        return Some(self.cases, chosen) if isinstance(index, slice) else self.cases[chosen]


@dataclass(frozen=True)
class Joined(Sequence[Case]):
    """Several lists of cases as one, read when they are asked for.

    Args:
        parts: The lists.
    """

    parts: tuple[Cases, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> Case:
        """A case."""
        left = range(len(self))[index]
        for part in self.parts:
            if left < len(part):
                return part[left]
            left -= len(part)
        raise IndexError(index)


def stroke_scans(parts: Mapping[str, Mapping[str, Cases]]) -> dict[tuple[str, str], Some]:
    """Data set and split -> its scans with a lesion; data sets of healthy heads are left out.

    Args:
        parts: Data set -> its splits by name.
    """
    return {
        (name, split): Some(cases, tuple(k for k, case in enumerate(cases) if is_stroke(case)))
        for name, splits in parts.items()
        for split, cases in splits.items()
        if name not in HEALTHY
    }


def pretraining_sets(
    parts: Mapping[str, Mapping[str, Cases]], positive: Mapping[tuple[str, str], Some], *, leak: bool = False
) -> dict[str, tuple[Joined, Joined]]:
    """Training and validation scans of ALL, STKp and STKn; a set with fewer than two of either is left out.

    Source: Sec. 3.7.2, Seia et al. 2023.
    Deviation: ALL is without the scans of APIS that have no infarct (S12), with those of icoAIS (S13). Where no data
        set of healthy heads is there, as where a user's scans stand alone, STKn is the scans without a lesion; ALL
        then holds these of every data set, also of one named apis. So ALL always holds both other sets.

    Args:
        parts: Data set -> its splits by name.
        positive: From :func:`stroke_scans`.
        leak: Train on the validation and test scans, too, as the paper may have done (S32).
    """
    found: dict[str, dict[str, list[Cases]]] = {name: {split: [] for split in SPLITS} for name in SETS}
    alone = not set(parts) & set(HEALTHY)
    for name, splits in parts.items():
        for split in SPLITS:
            cases = splits.get(split, ())
            ill = positive.get((name, split), Some(cases, ()))
            well = Some(cases, tuple(sorted(set(range(len(cases))) - set(ill.numbers))))
            found["STKp"][split].append(ill)
            healthy = alone or name in HEALTHY
            found["ALL"][split] += [ill, well] if healthy or name not in WITHOUT_ITS_HEALTHY else [ill]
            if healthy:
                found["STKn"][split].append(well)
    trained = SPLITS if leak else SPLITS[:1]
    joined = {
        name: (Joined(tuple(part for split in trained for part in one[split])), Joined(tuple(one["val"])))
        for name, one in found.items()
    }
    return {name: both for name, both in joined.items() if all(len(part) > 1 for part in both)}


def chosen_set(sets: Mapping[str, tuple[Cases, Cases]], name: str) -> tuple[Cases, Cases]:
    """Training and validation scans of one of the pre-training sets.

    Args:
        sets: From :func:`pretraining_sets`.
        name: One of :data:`SETS`.

    Raises:
        DataError: It was left out.
    """
    if name not in sets:
        found, wanted = f"only {', '.join(sets) or 'none'}", "two training and two validation scans or more"
        step = "give more scans, or leave out the rows that need it"
        raise DataError(f"pre-training set {name}", found=found, wanted=wanted, next_step=step)
    return sets[name]


def is_stroke(case: Case) -> bool:
    """Whether a scan has a reference with a lesion in it."""
    return case.lesion is not None and bool(case.lesion.any())
