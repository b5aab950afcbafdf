"""Which trainings ``published_sizes.py`` measures, and on which embedded heads.

Wang et al. 2020: width 64, whole slices of 256 x 256 in batches of 5, RMSprop 0.002, x 0.2 after 60 % of the steps,
Xavier's start, all weights of the losses.

Ni et al. 2022: T, and ADN (D and F together), of width 32 on whole heads of 40 slices. On a machine of 24 GB without a
GPU T sees 2 heads at a time in place of 40, and ADN 1 in place of 6. ADN's few steps all lie in D's warm start,
where Eq. 5 is computed but not descended. Poses are the identity and tissue labels the true ones: a step costs the same
whatever these hold.

Seia et al. 2023: the encoder's pre-training, six heads of 65,536 outputs, on pairs of views of 16 x 112 x 112; and
nnU-Net's fine-tuning on patches of 96 x 160 x 160, SGD. On such a machine the first sees 4 pairs in place of 64, the
second 1 patch in place of 2, and neither has the contralateral images that the atlas makes. The printed plan, and
intensities that are near those of the embedded heads: a step costs the same whatever these hold.

Sun et al. 2024: stage 1, a U-Net's encoder on samples of 256 x 256 with an embedding of 128, and stages 2 and 3
together with the weights of Table VIII, on triplets of such slices, of which the middle one is decoded. On such a
machine stage 1 sees 32 samples in place of 256, stages 2 and 3 see 4 triplets in place of 32. Heads are aligned by
their known planes, and stages 2 and 3 start from a fresh encoder: a step costs the same whatever these hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from strokelib.adn import alignment
from strokelib.adn import segmentation as disentangling
from strokelib.adn.batches import with_matrices, with_tissue
from strokelib.adn.poses import identity_matrices
from strokelib.adn.recipe import AdnRecipe, AlignmentRecipe
from strokelib.adn.volumes import pooled_grid
from strokelib.data.cases import Case
from strokelib.data.ctp import load_ctp_parts
from strokelib.data.inplane import known_line
from strokelib.data.phantom.cohorts import CaseFiles
from strokelib.data.scans import load_parts
from strokelib.data.tissue import tissue_maps_from
from strokelib.papl import knowledge_fitting, segmentation_fitting
from strokelib.papl.recipe import KnowledgeRecipe
from strokelib.papl.recipe import SegmentationRecipe as FormalRecipe
from strokelib.papl.rows import BETAS
from strokelib.papl.slices import align_with_truth
from strokelib.pseudo_dwi import chain, segmentation, synthesis
from strokelib.pseudo_dwi.recipe import ChainRecipe, InputRecipe, SegmentationRecipe, SynthesisRecipe
from strokelib.pseudo_dwi.sampling import network_inputs
from strokelib.recipe import Recipe
from strokelib.ssl_nnunet import finetuning, pretraining
from strokelib.ssl_nnunet.fingerprint import Intensities, Normalisation
from strokelib.ssl_nnunet.planning import published_plan
from strokelib.ssl_nnunet.recipe import FinetuningRecipe, PretrainingRecipe
from strokelib.ssl_nnunet.setup import Setup
from strokelib.train import History


@dataclass(frozen=True)
class Training:
    """One training of a paper.

    Args:
        cohort: Of the embedded heads.
        recipe: Its hyper-parameters.
        build: Recipe -> network.
        fit: As the paper's package has it.
        load: Settings and counts -> rendered cases.
        inputs: Rendered cases -> what ``fit`` takes.
        shown: Case and recipe -> the shape that the network sees.
        row: Recipe values of the row that is measured, where the recipe's own are those of another one.
        called: Of a network, the part that a forward pass of the training calls once, and calls as a module.
        val: What the recipe takes to validate on, where less than the published will do.
        fits: Published values that a machine of 24 GB without GPU has no room or time for -> what fits.
    """

    cohort: str
    recipe: type[Recipe]
    build: Callable[[Any], nn.Module]
    fit: Callable[..., History]
    load: Callable[..., tuple[CaseFiles, ...]]
    inputs: Callable[[Sequence[Case]], list[Case]]
    shown: Callable[[Case, Any], tuple[int, ...]]
    row: Mapping[str, Any] = field(default_factory=dict)
    called: Callable[[nn.Module], nn.Module] = lambda model: model
    val: Mapping[str, Any] = field(default_factory=dict)
    fits: Mapping[str, Any] = field(default_factory=dict)


def _perfusion(cases: Sequence[Case]) -> list[Case]:
    how = dataclasses.asdict(InputRecipe.at("paper"))
    return [network_inputs(case, **how) for case in cases]


def _posed(cases: Sequence[Case]) -> list[Case]:
    cases = list(cases)
    labels = {case.id: tissue_maps_from("truth", case).labels() for case in cases}
    return with_tissue(with_matrices(cases, identity_matrices(cases)), labels)


def _aligned(cases: Sequence[Case]) -> list[Case]:
    return [align_with_truth(case, known_line(case)).case for case in cases]


def _volume(case: Case, recipe: AdnRecipe | AlignmentRecipe) -> tuple[int, ...]:
    return pooled_grid(case, recipe.pool).shape


BRAIN = Intensities(mean=29.0, median=31.0, std=8.0, min=-40.0, max=130.0, percentile_00_5=0.0, percentile_99_5=42.0)
SETUP = Setup(published_plan(), Normalisation((BRAIN,)))


PERFUSION = {
    "cohort": "isles2018",
    "load": load_ctp_parts,
    "inputs": _perfusion,
    "shown": lambda case, recipe: case.image.array.shape[1:],
    "val": {"val_slices": 5},
}
HEADS = {"cohort": "aisd", "load": load_parts, "shown": _volume}
SLICES = {"cohort": "aisd", "load": load_parts, "inputs": _aligned}
CUBES = {"cohort": "icoais", "load": load_parts, "inputs": list}
TRAININGS = {
    "chain": Training(recipe=ChainRecipe, build=chain.build, fit=chain.fit, **PERFUSION),
    "synthesis": Training(recipe=SynthesisRecipe, build=synthesis.build, fit=synthesis.fit, **PERFUSION),
    "segmentation": Training(recipe=SegmentationRecipe, build=segmentation.build, fit=segmentation.fit, **PERFUSION),
    "T": Training(
        recipe=AlignmentRecipe,
        build=alignment.build,
        fit=alignment.fit,
        inputs=list,
        fits={"batch": 2},
        **HEADS,
    ),
    "ADN": Training(
        recipe=AdnRecipe,
        build=disentangling.build_adn,
        fit=disentangling.fit,
        inputs=_posed,
        fits={"batch": 1},
        **HEADS,
    ),
    "pretraining": Training(
        recipe=PretrainingRecipe,
        build=partial(pretraining.build, setup=SETUP),
        fit=partial(pretraining.fit, setup=SETUP),
        shown=lambda case, recipe: recipe.view,
        val={"val_batches": 1},
        fits={"batch": 4},
        **CUBES,
    ),
    "finetuning": Training(
        recipe=FinetuningRecipe,
        build=partial(finetuning.build, setup=SETUP),
        fit=partial(finetuning.fit, setup=SETUP),
        shown=lambda case, recipe: SETUP.plan.patch,
        val={"val_patches": 1},
        fits={"batch": 1},
        **CUBES,
    ),
    "knowledge": Training(
        recipe=KnowledgeRecipe,
        build=knowledge_fitting.build,
        fit=knowledge_fitting.fit,
        shown=lambda case, recipe: case.image.array.shape[1:],
        called=lambda model: model.head,
        val={"val_samples": 8},
        fits={"batch": 32},
        **SLICES,
    ),
    "formal": Training(
        recipe=FormalRecipe,
        build=segmentation_fitting.build,
        fit=segmentation_fitting.fit,
        shown=lambda case, recipe: (3, *case.image.array.shape[1:]),
        row=dict(zip(("beta1", "beta2", "beta3"), BETAS, strict=True)),
        val={"val_slices": 5},
        fits={"batch": 4},
        **SLICES,
    ),
}
