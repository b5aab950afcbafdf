"""What a method is: a name, a recipe, a network, a training and a prediction."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from strokelib.data.cases import Case
from strokelib.recipe import Recipe
from strokelib.train import History

SHARED_MODULES = (
    "strokelib.data.augment",
    "strokelib.data.loading",
    "strokelib.infer",
    "strokelib.nn.losses",
    "strokelib.train",
)


class Build(Protocol):
    """Makes an untrained network."""

    def __call__(self, recipe: Any) -> nn.Module:
        """The network of a recipe."""


class Fit(Protocol):
    """Trains a network in place."""

    def __call__(
        self, model: nn.Module, recipe: Any, train: Sequence[Case], val: Sequence[Case], *, seed: int, out: Path
    ) -> History:
        """Train in the folder ``out``; called again after a kill, go on."""


class PredictAll(Protocol):
    """Segments many cases of one shape."""

    def __call__(self, model: nn.Module, recipe: Any, cases: Sequence[Case]) -> dict[str, np.ndarray]:
        """Case id -> foreground probability (D, H, W) in [0, 1]."""


class Predict(Protocol):
    """Segments one case."""

    def __call__(self, model: nn.Module, recipe: Any, case: Case) -> np.ndarray:
        """Foreground probability (D, H, W) in [0, 1]."""


@dataclass(frozen=True)
class Method:
    """One row of a comparison.

    Args:
        key: Short name in files and tables, e.g. ``unet``.
        title: Name in figures and tables.
        paper: Where the method comes from.
        recipe: Class of its hyper-parameters.
        build: Makes the untrained network.
        fit: Trains it.
        predict: Segments one case with it.
        modules: Modules of the method whose hand-raised ``VERSION`` counts, beside those that all methods share.
        validation: Name of the validation scalar whose curve says whether the training was long enough.
        predict_all: Segments many cases at once, where that is faster; to the same maps.
    """

    key: str
    title: str
    paper: str
    recipe: type[Recipe]
    build: Build
    fit: Fit
    predict: Predict
    modules: tuple[str, ...]
    validation: str = "pooled_dice"
    predict_all: PredictAll | None = None

    def given(self, **values: Any) -> Method:
        """The method with further arguments of ``build``, ``fit`` and ``predict`` filled in."""
        parts = ("build", "fit", "predict")
        return replace(self, **{name: partial(getattr(self, name), **values) for name in parts})

    def versions(self) -> dict[str, int]:
        """Module name to ``VERSION``; a change of any of them makes earlier trainings void."""
        return {name: importlib.import_module(name).VERSION for name in (*SHARED_MODULES, *self.modules)}
