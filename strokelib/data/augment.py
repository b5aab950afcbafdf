"""Augmentation of slices: mirror, rotation, zoom, shift, contrast, noise, each drawn from the sample's generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

VERSION = 1


@dataclass(frozen=True)
class Augmentation:
    """How far a slice may be changed; all draws are uniform unless said otherwise. 0 switches a change off.

    Args:
        mirror: Probability of a left-right mirror.
        rotation_deg: Largest rotation to either side.
        zoom: Largest relative change of size.
        shift: Largest shift as a fraction of the image's side.
        contrast: Largest relative change of the deviations from the slice's mean.
        brightness: Largest shift of intensity, in the image's unit.
        noise: SD of the added Gaussian noise, in the image's unit.
    """

    mirror: float = 0.5
    rotation_deg: float = 10.0
    zoom: float = 0.1
    shift: float = 0.03
    contrast: float = 0.1
    brightness: float = 0.02
    noise: float = 0.01


NONE = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def augment(
    images: Tensor, lesions: Tensor, settings: Augmentation, generators: Sequence[np.random.Generator]
) -> tuple[Tensor, Tensor]:
    """Change a batch; the sample at place i depends on generator i alone, not on its neighbours in the batch.

    Args:
        images: (B, C, H, W).
        lesions: (B, H, W), class numbers.
        settings: How far.
        generators: One a sample.

    Returns:
        Images (B, C, H, W) and lesions (B, H, W, int64). Where a rotation brings in what lay outside, the border's
        value is repeated. The background (each slice's smallest value) keeps its value.
    """
    draws = np.array([g.random(7) for g in generators])
    signed = 2 * draws - 1
    angle = np.radians(settings.rotation_deg) * signed[:, 0]
    scale = 1 + settings.zoom * signed[:, 1]
    flip = np.where(draws[:, 6] < settings.mirror, -1.0, 1.0)
    images, lesions = _move(images, lesions, angle, scale, flip, 2 * settings.shift * signed[:, 2:4])
    contrast, brightness = (
        torch.from_numpy(v).to(images.dtype)[:, None, None, None]
        for v in (1 + settings.contrast * signed[:, 4], settings.brightness * signed[:, 5])
    )
    inside = images > images.amin(dim=(2, 3), keepdim=True)
    mean = (images * inside).sum(dim=(2, 3), keepdim=True) / inside.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    changed = (images - mean) * contrast + mean + brightness
    if settings.noise > 0:
        noise = np.stack([g.standard_normal(images.shape[1:], dtype=np.float32) for g in generators])
        changed = changed + settings.noise * torch.from_numpy(noise)
    return torch.where(inside, changed, images), lesions


def _move(
    images: Tensor, lesions: Tensor, angle: np.ndarray, scale: np.ndarray, flip: np.ndarray, shift: np.ndarray
) -> tuple[Tensor, Tensor]:
    moved = (angle != 0) | (scale != 1) | (flip != 1) | (shift != 0).any(axis=1)
    if not moved.any():
        return images, lesions.long()
    height, width = images.shape[2:]
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # Coordinates run from -1 to 1 along both sides, so a rotation needs the sides' ratio.
    rows = [[flip * cos, -flip * sin * height / width, shift[:, 0]], [sin * width / height, cos, shift[:, 1]]]
    theta = torch.from_numpy(np.stack([np.stack(r, axis=-1) for r in rows], axis=1)).to(images.dtype)
    both = torch.cat([images, lesions[:, None].to(images.dtype)], dim=1)
    grid = functional.affine_grid(theta, list(both.shape), align_corners=False)
    both = functional.grid_sample(both, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return both[:, :-1], (both[:, -1] >= 0.5).long()
