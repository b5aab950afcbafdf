"""The tables of Seia et al. 2023 with ours beside them, and one of ours for what the paper says in words.

The columns are those of :mod:`strokelib.ssl_nnunet.estimates`. Scores are those of the majority vote's masks. The
baseline that rows are compared with is FS-STKi, the same training from scratch; the row that the paper proposes is
ALL-STKi-SA. Volumes, distances and Dice of the second criterion are of masks scored anew against
:func:`strokelib.metrics.truth_above`, without the cases that are empty then (erratum S25).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import pandas as pd

from strokelib import manifest, stats
from strokelib.comparing import NO_PUBLISHED, values_of
from strokelib.errors import DataError, ManifestError
from strokelib.settings import Settings
from strokelib.ssl_nnunet.estimates import (
    ABOVE_3ML,
    AGREEMENT,
    ALL_LESIONS,
    CONSISTENCY,
    IQR,
    LINE,
    MEAN,
    MEDIAN,
    SD,
    compared,
)
from strokelib.ssl_nnunet.estimates import page as page

PAPER = "ssl_nnunet"
BASELINE, ALL_LABELS, PROPOSED = "FS-STKi", "FS-STKp", "ALL-STKi-SA"
# Share of the fine-tuning during which the encoder is frozen.
FROZEN = ("0 %", "33 %", "66 %", "100 %")
HIDDEN = "hidden test set"


def table1_validation(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 1: eight trainings on the validation part, all lesions.

    Source: Table 1, Seia et al. 2023.
    Deviation: intervals, differences to FS-STKi, tests adjusted over the rows of a metric (errata S21, S33), the number
        of scans without a distance (S26) and the ICC for agreement are added.

    Args:
        scores: Columns method (a printed row or a reference), case, metric, value; metrics ``dice``, ``hd95_mm``,
            ``absolute_volume_difference_ml``, ``pred_volume_ml`` and ``truth_volume_ml``; NaN where undefined.
        status: Row -> a word of :data:`strokelib.tables.STATUSES`, for each row that has scores.
        settings: Of what the scores show (``run.shown``); its seed is that of the resamples.
        references: Methods without a network; they come last, are compared and not tested.

    Returns:
        As the head of this module says; what was not run is NaN.

    Raises:
        DataError: Scores of another row, a metric of a row is missing, a scan stands twice, or a row has no status.
        ParameterError: Unknown word for a status.
        ManifestError: A printed number does not stand in its printed cell.
    """
    return _table(1, {ALL_LESIONS: scores}, status, settings, references)


