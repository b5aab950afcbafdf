"""The committed lists of cases of all cohorts: drawn again, disjoint, and like the published cohorts."""

import pandas as pd
import pytest

from strokelib import manifest, settings
from strokelib.data import shipped
from strokelib.data.phantom.draw import draw_all, living_ml, split_csv
from strokelib.data.phantom.draw_cohorts import LARGE_GUARD_ML, SEEN_GUARD_ML, TINY_ML, with_arteries
from strokelib.data.phantom.knobs import KNOBS
from strokelib.errors import DataError

SIZES = {
    "aisd": {"train": 295, "val": 50, "test": 52},
    "xwhd": {"train": 112, "val": 18, "test": 41},
    "apis": {"train": 36, "val": 10, "test": 6},
    "icoais": {"train": 119, "val": 29, "test": 19},
    "center_tbi": {"train": 446, "val": 127, "test": 64},
    "isles2018": {"train": 65, "val": 6, "test": 23, "hidden": 62},
}
LABELS = {
    "aisd": {"gold": 397},
    "xwhd": {"gold": 171},
    "apis": {"gold": 44, "none": 8},
    "icoais": {"gold": 79, "silver": 80, "none": 8},
    "center_tbi": {"none": 637},
    "isles2018": {"gold": 156},
}
WITH_INFARCTS = ("aisd", "xwhd", "apis", "icoais", "isles2018")


@pytest.fixture(scope="module")
def people():
    table = shipped.participants()
    return with_arteries(table.assign(ml=living_ml(table["volume_ml"])), shipped.artery_shares())


@pytest.fixture(scope="module")
def drawn():
    return draw_all(shipped.participants())


@pytest.fixture(scope="module")
def cases(people):
    """All cohorts' cases with their patients' covariates."""
    lists = pd.concat([manifest.split(name).assign(cohort=name) for name in settings.COHORTS], ignore_index=True)
    return lists.join(people, on="patient")


@pytest.mark.parametrize("cohort", settings.COHORTS)
def test_the_committed_file_is_drawn_again_byte_for_byte(drawn, cohort):
    committed = (settings.manifests_dir() / "splits" / f"{cohort}.csv").read_bytes()
    assert split_csv(drawn[cohort]).encode() == committed


def test_the_draw_does_not_depend_on_the_order_of_the_patients(drawn):
    turned = draw_all(shipped.participants().iloc[::-1], shipped.artery_shares().sample(frac=1, random_state=0))
    assert {name: split_csv(table) for name, table in turned.items()} == {
        name: split_csv(table) for name, table in drawn.items()
    }


def test_no_patient_serves_two_cohorts_or_two_heads(cases):
    named = cases[cases["patient"] != ""]
    heads = named["case"].str.split("-").str[:2].str.join("-")
    assert heads.groupby(named["patient"]).nunique().eq(1).all()
    assert named["patient"].groupby(heads).nunique().eq(1).all()
    assert named["patient"].nunique() == 874
    assert named.groupby("patient")[["cohort", "split", "anatomy"]].nunique().eq(1).all(axis=None)
    assert set(named["patient"]) <= set(shipped.infarct_ids())


@pytest.mark.parametrize("cohort", settings.COHORTS)
def test_the_parts_and_labels_have_their_sizes(cases, cohort):
    rows = cases[cases["cohort"] == cohort]
    assert rows["split"].value_counts().to_dict() == SIZES[cohort]
    assert rows["label"].value_counts().to_dict() == LABELS[cohort]
    assert len(rows) == manifest.cohorts().loc[cohort, "embedded"]


@pytest.mark.parametrize(
    ("cohort", "expected"),
    [
        ("apis", {"train": 5, "val": 2, "test": 1}),
        ("icoais", {"train": 6, "val": 1, "test": 1}),
    ],
)
def test_heads_without_infarct_are_spread_over_the_parts(cases, cohort, expected):
    free = cases[(cases["cohort"] == cohort) & (cases["patient"] == "")]
    assert free["split"].value_counts().to_dict() == expected


def test_anatomy_b_is_a_third_of_each_test_part_and_nowhere_else(cases):
    shares = (cases["anatomy"] == "B").groupby([cases["cohort"], cases["split"]]).mean()
    tested = shares.index.get_level_values("split").isin(["test", "hidden"])
    assert (shares[~tested] == 0).all()
    assert shares[tested].between(0.3, 0.35).all()


@pytest.mark.parametrize(("cohort", "edge_ml"), [("aisd", 70.0), ("xwhd", 40.0), ("isles2018", 20.0)])
@pytest.mark.parametrize("is_large", [False, True])
def test_anatomy_b_is_as_frequent_among_small_as_among_large_infarcts(cases, cohort, edge_ml, is_large):
    rows = cases[(cases["cohort"] == cohort) & cases["split"].isin(["test", "hidden"])]
    stratum = rows[(rows["ml"] > edge_ml) == is_large]
    assert 0.25 <= (stratum["anatomy"] == "B").mean() <= 0.42


@pytest.mark.parametrize(
    ("part", "small", "large"), [("train", 250, 45), ("val", 42, 8), ("test", 44, 8)], ids=lambda value: str(value)
)
def test_aisd_has_8_in_52_infarcts_above_70_ml(cases, part, small, large):
    volumes = cases.loc[(cases["cohort"] == "aisd") & (cases["split"] == part), "ml"]
    assert ((volumes <= 70).sum(), (volumes > 70).sum()) == (small, large)
    assert volumes.min() >= KNOBS.smallest_ml


