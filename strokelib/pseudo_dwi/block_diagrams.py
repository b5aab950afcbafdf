"""The block diagrams of Wang et al. 2020: the pipeline, the context encoder and SLNet, each from its live module."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from strokelib.data.cases import Case, shown_slice
from strokelib.errors import DataError
from strokelib.figures.boards import Board
from strokelib.figures.diagrams import INK, LABEL_PT, PLAIN_COLOUR, SMALL_PT, arrow, canvas, chain_of_boxes, write
from strokelib.figures.perfusion import SCALES, perfusion_colours
from strokelib.figures.traces import Stage, counted, sides, trace
from strokelib.figures.u_shape import u_shape
from strokelib.nn.excitation import SqueezeExcitation
from strokelib.nn.unet import UNet
from strokelib.pseudo_dwi.losses import FAR, W
from strokelib.pseudo_dwi.model import CHANNELS, ContextEncoder, PseudoDwi

SIZE = (256, 256)
TALL_IN, WIDE_IN, HALF_IN, STACK_IN = 0.92, 0.86, 0.3, 0.09
ROWS_IN = (3.28, 1.98, 0.78)
COLUMNS_IN = (0.62, 1.62, 2.62, 3.62, 4.62, 5.64, 6.66)
NETWORK_COLOURS = {"extractor": "#CDE8F6", "generator": "#FBE3B3", "segmenter": "#BFE5D8"}
SYMBOLS = {"extractor": r"$\Phi_e$", "generator": r"$\Phi_g$", "segmenter": r"$\Phi_s$"}
LOSS_COLOUR = "#D55E00"


@dataclass(frozen=True)
class PipelineExample:
    """One slice on its way through the chain.

    Args:
        maps: (4, H, W) in [0, 1]: CBF, CBV, MTT, Tmax.
        mip: (H, W) in [0, 1].
        frames: (6, H, W) in [0, 1].
        high_level: (H, W) in [0, 1], or None for a chain without extractor.
        image: (H, W) in [0, 1], the pseudo-DWI.
        probability: (H, W) in [0, 1].
        dwi: (H, W) in [0, 1], the real one.
        lesion: (H, W) bool.
        weight: (H, W), the weight map A.
        brain: (H, W) bool; pictures are cut to it.
        spacing_yx: (dy, dx) in mm.
    """

    maps: np.ndarray
    mip: np.ndarray
    frames: np.ndarray
    high_level: np.ndarray | None
    image: np.ndarray
    probability: np.ndarray
    dwi: np.ndarray
    lesion: np.ndarray
    weight: np.ndarray
    brain: np.ndarray
    spacing_yx: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def of(
        cls, case: Case, image: np.ndarray, probability: np.ndarray, high_level: np.ndarray | None = None
    ) -> PipelineExample:
        """The slice with most lesion of a scan, with what the chain made of it.

        Args:
            case: As :func:`strokelib.pseudo_dwi.sampling.network_inputs` makes it, with DWI and reference.
            image: (D, H, W), the pseudo-DWI.
            probability: (D, H, W).
            high_level: (D, H, W), or None for a chain without extractor.

        Raises:
            DataError: The scan lacks an image, the reference or the brain mask.
        """
        z, wanted = shown_slice(case), ("maps", "mip", "frames", "dwi", "weight")
        if missing := [name for name in wanted if name not in case.channels]:
            step = "choose a scan with frames, maps, DWI and reference"
            raise DataError(
                f"case {case.id}", found=f"no {', '.join(missing)}", wanted=", ".join(wanted), next_step=step
            )
        maps, mip, frames, dwi, weight = (case.channels[name][:, z] for name in wanted)
        high_level = None if high_level is None else high_level[z]
        drawn = (case.lesion[z].astype(bool), weight[0], case.brain[z].astype(bool), case.image.spacing[1:])
        return cls(maps, mip[0], frames, high_level, image[z], probability[z], dwi[0], *drawn)


def _stack(board: Board, values: np.ndarray, x: float, y: float) -> None:
    """Grey pictures one behind the other, the first in front."""
    places = (np.arange(len(values)) / (len(values) - 1) - 0.5) * 2 * STACK_IN
    for one, off in list(zip(values, places, strict=True))[::-1]:
        board.picture(one, x + off, y + off)


def _quarters(board: Board, values: np.ndarray, x: float, y: float) -> None:
    """The four maps in two rows of two, in the colours of perfusion maps."""
    corners = [(-1, 1), (1, 1), (-1, -1), (1, -1)]
    for one, name, corner in zip(values, SCALES, corners, strict=True):
        dx, dy = (board.half + 0.012) / 2 * corner
        board.picture(one, x + dx, y + dy, cmap=perfusion_colours(name), share=0.5)


def _network(ax: Axes, x: float, y: float, name: str, stage: Stage, came: int) -> None:
    """An hourglass with the network's symbol, and below it channels in and out and its parameters."""
    wide, tall, narrow = HALF_IN, 0.36, 0.16
    corners = [(x - wide, y - tall), (x - wide, y + tall), (x, y + narrow), (x + wide, y + tall)]
    corners += [(x + wide, y - tall), (x, y - narrow)]
    ax.add_patch(Polygon(corners, facecolor=NETWORK_COLOURS[name], edgecolor=INK, linewidth=0.8, joinstyle="round"))
    write(ax, x, y, SYMBOLS[name], fontsize=10)
    write(ax, x, y - tall - 0.06, f"{stage.kind}\n{came} → {stage.shape[1]} channels\n{counted(stage.parameters)}",
          va="top", fontsize=SMALL_PT)  # fmt: skip


