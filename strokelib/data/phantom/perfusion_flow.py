"""Flow, volume and arrival at every place of a head: normal tissue, and what an occlusion makes of it.

The infarct's mask is the core. Around it, within the territories of the arteries that it lies in, flow is less reduced
and late: the tissue whose Tmax exceeds 6 s. How far that reaches is drawn as a ratio of volumes, and the nearest places
fill it, unevenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage

from strokelib.data import shipped
from strokelib.data.phantom.anatomy import BRAIN
from strokelib.data.phantom.distances import signed_distance
from strokelib.data.phantom.fields import generator, smooth_field
from strokelib.data.phantom.infarcts import Infarct
from strokelib.data.phantom.knobs import KNOBS

FIELDS = ("depth", "flow", "patch", "delay", "widening")
ENOUGH, MAJORITY, WIDE_ML = 0.05, 0.5, 10.0
NEAR, FARTHEST, LEAST_MM = 8, 40, 3.0  # voxels, voxels


@dataclass(frozen=True)
class Haemodynamics:
    """Perfusion of places, all of one shape.

    Args:
        flow: mL/100 g/min.
        healthy: The same without the occlusion.
        transit_s: Mean transit time.
        delay_s: Arrival after the measured artery.
        dispersion_s: Widening of the local input.
    """

    flow: np.ndarray
    healthy: np.ndarray
    transit_s: np.ndarray
    delay_s: np.ndarray
    dispersion_s: np.ndarray


@lru_cache(maxsize=1)
def _territories() -> tuple[np.ndarray, np.ndarray, dict[int, tuple[str, str]]]:
    """Labels on ``BRAIN``, where one is known, and label to artery and side; ventricles left out."""
    volume, names = shipped.territories()
    x, y, z = (axis.numpy().ravel() for axis in BRAIN.axes())
    to_index = np.linalg.inv(volume.affine)
    places = [np.rint(to_index[n, n] * a + to_index[n, 3]).astype(int) for n, a in enumerate((x, y, z))]
    sizes = volume.array.shape[::-1]
    px, py, pz = (np.clip(p, 0, n - 1) for p, n in zip(places, sizes, strict=True))
    ix, iy, iz = ((p >= 0) & (p < n) for p, n in zip(places, sizes, strict=True))
    labels = volume.array[np.ix_(pz, py, px)] * (iz[:, None, None] & iy[:, None] & ix)
    owners = {int(n): (row["major"], row["side"]) for n, row in names.iterrows() if row["major"] != "LV"}
    return labels, np.isin(labels, list(owners)), owners


def core_on_brain(infarct: Infarct) -> np.ndarray:
    """The infarct's mask on ``BRAIN``: every voxel of 2 mm that holds a voxel of it."""
    slices, rows, columns = np.nonzero(infarct.maps[0].numpy() > 0.5)
    x0, y0, z0 = infarct.lattice.corner
    points = ((BRAIN.corner[0] - (x0 - columns)), (BRAIN.corner[1] - (y0 - rows)), (z0 + slices - BRAIN.corner[2]))
    index = [np.rint(p / BRAIN.step).astype(int) for p in points[::-1]]
    kept = np.all([(i >= 0) & (i < n) for i, n in zip(index, BRAIN.shape, strict=True)], axis=0)
    core = np.zeros(BRAIN.shape, bool)
    core[tuple(i[kept] for i in index)] = True
    return core


def supplied(core: np.ndarray, volume_ml: float) -> np.ndarray:
    """Where the occluded arteries lead: (D, H, W) bool on ``BRAIN``.

    Args:
        core: The infarct there.
        volume_ml: Its volume; a large infarct that lies mostly in one artery's territories takes all of them.
    """
    labels, known, owners = _territories()
    counts = np.bincount(labels[core & known].astype(int), minlength=1 + max(owners))
    if not counts.sum():
        return signed_distance(core, NEAR) > -NEAR
    shares = counts / counts.sum()
    taken = {n for n in owners if shares[n] > ENOUGH}
    for owner in set(owners.values()):
        of_owner = [n for n, who in owners.items() if who == owner]
        if volume_ml >= WIDE_ML and shares[of_owner].sum() > MAJORITY:
            taken |= set(of_owner)
    return np.isin(labels, list(taken)) | core


