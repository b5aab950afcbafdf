"""Times the preparation of a head CT against SimpleITK and MONAI, and says how long a whole scan takes.

*Resampling*, linear, from 512 x 512 x 30 voxels of 0.469 x 0.469 x 5 mm (a field of 240 mm): SimpleITK's filter and
MONAI's ``Spacing`` take the nearest voxels, so ours is called with ``antialias=False``, and its values are compared
with SimpleITK's inside the field. In the last row the new voxels do not divide the field evenly: ours then takes
another path.

*Mid-sagittal plane*: ours, and a rigid registration of the stripped head to its own mirror image with SimpleITK
(correlation, three levels), which means a plane; both on embedded heads of 40 x 256 x 256 voxels, whose plane is known.
Errors are the angle between the planes and the distance at the brain's centre.

*Whole scan*: the shipped head CT from its zip archive of DICOM files to a prepared case, and an embedded head on the
scanner's own grid.

One thread everywhere; the libraries take turns.

    python benchmarks/preparation.py [repeats]
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")

import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
import torch

from strokelib.data import realcase, shipped
from strokelib.data.cases import Case, Volume
from strokelib.data.grids import resample
from strokelib.data.phantom import embedded
from strokelib.data.reading import write_nifti
from strokelib.data.sources import RawCase
from strokelib.methods import preparation_errors

SPACINGS = {"1 x 1 x 1 mm": (1.0, 1.0, 1.0), "2 x 2 x 2 mm": (2.0, 2.0, 2.0), "5 x 1.2 x 1.2 mm": (5.0, 1.2, 1.2)}
UNEVEN = {"5 x 1.1 x 1.1 mm": (5.0, 1.1, 1.1)}
KEPT = ("angle_deg", "offset_mm")
PLANE_HEADS = tuple(f"aisd-{n:04d}" for n in range(346, 352))


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Seconds, and what came out."""
    began = time.perf_counter()
    out = call()
    return time.perf_counter() - began, out


def with_sitk(volume: Volume, spacing: tuple[float, float, float]) -> np.ndarray:
    """SimpleITK on the same grid as ours, arrays in and out."""
    old, shape = np.array(volume.spacing), np.array(volume.array.shape)
    size = [max(1, round(n * a / b + 1e-6)) for n, a, b in zip(shape, old, spacing, strict=True)]
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(tuple(old[::-1]))
    origin = [(n - 1) * a / 2 - (m - 1) * b / 2 for n, a, m, b in zip(shape, old, size, spacing, strict=True)]
    change = sitk.ResampleImageFilter()
    change.SetSize(size[::-1])
    change.SetOutputSpacing(spacing[::-1])
    change.SetOutputOrigin(origin[::-1])
    change.SetInterpolator(sitk.sitkLinear)
    change.SetDefaultPixelValue(-1024.0)
    return sitk.GetArrayFromImage(change.Execute(image))


