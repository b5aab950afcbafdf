"""The rows of Sun et al. 2024: what is trained for each, that it is trained once, and on what it is scored."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from strokelib.data.cases import Volume
from strokelib.data.inplane import known_line
from strokelib.errors import DataError
from strokelib.methods import papl as rows
from strokelib.methods.papl import KNOWLEDGE, SEGMENTATION, Study, StudyRecipe, same_stage1
from strokelib.methods.reference_rows import REFERENCES
from strokelib.methods.rolls import roll_of
from strokelib.methods.scoring import penalised
from strokelib.methods.training import run_name
from strokelib.metrics import dice
from strokelib.papl.recipe import KnowledgeRecipe, SegmentationRecipe
from strokelib.papl.rows import ASYMMETRY, NO_TASK, RUNS, trainings
from strokelib.papl.snapshots import read_snapshot, snapshot_steps
from strokelib.settings import Profile, Settings

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads

HOW = {"shape": (10, 48, 48), "spacing": (5.0, 4.0, 4.0), "tilt_deg": 7.0, "shift": 2.0}
PARTS = tuple(
    made_heads.heads(numbers, split, **HOW)
    for split, numbers in (("train", range(3)), ("val", range(3, 5)), ("test", range(5, 8)))
)
TEST = [case.id for case in PARTS[2]]
# Small, whatever the recipes of the profiles say.
SMALL = {"width": 4, "depth": 3, "window_hu": (0.0, 80.0), "pool": 1, "crop": None, "smallest_brain_ml": 0.0}
SMALL |= {"lesion_share": 0.5, "steps": 4, "validations": 1, "lr": 1e-2}
CHANGES = {
    KnowledgeRecipe: SMALL | {"batch": 4, "samples": 4, "val_samples": 8, "length": 4},
    SegmentationRecipe: SMALL | {"batch": 2, "val_slices": 4},
}
PLAN = StudyRecipe(knowledge_shown=(0.0, 0.5), segmentation_shown=(0.25, 1.0), sweep_share=0.5)
PROPOSED, SWEPT = RUNS[2]["PAPL"], "beta1=0.8;beta2=0.8;beta3=0.2"


@pytest.fixture(autouse=True, scope="module")
def _steady():
    """On the CPU, and the known mid-sagittal lines in place of the network's."""
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        lines = lambda settings, parts, out: {case.id: known_line(case) for part in parts for case in part}  # noqa: E731
        patch.setattr(rows, "midlines", lines)
        yield


def settings_of(out, profile=Profile.SMOKE, cohort="aisd", data=None):
    return Settings(profile, cohort, 3, data, out, out / "figures")


def made(out, plan=PLAN, **how):
    """A study of the made heads."""
    study = Study(**{"settings": settings_of(out), "parts": PARTS, "out": out, "changes": CHANGES, **how})
    study.__dict__["plan"] = plan
    return study


class Asked:
    """Stands for the trainings: keeps what each was given, and names the folder that it would have."""

    def __init__(self):
        self.given = []

    def __call__(self, method, recipe, train_cases, val_cases, *, seed, out):
        folder = Path(out) / run_name(method, recipe, roll_of(train_cases), roll_of(val_cases), seed)
        model = method.build(recipe)
        call = {"method": method, "recipe": recipe, "seed": seed, "folder": folder, "model": model}
        self.given.append(SimpleNamespace(**call, train=list(train_cases), val=list(val_cases)))
        return SimpleNamespace(**call, undertrained=False)


@pytest.fixture
def asked(monkeypatch):
    """Nothing is trained; what would be trained is kept."""
    found = Asked()
    monkeypatch.setattr(rows, "train_method", found)
    return found.given


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def outcomes(study):
    """Rows that were really trained."""
    shown = ((2, "U-Net (unaligned)"), (2, "U-Net (aligned)"), (2, "PAPL"), (8, SWEPT))
    return {(number, row): study.row(number, row) for number, row in shown}


def of_own_recipe(recipe, names):
    return {name: getattr(recipe, name) for name in names}


# What is trained for each row


