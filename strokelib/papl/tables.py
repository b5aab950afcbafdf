"""The tables of Sun et al. 2024: what it printed beside what our networks score, each in a column of its own.

Columns of Tables II to VIII are those of :mod:`strokelib.comparing`; II and III have ``dataset`` (as printed, AISD or
XWHD) after ``row``, II also ``aligned`` (Y or N), V ``lesion_filter``. Which training a row shows stands in
:data:`strokelib.papl.rows.RUNS`; scores are of the scanner's frame (erratum P29). Intervals, differences to the
proposed row and tests are ours; tests are adjusted by Holm over the rows of a metric, within a data set or stratum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from strokelib import comparing, manifest
from strokelib.comparing import NO_PUBLISHED
from strokelib.errors import DataError, ManifestError
from strokelib.papl import strata
from strokelib.papl.pages import page as page
from strokelib.papl.rows import BACKBONES, COHORTS, PROPOSED, RUNS, WITH, WITHOUT
from strokelib.settings import Settings
from strokelib.stats import holm

PAPER = "papl"
PENALISED, PENALISED_SCORE = "ASSD, missed = diagonal", "assd_penalised_mm"
METRICS = {
    "DSC": ("dice", 1.0),
    "JC": ("jaccard", 1.0),
    "ASSD": ("assd_mm", 1.0),
    PENALISED: (PENALISED_SCORE, 1.0),
    "PRE": ("precision", 1.0),
    "SEN": ("sensitivity", 1.0),
}
UNITS = {"not stated (mm presumed)": "mm"}
NOT_TESTABLE = "not testable here"


def table1_cohort(facts: pd.DataFrame, cohort: str) -> pd.DataFrame:
    """Table I: the published cohort and the embedded one that stands in for it, in columns of their own.

    Source: Table I, Sun et al. 2024.
    Deviation: none; the paper's TSS is read as time from onset to scan in hours.

    Args:
        facts: One row a patient of the embedded cohort: ``sex``, ``age``, ``onset_hours``, ``nihss``, ``side``.
        cohort: Its key.

    Returns:
        Columns variable, published, ours, n (patients of ours in whom it is known), cohort.
    """
    reported = manifest.published("papl", 1)
    cells = reported.drop_duplicates("metric").set_index("metric")["published_cell"]

    def quartiles(values: pd.Series) -> str:
        q1, median, q3 = np.percentile(values, (25, 50, 75))
        return f"{median:.4g} ({q1:.4g}, {q3:.4g})"

    age, hours, nihss = (facts[name].dropna() for name in ("age", "onset_hours", "nihss"))
    sex, side = facts["sex"].dropna(), facts["side"].dropna()
    rows = [
        ("Patients", str(len(facts)), len(facts)),
        ("Male", str(int((sex == "M").sum())), len(sex)),
        ("Female", str(int((sex == "F").sum())), len(sex)),
        ("Age", quartiles(age), len(age)),
        ("TSS", quartiles(hours), len(hours)),
        ("NIHSS", f"{nihss.mean():.2f} ± {nihss.std(ddof=1):.2f}", len(nihss)),
        ("Lesion location left", str(int((side == "left").sum())), len(side)),
        ("Lesion location right", str(int((side == "right").sum())), len(side)),
    ]
    table = pd.DataFrame(rows, columns=["variable", "ours", "n"])
    table.insert(1, "published", table["variable"].map(cells).fillna("not printed").astype(str))
    return table.assign(cohort=f"{cohort} (embedded)")


def table2_comparison(
    scores: Mapping[str, pd.DataFrame],
    status: Mapping[str, Mapping[str, str]],
    settings: Settings,
    references: Sequence[str] = (),
) -> pd.DataFrame:
    """Table II: twelve networks, four of them on raw and on aligned slices, and PAPL, on both data sets.

    Source: Table II, Sun et al. 2024.
    Deviation: SEAN and ADN were quoted there, with DSC on AISD alone; ours were trained and have all five metrics on
        both cohorts (erratum P30). The unit of ASSD is not printed and read as mm. A scan without a predicted or a true
        lesion has no ASSD and is counted; where the scores hold ``assd_penalised_mm``, a further metric takes the
        image's diagonal for it (erratum P39). So it is in Tables III and V.

    Args:
        scores: Cohort (aisd, xwhd) -> columns method (a row, or a reference), case, metric, value, one seed; NaN where
            undefined. Metrics ``dice``, ``jaccard``, ``assd_mm``, ``precision``, ``sensitivity`` and, for all rows of
            a cohort or for none, ``assd_penalised_mm``.
        status: Cohort -> row -> a word of :data:`strokelib.tables.STATUSES`, for each row that has scores.
        settings: Of the run; each cohort's are :meth:`strokelib.settings.Settings.beside`. Its seed is that of the
            resamples.
        references: Methods without a network; they come last in each data set, are compared and not tested.

    Returns:
        As the head of this module says; what was not run is NaN.

    Raises:
        DataError: A cohort has no table of scores, scores are of another row, a metric of a row is missing, a scan
            stands twice, or a row has no status.
        ParameterError: Unknown word for a status.
        ManifestError: The ledger has other rows than :data:`strokelib.papl.rows.RUNS`.
    """
    parts = []
    for dataset, cohort in COHORTS.items():
        given = (_of(cohort, scores, "scores"), _of(cohort, status, "status"), settings.beside(cohort))
        table = _compared(_printed(2, dataset), *given, references, PROPOSED[2])
        table.insert(1, "aligned", table["row"].map({row: "Y" if run.aligned else "N" for row, run in RUNS[2].items()}))
        parts.append(_with(table.fillna({"aligned": "na"}), "dataset", dataset))
    return pd.concat(parts, ignore_index=True)


def table3_backbones(
    scores: Mapping[str, pd.DataFrame],
    status: Mapping[str, Mapping[str, str]],
    settings: Settings,
    references: Sequence[str] = (),
) -> pd.DataFrame:
    """Table III: three backbones with and without PAPL on both data sets.

    Source: Table III, Sun et al. 2024.
    Deviation: as :func:`table2_comparison`; so are arguments, result and errors. A backbone is compared with itself
        with PAPL, a reference with the first backbone with PAPL; tests are adjusted over the three backbones.
    """
    parts = []
    for dataset, cohort in COHORTS.items():
        given = (_of(cohort, scores, "scores"), _of(cohort, status, "status"), settings.beside(cohort))
        parts.append(_with(_of_backbones(_printed(3, dataset), *given, references), "dataset", dataset))
    return pd.concat(parts, ignore_index=True)


def table4_components(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table IV: nine choices of inter-sample loss, intra-sample loss, FCM and RPRS.

    Source: Table IV, Sun et al. 2024.
    Deviation: which parts a row has is inferred from the order of the rows (erratum P34).

    Args:
        scores: Columns method (a row, or a reference), case, metric, value, of the cohort aisd and one seed.
        status: Row -> a word of :data:`strokelib.tables.STATUSES`, for each row that has scores.
        settings: Of what the scores show (``run.shown``); its seed is that of the resamples.
        references: As :func:`table2_comparison` takes them.

    Returns:
        As the head of this module says; what was not run is NaN.

    Raises:
        DataError: Scores of another row, a metric of a row is missing, a scan stands twice, or a row has no status.
        ParameterError: Unknown word for a status.
        ManifestError: The ledger has other rows than :data:`strokelib.papl.rows.RUNS`.
    """
    return _compared(_printed(4), scores, status, settings, references, PROPOSED[4])


