import dataclasses

import numpy as np
import pandas as pd
import pytest

from strokelib import methods
from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError
from strokelib.methods import METHODS, UNetRecipe
from strokelib.methods.reference_rows import best_threshold, dark_scores, frequency_map, frequency_scores, mirror_scores
from strokelib.methods.rolls import roll_of
from strokelib.methods.training import run_name
from strokelib.metrics import dice, summarise

SHAPE, SPACING = (6, 40, 32), (10.0, 4.0, 4.0)
SMOKE = UNetRecipe.at("smoke")
UNET = METHODS["unet"]


def head(number, split="train", lesion=True):
    """An ellipsoid of tissue with a cavity on either side, noise, and a dark ball on one side."""
    rng = np.random.default_rng(number)
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    middle = (SHAPE[2] - 1) / 2
    brain = ((z - 2.5) / 3.2) ** 2 + ((y - 19.5) / 16) ** 2 + ((x - middle) / 12) ** 2 < 1
    image = np.where(brain, 34.0, -1000.0)
    image[brain & (abs(abs(x - middle) - 3) < 1.2) & (abs(y - 19) < 4)] = 6.0
    side = 1 if number % 2 else -1
    ball = ((z - 3) / 1.6) ** 2 + ((y - 17 - number % 3) / 4) ** 2 + ((x - middle - 7.5 * side) / 3) ** 2 < 1
    mask = ball & brain & (image > 20) & lesion
    image = image - 8.0 * mask + rng.normal(0, 1.5, SHAPE) * brain
    affine = np.diag([SPACING[2], SPACING[1], SPACING[0], 1.0]) @ np.diag([-1.0, -1.0, 1.0, 1.0])
    return Case(f"made-{number}", f"p{number}", "made", split, Volume(image.astype(np.float32), affine), mask, brain)


TRAIN = [head(i) for i in range(6)]
VAL = [head(i, "val") for i in range(6, 9)]
TEST = [head(i, "test") for i in range(9, 13)]


def test_every_method_is_filed_under_its_own_key_and_builds_its_smoke_network():
    for key, method in METHODS.items():
        assert method.key == key
        assert method.build(method.recipe.at("smoke")) is not None
        assert all(version >= 1 for version in method.versions().values())


def test_the_papers_u_net_has_the_published_widths():
    recipe = UNetRecipe.at("paper")
    assert (recipe.width, recipe.depth, recipe.window_hu, recipe.normalise) == (64, 5, (30.0, 100.0), "zscore")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return methods.train_method(UNET, SMOKE, TRAIN, VAL, seed=0, out=tmp_path_factory.mktemp("models"))


def test_a_training_leaves_weights_history_and_facts_but_no_checkpoints(trained):
    names = {p.name for p in trained.folder.iterdir()}
    assert {"model.safetensors", "history.csv", "trained.json"} <= names
    assert "checkpoints" not in names
    assert trained.history.curve("pooled_dice")[0].tolist() == [3, 6]
    assert trained.undertrained
    assert not trained.model.training


def test_the_same_training_is_done_once(trained, monkeypatch):
    def refuse(*args, **settings):
        raise AssertionError("trained again")

    same = dataclasses.replace(UNET, fit=refuse)
    again = methods.train_method(same, SMOKE, TRAIN, VAL, seed=0, out=trained.folder.parent)
    assert again.folder == trained.folder
    assert again.history == trained.history
    for a, b in zip(again.model.state_dict().values(), trained.model.state_dict().values(), strict=True):
        assert a.equal(b)
        assert a.stride() == b.stride()  # the memory layout decides the last bit of a prediction


def test_recipe_seed_cases_and_module_versions_name_the_training(monkeypatch):
    train, val = roll_of(TRAIN), roll_of(VAL)
    names = [
        run_name(UNET, SMOKE, train, val, 0),
        run_name(UNET, dataclasses.replace(SMOKE, lr=1e-5), train, val, 0),
        run_name(UNET, SMOKE, train, val, 1),
        run_name(UNET, SMOKE, roll_of(TRAIN[:-1]), val, 0),
        run_name(UNET, SMOKE, train, roll_of(VAL[:-1]), 0),
    ]
    monkeypatch.setattr("strokelib.nn.unet.VERSION", 1000)
    names.append(run_name(UNET, SMOKE, train, val, 0))
    assert len(set(names)) == len(names)


