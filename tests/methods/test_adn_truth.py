"""P and Q against the truth: twins rendered once, each row in its own frame, and two rows for reference."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from strokelib.adn.batches import matrices_of
from strokelib.adn.disentangling import disentangling_scores, true_asymmetries
from strokelib.adn.segmentation import build_adn, disentangle
from strokelib.methods import adn_truth
from strokelib.methods.adn import ADN, Outcome, Study
from strokelib.methods.adn_truth import COLUMNS, disentangling_table, known_dice, truths, twins
from strokelib.methods.training import Trained
from strokelib.metrics import dice
from strokelib.settings import Profile
from strokelib.train.history import History

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads
from made_heads import posed, turned

SHAPE, SPACING = (16, 96, 80), (5.0, 2.0, 2.0)
KNOWN = [
    made_heads.head(number, "test", shape=SHAPE, spacing=SPACING, tilt_deg=tilt)
    for number, tilt in ((5, 8.0), (6, -6.0), (7, 0.0))
]


def healthy(case):
    """The head without its infarct."""
    return np.where(case.lesion, case.image.array + 12, case.image.array).astype(np.float32)


class KilledError(Exception):
    """Raised where a process would have been killed."""


@pytest.fixture(autouse=True)
def rendered(monkeypatch):
    """Names of the cases that were rendered without their infarct."""
    made_heads.steady(monkeypatch)
    calls = []

    def render(case):
        if case.id in calls:
            raise AssertionError("rendered again")
        calls.append(case.id)
        return healthy(case)

    monkeypatch.setattr(adn_truth, "twin_images", render)
    return calls


@pytest.fixture
def study(tmp_path):
    """A study whose T is known: each head's own turn, and a shift of a pixel."""
    found = Study(([], [], KNOWN), KNOWN, Profile.SMOKE, 0, tmp_path)
    matrices = {"head-5": turned(8.0, (16, 48, 40)), "head-6": turned(-6.0, (16, 48, 40), x=1.0), "head-7": np.eye(4)}
    found.__dict__["known_posed"] = [
        dataclasses.replace(case, channels={"alignment": matrices[case.id].astype(np.float32)}) for case in KNOWN
    ]
    return found


def outcome(study, row, probability=(), **changes):
    """A row of an untrained ADN."""
    recipe = study.recipe(ADN, prior_steps=0, **changes)
    torch.manual_seed(len(row))
    trained = Trained(ADN, recipe, 0, build_adn(recipe).eval(), History((), 0, 0), study.out)
    return Outcome(row, trained, None, "undertrained", dict(probability))


# Twins


def test_twins_are_the_heads_without_their_infarct_and_rendered_once(rendered, tmp_path):
    found = twins(KNOWN, tmp_path)
    assert list(found) == ["head-5", "head-6", "head-7"]
    for case in KNOWN:
        np.testing.assert_array_equal(found[case.id], healthy(case))
        assert found[case.id].dtype == np.float32
    twins(KNOWN, tmp_path)
    assert rendered == ["head-5", "head-6", "head-7"]


def test_rendering_that_was_killed_goes_on_where_it_stopped(rendered, tmp_path, monkeypatch):
    whole = adn_truth.twin_images

    def killed_at_the_third(case):
        if case.id == "head-7":
            raise KilledError
        return whole(case)

    monkeypatch.setattr(adn_truth, "twin_images", killed_at_the_third)
    with pytest.raises(KilledError):
        twins(KNOWN, tmp_path)
    assert rendered == ["head-5", "head-6"]
    assert [path.suffix for path in tmp_path.iterdir() if path.is_dir()] == [".partial"]
    monkeypatch.setattr(adn_truth, "twin_images", whole)
    found = twins(KNOWN, tmp_path)
    assert rendered == ["head-5", "head-6", "head-7"]
    np.testing.assert_array_equal(found["head-7"], healthy(KNOWN[2]))


def test_other_heads_and_a_new_phantom_have_twins_of_their_own(rendered, tmp_path, monkeypatch):
    twins(KNOWN[:1], tmp_path)
    changed = dataclasses.replace(KNOWN[0], image=KNOWN[0].image.with_array(KNOWN[0].image.array + 1))
    rendered.clear()
    np.testing.assert_array_equal(twins([changed], tmp_path)["head-5"], healthy(changed))
    rendered.clear()
    monkeypatch.setattr(adn_truth.embedded, "VERSION", adn_truth.embedded.VERSION + 1)
    twins(KNOWN[:1], tmp_path)
    assert rendered == ["head-5"]


# The truth


@pytest.mark.parametrize("aligned", [True, False])
def test_the_truth_lies_in_t_s_frame_or_in_the_scan_s(study, aligned):
    found = truths(study, study.recipe(ADN), aligned=aligned)
    assert list(found) == ["head-5", "head-6", "head-7"]
    for case in study.known_posed:
        matrix = matrices_of([case])[0] if aligned else torch.eye(4)
        expected = true_asymmetries(case, matrix, pool=2, twin_hu=healthy(case))
        for name, value in vars(expected).items():
            np.testing.assert_array_equal(getattr(found[case.id], name), value)
    assert found["head-5"].total.shape == (16, 48, 40)


def test_the_truth_of_an_aligned_head_has_less_asymmetry_that_is_anatomy(study):
    upright, tilted = (truths(study, study.recipe(ADN), aligned=aligned)["head-5"] for aligned in (True, False))
    assert upright.intrinsic.sum() < 0.7 * tilted.intrinsic.sum()


# The table


@pytest.fixture
def table(study):
    rows = {"aligned": outcome(study, "aligned"), "as scanned": outcome(study, "as scanned", aligned=False)}
    return disentangling_table(study, rows), rows


