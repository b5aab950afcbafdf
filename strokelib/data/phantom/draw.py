"""Which patients' infarcts each cohort uses: drawn once, by covariates only, and kept in ``data_manifests/splits/``.

    python -m strokelib.data.phantom.draw

writes the files anew; the same patients come out. Nobody serves two cases, except for the two slabs of some patients of
``isles2018``. Anatomy B stands in test parts alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from strokelib import repro, settings
from strokelib.data import shipped
from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS
from strokelib.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

SEED = 2024
COLUMNS = ("case", "patient", "split", "anatomy", "label")
TESTS = ("test", "hidden")
LARGE_ML, GUARD_ML = 70.0, (60.0, 90.0)  # nobody of the guard band is in a test part
AISD = {"train": (250, 45), "val": (42, 8), "test": (44, 8)}  # up to 70 mL, above
XWHD_SIDES, XWHD_MEN, XWHD_NIHSS, XWHD_AGE = {"left": 84, "right": 87}, 121, (12.4, 5.69), (65.0, 14.0)
XWHD = {"test": 41, "val": 18}
XWHD_SMALLEST_ML, XWHD_MIDDLE_CEREBRAL = 3.0, 0.6
ICOAIS_GUARD_ML = (2.6, 3.8)  # about 3 mL, so that rendered lesions lie on the same side
ICOAIS = {"val": (24, 4, 1), "test": (14, 4, 1)}  # above 3 mL, up to 3 mL, without infarct; the rest trains
ICOAIS_TRAIN, ICOAIS_SILVER = (113, 6), 80
APIS = {"train": (31, 5), "val": (4, 1), "test": (9, 2)}  # with infarct, without
CENTER_TBI = {"train": 446, "val": 64, "test": 127}
ISLES = {"train": (44, 21), "val": (4, 2), "test": (15, 8), "hidden": (40, 22)}  # patients, of them with two slabs


def draw_all(participants: pd.DataFrame, arteries: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Draw every cohort.

    Args:
        participants: As :func:`strokelib.data.shipped.participants` gives them.
        arteries: As :func:`strokelib.data.shipped.artery_shares` gives them.

    Returns:
        Cohort to a table with :data:`COLUMNS`; ``patient`` is empty for a head without infarct.

    Raises:
        DataError: A part of a cohort finds too few patients.
    """
    import pandas as pd

    table = participants.copy()
    table["ml"] = table["volume_ml"].clip(upper=KNOBS.lesion_cap_ml) * KNOBS.living_size**3
    table["middle"] = _middle_cerebral(table, arteries)
    free, out = table, {}
    for cohort, draw in (("xwhd", _xwhd), ("aisd", _aisd), ("icoais", _icoais), ("apis", _apis), ("isles2018", _isles)):
        rows = draw(free, generator(SEED, cohort))
        out[cohort] = _table(cohort, rows, table)
        free = free.drop(index=list({patient for patient, *_ in rows if patient}))
    rows = [("", part, "none", 1) for part, count in CENTER_TBI.items() for _ in range(count)]
    out["center_tbi"] = _table("center_tbi", rows, table)
    if len(free) + sum(frame["patient"].replace("", pd.NA).nunique() for frame in out.values()) != len(table):
        raise DataError("drawing", found="a patient in two cohorts", wanted="disjoint", next_step="mend the draw")
    return out


Row = tuple[str, str, str, int]


def _middle_cerebral(table: pd.DataFrame, arteries: pd.DataFrame) -> pd.Series:
    """The middle cerebral artery's part of all injured shares of territories, 0 to 1."""
    shares, major = arteries.reindex(table.index).fillna(0.0), shipped.territories()[1]["major"]
    middle = [label for label in shares if major[label] == "MCA"]
    return shares[middle].sum(axis=1) / shares.sum(axis=1).clip(lower=1e-9)


