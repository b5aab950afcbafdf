"""Learning-rate schedules: functions from the step's number to a factor on the initial rate."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """Always 1."""
    return lambda step: 1.0


def poly(steps: int, power: float = 0.9) -> Schedule:
    """(1 - step / steps)^power: from 1 down to 0 at the end.

    Args:
        steps: Length of the run.
        power: Exponent.
    """
    return lambda step: max(0.0, 1 - step / steps) ** power


def cosine(steps: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """Linear rise over ``warmup`` steps, then half a cosine from 1 down to ``final``.

    Args:
        steps: Length of the run, warm-up included.
        warmup: Steps of linear rise; step s gives (s + 1) / warmup.
        final: Factor at the end.
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return factor


def step_decay(milestones: tuple[int, ...], factor: float) -> Schedule:
    """Multiplied by ``factor`` at each milestone.

    Args:
        milestones: Numbers of the steps from which on a further factor counts.
        factor: The factor, e.g. 0.1.
    """
    return lambda step: factor ** sum(step >= m for m in milestones)