def _loss(ax: Axes, start: tuple[float, float], end: tuple[float, float], text: str) -> None:
    arrow(ax, start, end, colour=LOSS_COLOUR, style="<|-|>", dashed=True)
    middle = (np.array(start) + np.array(end)) / 2
    aside = (0.17, 0.0) if start[0] == end[0] else (0.0, 0.11)
    write(ax, *(middle + aside), text, color=LOSS_COLOUR, fontsize=8)


def fig02_pipeline(chain: PseudoDwi, example: PipelineExample) -> Figure:
    """The chain of three networks with one slice on its way through it, and what the losses compare.

    Source: Fig. 2, Wang et al. 2020.
    Deviation: channels, sizes and parameters are printed, traced in the module for slices of 256 x 256; what a chain
        does not have is not drawn.

    Args:
        chain: Only its shapes matter.
        example: The pictures.

    Raises:
        DataError: The chain has an extractor and the example no output of it.
    """
    if chain.extractor is not None and example.high_level is None:
        step = "run the chain on the slice and pass what it returns"
        raise DataError("example", found="no high-level feature", wanted="that of the extractor", next_step=step)
    given = [torch.empty(1, channels, *SIZE, device="meta") for channels in CHANNELS.values()]
    stages = {stage.name: stage for stage in trace(chain, *given, whole=(UNet,))}
    figure, ax = canvas(4.05)
    ax.set_autoscale_on(False)
    look = {"margin": 4, "mirrored": False, "frame": "white"}
    board = Board(ax, example.brain, example.spacing_yx, TALL_IN, WIDE_IN, **look)
    x, (top, middle, low), (dx, dy) = COLUMNS_IN, ROWS_IN, board.half
    joint, radius = (x[2], middle), 0.11
    elbow = "angle,angleA=0,angleB=90,rad=6"
    if chain.extractor is not None:
        _stack(board, example.frames, x[0], top)
        board.word(x[0], top + STACK_IN, f"$I^*$: {CHANNELS['frames']} frames", above=True)
        arrow(ax, (x[0] + dx + STACK_IN + 0.04, top), (x[1] - HALF_IN - 0.03, top))
        _network(ax, x[1], top, "extractor", stages["extractor"], chain.extractor.in_channels)
        arrow(ax, (x[1] + HALF_IN + 0.03, top), (x[2] - dx - 0.04, top))
        board.picture(example.high_level, x[2], top)
        board.word(x[2], top, "$F_h$: high-level feature", above=True)
        arrow(ax, (x[2], top - dy - 0.04), (x[2], middle + radius))
        _loss(ax, (x[2] + dx + 0.05, top), (x[4] - dx - 0.05, top), r"$L_e$")
    if "mip" in chain.inputs:
        board.picture(example.mip, x[0], middle)
        board.word(x[0], middle, "$F_l$: maximum over time")
        arrow(ax, (x[0] + dx + 0.04, middle), (x[2] - radius, middle))
    if "maps" in chain.inputs or chain.segment_maps:
        _quarters(board, example.maps, x[0], low)
        board.word(x[0], low, "$F_o$: CBF, CBV, MTT, Tmax")
    if "maps" in chain.inputs:
        arrow(ax, (x[0] + dx + 0.04, low), (x[2], middle - radius), bend=elbow)
    if chain.segment_maps:
        arrow(ax, (x[0] + dx + 0.04, low), (x[5], middle - 0.82), bend=elbow)
    ax.add_patch(Circle(joint, radius, facecolor=PLAIN_COLOUR, edgecolor=INK, linewidth=0.8, zorder=3))
    write(ax, *joint, "C", fontsize=LABEL_PT, weight="bold", zorder=4)
    arrow(ax, (x[2] + radius, middle), (x[3] - HALF_IN - 0.03, middle))
    _network(ax, x[3], middle, "generator", stages["generator"], chain.generator.in_channels)
    arrow(ax, (x[3] + HALF_IN + 0.03, middle), (x[4] - dx - 0.04, middle))
    board.picture(example.image, x[4], middle)
    board.word(x[4], middle, "$I_g$: pseudo-DWI")
    arrow(ax, (x[4] + dx + 0.04, middle), (x[5] - HALF_IN - 0.03, middle))
    _network(ax, x[5], middle, "segmenter", stages["segmenter"], chain.segmenter.in_channels)
    arrow(ax, (x[5] + HALF_IN + 0.03, middle), (x[6] - dx - 0.04, middle))
    board.picture(example.probability, x[6], middle, cmap="magma")
    board.word(x[6], middle, "$P$: lesion")
    board.picture(example.dwi, x[4], top)
    board.word(x[4], top, "$I_d$: real DWI", above=True)
    board.picture(example.weight, x[5], top, cmap="viridis", limits=(0.0, W))
    board.word(x[5], top, f"$A$: weight, {FAR:g} to {W:g}", above=True)
    board.picture(example.lesion.astype(float), x[6], top)
    board.word(x[6], top, "$Y$: reference", above=True)
    arrow(ax, (x[6] - dx - 0.03, top), (x[5] + dx + 0.03, top))
    for column, text in ((4, r"$L_g$"), (6, r"$L_s$")):
        _loss(ax, (x[column], top - dy - 0.05), (x[column], middle + dy + 0.05), text)
    _key(ax, stages, chain)
    return figure


