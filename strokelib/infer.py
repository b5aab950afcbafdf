"""From a trained network to probabilities: slices, cases and sliding windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from strokelib.data.cases import Case
from strokelib.data.loading import Normalise, brain_box, case_images
from strokelib.errors import ParameterError
from strokelib.nn.precision import autocast, channels_last

VERSION = 1
SIGMA_SCALE = 0.125
SMALLEST_WEIGHT = 1e-3


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put a network into eval mode; afterwards every part has the mode it had before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


def model_device(model: nn.Module) -> torch.device:
    """Where a network's weights lie (the CPU for a network without any)."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def foreground(logits: Tensor) -> Tensor:
    """Foreground probability (B, *size) of logits: softmax's class 1 of (B, 2, *size), the sigmoid of (B, 1, *size)."""
    logits = logits.float()
    if logits.shape[1] == 1:
        return logits[:, 0].sigmoid()
    return logits.softmax(dim=1)[:, 1]


def predict_slices(
    model: nn.Module, images: Tensor, batch: int = 16, *, amp: str = "auto", mirror: bool = False
) -> np.ndarray:
    """Foreground probability of each slice.

    Args:
        model: Maps (B, C, H, W) to logits (B, 1 or 2, H, W); it stays on its device and in its mode.
        images: (N, C, H, W).
        batch: Slices at a time.
        amp: As in :func:`strokelib.nn.precision.resolve_amp`.
        mirror: Average with the prediction of the mirror image.

    Returns:
        (N, H, W) float32 in [0, 1].
    """
    device = model_device(model)
    out = np.empty((len(images), *images.shape[2:]), np.float32)
    with evaluating(model), torch.inference_mode(), autocast(amp, device):
        for start in range(0, len(images), batch):
            x = channels_last(images[start : start + batch].to(device))
            p = foreground(model(x))
            if mirror:
                p = (p + foreground(model(x.flip(-1))).flip(-1)) / 2
            out[start : start + batch] = p.cpu().numpy()
    return out


def predict_case(
    model: nn.Module,
    case: Case,
    *,
    window_hu: tuple[float, float],
    normalise: Normalise,
    batch: int = 16,
    amp: str = "auto",
    mirror: bool = False,
) -> np.ndarray:
    """Foreground probability of one case, slice by slice, in a window about the brain; 0 outside the brain.

    Args:
        model: As in :func:`predict_slices`, with one input channel.
        case: A prepared case.
        window_hu: As in training.
        normalise: As in training.
        batch: Slices at a time.
        amp: As in :func:`strokelib.nn.precision.resolve_amp`.
        mirror: Average with the prediction of the mirror image.

    Returns:
        (D, H, W) float32 in [0, 1].
    """
    images = torch.from_numpy(case_images(case, window_hu, normalise))[:, None]
    if case.brain is None:
        return predict_slices(model, images, batch, amp=amp, mirror=mirror)
    place = (case.brain.any(axis=(1, 2)), *brain_box(case.brain))
    probability = np.zeros(case.brain.shape, np.float32)
    probability[place] = predict_slices(model, images[place[0]][..., place[1], place[2]], batch, amp=amp, mirror=mirror)
    return np.where(case.brain, probability, np.float32(0))


def window_starts(size: int, window: int, stride: int) -> list[int]:
    """First voxels of windows along one axis: every ``stride``, the last one moved back to end with the image."""
    if size <= window:
        return [0]
    return [min(start, size - window) for start in range(0, size - window + stride, stride)]


def gaussian_weight(window: Sequence[int]) -> Tensor:
    """Weight of each voxel of a window: a Gaussian of SD 1/8 of the side about the centre, at least 0.001."""
    weight = torch.ones(())
    for side in window:
        x = torch.arange(-(side - 1) / 2, (side - 1) / 2 + 1)
        weight = weight[..., None] * torch.exp(-(x**2) / (2 * (SIGMA_SCALE * side) ** 2))
    return weight.clamp_min(max(SMALLEST_WEIGHT, float(weight.min())))


def sliding_window(
    model: nn.Module,
    volume: Tensor,
    window: Sequence[int],
    stride: Sequence[int],
    gaussian: bool = True,
    *,
    batch: int = 4,
    amp: str = "auto",
) -> Tensor:
    """Logits of an image of any size, averaged over overlapping windows.

    Args:
        model: Maps (B, C, *window) to (B, C', *window); it stays on its device and in its mode.
        volume: (C, *size), two or three spatial axes; a side shorter than the window is padded with
            zeros, half on each side.
        window: Side lengths of the window in voxels.
        stride: Voxels between windows, 1 to the window's side.
        gaussian: Weight the windows' centres more (else all voxels count alike).
        batch: Windows at a time.
        amp: As in :func:`strokelib.nn.precision.resolve_amp`.

    Returns:
        (C', *size) float32 logits on the network's device.

    Raises:
        ParameterError: Window or stride does not fit the volume.
    """
    size, device = tuple(volume.shape[1:]), model_device(model)
    if not len(size) == len(window) == len(stride) or not all(1 <= s <= w for s, w in zip(stride, window, strict=True)):
        raise ParameterError(
            "sliding window",
            found=f"window {tuple(window)} and stride {tuple(stride)} for a volume of size {size}",
            wanted="one side and one stride (1 to the side) for each spatial axis",
            next_step="give as many numbers as the volume has spatial axes",
        )
    before = [max(0, w - s) // 2 for s, w in zip(size, window, strict=True)]
    after = [max(0, w - s) - b for s, w, b in zip(size, window, before, strict=True)]
    pads = [p for pair in reversed(list(zip(before, after, strict=True))) for p in pair]
    padded = nn.functional.pad(volume.to(device), pads)
    starts = itertools.product(*map(window_starts, padded.shape[1:], window, stride))
    places = [(slice(None), *(slice(s, s + w) for s, w in zip(start, window, strict=True))) for start in starts]
    weight = gaussian_weight(window).to(device) if gaussian else torch.ones(tuple(window), device=device)
    total, weights = None, torch.zeros(padded.shape[1:], device=device)
    with evaluating(model), torch.inference_mode(), autocast(amp, device):
        for first in range(0, len(places), batch):
            chunk = places[first : first + batch]
            logits = model(channels_last(torch.stack([padded[p] for p in chunk]))).float()
            if total is None:
                total = torch.zeros((logits.shape[1], *padded.shape[1:]), device=device)
            for place, one in zip(chunk, logits, strict=True):
                total[place] += weight * one
                weights[place[1:]] += weight
    inside = (slice(None), *(slice(b, b + s) for b, s in zip(before, size, strict=True)))
    return (total / weights)[inside].clone()
