"""Miniature archives in the exact layouts of the public data sets, written from embedded heads.

``small=True`` takes one head on a coarse grid, good enough to be read; otherwise each case is another head of
5 x 2 x 2 mm, good enough to be prepared. ``python tests/data/archives.py FOLDER`` writes AISD with twelve cases.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image

from strokelib.data.cases import Volume
from strokelib.data.phantom import embedded, mr
from strokelib.data.reading import write_nifti


@cache
def head() -> tuple[Volume, np.ndarray]:
    """A CT of 7 slices of 56 x 48 voxels of 20 x 4 x 4 mm, and its infarct."""
    case = embedded.render("aisd-0050", "prepared")
    step = np.diag([2.0, 2.0, 4.0, 1.0])
    image = case.image.array[:28:4, ::2, ::2].astype(np.int16)
    return Volume(image, case.image.affine @ step), case.lesion[:28:4, ::2, ::2]


def write_aisd_png(root: Path, ids: tuple[str, ...] = ("0019983", "0021023"), small: bool = True) -> Path:
    """image/<id>/000.png with 0 to 80 HU as 0 to 255, mask/<id>/000.png with labels."""
    for n, name in enumerate(ids):
        image, lesion = chosen(n, small)
        write_pictures(root, name, image.array, lesion)
    return root


def write_pictures(root: Path, name: str, hu: np.ndarray, lesion: np.ndarray) -> None:
    """One case of AISD's PNG form."""
    grey = np.clip(np.rint(hu / 80 * 255), 0, 255).astype(np.uint8)
    for kind, stack in (("image", grey), ("mask", lesion.astype(np.uint8) * 2)):
        (root / kind / name).mkdir(parents=True)
        for z, plane in enumerate(stack):
            Image.fromarray(plane).save(root / kind / name / f"{z:03d}.png")


@cache
def scan(number: int) -> tuple[Volume, np.ndarray]:
    """A CT of 30 slices of 112 x 96 voxels of 5 x 2 x 2 mm, and its infarct; another head for each number."""
    case = embedded.render(f"aisd-{number + 101:04d}", "prepared")
    return Volume(case.image.array.astype(np.int16), case.image.affine), case.lesion


def chosen(number: int, small: bool) -> tuple[Volume, np.ndarray]:
    """Image and infarct of a case."""
    if not small:
        return scan(number)
    image, lesion = head()
    return Volume(image.array + number, image.affine), lesion


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


def write_aisd(root: Path, ids: tuple[str, ...] = ("0019983", "0021023"), small: bool = True) -> Path:
    """dicom-0/<id>/CT, mask/<id>/000.png with labels 0 to 5."""
    for n, name in enumerate(ids):
        image, lesion = chosen(n, small)
        write_dicom(image, root / "dicom-0" / name / "CT")
        (root / "mask" / name).mkdir(parents=True)
        for z, plane in enumerate(lesion):
            labels = plane.astype(np.uint8) * (2 + 3 * (z % 2))
            Image.fromarray(labels).save(root / "mask" / name / f"{z:03d}.png")
        (root / "mask" / name / ".DS_Store").write_bytes(b"x")
    return root


def write_apis(root: Path, count: int = 2, small: bool = True) -> Path:
    """train_000/train_000_ncct.nii.gz, _adc, and masks/train_000_r1_mask.nii.gz, on the ADC's grid."""
    for n in range(count):
        case = root / f"train_{n:03d}"
        (case / "masks").mkdir(parents=True)
        if small:
            image, lesion = chosen(n, small)
            adc = Volume(np.clip(image.array[1:, 1:, 1:] * 10, 0, 3000).astype(np.int16), image.affine)
            mask = Volume(lesion[1:, 1:, 1:] & (n == 0), image.affine)
        else:
            name = f"apis-{n + 1:04d}"
            head, partner = embedded.render(name, "prepared"), mr.render_mr(name)
            image, adc = head.image, partner.image
            mask = Volume(partner.lesion, adc.affine)
        write_nifti(Volume(image.array.astype(np.int16), image.affine), case / f"{case.name}_ncct.nii.gz")
        write_nifti(adc, case / f"{case.name}_adc.nii.gz")
        write_nifti(mask, case / "masks" / f"{case.name}_r1_mask.nii.gz")
    return root


