"""The rows of Seia et al. 2023: what is trained on what for each, that it is trained once, how its seeds vote."""

import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from strokelib import manifest
from strokelib.data.grids import AIR_HU
from strokelib.errors import DataError
from strokelib.methods import ssl_nnunet as rows
from strokelib.methods.reference_rows import REFERENCES
from strokelib.methods.rolls import roll_of
from strokelib.methods.ssl_nnunet import BASELINE, FROZEN, PROPOSED, TABLE1, TABLE_B4, Study, StudyRecipe
from strokelib.methods.training import run_name
from strokelib.metrics import dice
from strokelib.settings import Profile, Settings
from strokelib.ssl_nnunet import finetuning, heads, pretraining, setup, views, volumes
from strokelib.ssl_nnunet.recipe import FinetuningRecipe, PlanRecipe, PretrainingRecipe

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads

# Small, whatever the recipes of the profiles say.
PLAN = {
    "spacing_mm": (5.0, 4.0, 4.0),
    "contralateral": "plane",
    "plan": "planned",
    "patch": None,
    "memory_gib": 0.001,
    "base": 2,
    "max_features": 4,
}
SHORT = {"batch": 2, "steps": 2, "validations": 1}
BEFORE = SHORT | {"view": (4, 10, 8), "slab": 6, "hidden": 4, "bottleneck": 4, "prototypes": 8, "val_batches": 1}
AFTER = SHORT | {"val_patches": 2, "mirror_axes": ()}
CHANGES = {PlanRecipe: PLAN, PretrainingRecipe: BEFORE, FinetuningRecipe: AFTER}
SPLITS = ("train", "val", "test")


def scans(cohort, split, ill, well=0):
    """Scans with a lesion, then healthy ones; the plane of the made heads lies in the middle."""
    first = {"icoais": 0, "aisd": 20, "apis": 40, "center_tbi": 60}[cohort] + 5 * SPLITS.index(split)
    found = []
    for number in range(ill + well):
        case = made_heads.head(first + number, split, lesion=number < ill)
        name = f"{cohort}-{split}-{number}"
        found.append(dataclasses.replace(case, id=name, patient=name, cohort=cohort))
    return found


PARTS = {
    "icoais": {split: scans("icoais", split, ill, 1) for split, ill in zip(SPLITS, (3, 2, 2), strict=True)},
    "aisd": {split: scans("aisd", split, 2) for split in SPLITS},
    "apis": {split: scans("apis", split, 2, 1) for split in SPLITS},
    "center_tbi": {split: scans("center_tbi", split, 0, 2) for split in SPLITS[:2]},
}
# What "icoais-val-1" and "icoais-test-0" have: one small lesion alone, and a small one beside the large one.
SMALL_ONE = np.zeros(made_heads.SHAPE, bool)
SMALL_ONE[8, 16, 13:15] = True
for part, number, large in (("val", 1, False), ("test", 0, True)):
    old = PARTS["icoais"][part][number]
    PARTS["icoais"][part][number] = dataclasses.replace(old, lesion=old.lesion & large | SMALL_ONE)
HELD_OUT = [f"icoais-{split}-{number}" for split in SPLITS[1:] for number in range(2)]


def names(cases):
    return [case.id for case in cases]


def flipped(cases, how, out=None, seed=0):
    """In place of the mirror that is searched for in each scan."""
    found = []
    for case in cases:
        other = np.where(case.brain & case.brain[..., ::-1], case.image.array[..., ::-1], AIR_HU).astype(np.float32)
        found.append(dataclasses.replace(case, channels={"contralateral": other}))
    return found


@pytest.fixture(autouse=True, scope="module")
def _steady():
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        patch.setattr(rows, "with_contralateral", flipped)
        yield


def made(out, **how):
    """A study of the made scans."""
    return Study(**{"parts": PARTS, "profile": Profile.SMOKE, "seed": 3, "out": out, "changes": CHANGES, **how})


