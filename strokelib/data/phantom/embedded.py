"""One embedded case: everything that follows from its name, rendered with or without its infarct."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from strokelib import manifest, settings
from strokelib.data import shipped
from strokelib.data.cases import Case, Volume
from strokelib.data.phantom.anatomy import Head, draw_head
from strokelib.data.phantom.fields import case_seed, one_thread
from strokelib.data.phantom.infarcts import Infarct, draw_infarct
from strokelib.data.phantom.perfusion_slab import COHORT as SLAB_COHORT
from strokelib.data.phantom.perfusion_slab import SlabRange, at_dwi, draw_slab, head_name, read_on_dwi
from strokelib.data.phantom.protocols import PROTOCOLS, Protocol
from strokelib.data.phantom.render import render_scene
from strokelib.data.phantom.scanner import GRIDS as SCANNER_GRIDS
from strokelib.data.phantom.scanner import Pose, draw_pose
from strokelib.data.phantom.scanner import grid as make_grid
from strokelib.data.phantom.warp import world_to_standard
from strokelib.errors import DataError, ParameterError

if TYPE_CHECKING:
    import pandas as pd

VERSION = 4
GRIDS = tuple(SCANNER_GRIDS)
AIR_HU = -1000


def checked(name: str, value: str, allowed: Iterable[str], next_step: str) -> str:
    """The value where it is allowed, or a ParameterError."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ParameterError(name, found=repr(value), wanted=" or ".join(allowed), next_step=next_step)
    return value


def checked_cohort(cohort: str) -> str:
    """The key of a cohort that is built, or a ParameterError."""
    step = "give one of the embedded cohorts; the others are not built yet"
    return checked("embedded cohort", cohort, settings.COHORTS, step)


@dataclass(frozen=True)
class Row:
    """One line of a cohort's committed list.

    Args:
        patient: Whose infarct; empty for a head without infarct.
        split: ``train``, ``val``, ``test`` or ``hidden``.
        anatomy: ``A`` or ``B``.
        label: ``gold``, ``silver`` or ``none``.
    """

    patient: str
    split: str
    anatomy: str
    label: str


@cache
def rows(cohort: str, manifests: Path) -> dict[str, Row]:
    """The committed list of a cohort."""
    table = manifest.split(cohort).fillna("")
    return {row.case: Row(row.patient, row.split, row.anatomy, row.label) for row in table.itertuples()}


def _row(case_id: str) -> tuple[str, Row]:
    """Cohort and row of a case."""
    cohort = checked_cohort(case_id.partition("-")[0])
    listed = rows(cohort, settings.manifests_dir())
    if case_id not in listed:
        step = f"data_manifests/splits/{cohort}.csv lists the cases"
        raise ParameterError(
            "case", found=repr(case_id), wanted=f"one of {len(listed)} cases of {cohort}", next_step=step
        )
    return cohort, listed[case_id]


def _covariates(patient: str) -> dict[str, Any]:
    """The patient's own age, sex, NIHSS and prior stroke; missing is None, the top class ``89+`` counts as 89."""
    if not patient:
        return dict.fromkeys(("age", "sex", "nihss", "prior_stroke"))
    row = _participants(settings.manifests_dir()).loc[patient]
    known = {name: None if row[name] != row[name] else row[name] for name in ("age", "sex", "nihss", "prior_stroke")}
    age, nihss, prior = known["age"], known["nihss"], known["prior_stroke"]
    return {
        "age": None if age is None else float(str(age).rstrip("+")),
        "sex": known["sex"],
        "nihss": None if nihss is None else int(nihss),
        "prior_stroke": None if prior is None else bool(prior),
    }


@cache
def _participants(manifests: Path) -> pd.DataFrame:
    return shipped.participants()


@dataclass(frozen=True)
class Plan:
    """Everything a case is rendered from; without infarct where the head has none.

    In ``isles2018`` there are a slab and, on the infarct's lattice, the infarct at the time of the DWI (``later``).
    """

    id: str
    cohort: str
    row: Row
    protocol: Protocol
    covariates: dict[str, Any]
    head: Head
    infarct: Infarct | None
    pose: Pose
    slab: SlabRange | None = None
    later: torch.Tensor | None = None


def plan(case_id: str, *, tiny: bool = True) -> Plan:
    """Draw the head, the infarct's course and the pose of a case; all follow from its name.

    Args:
        case_id: Such as ``aisd-0001``.
        tiny: As in :func:`strokelib.data.phantom.infarcts.draw_infarct`.

    Raises:
        ParameterError: Unknown cohort or case.
    """
    cohort, row = _row(case_id)
    protocol, known, seed = PROTOCOLS[cohort], _covariates(row.patient), case_seed(head_name(case_id))
    head = draw_head(
        seed,
        known["age"],
        known["sex"],
        known["prior_stroke"],
        anatomy=row.anatomy,
        healthy=protocol.healthy,
        ages=protocol.ages,
    )
    infarct = draw_infarct(seed, row.patient, protocol, row.label, tiny=tiny) if row.patient else None
    planned = Plan(case_id, cohort, row, protocol, known, head, infarct, draw_pose(seed, protocol, head.size[1]))
    return _in_slab(planned, seed) if cohort == SLAB_COHORT and infarct is not None else planned


