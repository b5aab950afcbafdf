import numpy as np
import pandas as pd
import pytest

from strokelib import comparing, settings
from strokelib.errors import ManifestError

RUN = settings.resolve("demo", "aisd", 3)
CELLS = pd.DataFrame(
    [
        ("old", "Size", "million", "4"),
        ("old", "Dice", "%", ""),
        ("new", "Size", "million", "5"),
        ("new", "Dice", "%", "61"),
    ],
    columns=["method", "metric", "unit", "published_cell"],
)
METRICS = {"Dice": ("dice", 100.0)}
SCORES = pd.DataFrame([("new", f"s{i}", "dice", v) for i, v in enumerate((0.25, 0.75))])
SCORES.columns = ["method", "case", "metric", "value"]


def _table(scores=SCORES, **more):
    how = {"proposed": "new", "counts": {"Size": {"new": 7.0}}}
    return comparing.compared(CELLS, METRICS, scores, {"new": "1 seed"}, RUN, **(how | more))


def test_a_count_is_taken_as_given_and_a_blank_cell_asks_for_no_score():
    table = _table().set_index(["row", "metric"])
    assert list(table.loc[("new", "Size"), ["published", "ours", "status"]]) == ["5", 7.0, "done"]
    assert list(table.loc[("new", "Dice"), ["published", "ours", "n"]]) == ["61", 50.0, 2]
    assert list(table.loc[("old", "Dice"), ["published", "n", "status"]]) == ["blank", 0, "not yet"]
    assert table.loc[("old", "Size"), "status"] == "not yet"
    assert np.isnan(table.loc[("old", "Size"), "ours"])


def test_a_reference_gets_the_metrics_that_are_means_and_no_published_number():
    table = _table(pd.concat([SCORES, SCORES.assign(method="nothing")]), references=["nothing"])
    added = table[table["row"] == "nothing"]
    assert list(zip(added["metric"], added["published"], added["status"], strict=True)) == [("Dice", "none", "done")]
    assert added["difference"].iloc[0] == 0.0


def test_a_reference_that_was_not_scored_is_not_called_done():
    table = _table(references=["nothing"])
    assert table.loc[table["row"] == "nothing", "status"].tolist() == ["not yet"]


def test_a_proposed_row_that_was_not_printed_is_refused():
    with pytest.raises(ManifestError, match="the row newest"):
        _table(proposed="newest")


def test_a_page_shows_the_places_asked_for_and_says_what_was_published_on():
    lines = comparing.page(_table(), "T", published_on="AISD", decimals={"Size": 0}, counts=["Size"]).splitlines()
    assert lines[2] == "| row | Size (million) | Dice (%) | scans | status |"
    assert lines[4] == "| `old` | 4 \\| - | - \\| - | 0 | not yet |"
    assert lines[5].startswith("| `new` | 5 \\| 7 | 61 \\| 50.00 [")
    assert lines[5].endswith(" | 2 | 1 seed |")
    assert "Published numbers are of AISD" in lines[-1]


def test_a_page_of_ours_alone_splits_rows_by_anatomy_and_needs_no_status():
    table = _table().drop(columns=["status", "p_holm"]).assign(anatomy="B")
    lines = comparing.page(table, "T", counts=["Size"]).splitlines()
    assert lines[2] == "| row | Size (million) | Dice (%) | scans |"
    assert lines[5].startswith("| `new`, B | 7.00 | 50.00 [")
    assert "Published" not in lines[-1]
