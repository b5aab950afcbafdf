"""Contrast agent on its way: the artery's and the vein's curve, and every tissue curve there can be.

Real curves of ISLES 2018 give the shapes. The artery's is smoothed to a gamma variate with recirculation; the vein's is
the artery's curve after a passage through the brain, whose length is that of the same patient's venous curve. Tissue
then follows the indicator dilution equation with a transit-time distribution of its own and a local arterial input that
is late and widened against the artery's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import optimize, special

from strokelib.data import shipped
from strokelib.data.perfusion import BRAIN_DENSITY, HAEMATOCRIT
from strokelib.data.phantom.fields import generator
from strokelib.data.phantom.knobs import KNOBS

FINER = 4  # steps of the simulation in one frame
FRAMES = (43, 64)
TRANSIT_S = np.geomspace(1.5, 25.0, 24)
DISPERSION_S = np.array([0.3, 0.7, 1.3, 2.2, 3.6])
SHAPES = (1.0, 2.5)  # of the gamma distribution of transit times: 1 makes the residue an exponential
LATEST_S = 16.0
GOOD_FIT = 0.9
VEIN_SHAPE = 3.0


@dataclass(frozen=True)
class Bolus:
    """One injection, in steps of ``step_s / FINER``.

    Args:
        step_s: Time between two frames.
        frames: Number of frames.
        artery: (frames * FINER,) enhancement of pure arterial blood in HU.
        vein: The same of venous blood; its area is the artery's.
        passage_s: Mean time from the artery to the vein.
        source: The real scan whose shapes these are.
    """

    step_s: float
    frames: int
    artery: np.ndarray
    vein: np.ndarray
    passage_s: float
    source: str

    @property
    def fine_s(self) -> float:
        """Time step of the simulation."""
        return self.step_s / FINER

    @property
    def times_s(self) -> np.ndarray:
        """(frames,) middle of each frame."""
        return np.arange(self.frames) * self.step_s

    @cached_property
    def delays_s(self) -> np.ndarray:
        """The delays of the table, multiples of the fine step."""
        return np.arange(int(LATEST_S / self.fine_s) + 1) * self.fine_s

    def at_frames(self, fine: np.ndarray) -> np.ndarray:
        """A fine curve (..., n) as the scanner sees it, for every delay: (..., delays, frames)."""
        seen = np.apply_along_axis(np.convolve, -1, fine, [0.25, 0.5, 0.25], "same")
        index = (np.arange(self.frames) * FINER)[None] - np.arange(len(self.delays_s))[:, None]
        return np.where(index >= 0, seen[..., np.maximum(index, 0)], 0.0).astype(np.float32)

    def local_input(self, delay_s: float, dispersion_s: float) -> np.ndarray:
        """(frames * FINER,) arterial input of one place: the artery's curve, late and widened."""
        t = np.arange(len(self.artery)) * self.fine_s
        kernel = np.diff(-np.exp(-np.append(t, t[-1] + self.fine_s) / dispersion_s))
        late = np.convolve(self.artery, kernel)[: len(t)]
        return np.interp(t - delay_s, t, late, left=0.0)


@dataclass(frozen=True)
class CurveTable:
    """Tissue curves at 1 mL/100 g/min for every combination of transit, dispersion, shape and delay.

    Args:
        curves: (nodes, frames) float32, HU.
        tmax_s: (nodes,) where delayed, dispersed residues have their maximum.
    """

    curves: np.ndarray
    tmax_s: np.ndarray


def gamma_variate(t: np.ndarray, arrival_s: float, peak_s: float, shape: float) -> np.ndarray:
    """A bolus of height 1 that arrives at ``arrival_s`` and has its maximum ``peak_s`` later."""
    x = np.clip((t - arrival_s) / peak_s, 0, None)
    return x**shape * np.exp(shape * (1 - x))


def _with_recirculation(t: np.ndarray, arrival_s: float, peak_s: float, shape: float, again: float) -> np.ndarray:
    first = gamma_variate(t, arrival_s, peak_s, shape)
    return first + again * np.cumsum(first) / max(first.sum(), 1e-9) / (1 + np.exp(-(t - arrival_s - 2.5 * peak_s)))


