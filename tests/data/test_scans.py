"""Where a run's cases come from: embedded cohorts, or a folder of the user's."""

import pytest

from strokelib import settings
from strokelib.data import scans
from strokelib.data.phantom import cohorts


@pytest.fixture
def embedded_run(tmp_path, monkeypatch):
    monkeypatch.setenv("STROKELIB_RUNS", str(tmp_path / "runs"))
    return settings.resolve("smoke", "aisd")


def test_without_data_the_parts_are_those_of_the_embedded_cohort(embedded_run):
    val, test = scans.load_parts(embedded_run, val=2, test=1)
    same = cohorts.load_parts("aisd", "smoke", root=embedded_run.runs, val=2, test=1)
    assert (val.ids, test.ids) == (same[0].ids, same[1].ids)
    assert val[0].embedded
    (fine,) = scans.load_parts(embedded_run, grid="published", test=1)
    assert fine[0].image.array.shape == (40, 256, 256)


def test_embedded_cohorts_stand_beside_each_other_and_the_users_own_stands_alone(embedded_run, tmp_path):
    assert scans.names_beside(embedded_run, "xwhd") == ("aisd", "xwhd")
    assert scans.names_beside(embedded_run, "aisd") == ("aisd",)
    own = settings.resolve("smoke", "aisd", data=tmp_path)
    assert scans.names_beside(own, "xwhd") == ("aisd",)


def test_facts_are_one_value_a_case(embedded_run):
    (val,) = scans.load_parts(embedded_run, val=2)
    facts = scans.facts_of(val)
    assert facts["lesion_ml"] == [case.lesion_ml for case in val]
    assert all(20 < value < 50 for value in facts["brain_hu"])
    assert all(900 < value < 2000 for value in facts["brain_ml"])
