"""Whether explanations mean something, as tables: pointing, completeness, networks drawn anew, votes of patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from strokelib.comparing import NO_PUBLISHED
from strokelib.explain.baselines import BASELINES
from strokelib.explain.neighbours import K, vote_of_others
from strokelib.explain.randomisation import rank_correlation, structural_similarity
from strokelib.methods.explained import IMAGE_ALONE, NETWORKS, READ, TESTED, TRAINED, WITHOUT_LEARNING, Study
from strokelib.stats import bootstrap_ci, holm, paired_bootstrap_ci

if TYPE_CHECKING:
    import pandas as pd

    from strokelib.settings import Settings

RANK, SSIM = METRICS = ("rank correlation", "SSIM")
ANOTHER_HEAD = "map of another head"


def signed(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """A table with what its numbers were made on."""
    facts = {"cohort": settings.cohort, "profile": settings.profile.value, "data": settings.source}
    return table.assign(published=NO_PUBLISHED, **facts)


def pointing_table(study: Study) -> pd.DataFrame:
    """Where the attributions of each method lie, by baseline: in the infarct, on its other side, beside its volume.

    Args:
        study: Methods and heads.

    Returns:
        A row a method, network (``trained``; ``image minus baseline``, which no network made; ``untrained``, of fewer
        heads) and baseline. ``lesion``, ``other_side``, ``volume``: mean shares; ``difference`` (lesion - volume) and
        ``sided`` (lesion - other side) with their 95 % intervals over ``n`` heads; ``hits``: how many of them have
        their largest voxel in the infarct; ``completeness_error`` and ``relative_error``: medians of |sum - difference
        of outputs| over |that difference| and over the sum of absolute attributions.
    """
    import pandas as pd

    rows = []
    for key, title in study.titles.items():
        for network in NETWORKS:
            for baseline in BASELINES if network != WITHOUT_LEARNING else (TESTED,):
                heads = study.tested if network == WITHOUT_LEARNING else study.shown
                rows.append({"method": title, "network": network, "baseline": baseline, "unit": "1"})
                rows[-1] |= _pointed(study, key, network, baseline, heads)
    return pd.DataFrame(rows)


def _pointed(study: Study, key: str, network: str, baseline: str, heads: list[int]) -> dict[str, Any]:
    found = [study.pointing(key, head, baseline, network) for head in heads]
    names = ("lesion", "other_side", "volume", "hit")
    values = {name: np.array([getattr(one, name) for one in found]) for name in names}
    kept = np.isfinite(values["lesion"])
    values = {name: one[kept] for name, one in values.items()}
    row: dict[str, Any] = {"n": int(kept.sum()), "n_dropped": int((~kept).sum())}
    if kept.any():
        row |= {name: float(values[name].mean()) for name in names[:3]} | {"hits": int(values["hit"].sum())}
    for name, other in (("difference", "volume"), ("sided", "other_side")):
        row |= _interval(name, values["lesion"] - values[other], study.seed)
    if network != IMAGE_ALONE:
        share = 1.0 if network == WITHOUT_LEARNING else 0.0
        maps = [study.attribution(key, head, baseline, share) for head in heads]
        missed = [abs(one.completeness_error) / max(abs(one.difference), 1e-12) for one in maps]
        row["completeness_error"] = float(np.median(missed))
        row["relative_error"] = float(np.median([one.relative_error for one in maps]))
    return row


def _interval(name: str, values: np.ndarray, seed: int) -> dict[str, float]:
    if len(values) < 2:
        mean = float(values.mean()) if len(values) else np.nan
        return {name: mean, f"{name}_low": np.nan, f"{name}_high": np.nan}
    found = bootstrap_ci(values, seed=seed)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def similarity_scores(study: Study) -> pd.DataFrame:
    """How alike attributions are to those of the trained network, head by head.

    Returns:
        Columns method, share (of layers drawn anew; NaN for the maps that no such network made), what (``drawn anew``,
        ``image minus baseline``, ``map of another head``), case, metric, value.
    """
    import pandas as pd

    return pd.DataFrame(_compared(study), columns=["method", "share", "what", "case", "metric", "value"])


def _compared(study: Study) -> Iterator[tuple]:
    for key, title in study.titles.items():
        for number, head in enumerate(study.tested):
            view = study.view(key, head)
            brain, name = view.brain[view.looked], study.heads[head].whole.id
            own = study.size(key, head)
            maps = {("drawn anew", share): study.size(key, head, TESTED, WITHOUT_LEARNING, share)
                    for share in study.recipe.shares}  # fmt: skip
            maps[IMAGE_ALONE, np.nan] = study.size(key, head, TESTED, IMAGE_ALONE)
            if len(study.shown) > 1:
                other = study.shown[(number + 1) % len(study.shown)]
                maps[ANOTHER_HEAD, np.nan] = _fitted(study.size(key, other), brain.shape)
            for (what, share), found in maps.items():
                yield title, share, what, name, RANK, rank_correlation(own, found, brain)
                yield title, share, what, name, SSIM, structural_similarity(own, found, brain)


def _fitted(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Values about the middle of another shape: straight heads have their middle in common."""
    out = np.zeros(shape)
    into, of = [], []
    for have, want in zip(values.shape, shape, strict=True):
        both = min(have, want)
        into.append(slice((want - both) // 2, (want - both) // 2 + both))
        of.append(slice((have - both) // 2, (have - both) // 2 + both))
    out[tuple(into)] = values[tuple(of)]
    return out


def similarity_table(scores: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Means of :func:`similarity_scores` over heads, with 95 % intervals where there are two heads or more."""
    import pandas as pd

    rows = []
    for names, part in scores.groupby(["method", "what", "share", "metric"], sort=False, dropna=False):
        values = part["value"].dropna().to_numpy()
        row = dict(zip(("method", "what", "share", "metric"), names, strict=True))
        rows.append(row | {"unit": "1", "n": len(values)} | _interval("ours", values, seed))
    return pd.DataFrame(rows)


def vote_table(study: Study) -> pd.DataFrame:
    """Whether the nearest patches of other heads tell infarct, its other side and the rest apart.

    Returns:
        A row a method and what is compared (``features``, ``input alone``, ``untrained features``): ``ours``, the share
        voted right, with its 95 % interval over ``n`` heads, ``chance`` with the central 95 % of shuffled labels, ``p``
        and ``p_holm`` over all rows; ``gain`` over the untrained features, paired over heads, with its interval.
    """
    import pandas as pd

    rows = []
    for key, title in study.titles.items():
        how = {"k": K, "permutations": study.recipe.permutations, "seed": study.seed}
        found = {what: vote_of_others(study.vectors(key, what), study.kinds, study.owners, **how) for what in READ}
        for what, one in found.items():
            row = {"method": title, "what": what, "unit": "1", "n": len(one.right), "k": one.k}
            row |= _interval("ours", np.array(list(one.right.values())), study.seed)
            row |= {"chance": one.chance.value, "chance_low": one.chance.low, "chance_high": one.chance.high}
            rows.append(row | {"p": one.p})
            if what == READ[0]:
                gain = paired_bootstrap_ci(
                    list(one.right.values()), list(found[READ[2]].right.values()), seed=study.seed
                )
                rows[-1] |= {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].tolist()).adjusted)


def completeness(table: pd.DataFrame) -> pd.DataFrame:
    """Method by error and baseline: how far the trained networks' attributions are from complete.

    Args:
        table: From :func:`pointing_table`.
    """
    own = table[table["network"] == TRAINED]
    names = {"completeness_error": "of the difference", "relative_error": "of the sizes"}
    wide = own.rename(columns=names).pivot(index="method", columns="baseline", values=list(names.values()))
    return wide[[(name, baseline) for name in names.values() for baseline in BASELINES]].loc[own["method"].unique()]
