"""Tiny made heads, upright or tilted, and what the tests of several trainings do with them."""

from __future__ import annotations

import os
import sys

import numpy as np
import torch

from strokelib.data.cases import Case, Volume

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "pseudo_dwi"))
from made_cases import StoppedError, steady, stopped_and_whole, stopping_after, train_once, weights

__all__ = [
    "SHAPE",
    "SPACING",
    "Marked",
    "StoppedError",
    "head",
    "heads",
    "identities",
    "posed",
    "steady",
    "stopped_and_whole",
    "stopping_after",
    "train_once",
    "turned",
    "weights",
]

SHAPE, SPACING = (16, 32, 28), (5.0, 4.0, 4.0)
GREY, WHITE, FLUID = 1, 2, 3
HU = np.array([-1000.0, 38.0, 30.0, 8.0])


def head(
    number: int,
    split: str = "train",
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    tilt_deg: float = 0.0,
    shift: float = 0.0,
    lesion: bool = True,
    embedded: bool = True,
) -> Case:
    """A grey rim, white matter, a ventricle on either side and, in one half, an infarct and a spot of grey matter.

    ``tilt_deg`` and ``shift`` (in pixels) say where the mid-sagittal plane lies; pixels are as high as wide.
    """
    rng = np.random.default_rng(number)
    depth, height, width = shape
    z, y, x = np.mgrid[:depth, :height, :width]
    cx, cy, angle = (width - 1) / 2, (height - 1) / 2, np.deg2rad(tilt_deg)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle) - shift
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    side = 1 if number % 2 else -1
    radius = np.hypot(u / (0.36 * width), v / (0.42 * height))
    tissue = np.where(radius < 1, np.where(radius > 0.8, GREY, WHITE), 0)
    tissue[np.hypot((np.abs(u) - 0.08 * width) / (0.05 * width), v / (0.15 * height)) < 1] = FLUID
    tissue[np.hypot((side * u + 0.2 * width) / (0.06 * width), (v - 0.15 * height) / (0.08 * height)) < 1] = GREY
    brain = (tissue > 0) & (z > 0) & (z < depth - 1)
    level = (z - depth / 2 + number % 3) / (0.3 * depth)
    disc = np.hypot((side * u - 0.2 * width) / (0.12 * width), (v + 0.1 * height) / (0.14 * height))
    ill = brain & (np.hypot(disc, level) < 1) if lesion else np.zeros(shape, bool)
    tissue = np.where(brain, tissue, 0).astype(np.uint8)
    hu = (HU[tissue] - 12 * ill + rng.normal(0, 1, shape)).astype(np.float32)
    normal = [-np.cos(angle), -np.sin(angle), 0.0]
    away = spacing[2] * (shift + np.cos(angle) * cx + np.sin(angle) * cy)
    facts = {"midline_plane": [*normal, away], "anatomy": f"anatomy-{number % 2}"}
    image = Volume(hu, np.diag([-spacing[2], -spacing[1], spacing[0], 1.0]))
    truth = {"tissue": tissue}
    return Case(f"head-{number}", f"p{number}", "made", split, image, ill, brain, truth, facts, embedded)


def heads(numbers: range, split: str = "train", **how) -> list[Case]:
    """Several heads."""
    return [head(number, split, **how) for number in numbers]


def identities(cases: list[Case]) -> dict[str, np.ndarray]:
    """Matrices that move nothing."""
    return {case.id: np.eye(4) for case in cases}


def turned(angle_deg: float, shape: tuple[int, int, int], x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """Output -> input: a turn about the middle of the slices and a way in pixels, written out."""
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    cx, cy = (shape[2] - 1) / 2, (shape[1] - 1) / 2
    matrix = np.eye(4)
    matrix[0] = [cos, -sin, 0, cx - cos * cx + sin * cy + x]
    matrix[1] = [sin, cos, 0, cy - sin * cx - cos * cy + y]
    return matrix


def posed(transformer: torch.nn.Module, pose: tuple[float, float, float]) -> torch.nn.Module:
    """T that finds one pose in every head: shares of the largest turn about z and shifts along x and y."""
    with torch.no_grad():
        transformer.head.bias[[2, 3, 4]] = torch.tensor(pose).atanh()
    return transformer


class Marked(torch.nn.Module):
    """Stands for a network: lesion where the volume is bright; keeps the sizes of the batches it saw."""

    def __init__(self, level=0.6):
        super().__init__()
        self.level, self.seen, self.unused = level, [], torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return 40 * (x - self.level)
