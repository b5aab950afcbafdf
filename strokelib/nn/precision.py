"""Which number format and memory layout a network runs in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

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
    """A context that computes in bfloat16 where :func:`resolve_amp` says so; weights and losses stay float32."""
    if resolve_amp(amp, device) == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


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
