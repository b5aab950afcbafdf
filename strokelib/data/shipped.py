"""The real data that strokelib ships: infarct masks, CT atlas, a CT brain, a head CT, territories and perfusion curves.

Every file is compared with its checksum in ``data_manifests/assets.csv`` the first time a process reads it. Sources,
licences and citations stand in that ledger and beside the files in ``strokelib/assets/``. Nothing here is the data of
the four papers.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from strokelib import manifest
from strokelib.data.cases import Volume
from strokelib.data.mask_library import MaskLibrary, pack
from strokelib.data.reading import read_nifti, to_lps
from strokelib.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

INFARCTS = "soop/infarcts.bin.xz"
CT_ATLAS = {
    "scct": "scct.nii.gz",
    "scct_stripped": "scct_stripped.nii.gz",
    "scgrey": "scgrey.nii.gz",
    "scwhite": "scwhite.nii.gz",
    "sccsf": "sccsf.nii.gz",
    "ct_stripped_hu": "ct_stripped_hu_2mm.nii.gz",
}
PROBABILITIES = ("scgrey", "scwhite", "sccsf")
ICBM_BRAIN = ("grey", "white", "brain")
ONE_SIDED = 0.9
MAJOR = ("ACA", "MCA", "PCA", "VB", "LV")
COVARIATES = {
    "age": "age",
    "sex": "sex",
    "nihss": "nihss",
    "priorstroke": "prior_stroke",
    "bmi": "bmi",
    "gs_rankin_6isdeath": "rankin",
}


@cache
def _library(path: Path) -> MaskLibrary:
    return MaskLibrary(path)


def _infarcts() -> MaskLibrary:
    return _library(manifest.asset(INFARCTS))


def infarct_ids() -> tuple[str, ...]:
    """The 1,449 patients with an infarct mask, sorted by number: ``sub-2``, ``sub-3``, ..."""
    return _infarcts().patients


def infarct_nifti(patient: str) -> tuple[np.ndarray, np.ndarray]:
    """One infarct mask exactly as its NIfTI file held it.

    Args:
        patient: Such as ``sub-1000``.

    Returns:
        (157, 189, 136) array (x, y, z) of 0 and 1, uint8 or (two patients) int16; and the (4, 4) affine to RAS
        millimetres in MNI space.

    Raises:
        DataError: No such patient.
        ManifestError: The file is missing or damaged.
    """
    return _infarcts().array(patient), _infarcts().affine.copy()


def infarct(patient: str) -> Volume:
    """One infarct mask in LPS order, 1 mm voxels, MNI space.

    Args:
        patient: Such as ``sub-1000``.

    Returns:
        (136, 189, 157) bool.

    Raises:
        DataError: No such patient.
        ManifestError: The file is missing or damaged.
    """
    library = _infarcts()
    return to_lps(library.array(patient, order="F") > 0, library.affine)


@cache
def _participants(table: Path, volumes: Path) -> pd.DataFrame:
    import pandas as pd

    known = pd.read_csv(table, sep="\t", na_values=["n/a"], index_col="participant_id")[list(COVARIATES)]
    known["age"] = known["age"].str.rstrip("+").astype(float)
    measured = pd.read_csv(volumes)
    measured.index = "sub-" + measured["id"].astype(str)
    rows = pd.DataFrame(index=pd.Index(infarct_ids(), name="patient")).join(known.rename(columns=COVARIATES))
    rows["volume_ml"] = measured["vox"] / 1000.0
    rows["left_share"] = measured["left"]
    rows["side"] = np.select(
        [rows["left_share"] >= ONE_SIDED, rows["left_share"] <= 1 - ONE_SIDED], ["left", "right"], "both"
    )
    return rows


def participants() -> pd.DataFrame:
    """Covariates of the patients with a mask; what the source leaves out stays missing (NaN).

    Returns:
        1,449 rows indexed by ``patient``: ``age`` in years (89 stands for 89 and older), ``sex`` (M, F), ``nihss``,
        ``prior_stroke`` (0, 1), ``bmi``, ``rankin`` (modified Rankin scale, 6 is death), ``volume_ml``, ``left_share``
        (part of the infarct left of the midline) and ``side``: left or right where 90 % of the infarct or more lies
        there, else both. 944 patients have an NIHSS; 184 have no row in the source at all.
    """
    return _participants(manifest.asset("soop/participants.tsv"), manifest.asset("soop/lesion_volumes_mm3.csv")).copy()


@cache
def _artery_shares(path: Path) -> pd.DataFrame:
    import pandas as pd

    table = pd.read_csv(path, sep="\t", index_col="participant_id").drop(columns="lesion_volume").rename_axis("patient")
    table.columns = [int(name.partition("_")[0]) for name in table.columns]
    return table.loc[list(infarct_ids())]


def artery_shares() -> pd.DataFrame:
    """Injured share of each arterial territory.

    Returns:
        1,449 rows indexed by ``patient``; columns 1 to 31 are the labels of :func:`territories` (the source has no
        column 32); values 0 to 1.
    """
    return _artery_shares(manifest.asset("soop/artery.tsv")).copy()


@cache
def _nifti(path: Path) -> Volume:
    volume = read_nifti(path)
    volume.array.setflags(write=False)
    return volume


def ct_atlas(name: str) -> Volume:
    """One volume of the CT atlas of Rorden et al. 2012 in LPS order: 91 x 109 x 91 voxels of 2 mm, MNI space.

    Args:
        name: ``scct`` (head template) or ``scct_stripped`` (its brain), both in Cormack units; ``scgrey``, ``scwhite``,
            ``sccsf`` (tissue probabilities); ``ct_stripped_hu`` (brain in HU, 0 outside; as its source has it, it lies
            8 HU above what :func:`cormack_to_hu` makes of ``scct_stripped``).

    Returns:
        (91, 109, 91) float32 (``scct_stripped``: int16), read-only; probabilities lie in 0 to 1 (the source's scale
        exceeds 1 by 3e-7 and is cut).

    Raises:
        ParameterError: Another name.
    """
    if name not in CT_ATLAS:
        wanted = ", ".join(CT_ATLAS)
        raise ParameterError("CT atlas volume", found=repr(name), wanted=wanted, next_step="give one of these names")
    volume = _nifti(manifest.asset(f"ct_atlas/{CT_ATLAS[name]}"))
    return volume.with_array(np.clip(volume.array, 0.0, 1.0)) if name in PROBABILITIES else volume


def icbm_brain(name: str) -> Volume:
    """One volume of the symmetric brain of young adults, ICBM 2009a, on the CT atlas' grid.

    Args:
        name: ``grey``, ``white`` (tissue probabilities) or ``brain`` (share of brain).

    Returns:
        (91, 109, 91) float32 in 0 to 1, LPS order.

    Raises:
        ParameterError: Another name.
    """
    if name not in ICBM_BRAIN:
        wanted = ", ".join(ICBM_BRAIN)
        raise ParameterError("ICBM volume", found=repr(name), wanted=wanted, next_step="give one of these names")
    volume = _nifti(manifest.asset(f"icbm_brain/icbm2009a_sym_{name}_2mm.nii.gz"))
    return volume.with_array(volume.array.astype(np.float32) / np.float32(255))


def cormack_to_hu(array: np.ndarray) -> np.ndarray:
    """Turn Cormack units, which stretch the range of brain tissue, back into Hounsfield units.

    Source: Rorden et al., NeuroImage 61:957 (2012), the transform of the Clinical toolbox.
    Deviation: none.

    c - 1024 up to 900; (c - 900) / 11 - 124 up to 3100; c - 3024 above.

    Args:
        array: Any shape, Cormack units.

    Returns:
        Same shape, float32, HU.
    """
    c = np.asarray(array, np.float32)
    return np.where(c <= 900, c - 1024, np.where(c <= 3100, (c - 900) / 11 - 124, c - 3100 + 76)).astype(np.float32)


def ct_brain() -> Volume:
    """A real CT brain, skull-stripped, in its own space: best source of noise and texture.

    Returns:
        (179, 202, 202) int16 in HU, LPS order, 1 mm voxels, read-only.
    """
    return _nifti(manifest.asset("ct_brain/ct_brain_atlas_1mm.nii.gz"))


def head_ct_archive() -> Path:
    """A zip archive of one real head CT: 17 DICOM slices, de-identified. It is unlabelled: no diagnosis, no score."""
    return manifest.asset("head_ct_ge/head_ct_ge_dicom.zip")


@cache
def _territory_names(path: Path) -> pd.DataFrame:
    import pandas as pd

    rows = pd.read_csv(path, sep="|", header=None, names=["label", "code", "name", "group"], index_col="label")
    rows["side"] = np.where(rows.index % 2 == 1, "left", "right")
    rows["code"] = rows["code"].str.slice(stop=-1) + rows["side"].str[0].str.upper()
    rows["name"] = rows["name"].str.replace("anteior", "anterior").str.replace(r" (left|right)$", "", regex=True)
    rows["major"] = [MAJOR[(group - 1) // 2] for group in rows.pop("group")]
    return rows


def territories() -> tuple[Volume, pd.DataFrame]:
    """Arterial territories on the grid of the infarct masks; a work of its own under CC BY-SA 4.0.

    Returns:
        Labels 0 to 32 (136, 189, 157), int16, LPS order, read-only; and a table indexed by ``label`` with ``code``,
        ``name``, ``side`` (odd labels are left) and ``major`` (ACA, MCA, PCA, VB, LV = lateral ventricle). Slips in
        the source's names are mended.
    """
    names = _territory_names(manifest.asset("territories/ArterialAtlas136.txt"))
    return _nifti(manifest.asset("territories/ArterialAtlas136.nii.gz")), names.copy()


@cache
def _perfusion_curves(path: Path) -> pd.DataFrame:
    import pandas as pd

    table = pd.read_csv(path)
    table["values"] = [np.array(text.split(), np.float64) for text in table["values"]]
    for values in table["values"]:
        values.setflags(write=False)
    return table


def perfusion_curves() -> pd.DataFrame:
    """Arterial (``aif``) and venous (``vof``) curves of 156 cases of ISLES 2018.

    Units and time step are not stated: use the shapes.

    Returns:
        312 rows: ``case``, ``patient``, ``split`` (of the challenge), ``curve``, ``values`` (read-only float64 array
        of 28 to 43 frames).
    """
    return _perfusion_curves(manifest.asset("perfusion_curves/isles2018_aif_vof.csv")).copy()


def pack_infarcts(source: str | os.PathLike, target: str | os.PathLike) -> Path:
    """Make the mask file anew from the original NIfTI masks (a folder or a tar archive).

    The decompressed content is the same wherever this runs; the compressed bytes depend on the version of liblzma.
    """
    return pack(source, target)
