"""One head of anatomy A or B: its random parameters, and the smooth maps ("levels") that its tissue is cut from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from strokelib.data.phantom.atlas import BRAIN, LATTICE, crop, maps
from strokelib.data.phantom.fields import generator, read, side_by_side, smooth_field
from strokelib.data.phantom.fixed import Fixed, fixed
from strokelib.data.phantom.knobs import KNOBS

CENTRE_MM = (0.0, -18.0, 8.0)
PINEAL_MM, PLEXUS_MM, PALLIDUM_MM = (0.0, -27.0, 4.0), (24.0, -41.0, 9.0), (18.0, -3.0, 0.0)


@dataclass(frozen=True)
class Head:
    """All that is random about one head; its fields follow from ``seed``.

    Args:
        seed: Seed of the random fields.
        anatomy: ``A`` or ``B``.
        age: Age in years that the head shows; drawn where the patient's own is missing.
        size: Factor along x, y, z against the standard brain.
        torque_mm: Opposite shift of the two halves along y.
        ventricle_mm: Outward shift of the ventricles' wall, (right, left).
        sulcus_mm: Half-width of the sulci at the surface.
        rim_mm: Width of the fluid below the inner table.
        cistern_log: Widening of fissures and cisterns.
        skull_mm: Thickness of the vault, in standard mm like all that follows.
        scalp_mm: Thickness of the scalp.
        white_change: Loss of density about the ventricles, 0 to 1.
        density_hu: Shift of all brain tissue.
        calcium_mm: Radii of pineal body, right and left plexus, both pallida and thickness of a calcified falx; 0 is
            none.
        chronic: Old infarcts: centre x, y, z (standard mm) and radius in mm.
    """

    seed: int
    anatomy: str
    age: float
    size: tuple[float, float, float]
    torque_mm: float
    ventricle_mm: tuple[float, float]
    sulcus_mm: float
    rim_mm: float
    cistern_log: float
    skull_mm: float
    scalp_mm: float
    white_change: float
    density_hu: float
    calcium_mm: tuple[float, float, float, float, float]
    chronic: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Levels:
    """Smooth maps of one head, to be sampled at points of the standard frame.

    Args:
        brain: (6, D, H, W) on :data:`BRAIN`: fluid (mm, positive in ventricles, cisterns and below the skull), distance
            to the next sulcus' sheet (mm), half-width of the sulci (mm, less what :func:`_thinned` takes), grey over
            white (log), added HU, half-width of the falx (mm).
        outside: (4, D, H, W) on the atlas' lattice: depth, skin, bone (mm, positive in vault and base), soft tissue
            (HU).
        calcium: Points (x, y, z, radius) in standard mm.
        chronic: Old infarcts (x, y, z, radius) in standard mm.
    """

    brain: torch.Tensor
    outside: torch.Tensor
    calcium: tuple[tuple[float, float, float, float], ...]
    chronic: tuple[tuple[float, float, float, float], ...]


def draw_head(
    seed: int,
    age: float | None = None,
    sex: str | None = None,
    prior_stroke: bool | None = None,
    *,
    anatomy: str = "A",
    healthy: bool = False,
    ages: tuple[float, float] = (KNOBS.age_mean, KNOBS.age_sd),
) -> Head:
    """Draw a head; what is unknown of the patient is drawn as well.

    Args:
        seed: Seed of the case.
        age: Years, or None.
        sex: ``M``, ``F`` or None.
        prior_stroke: Whether the patient had a stroke before; None counts as no.
        anatomy: ``A`` or ``B``.
        healthy: No change of white matter, no calcification, no old infarct, whatever the age.
        ages: Mean and SD in years of an age that has to be drawn.
    """
    k, rng = KNOBS, generator(seed, "head")
    drawn_age = float(np.clip(rng.normal(*ages), 18, 95))
    drawn_sex = "M" if rng.random() < 0.5 else "F"
    age = drawn_age if age is None or np.isnan(age) else float(age)
    decades = (age - 65.0) / 10.0
    overall = (k.size_male if (sex or drawn_sex) == "M" else -k.size_male) + rng.normal(0, k.size_sd)
    living = k.living_size if anatomy == "A" else k.living_size_b
    size = tuple(living * float(np.clip(1 + overall + d, 0.93, 1.07)) for d in rng.normal(0, 0.5 * k.size_sd, 3))
    both = k.ventricle_mm_at_65 + k.ventricle_mm_per_decade * decades + rng.normal(0, k.ventricle_sd_mm)
    sides = rng.normal(0, k.ventricle_side_sd_mm, 2)
    atrophy = rng.normal()
    old = 1 / (1 + np.exp(-(age - k.old_age) / k.old_age_spread))
    calcified = rng.random(4) < _calcified_shares(old)
    radii = rng.uniform(1.2, 2.8, 3)
    count = int(bool(prior_stroke)) + int(rng.random() < k.silent_stroke_share * old)
    chronic = []
    for _ in range(count):
        angle, height, side = rng.uniform(0, 2 * np.pi), rng.uniform(-10, 45), rng.choice((-1.0, 1.0))
        x = side * (16 + 26 * abs(np.cos(angle)))
        chronic.append(
            (
                float(x),
                float(-20 + 42 * np.sin(angle)),
                float(height),
                float(rng.uniform(k.chronic_radius_min_mm, k.chronic_radius_max_mm)),
            )
        )
    white_change = float(np.clip(old * rng.gamma(k.white_change_shape, k.white_change_scale), 0, 1))
    calcified = calcified & (not healthy)
    return Head(
        seed=seed,
        anatomy=anatomy,
        age=age,
        size=size,
        torque_mm=float(rng.normal(0.5 * k.torque_mm, 0.5 * k.torque_mm)),
        ventricle_mm=tuple(float(np.clip(both + s, -3.0, 4.0)) for s in sides),
        sulcus_mm=float(k.sulcus_mm_at_65 + k.sulcus_mm_per_decade * decades + k.sulcus_sd_mm * atrophy),
        rim_mm=float(np.clip(k.rim_mm_at_65 + k.rim_mm_per_decade * decades + 0.5 * atrophy, 0.4, 5.0)),
        cistern_log=float(k.cistern_log_at_65 + k.cistern_log_per_decade * decades + 0.15 * atrophy),
        skull_mm=float(np.clip(rng.normal(k.skull_mm, k.skull_sd_mm), 4.0, 10.0) / living),
        scalp_mm=float(np.clip(rng.normal(k.scalp_mm, k.scalp_sd_mm), 3.0, 9.0) / living),
        white_change=0.0 if healthy else white_change,
        density_hu=float(rng.normal(0, k.head_hu_sd)),
        calcium_mm=(
            float(calcified[0] * radii[0]),
            float(calcified[1] * radii[1]),
            float(calcified[1] * radii[2]),
            float(calcified[2] * radii[1]),
            float(calcified[3] * rng.uniform(0.3, 0.8)),
        ),
        chronic=() if healthy else tuple(chronic),
    )


def _calcified_shares(old: float) -> np.ndarray:
    """Probability that pineal body, plexus, pallidum and falx are calcified; ``old`` is 0 to 1."""
    k = KNOBS
    extra = k.calcified_old_extra * old
    base = (k.calcified_pineal_share, k.calcified_plexus_share, 0.0, k.calcified_falx_share)
    return np.array(base) + np.array((extra, extra, k.calcified_pallidum_old_share * old, 0.5 * extra))


@lru_cache(maxsize=2)
def _radial_points(anatomy: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Voxels of :data:`BRAIN` in the skull, as an index, and the point whose folding pattern each shows, in the units
    of :meth:`Lattice.normalised`: folds run inwards."""
    within = (crop(maps(anatomy).depth) > -4.0).reshape(-1)
    x, y, z = (a.expand(BRAIN.shape).reshape(-1) for a in BRAIN.axes())
    offset = torch.stack((x, y + 18.0, z - 8.0))
    radius = torch.sqrt((offset[0] / 66) ** 2 + (offset[1] / 84) ** 2 + (offset[2] / 70) ** 2).clamp_min(0.15)
    points = offset * radius.pow(-0.55) + torch.tensor([[0.0], [-18.0], [8.0]])
    return within.nonzero()[:, 0], BRAIN.normalised(points[:, within].contiguous())