def _table(cohort: str, rows: list[Row], table: pd.DataFrame) -> pd.DataFrame:
    """Name the cases, and give every third one of a test part anatomy B, along volume."""
    import pandas as pd

    volume = [float(table["ml"].get(patient, 0.0)) for patient, *_ in rows]
    second = set()
    for part in TESTS:
        members = sorted((volume[n], n) for n, row in enumerate(rows) if row[1] == part)
        second |= {rows[n][0] or n for _, n in members[1::3]}
    lines = []
    for number, (patient, part, label, slabs) in enumerate(rows):
        anatomy = "B" if part in TESTS and (patient or number) in second else "A"
        name = f"{cohort}-{number + 1:04d}"
        names = [name] if cohort != "isles2018" else [f"{name}-{slab + 1}" for slab in range(slabs)]
        lines += [(case, patient, part, anatomy, label) for case in names]
    return pd.DataFrame(lines, columns=COLUMNS)


def _every_nth(rng: np.random.Generator, table: pd.DataFrame, count: int, by: tuple[str, ...]) -> list[str]:
    """``count`` patients, evenly spread along sorted covariates, from a random start."""
    if len(table) < count:
        raise DataError(
            "part of a cohort", found=f"{len(table)} patients", wanted=str(count), next_step="draw smaller parts"
        )
    number = [int(name.rpartition("-")[2]) for name in table.index]
    ordered = table.assign(number=number).sort_values([*by, "number"]).index
    positions = np.floor((np.arange(count) + rng.random()) * (len(ordered) / max(count, 1))).astype(int)
    return [ordered[p] for p in positions]


