"""Rows of the tables are trained once each, and their scores, differences and effects are those of the scans."""

import dataclasses
import gc
import itertools
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from strokelib import comparing, settings, stats
from strokelib.data.cases import Case, Volume
from strokelib.methods import papl_tables
from strokelib.methods.papl import Outcome, StudyRecipe
from strokelib.methods.papl_tables import TableRows, factorial_effects, one_schedule, rows_of
from strokelib.methods.reference_rows import REFERENCES
from strokelib.methods.scoring import penalised
from strokelib.papl import tables
from strokelib.papl.rows import RUNS

RUN = settings.resolve("demo", "aisd", 2)
NAMES = ("dice", "jaccard", "assd_mm", "precision", "sensitivity", "truth_volume_ml")
SCANS = [f"scan-{i}" for i in range(4)]
BASE = np.array([0.2, 0.4, 0.5, 0.7])


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals of 299 resamples: which scans they are of is what is tested here."""
    for module, name in (
        (comparing, "bootstrap_ci"),
        (comparing, "paired_bootstrap_ci"),
        (papl_tables, "bootstrap_ci"),
    ):
        monkeypatch.setattr(module, name, partial(getattr(stats, name), n_resamples=299))
    monkeypatch.setattr(gc, "collect", lambda *_: 0)  # statsmodels collects garbage at every adjustment


def _scores(method, values):
    made = [(method, scan, name, v, "1") for name in NAMES for scan, v in zip(SCANS, values, strict=True)]
    return pd.DataFrame(made, columns=["method", "case", "metric", "value", "unit"])


def _case(name):
    array = np.zeros((2, 4, 4), np.float32)
    return Case(name, name, "aisd", "test", Volume(array, np.eye(4)), lesion=array == 0)


def _outcome(row, values, status="1 seed", folder=""):
    history = SimpleNamespace(steps=40, curve=lambda name: (np.array([10, 40]), np.array([0.1, 0.3])))
    method = SimpleNamespace(validation="pooled_dice")
    trained = SimpleNamespace(folder=Path("models") / (folder or row), history=history, method=method)
    return Outcome(row, trained, penalised(_scores(row, values), [_case(scan) for scan in SCANS], "assd_mm"), status)


class FakeStudy:
    """Answers as a study does, and notes what it was asked for; the n-th row gains n hundredths."""

    def __init__(self, run):
        self.settings, self.asked = run, []
        self.plan = StudyRecipe.at(run.profile)
        self.test = [_case(scan) for scan in SCANS]
        self.references = pd.concat([_scores(name, BASE / 4) for name in REFERENCES], ignore_index=True)

    def row(self, number, row):
        self.asked.append((number, row))
        gain = 0.01 * list(RUNS[number]).index(row)
        return _outcome(row, BASE + gain, folder=f"{self.settings.cohort}-{number}-{gain:.2f}")


@pytest.fixture
def studies():
    return {name: FakeStudy(RUN.beside(name)) for name in ("aisd", "xwhd")}


def test_each_row_of_both_cohorts_is_asked_for_once_and_named_in_what_a_table_was_made_from(studies):
    third = rows_of(3, studies)
    for name, study in studies.items():
        assert study.asked == [(3, row) for row in RUNS[3]]
        assert list(third.outcomes[name]) == list(RUNS[3])
    assert third.folders["xwhd CENet (w/ PAPL)"] == "xwhd-3-0.03"
    assert len(third.folders) == 12


def test_tables_of_one_cohort_take_the_first_and_leave_the_other_alone(studies):
    fourth = rows_of(4, studies)
    assert list(fourth.outcomes) == ["aisd"]
    assert studies["xwhd"].asked == []
    assert set(fourth.scores) == {"aisd"}


@pytest.mark.parametrize("number", [3, 4])
def test_the_table_is_the_one_of_the_paper_package_with_the_references_last(studies, number):
    made = rows_of(number, studies)
    table = made.table()
    how = (made.scores, made.status) if number == 3 else (made.scores["aisd"], made.status["aisd"])
    maker = {3: tables.table3_backbones, 4: tables.table4_components}[number]
    pd.testing.assert_frame_equal(table, maker(*how, RUN, REFERENCES))
    assert list(table["row"].unique())[-3:] == list(REFERENCES)
    assert table["ours"].notna().all()


def test_a_users_own_scans_leave_the_other_cohort_empty(tmp_path):
    run = settings.resolve("demo", "aisd", 2, tmp_path)
    third = rows_of(3, {"aisd": FakeStudy(run)})
    table = third.table()
    assert third.scores["xwhd"].empty
    assert third.status["xwhd"] == {}
    there = table["row"].isin(RUNS[3])
    assert set(table.loc[there & (table["dataset"] == "XWHD"), "status"]) == {"not yet"}
    assert table.loc[table["dataset"] == "AISD", "ours"].notna().all()


def test_both_cohorts_are_loaded_and_a_user_has_only_his_own(monkeypatch, tmp_path):
    monkeypatch.setattr(papl_tables, "load_study", lambda given: given)
    found = papl_tables.load_studies(RUN)
    assert [(name, one.cohort) for name, one in found.items()] == [("aisd", "aisd"), ("xwhd", "xwhd")]
    assert list(papl_tables.load_studies(RUN, both=False)) == ["aisd"]
    assert list(papl_tables.load_studies(settings.resolve("demo", "aisd", 0, tmp_path))) == ["aisd"]


def test_a_difference_is_paired_and_leaves_out_scans_without_a_value():
    first, second = _outcome("a", [0.5, 0.9, np.nan, 0.7]), _outcome("b", [0.4, 0.5, 0.1, 0.6])
    found = papl_tables.difference(first, second, name="a on b", cohort="aisd")
    assert (found.name, found.cohort, found.n) == ("a on b", "aisd", 3)
    assert found.value == pytest.approx((0.1 + 0.4 + 0.1) / 3)
    assert found.low <= found.value <= found.high


def test_a_single_scan_gives_no_difference():
    one = papl_tables.difference(_outcome("a", [0.5, *[np.nan] * 3]), _outcome("b", BASE))
    assert np.isnan([one.value, one.low, one.high]).all()
    assert one.n == 1


def test_rows_against_a_baseline_leave_it_out_and_keep_the_order(studies):
    fourth = rows_of(4, studies)
    found = fourth.against("baseline")
    assert [one.name for one in found] == list(RUNS[4])[1:]
    np.testing.assert_allclose([one.value for one in found], 0.01 * np.arange(1, 9))
    alone = fourth.difference("aisd", "FCM", "Inter", "precision", name="FCM on Inter")
    assert (alone.name, alone.value) == ("FCM on Inter", pytest.approx(0.02))


def test_curves_run_over_the_share_of_the_training(studies):
    curve = rows_of(6, studies).curves("aisd")["PCL [28]"]
    np.testing.assert_allclose(curve.share, [0.25, 1.0])
    np.testing.assert_allclose(curve.values, [0.1, 0.3])
    assert curve.status == "1 seed"


def test_the_weakest_status_is_that_of_any_row_of_any_cohort():
    rows = {"a": _outcome("a", BASE), "b": _outcome("b", BASE, "undertrained")}
    other = {"a": _outcome("a", BASE, "did not learn")}
    assert TableRows(2, RUN, {"aisd": rows, "xwhd": {}}, {}).weakest == "undertrained"
    assert TableRows(2, RUN, {"aisd": rows, "xwhd": other}, {}).weakest == "did not learn"


def test_a_shortened_sweep_says_how_short_and_a_full_one_says_nothing(studies):
    seventh = rows_of(7, studies)
    table = seventh.table()
    assert seventh.page(table).endswith("- Ours are trained for 0.5 of the steps of the other tables.\n")
    full = dataclasses.replace(seventh, settings=settings.resolve("paper", "aisd", 2))
    assert full.page(table) == tables.page(table, 7)
    sixth = rows_of(6, studies)
    assert "of the steps" not in sixth.page(sixth.table())


def test_sweeps_share_a_schedule_with_the_other_tables_only_where_they_are_not_shorter():
    demo, paper = (FakeStudy(settings.resolve(name, "aisd")) for name in ("demo", "paper"))
    assert one_schedule((2, 4, 7, 8), demo) == (2, 4)
    assert one_schedule((2, 4, 7, 8), paper) == (2, 4, 7, 8)


def test_the_factorial_is_every_choice_of_three_parts_once():
    choices = {frozenset(of) for count in range(4) for of in itertools.combinations(papl_tables.PARTS, count)}
    assert set(papl_tables.FACTORIAL.values()) == choices
    assert len(papl_tables.FACTORIAL) == 8
    assert papl_tables.FACTORIAL["Inter+Intra+RPRS"] == {"stage 1", "RPRS"}


def test_effects_give_back_what_the_rows_were_made_of():
    gains = {"stage 1": 0.05, "FCM": -0.02, "RPRS": 0.01}
    values = {
        row: BASE + sum(gains[part] for part in has) + 0.04 * ({"stage 1", "RPRS"} <= has)
        for row, has in papl_tables.FACTORIAL.items()
    }
    found = {name: effect.tolist() for name, effect in factorial_effects(values).items()}
    # Half of what only two parts together give counts for each of them, and half for their interaction.
    wanted = {"stage 1": 0.07, "FCM": -0.02, "RPRS": 0.03, "stage 1 x RPRS": 0.02}
    assert list(found)[:3] == list(gains)
    assert len(found) == 7
    for name, effect in found.items():
        assert effect == pytest.approx([wanted.get(name, 0.0)] * 4)


def test_effects_of_a_table_are_over_scans_that_all_eight_rows_have(studies):
    fourth = rows_of(4, studies)
    rows = dict(fourth.outcomes["aisd"])
    rows["RPRS"] = _outcome("RPRS", np.where(np.arange(4) == 2, np.nan, BASE + 0.04))
    rows["Inter"] = _outcome("Inter", [np.nan] * 4)
    found = papl_tables.effects_of(dataclasses.replace(fourth, outcomes={"aisd": rows}))
    order = {row: 0.01 * i for i, row in enumerate(RUNS[4]) if row != "Inter"}
    with_fcm = [gain for row, gain in order.items() if "FCM" in row]
    without = [gain for row, gain in order.items() if "FCM" not in row]
    assert found[1].name == "FCM"
    assert found[1].value == pytest.approx(np.mean(with_fcm) - np.mean(without))
    assert [one.n for one in found] == [3] * 7
