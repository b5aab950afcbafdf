"""The committed split of the cohort aisd."""

import pytest

from strokelib import manifest
from strokelib.data import shipped
from strokelib.data.phantom.draw import SIZES, draw_split
from strokelib.errors import DataError


@pytest.fixture(scope="module")
def people():
    return shipped.participants()


@pytest.fixture(scope="module")
def split():
    return manifest.split("aisd")


def test_the_committed_split_is_drawn_again_from_the_covariates(people, split):
    drawn = draw_split(people)
    assert split[["case", "patient", "split"]].values.tolist() == drawn.values.tolist()


def test_each_patient_has_one_case(split):
    assert split["patient"].is_unique
    assert split["case"].is_unique


def test_the_parts_have_their_sizes(split):
    assert split["split"].value_counts().to_dict() == SIZES


def test_the_test_part_holds_44_infarcts_up_to_70_ml_and_8_above(people, split):
    volumes = people.loc[split.loc[split["split"] == "test", "patient"], "volume_ml"]
    assert (int((volumes <= 70).sum()), int((volumes > 70).sum())) == (44, 8)


@pytest.mark.parametrize("part", SIZES)
def test_a_part_has_the_severity_of_all_patients(people, split, part):
    scores = people.loc[split.loc[split["split"] == part, "patient"], "nihss"]
    assert scores.isna().mean() == pytest.approx(0.5, abs=0.02)
    assert scores.mean() == pytest.approx(people["nihss"].mean(), abs=1.5)


def test_enough_patients_with_a_score_and_one_sided_anterior_infarcts_are_left(people, split):
    left = people[~people.index.isin(split["patient"])]
    shares = shipped.artery_shares().loc[left.index]
    anterior = shares[range(1, 17)].max(axis=1) > shares[[*range(17, 23), *range(25, 31)]].max(axis=1)
    usable = left[anterior & left["nihss"].between(4, 22) & (left["side"] != "both")]
    assert (usable["side"] == "left").sum() >= 84
    assert (usable["side"] == "right").sum() >= 87


def test_too_few_patients_are_refused(people):
    with pytest.raises(DataError, match="stratum"):
        draw_split(people.head(100))