def _parts(
    rng: np.random.Generator, table: pd.DataFrame, sizes: dict[str, int], by: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Patients of several parts, each evenly spread along sorted covariates; (patient, part), shuffled in each part."""
    chosen = table.loc[_every_nth(rng, table, sum(sizes.values()), by)]
    out = []
    for part, count in sorted(sizes.items(), key=lambda item: item[1]):
        taken = _every_nth(rng, chosen, count, by)
        chosen = chosen.drop(index=taken)
        out += [(patient, part) for patient in rng.permutation(taken)]
    return out


def _ordered(rng: np.random.Generator, rows: list[Row]) -> list[Row]:
    """Shuffled, then sorted by part: train, val, test, hidden."""
    parts = ("train", "val", *TESTS)
    return sorted((rows[n] for n in rng.permutation(len(rows))), key=lambda row: parts.index(row[1]))


def _xwhd(free: pd.DataFrame, rng: np.random.Generator) -> list[Row]:
    """One-sided infarcts mainly of the middle cerebral artery, first stroke, NIHSS as in the paper's Table I."""
    pool = free[
        free["nihss"].gt(0)
        & free["prior_stroke"].eq(0)
        & free["side"].isin(XWHD_SIDES)
        & free["ml"].ge(XWHD_SMALLEST_ML)
        & free["middle"].ge(XWHD_MIDDLE_CEREBRAL)
    ]
    rows: list[Row] = []
    men_wanted = XWHD_MEN / sum(XWHD_SIDES.values())
    for side, count in XWHD_SIDES.items():
        left, chosen = pool[pool["side"] == side], []
        if len(left) < count:
            raise DataError("xwhd", found=f"{len(left)} {side}", wanted=str(count), next_step="widen the criteria")
        quantiles = (np.arange(count) + 0.5) / count
        goals = XWHD_NIHSS[0] + XWHD_NIHSS[1] * np.array([_normal_quantile(q) for q in quantiles])
        men = 0
        for n, goal in enumerate(rng.permutation(goals)):
            few_men = men < men_wanted * (n + 1)
            cost = (left["nihss"] - goal).abs() + 0.04 * (left["age"] - XWHD_AGE[0]).abs()
            cost = cost + 2.0 * (left["sex"].eq("M") != few_men)
            best = cost.idxmin()
            men += int(left.at[best, "sex"] == "M")
            chosen.append(best)
            left = left.drop(index=best)
        sizes = {part: round(total * count / sum(XWHD_SIDES.values())) for part, total in XWHD.items()}
        sizes["train"] = count - sum(sizes.values())
        rows += [(patient, part, "gold", 1) for patient, part in _parts(rng, pool.loc[chosen], sizes, ("nihss", "ml"))]
    return _ordered(rng, rows)


def _normal_quantile(q: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(q)


def _aisd(free: pd.DataFrame, rng: np.random.Generator) -> list[Row]:
    """Small and large infarcts as in AISD's test part; patients without covariates first, so that others keep some."""
    pool = free[free["ml"] >= KNOBS.smallest_ml]
    rows: list[Row] = []
    for is_large in (False, True):
        stratum = pool[(pool["ml"] > LARGE_ML) == is_large]
        clear = stratum[(stratum["ml"] < GUARD_ML[0]) | (stratum["ml"] > GUARD_ML[1])]
        test = _every_nth(rng, clear, AISD["test"][is_large], ("ml",))
        rows += [(patient, "test", "gold", 1) for patient in test]
        sizes = {part: AISD[part][is_large] for part in ("train", "val")}
        rest = stratum.drop(index=test)
        rows += [(patient, part, "gold", 1) for patient, part in _parts(rng, rest, sizes, ("ml",))]
    return _ordered(rng, rows)


def _icoais(free: pd.DataFrame, rng: np.random.Generator) -> list[Row]:
    """Gold labels in validation and test; a fixed number of them above 3 mL; most of the training part silver."""
    rows: list[Row] = []
    for part, (above, below, without) in ICOAIS.items():
        groups = ((above, ICOAIS_GUARD_ML[1], np.inf), (below, 0.0, ICOAIS_GUARD_ML[0]))
        for count, low, high in groups:
            taken = _every_nth(rng, free[free["ml"].between(low, high)], count, ("ml",))
            free = free.drop(index=taken)
            rows += [(patient, part, "gold", 1) for patient in taken]
        rows += [("", part, "none", 1)] * without
    stroke, without = ICOAIS_TRAIN
    silver = set(rng.permutation(stroke)[:ICOAIS_SILVER])
    for n, patient in enumerate(_every_nth(rng, free, stroke, ("ml",))):
        rows.append((patient, "train", "silver" if n in silver else "gold", 1))
    rows += [("", "train", "none", 1)] * without
    return _ordered(rng, rows)


def _apis(free: pd.DataFrame, rng: np.random.Generator) -> list[Row]:
    sizes = {part: count for part, (count, _) in APIS.items()}
    rows: list[Row] = [(patient, part, "gold", 1) for patient, part in _parts(rng, free, sizes, ("ml",))]
    rows += [("", part, "none", 1) for part, (_, without) in APIS.items() for _ in range(without)]
    return _ordered(rng, rows)


def _isles(free: pd.DataFrame, rng: np.random.Generator) -> list[Row]:
    """Patients of each part along volume; some have two slabs, which are two cases of one part."""
    rows: list[Row] = []
    pool = free[free["ml"] >= KNOBS.smallest_ml]
    patients: dict[str, list[str]] = {}
    for patient, part in _parts(rng, pool, {part: count for part, (count, _) in ISLES.items()}, ("ml",)):
        patients.setdefault(part, []).append(patient)
    for part, members in patients.items():
        twice = ISLES[part][1]
        rows += [(patient, part, "gold", 2 if n < twice else 1) for n, patient in enumerate(members)]
    return _ordered(rng, rows)


def main() -> None:
    """Write ``data_manifests/splits/``."""
    for cohort, frame in draw_all(shipped.participants(), shipped.artery_shares()).items():
        text = frame.to_csv(index=False, lineterminator="\n")
        repro.write_text(settings.manifests_dir() / "splits" / f"{cohort}.csv", text)
        print(f"{cohort}: {len(frame)} cases")


if __name__ == "__main__":
    main()
