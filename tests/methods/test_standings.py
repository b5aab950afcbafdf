"""Where rows stand: ranks, pairs, agreement and resolution, on made scores."""

import itertools

import numpy as np
import pandas as pd
import pytest

from strokelib import stats
from strokelib.methods import standings
from strokelib.methods.every_row import Comparison, Row
from strokelib.settings import resolve

SETTINGS = resolve("demo", "aisd", 0)
N = 30


def made(steps=None, n=N, nothing=()):
    """Rows whose Dice differs by known steps; ``nothing`` names those that never find anything."""
    rng, rows = np.random.default_rng(0), {}
    ease, true = rng.uniform(0.2, 0.5, n), rng.uniform(2, 80, n)
    scans = [f"s{i:02d}" for i in range(n)]
    for name, step in (steps or {"good": 0.2, "fair": 0.02, "poor": 0.0, "rule": -0.1}).items():
        dice = np.zeros(n) if name in nothing else ease + step + rng.normal(0, 0.03, n)
        predicted = np.zeros(n) if name in nothing else true * (1 + step) + rng.normal(0, 2, n)
        columns = {"dice": dice, "pred_volume_ml": predicted, "truth_volume_ml": true}
        lines = [(scan, metric, v) for metric, vs in columns.items() for scan, v in zip(scans, vs, strict=True)]
        paper = "none" if name == "rule" else "papl"
        scores = pd.DataFrame(lines, columns=["case", "metric", "value"])
        rows[name] = Row(name, paper, "done" if name == "rule" else "1 seed", (name,) * (name != "rule"), scores)
    return Comparison(SETTINGS, rows, {scan: scan for scan in scans})


def test_rows_stand_by_mean_rank_with_the_librarys_estimates():
    one = made()
    table = standings.standings(one)
    assert table["row"].tolist() == ["good", "fair", "poor", "rule"]
    assert table["mean_rank"].is_monotonic_increasing
    values = {name: one.values(name) for name in ("dice", "pred_volume_ml", "truth_volume_ml")}
    first = table.iloc[0]
    limits = stats.bland_altman(values["pred_volume_ml"]["good"], values["truth_volume_ml"]["good"])
    assert (first["bias_ml"], first["upper_ml_high"]) == (limits.bias.value, limits.upper.high)
    ratings = stats.icc(values["pred_volume_ml"]["good"], values["truth_volume_ml"]["good"])
    assert (first["icc_agreement"], first["icc_consistency"]) == (ratings.agreement.value, ratings.consistency.value)
    assert first["dice"] == pytest.approx(values["dice"]["good"].mean())
    assert set(table["n"]) == {N}
    assert (table["dice_low"] < table["dice"]).all()


def test_a_row_that_finds_nothing_has_a_bias_and_no_rank_correlation():
    table = standings.standings(made(nothing=("poor",))).set_index("row")
    assert table.loc["poor", "dice"] == 0
    assert table.loc["poor", "bias_ml"] < 0
    assert np.isnan(table.loc["poor", "spearman"])


def test_every_pair_stands_once_the_better_row_first():
    one = made()
    pairs = standings.pair_table(one)
    assert len(pairs) == 6
    assert (pairs["difference"] >= 0).all()
    assert {frozenset(pair) for pair in zip(pairs["row"], pairs["baseline"], strict=True)} == {
        frozenset(pair) for pair in itertools.combinations(one.rows, 2)
    }
    values = one.values("dice")
    for line in pairs.itertuples():
        gaps = values[line.row] - values[line.baseline]
        assert line.p == stats.wilcoxon_signed_rank(values[line.row], values[line.baseline]).p
        assert line.sd == pytest.approx(gaps.std(ddof=1))
        assert line.detectable == stats.minimum_detectable_difference(line.sd, N).value
    assert pairs["p_holm"].tolist() == list(stats.holm(pairs["p"]).adjusted)


def test_the_critical_difference_tells_pairs_apart_as_their_ranks_lie():
    one = made()
    found, pairs = standings.ranking(one), standings.pair_table(one)
    assert pairs["nemenyi"].tolist() == (pairs["rank_gap"].abs() >= found.critical_difference).tolist()
    counted = standings.pair_counts(pairs)
    assert counted.loc[0, "nemenyi"] == pairs["nemenyi"].sum()
    assert counted.loc[0, "holm"] == (pairs["p_holm"] < 0.05).sum()
    assert counted.loc[0, "both"] <= min(counted.loc[0, "holm"], counted.loc[0, "nemenyi"])
    assert counted.loc[0, ["pairs", "n"]].tolist() == [6, N]


def test_equal_rows_are_not_told_apart_and_unequal_ones_are():
    same = standings.pair_counts(standings.pair_table(made({"a": 0.1, "b": 0.1, "c": 0.1})))
    apart = standings.pair_counts(standings.pair_table(made({"a": 0.3, "b": 0.15, "c": 0.0})))
    assert same.loc[0, ["holm", "nemenyi"]].tolist() == [0, 0]
    assert apart.loc[0, ["holm", "nemenyi"]].tolist() == [3, 3]


def test_too_few_patients_give_no_rank_no_pair_and_no_interval():
    one = made(n=2)
    assert standings.ranking(one) is None
    assert standings.pair_table(one).empty
    assert standings.pair_counts(standings.pair_table(one)).empty
    table = standings.standings(one)
    assert table[["mean_rank", "dice", "bias_ml", "spearman"]].isna().all(axis=None)
    assert standings.resolution(one).pairs == 0


def test_what_is_resolved_rests_on_pairs_of_networks_that_find_something():
    one = made({"good": 0.2, "fair": 0.02, "poor": 0.0, "rule": -0.1}, nothing=("poor",))
    found = standings.resolution(one)
    values = one.values("dice")
    assert found.pairs == 1
    assert found.sd == pytest.approx([(values["good"] - values["fair"]).std(ddof=1)] * 3)
    assert found.patients == N


def test_the_page_shows_each_row_with_its_status_and_a_real_minus_sign():
    page = standings.page(standings.standings(made(nothing=("poor",))))
    (poor,) = [line for line in page.splitlines() if line.startswith("| `poor`")]
    (rule,) = [line for line in page.splitlines() if line.startswith("| `rule`")]
    assert poor.count("|") == rule.count("|") == 11
    assert "−" in poor
    assert poor.endswith("| - | 1 seed |")
    assert rule.endswith("| no network |")
    assert "## aisd (embedded)" in page
