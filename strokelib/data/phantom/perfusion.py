"""A CT perfusion scan of an embedded case: frames, curves, a DWI on the same grid, and the perfusion that is true.

Tissue is made finer than it is seen: pixels of half the size, four steps of time in one frame. Every fine pixel has its
own transit time, delay and widening of the arterial input, which no program knows; a voxel holds the mixture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from strokelib.data.cases import Case, Volume
from strokelib.data.phantom import perfusion_input as inputs
from strokelib.data.phantom import perfusion_series as frames
from strokelib.data.phantom.embedded import GRIDS, Plan, checked, plan, render_plan
from strokelib.data.phantom.fields import generator, one_thread
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.perfusion_scene import MIXED, TIMES_FINER, Scene, draw_scene, finer, paint_slice, points_of
from strokelib.data.phantom.perfusion_slab import COHORT
from strokelib.data.phantom.render import painted_slices
from strokelib.data.phantom.scanner import Grid
from strokelib.data.phantom.scanner import grid as make_grid
from strokelib.data.phantom.warp import warped_nodes
from strokelib.errors import DataError, ParameterError
from strokelib.metrics import dice
from strokelib.repro import atomic_path

VERSION = 1
CORE_SHARE, LATE_S, SOLID = 0.3, 6.0, 0.5
AIR_BELOW_HU = -950.0
ARRAYS = ("series", "baseline", "times_s", "aif", "vof", "dwi")


@dataclass(frozen=True)
class PerfusionCase:
    """One CT perfusion scan, all images on the grid of ``case.image``.

    Args:
        case: The slab's CT without contrast; its lesion is what a reader drew on the DWI.
        series: (T, D, H, W) int16 HU.
        baseline: (D, H, W) float32, mean of the frames before the contrast arrives.
        times_s: (T,) middle of each frame.
        aif: (T,) arterial input in HU above baseline, measured in the series and scaled to the vein's area.
        vof: (T,) venous outflow, measured.
        dwi: (D, H, W) float32, b = 1000 s/mm2, normal white matter near 1.
        truth: Known without error. ``cbf`` and ``healthy_cbf`` (mL/100 g/min), ``cbv`` (mL/100 g), ``mtt_s``,
            ``tmax_s``, and of the local arterial input ``delay_s`` and ``dispersion_s``, float32; ``core``,
            ``penumbra`` (which contains it) and ``dwi_lesion``, bool; ``vessel``, ``grey``, ``white``, shares;
            ``artery`` and ``vein`` (T,), pure blood.
        facts: Frames before contrast, voxels of artery and vein, noise, motion, ...
    """

    case: Case
    series: np.ndarray
    baseline: np.ndarray
    times_s: np.ndarray
    aif: np.ndarray
    vof: np.ndarray
    dwi: np.ndarray
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def step_s(self) -> float:
        """Time between two frames in s."""
        return float(self.times_s[1] - self.times_s[0])

    @property
    def enhancement(self) -> np.ndarray:
        """(T, D, H, W) float32, HU above the baseline."""
        return self.series.astype(np.float32) - self.baseline


def render_ctp(case_id: str, grid: str = "prepared", *, noise: float = 1.0) -> PerfusionCase:
    """Render the perfusion scan of a case; the same name gives the same bytes.

    Args:
        case_id: Such as ``isles2018-0001-1``.
        grid: ``prepared`` (pixels of 2 mm) or ``published`` (256 x 256); 2 to 22 slices of 5 mm.
        noise: Factor on the scan's noise; 0 for none but the rounding to whole HU.

    Raises:
        ParameterError: Unknown case, another cohort, another grid.
    """
    checked("grid", grid, GRIDS[:2], "give one of these grids")
    if not case_id.startswith(f"{COHORT}-"):
        step = f"data_manifests/splits/{COHORT}.csv lists the cases"
        raise ParameterError("perfusion", found=repr(case_id), wanted=f"a case of {COHORT}", next_step=step)
    with one_thread():
        planned = plan(case_id)
        target = planned.slab.cut(make_grid(grid, planned.pose))
        return render_ctp_plan(planned, render_plan(planned, grid), target, noise)


def render_ctp_plan(planned: Plan, case: Case, target: Grid, noise: float = 1.0) -> PerfusionCase:
    """Render the perfusion scan of what :func:`strokelib.data.phantom.embedded.plan` drew, of any cohort.

    Args:
        planned: With an infarct, a slab and the infarct at the time of the DWI.
        case: The CT without contrast on the grid.
        target: The slab's grid.
        noise: As in :func:`render_ctp`.
    """
    scene, fine = draw_scene(planned), finer(target)
    nodes = warped_nodes(fine, planned.head, planned.pose, planned.infarct)
    names = (*MIXED, "grey", "white", "artery", "vein", "later", "dwi", "hu", "down", "right")
    out = {name: np.zeros(target.shape, np.float32) for name in names}
    out["hu"][:] = KNOBS.air_hu
    enhanced = np.zeros((scene.bolus.frames, *target.shape), np.float32)
    for slab in painted_slices(fine, planned.head, planned.pose, planned.infarct):
        k = slab.place[0]
        enhanced[:, k] = paint_slice(slab, points_of(nodes, fine, k), scene, {name: out[name][k] for name in names})
    return _scanned(scene, case, out, enhanced, noise)


def _scanned(scene: Scene, case: Case, out: dict[str, np.ndarray], enhanced: np.ndarray, noise: float) -> PerfusionCase:
    """Motion, noise, whole HU, and the curves that are measured in what comes out."""
    planned, bolus, (_, dy, dx) = scene.planned, scene.bolus, case.image.spacing
    seed, number = planned.head.seed, planned.slab.number
    motion = frames.draw_motion(seed, number, bolus)
    sd = noise * frames.noise_sd_hu(seed, dx)
    slope = np.stack((out["down"] / (dy / TIMES_FINER), out["right"] / (dx / TIMES_FINER)))
    series = frames.noise(seed, number, enhanced.shape, dx)
    series *= sd * (out["hu"] > AIR_BELOW_HU)
    series += out["hu"] + enhanced
    for frame, way in zip(series, motion, strict=True):
        frame += frames.moved(slope, way, (dy, dx))
    series = np.clip(np.rint(series, out=series), -1024, 3071).astype(np.int16)
    before = max(3, int(np.argmax(bolus.artery > 0.01 * bolus.artery.max()) / inputs.FINER))
    baseline = series[:before].mean(0, dtype=np.float32)
    side = {"left": -1, "right": 1}.get(planned.infarct.side, 0)
    normal_x = np.sign(_side_of(case) * side) <= 0
    measured = frames.measure(series, baseline, out["artery"], out["vein"], normal_x)
    solid = (out["grey"] + out["white"] >= SOLID) & case.brain
    weight = np.maximum(out["cbf"], 1e-6)
    truth = {name: out[name] for name in ("cbf", "healthy_cbf", "cbv")}
    truth |= {name: out[name] / weight for name in ("tmax_s", "delay_s", "dispersion_s")}
    truth["mtt_s"] = 60 * out["cbv"] / weight
    truth["core"] = solid & (out["cbf"] < CORE_SHARE * out["healthy_cbf"])
    truth["penumbra"] = solid & ((truth["tmax_s"] > LATE_S) | truth["core"])
    truth["dwi_lesion"] = solid & (out["later"] >= SOLID)
    truth |= {"vessel": out["artery"] + out["vein"], "grey": out["grey"], "white": out["white"]}
    truth |= {"artery": bolus.artery[:: inputs.FINER], "vein": bolus.vein[:: inputs.FINER]}
    rng = generator(seed, f"ctp-dwi-{number}")
    grain = rng.standard_normal((2, *case.image.array.shape), dtype=np.float32) * KNOBS.mr_noise
    facts = {
        "frames_before": before,
        "noise_sd_hu": sd,
        "artery_voxels": measured.artery.tolist(),
        "vein_voxels": measured.vein.tolist(),
        "aif_factor": measured.factor,
        "passage_s": bolus.passage_s,
        "curves_of": bolus.source,
        "motion": motion.round(4).tolist(),
    }
    dwi = np.hypot(out["dwi"] + grain[0], grain[1]).astype(np.float32)
    truth = {name: np.ascontiguousarray(v, v.dtype if v.dtype == bool else np.float32) for name, v in truth.items()}
    times = bolus.times_s
    return PerfusionCase(case, series, baseline, times, measured.aif, measured.vof, dwi, truth, facts)


def _side_of(case: Case) -> np.ndarray:
    """(D, H, W) distance from the midline in mm, positive on the patient's right."""
    *normal, distance = case.facts["midline_plane"]
    depth, height, width = case.image.array.shape
    k, j, i = np.meshgrid(np.arange(depth), np.arange(height), np.arange(width), indexing="ij", sparse=True)
    rows = np.array(normal) @ case.image.affine[:3]
    return rows[0] * i + rows[1] * j + rows[2] * k + rows[3] - distance