def test_a_fingerprint_changes_with_image_and_reference_alone():
    case = TRAIN[0]
    image = case.image.array.copy()
    image[0, 0, 0] += 1
    other = dataclasses.replace(case, image=case.image.with_array(image))
    changed = (case, other, dataclasses.replace(case, lesion=~case.lesion), TRAIN[1])
    assert len({roll_of([c]).fingerprint for c in changed}) == 4
    assert roll_of([case]) == roll_of([dataclasses.replace(case, facts={"age": 3})])


@pytest.mark.parametrize(
    ("train", "val"), [(TRAIN, TRAIN[:1]), (TRAIN + TEST[:1], VAL), (TRAIN, TEST), ([], VAL), (TRAIN, [])]
)
def test_shared_patients_and_test_cases_are_refused(tmp_path, train, val):
    with pytest.raises(DataError, match="cases for training"):
        methods.train_method(UNET, SMOKE, train, val, seed=0, out=tmp_path)


def test_predictions_are_kept_and_read_back(trained, monkeypatch):
    first = methods.predict(trained, TEST)
    assert set(first) == {c.id for c in TEST}
    for case in TEST:
        assert first[case.id].shape == SHAPE
        assert first[case.id].dtype == np.float16
        assert (first[case.id][~case.brain] == 0).all()

    def refuse(*args):
        raise AssertionError("predicted again")

    silent = dataclasses.replace(trained, method=dataclasses.replace(UNET, predict=refuse))
    second = methods.predict(silent, TEST)
    assert all(np.array_equal(first[k], second[k]) for k in first)


def test_scores_are_rows_with_units():
    frame = methods.score("perfect", {c.id: c.lesion.astype(float) for c in TEST}, TEST)
    assert list(frame.columns) == ["method", "case", "metric", "value", "unit"]
    assert frame.query("metric == 'dice'")["value"].tolist() == [1.0] * len(TEST)
    volumes = frame.query("metric == 'truth_volume_ml'")
    assert volumes["value"].tolist() == pytest.approx([c.lesion_ml for c in TEST])
    units = dict(zip(frame["metric"], frame["unit"], strict=True))
    assert (units["dice"], units["hd95_mm"], units["pred_volume_ml"]) == ("1", "mm", "mL")


def test_a_leak_has_to_be_asked_for_and_still_needs_cases(tmp_path):
    found = methods.train_method(UNET, SMOKE, [*TRAIN, *TEST, *VAL], VAL, seed=0, out=tmp_path, leak=True)
    assert found.folder.is_dir()
    with pytest.raises(DataError, match="cases for training"):
        methods.train_method(UNET, SMOKE, TRAIN, [], seed=0, out=tmp_path, leak=True)


def test_a_case_without_prediction_or_reference_is_refused():
    with pytest.raises(DataError, match="made-9"):
        methods.score("none", {}, TEST)
    unmarked = [dataclasses.replace(TEST[0], lesion=None)]
    with pytest.raises(DataError, match="made-9"):
        methods.score("none", {TEST[0].id: TEST[0].lesion}, unmarked)


def test_metrics_of_a_folder_are_merged_on_writing_and_on_reading(trained):
    masks = {c.id: c.lesion for c in TEST}
    folder = trained.folder
    methods.score("unet", masks, TEST[:2], out=folder)
    methods.score("unet", {k: ~v for k, v in masks.items()}, TEST[1:3], out=folder)
    merged = methods.read_metrics(folder.parent).query("metric == 'dice'")
    assert merged["case"].tolist() == [c.id for c in TEST[:3]]
    assert merged["value"].iloc[0] == 1
    assert merged["value"].iloc[1] < 0.1
    assert set(merged["seed"]) == {0}
    assert set(merged["recipe"]) == {SMOKE.key()}


def test_names_of_cases_stay_text_when_they_are_digits_or_read_like_a_missing_value(tmp_path):
    cases = [dataclasses.replace(TEST[0], id="0021092"), dataclasses.replace(TEST[1], id="NA")]
    maps = {case.id: case.lesion for case in cases}
    empty = {case.id: np.zeros_like(case.lesion) for case in cases}
    methods.score("a", maps, cases, out=tmp_path)
    methods.score("b", empty, cases, out=tmp_path)
    read = methods.read_metrics(tmp_path)
    assert set(read["case"]) == {"0021092", "NA"}
    assert methods.per_case(read, "a").loc["0021092", "dice"] == 1
    assert np.isnan(methods.per_case(read, "b").loc["NA", "hd95_mm"])


def test_reading_where_nothing_was_scored_is_an_error(tmp_path):
    with pytest.raises(DataError, match="score a trained method first"):
        methods.read_metrics(tmp_path)


