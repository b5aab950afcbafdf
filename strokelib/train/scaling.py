"""Number formats of a training: those of :mod:`strokelib.nn.precision`, and float16 with loss scaling on CUDA."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from strokelib.errors import ParameterError
from strokelib.nn.precision import autocast, resolve_amp

SCALED = ("cuda",)


def number_format(amp: str, device: torch.device) -> str:
    """The number format in words: ``bf16``, ``float32`` or ``float16``.

    Args:
        amp: ``auto`` (never float16), ``bf16``, ``float32`` or ``float16``.
        device: Where the network is trained.

    Raises:
        ParameterError: Another word, or float16 elsewhere than on CUDA.
    """
    if amp != "float16":
        return resolve_amp(amp, device)
    if device.type not in SCALED:
        raise ParameterError(
            "amp",
            found=f"'float16' on {device.type}",
            wanted=f"bf16 or float32 on {device.type}; float16 is for CUDA",
            next_step="give amp='auto'",
        )
    return amp


def computing(form: str, device: torch.device) -> AbstractContextManager:
    """A context that computes in the format :func:`number_format` named; weights and losses stay float32."""
    if form == "float16":
        return torch.autocast(device.type, torch.float16)
    return autocast(form, device)


def scaler_for(form: str, device: torch.device) -> torch.amp.GradScaler | None:
    """What keeps small float16 gradients from vanishing; None for the other formats, which need nothing."""
    return torch.amp.GradScaler(device.type) if form == "float16" else None
