"""From scores a patient to what our trainings say of each claim.

A patient counts once: several scans of one patient are averaged first. The effect is the mean gain of row a over row b,
positive where it goes as claimed. Its interval and its minimum detectable effect are over patients and seeds
(:func:`strokelib.stats.crossed_difference`); those over patients alone (BCa bootstrap of the mean over seeds) and over
seeds alone (Welch) stand beside it. The paired test is Wilcoxon's, on the means over seeds, adjusted by Holm's method
among the claims of one group of one paper. A row that does not exceed the best row without a network by a 95 %
interval ``did not learn``: what is claimed of it stays inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from strokelib.claims import records
from strokelib.claims.ledger import NOT_TESTABLE, Claim, Side, all_claims, published_difference
from strokelib.claims.verdicts import verdict_of
from strokelib.stats import (
    Estimate,
    crossed_difference,
    holm,
    paired_bootstrap_ci,
    seeds_difference,
    wilcoxon_signed_rank,
)

if TYPE_CHECKING:
    import pandas as pd

DID_NOT_LEARN = "did not learn"
# Of the picture, not of the lesion found on it: whether the network that segments it learnt does not matter.
OF_PICTURES = ("local_ssim",)
VOLUME_STRATA = {"infarct volume <=70 mL": (0.0, 70.0), "infarct volume >70 mL": (70.0, math.inf)}
UNTRAINED = "not trained at the declared size; strokelib claims --only {} does it"
FEWEST = 2


def lesions_of(claim: Claim) -> str:
    """By which criterion lesions count in a claim: ``all`` or ``> 3 mL``."""
    return records.ABOVE if claim.lesion_filter.startswith("lesions >3 mL") else records.ALL_LESIONS


@dataclass(frozen=True)
class Scored:
    """The scores of one campaign, by row.

    Args:
        table: As :func:`strokelib.claims.scores` gives it.
    """

    table: pd.DataFrame

    @cached_property
    def _wide(self) -> dict[tuple[str, ...], pd.DataFrame]:
        """(paper, table, row, cohort, part, lesions, score) -> (seeds, cases)."""
        names = ["paper", "table", "row", "cohort", "part", "lesions", "score"]
        found = self.table[self.table["case"] != ""].groupby(names, sort=False)
        return {key: part.pivot(index="seed", columns="case", values="value") for key, part in found}

    @cached_property
    def _patient(self) -> pd.Series:
        cases = self.table[self.table["case"] != ""].drop_duplicates(["cohort", "case"])
        return cases.set_index(["cohort", "case"])["patient"]

    @cached_property
    def _flags(self) -> pd.DataFrame:
        return self.table[self.table["score"] == records.UNDERTRAINED]

    def scans(self, claim: Claim, side: Side, score: str = "") -> pd.DataFrame | None:
        """Scores (seeds, scans) of a row of a claim, the scans of its stratum; None where there are none."""
        row = claim.ours_a if side == "a" else claim.ours_b
        key = (claim.paper, claim.table_of(side), row)
        found = self._wide.get((*key, claim.cohort, claim.part, lesions_of(claim), score or claim.score))
        if found is None or claim.lesion_filter not in VOLUME_STRATA:
            return found
        low, high = VOLUME_STRATA[claim.lesion_filter]
        volume = self._reference(claim, records.TRUTH, records.VOLUME)
        return found[[case for case in found if low < volume[case] <= high]]

    def _reference(self, claim: Claim, row: str, score: str, lesions: str = records.ALL_LESIONS) -> pd.Series:
        key = (claim.paper, records.REFERENCE, row, claim.cohort, claim.part, lesions, score)
        return self._wide[key].iloc[0]

    def by_patient(self, cohort: str, scans: pd.DataFrame) -> pd.DataFrame:
        """Means (seeds, patients) of scores (seeds, scans); NaN where a scan of the patient has no score."""
        patients = [self._patient[cohort, case] for case in scans]
        return scans.T.groupby(patients).mean(skipna=False).T if len(set(patients)) < len(patients) else scans

    def learnt(self, claim: Claim, side: Side) -> str:
        """``yes`` or ``no``: whether the row's Dice exceeds that of the best reference row; empty where not asked."""
        if claim.score in OF_PICTURES:
            return ""
        key = (claim.paper, claim.table_of(side), claim.ours_a if side == "a" else claim.ours_b)
        where = (claim.cohort, claim.part, lesions_of(claim))
        if (asked := (*key, *where)) not in self._asked:
            self._asked[asked] = self._learnt(asked)
        return self._asked[asked]

    @cached_property
    def _asked(self) -> dict[tuple[str, ...], str]:
        return {}

    def _learnt(self, asked: tuple[str, ...]) -> str:
        paper, _, _, *where = asked
        found = self._wide.get((*asked, "dice"))
        beside = [
            one.iloc[0]
            for (of, table, _, *there, score), one in self._wide.items()
            if (of, table, there, score) == (paper, records.REFERENCE, where, "dice")
        ]
        if found is None or not beside:
            return ""
        best = max(beside, key=lambda one: one[found.columns].mean())
        pair = [self.by_patient(where[0], one) for one in (found, best[found.columns].to_frame().T)]
        if pair[0].shape[1] < FEWEST:
            return ""
        margin = paired_bootstrap_ci(pair[0].mean(axis=0).to_numpy(), pair[1].iloc[0].to_numpy())
        return "yes" if margin.low > 0 else "no"

    def undertrained(self, claim: Claim) -> str:
        """How many trainings of both rows still improved when they stopped: ``4 of 10``."""
        values: list[float] = []
        flags = self._flags
        for side in ("a", "b"):
            row = claim.ours_a if side == "a" else claim.ours_b
            named = {"paper": claim.paper, "table": claim.table_of(side), "row": row, "cohort": claim.cohort}
            values += flags.loc[np.all([flags[k] == v for k, v in named.items()], axis=0), "value"].tolist()
        return f"{sum(value > 0 for value in values)} of {len(values)}" if values else ""

    @cached_property
    def size(self) -> str:
        """The declared size of the trainings."""
        return " ".join(sorted(set(self.table["size"]))) if len(self.table) else ""


