from dataclasses import dataclass

import pytest

from strokelib.recipe import Recipe, describe, stated


@dataclass(frozen=True)
class Example(Recipe):
    width: int = stated(64, demo=12, smoke=4, source="assumed: not stated")
    rate: float = stated(1e-3, source="Section 3")
    steps: int = stated(1000, demo=100, source="Table 2")


def test_each_profile_takes_its_own_value_and_falls_back_to_the_longer_one():
    assert Example.at("paper") == Example(64, 1e-3, 1000)
    assert Example.at("demo") == Example(12, 1e-3, 100)
    assert Example.at("smoke") == Example(4, 1e-3, 100)


def test_a_change_by_name_replaces_one_value_and_an_unknown_name_is_refused():
    assert Example.at("demo", width=7).width == 7
    with pytest.raises(TypeError, match="depth"):
        Example.at("demo", depth=7)


def test_the_key_depends_on_every_value_and_on_nothing_else():
    assert Example.at("demo").key() == Example.at("demo").key()
    assert len({Example.at(p).key() for p in ("smoke", "demo", "paper")}) == 3


def test_the_description_shows_the_value_used_the_published_one_and_its_source():
    lines = describe(Example.at("demo")).splitlines()
    assert lines[1].split(None, 3) == ["width", "12", "64", "assumed: not stated"]
    assert lines[2].split(None, 3) == ["rate", "0.001", "same", "Section 3"]
