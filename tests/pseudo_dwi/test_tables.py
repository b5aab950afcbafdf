from collections import Counter

import numpy as np
import pandas as pd
import pytest

from strokelib import manifest, settings
from strokelib.errors import DataError, ManifestError, ParameterError
from strokelib.pseudo_dwi import tables

RUN = settings.resolve("demo", "isles2018", 3)
MAKERS = {
    1: tables.table1_synthesis_losses,
    2: tables.table2_synthesis_inputs,
    3: lambda *given: tables.table3_segmenters(*given[:3], {}, *given[3:]),
    4: tables.table4_segmentation_losses,
    5: tables.table5_segmentation_inputs,
}
NONE = pd.DataFrame({"method": [], "case": [], "metric": [], "value": []})
BASE = np.array([0.2, 0.3, 0.5, 0.6, 0.7, 0.8])
GAIN = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])


def _scores(**changes):
    """Six scans of the losses of Table 4: the proposed one scores BASE in all metrics; others by name -> values."""
    rows = {"L_WCE + L_HGD": BASE, **changes}
    names = ("dice", "precision", "sensitivity", "hd_mm", "assd_mm", "truth_volume_ml")
    made = [(m, f"scan-{i}", name, v) for m, vs in rows.items() for name in names for i, v in enumerate(vs)]
    return pd.DataFrame(made, columns=["method", "case", "metric", "value"])


def _cell(table, row, metric):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def _table4(scores, references=(), **status):
    said = dict.fromkeys(scores["method"].unique(), "1 seed") | status
    return tables.table4_segmentation_losses(scores, said, RUN, references)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_every_printed_cell_stands_once_and_alone_where_nothing_was_run(number):
    table = MAKERS[number](NONE, {}, RUN)
    reported = manifest.published("pseudo_dwi", number).drop_duplicates(["method", "metric"])
    wanted = Counter(zip(reported["method"], reported["metric"], reported["published_cell"], strict=True))
    shown = table["published"].replace("blank", "")
    assert Counter(zip(table["row"], table["metric"], shown, strict=True)) == wanted
    assert table["ours"].isna().all()
    assert set(table["status"]) == {"not yet"}
    assert set(zip(table["cohort"], table["profile"], table["data"], strict=True)) == {
        ("isles2018", "demo", "embedded")
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, "w-L2 + l_h1"), (2, "F_o")),
        ((3, "SLNet"), (4, "L_CE")),
        ((4, "L_WCE + L_HGD"), (5, "F_o")),
    ],
)
def test_rows_that_two_tables_print_agree_cell_by_cell(one, other):
    both = []
    for number, row in (one, other):
        table = MAKERS[number](NONE, {}, RUN)
        part = table[(table["row"] == row) & ~table["metric"].isin(["Parameters", "RVE"])]
        both.append(dict(zip(part["metric"], part["published"].str.replace(" ", ""), strict=True)))
    assert both[0] == both[1]
    assert len(both[0]) == 5


def test_means_spreads_and_counts_are_of_the_scans_with_a_value_and_in_per_cent():
    holey = np.array([0.2, np.nan, 0.4, 0.6, np.nan, np.nan])
    table = _table4(_scores(L_CE=holey))
    cell = _cell(table, "L_CE", "Dice")
    assert cell["ours"] == pytest.approx(40.0)
    assert cell["sd"] == pytest.approx(20.0)
    assert (cell["n"], cell["n_undefined"]) == (3, 3)
    assert cell["ci95_low"] < 40 < cell["ci95_high"]
    assert cell["unit"] == "%"
    assert _cell(table, "L_CE", "HD")["ours"] == pytest.approx(0.4)


def test_the_interval_of_scans_that_agree_is_a_point():
    cell = _cell(_table4(_scores(L_GD=np.full(6, 0.25))), "L_GD", "Precision")
    assert (cell["ci95_low"], cell["ours"], cell["ci95_high"]) == pytest.approx((25.0, 25.0, 25.0))


