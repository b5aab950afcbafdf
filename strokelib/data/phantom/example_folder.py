"""A folder as a user might have it: a real head CT as zipped DICOM, embedded heads as NIfTI, and one damaged file."""

from __future__ import annotations

import shutil
from pathlib import Path

from strokelib import repro
from strokelib.data import shipped
from strokelib.data.cases import Volume
from strokelib.data.phantom import embedded
from strokelib.data.reading import write_nifti

HEADS = ("aisd-0372", "aisd-0376", "aisd-0351")
KEPT_BYTES = 20_000


def write(folder: str | Path) -> Path:
    """Write the folder where it is not there yet.

    ``real_head.zip`` is the shipped scan; ``embedded_<n>.nii.gz`` are test heads of 5 x 1.2 x 1.2 mm, as int16 HU,
    with ``embedded_<n>_mask.nii.gz`` beside all but the last; ``cut_short.nii.gz`` ends after 20,000 bytes.

    Args:
        folder: Made as a whole or not at all.

    Returns:
        The folder.
    """

    def build(partial: Path) -> None:
        shutil.copyfile(shipped.head_ct_archive(), partial / "real_head.zip")
        for number, name in enumerate(HEADS, 1):
            case = embedded.render(name, "published")
            scan = write_nifti(case.image, partial / f"embedded_{number}.nii.gz")
            if number < len(HEADS):
                write_nifti(Volume(case.lesion, case.image.affine), partial / f"embedded_{number}_mask.nii.gz")
        (partial / "cut_short.nii.gz").write_bytes(scan.read_bytes()[:KEPT_BYTES])

    return repro.once(folder, build)
