"""What the four papers claim of two rows, what their printed numbers say about it, and what ours do.

A claim of ``data_manifests/claims.csv`` names two printed cells of ``data_manifests/reported/``, the first of them said
to be the better one; no number is typed twice. Values are brought to the unit of our scores: per cent to fractions.
Nothing here trains or draws: ``strokelib claims`` trains, and leaves scores (:func:`scores`) that :func:`tested` turns
into what is committed (:func:`results`).
"""

from strokelib.claims.ledger import Claim, PublishedDifference, all_claims, published_difference
from strokelib.claims.records import results, scores
from strokelib.claims.spreads import Spread, spreads_of
from strokelib.claims.testing import tested
from strokelib.claims.verdicts import PublishedVerdict, Verdict, published_verdict, verdict_of

__all__ = [
    "Claim",
    "PublishedDifference",
    "PublishedVerdict",
    "Spread",
    "Verdict",
    "all_claims",
    "published_difference",
    "published_verdict",
    "results",
    "scores",
    "spreads_of",
    "tested",
    "verdict_of",
]