def test_every_row_is_trained_with_its_network_its_weights_and_its_kind_of_heads(tmp_path, asked):
    study = made(tmp_path)
    raw, aligned = ([id(case) for case in study.cases(kind)[0]] for kind in (False, True))
    for _, run in trainings():
        if run.backbone == rows.ADN:
            continue
        asked.clear()
        study.train(run)
        *before, last = asked
        betas = of_own_recipe(last.recipe, ("beta1", "beta2", "beta3"))
        assert (last.recipe.network, tuple(betas.values())) == (run.backbone, run.betas)
        assert last.method.key == SEGMENTATION.key
        assert [id(case) for case in last.train] == (aligned if run.aligned else raw)
        assert last.recipe.aligned == run.aligned
        if run.task == NO_TASK:
            assert not before
            assert last.recipe.start == ""
            continue
        (first,) = before
        assert (first.method.key, first.recipe.task, first.recipe.network) == (KNOWLEDGE.key, run.task, run.backbone)
        assert [id(case) for case in first.train] == aligned
        if run.task == ASYMMETRY:
            assert (first.recipe.lambda1, first.recipe.lambda2) == run.lambdas
        assert last.recipe.start == first.folder.name
        assert {call.seed for call in asked} == {3}


def test_stages_2_and_3_begin_with_the_encoder_of_their_stage_1(tmp_path, asked):
    made(tmp_path).train(PROPOSED)
    first, last = asked
    start = first.model.encoder_state()
    assert len(start) > 10
    found = last.model.encoder_state()
    assert all(found[name].equal(value) for name, value in start.items())
    bare = SEGMENTATION.build(last.recipe).encoder_state()
    assert not all(bare[name].equal(value) for name, value in start.items())


def test_another_stage_1_is_another_training(tmp_path, asked):
    study = made(tmp_path)
    plain = study.train(PROPOSED)
    for stage1 in ({"window_hu": (30.0, 100.0)}, {"lambda1": 0.1}, {"steps": 5}, {"snapshots": (0.5,)}):
        other = study.train(PROPOSED, stage1=stage1)
        assert other.recipe.start != plain.recipe.start
        assert other.folder != plain.folder
        assert dataclasses.replace(other.recipe, start="", snapshots=()) == dataclasses.replace(
            plain.recipe, start="", snapshots=()
        )
        for name, value in stage1.items():
            assert getattr(asked[-2].recipe, name) == value


def test_rows_with_one_run_or_one_stage_1_share_it(tmp_path, asked):
    study = made(tmp_path)
    folders = {
        run: study.train(run).folder for cohort, run in trainings() if cohort == "aisd" and run.backbone != "ADN"
    }
    assert len(set(folders.values())) == len(folders)
    stages = {call.folder for call in asked if call.method.key == KNOWLEDGE.key}
    wanted = {(run.backbone, run.task, run.lambdas) for run in folders if run.task != NO_TASK}
    assert len(stages) == len(wanted) < len([run for run in folders if run.task != NO_TASK])


def test_weights_over_time_are_kept_where_the_figures_show_them_and_nowhere_else(tmp_path, asked):
    study = made(tmp_path)
    for run in folders_without_adn():
        study.train(run)
    kept = {KNOWLEDGE.key: set(), SEGMENTATION.key: set()}
    for call in asked:
        if call.recipe.snapshots:
            kept[call.method.key].add((call.folder, call.recipe.snapshots))
    assert {shares for _, shares in kept[KNOWLEDGE.key]} == {(0.0, 0.5)}
    assert {shares for _, shares in kept[SEGMENTATION.key]} == {(0.25, 1.0)}
    # Fig. 8: the inter-sample loss alone and both; Fig. 10: without and with RPRS.
    assert len(kept[KNOWLEDGE.key]) == 2
    assert {folder for folder, _ in kept[KNOWLEDGE.key]} == {
        study.knowledge(run).folder for run in rows.KNOWLEDGE_SHOWN
    }
    assert len(kept[SEGMENTATION.key]) == 2
    assert same_stage1(PROPOSED)
    assert not same_stage1(RUNS[3]["CENet (w/ PAPL)"])
    changed = study.train(PROPOSED, stage1={"margin": 0.5}, omega=2.0)
    assert changed.recipe.snapshots == asked[-2].recipe.snapshots == ()


