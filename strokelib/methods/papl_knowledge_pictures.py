"""What is shown of stage 1 of Sun et al. 2024: which slices, how encoders embed samples, and what a mask alone says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial.distance import cdist

from strokelib import comparing
from strokelib.data.cases import Case
from strokelib.errors import DataError
from strokelib.infer import evaluating, model_device
from strokelib.methods.papl import KNOWLEDGE, Study, load_study
from strokelib.methods.scoring import status
from strokelib.methods.scoring import weakest as weakest
from strokelib.methods.training import Trained
from strokelib.papl.embedding_figures import EmbeddedSamples
from strokelib.papl.examples import AlignedSlice
from strokelib.papl.inputs import recipe_slices
from strokelib.papl.knowledge_fitting import build, embeddings, held_out_regions, region_stream
from strokelib.papl.losses import bilateral_divergence, bilateral_halves
from strokelib.papl.model import PAPL
from strokelib.papl.purity import Purity, purity_by_head
from strokelib.papl.recipe import KnowledgeRecipe
from strokelib.papl.sample_figures import SampledSlice
from strokelib.papl.sampling import RegionBatch
from strokelib.papl.snapshots import read_snapshot, snapshot_steps
from strokelib.settings import Settings
from strokelib.stats import paired_bootstrap_ci

if TYPE_CHECKING:
    import pandas as pd

CHANCE, WINDOW, START = UNTRAINED = ("chance", "window alone", "untrained encoder")
NEIGHBOUR, POSITIVES, KL_POSITIVE, KL_NEGATIVE = "neighbour", "neighbour, positives", "KL, positives", "KL, negatives"
METRICS = {NEIGHBOUR: "fraction", POSITIVES: "fraction", KL_POSITIVE: "nats", KL_NEGATIVE: "nats"}
# Slices of the stream among which those of Fig. 4 are looked for, and samples of either label that one has to have.
LOOKED_AT, OF_EACH = 400, 2


def relation_example(study: Study) -> AlignedSlice:
    """The slice of Fig. 1: the fullest one of the test scan with the median volume of infarct.

    Where it has no room for three windows, the next larger scan is shown, and after the largest the next smaller one.

    Args:
        study: Its aligned test scans.

    Raises:
        DataError: No scan has an infarct, or none has room.
    """
    ranked = sorted((c for c in study.cases(True)[2] if c.lesion_ml > 0), key=lambda c: (c.lesion_ml, c.id))
    middle, refused = len(ranked) // 2, DataError("scans to show", found="none", wanted="one", next_step="add scans")
    for case in [*ranked[middle:], *reversed(ranked[:middle])]:
        example = AlignedSlice.of(case, _size(case))
        try:
            example.relations()
        except DataError as error:
            refused = error
        else:
            return example
    raise refused


def _size(case: Case) -> str:
    return f"{case.lesion_ml:.0f} mL" if case.lesion_ml >= 10 else f"{case.lesion_ml:.1f} mL"


def sampled_slices(study: Study, count: int = 2) -> list[SampledSlice]:
    """The slices of Fig. 4: the first of a stream that gave samples of both labels, each of another validation scan.

    Args:
        study: Its aligned validation scans, sampled as in training, without augmentation.
        count: Slices, at most.

    Raises:
        DataError: No slice gave both.
    """
    recipe, cases = study.recipe(KNOWLEDGE), study.cases(True)[1]
    sampler = region_stream(recipe, recipe_slices(cases, recipe), recipe.samples, study.settings.seed)
    shown: dict[int, SampledSlice] = {}
    for number in range(LOOKED_AT):
        scan = int(sampler.slices.case[sampler.row_of(number * recipe.samples)])
        if len(shown) == count:
            break
        if scan in shown or not cases[scan].lesion.any():
            continue
        one = SampledSlice.of(sampler, number, f"infarct of {_size(cases[scan])}")
        positive = sum(region.label for region in one.regions)
        if min(positive, len(one.regions) - positive) >= OF_EACH:
            shown[scan] = one
    if not shown:
        found, wanted = f"none of {LOOKED_AT} slices", f"{OF_EACH} samples of each label on one"
        raise DataError("slices to show", found=found, wanted=wanted, next_step="give scans with infarcts")
    return list(shown.values())


def window_purity(
    study: Study, windows_hu: Sequence[tuple[float, float]], samples: int = 4096
) -> dict[str, dict[int, Purity]]:
    """What the labels of stage 1 mean on embedded training heads, by window in HU: the same samples in each.

    Args:
        study: Where it is one of a user's scans, embedded heads of the same cohort take their place.
        windows_hu: Lower and upper end of each.
        samples: How many are looked at.

    Returns:
        Name of a window -> number of a head -> purity.
    """
    known = study if study.settings.data is None else load_study(replace(study.settings, data=None))
    recipe, found = known.recipe(KNOWLEDGE), {}
    for low, high in windows_hu:
        slices = recipe_slices(known.cases(True)[0], replace(recipe, window_hu=(low, high)), truth=True)
        sampler = region_stream(recipe, slices, recipe.batch, known.settings.seed)
        found[f"[{low:g}, {high:g}] HU"] = purity_by_head(sampler, samples)
    return found


@dataclass(frozen=True)
class HeldOut:
    """Samples of the test heads, the same ones for each encoder of one sampling.

    Args:
        samples: As the validation draws them.
        head: (n,) int64, number of the head that each is of.
        cases: The heads.
    """

    samples: RegionBatch
    head: np.ndarray
    cases: Sequence[Case]

    @classmethod
    def of(cls, study: Study, recipe: KnowledgeRecipe) -> HeldOut:
        """Of a study's test heads, aligned as the recipe has them."""
        cases = study.cases(recipe.aligned)[2]
        samples = held_out_regions(recipe, cases)
        return cls(samples, recipe_slices(cases, recipe).case[samples.rows].numpy(), cases)

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) int64, 1 or 0."""
        return self.samples.labels.numpy()

    @property
    def chance(self) -> np.ndarray:
        """(n,) float64: share of the other heads' samples that have the same label; NaN where there is none."""
        other = self.head[:, None] != self.head
        same = (self.labels[:, None] == self.labels) & other
        return np.where(other.any(axis=1), same.sum(axis=1) / np.maximum(other.sum(axis=1), 1), np.nan)

    def right(self, distance: np.ndarray) -> np.ndarray:
        """Whether the nearest sample of another head has the same label; NaN where there is no other head.

        Args:
            distance: (n, n).

        Returns:
            (n,) float64: 1, 0 or NaN.
        """
        apart = np.where(self.head[:, None] == self.head, np.inf, distance)
        right = (self.labels[apart.argmin(axis=1)] == self.labels).astype(float)
        return np.where(np.isfinite(apart).any(axis=1), right, np.nan)

    def window_distance(self) -> np.ndarray:
        """(n, n) in pixels: how far two windows lie apart, corner from corner, mirrored or not; no image is looked at.

        What the encoder gets is a window with its mirror window, so that both sides count the same.
        """
        boxes, width = self.samples.boxes.numpy().astype(float), self.samples.images.shape[-1]
        mirrored = boxes.copy()
        mirrored[:, 2], mirrored[:, 3] = width - boxes[:, 3], width - boxes[:, 2]
        return np.minimum(*(np.linalg.norm(boxes[:, None] - other, axis=2) for other in (boxes, mirrored)))

    def divergence(self, model: PAPL, batch: int = 64) -> np.ndarray:
        """(n,) in nats: how unlike the two sides of each sample are to an encoder, in the recommended form."""
        device = model_device(model)
        with evaluating(model), torch.inference_mode():
            maps = [model.embed(part.to(device))[1] for part in self.samples.images.split(batch)]
            found = [bilateral_divergence(*bilateral_halves(part)).cpu() for part in maps]
        return torch.cat(found).numpy().astype(float)

    def scores(self, name: str, right: np.ndarray, divergence: np.ndarray | None = None) -> pd.DataFrame:
        """Means over each head's samples, columns method, case, metric, value; NaN where a head has none of a kind.

        Args:
            name: What is scored.
            right: From :meth:`right`.
            divergence: From :meth:`divergence`; left out where there is no encoder.
        """
        import pandas as pd

        positive = self.labels == 1
        values = {NEIGHBOUR: right, POSITIVES: np.where(positive, right, np.nan)}
        if divergence is not None:
            values |= {KL_POSITIVE: np.where(positive, divergence, np.nan)}
            values |= {KL_NEGATIVE: np.where(positive, np.nan, divergence)}
        ids = [self.cases[number].id for number in self.head]
        means = pd.DataFrame({"case": ids, **values}).groupby("case").mean().reset_index()
        return means.melt("case", var_name="metric").assign(method=name)[["method", "case", "metric", "value"]]


