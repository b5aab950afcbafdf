"""What sets ``isles2018`` apart from the other cohorts: slabs of a head, and a lesion drawn on a DWI of the same hour.

A scan covers some 2 to 22 slices about the infarct; a patient may have two slabs, which are neighbours in one head. The
reader does not draw the infarct of the CT but what the DWI shows later: grown here, receded there, and outlined with a
reader's error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from strokelib.data.phantom.anatomy import Head
from strokelib.data.phantom.distances import signed_distance
from strokelib.data.phantom.fields import generator, smooth_field
from strokelib.data.phantom.infarcts import PAD_MM, Infarct
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.scanner import Grid, Pose
from strokelib.data.phantom.warp import world_to_standard

COHORT = "isles2018"
SLICE_MM = 5.0
SLICES_ALONE, SLICES_OF_TWO = (2, 4, 6, 8, 8, 12, 16, 22), (2, 4, 4, 8, 8)
LOWEST_MM, HIGHEST_MM = -50.0, 65.0


@dataclass(frozen=True)
class SlabRange:
    """The part of a head that a perfusion scan covers.

    Args:
        low_mm: Lower end in the image's millimetres, a multiple of 5.
        high_mm: Upper end.
        number: 1, or 2 for the second slab of a patient.
    """

    low_mm: float
    high_mm: float
    number: int

    @property
    def slices(self) -> int:
        """Number of slices of 5 mm."""
        return round((self.high_mm - self.low_mm) / SLICE_MM)

    def cut(self, target: Grid) -> Grid:
        """The slices of a grid whose middle lies in the slab; the second slab gets a name, and so noise, of its own."""
        depth, height, width = target.shape
        middle = np.array([(width - 1) / 2, (height - 1) / 2, 0.0, 1.0])
        heights = (target.affine @ middle)[2] + target.affine[2, 2] * np.arange(depth)
        inside = np.flatnonzero((heights >= self.low_mm) & (heights < self.high_mm))
        affine = target.affine.copy()
        affine[:3, 3] += affine[:3, 2] * inside[0]
        name = f"{target.name}-2" if self.number == 2 and target.name != "native" else target.name
        return replace(target, name=name, shape=(len(inside), height, width), affine=affine)


def head_name(case_id: str) -> str:
    """The head that a case shows: ``isles2018-0001`` for both slabs of it, the case's own name elsewhere."""
    return case_id.rpartition("-")[0] if case_id.startswith(f"{COHORT}-") else case_id


def draw_slab(seed: int, case_id: str, two: bool, infarct: Infarct, head: Head, pose: Pose) -> SlabRange:
    """Draw how many slices a scan has and place them about the infarct.

    Args:
        seed: Seed of the head.
        case_id: Its last figure says which slab it is.
        two: Whether the patient has two slabs, one above the other.
        infarct: The patient's.
        head: The anatomy.
        pose: How the head lies.
    """
    rng = generator(seed, "slab")
    count = int(rng.choice(SLICES_OF_TWO if two else SLICES_ALONE))
    number = int(case_id.rpartition("-")[2])
    whole = 2 * count if two else count
    slices, rows, columns = np.nonzero(infarct.maps[0].numpy() > 0.5)
    x0, y0, z0 = infarct.lattice.corner
    points = np.stack([x0 - columns, y0 - rows, z0 + slices, np.ones(len(rows))])  # voxels of 1 mm
    heights = (np.linalg.inv(world_to_standard(head, pose)) @ points)[2]
    centre = float(heights.mean()) + float(rng.normal(0, KNOBS.ctp_slab_sd_mm)) * (whole >= 6)
    low = round((centre - whole * SLICE_MM / 2) / SLICE_MM) * SLICE_MM
    low = float(np.clip(low, LOWEST_MM, HIGHEST_MM - whole * SLICE_MM))
    low += (number - 1) * count * SLICE_MM
    return SlabRange(low, low + count * SLICE_MM, number)


def at_dwi(seed: int, infarct: Infarct) -> torch.Tensor:
    """The infarct at the time of the DWI: its border moved out, and in places in.

    Args:
        seed: Seed of the head.
        infarct: The infarct at the time of the CT perfusion.

    Returns:
        (D, H, W) float32, 0 or 1, on the infarct's lattice.
    """
    k, rng = KNOBS, generator(seed, "ctp-growth")
    mask = infarct.maps[0].numpy() > 0.5
    way = rng.normal(k.ctp_growth_mm, k.ctp_growth_sd_mm)
    way = way + k.ctp_growth_uneven_mm * smooth_field(rng, infarct.lattice, k.reader_spacing_mm).numpy()
    later = signed_distance(mask, PAD_MM) + np.clip(way, 1.0 - PAD_MM, PAD_MM - 1.0) > 0
    return torch.from_numpy((later if later.any() else mask).astype(np.float32))


def read_on_dwi(seed: int, infarct: Infarct, later: torch.Tensor) -> Infarct:
    """The infarct with what a reader draws on the DWI as its label: border moved in and out, small parts missed.

    Args:
        seed: Seed of the head.
        infarct: The infarct at the time of the CT perfusion.
        later: What :func:`at_dwi` gave.
    """
    k, rng = KNOBS, generator(seed, "ctp-reader")
    seen = later.numpy() > 0.5
    parts, count = ndimage.label(seen)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:] / 1000.0
    missed = rng.random(count) < np.exp(-sizes / k.reader_misses_ml)
    missed[sizes.argmax()] = False
    seen &= ~np.concatenate(([False], missed))[parts]
    way = rng.normal(k.reader_bias_mm, k.reader_bias_sd_mm)
    way = way + k.reader_sd_mm * smooth_field(rng, infarct.lattice, k.reader_spacing_mm).numpy()
    drawn = signed_distance(seen, PAD_MM) + np.clip(way, 1.0 - PAD_MM, PAD_MM - 1.0) > 0
    drawn = torch.from_numpy(drawn.astype(np.float32))
    return replace(infarct, maps=torch.stack((infarct.maps[0], infarct.maps[1], drawn)))
