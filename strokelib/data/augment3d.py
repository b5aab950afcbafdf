"""Augmentation of volumes: mirror, turn, zoom, shift, gamma, contrast, brightness, blur, coarser voxels, noise.

Our own tensors and not MONAI's transforms, for three reasons: each sample is drawn from its own generator, so that a
stream of samples can be cut into batches, stopped and resumed anywhere; a moved patch is read from the whole volume
with one interpolation, so that no border is invented; and training then imports nothing but torch and numpy. The
turn and zoom agree with MONAI's on the same matrix (a test compares them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from strokelib.data.moves import Move, cut

VERSION = 1
SD_REACH = 3.0  # a Gaussian is cut at so many SD
SMALLEST_SD_VOXELS = 0.15  # below this the neighbours' weight is under 1e-9


@dataclass(frozen=True)
class Chance:
    """How often a change is made, and how far it goes at most; where either is 0 it is off."""

    probability: float = 0.0
    reach: float = 0.0


@dataclass(frozen=True)
class Augmentation3d:
    """How a volume may be changed; reaches are drawn uniformly and, where they have a sign, to both sides.

    Defaults follow nnU-Net's in kind and frequency; a move in space is drawn once for turn, zoom and shift together.

    Args:
        mirror: Probability of a reversal of the axes z, y, x.
        moved: Probability of a turn, zoom and shift.
        rotation_deg: Largest turns about the axes z, y, x.
        zoom: Largest relative change of size.
        shift: Largest shift as a fraction of the sides.
        gamma: Largest natural logarithm of the exponent; the ends of the patch's range stay.
        contrast: Largest relative change of the deviations from the patch's mean.
        brightness: Largest shift, in the image's unit.
        blur_mm: Largest SD of a Gaussian in mm.
        coarse: Largest voxel size simulated, in units of the smallest side of a voxel, from 1.
        noise: Largest SD of the added Gaussian noise, in the image's unit.
    """

    mirror: tuple[float, float, float] = (0.0, 0.0, 0.5)
    moved: float = 0.3
    rotation_deg: tuple[float, float, float] = (15.0, 5.0, 5.0)
    zoom: float = 0.2
    shift: float = 0.03
    gamma: Chance = Chance(0.3, 0.4)
    contrast: Chance = Chance(0.15, 0.25)
    brightness: Chance = Chance(0.15, 0.1)
    blur_mm: Chance = Chance(0.2, 2.0)
    coarse: Chance = Chance(0.25, 2.0)
    noise: Chance = Chance(0.1, 0.1)


NONE_3D = Augmentation3d(
    (0.0, 0.0, 0.0), 0.0, (0.0, 0.0, 0.0), 0.0, 0.0, Chance(), Chance(), Chance(), Chance(), Chance(), Chance()
)


def draw_move(settings: Augmentation3d, generator: np.random.Generator) -> Move:
    """Draw a move; the generator advances by the same number of draws whatever the settings are."""
    draws = generator.random(11)
    mirror = tuple(bool(d < p) for d, p in zip(draws[:3], settings.mirror, strict=True))
    if draws[3] >= settings.moved:
        return Move(mirror=mirror)
    signed = 2 * draws[4:] - 1
    angles = tuple(float(a * s) for a, s in zip(settings.rotation_deg, signed[:3], strict=True))
    shift = tuple(float(settings.shift * s) for s in signed[4:])
    return Move(angles, 1 + settings.zoom * float(signed[3]), shift, mirror)


def change_intensities(
    images: Tensor, settings: Augmentation3d, generator: np.random.Generator, spacing: Sequence[float], fill: Tensor
) -> Tensor:
    """Change the intensities of one volume; all channels undergo the same.

    Args:
        images: (C, D, H, W).
        settings: How far and how often.
        generator: What is drawn from; all but the noise takes the same number of draws whatever the settings are.
        spacing: (dz, dy, dx) in mm.
        fill: (C,) value of the background, which keeps it.

    Returns:
        (C, D, H, W); the input itself where nothing was drawn.
    """
    chances = (settings.gamma, settings.contrast, settings.brightness, settings.blur_mm, settings.coarse)
    draws = generator.random((len(chances) + 1, 2))
    chances = (*chances, settings.noise)
    gamma, contrast, brightness, blur_mm, coarse, noise = (
        chance.reach * amount if happens < chance.probability else 0.0
        for chance, (happens, amount) in zip(chances, draws, strict=True)
    )
    sign = np.where(generator.random(3) < 0.5, -1.0, 1.0)
    inside = images != fill.view(-1, 1, 1, 1)
    if not (gamma or contrast or brightness or blur_mm or coarse or noise) or not inside.any():
        return images
    changed = images
    if blur_mm:
        changed = blur(changed, [blur_mm / step for step in spacing])
    if coarse:
        size = 1 + (settings.coarse.reach - 1) * coarse / settings.coarse.reach
        changed = coarsen(changed, spacing, size * min(spacing))
    if gamma:
        changed = bend(changed, float(np.exp(sign[0] * gamma)))
    if contrast:
        count = inside.sum(dim=(1, 2, 3), keepdim=True).clamp_min(1)
        mean = (changed * inside).sum(dim=(1, 2, 3), keepdim=True) / count
        changed = (changed - mean) * (1 + sign[1] * contrast) + mean
    if brightness:
        changed = changed + sign[2] * brightness
    if noise:
        changed = changed + noise * torch.from_numpy(generator.standard_normal(images.shape, dtype=np.float32))
    return torch.where(inside, changed.to(images.dtype), images)


def blur(images: Tensor, sd_voxels: Sequence[float]) -> Tensor:
    """Images (C, D, H, W) under a Gaussian of so many voxels' SD along z, y, x; the border's value is repeated."""
    for axis, sd in enumerate(sd_voxels):
        if sd < SMALLEST_SD_VOXELS:
            continue
        reach = int(np.ceil(SD_REACH * sd))
        weights = torch.exp(-((torch.arange(-reach, reach + 1) / sd) ** 2) / 2)
        shape, pads = [1] * 5, [0] * 6
        shape[axis + 2], pads[4 - 2 * axis : 6 - 2 * axis] = -1, (reach, reach)
        padded = functional.pad(images[:, None], pads, mode="replicate")
        images = functional.conv3d(padded, (weights / weights.sum()).to(images.dtype).view(shape))[:, 0]
    return images


def coarsen(images: Tensor, spacing: Sequence[float], coarse_mm: float) -> Tensor:
    """Images (C, D, H, W) as they would look on voxels of ``coarse_mm``; axes that are coarser already stay."""
    size = [max(1, round(n * min(1.0, step / coarse_mm))) for n, step in zip(images.shape[1:], spacing, strict=True)]
    small = functional.interpolate(images[None], size=size, mode="nearest-exact")
    return functional.interpolate(small, size=images.shape[1:], mode="trilinear", align_corners=False)[0]


def bend(images: Tensor, exponent: float) -> Tensor:
    """Images (C, D, H, W) with each channel's range mapped to [0, 1], raised to a power and mapped back."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    span = (high - low).clamp_min(torch.finfo(images.dtype).tiny)
    return ((images - low) / span) ** exponent * (high - low) + low


def augment_volumes(
    images: Tensor,
    lesions: Tensor,
    settings: Augmentation3d,
    generators: Sequence[np.random.Generator],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """Change a batch of whole volumes; the sample at place i depends on generator i alone.

    Args:
        images: (B, C, D, H, W) float32; each channel's smallest value is its background.
        lesions: (B, D, H, W), class numbers.
        settings: How far and how often.
        generators: One a sample.
        spacing: (dz, dy, dx) in mm.

    Returns:
        Images (B, C, D, H, W) and lesions (B, D, H, W) int64; outside the volume lie background and class 0.
    """
    moved = []
    for image, lesion, generator in zip(images, lesions, generators, strict=True):
        fill, move = image.amin(dim=(1, 2, 3)), draw_move(settings, generator)
        seen, truth = cut(image, lesion, (0, 0, 0), lesion.shape, spacing=spacing, move=move, fill=fill)
        moved.append((change_intensities(seen, settings, generator, spacing, fill), truth))
    return torch.stack([image for image, _ in moved]), torch.stack([lesion for _, lesion in moved])
