"""The ledgers are whole, agree with each other, and are refused where they do not."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from strokelib import manifest, settings
from strokelib.errors import ManifestError, ParameterError

LIMITS = {
    "none",
    "private data: stand-in cohort",
    "private data in part: stand-in cohort",
    "DWI not public: stand-in cohort",
    "hidden test set",
}


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the ledgers that a test may damage."""
    folder = tmp_path / "data_manifests"
    shutil.copytree(settings.manifests_dir(), folder)
    monkeypatch.setattr(settings, "manifests_dir", lambda: folder)
    return folder


def value(paper: str, number: int | str, method: str, metric: str, **where: str) -> float:
    table = manifest.published(paper, number)
    rows = table[(table["method"] == method) & (table["metric"] == metric) & (table["statistic"] == "mean")]
    for column, wanted in where.items():
        rows = rows[rows[column] == wanted]
    assert len(rows) == 1, (paper, number, method, metric, where)
    return float(rows["value"].iloc[0])


def test_there_are_54_artefacts_and_two_sets_of_numbers_in_the_text():
    kinds = manifest.artefacts()["kind"].value_counts()
    assert kinds.to_dict() == {"figure": 34, "table": 20, "in-text": 2}


@pytest.mark.parametrize(
    ("paper", "tables", "figures"),
    [("papl", 8, 11), ("adn", 1, 4), ("ssl_nnunet", 5, 9), ("pseudo_dwi", 6, 10)],
)
def test_each_paper_has_its_tables_and_figures(paper, tables, figures):
    rows = manifest.artefacts().query("paper == @paper")
    assert (rows["kind"] == "table").sum() == tables
    assert (rows["kind"] == "figure").sum() == figures


def test_names_of_artefacts_follow_one_pattern():
    rows = manifest.artefacts()
    assert rows["id"].is_unique
    assert rows["output"].is_unique
    assert rows["maker"].is_unique
    for row in rows.itertuples():
        stem = row.id.removeprefix(f"{row.paper}_")
        if row.kind == "figure":
            assert re.fullmatch(r"fig(\d\d|B\d)", stem)
            assert re.fullmatch(rf"figures/{row.paper}/{stem}_\w+\.png", row.output)
            assert row.maker == f"strokelib.{row.paper}.figures.{row.output.split('/')[-1].removesuffix('.png')}"
        else:
            assert row.output == f"figures/{row.paper}/{stem}.csv"
            assert re.fullmatch(rf"strokelib\.{row.paper}\.tables\.{stem}(_\w+)?", row.maker)
            assert row.published == f"{row.paper}_{stem}.csv"
        assert row.number
        assert row.caption
        assert row.limit in LIMITS
        assert re.fullmatch(r"\d\d_\w+", row.notebook)


def test_every_published_table_belongs_to_one_artefact_and_can_be_read():
    files = {path.name for path in (settings.manifests_dir() / "reported").glob("*.csv")}
    assert files == set(manifest.artefacts()["published"]) - {""}
    assert len(files) == 22
    for name in files:
        paper, _, number = name.removesuffix(".csv").rpartition("_")
        table = manifest.published(paper, number.removeprefix("table"))
        assert len(table) > 0
        assert set(table["published_cell"][table["value"].isna()]) <= {"", "-"}


SHARED_DICE = [
    (0.4866, [(2, "U-Net"), (3, "U-Net (w/o PAPL)"), (4, "baseline"), (6, "none (baseline)")]),
    (0.5188, [(4, "Inter+Intra"), (6, "Ours (inter+intra)"), (7, "lambda1=0.6;lambda2=0.3")]),
    (0.5285, [(4, "Inter+Intra+FCM"), (8, "beta1=0.8;beta2=0.8;beta3=0")]),
    (0.5468, [(2, "PAPL"), (3, "U-Net (w/ PAPL)"), (4, "Inter+Intra+FCM+RPRS"), (8, "beta1=0.8;beta2=0.8;beta3=0.2")]),
]


@pytest.mark.parametrize(("expected", "places"), SHARED_DICE)
def test_numbers_that_papl_tables_share_agree(expected, places):
    for number, method in places:
        assert value("papl", number, method, "DSC", dataset="AISD", aligned="Y") == expected