def tested(table: pd.DataFrame, claims: Sequence[Claim] | None = None) -> pd.DataFrame:  # noqa: PT028 (no test)
    """What our scores say of each claim.

    Args:
        table: As :func:`strokelib.claims.scores` gives it.
        claims: By default all of ``claims.csv``.

    Returns:
        Columns :data:`strokelib.claims.records.RESULT_COLUMNS`, a line a claim, with the digits of the file.
    """
    import pandas as pd

    scored, chosen = Scored(table), all_claims() if claims is None else tuple(claims)
    numbers = {claim.id: _compared(claim, scored) for claim in chosen}
    adjusted = _adjusted(chosen, numbers)
    lines = [_line(claim, scored, numbers[claim.id], adjusted.get(claim.id)) for claim in chosen]
    return records.rounded_results(pd.DataFrame(lines, columns=list(records.RESULT_COLUMNS)))


def _compared(claim: Claim, scored: Scored) -> dict[str, Any]:
    """Effect, intervals, detectable effect and test of a claim; empty where a row has too few scores."""
    pair = [scored.scans(claim, side) for side in ("a", "b")] if claim.ours_a else [None, None]
    if any(one is None for one in pair):
        return {}
    cases = [case for case in pair[0] if case in pair[1]]
    a, b = (scored.by_patient(claim.cohort, one[cases]).to_numpy() for one in pair)
    whole = ~np.isnan(a).any(axis=0) & ~np.isnan(b).any(axis=0)
    if whole.sum() < FEWEST:
        return {"n_patients": int(whole.sum()), "n_seeds": min(len(a), len(b))}
    n, a, b = len(whole), a[:, whole], b[:, whole]
    means = [one.mean(axis=0) for one in (a, b)]
    both, seeds = crossed_difference(a, b), seeds_difference(a, b)
    patients = paired_bootstrap_ci(*means)
    found = {"n_scans": len(cases), "n_patients": int(whole.sum()), "n_dropped": int(n - whole.sum())}
    found |= {"n_seeds": min(both.n_seeds), "mean_a": float(a.mean()), "mean_b": float(b.mean()), "found": both}
    for name, one in (("patients", patients), ("seeds", seeds), ("", both)):
        low, high = sorted((claim.sign * one.low, claim.sign * one.high))
        found |= {f"{name}_low".lstrip("_"): low, f"{name}_high".lstrip("_"): high}
    found |= {"effect": claim.sign * both.value, "se": both.se, "df": both.df, "mde": both.detectable()}
    found |= {"sd_seeds_a": both.sd_seeds[0], "sd_seeds_b": both.sd_seeds[1]}
    return found | {"p": wilcoxon_signed_rank(*means).p}


