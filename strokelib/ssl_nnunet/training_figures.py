"""How the trainings of Seia et al. 2023 went, and what the pre-training looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from strokelib import plotting
from strokelib.data.augment3d import Augmentation3d, change_intensities
from strokelib.errors import DataError
from strokelib.ssl_nnunet.collapse import uniform_loss
from strokelib.ssl_nnunet.heads import Head
from strokelib.ssl_nnunet.toy import OUTPUTS, ToyHistory
from strokelib.ssl_nnunet.views import Box, Pair, view_of
from strokelib.train import History

WIDTH_IN, PANEL_IN, SMALL_PT = 7.2, 1.5, 6.5
Curve = tuple[np.ndarray, np.ndarray]
LINE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
BOX_COLOURS = {"base": "#F0E442", "first": "#56B4E9", "second": "#E69F00"}


@dataclass(frozen=True)
class Watch:
    """What tells learning from collapse, each a curve (steps, values).

    Args:
        loss: In nats.
        rank: RankMe of the teacher's latent vectors.
        entropy: Of the teacher's outputs, in nats.
        spread: Of the teacher's outputs, in nats.
        outputs: K.
    """

    loss: Curve
    rank: Curve
    entropy: Curve
    spread: Curve
    outputs: int

    @classmethod
    def of(cls, history: History, outputs: int) -> Watch:
        """Of a pre-training's validations.

        Raises:
            ParameterError: The history is of another training.
        """
        names = ("val_loss", "rank_me", "teacher_entropy", "teacher_spread")
        return cls(*(history.curve(name) for name in names), outputs)

    @classmethod
    def of_toy(cls, toy: ToyHistory) -> Watch:
        """Of a toy run."""
        steps = 1 + np.arange(len(toy.loss))
        columns = (toy.loss, toy.rank, toy.entropy, toy.spread)
        return cls(*((steps, np.asarray(column)) for column in columns), OUTPUTS)


def collapse_curves(histories: Mapping[str, Watch], toys: Mapping[str, Watch] | None = None) -> Figure:
    """Loss, RankMe, entropy and spread of pre-trainings, and below them of toy runs that collapse.

    Losses, entropies and spreads are shares of log K: a collapse to outputs all alike has a loss and an entropy of 1,
    one to a single output has 0, and both have no spread.

    Args:
        histories: Name of a pre-training -> its curves.
        toys: Name of a toy run -> its curves, or none.

    Raises:
        DataError: There is no pre-training.
    """
    rows = {"pre-training": histories} | ({"toy run": toys} if toys else {})
    if not histories:
        raise DataError("histories", found="none", wanted="one or more", next_step="run a pre-training first")
    size = (WIDTH_IN, (PANEL_IN + 0.35) * len(rows))
    figure, axes = plt.subplots(len(rows), 4, figsize=size, layout="constrained", squeeze=False)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)
    letters = iter("abcdefgh")
    for row, (title, watched) in zip(axes, rows.items(), strict=True):
        for ax, (name, label) in zip(row, _LABELS.items(), strict=True):
            for colour, (_, watch) in zip(_colours(watched), watched.items(), strict=True):
                steps, values = getattr(watch, name)
                share = 1.0 if name == "rank" else uniform_loss(watch.outputs)
                mark = "o" if len(steps) <= 20 else ""
                ax.plot(steps, np.asarray(values) / share, marker=mark, color=colour, linewidth=1.1, markersize=2.5)
            if name in ("loss", "entropy"):
                ax.axhline(1.0, color="0.5", linewidth=0.8, linestyle=(0, (3, 2)))
            ax.set(xlabel="step", ylim=(0, None), xlim=(0, None))
            ax.set_title(f"{label}", loc="left", pad=4)
            plotting.panel_letter(ax, next(letters))
        handles = [
            Line2D([], [], color=colour, linewidth=1.4, label=name)
            for colour, name in zip(_colours(watched), watched, strict=True)
        ]
        handles.append(Line2D([], [], color="0.5", linewidth=0.8, linestyle=(0, (3, 2)), label="log K"))
        row[-1].legend(handles=handles, title=title, loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False,
                       handlelength=1.2, alignment="left", title_fontsize=SMALL_PT + 0.5)  # fmt: skip
    return figure


_LABELS = {"loss": "loss / log K", "rank": "RankMe", "entropy": "entropy / log K", "spread": "spread / log K"}


def _colours(named: Mapping[str, object]) -> list[str]:
    return [LINE_COLOURS[number % len(LINE_COLOURS)] for number in range(len(named))]


@dataclass(frozen=True)
class ViewsExample:
    """One pair of views, each by its middle slice.

    Args:
        slab: (H, W), middle slice of the slab in the head's box.
        first: (h, w), the first view.
        second: (h, w), the second view.
        symmetric: (h, w), what takes the second view's place in a symmetric pair: the first one's place on the other
            side.
        pair: The boxes.
        background: Value outside the brain.
        limits: Ends of the grey scale.
        spacing_yx: (dy, dx) in mm.
        name: Of the head.
    """

    slab: np.ndarray
    first: np.ndarray
    second: np.ndarray
    symmetric: np.ndarray
    pair: Pair
    background: float
    limits: tuple[float, float]
    spacing_yx: tuple[float, float]
    name: str = ""

    @classmethod
    def of(
        cls,
        head: Head,
        pair: Pair,
        size: Sequence[int],
        *,
        augmentation: Augmentation3d | None = None,
        seed: int = 0,
    ) -> ViewsExample:
        """The pictures of a pair that :meth:`strokelib.ssl_nnunet.views.ViewSampler.place` has drawn.

        Args:
            head: With its contralateral image.
            pair: Where the views are, drawn with symmetry 0: the symmetric one is made here.
            size: Sides (d, h, w) of a view.
            augmentation: Changes of intensity that the views undergo, or none.
            seed: Of these changes.

        Raises:
            DataError: The head holds no contralateral image, or the pair is a symmetric one.
        """
        if head.contralateral is None or any(pair.contralateral):
            found = "no contralateral image" if head.contralateral is None else "a symmetric pair"
            step = "give contralateral=True to heads_of, and symmetry=0 to the sampler"
            raise DataError(f"head {head.id}", found=found, wanted="an image and a plain pair", next_step=step)
        rng, shown = np.random.default_rng(seed), []
        boxes = (pair.views[0], pair.views[1], pair.views[0])
        for images, box in zip((head.images, head.images, head.contralateral), boxes, strict=True):
            view = view_of(images, box, size, head.fill)
            if augmentation is not None:
                view = change_intensities(view, augmentation, rng, head.spacing, head.fill)
            shown.append(view[0, size[0] // 2].numpy())
        depth = head.images.shape[1]
        middle = min(max(pair.slab.start[0] + pair.slab.sides[0] // 2, 0), depth - 1)
        inside = head.images[0][head.brain].numpy()
        limits = tuple(float(end) for end in np.percentile(inside, (1, 99.5)))
        slab = head.images[0, middle].numpy()
        return cls(slab, *shown, pair, float(head.fill[0]), limits, head.spacing[1:], head.id)


def pretraining_views(examples: Sequence[ViewsExample]) -> Figure:
    """From a slab to a pair of views: the base crop, two crops of it, and what the symmetry augmentation puts there.

    Views have the size that the network sees, whatever the size of their boxes; flips are not shown.

    Args:
        examples: A row each.

    Raises:
        DataError: There is none.
    """
    if not examples:
        raise DataError("examples", found="none", wanted="one or more", next_step="draw a pair of views")
    titles = ("middle slice of the slab", "base crop", "view 1", "view 2", "view 2, symmetric pair")
    figure, axes = plt.subplots(
        len(examples), len(titles), figsize=(WIDTH_IN, 1.62 * len(examples) + 0.32), squeeze=False
    )
    figure.subplots_adjust(left=0.03, right=0.995, top=1 - 0.24 / figure.get_size_inches()[1], bottom=0.02, wspace=0.05)
    for row, one in zip(axes, examples, strict=True):
        base, (first, second) = one.pair.base, one.pair.views
        (height, width), (dy, dx) = one.slab.shape, one.spacing_yx
        whole = Box((0, 0, 0), (1, height, width))
        _cut(row[0], one, _union(whole, base))
        _frame(row[0], base, "base")
        _cut(row[1], one, base)
        _frame(row[1], first, "first")
        _frame(row[1], second, "second", dashed=True)
        for ax, view, box, kind in ((row[2], one.first, first, "first"), (row[3], one.second, second, "second"),
                                    (row[4], one.symmetric, first, "first")):  # fmt: skip
            ax.imshow(
                view, cmap="gray", vmin=one.limits[0], vmax=one.limits[1], aspect=dy / dx, interpolation="nearest"
            )
            plotting.bare(ax)
            for spine in ax.spines.values():
                spine.set(visible=True, color=BOX_COLOURS[kind], linewidth=1.4)
            place = f"slices {box.start[0] + 1} to {box.start[0] + box.sides[0]}"
            note = {"fontsize": SMALL_PT, "color": "white", "ha": "left", "va": "bottom", "transform": ax.transAxes}
            ax.text(0.03, 0.02, place, bbox={"facecolor": "black", "alpha": 0.6, "pad": 0.8, "linewidth": 0}, **note)
        row[0].set_ylabel(one.name, fontsize=SMALL_PT + 0.5, labelpad=2)
    for ax, title in zip(axes[0], titles, strict=True):
        place = ax.get_position(original=True)
        figure.text((place.x0 + place.x1) / 2, place.y1 + 0.012, title, fontsize=7.5, ha="center", va="bottom")
    return figure


def _union(one: Box, other: Box) -> Box:
    low = np.minimum(one.start, other.start)
    high = np.maximum(np.add(one.start, one.sides), np.add(other.start, other.sides))
    return Box(tuple(int(n) for n in low), tuple(int(n) for n in high - low))


def _cut(ax: Axes, one: ViewsExample, box: Box) -> None:
    """The slab's slice in the plane of a box."""
    low, high = one.limits
    dy, dx = one.spacing_yx
    ax.imshow(one.slab, cmap="gray", vmin=low, vmax=high, aspect=dy / dx, interpolation="nearest")
    plotting.bare(ax)
    ax.set_facecolor(str(float(np.clip((one.background - low) / (high - low), 0, 1))))
    (_, top, left), (_, height, width) = box.start, box.sides
    ax.set(xlim=(left - 1, left + width), ylim=(top + height, top - 1))