@pytest.mark.parametrize("method", ["U-Net", "CENet", "U-Net++", "TransU-Net", "PAPL"])
def test_papl_strata_of_44_and_8_scans_give_the_average_column(method):
    strata = ("infarct volume <=70 mL", "infarct volume >70 mL")
    for metric, tolerance in (("DSC", 2e-4), ("JC", 2e-4), ("ASSD", 2e-3), ("PRE", 2e-4)):
        small, large = (value("papl", 5, method, metric, lesion_filter=stratum) for stratum in strata)
        average = value("papl", 5, method, metric, lesion_filter="all (Average column)")
        assert (44 * small + 8 * large) / 52 == pytest.approx(average, abs=tolerance)


@pytest.mark.parametrize("metric", ["Dice", "Precision", "Recall", "HD", "ASSD"])
def test_numbers_that_pseudo_dwi_tables_share_agree(metric):
    assert value("pseudo_dwi", 3, "SLNet", metric) == value("pseudo_dwi", 4, "L_CE", metric)
    assert value("pseudo_dwi", 4, "L_WCE + L_HGD", metric) == value("pseudo_dwi", 5, "F_o", metric)


def test_published_text_keeps_its_digits():
    cells = manifest.published("ssl_nnunet", 1)["published_cell"]
    assert "0.2510" in set(cells)
    assert manifest.published("ssl_nnunet", "B.4").equals(manifest.published("ssl_nnunet", "B4"))


def test_the_volume_groups_of_the_text_do_not_average_to_the_table():
    groups = manifest.published("pseudo_dwi", "intext")
    dice = groups[groups["metric"] == "Dice"]["value"].to_numpy()
    assert np.average(dice, weights=[9, 10, 4]) == pytest.approx(63.04, abs=0.01)


def test_an_unknown_paper_table_or_cohort_is_refused():
    with pytest.raises(ParameterError, match="papl or adn"):
        manifest.published("seia", 1)
    with pytest.raises(ManifestError, match=r"reported/papl_table9\.csv"):
        manifest.published("papl", 9)
    with pytest.raises(ParameterError, match="aisd or xwhd"):
        manifest.split("soop")


def test_cohorts_are_those_of_the_settings_and_their_counts_add_up():
    table = manifest.cohorts()
    assert tuple(table.index) == settings.COHORTS
    assert table["embedded"].tolist() == [397, 171, 52, 167, 637, 156]
    for key in ("aisd", "xwhd", "isles2018"):
        assert table.loc[key, "train"] + table.loc[key, "test"] == table.loc[key, "total"]
    assert table.loc["icoais", ["val", "test"]].tolist() == [29, 19]
    assert np.isnan(table.loc["center_tbi", "train"])
    assert {paper for papers in table["papers"] for paper in papers.split(";")} == set(manifest.PAPERS)


def test_public_data_sets_hold_their_cases():
    aisd = manifest.read("datasets/aisd_cases")
    assert aisd["case_id"].str.fullmatch(r"\d{7}").all()
    assert aisd["case_id"].is_unique
    assert aisd["official_split"].value_counts().to_dict() == {"train": 346, "test": 52}
    assert len(manifest.read("datasets/apis_cases")) == 60
    patients = json.loads((settings.manifests_dir() / "datasets" / "isles2018_case_to_patient.json").read_text("utf-8"))
    assert {part: (len(cases), len(set(cases.values()))) for part, cases in patients.items()} == {
        "train": (94, 63),
        "test": (62, 40),
    }


def test_the_committed_ledgers_hold():
    assert manifest.verify() == []


