from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from strokelib import manifest, settings, stats
from strokelib.errors import DataError, ManifestError, ParameterError
from strokelib.ssl_nnunet import estimates, tables

RUN = settings.resolve("demo", "icoais", 3)
NONE = pd.DataFrame({"method": [], "case": [], "metric": [], "value": []})
DICE = np.array([0.2, 0.3, 0.5, 0.6, 0.7, 0.9])
TRUE_ML = np.array([4.0, 9.0, 1.0, 60.0, 25.0, 100.0])
BY_NUMBER = {
    1: tables.table1_validation,
    2: tables.table2_validation_above_3ml,
    "B4": tables.tableB4_two_channels,
    "B5": tables.tableB5_two_channels_above_3ml,
}


def _scores(**rows):
    """Six scans; a row (underscores for hyphens) by its Dice, distance ten times it, volume above the truth by it."""
    made = []
    for name, dice in rows.items():
        values = {"dice": dice, "hd95_mm": 10 * dice, "pred_volume_ml": TRUE_ML + dice, "truth_volume_ml": TRUE_ML}
        values["absolute_volume_difference_ml"] = dice
        row = name.replace("_", "-")
        made += [(row, f"s{i}", m, v) for m, of_scans in values.items() for i, v in enumerate(of_scans)]
    return pd.DataFrame(made, columns=["method", "case", "metric", "value"])


def _status(scores):
    return dict.fromkeys(scores["method"].unique(), "1 seed")


def _first(scores, references=(), **status):
    said = {name: word for name, word in _status(scores).items() if name not in references}
    return tables.table1_validation(scores, said | status, RUN, references)


def _line(table, row, metric, statistic, **more):
    found = table[(table["row"] == row) & (table["metric"] == metric) & (table["statistic"] == statistic)]
    for name, value in more.items():
        found = found[found[name] == value]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture(scope="module")
def three():
    """FS-STKi, one row above it on every scan, one below it."""
    gain = np.arange(1, 7) / 100
    scores = _scores(FS_STKi=DICE, ALL_STKi_SA=DICE + gain, STKp_STKi=DICE - gain)
    return scores, _first(scores)


@pytest.mark.parametrize("number", [1, 2, 3, "B4", "B5", "intext"])
def test_every_printed_number_stands_once_with_its_places_and_alone_where_nothing_was_run(number):
    if number == "intext":
        table = tables.intext(NONE, {}, RUN)
    elif number == 3:
        table = tables.table3_test(NONE, NONE, {}, RUN)
    else:
        table = BY_NUMBER[number](NONE, {}, RUN)
    printed = manifest.published("ssl_nnunet", number)
    shown = table[table["published"] != "none"].reset_index(drop=True)
    assert len(shown) == len(printed)
    assert list(shown["row"]) == list(printed["method"])
    assert list(shown["metric"]) == list(printed["metric"])
    assert list(shown["statistic"]) == list(printed["statistic"])
    assert [float(text) for text in shown["published"]] == list(printed["value"])
    assert all(text in cell for text, cell in zip(shown["published"], printed["published_cell"], strict=True))
    small = printed["lesion_filter"].str.contains("3 mL").to_numpy()
    assert ((shown["lesion_filter"] == estimates.ABOVE_3ML).to_numpy() == small).all()
    assert table["ours"].isna().all()
    assert set(table["status"]) == ({"not yet", "hidden test set"} if number == "intext" else {"not yet"})
    added = set(table.loc[table["published"] == "none", "statistic"])
    assert added == (set() if number in (3, "intext") else {"ICC(2,1)"})


def test_a_published_cell_that_does_not_hold_its_number_is_refused(monkeypatch):
    whole = manifest.published("ssl_nnunet", 1)
    for wrong in ("0.1982", "0.135"):
        changed = whole.copy()
        changed.loc[2, "published_cell"] = wrong
        monkeypatch.setattr(manifest, "published", lambda *_, changed=changed: changed)
        with pytest.raises(ManifestError, match="iqr"):
            tables.table1_validation(NONE, {}, RUN)


