"""Whether stage 1's labels mean what they say, against the change in HU that was painted into an embedded head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strokelib import comparing
from strokelib.errors import DataError, ParameterError
from strokelib.papl.sampling import BETWEEN, NEGATIVE, POSITIVE, Region, RegionSampler, within_pair
from strokelib.settings import Settings

VERSION = 1
# What the table shows; the rest of Purity are counts.
SHARES = ("lowered", "seen", "lowered_part", "seen_part", "negatives_lowered", "dropped_lowered")


@dataclass(frozen=True)
class Purity:
    """What lies in the windows of a sampler's samples. Shares are NaN where there is nothing to share.

    Args:
        positives: Samples labelled 1.
        negatives: Samples labelled 0.
        dropped: Windows that were drawn and dropped.
        lowered: Share of the positives that hold a pixel of infarct painted darker by ``drop_hu`` or more.
        seen: Share of the positives in which that is still so after clipping to the window in HU.
        lowered_part: Of the reference's pixels in a positive, the share painted darker; mean over positives.
        seen_part: The same after clipping.
        negatives_lowered: Share of the negatives that hold a pixel painted darker.
        dropped_lowered: Share of the dropped windows that hold a pixel of infarct painted darker.
    """

    positives: int
    negatives: int
    dropped: int
    lowered: float
    seen: float
    lowered_part: float
    seen_part: float
    negatives_lowered: float
    dropped_lowered: float

    @property
    def positive_share(self) -> float:
        """Positives among the samples."""
        return self.positives / (self.positives + self.negatives)

    @property
    def dropped_share(self) -> float:
        """Dropped windows among those drawn."""
        return self.dropped / (self.positives + self.negatives + self.dropped)


def positive_purity(sampler: RegionSampler, samples: int = 4096, drop_hu: float = 1.0) -> Purity:
    """How often samples labelled as pathological hold tissue that the infarct made darker, and the others none.

    The paper does not ask. A reference drawn on a follow-up scan may cover tissue that the first CT shows unchanged,
    and the published window clips what is darker than 30 HU.

    Args:
        sampler: Its slices know what was painted (:func:`strokelib.papl.slices.head_slices` with ``truth``); its
            position in the stream stays where it is.
        samples: How many are looked at: the first of the stream.
        drop_hu: From which loss of HU on a pixel counts as darker, above 0.

    Raises:
        DataError: The slices do not know what was painted.
        ParameterError: No samples, or a loss that is not positive.
    """
    return _purity(sampler, _regions(sampler, samples, drop_hu), drop_hu)


def purity_by_head(sampler: RegionSampler, samples: int = 4096, drop_hu: float = 1.0) -> dict[int, Purity]:
    """The same of the samples of each head: number of the head -> purity. Samples of one head are not independent.

    Args:
        sampler: As :func:`positive_purity` takes it.
        samples: See there; of all heads together.
        drop_hu: See there.

    Raises:
        DataError: See there.
        ParameterError: See there.
    """
    of_head: dict[int, list[Region]] = {}
    for region in _regions(sampler, samples, drop_hu):
        of_head.setdefault(int(sampler.slices.case[region.row]), []).append(region)
    return {head: _purity(sampler, of_head[head], drop_hu) for head in sorted(of_head)}


def table_purity(windows: Mapping[str, Mapping[int, Purity]], settings: Settings) -> pd.DataFrame:
    """What each window in HU leaves of the labels' meaning: means over heads, compared with the last window.

    Args:
        windows: Name of a window -> head -> purity, of the same samples.
        settings: Of what is shown (``run.shown``); its seed is that of the resamples.

    Returns:
        Columns of :mod:`strokelib.comparing`; ``row`` is a window, ``metric`` one of :data:`SHARES`, ``n`` the heads
        with a sample of that kind.

    Raises:
        DataError: There is no window.
    """
    if not windows:
        raise DataError("windows in HU", found="none", wanted="one or more", next_step="give a window")
    lines = [
        (window, head, name, getattr(one, name))
        for window, heads in windows.items()
        for head, one in heads.items()
        for name in SHARES
    ]
    scores = pd.DataFrame(lines, columns=["method", "case", "metric", "value"])
    named = [(window, name, "fraction", comparing.NO_PUBLISHED) for window in windows for name in SHARES]
    cells = pd.DataFrame(named, columns=["method", "metric", "unit", "published_cell"])
    metrics, status = {name: (name, 1.0) for name in SHARES}, dict.fromkeys(windows, "done")
    return comparing.compared(cells, metrics, scores, status, settings, proposed=list(windows)[-1])


def _regions(sampler: RegionSampler, samples: int, drop_hu: float) -> list[Region]:
    slices = sampler.slices
    if slices.lowered_hu is None or slices.seen_hu is None:
        wanted, step = "slices with their truth", "make them of embedded cases with truth=True"
        raise DataError("slices", found="no painted change in HU", wanted=wanted, next_step=step)
    if samples < 1 or drop_hu <= 0:
        found = f"samples {samples}, drop_hu {drop_hu:g}"
        raise ParameterError("purity", found=found, wanted="both above 0", next_step="correct them")
    return [sampler.region(number, np.random.default_rng((sampler.seed, number))) for number in range(samples)]


def _purity(sampler: RegionSampler, regions: Iterable[Region], drop_hu: float) -> Purity:
    slices = sampler.slices
    lesions = slices.lesions.numpy()
    painted, left_over = slices.lowered_hu.numpy(), slices.seen_hu.numpy()
    held: dict[int, list[bool]] = {POSITIVE: [], NEGATIVE: [], BETWEEN: []}
    held_seen, parts = [], []

    for region in regions:
        layers = (lesions[region.row] > 0, painted[region.row] >= drop_hu, left_over[region.row] >= drop_hu)
        marked, dark, left = (within_pair(values, region.box) for values in layers)
        if region.label == POSITIVE:
            held[POSITIVE].append(bool((marked & dark).any()))
            held_seen.append(bool((marked & left).any()))
            parts.append((dark[marked].mean(), left[marked].mean()))
        else:
            held[NEGATIVE].append(bool(dark.any()))
        infarct = layers[0] & layers[1]
        held[BETWEEN] += [bool(within_pair(infarct, box).any()) for box in region.dropped]

    part = np.array(parts).reshape(-1, 2)
    return Purity(
        positives=len(held[POSITIVE]),
        negatives=len(held[NEGATIVE]),
        dropped=len(held[BETWEEN]),
        lowered=_mean(held[POSITIVE]),
        seen=_mean(held_seen),
        lowered_part=_mean(part[:, 0]),
        seen_part=_mean(part[:, 1]),
        negatives_lowered=_mean(held[NEGATIVE]),
        dropped_lowered=_mean(held[BETWEEN]),
    )


def _mean(values: list[bool] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