def family_of(claim: Claim) -> str:
    """The claims that are adjusted together: one group of one paper."""
    return f"{claim.paper}: {claim.group}"


def _adjusted(claims: Sequence[Claim], numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """Claim -> its p adjusted within its family, and how many tests that held."""
    families: dict[str, list[str]] = {}
    for claim in claims:
        if "p" in numbers[claim.id]:
            families.setdefault(family_of(claim), []).append(claim.id)
    found = {}
    for members in families.values():
        whole = holm([numbers[name]["p"] for name in members])
        found |= {name: (p, whole.m) for name, p in zip(members, whole.adjusted, strict=True)}
    return found


def _line(claim: Claim, scored: Scored, found: dict[str, Any], adjusted: tuple[float, int] | None) -> dict[str, Any]:
    published = published_difference(claim).gain
    line: dict[str, Any] = dict.fromkeys(records.RESULT_COLUMNS, math.nan) | dict.fromkeys(records.TEXTS, "")
    line |= {"id": claim.id, "paper": claim.paper, "group": claim.group, "cohort": claim.cohort, "part": claim.part}
    line |= {"score": claim.score, "published": published, "family": family_of(claim)}
    line |= {name: value for name, value in found.items() if name in line}
    if not found:
        reason = UNTRAINED.format(claim.id) if claim.ours_a else claim.note
        return line | {"verdict": NOT_TESTABLE, "reason": reason}
    learnt = [scored.learnt(claim, side) for side in ("a", "b")]
    undertrained = scored.undertrained(claim)
    line |= {"size": scored.size, "learnt_a": learnt[0], "learnt_b": learnt[1], "undertrained": undertrained}
    if adjusted is not None:
        line |= {"p_holm": adjusted[0], "n_family": adjusted[1]}
        line["resolves"] = "yes" if line["mde"] < abs(published) and not _alike(line) else "no"
    said = verdict_of(
        claim,
        found.get("found"),
        found["n_seeds"],
        statuses=[DID_NOT_LEARN for one in learnt if one == "no"],
        p_adjusted=None if adjusted is None or math.isnan(adjusted[0]) else adjusted[0],
        wide=True,
    )
    return line | {"verdict": said.verdict, "reason": _reason(said.reason, claim, learnt, line)}


def _alike(line: Mapping[str, Any]) -> bool:
    """Whether both rows score the same on every scan, as two that find nothing do."""
    return line["effect"] == 0 and line["se"] == 0


def _reason(said: str, claim: Claim, learnt: Sequence[str], line: Mapping[str, Any]) -> str:
    """The verdict's reason, with which row did not learn, what could have been found, and how short trainings were."""
    rows = [row for row, one in zip((claim.ours_a, claim.ours_b), learnt, strict=True) if one == "no"]
    parts = [said] + ([f"did not learn: {', '.join(dict.fromkeys(rows))}"] if rows else [])
    if _alike(line):
        parts.append("both rows have the same score on every scan, so that nothing can be detected")
    elif not math.isnan(line["mde"]):
        word = "below" if line["resolves"] == "yes" else "not below"
        parts.append(f"detectable {line['mde']:.3g}, {word} the published {abs(line['published']):.3g}")
    if line["undertrained"] and not line["undertrained"].startswith("0 of"):
        parts.append(f"{line['undertrained']} trainings still improved when they stopped")
    return "; ".join(parts)


def estimate_of(line: Mapping[str, Any]) -> Estimate:
    """Effect and interval of a line of the results, in the direction of the claim."""
    return Estimate(float(line["effect"]), float(line["low"]), float(line["high"]), 0.95)
