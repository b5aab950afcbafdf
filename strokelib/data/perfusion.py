"""CT perfusion: CBF, CBV, MTT and Tmax by deconvolution of every voxel at once, on the CPU or a GPU.

The tissue's curve is the arterial input convolved with the residue function ``R``, scaled by flow:
``c(t) = CBF (AIF * R)(t)``. Undoing this is ill-posed, so that small singular values of the convolution are left out.

*Block-circulant* deconvolution pads both curves to twice their length, which makes the convolution a circulant matrix:
the result does not depend on whether tissue is reached before or after the chosen artery (Wu et al. 2003, Magn Reson
Med 50:164). ``csvd`` leaves out singular values below a share of the largest one; ``osvd`` raises that share from 1 %
on, voxel by voxel, until the residue oscillates less than a limit. The singular values of a circulant matrix are the
moduli of its Fourier coefficients, so that there are only about T different truncations, and each is one matrix for
all voxels.

Truncation smooths the residue and so lowers its peak: CBF is underestimated, more so where transit is short, and MTT
overestimated alike; CBV does not depend on it. Compare maps of one setting only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from strokelib.errors import DataError, ParameterError

Method = Literal["csvd", "osvd"]
BRAIN_DENSITY = 1.04  # g/mL
HAEMATOCRIT = (0.45, 0.25)  # large and small vessels
THRESHOLD = 0.1
OSCILLATION = 0.035
LOWEST_SHARE = 0.01  # of the largest singular value: where osvd begins
VOXELS_AT_ONCE = 8_192  # residues of so many fit a cache


@dataclass(frozen=True)
class PerfusionMaps:
    """Perfusion of every voxel, all (D, H, W) float32 and NaN outside the mask.

    Args:
        cbf: Cerebral blood flow in mL / 100 g / min.
        cbv: Cerebral blood volume in mL / 100 g.
        mtt_s: Mean transit time in s, CBV over CBF.
        tmax_s: Time of the residue's maximum in s; a voxel that is reached before the artery has 0.
        method: ``csvd`` or ``osvd``.
    """

    cbf: np.ndarray
    cbv: np.ndarray
    mtt_s: np.ndarray
    tmax_s: np.ndarray
    method: str


def residue_matrices(aif: Tensor, step_s: float, shares: Tensor) -> Tensor:
    """Truncated inverses of the block-circulant convolution with an arterial input.

    Args:
        aif: (T,) arterial concentration above baseline.
        step_s: Time between two samples in s.
        shares: (K,) singular values below this share of the largest one are left out.

    Returns:
        (K, 2T, T): from a tissue curve to ``CBF R(t)`` at 2T times, the second half being negative times.
    """
    length = 2 * len(aif)
    spectrum = torch.fft.fft(aif.double(), n=length) * step_s
    sizes = spectrum.abs()
    kept = sizes[None] >= shares.double()[:, None] * sizes.max()
    inverse = torch.where(kept, 1.0 / torch.where(kept, spectrum, torch.ones_like(spectrum)), 0.0)
    first = torch.fft.ifft(inverse, dim=1).real
    index = (torch.arange(length)[:, None] - torch.arange(len(aif))[None]) % length
    return first[:, index]


def oscillation_index(residue: Tensor) -> Tensor:
    """How much residues (N, L) oscillate: mean absolute second difference over the maximum.

    ``OI = sum_k |f(k) - 2 f(k-1) + f(k-2)| / (L f_max)``, the sum from the third sample on, as Wu et al. 2003 print it.
    """
    second = torch.sub(residue[:, 2:], residue[:, 1:-1], alpha=2).add_(residue[:, :-2])
    total = torch.linalg.vector_norm(second, ord=1, dim=1)
    return total / (residue.shape[1] * residue.amax(1).clamp_min_(1e-12))


def deconvolve(
    curves: Tensor,
    aif: Tensor,
    step_s: float,
    method: Method = "csvd",
    *,
    threshold: float = THRESHOLD,
    oscillation: float = OSCILLATION,
) -> Tensor:
    """``CBF R(t)`` of many voxels.

    Args:
        curves: (N, T) tissue concentration above baseline.
        aif: (T,) arterial concentration above baseline.
        step_s: Time between two samples in s.
        method: ``csvd`` or ``osvd``.
        threshold: Of ``csvd``.
        oscillation: Largest oscillation index, of ``osvd``.

    Returns:
        (N, 2T) in 1/s times the ratio of the curves' units; the second half is for negative times.

    Raises:
        ParameterError: Shapes, step, method or limits are not what is wanted.
        DataError: A value is not finite, or the arterial input never rises.
    """
    _checked(curves, aif, step_s, method, threshold, oscillation)
    aif = aif.to(curves.device)
    if method == "csvd":
        matrix = residue_matrices(aif.cpu(), step_s, torch.tensor([threshold]))[0].to(curves)
        return curves @ matrix.T
    return _until_quiet(curves, aif, step_s, oscillation)


def _until_quiet(curves: Tensor, aif: Tensor, step_s: float, oscillation: float) -> Tensor:
    """oSVD: a pair of Fourier coefficients after the other is taken away, the smallest first, while a voxel oscillates.

    Each pair is one product of two numbers a voxel with two waves, so that no matrix is inverted again.
    """
    length = 2 * len(aif)
    spectrum = torch.fft.rfft(aif.cpu().double(), n=length) * step_s
    sizes = spectrum.abs() / spectrum.abs().max()
    order = [int(k) for k in torch.argsort(sizes) if sizes[k] >= LOWEST_SHARE]
    out = curves @ residue_matrices(aif.cpu(), step_s, torch.tensor([LOWEST_SHARE]))[0].to(curves).T
    active, current, kept = torch.arange(len(curves), device=curves.device), out.clone(), curves
    for k in order[:-1]:
        noisy = (oscillation_index(current) > oscillation).nonzero()[:, 0]
        if len(noisy) < 0.8 * len(active) or not len(noisy):  # copies cost more than a few rows too many
            done = torch.ones(len(active), dtype=torch.bool, device=curves.device)
            done[noisy] = False
            out[active[done]] = current[done]
            active, current, kept = active[noisy], current[noisy], kept[noisy]
            waiting = None
        else:
            waiting = torch.ones(len(active), 1, dtype=curves.dtype, device=curves.device)
            waiting[:] = 0
            waiting[noisy] = 1
        if not len(active):
            break
        there, back = _waves(k, length, 1 / spectrum[k])
        parts = kept @ there.to(curves)
        current.addmm_(parts if waiting is None else parts * waiting, back.to(curves), alpha=-1)
    out[active] = current
    return out


def _waves(k: int, length: int, factor: Tensor) -> tuple[Tensor, Tensor]:
    """(T, 2) and (2, L): a curve's k-th Fourier coefficient times ``factor``, and back to time."""
    angle = 2 * torch.pi * k / length
    n = torch.arange(length, dtype=torch.float64)
    weight = (1 if k in (0, length // 2) else 2) / length
    half = n[: length // 2] * angle
    real, imaginary = (
        factor.real * half.cos() + factor.imag * half.sin(),
        factor.imag * half.cos() - factor.real * half.sin(),
    )
    there = torch.stack((real, imaginary), dim=1)
    return there, weight * torch.stack(((n * angle).cos(), -(n * angle).sin()))


def perfusion_maps(
    series: np.ndarray,
    aif: np.ndarray,
    step_s: float,
    mask: np.ndarray,
    method: Method = "csvd",
    *,
    threshold: float = THRESHOLD,
    oscillation: float = OSCILLATION,
    haematocrit: tuple[float, float] = HAEMATOCRIT,
    density: float = BRAIN_DENSITY,
    device: torch.device | str | None = None,
) -> PerfusionMaps:
    """CBF, CBV, MTT and Tmax of a perfusion series.

    ``CBF = 6000 k max(R) / density``, ``CBV = 100 k (integral of c) / (integral of AIF) / density``,
    ``MTT = 60 CBV / CBF`` with ``k = (1 - H_large) / (1 - H_small)``.

    Args:
        series: (T, D, H, W) enhancement in HU above baseline; HU are proportional to concentration.
        aif: (T,) of the artery, in the same unit, corrected for partial volume if need be.
        step_s: Time between two frames in s.
        mask: (D, H, W) bool, where to compute.
        method: ``csvd`` or ``osvd``.
        threshold: Of ``csvd``.
        oscillation: Of ``osvd``.
        haematocrit: Of large and of small vessels.
        density: Of brain tissue in g/mL.
        device: Where to compute; the CPU by default.

    Raises:
        ParameterError, DataError: As :func:`deconvolve`, or the mask lies on another grid.
    """
    if np.ndim(series) != 4 or np.shape(mask) != np.shape(series)[1:]:
        found = f"series {np.shape(series)}, mask {np.shape(mask)}"
        wanted = "a series (T, D, H, W) and a mask (D, H, W) of its grid"
        raise ParameterError("perfusion series", found=found, wanted=wanted, next_step="move the time to the front")
    mask = np.asarray(mask, bool)
    artery = torch.from_numpy(np.ascontiguousarray(aif, np.float32)).to(device or "cpu")
    curves = torch.from_numpy(np.ascontiguousarray(np.asarray(series, np.float32)[:, mask].T))
    factor = (1 - haematocrit[0]) / (1 - haematocrit[1]) / density
    how = {"method": method, "threshold": threshold, "oscillation": oscillation}
    parts = []
    for start in range(0, max(len(curves), 1), VOXELS_AT_ONCE):
        chunk = curves[start : start + VOXELS_AT_ONCE].to(artery.device)
        residue = deconvolve(chunk, artery, step_s, **how)
        peak, place = residue.max(dim=1)
        flow = 6000.0 * factor * peak.clamp_min(0)
        volume = 100.0 * factor * chunk.sum(1) / artery.sum()
        delay = torch.where(place < len(artery), place, 0) * step_s
        transit = torch.where(flow > 0, 60.0 * volume / flow, torch.nan)
        parts.append(torch.stack((flow, volume, transit, delay.to(flow))).cpu())
    found = torch.cat(parts, dim=1).numpy()
    maps = np.full((4, *mask.shape), np.nan, np.float32)
    maps[:, mask] = found
    return PerfusionMaps(*maps, method)


def temporal_mip(series: np.ndarray, window: int = 1) -> np.ndarray:
    """Largest enhancement over time of (T, D, H, W), as (D, H, W): vessels, as in CT angiography.

    Args:
        series: Any unit.
        window: Frames averaged before the maximum, odd; 1 for none.
    """
    series = np.asarray(series, np.float32)
    if window < 1 or window % 2 == 0 or window > len(series):
        wanted = f"an odd number of 1 to {len(series)}"
        raise ParameterError("window", found=window, wanted=wanted, next_step="pass 1 or 3")
    total = np.cumsum(np.concatenate((np.zeros_like(series[:1]), series)), axis=0, dtype=np.float64)
    return ((total[window:] - total[:-window]) / window).max(axis=0).astype(np.float32)


def _checked(curves: Tensor, aif: Tensor, step_s: float, method: str, threshold: float, oscillation: float) -> None:
    if curves.dim() != 2 or aif.dim() != 1 or curves.shape[1] != len(aif) or len(aif) < 3:
        found, wanted = f"curves {tuple(curves.shape)}, AIF {tuple(aif.shape)}", "(N, T) and (T,), T of 3 or more"
        raise ParameterError("perfusion curves", found=found, wanted=wanted, next_step="sample both at the same times")
    if method not in ("csvd", "osvd") or not 0 < threshold < 1 or not oscillation > 0 or not step_s > 0:
        found = f"method {method!r}, threshold {threshold}, oscillation {oscillation}, step {step_s} s"
        wanted = "csvd or osvd, a threshold between 0 and 1, a positive limit and step"
        raise ParameterError("deconvolution", found=found, wanted=wanted, next_step="see strokelib.data.perfusion")
    if not (torch.isfinite(curves).all() and torch.isfinite(aif).all()):
        step = "mask the voxels out or repair the frame"
        raise DataError("perfusion curves", found="a value that is not finite", wanted="numbers", next_step=step)
    if not float(aif.max()) > 0 or not float(aif.sum()) > 0:
        step = "subtract the baseline and choose another artery"
        raise DataError("arterial input", found="no enhancement", wanted="a curve that rises", next_step=step)
