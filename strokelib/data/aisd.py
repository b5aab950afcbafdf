"""AISD's masks, drawn on the slices as scanned, brought onto the CT as it is read: without gantry tilt, slices even.

The masks are 8-bit PNG files with the values 0 to 5, one for each slice; a viewer stretches 0 to 255 and shows them
black. They hold no geometry: that of the DICOM slices is theirs. Slice n of a tilted series starts elsewhere than
slice n + 1, so the stack is sheared and not a grid of :mod:`strokelib.data.grids`; each voxel takes the label of the
pixel that lies nearest to it along the slices' normal.

Which PNG belongs to which DICOM file is not documented by the data set. Loaders in use take 000.png for the first
slice in the order of GDCM, which sorts by position along the slices' normal; so does this module, and it says where
the reverse order would fit the image better.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from strokelib.data.cases import Volume
from strokelib.data.sources import AISD_POLICIES
from strokelib.errors import DataError, ParameterError

VERSION = 1
LABELS = {1: "remote", 2: "clear acute", 3: "blurred acute", 4: "invisible acute (MRI only)", 5: "general infarct"}
TISSUE_HU = (-20.0, 100.0)
CLEARLY = 0.1
PROBES = 5
HEAD_ABOVE_HU = -200.0
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
LARGEST_DIFFERENCE_HU = 40.0
_TAGS = {"position": "0020|0032", "orientation": "0020|0037", "pixel": "0028|0030"}


class Note(TypedDict):
    """Something worth a look; the labels are usable."""

    found: str
    wanted: str
    next_step: str


@dataclass(frozen=True)
class Slices:
    """Slices of one series where the scanner put them, from the lowest along their normal to the highest.

    Args:
        files: DICOM files.
        origins: (N, 3) centre of each slice's first pixel, LPS mm.
        row: (3,) unit vector along which the column index grows.
        column: (3,) unit vector along which the row index grows.
        pixel_mm: (dy, dx).
        shape: (H, W).
    """

    files: tuple[Path, ...]
    origins: np.ndarray
    row: np.ndarray
    column: np.ndarray
    pixel_mm: tuple[float, float]
    shape: tuple[int, int]

    @property
    def normal(self) -> np.ndarray:
        """(3,) unit vector across the slices, LPS."""
        return np.cross(self.row, self.column)

    @property
    def heights(self) -> np.ndarray:
        """(N,) mm along the normal, increasing."""
        return self.origins @ self.normal

    @property
    def tilt_deg(self) -> float:
        """Angle between the way from slice to slice and the slices' normal, 0 to 90 degrees."""
        way = self.origins[-1] - self.origins[0]
        return float(np.degrees(np.arccos(np.clip(way @ self.normal / np.linalg.norm(way), -1.0, 1.0))))


def read_slices(folder: str | os.PathLike, count: int) -> Slices:
    """Positions of the slices of the series with ``count`` images, in the order of GDCM.

    Args:
        folder: Folder of DICOM files.
        count: Number of images wanted.

    Raises:
        DataError: No or several such series, a header that is damaged, slices that are not parallel or coincide.
    """
    import SimpleITK as sitk

    folder, reader = Path(folder), sitk.ImageSeriesReader
    series = [reader.GetGDCMSeriesFileNames(str(folder), uid) for uid in reader.GetGDCMSeriesIDs(str(folder))]
    fitting = [files for files in series if len(files) == count]
    if len(fitting) != 1 or count < 2:
        found = f"series of {', '.join(str(len(files)) for files in series) or 'no'} images"
        raise _refuse(folder, found, f"one of {count} images, as many as PNG masks", "unpack both archives again")
    heads = [_header(Path(file)) for file in fitting[0]]
    shapes, stated = {shape for shape, _ in heads}, np.array([values for _, values in heads])
    origins, row, column, (dy, dx) = stated[:, :3], stated[0, 3:6], stated[0, 6:9], stated[0, 9:].tolist()
    slices = Slices(tuple(Path(file) for file in fitting[0]), origins, row, column, (dy, dx), min(shapes))
    parallel = len(shapes) == 1 and np.abs(stated[:, 3:] - stated[0, 3:]).max() < 1e-3
    if not parallel or not np.isclose(np.linalg.norm(slices.normal), 1.0, atol=1e-3):
        raise _refuse(folder, "slices of several directions or sizes", "parallel slices", "leave the case out")
    if np.diff(slices.heights).min() < 0.01:
        raise _refuse(folder, "two slices in one place", "one image a slice", "remove the repeated images")
    return slices