def test_a_row_is_compared_with_the_proposed_one_on_the_same_scans():
    table = _table4(_scores(L_CE=BASE + GAIN))
    cell = _cell(table, "L_CE", "Dice")
    assert cell["difference"] == pytest.approx(3.5)
    assert 1.0 < cell["difference_low"] < 3.5 < cell["difference_high"] < 6.0
    own = _cell(table, "L_WCE + L_HGD", "Dice")
    assert np.isnan([own["difference"], own["difference_low"], own["p_holm"]]).all()
    shuffled = _scores(L_CE=BASE + GAIN).sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(_table4(shuffled), table)


def test_p_is_the_exact_one_of_wilcoxon_and_grows_with_the_rows_tested():
    alone = _cell(_table4(_scores(L_CE=BASE + GAIN)), "L_CE", "Dice")
    assert alone["p_holm"] == pytest.approx(2 / 2**6)
    even = BASE + GAIN * [1, -1, -1, 1, 1, -1]
    table = _table4(_scores(L_CE=BASE + GAIN, L_GD=BASE - GAIN, L_HGD=even))
    assert _cell(table, "L_CE", "Dice")["p_holm"] == pytest.approx(3 * 2 / 2**6)
    assert _cell(table, "L_GD", "Dice")["p_holm"] == pytest.approx(3 * 2 / 2**6)
    assert _cell(table, "L_HGD", "Dice")["p_holm"] == pytest.approx(1.0)
    assert _cell(table, "L_DICE", "Dice")["status"] == "not yet"


def test_reference_rows_come_last_without_a_published_number_and_take_no_part_in_the_tests():
    scores = _scores(L_CE=BASE + GAIN, **{"whole brain": BASE / 2})
    table = _table4(scores, ["whole brain"])
    assert list(table["row"][-5:]) == ["whole brain"] * 5
    cell = _cell(table, "whole brain", "Dice")
    assert (cell["published"], cell["ours"]) == ("none", pytest.approx(50 * BASE.mean()))
    assert cell["difference"] == pytest.approx(-50 * BASE.mean())
    assert np.isnan(cell["p_holm"])
    assert _cell(table, "L_CE", "Dice")["p_holm"] == pytest.approx(2 / 2**6)


def test_one_scan_gives_a_mean_without_interval_or_difference():
    cell = _cell(_table4(_scores(L_CE=BASE).query("case == 'scan-0'")), "L_CE", "Dice")
    assert (cell["ours"], cell["n"]) == (pytest.approx(20.0), 1)
    assert np.isnan([cell["sd"], cell["ci95_low"], cell["difference"], cell["p_holm"]]).all()


def test_parameters_of_table_3_are_counted_and_have_no_interval():
    table = tables.table3_segmenters(NONE, {}, RUN, {"SLNet": 33.84})
    cell, other = _cell(table, "SLNet", "Parameters"), _cell(table, "FCN", "Parameters")
    assert (cell["published"], cell["ours"], cell["unit"], cell["status"]) == ("33.84", 33.84, "million", "done")
    assert np.isnan(cell["ci95_low"])
    assert (other["published"], other["status"]) == ("18.64", "not yet")
    assert np.isnan(other["ours"])


def test_real_dwi_needs_no_image_quality_and_the_generators_do():
    rows = [("Real DWI", f"scan-{i}", "dice", v) for i, v in enumerate(BASE)]
    scores = pd.DataFrame(rows, columns=NONE.columns)
    table = tables.table2_synthesis_inputs(scores, {"Real DWI": "1 seed"}, RUN)
    assert _cell(table, "Real DWI", "Dice")["ours"] == pytest.approx(100 * BASE.mean())
    assert _cell(table, "Real DWI", "Local SSIM")["published"] == "blank"
    with pytest.raises(DataError, match="no ssim"):
        tables.table2_synthesis_inputs(scores.replace("Real DWI", "F_o"), {"F_o": "1 seed"}, RUN)