def folders_without_adn():
    return {run for _, run in trainings() if run.backbone != rows.ADN}


def test_a_rows_own_weights_give_way_to_what_is_asked_for(tmp_path, asked):
    study = made(tmp_path)
    found = study.train(PROPOSED, beta1=0.5, network="U-Net", start="by hand").recipe
    assert (found.beta1, found.beta2, found.start) == (0.5, 0.8, "by hand")
    assert study.knowledge(PROPOSED, lambda2=0.9, task="PCL").recipe.lambda2 == 0.9


def test_a_studys_changes_hold_in_every_training_of_their_stage(tmp_path, asked):
    study = made(tmp_path, changes=CHANGES | {KnowledgeRecipe: CHANGES[KnowledgeRecipe] | {"tau": 0.7}})
    study.train(PROPOSED)
    first, last = asked
    assert (first.recipe.tau, first.recipe.batch, last.recipe.batch) == (0.7, 4, 2)
    assert {call.recipe.width for call in asked} == {4}
    assert study.recipe(SEGMENTATION, batch=9).batch == 9


def test_a_sweep_has_fewer_steps_of_stages_2_and_3_and_another_folder(tmp_path, asked, monkeypatch):
    study = made(tmp_path)
    monkeypatch.setattr(Study, "outcome", lambda self, row, run, **how: (row, self.train(run, **how)))
    for number in (7, 8):
        for row, run in RUNS[number].items():
            asked.clear()
            name, found = study.row(number, row)
            assert name == row
            assert (found.recipe.steps, found.recipe.snapshots) == (2, ())
            assert asked[0].recipe.steps == 4
            assert found.folder != study.train(run).folder
    _, swept = study.row(8, SWEPT)
    _, whole = study.row(2, "PAPL")
    assert swept.recipe.start == whole.recipe.start
    _, longer = study.swept("own", PROPOSED, steps=9, omega=5.0)
    assert (longer.recipe.steps, longer.recipe.omega) == (9, 5.0)
    # As published a sweep's trainings are as long as the others, and the same ones.
    paper = made(tmp_path, dataclasses.replace(PLAN, sweep_share=1.0))
    assert paper.row(8, SWEPT)[1].folder == whole.folder