class Asked:
    """Stands for the trainings: keeps what each was given, and names the folder that it would have."""

    def __init__(self):
        self.given = []

    def __call__(self, method, recipe, train_cases, val_cases, *, seed, out, leak=False):
        folder = Path(out) / run_name(method, recipe, roll_of(train_cases), roll_of(val_cases), seed)
        channels = {name for part in (train_cases, val_cases) for case in part for name in case.channels}
        call = {"method": method, "recipe": recipe, "seed": seed, "folder": folder, "channels": channels, "leak": leak}
        self.given.append(SimpleNamespace(**call, train=list(train_cases), val=list(val_cases)))
        model = method.build(recipe)
        return SimpleNamespace(method=method, recipe=recipe, seed=seed, model=model, folder=folder, undertrained=False)


@pytest.fixture
def asked(monkeypatch):
    """Nothing is trained; what would be trained is kept."""
    found = Asked()
    monkeypatch.setattr(rows, "train_method", found)
    return found.given


def sure(low):
    return lambda *args, **how: ("hu_threshold", SimpleNamespace(low=low))


# Rows and recipes


def test_the_rows_are_those_of_table_1_and_of_table_b4():
    assert list(TABLE1) == list(dict.fromkeys(manifest.published("ssl_nnunet", 1)["method"]))
    assert set(TABLE_B4) == set(manifest.published("ssl_nnunet", "B.4")["method"])
    assert all(TABLE_B4[name] == TABLE1[name] for name in TABLE_B4)
    assert {BASELINE, PROPOSED} <= set(TABLE1)
    assert list(FROZEN.values()) == [0.0, 0.33, 0.66, 1.0]


def test_a_row_is_fine_tuned_from_the_pre_training_that_its_name_says(tmp_path, asked):
    study = made(tmp_path)
    for row in TABLE1:
        asked.clear()
        study.finetuned(row, seed=7)
        *before, last = asked
        assert (last.method.key, last.seed, last.recipe.frozen_share) == ("ssl_finetuning", 7, 0.0)
        assert last.recipe.labels == ("STKp" if row == "FS-STKp" else "STKi")
        if row.startswith("FS-"):
            assert not before
            assert last.recipe.pretrained == ""
            continue
        (first,) = before
        wanted = (row.split("-")[0], 0.7 if row.endswith("-SA") else 0.0, 1)
        assert (first.recipe.scans, first.recipe.symmetry, first.recipe.channels) == wanted
        assert (first.method.key, first.seed) == ("ssl_pretraining", 3)
        assert last.recipe.pretrained == first.folder.name
        assert first.channels == ({"contralateral"} if row.endswith("-SA") else set())
        assert last.channels == set()


def test_only_the_row_with_all_labels_is_trained_for_longer_and_on_the_strokes_of_all_sets(tmp_path, asked):
    study = made(tmp_path)
    study.finetuned(BASELINE, seed=3)
    study.finetuned("FS-STKp", seed=3)
    few, many = asked
    ill = {cohort: [f"{cohort}-train-{k}" for k in range(n)] for cohort, n in (("icoais", 3), ("aisd", 2), ("apis", 2))}
    assert names(few.train) == ill["icoais"]
    assert names(many.train) == [*ill["icoais"], *ill["aisd"], *ill["apis"]]
    assert names(few.val) == names(many.val) == ["icoais-val-0", "icoais-val-1"]
    assert (few.recipe.steps, many.recipe.steps) == (2, round(2 * study.plan.longer))
    assert many.recipe.steps > 2


def test_each_pre_training_sees_its_set_and_no_validation_or_test_scan_is_trained_on(tmp_path, asked):
    study = made(tmp_path)
    for row in TABLE1:
        study.finetuned(row, seed=3)
        study.finetuned(row, seed=3, channels=2)
    sizes = {"ALL": 3 + 1 + 2 + 2 + 2, "STKp": 7, "STKn": 2}
    for call in asked:
        assert {case.split for case in call.train} == {"train"}
        assert {case.split for case in call.val} == {"val"}
        assert not {case.patient for case in call.train} & {case.patient for case in call.val}
        if call.method.key == "ssl_pretraining":
            assert len(call.train) == sizes[call.recipe.scans]
    assert {call.recipe.scans for call in asked if call.method.key == "ssl_pretraining"} == set(sizes)


