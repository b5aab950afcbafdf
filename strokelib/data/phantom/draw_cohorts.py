"""The six cohorts' sizes, and who is drawn into each: patient, part, kind of label, number of slabs."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from strokelib.data import shipped
from strokelib.data.phantom.draw_spread import every_nth, matched, spread
from strokelib.data.phantom.knobs import KNOBS
from strokelib.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

TINY_ML = 0.2  # smaller infarcts may leave no voxel of 5 x 2 x 2 mm: no cohort uses them

XWHD_PARTS = {"train": 112, "val": 18, "test": 41}
XWHD_SIDES, XWHD_MEN = {"left": 84, "right": 87}, 121
XWHD_NIHSS, XWHD_AGES = NormalDist(12.40, 5.69), (30.0, 54.0, 65.0, 73.0, 89.0)
XWHD_SMALLEST_ML, ANTERIOR_SHARE, MIDDLE_SHARE = 3.0, 0.9, 0.5
XWHD_WEIGHTS = {"nihss": 1.0, "age": 0.01, "man": 8.0}

LARGE_ML = 70.0
# Around 70 mL: a head may be larger or smaller than the mean by a fifth in volume, and some of a mask falls on fluid.
LARGE_GUARD_ML = (55.0, 105.0)
AISD_PARTS = {
    "small": {"train": 250, "val": 42, "test": 44},
    "large": {"train": 45, "val": 8, "test": 8},
}

SEEN_ML, SEEN_GUARD_ML = 3.0, (2.5, 4.2)
ICOAIS_PARTS = {
    "small": {"train": 19, "val": 4, "test": 4},
    "large": {"train": 94, "val": 24, "test": 14},
}
ICOAIS_FREE, ICOAIS_SILVER = {"train": 6, "val": 1, "test": 1}, 80

APIS_PARTS, APIS_FREE = {"train": 31, "val": 8, "test": 5}, {"train": 5, "val": 2, "test": 1}
CENTER_TBI_PARTS = {"train": 446, "val": 127, "test": 64}

ISLES_STRATA_ML = {"small": (0.0, 10.0), "medium": (10.0, 50.0), "large": (50.0, np.inf)}
# Patients with two slabs and with one: 25 + 28 + 12, 2 + 2 + 2, 9 + 10 + 4 and 24 + 27 + 11 scans.
ISLES_PARTS = {
    "small": {"train": (5, 15), "val": (0, 2), "test": (1, 7), "hidden": (5, 14)},
    "medium": {"train": (12, 4), "val": (1, 0), "test": (4, 2), "hidden": (12, 3)},
    "large": {"train": (5, 2), "val": (1, 0), "test": (2, 0), "hidden": (5, 1)},
}


class Member(NamedTuple):
    """One head of a cohort before it has a name.

    Args:
        patient: Whose infarct; empty for none.
        split: ``train``, ``val``, ``test`` or ``hidden``.
        label: ``gold``, ``silver`` or ``none``.
        stratum: Class of volume, ``free`` without infarct.
        slabs: Scans made of it.
    """

    patient: str
    split: str
    label: str
    stratum: str
    slabs: int = 1


def _free(sizes: dict[str, int]) -> list[Member]:
    return [Member("", part, "none", "free") for part, count in sizes.items() for _ in range(count)]


def _gold(stratum: str, parts: dict[str, list[str]]) -> list[Member]:
    return [Member(patient, part, "gold", stratum) for part, patients in parts.items() for patient in patients]


def with_arteries(pool: pd.DataFrame, arteries: pd.DataFrame) -> pd.DataFrame:
    """Add how much of the injured volume in known territories belongs to which circulation.

    Args:
        pool: Indexed by patient.
        arteries: As :func:`strokelib.data.shipped.artery_shares` gives them.

    Returns:
        ``pool`` with ``anterior`` (anterior and middle cerebral, anterior choroidal artery) and ``middle`` (middle
        cerebral artery), both 0 to 1.
    """
    labels, names = shipped.territories()
    sizes = np.bincount(labels.array.ravel(), minlength=int(names.index.max()) + 1)
    injured = arteries.reindex(pool.index).mul([sizes[label] for label in arteries.columns])
    major, code = names.loc[arteries.columns, "major"], names.loc[arteries.columns, "code"]
    whole = injured.loc[:, (major != "LV").to_numpy()].sum(axis=1).clip(lower=1.0)
    anterior = major.isin(["ACA", "MCA"]) | code.str.startswith("ACTP")
    return pool.assign(
        anterior=injured.loc[:, anterior.to_numpy()].sum(axis=1) / whole,
        middle=injured.loc[:, (major == "MCA").to_numpy()].sum(axis=1) / whole,
    )


def xwhd(rng: np.random.Generator, pool: pd.DataFrame) -> list[Member]:
    """Infarcts of the anterior circulation like those of a large vessel, matched to the covariates of Table I.

    Source: Table I, Sun et al. 2024.
    Deviation: large-vessel occlusion is not known; infarcts count that lie on one side, by 90 % in the anterior
    circulation and by half in the middle cerebral artery's territory, from 3 mL, of patients without prior stroke.
    NIHSS and side are met; age and sex are approached.
    """
    import pandas as pd

    able = (pool["anterior"] >= ANTERIOR_SHARE) & (pool["middle"] >= MIDDLE_SHARE) & (pool["prior_stroke"] == 0)
    able &= (pool["ml"] >= XWHD_SMALLEST_ML) & pool["nihss"].notna() & pool["age"].notna() & pool["sex"].notna()
    fit = pool[able].assign(man=(pool.loc[able, "sex"] == "M").astype(float))
    chosen: list[str] = []
    for side, count in XWHD_SIDES.items():
        quantiles = (np.arange(count) + 0.5) / count
        ages = np.interp(rng.permutation(quantiles), np.linspace(0.0, 1.0, len(XWHD_AGES)), XWHD_AGES)
        men = rng.permutation(quantiles) < XWHD_MEN / sum(XWHD_SIDES.values())
        scores = np.maximum([XWHD_NIHSS.inv_cdf(q) for q in quantiles], 0.0)
        wanted = pd.DataFrame({"nihss": scores, "age": ages, "man": men.astype(float)})
        chosen += matched(rng, fit[fit["side"] == side], wanted, XWHD_WEIGHTS, f"cohort xwhd, {side}")
    return _gold("all", spread(rng, pool.loc[chosen], XWHD_PARTS, "cohort xwhd"))


def aisd(rng: np.random.Generator, pool: pd.DataFrame) -> list[Member]:
    """Infarcts from ``KNOBS.smallest_ml``; 8 of 52 are above 70 mL in the test part, and as many in the others."""
    pool = pool[pool["ml"] >= KNOBS.smallest_ml]
    members: list[Member] = []
    for stratum, sizes in AISD_PARTS.items():
        fit = pool[(pool["ml"] > LARGE_ML) == (stratum == "large")]
        members += _gold(stratum, spread(rng, fit, sizes, f"cohort aisd, {stratum}", ("test",), LARGE_GUARD_ML))
    return members


def icoais(rng: np.random.Generator, pool: pd.DataFrame) -> list[Member]:
    """Infarcts above and up to 3 mL and heads without; 80 of the training part's labels are silver, all others gold."""
    members = _free(ICOAIS_FREE)
    for stratum, sizes in ICOAIS_PARTS.items():
        fit = pool[(pool["ml"] > SEEN_ML) == (stratum == "large")]
        parts = spread(rng, fit, sizes, f"cohort icoais, {stratum}", ("val", "test"), SEEN_GUARD_ML)
        members += _gold(stratum, parts)
    trained = [member.patient for member in members if member.split == "train" and member.patient]
    silver = set(every_nth(rng, pool.loc[trained], ICOAIS_SILVER, "cohort icoais, silver labels"))
    return [member._replace(label="silver") if member.patient in silver else member for member in members]


