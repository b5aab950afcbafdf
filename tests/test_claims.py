"""Claims name printed cells that exist, and verdicts follow from them by hand-worked numbers."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
from collections import Counter

import pytest

from strokelib import claims, manifest, settings
from strokelib.claims import ledger, verdicts
from strokelib.errors import ManifestError, ParameterError
from strokelib.stats import Estimate, minimum_detectable_difference

ALL = claims.all_claims()
BY_ID = {one.id: one for one in ALL}
DIRECTIONS = {"up": "higher", "down": "lower"}


def located(claim, side):
    return ledger.cells(claim, side, claim.table_of(side), "mean")


def interval(low, high):
    return Estimate((low + high) / 2, low, high, 0.95)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the ledger that a test may damage, and how to do it."""
    folder = tmp_path / "data_manifests"
    folder.mkdir()
    shutil.copytree(settings.manifests_dir() / "reported", folder / "reported")
    text = (settings.manifests_dir() / "claims.csv").read_text("utf-8")
    monkeypatch.setattr(settings, "manifests_dir", lambda: folder)

    def damage(old, new):
        assert old in text
        (folder / "claims.csv").write_text(text.replace(old, new, 1), "utf-8")

    return damage


def test_each_paper_makes_at_least_eight_of_more_than_a_hundred_claims():
    counts = Counter(one.paper for one in ALL)
    assert len(ALL) > 100
    assert set(counts) == set(manifest.PAPERS)
    assert min(counts.values()) >= 8


def test_the_readme_states_how_many_claims_there_are():
    assert f"| `claims.csv` | {len(ALL)} |" in (settings.manifests_dir() / "README.md").read_text("utf-8")


@pytest.mark.parametrize("claim", ALL, ids=lambda one: one.id)
def test_a_claim_names_two_printed_cells_and_the_direction_that_is_better(claim):
    found = [located(claim, side) for side in "ab"]
    assert [len(cells) for cells in found] == [1, 1]
    assert not found[0].index.equals(found[1].index) or claim.table_of("a") != claim.table_of("b")
    for cells in found:
        assert DIRECTIONS[cells["direction"].iloc[0]] == claim.better
        assert math.isfinite(cells["value"].iloc[0])
    assert claim.id.startswith(f"{claim.paper}_")
    assert claim.claim.endswith(".")
    assert claim.where


@pytest.mark.parametrize("claim", ALL, ids=lambda one: one.id)
def test_no_printed_number_is_typed_again(claim):
    typed = " ".join((claim.claim, claim.where, claim.group, claim.note))
    for cell in claims.published_difference(claim).cells:
        assert not re.search(rf"(?<![\d.]){re.escape(cell)}(?![\d.])", typed)


def test_no_two_claims_rest_on_the_same_two_cells():
    pairs = [
        frozenset((one.paper, one.table_of(side), one.metric, *located(one, side).index) for side in "ab")
        for one in ALL
    ]
    assert max(Counter(pairs).values()) == 1


def test_numbers_of_scans_are_those_printed_with_the_cells_or_of_the_cohort():
    table = manifest.cohorts()
    for one in ALL:
        cells = located(one, "a").iloc[0]
        said = re.findall(r"n=(\d+)|(\d+) scans", f"{cells['lesion_filter']} {cells['split']} {cells['note']}")
        numbers = {int(number) for pair in said for number in pair if number}
        if one.paper == "papl":
            numbers = {{"<=70": 44, ">70": 8}.get(one.lesion_filter[15:-3], int(table.loc[one.cohort, "test"]))}
        assert numbers == ({one.n} if one.n else set()), one.id


def test_the_two_parts_of_volume_make_up_the_test_scans():
    assert BY_ID["papl_small_dice"].n + BY_ID["papl_large_dice"].n == BY_ID["papl_added_unet_aisd"].n


