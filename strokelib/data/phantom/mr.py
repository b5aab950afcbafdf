"""The MR that goes with a case: a DWI or an ADC map, later than the CT and in a pose of its own, with the way known.

Signals are made from the shares of tissue in each voxel: a tissue has a signal without diffusion weighting and an
apparent diffusion coefficient; both images of the scan are mixed from these, get Rician noise, and the ADC map is
computed from the two, as a scanner does. So partial volume, T2 shine-through and old infarcts are as misleading as in
reality.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from strokelib.data.cases import Case, Volume
from strokelib.data.phantom.distances import signed_distance
from strokelib.data.phantom.embedded import Plan, plan
from strokelib.data.phantom.fields import generator, one_thread
from strokelib.data.phantom.infarcts import PAD_MM, Infarct
from strokelib.data.phantom.knobs import KNOBS
from strokelib.data.phantom.render import BRAIN_SHARE, painted_slices
from strokelib.data.phantom.scanner import Grid, Pose
from strokelib.data.phantom.warp import world_to_standard
from strokelib.errors import ParameterError

SHAPE, SPACING_MM = (30, 112, 112), (5.0, 1.8, 1.8)
B_S_MM2 = 1000.0


@dataclass(frozen=True)
class Course:
    """What became of a case between CT and MR.

    Args:
        delay_h: Time from the CT to the MR in hours.
        growth_mm: Way the infarct's border moved outwards.
        shine_through: Factor on the acute infarct's signal without diffusion weighting.
        pose: How the head lies in the MR scanner.
    """

    delay_h: float
    growth_mm: float
    shine_through: float
    pose: Pose


def draw_course(planned: Plan) -> Course:
    """Draw time, growth and pose of a case's MR; all follow from its name."""
    k, rng, protocol = KNOBS, generator(planned.head.seed, "mr"), planned.protocol
    delay = float(protocol.mr_delay_h * np.exp(rng.normal(0, 0.5)))
    growth = float(
        np.clip(k.growth_mm_at_24h * (1 - np.exp(-delay / 24.0)) / 0.632 + rng.normal(0, k.growth_sd_mm), 0, 5)
    )
    onset = planned.infarct.onset_hours if planned.infarct else 0.0
    turn, roll, pitch = (float(v) for v in rng.normal(0, (k.mr_angle_sd_deg, k.tilt_sd_deg, k.tilt_sd_deg)))
    shift = tuple(float(v) for v in np.clip(rng.normal(0, k.shift_sd_mm, 3), -k.shift_max_mm, k.shift_max_mm))
    pose = replace(planned.pose, angle_deg=turn, roll_deg=roll, pitch_deg=pitch, shift_mm=shift, gantry_deg=0.0)
    late = 1 - float(np.exp(-(onset + delay) / 24.0))
    return Course(delay, growth, 1.0 + k.shine_through * late, pose)


def grown(infarct: Infarct, growth_mm: float, seed: int) -> Infarct:
    """The infarct some hours later: its border moved outwards, unevenly.

    Args:
        infarct: The infarct at the time of the CT.
        growth_mm: Mean way of the border.
        seed: Seed of the case.
    """
    mask = infarct.maps[0].numpy() > 0.5
    distance = signed_distance(mask, PAD_MM, np.float64)
    uneven = generator(seed, "growth").standard_normal(infarct.lattice.shape).astype(np.float32)
    uneven = ndimage.gaussian_filter(uneven, 6.0)
    reach = np.clip(growth_mm * (1 + uneven / max(float(uneven.std()), 1e-6)), 0, PAD_MM - 1.0)
    later = torch.from_numpy(((distance + reach > 0) | mask).astype(np.float32))
    return replace(infarct, maps=torch.stack((later, later, later)))


def mr_to_ct(planned: Plan, course: Course) -> np.ndarray:
    """(4, 4) from the MR's RAS mm to the CT's: rigid, since it is one head in two poses."""
    ct, mr = (world_to_standard(planned.head, pose) for pose in (planned.pose, course.pose))
    return np.linalg.inv(ct) @ mr


