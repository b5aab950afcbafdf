"""How far perfusion maps of embedded scans are from the truth, over noise, method and tissue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from strokelib.data.perfusion import PerfusionMaps, perfusion_maps, smoothed
from strokelib.data.phantom import perfusion, perfusion_series
from strokelib.data.phantom.perfusion import PerfusionCase
from strokelib.recipe import Recipe, stated

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
OURS = "ours: no paper reports these errors"
METHODS = ("csvd", "osvd")
MAPS = ("cbf", "cbv", "mtt_s", "tmax_s")
TISSUES = ("grey", "white", "penumbra", "core")
VESSEL_SHARE, PURE_SHARE, FEWEST = 0.05, 0.8, 10


@dataclass(frozen=True)
class PerfusionRecipe(Recipe):
    """How many scans of each anatomy the errors are measured on, and at which noise."""

    scans: int = stated(7, demo=3, smoke=1, source=OURS)
    noise_hu: tuple[float, ...] = stated((0.0, 2.5, 5.0, 10.0), smoke=(0.0, 5.0), source=OURS)
    fwhm_px: float = stated(2.5, source="assumed: programs smooth by some 5 mm before they deconvolve")


def noisier(scan: PerfusionCase, noise_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """The enhancement of a scan rendered without noise, with noise of a given size, and the artery measured in it.

    Args:
        scan: Rendered with ``noise=0``.
        noise_hu: SD of a pixel of its grid in HU; correlated in plane as the scanner's is.

    Returns:
        Enhancement (T, D, H, W) above a baseline that has its own noise, and the arterial input (T,), in HU.
    """
    shape, before = scan.series.shape, scan.facts["frames_before"]
    grain = perfusion_series.noise(
        scan.case.facts["seed"], scan.case.facts["slab"]["number"], shape, scan.case.image.spacing[2]
    )
    enhancement = scan.enhancement + noise_hu * (grain - grain[:before].mean(axis=0))
    z, y, x = np.array(scan.facts["artery_voxels"]).T
    return enhancement, scan.facts["aif_factor"] * enhancement[:, z, y, x].mean(axis=1)


def regions(scan: PerfusionCase) -> dict[str, np.ndarray]:
    """Voxels that are compared, (D, H, W) bool: pure tissue without large vessels, away from their edges.

    Returns:
        ``grey`` and ``white`` (80 % pure, outside the late tissue), ``penumbra`` (without the core) and ``core``.
    """
    truth = scan.truth
    free = scan.case.brain & (truth["vessel"] < VESSEL_SHARE)
    normal = free & ~truth["penumbra"]
    return {
        "grey": normal & (truth["grey"] > PURE_SHARE),
        "white": normal & (truth["white"] > PURE_SHARE),
        "penumbra": free & truth["penumbra"] & ~truth["core"],
        "core": free & truth["core"],
    }


def map_errors(scan: PerfusionCase, found: PerfusionMaps) -> Iterator[dict[str, object]]:
    """Errors of the maps of one scan, a row a map and tissue.

    Args:
        scan: With its truth.
        found: Maps on the same grid.

    Yields:
        ``map``, ``tissue``, ``voxels``, ``truth`` (mean), ``bias`` (mean of found minus true), ``rmse`` and
        ``correlation`` (Pearson's over voxels; NaN for fewer than ten voxels or where nothing varies), in the map's
        unit. The tissue ``all`` is the four together.
    """
    places = regions(scan)
    places["all"] = np.any([*places.values()], axis=0)
    for name in MAPS:
        values = getattr(found, name)
        for tissue, place in places.items():
            true, ours = scan.truth[name][place].astype(float), values[place].astype(float)
            usable = np.isfinite(ours)
            true, ours = true[usable], ours[usable]
            row = {"map": name, "tissue": tissue, "voxels": len(true)}
            if len(true) >= FEWEST:
                apart = ours - true
                varies = true.std() > 0 and ours.std() > 0
                row |= {"truth": true.mean(), "bias": apart.mean(), "rmse": float(np.sqrt((apart**2).mean()))}
                row |= {"correlation": float(np.corrcoef(true, ours)[0, 1]) if varies else np.nan}
            else:
                row |= dict.fromkeys(("truth", "bias", "rmse", "correlation"), np.nan)
            yield row


def perfusion_errors(
    case_ids: Sequence[str],
    noise_hu: Sequence[float],
    *,
    methods: Sequence[str] = METHODS,
    fwhm_px: float = 2.5,
    grid: str = "prepared",
) -> pd.DataFrame:
    """Bias, RMSE and correlation of all maps on the same scans, over noise, for several methods.

    Args:
        case_ids: Embedded scans of ``isles2018``.
        noise_hu: SDs of a pixel in HU.
        methods: Of :func:`strokelib.data.perfusion.perfusion_maps`.
        fwhm_px: Smoothing before deconvolution in pixels; 0 for none.
        grid: As :func:`strokelib.data.phantom.perfusion.render_ctp` takes it.

    Returns:
        One row a scan, noise, method, map and tissue, with the columns of :func:`map_errors`.
    """
    import pandas as pd

    rows = []
    for name in case_ids:
        scan = perfusion.render_ctp(name, grid, noise=0.0)
        brain, who = scan.case.brain, {"case": name, "anatomy": scan.case.facts["anatomy"]}
        for level in noise_hu:
            enhancement, aif = noisier(scan, level)
            if fwhm_px > 0:
                enhancement = smoothed(enhancement, brain, fwhm_px)
            for method in methods:
                found = perfusion_maps(enhancement, aif, scan.step_s, brain, method)
                where = who | {"noise_hu": level, "method": method}
                rows += [where | row for row in map_errors(scan, found)]
    return pd.DataFrame(rows)
