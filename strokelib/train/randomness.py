"""The states of Python's, numpy's and torch's global random generators, to and from a checkpoint."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

RandomState = tuple[dict[str, Any], dict[str, Tensor]]


def random_state() -> RandomState:
    """Plain values and tensors that bring the generators back to where they are now."""
    name, words, *rest = np.random.get_state()  # noqa: NPY002 (the legacy generator's state belongs to the run too)
    plain = {"python": random.getstate(), "numpy": [name, words.tolist(), *rest]}
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return plain, {"rng.torch": torch.get_rng_state()} | {f"rng.cuda.{i}": s for i, s in enumerate(cuda)}


def restore_random_state(plain: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Bring the generators to a saved state."""
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(plain["numpy"]))  # noqa: NPY002
    torch.set_rng_state(tensors["rng.torch"])
    for i in range(torch.cuda.device_count()):
        if f"rng.cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"rng.cuda.{i}"], i)