def test_a_ledger_that_lost_a_column_is_refused(copied):
    path = copied / "equations.csv"
    path.write_text(path.read_text("utf-8").replace("formula", "form", 1), "utf-8")
    with pytest.raises(ManifestError, match="no column"):
        manifest.equations()
    assert any("equations" in problem for problem in manifest.verify())


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("artefacts.csv", "papl_fig03,papl,figure", "papl_fig03,papl,drawing", "artefacts.csv: found"),
        ("artefacts.csv", "papl_fig03,", "papl_fig04,", "papl_fig04 twice"),
        ("artefacts.csv", "adn_table1.csv", "", "reported/adn_table1.csv"),
        ("equations.csv", "adn,6,", "adn,7,", "equations.csv: adn"),
        ("cohorts.csv", "xwhd,", "yxhd,", "cohorts.csv: found"),
        ("assets.csv", "soop/artery.tsv", "soop/arteries.tsv", "does not list soop/artery.tsv"),
        ("claims.csv", "papl_align_cenet_aisd,", "papl_align_unet_aisd,", "claims.csv: id papl_align_unet_aisd twice"),
        ("claims.csv", "DSC,higher,2,U-Net,U-Net,AISD", "DSC,higher,2,V-Net,U-Net,AISD", "row a: found 0 cells"),
        ("claims.csv", "DSC,higher,2,U-Net,U-Net,AISD", "DSC,higher,9,U-Net,U-Net,AISD", "reported/papl_table9.csv"),
        ("claims.csv", "U-Net,U-Net,AISD,Y,N", "U-Net,U-Net,AISD,,N", "row a: found 2 cells"),
        ("claims.csv", "dice and jaccard,aisd,", "dice and jaccard,asid,", "found cohort 'asid'"),
        ("claims.csv", "row_a", "row_c", "no column"),
        ("headlines.csv", "adn_table1,", "adn_table2,", "headlines.csv: ['adn_table1', 'adn_table2']"),
        ("headlines.csv", "ADN (Ours),Dice", "ADN,Dice", "headlines.csv: adn_table1: found 0 cells"),
        ("reported/adn_table1.csv", "ADN (Ours),", "ADN (Mine),", "claims.csv: adn_"),
    ],
)
def test_verify_names_what_is_wrong(copied, name, old, new, expected):
    text = (copied / name).read_text("utf-8")
    assert old in text
    (copied / name).write_text(text.replace(old, new, 1), "utf-8")
    assert any(expected in problem for problem in manifest.verify())


SPLIT = (
    "case,patient,split,anatomy,label,age\naisd-0001,sub-1,train,A,gold,70\n"
    "aisd-0002,sub-2,train,A,gold,\naisd-0003,sub-3,test,B,gold,80\n"
)


def test_a_split_comes_back_with_its_gaps(copied):
    (copied / "splits" / "aisd.csv").write_text(SPLIT, "utf-8")
    table = manifest.split("aisd")
    assert table["split"].tolist() == ["train", "train", "test"]
    assert np.isnan(table.loc[1, "age"])


def test_a_head_without_infarct_has_an_empty_text_for_its_patient():
    table = manifest.split("center_tbi")
    assert set(table["patient"]) == {""}
    assert set(table["label"]) == {"none"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sub-3", "sub-1", "two parts"),
        ("aisd-0003", "aisd-0001", "cases twice"),
        ("sub-2", "sub-1", "two heads"),
        ("patient", "person", "no column"),
        ("test", "exam", "train or val or test or hidden"),
        ("test,B", "test,C", "A or B"),
        ("train,A,gold,70", "train,B,gold,70", "anatomy B in training"),
        ("A,gold,70", "A,golden,70", "gold or silver or none"),
        ("sub-2,", ",", "contradict the patient"),
        ("gold,80", "none,80", "contradict the patient"),
    ],
)
def test_a_split_that_does_not_hold_is_refused(copied, old, new, expected):
    assert old in SPLIT
    (copied / "splits" / "aisd.csv").write_text(SPLIT.replace(old, new), "utf-8")
    with pytest.raises(ManifestError, match=expected):
        manifest.split("aisd")


def test_two_slabs_of_one_head_share_a_patient(copied):
    slabs = "case,patient,split,anatomy,label\nisles2018-0001-1,sub-1,test,B,gold\nisles2018-0001-2,sub-1,test,B,gold\n"
    (copied / "splits" / "isles2018.csv").write_text(slabs, "utf-8")
    assert len(manifest.split("isles2018")) == 2


def test_verify_names_a_patient_of_two_cohorts_and_a_list_of_another_length(copied):
    path = copied / "splits" / "apis.csv"
    taken = manifest.split("aisd").loc[0, "patient"]
    own = next(name for name in manifest.split("apis")["patient"] if name)
    path.write_text(path.read_text("utf-8").replace(f",{own},", f",{taken},"), "utf-8")
    assert manifest.verify() == [f"splits/apis.csv: {taken} stands in splits/aisd.csv too"]
    path.write_text(path.read_text("utf-8").replace(f",{taken},", f",{own},").rpartition("\napis-")[0] + "\n", "utf-8")
    assert manifest.verify() == ["splits/apis.csv: found 51 cases; wanted 52 (cohorts.csv)"]