def test_a_leak_that_is_asked_for_reaches_the_pre_trainings_alone(tmp_path, asked):
    study = made(tmp_path, changes=CHANGES | {PretrainingRecipe: BEFORE | {"leak": True}})
    plain = made(tmp_path).finetuned(PROPOSED, seed=3)
    asked.clear()
    assert study.finetuned(PROPOSED, seed=3).folder != plain.folder
    before, after = asked
    assert {case.split for case in before.train} == set(SPLITS)
    assert {case.split for case in after.train} == {"train"}
    assert (before.leak, after.leak) == (True, False)


def test_plan_and_normalisation_come_from_the_training_scans_of_all_and_are_shared(tmp_path, asked, monkeypatch):
    seen, whole = [], rows.setup_of

    def watched(cases, recipe, *, seed=0):
        seen.append((names(cases), recipe.channels, seed))
        return whole(cases, recipe, seed=seed)

    monkeypatch.setattr(rows, "setup_of", watched)
    study = made(tmp_path)
    for row in (BASELINE, "FS-STKp", "STKn-STKi-SA"):
        for channels in (1, 2):
            study.finetuned(row, seed=3, channels=channels)
    everything = names(study.sets["ALL"][0])
    assert seen == [(everything, 1, 3), (everything, 2, 3)]
    assert len(everything) == 10
    assert all("train" in name for name in everything)
    for call in asked:
        assert call.recipe.setup == study.setup(call.recipe.channels).key
    assert study.setup(1).key != study.setup(2).key


def test_two_channels_take_contralateral_images_in_every_training(tmp_path, asked):
    study = made(tmp_path)
    for row in TABLE_B4:
        study.finetuned(row, seed=3, channels=2)
    assert {call.recipe.channels for call in asked} == {2}
    assert {frozenset(call.channels) for call in asked} == {frozenset({"contralateral"})}
    one, two = study.finetuned(BASELINE, seed=3), study.finetuned(BASELINE, seed=3, channels=2)
    assert [found.model.network.encoder.in_channels for found in (one, two)] == [1, 2]


def test_the_encoder_of_a_row_is_the_teachers_of_its_pre_training(tmp_path, asked, monkeypatch):
    study = made(tmp_path)
    before, others = study.pretrained("ALL-SA"), rows.train_method

    def pretrained_before(method, *args, **how):
        return before if method.key == "ssl_pretraining" else others(method, *args, **how)

    monkeypatch.setattr(rows, "train_method", pretrained_before)
    after = study.finetuned(PROPOSED, seed=3)
    found = after.model.network.encoder.state_dict()
    expected = before.model.teacher_encoder()
    assert set(found) == set(expected)
    assert all(value.equal(found[name]) for name, value in expected.items())


def test_the_cache_tells_rows_pre_trainings_and_frozen_encoders_apart(tmp_path, asked):
    study = made(tmp_path)
    found = [study.finetuned(row, seed=3) for row in TABLE1]
    found += [study.finetuned(row, seed=3, channels=2) for row in TABLE_B4]
    found += [study.finetuned(PROPOSED, seed=3, frozen=share) for share in FROZEN.values() if share]
    found.append(study.finetuned(PROPOSED, seed=4))
    assert len({one.folder for one in found}) == len(found)
    assert study.finetuned(PROPOSED, seed=3, frozen=0.33).recipe.frozen_share == 0.33
    # Another pre-training of the same name: of another recipe value, seed or code.
    again = study.finetuned(PROPOSED, seed=3).folder
    changed = CHANGES | {PretrainingRecipe: BEFORE | {"centre_momentum": 0.8}}
    other = [dataclasses.replace(study, changes=changed), dataclasses.replace(study, seed=9)]
    for one in other:
        assert one.finetuned(PROPOSED, seed=3).folder != again
    assert other[0].finetuned(BASELINE, seed=3).folder == study.finetuned(BASELINE, seed=3).folder
    assert dataclasses.replace(study).finetuned(PROPOSED, seed=3).folder == again


