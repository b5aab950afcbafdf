"""The shipped real data: nothing lost, nothing damaged, left is left."""

from __future__ import annotations

import hashlib
import shutil
import zipfile

import nibabel as nib
import numpy as np
import pytest

from strokelib import manifest, settings
from strokelib.data import mask_library, shipped
from strokelib.errors import DataError, ManifestError, ParameterError

NATIVE_AFFINE = np.array([[-1, 0, 0, 78], [0, 1, 0, -112], [0, 0, 1, -50], [0, 0, 0, 1]], float)


@pytest.fixture(scope="module")
def covariates():
    return shipped.participants()


def digests_after_empty_slabs(dtype: str) -> list:
    """SHA-256 states after 0, 1, 2, ... slabs of zeros, so that what lies before an infarct is hashed once for all."""
    states, slab = [hashlib.sha256()], np.zeros((189, 136), dtype)
    for _ in range(157):
        states.append(states[-1].copy())
        states[-1].update(slab)
    return states


def test_every_mask_comes_back_bit_for_bit_in_its_own_type_shape_and_affine():
    ledger = manifest.read("infarcts").set_index("patient")
    assert tuple(ledger.index) == shipped.infarct_ids()
    assert len(ledger) == 1449
    wrong, states = [], {dtype: digests_after_empty_slabs(dtype) for dtype in ("uint8", "int16")}
    for patient, sha256, dtype, shape, volume_ml in ledger.itertuples():
        array, affine = shipped.infarct_nifti(patient)
        first = int(array.any(axis=(1, 2)).argmax())
        digest = states[array.dtype.name][first].copy()
        digest.update(array[first:])
        kept = (array.dtype.name, "x".join(map(str, array.shape)), digest.hexdigest())
        volume = np.isclose(np.count_nonzero(array) / 1000, volume_ml)
        if kept != (dtype, shape, sha256) or not volume or not np.array_equal(affine, NATIVE_AFFINE):
            wrong.append(patient)
    assert wrong == []
    assert (ledger["dtype"] == "int16").sum() == 2


def test_every_shipped_file_agrees_with_the_ledger_and_all_together_are_small():
    table = manifest.read("assets")
    on_disk = {p.relative_to(settings.assets_dir()).as_posix() for p in settings.assets_dir().rglob("*") if p.is_file()}
    assert on_disk == set(table["path"])
    for name in table["path"]:
        manifest.asset(name)
    weights = table["path"].str.startswith("weights/")
    assert table["bytes"][~weights].sum() <= 12_000_000
    assert table["bytes"][weights].sum() <= 8_000_000


def test_every_source_has_its_licence_and_its_citation():
    for folder in (path for path in settings.assets_dir().iterdir() if path.is_dir()):
        assert list(folder.glob("LICENSE*")), folder.name
        assert "CITATION:" in (folder / "README.md").read_text("utf-8"), folder.name


@pytest.mark.parametrize("name", [shipped.INFARCTS, "ct_atlas/scct.nii.gz", "soop/participants.tsv"])
def test_a_damaged_byte_is_refused(name, tmp_path, monkeypatch):
    target = tmp_path / name
    target.parent.mkdir(parents=True)
    content = bytearray((settings.assets_dir() / name).read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    monkeypatch.setattr(settings, "assets_dir", lambda: tmp_path)
    with pytest.raises(ManifestError, match=r"restore the file with git"):
        manifest.asset(name)


def test_a_missing_file_and_an_unlisted_one_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "assets_dir", lambda: tmp_path)
    with pytest.raises(ManifestError, match="no such file"):
        shipped.infarct("sub-1000")
    with pytest.raises(ManifestError, match="no entry"):
        manifest.asset("soop/other.bin")


def test_infarcts_on_the_left_lie_at_larger_indices_of_the_last_axis(covariates):
    for side in ("left", "right"):
        for patient in covariates.index[covariates["left_share"] == (side == "left")][:40]:
            volume = shipped.infarct(patient)
            x = np.arange(157) * volume.affine[0, 0] + volume.affine[0, 3]
            columns = volume.array.any(axis=(0, 1))
            assert (x[columns] <= 0).all() if side == "left" else (x[columns] >= 0).all(), patient
            assert (np.flatnonzero(columns).mean() > 78) == (side == "left")


