"""Reference rows of CT perfusion that need no network: low flow and late arrival, beside the three of any CT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from strokelib.data.cases import Case
from strokelib.errors import DataError
from strokelib.methods.reference_rows import REFERENCES, reference_metrics, smooth_within

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
PERFUSION_REFERENCES = (*REFERENCES, "cbf_threshold", "tmax_threshold")


def _map(case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
    if name not in case.channels or case.brain is None:
        found = f"channels {sorted(case.channels)}, {'no brain mask' if case.brain is None else 'a brain mask'}"
        step = "load the scans with strokelib.data.ctp.load_ctp_parts"
        raise DataError(f"case {case.id}", found=found, wanted=f"{name} and a brain mask", next_step=step)
    return case.channels[name].astype(np.float32), case.brain.astype(bool)


def low_flow_scores(case: Case) -> np.ndarray:
    """Minus the smoothed CBF over the scan's median CBF, (D, H, W): low flow is the usual sign of the core.

    Args:
        case: With the channel ``cbf`` and a brain mask.
    """
    flow, brain = _map(case, "cbf")
    tissue = brain & (flow > 0)
    middle = float(np.median(flow[tissue])) if tissue.any() else 1.0
    return np.where(tissue, -smooth_within(flow, tissue, case.image.spacing) / middle, -np.inf).astype(np.float32)


def late_scores(case: Case) -> np.ndarray:
    """Smoothed Tmax in s, (D, H, W): late arrival is the usual sign of the penumbra.

    Args:
        case: With the channel ``tmax_s`` and a brain mask.
    """
    late, brain = _map(case, "tmax_s")
    return np.where(brain, smooth_within(late, brain, case.image.spacing), -np.inf).astype(np.float32)


def perfusion_reference_metrics(
    train_cases: Sequence[Case], val_cases: Sequence[Case], cases: Sequence[Case], *, out: Path
) -> pd.DataFrame:
    """Scores of five reference rows, computed once and kept.

    Args:
        train_cases: As in :func:`strokelib.methods.reference_rows.fit_references`, with perfusion maps.
        val_cases: As above.
        cases: The cases to score.
        out: Folder in which the rows' own folder is made.
    """
    further = {
        "cbf_threshold": (low_flow_scores, "minus CBF over the scan's median"),
        "tmax_threshold": (late_scores, "s"),
    }
    return reference_metrics(train_cases, val_cases, cases, out=out, further=further, further_version=VERSION)
