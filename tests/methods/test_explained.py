"""Four untrained networks on two heads: each sees the same place, and what is said of it can be checked by hand."""

import dataclasses
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from strokelib import settings
from strokelib.data import perfused
from strokelib.errors import DataError, ParameterError
from strokelib.explain import baselines
from strokelib.figures import explanations as figures
from strokelib.methods import explained, explained_pictures, explained_scores
from strokelib.methods.explained_views import view_of
from strokelib.methods.weight_kinds import KINDS, Part
from strokelib.methods.weights import Demo
from strokelib.pseudo_dwi.recipe import InputRecipe
from strokelib.ssl_nnunet.recipe import FinetuningRecipe
from strokelib.ssl_nnunet.setup import setup_of

pytest.importorskip("captum")
SMALL = {"heads": 2, "tested": 1, "steps": 2, "patches": 6, "permutations": 19, "shares": (0.5, 1.0)}


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    return replace(settings.resolve("smoke", "aisd", 0), data=None, runs=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def demos(chosen):
    heads = perfused.perfused_heads(chosen, 2)
    setup = setup_of([head.whole for head in heads], FinetuningRecipe.at("smoke"))
    found = {}
    torch.manual_seed(1)
    for key in explained.KEYS:
        kind = KINDS[key]
        name, method = list(kind.networks.items())[-1]
        method = method.given(setup=setup) if key == "ssl_nnunet" else method
        recipe = method.recipe.at("smoke", **({"beta2": 0.8} if key == "papl" else {}))
        facts = {"inputs": dataclasses.asdict(InputRecipe.at("smoke")), "scores": {"status": "did not learn"}}
        found[key] = Demo(kind, {name: Part(method, recipe, method.build(recipe).eval())}, facts, "none", "0" * 64)
    return found


@pytest.fixture(scope="module")
def study(chosen, demos):
    return explained.load_study(chosen, demos, **SMALL)


@pytest.mark.parametrize("key", explained.KEYS)
def test_every_view_shows_the_same_brain_and_infarct(study, key):
    head, view = study.heads[0], study.view(key, 0)
    spare = (len(head.slab.image.array) - study.recipe.looked) // 2
    levels = slice(spare, spare + study.recipe.looked)
    for mask, own in ((view.brain, head.slab.brain), (view.lesion, head.slab.lesion)):
        here = mask[view.looked].sum() * view.voxel_ml
        assert here == pytest.approx(own[levels].sum() * head.slab.image.voxel_ml, rel=0.2)
    assert mask[view.looked].shape[0] == study.recipe.looked
    flipped = baselines.mirrored(view.brain, view.centre)
    assert 2 * (flipped & view.brain).sum() / (flipped.sum() + view.brain.sum()) > 0.95


@pytest.mark.parametrize("key", explained.KEYS)
def test_places_in_millimetres_meet_the_reference(study, key):
    head, view = study.heads[0], study.view(key, 0)
    mask = view.lesion.astype(float)
    level = explained_pictures.fullest_slice(study, 0)
    back = explained_pictures.onto_slice(mask, view, head, level) > 0.5
    own = head.whole.lesion[level]
    assert 2 * (back & own).sum() / (back.sum() + own.sum()) > 0.7


@pytest.mark.parametrize("key", explained.KEYS)
def test_the_number_explained_is_the_volume_of_what_is_found_in_the_slices_looked_at(study, key):
    view = study.view(key, 0)
    with torch.no_grad():
        found = view.probability(view.image[None])[0].numpy()
        volume = float(view.volume_ml(view.image[None]))
    assert found.shape == view.brain.shape
    assert not found[~view.brain].any()
    assert volume == pytest.approx(found[view.looked].sum(dtype=np.float64) * view.voxel_ml, rel=1e-4)


@pytest.mark.parametrize("key", ["papl", "pseudo_dwi", "adn"])
def test_a_view_finds_what_the_method_finds(study, demos, key):
    head, view, demo = study.heads[0], study.view(key, 0), demos[key]
    if key == "adn":
        matrix = np.eye(4, dtype=np.float32)
        case = replace(head.slab, channels={"alignment": matrix})
        whole = replace(head.whole, channels={"alignment": matrix})
        own = demo.method.predict(demo.model, demo.recipe, whole)[head.levels]
        assert case.image.array.shape == own.shape
    elif key == "papl":
        own = demo.method.predict(demo.model, demo.recipe, head.whole)[head.levels]
    else:
        own = demo.method.predict(demo.model, demo.recipe, demo.see(head.slab))
    with torch.no_grad():
        found = view.probability(view.image[None])[0].double().numpy()
    level = explained_pictures.fullest_slice(study, 0)
    here = explained_pictures.onto_slice(found, view, head, level)
    there, brain = own[level - head.levels.start], head.whole.brain[level]
    tolerance = 0.1 if key == "adn" else 0.02  # ADN sees eight slices here, all of the head there
    assert np.abs(here - there)[brain].mean() < tolerance


def test_attributions_are_made_once_and_the_trained_network_stays_as_it_was(study):
    before = {k: v.clone() for k, v in study.demos["papl"].model.state_dict().items()}
    one = study.attribution("papl", 0)
    study.attribution("papl", 0, share=1.0)
    assert study.attribution("papl", 0) is one
    assert all(torch.equal(v, before[k]) for k, v in study.demos["papl"].model.state_dict().items())


def test_a_share_of_all_layers_is_the_untrained_network(study):
    for key in explained.KEYS:
        fresh, made = study.untrained(key).state_dict(), study.network(key, 1.0).state_dict()
        met = tuple(study.layers(key))
        assert met
        assert all(torch.equal(made[name], fresh[name]) for name in fresh if name.rpartition(".")[0] in met)


def test_patches_are_in_the_infarct_on_its_other_side_and_elsewhere(study):
    head, found = study.heads[0], study.patches(0)
    dz, dy, dx = head.slab.image.spacing
    affine, width = head.slab.image.affine, head.slab.image.array.shape[2]
    z = np.rint((found.points_mm[:, 0] - affine[2, 3]) / dz).astype(int)
    y = np.rint((found.points_mm[:, 1] + affine[1, 3]) / dy).astype(int)
    x = np.rint(found.points_mm[:, 2] / dx + (width - 1) / 2).astype(int)
    lesion, brain = head.slab.lesion[z, y, x], head.slab.brain[z, y, x]
    assert brain.all()
    assert lesion.tolist() == (found.kinds == explained.LESION).tolist()
    twin = head.slab.lesion[z, y, width - 1 - x]
    assert twin[found.kinds == explained.OTHER_SIDE].all()
    assert not twin[found.kinds == explained.ELSEWHERE].any()


def test_the_input_alone_at_a_patch_is_the_mean_around_it(study):
    view, points = study.view("papl", 0), study.patches(0).points_mm
    z, y, x = view.places(points)[0]
    around = view.image[0, z, y - 1 : y + 2, x - 1 : x + 2].mean()  # 12 mm of 4 mm pixels
    assert study.vectors("papl", explained.INPUT)[0, 0] == pytest.approx(float(around), rel=1e-4)
    assert len(study.vectors("papl")) == len(study.kinds) == len(study.owners)


def test_the_tables_say_what_was_made_and_the_figures_draw_it(study):
    table = explained_scores.pointing_table(study)
    assert len(table) == len(explained.KEYS) * (3 + 3 + 1)
    own = table[(table["network"] == explained.TRAINED) & (table["method"] == "PAPL")].iloc[0]
    by_hand = [study.pointing("papl", head, own["baseline"]).lesion for head in study.shown]
    assert own["lesion"] == pytest.approx(np.mean(by_hand))
    assert own["difference_low"] <= own["difference"] <= own["difference_high"]
    likeness = explained_scores.similarity_scores(study)
    means = explained_scores.similarity_table(likeness)
    assert set(likeness["what"]) == {"drawn anew", explained_scores.IMAGE_ALONE, explained_scores.ANOTHER_HEAD}
    assert likeness["value"].dropna().between(-1, 1).all()
    votes = explained_scores.vote_table(study)
    assert votes["p_holm"].ge(votes["p"] - 1e-12).all()
    assert explained_scores.completeness(table).shape == (4, 6)
    drawn = [
        figures.pointing_panels(table, baselines=baselines.BASELINES, networks={explained.TRAINED: "C0"}),
        figures.randomised_layers(
            likeness, means, metrics=explained_scores.METRICS, controls={explained_scores.IMAGE_ALONE: "s"}
        ),
        figures.features_in_the_plane(explained_pictures.planes(study), study.kinds, votes, what=explained.READ),
        figures.explanation_grid(explained_pictures.explanation_rows(study, explained_pictures.middle_head(study))),
    ]
    assert [len(one.axes) for one in drawn] == [3, 2, 5, 20]
    plt.close("all")


def test_maps_of_other_heads_meet_in_the_middle():
    found = explained_scores._fitted(np.arange(4.0).reshape(1, 1, 4), (1, 1, 2))
    assert found.tolist() == [[[1.0, 2.0]]]
    assert explained_scores._fitted(np.ones((1, 1, 2)), (1, 1, 4)).tolist() == [[[0.0, 1.0, 1.0, 0.0]]]


def test_a_constant_map_and_a_single_head_have_no_interval():
    rows = pd.DataFrame(
        [("m", 0.5, "drawn anew", "a", "SSIM", 0.3)], columns=["method", "share", "what", "case", "metric", "value"]
    )
    found = explained_scores.similarity_table(rows).iloc[0]
    assert found["ours"] == 0.3
    assert np.isnan(found["ours_low"])


def test_what_cannot_be_explained_is_refused(study, demos):
    with pytest.raises(ParameterError, match="view"):
        view_of(demos["papl"], study.heads[0], looked=99)
    kind = replace(KINDS["unet"])
    with pytest.raises(ParameterError, match="unet"):
        view_of(replace(demos["papl"], kind=kind), study.heads[0])
    with pytest.raises(DataError, match="panels"):
        figures.features_in_the_plane({"a": np.zeros((2, 2))}, np.array(["x"]), pd.DataFrame(), what=("a",))
