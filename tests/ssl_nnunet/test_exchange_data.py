"""Cases to nnU-Net's raw folder and back; a folder that disagrees with itself is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from strokelib.data.cases import Case, Volume
from strokelib.data.reading import read_nifti, write_nifti
from strokelib.errors import DataError, ParameterError
from strokelib.ssl_nnunet.exchange_data import export_dataset
from strokelib.ssl_nnunet.exchange_reading import read_dataset
from strokelib.ssl_nnunet.fingerprint import fingerprint, images_hu

AFFINE = np.array([[-4.0, 0, 0, 10.5], [0, -4.0, 0, 20], [0, 0, 5.0, -30], [0, 0, 0, 1]])


def _case(name, split="train", seed=0, **more):
    noise = np.random.default_rng(seed)
    shape = (5, 6, 7)
    brain = np.zeros(shape, bool)
    brain[1:4, 1:5, 1:6] = True
    lesion = np.zeros(shape, bool)
    lesion[2, 2:4, 2] = True
    image = Volume(noise.integers(-900, 900, shape).astype(np.int16), AFFINE)
    other = noise.normal(30, 5, shape).astype(np.float32)
    known = {"lesion": lesion, "brain": brain, "channels": {"contralateral": other}, **more}
    return Case(name, f"patient of {name}", "made", split, image, **known)


CASES = [_case("b-2", "val", 2), _case("a-1", "train", 1), _case("c-3", "test", 3)]


@pytest.fixture
def folder(tmp_path):
    return export_dataset(CASES, tmp_path, 501, "Stroke", channels=2)


def _names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_the_folder_has_the_documented_layout(folder):
    assert folder.name == "Dataset501_Stroke"
    assert _names(folder) == [
        "brainsTr/a-1.nii.gz",
        "brainsTr/b-2.nii.gz",
        "brainsTs/c-3.nii.gz",
        "dataset.json",
        "imagesTr/a-1_0000.nii.gz",
        "imagesTr/a-1_0001.nii.gz",
        "imagesTr/b-2_0000.nii.gz",
        "imagesTr/b-2_0001.nii.gz",
        "imagesTs/c-3_0000.nii.gz",
        "imagesTs/c-3_0001.nii.gz",
        "labelsTr/a-1.nii.gz",
        "labelsTr/b-2.nii.gz",
        "labelsTs/c-3.nii.gz",
        "splits_final.json",
    ]


def test_the_json_files_have_the_documented_keys(folder):
    held = json.loads((folder / "dataset.json").read_text())
    assert held["channel_names"] == {"0": "CT", "1": "CT"}
    assert held["labels"] == {"background": 0, "lesion": 1}
    assert held["numTraining"] == 2
    assert held["file_ending"] == ".nii.gz"
    assert json.loads((folder / "splits_final.json").read_text()) == [{"train": ["a-1"], "val": ["b-2"]}]


def test_images_show_the_brain_alone_at_its_place(folder):
    case = CASES[1]
    ct = read_nifti(folder / "imagesTr" / "a-1_0000.nii.gz")
    difference = read_nifti(folder / "imagesTr" / "a-1_0001.nii.gz")
    np.testing.assert_allclose(ct.affine, AFFINE, atol=1e-5)
    np.testing.assert_array_equal(ct.array, np.where(case.brain, np.clip(case.image.array, -100, 400), -100))
    wanted = case.channels["contralateral"] - np.clip(case.image.array, -100, 400)
    np.testing.assert_allclose(difference.array, np.where(case.brain, wanted, 0), rtol=1e-6)


def test_cases_come_back(folder):
    back = {case.id: case for case in read_dataset(folder)}
    assert list(back) == ["a-1", "b-2", "c-3"]
    for case in CASES:
        found = back[case.id]
        assert (found.split, found.patient, found.cohort) == (case.split, case.patient, "Dataset501_Stroke")
        np.testing.assert_array_equal(found.lesion, case.lesion)
        np.testing.assert_array_equal(found.brain, case.brain)
        images, again = images_hu(case, 2), images_hu(found, 2)
        np.testing.assert_array_equal(again[:, case.brain], images[:, case.brain])
    assert fingerprint(back.values(), 2, voxels=50).shapes == ((3, 4, 5),) * 3


def test_what_came_back_is_exported_to_the_same_files(folder, tmp_path):
    again = export_dataset(read_dataset(folder), tmp_path / "again", 501, "Stroke", channels=2)
    assert _names(again) == _names(folder)
    for name in _names(folder):
        if name.endswith(".nii.gz"):
            assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_the_brain_can_be_the_label_so_that_healthy_heads_count(tmp_path):
    healthy = [_case("h-1", lesion=None), _case("h-2", lesion=None)]
    folder = export_dataset(healthy, tmp_path, 7, "Brains", label="brain")
    assert folder.name == "Dataset007_Brains"
    assert json.loads((folder / "dataset.json").read_text())["labels"] == {"background": 0, "brain": 1}
    for case, found in zip(healthy, read_dataset(folder), strict=True):
        assert found.lesion is None
        np.testing.assert_array_equal(found.brain, case.brain)


def test_images_can_be_cut_to_the_brains_box_and_keep_their_place(tmp_path):
    folder = export_dataset([CASES[1]], tmp_path, 501, "Stroke", margin_mm=4.0)
    (found,) = read_dataset(folder)
    assert found.image.array.shape == (5, 6, 7)
    (found,) = read_dataset(export_dataset([CASES[1]], tmp_path, 502, "Stroke", margin_mm=0.0))
    assert found.image.array.shape == (3, 4, 5)
    np.testing.assert_allclose(found.image.affine @ [0, 0, 0, 1], AFFINE @ [1, 1, 1, 1], atol=1e-5)
    np.testing.assert_array_equal(found.lesion, CASES[1].lesion[1:4, 1:5, 1:6])


def test_a_file_in_another_axis_order_is_turned(folder):
    path = folder / "labelsTr" / "a-1.nii.gz"
    mask = read_nifti(path)
    turned = mask.affine @ np.array([[-1, 0, 0, 6.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_nifti(Volume(mask.array[:, :, ::-1], turned), path)
    np.testing.assert_array_equal(read_dataset(folder)[0].lesion, CASES[1].lesion)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (_case("d-4", lesion=None), "no lesion mask"),
        (_case("d-4", brain=np.zeros((5, 6, 7), bool)), "no brain voxel"),
        (_case("d-4", channels={}), "with_contralateral"),
        (_case("d-4", "hidden"), "train, val or test"),
        (_case("a-1"), "the name before"),
        (_case("../d"), "letters, digits"),
    ],
)
def test_a_case_that_cannot_be_written_leaves_nothing_behind(tmp_path, case, said):
    with pytest.raises(DataError, match=said):
        export_dataset([*CASES, case], tmp_path / "raw", 501, "Stroke", channels=2)
    assert list((tmp_path / "raw").iterdir()) == []


def test_values_that_are_not_finite_in_the_brain_are_refused(tmp_path):
    case = _case("n-1")
    image = case.image.array.astype(np.float32)
    image[2, 2, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        export_dataset([dataclasses.replace(case, image=Volume(image, AFFINE))], tmp_path, 501, "Stroke")


def test_a_data_set_is_never_written_over(folder):
    before = _names(folder)
    with pytest.raises(DataError, match="a folder of that name"):
        export_dataset(CASES, folder.parent, 501, "Stroke")
    assert _names(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_without_a_training_case_there_is_no_data_set(tmp_path):
    with pytest.raises(DataError, match="for training"):
        export_dataset([CASES[0], CASES[2]], tmp_path, 501, "Stroke")


@pytest.mark.parametrize(
    "more", [{"dataset_id": 0}, {"dataset_id": 1000}, {"name": "a b"}, {"label": "bone"}, {"margin_mm": -1.0}]
)
def test_ids_names_and_labels_that_nnu_net_does_not_know_are_refused(tmp_path, more):
    with pytest.raises(ParameterError):
        export_dataset(CASES, **{"folder": tmp_path, "dataset_id": 1, "name": "A", **more})
    assert list(tmp_path.iterdir()) == []


def _json(folder, name, change):
    held = json.loads((folder / name).read_text())
    change(held)
    (folder / name).write_text(json.dumps(held))


def _shifted(folder):
    path = folder / "imagesTr" / "a-1_0001.nii.gz"
    volume = read_nifti(path)
    affine = volume.affine.copy()
    affine[0, 3] += 1
    write_nifti(Volume(volume.array, affine), path)


def _cut(folder):
    path = folder / "labelsTr" / "a-1.nii.gz"
    volume = read_nifti(path)
    write_nifti(Volume(volume.array[1:], volume.affine), path)


def _relabelled(folder):
    path = folder / "labelsTr" / "a-1.nii.gz"
    volume = read_nifti(path)
    write_nifti(Volume(volume.array * 3, volume.affine), path)


DISAGREEMENTS = {
    "no json": (lambda f: (f / "dataset.json").unlink(), r"dataset\.json"),
    "missing label": (lambda f: (f / "labelsTr" / "a-1.nii.gz").unlink(), "no label of case a-1"),
    "label alone": (lambda f: shutil.copy(f / "labelsTr/a-1.nii.gz", f / "labelsTr/z.nii.gz"), "without an image"),
    "missing channel": (lambda f: (f / "imagesTr" / "a-1_0001.nii.gz").unlink(), "case a-1: found channels"),
    "no channel number": (
        lambda f: (f / "imagesTr" / "a-1_0000.nii.gz").rename(f / "imagesTr" / "a-1.nii.gz"),
        r"found a-1\.nii\.gz",
    ),
    "another shape": (_cut, r"a-1\.nii\.gz: found shape \(4, 6, 7\)"),
    "another affine": (_shifted, r"a-1_0001\.nii\.gz: found an affine that differs by 1"),
    "labels outside the json": (_relabelled, r"labels \[3\]"),
    "another ending": (lambda f: _json(f, "dataset.json", lambda h: h.update(file_ending=".mha")), "file_ending"),
    "ending of no file": (lambda f: _json(f, "dataset.json", lambda h: h.update(file_ending=".nii")), r"0000\.nii,"),
    "number of cases": (lambda f: _json(f, "dataset.json", lambda h: h.update(numTraining=3)), "numTraining"),
    "regions": (lambda f: _json(f, "dataset.json", lambda h: h["labels"].update(lesion=[1, 2])), "labels"),
    "no background": (lambda f: _json(f, "dataset.json", lambda h: h["labels"].pop("background")), "background 0"),
    "channel names": (lambda f: _json(f, "dataset.json", lambda h: h["channel_names"].pop("0")), "channel_names"),
    "no channel names": (lambda f: _json(f, "dataset.json", lambda h: h.pop("channel_names")), "channel_names"),
    "unknown in splits": (
        lambda f: _json(f, "splits_final.json", lambda h: h[0]["val"].append("x")),
        "x without an image",
    ),
    "left out of splits": (lambda f: _json(f, "splits_final.json", lambda h: h[0]["val"].clear()), "b-2 left out"),
    "in both parts": (lambda f: _json(f, "splits_final.json", lambda h: h[0]["val"].append("a-1")), "a-1 in both"),
    "no fold": (lambda f: (f / "splits_final.json").write_text("[]"), "list of folds"),
    "fold of another kind": (lambda f: (f / "splits_final.json").write_text("[3]"), "fold 0"),
    "cut file": (lambda f: (f / "imagesTr" / "a-1_0000.nii.gz").write_bytes(b"\x1f\x8b"), "a-1_0000"),
    "whole folder": (shutil.rmtree, "no such folder"),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_every_disagreement_in_a_folder_is_refused_with_what_and_where(folder, name):
    change, said = DISAGREEMENTS[name]
    change(folder)
    with pytest.raises(DataError, match=said) as raised:
        read_dataset(folder)
    assert str(folder.parent) not in str(raised.value)


def test_a_foreign_folder_needs_neither_brains_nor_splits_nor_a_test_part(folder):
    for name in ("brainsTr", "brainsTs", "imagesTs", "labelsTs"):
        shutil.rmtree(folder / name)
    (folder / "splits_final.json").unlink()
    (folder / "imagesTr" / ".DS_Store").write_bytes(b"x")
    _json(folder, "dataset.json", lambda held: held.pop("patients"))
    found = read_dataset(folder)
    assert [(case.id, case.patient, case.split, case.brain) for case in found] == [
        ("a-1", "a-1", "train", None),
        ("b-2", "b-2", "train", None),
    ]


def test_one_label_of_several_can_be_the_lesion(folder):
    _json(folder, "dataset.json", lambda held: held["labels"].update(core=1, lesion=2))
    assert not read_dataset(folder, lesion="lesion")[0].lesion.any()
    np.testing.assert_array_equal(read_dataset(folder, lesion="core")[0].lesion, CASES[1].lesion)
    np.testing.assert_array_equal(read_dataset(folder)[0].lesion, CASES[1].lesion)
    with pytest.raises(DataError, match="no penumbra"):
        read_dataset(folder, lesion="penumbra")
