"""What an image is compared with in integrated gradients: nothing, its blurred self, its own other side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from strokelib.errors import ParameterError

BASELINES = ("background", "blurred", "mirrored")
BLUR_MM = 12.0
LEAST_SHARE = 1e-3


def baseline_of(
    name: str, image: Tensor, brain: np.ndarray, *, fill: Tensor, centre: float, spacing_yx: Sequence[float]
) -> Tensor:
    """The baseline of a name for an image (C, D, H, W).

    Args:
        name: ``background``: the value outside the brain everywhere; ``blurred``: each slice without detail;
            ``mirrored``: what the other side of the head shows.
        image: What the network sees.
        brain: (D, H, W) bool.
        fill: (C,) values outside the brain.
        centre: Column of the mid-sagittal plane, a multiple of a half.
        spacing_yx: (dy, dx) in mm.

    Raises:
        ParameterError: Another name, or a plane between two such columns.
    """
    if name == "background":
        return fill.view(-1, 1, 1, 1).expand_as(image).contiguous()
    if name == "blurred":
        return blurred(image, brain, spacing_yx)
    if name == "mirrored":
        return other_side(image, brain, centre)
    raise ParameterError("baseline", found=repr(name), wanted=" or ".join(BASELINES), next_step="choose one of them")


def blurred(image: Tensor, brain: np.ndarray, spacing_yx: Sequence[float], sigma_mm: float = BLUR_MM) -> Tensor:
    """Each slice blurred in plane, brain alone: a Gaussian mean of what is brain around; outside as it was.

    Args:
        image: (C, D, H, W).
        brain: (D, H, W) bool.
        spacing_yx: (dy, dx) in mm.
        sigma_mm: SD of the Gaussian.
    """
    sigma = (0.0, *(sigma_mm / side for side in spacing_yx))
    share = gaussian_filter(brain.astype(np.float64), sigma)
    values = [gaussian_filter(np.where(brain, one, 0.0).astype(np.float64), sigma) for one in image.cpu().numpy()]
    smooth = torch.from_numpy(np.stack(values) / np.maximum(share, LEAST_SHARE)).to(image)
    return torch.where(torch.from_numpy(brain).to(image.device), smooth, image)


def other_side(image: Tensor, brain: np.ndarray, centre: float) -> Tensor:
    """The image with both sides exchanged where both show brain; as it was elsewhere.

    Args:
        image: (C, D, H, W).
        brain: (D, H, W) bool.
        centre: As in :func:`mirrored`.
    """
    both = torch.from_numpy(brain & mirrored(brain, centre)).to(image.device)
    turned = torch.from_numpy(mirrored(image.cpu().numpy(), centre)).to(image)
    return torch.where(both, turned, image)


def mirrored(values: np.ndarray, centre: float) -> np.ndarray:
    """An array flipped left to right about a column of its last axis; what comes from outside is 0.

    Args:
        values: (..., W).
        centre: Column of the mirror plane, counted from 0: (W - 1) / 2 for the middle. A multiple of a half, so that
            pixels fall onto pixels.

    Raises:
        ParameterError: The column is not such a multiple.
    """
    total = round(2 * centre)
    if abs(2 * centre - total) > 1e-3:
        step = "resample the head so that the plane lies on or between pixels"
        raise ParameterError("mirror plane", found=f"column {centre:.4f}", wanted="a multiple of 0.5", next_step=step)
    columns = total - np.arange(values.shape[-1])
    inside = (columns >= 0) & (columns < values.shape[-1])
    return np.where(inside, values[..., np.clip(columns, 0, values.shape[-1] - 1)], np.zeros((), values.dtype))
