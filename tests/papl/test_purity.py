"""Purity by head, and the table of windows in HU: means over heads of shares that can be counted by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from made_slices import head_slices, with_lesion

from strokelib.comparing import COLUMNS
from strokelib.errors import DataError, ParameterError
from strokelib.papl.purity import SHARES, positive_purity, purity_by_head, table_purity
from strokelib.papl.sampling import RegionSampler
from strokelib.settings import Profile, Settings

SETTINGS = Settings(Profile.SMOKE, "aisd", 0, None, Path("runs"), Path("figures"))
INFARCT = (5, 11, 3, 8)


def sampler(seen=True):
    """Scan 0 has an infarct that was painted, scan 1 one that was not; the window shows all of it, or none."""
    data = with_lesion(head_slices(), (1, 2, 8), INFARCT)
    lowered = torch.zeros(data.lesions.shape)
    lowered[1:3] = 3.0 * data.lesions[1:3]
    data = replace(data, lowered_hu=lowered, seen_hu=lowered if seen else torch.zeros_like(lowered))
    return RegionSampler(data, 16, 3, width_mm=(8.0, 32.0), height_mm=(8.0, 40.0))


def test_the_heads_together_hold_the_samples_of_all_and_each_is_as_pure_as_its_infarct():
    heads, whole = purity_by_head(sampler(), 800), positive_purity(sampler(), 800)
    assert list(heads) == [0, 1, 2]
    assert sum(one.positives for one in heads.values()) == whole.positives > 0
    assert sum(one.negatives for one in heads.values()) == whole.negatives
    assert (heads[0].lowered, heads[0].seen, heads[0].lowered_part) == (1.0, 1.0, 1.0)
    assert (heads[1].lowered, heads[1].seen) == (0.0, 0.0)
    assert heads[2].positives == 0
    assert np.isnan(heads[2].lowered)
    of_positives = [one.lowered * one.positives for one in heads.values() if one.positives]
    assert sum(of_positives) == pytest.approx(whole.lowered * whole.positives)


def test_a_window_that_hides_the_infarct_differs_in_what_is_seen_and_in_nothing_else():
    windows = {"hides": purity_by_head(sampler(seen=False), 800), "shows": purity_by_head(sampler(), 800)}
    table = table_purity(windows, SETTINGS)
    assert set(COLUMNS) <= set(table)
    assert len(table) == 2 * len(SHARES)
    cells = table.set_index(["row", "metric"])
    # Two of three heads have positives, one of these was painted.
    assert cells.loc[("shows", "seen"), "ours"] == cells.loc[("shows", "lowered"), "ours"] == 0.5
    assert cells.loc[("hides", "seen"), "ours"] == 0
    assert cells.loc[("hides", "seen"), "difference"] == -0.5
    assert cells.loc[("hides", "lowered"), "difference"] == 0
    assert (cells.loc[("shows", "seen"), "n"], cells.loc[("shows", "negatives_lowered"), "n"]) == (2, 3)
    assert cells.loc[("shows", "negatives_lowered"), "ours"] == 0


def test_no_window_and_slices_without_truth_are_refused():
    with pytest.raises(DataError, match="windows in HU"):
        table_purity({}, SETTINGS)
    bare = sampler()
    bare.slices = replace(bare.slices, lowered_hu=None)
    with pytest.raises(DataError, match="truth"):
        purity_by_head(bare)
    with pytest.raises(ParameterError, match="above 0"):
        purity_by_head(sampler(), 0)