def test_mean_median_and_the_width_between_quartiles_are_those_of_the_scans(three):
    _, table = three
    mean, median, width = (_line(table, "FS-STKi", "DSC", name) for name in ("mean", "median", "iqr"))
    assert mean["ours"] == pytest.approx(3.2 / 6)
    assert mean["sd"] == pytest.approx(np.std(DICE, ddof=1))
    assert mean["ci95_low"] < mean["ours"] < mean["ci95_high"]
    assert median["ours"] == pytest.approx(0.55)
    drawn = stats.bootstrap_ci(DICE, np.median, method="percentile", seed=RUN.seed)
    assert (median["ci95_low"], median["ci95_high"]) == (drawn.low, drawn.high)
    assert width["ours"] == pytest.approx(0.675 - 0.35)
    assert np.isnan([width["ci95_low"], width["ci95_high"]]).all()
    assert _line(table, "FS-STKi", "HD95", "iqr")["ours"] == pytest.approx(3.25)


def test_agreement_of_volumes_is_that_of_its_formulas_and_a_bias_lowers_only_one_of_them(three):
    scores, table = three
    pairs = np.stack([TRUE_ML + DICE, TRUE_ML], axis=1)
    n, k = pairs.shape
    rows, raters = pairs.mean(axis=1), pairs.mean(axis=0)
    between = k * sum((m - pairs.mean()) ** 2 for m in rows) / (n - 1)
    of_raters = n * sum((m - pairs.mean()) ** 2 for m in raters) / (k - 1)
    error = sum((pairs[i, j] - rows[i] - raters[j] + pairs.mean()) ** 2 for i in range(n) for j in range(k))
    error /= (n - 1) * (k - 1)
    consistency = (between - error) / (between + (k - 1) * error)
    agreement = (between - error) / (between + (k - 1) * error + k * (of_raters - error) / n)
    assert _line(table, "FS-STKi", "ICC", "ICC(3,1)")["ours"] == pytest.approx(consistency)
    found = _line(table, "FS-STKi", "ICC", "ICC(2,1)")
    assert found["ours"] == pytest.approx(agreement)
    assert found["published"] == "none"
    assert found["ci95_low"] <= found["ours"] <= found["ci95_high"]
    moved = scores[scores["method"] == "FS-STKi"].copy()
    moved.loc[moved["metric"] == "pred_volume_ml", "value"] = TRUE_ML + 30
    biased = _first(moved)
    assert _line(biased, "FS-STKi", "ICC", "ICC(3,1)")["ours"] == pytest.approx(1)
    assert _line(biased, "FS-STKi", "ICC", "ICC(2,1)")["ours"] < 0.85
    assert _line(biased, "FS-STKi", "Corr", "Spearman rho")["ours"] == pytest.approx(1)


def test_rank_correlation_is_of_predicted_and_true_volumes():
    scores = _scores(FS_STKi=DICE)
    swapped = TRUE_ML[[2, 1, 0, 3, 4, 5]]
    scores.loc[scores["metric"] == "pred_volume_ml", "value"] = swapped
    # Ranks 2 3 1 5 4 6 against 1 3 2 5 4 6: sum of squared differences 2.
    assert _line(_first(scores), "FS-STKi", "Corr", "Spearman rho")["ours"] == pytest.approx(1 - 6 * 2 / (6 * 35))


