"""Whether stage 1's labels mean what they say, against the change in HU that was painted into an embedded head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokelib.errors import DataError, ParameterError
from strokelib.papl.sampling import BETWEEN, NEGATIVE, POSITIVE, RegionSampler, within_pair

VERSION = 1


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
    slices = sampler.slices
    if slices.lowered_hu is None or slices.seen_hu is None:
        wanted, step = "slices with their truth", "make them of embedded cases with truth=True"
        raise DataError("slices", found="no painted change in HU", wanted=wanted, next_step=step)
    if samples < 1 or drop_hu <= 0:
        found = f"samples {samples}, drop_hu {drop_hu:g}"
        raise ParameterError("purity", found=found, wanted="both above 0", next_step="correct them")
    lesions = slices.lesions.numpy() > 0
    lowered, seen = (values.numpy() >= drop_hu for values in (slices.lowered_hu, slices.seen_hu))
    held: dict[int, list[bool]] = {POSITIVE: [], NEGATIVE: [], BETWEEN: []}
    held_seen, parts = [], []

    for number in range(samples):
        region = sampler.region(number, np.random.default_rng((sampler.seed, number)))
        marked, dark, left = (within_pair(values[region.row], region.box) for values in (lesions, lowered, seen))
        if region.label == POSITIVE:
            held[POSITIVE].append(bool((marked & dark).any()))
            held_seen.append(bool((marked & left).any()))
            parts.append((dark[marked].mean(), left[marked].mean()))
        else:
            held[NEGATIVE].append(bool(dark.any()))
        infarct = lesions[region.row] & lowered[region.row]
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
