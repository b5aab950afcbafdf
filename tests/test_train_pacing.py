"""What a training reads off its recipe."""

import inspect
from dataclasses import replace

import pytest

from strokelib import train
from strokelib.methods.unet import UNetRecipe


@pytest.mark.parametrize(("steps", "validations", "every", "logged"), [(1000, 50, 20, 2), (6, 2, 3, 1), (3, 50, 1, 1)])
def test_a_training_saves_as_often_as_it_validates_and_logs_some_hundred_rows(steps, validations, every, logged):
    recipe = replace(UNetRecipe.at("smoke"), steps=steps, validations=validations)
    found = train.paced(recipe)
    assert (found["steps"], found["validate_every"], found["checkpoint_every"]) == (steps, every, every)
    assert found["log_every"] == logged
    assert found["recipe_key"] == recipe.key()


def test_the_loop_takes_every_argument_that_a_recipe_gives():
    assert set(train.paced(UNetRecipe.at("paper"))) <= set(inspect.signature(train.fit).parameters)
