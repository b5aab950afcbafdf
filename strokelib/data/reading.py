"""Scans in, scans out: NIfTI and DICOM that nobody vouches for become a :class:`Volume` in LPS order, or a clear error.

Every refusal is a :class:`DataError` that names the file, what was found, what was wanted and what to do. The
checks of a NIfTI file are functions of their own; each takes the file's path and one thing, so that a corpus of
damaged files can aim at them one by one.
"""

from __future__ import annotations

import gzip
import io
import logging
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np

from strokelib.data.cases import Volume
from strokelib.data.dicom import convert_series
from strokelib.errors import DataError
from strokelib.repro import atomic_path

MAX_VOXELS = 2**30
MAX_RATIO = 200
RATIO_FREE_BYTES = 2**30
HEADER_BYTES = 544
SPARE_BYTES = 2**20
SPACING_RANGE_MM = (0.01, 100.0)
AIR_HU = -1024.0
_SUFFIXES = (".nii", ".nii.gz")
_LOG = logging.getLogger(__name__)


def _refuse(path: Path, found: object, wanted: str, next_step: str) -> DataError:
    return DataError(path.absolute().name, found=found, wanted=wanted, next_step=next_step)


def said(error: Exception) -> str:
    """An exception in words, without the path that the operating system adds to its own."""
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def open_plain(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where its name ends so."""
    return gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb")


def load_bytes(path: Path) -> bytes:
    """The whole file, unpacked to its very end, so that a cut or damaged gzip stream is noticed.

    No more is unpacked than the header announces and a MB, whatever the stream would grow to; and nothing of
    what would be over ``RATIO_FREE_BYTES`` long and packed more than ``MAX_RATIO`` fold.
    """
    if not path.name.endswith(_SUFFIXES):
        raise _refuse(path, f"the name {path.name!r}", "a .nii or .nii.gz file", "convert the scan to NIfTI first")
    try:
        with open_plain(path) as file:
            head = file.read(HEADER_BYTES)
            told = announced(head)
            if told is None:
                raise _refuse(path, f"{len(head)} bytes that are no header", "a NIfTI header", "export the scan again")
            if told[1] > MAX_VOXELS * 8 + SPARE_BYTES:
                wanted = f"up to {MAX_VOXELS} voxels"
                raise _refuse(path, f"a header of shape {told[0]}", wanted, "check where it comes from")
            if told[1] > max(MAX_RATIO * path.stat().st_size, RATIO_FREE_BYTES):
                found = f"{path.stat().st_size} bytes for {told[1]}"
                raise _refuse(path, found, f"packed at most {MAX_RATIO} fold", "check where it comes from")
            raw = head + file.read(max(0, told[1] - len(head)))
            rest = file.read(SPARE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _refuse(path, said(error), "an intact file", "copy it again") from error
    if rest:
        count = f"over {SPARE_BYTES}" if len(rest) > SPARE_BYTES else len(rest)
        step = "check where it comes from: the header may be damaged"
        raise _refuse(path, f"{count} bytes too many", f"the {told[1]} bytes that the header announces", step)
    return raw


def announced(head: bytes) -> tuple[tuple[int, ...], int] | None:
    """Axes (x, y, z, t, ...) and bytes of a NIfTI file by its own header; None where this is none."""
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0] if len(head) >= HEADER_BYTES // 2 else 0
        if size == 348 and len(head) >= 352:
            count, *sides = struct.unpack_from(f"{order}8h", head, 40)
            bits, offset = struct.unpack_from(f"{order}h", head, 72)[0], struct.unpack_from(f"{order}f", head, 108)[0]
        elif size == 540 and len(head) >= 544:
            count, *sides = struct.unpack_from(f"{order}8q", head, 16)
            bits, offset = struct.unpack_from(f"{order}h", head, 14)[0], struct.unpack_from(f"{order}q", head, 168)[0]
        else:
            continue
        if not 1 <= count <= 7 or not offset >= 0 or bits < 1 or offset > SPARE_BYTES:
            return None
        return tuple(sides[:count]), max(int(offset), 352) + math.prod(max(n, 1) for n in sides[:count]) * bits // 8
    return None


def parse(path: Path, raw: bytes) -> nib.Nifti1Image:
    """Header and (unread) voxels of a single-file NIfTI-1 or NIfTI-2."""
    kind = nib.Nifti2Image if raw[4:8] == b"n+2\0" else nib.Nifti1Image
    try:
        stored = kind.header_class.from_fileobj(io.BytesIO(raw), check=False)  # nibabel's checks would mend these
        if stored["sform_code"] == 0 and not (np.abs(stored["pixdim"][1:4]) > 0).all():
            raise ValueError(f"voxel sizes {stored['pixdim'][1:4].tolist()}")
        if np.isinf(stored["scl_slope"]):
            raise ValueError(f"a slope of {float(stored['scl_slope'])}")
        return kind.from_bytes(raw)
    except MemoryError:
        raise
    except Exception as error:
        raise _refuse(path, f"{type(error).__name__}: {error}", "a NIfTI header", "export the scan again") from error


def _check_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Three axes of one voxel or more; trailing axes of length 1 are dropped."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise _refuse(path, f"{len(shape)} axes {shape}", "3 axes", "save one 3-D volume a file")
    if min(shape) < 1 or np.prod(shape, dtype=float) > MAX_VOXELS:
        raise _refuse(path, f"shape {shape}", f"1 to {MAX_VOXELS} voxels", "export the scan again")
    return shape  # type: ignore[return-value]


def stated_affine(path: Path, image: nib.Nifti1Image) -> np.ndarray:
    """(4, 4) float64, index (x, y, z, 1) to RAS millimetres as the header has it; not yet checked."""
    try:
        return np.asarray(image.affine, np.float64)
    except (ValueError, ArithmeticError) as error:
        raise _refuse(path, f"{error}", "a valid qform", "export the scan again") from error


def check_affine(path: Path, header: nib.Nifti1Header, affine: np.ndarray, allow_unplaced: bool) -> None:
    """A finite, invertible affine in plausible millimetres, with a stated and uncontradicted orientation."""
    step = "write a valid sform or qform, e.g. by converting the DICOM series again"
    if not np.isfinite(affine).all():
        raise _refuse(path, "an affine with NaN or infinity", "finite numbers", step)
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    low, high = SPACING_RANGE_MM
    if not ((sizes >= low) & (sizes <= high)).all():
        raise _refuse(path, f"voxel sizes {np.round(sizes, 4).tolist()} mm", f"{low} to {high} mm", step)
    if abs(np.linalg.det(affine[:3, :3] / sizes)) < 0.1:
        raise _refuse(path, "an affine whose axes lie in one plane", "three independent axes", step)
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform == 0 and qform == 0 and not allow_unplaced:
        raise _refuse(path, "sform_code 0 and qform_code 0: left and right are unknown", "one of them above 0", step)
    if sform > 0 and qform > 0:
        try:
            codes = nib.aff2axcodes(header.get_sform()), nib.aff2axcodes(header.get_qform())
        except (ValueError, ArithmeticError) as error:
            raise _refuse(path, f"{error}", "a valid qform", step) from error
        if codes[0] != codes[1]:
            raise _refuse(path, f"sform {''.join(codes[0])} against qform {''.join(codes[1])}", "one orientation", step)


def whole_voxels(path: Path, image: nib.Nifti1Image, shape: tuple[int, ...]) -> np.ndarray:
    """The voxels, in the machine's byte order; scaled integers become float32."""
    if image.header.get_data_dtype().kind not in "iuf":
        raise _refuse(path, f"voxels of type {image.header.get_data_dtype()}", "integers or floats", "save it as int16")
    try:
        array = np.asanyarray(image.dataobj).reshape(shape)
    except MemoryError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise _refuse(path, found, f"{shape} voxels", "copy the file again: it is cut short") from error
    if image.header.get_data_dtype().kind in "iu" and array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
            array = array.astype(np.float32)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise _refuse(path, f"{bad} voxels NaN or infinite", "finite voxels", "export it again or fill them yourself")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def to_lps(array_xyz: np.ndarray, affine: np.ndarray) -> Volume:
    """Turn an array in any axis order into a Volume, by flips and transposes only: no voxel value changes.

    Args:
        array_xyz: (X, Y, Z) as NIfTI stores it.
        affine: (4, 4), index to RAS millimetres; may be oblique or sheared.

    Returns:
        (D, H, W), each axis along the anatomical axis it is closest to.
    """
    wanted = nib.orientations.axcodes2ornt("LPS")
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)
    turned = nib.orientations.apply_orientation(array_xyz, turn)
    moved = affine @ nib.orientations.inv_ornt_aff(turn, array_xyz.shape)
    return Volume(np.ascontiguousarray(turned.transpose(2, 1, 0)), np.asarray(moved, np.float64))