PRINTED = [
    ("papl_align_unet_aisd", 0.4866, 0.4578, 0.0288),
    ("papl_large_dice", 0.7726, 0.7606, 0.0120),
    ("adn_filled_in_dice", 0.5245, 0.4850, 0.0395),
    ("adn_filled_in_hd95", 39.18, 39.87, 0.69),
    ("adn_original_images_dice", 0.5245, 0.4763, 0.0482),
    ("ssl_nnunet_best_scratch_val", 0.2554, 0.1981, 0.0573),
    ("ssl_nnunet_difference_scratch", 0.2445, 0.1981, 0.0464),
    ("ssl_nnunet_best_labels_avd_test_3ml", 23.27, 22.24, -1.03),
    ("ssl_nnunet_apis_hd", 66.02, 59.64, -6.38),
    ("pseudo_dwi_image_maps_dice", 0.6211, 0.5937, 0.0274),
    ("pseudo_dwi_end_to_end_rve", 0.68, 0.91, 0.23),
    ("pseudo_dwi_isles_liu_dice", 0.51, 0.49, 0.02),
]


@pytest.mark.parametrize(("name", "a", "b", "gain"), PRINTED)
def test_a_published_difference_is_positive_where_it_goes_as_claimed_and_in_the_unit_of_our_scores(name, a, b, gain):
    found = claims.published_difference(BY_ID[name])
    assert (found.a, found.b) == pytest.approx((a, b))
    assert found.gain == pytest.approx(gain)


def test_the_cells_are_kept_as_printed():
    assert claims.published_difference(BY_ID["pseudo_dwi_image_maps_dice"]).cells == ("62.11±17.18", "59.37±15.73")


SPREADS = [
    # The eighth of fifteen rows of Table II, the third of five of Table V, worked out by hand.
    ("papl_added_unet_aisd", (0.2348, 0.2348), "Jaccard"),
    ("papl_added_unet_xwhd", (0.2091, 0.2091), "Jaccard"),
    ("papl_small_dice", (0.2306, 0.2306), "Jaccard"),
    ("papl_large_dice", (0.0570, 0.0570), "Jaccard"),
    ("adn_filled_in_dice", (0.2348, 0.2348), "Jaccard"),
    # Printed in the text beside the means of Table 1.
    ("ssl_nnunet_best_scratch_val", (0.225, 0.214), "as printed"),
    ("ssl_nnunet_apis_dice", (0.25, 0.30), "as printed"),
    ("pseudo_dwi_image_maps_dice", (0.1718, 0.1573), "as printed"),
    ("pseudo_dwi_image_maps_hd", (13.17, 13.67), "as printed"),
    # 0.225 / 0.395 is the middle one of three ratios.
    ("ssl_nnunet_stkp_stkn", (0.431 * 0.225 / 0.395, 0.396 * 0.225 / 0.395), "interquartile"),
    ("ssl_nnunet_best_scratch_hd95", (33.45 / 1.349, 14.48 / 1.349), "interquartile"),
    # (30.80 / 43.76 + 32.85 / 45.72) / 2 is the median of eight.
    ("adn_tissue_hd95", (39.18 * 0.71117 / 1.349, 39.66 * 0.71117 / 1.349), "guessed"),
]


@pytest.mark.parametrize(("name", "sd", "source"), SPREADS)
def test_spreads_are_printed_or_assumed_as_said(name, sd, source):
    found = claims.spreads_of(BY_ID[name])
    assert tuple(one.sd for one in found) == pytest.approx(sd, rel=1e-3)
    assert all(source in one.source for one in found)


def test_one_row_may_print_its_sd_where_the_other_does_not():
    first, second = claims.spreads_of(BY_ID["ssl_nnunet_symmetry_all"])
    assert (first.sd, "as printed" in first.source) == (0.225, True)
    assert second.sd == pytest.approx(0.473 * 0.225 / 0.395)


def test_an_sd_in_the_text_belongs_to_the_row_with_its_mean_alone():
    with_difference, plain = claims.spreads_of(BY_ID["ssl_nnunet_difference_scratch"])
    assert plain.sd == 0.214
    assert with_difference.sd == pytest.approx(0.470 * 0.225 / 0.395)


def test_volumes_have_no_spread():
    first, second = claims.spreads_of(BY_ID["ssl_nnunet_best_labels_avd_test"])
    assert math.isnan(first.sd)
    assert math.isnan(second.sd)