def values_of(frame, row, case):
    return frame[(frame["method"] == row) & (frame["case"] == case)].set_index("metric")["value"]


def test_the_table_has_every_row_and_two_references_for_every_head_and_metric(table):
    frame, _ = table
    assert tuple(frame.columns) == COLUMNS
    rows = ["aligned", "as scanned", "P = A", "P = 0"]
    assert list(dict.fromkeys(frame["method"])) == rows
    assert not frame.duplicated(["method", "case", "metric"]).any()
    metrics = set(frame["metric"])
    assert {"correlation", "mae_hu", "auc", "leakage", "recall", "total_inside", "intrinsic_outside"} <= metrics
    assert len(frame) == len(rows) * len(KNOWN) * len(metrics)
    assert dict(zip(frame["case"], frame["anatomy"], strict=True)) == {
        "head-5": "anatomy-1",
        "head-6": "anatomy-0",
        "head-7": "anatomy-1",
    }


@pytest.mark.parametrize("row", ["aligned", "as scanned"])
def test_each_row_is_scored_in_the_frame_it_was_trained_in(study, table, row):
    frame, rows = table
    used, case = rows[row].trained, study.known_posed[0]
    truth = truths(study, used.recipe, aligned=used.recipe.aligned)[case.id]
    p = disentangle(used.model, used.recipe, case).pathological[0, 0]
    # Voxels of 5 x 4 x 4 mm.
    expected = disentangling_scores(truth.total, p, truth.pathological, truth.lesion, truth.brain, voxel_ml=0.08)
    found = values_of(frame, row, case.id)
    assert set(found.index) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name


def test_all_of_the_asymmetry_recalls_what_the_truth_gained_and_none_of_it_recalls_nothing(study, table):
    frame, _ = table
    for case in KNOWN:
        truth = truths(study, study.recipe(ADN))[case.id]
        everything, nothing = (values_of(frame, row, case.id) for row in ("P = A", "P = 0"))
        gained = truth.pathological > 0
        recalled = np.minimum(truth.total, truth.pathological)[gained & truth.brain].sum()
        assert everything["recall"] == pytest.approx(
            recalled / truth.pathological[gained & truth.brain].sum(), rel=1e-5
        )
        assert everything["recall"] > 0.9
        assert nothing["recall"] == 0
        assert nothing["auc"] == 0.5
        assert everything["intrinsic_inside"] == everything["intrinsic_outside"] == 0
        inside = truth.total[truth.brain & truth.lesion].sum() * 0.08
        assert everything["pathological_inside"] == pytest.approx(inside, rel=1e-5)
        assert nothing["intrinsic_inside"] == pytest.approx(inside, rel=1e-5)
        assert nothing["mae_hu"] == pytest.approx(100 * np.abs(truth.pathological[truth.brain]).mean(), rel=1e-5)


def test_the_window_of_the_recipe_is_the_unit_of_the_error(study):
    narrow = {"row": outcome(study, "row", window_hu=(0.0, 50.0))}
    found = values_of(disentangling_table(study, narrow), "P = 0", "head-5")["mae_hu"]
    wide = {"row": outcome(study, "row")}
    assert found == pytest.approx(values_of(disentangling_table(study, wide), "P = 0", "head-5")["mae_hu"], rel=0.01)


def test_heads_as_scanned_are_not_looked_at_where_no_row_needs_them(study, monkeypatch):
    asked = []
    whole = adn_truth.truths

    def watched(study, recipe, *, aligned=True):
        asked.append(aligned)
        return whole(study, recipe, aligned=aligned)

    monkeypatch.setattr(adn_truth, "truths", watched)
    disentangling_table(study, {"aligned": outcome(study, "aligned")})
    assert asked == [True]


# Dice beside it


def test_dice_on_known_heads_takes_what_was_predicted_and_predicts_the_rest(study):
    half = KNOWN[0].lesion & (np.arange(SHAPE[1])[:, None] < 45)
    given = {"head-5": half.astype(np.float16), "head-6": KNOWN[1].lesion.astype(np.float16)}
    row = outcome(study, "row", given)
    frame = known_dice(study, {"row": row})
    assert tuple(frame.columns) == COLUMNS
    assert set(frame["metric"]) == {"dice"}
    found = frame.set_index("case")["value"]
    assert list(found.index) == ["head-5", "head-6", "head-7"]
    assert found["head-5"] == pytest.approx(2 * half.sum() / (half.sum() + KNOWN[0].lesion.sum()))
    assert 0 < found["head-5"] < 1
    assert found["head-6"] == 1
    used = row.trained
    predicted = used.method.predict(used.model, used.recipe, study.known_posed[2]) > 0.5
    assert found["head-7"] == pytest.approx(dice(predicted, KNOWN[2].lesion))
    assert frame["anatomy"].tolist() == ["anatomy-1", "anatomy-0", "anatomy-1"]


def test_known_heads_get_the_maps_of_the_trained_t(tmp_path, monkeypatch):
    from strokelib.adn import alignment
    from strokelib.methods.adn import ALIGNMENT

    bare = Study(([], [], KNOWN), KNOWN, Profile.SMOKE, 0, tmp_path)
    recipe = bare.recipe(ALIGNMENT)
    transformer = Trained(
        ALIGNMENT, recipe, 0, posed(alignment.build(recipe), (0.1, 0.0, 0.0)), History((), 0, 0), tmp_path
    )
    monkeypatch.setattr(Study, "transformer", lambda self: transformer)
    for case in bare.known_posed:
        np.testing.assert_allclose(case.channels["alignment"], turned(6.0, (16, 48, 40)), atol=1e-4)
