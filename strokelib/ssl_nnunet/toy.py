"""Self-distillation in a second: made-up vectors in place of patches, to see what centring and sharpening are for."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from strokelib.errors import ParameterError
from strokelib.ssl_nnunet.collapse import rank_me, teacher_entropy, teacher_spread
from strokelib.ssl_nnunet.losses import (
    STUDENT_TEMPERATURE,
    SoftmaxForm,
    self_distillation_loss,
    tempered_softmax,
    update_centre,
)

VERSION = 1
KINDS, LENGTH, WIDTH, OUTPUTS = 8, 16, 32, 16
BATCH, NOISE, COMMON = 32, 0.6, 1.5
RATE, MOMENTUM, SHARP = 3e-3, 0.9, 0.04


@dataclass(frozen=True)
class ToyHistory:
    """What happened at each step; the collapses are at a loss of 0 and of ``uniform_loss(OUTPUTS)``.

    Args:
        loss: The student's.
        entropy: :func:`strokelib.ssl_nnunet.collapse.teacher_entropy` of the batch.
        spread: :func:`strokelib.ssl_nnunet.collapse.teacher_spread` of the batch.
        rank: :func:`strokelib.ssl_nnunet.collapse.rank_me` of the teacher's latent vectors.
    """

    loss: tuple[float, ...]
    entropy: tuple[float, ...]
    spread: tuple[float, ...]
    rank: tuple[float, ...]


class ToyNetwork(nn.Module):
    """Two stages with a head each, without batch normalisation, which would itself keep vectors apart."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(nn.Linear(n, WIDTH), nn.GELU()) for n in (LENGTH, WIDTH))
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in self.stages)
        self.last = nn.ModuleList(nn.Linear(WIDTH, OUTPUTS) for _ in self.stages)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Logits of both stages, and the latent vectors of the deepest, for (n, LENGTH) vectors."""
        logits = []
        for stage, head, last in zip(self.stages, self.heads, self.last, strict=True):
            x = stage(x)
            latent = head(x)
            logits.append(last(latent))
        return logits, latent


def toy_run(
    centring: bool = True,
    sharpening: bool = True,
    steps: int = 120,
    seed: int = 0,
    form: SoftmaxForm = "recommended",
) -> ToyHistory:
    """Train a tiny student and its teacher with the losses of the method; about a second on one core.

    The vectors are of eight kinds, with much in common, as patches of heads have; the two views are one vector with
    noise added twice.

    Args:
        centring: Without, the centre stays 0: the teacher soon gives one output for every vector.
        sharpening: Without, the teacher's temperature is the student's: it soon gives all outputs alike.
        steps: Of AdamW, 32 pairs of views each.
        seed: Of vectors, weights and noise; the global generators are left alone.
        form: As of :func:`strokelib.ssl_nnunet.losses.tempered_softmax`.

    Raises:
        ParameterError: No steps, or another form.
    """
    if steps < 1:
        raise ParameterError("steps", found=steps, wanted="1 or more", next_step="120 are enough to see a collapse")
    draw = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = ToyNetwork()
    teacher = deepcopy(student).requires_grad_(False)
    kinds = torch.randn(KINDS, LENGTH, generator=draw) + COMMON * torch.randn(LENGTH, generator=draw)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE)
    centre, temperature = torch.zeros(OUTPUTS), SHARP if sharpening else STUDENT_TEMPERATURE
    rows = []
    for _ in range(steps):
        vectors = kinds[torch.randint(KINDS, (BATCH,), generator=draw)].repeat(2, 1)
        views = vectors + NOISE * torch.randn(vectors.shape, generator=draw)
        said, latent = teacher(views)
        said = said[-1]
        pairs = [stage.chunk(2) for stage in student(views)[0]]
        loss = self_distillation_loss(pairs, said.chunk(2), centre, teacher_temperature=temperature, form=form)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        p = tempered_softmax(said, temperature, centre, form)
        rows.append((float(loss.detach()), teacher_entropy(p), teacher_spread(p), rank_me(latent)))
        if centring:
            centre = update_centre(centre, said.chunk(2))
        with torch.no_grad():
            for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
                own.lerp_(other, 1 - MOMENTUM)
    return ToyHistory(*(tuple(column) for column in zip(*rows, strict=True)))
