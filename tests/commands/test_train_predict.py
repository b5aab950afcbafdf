"""``strokelib train`` and ``strokelib predict``, from a row's name to masks on the scanner's grid."""

import dataclasses
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from strokelib import cli, settings
from strokelib.data import scans
from strokelib.data.cases import Volume, save_case
from strokelib.data.phantom import embedded
from strokelib.data.reading import read_nifti, write_nifti
from strokelib.methods import training_rows, weight_export, weights
from strokelib.methods.baseline import BaselineRecipe
from strokelib.methods.rolls import roll_of
from strokelib.methods.training import run_name
from strokelib.methods.unet import UNET

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
import archives

TRAIN = ["train", "unet", "--profile", "smoke"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(autouse=True)
def _in_runs(runs, monkeypatch):
    monkeypatch.setenv("STROKELIB_RUNS", str(runs))


@pytest.fixture(scope="module")
def trained(runs, tmp_path_factory):
    """Demo weights of a U-Net that the command trained in the smoke profile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STROKELIB_RUNS", str(runs))
        folder = tmp_path_factory.mktemp("weights")
        assert cli.main([*TRAIN, "--export", str(folder)]) == 0
    return folder / "unet.safetensors"


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A head CT with other axes than LPS and an oblique affine, as a NIfTI file; its image."""
    image, _ = archives.scan(3)
    path = tmp_path_factory.mktemp("scan") / "head.nii.gz"
    write_nifti(image, path)
    turned = nib.load(path).slicer[::-1, :, ::-1]
    angle = np.deg2rad(4.0)
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj), tilt @ turned.affine), path)
    return path


def predict(*words):
    return cli.main(["predict", *map(str, words)])


def test_a_row_is_trained_where_the_notebooks_look_for_it_and_once(trained, runs, capsys):
    chosen = settings.resolve("smoke", "aisd")
    recipe = BaselineRecipe.at("smoke")
    train, val = scans.load_parts(chosen, train=recipe.train_cases, val=recipe.val_cases)
    folder = runs / "models" / run_name(UNET, recipe, roll_of(train), roll_of(val), 0)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert cli.main(TRAIN) == 0
    said = capsys.readouterr().out
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert folder.name in said
    assert "95 % CI" in said
    assert "n = " in said
    assert "embedded data" in said
    assert "status: " in said


def test_the_exported_file_states_its_own_scores_and_has_its_card(trained):
    facts = weights.read(trained)[0]
    assert trained.with_suffix(".md").read_text("utf-8") == weight_export.card_of(trained)
    assert facts["scores"]["n"] == len(facts["scores"]["cases"]) > 1
    low, high = facts["scores"]["dice"][1:]
    assert low <= facts["scores"]["dice"][0] <= high
    assert abs(facts["change"]["mean"]) <= weight_export.LARGEST_CHANGE
    assert facts["parts"]["unet"]["n_train"] > 0


def test_another_row_or_cohort_is_not_exported_as_demo_weights(tmp_path, capsys, monkeypatch):
    found = training_rows.train_row("unet", settings.resolve("smoke", "aisd"))
    for other in ({"row": "aligned"}, {"settings": dataclasses.replace(found.settings, cohort="xwhd")}):
        with pytest.raises(ValueError, match="without --row"):
            weight_export.export(dataclasses.replace(found, **other), tmp_path)
    with pytest.raises(ValueError, match="change of the mean Dice"):
        weight_export.export(found, tmp_path, largest_change=-1.0)
    assert not list(tmp_path.iterdir())


def test_the_list_names_every_method_and_row(capsys):
    assert cli.main(["train", "--list"]) == 0
    said = capsys.readouterr().out
    for key in weights.KEYS:
        assert f"{key}: " in said
        assert all(row in said for row in training_rows.rows_of(key))
    assert said.count("(default)") == len(weights.KEYS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "nothing"], "papl or adn"),
        (["train", "adn", "--row", "nothing", "--profile", "smoke"], "strokelib train --list"),
        (["train", "unet", "--profile", "long"], "smoke or demo"),
    ],
)
def test_what_is_not_there_is_said(words, said, capsys):
    assert cli.main(words) == 1
    assert said in capsys.readouterr().err


def test_a_nifti_file_gets_mask_and_probability_in_its_own_axes(trained, head, tmp_path, capsys):
    assert predict("unet", head, "--out", tmp_path, "--weights", trained, "--threshold", 0.3) == 0
    scan = nib.load(head)
    mask, probability = (nib.load(tmp_path / f"head_unet_{kind}.nii.gz") for kind in ("lesion", "probability"))
    for image in (mask, probability):
        assert image.shape == scan.shape
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-4)
        assert nib.aff2axcodes(image.affine) == nib.aff2axcodes(scan.affine)
    values, marked = np.asarray(probability.dataobj), np.asarray(mask.dataobj) > 0
    assert 0 <= values.min() <= values.max() <= 1
    assert np.array_equal(marked, values > 0.3)
    assert values.max() > 0
    facts = json.loads((tmp_path / "head_unet.json").read_text("utf-8"))
    volume_ml = marked.sum() * abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    assert facts["volume_ml"] == pytest.approx(volume_ml, abs=0.01)
    assert facts["weights"]["sha256"] == weights.load("unet", trained).sha256
    assert "not for clinical use" in facts["warning"]
    assert "embedded" in facts["weights"]["trained_on"]
    assert "not for clinical use" in capsys.readouterr().out


