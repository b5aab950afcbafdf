"""Which scans the figures of stages 2 and 3 show, and that each number is that of these scans and networks."""

import dataclasses
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from strokelib.data.inplane import known_line
from strokelib.errors import DataError
from strokelib.methods import papl_refinement_pictures as pictures
from strokelib.methods import papl_refinement_scores as measured
from strokelib.methods.papl import SEGMENTATION, Outcome, Study
from strokelib.methods.training import Trained
from strokelib.papl import figures, segmentation_fitting
from strokelib.papl.examples import neighbour_dice
from strokelib.papl.inputs import recipe_slices
from strokelib.papl.recipe import KnowledgeRecipe, SegmentationRecipe
from strokelib.papl.slices import align_with_truth
from strokelib.papl.snapshots import Keeper
from strokelib.papl.sweeps import table_steadiness
from strokelib.repro import seed_everything
from strokelib.settings import Profile, Settings
from strokelib.train.history import History, Row

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads

mpl.use("Agg")
SETTINGS = Settings(Profile.SMOKE, "aisd", 0, None, Path("runs"), Path("figures"))
SIZES = {"pool": 1, "crop": None, "width": 4, "depth": 3, "smallest_brain_ml": 0.0}
CHANGES = {KnowledgeRecipe: SIZES, SegmentationRecipe: SIZES}
NONE = History((), 0, 0, ())
HOURS = {"head-5": 6.0, "head-6": 2.0, "head-7": 20.0, "head-8": 9.0}


@pytest.fixture(autouse=True, scope="module")
def _steady():
    with pytest.MonkeyPatch.context() as patch:
        made_heads.steady(patch)
        yield


def study_of(cases, out=Path()):
    """A study of given test scans, whose midlines are known."""
    study = Study(SETTINGS, ((), (), cases), out, CHANGES)
    study.__dict__["aligned"] = ([], [], [align_with_truth(case, known_line(case)) for case in cases])
    return study


def outcome_of(study, row="a row", folder=Path(), model=None, history=NONE, **changes):
    """An untrained network as if it had been trained for a row."""
    recipe = study.recipe(SEGMENTATION, beta1=0.8, beta2=0.8, beta3=0.2, **changes)
    seed_everything(0)
    model = (model or segmentation_fitting.build(recipe)).eval()
    return Outcome(row, Trained(SEGMENTATION, recipe, 0, model, history, folder), pd.DataFrame(), "1 seed")


@pytest.fixture(scope="module")
def cases():
    """Scans with infarcts above 10 mL on one side, seen some hours after onset."""
    made = made_heads.heads(range(5, 9), "test", embedded=False)
    return [dataclasses.replace(case, facts=case.facts | {"onset_hours": HOURS[case.id]}) for case in made]


@pytest.fixture(scope="module")
def study(cases):
    return study_of(cases)


@pytest.fixture(scope="module")
def outcome(study, tmp_path_factory):
    return outcome_of(study, folder=tmp_path_factory.mktemp("trained"))


def on_both_sides(case):
    return dataclasses.replace(case, lesion=case.lesion | case.lesion[..., ::-1])


def with_little(case):
    lesion = np.zeros_like(case.lesion)
    lesion[tuple(np.argwhere(case.lesion)[0])] = True
    return dataclasses.replace(case, lesion=lesion)


def without(case):
    return dataclasses.replace(case, lesion=np.zeros_like(case.lesion))


# Which scans


def test_small_infarcts_and_those_on_both_sides_are_shown_only_where_there_is_no_other(cases):
    odd = [on_both_sides(cases[0]), with_little(cases[1]), without(cases[2])]
    assert [case.id for case in pictures.shown_scans(study_of([*odd, cases[3]]))] == ["head-8"]
    assert [case.id for case in pictures.shown_scans(study_of(odd))] == ["head-5", "head-6"]
    with pytest.raises(DataError, match="scans to show"):
        pictures.shown_scans(study_of(odd[2:]))


@pytest.mark.parametrize(
    ("dices", "shown"),
    [((0.9, 0.1, 0.3, 0.2), "head-7"), ((0.5, 0.5, 0.5, 0.5), "head-7"), ((0.0, 0.0, 0.4, 0.0), "head-8")],
)
def test_the_scan_with_the_median_dice_is_shown(study, outcome, dices, shown):
    rows = [("a row", case.id, "dice", value) for case, value in zip(study.test, dices, strict=True)]
    scores = pd.DataFrame(rows, columns=["method", "case", "metric", "value"])
    assert pictures.middle_case(study, dataclasses.replace(outcome, scores=scores)).id == shown


# What is shown of them


