"""Tiny made perfusion scans, and what the tests of several trainings do with them."""

from __future__ import annotations

from unittest import mock

import numpy as np

from strokelib import train
from strokelib.data.cases import Case, Volume
from strokelib.pseudo_dwi.sampling import network_inputs

SHAPE, SPACING = (3, 36, 32), (8.0, 5.0, 5.0)
FRAMES = 24
# What a training of a few seconds takes: whole slices of full precision.
SMALL = {"width": 4, "depth": 3, "crop": None, "patch": None, "batch": 3, "ema_decay": None, "clip_norm": None}


def scan(number: int, split: str = "train", lesion: bool = True, dwi: bool = True) -> Case:
    """An ellipse of tissue; in one half a disc with low flow, late arrival, dark CT and bright DWI."""
    rng = np.random.default_rng(number)
    z, y, x = np.mgrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    middle = (SHAPE[2] - 1) / 2
    brain = ((y - 17.5) / 15) ** 2 + ((x - middle) / 12) ** 2 < 1
    side = 1 if number % 2 else -1
    disc = ((y - 15 - number % 4) / 5) ** 2 + ((x - middle - 6 * side) / 4) ** 2 < 1
    ill = disc & brain & (z > 0)

    def tissue(well: float, sick: float, noise: float) -> np.ndarray:
        return np.where(brain, np.where(ill, sick, well) + rng.normal(0, noise, SHAPE), 0).astype(np.float32)

    channels = {"cbf": tissue(50, 15, 4).clip(0), "cbv": tissue(4, 2, 0.3).clip(0)}
    channels |= {"mtt_s": tissue(4.5, 9, 0.4).clip(0), "tmax_s": tissue(2, 9, 0.4).clip(0)}
    t = np.arange(FRAMES).reshape(-1, 1, 1, 1)
    bolus = np.exp(-(((t - np.where(ill, 12.0, 9.0)) / 3.5) ** 2))
    hu = np.where(brain, tissue(34, 27, 1), -1000.0).astype(np.float32)
    channels["series"] = (hu + np.where(brain, np.where(ill, 8.0, 20.0), 0) * bolus).astype(np.float32)
    if dwi:
        channels["dwi"] = tissue(0.4, 1.0, 0.02)
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    facts = {"midline_plane": [1.0, 0.0, 0.0, -SPACING[2] * middle]}
    kept = ill if lesion else np.zeros(SHAPE, bool)
    image = Volume(hu, affine)
    return Case(f"scan-{number}", f"p{number}", "made", split, image, kept, brain, {}, facts, channels=channels)


def case(number: int, split: str = "train", lesion: bool = True, dwi: bool = True) -> Case:
    """A made scan with the networks' inputs."""
    return network_inputs(scan(number, split, lesion, dwi))


def steady(patch) -> None:
    """Train on the CPU in float32 on every machine; ``patch`` is pytest's monkeypatch."""
    patch.setenv("STROKELIB_DEVICE", "cpu")
    patch.setattr("strokelib.nn.precision.BF16_INSTRUCTIONS", ())


class StoppedError(Exception):
    """Raised in the middle of a training."""


def stopping_after(step: int):
    """A patch of the training loop that raises once this many steps are done."""
    whole = train.fit

    def after_step(model, index):
        if index + 1 == step:
            raise StoppedError

    return mock.patch.object(train, "fit", lambda *args, **how: whole(*args, after_step=after_step, **how))


def weights(model) -> dict[str, np.ndarray]:
    """All tensors of a network, copied."""
    return {name: value.cpu().numpy().copy() for name, value in train.plain_tensors(model).items()}


def stopped_and_whole(module, recipe, train_cases, val_cases, folder, stop):
    """Weights and history of a training that was stopped after ``stop`` steps and called again, and of a whole one."""
    ends = []
    for name, count in (("whole", None), ("stopped", stop)):
        out = folder / name
        if count is not None:
            try:
                with stopping_after(count):
                    train_once(module, recipe, train_cases, val_cases, out)
            except StoppedError:
                pass
            else:
                raise AssertionError("the training was not stopped")
        model, history = train_once(module, recipe, train_cases, val_cases, out)
        ends.append((weights(model), (out / "history.csv").read_bytes(), history))
    return ends


def train_once(module, recipe, train_cases, val_cases, out, seed=0):
    """Build a network by a module's own ``build`` and train it by its ``fit``."""
    from strokelib import repro

    repro.seed_everything(seed)
    model = module.build(recipe)
    return model, module.fit(model, recipe, train_cases, val_cases, seed=seed, out=out)
