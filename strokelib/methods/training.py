"""Train a method once, wherever it is asked for, and predict with it once."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from torch import nn

from strokelib import repro
from strokelib.data.cases import Case
from strokelib.errors import DataError
from strokelib.methods.method import Method
from strokelib.methods.rolls import Roll, roll_of
from strokelib.nn.precision import channels_last
from strokelib.recipe import Recipe
from strokelib.train import History, load_weights, plain_tensors, save_tensors
from strokelib.train.history import read_rows


@dataclass(frozen=True)
class Trained:
    """A trained network and what it came from.

    Args:
        method: Which method.
        recipe: Its hyper-parameters.
        seed: Seed of the training.
        model: The network, in eval mode.
        history: Its training.
        folder: Where weights, history, predictions and scores lie.
    """

    method: Method
    recipe: Recipe
    seed: int
    model: nn.Module
    history: History
    folder: Path

    @property
    def undertrained(self) -> bool:
        """Whether the validation curve was still rising when the training stopped."""
        return not self.history.flattened(self.method.validation)


def run_name(method: Method, recipe: Recipe, train: Roll, val: Roll, seed: int) -> str:
    """Name of a training's folder: method, recipe, seed, and a key over the cases and the modules' versions."""
    facts = json.dumps([train.fingerprint, val.fingerprint, method.versions()])
    return f"{method.key}-{recipe.key()}-seed{seed}-{hashlib.sha256(facts.encode()).hexdigest()[:8]}"


def _check(train: Roll, val: Roll, leak: bool) -> None:
    shared, leaked = train.patients & val.patients, (*train.test, *val.test)
    if leak:
        shared, leaked = frozenset(), ()
    if not train.n or not val.n or shared or leaked:
        raise DataError(
            "cases for training",
            found=f"{train.n} and {val.n} cases; in both: {sorted(shared)[:3]}; test cases: {list(leaked[:3])}",
            wanted="training and validation cases of different patients, and no test case",
            next_step="take the committed splits",
        )


def train_method(
    method: Method,
    recipe: Recipe,
    train_cases: Sequence[Case],
    val_cases: Sequence[Case],
    *,
    seed: int,
    out: Path,
    leak: bool = False,
) -> Trained:
    """Train a method, or read what was trained before with the same recipe, cases, seed and code.

    A training that was killed goes on from its last checkpoint; two processes that ask for the same one train it once.

    Args:
        method: Which method.
        recipe: Its hyper-parameters.
        train_cases: Prepared cases.
        val_cases: Prepared cases of other patients.
        seed: Seed of weights and batches.
        out: Folder in which the training's own folder is made.
        leak: Train on held-out scans, too: for a training that looks at no reference, where a paper did so.

    Raises:
        DataError: There is no case, a patient is in both sets, or a case is one of the test set.
    """
    train_roll, val_roll = roll_of(train_cases), roll_of(val_cases)
    _check(train_roll, val_roll, leak)
    repro.seed_everything(seed)
    model = method.build(recipe)

    def run(folder: Path) -> None:
        started = time.perf_counter()
        history = method.fit(model, recipe, train_cases, val_cases, seed=seed, out=folder)
        facts: dict[str, Any] = {
            "method": method.key,
            "recipe": recipe.key(),
            "seed": seed,
            "cohort": " ".join(sorted(train_roll.cohorts)),
            "steps": history.steps,
            "best_step": history.best_step,
            "notes": history.notes,
            "n_train": train_roll.n,
            "n_val": val_roll.n,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": method.versions(),
        }
        save_tensors(plain_tensors(model), folder / "model.safetensors")
        repro.write_text(folder / "trained.json", json.dumps(facts, indent=1) + "\n")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)

    folder = repro.once(Path(out) / run_name(method, recipe, train_roll, val_roll, seed), run)
    facts = json.loads((folder / "trained.json").read_text("utf-8"))
    load_weights(model, folder / "model.safetensors")
    channels_last(model.to(repro.device())).eval()  # the layout decides the last bit, trained just now or read back
    rows = tuple(read_rows(folder / "history.csv"))
    history = History(rows, facts["steps"], facts["best_step"], tuple(facts["notes"]))
    return Trained(method, recipe, seed, model, history, folder)


def predict(trained: Trained, cases: Sequence[Case]) -> dict[str, np.ndarray]:
    """Foreground probability of each case, computed once and kept beside the weights.

    Args:
        trained: What :func:`train_method` returned.
        cases: Prepared cases.

    Returns:
        Case id to (D, H, W) float16 in [0, 1]: half precision, also where it was just computed.
    """

    def run(folder: Path) -> None:
        method, model, recipe = trained.method, trained.model, trained.recipe
        if method.predict_all is None:
            found = {case.id: method.predict(model, recipe, case) for case in cases}
        else:
            found = method.predict_all(model, recipe, cases)
        maps = {name: np.asarray(values).astype(np.float16) for name, values in found.items()}
        with repro.atomic_path(folder / "probability.safetensors") as temporary:
            save_file(maps, temporary)

    folder = repro.once(trained.folder / "predictions" / roll_of(cases).fingerprint, run)
    return load_file(folder / "probability.safetensors")
