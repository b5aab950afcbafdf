"""One patient's real infarct: capped, softened, made patchy and dated, and what its swelling does around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from strokelib.data import shipped
from strokelib.data.phantom.anatomy import BRAIN
from strokelib.data.phantom.distances import nearest_is, signed_distance, squared_depth
from strokelib.data.phantom.fields import Lattice, blur, generator, smooth_field
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.protocols import Protocol

PAD_MM = 8
COARSE = Lattice(corner=BRAIN.corner, step=2 * BRAIN.step, shape=tuple((n + 1) // 2 for n in BRAIN.shape))


@dataclass(frozen=True)
class Infarct:
    """A patient's infarct in the standard frame.

    Args:
        lattice: Box of 1 mm voxels around the mask.
        maps: (3, D, H, W) on ``lattice``: the mask (0 or 1), the strength of the change (0 to about 2, soft at the
            border, mean 1 in the mask), and what a reader draws of the mask (0 or 1).
        volume_ml: Volume of the capped mask.
        onset_hours: Time from onset to the scan.
        drop_hu: Mean loss of density over the mask, in HU.
        contrast_loss: Share of the grey-white difference lost where the strength is 1, 0 to 1.
        squeeze: (D, H, W) on ``BRAIN``, mm by which fluid spaces are narrowed; exactly 0 away from the infarct.
        push: (3, D, H, W) on ``COARSE``, mm by which tissue is pushed outwards; exactly 0 away from the infarct.
    """

    lattice: Lattice
    maps: torch.Tensor
    volume_ml: float
    onset_hours: float
    drop_hu: float
    contrast_loss: float
    squeeze: torch.Tensor
    push: torch.Tensor

    @property
    def side(self) -> str:
        """``left``, ``right`` or ``both`` (less than 90 % on one side)."""
        x = self.lattice.axes()[0].expand(self.lattice.shape)
        right = float((self.maps[0] * (x > 0)).sum() / self.maps[0].sum().clamp_min(1e-6))
        return "right" if right >= 0.9 else "left" if right <= 0.1 else "both"


def water_uptake(onset_hours: float) -> float:
    """Share of density that ischaemic tissue has lost after ``onset_hours``: a saturating exponential from 0."""
    return KNOBS.uptake_limit * (1.0 - float(np.exp(-onset_hours / KNOBS.uptake_time_h)))


def expected_drop_hu(onset_hours: float) -> float:
    """Loss of density in HU expected after ``onset_hours``, before the spread between patients; 2 to 10."""
    normal = 0.5 * (KNOBS.grey_hu + KNOBS.white_hu)
    return float(np.clip(normal * water_uptake(onset_hours), KNOBS.drop_min_hu, KNOBS.drop_max_hu))


def capped(mask: np.ndarray, cap_ml: float) -> np.ndarray:
    """The mask, or its ``cap_ml`` deepest millilitres where it is larger (1 mm voxels)."""
    limit = round(cap_ml * 1000)
    if np.count_nonzero(mask) <= limit:
        return mask
    reach = level = 0
    while level == reach**2:  # all voxels as deep as looked for count as equally deep: look deeper
        reach += PAD_MM
        depth = squared_depth(mask, reach)
        as_deep = np.bincount(depth.ravel())[::-1].cumsum()[::-1]
        level = int(np.flatnonzero(as_deep >= limit)[-1])
    kept = depth > level
    kept.flat[np.flatnonzero(depth == level)[: limit - np.count_nonzero(kept)]] = True
    return kept


def draw_infarct(seed: int, patient: str, protocol: Protocol, label: str = "gold", *, tiny: bool = True) -> Infarct:
    """Take a patient's mask and draw what the mask does not say: time since onset, contrast, patchiness.

    Args:
        seed: Seed of the case.
        patient: Name of the patient whose mask is used.
        protocol: The cohort's, for the time since onset.
        label: ``gold`` (the reader draws the mask) or ``silver`` (with a reader's error).
        tiny: Whether strengths below 1e-38 are kept, far from the mask. They show in an image only as the sign of a
            zero, and only where one of a slice's sub-slices leaves the box.
    """
    k, rng = KNOBS, generator(seed, "infarct")
    volume = shipped.infarct(patient)
    mask = volume.array
    extents = (mask.any((1, 2)), mask.any((0, 2)), mask.any((0, 1)))
    where = tuple(slice(int(a.argmax()), len(a) - int(a[::-1].argmax())) for a in extents)
    start = [s.start - PAD_MM for s in where]
    full = capped(np.pad(mask[where], PAD_MM), k.lesion_cap_ml)
    shape = full.shape
    corner = (volume.affine @ np.array([start[2], start[1], start[0], 1.0]))[:3]
    lattice = Lattice(tuple(float(c) for c in corner), 1.0, shape)
    drawn = np.exp(rng.normal(np.log(protocol.onset_h), protocol.onset_log_sd))
    onset = float(np.clip(drawn, k.onset_min_h, k.onset_max_h))
    drop = expected_drop_hu(onset) * float(np.exp(rng.normal(0, k.drop_log_sd)))
    solid = torch.from_numpy(full.astype(np.float32))
    patches = smooth_field(rng, lattice, k.patch_spacing_mm).mul_(k.patchiness).add_(1).clamp_(0.25, 1.9)
    strength = blur(solid, lattice, lattice, k.border_mm, tiny=tiny).mul_(patches)
    strength.div_(float(torch.from_numpy(strength.numpy()[full]).mean()))
    squeeze, push = _swelling(lattice, solid, onset)
    return Infarct(
        lattice=lattice,
        maps=torch.stack((solid, strength, solid if label == "gold" else read_with_error(seed, lattice, full))),
        volume_ml=float(full.sum()) / 1000.0,
        onset_hours=onset,
        drop_hu=float(np.clip(drop, k.drop_min_hu, k.drop_max_hu)),
        contrast_loss=k.grey_white_loss * min(1.0, water_uptake(onset) / water_uptake(12.0)),
        squeeze=squeeze,
        push=push,
    )


def read_with_error(seed: int, lattice: Lattice, full: np.ndarray) -> torch.Tensor:
    """What a less careful reader draws of an infarct: the border moved in and out, small parts missed.

    Args:
        seed: Seed of the case.
        lattice: The mask's box, of 1 mm voxels.
        full: (D, H, W) bool, the mask.

    Returns:
        (D, H, W) float32, 0 or 1, in the same box.
    """
    k, rng = KNOBS, generator(seed, "reader")
    shift = rng.normal(k.reader_bias_mm, k.reader_bias_sd_mm)
    wander = k.reader_sd_mm * smooth_field(rng, lattice, k.reader_spacing_mm).numpy()
    moved = np.clip(shift + wander, 1.0 - PAD_MM, PAD_MM - 1.0)
    drawn = signed_distance(full, PAD_MM, np.float64) + moved > 0
    parts, count = ndimage.label(full)
    sizes = np.bincount(parts[full])[1:] / 1000.0
    missed = rng.random(count) < np.exp(-sizes / k.reader_misses_ml)
    if missed.all():
        missed[sizes.argmax()] = False
    if missed.any():
        drawn &= ~nearest_is(np.concatenate(([False], missed))[parts], full, PAD_MM)
    return torch.from_numpy(drawn.astype(np.float32))


def _swelling(lattice: Lattice, solid: torch.Tensor, onset_hours: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Narrowing of fluid spaces and outward push, growing with volume and time, on ``BRAIN`` and ``COARSE``."""
    k = KNOBS
    volume_ml = float(solid.sum()) / 1000.0
    strength = min(1.0, (volume_ml / k.swelling_full_ml) ** (2 / 3)) * min(1.0, onset_hours / k.swelling_full_h)
    coarse = blur(solid, lattice, COARSE, k.swelling_reach_mm, tiny=False)
    near = ((coarse - 0.03) / 0.97).clamp_min(0.0)
    slope = torch.stack(torch.gradient(near, spacing=COARSE.step))[[2, 1, 0]]
    slope[:2] *= -1.0
    steepest = float(slope.pow(2).sum(0).sqrt().max())
    push = -slope * (k.expansion_mm * strength / max(steepest, 1e-6))
    fine = F.interpolate(near[None, None], size=BRAIN.shape, mode="trilinear", align_corners=True)[0, 0]
    return k.effacement_mm * strength * fine, push
