"""What is shown of the pre-trainings of Seia et al. 2023: their views, their curves, and what an encoder knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from strokelib.comparing import NO_PUBLISHED
from strokelib.data.augment3d import Augmentation3d
from strokelib.errors import ParameterError
from strokelib.methods.ssl_encoded import BASELINES, DATA_SET, STROKE, TRAINED, UNTRAINED, Encoded
from strokelib.methods.ssl_encoded import PictureRecipe as PictureRecipe
from strokelib.methods.ssl_encoded import encoded as encoded
from strokelib.methods.ssl_nnunet import PRETRAINING, SYMMETRY, Study
from strokelib.methods.ssl_sets import chosen_set
from strokelib.settings import Settings
from strokelib.ssl_nnunet.clustering import clustering_scores
from strokelib.ssl_nnunet.representation_figures import Representations
from strokelib.ssl_nnunet.representations import NEIGHBOURS, Attribution, bounded
from strokelib.ssl_nnunet.training_figures import ViewsExample, Watch
from strokelib.ssl_nnunet.views import ViewSampler
from strokelib.stats import bootstrap_ci, holm, paired_bootstrap_ci

if TYPE_CHECKING:
    import pandas as pd

DRAWS_A_HEAD = 200
CLUSTERED = (
    "row", "weights", "label", "metric", "unit", "published", "ours", "ci95_low", "ci95_high", "n", "classes",
    "chance", "chance_low", "chance_high", "p", "p_holm", "difference", "difference_low", "difference_high",
)  # fmt: skip
SHARES = (
    "row", "weights", "channel", "baseline", "place", "unit", "published", "ours", "ci95_low", "ci95_high", "n",
    "volume", "difference", "difference_low", "difference_high", "completeness_error",
)  # fmt: skip


def views_examples(study: Study, n: int = 3, *, augmentation: Augmentation3d | None = None) -> list[ViewsExample]:
    """Pairs of views as the pre-trainings -SA draw them from the training scans of ALL, of different heads.

    Args:
        study: Its scans.
        n: How many heads.
        augmentation: Changes of intensity to show, or none.

    Raises:
        ParameterError: ``n`` is below 1, or there are fewer heads.
    """
    recipe, setup = study.recipe(PRETRAINING, symmetry=SYMMETRY), study.setup()
    cases = study.mirrored(chosen_set(study.sets, "ALL")[0])
    if not 1 <= n <= len(cases):
        raise ParameterError("n", found=n, wanted=f"1 to {len(cases)}", next_step="ask for fewer heads")
    heads = setup.heads(recipe, cases, contralateral=True, unlabelled=True)
    sampler = ViewSampler(heads, recipe.view, 1, study.seed, slab=recipe.slab, base=recipe.base_of_views)
    generator, shown = np.random.default_rng(study.seed), {}
    for _ in range(DRAWS_A_HEAD * n):
        if len(shown) == n:
            break
        head, pair = sampler.place(generator)
        if pair.scan not in shown:
            how = {"augmentation": augmentation, "seed": study.seed}
            shown[pair.scan] = ViewsExample.of(head, pair, recipe.view, **how)
    return list(shown.values())


def watches(study: Study, names: Sequence[str], channels: int = 1) -> dict[str, Watch]:
    """The curves that tell learning from collapse, of pre-trainings such as ``ALL`` and ``STKn-SA``."""
    trained = {name: study.pretrained(name, channels) for name in names}
    return {name: Watch.of(one.history, one.recipe.prototypes) for name, one in trained.items()}


def representations(seen: Encoded) -> Representations:
    """What Figures 8 and B.9 show of a pre-training."""
    scores = {name: float(seen.silhouettes(TRAINED, name).mean()) for name in seen.classes}
    return Representations(
        projection=seen.projection,
        data_sets=seen.labels[DATA_SET].tolist(),
        stroke=seen.labels[STROKE],
        points=seen.points,
        rows=[[seen.neighbour(index) for index in row] for row in seen.shown],
        silhouettes=scores,
        channels=seen.looks,
        encoder=seen.title,
        perplexity=bounded(seen.recipe.perplexity, len(seen.heads)),
    )


def clustering(seen: Sequence[Encoded], settings: Settings) -> pd.DataFrame:
    """Whether heads of one data set, of one anatomy, or with a stroke lie together, before the pre-training and after.

    Source: Sec. 4.3, Seia et al. 2023.
    Deviation: the paper looks at the plane of t-SNE and sees no relation; here it is tested among the vectors.

    Args:
        seen: Encoders; a label with a single class is left out.
        settings: Of what is shown (``run.shown``).

    Returns:
        A row an encoder, its weights (``pre-trained``, ``untrained``), label and metric: ``accuracy`` of the vote of
        the nearest others and mean ``silhouette``. ``ours`` with its 95 % interval over ``n`` heads; ``chance`` with
        the central 95 % of shuffled labels; ``p`` and, over all rows of a metric, ``p_holm``; of a silhouette the
        ``difference`` to the untrained encoder on the same heads.
    """
    import pandas as pd

    rows = [row for one in seen for row in _clustered(one, settings.seed)]
    table = pd.DataFrame(rows, columns=CLUSTERED)
    for metric in table["metric"].unique():
        family = table["metric"] == metric
        table.loc[family, "p_holm"] = holm(table.loc[family, "p"].tolist()).adjusted
    return _signed(table, settings)


def _clustered(one: Encoded, seed: int) -> Iterator[dict[str, Any]]:
    k = min(NEIGHBOURS, len(one.heads) - 1)
    for weights, vectors in one.vectors.items():
        scores = clustering_scores(vectors, one.classes, k=k, permutations=one.recipe.permutations, seed=seed)
        for score in scores:
            heads = one.silhouettes(weights, score.label)
            facts = {"row": one.title, "weights": weights, "label": score.label, "unit": "1", "published": NO_PUBLISHED}
            facts |= {"n": len(heads), "classes": "; ".join(f"{name} {n}" for name, n in score.counts.items())}
            shared = bootstrap_ci(heads, seed=seed)
            found = (("accuracy", score.accuracy, score.accuracy_chance, score.accuracy_p),
                     ("silhouette", shared, score.silhouette_chance, score.silhouette_p))  # fmt: skip
            for metric, ours, chance, p in found:
                row = {"metric": metric, **_interval(ours), "p": p, **_interval(chance, "chance", "chance")}
                if metric == "silhouette" and weights != UNTRAINED:
                    before = one.silhouettes(UNTRAINED, score.label)
                    row |= _interval(paired_bootstrap_ci(heads, before, seed=seed), "difference", "difference")
                yield facts | row


def attribution_shares(
    seen: Sequence[Encoded], settings: Settings, weights: Sequence[str] = (TRAINED, UNTRAINED)
) -> pd.DataFrame:
    """Where the attributions of the heads shown in a figure lie, against the volume of that place.

    With the background as baseline a voxel outside the brain has no attribution whatever the encoder does: there the
    image is its own baseline. Only the other baseline can say whether such voxels matter.

    Source: Sec. 4.3, Seia et al. 2023.
    Deviation: the paper looks at maps.

    Args:
        seen: Encoders.
        settings: Of what is shown (``run.shown``).
        weights: Which of ``pre-trained`` and ``untrained``.

    Returns:
        A row an encoder, its weights, channel, baseline and place: ``brain`` (of all that is represented) and
        ``lesion`` (of the brain, in heads with one). ``ours``: mean share of the sum of absolute attributions, with
        its 95 % interval over ``n`` heads; ``volume``: mean share of the voxels; ``difference`` of the two, paired. The
        heads are neighbours of each other: no random sample. ``completeness_error``: how far the
        sum of the attributions is from f(image) - f(baseline), as a share of it; the median over the heads.
    """
    import pandas as pd

    rows = []
    for one in seen:
        heads = sorted({index for row in one.shown for index in row})
        masks = {index: one.masks(index) for index in heads}
        for name in weights:
            for baseline in BASELINES:
                found = {index: one.attributed(index, name, baseline) for index in heads}
                error = float(np.median([_missed(of) for of in found.values()]))
                for channel, look in enumerate(one.looks):
                    sizes = {index: np.abs(of.values[channel], dtype=np.float64) for index, of in found.items()}
                    facts = {"row": one.title, "weights": name, "channel": look.name, "baseline": baseline,
                             "completeness_error": error, "unit": "1", "published": NO_PUBLISHED}  # fmt: skip
                    for place in ("brain", "lesion"):
                        shares = [_shares(sizes[index], *masks[index], place) for index in heads]
                        rows.append({**facts, "place": place, **_compared(shares, settings.seed)})
    return _signed(pd.DataFrame(rows, columns=SHARES), settings)


def _missed(found: Attribution) -> float:
    return abs(found.completeness_error) / max(abs(found.difference), 1e-12)


def _shares(sizes: np.ndarray, brain: np.ndarray, lesion: np.ndarray, place: str) -> tuple[float, float]:
    """Share of the attributions and of the voxels; NaN where the place or the whole is empty."""
    part, whole = (brain, np.ones_like(brain)) if place == "brain" else (lesion & brain, brain)
    total = float(sizes[whole].sum())
    if not part.any() or not total:
        return np.nan, np.nan
    return float(sizes[part].sum()) / total, float(part.sum() / whole.sum())


def _compared(shares: Sequence[tuple[float, float]], seed: int) -> dict[str, Any]:
    ours, volume = np.array([both for both in shares if np.isfinite(both).all()]).reshape(-1, 2).T
    row: dict[str, Any] = {"n": len(ours)}
    if len(ours):
        row |= {"ours": float(ours.mean()), "volume": float(volume.mean()), "difference": float((ours - volume).mean())}
    if len(ours) > 1:
        row |= _interval(bootstrap_ci(ours, seed=seed))
        row |= _interval(paired_bootstrap_ci(ours, volume, seed=seed), "difference", "difference")
    return row


def _interval(found: Any, name: str = "ours", ends: str = "ci95") -> dict[str, float]:
    return {name: found.value, f"{ends}_low": found.low, f"{ends}_high": found.high}


def _signed(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return table.assign(cohort=settings.cohort, profile=settings.profile.value, data=settings.source)