def _slope(volume: torch.Tensor, step: float) -> torch.Tensor:
    """Length of the gradient: central differences, at the ends those of neighbours; ``volume`` is left as it is."""
    total: torch.Tensor | None = None
    for axis, n in enumerate(volume.shape):
        twice = torch.empty_like(volume)
        torch.sub(volume.narrow(axis, 2, n - 2), volume.narrow(axis, 0, n - 2), out=twice.narrow(axis, 1, n - 2))
        for end, first in ((0, 0), (n - 1, n - 2)):
            one = volume.select(axis, first + 1) - volume.select(axis, first)
            twice.select(axis, end).copy_(one.mul_(2.0))
        twice.mul_(twice)
        total = twice if total is None else total.add_(twice)
    return total.sqrt_().mul_(0.5 / step)


def _folds(head: Head, same: Fixed) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed distance to the sheets that the sulci follow, and the sulci's half-width, both in mm."""
    k, rng = KNOBS, generator(head.seed, "folds")
    pattern = smooth_field(rng, BRAIN, k.sulcus_spacing_mm, asymmetric=k.sulcus_asymmetric_share, band=True)
    within, points = _radial_points(head.anatomy)
    pattern.view(-1).index_copy_(0, within, read(pattern[None], points)[0])
    slope = _slope(pattern, BRAIN.step)
    distance = pattern.div_(slope.clamp_min_(float(0.6 * slope.mean())))
    share = {"asymmetric": k.asymmetric_share}
    width = smooth_field(rng, BRAIN, 18.0, **share).mul_(0.6).add_(1).mul_(head.sulcus_mm)
    reach = smooth_field(rng, BRAIN, 16.0, **share).mul_(0.3).add_(1).mul_(k.sulcus_depth_mm)
    taper = (same.depth - head.rim_mm).div_(reach).neg_().add_(1.15).clamp_(-1.0, 1.0)
    return distance, width.mul_(taper).sub_(same.not_cortical).sub_(same.half_base)


