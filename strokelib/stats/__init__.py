"""Statistics on one value a patient: intervals, agreement, normality, paired differences, ranks of several methods.

Every function of data returns a frozen dataclass with ``n``, the number of patients it used, and ``method``, the name
of what it did. A patient with a NaN in any column is left out and counted in ``n_dropped``; an infinite value is an
error. Whatever is drawn at random takes a seed. What the data cannot give (a correlation with a constant) is NaN.

:mod:`strokelib.stats.plane` is apart: it takes one vector a patient or sample and returns places in the plane.
"""

from strokelib.stats.agreement import Agreement, BlandAltman, Correlation, bland_altman, icc, spearman
from strokelib.stats.bootstrap import Bootstrap, bootstrap_ci, paired_bootstrap_ci
from strokelib.stats.crossed import CrossedDifference, SeedsDifference, crossed_difference, seeds_difference
from strokelib.stats.differences import (
    DetectableDifference,
    Holm,
    SignedRank,
    holm,
    minimum_detectable_difference,
    wilcoxon_signed_rank,
)
from strokelib.stats.normality import QQ, ShapiroWilk, qq, shapiro_wilk
from strokelib.stats.ranks import Friedman, friedman
from strokelib.stats.ratios import BlandAltmanLog, bland_altman_log
from strokelib.stats.resolution import fewest_patients, smallest_signed_rank_p
from strokelib.stats.samples import Estimate
from strokelib.stats.seeds import PairedSeedsBootstrap, SeedsBootstrap, paired_seeds_bootstrap_ci, seeds_bootstrap_ci

__all__ = [
    "QQ",
    "Agreement",
    "BlandAltman",
    "BlandAltmanLog",
    "Bootstrap",
    "Correlation",
    "CrossedDifference",
    "DetectableDifference",
    "Estimate",
    "Friedman",
    "Holm",
    "PairedSeedsBootstrap",
    "SeedsBootstrap",
    "SeedsDifference",
    "ShapiroWilk",
    "SignedRank",
    "bland_altman",
    "bland_altman_log",
    "bootstrap_ci",
    "crossed_difference",
    "fewest_patients",
    "friedman",
    "holm",
    "icc",
    "minimum_detectable_difference",
    "paired_bootstrap_ci",
    "paired_seeds_bootstrap_ci",
    "qq",
    "seeds_bootstrap_ci",
    "seeds_difference",
    "shapiro_wilk",
    "smallest_signed_rank_p",
    "spearman",
    "wilcoxon_signed_rank",
]
