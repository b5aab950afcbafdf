"""What of an anatomy is the same in every head: made once a process, so that a head costs only what is its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from strokelib.data.phantom.atlas import BRAIN, LATTICE, crop, maps
from strokelib.data.phantom.fields import generator, smooth_field
from strokelib.data.phantom.knobs import KNOBS


@dataclass(frozen=True)
class Fixed:
    """Maps (D, H, W); those of the first block on ``BRAIN``, those of the second on ``LATTICE``.

    Args:
        depth: Distance to the inner table in mm, positive inside.
        ventricle: Distance to the wall of the ventricles in mm, positive inside them.
        csf: Log of CSF over tissue.
        grey: Log of grey over white matter, weighted.
        right: 0 on the left, 1 on the right.
        gyri: 0 to 1, where folds make cortex.
        not_cortical: Taken off the sulci's half-width where the brain is not folded, mm.
        half_base: The same near the skull base, mm.
        near_ventricles: 0 to 1, reach of change in white matter.
        not_deep: 0 to 1, 0 in the deep grey nuclei.
        deep_hu: Added density of the deep grey nuclei.
        cupping: Added density near the skull.
        falx: Half-width of the falx in mm; negative where there is none.
        sinus: What the sagittal sinus adds to it.
        below_falx: Taken off below the falx.

        vault_share: Thickness of the vault over its mean; less in the temporal fossae.
        scalp_extra: What the temporal fossae add to the scalp, mm.
        vault: 1 in the vault, 0 in skull base and face.
        base_bone: Thickness of bone in the base, mm.
        base_skin: Distance to the skin in the base, mm.
        inner_table: Distance outwards from the inner table, mm.
        template_bone: The template's bone in the base, mm-like, positive in bone.
        flesh: Soft tissue in HU.
    """

    depth: torch.Tensor
    ventricle: torch.Tensor
    csf: torch.Tensor
    grey: torch.Tensor
    right: torch.Tensor
    gyri: torch.Tensor
    not_cortical: torch.Tensor
    half_base: torch.Tensor
    near_ventricles: torch.Tensor
    not_deep: torch.Tensor
    deep_hu: torch.Tensor
    cupping: torch.Tensor
    falx: torch.Tensor
    sinus: torch.Tensor
    below_falx: torch.Tensor
    vault_share: torch.Tensor
    scalp_extra: torch.Tensor
    vault: torch.Tensor
    base_bone: torch.Tensor
    base_skin: torch.Tensor
    inner_table: torch.Tensor
    template_bone: torch.Tensor
    flesh: torch.Tensor


@lru_cache(maxsize=2)
def fixed(anatomy: str) -> Fixed:
    """The maps that all heads of an anatomy share.

    Args:
        anatomy: ``A`` or ``B``.
    """
    k, m = KNOBS, maps(anatomy)
    x, y, z = BRAIN.axes()
    depth, base, deep = crop(m.depth), crop(m.base), crop(m.deep)
    above_callosum = torch.sqrt(((y + 18) / 52) ** 2 + ((z - 2) / 30) ** 2)
    behind = torch.sigmoid((z - y - 40.0) / 12.0) * torch.sigmoid((z - 2.0) / 6.0)
    inside = {
        "depth": depth,
        "ventricle": crop(m.ventricle),
        "csf": crop(m.csf),
        "grey": 1.3 * crop(m.grey),
        "right": 0.5 * (1 + torch.tanh(x / 6.0)),
        "gyri": crop(m.cortical) * (1 - 0.7 * base) * (1 - ((depth - 20.0) / 12.0).clamp(0, 1)),
        "not_cortical": 4.0 * (1 - crop(m.cortical)),
        "half_base": 0.5 * base,
        "near_ventricles": torch.exp(-(-crop(m.ventricle)).clamp_min(0.0) / k.white_change_reach_mm),
        "not_deep": 1 - deep,
        "deep_hu": k.deep_grey_extra_hu * deep,
        "cupping": k.cupping_hu * torch.exp(depth.clamp_min(0) * (-1.0 / k.cupping_reach_mm)),
        "falx": k.falx_half_mm * ((above_callosum - 1.0) * 4.0).clamp(-4, 1) + 0.0 * x,
        "sinus": k.sinus_mm * torch.exp(-((depth / k.sinus_mm) ** 2)) * behind,
        "below_falx": 8.0 * (z < -4),
    }
    x, y, z = LATTICE.axes()
    temporal = torch.exp(-(((z + 12) / 30) ** 2) - ((y + 8) / 40) ** 2) * torch.sigmoid((x.abs() - 45) / 3)
    air = torch.sigmoid((-300.0 - m.template) / 60.0) * m.base
    muscles = torch.sigmoid((smooth_field(generator(0, "muscles"), LATTICE, 9.0, asymmetric=0.0) + 0.3) / 0.25)
    flesh = k.fat_hu + (k.muscle_hu - k.fat_hu) * (temporal + m.base * muscles).clamp(0, 1)
    outside = {
        "vault_share": 1 - 0.45 * temporal,
        "scalp_extra": 4.0 * temporal,
        "vault": 1 - m.base,
        "base_bone": k.base_mm * m.base,
        "base_skin": m.base * m.skin,
        "inner_table": 0.5 - m.depth,
        "template_bone": ((m.template - 160.0) / 40.0).clamp(-4.0, 4.0) - 8.0 * (1 - m.base),
        "flesh": flesh + (k.air_hu - flesh) * (2.0 * air - 0.5).clamp(0, 1),
    }
    return Fixed(**{name: value.contiguous() for name, value in (inside | outside).items()})
