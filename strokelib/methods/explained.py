"""Four methods on the same heads: their attributions and features, computed once, and the tests of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from torch import nn

from strokelib.data.perfused import SLICES, Perfused, perfused_heads
from strokelib.errors import DataError
from strokelib.explain.baselines import baseline_of, mirrored
from strokelib.explain.gradients import Attribution, integrated_gradients
from strokelib.explain.pointing import Pointing, pointing
from strokelib.explain.randomisation import layers_from_output, randomised
from strokelib.infer import model_device
from strokelib.methods import weights
from strokelib.methods.explained_views import LOOKED_AT, View, view_of
from strokelib.methods.scoring import weakest
from strokelib.methods.weights import Demo
from strokelib.recipe import Recipe, stated
from strokelib.settings import Settings

KEYS = ("papl", "adn", "ssl_nnunet", "pseudo_dwi")
LESION, OTHER_SIDE, ELSEWHERE = KINDS = ("infarct", "its other side", "elsewhere")
FEATURES, INPUT, UNTRAINED = READ = ("features", "input alone", "untrained features")
TRAINED, IMAGE_ALONE, WITHOUT_LEARNING = NETWORKS = ("trained", "image minus baseline", "untrained")
TESTED = "blurred"


@dataclass(frozen=True)
class ExplainRecipe(Recipe):
    """How many heads are explained, and how."""

    heads: int = stated(24, demo=8, smoke=3, source="ours: the first test heads of the cohort that are large enough")
    least_ml: float = stated(5.0, source="ours: volume of the patient's infarct mask, so that something can be hit")
    slices: int = stated(SLICES, source="ours: as deep as a usual CT perfusion scan and the demo's parts of heads")
    looked: int = stated(LOOKED_AT, source="ours: slices in the middle of these whose infarct is summed up")
    steps: int = stated(50, demo=8, smoke=3, source="points of the integral; 50 in captum, fewer where a minute is all")
    batch: int = stated(4, demo=2, source="ours: points at a time")
    tested: int = stated(24, demo=4, smoke=1, source="ours: heads whose networks are also drawn anew, layer by layer")
    shares: tuple[float, ...] = stated((0.25, 0.5, 0.75, 1.0), demo=(0.34, 0.67, 1.0), source="ours: of the layers")
    patches: int = stated(48, demo=24, smoke=8, source="ours: of each kind and head")
    patch_mm: float = stated(12.0, source="ours: side of the square over which features are averaged")
    permutations: int = stated(999, demo=499, smoke=49, source="ours: shuffles of the labels")
    perplexity: float = stated(30.0, source="assumed: the usual one")


@dataclass(frozen=True)
class Patches:
    """Places of one head, the same for every method.

    Args:
        points_mm: (n, 3): height, distance to the back and to the left, in the image's millimetres.
        kinds: (n,) of :data:`KINDS`.
    """

    points_mm: np.ndarray
    kinds: np.ndarray


@dataclass(frozen=True)
class Study:
    """Methods with their weights, and the heads that they are explained on.

    Args:
        demos: Key -> method with weights.
        heads: Straight heads with perfusion.
        recipe: How they are explained.
        seed: Of patches, untrained networks and resamples.
    """

    demos: Mapping[str, Demo]
    heads: Sequence[Perfused]
    recipe: ExplainRecipe
    seed: int = 0
    _made: dict[tuple, Any] = field(default_factory=dict, repr=False)

    @property
    def inputs(self) -> dict[str, str]:
        """Key -> SHA-256 of its weights."""
        return {key: demo.sha256 for key, demo in self.demos.items()}

    @property
    def status(self) -> str:
        """What the methods lack most to ``done``."""
        return weakest(demo.status for demo in self.demos.values())

    @property
    def titles(self) -> dict[str, str]:
        """Key -> name."""
        return {key: demo.title for key, demo in self.demos.items()}

    def view(self, key: str, head: int) -> View:
        """A head as a method sees it."""
        if ("view", key, head) not in self._made:
            made = view_of(self.demos[key], self.heads[head], self.recipe.looked)
            self._made["view", key, head] = made
        return self._made["view", key, head]

    @cached_property
    def shown(self) -> list[int]:
        """Numbers of the heads in whose slices every method's grid shows some of the reference.

        Raises:
            DataError: There is none.
        """
        views = {head: [self.view(key, head) for key in self.demos] for head in range(len(self.heads))}
        found = [head for head, seen in views.items() if all(one.lesion[one.looked].any() for one in seen)]
        if not found:
            step = "take more heads, or larger infarcts"
            raise DataError("heads to explain", found="none with an infarct on every grid", wanted="1", next_step=step)
        return found

    @property
    def tested(self) -> list[int]:
        """The heads on which networks are drawn anew."""
        return self.shown[: self.recipe.tested]

    def untrained(self, key: str) -> nn.Module:
        """A method's network as it is built, with weights that the seed draws."""
        if ("untrained", key) not in self._made:
            demo = self.demos[key]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                built = demo.method.build(demo.recipe)
            self._made["untrained", key] = built.to(model_device(demo.model)).eval()
        return self._made["untrained", key]

    def layers(self, key: str) -> list[str]:
        """Names of a network's layers from its output to its input."""
        if ("layers", key) not in self._made:
            view = self.view(key, self.shown[0])
            met = layers_from_output(view.model, lambda model: view.of(model).probability(view.image[None]))
            self._made["layers", key] = met
        return self._made["layers", key]

    def network(self, key: str, share: float = 0.0) -> nn.Module:
        """A method's network, this share of its layers, from the output down, drawn anew."""
        if not share:
            return self.demos[key].model
        if ("network", key, share) not in self._made:
            made = randomised(self.demos[key].model, self.untrained(key), self.layers(key), share)
            self._made["network", key, share] = made
        return self._made["network", key, share]

    def attribution(self, key: str, head: int, baseline: str = TESTED, share: float = 0.0) -> Attribution:
        """Integrated gradients of the volume found, in mL, computed once.

        Args:
            key: Of the method.
            head: Number of the head.
            baseline: Of :data:`strokelib.explain.baselines.BASELINES`.
            share: As in :meth:`network`.
        """
        name = ("attribution", key, head, baseline, share)
        if name not in self._made:
            view = self.view(key, head).of(self.network(key, share))
            start = self.baseline(key, head, baseline)
            how = {"steps": self.recipe.steps, "batch": self.recipe.batch}
            self._made[name] = integrated_gradients(view.volume_ml, view.image, start, **how)
        return self._made[name]

    def baseline(self, key: str, head: int, name: str) -> torch.Tensor:
        """What a head is compared with."""
        view = self.view(key, head)
        how = {"fill": view.fill, "centre": view.centre, "spacing_yx": view.spacing[1:]}
        return baseline_of(name, view.image, view.brain, **how)

    def size(
        self, key: str, head: int, baseline: str = TESTED, network: str = TRAINED, share: float = 1.0
    ) -> np.ndarray:
        """Absolute attributions (D, H, W) in the slices looked at.

        Args:
            key: Of the method.
            head: Number of the head.
            baseline: As in :meth:`attribution`.
            network: Of :data:`NETWORKS`; ``image minus baseline`` needs none: |x - b|, added up over the channels.
            share: Of the layers that are drawn anew, where the network is an untrained one.
        """
        view = self.view(key, head)
        if network == IMAGE_ALONE:
            found = (view.image - self.baseline(key, head, baseline)).abs().sum(0).double().cpu().numpy()
        else:
            found = self.attribution(key, head, baseline, share if network == WITHOUT_LEARNING else 0.0).size
        return found[view.looked]

    def pointing(self, key: str, head: int, baseline: str = TESTED, network: str = TRAINED) -> Pointing:
        """Whether attributions lie in the infarct; arguments as in :meth:`size`."""
        view = self.view(key, head)
        masks = (view.lesion[view.looked], view.other_side[view.looked], view.brain[view.looked])
        return pointing(self.size(key, head, baseline, network), *masks)

    def patches(self, head: int) -> Patches:
        """Places in a head: in the infarct, their mirror images, and as many elsewhere in the brain."""
        if ("patches", head) not in self._made:
            self._made["patches", head] = _drawn(self.heads[head], self.recipe, self.seed + head)
        return self._made["patches", head]

    def vectors(self, key: str, what: str = FEATURES) -> np.ndarray:
        """(n, F) of the patches of all heads shown, one after another.

        Args:
            key: Of the method.
            what: Of :data:`READ`: what the last convolution of the trained or of the untrained network sees, or the
                network's input.
        """
        if ("vectors", key, what) not in self._made:
            self._made["vectors", key, what] = np.concatenate([self._read(key, head, what) for head in self.shown])
        return self._made["vectors", key, what]

    def _read(self, key: str, head: int, what: str) -> np.ndarray:
        view = self.view(key, head)
        if what == INPUT:
            maps = view.image.float().cpu().numpy()
        else:
            maps = (view.of(self.untrained(key)) if what == UNTRAINED else view).features()
        sides = [max(1, round(self.recipe.patch_mm / side)) for side in view.spacing[1:]]
        smooth = uniform_filter(maps, (1, 1, *sides), mode="nearest")
        z, y, x = np.clip(view.places(self.patches(head).points_mm), 0, np.array(maps.shape[1:]) - 1).T
        return smooth[:, z, y, x].T

    @property
    def kinds(self) -> np.ndarray:
        """(n,) of the patches of all heads shown."""
        return np.concatenate([self.patches(head).kinds for head in self.shown])

    @property
    def owners(self) -> np.ndarray:
        """(n,) names of the heads of all patches."""
        return np.repeat(
            [self.heads[head].whole.id for head in self.shown], [len(self.patches(head).kinds) for head in self.shown]
        )


