"""A U-Net as a U: bars for feature maps, levels from top to bottom, drawn from its trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from strokelib.errors import DataError
from strokelib.figures.diagrams import (
    INK,
    PLAIN_COLOUR,
    SKIP_COLOUR,
    SMALL_PT,
    arrow,
    kind_colours,
    layer_of,
    worded,
    write,
)
from strokelib.figures.traces import Stage, merged, sides

HEAD, POOL = "head", "pool"
BAR_IN, GAP_IN, LEVEL_GAP_IN, LEFT_IN, RIGHT_IN = 0.26, 0.15, 0.34, 0.62, 0.15
DOWN_COLOUR = "#D55E00"


@dataclass(frozen=True)
class Bar:
    """One feature map.

    Args:
        channels: All of them.
        colour: By the layer that made it.
        skipped: How many of them came over the skip connection.
    """

    channels: int
    colour: str
    skipped: int = 0


@dataclass(frozen=True)
class Level:
    """The bars of one resolution.

    Args:
        size: Spatial size as text.
        side: Pixels of its first side.
        down: From the input or the pooled map to the map that is passed on.
        up: From the joined map on; empty at the lowest level.
    """

    size: str
    side: int
    down: tuple[Bar, ...]
    up: tuple[Bar, ...]


def _key(stage: Stage) -> str:
    return stage.name if stage.name in (HEAD, POOL) else layer_of(stage)


def levels_of(stages: Sequence[Stage], entry: tuple[int, ...], colours: Mapping[str, str]) -> list[Level]:
    """The levels of a U-Net, from fine to coarse.

    Args:
        stages: Of a :class:`strokelib.nn.unet.UNet`: ``encoder.<level>...``, ``decoder.<step>...``, ``head``.
        entry: Shape of the input.
        colours: Class of a layer -> colour.

    Raises:
        DataError: The stages are not those of a U-Net.
    """
    parts: dict[str, list[Stage]] = {}
    for stage in stages:
        parts.setdefault(".".join(stage.name.split(".")[:2]), []).append(stage)
    encoder = [group for name, group in parts.items() if name.startswith("encoder.")]
    decoder = [group for name, group in parts.items() if name.startswith("decoder.")][::-1]
    if len(encoder) < 2 or len(decoder) != len(encoder) - 1 or HEAD not in parts:
        found = f"{len(encoder)} encoder and {len(decoder)} decoder levels"
        wanted, step = "a step up for each level but the lowest, and a head", "trace a strokelib.nn.unet.UNet"
        raise DataError("stages of a U-Net", found=found, wanted=wanted, next_step=step)
    came = [entry[1], *(group[-1].shape[1] for group in encoder[:-1])]
    levels = []
    for channels, group, back in zip(came, encoder, [*decoder, []], strict=True):
        down = [Bar(channels, PLAIN_COLOUR), *(Bar(s.shape[1], colours[layer_of(s)]) for s in group)]
        up = [Bar(s.shape[1], colours[layer_of(s)]) for s in back]
        if up:
            passed = group[-1].shape[1]
            up[0] = Bar(passed + up[0].channels, up[0].colour, passed)
        levels.append(Level(sides(group[0].shape), group[0].shape[2], tuple(down), tuple(up)))
    head = parts[HEAD][-1]
    first = levels[0]
    levels[0] = Level(first.size, first.side, first.down, (*first.up, Bar(head.shape[1], colours[HEAD])))
    return levels


def u_shape(ax: Axes, stages: Sequence[Stage], entry: tuple[int, ...], *, top: float, bottom: float) -> list[Artist]:
    """Draw a U-Net. Heights stand for sizes, widths for channels, both by the square root.

    Channels stand above the bars, sizes at their left. A bar in two parts is the skip connection joined with what came
    up from below.

    Args:
        ax: Made by :func:`strokelib.figures.diagrams.canvas`.
        stages: From :func:`strokelib.figures.traces.trace`, see :func:`levels_of`.
        entry: Shape of the input.
        top: Upper edge of the finest level's bars.
        bottom: Lower edge of the coarsest level's bars.

    Returns:
        Handles for a legend: the layers and the arrows.
    """
    stages = merged(stages)
    colours = kind_colours([replace(s, kind=_key(s)) for s in stages if s.name != POOL])
    levels = levels_of(stages, entry, colours)
    down, up = _places(levels, ax.get_xlim())
    shares = [np.sqrt(level.side / levels[0].side) for level in levels]
    tall = (top - bottom - LEVEL_GAP_IN * (len(levels) - 1)) / sum(shares)
    high, drawn = top, []
    for level, share, place, back in zip(levels, shares, down, up, strict=True):
        tall_here = tall * share
        drawn.append((high, tall_here))
        write(ax, place[0][0] - 0.06, high - tall_here / 2, level.size, ha="right", fontsize=SMALL_PT, color="0.35")
        for bar, (x, width) in zip((*level.down, *level.up), (*place, *back), strict=True):
            _bar(ax, bar, x, width, high, tall_here)
        for row in (place, back):
            for (x, width), (after, _) in pairwise(row):
                arrow(ax, (x + width + 0.015, high - tall_here / 2), (after - 0.015, high - tall_here / 2))
        if back:
            between = (place[-1][0] + place[-1][1] + 0.04, back[0][0] - 0.04)
            arrow(ax, *((x, high - tall_here / 2) for x in between), colour=SKIP_COLOUR)
        high -= tall_here + LEVEL_GAP_IN
    for number, ((above, tall_above), (below, _)) in enumerate(pairwise(drawn)):
        level_up = levels[number].up[0].colour
        ends = (above - tall_above - 0.02, below + 0.17)
        x = down[number][-1][0] + down[number][-1][1] / 2
        arrow(ax, (x, ends[0]), (x, ends[1]), colour=DOWN_COLOUR)
        x = sum((up[number + 1] or down[number + 1])[-1] * np.array([1, 0.5]))
        arrow(ax, (x, ends[1]), (x, ends[0]), colour=level_up)
    return _handles(stages, colours)


def _places(levels: Sequence[Level], limits: tuple[float, float]) -> tuple[list, list]:
    """(left edge, width) of every bar, as wide as the axis: a map lies under or over the one that it was made from."""
    most = max(bar.channels for level in levels for bar in (*level.down, *level.up))

    def row(bars: Sequence[Bar], x: float) -> np.ndarray:
        widths = np.array([BAR_IN * max(0.12, np.sqrt(bar.channels / most)) for bar in bars])
        return np.stack([x + np.cumsum(widths + GAP_IN) - widths - GAP_IN, widths], axis=1)

    down, up = [row(levels[0].down, 0.0)], [np.empty((0, 2))]
    for level in levels[1:]:
        down.append(row(level.down, down[-1][-1, 0]))
    last = down[-1][-1]
    for level in levels[-2::-1]:
        joined, passed = level.up[0], level.up[0].skipped / level.up[0].channels
        width = row([joined], 0.0)[0, 1]
        up.insert(0, row(level.up, last[0] + last[1] / 2 - width * (1 + passed) / 2))
        last = up[0][-1]
    span = max(rows[:, 0].max() + rows[-1, 1] for rows in (*down, *up[:-1]))
    stretch = (limits[1] - limits[0] - LEFT_IN - RIGHT_IN) / span
    start = np.array([limits[0] + LEFT_IN, 0.0])
    return [[tuple(b) for b in rows * stretch + start] for rows in down], [
        [tuple(b) for b in rows * stretch + start] for rows in up
    ]


def _bar(ax: Axes, bar: Bar, x: float, width: float, high: float, tall: float) -> None:
    passed = width * bar.skipped / bar.channels
    for left, part, colour in ((x, passed, PLAIN_COLOUR), (x + passed, width - passed, bar.colour)):
        if part:
            ax.add_patch(Rectangle((left, high - tall), part, tall, facecolor=colour, edgecolor=INK, linewidth=0.5))
    write(ax, x + width / 2, high + 0.07, f"{bar.channels}", fontsize=SMALL_PT)


def _handles(stages: Sequence[Stage], colours: Mapping[str, str]) -> list[Artist]:
    """A patch for each layer and a line for each arrow, labelled by the first stage of its kind."""
    first = {_key(stage): stage for stage in reversed(stages)}
    handles: list[Artist] = [
        Patch(facecolor=PLAIN_COLOUR, edgecolor=INK, linewidth=0.5, label="input, pooled or skipped")
    ]
    handles += [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=worded(first[key]))
        for key, colour in colours.items()
    ]
    lines = {worded(first[POOL]): DOWN_COLOUR, "skip connection": SKIP_COLOUR}
    return handles + [Line2D([], [], color=colour, linewidth=1.2, label=label) for label, colour in lines.items()]
