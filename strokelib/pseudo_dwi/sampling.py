"""From a perfusion scan to the inputs of the networks: temporal maximum, frames of the bolus, scaled maps."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np

from strokelib.data.cases import Case
from strokelib.errors import DataError, ParameterError
from strokelib.pseudo_dwi.losses import lesion_weight_map
from strokelib.pseudo_dwi.scaling import DWI_TOP, scaled, scaled_dwi, scaled_tmax

VERSION = 1
K, FRAMES, SHORTEST = 5, 6, 5
MAPS = ("cbf", "cbv", "mtt_s", "tmax_s")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class BolusWindow:
    """The frames between which contrast passes.

    Args:
        start: First frame (T_s), counted from 0.
        end: Last frame (T_e), included.
        fallback: Empty where the rule held; else why all frames are taken.
    """

    start: int
    end: int
    fallback: str = ""


def temporal_maximum(series: np.ndarray) -> np.ndarray:
    """Largest value over time, the low-level feature: max_t series(t).

    Source: Eq. 1, Wang et al. 2020.
    Deviation: none; what the paper calls CTA images are the frames of the CT perfusion scan (erratum W16).

    Args:
        series: (T, D, H, W) in HU.

    Returns:
        (D, H, W) float32 in HU.

    Raises:
        DataError: Another number of axes, or no frame.
    """
    return _series(series).max(axis=0).astype(np.float32)


def intensity_curve(series: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Total intensity of each frame, q(t) = sum over voxels.

    Args:
        series: (T, D, H, W) in HU.
        mask: (D, H, W) bool, the voxels that count; None for all, as printed.

    Returns:
        (T,) float64.

    Raises:
        DataError: The shapes do not fit, or there is no frame.
    """
    series = _series(series)
    if mask is not None and np.shape(mask) != series.shape[1:]:
        found, wanted = f"mask {np.shape(mask)}, series {series.shape}", "a mask on the grid of the frames"
        raise DataError("mask", found=found, wanted=wanted, next_step="bring both onto one grid")
    inside = ... if mask is None else np.asarray(mask, bool)
    return np.array([frame[inside].sum(dtype=np.float64) for frame in series])


def slope(curve: np.ndarray, smooth: bool = False) -> np.ndarray:
    """Change of a curve per frame: half the difference of the two neighbours, at the ends the one-sided difference.

    Args:
        curve: (T,).
        smooth: Average each point with its neighbours first; each end counts for the one it lacks.

    Returns:
        (T,) float64; zero where there is one point alone.

    Raises:
        DataError: Not one axis, no point, or a value that is not finite.
    """
    curve = np.asarray(curve, np.float64)
    if curve.ndim != 1 or not curve.size or not np.isfinite(curve).all():
        found = f"shape {curve.shape}, {int((~np.isfinite(curve)).sum())} values not finite"
        step = "leave out damaged frames and voxels"
        raise DataError("intensity curve", found=found, wanted="(T,) finite numbers", next_step=step)
    if len(curve) < 2:
        return np.zeros(1)
    if smooth:
        ends = np.pad(curve, 1, mode="edge")
        curve = (ends[:-2] + ends[1:-1] + ends[2:]) / 3
    return np.gradient(curve)


def bolus_window(curve: np.ndarray, k: int = K, smooth: bool = False) -> BolusWindow:
    """First and last frame of the passage of contrast, from the rises and falls of the intensity curve.

    T_s is the first t < T - k whose slope(t) .. slope(t + k - 1) are all above 0, T_e the last t >= k whose
    slope(t - k + 1) .. slope(t) are all below 0.

    Source: Eqs 2 and 3, Wang et al. 2020.
    Deviation: slopes are central differences, one-sided at the ends; a slope of 0, at which H is not defined, neither
        rises nor falls, so that flat ends stay outside. All frames are taken, and it is logged, where either set is
        empty or T_e - T_s is below 5. As printed, a later fall (recirculation, drift) moves T_e.

    Args:
        curve: (T,), e.g. :func:`intensity_curve`. One of k frames or fewer, or a flat one, has no rise: all frames.
        k: Frames in a row that have to rise or fall.
        smooth: See :func:`slope`.

    Returns:
        The window, 0 <= start <= end < T.

    Raises:
        DataError, ParameterError: As :func:`slope`; ``k`` is below 1.
    """
    if k < 1:
        raise ParameterError("k", found=k, wanted="1 or more", next_step="take the published 5")
    change = slope(curve, smooth)
    starts = [t for t in range(len(change) - k) if (change[t : t + k] > 0).all()]
    ends = [t for t in range(k, len(change)) if (change[t - k + 1 : t + 1] < 0).all()]
    missing = [f"no {k} {how} frames in a row" for how, found in (("rising", starts), ("falling", ends)) if not found]
    if not missing and ends[-1] - starts[0] < SHORTEST:
        missing = [f"T_e = {ends[-1]} is less than {SHORTEST} after T_s = {starts[0]}"]
    if not missing:
        return BolusWindow(starts[0], ends[-1])
    why = f"{' and '.join(missing)}: all {len(change)} frames"
    _LOG.warning("bolus window: %s", why)
    return BolusWindow(0, len(change) - 1, why)


