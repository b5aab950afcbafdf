"""Tissue labels of many cases: found once a case, kept, and found again where a case or the code changed."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from strokelib.data import tissue_mixture
from strokelib.errors import DataError, ParameterError
from strokelib.methods import adn_tissue
from strokelib.methods.adn_tissue import tissue_labels

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads

CASES = made_heads.heads(range(3))


@pytest.fixture
def asked(monkeypatch):
    """Cases whose tissue was looked for, with the files given; the slow atlas is stood in for by the truth."""
    calls = []

    def find(source, case, *, files=None):
        if case.id in broken:
            raise DataError(f"case {case.id}", found="a registration that failed", wanted="one", next_step="look at it")
        calls.append((source, case.id, files))
        return adn_tissue.tissue.true_maps(case)

    broken = set()
    monkeypatch.setattr(adn_tissue, "tissue_maps_from", find)
    calls_and_broken = (calls, broken)
    return calls_and_broken


def test_labels_are_the_likeliest_tissue_of_every_voxel(asked, tmp_path):
    found = tissue_labels(CASES, "atlas", out=tmp_path)
    assert list(found) == [case.id for case in CASES]
    for case in CASES:
        assert found[case.id].dtype == np.uint8
        np.testing.assert_array_equal(found[case.id], case.truth["tissue"])


def test_each_case_is_looked_at_once_whatever_list_it_comes_in(asked, tmp_path):
    calls, _ = asked
    first = tissue_labels(CASES[:2], "atlas", out=tmp_path)
    assert [name for _, name, _ in calls] == ["head-0", "head-1"]
    again = tissue_labels(CASES[::-1], "atlas", out=tmp_path)
    assert [name for _, name, _ in calls] == ["head-0", "head-1", "head-2"]
    assert list(again) == ["head-2", "head-1", "head-0"]
    for name, labels in first.items():
        np.testing.assert_array_equal(again[name], labels)
    tissue_labels(CASES, "atlas", out=tmp_path / "elsewhere")
    assert len(calls) == 6


def test_a_case_that_changed_is_looked_at_again_and_the_others_are_not(asked, tmp_path):
    calls, _ = asked
    tissue_labels(CASES, "atlas", out=tmp_path)
    changed = dataclasses.replace(CASES[1], image=CASES[1].image.with_array(CASES[1].image.array + 1))
    changed.truth["tissue"] = np.minimum(CASES[1].truth["tissue"], 2)
    found = tissue_labels([CASES[0], changed, CASES[2]], "atlas", out=tmp_path)
    assert [name for _, name, _ in calls[3:]] == ["head-1"]
    assert found["head-1"].max() == 2


def test_new_code_looks_again(asked, tmp_path, monkeypatch):
    calls, _ = asked
    tissue_labels(CASES[:1], "atlas", out=tmp_path)
    monkeypatch.setattr(tissue_mixture, "VERSION", tissue_mixture.VERSION + 1)
    tissue_labels(CASES[:1], "atlas", out=tmp_path)
    assert len(calls) == 2


def test_after_a_failure_the_cases_that_were_done_are_not_done_again(asked, tmp_path):
    calls, broken = asked
    broken.add("head-1")
    with pytest.raises(DataError, match="head-1"):
        tissue_labels(CASES, "atlas", out=tmp_path)
    assert [name for _, name, _ in calls] == ["head-0"]
    broken.clear()
    assert set(tissue_labels(CASES, "atlas", out=tmp_path)) == {case.id for case in CASES}
    assert [name for _, name, _ in calls] == ["head-0", "head-1", "head-2"]


def test_true_tissue_is_taken_from_the_case_and_nothing_is_written(tmp_path):
    found = tissue_labels(CASES, "truth", out=tmp_path)
    for case in CASES:
        np.testing.assert_array_equal(found[case.id], case.truth["tissue"])
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no true tissues"):
        tissue_labels([dataclasses.replace(CASES[0], truth={})], "truth", out=tmp_path)


def test_the_user_s_maps_are_read_from_a_folder_for_each_case(asked, tmp_path):
    calls, _ = asked
    tissue_labels(CASES[:2], "user", out=tmp_path, folder_of=tmp_path / "spm")
    assert calls == [("user", name, tmp_path / "spm" / name) for name in ("head-0", "head-1")]


def test_an_unknown_source_and_the_user_s_without_a_folder_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="atlas or truth or user"):
        tissue_labels(CASES, "spm", out=tmp_path)
    with pytest.raises(ParameterError, match="a folder or three files"):
        tissue_labels(CASES, "user", out=tmp_path)
