"""From levels to Hounsfield units: what tissue is at a point, and how dense it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from strokelib.data.phantom.anatomy import BRAIN, Levels
from strokelib.data.phantom.atlas import LATTICE
from strokelib.data.phantom.infarcts import Infarct
from strokelib.data.phantom.knobs import KNOBS

TISSUES = ("air", "grey matter", "white matter", "fluid", "bone", "soft tissue", "chronic infarct")


@dataclass(frozen=True)
class Painted:
    """Values at N points, all float32.

    Args:
        hu: Density in HU.
        change_hu: What the acute infarct adds to it (zero or negative), swelling aside.
        inside: 1 inside the inner table.
        mask: 0 to 1, the infarct's mask.
        shares: (6, N) grey, white, fluid, bone, soft tissue, chronic infarct.
    """

    hu: torch.Tensor
    change_hu: torch.Tensor
    inside: torch.Tensor
    mask: torch.Tensor
    shares: torch.Tensor


def paint(points: torch.Tensor, levels: Levels, infarct: Infarct | None, edge_mm: float) -> Painted:
    """Tissue and density at points of the standard frame.

    Args:
        points: (3, N) RAS mm.
        levels: The head's maps.
        infarct: The acute infarct, or None.
        edge_mm: Scale of the logistic edge that stands for the scanner's blur and the pixel's size.
    """
    count = points.shape[1]
    outside, skin = LATTICE.sample(levels.outside[:2], points)
    inner = (outside > -3 * edge_mm).nonzero()[:, 0]
    outer = ((outside < 3 * edge_mm) & (skin > -6 * edge_mm)).nonzero()[:, 0]
    hu = torch.full((count,), KNOBS.air_hu)
    change, mask, shares = torch.zeros(count), torch.zeros(count), torch.zeros(6, count)
    inside = torch.sigmoid(outside / edge_mm)
    if len(outer):
        bone, soft, value = _wrap(points[:, outer], levels, edge_mm)
        hu[outer] = value
        shares[3, outer], shares[4, outer] = bone * (1 - inside[outer]), soft * (1 - inside[outer])
    if len(inner):
        depth, part = outside[inner], inside[inner]
        value, delta, covered, tissue = _brain(points[:, inner], depth, levels, infarct, edge_mm)
        hu[inner] = hu[inner] * (1 - part) + value * part
        change[inner], mask[inner] = delta * part, covered
        shares[:3, inner], shares[5, inner] = tissue[:3] * part, tissue[3] * part
    return Painted(hu, change, inside, mask, shares)


def _wrap(points: torch.Tensor, levels: Levels, edge: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Skull and scalp: share of bone, share of soft tissue, HU."""
    k = KNOBS
    depth, skin, thickness, template_bone, muscle = LATTICE.sample(levels.outside, points)
    out = -depth
    vault = (torch.sigmoid((out + 0.5) / edge) * torch.sigmoid((thickness - out) / edge)).clamp(0, 1)
    tables = torch.maximum(torch.sigmoid((k.table_mm - out) / 0.3), torch.sigmoid((out - thickness + k.table_mm) / 0.3))
    dense = k.diploe_hu + (k.table_hu - k.diploe_hu) * tables
    bone = torch.maximum(vault, torch.sigmoid(2.0 * template_bone))
    in_head = torch.sigmoid(skin / edge)
    leather = torch.sigmoid((1.6 - skin) / 0.4)
    air = (-muscle - 0.5).clamp(0, 1)
    flesh = k.fat_hu + (k.muscle_hu - k.fat_hu) * muscle.clamp(0, 1)
    flesh = flesh + (k.skin_hu - flesh) * leather
    flesh = flesh + (k.air_hu - flesh) * air
    value = flesh + (dense - flesh) * bone
    return bone * in_head, (1 - bone) * (1 - air) * in_head, k.air_hu + (value - k.air_hu) * in_head


def _brain(
    points: torch.Tensor, depth: torch.Tensor, levels: Levels, infarct: Infarct | None, edge: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Brain and fluid: HU, change by the infarct, mask, shares (grey, white, fluid, chronic)."""
    k = KNOBS
    fluid_mm, sheet, half, grey_log, added, falx = BRAIN.sample(levels.brain, points)
    slab = torch.sigmoid((half - sheet) / edge) + torch.sigmoid((half + sheet) / edge) - 1
    fluid = torch.maximum(torch.sigmoid(fluid_mm / edge), torch.sigmoid((levels.rim_mm - depth) / edge))
    fluid = torch.maximum(fluid, slab.clamp(0, 1))
    grey = torch.sigmoid(grey_log / 0.6)
    tissue = k.white_hu + (k.grey_hu - k.white_hu) * grey + added
    change, mask = torch.zeros_like(depth), torch.zeros_like(depth)
    if infarct is not None:
        mask, strength = infarct.lattice.sample(infarct.maps, points, outside="zeros")
        flattening = infarct.contrast_loss * (k.grey_hu - k.white_hu) * (grey - 0.5)
        change = -strength * (infarct.drop_hu + flattening) * (1 - fluid)
    chronic = torch.zeros_like(depth)
    for x, y, z, radius in levels.chronic:
        distance = (points - points.new_tensor([[x], [y], [z]])).pow(2).sum(0).sqrt()
        wavy = radius + 0.35 * radius * torch.tanh(sheet / 4.0)
        chronic = torch.maximum(chronic, torch.sigmoid((wavy - distance) / 1.0))
    chronic = chronic * (1 - mask) * (1 - fluid)
    change = change * (1 - chronic)
    tissue = tissue + (k.chronic_hu - tissue) * chronic
    value = (
        tissue * (1 - fluid)
        + k.csf_hu * fluid
        + change
        + k.cupping_hu * torch.exp(-depth.clamp_min(0) / k.cupping_reach_mm)
    )
    across = points[0] + 0.6 * torch.tanh(sheet / 6.0)
    sheet_of_dura = (torch.sigmoid((falx - across) / edge) + torch.sigmoid((falx + across) / edge) - 1).clamp(0, 1)
    value = value + (k.falx_hu - value).clamp_min(0) * sheet_of_dura
    for x, y, z, radius in levels.calcium:
        distance = (points - points.new_tensor([[x], [y], [z]])).pow(2).sum(0).sqrt()
        value = value + k.calcium_hu * torch.sigmoid((radius - distance) / (0.5 + edge))
    solid = (1 - fluid) * (1 - chronic)
    return value, change, mask, torch.stack((grey * solid, (1 - grey) * solid, fluid, chronic))