def apis(rng: np.random.Generator, pool: pd.DataFrame) -> list[Member]:
    """Infarcts of any volume and heads without."""
    return _gold("all", spread(rng, pool, APIS_PARTS, "cohort apis")) + _free(APIS_FREE)


def isles2018(rng: np.random.Generator, pool: pd.DataFrame) -> list[Member]:
    """Infarcts in three classes of volume; the largest of each class and part have two slabs."""
    pool = pool[pool["ml"] >= KNOBS.smallest_ml]
    members: list[Member] = []
    for stratum, parts in ISLES_PARTS.items():
        low, high = ISLES_STRATA_ML[stratum]
        fit = pool[(pool["ml"] > low) & (pool["ml"] <= high)]
        sizes = {part: sum(counts) for part, counts in parts.items()}
        for part, patients in spread(rng, fit, sizes, f"cohort isles2018, {stratum}").items():
            twice = set(_largest(pool, patients, parts[part][0]))
            members += [Member(name, part, "gold", stratum, 2 if name in twice else 1) for name in patients]
    return members


def center_tbi(rng: np.random.Generator, pool: pd.DataFrame) -> list[Member]:
    """Heads without infarct."""
    return _free(CENTER_TBI_PARTS)


def _largest(pool: pd.DataFrame, patients: Iterable[str], count: int) -> list[str]:
    return sorted(patients, key=lambda name: -pool.at[name, "ml"])[:count]


# xwhd needs an NIHSS and large infarcts, aisd large infarcts: they draw first.
ORDER = {
    "xwhd": xwhd,
    "aisd": aisd,
    "icoais": icoais,
    "apis": apis,
    "isles2018": isles2018,
    "center_tbi": center_tbi,
}


def draw_members(rng: np.random.Generator, cohort: str, pool: pd.DataFrame) -> list[Member]:
    """Draw one cohort from the patients that are still free.

    Args:
        rng: The cohort's generator.
        cohort: Key of the cohort.
        pool: The free patients, with ``ml`` and the columns of :func:`with_arteries`.

    Raises:
        DataError: Too few patients, or a patient drawn twice.
    """
    members = ORDER[cohort](rng, pool[pool["ml"] >= TINY_ML])
    named = [member.patient for member in members if member.patient]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise DataError(f"cohort {cohort}", found=f"twice: {twice[:5]}", wanted="each once", next_step="mend its parts")
    return members
