"""The tables of Wang et al. 2020: what it printed beside what our networks score, each in a column of its own.

The columns are those of :mod:`strokelib.comparing`. Two slabs of a patient count as two scans, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from strokelib import comparing, manifest
from strokelib.comparing import NO_PUBLISHED, NOT_RUN, finished, row_of, values_of
from strokelib.settings import Settings

PAPER = "pseudo_dwi"
# Metric as printed -> ours, and what brings it to the printed unit (erratum W20: per cent but in Table 6).
METRICS = {
    "Global SSIM": ("ssim", 1.0),
    "Local SSIM": ("local_ssim", 1.0),
    "Global PSNR": ("psnr_db", 1.0),
    "Local PSNR": ("local_psnr_db", 1.0),
    "Precision": ("precision", 100.0),
    "Recall": ("sensitivity", 100.0),
    "Dice": ("dice", 100.0),
    "HD": ("hd_mm", 1.0),
    "ASSD": ("assd_mm", 1.0),
    "RVE": ("relative_volume_error", 1.0),
}
PARAMETERS = "Parameters"
PROPOSED = {1: "w-L2 + l_h1", 2: "F_o,F_l,F_h", 3: "SLNet", 4: "L_WCE + L_HGD", 5: "DWI^{o,l,h}"}
GROUPS, SMALL_BELOW_ML, LARGE_ABOVE_ML = ("lesion <10 mL", "lesion 10-50 mL", "lesion >50 mL"), 10.0, 50.0
HIDDEN = "hidden test set"


def group_of(volume_ml: float) -> str:
    """The one of :data:`GROUPS` that a lesion's volume falls in; 10 and 50 mL fall in the middle one."""
    return GROUPS[int(volume_ml >= SMALL_BELOW_ML) + int(volume_ml > LARGE_ABOVE_ML)]


