"""Which training a row shows, and which rows therefore agree."""

import gc
from functools import partial

import numpy as np
import pandas as pd
import pytest

from strokelib import comparing, manifest, settings, stats
from strokelib.errors import DataError
from strokelib.papl import identities, rows, tables
from strokelib.papl.rows import RUNS, Run

RUN = settings.resolve("demo", "aisd", 3)
NONE = pd.DataFrame({"method": [], "case": [], "metric": [], "value": []})
NAMES = ("dice", "jaccard", "assd_mm", "precision", "sensitivity")
MAKERS = {
    4: tables.table4_components,
    5: tables.table5_volume_strata,
    6: tables.table6_contrastive_tasks,
    7: tables.table7_lambda_sweep,
    8: tables.table8_beta_sweep,
}
BETAS = "beta1=0.8;beta2=0.8;beta3="
# Section 5 of the specification, and Table V, whose averages are of the aligned rows of Table II.
WANTED = [
    {(2, "U-Net (aligned)"), (3, "U-Net (w/o PAPL)"), (4, "baseline"), (5, "U-Net"), (6, "none (baseline)")},
    {(2, "CENet (aligned)"), (3, "CENet (w/o PAPL)"), (5, "CENet")},
    {(2, "U-Net++ (aligned)"), (3, "U-Net++ (w/o PAPL)"), (5, "U-Net++")},
    {(2, "TransU-Net (aligned)"), (5, "TransU-Net")},
    {(2, "PAPL"), (3, "U-Net (w/ PAPL)"), (4, "Inter+Intra+FCM+RPRS"), (5, "PAPL"), (8, f"{BETAS}0.2")},
    {(4, "Inter+Intra"), (6, "Ours (inter+intra)"), (7, "lambda1=0.6;lambda2=0.3")},
    {(4, "Inter+Intra+FCM"), (8, f"{BETAS}0")},
]
# Erratum -> metric -> cells that print another number than the rest of their identity.
P31 = {"SEN": {(3, "U-Net (w/ PAPL)")}}
P32 = {
    "DSC": {(5, "U-Net"), (5, "PAPL")},
    "JC": {(5, "U-Net"), (5, "CENet"), (5, "U-Net++")},
    "ASSD": {(5, "U-Net"), (5, "CENet"), (5, "U-Net++"), (5, "PAPL")},
    "PRE": {(5, "CENet")},
}
P33 = {metric: {(5, "TransU-Net")} for metric in ("DSC", "JC", "ASSD", "PRE")}


def _scores_of(number, cohort):
    """Scores that depend on cohort and training alone, as those of one trained network do."""
    numbers = {
        run: i for i, run in enumerate(dict.fromkeys(run for of_table in RUNS.values() for run in of_table.values()))
    }
    made = []
    for row, run in RUNS[number].items():
        random = np.random.default_rng([numbers[run], len(cohort), ord(cohort[0])])
        values = random.uniform(0.2, 0.8, (len(NAMES), 7))
        made += [(row, f"s{i}", name, v) for name, vs in zip(NAMES, values, strict=True) for i, v in enumerate(vs)]
        made += [(row, f"s{i}", "truth_volume_ml", 20.0 * (i + 1)) for i in range(7)]
    return pd.DataFrame(made, columns=NONE.columns)


def _all_tables(run_too=True):
    """Tables II to VIII, with or without scores of ours."""
    made = {}
    for number, maker in ({2: tables.table2_comparison, 3: tables.table3_backbones} | MAKERS).items():
        scores = {c: _scores_of(number, c) if run_too else NONE for c in ("aisd", "xwhd")}
        status = {c: dict.fromkeys(RUNS[number], "1 seed") if run_too else {} for c in scores}
        given = (scores["aisd"], status["aisd"]) if number in MAKERS else (scores, status)
        made[number] = maker(*given, RUN)
    return made


@pytest.fixture(scope="module")
def printed():
    """All tables as printed, without a number of ours."""
    return _all_tables(run_too=False)


