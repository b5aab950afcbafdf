"""Files that strokelib writes mean the same to the other readers of the field."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from strokelib.data.cases import Volume
from strokelib.data.grids import resample
from strokelib.data.reading import read_nifti, write_nifti


@pytest.fixture
def volume():
    array = np.random.default_rng(5).integers(-1000, 1500, (6, 12, 10)).astype(np.int16)
    affine = np.array([[-0.5, 0, 0, 90], [0, -0.45, 0, 110], [0, 0, 5.0, -40], [0, 0, 0, 1.0]])
    return Volume(array, affine)


def test_simpleitk_and_nibabel_read_the_same_voxels_at_the_same_places(volume, tmp_path):
    path = write_nifti(volume, tmp_path / "scan.nii.gz")
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume.array)
    np.testing.assert_allclose(image.GetSpacing(), volume.spacing[::-1], rtol=1e-6)
    index = (3, 7, 2)  # x, y, z
    lps = image.TransformIndexToPhysicalPoint(index)
    ras = volume.affine @ [*index, 1.0]
    np.testing.assert_allclose(lps, [-ras[0], -ras[1], ras[2]], atol=1e-4)
    np.testing.assert_allclose(nib.load(path).affine, volume.affine, atol=1e-4)


def test_a_file_written_by_simpleitk_comes_back_in_lps_order(volume, tmp_path):
    image = sitk.GetImageFromArray(volume.array[:, ::-1, :])
    image.SetSpacing(volume.spacing[::-1])
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "other.nii.gz"))
    np.testing.assert_array_equal(read_nifti(tmp_path / "other.nii.gz").array, volume.array)


def test_halving_the_voxels_gives_simpleitks_linear_values_inside(volume):
    ours = resample(volume.with_array(volume.array.astype(np.float32)), (2.5, 0.225, 0.25), order=1)
    image = sitk.GetImageFromArray(volume.array.astype(np.float32))
    image.SetSpacing(volume.spacing[::-1])
    grid = sitk.Image(*(int(n) for n in ours.array.shape[::-1]), sitk.sitkFloat32)
    grid.SetSpacing(ours.spacing[::-1])
    grid.SetOrigin([(new - old) / 2 for new, old in zip(ours.spacing[::-1], volume.spacing[::-1], strict=True)])
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear))
    inside = (slice(1, -1),) * 3
    np.testing.assert_allclose(ours.array[inside], theirs[inside], atol=0.02)