def test_a_change_of_the_pre_trainings_code_gives_its_rows_another_folder(tmp_path, asked, monkeypatch):
    study = made(tmp_path)
    before = {row: study.finetuned(row, seed=3).folder for row in (BASELINE, PROPOSED)}
    monkeypatch.setattr(views, "VERSION", views.VERSION + 1)
    later = dataclasses.replace(study)
    assert later.finetuned(PROPOSED, seed=3).folder != before[PROPOSED]
    assert later.finetuned(BASELINE, seed=3).folder == before[BASELINE]


@pytest.mark.parametrize(("method", "module"), [(rows.PRETRAINING, pretraining), (rows.FINETUNING, finetuning)])
def test_the_versions_of_all_modules_that_a_training_is_made_of_count(method, module):
    versions = method.versions()
    assert versions[module.__name__] == module.VERSION
    for used in (module, setup, heads, *((views,) if module is pretraining else (volumes,))):
        for thing in vars(used).values():
            name = getattr(thing, "__module__", None) or ""
            if name.startswith("strokelib.") and hasattr(sys.modules.get(name), "VERSION"):
                # Counted by the channels they made, or with the training loop.
                made_before = ("strokelib.data.midsagittal", "strokelib.data.registration")
                assert name in versions or name in made_before or name.startswith("strokelib.train"), name


def test_the_studys_changes_hold_in_the_training_that_they_name_and_a_rows_own_go_before(tmp_path):
    changed = {PretrainingRecipe: {"momentum": 0.9, "steps": 7, "scans": "STKn"}}
    changed |= {FinetuningRecipe: {"weight_decay": 0.1, "labels": "none"}, PlanRecipe: {"base": 6}}
    study = made(tmp_path, changes=changed)
    before, after = study.recipe(rows.PRETRAINING, scans="ALL"), study.recipe(rows.FINETUNING, labels="STKp")
    assert (before.momentum, before.steps, before.scans, before.base) == (0.9, 7, "ALL", 6)
    assert (after.weight_decay, after.labels, after.base) == (0.1, "STKp", 6)
    plain = {method: made(tmp_path, changes={}).recipe(method) for method in (rows.PRETRAINING, rows.FINETUNING)}
    assert before.weight_decay == plain[rows.PRETRAINING].weight_decay
    assert (after.momentum, after.steps) == (plain[rows.FINETUNING].momentum, plain[rows.FINETUNING].steps)


# Seeds, votes and the second criterion