def ischaemia(seed: int, infarct: Infarct) -> torch.Tensor:
    """Maps that the haemodynamics are made from, (5, D, H, W) on ``BRAIN``, named by :data:`FIELDS`.

    ``depth`` is the distance in mm from the border of the late tissue, positive inside; the others are random fields of
    mean 0 and variance 1.
    """
    k, rng = KNOBS, generator(seed, "ctp-flow")
    fields = [smooth_field(rng, BRAIN, spacing) for spacing in (14.0, 7.0, 24.0, 18.0)]
    core = core_on_brain(infarct)
    allowed = supplied(core, infarct.volume_ml)
    uneven = torch.exp(0.4 * smooth_field(rng, BRAIN, 22.0)).numpy()
    way = np.maximum(-signed_distance(core, FARTHEST), 0) * BRAIN.step * uneven
    ratio = max(1.2, float(k.ctp_mismatch * np.exp(k.ctp_mismatch_log_sd * rng.normal())))
    order = np.sort(way[allowed])
    reach = max(LEAST_MM, float(order[min(len(order) - 1, int(ratio * core.sum()))]))
    late = allowed & (way <= reach)
    depth = ndimage.gaussian_filter(signed_distance(late, NEAR) * BRAIN.step, 0.8)
    return torch.stack((torch.from_numpy(depth), *fields))


def haemodynamics(kind: str, maps: np.ndarray, core: np.ndarray, spread: np.ndarray) -> Haemodynamics:
    """Perfusion of one kind of tissue.

    Args:
        kind: ``grey``, ``white`` or ``chronic``.
        maps: (5, ...) of :func:`ischaemia`, read at the places.
        core: (...) share of the infarct, 0 to 1.
        spread: (3, ...) standard normal numbers, three a place.
    """
    k = KNOBS
    depth, flow_field, patch, late_field, wide_field = maps
    base_flow = {"grey": k.ctp_grey_flow, "white": k.ctp_white_flow, "chronic": k.ctp_chronic_flow}[kind]
    base_volume = {"grey": k.ctp_grey_volume, "white": k.ctp_white_volume, "chronic": k.ctp_chronic_volume}[kind]
    late = 1 / (1 + np.exp(-np.clip(depth / (0.5 * k.ctp_penumbra_edge_mm), -30, 30)))
    late = np.maximum(late, core)
    healthy = base_flow * np.exp(k.ctp_flow_log_sd * flow_field + k.ctp_voxel_log_sd * spread[0])
    volume = base_volume * np.exp(k.ctp_flow_log_sd * flow_field + k.ctp_voxel_log_sd * spread[1])
    left = 1 - late * (1 - np.clip(k.ctp_penumbra_flow + 0.08 * flow_field, 0.35, 0.8))
    left += core * (np.clip(k.ctp_core_flow + k.ctp_core_flow_sd * patch, 0.03, 0.5) - left)
    full = 1 + late * (k.ctp_penumbra_volume - 1)
    full += core * (np.clip(k.ctp_core_volume + 0.1 * patch, 0.12, 0.9) - full)
    delay = k.ctp_delay_s + k.ctp_delay_sd_s * late_field + 0.2 * spread[2]
    delay += late * (k.ctp_penumbra_delay_s - k.ctp_delay_s + k.ctp_penumbra_delay_sd_s * late_field)
    delay += core * k.ctp_core_delay_s
    wide = k.ctp_dispersion_s * np.exp(k.ctp_dispersion_log_sd * wide_field) + late * k.ctp_penumbra_dispersion_s
    wide *= np.exp(k.ctp_dispersion_log_sd * spread[2])
    flow = healthy * left
    return Haemodynamics(flow, healthy, 60 * volume * full / np.maximum(flow, 0.5), np.maximum(delay, 0), wide)