def _frame(ax: Axes, box: Box, kind: str, *, dashed: bool = False) -> None:
    (_, top, left), (_, height, width) = box.start, box.sides
    look = {"linestyle": (0, (4, 2)) if dashed else "-", "linewidth": 1.4, "edgecolor": BOX_COLOURS[kind]}
    ax.add_patch(Rectangle((left - 0.5, top - 0.5), width, height, fill=False, **look))


def finetuning_curves(histories: Mapping[str, Sequence[History]], *, columns: int = 4) -> Figure:
    """Pseudo-Dice of every validation and its moving average, by whose maximum the weights are chosen.

    Args:
        histories: Name of an experiment -> its runs, a seed each. The first one's averages stand in grey in all panels.
        columns: Panels in a row.

    Raises:
        DataError: There is no run.
        ParameterError: A history is of another training.
    """
    if not histories or not all(histories.values()):
        step = "run the fine-tuning first"
        raise DataError("histories", found="an experiment without runs", wanted="one run or more each", next_step=step)
    rows, columns = -(-len(histories) // columns), min(columns, len(histories))
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH_IN, PANEL_IN * rows + 0.4), layout="constrained",
                                sharex=True, sharey=True, squeeze=False)  # fmt: skip
    first = next(iter(histories.values()))
    for number, (ax, (name, runs)) in enumerate(zip(axes.flat, histories.items(), strict=False)):
        if number:
            for run in first:
                ax.plot(*run.curve("pseudo_dice_ema"), color="0.75", linewidth=0.9, zorder=1)
        for colour, run in zip(LINE_COLOURS * len(runs), runs, strict=False):
            steps, averaged = run.curve("pseudo_dice_ema")
            ax.plot(*run.curve("pseudo_dice"), ".", color=colour, alpha=0.45, markersize=3, markeredgewidth=0)
            ax.plot(steps, averaged, color=colour, linewidth=1.2)
            if np.isfinite(averaged).any():
                best = int(np.nanargmax(averaged))
                ax.plot(steps[best], averaged[best], "D", color=colour, markersize=3.5, mec="black", mew=0.5, zorder=4)
        ax.set_title(f"{name} ({len(runs)} run{'s' if len(runs) > 1 else ''})", pad=3)
    axes.flat[0].set(ylim=(0, None), xlim=(0, None))
    for ax in axes.flat[len(histories) :]:
        ax.set_visible(False)
    figure.supxlabel("step", fontsize=8)
    figure.supylabel("pseudo-Dice", fontsize=8)
    looks = {"one validation": {"marker": ".", "ls": "", "color": "0.3"}, "moving average": {"color": "0.3"},
             "chosen weights": {"marker": "D", "ls": "", "color": "0.3", "ms": 3.5}}  # fmt: skip
    if len(histories) > 1:
        looks[f"averages of {next(iter(histories))}"] = {"color": "0.75"}
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure
