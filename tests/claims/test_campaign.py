"""Which trainings a claim needs, that a killed campaign goes on, and that results follow from scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from strokelib import claiming, claims
from strokelib.claiming import campaign, sizes, studies, trainings
from strokelib.claims import records
from strokelib.cli import main
from strokelib.commands import claims as command
from strokelib.errors import DataError, ParameterError
from strokelib.papl.recipe import SegmentationRecipe
from strokelib.settings import Profile

BY_ID = {one.id: one for one in claims.all_claims()}
TWO = ("papl_added_unet_aisd", "papl_align_unet_aisd")
CASES = [f"case-{k}" for k in range(8)]


class MadeUp:
    """A study without networks: each row has its own level, each seed its own shift."""

    def __init__(self, log=None, dies_at=99):
        self.log, self.dies_at = log, dies_at

    def _scores(self, level, name):
        metrics = [("dice", level), ("precision", level), ("truth_volume_ml", 10.0)]
        lines = [
            (name, case, metric, value + 0.01 * k, "1") for k, case in enumerate(CASES) for metric, value in metrics
        ]
        table = pd.DataFrame(lines, columns=["method", "case", "metric", "value", "unit"])
        return [studies.Scores("test", records.ALL_LESIONS, table)]

    def trained(self, row, seed):
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{row.row} {seed}\n")
            if len(Path(self.log).read_text("utf-8").splitlines()) == self.dies_at:
                os._exit(9)
        rng = np.random.default_rng(seed)
        level = (0.5 if "w/ PAPL" in row.row else 0.4) + rng.normal(0, 0.002)
        return (SimpleNamespace(undertrained=seed == 0),), self._scores(level, row.row)

    def references(self):
        return self._scores(0.2, "hu_threshold")

    def patients(self):
        return {case: f"of {case}" for case in CASES}


def made(tmp_path, only=TWO, seeds=2):
    return claiming.Campaign(claiming.chosen(only), seeds, runs=tmp_path / "runs", out=tmp_path / "out")


def test_every_claim_of_this_house_maps_to_two_rows_or_says_why_not():
    for claim in BY_ID.values():
        if said := claiming.why_not(claim):
            assert claim.part == "hidden"
            assert said
            with pytest.raises(ParameterError, match="organisers"):
                claiming.rows_of(claim)
        else:
            a, b = claiming.rows_of(claim)
            assert a != b
            assert (a.row, b.row) == (claim.ours_a, claim.ours_b)
            assert a.cohort == b.cohort == claim.cohort


def test_the_two_channels_are_another_row_than_the_one_channel():
    a, b = claiming.rows_of(BY_ID["ssl_nnunet_difference_scratch"])
    assert (a.table, b.table) == ("B4", "1")
    assert a.row == b.row
    assert a.folder != b.folder


def test_no_two_rows_share_a_folder():
    rows = trainings.needed([one for one in BY_ID.values() if not claiming.why_not(one)])
    assert len({row.folder.lower() for row in rows}) == len(rows)
    assert all(row.folder.isascii() and "/" not in row.folder and " " not in row.folder for row in rows)


def test_every_claim_that_can_be_tested_is_trained_by_default():
    found = claiming.chosen()
    assert {one.paper for one in found} == {"papl", "adn", "ssl_nnunet", "pseudo_dwi"}
    assert {one.id for one in BY_ID.values()} - {one.id for one in found} == {
        "ssl_nnunet_apis_dice",
        "ssl_nnunet_apis_hd",
        "pseudo_dwi_isles_liu_dice",
    }


def test_claims_are_chosen_by_id_and_paper_and_unknown_ones_refused():
    assert [one.id for one in claiming.chosen(TWO)] == list(TWO)
    assert {one.paper for one in claiming.chosen(papers=["adn"])} == {"adn"}
    with pytest.raises(ParameterError, match="claim"):
        claiming.chosen(["papl_nothing"])
    with pytest.raises(ParameterError, match="paper"):
        claiming.chosen(papers=["unet"])
    with pytest.raises(ParameterError, match="organisers"):
        claiming.chosen(["pseudo_dwi_isles_liu_dice"])


def test_the_declared_size_is_that_of_the_demo_and_changes_replace_single_values():
    for paper, methods in sizes.METHODS.items():
        assert sizes.recipes(paper) == {one.key: one.recipe.at("demo") for one in methods}
        last = methods[-1]
        changed = sizes.recipes(paper, {last.recipe: {"steps": 7}})
        assert changed[last.key] == last.recipe.at("demo", steps=7)
        assert {**changed, last.key: last.recipe.at("demo")} == sizes.recipes(paper)


def test_the_networks_that_adn_starts_from_are_those_of_the_row_it_is_compared_with():
    found = sizes.recipes("adn")
    assert found["adn"].prior_steps == found["adn_volume"].steps


def test_a_fingerprint_changes_with_a_recipe_and_with_the_profile():
    first = sizes.fingerprint("adn")
    assert first == sizes.fingerprint("adn", sizes.SIZES["adn"])
    other = {sizes.METHODS["adn"][1].recipe: {"steps": 3}}
    assert len({first, sizes.fingerprint("adn", other), sizes.fingerprint("adn", {}, Profile.SMOKE)}) == 3


def test_a_campaign_writes_scores_results_and_what_they_came_from(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: MadeUp())
    found = claiming.run(made(tmp_path), progress=False).set_index("id")
    assert len(found) == len(BY_ID)
    line = found.loc["papl_added_unet_aisd"]
    assert line["n_seeds"] == 2
    assert line["effect"] == pytest.approx(0.1, abs=0.01)
    assert line["undertrained"] == "2 of 4"
    assert found.loc["papl_best_adn_aisd", "verdict"] == "not testable here"
    record = json.loads((tmp_path / "out" / "claims_results.csv.json").read_text("utf-8"))
    assert record["seeds"] == {"papl": [0, 1]}
    assert record["trainings"] == 8
    assert record["recipes"] == {"papl": {}}
    assert record["keys"] == {"papl": sizes.fingerprint("papl")}
    assert claiming.check(tmp_path / "out") == 2


def test_a_second_run_makes_the_same_bytes_and_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "_commit", lambda: "the same")
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: MadeUp())
    claiming.run(made(tmp_path), progress=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: pytest.fail("heads were loaded again"))
    claiming.run(made(tmp_path), progress=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_more_claims_and_seeds_are_added_to_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: MadeUp())
    claiming.run(made(tmp_path, TWO[:1], seeds=3), progress=False)
    found = claiming.run(made(tmp_path, TWO[1:], seeds=1), progress=False).set_index("id")
    assert found.loc[list(TWO), "n_seeds"].tolist() == [3, 1]
    assert found.loc[TWO[1], "verdict"] == "inconclusive (1 seed)"


def test_scores_of_other_recipes_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: MadeUp())
    claiming.run(made(tmp_path, TWO[:1]), progress=False)
    other = {**sizes.SIZES, "papl": {SegmentationRecipe: {"steps": 7}}}
    again = claiming.Campaign(claiming.chosen(TWO[1:]), 1, runs=tmp_path / "runs", out=tmp_path / "out", sizes=other)
    found = claiming.run(again, progress=False).set_index("id")
    assert found.loc[list(TWO), "effect"].notna().tolist() == [False, True]


def test_a_killed_campaign_goes_on_where_it_was(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_campaign as t
from pathlib import Path
from strokelib import claiming
from strokelib.claiming import studies
studies.study_of = lambda *args, **how: t.MadeUp({str(tmp_path / "log")!r}, int(sys.argv[1]))
claiming.run(t.made(Path({str(tmp_path)!r})), progress=False)
"""
    killed = subprocess.run([sys.executable, "-c", script, "4"], capture_output=True, text=True, timeout=300)
    assert killed.returncode == 9, killed.stderr
    assert not (tmp_path / "out" / records.RESULTS).is_file()
    ended = subprocess.run([sys.executable, "-c", script, "99"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    log = (tmp_path / "log").read_text("utf-8").splitlines()
    assert len(log) == 9
    assert log[3] == log[4]
    assert len(set(log)) == 8
    assert claiming.check(tmp_path / "out") == 2


def test_a_result_that_does_not_follow_from_the_scores_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: MadeUp())
    claiming.run(made(tmp_path), progress=False)
    path = tmp_path / "out" / records.RESULTS
    table = records.results(path)
    table.loc[table["id"] == TWO[0], "verdict"] = "contradicted"
    records.write_results(table, path)
    with pytest.raises(DataError, match="verdict of papl_added_unet_aisd"):
        claiming.check(tmp_path / "out")


def test_no_seed_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="campaign"):
        claiming.run(made(tmp_path, seeds=0), progress=False)


def test_the_scores_kept_are_those_that_claims_compare():
    assert studies.kept_scores("adn") == {"dice", "hd95_mm"}
    assert studies.kept_scores("papl") == {"dice", "precision"}


class Recorded:
    """Takes down how a row of the pseudo-DWI study is made."""

    def __getattr__(self, name):
        return lambda *args, **changes: (name, args, changes)


def test_rows_of_the_pseudo_dwi_study_are_made_as_its_tables_make_them():
    for number in "12345":
        for claim in BY_ID.values():
            if claim.paper == "pseudo_dwi" and claim.table == number and claim.ours_a:
                for row in (claim.ours_a, claim.ours_b):
                    assert studies._dwi_row(Recorded(), number, row) == _by_table(number, row), (number, row)


def _by_table(number, row):
    """The same row out of the study's own table, taken down."""
    from strokelib.methods import pseudo_dwi

    asked = []

    def taken(name):
        def take(self, *args, **changes):
            asked.append((name, args, changes))
            return SimpleNamespace()

        return take

    parts = ("generated", "segmented", "chained", "sequential")
    members = {name: taken(name) for name in parts} | {"with_dwi": True, "outcome": lambda self, row, *a: None}
    members["train"] = lambda self, *a, **k: None
    kind = type("Taken", (pseudo_dwi.Study,), members)
    getattr(kind((), (), None, 0, None), f"table{number}")()
    named = [one for one in asked if one[1][:1] == (row,) or (row == pseudo_dwi.SEQUENTIAL and one[0] == "sequential")]
    assert len(named) == 1
    return named[0]


def test_small_studies_take_values_by_recipe_and_a_row_s_own_win():
    from strokelib.methods import adn

    small = {adn.VOLUME.recipe: {"steps": 9}}
    study = studies.SmallAdn(((), (), ()), (), Profile.DEMO, 0, Path("x"), {}, None, sizes=small)
    assert study.recipe(adn.VOLUME).steps == 9
    assert study.recipe(adn.VOLUME, steps=5).steps == 5
    assert study.recipe(adn.ALIGNMENT) == adn.ALIGNMENT.recipe.at("demo")


def test_the_command_lists_claims_largest_first_and_refuses_what_it_does_not_know(capsys):
    assert main(["claims", "--list"]) == 0
    said = capsys.readouterr().out
    assert "not testable here" in said
    assert said.index("pseudo_dwi_image_real_dice") < said.index("papl_chosen_lambdas")
    assert main(["claims", "--only", "papl_nothing"]) == 1
    assert "papl_nothing" in capsys.readouterr().err


def test_the_command_trains_what_is_asked_and_says_what_came_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: MadeUp())
    where = {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    whole = claiming.Campaign
    monkeypatch.setattr(claiming, "Campaign", lambda chosen, seeds: whole(chosen, seeds, **where))
    assert main(["claims", "--seeds", "1", "--only", ", ".join(TWO)]) == 0
    said = capsys.readouterr().out
    assert "2 claims, 4 rows, 1 seeds" in said
    assert said.count("inconclusive (1 seed)") == 3
    assert "detectable effect below the published difference: 1 claims, both rows learnt in 1" in said
    assert len(records.results(tmp_path / "out" / records.RESULTS)) == len(BY_ID)


def test_the_page_shows_effect_detectable_and_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "study_of", lambda *args, **how: MadeUp())
    found = claiming.run(made(tmp_path), progress=False)
    shown = command.page(found[found["id"].isin([*TWO, "papl_best_adn_aisd"])])
    assert "not testable here" in shown
    assert len(shown.splitlines()) == 4
    assert command.SHOWN[3] in shown


def test_the_committed_results_follow_from_the_committed_scores():
    if not (campaign.settings.manifests_dir() / records.SCORES).is_file():
        pytest.skip("no campaign is committed yet")
    assert claiming.check() >= 10
