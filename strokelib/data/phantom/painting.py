"""From levels to Hounsfield units: what tissue is at a point, and how dense it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from strokelib.data.phantom.anatomy import Levels
from strokelib.data.phantom.fields import chosen
from strokelib.data.phantom.infarcts import Infarct
from strokelib.data.phantom.knobs import KNOBS

TISSUES = ("air", "grey matter", "white matter", "fluid", "bone", "soft tissue", "chronic infarct")
CHANNELS = ("hu", "change", "inside", "mask", "label", *TISSUES[1:])
DURA_REACH_MM = 8.0
AIR_SHARED_HU = -500.0


@dataclass(frozen=True)
class Sampled:
    """The maps of a head, read at the pixels of a box; the brain's at those of a smaller box, 0 outside of it.

    Args:
        outside: (4, h, w), as in :class:`strokelib.data.phantom.anatomy.Levels`.
        place: Rows and columns of the smaller box, or None where there is no brain.
        points: (3, h, w) standard RAS mm.
        brain: (6, rows, columns), as in ``Levels``, in the smaller box.
    """

    outside: torch.Tensor
    place: tuple[slice, slice] | None = None
    points: torch.Tensor | None = None
    brain: torch.Tensor | None = None


def paint(seen: Sampled, levels: Levels, infarct: Infarct | None, edge_mm: float) -> torch.Tensor:
    """Tissue and density at points of the standard frame.

    Args:
        seen: The head's maps at the points.
        levels: The same maps as a whole: of them only what is not a map is used.
        infarct: The acute infarct, or None.
        edge_mm: Scale of the logistic edge that stands for the scanner's blur and the pixel's size.

    Returns:
        (11, h, w) float32, named by :data:`CHANNELS`: density in HU; what the acute infarct adds to it (zero or
        negative, swelling aside); 1 inside the inner table; the infarct's mask and what a reader draws of it, 0 to 1;
        shares of grey, white, fluid, bone, soft tissue, chronic infarct.
    """
    outside = seen.outside.flatten(1)
    depth, skin = outside[0], outside[1]
    out = torch.empty(len(CHANNELS), *seen.outside.shape[1:])
    flat = out.view(len(out), -1)
    inside = torch.sigmoid(torch.div(depth, edge_mm, out=flat[2]), out=flat[2])
    out[0] = KNOBS.air_hu
    out[1], out[3:5], out[8:] = 0.0, 0.0, 0.0
    outer = chosen((depth.numpy() < np.float32(3 * edge_mm)) & (skin.numpy() > np.float32(-6 * edge_mm)))
    if len(outer):
        bone, soft, value = _wrap(outside.index_select(1, outer), edge_mm)
        rest = 1 - inside.index_select(0, outer)
        for channel, values in ((0, value), (8, bone.mul_(rest)), (9, soft.mul_(rest))):
            flat[channel].index_copy_(0, outer, values)
    wrapped = None if seen.place is None else out[0][seen.place].clone()
    flat[0] += (_beyond_hu() - flat[0]).mul_(inside)
    torch.mul(inside, 0.5, out=flat[7])
    torch.mul(inside, 0.25, out=flat[5])
    flat[6] = flat[5]
    if wrapped is not None:
        _paint_brain(out[(slice(None), *seen.place)], wrapped, seen, levels, infarct, edge_mm)
    return out


@cache
def _beyond_hu() -> float:
    """Density where all of the brain's maps are 0; half of it is fluid, a quarter grey matter."""
    tissue = torch.tensor(0.5) * (KNOBS.grey_hu - KNOBS.white_hu) + KNOBS.white_hu
    return float(tissue + (KNOBS.csf_hu - tissue) * 0.5)


