"""Which scans Figures 6 and 7 show, and the volumes of Figure 11."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from strokelib.data.cases import Case, Volume
from strokelib.data.inplane import align_case, known_line
from strokelib.errors import DataError
from strokelib.methods import papl_pictures as pictures
from strokelib.methods.papl import Outcome, Study
from strokelib.methods.scoring import COLUMNS, score
from strokelib.papl.agreement_figures import VolumeAgreement
from strokelib.settings import Profile, Settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "adn"))
import made_heads

SETTINGS = Settings(Profile.SMOKE, "aisd", 0, None, Path("runs"), Path("figures"))


def test_each_group_of_volumes_shows_its_median_dice_and_the_faintest_infarct_comes_last():
    volume = {"a": 100.0, "b": 90.0, "c": 80.0, "d": 70.0, "e": 10.0, "f": 9.9, "g": 3.0, "h": 0.5, "i": 0.0}
    dice = dict(zip("abcdefghi", (0.1, 0.5, 0.9, 0.2, 0.6, 0.3, 0.0, 0.1, 0.0), strict=True))
    contrast = dict(zip("abcdefgh", (5.0, 4.0, 3.0, 6.0, 2.0, 1.0, np.nan, 0.1), strict=True))
    # Of two the higher Dice; of f, g and h the one in the middle is h; the faintest of 1 mL or more not shown yet is f.
    assert pictures.chosen_scans(volume, dice, contrast) == ["b", "e", "h", "f"]


def test_a_group_without_scans_shows_none_and_no_infarct_at_all_is_refused():
    assert pictures.chosen_scans({"a": 5.0}, {"a": 0.0}, {"a": 2.0}) == ["a"]
    with pytest.raises(DataError, match="1 without lesion"):
        pictures.chosen_scans({"a": 0.0}, {"a": 0.0}, {})


def aligned(image, lesion, brain):
    case = Case("a", "p", "made", "test", Volume(image, np.eye(4)), lesion, brain)
    return type("Made", (), {"case": case})()


def test_asymmetry_is_that_to_the_mirror_image_inside_the_brain_on_both_sides():
    image = np.full((1, 2, 6), 40.0, np.float32)
    lesion, brain = np.zeros(image.shape, bool), np.ones(image.shape, bool)
    lesion[0, 0, :2] = True
    image[0, 0, 0], image[0, 0, 1], image[0, 0, 4] = 30.0, 35.0, 37.0
    assert pictures.asymmetry_hu(aligned(image, lesion, brain)) == pytest.approx((10 + 2) / 2)
    brain[0, 0, 5] = False
    assert pictures.asymmetry_hu(aligned(image, lesion, brain)) == pytest.approx(2.0)
    assert np.isnan(pictures.asymmetry_hu(aligned(image, brain, brain)))


@pytest.fixture
def study():
    heads = made_heads.heads(range(4), "test", tilt_deg=4.0, embedded=False)
    one = Study(SETTINGS, ([], [], heads), Path("models"))
    object.__setattr__(one, "aligned", ([], [], [align_case(case, known_line(case)) for case in heads]))
    object.__setattr__(one, "probability", lambda outcome: outcome.trained)
    return one


def outcome(row, study, shift):
    maps = {case.id: np.roll(case.lesion, shift, axis=2).astype(np.float16) for case in study.test}
    return Outcome(row, maps, score(row, maps, study.test), "1 seed")


def test_contours_show_the_rows_of_the_figure_that_were_run_on_chosen_scans(study, monkeypatch):
    seen = []
    monkeypatch.setattr(pictures, "with_dwi", lambda case, settings: seen.append(case.id) or case)
    outcomes = {row: outcome(row, study, shift) for row, shift in (("PAPL", 1), ("U-Net (aligned)", 2), ("ADN", 3))}
    shown = pictures.contour_examples(study, outcomes)
    assert 1 <= len(shown) == len(seen) <= 4
    for one, name in zip(shown, seen, strict=True):
        (case,) = [case for case in study.test if case.id == name]
        assert set(one.predicted) == {"PAPL", "U-Net (aligned)"}
        assert one.dice["PAPL"] > one.dice["U-Net (aligned)"]
        assert one.name.startswith(f"{case.lesion_ml:.0f} mL, −")
        z = case.lesion.sum(axis=(1, 2)).argmax()
        np.testing.assert_array_equal(one.predicted["PAPL"], np.roll(case.lesion[z], 1, axis=1))


def test_contours_need_papl(study):
    with pytest.raises(DataError, match="wanted PAPL"):
        pictures.contour_examples(study, {})


def volumes(row, estimated, reference):
    both = {"pred_volume_ml": estimated, "truth_volume_ml": reference}
    lines = [(row, f"s{i}", name, value, "mL") for name, values in both.items() for i, value in enumerate(values)]
    return Outcome(row, None, pd.DataFrame(lines, columns=COLUMNS), "1 seed")


def test_panels_are_of_the_aligned_backbone_and_papl_with_their_own_estimates():
    reference = np.array([5.0, 20.0, 60.0, 90.0])
    made = {row: volumes(row, factor * reference, reference) for row, factor in (("U-Net (aligned)", 0.5), ("PAPL", 1))}
    first, second = pictures.volume_agreements(made)
    assert (first.name, second.name) == ("U-Net", "PAPL")
    np.testing.assert_allclose(first.estimated_ml, [2.5, 10, 30])
    np.testing.assert_allclose(second.estimated_ml, second.reference_ml)


def test_narrower_limits_have_a_negative_difference_of_their_widths():
    reference = np.linspace(2, 60, 12)
    gap = 4 * np.sin(np.arange(12.0))
    wide, narrow = (VolumeAgreement.of(name, reference + f * gap, reference) for name, f in (("U", 1.0), ("P", 0.25)))
    found = pictures.width_difference([wide, narrow])
    widths = [one.agreement.upper.value - one.agreement.lower.value for one in (wide, narrow)]
    assert found.value == pytest.approx(widths[1] - widths[0])
    assert found.verdict == "below 0"
    few = replace(narrow, agreement=None)
    assert np.isnan(pictures.width_difference([wide, few]).value)
