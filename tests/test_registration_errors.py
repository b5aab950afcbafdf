"""Errors of registration: right where the answer is known, the same voxels for every way, failures kept."""

import numpy as np
import pytest

from strokelib.data.phantom import embedded
from strokelib.errors import DataError
from strokelib.methods import registration_errors as errors

NAME = "aisd-0050"


@pytest.fixture(scope="module")
def mr_rows():
    return errors.mr_errors([NAME], known_brains=True).set_index("way")


@pytest.fixture(scope="module")
def mirror_rows():
    return errors.mirror_errors([NAME]).set_index("way")


def test_registration_beats_the_scanner_in_every_measure(mr_rows):
    for way in ("rigid", "affine"):
        assert mr_rows.at[way, "mean_mm"] < 1.5 < mr_rows.at["scanner", "mean_mm"]
        assert mr_rows.at[way, "p95_mm"] >= mr_rows.at[way, "mean_mm"]
        assert mr_rows.at[way, "mask_dice"] > max(0.7, mr_rows.at["scanner", "mask_dice"])


def test_a_rigid_way_changes_no_volume(mr_rows):
    assert mr_rows.at["rigid", "brain_change"] == pytest.approx(0.0, abs=1e-6)
    assert abs(mr_rows.at["affine", "brain_change"]) > 1e-6


def test_a_transform_shifted_by_three_millimetres_is_three_millimetres_off():
    case = embedded.render(NAME)
    shifted = np.eye(4)
    shifted[2, 3] = 3.0
    assert np.allclose(errors.distances_mm(case, shifted, np.eye(4)), 3.0)


def test_all_mirrors_of_a_case_are_compared_on_the_same_voxels(mirror_rows):
    assert list(mirror_rows.index) == list(errors.MIRRORS)
    assert mirror_rows["compared_share"].nunique() == 1
    assert (mirror_rows["compared_share"] <= mirror_rows["covered_share"]).all()
    assert mirror_rows["residual_hu"].between(1.0, 12.0).all()
    assert mirror_rows["residual_free_hu"].notna().all()


def test_a_mirror_that_fails_stays_a_row_and_the_others_go_on(monkeypatch):
    def gives_up(*args, **kwargs):
        raise DataError("atlas", found="nothing", wanted="a brain", next_step="look")

    monkeypatch.setattr(errors, "mirror_by_atlas", gives_up)
    rows = errors.mirror_errors([NAME]).set_index("way")
    assert "nothing" in rows.at["atlas, inverse back", "failed"]
    assert np.isnan(rows.at["atlas, registered back", "residual_hu"])
    assert rows.at["plane", "residual_hu"] > 0


def test_a_brain_that_is_not_found_fails_every_way_but_the_scanner(monkeypatch):
    def gives_up(*args, **kwargs):
        raise DataError("MR brain mask", found="3 mL", wanted="a brain", next_step="look")

    monkeypatch.setattr(errors, "mr_brain_mask", gives_up)
    rows = errors.mr_errors([NAME]).set_index("way")
    assert "3 mL" in rows.at["affine", "failed"]
    assert np.isnan(rows.at["affine", "mean_mm"])
    assert rows.at["scanner", "mean_mm"] > 0


@pytest.mark.parametrize("anatomy", ["A", "B"])
def test_chosen_heads_are_test_heads_of_one_anatomy_from_every_cohort(anatomy):
    names = errors.chosen_heads(anatomy, 3)
    assert len(set(names)) == 3
    assert {name.partition("-")[0] for name in names} == set(errors.COHORTS)
    for name in names:
        planned = embedded.plan(name)
        assert (planned.row.split, planned.row.anatomy) == ("test", anatomy)
        assert planned.infarct is not None


def test_no_more_heads_are_asked_for_in_the_demo_than_in_the_full_run():
    paper, demo, smoke = (errors.RegistrationRecipe.at(profile) for profile in ("paper", "demo", "smoke"))
    assert paper.mr_heads >= demo.mr_heads >= smoke.mr_heads >= 1
