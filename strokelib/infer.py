"""From a trained network to probabilities: slices, cases and sliding windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor, nn

from strokelib.data.cases import Case, Volume
from strokelib.data.loading import Normalise, brain_box, case_images
from strokelib.data.preprocess import Prepared
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


def pooled_dice(model: nn.Module, images: Tensor, lesions: Tensor, batch: int = 16) -> float:
    """Dice over the voxels of all slices together, at probability 0.5; 0 where neither shows any lesion.

    Args:
        model: As in :func:`predict_slices`.
        images: (N, C, H, W).
        lesions: (N, H, W), above 0 in the lesion.
        batch: Slices at a time.
    """
    found = predict_slices(model, images, batch) > 0.5
    truth = lesions.numpy() > 0
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


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


def predict_volume(
    model: nn.Module,
    case: Case,
    *,
    window_hu: tuple[float, float],
    normalise: Normalise,
    window: Sequence[int],
    stride: Sequence[int],
    gaussian: bool = True,
    mirror_axes: Sequence[int] = (),
    crop: bool = True,
    batch: int = 4,
    amp: str = "auto",
) -> np.ndarray:
    """Foreground probability of one case from a 3-D network by sliding windows; 0 outside the brain.

    Args:
        model: Maps (B, 1, *window) to logits (B, 1 or 2, *window).
        case: A prepared case.
        window_hu: As in training.
        normalise: As in training.
        window: Side lengths of the window in voxels, (d, h, w).
        stride: Voxels between windows.
        gaussian: As in :func:`sliding_window`.
        mirror_axes: As in :func:`sliding_window`; 2 is left-right.
        crop: Look at the brain's bounding box alone, which needs fewer windows; a side shorter than the window is
            filled with zeros.
        batch: Windows at a time.
        amp: As in :func:`strokelib.nn.precision.resolve_amp`.

    Returns:
        (D, H, W) float32 in [0, 1].
    """
    image = torch.from_numpy(case_images(case, window_hu, normalise))
    place = (slice(None),) * 3
    if crop and case.brain is not None and case.brain.any():
        z = np.flatnonzero(case.brain.any(axis=(1, 2)))
        place = (slice(int(z[0]), int(z[-1]) + 1), *brain_box(case.brain))
    how = {"gaussian": gaussian, "mirror_axes": mirror_axes, "batch": batch, "amp": amp}
    found = foreground(sliding_window(model, image[place][None], window, stride, **how)[None])[0]
    probability = np.zeros(tuple(image.shape), np.float32)
    probability[place] = found.cpu().numpy()
    return probability if case.brain is None else np.where(case.brain, probability, np.float32(0))


def majority(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Voxels that more than half of the masks hold; of an even number of masks, half is not enough.

    Args:
        masks: bool, all of one shape: one a network of an ensemble.

    Raises:
        ParameterError: There is none, a mask is not bool, or the shapes differ.
    """
    shapes = {(np.asarray(mask).shape, np.asarray(mask).dtype == bool) for mask in masks}
    if len(shapes) != 1 or not next(iter(shapes))[1]:
        found = f"{len(masks)} masks of {sorted(str(s) for s, _ in shapes)}"
        raise ParameterError(
            "ensemble", found=found, wanted="bool masks of one shape", next_step="threshold them first"
        )
    return np.sum(masks, axis=0, dtype=np.int32) * 2 > len(masks)


def to_scanner(prepared: Prepared, probability: np.ndarray, threshold: float = 0.5) -> Volume:
    """A prediction on the prepared grid as a mask on the grid of the scan: the probability is moved, then cut.

    Args:
        prepared: What :func:`strokelib.data.preprocess.prepare_ncct` returned for the scan.
        probability: (D, H, W) in [0, 1] on the prepared grid.
        threshold: A voxel above it is lesion.

    Returns:
        bool on the scan's grid, nothing outside its brain.
    """
    placed = prepared.hu.with_array(np.asarray(probability, np.float32))
    moved = prepared.transform.inverse().apply(placed, 1, fill=0.0)
    return moved.with_array((moved.array > threshold) & prepared.native_brain)


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
    mirror_axes: Sequence[int] = (),
    batch: int = 4,
    amp: str = "auto",
) -> Tensor:
    """Logits of an image of any size, averaged over overlapping windows, and over mirror images if asked for.

    Args:
        model: Maps (B, C, *window) to (B, C', *window); it stays on its device and in its mode.
        volume: (C, *size), two or three spatial axes; a side shorter than the window is padded with
            zeros, half on each side.
        window: Side lengths of the window in voxels.
        stride: Voxels between windows, 1 to the window's side.
        gaussian: Weight the windows' centres more (else all voxels count alike).
        mirror_axes: Spatial axes, 0 the first; each window is also seen flipped along every set of them (2 to the power
            of their number), and the logits, flipped back, are averaged.
        batch: Windows at a time.
        amp: As in :func:`strokelib.nn.precision.resolve_amp`.

    Returns:
        (C', *size) float32 logits on the network's device.

    Raises:
        ParameterError: Window, stride or mirror axes do not fit the volume.
    """
    size, device = tuple(volume.shape[1:]), model_device(model)
    if not len(size) == len(window) == len(stride) or not all(1 <= s <= w for s, w in zip(stride, window, strict=True)):
        raise ParameterError(
            "sliding window",
            found=f"window {tuple(window)} and stride {tuple(stride)} for a volume of size {size}",
            wanted="one side and one stride (1 to the side) for each spatial axis",
            next_step="give as many numbers as the volume has spatial axes",
        )
    if len(set(mirror_axes)) < len(mirror_axes) or not set(mirror_axes) <= set(range(len(size))):
        wanted = f"different axes of 0 to {len(size) - 1}"
        raise ParameterError("mirror_axes", found=tuple(mirror_axes), wanted=wanted, next_step="give spatial axes")
    flips = [[a + 2 for a in axes] for n in range(len(mirror_axes) + 1) for axes in combinations(mirror_axes, n)]
    before = [max(0, w - s) // 2 for s, w in zip(size, window, strict=True)]
    after = [max(0, w - s) - b for s, w, b in zip(size, window, before, strict=True)]
    pads = [p for pair in reversed(list(zip(before, after, strict=True))) for p in pair]
    padded = nn.functional.pad(volume.to(device), pads)
    starts = product(*map(window_starts, padded.shape[1:], window, stride))
    places = [(slice(None), *(slice(s, s + w) for s, w in zip(start, window, strict=True))) for start in starts]
    weight = gaussian_weight(window).to(device) if gaussian else torch.ones(tuple(window), device=device)
    total, weights = None, torch.zeros(padded.shape[1:], device=device)
    with evaluating(model), torch.inference_mode(), autocast(amp, device):
        for first in range(0, len(places), batch):
            chunk = places[first : first + batch]
            seen = torch.stack([padded[p] for p in chunk])
            logits = sum(model(channels_last(seen.flip(axes))).float().flip(axes) for axes in flips) / len(flips)
            if total is None:
                total = torch.zeros((logits.shape[1], *padded.shape[1:]), device=device)
            for place, one in zip(chunk, logits, strict=True):
                total[place] += weight * one
                weights[place[1:]] += weight
    inside = (slice(None), *(slice(b, b + s) for b, s in zip(before, size, strict=True)))
    return (total / weights)[inside].clone()