@cache
def _fit(number: int) -> tuple[tuple[float, float, float, float], float, float, float]:
    """Artery's shape (arrival, time to peak, form, recirculation), share explained, passage in s, size of the vein."""
    table = shipped.perfusion_curves()
    pair = {kind: np.asarray(table["values"][2 * number + n]) for n, kind in enumerate(table["curve"][:2])}
    t = np.arange(len(pair["aif"]), dtype=float)
    aif, vof = (pair[kind] - np.median(np.sort(pair[kind])[: len(t) // 4]) for kind in ("aif", "vof"))
    begin = (max(float(aif.argmax()) - 6, 1.0), 6.0, 3.0, 0.1, max(float(aif.max()), 1e-3))
    bounds = ([0, 2, 1.2, 0, 0], [25, 15, 9, 0.2, 10])

    def model(t: np.ndarray, *p: float) -> np.ndarray:
        return p[4] * _with_recirculation(t, *p[:4])

    found, _ = optimize.curve_fit(model, t, aif, np.clip(begin, *bounds), bounds=bounds, max_nfev=300)
    explained = 1 - ((model(t, *found) - aif) ** 2).sum() / max(((aif - aif.mean()) ** 2).sum(), 1e-9)
    inflow, best = _with_recirculation(t, *found[:4]), (np.inf, 5.0, 0.0)
    for passage in np.arange(3.0, 10.1, 0.5):
        out = np.convolve(inflow, _passage(t, passage, 1.0))[: len(t)]
        scale = float(out @ vof) / max(float(out @ out), 1e-9)
        best = min(best, (float(((vof - scale * out) ** 2).sum()), float(passage), scale))
    return tuple(float(v) for v in found[:4]), float(explained), best[1], best[2]


def _passage(t: np.ndarray, mean_s: float, step_s: float) -> np.ndarray:
    """Distribution of times from artery to vein: gamma of :data:`VEIN_SHAPE`."""
    return np.diff(special.gammainc(VEIN_SHAPE, VEIN_SHAPE * np.append(t, t[-1] + step_s) / mean_s))


def draw_bolus(seed: int) -> Bolus:
    """Draw the injection of a scan: a real curve's shape, a height, a number of frames and their distance."""
    k, rng = KNOBS, generator(seed, "ctp-bolus")
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    step = float(k.ctp_step_s + k.ctp_step_sd_s * np.clip(rng.normal(), -2, 2))
    height = float(k.ctp_aif_hu * np.exp(k.ctp_aif_log_sd * np.clip(rng.normal(), -2, 2)))
    table = shipped.perfusion_curves()
    for number in rng.permutation(len(table) // 2):
        shape, explained, passage, scale = _fit(int(number))
        if explained >= GOOD_FIT and scale > 0 and shape[0] >= 4 and shape[0] + 2.5 * shape[1] < 30:
            break
    t = np.arange(frames * FINER) * step / FINER
    artery = _with_recirculation(t, *shape)
    artery *= height / artery.max()
    vein = np.convolve(artery, _passage(t, passage, step / FINER))[: len(t)]
    return Bolus(step, frames, artery, vein, passage, str(table["case"][2 * number]))


def residue(t: np.ndarray, transit_s: float, shape: float) -> np.ndarray:
    """Share of the agent still in the tissue after ``t``: 1 minus the distribution of gamma transit times."""
    return special.gammaincc(shape, shape * t / transit_s)


def curve_table(bolus: Bolus) -> CurveTable:
    """All tissue curves of an injection.

    ``c(t) = CBF / (6000 k / density) (AIF * h * R)(t - delay)`` with the local widening ``h``; nodes are ordered by
    shape, transit, dispersion and delay, the last one fastest.
    """
    n, dt = len(bolus.artery), bolus.fine_s
    t = np.arange(n) * dt
    factor = (1 - HAEMATOCRIT[0]) / (1 - HAEMATOCRIT[1]) / BRAIN_DENSITY
    transits = np.stack([residue(t, m, s) for s in SHAPES for m in TRANSIT_S])
    transits[:, 0] *= 0.5  # the trapezoidal rule
    widening = np.diff(-np.exp(-np.append(t, t[-1] + dt)[None] / DISPERSION_S[:, None]), axis=1)
    spectra = (np.fft.rfft(values, 4 * n) for values in (transits, widening, bolus.artery))
    slow, wide, inflow = spectra
    response = np.fft.irfft(slow[:, None] * wide[None], 4 * n)[..., :n]
    curves = np.fft.irfft(slow[:, None] * wide[None] * inflow, 4 * n)[..., :n] * dt / (6000 * factor)
    tmax = response.argmax(-1)[..., None] * dt + bolus.delays_s
    table = bolus.at_frames(curves)
    return CurveTable(table.reshape(-1, bolus.frames), tmax.reshape(-1).astype(np.float32))


def nodes(bolus: Bolus, transit_s: np.ndarray, dispersion_s: np.ndarray, shape: np.ndarray, delay_s: np.ndarray):
    """The nearest node of :func:`curve_table` for each place.

    Args:
        bolus: The injection.
        transit_s: Mean transit times.
        dispersion_s: Widening of the local input.
        shape: Index into :data:`SHAPES`.
        delay_s: Delay of the local input.

    Returns:
        Index of the node, and the transit time, dispersion and delay that stand there.
    """
    ratio = np.log(TRANSIT_S[1] / TRANSIT_S[0])
    m = np.clip(np.rint(np.log(np.maximum(transit_s, 1e-3) / TRANSIT_S[0]) / ratio), 0, len(TRANSIT_S) - 1).astype(int)
    b = np.searchsorted(np.sqrt(DISPERSION_S[1:] * DISPERSION_S[:-1]), dispersion_s)
    d = np.clip(np.rint(delay_s / bolus.fine_s), 0, len(bolus.delays_s) - 1).astype(int)
    index = ((shape * len(TRANSIT_S) + m) * len(DISPERSION_S) + b) * len(bolus.delays_s) + d
    return index, TRANSIT_S[m], DISPERSION_S[b], bolus.delays_s[d]