def table2_validation_above_3ml(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table 2: the eight trainings of Table 1, lesions above 3 mL alone.

    Source: Table 2, Seia et al. 2023.
    Deviation: as :func:`table1_validation`; so are arguments, result and errors.
    """
    return _table(2, {ABOVE_3ML: scores}, status, settings, references)


def table3_test(
    scores: pd.DataFrame,
    above_3ml: pd.DataFrame,
    status: Mapping[str, str],
    settings: Settings,
    references: Sequence[str] = (),
    best: str = PROPOSED,
) -> pd.DataFrame:
    """Table 3: both trainings from scratch and the best pre-trained one on the test part, under both criteria.

    Source: Table 3, Seia et al. 2023.
    Deviation: as :func:`table1_validation`; tests are adjusted over both criteria. Where our validation chose another
        row than the paper's, it is added beside it.

    Args:
        scores: As :func:`table1_validation` takes them, all lesions.
        above_3ml: The same, lesions above 3 mL.
        status: See there.
        settings: See there.
        references: See there.
        best: The row that our validation chose; shown and tested, without a published number where none was printed.

    Raises:
        DataError: See :func:`table1_validation`.
        ParameterError: See there.
        ManifestError: See there.
    """
    cells = _printed(3)
    if best not in set(cells["row"]):
        template = cells[cells["row"] == PROPOSED].assign(row=best, published=NO_PUBLISHED)
        cells = pd.concat([cells, template]).sort_values("lesion_filter", kind="stable")
    both = {ALL_LESIONS: scores, ABOVE_3ML: above_3ml}
    return compared(cells, both, status, settings, baseline=BASELINE, references=references)


def tableB4_two_channels(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table B.4: five trainings on NCCT and difference image, validation part, all lesions.

    Source: Table B.4, Seia et al. 2023.
    Deviation: as :func:`table1_validation`; so are arguments, result and errors. The baseline is FS-STKi with two
        channels. The units, which are not printed, are those of Table 1 (erratum S23).
    """
    return _table("B4", {ALL_LESIONS: scores}, status, settings, references)


def tableB5_two_channels_above_3ml(
    scores: pd.DataFrame, status: Mapping[str, str], settings: Settings, references: Sequence[str] = ()
) -> pd.DataFrame:
    """Table B.5: the five trainings of Table B.4, lesions above 3 mL alone.

    Source: Table B.5, Seia et al. 2023.
    Deviation: as :func:`tableB4_two_channels`; so are arguments, result and errors.
    """
    return _table("B5", {ABOVE_3ML: scores}, status, settings, references)


def intext(scores: pd.DataFrame, status: Mapping[str, str], settings: Settings) -> pd.DataFrame:
    """Mean and standard deviation of the Dice on the validation part, and the scores of the APIS challenge.

    Source: Sec. 4.1 and App. A, Seia et al. 2023.
    Deviation: the challenge's test part is not public: its rows stay without a number of ours, their status is
        ``hidden test set``. That the winner's distance is the worse one is as printed (erratum S30).

    Args:
        scores: As :func:`table1_validation` takes them; rows that the text does not name are left out.
        status: See there.
        settings: See there.

    Returns:
        As the head of this module says, with ``dataset`` after ``row``.
    """
    cells = _printed("intext", ["dataset"])
    hidden = dict.fromkeys(cells.loc[cells["dataset"] == "APIS challenge", "row"], HIDDEN)
    kept = scores[scores["method"].isin(set(cells["row"]) - set(hidden))]
    known = {row: word for row, word in status.items() if row in set(cells["row"])}
    table = compared(cells[list(LINE)], {ALL_LESIONS: kept}, known | hidden, settings, baseline=BASELINE)
    table.insert(1, "dataset", cells["dataset"].to_numpy())
    return table


def table_freezing(scores: pd.DataFrame, status: Mapping[str, str], settings: Settings) -> pd.DataFrame:
    """What freezing the encoder for a part of the fine-tuning changes; the paper says that it is worse, in words alone.

    Source: Sec. 3.5.1, Seia et al. 2023.
    Deviation: none.

    Args:
        scores: As :func:`table1_validation` takes them; the methods are of :data:`FROZEN`, which come in that order.
        status: See there.
        settings: See there.

    Returns:
        As the head of this module says; the baseline is ``0 %``.

    Raises:
        DataError: See :func:`table1_validation`.
        ParameterError: See there.
    """
    units = {"DSC": "fraction", "HD95": "mm", "AVD": "mL"}
    lines = [
        (row, ALL_LESIONS, m, s, u, NO_PUBLISHED) for row in FROZEN for m, u in units.items() for s in (MEAN, MEDIAN)
    ]
    cells = pd.DataFrame(lines, columns=LINE)
    return compared(cells, {ALL_LESIONS: scores}, status, settings, baseline=FROZEN[0])


def paired_tests(
    scores: Mapping[str, pd.DataFrame], methods: Sequence[str] = (BASELINE, ALL_LABELS, PROPOSED), metric: str = "dice"
) -> pd.DataFrame:
    """Wilcoxon signed-rank tests of every two methods on the same scans, adjusted over all that are returned.

    Args:
        scores: Criterion (of :data:`strokelib.ssl_nnunet.estimates.CRITERIA`) -> columns method, case, metric, value.
        methods: Two or more with scores.
        metric: As in ``scores``.

    Returns:
        Columns ``lesion_filter``, ``first``, ``second``, ``n`` scans, ``difference`` (mean of second - first), ``p``
        (exact for up to 50 scans) and ``p_holm``; neighbours in ``methods`` first.

    Raises:
        DataError: A method has no scores, or no scan in common with another one.
    """
    pairs = sorted(combinations(range(len(methods)), 2), key=lambda pair: (pair[1] - pair[0], pair))
    rows = []
    for criterion, part in scores.items():
        for first, second in ((methods[i], methods[j]) for i, j in pairs):
            values = [values_of(part, name, metric) for name in (first, second)]
            both = pd.concat(values, axis=1, join="inner").dropna().to_numpy()
            if not len(both):
                found, step = f"no scan with {metric} of {first} and {second}", "score both on the same scans"
                raise DataError("paired tests", found=found, wanted="one or more", next_step=step)
            p = stats.wilcoxon_signed_rank(*both.T).p
            rows.append((criterion, first, second, len(both), float((both[:, 1] - both[:, 0]).mean()), p))
    table = pd.DataFrame(rows, columns=["lesion_filter", "first", "second", "n", "difference", "p"])
    return table.assign(p_holm=stats.holm(table["p"]).adjusted)


def _printed(number: int | str, more: Iterable[str] = ()) -> pd.DataFrame:
    """The printed cells as lines; the ICC for agreement, which was not printed, follows that for consistency."""
    found = manifest.published(PAPER, number).rename(columns={"method": "row", "lesion_filter": "printed_filter"})
    lines = []
    for cell in found.to_dict("records"):
        small = cell["printed_filter"].startswith("lesions >3 mL")
        cell |= {"lesion_filter": ABOVE_3ML if small else ALL_LESIONS, "unit": cell["unit"] or "1"}
        lines.append(cell | {"published": _as_printed(cell)})
        if cell["statistic"] == CONSISTENCY:
            lines.append(cell | {"statistic": AGREEMENT, "published": NO_PUBLISHED})
    return pd.DataFrame(lines)[[*LINE, *more]]


def _as_printed(cell: Mapping) -> str:
    """The number of a cell such as ``0.135 (0.373)`` or ``0.20 ± 0.25``, with the places it was printed with."""
    numbers = re.findall(r"\d+(?:\.\d+)?", cell["published_cell"])
    place = int(cell["statistic"] in (IQR, SD))
    if len(numbers) <= place or float(numbers[place]) != cell["value"]:
        step = "restore data_manifests/reported from the repository"
        found, wanted = f"{cell['published_cell']!r}", f"the {cell['statistic']} {cell['value']} of {cell['row']}"
        raise ManifestError("published cell", found=found, wanted=wanted, next_step=step)
    return numbers[place]


def _table(
    number: int | str,
    scores: Mapping[str, pd.DataFrame],
    status: Mapping[str, str],
    settings: Settings,
    references: Sequence[str],
) -> pd.DataFrame:
    return compared(_printed(number), scores, status, settings, baseline=BASELINE, references=references)