def test_a_row_is_compared_with_the_training_from_scratch_and_tested_once_a_metric(three):
    _, table = three
    above, below = (_line(table, row, "DSC", "mean") for row in ("ALL-STKi-SA", "STKp-STKi"))
    assert above["difference"] == pytest.approx(0.035)
    assert 0.01 < above["difference_low"] < 0.035 < above["difference_high"] < 0.06
    assert below["difference"] == pytest.approx(-0.035)
    assert above["p"] == pytest.approx(2 / 2**6)
    assert above["p_holm"] == pytest.approx(2 * 2 / 2**6)
    assert np.isnan(_line(table, "FS-STKi", "DSC", "mean")["difference"])
    median = _line(table, "ALL-STKi-SA", "DSC", "median")
    assert median["difference"] == pytest.approx(np.median(DICE + np.arange(1, 7) / 100) - 0.55)
    assert np.isnan([median["p"], median["p_holm"]]).all()
    tested = table.dropna(subset="p")
    assert set(zip(tested["row"], tested["metric"], strict=True)) == {
        (row, metric) for row in ("ALL-STKi-SA", "STKp-STKi") for metric in ("DSC", "HD95", "AVD")
    }


def test_a_scan_without_distance_is_counted_and_left_out_of_the_comparison():
    scores = _scores(FS_STKi=DICE, ALL_STKi=DICE + 0.1)
    scores.loc[(scores["method"] == "ALL-STKi") & (scores["metric"] == "hd95_mm"), "value"] = [5, np.nan, 9, 9, 9, 11]
    scores.loc[(scores["method"] == "FS-STKi") & (scores["metric"] == "hd95_mm"), "value"] = [4, 4, 4, 4, 4, np.nan]
    line = _line(_first(scores), "ALL-STKi", "HD95", "mean")
    assert (line["n"], line["n_undefined"], line["unit"]) == (5, 1, "mm")
    assert line["ours"] == pytest.approx(43 / 5)
    assert line["difference"] == pytest.approx(4.0)
    assert line["p"] == pytest.approx(2 / 2**4)


def test_a_reference_comes_last_is_compared_and_not_tested():
    scores = _scores(FS_STKi=DICE, ALL_STKi=DICE + 0.1, nothing=DICE / 2)
    table = _first(scores, ["nothing"])
    assert list(table["row"])[-12:] == ["nothing"] * 12
    line = _line(table, "nothing", "DSC", "mean")
    assert (line["published"], line["status"]) == ("none", "done")
    assert line["difference"] == pytest.approx(-DICE.mean() / 2)
    assert np.isnan(line["p"])
    assert _line(table, "ALL-STKi", "DSC", "mean")["p_holm"] == _line(table, "ALL-STKi", "DSC", "mean")["p"]


def test_one_scan_gives_values_without_intervals_and_none_gives_nothing():
    scores = _scores(FS_STKi=DICE)
    one = _first(scores[scores["case"] == "s3"])
    line = _line(one, "FS-STKi", "DSC", "mean")
    assert (line["ours"], line["n"]) == (0.6, 1)
    assert np.isnan(line["ci95_low"])
    assert one[one["statistic"] != "mean"]["ours"].isna().all()
    scores.loc[scores["metric"] == "hd95_mm", "value"] = np.nan
    never = _line(_first(scores), "FS-STKi", "HD95", "median")
    assert np.isnan(never["ours"])
    assert (never["n"], never["n_undefined"]) == (0, 6)


def test_scores_that_fit_no_row_are_refused():
    scores = _scores(FS_STKi=DICE)
    with pytest.raises(DataError, match="nnUNet"):
        _first(_scores(nnUNet=DICE))
    with pytest.raises(DataError, match="no pred_volume_ml"):
        _first(scores[scores["metric"] != "pred_volume_ml"])
    with pytest.raises(DataError, match="twice"):
        _first(pd.concat([scores, scores]))
    with pytest.raises(DataError, match="none for FS-STKi"):
        tables.table1_validation(scores, {}, RUN)
    with pytest.raises(ParameterError, match="splendid"):
        _first(scores, **{"FS-STKi": "splendid"})