@pytest.fixture(scope="module")
def ours():
    """All tables, with intervals of few resamples."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("bootstrap_ci", "paired_bootstrap_ci"):
            patch.setattr(comparing, name, partial(getattr(stats, name), n_resamples=199))
        patch.setattr(gc, "collect", lambda *_: 0)  # statsmodels collects garbage at every adjustment
        return _all_tables()


def test_the_identities_are_those_of_the_specification():
    found = [set(cells) for cells in rows.identities().values()]
    assert sorted(map(sorted, found)) == sorted(map(sorted, WANTED))


def test_printed_numbers_of_one_training_agree_but_for_three_errata(printed):
    found = identities.printed_otherwise(printed)
    wanted = {m: set().union(*(e.get(m, set()) for e in (P31, P32, P33))) for m in ("DSC", "JC", "ASSD", "PRE", "SEN")}
    assert found == wanted


@pytest.mark.parametrize(
    ("value", "numbers", "count"),
    [("0.4866", {2, 3, 4, 6}, 4), ("0.5188", {4, 6, 7}, 3), ("0.5285", {4, 8}, 2), ("0.5468", {2, 3, 4, 8}, 4)],
)
def test_the_four_repeated_numbers_stand_in_the_rows_of_one_training(printed, value, numbers, count):
    shown = set()
    for number, table in printed.items():
        here = (table["published"] == value) & (table["metric"] == "DSC") & (table["cohort"] == "aisd")
        shown |= {(number, row) for row in table.loc[here, "row"]}
    assert {number for number, _ in shown} == numbers
    assert len(shown) == count
    assert len({RUNS[number][row] for number, row in shown}) == 1


def test_small_gaps_of_table_5_are_rounding_and_only_u_net_and_transunet_are_another_run(printed):
    lines = identities.shared_cells(printed)
    lines = lines[(lines["cohort"] == "aisd") & (lines["metric"] != "ASSD")]
    values = lines.assign(value=lines["published"].astype(float)).groupby(["training", "metric"])["value"]
    odd = {lines.loc[part.index, "row"].iloc[0] for _, part in values if part.max() - part.min() > 6e-4}
    assert odd == {"U-Net (aligned)", "TransU-Net (aligned)"}


def test_our_tables_keep_the_identities_to_the_last_digit(ours):
    found = identities.check_identities(ours)
    on_aisd = found[found["cohort"] == "aisd"]
    assert on_aisd["training"].nunique() == len(WANTED)
    dsc = on_aisd[on_aisd["metric"] == "DSC"]
    assert sorted(sorted(cells) for cells in dsc["cells"]) == sorted(map(sorted, WANTED))
    on_both = found[(found["cohort"] == "xwhd") & (found["metric"] == "SEN")]
    assert [{number for number, _ in cells} for cells in on_both["cells"]] == [{2, 3}] * 4
    for number, row, metric in ((4, "baseline", "DSC"), (5, "U-Net", "DSC")):
        part = ours[number]
        part = part[(part["row"] == row) & (part["metric"] == metric)].iloc[-1]
        line = dsc[[(number, row) in cells for cells in dsc["cells"]]].iloc[0]
        assert part["ours"] == line["ours"]


@pytest.mark.parametrize(("column", "value"), [("ours", 0.5), ("n", 3), ("ci95_low", 0.1), ("status", "undertrained")])
def test_a_table_made_of_another_training_is_found(ours, column, value):
    other = ours[8].copy()
    other.loc[other["row"] == f"{BETAS}0.2", column] = value
    with pytest.raises(DataError, match=rf"{column} of DSC on aisd"):
        identities.check_identities(ours | {8: other})


def test_the_smallest_possible_difference_is_found(ours):
    other = ours[6].copy()
    at = other.index[other["row"] == "none (baseline)"]
    other.loc[at, "ours"] = np.nextafter(other.loc[at, "ours"], 1)
    with pytest.raises(DataError, match=r"baseline of Table 4.*none \(baseline\) of Table 6"):
        identities.check_identities(ours | {6: other})


def test_what_was_not_run_gives_no_line_and_no_error(printed):
    assert identities.check_identities(printed).empty


def test_runs_and_printed_alignment_agree():
    printed = manifest.published("papl", 2).drop_duplicates(["method", "aligned"])
    wanted = sorted(zip(printed["method"].replace("PAPL", "U-Net"), printed["aligned"] == "Y", strict=True))
    assert sorted((run.backbone, run.aligned) for run in RUNS[2].values()) == wanted
    assert all(run.aligned for number in range(3, 9) for run in RUNS[number].values())


def test_the_switches_of_table_4_are_its_nine_columns_of_ticks():
    words = {"inter": "Inter", "intra": "Intra", "fcm": "FCM", "rprs": "RPRS"}
    for row, run in RUNS[4].items():
        assert "+".join(words[name] for name, on in run.switches.items() if on) == row.replace("baseline", "")
        assert (run.task == "asymmetry") == ("Inter" in row)
    assert len(set(RUNS[4].values())) == 9


def test_the_weights_of_the_sweeps_are_those_in_the_names_of_their_rows():
    for number, field in ((7, "lambdas"), (8, "betas")):
        for row, run in RUNS[number].items():
            assert getattr(run, field) == tuple(float(part.split("=")[1]) for part in row.split(";"))
    assert {run.lambdas for run in RUNS[8].values()} == {(0.6, 0.3)}
    assert {run.betas for run in RUNS[7].values()} == {(1.0, 0.0, 0.0)}


def test_every_training_stands_once_and_knows_the_rows_it_serves():
    found = rows.trainings()
    assert {cohort: sum(c == cohort for c, _ in found) for cohort in ("aisd", "xwhd")} == {"aisd": 38, "xwhd": 19}
    assert found["xwhd", Run("CENet")] == ((2, "CENet (aligned)"), (3, "CENet (w/o PAPL)"))
    assert found["aisd", Run(task="PCL")] == ((6, "PCL [28]"),)
    assert ("xwhd", Run(task="PCL")) not in found
    cells = [cell for (cohort, _), of_run in found.items() if cohort == "aisd" for cell in of_run]
    assert sorted(cells) == sorted((number, row) for number, of_table in RUNS.items() for row in of_table)


def test_what_a_row_trains_is_known_without_pandas():
    import subprocess
    import sys

    code = "import sys, strokelib.papl.rows; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
