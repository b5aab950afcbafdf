"""Where the rows of a comparison stand: ranks, pairs, agreement of volumes, and what its patients resolve."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from strokelib.claims.resolution import Resolution, detectable
from strokelib.methods.every_row import NO_NETWORK, Comparison
from strokelib.stats import (
    Estimate,
    Friedman,
    bland_altman,
    bootstrap_ci,
    friedman,
    holm,
    icc,
    spearman,
    wilcoxon_signed_rank,
)

SCORE, PREDICTED, TRUE = "dice", "pred_volume_ml", "truth_volume_ml"
# Patients below which nothing is compared.
FEWEST = 3
NOT_KNOWN = Estimate(np.nan, np.nan, np.nan, 0.95)
ESTIMATES = ("dice", "bias_ml", "lower_ml", "upper_ml", "icc_agreement", "icc_consistency", "spearman")
BOUNDS = ("", "_low", "_high")


def ranking(one: Comparison) -> Friedman | None:
    """Friedman test of Dice over all rows; None with fewer than :data:`FEWEST` patients."""
    values = one.values(SCORE).dropna()
    return friedman(values.to_numpy()) if len(values) >= FEWEST else None


def standings(one: Comparison, *, seed: int = 0) -> pd.DataFrame:
    """Dice, mean rank and agreement of volumes of every row, with 95 % intervals; best mean rank first.

    Args:
        one: The rows of a cohort.
        seed: Of the resamples.

    Returns:
        Columns cohort, data, profile, row, paper, status, n (patients with all Dice), mean_rank, and of each of
        :data:`ESTIMATES` the value with ``_low`` and ``_high``: mean Dice (bootstrap over patients); bias and limits of
        agreement of predicted minus true volume in mL; ICC(2,1), which a bias lowers, and ICC(3,1), which it does not;
        Spearman's rho. NaN with fewer than :data:`FEWEST` patients.
    """
    values = {metric: one.values(metric) for metric in (SCORE, PREDICTED, TRUE)}
    ranks = ranking(one)
    mean_ranks = dict(zip(values[SCORE].columns, ranks.mean_ranks, strict=True)) if ranks else {}
    lines = []
    for name, row in one.rows.items():
        found = _estimates(*(values[metric][name] for metric in (SCORE, PREDICTED, TRUE)), seed)
        line = {"row": name, "paper": row.paper, "status": row.status, "n": int(values[SCORE][name].notna().sum())}
        line["mean_rank"] = mean_ranks.get(name, np.nan)
        for key, estimate in found.items():
            of_estimate = (estimate.value, estimate.low, estimate.high)
            line |= {key + end: value for end, value in zip(BOUNDS, of_estimate, strict=True)}
        lines.append(line)
    table = pd.DataFrame(lines)
    facts = {"cohort": one.cohort, "data": one.settings.source, "profile": one.settings.profile.value}
    for place, (column, fact) in enumerate(facts.items()):
        table.insert(place, column, fact)
    return table.sort_values("mean_rank", kind="stable", ignore_index=True)


def _estimates(dice: pd.Series, predicted: pd.Series, true: pd.Series, seed: int) -> dict[str, Estimate]:
    found = dict.fromkeys(ESTIMATES, NOT_KNOWN)
    if dice.notna().sum() >= FEWEST:
        found["dice"] = bootstrap_ci(dice, seed=seed)
    if (predicted.notna() & true.notna()).sum() >= FEWEST:
        limits, ratings = bland_altman(predicted, true), icc(predicted, true)
        found |= {"bias_ml": limits.bias, "lower_ml": limits.lower, "upper_ml": limits.upper}
        found |= {"icc_agreement": ratings.agreement, "icc_consistency": ratings.consistency}
        found["spearman"] = spearman(predicted, true)
    return found


def pair_table(one: Comparison) -> pd.DataFrame:
    """Every pair of rows: which is ahead in Dice, by how much, and what two corrections for many tests say.

    Args:
        one: The rows of a cohort.

    Returns:
        Columns cohort, row, baseline (the one with the lower mean), n (patients), difference, sd, p (Wilcoxon
        signed-rank), p_holm (over all pairs of the cohort), rank_gap, nemenyi (whether it reaches the critical
        difference), detectable (80 % power at the pair's own spread). Empty with fewer than :data:`FEWEST` patients.
    """
    values, ranks = one.values(SCORE).dropna(), ranking(one)
    columns = ["cohort", "row", "baseline", "n", "difference", "sd", "p", "rank_gap", "nemenyi", "detectable"]
    lines = []
    mean_ranks = dict(zip(values.columns, ranks.mean_ranks, strict=True)) if ranks else {}
    for pair in itertools.combinations(values.columns if ranks else (), 2):
        row, baseline = sorted(pair, key=lambda name: -values[name].mean())
        gaps = (values[row] - values[baseline]).to_numpy()
        gap, sd = mean_ranks[baseline] - mean_ranks[row], float(gaps.std(ddof=1))
        p = wilcoxon_signed_rank(gaps, np.zeros_like(gaps)).p
        beyond = abs(gap) >= ranks.critical_difference
        found = (float(gaps.mean()), sd, p, gap, beyond, detectable(sd, len(gaps)))
        lines.append((one.cohort, row, baseline, len(gaps), *found))
    table = pd.DataFrame(lines, columns=columns)
    table.insert(columns.index("p") + 1, "p_holm", holm(table["p"].tolist()).adjusted if lines else [])
    return table


def resolution(one: Comparison) -> Resolution:
    """How small a difference of Dice the cohort's patients show, and the differences that its papers printed.

    Pairs are those of networks whose median Dice is above 0: two that find nothing do not differ in any patient, and
    one that finds nothing differs by the whole of the other's score.

    Args:
        one: The rows of a cohort.
    """
    values = one.values(SCORE).dropna()
    found = [name for name in one.networks if len(values) >= FEWEST and values[name].median() > 0]
    pairs = itertools.combinations(found, 2)
    spreads = [float((values[first] - values[second]).std(ddof=1)) for first, second in pairs]
    return Resolution.of(one.title, len(values), spreads, one.cohort)


def pair_counts(pairs: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """How many pairs of a cohort's rows are told apart, by each of two corrections for many tests.

    Args:
        pairs: From :func:`pair_table`, of one cohort or several.
        alpha: Family-wise error rate.

    Returns:
        Columns cohort, n (patients), pairs, holm (adjusted signed-rank p below ``alpha``), nemenyi (critical
        difference), both, median_detectable (of all pairs).
    """
    told = pairs.assign(holm=pairs["p_holm"] < alpha, nemenyi=pairs["nemenyi"].astype(bool))
    told = told.assign(both=told["holm"] & told["nemenyi"])
    grouped = told.groupby("cohort", sort=False)
    counted = grouped.agg(n=("n", "first"), pairs=("p", "size"), **{k: (k, "sum") for k in ("holm", "nemenyi", "both")})
    return counted.assign(median_detectable=grouped["detectable"].median()).reset_index()


def page(table: pd.DataFrame) -> str:
    """The standings as Markdown, a block a cohort.

    Args:
        table: From :func:`standings`, of one cohort or several.
    """
    heads = ["row", "paper", "n", "mean rank", "Dice", "bias (mL)", "limits (mL)", "ICC(2,1)", "Spearman", "status"]
    lines = ["# All rows beside each other", ""]
    for (cohort, data), part in table.groupby(["cohort", "data"], sort=False):
        lines += [f"## {cohort} ({data})", "", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
        lines += [_shown(row) for row in part.itertuples()] + [""]
    profile = table["profile"].iloc[0]
    said = f"Mean over patients [95 % CI], profile {profile}; no published number stands here. Bias and limits of"
    return "\n".join([*lines, f"{said} agreement: predicted minus true volume."]) + "\n"


def _shown(row: tuple) -> str:
    limits = "-" if np.isnan(row.lower_ml) else f"{_number(row.lower_ml, 0)} to {_number(row.upper_ml, 0)}"
    rank = "-" if np.isnan(row.mean_rank) else _number(row.mean_rank, 1)
    status = "no network" if row.paper == NO_NETWORK else row.status
    dice, bias, agreement = _cell(row, "dice", 3), _cell(row, "bias_ml", 1), _cell(row, "icc_agreement", 2)
    cells = [f"`{row.row}`", row.paper, str(row.n), rank, dice, bias, limits, agreement, _cell(row, "spearman", 2)]
    return f"| {' | '.join([*cells, status])} |"


def _cell(row: tuple, name: str, places: int) -> str:
    value, *ends = (getattr(row, name + end) for end in BOUNDS)
    if np.isnan(value):
        return "-"
    low, high = (_number(end, places) for end in ends)
    return _number(value, places) + ("" if np.isnan(ends).any() else f" [{low}, {high}]")


def _number(value: float, places: int) -> str:
    return f"{round(value, places) + 0.0:.{places}f}".replace("-", "−")
