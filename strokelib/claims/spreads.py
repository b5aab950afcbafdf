"""How far a row's scores spread over scans: the printed SD, or what has to be assumed where none is printed.

- ``printed``: the SD stands in the table, or in the text beside the same mean.
- ``dice and jaccard`` (papl, adn): for one scan J = D / (2 - D), a curve that bends upwards, so that the mean of J lies
  above the J of the mean Dice by about ``2 sd^2 / (2 - D)^3``. The SD is the median over the rows that print both, of
  Table II for the same data set, of Table V for its strata. ADN's Table 1 prints no Jaccard; its 52 scans are those
  of Table II.
- ``iqr`` (ssl_nnunet): the printed width of the interquartile range. Dice takes the ratio of SD to width of the rows
  that print both, since Dice crowds at 0; a distance takes that of a normal distribution.
- ``hd95 ratio`` (adn): the ratio of SD to mean that HD95 has in Table 1 of ssl_nnunet, median over its rows. Other
  scans and another network: a guess of its size, no more.
- ``none``: nothing printed tells it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from strokelib import settings
from strokelib.claims.ledger import (
    FROM_IQR,
    FROM_JACCARD,
    FROM_RATIO,
    PRINTED,
    UNKNOWN,
    Claim,
    Side,
    cells,
    number_of,
    printed,
    table_of,
)

SOURCES = {
    PRINTED: "SD as printed",
    FROM_JACCARD: "SD from how far the mean Jaccard lies above that of the mean Dice",
    FROM_IQR: "SD from the printed width of the interquartile range",
    FROM_RATIO: "SD guessed from the ratio to the mean that HD95 has in Table 1 of ssl_nnunet",
    UNKNOWN: "no spread is printed and none could be derived",
}
# Width of the interquartile range of a normal distribution with an SD of 1.
NORMAL_IQR = 1.349
ALL_SCANS, STRATA = "all", "infarct volume"
SSL, TEXT = "ssl_nnunet", "intext"


@dataclass(frozen=True)
class Spread:
    """Of a row's scores over scans.

    Args:
        sd: In the unit of our scores; NaN where it is not known.
        source: Where it is from, in words.
    """

    sd: float
    source: str


def spreads_of(claim: Claim) -> tuple[Spread, Spread]:
    """The spread of both rows of a claim. A printed SD comes before what the claim would assume.

    Raises:
        ManifestError: What the assumption needs is not printed.
    """
    return _spread(claim, "a"), _spread(claim, "b")


def _spread(claim: Claim, side: Side) -> Spread:
    sd, rule = _printed_sd(claim, side), PRINTED
    if math.isnan(sd):
        rule = claim.spread if claim.spread != PRINTED else UNKNOWN
    if rule == FROM_JACCARD:
        sd = _from_jaccard(claim.dataset, claim.lesion_filter)
    elif rule == FROM_IQR:
        share = _sd_per_iqr() if claim.score == "dice" else 1 / NORMAL_IQR
        sd = printed(claim, side, "iqr")[0] * share
    elif rule == FROM_RATIO:
        sd = printed(claim, side, "mean")[0] * _hd95_ratio()
    return Spread(sd, SOURCES[rule])


def _printed_sd(claim: Claim, side: Side) -> float:
    mean, _ = printed(claim, side, "mean")
    for number in (claim.table_of(side), *([TEXT] if _has_text(claim.paper) else [])):
        same, sd = (cells(claim, side, number, statistic) for statistic in ("mean", "sd"))
        if len(same) == len(sd) == 1 and number_of(same) == mean:
            return number_of(sd)
    return math.nan


def _has_text(paper: str) -> bool:
    return (settings.manifests_dir() / "reported" / f"{paper}_{TEXT}.csv").is_file()


def _from_jaccard(dataset: str, scans: str) -> float:
    of_strata = scans.startswith(STRATA)
    found = table_of("papl", "5" if of_strata else "2")
    found = found[(found["dataset"] == dataset) & (found["lesion_filter"] == (scans if of_strata else ALL_SCANS))]
    wide = found.pivot(index=["method", "aligned"], columns="metric", values="value")
    wide = wide.dropna(subset=["DSC", "JC"])
    above = wide["JC"] - wide["DSC"] / (2 - wide["DSC"])
    return float(np.sqrt(above * (2 - wide["DSC"]) ** 3 / 2).median())


def _sd_per_iqr() -> float:
    """Of Dice, over the rows of ssl_nnunet that print a width in Table 1 and, of the same mean, an SD in the text."""
    both = pd.concat([_dice(TEXT, "sd"), _dice("1", "iqr")], axis=1, join="inner", keys=("sd", "iqr"))
    return float((both["sd"] / both["iqr"]).median())


def _dice(number: str, statistic: str) -> pd.Series:
    found = table_of(SSL, number)
    return found[(found["metric"] == "DSC") & (found["statistic"] == statistic)].set_index("method")["value"]


def _hd95_ratio() -> float:
    found = table_of(SSL, "1").query("metric == 'HD95'")
    wide = found.pivot(index="method", columns="statistic", values="value")
    return float((wide["iqr"] / NORMAL_IQR / wide["mean"]).median())
