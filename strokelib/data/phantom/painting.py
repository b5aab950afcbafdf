"""From levels to Hounsfield units: what tissue is at a point, and how dense it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from strokelib.data.phantom.anatomy import Levels
from strokelib.data.phantom.infarcts import Infarct
from strokelib.data.phantom.knobs import KNOBS

TISSUES = ("air", "grey matter", "white matter", "fluid", "bone", "soft tissue", "chronic infarct")
CHANNELS = ("hu", "change", "inside", "mask", "label", *TISSUES[1:])
DURA_REACH_MM = 8.0
AIR_SHARED_HU = -500.0


@dataclass(frozen=True)
class Sampled:
    """The maps of a head, read at N points.

    Args:
        points: (3, N) standard RAS mm.
        outside: (4, N), as in :class:`strokelib.data.phantom.anatomy.Levels`.
        brain: (6, N), as there.
    """

    points: torch.Tensor
    outside: torch.Tensor
    brain: torch.Tensor


def paint(seen: Sampled, levels: Levels, infarct: Infarct | None, edge_mm: float) -> torch.Tensor:
    """Tissue and density at points of the standard frame.

    Args:
        seen: The head's maps at the points.
        levels: The same maps as a whole: of them only what is not a map is used.
        infarct: The acute infarct, or None.
        edge_mm: Scale of the logistic edge that stands for the scanner's blur and the pixel's size.

    Returns:
        (11, N) float32, named by :data:`CHANNELS`: density in HU; what the acute infarct adds to it (zero or negative,
        swelling aside); 1 inside the inner table; the infarct's mask and what a reader draws of it, 0 to 1; shares of
        grey, white, fluid, bone, soft tissue, chronic infarct.
    """
    depth, skin = seen.outside[0], seen.outside[1]
    out = torch.empty(len(CHANNELS), depth.numel())
    inside = torch.sigmoid(depth / edge_mm, out=out[2])
    out[0] = KNOBS.air_hu
    out[1], out[3:5], out[8:] = 0.0, 0.0, 0.0
    outer = ((depth < 3 * edge_mm) & (skin > -6 * edge_mm)).nonzero()[:, 0]
    if len(outer):
        bone, soft, value = _wrap(seen.outside[:, outer], edge_mm)
        rest = 1 - inside[outer]
        out[0, outer], out[8, outer], out[9, outer] = value, bone * rest, soft * rest
    low, high = seen.points.amin(dim=1).tolist(), seen.points.amax(dim=1).tolist()
    value, fluid, grey = _brain(seen, levels, edge_mm, low, high)
    chronic = out[10]
    for x, y, z, radius in _near(levels.chronic, low, high, 1.5, 6.0):
        distance = (seen.points - seen.points.new_tensor([[x], [y], [z]])).pow_(2).sum(0).sqrt_()
        wavy = radius + 0.35 * radius * torch.tanh(seen.brain[1] / 4.0)
        torch.maximum(chronic, torch.sigmoid(wavy - distance), out=chronic)
    held = infarct.lattice.holds(seen.points, low, high) if infarct is not None else ()
    if len(held):
        mask, strength, label = infarct.lattice.sample(infarct.maps, seen.points[:, held], outside="zeros")
        part = inside[held]
        out[3, held], out[4, held] = mask, label
        chronic[held] *= 1 - mask
        flattening = infarct.contrast_loss * (KNOBS.grey_hu - KNOBS.white_hu) * (grey[held] - 0.5)
        delta = -strength * (infarct.drop_hu + flattening) * (1 - fluid[held]) * (1 - chronic[held])
        value[held] += delta
        out[1, held] = delta * part
    solid = 1 - fluid
    if levels.chronic:
        chronic *= solid
        value += (KNOBS.chronic_hu - value) * chronic
        chronic *= inside
        solid = solid - chronic
    out[0] += (value - out[0]).mul_(inside)
    solid *= inside
    torch.mul(fluid, inside, out=out[7])
    torch.mul(grey, solid, out=out[5])
    torch.sub(solid, out[5], out=out[6])
    return out


def _wrap(outside: torch.Tensor, edge: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Skull and scalp: share of bone, share of soft tissue, HU."""
    k = KNOBS
    _, skin, bone_mm, flesh = outside
    bone = torch.sigmoid(bone_mm / edge)
    dense = k.diploe_hu + (k.table_hu - k.diploe_hu) * torch.sigmoid((k.table_mm - bone_mm) / 0.3)
    in_head = torch.sigmoid(skin / edge)
    soft = (1 - bone) * in_head * (flesh > AIR_SHARED_HU)
    flesh = flesh + (k.skin_hu - flesh) * torch.sigmoid((1.6 - skin) / 0.4) * (flesh > AIR_SHARED_HU)
    value = flesh + (dense - flesh) * bone
    return bone * in_head, soft, k.air_hu + (value - k.air_hu) * in_head


def _brain(
    seen: Sampled, levels: Levels, edge: float, low: list[float], high: list[float]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Brain and fluid, infarcts aside: HU, share of fluid, grey over grey and white."""
    k = KNOBS
    fluid_mm, sheet, half, grey_log, added, falx = seen.brain
    fluid = torch.maximum(fluid_mm, half - sheet.abs()).mul_(1 / edge).sigmoid_()
    grey = torch.sigmoid(grey_log / 0.6)
    value = torch.add(added, grey, alpha=k.grey_hu - k.white_hu).add_(k.white_hu)
    value += (k.csf_hu - value).mul_(fluid)
    if low[0] < DURA_REACH_MM and high[0] > -DURA_REACH_MM:
        x = seen.points[0]
        middle = (x.abs() < DURA_REACH_MM).nonzero()[:, 0]
        across = x[middle] + 0.6 * torch.tanh(sheet[middle] / 6.0)
        half_mm, here = falx[middle], value[middle]
        dura = torch.sigmoid((half_mm - across) / edge) + torch.sigmoid((half_mm + across) / edge) - 1
        value[middle] = here + (k.falx_hu - here).clamp_min_(0) * dura.clamp_min_(0)
    for x, y, z, radius in _near(levels.calcium, low, high, 1.0, 4.0):
        distance = (seen.points - seen.points.new_tensor([[x], [y], [z]])).pow_(2).sum(0).sqrt_()
        value += k.calcium_hu * torch.sigmoid((radius - distance) / (0.5 + edge))
    return value, fluid, grey


def _near(
    spots: tuple[tuple[float, float, float, float], ...],
    low: list[float],
    high: list[float],
    radii: float,
    margin: float,
) -> list[tuple[float, float, float, float]]:
    """The spots (x, y, z, radius) that reach into a box."""
    reached = []
    for spot in spots:
        reach = radii * spot[3] + margin
        if all(low[axis] - reach <= spot[axis] <= high[axis] + reach for axis in range(3)):
            reached.append(spot)
    return reached
