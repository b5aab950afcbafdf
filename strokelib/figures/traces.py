"""What passes through a network, layer by layer, without computing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Stage:
    """One layer that a tensor went through.

    Args:
        name: Where it stands in the module, e.g. ``encoder.0.0``.
        kind: Name of its class.
        shape: Of its output, (B, C, *size) or (B, C).
        parameters: Scalars of its own, frozen or not; 0 where a layer is used a second time.
        detail: Kernel and stride of a convolution or pool, else empty.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    detail: str = ""


def trace(module: nn.Module, *inputs: Tensor, whole: tuple[type[nn.Module], ...] = ()) -> list[Stage]:
    """What each layer of a module puts out, in order of use. Only shapes are computed; the module stays as it was.

    Args:
        module: A network whose layers each return one tensor.
        inputs: What its ``forward`` takes; only their shapes and types matter.
        whole: Classes taken as one layer, with all that is inside them.
    """
    import torch
    from torch.func import functional_call

    outer = [part for part in module.modules() if isinstance(part, whole)]
    inside = {part for one in outer for part in one.modules()} - set(outer)
    layers = {
        part: Stage(name, type(part).__name__, (), sum(p.numel() for p in part.parameters()), _detail(part))
        for name, part in module.named_modules()
        if part in outer or (part not in inside and not list(part.children()))
    }
    stages: list[Stage] = []

    def note(part: nn.Module, _: object, output: Tensor) -> None:
        again = any(stage.name == layers[part].name for stage in stages)
        stages.append(
            replace(layers[part], shape=tuple(output.shape), parameters=layers[part].parameters * (not again))
        )

    hooks = [part.register_forward_hook(note) for part in layers]
    training = {part: part.training for part in module.modules()}
    weights = {n: torch.empty_like(t, device="meta") for n, t in (*module.named_parameters(), *module.named_buffers())}
    try:
        with torch.no_grad():
            functional_call(module.eval(), weights, tuple(x.to("meta") for x in inputs))
    finally:
        for hook in hooks:
            hook.remove()
        for part, before in training.items():
            part.training = before
    return stages


def _detail(part: nn.Module) -> str:
    sides = [getattr(part, name, None) for name in ("kernel_size", "stride")]
    if None in sides:
        return ""
    kernel, stride = (side[0] if isinstance(side, tuple) else side for side in sides)
    return f"{kernel} x {kernel}" + (f", stride {stride}" if stride != 1 else "")


def merged(stages: Sequence[Stage]) -> list[Stage]:
    """Stages with each normalisation and activation joined to the layer before it: ``Conv2d + BatchNorm2d + ReLU``."""
    found: list[Stage] = []
    for stage in stages:
        if found and stage.shape == found[-1].shape and ("Norm" in stage.kind or stage.kind.endswith("LU")):
            one = found[-1]
            count = one.parameters + stage.parameters
            found[-1] = replace(one, kind=f"{one.kind} + {stage.kind}", parameters=count)
        else:
            found.append(stage)
    return found


def counted(parameters: int) -> str:
    """A number of parameters as text: ``33.84 M``, ``18.5 k`` or ``160``."""
    if parameters >= 1e5:
        return f"{parameters / 1e6:.2f} M"
    return f"{parameters / 1e3:.1f} k" if parameters >= 1e4 else f"{parameters}"


def sides(shape: tuple[int, ...]) -> str:
    """The spatial size of (B, C, *size) as text, e.g. ``256 x 256``."""
    return " × ".join(str(n) for n in shape[2:])
