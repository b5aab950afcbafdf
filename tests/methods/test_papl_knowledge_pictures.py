"""Which slices the figures of stage 1 show, and that neighbours are those of other heads."""

import dataclasses
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from strokelib.errors import DataError
from strokelib.methods import papl_knowledge_pictures as pictures
from strokelib.methods.papl import KNOWLEDGE, KNOWLEDGE_SHOWN, Study
from strokelib.papl.embedding_figures import fig_knowledge
from strokelib.papl.recipe import KnowledgeRecipe
from strokelib.papl.sampling import RegionBatch
from strokelib.repro import seed_everything
from strokelib.settings import Profile, Settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads

mpl.use("Agg")
SETTINGS = Settings(Profile.SMOKE, "aisd", 0, None, Path("runs"), Path("figures"))
SMALL = {"pool": 1, "crop": (32, 28), "smallest_brain_ml": 0.0, "steps": 2, "val_samples": 48}


def made(numbers, split, **how):
    return made_heads.heads(numbers, split, shape=(6, 32, 28), **how)


@pytest.fixture(autouse=True, scope="module")
def _steady():
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    parts = tuple(made(*part) for part in ((range(3), "train"), (range(3, 6), "val"), (range(6, 10), "test")))
    out = tmp_path_factory.mktemp("models")
    one = Study(SETTINGS, parts, out, {KnowledgeRecipe: SMALL})
    object.__setattr__(one, "cases", lambda aligned: tuple(map(list, parts)))
    return one


@pytest.fixture(scope="module")
def trainings(study):
    return {"Inter": study.knowledge(KNOWLEDGE_SHOWN[0])}


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_the_relations_are_shown_on_the_test_scan_of_median_volume_that_has_room(study, monkeypatch):
    ranked = sorted(study.parts[2], key=lambda case: (case.lesion_ml, case.id))
    roomy = {ranked[1].id}
    monkeypatch.setattr(pictures.AlignedSlice, "of", classmethod(lambda cls, case, name: Stub(case.id, roomy)))
    assert pictures.relation_example(study).name == ranked[1].id
    roomy |= {ranked[2].id, ranked[3].id}
    assert pictures.relation_example(study).name == ranked[2].id
    roomy.clear()
    with pytest.raises(DataError, match="no room"):
        pictures.relation_example(study)


class Stub:
    def __init__(self, name, roomy):
        self.name, self.roomy = name, roomy

    def relations(self):
        if self.name not in self.roomy:
            raise DataError("slice", found="no room", wanted="room", next_step="show another")


def test_scans_without_infarct_cannot_show_relations_or_samples(study):
    parts = tuple(
        [dataclasses.replace(case, lesion=np.zeros_like(case.lesion)) for case in part] for part in study.parts
    )
    bare = Study(SETTINGS, parts, study.out, study.changes)
    object.__setattr__(bare, "cases", lambda aligned: parts)
    with pytest.raises(DataError, match="scans to show"):
        pictures.relation_example(bare)
    with pytest.raises(DataError, match="0 of 12 with infarct"):
        pictures.sampled_slices(bare)


def test_sampled_slices_are_of_different_validation_scans_and_hold_both_labels(study):
    shown = pictures.sampled_slices(study, 2)
    assert len(shown) == 2
    assert not np.array_equal(shown[0].lesion, shown[1].lesion)
    for one in shown:
        labels = [region.label for region in one.regions]
        assert len(labels) == study.recipe(KNOWLEDGE).samples
        assert min(labels.count(0), labels.count(1)) >= pictures.OF_EACH


def held_out(labels, heads, boxes=None):
    n = len(labels)
    boxes = torch.zeros(n, 4, dtype=torch.int64) if boxes is None else torch.tensor(boxes)
    images = torch.zeros(n, 1, 8, 10)
    samples = RegionBatch(images, torch.tensor(labels), torch.zeros(n), boxes, torch.arange(n), torch.zeros(n))
    return pictures.HeldOut(samples, np.array(heads), made(range(2), "test"))


