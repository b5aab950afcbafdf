"""The baseline: two trainings and three rows on one cohort, scored where the scanner left the head."""

import numpy as np
import pytest

from strokelib import methods
from strokelib.data.inplane import known_line
from strokelib.data.phantom import cohorts
from strokelib.methods.baseline import NAMES, BaselineRecipe


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    root = tmp_path_factory.mktemp("baseline")
    recipe = BaselineRecipe.at("smoke", train_cases=4, val_cases=2, steps=4, validations=2)
    parts = cohorts.load_parts("xwhd", "smoke", root=root, train=4, val=2, test=3)
    return methods.run_baseline("xwhd", parts, recipe, known_line, seed=0, out=root / "models"), parts[2]


def test_every_method_has_a_score_for_every_test_case(result):
    found, tests = result
    assert set(found.scores["method"]) == set(NAMES)
    for key in NAMES:
        assert set(methods.per_case(found.scores, key).index) == set(tests.ids)


def test_the_aligned_network_is_scored_on_the_scanners_grid(result):
    found, tests = result
    for case in tests:
        for key in ("unet", "unet_aligned"):
            assert found.probability[key][case.id].shape == case.lesion.shape
    assert found.trained["unet"].folder != found.trained["unet_aligned"].folder


def test_the_table_names_n_an_interval_both_anatomies_and_a_status(result):
    table = result[0].table().set_index("method")
    assert (table["n"] == 3).all()
    assert (table["n_a"] + table["n_b"] == 3).all()
    assert (table["ci95_low"] <= table["dice"]).all()
    assert (table["dice"] <= table["ci95_high"]).all()
    assert set(table["status"]) <= {"reference row", "undertrained", "did not learn", "1 seed"}


def test_the_dots_hold_every_case_of_every_method(result):
    dots, intervals = result[0].dots()
    assert len(dots) == 3 * len(NAMES)
    assert list(intervals) == list(NAMES.values())
    assert np.isfinite(dots["value"]).all()


def test_the_weakest_status_stands_for_all():
    assert methods.weakest(["1 seed", "undertrained"]) == "undertrained"
    assert methods.weakest(["done", "did not learn"]) == "did not learn"