@pytest.mark.parametrize(
    ("a", "b", "r", "sd"), [(3, 4, 0, 5), (3, 4, 0.5, math.sqrt(13)), (2, 2, 0.5, 2), (2, 2, 1, 0)]
)
def test_the_spread_of_a_difference_follows_from_both_and_their_correlation(a, b, r, sd):
    assert verdicts.sd_of_difference(a, b, r) == pytest.approx(sd)


@pytest.mark.parametrize(("sd", "n", "bound"), [(1, 2, 8.9846), (2, 25, 0.82556), (0, 9, 0)])
def test_the_bound_is_half_an_interval_of_student_s_t(sd, n, bound):
    assert verdicts.bound_of(sd, n) == pytest.approx(bound, rel=1e-4)


JUDGED = [
    # Bounds on AISD, 52 scans and an SD of 0.2348: 0.0585, 0.0413 and 0.0292.
    ("papl_added_unet_aisd", "supported", "at each correlation tried"),
    ("papl_best_isnet_aisd", "cannot be told", "depends on the correlation"),
    ("papl_align_unet_aisd", "not supported", "at any correlation tried"),
    ("papl_small_precision", "cannot be told", "no spread"),
    ("pseudo_dwi_image_real_dice", "supported", "at each correlation tried"),
    ("pseudo_dwi_image_maps_dice", "not supported", "at any correlation tried"),
    ("ssl_nnunet_best_scratch_val", "supported", "own paired test finds it"),
    ("ssl_nnunet_best_scratch_test", "not supported", "own paired test does not find it"),
    ("ssl_nnunet_best_labels_avd_test_3ml", "not supported", "not in the claimed direction"),
    ("ssl_nnunet_best_labels_avd_test", "cannot be told", "no spread"),
    ("ssl_nnunet_apis_dice", "cannot be told", "number of scans"),
    ("ssl_nnunet_apis_hd", "not supported", "not in the claimed direction"),
]


@pytest.mark.parametrize(("name", "verdict", "reason"), JUDGED)
def test_published_numbers_support_a_claim_or_not_for_a_reason(name, verdict, reason):
    found = claims.published_verdict(BY_ID[name])
    assert found.verdict == verdict
    assert reason in found.reason


def test_bounds_and_detectable_differences_of_one_claim_by_hand():
    found = claims.published_verdict(BY_ID["papl_added_unet_aisd"])
    assert found.bounds == pytest.approx({0.6: 0.05847, 0.8: 0.04134, 0.9: 0.02923}, rel=1e-3)
    sd = {r: 0.234835 * math.sqrt(2 * (1 - r)) for r in (0.6, 0.8, 0.9)}
    wanted = {r: minimum_detectable_difference(one, 52).value for r, one in sd.items()}
    assert found.detectable == pytest.approx(wanted, rel=1e-4)


def test_a_difference_equal_to_the_bound_is_not_more_than_scans_explain():
    claim = BY_ID["papl_added_unet_aisd"]
    verdict, _ = verdicts._published(claim, 0.05, {0.6: 0.05, 0.9: 0.05}, "")
    assert verdict == "not supported"


def test_every_claim_has_a_verdict_with_a_reason_and_all_three_words_occur():
    found = [claims.published_verdict(one) for one in ALL]
    assert {one.verdict for one in found} == {"supported", "not supported", "cannot be told"}
    assert all(len(one.reason) > 20 for one in found)
    assert all(one.detectable[r] > one.bounds[r] for one in found for r in one.bounds)
    assert all(list(one.bounds.values()) == sorted(one.bounds.values(), reverse=True) for one in found)