def with_monai(volume: Volume, spacing: tuple[float, float, float]) -> np.ndarray:
    """MONAI's Spacing, with the corner-aligned field it has by default."""
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    affine = torch.diag(torch.tensor([*volume.spacing, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.from_numpy(volume.array)[None], affine=affine)
    return Spacing(pixdim=spacing, mode="bilinear", padding_mode="border")(image)[0].numpy()


def resampling(repeats: int) -> None:
    """The first table."""
    rng = np.random.default_rng(0)
    affine = np.diag([-0.46875, -0.46875, 5.0, 1.0])
    volume = Volume(rng.normal(30, 20, (30, 512, 512)).astype(np.float32), affine)
    print("| to | strokelib, ms | SimpleITK, ms | MONAI, ms | SimpleITK / strokelib | MONAI / strokelib | apart, HU |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, spacing in (SPACINGS | UNEVEN).items():
        calls = {
            "ours": lambda s=spacing: resample(volume, s, antialias=False).array,
            "sitk": lambda s=spacing: with_sitk(volume, s),
            "monai": lambda s=spacing: with_monai(volume, s),
        }
        seconds: dict[str, list[float]] = {key: [] for key in calls}
        out = {}
        for _ in range(repeats):
            for key, call in calls.items():
                one, out[key] = timed(call)
                seconds[key].append(one)
        ms = {key: 1000 * float(np.median(values)) for key, values in seconds.items()}
        inner = tuple(slice(4, -4) for _ in range(3))
        apart = float(np.abs(out["ours"][inner] - out["sitk"][inner]).max())
        ratios = [float(np.median(np.divide(seconds[key], seconds["ours"]))) for key in ("sitk", "monai")]
        times = " | ".join(f"{ms[key]:.0f}" for key in ("ours", "sitk", "monai"))
        print(f"| {name} | {times} | {ratios[0]:.1f} | {ratios[1]:.1f} | {apart:.3f} |")


def mirror_registration(case: Case) -> tuple[np.ndarray, float]:
    """The plane that a rigid registration of the stripped head to its mirror image means: normal, distance, RAS mm."""
    brain = np.where(case.brain, np.clip(case.image.array, 0, 80), 0).astype(np.float32)
    spacing = np.array(case.image.spacing[::-1])
    origin = -(np.array(brain.shape[::-1]) - 1) / 2 * spacing
    image, mirrored = sitk.GetImageFromArray(brain), sitk.GetImageFromArray(np.ascontiguousarray(brain[:, :, ::-1]))
    for one in (image, mirrored):
        one.SetSpacing(spacing.tolist())
        one.SetOrigin(origin.tolist())
    search = sitk.ImageRegistrationMethod()
    search.SetMetricAsCorrelation()
    search.SetInterpolator(sitk.sitkLinear)
    search.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    search.SetOptimizerScalesFromPhysicalShift()
    search.SetShrinkFactorsPerLevel([4, 2, 1])
    search.SetSmoothingSigmasPerLevel([2, 1, 0])
    start = sitk.CenteredTransformInitializer(
        image, mirrored, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    search.SetInitialTransform(start, inPlace=True)
    search.Execute(image, mirrored)
    columns = [np.array(start.TransformPoint(p)) for p in np.vstack([np.zeros(3), np.eye(3)]).tolist()]
    flip = np.array([-1.0, 1.0, 1.0])
    shift = flip * columns[0]  # the mirror image of a point p of the head is S p + shift
    mirror = np.stack([flip * (c - columns[0]) for c in columns[1:]], axis=1)
    values, vectors = np.linalg.eigh((mirror + mirror.T) / 2)
    normal = vectors[:, values.argmin()]
    distance = normal @ shift / 2
    to_index = np.linalg.inv(case.image.affine)
    there = np.diag(spacing) @ to_index[:3, :3]  # RAS mm -> the registration's mm
    offset = origin + np.diag(spacing) @ to_index[:3, 3]
    ras = there.T @ normal
    return ras / np.linalg.norm(ras), float((distance - normal @ offset) / np.linalg.norm(ras))


def midline() -> None:
    """The second table."""
    find = preparation_errors.by_symmetry(roll=True)
    calls = {"strokelib": find, "SimpleITK": mirror_registration}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    errors: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for name in PLANE_HEADS:
        case = embedded.render(name, "published")
        for key, call in calls.items():
            one, plane = timed(lambda c=case, f=call: f(c))
            seconds[key].append(one)
            errors[key].append(preparation_errors.plane_errors(case, plane))
    print(f"\n{len(PLANE_HEADS)} embedded heads; median (largest).\n")
    print("| plane by | s a head | angle to the true plane, degrees | distance at the brain's centre, mm |")
    print("| --- | --- | --- | --- |")
    for key in calls:
        cells = [f"{np.median([e[k] for e in errors[key]]):.2f} ({max(e[k] for e in errors[key]):.2f})" for k in KEPT]
        print(f"| {key} | {np.median(seconds[key]):.2f} | {' | '.join(cells)} |")
    ratio = np.divide(seconds["SimpleITK"], seconds["strokelib"])
    print(f"\nSimpleITK / strokelib: {np.median(ratio):.1f} ({ratio.min():.1f} to {ratio.max():.1f}) times the time.")


def whole_scans(repeats: int) -> None:
    """The third table."""
    print("\n| scan | from file to prepared case, s (range) |")
    print("| --- | --- |")
    with TemporaryDirectory() as place:
        native = embedded.render(PLANE_HEADS[0], "native")
        file = write_nifti(native.image, Path(place) / "native.nii.gz")
        scans = {
            "real head CT, zipped DICOM": shipped.head_ct_archive(),
            f"embedded head, NIfTI of {' x '.join(map(str, native.image.array.shape))} voxels": file,
        }
        for name, path in scans.items():
            raw = RawCase("scan", "scan", "hidden", "plain", {"ct": Path(path)})
            seconds = [
                timed(lambda r=raw: realcase.prepare_case(r, "aisd", realcase.Choices()))[0] for _ in range(repeats)
            ]
            print(f"| {name} | {np.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}) |")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    resampling(count)
    midline()
    whole_scans(count)
