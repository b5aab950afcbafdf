"""The diffusion-weighted image of a scan on the grid of its CT, for the figures that show one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strokelib.data.cases import Case, Volume
from strokelib.data.grids import Grid, sample_on
from strokelib.data.mr_to_ct import mr_to_ct
from strokelib.data.opening import open_image
from strokelib.data.phantom.mr import render_mr
from strokelib.data.preparing import sorted_cases
from strokelib.errors import DataError
from strokelib.papl.examples import DWI, DWI_NOTE
from strokelib.settings import Settings


def with_dwi(case: Case, settings: Settings) -> Case:
    """A case with its DWI, if it has one; networks see none of it.

    That of an embedded head is rendered, in a pose of its own and some hours after the CT, and moved by the known way.
    That of a user's scan is read from the folder of the run and registered to the CT.

    Args:
        case: Prepared, with a brain mask.
        settings: Of what the case is part of (``run.shown``).

    Returns:
        The case; where there is a DWI, with the channel ``dwi``, (D, H, W) float32, 1 being the median of the brain
        outside the reference, 0 outside the MR's field. Its fact ``dwi_note`` says in a few words where the DWI comes
        from. Where there is one that cannot be used, ``channels_left_out`` says why.
    """
    try:
        found = _rendered(case) if case.embedded else _registered(case, settings)
    except DataError as error:
        left_out = case.facts.get("channels_left_out", {}) | {DWI: str(error)}
        return replace(case, facts=case.facts | {"channels_left_out": left_out, DWI_NOTE: "not usable"})
    if found is None:
        return case
    array, note = found
    usual = case.brain.astype(bool) & (array > 0)
    usual &= True if case.lesion is None else ~case.lesion.astype(bool)
    scale = float(np.median(array[usual])) if usual.any() else 1.0
    channels = case.channels | {DWI: (array / scale).astype(np.float32)}
    return replace(case, channels=channels, facts=case.facts | {DWI_NOTE: note})


def _rendered(case: Case) -> tuple[np.ndarray, str]:
    mr = render_mr(case.id)
    way = np.linalg.inv(np.array(mr.facts["mr_to_ct"]))
    note = f"rendered +{mr.facts['delay_hours']:.0f} h"
    return sample_on(mr.image, Grid.of(case.image), way, order=1, fill=0.0).array, note


def _registered(case: Case, settings: Settings) -> tuple[np.ndarray, str] | None:
    if DWI in case.channels:
        return np.asarray(case.channels[DWI], np.float32).reshape(case.image.array.shape), "on the CT's grid"
    raw = {one.id: one for one in sorted_cases(settings.data, settings.cohort)}.get(case.id)
    if raw is None or DWI not in raw.images:
        return None
    mr = open_image(raw.images[DWI], DWI)
    ct = Volume(case.image.array.astype(np.float32), case.image.affine)
    return mr_to_ct(ct, mr, case.brain.astype(bool)).image.array, "registered"