HIGHER, LOWER = BY_ID["papl_added_unet_aisd"], BY_ID["pseudo_dwi_end_to_end_hd"]
OURS = [
    (HIGHER, interval(0.01, 0.05), 5, {}, "supported"),
    (HIGHER, interval(-0.05, -0.01), 5, {}, "contradicted"),
    (HIGHER, interval(-0.01, 0.05), 5, {}, "inconclusive"),
    (HIGHER, interval(0.0, 0.05), 5, {}, "inconclusive"),
    (LOWER, interval(-4.0, -1.0), 3, {}, "supported"),
    (LOWER, interval(1.0, 4.0), 3, {}, "contradicted"),
    (HIGHER, interval(0.01, 0.05), 1, {}, "inconclusive (1 seed)"),
    (HIGHER, interval(0.01, 0.05), 5, {"p_adjusted": 0.2}, "inconclusive"),
    (HIGHER, interval(0.01, 0.05), 5, {"p_adjusted": 0.04}, "supported"),
    (HIGHER, interval(0.01, 0.05), 5, {"p_adjusted": 0.04, "alpha": 0.01}, "inconclusive"),
    (HIGHER, interval(0.01, 0.05), 5, {"statuses": ("done", "undertrained")}, "inconclusive"),
    (HIGHER, interval(0.01, 0.05), 5, {"statuses": ("did not learn", "done")}, "inconclusive"),
    (HIGHER, interval(0.01, 0.05), 5, {"statuses": ("done", "hidden test set")}, "not testable here"),
    (HIGHER, None, 0, {}, "not testable here"),
    (HIGHER, interval(math.nan, math.nan), 5, {}, "not testable here"),
    (BY_ID["ssl_nnunet_apis_dice"], interval(0.01, 0.05), 5, {}, "not testable here"),
]


@pytest.mark.parametrize(("claim", "found", "seeds", "how", "verdict"), OURS)
def test_our_verdict_follows_from_the_interval_once_there_are_seeds_and_trained_rows(claim, found, seeds, how, verdict):
    said = claims.verdict_of(claim, found, seeds, **how)
    assert said.verdict == verdict
    assert said.reason


def test_reasons_name_what_decided():
    few, many = (claims.verdict_of(HIGHER, interval(0.01, 0.05), seeds).reason for seeds in (3, 5))
    assert "95% interval of the gain +0.01 to +0.05, 3 seeds, too few" in few
    assert many.endswith("5 seeds")
    assert "−4 to −1" in claims.verdict_of(LOWER, interval(1.0, 4.0), 5).reason
    assert "adjusted p" in claims.verdict_of(HIGHER, interval(0.01, 0.05), 5, p_adjusted=0.2).reason
    assert "organisers" in claims.verdict_of(BY_ID["pseudo_dwi_isles_liu_dice"], None, 0).reason


@pytest.mark.parametrize(
    ("seeds", "how", "said"),
    [
        (0, {}, "seeds"),
        (5, {"statuses": ("finished",)}, "finished"),
        (5, {"p_adjusted": 1.5}, "p_adjusted"),
        (5, {"alpha": 5}, "alpha"),
    ],
)
def test_what_makes_no_sense_is_refused(seeds, how, said):
    with pytest.raises(ParameterError, match=said):
        claims.verdict_of(HIGHER, interval(0.01, 0.05), seeds, **how)


DAMAGE = [
    ("id,paper", "name,paper", "column"),
    (",higher,", ",up,", "better 'up'"),
    (",p > 0.05,", ",ns,", "printed_test 'ns'"),
    ("papl_align_cenet_aisd", "papl_align_unet_aisd", "papl_align_unet_aisd twice"),
    (",N,,52,", ",N,,many,", "claims, papl_align_unet_aisd.*n 'many'"),
    (",N,,52,", ",N,,1,", "claims, papl_align_unet_aisd.*whole number of 2 or more"),
    (",N,,52,", ",N,,5.5,", "claims, papl_align_unet_aisd.*whole number"),
    (",U-Net (unaligned),", ",,", "claims, papl_align_unet_aisd.*both or none"),
]


@pytest.mark.parametrize(("old", "new", "said"), DAMAGE)
def test_a_damaged_ledger_is_refused_by_name(copied, old, new, said):
    copied(old, new)
    with pytest.raises(ManifestError, match=said):
        claims.all_claims()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"row_b": "V-Net"}, "0 cells.*V-Net"),
        ({"aligned_b": ""}, "2 cells, 2 of them"),
        ({"row_b": "SEAN", "aligned_b": "", "metric": "JC"}, "1 cells, 0 of them.*SEAN"),
    ],
)
def test_a_claim_about_a_cell_that_is_not_printed_once_is_refused(changes, said):
    with pytest.raises(ManifestError, match=said):
        claims.published_difference(dataclasses.replace(BY_ID["papl_align_unet_aisd"], **changes))


def test_a_comparison_is_named_with_its_rows_or_is_not_testable():
    shown = BY_ID["papl_align_unet_xwhd"].comparison
    assert shown == "papl, Table 2 (xwhd, test): U-Net (aligned) minus U-Net (unaligned), dice"
    assert "Table B4 and 1 (icoais, val" in BY_ID["ssl_nnunet_difference_scratch"].comparison
    hidden = [one for one in ALL if one.part == "hidden"]
    assert {one.comparison for one in hidden} == {"not testable here"}
    assert all(one.ours_a for one in ALL if one not in hidden)


def test_our_rows_and_scores_are_those_of_the_studies():
    from strokelib.adn import tables as adn_tables
    from strokelib.methods import adn, papl, pseudo_dwi, ssl_nnunet
    from strokelib.papl import tables as papl_tables
    from strokelib.pseudo_dwi import tables as pseudo_dwi_tables
    from strokelib.ssl_nnunet import estimates

    rows = {("adn", "1"): adn.TABLE1} | {("papl", str(number)): of for number, of in papl.RUNS.items()}
    rows |= {("ssl_nnunet", number): ssl_nnunet.TABLE1 for number in "123"}
    rows |= {("ssl_nnunet", number): ssl_nnunet.TABLE_B4 for number in ("B4", "B4;1")}
    of_dwi = (
        pseudo_dwi.SYNTHESIS_LOSSES,
        {**pseudo_dwi.GENERATED_FROM, pseudo_dwi.REAL: {}},
        pseudo_dwi.segmentation.NETWORKS,
        pseudo_dwi.SEGMENTATION_LOSSES,
        pseudo_dwi.TABLE5,
    )
    rows |= {("pseudo_dwi", str(number)): names for number, names in enumerate(of_dwi, 1)}
    scores = {"ssl_nnunet": estimates.METRICS}
    for paper, one in (("papl", papl_tables), ("adn", adn_tables), ("pseudo_dwi", pseudo_dwi_tables)):
        scores[paper] = {printed: name for printed, (name, _) in one.METRICS.items()}
    for claim in ALL:
        assert claim.score == scores[claim.paper][claim.metric]
        assert claim.cohort in settings.COHORTS
        if claim.ours_a:
            assert {claim.ours_a, claim.ours_b} <= set(rows[claim.paper, claim.table]), claim.id


def test_the_claims_of_papl_are_the_statements_that_notebook_44_tests():
    from strokelib.methods.papl_statements import STATEMENTS
    from strokelib.methods.papl_tables import TableRows
    from strokelib.papl.rows import COHORTS, ON_BOTH
    from strokelib.papl.strata import AVERAGE

    chosen, nothing = settings.resolve("smoke", "aisd"), dict.fromkeys(COHORTS.values())
    numbers = sorted({one.table for one in STATEMENTS})
    tables = {number: TableRows(number, chosen, {}, nothing).table().query("metric == 'DSC'") for number in numbers}
    stated = {}
    for one in STATEMENTS:
        table = tables[one.table]
        table = table[table["lesion_filter"] == one.scans] if "lesion_filter" in table else table
        for dataset in COHORTS if one.table in ON_BOTH else ["AISD"]:
            part = table[table["dataset"] == dataset] if one.table in ON_BOTH else table
            cells = part.set_index("row")["published"]
            if cells[one.baseline] != "-":
                key = (str(one.table), dataset, one.scans, frozenset((one.row, one.baseline)))
                stated[key] = {name: cells[name] for name in (one.row, one.baseline)}
    claimed = {}
    for one in ALL:
        if one.paper == "papl" and one.metric == "DSC" and int(one.table) in tables:
            key = (one.table, one.dataset, one.lesion_filter or AVERAGE, frozenset((one.ours_a, one.ours_b)))
            claimed[key] = dict(zip((one.ours_a, one.ours_b), claims.published_difference(one).cells, strict=True))
    assert claimed == stated