def read_nifti(path: str | os.PathLike, *, allow_unplaced: bool = False) -> Volume:
    """Read one 3-D NIfTI file and turn it to LPS order.

    Args:
        path: A .nii or .nii.gz file.
        allow_unplaced: Accept a file that states no orientation and take NIfTI's fallback (left-right is then a guess).

    Returns:
        (D, H, W) in LPS order; integers stay as stored, scaled integers become float32.

    Raises:
        DataError: The file is missing, cut short or damaged; not 3-D; empty; holds NaN or infinity; its affine is
            not usable.
    """
    path = Path(path)
    if not path.is_file():
        raise _refuse(path, "no such file", "a NIfTI file", "check the path")
    image = parse(path, load_bytes(path))
    shape = _check_shape(path, image.shape)
    affine = stated_affine(path, image)
    check_affine(path, image.header, affine, allow_unplaced)
    return to_lps(whole_voxels(path, image, shape), affine)


def read_dicom(path: str | os.PathLike, *, series: int | None = None, timeout_s: float = 120.0) -> Volume:
    """Read one DICOM series of CT from a folder or a zip archive: untilted, evenly spaced, in HU.

    What was chosen and why goes to the log; :func:`read_dicom_report` returns it.

    Args:
        path: Folder or .zip file that holds one CT series, or several with ``series`` given.
        series: Series number, needed where several series qualify.
        timeout_s: Limit for the conversion, in seconds.

    Returns:
        (D, H, W) float32 in LPS order, HU, -1024 outside the field.

    Raises:
        DataError: No series, several series, a series that cannot be untilted, an archive that is not safe, a
            conversion that fails.
    """
    return read_dicom_report(path, series=series, timeout_s=timeout_s)[0]


