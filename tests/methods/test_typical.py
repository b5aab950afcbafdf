"""The median scan by Dice, worked by hand: even numbers, equal values, zeros, groups without a scan."""

import pytest

from strokelib.errors import DataError
from strokelib.methods.typical import median_case, median_cases


def test_the_median_of_three_and_of_four():
    dice = {"a": 0.5, "b": 0.1, "c": 0.9, "d": 0.6}
    assert median_case("abc", dice) == "a"
    assert median_case("abcd", dice) == "d"  # 0.1 0.5 | 0.6 0.9: the higher of the two


def test_zeros_count_and_of_equal_values_the_later_name_comes_later():
    dice = {"c": 0.0, "a": 0.0, "b": 0.0, "d": 0.4}
    assert median_case("acb", dice) == "b"
    assert median_case("dcab", dice) == "c"


def test_no_scan_is_refused():
    with pytest.raises(DataError, match="none with a lesion"):
        median_case([], {})


def test_one_scan_of_each_size_and_the_limits_belong_to_the_middling():
    volume = {"a": 100.0, "b": 70.0, "c": 10.0, "d": 9.9, "e": 0.0, "f": 30.0}
    dice = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4, "e": 0.9, "f": 0.25}
    assert median_cases(volume, dice, (70.0, 10.0)) == ["a", "f", "d"]
    assert median_cases(volume, dice, (70.0, 10.0), count=1) == ["a"]
    assert median_cases({"d": 5.0}, dice, (70.0, 10.0)) == ["d"]


def test_no_lesion_in_the_groups_asked_for_is_refused():
    with pytest.raises(DataError, match="1 without lesion"):
        median_cases({"d": 5.0}, {"d": 0.1}, (70.0, 10.0), count=2)
