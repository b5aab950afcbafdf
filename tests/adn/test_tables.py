from collections import Counter

import numpy as np
import pandas as pd
import pytest

from strokelib import manifest, settings
from strokelib.adn import tables
from strokelib.errors import DataError, ManifestError, ParameterError

RUN = settings.resolve("demo", "aisd", 3)
NONE = pd.DataFrame({"method": [], "case": [], "metric": [], "value": []})
BASE = np.array([0.2, 0.3, 0.5, 0.6, 0.7, 0.8])
GAIN = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])


def _scores(penalised=False, **changes):
    """Six scans: ADN scores BASE in Dice and ten times that in mm; others by name -> values."""
    rows = {"ADN (Ours)": BASE, **changes}
    names = {"dice": 1, "hd95_mm": 10} | ({"hd95_penalised_mm": 20} if penalised else {})
    made = [
        (m, f"scan-{i}", name, k * v) for m, vs in rows.items() for name, k in names.items() for i, v in enumerate(vs)
    ]
    return pd.DataFrame(made, columns=["method", "case", "metric", "value"])


def _table(scores, references=(), **status):
    said = dict.fromkeys(scores["method"].unique(), "1 seed") | status
    return tables.table1_comparison(scores, said, RUN, references)


def _cell(table, row, metric, **more):
    found = table[(table["row"] == row) & (table["metric"] == metric)]
    for name, value in more.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


def test_every_printed_cell_stands_once_and_alone_where_nothing_was_run():
    table = tables.table1_comparison(NONE, {}, RUN)
    reported = manifest.published("adn", 1)
    wanted = Counter(zip(reported["method"], reported["aligned"], reported["published_cell"], strict=True))
    shown = [(*tables.ROWS[row], cell) for row, cell in zip(table["row"], table["published"], strict=True)]
    assert Counter(shown) == wanted
    assert len(table) == 16
    assert table["ours"].isna().all()
    assert set(table["status"]) == {"not yet"}
    assert set(zip(table["cohort"], table["profile"], table["data"], strict=True)) == {("aisd", "demo", "embedded")}


def test_the_two_rows_of_one_printed_name_keep_their_own_numbers():
    table = tables.table1_comparison(NONE, {}, RUN)
    assert _cell(table, "3D ResUNet (raw)", "Dice")["published"] == "0.4763"
    assert _cell(table, "3D ResUNet (aligned)", "Dice")["published"] == "0.4850"
    assert _cell(table, "3D ResUNet (aligned)", "HD95")["published"] == "39.87"


def test_the_columns_are_those_of_every_table_with_published_numbers():
    from strokelib.pseudo_dwi.tables import table4_segmentation_losses

    assert list(_table(_scores())) == list(table4_segmentation_losses(NONE, {}, RUN))


def test_dice_stays_a_fraction_and_a_distance_in_mm_and_missed_scans_are_counted():
    holey = np.array([0.2, np.nan, 0.4, 0.6, np.nan, np.nan])
    table = _table(_scores(SEAN=holey))
    dice, distance = _cell(table, "SEAN", "Dice"), _cell(table, "SEAN", "HD95")
    assert (dice["ours"], dice["unit"]) == (pytest.approx(0.4), "fraction")
    assert (distance["ours"], distance["unit"]) == (pytest.approx(4.0), "mm")
    assert (distance["n"], distance["n_undefined"]) == (3, 3)
    assert distance["sd"] == pytest.approx(2.0)
    assert distance["ci95_low"] < 4 < distance["ci95_high"]


def test_a_row_is_compared_with_adn_on_the_same_scans_and_tested_with_holm():
    table = _table(_scores(SEAN=BASE + GAIN, DeepMedic=BASE - GAIN, **{"whole brain": BASE / 2}), ["whole brain"])
    cell = _cell(table, "SEAN", "Dice")
    assert cell["difference"] == pytest.approx(0.035)
    assert 0.01 < cell["difference_low"] < 0.035 < cell["difference_high"] < 0.06
    assert cell["p_holm"] == pytest.approx(2 * 2 / 2**6)
    reference = _cell(table, "whole brain", "HD95")
    assert (reference["published"], reference["difference"]) == ("none", pytest.approx(-5 * BASE.mean()))
    assert np.isnan(reference["p_holm"])
    assert np.isnan(_cell(table, "ADN (Ours)", "Dice")["difference"])


def test_the_distance_that_counts_missed_scans_is_a_row_of_its_own_where_it_was_scored():
    plain, both = _table(_scores(SEAN=BASE)), _table(_scores(True, SEAN=BASE))
    assert set(plain["metric"]) == {"Dice", "HD95"}
    of_sean = both[both["row"] == "SEAN"]
    assert list(of_sean["metric"]) == ["Dice", "HD95", "HD95, missed = diagonal"]
    added = of_sean.iloc[2]
    assert (added["published"], added["unit"], added["ours"]) == ("none", "mm", pytest.approx(20 * BASE.mean()))
    kept = both[both["metric"] != "HD95, missed = diagonal"].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, plain)
    lacking = _scores(True, SEAN=BASE).query("method != 'SEAN' or metric != 'hd95_penalised_mm'")
    with pytest.raises(DataError, match="no hd95_penalised_mm"):
        _table(lacking)


