"""CT perfusion: CBF, CBV, MTT and Tmax by deconvolution of every voxel at once, on the CPU or a GPU.

The tissue's curve is the arterial input convolved with the residue function ``R``, scaled by flow:
``c(t) = CBF (AIF * R)(t)``. Undoing this is ill-posed, so that small singular values of the convolution are left out.

*Block-circulant* deconvolution pads both curves to twice their length, which makes the convolution a circulant matrix:
the result does not depend on whether tissue is reached before or after the chosen artery (Wu et al. 2003, Magn Reson
Med 50:164). ``csvd`` leaves out singular values below a share of the largest one; ``osvd`` raises that share from 1 %
on, voxel by voxel, until the residue oscillates less than a limit. The singular values of a circulant matrix are the
moduli of its Fourier coefficients: there are about T different truncations, each one step for all voxels.

Truncation smooths the residue and so lowers its peak: CBF is underestimated, more so where transit is short, MTT
overestimated alike; CBV does not depend on it. Compare maps of one setting only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from strokelib.errors import DataError, ParameterError

VERSION = 1
Method = Literal["csvd", "osvd"]
BRAIN_DENSITY = 1.04  # g/mL
HAEMATOCRIT = (0.45, 0.25)  # large and small vessels
THRESHOLD = 0.1
OSCILLATION = 0.035
LOWEST_SHARE = 0.01  # of the largest singular value: where osvd begins
VOXELS_AT_ONCE = 4_096  # residues of so many fit a cache
SHRINK = 0.9  # copies cost more than a few voxels too many


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
    return _oscillation(residue.T)


def _oscillation(residue: Tensor) -> Tensor:
    """The same of residues (L, N), one a column, so that all passes run along the voxels."""
    second = torch.sub(residue[2:], residue[1:-1], alpha=2).add_(residue[:-2]).abs_()
    return second.sum(0).div_(residue.amax(0).clamp_min_(1e-12).mul_(residue.shape[0]))


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
    return _Inverse(aif, step_s, method, threshold, oscillation, curves)(curves.T).T


class _Inverse:
    """Deconvolution by one arterial input, its matrices made once: from (T, N) to (2T, N), voxels along the last axis.

    oSVD takes a pair of Fourier coefficients after the other away, the smallest first, while a voxel oscillates. All
    coefficients of all voxels are one product; each pair is then two numbers a voxel times two waves, so that no matrix
    is inverted again. Voxels that are quiet keep their place until they are a fifth of those left.
    """

    def __init__(
        self, aif: Tensor, step_s: float, method: str, threshold: float, oscillation: float, like: Tensor
    ) -> None:
        self.oscillation, aif = oscillation, aif.cpu()
        share = torch.tensor([threshold if method == "csvd" else LOWEST_SHARE])
        self.matrix = residue_matrices(aif, step_s, share)[0].to(like)
        self.forward, self.backs = None, []
        if method == "osvd":
            spectrum = torch.fft.rfft(aif.double(), n=2 * len(aif)) * step_s
            sizes = spectrum.abs() / spectrum.abs().max()
            order = [int(k) for k in torch.argsort(sizes) if sizes[k] >= LOWEST_SHARE]
            waves = [_waves(k, 2 * len(aif), 1 / spectrum[k]) for k in order[:-1]]
            self.backs = [back.T.contiguous().to(like) for _, back in waves]
            self.forward = torch.cat([there.T for there, _ in waves]).to(like) if waves else None

    def __call__(self, curves: Tensor) -> Tensor:
        residue = self.matrix @ curves
        return residue if self.forward is None else self._quieter(residue, self.forward @ curves)

    def _quieter(self, current: Tensor, parts: Tensor) -> Tensor:
        """Residues (2T, N) with as few coefficients less as needed; ``parts`` (2K, N) are those to take away."""
        place = torch.arange(current.shape[1], device=current.device)
        places, found = [], []
        for number, back in enumerate(self.backs):
            noisy = _oscillation(current) > self.oscillation
            if int(noisy.sum()) < SHRINK * len(noisy):
                quiet, kept = (~noisy).nonzero()[:, 0], noisy.nonzero()[:, 0]
                places.append(place[quiet])
                found.append(current.index_select(1, quiet))
                place, noisy = place[kept], None
                current, parts = current.index_select(1, kept), parts.index_select(1, kept)
                if not len(kept):
                    break
            pair = parts[2 * number : 2 * number + 2]
            current.addmm_(back, pair if noisy is None else pair * noisy, alpha=-1)
        if not places:
            return current
        back = torch.argsort(torch.cat([*places, place]))
        return torch.cat([*found, current], dim=1).index_select(1, back)


def _waves(k: int, length: int, factor: Tensor) -> tuple[Tensor, Tensor]:
    """(T, 2) and (2, L): a curve's k-th Fourier coefficient times ``factor``, and back to time."""
    angle = 2 * torch.pi * k / length
    n = torch.arange(length, dtype=torch.float64)
    weight = (1 if k in (0, length // 2) else 2) / length
    half = n[: length // 2] * angle
    real = factor.real * half.cos() + factor.imag * half.sin()
    imaginary = factor.imag * half.cos() - factor.real * half.sin()
    there = torch.stack((real, imaginary), dim=1)
    return there, weight * torch.stack(((n * angle).cos(), -(n * angle).sin()))


def _first_maximum(values: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum of each column (L, N) and where it first occurs; a third of the time of ``max(dim=0)`` on a CPU."""
    peak = values.amax(0)
    length = len(values)
    falling = torch.arange(length, 0, -1, dtype=torch.uint8 if length < 256 else torch.int16, device=values.device)
    return peak, length - ((values >= peak) * falling[:, None]).amax(0).long()


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

    ``CBF = 6000 k max(R) / density``, ``CBV = 100 k (integral of c) / (integral of AIF) / density``, ``MTT = 60 CBV /
    CBF`` with ``k = (1 - H_large) / (1 - H_small)``.

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
    series = np.asarray(series, np.float32)
    curves = torch.from_numpy(series.reshape(len(series), -1) if mask.all() else series[:, mask])
    _checked(curves[:, :0].T, artery, step_s, method, threshold, oscillation)
    factor = (1 - haematocrit[0]) / (1 - haematocrit[1]) / density
    parts, inverse = [], _Inverse(artery, step_s, method, threshold, oscillation, artery)
    for start in range(0, max(curves.shape[1], 1), VOXELS_AT_ONCE):
        chunk = curves[:, start : start + VOXELS_AT_ONCE].to(artery.device)
        peak, place = _first_maximum(inverse(chunk))
        flow = 6000.0 * factor * peak.clamp_min(0)
        volume = 100.0 * factor * chunk.sum(0) / artery.sum()
        _refuse_unless(torch.isfinite(volume))
        delay = torch.where(place < len(artery), place, 0) * step_s
        transit = torch.where(flow > 0, 60.0 * volume / flow, torch.nan)
        parts.append(torch.stack((flow, volume, transit, delay.to(flow))).cpu())
    maps = np.full((4, mask.size), np.nan, np.float32)
    maps[:, mask.ravel()] = torch.cat(parts, dim=1).numpy()
    maps = maps.reshape(4, *mask.shape)
    return PerfusionMaps(*maps, method)


def smoothed(series: np.ndarray, mask: np.ndarray, fwhm_px: float) -> np.ndarray:
    """A series smoothed in plane within a mask, as perfusion programs do before they deconvolve.

    Args:
        series: (T, D, H, W) enhancement in HU.
        mask: (D, H, W) bool; what lies outside does not enter, and is 0 in the result.
        fwhm_px: Full width at half maximum of the Gaussian in pixels.
    """
    mask, wide = np.asarray(mask, bool), (0.0, fwhm_px / 2.3548, fwhm_px / 2.3548)
    weight, out = ndimage.gaussian_filter(mask.astype(np.float32), wide, truncate=3.0), np.zeros(np.shape(series), "f4")
    for to, frame in zip(out, series, strict=True):
        ndimage.gaussian_filter(np.where(mask, frame, np.float32(0)), wide, output=to, truncate=3.0)
        to[:] = np.divide(to, weight, where=mask, out=np.zeros_like(to))
    return out


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
    _refuse_unless(torch.isfinite(curves), torch.isfinite(aif))
    if not float(aif.max()) > 0 or not float(aif.sum()) > 0:
        step = "subtract the baseline and choose another artery"
        raise DataError("arterial input", found="no enhancement", wanted="a curve that rises", next_step=step)


def _refuse_unless(*finite: Tensor) -> None:
    if not all(bool(part.all()) for part in finite):
        step = "mask the voxels out or repair the frame"
        raise DataError("perfusion curves", found="a value that is not finite", wanted="numbers", next_step=step)