def embedded_samples(study: Study, trained: Trained) -> list[EmbeddedSamples]:
    """A row of Fig. 8: the test heads' samples as a training of stage 1 embeds them, each time its weights were kept.

    Args:
        study: Its test heads.
        trained: Of stage 1, with snapshots.

    Raises:
        DataError: As :meth:`strokelib.papl.embedding_figures.EmbeddedSamples.of`.
    """
    recipe, panels = trained.recipe, []
    held_out = HeldOut.of(study, recipe)
    for step in snapshot_steps(recipe.snapshots, recipe.steps):
        vectors = embeddings(read_snapshot(build(recipe), trained.folder, step), held_out.samples.images)
        title = f"step {step} of {recipe.steps}" if step else "start"
        panels.append(EmbeddedSamples.of(vectors, held_out.labels == 1, title, seed=study.settings.seed))
    return panels


def neighbour_scores(study: Study, trainings: Mapping[str, Trained]) -> pd.DataFrame:
    """What each encoder knows of samples from heads that it has not seen, and what can be known without one.

    Is the nearest sample of another head one of the same label? The rows of :data:`UNTRAINED` come first: any sample
    of another head, the one whose window is nearest in place and size, and the encoder that all trainings begin with.

    Args:
        study: Its test heads.
        trainings: Row -> a training of stage 1, all with one sampling, the first with a snapshot of its start.

    Returns:
        Columns method, case, metric, value; metrics of :data:`METRICS`, means over a head's samples.

    Raises:
        DataError: There is no training.
    """
    import pandas as pd

    if not trainings:
        raise DataError("trainings of stage 1", found="none", wanted="one or more", next_step="train one")
    first = next(iter(trainings.values()))
    held_out = HeldOut.of(study, first.recipe)
    models = {START: read_snapshot(build(first.recipe), first.folder, 0)}
    models |= {name: trained.model for name, trained in trainings.items()}
    parts = [held_out.scores(CHANCE, held_out.chance)]
    parts.append(held_out.scores(WINDOW, held_out.right(held_out.window_distance())))
    for name, model in models.items():
        # In float64: before training embeddings are alike to six digits, and float32 would leave who is near to chance.
        vectors = embeddings(model, held_out.samples.images).astype(np.float64)
        right = held_out.right(cdist(vectors, vectors, "cosine"))
        parts.append(held_out.scores(name, right, held_out.divergence(model)))
    return pd.concat(parts, ignore_index=True)


