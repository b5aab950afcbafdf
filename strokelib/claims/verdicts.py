"""Whether the printed numbers alone support a claim, and what a paired comparison of ours says of it.

No paper prints how a difference spreads over scans. It follows from the SD of each row and the correlation r of both
rows over the same n scans: ``sd = sqrt(sd_a^2 + sd_b^2 - 2 r sd_a sd_b)``. No paper prints r; those of
:data:`CORRELATIONS` are tried. ``t(0.975, n - 1) sd / sqrt(n)`` is then half the 95 % interval of the mean difference,
the bound that a printed difference has to exceed. It holds the scans' share alone: how far another training would have
moved a row is printed nowhere, so that ``supported`` means that the scans sufficed, not that the method did it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strokelib.claims.ledger import NOT_SIGNIFICANT, NOT_TESTABLE, SIGNIFICANT, Claim, published_difference
from strokelib.claims.spreads import SOURCES, UNKNOWN, spreads_of
from strokelib.errors import ParameterError
from strokelib.stats import Estimate, minimum_detectable_difference
from strokelib.stats.samples import checked_share
from strokelib.stats.seeds import FEW_SEEDS
from strokelib.tables import STATUSES

SUPPORTED, NOT_SUPPORTED, CANNOT_BE_TOLD = "supported", "not supported", "cannot be told"
CONTRADICTED, INCONCLUSIVE = "contradicted", "inconclusive"
ONE_SEED = f"{INCONCLUSIVE} (1 seed)"
CORRELATIONS = (0.6, 0.8, 0.9)
LEVEL = 0.95
NOT_LEARNT, NOT_SCORED = ("undertrained", "did not learn"), (NOT_TESTABLE, "hidden test set", "not yet")


@dataclass(frozen=True)
class PublishedVerdict:
    """What the printed numbers alone say.

    Args:
        verdict: ``supported``, ``not supported`` or ``cannot be told``.
        reason: In words.
        gain: How far the first row is ahead, in the unit of our scores; negative where it is behind.
        sd: Of both rows over scans; NaN where it is not known.
        bounds: Correlation -> half the 95 % interval of the mean difference; empty without an SD or a number of scans.
        detectable: Correlation -> the smallest true difference that as many scans show with 80 % power.
    """

    verdict: str
    reason: str
    gain: float
    sd: tuple[float, float]
    bounds: Mapping[float, float]
    detectable: Mapping[float, float]


@dataclass(frozen=True)
class Verdict:
    """What our scans say.

    Args:
        verdict: ``supported``, ``contradicted``, ``inconclusive``, ``inconclusive (1 seed)`` or ``not testable here``.
        reason: In words.
    """

    verdict: str
    reason: str


def sd_of_difference(sd_a: float, sd_b: float, r: float) -> float:
    """SD of paired differences.

    Args:
        sd_a: Of one row over scans.
        sd_b: Of the other one.
        r: Their correlation over scans.
    """
    return math.sqrt(max(0.0, sd_a**2 + sd_b**2 - 2 * r * sd_a * sd_b))


def bound_of(sd: float, n: int) -> float:
    """Half the 95 % interval of a mean of paired differences.

    Args:
        sd: Of the differences.
        n: Scans, 2 or more.
    """
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)


def published_verdict(claim: Claim) -> PublishedVerdict:
    """What the printed numbers of a claim say without any of ours.

    In this order: means that do not differ as claimed do not support it; else a test that the paper made of it decides;
    else it cannot be told without a number of scans and a spread; else the difference has to exceed the bound at each
    correlation (``supported``), at none (``not supported``), or it depends on the correlation.

    Raises:
        ManifestError: A cell is not printed, or does not stand once in its table.
    """
    gain, pair = published_difference(claim).gain, spreads_of(claim)
    sd, bounds, detectable = (pair[0].sd, pair[1].sd), {}, {}
    if claim.n is not None and not math.isnan(sum(sd)):
        widths = {r: sd_of_difference(*sd, r) for r in CORRELATIONS}
        bounds = {r: bound_of(width, claim.n) for r, width in widths.items()}
        detectable = {r: minimum_detectable_difference(width, claim.n).value for r, width in widths.items()}
    said = _published(claim, gain, bounds, " and ".join(dict.fromkeys(one.source for one in pair)))
    return PublishedVerdict(*said, gain, sd, bounds, detectable)


def _published(claim: Claim, gain: float, bounds: Mapping[float, float], source: str) -> tuple[str, str]:
    if gain <= 0:
        return NOT_SUPPORTED, f"the printed means differ by {_signed(gain)}, not in the claimed direction"
    if claim.printed_test == SIGNIFICANT:
        return SUPPORTED, f"the paper's own paired test finds it ({SIGNIFICANT})"
    if claim.printed_test == NOT_SIGNIFICANT:
        return NOT_SUPPORTED, f"the paper's own paired test does not find it ({NOT_SIGNIFICANT})"
    if claim.n is None:
        return CANNOT_BE_TOLD, "the number of scans is not printed"
    if not bounds:
        return CANNOT_BE_TOLD, SOURCES[UNKNOWN]
    exceeded = [r for r, bound in bounds.items() if gain > bound]
    shown = ", ".join(f"{bound:.3g} at r = {r:g}" for r, bound in bounds.items())
    said = f"{_signed(gain)} over {claim.n} scans; bound {shown}; {source}"
    if len(exceeded) == len(bounds):
        return SUPPORTED, f"more than scans alone explain at each correlation tried: {said}"
    if not exceeded:
        return NOT_SUPPORTED, f"no more than scans alone explain at any correlation tried: {said}"
    return CANNOT_BE_TOLD, f"depends on the correlation over scans, which is not printed: {said}"


def verdict_of(
    claim: Claim,
    found: Estimate | None,
    seeds: int,
    *,
    statuses: Sequence[str] = (),
    p_adjusted: float | None = None,
    alpha: float = 0.05,
    wide: bool = False,
) -> Verdict:
    """What a paired comparison of ours says of a claim.

    In this order: what was not scored is not testable here; one seed is inconclusive whatever its interval, as is a row
    that did not learn or was still learning; else an interval on one side of 0 decides.

    Args:
        claim: What is claimed.
        found: Mean of row a minus row b with its interval, over scans and seeds; None where there is none.
        seeds: Trainings of the row that has fewer.
        statuses: Of both rows, of :data:`strokelib.tables.STATUSES`.
        p_adjusted: Of the paired test, adjusted for all that were made together; given, it has to lie below ``alpha``
            too.
        alpha: Family-wise error rate.
        wide: The interval allows for few seeds, as that of :func:`strokelib.stats.crossed_difference` does and a
            bootstrap does not.

    Raises:
        ParameterError: A status is not known, there is no seed, or a share lies outside (0, 1), of p outside [0, 1].
    """
    if strange := [word for word in statuses if word not in STATUSES]:
        step = "use one of these words"
        raise ParameterError("status", found=repr(strange[0]), wanted=" or ".join(STATUSES), next_step=step)
    if p_adjusted is not None and not 0 <= p_adjusted <= 1:
        step = "leave it out where no test was made"
        raise ParameterError("p_adjusted", found=p_adjusted, wanted="a number in [0, 1]", next_step=step)
    checked_share("alpha", alpha)
    if not claim.ours_a:
        return Verdict(NOT_TESTABLE, claim.note)
    if words := [word for word in statuses if word in NOT_SCORED]:
        return Verdict(NOT_TESTABLE, f"a row is marked {words[0]}")
    if found is None or any(map(math.isnan, (found.value, found.low, found.high))):
        return Verdict(NOT_TESTABLE, "fewer than two scans have both scores")
    if seeds < 1:
        raise ParameterError("seeds", found=seeds, wanted="1 or more", next_step="count the trainings of each row")
    low, high = sorted((claim.sign * found.low, claim.sign * found.high))
    side = SUPPORTED if low > 0 else CONTRADICTED if high < 0 else INCONCLUSIVE
    said = f"{found.level:.0%} interval of the gain {_signed(low)} to {_signed(high)}"
    if seeds == 1:
        return Verdict(ONE_SEED, f"{said}, over scans alone: another training may move it further than that")
    if words := [word for word in statuses if word in NOT_LEARNT]:
        return Verdict(INCONCLUSIVE, f"a row is marked {words[0]}, so that its score is not the method's; {said}")
    said += f", {seeds} seeds" + (", too few for its full width" if seeds < FEW_SEEDS and not wide else "")
    if side == INCONCLUSIVE:
        return Verdict(side, f"{said}: it holds 0")
    if p_adjusted is not None and p_adjusted >= alpha:
        return Verdict(INCONCLUSIVE, f"{said}, but the adjusted p of the paired test is {p_adjusted:.2g}")
    return Verdict(side, said)


def _signed(value: float) -> str:
    return f"{value:+.3g}".replace("-", "−")
