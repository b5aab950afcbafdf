"""Which patients' infarcts each cohort uses: drawn once, by covariates only, and kept in ``data_manifests/splits/``.

``python -m strokelib.data.phantom.draw`` writes the files anew; the same patients come out. Nobody serves two cohorts
or two heads. A patient of ``isles2018`` has one slab or two, which are scans of one head: ``isles2018-0001-1`` and
``isles2018-0001-2``. Anatomy B stands in test parts alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from strokelib import repro, settings
from strokelib.data import shipped
from strokelib.data.phantom.draw_cohorts import ORDER, Member, draw_members, with_arteries
from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS

if TYPE_CHECKING:
    import pandas as pd

SEED = 2024
COLUMNS = ("case", "patient", "split", "anatomy", "label")
PARTS = ("train", "val", "test", "hidden")
WITH_B = ("test", "hidden")
EVERY_B, FIRST_B = 3, 2


def draw_all(participants: pd.DataFrame, arteries: pd.DataFrame | None = None) -> dict[str, pd.DataFrame]:
    """Draw every cohort.

    Args:
        participants: As :func:`strokelib.data.shipped.participants` gives them.
        arteries: As :func:`strokelib.data.shipped.artery_shares` gives them; None reads them.

    Returns:
        Cohort to a table with :data:`COLUMNS`, one row a case; ``patient`` is empty for a head without infarct. The
        first cases of a part hold each class of volume, anatomy and label in about the share of the whole part.

    Raises:
        DataError: A part of a cohort finds too few patients.
    """
    pool = participants.assign(ml=living_ml(participants["volume_ml"]))
    free = with_arteries(pool, shipped.artery_shares() if arteries is None else arteries)
    tables = {}
    for cohort in ORDER:
        rng = generator(SEED, f"{cohort}-split")
        members = draw_members(rng, cohort, free)
        free = free.drop(index=[member.patient for member in members if member.patient])
        tables[cohort] = _table(rng, cohort, members, pool["ml"].to_dict())
    return {cohort: tables[cohort] for cohort in settings.COHORTS}


def living_ml(volume_ml: pd.Series) -> pd.Series:
    """Volumes of masks in a head of mean living size, before any of them falls on fluid.

    Args:
        volume_ml: Volumes in MNI space in mL; what exceeds the cap is cut, as in rendering.
    """
    return volume_ml.clip(upper=KNOBS.lesion_cap_ml) * KNOBS.living_size**3


def _second(members: list[Member], ml: dict[str, float]) -> set[int]:
    """Places of the members with anatomy B: every third of a test part along slabs and volume."""
    places: set[int] = set()
    for part in WITH_B:
        inside = [n for n, member in enumerate(members) if member.split == part]
        ordered = sorted(inside, key=lambda n: (members[n].slabs, ml.get(members[n].patient, 0.0), n))
        places |= set(ordered[FIRST_B::EVERY_B])
    return places


def _table(rng: np.random.Generator, cohort: str, members: list[Member], ml: dict[str, float]) -> pd.DataFrame:
    """Names of the cases, part by part, each class of cases spread evenly over its part."""
    import pandas as pd

    frame = pd.DataFrame(members)
    second = _second(members, ml)
    frame["anatomy"] = ["B" if n in second else "A" for n in range(len(frame))]
    frame["part"] = [PARTS.index(part) for part in frame["split"]]
    frame = frame.iloc[rng.permutation(len(frame))]
    alike = frame.groupby(["split", "anatomy", "stratum", "label"])
    frame["place"] = (alike.cumcount() + 0.5) / alike["patient"].transform("size")
    frame = frame.sort_values(["part", "place"], kind="stable")
    lines = []
    for number, row in enumerate(frame.itertuples(), start=1):
        name = f"{cohort}-{number:04d}"
        names = [f"{name}-{slab + 1}" for slab in range(row.slabs)] if cohort == "isles2018" else [name]
        lines += [(case, row.patient, row.split, row.anatomy, row.label) for case in names]
    return pd.DataFrame(lines, columns=COLUMNS)


def split_csv(table: pd.DataFrame) -> str:
    """A cohort's table as the text of its file."""
    return table.to_csv(index=False, lineterminator="\n")


def main() -> None:
    """Write ``data_manifests/splits/``."""
    for cohort, table in draw_all(shipped.participants()).items():
        repro.write_text(settings.manifests_dir() / "splits" / f"{cohort}.csv", split_csv(table))
        print(f"{cohort}: {len(table)} cases")


if __name__ == "__main__":
    main()