def test_three_seeds_are_trained_from_the_studys_seed_on_and_one_pre_training_serves_all(kept, asked, monkeypatch):
    study = made(kept)
    monkeypatch.setitem(study.__dict__, "plan", StudyRecipe.at("paper"))
    nothing = np.zeros(made_heads.SHAPE, np.float16)
    monkeypatch.setattr(rows, "predict", lambda one, cases: {case.id: nothing for case in cases})
    study.outcome(PROPOSED)
    assert [call.seed for call in asked if call.method.key == "ssl_finetuning"] == [3, 4, 5]
    before = [call for call in asked if call.method.key == "ssl_pretraining"]
    assert len({call.folder for call in before}) == 1
    asked.clear()
    study.outcome(BASELINE, channels=2)
    assert [call.seed for call in asked] == [3, 4, 5]
    asked.clear()
    study.outcome(BASELINE, seeds=[8], channels=2, frozen=0.33)
    assert [(call.seed, call.recipe.channels, call.recipe.frozen_share) for call in asked] == [(8, 2, 0.33)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which the rows that need no network are scored once for several tests."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def voted(kept, asked, monkeypatch):
    """The outcome of three seeds that find the truth, all of the brain, and nothing; and what each was shown."""
    shown = []

    def predict(one, cases):
        shown.append((one.seed, names(cases)))
        say = {1: lambda c: c.lesion, 2: lambda c: c.brain, 3: lambda c: c.lesion & False}[one.seed]
        return {case.id: np.where(say(case), 0.51, 0.5).astype(np.float16) for case in cases}

    monkeypatch.setattr(rows, "predict", predict)
    study = made(kept)
    return study, study.outcome(BASELINE, seeds=[1, 2, 3]), shown


def test_a_voxel_is_lesion_where_most_seeds_say_so(voted):
    study, outcome, shown = voted
    assert (outcome.row, len(outcome.trained)) == (BASELINE, 3)
    assert sorted(outcome.masks) == sorted(HELD_OUT)
    assert shown == [(seed, HELD_OUT[2 * k : 2 * k + 2]) for k in range(2) for seed in (1, 2, 3)]
    for split in SPLITS[1:]:
        for case in study.held_out(split):
            # Of truth, brain and nothing two agree in the lesion.
            np.testing.assert_array_equal(outcome.masks[case.id], case.lesion & case.brain)
    assert study.outcome(BASELINE, seeds=[2, 3]).masks[HELD_OUT[0]].sum() == 0


def test_every_held_out_stroke_scan_is_scored_once_and_healthy_ones_are_not(voted):
    study, outcome, _ = voted
    for number, split in enumerate(SPLITS[1:]):
        table = outcome.scores[split]
        assert set(table["method"]) == {BASELINE}
        assert not table.duplicated(["case", "metric"]).any()
        assert list(dict.fromkeys(table["case"])) == HELD_OUT[2 * number : 2 * number + 2]
        found = table[table["metric"] == "dice"].set_index("case")["value"]
        for case in study.held_out(split):
            assert found[case.id] == pytest.approx(dice(outcome.masks[case.id], case.lesion))


def test_the_second_criterion_takes_small_lesions_from_the_truth_alone_and_drops_emptied_cases(voted):
    study, outcome, _ = voted
    assert names(study.above("val")) == ["icoais-val-0"]
    assert names(study.above("test")) == ["icoais-test-0", "icoais-test-1"]
    kept = study.above("test")[0]
    whole = PARTS["icoais"]["test"][0]
    np.testing.assert_array_equal(kept.lesion, whole.lesion & ~SMALL_ONE)
    assert 0 < kept.lesion.sum() < whole.lesion.sum()
    assert set(outcome.above["val"]["case"]) == {"icoais-val-0"}
    test = outcome.above["test"]
    values = test[test["metric"] == "dice"].set_index("case")["value"]
    mask = outcome.masks["icoais-test-0"]
    assert values["icoais-test-0"] == pytest.approx(dice(mask, kept.lesion))
    assert values["icoais-test-0"] < dice(mask, whole.lesion)


def test_the_limit_of_the_second_criterion_is_the_studys(tmp_path, monkeypatch):
    study = made(tmp_path)
    assert study.plan.limit_ml == 3.0
    monkeypatch.setitem(study.__dict__, "plan", StudyRecipe(limit_ml=0.1))
    assert names(study.above("val")) == ["icoais-val-0", "icoais-val-1"]


def test_done_needs_three_seeds_that_are_trained_long_enough_and_beat_the_references(kept, asked, monkeypatch):
    study = made(kept)
    monkeypatch.setattr(rows, "predict", lambda one, cases: {c.id: c.lesion.astype(np.float16) for c in cases})
    monkeypatch.setattr(rows, "versus_references", sure(0.1))
    found = {count: study.outcome(BASELINE, seeds=range(count)).status for count in (1, 2, 3, 4)}
    assert found == {1: "1 seed", 2: "1 seed", 3: "done", 4: "done"}
    monkeypatch.setattr(rows, "versus_references", sure(-0.1))
    assert study.outcome(BASELINE, seeds=range(3)).status == "did not learn"
    monkeypatch.setattr(rows, "versus_references", sure(0.1))
    whole = rows.train_method

    def one_too_short(*args, **how):
        found = whole(*args, **how)
        found.undertrained = how["seed"] == 1
        return found

    monkeypatch.setattr(rows, "train_method", one_too_short)
    assert study.outcome(BASELINE, seeds=range(3)).status == "undertrained"


def test_the_vote_and_not_a_single_seed_is_compared_with_the_references_on_the_validation_scans(voted, monkeypatch):
    study, outcome, _ = voted
    given = []

    def watched(frame, row, references, *, seed):
        given.append((frame, row, references, seed))
        return sure(0.1)()

    monkeypatch.setattr(rows, "versus_references", watched)
    again = study.outcome(BASELINE, seeds=[1, 2, 3])
    frame, row, references, seed = given[0]
    assert (row, references, seed) == (BASELINE, REFERENCES, 3)
    pd.testing.assert_frame_equal(frame[frame["method"] == BASELINE], again.scores["val"])
    assert set(frame["method"]) == {BASELINE, *REFERENCES}
    assert set(frame["case"]) == {"icoais-val-0", "icoais-val-1"}
    pd.testing.assert_frame_equal(again.scores["val"], outcome.scores["val"])


def test_the_references_are_chosen_without_test_scans_and_scored_by_both_criteria(voted):
    study, _, _ = voted
    assert set(study.references) == {(split, which) for split in ("val", "test") for which in ("all", "above")}
    cases = {key: set(table["case"]) for key, table in study.references.items()}
    assert cases["val", "all"] == {"icoais-val-0", "icoais-val-1"}
    assert cases["val", "above"] == {"icoais-val-0"}
    assert cases["test", "all"] == {"icoais-test-0", "icoais-test-1"}
    truth = {
        which: study.references["test", which].query("metric == 'truth_volume_ml' and case == 'icoais-test-0'")["value"]
        for which in ("all", "above")
    }
    assert truth["above"].max() < truth["all"].min()


# Trained once


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A study with two rows that were really trained, one of them on two channels."""
    study = made(tmp_path_factory.mktemp("models"))
    return study, {PROPOSED: study.outcome(PROPOSED), BASELINE: study.outcome(BASELINE, channels=2)}


def test_trainings_of_a_few_steps_give_scores_and_are_undertrained(trained):
    study, outcomes = trained
    for outcome in outcomes.values():
        assert outcome.status == "undertrained"
        assert len(outcome.trained) >= 1
        for one in outcome.trained:
            assert len(one.history.curve(one.method.validation)[1]) == 1
        for split in SPLITS[1:]:
            for case in study.held_out(split):
                mask = outcome.masks[case.id]
                assert (mask.shape, mask.dtype) == (case.image.array.shape, bool)
                assert not mask[~case.brain].any()
    before = study.pretrained("ALL-SA")
    assert before.history.steps == 2
    assert outcomes[PROPOSED].trained[0].recipe.pretrained == before.folder.name


def test_rows_are_trained_once_and_read_back_with_the_same_numbers(trained, monkeypatch):
    study, outcomes = trained

    def refuse(*args, **how):
        raise AssertionError("trained again")

    for name in ("PRETRAINING", "FINETUNING"):
        monkeypatch.setattr(rows, name, dataclasses.replace(getattr(rows, name), fit=refuse))
    before = sorted(p.name for p in study.out.iterdir())
    fresh = dataclasses.replace(study)
    for (row, outcome), channels in zip(outcomes.items(), (1, 2), strict=True):
        found = fresh.outcome(row, channels=channels)
        assert [one.folder for one in found.trained] == [one.folder for one in outcome.trained]
        pd.testing.assert_frame_equal(found.scores["test"], outcome.scores["test"])
    assert sorted(p.name for p in study.out.iterdir()) == before
    with pytest.raises(AssertionError, match="trained again"):
        fresh.pretrained("STKn")


def test_a_patient_in_training_and_validation_is_refused(tmp_path):
    shared = dataclasses.replace(PARTS["icoais"]["val"][0], patient="icoais-train-0")
    parts = {**PARTS, "icoais": PARTS["icoais"] | {"val": [shared, PARTS["icoais"]["val"][1]]}}
    study = made(tmp_path, parts=parts)
    for train in (lambda: study.finetuned(BASELINE, seed=3), lambda: study.pretrained("ALL")):
        with pytest.raises(DataError, match="icoais-train-0"):
            train()
    leaking = made(tmp_path, parts={**PARTS, "icoais": PARTS["icoais"] | {"train": PARTS["icoais"]["test"]}})
    for train in (lambda: leaking.finetuned(BASELINE, seed=3), lambda: leaking.pretrained("STKp")):
        with pytest.raises(DataError, match=r"test cases(.|\n)*icoais-test-0"):
            train()


# Which scans


def test_a_users_own_scans_alone_have_the_rows_that_they_allow(tmp_path, asked):
    own = made(tmp_path, parts={"icoais": PARTS["icoais"]})
    assert own.target == "icoais"
    assert own.rows == [row for row in TABLE1 if not row.startswith("STKn")]
    own.finetuned("FS-STKp", seed=3)
    assert names(asked[-1].train) == [f"icoais-train-{k}" for k in range(3)]
    with pytest.raises(DataError, match="STKn"):
        own.pretrained("STKn-SA")
    healthy = {
        split: [*cases, dataclasses.replace(cases[-1], id=f"{split}-more", patient=f"{split}-more")]
        for split, cases in PARTS["icoais"].items()
    }
    assert made(tmp_path, parts={"icoais": healthy}).rows == list(TABLE1)
    assert made(tmp_path).rows == list(TABLE1)


def test_a_study_without_enough_scans_says_so(tmp_path, asked):
    few = {split: cases[:1] for split, cases in PARTS["icoais"].items()}
    with pytest.raises(DataError, match=r"ALL(.|\n)*two training and two validation scans"):
        made(tmp_path, parts={"icoais": few}).finetuned(BASELINE, seed=3)
    well = made(tmp_path, parts={"center_tbi": PARTS["center_tbi"]})
    for split in SPLITS[1:]:
        with pytest.raises(DataError, match=f"center_tbi, split {split}"):
            well.held_out(split)
    healthy = {**PARTS["icoais"], "test": PARTS["icoais"]["test"][2:]}
    with pytest.raises(DataError, match="icoais, split test"):
        made(tmp_path, parts={"icoais": healthy}).held_out("test")


@pytest.mark.parametrize(("profile", "grid"), [("paper", "published"), ("demo", "prepared"), ("smoke", "prepared")])
def test_a_run_loads_four_data_sets_or_the_users_own_on_the_profiles_grid(profile, grid, tmp_path, monkeypatch):
    calls = []

    def load(settings, **how):
        calls.append((settings, how))
        return [[f"{settings.cohort}-{split}"] for split in SPLITS if split in how]

    monkeypatch.setattr(rows, "load_parts", load)
    settings = Settings(Profile(profile), "icoais", 5, None, tmp_path / "runs", tmp_path / "figures")
    changes = {FinetuningRecipe: {"steps": 7}}
    study = rows.load_study(settings, changes=changes)
    assert list(study.parts) == ["icoais", "aisd", "apis", "center_tbi"]
    assert [call[0].cohort for call in calls] == list(study.parts)
    assert {call[1]["grid"] for call in calls} == {grid}
    assert all(call[1].get(split) is None for call in calls for split in SPLITS)
    for name, parts in study.parts.items():
        assert parts == {split: [f"{name}-{split}"] for split in parts}
        assert {"train", "val"} <= set(parts)
    assert set(study.parts["icoais"]) == set(SPLITS)
    assert (study.seed, study.out, study.changes) == (5, tmp_path / "runs" / "models", changes)
    calls.clear()
    own = rows.load_study(dataclasses.replace(settings, data=tmp_path / "scans"), progress=True)
    assert list(own.parts) == ["icoais"]
    assert [(call[0].data, call[1]["progress"]) for call in calls] == [(tmp_path / "scans", True)]
