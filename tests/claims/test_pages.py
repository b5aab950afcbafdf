"""The claims as a reader sees them, on made results."""

import numpy as np
import pandas as pd
import pytest

from strokelib.claims import all_claims, pages, published_verdict
from strokelib.errors import ManifestError

SCORED = {
    "papl_align_unet_aisd": ("supported", 0.02, 0.01, 0.03, 3, "yes"),
    "papl_align_unet_xwhd": ("contradicted", -0.02, -0.03, -0.01, 3, "no"),
    "adn_filled_in_hd95": ("inconclusive", 1.5, -2.0, 5.0, 3, "no"),
    "ssl_nnunet_all_scratch_val": ("inconclusive (1 seed)", 0.01, 0.005, 0.015, 1, "no"),
}


@pytest.fixture
def results():
    lines = []
    for claim in all_claims():
        line = {"id": claim.id, "verdict": "not testable here", "reason": claim.note or "not trained", "resolves": ""}
        line |= dict.fromkeys(("effect", "low", "high", "n_patients", "n_seeds", "mde", "p_holm"), np.nan)
        line |= {"learnt_a": "", "learnt_b": "", "undertrained": ""}
        if claim.id in SCORED:
            verdict, effect, low, high, seeds, resolves = SCORED[claim.id]
            line |= {"effect": effect, "low": low, "high": high, "n_seeds": seeds, "verdict": verdict}
            line |= {"n_patients": 52, "mde": 0.015, "p_holm": 0.01, "resolves": resolves, "reason": "made | up"}
            line |= {"learnt_a": "yes", "learnt_b": "yes", "undertrained": "0 of 6"}
        lines.append(line)
    return pd.DataFrame(lines)


def test_every_claim_stands_once_with_both_verdicts_and_its_unit(results):
    table = pages.ledger_table(results)
    assert list(table["id"]) == [claim.id for claim in all_claims()]
    assert list(table) == list(pages.COLUMNS)
    for claim, line in zip(all_claims(), table.itertuples(), strict=True):
        said = published_verdict(claim)
        assert (line.published, line.published_verdict) == (said.gain, said.verdict)
    by_id = table.set_index("id")
    assert by_id.loc["adn_filled_in_hd95", "unit"] == "mm"
    assert by_id.loc["pseudo_dwi_end_to_end_rve", "unit"] == "relative"
    assert set(pages.tested_only(table)["id"]) == set(SCORED)


@pytest.mark.parametrize(
    "spoil", [lambda t: t.iloc[1:], lambda t: t.iloc[::-1], lambda t: t.replace("adn_tissue_dice", "x")]
)
def test_results_of_other_claims_are_refused(results, spoil):
    with pytest.raises(ManifestError, match="run strokelib claims again"):
        pages.ledger_table(spoil(results))


def test_rows_are_told_apart_by_cohort_part_stratum_and_channels():
    named = {claim.id: pages.rows_of(claim) for claim in all_claims()}
    assert named["papl_align_unet_aisd"] == "U-Net (aligned) − U-Net (unaligned), aisd"
    assert named["papl_small_dice"] == "PAPL − U-Net, aisd, ≤ 70 mL"
    assert named["papl_chosen_lambdas"] == "0.6, 0.3 − 0.5, 0.5, aisd"
    assert named["ssl_nnunet_best_scratch_val_3ml"] == "ALL-STKi-SA − FS-STKi, icoais, val, > 3 mL"
    assert named["ssl_nnunet_difference_pretrained"].endswith("2 channels")
    shown = [(text, claim.score) for claim in all_claims() for text in [named[claim.id]]]
    assert len(set(shown)) == len(shown)


def test_counts_hold_every_claim_once_a_source(results):
    table = pages.ledger_table(results)
    counted = pages.counts(table)
    assert counted.groupby("source")["claims"].sum().to_dict() == {"ours": len(table), "published": len(table)}
    ours = counted[counted["source"] == "ours"].set_index(["paper", "verdict"])["claims"]
    assert ours["papl", "supported"] == ours["papl", "contradicted"] == 1
    assert ours["ssl_nnunet", "inconclusive (1 seed)"] == 1
    assert ours["pseudo_dwi", "not testable here"] == (table["paper"] == "pseudo_dwi").sum()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "1 seed"),
        ({"n_seeds": 3.0}, "done"),
        ({"undertrained": "2 of 6"}, "undertrained"),
        ({"undertrained": "2 of 6", "learnt_b": "no"}, "did not learn"),
        ({"effect": np.nan}, "not testable here"),
    ],
)
def test_the_status_is_that_of_the_weakest_row(results, change, status):
    for column, value in change.items():
        results.loc[results["effect"].notna(), column] = value
    assert pages.status_of(results) == status


def test_a_picture_names_the_cohorts_and_seeds_behind_it():
    scores = pd.DataFrame({"cohort": ["xwhd", "aisd", "xwhd"], "seed": [0, 4, 2]})
    assert pages.made_of(scores, "done") == {"cohort": "aisd, xwhd", "seed": "0 to 4", "status": "done"}


def test_the_page_shows_printed_and_ours_apart_and_breaks_no_table(results):
    page = pages.page(pages.ledger_table(results))
    lines = [line for line in page.splitlines() if line.startswith("| ") and "(`" in line]
    assert len(lines) == len(all_claims())
    assert {line.replace("\\|", "").count("|") for line in lines} == {8}
    (aligned,) = [line for line in lines if "papl_align_unet_aisd" in line]
    assert "| dice +0.029 |" in aligned
    assert (
        "| +0.020 [+0.010, +0.030], n = 52, 3 seeds | **0.015** | supported | the interval excludes 0; p = 0.01 |"
        in aligned
    )
    (distance,) = [line for line in lines if "adn_filled_in_hd95" in line]
    assert "| hd95 +0.7 mm |" in distance
    assert "| +1.5 mm [−2.0, +5.0], n = 52, 3 seeds | 0.0 | inconclusive | the interval holds 0 |" in distance
    (hidden,) = [line for line in lines if "ssl_nnunet_apis_dice" in line]
    assert "| - | - | not testable here | Said to be significant" in hidden


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learnt_a": "no"}, "the first row did not learn; the interval excludes 0; p = 0.01"),
        ({"learnt_b": "no"}, "the second row did not learn; the interval excludes 0; p = 0.01"),
        ({"learnt_a": "no", "learnt_b": "no", "p_holm": np.nan}, "neither row learnt; the interval excludes 0"),
        ({"low": 0.0, "high": 0.0, "effect": 0.0, "resolves": "no"}, "no scan differs"),
        ({"low": -0.1}, "the interval holds 0"),
    ],
)
def test_why_says_which_row_learnt_and_where_the_interval_lies(results, change, said):
    table = pages.ledger_table(results)
    one = table[table["id"] == "papl_align_unet_aisd"].assign(**change)
    assert pages.why(next(one.itertuples())) == said
    (shown,) = [line for line in pages.page(one).splitlines() if "papl_align" in line]
    assert ("| - | supported |" in shown) == (said == "no scan differs")