def _isles_arrays(number: int, small: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A slab: CT, maps that are positive in the brain alone, a series of five frames, DWI, mask; and their affine."""
    if small:
        image, lesion = head()
        part = slice(2, 6)
        plain = np.clip(image.array[part] + number, 0, 200)
        kinds = dict.fromkeys(("CT", "CT_CBF", "CT_CBV", "CT_MTT", "CT_Tmax", "MR_DWI"), plain)
        affine = image.affine
    else:
        case = embedded.render(f"aisd-{number + 101:04d}", "prepared")
        image, lesion = case.image, case.lesion
        start = int(np.clip(lesion.sum(axis=(1, 2)).argmax() - 4, 0, len(lesion) - 8))
        part = slice(start, start + 8)
        affine = image.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, start], [0, 0, 0, 1]], float)
        plain, brain = image.array[part], case.brain[part]
        kinds = {"CT": plain} | {
            f"CT_{name}": (brain * np.where(lesion[part], sick, sound)).astype(np.int16)
            for name, sick, sound in (("CBF", 10, 50), ("CBV", 1, 4), ("MTT", 12, 5), ("Tmax", 10, 2))
        }
        kinds["MR_DWI"] = (brain * np.where(lesion[part], 900, 400)).astype(np.int16)
    kinds["CT_4DPWI"] = np.stack([plain + 3 * t for t in range(5)])
    return kinds | {"OT": lesion[part].astype(np.uint8)}, affine


def write_isles2018(
    root: Path,
    *,
    dwi: bool = True,
    singleton: bool = False,
    count: int = 3,
    small: bool = True,
    step_s: float = 1.0,
    thicker: float = 1.0,
    finer: int = 1,
) -> Path:
    """TRAINING/case_1/SMIR.Brain.XX.O.CT.<n>/SMIR.Brain.XX.O.CT.<n>.nii ..., TESTING/case_1 without OT.

    ``step_s`` is what the header of the series says, ``thicker`` a factor on the distance of slices, ``finer`` how many
    equal pixels one becomes along each side.
    """
    places = [("TRAINING", f"case_{n + 1}", n) for n in range(count)] + [("TESTING", "case_1", 40)]
    for place, name, number in places:
        kinds, affine = _isles_arrays(number, small)
        size = np.diag([1 / finer, 1 / finer, thicker, 1.0])
        size[:2, 3] = (1 / finer - 1) / 2
        affine = affine @ size
        for n, (kind, array) in enumerate(kinds.items()):
            if (kind == "OT" and place == "TESTING") or (kind == "MR_DWI" and not dwi):
                continue
            stem = f"SMIR.Brain.XX.O.{kind}.{345561 + 10 * number + n}"
            folder = root / place / name / stem
            folder.mkdir(parents=True)
            array = array.repeat(finer, axis=-1).repeat(finer, axis=-2)
            stored = array.transpose(3, 2, 1, 0) if kind == "CT_4DPWI" else array.transpose(2, 1, 0)
            if kind == "CT_4DPWI" and singleton:
                stored = stored[..., None, :]
            saved = nib.Nifti1Image(np.ascontiguousarray(stored), affine)
            saved.set_sform(affine, code=1)
            saved.header.set_xyzt_units("mm", "sec")
            saved.header["pixdim"][4] = step_s
            nib.save(saved, folder / f"{stem}.nii")
    return root


def write_bids(root: Path, suffix: str = "ct", count: int = 2, small: bool = True) -> Path:
    """sub-<n>/ct/sub-<n>_ct.nii.gz, and a mask below derivatives."""
    for n in range(count):
        name = f"sub-{n:02d}"
        image, lesion = chosen(n, small)
        (root / name / "ct").mkdir(parents=True)
        (root / "derivatives" / name).mkdir(parents=True)
        write_nifti(image, root / name / "ct" / f"{name}_{suffix}.nii.gz")
        write_nifti(Volume(lesion, image.affine), root / "derivatives" / name / f"{name}_lesion-msk.nii.gz")
    return root


def write_center_tbi(root: Path, count: int = 6, small: bool = True) -> Path:
    """{train,valid,test}/<subject>/ct_in_mni_inter_1.nii.gz and brain_mask_MNI.nii.gz; nobody has an infarct."""
    for n in range(count):
        folder = root / "anomaly_detection_healthy_CT" / ("train", "train", "valid", "test")[n % 4] / f"subject{n}"
        folder.mkdir(parents=True)
        image, _ = chosen(n, small)
        write_nifti(image, folder / "ct_in_mni_inter_1.nii.gz")
        brain = image.array > 0 if small else embedded.render(f"aisd-{n + 101:04d}", "prepared").brain
        write_nifti(Volume(brain, image.affine), folder / "brain_mask_MNI.nii.gz")
    return root


def write_plain(root: Path, count: int = 2, small: bool = True) -> Path:
    """<name>.nii.gz and, for the first, <name>_mask.nii.gz; a folder of DICOM files as the last case."""
    root.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        image, lesion = chosen(n, small)
        write_nifti(image, root / f"head{n}.nii.gz")
        if n == 0:
            write_nifti(Volume(lesion, image.affine), root / f"head{n}_mask.nii.gz")
    write_dicom(chosen(count, small)[0], root / f"head{count}")
    return root


if __name__ == "__main__":
    TRAIN = ("0019983", "0021023", "0021061", "0041698", "0041699", "0072680", "0072682", "0072688", "0072693")
    write_aisd(Path(sys.argv[1]), (*TRAIN, "0021092", "0021822", "0072681"), small=False)
