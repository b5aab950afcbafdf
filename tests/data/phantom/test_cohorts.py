"""The store of rendered cases."""

import dataclasses

import numpy as np
import pytest

from strokelib.data.phantom import cohorts, embedded
from strokelib.data.phantom.perfusion_slab import head_name
from strokelib.errors import ParameterError
from strokelib.settings import Profile


@pytest.fixture(scope="module")
def one_case():
    return embedded.render("aisd-0001")


@pytest.fixture
def rendered(monkeypatch, one_case):
    """Names that were rendered, in order; the picture is always the same one, so that the tests are quick."""
    names = []

    def fake(case_id, grid):
        names.append(case_id)
        return dataclasses.replace(one_case, id=case_id)

    monkeypatch.setattr(cohorts, "render", fake)
    return names


@pytest.mark.parametrize(("profile", "sizes"), [("smoke", (8, 4, 6)), ("demo", (96, 16, 52)), ("paper", (295, 50, 52))])
def test_a_profile_has_its_number_of_cases(profile, sizes):
    assert tuple(len(cohorts.case_ids("aisd", part, profile)) for part in ("train", "val", "test")) == sizes


def test_a_shorter_profile_uses_the_first_cases_of_a_longer_one():
    assert cohorts.case_ids("aisd", "val", "demo")[:4] == cohorts.case_ids("aisd", "val", "smoke")


def test_loaded_cases_are_what_was_rendered(tmp_path, one_case):
    cases = cohorts.load("aisd", "train", "smoke", root=tmp_path, limit=1)
    assert len(cases) == 1
    np.testing.assert_array_equal(cases[0].image.array, one_case.image.array)
    assert cases[0].facts == one_case.facts
    assert cases.path("aisd-0001") == tmp_path / "cases/aisd" / f"prepared-v{cohorts.VERSION}" / "aisd-0001.safetensors"


def test_cases_are_rendered_once(tmp_path, rendered):
    first = cohorts.load("aisd", "val", "smoke", root=tmp_path)
    cohorts.load("aisd", "val", "smoke", root=tmp_path)
    assert rendered == list(first.ids)
    assert [case.id for case in first] == rendered
    assert [case.id for case in first[1:3]] == rendered[1:3]


def test_a_killed_rendering_goes_on_where_it_stopped(tmp_path, rendered, monkeypatch):
    fake = cohorts.render

    def dies_at_the_third(case_id, grid):
        if len(rendered) == 2:
            raise KeyboardInterrupt
        return fake(case_id, grid)

    monkeypatch.setattr(cohorts, "render", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        cohorts.load("aisd", "val", "smoke", root=tmp_path)
    left = tmp_path / "cases/aisd" / f"prepared-v{cohorts.VERSION}"
    half_written = left / f".{cohorts.case_ids('aisd', 'val', 'smoke')[2]}.abc.tmp.safetensors"
    half_written.write_bytes(b"half")
    monkeypatch.setattr(cohorts, "render", fake)
    cases = cohorts.load("aisd", "val", "smoke", root=tmp_path)
    assert rendered == list(cases.ids)
    assert not half_written.exists()


def test_a_file_cut_short_is_rendered_again(tmp_path, rendered):
    cases = cohorts.load("aisd", "val", "smoke", root=tmp_path, limit=2)
    path = cases.path(cases.ids[1])
    path.write_bytes(path.read_bytes()[:1000])
    cohorts.load("aisd", "val", "smoke", root=tmp_path, limit=2)
    assert rendered == [*cases.ids, cases.ids[1]]


@pytest.mark.parametrize("cohort", ["nonsense"])
def test_a_cohort_that_is_not_built_is_refused(cohort, tmp_path):
    with pytest.raises(ParameterError, match="embedded cohort"):
        cohorts.load(cohort, "train", "smoke", root=tmp_path)


@pytest.mark.parametrize("wrong", [{"split": "holdout"}, {"profile": "long"}, {"grid": "coarse"}])
def test_wrong_names_are_refused(wrong, tmp_path):
    given = {"cohort": "aisd", "split": "train", "profile": "smoke"} | wrong
    with pytest.raises(ParameterError):
        cohorts.load(**given, root=tmp_path)


def test_two_worker_processes_give_the_bytes_of_one(tmp_path):
    alone = cohorts.load("aisd", "val", "smoke", root=tmp_path / "alone", limit=2)
    shared = cohorts.CaseFiles(tmp_path / "shared", alone.ids)
    cohorts.ensure_rendered(shared, "prepared", workers=2)
    for name in alone.ids:
        assert shared.path(name).read_bytes() == alone.path(name).read_bytes()


def test_several_splits_are_rendered_in_one_go_and_are_those_of_load(tmp_path, rendered):
    parts = cohorts.load_parts("aisd", "smoke", root=tmp_path, val=2, test=None)
    assert [len(p) for p in parts] == [2, 6]
    assert rendered == [name for part in parts for name in part.ids]
    assert parts[1].ids == cohorts.load("aisd", "test", "smoke", root=tmp_path).ids


def demo_heads(cohort):
    return {head_name(name) for part in cohorts.SPLITS for name in cohorts.case_ids(cohort, part, "demo")}


def test_the_demo_uses_at_most_400_heads_of_all_cohorts_together():
    assert sum(len(demo_heads(cohort)) for cohort in cohorts.COUNTS) <= 400


def test_the_demo_uses_the_published_split_of_isles_which_is_94_scans_of_63_heads():
    assert cohorts.COUNTS["isles2018"][Profile.DEMO] == (65, 6, 23)
    assert len(demo_heads("isles2018")) == 63


def test_every_cohort_has_enough_cases_for_its_profiles():
    for cohort, counts in cohorts.COUNTS.items():
        for profile, sizes in counts.items():
            for part, size in zip(cohorts.SPLITS, sizes, strict=True):
                assert len(cohorts.case_ids(cohort, part, profile)) == size
