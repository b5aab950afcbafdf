"""The block diagrams of Seia et al. 2023, Figures 2 and 3, each drawn from its live module."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from strokelib.errors import DataError
from strokelib.figures.diagrams import INK, PLAIN_COLOUR, SMALL_PT, arrow, canvas, slab, write
from strokelib.figures.traces import Stage, counted, sides, trace
from strokelib.ssl_nnunet.architecture_diagram import fig03_architecture
from strokelib.ssl_nnunet.model import DeepSelfDistillation
from strokelib.ssl_nnunet.network import ConvBlock

__all__ = ["fig02_self_distillation", "fig03_architecture"]
VIEW = (16, 112, 112)
STUDENT_COLOUR, TEACHER_COLOUR, LOSS_COLOUR, EMA_COLOUR = "#56B4E9", "#E69F00", "#D55E00", "#009E73"
PALE = {STUDENT_COLOUR: "#CDE8F6", TEACHER_COLOUR: "#FBE3B3"}
STUDENT_Y, HEAD_Y, SOFTMAX_Y, LOSS_Y, TARGET_Y, TEACHER_Y = 4.2, 3.34, 2.94, 2.5, 2.1, 1.06
CENTRE_Y, SHARP_Y = 1.4, 1.74
VIEW_X, FIRST_X, LAST_X, END_X = 0.42, 1.5, 5.5, 6.5
VIEW_IN, TALL_IN, RADIUS_IN, GAP_IN = 0.56, 0.74, 0.13, 0.03


def fig02_self_distillation(
    model: DeepSelfDistillation,
    *,
    view: Sequence[int] = VIEW,
    student_temperature: float = 0.1,
    teacher_temperature: tuple[float, float] = (0.04, 0.07),
    momentum: float = 0.9996,
    pictures: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Every stage of the student is trained to say of one view what the teacher's last stage says of the other.

    Source: Fig. 2, Seia et al. 2023.
    Deviation: sizes and parameters are traced in the module; the centre is subtracted and the temperatures divide the
        logits (S1, S2).

    Args:
        model: Only its shapes matter.
        view: Size (d, h, w) of a view.
        student_temperature: T_s.
        teacher_temperature: T_t at the start and after its warm-up.
        momentum: The teacher's at the start.
        pictures: A slice (h, w) of each view, normalised, or none.

    Raises:
        DataError: The pictures are not two slices.
    """
    if pictures is not None and (len(pictures) != 2 or any(np.ndim(one) != 2 for one in pictures)):
        found = [np.shape(one) for one in pictures]
        raise DataError("pictures", found=found, wanted="two of shape (h, w)", next_step="give a slice of each view")
    entry = torch.empty(1, model.student.encoder.in_channels, *view, device="meta")
    student, teacher = (trace(part, entry, whole=(ConvBlock,)) for part in (model.student, model.teacher))
    stages = _last_of_stages(student)
    places = np.linspace(FIRST_X, LAST_X, len(stages))
    figure, ax = canvas(5.1)
    ax.set_autoscale_on(False)
    for y, name, colour, number in ((STUDENT_Y, "x", STUDENT_COLOUR, 0), (TEACHER_Y, "x′", TEACHER_COLOUR, 1)):
        _view(ax, y, name, None if pictures is None else pictures[number], sides(entry.shape))
        _encoder(ax, stages, places, y, colour)
    for number, (x, stage) in enumerate(zip(places, stages, strict=True), 1):
        write(ax, x, STUDENT_Y + TALL_IN / 2 + 0.25, f"{stage.shape[1]}", weight="bold")
        write(ax, x, STUDENT_Y + TALL_IN / 2 + 0.13, sides(stage.shape), fontsize=SMALL_PT)
        tall = TALL_IN * np.sqrt(stage.shape[3] / stages[0].shape[3])
        arrow(ax, (x, STUDENT_Y - tall / 2 - GAP_IN), (x, HEAD_Y + 0.12))
        _box(ax, x, HEAD_Y, rf"head $h_s^{number}$", STUDENT_COLOUR)
        arrow(ax, (x, HEAD_Y - 0.12), (x, SOFTMAX_Y + 0.12))
        _box(ax, x, SOFTMAX_Y, r"softmax $\div T_s$", STUDENT_COLOUR)
        arrow(ax, (x, SOFTMAX_Y - 0.12), (x, LOSS_Y + RADIUS_IN))
        _loss(ax, x, rf"$L^{number}$")
        arrow(ax, (x, TARGET_Y), (x, LOSS_Y - RADIUS_IN), colour=TEACHER_COLOUR)
    write(ax, places[0] - 0.08, (STUDENT_Y + HEAD_Y) / 2 - 0.12, "mean of\nall voxels", ha="right", fontsize=SMALL_PT)
    write(ax, places[0] - 0.08, (SOFTMAX_Y + LOSS_Y) / 2 - 0.01, r"$P_s^1$", ha="right", fontsize=7.5)
    _sum_of_losses(ax, places)
    _targets(ax, places)
    _moving_average(ax, places, momentum)
    _key(ax, student, teacher, (student_temperature, teacher_temperature))
    return figure


