"""Figures 1 and 2 of Ni et al. 2022: the idea and the pipeline, with one slice on its way through."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from strokelib import plotting
from strokelib.adn.examples import AlignedExample
from strokelib.adn.model import ADN, Transformer3D
from strokelib.errors import DataError
from strokelib.figures.boards import RADIUS_IN, Board, sign
from strokelib.figures.diagrams import INK, arrow, canvas, write
from strokelib.figures.traces import counted, sides, trace
from strokelib.nn.baselines.resunet3d import ResUNet3D

SIZE = (40, 256, 256)
SCAN, MAP, SHARE = ("gray", (0.1, 0.6)), "magma", (0.0, 1.0)
LOSS_COLOUR = "#D55E00"
MARK_COLOURS = {"pathological": plotting.TRUTH_COLOUR, "natural": "#CC79A7"}
NETWORK_COLOURS = {"T": "#CDE8F6", "D": "#FBE3B3", "F": "#BFE5D8"}
HALF_IN = 0.28
UP, MIDDLE, LOW = 3.5, 2.2, 0.92
COLUMNS = {"I": 0.42, "T": 1.17, "X": 1.95, "A": 2.78, "P": 3.55, "Q": 4.28, "filled": 5.02, "F": 5.84, "Y": 6.7}


@dataclass(frozen=True)
class PipelineExample:
    """One slice on its way through T, D and F.

    Args:
        aligned: The slice in the aligned frame.
        scan: I, (H, W) in [0, 1], a slice of the scan as it was.
        restored: O, (H, W) in [0, 1], the probability brought back to that frame.
        scan_brain: (H, W) bool, in that frame.
        mismatch: R_GW, (H, W) in [0, 1], or None for a training without tissue maps.
        csf: R_CSF, (H, W) in [0, 1], or None.
    """

    aligned: AlignedExample
    scan: np.ndarray
    restored: np.ndarray
    scan_brain: np.ndarray
    mismatch: np.ndarray | None = None
    csf: np.ndarray | None = None


def fig01_disentangling(example: AlignedExample) -> Figure:
    """Two kinds of asymmetry on a slice (a), and how they are told apart (b). Scans are shown from 10 to 60 HU.

    Source: Fig. 1, Ni et al. 2022.
    Deviation: boxes are put by rule: about the reference, and where A is strongest away from it, each with its mirror
        image. Both kinds are marked in colours of their own.

    Args:
        example: A slice with lesion.

    Raises:
        DataError: The slice shows no lesion.
    """
    marks = example.marks()
    figure, ax = canvas(3.0)
    ax.set_autoscale_on(False)
    large = Board(ax, example.brain, example.spacing_yx, tall=2.3, wide=2.2)
    x, y = 1.13, 1.52
    large.picture(example.image, x, y, *("", *SCAN), brain=example.brain)
    rows, columns = large.box
    scale = 2 * large.half / (columns.stop - columns.start, rows.stop - rows.start)
    for kind, boxes in marks.items():
        for top, bottom, left, right in boxes:
            across, down = (left - columns.start) * scale[0], (bottom - rows.start) * scale[1]
            corner = (x - large.half[0] + across, y + large.half[1] - down)
            size = (right - left) * scale[0], (bottom - top) * scale[1]
            look = {"fill": False, "edgecolor": MARK_COLOURS[kind], "linewidth": 1.3, "zorder": 9}
            ax.add_patch(Rectangle(corner, *size, **look))
    for number, kind in enumerate(marks):
        at, look = x - 0.86 + 0.98 * number, {"fill": False, "edgecolor": MARK_COLOURS[kind], "linewidth": 1.3}
        ax.add_patch(Rectangle((at, 0.16), 0.12, 0.08, **look))
        write(ax, at + 0.17, 0.2, kind, ha="left")
    _idea(ax, example)
    for letter, left in (("a", 0.08), ("b", 2.4)):
        write(ax, left, 2.87, letter, ha="left", fontsize=10, weight="bold")
    return figure


def _idea(ax: Axes, one: AlignedExample) -> None:
    board = Board(ax, one.brain, one.spacing_yx, tall=0.98, wide=0.94)
    (dx, _), gap = board.half, 0.05
    left, second, third, last = 2.85, 4.02, 5.35, 6.72
    high, low = 2.17, 0.86
    middle = (high + low) / 2
    scale = one.limits(one.total)
    maps = {"cmap": MAP, "brain": one.brain}
    board.picture(one.image, left, high, "X", *SCAN, brain=one.brain)
    board.picture(one.mirrored, left, low, "X′", *SCAN, brain=one.brain[:, ::-1])
    board.picture(one.total, second, middle, "A", limits=scale, **maps)
    board.picture(one.pathological, third, high, "P", limits=one.limits(one.pathological), **maps)
    board.picture(one.intrinsic, third, low, "Q", limits=scale, **maps)
    board.picture(one.pathology_filled, last, high, r"$\tilde{X}$", *SCAN, brain=one.brain)
    board.picture(one.anatomy_filled, last, low, r"$\hat{X}$", *SCAN, brain=one.brain)
    board.word(left, high, "aligned scan", above=True)
    board.word(left, low, "its mirror image")
    board.word(second, middle, "total asymmetry\n" + r"$\max(X′ - X, 0)$", above=True)
    board.word(third, high, "pathological", above=True)
    board.word(third, low, "intrinsic")
    board.word(last, high, "pathology filled in", above=True)
    board.word(last, low, "anatomy filled in")
    for row, end in ((high, 0.16), (low, -0.16)):
        arrow(ax, (left + dx + gap, row), (second - dx - gap, middle + end))
    arrow(ax, (second + dx + gap, middle + 0.16), (third - dx - gap, high))
    arrow(ax, (second + dx + gap, middle - 0.16), (third - dx - gap, low))
    write(ax, (second + third) / 2 - 0.12, high - 0.14, "D", fontsize=8)
    write(ax, (second + third) / 2 - 0.16, low, "A − P", fontsize=7.5)
    for row in (high, low):
        arrow(ax, (third + dx + gap, row), (last - dx - gap, row))
        write(ax, (third + last) / 2, row + 0.1, "+ X", fontsize=7.5)


def fig02_pipeline(transformer: Transformer3D, network: ADN, example: PipelineExample) -> Figure:
    """T aligns, D extracts P, Q = A - P is filled in, F segments, and the way back; what only training needs is dashed.

    Source: Fig. 2, Ni et al. 2022.
    Deviation: parameters are counted in the modules, traced for volumes of 40 x 256 x 256; without tissue maps they and
        their loss are not drawn.

    Args:
        transformer: Only its shapes matter.
        network: Only its shapes matter.
        example: The pictures.

    Raises:
        DataError: A picture has another shape than the others.
    """
    one = example.aligned
    others = {"scan": example.scan, "restored": example.restored, "mismatch": example.mismatch, "csf": example.csf}
    if strange := {n: v.shape for n, v in others.items() if v is not None and v.shape != one.brain.shape}:
        step = "cut all pictures from volumes on one grid"
        raise DataError("pictures", found=strange, wanted=f"{one.brain.shape}", next_step=step)
    volume = torch.empty(1, 1, *SIZE, device="meta")
    parts = {"T": sum(stage.parameters for stage in trace(transformer, volume))}
    named = {stage.name: stage for stage in trace(network, volume, whole=(ResUNet3D,))}
    parts |= {"D": named["extractor"].parameters, "F": named["segmenter"].parameters}
    figure, ax = canvas(4.35)
    ax.set_autoscale_on(False)
    brain = one.brain | example.scan_brain
    board = Board(ax, brain, one.spacing_yx, tall=0.76, wide=0.68)
    _pictures(board, example)
    for name, y in (("T", MIDDLE), ("D", UP), ("F", MIDDLE)):
        seen = {"X": "X", "X,A": "X, A"}[network.extractor.sees] if name == "D" else ""
        _network(ax, COLUMNS["A" if name == "D" else name], y, name, parts[name], seen)
    _flow(ax, board)
    _training(ax, board, example)
    said = [f"{counted(sum(parts.values()))} parameters", f"volumes of {sides(named['segmenter'].shape)}"]
    _key(ax, said)
    return figure


def _pictures(board: Board, example: PipelineExample) -> None:
    x, one = COLUMNS, example.aligned
    scale, maps = one.limits(one.total), {"cmap": MAP, "brain": one.brain}
    board.picture(example.scan, x["I"], MIDDLE, "I", *SCAN, brain=example.scan_brain)
    board.picture(one.image, x["X"], MIDDLE, "X", *SCAN, brain=one.brain)
    board.picture(one.mirrored, x["X"], LOW, "X′", *SCAN, brain=one.brain[:, ::-1])
    board.picture(one.total, x["A"], LOW, "A", limits=scale, **maps)
    board.picture(one.pathological, x["P"], UP, "P", limits=one.limits(one.pathological), **maps)
    board.picture(one.intrinsic, x["Q"], LOW, "Q", limits=scale, **maps)
    board.picture(one.anatomy_filled, x["filled"], MIDDLE, r"$\hat{X}$", *SCAN, brain=one.brain)
    board.picture(one.probability, x["Y"], MIDDLE, r"$\hat{Y}$", MAP, SHARE, brain=one.brain)
    board.picture(example.restored, x["Y"], LOW, "O", MAP, SHARE, brain=example.scan_brain)
    board.word(x["I"], MIDDLE, "scan")
    board.word(x["X"], LOW, "mirror image")
    board.word(x["A"], LOW, r"$\max(X′ - X, 0)$")
    board.word(x["P"], UP, "pathological", above=True)
    board.word(x["Q"], LOW, "intrinsic")
    board.word(x["filled"], MIDDLE, "anatomy filled in")
    board.word(x["Y"], LOW, "scan's frame")


def _network(ax: Axes, x: float, y: float, name: str, parameters: int, seen: str) -> None:
    """An hourglass, or for T a funnel, with its symbol, its size below."""
    tall, narrow = 0.34, 0.15
    corners = [(x - HALF_IN, y - tall), (x - HALF_IN, y + tall)]
    if name == "T":
        corners += [(x + HALF_IN, y + narrow), (x + HALF_IN, y - narrow)]
    else:
        corners += [(x, y + narrow), (x + HALF_IN, y + tall), (x + HALF_IN, y - tall), (x, y - narrow)]
    ax.add_patch(Polygon(corners, facecolor=NETWORK_COLOURS[name], edgecolor=INK, linewidth=0.8, joinstyle="round"))
    write(ax, x, y, name, fontsize=10)
    kind = "encoder" if name == "T" else "residual U-Net"
    lines = [kind, counted(parameters)] + ([f"sees {seen}"] if seen else [])
    write(ax, x, y + tall + 0.05, "\n".join(lines), va="bottom", fontsize=6)


def _flow(ax: Axes, board: Board) -> None:
    """All arrows of the way from I to O."""
    x, (dx, dy), gap = COLUMNS, board.half, 0.04
    wide = HALF_IN + gap
    arrow(ax, (x["I"] + dx + gap, MIDDLE), (x["T"] - wide, MIDDLE))
    arrow(ax, (x["T"] + wide, MIDDLE), (x["X"] - dx - gap, MIDDLE))
    arrow(ax, (x["X"] + dx + gap, MIDDLE), (x["Q"] - RADIUS_IN, MIDDLE))
    arrow(ax, (x["X"], MIDDLE + dy + gap), (x["A"] - wide, UP), bend="angle,angleA=90,angleB=0,rad=5")
    arrow(ax, (x["X"] - 0.1, MIDDLE - dy - gap), (x["X"] - 0.1, LOW + dy + gap))
    write(ax, x["X"] - 0.15, (MIDDLE + LOW) / 2, "flip", ha="right", fontsize=6)
    arrow(ax, (x["X"] + dx + gap, LOW), (x["A"] - dx - gap, LOW))
    arrow(ax, (x["A"], MIDDLE), (x["A"], LOW + dy + gap))
    ax.add_patch(Circle((x["A"], MIDDLE), 0.022, color=INK, zorder=3))
    arrow(ax, (x["A"] + wide, UP), (x["P"] - dx - gap, UP))
    arrow(ax, (x["A"] + dx + gap, LOW), (x["P"] - RADIUS_IN, LOW))
    ax.plot([x["P"]] * 2, [MIDDLE - 0.07, MIDDLE + 0.07], color="white", linewidth=4, zorder=2.5)
    ax.plot([x["P"]] * 2, [UP - dy - gap, LOW + RADIUS_IN + 0.08], color=INK, linewidth=0.9, zorder=2.6)
    arrow(ax, (x["P"], LOW + RADIUS_IN + 0.1), (x["P"], LOW + RADIUS_IN))
    sign(ax, x["P"], LOW, "−")
    arrow(ax, (x["P"] + RADIUS_IN, LOW), (x["Q"] - dx - gap, LOW))
    arrow(ax, (x["Q"], LOW + dy + gap), (x["Q"], MIDDLE - RADIUS_IN))
    sign(ax, x["Q"], MIDDLE, "+")
    arrow(ax, (x["Q"] + RADIUS_IN, MIDDLE), (x["filled"] - dx - gap, MIDDLE))
    arrow(ax, (x["filled"] + dx + gap, MIDDLE), (x["F"] - wide, MIDDLE))
    arrow(ax, (x["F"] + wide, MIDDLE), (x["Y"] - dx - gap, MIDDLE))
    back, half = (MIDDLE + LOW) / 2, 0.085
    arrow(ax, (x["Y"], MIDDLE - dy - gap), (x["Y"], back + half + 0.01))
    arrow(ax, (x["Y"], back - half - 0.01), (x["Y"], LOW + dy + gap))
    look = {"boxstyle": "round,pad=0.02", "facecolor": NETWORK_COLOURS["T"], "edgecolor": INK, "linewidth": 0.8}
    ax.add_patch(FancyBboxPatch((x["Y"] - 0.16, back - half + 0.02), 0.32, 2 * half - 0.04, zorder=3, **look))
    write(ax, x["Y"], back, r"$T^{-1}$", fontsize=7.5, zorder=4)
    corners = [(x["T"], MIDDLE - 0.27), (x["T"], 0.2), (x["F"], 0.2), (x["F"], back)]
    ax.plot(*zip(*corners, strict=True), color=INK, linewidth=0.9, solid_joinstyle="round")
    arrow(ax, (x["F"] - 0.001, back), (x["Y"] - 0.2, back))
    write(ax, x["T"] + 0.06, LOW, "pose", ha="left", fontsize=6)


def _training(ax: Axes, board: Board, example: PipelineExample) -> None:
    """What only training has: reference, tissue maps and losses."""
    x, (dx, dy), gap, look = COLUMNS, board.half, 0.04, {"color": LOSS_COLOUR, "fontsize": 8}
    how = {"colour": LOSS_COLOUR, "style": "<|-|>", "dashed": True}
    one = example.aligned
    arrow(ax, (x["X"] + 0.1, MIDDLE - dy - gap), (x["X"] + 0.1, LOW + dy + gap), **how)
    write(ax, x["X"] + 0.15, (MIDDLE + LOW) / 2, r"$L_T$", ha="left", **look)
    board.picture(one.lesion.astype(float), x["Y"], UP, "T(G)", edge=LOSS_COLOUR)
    board.word(x["Y"], UP, "reference", above=True)
    arrow(ax, (x["Y"], UP - dy - gap), (x["Y"], MIDDLE + dy + gap), **how)
    write(ax, x["Y"] + 0.05, (UP + MIDDLE) / 2, r"$L_F$", ha="left", **look)
    maps = {r"$R_{GW}$": (example.mismatch, "grey facing white"), r"$R_{CSF}$": (example.csf, "CSF")}
    given = {symbol: said for symbol, said in maps.items() if said[0] is not None}
    at = x["filled"] - 0.22
    for number, (symbol, (values, word)) in enumerate(given.items()):
        board.picture(values, at + 0.8 * number, UP, symbol, brain=one.brain, edge=LOSS_COLOUR)
        board.word(at + 0.8 * number, UP, word, above=True)
    if given:
        arrow(ax, (at - dx - gap, UP), (x["P"] + dx + gap, UP), **how)
        write(ax, (at + x["P"]) / 2, UP + 0.1, r"$L_{tissue}$", **look)


def _key(ax: Axes, lines: list[str]) -> None:
    """What arrows mean, and how large all is."""
    left, top = 0.12, 4.1
    arrow(ax, (left, top), (left + 0.3, top))
    write(ax, left + 0.37, top, "forward", ha="left")
    arrow(ax, (left, top - 0.17), (left + 0.3, top - 0.17), colour=LOSS_COLOUR, style="<|-|>", dashed=True)
    write(ax, left + 0.37, top - 0.17, "losses, training only", ha="left")
    for number, said in enumerate(lines):
        write(ax, left, top - 0.36 - 0.16 * number, said, ha="left")
