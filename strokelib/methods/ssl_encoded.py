"""Held-out heads through the encoders of a pre-training of Seia et al. 2023, trained and untrained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from strokelib.data.volumes import Volumes
from strokelib.errors import ParameterError
from strokelib.infer import model_device
from strokelib.methods.ssl_nnunet import PAPER, Study
from strokelib.methods.ssl_sets import Joined, is_stroke
from strokelib.methods.training import Trained
from strokelib.recipe import Recipe, stated
from strokelib.repro import seed_everything
from strokelib.ssl_nnunet import pretraining
from strokelib.ssl_nnunet.fingerprint import Intensities
from strokelib.ssl_nnunet.neighbour_grids import DIFFERENCE, NCCT, Channel, Neighbour
from strokelib.ssl_nnunet.representations import (
    NEIGHBOURS,
    POINTS,
    Attribution,
    attributions,
    distances,
    neighbours,
    project,
    region_of,
    representative_points,
    scale,
    vectors_of,
)

DATA_SET, STROKE, ANATOMY = "data set", "stroke", "anatomy"
TRAINED, UNTRAINED = "pre-trained", "untrained"
BASELINES = ("background", "mean")
SEEN = f"{PAPER}, Sec. 3.4.3"


@dataclass(frozen=True)
class PictureRecipe(Recipe):
    """How the representations of a study are made and looked at."""

    region: str = stated("slab", source="S35: the central slab; 'box', the public code's way, is the whole brain")
    baseline: str = stated(
        "background", source="S35: the value outside the brain; 'mean', the public code's, is the mean of all brains"
    )
    steps: int = stated(
        50, demo=20, smoke=4, source="S35, and in the public code; fewer where a minute is all there is"
    )
    perplexity: float = stated(30.0, source=f"assumed, the usual one; {SEEN} does not say")
    permutations: int = stated(999, demo=499, smoke=49, source="ours: shuffles of the labels")
    mirrored: int = stated(
        10_000, demo=16, source="ours: heads of each part of a data set with two channels; a mirror takes its time"
    )


@dataclass(frozen=True)
class Encoded:
    """Held-out heads, and what the teacher's encoder of a pre-training makes of them, before it and after.

    Args:
        name: Of the pre-training.
        trained: The pre-training.
        recipe: How heads are represented.
        heads: Validation and test scans of all data sets of the study, as the encoder sees them.
        labels: ``data set``, ``stroke`` and, of embedded heads, ``anatomy`` -> the class of each head.
        encoders: ``pre-trained``, and ``untrained``: the weights that this pre-training started from.
        intensities: Of each channel, as it was normalised.
    """

    name: str
    trained: Trained
    recipe: PictureRecipe
    heads: Volumes
    labels: Mapping[str, np.ndarray]
    encoders: Mapping[str, nn.Module]
    intensities: tuple[Intensities, ...]
    _maps: dict[tuple[int, str, str], Attribution] = field(default_factory=dict, repr=False)

    @property
    def status(self) -> str:
        """``undertrained`` where RankMe still rose at the end, otherwise ``1 seed``."""
        return "undertrained" if self.trained.undertrained else "1 seed"

    @property
    def title(self) -> str:
        """Name of the pre-training, and how many channels where there are more than one."""
        count = len(self.intensities)
        return self.name if count == 1 else f"{self.name}, {count} channels"

    @property
    def inputs(self) -> dict[str, str]:
        """Title -> folder of the pre-training."""
        return {self.title: self.trained.folder.name}

    @property
    def classes(self) -> dict[str, np.ndarray]:
        """The labels that tell any heads apart, without those that tell all of them apart."""
        return {name: of for name, of in self.labels.items() if 1 < len(np.unique(of)) < len(of)}

    def region(self, head: Any) -> Tensor:
        """The part of a head that is represented, as deep as a view."""
        return region_of(head, self.recipe.region, self.trained.recipe.view[0])

    def masks(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Brain and lesion of this part, (D, H, W) bool."""
        head = self.heads[index]
        both = SimpleNamespace(images=torch.stack([head.brain, head.lesions > 0]).float(), fill=torch.zeros(2))
        return tuple(self.region(both).numpy() > 0.5)

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """``pre-trained`` and ``untrained`` -> one vector a head, (n, F)."""
        rows: dict[str, list[np.ndarray]] = {name: [] for name in self.encoders}
        with torch.no_grad():
            for head in self.heads:
                part = self.region(head)[None]
                for name, encoder in self.encoders.items():
                    rows[name].append(vectors_of(encoder, part.to(model_device(encoder)))[0].cpu().numpy())
        return {name: np.stack(found) for name, found in rows.items()}

    @cached_property
    def projection(self) -> np.ndarray:
        """t-SNE of the pre-trained encoder's vectors, (n, 2)."""
        return project(self.vectors[TRAINED], seed=self.trained.seed, perplexity=self.recipe.perplexity)

    @cached_property
    def points(self) -> list[int]:
        """The representative heads."""
        places = self.projection
        count = min(POINTS, len(np.unique(places, axis=0)))
        return representative_points(places, count, seed=self.trained.seed).tolist()

    @cached_property
    def shown(self) -> list[list[int]]:
        """For each representative head the others whose vectors lie nearest."""
        return neighbours(self.vectors[TRAINED], min(NEIGHBOURS, len(self.heads) - 1))[self.points].tolist()

    def silhouettes(self, encoder: str, label: str) -> np.ndarray:
        """Of each head, among the vectors of an encoder."""
        from sklearn.metrics import silhouette_samples

        away = distances(scale(self.vectors[encoder]))
        return silhouette_samples(away, self.classes[label], metric="precomputed")

    def attributed(self, index: int, encoder: str = TRAINED, baseline: str = "") -> Attribution:
        """Integrated gradients of a head, computed once.

        Args:
            index: Number of the head.
            encoder: ``pre-trained`` or ``untrained``.
            baseline: ``background``, the value outside the brain, or ``mean``, 0 after normalisation; the recipe's by
                default.

        Raises:
            ParameterError: Another baseline.
        """
        baseline = baseline or self.recipe.baseline
        if baseline not in BASELINES:
            wanted = " or ".join(BASELINES)
            raise ParameterError("baseline", found=repr(baseline), wanted=wanted, next_step="give one of these")
        if (index, encoder, baseline) not in self._maps:
            head = self.heads[index]
            start = head.fill if baseline == "background" else 0.0
            found = attributions(self.encoders[encoder], self.region(head), start, steps=self.recipe.steps)
            self._maps[index, encoder, baseline] = found
        return self._maps[index, encoder, baseline]

    def neighbour(self, index: int) -> Neighbour:
        """The middle slice of the part of a head that is represented, in HU, with its attributions."""
        head, (brain, _) = self.heads[index], self.masks(index)
        part, middle = self.region(head), len(brain) // 2
        hu = [seen * one.std + one.mean for seen, one in zip(part[:, middle].numpy(), self.intensities, strict=True)]
        return Neighbour(
            images=np.stack(hu),
            attributions=self.attributed(index).values[:, middle],
            brain=brain[middle],
            spacing_yx=head.spacing[1:],
            data_set=str(self.labels[DATA_SET][index]),
            stroke=bool(self.labels[STROKE][index]),
        )

    @property
    def looks(self) -> tuple[Channel, ...]:
        """Grey scales of the channels: from clip to clip, of a difference the same on both sides of 0."""
        ct, *others = [(one.percentile_00_5, one.percentile_99_5) for one in self.intensities]
        ends = [float(np.ceil(max(map(abs, both)))) for both in others]
        found = [replace(NCCT, limits=(float(np.floor(ct[0])), float(np.ceil(ct[1]))))]
        return (*found, *(replace(DIFFERENCE, limits=(-end, end)) for end in ends))


