"""What a trained network makes of whole heads: at once, or by parts of the size that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from strokelib.adn.batches import Volumes
from strokelib.adn.model import Disentangled, compensate_intrinsic, intrinsic_asymmetry, total_asymmetry
from strokelib.infer import evaluating, model_device, sliding_window
from strokelib.nn.precision import autocast, channels_last

VERSION = 1
AT_A_TIME = 4
PARTS_AT_A_TIME = 5


def outputs(
    model: nn.Module, images: Tensor, batch: int = AT_A_TIME, segment: tuple[int, int] | None = None
) -> Iterator[Tensor | Disentangled]:
    """What a network makes of volumes (N, 1, D, H, W), some at a time, in their order.

    A volume left alone goes in twice: on a CPU torch convolves a batch of one in three dimensions several times slower
    than a batch of two.

    Args:
        model: Gives logits, or what :class:`strokelib.adn.model.ADN` gives.
        images: On any device.
        batch: Volumes at a time, where they are seen whole.
        segment: Slices and rows of the parts that the network was trained on; then it sees overlapping parts of that
            size, over the full width, and its answers are averaged. Group normalisation takes its statistics over what
            is seen, and those of a whole head are others than those of a part.
    """
    device = model_device(model)
    if segment is not None:
        yield from (_by_parts(model, image.to(device), segment) for image in images)
        return
    with evaluating(model), torch.inference_mode(), autocast("auto", device):
        for start in range(0, len(images), batch):
            part = images[start : start + batch].to(device)
            seen = model(channels_last(part.repeat(2, 1, 1, 1, 1) if len(part) == 1 else part))
            yield Disentangled(*(x[: len(part)] for x in seen)) if isinstance(seen, tuple) else seen[: len(part)]


class _Stacked(nn.Module):
    """A network whose answers are channels: the logits and, of ADN, P."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, d, h, w) to (B, 1 or 2, d, h, w)."""
        found = self.model(x)
        return torch.cat([found.logits, found.pathological], 1) if isinstance(found, Disentangled) else found


def _by_parts(model: nn.Module, image: Tensor, segment: tuple[int, int]) -> Tensor | Disentangled:
    """As :func:`outputs`, of one volume (1, D, H, W)."""
    window = (*(min(side, n) for side, n in zip(segment, image.shape[1:3], strict=True)), image.shape[3])
    stride = (max(1, window[0] * 3 // 4), max(1, window[1] * 3 // 4), window[2])
    found = sliding_window(_Stacked(model), image, window, stride, batch=PARTS_AT_A_TIME)[:, None, None]
    if len(found) == 1:
        return found[0]
    logits, pathological = found
    total = total_asymmetry(image[None])
    intrinsic = intrinsic_asymmetry(total, pathological, model.intrinsic)
    return Disentangled(total, pathological, intrinsic, compensate_intrinsic(image[None], intrinsic), logits)


def lesion_probability(model: nn.Module, images: Tensor, segment: tuple[int, int] | None = None) -> Tensor:
    """Probability of lesion (N, 1, D, H, W) float32 on the CPU, of volumes of the same shape; see :func:`outputs`."""
    found = (x.logits if isinstance(x, Disentangled) else x for x in outputs(model, images, segment=segment))
    return torch.cat([logits.float().sigmoid().cpu() for logits in found])


def pooled_dice(model: nn.Module, volumes: Volumes, segment: tuple[int, int] | None = None) -> float:
    """Dice over the voxels of all heads together, at probability 0.5; see :func:`outputs`."""
    found, truth = lesion_probability(model, volumes.images, segment) > 0.5, volumes.lesions > 0
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()).clamp_min(1))
