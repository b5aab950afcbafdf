import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from strokelib import cli, settings
from strokelib.data import preparing, scans
from strokelib.data.cases import Volume
from strokelib.data.checking import check
from strokelib.data.phantom import embedded, example_folder
from strokelib.data.preparing import prepare, sorted_cases
from strokelib.data.reading import read_nifti, write_nifti
from strokelib.data.realcase import Choices, native_transform
from strokelib.errors import DataError, ParameterError
from strokelib.metrics import dice

sys.path.insert(0, os.path.dirname(__file__))
import archives

IDS = ("0019983", "0021023", "0021061", "0021092")


@pytest.fixture(scope="module")
def aisd(tmp_path_factory):
    return archives.write_aisd(tmp_path_factory.mktemp("aisd"), IDS, small=False)


@pytest.fixture(scope="module")
def made(aisd, tmp_path_factory):
    return prepare(aisd, "aisd", out=tmp_path_factory.mktemp("out"), workers=1)


def test_each_case_is_prepared_with_its_split_brain_and_lesion(made):
    assert made.ids() == IDS
    assert made.ids("test") == ("0021092",)
    for number, name in enumerate(IDS):
        case, truth = made.load(name), embedded.render(f"aisd-{number + 101:04d}", "prepared")
        assert (case.id, case.cohort, case.embedded, case.kind) == (name, "aisd", False, "scan")
        assert case.image.array.shape[1:] == (112, 96)
        assert case.image.spacing == pytest.approx((5.0, 2.0, 2.0))
        assert case.brain.sum() * case.image.voxel_ml == pytest.approx(
            truth.brain.sum() * truth.image.voxel_ml, rel=0.1
        )
        assert case.lesion_ml == pytest.approx(truth.lesion_ml, rel=0.25, abs=0.5)


def test_the_prepared_lesion_taken_back_lies_on_the_drawn_one(made):
    name = max(made.ids(), key=lambda one: made.load(one).lesion_ml)
    case = made.load(name)
    truth = embedded.render(f"aisd-{IDS.index(name) + 101:04d}", "prepared")
    back = native_transform(case).inverse().apply(case.image.with_array(case.lesion.astype(np.float32)), 1, fill=0.0)
    assert back.array.shape == truth.lesion.shape
    assert dice(back.array > 0.5, truth.lesion) > 0.9


def test_nothing_that_identifies_a_machine_or_a_person_is_in_the_prepared_files(made, aisd):
    for path in made.folder.rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            raw = path.read_bytes()
            assert str(aisd).encode() not in raw
            assert b"20200101" not in raw  # the study date in the DICOM files


def test_preparing_again_reads_no_scan_and_a_changed_file_is_prepared_anew(made, aisd, monkeypatch):
    def never(*_):
        raise AssertionError("prepared again")

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "prepare_case", never)
        again = prepare(aisd, "aisd", out=made.folder.parent, workers=1)
        assert again.ids() == made.ids()
    seen = []
    picture = sorted((aisd / "mask" / IDS[0]).glob("*.png"))[0]
    os.utime(picture, ns=(1, 1))
    monkeypatch.setattr(preparing, "prepare_case", lambda raw, *rest: seen.append(raw.id) or made.load(raw.id))
    prepare(aisd, "aisd", out=made.folder.parent, workers=1)
    assert seen == [IDS[0]]


def test_a_scan_that_cannot_be_prepared_is_named_and_the_others_go_on(tmp_path):
    folder = example_folder.write(tmp_path / "scans")
    for path in folder.glob("embedded_[23]*"):
        path.unlink()
    (folder / "real_head.zip").unlink()
    found = prepare(folder, "aisd", out=tmp_path / "out", workers=2)
    assert found.ids() == ("embedded_1",)
    assert "cut_short.nii.gz" in found.problems["cut_short"]
    assert str(tmp_path) not in found.problems["cut_short"]
    table = (found.folder / "cases.csv").read_text()
    assert "left out" in table
    (folder / "cut_short.nii.gz").write_bytes((folder / "embedded_1.nii.gz").read_bytes())
    assert prepare(folder, "aisd", out=tmp_path / "out", workers=1).ids() == ("cut_short", "embedded_1")