def encoded(study: Study, name: str, channels: int = 1, **changes: Any) -> Encoded:
    """Validation and test scans of all data sets of a study through the encoder of a pre-training.

    Args:
        study: Its scans; the pre-training has seen none of these.
        name: Of the pre-training, such as ``ALL-SA``.
        channels: 2 with the difference image.
        changes: Values of :class:`PictureRecipe` that differ from the profile's.

    Raises:
        DataError: As :func:`strokelib.ssl_nnunet.heads.heads_of`.
    """
    trained, setup = study.pretrained(name, channels), study.setup(channels)
    recipe = PictureRecipe.at(study.profile, **changes)
    parts = [splits[part] for splits in study.parts.values() for part in ("val", "test") if part in splits]
    cases = Joined(tuple(part[: recipe.mirrored] if channels > 1 else part for part in parts))
    facts = [(case.cohort, is_stroke(case), case.facts.get("anatomy")) for case in cases]
    sets, stroke, anatomy = (np.array(column) for column in zip(*facts, strict=True))
    labels = {DATA_SET: sets, STROKE: stroke}
    if all(fact[2] is not None for fact in facts):
        labels[ANATOMY] = anatomy
    seen = study.mirrored(cases) if channels > 1 else cases
    seed_everything(trained.seed)  # as train_method does before it builds a network
    start = pretraining.build(trained.recipe, setup)
    encoders = {TRAINED: pretraining.encoder_of(trained.model), UNTRAINED: pretraining.encoder_of(start)}
    device = model_device(trained.model)
    return Encoded(
        name,
        trained,
        recipe,
        setup.heads(trained.recipe, seen, unlabelled=True),
        labels,
        {key: encoder.to(device).eval() for key, encoder in encoders.items()},
        setup.normalisation.channels,
    )
