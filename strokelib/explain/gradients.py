"""Integrated gradients: how much each voxel adds to a number that a network makes of an image."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from strokelib.errors import DataError, ParameterError


@dataclass(frozen=True)
class Attribution:
    """What each voxel adds to f.

    Args:
        values: (C, *size) float32.
        difference: f(image) - f(baseline).
        completeness_error: Sum of the values minus that difference; 0 for an exact integral.
    """

    values: np.ndarray
    difference: float
    completeness_error: float

    @property
    def relative_error(self) -> float:
        """Size of the error as a share of the sum of absolute values: the difference itself may be next to nothing."""
        return abs(self.completeness_error) / max(float(np.abs(self.values, dtype=np.float64).sum()), 1e-12)

    @property
    def size(self) -> np.ndarray:
        """Absolute values, added up over the channels, (*size) float64."""
        return np.abs(self.values, dtype=np.float64).sum(axis=0)


def integrated_gradients(
    f: Callable[[Tensor], Tensor], image: Tensor, baseline: Tensor, *, steps: int = 50, batch: int = 4
) -> Attribution:
    """IG_j = (x_j - b_j) times the mean over t in [0, 1] of df/dx_j at b + t (x - b).

    Source: Eq. 1, Sundararajan et al. 2017.
    Deviation: none; the integral is a Gauss-Legendre sum.

    Args:
        f: Maps images (B, C, *size) to one number each, (B,); in evaluation mode.
        image: x, (C, *size).
        baseline: b, of the same shape.
        steps: Points between both.
        batch: Points at a time, for the memory.

    Raises:
        ParameterError: No step or no batch.
        DataError: The shapes differ, or the attributions are not finite.
    """
    with warnings.catch_warnings():  # it asks for ipywidgets in a notebook, for a progress bar that is not used
        warnings.filterwarnings("ignore", message="IProgress not found")
        from captum.attr import IntegratedGradients

    if steps < 1 or batch < 1:
        found = f"{steps} steps, {batch} at a time"
        raise ParameterError("steps", found=found, wanted="1 or more of both", next_step="pass 50 and 4")
    if baseline.shape != image.shape:
        found, wanted = f"shape {tuple(baseline.shape)}", f"the image's, {tuple(image.shape)}"
        raise DataError("baseline", found=found, wanted=wanted, next_step="make it of this image")
    method = IntegratedGradients(f)
    found = method.attribute(image[None], baseline[None], n_steps=steps, internal_batch_size=batch)[0].detach()
    with torch.no_grad():
        ends = [float(f(x[None]).double().sum()) for x in (image, baseline)]
    if not torch.isfinite(found).all():
        step = "look at the network's weights and the image"
        raise DataError("attributions", found="values that are not finite", wanted="finite ones", next_step=step)
    difference = ends[0] - ends[1]
    error = float(found.double().sum()) - difference
    return Attribution(found.cpu().numpy(), difference, error)
