"""Does an explanation depend on what the network has learnt? Its layers are drawn anew, from the output downwards."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from strokelib.errors import DataError, ParameterError
from strokelib.infer import evaluating
from strokelib.metrics.images import WINDOW, ssim_map
from strokelib.stats.agreement import spearman

BRIGHTEST = 99.5


def layers_from_output(model: nn.Module, run: Callable[[nn.Module], object]) -> list[str]:
    """Names of the layers that hold weights, in the order in which they are met from the output to the input.

    Args:
        model: A network.
        run: Passes something through the network that it is given; a layer that is not met does not count.
    """
    met: list[str] = []
    owners = {name: part for name, part in model.named_modules() if any(True for _ in part.parameters(recurse=False))}
    handles = [part.register_forward_hook(lambda *_, name=name: met.append(name)) for name, part in owners.items()]
    try:
        with evaluating(model), torch.no_grad():
            run(model)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(reversed(met)))


def randomised(trained: nn.Module, untrained: nn.Module, layers: list[str], share: float) -> nn.Module:
    """A copy of a network whose layers next to the output are those of an untrained one.

    Source: Sec. 3.1, Adebayo et al. 2018 (cascading randomization).
    Deviation: none; weights and running statistics come from the network's own initialisation.

    Args:
        trained: The network.
        untrained: The same network, just built.
        layers: From :func:`layers_from_output`.
        share: Of the layers that are exchanged, 0 to 1; rounded to whole layers.

    Raises:
        ParameterError: The share is out of range.
        DataError: There is no layer, or the untrained network is another one.
    """
    if not 0 <= share <= 1:
        raise ParameterError("share of layers", found=share, wanted="0 to 1", next_step="correct it")
    known = dict(untrained.named_modules())
    if not layers or not set(layers) <= set(known):
        found = f"{len(layers)} layers, {len(set(layers) - set(known))} of them unknown to the untrained network"
        step = "build it with the same recipe"
        raise DataError("layers", found=found, wanted="some, and all of them in both networks", next_step=step)
    changed = copy.deepcopy(trained)
    parts = dict(changed.named_modules())
    with torch.no_grad():
        for name in layers[: round(share * len(layers))]:
            for kind in ("_parameters", "_buffers"):
                for key, own in getattr(parts[name], kind).items():
                    if own is not None:
                        own.copy_(getattr(known[name], kind)[key])
    return changed.eval()


def rank_correlation(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """Spearman's rank correlation of two maps over some voxels; NaN where one of them is constant there.

    Args:
        a: (D, H, W).
        b: The same shape.
        inside: (D, H, W) bool.
    """
    one, other = np.asarray(a)[inside], np.asarray(b)[inside]
    if len(one) < 3 or not np.ptp(one) or not np.ptp(other):
        return float("nan")
    return spearman(one, other).value


def structural_similarity(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """SSIM of two maps of sizes of attributions, each in units of its own 99.5th percentile; mean over some voxels.

    Args:
        a: (D, H, W), 0 or above.
        b: The same shape.
        inside: (D, H, W) bool.

    Returns:
        -1 to 1; NaN where a map is 0 throughout, or a slice is narrower than the window of 11 pixels.
    """
    tops = [float(np.percentile(one[inside], BRIGHTEST)) if inside.any() else 0.0 for one in (a, b)]
    if min(tops) <= 0 or min(inside.shape[1:]) < WINDOW:
        return float("nan")
    one, other = (np.clip(np.where(inside, m, 0) / top, 0, 1) for m, top in zip((a, b), tops, strict=True))
    found = [ssim_map(x, y)[mask] for x, y, mask in zip(one, other, inside, strict=True) if mask.any()]
    return float(np.concatenate(found).mean())


def last_input(model: nn.Module, run: Callable[[], object]) -> Tensor:
    """What the last convolution of a network sees: the features that its answer is a weighted sum of.

    Args:
        model: A network.
        run: Passes something through it, once.

    Raises:
        DataError: No convolution was met.
    """
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[:] = inputs[:1]

    kinds = (nn.Conv2d, nn.Conv3d)
    handles = [part.register_forward_pre_hook(keep) for part in model.modules() if isinstance(part, kinds)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise DataError("convolutions", found="none", wanted="at least one", next_step="give another network")
    return seen[0]
