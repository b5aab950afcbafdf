"""Two anatomies, each turned into smooth maps that a head is built from: A, the CT atlas of Rorden et al. (older
adults), and B, the symmetric ICBM 2009a brain (young adults), whose sulci, cisterns and ventricles run otherwise.

The atlases' priors are averages over many brains and therefore blurred. What is kept of them are level sets (distances
in mm, log ratios), which stay smooth when they are blurred; edges are made by thresholding them anew in each head.
The maps are mirror-symmetric: all asymmetry of a head is put in by its own random numbers.

Both stand in MNI space, whose skulls hold about a quarter more than those of living people: heads are drawn smaller
(``KNOBS.living_size``). The ICBM brain has no head around it: skull base and face of B are those of A.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from strokelib.data import shipped
from strokelib.data.phantom.fields import Lattice
from strokelib.data.phantom.knobs import KNOBS
from strokelib.errors import ParameterError

LATTICE = Lattice(corner=(90.0, 90.0, -72.0), step=2.0, shape=(91, 109, 91))
BRAIN = Lattice(corner=(74.0, 76.0, -72.0), step=2.0, shape=(79, 95, 75))
DEPTH_LIMIT_MM = 45.0
B_RIM_MM = 2.0
AGED_VENTRICLE_MM = {"A": 0.0, "B": KNOBS.ventricle_b_mm}


@dataclass(frozen=True)
class Maps:
    """Smooth symmetric maps (D, H, W) on :data:`LATTICE`.

    Args:
        depth: Distance to the inner table in mm, positive inside the skull.
        ventricle: Distance to the wall of the ventricles in mm, positive inside them.
        csf: Natural log of CSF over tissue, ventricles aside.
        grey: Natural log of grey over white matter.
        cortical: 0 to 1, where the cortex may be folded (not in brain stem and cerebellum).
        deep: 0 to 1, the deep grey nuclei.
        skin: Distance to the template's skin in mm, positive inside the head.
        template: The head template in HU.
        base: 0 to 1, skull base and face, where the template's bone and skin are used as they are.
    """

    depth: torch.Tensor
    ventricle: torch.Tensor
    csf: torch.Tensor
    grey: torch.Tensor
    cortical: torch.Tensor
    deep: torch.Tensor
    skin: torch.Tensor
    template: torch.Tensor
    base: torch.Tensor


def crop(volume: torch.Tensor) -> torch.Tensor:
    """The part of a map on :data:`LATTICE` that :data:`BRAIN` covers."""
    start = [round((a - b) / 2.0) for a, b in zip(LATTICE.corner, BRAIN.corner, strict=True)]
    depth, height, width = BRAIN.shape
    return volume[-start[2] : depth - start[2], start[1] : start[1] + height, start[0] : start[0] + width]


def _distance_mm(inside: np.ndarray, smooth: float) -> np.ndarray:
    """Signed distance to a mask's border in mm, positive inside, smoothed by ``smooth`` voxels."""
    distance = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    distance = np.clip(distance * LATTICE.step, -DEPTH_LIMIT_MM, DEPTH_LIMIT_MM)
    return ndimage.gaussian_filter(distance, smooth)


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    return mask if count == 0 else labels == 1 + np.argmax(ndimage.sum(mask, labels, range(1, count + 1)))


def _ramp(value: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 at ``start``, 1 at ``end``, smooth between."""
    t = np.clip((value - start) / (end - start), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _prior(name: str) -> np.ndarray:
    return _symmetric(shipped.ct_atlas(name).array)


def _symmetric(array: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(array.astype(np.float64))
    return 0.5 * (values + values[..., ::-1])


def _tissue_a() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Grey, white and fluid shares, and the inside of the skull (bool)."""
    grey, white, csf = (_prior(name) for name in ("scgrey", "scwhite", "sccsf"))
    return grey, white, csf, _largest(ndimage.binary_opening(grey + white + csf > 0.5, iterations=2))


def _tissue_b() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`_tissue_a`; the skull is laid around the closed brain, and what is neither grey nor white is fluid."""
    grey, white, brain = (_symmetric(shipped.icbm_brain(name).array) for name in shipped.ICBM_BRAIN)
    closed = ndimage.binary_closing(np.pad(brain > 0.5, 6), iterations=5)[6:-6, 6:-6, 6:-6]
    cavity = _largest(ndimage.distance_transform_edt(~closed) * LATTICE.step <= B_RIM_MM)
    cavity = np.stack([ndimage.binary_fill_holes(axial) for axial in cavity])
    return grey, white, np.where(cavity, np.clip(1 - grey - white, 0, 1), 0.0), cavity


TISSUE = {"A": _tissue_a, "B": _tissue_b}


@lru_cache(maxsize=2)
def maps(anatomy: str = "A") -> Maps:
    """Build the maps of an anatomy (about two seconds, once a process).

    Args:
        anatomy: ``A`` or ``B``.

    Raises:
        ParameterError: Another name.
    """
    if anatomy not in TISSUE:
        raise ParameterError("anatomy", found=repr(anatomy), wanted="A or B", next_step="give one of these")
    grey, white, csf, skull_cavity = TISSUE[anatomy]()
    template = shipped.cormack_to_hu(_prior("scct"))
    x, y, z = (axis.numpy() for axis in LATTICE.axes())
    head = ndimage.binary_fill_holes(template > -400)
    central = (np.abs(x) < 48) & (y > -70) & (y < 42) & (z > -34) & (z < 36)
    away_from_surface = ndimage.distance_transform_edt(skull_cavity) * LATTICE.step > 24
    ventricles = (csf > 0.45) & central & away_from_surface & (z > -12)
    fourth = (csf > 0.4) & (np.abs(x) < 12) & (y < -36) & (y > -56) & (z < -14) & (z > -46)
    ventricles = _largest(ventricles) | fourth
    tissue = grey + white
    deep = _ramp(-np.sqrt((x / 38) ** 2 + ((y + 4) / 32) ** 2 + ((z - 4) / 22) ** 2), -1.15, -0.85) * (grey > 0.02)
    posterior_fossa = _ramp(-(z + 10 + 0.2 * np.abs(x) + 0.12 * (y + 30)), -4, 4) * _ramp(-y, 14, 24)
    cortical = (1 - posterior_fossa) * (1 - deep)
    outside_ventricles = _ramp(-_distance_mm(ventricles, 0.7), -2.0, 2.0)
    csf_level = np.log((csf * outside_ventricles + 0.03) / (tissue + 0.03))
    base = np.broadcast_to(_ramp(-(z + 0.1 * y), 18, 36), LATTICE.shape)
    arrays = {
        "depth": _distance_mm(skull_cavity, 0.8) + 1.0,
        "ventricle": _distance_mm(ventricles, 0.7) + AGED_VENTRICLE_MM[anatomy],
        "csf": csf_level,
        "grey": np.log((grey + 0.04) / (white + 0.04)),
        "cortical": ndimage.gaussian_filter(cortical, 1.0),
        "deep": ndimage.gaussian_filter(deep, 1.0),
        "skin": _distance_mm(head, 1.0),
        "template": template,
        "base": base,
    }
    return Maps(**{name: torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for name, a in arrays.items()})
