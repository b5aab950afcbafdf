"""Preparation of an NCCT and its MR as Seia et al. 2023 describe it, steps a to e, on 1 mm cubes.

The step that undoes the gantry's tilt belongs to the reader of DICOM files; a NIfTI file with sheared axes is set
upright here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokelib.data.cases import Volume
from strokelib.data.contralateral import FLIP, atlas_brain, clipped, contralateral_image, refined_mirror
from strokelib.data.grids import AIR_HU, rectify, resample
from strokelib.data.mr_to_ct import RegisteredMR, mr_brain_mask, mr_to_ct
from strokelib.data.registration import register_affine
from strokelib.data.skullstrip import skull_strip
from strokelib.ssl_nnunet.preparation_figure import Shot

VERSION = 1
CUBE_MM = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class PreparedPair:
    """What each step made of one CT and its MR.

    Args:
        ct_raw: As scanned, in HU.
        mr_raw: As scanned.
        mask_raw: (D, H, W) bool on ``mr_raw``, what a reader drew.
        ct: Step a, 1 mm.
        mr: Step a, 1 mm.
        mask: (D, H, W) bool on ``mr``.
        brain: Step b, (D, H, W) bool on ``ct``.
        mr_brain: Step b, (D, H, W) bool on ``mr``.
        registered: Step c: the MR, its brain and the mask on the CT's grid.
        to_atlas: Step d, (4, 4), RAS mm of the CT to those of the CT atlas.
        contralateral: Step d, on the CT's grid.
    """

    ct_raw: Volume
    mr_raw: Volume
    mask_raw: np.ndarray
    ct: Volume
    mr: Volume
    mask: np.ndarray
    brain: np.ndarray
    mr_brain: np.ndarray
    registered: RegisteredMR
    to_atlas: np.ndarray
    contralateral: Volume

    @property
    def ct_brain(self) -> Volume:
        """Step b: the brain alone, -1024 HU elsewhere."""
        return self.ct.with_array(np.where(self.brain, self.ct.array, AIR_HU).astype(np.float32))

    @property
    def result(self) -> tuple[Volume, Volume]:
        """Step e: CT and contralateral image, cut to -100 to 400 HU."""
        return clipped(self.ct_brain), clipped(self.contralateral)

    def shots(self) -> dict[str, Shot]:
        """The pictures of Fig. 1, all through the slice that shows most of the infarct."""
        z = int(self.registered.mask.sum(axis=(1, 2)).argmax())
        at, middle = self._centre(self.brain[z : z + 1], z), self._centre(self.brain, 0)
        in_mr, in_atlas = ((way @ np.append(at, 1))[:3] for way in (self.registered.registration.matrix, self.to_atlas))
        stripped, (ct, contralateral) = self.ct_brain, self.result
        mr_brain = self.mr.with_array(np.where(self.mr_brain, self.mr.array, 0))
        on_ct = self.registered.image.with_array(np.where(self.registered.brain, self.registered.image.array, 0))
        return {
            "mr_raw": Shot(self.mr_raw, in_mr, self.mask_raw),
            "mr_1mm": Shot(self.mr, in_mr, self.mask),
            "mr_brain": Shot(mr_brain, in_mr, self.mask),
            "mr_on_ct": Shot(on_ct, at, self.registered.mask),
            "mask_on_ct": Shot(stripped, at, self.registered.mask),
            "ct_raw": Shot(self.ct_raw, at),
            "ct_1mm": Shot(self.ct, at),
            "ct_brain": Shot(stripped, at),
            "ct_clipped": Shot(ct, at),
            "ct_raw_coronal": Shot(self.ct_raw, middle),
            "ct_1mm_coronal": Shot(self.ct, middle),
            "atlas": Shot(atlas_brain()[0], in_atlas),
            "contralateral": Shot(self.contralateral, at),
            "contralateral_clipped": Shot(contralateral, at),
        }

    def _centre(self, mask: np.ndarray, first: int) -> np.ndarray:
        """(x, y, z) in RAS mm of the middle of a mask whose first slice is the CT's slice ``first``."""
        index = np.argwhere(mask)
        z, y, x = (index.min(axis=0) + index.max(axis=0)) / 2
        return (self.ct.affine @ [x, y, z + first, 1])[:3]


def prepare_pair(ct: Volume, mr: Volume, mask: np.ndarray, *, seed: int = 0) -> PreparedPair:
    """Steps a to e for one CT and its MR.

    Source: section 3.2 and Fig. 1, Seia et al. 2023.
    Deviation: classical brain masks in place of SynthSR and SynthStrip, SimpleITK in place of elastix, and where voxels
        grow they are averaged; masks are moved by nearest neighbour, as published.

    Args:
        ct: Non-contrast head CT in HU.
        mr: DWI or ADC map of the same patient.
        mask: (D, H, W) bool on the MR's grid.
        seed: Seed of the registrations.

    Raises:
        DataError: A brain cannot be found, or a registration is implausible.
    """
    cubes = resample(rectify(ct), CUBE_MM)
    brain, _ = skull_strip(cubes)
    fine = resample(mr, CUBE_MM)
    fine_mask = resample(mr.with_array(np.asarray(mask, bool)), CUBE_MM, order=0).array
    mr_brain = mr_brain_mask(fine)
    registered = mr_to_ct(cubes, fine, brain, mr_brain, fine_mask, seed=seed)
    atlas, atlas_mask = atlas_brain()
    there = register_affine(cubes, atlas, fixed_mask=brain, moving_mask=atlas_mask, seed=seed).matrix
    mirror = refined_mirror(cubes, brain, np.linalg.inv(there) @ FLIP @ there, seed=seed)
    other = contralateral_image(cubes, brain, mirror)
    return PreparedPair(ct, mr, mask, cubes, fine, fine_mask, brain, mr_brain, registered, there, other)
