import numpy as np
import pandas as pd
import pytest

from strokelib.data.cases import Case, Volume
from strokelib.errors import DataError
from strokelib.ssl_nnunet.examples import MaskExample, failed_and_good

METHODS = ("a", "b")


def _scores(dice, volumes=None):
    """Method -> Dice of scans s0, s1, ...; volumes of the lesions in mL."""
    rows = [(m, f"s{i}", "dice", v) for m, values in dice.items() for i, v in enumerate(values)]
    for m, values in dice.items():
        of_lesions = volumes or [10.0] * len(values)
        rows += [(m, f"s{i}", "truth_volume_ml", v) for i, v in enumerate(of_lesions)]
    return pd.DataFrame(rows, columns=["method", "case", "metric", "value"])


def test_all_failed_is_where_the_best_is_lowest_and_all_good_where_the_worst_is_highest():
    scores = _scores({"a": [0.0, 0.2, 0.9, 0.6], "b": [0.8, 0.1, 0.4, 0.5]})
    assert failed_and_good(scores, METHODS) == ("s1", "s3")


def test_of_several_failures_the_largest_lesion_is_shown():
    scores = _scores({"a": [0, 0, 0, 0.5], "b": [0, 0, 0, 0.4]}, [3.0, 40.0, 12.0, 5.0])
    assert failed_and_good(scores, METHODS) == ("s1", "s3")


def test_the_two_scans_differ_also_where_all_are_alike():
    assert failed_and_good(_scores({"a": [0.3, 0.3], "b": [0.3, 0.3]}), METHODS) == ("s0", "s1")


def test_methods_that_are_not_shown_do_not_count_and_scans_without_a_dice_are_passed_over():
    scores = _scores({"a": [np.nan, 0.2, 0.7, 0.8], "b": [0.0, 0.2, 0.7, 0.6], "other": [0.0, 0.9, 0.0, 0.0]})
    assert failed_and_good(scores, METHODS) == ("s1", "s2")


def test_too_few_scans_are_refused():
    with pytest.raises(DataError, match="1 scans"):
        failed_and_good(_scores({"a": [0.1], "b": [0.2]}), METHODS)
    with pytest.raises(DataError, match="0 scans"):
        failed_and_good(_scores({"a": [0.1, 0.2]}), METHODS)


@pytest.fixture
def case():
    brain, lesion = np.ones((3, 20, 16), bool), np.zeros((3, 20, 16), bool)
    lesion[0, 3:5, 3:5] = lesion[2, 3:8, 3:7] = True
    image = Volume(np.arange(3 * 20 * 16, dtype=float).reshape(3, 20, 16), np.diag([-4.0, -4.0, 5.0, 1.0]))
    return Case("c", "p", "icoais", "test", image, lesion, brain)


def test_an_example_is_the_fullest_slice_with_the_scores_of_the_whole_scan(case):
    half = case.lesion.copy()
    half[2] = False
    found = MaskExample.of(case, {"a": case.lesion, "b": half}, "head")
    np.testing.assert_array_equal(found.image_hu, case.image.array[2])
    np.testing.assert_array_equal(found.lesion, case.lesion[2])
    np.testing.assert_array_equal(found.predicted["a"], case.lesion[2])
    assert not found.predicted["b"].any()
    assert (found.dice["a"], found.dice["b"]) == (1.0, pytest.approx(2 * 4 / (4 + 24)))
    assert (found.lesion_ml, found.predicted_ml["b"]) == (pytest.approx(24 * 0.08), pytest.approx(4 * 0.08))
    assert (found.spacing_yx, found.name) == ((4.0, 4.0), "head")


def test_a_mask_on_another_grid_or_of_probabilities_is_refused(case):
    with pytest.raises(DataError, match="shape"):
        MaskExample.of(case, {"a": case.lesion[:, 1:]})
    with pytest.raises(DataError, match="other values"):
        MaskExample.of(case, {"a": 0.4 * case.lesion})
