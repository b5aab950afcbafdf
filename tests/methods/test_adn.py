"""The rows of Table 1 and the variants: what is trained for each, that it is trained once, and on what it is scored."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strokelib import manifest
from strokelib.adn import alignment, sean_fitting, segmentation
from strokelib.errors import DataError
from strokelib.methods import adn as rows
from strokelib.methods import adn_tissue
from strokelib.methods.adn import PROPOSED, TABLE1, VARIANTS, WITHOUT_T, WITHOUT_TISSUE, Study
from strokelib.methods.reference_rows import REFERENCES
from strokelib.methods.scoring import COLUMNS, penalised
from strokelib.metrics import dice
from strokelib.settings import Profile, Settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads

HOW = {"shape": (16, 96, 80), "spacing": (5.0, 2.0, 2.0), "tilt_deg": 5.0}
PARTS = tuple(
    made_heads.heads(numbers, split, **HOW)
    for split, numbers in (("train", range(3)), ("val", range(3, 5)), ("test", range(5, 8)))
)
TEST = [case.id for case in PARTS[2]]
CHANGES = {"steps": 3, "validations": 1}
METHODS = (rows.ALIGNMENT, rows.VOLUME, rows.ADN, rows.SEAN)
SHOWN = ("3D ResUNet (raw)", "SEAN", "3D ResUNet (aligned)", WITHOUT_TISSUE, PROPOSED)


def atlas_stand_in(source, case, *, files=None):
    """The true tissues in place of the slow registration; grey and white are swapped, so that the two differ."""
    maps = adn_tissue.tissue.true_maps(case)
    return maps if source == "truth" else dataclasses.replace(maps, grey=maps.white, white=maps.grey)


@pytest.fixture(autouse=True, scope="module")
def _steady():
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        patch.setattr(adn_tissue, "tissue_maps_from", atlas_stand_in)
        yield


@pytest.fixture(scope="module")
def calls():
    """What was given to each training: method, recipe, and the channels of the training and validation cases."""
    given, whole = [], rows.train_method

    def watched(method, recipe, train_cases, val_cases, **how):
        channels = [{name for case in part for name in case.channels} for part in (train_cases, val_cases)]
        given.append((method, recipe, *channels, train_cases))
        return whole(method, recipe, train_cases, val_cases, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "train_method", watched)
        yield given


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(PARTS, PARTS[2], Profile.SMOKE, 0, tmp_path_factory.mktemp("models"), CHANGES)


@pytest.fixture(scope="module")
def trained(study, calls):
    """Some rows of Table 1 and a variant, and what was given to their trainings."""
    found, given = {}, {}
    for name in (*SHOWN, WITHOUT_T, "true tissue maps"):
        calls.clear()
        found[name] = study.row(name)
        given[name] = list(calls)
    return found, given


@pytest.fixture(scope="module")
def outcomes(trained):
    return trained[0]


def folders(study, key):
    return {p.name for p in study.out.glob(f"{key}-*") if p.is_dir()}


# What is trained for each row


def test_the_rows_are_those_of_table_1_and_aligned_where_it_says_so(study):
    table = manifest.published("adn", 1)
    printed = list(dict.fromkeys(zip(table["method"], table["aligned"], strict=True)))
    ours = [
        (
            name.removesuffix(" (raw)").removesuffix(" (aligned)"),
            "Y" if study.recipe(method, **changes).aligned else "N",
        )
        for name, (method, changes) in TABLE1.items()
    ]
    assert ours == printed


def test_the_rows_change_what_they_say_of_their_recipe_and_nothing_else(study):
    for name, (method, changes) in {**TABLE1, **VARIANTS}.items():
        changed, plain = dataclasses.asdict(study.recipe(method, **changes)), dataclasses.asdict(study.recipe(method))
        assert {key: value for key, value in changed.items() if value != plain[key]} == changes, name
    assert study.recipe(rows.ADN).tissue
    assert study.recipe(rows.VOLUME).network == "3D ResUNet"
    assert {study.recipe(rows.VOLUME, **c).network for m, c in TABLE1.values() if m is rows.VOLUME} == set(
        segmentation.NETWORKS
    )


def test_the_study_s_changes_hold_in_every_training_and_a_row_s_own_go_before(study):
    for method in METHODS:
        assert (study.recipe(method).steps, study.recipe(method).validations) == (3, 1)
        assert study.recipe(method, steps=7).steps == 7
        assert study.recipe(method).width == 4


def test_every_method_is_filed_under_its_own_key_with_the_versions_of_its_modules(trained):
    assert len({method.key for method in METHODS}) == 4
    for method, module in zip(METHODS, (alignment, segmentation, segmentation, sean_fitting), strict=True):
        assert method.versions()[module.__name__] == module.VERSION
        assert all(version >= 1 for version in method.versions().values())
    outcomes, given = trained
    for outcome in outcomes.values():
        used = outcome.trained
        assert len(used.history.curve(used.method.validation)[1]) == 1
    first = given[SHOWN[0]]
    assert [method.key for method, *_ in first] == ["adn_volume"]
    assert [method.key for method, *_ in given["3D ResUNet (aligned)"]] == ["adn_alignment", "adn_volume"]


def test_t_is_trained_once_on_the_heads_as_they_lie_and_gives_maps_of_the_other_networks_grid(study, trained):
    _, given = trained
    of_t = [
        (recipe, train, val)
        for calls in given.values()
        for m, recipe, train, val, _ in calls
        if m.key == rows.ALIGNMENT.key
    ]
    assert [(train, val) for _, train, val in of_t] == [(set(), set())]
    assert (of_t[0][0].pool, study.recipe(rows.VOLUME).pool) == (4, 2)
    transformer = study.transformer()
    for part, posed in zip(study.parts, study.posed, strict=True):
        assert [case.id for case in posed] == [case.id for case in part]
        for case in posed:
            expected = alignment.find_matrix(transformer.model, transformer.recipe, case, 2)
            np.testing.assert_allclose(case.channels["alignment"], expected, atol=1e-5)
    own = alignment.find_matrix(transformer.model, transformer.recipe, PARTS[0][0])
    assert np.abs(own - study.posed[0][0].channels["alignment"]).max() > 1e-4


def test_each_row_sees_poses_and_tissue_where_it_needs_them_and_the_validation_no_tissue(trained):
    _, given = trained
    expected = {
        "3D ResUNet (raw)": (set(), set()),
        "SEAN": (set(), set()),
        "3D ResUNet (aligned)": ({"alignment"}, {"alignment"}),
        WITHOUT_TISSUE: ({"alignment"}, {"alignment"}),
        PROPOSED: ({"alignment", "tissue"}, {"alignment"}),
        WITHOUT_T: (set(), set()),
        "true tissue maps": ({"alignment", "tissue"}, {"alignment"}),
    }
    assert {name: calls[-1][2:4] for name, calls in given.items()} == expected


def test_the_tissue_is_that_of_the_source_that_the_row_names(trained):
    _, given = trained
    for name, source in ((PROPOSED, "atlas"), ("true tissue maps", "truth")):
        for shown, case in zip(given[name][-1][4], PARTS[0], strict=True):
            np.testing.assert_array_equal(shown.channels["tissue"], atlas_stand_in(source, case).labels())


def test_d_and_f_start_from_one_residual_network_trained_on_the_same_heads_once(study, trained, monkeypatch):
    _, given = trained
    for name in (WITHOUT_TISSUE, PROPOSED, "true tissue maps"):
        prior = given[name][-2]
        assert prior[0] is rows.VOLUME
        assert (prior[1].network, prior[1].steps, prior[1].aligned) == ("3D ResUNet", 3, True)
        assert prior[2:4] == ({"alignment"}, {"alignment"})
    raw = given[WITHOUT_T][-2]
    assert (raw[1].aligned, raw[1].steps, raw[2]) == (False, 3, set())
    # The rows "3D ResUNet", raw and aligned, are the starts.
    assert len(folders(study, "adn_volume")) == 2
    starts, whole = [], segmentation.build_adn

    def watched(recipe, start=None):
        starts.append(start)
        return whole(recipe, start)

    monkeypatch.setattr(segmentation, "build_adn", watched)
    study.row(PROPOSED)
    prior = study.train(rows.VOLUME, study.posed, aligned=True, steps=3)
    expected = prior.model.state_dict()
    assert len(starts) == 1
    assert all(value.equal(expected[key]) for key, value in starts[0].state_dict().items())


def test_without_prior_steps_adn_starts_from_nothing(study, calls, monkeypatch):
    starts = []

    def watched(recipe, start=None):
        starts.append(start)
        raise made_heads.StoppedError

    monkeypatch.setattr(rows, "ADN", dataclasses.replace(rows.ADN, build=watched))
    calls.clear()
    with pytest.raises(made_heads.StoppedError):
        study.outcome("alone", rows.ADN, {"prior_steps": 0, "tissue": False})
    assert starts == [None]
    assert [method.key for method, *_ in calls] == ["adn"]


# Once


def test_rows_are_trained_once_and_read_back_with_the_same_numbers(study, outcomes, monkeypatch):
    def refuse(*args, **how):
        raise AssertionError("trained again")

    before = {method.key: folders(study, method.key) for method in METHODS}
    again = {method.key: dataclasses.replace(method, fit=refuse) for method in METHODS}
    for name in ("ALIGNMENT", "VOLUME", "ADN", "SEAN"):
        monkeypatch.setattr(rows, name, again[getattr(rows, name).key])
    everything = {**TABLE1, **VARIANTS}
    monkeypatch.setattr(rows, "TABLE1", {name: (again[m.key], changes) for name, (m, changes) in everything.items()})
    monkeypatch.setattr(rows, "VARIANTS", {})
    fresh = dataclasses.replace(study)
    for name, outcome in outcomes.items():
        found = fresh.row(name)
        assert found.trained.folder == outcome.trained.folder
        pd.testing.assert_frame_equal(found.scores, outcome.scores)
        for case in TEST:
            np.testing.assert_array_equal(found.probability[case], outcome.probability[case])
    assert {key: folders(study, key) for key in before} == before


def test_each_row_has_a_folder_of_its_own(outcomes):
    assert len({outcome.trained.folder for outcome in outcomes.values()}) == len(outcomes)
    assert rows.folders_of(outcomes) == {name: outcome.trained.folder.name for name, outcome in outcomes.items()}


def test_other_heads_another_seed_and_other_changes_are_trained_anew(study, calls):
    calls.clear()
    trained = study.transformer()
    for other in (
        dataclasses.replace(study, seed=1),
        dataclasses.replace(study, changes=CHANGES | {"steps": 2}),
        dataclasses.replace(study, parts=(study.parts[0][:2], *study.parts[1:])),
    ):
        assert other.transformer().folder != trained.folder
    assert study.transformer(limits="code").recipe.limits == "code"


# Scores


def test_every_row_scores_every_test_case_once_in_its_own_frame(outcomes):
    for name, outcome in outcomes.items():
        assert outcome.row == name
        assert set(outcome.scores["method"]) == {name}
        assert not outcome.scores.duplicated(["case", "metric"]).any()
        assert all(cases == TEST for cases in outcome.scores.groupby("metric")["case"].apply(sorted))
        assert set(outcome.probability) == set(TEST)
        found = outcome.scores[outcome.scores["metric"] == "dice"].set_index("case")["value"]
        for case in PARTS[2]:
            assert outcome.probability[case.id].shape == case.image.array.shape
            assert outcome.probability[case.id].dtype == np.float16
            assert found[case.id] == pytest.approx(dice(outcome.probability[case.id] > 0.5, case.lesion))
            assert (outcome.probability[case.id][~case.brain] == 0).all()


def test_the_probabilities_are_those_of_the_trained_network(study, outcomes):
    for name, part in (("SEAN", study.test), (PROPOSED, study.posed[2])):
        used = outcomes[name].trained
        for case in part:
            found = used.method.predict(used.model, used.recipe, case)
            np.testing.assert_allclose(outcomes[name].probability[case.id], found, atol=1e-3)


def frame(values, metric="hd95_mm", unit="mm"):
    return pd.DataFrame([("row", name, metric, value, unit) for name, value in values.items()], columns=COLUMNS)


def test_a_scan_with_a_lesion_and_no_distance_gets_its_diagonal_and_the_others_keep_what_they_have():
    nan = float("nan")
    cases = [
        made_heads.head(0, shape=(16, 30, 40), spacing=(5.0, 1.0, 1.0)),
        made_heads.head(1, shape=(16, 30, 40), spacing=(5.0, 1.0, 1.0)),
        made_heads.head(2, shape=(16, 30, 40), spacing=(5.0, 1.0, 1.0), lesion=False),
        dataclasses.replace(made_heads.head(3), lesion=None),
    ]
    given = pd.concat(
        [
            frame({"head-0": nan, "head-1": 12.0, "head-2": nan, "head-3": nan}),
            frame({"head-0": 0.0, "head-1": 0.4}, "dice", "1"),
        ],
        ignore_index=True,
    )
    found = penalised(given, cases)
    pd.testing.assert_frame_equal(found[: len(given)], given)
    added = found[len(given) :]
    assert set(added["metric"]) == {"hd95_penalised_mm"}
    assert set(added["unit"]) == {"mm"}
    values = added.set_index("case")["value"]
    # 80 mm, 30 mm and 40 mm: sqrt(6400 + 900 + 1600) = 94.34 mm.
    assert values["head-0"] == pytest.approx(94.3398, abs=1e-4)
    assert values["head-1"] == 12.0
    assert np.isnan(values["head-2"])
    assert np.isnan(values["head-3"])


def test_every_row_has_the_penalised_distance_beside_the_plain_one(outcomes):
    for outcome in outcomes.values():
        wide = outcome.scores.pivot(index="case", columns="metric", values="value")
        assert wide["hd95_penalised_mm"].notna().all()
        there = wide["hd95_mm"].notna()
        assert (wide["hd95_penalised_mm"][there] == wide["hd95_mm"][there]).all()
        length = np.linalg.norm(np.multiply(HOW["shape"], HOW["spacing"]))
        assert wide["hd95_penalised_mm"][~there].tolist() == pytest.approx([length] * int((~there).sum()))


def test_three_steps_are_undertrained_and_a_flat_curve_below_the_references_did_not_learn(study, outcomes, monkeypatch):
    assert {outcome.status for outcome in outcomes.values()} == {"undertrained"}
    monkeypatch.setattr(rows.Trained, "undertrained", False)
    assert study.row("3D ResUNet (raw)").status == "did not learn"
    perfect = {case.id: case.lesion.astype(np.float16) for case in PARTS[2]}
    monkeypatch.setattr(rows, "predict", lambda trained, cases: perfect)
    worse = study.references.assign(value=lambda f: f["value"].where(f["metric"] != "dice", 0.1))
    fresh = dataclasses.replace(study)
    monkeypatch.setitem(fresh.__dict__, "references", worse)
    assert fresh.row("3D ResUNet (raw)").status == "1 seed"


def test_the_references_are_chosen_without_the_test_cases_and_score_them(study):
    assert set(study.references["method"]) == set(REFERENCES)
    assert set(study.references["case"]) == set(TEST)
    leaking = dataclasses.replace(study, parts=(PARTS[2], PARTS[1], PARTS[2]))
    with pytest.raises(DataError, match="head-5"):
        _ = leaking.references
    with pytest.raises(DataError, match=r"test cases: \['head-5'"):
        leaking.transformer()


def test_the_scores_of_several_rows_become_one_table_with_the_weakest_status(outcomes):
    table = rows.scores_of(outcomes)
    assert list(dict.fromkeys(table["method"])) == list(outcomes)
    assert len(table) == sum(len(outcome.scores) for outcome in outcomes.values())
    mixed = {
        name: dataclasses.replace(outcome, status=said)
        for (name, outcome), said in zip(list(outcomes.items())[:2], ("1 seed", "did not learn"), strict=True)
    }
    assert rows.weakest_of(mixed) == "did not learn"


# Alignments and variants


def test_three_alignments_of_the_known_heads_are_compared_on_the_other_networks_grid(study, monkeypatch):
    pools = []

    def classical(cases, pool):
        pools.append(pool)
        return {case.id: 2 * np.eye(4) for case in cases}

    monkeypatch.setattr(rows, "classical_matrices", classical)
    found = study.alignments()
    assert list(found) == ["no alignment", "classical", "T"]
    assert pools == [2]
    for name in TEST:
        np.testing.assert_array_equal(found["no alignment"][name], np.eye(4))
        np.testing.assert_array_equal(found["classical"][name], 2 * np.eye(4))
    for case in study.known_posed:
        np.testing.assert_allclose(found["T"][case.id], case.channels["alignment"], atol=1e-6)


def test_true_tissue_maps_are_left_out_where_a_training_head_is_real(study):
    assert study.variants == list(VARIANTS)
    real = dataclasses.replace(PARTS[0][1], embedded=False)
    mixed = dataclasses.replace(study, parts=([PARTS[0][0], real], *PARTS[1:]))
    assert mixed.variants == [name for name in VARIANTS if name != "true tissue maps"]
    assert len(mixed.variants) == len(VARIANTS) - 1
    # A real head in the test set forbids nothing.
    tested = dataclasses.replace(study, parts=(*PARTS[:2], [dataclasses.replace(PARTS[2][0], embedded=False)]))
    assert tested.variants == list(VARIANTS)


# Which heads


@pytest.mark.parametrize(
    ("profile", "grid", "limits"), [("paper", "published", (345, 50, 52)), ("smoke", "prepared", (4, 2, 3))]
)
def test_a_run_loads_the_profile_s_number_of_heads_on_its_grid(profile, grid, limits, tmp_path, monkeypatch):
    calls = []

    def load(settings, **how):
        calls.append((settings, how))
        return PARTS[: len(how) - 2]

    monkeypatch.setattr(rows, "load_parts", load)
    settings = Settings(Profile(profile), "aisd", 3, None, tmp_path / "runs", tmp_path / "figures")
    study = rows.load_study(settings, steps=5)
    wanted = dict(zip(("train", "val", "test"), limits, strict=True))
    assert calls == [(settings, {"grid": grid, "progress": False, **wanted})]
    assert (study.seed, study.out, study.changes) == (3, tmp_path / "runs" / "models", {"steps": 5})
    assert study.known == list(study.test)
    own = dataclasses.replace(settings, data=tmp_path / "scans")
    calls.clear()
    study = rows.load_study(own, progress=True)
    assert [call[0].data for call in calls] == [tmp_path / "scans", None]
    assert calls[1][1] == {"grid": grid, "progress": True, "test": limits[2]}
    assert study.known == list(PARTS[0])
