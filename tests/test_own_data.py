"""Anybody's folder to masks on the scanner's own grid, with a network in whose place stands a rule."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from strokelib.data.phantom import example_folder
from strokelib.data.preparing import prepare
from strokelib.data.reading import read_nifti, write_nifti
from strokelib.methods import own_data

sys.path.insert(0, str(Path(__file__).parent / "data"))
import archives


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = archives.write_plain(tmp_path_factory.mktemp("scans"), count=2, small=False)
    return prepare(folder, "xwhd", out=tmp_path_factory.mktemp("out"), workers=1)


def rule(model, recipe, case):
    """Marks a ball about the brain's middle, or the reference where there is one."""
    if case.lesion is not None:
        return case.lesion.astype(np.float32)
    z, y, x = (np.argwhere(case.brain).mean(axis=0)).round().astype(int)
    ball = np.zeros(case.brain.shape, np.float32)
    ball[z - 1 : z + 2, y - 6 : y + 7, x - 6 : x + 7] = 0.9
    return ball


@pytest.fixture(scope="module")
def results(made, tmp_path_factory):
    trained = SimpleNamespace(method=SimpleNamespace(predict=rule), model=None, recipe=None)
    return own_data.predict_folder(trained, made, tmp_path_factory.mktemp("masks"))


def test_every_prepared_scan_has_a_mask_file_on_the_grid_it_was_scanned_on(made, results):
    assert set(results) == set(made.ids()) == {"head0", "head1", "head2"}
    for name, found in results.items():
        written = read_nifti(found.file)
        raw = archives.scan(int(name[-1]))[0]
        assert written.array.shape == raw.array.shape
        np.testing.assert_allclose(written.affine, raw.affine, atol=0.01)
        assert (written.array > 0).sum() == found.mask.array.sum() > 0


def test_a_perfect_prediction_covers_the_drawn_lesion(results):
    drawn = archives.scan(0)[1]
    found = results["head0"].mask.array
    assert 2 * (found & drawn).sum() / (found.sum() + drawn.sum()) > 0.85


def test_a_file_with_other_axes_gets_its_mask_in_those_axes(tmp_path):
    import nibabel as nib

    image, _ = archives.scan(3)
    write_nifti(image, tmp_path / "plain.nii.gz")
    turned = nib.load(tmp_path / "plain.nii.gz").slicer[::-1, :, ::-1]
    (tmp_path / "scans").mkdir()
    nib.save(turned, tmp_path / "scans" / "turned.nii.gz")
    made = prepare(tmp_path / "scans", "xwhd", out=tmp_path / "out", workers=1)
    trained = SimpleNamespace(method=SimpleNamespace(predict=rule), model=None, recipe=None)
    file = own_data.predict_folder(trained, made, tmp_path / "masks")["turned"].file
    np.testing.assert_allclose(nib.load(file).affine, turned.affine, atol=1e-4)
    assert nib.load(file).shape == turned.shape


def test_the_table_has_volumes_and_a_score_where_there_is_a_reference(results):
    table = own_data.volumes(results).set_index("case")
    assert table.loc["head0", "dice"] == 1
    assert table["dice"].notna().tolist() == [True, False, False]
    assert table.loc["head0", "predicted_ml"] == pytest.approx(table.loc["head0", "reference_ml"], rel=0.2)
    assert (table["brain_ml"] > 500).all()


def test_the_slice_to_show_is_the_lesions_else_the_predictions_else_the_brains(results):
    lesion = results["head0"].case.lesion
    assert own_data.slice_to_show(results["head0"]) == lesion.sum(axis=(1, 2)).argmax()
    found = results["head1"]
    assert found.probability[own_data.slice_to_show(found)].any()
    nothing = own_data.OwnPrediction(found.case, np.zeros_like(found.probability), found.mask, found.file)
    assert own_data.slice_to_show(nothing) == found.case.brain.sum(axis=(1, 2)).argmax()


def test_the_example_folder_holds_what_it_says_and_is_written_once(tmp_path):
    folder = example_folder.write(tmp_path / "example")
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "cut_short.nii.gz",
        "embedded_1.nii.gz",
        "embedded_1_mask.nii.gz",
        "embedded_2.nii.gz",
        "embedded_2_mask.nii.gz",
        "embedded_3.nii.gz",
        "real_head.zip",
    ]
    before = (folder / "embedded_1.nii.gz").stat().st_mtime_ns
    assert example_folder.write(folder) == folder
    assert (folder / "embedded_1.nii.gz").stat().st_mtime_ns == before