def test_the_versions_of_all_modules_that_a_training_rests_on_name_its_folder():
    root = Path(importlib.import_module("strokelib").__file__).parent.parent

    def behind(module, seen):
        if module in seen or not module.startswith(("strokelib.papl.", "strokelib.nn.")):
            return seen
        seen.add(module)
        tree = ast.parse((root / f"{module.replace('.', '/')}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                behind(node.module, seen)
        return seen

    for method, module in ((KNOWLEDGE, "knowledge_fitting"), (SEGMENTATION, "segmentation_fitting")):
        needed = {
            m for m in behind(f"strokelib.papl.{module}", set()) if hasattr(importlib.import_module(m), "VERSION")
        }
        assert len(needed) > 15
        assert needed <= set(method.versions())
    assert len({KNOWLEDGE.key, SEGMENTATION.key, rows.adn.ADN.key}) == 3


# Really trained


def test_rows_are_scored_on_every_test_scan_in_the_scanners_frame(study, outcomes):
    for (_, row), outcome in outcomes.items():
        assert outcome.row == row
        assert set(outcome.scores["method"]) == {row}
        assert not outcome.scores.duplicated(["case", "metric"]).any()
        assert all(cases == TEST for cases in outcome.scores.groupby("metric")["case"].apply(sorted))
        assert {"dice", "hd95_mm", "assd_mm", "assd_penalised_mm"} <= set(outcome.scores["metric"])
        found = study.probability(outcome)
        values = outcome.scores[outcome.scores["metric"] == "dice"].set_index("case")["value"]
        for case in PARTS[2]:
            assert found[case.id].shape == case.image.array.shape
            assert values[case.id] == pytest.approx(dice(found[case.id] > 0.5, case.lesion))


def test_maps_of_aligned_heads_are_brought_back_and_those_of_raw_heads_are_left_where_they_are(study, outcomes):
    raw, aligned = outcomes[2, "U-Net (unaligned)"], outcomes[2, "U-Net (aligned)"]
    assert (raw.trained.recipe.aligned, aligned.trained.recipe.aligned) == (False, True)
    found = study.probability(raw)
    for case in PARTS[2]:
        expected = SEGMENTATION.predict(raw.trained.model, raw.trained.recipe, case)
        np.testing.assert_allclose(found[case.id], expected, atol=1e-3)
    found = study.probability(aligned)
    for one in study.aligned[2]:
        there = SEGMENTATION.predict(aligned.trained.model, aligned.trained.recipe, one.case)
        np.testing.assert_allclose(found[one.case.id], one.restore(there), atol=1e-3)
        assert np.abs(found[one.case.id] - there).max() > 0.05


def test_a_perfect_network_on_aligned_heads_has_a_dice_near_1_in_the_scanners_frame(tmp_path, outcomes, monkeypatch):
    fresh = made(tmp_path)
    perfect = {one.case.id: one.case.lesion.astype(np.float16) for one in fresh.aligned[2]}
    monkeypatch.setattr(rows, "predict", lambda trained, cases: {case.id: perfect[case.id] for case in cases})
    trained = dataclasses.replace(outcomes[2, "U-Net (aligned)"].trained, folder=tmp_path / "perfect")
    monkeypatch.setattr(Study, "train", lambda self, run, **how: trained)
    found = fresh.outcome("perfect", RUNS[2]["U-Net (aligned)"]).scores
    values = found[found["metric"] == "dice"]["value"]
    assert len(values) == 3
    assert values.min() > 0.9
    # Without the way back it would not be: the heads are turned and shifted.
    assert max(dice(perfect[case.id] > 0.5, case.lesion) for case in PARTS[2]) < 0.8


def test_the_middle_column_of_an_aligned_head_is_its_plane(study):
    for part in study.aligned:
        for one in part:
            brain = one.case.brain[5]
            both = (brain & brain[:, ::-1]).sum() / brain.sum()
            assert both > 0.95
    assert [[case.id for case in part] for part in study.cases(True)] == [[c.id for c in part] for part in PARTS]
    assert study.cases(False)[1][0] is PARTS[1][0]


def test_one_training_has_the_same_digits_under_every_name_just_trained_or_read_back(study, outcomes):
    names = {(2, "U-Net (aligned)"): (4, "baseline"), (2, "PAPL"): (4, "Inter+Intra+FCM+RPRS")}
    for cell, other in names.items():
        first, second = outcomes[cell], made(study.out).row(*other)
        assert first.trained.folder == second.trained.folder
        assert second.row == other[1]
        pd.testing.assert_frame_equal(first.scores.drop(columns="method"), second.scores.drop(columns="method"))
        assert first.status == second.status


def test_what_was_trained_is_read_back_and_nothing_is_trained_or_scored_twice(study, outcomes, monkeypatch):
    def refuse(*args, **how):
        raise AssertionError("done again")

    for name in ("KNOWLEDGE", "SEGMENTATION"):
        monkeypatch.setattr(rows, name, dataclasses.replace(getattr(rows, name), fit=refuse, predict=refuse))
    monkeypatch.setattr(rows, "score", refuse)
    before = sorted(path.name for path in study.out.iterdir())
    fresh = made(study.out)
    for cell, outcome in outcomes.items():
        pd.testing.assert_frame_equal(fresh.row(*cell).scores, outcome.scores)
    assert sorted(path.name for path in study.out.iterdir()) == before
    with pytest.raises(AssertionError, match="done again"):
        fresh.row(4, "FCM")


def test_lines_are_asked_for_once_whatever_the_number_of_rows(tmp_path, asked, monkeypatch):
    calls = []

    def lines(settings, parts, out):
        calls.append((settings, [len(part) for part in parts], out))
        return {case.id: known_line(case) for part in parts for case in part}

    monkeypatch.setattr(rows, "midlines", lines)
    study = made(tmp_path)
    study.train(RUNS[2]["U-Net (unaligned)"])
    assert calls == []
    for row in ("U-Net (aligned)", "SAN-Net", "PAPL"):
        study.train(RUNS[2][row])
    assert calls == [(study.settings, [3, 2, 3], tmp_path)]


def test_what_figures_show_over_time_can_be_read(study, outcomes):
    trained = outcomes[2, "PAPL"].trained
    (step,) = snapshot_steps((0.25,), trained.recipe.steps)
    early = read_snapshot(trained.method.build(trained.recipe), trained.folder, step)
    first, last = (model.backbone.head.weight for model in (early, trained.model))
    assert not first.equal(last)
    end = read_snapshot(trained.method.build(trained.recipe), trained.folder, trained.recipe.steps)
    assert end.backbone.head.weight.equal(last)
    before = study.knowledge(PROPOSED)
    start = read_snapshot(before.method.build(before.recipe), before.folder, 0)
    moved, resting = (
        [not a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
        for one, other in (
            (start.backbone.encoder, before.model.backbone.encoder),
            (start.backbone.decoder, before.model.backbone.decoder),
        )
    )
    assert any(moved)
    assert not any(resting)


def test_a_few_steps_are_undertrained_and_only_what_beats_the_references_has_learnt(study, outcomes, monkeypatch):
    assert {outcome.status for outcome in outcomes.values()} == {"undertrained"}
    assert set(study.references["method"]) == set(REFERENCES)
    assert set(study.references["case"]) == set(TEST)
    monkeypatch.setattr(rows.Trained, "undertrained", False)
    assert study.row(2, "U-Net (aligned)").status == "did not learn"
    given = []

    def sure(frame, row, references, *, seed):
        given.append((frame, row, references, seed))
        return "hu_threshold", SimpleNamespace(low=0.1)

    monkeypatch.setattr(rows, "versus_references", sure)
    assert study.row(4, "baseline").status == "1 seed"
    frame, row, references, seed = given[0]
    assert (row, references, seed) == ("baseline", REFERENCES, 3)
    assert set(frame["method"]) == {"baseline", *REFERENCES}


def test_other_heads_and_another_seed_are_trained_anew(tmp_path, asked):
    study = made(tmp_path)
    plain = study.train(RUNS[4]["baseline"])
    other = made(tmp_path, settings=dataclasses.replace(settings_of(tmp_path), seed=4))
    assert other.train(RUNS[4]["baseline"]).folder != plain.folder
    fewer = made(tmp_path, parts=(PARTS[0][:2], *PARTS[1:]))
    assert fewer.train(RUNS[4]["baseline"]).folder != plain.folder


def test_a_patient_in_two_parts_is_refused(tmp_path):
    leaking = made(tmp_path, parts=(PARTS[2], *PARTS[1:]))
    with pytest.raises(DataError, match=r"test cases: \['head-5'"):
        leaking.train(RUNS[4]["baseline"])


def test_a_distance_that_a_missed_infarct_has_not_is_the_scans_diagonal():
    case, well = PARTS[2][0], made_heads.head(9, "test", **HOW, lesion=False)
    values = {case.id: float("nan"), well.id: float("nan")}
    given = pd.DataFrame([("row", name, "assd_mm", v, "mm") for name, v in values.items()], columns=rows_columns())
    found = penalised(given, [case, well], "assd_mm")
    pd.testing.assert_frame_equal(found[:2], given)
    added = found[2:].set_index("case")
    assert set(added["metric"]) == {"assd_penalised_mm"}
    # 50 mm, 192 mm and 192 mm.
    assert added["value"][case.id] == pytest.approx(np.sqrt(2500 + 2 * 192**2))
    assert np.isnan(added["value"][well.id])


def rows_columns():
    return ["method", "case", "metric", "value", "unit"]


# ADN


def shorter(case, slices):
    """The same head with fewer slices, so that ADN's study has to add some."""
    kept = slice(10 - slices, None)
    image = Volume(case.image.array[kept], case.image.affine)
    return dataclasses.replace(case, image=image, lesion=case.lesion[kept], brain=case.brain[kept], truth={})


def test_the_row_of_adn_is_its_own_studys_on_these_test_scans_and_slices(tmp_path, monkeypatch):
    test = [PARTS[2][0], shorter(PARTS[2][1], 9), shorter(PARTS[2][2], 7)]
    study = made(tmp_path, parts=(*PARTS[:2], test))
    loaded, asked = [], []

    def load(settings):
        loaded.append(settings)
        # Its own share of the heads, the highest of them 12 slices high.
        high = made_heads.head(20, **{**HOW, "shape": (12, 48, 48)})
        return rows.adn.Study(([high], PARTS[1], test[:1]), test[:1], Profile.SMOKE, 3, tmp_path)

    def row(self, name):
        asked.append((name, [len(case.image.array) for case in self.parts[2]], [c.id for c in self.parts[2]]))
        trained = SimpleNamespace(method=rows.adn.ADN, folder=tmp_path / "adn-of-a-kind", undertrained=False)
        found = {case.id: case.lesion.astype(np.float16) for case in self.parts[2]}
        return rows.adn.Outcome(name, trained, None, "1 seed", found)

    monkeypatch.setattr(rows.adn, "load_study", load)
    monkeypatch.setattr(rows.adn.Study, "row", row)
    monkeypatch.setattr(rows, "train_method", None)
    outcome = study.row(2, "ADN")
    assert loaded == [study.settings]
    assert asked == [(rows.adn.PROPOSED, [12, 12, 12], TEST)]
    assert outcome.row == "ADN"
    assert outcome.trained.folder.name == "adn-of-a-kind"
    found = study.probability(outcome)
    for case in test:
        np.testing.assert_array_equal(found[case.id] > 0.5, case.lesion)
    assert outcome.scores.query("metric == 'dice'")["value"].tolist() == [1.0] * 3
    assert (tmp_path / "adn-of-a-kind" / f"papl-{roll_of(test).fingerprint}" / "metrics.csv").is_file()


# Which heads


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("cohort", ["aisd", "xwhd"])
def test_a_run_loads_the_profiles_heads_on_its_grid(tmp_path, monkeypatch, profile, cohort):
    calls = []

    def load(settings, **how):
        calls.append((settings, how))
        return PARTS

    monkeypatch.setattr(rows, "load_parts", load)
    settings = settings_of(tmp_path, profile, cohort)
    study = rows.load_study(settings, knowledge={"tau": 0.5}, segmentation={"omega": 2.0})
    plan = StudyRecipe.at(profile)
    limits = {"train": plan.train_cases, "val": plan.val_cases, "test": plan.test_cases}
    grid = "published" if profile is Profile.PAPER else "prepared"
    assert calls == [(settings, {"grid": grid, "progress": False, **limits})]
    assert (study.settings, study.out, study.plan) == (settings, tmp_path / "models", plan)
    assert study.test == list(PARTS[2])
    assert study.recipe(KNOWLEDGE) == KnowledgeRecipe.at(profile, tau=0.5)
    assert study.recipe(SEGMENTATION) == SegmentationRecipe.at(profile, omega=2.0)


def test_a_users_own_heads_are_trained_on_and_scored_and_their_lines_are_found(tmp_path, monkeypatch):
    own = tuple([dataclasses.replace(case, cohort="aisd", embedded=False, truth={}) for case in part] for part in PARTS)
    seen = []

    def load(settings, **how):
        seen.append(settings.data)
        return own

    monkeypatch.setattr(rows, "load_parts", load)
    settings = settings_of(tmp_path, data=tmp_path / "scans")
    study = rows.load_study(settings, knowledge=CHANGES[KnowledgeRecipe], segmentation=CHANGES[SegmentationRecipe])
    outcome = study.outcome("PAPL", PROPOSED)
    assert seen == [tmp_path / "scans"]
    assert outcome.scores["case"].unique().tolist() == TEST
    assert outcome.trained.folder.parent == tmp_path / "models"
