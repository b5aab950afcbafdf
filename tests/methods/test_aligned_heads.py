"""Mid-sagittal lines of a run's heads: found by one network, once, whatever cohort the run is about."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from strokelib.data.inplane import known_line
from strokelib.methods import aligned_heads
from strokelib.methods.aligned_heads import grid_of, midlines
from strokelib.methods.midline import MIDLINE, MidlineRecipe
from strokelib.settings import Profile, Settings

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads

PARTS = [
    made_heads.heads(numbers, split, tilt_deg=8.0, shift=1.0)
    for split, numbers in (("train", range(2)), ("val", range(2, 3)), ("test", range(3, 5)))
]
IDS = [case.id for part in PARTS for case in part]


def settings_of(tmp_path, profile="smoke", cohort="aisd", data=None):
    return Settings(Profile(profile), cohort, 5, data, tmp_path / "runs", tmp_path / "figures")


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """What is loaded, what is trained and whose line is found; the known line stands for the network's."""
    seen = SimpleNamespace(loaded=[], trained=[], found=[])

    def load(settings, **how):
        seen.loaded.append((settings, how))
        return "training heads", "validation heads"

    def train(method, recipe, *parts, seed, out):
        seen.trained.append((method, recipe, parts, seed))
        return SimpleNamespace(model="the network", recipe=recipe, folder=Path(out) / "midline-of-a-kind")

    def line(model, recipe, case):
        assert model == "the network"
        seen.found.append(case.id)
        return known_line(case)

    monkeypatch.setattr(aligned_heads, "load_parts", load)
    monkeypatch.setattr(aligned_heads, "train_method", train)
    monkeypatch.setattr(aligned_heads, "find_line", line)
    return seen


@pytest.mark.parametrize(("profile", "grid"), [("paper", "published"), ("demo", "prepared"), ("smoke", "prepared")])
def test_the_grid_is_the_profiles(tmp_path, profile, grid):
    assert grid_of(settings_of(tmp_path, profile)) == grid


def test_every_head_of_every_part_gets_its_line_and_slices_without_brain_have_none(tmp_path, calls):
    found = midlines(settings_of(tmp_path), PARTS, tmp_path)
    assert list(found) == IDS
    for part in PARTS:
        for case in part:
            np.testing.assert_array_equal(found[case.id], known_line(case))
            assert np.isnan(found[case.id][0]).all()
            assert np.isfinite(found[case.id][5]).all()


def test_lines_are_found_once_and_those_of_new_heads_alone_anew(tmp_path, calls):
    first = midlines(settings_of(tmp_path), PARTS, tmp_path)
    assert calls.found == IDS
    again = midlines(settings_of(tmp_path), PARTS, tmp_path)
    assert calls.found == IDS
    for name in IDS:
        np.testing.assert_array_equal(first[name], again[name])
    other = made_heads.heads(range(5, 7), "test", tilt_deg=8.0)
    found = midlines(settings_of(tmp_path), [*PARTS[:2], other], tmp_path)
    assert calls.found == [*IDS, "head-5", "head-6"]
    assert list(found) == [*IDS[:3], "head-5", "head-6"]
    changed = dataclasses.replace(PARTS[1][0], image=PARTS[1][0].image.with_array(PARTS[1][0].image.array + 1))
    midlines(settings_of(tmp_path), [[changed]], tmp_path)
    assert calls.found[-1] == changed.id
    assert len(calls.found) == len(IDS) + 3


@pytest.mark.parametrize("profile", ["paper", "smoke"])
def test_the_network_is_trained_on_embedded_heads_of_aisd_on_the_same_grid(tmp_path, calls, profile):
    settings = settings_of(tmp_path, profile)
    midlines(settings, PARTS, tmp_path)
    recipe = MidlineRecipe.at(profile)
    limits = {"train": recipe.train_cases, "val": recipe.val_cases}
    assert calls.loaded == [(settings, {"grid": grid_of(settings), **limits})]
    assert calls.trained == [(MIDLINE, recipe, ("training heads", "validation heads"), 5)]


@pytest.mark.parametrize("cohort", ["aisd", "xwhd"])
def test_a_users_own_heads_teach_the_network_nothing(tmp_path, calls, cohort):
    folder = tmp_path / "scans"
    found = midlines(settings_of(tmp_path, cohort=cohort, data=folder), PARTS, tmp_path)
    ((used, _),) = calls.loaded
    assert (used.data, used.cohort) == (None, "aisd")
    assert list(found) == IDS


def test_other_cohorts_share_the_network(tmp_path, calls):
    midlines(settings_of(tmp_path), PARTS[:1], tmp_path)
    midlines(settings_of(tmp_path, cohort="xwhd"), PARTS[1:], tmp_path)
    first, second = calls.trained
    assert first == second
    assert {used.cohort for used, _ in calls.loaded} == {"aisd"}
