"""Tables II to VIII of PAPL: printed cells, our numbers, comparisons."""

import gc
from collections import Counter
from functools import partial

import numpy as np
import pandas as pd
import pytest

from strokelib import comparing, manifest, settings, stats
from strokelib.errors import DataError, ManifestError, ParameterError
from strokelib.papl import strata, tables
from strokelib.papl.rows import RUNS, proposed_of

RUN = settings.resolve("demo", "aisd", 3)
NONE = pd.DataFrame({"method": [], "case": [], "metric": [], "value": []})
NAMES = ("dice", "jaccard", "assd_mm", "precision", "sensitivity")
BASE = np.array([0.2, 0.3, 0.5, 0.6, 0.7, 0.8])
GAIN = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
VOLUMES = np.array([5.0, 20.0, 70.0, 70.1, 90.0, 200.0])
ON_AISD = {
    4: tables.table4_components,
    5: tables.table5_volume_strata,
    6: tables.table6_contrastive_tasks,
    7: tables.table7_lambda_sweep,
    8: tables.table8_beta_sweep,
}
ON_BOTH = {2: tables.table2_comparison, 3: tables.table3_backbones}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals of 499 resamples: which scans they are of is what is tested here."""
    for name in ("bootstrap_ci", "paired_bootstrap_ci"):
        monkeypatch.setattr(comparing, name, partial(getattr(stats, name), n_resamples=499))
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # statsmodels collects garbage at every adjustment


def _scores(rows, volumes=VOLUMES, names=NAMES):
    """Method -> one value a scan, the same in all metrics, and the volumes of the scans."""
    made = [(m, f"scan-{i}", name, v) for m, vs in rows.items() for name in names for i, v in enumerate(vs)]
    made += [(m, f"scan-{i}", "truth_volume_ml", volumes[i]) for m, vs in rows.items() for i in range(len(vs))]
    return pd.DataFrame(made, columns=["method", "case", "metric", "value"])


def _made(number, aisd=NONE, xwhd=NONE, references=(), **status):
    ran = [scores.loc[~scores["method"].isin(references), "method"].unique() for scores in (aisd, xwhd)]
    said = [dict.fromkeys(names, "1 seed") | status for names in ran]
    if number in ON_AISD:
        return ON_AISD[number](aisd, said[0], RUN, references)
    both = {"aisd": aisd, "xwhd": xwhd}, dict(zip(("aisd", "xwhd"), said, strict=True))
    return ON_BOTH[number](*both, RUN, references)


def _cell(table, row, metric="DSC", **more):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    for name, value in more.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7, 8])
def test_every_printed_cell_stands_once_and_alone_where_nothing_was_run(number):
    table, reported = _made(number), manifest.published("papl", number)
    keys = ["metric", "published_cell"]
    shown = table.rename(columns={"published": "published_cell"})
    if number in ON_BOTH:
        keys += ["dataset"]
    if number == 2:
        shown["row"] = shown["row"].str.replace(r" \((un)?aligned\)", "", regex=True)
        keys += ["aligned"]
    if number == 5:
        keys += ["lesion_filter"]
    wanted = Counter(reported[["method", *keys]].itertuples(index=False, name=None))
    assert Counter(shown[["row", *keys]].itertuples(index=False, name=None)) == wanted
    assert table["ours"].isna().all()
    assert set(table["status"]) == {"not yet"}
    assert set(zip(table["cohort"], table["profile"], table["data"], strict=True)) == {
        (cohort, "demo", "embedded") for cohort in (("aisd", "xwhd") if number in ON_BOTH else ("aisd",))
    }


def test_table_2_has_seventeen_rows_of_five_metrics_on_each_data_set_and_says_what_was_aligned():
    table = _made(2)
    assert len(table) == 17 * 2 * 5
    assert list(table["row"].unique()) == list(RUNS[2])
    assert _cell(table, "U-Net (unaligned)", dataset="AISD")["published"] == "0.4578"
    assert _cell(table, "U-Net (aligned)", dataset="AISD")["published"] == "0.4866"
    assert _cell(table, "U-Net (aligned)", dataset="XWHD")["published"] == "0.4354"
    aligned = table.drop_duplicates("row").set_index("row")["aligned"]
    assert list(aligned[aligned == "N"].index) == list(RUNS[2])[:5]
    assert _cell(table, "SEAN", "JC", dataset="AISD")["published"] == "-"
    assert _cell(table, "PAPL", "ASSD", dataset="XWHD")["unit"] == "mm"


def test_the_columns_are_those_of_every_table_with_published_numbers():
    from strokelib.adn.tables import table1_comparison

    usual = list(table1_comparison(NONE, {}, RUN))
    for number, more in {2: ["dataset", "aligned"], 3: ["dataset"], 4: [], 5: ["lesion_filter"], 8: []}.items():
        assert list(_made(number)) == [usual[0], *more, *usual[1:]]


def test_each_cohort_has_its_own_scores_comparisons_and_family_of_tests():
    aisd = _scores({"PAPL": BASE, "SEAN": BASE + GAIN, "ADN": BASE - GAIN})
    xwhd = _scores({"PAPL": BASE, "SEAN": BASE + 2 * GAIN})
    table = _made(2, aisd, xwhd)
    first, second = (_cell(table, "SEAN", "JC", dataset=name) for name in ("AISD", "XWHD"))
    assert (first["ours"], second["ours"]) == pytest.approx((BASE.mean() + 0.035, BASE.mean() + 0.07))
    assert (first["difference"], second["difference"]) == pytest.approx((0.035, 0.07))
    assert (first["p_holm"], second["p_holm"]) == pytest.approx((2 * 2 / 2**6, 2 / 2**6))
    assert (first["cohort"], second["cohort"]) == ("aisd", "xwhd")
    assert (first["n"], first["sd"]) == (6, pytest.approx((BASE + GAIN).std(ddof=1)))
    assert first["ci95_low"] < first["ours"] < first["ci95_high"]
    assert _cell(table, "ADN", "SEN", dataset="XWHD")["status"] == "not yet"


def test_a_users_own_scans_name_one_cohort_and_the_other_stays_embedded(tmp_path):
    run = settings.resolve("demo", "aisd", 3, tmp_path)
    table = tables.table3_backbones({"aisd": NONE, "xwhd": NONE}, {"aisd": {}, "xwhd": {}}, run)
    assert list(table.groupby("dataset", sort=False)["data"].first()) == ["given by the user", "embedded"]


def test_reference_rows_come_last_in_each_data_set_and_take_no_part_in_the_tests():
    rows = {"U-Net (w/ PAPL)": BASE, "U-Net (w/o PAPL)": BASE - GAIN, "whole brain": BASE / 2}
    for number, own in ((3, rows), (2, {"PAPL": BASE, "X-Net": BASE - GAIN, "whole brain": BASE / 2})):
        table = _made(number, _scores(own), _scores(own), ["whole brain"])
        for _, part in table.groupby("dataset"):
            assert list(part["row"].unique())[-1] == "whole brain"
            cell = _cell(part, "whole brain")
            assert (cell["published"], cell["status"]) == ("none", "done")
            assert cell["difference"] == pytest.approx(-BASE.mean() / 2)
            assert np.isnan(cell["p_holm"])
    assert set(table.loc[table["row"] == "whole brain", "aligned"]) == {"na"}


def test_each_backbone_is_compared_with_itself_under_papl_and_the_three_tests_are_one_family():
    shifts = {"U-Net": GAIN, "CENet": 2 * GAIN, "U-Net++": GAIN * [1, -1, -1, 1, 1, -1]}
    rows = {f"{name} (w/o PAPL)": BASE - shift for name, shift in shifts.items()}
    rows |= {f"{name} (w/ PAPL)": BASE for name in shifts}
    table = _made(3, _scores(rows), NONE)
    cells = [_cell(table, f"{name} (w/o PAPL)", dataset="AISD") for name in shifts]
    assert [cell["difference"] for cell in cells[:2]] == pytest.approx([-0.035, -0.07])
    assert [cell["p_holm"] for cell in cells] == pytest.approx([3 * 2 / 2**6, 3 * 2 / 2**6, 1.0])
    assert np.isnan(_cell(table, "CENet (w/ PAPL)", dataset="AISD")["difference"])
    assert list(table["row"].unique()) == list(RUNS[3])
    assert proposed_of(3, "CENet (w/o PAPL)") == "CENet (w/ PAPL)"


@pytest.mark.parametrize("number", [4, 6, 7, 8])
def test_an_ablation_compares_every_row_with_the_proposed_one(number):
    proposed, *others = sorted(RUNS[number], key=lambda row: row != proposed_of(number, ""))
    rows = {proposed: BASE} | {row: BASE - (i + 1) * GAIN for i, row in enumerate(others)}
    table = _made(number, _scores(rows))
    assert list(table["row"]) == list(RUNS[number])
    for i, row in enumerate(others):
        cell = _cell(table, row)
        assert cell["difference"] == pytest.approx(-0.035 * (i + 1))
        assert cell["p_holm"] == pytest.approx(min(1.0, len(others) * 2 / 2**6))
    assert np.isnan(_cell(table, proposed)["difference"])


def test_the_strata_take_scans_by_the_volume_of_their_reference_and_70_ml_is_small():
    scores = _scores({"PAPL": BASE, "CENet": BASE - GAIN})
    table = _made(5, scores)
    small, big, average = (_cell(table, "PAPL", "JC", lesion_filter=name) for name in strata.STRATA)
    assert [cell["n"] for cell in (small, big, average)] == [3, 3, 6]
    assert small["ours"] == pytest.approx(BASE[:3].mean())
    assert big["ours"] == pytest.approx(BASE[3:].mean())
    assert average["ours"] == pytest.approx(BASE.mean())
    assert _cell(table, "CENet", "PRE", lesion_filter=strata.BIG)["difference"] == pytest.approx(-0.05)
    assert [cell["published"] for cell in (small, big, average)] == ["0.3700", "0.6171", "0.4080"]


def test_a_stratum_without_a_scan_is_said_and_the_others_stay():
    table = _made(5, _scores({"PAPL": BASE, "none": BASE / 2}, VOLUMES / 10), references=["none"])
    cell, other = (_cell(table, "PAPL", "ASSD", lesion_filter=name) for name in (strata.BIG, strata.SMALL))
    assert (cell["n"], cell["n_undefined"], cell["status"]) == (0, 0, "not testable here")
    assert np.isnan([cell["ours"], cell["ci95_low"], cell["difference"]]).all()
    assert cell["published"] == "0.7691"
    assert (other["n"], other["status"]) == (6, "1 seed")
    assert _cell(table, "none", "DSC", lesion_filter=strata.BIG)["status"] == "not testable here"
    assert _cell(table, "CENet", "DSC", lesion_filter=strata.BIG)["status"] == "not yet"


def test_a_stratum_of_one_scan_has_a_mean_without_interval():
    table = _made(5, _scores({"PAPL": BASE, "CENet": BASE - GAIN}, [1, 2, 3, 4, 5, 71]))
    cell = _cell(table, "CENet", lesion_filter=strata.BIG)
    assert (cell["n"], cell["ours"]) == (1, pytest.approx(0.74))
    assert np.isnan([cell["sd"], cell["ci95_low"], cell["difference"], cell["p_holm"]]).all()


def test_volumes_have_to_be_there_and_one_for_all_methods():
    scores = _scores({"PAPL": BASE})
    with pytest.raises(DataError, match="none of scan-0 for PAPL"):
        _made(5, scores.query("metric != 'truth_volume_ml'"))
    other = _scores({"CENet": BASE}, [*VOLUMES[:5], 201.0])
    with pytest.raises(DataError, match="200 and 201 mL of scan-5"):
        _made(5, pd.concat([scores, other]))


def test_the_printed_averages_are_those_of_44_and_8_scans_but_for_the_distance():
    found = strata.printed_averages(manifest.published("papl", 5)).set_index(["row", "metric"])
    assert len(found) == 20
    assert found.loc[("U-Net", "DSC"), "weighted"] == pytest.approx((44 * 0.4402 + 8 * 0.7548) / 52)
    assert found.loc[("U-Net", "ASSD"), "weighted"] == pytest.approx(6.7584, abs=1e-4)
    gap = found["difference"].unstack()
    assert gap[["DSC", "JC", "PRE"]].abs().max().max() < 1.5e-4
    assert ((gap["ASSD"] > -0.0016) & (gap["ASSD"] < -0.0007)).all()
    assert found.loc[("PAPL", "DSC"), "weighted"] - found.loc[("U-Net", "DSC"), "weighted"] == pytest.approx(
        0.0584, abs=1e-4
    )


def test_missed_scans_are_counted_and_the_penalised_distance_is_a_metric_of_its_own_where_it_was_scored():
    holey = np.where(BASE < 0.4, np.nan, BASE)
    plain = pd.concat([_scores({"PAPL": BASE}), _scores({"CENet": holey})])
    more = plain[plain["metric"] == "assd_mm"].assign(metric="assd_penalised_mm").fillna({"value": 9.0})
    table, both = _made(5, plain), _made(5, pd.concat([plain, more]))
    cell = _cell(table, "CENet", "ASSD", lesion_filter=strata.SMALL)
    assert (cell["n"], cell["n_undefined"]) == (1, 2)
    added = _cell(both, "CENet", "ASSD, missed = diagonal", lesion_filter=strata.SMALL)
    assert (added["n"], added["published"], added["unit"]) == (3, "none", "mm")
    assert added["ours"] == pytest.approx((9 + 9 + 0.5) / 3)
    assert list(both["metric"][:5]) == ["DSC", "JC", "ASSD", "ASSD, missed = diagonal", "PRE"]
    kept = both[both["metric"] != "ASSD, missed = diagonal"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, table)
    wide = {"U-Net (w/o PAPL)": BASE, "U-Net (w/ PAPL)": BASE}
    third = _made(3, _scores(wide, names=(*NAMES, "assd_penalised_mm")), NONE)
    assert set(third.loc[third["dataset"] == "AISD", "metric"]) == {
        "DSC",
        "JC",
        "ASSD",
        "ASSD, missed = diagonal",
        "PRE",
        "SEN",
    }
    assert len(third[third["dataset"] == "XWHD"]) == 6 * 5


def test_scores_that_fit_no_row_are_refused():
    with pytest.raises(DataError, match="V-Net"):
        _made(3, _scores({"V-Net": BASE}))
    with pytest.raises(DataError, match="U-Net"):
        _made(2, _scores({"U-Net": BASE}))
    with pytest.raises(DataError, match="no jaccard"):
        _made(2, _scores({"SEAN": BASE}).query("metric != 'jaccard'"))
    with pytest.raises(DataError, match="twice"):
        _made(4, pd.concat([_scores({"Inter": BASE})] * 2))
    with pytest.raises(DataError, match="none for Inter"):
        tables.table4_components(_scores({"Inter": BASE}), {}, RUN)
    with pytest.raises(ParameterError, match="splendid"):
        _made(4, _scores({"Inter": BASE}), Inter="splendid")
    with pytest.raises(DataError, match="none of xwhd"):
        tables.table2_comparison({"aisd": NONE}, {"aisd": {}}, RUN)
    with pytest.raises(DataError, match="status"):
        tables.table2_comparison({"aisd": NONE, "xwhd": NONE}, {"aisd": {}}, RUN)


def test_a_ledger_with_other_rows_is_refused(monkeypatch):
    whole = manifest.published("papl", 4)
    monkeypatch.setattr(manifest, "published", lambda *_: whole[whole["method"] != "RPRS"])
    with pytest.raises(ManifestError, match="RPRS"):
        _made(4)
