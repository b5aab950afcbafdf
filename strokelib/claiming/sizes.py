"""How small the trainings of the claims are.

The size is that of the demo profile, alike for both rows of every claim: one training takes 10 to 90 s on one core.
Half the steps were tried with one seed and dropped: ADN then found nothing (Dice 0.000), the 3D ResUNet next to nothing
(0.015). What a claim is found to be at this size holds at this size. A training of the demo with the same seed is taken
from ``runs/models``, not made again; all claims with three seeds take some 50 minutes of one core besides. A row of
the self-supervised paper is one training, not a majority vote of three.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from strokelib.methods import adn, papl, pseudo_dwi, ssl_nnunet
from strokelib.methods.method import Method
from strokelib.recipe import Recipe
from strokelib.settings import Profile

SIZE = "demo"
PROFILE = Profile.DEMO
Changes = Mapping[type[Recipe], Mapping[str, Any]]
# Paper -> recipe -> what differs from the demo profile.
SIZES: dict[str, Changes] = {"papl": {}, "adn": {}, "ssl_nnunet": {}, "pseudo_dwi": {}}
METHODS: dict[str, tuple[Method, ...]] = {
    "papl": (papl.KNOWLEDGE, papl.SEGMENTATION),
    "adn": (adn.ALIGNMENT, adn.VOLUME, adn.ADN, adn.SEAN),
    "ssl_nnunet": (ssl_nnunet.PRETRAINING, ssl_nnunet.FINETUNING),
    "pseudo_dwi": (pseudo_dwi.SYNTHESIS, pseudo_dwi.JUDGE, pseudo_dwi.SEGMENTATION, pseudo_dwi.CHAIN),
}


def recipes(paper: str, sizes: Changes | None = None, profile: Profile = PROFILE) -> dict[str, Recipe]:
    """Method -> the recipe that its trainings start from, before what a row changes.

    Args:
        paper: Its key.
        sizes: What differs from the profile; by default :data:`SIZES` of the paper.
        profile: From which the size is taken.
    """
    given = SIZES[paper] if sizes is None else sizes
    if paper == "ssl_nnunet":
        from strokelib.ssl_nnunet.recipe import changes_of

        return {one.key: one.recipe.at(profile, **changes_of(one.recipe, given)) for one in METHODS[paper]}
    return {one.key: one.recipe.at(profile, **given.get(one.recipe, {})) for one in METHODS[paper]}


def plain(sizes: Changes) -> dict[str, dict[str, Any]]:
    """Recipe by name -> what differs from the profile, as JSON takes it."""
    return {kind.__name__: dict(values) for kind, values in sizes.items()}


def fingerprint(paper: str, sizes: Changes | None = None, profile: Profile = PROFILE) -> str:
    """Eight hexadecimal digits that change with the paper's recipes, the code of its methods and the embedded heads."""
    from strokelib.data import ctp
    from strokelib.data.phantom import embedded
    from strokelib.methods import reference_rows

    papers = (paper, "adn") if paper == "papl" else (paper,)
    keys = {
        name: one.key() for of in papers for name, one in recipes(of, sizes if of == paper else None, profile).items()
    }
    versions = {one.key: one.versions() for of in papers for one in METHODS[of]}
    beside = [profile.value, embedded.VERSION, ctp.VERSION, reference_rows.VERSION]
    text = json.dumps([keys, versions, *beside], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