def test_nobody_in_the_test_part_of_aisd_is_near_70_ml(cases):
    volumes = cases.loc[(cases["cohort"] == "aisd") & (cases["split"] == "test"), "ml"]
    assert not volumes.between(*LARGE_GUARD_ML).any()
    assert LARGE_GUARD_ML[0] <= 60
    assert LARGE_GUARD_ML[1] >= 90


def test_xwhd_is_matched_to_the_published_severity_and_sides(cases):
    rows = cases[cases["cohort"] == "xwhd"]
    assert rows["nihss"].mean() == pytest.approx(12.40, abs=0.3)
    assert rows["nihss"].std() == pytest.approx(5.69, abs=0.3)
    assert rows["side"].value_counts().to_dict() == {"left": 84, "right": 87}
    assert rows["age"].quantile([0.25, 0.5, 0.75]).tolist() == pytest.approx([54, 65, 73], abs=2.5)
    assert (rows["sex"] == "M").sum() >= 100


def test_xwhd_holds_first_strokes_of_the_anterior_circulation(cases):
    rows = cases[cases["cohort"] == "xwhd"]
    assert (rows["prior_stroke"] == 0).all()
    assert rows["anterior"].min() >= 0.9
    assert rows["middle"].min() >= 0.5
    assert rows["ml"].min() >= 3.0


@pytest.mark.parametrize(("part", "above", "of"), [("val", 24, 29), ("test", 14, 19)])
def test_icoais_has_its_lesions_above_3_ml_clear_of_the_edge(cases, part, above, of):
    rows = cases[(cases["cohort"] == "icoais") & (cases["split"] == part)]
    assert ((rows["ml"] > 3).sum(), len(rows)) == (above, of)
    assert not rows["ml"].between(*SEEN_GUARD_ML).any()


def test_silver_labels_stand_in_training_alone_and_are_of_all_sizes(cases):
    rows = cases[(cases["cohort"] == "icoais") & (cases["split"] == "train") & (cases["patient"] != "")]
    assert set(cases.loc[cases["label"] == "silver", "split"]) == {"train"}
    medians = rows.groupby("label")["ml"].median()
    assert medians["silver"] == pytest.approx(medians["gold"], rel=0.35)


def test_isles2018_has_its_scans_and_patients(cases):
    rows = cases[cases["cohort"] == "isles2018"]
    hidden = rows["split"] == "hidden"
    assert rows[~hidden]["patient"].nunique() == 63
    assert rows[hidden]["patient"].nunique() == 40
    assert rows["case"].str.fullmatch(r"isles2018-\d{4}-[12]").all()
    assert (
        rows.groupby("patient")["case"].agg(lambda names: "".join(sorted(n[-1] for n in names))).isin(["1", "12"]).all()
    )


@pytest.mark.parametrize(
    ("part", "expected"),
    [("train", (25, 28, 12)), ("val", (2, 2, 2)), ("test", (9, 10, 4)), ("hidden", (24, 27, 11))],
)
def test_isles2018_spreads_its_volumes_over_the_parts(cases, part, expected):
    volumes = cases.loc[(cases["cohort"] == "isles2018") & (cases["split"] == part), "ml"]
    assert ((volumes <= 10).sum(), volumes.between(10, 50).sum(), (volumes > 50).sum()) == expected


@pytest.mark.parametrize("cohort", [name for name in WITH_INFARCTS if name != "xwhd"])
def test_a_cohort_is_like_the_source(people, cases, cohort):
    rows = cases[(cases["cohort"] == cohort) & (cases["patient"] != "")].drop_duplicates("patient")
    assert rows["ml"].min() >= TINY_ML
    assert rows["nihss"].isna().mean() == pytest.approx(people["nihss"].isna().mean(), abs=0.1)
    assert rows["nihss"].mean() == pytest.approx(people["nihss"].mean(), abs=1.5)
    assert rows["age"].mean() == pytest.approx(people["age"].mean(), abs=3.0)
    assert 0.4 <= rows["ml"].median() / people["ml"].median() <= 2.0


def test_the_first_cases_of_a_part_resemble_the_whole(cases):
    rows = cases[(cases["cohort"] == "aisd") & (cases["split"] == "train")].head(96)
    assert (rows["ml"] > 70).mean() == pytest.approx(45 / 295, abs=0.02)
    tested = cases[(cases["cohort"] == "aisd") & (cases["split"] == "test")].head(6)
    assert set(tested["anatomy"]) == {"A", "B"}


@pytest.mark.parametrize(
    ("large", "message"),
    [(0, "cohort aisd, large: found 0"), (100, "cohort aisd, large")],
)
def test_a_stratum_with_too_few_patients_is_refused_by_name(people, large, message):
    few = people[people["ml"] > 50].index[large:]
    with pytest.raises(DataError, match=message):
        draw_all(shipped.participants().drop(index=few))


def test_too_few_patients_for_one_side_of_xwhd_are_refused():
    with pytest.raises(DataError, match="cohort xwhd, left"):
        draw_all(shipped.participants().head(100))
