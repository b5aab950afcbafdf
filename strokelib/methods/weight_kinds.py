"""How the networks of each method work together when they predict: what has to happen before and after the last one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from strokelib.adn import alignment
from strokelib.adn.batches import with_matrices
from strokelib.adn.volumes import with_slices
from strokelib.data.cases import Case
from strokelib.data.inplane import align_case
from strokelib.errors import DataError
from strokelib.methods import adn, papl, pseudo_dwi, ssl_nnunet
from strokelib.methods.method import Method
from strokelib.methods.midline import MIDLINE, find_line
from strokelib.methods.unet import UNET
from strokelib.pseudo_dwi.sampling import MAPS, network_inputs
from strokelib.recipe import Recipe
from strokelib.ssl_nnunet.fingerprint import Intensities, Normalisation
from strokelib.ssl_nnunet.planning import Plan
from strokelib.ssl_nnunet.setup import Setup

Back = Callable[[np.ndarray], np.ndarray]
CT, PERFUSION = "ct", "perfusion"
UNALIGNED, ALIGNED = "unaligned", "aligned"
PROPOSED, END_TO_END = "PAPL", "DWI^{o,l,h}"  # of Table II of papl and of Table 5 of pseudo_dwi


@dataclass(frozen=True)
class Part:
    """One network of a method.

    Args:
        method: What it is.
        recipe: What it was trained with.
        model: With its weights, in eval mode.
    """

    method: Method
    recipe: Recipe
    model: nn.Module


Parts = Mapping[str, Part]
# (parts, facts, case) -> what the last network takes, and the way of its answer back to the case's grid.
See = Callable[[Parts, Mapping[str, Any], Case], tuple[Case, Back]]


@dataclass(frozen=True)
class Kind:
    """A method as far as its demo weights are concerned.

    Args:
        key: Short name in files.
        title: Name in figures and tables.
        paper: Where the method comes from.
        row: The row of the paper's tables that is trained.
        cohort: The cohort that it is trained on.
        needs: ``ct`` or ``perfusion``.
        networks: Name -> method, in the order in which they are used; the last one segments.
        see: What happens before the last network, and after it.
        left_out: Network -> beginnings of the names of tensors that prediction does not need.
    """

    key: str
    title: str
    paper: str
    row: str
    cohort: str
    needs: str
    networks: dict[str, Method]
    see: See
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def unused(self, name: str) -> tuple[str, ...]:
        """Beginnings of the names of tensors of a network that prediction does not need."""
        return self.left_out.get(name, ())

    def method(self, name: str, said: Mapping[str, Any]) -> Method:
        """The method of a network; of nnU-Net with the plan and normalisation that stand in its facts."""
        method = self.networks[name]
        return method.given(setup=setup_from(said["setup"])) if "setup" in said else method


def setup_from(said: Mapping[str, Any]) -> Setup:
    """A :class:`Setup` from its ``dataclasses.asdict``, as JSON has it: lists stand for tuples."""
    triples = ("strides", "kernels")
    plan = {k: tuple(v) if isinstance(v, list) else v for k, v in said["plan"].items()}
    plan |= {name: tuple(map(tuple, plan[name])) for name in triples}
    channels = tuple(Intensities(**one) for one in said["normalisation"]["channels"])
    return Setup(Plan(**plan), Normalisation(channels))


def _with_brain(case: Case) -> Case:
    if case.brain is None or not case.brain.any():
        step = "prepare the scan first: `strokelib prepare FOLDER`"
        raise DataError(f"case {case.id}", found="no brain mask", wanted="one", next_step=step)
    return case


def _as_it_lies(parts: Parts, facts: Mapping[str, Any], case: Case) -> tuple[Case, Back]:
    return _with_brain(case), lambda found: found


def _in_plane(parts: Parts, facts: Mapping[str, Any], case: Case) -> tuple[Case, Back]:
    """Aligned by the midline network, slice by slice the same way."""
    line = parts[MIDLINE.key]
    moved = align_case(_with_brain(case), find_line(line.model, line.recipe, case))
    return moved.case, moved.restore


def _with_pose(parts: Parts, facts: Mapping[str, Any], case: Case) -> tuple[Case, Back]:
    """As high as the heads of the training, and with T's map."""
    own, height = len(_with_brain(case).image.array), facts["slices"]
    taller = with_slices(case, max(own, height))
    first = (len(taller.image.array) - own) // 2
    transformer, network = parts[adn.ALIGNMENT.key], parts[adn.ADN.key]
    found = alignment.find_matrix(transformer.model, transformer.recipe, taller, network.recipe.pool)
    (posed,) = with_matrices([taller], {case.id: found})
    return posed, lambda volume: volume[first : first + own]


def _with_inputs(parts: Parts, facts: Mapping[str, Any], case: Case) -> tuple[Case, Back]:
    """With maps, temporal maximum and frames, scaled."""
    wanted = (*MAPS, "series")
    if lacking := [name for name in wanted if name not in case.channels]:
        step = "give a CT perfusion scan with its maps and its series, in the layout isles2018 (docs/data.md)"
        found = f"no {', '.join(lacking)}"
        raise DataError(f"case {case.id}", found=found, wanted="CT perfusion: " + ", ".join(wanted), next_step=step)
    return network_inputs(_with_brain(case), **facts["inputs"]), lambda found: found


KINDS: dict[str, Kind] = {
    kind.key: kind
    for kind in (
        Kind(
            key="papl",
            title="PAPL",
            paper=papl.PAPER,
            row=PROPOSED,
            cohort="aisd",
            needs=CT,
            networks={MIDLINE.key: MIDLINE, papl.SEGMENTATION.key: papl.SEGMENTATION},
            see=_in_plane,
        ),
        Kind(
            key="adn",
            title="ADN",
            paper=adn.PAPER,
            row=adn.PROPOSED,
            cohort="aisd",
            needs=CT,
            networks={adn.ALIGNMENT.key: adn.ALIGNMENT, adn.ADN.key: adn.ADN},
            see=_with_pose,
        ),
        Kind(
            key="ssl_nnunet",
            title="self-supervised nnU-Net",
            paper=ssl_nnunet.PAPER,
            row=ssl_nnunet.PROPOSED,
            cohort=ssl_nnunet.TARGET,
            needs=CT,
            networks={ssl_nnunet.FINETUNING.key: ssl_nnunet.FINETUNING},
            see=_as_it_lies,
        ),
        Kind(
            key="pseudo_dwi",
            title="pseudo-DWI and SLNet",
            paper=pseudo_dwi.PAPER,
            row=END_TO_END,
            cohort="isles2018",
            needs=PERFUSION,
            networks={pseudo_dwi.CHAIN.key: pseudo_dwi.CHAIN},
            see=_with_inputs,
            left_out={pseudo_dwi.CHAIN.key: ("context.",)},
        ),
        Kind(
            key="unet",
            title="U-Net",
            paper=UNET.paper,
            row=UNALIGNED,
            cohort="aisd",
            needs=CT,
            networks={UNET.key: UNET},
            see=_as_it_lies,
        ),
    )
}
