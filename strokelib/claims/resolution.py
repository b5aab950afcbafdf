"""What a test set of so many patients can show, beside the differences that the papers printed on as many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strokelib.claims.ledger import all_claims, published_difference
from strokelib.stats import minimum_detectable_difference

DICE = "dice"
QUANTILES = (0.1, 0.5, 0.9)
MEDIAN = QUANTILES.index(0.5)


@dataclass(frozen=True)
class Resolution:
    """What the patients of a cohort can show.

    Args:
        title: Of the cohort.
        patients: On which the spread was measured.
        sd: Spread of paired differences of Dice between two rows, at each of :data:`QUANTILES` over pairs; NaN where
            there is no pair.
        pairs: How many there are.
        published: Columns paper, claim, n (scans), difference; from :func:`published_dice`.
    """

    title: str
    patients: int
    sd: tuple[float, ...]
    pairs: int
    published: pd.DataFrame

    @classmethod
    def of(cls, title: str, patients: int, spreads: Sequence[float], cohort: str) -> Resolution:
        """From the spread of every pair.

        Args:
            title: Of the cohort.
            patients: On which the spreads were measured.
            spreads: SD of the paired differences of each pair of rows.
            cohort: Key of the cohort whose printed differences stand beside it.
        """
        sd = np.quantile(spreads, QUANTILES) if len(spreads) else np.full(len(QUANTILES), np.nan)
        return cls(title, patients, tuple(sd.tolist()), len(spreads), published_dice(cohort))

    def curve(self, patients: Sequence[int]) -> np.ndarray:
        """The smallest true difference that so many patients show, (quantiles, patients); see :func:`detectable`."""
        return np.array([[detectable(sd, int(n)) for n in patients] for sd in self.sd])

    @property
    def resolved(self) -> np.ndarray:
        """Of each printed difference, whether as many scans show it at the median spread; bool (differences,)."""
        least = np.array([detectable(self.sd[MEDIAN], int(n)) for n in self.published["n"]])
        return np.abs(self.published["difference"].to_numpy(float)) >= least


def detectable(sd: float, n: int) -> float:
    """The smallest true difference that ``n`` paired patients show (80 % power, two-sided 5 %).

    Args:
        sd: Of the paired differences; NaN where it is not known, which gives NaN.
        n: Patients, 2 or more.
    """
    return math.nan if math.isnan(sd) else minimum_detectable_difference(sd, n).value


def published_dice(cohort: str) -> pd.DataFrame:
    """The differences of mean Dice that the papers print and make a claim of, on the scans that a cohort stands for.

    Args:
        cohort: Its key.

    Returns:
        Columns paper, claim, n (scans), difference (positive as claimed). Claims without a printed number of scans are
        left out.
    """
    lines = [
        (claim.paper, claim.id, claim.n, published_difference(claim).gain)
        for claim in all_claims()
        if claim.cohort == cohort and claim.score == DICE and claim.n is not None
    ]
    return pd.DataFrame(lines, columns=["paper", "claim", "n", "difference"])
