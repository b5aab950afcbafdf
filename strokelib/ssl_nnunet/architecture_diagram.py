"""Figure 3 of Seia et al. 2023: nnU-Net as a U, drawn from its live module. Coordinates are inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from strokelib.errors import DataError
from strokelib.figures.diagrams import INK, LABEL_PT, PLAIN_COLOUR, SKIP_COLOUR, SMALL_PT, arrow, canvas, write
from strokelib.figures.traces import Stage, counted, sides, trace
from strokelib.ssl_nnunet.network import ConvBlock, NNUNet
from strokelib.ssl_nnunet.supervision import WeightForm, deep_supervision_weights

PATCH = (96, 160, 160)
STRIDED, PLAIN, UP, HEAD = "#E69F00", "#56B4E9", "#009E73", "#CC79A7"
WIDE_IN, ENTRY_IN, SPAN_IN, MOST_IN, LEVEL_GAP_IN = 0.12, 0.3, 4.8, 0.55, 0.3
LEFT_IN, OUTPUT_IN, TOP_IN, BOTTOM_IN, HEIGHT_IN = 1.12, 6.24, 4.22, 0.28, 4.5


@dataclass(frozen=True)
class Level:
    """One resolution of the U.

    Args:
        shape: Of its maps, (B, C, D, H, W).
        stride: (z, y, x) of the step down to it.
        down: Channels after each convolution of the encoder.
        up: Channels that come from below, or 0 at the lowest level.
        back: Channels after each convolution of the decoder.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    down: tuple[int, ...]
    up: int = 0
    back: tuple[int, ...] = ()


def levels_of(network: NNUNet, stages: Sequence[Stage]) -> list[Level]:
    """The levels of a traced network, fine to coarse."""
    levels, lowest = [], len(network.encoder.strides) - 1
    for number, stride in enumerate(network.encoder.strides):
        down = [stage for stage in stages if stage.name.startswith(f"encoder.stages.{number}.")]
        step = lowest - 1 - number
        back = [stage for stage in stages if stage.name.startswith(f"stages.{step}.")]
        up = [stage.shape[1] for stage in stages if stage.name == f"ups.{step}"]
        channels = (tuple(stage.shape[1] for stage in part) for part in (down, back))
        levels.append(Level(down[-1].shape, stride, next(channels), sum(up), next(channels)))
    return levels


def fig03_architecture(network: NNUNet, *, patch: Sequence[int] = PATCH, weights: WeightForm = "halving") -> Figure:
    """Encoder and decoder, their channels, sizes and strides, and the outputs that a loss sees.

    Source: Fig. 3, Seia et al. 2023.
    Deviation: traced in our module; there are five steps up and four losses (S18, S19), and the lowest step down keeps
        the slices (S16).

    Args:
        network: Only its shapes matter.
        patch: Size (D, H, W) of its input.
        weights: Form of the losses' weights, see
            :func:`strokelib.ssl_nnunet.supervision.deep_supervision_weights`.

    Raises:
        DataError: The network has more than two convolutions a stage, for which there is no room.
    """
    if network.encoder.convs > 2:
        step = "draw the network with two convolutions a stage"
        raise DataError("network", found=f"{network.encoder.convs} a stage", wanted="1 or 2", next_step=step)
    entry = torch.empty(1, network.encoder.in_channels, *patch, device="meta")
    stages = trace(network, entry, whole=(ConvBlock,))
    levels = levels_of(network, stages)
    figure, ax = canvas(HEIGHT_IN)
    ax.set_autoscale_on(False)
    shares = np.sqrt([level.shape[3] / levels[0].shape[3] for level in levels])
    tall = (TOP_IN - BOTTOM_IN - LEVEL_GAP_IN * (len(levels) - 1)) / shares.sum() * shares
    tops = TOP_IN - np.concatenate([[0.0], np.cumsum(tall + LEVEL_GAP_IN)[:-1]])
    left, right = _places(levels)
    widths = WIDE_IN * np.sqrt([level.shape[1] / levels[-1].shape[1] for level in levels])
    entry_x, middle = LEFT_IN - ENTRY_IN, tops[0] - tall[0] / 2
    wide = WIDE_IN * np.sqrt(entry.shape[1] / levels[-1].shape[1])
    _bar(ax, entry_x, wide, tops[0], tall[0], PLAIN_COLOUR, entry.shape[1])
    arrow(ax, (entry_x + wide / 2 + 0.015, middle), (left[0][0] - widths[0] / 2 - 0.015, middle))
    for number, level in enumerate(levels):
        _level(ax, level, (left[number], right[number]), (tops[number], tall[number]), widths[number], bool(number))
    for number, below in enumerate(levels[1:]):
        ends = (tops[number] - tall[number] - 0.02, tops[number + 1] + 0.14)
        x = left[number + 1][0]
        arrow(ax, (x, ends[0]), (x, ends[1]), colour=STRIDED)
        said = " × ".join(map(str, below.stride))
        write(ax, x - 0.06, sum(ends) / 2, f"÷ {said}", ha="right", fontsize=SMALL_PT, color="0.35")
        arrow(ax, (right[number][0], ends[1]), (right[number][0], ends[0]), colour=UP)
    _outputs(ax, network, levels, right, (tops, tall), widths, weights)
    _key(ax, network, stages)
    return figure


