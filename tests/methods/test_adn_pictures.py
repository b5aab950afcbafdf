"""Which heads the figures of Ni et al. 2022 show, and that each picture is what the networks made of that head."""

import dataclasses
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

from strokelib.adn import alignment, figures, segmentation
from strokelib.adn.batches import head_volumes, matrices_of, with_matrices, with_tissue
from strokelib.adn.disentangling import true_asymmetries
from strokelib.adn.recipe import AdnRecipe, AlignmentRecipe
from strokelib.adn.tissue_mismatch import tissue_mismatch
from strokelib.adn.transformation import align
from strokelib.errors import DataError
from strokelib.methods import adn_pictures as pictures
from strokelib.methods import adn_truth
from strokelib.methods.adn import ADN, ALIGNMENT, PROPOSED, Outcome, Study
from strokelib.methods.training import Trained
from strokelib.metrics import dice
from strokelib.nn.alignment import mirror
from strokelib.repro import seed_everything
from strokelib.settings import Profile
from strokelib.train.history import History

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads

mpl.use("Agg")
NONE = History((), 0, None, ())
TRUE_TISSUE = "true tissue maps"
CHANGES = {"pool": 1}


@pytest.fixture(autouse=True, scope="module")
def _steady():
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        yield


def outcome_of(cases, row=PROPOSED, model=None, **changes):
    """An untrained ADN as if it had been trained for a row, and what it finds."""
    how = {"pool": 1, "crop": None, **changes}
    recipe = AdnRecipe.at("smoke", **how)
    seed_everything(0)
    model = model or segmentation.build_adn(recipe).eval()
    found = {case.id: segmentation.segment(model, recipe, case).astype(np.float16) for case in cases}
    metrics = [("dice", lambda c: dice(found[c.id] > 0.5, c.lesion)), ("truth_volume_ml", lambda c: c.lesion_ml)]
    rows = [(row, case.id, name, value(case), "") for case in cases for name, value in metrics]
    scores = pd.DataFrame(rows, columns=["method", "case", "metric", "value", "unit"])
    return Outcome(row, Trained(ADN, recipe, 0, model, NONE, Path()), scores, "1 seed", found)


def study_with(parts, known, out, transformer, changes=CHANGES):
    """A study whose T is given."""
    study = Study(parts, known, Profile.SMOKE, 0, out, changes)
    recipe = AlignmentRecipe.at("smoke", **changes)
    given = Trained(ALIGNMENT, recipe, 0, transformer, NONE, Path())
    object.__setattr__(study, "transformer", lambda: given)
    return study


@pytest.fixture(scope="module")
def transformer():
    """T that turns every head by six degrees and shifts it by a pixel or two."""
    return made_heads.posed(alignment.build(AlignmentRecipe.at("smoke")), (0.1, 0.1, -0.05)).eval()


@pytest.fixture(scope="module")
def study(transformer, tmp_path_factory):
    parts = tuple(
        made_heads.heads(numbers, split)
        for numbers, split in ((range(3), "train"), (range(3, 5), "val"), (range(5, 8), "test"))
    )
    return study_with(parts, parts[2], tmp_path_factory.mktemp("models"), transformer)


@pytest.fixture(scope="module")
def outcome(study):
    return outcome_of(study.posed[2])


# Which heads


def scored(volumes_ml, dices):
    """A study and an outcome of which only volumes and Dice matter."""
    names = [f"head-{number}" for number in range(len(volumes_ml))]
    values = {"truth_volume_ml": volumes_ml, "dice": dices}
    rows = [(n, metric, v) for metric, column in values.items() for n, v in zip(names, column, strict=True)]
    scores = pd.DataFrame(rows, columns=["case", "metric", "value"])
    study = Study(((), (), ()), (), Profile.SMOKE, 0, Path())
    study.__dict__["posed"] = ([], [], made_heads.heads(range(len(names)), "test", shape=(2, 4, 4)))
    return study, Outcome(PROPOSED, None, scores, "1 seed", {})


def shown(volumes_ml, dices, **how):
    return [case.id for case in pictures.typical_cases(*scored(volumes_ml, dices), **how)]


def test_each_group_of_lesions_shows_its_median_and_the_bounds_belong_to_the_middle_group():
    volumes = [70.0, 80.0, 10.0, 200.0, 9.9, 30.0, 71.0, 0.0]
    dices = [0.3, 0.9, 0.1, 0.2, 0.0, 0.7, 0.5, np.nan]
    assert shown(volumes, dices) == ["head-6", "head-0", "head-4"]
    assert shown(volumes, dices, count=1) == ["head-6"]


def test_of_an_even_number_the_higher_one_is_shown_and_of_equal_ones_the_later_name():
    assert shown([80.0] * 4, [0.8, 0.1, 0.4, 0.2]) == ["head-2"]
    assert shown([80.0] * 3, [0.5, 0.5, 0.5]) == ["head-1"]
    assert shown([20.0] * 2, [0.5, 0.5]) == ["head-1"]


