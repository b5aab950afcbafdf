"""SAN-Net: a U-Net on half slices, behind a learned rescaling of each image, trained not to tell sites apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from strokelib.errors import ParameterError
from strokelib.nn.alignment import mirror
from strokelib.nn.blocks import conv_norm_relu
from strokelib.nn.losses import dice_and_cross_entropy
from strokelib.nn.unet import UNet

VERSION = 1
GRID = (56, 48)  # a slice of 224 x 192 after two poolings
STYLE = 16
DARK = 0.1
SMALLEST = 32


class SANOutput(NamedTuple):
    """What :class:`SANNet` returns in training where there are sites to tell apart.

    Logits (B, out_channels, H, W), and logits of the sites (B, sites); on halves those are (2 B, sites), all left
    halves, then all right ones.
    """

    logits: Tensor
    sites: Tensor


class SANNet(UNet):
    """U-Net with masked adaptive normalisation, half slices, and a site classifier behind a gradient reversal.

    Source: Yu et al. 2023 (SAN-Net); comparator of Table II, Sun et al. 2024.
    Deviation: written from the abstract and the facts of the public code, which takes 224 x 192 pixels only: here the
        first part brings every size to the grid that its linear layer has there, so that the weights are as many. That
        code counts 48.5 M parameters with 8 sites and one channel out; 48,522,657 here.

    The image is rescaled (:class:`AdaptiveNormalisation`). Then it is cut in the middle, the right half is mirrored,
    and both go through the network as images of their own (symmetry-inspired augmentation): a half does not see the
    other. The logits come back as whole slices. The U-Net leads up by bilinear upsampling and a 1 x 1 convolution.

    Published training: Dice plus the cross-entropy of the site, SGD 1e-3 with momentum 0.9, times 0.96 an epoch, weight
    decay 1e-4, moving average of the weights with 0.999.

    On one cohort: the classifier was made for sites of a multi-centre set, and one cohort is one site. The
    cross-entropy over one class is 0 with no gradient, whatever the network does; so with ``sites=1`` there is no
    classifier: 29,635,993 parameters with one channel out, 29,636,058 with two. What Sun et al. did on AISD they do not
    say. Groups of cases that differ in acquisition, as two cohorts trained together, can be given as sites.

    Without ``adaptive`` the image goes in as it is: 28,947,586 parameters, other output. Without ``halves`` whole
    slices do, with as many parameters.

    In eval mode, and in training with one site, ``forward`` gives logits; else a :class:`SANOutput` for :meth:`loss`.

    Args:
        in_channels: Channels of the input (B, in_channels, H, W); sides of at least 32 pixels, W even on halves.
        out_channels: Channels of the logits (B, out_channels, H, W).
        width: Channels of the finest level; they double four times.
        adaptive: Have the adaptive normalisation.
        halves: Cut slices into halves.
        sites: Sites to tell apart; 1 for none.

    Raises:
        ParameterError: ``sites`` is below 1.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        width: int = 64,
        adaptive: bool = True,
        halves: bool = True,
        sites: int = 1,
    ) -> None:
        if sites < 1:
            raise ParameterError("sites of the SAN-Net", found=sites, wanted="1 or more", next_step="give sites=1")
        super().__init__(in_channels, out_channels, width)
        self.halves = halves
        self.adaptive = AdaptiveNormalisation(in_channels) if adaptive else None
        self.sites = SiteClassifier(self.widths[-1], sites) if sites > 1 else None
        for block, channels in zip(self.decoder, self.widths[-2::-1], strict=True):
            up = nn.Upsample(scale_factor=2, mode="bilinear")
            block.up = nn.Sequential(up, nn.Conv2d(2 * channels, channels, kernel_size=1))

    def forward(self, x: Tensor, brain: Tensor | None = None) -> Tensor | SANOutput:
        """Logits of images (B, in_channels, H, W); in training with several sites, those of the sites too.

        Args:
            x: Images; outside the brain they hold their lowest value.
            brain: (B, H, W), True in the brain; found by :func:`brain_of` if not given.

        Raises:
            ParameterError: The input has another number of axes or channels, is too small, or cannot be halved.
        """
        fits = x.dim() == 4 and x.shape[1] == self.in_channels and min(x.shape[2:]) >= SMALLEST
        if not fits or (self.halves and x.shape[-1] % 2):
            even = ", W even" if self.halves else ""
            raise ParameterError(
                "input of the SAN-Net",
                found=f"shape {tuple(x.shape)}",
                wanted=f"(B, {self.in_channels}, H, W) with sides of at least {SMALLEST}{even}",
                next_step="pad the image",
            )
        if self.adaptive is not None:
            x = self.adaptive(x, brain_of(x) if brain is None else brain)
        if self.halves:
            x = torch.cat([x.chunk(2, dim=-1)[0], mirror(x).chunk(2, dim=-1)[0]])
        features = self.encode(x)
        logits = self.decode(features)
        if self.halves:
            left, right = logits.chunk(2)
            logits = torch.cat([left, mirror(right)], dim=-1)
        if self.sites is None or not self.training:
            return logits
        return SANOutput(logits, self.sites(reverse_gradient(features[-1])))

    def loss(
        self,
        output: SANOutput,
        target: Tensor,
        segmentation: Callable[[Tensor, Tensor], Tensor] = dice_and_cross_entropy,
        *,
        sites: Tensor,
    ) -> Tensor:
        """segmentation(logits, target) + mean cross-entropy of the sites, one to one as in the public code.

        Args:
            output: From the network in training.
            target: Class numbers (B, H, W).
            segmentation: Loss of logits (B, out_channels, H, W) against the target.
            sites: Number of each image's site (B,).

        Returns:
            A scalar.
        """
        repeated = sites.repeat(len(output.sites) // len(sites))
        return segmentation(output.logits, target) + functional.cross_entropy(output.sites.float(), repeated.long())


class AdaptiveNormalisation(nn.Module):
    """Rescales each image by two numbers that it makes from the image: (gamma(s) x + beta(s)) brain.

    s is a picture of 16 x 16 that a small network makes from the image: two convolutions of 3 x 3 to one channel, each
    with batch normalisation, ReLU and max pooling, means over a grid of 56 x 48 fields, one linear layer. gamma and
    beta are three such convolutions each with two poolings, and the mean; they are not negative, as the last ReLU has
    it.

    Source: Yu et al. 2023 (SAN-Net), masked adaptive instance normalisation.
    Deviation: the grid, see :class:`SANNet`; at 224 x 192 it changes nothing. As in the public code an image's numbers
        depend on its batch in training, by the batch normalisation; in evaluation they do not.

    Args:
        in_channels: Channels of the image; all are rescaled alike.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        pool = nn.MaxPool2d(2)
        self.style = nn.Sequential(
            conv_norm_relu(in_channels, 1),
            pool,
            conv_norm_relu(1, 1),
            pool,
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
            nn.Linear(GRID[0] * GRID[1], STYLE * STYLE),
            nn.Unflatten(1, (1, STYLE, STYLE)),
        )
        self.gamma, self.beta = (
            nn.Sequential(
                conv_norm_relu(1, 1),
                pool,
                conv_norm_relu(1, 1),
                pool,
                conv_norm_relu(1, 1),
                nn.AdaptiveAvgPool2d(1),
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor, brain: Tensor) -> Tensor:
        """(B, in_channels, H, W) and (B, H, W) to the shape of the first; 0 outside the brain."""
        style = self.style(x)
        return (self.gamma(style) * x + self.beta(style)) * brain[:, None]


class SiteClassifier(nn.Sequential):
    """Says of which site a feature map is: two convolutions, the mean, one linear layer.

    Args:
        channels: Channels of the map (B, channels, H, W).
        sites: Number of sites; the result is (B, sites).
    """

    def __init__(self, channels: int, sites: int) -> None:
        pool = nn.MaxPool2d(2, ceil_mode=True)
        convolutions = (conv_norm_relu(channels, channels), pool, conv_norm_relu(channels, channels))
        super().__init__(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, sites))


class _Reversal(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


def reverse_gradient(x: Tensor) -> Tensor:
    """The same values; on the way back the gradient changes its sign. What comes before learns against what follows."""
    return _Reversal.apply(x)


def brain_of(images: Tensor) -> Tensor:
    """Where the brain is, for slices that hold their lowest value outside it.

    A pixel is bright if it is more than a tenth of the slice's range above its lowest value. The brain is where bright
    pixels lie on both sides along the row and along the column, or the pixel is bright itself: dark places within, as
    ventricles below the window, belong to it.

    Args:
        images: (B, C, H, W); the first channel counts.

    Returns:
        (B, H, W) bool; all False in a slice of one value.
    """
    first = images[:, 0].detach()
    low, high = first.amin((1, 2), keepdim=True), first.amax((1, 2), keepdim=True)
    bright = (first > low + DARK * (high - low)).byte()
    inside = torch.ones_like(bright)
    for axis in (1, 2):
        inside &= bright.cummax(axis).values & bright.flip(axis).cummax(axis).values.flip(axis)
    return inside.bool()