@pytest.mark.parametrize("patient", ["sub-2", "sub-1000", "sub-1373"])
def test_an_infarct_in_lps_order_holds_the_same_voxels_at_the_same_millimetres(patient):
    array, affine = shipped.infarct_nifti(patient)
    volume = shipped.infarct(patient)
    assert volume.array.dtype == bool
    assert volume.array.shape == array.shape[::-1]
    assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
    assert volume.spacing == (1.0, 1.0, 1.0)
    millimetres = np.argwhere(volume.array)[:, ::-1] @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    i, j, k = np.rint((millimetres - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int).T
    placed = np.zeros_like(array)
    placed[i, j, k] = 1
    assert np.array_equal(placed, array)


def test_an_unknown_patient_is_refused():
    with pytest.raises(DataError, match="sub-0"):
        shipped.infarct("sub-0")


def test_covariates_are_those_of_the_source_and_missing_stays_missing(covariates):
    assert list(covariates.index) == list(shipped.infarct_ids())
    assert covariates["nihss"].notna().sum() == 944
    assert covariates.loc["sub-2", ["age", "sex", "nihss", "prior_stroke"]].tolist() == [78, "M", 17, 0]
    assert np.isnan(covariates.loc["sub-2", "rankin"])
    assert covariates["age"].notna().sum() == 944
    assert covariates["age"].max() == 89
    assert covariates["volume_ml"].median() == pytest.approx(12.7, abs=0.05)
    assert (covariates["volume_ml"] >= 70).sum() == 283
    assert covariates["volume_ml"].idxmax() == "sub-1373"
    sides = covariates["side"].value_counts(normalize=True)
    assert sides.to_dict() == pytest.approx({"left": 0.414, "right": 0.415, "both": 0.171}, abs=0.001)


def test_a_table_that_was_changed_by_its_reader_is_whole_for_the_next_one(covariates):
    table = shipped.participants()
    table["age"] = 0
    assert shipped.participants().equals(covariates)


@pytest.mark.parametrize("patient", ["sub-9", "sub-99", "sub-1001"])
def test_artery_shares_are_the_injured_parts_of_the_territories(patient):
    labels, _ = shipped.territories()
    shares = shipped.artery_shares().loc[patient]
    mask = shipped.infarct(patient).array
    assert np.array_equal(labels.affine, shipped.infarct(patient).affine)
    for label, share in shares.items():
        inside = labels.array == label
        assert mask[inside].mean() == pytest.approx(share, abs=1e-6)


def test_odd_territories_are_left_and_named_so():
    labels, names = shipped.territories()
    assert list(names.index) == list(range(1, 33))
    assert names["code"].is_unique
    assert set(names["major"]) == {"ACA", "MCA", "PCA", "VB", "LV"}
    for label in names.index:
        x = np.argwhere(labels.array == label)[:, 2].mean()
        assert (x > 78) == (label % 2 == 1) == (names.loc[label, "side"] == "left")


@pytest.mark.parametrize(
    ("name", "low", "high"), [("scgrey", 0, 1), ("scct_stripped", 0, 3055), ("ct_stripped_hu", 0, 80)]
)
def test_the_ct_atlas_comes_in_lps_order(name, low, high):
    volume = shipped.ct_atlas(name)
    assert volume.array.shape == (91, 109, 91)
    assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
    assert volume.spacing == (2.0, 2.0, 2.0)
    assert volume.array.min() == low
    assert high - 1 < volume.array.max() <= high
    assert not shipped.ct_atlas("scct").array.flags.writeable


def test_an_unknown_atlas_volume_is_refused():
    with pytest.raises(ParameterError, match="scgrey"):
        shipped.ct_atlas("grey")


@pytest.mark.parametrize("name", shipped.ICBM_BRAIN)
def test_the_icbm_brain_lies_on_the_grid_of_the_ct_atlas_and_is_its_own_mirror_image(name):
    volume = shipped.icbm_brain(name)
    assert np.array_equal(volume.affine, shipped.ct_atlas("scgrey").affine)
    assert volume.array.shape == (91, 109, 91)
    assert volume.array.dtype == np.float32
    assert volume.array.min() == 0
    assert 0.99 < volume.array.max() <= 1
    assert np.array_equal(volume.array, volume.array[..., ::-1])


def test_grey_and_white_matter_of_the_icbm_brain_lie_in_it_and_fill_most_of_it():
    grey, white, brain = (shipped.icbm_brain(name).array for name in shipped.ICBM_BRAIN)
    tissue = grey + white
    assert tissue.max() < 1.02
    assert tissue[brain == 0].max() < 0.2
    assert 0.75 < tissue.sum() / brain.sum() < 1
    assert 1.0 < grey.sum() / white.sum() < 2.5


def test_an_unknown_icbm_volume_is_refused():
    with pytest.raises(ParameterError, match="grey, white, brain"):
        shipped.icbm_brain("csf")


def test_cormack_units_become_hounsfield_units():
    cormack = np.array([0, 900, 901, 2000, 3100, 3101, 4124])
    expected = [-1024, -124, -124 + 1 / 11, -24, 76, 77, 1100]
    assert np.allclose(shipped.cormack_to_hu(cormack), expected, atol=1e-4)
    brain = shipped.ct_atlas("ct_stripped_hu").array > 0
    from_cormack = shipped.cormack_to_hu(shipped.ct_atlas("scct_stripped").array)
    assert np.allclose((shipped.ct_atlas("ct_stripped_hu").array - from_cormack)[brain], 8, atol=0.02)


def test_grey_matter_is_brighter_than_white_matter_and_fluid_in_the_template():
    hu = shipped.cormack_to_hu(shipped.ct_atlas("scct").array)
    grey, white, csf = (np.median(hu[shipped.ct_atlas(n).array > 0.9]) for n in ("scgrey", "scwhite", "sccsf"))
    assert grey > white > csf > 0


def test_the_ct_brain_has_the_hounsfield_units_of_a_brain():
    volume = shipped.ct_brain()
    assert volume.array.shape == (179, 202, 202)
    assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
    inside = volume.array[(volume.array > 0) & (volume.array < 100)]
    assert 35 <= np.median(inside) <= 41


def test_the_head_ct_is_an_archive_of_17_dicom_slices():
    with zipfile.ZipFile(shipped.head_ct_archive()) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert archive.read(names[0])[128:132] == b"DICM"
    assert len(names) == 17


def test_perfusion_curves_come_in_pairs():
    table = shipped.perfusion_curves()
    assert table.groupby("case")["curve"].apply(set).map(lambda curves: curves == {"aif", "vof"}).all()
    assert table["case"].nunique() == 156
    assert table["values"].map(len).between(28, 43).all()
    assert table["values"].map(lambda values: np.isfinite(values).all()).all()


def _write(path, array, affine=NATIVE_AFFINE):
    nib.save(nib.Nifti1Image(array, affine), path)


def test_packing_is_lossless_and_reproducible(tmp_path):
    rng = np.random.default_rng(0)
    masks = {}
    (tmp_path / "source").mkdir()
    for number, dtype in ((12, np.uint8), (3, np.int16), (101, np.uint8)):
        masks[f"sub-{number}"] = array = np.zeros((21, 13, 8), dtype)
        array[2:17, 3:9, 1:8] = rng.random((15, 6, 7)) > 0.5
        _write(tmp_path / "source" / f"w_sub-{number}_lesion.nii.gz", array)
    shutil.make_archive(str(tmp_path / "source"), "tar", tmp_path / "source")
    first = shipped.pack_infarcts(tmp_path / "source", tmp_path / "a.bin.xz")
    second = shipped.pack_infarcts(tmp_path / "source.tar", tmp_path / "b.bin.xz")
    assert first.read_bytes() == second.read_bytes()
    library = mask_library.MaskLibrary(first)
    assert library.patients == ("sub-3", "sub-12", "sub-101")
    for patient, array in masks.items():
        for order in "CF":
            assert library.array(patient, order).dtype == array.dtype
            assert np.array_equal(library.array(patient, order), array)
    assert np.array_equal(library.affine, NATIVE_AFFINE)


@pytest.mark.parametrize("value", [0, 2])
def test_a_mask_that_is_empty_or_not_binary_is_not_packed(value, tmp_path):
    array = np.zeros((4, 4, 4), np.uint8)
    array[1, 1, 1] = value
    _write(tmp_path / "sub-1.nii.gz", array)
    with pytest.raises(DataError, match="values 0, 1"):
        mask_library.pack(tmp_path, tmp_path / "out.bin.xz")


def test_masks_on_two_grids_are_not_packed_together(tmp_path):
    array = np.ones((4, 4, 4), np.uint8)
    array[0] = 0
    _write(tmp_path / "sub-1.nii.gz", array)
    _write(tmp_path / "sub-2.nii.gz", array, np.eye(4))
    with pytest.raises(DataError, match="on grid"):
        mask_library.pack(tmp_path, tmp_path / "out.bin.xz")


@pytest.mark.parametrize("content", [b"", b"not an xz stream", "short"])
def test_a_file_that_is_no_mask_library_is_refused(content, tmp_path):
    path = tmp_path / "x.bin.xz"
    whole = (settings.assets_dir() / shipped.INFARCTS).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "short" else content)
    with pytest.raises(DataError, match="mask library"):
        mask_library.MaskLibrary(path)
