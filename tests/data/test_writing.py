"""A mask goes back into the frame of the file it was found in."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from strokelib.data.cases import Volume
from strokelib.data.reading import read_nifti
from strokelib.data.writing import write_nifti_like
from strokelib.errors import DataError

CODES = ["RAS", "LPS", "PIR", "ILA", "SRP"]


def image_file(folder, codes, oblique=0.0, suffix=".nii.gz"):
    rng = np.random.default_rng(0)
    turn = nib.orientations.axcodes2ornt(codes)
    c, s = np.cos(oblique), np.sin(oblique)
    linear = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag([0.5, 0.7, 5.0])
    ras = np.eye(4)
    ras[:3, :3], ras[:3, 3] = linear, (-20.0, 11.0, 7.0)
    array = rng.integers(-100, 1000, (9, 8, 6)).astype(np.int16)
    to = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
    stored = nib.orientations.apply_orientation(array, to)
    image = nib.Nifti1Image(stored, ras @ nib.orientations.inv_ornt_aff(to, array.shape))
    image.header["descrip"] = b"somebody"
    path = folder / f"scan_{codes}{suffix}"
    nib.save(image, path)
    return path


@pytest.mark.parametrize("oblique", [0.0, 0.2])
@pytest.mark.parametrize("codes", CODES)
def test_a_mask_lies_on_its_image_voxel_by_voxel_in_any_axis_order(tmp_path, codes, oblique):
    path = image_file(tmp_path, codes, oblique)
    scan = read_nifti(path)
    mask = scan.with_array(scan.array > 500)
    written = nib.load(write_nifti_like(mask, path, tmp_path / "mask.nii.gz"))
    source = nib.load(path)
    assert written.shape == source.shape
    np.testing.assert_array_equal(written.affine, source.affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(source.dataobj) > 500)
    assert written.get_data_dtype() == np.uint8
    assert bytes(written.header["descrip"]).strip(b"\0") == b""


def test_reading_the_mask_gives_the_mask(tmp_path):
    path = image_file(tmp_path, "PIR", suffix=".nii")
    scan = read_nifti(path)
    labels = scan.with_array((scan.array // 300).astype(np.int16))
    back = read_nifti(write_nifti_like(labels, path, tmp_path / "labels.nii"))
    np.testing.assert_array_equal(back.array, labels.array)
    np.testing.assert_allclose(back.affine, labels.affine, atol=1e-5)


def test_the_same_mask_gives_the_same_bytes(tmp_path):
    path = image_file(tmp_path, "LPS")
    mask = read_nifti(path)
    first = write_nifti_like(mask, path, tmp_path / "a.nii.gz").read_bytes()
    assert first == write_nifti_like(mask, path, tmp_path / "b.nii.gz").read_bytes()
    assert gzip.decompress(first)[344:347] == b"n+1"


def test_a_mask_of_another_grid_is_refused_and_nothing_is_written(tmp_path):
    path = image_file(tmp_path, "LPS")
    scan = read_nifti(path)
    moved = scan.affine.copy()
    moved[0, 3] += 1.0
    for mask in (Volume(scan.array[1:], scan.affine), Volume(scan.array, moved)):
        with pytest.raises(DataError, match="mask for scan_LPS"):
            write_nifti_like(mask, path, tmp_path / "mask.nii.gz")
    with pytest.raises(DataError, match="choose another name"):
        write_nifti_like(scan, path, tmp_path / "mask.mha")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan_LPS.nii.gz"]
