"""Deep self-distillation: a student with a projection head after every stage of its encoder, and its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.precision import full_precision
from strokelib.ssl_nnunet.network import PlainConvEncoder, Triples

VERSION = 1
MIB = 2**20


def pooled(features: Tensor) -> Tensor:
    """Global average (B, C), float32 or better, of a stage's output (B, C, D, H, W)."""
    return features.mean((2, 3, 4), dtype=torch.promote_types(features.dtype, torch.float32))


class Prototypes(nn.Module):
    """Weight-normalised linear layer without bias whose gains are fixed at 1: logit k is the product with unit row k.

    Args:
        in_features: Length of the input vectors.
        out: Number K of prototypes.
    """

    def __init__(self, in_features: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out, in_features))
        nn.init.uniform_(self.weight, -(in_features**-0.5), in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) to (B, K)."""
        return functional.linear(x, functional.normalize(self.weight, dim=1))


class ProjectionHead(nn.Module):
    """Maps a pooled stage to K logits: two hidden layers, a bottleneck of unit length, unit prototypes.

    Source: Sec. 3.4, Seia et al. 2023.
    Deviation: the unit length of the bottleneck and the gains fixed at 1 are those of the public code, the paper has
        "weight-normalised" alone: a logit is a cosine, in [-1, 1]. Gains that never move are no parameters here, which
        with six heads makes 131,343,872 of the code's 131,737,088. The start is the code's: linear layers normal with
        SD 0.02, biases 0; prototypes uniform within 1 / sqrt(bottleneck).

    ``linear - batch norm - GELU - linear - batch norm - GELU - linear``, and the length of the result set to 1. With
    the default sizes 21,573,888 to 22,163,712 parameters for 32 to 320 features. The last two steps are computed in
    float32 also under autocast: a temperature of 0.04 turns bfloat16's steps of 1/256 into 0.1.

    In train mode batch normalisation takes the statistics of the rows given together, and one row has none.

    Args:
        in_features: Length of the pooled features.
        hidden: Width of the two hidden layers.
        bottleneck: Length of the latent vector.
        out: Number K of logits.
    """

    def __init__(self, in_features: int, hidden: int = 2048, bottleneck: int = 256, out: int = 65536) -> None:
        super().__init__()
        if min(in_features, hidden, bottleneck, out) < 1:
            found = f"in_features={in_features}, hidden={hidden}, bottleneck={bottleneck}, out={out}"
            raise ParameterError("projection head", found=found, wanted="1 or more each", next_step="correct the sizes")
        self.in_features = in_features
        self.mlp = nn.Sequential(
            *(nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden), nn.GELU()),
            *(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.GELU()),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.prototypes = Prototypes(bottleneck, out)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and latent vectors of pooled features.

        Args:
            x: (B, in_features).

        Returns:
            Logits (B, K) in [-1, 1], and what the hidden layers make of x, (B, bottleneck), before its length is set to
            1: "produced by the MLP", as RankMe reads it (the public code measures it afterwards). Float32 or better.

        Raises:
            ParameterError: Another shape, or a single row in train mode.
        """
        if x.dim() != 2 or x.shape[1] != self.in_features or len(x) < 1 + self.training:
            raise ParameterError(
                "input of the projection head",
                found=f"shape {tuple(x.shape)} in {'train' if self.training else 'eval'} mode",
                wanted=f"(B, {self.in_features}), in train mode with B of 2 or more, as batch normalisation compares "
                "rows and would make zeros of one",
                next_step="take a larger batch, or eval mode",
            )
        latent = self.mlp(x)
        latent = latent.to(torch.promote_types(latent.dtype, torch.float32))
        with full_precision(x):
            return self.prototypes(functional.normalize(latent, dim=1)), latent


class Student(nn.Module):
    """An encoder with a projection head for each of its stages.

    Args:
        encoder: With N stages.
        heads: N heads, fine to coarse.
    """

    def __init__(self, encoder: PlainConvEncoder, heads: Sequence[ProjectionHead]) -> None:
        super().__init__()
        self.encoder, self.heads = encoder, nn.ModuleList(heads)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits (B, K) of each stage, fine to coarse, of views (B, C, D, H, W)."""
        return [head(pooled(stage))[0] for head, stage in zip(self.heads, self.encoder(x), strict=True)]


class Teacher(nn.Module):
    """A complete encoder with one projection head after its last stage; nothing in it has a gradient.

    Args:
        encoder: Its parameters are frozen.
        head: Likewise.
    """

    def __init__(self, encoder: PlainConvEncoder, head: ProjectionHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and latent vectors (B, bottleneck) of views (B, C, D, H, W), as :class:`ProjectionHead`."""
        return self.head(pooled(self.encoder(x)[-1]))


class Distilled(NamedTuple):
    """What student and teacher make of two views of B scans.

    Args:
        student: For each stage, fine to coarse, the logits (B, K) of the first and of the second view.
        teacher: Logits (B, K) of the first and of the second view, before centring; without gradient.
        latent: The teacher's latent vectors of the first, then of the second views, (2 B, bottleneck).
    """

    student: list[tuple[Tensor, Tensor]]
    teacher: tuple[Tensor, Tensor]
    latent: Tensor