def render_mr(case_id: str) -> Case:
    """Render the MR of one case.

    Args:
        case_id: Such as ``aisd-0001``.

    Returns:
        A case on the MR's grid (30 x 112 x 112 voxels of 5 x 1.8 x 1.8 mm). Its image is float32: DWI at
        b = 1000 s/mm2, normal white matter near 1, or ADC in 1e-6 mm2/s; its lesion is the infarct at the time of the
        MR. ``facts`` holds ``modality``, ``delay_hours``, ``growth_mm``, ``pose`` and ``mr_to_ct``, the rigid map from
        the MR's millimetres to the CT's.

    Raises:
        ParameterError: Unknown case, or a cohort without MR.
    """
    planned = plan(case_id)
    if not planned.protocol.mr:
        step = "take a case of another cohort"
        raise ParameterError("MR", found=case_id, wanted="a cohort with MR", next_step=step)
    with one_thread():
        return _render(planned, draw_course(planned))


def _render(planned: Plan, course: Course) -> Case:
    k, seed = KNOBS, planned.head.seed
    infarct = None if planned.infarct is None else grown(planned.infarct, course.growth_mm, seed)
    target = _grid()
    signals = np.zeros((2, *target.shape), np.float32)
    brain, lesion = np.zeros(target.shape, bool), np.zeros(target.shape, bool)
    for slab in painted_slices(target, planned.head, course.pose, infarct):
        grey, white, fluid, _, soft, chronic = slab.shares
        acute = slab["mask"] * (grey + white) if infarct else torch.zeros_like(grey)
        healthy = 1 - slab["mask"] if infarct else 1.0
        parts = (
            (grey * healthy, k.b0_grey, k.adc_grey),
            (white * healthy, k.b0_white, k.adc_white),
            (fluid, k.b0_fluid, k.adc_fluid),
            (soft * 0.5, k.b0_white, k.adc_white),
            (chronic, k.b0_chronic, k.adc_chronic),
            (acute, k.b0_white * course.shine_through, k.adc_acute),
        )
        for image, weight in zip(signals, (0.0, B_S_MM2), strict=True):
            image[slab.place] = sum(share * (b0 * np.exp(-weight * adc * 1e-6)) for share, b0, adc in parts).numpy()
        solid = (grey + white) >= 0.5
        brain[slab.place] = (slab["inside"] >= BRAIN_SHARE).numpy()
        lesion[slab.place] = ((slab["mask"] >= 0.5) & solid & slab.brain).numpy()
    reference = k.b0_white * np.exp(-B_S_MM2 * k.adc_white * 1e-6)
    noise = generator(seed, "mr-noise").standard_normal((2, 2, *target.shape), dtype=np.float32) * (
        k.mr_noise * reference
    )
    b0, dwi = np.sqrt((signals + noise[0]) ** 2 + noise[1] ** 2)
    adc = np.where(brain, np.log(np.maximum(b0, 1e-3) / np.maximum(dwi, 1e-3)) / B_S_MM2 * 1e6, 0)
    image = dwi / reference if planned.protocol.mr == "dwi" else np.clip(adc, 0, 4000)
    facts = {
        "modality": planned.protocol.mr,
        "delay_hours": course.delay_h,
        "growth_mm": course.growth_mm,
        "pose": asdict(course.pose),
        "mr_to_ct": mr_to_ct(planned, course).tolist(),
        "anatomy": planned.row.anatomy,
        "seed": seed,
    }
    volume = Volume(image.astype(np.float32), target.affine)
    patient = planned.row.patient or planned.id
    facts = json.loads(json.dumps(facts))
    return Case(planned.id, patient, planned.cohort, planned.row.split, volume, lesion, brain, {}, facts, True)


def _grid() -> Grid:
    (depth, height, width), (dz, dy, dx) = SHAPE, SPACING_MM
    affine = np.diag([-dx, -dy, dz, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array([width - 1, height - 1, depth - 1]) / 2)
    return Grid("mr", SHAPE, affine, dz, 2, 1)