def _header(file: Path) -> tuple[tuple[int, int], list[float]]:
    """(H, W), and position, orientation and pixel size in one list of eleven numbers."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    try:
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        stated = {name: [float(v) for v in reader.GetMetaData(tag).split("\\")] for name, tag in _TAGS.items()}
    except (RuntimeError, ValueError) as error:
        raise _refuse(file, "no position, orientation or pixel size", "a DICOM slice", "unpack it again") from error
    values = [value for part in stated.values() for value in part]
    if len(values) != 11 or not np.isfinite(values).all() or min(stated["pixel"]) <= 0:
        raise _refuse(file, f"geometry {stated}", "finite numbers: 3, 6 and 2", "unpack it again")
    width, height = reader.GetSize()[:2]
    return (height, width), values


def _refuse(path: Path, found: str, wanted: str, next_step: str) -> DataError:
    return DataError(path.absolute().name, found=found, wanted=wanted, next_step=next_step)


def read_pictures(masks: str | os.PathLike, largest: int = 5) -> np.ndarray:
    """The PNG masks of a case, by number.

    Args:
        masks: Folder with 000.png, 001.png, ...
        largest: Largest value that may occur; 255 for pictures of the CT.

    Returns:
        (N, H, W) uint8.

    Raises:
        DataError: No picture, a gap in the numbers, a damaged one, several sizes, colours, other labels.
    """
    from PIL import Image

    masks, pictures = Path(masks), []
    files = [file for file in masks.glob("*.png") if not file.name.startswith(".")]
    numbers = sorted(int(file.stem) if file.stem.isdecimal() else -1 for file in files)
    if not files or numbers != list(range(numbers[0], numbers[0] + len(files))) or numbers[0] < 0:
        raise _refuse(masks, f"{len(files)} PNG files", "000.png, 001.png, ... without a gap", "unpack them again")
    for file in sorted(files, key=lambda file: int(file.stem)):
        try:
            with Image.open(file) as opened:
                mode, picture = opened.mode, np.asarray(opened)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _refuse(file, type(error).__name__, "an intact PNG file", "unpack the archive again") from error
        if mode not in ("L", "P", "1") or picture.max(initial=0) > largest:
            found = f"mode {mode}, values up to {picture.max(initial=0)}"
            raise _refuse(
                file, found, f"8-bit values of 0 to {largest}", "take the mask archive, not the image archive"
            )
        pictures.append(picture.astype(np.uint8))
    if len({picture.shape for picture in pictures}) != 1:
        raise _refuse(masks, "pictures of several sizes", "one size", "unpack the mask archive again")
    return np.stack(pictures)


def nearest_pixels(slices: Slices, volume: Volume) -> np.ndarray:
    """For each voxel of a volume the pixel that lies nearest: in the nearest slice along the normal, then within it.

    Args:
        slices: Where the pixels lie.
        volume: Whose voxels are asked about; any grid.

    Returns:
        (D, H, W) int32 on the volume's grid: place in the flattened (N, H, W) slices; -1 beyond their field, which ends
        half a slice distance above and below.
    """
    lps = RAS_TO_LPS @ volume.affine
    (dy, dx), (rows, columns), heights = slices.pixel_mm, slices.shape, slices.heights
    axes = np.stack([slices.row / dx, slices.column / dy, slices.normal])
    linear, constant = axes @ lps[:3, :3], axes @ lps[:3, 3]
    starts, gaps = slices.origins @ axes[:2].T, np.diff(heights)
    edges = np.concatenate([[heights[0] - gaps[0] / 2], heights[:-1] + gaps / 2, [heights[-1] + gaps[-1] / 2]])
    y, x = np.ogrid[: volume.array.shape[1], : volume.array.shape[2]]
    nearest = np.empty(volume.array.shape, np.int32)
    for z in range(len(nearest)):
        across, down, up = (a[0] * x + a[1] * y + a[2] * z + c for a, c in zip(linear, constant, strict=True))
        k = np.searchsorted(edges, up, side="right") - 1
        inside = (k >= 0) & (k < len(heights))
        k = np.where(inside, k, 0)
        i, j = np.rint(down - starts[k, 1]).astype(int), np.rint(across - starts[k, 0]).astype(int)
        inside &= (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
        nearest[z] = np.where(inside, (k * rows + i) * columns + j, -1)
    return nearest


def aisd_labels(masks: str | os.PathLike, ct_folder: str | os.PathLike, volume: Volume) -> np.ndarray:
    """(D, H, W) uint8: the labels alone; arguments and errors are those of :func:`aisd_labels_report`."""
    return aisd_labels_report(masks, ct_folder, volume)[0]


def aisd_labels_report(
    masks: str | os.PathLike, ct_folder: str | os.PathLike, volume: Volume
) -> tuple[np.ndarray, dict[str, Any]]:
    """AISD's labels on the grid of the CT, with a report.

    Args:
        masks: Folder ``mask/<id>``, which holds 000.png, 001.png, ...
        ct_folder: Folder ``dicom-<k>/<id>/CT``.
        volume: What :func:`strokelib.data.reading.read_dicom` gave for that folder.

    Returns:
        (D, H, W) uint8 with 0 to 5 (:data:`LABELS`), and ``volume_ml`` (label -> mL on this grid), ``mri_only_ml``
        (label 4), ``order``, ``tilt_deg`` (by the slices' positions), ``share_tissue`` and ``share_tissue_reversed``
        (labelled voxels within :data:`TISSUE_HU` in the order used and in the reverse; None without a label),
        ``difference_hu`` (median between the CT's own slices, moved as the masks were, and the volume), and ``notes``
        (a list of :class:`Note`).

    Raises:
        DataError: Masks and slices do not fit each other, a file is damaged, or the volume is of another series.
    """
    pictures = read_pictures(masks)
    slices = read_slices(ct_folder, len(pictures))
    if pictures.shape[1:] != slices.shape:
        raise _refuse(Path(masks), f"pictures of {pictures.shape[1:]}", f"{slices.shape}", "take this case's masks")
    nearest = nearest_pixels(slices, volume)
    difference_hu = _difference_hu(slices, nearest, volume)
    if not difference_hu <= LARGEST_DIFFERENCE_HU:
        found = f"a volume that differs from the slices by {difference_hu:.0f} HU"
        raise _refuse(Path(ct_folder), found, "the volume read from this folder", "read it with read_dicom")
    labels, turned = (np.where(nearest < 0, np.uint8(0), p.ravel()[nearest]) for p in (pictures, pictures[::-1]))
    share, reverse = _share_tissue(labels, volume), _share_tissue(turned, volume)
    notes = []
    if share is not None and (reverse or 0.0) > share + CLEARLY:
        found = f"{share:.0%} of the labels on tissue, {reverse:.0%} in reverse"
        step = "look at the case: are the masks in the reverse order?"
        notes.append(Note(found=found, wanted="the other way round", next_step=step))
    volume_ml = {label: float((labels == label).sum()) * volume.voxel_ml for label in LABELS}
    return labels, {
        "volume_ml": volume_ml,
        "mri_only_ml": volume_ml[4],
        "order": f"000.png is the {'lowest' if slices.normal[2] > 0 else 'highest'} slice",
        "tilt_deg": slices.tilt_deg,
        "share_tissue": share,
        "share_tissue_reversed": reverse,
        "difference_hu": difference_hu,
        "notes": notes,
    }


def _share_tissue(labels: np.ndarray, volume: Volume) -> float | None:
    values = volume.array[labels > 0]
    return float(((values >= TISSUE_HU[0]) & (values <= TISSUE_HU[1])).mean()) if values.size else None


def _difference_hu(slices: Slices, nearest: np.ndarray, volume: Volume) -> float:
    """Median difference in the head between the CT's own slices, moved as the masks are, and the volume; NaN apart."""
    import SimpleITK as sitk

    lps = RAS_TO_LPS @ volume.affine
    depth, height, width = volume.array.shape
    centres = np.array([[(width - 1) / 2, (height - 1) / 2, z, 1.0] for z in range(depth)]) @ lps[:3].T
    apart = np.abs((centres @ slices.normal)[:, None] - slices.heights)
    chosen = np.argsort(apart.min(axis=1), kind="stable")[:PROBES]
    values = np.full((len(slices.files), *slices.shape), np.nan, np.float32)
    for k in np.unique(apart[chosen].argmin(axis=1)):
        try:
            values[k] = sitk.GetArrayFromImage(sitk.ReadImage(str(slices.files[k]))).reshape(slices.shape)
        except (RuntimeError, ValueError) as error:
            raise _refuse(slices.files[k], "pixels that cannot be read", "a DICOM slice", "unpack it again") from error
    head = (volume.array[chosen] > HEAD_ABOVE_HU) & (nearest[chosen] >= 0)
    differences = np.abs(values.ravel()[nearest[chosen]] - volume.array[chosen])[head]
    return float(np.nanmedian(differences)) if np.isfinite(differences).any() else float("nan")


def lesion_of(labels: np.ndarray, policy: str = "official") -> np.ndarray:
    """Which labels are lesion.

    Args:
        labels: Any shape, 0 to 5.
        policy: A key of :data:`strokelib.data.sources.AISD_POLICIES`: ``official`` leaves out label 4, which is seen on
            MR alone; ``every non-zero`` takes it in.

    Returns:
        bool, same shape.

    Raises:
        ParameterError: An unknown policy.
        DataError: Another label.
    """
    if policy not in AISD_POLICIES:
        raise ParameterError("policy", found=policy, wanted=" or ".join(AISD_POLICIES), next_step="give one of these")
    if not np.isin(labels, (0, *LABELS)).all():
        found = np.unique(labels)[:8].tolist()
        raise DataError("AISD labels", found=found, wanted="0 to 5", next_step="take the mask archive")
    return np.isin(labels, AISD_POLICIES[policy])
