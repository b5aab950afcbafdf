"""One slice of a CT perfusion scan: tissue and vessels of fine pixels, mixed into the scan's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from strokelib.data.phantom import perfusion_flow as flow
from strokelib.data.phantom import perfusion_input as inputs
from strokelib.data.phantom.anatomy import BRAIN
from strokelib.data.phantom.embedded import Plan
from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.mr import B_S_MM2
from strokelib.data.phantom.perfusion_series import mixed
from strokelib.data.phantom.perfusion_vessels import MAPS, pial_map, vessel_maps
from strokelib.data.phantom.render import Slab
from strokelib.data.phantom.scanner import Grid
from strokelib.data.phantom.warp import NODES_A_WARP_NODE

TIMES_FINER = 2
MIXED = ("cbf", "healthy_cbf", "cbv", "tmax_s", "delay_s", "dispersion_s")
VENTRICLES = (31, 32)


def finer(target: Grid) -> Grid:
    """The same field with pixels of half the size."""
    n, (depth, height, width) = TIMES_FINER, target.shape
    affine = target.affine.copy()
    affine[:3, 3] += affine[:3, :2].sum(1) * (0.5 / n - 0.5)
    affine[:3, :2] /= n
    shape = (depth, height * n, width * n)
    return replace(target, shape=shape, affine=affine, samples=2, stride=target.stride * n)


def points_of(nodes: torch.Tensor, target: Grid, k: int) -> torch.Tensor:
    """(3, samples, H, W) standard mm of the pixels of a slice's sub-slices."""
    part = nodes[:, k * target.samples : (k + 1) * target.samples]
    size = [(n - 1) * NODES_A_WARP_NODE * target.stride + 1 for n in part.shape[2:]]
    full = F.interpolate(part, size=size, mode="bilinear", align_corners=True)
    return full[..., : target.shape[1], : target.shape[2]]


