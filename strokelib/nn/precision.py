"""Which number format and memory layout a network runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from strokelib.errors import ParameterError

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")


def bf16_is_fast(device: torch.device | str) -> bool:
    """Whether this device multiplies bfloat16 in hardware; where it does not, bfloat16 is slower than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in BF16_INSTRUCTIONS)


def resolve_amp(amp: str, device: torch.device | str) -> str:
    """The number format in words: ``bf16`` or ``float32``.

    Args:
        amp: ``auto`` (bf16 where it is fast), ``bf16`` or ``float32``.
        device: Where the network runs.

    Raises:
        ParameterError: Another word.
    """
    if amp not in ("auto", "bf16", "float32"):
        raise ParameterError("amp", found=repr(amp), wanted="auto, bf16 or float32", next_step="give amp='auto'")
    return amp if amp != "auto" else "bf16" if bf16_is_fast(device) else "float32"


def autocast(amp: str, device: torch.device | str) -> AbstractContextManager:
    """A context that computes in bfloat16 where :func:`resolve_amp` says so; weights and losses stay float32.

    On a CPU, convolutions over fewer slices than their kernel has stay float32 too (:class:`ThinConvolutions`).
    """
    if resolve_amp(amp, device) == "float32":
        return nullcontext()
    kind = torch.device(device).type
    context = torch.autocast(kind, torch.bfloat16)
    return _with_thin(context) if kind == "cpu" else context


@contextmanager
def _with_thin(context: AbstractContextManager) -> Iterator[None]:
    with context, ThinConvolutions():
        yield


class ThinConvolutions(TorchFunctionMode):
    """Computes a 3-D convolution over fewer slices than its kernel has in float32, and leaves all else as it is.

    The bfloat16 weight gradient of oneDNN 3.12 (PyTorch 2.13, CPU) then holds what lay in memory before: for
    3 x 3 x 3 kernels on two slices, 5 x 5 x 5 on two to four. It is NaN at times, and wrong without a sign at others.
    """

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv3d and len(args) > 1 and args[0].shape[-3] < args[1].shape[-3]:
            with torch.autocast(args[0].device.type, enabled=False):
                return function(args[0].float(), *args[1:], **kwargs)
        return function(*args, **kwargs)


def full_precision(x: Tensor) -> AbstractContextManager:
    """A context without autocast, for values that bfloat16 is too coarse for.

    A cosine over a temperature of 0.1, for one, would turn bfloat16's steps of 1/256 into 0.04.

    Args:
        x: Lies on the device that computes.
    """
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def channels_last(thing: nn.Module | Tensor) -> nn.Module | Tensor:
    """Put a network, or images (B, C, H, W) or (B, C, D, H, W), into the layout that convolutions are fastest in."""
    if isinstance(thing, nn.Module):
        for parameter in thing.parameters():
            parameter.data = channels_last(parameter.data)
        return thing
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(thing.dim())
    return thing if layout is None else thing.contiguous(memory_format=layout)
