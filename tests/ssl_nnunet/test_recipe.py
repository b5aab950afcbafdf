"""Which recipe a study's changes hold in."""

import pytest

from strokelib.errors import ParameterError
from strokelib.recipe import Recipe
from strokelib.ssl_nnunet.recipe import FinetuningRecipe, PlanRecipe, PretrainingRecipe, changes_of

SHARED = {"batch", "steps", "lr", "momentum", "weight_decay", "validations"}


def test_a_value_that_both_recipes_have_is_changed_in_the_one_that_is_named():
    for name in SHARED:
        changes = {PretrainingRecipe: {name: 7}}
        assert changes_of(PretrainingRecipe, changes) == {name: 7}
        assert changes_of(FinetuningRecipe, changes) == {}


def test_values_of_the_plan_are_changed_in_both():
    changes = {PlanRecipe: {"base": 4}, FinetuningRecipe: {"levels": 1}}
    assert changes_of(PretrainingRecipe, changes) == {"base": 4}
    assert changes_of(FinetuningRecipe, changes) == {"base": 4, "levels": 1}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (PretrainingRecipe, "spacing_mm"),
        (FinetuningRecipe, "channels"),
        (FinetuningRecipe, "prototypes"),
        (PretrainingRecipe, "levels"),
        (PlanRecipe, "steps"),
    ],
)
def test_a_value_under_the_wrong_recipe_is_refused_whichever_recipe_is_made(given, name):
    for kind in (PretrainingRecipe, FinetuningRecipe):
        with pytest.raises(ParameterError, match=rf"{name}(.|\n)*{given.__name__}"):
            changes_of(kind, {given: {name: 1}})


@pytest.mark.parametrize("given", ["steps", Recipe])
def test_changes_of_anything_else_than_a_recipe_of_the_paper_are_refused(given):
    with pytest.raises(ParameterError, match="FinetuningRecipe"):
        changes_of(FinetuningRecipe, {given: {}})


def test_the_demo_predicts_without_mirrored_copies_and_the_paper_with_all():
    assert FinetuningRecipe.at("demo").mirror_axes == FinetuningRecipe.at("smoke").mirror_axes == ()
    assert FinetuningRecipe.at("paper").mirror_axes == (0, 1, 2)