def test_table_3_keeps_the_criteria_apart_and_adjusts_over_both():
    scores = _scores(FS_STKi=DICE, FS_STKp=DICE + 0.01 * np.arange(1, 7), ALL_STKi_SA=DICE - 0.01 * np.arange(1, 7))
    few = scores[scores["case"] != "s2"]
    table = tables.table3_test(scores, few, _status(scores), RUN)
    assert list(dict.fromkeys(table["lesion_filter"])) == list(estimates.CRITERIA)
    whole, part = (_line(table, "FS-STKp", "DSC", "mean", lesion_filter=name) for name in estimates.CRITERIA)
    assert (whole["n"], part["n"]) == (6, 5)
    assert (whole["published"], part["published"]) == ("0.2059", "0.2833")
    assert (whole["p"], part["p"]) == (pytest.approx(2 / 2**6), pytest.approx(2 / 2**5))
    assert whole["p_holm"] == pytest.approx(4 * 2 / 2**6)
    assert part["p_holm"] == pytest.approx(2 * 2 / 2**5)


def test_table_3_shows_the_row_that_our_validation_chose_beside_the_printed_one():
    scores = _scores(FS_STKi=DICE, STKp_STKi=DICE + 0.01 * np.arange(1, 7))
    table = tables.table3_test(scores, scores, _status(scores), RUN, best="STKp-STKi")
    assert list(table["lesion_filter"]) == sorted(table["lesion_filter"])
    for criterion in estimates.CRITERIA:
        rows = table.loc[table["lesion_filter"] == criterion, "row"]
        assert list(dict.fromkeys(rows)) == ["FS-STKi", "FS-STKp", "ALL-STKi-SA", "STKp-STKi"]
    line = _line(table, "STKp-STKi", "DSC", "mean", lesion_filter=estimates.ABOVE_3ML)
    assert (line["published"], line["status"]) == ("none", "1 seed")
    assert line["p_holm"] == pytest.approx(2 * line["p"])
    with pytest.raises(DataError, match="STKp-STKi"):
        tables.table3_test(scores, scores, _status(scores), RUN)


def test_the_text_s_numbers_stand_beside_ours_but_those_of_a_hidden_test_part(three):
    scores, _ = three
    table = tables.intext(scores, _status(scores), RUN)
    spread = _line(table, "FS-STKi", "DSC", "sd")
    assert (spread["published"], spread["dataset"]) == ("0.214", "icoAIS")
    assert spread["ours"] == pytest.approx(np.std(DICE, ddof=1))
    hidden = table[table["dataset"] == "APIS challenge"]
    assert set(hidden["status"]) == {"hidden test set"}
    assert hidden["ours"].isna().all()
    assert "STKp-STKi" not in set(table["row"])
    assert set(table.loc[table["row"] == "FS-STKp", "status"]) == {"not yet"}


def test_freezing_has_the_shares_in_order_and_nothing_published():
    gain = 0.01 * np.arange(1, 7)
    scores = pd.concat(_scores(x=DICE - n * gain).assign(method=name) for n, name in enumerate(tables.FROZEN[::-1]))
    table = tables.table_freezing(scores, _status(scores), RUN)
    assert list(dict.fromkeys(table["row"])) == ["0 %", "33 %", "66 %", "100 %"]
    assert set(table["published"]) == {"none"}
    line = _line(table, "100 %", "DSC", "mean")
    assert line["difference"] == pytest.approx(3 * 0.035)
    assert line["p_holm"] == pytest.approx(3 * 2 / 2**6)


def test_every_two_methods_are_tested_neighbours_first_and_adjusted_over_all_criteria():
    shift = 0.01 * np.arange(1, 7)
    scores = _scores(FS_STKi=DICE, FS_STKp=DICE + shift, ALL_STKi_SA=DICE + 3 * shift)
    found = tables.paired_tests({name: scores for name in estimates.CRITERIA})
    pairs = [("FS-STKi", "FS-STKp"), ("FS-STKp", "ALL-STKi-SA"), ("FS-STKi", "ALL-STKi-SA")]
    assert list(zip(found["first"], found["second"], strict=True)) == pairs * 2
    assert list(found["lesion_filter"]) == [name for name in estimates.CRITERIA for _ in pairs]
    np.testing.assert_allclose(found["difference"], [0.035, 0.07, 0.105] * 2)
    np.testing.assert_allclose(found["p"], 2 / 2**6)
    np.testing.assert_allclose(found["p_holm"], 6 * 2 / 2**6)
    four = tables.paired_tests({"all lesions": _scores(a=DICE, b=DICE, c=DICE, d=DICE)}, "abcd")
    assert set(zip(four["first"], four["second"], strict=True)) == set(combinations("abcd", 2))
    assert set(four["p"]) == {1.0}


