"""Miniature archives in the exact layouts of the public data sets, written from one embedded head."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

from strokelib.data.cases import Volume
from strokelib.data.phantom import embedded
from strokelib.data.reading import write_nifti


@cache
def head() -> tuple[Volume, np.ndarray]:
    """A CT of 7 slices of 56 x 48 voxels of 20 x 4 x 4 mm, and its infarct."""
    case = embedded.render("aisd-0050", "prepared")
    step = np.diag([2.0, 2.0, 4.0, 1.0])
    image = case.image.array[:28:4, ::2, ::2].astype(np.int16)
    return Volume(image, case.image.affine @ step), case.lesion[:28:4, ::2, ::2]


def write_dicom(volume: Volume, folder: Path) -> None:
    """One series, files 001.dcm, 002.dcm ... from below."""
    folder.mkdir(parents=True)
    dz, dy, dx = volume.spacing
    uid = "1.2.826.0.1.3680043.2.1125.1." + "".join(str(ord(c)) for c in folder.parent.name)
    for z, plane in enumerate(volume.array):
        image = sitk.GetImageFromArray(plane[None].astype(np.int16))
        place = volume.affine @ np.array([0, 0, z, 1])
        image.SetSpacing((dx, dy, dz))
        image.SetOrigin((-place[0], -place[1], place[2]))
        tags = {
            "0008|0008": "ORIGINAL\\PRIMARY\\AXIAL",
            "0008|0018": f"{uid}.{z + 1}",
            "0008|0020": "20200101",
            "0008|0030": "120000",
            "0008|0060": "CT",
            "0018|0050": f"{dz:g}",
            "0018|0088": f"{dz:g}",
            "0020|000d": f"{uid}.100",
            "0020|000e": f"{uid}.200",
            "0020|0011": "2",
            "0020|0012": "1",
            "0020|0013": str(z + 1),
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{z + 1:03d}.dcm"))
        writer.Execute(image)


def write_aisd(root: Path, ids: tuple[str, ...] = ("0019983", "0021023")) -> Path:
    """dicom-0/<id>/CT, mask/<id>/000.png with labels 0 to 5."""
    image, lesion = head()
    for n, name in enumerate(ids):
        write_dicom(Volume(image.array + n, image.affine), root / "dicom-0" / name / "CT")
        (root / "mask" / name).mkdir(parents=True)
        for z, plane in enumerate(lesion):
            labels = plane.astype(np.uint8) * (2 + 3 * (z % 2))
            Image.fromarray(labels).save(root / "mask" / name / f"{z:03d}.png")
        (root / "mask" / name / ".DS_Store").write_bytes(b"x")
    return root


def write_apis(root: Path, count: int = 2) -> Path:
    """train_000/train_000_ncct.nii.gz, _adc, and masks/train_000_r1_mask.nii.gz on the ADC's grid."""
    image, lesion = head()
    for n in range(count):
        case = root / f"train_{n:03d}"
        (case / "masks").mkdir(parents=True)
        adc = Volume(np.clip(image.array[1:, 1:, 1:] * 10, 0, 3000).astype(np.int16), image.affine)
        write_nifti(Volume(image.array + n, image.affine), case / f"{case.name}_ncct.nii.gz")
        write_nifti(adc, case / f"{case.name}_adc.nii.gz")
        mask = Volume(lesion[1:, 1:, 1:] & (n == 0), image.affine)
        write_nifti(mask, case / "masks" / f"{case.name}_r1_mask.nii.gz")
    return root


def write_isles2018(root: Path, *, dwi: bool = True, singleton: bool = False) -> Path:
    """TRAINING/case_1/SMIR.Brain.XX.O.CT.<n>/SMIR.Brain.XX.O.CT.<n>.nii ..., TESTING/case_1 without OT."""
    image, lesion = head()
    part = slice(2, 6)
    kinds = ["CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "CT_4DPWI", "OT"] + (["MR_DWI"] if dwi else [])
    for place, names in (("TRAINING", ("case_1", "case_2", "case_3")), ("TESTING", ("case_1",))):
        for number, name in enumerate(names):
            shift = number + (10 if place == "TESTING" else 0)
            for n, kind in enumerate(kinds):
                if kind == "OT" and place == "TESTING":
                    continue
                stem = f"SMIR.Brain.XX.O.{kind}.{345561 + 10 * number + n}"
                folder = root / place / name / stem
                folder.mkdir(parents=True)
                array = lesion[part].astype(np.uint8) if kind == "OT" else np.clip(image.array[part] + shift, 0, 200)
                stored = array.transpose(2, 1, 0)
                if kind == "CT_4DPWI":
                    stored = np.stack([stored + 3 * t for t in range(5)], axis=-1)
                    stored = stored[..., None, :] if singleton else stored
                saved = nib.Nifti1Image(np.ascontiguousarray(stored), image.affine)
                saved.set_sform(image.affine, code=1)
                saved.header.set_xyzt_units("mm", "sec")
                nib.save(saved, folder / f"{stem}.nii")
    return root


def write_bids(root: Path, suffix: str = "ct", count: int = 2) -> Path:
    """sub-<n>/ct/sub-<n>_ct.nii.gz, and a mask below derivatives."""
    image, lesion = head()
    for n in range(count):
        name = f"sub-{n:02d}"
        (root / name / "ct").mkdir(parents=True)
        (root / "derivatives" / name).mkdir(parents=True)
        write_nifti(Volume(image.array + n, image.affine), root / name / "ct" / f"{name}_{suffix}.nii.gz")
        write_nifti(Volume(lesion, image.affine), root / "derivatives" / name / f"{name}_lesion-msk.nii.gz")
    return root