def read_dicom_report(
    path: str | os.PathLike, *, series: int | None = None, timeout_s: float = 120.0
) -> tuple[Volume, dict[str, object]]:
    """As :func:`read_dicom`, with a report: file chosen, ``why``, tilt in degrees, uneven slices."""
    path = Path(path)
    with convert_series(path, series=series, timeout_s=timeout_s) as (file, report):
        try:
            volume = read_nifti(file)
        except DataError as error:
            raise _refuse(path, error.found, error.wanted, error.next_step) from error
    axes = volume.affine[:3, :3] / np.sqrt((volume.affine[:3, :3] ** 2).sum(axis=0))
    skew = float(np.abs(axes.T @ axes - np.eye(3)).max())
    if skew > 1e-3:
        found = f"slices still sheared by {np.degrees(np.arcsin(min(skew, 1.0))):.1f} degrees"
        raise _refuse(path, found, "a corrected gantry tilt", "export the series without missing slices")
    _LOG.info("%s: %s", report["chosen"], report["why"])
    return Volume(np.maximum(volume.array.astype(np.float32), AIR_HU), volume.affine), report


def write_nifti(volume: Volume, path: str | os.PathLike) -> Path:
    """Write a volume as NIfTI-1, atomically, with no free text in the header; the same volume gives the same bytes.

    bool becomes uint8; 64-bit integers become int32. The affine is stored in float32, as NIfTI-1 does.

    Args:
        volume: Any grid, also an oblique or sheared one (then only the sform is set).
        path: A .nii or .nii.gz file.

    Returns:
        The path.

    Raises:
        DataError: Another suffix, another number of axes, or integers beyond 32 bits.
    """
    path = Path(path)
    if not path.name.endswith(_SUFFIXES):
        raise _refuse(path, f"the name {path.name!r}", "a .nii or .nii.gz file", "choose another name")
    _check_shape(path, volume.array.shape)
    array = volume.array.astype(np.uint8) if volume.array.dtype == bool else volume.array
    if array.dtype in (np.int64, np.uint64):
        if array.min() < -(2**31) or array.max() >= 2**31:
            raise _refuse(path, "integers beyond 32 bits", "at most 32 bits", "cast the array first")
        array = array.astype(np.int32)
    image = nib.Nifti1Image(array.transpose(2, 1, 0), volume.affine)
    axes = volume.affine[:3, :3] / np.sqrt((volume.affine[:3, :3] ** 2).sum(axis=0))
    image.set_sform(volume.affine, code=1)
    image.set_qform(volume.affine, code=1 if np.allclose(axes.T @ axes, np.eye(3), atol=1e-4) else 0)
    return save_image(image, path)


def save_image(image: nib.Nifti1Image, path: Path) -> Path:
    """Write an image in mm, atomically, without free text in its header; the same image gives the same bytes."""
    image.header.set_xyzt_units("mm")
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[name] = b""
    raw = image.to_bytes()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(raw, 1, mtime=0) if path.name.endswith(".gz") else raw)
    return path