def save_ctp(scan: PerfusionCase, path: str | os.PathLike) -> Path:
    """Write a perfusion scan as one safetensors file, atomically; the series stays int16."""
    path, case = Path(path), scan.case
    arrays = {name: getattr(scan, name) for name in ARRAYS}
    arrays |= {"image": case.image.array, "affine": case.image.affine, "lesion": case.lesion, "brain": case.brain}
    arrays |= {f"truth.{name}": value for name, value in scan.truth.items()}
    arrays |= {f"case.{name}": value for name, value in case.truth.items()}
    plain = {name: getattr(case, name) for name in ("id", "patient", "cohort", "split", "facts", "embedded")}
    header = {"case": json.dumps(plain), "perfusion": json.dumps(scan.facts)}
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, temporary, header)
    return path


def load_ctp(path: str | os.PathLike) -> PerfusionCase:
    """Read a scan that :func:`save_ctp` wrote.

    Raises:
        DataError: The file is missing, cut short or was not written by strokelib.
    """
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = file.metadata() or {}
            plain, facts = json.loads(header["case"]), json.loads(header["perfusion"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except Exception as error:
        name, step = Path(path).name, "delete it and render it again"
        found = f"{type(error).__name__}: {str(error).replace(os.fspath(path), name)}"
        raise DataError(name, found=found, wanted="a perfusion scan written by strokelib", next_step=step) from error
    of = {
        kind: {name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)}
        for kind in ("case.", "truth.")
    }
    image = Volume(arrays["image"], arrays["affine"])
    case = Case(image=image, lesion=arrays["lesion"], brain=arrays["brain"], truth=of["case."], **plain)
    return PerfusionCase(case=case, truth=of["truth."], facts=facts, **{name: arrays[name] for name in ARRAYS})


def reader_ceiling(scans: Iterable[PerfusionCase]) -> list[dict[str, Any]]:
    """How well the perfusion itself, known without error, agrees with what the reader drew on the DWI.

    Args:
        scans: Rendered scans.

    Returns:
        One row a scan: ``case``, ``anatomy``, ``lesion_ml`` (as drawn), ``dwi`` (Dice of the drawing and the infarct at
        the time of the DWI: the reader alone), ``core`` (of the drawing and the true core), ``cbf`` (of the drawing and
        true flow below 30 % of the other side's mean). NaN where the slab shows neither.
    """
    rows = []
    for scan in scans:
        case, truth = scan.case, scan.truth
        solid = (truth["grey"] + truth["white"] >= SOLID) & case.brain
        other = solid & (_side_of(case) * {"left": 1, "right": -1}.get(case.facts["side"], 0) >= 0) & ~truth["penumbra"]
        low = solid & (truth["cbf"] < CORE_SHARE * truth["cbf"][other].mean()) if other.any() else truth["core"]
        row = {"case": case.id, "anatomy": case.facts["anatomy"], "lesion_ml": case.lesion_ml}
        parts = {"dwi": truth["dwi_lesion"], "core": truth["core"], "cbf": low}
        rows.append(row | {k: dice(v, case.lesion) if (v | case.lesion).any() else np.nan for k, v in parts.items()})
    return rows
