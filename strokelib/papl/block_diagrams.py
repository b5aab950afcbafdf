"""Figure 2 of Sun et al. 2024: the three stages, drawn from the live model, with slices on their way through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from strokelib.errors import DataError
from strokelib.figures.boards import Board
from strokelib.figures.diagrams import INK, SMALL_PT, arrow, canvas, slab, write
from strokelib.figures.traces import counted, sides
from strokelib.papl.examples import inner
from strokelib.papl.model import PAPL
from strokelib.papl.shape_trace import SIZE, Traced, traced
from strokelib.papl.slice_tiles import PROBABILITY, top_of

ENCODER_COLOUR, DECODER_COLOUR, HEAD_COLOUR, LOSS_COLOUR, SHARED_COLOUR = (
    "#56B4E9", "#E69F00", "#CC79A7", "#D55E00", "#009E73",
)  # fmt: skip
PALE = {ENCODER_COLOUR: "#CDE8F6", DECODER_COLOUR: "#FBE3B3", HEAD_COLOUR: "#F2DCE8"}
SAMPLE_COLOURS = {"positive": "#D55E00", "negative": "#56B4E9"}
BANDS = {
    "1  knowledge preparation": (3.76, 5.6),
    "2  formal learning": (1.8, 3.68),
    "3  examination improvement": (0.34, 1.72),
}
EDGE_IN, GAP_IN, RADIUS_IN = 0.06, 0.04, 0.15
FIRST_Y, HALVES_Y, HEAD_Y = 4.62, 5.02, 4.14
ROWS_Y, LAST_Y = {"i": 3.2, "j": 2.65, "k": 2.1}, 1.0


@dataclass(frozen=True)
class StagesExample:
    """The pictures of the diagram, all (H, W) on one aligned grid.

    Args:
        positive: A sample with infarct, z-scored.
        negative: A sample without.
        slices: Front, middle and rear slice of a triplet, z-scored.
        probability: M of the middle one, in [0, 1].
        lesion: y of the middle one, bool.
        brain: Of the middle one, bool.
        spacing_yx: (dy, dx) in mm.
    """

    positive: np.ndarray
    negative: np.ndarray
    slices: tuple[np.ndarray, np.ndarray, np.ndarray]
    probability: np.ndarray
    lesion: np.ndarray
    brain: np.ndarray
    spacing_yx: tuple[float, float]


def fig02_architecture(
    model: PAPL,
    example: StagesExample,
    *,
    size: Sequence[int] = SIZE,
    lambdas: tuple[float, float] = (0.6, 0.3),
    betas: tuple[float, float, float] = (0.8, 0.8, 0.2),
) -> Figure:
    """The three stages: contrastive samples, triplets of slices through one encoder, and the refined prediction.

    Source: Fig. 2, Sun et al. 2024.
    Deviation: sizes and parameters are traced in the model; the features of the three slices are compared and not
        joined, as the equations have it (P18); what RPRS compares is drawn term by term.

    Args:
        model: Only its shapes matter.
        example: The pictures.
        size: (H, W) of a slice.
        lambdas: lambda1 and lambda2 of Eq. 14.
        betas: beta1, beta2 and the initial beta3 of Eq. 24.

    Raises:
        DataError: A picture has another shape than the brain.
    """
    pictures = [example.positive, example.negative, *example.slices, example.probability, example.lesion]
    if strange := sorted({one.shape for one in pictures} - {example.brain.shape}):
        step = "cut all pictures from one aligned scan"
        raise DataError("pictures", found=strange, wanted=f"{example.brain.shape}", next_step=step)
    found = traced(model, size)
    figure, ax = canvas(5.66)
    ax.set_autoscale_on(False)
    for title, (low, high) in BANDS.items():
        look = {"boxstyle": "round,pad=0,rounding_size=0.06", "facecolor": "#F6F8FA", "edgecolor": "0.75"}
        ax.add_patch(FancyBboxPatch((EDGE_IN, low), 7.2 - 2 * EDGE_IN, high - low, linewidth=0.6, zorder=0, **look))
        write(ax, EDGE_IN + 0.07, high - 0.11, title, ha="left", weight="bold", fontsize=7.5)
    _knowledge(ax, example, found, lambdas)
    _formal(ax, example, found)
    _examination(ax, example)
    said = r"$L_{total} = \beta_1 L_{seg} + \beta_2 L_{fc} + \beta_3 L_{rprs}$,   "
    said += r"$\beta_1$ = {:g}, $\beta_2$ = {:g}, $\beta_3$ = {:g}, times 1.2 every 20 epochs".format(*betas)
    write(ax, 7.2 - EDGE_IN, 0.17, said, ha="right", fontsize=7.5, color=LOSS_COLOUR)
    parts = ((r"$F_\theta$", found.encoder), (r"$F_\phi$", found.decoder), ("H", found.head))
    said = "parameters: " + ", ".join(f"{name} {counted(number)}" for name, number in parts)
    write(ax, EDGE_IN, 0.17, said, ha="left")
    return figure


def _board(ax: Axes, one: StagesExample, tall: float) -> tuple[Board, dict]:
    """A board for slices of z-values, and how to show them."""
    within = inner(one.brain, one.spacing_yx)
    limits = float(one.slices[1][~one.brain].min(initial=one.slices[1].min())), top_of([one.slices[1][within]], 99)
    return Board(ax, one.brain, one.spacing_yx, tall=tall, wide=tall), {"limits": limits}


def _knowledge(ax: Axes, one: StagesExample, found: Traced, lambdas: tuple[float, float]) -> None:
    board, grey = _board(ax, one, 0.64)
    dx, dy = board.half
    for (kind, colour), values, y in zip(
        SAMPLE_COLOURS.items(), (one.positive, one.negative), (FIRST_Y + 0.36, FIRST_Y - 0.36), strict=True
    ):
        board.picture(values, 0.62, y, brain=one.brain, **grey)
        ax.add_patch(Rectangle((0.62 - dx, y - dy), 2 * dx, 2 * dy, fill=False, edgecolor=colour, lw=1.4, zorder=20))
        write(ax, 0.62 - dx - 0.07, y, kind, rotation=90, color=colour)
    write(ax, 0.62 + dx + 0.05, FIRST_Y, r"$x_i$", ha="left", fontsize=8)
    places = np.linspace(1.48, 3.0, len(found.levels))
    right = 0.62 + dx + 0.22
    for number, (x, shape) in enumerate(zip(places, found.levels, strict=True)):
        tall = 0.72 * np.sqrt(shape[2] / found.levels[0][2])
        wide = 0.2 * np.sqrt(shape[1] / found.levels[-1][1])
        arrow(ax, (right, FIRST_Y), (x - wide / 2 - GAP_IN, FIRST_Y))
        slab(ax, x - wide / 2, FIRST_Y, wide, tall, 0.08, ENCODER_COLOUR)
        write(ax, x + 0.04, FIRST_Y + 0.55 - 0.05 * number, f"{shape[1]}", weight="bold", fontsize=SMALL_PT)
        write(ax, x + 0.04, FIRST_Y - 0.45 + 0.05 * number, sides(shape).replace(" ", ""), fontsize=5.0)
        right = x + wide / 2 + 0.08 + GAP_IN
    write(ax, (places[0] + places[-1]) / 2, FIRST_Y + 0.75, r"encoder $F_\theta$", fontsize=7.5)
    split = right + 0.1
    ax.plot([right, split], [FIRST_Y] * 2, color=INK, linewidth=0.9)
    for y in (HALVES_Y, HEAD_Y):
        ax.plot([split, split], [FIRST_Y, y], color=INK, linewidth=0.9, solid_capstyle="projecting")
    _halves(ax, split, found)
    _head(ax, split, found)
    said = r"$L_{KP} = \lambda_1 L_{inter} + \lambda_2 L_{intra}$"
    for y in (HALVES_Y, HEAD_Y):
        arrow(ax, (6.0, y), (6.42, FIRST_Y + np.sign(y - FIRST_Y) * 0.2), colour=LOSS_COLOUR)
    write(ax, 6.42, FIRST_Y + 0.07, said, fontsize=7.5, color=LOSS_COLOUR)
    write(ax, 6.42, FIRST_Y - 0.09, rf"$\lambda_1$ = {lambdas[0]:g}, $\lambda_2$ = {lambdas[1]:g}", color=LOSS_COLOUR)


def _halves(ax: Axes, left: float, found: Traced) -> None:
    """Both halves of the coarsest map against each other."""
    channels, height, width = found.levels[-1][1:]
    arrow(ax, (left, HALVES_Y), (left + 0.38, HALVES_Y))
    write(ax, left + 0.19, HALVES_Y + 0.08, r"$\sigma$", fontsize=7.5)
    for number, name in enumerate((r"$z^l$", r"$z^r$")):
        x = left + 0.42 + 0.24 * number
        ax.add_patch(Rectangle((x, HALVES_Y - 0.17), 0.22, 0.34, facecolor=PALE[ENCODER_COLOUR], edgecolor=INK, lw=0.8))
        write(ax, x + 0.11, HALVES_Y, name, fontsize=7.5)
    said = f"halves of {channels} × {height} × {width},\nthe right one mirrored"
    write(ax, left + 0.94, HALVES_Y, said, ha="left", fontsize=SMALL_PT)
    arrow(ax, (5.44, HALVES_Y), (5.85 - RADIUS_IN, HALVES_Y))
    _loss(ax, 5.85, HALVES_Y, r"$L_{intra}$")
    write(ax, 5.85, HALVES_Y + 0.22, "alike for negatives, unlike for positives", va="bottom", fontsize=SMALL_PT)


def _head(ax: Axes, left: float, found: Traced) -> None:
    """The projection head, and its vector against those of the other samples."""
    arrow(ax, (left, HEAD_Y), (left + 0.2, HEAD_Y))
    said = "head H: mean, " + ",\nReLU, ".join(f"linear {n}" for n in found.hidden) + ", length 1"
    middle = (left + 0.24 + 5.02) / 2
    _box(ax, middle, HEAD_Y, said, HEAD_COLOUR, 5.02 - left - 0.24)
    arrow(ax, (5.06, HEAD_Y), (5.22, HEAD_Y))
    for cell in range(8):
        look = {"facecolor": PALE[HEAD_COLOUR], "edgecolor": INK, "linewidth": 0.5}
        ax.add_patch(Rectangle((5.26, HEAD_Y - 0.24 + 0.06 * cell), 0.08, 0.06, **look))
    write(ax, 5.3, HEAD_Y + 0.31, rf"$v_i$, {found.embedding[1]}", fontsize=SMALL_PT)
    arrow(ax, (5.38, HEAD_Y), (5.85 - RADIUS_IN, HEAD_Y))
    _loss(ax, 5.85, HEAD_Y, r"$L_{inter}$")
    write(ax, 5.62, HEAD_Y - 0.24, "same label together, others apart", ha="left", fontsize=SMALL_PT)


def _formal(ax: Axes, one: StagesExample, found: Traced) -> None:
    board, grey = _board(ax, one, 0.5)
    dx = board.half[0]
    words = {"i": "front", "j": "middle", "k": "rear"}
    for (name, y), values in zip(ROWS_Y.items(), one.slices, strict=True):
        board.picture(values, 0.62, y, rf"$x_{name}$", **grey)
        write(ax, 0.62 - dx - 0.07, y, words[name], rotation=90)
        arrow(ax, (0.62 + dx + GAP_IN, y), (1.36 - GAP_IN, y))
        _funnel(ax, 1.36, y, r"$F_\theta$", ENCODER_COLOUR)
        arrow(ax, (1.86 + GAP_IN, y), (2.24, y))
        slab(ax, 2.27, y, 0.14, 0.2, 0.08, ENCODER_COLOUR)
    ys = tuple(ROWS_Y.values())
    for number, (high, low) in enumerate(((ys[0], ys[1]), (ys[1], ys[2])), 1):
        arrow(ax, (2.36, high - 0.13), (2.36, low + 0.18), colour=LOSS_COLOUR, style="<|-|>")
        pair = ("i,j", "j,k")[number - 1]
        write(ax, 2.42, (high + low) / 2 + 0.02, rf"$\gamma_{number}\,\ell_{{{pair}}}$", ha="left", color=LOSS_COLOUR)
        ax.plot([1.61] * 2, [high - 0.2, low + 0.2], color=SHARED_COLOUR, linewidth=0.9, linestyle=(0, (3, 1.6)))
    write(ax, 1.66, (ys[0] + ys[1]) / 2, "shared", ha="left", color=SHARED_COLOUR, fontsize=SMALL_PT)
    arrow(ax, (2.53, ys[0]), (2.53, ys[2]), colour=LOSS_COLOUR, style="<|-|>", bend="arc3,rad=-0.5")
    write(ax, 2.88, ys[2] + 0.16, r"$\gamma_3\,\ell_{i,k}$", ha="left", color=LOSS_COLOUR)
    said = r"$L_{fc} = \gamma_1\ell_{i,j} + \gamma_2\ell_{j,k} + \gamma_3\ell_{i,k}$"
    write(ax, 3.32, ys[2] + 0.09, said, ha="left", fontsize=7.5, color=LOSS_COLOUR)
    said = "the nearer two slices,\nthe more alike their features"
    write(ax, 3.32, ys[2] - 0.12, said, ha="left", fontsize=SMALL_PT)
    ax.plot([2.74, 2.9], [ROWS_Y["j"]] * 2, color="#F6F8FA", linewidth=4, zorder=1)
    arrow(ax, (2.53, ROWS_Y["j"]), (3.7 - GAP_IN, ROWS_Y["j"]))
    _funnel(ax, 3.7, ROWS_Y["j"], r"$F_\phi$", DECODER_COLOUR, opens=True)
    write(ax, 3.95, ROWS_Y["j"] + 0.28, r"decoder, with the skips of $x_j$", va="bottom", fontsize=SMALL_PT)
    large, _ = _board(ax, one, 0.72)
    dx = large.half[0]
    arrow(ax, (4.2 + GAP_IN, ROWS_Y["j"]), (4.98 - dx - GAP_IN, ROWS_Y["j"]))
    large.picture(one.probability, 4.98, ROWS_Y["j"], "M", PROBABILITY, brain=one.brain)
    large.word(4.98, ROWS_Y["j"], r"softmax($\omega$ logits)", above=True)
    large.picture(one.lesion.astype(float), 6.6, ROWS_Y["j"], "y", brain=one.brain)
    large.word(6.6, ROWS_Y["j"], "reference", above=True)
    arrow(ax, (4.98 + dx + GAP_IN, ROWS_Y["j"]), (5.8 - RADIUS_IN, ROWS_Y["j"]))
    arrow(ax, (6.6 - dx - GAP_IN, ROWS_Y["j"]), (5.8 + RADIUS_IN, ROWS_Y["j"]))
    _loss(ax, 5.8, ROWS_Y["j"], r"$L_{seg}$")
    arrow(ax, (1.61, 3.96), (1.61, ROWS_Y["i"] + 0.26), colour=SHARED_COLOUR, dashed=True)
    write(ax, 1.68, 3.55, r"$\theta$ of stage 1 to start from", ha="left", color=SHARED_COLOUR, fontsize=SMALL_PT)


def _examination(ax: Axes, one: StagesExample) -> None:
    board, grey = _board(ax, one, 0.74)
    dx, _ = board.half
    middle, m, y = one.slices[1], one.probability, one.lesion.astype(float)
    within = np.abs(middle - middle[:, ::-1]) * m * inner(one.brain & one.brain[:, ::-1], one.spacing_yx)
    board.picture(middle, 0.62, LAST_Y, "x", brain=one.brain, **grey)
    board.picture(middle[:, ::-1], 1.36, LAST_Y, r"$x \times T$", brain=one.brain[:, ::-1], **grey)
    board.word(0.62, LAST_Y, "middle slice")
    board.word(1.36, LAST_Y, "its mirror image")
    terms = (
        (2.42, within, (0.0, top_of([within[one.brain]])), r"$L^1 = |M\,(x - x \times T)|$", "sides that differ"),
        (3.72, np.clip(y - m * y, 0, 1), (0.0, 1.0), r"$L^2 = |y - M\,y|$", "missed infarct"),
        (5.02, np.clip(m - m * y, 0, 1), (0.0, 1.0), r"$L^3 = |M - M\,y|$", "false infarct"),
    )
    arrow(ax, (1.36 + dx + GAP_IN, LAST_Y), (2.42 - dx - GAP_IN, LAST_Y))
    for x, values, limits, formula, word in terms:
        board.picture(values, x, LAST_Y, "", PROBABILITY, limits, brain=one.brain)
        board.word(x, LAST_Y, formula)
        board.word(x, LAST_Y, word, above=True)
    for x, text in ((1.93, r"$-\,\varphi$"), (3.07, "+"), (4.37, "+")):
        write(ax, x, LAST_Y + (0.13 if x < 2 else 0), text, fontsize=9, color=LOSS_COLOUR)
    arrow(ax, (5.02 + dx + GAP_IN, LAST_Y), (5.95 - RADIUS_IN - 0.02, LAST_Y), colour=LOSS_COLOUR)
    _loss(ax, 5.95, LAST_Y, r"$L_{rprs}$")
    said = r"$\varphi = (1 - L^1 / |M|)^\mu$" + "\nno gradient"
    write(ax, 6.14, LAST_Y - 0.3, said, ha="left", color=LOSS_COLOUR, fontsize=SMALL_PT)
    arrow(ax, (4.98, ROWS_Y["j"] - 0.4), (4.98, BANDS["3  examination improvement"][1] - 0.09), dashed=True)
    write(ax, 5.04, 1.96, "M", ha="left", fontsize=7.5)


def _funnel(ax: Axes, x: float, y: float, text: str, colour: str, *, opens: bool = False) -> None:
    """Half an hourglass, narrow at its right end, or at its left one where it ``opens``."""
    ends = (0.1, 0.2) if opens else (0.2, 0.1)
    corners = [(x, y - ends[0]), (x, y + ends[0]), (x + 0.5, y + ends[1]), (x + 0.5, y - ends[1])]
    ax.add_patch(Polygon(corners, facecolor=PALE[colour], edgecolor=INK, linewidth=0.8, joinstyle="round"))
    write(ax, x + 0.25, y, text, fontsize=8)


def _box(ax: Axes, x: float, y: float, text: str, colour: str, wide: float) -> None:
    look = {"boxstyle": "round,pad=0.02", "facecolor": PALE[colour], "edgecolor": INK, "linewidth": 0.8}
    ax.add_patch(FancyBboxPatch((x - wide / 2 + 0.02, y - 0.15), wide - 0.04, 0.3, **look))
    write(ax, x, y - 0.005, text, fontsize=SMALL_PT)


def _loss(ax: Axes, x: float, y: float, text: str) -> None:
    ax.add_patch(Circle((x, y), RADIUS_IN, facecolor="white", edgecolor=LOSS_COLOUR, linewidth=1.1, zorder=3))
    write(ax, x, y, text, fontsize=6.5, color=LOSS_COLOUR, zorder=4)