def statuses(scores: pd.DataFrame, trainings: Mapping[str, Trained], seed: int = 0) -> dict[str, str]:
    """Row -> status: a training whose neighbours are no better than those of the best untrained row did not learn.

    Args:
        scores: From :func:`neighbour_scores`.
        trainings: Row -> training.
        seed: Of the resamples.
    """
    wide = scores[scores["metric"] == NEIGHBOUR].pivot(index="case", columns="method", values="value")
    best = max(UNTRAINED, key=lambda name: wide[name].mean())
    found = dict.fromkeys(UNTRAINED, "done")
    for name, trained in trainings.items():
        found[name] = status(trained, paired_bootstrap_ci(wide[name], wide[best], seed=seed))
    return found


def table_neighbours(scores: pd.DataFrame, said: Mapping[str, str], settings: Settings, proposed: str) -> pd.DataFrame:
    """The scores as a table, compared with the row that the paper proposes.

    Args:
        scores: From :func:`neighbour_scores`.
        said: Row -> status.
        settings: Of what is shown (``run.shown``).
        proposed: A row.

    Returns:
        Columns of :mod:`strokelib.comparing`, means over heads.
    """
    import pandas as pd

    scored = scores[["method", "metric"]].drop_duplicates()
    cells = scored.assign(unit=scored["metric"].map(METRICS), published_cell=comparing.NO_PUBLISHED)
    metrics = {name: (name, 1.0) for name in METRICS}
    return comparing.compared(pd.DataFrame(cells), metrics, scores, said, settings, proposed=proposed)