def _places(levels: Sequence[Level]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Middles of the bars of each level: the encoder's, and the decoder's with the joined map first.

    A map lies under or over the one that it was made from; the lowest level is wider, for the skip connection above.
    """
    steps = sum(len(level.down) - 1 + len(level.back) for level in levels) + 1
    step = min(SPAN_IN / steps, MOST_IN)
    left, right = [LEFT_IN + step * np.arange(len(levels[0].down))], [np.empty(0)]
    for level in levels[1:]:
        left.append(left[-1][-1] + step * np.arange(len(level.down)))
    left[-1][1:] += step
    last = left[-1][0] + step * len(levels[-1].down)
    for level in levels[-2::-1]:
        right.insert(0, last + step * np.arange(1 + len(level.back)))
        last = right[0][-1]
    return left, right


def _bar(ax: Axes, x: float, width: float, top: float, tall: float, colour: str, channels: int | str = "") -> None:
    ax.add_patch(Rectangle((x - width / 2, top - tall), width, tall, facecolor=colour, edgecolor=INK, linewidth=0.5))
    write(ax, x, top + 0.07, f"{channels}", fontsize=SMALL_PT)


def _level(
    ax: Axes, level: Level, places: tuple[np.ndarray, np.ndarray], span: tuple[float, float], width: float, low: bool
) -> None:
    """The bars of a level between its upper edge and its height, with size, channels and arrows."""
    (left, right), (top, tall) = places, span
    middle = top - tall / 2
    for number, (x, channels) in enumerate(zip(left, level.down, strict=True)):
        _bar(ax, x, width, top, tall, STRIDED if low and not number else PLAIN, channels)
    if len(right):
        for side, colour in ((-1, PLAIN_COLOUR), (1, UP)):
            _bar(ax, right[0] + side * width / 2, width, top, tall, colour)
        write(ax, right[0], top + 0.07, f"{level.down[-1] + level.up}", fontsize=SMALL_PT)
        for x, channels in zip(right[1:], level.back, strict=True):
            _bar(ax, x, width, top, tall, PLAIN, channels)
        arrow(ax, (left[-1] + width / 2 + 0.04, middle), (right[0] - width - 0.03, middle), colour=SKIP_COLOUR)
    for row, first in ((left, width / 2), (right, width)):
        for before, after in pairwise(row):
            wide = first if before == row[0] else width / 2
            arrow(ax, (before + wide + 0.015, middle), (after - width / 2 - 0.015, middle))
    off = width / 2 + 0.06 if low else ENTRY_IN + 0.08
    write(ax, left[0] - off, middle, sides(level.shape), ha="right", fontsize=SMALL_PT)


def _outputs(
    ax: Axes,
    network: NNUNet,
    levels: Sequence[Level],
    right: Sequence[np.ndarray],
    spans: tuple[np.ndarray, np.ndarray],
    widths: np.ndarray,
    form: WeightForm,
) -> None:
    """The logits of every resolution with a loss, and its weight."""
    shares = deep_supervision_weights(network.supervised, form) if network.deep_supervision else (1.0,)
    for number, share in enumerate(shares):
        middle = spans[0][number] - spans[1][number] / 2
        arrow(ax, (right[number][-1] + widths[number] / 2 + 0.02, middle), (OUTPUT_IN - 0.05, middle), colour=HEAD)
        said = f"{network.out_channels} × {sides(levels[number].shape)}\n" + rf"$w_{number + 1}$ = {share:.4f}"
        write(ax, OUTPUT_IN, middle, said, ha="left", fontsize=SMALL_PT)


def _key(ax: Axes, network: NNUNet, stages: Sequence[Stage]) -> None:
    """What colours mean, and how many parameters each part has."""
    kernels = sorted({" × ".join(map(str, kernel)) for kernel in network.encoder.kernels})
    conv = f"conv {' or '.join(kernels)} + IN + leaky ReLU"
    names = {
        PLAIN: conv,
        STRIDED: f"{conv}, strided",
        UP: "transposed conv, kernel = stride",
        PLAIN_COLOUR: "input, skip",
    }
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=name) for colour, name in names.items()
    ]
    lines = {SKIP_COLOUR: "skip connection, joined", HEAD: "conv 1 × 1 × 1 to logits, loss of weight $w$"}
    handles += [Line2D([], [], color=colour, linewidth=1.2, label=name) for colour, name in lines.items()]
    ax.legend(handles=handles, loc="lower right", frameon=False, fontsize=LABEL_PT, borderaxespad=0.4)
    encoder = sum(stage.parameters for stage in stages if stage.name.startswith("encoder."))
    heads = sum(parameter.numel() for parameter in network.heads.parameters())
    total = sum(parameter.numel() for parameter in network.parameters())
    rows = {"parameters": total, "heads": heads, "decoder": total - heads - encoder, "encoder": encoder}
    for number, (name, count) in enumerate(rows.items()):
        bold = {} if number else {"weight": "bold"}
        write(ax, 0.8, 0.16 + 0.16 * number, name, ha="right", va="baseline", **bold)
        write(ax, 1.45, 0.16 + 0.16 * number, counted(count), ha="right", va="baseline", **bold)