def test_a_neighbour_is_of_another_head_and_without_one_there_is_no_answer():
    one = held_out([1, 1, 0, 1], [0, 0, 1, 1])
    distance = np.array([[0, 0, 2, 3], [0, 0, 3, 2], [1, 2, 0, 0], [9, 1, 0, 0]], float)
    np.testing.assert_array_equal(one.right(distance), [0, 1, 0, 1])
    np.testing.assert_allclose(one.chance, [0.5, 0.5, 0, 1])
    alone = held_out([1, 0], [0, 0])
    assert np.isnan(alone.right(np.zeros((2, 2)))).all()
    assert np.isnan(alone.chance).all()


def test_windows_are_compared_with_their_mirror_windows_too():
    one = held_out([1, 0, 1], [0, 0, 1], [(1, 3, 0, 4), (1, 3, 6, 10), (1, 6, 0, 4)])
    np.testing.assert_allclose(one.window_distance(), [[0, 0, 3], [0, 0, 3], [3, 3, 0]])


def test_scores_are_means_over_a_heads_samples_and_nan_where_it_has_none_of_a_kind():
    one = held_out([1, 0, 0, 0], [0, 0, 1, 1])
    table = one.scores("row", np.array([1.0, 0, 1, 1]), np.array([0.2, 0.1, 0.3, 0.5]))
    wide = table.pivot(index="case", columns="metric", values="value")
    assert list(wide[pictures.NEIGHBOUR]) == [0.5, 1.0]
    assert wide[pictures.POSITIVES].iloc[0] == 1
    assert np.isnan(wide[pictures.POSITIVES].iloc[1])
    np.testing.assert_allclose(wide[pictures.KL_NEGATIVE], [0.1, 0.4])
    assert set(table["method"]) == {"row"}


