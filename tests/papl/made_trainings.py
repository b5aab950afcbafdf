"""Small recipes and heads for the tests of stages 1 to 3, and looks into the training loop."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from torch import nn

from strokelib import train
from strokelib.papl.recipe import KnowledgeRecipe, SegmentationRecipe

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "adn"))
import made_heads
from made_heads import StoppedError, steady, train_once, weights

__all__ = ["HOW", "STEPS", "TRAIN", "VAL", "StoppedError", "steady", "train_once", "weights"]

# Upright heads: the middle column is the mid-sagittal line.
HOW = {"shape": (10, 32, 32), "spacing": (5.0, 4.0, 4.0)}
TRAIN, VAL = made_heads.heads(range(3), **HOW), made_heads.heads(range(3, 5), "val", **HOW)
STEPS = 6
SMALL = {"width": 4, "depth": 3, "window_hu": (0.0, 80.0), "pool": 1, "crop": None, "smallest_brain_ml": 0.0}
SMALL |= {"schedule_power": 0.9, "weight_decay": 1e-3, "lesion_share": 0.5, "lr": 1e-2, "steps": STEPS}
SMALL |= {"zoom": 0.1, "contrast": 0.1, "brightness": 0.1, "noise": 0.05, "validations": 3}


def knowledge(**changes) -> KnowledgeRecipe:
    """Stage 1 of a few steps."""
    own = {"batch": 8, "samples": 4, "val_samples": 8, "length": 6}
    return KnowledgeRecipe.at("paper", **{**SMALL, **own, **changes})


def segmentation(**changes) -> SegmentationRecipe:
    """Stages 2 and 3 of a few steps."""
    return SegmentationRecipe.at("paper", **{**SMALL, "batch": 4, "val_slices": 8, "focus": 0.0, **changes})


def watching(after):
    """A patch of the training loop: ``after(network, index)`` after each step, behind what the training does there."""
    whole = train.fit

    def patched(*args, after_step=None, **how):
        def both(network, index):
            if after_step is not None:
                after_step(network, index)
            after(network, index)

        return whole(*args, after_step=both, **how)

    return mock.patch.object(train, "fit", patched)


def stopping_after(step: int):
    """A patch of the training loop that raises once this many steps are done."""

    def stop(network, index):
        if index + 1 == step:
            raise StoppedError

    return watching(stop)


def given_to_the_loop(module, recipe, model=None, train_cases=TRAIN, val_cases=VAL):
    """What the training loop would be called with."""
    model = model or module.build(recipe)
    with mock.patch.object(train, "fit") as loop:
        module.fit(model, recipe, train_cases, val_cases, seed=0, out=Path("nowhere"))
    (model, stream, step), how = loop.call_args
    return SimpleNamespace(model=model, stream=stream, step=step, **how)


def snapshot_bytes(folder: Path) -> dict[str, bytes]:
    """Name -> content of what was kept in the course of a training."""
    return {path.name: path.read_bytes() for path in sorted((folder / "snapshots").iterdir())}


def killed_and_whole(module, recipe, folder: Path, stop: int):
    """Weights, history and snapshots of an untouched training, and of one that was stopped and called again."""
    ends = []
    for name in ("whole", "killed"):
        out = folder / name
        if name == "killed":
            try:
                with stopping_after(stop):
                    train_once(module, recipe, TRAIN, VAL, out)
            except StoppedError:
                pass
            else:
                raise AssertionError("the training was not stopped")
        model, history = train_once(module, recipe, TRAIN, VAL, out)
        found = {"weights": weights(model), "history": (out / "history.csv").read_bytes()}
        ends.append(SimpleNamespace(**found, snapshots=snapshot_bytes(out), notes=history.notes))
    return ends


class Scaled(nn.Module):
    """Stands for a network: logits that grow with the image, so that the probability is sigmoid(slope image)."""

    def __init__(self, slope: float = 1.0):
        super().__init__()
        self.slope, self.seen = slope, []

    def forward(self, x):
        self.seen.append(x.clone())
        return self.slope * x