def test_the_leaderboard_stays_as_printed_and_ours_stands_below_it_under_a_name_of_its_own():
    table = tables.table6_leaderboard(_scores(), RUN)
    printed, own = table[:15], table[15:]
    assert list(printed["published"][:3]) == ["0.51 ± 0.31", "0.55 ± 0.36", "0.55 ± 0.34"]
    assert printed["ours"].isna().all()
    assert set(own["row"]) == {"L_WCE + L_HGD, isles2018 (embedded)"}
    assert set(own["published"]) == {"none"}
    assert _cell(own, own["row"].iloc[0], "Recall")["ours"] == pytest.approx(BASE.mean())
    assert set(table["status"]) == {"hidden test set"}


def test_the_groups_of_the_text_take_scans_by_the_volume_of_the_lesion():
    dice = _scores(**{"DWI^{o,l,h}": BASE}).query("method == 'DWI^{o,l,h}'").copy()
    dice.loc[dice["metric"] == "truth_volume_ml", "value"] = [1.0, 9.99, 10.0, 50.0, 50.01, 200.0]
    table = tables.intext(dice, {"DWI^{o,l,h}": "1 seed"}, RUN)
    by_group = table.set_index(["lesion_filter", "metric"])
    assert list(by_group.loc[pd.IndexSlice[:, "n"], "published"]) == ["9", "10", "4"]
    assert list(by_group.loc[pd.IndexSlice[:, "n"], "ours"]) == [2, 2, 2]
    assert list(by_group.loc[pd.IndexSlice[:, "Dice"], "published"]) == ["59.50%", "68.87%", "56.44%"]
    assert list(by_group.loc[pd.IndexSlice[:, "Dice"], "ours"]) == pytest.approx([25.0, 55.0, 75.0])
    empty = tables.intext(NONE, {}, RUN)
    assert set(empty["status"]) == {"not yet"}
    assert empty["ours"].isna().all()


def test_the_page_shows_published_and_ours_in_one_cell_and_marks_what_differs():
    many = np.linspace(0.2, 0.8, 12)
    strong = {"L_CE": many + np.linspace(0.01, 0.12, 12), "L_WCE + L_HGD": many}
    shown = tables.page(_table4(_scores(**strong)), "Table 4")
    lines = shown.splitlines()
    assert lines[0] == "# Table 4"
    assert lines[2] == "| row | Precision (%) | Recall (%) | Dice (%) | HD (mm) | ASSD (mm) | scans | status |"
    (row,) = [line for line in lines if line.startswith("| `L_CE` |")]
    assert " | 54.45±21.23 \\| 56.50 [" in row
    assert row.count("]* |") == 5
    assert row.endswith(" | 12 | 1 seed |")
    (idle,) = [line for line in lines if line.startswith("| `L_DICE` |")]
    assert " | 51.57±20.98 \\| - | " in idle
    assert idle.endswith(" | 0 | not yet |")
    assert "isles2018 (embedded), profile demo" in lines[-1]
    columns = {line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}
    assert columns == {9}


def test_scores_that_fit_no_row_are_refused():
    with pytest.raises(DataError, match="L_XY"):
        _table4(_scores(L_XY=BASE))
    with pytest.raises(DataError, match="no assd_mm"):
        _table4(_scores().query("metric != 'assd_mm'"))
    with pytest.raises(DataError, match="twice"):
        _table4(pd.concat([_scores(), _scores()]))
    with pytest.raises(DataError, match="none for L_WCE"):
        tables.table4_segmentation_losses(_scores(), {}, RUN)
    with pytest.raises(ParameterError, match="splendid"):
        _table4(_scores(), **{"L_WCE + L_HGD": "splendid"})
    volumeless = _scores(**{"DWI^{o,l,h}": BASE}).query("metric != 'truth_volume_ml'")
    with pytest.raises(DataError, match="no truth_volume_ml"):
        tables.intext(volumeless, {"DWI^{o,l,h}": "1 seed"}, RUN)


def test_a_published_table_without_the_proposed_row_is_refused(monkeypatch):
    whole = manifest.published("pseudo_dwi", 4)
    monkeypatch.setattr(manifest, "published", lambda *_: whole[whole["method"] != "L_WCE + L_HGD"])
    with pytest.raises(ManifestError, match="the row L_WCE"):
        _table4(_scores())
