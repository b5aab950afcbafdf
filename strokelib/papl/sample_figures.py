"""Figures 1 and 4 of Sun et al. 2024: the three bilateral relations, and samples with and without pathological ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle

from strokelib import plotting
from strokelib.errors import DataError
from strokelib.figures.diagrams import INK, arrow, canvas, write
from strokelib.papl.examples import AlignedSlice, Relation, inner
from strokelib.papl.sampling import Region, RegionSampler, paired_mask
from strokelib.papl.slice_tiles import aligned_slice, field_mm, inch_axes, paired_windows, window

WIDTH_IN, SMALL_PT = 7.2, 6.5
WINDOW_HU, DIFFERENCE_HU = (10.0, 60.0), 15.0
SIGNED = "RdBu_r"
RELATION_COLOURS = {"pathological": "#D55E00", "intrinsic": "#009E73", "symmetric": "#56B4E9"}
LABEL_COLOURS = {1: "#D55E00", 0: "#56B4E9"}
LABEL_WORDS = {1: "positive", 0: "negative"}
DROPPED_COLOUR = "0.6"
TILE_IN, TILE_GAP_IN = 0.66, 0.06
LARGE_IN, LABEL_IN, GAP_IN, NOTE_IN, GRID_COLUMNS = 2.3, 0.2, 0.05, 0.15, 4


@dataclass(frozen=True)
class SampledSlice:
    """A slice and the samples that were drawn from it.

    Args:
        image: (H, W), z-scored.
        fill: Value that takes the place of what a sample leaves out.
        brain: (H, W) bool.
        lesion: (H, W) bool.
        regions: The samples, in the order in which they were drawn.
        spacing_yx: (dy, dx) in mm.
        name: Of the scan, for the picture.
    """

    image: np.ndarray
    fill: float
    brain: np.ndarray
    lesion: np.ndarray
    regions: Sequence[Region]
    spacing_yx: tuple[float, float]
    name: str = ""

    @classmethod
    def of(cls, sampler: RegionSampler, number: int = 0, name: str = "") -> SampledSlice:
        """All samples of the slice that a sampler comes to.

        Args:
            sampler: Its position in the stream does not matter and stays.
            number: Of the slice in the stream, from 0; one slice may come several times.
            name: Of the scan, for the picture.
        """
        numbers = range(number * sampler.samples, (number + 1) * sampler.samples)
        regions = [sampler.region(n, np.random.default_rng((sampler.seed, n))) for n in numbers]
        one, row = sampler.slices, regions[0].row
        masks = (one.brains[row].numpy().astype(bool), one.lesions[row].numpy().astype(bool))
        spacing = (float(one.pixel_mm[row]),) * 2
        return cls(one.images[row, 0].numpy(), float(one.fill[row]), *masks, regions, spacing, name)

    def sample(self, region: Region) -> np.ndarray:
        """(H, W), as the encoder gets a sample: the window and its mirror window, all else filled."""
        return np.where(paired_mask(region.box, self.image.shape), self.image, self.fill)

    @property
    def limits(self) -> tuple[float, float]:
        """Ends of the grey scale: the fill, and the 99th percentile of the brain without its rim."""
        within = inner(self.brain, self.spacing_yx)
        top = float(np.percentile(self.image[within if within.any() else self.brain], 99))
        return self.fill, max(top, self.fill + 1e-3)


def fig01_asymmetries(example: AlignedSlice) -> Figure:
    """Three bilateral relations on a slice (a), their windows side by side (b), and which of them are told apart (c).

    Source: Fig. 1, Sun et al. 2024.
    Deviation: windows are put by rule, see :meth:`strokelib.papl.examples.AlignedSlice.relations`, each with the means
        of both sides; (c) is a sketch without data, as in the paper.

    Args:
        example: A slice with lesion.

    Raises:
        DataError: The slice shows no lesion, or has no room for the windows.
    """
    relations = example.relations()
    figure, ax = canvas(2.86)
    ax.set_autoscale_on(False)
    height_mm, width_mm = field_mm(example.brain, example.spacing_yx)
    tall = 2.42
    wide = min(2.1, tall * width_mm / height_mm)
    slice_ax = inch_axes(figure, 0.08, 0.14, wide, tall)
    aligned_slice(slice_ax, example.image_hu, example.brain, example.spacing_yx, WINDOW_HU)
    plotting.outline(slice_ax, example.lesion, plotting.TRUTH_COLOUR, width=0.9)
    for relation in relations:
        paired_windows(slice_ax, relation.box, example.brain.shape[1], RELATION_COLOURS[relation.kind], 1.4)
    left, top = 2.42, 2.5
    for column, word in enumerate(("window", "mirror image", "difference")):
        write(ax, left + (TILE_IN + TILE_GAP_IN) * column + TILE_IN / 2, top + 0.09, word)
    for row, relation in enumerate(relations):
        _window_row(figure, ax, example, relation, (left, top - row * 0.84))
    _sketch(ax, 5.93, 1.4)
    for letter, x in (("a", 0.08), ("b", left), ("c", 4.82)):
        write(ax, x, 2.76, letter, ha="left", fontsize=10, weight="bold")
    key = [Line2D([], [], color=plotting.TRUTH_COLOUR, linewidth=1.0, label="reference")]
    key.append(Line2D([], [], color="#CC79A7", linewidth=0.9, linestyle="--", label="mid-sagittal line"))
    place = {"loc": "lower left", "bbox_to_anchor": (0.05 / WIDTH_IN, -0.03 / 2.86)}
    figure.legend(handles=key, ncols=2, frameon=False, fontsize=SMALL_PT, columnspacing=1.0, borderpad=0.2, **place)
    return figure


def _window_row(
    figure: Figure, ax: Axes, example: AlignedSlice, relation: Relation, corner: tuple[float, float]
) -> None:
    """The window, its mirror image flipped back, and their difference, with the means below."""
    (x, y), colour = corner, RELATION_COLOURS[relation.kind]
    top, bottom, left, right = relation.box
    rows = slice(top, bottom)
    own, other = example.image_hu[rows, left:right], example.image_hu[:, ::-1][rows, left:right]
    looks = (("gray", WINDOW_HU), ("gray", WINDOW_HU), (SIGNED, (-DIFFERENCE_HU, DIFFERENCE_HU)))
    for column, (values, (colours, limits)) in enumerate(zip((own, other, own - other), looks, strict=True)):
        place = (x + (TILE_IN + TILE_GAP_IN) * column, y - TILE_IN, TILE_IN, TILE_IN)
        tile = inch_axes(figure, *place)
        tile.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto", interpolation="nearest")
        plotting.bare(tile)
        for spine in tile.spines.values():
            spine.set(visible=True, color=colour, linewidth=1.4)
    difference = f"{relation.difference_hu:+.1f} HU".replace("-", "−")
    said = f"{relation.kind}: {relation.own_hu:.1f} against {relation.mirror_hu:.1f}, {difference}"
    write(ax, x, y - TILE_IN - 0.075, said, ha="left", fontsize=SMALL_PT, color=_darker(colour))


def _darker(colour: str) -> np.ndarray:
    return 0.72 * np.array(to_rgb(colour))


def _sketch(ax: Axes, x: float, y: float) -> None:
    """Where the samples of each relation are meant to lie on the unit sphere."""
    radius, rng = 0.88, np.random.default_rng(3)
    arrow(ax, (4.62, y), (x - radius - 0.12, y))
    write(ax, (4.62 + x - radius - 0.12) / 2, y + 0.09, "encoder", fontsize=SMALL_PT)
    ax.add_patch(Circle((x, y), radius, facecolor="#F6F8FA", edgecolor=INK, linewidth=0.8))
    centres = {"pathological": (-0.36, 0.2), "intrinsic": (0.4, -0.02), "symmetric": (0.38, -0.34)}
    for kind, (dx, dy) in centres.items():
        points = np.array([x + dx, y + dy]) + rng.normal(0, 0.08, (10, 2)).clip(-0.14, 0.14)
        ax.plot(*points.T, "o", color=RELATION_COLOURS[kind], markersize=3.6, markeredgecolor="white", mew=0.4)
    ax.plot([x - 0.56, x + 0.6], [y - 0.6, y + 0.56], color=INK, linewidth=0.9, linestyle=(0, (4, 2.5)))
    arrow(ax, (x - 0.12, y + 0.1), (x + 0.1, y - 0.12), style="<|-|>")
    write(ax, x - 0.26, y + 0.58, "pathological\nasymmetry", color=_darker(RELATION_COLOURS["pathological"]))
    write(ax, x + 0.12, y - 0.66, "no pathological\nasymmetry")
    marks = {"marker": "o", "linestyle": "", "markersize": 3.6}
    handles = [Line2D([], [], color=colour, label=kind, **marks) for kind, colour in RELATION_COLOURS.items()]
    place = {"loc": "lower center", "bbox_to_anchor": (x - 0.02, 0.02), "bbox_transform": ax.transData}
    ax.legend(handles=handles, ncols=3, frameon=False, fontsize=SMALL_PT, columnspacing=0.7, handletextpad=0.0, **place)
    write(ax, x, 2.5, "representations of window pairs (sketch)", fontsize=SMALL_PT)


def fig04_samples(slices: Sequence[SampledSlice]) -> Figure:
    """Where samples were drawn on a slice, and each of them with its share of infarct and its label.

    Source: Fig. 4, Sun et al. 2024.
    Deviation: all samples of a slice are shown, positives first, each with its number, share and label. Windows that
        were drawn and dropped for too little infarct, which the paper does not mention, are dotted.

    Args:
        slices: From top to bottom, each with its samples.

    Raises:
        DataError: There is no slice, or one without a sample.
    """
    if not slices or not all(one.regions for one in slices):
        step = "draw samples from each slice first"
        raise DataError("slices of a figure", found="none with samples", wanted="one or more", next_step=step)
    size_mm = tuple(max(sides) for sides in zip(*(field_mm(s.brain, s.spacing_yx) for s in slices), strict=True))
    aspect = size_mm[0] / size_mm[1]
    small = (WIDTH_IN - LABEL_IN - LARGE_IN - GRID_COLUMNS * GAP_IN - 0.02) / GRID_COLUMNS
    line = small * aspect + NOTE_IN
    blocks = [line * -(-len(one.regions) // GRID_COLUMNS) for one in slices]
    tall = [max(block, LARGE_IN * aspect) + 0.08 for block in blocks]
    total = sum(tall) + 0.44
    figure, top = plt.figure(figsize=(WIDTH_IN, total)), total - 0.2
    for one, block, height in zip(slices, blocks, tall, strict=True):
        centre = top - height / 2
        large = inch_axes(figure, LABEL_IN, centre - LARGE_IN * aspect / 2, LARGE_IN, LARGE_IN * aspect)
        _sampled(large, one, size_mm)
        figure.text(0.5 * LABEL_IN / WIDTH_IN, centre / total, one.name, rotation=90, ha="center", va="center")
        order = sorted(range(len(one.regions)), key=lambda n: -one.regions[n].label)
        for place, number in enumerate(order):
            row, column = divmod(place, GRID_COLUMNS)
            x = LABEL_IN + LARGE_IN + GAP_IN + column * (small + GAP_IN)
            tile = inch_axes(figure, x, centre + block / 2 - row * line - small * aspect, small, small * aspect)
            _sample(tile, one, number, size_mm)
        top -= height
    said = "number: share of infarct in window and mirror window, label"
    figure.text(1 - 0.5 * (WIDTH_IN - LABEL_IN - LARGE_IN) / WIDTH_IN, 1 - 0.11 / total, said, ha="center", va="center")
    _sample_key(figure, any(region.dropped for one in slices for region in one.regions))
    return figure


def _sample_key(figure: Figure, dropped: bool) -> None:
    looks = [(LABEL_WORDS[kind], {"color": LABEL_COLOURS[kind], "linewidth": 1.3}) for kind in (1, 0)]
    looks.append(("mirror window", {"color": "0.4", "linewidth": 0.9, "linestyle": (0, (3, 2))}))
    looks += [("drawn and dropped", {"color": DROPPED_COLOUR, "linewidth": 0.9, "linestyle": ":"})] if dropped else []
    looks.append(("reference", {"color": plotting.TRUTH_COLOUR, "linewidth": 1.2}))
    handles = [Line2D([], [], label=name, **look) for name, look in looks]
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.0)}
    figure.legend(handles=handles, ncols=len(handles), frameon=False, handlelength=1.5, borderpad=0.1, **place)


def _sampled(ax: Axes, one: SampledSlice, size_mm: tuple[float, float]) -> None:
    """The slice with all windows on it."""
    aligned_slice(ax, one.image, one.brain, one.spacing_yx, one.limits, size_mm)
    plotting.outline(ax, one.lesion, plotting.TRUTH_COLOUR, width=1.2)
    for box in (box for region in one.regions for box in region.dropped):
        window(ax, box, DROPPED_COLOUR, 0.8, ":")
    for number, region in enumerate(one.regions, 1):
        colour = LABEL_COLOURS[region.label]
        paired_windows(ax, region.box, one.brain.shape[1], colour, 1.0)
        back = {"facecolor": colour, "edgecolor": "none", "pad": 0.9}
        how = {"fontsize": 5.5, "color": "black", "ha": "left", "va": "top", "bbox": back, "clip_on": True}
        ax.text(region.box[2] + 0.2, region.box[0] + 0.2, str(number), **how)


def _sample(ax: Axes, one: SampledSlice, number: int, size_mm: tuple[float, float]) -> None:
    """One sample as the encoder gets it, the brain's edge added."""
    region = one.regions[number]
    aligned_slice(ax, one.sample(region), one.brain, one.spacing_yx, one.limits, size_mm)
    ax.contour(one.brain.astype(float), levels=[0.5], colors=["0.45"], linewidths=[0.5])
    paired_windows(ax, region.box, one.brain.shape[1], LABEL_COLOURS[region.label], 0.9)
    said = f"{number + 1}: {100 * region.share:.1f} %, {LABEL_WORDS[region.label]}"
    ax.text(0.5, -0.02, said, transform=ax.transAxes, ha="center", va="top", fontsize=SMALL_PT)