def _last_of_stages(stages: Sequence[Stage]) -> list[Stage]:
    """The output of each of the encoder's stages, fine to coarse."""
    last = {stage.name.split(".")[2]: stage for stage in stages if stage.name.startswith("encoder.stages.")}
    return list(last.values())


def _parameters(stages: Sequence[Stage], *parts: str) -> int:
    return sum(stage.parameters for stage in stages if stage.name.startswith(parts))


def _view(ax: Axes, y: float, name: str, picture: np.ndarray | None, size: str) -> None:
    """A view as a picture, or as an empty square, with its name and size."""
    half, at = VIEW_IN / 2, VIEW_X
    if picture is not None:
        low, high = np.percentile(picture, (0.5, 99.5))
        how = {"cmap": "gray", "vmin": low, "vmax": high, "aspect": "auto", "interpolation": "nearest"}
        ax.imshow(picture, extent=(at - half, at + half, y - half, y + half), **how)
    look = {"facecolor": PLAIN_COLOUR if picture is None else "none", "edgecolor": INK, "linewidth": 0.8}
    ax.add_patch(Rectangle((at - half, y - half), VIEW_IN, VIEW_IN, **look))
    box = {"facecolor": "black", "alpha": 0.6, "pad": 0.8, "linewidth": 0} if picture is not None else None
    colour = "black" if picture is None else "white"
    write(ax, at - half + 0.04, y + half - 0.04, name, ha="left", va="top", fontsize=8, color=colour, bbox=box)
    write(
        ax, at, y - half - 0.05, f"{'a view' if name == 'x' else 'another view'}\n{size}", va="top", fontsize=SMALL_PT
    )


def _encoder(ax: Axes, stages: Sequence[Stage], places: Sequence[float], y: float, colour: str) -> None:
    """A box a stage, as tall as the root of its side and as wide as the root of its channels, arrows between them."""
    right = VIEW_X + VIEW_IN / 2 + 0.05
    for x, stage in zip(places, stages, strict=True):
        tall = TALL_IN * np.sqrt(stage.shape[3] / stages[0].shape[3])
        wide = 0.22 * np.sqrt(stage.shape[1] / stages[-1].shape[1])
        depth = 0.16 * np.sqrt(stage.shape[2] / stages[0].shape[2])
        arrow(ax, (right, y), (x - wide / 2 - GAP_IN, y))
        slab(ax, x - wide / 2, y, wide, tall, depth, colour)
        right = x + wide / 2 + depth + GAP_IN


def _box(ax: Axes, x: float, y: float, text: str, colour: str, wide: float = 0.68) -> None:
    look = {"boxstyle": "round,pad=0.02", "facecolor": PALE[colour], "edgecolor": INK, "linewidth": 0.8}
    ax.add_patch(FancyBboxPatch((x - wide / 2 + 0.02, y - 0.08), wide - 0.04, 0.16, **look))
    write(ax, x, y - 0.005, text)


def _loss(ax: Axes, x: float, text: str) -> None:
    ax.add_patch(Circle((x, LOSS_Y), RADIUS_IN, facecolor="white", edgecolor=LOSS_COLOUR, linewidth=1.1, zorder=3))
    write(ax, x, LOSS_Y, text, fontsize=7, color=LOSS_COLOUR, zorder=4)


