"""Tables of ours alone, for what Sun et al. 2024 leave open: the HU window, omega and mu, what FCM does to neighbours.

Nothing was published beside them: ``published`` is "none" throughout, and :func:`strokelib.comparing.page` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from strokelib import comparing
from strokelib.comparing import NO_PUBLISHED
from strokelib.errors import DataError
from strokelib.papl.tables import METRICS
from strokelib.settings import Settings


def table_sweep(
    scores: pd.DataFrame,
    status: Mapping[str, str],
    settings: Settings,
    chosen: str,
    metrics: Sequence[str] = ("DSC",),
    references: Sequence[str] = (),
) -> pd.DataFrame:
    """One row a choice, compared with the one that the other tables use.

    Args:
        scores: Columns method (a choice, or a reference), case, metric, value, one seed; NaN where undefined. Choices
            come in the order of this table.
        status: Choice -> a word of :data:`strokelib.tables.STATUSES`.
        settings: Of what the scores show (``run.shown``); its seed is that of the resamples.
        chosen: The choice that the others are compared with.
        metrics: Of :data:`strokelib.papl.tables.METRICS`.
        references: Methods without a network; they come last, are compared and not tested.

    Returns:
        Columns of :mod:`strokelib.comparing`.

    Raises:
        DataError: ``chosen`` has no scores, a metric of a row is missing, a scan stands twice, or a row has no status.
        ParameterError: Unknown word for a status.
    """
    rows = [row for row in dict.fromkeys(scores["method"]) if row not in references]
    if chosen not in rows:
        step = "score the choice that the others are compared with"
        raise DataError("scores of a sweep", found=", ".join(rows) or "none", wanted=chosen, next_step=step)
    units = {name: "mm" if METRICS[name][0].endswith("_mm") else "fraction" for name in metrics}
    lines = [(row, name, unit, NO_PUBLISHED) for row in rows for name, unit in units.items()]
    cells = pd.DataFrame(lines, columns=["method", "metric", "unit", "published_cell"])
    return comparing.compared(cells, METRICS, scores, status, settings, proposed=chosen, references=references)


def table_steadiness(
    steady: pd.DataFrame, status: Mapping[str, str], settings: Settings, chosen: str, metric: str = "Dice of neighbours"
) -> pd.DataFrame:
    """How alike the masks of neighbouring slices are, a row a training, compared with one of them.

    Args:
        steady: A row a scan, a column a training or the reference, in [0, 1]; NaN where nothing is marked.
        status: Training -> a word of :data:`strokelib.tables.STATUSES`; a column without one is the reference.
        settings: Of what the masks show (``run.shown``).
        chosen: The training that the others are compared with.
        metric: What the values are, in words.

    Returns:
        Columns of :mod:`strokelib.comparing`.

    Raises:
        DataError: ``chosen`` is no column.
        ParameterError: Unknown word for a status.
    """
    if chosen not in steady:
        step = "compare with one of the trainings"
        raise DataError("masks of neighbours", found=", ".join(steady), wanted=chosen, next_step=step)
    seed, values = settings.seed, {(name, metric): column for name, column in steady.items()}
    rows = [comparing.row_of(*key, "fraction", NO_PUBLISHED, column, seed) for key, column in values.items()]
    comparing.compare(rows, values, chosen, status, seed)
    return comparing.finished(rows, dict.fromkeys(steady, "done") | dict(status), settings)
