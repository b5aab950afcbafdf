"""Deep self-distillation, Seia et al. 2023: centre (Eq. 1), softmax with temperature (Eq. 2), objective (Eq. 3).

Logits are (B, K): B patches, K outputs of a projection head; each of the two views of a patch has its own. Losses are
float32, also of float16 and bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor

from strokelib.errors import ParameterError
from strokelib.options import chosen

VERSION = 1
CENTRE_MOMENTUM = 0.9
STUDENT_TEMPERATURE = 0.1
SoftmaxForm = Literal["recommended", "printed", "plus_centre"]
StageWeights = Literal["constant", "linear", "exp", "fraction", "last"]
# Of the number of stages N and the distance d to the deepest stage, before they are made to sum to one.
WEIGHTS: dict[str, Callable[[int, int], float]] = {
    "constant": lambda n, d: 1.0,
    "linear": lambda n, d: 1 - d / (n + 1),
    "exp": lambda n, d: math.exp(-d / 2),
    "fraction": lambda n, d: 1 / (d + 0.25),
    "last": lambda n, d: float(d == 0),
}


@torch.no_grad()
def update_centre(centre: Tensor, teacher_logits: Sequence[Tensor], momentum: float = CENTRE_MOMENTUM) -> Tensor:
    """The moving mean of what the teacher puts out: momentum centre + (1 - momentum) mean(teacher_logits).

    Call it after the loss, with the logits as the teacher made them: not centred, not sharpened.

    Source: Eq. 1, Seia et al. 2023.
    Deviation: the mean runs over the 2B rows of both views, not over B (S3). A process sees its own rows alone.

    Args:
        centre: (K,); zeros at the start.
        teacher_logits: Of both views, each (B, K).
        momentum: m, in [0, 1].

    Returns:
        The new centre, (K,), without gradient; the old one is not changed.

    Raises:
        ParameterError: Another momentum, or shapes that do not fit.
    """
    if not 0 <= momentum <= 1:
        raise ParameterError("momentum", found=momentum, wanted="0 to 1", next_step="0.9 is published")
    _same_logits(teacher_logits, centre)
    mean = torch.stack([view.float().mean(dim=0) for view in teacher_logits]).mean(dim=0)
    return (momentum * centre.float() + (1 - momentum) * mean).to(centre.dtype)


def tempered_softmax(
    logits: Tensor, temperature: float, centre: Tensor | None = None, form: SoftmaxForm = "recommended"
) -> Tensor:
    """Probabilities over the K outputs: softmax((logits - centre) / temperature).

    ``printed`` is exp(logits + centre) / temperature over the sum of the same: the temperature cancels (S1), and the
    centre is added, which makes a preferred output more preferred (S2). ``plus_centre`` has the second fault alone,
    softmax((logits + centre) / temperature); ``printed`` without a centre has the first alone.

    Source: Eq. 2, Seia et al. 2023, and the centring in the text before Eq. 1.
    Deviation: by default the temperature divides the logits and the centre is subtracted, as in the public code.

    Args:
        logits: (B, K).
        temperature: T > 0; small ones sharpen.
        centre: (K,), for a teacher; None for a student.
        form: One of the three.

    Returns:
        (B, K) float32, each row sums to 1.

    Raises:
        ParameterError: Another form, a temperature that is not positive, or shapes that do not fit.
    """
    return _exponents(logits, temperature, centre, form).softmax(dim=-1)


def stage_weights(stages: int, weights: StageWeights = "constant") -> tuple[float, ...]:
    """Weights of the stages' losses, from the finest stage to the deepest; they sum to one.

    The paper weighs all alike (``constant``); the public code also offers these, with d = 0 for the deepest stage, 1
    for the one before it: ``linear`` 1 - d / (stages + 1), ``exp`` exp(-d / 2), ``fraction`` 1 / (d + 1/4), and
    ``last``, the deepest alone.

    Args:
        stages: N, 1 or more.
        weights: One of the five.

    Raises:
        ParameterError: Other weights, or no stage.
    """
    chosen("weights", weights, tuple(WEIGHTS))
    if stages < 1:
        raise ParameterError("stages", found=stages, wanted="1 or more", next_step="count the student's heads")
    raw = [WEIGHTS[weights](stages, distance) for distance in reversed(range(stages))]
    return tuple(weight / sum(raw) for weight in raw)


def stage_losses(
    student_logits: Sequence[Sequence[Tensor]],
    teacher_logits: Sequence[Tensor],
    centre: Tensor,
    student_temperature: float = STUDENT_TEMPERATURE,
    teacher_temperature: float = 0.07,
    form: SoftmaxForm = "recommended",
) -> Tensor:
    """Each stage's cross-entropy: -sum_k P_t(x)_k log P_s(x')_k, mean over x' = the other view, and over the batch.

    Args:
        student_logits: For each stage, finest first, those of both views, each (B, K).
        teacher_logits: Of both views, each (B, K); no gradient flows into them.
        centre: (K,), of the teacher's logits; zeros for no centring.
        student_temperature: T_s.
        teacher_temperature: T_t.
        form: As of :func:`tempered_softmax`, for student and teacher.

    Returns:
        (N,) float32, each >= 0; log(K) where the student is undecided.

    Raises:
        ParameterError: No stage, other than two views, shapes that do not fit, or as :func:`tempered_softmax`.
    """
    if not len(student_logits) or any(len(views) != 2 for views in [teacher_logits, *student_logits]):
        found = f"{len(teacher_logits)} of the teacher, {[len(views) for views in student_logits]} by stage"
        step = "pass student_logits[stage][view] and teacher_logits[view]"
        raise ParameterError("views", found=found, wanted="two each, of one stage or more", next_step=step)
    _same_logits([*teacher_logits, *chain.from_iterable(student_logits)], centre)
    with torch.no_grad():
        first, second = (_exponents(view, teacher_temperature, centre, form).softmax(dim=-1) for view in teacher_logits)
    losses = []
    for views in student_logits:
        of_first, of_second = (_exponents(v, student_temperature, None, form).log_softmax(dim=-1) for v in views)
        pairs = (first * of_second).sum(dim=-1), (second * of_first).sum(dim=-1)
        losses.append(-torch.stack(pairs).mean())
    return torch.stack(losses)


def self_distillation_loss(
    student_logits: Sequence[Sequence[Tensor]],
    teacher_logits: Sequence[Tensor],
    centre: Tensor,
    student_temperature: float = STUDENT_TEMPERATURE,
    teacher_temperature: float = 0.07,
    weights: StageWeights = "constant",
    form: SoftmaxForm = "recommended",
) -> Tensor:
    """Every stage of the student, seeing one view, is to say what the teacher says of the other.

    The formula is sum_i w_i 1/2 sum_(x, x') H(P_t(x), P_s,i(x')) with H(a, b) = -sum_k a_k log(b_k), w_i = 1/N, mean
    over the batch; (x, x') is first and second view, and second and first.

    Source: Eq. 3, Seia et al. 2023.
    Deviation: H sums over the K outputs, each stage has its own P_s,i, and the two pairs are averaged; as printed, H is
        a vector, P_s has no stage, and the pairs are added (S4). ``weights`` other than ``constant`` are the public
        code's, as of :func:`stage_weights`.

    Args:
        student_logits: For each stage, finest first, those of both views, each (B, K).
        teacher_logits: Of both views, each (B, K), of the deepest stage; no gradient flows into them.
        centre: (K,), of the teacher's logits; zeros for no centring.
        student_temperature: T_s.
        teacher_temperature: T_t.
        weights: As of :func:`stage_weights`.
        form: As of :func:`tempered_softmax`, for student and teacher.

    Returns:
        A scalar >= 0; log(K) where the student is undecided.

    Raises:
        ParameterError: As :func:`stage_losses` and :func:`stage_weights`.
    """
    losses = stage_losses(student_logits, teacher_logits, centre, student_temperature, teacher_temperature, form)
    return (losses * losses.new_tensor(stage_weights(len(losses), weights))).sum()


def _exponents(logits: Tensor, temperature: float, centre: Tensor | None, form: str) -> Tensor:
    """What a softmax is taken of, float32; exp(g) / T is exp(g - log(T))."""
    chosen("form", form, get_args(SoftmaxForm))
    if not (temperature > 0 and math.isfinite(temperature)):
        step = "published: 0.1 for the student, 0.04 to 0.07 for the teacher"
        raise ParameterError("temperature", found=temperature, wanted="a positive number", next_step=step)
    _same_logits([logits], centre)
    g = logits.float()
    if centre is not None:
        g = g - centre.float() if form == "recommended" else g + centre.float()
    return g - math.log(temperature) if form == "printed" else g / temperature


def _same_logits(logits: Sequence[Tensor], centre: Tensor | None) -> None:
    """Refuse logits that are not all of one shape (B, K), or a centre that is not (K,): nothing is broadcast."""
    shapes = {tuple(view.shape) for view in logits}
    fits = len(shapes) == 1 and all(len(shape) == 2 and shape[0] > 0 for shape in shapes)
    if not fits or (centre is not None and tuple(centre.shape) != next(iter(shapes))[1:]):
        found = f"{sorted(shapes)}, centre {None if centre is None else tuple(centre.shape)}"
        step = "pass each view's logits by themselves, and a centre of their length"
        raise ParameterError("logits", found=found, wanted="(B, K) each, centre (K,)", next_step=step)
