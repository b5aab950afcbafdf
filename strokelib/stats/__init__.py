"""Statistics on one value a patient: intervals, agreement, paired differences.

Every function returns a frozen dataclass with ``n``, the number of patients it used, and ``method``, the name of what
it did. A patient with a NaN in either column is left out and counted in ``n_dropped``; an infinite value is an error.
Whatever is drawn at random takes a seed. What the data cannot give (a correlation with a constant) is NaN.
"""

from strokelib.stats.agreement import Agreement, BlandAltman, Correlation, bland_altman, icc, spearman
from strokelib.stats.bootstrap import Bootstrap, bootstrap_ci, paired_bootstrap_ci
from strokelib.stats.differences import (
    DetectableDifference,
    Holm,
    SignedRank,
    holm,
    minimum_detectable_difference,
    wilcoxon_signed_rank,
)
from strokelib.stats.samples import Estimate

__all__ = [
    "Agreement",
    "BlandAltman",
    "Bootstrap",
    "Correlation",
    "DetectableDifference",
    "Estimate",
    "Holm",
    "SignedRank",
    "bland_altman",
    "bootstrap_ci",
    "holm",
    "icc",
    "minimum_detectable_difference",
    "paired_bootstrap_ci",
    "spearman",
    "wilcoxon_signed_rank",
]
