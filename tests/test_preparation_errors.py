"""Errors of the preparation: right where the answer is known, and failures kept."""

import numpy as np
import pandas as pd
import pytest

from strokelib.data.inplane import known_line, one_line
from strokelib.data.phantom import embedded
from strokelib.errors import DataError
from strokelib.methods import preparation_errors as errors

NAME = "aisd-0003"


@pytest.fixture(scope="module")
def case():
    return embedded.render(NAME)


def test_the_known_plane_has_no_error(case):
    *normal, distance = case.facts["midline_plane"]
    found = errors.plane_errors(case, (-np.array(normal), -distance))
    assert max(found.values()) < 1e-5


def test_a_plane_shifted_by_three_mm_is_three_mm_off_everywhere(case):
    *normal, distance = case.facts["midline_plane"]
    found = errors.plane_errors(case, (np.array(normal), distance + 3.0))
    assert found["turn_deg"] == pytest.approx(0, abs=1e-6)
    assert found["offset_mm"] == pytest.approx(3.0)
    assert found["largest_mm"] == pytest.approx(3.0)


def test_a_turned_plane_has_that_turn(case):
    *normal, distance = case.facts["midline_plane"]
    turn = np.deg2rad(5.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    found = errors.plane_errors(case, (rotation @ normal, distance))
    assert found["turn_deg"] == pytest.approx(5.0, abs=1e-6)


def test_the_plane_of_the_known_line_is_right_up_to_the_roll(case):
    line = one_line(known_line(case), case.brain.sum(axis=(1, 2)).astype(float))
    found = errors.plane_errors(case, errors.plane_of_line(case, line))
    assert found["turn_deg"] < 1.0
    assert found["offset_mm"] < 1.5


def test_the_classical_search_beats_the_scanner_and_a_failure_stays_a_row():
    def gives_up(case):
        raise DataError("plane", found="nothing", wanted="a plane", next_step="look")

    ways = {"none": errors.by_scanner, "symmetry": errors.by_symmetry(roll=False), "fails": gives_up}
    found = errors.alignment_errors([NAME], ways, angles_deg=(12.0,)).set_index("way")
    assert found.at["none", "turn_deg"] == pytest.approx(12.0, abs=0.2)
    assert found.at["symmetry", "turn_deg"] < 1.5
    assert "nothing" in found.at["fails", "failed"]
    assert np.isnan(found.at["fails", "turn_deg"])


def test_the_summary_counts_failures_and_gives_no_interval_for_one():
    frame = pd.DataFrame({"way": ["a", "a", "a", "b"], "e": [1.0, 2.0, np.nan, 4.0]})
    table = errors.summary(frame, ["way"], ["e"]).set_index("way")
    assert table.at["a", "failures"] == 1
    assert table.at["a", "mean"] == 1.5
    assert table.at["a", "low"] <= 1.5 <= table.at["a", "high"]
    assert np.isnan(table.at["b", "low"])


def test_brains_are_stripped_to_their_true_mask():
    assert errors.strip_errors([NAME])["dice"].iloc[0] > 0.95