def _sum_of_losses(ax: Axes, places: np.ndarray) -> None:
    """All losses on one line into their mean."""
    ends = [*places, END_X - 0.24]
    for left, right in pairwise(ends):
        ax.plot([left + RADIUS_IN, right - RADIUS_IN], [LOSS_Y] * 2, color=LOSS_COLOUR, linewidth=0.9, zorder=2)
    arrow(ax, (ends[-1] - RADIUS_IN - 0.01, LOSS_Y), (ends[-1], LOSS_Y), colour=LOSS_COLOUR)
    said = rf"$L = \frac{{1}}{{{len(places)}}}\,\sum_i L^i$"
    write(ax, ends[-1] + 0.03, LOSS_Y, said, ha="left", fontsize=9, color=LOSS_COLOUR)


def _targets(ax: Axes, places: np.ndarray) -> None:
    """From the teacher's last stage through head, centre and softmax to every loss, without gradient."""
    arrow(ax, (places[-1] + 0.17, TEACHER_Y), (END_X - 0.34, TEACHER_Y), colour=INK)
    _box(ax, END_X, TEACHER_Y, r"head $h_t$", TEACHER_COLOUR)
    arrow(ax, (END_X, TEACHER_Y + 0.12), (END_X, CENTRE_Y - 0.12))
    _box(ax, END_X, CENTRE_Y, r"centre: $-\,c$", TEACHER_COLOUR)
    arrow(ax, (END_X, CENTRE_Y + 0.12), (END_X, SHARP_Y - 0.12))
    _box(ax, END_X, SHARP_Y, r"softmax $\div T_t$", TEACHER_COLOUR)
    corners = ([END_X, END_X, places[0]], [SHARP_Y + 0.12, TARGET_Y, TARGET_Y])
    ax.plot(*corners, color=TEACHER_COLOUR, linewidth=0.9, solid_joinstyle="round", zorder=1.5)
    write(ax, END_X - 0.12, TARGET_Y + 0.1, r"$P_t$", fontsize=7.5)
    middle = (END_X + places[-1]) / 2 - 0.05
    for off in (-0.03, 0.03):
        ax.plot(
            [middle + off - 0.03, middle + off + 0.03], [TARGET_Y - 0.07, TARGET_Y + 0.07], color=INK, linewidth=1.1
        )
    write(ax, middle, TARGET_Y - 0.13, "no gradient", fontsize=SMALL_PT)


def _moving_average(ax: Axes, places: np.ndarray, momentum: float) -> None:
    """From the student's weights to the teacher's."""
    x = (VIEW_X + places[0]) / 2 - 0.02
    arrow(ax, (x, STUDENT_Y - 0.45), (x, TEACHER_Y + 0.3), colour=EMA_COLOUR, dashed=True)
    y = (STUDENT_Y + TEACHER_Y) / 2
    said = rf"$\theta_t \leftarrow \lambda\theta_t + (1-\lambda)\,\theta_s$,  $\lambda$ = {momentum:g} to 1"
    for off, line in ((0.3, "moving average of weights"), (0.12, said)):
        write(ax, x - off, y, line, color=EMA_COLOUR, rotation=90)


def _key(ax: Axes, student: list[Stage], teacher: list[Stage], temperatures: tuple[float, tuple[float, float]]) -> None:
    """How large both are, what a head is, and what the symbols mean."""
    heads = sum("prototypes" in stage.name for stage in student)
    sizes = [counted(_parameters(part, *names)) for part, *names in (
        (student, "encoder."), (student, "heads."), (teacher, "encoder."), (teacher, "head."))]  # fmt: skip
    write(
        ax,
        FIRST_X - 0.34,
        4.99,
        f"student: encoder {sizes[0]}, {heads} heads {sizes[1]} parameters",
        ha="left",
        weight="bold",
    )
    text = f"teacher: encoder {sizes[2]}, head {sizes[3]} parameters, no gradient"
    write(ax, FIRST_X - 0.34, TEACHER_Y + 0.64, text, ha="left", weight="bold")
    widths = [f"{s.shape[1]:,}" for s in teacher if s.kind in ("Linear", "Prototypes")]
    (start, end), k = temperatures[1], widths[-1]
    lines = [
        f"head: linear layers to {', '.join(widths[:2])} (BN, GELU) and {widths[2]}, length 1, unit rows to K = {k}",
        rf"$L^i = -\sum_k P_t(x′)_k \log P_s^i(x)_k$, also with x and x′ exchanged;  "
        rf"$T_s$ = {temperatures[0]:g}, $T_t$ = {start:g} to {end:g};  c: running mean of the teacher's logits",
    ]
    for number, line in enumerate(lines[::-1]):
        write(ax, 0.12, 0.13 + 0.2 * number, line, ha="left")
