"""The statements of Sun et al. 2024 as pairs of rows, on made scores."""

import numpy as np
import pandas as pd
import pytest

from strokelib.errors import DataError
from strokelib.methods import papl_statements as said
from strokelib.methods import papl_tables
from strokelib.methods.papl import Outcome
from strokelib.methods.papl_statements import STATEMENTS, Statement
from strokelib.methods.scoring import COLUMNS
from strokelib.papl import tables
from strokelib.papl.rows import RUNS
from strokelib.papl.strata import BIG, SMALL
from strokelib.settings import resolve
from strokelib.stats import minimum_detectable_difference

SETTINGS = resolve("demo", "aisd", 0)
NONE = pd.DataFrame(columns=COLUMNS)
VOLUMES = np.array([5.0, 20.0, 70.0, 71.0, 90.0, 200.0])
BASE = np.array([0.2, 0.3, 0.5, 0.6, 0.7, 0.8])
GAIN = np.array([0.01, 0.02, 0.03, 0.05, 0.04, 0.06])


def outcome(row, dice, status="1 seed"):
    metrics = {"dice": dice, "truth_volume_ml": VOLUMES}
    lines = [(row, f"scan-{i}", name, v, "") for name, values in metrics.items() for i, v in enumerate(values)]
    return Outcome(row, None, pd.DataFrame(lines, columns=COLUMNS), status)


def rows(number, of_cohorts):
    outcomes = {cohort: {one.row: one for one in made} for cohort, made in of_cohorts.items()}
    return papl_tables.TableRows(number, SETTINGS, outcomes, {})


def printed(number):
    if number == 2:
        return tables.table2_comparison({"aisd": NONE, "xwhd": NONE}, {"aisd": {}, "xwhd": {}}, SETTINGS)
    return papl_tables.MAKERS[number](NONE, {}, SETTINGS)


def test_every_statement_names_two_rows_of_its_table_once():
    for one in STATEMENTS:
        assert {one.row, one.baseline} <= set(RUNS[one.table])
        assert one.row != one.baseline
    assert len({(one.table, one.row, one.baseline, one.scans) for one in STATEMENTS}) == len(STATEMENTS)


def test_a_difference_is_row_minus_baseline_on_each_cohort_beside_the_printed_one():
    pair = "U-Net (aligned)", "U-Net (unaligned)"
    made = {
        "aisd": [outcome(pair[0], BASE + GAIN), outcome(pair[1], BASE, "undertrained")],
        "xwhd": [outcome(pair[0], BASE), outcome(pair[1], BASE + GAIN)],
    }
    found = said.statement_table({2: rows(2, made)}, {2: printed(2)}, STATEMENTS[:1])
    assert list(found["cohort"]) == ["aisd", "xwhd"]
    np.testing.assert_allclose(found["ours"], [GAIN.mean(), -GAIN.mean()])
    np.testing.assert_allclose(found["published"], [0.4866 - 0.4578, 0.4354 - 0.4240], atol=1e-9)
    assert list(found["verdict"]) == ["above 0", "below 0"]
    assert list(found["status"]) == ["undertrained", "1 seed"]
    assert list(found["n"]) == [6, 6]
    exact = minimum_detectable_difference(GAIN.std(ddof=1), 6).value
    np.testing.assert_allclose(found["detectable"], exact)
    # Six differences of one sign have p = 2 / 2**6, which two tests double.
    np.testing.assert_allclose(found["p_holm"], 4 / 64)


def test_a_stratum_takes_its_scans_alone_and_its_own_printed_numbers():
    chosen = [one for one in STATEMENTS if one.table == 5]
    made = {"aisd": [outcome("PAPL", BASE + GAIN), outcome("U-Net", BASE), outcome("TransU-Net", BASE)]}
    found = said.statement_table({5: rows(5, made)}, {5: printed(5)}, chosen)
    assert list(found["scans"]) == [SMALL, BIG]
    np.testing.assert_allclose(found["ours"], [0.02, 0.05])
    np.testing.assert_allclose(found["published"], [0.5081 - 0.4402, 0.7606 - 0.7726], atol=1e-9)


def test_one_scan_decides_nothing_and_unprinted_numbers_stay_out():
    one = outcome("PAPL", np.where(np.arange(6) == 1, 0.5, np.nan))
    made = {"xwhd": [one, outcome("ADN", BASE)]}
    over_adn = [one for one in STATEMENTS if one.baseline == "ADN"]
    (line,) = said.statement_table({2: rows(2, made)}, {2: printed(2)}, over_adn).itertuples()
    assert (line.n, line.verdict) == (1, tables.NOT_TESTABLE)
    assert np.isnan([line.published, line.ours, line.detectable, line.p_holm]).all()
    assert "| over ADN | xwhd | - | - | 1 | - | - | not testable here (1 seed) |" in said.page(
        said.statement_table({2: rows(2, made)}, {2: printed(2)}, over_adn)
    )


def test_statements_on_tables_that_were_not_run_are_left_out_and_a_missing_row_is_refused():
    made = {4: rows(4, {"aisd": [outcome("Inter", BASE + GAIN), outcome("baseline", BASE)]})}
    wanted = [Statement("group", "words", 4, "Inter", "baseline"), STATEMENTS[0]]
    found = said.statement_table(made, {4: printed(4)}, wanted)
    assert list(found["statement"]) == ["words"]
    assert said.groups_of(found)["group"][0].value == pytest.approx(GAIN.mean())
    with pytest.raises(DataError, match="no RPRS"):
        said.statement_table(made, {4: printed(4)}, [Statement("g", "w", 4, "RPRS", "baseline")])


def test_the_page_says_what_was_printed_and_where_the_interval_lies():
    made = {4: rows(4, {"aisd": [outcome("Inter", BASE + GAIN), outcome("baseline", BASE)]})}
    page = said.page(said.statement_table(made, {4: printed(4)}, [Statement("Group", "words", 4, "Inter", "baseline")]))
    assert "## Group" in page
    line = next(line for line in page.splitlines() if line.startswith("| words"))
    assert line.startswith("| words | aisd | +0.0094 | +0.035 (")
    assert line.endswith("| 0.031 | above 0 (1 seed) |")
