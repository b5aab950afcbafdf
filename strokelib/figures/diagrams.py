"""Block diagrams of networks, drawn from their traces. Coordinates are inches from the lower left corner."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle

from strokelib.figures.traces import Stage, counted, merged, sides

WIDTH_IN = 7.2
INK, SKIP_COLOUR, PLAIN_COLOUR = "#34495E", "0.6", "#E8ECF0"
STAGE_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#0072B2")
SMALL_PT, LABEL_PT = 6.0, 6.5
# Classes by the words of papers; another class keeps its name.
WORDS = {
    "Conv2d": "conv",
    "ConvTranspose2d": "up-conv",
    "MaxPool2d": "max pool",
    "AdaptiveAvgPool2d": "adaptive average pool",
    "BatchNorm2d": "BN",
    "SwitchNorm": "SN",
    "SqueezeExcitation": "SE",
    "LeakyReLU": "leaky ReLU",
}


def canvas(height_in: float, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """An empty figure with one axis over all of it, in inches from the lower left corner."""
    figure = plt.figure(figsize=(width_in, height_in))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width_in), ylim=(0, height_in))
    ax.axis("off")
    return figure, ax


def write(ax: Axes, x: float, y: float, text: str, **how: object) -> None:
    """Text centred at a point."""
    ax.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": LABEL_PT, "linespacing": 1.15, **how})


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    colour: str = INK,
    style: str = "-|>",
    dashed: bool = False,
    bend: str = "arc3",
) -> None:
    """A line from point to point.

    Args:
        ax: Made by :func:`canvas`.
        start: (x, y).
        end: (x, y).
        colour: Of line and head.
        style: ``-|>`` or, with heads at both ends, ``<|-|>``.
        dashed: Dashes.
        bend: How it gets there, as matplotlib's ``connectionstyle``.
    """
    line = (0, (3, 1.6)) if dashed else "-"
    how = {"arrowstyle": style, "connectionstyle": bend, "mutation_scale": 7, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, linewidth=0.9, linestyle=line, color=colour, **how))


def slab(ax: Axes, x: float, middle: float, width: float, height: float, depth: float, colour: str) -> None:
    """A box seen from the side: front face with its left edge at ``x``, top and right side going back by ``depth``."""
    low, high, rise = middle - height / 2, middle + height / 2, depth * 0.6
    top = [(x, high), (x + depth, high + rise), (x + width + depth, high + rise), (x + width, high)]
    side = [(x + width, low), (x + width, high), (x + width + depth, high + rise), (x + width + depth, low + rise)]
    front = [(x, low), (x, high), (x + width, high), (x + width, low)]
    for corners, shade in ((top, 0.35), (side, 0.75), (front, 1.0)):
        ax.add_patch(Polygon(corners, facecolor=_paler(colour, shade), edgecolor=INK, linewidth=0.5, joinstyle="round"))


def _paler(colour: str, share: float) -> np.ndarray:
    return share * np.array(to_rgb(colour)) + (1 - share) * np.ones(3)


def worded(stage: Stage) -> str:
    """What a stage does, e.g. ``conv 3 × 3, stride 2 + leaky ReLU``."""
    first, *rest = (WORDS.get(kind, kind) for kind in stage.kind.split(" + "))
    detail = stage.detail.replace(" x ", " × ")
    return " + ".join([f"{first} {detail}".strip(), *rest])


def kind_colours(stages: Sequence[Stage]) -> dict[str, str]:
    """A colour for each class of layer, in order of first use."""
    kinds = list(dict.fromkeys(layer_of(stage) for stage in stages))
    return {kind: STAGE_COLOURS[number % len(STAGE_COLOURS)] for number, kind in enumerate(kinds)}


def layer_of(stage: Stage) -> str:
    """The class of the layer itself, without normalisation and activation."""
    return stage.kind.split(" + ")[0]


def chain_of_boxes(ax: Axes, stages: Sequence[Stage], entry: tuple[int, ...], *, middle: float, tall: float) -> None:
    """Feature maps in a row: heights by size, widths by channels, both by the square root; operations on the arrows.

    A last map of one pixel is drawn as a column of cells, one a channel.

    Args:
        ax: Made by :func:`canvas`.
        stages: From :func:`strokelib.figures.traces.trace`, each (B, C, H, W).
        entry: Shape of the input.
        middle: Height of the centre line.
        tall: Height of the input's box.
    """
    stages = merged(stages)
    shapes = [entry, *(stage.shape for stage in stages)]
    colours = kind_colours(stages)
    heights = [tall * np.sqrt(shape[2] / entry[2]) for shape in shapes]
    widths = [max(0.04, 0.026 * np.sqrt(shape[1])) for shape in shapes]
    depths = [0.34 * height for height in heights]
    left, right = ax.get_xlim()
    gap = (right - left - 0.45 - sum(widths) - sum(depths)) / len(stages)
    x, low = left + 0.2, middle - tall / 2
    for number, (shape, height, width, depth) in enumerate(zip(shapes, heights, widths, depths, strict=True)):
        stage = stages[number - 1] if number else None
        colour = colours[layer_of(stage)] if stage else PLAIN_COLOUR
        if number:
            arrow(ax, (x - gap + 0.05, middle), (x - 0.05, middle))
            said = "\n".join(fill(part, 13) for part in worded(stage).replace(" + ", ", ").split(", "))
            write(ax, x - gap / 2, middle + 0.09, said, va="bottom", fontsize=SMALL_PT)
            if stage.parameters:
                write(
                    ax, x - gap / 2, middle - 0.1, counted(stage.parameters), va="top", fontsize=SMALL_PT, color="0.4"
                )
        if number == len(shapes) - 1 and shape[2:] == (1,) * len(shape[2:]):
            _cells(ax, x, middle, 0.09, tall, shape[1], colour)
            depth = 0.0
        else:
            slab(ax, x, middle, width, height, depth, colour)
        write(ax, x + (width + depth) / 2, low - 0.1, f"{shape[1]}", va="top", weight="bold")
        write(ax, x + (width + depth) / 2, low - 0.22, sides(shape), va="top", fontsize=SMALL_PT)
        x += width + depth + gap


def _cells(ax: Axes, x: float, middle: float, width: float, tall: float, count: int, colour: str) -> None:
    side = tall / count
    for cell in range(count):
        corner = (x, middle - tall / 2 + cell * side)
        ax.add_patch(Rectangle(corner, width, side, facecolor=_paler(colour, 0.85), edgecolor=INK, linewidth=0.5))
