"""The mid-sagittal line of every head of a run, found once by the midline network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from strokelib import repro
from strokelib.data.cases import Case
from strokelib.data.scans import load_parts
from strokelib.methods.midline import MIDLINE, MidlineRecipe, find_line
from strokelib.methods.rolls import roll_of
from strokelib.methods.training import Trained, train_method
from strokelib.settings import Profile, Settings


def grid_of(settings: Settings) -> str:
    """The grid of a profile: 256 x 256 pixels as published, or ours of 2 mm."""
    return "published" if settings.profile is Profile.PAPER else "prepared"


def midlines(settings: Settings, parts: Sequence[Sequence[Case]], out: Path) -> dict[str, np.ndarray]:
    """Ends of the mid-sagittal line in each slice (D, 2, 2) of each case, found once.

    The network is trained on embedded heads of aisd, whose plane is known, on the same grid.

    Args:
        settings: Of the run.
        parts: Cases with brain masks.
        out: Folder of trained models; the lines lie beside the network's weights.
    """
    network = midline_network(settings, out)
    found: dict[str, np.ndarray] = {}
    for part in parts:
        found |= _lines_of(lambda case: find_line(network.model, network.recipe, case), part, network.folder)
    return found


def midline_network(settings: Settings, out: Path) -> Trained:
    """The midline network of a run, trained once.

    Args:
        settings: Of the run.
        out: Folder of trained models.
    """
    recipe = MidlineRecipe.at(settings.profile)
    limits = {"train": recipe.train_cases, "val": recipe.val_cases}
    heads = load_parts(replace(settings, data=None).beside("aisd"), grid=grid_of(settings), **limits)
    return train_method(MIDLINE, recipe, *heads, seed=settings.seed, out=out)


def _lines_of(line: Callable[[Case], np.ndarray], cases: Sequence[Case], folder: Path) -> dict[str, np.ndarray]:
    def run(partial_folder: Path) -> None:
        ends = {case.id: line(case).tolist() for case in cases}
        repro.write_text(partial_folder / "lines.json", json.dumps(ends) + "\n")

    made = repro.once(folder / f"lines-{roll_of(cases).fingerprint}", run)
    ends = json.loads((made / "lines.json").read_text("utf-8"))
    return {name: np.array(values, np.float64) for name, values in ends.items()}