def test_a_group_without_a_scan_shows_none_and_no_lesion_at_all_is_refused():
    assert shown([5.0, 100.0], [0.1, 0.2]) == ["head-1", "head-0"]
    with pytest.raises(DataError, match="2 without lesion"):
        shown([0.0, 0.0], [np.nan, np.nan])


def test_the_heads_of_known_truth_are_chosen_by_the_same_rule(study, outcome, transformer):
    test = [case.id for case in pictures.typical_cases(study, outcome)]
    assert [case.id for case in pictures.typical_known(study, outcome)] == test
    others = made_heads.heads(range(20, 23), "test")
    known = pictures.typical_known(study_with(study.parts, others, study.out, transformer), outcome)
    assert {case.id for case in known} <= {case.id for case in others}
    found = adn_truth.known_dice(study_with(study.parts, others, study.out, transformer), {PROPOSED: outcome})
    large = found[[case.lesion_ml >= 10 for case in others]]
    assert known[0].id == large.sort_values("value")["case"].iloc[len(large) // 2]


# What stands in the pictures


def test_an_aligned_example_holds_what_d_and_f_make_of_the_scan_that_t_moved(study, outcome):
    case = study.posed[2][0]
    one = pictures.aligned_example(study, outcome, case)
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    moved = head_volumes([case], outcome.trained.recipe, aligned=True)
    found = segmentation.disentangle(outcome.trained.model, outcome.trained.recipe, case)
    np.testing.assert_allclose(one.image, moved.images[0, 0, z], atol=1e-6)
    np.testing.assert_array_equal(one.lesion, moved.lesions[0, 0, z] > 0)
    np.testing.assert_allclose(one.total, (mirror(moved.images) - moved.images).clamp_min(0)[0, 0, z], atol=1e-6)
    np.testing.assert_allclose(one.pathological, found.pathological[0, 0, z])
    np.testing.assert_allclose(one.probability, found.logits.sigmoid()[0, 0, z])
    assert one.brain.sum() == pytest.approx(case.brain[z].sum(), rel=0.05)
    assert (one.spacing_yx, one.name, one.truth) == ((4.0, 4.0), f"{case.lesion_ml:.0f} mL", None)
    untouched = head_volumes([case], outcome.trained.recipe, aligned=False).images[0, 0, z].numpy()
    assert np.abs(one.image - untouched).max() > 0.1


def test_a_scan_without_t_s_map_gets_one_and_a_network_that_sees_raw_heads_goes_without(study, outcome):
    posed, raw = study.posed[2][1], study.parts[2][1]
    one, same = (pictures.aligned_example(study, outcome, case) for case in (posed, raw))
    np.testing.assert_array_equal(one.image, same.image)
    plain = outcome_of([raw], aligned=False)
    seen = pictures.aligned_example(study, plain, raw)
    z = int(raw.lesion.sum(axis=(1, 2)).argmax())
    np.testing.assert_allclose(
        seen.image, head_volumes([raw], plain.trained.recipe, aligned=False).images[0, 0, z], atol=1e-6
    )


def test_an_infarct_that_the_coarse_grid_loses_is_shown_where_it_lies(study, outcome):
    case = study.posed[2][0]
    lesion = np.zeros_like(case.lesion)
    lesion[3, 10, 9] = True
    small = dataclasses.replace(case, lesion=lesion)
    (small,) = with_matrices([small], {small.id: made_heads.turned(0, small.image.array.shape, x=0.5, y=0.5)})
    one = pictures.aligned_example(study, outcome, small)
    assert not one.lesion.any()
    assert one.name == "0.1 mL"
    contour = pictures.contour_example({PROPOSED: outcome}, small)
    np.testing.assert_array_equal(contour.lesion, lesion[3])
    assert figures.fig04_asymmetry_maps([one]).axes


def test_a_true_example_has_p_star_of_its_own_twin_and_names_the_anatomy(study, outcome, monkeypatch):
    healthy = {case.id: case.image.array + 12 * case.lesion for case in study.known}
    asked = []
    monkeypatch.setattr(pictures, "twins", lambda cases, out: asked.append([c.id for c in cases]) or healthy)
    case = study.known_posed[2]
    one = pictures.true_example(study, outcome, case)
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    truth = true_asymmetries(case, case.channels["alignment"], twin_hu=healthy[case.id])
    np.testing.assert_allclose(one.truth, truth.pathological[z])
    assert one.truth[one.lesion].mean() > 0.05
    assert one.name.endswith(f"mL, anatomy {case.facts['anatomy']}")
    assert asked == [[c.id for c in study.known]]
    with pytest.raises(DataError, match="unknown truth"):
        pictures.true_example(study, outcome, study.posed[0][0])


def test_a_contour_example_has_each_row_s_own_prediction_and_dice(study, outcome):
    case = study.posed[2][2]
    missed = dataclasses.replace(outcome, probability={case.id: np.zeros(case.lesion.shape, np.float16)})
    one = pictures.contour_example({PROPOSED: outcome, "SEAN": missed}, case)
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    np.testing.assert_array_equal(one.predicted[PROPOSED], outcome.probability[case.id][z] > 0.5)
    assert one.dice["SEAN"] == 0
    assert one.dice[PROPOSED] == pytest.approx(dice(outcome.probability[case.id] > 0.5, case.lesion))


def test_the_pipeline_shows_the_training_scan_of_median_volume_with_the_maps_that_its_training_had(study):
    outcome = outcome_of([], TRUE_TISSUE)
    one = pictures.pipeline_example(study, outcome)
    groups = [[c for c in study.posed[0] if c.lesion_ml > 70], [c for c in study.posed[0] if 10 <= c.lesion_ml <= 70]]
    ranked = sorted(next(group for group in groups if group), key=lambda c: (c.lesion_ml, c.id))
    case = ranked[len(ranked) // 2]
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    np.testing.assert_allclose(one.scan, np.where(case.brain[z], case.image.array[z] / 100, 0).clip(0, 1), atol=1e-6)
    np.testing.assert_array_equal(one.scan_brain, case.brain[z])
    whole = segmentation.segment(outcome.trained.model, outcome.trained.recipe, case)[z]
    np.testing.assert_allclose(one.restored[case.brain[z]], whole[case.brain[z]], atol=1e-5)
    tissue = with_tissue([case], {case.id: case.truth["tissue"]})
    volumes = head_volumes(tissue, outcome.trained.recipe, aligned=True, tissue=True)
    outside = 1 - volumes.lesions[0, 0, z]
    mismatch = tissue_mismatch(volumes.tissues[:, :1], volumes.tissues[:, 1:2])[0, 0, z]
    np.testing.assert_allclose(one.mismatch, mismatch * outside)
    np.testing.assert_allclose(one.csf, volumes.tissues[0, 2, z] * outside)
    assert one.mismatch.max() > 0.5
    assert one.aligned.lesion.any()


def test_a_training_without_tissue_shows_none_and_the_study_s_own_source_is_the_default(study, monkeypatch):
    bare = pictures.pipeline_example(study, outcome_of([], tissue=False))
    assert bare.mismatch is None
    assert bare.csf is None
    asked = []

    def labels(cases, source, *, out):
        asked.append((len(cases), source, out))
        return {case.id: case.truth["tissue"] for case in cases}

    monkeypatch.setattr(pictures, "tissue_labels", labels)
    pictures.pipeline_example(study, outcome_of([]))
    assert asked == [(1, "atlas", study.out)]


# The real head


@pytest.fixture(scope="module")
def real_head(study, transformer):
    coarse = study_with(study.parts, study.known, study.out, transformer, {"pool": 2})
    return pictures.real_head_example(coarse, outcome_of([], pool=2))


def test_a_scan_that_nobody_outlined_shows_its_slice_with_most_p_inside_the_brain(study, outcome, monkeypatch):
    scan = dataclasses.replace(made_heads.head(30, "test", embedded=False), lesion=None)
    monkeypatch.setattr(pictures, "prepare_case", lambda raw, cohort, choices: scan)
    one = pictures.real_head_example(study, outcome)
    (posed,) = with_matrices([scan], study.poses(study.transformer(), [scan]))
    brain = torch.from_numpy(scan.brain[None, None].astype(np.float32))
    moved = align(brain, matrices_of([posed]))
    found = segmentation.disentangle(outcome.trained.model, outcome.trained.recipe, posed).pathological
    sums = [float(found[0, 0, z][moved[0, 0, z] > 0.5].sum()) for z in range(found.shape[2])]
    np.testing.assert_allclose(one.pathological, found[0, 0, int(np.argmax(sums))])


def test_the_real_head_is_prepared_as_a_users_scan(real_head):
    assert real_head.image.shape == (56, 48)
    assert real_head.spacing_yx == (4.0, 4.0)
    assert not real_head.lesion.any()
    assert real_head.sums_ml["pathological"][0] == 0
    assert real_head.truth is None
    assert 0.25 < np.median(real_head.image[real_head.brain]) < 0.4
    area_cm2 = real_head.brain.sum() * 0.16
    assert 120 < area_cm2 < 220


def test_the_figure_of_the_real_head_says_what_it_is(real_head):
    figure = figures.fig_real_head(real_head)
    assert "a real head CT without known infarct" in figure.texts[-1].get_text()
    assert len([ax for ax in figure.axes if ax.get_title()]) == 7