def table1_synthesis_losses(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 1: seven losses of the generator.

    Source: Table 1, Wang et al. 2020.
    Deviation: intervals, differences and tests are added, here and in the next four tables (erratum W30).

    Args:
        scores: Columns method (a printed row or a reference), case, metric, value, one seed; NaN where undefined.
        status: Row -> a word of :data:`strokelib.tables.STATUSES`, for each row that has scores.
        settings: Of what the scores show (``run.shown``); its seed is that of the resamples.
        references: Methods without a network; they come last, are compared and not tested.

    Returns:
        As the head of this module says.

    Raises:
        DataError: Scores of another row, a metric of a row is missing, a scan stands twice, or a row has no status.
        ParameterError: Unknown word for a status.
        ManifestError: The proposed row is not among the printed ones.
    """
    return _compared(1, scores, status, settings, references)


def table2_synthesis_inputs(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 2: four inputs of the generator, and the real DWI, whose cells of image quality are blank.

    Source: Table 2, Wang et al. 2020.
    Deviation: as :func:`table1_synthesis_losses`; so are arguments, result and errors.
    """
    return _compared(2, scores, status, settings, references)


def table3_segmenters(
    scores: pd.DataFrame,
    status: Mapping[str, str],
    settings: Settings,
    parameters_m: Mapping[str, float],
    references: Sequence[str] = (),
) -> pd.DataFrame:
    """Table 3: seven networks with their parameters in millions.

    Source: Table 3, Wang et al. 2020.
    Deviation: as :func:`table1_synthesis_losses`; so are arguments, result and errors.

    Args:
        scores: See there.
        status: See there.
        settings: See there.
        parameters_m: Row -> counted at the published size, e.g. 33.84; a row that is left out stays NaN.
        references: See there.
    """
    return _compared(3, scores, status, settings, references, parameters_m)


def table4_segmentation_losses(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 4: six losses of SLNet.

    Source: Table 4, Wang et al. 2020.
    Deviation: as :func:`table1_synthesis_losses`; so are arguments, result and errors.
    """
    return _compared(4, scores, status, settings, references)


def table5_segmentation_inputs(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 5: eight inputs of SLNet.

    Source: Table 5, Wang et al. 2020.
    Deviation: as :func:`table1_synthesis_losses`; so are arguments, result and errors.
    """
    return _compared(5, scores, status, settings, references)


def table6_leaderboard(scores: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Table 6: the five best of ISLES 2018 as printed, and below them ours on scans that the challenge never saw.

    Source: Table 6, Wang et al. 2020.
    Deviation: the challenge's 62 test scans have no public reference; ours are of the cohort that ``settings`` names,
        in rows of their own, and stand in no competition with those above.

    Args:
        scores: As :func:`table1_synthesis_losses` takes them; each method gets rows of its own.
        settings: See there.

    Returns:
        The columns of the other tables, in fractions as printed; ``status`` is ``hidden test set`` throughout.
    """
    cells = _reported(6).drop_duplicates(["method", "metric"])
    rows = [row_of(c.method, c.metric, c.unit, c.published_cell, (), settings.seed) for c in cells.itertuples()]
    for method in dict.fromkeys(scores["method"]):
        name = f"{method}, {settings.cohort} ({settings.source})"
        for cell in cells.drop_duplicates("metric").itertuples():
            values = values_of(scores, method, METRICS[cell.metric][0])
            rows.append(row_of(name, cell.metric, cell.unit, NO_PUBLISHED, values, settings.seed))
    return finished(rows, dict.fromkeys((row["row"] for row in rows), HIDDEN), settings)


def intext(scores: pd.DataFrame, status: Mapping[str, str], settings: Settings) -> pd.DataFrame:
    """Dice of the full model by volume of the lesion, which the text gives.

    Source: Sec. 4.2.5, Wang et al. 2020.
    Deviation: none; the printed groups and their sizes do not give the mean of Table 5 (erratum W21).

    Args:
        scores: As :func:`table1_synthesis_losses` takes them, with the metric ``truth_volume_ml``.
        status: See there.
        settings: See there.

    Returns:
        The columns of the tables, and ``lesion_filter`` after ``row``.
    """
    reported, method = _reported("intext"), PROPOSED[5]
    values, volumes = (values_of(scores, method, name) for name in ("dice", "truth_volume_ml"))
    groups = volumes.reindex(values.index).map(group_of)
    rows = []
    for cell in reported.itertuples():
        part = 100 * values[groups == cell.lesion_filter]
        row = row_of(cell.method, cell.metric, cell.unit, cell.published_cell, part, settings.seed)
        if cell.metric == "n":
            row |= dict.fromkeys(("sd", "ci95_low", "ci95_high"), np.nan)
            row |= {"ours": float(len(part)) if len(values) else np.nan, "n": len(part), "n_undefined": 0}
        rows.append(row)
    table = finished(rows, {method: NOT_RUN, **status} if values.empty else status, settings)
    table.insert(1, "lesion_filter", reported["lesion_filter"].to_numpy())
    return table


def page(table: pd.DataFrame, title: str) -> str:
    """A table as Markdown for readers: rows by metrics, each cell ``published | ours [95 % CI]``.

    Args:
        table: Of this module; with ``lesion_filter`` each group is a row.
        title: Its heading.
    """
    return comparing.page(table, title, published_on="ISLES 2018", decimals={"n": 0}, counts=[PARAMETERS])


def _reported(number: int | str) -> pd.DataFrame:
    reported = manifest.published(PAPER, number)
    return reported.assign(unit=reported["unit"].replace("", "1"))


def _compared(
    number: int,
    scores: pd.DataFrame,
    status: Mapping[str, str],
    settings: Settings,
    references: Sequence[str],
    parameters_m: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    reported = _reported(number)
    cells = reported[reported["statistic"].isin(["mean", "count"])]
    how = {"proposed": PROPOSED[number], "references": references, "counts": {PARAMETERS: parameters_m or {}}}
    return comparing.compared(cells, METRICS, scores, status, settings, **how)