def coarse(values: np.ndarray) -> np.ndarray:
    """Mean of the fine pixels of each pixel: (..., 2 H, 2 W) to (..., H, W)."""
    *lead, height, width = values.shape
    n = TIMES_FINER
    return values.reshape(*lead, height // n, n, width // n, n).mean((-3, -1))


@dataclass(frozen=True)
class Scene:
    """What the slices of a scan are made from.

    Args:
        bolus: The injection.
        curves: (nodes + 2 delays, T): tissue, then arteries and veins by delay.
        tmax_s: (nodes,) of the tissue curves.
        maps: As :func:`strokelib.data.phantom.perfusion_flow.ischaemia` gives them.
        vessels: Large arteries and veins in the standard frame.
        pial: Small ones in the sulci.
        later: The infarct at the time of the DWI, on its lattice.
        planned: The case.
    """

    bolus: inputs.Bolus
    curves: np.ndarray
    tmax_s: np.ndarray
    maps: torch.Tensor
    vessels: torch.Tensor
    pial: torch.Tensor
    later: torch.Tensor
    planned: Plan


def draw_scene(planned: Plan) -> Scene:
    """Draw the injection and the haemodynamics of a case; all follow from its name."""
    seed = planned.head.seed
    bolus = inputs.draw_bolus(seed)
    table = inputs.curve_table(bolus)
    blood = [bolus.at_frames(curve) for curve in (bolus.artery, bolus.vein)]
    return Scene(
        bolus=bolus,
        curves=np.concatenate((table.curves, *blood)),
        tmax_s=table.tmax_s,
        maps=flow.ischaemia(seed, planned.infarct),
        vessels=vessel_maps(),
        pial=pial_map(planned.head),
        later=planned.later,
        planned=planned,
    )


def _full(values: np.ndarray, place: tuple[int, slice, slice], shape: tuple[int, int], fill: float = 0.0) -> np.ndarray:
    full = np.full((*values.shape[:-2], *shape), fill, np.float32)
    full[(..., *place[1:])] = values
    return full


def paint_slice(slab: Slab, points: torch.Tensor, scene: Scene, out: dict[str, np.ndarray]) -> np.ndarray:
    """Paint a slice into ``out``; returns its enhancement (T, H, W)."""
    size = tuple(points.shape[2:])
    hu = _full(slab["hu"].numpy(), slab.place, size, KNOBS.air_hu)
    grey, white, fluid, _, _, chronic = _full(slab.shares.numpy(), slab.place, size)
    core, inside = (_full(slab[name].numpy(), slab.place, size) for name in ("mask", "inside"))
    territory = _full(slab.territory.numpy().astype(np.float32), slab.place, size)
    used = np.flatnonzero(coarse(inside).ravel() > 0.2)
    out["hu"][:], (out["down"][:], out["right"][:]) = coarse(hu), coarse(np.stack(np.gradient(hu)))
    if not len(used):
        return np.zeros((scene.bolus.frames, *out["hu"].shape), np.float32)
    n, width = TIMES_FINER, out["hu"].shape[1]
    rows, columns = (used // width * n)[:, None], (used % width * n)[:, None]
    offsets = np.arange(n * n)
    at = (rows + offsets // n, columns + offsets % n)
    where = points[:, :, torch.from_numpy(at[0]), torch.from_numpy(at[1])]
    middle = where.mean(1).flatten(1)
    maps = BRAIN.sample(scene.maps, middle).numpy().reshape(-1, *at[0].shape)
    blood = MAPS.sample(scene.vessels, where.flatten(1), outside="zeros").view(2, 2, *at[0].shape).mean(1).numpy()
    infarct = scene.planned.infarct
    later = infarct.lattice.sample(scene.later[None], where.flatten(1), outside="zeros")
    later = later.view(2, *at[0].shape).mean(0).numpy()
    grey, white, fluid, chronic, core, inside, territory = (
        values[at] for values in (grey, white, fluid, chronic, core, inside, territory)
    )
    pial = BRAIN.sample(scene.pial, middle).numpy().reshape(blood.shape) * fluid * ~np.isin(territory, VENTRICLES)
    blood = np.clip((blood + pial * (1 - blood.sum(0))) * inside, 0, 1)
    rng = generator(scene.planned.head.seed, f"ctp-voxels-{scene.planned.slab.number}-{slab.place[0]}")
    spread = rng.standard_normal((3, *at[0].shape), dtype=np.float32)
    shape = rng.integers(0, len(inputs.SHAPES), at[0].shape)
    weights, index, sums = [], [], dict.fromkeys(MIXED, 0.0)
    left = 1 - np.minimum(blood.sum(0), 1)
    for kind, share in (("grey", grey), ("white", white), ("chronic", chronic)):
        h = flow.haemodynamics(kind, maps, core, spread)
        node, transit, wide, late = inputs.nodes(scene.bolus, h.transit_s, h.dispersion_s, shape, h.delay_s)
        flowing = share * h.flow
        weights.append(flowing * left)
        index.append(node)
        sums["cbf"] += flowing
        sums["healthy_cbf"] += share * h.healthy
        sums["cbv"] += flowing * transit / 60
        for name, values in (("tmax_s", scene.tmax_s[node]), ("delay_s", late), ("dispersion_s", wide)):
            sums[name] += flowing * values
        if kind == "grey":
            supply = np.rint(np.maximum(h.delay_s - KNOBS.ctp_delay_s, 0) / scene.bolus.fine_s).astype(int)
    steps = len(scene.bolus.delays_s)
    supply = np.minimum(supply, steps - 1) * 3 // 4
    weights += [blood[0], blood[1]]
    index += [len(scene.tmax_s) + supply, len(scene.tmax_s) + steps + supply // 3]
    signal = _dwi(grey, white, fluid, chronic, later, infarct.onset_hours)
    kept = {"grey": grey, "white": white, "artery": blood[0], "vein": blood[1], "later": later, "dwi": signal} | sums
    for name, values in kept.items():
        out[name].flat[used] = values.mean(1)
    enhanced = np.zeros((out["hu"].size, scene.bolus.frames), np.float32)
    parts = np.concatenate([w.astype(np.float32) / n**2 for w in weights], 1), np.concatenate(index, 1)
    enhanced[used] = mixed(*parts, scene.curves)
    return enhanced.T.reshape(-1, *out["hu"].shape)


def _dwi(
    grey: np.ndarray, white: np.ndarray, fluid: np.ndarray, chronic: np.ndarray, later: np.ndarray, onset_h: float
) -> np.ndarray:
    """Diffusion-weighted signal without noise, white matter 1; T2 shine-through grows with time as in ``mr``."""
    k = KNOBS
    acute, healthy = later * (grey + white), 1 - later
    shine = 1.0 + k.shine_through * (1 - float(np.exp(-onset_h / 24.0)))
    parts = (
        (grey * healthy, k.b0_grey, k.adc_grey),
        (white * healthy, k.b0_white, k.adc_white),
        (fluid, k.b0_fluid, k.adc_fluid),
        (chronic, k.b0_chronic, k.adc_chronic),
        (acute, k.b0_white * shine, k.adc_acute),
    )
    signal = sum(share * (b0 * np.exp(-B_S_MM2 * adc * 1e-6)) for share, b0, adc in parts)
    return signal / (k.b0_white * np.exp(-B_S_MM2 * k.adc_white * 1e-6))