def test_the_diagram_shows_samples_and_prediction_of_the_slice_with_most_lesion(study, outcome):
    case = study.cases(True)[2][0]
    one = pictures.stages_example(study, outcome, case)
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    np.testing.assert_array_equal(one.lesion, case.lesion[z])
    np.testing.assert_array_equal(one.positive[one.lesion], one.slices[1][one.lesion])
    assert (one.negative[one.lesion] == one.negative.min()).all()
    assert (one.negative > one.negative.min()).any()
    with torch.no_grad():
        wanted = outcome.trained.model.backbone(torch.from_numpy(one.slices[1])[None, None]).softmax(dim=1)[0, 1]
    np.testing.assert_allclose(one.probability, wanted, atol=1e-5)
    slices = recipe_slices([case], outcome.trained.recipe)
    row = int(np.flatnonzero(slices.z.numpy() == z)[0])
    np.testing.assert_array_equal(one.slices[0], slices.images[row - 2, 0])
    np.testing.assert_array_equal(one.slices[2], slices.images[row + 2, 0])


def test_a_slice_without_room_for_a_negative_sample_is_refused(study, outcome):
    case = study.cases(True)[2][0]
    with pytest.raises(DataError, match="a positive and a negative one"):
        pictures.stages_example(study, outcome, dataclasses.replace(case, lesion=case.brain.copy()))


def test_phi_of_the_reference_is_that_of_equation_20(study, outcome):
    seen = measured.perceived(study, outcome).set_index("case")
    assert dict(seen["hours"]) == HOURS
    case = study.cases(True)[2][1]
    z = int(case.lesion.sum(axis=(1, 2)).argmax())
    x = np.where(case.brain[z], np.clip(case.image.array[z], 0, 80) / 80, 0)
    apart = np.abs(x - x[:, ::-1])[case.lesion[z]].mean()
    assert seen["reference"][case.id] == pytest.approx(1 - apart, abs=1e-4)
    assert seen["predicted"].between(0.5, 1).all()


def test_a_lesion_that_is_lost_on_the_recipe_s_pixels_has_no_phi(cases):
    study = study_of([with_little(cases[0]), cases[1]])
    seen = measured.perceived(study, outcome_of(study, pool=2, crop=(32, 28)))
    assert list(seen["case"]) == ["head-6"]


def test_slices_of_fig_5_stand_at_even_steps_of_time_with_their_own_phi(study, outcome):
    seen = measured.perceived(study, outcome)
    shown = pictures.perception_examples(study, outcome, seen, 3)
    assert [one.hours for one in shown] == [2.0, 9.0, 20.0]
    by_hours = seen.set_index("hours")["predicted"]
    assert [one.salience for one in shown] == pytest.approx([by_hours[one.hours] for one in shown], abs=1e-6)
    figures.fig05_perception(shown, (seen["hours"], seen["predicted"])).canvas.draw()


def test_where_hours_are_unknown_alike_sides_come_first(cases):
    unknown = [dataclasses.replace(case, facts=case.facts | {"onset_hours": None}) for case in cases]
    study = study_of(unknown)
    outcome = outcome_of(study)
    shown = pictures.perception_examples(study, outcome, measured.perceived(study, outcome))
    assert len(shown) == 4
    phi = [one.salience for one in shown]
    assert phi == sorted(phi, reverse=True)
    drawn = figures.fig05_perception(shown)
    assert [ax.get_title() for ax in drawn.axes if ax.get_title()] == ["onset unknown"] * 4


def test_neighbouring_slices_have_the_masks_of_the_scan_s_own_frame_and_its_dwi(study, outcome, monkeypatch):
    dwi = np.arange(np.prod(made_heads.SHAPE), dtype=np.float32).reshape(made_heads.SHAPE)
    monkeypatch.setattr(pictures, "with_dwi", lambda case, _: dataclasses.replace(case, channels={"dwi": dwi}))
    one = pictures.adjacent_example(study, {"with FCM": outcome}, "head-6", 3)
    case = study.test[1]
    z = next(z for z in range(len(dwi)) if np.array_equal(one.dwi[0], dwi[z]))
    np.testing.assert_array_equal(one.lesion, case.lesion[z : z + 3])
    found = study.probability(outcome)["head-6"]
    np.testing.assert_array_equal(one.predicted["with FCM"], found[z : z + 3] > 0.5)