def _thinned(half_width: torch.Tensor, edge_mm: float, out: torch.Tensor) -> None:
    """Half-widths whose logistic edges give a thin slab the share that it fills: e ln(1 - exp(-h / e)) is added."""
    thin = (half_width / edge_mm).clamp_min_(1e-4).neg_().exp_().neg_().log1p_().mul_(edge_mm).add_(half_width)
    torch.where(half_width > 0, thin, half_width - 4.0, out=out)


def build(head: Head, swelling: torch.Tensor | None = None, edge_mm: float = 0.5) -> Levels:
    """The levels of a head. Most is done in place: fresh memory costs as much time as the sums.

    Args:
        head: Its parameters.
        swelling: (D, H, W) on :data:`BRAIN`, mm by which fluid spaces are narrowed by a swollen infarct, or None.
        edge_mm: Scale of the edges that the levels will be cut with.
    """
    k, same = KNOBS, fixed(head.anatomy)
    share = {"asymmetric": k.asymmetric_share}
    brain = torch.empty(6, *BRAIN.shape)
    fluid, distance, thin, grey, added, falx = brain
    folds, half_width = _folds(head, same)
    distance.copy_(folds)
    rng = generator(head.seed, "tissue")
    right, left = head.ventricle_mm
    torch.add(same.ventricle, same.right * right, out=fluid).add_((1 - same.right) * left)
    cistern = smooth_field(rng, BRAIN, 14.0, **share).mul_(0.35)
    cistern = (same.csf + head.cistern_log).add_(cistern).mul_(k.cistern_mm_per_log)
    torch.maximum(fluid, cistern, out=fluid)
    if swelling is not None:
        half_width -= swelling
        fluid -= swelling
    torch.maximum(fluid, torch.sub(head.rim_mm, same.depth, out=cistern), out=fluid)
    _thinned(half_width, edge_mm, thin)
    gyral = folds.abs_().sub_(half_width.clamp_min_(0.0)).neg_().add_(k.cortex_mm).clamp_(-4.0, 4.0)
    torch.add(same.grey, gyral.mul_(0.55).mul_(same.gyri), out=grey).sub_(0.3)
    grey += smooth_field(rng, BRAIN, 8.0).mul_(0.5)
    torch.mul(smooth_field(rng, BRAIN, k.density_spacing_mm, **share), k.density_sd_hu, out=added).add_(head.density_hu)
    if head.white_change > 0:
        patchy = smooth_field(rng, BRAIN, 12.0, **share).mul_(0.6).add_(0.8).clamp_(0.0, 1.8)
        lost = torch.mul(same.near_ventricles, k.white_change_hu * head.white_change, out=gyral)
        added -= lost.mul_(patchy).mul_(same.not_deep)
    added.add_(same.deep_hu).add_(same.cupping)
    torch.add(same.falx, 0.5 * head.calcium_mm[4], out=falx).add_(same.sinus).sub_(same.below_falx)
    return Levels(side_by_side(brain), side_by_side(_outside(head, same)), _calcium(head), head.chronic)


def _calcium(head: Head) -> tuple[tuple[float, float, float, float], ...]:
    pineal, right, left, pallidum, _ = head.calcium_mm
    (px, py, pz), (bx, by, bz) = PLEXUS_MM, PALLIDUM_MM
    spots = (
        (*PINEAL_MM, pineal),
        (px, py, pz, right),
        (-px, py, pz, left),
        (bx, by, bz, pallidum),
        (-bx, by, bz, pallidum),
    )
    return tuple(s for s in spots if s[3] > 0)


def _outside(head: Head, same: Fixed) -> torch.Tensor:
    """Levels of skull and scalp on the atlas' lattice."""
    k, rng, within = KNOBS, generator(head.seed, "skull"), maps(head.anatomy).depth
    out = torch.empty(4, *LATTICE.shape)
    depth, skin, bone, flesh = out
    depth.copy_(within)
    flesh.copy_(same.flesh)
    uneven = smooth_field(rng, LATTICE, 32.0, asymmetric=k.skull_asymmetric_share)
    thickness = torch.mul(same.vault_share, head.skull_mm, out=bone).add_(torch.mul(uneven, 0.8, out=skin))
    thickness.clamp_min_(2.0).mul_(same.vault).add_(same.base_bone)
    torch.add(same.scalp_extra, head.scalp_mm, out=skin).sub_(uneven.mul_(0.4))
    skin.add_(thickness).add_(within).mul_(same.vault).add_(same.base_skin)
    bone.add_(within)
    torch.minimum(same.inner_table, bone, out=bone)
    torch.maximum(bone, same.template_bone, out=bone)
    return out
