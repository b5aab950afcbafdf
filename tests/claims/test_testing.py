"""What scores say of a claim: an effect that is there, one that is not, one seed, a row that did not learn."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from strokelib import claims
from strokelib.claims import records, testing
from strokelib.errors import ManifestError
from strokelib.stats import crossed_difference, wilcoxon_signed_rank

BY_ID = {one.id: one for one in claims.all_claims()}
ADDED, ALIGNED = BY_ID["papl_added_unet_aisd"], BY_ID["papl_align_unet_aisd"]


def lines(claim, values, row, *, score="", scans_a_patient=1, lesions="all", table=""):
    """Values (seeds, scans) of a row as the file has them."""
    names = [(f"scan-{k:02d}", f"patient-{k // scans_a_patient:02d}") for k in range(values.shape[1])]
    fixed = (claim.paper, table or claim.table, row, "claims", claim.cohort, claim.part, lesions)
    seeds = [records.NOT_TRAINED] if table == records.REFERENCE else range(len(values))
    return [
        (*fixed, seed, *name, score or claim.score, value)
        for seed, of in zip(seeds, values, strict=True)
        for name, value in zip(names, of, strict=True)
    ]


def campaign(claim, a, b, reference=None, **how):
    made = lines(claim, a, claim.ours_a, **how) + lines(claim, b, claim.ours_b, **how)
    if reference is not None:
        made += lines(claim, reference, "hu_threshold", score="dice", table=records.REFERENCE, **how)
    return pd.DataFrame(made, columns=list(records.SCORE_COLUMNS))


def of(claim, table):
    return testing.tested(table, [claim]).iloc[0]


def pair(gain, n_seeds=5, n=40, seeds=0.005, rest=0.02, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.uniform(0.2, 0.6, n)
    draw = lambda up: up + base + rng.normal(0, seeds, (n_seeds, 1)) + rng.normal(0, rest, (n_seeds, n))  # noqa: E731
    return draw(gain), draw(0.0)


def test_an_effect_that_is_there_is_found_with_the_numbers_of_the_statistics():
    a, b = pair(0.05)
    found = of(ADDED, campaign(ADDED, a, b, np.full((1, 40), 0.1)))
    wanted = crossed_difference(a, b)
    assert found["verdict"] == "supported"
    assert (found["learnt_a"], found["learnt_b"]) == ("yes", "yes")
    for name, value in (("effect", wanted.value), ("low", wanted.low), ("high", wanted.high), ("se", wanted.se)):
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert found["mde"] == pytest.approx(wanted.detectable(), rel=1e-5)
    assert found["p"] == pytest.approx(wilcoxon_signed_rank(a.mean(axis=0), b.mean(axis=0)).p, rel=1e-5)
    assert (found["n_patients"], found["n_seeds"], found["resolves"]) == (40, 5, "yes")
    assert found["patients_low"] < found["effect"] < found["patients_high"]
    assert found["seeds_low"] < found["effect"] < found["seeds_high"]


def test_the_opposite_contradicts():
    b, a = pair(0.05)
    assert of(ADDED, campaign(ADDED, a, b, np.full((1, 40), 0.1)))["verdict"] == "contradicted"


def test_no_effect_is_not_found():
    verdicts = [of(ADDED, campaign(ADDED, *pair(0.0, seed=seed)))["verdict"] for seed in range(12)]
    assert verdicts.count("inconclusive") >= 11


def test_rows_that_are_alike_on_every_scan_resolve_nothing():
    found = of(ADDED, campaign(ADDED, *[np.zeros((3, 40))] * 2, np.full((1, 40), 0.1)))
    assert (found["mde"], found["resolves"], found["verdict"]) == (0.0, "no", "inconclusive")
    assert "same score on every scan, so that nothing can be detected" in found["reason"]


def test_one_seed_is_inconclusive_whatever_its_interval():
    found = of(ADDED, campaign(ADDED, *pair(0.2, n_seeds=1)))
    assert found["verdict"] == "inconclusive (1 seed)"
    assert found["low"] > 0
    assert math.isnan(found["seeds_low"])


def test_trainings_that_differ_more_than_the_effect_leave_it_open():
    a, b = pair(0.05, n_seeds=3, seeds=0.06, seed=1)
    found = of(ADDED, campaign(ADDED, a, b))
    assert found["patients_low"] > 0 or found["patients_high"] < 0
    assert found["verdict"] == "inconclusive"
    assert found["resolves"] == "no"


def test_a_row_below_the_reference_did_not_learn_and_contradicts_nothing():
    b, a = pair(0.05)
    found = of(ADDED, campaign(ADDED, a, b, b.mean(axis=0, keepdims=True) - 0.02))
    assert found["verdict"] == "inconclusive"
    assert (found["learnt_a"], found["learnt_b"]) == ("no", "yes")
    assert f"did not learn: {ADDED.ours_a}" in found["reason"]


def test_of_two_rows_without_the_network_the_better_one_counts():
    a, b = pair(0.05)
    table = campaign(ADDED, a, b, np.full((1, 40), 0.1))
    better = lines(ADDED, np.full((1, 40), 0.9), "side", score="dice", table=records.REFERENCE)
    table = pd.concat([table, pd.DataFrame(better, columns=table.columns)])
    assert of(ADDED, table)["learnt_a"] == "no"


def test_a_lower_score_that_is_better_counts_as_a_gain():
    claim = BY_ID["adn_filled_in_hd95"]
    b, a = pair(3.0)
    found = of(claim, campaign(claim, a, b))
    assert found["effect"] == pytest.approx(b.mean() - a.mean(), rel=1e-5)
    assert 0 < found["low"] < found["high"]
    assert found["verdict"] == "supported"


def test_scans_of_one_patient_count_once():
    a, b = pair(0.05, n=40)
    claim = BY_ID["pseudo_dwi_slnet_unet_dice"]
    found = of(claim, campaign(claim, a, b, scans_a_patient=2))
    assert (found["n_scans"], found["n_patients"]) == (40, 20)
    halved = [one.reshape(len(one), 20, 2).mean(axis=2) for one in (a, b)]
    assert found["se"] == pytest.approx(crossed_difference(*halved).se, rel=1e-5)


def test_a_patient_without_a_distance_is_left_out_of_both_rows():
    a, b = pair(-3.0)
    a[2, 7] = np.nan
    claim = BY_ID["adn_filled_in_hd95"]
    found = of(claim, campaign(claim, a, b))
    assert (found["n_patients"], found["n_dropped"]) == (39, 1)


def test_a_stratum_takes_the_scans_of_its_volumes():
    claim = BY_ID["papl_small_dice"]
    a, b = pair(0.05)
    volumes = np.where(np.arange(40) < 30, 20.0, 90.0)
    truth = lines(claim, volumes[None], records.TRUTH, score=records.VOLUME, table=records.REFERENCE)
    table = pd.concat([campaign(claim, a, b), pd.DataFrame(truth, columns=list(records.SCORE_COLUMNS))])
    found = of(claim, table)
    assert found["n_patients"] == 30
    assert found["mean_a"] == pytest.approx(a[:, :30].mean(), rel=1e-5)


def test_lesions_above_3_ml_are_scored_by_their_own_criterion():
    names = {one.id for one in claims.all_claims() if testing.lesions_of(one) == records.ABOVE}
    assert names == {one.id for one in claims.all_claims() if ">3 mL" in one.lesion_filter}
    assert len(names) > 4


def test_claims_of_one_group_are_adjusted_together_and_others_apart():
    tables = []
    for claim in (ADDED, BY_ID["papl_added_cenet_aisd"], ALIGNED):
        tables.append(campaign(claim, *pair(0.02, seed=len(tables))))
    found = testing.tested(pd.concat(tables), [ADDED, BY_ID["papl_added_cenet_aisd"], ALIGNED])
    assert found["n_family"].tolist() == [2, 2, 1]
    first, second, alone = found["p_holm"]
    assert alone == pytest.approx(found["p"][2])
    assert min(first, second) == pytest.approx(2 * found["p"][:2].min(), rel=1e-4)


def test_what_was_not_trained_or_is_hidden_says_why():
    empty = campaign(ADDED, *pair(0.05))
    found = testing.tested(empty)
    assert len(found) == len(BY_ID)
    hidden = found[found["id"] == "pseudo_dwi_isles_liu_dice"].iloc[0]
    assert hidden["verdict"] == "not testable here"
    assert hidden["reason"] == BY_ID["pseudo_dwi_isles_liu_dice"].note
    open_ = found[found["id"] == ALIGNED.id].iloc[0]
    assert open_["verdict"] == "not testable here"
    assert "strokelib claims --only papl_align_unet_aisd" in open_["reason"]
    assert found["published"].notna().all()


def test_trainings_that_still_improved_are_counted():
    table = campaign(ADDED, *pair(0.05, n_seeds=3))
    fixed = ("papl", "3", ADDED.ours_a, "claims", "aisd", "test", "all")
    flags = [(*fixed, seed, "", "", records.UNDERTRAINED, float(seed == 1)) for seed in range(3)]
    found = of(ADDED, pd.concat([table, pd.DataFrame(flags, columns=table.columns)]))
    assert found["undertrained"] == "1 of 3"
    assert "1 of 3 trainings still improved" in found["reason"]


def test_equal_scores_are_written_to_equal_bytes_whatever_their_order_and_read_back(tmp_path):
    table = campaign(ADDED, *pair(0.05))
    table.loc[3, "value"] = np.nan
    first = records.write_scores(table, tmp_path / "a.csv.gz")
    second = records.write_scores(table.sample(frac=1, random_state=1), tmp_path / "b.csv.gz")
    assert first.read_bytes() == second.read_bytes()
    back = records.scores(first)
    assert len(back) == len(table)
    assert back["value"].isna().sum() == 1
    assert back["value"].max() == pytest.approx(table["value"].max(), rel=1e-5)


def test_results_read_back_are_those_computed(tmp_path):
    found = testing.tested(campaign(ADDED, *pair(0.05)))
    records.write_results(found, tmp_path / "results.csv")
    assert records.results(tmp_path / "results.csv").equals(found)


def test_a_line_that_stands_twice_or_a_missing_file_is_refused(tmp_path):
    table = campaign(ADDED, *pair(0.05))
    with pytest.raises(ManifestError, match="twice"):
        records.write_scores(pd.concat([table, table.iloc[:1]]), tmp_path / "a.csv.gz")
    with pytest.raises(ManifestError, match="strokelib claims"):
        records.scores(tmp_path / "none.csv.gz")
    (tmp_path / "results.csv").write_text("id,paper\n1,papl\n", "utf-8")
    with pytest.raises(ManifestError, match="results"):
        records.results(tmp_path / "results.csv")


def test_the_verdict_of_a_wide_interval_does_not_complain_of_few_seeds():
    found = dataclasses.replace(crossed_difference(*pair(0.05, n_seeds=3)))
    said = [claims.verdict_of(ADDED, found, 3, wide=wide).reason for wide in (False, True)]
    assert "too few" in said[0]
    assert "too few" not in said[1]


def test_scans_of_a_single_patient_decide_nothing():
    claim = BY_ID["pseudo_dwi_slnet_unet_dice"]
    a, b = pair(0.05, n=2)
    found = of(claim, campaign(claim, a, b, np.full((1, 2), 0.1), scans_a_patient=2))
    assert found["verdict"] == "not testable here"
    assert "fewer than two" in found["reason"]
    assert (found["n_patients"], found["learnt_a"]) == (1, "")
