"""The committed lists of all embedded cohorts."""

import pytest

from strokelib import manifest, settings
from strokelib.data import shipped
from strokelib.data.phantom import draw
from strokelib.data.phantom.knobs import KNOBS
from strokelib.errors import DataError

COHORTS = ("aisd", "xwhd", "apis", "icoais", "center_tbi", "isles2018")


@pytest.fixture(scope="module")
def people():
    table = shipped.participants()
    return table.assign(ml=table["volume_ml"].clip(upper=KNOBS.lesion_cap_ml) * KNOBS.living_size**3)


@pytest.fixture(scope="module")
def lists():
    return {cohort: manifest.split(cohort) for cohort in COHORTS}


def test_the_committed_lists_are_drawn_again_from_the_covariates():
    for cohort, frame in draw.draw_all(shipped.participants(), shipped.artery_shares()).items():
        committed = (settings.manifests_dir() / "splits" / f"{cohort}.csv").read_text("utf-8")
        assert frame.to_csv(index=False, lineterminator="\n") == committed, cohort


def test_no_patient_serves_two_cohorts_or_two_parts(lists):
    seen = {}
    for cohort, frame in lists.items():
        named = frame[frame["patient"] != ""]
        for patient, part in named.groupby("patient")["split"].unique().items():
            assert len(part) == 1
            assert seen.setdefault(patient, cohort) == cohort
    assert len(seen) == 874


@pytest.mark.parametrize(
    ("cohort", "sizes"),
    [
        ("aisd", {"train": 295, "val": 50, "test": 52}),
        ("xwhd", {"train": 112, "val": 18, "test": 41}),
        ("apis", {"train": 36, "val": 5, "test": 11}),
        ("icoais", {"train": 119, "val": 29, "test": 19}),
        ("center_tbi", {"train": 446, "val": 64, "test": 127}),
        ("isles2018", {"train": 65, "val": 6, "test": 23, "hidden": 62}),
    ],
)
def test_the_parts_have_their_sizes(lists, cohort, sizes):
    assert lists[cohort]["split"].value_counts().to_dict() == sizes


@pytest.mark.parametrize(("cohort", "healthy"), [("apis", 8), ("icoais", 8), ("center_tbi", 637)])
def test_heads_without_infarct_have_no_patient_and_no_label(lists, cohort, healthy):
    frame = lists[cohort]
    assert (frame["label"] == "none").sum() == healthy
    assert ((frame["patient"] == "") == (frame["label"] == "none")).all()


def test_isles2018_has_its_patients_and_some_of_them_two_slabs(lists):
    frame = lists["isles2018"]
    assert frame[frame["split"] != "hidden"]["patient"].nunique() == 63
    assert frame[frame["split"] == "hidden"]["patient"].nunique() == 40


def test_anatomy_b_stands_in_a_third_of_each_test_part_and_nowhere_else(lists):
    for cohort, frame in lists.items():
        tested = frame["split"].isin(draw.TESTS)
        assert (frame.loc[~tested, "anatomy"] == "A").all()
        assert 0.25 < (frame.loc[tested, "anatomy"] == "B").mean() < 0.45, cohort


def test_aisds_test_part_holds_44_infarcts_up_to_70_ml_and_8_above_and_none_near_it(people, lists):
    frame = lists["aisd"]
    volumes = people.loc[frame.loc[frame["split"] == "test", "patient"], "ml"]
    assert (int((volumes <= 60).sum()), int((volumes >= 90).sum())) == (44, 8)


def test_xwhd_is_like_the_published_table(people, lists):
    chosen = people.loc[lists["xwhd"]["patient"]]
    assert chosen["side"].value_counts().to_dict() == {"right": 87, "left": 84}
    assert chosen["nihss"].mean() == pytest.approx(12.4, abs=0.3)
    assert chosen["nihss"].std() == pytest.approx(5.69, abs=0.3)
    assert chosen["age"].median() == pytest.approx(65, abs=3)
    assert (chosen["sex"] == "M").sum() >= 100
    assert (chosen["prior_stroke"] == 0).all()


def test_icoais_has_its_labels_and_its_lesions_above_3_ml(people, lists):
    frame = lists["icoais"]
    assert frame["label"].value_counts().to_dict() == {"silver": 80, "gold": 79, "none": 8}
    for part, large in (("val", 24), ("test", 14)):
        named = frame[(frame["split"] == part) & (frame["patient"] != "")]
        assert (named["label"] == "gold").all()
        assert (people.loc[named["patient"], "ml"] > 3).sum() == large


def test_too_few_patients_are_refused():
    with pytest.raises(DataError):
        draw.draw_all(shipped.participants().head(200), shipped.artery_shares())
