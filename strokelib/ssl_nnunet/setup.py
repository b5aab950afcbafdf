"""What all trainings of a study share: the plan of the network, and the normalisation of the scans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from strokelib.data.cases import Case
from strokelib.errors import ParameterError
from strokelib.options import chosen
from strokelib.ssl_nnunet.fingerprint import Fingerprint, Normalisation, fingerprint
from strokelib.ssl_nnunet.heads import heads_of
from strokelib.ssl_nnunet.planning import Plan, median_shape, plan, published_plan, topology, widths
from strokelib.ssl_nnunet.recipe import PlanRecipe
from strokelib.ssl_nnunet.volumes import Each, at_spacing

VERSION = 1
PLANS = ("printed", "planned")
PLANNED_BATCH = 2


@dataclass(frozen=True)
class Setup:
    """Plan and normalisation, from the scans of the whole pre-training set.

    Source: Sec. 3.3, Seia et al. 2023.
    Deviation: one plan for pre-training and fine-tuning, so that the encoder's weights fit; the paper plans twice.

    Args:
        plan: Of patches and network.
        normalisation: Of the CT and, with two channels, the difference image.
    """

    plan: Plan
    normalisation: Normalisation

    @property
    def key(self) -> str:
        """Ten hexadecimal digits, for the cache."""
        text = json.dumps([asdict(self.plan), asdict(self.normalisation)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def network(self) -> dict[str, Any]:
        """What encoder and network are built with, beside their channels."""
        names = ("features", "strides", "kernels", "convs")
        return {name: getattr(self.plan, name) for name in names}

    def heads(self, recipe: PlanRecipe, cases: Sequence[Case], **how: Any):
        """The cases as the networks see them; ``how`` as in :func:`strokelib.ssl_nnunet.heads.heads_of`."""
        same = {"spacing_mm": recipe.spacing_mm, "difference": recipe.channels == 2, "cache_mib": recipe.cache_mib}
        return heads_of(cases, self.normalisation, **same, **how)


def setup_of(cases: Sequence[Case], recipe: PlanRecipe, *, seed: int = 0) -> Setup:
    """Fingerprint the scans and plan for them.

    A recipe with a ``patch`` takes this one, and the stages that nnU-Net's rules give for it.

    Args:
        cases: Training scans of the pre-training set; with contralateral images where the recipe has two channels.
        recipe: Voxel size, memory, widths; ``plan="printed"`` takes the published plan, which has voxels of 1 mm.
        seed: Of the voxels that are drawn.

    Raises:
        ParameterError: Another kind of plan, or voxels that are not those of the printed one.
        DataError: As :func:`strokelib.ssl_nnunet.fingerprint.fingerprint`.
    """
    chosen("plan", recipe.plan, PLANS)
    printed = published_plan()
    if recipe.plan == "printed" and tuple(recipe.spacing_mm) != printed.spacing_mm:
        wanted, step = f"{printed.spacing_mm} mm, as printed", "take these voxels, or plan='planned'"
        raise ParameterError("spacing_mm", found=recipe.spacing_mm, wanted=wanted, next_step=step)
    found = fingerprint(Each(cases, lambda case: at_spacing(case, recipe.spacing_mm)), recipe.channels, seed)
    if recipe.plan == "printed":
        return Setup(printed, Normalisation.of(found))
    if recipe.patch is not None:
        return Setup(plan_of_patch(found, recipe), Normalisation.of(found))
    sizes = {"memory_gib": recipe.memory_gib, "base": recipe.base, "max_features": recipe.max_features}
    return Setup(plan(found, **sizes, target_spacing=recipe.spacing_mm), Normalisation.of(found))


def plan_of_patch(found: Fingerprint, recipe: PlanRecipe) -> Plan:
    """The plan for a patch that is given instead of planned."""
    made = topology(recipe.spacing_mm, recipe.patch)
    features = widths(made, recipe.base, recipe.max_features)
    median = median_shape(found, recipe.spacing_mm)
    return Plan(recipe.spacing_mm, median, made.patch, PLANNED_BATCH, features, made.strides, made.kernels)