def test_the_steps_of_fig_10_are_by_the_weights_that_were_kept(study, tmp_path):
    kept = outcome_of(study, folder=tmp_path, snapshots=(0.5, 1.0))
    model, last = kept.trained.model, kept.trained.recipe.steps
    keeper, case = Keeper(tmp_path, (last // 2, last)), study.cases(True)[2][0]
    wanted = []
    for step in (last // 2, last):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.2)
        keeper.after_step(model, step - 1)
        wanted.append(measured.predicted(kept.trained, recipe_slices([case], kept.trained.recipe)))
    one = pictures.refinement_example({"with RPRS": kept}, case)
    row = measured.fullest(recipe_slices([case], kept.trained.recipe))
    steps = one.trainings["with RPRS"]
    assert [step.epoch for step in steps] == [last // 2, last]
    for step, probability in zip(steps, wanted, strict=True):
        np.testing.assert_allclose(step.probability, probability[row], atol=1e-5)
    titles = [ax.get_title() for ax in figures.fig10_feature_maps(one).axes[:2]]
    assert titles == [f"with RPRS\nstep {last // 2}", f"with RPRS\nstep {last}"]


# Numbers


def test_a_prediction_is_sharpened_by_the_recipe_s_omega(study, outcome):
    slices = recipe_slices(study.cases(True)[2][:1], outcome.trained.recipe)
    plain = measured.predicted(outcome.trained, slices)
    sharp = measured.predicted(
        dataclasses.replace(outcome.trained, recipe=dataclasses.replace(outcome.trained.recipe, omega=5.0)), slices
    )
    torch.testing.assert_close(sharp.logit(), 5 * plain.logit(), atol=1e-3, rtol=1e-3)


def test_terms_are_weighed_as_in_the_loss_and_averaged_over_thirds(study):
    values = {"segmentation": 1.0, "compensation": 0.5, "refinement": 1.0}
    rows = tuple(Row(step, "train", name, value) for name, value in values.items() for step in range(1, 10))
    found = measured.weighted_terms(outcome_of(study, history=History(rows, 9, 9), steps=9, phases=9).trained)
    np.testing.assert_allclose(found["segmentation"], 0.8)
    np.testing.assert_allclose(found["compensation"], 0.4)
    grown = 0.2 * 1.2 ** np.arange(9)
    np.testing.assert_allclose(found["refinement"], grown.reshape(3, 3).mean(axis=1))


def test_steadiness_is_the_mean_dice_of_neighbours_and_missing_where_nothing_is_marked(study, outcome):
    class Nothing(nn.Module):
        def forward(self, x):
            return torch.cat([x * 0 + 9, x * 0], dim=1)

    empty = outcome_of(study, "empty", model=Nothing())
    found = measured.steadiness(study, {"empty": dataclasses.replace(empty, trained=_elsewhere(empty, outcome))})
    assert found["empty"].isna().all()
    case = study.test[2]
    assert found["reference"][case.id] == pytest.approx(np.nanmean(neighbour_dice(case.lesion)))


def _elsewhere(made, other):
    return dataclasses.replace(made.trained, folder=other.trained.folder / "elsewhere")


def test_the_table_of_steadiness_compares_trainings_and_leaves_the_reference_untested():
    scans = [f"head-{n}" for n in range(12)]
    steady = pd.DataFrame({"without FCM": np.linspace(0.2, 0.5, 12), "reference": 0.7}, index=scans)
    steady.insert(1, "with FCM", steady["without FCM"] + 0.1)
    status = {"without FCM": "1 seed", "with FCM": "did not learn"}
    table = table_steadiness(steady, status, SETTINGS, "without FCM").set_index("row")
    assert list(table.index) == ["without FCM", "with FCM", "reference"]
    assert list(table["status"]) == ["1 seed", "did not learn", "done"]
    assert table.loc["with FCM", "difference"] == pytest.approx(0.1)
    assert table.loc["with FCM", "p_holm"] < 0.01
    assert np.isnan(table.loc["reference", "p_holm"])
    with pytest.raises(DataError, match="masks of neighbours"):
        table_steadiness(steady, status, SETTINGS, "with RPRS")


class Coarse(nn.Module):
    """Two maps a slice; the coarse one is the slice's mean grey value, or the same for all, times a factor."""

    def __init__(self, factor=1.0, same=False):
        super().__init__()
        self.factor, self.same = factor, same

    def encode(self, x):
        coarse = x.mean(dim=(2, 3), keepdim=True).expand(-1, 2, 4, 4)
        return [x, self.factor * (torch.ones_like(coarse) if self.same else coarse)]

    def decode(self, features):
        level = features[1].mean(dim=(1, 2, 3), keepdim=True)
        return torch.cat([features[0] * 0, features[0] + level], dim=1)

    def forward(self, x):
        return self.decode(self.encode(x))


def test_small_features_and_one_map_for_all_slices_are_told_apart(study):
    made = {"own": Coarse(), "small": Coarse(0.1), "same": Coarse(same=True)}
    found = measured.feature_closeness(study, {name: outcome_of(study, model=one) for name, one in made.items()})
    own, small, same = (found.loc[name] for name in made)
    assert small["next"] == pytest.approx(0.1 * own["next"], rel=1e-5)
    assert small["far / size"] == pytest.approx(own["far / size"], rel=1e-5)
    assert 0 < own["next / far"] < 1
    assert same["far"] == same["far / size"] == same["swapped"] == 0
    assert own["swapped"] > small["swapped"] > 0
    assert same["size"] == 1
