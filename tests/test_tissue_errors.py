"""Errors of tissue maps: none for the truth, hand-worked ones, failures kept, and the mixture above its parts."""

import dataclasses
import math

import matplotlib as mpl
import numpy as np
import pytest

from strokelib.data.cases import Volume
from strokelib.data.phantom import embedded
from strokelib.data.tissue import TissueMaps, maps_of, true_maps
from strokelib.errors import DataError
from strokelib.figures.tissue import TISSUE_COLOURS, TissuePicture, tint, tissue_grid, tissue_row
from strokelib.methods import tissue_errors as errors

mpl.use("Agg")
NAME = "aisd-0003"


@pytest.fixture(scope="module")
def case():
    return embedded.render(NAME)


def maps(labels):
    """Maps that are sure of these labels."""
    return TissueMaps(*(np.asarray(labels) == k for k in (1, 2, 3)), affine=np.eye(4))


def test_the_truth_has_no_error(case):
    true = true_maps(case)
    found = errors.map_errors(true, true, case.truth["lesion"], case.image.voxel_ml)
    assert set(found) == set(errors.VALUES)
    assert [found[f"dice_{name}"] for name in errors.NAMES] == [1.0, 1.0, 1.0]
    assert [found[f"{name}_error_ml"] for name in errors.NAMES] == [0.0, 0.0, 0.0]
    assert found["lesion_as_csf"] == 0.0


def test_errors_are_those_counted_by_hand():
    true = maps([[[1, 1, 1, 2, 2, 3, 0, 0]]])
    found = maps([[[1, 1, 3, 3, 2, 3, 0, 0]]])
    lesion = np.array([[[0, 0, 1, 1, 1, 0, 0, 1]]], bool)
    result = errors.map_errors(found, true, lesion, 0.5)
    assert result["dice_grey"] == pytest.approx(4 / 5)
    assert result["dice_white"] == pytest.approx(2 / 3)
    assert result["dice_csf"] == pytest.approx(2 / 4)
    assert result["grey_error_ml"] == -0.5
    assert result["csf_error_ml"] == 1.0
    assert result["lesion_as_csf"] == pytest.approx(2 / 3)
    assert math.isnan(errors.map_errors(found, true, lesion & False, 0.5)["lesion_as_csf"])


def test_the_mixture_beats_its_priors_and_thresholds_and_a_failure_stays_a_row(case):
    def gives_up(case, registration):
        raise DataError("tissues", found="nothing", wanted="maps", next_step="look")

    ways = errors.WAYS | {"fails": gives_up, "truth": lambda case, registration: true_maps(case)}
    table = errors.tissue_errors([NAME], ways, render=lambda name: case).set_index("way")
    for other in ("priors alone", "HU thresholds alone"):
        for name in ("dice_grey", "dice_white"):
            assert table.at["mixture with priors", name] > table.at[other, name]
    assert table.at["mixture with priors", "dice_csf"] > table.at["priors alone", "dice_csf"]
    assert table.at["truth", "dice_csf"] == 1.0
    assert "nothing" in table.at["fails", "failed"]
    assert np.isnan(table.at["fails", "dice_grey"])
    assert (table["anatomy"] == "A").all()


def test_a_head_that_cannot_be_registered_fails_in_every_way(case):
    no_brain = dataclasses.replace(case, brain=np.zeros_like(case.brain), truth=case.truth)
    no_brain.brain[0, 0, 0] = True
    table = errors.tissue_errors([NAME], render=lambda name: no_brain)
    assert len(table) == 3
    assert (table["failed"] != "").all()


def test_thresholds_cut_at_their_ends(case):
    hu = np.array([22, 23, 32, 33], np.int16).reshape(1, 1, 4)
    small = dataclasses.replace(case, image=Volume(hu, np.eye(4)), brain=np.ones(hu.shape, bool))
    assert errors.by_thresholds(small).labels().ravel().tolist() == [3, 2, 2, 1]


def test_the_heads_are_test_heads_spread_over_both_anatomies():
    recipe = errors.TissueRecipe.at("demo")
    names = errors.chosen_cases(recipe)
    assert len(set(names)) == recipe.heads_a + recipe.heads_b
    rows = [embedded.rows("aisd", embedded.settings.manifests_dir())[name] for name in names]
    assert {row.split for row in rows} == {"test"}
    assert [row.anatomy for row in rows] == ["A"] * recipe.heads_a + ["B"] * recipe.heads_b
    assert len(errors.chosen_cases(errors.TissueRecipe.at("paper"))) == 52


def test_tints_are_the_colours_of_the_tissues_and_mix_by_probability():
    colours = [mpl.colors.to_rgb(colour) for colour in TISSUE_COLOURS.values()]
    flat = tint(np.array([[0, 1, 2, 3]]), 0.5)
    np.testing.assert_allclose(flat[0, 1:, :3], colours)
    np.testing.assert_allclose(flat[0, :, 3], [0, 0.5, 0.5, 0.5])
    mixed = tint(np.array([0.5, 0.5, 0.0]).reshape(3, 1, 1), 1.0)
    np.testing.assert_allclose(mixed[0, 0, :3], np.mean(colours[:2], axis=0))


def test_a_row_draws_the_slice_below_the_tints_and_names_the_tissues(case):
    z = 15
    labels = maps_of(true_maps(case).maps, case.image, case.brain, {}).labels()[z]
    spacing = case.image.spacing[1:]
    plain = TissuePicture(case.image.array[z], spacing, "CT")
    tinted = TissuePicture(case.image.array[z], spacing, "tissues", labels, case.truth["lesion"][z])
    figure = tissue_row([plain, tinted])
    assert [len(ax.images) for ax in figure.axes] == [1, 2]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), case.image.array[z])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["grey matter", "white matter", "fluid", "infarct"]
    grid = tissue_grid([[plain, tinted], [plain]])
    assert [ax.get_visible() for ax in grid.axes] == [True, True, True, False]