def test_one_row_a_case_carries_the_status_of_empty_masks():
    cases = [TEST[0], TEST[1], head(20, "test", lesion=False), head(21, "test", lesion=False)]
    nothing = np.zeros(SHAPE, bool)
    predictions = dict(zip([c.id for c in cases], [cases[0].lesion, nothing, cases[0].lesion, nothing], strict=True))
    table = methods.per_case(methods.score("m", predictions, cases), "m").loc[[c.id for c in cases]]
    assert table["status"].tolist() == ["ok", "missed", "false_alarm", "both_empty"]
    assert summarise(table).loc["dice", "n_cases"] == 4
    with pytest.raises(DataError, match="no row"):
        methods.per_case(methods.score("m", predictions, cases), "other")
    twice = pd.concat([methods.score("m", predictions, cases)] * 2)
    with pytest.raises(DataError, match="several rows"):
        methods.per_case(twice, "m")


def test_the_frequency_map_is_symmetric_and_lies_where_the_lesions_were():
    frequency = frequency_map(TRAIN)
    np.testing.assert_allclose(frequency, frequency[..., ::-1])
    scores = frequency_scores(TEST[0], frequency)
    assert scores[TEST[0].lesion].mean() > 3 * scores[TEST[0].brain].mean()
    assert np.isneginf(scores[~TEST[0].brain]).all()


@pytest.mark.parametrize("case", TEST, ids=lambda c: c.id)
def test_the_darker_side_has_the_higher_mirror_score(case):
    scores = mirror_scores(case)
    assert scores[case.lesion].mean() > 3
    assert scores[case.lesion[..., ::-1] & case.brain].mean() < -3
    assert np.isneginf(scores[~case.brain]).all()


def test_fluid_is_no_candidate_for_dark_tissue():
    case = TEST[0]
    scores = dark_scores(case)
    assert np.isneginf(scores[case.brain & (case.image.array < 12)]).all()
    assert np.median(scores[case.lesion]) > np.median(scores[case.brain & ~case.lesion & (case.image.array > 20)])


def test_the_threshold_is_the_one_with_the_best_mean_dice():
    rng = np.random.default_rng(0)
    cases = [TRAIN[0], TRAIN[1]]
    scores = {c.id: (c.lesion + rng.normal(0, 0.4, SHAPE)).astype(np.float32) for c in cases}

    def mean_dice(threshold):
        return np.mean([dice(scores[c.id] > threshold, c.lesion) for c in cases])

    tried = np.linspace(-1, 2, 200)
    best = max(mean_dice(t) for t in tried)
    assert mean_dice(best_threshold(scores, cases)) > best - 0.02


def test_reference_rows_find_an_easy_lesion_and_name_their_threshold():
    references = methods.fit_references(TRAIN, VAL)
    assert tuple(references) == methods.REFERENCES
    frames = [methods.score(key, r.predict(TEST), TEST) for key, r in references.items()]
    means = pd.concat(frames).query("metric == 'dice'").groupby("method")["value"].mean()
    assert means["mirror_difference"] > 0.6
    assert means["hu_threshold"] > 0.3
    assert 0.1 < means["lesion_frequency"] < 0.8
    assert references["mirror_difference"].unit == "HU"


def test_reference_rows_are_scored_once(tmp_path, monkeypatch):
    first = methods.reference_metrics(TRAIN, VAL, TEST, out=tmp_path)
    assert set(first["method"]) == set(methods.REFERENCES)
    assert (next(tmp_path.glob("references-*")) / "thresholds.json").is_file()
    monkeypatch.setattr("strokelib.methods.reference_rows.fit_references", None)
    pd.testing.assert_frame_equal(first, methods.reference_metrics(TRAIN, VAL, TEST, out=tmp_path))


def test_reference_rows_never_see_a_test_case():
    with pytest.raises(DataError, match="made-9"):
        methods.fit_references(TRAIN, TEST)


def test_a_method_is_compared_with_the_best_reference_patient_by_patient():
    good = {c.id: c.lesion for c in TEST}
    poor = {c.id: np.roll(c.lesion, 3, axis=1) for c in TEST}
    worst = {c.id: ~c.lesion for c in TEST}
    frame = pd.concat([methods.score(k, p, TEST) for k, p in (("a", good), ("b", poor), ("c", worst))])
    best, difference = methods.versus_references(frame, "a", ["b", "c"])
    assert best == "b"
    assert difference.low > 0
    _, negative = methods.versus_references(frame, "c", ["a", "b"])
    assert negative.high < 0