def sampled_frames(window: BolusWindow, count: int = FRAMES) -> np.ndarray:
    """Numbers of evenly spaced frames of the window, both ends included: round(linspace(start, end, count)).

    Args:
        window: From :func:`bolus_window`.
        count: Frames wanted, 2 or more; some repeat where the window has fewer.

    Returns:
        (count,) int64, ascending; halves are rounded to even.

    Raises:
        ParameterError: ``count`` is below 2.
    """
    if count < 2:
        raise ParameterError("count", found=count, wanted="2 or more", next_step="take the published 6")
    return np.rint(np.linspace(window.start, window.end, count)).astype(np.int64)


def network_inputs(
    case: Case,
    *,
    k: int = K,
    frames: int = FRAMES,
    tmax: str = "robust",
    smooth: bool = False,
    dwi_top: float = DWI_TOP,
) -> Case:
    """A perfusion scan with the channels that the networks of Wang et al. 2020 take, in place of its own.

    Args:
        case: With the channels ``cbf``, ``cbv``, ``mtt_s``, ``tmax_s`` (D, H, W), and perhaps ``series`` (T, D, H, W)
            in HU and ``dwi`` (D, H, W). Scales, curve and images are of its brain, the whole image where that is None.
        k: See :func:`bolus_window`.
        frames: Frames taken of the bolus.
        tmax: ``robust``, Tmax scaled as the other maps, or ``fixed``, by 20 s.
        smooth: See :func:`slope`.
        dwi_top: See :func:`scaled_dwi`.

    Returns:
        The case with float32 channels: ``maps`` (4, D, H, W) in the order above, each in [0, 1] by its percentiles;
        with a series ``mip`` (1, ...) and ``frames`` (frames, ...) likewise, the frames on one scale, all of them 0
        outside the brain; with a reference ``weight`` (1, ...), Eq. 9 of the lesion in the brain; with a DWI ``dwi``
        (1, ...), the whole slice. With a series, facts gain ``bolus`` (first and last frame) and ``bolus_fallback``.

    Raises:
        DataError: A map is missing, a channel is not on the image's grid or not finite in the brain, or no brain.
        ParameterError: ``k``, ``frames`` or ``tmax`` is not what is wanted.
    """
    if tmax not in ("robust", "fixed"):
        raise ParameterError("tmax", found=repr(tmax), wanted="robust or fixed", next_step="choose one of them")
    brain = np.ones(case.image.array.shape, bool) if case.brain is None else np.asarray(case.brain, bool)
    _refuse_unless_usable(case, brain)
    given = case.channels
    maps = [scaled(given[name], brain) for name in MAPS]
    if tmax == "fixed":
        maps[-1] = scaled_tmax(given[MAPS[-1]], brain)
    channels, facts = {"maps": np.stack(maps)}, dict(case.facts)
    if "series" in given:
        window = bolus_window(intensity_curve(given["series"], brain), k, smooth)
        facts |= {"bolus": [window.start, window.end], "bolus_fallback": window.fallback}
        channels["mip"] = scaled(temporal_maximum(given["series"]), brain)[None]
        channels["frames"] = scaled(given["series"][sampled_frames(window, frames)], brain)
    if case.lesion is not None:
        channels["weight"] = lesion_weight_map(np.asarray(case.lesion, bool) & brain)[None]
    if "dwi" in given:
        channels["dwi"] = scaled_dwi(given["dwi"], dwi_top)[None]
    return dataclasses.replace(case, channels=channels, facts=facts)


def _refuse_unless_usable(case: Case, brain: np.ndarray) -> None:
    thing, shape = f"case {case.id}", case.image.array.shape
    if lacking := [name for name in MAPS if name not in case.channels]:
        found, step = f"no {', '.join(lacking)}", "compute the maps from the series, or put their files beside the CT"
        raise DataError(thing, found=found, wanted=", ".join(MAPS), next_step=step)
    if brain.shape != shape or not brain.any():
        found, wanted = f"brain of {int(brain.sum())} voxels on {brain.shape}", f"some brain on the grid {shape}"
        raise DataError(thing, found=found, wanted=wanted, next_step="make the brain mask again")
    for name in (*MAPS, *(n for n in ("series", "dwi") if n in case.channels)):
        array = case.channels[name]
        if array.shape[-3:] != shape or array.ndim != 3 + (name == "series"):
            found, step = f"{name} of {array.shape}", "resample it onto the CT"
            raise DataError(thing, found=found, wanted=f"the grid {shape}", next_step=step)
        if array.dtype.kind == "f" and not np.isfinite(array if name == "dwi" else array[..., brain]).all():
            found, step = f"{name} that is not finite", "mask such voxels out, or fill them"
            raise DataError(thing, found=found, wanted="finite numbers in the brain", next_step=step)


def _series(series: np.ndarray) -> np.ndarray:
    series = np.asarray(series)
    if series.ndim != 4 or not len(series):
        raise DataError("series", found=series.shape, wanted="(T, D, H, W)", next_step="put the frames first")
    return series
