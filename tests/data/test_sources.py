"""Each public layout is found and checked on a miniature archive of that exact layout."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from strokelib import cli
from strokelib.data.cases import Volume
from strokelib.data.checking import check
from strokelib.data.reading import read_nifti, write_nifti
from strokelib.data.series import read_series
from strokelib.data.sources import find_cases
from strokelib.errors import DataError, ParameterError

sys.path.insert(0, str(Path(__file__).parent))
import archives

WRITERS = {
    "aisd": archives.write_aisd,
    "aisd_png": archives.write_aisd_png,
    "apis": archives.write_apis,
    "isles2018": archives.write_isles2018,
    "bids": archives.write_bids,
}


@pytest.fixture
def make(tmp_path):
    return lambda layout, **how: WRITERS[layout](tmp_path / layout, **how)


@pytest.mark.parametrize(("layout", "count", "images"), [
    ("aisd", 2, {"ct"}),
    ("apis", 2, {"ct", "adc"}),
    ("isles2018", 4, {"ct", "ctp", "ct_cbf", "ct_cbv", "ct_mtt", "ct_tmax", "dwi"}),
    ("bids", 2, {"ct"}),
])  # fmt: skip
def test_each_layout_is_recognised_and_its_files_are_found(make, layout, count, images):
    cases = find_cases(make(layout))
    assert [case.layout for case in cases] == [layout] * count
    assert all(set(case.images) == images for case in cases)
    assert all(path.exists() for case in cases for path in (*case.images.values(), *case.masks.values()))
    assert [bool(case.masks) for case in cases] == [case.split != "hidden" for case in cases]


@pytest.mark.parametrize("layout", list(WRITERS))
def test_a_clean_archive_has_no_errors(make, layout):
    report = check(make(layout))
    assert report.errors == ()
    assert report.layout == layout


def test_the_official_split_and_the_patients_of_isles_are_known(make):
    aisd, isles = find_cases(make("aisd")), find_cases(make("isles2018"))
    assert {case.id: case.split for case in aisd} == {"0019983": "train", "0021023": "train"}
    by_id = {case.id: case.patient for case in isles}
    assert by_id["train_case_1"] == by_id["train_case_2"] != by_id["train_case_3"]
    assert {case.split for case in isles} == {"", "hidden"}


@pytest.mark.parametrize("singleton", [False, True])
@pytest.mark.parametrize("dwi", [False, True])
def test_isles_is_read_with_and_without_dwi_and_with_a_singleton_axis(make, dwi, singleton):
    case = find_cases(make("isles2018", dwi=dwi, singleton=singleton))[0]
    assert ("dwi" in case.images) is dwi
    series = read_series(case.images["ctp"])
    image = read_nifti(case.images["ct"])
    assert series.array.shape == (5, *image.array.shape)
    np.testing.assert_allclose(series.affine, image.affine)
    assert (series.array[1] - series.array[0] == 3).all()
    assert series.step_s == 1.0


def test_a_series_takes_its_time_step_from_the_file_or_says_that_it_has_none(make):
    path = find_cases(make("isles2018"))[0].images["ctp"]
    image = nib.load(path, mmap=False)
    image = nib.Nifti1Image(np.array(image.dataobj), image.affine, image.header)
    for stored, unit, step, known in ((1500, "msec", 1.5, True), (0, "sec", 1.0, False), (2.0, "sec", 2.0, True)):
        image.header["pixdim"][4] = stored
        image.header.set_xyzt_units("mm", unit)
        nib.save(image, path)
        series = read_series(path)
        assert (series.step_s, series.step_known) == (pytest.approx(step), known)


def test_a_single_volume_is_no_series(make):
    with pytest.raises(DataError, match="two frames"):
        read_series(find_cases(make("isles2018"))[0].images["ct"])


@pytest.mark.parametrize("suffix", ["ct", "CT", "ncct"])
def test_bids_names_of_a_ct_are_taken_in_either_case(make, suffix):
    assert all("ct" in case.images for case in find_cases(make("bids", suffix=suffix)))


def test_every_problem_of_every_case_is_reported_at_once(make):
    root = make("bids", count=6)
    image = read_nifti(root / "sub-00/ct/sub-00_ct.nii.gz")
    place = "{0}/ct/{0}_ct.nii.gz".format
    (root / place("sub-00")).write_bytes((root / place("sub-00")).read_bytes()[:500])
    grey = np.clip(image.array / 80 * 255, 0, 255).astype(np.uint8)
    write_nifti(image.with_array(grey), root / place("sub-01"))
    mask = "derivatives/{0}/{0}_lesion-msk.nii.gz".format
    lesion = read_nifti(root / mask("sub-02"))
    write_nifti(Volume(lesion.array[:, 1:], lesion.affine), root / mask("sub-02"))
    write_nifti(lesion.with_array(lesion.array * 7), root / mask("sub-03"))
    write_nifti(lesion.with_array(lesion.array * 0), root / mask("sub-04"))
    (root / place("sub-05")).write_bytes((root / place("sub-04")).read_bytes())
    report = check(root)
    found = {problem.case: (problem.kind, problem.found) for problem in report.problems}
    assert set(found) == {f"sub-0{n}" for n in range(6)}
    assert "EOFError" in found["sub-00"][1]
    assert "grey values" in found["sub-01"][1]
    assert "shape" in found["sub-02"][1]
    assert "labels" in found["sub-03"][1]
    assert found["sub-04"] == ("note", "an empty mask")
    assert found["sub-05"] == ("error", "the CT of sub-04")
    assert {p.case for p in report.errors} == {"sub-00", "sub-01", "sub-02", "sub-03", "sub-05"}
    assert all(p.next_step and p.wanted and not p.file.startswith("/") for p in report.problems)


def test_masks_of_aisd_are_counted_and_their_labels_looked_at(make):
    root = make("aisd", ids=("0019983", "0021023", "0091465"))
    (root / "mask/0019983/000.png").unlink()
    Image.fromarray(np.full((56, 48), 200, np.uint8)).save(root / "mask/0021023/001.png")
    (root / "mask/0091465/002.png").write_bytes(b"not a picture")
    problems = {problem.case: problem for problem in check(root).errors}
    assert problems["0019983"].found == "6 pictures"
    assert "200" in problems["0021023"].found
    assert problems["0091465"].file == "mask/0091465/002.png"
    for name in ("0019983", "0021023", "0091465"):
        for picture in sorted((root / "mask" / name).glob("*.png")):
            Image.fromarray(np.full((56, 48), 4, np.uint8)).save(picture)
    notes = [p for p in check(root).problems if p.kind == "note"]
    assert len(notes) == 3
    assert "label 4 alone" in notes[0].next_step


def test_a_folder_without_a_case_and_words_that_are_no_layout_are_refused(tmp_path):
    with pytest.raises(DataError, match="no case of any known layout"):
        find_cases(tmp_path)
    with pytest.raises(ParameterError, match="layout"):
        find_cases(tmp_path, "dicom")
    with pytest.raises(ParameterError, match="no such folder"):
        find_cases(tmp_path / "missing")


def test_the_command_prints_a_table_and_json_and_ends_with_1_where_a_case_is_unusable(make, tmp_path, capsys):
    root = make("apis")
    assert cli.main(["check", str(root)]) == 0
    text = capsys.readouterr().out
    assert "apis: layout apis, 2 cases of 2 patients; adc 2, ct 2; with mask 2" in text
    assert "note  train_001" in text
    (root / "train_000/train_000_adc.nii.gz").write_bytes(b"\x1f\x8b nothing")
    out = tmp_path / "report.json"
    assert cli.main(["check", str(root), "--json", str(out)]) == 1
    report = json.loads(out.read_text())
    assert report["problems"][0]["case"] == "train_000"
    assert str(tmp_path) not in out.read_text()
    assert cli.main(["check", str(tmp_path / "nowhere")]) == 1