def load_study(settings: Settings, demos: Mapping[str, Demo] | None = None, **changes: Any) -> Study:
    """The four methods with their demo weights, and the heads of a run that they are explained on.

    Args:
        settings: Of a run about an embedded cohort; data of the user are not looked at.
        demos: Other weights, by key.
        changes: Values of :class:`ExplainRecipe` that differ from the profile's.
    """
    recipe = ExplainRecipe.at(settings.profile, **changes)
    how = {"least_ml": recipe.least_ml, "slices": recipe.slices}
    heads = perfused_heads(replace(settings, data=None), recipe.heads, **how)
    found = dict(demos) if demos is not None else {key: weights.load(key) for key in KEYS}
    return Study(found, heads, recipe, settings.seed)


def _drawn(head: Perfused, recipe: ExplainRecipe, seed: int) -> Patches:
    """Patches of the slices looked at, on the case's own grid."""
    spare = (len(head.slab.image.array) - recipe.looked) // 2
    levels = slice(spare, spare + recipe.looked)
    lesion, brain = (mask[levels].astype(bool) for mask in (head.slab.lesion, head.slab.brain))
    middle = (lesion.shape[-1] - 1) / 2
    opposite = mirrored(lesion, middle)
    one_sided = np.argwhere(lesion & brain & mirrored(brain, middle) & ~opposite)
    others = np.argwhere(brain & ~lesion & ~opposite)
    rng = np.random.default_rng(seed)
    count = min(recipe.patches, len(one_sided), len(others))
    inside = one_sided[rng.permutation(len(one_sided))[:count]]
    twins = inside * [1, 1, -1] + [0, 0, lesion.shape[-1] - 1]
    elsewhere = others[rng.permutation(len(others))[:count]]
    (dz, dy, dx), affine = head.slab.image.spacing, head.slab.image.affine
    places = np.concatenate([inside, twins, elsewhere]).astype(float)
    points = places * [dz, dy, dx] + [affine[2, 3] + dz * spare, -affine[1, 3], -middle * dx]
    return Patches(points, np.repeat(KINDS, count))