def table5_volume_strata(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table V: five networks on infarcts up to 70 mL, on larger ones, and on all.

    Source: Table V, Sun et al. 2024.
    Deviation: the average is the mean over all scans; the printed ones are not quite that of their strata (errata P32,
        P33, :func:`strokelib.papl.strata.printed_averages`).

    Args:
        scores: As :func:`table4_components` takes them, with the metric ``truth_volume_ml``, by which scans are split.
        status: See there.
        settings: See there.
        references: See there.

    Returns:
        As the head of this module says. Where no scan falls in a stratum, ``n`` is 0 and the status of what was run
        ``not testable here``.

    Raises:
        DataError: As :func:`table4_components`, a scan has no volume, or two methods differ in it.
        ParameterError: See there.
        ManifestError: See there.
    """
    printed, ran, parts = _printed(5), set(scores["method"]), []
    for stratum in strata.STRATA:
        part, cells = strata.scans_of(scores, stratum), printed[printed["lesion_filter"] == stratum]
        cells = _penalised(cells, scores)
        table = _compared(cells, part, status, settings, references, PROPOSED[5])
        if part.empty:
            table["status"] = table["status"].mask(table["row"].isin(ran), NOT_TESTABLE)
        parts.append(_with(table, "lesion_filter", stratum))
    return pd.concat(parts, ignore_index=True)


def table6_contrastive_tasks(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table VI: the encoder from scratch and after three contrastive tasks, without FCM and RPRS.

    Source: Table VI, Sun et al. 2024.
    Deviation: as :func:`table4_components`; so are arguments, result and errors. PCL and GCL see no infarct mask, the
        proposed task does (erratum P35).
    """
    return _compared(_printed(6), scores, status, settings, references, PROPOSED[6])


def table7_lambda_sweep(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table VII: five pairs of lambda1 and lambda2 in Eq. 14.

    Source: Table VII, Sun et al. 2024.
    Deviation: arguments, result and errors are those of :func:`table4_components`.
    """
    return _compared(_printed(7), scores, status, settings, references, PROPOSED[7])


def table8_beta_sweep(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table VIII: eight choices of beta1, beta2 and the initial beta3 in Eq. 24.

    Source: Table VIII, Sun et al. 2024.
    Deviation: arguments, result and errors are those of :func:`table4_components`.
    """
    return _compared(_printed(8), scores, status, settings, references, PROPOSED[8])


def _printed(number: int, dataset: str = "AISD") -> pd.DataFrame:
    """The printed cells of one data set under the names of :data:`strokelib.papl.rows.RUNS`."""
    cells = manifest.published(PAPER, number)
    cells = cells[cells["dataset"] == dataset]
    names = {(run.backbone, "Y" if run.aligned else "N"): row for row, run in RUNS[2].items() if row != PROPOSED[2]}
    if number == 2:
        keys = zip(cells["method"], cells["aligned"], strict=True)
        cells = cells.assign(method=[names.get(key, key[0]) for key in keys])
    if strange := sorted(set(cells["method"]) ^ set(RUNS[number])):
        step = "restore data_manifests/reported from the repository"
        wanted = f"the {len(RUNS[number])} printed rows"
        raise ManifestError(f"Table {number} of papl on {dataset}", found=strange, wanted=wanted, next_step=step)
    return cells.assign(unit=cells["unit"].replace(UNITS))


def _penalised(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The cells with a line for the penalised distance after each distance, where it was scored."""
    if PENALISED_SCORE not in set(scores["metric"]) or PENALISED in set(cells["metric"]):
        return cells
    added = cells[cells["metric"] == "ASSD"].assign(metric=PENALISED, published_cell=NO_PUBLISHED)
    return pd.concat([cells, added]).sort_index(kind="stable")


def _compared(
    cells: pd.DataFrame,
    scores: pd.DataFrame,
    status: Mapping[str, str],
    settings: Settings,
    references: Sequence[str],
    proposed: str,
) -> pd.DataFrame:
    cells = _penalised(cells, scores)
    return comparing.compared(cells, METRICS, scores, status, settings, proposed=proposed, references=references)


def _of_backbones(
    cells: pd.DataFrame,
    scores: pd.DataFrame,
    status: Mapping[str, str],
    settings: Settings,
    references: Sequence[str],
) -> pd.DataFrame:
    """Each backbone against itself with PAPL; a family of one test is not adjusted, so that all are adjusted here."""
    if strange := sorted(set(scores["method"]) - {*cells["method"], *references}):
        wanted = f"{', '.join(RUNS[3])}, or a name among the references"
        raise DataError("scores of a table", found=strange, wanted=wanted, next_step="rename these rows")
    cells, parts = _penalised(cells, scores), []
    for name in BACKBONES:
        pair, last = [WITHOUT.format(name), WITH.format(name)], () if parts else references
        own = cells[cells["method"].isin(pair)], scores[scores["method"].isin([*pair, *last])]
        parts.append(_compared(*own, status, settings, last, pair[1]))
    table = pd.concat(parts)
    table = table.iloc[np.argsort(table["row"].isin(references), kind="stable")].reset_index(drop=True)
    for _, of_metric in table[table["p_holm"].notna()].groupby("metric"):
        table.loc[of_metric.index, "p_holm"] = holm(of_metric["p_holm"]).adjusted
    return table


def _of(cohort: str, given: Mapping, thing: str):
    if cohort not in given:
        step = f"give an empty table for {cohort} where nothing was run on it"
        raise DataError(f"{thing} of a table", found=f"none of {cohort}", wanted="both cohorts", next_step=step)
    return given[cohort]


def _with(table: pd.DataFrame, column: str, value: str) -> pd.DataFrame:
    table.insert(1, column, value)
    return table
