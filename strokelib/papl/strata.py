"""Scans by the volume of their infarct, as Table V splits them, and what its printed averages are averages of."""

from __future__ import annotations

import numpy as np
import pandas as pd

from strokelib.errors import DataError

SMALL, BIG, AVERAGE = STRATA = ("infarct volume <=70 mL", "infarct volume >70 mL", "all (Average column)")
LIMIT_ML = 70.0
# No number of scans is printed; these weights reproduce the printed averages (erratum P32).
PRINTED_SCANS = {SMALL: 44, BIG: 8}
VOLUME = "truth_volume_ml"
SAME = 1e-6


def stratum_of(volume_ml: float) -> str:
    """``infarct volume <=70 mL`` or ``infarct volume >70 mL``; 70 mL itself is small."""
    return BIG if volume_ml > LIMIT_ML else SMALL


def volumes_of(scores: pd.DataFrame) -> pd.Series:
    """Volume of the reference in mL by scan, which every method has to be scored against.

    Args:
        scores: Columns method, case, metric, value, with the metric ``truth_volume_ml`` for each scan of each method.

    Raises:
        DataError: A scan has no volume, or two methods differ in it.
    """
    rows = scores[scores["metric"] == VOLUME]
    scored = scores[["method", "case"]].drop_duplicates()
    both = scored.merge(rows, "left", ["method", "case"])
    if both["value"].isna().any():
        first = both[both["value"].isna()].iloc[0]
        found, step = f"none of {first['case']} for {first['method']}", f"keep the metric {VOLUME} of each scan"
        raise DataError("volumes of the references", found=found, wanted="one a scan", next_step=step)
    by_scan = both.groupby("case")["value"].agg(["min", "max"]).astype(float)
    if len(apart := by_scan[by_scan["max"] - by_scan["min"] > SAME * by_scan["max"]]):
        found = f"{apart['min'].iloc[0]:g} and {apart['max'].iloc[0]:g} mL of {apart.index[0]}"
        step = "score every method in the scanner's frame, against the same mask"
        raise DataError("volumes of the references", found=found, wanted="one a scan", next_step=step)
    return by_scan["max"].rename("volume_ml")


def scans_of(scores: pd.DataFrame, stratum: str) -> pd.DataFrame:
    """The scores of the scans of one stratum, by the volumes of their own references.

    Args:
        scores: As :func:`volumes_of` takes them.
        stratum: Of :data:`STRATA`; the average takes all scans.

    Raises:
        DataError: As :func:`volumes_of`.
    """
    volumes = volumes_of(scores)
    there = volumes.index if stratum == AVERAGE else volumes.index[volumes.map(stratum_of) == stratum]
    return scores[scores["case"].isin(there)]


def printed_averages(cells: pd.DataFrame) -> pd.DataFrame:
    """What Table V prints as average beside the mean of its two strata, weighted 44 to 8.

    Args:
        cells: The printed table, columns method, lesion_filter, metric, value.

    Returns:
        Columns row, metric, printed, weighted, difference (printed - weighted).
    """
    wide = cells.pivot(index=["method", "metric"], columns="lesion_filter", values="value")
    wide = wide.loc[cells[["method", "metric"]].drop_duplicates().apply(tuple, axis=1)]
    weights = list(PRINTED_SCANS.values())
    weighted = np.average(wide[list(PRINTED_SCANS)], axis=1, weights=weights)
    found = wide[AVERAGE].rename("printed").reset_index().rename(columns={"method": "row"})
    return found.assign(weighted=weighted, difference=found["printed"] - weighted).rename_axis(columns=None)