class DeepSelfDistillation(nn.Module):
    """Student and teacher of the pre-training, with the centre of the teacher's outputs: all that a resumed run needs.

    Source: Sec. 3.4, Seia et al. 2023.
    Deviation: the teacher starts as a copy of the student's encoder and last head; the other heads have no twin (S36).

    The optimiser gets ``student.parameters()``. After its step :meth:`update_teacher` moves the teacher; the buffer
    ``centre`` (K,), which starts at 0, is for :func:`strokelib.ssl_nnunet.losses.update_centre`.

    In train mode the teacher, too, normalises by batch: as in DINO and in the public code. Its running statistics come
    from the views it sees, not from the student's; they are what eval mode uses.

    Args:
        in_channels: As in :class:`strokelib.ssl_nnunet.network.PlainConvEncoder`.
        features: Likewise.
        strides: Likewise.
        kernels: Likewise.
        convs: Likewise.
        hidden: As in :class:`ProjectionHead`.
        bottleneck: Likewise.
        out: Likewise, K.

    Raises:
        ParameterError: As the encoder and the head.
    """

    centre: Tensor

    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        strides: Triples,
        kernels: Triples | None = None,
        convs: int = 2,
        hidden: int = 2048,
        bottleneck: int = 256,
        out: int = 65536,
    ) -> None:
        super().__init__()
        encoder = PlainConvEncoder(in_channels, features, strides, kernels, convs)
        self.student = Student(encoder, [ProjectionHead(n, hidden, bottleneck, out) for n in features])
        self.teacher = Teacher(deepcopy(encoder), deepcopy(self.student.heads[-1]))
        self.register_buffer("centre", torch.zeros(out))

    def forward(self, view1: Tensor, view2: Tensor) -> Distilled:
        """Pass both views through both networks, each time together, so that a batch normalisation sees 2 B rows.

        Args:
            view1: (B, C, D, H, W); in train mode B is 2 or more.
            view2: Same shape.

        Raises:
            ParameterError: The shapes differ or do not fit, a value is not finite, or B is 1 in train mode.
        """
        if view1.shape != view2.shape or (self.training and len(view1) < 2):
            raise ParameterError(
                "pair of views",
                found=f"shapes {tuple(view1.shape)} and {tuple(view2.shape)}",
                wanted="twice (B, C, D, H, W); in train mode with B of 2 or more, as batch normalisation "
                "turns two views of one scan into +1 and -1 whatever they show",
                next_step="give the views the same size, and take a larger batch",
            )
        views = torch.cat([view1, view2])
        if not views.is_meta and not bool(views.isfinite().all()):
            step = "check the scans and their normalisation"
            raise ParameterError("pair of views", found="NaN or infinity", wanted="finite values", next_step=step)
        student = [tuple(logits.chunk(2)) for logits in self.student(views)]
        logits, latent = self.teacher(views)
        return Distilled(student, tuple(logits.chunk(2)), latent)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher towards the student: theta_t <- momentum theta_t + (1 - momentum) theta_s.

        Source: Sec. 3.4, Seia et al. 2023.
        Deviation: none. Parameters alone; running statistics stay the teacher's own.

        Args:
            momentum: From 0 (copy the student) to 1 (stay).

        Raises:
            ParameterError: Another momentum.
        """
        if not 0 <= momentum <= 1:
            raise ParameterError("momentum", found=momentum, wanted="0 to 1", next_step="give e.g. 0.9996")
        pairs = (
            (self.teacher.encoder, self.student.encoder),
            (self.teacher.head, self.student.heads[-1]),
        )
        for teacher, student in pairs:
            for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
                own.lerp_(other, 1 - momentum)

    def teacher_encoder(self) -> dict[str, Tensor]:
        """Copy of the teacher's encoder, for :meth:`strokelib.ssl_nnunet.network.NNUNet.load_encoder`."""
        return {name: tensor.detach().clone() for name, tensor in self.teacher.encoder.state_dict().items()}

    def freeze_last_layer(self, frozen: bool = True) -> None:
        """Keep the student's prototypes as they are, as the public code does in the first epoch, or let them go."""
        for head in self.student.heads:
            weight = head.prototypes.weight
            weight.requires_grad_(not frozen)
            if frozen:
                weight.grad = None  # a stale gradient would still move the weight


def head_memory(
    batch: int, features: Sequence[int], hidden: int = 2048, bottleneck: int = 256, out: int = 65536
) -> dict[str, float]:
    """Memory in MiB that the projection heads need in training, in float32.

    Args:
        batch: Pairs of views B.
        features: Channels of the stages; a head for each in the student, one for the last in the teacher.
        hidden: As in :class:`ProjectionHead`.
        bottleneck: Likewise.
        out: Likewise, K.

    Returns:
        ``weights`` (both networks), ``gradients`` and ``moments`` (the student's; AdamW has two), ``logits`` of both
        views and networks, ``unit_rows`` (the student's normalised prototypes, kept for the backward pass), and their
        ``total``. The log-softmax of the loss and its gradient need the student's share of ``logits`` again, twice.
    """
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in ProjectionHead(n, hidden, bottleneck, out).parameters()) for n in features]
    scalars = {
        "weights": sum(sizes) + sizes[-1],
        "gradients": sum(sizes),
        "moments": 2 * sum(sizes),
        "logits": (len(features) + 1) * 2 * batch * out,
        "unit_rows": len(features) * out * bottleneck,
    }
    found = {name: 4 * n / MIB for name, n in scalars.items()}
    return found | {"total": sum(found.values())}
