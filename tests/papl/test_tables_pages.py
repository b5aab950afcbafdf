"""Tables II to VIII as Markdown."""

import gc
from functools import partial

import numpy as np
import pandas as pd
import pytest

from strokelib import comparing, settings, stats
from strokelib.errors import DataError
from strokelib.papl import tables
from strokelib.papl.rows import RUNS
from strokelib.papl.sweeps import table_sweep

RUN = settings.resolve("demo", "aisd", 3)
NONE = pd.DataFrame({"method": [], "case": [], "metric": [], "value": []})
NAMES = ("dice", "jaccard", "assd_mm", "precision", "sensitivity")
MANY = np.linspace(0.2, 0.8, 12)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals of 499 resamples: which scans they are of is what is tested here."""
    for name in ("bootstrap_ci", "paired_bootstrap_ci"):
        monkeypatch.setattr(comparing, name, partial(getattr(stats, name), n_resamples=499))
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # statsmodels collects garbage at every adjustment


def _scores(rows, volumes):
    made = [(m, f"s{i}", name, v) for m, vs in rows.items() for name in NAMES for i, v in enumerate(vs)]
    made += [(m, f"s{i}", "truth_volume_ml", v) for m in rows for i, v in enumerate(volumes)]
    return pd.DataFrame(made, columns=NONE.columns)


def _row(lines, start):
    (found,) = [line for line in lines if line.startswith(f"| `{start}` |")]
    return found


def _columns(lines):
    return {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}


def test_table_2_has_a_block_a_data_set_with_a_difference_and_a_star():
    rows = {"PAPL": MANY, "X-Net": MANY - np.linspace(0.01, 0.12, 12), "whole brain": MANY / 2}
    scores = _scores(rows, range(12))
    status = dict.fromkeys(rows, "1 seed")
    table = tables.table2_comparison({"aisd": scores, "xwhd": NONE}, {"aisd": status, "xwhd": {}}, RUN, ["whole brain"])
    lines = tables.page(table, 2).splitlines()
    assert lines[0] == "# Table II"
    first, second = lines.index("## AISD; ours on aisd (embedded)"), lines.index("## XWHD; ours on xwhd (embedded)")
    assert lines[first + 2] == lines[second + 2] == "| row | aligned | DSC | JC | DSC - proposed | scans | status |"
    middle = lines.index("| row | ASSD (mm) | PRE | SEN | scans |")
    row, rest = _row(lines[first:middle], "X-Net"), _row(lines[middle:second], "X-Net")
    assert row.startswith("| `X-Net` | Y | 0.4947 \\| 0.435 [")
    assert rest.startswith("| `X-Net` | 7.0283 \\| 0.4 [0.")
    assert row.count("]* |") + rest.count("]* |") == 5
    assert "| -0.0521 \\| -0.065 [-0.0" in row
    assert row.endswith(" | 12 | 1 seed |")
    assert "| (proposed) |" in _row(lines[first:middle], "PAPL")
    assert "| 0.5047 \\| - | - \\| - | -0.0421 \\| - |" in _row(lines[first:middle], "SEAN")
    assert "| - \\| - | - \\| - | - \\| - | 0 |" in _row(lines[middle:second], "SEAN")
    assert lines[second - 2].startswith("| `whole brain` | - \\| 0.3 [0.2, 0.3] |")
    assert "| `whole brain` | na | - \\| 0.250 [" in _row(lines[first:middle], "whole brain")
    assert _columns(lines) == {8, 6}
    assert sum(line.startswith("| `") for line in lines) == 4 * 18
    notes = [line for line in lines if line.startswith("- ")]
    assert [sum(f"({erratum})" in note for note in notes) for erratum in ("P30", "P31", "P33", "P38")] == [2, 1, 1, 1]
    assert max(len(line) for line in lines if line.startswith("|")) < 180


def test_table_3_compares_backbones_with_themselves():
    table = tables.table3_backbones({"aisd": NONE, "xwhd": NONE}, {"aisd": {}, "xwhd": {}}, RUN)
    lines = tables.page(table, 3).splitlines()
    row = next(line for line in lines if line.startswith("| `CENet (w/o PAPL)`"))
    assert "| -0.0513 \\| - |" in row
    assert sum("| (proposed) |" in line for line in lines) == 6
    assert any("with PAPL on the same backbone" in line for line in lines)


def test_table_5_says_how_many_scans_each_stratum_has_and_which_has_none():
    status = {"PAPL": "1 seed"}
    made = tables.table5_volume_strata(_scores({"PAPL": MANY}, range(1, 13)), status, RUN)
    lines = tables.page(made, 5).splitlines()
    heads = [line for line in lines if line.startswith("## ")]
    assert heads[0] == "## Infarct volume <=70 mL: 44 scans published, 12 of ours"
    assert heads[1] == "## Infarct volume >70 mL: 8 scans published, no scan of ours lies in this stratum"
    assert heads[2] == "## All (Average column): 52 scans published, 12 of ours"
    big = lines[lines.index(heads[1]) : lines.index(heads[2])]
    overlap, rest = (line for line in big if line.startswith("| `PAPL` |"))
    assert overlap == "| `PAPL` | 0.7606 \\| - | 0.6171 \\| - | (proposed) | 0 | not testable here |"
    assert rest == "| `PAPL` | 0.7691 \\| - | 0.7895 \\| - | 0 |"
    assert _columns(lines) == {7, 5}
    (note,) = [line for line in lines if "44 to 8" in line]
    assert "ASSD" in note
    assert "(P32)" in note


@pytest.mark.parametrize(
    ("number", "maker"), [(4, "components"), (6, "contrastive_tasks"), (7, "lambda_sweep"), (8, "beta_sweep")]
)
def test_tables_of_one_metric_show_spread_difference_and_test(number, maker):
    make = getattr(tables, f"table{number}_{maker}")
    rows = {row: MANY - i * np.linspace(0.01, 0.02, 12) for i, row in enumerate(RUNS[number])}
    table = make(_scores(rows, range(12)), dict.fromkeys(rows, "1 seed"), RUN)
    lines = tables.page(table, number).splitlines()
    assert lines[2] == "| row | DSC | SD | DSC - proposed | p (Holm) | scans | status |"
    assert _columns(lines) == {8}
    assert sum(line.startswith("| `") for line in lines) == len(rows)
    first = lines[4].split(" | ")
    assert first[2] == f"{np.std(MANY, ddof=1):.3f}"
    assert "aisd (embedded), profile demo" in "".join(lines)
    assert "nan" not in "".join(lines).lower()


def test_a_page_of_nothing_run_holds_the_printed_numbers_alone():
    lines = tables.page(tables.table8_beta_sweep(NONE, {}, RUN), 8).splitlines()
    row = _row(lines, "beta1=0.8;beta2=0.8;beta3=0")
    assert row.endswith("| 0.5285 \\| - | - | -0.0183 \\| - | - | 0 | not yet |")
    assert not any("*:" in line for line in lines)
    assert lines[-1].endswith("(P24).")


def test_a_sweep_of_ours_is_compared_with_the_choice_of_the_other_tables_and_shows_ours_alone():
    rows = {
        "omega 1": MANY,
        "omega 2": MANY - np.linspace(0.01, 0.02, 12),
        "omega 5": MANY / 2,
        "whole brain": MANY / 3,
    }
    status = dict.fromkeys(list(rows)[:3], "1 seed")
    table = table_sweep(_scores(rows, range(12)), status, RUN, "omega 1", ["DSC", "ASSD"], ["whole brain"])
    assert list(table["row"].unique()) == list(rows)
    assert set(table["published"]) == {"none"}
    cell = table[(table["row"] == "omega 2") & (table["metric"] == "DSC")].iloc[0]
    assert cell["difference"] == pytest.approx(-0.015)
    assert cell["p_holm"] == pytest.approx(2 * 2 / 2**12)
    lines = comparing.page(table, "Omega").splitlines()
    assert lines[2] == "| row | DSC (fraction) | ASSD (mm) | scans | status |"
    assert _row(lines, "omega 5").endswith("| 12 | 1 seed |")
    with pytest.raises(DataError, match="omega 9"):
        table_sweep(_scores(rows, range(12)), status, RUN, "omega 9")
