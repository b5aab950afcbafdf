"""Switchable normalisation: a learned mixture of instance, layer and batch statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from strokelib.errors import ParameterError

VERSION = 1


class SwitchNorm(nn.Module):
    """Normalises by means and variances that are each mixed from three scopes, in shares that are learned.

    The formula is weight (x - sum_k w_k mean_k) / sqrt(sum_k v_k variance_k + eps) + bias, where k runs over instance
    (one channel of one image), layer (all channels of one image) and batch (one channel of all images), w is the
    softmax of ``mean_logits`` and v that of ``variance_logits``. Variances divide by the number of values.

    Source: Sec. 3, Luo et al. 2018 (switchable normalization).
    Deviation: none; written from the formula.

    The layer holds two buffers, ``running_mean`` and ``running_variance`` (channels,), which start at 0 and 1. Each
    forward pass in training moves them to momentum * old + (1 - momentum) * batch; in evaluation they stand for the
    batch, so that an image's result does not depend on its neighbours. Instance and layer always come from the input.
    Statistics are float32 for inputs of lower precision; the output has the input's type and shape.

    Args:
        channels: Channels C of the input.
        dims: 2 for (B, C, H, W), 3 for (B, C, D, H, W).
        momentum: Share that the running statistics keep at each step.
        eps: Added to the variance.
    """

    def __init__(self, channels: int, dims: int = 2, momentum: float = 0.9, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.dims, self.momentum, self.eps = channels, dims, momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean_logits = nn.Parameter(torch.zeros(3))
        self.variance_logits = nn.Parameter(torch.zeros(3))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, *size).

        Raises:
            ParameterError: The input has another number of axes or channels.
        """
        if x.dim() != self.dims + 2 or x.shape[1] != self.channels:
            sides = ", ".join(["D", "H", "W"][-self.dims :])
            raise ParameterError(
                "input of the switchable normalisation",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.channels}, {sides})",
                next_step="build the layer with the input's channels and dims",
            )
        running = None if self.training else (self.running_mean, self.running_variance)
        y, batch_mean, batch_variance = _Switch.apply(
            x, self.weight, self.bias, self.mean_logits, self.variance_logits, self.eps, running
        )
        if self.training:
            for kept, now in ((self.running_mean, batch_mean), (self.running_variance, batch_variance)):
                kept.lerp_(now.to(kept.dtype), 1 - self.momentum)
        return y

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"{self.channels}, dims={self.dims}, momentum={self.momentum}, eps={self.eps}"


class _Switch(Function):
    """The layer's formula with its gradient by hand: some sixty small tensors of automatic differentiation less."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean_logits: Tensor,
        variance_logits: Tensor,
        eps: float,
        running: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The normalised image, and mean and variance of the batch (C,)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=tuple(range(2, x.dim())), correction=0)
        layer = _pooled(mean, variance, 1)
        batch = _pooled(mean, variance, 0) if running is None else (running[0][None], running[1][None])
        w, v = mean_logits.softmax(0), variance_logits.softmax(0)
        mixed_mean = w[0] * mean + w[1] * layer[0] + w[2] * batch[0]
        inverse = (v[0] * variance + v[1] * layer[1] + v[2] * batch[1] + eps).rsqrt_()
        scale = weight * inverse
        shape = (*mean.shape, *[1] * (x.dim() - 2))
        y = torch.addcmul((bias - mixed_mean * scale).view(shape), wide, scale.view(shape)).to(x.dtype)
        ctx.save_for_backward(x, weight, w, v, mean, variance, *layer, *batch, mixed_mean, inverse)
        ctx.in_training = running is None
        batch_mean, batch_variance = batch[0][0], batch[1][0]
        ctx.mark_non_differentiable(batch_mean, batch_variance)
        return y, batch_mean, batch_variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of image, weight, bias and both sets of logits."""
        x, weight, w, v, mean, variance, lm, lv, bm, bv, mixed_mean, inverse = ctx.saved_tensors
        axes, n = tuple(range(2, x.dim())), x[0, 0].numel()
        wide, g = x.to(mean.dtype), grad.to(mean.dtype)
        total, product = g.sum(axes), (g * wide).sum(axes)
        to_scale, scale = product - mixed_mean * total, weight * inverse
        to_mean, to_variance = -scale * total, -0.5 * to_scale * weight * inverse**3
        to_w = torch.stack([(to_mean * part).sum() for part in (mean, lm, bm)])
        to_v = torch.stack([(to_variance * part).sum() for part in (variance, lv, bv)])
        of_mean, of_variance = w[0] * to_mean, v[0] * to_variance
        pools = [(1, lm, w[1], v[1])] + ([(0, bm, w[2], v[2])] if ctx.in_training else [])
        for axis, pooled, share, spread in pools:
            # A pooled variance holds the spread of the means it was pooled from.
            mean_part = to_mean.mean(axis, keepdim=True) * share
            variance_part = to_variance.mean(axis, keepdim=True) * spread
            of_mean = of_mean + mean_part + 2 * variance_part * (mean - pooled)
            of_variance = of_variance + variance_part
        slope = of_variance * (2 / n)
        shape = (*mean.shape, *[1] * len(axes))
        to_x = torch.addcmul((of_mean / n - slope * mean).view(shape), wide, slope.view(shape))
        to_x.addcmul_(g, scale.view(shape))
        logits = (w * (to_w - (w * to_w).sum()), v * (to_v - (v * to_v).sum()))
        return to_x.to(x.dtype), (to_scale * inverse).sum(0), total.sum(0), *logits, None, None


def _pooled(mean: Tensor, variance: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of groups of equal size put together along an axis, which stays with length 1."""
    whole = mean.mean(axis, keepdim=True)
    return whole, variance.mean(axis, keepdim=True) + (mean - whole).square().mean(axis, keepdim=True)
