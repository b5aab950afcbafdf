"""Which patients' infarcts a cohort uses: drawn once, by covariates only, and kept in ``data_manifests/splits/``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS
from strokelib.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SIZES = {"train": 295, "val": 50, "test": 52}
LARGE_ML = 70.0
LARGE_SHARE = 8 / 52
UNKNOWN_SHARE = 0.5
SEED = 2024


def draw_split(participants: pd.DataFrame) -> pd.DataFrame:
    """Draw the cohort ``aisd``: 295 training, 50 validation and 52 test patients, each patient once.

    Infarcts below ``KNOBS.smallest_ml`` are left out; 8 of 52 are above 70 mL in each part (44 and 8 in the test
    part, as in AISD). Half of the patients have no NIHSS, so that later cohorts selected by it keep enough. Within
    each of these four strata every n-th patient is taken along the sorted covariates (NIHSS and age, or volume where
    they are missing), from a random start; test and validation patients are taken from these in the same way.

    Args:
        participants: Indexed by patient, with ``volume_ml``, ``nihss`` and ``age``.

    Returns:
        One row a case: ``case``, ``patient``, ``split``.

    Raises:
        DataError: A stratum has too few patients.
    """
    import pandas as pd

    rng = generator(SEED, "aisd-split")
    table = participants[participants["volume_ml"] >= KNOBS.smallest_ml].copy()
    table["number"] = [int(name.rpartition("-")[2]) for name in table.index]
    table["years"] = pd.to_numeric(table["age"].astype(str).str.rstrip("+"), errors="coerce")
    large, unknown = table["volume_ml"] > LARGE_ML, table["nihss"].isna()
    parts: dict[str, list[str]] = {name: [] for name in SIZES}
    for is_large in (False, True):
        for is_unknown in (False, True):
            stratum = table[(large == is_large) & (unknown == is_unknown)]
            order = ["volume_ml", "number"] if is_unknown else ["nihss", "years", "number"]
            counts = {name: _count(size, is_large, is_unknown) for name, size in SIZES.items()}
            chosen = _every_nth(rng, list(stratum.sort_values(order).index), sum(counts.values()))
            for name in ("test", "val"):
                taken = _every_nth(rng, chosen, counts[name])
                parts[name] += taken
                chosen = [patient for patient in chosen if patient not in set(taken)]
            parts["train"] += chosen
    rows = [
        (patient, name)
        for name, members in parts.items()
        for patient in (members[i] for i in rng.permutation(len(members)))
    ]
    cases = [f"aisd-{number:04d}" for number in range(1, len(rows) + 1)]
    return pd.DataFrame({"case": cases, "patient": [r[0] for r in rows], "split": [r[1] for r in rows]})


def _count(size: int, is_large: bool, is_unknown: bool) -> int:
    """Patients that a part of ``size`` takes from one stratum."""
    large = round(size * LARGE_SHARE)
    total = large if is_large else size - large
    without = round(total * UNKNOWN_SHARE)
    return without if is_unknown else total - without


def _every_nth(rng: np.random.Generator, ordered: list[str], count: int) -> list[str]:
    if len(ordered) < count:
        raise DataError(
            "stratum of the split", found=f"{len(ordered)} patients", wanted=f"{count}", next_step="draw smaller parts"
        )
    positions = np.floor((np.arange(count) + rng.random()) * (len(ordered) / count)).astype(int)
    return [ordered[p] for p in positions]
