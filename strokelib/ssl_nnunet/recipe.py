"""Hyper-parameters of Seia et al. 2023: of the plan, of the pre-training of an encoder, and of its fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from strokelib.errors import ParameterError
from strokelib.recipe import Recipe, stated

PAPER = "Seia et al. 2023"
PLAN = f"{PAPER}, Sec. 3.2 and 3.5"
SSL = f"{PAPER}, Sec. 3.4"
VIEWS = f"{PAPER}, Sec. 3.4.1"
SUPERVISED = f"{PAPER}, Sec. 3.5"
CODE = "the authors' public code; the paper is silent"
ROW = "the row of the table"
SMALL = "narrow where a laptop trains it"
SHORT = "a run of some hundred steps"


@dataclass(frozen=True)
class PlanRecipe(Recipe):
    """How a head becomes a volume, and how the network is configured for such volumes."""

    spacing_mm: tuple[float, float, float] = stated(
        (1.0, 1.0, 1.0), demo=(5.0, 4.0, 4.0), source=f"{PLAN}; voxels that a laptop can train on"
    )
    contralateral: str = stated("atlas", demo="plane", source=f"{PAPER}, Sec. 3.2 d; the plane is quicker")
    channels: int = stated(1, source=f"{ROW}: 2 adds the difference image (App. B)")
    plan: str = stated(
        "printed", demo="planned", source="the printed plan; 'planned' follows nnU-Net's rules (S14, S16)"
    )
    memory_gib: float = stated(22.0, demo=0.015, source=f"{CODE}: planned for 22 GB")
    patch: tuple[int, int, int] | None = stated(
        None, demo=(8, 16, 40), source=f"none: as planned; full-width parts of heads in {SHORT}"
    )
    base: int = stated(32, demo=8, smoke=4, source=f"{SUPERVISED}; {SMALL}")
    max_features: int = stated(320, demo=64, smoke=16, source=f"{SUPERVISED}; {SMALL}")
    cache_mib: float = stated(8192.0, demo=512.0, source="ours: scans kept in memory")
    setup: str = stated("", source="ours: names plan and normalisation in the cache")


@dataclass(frozen=True)
class PretrainingRecipe(PlanRecipe):
    """Deep self-distillation of the encoder."""

    scans: str = stated("ALL", source=f"{ROW}: ALL, STKp or STKn")
    symmetry: float = stated(0.0, source=f"{ROW}: 0.7 in the rows -SA (Sec. 3.7.3)")
    leak: bool = stated(False, source="S32: the paper may have trained on validation and test scans, too")
    view: tuple[int, int, int] = stated((16, 112, 112), demo=(8, 40, 32), source=f"{VIEWS} (S14)")
    slab: int = stated(24, demo=12, source=VIEWS)
    base_of_views: str = stated("crop", source=f"{CODE} (S17); 'slab' draws both views anew in the slab, as printed")
    hidden: int = stated(2048, demo=128, smoke=16, source=CODE)
    bottleneck: int = stated(256, demo=64, smoke=8, source=CODE)
    prototypes: int = stated(65_536, demo=512, smoke=32, source=f"{SSL}: K")
    student_temperature: float = stated(0.1, source=SSL)
    teacher_temperature: tuple[float, float] = stated((0.04, 0.07), source=SSL)
    warm_share: float = stated(0.1, source=f"{SSL}: 10 of 100 epochs, of temperature and learning rate")
    centre_momentum: float = stated(0.9, source=SSL)
    momentum: float = stated(0.9996, demo=0.98, source=f"{SSL}, to 1; the code has 0.996 (S7); less in {SHORT}")
    weight_decay: tuple[float, float] = stated((0.04, 1e-5), source=f"{SSL}; the code ends at 1e-6 (S7)")
    batch: int = stated(64, demo=8, smoke=4, source=SSL)
    steps: int = stated(15_000, demo=120, smoke=3, source=f"{SSL}: 100 epochs of 9,600 samples, 150 batches (S6)")
    lr: float = stated(1e-3, demo=3e-3, source="S5: 0.1 is printed, far above what AdamW takes")
    frozen_steps: int = stated(150, demo=0, source=f"{CODE}: the last layer rests for an epoch")
    validations: int = stated(100, demo=6, smoke=2, source=f"{SSL}: once an epoch")
    val_batches: int = stated(50, demo=8, smoke=1, source=f"{CODE}: 3,200 samples")


@dataclass(frozen=True)
class FinetuningRecipe(PlanRecipe):
    """Supervised training of the whole network, from a pre-trained encoder or from scratch."""

    labels: str = stated("STKi", source=f"{ROW}: STKi, or STKp in FS-STKp")
    pretrained: str = stated("", source=f"{ROW}: the pre-training whose encoder it starts from, or none")
    frozen_share: float = stated(0.0, source=f"{PAPER}, Sec. 3.5.1: nothing frozen; 0.33, 0.66 and 1 were tried")
    batch: int = stated(2, demo=4, smoke=2, source=SUPERVISED)
    lesion_share: float = stated(0.5, demo=0.75, smoke=1.0, source=f"{SUPERVISED}; more in {SHORT}")
    steps: int = stated(25_000, demo=230, smoke=3, source=f"{SUPERVISED}: 100 epochs of 250 batches; 300 in FS-STKp")
    optimizer: str = stated("sgd", demo="adamw", source=f"{SUPERVISED}: SGD; AdamW learns sooner in {SHORT}")
    lr: float = stated(0.01, demo=5e-3, source=f"{SUPERVISED}; for SGD")
    momentum: float = stated(0.99, source=f"{SUPERVISED}, Nesterov's; of SGD")
    weight_decay: float = stated(3e-5, source="nnU-Net's")
    power: float = stated(0.9, source=SUPERVISED)
    clip_norm: float = stated(12.0, source="nnU-Net's")
    loss: str = stated("sum", source="nnU-Net's sum; the paper's average is half of it (S20)")
    levels: int = stated(4, demo=2, source=f"{SUPERVISED}: all but the two lowest resolutions")
    weights: str = stated("halving", source="S18; 'printed' by name")
    focus: float = stated(0.0, demo=3.0, source=f"none; extra weight of lesion in {SHORT}, down to a tenth")
    window_step: str = stated("half", source="nnU-Net's (S15); '48' by name")
    mirror_axes: tuple[int, ...] = stated(
        (0, 1, 2), demo=(), source=f"{SUPERVISED}: all; each mirrored axis doubles the prediction's time"
    )
    validations: int = stated(100, demo=6, smoke=2, source=f"{SUPERVISED}: once an epoch")
    val_patches: int = stated(100, demo=24, smoke=4, source="nnU-Net's 50 batches of 2")


CHANGED = (PlanRecipe, PretrainingRecipe, FinetuningRecipe)
PLAN_FIELDS = frozenset(one.name for one in fields(PlanRecipe))
Changes = Mapping[type[PlanRecipe], Mapping[str, Any]]


def changes_of(kind: type[PlanRecipe], changes: Changes) -> dict[str, Any]:
    """What a study changes in one of its recipes.

    Values of the plan hold in every training, so that the encoder fits; all others, such as ``momentum``, mean
    something else in each recipe and hold in that one alone.

    Args:
        kind: :class:`PretrainingRecipe` or :class:`FinetuningRecipe`.
        changes: Of :class:`PlanRecipe`, and of either recipe what the plan does not have.

    Raises:
        ParameterError: A value stands under a recipe that does not have it, one of the plan under another recipe, or
            something else than a recipe is changed.
    """
    for given, values in changes.items():
        if given not in CHANGED:
            wanted, step = ", ".join(one.__name__ for one in CHANGED), "give the changes by recipe class"
            raise ParameterError("changes", found=f"of {given}", wanted=f"of {wanted}", next_step=step)
        named = {one.name for one in fields(given)}
        if wrong := sorted(set(values) - (named if given is PlanRecipe else named - PLAN_FIELDS)):
            step = "change values of the plan in PlanRecipe, others in the recipe that has them"
            wanted = f"values of {given.__name__} alone"
            raise ParameterError("changes", found=", ".join(wrong), wanted=wanted, next_step=step)
    return {**changes.get(PlanRecipe, {}), **changes.get(kind, {})}
