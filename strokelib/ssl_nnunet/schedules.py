"""What changes in the course of a training besides the learning rate: functions of the step and the number of steps.

Seia et al. 2023 count in epochs of 100; here it is shares of the steps. The learning rate's warm-up and cosine is
:func:`strokelib.train.schedules.cosine`. Where the public code's settings differ from the paper's (S7), pass them.
"""

from __future__ import annotations

from strokelib.errors import ParameterError
from strokelib.train.schedules import cosine

VERSION = 1
TENTH = 0.1
FREEZING = (0.0, 0.33, 0.66, 1.0)
LAST_LAYER = 0.01


def teacher_momentum(step: int, steps: int, first: float = 0.9996, last: float = 1.0) -> float:
    """Lambda, the share of itself that the teacher keeps in a step: half a cosine from ``first`` to ``last``.

    Args:
        step: Counted from 0; ``steps`` has the end value.
        steps: Length of the run.
        first: The public code's settings have 0.996.
        last: At 1 the teacher stands still.

    Raises:
        ParameterError: No steps, or a step before the first.
    """
    _counted(step, steps)
    return last + (first - last) * cosine(steps)(step)


def weight_decay(step: int, steps: int, first: float = 0.04, last: float = 1e-5) -> float:
    """Weight decay of AdamW: half a cosine from ``first`` to ``last``.

    Args:
        step: Counted from 0; ``steps`` has the end value.
        steps: Length of the run.
        first: At the start.
        last: The public code's settings have 1e-6.

    Raises:
        ParameterError: No steps, or a step before the first.
    """
    _counted(step, steps)
    return last + (first - last) * cosine(steps)(step)


def teacher_temperature(step: int, steps: int, first: float = 0.04, last: float = 0.07, warmup: float = TENTH) -> float:
    """T_t: linear from ``first`` to ``last``, then constant.

    Args:
        step: Counted from 0.
        steps: Length of the run.
        first: At step 0.
        last: After the warm-up.
        warmup: Share of the run until ``last`` is reached; 0 for ``last`` from the start.

    Raises:
        ParameterError: No steps, a step before the first, or a share outside 0 to 1.
    """
    _counted(step, steps)
    rise = _shared("warmup", warmup) * steps
    return last if step >= rise else first + (last - first) * step / rise


def is_frozen(step: int, steps: int, share: float) -> bool:
    """Whether a part is held fixed at this step: it is for the first ``share`` of the run.

    :data:`FREEZING` are the shares tried for the encoder in fine-tuning (0 was best, and is used). :data:`LAST_LAYER`
    is the public code's one epoch in 100 for the last layer of the projection heads in pre-training.

    Args:
        step: Counted from 0.
        steps: Length of the run.
        share: In [0, 1]; share times steps is rounded to whole steps.

    Raises:
        ParameterError: No steps, a step before the first, or a share outside 0 to 1.
    """
    _counted(step, steps)
    return step < round(_shared("share", share) * steps)


def _counted(step: int, steps: int) -> None:
    if steps < 1 or step < 0:
        found, wanted = f"step {step} of {steps}", "a step of 0 or more, of 1 or more"
        raise ParameterError("schedule", found=found, wanted=wanted, next_step="count steps from 0")


def _shared(thing: str, share: float) -> float:
    if not 0 <= share <= 1:
        raise ParameterError(thing, found=share, wanted="0 to 1", next_step="pass a share of the run, not steps")
    return share