def test_a_killed_preparation_goes_on_and_leaves_the_same_bytes(aisd, made, tmp_path):
    command = [sys.executable, "-m", "strokelib.cli", "prepare", str(aisd), "--out", str(tmp_path), "--workers", "1"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("[0-9]*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert 1 <= len(list(tmp_path.rglob("[0-9]*.safetensors"))) < len(IDS)
    again = prepare(aisd, "aisd", out=tmp_path, workers=1)
    for name in IDS[1:]:
        assert (again.folder / f"{name}.safetensors").read_bytes() == (made.folder / f"{name}.safetensors").read_bytes()
    assert not list(tmp_path.rglob(".*.tmp.safetensors"))


def test_a_folder_of_another_data_set_is_refused_with_the_cohort_that_fits(aisd):
    with pytest.raises(ParameterError, match="give the cohort aisd"):
        sorted_cases(aisd, "apis")
    with pytest.raises(ParameterError, match="names of cases"):
        prepare(aisd, "aisd", only=["nobody"])


@pytest.mark.parametrize("wrong", [{"grid": "big"}, {"labels": "most"}, {"readers": "second"}])
def test_unknown_choices_are_refused(wrong):
    with pytest.raises(ParameterError, match="give one of these"):
        Choices(**wrong)


def test_masks_of_several_readers_are_joined_as_asked(tmp_path):
    image, lesion = archives.scan(0)
    other = np.roll(lesion, 3, axis=2)
    for name, array in (("sub-01_ct", image.array), ("sub-01_dseg", lesion), ("sub-01_mask", other)):
        (tmp_path / "sub-01" / "ct").mkdir(parents=True, exist_ok=True)
        write_nifti(Volume(array, image.affine), tmp_path / "sub-01" / "ct" / f"{name}.nii.gz")
    sizes = {}
    for readers in ("first", "any", "all"):
        found = prepare(tmp_path, "aisd", out=tmp_path / "out", choices=Choices(readers=readers), workers=1)
        sizes[readers] = found.load("sub-01").lesion_ml
    assert sizes["all"] < sizes["first"] < sizes["any"]


def test_a_mask_on_another_grid_is_refused(tmp_path):
    image, lesion = archives.scan(0)
    write_nifti(image, tmp_path / "head.nii.gz")
    write_nifti(Volume(lesion[1:], image.affine), tmp_path / "head_mask.nii.gz")
    found = prepare(tmp_path, "aisd", out=tmp_path / "out", workers=1)
    assert "wanted the grid of the CT of head" in found.problems["head"]


@pytest.mark.parametrize(
    ("write", "cohort", "count"),
    [
        (archives.write_apis, "apis", 4),
        (archives.write_isles2018, "isles2018", 5),
        (archives.write_bids, "icoais", 4),
        (archives.write_center_tbi, "center_tbi", 4),
    ],
)
def test_every_layout_gives_the_splits_that_notebooks_ask_for(write, cohort, count, tmp_path, monkeypatch):
    folder = write(tmp_path / "data", count=count, small=False)
    monkeypatch.setenv("STROKELIB_RUNS", str(tmp_path / "runs"))
    chosen = settings.resolve("smoke", cohort, 0, folder)
    train, val, test = scans.load_parts(chosen, train=3, val=1, test=1)
    assert len(train) >= 1
    assert len(val) == len(test) == 1
    patients = [{case.patient for case in part} for part in (train, val, test)]
    assert not patients[0] & patients[1]
    assert not (patients[0] | patients[1]) & patients[2]
    case = train[0]
    assert case.brain.any()
    assert case.lesion.any() == (cohort != "center_tbi")
    columns = scans.facts_of(train)
    assert all(len(values) == len(train) for values in columns.values())
    assert 500 < columns["brain_ml"][0] < 2000 or cohort == "isles2018"


def test_aisd_as_pictures_is_prepared_with_its_assumptions_said(tmp_path):
    truth = embedded.render("aisd-0101", "native")
    folder = tmp_path / "data"
    archives.write_pictures(folder, IDS[0], truth.image.array, truth.lesion)
    (problem,) = check(folder).problems
    assert (problem.kind, problem.case) == ("note", IDS[0])
    assert "assumed window" in problem.found
    found = prepare(folder, "aisd", out=tmp_path / "out", workers=1)
    case = found.load(IDS[0])
    assert "assumed window" in case.facts["mask_report"]["note"]
    assert case.lesion_ml == pytest.approx(truth.lesion.sum() * np.prod((5.0, 0.45, 0.45)) / 1000, rel=0.2)
    (folder / "mask" / IDS[0] / "000.png").unlink()
    again = prepare(folder, "aisd", out=tmp_path / "out", workers=1)
    assert "wanted pictures of" in again.problems[IDS[0]]


def test_apis_masks_come_to_the_ct_by_registration(tmp_path):
    folder = archives.write_apis(tmp_path / "data", count=1, small=False)
    found = prepare(folder, "apis", out=tmp_path / "out", workers=1)
    case, truth = found.load("train_000"), embedded.render("apis-0001", "prepared")
    assert case.facts["mask_report"]["registration"]["moved_from"] == "adc"
    assert case.lesion_ml == pytest.approx(truth.lesion_ml, rel=0.6)
    index = np.argwhere(case.lesion)[:, ::-1].mean(axis=0)
    true_index = np.argwhere(truth.lesion)[:, ::-1].mean(axis=0)
    there = case.image.affine @ np.append(index, 1)
    true = truth.image.affine @ np.append(true_index, 1)
    assert np.linalg.norm(there - true) < 10


def test_a_split_without_any_case_is_an_error_that_says_what_to_do(tmp_path):
    folder = archives.write_plain(tmp_path / "data", count=1, small=False)
    chosen = settings.resolve("smoke", "xwhd", 0, folder)
    with pytest.raises(DataError, match="or give a splits"):
        scans.load_parts(chosen, test=None)
    with pytest.raises(ParameterError, match="train or val or test"):
        scans.load_parts(chosen, exam=None)


def test_the_command_says_what_it_made_and_what_it_left_out(aisd, made, capsys):
    assert cli.main(["prepare", str(aisd), "--out", str(made.folder.parent), "--workers", "1"]) == 0
    said = capsys.readouterr().out
    assert "prepared: 4 of 4 cases" in said
    assert cli.main(["prepare", str(aisd), "--cohort", "apis"]) == 1


def test_check_names_files_of_one_name_and_healthy_cases_need_no_mask(tmp_path, capsys):
    folder = archives.write_plain(tmp_path / "data")
    image, _ = archives.head()
    write_nifti(image, folder / "head0.nii")
    assert cli.main(["check", str(folder), "--json", str(tmp_path / "report.json")]) == 1
    problems = json.loads((tmp_path / "report.json").read_text())["problems"]
    assert any("a further file for head0" in p["found"] for p in problems)
    assert read_nifti(folder / "head0.nii").array.shape == image.array.shape
