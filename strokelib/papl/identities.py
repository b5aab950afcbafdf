"""Cells of Tables II to VIII that show one training: where they agree in print, and that they agree in ours."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from strokelib.errors import DataError
from strokelib.papl import strata
from strokelib.papl.rows import COHORTS, identities

KEYS = ["training", "cohort", "metric"]
OURS = ("ours", "sd", "n", "n_undefined", "ci95_low", "ci95_high", "status")


def shared_cells(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """The lines of several tables that show a training which another one of them shows too, in one cohort and metric.

    Args:
        tables: Number -> table from :mod:`strokelib.papl.tables`, two or more of II to VIII.

    Returns:
        Columns training (number of the identity), cohort, metric, table, row, and those that all tables have; lines of
        one identity follow each other.
    """
    number_of = {cell: i for i, cells in enumerate(identities().values()) for cell in cells}
    parts = []
    for number, table in tables.items():
        if "lesion_filter" in table:
            table = table[table["lesion_filter"] == strata.AVERAGE]
        training = [number_of.get((number, row), -1) for row in table["row"]]
        parts.append(table.assign(training=training, table=number))
    lines = pd.concat(parts, join="inner")
    lines = lines[lines["training"] >= 0].sort_values(KEYS, kind="stable", ignore_index=True)
    return lines[lines.duplicated(KEYS, keep=False)].reset_index(drop=True)


def check_identities(tables: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Hold our tables to what has to be equal in them, to the last digit.

    Args:
        tables: As :func:`shared_cells` takes them, all of one run.

    Returns:
        One line an identity, cohort and metric that was run: columns training, cohort, metric, cells (pairs of table
        and row), ours.

    Raises:
        DataError: Two cells of one training differ in their mean, spread, interval, numbers of scans or status.
    """
    lines = shared_cells(tables)
    found = []
    for key, part in lines.groupby(KEYS, sort=False):
        for name in OURS:
            if part[name].nunique(dropna=False) > 1:
                said = ", ".join(f"{one.row} of Table {one.table}: {getattr(one, name)}" for one in part.itertuples())
                step = "show one training in all of them, scored on the same scans"
                raise DataError(f"{name} of {key[2]} on {key[1]}", found=said, wanted="one value", next_step=step)
        if part["ours"].notna().all():
            cells = tuple(zip(part["table"], part["row"], strict=True))
            found.append((*key, cells, part["ours"].iloc[0]))
    return pd.DataFrame(found, columns=[*KEYS, "cells", "ours"])


def printed_otherwise(tables: Mapping[int, pd.DataFrame]) -> dict[str, set[tuple[int, str]]]:
    """Metric -> (table, row) pairs on AISD whose printed number is not the one that most cells of the identity print.

    Args:
        tables: As :func:`shared_cells` takes them; of two cells that differ, the later table is named.
    """
    lines = shared_cells(tables)
    found: dict[str, set[tuple[int, str]]] = {}
    lines = lines[(lines["cohort"] == COHORTS["AISD"]) & ~lines["published"].isin(["none", "-"])]
    for (_, _, metric), part in lines.groupby(KEYS, sort=False):
        usual = part["published"].value_counts(sort=True)
        usual = next(value for value in part["published"] if usual[value] == usual.max())
        odd = part[part["published"] != usual]
        if len(odd):
            found.setdefault(metric, set()).update(zip(odd["table"], odd["row"], strict=True))
    return found