def test_the_probability_lies_where_the_head_lies(trained, head, tmp_path):
    """Predicted in its own pose or from the file before it was turned, the same place is marked."""
    image, _ = archives.scan(3)
    write_nifti(image, tmp_path / "plain.nii.gz")
    for path in (tmp_path / "plain.nii.gz", head):
        assert predict("unet", path, "--out", tmp_path / "out", "--weights", trained) == 0
    one, two = (read_nifti(tmp_path / "out" / f"{n}_unet_probability.nii.gz") for n in ("plain", "head"))
    assert one.array.shape == two.array.shape
    both = np.corrcoef(one.array.ravel(), two.array.ravel())[0, 1]
    assert both > 0.9


def test_nothing_is_written_over_unless_it_is_asked_for(trained, head, tmp_path, capsys):
    words = ("unet", head, "--out", tmp_path, "--weights", trained)
    (tmp_path / "head_unet.json").write_text("mine")
    assert predict(*words) == 1
    assert "--force" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["head_unet.json"]
    assert (tmp_path / "head_unet.json").read_text() == "mine"
    assert predict(*words, "--force") == 0
    assert json.loads((tmp_path / "head_unet.json").read_text("utf-8"))["case"] == "head"
    assert not [p for p in tmp_path.iterdir() if "tmp" in p.name]


def changed(head, tmp_path, how):
    image = read_nifti(head)
    return write_nifti(image.with_array(how(image.array.astype(np.int16)).astype(np.int16)), tmp_path / "odd.nii.gz")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (lambda hu: np.clip(hu, 0, 80) * 3, "Hounsfield units"),
        (lambda hu: hu + 1024, "Hounsfield units"),
        (lambda hu: np.where(hu > -500, np.abs(hu) * 4 + 50, 0), "Hounsfield units"),
        (lambda hu: np.full_like(hu, -1000), "one brain inside a skull"),
    ],
    ids=["a window was applied", "an offset is missing", "MR", "air alone"],
)
def test_what_is_no_head_ct_in_hounsfield_units_is_refused(trained, head, tmp_path, capsys, how, said):
    assert predict("unet", changed(head, tmp_path, how), "--out", tmp_path / "out", "--weights", trained) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Next step" in error
    assert not (tmp_path / "out").exists()


def test_a_file_that_ends_too_early_and_a_head_without_its_slices_are_refused(trained, head, tmp_path, capsys):
    short = tmp_path / "short.nii.gz"
    short.write_bytes(head.read_bytes()[:-2000])
    assert predict("unet", short, "--out", tmp_path, "--weights", trained) == 1
    assert "short.nii.gz" in capsys.readouterr().err
    image = read_nifti(head)
    few = Volume(image.array[:2], image.affine)
    write_nifti(few, tmp_path / "few.nii.gz")
    assert predict("unet", tmp_path / "few.nii.gz", "--out", tmp_path, "--weights", trained) == 1
    assert "Next step" in capsys.readouterr().err


def test_weights_of_another_method_and_files_that_are_none_are_refused(trained, head, tmp_path, capsys):
    assert predict("papl", head, "--out", tmp_path, "--weights", trained) == 1
    assert "found weights of unet; wanted papl" in capsys.readouterr().err
    assert predict("unet", head, "--out", tmp_path, "--weights", head) == 1
    assert "written by strokelib" in capsys.readouterr().err
    assert predict("unet", tmp_path / "absent.nii.gz", "--out", tmp_path, "--weights", trained) == 1
    assert "no such file" in capsys.readouterr().err


def test_one_bad_scan_of_a_folder_is_named_and_stops_no_other(trained, head, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "good.nii.gz").write_bytes(head.read_bytes())
    (folder / "short.nii.gz").write_bytes(head.read_bytes()[:-2000])
    assert predict("unet", folder, "--out", tmp_path / "out", "--weights", trained) == 1
    said = capsys.readouterr().out
    assert "left out  short" in said
    assert "predicted: 1 of 2 scans" in said
    assert (tmp_path / "out" / "good_unet_lesion.nii.gz").is_file()


def test_a_folder_of_prepared_cases_is_taken_as_it_is(trained, tmp_path):
    case = embedded.render("aisd-0346", "prepared")
    save_case(case, tmp_path / "cases" / "aisd-0346.safetensors")
    assert predict("unet", tmp_path / "cases", "--out", tmp_path / "out", "--weights", trained) == 0
    written = read_nifti(tmp_path / "out" / "aisd-0346_unet_probability.nii.gz")
    assert written.array.shape == case.image.array.shape
    facts = json.loads((tmp_path / "out" / "aisd-0346_unet.json").read_text("utf-8"))
    stated = weights.read(trained)[0]["scores"]["cases"].get("aisd-0346")
    assert facts["dice_with_reference"] == pytest.approx(stated, abs=0.01)


def test_perfusion_scans_of_a_folder_are_predicted_on_their_own_grid_and_a_ct_alone_is_refused(head, tmp_path, capsys):
    folder = archives.write_isles2018(tmp_path / "isles", count=1, small=False)
    assert predict("pseudo_dwi", folder, "--out", tmp_path / "out") == 0
    masks = sorted(path.name for path in (tmp_path / "out").glob("*_lesion.nii.gz"))
    assert masks == ["test_case_1_pseudo_dwi_lesion.nii.gz", "train_case_1_pseudo_dwi_lesion.nii.gz"]
    (scan,) = (folder / "TRAINING").rglob("SMIR.Brain.XX.O.CT.*.nii")
    found = nib.load(tmp_path / "out" / "train_case_1_pseudo_dwi_probability.nii.gz")
    assert found.shape == nib.load(scan).shape
    np.testing.assert_allclose(found.affine, nib.load(scan).affine, atol=1e-4)
    assert predict("pseudo_dwi", head, "--out", tmp_path / "none") == 1
    assert "CT perfusion" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
