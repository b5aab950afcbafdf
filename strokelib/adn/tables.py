"""Table 1 of Ni et al. 2022 with ours beside it, and three tables of ours for what the paper shows in pictures alone.

Table 1's columns are those of :mod:`strokelib.comparing`. Beside the tables of ours nothing was published: ``row``,
``anatomy`` (the embedded heads' A and B, never pooled), ``metric``, ``unit``, ``published`` ("none"), ``ours`` (the
mean over scans), ``median``, ``sd``, ``n``, ``n_undefined``, ``ci95_low`` and ``ci95_high`` of the mean, ``cohort``,
``profile``, ``data``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from strokelib import comparing, manifest
from strokelib.comparing import NO_PUBLISHED, row_of
from strokelib.errors import DataError, ManifestError
from strokelib.metrics import unit_of
from strokelib.settings import Settings

# Row -> method and alignment as printed; "3D ResUNet" is printed twice.
ROWS = {
    "DeepMedic": ("DeepMedic", "N"),
    "3D U-Net": ("3D U-Net", "N"),
    "3D ResUNet (raw)": ("3D ResUNet", "N"),
    "Clèrigues et al.": ("Clèrigues et al.", "Y"),
    "SEAN": ("SEAN", "Y"),
    "3D ResUNet (aligned)": ("3D ResUNet", "Y"),
    "ADN w/o L_tissue": ("ADN w/o L_tissue", "Y"),
    "ADN (Ours)": ("ADN (Ours)", "Y"),
}
PROPOSED = "ADN (Ours)"
PENALISED, PENALISED_SCORE = "HD95, missed = diagonal", "hd95_penalised_mm"
METRICS = {"Dice": ("dice", 1.0), "HD95": ("hd95_mm", 1.0), PENALISED: (PENALISED_SCORE, 1.0)}
PLACES = {"Dice": 4}
POSE_ERRORS = ("angle_deg", "shift_mm")
SCORED = ("case", "anatomy", "metric", "value")
COLUMNS = (
    "row", "anatomy", "metric", "unit", "published", "ours", "median", "sd", "n", "n_undefined", "ci95_low",
    "ci95_high", "cohort", "profile", "data",
)  # fmt: skip


def table1_comparison(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 1: six comparators, ADN without its tissue term, and ADN.

    Source: Table 1, Ni et al. 2022.
    Deviation: intervals, paired differences to ADN and tests are added (erratum A24). A scan without a predicted or a
        true lesion has no HD95 and is counted (erratum A22); where the scores hold ``hd95_penalised_mm``, a second
        distance takes the image's diagonal for it.

    Args:
        scores: Columns method (of :data:`ROWS`, or a reference), case, metric, value, one seed; NaN where undefined.
            Metrics ``dice`` in [0, 1], ``hd95_mm`` and, for all rows or for none, ``hd95_penalised_mm``.
        status: Row -> a word of :data:`strokelib.tables.STATUSES`, for each row that has scores.
        settings: Of what the scores show (``run.shown``); its seed is that of the resamples.
        references: Methods without a network; they come last, are compared and not tested.

    Returns:
        As the head of :mod:`strokelib.comparing` says.

    Raises:
        DataError: Scores of another row, a metric of a row is missing, a scan stands twice, or a row has no status.
        ParameterError: Unknown word for a status.
        ManifestError: The ledger has other rows than :data:`ROWS`.
    """
    cells = _printed()
    if PENALISED_SCORE in set(scores["metric"]):
        added = cells[cells["metric"] == "HD95"].assign(metric=PENALISED, published_cell=NO_PUBLISHED)
        cells = pd.concat([cells, added]).sort_index(kind="stable")
    return comparing.compared(cells, METRICS, scores, status, settings, proposed=PROPOSED, references=references)


def table_disentangling(scores: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """How well P is told from A, against the truth that only an embedded head knows.

    Args:
        scores: Columns method (ADN, its ablations, ``P = A``, ``P = 0``, ...), case, anatomy, metric, value; NaN where
            undefined.
        settings: Of what the scores show; its seed is that of the resamples.

    Returns:
        As the head of this module says, methods and metrics in the order of ``scores``.

    Raises:
        DataError: A column is missing, or a scan stands twice.
    """
    return _described(scores, "method", settings)


def table_poses(errors: pd.DataFrame, settings: Settings, metrics: Sequence[str] = POSE_ERRORS) -> pd.DataFrame:
    """What turn and shift each alignment leaves; the spread is skewed, so the median stands beside the mean.

    Args:
        errors: Columns alignment, case, anatomy and those of ``metrics``, absolute errors, one row a scan.
        settings: See :func:`table_disentangling`.
        metrics: Columns with an error.

    Returns:
        As the head of this module says.

    Raises:
        DataError: See :func:`table_disentangling`.
    """
    if lacking := [name for name in ("alignment", "case", "anatomy", *metrics) if name not in errors]:
        step = "score the alignments against the true midline plane"
        raise DataError("errors of pose", found=f"no column {lacking}", wanted="one each", next_step=step)
    long = errors.melt(["alignment", "case", "anatomy"], list(metrics), var_name="metric")
    return _described(long, "alignment", settings)


def table_tissue(scores: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """What the source of the tissue maps in training changes.

    Args:
        scores: Columns source, case, anatomy, metric (Dice, correlation with the true P, ...), value.
        settings: See :func:`table_disentangling`.

    Returns:
        As the head of this module says.

    Raises:
        DataError: See :func:`table_disentangling`.
    """
    return _described(scores, "source", settings)


def page(table: pd.DataFrame, title: str) -> str:
    """A table of this module as Markdown: in Table 1 each cell is ``published | ours [95 % CI]``, else ours alone.

    Args:
        table: Of this module; an anatomy is a row of its own.
        title: Its heading.
    """
    published_on = "" if "anatomy" in table else "AISD"
    return comparing.page(table, title, published_on=published_on, decimals=PLACES)


def _printed() -> pd.DataFrame:
    cells = manifest.published("adn", 1)
    names = {printed: row for row, printed in ROWS.items()}
    found = list(zip(cells["method"], cells["aligned"], strict=True))
    if strange := sorted(set(found) ^ set(names)):
        step = "restore data_manifests/reported from the repository"
        raise ManifestError("Table 1 of adn", found=strange, wanted="the eight printed rows", next_step=step)
    return cells.assign(method=[names[pair] for pair in found])


def _described(scores: pd.DataFrame, by: str, settings: Settings) -> pd.DataFrame:
    if lacking := [name for name in (by, *SCORED) if name not in scores]:
        step = "give one row a scan and metric"
        raise DataError("scores", found=f"no column {lacking}", wanted=", ".join((by, *SCORED)), next_step=step)
    twice = scores[scores.duplicated([by, "case", "metric"])]
    if len(twice):
        first = twice.iloc[0]
        found = f"{first['metric']} of {first[by]} on {first['case']} twice"
        raise DataError("scores", found=found, wanted="one value a scan", next_step="choose one seed")
    rows = []
    for (name, anatomy, metric), part in scores.groupby([by, "anatomy", "metric"], sort=False):
        values = part["value"].astype(float).to_numpy()
        row = row_of(name, metric, unit_of(metric), NO_PUBLISHED, values, settings.seed)
        middle = np.nan if np.isnan(values).all() else float(np.nanmedian(values))
        rows.append(row | {"anatomy": anatomy, "median": middle})
    about = {"cohort": settings.cohort, "profile": settings.profile.value, "data": settings.source}
    return pd.DataFrame(rows, columns=COLUMNS).assign(**about)
