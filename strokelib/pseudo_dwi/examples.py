"""What the figures of Wang et al. 2020 show of a scan: a slice, a curve, what the rows of a table made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from strokelib.data.cases import Case, shown_slice
from strokelib.metrics import dice
from strokelib.pseudo_dwi.sampling import (
    MAPS,
    BolusWindow,
    bolus_window,
    intensity_curve,
    sampled_frames,
    slope,
)
from strokelib.pseudo_dwi.scaling import scaled_dwi

BASE_FRAMES = 3


@dataclass(frozen=True)
class PerfusionExample:
    """One slice of a perfusion scan.

    Args:
        frames_hu: (2, H, W) two frames of the series.
        times_s: When they were taken, from the first frame.
        maps: ``cbf``, ``cbv``, ``mtt_s`` and ``tmax_s`` -> (H, W), units as in their names.
        dwi: (H, W) in [0, 1].
        lesion: (H, W) bool.
        brain: (H, W) bool.
        spacing_yx: (dy, dx) in mm.
        name: Of the patient, for the picture.
    """

    frames_hu: np.ndarray
    times_s: tuple[float, float]
    maps: Mapping[str, np.ndarray]
    dwi: np.ndarray
    lesion: np.ndarray
    brain: np.ndarray
    spacing_yx: tuple[float, float]
    name: str

    @classmethod
    def of(cls, case: Case, name: str) -> PerfusionExample:
        """The slice with most lesion of a scan with ``series``, maps, ``dwi`` and ``facts["step_s"]``.

        The frames are the one in which the bolus window begins and the brightest one.
        """
        z = shown_slice(case)
        curve = intensity_curve(case.channels["series"], case.brain)
        frames = (bolus_window(curve).start, int(curve.argmax()))
        return cls(
            case.channels["series"][list(frames), z].astype(np.float32),
            tuple(frame * case.facts["step_s"] for frame in frames),
            {key: case.channels[key][z] for key in MAPS},
            scaled_dwi(case.channels["dwi"])[z],
            case.lesion[z],
            case.brain[z],
            case.image.spacing[1:],
            name,
        )


@dataclass(frozen=True)
class BolusExample:
    """The intensity curve of a scan and the frames taken of it.

    Args:
        times_s: (T,) from the first frame.
        curve_hu: (T,) q(t) as the mean of the brain, above that of the first frames.
        slope_hu: (T,) its change per frame.
        window: First and last frame of the passage.
        frames: Numbers of the frames taken.
        name: Of the scan, for the picture.
    """

    times_s: np.ndarray
    curve_hu: np.ndarray
    slope_hu: np.ndarray
    window: BolusWindow
    frames: np.ndarray
    name: str

    @classmethod
    def of(cls, case: Case, name: str) -> BolusExample:
        """The curve of a scan with ``series`` and ``facts["step_s"]``."""
        series = case.channels["series"]
        curve = intensity_curve(series, case.brain) / case.brain.sum()
        times, window = np.arange(len(series)) * case.facts["step_s"], bolus_window(curve)
        above = curve - curve[:BASE_FRAMES].mean()
        return cls(times, above, slope(curve), window, sampled_frames(window), name)


@dataclass(frozen=True)
class SliceExample:
    """One test slice, and what the rows of a table made of it.

    Args:
        image: (H, W) in [0, 1] under the contours: the real DWI, or CBF where there is none.
        lesion: (H, W) bool.
        brain: (H, W) bool.
        spacing_yx: (dy, dx) in mm.
        maps: (4, H, W) in [0, 1], what the networks see of CBF, CBV, MTT and Tmax.
        predicted: Row as printed -> (H, W) bool.
        dice: Row -> Dice of the whole scan in [0, 1], NaN where undefined.
        synthetic: Row -> pseudo-DWI (H, W) in [0, 1], for the rows that make one.
        name: Of the scan, for the picture.
    """

    image: np.ndarray
    lesion: np.ndarray
    brain: np.ndarray
    spacing_yx: tuple[float, float]
    maps: np.ndarray
    predicted: Mapping[str, np.ndarray]
    dice: Mapping[str, float]
    synthetic: Mapping[str, np.ndarray]
    name: str = ""

    @classmethod
    def of(
        cls,
        case: Case,
        probability: Mapping[str, np.ndarray],
        synthetic: Mapping[str, np.ndarray] | None = None,
        name: str = "",
    ) -> SliceExample:
        """The slice with most lesion of a test scan with network inputs.

        Args:
            case: As :func:`strokelib.pseudo_dwi.sampling.network_inputs` makes it.
            probability: Row as printed -> (D, H, W); lesion is what lies above 0.5.
            synthetic: Row -> pseudo-DWI (D, H, W).
            name: Of the scan, for the picture.
        """
        z, under = shown_slice(case), case.channels.get("dwi", case.channels["maps"][:1])
        return cls(
            under[0, z],
            case.lesion[z],
            case.brain[z],
            case.image.spacing[1:],
            case.channels["maps"][:, z],
            {row: values[z] > 0.5 for row, values in probability.items()},
            {row: dice(values > 0.5, case.lesion) for row, values in probability.items()},
            {row: np.asarray(values[z], np.float32) for row, values in (synthetic or {}).items()},
            name,
        )