def test_a_scan_without_value_is_no_part_of_a_test_and_methods_without_common_scans_are_refused():
    scores = _scores(FS_STKi=DICE, FS_STKp=DICE + 0.01 * np.arange(1, 7))
    holey = scores.copy()
    holey.loc[(holey["metric"] == "dice") & (holey["case"] == "s0"), "value"] = np.nan
    (found,) = tables.paired_tests({"all lesions": holey}, ("FS-STKi", "FS-STKp")).itertuples()
    assert (found.n, found.p) == (5, pytest.approx(2 / 2**5))
    with pytest.raises(DataError, match="of FS-STKp and ALL-STKi-SA"):
        tables.paired_tests({"all lesions": scores})


def test_a_page_has_a_block_a_metric_with_published_and_ours_and_the_difference(three):
    scores, _ = three
    holey = scores.copy()
    holey.loc[(holey["metric"] == "hd95_mm") & (holey["case"] == "s0"), "value"] = np.nan
    lines = tables.page(_first(holey), "Table 1").splitlines()
    blocks = ["## DSC, fraction", "## HD95, mm", "## AVD, mL", "## predicted and true volume"]
    assert [line for line in lines if line.startswith("## ")] == blocks
    assert lines[4] == "| row | mean | median | IQR width | mean - FS-STKi | p (Holm) | scans | status |"
    (first, distance, *_) = [line for line in lines if line.startswith("| `ALL-STKi-SA` |")]
    cells = first.removeprefix("| `ALL-STKi-SA` | ").split(" | ")
    assert cells[0].startswith("0.2554 \\| 0.568 [")
    assert cells[1].startswith("0.237 \\| 0.5")
    assert cells[2] == "0.395 \\| 0.350"
    assert cells[3].startswith("+0.035 [+0.0")
    assert cells[4:] == ["0.031 (0.062)", "6", "1 seed |"]
    assert " | 5, 1 without | " in distance
    (missing, *_) = [line for line in lines if line.startswith("| `STKn-STKi` |")]
    assert missing == "| `STKn-STKi` | 0.2195 \\| - | 0.133 \\| - | 0.396 \\| - | - | - | 0 | not yet |"
    assert "Published numbers are of icoAIS, not of these scans." in lines[-1]


def test_a_page_names_the_criterion_where_there_are_two_and_can_hold_ours_alone(three):
    scores, _ = three
    kept = scores[scores["method"] != "STKp-STKi"]
    lines = tables.page(tables.table3_test(kept, kept, _status(kept), RUN), "Table 3").splitlines()
    assert sum(line.startswith("| `FS-STKi`, lesions > 3 mL |") for line in lines) == 3
    frozen = scores[scores["method"] == "FS-STKi"].assign(method="0 %")
    alone = tables.page(tables.table_freezing(frozen, _status(frozen), RUN), "F", baseline="0 %", published_on="")
    assert "published" not in alone.lower()
    assert "\\|" not in alone
    assert "| mean - 0 % |" in alone


def test_a_p_value_is_never_shown_as_zero():
    assert estimates.p_text(0.0004) == "< 0.001"
    assert estimates.p_text(0.0123) == "= 0.012"
    assert estimates.p_text(1.0) == "= 1.000"


def test_every_table_of_the_ledger_for_this_paper_has_its_maker():
    ledger = manifest.artefacts()
    makers = ledger.loc[(ledger["paper"] == "ssl_nnunet") & (ledger["kind"] != "figure"), "maker"]
    assert len(makers) == 6
    assert [m for m in makers if not callable(getattr(tables, m.rsplit(".", 1)[1], None))] == []