def test_scores_that_fit_no_row_are_refused():
    with pytest.raises(DataError, match="3D ResUNet"):
        _table(_scores(**{"3D ResUNet": BASE}))
    with pytest.raises(DataError, match="no hd95_mm"):
        _table(_scores().query("metric != 'hd95_mm'"))
    with pytest.raises(DataError, match="twice"):
        _table(pd.concat([_scores(), _scores()]))
    with pytest.raises(DataError, match="none for ADN"):
        tables.table1_comparison(_scores(), {}, RUN)
    with pytest.raises(ParameterError, match="splendid"):
        _table(_scores(), **{"ADN (Ours)": "splendid"})


def test_a_ledger_with_other_rows_is_refused(monkeypatch):
    whole = manifest.published("adn", 1)
    monkeypatch.setattr(manifest, "published", lambda *_: whole[whole["method"] != "SEAN"])
    with pytest.raises(ManifestError, match="SEAN"):
        _table(_scores())


def test_the_page_of_table_1_shows_published_and_ours_with_as_many_places_as_printed():
    lines = tables.page(_table(_scores(SEAN=BASE)), "Table 1").splitlines()
    assert lines[2] == "| row | Dice (fraction) | HD95 (mm) | scans | status |"
    (row,) = [line for line in lines if line.startswith("| `SEAN` |")]
    assert row.startswith("| `SEAN` | 0.5047 \\| 0.5167 [0.")
    assert " | 40.07 \\| 5.17 [" in row
    assert row.endswith(" | 6 | 1 seed |")
    assert "Published numbers are of AISD" in lines[-1]


def _disentangled():
    rows = []
    for method, shift in (("ADN", 0.1), ("P = A", 0.0)):
        for anatomy, values in (("A", BASE), ("B", BASE[:3] / 2)):
            for number, value in enumerate(values):
                case = f"{anatomy}-{number}"
                rows += [(method, case, anatomy, "auc", value + shift), (method, case, anatomy, "mae_hu", 10 * value)]
    return pd.DataFrame(rows, columns=["method", "case", "anatomy", "metric", "value"])


def test_scores_of_disentangling_keep_the_anatomies_apart_and_have_nothing_published():
    scores = _disentangled()
    scores.loc[0, "value"] = np.nan
    table = tables.table_disentangling(scores, RUN)
    assert tuple(table) == tables.COLUMNS
    assert list(table["row"].unique()) == ["ADN", "P = A"]
    assert len(table) == 2 * 2 * 2
    cell = _cell(table, "ADN", "auc", anatomy="A")
    assert (cell["n"], cell["n_undefined"], cell["published"]) == (5, 1, "none")
    assert cell["ours"] == pytest.approx(np.mean(BASE[1:]) + 0.1)
    assert cell["median"] == pytest.approx(0.7)
    assert cell["ci95_low"] < cell["ours"] < cell["ci95_high"]
    other = _cell(table, "P = A", "mae_hu", anatomy="B")
    assert (other["ours"], other["unit"], other["n"]) == (pytest.approx(10 / 6), "HU", 3)
    assert set(zip(table["cohort"], table["profile"], table["data"], strict=True)) == {("aisd", "demo", "embedded")}


def test_a_score_that_is_never_defined_has_neither_mean_nor_median():
    scores = _disentangled()
    scores.loc[(scores["method"] == "P = A") & (scores["metric"] == "auc"), "value"] = np.nan
    cell = _cell(tables.table_disentangling(scores, RUN), "P = A", "auc", anatomy="B")
    assert np.isnan([cell["ours"], cell["median"], cell["ci95_low"]]).all()
    assert (cell["n"], cell["n_undefined"]) == (0, 3)


def test_errors_of_pose_have_mean_and_median_in_their_units():
    rows = [("T", f"{a}{i}", a, v, 2 * v, 5.0) for a in "AB" for i, v in enumerate([1.0, 2.0, 9.0])]
    errors = pd.DataFrame(rows, columns=["alignment", "case", "anatomy", "angle_deg", "shift_mm", "roll_deg"])
    table = tables.table_poses(errors, RUN)
    angle, shift = (_cell(table, "T", metric, anatomy="B") for metric in ("angle_deg", "shift_mm"))
    assert (angle["ours"], angle["median"], angle["unit"]) == (pytest.approx(4.0), 2.0, "degrees")
    assert (shift["ours"], shift["median"], shift["unit"]) == (pytest.approx(8.0), 4.0, "mm")
    assert set(table["metric"]) == {"angle_deg", "shift_mm"}
    assert set(tables.table_poses(errors, RUN, ["roll_deg"])["ours"]) == {5.0}
    with pytest.raises(DataError, match="shift_mm"):
        tables.table_poses(errors.drop(columns="shift_mm"), RUN)


def test_sources_of_tissue_are_rows():
    scores = _disentangled().rename(columns={"method": "source"}).replace({"ADN": "truth", "P = A": "none"})
    table = tables.table_tissue(scores, RUN)
    assert list(table["row"].unique()) == ["truth", "none"]
    with pytest.raises(DataError, match="source"):
        tables.table_tissue(_disentangled(), RUN)


def test_a_scan_that_stands_twice_is_refused():
    with pytest.raises(DataError, match="auc of ADN on A-0 twice"):
        tables.table_disentangling(pd.concat([_disentangled(), _disentangled()]), RUN)


def test_the_page_of_a_table_of_ours_holds_ours_alone_and_a_row_an_anatomy():
    lines = tables.page(tables.table_disentangling(_disentangled(), RUN), "P").splitlines()
    assert lines[2] == "| row | auc | mae_hu (HU) | scans |"
    (row,) = [line for line in lines if line.startswith("| `P = A`, B |")]
    assert "\\|" not in row
    assert row.endswith(" | 3 |")
    assert "Published" not in lines[-1]