def _in_slab(planned: Plan, seed: int) -> Plan:
    """The part of the head that a perfusion scan covers, and the label that a reader draws on the DWI."""
    two = f"{head_name(planned.id)}-2" in rows(planned.cohort, settings.manifests_dir())
    slab = draw_slab(seed, planned.id, two, planned.infarct, planned.head, planned.pose)
    later = at_dwi(seed, planned.infarct)
    return replace(planned, slab=slab, later=later, infarct=read_on_dwi(seed, planned.infarct, later))


def _plan_on(case_id: str, grid: str) -> Plan:
    """The plan of a case, without what cannot show on a grid whose slices have one sub-slice."""
    _, _, samples, _ = SCANNER_GRIDS[grid]
    return plan(case_id, tiny=samples > 1)


def render(case_id: str, grid: str = "prepared") -> Case:
    """Render one case; the same name gives the same bytes on one machine and one set of package versions.

    Args:
        case_id: Such as ``aisd-0001``.
        grid: ``prepared`` (30 x 112 x 96 voxels of 5 x 2 x 2 mm), ``published`` (40 x 256 x 256 voxels of 5 x 1.2 x
            1.2 mm) or ``native`` (512 x 512, the scanner's slices, gantry tilt). A case of ``isles2018`` has the slices
            of its slab alone.

    Returns:
        The case; its lesion is what the cohort's reader drew. ``truth`` holds ``lesion`` (the infarct itself),
        ``tissue`` (index into ``painting.TISSUES``), ``territory`` (label of the atlas) and ``infarct_hu`` (the painted
        change in HU, 0 or below). The skull is in the image.
    """
    checked("grid", grid, GRIDS, "give one of these grids")
    with one_thread():
        return render_plan(_plan_on(case_id, grid), grid)


def render_plan(planned: Plan, grid: str = "prepared") -> Case:
    """Render what :func:`plan` drew, as :func:`render` does."""
    checked("grid", grid, GRIDS, "give one of these grids")
    return _case(planned, grid, with_infarct=True)


def render_turned(case_id: str, angle_deg: float, grid: str = "prepared") -> Case:
    """The same head, infarct and scanner with another angle of the midline: what alignment is tested on.

    Args:
        case_id: Such as ``aisd-0347``.
        angle_deg: Angle of the midline in the axial picture, in place of the case's own.
        grid: As in :func:`render`.
    """
    checked("grid", grid, GRIDS, "give one of these grids")
    with one_thread():
        planned = _plan_on(case_id, grid)
        return _case(replace(planned, pose=replace(planned.pose, angle_deg=angle_deg)), grid, with_infarct=True)


def render_pair(case_id: str, grid: str = "prepared") -> tuple[Case, Case]:
    """The same head, pose and noise with and without its infarct: the difference of their asymmetries is pathological.

    Returns:
        The case with the infarct (and its swelling), and the case without, whose lesion is empty.
    """
    checked("grid", grid, GRIDS, "give one of these grids")
    with one_thread():
        planned = _plan_on(case_id, grid)
        return _case(planned, grid, with_infarct=True), _case(planned, grid, with_infarct=False)


def _case(planned: Plan, grid: str, *, with_infarct: bool) -> Case:
    pose, infarct = planned.pose, planned.infarct if with_infarct else None
    target = make_grid(grid, pose)
    if planned.slab is not None:
        target = planned.slab.cut(target)
    scene = render_scene(target, planned.head, pose, infarct, planned.protocol)
    facts = planned.covariates | {
        "onset_hours": infarct and infarct.onset_hours,
        "drop_hu": infarct and infarct.drop_hu,
        "side": infarct and infarct.side,
        "mask_ml": infarct.volume_ml if infarct else 0.0,
        "label": planned.row.label if infarct else "none",
        "anatomy": planned.row.anatomy,
        "grid": grid,
        "pose": asdict(pose),
        "midline_plane": list(pose.midline_plane()),
        "native_to_standard": world_to_standard(planned.head, pose).tolist(),
        "head": asdict(planned.head),
        "seed": planned.head.seed,
        "version": VERSION,
    }
    if planned.slab is not None:
        facts["slab"] = asdict(planned.slab)
    return Case(
        id=planned.id,
        patient=planned.row.patient or planned.id,
        cohort=planned.cohort,
        split=planned.row.split,
        image=Volume(scene.hu, target.affine),
        lesion=scene.label,
        brain=scene.brain,
        truth={name: getattr(scene, name) for name in ("lesion", "tissue", "territory", "infarct_hu")},
        facts=json.loads(json.dumps(facts)),
        embedded=True,
    )


def stripped(case: Case, fill_hu: int = AIR_HU) -> Case:
    """The case with everything outside its true brain mask set to ``fill_hu``."""
    if case.brain is None:
        raise DataError(f"case {case.id}", found="no brain mask", wanted="a mask", next_step="strip the skull first")
    image = np.where(case.brain, case.image.array, np.asarray(fill_hu, case.image.array.dtype))
    return replace(case, image=case.image.with_array(image))
