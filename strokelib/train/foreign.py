"""Weights that others trained: read by checksum and without running anything that is in the file, or not at all."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from strokelib.errors import CheckpointError, ParameterError
from strokelib.repro import atomic_path

OLDEST_TORCH = (2, 10)
KEYS = ("state_dict", "model_state_dict", "model_state", "network_weights", "model", "network", "net", "weights")
PREFIXES = ("module.", "_orig_mod.")
DEEPEST = 3


def load_foreign(path: Path, sha256: str, *, key: str | None = None) -> dict[str, Tensor]:
    """Read a ``.pth`` or ``.pt`` file of weights that somebody else wrote.

    The file is read once; what has the given checksum is what is unpacked, with ``weights_only``, which builds tensors
    and plain containers and calls nothing else.

    Args:
        path: The file.
        sha256: Its SHA-256, 64 hexadecimal digits, from the page that it was published on.
        key: Name under which the file holds the weights; by default the usual ones are tried.

    Returns:
        Name to tensor on the CPU, each with memory of its own; a prefix ``module.`` or ``_orig_mod.`` that all names
        share is taken off.

    Raises:
        ParameterError: The checksum given is none.
        CheckpointError: The file is missing, has another checksum, holds more than weights, or torch is too old.
    """
    path = Path(path)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ParameterError(
            "sha256",
            found=repr(sha256),
            wanted="64 hexadecimal digits",
            next_step="copy it from where the file was published",
        )
    version = tuple(int(n) for n in re.findall(r"\d+", torch.__version__)[:2])
    if version < OLDEST_TORCH:
        raise CheckpointError(
            "torch", found=torch.__version__, wanted="2.10 or newer, which unpacks safely", next_step="update torch"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refusal(path, error.strerror, "a file that can be read", "check the path") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256.lower():
        wanted = f"SHA-256 {sha256.lower()}"
        raise _refusal(path, f"SHA-256 {digest}", wanted, "fetch the file again, and do not use this one")
    try:
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        unpacks = re.search(r"GLOBAL (\S+)", str(error))
        found = f"a pickle that calls {unpacks[1]}" if unpacks else f"no whole file of torch ({type(error).__name__})"
        raise _refusal(path, found, "tensors in plain containers", "ask its authors for the weights alone") from error
    return _stripped(_weights(path, held, key))


def convert_foreign(path: Path, sha256: str, target: Path, *, key: str | None = None) -> Path:
    """Write foreign weights as safetensors, atomically; the file's metadata keep the checksum of what it came from.

    Args:
        path: As in :func:`load_foreign`.
        sha256: As in :func:`load_foreign`.
        target: The new file.
        key: As in :func:`load_foreign`.
    """
    tensors = load_foreign(path, sha256, key=key)
    with atomic_path(target) as temporary:
        save_file(tensors, temporary, metadata={"source_sha256": sha256.lower()})
    return Path(target)


def _refusal(path: Path, found: str, wanted: str, next_step: str) -> CheckpointError:
    return CheckpointError(f"foreign weights {path.name}", found=found, wanted=wanted, next_step=next_step)


def _weights(path: Path, held: Any, key: str | None) -> dict[str, Tensor]:
    for _ in range(DEEPEST):
        if not isinstance(held, Mapping):
            break
        if held and key is None and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in held.items()):
            return _own(path, held)
        there = [k for k in ((key,) if key is not None else KEYS) if isinstance(held.get(k), Mapping)]
        if len(there) != 1:
            keys = ", ".join(sorted(map(str, held))[:8]) or "nothing"
            wanted = f"weights under {key or 'one of ' + ', '.join(KEYS)}"
            raise _refusal(path, f"a mapping with {keys}", wanted, "name the right one as key")
        held, key = held[there[0]], None
    raise _refusal(path, f"a {type(held).__name__}", "a flat mapping of names to tensors", "this file cannot be used")


def _own(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    odd = [k for k, v in tensors.items() if v.layout != torch.strided or v.is_quantized or v.device.type != "cpu"]
    if odd:
        raise _refusal(path, f"{odd[0]} is sparse, quantised or empty", "plain tensors", "this file cannot be used")
    return {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}


def _stripped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = next((p for p in PREFIXES if all(k.startswith(p) and k != p for k in tensors)), None)
    return tensors if prefix is None else _stripped({k.removeprefix(prefix): v for k, v in tensors.items()})