def _key(ax: Axes, stages: dict[str, Stage], chain: PseudoDwi) -> None:
    """What arrows mean, what training minimises, and how large all is."""
    left, line = 3.3, 0.62
    arrow(ax, (left, line), (left + 0.35, line))
    write(ax, left + 0.43, line, "forward; C joins channels", ha="left")
    arrow(ax, (left, line - 0.2), (left + 0.35, line - 0.2), colour=LOSS_COLOUR, style="<|-|>", dashed=True)
    extracted = r" + \beta L_e" if chain.extractor is not None else ""
    write(
        ax,
        left + 0.43,
        line - 0.2,
        rf"compared by a loss: $L = L_s + \alpha L_g{extracted}$; $A$ weights its pixels",
        ha="left",
    )
    total = counted(sum(stage.parameters for stage in stages.values()))
    write(ax, left + 0.43, line - 0.4, f"{total} parameters; slices of {sides((1, 1, *SIZE))}", ha="left")


def fig04_context_encoder(encoder: ContextEncoder) -> Figure:
    """The context encoder, from an image to its code.

    Source: Fig. 4, Wang et al. 2020.
    Deviation: traced in our module, whose widths and pools are assumed; parameters stand below the arrows.

    Args:
        encoder: Only its shapes matter.
    """
    figure, ax = canvas(2.3)
    entry = (1, 1, *SIZE)
    stages = trace(encoder, torch.empty(entry, device="meta"))
    chain_of_boxes(ax, stages, entry, middle=1.2, tall=1.35)
    frozen = not any(p.requires_grad for p in encoder.parameters())
    total = counted(sum(stage.parameters for stage in stages))
    said = rf"$\Phi_c$: {total} parameters, {'frozen' if frozen else 'trained'}"
    write(ax, 6.95, 2.12, said, ha="right", fontsize=LABEL_PT + 0.5)
    return figure


def fig05_slnet(network: UNet) -> Figure:
    """SLNet as a U, its normalisation and its squeeze-and-excitation blocks in colour.

    Source: Fig. 5, Wang et al. 2020.
    Deviation: traced in our module, for slices of 256 x 256; parameters are counted in it.

    Args:
        network: A :class:`strokelib.pseudo_dwi.model.SLNet`, or another U-Net; only its shapes matter.
    """
    figure, ax = canvas(4.5)
    entry = (1, network.in_channels, *SIZE)
    stages = trace(network, torch.empty(entry, device="meta"), whole=(SqueezeExcitation,))
    handles = u_shape(ax, stages, entry, top=4.25, bottom=0.2)
    ax.legend(handles=handles, loc="lower left", frameon=False, fontsize=LABEL_PT, borderaxespad=0.4)
    excited = sum(s.parameters for s in stages if s.kind == SqueezeExcitation.__name__)
    parts = {
        part: sum(s.parameters for s in stages if s.name.startswith(part)) for part in ("encoder", "decoder", "head")
    }
    rows = {"encoder": parts["encoder"] - excited} | ({"SE blocks": excited} if excited else {})
    rows |= {"decoder": parts["decoder"], "head": parts["head"]}
    for number, (name, count) in enumerate([*rows.items(), ("parameters", sum(s.parameters for s in stages))][::-1]):
        bold = {} if number else {"weight": "bold"}
        write(ax, 6.25, 0.22 + 0.16 * number, name, ha="right", va="baseline", **bold)
        write(ax, 6.95, 0.22 + 0.16 * number, counted(count), ha="right", va="baseline", **bold)
    return figure