def test_divergence_is_what_the_intra_loss_sees(study, trainings):
    found = pictures.HeldOut.of(study, trainings["Inter"].recipe)
    model = trainings["Inter"].model
    with torch.inference_mode():
        maps = model.embed(found.samples.images)[1].sigmoid()
    left, right = maps[..., : maps.shape[-1] // 2], maps[..., -(maps.shape[-1] // 2) :].flip(-1)
    p, q = (half.flatten(1) / half.flatten(1).sum(dim=1, keepdim=True) for half in (left, right))
    by_hand = ((p - q) * (p / q).log()).sum(dim=1) / 2
    np.testing.assert_allclose(found.divergence(model), by_hand, atol=1e-5)


def test_embedded_samples_are_those_of_the_kept_weights_in_order(study, trainings):
    trained = trainings["Inter"]
    panels = pictures.embedded_samples(study, trained)
    assert [panel.title for panel in panels] == ["start", "step 2 of 2"]
    assert all(len(panel.positive) == SMALL["val_samples"] for panel in panels)
    assert not np.array_equal(panels[0].projection, panels[-1].projection)


def test_the_table_has_three_rows_without_training_and_the_untrained_encoder_is_the_start(study, trainings):
    scores = pictures.neighbour_scores(study, trainings)
    assert list(dict.fromkeys(scores["method"])) == [*pictures.UNTRAINED, "Inter"]
    of_start = scores[(scores["method"] == pictures.START) & (scores["metric"] == pictures.NEIGHBOUR)]
    seed_everything(0)
    untrained = dataclasses.replace(trainings["Inter"], model=KNOWLEDGE.build(trainings["Inter"].recipe).eval())
    again = pictures.neighbour_scores(study, {"Inter": trainings["Inter"], "again": untrained})
    same = again[(again["method"] == "again") & (again["metric"] == pictures.NEIGHBOUR)]
    np.testing.assert_allclose(of_start["value"], same["value"])
    said = pictures.statuses(scores, trainings)
    assert said["Inter"] == "undertrained"
    assert {said[name] for name in pictures.UNTRAINED} == {"done"}
    table = pictures.table_neighbours(scores, said, SETTINGS, "Inter")
    row = table[(table["row"] == pictures.WINDOW) & (table["metric"] == pictures.NEIGHBOUR)].iloc[0]
    own = scores[(scores["method"] == pictures.WINDOW) & (scores["metric"] == pictures.NEIGHBOUR)]["value"]
    assert row["ours"] == pytest.approx(own.mean())
    with pytest.raises(DataError, match="stage 1"):
        pictures.neighbour_scores(study, {})


def test_a_row_learned_only_where_it_beats_the_best_row_without_training(trainings):
    flat = dataclasses.replace(trainings["Inter"], history=Flat())
    values = {pictures.CHANCE: 0.5, pictures.WINDOW: 0.6, pictures.START: 0.7, "good": 0.9, "bad": 0.65}
    rows = [
        (name, case, pictures.NEIGHBOUR, value + 0.01 * (number if name == "good" else 0))
        for name, value in values.items()
        for number, case in enumerate("abcd")
    ]
    scores = pd.DataFrame(rows, columns=["method", "case", "metric", "value"])
    said = pictures.statuses(scores, {"good": flat, "bad": flat})
    assert (said["good"], said["bad"]) == ("1 seed", "did not learn")


class Flat:
    def flattened(self, name):
        return True


def test_purity_asks_embedded_heads_of_the_same_cohort_whatever_a_run_works_on(monkeypatch, study, tmp_path):
    asked = []

    def load(settings):
        asked.append((settings.cohort, settings.data))
        return painted

    truth = [
        dataclasses.replace(case, truth={**case.truth, "infarct_hu": (-12.0 * case.lesion).astype(np.float32)})
        for case in study.parts[0]
    ]
    painted = Study(SETTINGS, (truth, *study.parts[1:]), study.out, study.changes)
    object.__setattr__(painted, "cases", lambda aligned: (truth, *study.parts[1:]))
    monkeypatch.setattr(pictures, "load_study", load)
    own = dataclasses.replace(SETTINGS, data=tmp_path)
    windows = [(30.0, 100.0), (0.0, 80.0)]
    found = pictures.window_purity(Study(own, study.parts, study.out, study.changes), windows, 128)
    assert asked == [("aisd", None)]
    assert list(found) == ["[30, 100] HU", "[0, 80] HU"]
    hidden, shown = (next(iter(heads.values())) for heads in found.values())
    # Grey and white matter are painted from 38 and 30 HU down to 26 and 18.
    assert hidden.lowered == shown.lowered == shown.seen == 1
    assert hidden.seen_part < shown.seen_part
    assert list(pictures.window_purity(painted, windows[:1], 64)) == ["[30, 100] HU"]
    assert len(asked) == 1


def test_the_figure_has_a_line_a_training_and_says_where_all_embeddings_are_alike():
    curve = (np.array([1, 2]), np.array([0.5, 0.6]))
    scores = pd.DataFrame({"method": ["a", "a"], "case": ["x", "y"], "value": [0.4, 0.6]})
    table = pd.DataFrame({"row": ["a"], "ours": [0.5], "ci95_low": [0.4], "ci95_high": [0.6]})
    figure = fig_knowledge({"a": curve}, {"a": curve, "PCL": curve}, scores, table, 48)
    losses, validation, _ = figure.axes
    assert len(losses.lines) == 2
    assert losses.lines[1].get_ydata()[0] == pytest.approx(np.log(47))
    assert [line.get_color() for line in validation.lines] == list(dict.fromkeys(
        handle.get_color() for handle in figure.legends[0].legend_handles[:2]
    ))  # fmt: skip
    np.testing.assert_array_equal(validation.lines[0].get_ydata(), curve[1])