def _paint_brain(
    out: torch.Tensor,
    wrapped: torch.Tensor,
    seen: Sampled,
    levels: Levels,
    infarct: Infarct | None,
    edge_mm: float,
) -> None:
    """Paint brain, fluid and infarcts over what surrounds them, in the smaller box.

    Args:
        out: (11, rows, columns), what :func:`paint` returns.
        wrapped: (rows, columns) HU of skull, scalp and air.
        seen: As in :func:`paint`, like what follows.
        levels: The head's.
        infarct: The acute infarct, or None.
        edge_mm: Scale of the edges.
    """
    shape = wrapped.shape
    points, brain = seen.points[(slice(None), *seen.place)].flatten(1), seen.brain.flatten(1)
    inside = out[2].flatten()
    value, fluid, grey = _brain(points, brain, edge_mm)
    low = high = ()
    if levels.calcium or levels.chronic or infarct is not None:
        low, high = (ends.tolist() for ends in (seen.points.amin((1, 2)), seen.points.amax((1, 2))))
    for x, y, z, radius in _near(levels.calcium, low, high, 1.0, 4.0):
        distance = (points - points.new_tensor([[x], [y], [z]])).pow_(2).sum(0).sqrt_()
        value += KNOBS.calcium_hu * torch.sigmoid((radius - distance) / (0.5 + edge_mm))
    chronic = torch.zeros_like(inside)
    for x, y, z, radius in _near(levels.chronic, low, high, 1.5, 6.0):
        distance = (points - points.new_tensor([[x], [y], [z]])).pow_(2).sum(0).sqrt_()
        wavy = radius + 0.35 * radius * torch.tanh(brain[1] / 4.0)
        torch.maximum(chronic, torch.sigmoid(wavy - distance), out=chronic)
    held = infarct.lattice.holds(points, low, high) if infarct is not None else ()
    if len(held):
        mask, strength, label = infarct.lattice.sample(infarct.maps, points.index_select(1, held), outside="zeros")
        here = chronic.index_select(0, held).mul_(1 - mask)
        chronic.index_copy_(0, held, here)
        flattening = (grey.index_select(0, held) - 0.5).mul_(infarct.contrast_loss * (KNOBS.grey_hu - KNOBS.white_hu))
        delta = (
            strength.neg().mul_(flattening.add_(infarct.drop_hu)).mul_(1 - fluid.index_select(0, held)).mul_(1 - here)
        )
        value.index_copy_(0, held, value.index_select(0, held).add_(delta))
        for channel, values in ((1, delta * inside.index_select(0, held)), (3, mask), (4, label)):
            out[channel] = torch.zeros_like(inside).index_copy_(0, held, values).view(shape)
    solid = 1 - fluid
    if levels.chronic:
        chronic *= solid
        value += (KNOBS.chronic_hu - value) * chronic
        chronic *= inside
        solid = solid - chronic
        out[10] = chronic.view(shape)
    torch.add(wrapped, (value.view(shape).sub_(wrapped)).mul_(inside.view(shape)), out=out[0])
    solid *= inside
    torch.mul(fluid.view(shape), inside.view(shape), out=out[7])
    torch.mul(grey.view(shape), solid.view(shape), out=out[5])
    torch.sub(solid.view(shape), out[5], out=out[6])


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


def _brain(points: torch.Tensor, brain: torch.Tensor, edge: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Brain and fluid, infarcts and calcium aside: HU, share of fluid, grey over grey and white."""
    k = KNOBS
    fluid_mm, sheet, half, grey_log, added, falx = brain
    fluid = torch.maximum(fluid_mm, half - sheet.abs()).mul_(1 / edge).sigmoid_()
    grey = torch.div(grey_log, 0.6).sigmoid_()
    value = torch.add(added, grey, alpha=k.grey_hu - k.white_hu).add_(k.white_hu)
    value += (k.csf_hu - value).mul_(fluid)
    x = points[0]
    middle = chosen(np.abs(x.numpy()) < np.float32(DURA_REACH_MM))
    if len(middle):
        x, sheet, half_mm, here = (values.index_select(0, middle) for values in (x, sheet, falx, value))
        across = x + 0.6 * torch.tanh(sheet / 6.0)
        dura = torch.sigmoid((half_mm - across) / edge) + torch.sigmoid((half_mm + across) / edge) - 1
        value.index_copy_(0, middle, here + (k.falx_hu - here).clamp_min_(0) * dura.clamp_min_(0))
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
